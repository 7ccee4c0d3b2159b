/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "dut/config.h"
#include "hw/console.h"
#include "hw/power.h"

CLEANUP_DEFINE(struct config *, config_free)

/* Every driver takes every key. */
int power_check(const char *driver, const struct yaml_node *keys, struct problems *problems)
{
	(void)driver;
	(void)keys;
	(void)problems;
	return 0;
}

int console_check(const char *driver, const struct yaml_node *keys, struct problems *problems)
{
	return power_check(driver, keys, problems);
}

bool power_driver_has_deploy(const char *driver)
{
	(void)driver;
	return false;
}

bool power_key_is_path(const char *driver, const char *key)
{
	(void)driver;
	return strcmp(key, "script") == 0;
}

/* Loads FOLDER/dutd.yaml with this text. */
static struct config *load_in(const char *folder, const char *text)
{
	cleanup_(problems_done) struct problems problems = { 0 };
	struct config *config = NULL;
	struct error err;
	char path[128];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/dutd.yaml", folder);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	(void)close(fd);
	if (config_load(&config, path, &problems, &err) < 0)
		fail_msg("%s: %s", err.text, problems.count > 0 ? problems.items[0].text : "");
	assert_int_equal(unlink(path), 0);
	return config;
}

static struct config *load(const char *text)
{
	char folder[] = "/tmp/test-config-compare.XXXXXX";
	struct config *config;

	assert_non_null(mkdtemp(folder));
	config = load_in(folder, text);
	assert_int_equal(rmdir(folder), 0);
	return config;
}

/* The DUT of a configuration that has one. */
static struct config *load_dut(const char *keys)
{
	char text[1024];

	(void)snprintf(text, sizeof(text), "duts: {b1: %s}\n", keys);
	return load(text);
}

static void assert_keys(json_t *keys, const char *expected)
{
	json_auto_t *owned = keys;
	char found[512] = "";
	const json_t *key;
	size_t i;

	json_array_foreach(owned, i, key) {
		(void)strcat(found, i > 0 ? " " : "");
		(void)strcat(found, json_string_value(key));
	}
	assert_string_equal(found, expected);
}

static void assert_changed(const char *before, const char *after, const char *expected)
{
	cleanup_(config_freep) struct config *a = load_dut(before);
	cleanup_(config_freep) struct config *b = load_dut(after);

	assert_keys(config_changed_keys(a->duts[0], b->duts[0]), expected);
}

static void order_and_empty_keys_are_no_change(void **state)
{
	(void)state;
	assert_changed("{tags: [a, b], variables: {x: 1, y: 2}, description: d}",
		       "{description: 'd', variables: {y: 2, x: \"1\"}, tags: [a, b], mac: }", "");
	assert_changed("{power: {driver: gpio, chip: c, line: 1}}",
		       "{power: {line: 1, active_low: ~, chip: c, driver: gpio}}", "");
}

static void what_changes_is_named(void **state)
{
	(void)state;
	assert_changed("{tags: [a, b]}", "{tags: [b, a]}", "tags");
	assert_changed("{tags: [a, b]}", "{tags: [a]}", "tags");
	assert_changed("{tags: [a]}", "{tags: [a, b], description: x}", "tags description");
	assert_changed("{variables: {x: 1}}", "{variables: {x: 1, y: 2}}", "variables");
	assert_changed("{variables: {x: 1}}", "{variables: {y: 1}}", "variables");
	assert_changed("{variables: {x: 1}}", "{}", "variables");
	assert_changed("{console: {driver: serial, path: /a}, mac: '02:00:00:00:00:01'}",
		       "{consoles: {main: {driver: serial, path: /a}}}", "consoles console mac");
}

static void a_type_is_what_it_brings(void **state)
{
	cleanup_(config_freep) struct config *a =
		load("types: {t: {tags: [x], console: {driver: serial, baud: 115200}}}\n"
		     "duts: {b1: {type: t, console: {path: /a}}}\n");
	cleanup_(config_freep) struct config *b =
		load("types: {u: {tags: [x]}}\n"
		     "duts: {b1: {type: u, console: {path: /a, baud: 115200, driver: serial}}}\n");
	cleanup_(config_freep) struct config *c =
		load("types: {t: {tags: [y], console: {driver: serial, baud: 9600}}}\n"
		     "duts: {b1: {type: t, console: {path: /a}}}\n");

	(void)state;
	assert_keys(config_changed_keys(a->duts[0], b->duts[0]), "");
	assert_keys(config_changed_keys(a->duts[0], c->duts[0]), "tags console");
	assert_true(config_same_console(&a->duts[0]->consoles[0], &b->duts[0]->consoles[0]));
	assert_false(config_same_console(&a->duts[0]->consoles[0], &c->duts[0]->consoles[0]));
}

static void assert_power(const char *before, const char *after, bool same)
{
	cleanup_(config_freep) struct config *a = load_dut(before);
	cleanup_(config_freep) struct config *b = load_dut(after);

	assert_int_equal(config_same_power(a->duts[0], b->duts[0]), same);
	assert_int_equal(config_same_power(b->duts[0], a->duts[0]), same);
}

static void power_is_its_driver_and_the_drivers_keys(void **state)
{
	(void)state;
	assert_power("{}", "{description: x}", true);
	assert_power("{}", "{power: {driver: gpio}}", false);
	assert_power("{power: {driver: gpio, line: 1}}", "{power: {driver: gpio, line: 2}}", false);
	assert_power("{power: {driver: gpio, line: 1}}", "{power: {driver: relay, line: 1}}",
		     false);
	/* What dutd itself makes of it. */
	assert_power("{power: {driver: gpio, line: 1}}",
		     "{power: {driver: gpio, line: 1, min_off_time: 1s, after_job: leave}}", true);
	/* The short form. */
	assert_power("{sim: {script: /a}}",
		     "{power: {driver: sim, script: /a}, console: {driver: sim}}", true);
}

static void a_relative_path_is_another_file_elsewhere(void **state)
{
	cleanup_(config_freep) struct config *a = load_dut("{power: {driver: sim, script: s}}");
	cleanup_(config_freep) struct config *b = load_dut("{power: {driver: sim, script: s}}");

	(void)state;
	assert_false(config_same_power(a->duts[0], b->duts[0]));
	assert_keys(config_changed_keys(a->duts[0], b->duts[0]), "power");
}

static void assert_settings(const char *before, const char *after, const char *expected)
{
	cleanup_(config_freep) struct config *a = load(before);
	cleanup_(config_freep) struct config *b = load(after);

	assert_keys(config_changed_settings(a->settings, b->settings), expected);
}

static void settings_are_named_with_their_section(void **state)
{
	(void)state;
	assert_settings("", "duts: {b1: {}}\ntypes: {t: {}}\n", "");
	assert_settings("", "limits: {bucket: 1GiB}\n", "limits.bucket");
	assert_settings("limits: {bucket: 1GiB, job_file: 2MiB}\n", "limits: {job_file: 3MiB}\n",
			"limits.job_file limits.bucket");
	assert_settings("variables: {a: 1}\n", "timeouts: {overall: 1h}\n",
			"timeouts.overall variables.a");
	assert_settings("job_users: 64000-64001\n", "job_users: 64000-64002\n", "job_users");
	assert_settings("api: {socket: {mode: '0600'}}\n", "api: {socket: {mode: '0660'}}\n",
			"api.socket");
	assert_true(config_needs_restart("api.socket"));
	assert_false(config_needs_restart("api.admins"));
}

static void one_that_is_used_outlives_its_configuration(void **state)
{
	struct config *config = load_dut("{tags: [a], sim: {script: /s}, description: x}");
	struct config_dut *dut = config_dut_ref(config->duts[0]);

	(void)state;
	config_free(config);
	assert_string_equal(dut->id, "b1");
	assert_string_equal(yaml_get(dut->power_keys, "script")->text, "/s");
	assert_non_null(strstr(dut->node->file, "dutd.yaml"));
	assert_null(config_dut_unref(dut));
	assert_null(config_dut_unref(NULL));
}

static void a_record_brings_it_back(void **state)
{
	cleanup_(config_freep) struct config *config = load(
		"types: {t: {tags: [x, 'y: z']}}\n"
		"duts: {b1: {type: t, aliases: [one], mac: , description: \"a \\u00e4\",\n"
		"  power: {driver: sim, script: s, after_job: on, min_off_time: 2s},\n"
		"  consoles: {main: {driver: serial, baud: 115200}, other: {driver: pty}}}}\n");
	const struct config_dut *before = config->duts[0];
	json_auto_t *record = config_dut_to_json(before);
	struct config_dut *after = NULL;
	struct error err;
	const char *script;

	(void)state;
	if (config_dut_from_json(&after, record, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(after->id, "b1");
	assert_string_equal(after->description, before->description);
	assert_string_equal(after->tags[1], "y: z");
	assert_null(after->aliases[0]);
	assert_int_equal(after->after_job, AFTER_JOB_ON);
	assert_int_equal(after->min_off_us, 2000000);
	assert_int_equal(after->n_consoles, 2);
	assert_true(config_same_console(&before->consoles[0], &after->consoles[0]));
	assert_string_equal(after->consoles[1].name, "other");
	/* What was relative to its file. */
	script = yaml_get(after->power_keys, "script")->text;
	assert_int_equal(script[0], '/');
	assert_string_equal(strrchr(script, '/'), "/s");
	config_dut_unref(after);
}

static void what_is_no_record_is_refused(void **state)
{
	static const char *const texts[] = { "[]",
					     "{}",
					     "{\"b1\": 7}",
					     "{\"b1\": {\"what\": 1}}",
					     "{\"b1\": {}, \"b2\": {}}",
					     "{\"/\": {}}" };

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		json_auto_t *json = json_loads(texts[i], 0, NULL);
		struct config_dut *dut = NULL;
		struct error err;

		assert_int_equal(config_dut_from_json(&dut, json, &err), -EBADMSG);
		assert_null(dut);
	}
	assert_int_equal(config_dut_from_json(NULL, NULL, NULL), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(order_and_empty_keys_are_no_change),
		cmocka_unit_test(what_changes_is_named),
		cmocka_unit_test(a_type_is_what_it_brings),
		cmocka_unit_test(power_is_its_driver_and_the_drivers_keys),
		cmocka_unit_test(a_relative_path_is_another_file_elsewhere),
		cmocka_unit_test(settings_are_named_with_their_section),
		cmocka_unit_test(one_that_is_used_outlives_its_configuration),
		cmocka_unit_test(a_record_brings_it_back),
		cmocka_unit_test(what_is_no_record_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
