/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include <linux/sockios.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/protocol.h"
#include "hw/sim-board.h"
#include "hw/sim-script.h"

/*
 * dut-sim: a board without hardware. It is a process of its own, so that it lives on when dutd
 * dies, as a board would; its outlet is the socket sim.sock, its UART the socket console.sock. What
 * it does it has from a script; what was done to it, and how many bytes it really got rid of, it
 * notes in a record of its own, for tests to compare.
 */

enum {
	CHUNK = 4096,		  /* of a flood */
	FLOOD_LINE = 64,	  /* bytes; the last one is the line end */
	MAX_QUEUE = 8 << 20,	  /* bytes that wait for the console's reader; more is dropped */
	INPUT_KEPT = 256,	  /* bytes in which `on` looks for its text */
	DRAIN_STEP_US = 2000,	  /* how often an `off` looks whether the reader has read all */
	DRAIN_LIMIT_US = 1000000, /* and for how long */
	FLOOD_STEP_US = 10000,	  /* how often a flood of a given rate writes */
};

struct timed { /* one line of the script, armed */
	struct sim *sim;
	const struct sim_line *line;
	sd_event_source *timer;
};

struct sim {
	sd_event *event;
	const char *name;
	struct sim_script script;
	int record_fd, sent_fd; /* -1: none */

	int control_fd; /* dutd's connection to the outlet */
	sd_event_source *control_source, *answer_timer;
	enum sim_verb verb; /* being answered */
	bool on;	    /* the outlet's real state */

	int console_listen_fd, console_fd;
	sd_event_source *accept_source, *console_source, *drain_timer;
	uint64_t drain_begun_us;

	struct timed *timed; /* as many as the script has lines */
	unsigned boot;
	bool silent, crashed;
	char *queue; /* what is to be sent */
	size_t queued, queue_at;
	const struct sim_line *flood;
	uint64_t flood_begun_us, flood_sent, flood_line;
	sd_event_source *flood_timer;
	char input[INPUT_KEPT];
	size_t input_length;
	uint64_t total,
		dropped; /* bytes whose write() returned; bytes for which nobody was there */
};

static void record(const struct sim *sim, const char *event)
{
	char line[256];
	int length =
		snprintf(line, sizeof(line),
			 "{\"board\": \"%s\", \"time_us\": %" PRIu64 ", \"event\": \"%s\", "
			 "\"boot\": %u, \"total\": %" PRIu64 ", \"dropped\": %" PRIu64 "}\n",
			 sim->name, clock_now_us(), event, sim->boot, sim->total, sim->dropped);

	/* A board does not stop because its witness has no paper. */
	if (write(sim->record_fd, line, (size_t)length) < 0)
		return;
}

/* ---- the UART ---- */

static int on_console(sd_event_source *source, int fd, uint32_t events, void *data);

static void want_output(struct sim *sim, bool wanted)
{
	if (sim->console_source)
		(void)sd_event_source_set_io_events(sim->console_source,
						    EPOLLIN | (wanted ? EPOLLOUT : 0u));
}

static void close_console(struct sim *sim)
{
	sim->console_source = sd_event_source_disable_unref(sim->console_source);
	sim->console_fd = close_fd(sim->console_fd);
	(void)sd_event_source_set_enabled(sim->accept_source, SD_EVENT_ON);
	record(sim, "disconnect");
}

static int on_accept(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct sim *sim = data;

	(void)events;
	sim->console_fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (sim->console_fd < 0)
		return 0;
	/* One reader at a time, as one cable: the next one waits until this one is gone. */
	(void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
	(void)sd_event_add_io(sim->event, &sim->console_source, sim->console_fd, EPOLLIN,
			      on_console, sim);
	record(sim, "connect");
	return 0;
}

/* Writes what the reader takes: the number of bytes, 0 when it takes none now, -1 when nobody is
 * there. */
static ssize_t write_console(struct sim *sim, const char *bytes, size_t length)
{
	ssize_t n;

	if (sim->console_fd < 0)
		return -1;
	n = send(sim->console_fd, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n < 0) {
		close_console(sim);
		return -1;
	}
	sim->total += (uint64_t)n;
	if (sim->sent_fd >= 0 && write(sim->sent_fd, bytes, (size_t)n) < 0)
		record(sim, "sent-file-failed");
	return n;
}

static void drop_queue(struct sim *sim)
{
	free(sim->queue);
	sim->queue = NULL;
	sim->queued = sim->queue_at = 0;
}

/* False when the reader does not take all of it now. */
static bool send_queue(struct sim *sim)
{
	while (sim->queue_at < sim->queued) {
		ssize_t n =
			write_console(sim, sim->queue + sim->queue_at, sim->queued - sim->queue_at);

		if (n < 0) {
			sim->dropped += sim->queued - sim->queue_at;
			break;
		}
		if (n == 0)
			return false;
		sim->queue_at += (size_t)n;
	}
	drop_queue(sim);
	return true;
}

/* The bytes of the flood from its byte `at` on: numbered lines of 64 bytes. */
static size_t fill_flood(char *buffer, size_t size, uint64_t at)
{
	size_t used = 0;

	while (used < size) {
		char line[FLOOD_LINE + 1];
		size_t skip = (size_t)(at % FLOOD_LINE), take;

		(void)snprintf(line, sizeof(line),
			       "flood %020" PRIu64 " 0123456789abcdefghijklmnopqrst..\r\n",
			       at / FLOOD_LINE);
		take = FLOOD_LINE - skip < size - used ? FLOOD_LINE - skip : size - used;
		memcpy(buffer + used, line + skip, take);
		used += take;
		at += take;
	}
	return used;
}

/* How much of the flood is due by now. */
static uint64_t flood_due(struct sim *sim)
{
	uint64_t elapsed_us = clock_now_us() - sim->flood_begun_us;

	if (elapsed_us > sim->flood->for_us) {
		sim->flood = NULL;
		return 0;
	}
	if (sim->flood->rate == UINT64_MAX)
		return UINT64_C(4) * CHUNK;
	return elapsed_us * sim->flood->rate / 1000000 - sim->flood_sent;
}

static void arm_flood(struct sim *sim)
{
	if (!sim->flood)
		return;
	if (sim->flood->rate == UINT64_MAX && sim->console_fd >= 0) {
		want_output(sim, true);
		return;
	}
	(void)sd_event_source_set_time_relative(sim->flood_timer, FLOOD_STEP_US);
	(void)sd_event_source_set_enabled(sim->flood_timer, SD_EVENT_ONESHOT);
}

static void send_flood(struct sim *sim)
{
	uint64_t due = sim->flood ? flood_due(sim) : 0;

	while (due > 0) {
		char buffer[CHUNK];
		size_t length =
			fill_flood(buffer, due < CHUNK ? (size_t)due : CHUNK, sim->flood_sent);
		ssize_t n = write_console(sim, buffer, length);

		if (n == 0) {
			want_output(sim, true);
			return;
		}
		if (n < 0) {
			sim->dropped += length;
			n = (ssize_t)length;
		}
		sim->flood_sent += (uint64_t)n;
		due -= (uint64_t)n;
	}
	arm_flood(sim);
}

static int on_flood_timer(sd_event_source *source, uint64_t usec, void *data)
{
	(void)source;
	(void)usec;
	send_flood(data);
	return 0;
}

static void send_text(struct sim *sim, const char *text, size_t length)
{
	char *grown;

	if (sim->silent)
		return;
	if (sim->queued + length > MAX_QUEUE) {
		sim->dropped += length;
		return;
	}
	grown = realloc(sim->queue, sim->queued + length);
	if (!grown)
		return;
	memcpy(grown + sim->queued, text, length);
	sim->queue = grown;
	sim->queued += length;
	want_output(sim, !send_queue(sim));
}

/* ---- the script ---- */

static void begin_boot(struct sim *sim);

static void stop_script(struct sim *sim)
{
	for (size_t i = 0; i < sim->script.count; i++)
		sim->timed[i].timer = sd_event_source_disable_unref(sim->timed[i].timer);
	sim->flood = NULL;
	(void)sd_event_source_set_enabled(sim->flood_timer, SD_EVENT_OFF);
	drop_queue(sim);
	want_output(sim, false);
}

static void act(struct sim *sim, const struct sim_line *line)
{
	switch (line->action) {
	case SIM_SEND:
		send_text(sim, line->text, line->length);
		break;
	case SIM_FLOOD:
		sim->flood = line;
		sim->flood_begun_us = clock_now_us();
		sim->flood_sent = 0;
		send_flood(sim);
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

static int on_timed(sd_event_source *source, uint64_t usec, void *data)
{
	const struct timed *timed = data;
	const struct sim_line *line = timed->line;

	if (line->when == SIM_EVERY) {
		(void)sd_event_source_set_time(source, usec + line->time_us);
		(void)sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	}
	act(timed->sim, line);
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

		if (line->when == SIM_ON || !holds_now(sim, line))
			continue;
		(void)sd_event_add_time(sim->event, &sim->timed[i].timer, CLOCK_BOOTTIME,
					now_us + line->time_us, 1, on_timed, &sim->timed[i]);
	}
}

static bool ends_with(const struct sim *sim, const struct sim_line *line)
{
	return line->trigger_length <= sim->input_length &&
	       memcmp(sim->input + sim->input_length - line->trigger_length, line->trigger,
		      line->trigger_length) == 0;
}

static void receive(struct sim *sim, char byte)
{
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

static int on_console(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct sim *sim = data;
	char buffer[256];
	ssize_t n;

	(void)source;
	if (events & (EPOLLIN | EPOLLHUP)) {
		n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
			close_console(sim);
			return 0;
		}
		for (ssize_t i = 0; i < n && sim->on && !sim->crashed && sim->console_fd >= 0; i++)
			receive(sim, buffer[i]);
	}
	if ((events & EPOLLOUT) && sim->console_fd >= 0) {
		want_output(sim, false);
		if (!send_queue(sim))
			want_output(sim, true);
		else
			send_flood(sim);
	}
	return 0;
}

/* ---- the outlet ---- */

static void answer(struct sim *sim)
{
	static const char *const states[] = { "OFF", "ON" };
	const char *fail = sim->script.fail[sim->verb];
	bool shown = sim->script.lie >= 0 ? sim->script.lie : sim->on;

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

/* The reader has read all, or had its time: the console goes with the power. */
static int on_drain_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct sim *sim = data;
	int unread = 0;

	(void)usec;
	if (sim->console_fd >= 0 && ioctl(sim->console_fd, SIOCOUTQ, &unread) == 0 && unread > 0 &&
	    clock_now_us() - sim->drain_begun_us < DRAIN_LIMIT_US) {
		(void)sd_event_source_set_time_relative(source, DRAIN_STEP_US);
		(void)sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
		return 0;
	}
	record(sim, unread > 0 ? "undrained" : "drained");
	if (sim->console_fd >= 0)
		close_console(sim);
	record(sim, "off");
	answer_later(sim);
	return 0;
}

static void switch_off(struct sim *sim)
{
	if (!sim->on || sim->script.ignore_off > 0) {
		if (sim->on && sim->script.ignore_off != UINT_MAX)
			sim->script.ignore_off--;
		record(sim, sim->on ? "off-ignored" : "off-already");
		answer_later(sim);
		return;
	}
	sim->on = false;
	stop_script(sim);
	sim->silent = true;
	sim->drain_begun_us = clock_now_us();
	(void)on_drain_timer(sim->drain_timer, 0, sim);
}

static void switch_on(struct sim *sim)
{
	record(sim, sim->on ? "on-already" : "on");
	if (!sim->on && !sim->script.fail[SIM_VERB_ON]) {
		sim->on = true;
		begin_boot(sim);
	}
	answer_later(sim);
}

static void handle_packet(struct sim *sim, const char *type)
{
	if (strcmp(type, "on") == 0) {
		sim->verb = SIM_VERB_ON;
		switch_on(sim);
	} else if (strcmp(type, "off") == 0) {
		sim->verb = SIM_VERB_OFF;
		switch_off(sim);
	} else if (strcmp(type, "read") == 0) {
		sim->verb = SIM_VERB_READ;
		answer_later(sim);
	} else if (strcmp(type, "exit") == 0 && !sim->on) {
		record(sim, "exit");
		(void)sd_event_exit(sim->event, 0);
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

static int set_up(struct sim *sim, struct error *err)
{
	int r;

	sim->timed = calloc(sim->script.count + 1, sizeof(*sim->timed));
	if (!sim->timed)
		return error_oom(err);
	for (size_t i = 0; i < sim->script.count; i++)
		sim->timed[i] = (struct timed){ .sim = sim, .line = &sim->script.lines[i] };
	r = sd_event_default(&sim->event);
	if (r >= 0)
		r = sd_event_add_io(sim->event, NULL, SIM_FD_CONTROL, EPOLLIN, on_control_accept,
				    sim);
	if (r >= 0)
		r = sd_event_add_io(sim->event, &sim->accept_source, SIM_FD_CONSOLE, EPOLLIN,
				    on_accept, sim);
	if (r >= 0)
		r = add_timer(sim, &sim->answer_timer, on_answer_timer);
	if (r >= 0)
		r = add_timer(sim, &sim->drain_timer, on_drain_timer);
	if (r >= 0)
		r = add_timer(sim, &sim->flood_timer, on_flood_timer);
	return r < 0 ? error_code(err, r, "cannot set up the loop") : 0;
}

static void tear_down(struct sim *sim)
{
	if (sim->timed)
		stop_script(sim);
	sd_event_source_disable_unref(sim->control_source);
	sd_event_source_disable_unref(sim->answer_timer);
	sd_event_source_disable_unref(sim->accept_source);
	sd_event_source_disable_unref(sim->console_source);
	sd_event_source_disable_unref(sim->drain_timer);
	sd_event_source_disable_unref(sim->flood_timer);
	sd_event_unref(sim->event);
	(void)close_fd(sim->control_fd);
	(void)close_fd(sim->console_fd);
	(void)close_fd(sim->record_fd);
	(void)close_fd(sim->sent_fd);
	free(sim->timed);
	sim_script_done(&sim->script);
}

int main(int argc, char **argv)
{
	struct sim sim = { .record_fd = -1, .sent_fd = -1, .control_fd = -1, .console_fd = -1 };
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
	r = sim_script_load(&sim.script, argv[2], &err);
	if (r >= 0)
		r = open_record(&sim, argv[2], &err);
	if (r >= 0 && argc == 4) {
		sim.sent_fd = open(argv[3], O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
		if (sim.sent_fd < 0)
			r = error_errno(&err, "%s", argv[3]);
	}
	if (r >= 0)
		r = set_up(&sim, &err);
	if (r >= 0) {
		record(&sim, "start");
		r = sd_event_loop(sim.event);
	} else {
		(void)fprintf(stderr, "dut-sim: %s: %s\n", argv[1], err.text);
	}
	tear_down(&sim);
	return r < 0 ? 1 : 0;
}
