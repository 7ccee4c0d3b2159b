/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <string.h>

#include "dut/job-client.h"

static const char *digest_of(char digest[JOB_CLIENT_DIGEST_SIZE], const char *metadata,
			     const char *text, int64_t bucket_size)
{
	json_t *object = json_loads(metadata, 0, NULL);

	assert_non_null(object);
	job_client_digest(digest, object, text, strlen(text), bucket_size);
	json_decref(object);
	return digest;
}

static void a_repeat_has_the_same_digest(void **state)
{
	char a[JOB_CLIENT_DIGEST_SIZE], b[JOB_CLIENT_DIGEST_SIZE];

	(void)state;
	assert_string_equal(
		digest_of(a, "{\"version\": 1, \"name\": \"x\", \"submission_id\": \"1\"}", "job",
			  -1),
		digest_of(b, "{\"submission_id\": \"2\", \"name\":\"x\", \"version\":1}", "job",
			  -1));
	assert_int_equal(strlen(a), JOB_CLIENT_DIGEST_SIZE - 1);
}

static void what_is_not_the_same_has_another(void **state)
{
	char first[JOB_CLIENT_DIGEST_SIZE], other[JOB_CLIENT_DIGEST_SIZE];

	(void)state;
	(void)digest_of(first, "{\"name\": \"x\"}", "job", -1);
	assert_string_not_equal(first, digest_of(other, "{\"name\": \"y\"}", "job", -1));
	assert_string_not_equal(first, digest_of(other, "{\"name\": \"x\"}", "job ", -1));
	assert_string_not_equal(first, digest_of(other, "{\"name\": \"x\"}", "job", 0));
	assert_string_not_equal(first, digest_of(other, "{\"name\": \"x\"}", "job", 10240));
	/* Nothing moves from one part to the other. */
	assert_string_not_equal(digest_of(first, "{}", "x", -1), digest_of(other, "{}", "", -1));
}

/* What a later dutd reads of what this one has written. */
static void read_back(struct job_client *ret, const struct job_client *client, json_t *cancel)
{
	json_t *record = json_object();
	struct error err;

	*ret = (struct job_client){ 0 };
	assert_int_equal(job_client_add_to_record(client, record), 0);
	if (cancel)
		(void)json_object_set_new(record, "cancel", cancel);
	assert_int_equal(job_client_from_record(ret, record, &err), 0);
	json_decref(record);
}

static void a_record_keeps_it(void **state)
{
	static const char *const texts[] = {
		"{\"submission_id\": \"abc\", \"on_disconnect\": \"cancel\"}",
		"{\"submission_id\": \"abc\", \"on_disconnect\": \"continue\"}",
		"{\"submission_id\": \"abc\"}",
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		json_t *metadata = json_loads(texts[i], 0, NULL);
		struct job_client client = { 0 }, again;
		struct error err;

		assert_int_equal(job_client_init(&client, metadata, "0123456789abcdef", &err), 0);
		assert_int_equal(client.bound, i == 0);
		read_back(&again, &client, NULL);
		assert_string_equal(again.submission_id, "abc");
		assert_string_equal(again.digest, "0123456789abcdef");
		assert_int_equal(again.bound, client.bound);
		assert_string_equal(job_client_cancel_reason(&again), "cancelled");
		job_client_done(&again);
		job_client_done(&client);
		json_decref(metadata);
	}
}

static void a_loss_is_a_reason_of_its_own(void **state)
{
	struct job_client client = { 0 }, again;

	(void)state;
	read_back(&again, &client, json_pack("{s:s}", "reason", "client_lost"));
	assert_null(again.submission_id);
	assert_string_equal(job_client_cancel_reason(&again), "client_lost");
	read_back(&again, &client, json_pack("{s:s}", "by", "alice"));
	assert_string_equal(job_client_cancel_reason(&again), "cancelled");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_repeat_has_the_same_digest),
		cmocka_unit_test(what_is_not_the_same_has_another),
		cmocka_unit_test(a_record_keeps_it),
		cmocka_unit_test(a_loss_is_a_reason_of_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
