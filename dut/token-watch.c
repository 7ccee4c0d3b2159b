/* SPDX-License-Identifier: MIT */
#include "dut/token-watch.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "dut/daemon.h"
#include "dut/tokens.h"
#include "dut/worker.h"

/*
 * The folder is watched and not the file, because editors put a new file in its place. Reading is
 * the worker's, one at a time; what changes meanwhile is read once more.
 */

struct token_watch {
	struct daemon *daemon;
	sd_event_source *source;
	const char *name; /* of the file in its folder */
	struct reading *reading;
	bool again;
};

/* One reading; it outlives its watch. */
struct reading {
	struct token_watch *watch; /* NULL: nobody waits */
	char *path;
	struct tokens tokens;
	struct problems problems;
};

static void release(void *data)
{
	struct reading *reading = data;

	problems_done(&reading->problems);
	tokens_done(&reading->tokens);
	free(reading->path);
	free(reading);
}

static int read_file(void *data, struct error *err)
{
	struct reading *reading = data;

	return tokens_load(&reading->tokens, reading->path, &reading->problems, err);
}

static void begin(struct token_watch *watch);

static void take(struct token_watch *watch, struct tokens *tokens)
{
	struct tokens before = watch->daemon->config->tokens;

	watch->daemon->config->tokens = *tokens;
	*tokens = before;
	log_msg(LOG_NOTICE, "the tokens of %s were read again: %zu",
		watch->daemon->config->tokens_file, watch->daemon->config->tokens.count);
}

static void on_read(int r, const struct error *err, void *data)
{
	struct reading *reading = data;
	struct token_watch *watch = reading->watch;

	if (!watch)
		return;
	watch->reading = NULL;
	if (r >= 0 || r == -ENOENT)
		take(watch, &reading->tokens);
	else if (r != -EBADMSG)
		log_msg(LOG_ERR, "%s; the tokens that were there before go on", err->text);
	for (size_t i = 0; i < reading->problems.count; i++) {
		const struct problem *problem = &reading->problems.items[i];

		log_msg(LOG_ERR, "%s:%u:%u: %s; the tokens that were there before go on",
			problem->file, problem->line, problem->column, problem->text);
	}
	if (watch->again)
		begin(watch);
}

static void begin(struct token_watch *watch)
{
	struct reading *reading;
	struct error err;

	watch->again = watch->reading != NULL;
	if (watch->again)
		return;
	reading = calloc(1, sizeof(*reading));
	if (reading) {
		reading->watch = watch;
		reading->path = strdup(watch->daemon->config->tokens_file);
	}
	if (!reading || !reading->path) {
		free(reading);
		log_msg(LOG_ERR, "out of memory for the tokens");
		return;
	}
	if (worker_run(watch->daemon->worker, read_file, on_read, release, reading, &err) < 0) {
		log_msg(LOG_ERR, "cannot read the tokens: %s", err.text);
		release(reading);
		return;
	}
	watch->reading = reading;
}

static int on_change(sd_event_source *source, const struct inotify_event *event, void *data)
{
	struct token_watch *watch = data;

	(void)source;
	if (event->mask & (IN_IGNORED | IN_UNMOUNT))
		log_msg(LOG_WARNING,
			"the folder of %s is gone: changes are not seen until dutd is started again",
			watch->daemon->config->tokens_file);
	if (event->len == 0 || strcmp(event->name, watch->name) == 0)
		begin(watch);
	return 0;
}

CLEANUP_DEFINE(struct token_watch *, token_watch_free)

int token_watch_new(struct token_watch **ret, struct daemon *daemon, struct error *err)
{
	static const uint32_t changes = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE |
					IN_CREATE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF |
					IN_ONLYDIR;
	cleanup_(token_watch_freep) struct token_watch *watch = NULL;
	const char *path = daemon->config->tokens_file;
	const char *slash = path ? strrchr(path, '/') : NULL;
	free_ char *folder = NULL;
	int r;

	*ret = NULL;
	if (!slash)
		return 0;
	watch = calloc(1, sizeof(*watch));
	folder = strndup(path, slash == path ? 1 : (size_t)(slash - path));
	if (!watch || !folder)
		return error_oom(err);
	watch->daemon = daemon;
	watch->name = slash + 1;
	r = sd_event_add_inotify(daemon->event, &watch->source, folder, changes, on_change, watch);
	if (r < 0)
		return error_code(err, r, "cannot watch %s", folder);
	(void)sd_event_source_set_description(watch->source, "tokens");
	*ret = take_ptr(watch);
	return 0;
}

struct token_watch *token_watch_free(struct token_watch *watch)
{
	if (!watch)
		return NULL;
	if (watch->reading)
		watch->reading->watch = NULL;
	(void)sd_event_source_disable_unref(watch->source);
	free(watch);
	return NULL;
}

void token_watch_renew(struct daemon *daemon)
{
	struct error err;

	/* Its name is that of the configuration before. */
	daemon->token_watch = token_watch_free(daemon->token_watch);
	if (token_watch_new(&daemon->token_watch, daemon, &err) < 0)
		log_msg(LOG_ERR, "changes of the tokens are not seen: %s", err.text);
	/* The file may have changed since the configuration was read. */
	if (daemon->token_watch)
		begin(daemon->token_watch);
}
