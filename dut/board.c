/* SPDX-License-Identifier: MIT */
#include "dut/board.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "dut/api.h"
#include "dut/board-internal.h"
#include "dut/daemon.h"
#include "dut/dispatch.h"
#include "dut/jobuser.h"
#include "dut/lab-events.h"
#include "dut/lease.h"
#include "dut/reservation.h"
#include "dut/scope.h"

static const uint64_t OFF_GRACE_US =
	UINT64_C(10) * 1000000; /* an off that takes longer makes the board BORKED */

struct board *board_free(struct board *board)
{
	if (!board)
		return NULL;
	list_remove(&board->link);
	api_flags_drop(board);
	flags_done(&board->flags);
	board->lease = lease_free(board->lease);
	board->reservation = reservation_free(board->reservation);
	sd_event_source_disable_unref(board->foreign.source);
	sd_event_source_disable_unref(board->foreign.timer);
	(void)close_fd(board->foreign.pidfd);
	free(board->foreign.reason);
	sd_event_source_disable_unref(board->off.timer);
	sd_event_source_disable_unref(board->conclude.timer);
	free(board->conclude.reason);
	sd_event_source_disable_unref(board->renewal.timer);
	if (board->outlet && board->lock_fd >= 0 && !board->off.pending &&
	    !outlet_switches(board->outlet))
		power_release(outlet_power(board->outlet));
	board->outlet = outlet_free(board->outlet);
	for (size_t i = 0; i < board->n_lines; i++)
		line_free(board->lines[i]);
	free(board->lines);
	(void)close_fd(board->lock_fd);
	(void)close_fd(board->state_fd);
	(void)close_fd(board->runtime_fd);
	free(board->runtime_path);
	config_dut_unref(board->power_config);
	config_dut_unref(board->present);
	if (board->config && board->config->board == board)
		board->config->board = NULL;
	config_dut_unref(board->config);
	free(board);
	return NULL;
}

CLEANUP_DEFINE(struct board *, board_free)

/* ---- opening ---- */

/* Consoles before power: what a board prints at its first moment has a place to go. */
static void before_on(void *data)
{
	struct board *board = data;
	struct error err;
	int r = 0;

	for (size_t i = 0; i < board->n_lines && r >= 0; i++) {
		r = line_connect(board->lines[i], &err);
		if (r >= 0 && board->lock_fd >= 0)
			r = line_read(board->lines[i], &err);
	}
	if (r < 0)
		outlet_continue(board->outlet, error_prefix(&err, r, "console"), &err);
	else if (board->lease && lease_lend(board->lease))
		return; /* the executor's `lent` leads on */
	else
		outlet_continue(board->outlet, 0, NULL);
}

/* Whether a look at the power found it to be another than it was left. */
static bool has_changed_by_itself(struct board *board, enum outlet_verb verb)
{
	const struct outlet_status *status = outlet_status(board->outlet);
	enum power_state before = board->power_seen;

	board->power_seen = status->state;
	if (verb != OUTLET_READ || before == POWER_UNKNOWN || status->state == before)
		return false;
	log_board(board->config->id, LOG_WARNING,
		  "power: it was %s and is %s, and nobody switched it", power_state_name(before),
		  power_state_name(status->state));
	return true;
}

static void tell_power(const struct board *board, const struct outlet_status *status)
{
	json_t *members = json_pack("{s:s, s:b}", "state", power_state_name(status->state),
				    "verified", status->verified);

	if (status->text[0])
		(void)json_object_set_new(members, "error", jsontext_new(status->text));
	lab_event(board->daemon, "power", board->config->id, board->job ? board->job->id : 0,
		  members);
}

static void after_power(enum outlet_verb verb, void *data)
{
	struct board *board = data;
	const struct outlet_status *status = outlet_status(board->outlet);
	enum power_state before = board->power_seen;
	bool changed = has_changed_by_itself(board, verb);

	/* Whatever it was, the outlet may have been waited for. */
	if (board->renewal.leaving || board->renewal.pending)
		dispatch_later(board->daemon);
	if (verb != OUTLET_READ || status->state != before)
		tell_power(board, status);
	if ((verb == OUTLET_READ && !changed) || board->lock_fd < 0)
		return;
	dispatch_later(board->daemon);
	for (size_t i = 0; i < board->n_lines; i++) {
		line_mark(board->lines[i], "power",
			  json_pack("{s:s}", "state", power_state_name(status->state)));
		/* A board may close its console when it goes off, and offer it again at once. */
		if (verb == OUTLET_OFF && line_connect(board->lines[i], NULL) >= 0)
			(void)line_read(board->lines[i], NULL);
	}
}

/* It outlives us. The pid makes the name its own: the scope of the last may not be gone yet. */
static void on_board_process(pid_t pid, void *data)
{
	const struct board *board = data;
	char name[96], description[96];
	const struct scope_config config = {
		.kind = "board",
		.name = name,
		.description = description,
		.pid = pid,
	};
	struct error err;

	if (!board->daemon->scopes)
		return;
	(void)snprintf(name, sizeof(name), "%s-%d", board->config->id, (int)pid);
	(void)snprintf(description, sizeof(description), "Virtual board %s of dutd",
		       board->config->id);
	if (scope_move(NULL, board->daemon->scopes, &config, NULL, NULL, &err) < 0)
		log_board(board->config->id, LOG_WARNING, "%s", err.text);
}

int board_open_power(struct board *board, struct outlet **ret, struct error *err)
{
	const struct config_dut *config = board->config;
	const struct power_config power_config = {
		.board = config->id,
		.driver = config->power_driver,
		.keys = config->power_keys,
		.event = board->daemon->event,
		.state_dir_fd = board->state_fd,
		.runtime_dir_fd = board->runtime_fd,
		.runtime_dir = board->runtime_path,
		.libexec_dir = board->daemon->libexec_dir,
		.user = board->daemon->board_user.uid ? JOBUSER_BOARD : NULL,
		.user_uid = board->daemon->board_user.uid,
		.started = on_board_process,
		.started_data = board,
	};
	struct outlet_config outlet_config = {
		.event = board->daemon->event,
		.min_off_us = config->min_off_us,
		.settle_us = config->settle_us,
		.before_on = before_on,
		.after = after_power,
		.data = board,
	};
	int r;

	if (!config->power_driver) {
		*ret = NULL;
		return 0;
	}
	r = power_open(&outlet_config.power, &power_config, err);
	if (r < 0)
		return error_prefix(err, r, "power driver '%s'", config->power_driver);
	r = outlet_new(ret, &outlet_config, err);
	if (r < 0)
		power_close(outlet_config.power);
	return r;
}

/* The executor has written to its job's files. */
static bool on_append(void *data)
{
	struct board *board = data;

	if (board->job)
		viewers_wake(&board->job->viewers);
	return board->job && board->job->viewers.count > 0;
}

/* Only the default console is lent. */
static void on_hangup(void *data)
{
	struct board *board = data;

	if (board->lease)
		lease_watch_console(board->lease);
}

int board_open_line(struct board *board, const struct config_console *config, struct line **ret,
		    struct error *err)
{
	const struct console_config console_config = {
		.board = board->config->id,
		.name = config->name,
		.driver = config->driver,
		.keys = config->keys,
		.event = board->daemon->event,
		.runtime_dir_fd = board->runtime_fd,
	};
	struct line_config line_config = {
		.event = board->daemon->event,
		.fdstore = board->daemon->fdstore,
		.board = board->config->id,
		.name = config->name,
		.dut = board->config,
		.board_dir_fd = board->state_fd,
		.jobs_dir_fd = board->daemon->jobs_fd,
		.min_free = board->daemon->config->limits.free_space,
		.max_kept = board->daemon->config->limits.idle_log,
	};
	int r;

	r = console_open(&line_config.console, &console_config, err);
	if (r < 0)
		return error_prefix(err, r, "console '%s'", config->name);
	r = line_new(ret, &line_config, err);
	if (r < 0) {
		console_close(line_config.console);
		return error_prefix(err, r, "console '%s'", config->name);
	}
	line_on_append(*ret, on_append, board);
	line_on_hangup(*ret, on_hangup, board);
	return 0;
}

static int open_folders(struct board *board, struct error *err)
{
	char path[128];
	int r;

	(void)snprintf(path, sizeof(path), "duts/%s", board->config->id);
	r = file_make_dir(&board->state_fd, board->daemon->state_fd, path, 0750, err);
	if (r < 0)
		return r;
	r = file_make_dir(&board->runtime_fd, board->daemon->runtime_fd, path, 0750, err);
	if (r < 0)
		return r;
	if (asprintf(&board->runtime_path, "%s/%s", board->daemon->runtime_dir, path) < 0) {
		board->runtime_path = NULL;
		return error_oom(err);
	}
	return 0;
}

int board_new(struct board **ret, struct daemon *daemon, struct config_dut *config,
	      struct error *err)
{
	cleanup_(board_freep) struct board *board = calloc(1, sizeof(*board));
	int r;

	if (!board)
		return error_oom(err);
	list_init(&board->link);
	list_init(&board->flag_changes);
	board->daemon = daemon;
	board->config = config_dut_ref(config);
	board->power_config = config_dut_ref(config);
	board->present = config_dut_ref(config);
	board->lock_fd = board->state_fd = board->runtime_fd = board->foreign.pidfd = -1;
	board->lines = calloc(config->n_consoles + 1, sizeof(struct line *));
	if (!board->lines)
		return error_oom(err);
	r = open_folders(board, err);
	if (r >= 0)
		r = flags_load(&board->flags, board->state_fd, err);
	if (r >= 0)
		r = board_open_power(board, &board->outlet, err);
	for (size_t i = 0; i < config->n_consoles && r >= 0; i++) {
		r = board_open_line(board, &config->consoles[i], &board->lines[i], err);
		board->n_lines += r >= 0;
	}
	if (r < 0)
		return error_prefix(err, r, "DUT '%s'", config->id);
	config->board = board;
	*ret = take_ptr(board);
	return 0;
}

/* ---- what is known ---- */

static bool off_takes_too_long(const struct board *board)
{
	return board->off.failed || clock_now_us() - board->off.begun_us > OFF_GRACE_US;
}

enum dut_state board_state(const struct board *board)
{
	const struct dut_facts facts = {
		.configured = board->outlet != NULL,
		.retired = board->flags.retired,
		.ready = board->flags.ready,
		.lock = board->lock_fd >= 0 ? LOCK_IS_OURS
			: board->lease	    ? LOCK_IS_LENT
					    : LOCK_IS_FOREIGN,
		.starting = board->starting,
		.answering = board->lease && lease_is_answering(board->lease),
		.reserved = board->reservation != NULL,
		.switching_off = board->off.pending,
		.off_unconfirmed = (board->off.pending && off_takes_too_long(board)) ||
				   board->conclude.text[0],
	};

	return dut_state_derive(&facts);
}

bool board_is_idle(const struct board *board)
{
	return !board->job && !board->starting && !board->renewal.leaving &&
	       !board->renewal.pending && board_state(board) == DUT_IDLE;
}

bool board_is_out_of_service(const struct board *board)
{
	enum dut_state state = board_state(board);

	return !board->job && !board->starting && board->lock_fd >= 0 && !board->renewal.leaving &&
	       !board->renewal.pending && (state == DUT_RETIRED || state == DUT_TRAINING);
}

bool board_is_unused(const struct board *board)
{
	return board_is_idle(board) || board_is_out_of_service(board);
}

bool board_is_idle_for(const struct board *board, const char *owner, uid_t uid)
{
	const struct reservation *reservation = board->reservation;

	if (!reservation)
		return board_is_idle(board);
	return !board->job && !board->starting && !board->off.pending && owner &&
	       reservation->stage == RESERVATION_HELD &&
	       reservation_is_of(reservation, owner, uid) && board_state(board) == DUT_RESERVED;
}

/* A person's `on` must not come after a job has begun. */
bool board_is_switched_by_hand(const struct board *board)
{
	return board->outlet && outlet_switches(board->outlet);
}

bool board_is_free_for(const struct board *board, const char *owner, uid_t uid)
{
	return board_is_idle_for(board, owner, uid) && !board_is_switched_by_hand(board);
}

bool board_is_free_for_somebody(const struct board *board)
{
	const struct reservation *reservation = board->reservation;

	return reservation ? board_is_free_for(board, reservation->owner, reservation->owner_uid)
			   : board_is_free(board);
}

bool board_is_settling_for(const struct board *board, const char *owner, uid_t uid)
{
	if (board_is_idle_for(board, owner, uid))
		return board_is_switched_by_hand(board);
	if (board->off.pending)
		return !off_takes_too_long(board);
	return board->reservation && board->reservation->stage > RESERVATION_HELD && !board->job;
}

bool board_is_free(const struct board *board)
{
	return board_is_free_for(board, NULL, (uid_t)-1);
}

bool board_is_settling(const struct board *board)
{
	return board_is_settling_for(board, NULL, (uid_t)-1);
}

bool board_may_be_cut(const struct board *board)
{
	bool answers = board->starting || (board->lease && lease_is_answering(board->lease));

	return board->off.pending || (board->lock_fd < 0 && !answers);
}
