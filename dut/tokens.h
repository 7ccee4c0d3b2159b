/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>

#include "base/digest.h"
#include "base/error.h"
#include "base/problem.h"
#include "base/text.h"
#include "dut/role.h"

/*
 * The file of api.tokens_file: who may come by TCP. A line each, NAME ROLE SHA-256 of the secret in
 * hexadecimal; empty lines and those that begin with '#' count for nothing.
 */

enum {
	TOKENS_MAX = 1000,
	TOKENS_MAX_FILE = 1 << 20, /* bytes */
	TOKENS_MAX_SECRET = 256,   /* bytes */
};

struct token {
	char name[TEXT_NAME_MAX + 1];
	enum access_role role;
	unsigned char digest[DIGEST_SIZE]; /* of the secret */
	unsigned line;
};

struct tokens {
	struct token *items;
	size_t count;
};

void tokens_done(struct tokens *tokens);

/*
 * Reads the text of a file of this name. With problems *ret stays as it was.
 *
 * Errors: -EBADMSG with problems, -ENOMEM.
 */
int tokens_parse(struct tokens *ret, const char *file, const char *text, size_t length,
		 struct problems *problems, struct error *err);

/*
 * The same from the disk: a regular file of root's or our own user's, that nobody else can write
 * to.
 *
 * Errors: -EBADMSG with problems; -EPERM for a file that others can write to; errno.
 * Blocks: on the disk.
 */
int tokens_load(struct tokens *ret, const char *path, struct problems *problems, struct error *err);

/* The token with this secret, or NULL; in a time that does not tell which it resembles. */
const struct token *tokens_find(const struct tokens *tokens, const char *secret, size_t length);
