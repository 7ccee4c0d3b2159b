/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dut/queue.h"

/* The clock is whatever a test says. */
#define MINUTE_US ((int64_t)60000000)

static int set_up(void **state)
{
	struct queue *queue;
	struct error err;

	assert_return_code(queue_new(&queue, &err), 0);
	*state = queue;
	return 0;
}

static int tear_down(void **state)
{
	(void)queue_free(*state);
	return 0;
}

/* A claim as a job has it. */
#define CLAIM(number_, priority_, queued_)                                                   \
	{                                                                                    \
		.number = (number_), .priority = (priority_), .queued_us = (queued_),        \
		.limit_us = UINT64_MAX, .deadline_realtime_us = UINT64_MAX, .owner = "alice" \
	}

static void add(struct queue *queue, struct claim *claim, const char *const *duts, size_t n)
{
	struct error err;

	assert_return_code(queue_add(queue, claim, duts, n, &err), 0);
}

#define ADD(queue, claim, ...)                             \
	add(queue, claim, (const char *[]){ __VA_ARGS__ }, \
	    sizeof((const char *[]){ __VA_ARGS__ }) / sizeof(char *))

/* The numbers of those who wait for a DUT, as they get it one after the other. */
static void assert_order(struct queue *queue, const char *dut, const uint64_t *numbers, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct claim *claim = queue_first(queue, dut, NULL, NULL);

		assert_non_null(claim);
		assert_int_equal(claim->number, numbers[i]);
		queue_remove(claim);
	}
	assert_null(queue_first(queue, dut, NULL, NULL));
}

#define ASSERT_ORDER(queue, dut, ...)                               \
	assert_order(queue, dut, (const uint64_t[]){ __VA_ARGS__ }, \
		     sizeof((const uint64_t[]){ __VA_ARGS__ }) / sizeof(uint64_t))

static void equals_go_in_the_order_of_their_submission(void **state)
{
	static struct claim a = CLAIM(1, 0, 10), b = CLAIM(2, 0, 20), c = CLAIM(3, 0, 20);

	ADD(*state, &c, "b1");
	ADD(*state, &b, "b1");
	ADD(*state, &a, "b1");
	ASSERT_ORDER(*state, "b1", 1, 2, 3);
}

static void priority_goes_before_submission(void **state)
{
	static struct claim low = CLAIM(1, -1, 1000), none = CLAIM(2, 0, 2000),
			    high = CLAIM(3, 5, 3000);

	ADD(*state, &low, "b1");
	ADD(*state, &none, "b1");
	ADD(*state, &high, "b1");
	ASSERT_ORDER(*state, "b1", 3, 2, 1);
}

static void a_minute_of_waiting_is_worth_one_step_of_priority(void **state)
{
	static struct claim old = CLAIM(1, 0, 0), new = CLAIM(2, 5, 5 * MINUTE_US + 1),
			    younger = CLAIM(3, 5, 5 * MINUTE_US - 1);

	ADD(*state, &new, "b1");
	ADD(*state, &old, "b1");
	ADD(*state, &younger, "b1");
	ASSERT_ORDER(*state, "b1", 3, 1, 2);
}

static void waiting_raises_the_effective_priority_without_end(void **state)
{
	const struct claim claim = CLAIM(1, -100, 7);
	const struct claim before_boot = CLAIM(1, 3, -10 * MINUTE_US);

	(void)state;
	assert_int_equal(queue_effective_priority(&claim, 7), -100);
	assert_int_equal(queue_effective_priority(&claim, 6), -100);
	assert_int_equal(queue_effective_priority(&claim, 7 + 60 * 1000000 - 1), -100);
	assert_int_equal(queue_effective_priority(&claim, 7 + 60 * 1000000), -99);
	assert_int_equal(queue_effective_priority(&claim, 7 + UINT64_C(60) * 1000000 * 10000),
			 9900);
	assert_int_equal(queue_effective_priority(&before_boot, 0), 13);
}

static void who_waits_for_another_dut_is_in_nobodys_way(void **state)
{
	static struct claim tag_a = CLAIM(1, 90, 0), tag_b = CLAIM(2, 0, 10), one = CLAIM(3, 0, 20);

	ADD(*state, &tag_a, "a1", "a2");
	ADD(*state, &tag_b, "b1", "b2");
	ADD(*state, &one, "b2");
	assert_int_equal(queue_first(*state, "b2", NULL, NULL)->number, 2);
	assert_int_equal(queue_first(*state, "a2", NULL, NULL)->number, 1);
	assert_null(queue_first(*state, "c1", NULL, NULL));
	assert_int_equal(queue_place(*state, &tag_a), 1);
	assert_int_equal(queue_place(*state, &tag_b), 1);
	assert_int_equal(queue_place(*state, &one), 2);
	ASSERT_ORDER(*state, "b1", 2);
	ASSERT_ORDER(*state, "b2", 3);
	ASSERT_ORDER(*state, "a1", 1);
}

static void a_place_counts_those_who_want_the_same_dut(void **state)
{
	static struct claim all = CLAIM(1, 0, 10), first = CLAIM(2, 0, 20),
			    second = CLAIM(3, 0, 30), both = CLAIM(4, 0, 40),
			    late = CLAIM(5, 50, 50);

	ADD(*state, &all, "b3", "b1", "b2");
	ADD(*state, &first, "b1");
	ADD(*state, &second, "b2");
	ADD(*state, &both, "b2", "b1", "b2");
	assert_int_equal(queue_place(*state, &all), 1);
	assert_int_equal(queue_place(*state, &first), 2);
	assert_int_equal(queue_place(*state, &second), 2);
	assert_int_equal(queue_place(*state, &both), 4);
	ADD(*state, &late, "b1");
	assert_int_equal(queue_place(*state, &late), 1);
	assert_int_equal(queue_place(*state, &all), 2);
	assert_int_equal(queue_place(*state, &first), 3);
	assert_int_equal(queue_place(*state, &second), 2);
	queue_remove(&all);
	assert_int_equal(queue_place(*state, &second), 1);
	assert_int_equal(queue_place(*state, &both), 4);
}

static bool is_bobs(const struct claim *claim, void *data)
{
	(void)data;
	return strcmp(claim->owner, "bob") == 0;
}

static void one_who_may_not_have_a_dut_is_passed_over(void **state)
{
	static struct claim alice = CLAIM(1, 100, 0), bob = CLAIM(2, 0, 10);

	bob.owner = "bob";
	ADD(*state, &alice, "b1");
	assert_null(queue_first(*state, "b1", is_bobs, NULL));
	ADD(*state, &bob, "b1");
	assert_ptr_equal(queue_first(*state, "b1", is_bobs, NULL), &bob);
	assert_ptr_equal(queue_first(*state, "b1", NULL, NULL), &alice);
}

static void it_knows_the_duts_of_each(void **state)
{
	static struct claim claim = CLAIM(1, 0, 0);
	size_t count;
	const char *const *duts;

	ADD(*state, &claim, "b2", "b1", "b2");
	duts = queue_duts(&claim, &count);
	assert_int_equal(count, 2);
	assert_string_equal(duts[0], "b1");
	assert_string_equal(duts[1], "b2");
	assert_true(queue_wants(&claim, "b1"));
	assert_false(queue_wants(&claim, "b3"));
	queue_remove(&claim);
	queue_remove(&claim);
	assert_false(queue_waits(&claim));
}

static void nobody_waits_for_no_dut_at_all(void **state)
{
	static struct claim claim = CLAIM(1, 0, 0);
	struct error err;

	assert_int_equal(queue_add(*state, &claim, NULL, 0, &err), -EINVAL);
	assert_string_equal(err.text, "there is no DUT to wait for");
	assert_false(queue_waits(&claim));
}

static void each_time_is_over_when_it_is(void **state)
{
	static struct claim never = CLAIM(1, 0, 0), limited = CLAIM(2, 0, 0),
			    dated = CLAIM(3, 0, 0);
	uint64_t next_us, next_realtime;
	enum claim_end end;

	limited.limit_us = 5000;
	dated.deadline_realtime_us = 70;
	ADD(*state, &never, "b1");
	queue_next_expiry(*state, &next_us, &next_realtime);
	assert_true(next_us == UINT64_MAX && next_realtime == UINT64_MAX);
	ADD(*state, &limited, "b1");
	ADD(*state, &dated, "b1");
	queue_next_expiry(*state, &next_us, &next_realtime);
	assert_int_equal(next_us, 5000);
	assert_int_equal(next_realtime, 70);
	assert_null(queue_expired(*state, 4999, 69, &end));

	/* A step of the wall clock ends what has a date, and nothing else. */
	assert_ptr_equal(queue_expired(*state, 4999, 1000000, &end), &dated);
	assert_int_equal(end, CLAIM_TOO_LATE);
	queue_remove(&dated);
	assert_null(queue_expired(*state, 4999, 1000000, &end));
	queue_next_expiry(*state, &next_us, &next_realtime);
	assert_int_equal(next_us, 5000);
	assert_true(next_realtime == UINT64_MAX);
	assert_ptr_equal(queue_expired(*state, 5000, 0, &end), &limited);
	assert_int_equal(end, CLAIM_WAITED_LONG_ENOUGH);
	queue_remove(&limited);
	assert_null(queue_expired(*state, UINT64_MAX - 1, UINT64_MAX - 1, &end));
}

static void it_counts_kinds_and_users(void **state)
{
	static struct claim job = CLAIM(1, 0, 0), other = CLAIM(2, 0, 0),
			    reservation = CLAIM(1, 0, 0);
	unsigned of_user;

	other.owner = "bob";
	reservation.kind = CLAIM_RESERVATION;
	ADD(*state, &job, "b1");
	ADD(*state, &other, "b1");
	ADD(*state, &reservation, "b1");
	assert_int_equal(queue_count(*state, CLAIM_JOB, "bob", &of_user), 2);
	assert_int_equal(of_user, 1);
	assert_int_equal(queue_count(*state, CLAIM_SUBMISSION, "alice", &of_user), 0);
	assert_int_equal(of_user, 0);
}

/* ---- against a queue that is as simple as can be ---- */

enum { DUTS = 8, CLAIMS = 200 };

static struct claim many[CLAIMS];
static unsigned wanted[CLAIMS]; /* bits: DUTs */

static bool goes_before(const struct claim *a, const struct claim *b)
{
	int64_t turn_a = a->queued_us - a->priority * MINUTE_US;
	int64_t turn_b = b->queued_us - b->priority * MINUTE_US;

	return turn_a < turn_b || (turn_a == turn_b && a->number < b->number);
}

static const struct claim *simple_first(unsigned dut)
{
	const struct claim *first = NULL;

	for (unsigned i = 0; i < CLAIMS; i++)
		if (queue_waits(&many[i]) && wanted[i] & (1U << dut) &&
		    (!first || goes_before(&many[i], first)))
			first = &many[i];
	return first;
}

static unsigned simple_place(unsigned which)
{
	unsigned place = 1;

	for (unsigned i = 0; i < CLAIMS; i++)
		place += queue_waits(&many[i]) && wanted[i] & wanted[which] &&
			 goes_before(&many[i], &many[which]);
	return place;
}

static void add_at_random(struct queue *queue, unsigned i)
{
	const char *names[DUTS];
	static const char *const all[DUTS] = { "b1", "b2", "b3", "b4", "b5", "b6", "b7", "b8" };
	size_t n = 0;

	wanted[i] = 1 + (unsigned)(rand() % ((1 << DUTS) - 1));
	if (rand() % 2)
		wanted[i] = 1U << (unsigned)(rand() % DUTS);
	for (unsigned dut = 0; dut < DUTS; dut++)
		if (wanted[i] & (1U << dut))
			names[n++] = all[dut];
	many[i] = (struct claim)CLAIM(i, rand() % 201 - 100, rand() % 1000 * MINUTE_US / 7);
	add(queue, &many[i], names, n);
}

static void it_does_what_a_simple_queue_would(void **state)
{
	srand(4711);
	for (unsigned round = 0; round < 2000; round++) {
		unsigned i = (unsigned)rand() % CLAIMS, dut = (unsigned)rand() % DUTS;
		const char name[] = { 'b', (char)('1' + dut), '\0' };

		if (queue_waits(&many[i]))
			queue_remove(&many[i]);
		else
			add_at_random(*state, i);
		assert_ptr_equal(queue_first(*state, name, NULL, NULL), simple_first(dut));
		if (queue_waits(&many[i]))
			assert_int_equal(queue_place(*state, &many[i]), simple_place(i));
	}
	for (const struct claim *claim = queue_next(*state, NULL), *next; claim; claim = next) {
		next = queue_next(*state, claim);
		assert_true(!next || goes_before(claim, next));
	}
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		CASE(equals_go_in_the_order_of_their_submission),
		CASE(priority_goes_before_submission),
		CASE(a_minute_of_waiting_is_worth_one_step_of_priority),
		CASE(waiting_raises_the_effective_priority_without_end),
		CASE(who_waits_for_another_dut_is_in_nobodys_way),
		CASE(a_place_counts_those_who_want_the_same_dut),
		CASE(one_who_may_not_have_a_dut_is_passed_over),
		CASE(it_knows_the_duts_of_each),
		CASE(nobody_waits_for_no_dut_at_all),
		CASE(each_time_is_over_when_it_is),
		CASE(it_counts_kinds_and_users),
		CASE(it_does_what_a_simple_queue_would),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
