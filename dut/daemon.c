/* SPDX-License-Identifier: MIT */
#include "dut/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/space.h"
#include "base/text.h"
#include "dut/api.h"
#include "dut/board.h"
#include "dut/daemon-internal.h"
#include "dut/dispatch.h"
#include "dut/fdstore.h"
#include "dut/job-binding.h"
#include "dut/jobuser.h"
#include "dut/lab-events.h"
#include "dut/listen.h"
#include "dut/prune.h"
#include "dut/records.h"
#include "dut/reload.h"
#include "dut/reservation.h"
#include "dut/reserve.h"
#include "dut/scope.h"
#include "dut/submit.h"
#include "dut/token-watch.h"
#include "dut/users.h"
#include "dut/waiting.h"
#include "dut/worker.h"

static const uint64_t BEGIN_SLICE_US = 5000;
enum { AT_ONCE = 50 /* boards that all begin before dutd is ready */ };

static const uint64_t STOP_LIMIT_US = UINT64_C(5) * 1000000;

struct daemon *daemon_free(struct daemon *daemon)
{
	if (!daemon)
		return NULL;
	fdstore_seal(daemon->fdstore);
	sd_event_source_disable_unref(daemon->stop_timer);
	sd_event_source_disable_unref(daemon->save_timer);
	daemon->sweep = sd_event_source_disable_unref(daemon->sweep);
	sd_event_source_disable_unref(daemon->begin_source);
	daemon->http = api_stop(daemon->http);
	daemon->reload = reload_free(daemon->reload);
	daemon->token_watch = token_watch_free(daemon->token_watch);
	while (daemon->n_tcp_fds > 0)
		(void)close_fd(daemon->tcp_fds[--daemon->n_tcp_fds]);
	submissions_drop(daemon);
	while (!list_empty(&daemon->boards))
		board_free(CONTAINER_OF(daemon->boards.previous, struct board, link));
	daemon->bulk_worker = worker_free(daemon->bulk_worker);
	daemon->worker = worker_free(daemon->worker);
	daemon->records = records_free(daemon->records);
	daemon->prune = prune_free(daemon->prune);
	api_reservations_drop(daemon);
	daemon->users = users_free(daemon->users);
	daemon->lab_events = lab_events_free(daemon->lab_events);
	while (!list_empty(&daemon->jobs))
		job_free(CONTAINER_OF(daemon->jobs.previous, struct job, link));
	daemon->dispatch = dispatch_free(daemon->dispatch);
	daemon->queue = queue_free(daemon->queue);
	config_free(daemon->config);
	scopes_free(daemon->scopes);
	fdstore_free(daemon->fdstore);
	(void)close_fd(daemon->jobs_fd);
	(void)close_fd(daemon->state_lock_fd);
	(void)close_fd(daemon->runtime_lock_fd);
	(void)close_fd(daemon->state_fd);
	(void)close_fd(daemon->runtime_fd);
	free(daemon->state_dir);
	free(daemon->runtime_dir);
	free(daemon->libexec_dir);
	free(daemon);
	return NULL;
}

CLEANUP_DEFINE(struct daemon *, daemon_free)

/* ---- folders and numbers ---- */

static int open_folder(const char *path, char **ret_path, int *ret_fd, int *ret_lock_fd,
		       struct error *err)
{
	int r;

	r = file_make_dir(ret_fd, AT_FDCWD, path, 0750, err);
	if (r < 0)
		return r;
	*ret_path = realpath(path, NULL);
	if (!*ret_path)
		return error_errno(err, "%s", path);
	r = file_lock(ret_lock_fd, *ret_fd, "daemon.lock", err);
	if (r == -EWOULDBLOCK)
		return error_set(err, r, "another dutd runs on %s", *ret_path);
	return r;
}

/* A number in a file of its own; 0 when the file is not there yet. */
static int read_number(int dir_fd, const char *name, uint64_t *ret, struct error *err)
{
	free_ char *text = NULL;
	size_t length;
	int r = file_read_beneath(&text, &length, dir_fd, name, 32, err);

	if (r == -ENOENT) {
		*ret = 0;
		return 0;
	}
	if (r < 0)
		return r;
	text[strcspn(text, "\n")] = '\0';
	r = text_to_uint64(ret, text, 0, INT64_MAX, err);
	return r < 0 ? error_prefix(err, r, "%s", name) : 0;
}

static int write_number(int dir_fd, const char *name, uint64_t number, struct error *err)
{
	char text[32];

	(void)snprintf(text, sizeof(text), "%" PRIu64 "\n", number);
	return reserve_replace(dir_fd, dir_fd, name, text, 0600, err);
}

static int open_folders(struct daemon *daemon, const struct daemon_options *options,
			struct error *err)
{
	int r;

	r = open_folder(options->state_dir, &daemon->state_dir, &daemon->state_fd,
			&daemon->state_lock_fd, err);
	if (r >= 0)
		r = open_folder(options->runtime_dir, &daemon->runtime_dir, &daemon->runtime_fd,
				&daemon->runtime_lock_fd, err);
	if (r >= 0)
		r = file_make_dir(&daemon->jobs_fd, daemon->state_fd, "jobs", 0750, err);
	if (r >= 0)
		r = read_number(daemon->state_fd, "epoch", &daemon->epoch, err);
	if (r >= 0)
		r = write_number(daemon->state_fd, "epoch", ++daemon->epoch, err);
	if (r >= 0)
		r = read_number(daemon->state_fd, "next-id", &daemon->next_id, err);
	if (r < 0)
		return r;
	daemon->libexec_dir = realpath(options->libexec_dir, NULL);
	if (!daemon->libexec_dir)
		return error_errno(err, "the folder of the helper programs, %s",
				   options->libexec_dir);
	return 0;
}

static int open_records(struct daemon *daemon, struct error *err)
{
	const struct records_config config = {
		.event = daemon->event,
		.state_dir = daemon->state_dir,
		.state_fd = daemon->state_fd,
		.jobs_fd = daemon->jobs_fd,
	};

	return records_open(&daemon->records, &config, err);
}

/* ---- opening ---- */

static int set_group(int dir_fd, const char *group, struct error *err)
{
	const struct group *entry = getgrnam(group);

	if (!entry)
		return error_set(err, -ENOENT, "api.socket.group: there is no group '%s'", group);
	if (fchownat(dir_fd, "dutd.sock", (uid_t)-1, entry->gr_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(err, "cannot give dutd.sock to the group '%s'", group);
	return 0;
}

/* The socket that systemd holds for us, or one of our own. */
static int open_socket(struct daemon *daemon, int *ret_fd, struct error *err)
{
	close_ int fd = -1;
	int r;

	r = fdstore_take_socket(daemon->fdstore, ret_fd, err);
	if (r != 0)
		return r;
	r = file_listen_socket(&fd, daemon->runtime_fd, "dutd.sock", SOCK_STREAM,
			       daemon->config->socket_mode, err);
	if (r >= 0 && daemon->config->socket_group)
		r = set_group(daemon->runtime_fd, daemon->config->socket_group, err);
	if (r < 0)
		return r;
	*ret_fd = take_fd(&fd);
	return 0;
}

/* Before anything is done to a board: an address that somebody else has ends the start. */
static int open_tcp(struct daemon *daemon, struct error *err)
{
	int r = 0;

	for (char **text = daemon->config->listen; text && *text && r >= 0; text++) {
		r = listen_open(&daemon->tcp_fds[daemon->n_tcp_fds], *text, err);
		daemon->n_tcp_fds += r >= 0;
	}
	return r;
}

/* Said once at start: what stands between a hostile job and the machine, and what does not. */
static void say_protections(const struct daemon *daemon)
{
	json_auto_t *missing = jobuser_protections_missing(daemon);
	const json_t *text;
	size_t i;

	json_array_foreach(missing, i, text)
		log_msg(LOG_NOTICE, "%s", json_string_value(text));
}

static int open_sources(struct daemon *daemon, struct error *err)
{
	int r = daemon_add_record_sources(daemon);

	if (r < 0)
		return error_code(err, r, "cannot add an event source");
	r = queue_new(&daemon->queue, err);
	return r < 0 ? r : dispatch_new(&daemon->dispatch, daemon, err);
}

/* In slices, so that nobody waits for them all. */
static int on_begin(sd_event_source *source, void *data)
{
	struct daemon *daemon = data;
	uint64_t until_us = clock_now_us() + BEGIN_SLICE_US;

	LIST_FOREACH(link, &daemon->boards) {
		struct board *board = CONTAINER_OF(link, struct board, link);

		if (!board->begins_later)
			continue;
		if (clock_now_us() > until_us)
			return 0;
		board_begin_later(board);
	}
	(void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
	return 0;
}

static int begin_boards(struct daemon *daemon, struct error *err)
{
	int r = sd_event_add_defer(daemon->event, &daemon->begin_source, on_begin, daemon);

	if (r >= 0)
		r = sd_event_source_set_enabled(daemon->begin_source, SD_EVENT_ON);
	if (r >= 0)
		r = sd_event_source_set_priority(daemon->begin_source, SD_EVENT_PRIORITY_IDLE);
	if (r < 0)
		return error_code(err, r, "cannot add an event source");
	daemon->begins_later = daemon->config->n_duts > AT_ONCE;
	LIST_FOREACH(link, &daemon->boards)
		board_begin(CONTAINER_OF(link, struct board, link));
	daemon->begins_later = false;
	return 0;
}

int daemon_new(struct daemon **ret, sd_event *event, const struct daemon_options *options,
	       struct config *config, struct error *err)
{
	cleanup_(daemon_freep) struct daemon *daemon = calloc(1, sizeof(*daemon));
	int listen_fd = -1, r;

	if (!daemon) {
		config_free(config);
		return error_oom(err);
	}
	daemon->event = event;
	daemon->config = config;
	daemon->board_user = jobuser_of_boards();
	daemon->started_realtime_us = clock_realtime_us();
	daemon->state_fd = daemon->runtime_fd = daemon->jobs_fd = -1;
	daemon->state_lock_fd = daemon->runtime_lock_fd = -1;
	list_init(&daemon->boards);
	list_init(&daemon->jobs);
	for (size_t i = 0; i < DAEMON_JOB_LISTS; i++)
		list_init(&daemon->jobs_by_id[i]);
	list_init(&daemon->submissions);
	list_init(&daemon->waiters);
	list_init(&daemon->packings);
	list_init(&daemon->reservation_calls);

	r = fdstore_new(&daemon->fdstore, err);
	if (r >= 0)
		r = scopes_new(&daemon->scopes, event, err);
	if (r >= 0)
		r = open_sources(daemon, err);
	if (r >= 0)
		r = open_folders(daemon, options, err);
	if (r >= 0)
		r = open_tcp(daemon, err);
	if (r >= 0)
		r = open_records(daemon, err);
	if (r >= 0)
		r = daemon_load_jobs(daemon, err);
	if (r >= 0)
		r = worker_new(&daemon->worker, event, err);
	if (r >= 0)
		r = worker_new(&daemon->bulk_worker, event, err);
	if (r >= 0)
		r = users_new(&daemon->users, event, err);
	if (r >= 0)
		r = reload_new(&daemon->reload, daemon, options->config_path, err);
	if (r >= 0)
		r = token_watch_new(&daemon->token_watch, daemon, err);
	if (r >= 0)
		r = lab_events_new(&daemon->lab_events, daemon, err);
	if (r >= 0)
		r = daemon_open_boards(daemon, err);
	if (r < 0)
		return r;
	r = daemon_attach_all(daemon, err);
	if (r < 0)
		return r;
	LIST_FOREACH(link, &daemon->boards)
		reservation_load(CONTAINER_OF(link, struct board, link));
	waiting_load(daemon);
	r = prune_new(&daemon->prune, daemon, err);
	if (r < 0)
		return r;
	if (space_check(daemon->state_fd, daemon->config->limits.free_space, err) < 0)
		log_msg(LOG_WARNING, "no job is taken: %s", err->text);
	daemon_save_later(daemon); /* users that an earlier dutd did not take back */
	LIST_FOREACH(link, &daemon->jobs)
		job_binding_watch(daemon, CONTAINER_OF(link, struct job, link));
	r = begin_boards(daemon, err);
	if (r < 0)
		return r;
	r = open_socket(daemon, &listen_fd, err);
	if (r < 0)
		return r;
	fdstore_drop_rest(daemon->fdstore);
	r = api_start(&daemon->http, daemon, listen_fd, err);
	if (r < 0)
		return r;
	say_protections(daemon);
	*ret = take_ptr(daemon);
	return 0;
}

/* ---- finding ---- */

struct board *daemon_find_board(const struct daemon *daemon, const char *id)
{
	struct list *link = daemon->boards.previous;
	const struct config_dut *dut;

	if (!id)
		return NULL;
	/* Whose job goes on keeps the name, also where it is another one's alias by now. */
	for (unsigned left = daemon->n_leaving; left > 0; left--, link = link->previous)
		if (strcmp(CONTAINER_OF(link, struct board, link)->config->id, id) == 0)
			return CONTAINER_OF(link, struct board, link);
	dut = config_find_dut(daemon->config, id);
	return dut ? dut->board : NULL;
}

struct job *daemon_find_job(const struct daemon *daemon, uint64_t id)
{
	LIST_FOREACH(link, &daemon->jobs_by_id[id % DAEMON_JOB_LISTS]) {
		struct job *job = CONTAINER_OF(link, struct job, id_link);

		if (job->id == id)
			return job;
	}
	return NULL;
}

/* ---- changes ---- */

void daemon_tell_end(struct daemon *daemon, struct job *job)
{
	/* The next dutd might decide otherwise, if this one is killed now: record_done() tells. */
	daemon_note(daemon, job);
}

void daemon_job_changed(struct daemon *daemon, struct job *job)
{
	lab_look_at_job(daemon, job);
	lab_look(daemon);
	api_job_changed(daemon, job);
	submissions_job_changed(daemon, job);
	jobuser_release(daemon, job);
	if (job->state == JOB_ENDED)
		prune_jobs(daemon);
}

static bool is_settling(const struct daemon *daemon)
{
	LIST_FOREACH(link, &daemon->boards)
		if (board_is_settling(CONTAINER_OF(link, struct board, link)))
			return true;
	return false;
}

void daemon_stop_when_settled(struct daemon *daemon)
{
	if (!is_settling(daemon))
		(void)sd_event_exit(daemon->event, 0);
}

static int on_stop_limit(sd_event_source *source, uint64_t usec, void *data)
{
	struct daemon *daemon = data;

	(void)source;
	(void)usec;
	(void)sd_event_exit(daemon->event, 0);
	return 0;
}

void daemon_stop(struct daemon *daemon)
{
	if (!is_settling(daemon) || daemon->stop_timer) {
		(void)sd_event_exit(daemon->event, 0);
		return;
	}
	log_msg(LOG_NOTICE, "switches boards off after their jobs, then stops");
	if (sd_event_add_time_relative(daemon->event, &daemon->stop_timer, CLOCK_BOOTTIME,
				       STOP_LIMIT_US, 0, on_stop_limit, daemon) < 0)
		(void)sd_event_exit(daemon->event, 0);
}
