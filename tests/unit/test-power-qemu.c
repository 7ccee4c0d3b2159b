/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/yaml.h"
#include "hw/console.h"
#include "hw/power.h"

/*
 * The driver and a real QEMU, whose guest is a boot sector: it says "Hi", echoes what it is sent,
 * and switches itself off at a 'p'.
 */

static const unsigned char guest[512] = {
	0x31,	      0xc0,	    0x8e, 0xd8,	      /* 00 xor ax,ax; mov ds,ax */
	0xbe,	      0x2f,	    0x7c,	      /* 04 mov si,text */
	0xba,	      0xf8,	    0x03,	      /* 07 mov dx,0x3f8: the first UART */
	0xac,	      0x84,	    0xc0, 0x74, 0x03, /* 0a say: lodsb; test al,al; jz wait */
	0xee,	      0xeb,	    0xf8,	      /* 0f out dx,al; jmp say */
	0xba,	      0xfd,	    0x03,	      /* 12 wait: mov dx,0x3fd: its line status */
	0xec,	      0xa8,	    0x01, 0x74, 0xfb, /* 15 in al,dx; test al,1; jz -5 */
	0xba,	      0xf8,	    0x03, 0xec,	      /* 1a mov dx,0x3f8; in al,dx */
	0x3c,	      'p',	    0x74, 0x03,	      /* 1e cmp al,'p'; je off */
	0xee,	      0xeb,	    0xed,	      /* 22 out dx,al; jmp wait */
	0xba,	      0x04,	    0x06,	/* 25 off: mov dx,0x604: PM1a_CNT of the PIIX4 */
	0xb8,	      0x00,	    0x20, 0xef, /* 28 mov ax,0x2000: SLP_EN; out dx,ax */
	0xf4,	      0xeb,	    0xfd,	/* 2c hlt; jmp hlt */
	'H',	      'i',	    0,		/* 2f */
	[510] = 0x55, [511] = 0xaa,
};

struct fixture {
	char path[64];
	int dir_fd;
	sd_event *event;
	struct yaml_tree *keys;
	struct power *power;
	struct console *console;
	int console_fd;
	bool done;
	struct power_result result;
};

static void open_board(struct fixture *f, struct power **ret)
{
	const struct power_config config = {
		.board = "vm-1",
		.driver = "qemu",
		.keys = yaml_root(f->keys),
		.event = f->event,
		.state_dir_fd = f->dir_fd,
		.runtime_dir_fd = f->dir_fd,
		.runtime_dir = f->path,
	};
	struct error err;

	if (power_open(ret, &config, &err) < 0)
		fail_msg("%s", err.text);
}

static void set_keys(struct fixture *f, const char *keys)
{
	struct problems problems = { 0 };

	f->power = power_close(f->power);
	f->keys = yaml_tree_free(f->keys);
	assert_int_equal(
		yaml_parse(&f->keys, NULL, keys, strlen(keys), &yaml_default_limits, &problems), 0);
	assert_int_equal(power_check("qemu", yaml_root(f->keys), &problems), 0);
	assert_false(problems_any(&problems));
	open_board(f, &f->power);
}

static int set_up(void **state)
{
	static const struct console_config console = { .board = "vm-1",
						       .name = "main",
						       .driver = "qemu" };
	struct fixture *f = calloc(1, sizeof(*f));
	struct console_config config = console;
	char keys[256];
	int fd;

	(void)strcpy(f->path, "/tmp/test-power-qemu.XXXXXX");
	assert_non_null(mkdtemp(f->path));
	f->dir_fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->console_fd = -1;
	assert_int_equal(sd_event_new(&f->event), 0);
	fd = openat(f->dir_fd, "guest", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, guest, sizeof(guest)), sizeof(guest));
	(void)close(fd);
	(void)snprintf(keys, sizeof(keys),
		       "{arch: i386, memory: 16M, args: [-drive, 'file=%s/guest,format=raw']}",
		       f->path);
	set_keys(f, keys);
	config.event = f->event;
	config.runtime_dir_fd = f->dir_fd;
	assert_int_equal(console_open(&f->console, &config, NULL), 0);
	*state = f;
	return 0;
}

static void on_done(struct power *power, const struct power_result *result, void *data)
{
	struct fixture *f = data;

	(void)power;
	assert_false(f->done);
	f->done = true;
	f->result = *result;
}

/* Waits for the end of an operation that was begun with r. */
static const struct power_result *end(struct fixture *f, int r, const struct error *err)
{
	f->done = false;
	if (r < 0) {
		f->result = (struct power_result){ .error = r, .text = *err };
		return &f->result;
	}
	while (!f->done)
		assert_true(sd_event_run(f->event, 60000000) > 0);
	return &f->result;
}

static const struct power_result *prepare(struct fixture *f, const struct power_deploy *deploy)
{
	struct error err;

	return end(f, power_prepare(f->power, deploy, on_done, f, &err), &err);
}

static const struct power_result *switch_to(struct fixture *f, struct power *power, bool on)
{
	struct error err;

	return end(f, power_switch(power, on, on_done, f, &err), &err);
}

static enum power_state read_state(struct fixture *f, struct power *power)
{
	struct error err;

	return end(f, power_read(power, on_done, f, &err), &err)->state;
}

static void assert_state(const struct power_result *result, enum power_state state)
{
	if (result->error < 0)
		fail_msg("%s", result->text.text);
	assert_true(result->verified);
	assert_string_equal(power_state_name(result->state), power_state_name(state));
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	char command[128];

	assert_state(switch_to(f, f->power, false), POWER_OFF);
	f->power = power_close(f->power);
	f->console = console_close(f->console);
	yaml_tree_free(f->keys);
	sd_event_unref(f->event);
	(void)close_fd(f->console_fd);
	(void)close_fd(f->dir_fd);
	(void)snprintf(command, sizeof(command), "rm -rf '%s'", f->path);
	assert_int_equal(system(command), 0);
	free(f);
	return 0;
}

static void connect_console(struct fixture *f)
{
	struct error err;

	(void)close_fd(f->console_fd);
	if (console_connect(f->console, &f->console_fd, &err) < 0)
		fail_msg("%s", err.text);
}

/* Reads the console until the guest has said that. */
static void hear(struct fixture *f, const char *text)
{
	struct pollfd wait = { .fd = f->console_fd, .events = POLLIN };
	char heard[4096];
	size_t length = 0;

	do {
		ssize_t n;

		assert_int_equal(poll(&wait, 1, 60000), 1);
		n = read(f->console_fd, heard + length, sizeof(heard) - 1 - length);
		assert_true(n > 0);
		length += (size_t)n;
		heard[length] = '\0';
	} while (!strstr(heard, text));
}

static void say(struct fixture *f, const char *text)
{
	assert_int_equal(write(f->console_fd, text, strlen(text)), strlen(text));
}

static void boot(struct fixture *f)
{
	assert_state(prepare(f, NULL), POWER_OFF);
	connect_console(f);
	assert_state(switch_to(f, f->power, true), POWER_ON);
	hear(f, "Hi");
}

static pid_t pid_of_qemu(struct fixture *f)
{
	socklen_t size = sizeof(struct ucred);
	struct ucred credentials;

	assert_int_equal(getsockopt(f->console_fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size),
			 0);
	assert_true(credentials.pid > 1 && credentials.pid != getpid());
	return credentials.pid;
}

static void no_byte_of_the_guest_is_lost(void **state)
{
	struct fixture *f = *state;
	int fd;

	assert_int_equal(read_state(f, f->power), POWER_OFF);
	assert_true(console_connect(f->console, &fd, NULL) < 0);
	assert_state(prepare(f, NULL), POWER_OFF);
	assert_int_equal(read_state(f, f->power), POWER_OFF);
	connect_console(f);
	assert_state(switch_to(f, f->power, true), POWER_ON);
	assert_int_equal(read_state(f, f->power), POWER_ON);
	hear(f, "Hi");
	say(f, "echo");
	hear(f, "echo");
	assert_state(switch_to(f, f->power, false), POWER_OFF);
	assert_int_equal(read(f->console_fd, &fd, 1), 0);
	assert_int_equal(read_state(f, f->power), POWER_OFF);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* it was reaped */
	boot(f);
}

static void on_needs_no_prepare_and_may_repeat(void **state)
{
	struct fixture *f = *state;

	assert_state(switch_to(f, f->power, true), POWER_ON);
	assert_state(switch_to(f, f->power, true), POWER_ON);
	assert_state(prepare(f, NULL), POWER_ON);
	connect_console(f);
	assert_state(switch_to(f, f->power, false), POWER_OFF);
	assert_state(switch_to(f, f->power, false), POWER_OFF);
}

static void a_guest_that_switches_itself_off_is_on_and_silent(void **state)
{
	struct fixture *f = *state;
	struct pollfd wait;
	struct error err;

	boot(f);
	say(f, "p");
	/* The socket's other end stays, and nobody echoes. */
	say(f, "x");
	assert_int_equal(read_state(f, f->power), POWER_ON);
	wait = (struct pollfd){ .fd = f->console_fd, .events = POLLIN };
	assert_int_equal(poll(&wait, 1, 300), 0);
	/* There is power already; a QEMU in this state refuses `cont`. */
	assert_int_equal(power_switch(f->power, true, on_done, f, &err), 0);
	assert_state(end(f, 0, &err), POWER_ON);
	assert_state(switch_to(f, f->power, false), POWER_OFF);
}

static void a_killed_qemu_is_off(void **state)
{
	struct fixture *f = *state;
	char byte;

	boot(f);
	assert_int_equal(kill(pid_of_qemu(f), SIGKILL), 0);
	assert_int_equal(fcntl(f->console_fd, F_SETFL, 0), 0);
	while (read(f->console_fd, &byte, 1) > 0)
		;
	/* At once, or as soon as the kernel has closed its lock. */
	while (read_state(f, f->power) == POWER_ON)
		(void)sd_event_run(f->event, 100000);
	boot(f);
}

static void one_that_dies_between_prepare_and_on_is_not_replaced(void **state)
{
	struct fixture *f = *state;
	struct error err;
	int r;

	assert_state(prepare(f, NULL), POWER_OFF);
	connect_console(f);
	assert_int_equal(kill(pid_of_qemu(f), SIGKILL), 0);
	/* Its lock is free as soon as the kernel has closed it. */
	do {
		close_ int fd = -1;

		r = file_lock(&fd, f->dir_fd, "qemu.lock", &err);
		if (r < 0)
			(void)sd_event_run(f->event, 10000);
	} while (r < 0);
	assert_int_equal(power_switch(f->power, true, on_done, f, &err), -EIO);
	assert_string_equal(err.text, "QEMU has ended before it was switched on");
	boot(f);
}

static void a_hung_qemu_is_killed(void **state)
{
	struct fixture *f = *state;

	boot(f);
	assert_int_equal(kill(pid_of_qemu(f), SIGSTOP), 0);
	assert_state(switch_to(f, f->power, false), POWER_OFF);
}

static void a_qemu_of_an_earlier_dutd_is_found_and_ended(void **state)
{
	struct fixture *f = *state;

	boot(f);
	f->power = power_close(f->power);
	say(f, "still here");
	hear(f, "still here");
	open_board(f, &f->power);
	assert_int_equal(read_state(f, f->power), POWER_ON);
	assert_state(prepare(f, NULL), POWER_ON);
	assert_state(switch_to(f, f->power, true), POWER_ON);
	assert_state(switch_to(f, f->power, false), POWER_OFF);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* also of this one nothing is left */
}

static void a_hung_qemu_of_an_earlier_dutd_is_killed(void **state)
{
	struct fixture *f = *state;

	boot(f);
	f->power = power_close(f->power);
	assert_int_equal(kill(pid_of_qemu(f), SIGSTOP), 0);
	open_board(f, &f->power);
	assert_state(switch_to(f, f->power, false), POWER_OFF);
}

static void write_pid(struct fixture *f, pid_t pid)
{
	close_ int fd =
		openat(f->dir_fd, "qemu.pid", O_WRONLY | O_TRUNC | O_CREAT | O_CLOEXEC, 0600);

	assert_true(dprintf(fd, "%d\n", (int)pid) > 0);
}

static void a_stranger_is_never_killed(void **state)
{
	struct fixture *f = *state;
	pid_t qemu, stranger = fork();

	if (stranger == 0) {
		(void)pause();
		_exit(0);
	}
	boot(f);
	qemu = pid_of_qemu(f);
	f->power = power_close(f->power);

	/* The pid of an earlier QEMU, which is a stranger's now. */
	write_pid(f, stranger);
	assert_int_equal(renameat(f->dir_fd, "qmp.sock", f->dir_fd, "away"), 0);
	open_board(f, &f->power);
	assert_int_equal(switch_to(f, f->power, false)->error, -ESRCH);
	assert_string_equal(f->result.text.text, "something holds qemu.lock, but neither qmp.sock "
						 "nor qemu.pid leads to it");
	assert_int_equal(read_state(f, f->power), POWER_ON);

	/* Without the socket its own pid will do ... */
	write_pid(f, qemu);
	assert_state(switch_to(f, f->power, false), POWER_OFF);

	/* ... and with the socket a wrong one does no harm. */
	boot(f);
	f->power = power_close(f->power);
	write_pid(f, stranger);
	open_board(f, &f->power);
	assert_state(switch_to(f, f->power, false), POWER_OFF);
	assert_int_equal(waitpid(stranger, NULL, WNOHANG), 0);
	assert_int_equal(kill(stranger, SIGKILL), 0);
	assert_int_equal(waitpid(stranger, NULL, 0), stranger);
}

static void what_was_prepared_is_prepared_anew(void **state)
{
	struct fixture *f = *state;
	struct power_deploy deploy = { .kernel_fd = -1, .initramfs_fd = -1, .dtb_fd = -1 };
	char none[] = "no kernel";

	/* A kernel that is none says which of the two was started. */
	assert_state(prepare(f, NULL), POWER_OFF);
	deploy.kernel_fd = memfd_create("kernel", MFD_CLOEXEC);
	assert_int_equal(write(deploy.kernel_fd, none, sizeof(none)), sizeof(none));
	assert_int_equal(prepare(f, &deploy)->error, -EIO);
	assert_non_null(strstr(f->result.text.text, "invalid kernel header"));
	(void)close(deploy.kernel_fd);
	assert_int_equal(read_state(f, f->power), POWER_OFF);

	assert_state(prepare(f, NULL), POWER_OFF);
	connect_console(f);
	assert_state(prepare(f, NULL), POWER_OFF);
	connect_console(f);
	assert_state(switch_to(f, f->power, true), POWER_ON);
	hear(f, "Hi");
}

static void what_was_only_prepared_is_released(void **state)
{
	struct fixture *f = *state;

	assert_state(prepare(f, NULL), POWER_OFF);
	connect_console(f);
	power_release(f->power);
	f->power = power_close(f->power);
	assert_int_equal(fcntl(f->console_fd, F_SETFL, 0), 0);
	assert_true(read(f->console_fd, &(char){ 0 }, 1) <= 0);
	assert_true(waitpid(-1, NULL, 0) > 0);
	/* One that runs is left alone. */
	open_board(f, &f->power);
	boot(f);
	power_release(f->power);
	say(f, "on");
	hear(f, "on");
}

static void what_qemu_said_last_is_the_error(void **state)
{
	static const struct {
		const char *keys;
		int error;
		const char *text;
	} rows[] = {
		{ "{arch: i386, args: [-no-such-option]}", -EIO, "-no-such-option" },
		{ "{arch: i386, firmware: /nonexistent/rom}", -EIO, "/nonexistent/rom" },
		{ "{arch: i386, machine: toaster}", -EIO, "unsupported machine type" },
		{ "{arch: i386, kernel: /nonexistent/kernel}", -EIO, "/nonexistent/kernel" },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		set_keys(f, rows[i].keys);
		for (unsigned on = 0; on < 2; on++) {
			const struct power_result *result =
				on ? switch_to(f, f->power, true) : prepare(f, NULL);

			assert_int_equal(result->error, rows[i].error);
			assert_int_equal(result->state, POWER_OFF);
			assert_false(result->verified);
			if (strncmp(result->text.text, "QEMU has ended: ", 16) != 0 ||
			    !strstr(result->text.text, rows[i].text))
				fail_msg("%s", result->text.text);
		}
		assert_int_equal(read_state(f, f->power), POWER_OFF);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(no_byte_of_the_guest_is_lost),
		TEST(on_needs_no_prepare_and_may_repeat),
		TEST(a_guest_that_switches_itself_off_is_on_and_silent),
		TEST(a_killed_qemu_is_off),
		TEST(one_that_dies_between_prepare_and_on_is_not_replaced),
		TEST(a_hung_qemu_is_killed),
		TEST(a_qemu_of_an_earlier_dutd_is_found_and_ended),
		TEST(a_hung_qemu_of_an_earlier_dutd_is_killed),
		TEST(a_stranger_is_never_killed),
		TEST(what_was_prepared_is_prepared_anew),
		TEST(what_was_only_prepared_is_released),
		TEST(what_qemu_said_last_is_the_error),
	};

	if (access("/usr/bin/qemu-system-i386", X_OK) < 0 &&
	    access("/usr/local/bin/qemu-system-i386", X_OK) < 0) {
		(void)puts("1..0 # SKIP qemu-system-i386 is not installed");
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
