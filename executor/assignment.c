/* SPDX-License-Identifier: MIT */
#include "executor/assignment.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/protocol.h"
#include "base/text.h"

static const char file_name[] = "job.json";

/* The largest number that JSON carries. */
static const uint64_t no_limit = INT64_MAX;

/* The setting of dutd.yaml when job.json does not carry it. */
static const uint64_t default_daemon_us = UINT64_C(600) * 1000000;

struct assignment *assignment_free(struct assignment *assignment)
{
	if (assignment) {
		free(assignment->file_roots);
		json_decref(assignment->root);
		free(assignment);
	}
	return NULL;
}

CLEANUP_DEFINE(struct assignment *, assignment_free)

/* A number that is there and not negative, else otherwise. */
static uint64_t get_number(const json_t *object, const char *key, uint64_t otherwise)
{
	json_t *value = json_object_get(object, key);

	return json_is_integer(value) && json_integer_value(value) >= 0
		       ? (uint64_t)json_integer_value(value)
		       : otherwise;
}

static const char *get_text(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

/* The id as a number, 0 for none. */
static uint64_t id_number(const json_t *id)
{
	const char *text = json_string_value(id);
	uint64_t number = 0;

	if (json_is_integer(id))
		return json_integer_value(id) > 0 ? (uint64_t)json_integer_value(id) : 0;
	if (!text || text_to_uint64(&number, text, 1, UINT64_MAX, NULL) < 0)
		return 0;
	return number;
}

static int read_root(struct assignment *assignment, int dir_fd, struct error *err)
{
	free_ char *text = NULL;
	json_error_t error;
	size_t length;
	int r;

	r = file_read_beneath(&text, &length, dir_fd, file_name, ASSIGNMENT_BYTES_MAX, err);
	if (r < 0)
		return r;
	assignment->root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
	if (!assignment->root)
		return error_set(err, -EBADMSG, "%s:%d:%d: %s", file_name, error.line, error.column,
				 error.text);
	if (get_number(assignment->root, "v", 0) != PROTOCOL_VERSION)
		return error_set(err, -EBADMSG, "%s is not of version %d", file_name,
				 PROTOCOL_VERSION);
	return 0;
}

static int list_file_roots(struct assignment *assignment)
{
	const json_t *roots = json_object_get(assignment->root, "file_roots");
	size_t count = 0;

	assignment->file_roots =
		calloc(json_array_size(roots) + 1, sizeof(*assignment->file_roots));
	if (!assignment->file_roots)
		return -ENOMEM;
	for (size_t i = 0; i < json_array_size(roots); i++) {
		json_t *root = json_array_get(roots, i);

		/* jansson gives its texts away as const; nobody writes them. */
		if (json_is_string(root))
			memcpy(&assignment->file_roots[count++],
			       &(const char *){ json_string_value(root) }, sizeof(char *));
	}
	return 0;
}

/* What an executor cannot do without. */
static int check(const struct assignment *assignment, struct error *err)
{
	const char *missing = NULL;

	if (id_number(assignment->id) == 0)
		missing = "id above 0";
	else if (!assignment->nonce)
		missing = "nonce";
	else if (!assignment->dut)
		missing = "dut.id";
	else if (!json_is_integer(json_object_get(assignment->root, "socket_uid")))
		missing = "socket_uid";
	return missing ? error_set(err, -EBADMSG, "%s: no %s", file_name, missing) : 0;
}

int assignment_load(struct assignment **ret, int dir_fd, struct error *err)
{
	cleanup_(assignment_freep) struct assignment *assignment = calloc(1, sizeof(*assignment));
	const json_t *root, *limits;
	int r;

	if (!assignment)
		return error_oom(err);
	r = read_root(assignment, dir_fd, err);
	if (r < 0)
		return r;
	root = assignment->root;
	limits = json_object_get(root, "limits");
	assignment->id = json_object_get(root, "id");
	assignment->name = get_text(root, "name");
	assignment->owner = get_text(root, "owner");
	assignment->nonce = get_text(root, "nonce");
	assignment->dut = get_text(json_object_get(root, "dut"), "id");
	if (json_is_integer(json_object_get(root, "console_base")))
		assignment->console = get_text(json_object_get(root, "dut"), "console");
	assignment->console_base = get_number(root, "console_base", 0);
	assignment->attempt = get_number(root, "attempt", 1);
	assignment->epoch = get_number(root, "epoch", 0);
	assignment->submitted_realtime_us = get_number(root, "submitted_us", 0);
	assignment->daemon_us =
		get_number(json_object_get(root, "timeouts"), "daemon", default_daemon_us);
	assignment->console_log_max = get_number(limits, "console_log", no_limit);
	assignment->min_free = get_number(limits, "free_space", 0);
	assignment->bucket_max = get_number(limits, "bucket", no_limit);
	assignment->bucket_files_max = get_number(limits, "bucket_files", no_limit);
	assignment->environ = json_object_get(root, "environ");
	assignment->ignore_deadline = json_is_true(json_object_get(root, "ignore_deadline"));
	assignment->socket_uid = (uid_t)get_number(root, "socket_uid", 0);
	r = check(assignment, err);
	if (r < 0)
		return r;
	if (list_file_roots(assignment) < 0)
		return error_oom(err);
	assignment->number = id_number(assignment->id);
	(void)snprintf(assignment->id_text, sizeof(assignment->id_text), "%" PRIu64,
		       assignment->number);
	*ret = take_ptr(assignment);
	return 0;
}

static void copy(json_t *to, const json_t *from, const char *key)
{
	json_t *value = json_object_get(from, key);

	if (value)
		(void)json_object_set(to, key, value);
}

json_t *assignment_facts(const struct assignment *assignment)
{
	static const char *const keys[] = { "environ", "variables", "timeouts", "limits" };
	json_t *dut = json_copy(json_object_get(assignment->root, "dut"));
	json_t *job = json_object(), *facts;

	(void)json_object_set_new(job, "id", json_string(assignment->id_text));
	copy(job, assignment->root, "name");
	if (!json_object_get(dut, "deploy"))
		copy(dut, assignment->root, "deploy");
	facts = json_pack("{s:o, s:o, s:b}", "dut", dut, "job", job, "ignore_deadline", true);
	for (size_t i = 0; facts && i < ARRAY_SIZE(keys); i++)
		copy(facts, assignment->root, keys[i]);
	return facts;
}
