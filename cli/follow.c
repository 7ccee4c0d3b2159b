/* SPDX-License-Identifier: MIT */
#include "cli/follow.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cli/follow-internal.h"
#include "cli/view.h"

enum {
	/* How long a job that was cancelled waits at its end for a reader of its output. */
	GRACE_US = 2000000,
};

void follow_tell(struct follow *follow, const char *format, ...)
{
	free_ char *text = NULL, *safe = NULL, *line = NULL;
	va_list arguments;

	va_start(arguments, format);
	if (vasprintf(&text, format, arguments) < 0)
		text = NULL;
	va_end(arguments);
	safe = text ? say_safe(text) : NULL;
	if (!safe || asprintf(&line, "dut: %s\n", safe) < 0) {
		line = NULL;
		return;
	}
	(void)mingle_message(follow->mingle, line, NULL);
}

static void tell_of_daemon(struct session *session, const char *text)
{
	follow_tell(session->data, "%s", text);
}

void follow_stop(struct follow *follow, int code)
{
	session_stop(follow->session, code);
}

void follow_stop_oom(struct follow *follow)
{
	follow_stop(follow,
		    say_exit(EXIT_INTERNAL, "out of memory; job %s goes on, see 'dut wait %s'",
			     follow->request->id, follow->request->id));
}

void follow_lost(struct follow *follow, struct answer *answer)
{
	const char *id = follow->request->id;
	int code;

	/* The other streams break, too. */
	if (follow->lost) {
		answer_done(answer);
		return;
	}
	follow->lost = true;
	code = session_refused(answer);
	if (answer->r < 0)
		say("job %s goes on without us, and is cancelled when it was bound to us and dutd "
		    "has missed us for timeouts.client; 'dut wait %s' follows it to its end, 'dut "
		    "log %s' shows it",
		    id, id, id);
	answer_done(answer);
	follow_stop(follow, code);
}

/* ---- the end ---- */

static void on_ended(json_t *job, struct answer *answer, void *data)
{
	struct follow *follow = data;

	follow->waiter = waiter_free(follow->waiter);
	if (!job) {
		follow_lost(follow, answer);
		return;
	}
	follow->job = json_incref(job);
	follow->place = place_free(follow->place);
	follow->question = question_free(follow->question);
	output_hold(follow->out, false);
	output_hold(follow->messages, false);
	follow_check(follow);
}

static int on_grace(sd_event_source *source, uint64_t usec, void *data)
{
	(void)source;
	(void)usec;
	follow_stop(data, 0);
	return 0;
}

static void start_grace(struct follow *follow)
{
	if (!follow->grace &&
	    sd_event_add_time_relative(follow->session->loop, &follow->grace, CLOCK_BOOTTIME,
				       GRACE_US, 1, on_grace, follow) < 0)
		follow_stop(follow, 0);
}

static void start_waiter(struct follow *follow)
{
	struct error err;

	if (!follow->waiter && waiter_new(&follow->waiter, follow->session, follow->request->id,
					  on_ended, follow, &err) < 0)
		follow_stop(follow, say_exit(EXIT_INTERNAL, "%s", err.text));
}

/* --json: the job itself is the last line. */
static void report(struct follow *follow)
{
	free_ char *text = NULL;

	if (!follow->request->json || follow->reported)
		return;
	follow->reported = true;
	text = json_dumps(follow->job, JSON_COMPACT | JSON_ENSURE_ASCII);
	if (!text || output_write(follow->out, text, strlen(text), NULL) < 0 ||
	    output_write(follow->out, "\n", 1, NULL) < 0)
		follow_stop_oom(follow);
}

void follow_check(struct follow *follow)
{
	bool streaming = follow->log || follow->events;

	if (!follow->job) {
		if (!streaming || follow->cancelled)
			start_waiter(follow);
		return;
	}
	if (!streaming) {
		mingle_end(follow->mingle);
		report(follow);
		if (output_is_done(follow->out) && output_is_done(follow->messages)) {
			follow_stop(follow, 0);
			return;
		}
	}
	if (follow->cancelled)
		start_grace(follow);
}

/* ---- cancel ---- */

static void on_cancel_done(struct answer *answer, void *data)
{
	struct follow *follow = data;
	const char *text = json_string_value(json_object_get(answer->json, "error"));

	follow->cancel = order_free(follow->cancel);
	if (answer->r < 0) {
		follow_lost(follow, answer);
		return;
	}
	/* It may have ended meanwhile; the waiter knows. */
	if (!answer_is_good(answer))
		follow_tell(follow, "cannot cancel job %s: %s", follow->request->id,
			    text ? text : "the daemon refuses");
	answer_done(answer);
}

static void cancel(struct follow *follow, const char *why)
{
	free_ char *path = client_path("/jobs/%s/cancel", follow->request->id);
	json_auto_t *body = json_pack("{s:s}", "why", why);
	const struct order_config config = {
		.session = follow->session,
		.method = "POST",
		.path = path,
		.body = body,
		.timeout_s = CLIENT_ANSWER_TIMEOUT_S,
		.on_answer = on_cancel_done,
		.data = follow,
	};
	struct error err;

	follow->cancelled = true;
	if (!body || order_new(&follow->cancel, &config, &err) < 0)
		follow_stop_oom(follow);
	follow_check(follow);
}

/* ---- leaving it alone ---- */

static void on_unbound(struct answer *answer, void *data)
{
	struct follow *follow = data;
	const char *id = follow->request->id;

	follow->unbind = order_free(follow->unbind);
	if (answer_is_good(answer))
		follow_stop(follow,
			    say_exit(EXIT_INTERRUPTED,
				     "job %s goes on; 'dut wait %s' follows it to its end, 'dut "
				     "cancel %s' ends it",
				     id, id, id));
	else if (answer->r >= 0 && answer->status == 409)
		follow_tell(follow, "job %s ends just now", id); /* the waiter knows */
	else
		follow_stop(follow, session_refused(answer));
	answer_done(answer);
}

/* It is bound to us: who leaves has to say that it may go on. */
static void leave(struct follow *follow)
{
	free_ char *path = client_path("/jobs/%s/binding", follow->request->id);
	const struct order_config config = {
		.session = follow->session,
		.method = "DELETE",
		.path = path,
		.timeout_s = CLIENT_ANSWER_TIMEOUT_S,
		.on_answer = on_unbound,
		.data = follow,
	};
	struct error err;

	if (!follow->unbind && order_new(&follow->unbind, &config, &err) < 0)
		follow_stop_oom(follow);
}

/* ---- signals ---- */

static void end_question(struct follow *follow)
{
	follow->question = question_free(follow->question);
	output_hold(follow->out, false);
	output_hold(follow->messages, false);
	follow_on_log_space(follow);
	follow_on_message_space(follow);
}

static void on_answer(int letter, void *data)
{
	struct follow *follow = data;

	end_question(follow);
	if (letter == 'c' || letter == 'y')
		cancel(follow, "Ctrl-C");
	else if (letter == 'l')
		leave(follow);
}

/* Without a terminal to ask on, the answer is: cancel. */
static void ask(struct follow *follow)
{
	const struct follow_request *request = follow->request;
	free_ char *text = NULL, *dut = request->dut ? say_safe(request->dut) : NULL;
	int r = -1;

	if (asprintf(&text,
		     "\ndut: job %s%s%s goes on. Cancel it (c), leave it alone (l), or go on "
		     "watching (Enter)? ",
		     request->id, dut ? " on " : "", dut ? dut : "") < 0)
		text = NULL;
	if (text)
		r = question_new(&follow->question, follow->session->loop, text, on_answer, follow,
				 NULL);
	if (r < 0) {
		cancel(follow, "Ctrl-C");
		return;
	}
	output_hold(follow->out, true);
	output_hold(follow->messages, true);
}

static void on_signal(struct session *session, int signal)
{
	struct follow *follow = session->data;
	bool terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
	char why[64];

	if (follow->job) {
		/* Nothing is left but to write what was read. */
		follow_stop(follow, 0);
	} else if (!follow->cancelled && signal == SIGINT && terminal && !follow->question) {
		ask(follow);
	} else if (!follow->cancelled) {
		if (follow->question)
			end_question(follow);
		(void)snprintf(why, sizeof(why), "dut run got SIG%s", sigabbrev_np(signal));
		cancel(follow, signal == SIGINT && terminal ? "Ctrl-C" : why);
	} else if (!follow->warned) {
		follow->warned = true;
		follow_tell(follow,
			    "job %s is being cancelled; once more leaves without waiting for it",
			    follow->request->id);
	} else {
		follow_stop(follow, EXIT_INTERRUPTED);
	}
}

/* ---- all of it ---- */

static void on_place(const char *text, void *data)
{
	struct follow *follow = data;

	follow_tell(follow, "job %s %s", follow->request->id, text);
}

static int begin(struct follow *follow, struct error *err)
{
	sd_event *loop = follow->session->loop;
	int r = output_new(&follow->out, loop, STDOUT_FILENO, err);

	if (r >= 0)
		r = output_new(&follow->messages, loop, STDERR_FILENO, err);
	if (r >= 0)
		r = mingle_new(&follow->mingle, loop, follow->out, follow->messages, err);
	if (r >= 0)
		r = lines_new(&follow->lines, err);
	if (r < 0)
		return r;
	output_on_space(follow->out, follow_on_log_space, follow);
	output_on_space(follow->messages, follow_on_message_space, follow);
	follow->session->tell = tell_of_daemon;
	follow_tell(follow, "job %s%s%s", follow->request->id, follow->request->dut ? " on " : "",
		    follow->request->dut ? follow->request->dut : "");
	r = follow_start_streams(follow, err);
	if (r >= 0 && follow->request->waits)
		r = place_new(&follow->place, follow->session, follow->request->id, on_place,
			      follow, err);
	return r;
}

static void done(struct follow *follow)
{
	follow->session->on_signal = NULL;
	(void)sd_event_source_disable_unref(follow->grace);
	follow->session->tell = NULL;
	(void)feed_free(follow->log);
	(void)feed_free(follow->events);
	(void)order_free(follow->cancel);
	(void)order_free(follow->unbind);
	replay_done(&follow->replay);
	(void)waiter_free(follow->waiter);
	(void)place_free(follow->place);
	(void)question_free(follow->question);
	(void)lines_free(follow->lines);
	(void)mingle_free(follow->mingle);
	(void)output_free(follow->out);
	(void)output_free(follow->messages);
	json_decref(follow->job);
}

int follow_job(struct session *session, const struct follow_request *request, json_t **ret)
{
	struct follow follow = { .session = session, .request = request };
	struct error err;
	int code, r;

	session->on_signal = on_signal;
	session->data = &follow;
	if (begin(&follow, &err) < 0) {
		code = say_exit(EXIT_INTERNAL, "job %s goes on, but cannot be followed: %s",
				request->id, err.text);
	} else {
		if (request->cancel_now)
			cancel(&follow, "dut run was interrupted");
		code = session_run(session);
	}
	r = follow.out ? output_failure(follow.out) : 0;
	if (code == 0 && r < 0)
		code = say_exit(EXIT_LAB, "cannot write to stdout: %s", strerror(-r));
	if (code == 0)
		*ret = json_incref(follow.job);
	done(&follow);
	return code;
}
