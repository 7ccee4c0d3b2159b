/* SPDX-License-Identifier: MIT */
#include "cli/retry.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"

enum {
	FIRST_PAUSE_US = 50 * 1000,
	MAX_PAUSE_US = 1000 * 1000,
	STEADY_US =
		1000 * 1000, /* a connection that lived for so long was none that breaks at once */
};

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct retry *retry = data;

	(void)source;
	(void)usec;
	retry->again(retry->data);
	return 0;
}

void retry_init(struct retry *retry, struct session *session, void (*again)(void *data), void *data)
{
	*retry = (struct retry){ .session = session, .again = again, .data = data };
}

void retry_done(struct retry *retry)
{
	retry->timer = sd_event_source_disable_unref(retry->timer);
}

void retry_good(struct retry *retry)
{
	retry->lost_us = 0;
	retry->good_us = clock_now_us();
	session_found(retry->session);
}

static bool is_worth_it(const struct retry *retry, const struct answer *answer)
{
	switch (answer->r) {
	case 0: /* it stops, or has no room just now for one who had a place before */
		return (answer->status == 503 || answer->status == 429) &&
		       (retry->lost_us || retry->good_us);
	case -EACCES:
	case -ENOMEM:
	case -EFBIG:
	case -EIO:
		return false;
	default:
		return true;
	}
}

bool retry_later(struct retry *retry, const struct answer *answer)
{
	struct session *session = retry->session;
	uint64_t now_us = clock_now_us();

	if (answer->r == -ECONNRESET)
		session->reached = true;
	if (!is_worth_it(retry, answer) || !session->reached || session->reconnect_us == 0)
		return false;
	/* A connection may break for once; the daemon is away when there is no new one. */
	if (retry->lost_us == 0)
		retry->lost_us = now_us;
	else
		session_lost(session, answer);
	if (now_us - retry->lost_us >= session->reconnect_us)
		return false;
	if (retry->pause_us == 0 || (retry->good_us && now_us - retry->good_us >= STEADY_US))
		retry->pause_us = FIRST_PAUSE_US;
	else if (retry->pause_us < MAX_PAUSE_US / 2)
		retry->pause_us *= 2;
	else
		retry->pause_us = MAX_PAUSE_US;
	retry->good_us = 0;
	retry->timer = sd_event_source_disable_unref(retry->timer);
	return sd_event_add_time_relative(session->loop, &retry->timer, CLOCK_BOOTTIME,
					  retry->pause_us, 1000, on_timer, retry) >= 0;
}

bool retry_read_limit(uint64_t *ret_us, const char *verb, const char *text)
{
	struct error err;

	if (text_to_duration_us(ret_us, text ? text : RETRY_DEFAULT, &err) >= 0)
		return true;
	say("%s: --reconnect: %s", verb, err.text);
	return false;
}
