/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/error.h"
#include "base/jsontext.h"
#include "base/list.h"
#include "dut/config.h"
#include "dut/flags.h"
#include "dut/job.h"
#include "dut/line.h"
#include "dut/outlet.h"
#include "dut/state.h"

/*
 * A board: its power, its consoles, its lock, and the job that has it. Whoever holds
 * <state>/duts/<dut>/lock owns the board: we while it is idle, starting or cleaning up; the
 * executor during a job.
 */

struct daemon;
struct lease;
struct reservation;

struct board {
	struct list link; /* daemon.boards */
	struct daemon *daemon;
	struct config_dut *config;	 /* as it was last read; a reference */
	struct config_dut *power_config; /* that its outlet was opened with; a reference */
	struct config_dut *present; /* that power and consoles are of at present; a reference */
	char *runtime_path;	    /* <runtime>/duts/<dut> */
	int state_fd, runtime_fd;

	int lock_fd;		     /* -1 while somebody else holds the lock */
	struct outlet *outlet;	     /* NULL: no power configured */
	enum power_state power_seen; /* by the last operation */
	struct line **lines;	     /* the first is the default console */
	size_t n_lines;

	struct job *job;     /* that has the board, until it is switched off; owned by the daemon */
	struct lease *lease; /* with that job's executor */
	bool starting;	     /* from the choice of the board until `go` */
	struct flags flags;
	struct list flag_changes;	 /* flags_change.link (api-flags.c) */
	bool begins_later;		 /* its process is started when dutd serves already */
	struct reservation *reservation; /* by a person who holds it, or NULL */

	bool state_is_told; /* to those who watch the lab's events: */
	enum dut_state told_state;

	struct {
		pid_t pid; /* 0: not known */
		int pidfd;
		sd_event_source *source, *timer;
		uint64_t since_realtime_us;
		char *reason; /* how our own executor ended, when something kept its lock */
	} foreign; /* who holds the lock and is no executor of ours: mostly an earlier dutd's */

	struct {
		bool pending; /* a job has ended, the board is not off yet */
		bool failed;
		uint64_t begun_us; /* CLOCK_BOOTTIME */
		sd_event_source *timer;
	} off;

	struct {
		char text[256]; /* why the end of its job cannot be read; empty: nothing is wrong */
		char *reason;
		sd_event_source *timer;
	} conclude;

	struct {
		bool leaving;	/* it is not configured any more, and goes when nobody has it */
		bool pending;	/* its power or its consoles are not yet those of config */
		bool ended;	/* its process has been ended for that */
		char text[256]; /* why that does not succeed; empty: nothing is wrong */
		sd_event_source *timer;
	} renewal;

	void (*on_started)(int r, const char *reason, void *data); /* whoever submitted the job */
	void *on_started_data;
};

/* The board has a reference to config. */
int board_new(struct board **ret, struct daemon *daemon, struct config_dut *config,
	      struct error *err);
struct board *board_free(struct board *board);

/*
 * What it is by a newer configuration, or NULL: it leaves. What needs nothing of the hardware holds
 * at once; the rest is renewal.pending, or renewal.leaving, until board_renew() can do it.
 */
void board_configure(struct board *board, struct config_dut *config);

/*
 * Does what waits until nobody has the board. 1: it is done, and a board that leaves may be freed;
 * 0: later, dispatch_later() follows when it may be time; negative: it failed, and is tried again.
 */
int board_renew(struct board *board, struct error *err);

/* Whether nothing but board_renew() itself takes time: nobody has it. */
bool board_is_being_renewed(const struct board *board);

/* Connects and reads its consoles; for a board that nobody has. */
void board_read_consoles(struct board *board);

/* Whether it has a console that is not there, and that another board may have had. */
bool board_misses_console(const struct board *board);

/* Whether nobody has the board and nothing goes on with it. */
bool board_is_nobodys(const struct board *board);

/* After all records are loaded: takes the lock, and finishes what an earlier dutd left. */
void board_begin(struct board *board);

/* What board_begin() has left for later, because daemon.begins_later was set. */
void board_begin_later(struct board *board);

enum dut_state board_state(const struct board *board);

/* Whether nobody has it, and a job may. */
bool board_is_idle(const struct board *board);

/* Whether nobody has it because it is retired, or not ready for service; or is idle, or that. */
bool board_is_out_of_service(const struct board *board);
bool board_is_unused(const struct board *board);

/* Whether a job could start now; or soon, because its power is being switched. */
bool board_is_free(const struct board *board);
bool board_is_settling(const struct board *board);

/* Whether it is free for somebody: for anybody, or for the one who has reserved it. */
bool board_is_free_for_somebody(const struct board *board);

/* The same for somebody who may be the one that has reserved it. */
bool board_is_idle_for(const struct board *board, const char *owner, uid_t uid);
bool board_is_free_for(const struct board *board, const char *owner, uid_t uid);
bool board_is_settling_for(const struct board *board, const char *owner, uid_t uid);

/* Whether anybody may switch it off: it is to be off, or held by an executor that nobody talks to.
 */
bool board_may_be_cut(const struct board *board);

/* When whoever holds it will be gone at the latest, by the wall clock; 0: nobody, or not known. */
uint64_t board_expected_end(const struct board *board);

/* Why it is not free, in words that go on after the board's name: "is held by alice (job 17,
 * \"bisect\") until 14:32". */
void board_describe_holder(const struct board *board, char *text, size_t size);

/* Write what the API tells of a board, and of its power alone, with a key in an object. */
void board_write(const struct board *board, const char *key, struct jsontext *json);

/* The same with "config": each value of its configuration, and where it stands. */
void board_write_with_config(const struct board *board, struct jsontext *json);
void board_write_power(const struct board *board, const char *key, struct jsontext *json);

/*
 * Gives a free board to a job. started (or NULL) runs once, from the loop: 0 when its executor is
 * there, else the reason.
 */
int board_start_job(struct board *board, struct job *job,
		    void (*started)(int r, const char *reason, void *data), void *data,
		    struct error *err);

/* A board that was given to a job, which did not get as far as its first commit, is idle again. */
void board_give_back(struct board *board);

/* The committed cancel of its job reaches the executor. */
void board_cancel_job(struct board *board);

/* ---- for lease.c ---- */

/* The executor is there and has its `go`. */
void board_job_runs(struct board *board);

/* The executor of an earlier dutd has been taken over. */
void board_adopted(struct board *board);

/*
 * The executor is gone (or was never there) and the lock is ours again: drains the console, decides
 * the end from what lies in the job's folder, switches off. reason: what the ready pipe said, or
 * why there never was an executor; NULL when it had started.
 */
void board_conclude(struct board *board, const char *reason);

/*
 * Our executor has ended for this reason, and something that it left behind still has the lock. The
 * submitter is told now, the board goes off, and what runs as the job's user is killed, again and
 * again; the job's end comes when the lock is free.
 */
void board_lock_is_kept(struct board *board, const char *reason);
