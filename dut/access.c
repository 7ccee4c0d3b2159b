/* SPDX-License-Identifier: MIT */
#include "dut/access-internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/attr.h"
#include "dut/daemon.h"

/* ---- who it is ---- */

static bool is_admin(const struct daemon *daemon, uid_t uid, const char *name)
{
	char *const *admins = daemon->config->admins;

	if (uid == 0 || uid == geteuid())
		return true;
	for (; admins && *admins; admins++)
		if (strcmp(name, *admins) == 0)
			return true;
	return false;
}

/* False while a better name than uid:N can still be had. */
static bool identify_user(const struct daemon *daemon, uid_t uid, struct access_identity *ret)
{
	bool known;

	*ret = (struct access_identity){ .uid = uid, .from = "unix" };
	known = users_name(daemon->users, uid, ret->name);
	ret->role = is_admin(daemon, uid, ret->name) ? ACCESS_ADMIN : ACCESS_USE;
	return known;
}

/* Whoever came by TCP is known since the head of his request, whatever becomes of his token. */
static bool identify(const struct daemon *daemon, const struct http_request *request,
		     struct access_identity *ret)
{
	const struct http_peer *peer = http_request_peer(request);
	const struct access_identity *by_tcp = http_request_context(request);

	if (!*peer->address)
		return identify_user(daemon, peer->uid, ret);
	/* Without one it was refused at its head. */
	*ret = by_tcp ? *by_tcp : (struct access_identity){ .uid = ACCESS_NO_UID };
	return true;
}

void access_identify(const struct daemon *daemon, const struct http_request *request,
		     struct access_identity *ret)
{
	(void)identify(daemon, request, ret);
}

void access_identify_dutd(struct access_identity *ret, const char *from)
{
	*ret = (struct access_identity){ .name = "dutd", .uid = geteuid(), .role = ACCESS_ADMIN };
	(void)snprintf(ret->from, sizeof(ret->from), "%s", from);
}

bool access_owns(const struct access_identity *who, const char *owner, uid_t owner_uid)
{
	if (who->uid != owner_uid)
		return false;
	/* All tokens have this one. */
	return who->uid != ACCESS_NO_UID || strcmp(who->name, owner) == 0;
}

/* ---- what he may ---- */

static void refuse(struct http_request *request, const struct access_identity *who,
		   enum access_role role, const char *what)
{
	http_reply_error(request, 403,
			 "%s needs the role %s; you are %s with the role %s (from %s)", what,
			 access_role_name(role), who->name, access_role_name(who->role),
			 who->uid == ACCESS_NO_UID ? who->from : "the unix socket");
}

bool access_need(struct http_request *request, const struct access_identity *who,
		 enum access_role role, const char *format, ...)
{
	char what[512];
	va_list arguments;

	if (who->role >= role)
		return true;
	va_start(arguments, format);
	(void)vsnprintf(what, sizeof(what), format, arguments);
	va_end(arguments);
	refuse(request, who, role, what);
	return false;
}

static enum access_role needed_role(const struct http_request *request)
{
	const char *method = http_request_method(request);
	enum access_role role = http_request_tag(request) & ~(unsigned)ACCESS_NAMED;

	if (role != ACCESS_NOBODY)
		return role;
	return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0 ? ACCESS_VIEW : ACCESS_USE;
}

/* What everybody may who can open the unix socket: most requests, and the cheap ones. */
static bool is_for_all_users(const struct http_request *request)
{
	return !*http_request_peer(request)->address && needed_role(request) <= ACCESS_USE;
}

static bool may_have_route(struct http_request *request, const struct access_identity *who)
{
	return access_need(request, who, needed_role(request), "%s %.200s",
			   http_request_method(request), http_request_path(request));
}

/* ---- the hooks ---- */

void access_on_head(struct http_request *request, void *data)
{
	if (*http_request_peer(request)->address)
		access_by_tcp(request, data);
}

void access_on_route(struct http_request *request, void *data)
{
	struct access_identity who;

	/* Who has no name yet may turn out to be one of api.admins: see access_on_request(). */
	if (!is_for_all_users(request) && identify(data, request, &who))
		(void)may_have_route(request, &who);
}

/* A request that waits for the name of its peer. */
struct named_call {
	struct daemon *daemon;
	struct http_request *request;
	http_handler_fn handle;
};

static void go_on(struct http_request *request, http_handler_fn handle, struct daemon *daemon)
{
	struct access_identity who;

	if (!is_for_all_users(request)) {
		access_identify(daemon, request, &who);
		if (!may_have_route(request, &who))
			return;
	}
	handle(request, daemon);
}

static void on_unnamed_gone(void *data)
{
	struct named_call *call = data;

	users_forget(call->daemon->users, call);
	free(call);
}

static void on_named(void *data)
{
	struct named_call call = *(struct named_call *)data;

	free(data);
	http_request_on_gone(call.request, NULL, NULL);
	go_on(call.request, call.handle, call.daemon);
}

void access_on_request(struct http_request *request, http_handler_fn handle, void *data)
{
	struct daemon *daemon = data;
	uid_t uid = http_request_peer(request)->uid;
	struct access_identity who;
	struct named_call *call;

	/* To look needs no name. */
	if ((needed_role(request) == ACCESS_VIEW && !(http_request_tag(request) & ACCESS_NAMED)) ||
	    identify(daemon, request, &who)) {
		go_on(request, handle, daemon);
		return;
	}
	call = malloc(sizeof(*call));
	if (call)
		*call = (struct named_call){ daemon, request, handle };
	/* Without a look-up uid:N has to do. */
	if (!call || users_ask(daemon->users, uid, on_named, call, NULL) < 0) {
		free(call);
		go_on(request, handle, daemon);
		return;
	}
	http_request_on_gone(request, on_unnamed_gone, call);
}
