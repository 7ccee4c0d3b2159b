/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* What dutd, the executor and the command line agree on. See dut-executor(8). */

enum { PROTOCOL_VERSION = 1 };

/* The fixed fds of an executor. */
enum executor_fd {
	EXECUTOR_FD_JOB_SOCKET =
		3,	      /* bound; the executor listens, so that peer credentials name it */
	EXECUTOR_FD_LOCK = 4, /* flock held by inheritance */
	EXECUTOR_FD_CONTROL_SOCKET = 5, /* bound, SOCK_SEQPACKET */
	EXECUTOR_FD_JOB_DIR = 6,
	EXECUTOR_FD_READY = 7,	 /* pipe: 'R', or a reason, then EOF */
	EXECUTOR_FD_TARBALL = 8, /* may be closed */
	EXECUTOR_FD_END = 9,
};

enum {
	READY_REASON_MAX = 1000, /* bytes */
	PACKET_MAX = 65536,	 /* bytes of JSON in a control packet */
	PACKET_FDS_MAX = 4,
};

/* Exit codes of dut and numbers of the reference system. */
enum job_status {
	JOB_PASS,
	JOB_WARN,
	JOB_COMPLETE,
	JOB_FAIL,
	JOB_INCOMPLETE,
	JOB_UNKNOWN,
	JOB_SETUP_FAIL,
	JOB_CANCELLED,
	JOB_STATUSES,
};

const char *job_status_name(enum job_status status); /* "PASS" ... */
int job_status_from_name(const char *name);	     /* or -EINVAL */

enum job_phase {
	PHASE_SETUP,
	PHASE_POWER_OFF,
	PHASE_POWER_ON,
	PHASE_BOOT,
	PHASE_RUNNING,
	PHASE_TEARDOWN,
	JOB_PHASES,
};

const char *job_phase_name(enum job_phase phase);

/* What a result.json holds at most: bytes of a reason, entries of its lists. */
enum {
	RESULT_REASON_MAX = 128,
	RESULT_BOOTS_MAX = 1000, /* the executor counts more as "dropped" */
	RESULT_PATTERNS_MAX = 500,
	RESULT_FAULTS_MAX = 100,
	RESULT_TESTS_MAX = 10000,
	RESULT_FILES_MAX = 10000,
};

/*
 * The status that goes with a reason of result.json ("timeout:overall", "pattern_fail" ...).
 * before_on: the first `on` has not been asked for yet. An unknown reason is INCOMPLETE.
 *
 * Source: the list of reasons in dut-job(5).
 */
enum job_status job_reason_status(const char *reason, bool before_on);

/* Whether a result may have both. */
bool job_status_fits(enum job_status status, const char *reason);

/* A reason of the complete list (with any N behind step:, command:, timeout:watchdogs.). */
bool job_reason_known(const char *reason);

/* One that dutd may give a running job its end by: none that the job alone can earn. */
bool job_reason_cancels(const char *reason);

/*
 * Sends one control packet. Takes the reference to packet. fds stay the caller's.
 *
 * Errors: -EAGAIN when the peer does not read; -EPIPE when it is gone; -EMSGSIZE over PACKET_MAX.
 * Blocks: never.
 */
int packet_send(int fd, json_t *packet, const int *fds, unsigned n_fds, struct error *err);

/*
 * Receives one control packet: a JSON object with a text "t". The fds are close-on-exec and the
 * caller's; those that are not there are -1.
 *
 * Errors: 1 a packet, 0 the peer has closed; -EAGAIN nothing there; -EBADMSG what is no packet
 * (dropped, fds closed). Blocks: never (the socket is non-blocking).
 */
int packet_receive(int fd, json_t **ret, int ret_fds[static PACKET_FDS_MAX], struct error *err);
