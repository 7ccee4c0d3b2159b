/* SPDX-License-Identifier: MIT */
#include "dut/validator.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/spawn.h"
#include "dut/daemon.h"
#include "dut/words.h"

enum { MAX_OUTPUT = 1 << 20, TIME_LIMIT_S = 5 };

struct validator {
	validator_done_fn done;
	void *data;
	int pidfd, output_fd;
	sd_event_source *child, *output, *timer;
	struct words *words; /* what it says besides */
	char *text;
	size_t length;
	bool too_long, too_slow;
};

struct validator *validator_free(struct validator *validator)
{
	if (!validator)
		return NULL;
	if (validator->child) {
		/* Still running: nobody reads its answer any more. */
		(void)pidfd_send_signal(validator->pidfd, SIGKILL, NULL, 0);
		sd_event_source_disable_unref(validator->child);
		(void)waitid(P_PIDFD, (id_t)validator->pidfd, NULL, WEXITED);
	}
	sd_event_source_disable_unref(validator->output);
	sd_event_source_disable_unref(validator->timer);
	(void)close_fd(validator->pidfd);
	(void)close_fd(validator->output_fd);
	words_free(validator->words);
	free(validator->text);
	free(validator);
	return NULL;
}

CLEANUP_DEFINE(struct validator *, validator_free)

/* Reads what there is; the buffer has room for MAX_OUTPUT. */
static void read_output(struct validator *validator)
{
	for (;;) {
		size_t room = MAX_OUTPUT - validator->length;
		ssize_t n;

		if (room == 0) {
			validator->too_long = true;
			(void)pidfd_send_signal(validator->pidfd, SIGKILL, NULL, 0);
			sd_event_source_set_enabled(validator->output, SD_EVENT_OFF);
			return;
		}
		n = read(validator->output_fd, validator->text + validator->length, room);
		if (n > 0) {
			validator->length += (size_t)n;
		} else {
			if (n == 0)
				sd_event_source_set_enabled(validator->output, SD_EVENT_OFF);
			return;
		}
	}
}

static int on_output(sd_event_source *source, int fd, uint32_t events, void *data)
{
	(void)source;
	(void)fd;
	(void)events;
	read_output(data);
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct validator *validator = data;

	(void)source;
	(void)usec;
	validator->too_slow = true;
	(void)pidfd_send_signal(validator->pidfd, SIGKILL, NULL, 0);
	return 0;
}

static int judge(const struct validator *validator, const siginfo_t *info, const json_t *result,
		 struct error *err)
{
	if (validator->too_slow)
		return error_set(err, -EINVAL, "checking the job file takes longer than %d s",
				 TIME_LIMIT_S);
	if (validator->too_long)
		return error_set(err, -EINVAL, "the check of the job file has too much to say");
	if (info->si_code != CLD_EXITED)
		return error_set(
			err, -EINVAL,
			"the job file cannot be checked: dut-executor was killed by signal %d",
			info->si_status);
	if (info->si_status != 0 || !json_is_object(result))
		return error_set(
			err, -EIO,
			"the job file cannot be checked: dut-executor exited with status %d",
			info->si_status);
	return 0;
}

static int on_child(sd_event_source *source, const siginfo_t *info, void *data)
{
	struct validator *validator = data;
	json_auto_t *result = NULL;
	struct error err = { "" };
	int r;

	(void)source;
	validator->child = sd_event_source_disable_unref(validator->child);
	read_output(validator);
	result = json_loadb(validator->text, validator->length, 0, NULL);
	r = judge(validator, info, result, &err);
	validator->done(r, &err, r < 0 ? NULL : result, validator->data);
	validator_free(validator);
	return 0;
}

/* The whole input lies in an anonymous file: a pipe would have to be fed. */
static int make_input(int *ret_fd, json_t *input, struct error *err)
{
	free_ char *text = json_dumps(input, JSON_COMPACT);
	close_ int fd = memfd_create("job", MFD_CLOEXEC);
	int r;

	json_decref(input);
	if (!text)
		return error_oom(err);
	if (fd < 0)
		return error_errno(err, "memfd_create");
	r = file_write_all(fd, text, strlen(text), err);
	if (r < 0)
		return r;
	if (lseek(fd, 0, SEEK_SET) < 0)
		return error_errno(err, "lseek");
	*ret_fd = take_fd(&fd);
	return 0;
}

static int start_process(struct validator *validator, const struct daemon *daemon, int input_fd,
			 struct error *err)
{
	char name[] = "dut-executor", option[] = "--validate";
	char *const argv[] = { name, option, NULL };
	free_ char *path = NULL;
	close_ int output = -1, words_write = -1;
	const struct words_config words = {
		.event = daemon->event,
		.who = "the check of a job file",
	};
	int pipes[2], words_read, r;
	pid_t pid;

	if (asprintf(&path, "%s/dut-executor", daemon->libexec_dir) < 0) {
		path = NULL;
		return error_oom(err);
	}
	if (pipe2(pipes, O_CLOEXEC) < 0)
		return error_errno(err, "pipe");
	validator->output_fd = pipes[0];
	output = pipes[1];
	(void)fcntl(validator->output_fd, F_SETFL, O_NONBLOCK);

	r = words_pipe(&words_read, &words_write, err);
	if (r >= 0)
		r = words_new(&validator->words, &words, words_read, err);
	if (r < 0)
		return r;

	const struct spawn_fd fds[] = { { input_fd, 0 }, { output, 1 }, { words_write, 2 } };
	const struct spawn_config config = {
		.path = path, .argv = argv, .fds = fds, .n_fds = ARRAY_SIZE(fds)
	};

	r = spawn(&pid, &validator->pidfd, &config, err);
	if (r < 0)
		return error_prefix(err, r, "cannot check the job file: %s", path);
	return 0;
}

static int watch(struct validator *validator, const struct daemon *daemon, struct error *err)
{
	int r;

	r = sd_event_add_child_pidfd(daemon->event, &validator->child, validator->pidfd, WEXITED,
				     on_child, validator);
	if (r >= 0)
		r = sd_event_add_io(daemon->event, &validator->output, validator->output_fd,
				    EPOLLIN, on_output, validator);
	if (r >= 0)
		r = sd_event_add_time_relative(daemon->event, &validator->timer, CLOCK_BOOTTIME,
					       (uint64_t)TIME_LIMIT_S * 1000000, 0, on_timer,
					       validator);
	return r < 0 ? error_code(err, r, "cannot watch the check of the job file") : 0;
}

int validator_start(struct validator **ret, struct daemon *daemon, json_t *input,
		    validator_done_fn done, void *data, struct error *err)
{
	cleanup_(validator_freep) struct validator *validator = calloc(1, sizeof(*validator));
	close_ int input_fd = -1;
	int r;

	r = make_input(&input_fd, input, err);
	if (!validator)
		return error_oom(err);
	validator->pidfd = validator->output_fd = -1;
	validator->done = done;
	validator->data = data;
	validator->text = malloc(MAX_OUTPUT);
	if (r < 0)
		return r;
	if (!validator->text)
		return error_oom(err);
	r = start_process(validator, daemon, input_fd, err);
	if (r >= 0)
		r = watch(validator, daemon, err);
	if (r < 0)
		return r;
	*ret = take_ptr(validator);
	return 0;
}
