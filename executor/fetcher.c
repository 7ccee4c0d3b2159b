/* SPDX-License-Identifier: MIT */
#include "executor/fetcher.h"

#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/list.h"
#include "base/protocol.h"
#include "base/spawn.h"

enum { HELPER_FD = 3 };

/* One request whose done has not run. */
struct fetch {
	struct list link; /* fetcher.fetches */
	json_int_t id;
	fetch_done_fn done;
	void *data;
};

struct fetcher {
	struct fetcher_config config;
	int pidfd, fd;
	sd_event_source *source, *defer;
	struct list fetches;
	json_int_t last_id;
	bool gone, cancelled; /* what the deferred dones say */
};

static void kill_helper(struct fetcher *fetcher)
{
	if (fetcher->pidfd < 0)
		return;
	/* It leaves at the end of its socket; one that is stuck is not waited for. */
	(void)pidfd_send_signal(fetcher->pidfd, SIGKILL, NULL, 0);
	(void)waitid(P_PIDFD, (id_t)fetcher->pidfd, NULL, WEXITED);
	fetcher->pidfd = close_fd(fetcher->pidfd);
}

struct fetcher *fetcher_free(struct fetcher *fetcher)
{
	if (!fetcher)
		return NULL;
	sd_event_source_disable_unref(fetcher->source);
	sd_event_source_disable_unref(fetcher->defer);
	LIST_FOREACH_SAFE(link, after, &fetcher->fetches)
		free(CONTAINER_OF(link, struct fetch, link));
	fetcher->fd = close_fd(fetcher->fd);
	(void)close_fd(fetcher->pidfd);
	free(fetcher);
	return NULL;
}

CLEANUP_DEFINE(struct fetcher *, fetcher_free)

int fetcher_pidfd(const struct fetcher *fetcher)
{
	return fetcher->pidfd;
}

static struct fetch *find_fetch(const struct fetcher *fetcher, json_int_t id)
{
	LIST_FOREACH(link, &fetcher->fetches) {
		struct fetch *fetch = CONTAINER_OF(link, struct fetch, link);

		if (fetch->id == id)
			return fetch;
	}
	return NULL;
}

static void finish(struct fetch *fetch, const struct fetch_result *result)
{
	fetch_done_fn done = fetch->done;
	void *data = fetch->data;

	list_remove(&fetch->link);
	free(fetch);
	done(result, data);
}

/* Ends all that is under way, from the loop. done may ask for more: that is not ended. */
static int on_defer(sd_event_source *source, void *data)
{
	struct fetcher *fetcher = data;
	struct fetch_result result = { .reason = fetcher->cancelled ? "cancelled"
								    : "executor_failed" };
	json_int_t last = fetcher->last_id;

	(void)source;
	(void)error_set(&result.error, -ECANCELED, "%s",
			fetcher->cancelled ? "cancelled" : "dut-helper has ended");
	while (!list_empty(&fetcher->fetches)) {
		struct fetch *fetch = CONTAINER_OF(fetcher->fetches.next, struct fetch, link);

		if (fetch->id > last)
			break;
		finish(fetch, &result);
	}
	return 0;
}

static void helper_is_gone(struct fetcher *fetcher)
{
	fetcher->gone = true;
	(void)sd_event_source_set_enabled(fetcher->source, SD_EVENT_OFF);
	(void)sd_event_source_set_enabled(fetcher->defer, SD_EVENT_ONESHOT);
}

static void on_done(struct fetcher *fetcher, const json_t *packet)
{
	static const char *const known[] = { "download", "checksum", "bucket", "disk",
					     "executor_failed" };
	struct fetch *fetch =
		find_fetch(fetcher, json_integer_value(json_object_get(packet, "id")));
	const char *reason = json_string_value(json_object_get(packet, "reason"));
	const char *text = json_string_value(json_object_get(packet, "error"));
	struct fetch_result result = {
		.size = (uint64_t)json_integer_value(json_object_get(packet, "size")),
		.seconds = json_number_value(json_object_get(packet, "seconds")),
	};

	if (!fetch)
		return; /* cancelled */
	if (!json_is_true(json_object_get(packet, "ok"))) {
		result.reason = "executor_failed";
		for (size_t i = 0; reason && i < ARRAY_SIZE(known); i++)
			if (strcmp(reason, known[i]) == 0)
				result.reason = known[i];
		(void)error_set(&result.error, -EIO, "%s", text ? text : "no reason was given");
	}
	finish(fetch, &result);
}

static void on_progress(const struct fetcher *fetcher, const json_t *packet)
{
	const struct fetch *fetch =
		find_fetch(fetcher, json_integer_value(json_object_get(packet, "id")));

	if (fetch && fetcher->config.progress)
		fetcher->config.progress(
			(uint64_t)json_integer_value(json_object_get(packet, "progress")),
			fetch->data);
}

static int on_packet(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct fetcher *fetcher = data;
	int fds[PACKET_FDS_MAX], r;
	json_auto_t *packet = NULL;
	const char *type;

	(void)source;
	(void)events;
	r = packet_receive(fd, &packet, fds, NULL);
	for (unsigned i = 0; i < PACKET_FDS_MAX; i++)
		(void)close_fd(fds[i]);
	if (r != 1) {
		if (r != -EAGAIN && r != -EBADMSG)
			helper_is_gone(fetcher);
		return 0;
	}
	type = json_string_value(json_object_get(packet, "t"));
	if (strcmp(type, "done") == 0)
		on_done(fetcher, packet);
	else if (strcmp(type, "progress") == 0)
		on_progress(fetcher, packet);
	return 0;
}

static int spawn_helper(struct fetcher *fetcher, int helper_fd, struct error *err)
{
	free_ char *path = NULL;
	const struct spawn_fd fds[] = { { helper_fd, HELPER_FD } };
	struct spawn_config config = { .fds = fds, .n_fds = ARRAY_SIZE(fds), .new_session = true };
	pid_t pid;
	int r;

	if (asprintf(&path, "%s/dut-helper", fetcher->config.libexec_dir) < 0) {
		path = NULL;
		return error_oom(err);
	}
	config.path = path;
	config.argv = (char *[]){ path, NULL };
	r = spawn(&pid, &fetcher->pidfd, &config, err);
	return r < 0 ? error_prefix(err, r, "cannot start %s", path) : 0;
}

int fetcher_new(struct fetcher **ret, const struct fetcher_config *config, struct error *err)
{
	cleanup_(fetcher_freep) struct fetcher *fetcher = calloc(1, sizeof(*fetcher));
	close_ int helper_fd = -1;
	int pair[2], r;

	if (!fetcher)
		return error_oom(err);
	fetcher->config = *config;
	fetcher->fd = fetcher->pidfd = -1;
	list_init(&fetcher->fetches);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_errno(err, "socketpair");
	fetcher->fd = pair[0];
	helper_fd = pair[1];
	r = spawn_helper(fetcher, helper_fd, err);
	if (r < 0)
		return r;
	r = sd_event_add_io(config->event, &fetcher->source, fetcher->fd, EPOLLIN, on_packet,
			    fetcher);
	if (r >= 0)
		r = sd_event_add_defer(config->event, &fetcher->defer, on_defer, fetcher);
	if (r >= 0)
		r = sd_event_source_set_enabled(fetcher->defer, SD_EVENT_OFF);
	if (r < 0) {
		kill_helper(fetcher);
		return error_code(err, r, "cannot watch dut-helper");
	}
	(void)sd_event_source_set_description(fetcher->source, "helper");
	*ret = take_ptr(fetcher);
	return 0;
}

/* Takes the reference to request. */
static int ask(struct fetcher *fetcher, json_t *request, const int *fds, unsigned n_fds,
	       fetch_done_fn done, void *data, struct error *err)
{
	struct fetch *fetch = malloc(sizeof(*fetch));
	int r;

	if (!fetch || !request) {
		free(fetch);
		json_decref(request);
		return error_oom(err);
	}
	*fetch = (struct fetch){ .id = ++fetcher->last_id, .done = done, .data = data };
	(void)json_object_set_new(request, "id", json_integer(fetch->id));
	r = packet_send(fetcher->fd, request, fds, n_fds, err);
	if (r < 0) {
		free(fetch);
		return error_prefix(err, r, "dut-helper");
	}
	list_append(&fetcher->fetches, &fetch->link);
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
			     sha256, "max_bytes", (json_int_t)max_bytes, "file_roots",
			     roots_of(fetcher)),
		   &out_fd, 1, done, data, err);
}

int fetcher_copy(struct fetcher *fetcher, int from_fd, const char *sha256, int out_fd,
		 uint64_t max_bytes, fetch_done_fn done, void *data, struct error *err)
{
	const int fds[] = { out_fd, from_fd };

	return ask(fetcher,
		   json_pack("{s:s, s:s?, s:I}", "t", "download", "sha256", sha256, "max_bytes",
			     (json_int_t)max_bytes),
		   fds, 2, done, data, err);
}

int fetcher_unpack(struct fetcher *fetcher, int tar_fd, int dir_fd, uint64_t max_bytes,
		   uint64_t max_files, fetch_done_fn done, void *data, struct error *err)
{
	const int fds[] = { tar_fd, dir_fd };

	return ask(fetcher,
		   json_pack("{s:s, s:I, s:I}", "t", "unpack", "max_bytes", (json_int_t)max_bytes,
			     "max_files", (json_int_t)max_files),
		   fds, 2, done, data, err);
}

void fetcher_cancel(struct fetcher *fetcher)
{
	fetcher->cancelled = true;
	(void)packet_send(fetcher->fd, json_pack("{s:s}", "t", "cancel"), NULL, 0, NULL);
	(void)sd_event_source_set_enabled(fetcher->defer, SD_EVENT_ONESHOT);
}
