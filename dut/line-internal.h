/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/stream.h"
#include "dut/fdstore.h"
#include "dut/line.h"

/* What line.c (who reads a console), line-disk.c (where its bytes go) and line-fds.c (through what)
 * share. */

struct line {
	struct line_config config;
	enum line_state state;
	int dir_fd; /* the idle segments */
	int fd;	    /* the console, -1 when closed; while READING the stream has it */
	int pipe_read_fd, pipe_write_fd; /* while READING the stream's */
	struct stream *stream;		 /* the idle segment that is written, or NULL */
	sd_event_source *fd_source;
	uint64_t offset;
	unsigned generation;
	bool replaced;		/* opened anew since it was lent last */
	sd_event_source *retry; /* after a write that failed */
	bool complained;	/* of that: said once */
	bool dropping;		/* READING without a stream: what comes is lost */
	uint64_t lost;		/* bytes in front of offset that no log has, nor a mark yet */
	uint64_t looked_us;	/* for room on the disk, CLOCK_BOOTTIME */
	uint64_t written;	/* bytes since then */
	uint64_t told_us;	/* when the log last heard of a gap */
	bool tells;		/* and will of its end */
	bool pruned;		/* once at least */
	uint64_t unpruned;	/* bytes since all segments were looked at */
	bool is_large;		/* the segment, when it was looked at */
	int wake_fd;
	bool fds_lent; /* the pipe and wake_fd were */
	bool adopted;  /* fd came from an executor */
	bool restored; /* fd and pipe come from an earlier dutd, and nobody has read them yet */
	struct fdstore_slot fd_slot, pipe_slot;
	sd_event_source *wake_source;
	struct history history;
	struct viewers viewers;
	bool (*on_append)(void *data);
	void *on_append_data;
	void (*on_hangup)(void *data);
	void *on_hangup_data;
};

/* ---- line-fds.c ---- */

/* Pipe and eventfd, with what an earlier dutd had. */
int line_make_fds(struct line *line, struct error *err);
void line_close_fds(struct line *line);

/* New ones for those that were lent: they stay with whoever got them from the borrower. */
int line_renew_fds(struct line *line, struct error *err);

/* The console is another one, or (-1) there is none any more. */
void line_set_fd(struct line *line, int fd);

/* The pipe is another one. */
void line_keep_pipe(struct line *line);

/* Takes over wake_fd, also on failure. */
int line_watch_wake(struct line *line, int wake_fd, struct error *err);

bool line_is_fifo(int fd);
bool line_is_eventfd(int fd);
bool line_is_same(int a, int b);

/* ---- line-disk.c ---- */

/* Opens the segment that begins at the present offset; one that is open goes on. */
int line_open_segment(struct line *line, struct error *err);

/* Whether this is a disk without room. */
bool line_is_full(int r);

/* Closes the segment: what comes is read and counted, and is lost, until there is room again. */
void line_begin_gap(struct line *line, const char *why);

/* Notes a gap that nothing was written after. */
void line_note_gap(struct line *line);

/* Moves what is there: its bytes, 0 for none now; -ENODATA when the console has ended; any other
 * error is that of a log that cannot be written. */
ssize_t line_pump(struct line *line, struct error *err);
