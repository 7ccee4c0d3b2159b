/* SPDX-License-Identifier: MIT */

/*
 * A dut-executor that was taken over: it confines itself as the real one does, with the same fds,
 * and then tries what a hostile job would. It writes what each attempt got to the file "attacks" in
 * the job's folder, a JSON object a line, and leaves. With "open" in the file "targets" it does not
 * confine itself: to see that the attempts are not in vain by themselves. With "pipe" it leaves a
 * process behind that writes to the console's pipe; with "console" it gives the next dutd one of
 * its own.
 *
 * "targets" lies beside the program and has a name and a path or a number a line.
 */

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/protocol.h"
#include "executor/assignment.h"
#include "executor/confine.h"

static struct {
	char name[32];
	char value[400];
} targets[64];

static size_t n_targets;
static int report_fd = -1;

/* ---- what it aims at, and what it tells ---- */

static void read_targets(void)
{
	free_ char *path = NULL;
	FILE *file;

	if (asprintf(&path, "%s/targets", getenv("DUT_LIBEXEC_DIR")) < 0)
		_exit(90);
	file = fopen(path, "re");
	if (!file)
		_exit(91);
	while (n_targets < ARRAY_SIZE(targets) &&
	       fscanf(file, "%31s %399s", targets[n_targets].name, targets[n_targets].value) == 2)
		n_targets++;
	(void)fclose(file);
}

static const char *target(const char *name)
{
	for (size_t i = 0; i < n_targets; i++)
		if (strcmp(targets[i].name, name) == 0)
			return targets[i].value;
	return NULL;
}

/* result is that of a system call. */
static void tell(const char *attack, long result)
{
	int code = errno;

	(void)dprintf(report_fd, "{\"attack\": \"%s\", \"result\": \"%s\"}\n", attack,
		      result >= 0 ? "done" : strerrorname_np(code));
}

#define TRY(attack, call) (errno = 0, tell(attack, (long)(call)))

/* ---- files ---- */

static void try_files(void)
{
	static const char *const anywhere[] = {
		"/etc/passwd",	      "/dev/null",  "/dev/mem", "/dev/tty",
		"/proc/1/environ",    "/proc/self", "/",	"/proc/self/fd/4",
		"/proc/self/cmdline", "/sys",
	};
	char attack[64];

	for (size_t i = 0; i < ARRAY_SIZE(anywhere); i++) {
		(void)snprintf(attack, sizeof(attack), "read %s", anywhere[i]);
		TRY(attack, open(anywhere[i], O_RDONLY | O_CLOEXEC | O_NOCTTY));
	}
	for (size_t i = 0; i < n_targets; i++) {
		if (targets[i].value[0] != '/')
			continue;
		(void)snprintf(attack, sizeof(attack), "read %s", targets[i].name);
		TRY(attack, open(targets[i].value, O_RDONLY | O_CLOEXEC));
		(void)snprintf(attack, sizeof(attack), "append to %s", targets[i].name);
		TRY(attack, open(targets[i].value, O_WRONLY | O_APPEND | O_CLOEXEC));
		(void)snprintf(attack, sizeof(attack), "change the mode of %s", targets[i].name);
		TRY(attack, fchmodat(AT_FDCWD, targets[i].value, 0700, 0));
	}
	TRY("open the folder above to all", fchmodat(EXECUTOR_FD_JOB_DIR, "..", 0755, 0));
	TRY("leave the folder", openat(EXECUTOR_FD_JOB_DIR, "..", O_RDONLY | O_CLOEXEC));
	TRY("create in /tmp", open("/tmp", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600));
	TRY("link out of the folder", symlinkat("/etc", EXECUTOR_FD_JOB_DIR, "link"));
	TRY("make a device", mknodat(EXECUTOR_FD_JOB_DIR, "device", S_IFCHR | 0600, makedev(1, 1)));
	TRY("make a fifo", mknodat(EXECUTOR_FD_JOB_DIR, "fifo", S_IFIFO | 0600, 0));
	TRY("make a socket", mknodat(EXECUTOR_FD_JOB_DIR, "socket", S_IFSOCK | 0600, 0));
}

/* ---- sockets ---- */

static int connect_to(int fd, const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *path = target(name);

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path ? path : "");
	return connect(fd, (const struct sockaddr *)&address, sizeof(address));
}

static ssize_t send_to(int fd, const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *path = target(name);

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path ? path : "");
	return sendto(fd, "x", 1, MSG_NOSIGNAL, (const struct sockaddr *)&address, sizeof(address));
}

static void try_sockets(void)
{
	int pair[2];
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	tell("a unix socket", fd);
	TRY("connect to another DUT's control.sock", connect_to(fd, "other_control"));
	TRY("connect job.sock to another DUT's",
	    connect_to(EXECUTOR_FD_JOB_SOCKET, "other_job_socket"));
	TRY("connect control.sock to another DUT's",
	    connect_to(EXECUTOR_FD_CONTROL_SOCKET, "other_control"));
	TRY("send to another DUT's control.sock",
	    send_to(EXECUTOR_FD_CONTROL_SOCKET, "other_control"));
	TRY("a TCP socket", socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	TRY("a UDP socket", socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	TRY("a netlink socket", socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0));
	TRY("a packet socket", socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
	TRY("a pair of sockets", socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
}

/* ---- other processes ---- */

static pid_t fork_away(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		/* It would hold the lock and the console on. */
		(void)setsid();
		for (;;)
			(void)pause();
	}
	if (pid > 0)
		(void)kill(pid, SIGKILL);
	return pid;
}

static void try_processes(void)
{
	const char *number = target("dutd");
	pid_t dutd = number ? atoi(number) : 0;
	struct rlimit none = { 0, 0 };
	int pidfd = -1;
	siginfo_t info = { .si_signo = 0, .si_code = SI_QUEUE };
	char byte;
	struct iovec here = { &byte, 1 }, there = { &byte, 1 };

	TRY("kill dutd", kill(dutd, 0));
	TRY("kill everybody", kill(-1, 0));
	TRY("kill a thread of dutd", syscall(SYS_tgkill, dutd, dutd, 0));
	TRY("queue a signal to dutd", syscall(SYS_rt_sigqueueinfo, dutd, 0, &info));
	pidfd = (int)syscall(SYS_pidfd_open, dutd, 0);
	tell("a pidfd of dutd", pidfd);
	TRY("signal dutd by a pidfd", syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0));
	TRY("take an fd of dutd", syscall(SYS_pidfd_getfd, pidfd, 0, 0));
	TRY("own signals of an fd for dutd", fcntl(EXECUTOR_FD_JOB_SOCKET, F_SETOWN, dutd));
	TRY("limit dutd", prlimit(dutd, RLIMIT_NICE, &none, NULL));
	TRY("renice dutd", setpriority(PRIO_PROCESS, (id_t)dutd, 19));
	TRY("move dutd to a processor", sched_setaffinity(dutd, 0, NULL));
	TRY("trace dutd", ptrace(PTRACE_SEIZE, dutd, NULL, NULL));
	TRY("read dutd's memory", process_vm_readv(dutd, &here, 1, &there, 1, 0));
	TRY("fork", fork_away());
	TRY("a session", setsid());
	TRY("run a program", execl("/bin/true", "true", NULL));
	TRY("run an fd", fexecve(EXECUTOR_FD_LOCK, (char *[]){ NULL }, (char *[]){ NULL }));
}

/* ---- the kernel ---- */

static void try_kernel(void)
{
	TRY("become root", setuid(0));
	TRY("mount", mount("none", "/tmp", "tmpfs", 0, NULL));
	TRY("change the root", chroot("/"));
	TRY("a user namespace", unshare(CLONE_NEWUSER));
	TRY("a key", syscall(SYS_add_key, "user", "dut", "x", 1, -3));
	TRY("a bpf map", syscall(SYS_bpf, 0, NULL, 0));
	TRY("a perf event", syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0));
	TRY("an io_uring", syscall(SYS_io_uring_setup, 1, NULL));
	TRY("a userfaultfd", syscall(SYS_userfaultfd, 0));
	TRY("a file in memory", memfd_create("dut", MFD_CLOEXEC));
	TRY("type on the terminal", ioctl(STDERR_FILENO, TIOCSTI, "x"));
	TRY("set the host's name", sethostname("dut", 3));
	TRY("have more of a limit", setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 4096, 1048576 }));
}

/* ---- its limits ---- */

static long fill_fds(void)
{
	int fds[2000], count = 0, code;

	while (count < (int)ARRAY_SIZE(fds) && (fds[count] = dup(EXECUTOR_FD_JOB_DIR)) >= 0)
		count++;
	code = errno;
	for (int i = 0; i < count; i++)
		(void)close(fds[i]);
	errno = code;
	return count == (int)ARRAY_SIZE(fds) ? 0 : -1;
}

static long grow_file(void)
{
	close_ int fd = openat(EXECUTOR_FD_JOB_DIR, "long", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	(void)signal(SIGXFSZ, SIG_IGN);
	return fd < 0 ? 0 : pwrite(fd, "x", 1, (off_t)1 << 40);
}

static void try_limits(void)
{
	void *memory;

	TRY("2,000 fds", fill_fds());
	TRY("a file of a terabyte", grow_file());
	errno = 0;
	memory = mmap(NULL, (size_t)2 << 30, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	tell("2 GiB of memory", memory == MAP_FAILED ? -1 : 0);
}

/* What stays with an open file when its job is over, or is in others' way meanwhile. */
static void try_what_is_shared(void)
{
	close_ int fd = openat(EXECUTOR_FD_JOB_DIR, "leased", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	const int one = 1;

	TRY("a lease on a file", fcntl(fd, F_SETLEASE, F_WRLCK));
	TRY("an option of a socket",
	    setsockopt(EXECUTOR_FD_JOB_SOCKET, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof(one)));
	TRY("a hole in a log", fallocate(STDERR_FILENO, 3, 0, 1 << 20));
	/* Whoever has it next believes that the job is over. */
	TRY("unlock the DUT", flock(EXECUTOR_FD_LOCK, LOCK_UN));
	TRY("unlock the DUT's pid",
	    fcntl(EXECUTOR_FD_LOCK, F_SETLK, &(struct flock){ .l_type = F_UNLCK, .l_start = 1 }));
	TRY("close the DUT's lock", close(EXECUTOR_FD_LOCK));
}

static void try_what_is_allowed(void)
{
	close_ int fd = openat(EXECUTOR_FD_JOB_DIR, "own", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	tell("allowed: create a file", fd);
	TRY("allowed: write it", write(fd, "x", 1));
	TRY("allowed: rename it",
	    renameat(EXECUTOR_FD_JOB_DIR, "own", EXECUTOR_FD_JOB_DIR, "mine"));
	TRY("allowed: read job.yml", openat(EXECUTOR_FD_JOB_DIR, "job.yml", O_RDONLY | O_CLOEXEC));
	TRY("replace job.json", unlinkat(EXECUTOR_FD_JOB_DIR, "job.json", 0));
}

/* ---- what stays behind ---- */

static json_t *await_packet(int fd, const char *type, int fds[static PACKET_FDS_MAX])
{
	for (;;) {
		struct pollfd wait = { .fd = fd, .events = POLLIN };
		json_t *packet = NULL;

		if (poll(&wait, 1, -1) != 1 || packet_receive(fd, &packet, fds, NULL) != 1)
			_exit(96);
		if (strcmp(json_string_value(json_object_get(packet, "t")), type) == 0)
			return packet;
		json_decref(packet);
	}
}

static int accept_dutd(void)
{
	(void)fcntl(EXECUTOR_FD_CONTROL_SOCKET, F_SETFL, 0);
	return accept4(EXECUTOR_FD_CONTROL_SOCKET, NULL, NULL, SOCK_CLOEXEC);
}

/* Says hello, with a console of its own if it has one. */
static void say_hello(int control, const struct assignment *assignment, const int *fds)
{
	json_t *console = json_pack("{s:s, s:i, s:i, s:i, s:n}", "name", "main", "gen", 7, "base",
				    0, "offset", 0, "codec");
	int received[PACKET_FDS_MAX];

	json_decref(await_packet(control, "hello", received));
	if (packet_send(control,
			json_pack("{s:s, s:i, s:s, s:I, s:s, s:s, s:o}", "t", "hello", "v",
				  PROTOCOL_VERSION, "job", assignment->id_text, "attempt",
				  (json_int_t)assignment->attempt, "nonce", assignment->nonce,
				  "phase", "running", "console",
				  fds ? json_incref(console) : json_null()),
			fds, fds ? PACKET_FDS_MAX : 0, NULL) < 0)
		_exit(98);
	json_decref(console);
}

/* A child that writes into fd as long as anybody reads. */
static void leave_a_writer(int fd, const int *others, unsigned n_others)
{
	static const char forged[] = "forged forged forged\n";

	(void)fcntl(fd, F_SETFL, 0);
	if (fork() != 0)
		return;
	for (int own = EXECUTOR_FD_JOB_SOCKET; own < EXECUTOR_FD_END; own++)
		(void)close(own);
	for (unsigned i = 0; i < n_others; i++)
		(void)close(others[i]);
	(void)setsid();
	while (send(fd, forged, strlen(forged), MSG_NOSIGNAL) > 0 ||
	       (errno == ENOTSOCK && write(fd, forged, strlen(forged)) > 0))
		;
	_exit(0);
}

/* Has the console lent, and is gone; with the pipe's end in a child. */
static void keep_the_pipe(const struct assignment *assignment)
{
	int fds[PACKET_FDS_MAX], control = accept_dutd();

	say_hello(control, assignment, NULL);
	json_decref(await_packet(control, "lend", fds));
	leave_a_writer(fds[2], (const int[]){ control, fds[0], fds[1], fds[3] }, 4);
}

/* Gives the next dutd a console of its own, and is gone. */
static void forge_a_console(const struct assignment *assignment)
{
	int fds[PACKET_FDS_MAX], none[PACKET_FDS_MAX], console[2], control = accept_dutd();
	json_t *packet;

	say_hello(control, assignment, NULL);
	json_decref(await_packet(control, "lend", fds));
	(void)close(openat(EXECUTOR_FD_JOB_DIR, "started", O_CREAT | O_CLOEXEC, 0600));
	while (packet_receive(control, &packet, none, NULL) != 0)
		(void)poll(&(struct pollfd){ .fd = control, .events = POLLIN }, 1, -1);
	(void)close(control);
	control = accept_dutd();
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, console) < 0)
		_exit(99);
	fds[0] = console[0];
	say_hello(control, assignment, fds);
	leave_a_writer(console[1], (const int[]){ control, console[0] }, 2);
	/* What dutd does not know it answers: it has read all before. */
	(void)packet_send(control, json_pack("{s:s}", "t", "anything"), NULL, 0, NULL);
	(void)poll(&(struct pollfd){ .fd = control, .events = POLLIN }, 1, -1);
}

/* Talks without end, and is not understood. */
static void chatter(const struct assignment *assignment)
{
	int received[PACKET_FDS_MAX], control = accept_dutd();

	(void)close(openat(EXECUTOR_FD_JOB_DIR, "started", O_CREAT | O_CLOEXEC, 0600));
	json_decref(await_packet(control, "hello", received));
	for (unsigned i = 0; i < 300; i++) {
		if (send(control, "x", 1, MSG_NOSIGNAL) < 0 ||
		    packet_send(control,
				json_pack("{s:s, s:i, s:s, s:I, s:s, s:n}", "t", "hello", "v",
					  PROTOCOL_VERSION, "job", assignment->id_text, "attempt",
					  (json_int_t)assignment->attempt, "nonce",
					  assignment->nonce, "console"),
				NULL, 0, NULL) == -EAGAIN)
			(void)poll(&(struct pollfd){ .fd = control, .events = POLLOUT }, 1, -1);
	}
	(void)packet_send(control, json_pack("{s:s}", "t", "anything"), NULL, 0, NULL);
	json_decref(await_packet(control, "unknown", received));
}

static void stay_behind(void (*how)(const struct assignment *assignment))
{
	const struct flock lock = { .l_type = F_WRLCK, .l_start = 1, .l_len = 1 };
	struct assignment *assignment = NULL;

	if (assignment_load(&assignment, EXECUTOR_FD_JOB_DIR, NULL) < 0 ||
	    fcntl(EXECUTOR_FD_LOCK, F_SETLK, &lock) < 0 ||
	    listen(EXECUTOR_FD_CONTROL_SOCKET, 1) < 0 || write(EXECUTOR_FD_READY, "R", 1) != 1)
		_exit(97);
	(void)close(EXECUTOR_FD_READY);
	how(assignment);
	_exit(0);
}

/* ---- as the real one ---- */

static int confine(const struct sandbox_user *user, struct error *err)
{
	struct assignment *assignment = NULL;
	int r = confine_start(user, err);

	if (r >= 0)
		r = assignment_load(&assignment, EXECUTOR_FD_JOB_DIR, err);
	if (r >= 0)
		r = confine_files(assignment, err);
	if (r >= 0)
		r = confine_enter(EXECUTOR_FD_JOB_DIR, err);
	(void)assignment_free(assignment);
	return r;
}

int main(int argc, char **argv)
{
	struct sandbox_user user;
	bool has_user =
		argc == 3 && strcmp(argv[1], "--user") == 0 && confine_parse_user(argv[2], &user);
	struct error err;

	/* Anything but a job is the real one's: the check of the job file, the end of a user. */
	if (argc > 1 && !has_user) {
		free_ char *real = NULL;

		if (asprintf(&real, "%s/real-executor", getenv("DUT_LIBEXEC_DIR")) < 0)
			return 92;
		(void)execv(real, argv);
		return 93;
	}
	read_targets();
	for (int fd = EXECUTOR_FD_JOB_SOCKET; fd < EXECUTOR_FD_END; fd++)
		(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
	if (target("pipe"))
		stay_behind(keep_the_pipe);
	if (target("console"))
		stay_behind(forge_a_console);
	if (target("chatter"))
		stay_behind(chatter);
	if (!target("open") && confine(has_user ? &user : NULL, &err) < 0) {
		(void)fprintf(stderr, "attacker: %s\n", err.text);
		return 94;
	}
	report_fd = openat(EXECUTOR_FD_JOB_DIR, "attacks", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (report_fd < 0)
		return 95;
	try_what_is_allowed();
	try_files();
	try_sockets();
	/* The rest would do harm. */
	if (target("open"))
		return 0;
	try_processes();
	try_limits();
	try_kernel();
	try_what_is_shared();
	return 0;
}
