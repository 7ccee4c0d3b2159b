/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "cli/retry.h"
#include "cli/view.h"
#include "cli/waiter.h"

/* The daemon answers after this time at the latest, so that a connection that is only half dead is
 * found out. */
#define ASK_S "60"

enum {
	ANSWER_S = 90,
	EARLY_US = 1000000, /* an answer that comes before this has not waited */
};

struct waiter {
	struct session *session;
	char id[VIEW_ID_SIZE];
	waiter_fn on_end;
	void *data;
	struct transfer *transfer;
	struct retry retry;
	sd_event_source *again; /* armed only after an answer that came too early */
	uint64_t asked_us;
};

static int ask(struct waiter *waiter, struct error *err);

static void fail(struct waiter *waiter, int r, const struct error *err)
{
	struct answer answer = { .r = r, .err = *err };

	waiter->on_end(NULL, &answer, waiter->data);
}

static void ask_again(void *data)
{
	struct waiter *waiter = data;
	struct error err;
	int r = ask(waiter, &err);

	if (r < 0)
		fail(waiter, r, &err);
}

static int on_again(sd_event_source *source, uint64_t usec, void *data)
{
	(void)source;
	(void)usec;
	ask_again(data);
	return 0;
}

static void on_done(struct transfer *transfer, struct answer *answer, void *data)
{
	struct waiter *waiter = data;
	uint64_t wait_us = clock_now_us() - waiter->asked_us < EARLY_US ? EARLY_US : 0;
	struct error err;
	int r;

	waiter->transfer = transfer_free(transfer);
	if (!answer_is_good(answer) && retry_later(&waiter->retry, answer)) {
		answer_done(answer);
		return;
	}
	if (answer->r >= 0)
		retry_good(&waiter->retry);
	if (!answer_is_good(answer) || !json_is_object(answer->json)) {
		waiter->on_end(NULL, answer, waiter->data);
		return;
	}
	if (view_job_ended(answer->json)) {
		json_t *job = json_incref(answer->json);

		answer_done(answer);
		waiter->on_end(job, NULL, waiter->data);
		json_decref(job);
		return;
	}
	answer_done(answer);
	r = sd_event_source_set_time_relative(waiter->again, wait_us);
	if (r >= 0)
		r = sd_event_source_set_enabled(waiter->again, SD_EVENT_ONESHOT);
	if (r < 0) {
		(void)error_code(&err, r, "timer");
		fail(waiter, r, &err);
	}
}

static int ask(struct waiter *waiter, struct error *err)
{
	free_ char *path = client_path("/jobs/%s?wait=" ASK_S, waiter->id);
	struct client_request request = {
		.method = "GET",
		.path = path,
		.timeout_s = ANSWER_S,
		.on_done = on_done,
		.data = waiter,
	};

	if (!path)
		return error_oom(err);
	waiter->asked_us = clock_now_us();
	return client_start(&waiter->transfer, waiter->session->client, &request, err);
}

int waiter_new(struct waiter **ret, struct session *session, const char *id, waiter_fn on_end,
	       void *data, struct error *err)
{
	cleanup_(waiter_freep) struct waiter *waiter = calloc(1, sizeof(*waiter));
	int r;

	if (!waiter)
		return error_oom(err);
	waiter->session = session;
	waiter->on_end = on_end;
	waiter->data = data;
	retry_init(&waiter->retry, session, ask_again, waiter);
	if (!view_read_id(waiter->id, id))
		return error_set(err, -EINVAL, "'%.40s' is no id of a job", id);
	r = sd_event_add_time_relative(session->loop, &waiter->again, CLOCK_BOOTTIME, 0, 1,
				       on_again, waiter);
	if (r >= 0)
		r = sd_event_source_set_enabled(waiter->again, SD_EVENT_OFF);
	if (r < 0)
		return error_code(err, r, "timer");
	r = ask(waiter, err);
	if (r < 0)
		return r;
	*ret = take_ptr(waiter);
	return 0;
}

struct waiter *waiter_free(struct waiter *waiter)
{
	if (!waiter)
		return NULL;
	(void)transfer_free(waiter->transfer);
	(void)sd_event_source_disable_unref(waiter->again);
	retry_done(&waiter->retry);
	free(waiter);
	return NULL;
}
