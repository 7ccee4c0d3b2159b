/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/protocol.h"
#include "base/spawn.h"
#include "tests/fuzz/daemon.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/packets.h"

/*
 * A hostile executor. The first part of the input is what it says to dutd, a packet a line ("!new"
 * closes the connection and waits for the next one); the others are what it leaves in its job's
 * folder: result.json, console.log, console.idx, started. Then it is gone and so is dutd; the next
 * dutd has to come to an end of the job, whatever there is.
 */

struct executor {
	bool wanted; /* the next program that is started is played by us */
	int listen_fd;
	struct fuzz_peer peer;
};

static struct executor executor = { .listen_fd = -1, .peer.fd = -1 };

static int inherited(const struct spawn_config *config, int number)
{
	for (size_t i = 0; i < config->n_fds; i++)
		if (config->fds[i].to == number)
			return config->fds[i].from;
	abort();
}

static int play_executor(pid_t *ret_pid, int *ret_pidfd, const struct spawn_config *config,
			 struct error *err)
{
	if (!executor.wanted)
		return error_set(err, -ENOENT, "there are no programs here");
	executor.wanted = false;
	executor.listen_fd =
		fcntl(inherited(config, EXECUTOR_FD_CONTROL_SOCKET), F_DUPFD_CLOEXEC, 3);
	assert(listen(executor.listen_fd, 1) == 0);
	assert(write(inherited(config, EXECUTOR_FD_READY), "R", 1) == 1);
	*ret_pid = getpid();
	*ret_pidfd = pidfd_open(getpid(), 0);
	assert(*ret_pidfd >= 0);
	return 0;
}

/* Of sys/pidfd.h: the executor is ourselves. */
int pidfd_send_signal(int pidfd, int number, siginfo_t *info, unsigned flags)
{
	(void)pidfd;
	(void)number;
	(void)info;
	(void)flags;
	return 0;
}

static void accept_dutd(void)
{
	fuzz_peer_close(&executor.peer);
	executor.peer = (struct fuzz_peer){
		.fd = accept4(executor.listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC),
	};
}

static void begin_job(const struct fuzz_daemon *lab, struct job **ret)
{
	struct board *board = fuzz_daemon_board(lab);

	fuzz_daemon_write("state/jobs/3", "job.json", "{}", 2);
	assert(job_new(ret, 3, "job", "alice", 0, "d1", NULL) == 0);
	list_append(&lab->daemon->jobs, &(*ret)->link);
	executor.wanted = true;
	assert(board_start_job(board, *ret, NULL, NULL, NULL) == 0);
	fuzz_settle(lab->event);
	assert(board->lease);
}

static void talk(const struct fuzz_daemon *lab, struct fuzz_part rest)
{
	struct fuzz_part line;

	accept_dutd();
	while (fuzz_next_line(&rest, &line)) {
		if (fuzz_peer_say(&executor.peer, lab->event, &line) ||
		    !fuzz_line_is(&line, "!new"))
			continue;
		fuzz_peer_close(&executor.peer);
		fuzz_settle(lab->event);
		/* Its timer waits for a while until it does so by itself. */
		fuzz_daemon_reconnect(lab);
		accept_dutd();
	}
}

static void leave_files(struct fuzz_part rest)
{
	static const char *const names[] = { "result.json", "console.log", "console.idx",
					     "started" };
	struct fuzz_part part;

	for (unsigned i = 0; i < 4 && fuzz_next_part(&rest, &part); i++)
		if (part.size > 0)
			fuzz_daemon_write("state/jobs/3", names[i], part.data, part.size);
}

/* A job that has ended may be in its record alone. */
static struct job *read_job(void)
{
	free_ char *text = NULL;
	json_auto_t *record = NULL;
	struct job *job;
	size_t length;

	assert(file_read_beneath(&text, &length, fuzz_folder_fd(), "state/jobs/3.json", 1 << 20,
				 NULL) >= 0);
	record = json_loadb(text, length, 0, NULL);
	assert(job_from_record(&job, record, NULL) >= 0);
	return job;
}

static void check_end(const struct fuzz_daemon *lab)
{
	const struct board *board = fuzz_daemon_board(lab);
	struct job *job = read_job();

	assert(job->state == JOB_ENDED && job->reason && job->status < JOB_STATUSES);
	assert(!job->off_pending);
	assert(!board->job && !board->lease && board_is_free(board));
	job_free(job);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_part rest = { data, size }, packets = { data, 0 };
	struct fuzz_daemon lab;
	struct job *job;

	fuzz_begin();
	(void)fuzz_next_part(&rest, &packets);
	fuzz_daemon_on_spawn(play_executor);
	fuzz_daemon_start(&lab);
	begin_job(&lab, &job);
	talk(&lab, packets);
	leave_files(rest);
	fuzz_peer_close(&executor.peer);
	executor.listen_fd = close_fd(executor.listen_fd);
	fuzz_settle(lab.event);
	fuzz_daemon_restart(&lab);
	check_end(&lab);
	fuzz_daemon_end(&lab);
	return 0;
}
