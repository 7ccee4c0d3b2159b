/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/protocol.h"
#include "dut/job.h"
#include "tests/fuzz/fuzz.h"

/*
 * The same bytes as the result.json that an executor has left, and as a record of dutd's own, which
 * a disk may have torn.
 */

CLEANUP_DEFINE(struct job *, job_free)

static void import(const uint8_t *data, size_t size)
{
	cleanup_(job_freep) struct job *job = NULL;
	struct job_result result = { 0 };
	json_t *record;
	int r;

	assert(job_new(&job, 17, "a job", "alice", 1000, "bbb-1", NULL) == 0);
	job->state = JOB_RUNNING;
	job->attempt = 1;
	memcpy(job->nonce, "n", 2);
	fuzz_write("result.json", data, size);
	r = job_read_result(job, fuzz_folder_fd(), &result, NULL);
	if (r < 0) {
		assert(r == -EBADMSG && !result.reason && !result.message);
		return;
	}
	assert(result.reason && job_status_fits(result.status, result.reason));
	assert(job_set_end(job, result.status, result.reason, result.verdict, result.message));
	assert(!job_set_end(job, JOB_PASS, "ok", NULL, NULL));
	job_result_done(&result);
	/* Whatever it brought, it can be told on. */
	record = job_to_record(job);
	assert(record);
	json_decref(record);
	record = job_to_json(job);
	assert(record);
	json_decref(record);
}

/* A record that is taken is written as it was read. */
static void load(const uint8_t *data, size_t size)
{
	cleanup_(job_freep) struct job *job = NULL, *again = NULL;
	json_auto_t *record = json_loadb((const char *)data, size, 0, NULL);
	json_auto_t *written = NULL, *rewritten = NULL, *shown = NULL;
	int r = job_from_record(&job, record, NULL);

	assert(r == 0 || r == -EBADMSG);
	if (r < 0)
		return;
	written = job_to_record(job);
	shown = job_to_json(job);
	assert(written && shown);
	assert(job_from_record(&again, written, NULL) == 0);
	rewritten = job_to_record(again);
	assert(json_equal(written, rewritten));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fuzz_begin();
	import(data, size);
	load(data, size);
	return 0;
}
