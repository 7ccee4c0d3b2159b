/* SPDX-License-Identifier: MIT */
#pragma once

#include "base/cleanup.h"
#include "base/error.h"
#include "cli/cli.h"

/*
 * Where the daemon is: its socket on this machine; a URL, http:// or https://, with a token; or
 * ssh://USER@GATEWAY, where `dut proxy` reaches its socket.
 */

enum endpoint_kind { ENDPOINT_SOCKET, ENDPOINT_HTTP, ENDPOINT_SSH };

struct endpoint {
	enum endpoint_kind kind;
	char *name;   /* for texts: the socket's path, or the URL without what is secret */
	char *base;   /* of the URLs of requests: "http://gateway:8600" */
	char *token;  /* ENDPOINT_HTTP: or NULL */
	char *target; /* ENDPOINT_SSH: "user@gateway" */
	char *port;   /* ENDPOINT_SSH: or NULL */
};

/* What the options say, then the environment, then the standard socket. -EINVAL for a host or a
 * token that cannot be one; -errno of a token's file. */
int endpoint_find(struct endpoint *ret, const struct cli *cli, struct error *err);

/* The same for a URL alone. */
int endpoint_parse(struct endpoint *ret, const char *url, struct error *err);

void endpoint_done(struct endpoint *endpoint);
