/* SPDX-License-Identifier: MIT */
#include "dut/lease.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "dut/board.h"
#include "dut/daemon.h"
#include "dut/jobuser.h"
#include "dut/lab-events.h"
#include "dut/lease-internal.h"
#include "dut/scope.h"

static const uint64_t START_LIMIT_US =
	UINT64_C(15) * 1000000; /* from the spawn to the executor's hello */
static const uint64_t CANCEL_LIMIT_US =
	UINT64_C(5) * 1000000; /* from the cancel to its end; then it is killed */
static const uint64_t CONNECT_RETRY_US = 200000;
static const uint64_t OVERALL_SLACK_US = UINT64_C(10) * 1000000;
static const uint64_t ADOPT_RETRY_US = 1000000;

/* Nobody answers a loan any more: whoever's `on` waits for it, it does not come. */
static void release_outlet(struct lease *lease)
{
	struct outlet *outlet = lease->board->outlet;
	struct error err;

	outlet_abandon(outlet, lease);
	if (outlet_waits(outlet)) {
		(void)error_set(&err, -ECANCELED, "the executor that was lent the console is gone");
		outlet_continue(outlet, -ECANCELED, &err);
	}
}

struct lease *lease_free(struct lease *lease)
{
	if (!lease)
		return NULL;
	if (lease->board->outlet)
		release_outlet(lease);
	scope_move_forget(lease->move);
	sd_event_source_disable_unref(lease->child_source);
	sd_event_source_disable_unref(lease->ready_source);
	sd_event_source_disable_unref(lease->control_source);
	sd_event_source_disable_unref(lease->timer);
	sd_event_source_disable_unref(lease->kill_timer);
	sd_event_source_disable_unref(lease->overall_timer);
	sd_event_source_disable_unref(lease->console_timer);
	fdstore_put(lease->board->daemon->fdstore, &lease->words_slot, -1);
	words_free(lease->words);
	(void)close_fd(lease->words_fd);
	(void)close_fd(lease->pidfd);
	(void)close_fd(lease->ready_fd);
	(void)close_fd(lease->control_fd);
	json_decref(lease->answer);
	free(lease);
	return NULL;
}

CLEANUP_DEFINE(struct lease *, lease_free)

pid_t lease_pid(const struct lease *lease)
{
	return lease->pid;
}

bool lease_is_answering(const struct lease *lease)
{
	return lease->greeted && lease->control_fd >= 0;
}

/* ---- the end ---- */

static const char *describe_exit(const siginfo_t *info, char *text, size_t size)
{
	if (info->si_code == CLD_EXITED)
		(void)snprintf(text, size, "the executor exited with status %d", info->si_status);
	else
		(void)snprintf(text, size, "the executor was killed by signal %d (%s)",
			       info->si_status, strsignal(info->si_status));
	return text;
}

/* The process is gone; reason says how, unless it has said more itself. */
static void lease_ended(struct lease *lease, char reason[static READY_REASON_MAX + 1])
{
	struct board *board = lease->board;
	struct error err;

	if (lease->reason[0])
		(void)snprintf(reason, READY_REASON_MAX + 1, "%s", lease->reason);
	board->lease = lease_free(lease);
	lab_look(board->daemon);
	if (file_lock(&board->lock_fd, board->state_fd, "lock", &err) < 0) {
		log_board(board->config->id, LOG_ERR,
			  "the executor is gone, but something still has its lock: %s", err.text);
		board_lock_is_kept(board, reason);
		return;
	}
	board_conclude(board, reason);
}

static int on_child(sd_event_source *source, const siginfo_t *info, void *data)
{
	struct lease *lease = data;
	char reason[READY_REASON_MAX + 1];

	(void)source;
	/* What it said before it went: its `end`, the reason on its ready pipe. */
	lease_drain_control(lease);
	lease_read_ready(lease);
	(void)describe_exit(info, reason, sizeof(reason));
	if (lease->going && (info->si_code != CLD_EXITED || info->si_status != 0))
		log_job(lease->board->config->id, lease->job->id, LOG_WARNING, "%s",
			lease->reason[0] ? lease->reason : reason);
	lease_ended(lease, reason);
	return 0;
}

/* Nobody can tell how the executor of an earlier dutd ended: its result does. */
static int on_adopted_gone(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct lease *lease = data;
	char reason[READY_REASON_MAX + 1] = "the executor died without a result";

	(void)source;
	(void)fd;
	(void)events;
	lease_drain_control(lease);
	lease_ended(lease, reason);
	return 0;
}

void lease_kill(struct lease *lease, const char *why)
{
	log_job(lease->board->config->id, lease->job->id, LOG_WARNING, "killing the executor: %s",
		why);
	if (!lease->reason[0])
		(void)snprintf(lease->reason, sizeof(lease->reason), "%s", why);
	(void)pidfd_send_signal(lease->pidfd, SIGKILL, NULL, 0);
}

/* Not the executor that it should be. One of an earlier dutd may be another job's: it lives on. */
void lease_refuse(struct lease *lease, const char *why)
{
	if (!lease->adopted)
		lease_kill(lease, why);
	else if (!lease->complained)
		log_job(lease->board->config->id, lease->job->id, LOG_ERR,
			"pid %d is not taken over: %s", (int)lease->pid, why);
	lease->complained = true;
}

/*
 * An executor keeps its own limits. One that hangs does not, and nobody may be there to cancel its
 * job: it is ended when no job of this lab may still run.
 */
static int on_overall(sd_event_source *source, uint64_t usec, void *data)
{
	(void)source;
	(void)usec;
	lease_kill(data, "it has not ended within limits.overall and timeouts.infra_teardown");
	return 0;
}

static int watch_overall(struct lease *lease)
{
	const struct config *config = lease->board->daemon->config;
	int r = sd_event_add_time_relative(
		lease->board->daemon->event, &lease->overall_timer, CLOCK_BOOTTIME,
		config->limits.overall_us + config->infra_teardown_us + OVERALL_SLACK_US, 1000000,
		on_overall, lease);

	if (r >= 0)
		(void)sd_event_source_set_description(lease->overall_timer, "executor-overall");
	return r;
}

/* ---- the start ---- */

void lease_read_ready(struct lease *lease)
{
	char buffer[READY_REASON_MAX + 1];
	ssize_t n;

	if (lease->ready_fd < 0)
		return;
	n = read(lease->ready_fd, buffer, READY_REASON_MAX);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	lease->ready_source = sd_event_source_disable_unref(lease->ready_source);
	lease->ready_fd = close_fd(lease->ready_fd);
	if (n == 1 && buffer[0] == 'R')
		lease->ready = true;
	else if (n > 0) {
		buffer[n] = '\0';
		(void)snprintf(lease->reason, sizeof(lease->reason), "%s", buffer);
	}
}

static int on_connect_retry(sd_event_source *source, uint64_t usec, void *data);

/* The executor listens once it is ready. A connection that broke is made anew: it is one at a time
 * for it, too. */
void lease_connect(struct lease *lease)
{
	struct ucred peer;
	socklen_t length = sizeof(peer);
	struct error err;
	int r;

	r = file_connect_socket(&lease->control_fd, lease->board->runtime_fd, "control.sock",
				SOCK_SEQPACKET, &err);
	if (r >= 0 && (getsockopt(lease->control_fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0 ||
		       peer.pid != lease->pid)) {
		lease->control_fd = close_fd(lease->control_fd);
		lease_refuse(lease, "somebody else listens on its control socket");
		return;
	}
	if (r >= 0)
		r = lease_greet(lease, &err);
	if (r >= 0) {
		/* Its hello is awaited no longer than the rest of its start. */
		(void)sd_event_source_set_time(lease->timer, lease->begun_us + START_LIMIT_US);
		(void)sd_event_source_set_enabled(lease->timer, SD_EVENT_ONESHOT);
		return;
	}
	if (!lease->complained)
		log_job(lease->board->config->id, lease->job->id, LOG_WARNING, "control.sock: %s",
			err.text);
	lease->complained = true;
	lease_reconnect_later(lease);
}

void lease_reconnect_later(struct lease *lease)
{
	(void)sd_event_source_set_time_relative(lease->timer, CONNECT_RETRY_US);
	(void)sd_event_source_set_enabled(lease->timer, SD_EVENT_ONESHOT);
}

/* One that is stopped may go on: its hello is waited for, for a long time. */
static void await_adoption(struct lease *lease)
{
	struct board *board = lease->board;
	uint64_t silent_us = clock_now_us() - lease->begun_us;

	if (silent_us >= board->daemon->config->executor_us) {
		lease_kill(lease, "it has not answered for timeouts.executor");
		return;
	}
	if (silent_us >= START_LIMIT_US && board->starting) {
		log_job(board->config->id, lease->job->id, LOG_ERR,
			"its executor, pid %d, does not answer", (int)lease->pid);
		board->starting = false;
		lab_look(board->daemon);
	}
	if (lease->control_fd < 0)
		lease_connect(lease);
	(void)sd_event_source_set_time_relative(lease->timer, ADOPT_RETRY_US);
	(void)sd_event_source_set_enabled(lease->timer, SD_EVENT_ONESHOT);
}

static int on_connect_retry(sd_event_source *source, uint64_t usec, void *data)
{
	struct lease *lease = data;

	(void)source;
	(void)usec;
	if (lease->adopted && !lease->greeted)
		await_adoption(lease);
	else if (!lease->greeted && clock_now_us() - lease->begun_us >= START_LIMIT_US)
		lease_kill(lease, "it did not become ready within 15 s");
	else if (lease->ready && lease->control_fd < 0)
		lease_connect(lease);
	return 0;
}

static int on_ready(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct lease *lease = data;

	(void)source;
	(void)fd;
	(void)events;
	lease_read_ready(lease);
	if (lease->ready)
		lease_connect(lease);
	return 0; /* a reason: its end follows */
}

static int watch(struct lease *lease, struct error *err)
{
	sd_event *event = lease->board->daemon->event;
	int r;

	r = sd_event_add_time_relative(event, &lease->timer, CLOCK_BOOTTIME, START_LIMIT_US, 0,
				       on_connect_retry, lease);
	if (r >= 0)
		r = sd_event_add_io(event, &lease->ready_source, lease->ready_fd, EPOLLIN, on_ready,
				    lease);
	if (r >= 0)
		r = sd_event_add_child_pidfd(event, &lease->child_source, lease->pidfd, WEXITED,
					     on_child, lease);
	if (r >= 0)
		r = watch_overall(lease);
	if (r >= 0)
		r = lease_listen(lease, NULL);
	if (r < 0)
		return error_code(err, r, "cannot watch the executor");
	(void)sd_event_source_set_description(lease->timer, "executor-start");
	(void)sd_event_source_set_description(lease->ready_source, "executor-ready");
	(void)sd_event_source_set_description(lease->child_source, "executor");
	return 0;
}

int lease_start(struct lease **ret, struct board *board, struct job *job, struct error *err)
{
	cleanup_(lease_freep) struct lease *lease = calloc(1, sizeof(*lease));
	int r;

	if (!lease)
		return error_oom(err);
	*lease = (struct lease){
		.board = board,
		.job = job,
		.pidfd = -1,
		.words_fd = -1,
		.ready_fd = -1,
		.control_fd = -1,
		.begun_us = clock_now_us(),
	};
	r = lease_spawn(lease, err);
	if (r < 0)
		return r;
	/* From here on the lock is the executor's: we close our copy and never call LOCK_UN. */
	board->lock_fd = close_fd(board->lock_fd);
	r = watch(lease, err);
	if (r < 0) {
		/* Without a watch it would be forgotten; the board is taken back when the lock is
		 * free. */
		(void)pidfd_send_signal(lease->pidfd, SIGKILL, NULL, 0);
		(void)waitid(P_PIDFD, (id_t)lease->pidfd, NULL, WEXITED);
		(void)file_lock(&board->lock_fd, board->state_fd, "lock", NULL);
		return r;
	}
	*ret = take_ptr(lease);
	return 0;
}

/* ---- adoption ---- */

int lease_adopt(struct lease **ret, struct board *board, struct job *job, pid_t pid,
		struct error *err)
{
	cleanup_(lease_freep) struct lease *lease = calloc(1, sizeof(*lease));
	sd_event *event = board->daemon->event;
	int r;

	if (!lease)
		return error_oom(err);
	*lease = (struct lease){
		.board = board,
		.job = job,
		.pid = pid,
		.pidfd = pidfd_open(pid, 0),
		.adopted = true,
		.ready = true,
		.words_fd = -1,
		.ready_fd = -1,
		.control_fd = -1,
		.begun_us = clock_now_us(),
	};
	if (lease->pidfd < 0)
		return error_errno(err, "pid %d", (int)pid);
	r = sd_event_add_io(event, &lease->child_source, lease->pidfd, EPOLLIN, on_adopted_gone,
			    lease);
	if (r >= 0)
		r = sd_event_add_time(event, &lease->timer, CLOCK_BOOTTIME, 0, 0, on_connect_retry,
				      lease);
	if (r >= 0)
		r = watch_overall(lease);
	if (r >= 0)
		r = lease_listen(lease, NULL);
	if (r < 0)
		return error_code(err, r, "cannot watch the executor");
	(void)sd_event_source_set_description(lease->child_source, "executor");
	(void)sd_event_source_set_description(lease->timer, "executor-adoption");
	*ret = take_ptr(lease);
	return 0;
}

/* ---- cancel ---- */

static int on_kill_timer(sd_event_source *source, uint64_t usec, void *data)
{
	(void)source;
	(void)usec;
	lease_kill(data, "it did not leave within 5 s of the cancel");
	return 0;
}

void lease_cancel(struct lease *lease)
{
	if (!lease->kill_timer)
		(void)sd_event_add_time_relative(lease->board->daemon->event, &lease->kill_timer,
						 CLOCK_BOOTTIME, CANCEL_LIMIT_US, 0, on_kill_timer,
						 lease);
	lease_send_cancel(lease);
}
