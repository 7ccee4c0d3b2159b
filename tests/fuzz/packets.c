/* SPDX-License-Identifier: MIT */
#include "tests/fuzz/packets.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"

bool fuzz_line_is(const struct fuzz_part *line, const char *word)
{
	return line->size == strlen(word) && memcmp(line->data, word, line->size) == 0;
}

bool fuzz_line_begins(const struct fuzz_part *line, const char *word, struct fuzz_part *rest)
{
	size_t length = strlen(word);

	if (line->size < length || memcmp(line->data, word, length) != 0)
		return false;
	*rest = (struct fuzz_part){ line->data + length, line->size - length };
	return true;
}

void fuzz_peer_lend(struct fuzz_peer *peer, int fd)
{
	if (peer->n_lent < FUZZ_FDS_MAX)
		peer->lent[peer->n_lent++] = fd;
	else
		(void)close_fd(fd);
}

static void drop_lent(struct fuzz_peer *peer)
{
	while (peer->n_lent > 0)
		(void)close_fd(peer->lent[--peer->n_lent]);
}

void fuzz_peer_close(struct fuzz_peer *peer)
{
	drop_lent(peer);
	peer->fd = close_fd(peer->fd);
}

static void send_packet(struct fuzz_peer *peer, const struct fuzz_part *line)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(peer->lent))] = { 0 };
	struct iovec piece = { .iov_base = (void *)(uintptr_t)line->data, .iov_len = line->size };
	struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1 };

	if (peer->n_lent > 0) {
		struct cmsghdr *header = (struct cmsghdr *)(void *)control;

		message.msg_control = control;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * peer->n_lent);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int) * peer->n_lent);
		memcpy(CMSG_DATA(header), peer->lent, sizeof(int) * peer->n_lent);
	}
	(void)sendmsg(peer->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	drop_lent(peer);
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
	struct fuzz_part number;

	if (fuzz_line_begins(line, "!fds ", &number) && number.size == 1 && number.data[0] >= '0' &&
	    number.data[0] <= '9') {
		drop_lent(peer);
		for (uint8_t n = number.data[0]; n > '0'; n--)
			fuzz_peer_lend(peer, fuzz_file("lent", 4));
		return true;
	}
	if (line->size > 0 && line->data[0] == '!')
		return false;
	send_packet(peer, line);
	if (event)
		fuzz_settle(event);
	drop_answers(peer);
	return true;
}

/* ---- consoles ---- */

static void lend_console(struct fuzz_board *board, struct fuzz_peer *peer)
{
	int console[2], pipes[2];

	assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, console) == 0);
	assert(pipe2(pipes, O_CLOEXEC | O_NONBLOCK) == 0);
	(void)close_fd(board->fd);
	board->fd = console[0];
	fuzz_peer_lend(peer, console[1]);
	fuzz_peer_lend(peer, pipes[0]);
	fuzz_peer_lend(peer, pipes[1]);
	fuzz_peer_lend(peer, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

bool fuzz_board_act(struct fuzz_board *board, struct fuzz_peer *peer, const struct fuzz_part *line)
{
	struct fuzz_part text;

	if (fuzz_line_is(line, "!console")) {
		lend_console(board, peer);
	} else if (fuzz_line_is(line, "!hang up")) {
		board->fd = close_fd(board->fd);
	} else if (fuzz_line_begins(line, "!say ", &text)) {
		(void)send(board->fd, text.data, text.size, MSG_DONTWAIT | MSG_NOSIGNAL);
		(void)send(board->fd, "\r\n", 2, MSG_DONTWAIT | MSG_NOSIGNAL);
	} else {
		return false;
	}
	return true;
}
