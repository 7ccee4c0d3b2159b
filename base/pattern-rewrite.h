/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/*
 * What pattern.c does to a regular expression before the library sees it, so that the ends of lines
 * and the forms of Python mean what dut-job(5) says.
 */

struct rewritten {
	char *text;	/* not terminated */
	size_t *origin; /* for each byte of text and its end, where in the regex it came from */
	size_t length;
	bool line_end; /* it asks for the end of a line somewhere */
};

/* Errors: -EINVAL with the place in *ret_offset, for `\z` behind text; -ENOMEM. */
int pattern_rewrite(struct rewritten *ret, const char *regex, size_t length, size_t *ret_offset,
		    struct error *err);
void rewritten_done(struct rewritten *rewritten);
