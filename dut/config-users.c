/* SPDX-License-Identifier: MIT */

/* job_users: the users that jobs run as, by name or by number. */

#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "dut/config-internal.h"

enum { MAX_USERS = 4096 };

static bool add_user(struct config_loader *loader, struct config *config, uid_t uid, gid_t gid)
{
	struct sandbox_user *users = reallocarray(config->job_users, config->n_job_users + 1,
						  sizeof(*config->job_users));

	if (!users) {
		loader->out_of_memory = true;
		return false;
	}
	config->job_users = users;
	config->job_users[config->n_job_users++] = (struct sandbox_user){ .uid = uid, .gid = gid };
	return true;
}

/* NAME-0, NAME-1 and so on, as far as they exist. */
static void add_named(const struct config_section *section, const struct yaml_node *node,
		      const char *prefix, struct config *config)
{
	char name[TEXT_NAME_MAX + 16];

	for (unsigned i = 0; i < MAX_USERS; i++) {
		const struct passwd *user;

		(void)snprintf(name, sizeof(name), "%s-%u", prefix, i);
		user = getpwnam(name);
		if (!user && i == 0)
			config_problem(section, node,
				       "there is no user '%s'; systemd-sysusers makes "
				       "it, or give free numbers, as 64000-64063",
				       name);
		if (user && (user->pw_uid == 0 || user->pw_gid == 0)) {
			config_problem(section, node, "'%s' has the rights of root", name);
			return;
		}
		if (!user || !add_user(section->loader, config, user->pw_uid, user->pw_gid))
			return;
	}
}

/* "FIRST-LAST": numbers that no user has. */
static bool parse_range(const char *text, uint64_t *ret_first, uint64_t *ret_last)
{
	const char *dash = strchr(text, '-');
	char first[24];

	if (!dash || (size_t)(dash - text) >= sizeof(first))
		return false;
	(void)snprintf(first, sizeof(first), "%.*s", (int)(dash - text), text);
	return text_to_uint64(ret_first, first, 1, UINT32_MAX - 1, NULL) >= 0 &&
	       text_to_uint64(ret_last, dash + 1, 1, UINT32_MAX - 1, NULL) >= 0;
}

static void add_range(const struct config_section *section, const struct yaml_node *node,
		      uint64_t first, uint64_t last, struct config *config)
{
	if (last < first || last - first >= MAX_USERS) {
		config_problem(section, node, "a range has 1 to %d numbers", MAX_USERS);
		return;
	}
	for (uint64_t id = first; id <= last; id++) {
		const struct passwd *user = getpwuid((uid_t)id);

		if (user) {
			config_problem(section, node, "%" PRIu64 " is the number of the user '%s'",
				       id, user->pw_name);
			return;
		}
		if (!add_user(section->loader, config, (uid_t)id, (gid_t)id))
			return;
	}
}

void config_read_job_users(const struct config_section *section, struct config *config)
{
	const struct yaml_node *node = config_get(section, "job_users");
	const char *text = node ? config_node_text(section, node) : NULL;
	uint64_t first, last;

	if (!text)
		return;
	if (parse_range(text, &first, &last))
		add_range(section, node, first, last, config);
	else if (text_is_name(text))
		add_named(section, node, text, config);
	else
		config_problem(section, node, "'%s' is neither a name nor a range of numbers",
			       text);
}
