/* SPDX-License-Identifier: MIT */
#include "tests/fuzz/packets.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"

/* More than any packet has. */
enum { FDS_MAX = 9 };

bool fuzz_line_is(const struct fuzz_part *line, const char *word)
{
	return line->size == strlen(word) && memcmp(line->data, word, line->size) == 0;
}

static void fill_rights(struct msghdr *message, int fd, unsigned n_fds)
{
	struct cmsghdr *header = CMSG_FIRSTHDR(message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
	for (unsigned i = 0; i < n_fds; i++)
		memcpy(CMSG_DATA(header) + i * sizeof(int), &fd, sizeof(fd));
}

static void send_packet(const struct fuzz_peer *peer, const struct fuzz_part *line)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * FDS_MAX)] = { 0 };
	struct iovec piece = { .iov_base = (void *)(uintptr_t)line->data, .iov_len = line->size };
	struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1 };
	close_ int fd = -1;

	if (peer->n_fds > 0) {
		fd = fuzz_file("lent", 4);
		message.msg_control = control;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * peer->n_fds);
		fill_rights(&message, fd, peer->n_fds);
	}
	(void)sendmsg(peer->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* The fds that come along are not received: the kernel closes them. */
static void drop_answers(const struct fuzz_peer *peer)
{
	char buffer[1024];

	while (recv(peer->fd, buffer, sizeof(buffer), MSG_DONTWAIT) > 0)
		;
}

bool fuzz_peer_say(struct fuzz_peer *peer, sd_event *event, const struct fuzz_part *line)
{
	static const char lend[] = "!fds ";

	if (line->size == strlen(lend) + 1 && memcmp(line->data, lend, strlen(lend)) == 0 &&
	    line->data[strlen(lend)] >= '0' && line->data[strlen(lend)] <= '9') {
		peer->n_fds = (unsigned)(line->data[strlen(lend)] - '0');
		return true;
	}
	if (line->size > 0 && line->data[0] == '!')
		return false;
	send_packet(peer, line);
	peer->n_fds = 0;
	if (event)
		fuzz_settle(event);
	drop_answers(peer);
	return true;
}
