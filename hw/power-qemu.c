/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "hw/drivers.h"
#include "hw/qemu-command.h"
#include "hw/qemu-process.h"
#include "hw/qmp.h"

/*
 * A board that is a QEMU process: a process for each power-on. `prepare` starts it with its CPUs
 * stopped, so that the console can be connected before the guest's first byte (QEMU drops output
 * while nobody is connected); `on` lets it run; `off` ends it. A guest that switches itself off
 * leaves a process that is silent, as a board without a power button would be: it is ON until it is
 * switched off.
 */

static const uint64_t START_LIMIT_US = UINT64_C(30) * 1000000; /* until QEMU answers */
static const uint64_t QUIT_LIMIT_US =
	UINT64_C(2) * 1000000; /* from `quit` to its end; then it is killed */
static const uint64_t KILL_LIMIT_US = UINT64_C(5) * 1000000; /* for the kernel to end it */

struct power_qemu {
	struct power power;
	struct qemu_process *process; /* NULL: none known */
	struct qmp *qmp;
	sd_event_source *timer;
	bool prepared; /* it lives, and has never run */
	bool killed;
	bool was_prepared; /* by the last operation: what is switched on has to be that */
	bool waits;	   /* an operation is to be finished */
	enum power_operation operation;
	bool replaces;		    /* what was prepared goes; then this is prepared: */
	struct power_deploy deploy; /* fds and cmdline are ours */
};

static const struct power_deploy no_deploy = { .kernel_fd = -1, .initramfs_fd = -1, .dtb_fd = -1 };

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
	qemu->was_prepared = qemu->operation == POWER_OP_PREPARE && r >= 0;
	(void)sd_event_source_set_enabled(qemu->timer, SD_EVENT_OFF);
	if (text)
		(void)error_set(&result.text, r, "%s", text);
	power_finish(&qemu->power, &result);
}

static void wait_for(struct power_qemu *qemu, uint64_t limit_us)
{
	(void)sd_event_source_set_time_relative(qemu->timer, limit_us);
	(void)sd_event_source_set_enabled(qemu->timer, SD_EVENT_ONESHOT);
}

static void drop_process(struct power_qemu *qemu)
{
	qemu->qmp = qmp_free(qemu->qmp);
	qemu->process = qemu_process_free(qemu->process);
	qemu->prepared = qemu->killed = false;
}

static void kill_process(struct power_qemu *qemu)
{
	qemu_process_kill(qemu->process);
	qemu->killed = true;
}

/* ---- what a job deploys, kept while what was prepared before ends ---- */

static void drop_deploy(struct power_qemu *qemu)
{
	(void)close_fd(qemu->deploy.kernel_fd);
	(void)close_fd(qemu->deploy.initramfs_fd);
	(void)close_fd(qemu->deploy.dtb_fd);
	free((void *)(uintptr_t)qemu->deploy.cmdline);
	qemu->deploy = no_deploy;
	qemu->replaces = false;
}

static int copy_fd(int *ret, int fd)
{
	*ret = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return fd < 0 || *ret >= 0 ? 0 : -errno;
}

static int keep_deploy(struct power_qemu *qemu, const struct power_deploy *deploy,
		       struct error *err)
{
	int r;

	drop_deploy(qemu);
	qemu->replaces = true;
	if (!deploy)
		return 0;
	r = copy_fd(&qemu->deploy.kernel_fd, deploy->kernel_fd);
	r = r < 0 ? r : copy_fd(&qemu->deploy.initramfs_fd, deploy->initramfs_fd);
	r = r < 0 ? r : copy_fd(&qemu->deploy.dtb_fd, deploy->dtb_fd);
	if (r >= 0 && deploy->cmdline) {
		qemu->deploy.cmdline = strdup(deploy->cmdline);
		r = qemu->deploy.cmdline ? 0 : -ENOMEM;
	}
	if (r < 0) {
		drop_deploy(qemu);
		return error_code(err, r, "cannot keep what is to be booted");
	}
	return 0;
}

/* ---- asking QEMU ---- */

/* One command over a connection that works; that of an earlier time may have ended. */
static int ask(struct power_qemu *qemu, const char *command, qmp_done_fn done, struct error *err)
{
	const struct power_config *config = qemu->power.config;
	int fd, r = qemu->qmp ? qmp_command(qemu->qmp, command, done, qemu, err) : -EPIPE;

	if (r != -EPIPE)
		return r;
	qemu->qmp = qmp_free(qemu->qmp);
	r = file_connect_socket(&fd, config->runtime_dir_fd, "qmp.sock", SOCK_STREAM, err);
	if (r >= 0)
		r = qmp_new(&qemu->qmp, config->event, fd, err);
	return r < 0 ? r : qmp_command(qemu->qmp, command, done, qemu, err);
}

static const char *status_of(const json_t *answer)
{
	const char *status = json_string_value(json_object_get(answer, "status"));

	return status ? status : "";
}

/* Whether its CPUs wait for `cont`, be it that they never ran. A guest that has crashed or switched
 * itself off does not: there is power all the same. */
static bool is_paused(const char *status)
{
	return strcmp(status, "prelaunch") == 0 || strcmp(status, "paused") == 0;
}

/* A connection that ended: the process's own end, with its last words, follows. */
static bool ends(int r)
{
	return r == -EPIPE;
}

static void on_continued_status(int r, const json_t *answer, const struct error *err, void *data)
{
	struct power_qemu *qemu = data;

	if (ends(r))
		return;
	if (r < 0)
		finish(qemu, r, POWER_UNKNOWN, err->text);
	else if (!status_of(answer)[0] || is_paused(status_of(answer)))
		finish(qemu, -EIO, POWER_UNKNOWN, "QEMU does not run after `cont`");
	else
		finish(qemu, 0, POWER_ON, NULL);
}

static void on_continued(int r, const json_t *answer, const struct error *err, void *data)
{
	struct power_qemu *qemu = data;
	struct error failure;

	(void)answer;
	if (ends(r))
		return;
	if (r >= 0) {
		qemu->prepared = false;
		err = &failure;
		r = ask(qemu, "query-status", on_continued_status, &failure);
	}
	if (r < 0)
		finish(qemu, r, POWER_UNKNOWN, err->text);
}

/* What state it is in, for `prepare` and `on`. */
static void on_status(int r, const json_t *answer, const struct error *err, void *data)
{
	struct power_qemu *qemu = data;
	const char *status = status_of(answer);
	struct error failure;

	if (ends(r))
		return;
	if (r >= 0 && qemu->operation == POWER_OP_ON && is_paused(status)) {
		err = &failure;
		r = ask(qemu, "cont", on_continued, &failure);
	} else if (r >= 0) {
		qemu->prepared = strcmp(status, "prelaunch") == 0;
		finish(qemu, 0, qemu->prepared ? POWER_OFF : POWER_ON, NULL);
		return;
	}
	if (r < 0)
		finish(qemu, r, POWER_UNKNOWN, err->text);
}

static int ask_status(struct power_qemu *qemu, struct error *err)
{
	int r = ask(qemu, "query-status", on_status, err);

	if (r >= 0)
		wait_for(qemu, START_LIMIT_US);
	return r;
}

/* ---- its beginning and its end ---- */

static void on_gone(void *data);

static int start_process(struct power_qemu *qemu, const struct power_deploy *deploy,
			 struct error *err)
{
	int r = qemu_process_start(&qemu->process, qemu->power.config, deploy, on_gone, qemu, err);

	if (r < 0)
		return r;
	qemu->prepared = true;
	r = ask_status(qemu, err);
	if (r < 0) {
		kill_process(qemu);
		drop_process(qemu);
	}
	return r;
}

static void start_again(struct power_qemu *qemu)
{
	struct power_deploy *deploy = &qemu->deploy;
	struct error err;
	int r = start_process(qemu, deploy, &err);

	drop_deploy(qemu);
	if (r < 0)
		finish(qemu, r, POWER_OFF, err.text);
}

static void finish_off(struct power_qemu *qemu)
{
	struct error err;
	int r = qemu_process_is_alive(qemu->power.config, &err);

	if (r < 0)
		finish(qemu, r, POWER_UNKNOWN, err.text);
	else if (r > 0)
		finish(qemu, -EIO, POWER_ON, "QEMU is gone, but something still holds qemu.lock");
	else
		finish(qemu, 0, POWER_OFF, NULL);
}

static void on_gone(void *data)
{
	struct power_qemu *qemu = data;
	struct error err;
	const char *words = qemu_process_last_words(qemu->process);

	(void)error_set(&err, -EIO, "QEMU has ended%s%s", words[0] ? ": " : "", words);
	drop_process(qemu);
	if (!qemu->waits) {
		power_changed(&qemu->power);
		return;
	}
	if (qemu->operation == POWER_OP_OFF)
		finish_off(qemu);
	else if (qemu->replaces)
		start_again(qemu);
	else
		finish(qemu, -EIO, POWER_OFF, err.text);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct power_qemu *qemu = data;
	bool off = qemu->operation == POWER_OP_OFF || qemu->replaces;

	(void)source;
	(void)usec;
	if (off && qemu->killed) {
		drop_deploy(qemu);
		finish(qemu, -ETIMEDOUT, POWER_ON, "QEMU does not end, although it was killed");
		return 0;
	}
	if (off || qemu->prepared)
		kill_process(qemu);
	/* What it may still answer is no answer to the next operation. */
	qemu->qmp = qmp_free(qemu->qmp);
	if (off)
		wait_for(qemu, KILL_LIMIT_US);
	else
		finish(qemu, -ETIMEDOUT, POWER_UNKNOWN, "QEMU does not answer within 30 s");
	return 0;
}

/* ---- the operations ---- */

/* 1: there is a process, known now; 0: there is none, or it is ending. */
static int find_process(struct power_qemu *qemu, struct error *err)
{
	int r = qemu_process_is_alive(qemu->power.config, err);

	if (r <= 0 || qemu->process)
		return r;
	r = qemu_process_adopt(&qemu->process, qemu->power.config, on_gone, qemu, err);
	return r < 0 ? r : 1;
}

static int begin_on(struct power_qemu *qemu, const struct power_deploy *deploy, struct error *err)
{
	int r = find_process(qemu, err);

	if (r < 0)
		return r;
	/* Another one would boot without what the job deploys. */
	if (r == 0 && qemu->operation == POWER_OP_ON && qemu->was_prepared)
		return error_set(err, -EIO, "QEMU has ended before it was switched on");
	if (r == 0 && !qemu->process)
		return start_process(qemu, deploy, err);
	if (r > 0 && (qemu->operation == POWER_OP_ON || !qemu->prepared))
		return ask_status(qemu, err);
	/* What was prepared may be for another job. */
	r = keep_deploy(qemu, deploy, err);
	if (r < 0)
		return r;
	kill_process(qemu);
	wait_for(qemu, KILL_LIMIT_US);
	return 0;
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
	int r = find_process(qemu, err);

	if (r < 0)
		return r;
	if (r == 0 && !qemu->process) {
		finish(qemu, 0, POWER_OFF, NULL);
		return 0;
	}
	if (r > 0 && ask(qemu, "quit", on_quit, NULL) >= 0) {
		wait_for(qemu, QUIT_LIMIT_US);
	} else {
		kill_process(qemu);
		wait_for(qemu, KILL_LIMIT_US);
	}
	return 0;
}

static int begin_read(struct power_qemu *qemu, struct error *err)
{
	int r = qemu_process_is_alive(qemu->power.config, err);

	/* One that an earlier dutd has started is watched from now on; should it not be found, it
	 * lives all the same. */
	if (r > 0 && !qemu->process)
		(void)find_process(qemu, NULL);
	if (r >= 0)
		finish(qemu, 0, r && !qemu->prepared ? POWER_ON : POWER_OFF, NULL);
	return r;
}

static int start(struct power *power, enum power_operation operation,
		 const struct power_deploy *deploy, struct error *err)
{
	struct power_qemu *qemu = qemu_of(power);
	int r = 0;

	/* What is off has no process. */
	qemu->operation = operation == POWER_OP_END ? POWER_OP_OFF : operation;
	qemu->waits = true;
	switch (operation) {
	case POWER_OP_PREPARE:
	case POWER_OP_ON:
		r = begin_on(qemu, deploy, err);
		break;
	case POWER_OP_OFF:
	case POWER_OP_END:
		r = begin_off(qemu, err);
		break;
	case POWER_OP_READ:
		r = begin_read(qemu, err);
		break;
	}
	if (r < 0)
		qemu->waits = false;
	return r < 0 ? r : 0;
}

/* Nobody will come back for one that was only prepared. */
static void release(struct power *power)
{
	struct power_qemu *qemu = qemu_of(power);

	if (qemu->prepared)
		kill_process(qemu);
}

static int open_qemu(struct power **ret, const struct power_config *config, struct error *err)
{
	struct power_qemu *qemu = calloc(1, sizeof(*qemu));
	int r;

	if (!qemu)
		return error_oom(err);
	qemu->deploy = no_deploy;
	r = sd_event_add_time(config->event, &qemu->timer, CLOCK_BOOTTIME, 0, 0, on_timer, qemu);
	if (r >= 0)
		r = sd_event_source_set_enabled(qemu->timer, SD_EVENT_OFF);
	if (r < 0) {
		sd_event_source_disable_unref(qemu->timer);
		free(qemu);
		return error_code(err, r, "cannot add a timer");
	}
	(void)sd_event_source_set_description(qemu->timer, "qemu-limit");
	*ret = &qemu->power;
	return 0;
}

static void close_qemu(struct power *power)
{
	struct power_qemu *qemu = qemu_of(power);

	drop_process(qemu);
	drop_deploy(qemu);
	sd_event_source_disable_unref(qemu->timer);
	free(qemu);
}

static const char *const paths[] = { "firmware", "kernel", "initramfs", NULL };

const struct power_driver power_qemu = {
	.name = "qemu",
	.has_deploy = true,
	.is_virtual = true,
	.paths = paths,
	.check = qemu_command_check,
	.open = open_qemu,
	.start = start,
	.release = release,
	.close = close_qemu,
};
