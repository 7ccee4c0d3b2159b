/* SPDX-License-Identifier: MIT */
#include "executor/download.h"

#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/text.h"

enum {
	TAG_MAX = 512,	 /* bytes of an ETag or a date */
	SHOWN_MAX = 110, /* bytes of a URL in an error text */
};

static const uint64_t unknown = UINT64_MAX;

CLEANUP_DEFINE(CURLU *, curl_url_cleanup)
CLEANUP_DEFINE(struct curl_slist *, curl_slist_free_all)

/* Whether the bytes of an answer are those that were asked for. */
enum fit { FIT_UNKNOWN, FIT_GOOD, FIT_OTHER };

struct download {
	CURL *curl; /* of the present transfer, and until the next one */
	struct sink *sink;
	const struct download_limits *limits;
	const char *whole_url;	 /* as it was asked for */
	char url[SHOWN_MAX];	 /* without secrets, for texts */
	char user[TAG_MAX];	 /* a secret that no text may hold; "" for none */
	char password[TAG_MAX];	 /* likewise */
	char validator[TAG_MAX]; /* of the file whose beginning is in the sink; "" for none */
	uint64_t total;		 /* its size, or unknown */
	uint64_t best;		 /* the most that ever was in the sink */
	unsigned retries, retries_total;
	/* Of the present transfer. */
	uint64_t from; /* the first byte that was asked for */
	enum fit fit;
	size_t header_bytes;
	char words[CURL_ERROR_SIZE];
};

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

static long get_status(const struct download *download)
{
	long status = 0;

	(void)curl_easy_getinfo(download->curl, CURLINFO_RESPONSE_CODE, &status);
	return status;
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

	if (download->sink->r < 0)
		return error_set(err, download->sink->r, "%s: %s", download->url,
				 download->sink->error.text);
	if (download->header_bytes > DOWNLOAD_HEADERS_MAX)
		return error_set(err, -EREMOTEIO, "%s: more than %d bytes of headers",
				 download->url, DOWNLOAD_HEADERS_MAX);
	switch ((int)code) {
	case CURLE_OK:
	case CURLE_WRITE_ERROR:
	case CURLE_HTTP_RETURNED_ERROR:
		return error_set(err, -EREMOTEIO, "%s: the server answered %ld", download->url,
				 get_status(download));
	case CURLE_FILESIZE_EXCEEDED:
		(void)sink_too_big(download->sink);
		return error_set(err, -E2BIG, "%s: %s", download->url, download->sink->error.text);
	case CURLE_UNSUPPORTED_PROTOCOL:
		if (strncmp(words, "Protocol", 8) != 0)
			break; /* of something that is no HTTP at all */
		return error_set(err, -EREMOTEIO,
				 "%s: is or leads to something other than http and https",
				 download->url);
	case CURLE_TOO_MANY_REDIRECTS:
		return error_set(err, -EREMOTEIO, "%s: more than %d redirects", download->url,
				 DOWNLOAD_REDIRECTS_MAX);
	case CURLE_PEER_FAILED_VERIFICATION:
		return error_set(err, -EREMOTEIO,
				 "%s: this gateway does not trust the server's certificate: %s",
				 download->url, text_escape(text, 90, words, strlen(words)));
	default:
		break;
	}
	if (holds(words, download->user) || holds(words, download->password))
		words = curl_easy_strerror(code);
	return error_set(err, -EREMOTEIO, "%s: %s", download->url,
			 text_escape(text, sizeof(text), words, strlen(words)));
}

/* ---- answers ---- */

static const char *get_header(const struct download *download, const char *name)
{
	struct curl_header *header;

	return curl_easy_header(download->curl, name, 0, CURLH_HEADER, -1, &header) == CURLHE_OK
		       ? header->value
		       : NULL;
}

/* A date proves that nothing has changed only if it was over when the answer was made. */
static bool is_strong_date(const char *date, const char *made)
{
	time_t date_s = curl_getdate(date, NULL), made_s = made ? curl_getdate(made, NULL) : -1;

	return date_s >= 0 && made_s > date_s;
}

/* Remembers what names this very version of the file, for If-Range. */
static void note_version(struct download *download)
{
	const char *tag = get_header(download, "ETag");
	curl_off_t length = -1;

	(void)curl_easy_getinfo(download->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
	download->total = length >= 0 ? (uint64_t)length : unknown;
	if (!tag || strncmp(tag, "W/", 2) == 0) {
		tag = get_header(download, "Last-Modified");
		if (tag && !is_strong_date(tag, get_header(download, "Date")))
			tag = NULL;
	}
	download->validator[0] = '\0';
	if (tag && strlen(tag) < TAG_MAX)
		memcpy(download->validator, tag, strlen(tag) + 1);
}

/* Reads "bytes FIRST-LAST/TOTAL", where TOTAL may be "*". */
static bool read_range(const char *value, uint64_t *ret_first, uint64_t *ret_total)
{
	char copy[80], *dash, *slash;

	if (!value || strncasecmp(value, "bytes ", 6) != 0 || strlen(value) >= sizeof(copy))
		return false;
	memcpy(copy, value + 6, strlen(value) - 5);
	dash = strchr(copy, '-');
	slash = strchr(copy, '/');
	if (!dash || !slash || dash > slash)
		return false;
	*dash = '\0';
	*ret_total = unknown;
	return text_to_uint64(ret_first, copy, 0, INT64_MAX, NULL) == 0 &&
	       (strcmp(slash + 1, "*") == 0 ||
		text_to_uint64(ret_total, slash + 1, 0, INT64_MAX, NULL) == 0);
}

/*
 * Whether the answer carries on where the sink ends, in the same file. libcurl takes a range that
 * begins elsewhere for the whole file.
 */
static bool continues(struct download *download)
{
	const char *tag = get_header(download, "ETag");
	uint64_t first, total;

	if (get_status(download) != 206 ||
	    !read_range(get_header(download, "Content-Range"), &first, &total) ||
	    first != download->from)
		return false;
	if (tag && *download->validator == '"' && strcmp(tag, download->validator) != 0)
		return false;
	if (total != unknown && download->total != unknown && total != download->total)
		return false;
	if (total != unknown)
		download->total = total;
	return true;
}

/* Looks at an answer when its first byte is there, or its end. */
static void look_at_answer(struct download *download)
{
	long status = get_status(download);
	bool good;

	if (download->fit != FIT_UNKNOWN)
		return;
	if (download->from > 0) {
		good = continues(download);
	} else {
		/* Not what a form, a cache or a range that nobody asked for answers. */
		good = status == 200 || status == 203;
		note_version(download);
	}
	download->fit = good ? FIT_GOOD : FIT_OTHER;
}

static size_t on_data(char *data, size_t size, size_t count, void *context)
{
	struct download *download = context;

	look_at_answer(download);
	if (download->fit != FIT_GOOD)
		return 0;
	return sink_write(download->sink, data, size * count) < 0 ? 0 : size * count;
}

/* libcurl keeps all headers, however many there are. */
static size_t on_header(const char *data, size_t size, size_t count, void *context)
{
	struct download *download = context;

	(void)data;
	download->header_bytes += size * count;
	return download->header_bytes > DOWNLOAD_HEADERS_MAX ? 0 : size * count;
}

/* ---- transfers ---- */

static int renew_handle(struct download *download, struct error *err);

/* One transfer of what is missing. */
static int transfer(struct download *download, CURLcode *ret_code, struct error *err)
{
	cleanup_(curl_slist_free_allp) struct curl_slist *headers = NULL;
	char line[TAG_MAX + 16];
	int r = renew_handle(download, err);

	if (r < 0)
		return r;
	download->from = download->sink->size;
	download->fit = FIT_UNKNOWN;
	download->words[0] = '\0';
	if (download->from > 0) {
		(void)snprintf(line, sizeof(line), "If-Range: %s", download->validator);
		headers = curl_slist_append(NULL, line);
		if (!headers)
			return error_oom(err);
	}
	(void)curl_easy_setopt(download->curl, CURLOPT_HTTPHEADER, headers);
	(void)curl_easy_setopt(download->curl, CURLOPT_RESUME_FROM_LARGE,
			       (curl_off_t)download->from);
	*ret_code = curl_easy_perform(download->curl);
	(void)curl_easy_setopt(download->curl, CURLOPT_HTTPHEADER, NULL);
	if (*ret_code == CURLE_OK)
		look_at_answer(download);
	return 0;
}

static bool is_later(long status)
{
	return status == 408 || status == 429 || status == 500 || (status >= 502 && status <= 504);
}

/* Whether the same request may well succeed, the connection having broken. */
static bool is_broken(const struct download *download, CURLcode code)
{
	switch ((int)code) {
	case CURLE_OK:
		/* A server may send less than the range that was asked for. */
		return download->fit == FIT_GOOD && download->total != unknown &&
		       download->sink->size < download->total;
	case CURLE_HTTP_RETURNED_ERROR:
		return is_later(get_status(download));
	case CURLE_PARTIAL_FILE:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
	case CURLE_GOT_NOTHING:
	case CURLE_HTTP2:
	case CURLE_HTTP2_STREAM:
		return true;
	/* A server that was never there is not waited for. */
	case CURLE_OPERATION_TIMEDOUT:
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_CONNECT:
	case CURLE_SSL_CONNECT_ERROR:
		return download->best > 0 || download->sink->size > 0;
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
	return download->from > 0 && (code == CURLE_RANGE_ERROR || get_status(download) == 416 ||
				      download->fit == FIT_OTHER);
}

static bool may_retry(struct download *download)
{
	if (download->sink->size > download->best) {
		download->best = download->sink->size;
		download->retries = 0;
	}
	return download->retries++ < DOWNLOAD_RETRIES_MAX &&
	       download->retries_total++ < DOWNLOAD_RETRIES_TOTAL_MAX;
}

static void wait_for_retry(const struct download *download)
{
	unsigned delay_ms = download->limits->retry_ms << (download->retries - 1);
	curl_off_t asked_s = 0;

	(void)curl_easy_getinfo(download->curl, CURLINFO_RETRY_AFTER, &asked_s);
	if (asked_s > DOWNLOAD_RETRY_AFTER_MAX_S)
		asked_s = DOWNLOAD_RETRY_AFTER_MAX_S;
	if (asked_s * 1000 > delay_ms)
		delay_ms = (unsigned)asked_s * 1000;
	/* stdout breaks when nobody wants the answer any more. */
	(void)poll(&(struct pollfd){ .fd = 1 }, 1, (int)delay_ms);
}

/* One transfer and what follows from it: 1 when the file is whole, 0 to go on. */
static int step(struct download *download, struct error *err)
{
	CURLcode code = CURLE_OK;
	int r = transfer(download, &code, err);

	if (r < 0)
		return r;
	if (download->sink->r == 0 && is_range_refused(download, code))
		return sink_start(download->sink, err);
	if (download->sink->r == 0 && is_broken(download, code) && may_retry(download)) {
		wait_for_retry(download);
		return *download->validator ? 0 : sink_start(download->sink, err);
	}
	if (code == CURLE_OK && download->fit == FIT_GOOD && !is_broken(download, code))
		return 1;
	return fault(download, code, err);
}

static int run(struct download *download, struct error *err)
{
	int r;

	do {
		r = step(download, err);
	} while (r == 0);
	return r < 0 ? r : 0;
}

/*
 * Whom to trust is the gateway's business, never a job's. libcurl itself does not read the names
 * that OpenSSL has for it.
 */
static int set_trust(CURL *curl, struct error *err)
{
	const char *file = getenv("SSL_CERT_FILE"), *dir = getenv("SSL_CERT_DIR");

	(void)curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L);
	(void)curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 2L);
	if ((file && *file && curl_easy_setopt(curl, CURLOPT_CAINFO, file) != CURLE_OK) ||
	    (dir && *dir && curl_easy_setopt(curl, CURLOPT_CAPATH, dir) != CURLE_OK))
		return error_set(err, -EREMOTEIO, "cannot use SSL_CERT_FILE and SSL_CERT_DIR");
	return 0;
}

static int set_options(struct download *download, struct error *err)
{
	CURL *curl = download->curl;

	if (curl_easy_setopt(curl, CURLOPT_URL, download->whole_url) != CURLE_OK)
		return error_oom(err);
	if (curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https") != CURLE_OK ||
	    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https") != CURLE_OK)
		return error_set(err, -EREMOTEIO, "this libcurl cannot do http and https");
	(void)curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, download->words);
	(void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_data);
	(void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, download);
	(void)curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
	(void)curl_easy_setopt(curl, CURLOPT_HEADERDATA, download);
	(void)curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
	(void)curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
	(void)curl_easy_setopt(curl, CURLOPT_MAXREDIRS, (long)DOWNLOAD_REDIRECTS_MAX);
	(void)curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)download->limits->connect_s);
	(void)curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, (long)DOWNLOAD_SLOW_BYTES);
	(void)curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long)download->limits->stall_s);
	(void)curl_easy_setopt(curl, CURLOPT_MAXFILESIZE_LARGE,
			       (curl_off_t)(download->sink->max_bytes > INT64_MAX
						    ? INT64_MAX
						    : download->sink->max_bytes));
	(void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	(void)curl_easy_setopt(curl, CURLOPT_USERAGENT, "dutd/" DUT_VERSION);
	return set_trust(curl, err);
}

/*
 * A handle for one transfer. One that is used again makes libcurl before 8.1.1 read and write freed
 * memory when an answer begins with a folded header: it means the last one of the transfer before.
 */
static int renew_handle(struct download *download, struct error *err)
{
	curl_easy_cleanup(download->curl);
	download->curl = curl_easy_init();
	return download->curl ? set_options(download, err) : error_oom(err);
}

int download_url(const char *url, struct sink *sink, const struct download_limits *limits,
		 struct error *err)
{
	struct download download = {
		.sink = sink,
		.limits = limits,
		.whole_url = url,
		.total = unknown,
	};
	int r = read_url(&download, url, err);

	if (r < 0)
		return r;
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return error_oom(err);
	r = run(&download, err);
	curl_easy_cleanup(download.curl);
	return r;
}
