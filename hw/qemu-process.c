/* SPDX-License-Identifier: MIT */
#include "hw/qemu-process.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/spawn.h"
#include "base/text.h"
#include "hw/qemu-command.h"

/*
 * Which process holds a lock, the kernel does not tell: /proc/locks names who called flock(), a
 * dutd that may be long dead. Two hints lead to the holder. QEMU calls listen() itself on the
 * sockets that it inherits, so that the peer credentials of qmp.sock name it; and it writes
 * qemu.pid, which stays behind when it is killed and may name a stranger by then. Neither is
 * believed before the process has the lock file open as the fd at which it inherited it, and still
 * lives after that was seen.
 */

enum { STDERR_LINE = 160, LAST_WORDS = 200 };

struct stderr_line {
	char text[STDERR_LINE];
	size_t length;
};

struct qemu_process {
	int pidfd;
	sd_event_source *source;
	int stderr_fd; /* -1: of one that was adopted */
	sd_event_source *stderr_source;
	struct stderr_line present, kept;
	char last_words[LAST_WORDS];
	qemu_gone_fn gone;
	void *data;
};

int qemu_process_is_alive(const struct power_config *config, struct error *err)
{
	close_ int fd = -1;
	int r = file_lock(&fd, config->state_dir_fd, "qemu.lock", err);

	return r == -EWOULDBLOCK ? 1 : r < 0 ? r : 0;
}

struct qemu_process *qemu_process_free(struct qemu_process *process)
{
	if (!process)
		return NULL;
	sd_event_source_disable_unref(process->source);
	sd_event_source_disable_unref(process->stderr_source);
	(void)close_fd(process->pidfd);
	(void)close_fd(process->stderr_fd);
	free(process);
	return NULL;
}

CLEANUP_DEFINE(struct qemu_process *, qemu_process_free)

void qemu_process_kill(struct qemu_process *process)
{
	(void)pidfd_send_signal(process->pidfd, SIGKILL, NULL, 0);
}

/* ---- its last words ---- */

static bool is_complaint(const struct stderr_line *line)
{
	return line->length >= 4 && memcmp(line->text, "qemu", 4) == 0;
}

/* The last line is kept; but advice, which QEMU writes after some complaints, replaces none. */
static void end_line(struct qemu_process *process)
{
	if (process->present.length > 0 &&
	    (is_complaint(&process->present) || !is_complaint(&process->kept)))
		process->kept = process->present;
	process->present.length = 0;
}

static void keep_byte(struct qemu_process *process, char byte)
{
	struct stderr_line *line = &process->present;

	if (byte == '\n' || byte == '\r')
		end_line(process);
	else if (line->length < sizeof(line->text))
		line->text[line->length++] = byte;
}

/* At most a pipe full a call: a QEMU that never stops talking delays nobody. */
static void read_stderr(struct qemu_process *process)
{
	char buffer[4096];

	for (unsigned i = 0; i < 16 && process->stderr_fd >= 0; i++) {
		ssize_t n = read(process->stderr_fd, buffer, sizeof(buffer));

		if (n <= 0)
			break;
		for (ssize_t j = 0; j < n; j++)
			keep_byte(process, buffer[j]);
	}
}

static int on_stderr(sd_event_source *source, int fd, uint32_t events, void *data)
{
	(void)fd;
	if (events & EPOLLIN)
		read_stderr(data);
	else
		(void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
	return 0;
}

const char *qemu_process_last_words(struct qemu_process *process)
{
	end_line(process);
	return text_escape(process->last_words, sizeof(process->last_words), process->kept.text,
			   process->kept.length);
}

/* ---- its end ---- */

static int on_gone(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct qemu_process *process = data;

	(void)events;
	(void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
	/* A child of ours, also one that another object has started, is reaped here; of another's
	 * child this says ECHILD. */
	(void)waitid(P_PIDFD, (id_t)fd, NULL, WEXITED | WNOHANG);
	read_stderr(process);
	process->gone(process->data);
	return 0;
}

static struct qemu_process *process_new(qemu_gone_fn gone, void *data)
{
	struct qemu_process *process = calloc(1, sizeof(*process));

	if (!process)
		return NULL;
	process->pidfd = process->stderr_fd = -1;
	process->gone = gone;
	process->data = data;
	return process;
}

static int watch(struct qemu_process *process, sd_event *event, struct error *err)
{
	int r = sd_event_add_io(event, &process->source, process->pidfd, EPOLLIN, on_gone, process);

	if (r >= 0 && process->stderr_fd >= 0)
		r = sd_event_add_io(event, &process->stderr_source, process->stderr_fd, EPOLLIN,
				    on_stderr, process);
	if (r < 0)
		return error_code(err, r, "cannot watch QEMU");
	(void)sd_event_source_set_description(process->source, "qemu");
	return 0;
}

/* ---- start ---- */

static int make_sockets(int *ret_qmp_fd, int *ret_console_fd, const struct power_config *config,
			struct error *err)
{
	int r = file_listen_socket(ret_qmp_fd, config->runtime_dir_fd, "qmp.sock", SOCK_STREAM,
				   0600, err);

	return r < 0 ? r
		     : file_listen_socket(ret_console_fd, config->runtime_dir_fd, "console.sock",
					  SOCK_STREAM, 0600, err);
}

static int spawn_qemu(pid_t *ret_pid, int *ret_pidfd, const struct power_config *config,
		      const struct power_deploy *deploy, int lock_fd, int stderr_fd,
		      struct error *err)
{
	static const struct power_deploy none = { .kernel_fd = -1,
						  .initramfs_fd = -1,
						  .dtb_fd = -1 };
	cleanup_(qemu_command_done) struct qemu_command command = { 0 };
	close_ int qmp_fd = -1, console_fd = -1;
	int r;

	r = qemu_command_make(&command, config, deploy, err);
	if (r >= 0)
		r = make_sockets(&qmp_fd, &console_fd, config, err);
	if (r < 0)
		return r;
	deploy = deploy ? deploy : &none;

	const struct spawn_fd all[] = {
		{ stderr_fd, STDOUT_FILENO },
		{ stderr_fd, STDERR_FILENO },
		{ lock_fd, QEMU_FD_LOCK },
		{ qmp_fd, QEMU_FD_QMP },
		{ console_fd, QEMU_FD_CONSOLE },
		{ deploy->kernel_fd, QEMU_FD_KERNEL },
		{ deploy->initramfs_fd, QEMU_FD_INITRAMFS },
		{ deploy->dtb_fd, QEMU_FD_DTB },
	};
	struct spawn_fd fds[ARRAY_SIZE(all)];
	struct spawn_config spawn_config = {
		.path = command.path, .argv = command.argv, .fds = fds, .new_session = true
	};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (all[i].from >= 0)
			fds[spawn_config.n_fds++] = all[i];
	return spawn(ret_pid, ret_pidfd, &spawn_config, err);
}

int qemu_process_start(struct qemu_process **ret, const struct power_config *config,
		       const struct power_deploy *deploy, qemu_gone_fn gone, void *data,
		       struct error *err)
{
	cleanup_(qemu_process_freep) struct qemu_process *process = process_new(gone, data);
	close_ int lock_fd = -1, stderr_fd = -1;
	int pipes[2], r;
	pid_t pid;

	if (!process)
		return error_oom(err);
	r = file_lock(&lock_fd, config->state_dir_fd, "qemu.lock", err);
	if (r < 0)
		return r;
	if (pipe2(pipes, O_CLOEXEC) < 0)
		return error_errno(err, "pipe");
	process->stderr_fd = pipes[0];
	stderr_fd = pipes[1];
	if (fcntl(process->stderr_fd, F_SETFL, O_NONBLOCK) < 0)
		return error_errno(err, "pipe");
	r = spawn_qemu(&pid, &process->pidfd, config, deploy, lock_fd, stderr_fd, err);
	if (r < 0)
		return r;
	r = watch(process, config->event, err);
	if (r < 0) {
		qemu_process_kill(process);
		return r;
	}
	if (config->started)
		config->started(pid, config->started_data);
	*ret = take_ptr(process);
	return 0;
}

/* ---- adoption ---- */

/* Another user's process does not let us look into it. That user is QEMU's alone, and its fd of
 * qmp.sock was made by a dutd. */
static bool is_of_the_user(const struct power_config *config, pid_t pid)
{
	struct stat process;
	char path[32];

	(void)snprintf(path, sizeof(path), "/proc/%d", (int)pid);
	return config->user && stat(path, &process) == 0 && process.st_uid == config->user_uid;
}

/* Whether this process has the board's lock file open where QEMU inherits it. */
static bool has_the_lock(const struct power_config *config, pid_t pid)
{
	struct stat lock, open_file;
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, QEMU_FD_LOCK);
	if (pid == getpid())
		return false;
	if (stat(path, &open_file) < 0)
		return errno == EACCES && is_of_the_user(config, pid);
	return fstatat(config->state_dir_fd, "qemu.lock", &lock, AT_SYMLINK_NOFOLLOW) == 0 &&
	       lock.st_dev == open_file.st_dev && lock.st_ino == open_file.st_ino;
}

/* The pidfd of this process when it is the board's, else -1. */
static int open_holder(const struct power_config *config, pid_t pid)
{
	close_ int pidfd = pid > 0 ? pidfd_open(pid, 0) : -1;
	struct pollfd ended = { .fd = pidfd, .events = POLLIN };

	/* In this order: a number that is used again after the look cannot pass. */
	if (pidfd < 0 || !has_the_lock(config, pid) || poll(&ended, 1, 0) != 0)
		return -1;
	return take_fd(&pidfd);
}

static pid_t pid_of_listener(const struct power_config *config)
{
	struct ucred credentials = { 0 };
	socklen_t size = sizeof(credentials);
	close_ int fd = -1;

	if (file_connect_socket(&fd, config->runtime_dir_fd, "qmp.sock", SOCK_STREAM, NULL) < 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
		return 0;
	return credentials.pid;
}

static pid_t pid_of_file(const struct power_config *config)
{
	free_ char *text = NULL;
	uint64_t pid = 0;
	size_t length;

	if (file_read_beneath(&text, &length, config->runtime_dir_fd, "qemu.pid", 32, NULL) < 0)
		return 0;
	text[strcspn(text, "\n")] = '\0';
	return text_to_uint64(&pid, text, 1, INT32_MAX, NULL) < 0 ? 0 : (pid_t)pid;
}

int qemu_process_adopt(struct qemu_process **ret, const struct power_config *config,
		       qemu_gone_fn gone, void *data, struct error *err)
{
	cleanup_(qemu_process_freep) struct qemu_process *process = process_new(gone, data);
	int r;

	if (!process)
		return error_oom(err);
	process->pidfd = open_holder(config, pid_of_listener(config));
	if (process->pidfd < 0 && !config->user)
		process->pidfd = open_holder(config, pid_of_file(config));
	if (process->pidfd < 0)
		return error_set(err, -ESRCH,
				 "something holds qemu.lock, but neither qmp.sock nor qemu.pid "
				 "leads to it");
	r = watch(process, config->event, err);
	if (r < 0)
		return r;
	*ret = take_ptr(process);
	return 0;
}
