/* SPDX-License-Identifier: MIT */
#include "cli/pump.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cli/feed.h"
#include "cli/output.h"

struct pump {
	struct session *session;
	const struct pump_request *request;
	struct feed *feed;
	struct output *output;
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
	else if (pump->feed && !pump->ended && !output_is_full(pump->output))
		feed_resume(pump->feed);
}

static void on_space(void *data)
{
	check(data);
}

/* Whether nothing is wanted any more from this offset on. */
static bool is_at_end(const struct pump *pump, uint64_t *ret_at)
{
	return !feed_offset(pump->feed, ret_at) || *ret_at >= pump->request->end;
}

static void on_begin(uint64_t missing, void *data)
{
	struct pump *pump = data;
	uint64_t at;

	if (missing > 0)
		say("%" PRIu64 " bytes of the %s are missing here: they are not kept any more",
		    missing, pump->request->what);
	if (pump->request->end != UINT64_MAX && is_at_end(pump, &at))
		end(pump, 0);
	check(pump);
}

static void on_bytes(const char *bytes, size_t length, void *data)
{
	struct pump *pump = data;
	bool over = false;
	struct error err;
	uint64_t at;

	if (pump->ended)
		return;
	if (pump->request->end != UINT64_MAX && is_at_end(pump, &at)) {
		length -= at - pump->request->end < length ? (size_t)(at - pump->request->end)
							   : length;
		over = true;
	}
	if (output_write(pump->output, bytes, length, &err) < 0)
		end(pump, say_exit(EXIT_INTERNAL, "%s", err.text));
	if (over)
		end(pump, 0);
	if (output_is_full(pump->output))
		feed_pause(pump->feed);
	check(pump);
}

static void on_end(struct answer *answer, void *data)
{
	struct pump *pump = data;
	int code = pump->request->ended_exit;

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
	const struct feed_config config = {
		.session = pump->session,
		.path = pump->request->path,
		.from = pump->request->from,
		.has_offsets = true,
		.on_begin = on_begin,
		.on_bytes = on_bytes,
		.on_end = on_end,
		.data = pump,
	};
	int r;

	if (!config.path)
		return error_oom(err);
	r = output_new(&pump->output, pump->session->loop, STDOUT_FILENO, err);
	if (r < 0)
		return r;
	output_on_space(pump->output, on_space, pump);
	return feed_new(&pump->feed, &config, err);
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
	pump.feed = feed_free(pump.feed);
	pump.output = output_free(pump.output);
	session->on_signal = NULL;
	free(request->path);
	return code;
}
