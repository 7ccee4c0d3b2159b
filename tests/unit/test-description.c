/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"
#include "executor/description.h"

/*
 * Most of what is tested here lies in tests/data/jobs: each *.yml of good/ has a *.expected with
 * all that was read from it, each one of bad/ an *.errors with every error and its place. A *.json
 * replaces members of facts.json. DUT_UPDATE=1 writes what is instead of comparing it.
 */

enum { FILE_BYTES_MAX = 1 << 20 };

CLEANUP_DEFINE(struct description *, description_free)

static const char *source_dir(void)
{
	const char *dir = getenv("DUT_SOURCE_DIR");

	return dir ? dir : ".";
}

/* The bytes of SOURCE/FOLDER/NAMEEXTENSION, or NULL. */
static char *read_file(const char *folder, const char *name, const char *extension,
		       size_t *ret_length)
{
	char *text = calloc(1, FILE_BYTES_MAX + 1);
	fclose_ FILE *file = NULL;
	char path[512];

	(void)snprintf(path, sizeof(path), "%s/%s/%s%s", source_dir(), folder, name, extension);
	file = fopen(path, "re");
	assert_non_null(text);
	if (!file) {
		free(text);
		return NULL;
	}
	*ret_length = fread(text, 1, FILE_BYTES_MAX, file);
	return text;
}

static void assert_same(const char *folder, const char *name, const char *extension, const char *is)
{
	size_t length;
	free_ char *expected = read_file(folder, name, extension, &length);

	if (getenv("DUT_UPDATE")) {
		fclose_ FILE *file = NULL;
		char path[512];

		(void)snprintf(path, sizeof(path), "%s/%s/%s%s", source_dir(), folder, name,
			       extension);
		file = fopen(path, "we");
		assert_non_null(file);
		(void)fputs(is, file);
		return;
	}
	if (!expected)
		fail_msg("%s%s is missing", name, extension);
	if (strcmp(expected, is) != 0)
		fail_msg("%s%s differs from this:\n%s", name, extension, is);
}

static json_t *read_facts(const char *folder, const char *name)
{
	size_t length;
	free_ char *common = read_file("tests/data/jobs", "facts", ".json", &length);
	json_t *facts = json_loadb(common, length, 0, NULL);
	free_ char *own = read_file(folder, name, ".json", &length);

	assert_non_null(facts);
	if (own) {
		json_auto_t *members = json_loadb(own, length, 0, NULL);

		assert_non_null(members);
		assert_int_equal(json_object_update(facts, members), 0);
	}
	return facts;
}

/* ---- what was read, as text ---- */

/* Of two backslashes the first is text_escape()'s: a CR differs from `\r`. */
static void write_text(FILE *file, const char *key, const char *text)
{
	char shown[8];

	if (!text)
		return;
	(void)fprintf(file, "%s ", key);
	for (; *text; text++)
		(void)fputs(*text == '\\' ? "\\\\" : text_escape(shown, sizeof(shown), text, 1),
			    file);
	(void)fputc('\n', file);
}

static void write_timeout(FILE *file, const char *name, const struct timeout_spec *spec)
{
	if (spec->limit_us == DURATION_INFINITE)
		(void)fprintf(file, "timeout %s infinite, retries %u\n", name, spec->retries);
	else
		(void)fprintf(file, "timeout %s %" PRIu64 " us, retries %u\n", name, spec->limit_us,
			      spec->retries);
}

static void write_pattern(FILE *file, const char *name, const struct pattern *pattern)
{
	write_text(file, name, pattern ? pattern_text(pattern) : NULL);
}

static void write_artifact(FILE *file, const char *name, const struct artifact *artifact)
{
	char key[64];

	(void)snprintf(key, sizeof(key), "%s.url %u:%u", name, artifact->line, artifact->column);
	write_text(file, key, artifact->url);
	(void)snprintf(key, sizeof(key), "%s.bucket %u:%u", name, artifact->line, artifact->column);
	write_text(file, key, artifact->bucket);
	(void)snprintf(key, sizeof(key), "%s.sha256", name);
	write_text(file, key, artifact->sha256);
}

static void write_deployment(FILE *file, const char *name, const struct deployment *deployment)
{
	char key[64];

	(void)snprintf(key, sizeof(key), "%s.kernel", name);
	write_artifact(file, key, &deployment->kernel);
	(void)snprintf(key, sizeof(key), "%s.initramfs", name);
	write_artifact(file, key, &deployment->initramfs);
	(void)snprintf(key, sizeof(key), "%s.dtb", name);
	write_artifact(file, key, &deployment->dtb);
	(void)snprintf(key, sizeof(key), "%s.cmdline", name);
	write_text(file, key, deployment->cmdline);
}

static void write_watchdog(FILE *file, const struct watchdog *watchdog)
{
	char key[128];

	(void)snprintf(key, sizeof(key), "watchdogs.%s", watchdog->name);
	write_timeout(file, key, &watchdog->timeout);
	(void)snprintf(key, sizeof(key), "watchdogs.%s.start", watchdog->name);
	write_pattern(file, key, watchdog->start);
	(void)snprintf(key, sizeof(key), "watchdogs.%s.reset", watchdog->name);
	write_pattern(file, key, watchdog->reset);
	(void)snprintf(key, sizeof(key), "watchdogs.%s.stop", watchdog->name);
	write_pattern(file, key, watchdog->stop);
}

static char *describe(const struct description *description)
{
	static const char *const policies[] = { "ignore", "warn", "fail" };
	char *text = NULL, date[CLOCK_ISO_SIZE];
	size_t length = 0;
	FILE *file = open_memstream(&text, &length);

	assert_non_null(file);
	write_text(file, "name", description->name);
	if (description->deadline_realtime_us != DURATION_INFINITE)
		write_text(file, "deadline",
			   clock_format_iso(date, description->deadline_realtime_us));
	(void)fprintf(file, "target %s\n", description->has_target ? "yes" : "no");
	write_text(file, "target.id", description->target_id);
	for (char **tag = description->target_tags; tag && *tag; tag++)
		write_text(file, "target.tag", *tag);
	for (unsigned i = 0; i < TIMEOUT_NAMES; i++)
		write_timeout(file, timeout_name_text((enum timeout_name)i),
			      &description->timeouts[i]);
	for (size_t i = 0; i < description->n_watchdogs; i++)
		write_watchdog(file, &description->watchdogs[i]);
	for (unsigned i = 0; i < PATTERN_NAMES; i++)
		write_pattern(file, pattern_name_text((enum pattern_name)i),
			      description->patterns[i]);
	(void)fprintf(file, "kernel_fault %s\n", policies[description->kernel_fault]);
	(void)fprintf(file, "deployment %s\n", description->has_deployment ? "yes" : "no");
	write_deployment(file, "start", &description->start);
	write_deployment(file, "continue", &description->next);
	assert_int_equal(fclose(file), 0);
	return text;
}

static char *list(const struct problems *problems)
{
	char *text = NULL;
	size_t length = 0;
	FILE *file = open_memstream(&text, &length);

	assert_non_null(file);
	for (size_t i = 0; i < problems->count; i++) {
		const struct problem *problem = &problems->items[i];

		(void)fprintf(file, "%u:%u: [%s] %s\n", problem->line, problem->column,
			      problem->key ? problem->key : "", problem->text);
	}
	assert_int_equal(fclose(file), 0);
	return text;
}

/* ---- the files ---- */

static void check_file(const char *folder, const char *name, bool good)
{
	json_auto_t *facts = read_facts(folder, name);
	cleanup_(description_freep) struct description *description = NULL;
	struct problems problems = { 0 };
	free_ char *is = NULL;
	size_t length;
	free_ char *text = read_file(folder, name, ".yml", &length);
	int r;

	assert_non_null(text);
	r = description_parse(&description, text, length, facts, &problems);
	is = description ? describe(description) : list(&problems);
	if ((r == 0) != good)
		fail_msg("%s.yml gives %d:\n%s", name, r, is);
	assert_int_equal(r, good ? 0 : -EBADMSG);
	assert_int_equal(problems.lost, 0);
	assert_same(folder, name, good ? ".expected" : ".errors", is);
	problems_done(&problems);
}

static void check_folder(const char *folder, bool good)
{
	closedir_ DIR *dir = NULL;
	const struct dirent *entry;
	unsigned count = 0;
	char path[512];

	(void)snprintf(path, sizeof(path), "%s/%s", source_dir(), folder);
	dir = opendir(path);
	if (!dir)
		fail_msg("no %s: set DUT_SOURCE_DIR", path);
	while ((entry = readdir(dir))) {
		const char *dot = strrchr(entry->d_name, '.');
		char name[256];

		if (!dot || strcmp(dot, ".yml") != 0)
			continue;
		(void)snprintf(name, sizeof(name), "%.*s", (int)(dot - entry->d_name),
			       entry->d_name);
		check_file(folder, name, good);
		count++;
	}
	assert_true(count >= 5);
}

static void good_files_are_read_as_expected(void **state)
{
	(void)state;
	check_folder("tests/data/jobs/good", true);
}

static void bad_files_give_every_error_with_its_place(void **state)
{
	(void)state;
	check_folder("tests/data/jobs/bad", false);
}

/* ---- the manual ---- */

/* The next block between lines of ```, without scdoc's backslashes. */
static char *next_example(const char **at)
{
	static const char fence[] = "\n```\n";
	const char *start = strstr(*at, fence), *end;
	char *example, *to;

	if (!start)
		return NULL;
	start += sizeof(fence) - 1;
	end = strstr(start, fence);
	assert_non_null(end);
	*at = end + sizeof(fence) - 2;
	example = to = strndup(start, (size_t)(end - start) + 1);
	assert_non_null(example);
	for (const char *from = example; *from; from++) {
		if (*from == '\\' && from[1])
			from++;
		*to++ = *from;
	}
	*to = '\0';
	return example;
}

static void examples_of_the_manual_are_valid(void **state)
{
	json_auto_t *facts = read_facts("tests/data/jobs", "");
	size_t length;
	free_ char *manual = read_file("executor", "dut-job.5", ".scd", &length);
	const char *at = manual;
	unsigned count = 0;

	(void)state;
	assert_non_null(manual);
	for (;;) {
		cleanup_(description_freep) struct description *description = NULL;
		struct problems problems = { 0 };
		free_ char *example = next_example(&at);

		if (!example)
			break;
		if (!strstr(example, "console_patterns:"))
			continue;
		if (description_parse(&description, example, strlen(example), facts, &problems) <
		    0) {
			free_ char *is = list(&problems);

			fail_msg("%s%s", example, is);
		}
		count++;
	}
	assert_true(count >= 4);
}

/* ---- what a file cannot show ---- */

static int parse(const char *text, const char *facts_text, struct description **ret,
		 char errors[static 512])
{
	json_auto_t *facts = facts_text ? json_loads(facts_text, 0, NULL) : NULL;
	struct problems problems = { 0 };
	free_ char *is = NULL;
	int r;

	assert_true(!facts_text || facts);
	r = description_parse(ret, text, strlen(text), facts, &problems);
	is = list(&problems);
	(void)snprintf(errors, 512, "%s", is);
	problems_done(&problems);
	return r;
}

static void without_facts_the_defaults_hold(void **state)
{
	cleanup_(description_freep) struct description *description = NULL;
	char errors[512];

	(void)state;
	assert_int_equal(parse("console_patterns: {}", NULL, &description, errors), 0);
	assert_int_equal(description->timeouts[TIMEOUT_OVERALL].limit_us,
			 UINT64_C(6) * 3600 * 1000000);
	assert_int_equal(description->timeouts[TIMEOUT_INFRA_TEARDOWN].limit_us,
			 UINT64_C(600) * 1000000);
	assert_true(description->timeouts[TIMEOUT_BOOT_CYCLE].limit_us == DURATION_INFINITE);
}

static void the_default_of_overall_is_capped_without_a_word(void **state)
{
	cleanup_(description_freep) struct description *description = NULL;
	char errors[512];

	(void)state;
	assert_int_equal(parse("console_patterns: {}", "{\"limits\": {\"overall\": 1000000}}",
			       &description, errors),
			 0);
	assert_int_equal(description->timeouts[TIMEOUT_OVERALL].limit_us, 1000000);
}

static void assert_ends(const struct description *description, const char *line, bool ends)
{
	size_t start, end;

	if (pattern_search(description->patterns[PATTERN_SESSION_END], line, strlen(line), &start,
			   &end) != ends)
		fail_msg("'%s'", line);
}

static void the_default_session_end_takes_any_time_stamp(void **state)
{
	cleanup_(description_freep) struct description *description = NULL;
	char errors[512];

	(void)state;
	assert_int_equal(parse("console_patterns: {}", NULL, &description, errors), 0);
	assert_ends(description, "[    1.234567] reboot: Power down\r\n", true);
	assert_ends(description, "[    1.234567] reboot: Power Down\r\n", true);
	assert_ends(description, "[123456.789012] reboot: Power down\r\n", true);
	assert_ends(description, "[12345678.789012] reboot: Power down\r\n", true);
	assert_ends(description, "[    1.234567][    T1] reboot: Power down\r\n", true);
	assert_ends(description, "reboot: Power down\r\n", true);
	assert_ends(description, "[    1.234567] reboot: Power downhill\r\n", false);
	assert_ends(description, "echo [    1.234567] reboot: Power down\r\n", false);
	assert_ends(description, "[    1.234567] reboot: Restarting system\r\n", false);
}

static void a_past_deadline_is_refused_unless_it_is_ignored(void **state)
{
	static const char job[] = "deadline: 2001-02-03 04:05:06 +01:00\nconsole_patterns: {}";
	cleanup_(description_freep) struct description *description = NULL;
	char errors[512];

	(void)state;
	assert_int_equal(parse(job, "{}", &description, errors), -EBADMSG);
	assert_string_equal(errors, "1:11: [deadline] deadline 2001-02-03 04:05:06 +01:00 is past, "
				    "--ignore-deadline runs the job nevertheless\n");
	assert_int_equal(parse(job, "{\"ignore_deadline\": true}", &description, errors), 0);
	assert_int_equal(description->deadline_realtime_us, UINT64_C(981169506) * 1000000);
}

static void dates_are_iso_8601(void **state)
{
	static const struct {
		const char *text;
		uint64_t seconds;
	} cases[] = {
		{ "2096-02-29", 3981312000 },
		{ "2096-02-29T00:00Z", 3981312000 },
		{ "2096-02-29t01:00:00+01", 3981312000 },
		{ "2096-02-28 22:30:00 -0130", 3981312000 },
		{ "2096-02-29T00:00:00", 3981312000 },
		{ "2095-02-29", 0 },
		{ "2096-02-30", 0 },
		{ "2096-13-01", 0 },
		{ "96-02-01", 0 },
		{ "2096-2-1", 0 },
		{ "2096-02-29T24:00:00Z", 0 },
		{ "2096-02-29T23:60:00Z", 0 },
		{ "2096-02-29T23:00:00 CET", 0 },
		{ "2096-02-29T23:00:00.Z", 0 },
		{ "2096-02-29T23:00:00+25:00", 0 },
		{ "2096-02-29Z", 0 },
		{ "tomorrow", 0 },
		{ "3981312000", 0 },
		{ "''", 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		cleanup_(description_freep) struct description *description = NULL;
		char job[128], errors[512];

		(void)snprintf(job, sizeof(job), "deadline: %s\nconsole_patterns: {}",
			       cases[i].text);
		if (parse(job, NULL, &description, errors) != (cases[i].seconds ? 0 : -EBADMSG))
			fail_msg("'%s': %s", cases[i].text, errors);
		if (description)
			assert_int_equal(description->deadline_realtime_us,
					 cases[i].seconds * 1000000);
		else
			assert_non_null(strstr(errors, "is no date as in 2026-12-31T23:59:59Z"));
	}
}

static void without_a_daemon_its_names_are_taken_on_trust(void **state)
{
	static const char job[] =
		"target: {id: '{{ board }}', tags: '{{ tags }}'}\n"
		"timeouts: {boot_cycle: {minutes: '{{ m }}'}, overall: '{{ o }}'}\n"
		"console_patterns: {session_end: '({{ dut.mac }}'}\n"
		"deployment: {start: {kernel: {url: '{{ environ.U }}'}}}\n";
	cleanup_(description_freep) struct description *description = NULL;
	char errors[512];

	(void)state;
	assert_int_equal(parse(job, "{\"without_daemon\": true}", &description, errors), 0);
	assert_int_equal(parse("console_patterns: {}\nname: '{{ dut.mca }} {{ minio_url }}'",
			       "{\"without_daemon\": true}", &description, errors),
			 -EBADMSG);
	assert_string_equal(
		errors,
		"2:7: [name] name: {{ dut.mca }} is not known, did you mean 'dut.mac'?\n"
		"2:7: [name] name: {{ minio_url }}: there is no object store here, the job's files "
		"are at job.bucket.url\n");
}

static void values_cannot_make_a_job_grow_without_bounds(void **state)
{
	json_auto_t *facts = json_object();
	json_t *variables = json_object();
	free_ char *value = malloc(100001);
	struct problems problems = { 0 };
	struct description *description = NULL;
	char job[2000] = "console_patterns: {}\nname: '";

	(void)state;
	assert_non_null(value);
	memset(value, 'v', 100000);
	value[100000] = '\0';
	(void)json_object_set_new(variables, "x", json_string(value));
	(void)json_object_set_new(facts, "variables", variables);
	for (unsigned i = 0; i < 100; i++)
		(void)strcat(job, "{{ x }}");
	(void)strcat(job, "'\n");
	assert_int_equal(description_parse(&description, job, strlen(job), facts, &problems),
			 -EBADMSG);
	assert_int_equal(problems.count, 1);
	assert_string_equal(problems.items[0].text,
			    "name: from here on the values make more than 4194304 bytes");
	problems_done(&problems);
}

/* Each is small, and the machine code of all would fill the memory. */
static void patterns_cannot_take_memory_without_bounds(void **state)
{
	struct problems problems = { 0 };
	struct description *description = NULL;
	free_ char *job = NULL;
	size_t size = 0;
	FILE *file = open_memstream(&job, &size);

	(void)state;
	assert_non_null(file);
	(void)fprintf(file, "target: {tags: []}\ntimeouts: {watchdogs: {w0: {hours: 1}}}\n"
			    "console_patterns:\n  watchdogs:\n");
	for (unsigned i = 0; i < 2000; i++)
		(void)fprintf(file, "    w%u: {start: '(?:ab|cd){1200}', reset: 'b', stop: 'c'}\n",
			      i);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(description_parse(&description, job, size, NULL, &problems), -EBADMSG);
	assert_int_equal(problems.count, 1);
	/* How many that are is the library's affair. */
	assert_non_null(strstr(problems.items[0].text,
			       ".start: the patterns of a job may take 1048576 bytes together when "
			       "they are compiled, and these take more"));
	assert_in_range(problems.items[0].line, 10, 1000);
	assert_int_equal(problems.items[0].column, 18);
	problems_done(&problems);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_files_are_read_as_expected),
		cmocka_unit_test(bad_files_give_every_error_with_its_place),
		cmocka_unit_test(examples_of_the_manual_are_valid),
		cmocka_unit_test(without_facts_the_defaults_hold),
		cmocka_unit_test(the_default_of_overall_is_capped_without_a_word),
		cmocka_unit_test(the_default_session_end_takes_any_time_stamp),
		cmocka_unit_test(a_past_deadline_is_refused_unless_it_is_ignored),
		cmocka_unit_test(dates_are_iso_8601),
		cmocka_unit_test(without_a_daemon_its_names_are_taken_on_trust),
		cmocka_unit_test(patterns_cannot_take_memory_without_bounds),
		cmocka_unit_test(values_cannot_make_a_job_grow_without_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
