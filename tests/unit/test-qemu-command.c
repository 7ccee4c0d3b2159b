/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "hw/qemu-command.h"

/* Whether QEMU is installed is the test's to say: hw/ takes this one before the C library's. */
static const char *installed, *also_installed;

int access(const char *path, int mode)
{
	if (mode == X_OK &&
	    (strcmp(path, installed) == 0 || (also_installed && strcmp(path, also_installed) == 0)))
		return 0;
	errno = ENOENT;
	return -1;
}

CLEANUP_DEFINE(struct yaml_tree *, yaml_tree_free)

static struct yaml_tree *parse(const char *text)
{
	struct problems problems = { 0 };
	struct yaml_tree *tree = NULL;

	assert_int_equal(yaml_parse(&tree, "/etc/dutd/duts.d/vm.yaml", text, strlen(text),
				    &yaml_default_limits, &problems),
			 0);
	problems_done(&problems);
	return tree;
}

/* The arguments with a bar between them, or the error. */
static int make_as(char text[static 4096], const char *keys, const struct power_deploy *deploy,
		   const char *user)
{
	cleanup_(yaml_tree_freep) struct yaml_tree *tree = parse(keys);
	cleanup_(qemu_command_done) struct qemu_command command = { 0 };
	const struct power_config config = { .board = "vm-1",
					     .driver = "qemu",
					     .keys = yaml_root(tree),
					     .runtime_dir = "/run/dutd/duts/vm-1",
					     .user = user };
	struct error err;
	size_t used = 0;
	int r;

	r = qemu_command_make(&command, &config, deploy, &err);
	if (r < 0) {
		(void)snprintf(text, 4096, "%s", err.text);
		return r;
	}
	assert_string_equal(command.path, installed);
	for (size_t i = 0; i < command.count; i++)
		used += (size_t)snprintf(text + used, 4096 - used, "%s%s", i > 0 ? "|" : "",
					 command.argv[i]);
	assert_null(command.argv[command.count]);
	return r;
}

static int make(char text[static 4096], const char *keys, const struct power_deploy *deploy)
{
	return make_as(text, keys, deploy, NULL);
}

static void assert_has(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("'%s' is not in '%s'", part, text);
}

static void a_board_without_keys_is_a_pc(void **state)
{
	char text[4096];

	(void)state;
	installed = "/usr/bin/qemu-system-x86_64";
	assert_int_equal(make(text, "{}", NULL), 0);
	assert_string_equal(text,
			    "qemu-system-x86_64|-name|vm-1|-accel|tcg|-machine|q35|-cpu|max|-m|256M"
			    "|-nodefaults|-no-user-config|-display|none|-S|-no-shutdown"
			    "|-pidfile|/run/dutd/duts/vm-1/qemu.pid"
			    "|-chardev|socket,id=dut-qmp,fd=11,server=on,wait=off"
			    "|-mon|chardev=dut-qmp,mode=control"
			    "|-chardev|socket,id=dut-console,fd=12,server=on,wait=off"
			    "|-serial|chardev:dut-console");
}

static void as_a_user_of_its_own(void **state)
{
	char text[4096];

	(void)state;
	installed = "/usr/bin/setpriv";
	also_installed = "/usr/bin/qemu-system-x86_64";
	assert_int_equal(make_as(text, "{}", NULL, "dut-board"), 0);
	assert_has(text, "setpriv|--reuid|dut-board|--regid|dut-board|--init-groups"
			 "|/usr/bin/qemu-system-x86_64|-name|vm-1|");
	/* That user may not write into the folder. */
	assert_null(strstr(text, "-pidfile"));
	installed = also_installed;
	assert_int_equal(make_as(text, "{}", NULL, "dut-board"), -ENOENT);
	assert_string_equal(text, "setpriv is not installed");
	also_installed = NULL;
}

static void each_arch_has_its_program_and_its_machine(void **state)
{
	static const struct {
		const char *keys, *program, *expected;
	} rows[] = {
		{ "{arch: amd64}", "qemu-system-x86_64", "|-machine|q35|-cpu|max|" },
		{ "{arch: i386}", "qemu-system-i386", "|-machine|pc|-cpu|max|" },
		{ "{arch: arm64}", "qemu-system-aarch64", "|-machine|virt|-cpu|max|" },
		{ "{arch: armhf}", "qemu-system-arm", "|-machine|virt|-cpu|cortex-a15|" },
		{ "{arch: riscv64}", "qemu-system-riscv64", "|-machine|virt|-cpu|rv64|" },
		{ "{arch: ~, machine: ~}", "qemu-system-x86_64", "|-machine|q35|" },
	};
	char text[4096], path[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		(void)snprintf(path, sizeof(path), "/usr/bin/%s", rows[i].program);
		installed = path;
		assert_int_equal(make(text, rows[i].keys, NULL), 0);
		assert_memory_equal(text, rows[i].program, strlen(rows[i].program));
		assert_has(text, rows[i].expected);
	}
}

static void every_key_has_its_place(void **state)
{
	char text[4096];

	(void)state;
	installed = "/usr/local/bin/qemu-system-aarch64";
	assert_int_equal(make(text,
			      "{arch: arm64, machine: 'virt,secure=on', cpu: cortex-a72, "
			      "memory: 1G, accel: kvm, firmware: /usr/lib/u-boot/u-boot.bin, "
			      "kernel: ../Image, initramfs: initrd, cmdline: 'quiet panic=1', "
			      "args: [-device, virtio-net, -smp, 2]}",
			      NULL),
			 0);
	assert_has(text, "|-accel|kvm|-machine|virt,secure=on|-cpu|cortex-a72|-m|1G|");
	/* Behind our own, so that an administrator has the last word. */
	assert_has(text, "|-bios|/usr/lib/u-boot/u-boot.bin"
			 "|-kernel|/etc/dutd/duts.d/../Image"
			 "|-initrd|/etc/dutd/duts.d/initrd"
			 "|-append|quiet panic=1"
			 "|-device|virtio-net|-smp|2");
	assert_null(strstr(text, "-dtb"));
}

static void what_a_job_brings_replaces_what_is_configured(void **state)
{
	static const char keys[] = "{kernel: /k, initramfs: /i, cmdline: configured}";
	const struct power_deploy all = {
		.kernel_fd = 70, .initramfs_fd = 71, .dtb_fd = 72, .cmdline = "from the job"
	};
	const struct power_deploy kernel = { .kernel_fd = 70, .initramfs_fd = -1, .dtb_fd = -1 };
	const struct power_deploy none = {
		.kernel_fd = -1, .initramfs_fd = -1, .dtb_fd = -1, .cmdline = ""
	};
	char text[4096];

	(void)state;
	installed = "/usr/bin/qemu-system-x86_64";
	/* The numbers that the files have in QEMU, not ours. */
	assert_int_equal(make(text, keys, &all), 0);
	assert_has(text, "|-kernel|/proc/self/fd/13|-initrd|/proc/self/fd/14|-dtb|/proc/self/fd/15"
			 "|-append|from the job");
	assert_null(strstr(text, "configured"));
	assert_int_equal(make(text, keys, &kernel), 0);
	assert_has(text, "|-kernel|/proc/self/fd/13|-initrd|/i|-append|configured");
	/* An empty command line is one, too. */
	assert_int_equal(make(text, keys, &none), 0);
	assert_has(text, "|-kernel|/k|-initrd|/i|-append|");
	assert_null(strstr(text, "configured"));
}

static void the_program_is_looked_for_as_a_shell_does(void **state)
{
	static const char *const paths[] = { "/usr/local/bin/qemu-system-x86_64",
					     "/usr/bin/qemu-system-x86_64",
					     "/bin/qemu-system-x86_64" };
	char text[4096];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		installed = paths[i];
		assert_int_equal(make(text, "{}", NULL), 0);
	}
	installed = "/usr/bin/qemu-system-arm";
	assert_int_equal(make(text, "{}", NULL), -ENOENT);
	assert_string_equal(text, "qemu-system-x86_64 is not installed");
}

static void the_arguments_are_bounded(void **state)
{
	char text[4096], keys[4096] = "{args: [x";

	(void)state;
	installed = "/usr/bin/qemu-system-x86_64";
	for (unsigned i = 0; i < 300; i++)
		(void)strcat(keys, ", x");
	(void)strcat(keys, "]}");
	assert_int_equal(make(text, keys, NULL), -E2BIG);
	assert_string_equal(text, "QEMU gets more than 256 arguments");
}

static void each_fault_in_the_keys_has_its_place(void **state)
{
	static const char keys[] = "arch: sparc\n"
				   "accel: hvf\n"
				   "memroy: 1G\n"
				   "cpu: [max]\n"
				   "args: -smp 2\n"
				   "kernel: {url: x}\n";
	static const char expected[] =
		"1:7: [arch] arch must be one of amd64, i386, arm64, armhf, riscv64\n"
		"2:8: [accel] accel must be one of tcg, kvm\n"
		"3:1: [memroy] unknown key 'memroy', did you mean 'memory'?\n"
		"4:6: [cpu] cpu must be a text\n"
		"5:7: [args] args must be a list\n"
		"6:9: [kernel] kernel must be a text\n";
	cleanup_(yaml_tree_freep) struct yaml_tree *tree = parse(keys);
	struct problems problems = { 0 };
	char text[1024] = "";

	(void)state;
	qemu_command_check(yaml_root(tree), &problems);
	problems_sort(&problems);
	for (size_t i = 0; i < problems.count; i++)
		(void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%u:%u: [%s] %s\n",
			       problems.items[i].line, problems.items[i].column,
			       problems.items[i].key, problems.items[i].text);
	assert_string_equal(text, expected);
	problems_done(&problems);
}

static void good_keys_have_no_faults(void **state)
{
	static const char *const good[] = {
		"{}",
		"{arch: riscv64, machine: virt, cpu: rv64, memory: 1G, accel: tcg}",
		"{firmware: f, kernel: k, initramfs: i, cmdline: c, args: [-smp, 2]}",
		"{arch: ~, accel: , args: []}",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		cleanup_(yaml_tree_freep) struct yaml_tree *tree = parse(good[i]);
		struct problems problems = { 0 };

		qemu_command_check(yaml_root(tree), &problems);
		if (problems_any(&problems))
			fail_msg("%s: %s", good[i], problems.items[0].text);
		problems_done(&problems);
	}
}

static void an_argument_that_is_no_text_is_refused(void **state)
{
	cleanup_(yaml_tree_freep) struct yaml_tree *tree = parse("{args: [a, [b], {c: d}]}");
	struct problems problems = { 0 };

	(void)state;
	qemu_command_check(yaml_root(tree), &problems);
	assert_int_equal(problems.count, 2);
	assert_string_equal(problems.items[0].text, "each of args must be a text");
	assert_int_equal(problems.items[0].column, 12);
	assert_int_equal(problems.items[1].column, 17);
	problems_done(&problems);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_board_without_keys_is_a_pc),
		cmocka_unit_test(as_a_user_of_its_own),
		cmocka_unit_test(each_arch_has_its_program_and_its_machine),
		cmocka_unit_test(every_key_has_its_place),
		cmocka_unit_test(what_a_job_brings_replaces_what_is_configured),
		cmocka_unit_test(the_program_is_looked_for_as_a_shell_does),
		cmocka_unit_test(the_arguments_are_bounded),
		cmocka_unit_test(each_fault_in_the_keys_has_its_place),
		cmocka_unit_test(good_keys_have_no_faults),
		cmocka_unit_test(an_argument_that_is_no_text_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
