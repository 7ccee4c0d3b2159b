/* SPDX-License-Identifier: MIT */
#include "tests/support/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/sandbox.h"

static char folder[] = "/tmp/test-sandbox-XXXXXX";
static int folder_fd = -1;

static int make_folder(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return folder_fd < 0 ? -1 : 0;
}

static int remove_folder(void **state)
{
	(void)state;
	(void)unlinkat(folder_fd, "file", 0);
	folder_fd = close_fd(folder_fd);
	return rmdir(folder);
}

static void enter(enum sandbox_profile profile)
{
	const struct sandbox_path path = { .fd = folder_fd, .access = SANDBOX_WRITE };
	struct error err;

	EXPECT(sandbox_drop(NULL, &err) >= 0);
	EXPECT(sandbox_enter(profile, &path, 1, &err) >= 0);
}

/* ---- files ---- */

static void use_files(void)
{
	struct stat status;
	int fd;

	enter(SANDBOX_EXECUTOR);
	fd = openat(folder_fd, "file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	EXPECT(fd >= 0);
	EXPECT(write(fd, "x", 1) == 1);
	EXPECT(ftruncate(fd, 0) == 0);
	EXPECT(renameat(folder_fd, "file", folder_fd, "other") == 0);
	EXPECT(unlinkat(folder_fd, "other", 0) == 0);
	EXPECT(fstat(fd, &status) == 0);
	EXPECT_FAILS(open("/etc/passwd", O_RDONLY | O_CLOEXEC), EACCES);
	EXPECT_FAILS(open("/dev/null", O_RDWR | O_CLOEXEC), EACCES);
	EXPECT_FAILS(open("/proc/self/status", O_RDONLY | O_CLOEXEC), EACCES);
	EXPECT_FAILS(openat(folder_fd, "../x", O_RDWR | O_CREAT | O_CLOEXEC, 0600), EACCES);
}

static void of_all_files_the_folder_is_left(void **state)
{
	(void)state;
	if (sandbox_lacks())
		skip();
	assert_fine(use_files);
}

static void compute(void)
{
	enter(SANDBOX_COMPUTE);
	EXPECT(malloc(1 << 20) != NULL);
	EXPECT_FAILS(openat(folder_fd, "file", O_RDWR | O_CREAT | O_CLOEXEC, 0600), EPERM);
}

static void whoever_computes_opens_nothing(void **state)
{
	(void)state;
	if (sandbox_lacks())
		skip();
	assert_fine(compute);
}

/* ---- system calls ---- */

static void try_calls(void)
{
	pid_t parent = getppid();
	struct rlimit none = { 0, 0 };
	int sockets[2] = { -1, -1 };
	int pair = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets);

	EXPECT(pair == 0);
	enter(SANDBOX_EXECUTOR);
	EXPECT_FAILS(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), EPERM);
	EXPECT_FAILS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), EPERM);
	EXPECT_FAILS(fork(), EPERM);
	EXPECT_FAILS(execl("/bin/true", "true", NULL), EPERM);
	EXPECT_FAILS(kill(parent, SIGTERM), EPERM);
	EXPECT_FAILS(prlimit(parent, RLIMIT_CPU, &none, NULL), EPERM);
	EXPECT_FAILS(fcntl(sockets[0], F_SETOWN, parent), EPERM);
	EXPECT_FAILS(fcntl(sockets[0], F_SETSIG, SIGKILL), EPERM);
	EXPECT_FAILS(prctl(PR_SET_NAME, "x"), EPERM);
	EXPECT(send(sockets[0], "x", 1, 0) == 1);
}

static void other_processes_and_the_network_are_out_of_reach(void **state)
{
	(void)state;
	if (sandbox_lacks())
		skip();
	assert_fine(try_calls);
}

/* A socket that is there as good as any could be sent to whom it names. */
static void try_datagrams(void)
{
	const struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "service" };
	int service = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), pair[2] = { -1, -1 };

	EXPECT(fchdir(folder_fd) == 0);
	EXPECT(bind(service, (const struct sockaddr *)&address, sizeof(address)) == 0);
	enter(SANDBOX_DOWNLOAD);
	EXPECT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) == 0)
		EXPECT_FAILS(sendto(pair[0], "x", 1, 0, (const struct sockaddr *)&address,
				    sizeof(address)),
			     EPERM);
}

static void a_download_reaches_no_service_of_the_machine(void **state)
{
	(void)state;
	if (sandbox_lacks())
		skip();
	assert_fine(try_datagrams);
	assert_int_equal(unlinkat(folder_fd, "service", 0), 0);
}

static void call_strictly(void)
{
	EXPECT(setenv("DUT_SANDBOX", "kill", 1) == 0);
	enter(SANDBOX_EXECUTOR);
	(void)socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static void a_test_can_have_it_killed(void **state)
{
	int status;

	(void)state;
	if (sandbox_lacks())
		skip();
	status = run_child(call_strictly);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSYS);
}

/* ---- rights and limits ---- */

static void drop(void)
{
	const struct sandbox_user user = { .uid = 65533, .gid = 65532 };
	const struct sandbox_user *wanted = geteuid() == 0 ? &user : NULL;
	struct error err;

	EXPECT(sandbox_drop(wanted, &err) >= 0);
	EXPECT(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	EXPECT(prctl(PR_GET_DUMPABLE) == 0);
	if (!wanted)
		return;
	EXPECT(getuid() == user.uid && geteuid() == user.uid && getgid() == user.gid);
	EXPECT(getgroups(0, NULL) == 0);
	EXPECT_FAILS(setuid(0), EPERM);
	EXPECT_FAILS(setgid(0), EPERM);
}

static void rights_are_gone_for_good(void **state)
{
	(void)state;
	assert_fine(drop);
}

static void be_limited(void)
{
	const struct sandbox_limits limits = {
		.memory = 256 << 20,
		.file_size = 1000,
		.open_files = 64,
		.cpu_s = 100,
	};
	struct error err;
	struct rlimit limit;
	int fd;

	(void)signal(SIGXFSZ, SIG_IGN);
	EXPECT(sandbox_limit(&limits, &err) >= 0);
	EXPECT(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max == 64);
	EXPECT(getrlimit(RLIMIT_CPU, &limit) == 0 && limit.rlim_max == 100);
	EXPECT(getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_max == 0);
	fd = openat(folder_fd, "file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	EXPECT(fd >= 0);
	EXPECT(pwrite(fd, "x", 1, 999) == 1);
	EXPECT_FAILS(pwrite(fd, "x", 1, 1000), EFBIG);
#if !WITH_ADDRESS_SANITIZER
	EXPECT(mmap(NULL, 512 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
#endif
}

static void limits_hold(void **state)
{
	(void)state;
	assert_fine(be_limited);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(of_all_files_the_folder_is_left),
		cmocka_unit_test(whoever_computes_opens_nothing),
		cmocka_unit_test(other_processes_and_the_network_are_out_of_reach),
		cmocka_unit_test(a_download_reaches_no_service_of_the_machine),
		cmocka_unit_test(a_test_can_have_it_killed),
		cmocka_unit_test(rights_are_gone_for_good),
		cmocka_unit_test(limits_hold),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
