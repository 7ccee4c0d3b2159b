/* SPDX-License-Identifier: MIT */
#include "executor/result.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"

static const char file_name[] = "result.json", reserved_name[] = "result.json.reserved";

enum { REAL_DIGITS = 12 };

const char *result_session_reason(const struct result_session *session, enum job_status *ret_status)
{
	if (!session->success_defined) {
		*ret_status = JOB_COMPLETE;
		return "ok";
	}
	if (!session->success_seen) {
		*ret_status = JOB_FAIL;
		return "no_success";
	}
	*ret_status = session->warn_seen ? JOB_WARN : JOB_PASS;
	return session->warn_seen ? "warn" : "ok";
}

static bool is_one_of(const char *word, const char *const *words)
{
	for (; *words; words++)
		if (strcmp(word, *words) == 0)
			return true;
	return false;
}

const char *result_verdict(enum job_status status, const char *reason,
			   const struct result_facts *facts)
{
	static const char *const lab[] = {
		"power",       "console_lost",	  "disk",
		"unfit",       "executor_failed", "executor_killed",
		"daemon_lost", "gateway_reboot",  "queue_timeout",
		NULL,
	};
	static const char *const job[] = {
		"download", "checksum", "bucket", "deadline", "regex_limit", "console_flood", NULL,
	};

	if (status == JOB_PASS || status == JOB_WARN || status == JOB_COMPLETE ||
	    status == JOB_CANCELLED)
		return NULL;
	if (is_one_of(reason, lab) || (facts->boots > 0 && facts->silent && !facts->power_verified))
		return "lab";
	if (is_one_of(reason, job))
		return "job";
	if (facts->boots > 0 && facts->fault_seen)
		return "kernel";
	if (facts->boots > 0 && facts->deploys_kernel && !facts->kernel_seen)
		return "boot";
	return "test";
}

int result_init(struct result *result)
{
	*result = (struct result){
		.boots = json_array(),
		.patterns = json_object(),
		.faults = json_array(),
	};
	if (!result->boots || !result->patterns || !result->faults) {
		result_done(result);
		return -ENOMEM;
	}
	return 0;
}

void result_done(struct result *result)
{
	json_decref(result->boots);
	json_decref(result->patterns);
	json_decref(result->faults);
	*result = (struct result){ 0 };
}

void result_boot(struct result *result, unsigned boot, uint64_t offset)
{
	result->n_boots++;
	/* The last boot is the one that people ask for: it takes the place of the one before. */
	if (json_array_size(result->boots) == RESULT_BOOTS_MAX) {
		(void)json_array_remove(result->boots, RESULT_BOOTS_MAX - 1);
		result->dropped++;
	}
	(void)json_array_append_new(result->boots,
				    json_pack("{s:i, s:I, s:n, s:n, s:n, s:n}", "n", (int)boot,
					      "console_offset", (json_int_t)offset, "power_on",
					      "first_byte", "end", "reason"));
}

static json_t *last_boot(const struct result *result)
{
	size_t size = json_array_size(result->boots);

	return size ? json_array_get(result->boots, size - 1) : NULL;
}

void result_boot_time(struct result *result, const char *key, uint64_t realtime_us)
{
	json_t *boot = last_boot(result);
	char time[CLOCK_ISO_SIZE];

	if (boot && json_is_null(json_object_get(boot, key)))
		(void)json_object_set_new(boot, key,
					  json_string(clock_format_iso(time, realtime_us)));
}

void result_boot_end(struct result *result, uint64_t realtime_us, const char *reason)
{
	json_t *boot = last_boot(result);

	if (!boot || !json_is_null(json_object_get(boot, "end")))
		return;
	result_boot_time(result, "end", realtime_us);
	(void)json_object_set_new(boot, "reason", json_string(reason));
}

void result_pattern(struct result *result, const char *name, unsigned boot, uint64_t offset,
		    json_t *line)
{
	json_t *list = json_object_get(result->patterns, name);

	if (result->n_patterns == RESULT_PATTERNS_MAX) {
		result->dropped++;
		json_decref(line);
		return;
	}
	if (!list) {
		list = json_array();
		(void)json_object_set_new(result->patterns, name, list);
	}
	result->n_patterns++;
	(void)json_array_append_new(list, json_pack("{s:i, s:I, s:o}", "boot", (int)boot, "offset",
						    (json_int_t)offset, "line", line));
}

void result_fault(struct result *result, const char *kind, unsigned boot, uint64_t offset,
		  json_t *line)
{
	if (result->n_faults == RESULT_FAULTS_MAX) {
		result->dropped++;
		json_decref(line);
		return;
	}
	result->n_faults++;
	(void)json_array_append_new(result->faults, json_pack("{s:s, s:i, s:I, s:o}", "kind", kind,
							      "boot", (int)boot, "offset",
							      (json_int_t)offset, "line", line));
}

int result_reserve(int *ret_fd, int dir_fd, struct error *err)
{
	close_ int fd = openat(dir_fd, reserved_name,
			       O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
	int number;

	if (fd < 0)
		return error_errno(err, "cannot create %s", reserved_name);
	/* posix_fallocate(3) returns the number and works on every file system. */
	number = posix_fallocate(fd, 0, RESULT_BYTES_RESERVED);
	if (number) {
		(void)unlinkat(dir_fd, reserved_name, 0);
		return error_code(err, -number, "no space for result.json");
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

static int write_reserved(int dir_fd, int fd, const char *text, size_t length, struct error *err)
{
	int r;

	if (fd < 0)
		return error_set(err, -EBADF, "no space was reserved for result.json");
	r = file_write_all(fd, text, length, err);
	if (r < 0)
		return r;
	if (ftruncate(fd, (off_t)length) < 0 || fsync(fd) < 0)
		return error_errno(err, "cannot write result.json");
	if (renameat(dir_fd, reserved_name, dir_fd, file_name) < 0)
		return error_errno(err, "cannot rename result.json");
	if (fsync(dir_fd) < 0)
		return error_errno(err, "cannot write the job folder");
	return 0;
}

int result_write(int dir_fd, int reserved_fd, json_t *result, struct error *err)
{
	free_ char *text = json_dumps(result, JSON_INDENT(2) | JSON_REAL_PRECISION(REAL_DIGITS));
	close_ int fd = reserved_fd;
	size_t length;
	int r;

	json_decref(result);
	if (!text)
		return error_oom(err);
	length = strlen(text);
	text[length] = '\n'; /* instead of the NUL */
	r = write_reserved(dir_fd, fd, text, length + 1, err);
	if (r < 0)
		r = file_replace(dir_fd, file_name, text, length + 1, 0640, err);
	return r;
}
