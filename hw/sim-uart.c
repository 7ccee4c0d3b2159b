/* SPDX-License-Identifier: MIT */
#include "hw/sim-uart.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/sockios.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/clock.h"

enum {
	CHUNK = 4096,	       /* of a flood */
	FLOOD_LINE = 64,       /* bytes; the last ones are the line end */
	FLOOD_STEP_US = 10000, /* how often a flood of a given rate writes */
	MAX_QUEUE = 8 << 20,   /* bytes that wait for the reader; more is dropped */
	INPUT_CHUNK = 256,
};

struct flood {
	bool flows;
	uint64_t rate, for_us;
	uint64_t begun_us, sent;
};

struct sim_uart {
	struct sim_uart_config config;
	int fd; /* to the reader, or -1 */
	sd_event_source *accept_source, *source, *flood_timer;
	char *queue; /* what is to be sent before the flood goes on */
	size_t queued, queue_at;
	struct flood flood;
	uint64_t total, dropped;
};

/* ---- the reader ---- */

static int on_reader(sd_event_source *source, int fd, uint32_t events, void *data);

static void want_output(struct sim_uart *uart, bool wanted)
{
	if (uart->source)
		(void)sd_event_source_set_io_events(uart->source,
						    EPOLLIN | (wanted ? EPOLLOUT : 0u));
}

static void drop_queue(struct sim_uart *uart)
{
	uart->dropped += uart->queued - uart->queue_at;
	free(uart->queue);
	uart->queue = NULL;
	uart->queued = uart->queue_at = 0;
}

static void arm_flood_timer(struct sim_uart *uart)
{
	(void)sd_event_source_set_time_relative(uart->flood_timer, FLOOD_STEP_US);
	(void)sd_event_source_set_enabled(uart->flood_timer, SD_EVENT_ONESHOT);
}

void sim_uart_hang_up(struct sim_uart *uart)
{
	if (uart->fd < 0)
		return;
	uart->source = sd_event_source_disable_unref(uart->source);
	uart->fd = close_fd(uart->fd);
	(void)sd_event_source_set_enabled(uart->accept_source, SD_EVENT_ON);
	/* What was meant for this reader is nothing for the next one; and no room in his socket
	 * will wake a flood. */
	drop_queue(uart);
	if (uart->flood.flows)
		arm_flood_timer(uart);
	uart->config.note(uart->config.data, "disconnect");
}

static int on_accept(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct sim_uart *uart = data;

	(void)events;
	uart->fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (uart->fd < 0)
		return 0;
	if (sd_event_add_io(uart->config.event, &uart->source, uart->fd, EPOLLIN, on_reader, uart) <
	    0) {
		uart->fd = close_fd(uart->fd);
		return 0;
	}
	/* The next one waits until this one is gone. */
	(void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
	uart->config.note(uart->config.data, "connect");
	return 0;
}

/* Writes what the reader takes: the number of bytes, 0 when it takes none now, -1 when nobody is
 * there. */
static ssize_t write_bytes(struct sim_uart *uart, const char *bytes, size_t length)
{
	ssize_t n;

	if (uart->fd < 0)
		return -1;
	n = send(uart->fd, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n < 0) {
		sim_uart_hang_up(uart);
		return -1;
	}
	uart->total += (uint64_t)n;
	if (uart->config.sent_fd >= 0 && write(uart->config.sent_fd, bytes, (size_t)n) != n)
		uart->config.note(uart->config.data, "sent-file-failed");
	return n;
}

/* ---- texts ---- */

/* False when the reader does not take all of it now. */
static bool send_queue(struct sim_uart *uart)
{
	while (uart->queue_at < uart->queued) {
		ssize_t n = write_bytes(uart, uart->queue + uart->queue_at,
					uart->queued - uart->queue_at);

		if (n == 0)
			return false;
		if (n < 0)
			break;
		uart->queue_at += (size_t)n;
	}
	drop_queue(uart);
	return true;
}

void sim_uart_send(struct sim_uart *uart, const char *text, size_t length)
{
	char *grown = NULL;

	if (uart->queued + length <= MAX_QUEUE)
		grown = realloc(uart->queue, uart->queued + length);
	if (!grown) {
		uart->dropped += length;
		return;
	}
	memcpy(grown + uart->queued, text, length);
	uart->queue = grown;
	uart->queued += length;
	if (!send_queue(uart))
		want_output(uart, true);
}

/* ---- floods ---- */

/* The bytes of the flood from its byte `at` on: numbered lines. */
static void fill_flood(char *buffer, size_t size, uint64_t at)
{
	for (size_t used = 0; used < size;) {
		char line[FLOOD_LINE + 1];
		size_t skip = (size_t)(at % FLOOD_LINE), take;

		(void)snprintf(line, sizeof(line),
			       "flood %020" PRIu64 " 0123456789abcdefghijklmnopqrstuvwxy\r\n",
			       at / FLOOD_LINE);
		take = FLOOD_LINE - skip < size - used ? FLOOD_LINE - skip : size - used;
		memcpy(buffer + used, line + skip, take);
		used += take;
		at += take;
	}
}

/* How much of it is due by now. */
static uint64_t flood_due(struct sim_uart *uart)
{
	struct flood *flood = &uart->flood;
	uint64_t elapsed_us = clock_now_us() - flood->begun_us;

	if (!flood->flows)
		return 0;
	if (elapsed_us > flood->for_us) {
		flood->flows = false;
		return 0;
	}
	if (flood->rate == UINT64_MAX)
		return UINT64_C(4) * CHUNK;
	return elapsed_us * flood->rate / 1000000 - flood->sent;
}

static void send_flood(struct sim_uart *uart)
{
	for (uint64_t due = flood_due(uart); due > 0;) {
		char buffer[CHUNK];
		size_t length = due < CHUNK ? (size_t)due : CHUNK;
		ssize_t n;

		fill_flood(buffer, length, uart->flood.sent);
		n = write_bytes(uart, buffer, length);
		if (n == 0) {
			want_output(uart, true);
			return;
		}
		if (n < 0) {
			uart->dropped += length;
			n = (ssize_t)length;
		}
		uart->flood.sent += (uint64_t)n;
		due -= (uint64_t)n;
	}
	if (!uart->flood.flows)
		return;
	if (uart->flood.rate == UINT64_MAX && uart->fd >= 0)
		want_output(uart, true);
	else
		arm_flood_timer(uart);
}

static int on_flood_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct sim_uart *uart = data;

	(void)source;
	(void)usec;
	/* A text that waits for the reader goes first. */
	if (uart->queued > 0)
		want_output(uart, true);
	else
		send_flood(uart);
	return 0;
}

void sim_uart_flood(struct sim_uart *uart, uint64_t rate, uint64_t for_us)
{
	uart->flood = (struct flood){
		.flows = true, .rate = rate, .for_us = for_us, .begun_us = clock_now_us()
	};
	arm_flood_timer(uart);
}

/* ---- all of it ---- */

static int on_reader(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct sim_uart *uart = data;
	char buffer[INPUT_CHUNK];
	ssize_t n;

	(void)source;
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
			sim_uart_hang_up(uart);
			return 0;
		}
		for (ssize_t i = 0; i < n; i++)
			uart->config.received(uart->config.data, buffer[i]);
	}
	/* What was received may have led to a hang-up. */
	if (!(events & EPOLLOUT) || uart->fd < 0)
		return 0;
	want_output(uart, false);
	if (send_queue(uart))
		send_flood(uart);
	else
		want_output(uart, true);
	return 0;
}

void sim_uart_stop(struct sim_uart *uart)
{
	uart->flood.flows = false;
	(void)sd_event_source_set_enabled(uart->flood_timer, SD_EVENT_OFF);
	drop_queue(uart);
	want_output(uart, false);
}

int sim_uart_unread(const struct sim_uart *uart)
{
	int unread = 0;

	if (uart->fd >= 0)
		(void)ioctl(uart->fd, SIOCOUTQ, &unread);
	return unread;
}

uint64_t sim_uart_total(const struct sim_uart *uart)
{
	return uart->total;
}

uint64_t sim_uart_dropped(const struct sim_uart *uart)
{
	return uart->dropped;
}

struct sim_uart *sim_uart_free(struct sim_uart *uart)
{
	if (!uart)
		return NULL;
	free(uart->queue);
	sd_event_source_disable_unref(uart->source);
	sd_event_source_disable_unref(uart->accept_source);
	sd_event_source_disable_unref(uart->flood_timer);
	(void)close_fd(uart->fd);
	(void)close_fd(uart->config.sent_fd);
	free(uart);
	return NULL;
}

CLEANUP_DEFINE(struct sim_uart *, sim_uart_free)

int sim_uart_new(struct sim_uart **ret, const struct sim_uart_config *config, struct error *err)
{
	cleanup_(sim_uart_freep) struct sim_uart *uart = calloc(1, sizeof(*uart));
	int r;

	if (!uart) {
		(void)close_fd(config->sent_fd);
		return error_oom(err);
	}
	uart->config = *config;
	uart->fd = -1;
	r = sd_event_add_io(config->event, &uart->accept_source, config->listen_fd, EPOLLIN,
			    on_accept, uart);
	if (r >= 0)
		r = sd_event_add_time(config->event, &uart->flood_timer, CLOCK_BOOTTIME, 0, 1,
				      on_flood_timer, uart);
	if (r >= 0)
		r = sd_event_source_set_enabled(uart->flood_timer, SD_EVENT_OFF);
	if (r < 0)
		return error_code(err, r, "cannot watch the console");
	*ret = take_ptr(uart);
	return 0;
}
