/* SPDX-License-Identifier: MIT */
#include "executor/fetcher.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/list.h"
#include "base/protocol.h"
#include "base/spawn.h"

enum { FD_HELPER_SOCKET = 3, FD_HELPER_JOB_DIR = 4 };

struct fetcher {
	struct fetcher_config config;
	int fd; /* to dut-helper; -1 when it is gone */
	int pidfd;
	sd_event_source *io, *deliver;
	struct list asked; /* calls that the helper works on */
	struct list over;  /* calls with a result, whose done is to run */
	uint64_t last_id;
};

struct call {
	struct list link; /* fetcher.asked, then fetcher.over */
	uint64_t id;
	fetch_done_fn done;
	void *data;
	char reason[24]; /* "" for none */
	struct fetch_result result;
};

static void free_calls(struct list *calls)
{
	while (!list_empty(calls)) {
		struct call *call = CONTAINER_OF(calls->next, struct call, link);

		list_remove(&call->link);
		free(call);
	}
}

/* At the end of its socket it leaves by itself. */
static void drop_helper(struct fetcher *fetcher)
{
	siginfo_t info = { 0 };

	fetcher->fd = close_fd(fetcher->fd);
	if (fetcher->pidfd < 0)
		return;
	/* Unless it is dead already init takes it: nobody waits. */
	(void)waitid(P_PIDFD, (id_t)fetcher->pidfd, &info, WEXITED | WNOHANG);
	fetcher->pidfd = close_fd(fetcher->pidfd);
}

struct fetcher *fetcher_free(struct fetcher *fetcher)
{
	if (!fetcher)
		return NULL;
	free_calls(&fetcher->asked);
	free_calls(&fetcher->over);
	fetcher->io = sd_event_source_disable_unref(fetcher->io);
	fetcher->deliver = sd_event_source_disable_unref(fetcher->deliver);
	drop_helper(fetcher);
	(void)sd_event_unref(fetcher->config.event);
	free(fetcher);
	return NULL;
}

CLEANUP_DEFINE(struct fetcher *, fetcher_free)

int fetcher_pidfd(const struct fetcher *fetcher)
{
	return fetcher->pidfd;
}

/* ---- ends ---- */

static void arm_deliver(struct fetcher *fetcher)
{
	(void)sd_event_source_set_enabled(fetcher->deliver,
					  list_empty(&fetcher->over) ? SD_EVENT_OFF : SD_EVENT_ON);
}

/* Runs one done, which may free the fetcher. */
static int on_deliver(sd_event_source *source, void *data)
{
	struct fetcher *fetcher = data;
	struct call *call;

	(void)source;
	if (!list_empty(&fetcher->over)) {
		call = CONTAINER_OF(fetcher->over.next, struct call, link);
		list_remove(&call->link);
		arm_deliver(fetcher);
		call->done(&call->result, call->data);
		free(call);
	}
	return 0;
}

/* reason is NULL for a success; text is its error. */
static void call_over(struct fetcher *fetcher, struct call *call, const char *reason,
		      const char *text)
{
	if (reason) {
		(void)snprintf(call->reason, sizeof(call->reason), "%s", reason);
		call->result.reason = call->reason;
		(void)error_set(&call->result.error, -EIO, "%s", text);
	}
	list_remove(&call->link);
	list_append(&fetcher->over, &call->link);
	arm_deliver(fetcher);
}

static void all_over(struct fetcher *fetcher, const char *reason, const char *text)
{
	while (!list_empty(&fetcher->asked))
		call_over(fetcher, CONTAINER_OF(fetcher->asked.next, struct call, link), reason,
			  text);
}

static void helper_gone(struct fetcher *fetcher)
{
	fetcher->io = sd_event_source_disable_unref(fetcher->io);
	fetcher->fd = close_fd(fetcher->fd);
	all_over(fetcher, "executor_failed", "dut-helper is gone");
}

/* ---- from the helper ---- */

static struct call *find_call(struct fetcher *fetcher, const json_t *packet)
{
	json_int_t id = json_integer_value(json_object_get(packet, "id"));

	LIST_FOREACH(link, &fetcher->asked) {
		struct call *call = CONTAINER_OF(link, struct call, link);

		if (id > 0 && call->id == (uint64_t)id)
			return call;
	}
	return NULL;
}

/* Whether a helper may give this reason: it cannot name a pattern, a step or the daemon. */
static const char *known_reason(const char *reason)
{
	static const char *const known[] = { "download", "checksum", "bucket", "disk" };

	for (unsigned i = 0; reason && i < ARRAY_SIZE(known); i++)
		if (strcmp(reason, known[i]) == 0)
			return known[i];
	return "executor_failed";
}

static void on_done(struct fetcher *fetcher, struct call *call, const json_t *packet)
{
	const char *reason = json_string_value(json_object_get(packet, "reason"));
	const char *text = json_string_value(json_object_get(packet, "error"));

	if (!json_is_true(json_object_get(packet, "ok"))) {
		call_over(fetcher, call, known_reason(reason), text ? text : "no reason given");
		return;
	}
	call->result.size = (uint64_t)json_integer_value(json_object_get(packet, "size"));
	call->result.seconds = json_number_value(json_object_get(packet, "seconds"));
	call_over(fetcher, call, NULL, NULL);
}

static void on_packet(struct fetcher *fetcher, const json_t *packet)
{
	const char *type = json_string_value(json_object_get(packet, "t"));
	struct call *call = find_call(fetcher, packet);
	json_int_t bytes;

	/* One that was cancelled meanwhile. */
	if (!call)
		return;
	if (strcmp(type, "done") == 0) {
		on_done(fetcher, call, packet);
	} else if (strcmp(type, "progress") == 0 && fetcher->config.progress) {
		bytes = json_integer_value(json_object_get(packet, "progress"));
		fetcher->config.progress((uint64_t)bytes, call->data);
	}
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct fetcher *fetcher = data;
	int fds[PACKET_FDS_MAX], r;
	json_t *packet = NULL;

	(void)source;
	(void)events;
	r = packet_receive(fd, &packet, fds, NULL);
	if (r == 1) {
		for (unsigned i = 0; i < PACKET_FDS_MAX; i++)
			(void)close_fd(fds[i]);
		on_packet(fetcher, packet);
		json_decref(packet);
	} else if (r != -EAGAIN && r != -EBADMSG) {
		helper_gone(fetcher);
	}
	return 0;
}

/* ---- to the helper ---- */

/* Sends a request, to which t is there and id is added. Takes the reference to it. */
/* Bytes as JSON has them: everything over 2^63 is no limit. */
static json_int_t to_json(uint64_t bytes)
{
	return bytes > INT64_MAX ? INT64_MAX : (json_int_t)bytes;
}

static int ask(struct fetcher *fetcher, json_t *request, const int *fds, unsigned n_fds,
	       fetch_done_fn done, void *data, struct error *err)
{
	struct call *call = calloc(1, sizeof(*call));
	int r;

	if (!call || !request) {
		free(call);
		json_decref(request);
		return error_oom(err);
	}
	if (fetcher->fd < 0) {
		free(call);
		json_decref(request);
		return error_set(err, -EPIPE, "dut-helper is gone");
	}
	*call = (struct call){ .id = ++fetcher->last_id, .done = done, .data = data };
	(void)json_object_set_new(request, "id", json_integer((json_int_t)call->id));
	(void)json_object_set_new(request, "min_free",
				  json_integer(to_json(fetcher->config.min_free)));
	r = packet_send(fetcher->fd, request, fds, n_fds, err);
	if (r < 0) {
		free(call);
		return error_prefix(err, r, "dut-helper");
	}
	list_append(&fetcher->asked, &call->link);
	return 0;
}

static json_t *roots_of(const struct fetcher *fetcher)
{
	json_t *roots = fetcher->config.file_roots ? json_array() : json_null();

	for (char *const *root = fetcher->config.file_roots; root && *root; root++)
		(void)json_array_append_new(roots, json_string(*root));
	return roots;
}

int fetcher_download(struct fetcher *fetcher, const char *url, const char *sha256, int out_fd,
		     uint64_t max_bytes, fetch_done_fn done, void *data, struct error *err)
{
	return ask(fetcher,
		   json_pack("{s:s, s:s, s:s?, s:I, s:o}", "t", "download", "url", url, "sha256",
			     sha256, "max_bytes", to_json(max_bytes), "file_roots",
			     roots_of(fetcher)),
		   &out_fd, 1, done, data, err);
}

int fetcher_copy(struct fetcher *fetcher, int from_fd, const char *sha256, int out_fd,
		 uint64_t max_bytes, fetch_done_fn done, void *data, struct error *err)
{
	const int fds[] = { out_fd, from_fd };

	return ask(fetcher,
		   json_pack("{s:s, s:s?, s:I}", "t", "download", "sha256", sha256, "max_bytes",
			     to_json(max_bytes)),
		   fds, ARRAY_SIZE(fds), done, data, err);
}

int fetcher_unpack(struct fetcher *fetcher, int tar_fd, int dir_fd, uint64_t max_bytes,
		   uint64_t max_files, fetch_done_fn done, void *data, struct error *err)
{
	const int fds[] = { tar_fd, dir_fd };

	return ask(fetcher,
		   json_pack("{s:s, s:I, s:I}", "t", "unpack", "max_bytes", to_json(max_bytes),
			     "max_files", to_json(max_files)),
		   fds, ARRAY_SIZE(fds), done, data, err);
}

void fetcher_cancel(struct fetcher *fetcher)
{
	if (fetcher->fd >= 0)
		/* A helper that does not read it learns it from the socket's end. */
		(void)packet_send(fetcher->fd, json_pack("{s:s}", "t", "cancel"), NULL, 0, NULL);
	all_over(fetcher, "cancelled", "cancelled");
}

/* ---- start ---- */

/* Its name, then the folders that it may read; with any, all of them. Ends with NULL. */
static char **make_arguments(char *path, char *const *roots)
{
	static char everything[] = "/";
	size_t count = 0;
	char **argv;

	while (roots && roots[count])
		count++;
	argv = calloc(count + 3, sizeof(*argv));
	if (!argv)
		return NULL;
	argv[0] = path;
	if (roots)
		memcpy(argv + 1, roots, count * sizeof(*argv));
	else
		argv[1] = everything;
	return argv;
}

static int start_helper(struct fetcher *fetcher, struct error *err)
{
	free_ char *path = NULL;
	free_ char **argv = NULL;
	close_ int theirs = -1;
	struct spawn_fd map[2];
	struct spawn_config config = {
		.fds = map,
		.n_fds = fetcher->config.job_dir_fd < 0 ? 1 : 2,
		.new_session = true,
	};
	pid_t pid;
	int pair[2];

	if (asprintf(&path, "%s/dut-helper", fetcher->config.libexec_dir) < 0) {
		path = NULL;
		return error_oom(err);
	}
	argv = make_arguments(path, fetcher->config.file_roots);
	if (!argv)
		return error_oom(err);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_errno(err, "cannot make a socket for dut-helper");
	fetcher->fd = pair[0];
	theirs = pair[1];
	config.path = path;
	config.argv = argv;
	map[0] = (struct spawn_fd){ .from = theirs, .to = FD_HELPER_SOCKET };
	map[1] = (struct spawn_fd){ .from = fetcher->config.job_dir_fd, .to = FD_HELPER_JOB_DIR };
	return spawn(&pid, &fetcher->pidfd, &config, err);
}

int fetcher_new(struct fetcher **ret, const struct fetcher_config *config, struct error *err)
{
	cleanup_(fetcher_freep) struct fetcher *fetcher = calloc(1, sizeof(*fetcher));
	int r;

	if (!fetcher)
		return error_oom(err);
	fetcher->config = *config;
	(void)sd_event_ref(config->event);
	fetcher->fd = fetcher->pidfd = -1;
	list_init(&fetcher->asked);
	list_init(&fetcher->over);
	r = start_helper(fetcher, err);
	if (r < 0)
		return r;
	r = sd_event_add_io(config->event, &fetcher->io, fetcher->fd, EPOLLIN, on_io, fetcher);
	if (r >= 0)
		r = sd_event_add_defer(config->event, &fetcher->deliver, on_deliver, fetcher);
	if (r >= 0)
		r = sd_event_source_set_enabled(fetcher->deliver, SD_EVENT_OFF);
	if (r < 0)
		return error_code(err, r, "cannot watch dut-helper");
	(void)sd_event_source_set_description(fetcher->io, "dut-helper");
	(void)sd_event_source_set_description(fetcher->deliver, "dut-helper's answers");
	*ret = take_ptr(fetcher);
	return 0;
}
