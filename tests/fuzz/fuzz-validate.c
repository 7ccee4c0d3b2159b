/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <fcntl.h>
#include <jansson.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "executor/description.h"
#include "tests/fuzz/fuzz.h"

/*
 * The question of `dut-executor --validate`: dutd writes it, with a job file, a target and
 * variables of the submitter's in it.
 */

enum { ANSWER_MAX = 64 << 20 };

/* Runs it with fds 0 and 1 of its own, and brings back those that were there. */
static int validate(int question_fd, int answer_fd)
{
	close_ int in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 10);
	close_ int out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 10);
	close_ int words = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
	int code;

	assert(in >= 0 && out >= 0 && words >= 0);
	assert(dup2(question_fd, STDIN_FILENO) == STDIN_FILENO);
	assert(dup2(answer_fd, STDOUT_FILENO) == STDOUT_FILENO);
	/* What is no question is said there. */
	assert(dup2(answer_fd, STDERR_FILENO) == STDERR_FILENO);
	code = validate_main();
	assert(dup2(in, STDIN_FILENO) == STDIN_FILENO);
	assert(dup2(out, STDOUT_FILENO) == STDOUT_FILENO);
	assert(dup2(words, STDERR_FILENO) == STDERR_FILENO);
	return code;
}

/* dutd goes on with the DUTs, or refuses with the errors: one of both has to be there. */
static void check_answer(int answer_fd, const json_t *question)
{
	json_auto_t *answer = NULL;
	free_ char *text = NULL;
	size_t length;

	assert(lseek(answer_fd, 0, SEEK_SET) == 0);
	assert(file_read_fd(&text, &length, answer_fd, ANSWER_MAX, NULL) == 0);
	answer = json_loadb(text, length, 0, NULL);
	assert(json_integer_value(json_object_get(answer, "v")) == 1);
	assert(json_is_array(json_object_get(answer, "duts")));
	assert(json_is_array(json_object_get(answer, "errors")));
	if (!json_is_true(json_object_get(question, "without_daemon")))
		assert(json_array_size(json_object_get(answer, "errors")) > 0 ||
		       json_array_size(json_object_get(answer, "duts")) > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	close_ int question_fd = fuzz_file(data, size), answer_fd = fuzz_file("", 0);
	int code;

	fuzz_begin();
	code = validate(question_fd, answer_fd);
	assert(code == 0 || code == 65);
	if (code == 0) {
		json_auto_t *question = json_loadb((const char *)data, size, JSON_ALLOW_NUL, NULL);

		check_answer(answer_fd, question);
	}
	return 0;
}
