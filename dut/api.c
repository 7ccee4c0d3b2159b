/* SPDX-License-Identifier: MIT */
#include "dut/api.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/clock.h"
#include "base/log.h"
#include "dut/daemon.h"
#include "dut/jobuser.h"
#include "dut/submit.h"

enum {
	MAX_BODY = 64 << 10,
	MAX_HELD = 64 << 20,	   /* bytes of bodies and answers in memory */
	RESERVED_CONNECTIONS = 16, /* for root and dutd's own user */
	IDLE_TIMEOUT_S = 30,
	FDS_OF_CLIENT = 2, /* a socket, and the file that it reads */
	FDS_OF_DUT = 32,
	FDS_OF_OURS = 128,
};

unsigned api_status(int r)
{
	static const struct {
		int code;
		unsigned status;
	} table[] = {
		{ EINVAL, 400 }, { EBADMSG, 400 }, { EACCES, 403 }, { EPERM, 403 },
		{ ENOENT, 404 }, { EBUSY, 409 },   { E2BIG, 413 },  { EFBIG, 413 },
		{ EAGAIN, 429 }, { EIO, 502 },	   { ENODEV, 503 }, { ETIMEDOUT, 504 },
		{ ENOSPC, 507 }, { EDQUOT, 507 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (r == -table[i].code)
			return table[i].status;
	return 500;
}

bool api_is_one_of(const char *word, const char *const *words)
{
	for (; *words; words++)
		if (strcmp(word, *words) == 0)
			return true;
	return false;
}

/* ---- who asks ---- */

/* A request that waits for the name of its peer. */
struct named_call {
	struct daemon *daemon;
	struct http_request *request;
	http_handler_fn handle;
};

static void on_unnamed_gone(void *data)
{
	struct named_call *call = data;

	users_forget(call->daemon->users, call);
	free(call);
}

static void on_named(void *data)
{
	struct named_call call = *(struct named_call *)data;

	free(data);
	http_request_on_gone(call.request, NULL, NULL);
	call.handle(call.request, call.daemon);
}

/* Handles a request when its peer's name is known, or will not be. */
static void with_name(struct http_request *request, struct daemon *daemon, http_handler_fn handle)
{
	uid_t uid = http_request_peer(request)->uid;
	char name[API_NAME_SIZE];
	struct named_call *call;

	if (users_name(daemon->users, uid, name)) {
		handle(request, daemon);
		return;
	}
	call = malloc(sizeof(*call));
	if (call)
		*call = (struct named_call){ daemon, request, handle };
	/* Without a look-up uid:N has to do. */
	if (!call || users_ask(daemon->users, uid, on_named, call, NULL) < 0) {
		free(call);
		handle(request, daemon);
		return;
	}
	http_request_on_gone(request, on_unnamed_gone, call);
}

static void named_submit(struct http_request *request, void *data)
{
	with_name(request, data, submit_handle);
}

static void named_job_cancel(struct http_request *request, void *data)
{
	with_name(request, data, api_job_cancel);
}

static void named_dut_cancel(struct http_request *request, void *data)
{
	with_name(request, data, api_dut_cancel);
}

void api_peer_name(const struct daemon *daemon, const struct http_request *request,
		   char name[static API_NAME_SIZE])
{
	(void)users_name(daemon->users, http_request_peer(request)->uid, name);
}

bool api_peer_is_admin(const struct daemon *daemon, const struct http_request *request)
{
	uid_t uid = http_request_peer(request)->uid;
	char name[API_NAME_SIZE];

	if (uid == 0 || uid == geteuid())
		return true;
	api_peer_name(daemon, request, name);
	return daemon->config->admins &&
	       api_is_one_of(name, (const char *const *)daemon->config->admins);
}

static void api_root_status(struct http_request *request, void *data)
{
	const struct daemon *daemon = data;
	char started[CLOCK_ISO_SIZE];
	json_int_t duts = 0, unfinished = 0;

	LIST_FOREACH(link, &daemon->boards)
		duts++;
	LIST_FOREACH(link, &daemon->jobs)
		unfinished += CONTAINER_OF(link, struct job, link)->state != JOB_ENDED;
	http_reply_json(request, 200,
			json_pack("{s:s, s:I, s:I, s:s, s:I, s:I, s:o}", "version", DUT_VERSION,
				  "pid", (json_int_t)getpid(), "epoch", (json_int_t)daemon->epoch,
				  "started", clock_format_iso(started, daemon->started_realtime_us),
				  "duts", duts, "jobs_unfinished", unfinished,
				  "protections_missing", jobuser_protections_missing(daemon)));
}

static struct http_route routes[] = {
	{ .method = "GET", .path = "/api/v1/status", .handle = api_root_status },
	{ .method = "GET", .path = "/api/v1/duts", .handle = api_duts },
	{ .method = "GET", .path = "/api/v1/dut/{id}", .handle = api_dut },
	{ .method = "GET", .path = "/api/v1/dut/{id}/power", .handle = api_power_get },
	{ .method = "PUT", .path = "/api/v1/dut/{id}/power", .handle = api_power_put },
	{ .method = "GET", .path = "/api/v1/dut/{id}/console", .handle = api_console },
	{ .method = "POST", .path = "/api/v1/dut/{id}/cancel_job", .handle = named_dut_cancel },
	{ .method = "GET", .path = "/api/v1/jobs", .handle = api_jobs },
	{ .method = "POST",
	  .path = "/api/v1/jobs",
	  .handle = named_submit,
	  .admit = submit_admit,
	  .max_active = SUBMIT_MAX },
	{ .method = "GET", .path = "/api/v1/jobs/{id}", .handle = api_job },
	{ .method = "GET", .path = "/api/v1/jobs/{id}/log", .handle = api_job_log },
	{ .method = "GET", .path = "/api/v1/jobs/{id}/events", .handle = api_job_events },
	{ .method = "GET", .path = "/api/v1/jobs/{id}/results", .handle = api_job_results },
	{ .method = "POST", .path = "/api/v1/jobs/{id}/cancel", .handle = named_job_cancel },
	{ .path = NULL },
};

/* As many as are configured and the process may have fds for: boards and jobs come first. */
static unsigned count_connections(const struct daemon *daemon)
{
	uint64_t wanted = daemon->config->limits.connections;
	uint64_t needed = FDS_OF_OURS + FDS_OF_DUT * (uint64_t)daemon->config->n_duts;
	struct rlimit fds;
	uint64_t possible;

	if (getrlimit(RLIMIT_NOFILE, &fds) < 0)
		return (unsigned)wanted;
	possible = fds.rlim_cur > needed ? (fds.rlim_cur - needed) / FDS_OF_CLIENT : 0;
	if (possible < 2)
		possible = 2;
	if (possible >= wanted)
		return (unsigned)wanted;
	log_msg(LOG_NOTICE,
		"%" PRIu64 " connections at once instead of limits.connections (%" PRIu64
		"): this process may open %" PRIu64 " files",
		possible, wanted, (uint64_t)fds.rlim_cur);
	return (unsigned)possible;
}

int api_start(struct http_server **ret, struct daemon *daemon, int listen_fd, struct error *err)
{
	unsigned connections = count_connections(daemon);
	const struct http_config config = {
		.event = daemon->event,
		.listen_fd = listen_fd,
		.routes = routes,
		.data = daemon,
		.max_body_bytes = MAX_BODY,
		.max_connections = connections,
		.max_user_connections = (connections + 1) / 2,
		.reserved_connections = RESERVED_CONNECTIONS,
		.connections_limit = "limits.connections",
		.max_held_bytes = MAX_HELD,
		.idle_timeout_s = IDLE_TIMEOUT_S,
		.upload_min_free = daemon->config->limits.free_space,
		.upload_dir_fd = daemon->jobs_fd,
	};

	submit_set_limits(daemon->config->limits.job_file, daemon->config->limits.bucket);
	for (struct http_route *route = routes; route->path; route++)
		if (route->handle == named_submit)
			route->parts = submit_parts;
	return http_server_new(ret, &config, err);
}

struct http_server *api_stop(struct http_server *server)
{
	return http_server_free(server);
}
