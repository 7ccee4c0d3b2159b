/* SPDX-License-Identifier: MIT */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/protocol.h"
#include "dut/board.h"
#include "dut/fdstore.h"
#include "dut/words.h"

/* What lease.c (the process) and lease-start.c, lease-control.c (the talk with it) and
 * lease-console.c share. */

struct lease {
	struct board *board;
	struct job *job;
	pid_t pid;
	int pidfd;
	bool adopted; /* an earlier dutd's: no child of ours, its exit status cannot be had */
	sd_event_source *child_source;
	uint64_t begun_us; /* CLOCK_BOOTTIME */

	int words_fd; /* what it says is read there; -1 once the words have it */
	struct words *words;
	struct fdstore_slot words_slot;

	int ready_fd; /* pipe; -1 after its word */
	sd_event_source *ready_source;
	bool ready;
	char reason[READY_REASON_MAX + 1]; /* why it cannot start, or was killed */
	sd_event_source *timer;		   /* the start limit, later a new connection */
	sd_event_source *kill_timer;	   /* after a cancel */
	sd_event_source *overall_timer;	   /* when no job may still run */

	int control_fd;
	sd_event_source *control_source;
	bool greeted;		 /* its hello was right */
	bool said_hello;	 /* over this connection */
	bool going;		 /* it has its go */
	bool placed;		 /* in a scope of its own, or it does without */
	struct scope_move *move; /* on its way there */
	bool cancel_sent;
	sd_event_source *console_timer; /* while the console has hung up */
	uint64_t hung_up_us;
	bool console_lost; /* the job is to end for that, */
	char why[256];	   /* said like this */
	bool complained;   /* that it cannot be reached: said once */

	unsigned lent;	     /* the generation that it has confirmed */
	json_int_t request;  /* the number that is being served, 0: none */
	json_int_t answered; /* the last number that was answered, with its answer */
	json_t *answer;
};

/* lease.c */
void lease_connect(struct lease *lease);
void lease_reconnect_later(struct lease *lease);
void lease_read_ready(struct lease *lease);
void lease_kill(struct lease *lease, const char *why);
void lease_refuse(struct lease *lease, const char *why);

/* lease-start.c: starts the process with its fds; pid, pidfd and ready_fd are set. */
int lease_spawn(struct lease *lease, struct error *err);

/* What its process says, a line each of the log; words_fd is taken over, or what an earlier dutd
 * had of it. */
int lease_listen(struct lease *lease, struct error *err);

/* lease-control.c */
int lease_greet(struct lease *lease, struct error *err);
void lease_drain_control(struct lease *lease);
void lease_send_cancel(struct lease *lease);

/* Sends a packet, whose reference it takes. A peer that does not take packets is as good as gone:
 * it gets a new connection. */
int lease_send(struct lease *lease, json_t *packet, const int *fds, unsigned n_fds);

/* lease-console.c */
struct line *lease_line(const struct lease *lease); /* the console that is lent, or NULL */
void lease_on_lent(struct lease *lease, const json_t *packet);

/* What the executor of an earlier dutd has of the console becomes ours, too; fds are those of its
 * hello, of which it takes what it keeps. */
int lease_adopt_console(struct lease *lease, const json_t *console, int fds[static PACKET_FDS_MAX],
			struct error *err);
