/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "dut/board-internal.h"
#include "dut/board.h"
#include "dut/daemon.h"
#include "dut/dispatch.h"
#include "dut/jobuser.h"
#include "dut/lab-events.h"
#include "dut/lease.h"
#include "dut/reservation.h"

/*
 * Who holds a board's lock. When it is ours the board begins, with what an earlier dutd left; when
 * the executor of our job has it, that is taken over; anybody else is watched until it is free.
 */

static const uint64_t LOCK_RETRY_US = 1000000;

static int on_foreign_gone(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct board *board = data;

	(void)source;
	(void)fd;
	(void)events;
	board->foreign.source = sd_event_source_disable_unref(board->foreign.source);
	board_begin(board);
	return 0;
}

/* An executor that is gone has given the lock away: to a process of its user, or over the console
 * to the board itself, which has to go off in any case. */
static void end_what_is_left(struct board *board)
{
	const struct outlet *outlet = board->outlet;

	jobuser_end_processes(board->daemon, board->job);
	if (board->job->off_pending && outlet && outlet_status(outlet)->state != POWER_OFF &&
	    !outlet_switches(outlet))
		(void)outlet_request(board->outlet, OUTLET_OFF, NULL, NULL, NULL, NULL);
}

static int on_foreign_retry(sd_event_source *source, uint64_t usec, void *data)
{
	struct board *board = data;

	(void)source;
	(void)usec;
	if (board->foreign.reason)
		end_what_is_left(board);
	board_begin(board);
	return 0;
}

/* The executor's own record lock on byte 1 names its pid; see dut-executor(8). */
static pid_t find_lock_holder(const struct board *board)
{
	struct flock lock = {
		.l_type = F_WRLCK,
		.l_whence = SEEK_SET,
		.l_start = 1,
		.l_len = 1,
	};
	close_ int fd = openat(board->state_fd, "lock", O_RDWR | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0 || fcntl(fd, F_GETLK, &lock) < 0 || lock.l_type == F_UNLCK)
		return 0;
	return lock.l_pid;
}

static void watch_foreign(struct board *board)
{
	sd_event *event = board->daemon->event;

	if (!board->foreign.since_realtime_us)
		board->foreign.since_realtime_us = clock_realtime_us();
	board->foreign.pid = find_lock_holder(board);
	board->foreign.source = sd_event_source_disable_unref(board->foreign.source);
	board->foreign.timer = sd_event_source_disable_unref(board->foreign.timer);
	board->foreign.pidfd = close_fd(board->foreign.pidfd);
	if (board->foreign.pid > 0)
		board->foreign.pidfd = pidfd_open(board->foreign.pid, 0);
	if (board->foreign.pidfd >= 0 &&
	    sd_event_add_io(event, &board->foreign.source, board->foreign.pidfd, EPOLLIN,
			    on_foreign_gone, board) >= 0 &&
	    !board->foreign.reason)
		return;
	/* What was left behind may say that it is anybody. */
	(void)sd_event_add_time_relative(event, &board->foreign.timer, CLOCK_BOOTTIME,
					 LOCK_RETRY_US, 0, on_foreign_retry, board);
}

void board_lock_is_kept(struct board *board, const char *reason)
{
	board->starting = false;
	lab_look(board->daemon);
	free(board->foreign.reason);
	board->foreign.reason = strdup(reason);
	end_what_is_left(board);
	watch_foreign(board);
	board_tell_starter(board, -EIO, reason);
}

static void forget_foreign(struct board *board)
{
	board->foreign.source = sd_event_source_disable_unref(board->foreign.source);
	board->foreign.timer = sd_event_source_disable_unref(board->foreign.timer);
	board->foreign.pidfd = close_fd(board->foreign.pidfd);
	board->foreign.pid = 0;
	board->foreign.since_realtime_us = 0;
	free(board->foreign.reason);
	board->foreign.reason = NULL;
}

/* The console that is lent comes with the executor's hello; the others are ours. */
void board_adopted(struct board *board)
{
	struct error err;

	log_job(board->config->id, board->job->id, LOG_NOTICE, "goes on, executor pid %d",
		(int)lease_pid(board->lease));
	forget_foreign(board);
	board->starting = board->job->state == JOB_STARTING;
	for (size_t i = 0; i < board->n_lines; i++) {
		line_start(board->lines[i]);
		if (i > 0 && line_connect(board->lines[i], NULL) >= 0 &&
		    line_read(board->lines[i], &err) < 0)
			log_board(board->config->id, LOG_ERR, "console %s: %s",
				  line_name(board->lines[i]), err.text);
	}
	if (board->outlet && outlet_request(board->outlet, OUTLET_READ, NULL, NULL, NULL, &err) < 0)
		log_board(board->config->id, LOG_ERR, "power: %s", err.text);
	dispatch_later(board->daemon);
	daemon_job_changed(board->daemon, board->job);
}

/* The lock is held: by the executor of our job, if its pid is the one that the kernel names. */
static bool adopt(struct board *board)
{
	struct job *job = board->job;
	pid_t pid = find_lock_holder(board);
	struct error err;

	if (board->lease || pid <= 0 || !job ||
	    (job->state != JOB_STARTING && job->state != JOB_RUNNING))
		return false;
	if (lease_adopt(&board->lease, board, job, pid, &err) < 0)
		return false;
	board->foreign.pid = pid;
	board->foreign.since_realtime_us = clock_realtime_us();
	board->starting = true;
	return true;
}

/* To look at a virtual board is to start its process, for which each start of dutd would wait. It
 * has nothing to say before somebody switches it on. */
static bool may_begin_later(const struct board *board)
{
	const char *driver = board->config->power_driver;

	if (!board->daemon->begins_later || board->config->off_at_start || !driver ||
	    !power_driver_is_virtual(driver))
		return false;
	for (size_t i = 0; i < board->n_lines; i++)
		if (line_state(board->lines[i]) != LINE_CLOSED)
			return false;
	return true;
}

void board_begin(struct board *board)
{
	struct job *job = board->job;
	free_ char *reason = NULL;
	struct error err;
	int r;

	r = file_lock(&board->lock_fd, board->state_fd, "lock", &err);
	if (r == -EWOULDBLOCK && adopt(board))
		return;
	if (r < 0) {
		if (!board->foreign.since_realtime_us)
			log_board(board->config->id, LOG_WARNING, "cannot have its lock: %s",
				  err.text);
		watch_foreign(board);
		return;
	}
	reason = take_ptr(board->foreign.reason);
	forget_foreign(board);
	for (size_t i = 0; i < board->n_lines; i++)
		line_start(board->lines[i]);
	if (job && job->state == JOB_ENDED && board->outlet)
		board_switch_off(board);
	else if (job && job->state == JOB_ENDED)
		board_off_is_over(board); /* its power is not configured any more */
	else if (job)
		board_conclude(board, reason);
	else if (board->reservation && board->reservation->stage != RESERVATION_HELD)
		reservation_go_on(board->reservation);
	else if (may_begin_later(board))
		board->begins_later = true;
	else
		board_begin_idle(board);
}

void board_begin_later(struct board *board)
{
	board->begins_later = false;
	/* A job that has come meanwhile has begun what it needs. */
	if (board->lock_fd >= 0 && !board->job && !board->starting)
		board_begin_idle(board);
}
