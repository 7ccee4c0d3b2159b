/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "dut/binding.h"

/*
 * What ties a job to the client that submitted it. The submission's id is chosen by the client, and
 * nobody else is told it: a repeat of the submission is answered with the same job, and who knows
 * it may hold the job by a stream of its events (binding.h). A job that is bound is cancelled when
 * its client is lost.
 */

struct daemon;

enum { JOB_CLIENT_DIGEST_SIZE = 17 };

struct job_client {
	struct daemon *daemon;		     /* once it is watched */
	char *submission_id;		     /* or NULL: nothing ties it to a client */
	char digest[JOB_CLIENT_DIGEST_SIZE]; /* of what was submitted */
	bool bound;			     /* to be cancelled when the client is lost */
	bool lost;			     /* cancelled for that */
	struct binding binding;		     /* while it is bound and has not ended */
};

/*
 * A number for what was submitted: metadata without its submission_id, the job file, and the length
 * of the bucket's archive (-1: none). It tells a repeat from another submission with the same id,
 * which is a mistake and no attack: an owner has nothing to gain.
 */
void job_client_digest(char ret[static JOB_CLIENT_DIGEST_SIZE], const json_t *metadata,
		       const char *text, size_t length, int64_t bucket_size);

/* A new job's, from its metadata. */
int job_client_init(struct job_client *client, const json_t *metadata, const char *digest,
		    struct error *err);
void job_client_done(struct job_client *client);

/* What its record has of it, and back. */
int job_client_add_to_record(const struct job_client *client, json_t *record);
int job_client_from_record(struct job_client *client, const json_t *record, struct error *err);

/* Why it is cancelled: a reason of dut-job(5). */
const char *job_client_cancel_reason(const struct job_client *client);
