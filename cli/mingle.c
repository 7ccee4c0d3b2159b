/* SPDX-License-Identifier: MIT */
#include "cli/mingle.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct mingle {
	struct output *out, *messages;
	bool one_terminal;
	bool in_line; /* the console's last byte was no line end */
	char *held;   /* messages that wait */
	size_t length;
	sd_event_source *timer;
};

static bool is_one_terminal(void)
{
	struct stat out, err;

	return isatty(STDOUT_FILENO) && isatty(STDERR_FILENO) && fstat(STDOUT_FILENO, &out) == 0 &&
	       fstat(STDERR_FILENO, &err) == 0 && out.st_rdev == err.st_rdev;
}

static int write_out(struct mingle *mingle, const char *bytes, size_t length, struct error *err)
{
	if (length == 0)
		return 0;
	mingle->in_line = bytes[length - 1] != '\n';
	return output_write(mingle->out, bytes, length, err);
}

static int flush(struct mingle *mingle, struct error *err)
{
	int r = 0;

	(void)sd_event_source_set_enabled(mingle->timer, SD_EVENT_OFF);
	if (mingle->length > 0) {
		if (mingle->in_line)
			r = write_out(mingle, "\r\n", 2, err);
		if (r >= 0)
			r = write_out(mingle, mingle->held, mingle->length, err);
		mingle->length = 0;
	}
	return r;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	(void)source;
	(void)usec;
	(void)flush(data, NULL);
	return 0;
}

struct mingle *mingle_free(struct mingle *mingle)
{
	if (mingle) {
		sd_event_source_disable_unref(mingle->timer);
		free(mingle->held);
		free(mingle);
	}
	return NULL;
}

int mingle_new(struct mingle **ret, sd_event *loop, struct output *out, struct output *messages,
	       struct error *err)
{
	struct mingle *mingle = calloc(1, sizeof(*mingle));
	int r;

	if (!mingle)
		return error_oom(err);
	*mingle = (struct mingle){ .out = out,
				   .messages = messages,
				   .one_terminal = is_one_terminal() };
	r = sd_event_add_time(loop, &mingle->timer, CLOCK_BOOTTIME, 0, 1, on_timer, mingle);
	if (r >= 0)
		r = sd_event_source_set_enabled(mingle->timer, SD_EVENT_OFF);
	if (r < 0) {
		mingle_free(mingle);
		return error_code(err, r, "timer");
	}
	*ret = mingle;
	return 0;
}

int mingle_console(struct mingle *mingle, const char *bytes, size_t length, struct error *err)
{
	const char *end = mingle->length > 0 ? memrchr(bytes, '\n', length) : NULL;
	size_t first = end ? (size_t)(end - bytes) + 1 : 0;
	int r;

	if (!end)
		return write_out(mingle, bytes, length, err);
	r = write_out(mingle, bytes, first, err);
	if (r >= 0)
		r = flush(mingle, err);
	return r < 0 ? r : write_out(mingle, bytes + first, length - first, err);
}

/* Keeps a message until the console's line has ended, or has been waited for. */
static int hold(struct mingle *mingle, const char *text, size_t length, struct error *err)
{
	char *grown = realloc(mingle->held, mingle->length + length);

	if (!grown)
		return error_oom(err);
	memcpy(grown + mingle->length, text, length);
	mingle->held = grown;
	mingle->length += length;
	(void)sd_event_source_set_time_relative(mingle->timer, MINGLE_WAIT_US);
	(void)sd_event_source_set_enabled(mingle->timer, SD_EVENT_ONESHOT);
	return 0;
}

int mingle_message(struct mingle *mingle, const char *text, struct error *err)
{
	size_t length = strlen(text);

	if (!mingle->one_terminal)
		return output_write(mingle->messages, text, length, err);
	if (!mingle->in_line)
		return write_out(mingle, text, length, err);
	return hold(mingle, text, length, err);
}

void mingle_end(struct mingle *mingle)
{
	(void)flush(mingle, NULL);
}
