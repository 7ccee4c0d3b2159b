/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/spawn.h"
#include "cli/cli.h"
#include "cli/validator.h"
#include "cli/view.h"

enum {
	LIMIT_US = 30 * 1000000,
	ANSWER_MAX = 16 * 1024 * 1024,
};

static json_t *target_of(const struct validator_question *question)
{
	json_t *tags;

	if (!question->dut && question->n_tags == 0)
		return json_null();
	tags = json_array();
	for (size_t i = 0; i < question->n_tags; i++)
		(void)json_array_append_new(tags, json_string(question->tags[i]));
	return json_pack("{s:s?, s:o}", "id", question->dut, "tags", tags);
}

static char *write_question(const struct validator_question *question)
{
	json_t *object = json_pack("{s:i, s:s%, s:o, s:[], s:O*, s:b, s:b}", "v", 1, "job",
				   question->job, question->length, "target", target_of(question),
				   "duts", "environ", question->environ, "without_daemon", true,
				   "ignore_deadline", question->ignore_deadline);
	char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;

	json_decref(object);
	return text;
}

/* The question as a file, so that nobody waits for anybody while it is read. */
static int open_question(int *ret_fd, const struct validator_question *question, struct error *err)
{
	free_ char *text = write_question(question);
	close_ int fd = -1;
	int r;

	if (!text)
		return error_set(err, -EINVAL, "the job, a name or a value is not valid UTF-8");
	fd = memfd_create("dut-validate", MFD_CLOEXEC);
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

/* Reads until the end, but not for ever. */
static int read_answer(char **ret, size_t *ret_length, int fd, struct error *err)
{
	uint64_t end_us = clock_now_us() + LIMIT_US;
	free_ char *text = NULL;
	size_t length = 0, space = 0;

	for (;;) {
		struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
		uint64_t now_us = clock_now_us();
		ssize_t n;

		if (now_us >= end_us)
			return error_set(err, -ETIMEDOUT, "it does not answer");
		if (poll(&poll_fd, 1, (int)((end_us - now_us) / 1000 + 1)) <= 0)
			continue;
		if (space - length < 4096) {
			char *larger = realloc(text, space * 2 + 65536);

			if (!larger)
				return error_oom(err);
			text = larger;
			space = space * 2 + 65536;
		}
		n = read(fd, text + length, space - length);
		if (n == 0)
			break;
		if (n < 0 && errno != EINTR)
			return error_errno(err, "its answer");
		if (n > 0)
			length += (size_t)n;
		if (length > ANSWER_MAX)
			return error_set(err, -EBADMSG, "its answer is too long");
	}
	*ret = take_ptr(text);
	*ret_length = length;
	return 0;
}

static int reap(int pidfd, struct error *err)
{
	siginfo_t info = { 0 };

	while (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED) < 0)
		if (errno != EINTR)
			return error_errno(err, "waitid");
	if (info.si_code == CLD_EXITED && info.si_status == 0)
		return 0;
	if (info.si_code == CLD_EXITED)
		return error_set(err, -EBADMSG, "it exited with %d", info.si_status);
	return error_set(err, -EBADMSG, "it was killed by signal %d", info.si_status);
}

static int run(json_t **ret, const char *program, int question_fd, struct error *err)
{
	char name[] = "dut-executor", option[] = "--validate";
	char *argv[] = { name, option, NULL };
	close_ int read_fd = -1, write_fd = -1, pidfd = -1;
	free_ char *text = NULL;
	json_t *answer = NULL;
	size_t length = 0;
	int pipe_fds[2], r, end;
	pid_t pid;

	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return error_errno(err, "pipe");
	read_fd = pipe_fds[0];
	write_fd = pipe_fds[1];
	const struct spawn_fd fds[] = { { question_fd, 0 }, { write_fd, 1 } };
	const struct spawn_config config = {
		.path = program,
		.argv = argv,
		.fds = fds,
		.n_fds = ARRAY_SIZE(fds),
	};

	r = spawn(&pid, &pidfd, &config, err);
	if (r < 0)
		return r;
	(void)close_fd(take_fd(&write_fd));
	r = read_answer(&text, &length, read_fd, err);
	if (r < 0)
		(void)kill(pid, SIGKILL); /* not reaped yet: the number is still its own */
	end = reap(pidfd, r < 0 ? NULL : err);
	if (r >= 0)
		r = end;
	if (r >= 0)
		answer = json_loadb(text, length, 0, NULL);
	if (r >= 0 && !json_is_object(answer))
		r = error_set(err, -EBADMSG, "its answer is not JSON");
	if (r < 0) {
		json_decref(answer);
		return error_prefix(err, r, "%s --validate", program);
	}
	*ret = answer;
	return 0;
}

int validator_ask(json_t **ret, const struct validator_question *question, struct error *err)
{
	const char *dir = question->libexec_dir ? question->libexec_dir : getenv("DUT_LIBEXEC_DIR");
	free_ char *program = NULL;
	close_ int question_fd = -1;
	int r;

	if (!dir || !*dir)
		dir = DUT_LIBEXEC_DIR;
	if (asprintf(&program, "%s/dut-executor", dir) < 0) {
		program = NULL;
		return error_oom(err);
	}
	r = open_question(&question_fd, question, err);
	return r < 0 ? r : run(ret, program, question_fd, err);
}

size_t validator_print_errors(const json_t *errors, const char *file)
{
	free_ char *safe = say_safe(file);
	const json_t *error;
	size_t i;

	json_array_foreach(errors, i, error) {
		json_int_t line = json_integer_value(json_object_get(error, "line"));
		json_int_t column = json_integer_value(json_object_get(error, "column"));
		const char *text = view_text(error, "text");
		free_ char *words = say_safe(text ? text : "not valid");

		(void)fputs(safe ? safe : "?", stderr);
		if (line > 0)
			(void)fprintf(stderr, ":%" JSON_INTEGER_FORMAT, line);
		if (line > 0 && column > 0)
			(void)fprintf(stderr, ":%" JSON_INTEGER_FORMAT, column);
		(void)fprintf(stderr, ": %s\n", words ? words : "out of memory");
	}
	return json_array_size(errors);
}
