/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/spawn.h"
#include "dut/daemon.h"
#include "dut/filebatch.h"
#include "dut/jobdir.h"
#include "dut/jobuser.h"
#include "dut/lease-internal.h"
#include "dut/lease.h"

/* What an attempt needs before it begins: its records on the disk, then a process with its fds. */

/* ---- the records before the start ---- */

struct commit {
	int job_dir_fd;
	unsigned attempt;
	struct sandbox_user user;
	char *job_json;
	void (*done)(int r, const struct error *err, void *data);
	void *data;
};

static int write_files(struct filebatch *files, void *data, struct error *err)
{
	const struct commit *commit = data;
	int r = 0;

	(void)files;
	if (commit->attempt > 1)
		r = jobdir_set_aside(commit->job_dir_fd, commit->attempt - 1, err);
	if (r >= 0)
		r = file_replace(commit->job_dir_fd, "job.json", commit->job_json,
				 strlen(commit->job_json), 0640, err);
	if (r >= 0)
		r = jobuser_hand_over(&commit->user, commit->job_dir_fd, err);
	return r;
}

static void commit_done(int r, const struct error *err, void *data)
{
	struct commit *commit = data;

	commit->done(r, err, commit->data);
}

static void commit_release(void *data)
{
	struct commit *commit = data;

	(void)close_fd(commit->job_dir_fd);
	free(commit->job_json);
	free(commit);
}

/* The job.json of the present attempt: what came with the submission, and what dutd says now. */
static char *renew_job_json(const struct board *board, const struct job *job, int job_dir_fd,
			    struct error *err)
{
	json_auto_t *former = NULL, *description = NULL;
	free_ char *text = NULL;
	size_t length;
	char *renewed;
	int r = file_read_beneath(&text, &length, job_dir_fd, "job.json", 4 << 20, err);

	if (r < 0)
		return NULL;
	former = json_loadb(text, length, 0, NULL);
	/* A former attempt may have written there what it would like to be allowed. */
	if (json_is_object(former))
		description = jobdir_describe(board->daemon, board, job, former);
	(void)json_object_set_new(description, "attempt", json_integer(job->attempt));
	(void)json_object_set_new(description, "nonce", json_string(job->nonce));
	if (job->has_console)
		(void)json_object_set_new(description, "console_base",
					  json_integer((json_int_t)job->console_base));
	(void)json_object_set_new(description, "epoch",
				  json_integer((json_int_t)board->daemon->epoch));
	renewed = description ? json_dumps(description, JSON_INDENT(1)) : NULL;
	if (!renewed)
		(void)error_set(err, -EBADMSG, "job.json cannot be used");
	return renewed;
}

int lease_commit(struct board *board, struct job *job,
		 void (*done)(int r, const struct error *err, void *data), void *data,
		 struct error *err)
{
	struct commit *commit = calloc(1, sizeof(*commit));
	const struct daemon_commit files = {
		.files = write_files,
		.done = commit_done,
		.release = commit_release,
		.data = commit,
	};
	char path[32];
	int r;

	if (!commit)
		return error_oom(err);
	commit->attempt = job->attempt;
	commit->user = job->user;
	commit->done = done;
	commit->data = data;
	commit->job_dir_fd = -1;
	(void)snprintf(path, sizeof(path), "%" PRIu64, job->id);
	r = file_open_beneath(&commit->job_dir_fd, board->daemon->jobs_fd, path,
			      O_DIRECTORY | O_RDONLY, err);
	if (r < 0)
		goto fail;
	commit->job_json = renew_job_json(board, job, commit->job_dir_fd, err);
	if (!commit->job_json) {
		r = -EBADMSG;
		goto fail;
	}
	r = daemon_commit_with(board->daemon, job, &files, err);
	if (r < 0)
		goto fail;
	return 0;
fail:
	commit_release(commit);
	return r;
}

/* ---- the process ---- */

/* What the executor inherits of our environment: nothing that tells of us, but what sanitizers and
 * libraries need. */
static char **make_environment(const char *libexec_dir)
{
	static const char *const kept[] = { "PATH",	     "LANG",	      "TZ",
					    "ASAN_OPTIONS",  "UBSAN_OPTIONS", "LSAN_OPTIONS",
					    "http_proxy",    "https_proxy",   "no_proxy",
					    "SSL_CERT_FILE", "SSL_CERT_DIR",  "DUT_SANDBOX" };
	char **environment = calloc(ARRAY_SIZE(kept) + 2, sizeof(*environment));
	size_t count = 0;

	if (!environment ||
	    asprintf(&environment[count++], "DUT_LIBEXEC_DIR=%s", libexec_dir) < 0) {
		free(environment);
		return NULL;
	}
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
		const char *value = getenv(kept[i]);

		if (value && asprintf(&environment[count], "%s=%s", kept[i], value) >= 0)
			count++;
	}
	environment[count] = NULL;
	return environment;
}

static void free_environment(char **environment)
{
	for (char **variable = environment; variable && *variable; variable++)
		free(*variable);
	free(environment);
}

/* The fds of the executor, opened one by one. */
struct start_fds {
	int job_socket, control_socket, job_dir, ready_write, words_write, tarball;
};

static void close_start_fds(const struct start_fds *fds)
{
	(void)close_fd(fds->job_socket);
	(void)close_fd(fds->control_socket);
	(void)close_fd(fds->job_dir);
	(void)close_fd(fds->ready_write);
	(void)close_fd(fds->words_write);
	(void)close_fd(fds->tarball);
}

static int open_start_fds(struct lease *lease, struct start_fds *fds, struct error *err)
{
	struct board *board = lease->board;
	char path[32];
	int pipes[2], r;

	*fds = (struct start_fds){ -1, -1, -1, -1, -1, -1 };
	(void)snprintf(path, sizeof(path), "%" PRIu64, lease->job->id);
	r = file_open_beneath(&fds->job_dir, board->daemon->jobs_fd, path, O_DIRECTORY | O_RDONLY,
			      err);
	if (r >= 0)
		r = file_bind_socket(&fds->job_socket, board->runtime_fd, "job.sock", SOCK_STREAM,
				     0660, err);
	if (r >= 0)
		r = file_bind_socket(&fds->control_socket, board->runtime_fd, "control.sock",
				     SOCK_SEQPACKET, 0600, err);
	if (r < 0)
		return r;
	r = file_open_beneath(&fds->tarball, fds->job_dir, "bucket.tar", O_RDONLY, err);
	if (r < 0 && r != -ENOENT)
		return r;
	if (pipe2(pipes, O_CLOEXEC) < 0)
		return error_errno(err, "pipe");
	lease->ready_fd = pipes[0];
	fds->ready_write = pipes[1];
	if (fcntl(lease->ready_fd, F_SETFL, O_NONBLOCK) < 0)
		return error_errno(err, "cannot set up the ready pipe");
	return words_pipe(&lease->words_fd, &fds->words_write, err);
}

static int spawn_executor(struct lease *lease, const struct start_fds *fds, struct error *err)
{
	struct board *board = lease->board;
	free_ char *path = NULL;
	char **environment = make_environment(board->daemon->libexec_dir);
	char name[] = "dut-executor", option[] = "--user", user[32];
	char *const argv[] = { name, lease->job->user.uid ? option : NULL, user, NULL };
	const struct spawn_fd table[] = {
		{ fds->job_socket, EXECUTOR_FD_JOB_SOCKET },
		{ board->lock_fd, EXECUTOR_FD_LOCK },
		{ fds->control_socket, EXECUTOR_FD_CONTROL_SOCKET },
		{ fds->job_dir, EXECUTOR_FD_JOB_DIR },
		{ fds->ready_write, EXECUTOR_FD_READY },
		{ fds->words_write, STDOUT_FILENO },
		{ fds->words_write, STDERR_FILENO },
		{ fds->tarball, EXECUTOR_FD_TARBALL },
	};
	struct spawn_config config = {
		.argv = argv,
		.envp = environment,
		.fds = table,
		.n_fds = ARRAY_SIZE(table) - (fds->tarball < 0),
		.new_session = true,
	};
	int r;

	if (!environment)
		return error_oom(err);
	(void)snprintf(user, sizeof(user), "%u:%u", lease->job->user.uid, lease->job->user.gid);
	if (asprintf(&path, "%s/dut-executor", board->daemon->libexec_dir) < 0) {
		path = NULL;
		r = error_oom(err);
	} else {
		config.path = path;
		r = spawn(&lease->pid, &lease->pidfd, &config, err);
		if (r < 0)
			r = error_prefix(err, r, "cannot start the executor");
	}
	free_environment(environment);
	return r;
}

int lease_listen(struct lease *lease, struct error *err)
{
	struct daemon *daemon = lease->board->daemon;
	const struct words_config config = {
		.event = daemon->event,
		.board = lease->board->config->id,
		.job = lease->job->id,
		.who = "dut-executor",
	};
	char name[24];

	(void)snprintf(name, sizeof(name), "%" PRIu64, lease->job->id);
	fdstore_slot_init(&lease->words_slot, "words", config.board, name);
	if (lease->words_fd >= 0)
		fdstore_put(daemon->fdstore, &lease->words_slot, lease->words_fd);
	else
		lease->words_fd = fdstore_take(daemon->fdstore, &lease->words_slot);
	return lease->words_fd < 0
		       ? 0
		       : words_new(&lease->words, &config, take_fd(&lease->words_fd), err);
}

int lease_spawn(struct lease *lease, struct error *err)
{
	struct start_fds fds;
	int r = open_start_fds(lease, &fds, err);

	if (r >= 0)
		r = spawn_executor(lease, &fds, err);
	close_start_fds(&fds);
	return r;
}
