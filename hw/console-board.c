/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <sys/socket.h>

#include "base/file.h"
#include "hw/drivers.h"

/*
 * The consoles of virtual boards, qemu and sim: the unix socket console.sock that the board's
 * process listens on, in the board's runtime folder. It has no keys of its own.
 */

static void check(const struct yaml_node *keys, struct problems *problems)
{
	static const char *const known[] = { NULL };

	if (keys && keys->first)
		yaml_check_keys(keys, NULL, known, problems);
}

static int open_console(struct console **ret, const struct console_config *config,
			struct error *err)
{
	struct console *console = calloc(1, sizeof(*console));

	(void)config;
	if (!console)
		return error_oom(err);
	*ret = console;
	return 0;
}

static int connect_console(struct console *console, int *ret_fd, struct error *err)
{
	return file_connect_socket(ret_fd, console->config->runtime_dir_fd, "console.sock",
				   SOCK_STREAM, err);
}

static void close_console(struct console *console)
{
	free(console);
}

const struct console_driver console_qemu = {
	.name = "qemu",
	.check = check,
	.open = open_console,
	.connect = connect_console,
	.close = close_console,
};

const struct console_driver console_sim = {
	.name = "sim",
	.check = check,
	.open = open_console,
	.connect = connect_console,
	.close = close_console,
};
