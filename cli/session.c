/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>

#include "base/attr.h"
#include "base/clock.h"
#include "cli/endpoint.h"
#include "cli/order.h"
#include "cli/session.h"

static const int ends[] = { SIGINT, SIGTERM, SIGHUP };

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *data)
{
	struct session *session = data;

	(void)source;
	if (session->on_signal)
		session->on_signal(session, (int)info->ssi_signo);
	else
		session_stop(session, EXIT_INTERRUPTED);
	return 0;
}

static int add_signals(struct session *session, struct error *err)
{
	struct sigaction before;
	sigset_t set;

	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		int r;

		if (sigaction(ends[i], NULL, &before) < 0)
			return error_errno(err, "sigaction");
		if (before.sa_handler == SIG_IGN)
			continue;
		(void)sigemptyset(&set);
		(void)sigaddset(&set, ends[i]);
		if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
			return error_errno(err, "sigprocmask");
		r = sd_event_add_signal(session->loop, NULL, ends[i], on_signal, session);
		if (r < 0)
			return error_code(err, r, "signals");
	}
	return 0;
}

static int open_parts(struct session *session, struct endpoint *endpoint, struct error *err)
{
	int r = sd_event_new(&session->loop);

	if (r < 0)
		return error_code(err, r, "event loop");
	r = add_signals(session, err);
	if (r < 0)
		return r;
	return client_new(&session->client, session->loop, endpoint, err);
}

bool session_open(struct session *session, const struct cli *cli, int *ret_exit)
{
	struct endpoint endpoint = { 0 };
	struct error err;
	int r;

	*session = (struct session){ 0 };
	r = endpoint_find(&endpoint, cli, &err);
	if (r < 0) {
		*ret_exit = say_exit(r == -ENOMEM ? EXIT_INTERNAL : EXIT_USAGE, "%s", err.text);
		return false;
	}
	r = open_parts(session, &endpoint, &err);
	endpoint_done(&endpoint);
	if (r >= 0)
		return true;
	session_done(session);
	*ret_exit = say_exit(r == -ENOMEM ? EXIT_INTERNAL : EXIT_UNREACHABLE, "%s", err.text);
	return false;
}

void session_done(struct session *session)
{
	session->client = client_free(session->client);
	session->loop = sd_event_unref(session->loop);
}

int session_run(struct session *session)
{
	session->stopped = false;
	while (!session->stopped) {
		int r = sd_event_run(session->loop, UINT64_MAX);

		if (r < 0)
			return say_exit(EXIT_INTERNAL, "event loop: %s", strerror(-r));
	}
	return session->exit;
}

void session_stop(struct session *session, int exit)
{
	session->stopped = true;
	session->exit = exit;
}

/* ---- a daemon that comes and goes ---- */

static void tell(struct session *session, const char *format, ...) printf_(2, 3);

static void tell(struct session *session, const char *format, ...)
{
	char text[512];
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (session->tell)
		session->tell(session, text);
	else
		say("%s", text);
}

void session_found(struct session *session)
{
	session->reached = true;
	if (session->away_us)
		tell(session, "the daemon is back after %.1f s",
		     (double)(clock_now_us() - session->away_us) / 1e6);
	session->away_us = 0;
}

void session_lost(struct session *session, const struct answer *answer)
{
	const char *why = answer->r < 0 ? answer->err.text : answer->reason;

	if (session->away_us)
		return;
	session->away_us = clock_now_us();
	tell(session, "%s; trying again for %" PRIu64 " s", why ? why : "the daemon is busy",
	     session->reconnect_us / 1000000);
}

/* ---- answers ---- */

static int exit_from_transport(int r)
{
	switch (r) {
	case -EACCES:
		return EXIT_NOT_PERMITTED;
	case -ENOMEM:
	case -EFBIG:
		return EXIT_INTERNAL;
	case -EIO:
		return EXIT_LAB;
	default:
		return EXIT_UNREACHABLE;
	}
}

/* All that is wrong with the files of a configuration, each with its place. */
static void print_problems(const json_t *problems)
{
	const json_t *problem;
	size_t i;

	json_array_foreach(problems, i, problem) {
		const char *file = json_string_value(json_object_get(problem, "file"));
		const char *text = json_string_value(json_object_get(problem, "text"));
		free_ char *safe_file = say_safe(file ? file : "dutd");
		free_ char *safe = say_safe(text ? text : "?");

		(void)fprintf(stderr, "%s:%" JSON_INTEGER_FORMAT ":%" JSON_INTEGER_FORMAT ": %s\n",
			      safe_file ? safe_file : "?",
			      json_integer_value(json_object_get(problem, "line")),
			      json_integer_value(json_object_get(problem, "column")),
			      safe ? safe : "?");
	}
}

int session_refused(const struct answer *answer)
{
	const char *text = json_string_value(json_object_get(answer->json, "error"));

	if (answer->r < 0)
		return say_exit(exit_from_transport(answer->r), "%s", answer->err.text);
	if (answer_is_good(answer))
		return say_exit(EXIT_INTERNAL, "the daemon's answer is not what it should be");
	print_problems(json_object_get(answer->json, "problems"));
	if (!text)
		text = answer->reason;
	if (text && *text)
		return say_exit(exit_from_http(answer->status), "%s", text);
	return say_exit(exit_from_http(answer->status), "the daemon refuses with HTTP status %u",
			answer->status);
}

struct question {
	struct session *session;
	struct answer answer;
};

static void on_answer(struct answer *answer, void *data)
{
	struct question *question = data;

	question->answer = *answer;
	session_stop(question->session, 0);
}

int session_answer(struct session *session, const char *method, char *path, const json_t *body,
		   unsigned timeout_s, struct answer *ret)
{
	free_ char *owned_path = path;
	cleanup_(order_freep) struct order *order = NULL;
	struct question question = { .session = session };
	const struct order_config config = {
		.session = session,
		.method = method,
		.path = owned_path,
		.body = body,
		.timeout_s = timeout_s,
		.on_answer = on_answer,
		.data = &question,
	};
	struct error err;
	int r;

	if (order_new(&order, &config, &err) < 0)
		return say_exit(EXIT_INTERNAL, "%s", err.text);
	r = session_run(session);
	if (r != 0)
		answer_done(&question.answer);
	else
		*ret = question.answer;
	return r;
}

bool session_ask(struct session *session, const char *method, char *path, const json_t *body,
		 unsigned timeout_s, json_t **ret, int *ret_exit)
{
	struct answer answer = { 0 };

	*ret_exit = session_answer(session, method, path, body, timeout_s, &answer);
	if (*ret_exit != 0)
		return false;
	if (answer_is_good(&answer) && json_is_object(answer.json))
		*ret = json_incref(answer.json);
	else
		*ret_exit = session_refused(&answer);
	answer_done(&answer);
	return *ret_exit == 0;
}
