/* SPDX-License-Identifier: MIT */
#pragma once

#include "base/http.h"

/*
 * POST /jobs: the job is checked by a short-lived dut-executor --validate, a board is chosen, the
 * job's folder is put on disk, its executor is started; then the submitter is answered.
 */

struct daemon;
struct job;

extern const struct http_part *const submit_parts; /* ends with a name of NULL */

/* The sizes of the parts above come from the configuration; to be called before the server is made.
 */
void submit_set_limits(uint64_t job_file_bytes, uint64_t bucket_bytes);

/* Submissions at once, from their heads to their answers; one user may have half of them. */
enum { SUBMIT_MAX = 200 };

/* Refuses before the body comes what would be refused anyway. */
void submit_admit(struct http_request *request, void *data);
void submit_handle(struct http_request *request, void *data);

/* Those who waited for a board to settle are refused when none does any more. For dispatch.c alone.
 */
void submissions_retry(struct daemon *daemon);

/* A submitter whose job failed to start is answered when its end is told. For daemon_job_changed()
 * alone. */
void submissions_job_changed(struct daemon *daemon, const struct job *job);

void submissions_drop(struct daemon *daemon);
