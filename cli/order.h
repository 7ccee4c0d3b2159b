/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>

#include "cli/session.h"

/* A small request that is repeated until the daemon has answered it: one that does no harm when it
 * is done twice. */

struct order;

struct order_config {
	struct session *session;
	const char *method;
	const char *path;   /* from client_path(); copied */
	const json_t *body; /* or NULL; a reference is kept */
	unsigned timeout_s; /* of each try; 0: none */
	/* Runs once; the answer is the callee's, and the order may be freed in it. */
	void (*on_answer)(struct answer *answer, void *data);
	void *data;
};

int order_new(struct order **ret, const struct order_config *config, struct error *err);

/* Gives it up. Takes NULL. */
struct order *order_free(struct order *order);
CLEANUP_DEFINE(struct order *, order_free)
