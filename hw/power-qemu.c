/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/spawn.h"
#include "base/text.h"
#include "hw/drivers.h"
#include "hw/qemu-command.h"
#include "hw/qmp.h"

/*
 * A board that is a QEMU process: a process for each power-on. `prepare` starts it with its CPUs
 * stopped, so that the console can be connected before the guest's first byte (QEMU drops output
 * while nobody is connected); `on` lets it run; `off` ends it. qemu.lock, which the process
 * inherits, is held exactly while it lives: that is what is read back, also by a dutd that did not
 * start it. Its pid is found in qemu.pid, which QEMU writes itself; it is believed only while the
 * lock is held before and after the pidfd was opened.
 */

static const uint64_t START_LIMIT_US = UINT64_C(30) * 1000000; /* until QEMU answers */
static const uint64_t QUIT_LIMIT_US =
	UINT64_C(2) * 1000000; /* from `quit` to its end; then it is killed */

enum { STDERR_TAIL = 160 };

struct power_qemu {
	struct power power;
	int pidfd;	       /* -1: no process known */
	sd_event_source *gone; /* on pidfd */
	bool is_child;
	struct qmp *qmp;
	sd_event_source *timer;
	bool stopped; /* it lives, and has never run */
	bool waits;   /* an operation is to be finished */
	enum power_operation operation;
	int stderr_fd;
	sd_event_source *stderr_source;
	char tail[STDERR_TAIL]; /* the last line that it wrote to stderr */
	size_t tail_length;
};

static struct power_qemu *qemu_of(struct power *power)
{
	return CONTAINER_OF(power, struct power_qemu, power);
}

static void finish(struct power_qemu *qemu, int r, enum power_state state, const char *text)
{
	struct power_result result = { .error = r, .state = state, .verified = r >= 0 };

	if (!qemu->waits)
		return;
	qemu->waits = false;
	(void)sd_event_source_set_enabled(qemu->timer, SD_EVENT_OFF);
	if (text)
		(void)error_set(&result.text, r, "%s", text);
	power_finish(&qemu->power, &result);
}

/* ---- the process ---- */

/* 1: it lives, 0: it does not. */
static int is_alive(const struct power_qemu *qemu, struct error *err)
{
	close_ int fd = -1;
	int r = file_lock(&fd, qemu->power.config->state_dir_fd, "qemu.lock", err);

	return r == -EWOULDBLOCK ? 1 : r < 0 ? r : 0;
}

static void drop_process(struct power_qemu *qemu)
{
	qemu->gone = sd_event_source_disable_unref(qemu->gone);
	qemu->pidfd = close_fd(qemu->pidfd);
	qemu->qmp = qmp_free(qemu->qmp);
	qemu->stderr_source = sd_event_source_disable_unref(qemu->stderr_source);
	qemu->stderr_fd = close_fd(qemu->stderr_fd);
	qemu->stopped = false;
}

/* Keeps the last line: it is what QEMU says before it gives up. */
static void read_stderr(struct power_qemu *qemu)
{
	char buffer[512];
	ssize_t n;

	while (qemu->stderr_fd >= 0 && (n = read(qemu->stderr_fd, buffer, sizeof(buffer))) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			bool begins =
				qemu->tail_length > 0 && qemu->tail[qemu->tail_length - 1] == '\n';

			if (begins)
				qemu->tail_length = 0;
			if (qemu->tail_length < sizeof(qemu->tail) - 1)
				qemu->tail[qemu->tail_length++] = buffer[i];
		}
	}
}

static int on_stderr(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct power_qemu *qemu = data;

	(void)fd;
	read_stderr(qemu);
	if (events & EPOLLHUP)
		(void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
	return 0;
}

static void fail_start(struct power_qemu *qemu, const char *why)
{
	char text[sizeof(((struct error *)0)->text)], tail[STDERR_TAIL * 2];
	size_t length = qemu->tail_length;

	while (length > 0 && (qemu->tail[length - 1] == '\n' || qemu->tail[length - 1] == '\r'))
		length--;
	(void)text_escape(tail, sizeof(tail), qemu->tail, length);
	(void)snprintf(text, sizeof(text), "%s%s%.180s", why, length ? ": " : "", tail);
	finish(qemu, -EIO, POWER_OFF, text);
}

/* Its end, wanted or not. */
static void process_gone(struct power_qemu *qemu)
{
	enum power_operation operation = qemu->operation;

	read_stderr(qemu);
	if (qemu->is_child)
		(void)waitid(P_PIDFD, (id_t)qemu->pidfd, NULL, WEXITED | WNOHANG);
	drop_process(qemu);
	if (!qemu->waits)
		return;
	if (operation != POWER_OP_OFF)
		fail_start(qemu, "QEMU has ended");
	else if (is_alive(qemu, NULL) == 0)
		finish(qemu, 0, POWER_OFF, NULL);
	else
		finish(qemu, -EIO, POWER_ON, "QEMU is gone, but something still holds qemu.lock");
}

static int on_gone(sd_event_source *source, int fd, uint32_t events, void *data)
{
	(void)source;
	(void)fd;
	(void)events;
	process_gone(data);
	return 0;
}

static int watch_process(struct power_qemu *qemu, struct error *err)
{
	int r = sd_event_add_io(qemu->power.config->event, &qemu->gone, qemu->pidfd, EPOLLIN,
				on_gone, qemu);

	if (r < 0)
		return error_code(err, r, "cannot watch QEMU");
	(void)sd_event_source_set_description(qemu->gone, "qemu");
	return 0;
}

static int connect_qmp(struct power_qemu *qemu, struct error *err)
{
	int fd, r;

	r = file_connect_socket(&fd, qemu->power.config->runtime_dir_fd, "qmp.sock", SOCK_STREAM,
				err);
	return r < 0 ? r : qmp_new(&qemu->qmp, qemu->power.config->event, fd, err);
}

/* A QEMU that an earlier dutd started. */
static int adopt(struct power_qemu *qemu, struct error *err)
{
	free_ char *text = NULL;
	uint64_t pid;
	size_t length;
	int r;

	r = file_read_beneath(&text, &length, qemu->power.config->runtime_dir_fd, "qemu.pid", 32,
			      err);
	if (r < 0)
		return r;
	text[strcspn(text, "\n")] = '\0';
	r = text_to_uint64(&pid, text, 1, INT32_MAX, err);
	if (r < 0)
		return error_prefix(err, r, "qemu.pid");
	qemu->pidfd = pidfd_open((pid_t)pid, 0);
	if (qemu->pidfd < 0)
		return error_errno(err, "QEMU's process %" PRIu64, pid);
	qemu->is_child = false;
	if (is_alive(qemu, err) != 1) {
		drop_process(qemu);
		return error_set(err, -ESRCH, "QEMU has just ended");
	}
	r = watch_process(qemu, err);
	if (r < 0)
		drop_process(qemu);
	return r;
}

/* ---- start ---- */

static int spawn_qemu(struct power_qemu *qemu, const struct power_deploy *deploy, int lock_fd,
		      struct error *err)
{
	const struct power_config *config = qemu->power.config;
	cleanup_(qemu_command_done) struct qemu_command command = { 0 };
	close_ int qmp_fd = -1, console_fd = -1, stderr_fd = -1;
	struct spawn_fd fds[8];
	int pipes[2], r;
	pid_t pid;

	r = qemu_command_make(&command, config, deploy, err);
	if (r >= 0)
		r = file_listen_socket(&qmp_fd, config->runtime_dir_fd, "qmp.sock", SOCK_STREAM,
				       0600, err);
	if (r >= 0)
		r = file_listen_socket(&console_fd, config->runtime_dir_fd, "console.sock",
				       SOCK_STREAM, 0600, err);
	if (r < 0)
		return r;
	if (pipe2(pipes, O_CLOEXEC) < 0)
		return error_errno(err, "pipe");
	qemu->stderr_fd = pipes[0];
	stderr_fd = pipes[1];
	(void)fcntl(qemu->stderr_fd, F_SETFL, O_NONBLOCK);

	struct spawn_config spawn_config = {
		.path = command.path, .argv = command.argv, .fds = fds, .new_session = true
	};

	fds[spawn_config.n_fds++] = (struct spawn_fd){ stderr_fd, 1 };
	fds[spawn_config.n_fds++] = (struct spawn_fd){ stderr_fd, 2 };
	fds[spawn_config.n_fds++] = (struct spawn_fd){ lock_fd, QEMU_FD_LOCK };
	fds[spawn_config.n_fds++] = (struct spawn_fd){ qmp_fd, QEMU_FD_QMP };
	fds[spawn_config.n_fds++] = (struct spawn_fd){ console_fd, QEMU_FD_CONSOLE };
	if (deploy && deploy->kernel_fd >= 0)
		fds[spawn_config.n_fds++] = (struct spawn_fd){ deploy->kernel_fd, QEMU_FD_KERNEL };
	if (deploy && deploy->initramfs_fd >= 0)
		fds[spawn_config.n_fds++] =
			(struct spawn_fd){ deploy->initramfs_fd, QEMU_FD_INITRAMFS };
	if (deploy && deploy->dtb_fd >= 0)
		fds[spawn_config.n_fds++] = (struct spawn_fd){ deploy->dtb_fd, QEMU_FD_DTB };
	r = spawn(&pid, &qemu->pidfd, &spawn_config, err);
	return r < 0 ? error_prefix(err, r, "cannot start %s", command.path) : 0;
}

static void wait_for(struct power_qemu *qemu, uint64_t limit_us)
{
	(void)sd_event_source_set_time_relative(qemu->timer, limit_us);
	(void)sd_event_source_set_enabled(qemu->timer, SD_EVENT_ONESHOT);
}

static void on_prepared(int r, const json_t *answer, const struct error *err, void *data);

static int start_qemu(struct power_qemu *qemu, const struct power_deploy *deploy, int lock_fd,
		      struct error *err)
{
	int r;

	qemu->tail_length = 0;
	r = spawn_qemu(qemu, deploy, lock_fd, err);
	if (r >= 0) {
		qemu->is_child = true;
		qemu->stopped = true;
		r = watch_process(qemu, err);
	}
	if (r >= 0)
		r = sd_event_add_io(qemu->power.config->event, &qemu->stderr_source,
				    qemu->stderr_fd, EPOLLIN, on_stderr, qemu);
	if (r >= 0)
		r = connect_qmp(qemu, err);
	if (r >= 0)
		r = qmp_command(qemu->qmp, "query-status", on_prepared, qemu, err);
	if (r < 0) {
		if (qemu->pidfd >= 0)
			(void)pidfd_send_signal(qemu->pidfd, SIGKILL, NULL, 0);
		drop_process(qemu);
		return r;
	}
	wait_for(qemu, START_LIMIT_US);
	return 0;
}

/* ---- the operations ---- */

static void on_running(int r, const json_t *answer, const struct error *err, void *data)
{
	struct power_qemu *qemu = data;

	/* A guest that has powered itself off at once is a board with power, too. */
	if (r < 0)
		finish(qemu, r, POWER_UNKNOWN, err->text);
	else if (json_object_get(answer, "status"))
		finish(qemu, 0, POWER_ON, NULL);
	else
		finish(qemu, -EBADMSG, POWER_UNKNOWN, "QEMU does not say whether it runs");
}

static void on_continued(int r, const json_t *answer, const struct error *err, void *data)
{
	struct power_qemu *qemu = data;
	struct error failure;

	(void)answer;
	if (r < 0) {
		finish(qemu, r, POWER_UNKNOWN, err->text);
		return;
	}
	qemu->stopped = false;
	r = qmp_command(qemu->qmp, "query-status", on_running, qemu, &failure);
	if (r < 0)
		finish(qemu, r, POWER_UNKNOWN, failure.text);
}

static int let_run(struct power_qemu *qemu, struct error *err)
{
	int r = 0;

	if (!qemu->qmp)
		r = connect_qmp(qemu, err);
	if (r >= 0)
		r = qmp_command(qemu->qmp, "cont", on_continued, qemu, err);
	if (r >= 0)
		wait_for(qemu, START_LIMIT_US);
	return r;
}

static void on_prepared(int r, const json_t *answer, const struct error *err, void *data)
{
	struct power_qemu *qemu = data;
	struct error failure;

	(void)answer;
	/* A connection that ended: the process's own end, with its last words, follows. */
	if (r == -EPIPE)
		return;
	if (r >= 0 && qemu->operation == POWER_OP_ON) {
		r = let_run(qemu, &failure);
		err = &failure;
	} else if (r >= 0) {
		finish(qemu, 0, POWER_OFF, NULL);
		return;
	}
	if (r < 0)
		finish(qemu, r, POWER_UNKNOWN, err->text);
}

static int begin_start(struct power_qemu *qemu, const struct power_deploy *deploy,
		       struct error *err)
{
	close_ int lock_fd = -1;
	int r;

	r = file_lock(&lock_fd, qemu->power.config->state_dir_fd, "qemu.lock", err);
	if (r == -EWOULDBLOCK) {
		/* It is on already. */
		if (qemu->pidfd < 0) {
			r = adopt(qemu, err);
			if (r < 0)
				return r;
		}
		if (qemu->operation == POWER_OP_ON)
			return let_run(qemu, err);
		finish(qemu, 0, qemu->stopped ? POWER_OFF : POWER_ON, NULL);
		return 0;
	}
	return r < 0 ? r : start_qemu(qemu, deploy, lock_fd, err);
}

static void on_quit(int r, const json_t *answer, const struct error *err, void *data)
{
	/* Its end is what counts; should it not come, the timer kills it. */
	(void)r;
	(void)answer;
	(void)err;
	(void)data;
}

static int begin_off(struct power_qemu *qemu, struct error *err)
{
	int r = is_alive(qemu, err);

	if (r < 0)
		return r;
	if (r == 0 && qemu->pidfd < 0) {
		finish(qemu, 0, POWER_OFF, NULL);
		return 0;
	}
	if (qemu->pidfd < 0) {
		r = adopt(qemu, err);
		if (r < 0)
			return r;
	}
	if (!qemu->qmp && connect_qmp(qemu, NULL) < 0)
		qemu->qmp = NULL;
	if (!qemu->qmp || qmp_command(qemu->qmp, "quit", on_quit, qemu, NULL) < 0)
		(void)pidfd_send_signal(qemu->pidfd, SIGKILL, NULL, 0);
	wait_for(qemu, QUIT_LIMIT_US);
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct power_qemu *qemu = data;

	(void)source;
	(void)usec;
	if (qemu->pidfd >= 0 && (qemu->operation == POWER_OP_OFF || qemu->stopped))
		(void)pidfd_send_signal(qemu->pidfd, SIGKILL, NULL, 0);
	if (qemu->operation != POWER_OP_OFF)
		fail_start(qemu, "QEMU does not answer within 30 s");
	return 0;
}

static int start(struct power *power, enum power_operation operation,
		 const struct power_deploy *deploy, struct error *err)
{
	struct power_qemu *qemu = qemu_of(power);
	int r;

	qemu->operation = operation;
	qemu->waits = true;
	switch (operation) {
	case POWER_OP_PREPARE:
	case POWER_OP_ON:
		r = begin_start(qemu, deploy, err);
		break;
	case POWER_OP_OFF:
		r = begin_off(qemu, err);
		break;
	case POWER_OP_READ:
	default:
		r = is_alive(qemu, err);
		if (r >= 0)
			finish(qemu, 0, r && !qemu->stopped ? POWER_ON : POWER_OFF, NULL);
		break;
	}
	if (r < 0)
		qemu->waits = false;
	return r < 0 ? r : 0;
}

static int open_qemu(struct power **ret, const struct power_config *config, struct error *err)
{
	struct power_qemu *qemu = calloc(1, sizeof(*qemu));
	int r;

	if (!qemu)
		return error_oom(err);
	qemu->pidfd = qemu->stderr_fd = -1;
	r = sd_event_add_time(config->event, &qemu->timer, CLOCK_BOOTTIME, 0, 0, on_timer, qemu);
	if (r >= 0)
		r = sd_event_source_set_enabled(qemu->timer, SD_EVENT_OFF);
	if (r < 0) {
		sd_event_source_disable_unref(qemu->timer);
		free(qemu);
		return error_code(err, r, "cannot add a timer");
	}
	*ret = &qemu->power;
	return 0;
}

static void close_qemu(struct power *power)
{
	struct power_qemu *qemu = qemu_of(power);

	drop_process(qemu);
	sd_event_source_disable_unref(qemu->timer);
	free(qemu);
}

const struct power_driver power_qemu = {
	.name = "qemu",
	.has_deploy = true,
	.check = qemu_command_check,
	.open = open_qemu,
	.start = start,
	.close = close_qemu,
};
