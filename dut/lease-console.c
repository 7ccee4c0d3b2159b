/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/attr.h"
#include "base/clock.h"
#include "base/log.h"
#include "dut/daemon.h"
#include "dut/lease-internal.h"
#include "dut/lease.h"

/*
 * The console of a running job. It is lent before each power-on, and again when it was opened anew:
 * an adapter that was unplugged for a moment costs what the board said meanwhile. One that does not
 * come back ends the job, for nothing that the board does could be seen any more.
 */

static const uint64_t CONSOLE_LOST_US = UINT64_C(10) * 1000000; /* from the hang-up */
static const uint64_t CONSOLE_RETRY_US = UINT64_C(500) * 1000;

struct line *lease_line(const struct lease *lease)
{
	return lease->board->n_lines > 0 ? lease->board->lines[0] : NULL;
}

bool lease_lend(struct lease *lease)
{
	struct line *line = lease_line(lease);
	int fds[LINE_LOAN_FDS];
	unsigned generation;

	if (!line || !lease->greeted || line_state(line) == LINE_CLOSED)
		return false;
	/* It has the present fd, and has said so. */
	if (line_state(line) == LINE_LENT && line_loan_is_current(line))
		return false;
	generation = line_lend(line, fds);
	/* Should it not arrive: the next hello says which generation the executor has. */
	(void)lease_send(lease,
			 json_pack("{s:s, s:s, s:I, s:I, s:n}", "t", "lend", "name",
				   line_name(line), "gen", (json_int_t)generation, "base",
				   (json_int_t)lease->job->console_base, "codec"),
			 fds, LINE_LOAN_FDS);
	return true;
}

void lease_on_lent(struct lease *lease, const json_t *packet)
{
	struct line *line = lease_line(lease);
	json_int_t generation = json_integer_value(json_object_get(packet, "gen"));

	if (!line || generation != (json_int_t)line_generation(line))
		return; /* an older loan */
	if (lease->board->outlet)
		outlet_continue(lease->board->outlet, 0, NULL);
}

/* ---- a console that has hung up ---- */

/* Before `on` and from `off` on, a console may be gone: it comes with the power. */
static bool is_needed(const struct lease *lease)
{
	return !lease->request &&
	       (lease->job->phase == PHASE_BOOT || lease->job->phase == PHASE_RUNNING);
}

static void end_job(struct lease *lease, const char *console)
{
	const struct board *board = lease->board;
	char why[256];

	(void)snprintf(why, sizeof(why),
		       "the console %s has hung up and has not come back for %" PRIu64
		       " s; the power is %s",
		       console, CONSOLE_LOST_US / 1000000,
		       board->outlet ? power_state_name(outlet_status(board->outlet)->state)
				     : "not known");
	log_job(board->config->id, lease->job->id, LOG_WARNING, "%s", why);
	lease->console_lost = true;
	(void)snprintf(lease->why, sizeof(lease->why), "%s", why);
	lease_cancel(lease);
}

static int on_console_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct lease *lease = data;
	struct line *line = lease_line(lease);
	bool late = clock_now_us() - lease->hung_up_us >= CONSOLE_LOST_US;

	(void)source;
	(void)usec;
	lease->console_timer = sd_event_source_disable_unref(lease->console_timer);
	if (is_needed(lease) && line_has_hung_up(line)) {
		if (line_connect(line, NULL) <= 0) {
			if (late)
				end_job(lease, line_name(line));
			else
				lease_watch_console(lease);
			return 0;
		}
		(void)lease_lend(lease);
	}
	lease->hung_up_us = 0;
	return 0;
}

void lease_watch_console(struct lease *lease)
{
	struct line *line = lease_line(lease);

	if (lease->console_timer || lease->console_lost || !line || !is_needed(lease) ||
	    line_state(line) != LINE_LENT || !line_has_hung_up(line))
		return;
	if (!lease->hung_up_us)
		lease->hung_up_us = clock_now_us();
	if (sd_event_add_time_relative(lease->board->daemon->event, &lease->console_timer,
				       CLOCK_BOOTTIME, CONSOLE_RETRY_US, 0, on_console_timer,
				       lease) >= 0)
		(void)sd_event_source_set_description(lease->console_timer, "console-lost");
}

int lease_adopt_console(struct lease *lease, const json_t *console, int fds[static PACKET_FDS_MAX],
			struct error *err)
{
	struct line *line = lease_line(lease);
	json_int_t generation = json_integer_value(json_object_get(console, "gen"));

	if (!line || line_state(line) == LINE_LENT)
		return 0;
	if (json_is_object(console))
		return line_adopt(line, fds, (unsigned)generation, err);
	/* It has none yet: one that is there is lent. */
	(void)line_connect(line, NULL);
	return 0;
}
