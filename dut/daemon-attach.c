/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "dut/board.h"
#include "dut/daemon-internal.h"
#include "dut/daemon.h"
#include "dut/records.h"

/* What earlier jobs have left to their boards: a job that is not over, and the consoles' logs. */

static void add_console(struct history *history, const struct records_console *console)
{
	if (console->attempt)
		(void)history_set_aside(history, console->base, console->job, console->attempt,
					NULL);
	else
		(void)history_add(history, console->base, console->job, NULL);
}

/* Its console.log, and those of attempts that were begun before. */
static void attach_logs(const struct job *job, struct history *history)
{
	for (unsigned i = 0; i + 1 < job->attempt && i < JOB_MAX_ATTEMPTS; i++)
		if (job->earlier[i].has_console)
			(void)history_set_aside(history, job->earlier[i].console_base, job->id,
						i + 1, NULL);
	if (job->has_console)
		(void)history_add(history, job->console_base, job->id, NULL);
}

/* The job of a DUT whose name is another one's alias now is not that one's. */
static bool is_of(const struct board *board, const char *dut)
{
	return board && dut && strcmp(dut, board->config->id) == 0;
}

/* ---- a board that is new ---- */

/* The board may be gone when the answer comes. */
struct log_call {
	struct daemon *daemon;
	char *dut;
};

static void on_consoles(int r, const struct error *err, const struct records_console *list,
			size_t count, void *data)
{
	struct log_call *call = data;
	const struct board *board = r < 0 ? NULL : daemon_find_board(call->daemon, call->dut);

	if (r < 0 && r != -ECANCELED)
		log_board(call->dut, LOG_WARNING, "the logs of its jobs are not found: %s",
			  err->text);
	for (size_t i = 0; i < count && is_of(board, call->dut) && board->n_lines > 0; i++)
		add_console(line_history(board->lines[0]), &list[i]);
	free(call->dut);
	free(call);
}

static int find_logs(struct daemon *daemon, const struct board *board, struct error *err)
{
	struct log_call *call = calloc(1, sizeof(*call));
	int r;

	if (!call)
		return error_oom(err);
	call->daemon = daemon;
	call->dut = strdup(board->config->id);
	r = call->dut ? records_find_consoles(daemon->records, call->dut, on_consoles, call, err)
		      : error_oom(err);
	if (r < 0) {
		free(call->dut);
		free(call);
	}
	return r;
}

void daemon_attach_logs(struct daemon *daemon, struct board *board)
{
	struct error err;

	if (board->n_lines == 0)
		return;
	LIST_FOREACH(link, &daemon->jobs) {
		const struct job *job = CONTAINER_OF(link, struct job, link);

		if (is_of(board, job->dut))
			attach_logs(job, line_history(board->lines[0]));
	}
	if (find_logs(daemon, board, &err) < 0)
		log_board(board->config->id, LOG_WARNING, "the logs of its jobs are not found: %s",
			  err.text);
}

static void attach_job(struct job *job, struct board *board)
{
	bool unfinished = job->state == JOB_STARTING || job->state == JOB_RUNNING;

	if (!is_of(board, job->dut) || (!unfinished && !job->off_pending))
		return;
	/* Of several (a disk that was put back), the youngest is the one that has the board. */
	board->job = job;
	job->board = board;
}

void daemon_attach_jobs(struct daemon *daemon, struct board *board)
{
	LIST_FOREACH(link, &daemon->jobs)
		attach_job(CONTAINER_OF(link, struct job, link), board);
	daemon_attach_logs(daemon, board);
}

/* ---- all boards, at the start ---- */

/* A board, while rows come DUT by DUT. */
struct attachment {
	const struct daemon *daemon;
	char *dut;
	struct board *board; /* NULL: it is none of ours any more */
};

static void attach_console(const char *dut, const struct records_console *console, void *data)
{
	struct attachment *attachment = data;

	if (!attachment->dut || strcmp(attachment->dut, dut) != 0) {
		free(attachment->dut);
		attachment->dut = strdup(dut);
		attachment->board = daemon_find_board(attachment->daemon, dut);
		if (!is_of(attachment->board, dut))
			attachment->board = NULL;
	}
	if (attachment->board && attachment->board->n_lines > 0)
		add_console(line_history(attachment->board->lines[0]), console);
}

int daemon_attach_all(struct daemon *daemon, struct error *err)
{
	struct attachment attachment = { .daemon = daemon };
	int r;

	LIST_FOREACH(link, &daemon->jobs) {
		struct job *job = CONTAINER_OF(link, struct job, link);
		struct board *board = job->dut ? daemon_find_board(daemon, job->dut) : NULL;

		attach_job(job, board);
		if (is_of(board, job->dut) && board->n_lines > 0)
			attach_logs(job, line_history(board->lines[0]));
	}
	r = records_load_consoles(daemon->records, attach_console, &attachment, err);
	free(attachment.dut);
	return r;
}
