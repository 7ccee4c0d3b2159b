/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/protocol.h"
#include "hw/sim-board.h"
#include "hw/sim-script.h"
#include "hw/sim-uart.h"

/*
 * dut-sim: a board without hardware. It is a process of its own, so that it lives on when dutd
 * dies, as a board would; its outlet is the socket sim.sock, its UART the socket console.sock. What
 * it does it has from a script; what was done to it, and how many bytes it really got rid of, it
 * notes in a record of its own, for tests to compare. The UART is in sim-uart.c.
 */

enum {
	INPUT_KEPT = 2 * SIM_TRIGGER_MAX, /* bytes in which `on` looks for its text */
	DRAIN_STEP_US = 2000,	  /* how often an `off` looks whether the reader has read all */
	DRAIN_LIMIT_US = 1000000, /* and for how long */
};

struct sim {
	sd_event *event;
	const char *name;
	struct sim_script script;
	int record_fd;
	struct sim_uart *uart;

	int control_fd; /* dutd's connection to the outlet */
	sd_event_source *control_source, *answer_timer;
	enum sim_verb verb;
	bool asked; /* verb is to be answered */
	bool on;    /* the outlet's real state */

	sd_event_source *drain_timer;
	uint64_t drain_begun_us; /* 0: no `off` waits for the reader */

	uint64_t *due_us; /* when each line of the script is to be done; 0: not by time */
	sd_event_source *script_timer;
	unsigned boot;
	bool silent, crashed;
	char input[INPUT_KEPT];
	size_t input_length;
};

static void record(const struct sim *sim, const char *event)
{
	char line[256];
	int length = snprintf(line, sizeof(line),
			      "{\"board\": \"%s\", \"time_us\": %" PRIu64 ", \"event\": \"%s\", "
			      "\"boot\": %u, \"total\": %" PRIu64 ", \"dropped\": %" PRIu64 "}\n",
			      sim->name, clock_now_us(), event, sim->boot,
			      sim_uart_total(sim->uart), sim_uart_dropped(sim->uart));

	/* A board does not stop because its witness has no paper. */
	if (write(sim->record_fd, line, (size_t)length) < 0)
		return;
}

/* ---- the script ---- */

static void begin_boot(struct sim *sim);

static void stop_script(struct sim *sim)
{
	for (size_t i = 0; i < sim->script.count; i++)
		sim->due_us[i] = 0;
	(void)sd_event_source_set_enabled(sim->script_timer, SD_EVENT_OFF);
	sim_uart_stop(sim->uart);
}

static void act(struct sim *sim, const struct sim_line *line)
{
	switch (line->action) {
	case SIM_SEND:
		if (!sim->silent)
			sim_uart_send(sim->uart, line->text, line->length);
		break;
	case SIM_FLOOD:
		if (!sim->silent)
			sim_uart_flood(sim->uart, line->rate, line->for_us);
		break;
	case SIM_SILENT:
		stop_script(sim);
		sim->silent = true;
		record(sim, "silent");
		break;
	case SIM_CRASH:
	case SIM_POWEROFF:
		stop_script(sim);
		sim->silent = sim->crashed = true;
		record(sim, line->action == SIM_CRASH ? "crash" : "poweroff");
		break;
	case SIM_REBOOT:
		record(sim, "reboot");
		begin_boot(sim);
		break;
	}
}

/* The line that is due first, lines of the same time in their order; or the number of lines. */
static size_t next_line(const struct sim *sim)
{
	size_t next = sim->script.count;

	for (size_t i = 0; i < sim->script.count; i++)
		if (sim->due_us[i] &&
		    (next == sim->script.count || sim->due_us[i] < sim->due_us[next]))
			next = i;
	return next;
}

static void arm_script(struct sim *sim)
{
	size_t next = next_line(sim);

	if (next == sim->script.count)
		return;
	(void)sd_event_source_set_time(sim->script_timer, sim->due_us[next]);
	(void)sd_event_source_set_enabled(sim->script_timer, SD_EVENT_ONESHOT);
}

/* One timer for all lines: what is late together is still done in its order. */
static int on_script_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct sim *sim = data;
	uint64_t now_us = clock_now_us();

	(void)source;
	(void)usec;
	for (;;) {
		size_t next = next_line(sim);
		const struct sim_line *line = &sim->script.lines[next];

		if (next == sim->script.count || sim->due_us[next] > now_us)
			break;
		if (line->when == SIM_EVERY)
			sim->due_us[next] += line->time_us;
		else
			sim->due_us[next] = 0;
		act(sim, line);
	}
	arm_script(sim);
	return 0;
}

static bool holds_now(const struct sim *sim, const struct sim_line *line)
{
	return line->boot == 0 || line->boot == sim->boot;
}

static void begin_boot(struct sim *sim)
{
	uint64_t now_us = clock_now_us();

	stop_script(sim);
	sim->boot++;
	sim->silent = sim->crashed = false;
	sim->input_length = 0;
	for (size_t i = 0; i < sim->script.count; i++) {
		const struct sim_line *line = &sim->script.lines[i];

		if (line->when != SIM_ON && holds_now(sim, line))
			sim->due_us[i] = now_us + line->time_us;
	}
	arm_script(sim);
}

static bool ends_with(const struct sim *sim, const struct sim_line *line)
{
	return line->trigger_length <= sim->input_length &&
	       memcmp(sim->input + sim->input_length - line->trigger_length, line->trigger,
		      line->trigger_length) == 0;
}

static void receive(void *data, char byte)
{
	struct sim *sim = data;

	if (!sim->on || sim->crashed)
		return;
	if (sim->input_length == sizeof(sim->input)) {
		memmove(sim->input, sim->input + sizeof(sim->input) / 2, sizeof(sim->input) / 2);
		sim->input_length = sizeof(sim->input) / 2;
	}
	sim->input[sim->input_length++] = byte;
	for (size_t i = 0; i < sim->script.count; i++) {
		const struct sim_line *line = &sim->script.lines[i];

		if (line->when == SIM_ON && holds_now(sim, line) && ends_with(sim, line)) {
			sim->input_length = 0;
			act(sim, line);
			return;
		}
	}
}

/* ---- the outlet ---- */

static void answer(struct sim *sim)
{
	static const char *const states[] = { "OFF", "ON" };
	const char *fail = sim->script.fail[sim->verb];
	bool shown = sim->script.lie >= 0 ? sim->script.lie : sim->on;

	/* Who asked may be gone; his successor has not asked. */
	if (!sim->asked)
		return;
	sim->asked = false;
	(void)packet_send(sim->control_fd,
			  json_pack("{s:s, s:b, s:s, s:s?}", "t", "done", "ok", !fail, "state",
				    states[shown], "error", fail),
			  NULL, 0, NULL);
}

static int on_answer_timer(sd_event_source *source, uint64_t usec, void *data)
{
	(void)source;
	(void)usec;
	answer(data);
	return 0;
}

static void answer_later(struct sim *sim)
{
	uint64_t delay_us = sim->script.delay_us[sim->verb];

	if (delay_us == 0) {
		answer(sim);
		return;
	}
	(void)sd_event_source_set_time_relative(sim->answer_timer, delay_us);
	(void)sd_event_source_set_enabled(sim->answer_timer, SD_EVENT_ONESHOT);
}

/* The console goes with the power. */
static void end_drain(struct sim *sim)
{
	if (sim->drain_begun_us == 0)
		return;
	sim->drain_begun_us = 0;
	(void)sd_event_source_set_enabled(sim->drain_timer, SD_EVENT_OFF);
	record(sim, sim_uart_unread(sim->uart) > 0 ? "undrained" : "drained");
	sim_uart_hang_up(sim->uart);
	record(sim, "off");
}

/* Has the reader read all, or had its time? */
static int on_drain_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct sim *sim = data;

	(void)usec;
	if (sim_uart_unread(sim->uart) > 0 &&
	    clock_now_us() - sim->drain_begun_us < DRAIN_LIMIT_US) {
		(void)sd_event_source_set_time_relative(source, DRAIN_STEP_US);
		(void)sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
		return 0;
	}
	end_drain(sim);
	answer_later(sim);
	return 0;
}

static void switch_off(struct sim *sim)
{
	if (!sim->on) {
		end_drain(sim); /* of an `off` whose asker is gone */
		record(sim, "off-already");
		answer_later(sim);
	} else if (sim->script.fail[SIM_VERB_OFF]) {
		record(sim, "off-failed");
		answer_later(sim);
	} else if (sim->script.ignore_off > 0) {
		if (sim->script.ignore_off != UINT_MAX)
			sim->script.ignore_off--;
		record(sim, "off-ignored");
		answer_later(sim);
	} else {
		sim->on = false;
		stop_script(sim);
		sim->silent = true;
		sim->drain_begun_us = clock_now_us();
		(void)on_drain_timer(sim->drain_timer, 0, sim);
	}
}

static void switch_on(struct sim *sim)
{
	end_drain(sim); /* of an `off` whose asker is gone */
	if (sim->on) {
		record(sim, "on-already");
	} else if (sim->script.fail[SIM_VERB_ON]) {
		record(sim, "on-failed");
	} else {
		record(sim, "on");
		sim->on = true;
		begin_boot(sim);
	}
	answer_later(sim);
}

static void handle_packet(struct sim *sim, const char *type)
{
	if (strcmp(type, "exit") == 0) {
		if (sim->on)
			return;
		record(sim, "exit");
		(void)sd_event_exit(sim->event, 0);
		return;
	}
	sim->asked = true;
	(void)sd_event_source_set_enabled(sim->answer_timer, SD_EVENT_OFF);
	if (strcmp(type, "on") == 0) {
		sim->verb = SIM_VERB_ON;
		switch_on(sim);
	} else if (strcmp(type, "off") == 0) {
		sim->verb = SIM_VERB_OFF;
		switch_off(sim);
	} else {
		sim->verb = SIM_VERB_READ;
		answer_later(sim);
	}
}

static int on_control(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct sim *sim = data;
	int fds[PACKET_FDS_MAX], r;
	json_t *packet = NULL;

	(void)source;
	(void)events;
	r = packet_receive(fd, &packet, fds, NULL);
	for (unsigned i = 0; i < PACKET_FDS_MAX; i++)
		(void)close_fd(fds[i]);
	if (r == 1)
		handle_packet(sim, json_string_value(json_object_get(packet, "t")));
	json_decref(packet);
	/* A dutd that left without reading our answer; what it said before that is still to be
	 * read. */
	if (r == -ECONNRESET)
		return 0;
	if (r == 0 || (r < 0 && r != -EAGAIN && r != -EBADMSG)) {
		sim->control_source = sd_event_source_disable_unref(sim->control_source);
		sim->control_fd = close_fd(sim->control_fd);
	}
	return 0;
}

/* The youngest connection is the outlet's: an older one is a dutd that died. */
static int on_control_accept(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct sim *sim = data;
	int accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)source;
	(void)events;
	if (accepted < 0)
		return 0;
	sim->control_source = sd_event_source_disable_unref(sim->control_source);
	(void)close_fd(sim->control_fd);
	sim->control_fd = accepted;
	sim->asked = false;
	(void)sd_event_add_io(sim->event, &sim->control_source, accepted, EPOLLIN, on_control, sim);
	return 0;
}

/* ---- the process ---- */

static int open_record(struct sim *sim, const char *script, struct error *err)
{
	const char *slash = strrchr(script, '/');
	char path[PATH_MAX];

	(void)snprintf(path, sizeof(path), "%.*srecord.jsonl",
		       slash ? (int)(slash - script + 1) : 0, script);
	sim->record_fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
	return sim->record_fd < 0 ? error_errno(err, "%s", path) : 0;
}

static int add_timer(struct sim *sim, sd_event_source **ret, sd_event_time_handler_t handler)
{
	int r = sd_event_add_time(sim->event, ret, CLOCK_BOOTTIME, 0, 1, handler, sim);

	return r < 0 ? r : sd_event_source_set_enabled(*ret, SD_EVENT_OFF);
}

static void note(void *data, const char *event)
{
	record(data, event);
}

static int open_uart(struct sim *sim, const char *sent, struct error *err)
{
	struct sim_uart_config config = {
		.event = sim->event,
		.listen_fd = SIM_FD_CONSOLE,
		.sent_fd = -1,
		.received = receive,
		.note = note,
		.data = sim,
	};

	if (sent) {
		config.sent_fd = open(sent, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
		if (config.sent_fd < 0)
			return error_errno(err, "%s", sent);
	}
	return sim_uart_new(&sim->uart, &config, err);
}

static int set_up(struct sim *sim, const char *script, const char *sent, struct error *err)
{
	int r = sim_script_load(&sim->script, script, err);

	if (r >= 0)
		r = open_record(sim, script, err);
	if (r < 0)
		return r;
	sim->due_us = calloc(sim->script.count + 1, sizeof(*sim->due_us));
	if (!sim->due_us)
		return error_oom(err);
	r = sd_event_new(&sim->event);
	if (r >= 0)
		r = sd_event_add_io(sim->event, NULL, SIM_FD_CONTROL, EPOLLIN, on_control_accept,
				    sim);
	if (r >= 0)
		r = add_timer(sim, &sim->answer_timer, on_answer_timer);
	if (r >= 0)
		r = add_timer(sim, &sim->drain_timer, on_drain_timer);
	if (r >= 0)
		r = add_timer(sim, &sim->script_timer, on_script_timer);
	if (r < 0)
		return error_code(err, r, "cannot set up the loop");
	return open_uart(sim, sent, err);
}

static void tear_down(struct sim *sim)
{
	sim->uart = sim_uart_free(sim->uart);
	sd_event_source_disable_unref(sim->control_source);
	sd_event_source_disable_unref(sim->answer_timer);
	sd_event_source_disable_unref(sim->drain_timer);
	sd_event_source_disable_unref(sim->script_timer);
	sd_event_unref(sim->event);
	(void)close_fd(sim->control_fd);
	(void)close_fd(sim->record_fd);
	free(sim->due_us);
	sim_script_done(&sim->script);
}

int main(int argc, char **argv)
{
	struct sim sim = { .record_fd = -1, .control_fd = -1 };
	struct error err;
	int r;

	if (argc < 3 || argc > 4) {
		(void)fputs("usage: dut-sim BOARD SCRIPT [SENT], started by dutd\n", stderr);
		return 64;
	}
	for (int fd = SIM_FD_CONTROL; fd <= SIM_FD_LOCK; fd++)
		(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
	(void)signal(SIGPIPE, SIG_IGN);
	sim.name = argv[1];
	r = set_up(&sim, argv[2], argc == 4 ? argv[3] : NULL, &err);
	if (r >= 0) {
		record(&sim, "start");
		r = sd_event_loop(sim.event);
	} else {
		(void)fprintf(stderr, "dut-sim: %s: %s\n", argv[1], err.text);
	}
	tear_down(&sim);
	return r < 0 ? 1 : 0;
}
