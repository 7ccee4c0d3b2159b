/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/protocol.h"

static void make_pair(int fds[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
}

static void a_packet_arrives_with_its_fds(void **state)
{
	int pair[2], got[PACKET_FDS_MAX], pipes[2];
	json_t *packet = NULL;
	struct error err;

	(void)state;
	make_pair(pair);
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(packet_send(pair[0], json_pack("{s:s, s:i}", "t", "lend", "gen", 3), pipes,
				     2, &err),
			 0);
	assert_int_equal(packet_receive(pair[1], &packet, got, &err), 1);
	assert_string_equal(json_string_value(json_object_get(packet, "t")), "lend");
	assert_int_equal(json_integer_value(json_object_get(packet, "gen")), 3);
	assert_true(got[0] >= 0 && got[1] >= 0 && got[2] == -1 && got[3] == -1);
	assert_true(fcntl(got[0], F_GETFD) & FD_CLOEXEC);
	json_decref(packet);
	for (unsigned i = 0; i < 2; i++) {
		(void)close(got[i]);
		(void)close(pipes[i]);
		(void)close(pair[i]);
	}
}

static void what_is_no_packet_is_dropped_and_its_fds_closed(void **state)
{
	static const char *const wrong[] = { "{}", "[1]", "{\"t\": 1}", "nonsense",
					     "{\"t\": \"a\", \"t\": \"b\"}" };
	int pair[2], got[PACKET_FDS_MAX];
	json_t *packet = NULL;
	struct error err;

	(void)state;
	make_pair(pair);
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		assert_true(send(pair[0], wrong[i], strlen(wrong[i]), 0) >= 0);
		assert_int_equal(packet_receive(pair[1], &packet, got, &err), -EBADMSG);
		assert_string_equal(err.text, "what came is no control packet");
		assert_int_equal(got[0], -1);
	}
	assert_int_equal(packet_receive(pair[1], &packet, got, &err), -EAGAIN);
	(void)close(pair[0]);
	assert_int_equal(packet_receive(pair[1], &packet, got, &err), 0);
	(void)close(pair[1]);
}

static void a_packet_over_the_limit_is_refused_by_both_sides(void **state)
{
	int pair[2], got[PACKET_FDS_MAX];
	static char big[PACKET_MAX + 10];
	json_t *packet = NULL;
	struct error err;

	(void)state;
	make_pair(pair);
	memset(big, 'x', sizeof(big) - 1);
	assert_int_equal(packet_send(pair[0], json_pack("{s:s}", "t", big), NULL, 0, &err),
			 -EMSGSIZE);
	memset(big, ' ', sizeof(big) - 1);
	memcpy(big, "{\"t\":\"x\"}", 9);
	assert_true(send(pair[0], big, sizeof(big) - 1, 0) > PACKET_MAX);
	assert_int_equal(packet_receive(pair[1], &packet, got, &err), -EBADMSG);
	(void)close(pair[0]);
	(void)close(pair[1]);
}

static void reasons_have_the_status_of_the_manual(void **state)
{
	(void)state;
	assert_int_equal(job_reason_status("ok", false), JOB_PASS);
	assert_int_equal(job_reason_status("step:login", false), JOB_FAIL);
	assert_int_equal(job_reason_status("disk", true), JOB_SETUP_FAIL);
	assert_int_equal(job_reason_status("disk", false), JOB_INCOMPLETE);
	assert_int_equal(job_reason_status("power", true), JOB_SETUP_FAIL);
	assert_int_equal(job_reason_status("timeout:watchdogs.suite", false), JOB_INCOMPLETE);
	assert_int_equal(job_reason_status("client_lost", true), JOB_CANCELLED);
	assert_int_equal(job_reason_status("nonsense", false), JOB_INCOMPLETE);
	assert_true(job_reason_known("command:77"));
	assert_true(job_reason_cancels("client_lost"));
	assert_true(job_reason_cancels("console_lost"));
	assert_false(job_reason_cancels("ok"));
	assert_false(job_reason_cancels("command:0"));
	assert_false(job_reason_cancels("lunch"));
	assert_false(job_reason_known("command:"));
	assert_false(job_reason_known("okay"));
	assert_false(job_reason_known("timeout:"));
}

static void names_and_numbers_of_statuses_agree(void **state)
{
	(void)state;
	for (int i = 0; i < JOB_STATUSES; i++)
		assert_int_equal(job_status_from_name(job_status_name((enum job_status)i)), i);
	assert_int_equal(job_status_from_name("pass"), -EINVAL);
	assert_int_equal(JOB_SETUP_FAIL, 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_packet_arrives_with_its_fds),
		cmocka_unit_test(what_is_no_packet_is_dropped_and_its_fds_closed),
		cmocka_unit_test(a_packet_over_the_limit_is_refused_by_both_sides),
		cmocka_unit_test(reasons_have_the_status_of_the_manual),
		cmocka_unit_test(names_and_numbers_of_statuses_agree),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
