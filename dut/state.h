/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>

/*
 * The state of a DUT is derived from facts whenever somebody asks, and never stored: a restart
 * cannot disagree with the past. See the section "States" of dutd(8).
 */

enum dut_state {
	DUT_WAIT_FOR_CONFIG, /* no power is configured */
	DUT_IDLE,
	DUT_TRAINING,
	DUT_QUICK_CHECK,
	DUT_QUEUED, /* its executor is starting */
	DUT_RUNNING,
	DUT_RESERVED,
	DUT_RETIRED,
	DUT_BORKED, /* held by something that does not answer, or its power cannot be switched off
		     */
	DUT_STATES,
};

const char *dut_state_name(enum dut_state state);

enum lock_holder {
	LOCK_IS_OURS,	 /* no executor lives and none is coming */
	LOCK_IS_LENT,	 /* our executor has it, or is just getting it */
	LOCK_IS_FOREIGN, /* an executor that we do not talk to has it */
};

enum job_kind { JOB_KIND_ORDINARY, JOB_KIND_TRAINING, JOB_KIND_QUICK_CHECK };

struct dut_facts {
	bool configured;
	bool retired;
	bool ready; /* for service */
	enum lock_holder lock;
	bool starting;	      /* a job is on its way to its executor's `go` */
	bool answering;	      /* the executor has answered within its time */
	enum job_kind kind;   /* of that job */
	bool reserved;	      /* a person holds it */
	bool switching_off;   /* the off after a job is under way and has not failed */
	bool off_unconfirmed; /* the off after a job has failed or takes too long */
};

enum dut_state dut_state_derive(const struct dut_facts *facts);
