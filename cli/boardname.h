/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>

/* DUT or DUT/NAME: a console as the command line names it. */
struct board_name {
	char *board;
	const char *console; /* points into board's memory; NULL: the default one */
};

/* True, or false (said) with *ret_exit. */
bool board_name_read(struct board_name *name, const char *word, int *ret_exit);
void board_name_done(struct board_name *name);

/* The path of its console in the API; the caller frees it. NULL when memory ran out. */
char *board_name_path(const struct board_name *name);
