/* SPDX-License-Identifier: MIT */
#include "dut/reservation-hold.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/jsontext.h"
#include "dut/board.h"
#include "dut/daemon.h"
#include "dut/reservation-internal.h"

/*
 * Those who watch a reservation: the `dut reserve` that it is bound to, mostly. What they are told
 * is a few lines in its whole life; one who does not read them for long is let go.
 */

static const uint64_t BEAT_US = UINT64_C(15) * 1000000;

enum { MAX_WAITING = 64 << 10 }; /* bytes for one who does not read */

struct hold {
	struct list link;		 /* reservation.holds */
	struct reservation *reservation; /* NULL: it has ended */
	bool binds;
	struct http_stream *stream;
	sd_event_source *beat;
	char *text; /* what it has not read */
	size_t length;
};

static void hold_done(void *data)
{
	struct hold *hold = data;

	if (hold->reservation && hold->binds)
		binding_detach(&hold->reservation->binding);
	list_remove(&hold->link);
	sd_event_source_disable_unref(hold->beat);
	free(hold->text);
	free(hold);
}

static ssize_t hold_read(void *data, char *buffer, size_t size)
{
	struct hold *hold = data;
	size_t n = hold->length < size ? hold->length : size;

	if (hold->length > MAX_WAITING)
		return HTTP_STREAM_ABORT;
	if (n == 0)
		return hold->reservation ? 0 : HTTP_STREAM_END;
	memcpy(buffer, hold->text, n);
	memmove(hold->text, hold->text + n, hold->length - n);
	hold->length -= n;
	return (ssize_t)n;
}

static int add_text(struct hold *hold, const char *text, size_t length)
{
	char *longer = realloc(hold->text, hold->length + length);

	if (!longer)
		return -ENOMEM;
	memcpy(longer + hold->length, text, length);
	hold->text = longer;
	hold->length += length;
	return 0;
}

static void add_line(struct hold *hold, json_t *line)
{
	size_t length;
	free_ char *text = line ? jsontext_line(line, &length) : NULL;

	/* One that misses a line is ended, and asks again. */
	if (!text || add_text(hold, text, length) < 0)
		hold->length = MAX_WAITING + 1;
	http_stream_wake(hold->stream);
}

static int on_beat(sd_event_source *source, uint64_t usec, void *data)
{
	struct hold *hold = data;

	(void)usec;
	if (hold->length == 0 && add_text(hold, "\n", 1) >= 0)
		http_stream_wake(hold->stream);
	(void)sd_event_source_set_time_relative(source, BEAT_US);
	(void)sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	return 0;
}

static json_t *line_of(const struct reservation *reservation, const char *type)
{
	return json_pack("{s:s, s:o}", "type", type, "reservation",
			 reservation_to_json(reservation));
}

static void tell(struct reservation *reservation, json_t *line)
{
	LIST_FOREACH_SAFE(link, after, &reservation->holds)
		add_line(CONTAINER_OF(link, struct hold, link), line);
	json_decref(line);
}

void holds_tell(struct reservation *reservation, const char *type)
{
	tell(reservation, line_of(reservation, type));
}

void holds_end(struct reservation *reservation, const char *how, const char *by, const char *why)
{
	json_t *line = line_of(reservation, "ended");

	if (line) {
		(void)json_object_set_new(line, "how", json_string(how));
		(void)json_object_set_new(line, "by", jsontext_new(by));
		(void)json_object_set_new(line, "why", jsontext_new(why));
	}
	tell(reservation, line);
	holds_drop(reservation);
}

void holds_drop(struct reservation *reservation)
{
	LIST_FOREACH_SAFE(link, after, &reservation->holds) {
		struct hold *hold = CONTAINER_OF(link, struct hold, link);

		hold->reservation = NULL;
		list_remove(&hold->link);
		http_stream_wake(hold->stream);
	}
}

static unsigned count_holds(const struct reservation *reservation)
{
	unsigned count = 0;

	LIST_FOREACH(link, &reservation->holds)
		count++;
	return count;
}

int reservation_hold(struct reservation *reservation, struct http_request *request, bool binds,
		     struct error *err)
{
	static const struct http_source source = { .read = hold_read, .done = hold_done };
	struct hold *hold;
	json_t *line;
	int r;

	if (count_holds(reservation) >= MAX_HOLDS)
		return error_set(err, -EAGAIN,
				 "%d clients watch this reservation already, which "
				 "is the limit",
				 MAX_HOLDS);
	hold = calloc(1, sizeof(*hold));
	if (!hold)
		return error_oom(err);
	list_init(&hold->link);
	r = sd_event_add_time_relative(reservation->board->daemon->event, &hold->beat,
				       CLOCK_BOOTTIME, BEAT_US, 0, on_beat, hold);
	if (r < 0) {
		free(hold);
		return error_code(err, r, "cannot watch the client");
	}
	hold->reservation = reservation;
	hold->binds = binds;
	if (binds)
		binding_attach(&reservation->binding);
	list_append(&reservation->holds, &hold->link);
	line = line_of(reservation, "held");
	add_line(hold, line);
	json_decref(line);
	hold->stream = http_reply_stream(request, 200, HTTP_JSON_LINES, &source, hold);
	return 0;
}
