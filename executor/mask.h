/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stddef.h>

/*
 * Hides secrets in what people read: the values of those variables of the submitter's environment
 * whose names contain TOKEN, PASSWORD or SECRET. Values shorter than MASK_BYTES_MIN are not hidden;
 * they would hide half of every text.
 */

enum { MASK_BYTES_MIN = 3 };

struct mask {
	char **values; /* longest first; each as it is and as text_escape() writes it */
	size_t count;
};

/* variables: an object of texts, or NULL. Errors: -ENOMEM. */
int mask_init(struct mask *mask, json_t *variables);
void mask_done(struct mask *mask);

/* Replaces in place; a secret becomes "***", so the text never grows. */
void mask_text(const struct mask *mask, char *text);

/* Replaces in every text that the value contains, at any depth. */
void mask_json(const struct mask *mask, json_t *value);
