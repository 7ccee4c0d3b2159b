/* SPDX-License-Identifier: MIT */
#include "cli/order.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/retry.h"

struct order {
	struct order_config config;
	char *path;
	json_t *body;
	struct transfer *transfer;
	struct retry retry;
};

static void on_done(struct transfer *transfer, struct answer *answer, void *data)
{
	struct order *order = data;

	order->transfer = transfer_free(transfer);
	if (!answer_is_good(answer) && retry_later(&order->retry, answer)) {
		answer_done(answer);
		return;
	}
	if (answer->r >= 0)
		retry_good(&order->retry);
	order->config.on_answer(answer, order->config.data);
}

static int start(struct order *order, struct error *err)
{
	const struct client_request request = {
		.method = order->config.method,
		.path = order->path,
		.body = order->body,
		.timeout_s = order->config.timeout_s,
		.on_done = on_done,
		.data = order,
	};

	return client_start(&order->transfer, order->config.session->client, &request, err);
}

static void again(void *data)
{
	struct order *order = data;
	struct answer answer = { 0 };

	answer.r = start(order, &answer.err);
	if (answer.r < 0)
		order->config.on_answer(&answer, order->config.data);
}

int order_new(struct order **ret, const struct order_config *config, struct error *err)
{
	cleanup_(order_freep) struct order *order = calloc(1, sizeof(*order));
	int r;

	if (!order)
		return error_oom(err);
	order->config = *config;
	retry_init(&order->retry, config->session, again, order);
	order->body = json_incref((json_t *)(uintptr_t)config->body);
	order->path = config->path ? strdup(config->path) : NULL;
	if (!order->path)
		return error_oom(err);
	r = start(order, err);
	if (r < 0)
		return r;
	*ret = take_ptr(order);
	return 0;
}

struct order *order_free(struct order *order)
{
	if (!order)
		return NULL;
	(void)transfer_free(order->transfer);
	retry_done(&order->retry);
	json_decref(order->body);
	free(order->path);
	free(order);
	return NULL;
}
