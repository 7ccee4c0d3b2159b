/* SPDX-License-Identifier: MIT */
#include "tests/support/child.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/folder.h"
#include "base/sandbox.h"
#include "executor/fetchbox.h"

enum { MAX_BYTES = 1000 };

static char root[] = "/tmp/test-fetchbox-XXXXXX";
static char inside[sizeof(root) + 8], outside[sizeof(root) + 8];
static int root_fd = -1, folder_fd = -1, out_fd = -1;

static int make_folders(void **state)
{
	(void)state;
	(void)signal(SIGXFSZ, SIG_IGN);
	if (!mkdtemp(root))
		return -1;
	(void)snprintf(inside, sizeof(inside), "%s/in", root);
	(void)snprintf(outside, sizeof(outside), "%s/out", root);
	root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (mkdir(inside, 0700) < 0)
		return -1;
	folder_fd = open(inside, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	out_fd = open(outside, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	return folder_fd < 0 || out_fd < 0 ? -1 : 0;
}

static int remove_folders(void **state)
{
	(void)state;
	(void)folder_clear(root_fd, NULL);
	folder_fd = close_fd(folder_fd);
	out_fd = close_fd(out_fd);
	root_fd = close_fd(root_fd);
	return rmdir(root);
}

static int open_to_read(const char *path)
{
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* What none of them may. */
static void try_to_break_out(void)
{
	pid_t parent = getppid();

	EXPECT_FAILS(open_to_read("/etc/passwd"), EACCES);
	EXPECT_FAILS(open_to_read("/proc/self/status"), EACCES);
	EXPECT_FAILS(open("/dev/null", O_RDWR | O_CLOEXEC), EACCES);
	EXPECT_FAILS(open(outside, O_WRONLY | O_CLOEXEC), EACCES);
	EXPECT_FAILS(open("/tmp/x", O_WRONLY | O_CREAT | O_CLOEXEC, 0600), EACCES);
	EXPECT_FAILS(mkfifoat(folder_fd, "fifo", 0600), EPERM);
	EXPECT_FAILS(chmod(outside, 0777), EPERM);
	EXPECT_FAILS(fchmod(folder_fd, 07777), EPERM);
	EXPECT_FAILS(fchown(folder_fd, 1, 1), EPERM);
	EXPECT_FAILS(ptrace(PTRACE_ATTACH, parent, NULL, NULL), EPERM);
	EXPECT_FAILS(mount("x", "/tmp", "tmpfs", 0, NULL), EPERM);
	EXPECT_FAILS(unshare(CLONE_NEWUSER), EPERM);
	EXPECT_FAILS(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), EPERM);
	EXPECT_FAILS(setuid(0), EPERM);
}

/* What is for dut-helper alone. */
static void try_other_processes(void)
{
	EXPECT_FAILS(fork(), EPERM);
	EXPECT_FAILS(execl("/bin/true", "true", NULL), EPERM);
	EXPECT_FAILS(kill(getppid(), SIGTERM), EPERM);
	EXPECT_FAILS(kill(getppid(), 0), EPERM);
}

static void try_the_network(void)
{
	EXPECT_FAILS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), EPERM);
	EXPECT_FAILS(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0), EPERM);
	EXPECT_FAILS(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), EPERM);
}

static void expect_limits(void)
{
	struct rlimit limit;

	EXPECT(getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_max == 0);
	EXPECT(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max <= 512);
	EXPECT(getrlimit(RLIMIT_AS, &limit) == 0);
	EXPECT(WITH_ADDRESS_SANITIZER || limit.rlim_max <= 1 << 30);
	EXPECT(pwrite(out_fd, "x", 1, MAX_BYTES) == 1);
	EXPECT_FAILS(pwrite(out_fd, "x", 1, MAX_BYTES + 1), EFBIG);
	EXPECT(ftruncate(out_fd, 0) == 0);
}

/* ---- to unpack ---- */

static void unpack(void)
{
	struct error err;
	int fd;

	EXPECT(fetchbox_unpack(MAX_BYTES, folder_fd, &err) == 0);
	expect_limits();
	try_to_break_out();
	try_other_processes();
	try_the_network();
	EXPECT_FAILS(openat(folder_fd, "../x", O_WRONLY | O_CREAT | O_CLOEXEC, 0600), EACCES);

	EXPECT(mkdirat(folder_fd, "a", 0700) == 0);
	fd = openat(folder_fd, "a/b", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	EXPECT(fd >= 0 && write(fd, "x", 1) == 1 && futimens(fd, NULL) == 0);
	EXPECT(linkat(folder_fd, "a/b", folder_fd, "c", 0) == 0);
	EXPECT(symlinkat("c", folder_fd, "d") == 0);
	EXPECT(renameat(folder_fd, "d", folder_fd, "e") == 0);
	EXPECT(folder_clear(folder_fd, &err) == 0);
}

static void unpacking_has_its_folder_and_nothing_else(void **state)
{
	(void)state;
	if (sandbox_lacks())
		skip();
	assert_fine(unpack);
}

/* ---- to download ---- */

static void *touch(void *data)
{
	*(bool *)data = true;
	return NULL;
}

static void use_the_network(void)
{
	const struct sockaddr_in any = {
		.sin_family = AF_INET,
		.sin_addr = { htonl(INADDR_LOOPBACK) },
	};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	EXPECT(fd >= 0);
	EXPECT(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0) >= 0 || errno == EAFNOSUPPORT);
	/* Port 0 is nobody's: the kernel refuses it, not the sandbox. */
	EXPECT_FAILS(connect(fd, (const struct sockaddr *)&any, sizeof(any)), ECONNREFUSED);
	EXPECT_FAILS(bind(fd, (const struct sockaddr *)&any, sizeof(any)), EPERM);
	EXPECT_FAILS(listen(fd, 1), EPERM);
	EXPECT_FAILS(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), ENOSYS);
	EXPECT_FAILS(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0), ENOSYS);
}

static void download(void)
{
	struct error err;
	bool touched = false;
	pthread_t thread;

	EXPECT(fetchbox_download(MAX_BYTES, &err) == 0);
	expect_limits();
	try_to_break_out();
	try_other_processes();
	use_the_network();
	EXPECT_FAILS(openat(folder_fd, "x", O_WRONLY | O_CREAT | O_CLOEXEC, 0600), EACCES);
	EXPECT_FAILS(open_to_read(inside), EACCES);
	EXPECT_FAILS(open_to_read("/etc"), EACCES);
	EXPECT(open_to_read("/etc/hosts") >= 0 || errno == ENOENT);
	EXPECT(pthread_create(&thread, NULL, touch, &touched) == 0);
	EXPECT(pthread_join(thread, NULL) == 0 && touched);
}

static void downloading_has_the_internet_and_one_open_file(void **state)
{
	(void)state;
	if (sandbox_lacks())
		skip();
	assert_fine(download);
}

static void trust(void)
{
	struct error err;

	EXPECT(setenv("SSL_CERT_FILE", outside, 1) == 0 && setenv("SSL_CERT_DIR", inside, 1) == 0);
	EXPECT(fetchbox_download(UINT64_MAX, &err) == 0);
	EXPECT(open_to_read(outside) >= 0 && open_to_read(inside) >= 0);
	EXPECT_FAILS(open(outside, O_WRONLY | O_CLOEXEC), EACCES);
}

static void the_trust_store_of_the_environment_is_readable(void **state)
{
	(void)state;
	if (sandbox_lacks())
		skip();
	assert_fine(trust);
}

/* ---- to copy ---- */

static void copy(void)
{
	json_t *roots = json_pack("[s, s]", inside, "/nowhere/at/all");
	struct error err;
	int fd = openat(folder_fd, "file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	EXPECT(fd >= 0);
	EXPECT(fetchbox_copy(MAX_BYTES, "file:///x", roots, &err) == 0);
	json_decref(roots);
	expect_limits();
	try_to_break_out();
	try_other_processes();
	try_the_network();
	EXPECT(openat(folder_fd, "file", O_RDONLY | O_CLOEXEC) >= 0);
	EXPECT_FAILS(openat(folder_fd, "file", O_WRONLY | O_CLOEXEC), EACCES);
	EXPECT_FAILS(openat(root_fd, "out", O_RDONLY | O_CLOEXEC), EACCES);
}

static void copying_has_the_file_roots_to_read(void **state)
{
	(void)state;
	if (sandbox_lacks())
		skip();
	assert_fine(copy);
}

/* ---- to pack ---- */

static void pack(void)
{
	struct error err;

	EXPECT(fetchbox_pack(folder_fd, &err) == 0);
	try_other_processes();
	try_the_network();
	EXPECT_FAILS(open_to_read("/etc/passwd"), EACCES);
	EXPECT_FAILS(openat(folder_fd, "x", O_WRONLY | O_CREAT | O_CLOEXEC, 0600), EACCES);
	EXPECT(openat(folder_fd, ".", O_RDONLY | O_CLOEXEC) >= 0);
}

static void packing_has_its_folder_to_read(void **state)
{
	(void)state;
	if (sandbox_lacks())
		skip();
	assert_fine(pack);
}

/* ---- to start them ---- */

/* The exit status of a program, or the negative errno of its start. */
static int run(const char *path)
{
	char name[] = "x";
	char *const argv[] = { name, NULL };
	int status = -1;
	pid_t pid;
	int r = posix_spawn(&pid, path, NULL, NULL, argv, environ);

	if (r != 0)
		return -r;
	EXPECT(waitpid(pid, &status, 0) == pid);
	return status;
}

static void help(void)
{
	char *const roots[] = { inside, NULL };
	struct error err;

	EXPECT(fetchbox_helper(folder_fd, "/bin/true", roots, &err) == 0);
	EXPECT(run("/bin/true") == 0);
	EXPECT(run("/bin/sh") == -EACCES);
	EXPECT(run("/usr/bin/env") == -EACCES);
	EXPECT_FAILS(fork(), EPERM);
	EXPECT_FAILS(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), ENOSYS);
	EXPECT_FAILS(open_to_read("/etc/passwd"), EACCES);
	EXPECT_FAILS(open(outside, O_WRONLY | O_CLOEXEC), EACCES);
	EXPECT_FAILS(openat(folder_fd, "../x", O_WRONLY | O_CREAT | O_CLOEXEC, 0600), EACCES);
	EXPECT_FAILS(ptrace(PTRACE_ATTACH, getppid(), NULL, NULL), EPERM);
	EXPECT_FAILS(mount("x", "/tmp", "tmpfs", 0, NULL), EPERM);
	EXPECT_FAILS(unshare(CLONE_NEWUSER), EPERM);
	EXPECT(openat(folder_fd, "x", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) >= 0);
	/* What it starts may confine itself further. */
	EXPECT(fetchbox_unpack(MAX_BYTES, folder_fd, &err) == 0);
	EXPECT(symlinkat("x", folder_fd, "link") == 0);
	try_other_processes();
	try_the_network();
}

static void the_helper_starts_one_program_and_no_other(void **state)
{
	(void)state;
	if (sandbox_lacks())
		skip();
	assert_fine(help);
}

/* ---- an old kernel ---- */

/* As in a container whose own filter does not know Landlock. */
static void forget_landlock(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_landlock_create_ruleset, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = { .len = ARRAY_SIZE(code), .filter = code };

	EXPECT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	EXPECT(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0);
}

static void do_without(void)
{
	struct error err;

	forget_landlock();
	EXPECT(strstr(sandbox_lacks(), "Landlock"));
	EXPECT(fetchbox_unpack(MAX_BYTES, folder_fd, &err) == 0);
	EXPECT(mkdirat(folder_fd, "a", 0700) == 0);
	EXPECT(folder_clear(folder_fd, &err) == 0);
	EXPECT(open_to_read("/etc/passwd") >= 0);
	try_other_processes();
	try_the_network();
}

static void a_kernel_without_landlock_has_the_rest(void **state)
{
	(void)state;
	if (sandbox_lacks())
		skip();
	assert_fine(do_without);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unpacking_has_its_folder_and_nothing_else),
		cmocka_unit_test(downloading_has_the_internet_and_one_open_file),
		cmocka_unit_test(the_trust_store_of_the_environment_is_readable),
		cmocka_unit_test(copying_has_the_file_roots_to_read),
		cmocka_unit_test(packing_has_its_folder_to_read),
		cmocka_unit_test(the_helper_starts_one_program_and_no_other),
		cmocka_unit_test(a_kernel_without_landlock_has_the_rest),
	};

	return cmocka_run_group_tests(tests, make_folders, remove_folders);
}
