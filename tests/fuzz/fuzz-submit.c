/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "tests/fuzz/daemon.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/http.h"

/*
 * A submission: the first part of the input is its metadata, the second what the check of the job
 * file answers (by a process that has read hostile bytes), the third the job file.
 */

#define BOUNDARY "3cf2e9f1b7a8d"

static void write_part(FILE *file, const char *name, const struct fuzz_part *part)
{
	(void)fprintf(file, "--" BOUNDARY "\r\nContent-Disposition: form-data; name=\"%s\"\r\n\r\n",
		      name);
	(void)fwrite(part->data, 1, part->size, file);
	(void)fputs("\r\n", file);
}

static char *make_body(const struct fuzz_part *metadata, const struct fuzz_part *job,
		       size_t *ret_length)
{
	char *body = NULL;
	FILE *file = open_memstream(&body, ret_length);

	assert(file);
	write_part(file, "metadata", metadata);
	write_part(file, "job", job);
	(void)fputs("--" BOUNDARY "--\r\n", file);
	assert(fclose(file) == 0);
	return body;
}

static char *make_request(const struct fuzz_part *metadata, const struct fuzz_part *job,
			  size_t *ret_length)
{
	size_t length;
	free_ char *body = make_body(metadata, job, &length);
	char *request = NULL;
	FILE *file = open_memstream(&request, ret_length);

	assert(file);
	(void)fprintf(file,
		      "POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n"
		      "Content-Type: multipart/form-data; boundary=" BOUNDARY "\r\n\r\n",
		      length);
	(void)fwrite(body, 1, length, file);
	assert(fclose(file) == 0);
	return request;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_part rest = { data, size }, metadata = { data, 0 }, answer = { data, 0 };
	free_ char *request = NULL;
	struct fuzz_daemon lab;
	size_t length;

	fuzz_begin();
	(void)fuzz_next_part(&rest, &metadata);
	(void)fuzz_next_part(&rest, &answer);
	request = make_request(&metadata, &rest, &length);
	fuzz_daemon_start(&lab);
	fuzz_daemon_set_validation(
		json_loadb((const char *)answer.data, answer.size, JSON_DECODE_ANY, NULL));
	fuzz_http(lab.event, lab.daemon->http, lab.daemon->runtime_fd, "dutd.sock",
		  (const uint8_t *)request, length);
	/* No job lives on: there was no program to run it. */
	assert(!fuzz_daemon_board(&lab)->lease);
	fuzz_daemon_end(&lab);
	return 0;
}
