/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/error.h"
#include "base/list.h"
#include "hw/power.h"

/*
 * A board's power as dutd handles it, on top of a driver: one operation after the other, the
 * minimum off time before an `on`, the settle time after a switch, and what is known of the state,
 * which is read when the driver says that it may have changed by itself.
 * A request takes as long as the device takes; it ends in a callback, once, never from within the
 * call that made it.
 */

struct outlet;

/* END: power_end(), before the outlet is given up */
enum outlet_verb { OUTLET_OFF, OUTLET_ON, OUTLET_READ, OUTLET_END };

typedef void (*outlet_done_fn)(const struct power_result *result, void *data);

struct outlet_config {
	sd_event *event;
	struct power *power; /* taken over */
	uint64_t min_off_us, settle_us;
	/*
	 * Runs when everything is prepared for an `on`, before the board gets power: the console
	 * can be opened and lent now. The answer is outlet_continue(), at once or later.
	 */
	void (*before_on)(void *data);
	/* Runs after every operation, with the state known by then. */
	void (*after)(enum outlet_verb verb, void *data);
	void *data;
};

/* What is known of the power; text is empty unless the last operation failed. */
struct outlet_status {
	enum power_state state;
	bool verified;
	uint64_t since_realtime_us;
	char text[256];
};

int outlet_new(struct outlet **ret, const struct outlet_config *config, struct error *err);

/* Ends without callbacks. The board's power stays as it is. */
struct outlet *outlet_free(struct outlet *outlet);

/* Other times from the next operation on. */
void outlet_set_times(struct outlet *outlet, uint64_t min_off_us, uint64_t settle_us);
bool outlet_has_times(const struct outlet *outlet, uint64_t min_off_us, uint64_t settle_us);

/*
 * Asks for an operation. deploy is for ON and may be NULL; its fds and command line are taken over.
 * done may be NULL.
 *
 * Errors: -EAGAIN when too many operations wait (MAX_WAITING).
 */
int outlet_request(struct outlet *outlet, enum outlet_verb verb, struct power_deploy *deploy,
		   outlet_done_fn done, void *data, struct error *err);

/* The one who asked is gone: its done does not run any more; what has begun goes on. */
void outlet_forget(struct outlet *outlet, void *data);

/* The same for one who may not have the board switched on any more: an `on` of his ends before the
 * switch. */
void outlet_abandon(struct outlet *outlet, void *data);

/* The answer to before_on: 0, or the error with which the `on` is given up. Ignored when nobody
 * waits for it. */
void outlet_continue(struct outlet *outlet, int r, const struct error *err);

/* Whether an `on` waits for outlet_continue(). */
bool outlet_waits(const struct outlet *outlet);

bool outlet_busy(const struct outlet *outlet);

/* How many requests wait behind the present one. */
unsigned outlet_waiting(const struct outlet *outlet);

/* Whether the busy one will change the state: it switches, or is going to. */
bool outlet_switches(const struct outlet *outlet);

const struct outlet_status *outlet_status(const struct outlet *outlet);

struct power *outlet_power(const struct outlet *outlet);
