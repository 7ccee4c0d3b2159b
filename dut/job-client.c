/* SPDX-License-Identifier: MIT */
#include "dut/job-client.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

/* Source: the FNV hash, 64 bits, variant 1a: offset basis and prime. */
static uint64_t add_to_digest(uint64_t digest, const void *bytes, size_t length)
{
	const unsigned char *byte = bytes;

	for (size_t i = 0; i < length; i++)
		digest = (digest ^ byte[i]) * UINT64_C(0x100000001b3);
	return digest;
}

void job_client_digest(char ret[static JOB_CLIENT_DIGEST_SIZE], const json_t *metadata,
		       const char *text, size_t length, int64_t bucket_size)
{
	json_auto_t *content = json_copy((json_t *)(uintptr_t)metadata);
	free_ char *dumped = NULL;
	uint64_t digest = UINT64_C(0xcbf29ce484222325);

	(void)json_object_del(content, "submission_id");
	dumped = json_dumps(content, JSON_COMPACT | JSON_SORT_KEYS);
	/* With the 0 at its end, so that nothing moves from one to the other. */
	if (dumped)
		digest = add_to_digest(digest, dumped, strlen(dumped) + 1);
	digest = add_to_digest(digest, text, length);
	digest = add_to_digest(digest, &bucket_size, sizeof(bucket_size));
	(void)snprintf(ret, JOB_CLIENT_DIGEST_SIZE, "%016" PRIx64, digest);
}

static int set_id(struct job_client *client, const char *id, const char *digest, struct error *err)
{
	client->submission_id = strdup(id);
	if (!client->submission_id)
		return error_oom(err);
	(void)snprintf(client->digest, sizeof(client->digest), "%s", digest);
	return 0;
}

int job_client_init(struct job_client *client, const json_t *metadata, const char *digest,
		    struct error *err)
{
	const char *id = json_string_value(json_object_get(metadata, "submission_id"));
	const char *what = json_string_value(json_object_get(metadata, "on_disconnect"));

	if (!id)
		return 0;
	client->bound = what && strcmp(what, "cancel") == 0;
	return set_id(client, id, digest, err);
}

void job_client_done(struct job_client *client)
{
	binding_end(&client->binding);
	free(client->submission_id);
	client->submission_id = NULL;
}

int job_client_add_to_record(const struct job_client *client, json_t *record)
{
	if (!client->submission_id)
		return 0;
	return json_object_update_new(record, json_pack("{s:s, s:s, s:b}", "submission_id",
							client->submission_id, "submission_digest",
							client->digest, "bound", client->bound));
}

int job_client_from_record(struct job_client *client, const json_t *record, struct error *err)
{
	const char *id = json_string_value(json_object_get(record, "submission_id"));
	const char *digest = json_string_value(json_object_get(record, "submission_digest"));
	const json_t *cancel = json_object_get(record, "cancel");
	const char *reason = json_string_value(json_object_get(cancel, "reason"));

	client->bound = json_is_true(json_object_get(record, "bound"));
	client->lost = reason && strcmp(reason, "client_lost") == 0;
	return id ? set_id(client, id, digest ? digest : "", err) : 0;
}

const char *job_client_cancel_reason(const struct job_client *client)
{
	return client->lost ? "client_lost" : "cancelled";
}
