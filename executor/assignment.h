/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

/* job.json: what dutd gives an executor to know. Texts live as long as the assignment. */

enum { ASSIGNMENT_BYTES_MAX = 4 * 1024 * 1024 };

struct assignment {
	json_t *root;
	json_t *id;	     /* a number or a text, told on as it is; borrowed from root */
	uint64_t number;     /* the same for log lines; 0 when it is no number */
	char id_text[24];    /* the same as dutd writes it into hello */
	const char *name;    /* or NULL */
	const char *owner;   /* or NULL */
	const char *console; /* or NULL: what is read in this job, from console_base on */
	uint64_t console_base;
	const char *nonce;
	const char *dut;
	uint64_t attempt, epoch;
	uint64_t submitted_realtime_us;	      /* 0: not told */
	uint64_t daemon_us;		      /* how long dutd may leave a question unanswered */
	uint64_t console_log_max, bucket_max; /* bytes */
	uint64_t min_free;		      /* bytes of the disk that are not ours; 0: none */
	uint64_t bucket_files_max;
	char **file_roots; /* absolute paths, ends with NULL; the texts are of root */
	json_t *environ;   /* object, or NULL; borrowed */
	bool ignore_deadline;
	uid_t socket_uid; /* of the dutd whose control connections are accepted */
};

/* Errors: -EBADMSG for what is no job.json of version 1; else of the file. */
int assignment_load(struct assignment **ret, int dir_fd, struct error *err);
struct assignment *assignment_free(struct assignment *assignment);

/*
 * The facts for description_parse(); a new reference, NULL when memory ran out. They take a past
 * deadline: it is looked at when the job begins, where it has a reason of its own.
 */
json_t *assignment_facts(const struct assignment *assignment);
