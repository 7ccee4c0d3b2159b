/* SPDX-License-Identifier: MIT */
#include "cli/boardname.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "cli/cli.h"
#include "cli/client.h"

bool board_name_read(struct board_name *name, const char *word, int *ret_exit)
{
	char *slash;

	name->board = strdup(word);
	if (!name->board) {
		*ret_exit = say_exit(EXIT_INTERNAL, "out of memory");
		return false;
	}
	slash = strchr(name->board, '/');
	if (slash) {
		*slash = '\0';
		name->console = slash + 1;
	}
	if (!*name->board || (name->console && !text_is_name(name->console))) {
		*ret_exit = say_exit(EXIT_USAGE, "'%.60s' is not DUT or DUT/NAME", word);
		return false;
	}
	return true;
}

void board_name_done(struct board_name *name)
{
	free(name->board);
}

char *board_name_path(const struct board_name *name)
{
	if (name->console)
		return client_path("/dut/%s/console?name=%s", name->board, name->console);
	return client_path("/dut/%s/console", name->board);
}
