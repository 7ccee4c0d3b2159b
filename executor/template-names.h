/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"

/* What the names in templates stand for. */

/* The value of a name, borrowed from the facts, or NULL. */
const json_t *template_names_find(const json_t *facts, const char *name);

/*
 * Writes why a name has no value. True for one that the daemon may know, which is no fault where
 * there is none.
 */
bool template_names_explain(const char *name, const json_t *facts, struct error *ret);
