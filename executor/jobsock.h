/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/error.h"
#include "base/jsontext.h"
#include "base/stream.h"

/*
 * job.sock, the executor's own HTTP socket: state, cancel, and the console and the events of the
 * job as they come. It reads the job's files, each viewer at its own offset, and knows nothing of
 * boots. See dut-executor(8).
 */

/* How long the end waits for viewers that do not read. */
enum { JOBSOCK_LINGER_US = 200000 };

struct jobsock;

struct jobsock_config {
	sd_event *event;
	int listen_fd;	   /* bound; jobsock listens, and owns it, also on failure */
	uid_t control_uid; /* may cancel; root may too */
	int job_dir_fd;	   /* with events.jsonl; borrowed */
	void (*state)(struct jsontext *json, void *data);      /* writes an object */
	void (*cancel)(const char *why, uid_t by, void *data); /* why: NULL when not said */
	struct stream *(*stream)(void *data);		       /* NULL before the first loan */
	void (*ended)(void *data); /* once, after jobsock_end(): the viewers have what there is.
				      From the loop. May be NULL */
	void *data;
};

int jobsock_new(struct jobsock **ret, const struct jobsock_config *config, struct error *err);

/* Not from the callbacks above, except ended(). */
struct jobsock *jobsock_free(struct jobsock *jobsock);

/* The console's log or events.jsonl has grown, or the first console is there. */
void jobsock_wake(struct jobsock *jobsock);

/* Nothing will grow any more: viewers get the rest, and their streams end. */
void jobsock_end(struct jobsock *jobsock);
