/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "dut/config.h"
#include "hw/console.h"
#include "hw/power.h"

/* Each test has a folder of its own, which is also its working directory's stand-in: file names are
 * relative to it, in what is written and in what is expected. */
struct place {
	char folder[64];
};

CLEANUP_DEFINE(struct config *, config_free)

/* Drivers are checked by hw itself; here they know two drivers and a few keys. */
static int check(const char *driver, const struct yaml_node *keys, struct problems *problems)
{
	static const char *const known[] = { "arch", "memory", "script", NULL };

	if (strcmp(driver, "qemu") != 0 && strcmp(driver, "sim") != 0) {
		problems_add_at(problems, keys, NULL, "no driver '%s'", driver);
		return -ENOENT;
	}
	yaml_check_keys(keys, NULL, known, problems);
	return 0;
}

int power_check(const char *driver, const struct yaml_node *keys, struct problems *problems)
{
	return check(driver, keys, problems);
}

int console_check(const char *driver, const struct yaml_node *keys, struct problems *problems)
{
	return check(driver, keys, problems);
}

bool power_driver_has_deploy(const char *driver)
{
	return strcmp(driver, "qemu") == 0;
}

static int set_up(void **state)
{
	struct place *place = calloc(1, sizeof(*place));

	assert_non_null(place);
	(void)snprintf(place->folder, sizeof(place->folder), "/tmp/test-config-XXXXXX");
	assert_non_null(mkdtemp(place->folder));
	*state = place;
	return 0;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
	(void)status;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int tear_down(void **state)
{
	struct place *place = *state;

	assert_int_equal(nftw(place->folder, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
	free(place);
	return 0;
}

static void write_file(const struct place *place, const char *name, const char *text)
{
	char path[256];
	fclose_ FILE *file = NULL;

	(void)snprintf(path, sizeof(path), "%s/%s", place->folder, name);
	if (strrchr(name, '/')) {
		*strrchr(path, '/') = '\0';
		assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
		path[strlen(path)] = '/';
	}
	file = fopen(path, "w");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
}

static int load(const struct place *place, struct config **ret, struct problems *problems,
		struct error *err)
{
	char path[256];

	(void)snprintf(path, sizeof(path), "%s/dutd.yaml", place->folder);
	return config_load(ret, path, problems, err);
}

static struct config *accept(const struct place *place)
{
	cleanup_(problems_done) struct problems problems = { 0 };
	struct config *config = NULL;
	struct error err;
	int r = load(place, &config, &problems, &err);

	for (size_t i = 0; i < problems.count; i++)
		print_error("%s:%u:%u: %s\n", problems.items[i].file, problems.items[i].line,
			    problems.items[i].column, problems.items[i].text);
	assert_int_equal(r, 0);
	return config;
}

/* Writes all problems as "file:line:column: text\n", with file names as the test gave them. */
static void describe(const struct place *place, const struct problems *problems, char *text,
		     size_t size)
{
	size_t used = 0, skip = strlen(place->folder) + 1;

	text[0] = '\0';
	for (size_t i = 0; i < problems->count; i++) {
		const struct problem *problem = &problems->items[i];
		char line[1200], *at;

		assert_memory_equal(problem->file, place->folder, skip - 1);
		(void)snprintf(line, sizeof(line), "%s:%u:%u: %s\n", problem->file + skip,
			       problem->line, problem->column, problem->text);
		while ((at = strstr(line, place->folder)))
			memmove(at, at + skip, strlen(at + skip) + 1);
		used += (size_t)snprintf(text + used, size - used, "%s", line);
		assert_true(used < size);
	}
}

/* Line by line, because cmocka cuts long texts in its messages. */
static void assert_lines_equal(char *found, const char *expected)
{
	while (*found) {
		size_t length = strcspn(expected, "\n");
		char line[1200];

		found[strcspn(found, "\n")] = '\0';
		(void)snprintf(line, sizeof(line), "%.*s", (int)length, expected);
		assert_string_equal(found, line);
		assert_int_equal(expected[length], '\n');
		found += length + 1;
		expected += length + 1;
	}
	assert_string_equal(expected, "");
}

static void refuse(const struct place *place, const char *expected)
{
	cleanup_(problems_done) struct problems problems = { 0 };
	struct config *config = NULL;
	char found[8192];
	struct error err;

	assert_int_equal(load(place, &config, &problems, &err), -EBADMSG);
	assert_null(config);
	describe(place, &problems, found, sizeof(found));
	assert_lines_equal(found, expected);
}

/* A configuration that is one file of DUTs. */
static void refuse_dut(const struct place *place, const char *text, const char *expected)
{
	write_file(place, "dutd.yaml", "");
	write_file(place, "duts.d/a.yaml", text);
	refuse(place, expected);
}

static void refuse_root(const struct place *place, const char *text, const char *expected)
{
	write_file(place, "dutd.yaml", text);
	refuse(place, expected);
}

static void an_empty_file_is_a_configuration(void **state)
{
	cleanup_(config_freep) struct config *config = NULL;

	write_file(*state, "dutd.yaml", "# nothing yet\n");
	config = accept(*state);
	assert_int_equal(config->n_duts, 0);
	assert_int_equal(config->socket_mode, 0660);
	assert_null(config->socket_group);
	assert_true(config->overall_us == UINT64_C(6) * 3600 * 1000000);
	assert_true(config->infra_teardown_us == UINT64_C(600000000));
	assert_true(config->daemon_us == UINT64_C(600000000));
	assert_true(config->limits.overall_us == UINT64_C(86400000000));
	assert_int_equal(config->limits.job_file, 1 << 20);
	assert_true(config->limits.bucket == UINT64_C(4) << 30);
	assert_int_equal(config->limits.bucket_files, 100000);
	assert_true(config->limits.console_log == UINT64_C(2) << 30);
	assert_int_equal(config->limits.connections, 2000);
	assert_int_equal(config->limits.kept_jobs, 10000);
	assert_int_equal(config->limits.kept_records, 1000000);
	assert_int_equal(config->limits.kept_age_us, 0);
	assert_int_equal(config->limits.kept_size, 0);
	assert_int_equal(config->limits.free_space, 256 << 20);
	assert_int_equal(config->limits.idle_log, 256 << 20);
	assert_int_equal(config->limits.waiting_jobs, 1000);
	assert_int_equal(json_object_size(config->variables), 0);
	assert_null(config_find_dut(config, "vm-1"));
}

static void every_key_of_dutd_yaml_is_read(void **state)
{
	cleanup_(config_freep) struct config *config = NULL;

	write_file(*state, "dutd.yaml",
		   "api:\n"
		   "  socket: {mode: \"0600\", group: dut}\n"
		   "  listen: ~\n"
		   "  admins: [alice, bob, alice]\n"
		   "  file_roots: [/srv/images]\n"
		   "variables: {registry: \"10.42.0.1:8002\", a-b_2: \"\", empty: \"\"}\n"
		   "timeouts: {overall: 1h, infra_teardown: 90, daemon: 1m}\n"
		   "limits: {overall: 2h, job_file: 64KiB, bucket: 1GiB, bucket_files: 10,\n"
		   "         console_log: 1MB, waiting_jobs: 5, connections: 2,\n"
		   "         free_space: 0, idle_log: 1MiB}\n");
	config = accept(*state);
	assert_int_equal(config->socket_mode, 0600);
	assert_string_equal(config->socket_group, "dut");
	assert_string_equal(config->admins[1], "bob");
	assert_null(config->admins[2]);
	assert_string_equal(config->file_roots[0], "/srv/images");
	assert_string_equal(json_string_value(json_object_get(config->variables, "registry")),
			    "10.42.0.1:8002");
	assert_string_equal(json_string_value(json_object_get(config->variables, "empty")), "");
	assert_true(config->overall_us == UINT64_C(3600000000));
	assert_true(config->infra_teardown_us == 90000000);
	assert_true(config->daemon_us == 60000000);
	assert_true(config->limits.overall_us == UINT64_C(7200000000));
	assert_int_equal(config->limits.job_file, 65536);
	assert_int_equal(config->limits.bucket, 1 << 30);
	assert_int_equal(config->limits.bucket_files, 10);
	assert_int_equal(config->limits.console_log, 1000000);
	assert_int_equal(config->limits.connections, 2);
	assert_int_equal(config->limits.free_space, 0);
	assert_int_equal(config->limits.idle_log, 1 << 20);
	assert_int_equal(config->limits.waiting_jobs, 5);
}

static void qemu_alone_stands_for_everything(void **state)
{
	cleanup_(config_freep) struct config *config = NULL;
	const struct config_dut *dut;

	write_file(*state, "dutd.yaml", "variables: {a: \"1\", b: \"2\"}\n");
	write_file(*state, "duts.d/vm.yaml",
		   "vm-1:\n"
		   "  qemu: {arch: amd64, memory: 256M, after_job: leave}\n"
		   "  description: a virtual board\n"
		   "  aliases: [\"de:ad\", \"the vm\"]\n"
		   "  tags: [vm, \"arch:amd64\", vm]\n"
		   "  mac: 02:00:00:AB:cd:ef\n"
		   "  variables: {b: \"3\"}\n");
	config = accept(*state);
	assert_int_equal(config->n_duts, 1);
	dut = config_find_dut(config, "the vm");
	assert_ptr_equal(dut, config->duts[0]);
	assert_ptr_equal(config_find_dut(config, "vm-1"), dut);
	assert_ptr_equal(config_find_dut(config, "de:ad"), dut);
	assert_null(config_find_dut(config, "vm-2"));
	assert_string_equal(dut->description, "a virtual board");
	assert_string_equal(dut->tags[1], "arch:amd64");
	assert_null(dut->tags[2]);
	assert_string_equal(dut->mac, "02:00:00:ab:cd:ef");
	assert_string_equal(json_string_value(json_object_get(dut->variables, "a")), "1");
	assert_string_equal(json_string_value(json_object_get(dut->variables, "b")), "3");
	assert_string_equal(json_string_value(json_object_get(config->variables, "b")), "2");
	assert_string_equal(dut->power_driver, "qemu");
	assert_string_equal(yaml_get(dut->power_keys, "memory")->text, "256M");
	assert_null(yaml_get(dut->power_keys, "after_job"));
	assert_int_equal(dut->after_job, AFTER_JOB_LEAVE);
	assert_int_equal(dut->min_off_us, 0);
	assert_int_equal(dut->settle_us, 0);
	assert_int_equal(dut->n_consoles, 1);
	assert_string_equal(dut->consoles[0].name, "main");
	assert_string_equal(dut->consoles[0].driver, "qemu");
	assert_string_equal(dut->consoles[0].dut_tty, "ttyS0");
	assert_string_equal(dut->deploy_driver, "qemu");
}

static void sim_alone_stands_for_power_and_console(void **state)
{
	cleanup_(config_freep) struct config *config = NULL;
	const struct config_dut *dut;
	char folder[256];

	write_file(*state, "dutd.yaml", "");
	write_file(*state, "duts.d/board.script", "");
	write_file(*state, "duts.d/sim.yaml",
		   "sim-1: {sim: {script: board.script, min_off_time: 20ms, dut_tty: ttyS2}}\n"
		   "sim-2:\n"
		   "  power: {driver: sim, script: board.script, at_start: off, after_job: on}\n"
		   "  console: {driver: sim, dut_tty: ttyAMA0}\n");
	config = accept(*state);
	dut = config_find_dut(config, "sim-1");
	assert_string_equal(dut->power_driver, "sim");
	assert_int_equal(dut->min_off_us, 20000);
	assert_int_equal(dut->after_job, AFTER_JOB_OFF);
	assert_false(dut->off_at_start);
	assert_string_equal(dut->consoles[0].driver, "sim");
	assert_string_equal(dut->consoles[0].dut_tty, "ttyS2");
	assert_null(dut->deploy_driver);
	/* Drivers find the script beside the file that names it. */
	(void)snprintf(folder, sizeof(folder), "%s/duts.d/sim.yaml",
		       ((struct place *)*state)->folder);
	assert_string_equal(yaml_get(dut->power_keys, "script")->file, folder);
	dut = config_find_dut(config, "sim-2");
	assert_string_equal(dut->consoles[0].name, "main");
	assert_string_equal(dut->consoles[0].dut_tty, "ttyAMA0");
	assert_int_equal(dut->after_job, AFTER_JOB_ON);
	assert_true(dut->off_at_start);
}

static void power_console_and_deploy_may_be_written_out(void **state)
{
	cleanup_(config_freep) struct config *config = NULL;
	const struct config_dut *dut;

	write_file(*state, "dutd.yaml", "");
	write_file(*state, "duts.d/a.yaml",
		   "vm-1:\n"
		   "  power: {driver: qemu, arch: amd64, settle: 2s, after_job: off}\n"
		   "  consoles: {serial: {driver: qemu, dut_tty: ttyS0}}\n"
		   "  deploy: qemu\n"
		   "vm-2: {power: {driver: qemu}, deploy: {driver: qemu}}\n"
		   "nothing:\n");
	config = accept(*state);
	assert_int_equal(config->n_duts, 3);
	dut = config->duts[0];
	assert_int_equal(dut->settle_us, 2000000);
	assert_string_equal(dut->consoles[0].name, "serial");
	assert_string_equal(dut->deploy_driver, "qemu");
	assert_string_equal(config->duts[1]->deploy_driver, "qemu");
	assert_int_equal(config->duts[1]->n_consoles, 0);
	assert_string_equal(config->duts[2]->id, "nothing");
	assert_null(config->duts[2]->power_driver);
	assert_null(config->duts[2]->aliases[0]);
}

static void types_merge_deeply_and_keep_their_place(void **state)
{
	cleanup_(config_freep) struct config *config = NULL;
	const struct config_dut *dut;

	write_file(*state, "dutd.yaml", "");
	write_file(*state, "types.d/vm.yaml",
		   "vm:\n"
		   "  tags: [vm, old]\n"
		   "  variables: {a: type, b: type}\n"
		   "  qemu: {arch: amd64, memory: 128M}\n"
		   "  description: from the type\n");
	write_file(*state, "duts.d/b.yaml",
		   "vm-2: {type: vm, tags: [new], variables: {b: dut}, qemu: {memory: 256M}}\n");
	write_file(*state, "duts.d/a.yaml",
		   "vm-1: {type: vm, qemu: ~, description: ~, sim: {script: x}}\n");
	write_file(*state, "duts.d/x", "");
	config = accept(*state);
	dut = config->duts[0];
	assert_string_equal(dut->id, "vm-1");
	assert_string_equal(dut->power_driver, "sim");
	assert_null(dut->description);
	assert_string_equal(dut->tags[1], "old");
	dut = config->duts[1];
	assert_string_equal(dut->tags[0], "new");
	assert_null(dut->tags[1]);
	assert_string_equal(json_string_value(json_object_get(dut->variables, "a")), "type");
	assert_string_equal(json_string_value(json_object_get(dut->variables, "b")), "dut");
	assert_string_equal(yaml_get(dut->power_keys, "memory")->text, "256M");
	assert_non_null(strstr(yaml_get(dut->power_keys, "memory")->file, "/duts.d/b.yaml"));
	assert_non_null(strstr(yaml_get(dut->power_keys, "arch")->file, "/types.d/vm.yaml"));
	assert_int_equal(yaml_get(dut->power_keys, "arch")->line, 4);
}

static void one_file_may_hold_all(void **state)
{
	cleanup_(config_freep) struct config *config = NULL;

	write_file(*state, "dutd.yaml",
		   "types: {vm: {qemu: {arch: arm64}}}\n"
		   "duts:\n"
		   "  vm-1: {type: vm}\n"
		   "  sim-1: {type: board}\n");
	write_file(*state, "types.d/a.yaml", "board: {sim: {script: s}}\n");
	write_file(*state, "duts.d/a.yaml", "vm-2: {type: vm}\n");
	config = accept(*state);
	assert_int_equal(config->n_duts, 3);
	assert_string_equal(config_find_dut(config, "vm-1")->consoles[0].dut_tty, "ttyAMA0");
	assert_string_equal(config_find_dut(config, "sim-1")->power_driver, "sim");
	assert_string_equal(config->duts[2]->id, "vm-2");
	write_file(*state, "duts.d/a.yaml", "vm-1: {type: vm}\n");
	refuse(*state, "duts.d/a.yaml:1:1: the name 'vm-1' stands already at dutd.yaml:3:3\n");
	refuse_root(*state, "duts: [a]\ntypes: x\n",
		    "dutd.yaml:1:7: duts needs keys with values\n"
		    "dutd.yaml:2:8: types needs keys with values\n"
		    "duts.d/a.yaml:1:14: type: there is no type 'vm'\n");
}

static void on_and_off_may_be_booleans(void **state)
{
	cleanup_(config_freep) struct config *config = NULL;

	write_file(*state, "dutd.yaml", "");
	write_file(*state, "duts.d/a.yaml",
		   "a: {qemu: {after_job: true, at_start: false}}\n"
		   "b: {qemu: {after_job: no}}\n");
	config = accept(*state);
	assert_int_equal(config->duts[0]->after_job, AFTER_JOB_ON);
	assert_true(config->duts[0]->off_at_start);
	assert_int_equal(config->duts[1]->after_job, AFTER_JOB_OFF);
}

static void a_missing_file_is_no_problem_of_its_content(void **state)
{
	cleanup_(problems_done) struct problems problems = { 0 };
	struct config *config = NULL;
	char expected[256];
	struct error err;

	assert_int_equal(load(*state, &config, &problems, &err), -ENOENT);
	(void)snprintf(expected, sizeof(expected), "%s/dutd.yaml: No such file or directory",
		       ((struct place *)*state)->folder);
	assert_string_equal(err.text, expected);
	assert_false(problems_any(&problems));
}

static void only_files_with_the_right_end_are_read(void **state)
{
	write_file(*state, "dutd.yaml", "");
	write_file(*state, "duts.d/README", "a: [");
	write_file(*state, "duts.d/a.yaml~", "a: [");
	write_file(*state, "duts.d/.#a.yaml", "a: [");
	write_file(*state, "duts.d/a.yml", "a: [");
	write_file(*state, "types.d/b.yml", "");
	write_file(*state, "pdus.d/rack.yml", "");
	refuse(*state, "duts.d/a.yml:0:0: rename to .yaml\n"
		       "pdus.d/rack.yml:0:0: rename to .yaml\n"
		       "types.d/b.yml:0:0: rename to .yaml\n");
}

static void what_cannot_be_read_is_said(void **state)
{
	char path[256];

	write_file(*state, "dutd.yaml", "");
	write_file(*state, "types.d", "");
	write_file(*state, "duts.d/a.yaml", "vm: [\n");
	(void)snprintf(path, sizeof(path), "%s/duts.d/b.yaml", ((struct place *)*state)->folder);
	assert_int_equal(symlink("nowhere", path), 0);
	refuse(*state,
	       "duts.d/a.yaml:2:1: did not find expected node content (while parsing a flow "
	       "node from line 2, column 1)\n"
	       "duts.d/b.yaml:0:0: duts.d/b.yaml: No such file or directory\n"
	       "types.d:0:0: Not a directory\n");
}

static void the_same_name_twice_has_two_places(void **state)
{
	write_file(*state, "dutd.yaml", "");
	write_file(*state, "types.d/a.yaml", "t: {}\n");
	write_file(*state, "types.d/b.yaml", "\n t: {}\n");
	write_file(*state, "duts.d/a.yaml", "a: {aliases: [b, x]}\nc: {aliases: [c]}\n");
	write_file(*state, "duts.d/b.yaml", "b: {}\na: {aliases: [y, x]}\na: {}\n");
	refuse(*state, "duts.d/a.yaml:2:15: the name 'c' stands already at duts.d/a.yaml:2:1\n"
		       "duts.d/b.yaml:3:1: key 'a' stands twice, first at line 2, column 1\n"
		       "types.d/b.yaml:2:2: type 't' stands already at types.d/a.yaml:1:1\n");
	write_file(*state, "types.d/b.yaml", "");
	write_file(*state, "duts.d/b.yaml", "b: {}\na: {aliases: [y, x]}\n");
	refuse(*state, "duts.d/a.yaml:2:15: the name 'c' stands already at duts.d/a.yaml:2:1\n"
		       "duts.d/b.yaml:1:1: the name 'b' stands already at duts.d/a.yaml:1:15\n"
		       "duts.d/b.yaml:2:1: the name 'a' stands already at duts.d/a.yaml:1:1\n"
		       "duts.d/b.yaml:2:18: the name 'x' stands already at duts.d/a.yaml:1:18\n");
}

static void unknown_keys_are_refused_with_the_nearest(void **state)
{
	refuse_root(*state,
		    "apis: {}\napi: {sockets: {}, socket: {mod: 1}}\nlimits: {bukket: 1}\n"
		    "timeouts: {over: 1}\ndut: {}\n",
		    "dutd.yaml:1:1: unknown key 'apis', did you mean 'api'?\n"
		    "dutd.yaml:2:7: unknown key 'sockets', did you mean 'socket'?\n"
		    "dutd.yaml:2:29: unknown key 'mod', did you mean 'mode'?\n"
		    "dutd.yaml:3:10: unknown key 'bukket', did you mean 'bucket'?\n"
		    "dutd.yaml:4:12: unknown key 'over'\n"
		    "dutd.yaml:5:1: unknown key 'dut', did you mean 'duts'?\n");
	refuse_dut(*state, "a: {consle: {}, typ: x, qemu: {memry: 1, after_jop: on}}\n",
		   "duts.d/a.yaml:1:5: unknown key 'consle', did you mean 'console'?\n"
		   "duts.d/a.yaml:1:17: unknown key 'typ', did you mean 'type'?\n"
		   "duts.d/a.yaml:1:32: unknown key 'memry', did you mean 'memory'?\n"
		   "duts.d/a.yaml:1:42: unknown key 'after_jop', did you mean 'after_job'?\n");
}

static void a_fault_in_a_type_is_said_once(void **state)
{
	write_file(*state, "types.d/t.yaml",
		   "t: {tag: [a], qemu: {settle: soon}}\nu: 5\n1: {}\nv: {aliases: [a]}\n");
	refuse_dut(*state, "a: {type: t}\nb: {type: t}\nc: {type: w}\nd: {type: [t]}\n",
		   "duts.d/a.yaml:3:11: type: there is no type 'w'\n"
		   "duts.d/a.yaml:4:11: type: needs the name of a type\n"
		   "types.d/t.yaml:1:5: unknown key 'tag', did you mean 'tags'?\n"
		   "types.d/t.yaml:1:30: settle: 'soon' is not a duration such as 500ms, 30s, 10m, "
		   "2h, 1d or a number of seconds\n"
		   "types.d/t.yaml:2:4: u needs keys with values\n"
		   "types.d/t.yaml:3:1: '1' is no name: a letter, then at most 62 letters, digits, "
		   "'_', '.', '-'\n"
		   "types.d/t.yaml:4:5: unknown key 'aliases'\n");
}

static void jobs_have_users_by_name_or_number(void **state)
{
	struct config *config;

	write_file(*state, "dutd.yaml", "job_users: 4000000000-4000000002\n");
	config = accept(*state);
	assert_int_equal(config->n_job_users, 3);
	assert_int_equal(config->job_users[2].uid, 4000000002);
	assert_int_equal(config->job_users[2].gid, 4000000002);
	config_free(config);

	write_file(*state, "dutd.yaml", "job_users: dut-test-nobody\n");
	refuse(*state, "dutd.yaml:1:12: job_users: there is no user 'dut-test-nobody-0'; "
		       "systemd-sysusers makes it, or give free numbers, as 64000-64063\n");
	write_file(*state, "dutd.yaml", "job_users: 4000000001-4000000000\n");
	refuse(*state, "dutd.yaml:1:12: job_users: a range has 1 to 4096 numbers\n");
	write_file(*state, "dutd.yaml", "job_users: 65534-65535\n");
	refuse(*state, "dutd.yaml:1:12: job_users: 65534 is the number of the user 'nobody'\n");
	write_file(*state, "dutd.yaml", "job_users: 0-4\n");
	refuse(*state, "dutd.yaml:1:12: job_users: '0-4' is neither a name nor a range of "
		       "numbers\n");
}

static void what_is_not_there_yet_is_refused_by_name(void **state)
{
	write_file(*state, "dutd.yaml", "pdus: {a: {}}\n");
	write_file(*state, "pdus.d/list.yaml", "- rack2\n");
	write_file(*state, "pdus.d/none.yaml", "# none\n");
	write_file(*state, "pdus.d/rack.yaml", "rack2: {driver: snmp}\n");
	write_file(*state, "duts.d/a.yaml",
		   "a: {reset: {}, buttons: {}, training: {}, export: {}}\n"
		   "b: {power: {pdu: rack2, port: 4}}\n"
		   "c: {qemu: {before_off: {}}}\n"
		   "d: {deploy: netboot}\n"
		   "e: {deploy: {driver: uboot, prompt: x}}\n");
	refuse(*state, "dutd.yaml:1:1: not yet: pdus\n"
		       "duts.d/a.yaml:1:5: not yet: reset\n"
		       "duts.d/a.yaml:1:16: not yet: buttons\n"
		       "duts.d/a.yaml:1:29: not yet: training\n"
		       "duts.d/a.yaml:1:43: not yet: export\n"
		       "duts.d/a.yaml:2:13: not yet: power.pdu\n"
		       "duts.d/a.yaml:3:12: not yet: power.before_off\n"
		       "duts.d/a.yaml:4:13: not yet: deploy driver 'netboot'\n"
		       "duts.d/a.yaml:5:22: not yet: deploy driver 'uboot'\n"
		       "pdus.d/list.yaml:1:1: not yet: pdus.d\n"
		       "pdus.d/rack.yaml:1:1: not yet: pdus.d\n");
}

/* 64 digits. */
#define DIGEST "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void write_api(const struct place *place, const char *keys, const char *tokens)
{
	char text[1024];

	write_file(place, "tokens", tokens);
	(void)snprintf(text, sizeof(text), "api:\n  tokens_file: %s/tokens\n%s", place->folder,
		       keys);
	write_file(place, "dutd.yaml", text);
}

static void the_api_by_tcp_is_read(void **state)
{
	cleanup_(config_freep) struct config *config = NULL;

	write_api(*state,
		  "  listen: [\"127.0.0.1:8600\", \"[::1]:8600\", \"127.0.0.1:8600\"]\n"
		  "  host_names: [gateway.example.org]\n",
		  "ci use " DIGEST "\n");
	config = accept(*state);
	assert_string_equal(config->listen[0], "127.0.0.1:8600");
	assert_string_equal(config->listen[1], "[::1]:8600");
	assert_null(config->listen[2]);
	assert_string_equal(config->host_names[0], "gateway.example.org");
	assert_int_equal(config->tokens.count, 1);
	assert_string_equal(config->tokens.items[0].name, "ci");
}

static void faults_of_the_api_by_tcp_are_named(void **state)
{
	const struct place *place = *state;
	char path[128];

	write_api(place,
		  "  listen: [\"localhost:8600\", \"127.0.0.1\", \"127.0.0.1:0\", \"::1:80\",\n"
		  "           \"[127.0.0.1]:80\", \"127.0.0.1:65536\", [x]]\n",
		  "ci use\nci all " DIGEST "\n");
	refuse(place, "dutd.yaml:3:12: listen: 'localhost:8600' is no address with a port, as "
		      "127.0.0.1:8600 or [::1]:8600\n"
		      "dutd.yaml:3:30: listen: '127.0.0.1' is no address with a port, as "
		      "127.0.0.1:8600 or [::1]:8600\n"
		      "dutd.yaml:3:43: listen: '127.0.0.1:0' is no address with a port, as "
		      "127.0.0.1:8600 or [::1]:8600\n"
		      "dutd.yaml:3:58: listen: '::1:80' is no address with a port, as "
		      "127.0.0.1:8600 or [::1]:8600\n"
		      "dutd.yaml:4:12: listen: '[127.0.0.1]:80' is no address with a port, as "
		      "127.0.0.1:8600 or [::1]:8600\n"
		      "dutd.yaml:4:30: listen: '127.0.0.1:65536' is no address with a port, as "
		      "127.0.0.1:8600 or [::1]:8600\n"
		      "dutd.yaml:4:49: listen: needs texts of printable characters\n"
		      "tokens:1:1: a line is NAME ROLE SHA256, not 2 words\n"
		      "tokens:2:4: 'all' is no role: view, use or admin\n");
	write_api(place, "", "");
	(void)snprintf(path, sizeof(path), "%s/tokens", place->folder);
	assert_int_equal(chmod(path, 0660), 0);
	refuse(place, "dutd.yaml:2:16: tokens_file: tokens can be written by others (its mode is "
		      "0660): chmod go-w\n");
	assert_int_equal(unlink(path), 0);
	refuse(place, "dutd.yaml:2:16: tokens_file: tokens: No such file or directory\n");
	assert_int_equal(mkfifo(path, 0600), 0);
	refuse(place, "dutd.yaml:2:16: tokens_file: tokens is no regular file\n");
	write_file(place, "dutd.yaml", "api: {tokens_file: tokens}\n");
	refuse(place, "dutd.yaml:1:20: tokens_file: 'tokens' is no absolute path\n");
	write_file(place, "dutd.yaml", "api: {listen: [\"127.0.0.1:8600\"]}\n");
	refuse(place, "dutd.yaml:1:15: listen: needs api.tokens_file: nobody may come without a "
		      "token\n");
}

static void faults_of_values_in_dutd_yaml_are_named(void **state)
{
	refuse_root(
		*state,
		"api:\n"
		"  socket: {mode: 660u, group: [a]}\n"
		"  admins: alice\n"
		"  file_roots: [srv, /a/../b, /a/.., [x]]\n"
		"variables: {1a: x, machine_id: x, l: [], n: , z: \"a\\0\"}\n"
		"timeouts: {overall: 3h, daemon: 0}\n"
		"limits: {overall: 2h, bucket: 0, job_file: big, bucket_files: 0,\n"
		"         connections: 1, idle_log: 0, free_space: none}\n",
		"dutd.yaml:2:18: mode: needs to be octal, such as \"0660\"\n"
		"dutd.yaml:2:31: group: needs a text of printable characters\n"
		"dutd.yaml:3:11: admins: needs a list, such as [a, b]\n"
		"dutd.yaml:4:16: file_roots: 'srv' is no absolute path without '..'\n"
		"dutd.yaml:4:21: file_roots: '/a/../b' is no absolute path without '..'\n"
		"dutd.yaml:4:30: file_roots: '/a/..' is no absolute path without '..'\n"
		"dutd.yaml:4:37: file_roots: needs texts of printable characters\n"
		"dutd.yaml:5:13: variables: '1a' is no name of a variable: letters, digits, "
		"_ and -, at most 63\n"
		"dutd.yaml:5:20: variables: 'machine_id' is a name that templates have already\n"
		"dutd.yaml:5:38: l: needs a text (\"\" for an empty one)\n"
		"dutd.yaml:5:45: n: needs a text (\"\" for an empty one)\n"
		"dutd.yaml:5:50: z: needs a text (\"\" for an empty one)\n"
		"dutd.yaml:6:21: overall: is more than limits.overall\n"
		"dutd.yaml:6:33: daemon: needs to be more than 0\n"
		"dutd.yaml:7:31: bucket: needs to be more than 0\n"
		"dutd.yaml:7:44: job_file: 'big' is not a size such as 4096, 512KiB or 2GiB\n"
		"dutd.yaml:7:63: bucket_files: '0' is not a number from 1 to 1000000000\n"
		"dutd.yaml:8:23: connections: needs to be from 2 to 100000\n"
		"dutd.yaml:8:36: idle_log: needs to be more than 0\n"
		"dutd.yaml:8:51: free_space: 'none' is not a size such as 4096, 512KiB or 2GiB\n");
	refuse_root(*state, "api: [a]\nvariables: x\n",
		    "dutd.yaml:1:6: api needs keys with values\n"
		    "dutd.yaml:2:12: variables: needs names with texts\n");
	refuse_root(*state, "[]", "dutd.yaml:1:1: this needs keys with values\n");
}

static void faults_of_a_dut_are_named(void **state)
{
	refuse_dut(*state,
		   "a: {aliases: [a/b, \"\"], tags: [[x]], mac: 02-00, description: \"a\\nb\"}\n"
		   "b-: 7\n"
		   "-c: {}\n",
		   "duts.d/a.yaml:1:15: alias 'a/b' holds a '/'\n"
		   "duts.d/a.yaml:1:20: aliases: needs texts of printable characters\n"
		   "duts.d/a.yaml:1:32: tags: needs texts of printable characters\n"
		   "duts.d/a.yaml:1:43: mac: needs to be such as 02:00:00:12:34:56\n"
		   "duts.d/a.yaml:1:63: description: needs a text of printable characters\n"
		   "duts.d/a.yaml:2:5: b- needs keys with values\n"
		   "duts.d/a.yaml:3:1: '-c' is no name: a letter, then at most 62 letters, digits, "
		   "'_', '.', '-'\n");
	/* Where the driver stands, which need not be where its other keys stand. */
	write_file(*state, "types.d/t.yaml", "t: {power: {driver: gpoi}}\n");
	refuse_dut(*state, "a: {type: t, power: {line: 4}}\n",
		   "types.d/t.yaml:1:21: no driver 'gpoi'\n");
	write_file(*state, "types.d/t.yaml", "");
	refuse_dut(*state, "- a\n", "duts.d/a.yaml:1:1: a file of DUTs needs keys with values\n");
}

static void faults_of_hardware_are_named(void **state)
{
	refuse_dut(*state,
		   "a: {qemu: {}, sim: {}}\n"
		   "b: {qemu: {}, power: {driver: qemu}, console: {driver: qemu}, deploy: qemu}\n"
		   "c: {power: {settle: 1s}, console: {dut_tty: x}}\n"
		   "d: {power: qemu, console: [x], consoles: [y]}\n"
		   "e: {console: {driver: sim}, consoles: {m: {driver: sim}}}\n"
		   "f: {consoles: {main: {driver: sim}, \"a/b\": {driver: sim}, c: }}\n"
		   "g: {power: {driver: sim, script: s}, console: {driver: qemu}, deploy: qemu}\n"
		   "h: {deploy: {a: b}}\n"
		   "i: {deploy: tftp}\n"
		   "j: {qemu: {after_job: later, at_start: on}}\n"
		   "k: {qemu: {dut_tty: /dev/ttyS0}}\n"
		   "l: {power: {driver: qemu}, deploy: {driver: qemu, x: y}}\n"
		   "m: {power: {driver: gpoi, settle: soon}, console: {driver: serial}}\n"
		   "n: {power: {driver: sim}, consoles: {m: {driver: sim}, n: {driver: sim}}}\n",
		   "duts.d/a.yaml:1:20: sim: cannot stand beside 'qemu'\n"
		   "duts.d/a.yaml:2:22: power: cannot stand beside 'qemu', which stands for it\n"
		   "duts.d/a.yaml:2:47: console: cannot stand beside 'qemu', which stands for it\n"
		   "duts.d/a.yaml:2:71: deploy: cannot stand beside 'qemu', which stands for it\n"
		   "duts.d/a.yaml:3:12: power: needs a driver\n"
		   "duts.d/a.yaml:3:35: console: needs a driver\n"
		   "duts.d/a.yaml:4:12: d.power needs keys with values\n"
		   "duts.d/a.yaml:4:27: console: cannot stand beside 'consoles'\n"
		   "duts.d/a.yaml:5:14: console: cannot stand beside 'consoles'\n"
		   "duts.d/a.yaml:6:31: driver: 'sim' needs the power driver 'sim' as well\n"
		   "duts.d/a.yaml:6:37: 'a/b' is no name: a letter, then at most 62 letters, "
		   "digits, '_', '.', '-'\n"
		   "duts.d/a.yaml:6:62: c: needs a driver\n"
		   "duts.d/a.yaml:7:56: driver: 'qemu' needs the power driver 'qemu' as well\n"
		   "duts.d/a.yaml:7:71: deploy: 'qemu' needs the power driver 'qemu' as well\n"
		   "duts.d/a.yaml:8:13: deploy: needs a driver\n"
		   "duts.d/a.yaml:9:13: deploy: no deploy driver 'tftp'\n"
		   "duts.d/a.yaml:10:23: after_job: needs to be off, on or leave\n"
		   "duts.d/a.yaml:10:40: at_start: needs to be leave or off\n"
		   "duts.d/a.yaml:11:21: dut_tty: needs a name such as ttyS0, without a path or "
		   "speed\n"
		   "duts.d/a.yaml:12:51: unknown key 'x'\n"
		   "duts.d/a.yaml:13:21: no driver 'gpoi'\n"
		   "duts.d/a.yaml:13:35: settle: 'soon' is not a duration such as 500ms, 30s, 10m, "
		   "2h, 1d or a number of seconds\n"
		   "duts.d/a.yaml:13:60: no driver 'serial'\n"
		   "duts.d/a.yaml:14:68: driver: a 'sim' board has one console only\n");
}

static const char sample_root[] =
	"api: &a\n  socket: {mode: \"0660\", group: dut}\n  admins: [alice]\n"
	"  file_roots: [/srv]\nvariables: {a: \"b\"}\ntimeouts: {overall: 6h}\n"
	"limits: {overall: 24h, job_file: 1MiB}\n";
static const char sample_type[] = "t: {tags: [a], qemu: {arch: amd64, after_job: off}}\n";
static const char sample_duts[] =
	"a:\n  type: t\n  aliases: [\"x\", y]\n  variables: {v: \"1\"}\n"
	"b: {power: {driver: sim, script: s, settle: 1s}, console: {driver: sim, dut_tty: ttyS0}}\n"
	"c: {power: {driver: qemu}, consoles: {m: {driver: qemu}}, deploy: {driver: qemu}}\n";

/* Under the sanitizers: whatever is missing, it ends well or with problems. */
static void no_cut_file_is_misread(void **state)
{
	static const struct {
		const char *name, *text;
	} files[] = {
		{ "dutd.yaml", sample_root },
		{ "types.d/t.yaml", sample_type },
		{ "duts.d/d.yaml", sample_duts },
	};

	write_file(*state, "duts.d/s", "");
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		for (size_t j = 0; j < ARRAY_SIZE(files); j++)
			write_file(*state, files[j].name, files[j].text);
		for (size_t length = 0; length <= strlen(files[i].text); length++) {
			cleanup_(problems_done) struct problems problems = { 0 };
			cleanup_(config_freep) struct config *config = NULL;
			free_ char *cut = strndup(files[i].text, length);
			struct error err;
			int r;

			assert_non_null(cut);
			write_file(*state, files[i].name, cut);
			r = load(*state, &config, &problems, &err);
			assert_true(r == (problems_any(&problems) ? -EBADMSG : 0));
			assert_true((config != NULL) == (r == 0));
		}
	}
}

#define test_in_folder(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test_in_folder(an_empty_file_is_a_configuration),
		test_in_folder(every_key_of_dutd_yaml_is_read),
		test_in_folder(qemu_alone_stands_for_everything),
		test_in_folder(sim_alone_stands_for_power_and_console),
		test_in_folder(power_console_and_deploy_may_be_written_out),
		test_in_folder(types_merge_deeply_and_keep_their_place),
		test_in_folder(one_file_may_hold_all),
		test_in_folder(on_and_off_may_be_booleans),
		test_in_folder(a_missing_file_is_no_problem_of_its_content),
		test_in_folder(only_files_with_the_right_end_are_read),
		test_in_folder(what_cannot_be_read_is_said),
		test_in_folder(the_same_name_twice_has_two_places),
		test_in_folder(unknown_keys_are_refused_with_the_nearest),
		test_in_folder(a_fault_in_a_type_is_said_once),
		test_in_folder(jobs_have_users_by_name_or_number),
		test_in_folder(what_is_not_there_yet_is_refused_by_name),
		test_in_folder(the_api_by_tcp_is_read),
		test_in_folder(faults_of_the_api_by_tcp_are_named),
		test_in_folder(faults_of_values_in_dutd_yaml_are_named),
		test_in_folder(faults_of_a_dut_are_named),
		test_in_folder(faults_of_hardware_are_named),
		test_in_folder(no_cut_file_is_misread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
