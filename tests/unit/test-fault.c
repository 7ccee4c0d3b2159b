/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <string.h>

#include "base/attr.h"
#include "executor/fault.h"

static const char *find(const char *line)
{
	return fault_find(line, strlen(line));
}

static void texts_of_real_kernels_name_their_kind(void **state)
{
	/* clang-format off */
	static const struct {
		const char *line, *kind;
	} cases[] = {
		{ "[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs", "panic" },
		{ "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100", "panic" },
		{ "[   12.3] Oops: 0000 [#1] PREEMPT SMP PTI", "oops" },
		{ "[   12.3] Internal error: Oops: 96000004 [#1] SMP", "oops" },
		{ "Internal error: synchronous external abort: 96000210 [#1]", "oops" },
		{ "Unable to handle kernel NULL pointer dereference at virtual address 0", "oops" },
		{ "general protection fault, probably for non-canonical address 0xdead: 0000", "oops" },
		{ "[    5.0] BUG: kernel NULL pointer dereference, address: 0000000000000000", "bug" },
		{ "[    5.0] kernel BUG at mm/slub.c:4023!", "bug" },
		{ "[    9.1] BUG: KASAN: use-after-free in foo+0x1/0x2", "kasan" },
		{ "[    9.1] BUG: KFENCE: out-of-bounds read in foo", "kfence" },
		{ "[    9.1] UBSAN: shift-out-of-bounds in foo.c:3:4", "ubsan" },
		{ "[   28.0] watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [kworker]", "soft_lockup" },
		{ "[   28.0] watchdog: Watchdog detected hard LOCKUP on cpu 1", "hard_lockup" },
		{ "[   60.0] rcu: INFO: rcu_sched self-detected stall on CPU", "rcu_stall" },
		{ "[   60.0] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", "rcu_stall" },
		{ "[  242.1] INFO: task sync:123 blocked for more than 120 seconds.", "hung_task" },
		{ "[    3.0] WARNING: CPU: 0 PID: 1 at kernel/foo.c:12 foo+0x1/0x2", "warning" },
		{ "[    3.0] WARNING: kernel/foo.c:12 at foo+0x1/0x2, CPU#0: init/1", "warning" },
		{ "WARNING: possible circular locking dependency detected", "warning" },
	};
	/* clang-format on */

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_string_equal(find(cases[i].line), cases[i].kind);
}

static void ordinary_lines_are_no_fault(void **state)
{
	static const char *const lines[] = {
		"",
		"[    0.0] Linux version 6.1.0 (debian)",
		"WARNING: apt does not have a stable CLI interface",
		"WARNING: possible data loss",
		"error: Internal error: try again",
		"debug: nothing to see",
		"[    1.0] ---[ end Kernel panic - not syncing: VFS ]---",
		"[    1.0] ---[ end trace 0000000000000000 ]---",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		assert_null(find(lines[i]));
}

static void the_kernel_banner_is_found(void **state)
{
	static const char banner[] = "[    0.000000] Linux version 6.1.0-13-cloud-amd64";

	(void)state;
	assert_true(fault_is_kernel_banner(banner, sizeof(banner) - 1));
	assert_false(fault_is_kernel_banner("Linux", 5));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(texts_of_real_kernels_name_their_kind),
		cmocka_unit_test(ordinary_lines_are_no_fault),
		cmocka_unit_test(the_kernel_banner_is_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
