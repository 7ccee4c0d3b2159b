/* SPDX-License-Identifier: MIT */
#include "cli/pump.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cli/output.h"

struct pump {
	struct session *session;
	const struct pump_request *request;
	struct transfer *transfer;
	struct output *output;
	uint64_t at; /* console offset of the next byte */
	bool ended;
	int exit; /* when ended */
};

static void end(struct pump *pump, int exit)
{
	if (pump->ended)
		return;
	pump->ended = true;
	pump->exit = exit;
}

/* Something has changed: goes on reading, or stops when all is written that ever will be. */
static void check(struct pump *pump)
{
	if (output_is_gone(pump->output)) {
		int r = output_failure(pump->output);

		if (r < 0)
			session_stop(pump->session, say_exit(EXIT_LAB, "cannot write to stdout: %s",
							     strerror(-r)));
		else
			session_stop(pump->session, pump->ended ? pump->exit : 0);
		return;
	}
	if (pump->ended && output_is_done(pump->output))
		session_stop(pump->session, pump->exit);
	else if (pump->transfer && !pump->ended && !output_is_full(pump->output))
		transfer_resume(pump->transfer);
}

static void on_space(void *data)
{
	check(data);
}

static void on_head(struct transfer *transfer, void *data)
{
	struct pump *pump = data;

	if (pump->request->end == UINT64_MAX)
		return;
	if (!transfer_console_offset(transfer, &pump->at) || pump->at >= pump->request->end)
		end(pump, 0);
	check(pump);
}

static void on_bytes(struct transfer *transfer, const char *bytes, size_t length, void *data)
{
	struct pump *pump = data;
	struct error err;

	if (pump->ended)
		return;
	if (length > pump->request->end - pump->at)
		length = (size_t)(pump->request->end - pump->at);
	if (output_write(pump->output, bytes, length, &err) < 0)
		end(pump, say_exit(EXIT_INTERNAL, "%s", err.text));
	pump->at += length;
	if (pump->at >= pump->request->end)
		end(pump, 0);
	if (output_is_full(pump->output))
		transfer_pause(transfer);
	check(pump);
}

static void on_done(struct transfer *transfer, struct answer *answer, void *data)
{
	struct pump *pump = data;
	int code = pump->request->ended_exit;

	(void)transfer;
	if (pump->ended)
		code = pump->exit;
	else if (!answer_is_good(answer))
		code = session_refused(answer);
	else if (code != 0)
		(void)say_exit(code, "the daemon has ended the %s", pump->request->what);
	answer_done(answer);
	end(pump, code);
	check(pump);
}

static void on_signal(struct session *session, int signal)
{
	const struct pump *pump = session->data;

	(void)signal;
	session_stop(session, pump->request->interrupted_exit);
}

static int start(struct pump *pump, struct error *err)
{
	const struct client_request request = {
		.method = "GET",
		.path = pump->request->path,
		.on_head = on_head,
		.on_bytes = on_bytes,
		.on_done = on_done,
		.data = pump,
	};
	int r;

	if (!request.path)
		return error_oom(err);
	r = output_new(&pump->output, pump->session->loop, STDOUT_FILENO, err);
	if (r < 0)
		return r;
	output_on_space(pump->output, on_space, pump);
	return client_start(&pump->transfer, pump->session->client, &request, err);
}

int pump_run(struct session *session, const struct pump_request *request)
{
	struct pump pump = { .session = session, .request = request };
	struct error err;
	int code;

	session->on_signal = on_signal;
	session->data = &pump;
	if (start(&pump, &err) < 0)
		code = say_exit(EXIT_INTERNAL, "%s", err.text);
	else
		code = session_run(session);
	pump.transfer = transfer_free(pump.transfer);
	pump.output = output_free(pump.output);
	session->on_signal = NULL;
	free(request->path);
	return code;
}
