/* SPDX-License-Identifier: MIT */

/*
 * What a console costs at least that is read, logged, and whose log has a time index: one epoll
 * loop that reads when there is something, and writes it. limit-console LOG INDEX [PATTERNS], with
 * the console as standard input; it ends when the console does. With a file of patterns, one a
 * line, it tries them on each line, as the product does.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/search.h"

enum {
	READ_SIZE = 65536,
	INDEX_STEP_US = 5000, /* as in the product's index */
};

static uint64_t now_us(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static int create(const char *path)
{
	return open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0640);
}

/* One line of the index for what begins at offset, unless the last one is young. */
static int note_time(int index_fd, uint64_t offset, uint64_t *indexed_us)
{
	uint64_t now = now_us();
	char line[64];
	int length;

	if (now - *indexed_us < INDEX_STEP_US)
		return 0;
	*indexed_us = now;
	length = snprintf(line, sizeof(line), "t %" PRIu64 " %" PRIu64 "\n", offset, now);
	return write(index_fd, line, (size_t)length) == length ? 0 : -1;
}

static int copy(int log_fd, int index_fd, struct search *search)
{
	static char buffer[READ_SIZE];
	uint64_t offset = 0, indexed_us = 0;
	struct epoll_event event = { .events = EPOLLIN };
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC);

	if (epoll_fd < 0 || fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK) < 0 ||
	    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &event) < 0)
		return -1;
	for (;;) {
		ssize_t n;

		if (epoll_wait(epoll_fd, &event, 1, -1) < 0 && errno != EINTR)
			return -1;
		n = read(STDIN_FILENO, buffer, sizeof(buffer));
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		/* A pty whose other side is gone says EIO. */
		if (n == 0 || (n < 0 && errno == EIO))
			return 0;
		if (n < 0 || write(log_fd, buffer, (size_t)n) != n ||
		    note_time(index_fd, offset, &indexed_us) < 0)
			return -1;
		if (search)
			search_feed(search, offset, buffer, (size_t)n);
		offset += (uint64_t)n;
	}
}

int main(int argc, char **argv)
{
	static struct search search;
	int log_fd, index_fd;

	if (argc < 3 || argc > 4) {
		(void)fputs("usage: limit-console LOG INDEX [PATTERNS]\n", stderr);
		return 64;
	}
	if (argc > 3)
		search_load(&search, argv[3], SEARCH_PATTERNS_MAX);
	log_fd = create(argv[1]);
	index_fd = create(argv[2]);
	if (log_fd < 0 || index_fd < 0 || copy(log_fd, index_fd, argc > 3 ? &search : NULL) < 0) {
		perror("limit-console");
		return 1;
	}
	return 0;
}
