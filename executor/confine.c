/* SPDX-License-Identifier: MIT */
#include "executor/confine.h"

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "executor/assignment.h"

enum {
	NOBODY = 65534, /* who owns nothing */
	OPEN_FILES_MAX = 1024,
	PROCESSES_MAX = 128, /* of the job's user: dut-helper's sixteen dut-fetch with a thread
				each, and a payload */
	CHECK_MEMORY_MAX = 64 << 20,
	CHECK_FILES_MAX = 16,
	CHECK_TIME_MAX_S = 5,
};

static const uint64_t MEMORY_MAX = UINT64_C(1) << 30;
static const uint64_t FILE_SIZE_SLACK = 16 << 20; /* for what is written at a limit */

bool confine_parse_user(const char *text, struct sandbox_user *ret)
{
	char uid_text[24];
	const char *colon = strchr(text, ':');
	uint64_t uid, gid;

	if (!colon || (size_t)(colon - text) >= sizeof(uid_text))
		return false;
	(void)snprintf(uid_text, sizeof(uid_text), "%.*s", (int)(colon - text), text);
	if (text_to_uint64(&uid, uid_text, 1, UINT32_MAX - 1, NULL) < 0 ||
	    text_to_uint64(&gid, colon + 1, 1, UINT32_MAX - 1, NULL) < 0)
		return false;
	*ret = (struct sandbox_user){ .uid = (uid_t)uid, .gid = (gid_t)gid };
	return true;
}

int confine_start(const struct sandbox_user *user, struct error *err)
{
	const struct sandbox_limits limits = {
		.memory = MEMORY_MAX,
		.open_files = OPEN_FILES_MAX,
		.processes = user ? PROCESSES_MAX : 0,
	};
	int r = sandbox_limit(&limits, err);

	return r < 0 ? r : sandbox_drop(user, err);
}

int confine_files(const struct assignment *assignment, struct error *err)
{
	uint64_t most = assignment->console_log_max > assignment->bucket_max
				? assignment->console_log_max
				: assignment->bucket_max;
	const struct sandbox_limits limits = {
		.file_size = most < INT64_MAX - FILE_SIZE_SLACK ? most + FILE_SIZE_SLACK : 0,
	};

	return sandbox_limit(&limits, err);
}

int confine_enter(int job_dir_fd, struct error *err)
{
	const struct sandbox_path folder = {
		.fd = job_dir_fd,
		.access = SANDBOX_WRITE,
	};

	/* Read from /proc once, and kept. */
	(void)clock_boot_id();
	return sandbox_enter(SANDBOX_EXECUTOR, &folder, 1, err);
}

int confine_check(struct error *err)
{
	const struct sandbox_user nobody = { .uid = NOBODY, .gid = NOBODY };
	const struct sandbox_limits limits = {
		.memory = CHECK_MEMORY_MAX,
		.open_files = CHECK_FILES_MAX,
		.cpu_s = CHECK_TIME_MAX_S,
	};
	int r = sandbox_limit(&limits, err);

	/* From /dev/urandom, against texts whose hashes collide. */
	json_object_seed(0);
	/* Calendar times ask for the time zone once, from a file. */
	tzset();
	if (r >= 0)
		r = sandbox_drop(geteuid() == 0 ? &nobody : NULL, err);
	return r < 0 ? r : sandbox_enter(SANDBOX_COMPUTE, NULL, 0, err);
}
