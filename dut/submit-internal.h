/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/http.h"
#include "base/list.h"
#include "dut/access.h"
#include "dut/job-client.h"
#include "dut/queue.h"

/* What submit.c (a submission, until its job file is checked) and submit-start.c (its board, or its
 * place in the queue) share. */

struct daemon;
struct job;
struct validator;

struct submission {
	struct list link; /* daemon.submissions */
	struct daemon *daemon;
	struct http_request *request; /* NULL when the client has left */
	json_t *metadata, *result;    /* as sent; as validated */
	struct access_identity owner;
	uint64_t user;	/* http_peer.user */
	const char *id; /* the submission_id in metadata, or NULL */
	char digest[JOB_CLIENT_DIGEST_SIZE];
	bool repeats;		   /* waits for what becomes of the one with the same id */
	struct submission **asked; /* while the records are looked for that id: says where it is */
	struct validator *validator;
	bool unchecked; /* waits for its turn to be checked */
	int priority;
	uint64_t wait_us;   /* how long its job may wait for a DUT; 0: not at all */
	struct claim claim; /* while it waits for a board that settles, and has no job yet */
	struct job *job;
	struct {
		unsigned status; /* 0: none */
		json_t *extra;
		char *text;
	} refusal; /* that waits for the job's end to be on disk */
};

void submission_free(struct submission *submission);

/* Answers it, and frees it, at once or when its job's end is on disk. Takes the reference to extra,
 * which may be NULL. */
void submission_refuse(struct submission *submission, unsigned status, json_t *extra,
		       const char *text);
void submission_refuse_err(struct submission *submission, int r, const struct error *err);

/* Answers with its job: 201, or 200 for a repeat. */
void submission_answer(struct http_request *request, unsigned status, const struct job *job);

/* Its job file is good for the DUTs in result: it gets one of them, or waits for one, or is
 * refused. */
void submission_choose(struct submission *submission);

/* One that waits for a board to settle is refused, and freed, when none does any more. */
void submission_look_again(struct submission *submission);
