/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

/*
 * A console's log on disk: NAME.log holds the board's bytes and nothing else, NAME.idx says when
 * they came and what happened between them. The one reader of a console owns a stream; viewers read
 * the files.
 *
 * Bytes go console -> pipe -> log inside the kernel by splice(2). Whoever else holds the pipe's
 * read end can finish the second step after the reader was killed, so that no byte is lost at any
 * instruction (stream_drain()). Offsets count the bytes of a console for ever: position in the log
 * = offset - base.
 */

struct stream;

/*
 * Creates (or continues, when it is there) dir_fd/NAME.log and NAME.idx. A log that is continued
 * goes on at its size.
 *
 * Owns: nothing of the caller's.
 */
int stream_open(struct stream **ret, int dir_fd, const char *name, uint64_t base,
		struct error *err);
struct stream *stream_close(struct stream *stream);

/*
 * Says where bytes come from: console (non-blocking), and both ends of the pipe. Takes over all
 * three, and closes the ones that it had; bytes that lie in the old pipe are written to the log
 * first. -1, -1, -1 detaches.
 */
int stream_attach(struct stream *stream, int console_fd, int pipe_read_fd, int pipe_write_fd,
		  struct error *err);

/* Gives the three fds back to the caller, the pipe empty. */
int stream_detach(struct stream *stream, int *ret_console_fd, int *ret_pipe_read_fd,
		  int *ret_pipe_write_fd, struct error *err);

/* The present console fd for the caller's io source, or -1; borrowed. The pipe's ends likewise. */
int stream_console_fd(const struct stream *stream);
int stream_pipe_read_fd(const struct stream *stream);
int stream_pipe_write_fd(const struct stream *stream);

/* An eventfd to which 1 is added after each append to the log or the index; borrowed, -1 for none.
 */
void stream_set_wake_fd(struct stream *stream, int wake_fd);

/* Adds 1 to that eventfd: for appends that are not the stream's own (events.jsonl). */
void stream_wake(struct stream *stream);

/*
 * Moves once what the console has (at most 64 KiB) into the log.
 *
 * Errors: the number of bytes; 0 when nothing is there now; -ENODATA when the console has ended or
 * hung up; -ENOSPC when the disk is full (the bytes wait in the pipe).
 */
ssize_t stream_pump(struct stream *stream, struct error *err);

/* Reads bytes back at a console offset: their number, 0 at the end. */
ssize_t stream_read(const struct stream *stream, uint64_t offset, char *buffer, size_t size,
		    struct error *err);

uint64_t stream_base(const struct stream *stream);
uint64_t stream_offset(const struct stream *stream); /* base + size: the next byte's offset */

/*
 * Appends "m OFFSET BOOTTIME_US {"kind": KIND, ...}" to the index. Takes the reference to extra,
 * which may be NULL. Kinds: boot power gap input plug loan job.
 */
int stream_mark(struct stream *stream, const char *kind, json_t *extra, struct error *err);

/*
 * Finishes the work of a reader that was killed: moves what lies in the pipe to the end of
 * dir_fd/NAME.log, and marks it in the index. Somebody may go on writing to the pipe: that is left
 * there. The folder is not trusted either: what is no regular file in
 * it is not written, and a log that is longer than max_size counts as so long.
 *
 * Errors: *ret_size is set once the log is open, also when not all of the pipe could be written to
 * it (-ENOSPC).
 */
int stream_drain(int pipe_read_fd, int dir_fd, const char *name, uint64_t base, uint64_t max_size,
		 uint64_t *ret_size, struct error *err);
