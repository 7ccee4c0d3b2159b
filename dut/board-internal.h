/* SPDX-License-Identifier: MIT */
#pragma once

/* What board-job.c (a job's way over a board) and board-lock.c (who holds it) share. */

struct board;
struct config_console;
struct error;
struct line;
struct outlet;

/* Opens what its configuration says, without touching the hardware; *ret is NULL without power. */
int board_open_power(struct board *board, struct outlet **ret, struct error *err);
int board_open_line(struct board *board, const struct config_console *config, struct line **ret,
		    struct error *err);

/* The off after a job, until it is read back; then board_off_is_over(). */
void board_switch_off(struct board *board);
void board_off_is_over(struct board *board);

/* Nobody has it: its consoles are read, its power is looked at. */
void board_begin_idle(struct board *board);

/* Whoever submitted the job learns how its start went; once. */
void board_tell_starter(struct board *board, int r, const char *reason);
