/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <fcntl.h>
#include <sys/eventfd.h>

#include "base/spawn.h"
#include "tests/fuzz/packets.h"

static struct fuzz_peer helper = { .fd = -1 };

struct fuzz_peer *fuzz_helper(void)
{
	return &helper;
}

/* In the place of dut-helper there is the target. */
int spawn(pid_t *ret_pid, int *ret_pidfd, const struct spawn_config *config, struct error *err)
{
	(void)err;
	assert(config->n_fds >= 1 && config->fds[0].to == 3);
	fuzz_peer_close(&helper);
	helper.fd = fcntl(config->fds[0].from, F_DUPFD_CLOEXEC, 3);
	assert(helper.fd >= 0);
	*ret_pid = 0;
	*ret_pidfd = eventfd(0, EFD_CLOEXEC);
	return 0;
}
