/* SPDX-License-Identifier: MIT */
#include "executor/download.h"

#include <curl/curl.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/text.h"

enum {
	CONNECT_TIMEOUT_S = 30,
	STALL_TIMEOUT_S = 60, /* without one byte */
	REDIRECTS_MAX = 10,
	RETRIES_MAX = 3,
	RETRY_DELAY_MS = 1000, /* times the number of the retry */
	TAG_MAX = 512,	       /* bytes of an ETag or a date */
	SHOWN_MAX = 120,       /* bytes of a URL in an error text */
};

CLEANUP_DEFINE(CURL *, curl_easy_cleanup)
CLEANUP_DEFINE(CURLU *, curl_url_cleanup)
CLEANUP_DEFINE(struct curl_slist *, curl_slist_free_all)

struct download {
	CURL *curl;
	struct sink *sink;
	char url[SHOWN_MAX];	 /* without secrets, for texts */
	char user[TAG_MAX];	 /* a secret that no text may hold; "" for none */
	char password[TAG_MAX];	 /* likewise */
	char validator[TAG_MAX]; /* of the file whose beginning is in the sink; "" for none */
	char words[CURL_ERROR_SIZE];
};

static size_t on_data(char *data, size_t size, size_t count, void *context)
{
	struct download *download = context;

	return sink_write(download->sink, data, size * count) < 0 ? 0 : size * count;
}

/* ---- words ---- */

/* Copies a part of a URL, decoded as libcurl will send it. */
static void copy_part(CURLU *parts, CURLUPart part, char ret[static TAG_MAX])
{
	char *text = NULL;

	if (curl_url_get(parts, part, &text, CURLU_URLDECODE) == CURLUE_OK)
		(void)snprintf(ret, TAG_MAX, "%s", text);
	curl_free(text);
}

/* Fills in what texts may show of the URL and what they must not. */
static int read_url(struct download *download, const char *url, struct error *err)
{
	cleanup_(curl_url_cleanupp) CURLU *parts = curl_url();
	char *shown = NULL;

	if (!parts)
		return error_oom(err);
	if (curl_url_set(parts, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK)
		return error_set(err, -EREMOTEIO, "not a valid URL");
	copy_part(parts, CURLUPART_USER, download->user);
	copy_part(parts, CURLUPART_PASSWORD, download->password);
	/* A query may be a signature. */
	(void)curl_url_set(parts, CURLUPART_USER, NULL, 0);
	(void)curl_url_set(parts, CURLUPART_PASSWORD, NULL, 0);
	(void)curl_url_set(parts, CURLUPART_QUERY, NULL, 0);
	(void)curl_url_set(parts, CURLUPART_FRAGMENT, NULL, 0);
	if (curl_url_get(parts, CURLUPART_URL, &shown, 0) == CURLUE_OK)
		(void)text_escape(download->url, sizeof(download->url), shown, strlen(shown));
	curl_free(shown);
	return 0;
}

static bool holds(const char *text, const char *secret)
{
	return *secret && strstr(text, secret);
}

/* Says in a person's words why a transfer failed. */
static int fault(struct download *download, CURLcode code, struct error *err)
{
	const char *words = *download->words ? download->words : curl_easy_strerror(code);
	char text[120];
	long status = 0;

	if (download->sink->r < 0)
		return error_set(err, download->sink->r, "%s: %s", download->url,
				 download->sink->error.text);
	switch ((int)code) {
	case CURLE_HTTP_RETURNED_ERROR:
		(void)curl_easy_getinfo(download->curl, CURLINFO_RESPONSE_CODE, &status);
		return error_set(err, -EREMOTEIO, "%s: the server answered %ld", download->url,
				 status);
	case CURLE_FILESIZE_EXCEEDED:
		return error_set(err, -E2BIG, "%s: more than %llu bytes", download->url,
				 (unsigned long long)download->sink->max_bytes);
	case CURLE_UNSUPPORTED_PROTOCOL:
		return error_set(err, -EREMOTEIO,
				 "%s: is or leads to something other than http and https",
				 download->url);
	case CURLE_TOO_MANY_REDIRECTS:
		return error_set(err, -EREMOTEIO, "%s: more than %d redirects", download->url,
				 REDIRECTS_MAX);
	default:
		break;
	}
	if (holds(words, download->user) || holds(words, download->password))
		words = curl_easy_strerror(code);
	return error_set(err, -EREMOTEIO, "%s: %s", download->url,
			 text_escape(text, sizeof(text), words, strlen(words)));
}

/* ---- transfers ---- */

/*
 * Remembers what names this very version of the file, for If-Range.
 *
 * Source: RFC 9110, section 13.1.5: a strong ETag, else Last-Modified.
 */
static void note_validator(struct download *download)
{
	static const char *const names[] = { "ETag", "Last-Modified" };

	download->validator[0] = '\0';
	for (unsigned i = 0; i < ARRAY_SIZE(names) && !download->validator[0]; i++) {
		struct curl_header *header;

		if (curl_easy_header(download->curl, names[i], 0, CURLH_HEADER, -1, &header) !=
			    CURLHE_OK ||
		    strncmp(header->value, "W/", 2) == 0 || strlen(header->value) >= TAG_MAX)
			continue;
		memcpy(download->validator, header->value, strlen(header->value) + 1);
	}
}

/* One transfer of what is missing. */
static CURLcode transfer(struct download *download)
{
	cleanup_(curl_slist_free_allp) struct curl_slist *headers = NULL;
	char line[TAG_MAX + 16];
	CURLcode code;

	if (download->sink->size > 0) {
		(void)snprintf(line, sizeof(line), "If-Range: %s", download->validator);
		headers = curl_slist_append(NULL, line);
		if (!headers)
			return CURLE_OUT_OF_MEMORY;
	}
	download->words[0] = '\0';
	(void)curl_easy_setopt(download->curl, CURLOPT_HTTPHEADER, headers);
	(void)curl_easy_setopt(download->curl, CURLOPT_RESUME_FROM_LARGE,
			       (curl_off_t)download->sink->size);
	code = curl_easy_perform(download->curl);
	(void)curl_easy_setopt(download->curl, CURLOPT_HTTPHEADER, NULL);
	return code;
}

/* Whether the same request may well succeed, the connection having broken. */
static bool is_broken(const struct download *download, CURLcode code)
{
	bool began = download->sink->size > 0;

	if (download->sink->r < 0)
		return false;
	switch ((int)code) {
	case CURLE_PARTIAL_FILE:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
	case CURLE_GOT_NOTHING:
	case CURLE_HTTP2:
	case CURLE_HTTP2_STREAM:
		return true;
	/* A server that was never there is not waited for. */
	case CURLE_OPERATION_TIMEDOUT:
	case CURLE_COULDNT_CONNECT:
		return began;
	default:
		return false;
	}
}

/*
 * Whether the server did not send the rest: it cannot, or the file is another one by now. A 416
 * looks like a success: libcurl takes it for "there is nothing more".
 */
static bool is_range_refused(const struct download *download, CURLcode code)
{
	long status = 0;

	(void)curl_easy_getinfo(download->curl, CURLINFO_RESPONSE_CODE, &status);
	return code == CURLE_RANGE_ERROR || status == 416;
}

static int run(struct download *download, struct error *err)
{
	unsigned retries = 0;
	CURLcode code;
	int r;

	for (;;) {
		uint64_t before = download->sink->size;

		code = transfer(download);
		if (before > 0 && is_range_refused(download, code)) {
			r = sink_start(download->sink, err);
			if (r < 0)
				return r;
			continue;
		}
		if (code == CURLE_OK)
			return 0;
		if (before == 0)
			note_validator(download);
		if (!is_broken(download, code) || retries == RETRIES_MAX)
			return fault(download, code, err);
		if (!*download->validator) {
			r = sink_start(download->sink, err);
			if (r < 0)
				return r;
		}
		retries++;
		/* stdout breaks when nobody wants the answer any more. */
		(void)poll(&(struct pollfd){ .fd = 1 }, 1, RETRY_DELAY_MS * (int)retries);
	}
}

static int set_options(struct download *download, const char *url, struct error *err)
{
	CURL *curl = download->curl;

	if (curl_easy_setopt(curl, CURLOPT_URL, url) != CURLE_OK)
		return error_oom(err);
	if (curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https") != CURLE_OK ||
	    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https") != CURLE_OK)
		return error_set(err, -EREMOTEIO, "this libcurl cannot do http and https");
	(void)curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, download->words);
	(void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_data);
	(void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, download);
	(void)curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
	(void)curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
	(void)curl_easy_setopt(curl, CURLOPT_MAXREDIRS, (long)REDIRECTS_MAX);
	(void)curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_TIMEOUT_S);
	(void)curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
	(void)curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long)STALL_TIMEOUT_S);
	(void)curl_easy_setopt(curl, CURLOPT_MAXFILESIZE_LARGE,
			       (curl_off_t)(download->sink->max_bytes > INT64_MAX
						    ? INT64_MAX
						    : download->sink->max_bytes));
	(void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	(void)curl_easy_setopt(curl, CURLOPT_USERAGENT, "dutd/" DUT_VERSION);
	return 0;
}

int download_url(const char *url, struct sink *sink, struct error *err)
{
	cleanup_(curl_easy_cleanupp) CURL *curl = NULL;
	struct download download = { .sink = sink };
	int r = read_url(&download, url, err);

	if (r < 0)
		return r;
	if (curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK)
		curl = curl_easy_init();
	if (!curl)
		return error_oom(err);
	download.curl = curl;
	r = set_options(&download, url, err);
	return r < 0 ? r : run(&download, err);
}
