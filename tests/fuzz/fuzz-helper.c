/* SPDX-License-Identifier: MIT */

/*
 * dut-helper as a whole: an executor's requests, and what its dut-fetch says. The input's first
 * part is the requests, a line each; the second comes out of the first program that it starts.
 */

#define main helper_main
int helper_main(int argc, char **argv);
#include "executor/helper.c"
#undef main

#include <assert.h>
#include <sys/socket.h>

#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/packets.h"

static struct fuzz_part said;

/* No program is started: the first is played (its pidfd is our own, and nobody dies), others cannot
 * be. */
int spawn(pid_t *ret_pid, int *ret_pidfd, const struct spawn_config *config, struct error *err)
{
	const struct spawn_fd *out = &config->fds[1];

	assert(config->n_fds >= 3 && out->to == 1);
	if (said.size == 0)
		return error_set(err, -ENOENT, "there are no programs here");
	(void)!write(out->from, said.data, said.size < 4096 ? said.size : 4096);
	said.size = 0;
	*ret_pid = 0;
	*ret_pidfd = pidfd_open(getpid(), 0);
	assert(*ret_pidfd >= 0);
	return 0;
}

/* For ever. */
int fetchbox_helper(int job_dir_fd, const char *fetch_path, char *const *roots, struct error *err)
{
	(void)job_dir_fd;
	(void)fetch_path;
	(void)roots;
	(void)err;
	return 0;
}

/* Of sys/pidfd.h: it would hit ourselves. */
int pidfd_send_signal(int pidfd, int signal, siginfo_t *info, unsigned flags)
{
	(void)pidfd;
	(void)signal;
	(void)info;
	(void)flags;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char name[] = "/nowhere/dut-helper";
	char *argv[] = { name, NULL };
	struct fuzz_part rest = { data, size }, requests = { data, 0 }, line;
	int pair[2], saved = fcntl(FD_EXECUTOR, F_DUPFD_CLOEXEC, 10);
	struct fuzz_peer executor = { 0 };

	fuzz_begin();
	(void)fuzz_next_part(&rest, &requests);
	said = rest;
	assert(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	executor.fd = fcntl(pair[0], F_DUPFD_CLOEXEC, 10);
	/* Either end may be fd 3 itself. */
	if (pair[1] != FD_EXECUTOR)
		assert(dup2(pair[1], FD_EXECUTOR) == FD_EXECUTOR && close(pair[1]) == 0);
	if (pair[0] != FD_EXECUTOR)
		(void)close(pair[0]);
	while (fuzz_next_line(&requests, &line))
		(void)fuzz_peer_say(&executor, NULL, &line);
	(void)shutdown(executor.fd, SHUT_WR);
	assert(helper_main(1, argv) == 0);
	fuzz_peer_close(&executor);
	(void)close(FD_EXECUTOR);
	if (saved >= 0)
		assert(dup2(saved, FD_EXECUTOR) == FD_EXECUTOR);
	(void)close_fd(saved);
	return 0;
}
