/* SPDX-License-Identifier: MIT */
#include "dut/worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "base/cleanup.h"
#include "base/list.h"

struct work {
	struct list link; /* worker.waiting, then worker.finished */
	work_fn work;
	work_done_fn done;
	void (*release)(void *data);
	void *data;
	int r;
	struct error err;
};

struct worker {
	pthread_t thread;
	bool has_thread;
	pthread_mutex_t mutex; /* guards the rest */
	pthread_cond_t more;
	struct list waiting, finished;
	bool stop;
	int finished_fd; /* eventfd: finished has grown */
	sd_event_source *source;
};

static void free_work(struct work *work)
{
	list_remove(&work->link);
	if (work->release)
		work->release(work->data);
	free(work);
}

static void *thread_main(void *data)
{
	struct worker *worker = data;

	(void)pthread_mutex_lock(&worker->mutex);
	for (;;) {
		const uint64_t one = 1;
		struct work *work;

		while (list_empty(&worker->waiting) && !worker->stop)
			(void)pthread_cond_wait(&worker->more, &worker->mutex);
		if (list_empty(&worker->waiting))
			break;
		work = CONTAINER_OF(worker->waiting.next, struct work, link);
		list_remove(&work->link);
		(void)pthread_mutex_unlock(&worker->mutex);
		work->r = work->work(work->data, &work->err);
		(void)pthread_mutex_lock(&worker->mutex);
		list_append(&worker->finished, &work->link);
		if (write(worker->finished_fd, &one, sizeof(one)) < 0)
			continue; /* a counter that is full wakes just as well */
	}
	(void)pthread_mutex_unlock(&worker->mutex);
	return NULL;
}

static struct work *next_finished(struct worker *worker)
{
	struct work *work = NULL;

	(void)pthread_mutex_lock(&worker->mutex);
	if (!list_empty(&worker->finished)) {
		work = CONTAINER_OF(worker->finished.next, struct work, link);
		list_remove(&work->link);
	}
	(void)pthread_mutex_unlock(&worker->mutex);
	return work;
}

static int on_finished(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct worker *worker = data;
	struct work *work;
	uint64_t count;

	(void)source;
	(void)events;
	if (read(fd, &count, sizeof(count)) < 0)
		return 0;
	while ((work = next_finished(worker))) {
		if (work->done)
			work->done(work->r, &work->err, work->data);
		free_work(work);
	}
	return 0;
}

struct worker *worker_free(struct worker *worker)
{
	struct work *work;

	if (!worker)
		return NULL;
	if (worker->has_thread) {
		(void)pthread_mutex_lock(&worker->mutex);
		worker->stop = true;
		(void)pthread_cond_signal(&worker->more);
		(void)pthread_mutex_unlock(&worker->mutex);
		(void)pthread_join(worker->thread, NULL);
	}
	while ((work = next_finished(worker)))
		free_work(work);
	sd_event_source_disable_unref(worker->source);
	(void)close_fd(worker->finished_fd);
	(void)pthread_cond_destroy(&worker->more);
	(void)pthread_mutex_destroy(&worker->mutex);
	free(worker);
	return NULL;
}

CLEANUP_DEFINE(struct worker *, worker_free)

int worker_new(struct worker **ret, sd_event *event, struct error *err)
{
	cleanup_(worker_freep) struct worker *worker = calloc(1, sizeof(*worker));
	sigset_t all, old;
	int r;

	if (!worker)
		return error_oom(err);
	list_init(&worker->waiting);
	list_init(&worker->finished);
	(void)pthread_mutex_init(&worker->mutex, NULL);
	(void)pthread_cond_init(&worker->more, NULL);
	worker->finished_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (worker->finished_fd < 0)
		return error_errno(err, "eventfd");
	r = sd_event_add_io(event, &worker->source, worker->finished_fd, EPOLLIN, on_finished,
			    worker);
	if (r < 0)
		return error_code(err, r, "cannot watch the worker");
	(void)sd_event_source_set_description(worker->source, "worker");
	/* Signals are the loop's business. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&worker->thread, NULL, thread_main, worker);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r != 0)
		return error_code(err, -r, "cannot start the worker thread");
	worker->has_thread = true;
	*ret = take_ptr(worker);
	return 0;
}

int worker_run(struct worker *worker, work_fn work, work_done_fn done, void (*release)(void *data),
	       void *data, struct error *err)
{
	struct work *item = malloc(sizeof(*item));

	if (!item)
		return error_oom(err);
	*item = (struct work){ .work = work, .done = done, .release = release, .data = data };
	(void)pthread_mutex_lock(&worker->mutex);
	list_append(&worker->waiting, &item->link);
	(void)pthread_cond_signal(&worker->more);
	(void)pthread_mutex_unlock(&worker->mutex);
	return 0;
}
