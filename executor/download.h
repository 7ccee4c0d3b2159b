/* SPDX-License-Identifier: MIT */
#pragma once

#include "base/error.h"
#include "executor/sink.h"

/* How long a transfer may take to fail. */
struct download_limits {
	unsigned connect_s; /* name, connection and TLS together */
	unsigned stall_s;   /* with less than DOWNLOAD_SLOW_BYTES a second */
	unsigned retry_ms;  /* before the first retry; twice as long before each further one */
};

enum {
	DOWNLOAD_CONNECT_S = 30,
	DOWNLOAD_STALL_S = 60,
	DOWNLOAD_SLOW_BYTES = 100,
	DOWNLOAD_RETRY_MS = 1000,
	DOWNLOAD_RETRIES_MAX = 3,	 /* in a row that brought nothing new */
	DOWNLOAD_RETRIES_TOTAL_MAX = 30, /* also when each brought a little */
	DOWNLOAD_RETRY_AFTER_MAX_S = 60, /* that a server may ask for */
	DOWNLOAD_REDIRECTS_MAX = 10,
	DOWNLOAD_HEADERS_MAX = 1 << 20, /* bytes, of all answers together */
};

/*
 * Downloads an http or https URL into a sink, on libcurl. Redirects are followed within http and
 * https. A transfer that breaks, and an answer that says "later" (408, 429, 500, 502 to 504), is
 * tried again: from where it stopped if the server can tell that its file is still the same one,
 * else from the beginning. Proxies are those of the environment. Certificates are always verified,
 * against the system's store or, when the environment has it, SSL_CERT_FILE.
 *
 * Errors: -EREMOTEIO what the network or the server did; -E2BIG over the sink's limit; those of the
 *         sink. Texts never hold the user, password or query of a URL.
 * Blocks: until it is done. Whoever does not want it any more kills the process.
 * Source: RFC 9110, sections 8.8.2.2 (dates as validators), 13.1.5 (If-Range), 14.4
 *         (Content-Range), 15 (status codes).
 */
int download_url(const char *url, struct sink *sink, const struct download_limits *limits,
		 struct error *err);
