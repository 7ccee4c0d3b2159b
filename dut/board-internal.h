/* SPDX-License-Identifier: MIT */
#pragma once

/* What board-job.c (a job's way over a board) and board-lock.c (who holds it) share. */

struct board;

/* The off after a job, until it is read back; then board_off_is_over(). */
void board_switch_off(struct board *board);
void board_off_is_over(struct board *board);

/* Nobody has it: its consoles are read, its power is looked at. */
void board_begin_idle(struct board *board);

/* Whoever submitted the job learns how its start went; once. */
void board_tell_starter(struct board *board, int r, const char *reason);
