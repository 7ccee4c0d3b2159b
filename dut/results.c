/* SPDX-License-Identifier: MIT */
#include "dut/results.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/spawn.h"
#include "dut/daemon.h"

/* What dut-fetch expects of `pack`: the request on 0, its answer on 1, the tar to 3, the folder
 * on 4. */
struct packing {
	struct list link; /* daemon.packings, while it has a process */
	struct http_stream *stream;
	int tar_fd, pidfd;
	uint64_t read_us; /* CLOCK_BOOTTIME; when the client took something */
	sd_event_source *readable, *child;
	bool ended, failed; /* the process */
};

static const uint64_t STALLED_US = UINT64_C(10) * 1000000;

/* Its process is gone, and its place is free. */
static void stop_process(struct packing *packing)
{
	list_remove(&packing->link);
	packing->readable = sd_event_source_disable_unref(packing->readable);
	packing->child = sd_event_source_disable_unref(packing->child);
	if (packing->pidfd >= 0 && !packing->ended) {
		(void)pidfd_send_signal(packing->pidfd, SIGKILL, NULL, 0);
		(void)waitid(P_PIDFD, (id_t)packing->pidfd, NULL, WEXITED);
		packing->ended = packing->failed = true;
	}
	packing->pidfd = close_fd(packing->pidfd);
	packing->tar_fd = close_fd(packing->tar_fd);
}

static void packing_free(void *data)
{
	struct packing *packing = data;

	stop_process(packing);
	free(packing);
}

static void packing_freep(struct packing **packing)
{
	if (*packing)
		packing_free(*packing);
}

static ssize_t read_tar(void *data, char *buffer, size_t size)
{
	struct packing *packing = data;
	ssize_t n;

	if (packing->tar_fd < 0)
		return HTTP_STREAM_ABORT; /* it had to make room */
	packing->read_us = clock_now_us();
	n = read(packing->tar_fd, buffer, size);
	if (n > 0)
		return n;
	if (n < 0 && errno == EAGAIN) {
		(void)sd_event_source_set_enabled(packing->readable, SD_EVENT_ONESHOT);
		return 0;
	}
	/* The end of the pipe is the end of the tar only if the process says so: a cut tar must not
	 * look whole. */
	if (!packing->ended)
		return 0;
	return packing->failed ? HTTP_STREAM_ABORT : HTTP_STREAM_END;
}

static int on_readable(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct packing *packing = data;

	(void)source;
	(void)fd;
	(void)events;
	http_stream_wake(packing->stream);
	return 0;
}

static int on_child(sd_event_source *source, const siginfo_t *info, void *data)
{
	struct packing *packing = data;

	(void)source;
	packing->ended = true;
	packing->failed = info->si_code != CLD_EXITED || info->si_status != 0;
	if (packing->stream)
		http_stream_wake(packing->stream);
	return 0;
}

/* bucket/ holds what a job added to it; nothing can write there yet, so it is not among the names.
 */
static int make_request(int *ret_fd, struct error *err)
{
	static const char request[] =
		"{\"files\": [\"result.json\", \"console.log\", \"console.idx\", "
		"\"events.jsonl\"]}";
	close_ int fd = memfd_create("request", MFD_CLOEXEC);
	int r;

	if (fd < 0)
		return error_errno(err, "memfd_create");
	r = file_write_all(fd, request, strlen(request), err);
	if (r < 0)
		return r;
	if (lseek(fd, 0, SEEK_SET) < 0)
		return error_errno(err, "lseek");
	*ret_fd = take_fd(&fd);
	return 0;
}

static int start(struct packing *packing, const struct daemon *daemon, int dir_fd,
		 struct error *err)
{
	char name[] = "dut-fetch", mode[] = "pack";
	char *const argv[] = { name, mode, NULL };
	close_ int request_fd = -1, write_fd = -1, null_fd = -1;
	free_ char *path = NULL;
	int pipes[2], r;
	pid_t pid;

	r = make_request(&request_fd, err);
	if (r < 0)
		return r;
	null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (null_fd < 0 || pipe2(pipes, O_CLOEXEC) < 0)
		return error_errno(err, "pipe");
	packing->tar_fd = pipes[0];
	write_fd = pipes[1];
	(void)fcntl(packing->tar_fd, F_SETFL, O_NONBLOCK);
	if (asprintf(&path, "%s/dut-fetch", daemon->libexec_dir) < 0) {
		path = NULL;
		return error_oom(err);
	}
	const struct spawn_fd fds[] = {
		{ request_fd, 0 }, { null_fd, 1 }, { write_fd, 3 }, { dir_fd, 4 }
	};
	const struct spawn_config config = {
		.path = path, .argv = argv, .fds = fds, .n_fds = ARRAY_SIZE(fds)
	};

	r = spawn(&pid, &packing->pidfd, &config, err);
	if (r < 0)
		return error_prefix(err, r, "cannot pack them");
	r = sd_event_add_child_pidfd(daemon->event, &packing->child, packing->pidfd, WEXITED,
				     on_child, packing);
	if (r >= 0)
		r = sd_event_add_io(daemon->event, &packing->readable, packing->tar_fd, EPOLLIN,
				    on_readable, packing);
	if (r >= 0)
		r = sd_event_source_set_enabled(packing->readable, SD_EVENT_OFF);
	return r < 0 ? error_code(err, r, "cannot pack them") : 0;
}

/* A client that does not read keeps its place only until somebody else needs it. */
static int find_room(struct daemon *daemon, struct error *err)
{
	struct packing *stalled = NULL;
	unsigned count = 0;

	LIST_FOREACH(link, &daemon->packings) {
		struct packing *packing = CONTAINER_OF(link, struct packing, link);

		count++;
		if (!stalled || packing->read_us < stalled->read_us)
			stalled = packing;
	}
	if (count < RESULTS_MAX_PACKED_AT_ONCE)
		return 0;
	if (clock_now_us() - stalled->read_us < STALLED_US)
		return error_set(
			err, -EAGAIN,
			"%d results are being packed already, which is the limit; try again",
			RESULTS_MAX_PACKED_AT_ONCE);
	stop_process(stalled);
	return 0;
}

int results_reply(struct daemon *daemon, struct http_request *request, const struct job *job,
		  struct error *err)
{
	static const struct http_source source = { .read = read_tar, .done = packing_free };
	cleanup_(packing_freep) struct packing *packing = calloc(1, sizeof(*packing));
	close_ int dir_fd = -1;
	struct packing *ours;
	char path[32];
	int r;

	if (!packing)
		return error_oom(err);
	list_init(&packing->link);
	packing->tar_fd = packing->pidfd = -1;
	packing->read_us = clock_now_us();
	(void)snprintf(path, sizeof(path), "%" PRIu64, job->id);
	r = find_room(daemon, err);
	if (r >= 0)
		r = file_open_beneath(&dir_fd, daemon->jobs_fd, path, O_DIRECTORY | O_RDONLY, err);
	if (r >= 0)
		r = start(packing, daemon, dir_fd, err);
	if (r < 0)
		return r;
	ours = take_ptr(packing);
	list_append(&daemon->packings, &ours->link);
	ours->stream = http_reply_stream(request, 200, "application/x-tar", &source, ours);
	return 0;
}
