/* SPDX-License-Identifier: MIT */
#include "dut/jobuser.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/spawn.h"
#include "dut/daemon.h"
#include "dut/dispatch.h"
#include "dut/job.h"
#include "dut/worker.h"

bool jobuser_wanted(const struct daemon *daemon)
{
	return daemon->config->n_job_users > 0 && geteuid() == 0;
}

json_t *jobuser_protections_missing(const struct daemon *daemon)
{
	json_t *missing = json_array();

	if (sandbox_lacks())
		(void)json_array_append_new(
			missing,
			json_sprintf("the sandbox of jobs has holes: %s", sandbox_lacks()));
	if (!jobuser_wanted(daemon))
		(void)json_array_append_new(
			missing,
			json_sprintf("jobs run with the uid of dutd, kept apart by their sandbox "
				     "alone: %s",
				     geteuid() == 0 ? "job_users is not set"
						    : "only a dutd of root can give them users "
						      "of their own"));
	if (geteuid() == 0 && !daemon->board_user.uid)
		(void)json_array_append_new(
			missing, json_string("QEMU runs as root: there is no user " JOBUSER_BOARD));
	return missing;
}

struct sandbox_user jobuser_of_boards(void)
{
	const struct passwd *user = geteuid() == 0 ? getpwnam(JOBUSER_BOARD) : NULL;

	return (struct sandbox_user){
		.uid = user ? user->pw_uid : 0,
		.gid = user ? user->pw_gid : 0,
	};
}

/* The first user that no job has. */
static int find_free(const struct daemon *daemon, struct sandbox_user *ret, struct error *err)
{
	size_t count = daemon->config->n_job_users;
	const struct sandbox_user *users = daemon->config->job_users;
	free_ bool *taken = calloc(count, sizeof(*taken));

	if (!taken)
		return error_oom(err);
	LIST_FOREACH(link, &daemon->jobs) {
		const struct job *job = CONTAINER_OF(link, struct job, link);

		for (size_t i = 0; job->user.uid && i < count; i++)
			taken[i] = taken[i] || users[i].uid == job->user.uid;
	}
	for (size_t i = 0; i < count; i++) {
		if (!taken[i]) {
			*ret = users[i];
			return 0;
		}
	}
	return error_set(err, -EAGAIN,
			 "all %zu users of job_users have a job; try again when one ends", count);
}

int jobuser_take(const struct daemon *daemon, struct job *job, struct error *err)
{
	return jobuser_wanted(daemon) && !job->user.uid ? find_free(daemon, &job->user, err) : 0;
}

bool jobuser_is_left(const struct daemon *daemon)
{
	struct sandbox_user user;

	return !jobuser_wanted(daemon) || find_free(daemon, &user, NULL) >= 0;
}

int jobuser_hand_over(const struct sandbox_user *user, int job_dir_fd, struct error *err)
{
	/* dutd's own, which the job reads. The folder is sticky, so that it cannot replace them: a
	 * second attempt begins with what the first one was given. */
	static const char *const given[] = { "job.yml", "job.json" };
	gid_t group = user->gid;

	if (!user->uid)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(given); i++)
		if (fchownat(job_dir_fd, given[i], (uid_t)-1, group, AT_SYMLINK_NOFOLLOW) < 0)
			return error_errno(err, "cannot hand over %s", given[i]);
	if (fchown(job_dir_fd, (uid_t)-1, group) < 0 ||
	    fchmod(job_dir_fd, S_ISVTX | S_IRWXU | S_IRWXG) < 0)
		return error_errno(err, "cannot hand over the job's folder");
	return 0;
}

/* ---- the end ---- */

enum { MAX_TRIES = 20 }; /* at once; the next are a second later */

struct ending {
	struct daemon *daemon;
	uint64_t job;
	struct sandbox_user user;
	int jobs_fd; /* -1: the folder stays the user's */
	char *path;  /* dut-executor */
};

/* Waits for its end; what stops it does not stop us. */
static int await_ender(int pidfd, siginfo_t *ret, struct error *err)
{
	for (;;) {
		*ret = (siginfo_t){ 0 };
		if (waitid(P_PIDFD, (id_t)pidfd, ret, WEXITED | WSTOPPED) < 0) {
			if (errno != EINTR)
				return error_errno(err, "waitid");
		} else if (ret->si_code != CLD_STOPPED) {
			return 0;
		} else if (pidfd_send_signal(pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH) {
			return error_errno(err, "cannot kill what was stopped");
		}
	}
}

static int run_end_user(const struct ending *ending, struct error *err)
{
	char name[] = "dut-executor", option[] = "--end-user", user[32];
	char *const argv[] = { name, option, user, NULL };
	const struct spawn_config config = { .path = ending->path, .argv = argv };
	siginfo_t info;

	(void)snprintf(user, sizeof(user), "%u:%u", ending->user.uid, ending->user.gid);
	/* For a moment it is one of them, and they may send it the signal that it is about to send
	 * them. */
	for (unsigned tries = 0; tries < MAX_TRIES; tries++) {
		close_ int pidfd = -1;
		pid_t pid;
		int r = spawn(&pid, &pidfd, &config, err);

		if (r >= 0)
			r = await_ender(pidfd, &info, err);
		if (r < 0)
			return error_prefix(err, r, "cannot end the processes of user %u",
					    ending->user.uid);
		if (info.si_code == CLD_EXITED)
			break;
	}
	if (info.si_code != CLD_EXITED || info.si_status != 0)
		return error_set(err, -EIO, "cannot end the processes of user %u: %s %d",
				 ending->user.uid, info.si_code == CLD_EXITED ? "status" : "signal",
				 info.si_status);
	return 0;
}

/* The folder alone: nobody gets at what is in it through a folder of dutd's. */
static int take_folder_back(const struct ending *ending, struct error *err)
{
	close_ int fd = -1;
	char path[32];
	int r;

	(void)snprintf(path, sizeof(path), "%" PRIu64, ending->job);
	r = file_open_beneath(&fd, ending->jobs_fd, path, O_DIRECTORY | O_RDONLY, err);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	if (fchown(fd, geteuid(), getegid()) < 0 || fchmod(fd, S_IRWXU) < 0)
		return error_errno(err, "cannot take the job's folder back");
	return 0;
}

static int end_in_worker(void *data, struct error *err)
{
	const struct ending *ending = data;
	int r = run_end_user(ending, err);

	return r < 0 || ending->jobs_fd < 0 ? r : take_folder_back(ending, err);
}

static void ending_done(int r, const struct error *err, void *data)
{
	const struct ending *ending = data;
	struct job *job = daemon_find_job(ending->daemon, ending->job);

	if (!job)
		return;
	job->releasing = false;
	if (r < 0) {
		log_job(job->dut, job->id, LOG_ERR, "%s", err->text);
		daemon_save_later(ending->daemon);
	} else if (ending->jobs_fd >= 0) {
		job->user = (struct sandbox_user){ 0 };
		daemon_note(ending->daemon, job);
		dispatch_later(ending->daemon);
	}
}

static void ending_free(void *data)
{
	struct ending *ending = data;

	free(ending->path);
	free(ending);
}

static int end_user(struct daemon *daemon, const struct job *job, int jobs_fd, struct error *err)
{
	struct ending *ending = calloc(1, sizeof(*ending));
	int r;

	if (!ending)
		return error_oom(err);
	*ending = (struct ending){
		.daemon = daemon,
		.job = job->id,
		.user = job->user,
		.jobs_fd = jobs_fd,
	};
	if (asprintf(&ending->path, "%s/dut-executor", daemon->libexec_dir) < 0) {
		ending->path = NULL;
		r = error_oom(err);
	} else {
		r = worker_run(daemon->worker, end_in_worker, ending_done, ending_free, ending,
			       err);
	}
	if (r < 0)
		ending_free(ending);
	return r;
}

void jobuser_end_processes(struct daemon *daemon, const struct job *job)
{
	struct error err;

	if (job->user.uid && end_user(daemon, job, -1, &err) < 0)
		log_job(job->dut, job->id, LOG_ERR, "%s", err.text);
}

/* A record that a full disk did not take says that the user is still this job's. */
static bool is_given_on(const struct daemon *daemon, const struct job *job)
{
	LIST_FOREACH(link, &daemon->jobs) {
		const struct job *other = CONTAINER_OF(link, struct job, link);

		if (other != job && other->user.uid == job->user.uid && other->state != JOB_ENDED)
			return true;
	}
	return false;
}

void jobuser_release(struct daemon *daemon, struct job *job)
{
	struct error err;

	if (job->state != JOB_ENDED || !job->user.uid || job->releasing)
		return;
	if (is_given_on(daemon, job)) {
		job->user = (struct sandbox_user){ 0 };
		daemon_note(daemon, job);
		return;
	}
	job->releasing = end_user(daemon, job, daemon->jobs_fd, &err) >= 0;
	if (!job->releasing) {
		log_job(job->dut, job->id, LOG_ERR, "%s", err.text);
		daemon_save_later(daemon);
	}
}
