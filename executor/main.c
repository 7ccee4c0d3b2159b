/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/protocol.h"
#include "base/sandbox.h"
#include "executor/assignment.h"
#include "executor/confine.h"
#include "executor/description.h"
#include "executor/fetcher.h"
#include "executor/session.h"

/*
 * dut-executor holds one job on one board. dutd starts it with fixed fds and reads one byte, or why
 * there is none, from the ready pipe. The order here matters: close-on-exec, limits and the user
 * first, then the record lock, dutd's own job.json and dut-helper, and only then, in the sandbox,
 * anything that a submitter wrote.
 */

enum {
	JOB_FILE_MAX = 16 * 1024 * 1024,
	LOCK_BYTE = 1,
	KEPT_HEAP = 1 << 20, /* bytes */
	CMDLINE_MAX = 8192,  /* fits into a control packet, also when JSON escapes every byte */
};

struct executor {
	sd_event *event;
	struct assignment *assignment;
	struct description *description;
	struct fetcher *fetcher;
	struct session *session;
	char libexec_dir[PATH_MAX];
};

static void executor_done(struct executor *executor)
{
	executor->session = session_free(executor->session);
	executor->fetcher = fetcher_free(executor->fetcher);
	executor->description = description_free(executor->description);
	executor->assignment = assignment_free(executor->assignment);
	executor->event = sd_event_unref(executor->event);
}

/* A payload that inherited one of these would keep sockets and the lock alive after our death. */
static int mark_fds(struct error *err)
{
	for (int fd = EXECUTOR_FD_JOB_SOCKET; fd < EXECUTOR_FD_END; fd++)
		if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 && fd != EXECUTOR_FD_TARBALL)
			return error_errno(err, "fd %d is missing", fd);
	/* An accept() that blocks, because a client left at once, would stop the whole job. */
	if (fcntl(EXECUTOR_FD_JOB_SOCKET, F_SETFL, O_NONBLOCK) < 0 ||
	    fcntl(EXECUTOR_FD_CONTROL_SOCKET, F_SETFL, O_NONBLOCK) < 0)
		return error_errno(err, "cannot set the sockets");
	return 0;
}

/*
 * Besides the flock that we inherited, a record lock on one byte: F_GETLK of it tells anybody our
 * pid, which the kernel vouches for. It would be gone with the close of any other fd of that file.
 */
static int lock_record(struct error *err)
{
	struct flock lock = {
		.l_type = F_WRLCK,
		.l_whence = SEEK_SET,
		.l_start = LOCK_BYTE,
		.l_len = 1,
	};

	if (fcntl(EXECUTOR_FD_LOCK, F_SETLK, &lock) < 0)
		return error_errno(err, "cannot take the record lock of the DUT");
	return 0;
}

/* Where dut-helper and dut-fetch are: beside this program, unless the environment says otherwise.
 */
static int find_libexec(struct executor *executor, struct error *err)
{
	const char *given = getenv("DUT_LIBEXEC_DIR");
	ssize_t length;
	char *slash;

	if (given && given[0] == '/') {
		if ((size_t)snprintf(executor->libexec_dir, sizeof(executor->libexec_dir), "%s",
				     given) >= sizeof(executor->libexec_dir))
			return error_set(err, -ENAMETOOLONG, "DUT_LIBEXEC_DIR is too long");
		return 0;
	}
	length = readlink("/proc/self/exe", executor->libexec_dir,
			  sizeof(executor->libexec_dir) - 1);
	if (length < 0)
		return error_errno(err, "cannot find the folder of this program");
	executor->libexec_dir[length] = '\0';
	slash = strrchr(executor->libexec_dir, '/');
	if (slash)
		*slash = '\0';
	return 0;
}

static int start_helper(struct executor *executor, struct error *err)
{
	const struct fetcher_config config = {
		.event = executor->event,
		.libexec_dir = executor->libexec_dir,
		.file_roots = executor->assignment->file_roots,
		.min_free = executor->assignment->min_free,
		.job_dir_fd = EXECUTOR_FD_JOB_DIR,
	};
	int r = find_libexec(executor, err);

	return r < 0 ? r : fetcher_new(&executor->fetcher, &config, err);
}

/* The first problems with the job file, as many as fit. */
static int report_problems(const struct problems *problems, int r, struct error *err)
{
	char text[sizeof(err->text)] = "out of memory";
	size_t used = 0;

	for (size_t i = 0; i < problems->count && used < sizeof(text) - 1; i++) {
		const struct problem *problem = &problems->items[i];
		int n = snprintf(text + used, sizeof(text) - used, "%sjob.yml:%u:%u: %s",
				 i ? "; " : "", problem->line, problem->column, problem->text);

		if (n < 0 || (size_t)n >= sizeof(text) - used)
			break;
		used += (size_t)n;
	}
	return error_set(err, r, "%s", text);
}

/* What cannot be asked for must not begin. */
static int check_cmdlines(const struct description *description, struct error *err)
{
	const char *const cmdlines[] = { description->start.cmdline, description->next.cmdline };

	for (size_t i = 0; i < ARRAY_SIZE(cmdlines); i++)
		if (cmdlines[i] && strlen(cmdlines[i]) > CMDLINE_MAX)
			return error_set(err, -E2BIG,
					 "job.yml: a kernel command line is longer than %d bytes",
					 CMDLINE_MAX);
	return 0;
}

static int read_description(struct executor *executor, struct error *err)
{
	cleanup_(problems_done) struct problems problems = { 0 };
	free_ char *text = NULL;
	size_t length;
	json_t *facts;
	int r;

	r = file_read_beneath(&text, &length, EXECUTOR_FD_JOB_DIR, "job.yml", JOB_FILE_MAX, err);
	if (r < 0)
		return r;
	facts = assignment_facts(executor->assignment);
	if (!facts)
		return error_oom(err);
	r = description_parse(&executor->description, text, length, facts, &problems);
	json_decref(facts);
	if (r < 0)
		return report_problems(&problems, r, err);
	return check_cmdlines(executor->description, err);
}

static bool has_tarball(void)
{
	struct stat status;

	return fstat(EXECUTOR_FD_TARBALL, &status) == 0;
}

static int prepare(struct executor *executor, struct error *err)
{
	struct session_config config = {
		.job_socket_fd = EXECUTOR_FD_JOB_SOCKET,
		.control_socket_fd = EXECUTOR_FD_CONTROL_SOCKET,
		.dir_fd = EXECUTOR_FD_JOB_DIR,
		.tarball_fd = has_tarball() ? EXECUTOR_FD_TARBALL : -1,
	};
	int r;

	r = lock_record(err);
	if (r < 0)
		return r;
	r = assignment_load(&executor->assignment, EXECUTOR_FD_JOB_DIR, err);
	if (r < 0)
		return r;
	r = confine_files(executor->assignment, err);
	if (r < 0)
		return r;
	r = sd_event_new(&executor->event);
	if (r < 0)
		return error_code(err, r, "cannot make the event loop");
	r = start_helper(executor, err);
	if (r < 0)
		return r;
	r = confine_enter(EXECUTOR_FD_JOB_DIR, err);
	if (r < 0)
		return r;
	r = read_description(executor, err);
	if (r < 0)
		return r;
	config.event = executor->event;
	config.assignment = executor->assignment;
	config.description = executor->description;
	config.fetcher = executor->fetcher;
	return session_new(&executor->session, &config, err);
}

/* Tells dutd that we listen, or why not, and closes the pipe. */
static void tell_ready(const char *word)
{
	size_t length = strlen(word);

	if (length > READY_REASON_MAX)
		length = READY_REASON_MAX;
	if (file_write_all(EXECUTOR_FD_READY, word, length, NULL) < 0)
		log_msg(LOG_WARNING, "dutd does not wait for us");
	(void)close(EXECUTOR_FD_READY);
}

static int block_signals(struct error *err)
{
	sigset_t signals;

	(void)sigemptyset(&signals);
	(void)sigaddset(&signals, SIGCHLD);
	(void)sigaddset(&signals, SIGTERM);
	(void)sigaddset(&signals, SIGINT);
	(void)sigaddset(&signals, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &signals, NULL) < 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR ||
	    signal(SIGXFSZ, SIG_IGN) == SIG_ERR)
		return error_errno(err, "cannot set signals");
	return 0;
}

static int run(const struct sandbox_user *user)
{
	cleanup_(executor_done) struct executor executor = { 0 };
	struct error err;
	int r;

	/* What a client's connection takes goes to the next one, and not to the kernel and back. */
	(void)mallopt(M_TRIM_THRESHOLD, KEPT_HEAP);
	r = mark_fds(&err);
	if (r < 0) {
		(void)fprintf(stderr, "dut-executor: %s; dutd starts this program, people do not\n",
			      err.text);
		return EX_USAGE;
	}
	r = confine_start(user, &err);
	if (r >= 0)
		r = block_signals(&err);
	if (r >= 0)
		r = prepare(&executor, &err);
	if (r < 0) {
		log_msg(LOG_ERR, "the executor cannot start: %s", err.text);
		tell_ready(err.text);
		return EX_SOFTWARE;
	}
	tell_ready("R");
	r = sd_event_loop(executor.event);
	return r < 0 ? EX_IOERR : EX_OK;
}

static int check_job_file(void)
{
	struct error err;

	if (confine_check(&err) < 0) {
		(void)fprintf(stderr, "dut-executor: %s\n", err.text);
		return EX_SOFTWARE;
	}
	return validate_main();
}

/*
 * Ends whatever runs as this user, dutd having given it to one job alone: kill(2) with -1 is done
 * for all of them in one go, so that none can fork away. None of them runs on after it.
 */
static int end_user(const struct sandbox_user *user)
{
	struct error err;

	if (sandbox_drop(user, &err) < 0) {
		(void)fprintf(stderr, "dut-executor: %s\n", err.text);
		return EX_NOPERM;
	}
	return kill(-1, SIGKILL) < 0 && errno != ESRCH ? EX_OSERR : EX_OK;
}

int main(int argc, char **argv)
{
	struct sandbox_user user;

	if (argc == 1)
		return run(NULL);
	if (argc == 3 && strcmp(argv[1], "--user") == 0 && confine_parse_user(argv[2], &user))
		return run(&user);
	if (argc == 3 && strcmp(argv[1], "--end-user") == 0 && confine_parse_user(argv[2], &user))
		return end_user(&user);
	if (argc == 2 && strcmp(argv[1], "--validate") == 0)
		return check_job_file();
	if (argc == 2 && strcmp(argv[1], "--version") == 0)
		return printf("dut-executor %s\n", DUT_VERSION) < 0 ? EX_IOERR : EX_OK;
	(void)fprintf(stderr, "usage: dut-executor [--user UID:GID | --end-user UID:GID | "
			      "--validate | --version]\n");
	return EX_USAGE;
}
