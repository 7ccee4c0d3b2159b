/* SPDX-License-Identifier: MIT */
#include "cli/hold.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/lines.h"
#include "cli/view.h"

static const uint64_t AGAIN_US = 1000000;

struct hold {
	struct hold_config config;
	char *dut, *id;
	struct transfer *transfer;
	struct lines *lines;
	sd_event_source *again;
	bool ended; /* it was said so */
	bool away;  /* dutd, and that was said */
};

static void on_text(const char *text, size_t length, void *data)
{
	struct hold *hold = data;
	json_auto_t *line = json_loadb(text, length, 0, NULL);
	const char *type = view_text(line, "type");

	if (!type || hold->ended)
		return;
	hold->away = false;
	hold->ended = strcmp(type, "ended") == 0;
	hold->config.on_line(line, hold->config.data);
}

static void on_bytes(struct transfer *transfer, const char *bytes, size_t length, void *data)
{
	struct hold *hold = data;

	(void)transfer;
	/* A line that there was no memory for is missed, and asked for again at the next break. */
	(void)lines_add(hold->lines, bytes, length, on_text, hold);
}

static void again(struct hold *hold)
{
	(void)sd_event_source_set_time_relative(hold->again, AGAIN_US);
	(void)sd_event_source_set_enabled(hold->again, SD_EVENT_ONESHOT);
}

static void on_done(struct transfer *transfer, struct answer *answer, void *data)
{
	struct hold *hold = data;

	hold->transfer = transfer_free(transfer);
	if (hold->ended) {
		answer_done(answer);
		return;
	}
	if (answer->r >= 0 && (answer->status == 403 || answer->status == 404)) {
		hold->ended = true;
		hold->config.on_lost(answer, hold->config.data);
		return;
	}
	if (!hold->away)
		say("%s: the connection to the daemon is lost, trying again", hold->dut);
	hold->away = true;
	answer_done(answer);
	again(hold);
}

static int ask(struct hold *hold, struct error *err)
{
	free_ char *path =
		client_path("/dut/%s/reservation?id=%s&hold=%s", hold->dut, hold->id, hold->id);
	const struct client_request request = {
		.method = "GET",
		.path = path,
		.on_bytes = on_bytes,
		.on_done = on_done,
		.data = hold,
	};
	int r;

	if (!path)
		return error_oom(err);
	hold->lines = lines_free(hold->lines);
	r = lines_new(&hold->lines, err);
	return r < 0 ? r
		     : client_start(&hold->transfer, hold->config.session->client, &request, err);
}

static int on_again(sd_event_source *source, uint64_t usec, void *data)
{
	struct hold *hold = data;
	struct error err;

	(void)source;
	(void)usec;
	if (ask(hold, &err) < 0)
		again(hold);
	return 0;
}

int hold_new(struct hold **ret, const struct hold_config *config, struct error *err)
{
	cleanup_(hold_freep) struct hold *hold = calloc(1, sizeof(*hold));
	int r;

	if (!hold)
		return error_oom(err);
	hold->config = *config;
	hold->dut = strdup(config->dut);
	hold->id = strdup(config->id);
	if (!hold->dut || !hold->id)
		return error_oom(err);
	r = sd_event_add_time_relative(config->session->loop, &hold->again, CLOCK_BOOTTIME, 0, 1,
				       on_again, hold);
	if (r >= 0)
		r = sd_event_source_set_enabled(hold->again, SD_EVENT_OFF);
	if (r < 0)
		return error_code(err, r, "timer");
	r = ask(hold, err);
	if (r < 0)
		return r;
	*ret = take_ptr(hold);
	return 0;
}

struct hold *hold_free(struct hold *hold)
{
	if (!hold)
		return NULL;
	(void)transfer_free(hold->transfer);
	(void)sd_event_source_disable_unref(hold->again);
	(void)lines_free(hold->lines);
	free(hold->dut);
	free(hold->id);
	free(hold);
	return NULL;
}
