/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/http.h"

/*
 * Sends the bytes to a server that listens at dir_fd/name, whole or in small pieces (which of both
 * is decided by the bytes), reads what is answered, and leaves. Afterwards the server, which may be
 * NULL where it is not known, has nothing of the client any more.
 */
void fuzz_http(sd_event *event, const struct http_server *server, int dir_fd, const char *name,
	       const uint8_t *data, size_t size);
