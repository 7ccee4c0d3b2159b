/* SPDX-License-Identifier: MIT */
#include "dut/access-internal.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "dut/daemon.h"

/*
 * Who comes by TCP. A token is all that counts; but before it is looked at, a request that a
 * browser makes for another site's page is refused: such a page may have a name for this host that
 * is none of ours (DNS rebinding), or says where it comes from (Origin).
 */

static const uint64_t STRANGERS_QUIET_US = UINT64_C(60) * 1000000;

/* ---- what a browser says ---- */

/* The host of "host:port", "[::1]:port" or either without a port. */
static bool cut_port(char *host, size_t size, const char *authority)
{
	const char *from = authority;
	size_t length = strcspn(from, ":");

	if (*from == '[') {
		from++;
		length = strcspn(from, "]");
	}
	if (length == 0 || length >= size)
		return false;
	memcpy(host, from, length);
	host[length] = '\0';
	return true;
}

static bool is_own_name(const struct daemon *daemon, const char *host)
{
	unsigned char address[sizeof(struct in6_addr)];
	char own[256] = "";

	/* A name that can be made to mean this host is what is dangerous; a number is none. */
	if (inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1 ||
	    strcasecmp(host, "localhost") == 0)
		return true;
	for (char *const *name = daemon->config->host_names; name && *name; name++)
		if (strcasecmp(host, *name) == 0)
			return true;
	return gethostname(own, sizeof(own) - 1) == 0 && *own && strcasecmp(host, own) == 0;
}

/* Whether it may go on; else it is answered. */
static bool check_host(struct http_request *request, const struct daemon *daemon)
{
	const char *authority = http_request_header(request, "Host");
	char host[256], shown[128];

	/* HTTP/1.0, which no browser speaks. */
	if (!authority)
		return true;
	if (cut_port(host, sizeof(host), authority) && is_own_name(daemon, host))
		return true;
	http_reply_error(request, 403,
			 "'%s' is no name of this host: a number, its own name, or one of "
			 "api.host_names (dutd.yaml(5))",
			 text_escape(shown, sizeof(shown), authority, strlen(authority)));
	return false;
}

static bool check_origin(struct http_request *request)
{
	const char *origin = http_request_header(request, "Origin");
	const char *authority = http_request_header(request, "Host");
	const char *slashes = origin ? strstr(origin, "://") : NULL;
	char shown[128];

	if (!origin || (slashes && authority && strcasecmp(slashes + 3, authority) == 0))
		return true;
	http_reply_error(request, 403, "pages of '%s' are not served",
			 text_escape(shown, sizeof(shown), origin, strlen(origin)));
	return false;
}

/* ---- the token ---- */

/*
 * The token of "Authorization: Bearer SECRET", or NULL.
 *
 * Source: RFC 6750, section 2.1; RFC 9110, section 11.1 (the scheme in either case).
 */
static const struct token *find_token(const struct http_request *request,
				      const struct daemon *daemon)
{
	static const char scheme[] = "Bearer ";
	const char *header = http_request_header(request, "Authorization");

	if (!header || strncasecmp(header, scheme, strlen(scheme)) != 0)
		return NULL;
	header += strlen(scheme);
	header += strspn(header, " ");
	return tokens_find(&daemon->config->tokens, header, strlen(header));
}

/* Once a minute: those who ask must not fill the journal. */
static void tell_of_stranger(struct daemon *daemon, const char *address)
{
	struct access_strangers *strangers = &daemon->strangers;
	uint64_t now_us = clock_now_us();

	if (strangers->told_us && now_us - strangers->told_us < STRANGERS_QUIET_US) {
		strangers->untold++;
		return;
	}
	if (strangers->untold > 0)
		log_msg(LOG_NOTICE,
			"a request from %s without a token that is known, and %u more before it",
			address, strangers->untold);
	else
		log_msg(LOG_NOTICE, "a request from %s without a token that is known", address);
	strangers->told_us = now_us;
	strangers->untold = 0;
}

/* What limits count it by: apart from all uids and addresses. */
static uint64_t number_of(const char *name)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	/* FNV-1a. Two that meet share their limits, and nothing else. */
	for (; *name; name++)
		hash = (hash ^ (unsigned char)*name) * UINT64_C(0x100000001b3);
	return hash | UINT64_C(3) << 62;
}

void access_by_tcp(struct http_request *request, struct daemon *daemon)
{
	const struct http_peer *peer = http_request_peer(request);
	struct access_identity *who;
	const struct token *token;

	if (!check_host(request, daemon) || !check_origin(request))
		return;
	token = find_token(request, daemon);
	if (!token) {
		tell_of_stranger(daemon, peer->address);
		http_request_distrust(request);
		http_reply_header(request, "WWW-Authenticate", "Bearer");
		http_reply_error(request, 401,
				 "a request by TCP needs a token that is known here "
				 "(Authorization: Bearer SECRET)");
		return;
	}
	who = calloc(1, sizeof(*who));
	if (!who) {
		http_reply_error(request, 500, "out of memory");
		return;
	}
	who->uid = ACCESS_NO_UID;
	who->role = token->role;
	(void)snprintf(who->name, sizeof(who->name), ACCESS_TOKEN_PREFIX "%s", token->name);
	(void)snprintf(who->from, sizeof(who->from), "tcp %s", peer->address);
	http_request_set_context(request, who, free);
	http_request_set_user(request, number_of(token->name), who->name);
}
