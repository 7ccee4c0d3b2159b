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
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "dut/access.h"
#include "dut/daemon.h"
#include "dut/job-binding.h"
#include "dut/jobuser.h"
#include "dut/lab-events.h"
#include "dut/reload.h"
#include "dut/submit.h"

enum {
	MAX_BODY = 64 << 10,
	MAX_HELD = 64 << 20,	   /* bytes of bodies and answers in memory */
	RESERVED_CONNECTIONS = 16, /* for root and dutd's own user */
	IDLE_TIMEOUT_S = 30,
	FDS_OF_CLIENT = 2, /* a socket, and the file that it reads */
	FDS_OF_DUT = 32,
	FDS_OF_OURS = 320, /* with those of a batch of records */
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

static void api_root_status(struct http_request *request, void *data)
{
	const struct daemon *daemon = data;
	char started[CLOCK_ISO_SIZE];
	json_int_t duts = 0, unfinished = 0;
	struct access_identity who;

	LIST_FOREACH(link, &daemon->boards)
		duts++;
	LIST_FOREACH(link, &daemon->jobs)
		unfinished += CONTAINER_OF(link, struct job, link)->state != JOB_ENDED;
	access_identify(daemon, request, &who);
	http_reply_json(request, 200,
			json_pack("{s:s, s:I, s:I, s:s, s:I, s:I, s:o, s:{s:s, s:s, s:s}}",
				  "version", DUT_VERSION, "pid", (json_int_t)getpid(), "epoch",
				  (json_int_t)daemon->epoch, "started",
				  clock_format_iso(started, daemon->started_realtime_us), "duts",
				  duts, "jobs_unfinished", unfinished, "protections_missing",
				  jobuser_protections_missing(daemon), "you", "name", who.name,
				  "role", access_role_name(who.role), "from", who.from));
}

static struct http_route routes[] = {
	{ .method = "GET",
	  .path = "/api/v1/status",
	  .handle = api_root_status,
	  .tag = ACCESS_NAMED },
	{ .method = "GET", .path = "/api/v1/events", .handle = api_events },
	{ .method = "GET", .path = "/api/v1/duts", .handle = api_duts },
	{ .method = "GET", .path = "/api/v1/dut/{id}", .handle = api_dut },
	{ .method = "PATCH",
	  .path = "/api/v1/dut/{id}",
	  .handle = api_dut_patch,
	  .tag = ACCESS_ADMIN },
	{ .method = "GET", .path = "/api/v1/dut/{id}/power", .handle = api_power_get },
	{ .method = "PUT", .path = "/api/v1/dut/{id}/power", .handle = api_power_put },
	{ .method = "GET", .path = "/api/v1/dut/{id}/console", .handle = api_console },
	{ .method = "GET", .path = "/api/v1/dut/{id}/history", .handle = api_dut_history },
	{ .method = "GET", .path = "/api/v1/history", .handle = api_history },
	{ .method = "POST", .path = "/api/v1/dut/{id}/cancel_job", .handle = api_dut_cancel },
	{ .method = "GET", .path = "/api/v1/dut/{id}/reservation", .handle = api_reservation_get },
	{ .method = "POST",
	  .path = "/api/v1/dut/{id}/reservation",
	  .handle = api_reservation_post },
	{ .method = "PATCH",
	  .path = "/api/v1/dut/{id}/reservation",
	  .handle = api_reservation_patch },
	{ .method = "DELETE",
	  .path = "/api/v1/dut/{id}/reservation",
	  .handle = api_reservation_delete },
	{ .method = "POST", .path = "/api/v1/reservations", .handle = api_reservations_post },
	{ .method = "GET", .path = "/api/v1/jobs", .handle = api_jobs },
	{ .method = "POST",
	  .path = "/api/v1/jobs",
	  .handle = submit_handle,
	  .admit = submit_admit,
	  .max_active = SUBMIT_MAX },
	{ .method = "GET", .path = "/api/v1/jobs/{id}", .handle = api_job },
	{ .method = "GET", .path = "/api/v1/jobs/{id}/log", .handle = api_job_log },
	{ .method = "GET", .path = "/api/v1/jobs/{id}/events", .handle = api_job_events },
	{ .method = "GET", .path = "/api/v1/jobs/{id}/results", .handle = api_job_results },
	{ .method = "POST", .path = "/api/v1/jobs/{id}/cancel", .handle = api_job_cancel },
	{ .method = "DELETE", .path = "/api/v1/jobs/{id}/binding", .handle = api_job_unbind },
	{ .method = "POST", .path = "/api/v1/reload", .handle = api_reload, .tag = ACCESS_ADMIN },
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

static bool is_loopback(const char *address)
{
	return strncmp(address, "127.", 4) == 0 || strncmp(address, "[::1]:", 6) == 0;
}

static int listen_by_tcp(struct http_server *server, struct daemon *daemon, struct error *err)
{
	char *const *address = daemon->config->listen;
	int r = 0;

	for (unsigned i = 0; i < daemon->n_tcp_fds && r >= 0; i++, address++) {
		r = http_server_listen(server, take_fd(&daemon->tcp_fds[i]), err);
		if (r < 0)
			return r;
		log_msg(LOG_NOTICE, "listens on %s for %zu tokens", *address,
			daemon->config->tokens.count);
		if (!is_loopback(*address))
			log_msg(LOG_WARNING,
				"%s: HTTP is not encrypted, and whoever can read the network's "
				"traffic learns the tokens; ssh:// or a TLS proxy hides them",
				*address);
	}
	daemon->n_tcp_fds = 0;
	return r;
}

int api_start(struct http_server **ret, struct daemon *daemon, int listen_fd, struct error *err)
{
	unsigned connections = count_connections(daemon);
	const struct http_config config = {
		.event = daemon->event,
		.listen_fd = listen_fd,
		.routes = routes,
		.data = daemon,
		.identify = access_on_head,
		.admit = access_on_route,
		.gate = access_on_request,
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

	int r;

	submit_set_limits(daemon->config->limits.job_file, daemon->config->limits.bucket);
	for (struct http_route *route = routes; route->path; route++)
		if (route->handle == submit_handle)
			route->parts = submit_parts;
	r = http_server_new(ret, &config, err);
	if (r < 0)
		return r;
	r = listen_by_tcp(*ret, daemon, err);
	if (r < 0)
		*ret = http_server_free(*ret);
	return r;
}

struct http_server *api_stop(struct http_server *server)
{
	return http_server_free(server);
}
