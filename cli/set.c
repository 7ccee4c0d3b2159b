/* SPDX-License-Identifier: MIT */
#include <jansson.h>
#include <string.h>

#include "cli/flags.h"
#include "cli/options.h"
#include "cli/verbs.h"

/* "a,b" as an array of texts; "" as an empty one. NULL when it is not UTF-8. */
static json_t *split(const char *value)
{
	json_t *array = json_array();

	while (*value) {
		size_t length = strcspn(value, ",");

		if (length > 0 && json_array_append_new(array, json_stringn(value, length)) < 0) {
			json_decref(array);
			return NULL;
		}
		value += length + (value[length] == ',');
	}
	return array;
}

static json_t *read_yes_or_no(const char *value)
{
	static const char *const words[][2] = { { "false", "true" },
						{ "no", "yes" },
						{ "0", "1" } };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		for (int on = 0; on <= 1; on++)
			if (strcmp(value, words[i][on]) == 0)
				return json_boolean(on);
	return NULL;
}

/* Adds KEY=VALUE to the patch. 0, or an exit code (said). */
static int add(json_t *patch, const char *word)
{
	const char *equals = strchr(word, '=');
	size_t length = equals ? (size_t)(equals - word) : 0;
	json_t *value;

	if (length == strlen("comment") && strncmp(word, "comment", length) == 0)
		value = json_string(equals + 1);
	else if (length == strlen("manual_tags") && strncmp(word, "manual_tags", length) == 0)
		value = split(equals + 1);
	else if (length == strlen("ready_for_service") &&
		 strncmp(word, "ready_for_service", length) == 0) {
		value = read_yes_or_no(equals + 1);
		if (!value)
			return say_exit(EXIT_USAGE,
					"set: ready_for_service is true or false, not '%.60s'",
					equals + 1);
	} else
		return say_exit(EXIT_USAGE,
				"set: '%.60s' is not comment=TEXT, manual_tags=TAG,... or "
				"ready_for_service=true|false",
				word);
	if (!value)
		return say_exit(EXIT_USAGE, "set: '%.60s' is not UTF-8", word);
	return json_object_setn_new(patch, word, length, value) < 0
		       ? say_exit(EXIT_INTERNAL, "out of memory")
		       : 0;
}

static int set(struct cli *cli, int argc, char **argv)
{
	struct option_list operands = { 0 }, none = { 0 };
	const char *board = NULL;
	json_t *patch = json_object();
	size_t first = 0;
	int code;

	if (options_parse(&verb_set, NULL, cli, 1, 16, &operands, argc, argv, &code)) {
		/* A DUT's name has no '='. */
		if (!strchr(operands.items[0], '=')) {
			board = operands.items[0];
			first = 1;
		} else {
			board = options_board(cli, &none);
		}
		code = board ? 0 : EXIT_USAGE;
		if (code == 0 && first == operands.count)
			code = say_exit(EXIT_USAGE, "set: needs KEY=VALUE; see 'dut set --help'");
		for (size_t i = first; i < operands.count && code == 0; i++)
			code = add(patch, operands.items[i]);
		if (code == 0)
			code = flags_patch(cli, board, json_incref(patch));
	}
	json_decref(patch);
	option_list_done(&operands);
	return code;
}

const struct verb verb_set = {
	.name = "set",
	.operands = "[DUT] KEY=VALUE...",
	.summary = "says something of a DUT: comment, manual_tags, ready_for_service",
	.run = set,
};
