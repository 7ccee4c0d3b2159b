/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <sys/socket.h>

#include "base/error.h"

/*
 * An address of api.listen, "127.0.0.1:8600" or "[::1]:8600": numbers alone, so that no name has to
 * be looked up. False when the text is no such thing; ret may be NULL.
 */
bool listen_parse(struct sockaddr_storage *ret, const char *text);

/*
 * A socket that listens there; close-on-exec and non-blocking. What it accepts finds out by itself
 * that a client is gone without a word.
 *
 * Errors: -EADDRINUSE, -EADDRNOTAVAIL, -EACCES (a port below 1024) ...; err names the address.
 */
int listen_open(int *ret_fd, const char *text, struct error *err);
