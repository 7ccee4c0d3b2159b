/* SPDX-License-Identifier: MIT */
#pragma once

#include "base/attr.h"

/*
 * What a person will read when a call fails. On the caller's stack, never allocated. A function
 * that takes an `err` fills it on every failure; NULL is allowed and drops the text.
 */
struct error {
	char text[256];
};

/* Sets the text and returns code, which is a negative errno. A text that is too long is cut behind
 * a whole character of UTF-8, here and below. */
int error_set(struct error *err, int code, const char *format, ...) printf_(3, 4);

/* Sets "TEXT: strerror(errno)" and returns -errno. */
int error_errno(struct error *err, const char *format, ...) printf_(2, 3);

/* Sets "TEXT: strerror(code)" for a call that returned a negative errno (libsystemd), and returns
 * code. */
int error_code(struct error *err, int code, const char *format, ...) printf_(3, 4);

/* Puts "TEXT: " before what is there and returns code. */
int error_prefix(struct error *err, int code, const char *format, ...) printf_(3, 4);

/* Says that memory ran out and returns -ENOMEM. */
int error_oom(struct error *err);
