/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/error.h"

/*
 * The UART of a sim board: a listening unix socket with one reader at a time, as one cable. Like
 * a UART it drops what nobody is there to receive; a reader that is there, but slow, makes it wait.
 */

struct sim_uart;

struct sim_uart_config {
	sd_event *event;
	int listen_fd; /* borrowed */
	int sent_fd;   /* gets every byte whose write() returned; -1: none; taken over */
	void (*received)(void *data, char byte);
	void (*note)(void *data, const char *event); /* something to put on record */
	void *data;
};

int sim_uart_new(struct sim_uart **ret, const struct sim_uart_config *config, struct error *err);
struct sim_uart *sim_uart_free(struct sim_uart *uart);

void sim_uart_send(struct sim_uart *uart, const char *text, size_t length);

/* Numbered lines, rate bytes a second (UINT64_MAX: as fast as it goes) for for_us (UINT64_MAX: for
 * ever). */
void sim_uart_flood(struct sim_uart *uart, uint64_t rate, uint64_t for_us);

/* Writes nothing any more, also not what waits to be written. */
void sim_uart_stop(struct sim_uart *uart);

void sim_uart_hang_up(struct sim_uart *uart);

/* How many bytes the reader has not taken yet. */
int sim_uart_unread(const struct sim_uart *uart);

/* Bytes whose write() returned; bytes for which nobody was there. */
uint64_t sim_uart_total(const struct sim_uart *uart);
uint64_t sim_uart_dropped(const struct sim_uart *uart);
