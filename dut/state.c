/* SPDX-License-Identifier: MIT */
#include "dut/state.h"

static const char *const names[DUT_STATES] = {
	[DUT_WAIT_FOR_CONFIG] = "WAIT_FOR_CONFIG",
	[DUT_IDLE] = "IDLE",
	[DUT_TRAINING] = "TRAINING",
	[DUT_QUICK_CHECK] = "QUICK_CHECK",
	[DUT_QUEUED] = "QUEUED",
	[DUT_RUNNING] = "RUNNING",
	[DUT_RESERVED] = "RESERVED",
	[DUT_RETIRED] = "RETIRED",
	[DUT_BORKED] = "BORKED",
};

const char *dut_state_name(enum dut_state state)
{
	return names[state];
}

static enum dut_state busy_state(enum job_kind kind, bool starting)
{
	switch (kind) {
	case JOB_KIND_TRAINING:
		return DUT_TRAINING;
	case JOB_KIND_QUICK_CHECK:
		return DUT_QUICK_CHECK;
	case JOB_KIND_ORDINARY:
		break;
	}
	return starting ? DUT_QUEUED : DUT_RUNNING;
}

enum dut_state dut_state_derive(const struct dut_facts *facts)
{
	if (facts->lock == LOCK_IS_FOREIGN || facts->off_unconfirmed)
		return DUT_BORKED;
	if (facts->starting)
		return busy_state(facts->kind, true);
	if (facts->lock == LOCK_IS_LENT)
		return facts->answering ? busy_state(facts->kind, false) : DUT_BORKED;
	if (facts->reserved)
		return DUT_RESERVED;
	if (facts->switching_off)
		return busy_state(facts->kind, false);
	if (!facts->configured)
		return DUT_WAIT_FOR_CONFIG;
	if (facts->retired)
		return DUT_RETIRED;
	return facts->ready ? DUT_IDLE : DUT_TRAINING;
}
