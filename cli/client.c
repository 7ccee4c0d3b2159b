/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/un.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "cli/client-internal.h"

void answer_done(struct answer *answer)
{
	json_decref(answer->json);
	free(answer->reason);
	answer->json = NULL;
	answer->reason = NULL;
}

/* ---- the event loop ---- */

static void conclude(struct transfer *transfer, CURLcode code);

static void collect_ends(struct client *client)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(client->multi, &left))) {
		struct transfer *transfer = NULL;

		if (message->msg != CURLMSG_DONE)
			continue;
		(void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
		conclude(transfer, message->data.result);
	}
}

static void act(struct client *client, curl_socket_t fd, int what)
{
	int running;

	(void)curl_multi_socket_action(client->multi, fd, what, &running);
	collect_ends(client);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	(void)source;
	(void)usec;
	act(data, CURL_SOCKET_TIMEOUT, 0);
	return 0;
}

static int on_socket(sd_event_source *source, int fd, uint32_t events, void *data)
{
	int what = 0;

	(void)source;
	if (events & (EPOLLIN | EPOLLHUP))
		what |= CURL_CSELECT_IN;
	if (events & EPOLLOUT)
		what |= CURL_CSELECT_OUT;
	if (events & EPOLLERR)
		what |= CURL_CSELECT_ERR;
	act(data, fd, what);
	return 0;
}

static int want_timer(CURLM *multi, long timeout_ms, void *data)
{
	struct client *client = data;

	(void)multi;
	if (timeout_ms < 0)
		return sd_event_source_set_enabled(client->timer, SD_EVENT_OFF) < 0 ? -1 : 0;
	if (sd_event_source_set_time_relative(client->timer, (uint64_t)timeout_ms * 1000) < 0)
		return -1;
	return sd_event_source_set_enabled(client->timer, SD_EVENT_ONESHOT) < 0 ? -1 : 0;
}

static int want_socket(CURL *easy, curl_socket_t fd, int what, void *data, void *source_data)
{
	static const uint32_t events[] = {
		[CURL_POLL_NONE] = 0,
		[CURL_POLL_IN] = EPOLLIN,
		[CURL_POLL_OUT] = EPOLLOUT,
		[CURL_POLL_INOUT] = EPOLLIN | EPOLLOUT,
	};
	struct client *client = data;
	sd_event_source *source = source_data;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		(void)sd_event_source_disable_unref(source);
		return 0;
	}
	if (source)
		return sd_event_source_set_io_events(source, events[what]) < 0 ? -1 : 0;
	if (sd_event_add_io(client->loop, &source, fd, events[what], on_socket, client) < 0)
		return -1;
	(void)sd_event_source_set_description(source, "dutd's socket");
	(void)curl_multi_assign(client->multi, fd, source);
	return 0;
}

/* ---- the client ---- */

/* A socket address holds 107 bytes of path; a longer one is reached through its folder. */
static int set_connect_path(struct client *client, const char *path, struct error *err)
{
	const char *slash = strrchr(path, '/');
	free_ char *folder = NULL;

	if (strlen(path) < sizeof(((struct sockaddr_un *)0)->sun_path)) {
		client->connect_path = strdup(path);
		return client->connect_path ? 0 : error_oom(err);
	}
	if (!slash)
		return error_set(err, -ENAMETOOLONG, "the name of the daemon's socket is too long");
	folder = strndup(path, slash == path ? 1 : (size_t)(slash - path));
	if (!folder)
		return error_oom(err);
	client->folder_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (client->folder_fd < 0)
		return error_errno(err, "the folder of the daemon's socket");
	if (asprintf(&client->connect_path, "/proc/self/fd/%d/%s", client->folder_fd, slash + 1) <
	    0) {
		client->connect_path = NULL;
		return error_oom(err);
	}
	return 0;
}

static int set_up_multi(struct client *client, struct error *err)
{
	bool tls = strncmp(client->endpoint.base, "https:", 6) == 0;
	int r;

	if (curl_global_init(tls ? CURL_GLOBAL_SSL : CURL_GLOBAL_NOTHING) != CURLE_OK)
		return error_oom(err);
	client->multi = curl_multi_init();
	if (!client->multi)
		return error_oom(err);
	r = sd_event_add_time_relative(client->loop, &client->timer, CLOCK_BOOTTIME, 0, 1, on_timer,
				       client);
	if (r >= 0)
		r = sd_event_source_set_enabled(client->timer, SD_EVENT_OFF);
	if (r < 0)
		return error_code(err, r, "timer of the client");
	(void)sd_event_source_set_description(client->timer, "libcurl");
	(void)curl_multi_setopt(client->multi, CURLMOPT_SOCKETFUNCTION, want_socket);
	(void)curl_multi_setopt(client->multi, CURLMOPT_SOCKETDATA, client);
	(void)curl_multi_setopt(client->multi, CURLMOPT_TIMERFUNCTION, want_timer);
	(void)curl_multi_setopt(client->multi, CURLMOPT_TIMERDATA, client);
	return 0;
}

int client_new(struct client **ret, sd_event *loop, struct endpoint *endpoint, struct error *err)
{
	cleanup_(client_freep) struct client *client = calloc(1, sizeof(*client));
	int r = 0;

	if (!client) {
		endpoint_done(endpoint);
		return error_oom(err);
	}
	client->folder_fd = -1;
	list_init(&client->tunnels);
	client->loop = sd_event_ref(loop);
	client->endpoint = *endpoint;
	*endpoint = (struct endpoint){ 0 };
	if (client->endpoint.kind == ENDPOINT_SOCKET)
		r = set_connect_path(client, client->endpoint.name, err);
	else if (client->endpoint.kind == ENDPOINT_SSH)
		r = tunnels_open(client, err);
	if (r < 0)
		return r;
	r = set_up_multi(client, err);
	if (r < 0)
		return r;
	*ret = take_ptr(client);
	return 0;
}

struct client *client_free(struct client *client)
{
	if (!client)
		return NULL;
	if (client->multi)
		(void)curl_multi_cleanup(client->multi);
	tunnels_close(client);
	(void)sd_event_source_disable_unref(client->timer);
	(void)sd_event_unref(client->loop);
	(void)close_fd(client->folder_fd);
	free(client->connect_path);
	endpoint_done(&client->endpoint);
	free(client);
	return NULL;
}

/* ---- a transfer ---- */

int client_start(struct transfer **ret, struct client *client, const struct client_request *request,
		 struct error *err)
{
	cleanup_(transfer_freep) struct transfer *transfer = calloc(1, sizeof(*transfer));
	CURLMcode code;
	int r;

	if (!transfer)
		return error_oom(err);
	transfer->client = client;
	transfer->on_head = request->on_head;
	transfer->on_bytes = request->on_bytes;
	transfer->on_done = request->on_done;
	transfer->data = request->data;
	transfer->easy = curl_easy_init();
	if (!transfer->easy)
		return error_oom(err);
	r = transfer_set_options(transfer, request, err);
	if (r < 0)
		return r;
	code = curl_multi_add_handle(client->multi, transfer->easy);
	if (code != CURLM_OK)
		return error_set(err, -ENOMEM, "%s", curl_multi_strerror(code));
	*ret = take_ptr(transfer);
	return 0;
}

struct transfer *transfer_free(struct transfer *transfer)
{
	if (!transfer)
		return NULL;
	if (transfer->easy) {
		(void)curl_multi_remove_handle(transfer->client->multi, transfer->easy);
		curl_easy_cleanup(transfer->easy);
	}
	curl_mime_free(transfer->form);
	curl_slist_free_all(transfer->headers);
	free(transfer->body);
	free(transfer->text);
	free(transfer->reason);
	free(transfer);
	return NULL;
}

void transfer_pause(struct transfer *transfer)
{
	transfer->paused = true;
}

void transfer_resume(struct transfer *transfer)
{
	if (!transfer->paused)
		return;
	transfer->paused = false;
	if (!transfer->over)
		(void)curl_easy_pause(transfer->easy, CURLPAUSE_CONT);
}

bool transfer_is_sent(const struct transfer *transfer)
{
	return transfer->is_sent;
}

bool transfer_console_offset(const struct transfer *transfer, uint64_t *ret)
{
	if (transfer->has_offset)
		*ret = transfer->console_offset;
	return transfer->has_offset;
}

/* ---- its end ---- */

static int no_socket(const struct transfer *transfer, int code, struct error *err)
{
	const char *path = transfer->client->endpoint.name;

	switch (code) {
	case ENOENT:
	case ENOTDIR:
		return error_set(err, -code,
				 "no daemon at %s; start dutd, or name its socket with --socket or "
				 "DUT_SOCKET",
				 path);
	case EACCES:
	case EPERM:
		return error_set(err, -EACCES,
				 "you may not talk to the daemon at %s; its socket's group may "
				 "(see api.socket in dutd.yaml)",
				 path);
	case 0:
		return error_set(err, -ENOTCONN, "cannot reach the daemon at %s: %s", path,
				 transfer->words);
	default:
		return error_code(err, -code,
				  "no daemon listens at %s (try 'systemctl status dutd')", path);
	}
}

static int no_connection(const struct transfer *transfer, struct error *err)
{
	const struct endpoint *endpoint = &transfer->client->endpoint;
	long code = 0;

	(void)curl_easy_getinfo(transfer->easy, CURLINFO_OS_ERRNO, &code);
	if (endpoint->kind == ENDPOINT_SOCKET)
		return no_socket(transfer, (int)code, err);
	if (code == ECONNREFUSED)
		return error_set(err, -ECONNREFUSED,
				 "nobody listens at %s (see api.listen in dutd.yaml there)",
				 endpoint->name);
	if (code == 0)
		return error_set(err, -ENOTCONN, "cannot reach %s: %s", endpoint->name,
				 *transfer->words ? transfer->words : "no connection");
	/* Whatever it is, nobody was reached: EACCES of a firewall is no matter of rights here. */
	return error_set(err, -ENOTCONN, "cannot reach %s: %s", endpoint->name,
			 strerror((int)code));
}

static int explain(const struct transfer *transfer, CURLcode code, struct error *err)
{
	const struct endpoint *endpoint = &transfer->client->endpoint;

	if (code == CURLE_OPERATION_TIMEDOUT)
		return error_set(err, -ETIMEDOUT, "the daemon at %s does not answer",
				 endpoint->name);
	if (transfer->too_long)
		return error_set(err, -EFBIG, "the daemon's answer is over %d MiB",
				 CLIENT_ANSWER_MAX / 1048576);
	if (code == CURLE_OUT_OF_MEMORY || code == CURLE_WRITE_ERROR)
		return error_oom(err);
	if (code == CURLE_ABORTED_BY_CALLBACK)
		return error_set(err, -EIO, "cannot read what is to be sent");
	if (endpoint->kind == ENDPOINT_SSH)
		return tunnel_explain(transfer->client, err);
	if (code == CURLE_COULDNT_CONNECT)
		return no_connection(transfer, err);
	if (code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_PEER_FAILED_VERIFICATION ||
	    code == CURLE_SSL_CONNECT_ERROR)
		return error_set(err, -ENOTCONN, "cannot reach %s: %s", endpoint->name,
				 *transfer->words ? transfer->words : curl_easy_strerror(code));
	return error_set(err, -ECONNRESET, "lost the daemon at %s (%s)", endpoint->name,
			 *transfer->words ? transfer->words : curl_easy_strerror(code));
}

/* What was refused for want of a token is for the user of dut to mend. */
static int explain_token(const struct transfer *transfer, struct error *err)
{
	const struct endpoint *endpoint = &transfer->client->endpoint;

	if (endpoint->token)
		return error_set(err, -EACCES,
				 "the token of DUT_TOKEN or DUT_TOKEN_FILE is not known at %s",
				 endpoint->name);
	return error_set(err, -EACCES,
			 "%s needs a token: set DUT_TOKEN, or name its file in DUT_TOKEN_FILE",
			 endpoint->name);
}

static void conclude(struct transfer *transfer, CURLcode code)
{
	struct answer answer = { 0 };
	long status = 0;

	transfer->over = true;
	(void)curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
	answer.status = (unsigned)status;
	answer.reason = take_ptr(transfer->reason);
	/* A daemon that refuses an upload early need not read the rest of it. */
	if (code == CURLE_SEND_ERROR && status >= 400)
		code = CURLE_OK;
	if (code != CURLE_OK)
		answer.r = explain(transfer, code, &answer.err);
	else if (status == 401 && transfer->client->endpoint.kind == ENDPOINT_HTTP)
		answer.r = explain_token(transfer, &answer.err);
	else if (transfer->length > 0)
		answer.json = json_loadb(transfer->text, transfer->length,
					 JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
	transfer->on_done(transfer, &answer, transfer->data);
}
