/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "dut/board.h"
#include "dut/daemon.h"
#include "dut/metadata.h"
#include "dut/reservation-internal.h"
#include "dut/reserve.h"
#include "dut/worker.h"

static const char file_name[] = "reservation.json";

enum { MAX_RECORD = 16 << 10 };

/* ---- writing ---- */

struct save {
	struct daemon *daemon;
	int state_fd; /* the daemon's: the board may go before the worker does */
	char *dut, *id;
	enum reservation_stage stage;
	char *text; /* NULL: the record goes */
	reservation_saved_fn done;
	void *data;
};

static int remove_file(int dir_fd, struct error *err)
{
	if (unlinkat(dir_fd, file_name, 0) < 0 && errno != ENOENT)
		return error_errno(err, "cannot remove %s", file_name);
	if (fsync(dir_fd) < 0)
		return error_errno(err, "fsync");
	return 0;
}

static int write_record(void *data, struct error *err)
{
	const struct save *save = data;
	close_ int dir_fd = -1;
	char path[128];

	(void)snprintf(path, sizeof(path), "duts/%s", save->dut);
	dir_fd = openat(save->state_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0)
		return error_errno(err, "%s", path);
	if (!save->text)
		return remove_file(dir_fd, err);
	return reserve_replace(save->state_fd, dir_fd, file_name, save->text, 0600, err);
}

static struct reservation *find(const struct save *save)
{
	const struct board *board = daemon_find_board(save->daemon, save->dut);

	return board && board->reservation && strcmp(board->reservation->id, save->id) == 0
		       ? board->reservation
		       : NULL;
}

static void on_written(int r, const struct error *err, void *data)
{
	const struct save *save = data;
	struct reservation *reservation = find(save);

	if (reservation)
		reservation_saved(reservation, save->stage, r, err);
	if (save->done)
		save->done(r, err, save->data);
}

static void save_release(void *data)
{
	struct save *save = data;

	free(save->dut);
	free(save->id);
	free(save->text);
	free(save);
}

static json_t *to_record(const struct reservation *reservation)
{
	json_t *record = json_pack(
		"{s:i, s:s, s:s, s:s?, s:b, s:I, s:o, s:b}", "v", 1, "id", reservation->id, "owner",
		reservation->owner, "why", reservation->why, "bound", reservation->bound,
		"since_us", (json_int_t)reservation->since_realtime_us, "until",
		expiry_to_json(&reservation->until), "ended",
		reservation->stage != RESERVATION_TAKING && reservation->stage != RESERVATION_HELD);

	if (record && reservation->owner_uid != (uid_t)-1)
		(void)json_object_set_new(record, "owner_uid",
					  json_integer(reservation->owner_uid));
	if (record && reservation->kicked)
		(void)json_object_set_new(record, "kick",
					  json_pack("{s:s?, s:s?}", "by", reservation->kick_by,
						    "why", reservation->kick_why));
	return record;
}

static int begin(const struct reservation *reservation, struct save *save, struct error *err)
{
	bool removes = reservation->stage == RESERVATION_REMOVING;
	json_auto_t *record = removes ? NULL : to_record(reservation);

	if (record)
		save->text = json_dumps(record, JSON_INDENT(1));
	if (!save->dut || !save->id || (!removes && !save->text))
		return error_oom(err);
	return worker_run(save->daemon->worker, write_record, on_written, save_release, save, err);
}

int reservation_save(struct reservation *reservation, reservation_saved_fn done, void *data,
		     struct error *err)
{
	const struct board *board = reservation->board;
	struct save *save = calloc(1, sizeof(*save));
	int r;

	if (!save)
		return error_oom(err);
	*save = (struct save){
		.daemon = board->daemon,
		.state_fd = board->daemon->state_fd,
		.dut = strdup(board->config->id),
		.id = strdup(reservation->id),
		.stage = reservation->stage,
		.done = done,
		.data = data,
	};
	r = begin(reservation, save, err);
	if (r < 0)
		save_release(save);
	return r;
}

/* ---- reading ---- */

static char *read_text(const json_t *record, const char *name, size_t max)
{
	const json_t *value = json_object_get(record, name);

	return metadata_is_text(value, max) ? strdup(json_string_value(value)) : NULL;
}

static int from_record(struct reservation *reservation, const json_t *record, struct error *err)
{
	const json_t *uid = json_object_get(record, "owner_uid");
	const json_t *kick = json_object_get(record, "kick");

	if (json_integer_value(json_object_get(record, "v")) != 1)
		return error_set(err, -EBADMSG, "it is no record of version 1");
	reservation->id = read_text(record, "id", RESERVATION_ID_MAX);
	reservation->owner = read_text(record, "owner", RESERVATION_MAX_WHY);
	if (!reservation->id || !reservation->owner)
		return error_set(err, -EBADMSG, "it has no id, or no owner");
	reservation->owner_uid = json_is_integer(uid) ? (uid_t)json_integer_value(uid) : (uid_t)-1;
	reservation->why = read_text(record, "why", RESERVATION_MAX_WHY);
	reservation->bound = json_is_true(json_object_get(record, "bound"));
	reservation->since_realtime_us =
		(uint64_t)json_integer_value(json_object_get(record, "since_us"));
	reservation->kicked = json_is_object(kick);
	reservation->kick_by = read_text(kick, "by", RESERVATION_MAX_WHY);
	reservation->kick_why = read_text(kick, "why", RESERVATION_MAX_WHY);
	reservation->stage =
		json_is_true(json_object_get(record, "ended")) ? RESERVATION_OFF : RESERVATION_HELD;
	return expiry_from_json(&reservation->until, json_object_get(record, "until"), err);
}

int reservation_read(struct reservation *reservation, struct error *err)
{
	json_auto_t *record = NULL;
	free_ char *text = NULL;
	size_t length;
	int r;

	r = file_read_beneath(&text, &length, reservation->board->state_fd, file_name, MAX_RECORD,
			      err);
	if (r < 0)
		return r;
	record = json_loadb(text, length, 0, NULL);
	return from_record(reservation, record, err);
}
