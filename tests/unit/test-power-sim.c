/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/yaml.h"
#include "hw/console.h"
#include "hw/power.h"

/* The driver and a real dut-sim; what a board does is in tests/process/test_sim.py. */

struct fixture {
	char path[64];
	int dir_fd;
	sd_event *event;
	struct yaml_tree *keys;
	struct power *power;
	bool done;
	struct power_result result;
};

static int try_open(struct fixture *f, struct error *err)
{
	const struct power_config config = {
		.board = "b1",
		.driver = "sim",
		.keys = yaml_root(f->keys),
		.event = f->event,
		.state_dir_fd = f->dir_fd,
		.runtime_dir_fd = f->dir_fd,
		.runtime_dir = f->path,
		.libexec_dir = getenv("DUT_LIBEXEC_DIR"),
	};

	return power_open(&f->power, &config, err);
}

static void open_board(struct fixture *f)
{
	struct error err;

	if (try_open(f, &err) < 0)
		fail_msg("%s", err.text);
}

static void write_script(struct fixture *f, const char *script)
{
	close_ int fd = openat(f->dir_fd, "script", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_int_equal(write(fd, script, strlen(script)), strlen(script));
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct problems problems = { 0 };
	char keys[128];

	(void)strcpy(f->path, "/tmp/test-power-sim.XXXXXX");
	assert_non_null(mkdtemp(f->path));
	f->dir_fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(sd_event_new(&f->event), 0);
	write_script(f, "at 0s send \"Hi\"\n");
	(void)snprintf(keys, sizeof(keys), "{script: %s/script}", f->path);
	assert_int_equal(
		yaml_parse(&f->keys, NULL, keys, strlen(keys), &yaml_default_limits, &problems), 0);
	assert_int_equal(power_check("sim", yaml_root(f->keys), &problems), 0);
	assert_false(problems_any(&problems));
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

static const struct power_result *switch_to(struct fixture *f, bool on)
{
	struct error err;

	return end(f, power_switch(f->power, on, on_done, f, &err), &err);
}

static const struct power_result *read_state(struct fixture *f)
{
	struct error err;

	return end(f, power_read(f->power, on_done, f, &err), &err);
}

static void assert_state(const struct power_result *result, enum power_state state)
{
	if (result->error < 0)
		fail_msg("%s", result->text.text);
	assert_true(result->verified);
	assert_int_equal(result->state, state);
}

static int connect_console(struct fixture *f)
{
	const struct console_config config = {
		.board = "b1",
		.name = "main",
		.driver = "sim",
		.event = f->event,
		.runtime_dir_fd = f->dir_fd,
	};
	struct console *console = NULL;
	struct error err;
	int fd = -1;

	if (console_open(&console, &config, &err) < 0 || console_connect(console, &fd, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	console_close(console);
	return fd;
}

static void hear(int console_fd, const char *text)
{
	struct pollfd wait = { .fd = console_fd, .events = POLLIN };
	char heard[16];

	assert_int_equal(poll(&wait, 1, 60000), 1);
	assert_int_equal(read(console_fd, heard, sizeof(heard)), strlen(text));
	assert_memory_equal(heard, text, strlen(text));
}

/* The only child of this process. */
static pid_t pid_of_board(void)
{
	char path[64], children[64] = "";
	close_ int fd = -1;

	(void)snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(read(fd, children, sizeof(children) - 1) > 0);
	return (pid_t)strtol(children, NULL, 10);
}

/* Lets an idle board go, and waits until it has. */
static int tear_down(void **state)
{
	struct fixture *f = *state;
	char command[128];

	if (f->power) {
		assert_state(switch_to(f, false), POWER_OFF);
		power_release(f->power);
		f->power = power_close(f->power);
		while (waitpid(-1, NULL, 0) > 0)
			;
	}
	yaml_tree_free(f->keys);
	sd_event_unref(f->event);
	(void)close_fd(f->dir_fd);
	(void)snprintf(command, sizeof(command), "rm -rf '%s'", f->path);
	assert_int_equal(system(command), 0);
	free(f);
	return 0;
}

static void the_console_is_there_before_the_first_byte(void **state)
{
	struct fixture *f = *state;
	struct error err;
	int console_fd;

	open_board(f);
	assert_int_equal(power_prepare(f->power, NULL, on_done, f, &err), 0);
	assert_int_equal(end(f, 0, &err)->error, 0);
	console_fd = connect_console(f);
	assert_state(switch_to(f, true), POWER_ON);
	hear(console_fd, "Hi");
	assert_state(read_state(f), POWER_ON);
	assert_state(switch_to(f, false), POWER_OFF);
	assert_int_equal(read(console_fd, &err, 1), 0);
	(void)close(console_fd);
}

static void a_board_outlives_its_dutd(void **state)
{
	struct fixture *f = *state;
	pid_t pid;

	open_board(f);
	assert_state(switch_to(f, true), POWER_ON);
	pid = pid_of_board();
	power_release(f->power); /* it is on, and stays so */
	f->power = power_close(f->power);
	open_board(f);
	assert_state(read_state(f), POWER_ON);
	assert_int_equal(pid_of_board(), pid);
}

static void a_board_that_ends_leaves_no_process(void **state)
{
	struct fixture *f = *state;
	struct error err;

	for (unsigned i = 0; i < 2; i++) {
		siginfo_t info;
		pid_t pid;

		open_board(f);
		pid = pid_of_board();
		if (i > 0)
			assert_state(switch_to(f, true), POWER_ON);
		assert_state(end(f, power_end(f->power, on_done, f, &err), &err), POWER_OFF);
		assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG), -1);
		assert_state(end(f, power_end(f->power, on_done, f, &err), &err), POWER_OFF);
		f->power = power_close(f->power);
	}
	/* One that is opened at once is another. */
	open_board(f);
	assert_state(switch_to(f, true), POWER_ON);
}

static void a_board_that_does_not_go_off_does_not_end(void **state)
{
	struct fixture *f = *state;
	struct error err;

	write_script(f, "ignore off\n");
	open_board(f);
	assert_state(switch_to(f, true), POWER_ON);
	assert_int_equal(end(f, power_end(f->power, on_done, f, &err), &err)->state, POWER_ON);
	assert_state(read_state(f), POWER_ON);
	assert_int_equal(kill(pid_of_board(), SIGKILL), 0);
	while (read_state(f)->state != POWER_OFF)
		;
}

static void a_board_that_was_killed_is_there_again_and_off(void **state)
{
	struct fixture *f = *state;

	open_board(f);
	for (unsigned i = 0; i < 3; i++) {
		siginfo_t info;
		pid_t pid;

		assert_state(switch_to(f, true), POWER_ON);
		pid = pid_of_board();
		assert_int_equal(kill(pid, SIGKILL), 0);
		/* It has ended, and the loop does not know yet. */
		assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
		if (i > 0)
			while (sd_event_run(f->event, 0) > 0)
				;
		assert_state(read_state(f), POWER_OFF);
	}
}

static void a_board_killed_at_work_says_so(void **state)
{
	struct fixture *f = *state;
	struct error err;

	write_script(f, "delay on 1h\n");
	open_board(f);
	assert_int_equal(power_switch(f->power, true, on_done, f, &err), 0);
	assert_int_equal(kill(pid_of_board(), SIGKILL), 0);
	assert_int_equal(end(f, 0, &err)->error, -EIO);
	assert_string_equal(f->result.text.text, "dut-sim has closed its connection");
	assert_false(f->result.verified);
}

static void a_board_whose_socket_is_gone_is_no_board(void **state)
{
	struct fixture *f = *state;

	open_board(f);
	assert_state(switch_to(f, true), POWER_ON);
	f->power = power_close(f->power);
	assert_int_equal(renameat(f->dir_fd, "sim.sock", f->dir_fd, "away"), 0);
	open_board(f);
	assert_int_equal(read_state(f)->error, -ENOENT);
	assert_non_null(strstr(f->result.text.text, "dut-sim cannot be reached"));
	assert_int_equal(renameat(f->dir_fd, "away", f->dir_fd, "sim.sock"), 0);
	assert_state(read_state(f), POWER_ON);
}

static void a_board_without_its_program_cannot_be_opened(void **state)
{
	struct fixture *f = *state;
	char libexec[256];
	struct error err;

	(void)snprintf(libexec, sizeof(libexec), "%s", getenv("DUT_LIBEXEC_DIR"));
	assert_int_equal(setenv("DUT_LIBEXEC_DIR", "/nonexistent", 1), 0);
	assert_int_equal(try_open(f, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nonexistent/dut-sim"));
	assert_int_equal(setenv("DUT_LIBEXEC_DIR", libexec, 1), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(the_console_is_there_before_the_first_byte),
		TEST(a_board_outlives_its_dutd),
		TEST(a_board_that_ends_leaves_no_process),
		TEST(a_board_that_does_not_go_off_does_not_end),
		TEST(a_board_that_was_killed_is_there_again_and_off),
		TEST(a_board_killed_at_work_says_so),
		TEST(a_board_whose_socket_is_gone_is_no_board),
		TEST(a_board_without_its_program_cannot_be_opened),
	};
	sigset_t mask;

	if (!getenv("DUT_LIBEXEC_DIR")) {
		(void)puts("1..0 # SKIP DUT_LIBEXEC_DIR does not say where dut-sim is");
		return 0;
	}
	/* As dutd does before anything else: sd-event watches children by it. */
	(void)sigemptyset(&mask);
	(void)sigaddset(&mask, SIGCHLD);
	(void)sigprocmask(SIG_BLOCK, &mask, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
