/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include "executor/boot.h"

static struct boot boot_at(enum job_phase phase, unsigned number)
{
	return (struct boot){ .phase = phase, .number = number };
}

static void a_boot_is_off_then_on_then_lines(void **state)
{
	struct boot boot = { .phase = PHASE_SETUP };

	(void)state;
	assert_int_equal(boot_next(&boot, BOOT_READY), BOOT_ASK_OFF);
	assert_int_equal(boot.phase, PHASE_POWER_OFF);
	assert_int_equal(boot.number, 0);
	assert_int_equal(boot_next(&boot, BOOT_ANSWERED), BOOT_ASK_ON);
	assert_int_equal(boot.phase, PHASE_POWER_ON);
	assert_int_equal(boot.number, 1);
	assert_int_equal(boot_next(&boot, BOOT_ANSWERED), BOOT_STARTED);
	assert_int_equal(boot.phase, PHASE_BOOT);
	assert_int_equal(boot_next(&boot, BOOT_LINE), BOOT_RUNS);
	assert_int_equal(boot.phase, PHASE_RUNNING);
	assert_int_equal(boot_next(&boot, BOOT_LINE), BOOT_NOTHING);
	assert_int_equal(boot_next(&boot, BOOT_RESTART), BOOT_ASK_OFF);
	assert_int_equal(boot_next(&boot, BOOT_ANSWERED), BOOT_ASK_ON);
	assert_int_equal(boot.number, 2);
	assert_false(boot.line_seen);
}

static void a_line_before_the_answer_of_on_makes_it_running_at_once(void **state)
{
	struct boot boot = boot_at(PHASE_POWER_ON, 1);

	(void)state;
	assert_int_equal(boot_next(&boot, BOOT_LINE), BOOT_NOTHING);
	assert_int_equal(boot.phase, PHASE_POWER_ON);
	assert_int_equal(boot_next(&boot, BOOT_ANSWERED), BOOT_STARTED);
	assert_int_equal(boot.phase, PHASE_RUNNING);
}

static void a_restart_before_the_answer_of_on_waits_for_it(void **state)
{
	struct boot boot = boot_at(PHASE_POWER_ON, 1);

	(void)state;
	assert_int_equal(boot_next(&boot, BOOT_LINE), BOOT_NOTHING);
	assert_int_equal(boot_next(&boot, BOOT_RESTART), BOOT_NOTHING);
	assert_int_equal(boot_next(&boot, BOOT_ANSWERED), BOOT_ASK_OFF);
	assert_int_equal(boot.phase, PHASE_POWER_OFF);
	assert_int_equal(boot_next(&boot, BOOT_ANSWERED), BOOT_ASK_ON);
	assert_int_equal(boot.number, 2);
	assert_int_equal(boot_next(&boot, BOOT_ANSWERED), BOOT_STARTED);
	assert_int_equal(boot.phase, PHASE_BOOT);
}

static void late_words_of_a_boot_that_is_switched_off_restart_nothing(void **state)
{
	struct boot boot = boot_at(PHASE_POWER_OFF, 1);

	(void)state;
	assert_int_equal(boot_next(&boot, BOOT_LINE), BOOT_NOTHING);
	assert_int_equal(boot_next(&boot, BOOT_RESTART), BOOT_NOTHING);
	assert_int_equal(boot.phase, PHASE_POWER_OFF);
}

static void the_end_may_come_in_every_phase_and_once(void **state)
{
	(void)state;
	for (unsigned phase = 0; phase < PHASE_TEARDOWN; phase++) {
		struct boot boot = boot_at(phase, 1);

		assert_int_equal(boot_next(&boot, BOOT_END), BOOT_TEARDOWN);
		assert_int_equal(boot.phase, PHASE_TEARDOWN);
		for (unsigned event = 0; event < BOOT_EVENTS; event++)
			assert_int_equal(boot_next(&boot, event), BOOT_NOTHING);
		assert_int_equal(boot.phase, PHASE_TEARDOWN);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_boot_is_off_then_on_then_lines),
		cmocka_unit_test(a_line_before_the_answer_of_on_makes_it_running_at_once),
		cmocka_unit_test(a_restart_before_the_answer_of_on_waits_for_it),
		cmocka_unit_test(late_words_of_a_boot_that_is_switched_off_restart_nothing),
		cmocka_unit_test(the_end_may_come_in_every_phase_and_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
