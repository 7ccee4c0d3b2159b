/* SPDX-License-Identifier: MIT */
#include "cli/results.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/archive.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "cli/feed.h"
#include "cli/options.h"
#include "cli/verbs.h"
#include "cli/view.h"

/* The daemon that runs a job is trusted with our disk; these stop only what has gone mad. */
static const struct archive_unpack_options unpack_options = {
	.target = ARCHIVE_REPLACE_FILES,
	.max_bytes = INT64_MAX,
	.max_files = 1000000,
};

struct fetch {
	struct session *session;
	int fd;
	int r; /* of writing to fd */
	struct error err;
};

/* Also after a connection that broke: it is packed anew then. */
static void on_begin(uint64_t missing, void *data)
{
	struct fetch *fetch = data;

	(void)missing;
	if (fetch->r >= 0 && (ftruncate(fetch->fd, 0) < 0 || lseek(fetch->fd, 0, SEEK_SET) < 0))
		fetch->r = error_errno(&fetch->err, "temporary file");
}

static void on_bytes(const char *bytes, size_t length, void *data)
{
	struct fetch *fetch = data;

	if (fetch->r >= 0)
		fetch->r = file_write_all(fetch->fd, bytes, length, &fetch->err);
	if (fetch->r < 0)
		session_stop(fetch->session, EXIT_LAB);
}

static void on_end(struct answer *answer, void *data)
{
	struct fetch *fetch = data;

	session_stop(fetch->session, answer_is_good(answer) ? 0 : session_refused(answer));
	answer_done(answer);
}

/* The tar goes into a file without a name in the folder itself: the same disk. */
static int download(struct session *session, const char *id, int fd)
{
	struct fetch fetch = { .session = session, .fd = fd };
	cleanup_(feed_freep) struct feed *feed = NULL;
	free_ char *path = client_path("/jobs/%s/results", id);
	const struct feed_config config = {
		.session = session,
		.path = path,
		.on_begin = on_begin,
		.on_bytes = on_bytes,
		.on_end = on_end,
		.data = &fetch,
	};
	struct error err;
	int r = path ? feed_new(&feed, &config, &err) : error_oom(&err);
	int code;

	if (r < 0)
		return say_exit(EXIT_INTERNAL, "%s", err.text);
	code = session_run(session);
	if (fetch.r < 0)
		return say_exit(EXIT_LAB, "cannot store the results: %s", fetch.err.text);
	return code;
}

/* A file without a name in the folder; where the file system has no such thing, with one that goes
 * at once. */
static int open_temporary(int dir_fd, struct error *err)
{
	char name[48];
	int fd = openat(dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
		(void)snprintf(name, sizeof(name), ".dut-results-%d", (int)getpid());
		fd = openat(dir_fd, name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
		if (fd >= 0)
			(void)unlinkat(dir_fd, name, 0);
	}
	return fd < 0 ? error_errno(err, "temporary file") : fd;
}

int results_fetch(struct session *session, const char *id, const char *folder)
{
	close_ int dir_fd = -1, fd = -1;
	struct error err;
	uint64_t bytes;
	int r, code;

	r = file_make_dir(&dir_fd, AT_FDCWD, folder, 0777, &err);
	if (r >= 0)
		r = fd = open_temporary(dir_fd, &err);
	if (r < 0)
		return say_exit(EXIT_LAB, "results folder '%s': %s", folder, err.text);
	code = download(session, id, fd);
	if (code != 0)
		return code;
	r = archive_unpack(fd, dir_fd, &unpack_options, &bytes, &err);
	if (r < 0)
		return say_exit(r == -EBADMSG || r == -EINVAL ? EXIT_INTERNAL : EXIT_LAB,
				"results of job %s: %s", id, err.text);
	return 0;
}

static int fetch_to(struct cli *cli, const char *word, const char *folder)
{
	struct session session;
	char id[VIEW_ID_SIZE], name[VIEW_ID_SIZE + 8];
	json_t *job = NULL;
	int code;

	if (!view_read_id(id, word))
		return say_exit(EXIT_USAGE, "results: '%.60s' is no id of a job", word);
	if (!folder) {
		(void)snprintf(name, sizeof(name), "job-%s", id);
		folder = name;
	}
	if (!session_open(&session, cli, &code))
		return code;
	/* No folder is made for a job that is not there. */
	if (session_ask(&session, "GET", client_path("/jobs/%s", id), NULL, CLIENT_ANSWER_TIMEOUT_S,
			&job, &code))
		code = results_fetch(&session, id, folder);
	json_decref(job);
	session_done(&session);
	if (code == 0)
		say("results of job %s are in %s", id, folder);
	return code;
}

static int results(struct cli *cli, int argc, char **argv)
{
	const char *folder = NULL;
	const struct option options[] = {
		{ "output", "DIR", OPTION_TEXT, &folder, "where to; default: job-ID" },
		{ 0 },
	};
	struct option_list operands = { 0 };
	int code;

	if (options_parse(&verb_results, options, cli, 1, 1, &operands, argc, argv, &code))
		code = fetch_to(cli, operands.items[0], folder);
	option_list_done(&operands);
	return code;
}

const struct verb verb_results = {
	.name = "results",
	.operands = "ID [OPTION...]",
	.summary = "fetches the result files of a job",
	.run = results,
};
