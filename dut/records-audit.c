/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/jsontext.h"
#include "dut/records-internal.h"

/* The audit, which has no files beside it. */

struct audit_work {
	uint64_t time_us, job;
	char *who, *role, *from, *dut, *action, *detail;
	void (*done)(int r, const struct error *err, void *data);
	void *data;
};

static void release_audit(void *data)
{
	struct audit_work *audit = data;

	free(audit->who);
	free(audit->role);
	free(audit->from);
	free(audit->dut);
	free(audit->action);
	free(audit->detail);
	free(audit);
}

static int write_audit(struct database *database, void *data, struct error *err)
{
	const struct audit_work *audit = data;
	int r;

	r = database_run(database, err,
			 "INSERT INTO audit (time_us, who, role, via, dut, job, action, detail)"
			 " VALUES (?, ?, ?, ?, ?, nullif(?, 0), ?, ?)",
			 "ussssuss", audit->time_us, audit->who, audit->role, audit->from,
			 audit->dut, audit->job, audit->action, audit->detail);
	if (r < 0)
		return r;
	return database_run(database, err, "DELETE FROM audit WHERE id <= last_insert_rowid() - ?",
			    "u", (uint64_t)RECORDS_AUDIT_KEPT);
}

static void audit_done(int r, const struct error *err, void *data)
{
	const struct audit_work *audit = data;

	if (audit->done)
		audit->done(r, err, audit->data);
}

static int copy(char **ret, const char *text)
{
	*ret = text ? strdup(text) : NULL;
	return text && !*ret ? -1 : 0;
}

int records_audit_add(struct records *records, const struct records_audit *audit,
		      void (*done)(int r, const struct error *err, void *data), void *data,
		      struct error *err)
{
	struct audit_work *ours = calloc(1, sizeof(*ours));
	const struct records_work work = {
		.write = write_audit,
		.done = audit_done,
		.release = release_audit,
		.data = ours,
	};
	int r = 0;

	if (!ours)
		return error_oom(err);
	ours->time_us = clock_realtime_us();
	ours->job = audit->job;
	ours->done = done;
	ours->data = data;
	if (copy(&ours->who, audit->who) < 0 || copy(&ours->role, audit->role) < 0 ||
	    copy(&ours->from, audit->from) < 0 || copy(&ours->dut, audit->dut) < 0 ||
	    copy(&ours->action, audit->action) < 0 || copy(&ours->detail, audit->detail) < 0)
		r = error_oom(err);
	if (r >= 0)
		r = records_run(records, &work, err);
	if (r < 0)
		release_audit(ours);
	return r;
}

/* ---- reading it ---- */

struct list_work {
	char *dut; /* or NULL */
	uint64_t before;
	unsigned limit;
	json_t *array;
	records_json_fn done;
	void *data;
};

static void release_list(void *data)
{
	struct list_work *list = data;
	struct error err;

	if (list->done)
		list->done(records_cancelled(&err), &err, list->array, list->data);
	json_decref(list->array);
	free(list->dut);
	free(list);
}

static int add_audit(const struct database_row *row, void *data, struct error *err)
{
	struct list_work *list = data;
	json_t *entry = json_pack(
		"{s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "id",
		(json_int_t)database_integer(row, 0), "time_us",
		(json_int_t)database_integer(row, 1), "who", jsontext_new(database_text(row, 2)),
		"role", jsontext_new(database_text(row, 3)), "from",
		jsontext_new(database_text(row, 4)), "dut", jsontext_new(database_text(row, 5)),
		"job",
		database_is_null(row, 6) ? json_null()
					 : json_integer((json_int_t)database_integer(row, 6)),
		"action", jsontext_new(database_text(row, 7)), "detail",
		jsontext_new(database_text(row, 8)));

	return json_array_append_new(list->array, entry) < 0 ? error_oom(err) : 0;
}

static int read_audit(struct database *database, void *data, struct error *err)
{
	static const char columns[] = "SELECT id, time_us, who, role, via, dut, job, action, detail"
				      " FROM audit WHERE id < ?1 ORDER BY id DESC LIMIT ?2";
	static const char of_dut[] = "SELECT id, time_us, who, role, via, dut, job, action, detail"
				     " FROM audit WHERE id < ?1 AND dut = ?3"
				     " ORDER BY id DESC LIMIT ?2";
	struct list_work *list = data;

	(void)json_array_clear(list->array);
	if (list->dut)
		return database_query(database, add_audit, list, err, of_dut, "uus", list->before,
				      (uint64_t)list->limit, list->dut);
	return database_query(database, add_audit, list, err, columns, "uu", list->before,
			      (uint64_t)list->limit);
}

static void list_done(int r, const struct error *err, void *data)
{
	struct list_work *list = data;
	records_json_fn done = list->done;

	list->done = NULL;
	done(r, err, list->array, list->data);
}

int records_audit_list(struct records *records, const char *dut, uint64_t before, unsigned limit,
		       records_json_fn done, void *data, struct error *err)
{
	struct list_work *list = calloc(1, sizeof(*list));
	const struct records_work work = {
		.read = read_audit,
		.done = list_done,
		.release = release_list,
		.data = list,
	};
	int r = 0;

	if (!list)
		return error_oom(err);
	*list = (struct list_work){
		.before = before < INT64_MAX ? before : INT64_MAX,
		.limit = limit < RECORDS_AUDIT_MAX ? limit : RECORDS_AUDIT_MAX,
		.array = json_array(),
		.done = done,
		.data = data,
	};
	if (!list->array || copy(&list->dut, dut) < 0)
		r = error_oom(err);
	if (r >= 0)
		r = records_run(records, &work, err);
	if (r < 0) {
		list->done = NULL;
		release_list(list);
	}
	return r;
}
