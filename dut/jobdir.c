/* SPDX-License-Identifier: MIT */
#include "dut/jobdir.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "dut/access.h"
#include "dut/board.h"
#include "dut/daemon.h"
#include "dut/filebatch.h"
#include "dut/worker.h"

/* ---- facts ---- */

static json_t *text_array(char *const *texts)
{
	json_t *array = json_array();

	for (; texts && *texts; texts++)
		(void)json_array_append_new(array, json_string(*texts));
	return array;
}

json_t *jobdir_dut_facts(const struct board *board)
{
	const struct config_dut *config = board->config;
	/* Who holds the board runs jobs on it as it is, whatever it is to be later. */
	const struct config_dut *present = board->present;
	const struct config_console *console =
		present->n_consoles > 0 ? &present->consoles[0] : NULL;

	return json_pack("{s:s, s:o, s:o, s:s?, s:s?, s:O?, s:s?, s:s?}", "id", config->id,
			 "aliases", text_array(config->aliases), "tags",
			 flags_tags(&board->flags, config->tags), "mac", config->mac, "tty",
			 console ? console->dut_tty : NULL, "variables", config->variables,
			 "deploy", present->deploy_driver, "console",
			 console ? console->name : NULL);
}

json_t *jobdir_common_facts(const struct daemon *daemon, const json_t *metadata)
{
	const struct config *config = daemon->config;
	const json_t *environ_vars = json_object_get(metadata, "environ");
	json_t *facts = json_pack(
		"{s:O?, s:{s:I, s:I, s:I}, s:{s:I, s:I, s:I, s:I, s:I}, s:o, s:b}", "variables",
		config->variables, "timeouts", "overall", (json_int_t)config->overall_us,
		"infra_teardown", (json_int_t)config->infra_teardown_us, "daemon",
		(json_int_t)config->daemon_us, "limits", "overall",
		(json_int_t)config->limits.overall_us, "bucket", (json_int_t)config->limits.bucket,
		"bucket_files", (json_int_t)config->limits.bucket_files, "console_log",
		(json_int_t)config->limits.console_log, "free_space",
		(json_int_t)config->limits.free_space, "file_roots", text_array(config->file_roots),
		"ignore_deadline", json_is_true(json_object_get(metadata, "ignore_deadline")));

	(void)json_object_set_new(facts, "environ",
				  environ_vars ? json_deep_copy(environ_vars) : json_object());
	return facts;
}

json_t *jobdir_describe(const struct daemon *daemon, const struct board *board,
			const struct job *job, const json_t *metadata)
{
	json_t *description = jobdir_common_facts(daemon, metadata);
	json_t *facts = board ? jobdir_dut_facts(board) : NULL;
	char id[24];

	if (job->owner_uid == ACCESS_NO_UID)
		(void)json_object_set_new(description, "file_roots", json_array());
	(void)snprintf(id, sizeof(id), "%" PRIu64, job->id);
	(void)json_object_set_new(description, "v", json_integer(1));
	(void)json_object_set_new(description, "id", json_string(id));
	(void)json_object_set_new(description, "name", json_string(job->name));
	(void)json_object_set_new(description, "owner", json_string(job->owner));
	(void)json_object_set_new(description, "submitted_us",
				  json_integer((json_int_t)job->submitted_us));
	(void)json_object_set_new(description, "socket_uid", json_integer((json_int_t)geteuid()));
	if (!board)
		return description;
	(void)json_object_set(description, "deploy", json_object_get(facts, "deploy"));
	/* The DUT's variables are the daemon's with its own on top. */
	if (board->config->variables)
		(void)json_object_set(description, "variables", board->config->variables);
	(void)json_object_set_new(description, "dut", facts);
	return description;
}

/* ---- the folder ---- */

struct creation {
	struct daemon *daemon;
	struct job *job;
	int jobs_fd, state_fd, tarball_fd;
	uint64_t id, next_id;
	bool has_folder, recording;
	char *text, *description;
	size_t length;
	void (*done)(int r, const struct error *err, void *data);
	void *data;
};

static int copy_file(int from_fd, int dir_fd, const char *name, struct error *err)
{
	close_ int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
	off_t at = 0;
	ssize_t n;

	if (fd < 0)
		return error_errno(err, "%s", name);
	while ((n = sendfile(fd, from_fd, &at, 1 << 20)) > 0)
		;
	if (n < 0 || fsync(fd) < 0)
		return error_errno(err, "%s", name);
	return 0;
}

/* The upload was made without a name in this file system: it gets one; elsewhere it is copied. */
static int place_tarball(int tarball_fd, int dir_fd, struct filebatch *files, struct error *err)
{
	char path[32];
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", tarball_fd);
	if (linkat(AT_FDCWD, path, dir_fd, "bucket.tar", AT_SYMLINK_FOLLOW) < 0)
		return copy_file(tarball_fd, dir_fd, "bucket.tar", err);
	fd = fcntl(tarball_fd, F_DUPFD_CLOEXEC, 0);
	return fd < 0 ? error_errno(err, "bucket.tar") : filebatch_add(files, fd, err);
}

static int fill_folder(const struct creation *creation, struct filebatch *files, struct error *err)
{
	close_ int dir_fd = -1;
	char name[32];
	int r;

	(void)snprintf(name, sizeof(name), "%" PRIu64, creation->id);
	r = file_make_dir(&dir_fd, creation->jobs_fd, name, 0750, err);
	if (r >= 0)
		r = filebatch_write(files, FILEBATCH_NEW, dir_fd, "job.yml", creation->text,
				    creation->length, 0640, err);
	if (r >= 0)
		r = filebatch_write(files, FILEBATCH_NEW, dir_fd, "job.json", creation->description,
				    strlen(creation->description), 0640, err);
	if (r >= 0 && creation->tarball_fd >= 0)
		r = place_tarball(creation->tarball_fd, dir_fd, files, err);
	if (r >= 0)
		r = filebatch_add(files, take_fd(&dir_fd), err);
	if (r >= 0)
		r = filebatch_touch(files, creation->jobs_fd, err);
	return r;
}

static int make_folder(void *data, struct error *err)
{
	const struct creation *creation = data;
	cleanup_(filebatch_freep) struct filebatch *files = NULL;
	int r = filebatch_new(&files, creation->state_fd, err);

	if (r >= 0) {
		filebatch_set_owner(files, creation);
		r = fill_folder(creation, files, err);
	}
	if (r >= 0) {
		filebatch_sync(files);
		r = filebatch_result(files, creation, err);
	}
	return r < 0 ? error_prefix(err, r, "the job cannot be stored") : 0;
}

/* The number first: an id is never used twice. */
static int write_files(struct filebatch *files, void *data, struct error *err)
{
	const struct creation *creation = data;
	char number[32];
	int r, length = snprintf(number, sizeof(number), "%" PRIu64 "\n", creation->next_id);

	r = filebatch_write(files, FILEBATCH_REPLACE, creation->state_fd, "next-id", number,
			    (size_t)length, 0600, err);
	if (r >= 0 && !creation->has_folder)
		r = fill_folder(creation, files, err);
	return r;
}

static void creation_done(int r, const struct error *err, void *data)
{
	const struct creation *creation = data;
	struct error text;

	if (r < 0) {
		text = *err;
		(void)error_prefix(&text, r, "the job cannot be stored");
		err = &text;
	}
	creation->done(r, err, creation->data);
}

static void creation_free(void *data)
{
	struct creation *creation = data;

	(void)close_fd(creation->tarball_fd);
	free(creation->text);
	free(creation->description);
	free(creation);
}

/* Both as they are now: the job may have been cancelled, and others may have been made, since. */
static int start_record(struct creation *creation, struct error *err)
{
	const struct daemon_commit commit = {
		.files = write_files,
		.done = creation_done,
		.release = creation_free,
		.data = creation,
		.is_new = true,
	};

	creation->next_id = creation->daemon->next_id;
	return daemon_commit_with(creation->daemon, creation->job, &commit, err);
}

static void folder_done(int r, const struct error *err, void *data)
{
	struct creation *creation = data;
	struct error failure;

	if (r >= 0) {
		creation->has_folder = true;
		err = &failure;
		r = start_record(creation, &failure);
		creation->recording = r >= 0;
	}
	if (r < 0)
		creation->done(r, err, creation->data);
}

static void folder_release(void *data)
{
	struct creation *creation = data;

	if (!creation->recording)
		creation_free(creation);
}

static bool is_big(int fd)
{
	struct stat status;

	return fd >= 0 && fstat(fd, &status) == 0 && status.st_size > JOBDIR_BIG_TARBALL;
}

/* A big tarball takes its time to get to the disk, which nobody's record has to wait for. */
static int start_creation(struct creation *creation, struct error *err)
{
	if (is_big(creation->tarball_fd))
		return worker_run(creation->daemon->bulk_worker, make_folder, folder_done,
				  folder_release, creation, err);
	return start_record(creation, err);
}

int jobdir_set_aside(int job_dir_fd, unsigned attempt, struct error *err)
{
	static const struct {
		const char *name, *suffix;
	} files[] = { { "console", "log" }, { "console", "idx" }, { "events", "jsonl" } };

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		char from[32], to[32];

		(void)snprintf(from, sizeof(from), "%s.%s", files[i].name, files[i].suffix);
		(void)snprintf(to, sizeof(to), "%s.%u.%s", files[i].name, attempt, files[i].suffix);
		if (renameat(job_dir_fd, from, job_dir_fd, to) < 0 && errno != ENOENT)
			return error_errno(err, "cannot set aside %s of attempt %u", from, attempt);
	}
	return 0;
}

int jobdir_create(struct daemon *daemon, const struct board *board, struct job *job,
		  const json_t *metadata, const char *text, size_t length, int tarball_fd,
		  void (*done)(int r, const struct error *err, void *data), void *data,
		  struct error *err)
{
	struct creation *creation = calloc(1, sizeof(*creation));
	json_auto_t *description = jobdir_describe(daemon, board, job, metadata);
	int r = 0;

	if (!creation)
		return error_oom(err);
	*creation = (struct creation){
		.daemon = daemon,
		.job = job,
		.jobs_fd = daemon->jobs_fd,
		.state_fd = daemon->state_fd,
		.tarball_fd = -1,
		.id = job->id,
		.text = malloc(length + 1),
		.length = length,
		.description = json_dumps(description, JSON_INDENT(1)),
		.done = done,
		.data = data,
	};
	if (!creation->text || !creation->description)
		r = error_oom(err);
	else
		memcpy(creation->text, text, length);
	if (r >= 0 && tarball_fd >= 0) {
		creation->tarball_fd = fcntl(tarball_fd, F_DUPFD_CLOEXEC, 0);
		if (creation->tarball_fd < 0)
			r = error_errno(err, "the tarball");
	}
	if (r >= 0)
		r = start_creation(creation, err);
	if (r < 0)
		creation_free(creation);
	return r;
}
