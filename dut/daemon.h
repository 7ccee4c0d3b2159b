/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/error.h"
#include "base/list.h"
#include "dut/access.h"
#include "dut/config.h"
#include "dut/job.h"

/* The root of everything: it owns the configuration, the boards, the jobs and the API. */

struct board;
struct dispatch;
struct fdstore;
struct scopes;
struct filebatch;
struct reload;
struct lab_events;
struct queue;
struct prune;
struct records;
struct token_watch;
struct users;
struct worker;

struct daemon_options {
	const char *config_path, *state_dir, *runtime_dir, *libexec_dir;
};

enum { DAEMON_JOB_LISTS = 1024 };

struct daemon {
	sd_event *event;
	struct config *config;
	char *state_dir, *runtime_dir, *libexec_dir; /* absolute */
	int state_fd, runtime_fd, jobs_fd;
	int state_lock_fd, runtime_lock_fd;
	uint64_t epoch;	  /* + 1 with each start */
	uint64_t next_id; /* of the next job */
	uint64_t started_realtime_us;
	struct records *records;
	struct worker *worker;		/* records, in the order in which they were made */
	struct worker *bulk_worker;	/* what may take long */
	struct fdstore *fdstore;	/* what outlives us */
	struct sandbox_user board_user; /* that QEMU runs as; uid 0: as we do */
	struct scopes *scopes;		/* where who outlives us goes; NULL: stays where we are */
	struct queue *queue;		/* of jobs, and whatever else waits for a DUT */
	struct dispatch *dispatch;
	struct prune *prune;
	struct users *users;
	struct reload *reload;
	struct lab_events *lab_events;
	struct http_server *http;
	int tcp_fds[HTTP_MAX_LISTENERS]; /* of api.listen, until the server has them */
	unsigned n_tcp_fds;
	struct token_watch *token_watch;
	struct access_strangers strangers;
	sd_event_source *stop_timer;   /* set while it stops */
	sd_event_source *save_timer;   /* records that could not be written */
	sd_event_source *sweep;	       /* daemon_sweep() */
	sd_event_source *begin_source; /* begins boards, while some wait for it */
	bool begins_later;	       /* at the start of many boards */
	bool rows_fail;		       /* the database takes none; said */
	struct list boards;	       /* board.link, in the order of the configuration, */
	unsigned n_leaving;	       /* and these behind them, which are configured no more */
	struct list jobs;	       /* job.link, by id: those with something left to do */
	struct list jobs_by_id[DAEMON_JOB_LISTS]; /* job.id_link, in that of its id modulo */
	struct list submissions;		  /* submission.link (submit.c) */
	struct list packings;			  /* packing.link (results.c) */
	struct list waiters;			  /* waiter.link (api-job.c) */
	struct list reservation_calls;		  /* call.link (api-reservation.c) */
};

/*
 * Takes the folders' locks, loads configuration and records, opens the boards and the API. config
 * is taken over.
 *
 * Errors: -EWOULDBLOCK when another dutd has one of the folders.
 */
int daemon_new(struct daemon **ret, sd_event *event, const struct daemon_options *options,
	       struct config *config, struct error *err);

/* Running jobs go on without us; virtual boards that are off and nobody's are let go. */
struct daemon *daemon_free(struct daemon *daemon);

/*
 * Ends the loop: at once, or when the boards whose jobs have just ended are off, which it waits for
 * up to 5 s. A second call ends it at once.
 */
void daemon_stop(struct daemon *daemon);

/* By name or alias, or NULL; also for a name of NULL. */
struct board *daemon_find_board(const struct daemon *daemon, const char *id);
struct job *daemon_find_job(const struct daemon *daemon, uint64_t id);

/* A board's default console is new: it gets the logs of its jobs, for those who read back. */
void daemon_attach_logs(struct daemon *daemon, struct board *board);

/* The same for a board that is new, which gets a job of its own as well that is not over. */
void daemon_attach_jobs(struct daemon *daemon, struct board *board);
/* Puts a job that was found elsewhere into its place in daemon.jobs; it is the daemon's then. */
void daemon_add_job(struct daemon *daemon, struct job *job);

/* Puts a job's record on disk as it is now; done (or NULL) runs when it is safe. */
typedef void (*daemon_commit_fn)(int r, const struct error *err, void *data);
int daemon_commit(struct daemon *daemon, struct job *job, daemon_commit_fn done, void *data,
		  struct error *err);

struct daemon_commit {
	/* What has to be on disk before the record, which is as it was when it was asked for: runs
	 * in the records' thread, and touches data alone. */
	int (*files)(struct filebatch *files, void *data, struct error *err);
	daemon_commit_fn done;
	void (*release)(void *data); /* after done, or at the end of the daemon */
	void *data;
	bool is_new; /* the job's first: a full disk refuses it */
};

/* The same, with more. Release does not run when this fails. */
int daemon_commit_with(struct daemon *daemon, struct job *job, const struct daemon_commit *commit,
		       struct error *err);

/* The same, for a step after which nobody waits: a write that fails is repeated every second. */
void daemon_note(struct daemon *daemon, struct job *job);

/*
 * Forgets the jobs that have ended, from the loop, when nobody needs them any more: they are found
 * in the records. A pointer to one is good until then.
 */
void daemon_sweep(struct daemon *daemon);

/* Looks once more in a second for what ends of jobs have left undone: records, users. */
void daemon_save_later(struct daemon *daemon);

/* A job has got its end: as soon as its record is on disk (or cannot be written) it is told. */
void daemon_tell_end(struct daemon *daemon, struct job *job);

/* A job has got another state: whoever waits for it is told. */
void daemon_job_changed(struct daemon *daemon, struct job *job);
