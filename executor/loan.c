/* SPDX-License-Identifier: MIT */
#include "executor/loan.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/space.h"

enum {
	READ_SIZE = 65536,
	PUMPS_AT_ONCE = 16,	/* of 64 KiB, before timers and dutd have a turn */
	PUMPS_TO_THE_END = 256, /* of a console that is replaced */
	MORE_BYTES = 4096,	/* who gave less at once has no more now */
	ACCURACY_US = 1000,
	PACE_WINDOW_US = 50000,
	LOOK_STEP = 1 << 18,	 /* bytes between two looks at the disk */
	PACE_FAST_BYTES = 16384, /* in a window: above that a board's buffers are what counts */
};

struct loan {
	struct loan_config config;
	struct stream *stream;
	sd_event_source *io, *batch, *silence;
	char *name;
	uint64_t generation;
	json_t *codec;
	int wake_fd;
	bool live;	/* bytes may come */
	bool silencing; /* the silence timer is armed */
	uint64_t told;	/* console offset up to which lines were fed */
	uint64_t last_byte_us, last_byte_realtime_us;
	uint64_t window_us, window_bytes;
	bool fast;
	uint64_t unlooked, low_bytes; /* since the last look; since the disk is low */
	char buffer[READ_SIZE];
	struct lines lines;
};

static void stop_reading(struct loan *loan)
{
	loan->live = false;
	loan->io = sd_event_source_disable_unref(loan->io);
	(void)sd_event_source_set_enabled(loan->batch, SD_EVENT_OFF);
}

struct loan *loan_free(struct loan *loan)
{
	if (loan) {
		stop_reading(loan);
		loan->batch = sd_event_source_disable_unref(loan->batch);
		loan->silence = sd_event_source_disable_unref(loan->silence);
		loan->stream = stream_close(loan->stream);
		(void)close_fd(loan->wake_fd);
		json_decref(loan->codec);
		free(loan->name);
		lines_done(&loan->lines);
		free(loan);
	}
	return NULL;
}

CLEANUP_DEFINE(struct loan *, loan_free)

/* ---- bytes to lines ---- */

static void arm_silence(struct loan *loan)
{
	/* One that is armed already looks at last_byte_us when it runs. */
	if (loan->silencing || !lines_pending(&loan->lines))
		return;
	if (sd_event_source_set_time(loan->silence, loan->last_byte_us + LOAN_SILENCE_US) >= 0 &&
	    sd_event_source_set_enabled(loan->silence, SD_EVENT_ONESHOT) >= 0)
		loan->silencing = true;
}

static int on_silence(sd_event_source *source, uint64_t usec, void *data)
{
	struct loan *loan = data;

	(void)source;
	(void)usec;
	loan->silencing = false;
	if (clock_now_us() >= loan->last_byte_us + LOAN_SILENCE_US)
		loan_flush_line(loan);
	else
		arm_silence(loan);
	return 0;
}

/* Feeds what console.log has and the lines have not. */
static void tell_lines(struct loan *loan)
{
	while (loan->told < stream_offset(loan->stream)) {
		struct error err;
		ssize_t n = stream_read(loan->stream, loan->told, loan->buffer,
					sizeof(loan->buffer), &err);

		if (n <= 0) {
			log_msg(LOG_ERR, "%s", n < 0 ? err.text : "console.log was cut");
			loan->told = stream_offset(loan->stream);
			return;
		}
		if (lines_feed(&loan->lines, loan->told, loan->buffer, (size_t)n, loan->config.line,
			       loan->config.data) < 0)
			log_msg(LOG_ERR, "a console line was lost: out of memory");
		loan->told += (uint64_t)n;
	}
}

static void end(struct loan *loan, enum loan_end how)
{
	if (!loan->live)
		return;
	stop_reading(loan);
	if (how == LOAN_HUNG_UP)
		loan_mark(loan, "plug", json_pack("{s:s}", "event", "hung_up"));
	loan->config.ended(how, loan->config.data);
}

static enum loan_end how_it_ended(int r, const struct error *err)
{
	if (r == -ENOSPC || r == -EDQUOT || r == -EFBIG)
		return LOAN_DISK_FULL;
	if (r != -ENODATA)
		log_msg(LOG_WARNING, "the console cannot be read: %s", err->text);
	return LOAN_HUNG_UP;
}

/* A job whose board goes on and on may not use up what is kept for all. */
static bool is_too_low(struct loan *loan, uint64_t n)
{
	loan->unlooked += n;
	if (loan->unlooked < LOOK_STEP)
		return false;
	if (space_is_low(loan->config.dir_fd, loan->config.min_free))
		loan->low_bytes += loan->unlooked;
	else
		loan->low_bytes = 0;
	loan->unlooked = 0;
	return loan->low_bytes > LOAN_LOW_MAX;
}

/* One step: the number of bytes, 0 for none now, negative when the loan has ended. */
static ssize_t pump_once(struct loan *loan)
{
	struct error err;
	ssize_t n = stream_pump(loan->stream, &err);

	if (n > 0) {
		loan->last_byte_us = clock_now_us();
		loan->last_byte_realtime_us = clock_realtime_us();
		loan->window_bytes += (uint64_t)n;
		loan->config.bytes(loan->last_byte_us, loan->config.data);
		tell_lines(loan);
		if (loan_offset(loan) - loan_base(loan) > loan->config.console_log_max) {
			end(loan, LOAN_OVER_LIMIT);
			return -EFBIG;
		}
		if (is_too_low(loan, (uint64_t)n)) {
			end(loan, LOAN_DISK_LOW);
			return -ENOSPC;
		}
	} else if (n < 0) {
		/* Bytes may have gone before the error. */
		tell_lines(loan);
		end(loan, how_it_ended((int)n, &err));
	}
	return n;
}

/* Until one step gives less than enough bytes, or nothing; whether any came. */
static bool pump(struct loan *loan, unsigned times, ssize_t enough)
{
	bool grew = false;

	for (unsigned i = 0; loan->live && i < times; i++) {
		ssize_t n = pump_once(loan);

		grew = grew || n > 0;
		if (n < enough)
			break;
	}
	if (grew) {
		arm_silence(loan);
		loan->config.appended(loan->config.data);
	}
	return grew;
}

void loan_pump(struct loan *loan)
{
	(void)pump(loan, PUMPS_AT_ONCE, 1);
}

/* ---- when to look again ---- */

/*
 * A UART tells of every few bytes, and to be woken costs more than to read them. So a line that is
 * busy, but not so fast that somebody's buffers fill, is looked at in a timer, until it has nothing
 * to say once.
 */
static bool is_slow(struct loan *loan)
{
	uint64_t now_us = loan->last_byte_us;

	if (now_us - loan->window_us > PACE_WINDOW_US) {
		loan->fast = loan->window_bytes > PACE_FAST_BYTES;
		loan->window_us = now_us;
		loan->window_bytes = 0;
	}
	return !loan->fast && loan->window_bytes <= PACE_FAST_BYTES;
}

static bool look_later(struct loan *loan)
{
	return sd_event_source_set_time_relative(loan->batch, LOAN_BATCH_US) >= 0 &&
	       sd_event_source_set_enabled(loan->batch, SD_EVENT_ONESHOT) >= 0;
}

static int on_batch(sd_event_source *source, uint64_t usec, void *data)
{
	struct loan *loan = data;
	bool grew = pump(loan, PUMPS_AT_ONCE, MORE_BYTES);

	(void)source;
	(void)usec;
	if (loan->live && !(grew && is_slow(loan) && look_later(loan)))
		(void)sd_event_source_set_enabled(loan->io, SD_EVENT_ON);
	return 0;
}

static int on_console(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct loan *loan = data;
	uint64_t previous_us = loan->last_byte_us;

	(void)fd;
	(void)revents;
	/* What is left, against expectation, wakes us again. */
	(void)pump(loan, PUMPS_AT_ONCE, MORE_BYTES);
	if (loan->live && is_slow(loan) && loan->last_byte_us - previous_us < LOAN_BATCH_US &&
	    look_later(loan))
		(void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
	return 0;
}

/* ---- loans ---- */

/* A timer that is off. */
static int add_timer(struct loan *loan, sd_event_source **ret, const char *what,
		     sd_event_time_handler_t handler, struct error *err)
{
	int r = sd_event_add_time(loan->config.event, ret, CLOCK_BOOTTIME, 0, ACCURACY_US, handler,
				  loan);

	if (r < 0)
		return error_code(err, r, "cannot make the timer '%s'", what);
	(void)sd_event_source_set_description(*ret, what);
	(void)sd_event_source_set_enabled(*ret, SD_EVENT_OFF);
	return 0;
}

static int open_stream(struct loan *loan, const char *console, uint64_t base, struct error *err)
{
	char *name;
	int r;

	if (loan->stream)
		return 0;
	name = strdup(console);
	if (!name)
		return error_oom(err);
	r = stream_open(&loan->stream, loan->config.dir_fd, "console", base, err);
	if (r < 0) {
		free(name);
		return r;
	}
	loan->name = name;
	loan->told = stream_offset(loan->stream);
	return 0;
}

int loan_new(struct loan **ret, const struct loan_config *config, struct error *err)
{
	cleanup_(loan_freep) struct loan *loan = calloc(1, sizeof(*loan));
	int r;

	if (!loan)
		return error_oom(err);
	loan->config = *config;
	loan->wake_fd = -1;
	loan->lines.quiet = config->quiet;
	r = add_timer(loan, &loan->batch, "busy console", on_batch, err);
	if (r < 0)
		return r;
	r = add_timer(loan, &loan->silence, "unfinished line", on_silence, err);
	/* Not only at the first loan: a console may come into being with the power, and the marks
	 * of that boot are made before. */
	if (r >= 0 && config->name)
		r = open_stream(loan, config->name, config->base, err);
	if (r < 0)
		return r;
	*ret = take_ptr(loan);
	return 0;
}

static int start_reading(struct loan *loan, struct error *err)
{
	int r = sd_event_add_io(loan->config.event, &loan->io, stream_console_fd(loan->stream),
				EPOLLIN, on_console, loan);

	if (r < 0)
		return error_code(err, r, "cannot watch the console");
	(void)sd_event_source_set_description(loan->io, "console");
	loan->live = true;
	return 0;
}

int loan_take(struct loan *loan, const struct control_loan *lent, struct error *err)
{
	int r;

	if (loan->stream && lent->generation <= loan->generation) {
		control_loan_close(lent);
		return 0;
	}
	if (lent->console_fd < 0 || lent->pipe_read_fd < 0 || lent->pipe_write_fd < 0) {
		control_loan_close(lent);
		return error_set(err, -EBADMSG, "a console was lent without its fds");
	}
	r = open_stream(loan, lent->name, lent->base, err);
	if (r < 0) {
		control_loan_close(lent);
		return r;
	}
	(void)pump(loan, PUMPS_TO_THE_END, 1);
	stop_reading(loan);
	(void)close_fd(loan->wake_fd);
	loan->wake_fd = lent->wake_fd;
	stream_set_wake_fd(loan->stream, loan->wake_fd);
	loan->generation = lent->generation;
	json_decref(loan->codec);
	loan->codec = json_incref(lent->codec);

	r = stream_attach(loan->stream, lent->console_fd, lent->pipe_read_fd, lent->pipe_write_fd,
			  err);
	if (r < 0)
		return r;
	tell_lines(loan);
	loan_mark(loan, "loan",
		  json_pack("{s:s, s:I, s:I}", "event", "lent", "gen", (json_int_t)lent->generation,
			    "base", (json_int_t)lent->base));
	r = start_reading(loan, err);
	if (r < 0)
		return r;
	/* What an earlier reader left in the pipe would not wake us. */
	loan_pump(loan);
	return 1;
}

uint64_t loan_give_back(struct loan *loan)
{
	int console_fd = -1, pipe_read_fd = -1, pipe_write_fd = -1;

	if (!loan_is_lent(loan))
		return loan_offset(loan);
	loan_pump(loan);
	stop_reading(loan);
	loan_mark(
		loan, "loan",
		json_pack("{s:s, s:I}", "event", "returned", "gen", (json_int_t)loan->generation));
	/* With a full disk the rest stays in the pipe, whose read end dutd holds. */
	if (stream_detach(loan->stream, &console_fd, &pipe_read_fd, &pipe_write_fd, NULL) == 0) {
		(void)close_fd(console_fd);
		(void)close_fd(pipe_read_fd);
		(void)close_fd(pipe_write_fd);
	}
	return loan_offset(loan);
}

void loan_stop(struct loan *loan)
{
	stop_reading(loan);
}

void loan_flush_line(struct loan *loan)
{
	lines_flush(&loan->lines, loan->config.line, loan->config.data);
}

void loan_new_boot(struct loan *loan)
{
	loan_pump(loan);
	loan_flush_line(loan);
	lines_reset(&loan->lines);
}

void loan_mark(struct loan *loan, const char *kind, json_t *extra)
{
	struct error err;

	if (!loan->stream)
		json_decref(extra);
	else if (stream_mark(loan->stream, kind, extra, &err) < 0)
		log_msg(LOG_WARNING, "%s", err.text);
}

/* ---- what it is ---- */

bool loan_is_lent(const struct loan *loan)
{
	return loan->stream && stream_console_fd(loan->stream) >= 0;
}

bool loan_is_live(const struct loan *loan)
{
	return loan->live;
}

struct stream *loan_stream(const struct loan *loan)
{
	return loan->stream;
}

const char *loan_name(const struct loan *loan)
{
	return loan->name;
}

uint64_t loan_generation(const struct loan *loan)
{
	return loan->generation;
}

json_t *loan_codec(const struct loan *loan)
{
	return loan->codec ? json_incref(loan->codec) : json_null();
}

uint64_t loan_offset(const struct loan *loan)
{
	return loan->stream ? stream_offset(loan->stream) : 0;
}

uint64_t loan_base(const struct loan *loan)
{
	return loan->stream ? stream_base(loan->stream) : 0;
}

uint64_t loan_last_byte_realtime_us(const struct loan *loan)
{
	return loan->last_byte_realtime_us;
}

json_t *loan_describe(const struct loan *loan, int fds[static PACKET_FDS_MAX])
{
	if (!loan_is_lent(loan))
		return json_null();
	/* A console that hung up is told too: dutd finds that out by itself, and needs its pipe. */
	fds[0] = stream_console_fd(loan->stream);
	fds[1] = stream_pipe_read_fd(loan->stream);
	fds[2] = stream_pipe_write_fd(loan->stream);
	fds[3] = loan->wake_fd;
	return json_pack("{s:s, s:I, s:I, s:I, s:o}", "name", loan->name, "gen",
			 (json_int_t)loan->generation, "base", (json_int_t)loan_base(loan),
			 "offset", (json_int_t)loan_offset(loan), "codec", loan_codec(loan));
}
