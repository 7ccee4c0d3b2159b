/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "base/http.h"

/* The HTTP API, dutd-api(7): routes become calls, errno becomes a status. */

struct board;
struct daemon;
struct job;

int api_start(struct http_server **ret, struct daemon *daemon, int listen_fd, struct error *err);
struct http_server *api_stop(struct http_server *server);

/* The HTTP status for a negative errno, by the one table. */
unsigned api_status(int r);

/* The board that the path names; when there is none the request is answered. */
struct board *api_find_board(struct http_request *request, const struct daemon *daemon);

/* Nobody waits for the changes of this board any more. For board_free() alone. */
void api_flags_drop(struct board *board);

/* Handles a request with the job that its path names: at once, or when that was found in the
 * records. When there is none the request is answered. The job is good for this call alone, unless
 * something of it (a viewer) is kept. */
typedef void (*api_job_fn)(struct http_request *request, struct daemon *daemon, struct job *job);
void api_with_job(struct http_request *request, struct daemon *daemon, api_job_fn handle);

bool api_is_one_of(const char *word, const char *const *words);

/*
 * Notes the cancel of a job that has not ended, and puts it on disk. Its executor hears of it from
 * whoever called, when that is done.
 */
void api_cancel_job(struct daemon *daemon, struct job *job, const char *by, const char *why);

/* Tells those who wait for the job, and its viewers. */
void api_job_changed(struct daemon *daemon, struct job *job);

/* Tells those who wait for a job to get another place in the queue. */
void api_places_changed(struct daemon *daemon);

/* ---- handlers of api-dut.c, api-flags.c, api-reservation.c, api-job.c, api-jobs.c and audit.c;
 * data is the daemon ---- */

void api_duts(struct http_request *request, void *data);
void api_dut(struct http_request *request, void *data);
void api_dut_patch(struct http_request *request, void *data);
void api_power_get(struct http_request *request, void *data);
void api_power_put(struct http_request *request, void *data);
void api_dut_history(struct http_request *request, void *data);
void api_history(struct http_request *request, void *data);
void api_console(struct http_request *request, void *data);
void api_dut_cancel(struct http_request *request, void *data);

void api_reservation_get(struct http_request *request, void *data);
void api_reservation_post(struct http_request *request, void *data);
void api_reservation_patch(struct http_request *request, void *data);
void api_reservation_delete(struct http_request *request, void *data);
void api_reservations_post(struct http_request *request, void *data);

/* For dispatch.c: what held back those who do not want to wait may be over. */
void api_reservations_retry(struct daemon *daemon);

/* After the server and the worker: what they did not get to is forgotten. */
void api_reservations_drop(struct daemon *daemon);

void api_jobs(struct http_request *request, void *data);
void api_job(struct http_request *request, void *data);
void api_job_log(struct http_request *request, void *data);
void api_job_events(struct http_request *request, void *data);
void api_job_results(struct http_request *request, void *data);
void api_job_cancel(struct http_request *request, void *data);
