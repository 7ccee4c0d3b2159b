/* SPDX-License-Identifier: MIT */
#include "executor/sink.h"

#include <errno.h>
#include <nettle/version.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/space.h"

int sink_start(struct sink *sink, struct error *err)
{
	if (ftruncate(sink->fd, 0) < 0 || lseek(sink->fd, 0, SEEK_SET) < 0)
		return error_errno(err, "the file to write to");
	sink->size = sink->look_at = 0;
	sink->r = 0;
	if (sink->progress_us == 0)
		sink->progress_us = clock_now_us();
	sha256_init(&sink->hash);
	return 0;
}

static int write_part(struct sink *sink, const unsigned char *data, size_t length)
{
	ssize_t n = write(sink->fd, data, length);

	if (n < 0 && errno == EINTR)
		return 0;
	if (n < 0)
		return error_errno(&sink->error, "cannot write");
	/* What is written counts, also when the rest fails: size and hash agree with the file. */
	sha256_update(&sink->hash, (size_t)n, data);
	sink->size += (uint64_t)n;
	return (int)n;
}

int sink_too_big(struct sink *sink)
{
	bool named = sink->max_key;

	sink->r = error_set(&sink->error, -E2BIG, "more than %llu bytes%s%s%s",
			    (unsigned long long)sink->max_bytes, named ? " (" : "",
			    named ? sink->max_key : "", named ? ")" : "");
	return sink->r;
}

int sink_write(struct sink *sink, const void *data, size_t length)
{
	const unsigned char *next = data;

	if (sink->r == 0 && length > sink->max_bytes - sink->size)
		(void)sink_too_big(sink);
	if (sink->r == 0 && sink->size >= sink->look_at) {
		sink->look_at = sink->size + SPACE_STEP;
		sink->r = space_check(sink->fd, sink->min_free, &sink->error);
	}
	while (sink->r == 0 && length > 0) {
		int n = write_part(sink, next, length);

		if (n < 0)
			sink->r = n;
		next += n < 0 ? 0 : n;
		length -= n < 0 ? 0 : (size_t)n;
	}
	if (sink->r == 0 && sink->progress &&
	    clock_now_us() - sink->progress_us >= SINK_PROGRESS_US) {
		sink->progress_us = clock_now_us();
		sink->progress(sink->size);
	}
	return sink->r;
}

void sink_finish(struct sink *sink, char ret_hex[static SINK_HEX_SIZE])
{
	uint8_t digest[SHA256_DIGEST_SIZE];

#if NETTLE_VERSION_MAJOR >= 4
	sha256_digest(&sink->hash, digest);
#else
	sha256_digest(&sink->hash, sizeof(digest), digest);
#endif
	for (unsigned i = 0; i < sizeof(digest); i++)
		(void)snprintf(ret_hex + (size_t)2 * i, 3, "%02x", digest[i]);
}
