/* SPDX-License-Identifier: MIT */
#include "cli/question.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

struct question {
	sd_event_source *source;
	int fd;
	void (*on_answer)(int letter, void *data);
	void *data;
};

static int on_line(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct question *question = data;
	char line[256];
	ssize_t n = read(fd, line, sizeof(line));
	size_t start = 0;

	(void)source;
	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	(void)sd_event_source_set_enabled(question->source, SD_EVENT_OFF);
	while (n > 0 && start + 1 < (size_t)n && (line[start] == ' ' || line[start] == '\t'))
		start++;
	question->on_answer(n > 0 && isalpha((unsigned char)line[start])
				    ? tolower((unsigned char)line[start])
				    : '\0',
			    question->data);
	return 0;
}

int question_new(struct question **ret, sd_event *loop, const char *text,
		 void (*on_answer)(int letter, void *data), void *data, struct error *err)
{
	cleanup_(question_freep) struct question *question = calloc(1, sizeof(*question));
	int r;

	if (!question)
		return error_oom(err);
	question->on_answer = on_answer;
	question->data = data;
	/* An open file of our own, so that O_NONBLOCK surprises nobody. */
	question->fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (question->fd < 0)
		return error_errno(err, "/dev/tty");
	if (write(question->fd, text, strlen(text)) < 0)
		return error_errno(err, "/dev/tty");
	r = sd_event_add_io(loop, &question->source, question->fd, EPOLLIN, on_line, question);
	if (r < 0)
		return error_code(err, r, "/dev/tty");
	(void)sd_event_source_set_description(question->source, "question");
	*ret = take_ptr(question);
	return 0;
}

struct question *question_free(struct question *question)
{
	if (!question)
		return NULL;
	(void)sd_event_source_disable_unref(question->source);
	(void)close_fd(question->fd);
	free(question);
	return NULL;
}
