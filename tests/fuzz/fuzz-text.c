/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/protocol.h"
#include "base/text.h"
#include "executor/fileurl.h"
#include "tests/fuzz/fuzz.h"

static void check_numbers(const char *text)
{
	static const uint64_t days_36500_us = UINT64_C(36500) * 86400 * 1000000;
	uint64_t value = 7;
	char shown[64];
	int r;

	r = text_to_uint64(&value, text, 5, 1000, NULL);
	assert(r == 0 ? value >= 5 && value <= 1000 : r == -EINVAL && value == 7);
	r = text_to_uint64(&value, text, 0, UINT64_MAX, NULL);
	assert(r == 0 || r == -EINVAL);
	value = 7;
	r = text_to_duration_us(&value, text, NULL);
	assert(r == 0 ? value <= days_36500_us : r == -EINVAL && value == 7);
	assert(strlen(text_format_duration(shown, sizeof(shown), value)) < sizeof(shown));
	r = text_to_size(&value, text, NULL);
	assert(r == 0 || r == -EINVAL);
	(void)text_number_before(&value, text, ".json");
	(void)text_number_before(&value, text, "");
}

static void check_characters(const char *text, size_t size)
{
	static const char *const known[] = { "session_end", "job_success", "kernel", "dtb", NULL };
	char small[8], large[256];
	uint32_t code;
	size_t at = 0, length;

	while ((length = text_decode_utf8(&code, text + at, size - at)) > 0) {
		assert(length <= 4 && at + length <= size && code <= 0x10ffff);
		at += length;
	}
	/* What is printable is UTF-8 to its end. */
	if (text_is_printable(text, size))
		assert(at == size && !memchr(text, '\n', size) && !memchr(text, '\x1b', size));
	(void)text_escape(small, sizeof(small), text, size);
	(void)text_escape(large, sizeof(large), text, size);
	assert(text_is_printable(small, strlen(small)));
	assert(text_is_printable(large, strlen(large)));
	(void)text_nearest(text, known);
	if (text_is_name(text))
		assert(strlen(text) <= TEXT_NAME_MAX && !strpbrk(text, "/ \n"));
}

static void check_url(const char *text)
{
	free_ char *path = NULL;

	if (!fileurl_is(text))
		return;
	path = fileurl_path(text);
	if (!path)
		return;
	assert(path[0] == '/' && !strstr(path, "//") && !strstr(path, "/./"));
	(void)fileurl_beneath(path, "/srv/images/");
	(void)fileurl_beneath(path, "/");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	free_ char *text = fuzz_text(data, size);
	int status = job_status_from_name(text);

	check_numbers(text);
	check_characters(text, size);
	check_url(text);
	if (status >= 0)
		assert(strcmp(job_status_name((enum job_status)status), text) == 0);
	(void)job_reason_known(text);
	(void)job_reason_status(text, true);
	return 0;
}
