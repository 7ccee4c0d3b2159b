/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

/*
 * What the fuzz targets share. A target is one function that gets bytes and hands them to a parser
 * as a peer would. Nothing may crash, leak, hang or write outside of its folder; what else must
 * hold is asserted. The same bytes do the same each time.
 */

/* The target: called for each input. Source: LLVM's libFuzzer manual, "Fuzz Target". */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Drops log lines and ignores SIGPIPE. For the first line of a target; does its work once. */
void fuzz_begin(void);

/* A copy of the bytes with a NUL behind them; never NULL. The caller frees it. */
char *fuzz_text(const uint8_t *data, size_t size);

/* The bytes as a file without a name, read from its start. */
int fuzz_file(const void *data, size_t size);

/* An empty folder of the process in memory, removed at its exit; the same one at each call. */
const char *fuzz_folder(void);
int fuzz_folder_fd(void);

/* Writes a file into that folder; name may have one folder in front of it. */
void fuzz_write(const char *name, const void *data, size_t size);

/* Empties that folder. */
void fuzz_clear(void);

/*
 * The parts of an input that stands for several things: they are separated by lines that begin with
 * "----". *rest moves on; false at the end. A part lies in the input itself.
 */
struct fuzz_part {
	const uint8_t *data;
	size_t size;
};

bool fuzz_next_part(struct fuzz_part *rest, struct fuzz_part *ret);

/* The same with lines, without their ends. */
bool fuzz_next_line(struct fuzz_part *rest, struct fuzz_part *ret);

/* Runs the loop until nothing happens any more by itself. */
void fuzz_settle(sd_event *event);
