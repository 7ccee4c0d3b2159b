/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* The API's objects, as people read them. Members that are missing or of another type are as if
 * they were null. */

enum { VIEW_ID_SIZE = 24 };

/* A text member, or NULL. */
const char *view_text(const json_t *object, const char *key);

/* The id of a job, which is a number or a text: as text; "" when there is none. Returns buffer. */
const char *view_id(char buffer[VIEW_ID_SIZE], const json_t *job);

/* Whether a word is the id of a job, which buffer gets then as the daemon writes it. */
bool view_read_id(char buffer[VIEW_ID_SIZE], const char *word);

/* Whether a job has ended. */
bool view_job_ended(const json_t *job);

/* "job 17 on bbb-1: FAIL (pattern_fail): message". The caller frees it; NULL when memory ran out.
 */
char *view_job_line(const json_t *job);

/* The exit code of a job that has ended: its status, but EXIT_TIMED_OUT when its --wait ran out. ok
 * is a mask of exit_parse_ok(). */
int view_job_exit(const json_t *job, unsigned ok);

/* The DUT of an answer to GET /dut/{id}: {"duts": {id: {...}}} or the object itself. NULL when it
 * is neither. */
const json_t *view_dut(const json_t *answer);

/* Who has a DUT, in a few words: `17 alice "bisect usb"`, or "". The caller frees it; NULL when
 * memory ran out. */
char *view_holder(const json_t *dut);

/* "+12.345s: text" of an event, made safe, with its line feed. The caller frees it; NULL when
 * memory ran out. */
char *view_event(const json_t *event);

/* "  label      text" on stdout when there is a text. */
void view_field(const char *label, const char *text);
