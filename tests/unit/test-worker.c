/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-event.h>

#include "base/attr.h"
#include "dut/worker.h"

enum { MANY = 500 };

struct fixture {
	sd_event *event;
	struct worker *worker;
	pthread_t loop;
	/* Of the pieces of work, in the order in which it happened: */
	char worked[MANY + 1], done[MANY + 1], released[MANY + 1];
	/* Held by a test that lets no work go on. */
	pthread_mutex_t gate;
};

struct piece {
	struct fixture *f;
	char name;
	int r;
	bool in_thread, waits;
};

static void note(char *text, char name)
{
	text[strlen(text)] = name;
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct error err;

	assert_non_null(f);
	f->loop = pthread_self();
	assert_int_equal(pthread_mutex_init(&f->gate, NULL), 0);
	assert_int_equal(sd_event_new(&f->event), 0);
	assert_int_equal(worker_new(&f->worker, f->event, &err), 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	worker_free(f->worker);
	sd_event_unref(f->event);
	(void)pthread_mutex_destroy(&f->gate);
	free(f);
	return 0;
}

/* ---- the work: assertions only in the loop, cmocka is for one thread ---- */

static int work(void *data, struct error *err)
{
	struct piece *piece = data;

	piece->in_thread = !pthread_equal(pthread_self(), piece->f->loop);
	if (piece->waits) {
		(void)pthread_mutex_lock(&piece->f->gate);
		(void)pthread_mutex_unlock(&piece->f->gate);
	}
	note(piece->f->worked, piece->name);
	return piece->r < 0 ? error_set(err, piece->r, "no %c", piece->name) : piece->r;
}

static void on_done(int r, const struct error *err, void *data)
{
	struct piece *piece = data;

	assert_true(pthread_equal(pthread_self(), piece->f->loop));
	assert_true(piece->in_thread);
	assert_int_equal(r, piece->r);
	if (r < 0) {
		assert_int_equal(err->text[3], piece->name);
		assert_memory_equal(err->text, "no ", 3);
	}
	/* It is released afterwards. */
	assert_null(strchr(piece->f->released, piece->name));
	note(piece->f->done, piece->name);
}

static void release(void *data)
{
	struct piece *piece = data;

	note(piece->f->released, piece->name);
	free(piece);
}

static struct piece *make(struct fixture *f, char name, int r)
{
	struct piece *piece = malloc(sizeof(*piece));

	assert_non_null(piece);
	*piece = (struct piece){ .f = f, .name = name, .r = r };
	return piece;
}

static void run(struct fixture *f, char name, int r, work_done_fn done)
{
	struct error err;

	assert_int_equal(worker_run(f->worker, work, done, release, make(f, name, r), &err), 0);
}

static void turn_until(struct fixture *f, size_t released)
{
	while (strlen(f->released) < released)
		assert_true(sd_event_run(f->event, UINT64_MAX) >= 0);
}

/* ---- tests ---- */

static void work_is_done_in_the_thread_and_told_in_the_loop(void **state)
{
	struct fixture *f = *state;

	run(f, 'a', 0, on_done);
	assert_string_equal(f->done, ""); /* never from within the call */
	turn_until(f, 1);
	assert_string_equal(f->done, "a");
	assert_string_equal(f->released, "a");
}

static void what_it_returns_is_handed_on(void **state)
{
	struct fixture *f = *state;

	run(f, 'a', -ENOSPC, on_done);
	run(f, 'b', 7, on_done);
	turn_until(f, 2);
	assert_string_equal(f->done, "ab");
}

static void work_is_done_in_its_order(void **state)
{
	struct fixture *f = *state;
	char expected[MANY + 1] = "";

	for (unsigned i = 0; i < MANY; i++) {
		expected[i] = (char)('!' + i % 90);
		/* A name may come again: on_done() would take the earlier one's release for its
		 * own. */
		run(f, expected[i], 0, NULL);
	}
	turn_until(f, MANY);
	assert_string_equal(f->worked, expected);
	assert_string_equal(f->released, expected);
}

static void work_without_done_is_released(void **state)
{
	struct fixture *f = *state;

	run(f, 'a', 0, NULL);
	turn_until(f, 1);
	assert_string_equal(f->worked, "a");
	assert_string_equal(f->done, "");
	assert_string_equal(f->released, "a");
}

static void work_without_release_is_left_to_done(void **state)
{
	struct fixture *f = *state;
	struct piece *piece = make(f, 'a', 0);
	struct error err;

	assert_int_equal(worker_run(f->worker, work, on_done, NULL, piece, &err), 0);
	while (!f->done[0])
		assert_true(sd_event_run(f->event, UINT64_MAX) >= 0);
	assert_string_equal(f->released, "");
	free(piece);
}

static void on_done_more(int r, const struct error *err, void *data)
{
	struct piece *piece = data;

	on_done(r, err, data);
	run(piece->f, 'b', 0, on_done);
}

static void done_may_ask_for_more(void **state)
{
	struct fixture *f = *state;

	run(f, 'a', 0, on_done_more);
	turn_until(f, 2);
	assert_string_equal(f->done, "ab");
}

static void the_loop_goes_on_while_work_waits(void **state)
{
	struct fixture *f = *state;
	struct piece *piece = make(f, 'a', 0);
	struct error err;

	piece->waits = true;
	assert_int_equal(pthread_mutex_lock(&f->gate), 0);
	assert_int_equal(worker_run(f->worker, work, on_done, release, piece, &err), 0);
	run(f, 'b', 0, on_done);
	assert_true(sd_event_run(f->event, 0) >= 0);
	assert_string_equal(f->done, "");
	assert_int_equal(pthread_mutex_unlock(&f->gate), 0);
	turn_until(f, 2);
	assert_string_equal(f->done, "ab");
}

static void accepted_work_is_finished_at_the_end(void **state)
{
	struct fixture *f = *state;
	struct piece *piece = make(f, 'a', 0);
	struct error err;

	/* Nothing was begun, or told, when it ends. */
	piece->waits = true;
	assert_int_equal(pthread_mutex_lock(&f->gate), 0);
	assert_int_equal(worker_run(f->worker, work, on_done, release, piece, &err), 0);
	run(f, 'b', -EIO, on_done);
	run(f, 'c', 0, NULL);
	assert_int_equal(pthread_mutex_unlock(&f->gate), 0);
	f->worker = worker_free(f->worker);
	assert_null(f->worker);
	assert_string_equal(f->worked, "abc");
	assert_string_equal(f->done, "");
	assert_string_equal(f->released, "abc");
	while (sd_event_run(f->event, 0) > 0)
		;
	assert_string_equal(f->done, "");
}

static void no_worker_is_freed(void **state)
{
	(void)state;
	assert_null(worker_free(NULL));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(work_is_done_in_the_thread_and_told_in_the_loop),
		TEST(what_it_returns_is_handed_on),
		TEST(work_is_done_in_its_order),
		TEST(work_without_done_is_released),
		TEST(work_without_release_is_left_to_done),
		TEST(done_may_ask_for_more),
		TEST(the_loop_goes_on_while_work_waits),
		TEST(accepted_work_is_finished_at_the_end),
		cmocka_unit_test(no_worker_is_freed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
