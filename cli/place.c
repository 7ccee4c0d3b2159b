/* SPDX-License-Identifier: MIT */
#include "cli/place.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "cli/view.h"

/* The daemon answers when the place is another one, and after this time at the latest: something
 * else may have changed. */
#define ASK_S "60"

enum {
	ANSWER_S = 90,
	EARLY_US = 1000000, /* between answers that bring nothing new */
};

struct place {
	struct session *session;
	char id[VIEW_ID_SIZE];
	place_fn on_text;
	void *data;
	struct transfer *transfer;
	sd_event_source *again;
	json_int_t known; /* place; 0: none yet */
	char *told;
	bool news; /* in the last answer */
};

/* What is to be told of a job that waits; the caller frees it. */
static char *describe(const json_t *job)
{
	const char *cause = view_text(job, "cause");
	json_int_t number = json_integer_value(json_object_get(job, "place"));
	char ordinal[VIEW_ID_SIZE];
	char *text;

	if (asprintf(&text, "waits: %s; you are %s", cause ? cause : "its DUT is busy",
		     text_format_ordinal(ordinal, sizeof(ordinal), (uint64_t)number)) < 0)
		return NULL;
	return text;
}

static void tell(struct place *place, char *text)
{
	place->news = text && (!place->told || strcmp(text, place->told) != 0);
	if (place->news)
		place->on_text(text, place->data);
	free(place->told);
	place->told = text;
}

/* False when it waits no more. */
static bool look(struct place *place, const json_t *job)
{
	const char *state = view_text(job, "state"), *dut = view_text(job, "dut");
	char *text = NULL;

	if (state && strcmp(state, "WAITING") == 0) {
		place->known = json_integer_value(json_object_get(job, "place"));
		/* For a moment it may have no place: it is just being given a DUT. */
		if (place->known > 0)
			tell(place, describe(job));
		return true;
	}
	if (state && strcmp(state, "ENDED") != 0 &&
	    asprintf(&text, "begins on %s", dut ? dut : "?") >= 0)
		tell(place, text);
	return false;
}

static void on_done(struct transfer *transfer, struct answer *answer, void *data)
{
	struct place *place = data;
	bool waits;

	place->news = false;
	/* A daemon that is away may come back, and the job with it. */
	waits = answer->r < 0 || (answer_is_good(answer) && look(place, answer->json));
	place->transfer = transfer_free(transfer);
	answer_done(answer);
	if (waits &&
	    sd_event_source_set_time_relative(place->again, place->news ? 0 : EARLY_US) >= 0)
		(void)sd_event_source_set_enabled(place->again, SD_EVENT_ONESHOT);
}

static int ask(struct place *place, struct error *err)
{
	free_ char *path = NULL;
	struct client_request request = {
		.method = "GET",
		.timeout_s = ANSWER_S,
		.on_done = on_done,
		.data = place,
	};
	char known[VIEW_ID_SIZE];

	(void)snprintf(known, sizeof(known), "%" JSON_INTEGER_FORMAT, place->known);
	path = place->known > 0 ? client_path("/jobs/%s?wait=" ASK_S "&place=%s", place->id, known)
				: client_path("/jobs/%s", place->id);
	if (!path)
		return error_oom(err);
	request.path = path;
	return client_start(&place->transfer, place->session->client, &request, err);
}

static int on_again(sd_event_source *source, uint64_t usec, void *data)
{
	(void)source;
	(void)usec;
	(void)ask(data, NULL);
	return 0;
}

int place_new(struct place **ret, struct session *session, const char *id, place_fn on_text,
	      void *data, struct error *err)
{
	cleanup_(place_freep) struct place *place = calloc(1, sizeof(*place));
	int r;

	if (!place)
		return error_oom(err);
	place->session = session;
	place->on_text = on_text;
	place->data = data;
	(void)snprintf(place->id, sizeof(place->id), "%s", id);
	r = sd_event_add_time_relative(session->loop, &place->again, CLOCK_BOOTTIME, 0, 1, on_again,
				       place);
	if (r >= 0)
		r = sd_event_source_set_enabled(place->again, SD_EVENT_OFF);
	if (r < 0)
		return error_code(err, r, "timer");
	r = ask(place, err);
	if (r < 0)
		return r;
	*ret = take_ptr(place);
	return 0;
}

struct place *place_free(struct place *place)
{
	if (!place)
		return NULL;
	(void)transfer_free(place->transfer);
	(void)sd_event_source_disable_unref(place->again);
	free(place->told);
	free(place);
	return NULL;
}
