/* SPDX-License-Identifier: MIT */
#include "executor/template-names.h"

#include <string.h>

#include "base/attr.h"
#include "base/text.h"

/* Names of the reference system that have one of ours. A variable of the same name goes first. */
static const struct {
	const char *old, *name;
} old_names[] = {
	{ "machine_id", "dut.id" },
	{ "machine_tags", "dut.tags" },
	{ "local_tty_device", "dut.tty" },
};

/* Members of facts; behind a prefix stands one key, which may hold dots itself. */
static const struct {
	const char *prefix, *object, *member;
} groups[] = {
	{ "dut.variables.", "dut", "variables" },
	{ "environ.", NULL, "environ" },
};

static const char *const fixed_names[] = { "dut.id", "dut.tags", "dut.mac", "dut.tty",
					   "job.id", "job.name", NULL };

static const char *const all_names[] = {
	"dut.id",	    "dut.tags",	 "dut.mac",    "dut.tty",
	"dut.variables.X",  "job.id",	 "job.name",   "job.bucket.url",
	"job.bucket.token", "environ.X", "machine_id", "machine_tags",
	"local_tty_device", NULL,
};

/* Names of the reference system's object store. */
static const char *const store_names[] = { "job_bucket", "minio_url" };

static bool starts_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool is_one_of(const char *name, const char *const *names)
{
	for (; *names; names++)
		if (strcmp(name, *names) == 0)
			return true;
	return false;
}

/* null is what is not there. */
static const json_t *member(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);

	return json_is_null(value) ? NULL : value;
}

static const json_t *find_dotted(const json_t *facts, const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
		const json_t *object = groups[i].object ? member(facts, groups[i].object) : facts;

		if (starts_with(name, groups[i].prefix))
			return member(member(object, groups[i].member),
				      name + strlen(groups[i].prefix));
	}
	if (starts_with(name, "job.bucket."))
		return member(member(member(facts, "job"), "bucket"), name + strlen("job.bucket."));
	if (!is_one_of(name, fixed_names))
		return NULL;
	return member(member(facts, starts_with(name, "dut.") ? "dut" : "job"), name + 4);
}

const json_t *template_names_find(const json_t *facts, const char *name)
{
	const json_t *value;

	if (strchr(name, '.'))
		return find_dotted(facts, name);

	value = member(member(member(facts, "dut"), "variables"), name);
	if (!value)
		value = member(member(facts, "variables"), name);
	for (size_t i = 0; i < ARRAY_SIZE(old_names) && !value; i++)
		if (strcmp(name, old_names[i].old) == 0)
			value = find_dotted(facts, old_names[i].name);
	return value;
}

static void explain_unknown(const char *name, struct error *ret)
{
	const char *nearest = text_nearest(name, all_names);

	(void)error_set(ret, 0,
			nearest ? "{{ %.80s }} is not known, did you mean '%s'?"
				: "{{ %.80s }} is not known",
			name, nearest);
}

static bool explain_dotted(const char *name, const json_t *facts, struct error *ret)
{
	const char *dut = json_string_value(member(member(facts, "dut"), "id"));

	if (starts_with(name, "environ.") && name[strlen("environ.")]) {
		(void)error_set(ret, 0, "{{ %.80s }} was not given, set it with --var %.80s=VALUE",
				name, name + strlen("environ."));
		return true;
	}
	if (strcmp(name, "job.bucket.url") == 0 || strcmp(name, "job.bucket.token") == 0) {
		(void)error_set(ret, 0, "not yet: %s", name);
		return false;
	}
	if (starts_with(name, "dut.variables.") || is_one_of(name, fixed_names)) {
		if (dut)
			(void)error_set(ret, 0, "{{ %.80s }} is not configured for DUT '%.64s'",
					name, dut);
		else
			(void)error_set(ret, 0, "{{ %.80s }} is not known here", name);
		return true;
	}
	explain_unknown(name, ret);
	return false;
}

bool template_names_explain(const char *name, const json_t *facts, struct error *ret)
{
	if (strchr(name, '.'))
		return explain_dotted(name, facts, ret);

	for (size_t i = 0; i < ARRAY_SIZE(old_names); i++)
		if (strcmp(name, old_names[i].old) == 0)
			return explain_dotted(old_names[i].name, facts, ret);
	for (size_t i = 0; i < ARRAY_SIZE(store_names); i++)
		if (starts_with(name, store_names[i])) {
			(void)error_set(ret, 0,
					"{{ %.80s }}: there is no object store here, the job's "
					"files are at job.bucket.url",
					name);
			return false;
		}
	explain_unknown(name, ret);
	return true;
}
