/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/attr.h"
#include "base/http.h"
#include "dut/role.h"
#include "dut/users.h"

/*
 * Who may do what; the one place that decides. A request by the unix socket comes from the peer's
 * user, who has the role use: root, dutd's own user and api.admins have admin. One by TCP comes
 * from a token. Each route needs a role: view to GET, use for all else, or what its tag says, and
 * it is refused before a handler sees it. What depends on more than the route (whose job it is)
 * asks access_need().
 */

struct daemon;

/* The uid of who comes by a token. */
#define ACCESS_NO_UID ((uid_t)-1)

enum {
	ACCESS_NAME_SIZE = USERS_NAME_SIZE + 8,
	ACCESS_FROM_SIZE = HTTP_ADDRESS_SIZE + 8,
};

/* A token's name has this in front, which no user's name can have, and so have its jobs' owners. */
#define ACCESS_TOKEN_PREFIX "token:"

struct access_identity {
	char name[ACCESS_NAME_SIZE]; /* "alice", "uid:1000", "token:ci" */
	uid_t uid;		     /* ACCESS_NO_UID: a token's */
	enum access_role role;
	char from[ACCESS_FROM_SIZE]; /* "unix", "tcp 192.0.2.1" */
};

/* What a route's tag may hold beside a role: a GET whose handler tells or notes who asks. */
enum { ACCESS_NAMED = 16 };

/* Who asks. Handlers of what is no GET, and of ACCESS_NAMED, run when the peer's name is known, or
 * will not be. */
void access_identify(const struct daemon *daemon, const struct http_request *request,
		     struct access_identity *ret);

/* dutd itself, for what it does by itself or by a signal (from: "signal"). */
void access_identify_dutd(struct access_identity *ret, const char *from);

/* Whether what has this owner (a job's owner and owner_uid) is his. */
bool access_owns(const struct access_identity *who, const char *owner, uid_t owner_uid);

/*
 * Whether he has at least this role. If not the request is answered: 403, "WHAT: needs the role
 * admin; you are alice with the role use (from the unix socket)".
 */
bool access_need(struct http_request *request, const struct access_identity *who,
		 enum access_role role, const char *format, ...) printf_(4, 5);

/* Those who come by TCP without a token; for the journal. */
struct access_strangers {
	uint64_t told_us;
	unsigned untold;
};

/* For api.c alone: the hooks of the server. data is the daemon. */
void access_on_head(struct http_request *request, void *data);
void access_on_route(struct http_request *request, void *data);
void access_on_request(struct http_request *request, http_handler_fn handle, void *data);
