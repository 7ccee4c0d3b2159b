/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>

/* What the files of a board share: board-job.c (a job's way over it), board-lock.c (who holds it),
 * board-view.c (what is told of it) and others. */

struct board;
struct config_console;
struct error;
struct line;
struct outlet;

/* Opens what its configuration says, without touching the hardware; *ret is NULL without power. */
int board_open_power(struct board *board, struct outlet **ret, struct error *err);
int board_open_line(struct board *board, const struct config_console *config, struct line **ret,
		    struct error *err);

/* A person's power request is under way. */
bool board_is_switched_by_hand(const struct board *board);

/* The off after a job, until it is read back; then board_off_is_over(). */
void board_switch_off(struct board *board);
void board_off_is_over(struct board *board);

/* Nobody has it: its consoles are read, its power is looked at. */
void board_begin_idle(struct board *board);

/* Whoever submitted the job learns how its start went; once. */
void board_tell_starter(struct board *board, int r, const char *reason);
