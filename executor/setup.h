/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/error.h"
#include "executor/assignment.h"
#include "executor/description.h"
#include "executor/fetcher.h"

/*
 * What must lie on disk before the board is touched: the bucket unpacked beneath bucket/, every
 * file of both deployments downloaded beneath artifacts/ (or found in the bucket), with its
 * checksum verified. The bucket first, so that a wrong path in it is told before a long download.
 */

struct setup;

/* done: reason is NULL when everything is there, else a reason of result.json with its text.
 * progress: one step is done; extra is the callee's and never NULL. */
struct setup_config {
	sd_event *event;
	struct fetcher *fetcher;
	const struct assignment *assignment;
	const struct description *description;
	int dir_fd;	/* of the job; borrowed */
	int tarball_fd; /* borrowed; -1 for none */
	void (*progress)(json_t *extra, const char *text, void *data);
	void (*done)(const char *reason, const char *text, void *data);
	void *data;
};

/* Begins. progress and done run from the loop, done once. */
int setup_new(struct setup **ret, const struct setup_config *config, struct error *err);

/* No callback runs any more. What the fetcher still does for it is the caller's to cancel first. */
struct setup *setup_free(struct setup *setup);

/*
 * What an `on` is to deliver: {kernel, initramfs, dtb} as paths beneath the job's folder, and
 * cmdline; null when there is nothing. first: the `start` deployment, else `continue`.
 */
json_t *setup_deploy(const struct setup *setup, bool first);
