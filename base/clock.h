/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdint.h>

enum { CLOCK_ISO_SIZE = 32 };

/* Microseconds of CLOCK_BOOTTIME: the clock of all timeouts; a step of the wall clock does not
 * touch it. */
uint64_t clock_now_us(void);

/* Microseconds of the wall clock, for people only. */
uint64_t clock_realtime_us(void);

/* Writes ISO 8601 in UTC with microseconds, as 2026-11-24T08:15:04.123456Z; returns text. */
const char *clock_format_iso(char text[CLOCK_ISO_SIZE], uint64_t realtime_us);

/*
 * The kernel's id of this boot, 36 characters, or zeros where it cannot be read.
 *
 * Source: proc(5), /proc/sys/kernel/random/boot_id.
 */
const char *clock_boot_id(void);
