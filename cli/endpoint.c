/* SPDX-License-Identifier: MIT */
#include "cli/endpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "cli/client.h"

enum { TOKEN_MAX = 256, HTTP_PORT = 8600, HTTPS_PORT = 443 };

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
static const char host_rest[] = "0123456789.-_";
static const char address_rest[] = "0123456789abcdefABCDEF:.%";

void endpoint_done(struct endpoint *endpoint)
{
	if (endpoint->token)
		explicit_bzero(endpoint->token, strlen(endpoint->token));
	free(endpoint->name);
	free(endpoint->base);
	free(endpoint->token);
	free(endpoint->target);
	free(endpoint->port);
	*endpoint = (struct endpoint){ 0 };
}

/* ---- a URL ---- */

/* What stands between "//" and the end. */
struct authority {
	const char *user, *host, *port; /* user and port: or NULL */
	size_t user_length, host_length;
	bool is_address; /* an IPv6 address, without its brackets */
};

static bool has_only(const char *text, size_t length, const char *first, const char *second)
{
	for (size_t i = 0; i < length; i++)
		if (!strchr(first, text[i]) && !strchr(second, text[i]))
			return false;
	return length > 0;
}

/* False for what is none; a leading '-' would be an option of ssh. */
static bool cut(struct authority *ret, const char *text, char *port, size_t size)
{
	size_t length = strcspn(text, "/");
	const char *at = memchr(text, '@', length), *end = text + length, *rest;

	*ret = (struct authority){ 0 };
	/* A path would be lost. */
	if (*end && end[1])
		return false;
	if (at) {
		ret->user = text;
		ret->user_length = (size_t)(at - text);
		if (*text == '-' || !has_only(text, ret->user_length, letters, host_rest))
			return false;
		text = at + 1;
	}
	ret->is_address = *text == '[';
	ret->host = text + ret->is_address;
	ret->host_length = strcspn(ret->host, ret->is_address ? "]" : ":/");
	rest = ret->host + ret->host_length;
	if (ret->is_address ? *rest++ != ']' ||
				      !has_only(ret->host, ret->host_length, address_rest, letters)
			    : *ret->host == '-' ||
				      !has_only(ret->host, ret->host_length, letters, host_rest))
		return false;
	if (rest >= end)
		return true;
	length = (size_t)(end - rest) - 1;
	if (*rest != ':' || length == 0 || length >= size)
		return false;
	memcpy(port, rest + 1, length);
	port[length] = '\0';
	ret->port = port;
	return text_to_uint64(&(uint64_t){ 0 }, port, 1, UINT16_MAX, NULL) >= 0;
}

static int set_http(struct endpoint *endpoint, const struct authority *authority,
		    const char *scheme, unsigned default_port, struct error *err)
{
	char port[8];

	(void)snprintf(port, sizeof(port), "%u", default_port);
	endpoint->kind = ENDPOINT_HTTP;
	if (asprintf(&endpoint->base, "%s://%s%.*s%s:%s", scheme, authority->is_address ? "[" : "",
		     (int)authority->host_length, authority->host, authority->is_address ? "]" : "",
		     authority->port ? authority->port : port) < 0)
		endpoint->base = NULL;
	if (endpoint->base)
		endpoint->name = strdup(endpoint->base);
	return endpoint->name ? 0 : error_oom(err);
}

static int set_ssh(struct endpoint *endpoint, const struct authority *authority, struct error *err)
{
	endpoint->kind = ENDPOINT_SSH;
	if (asprintf(&endpoint->target, "%.*s%s%.*s", (int)authority->user_length,
		     authority->user ? authority->user : "", authority->user ? "@" : "",
		     (int)authority->host_length, authority->host) < 0)
		endpoint->target = NULL;
	if (!endpoint->target ||
	    asprintf(&endpoint->name, "ssh://%s%s%s", endpoint->target, authority->port ? ":" : "",
		     authority->port ? authority->port : "") < 0)
		endpoint->name = NULL;
	endpoint->base = strdup("http://dutd");
	endpoint->port = authority->port ? strdup(authority->port) : NULL;
	if (!endpoint->name || !endpoint->base || !endpoint->port != !authority->port)
		return error_oom(err);
	return 0;
}

static int set_url(struct endpoint *endpoint, const char *url, struct error *err)
{
	static const char *const schemes[] = { "http", "https", "ssh" };
	const char *rest = strstr(url, "://");
	struct authority authority;
	char port[8], shown[128];
	size_t scheme = 0;

	while (rest && scheme < ARRAY_SIZE(schemes) &&
	       (strlen(schemes[scheme]) != (size_t)(rest - url) ||
		strncmp(url, schemes[scheme], (size_t)(rest - url)) != 0))
		scheme++;
	if (!rest || scheme == ARRAY_SIZE(schemes) ||
	    !cut(&authority, rest + 3, port, sizeof(port)) || (scheme < 2 && authority.user))
		return error_set(err, -EINVAL,
				 "'%s' is no host: http://HOST[:PORT], https://HOST[:PORT] or "
				 "ssh://[USER@]HOST[:PORT]",
				 text_escape(shown, sizeof(shown), url, strlen(url)));
	if (scheme == 2)
		return set_ssh(endpoint, &authority, err);
	return set_http(endpoint, &authority, schemes[scheme], scheme == 0 ? HTTP_PORT : HTTPS_PORT,
			err);
}

int endpoint_parse(struct endpoint *ret, const char *url, struct error *err)
{
	struct endpoint endpoint = { 0 };
	int r = set_url(&endpoint, url, err);

	if (r < 0)
		endpoint_done(&endpoint);
	else
		*ret = endpoint;
	return r;
}

/* ---- the token ---- */

static int take_token(struct endpoint *endpoint, const char *text, const char *where,
		      struct error *err)
{
	size_t length = strcspn(text, "\r\n");

	/* Behind the first line there is nothing; and what is no visible ASCII is no token. */
	for (size_t i = 0; i < length; i++)
		if (text[i] <= ' ' || text[i] > '~')
			length = 0;
	if (length == 0 || length > TOKEN_MAX || text[length + strspn(text + length, "\r\n")])
		return error_set(err, -EINVAL, "there is no token in %s", where);
	endpoint->token = strndup(text, length);
	return endpoint->token ? 0 : error_oom(err);
}

static int read_token(struct endpoint *endpoint, struct error *err)
{
	const char *token = getenv("DUT_TOKEN"), *path = getenv("DUT_TOKEN_FILE");
	free_ char *text = NULL;
	close_ int fd = -1;
	size_t length;
	int r;

	if (token && *token)
		return take_token(endpoint, token, "DUT_TOKEN", err);
	if (!path || !*path)
		return 0;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return error_errno(err, "%s (DUT_TOKEN_FILE)", path);
	r = file_read_fd(&text, &length, fd, 2UL * TOKEN_MAX, err);
	if (r < 0)
		return error_prefix(err, r, "%s (DUT_TOKEN_FILE)", path);
	r = take_token(endpoint, text, path, err);
	explicit_bzero(text, length);
	return r;
}

int endpoint_find(struct endpoint *ret, const struct cli *cli, struct error *err)
{
	const char *path = cli->socket ? cli->socket : CLIENT_DEFAULT_SOCKET;
	struct endpoint endpoint = { 0 };
	int r;

	if (!cli->socket && cli->host) {
		r = endpoint_parse(&endpoint, cli->host, err);
		if (r >= 0 && endpoint.kind == ENDPOINT_HTTP)
			r = read_token(&endpoint, err);
	} else {
		endpoint.name = strdup(path);
		endpoint.base = strdup("http://dutd");
		r = endpoint.name && endpoint.base ? 0 : error_oom(err);
	}
	if (r < 0)
		endpoint_done(&endpoint);
	else
		*ret = endpoint;
	return r;
}
