/* SPDX-License-Identifier: MIT */
#pragma once

#include "base/error.h"

/*
 * The file of api.tokens_file is read again when it changes. A file with a fault is said and not
 * taken: the tokens that were there before go on. One that is gone has no tokens.
 */

struct daemon;
struct token_watch;

/* Watches the file that the present configuration names, whose tokens it has already; to be made
 * anew with another configuration. NULL in *ret when it names none. */
int token_watch_new(struct token_watch **ret, struct daemon *daemon, struct error *err);

/* The same with a configuration that was read again, in the place of what there is; what fails is
 * logged. */
void token_watch_renew(struct daemon *daemon);

struct token_watch *token_watch_free(struct token_watch *watch);
