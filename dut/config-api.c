/* SPDX-License-Identifier: MIT */

/* api: who may reach the API, and how. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/http.h"
#include "dut/config-internal.h"
#include "dut/listen.h"

static void read_socket(const struct config_section *api, struct config *config)
{
	static const char *const known[] = { "mode", "group", NULL };
	struct config_section socket;
	const struct yaml_node *mode;
	const char *text;

	config_section_at(&socket, api, "socket", known);
	config_read_text(&socket, "group", &config->socket_group);
	mode = config_get(&socket, "mode");
	text = mode ? config_node_text(&socket, mode) : NULL;
	if (!text)
		return;
	if (strlen(text) < 3 || strlen(text) > 4 || strspn(text, "01234567") != strlen(text) ||
	    (strlen(text) == 4 && text[0] != '0'))
		config_problem(&socket, mode, "needs to be octal, such as \"0660\"");
	else
		config->socket_mode = (mode_t)strtoul(text, NULL, 8);
}

/* Folders that file: URLs may name; compared by name, so they have to be exact. */
static void check_file_roots(const struct config_section *api)
{
	const struct yaml_node *roots = config_get(api, "file_roots");

	if (!roots || roots->kind != YAML_SEQUENCE)
		return;
	YAML_FOREACH(child, roots)
		if (child->kind == YAML_SCALAR &&
		    (child->text[0] != '/' || strstr(child->text, "/../") ||
		     (child->length >= 3 && strcmp(child->text + child->length - 3, "/..") == 0)))
			problems_add_at(api->loader->problems, child, "api.file_roots",
					"file_roots: '%s' is no absolute path without '..'",
					child->text);
}

/* ---- TCP ---- */

static void read_listen(const struct config_section *api, struct config *config)
{
	const struct yaml_node *node = config_get(api, "listen");
	unsigned count = 0;

	config_read_texts(api, "listen", &config->listen);
	if (!node || node->kind != YAML_SEQUENCE)
		return;
	YAML_FOREACH(child, node)
		if (child->kind == YAML_SCALAR && !listen_parse(NULL, child->text))
			problems_add_at(api->loader->problems, child, "api.listen",
					"listen: '%s' is no address with a port, as "
					"127.0.0.1:8600 or [::1]:8600",
					child->text);
	for (char **text = config->listen; text && *text; text++)
		count++;
	/* One is the unix socket. */
	if (count > HTTP_MAX_LISTENERS - 1)
		config_problem(api, node, "has more than %d addresses", HTTP_MAX_LISTENERS - 1);
	if (count > 0 && !config_get(api, "tokens_file"))
		config_problem(api, node, "needs api.tokens_file: nobody may come without a token");
}

static void read_tokens(const struct config_section *api, struct config *config)
{
	const struct yaml_node *node = config_get(api, "tokens_file");
	struct error err;
	int r;

	config_read_text(api, "tokens_file", &config->tokens_file);
	if (!config->tokens_file)
		return;
	if (config->tokens_file[0] != '/') {
		config_problem(api, node, "'%s' is no absolute path", config->tokens_file);
		return;
	}
	r = tokens_load(&config->tokens, config->tokens_file, api->loader->problems, &err);
	if (r == -ENOMEM)
		api->loader->out_of_memory = true;
	else if (r < 0 && r != -EBADMSG)
		config_problem(api, node, "%s", err.text);
}

void config_read_api(const struct config_section *root, struct config *config)
{
	static const char *const known[] = { "socket", "listen",     "tokens_file", "host_names",
					     "admins", "file_roots", NULL };
	struct config_section api;

	config_section_at(&api, root, "api", known);
	read_socket(&api, config);
	read_listen(&api, config);
	read_tokens(&api, config);
	config_read_texts(&api, "host_names", &config->host_names);
	config_read_texts(&api, "admins", &config->admins);
	config_read_texts(&api, "file_roots", &config->file_roots);
	check_file_roots(&api);
}
