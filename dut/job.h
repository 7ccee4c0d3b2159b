/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/list.h"
#include "base/protocol.h"
#include "base/sandbox.h"
#include "dut/job-client.h"
#include "dut/moment.h"
#include "dut/queue.h"
#include "dut/viewer.h"

/*
 * What dutd remembers of a job: its record, jobs/<id>.json, which is replaced as a whole at every
 * step. The job's own files lie in the folder jobs/<id>, which its executor writes.
 */

enum job_state { JOB_INVALID, JOB_WAITING, JOB_STARTING, JOB_RUNNING, JOB_ENDED, JOB_STATES };
enum job_event { JOB_COMMIT, JOB_GO, JOB_REQUEUE, JOB_END, JOB_EVENTS };

/* The state after an event, or JOB_INVALID: pure, without fd, clock or log. */
enum job_state job_next(enum job_state state, enum job_event event);

const char *job_state_name(enum job_state state);

enum { JOB_NONCE_SIZE = 33, JOB_MAX_ATTEMPTS = 3, JOB_MAX_TEXT = 1024 };

struct board;

struct job {
	struct list link;    /* daemon.jobs */
	struct list id_link; /* daemon.jobs_by_id */
	struct board *board; /* until the end; NULL when its DUT is not configured any more */

	uint64_t id;
	char *name, *owner;
	char *dut; /* NULL: it waits for one of several */
	uid_t owner_uid;

	char *target; /* what was asked for, {"id", "tags"} as JSON; NULL: not known */
	int priority;
	struct moment queued;	       /* since when it waits */
	uint64_t wait_us;	       /* no longer than this; UINT64_MAX: for ever */
	uint64_t deadline_realtime_us; /* not to be started later; UINT64_MAX: none */
	uint64_t overall_us;	       /* its timeouts.overall; 0: not known */
	struct claim claim;	       /* while it waits (waiting.h) */
	json_t *duts; /* the names that its claim has; from its record, until it is in the queue */

	enum job_state state;
	enum job_state untold;	    /* before an end that is not on disk yet; else JOB_INVALID */
	enum job_state event_state; /* that the lab's events told last, or JOB_INVALID */
	enum job_phase phase;	    /* what the executor last said */
	unsigned attempt;
	char nonce[JOB_NONCE_SIZE]; /* of the present attempt */
	bool off_pending;   /* the board has to be switched off before anybody else gets it */
	json_t *dut_config; /* what its DUT is, since the present attempt was begun; or NULL */
	bool has_console;
	uint64_t console_base; /* of console.log */
	struct {
		bool has_console;
		uint64_t console_base; /* of console.N.log */
	} earlier[JOB_MAX_ATTEMPTS];   /* attempts; that of number N at N - 1 */
	char boot_id[40];	       /* the kernel's, at the start of the present attempt */
	uint64_t submitted_us, started_us, ended_us; /* wall clock, 0 when not yet */

	bool unsaved;	    /* its last record could not be written, or not its row */
	bool closed;	    /* its row says that there is nothing left to do for it */
	unsigned commits;   /* of it that are under way */
	uint64_t pruned_us; /* wall clock: when its files were removed; 0: they were not */
	bool preparing;	    /* its folder is being made: not to be started yet */
	bool cancelled;	    /* committed */
	char *cancel_by, *cancel_why;

	struct job_client client;

	enum job_status status; /* when ended */
	char *reason, *verdict, *message;

	struct sandbox_user user; /* of its own; uid 0: dutd's */
	bool releasing;		  /* of which is being taken back */

	struct viewers viewers; /* of its log and its events */
};

/* dut may be NULL. */
int job_new(struct job **ret, uint64_t id, const char *name, const char *owner, uid_t owner_uid,
	    const char *dut, struct error *err);

/* It has got a DUT. */
int job_set_dut(struct job *job, const char *dut, struct error *err);

/* The wall clock's time at which it is over at the latest; 0: not known. */
uint64_t job_expected_end(const struct job *job);

/* Takes it out of daemon.jobs and of the queue. */
struct job *job_free(struct job *job);

/* A copy that fits into a record, cut at JOB_MAX_TEXT; NULL of NULL, or when memory ran out. */
char *job_copy_text(const char *text);

/* The record as it lies on disk, and back. -EBADMSG for what is no record of ours. */
json_t *job_to_record(const struct job *job);
int job_from_record(struct job **ret, const json_t *record, struct error *err);

/* Whether dutd has nothing left to do for it, as the record says. */
bool job_is_closed(const struct job *job);

/* The API's view: GET /jobs/{id}. */
json_t *job_to_json(const struct job *job);

/* What others may know: an end that is not on disk could still become another one. */
enum job_state job_told_state(const struct job *job);

/* Gives the job its end; false when it has one already (compare and set). message and verdict may
 * be NULL. daemon_tell_end() has to follow. */
bool job_set_end(struct job *job, enum job_status status, const char *reason, const char *verdict,
		 const char *message);

/* Begins a new attempt: state, number, nonce, boot id. It has no console yet; that of the one
 * before is noted as earlier. */
int job_begin_attempt(struct job *job, struct error *err);

struct job_result {
	enum job_status status;
	char *reason, *verdict, *message; /* verdict and message may be NULL */
};

void job_result_done(struct job_result *result);

/*
 * Reads the result.json of a job folder, which a hostile job may have written: bounded, and
 * taken only when all of it holds, id, attempt and nonce first.
 *
 * Errors: -ENOENT when there is none; -EBADMSG when a member is not what dut-job(5) says, or does
 * not fit the others.
 */
int job_read_result(const struct job *job, int dir_fd, struct job_result *ret, struct error *err);
