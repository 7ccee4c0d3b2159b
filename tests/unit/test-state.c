/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include "base/attr.h"
#include "dut/state.h"

/* An idle DUT in service; each row changes some facts. */
#define IDLE_FACTS .configured = true, .ready = true, .lock = LOCK_IS_OURS

static void every_fact_shows_in_the_state(void **state)
{
	static const struct {
		enum dut_state expected;
		struct dut_facts facts;
	} rows[] = {
		{ DUT_IDLE, { IDLE_FACTS } },
		{ DUT_WAIT_FOR_CONFIG, { .ready = true, .lock = LOCK_IS_OURS } },
		{ DUT_RETIRED, { IDLE_FACTS, .retired = true } },
		{ DUT_TRAINING, { .configured = true, .lock = LOCK_IS_OURS } },
		{ DUT_QUEUED, { IDLE_FACTS, .starting = true } },
		{ DUT_QUICK_CHECK, { IDLE_FACTS, .starting = true, .kind = JOB_KIND_QUICK_CHECK } },
		{ DUT_RUNNING,
		  { .configured = true, .ready = true, .lock = LOCK_IS_LENT, .answering = true } },
		{ DUT_TRAINING,
		  { .configured = true,
		    .ready = true,
		    .lock = LOCK_IS_LENT,
		    .answering = true,
		    .kind = JOB_KIND_TRAINING } },
		{ DUT_BORKED, { .configured = true, .ready = true, .lock = LOCK_IS_LENT } },
		{ DUT_BORKED, { .configured = true, .ready = true, .lock = LOCK_IS_FOREIGN } },
		{ DUT_RUNNING, { IDLE_FACTS, .switching_off = true } },
		{ DUT_RESERVED, { IDLE_FACTS, .reserved = true } },
		{ DUT_RESERVED, { IDLE_FACTS, .reserved = true, .retired = true } },
		{ DUT_RESERVED, { IDLE_FACTS, .reserved = true, .switching_off = true } },
		{ DUT_QUEUED, { IDLE_FACTS, .reserved = true, .starting = true } },
		{ DUT_RUNNING,
		  { .configured = true,
		    .ready = true,
		    .lock = LOCK_IS_LENT,
		    .answering = true,
		    .reserved = true } },
		{ DUT_BORKED, { .configured = true, .lock = LOCK_IS_FOREIGN, .reserved = true } },
		{ DUT_BORKED,
		  { IDLE_FACTS, .reserved = true, .switching_off = true,
		    .off_unconfirmed = true } },
		{ DUT_BORKED, { IDLE_FACTS, .switching_off = true, .off_unconfirmed = true } },
		{ DUT_BORKED, { IDLE_FACTS, .retired = true, .off_unconfirmed = true } },
		{ DUT_RUNNING,
		  { .configured = true,
		    .retired = true,
		    .lock = LOCK_IS_LENT,
		    .answering = true } },
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
		if (dut_state_derive(&rows[i].facts) != rows[i].expected)
			fail_msg("row %u: %s, expected %s", i,
				 dut_state_name(dut_state_derive(&rows[i].facts)),
				 dut_state_name(rows[i].expected));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_fact_shows_in_the_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
