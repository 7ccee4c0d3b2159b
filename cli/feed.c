/* SPDX-License-Identifier: MIT */
#include "cli/feed.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/retry.h"

struct feed {
	struct feed_config config;
	char *path, *from;
	struct transfer *transfer;
	struct retry retry;
	bool paused;
	bool has_at; /* there was a connection that told: */
	uint64_t at;
};

static void on_head(struct transfer *transfer, void *data)
{
	struct feed *feed = data;
	uint64_t offset, missing = 0;

	retry_good(&feed->retry);
	if (feed->config.has_offsets && transfer_console_offset(transfer, &offset)) {
		if (feed->has_at && offset > feed->at)
			missing = offset - feed->at;
		feed->has_at = true;
		feed->at = offset;
	}
	if (feed->config.on_begin)
		feed->config.on_begin(missing, feed->config.data);
}

static void on_bytes(struct transfer *transfer, const char *bytes, size_t length, void *data)
{
	struct feed *feed = data;

	(void)transfer;
	feed->at += length;
	feed->config.on_bytes(bytes, length, feed->config.data);
}

static void on_done(struct transfer *transfer, struct answer *answer, void *data)
{
	struct feed *feed = data;

	feed->transfer = transfer_free(transfer);
	if (!answer_is_good(answer) && retry_later(&feed->retry, answer))
		answer_done(answer);
	else
		feed->config.on_end(answer, feed->config.data);
}

static int start(struct feed *feed, struct error *err)
{
	free_ char *path = NULL;
	const char *join = strchr(feed->path, '?') ? "&" : "?";
	struct client_request request = {
		.method = "GET",
		.on_head = on_head,
		.on_bytes = on_bytes,
		.on_done = on_done,
		.data = feed,
	};
	int r;

	if (feed->has_at)
		r = asprintf(&path, "%s%soffset=%" PRIu64, feed->path, join, feed->at);
	else
		r = asprintf(&path, "%s%s%s%s", feed->path, feed->from ? join : "",
			     feed->from ? "offset=" : "", feed->from ? feed->from : "");
	if (r < 0) {
		path = NULL;
		return error_oom(err);
	}
	request.path = path;
	r = client_start(&feed->transfer, feed->config.session->client, &request, err);
	if (r >= 0 && feed->paused)
		transfer_pause(feed->transfer);
	return r;
}

static void again(void *data)
{
	struct feed *feed = data;
	struct answer answer = { 0 };

	answer.r = start(feed, &answer.err);
	if (answer.r < 0)
		feed->config.on_end(&answer, feed->config.data);
}

int feed_new(struct feed **ret, const struct feed_config *config, struct error *err)
{
	cleanup_(feed_freep) struct feed *feed = calloc(1, sizeof(*feed));
	int r;

	if (!feed)
		return error_oom(err);
	feed->config = *config;
	retry_init(&feed->retry, config->session, again, feed);
	feed->path = strdup(config->path);
	feed->from = config->from ? strdup(config->from) : NULL;
	if (!feed->path || (config->from && !feed->from))
		return error_oom(err);
	r = start(feed, err);
	if (r < 0)
		return r;
	*ret = take_ptr(feed);
	return 0;
}

struct feed *feed_free(struct feed *feed)
{
	if (!feed)
		return NULL;
	(void)transfer_free(feed->transfer);
	retry_done(&feed->retry);
	free(feed->path);
	free(feed->from);
	free(feed);
	return NULL;
}

void feed_pause(struct feed *feed)
{
	feed->paused = true;
	if (feed->transfer)
		transfer_pause(feed->transfer);
}

void feed_resume(struct feed *feed)
{
	feed->paused = false;
	if (feed->transfer)
		transfer_resume(feed->transfer);
}

bool feed_offset(const struct feed *feed, uint64_t *ret)
{
	if (feed->has_at)
		*ret = feed->at;
	return feed->has_at;
}
