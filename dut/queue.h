/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/list.h"

/*
 * Who waits for a DUT, and in which order: pure, without fd, clock or log; the time is given in.
 *
 * A claim waits for any one of several DUTs, by their names: one that was asked for, or all that
 * have the tags that were asked for and fit. A DUT goes to the first claim that it is good for.
 * First is the higher effective priority, then what was submitted first. Every minute of waiting
 * adds 1 to the effective priority; as that holds for all who wait, the order of two claims never
 * changes, and the queue is kept sorted. A claim that waits for other DUTs is in nobody's way.
 *
 * dispatch.h binds it to the boards.
 */

struct board;
struct queue;
struct queue_target;

enum { CLAIM_PRIORITY_MIN = -100, CLAIM_PRIORITY_MAX = 100 };

enum claim_kind {
	CLAIM_JOB,
	CLAIM_SUBMISSION, /* no job yet: waits for a DUT that is about to become free */
	CLAIM_RESERVATION,
	CLAIM_KINDS,
};

enum claim_end {
	CLAIM_WAITED_LONG_ENOUGH, /* its limit is over: queue_timeout */
	CLAIM_TOO_LATE,		  /* its deadline is past */
};

/* One that waits, embedded in its owner: a job, a reservation. Zeroed is fine. */
struct claim {
	/* Set by the owner, before queue_add(); they stay as they are while it waits. */
	enum claim_kind kind;
	const char *owner; /* the user's name; not copied */
	uid_t owner_uid;   /* (uid_t)-1: a token's */
	int priority;	   /* CLAIM_PRIORITY_MIN..MAX */
	int64_t queued_us; /* CLOCK_BOOTTIME since when it waits; may lie before the boot */
	uint64_t number;   /* decides between equals: the smaller one is first */
	uint64_t limit_us; /* CLOCK_BOOTTIME; UINT64_MAX: waits for ever */
	uint64_t deadline_realtime_us; /* of the wall clock; UINT64_MAX: none */

	/*
	 * For dispatch.h, from the loop: it is this claim's turn, and the board is free. 1: it has
	 * taken the board; negative: it has ended instead, and the next one is asked. Both times it
	 * has left the queue by queue_remove() first, and may have freed itself. 0: it cannot start
	 * now and keeps its place; the board stays free until the next dispatch_later().
	 */
	int (*give)(struct claim *claim, struct board *board);
	/* For dispatch.h, from the loop: it has waited in vain. It leaves the queue, and may free
	 * itself. */
	void (*over)(struct claim *claim, enum claim_end end);
	void *data; /* for both */

	/* The queue's own. */
	struct queue *queue; /* NULL: it does not wait */
	struct queue_target *target;
	struct list link, target_link;
	unsigned place; /* as of the last count */
};

int queue_new(struct queue **ret, struct error *err);

/* The claims, which are their owners', are out of the queue then. */
struct queue *queue_free(struct queue *queue);

/*
 * Puts a claim into its place among those who wait.
 *
 * Owns:   the names are copied, once for all who wait for the same DUTs; the claim stays the
 *         caller's, who takes it out before it is freed.
 */
int queue_add(struct queue *queue, struct claim *claim, const char *const *duts, size_t n_duts,
	      struct error *err);

/* Takes it out; nothing happens to one that does not wait. */
void queue_remove(struct claim *claim);

static inline bool queue_waits(const struct claim *claim)
{
	return claim->queue != NULL;
}

/* The names of the DUTs that it waits for, sorted; they live as long as it waits. */
const char *const *queue_duts(const struct claim *claim, size_t *ret_count);

/* Whether it waits for this one. */
bool queue_wants(const struct claim *claim, const char *dut);

/* The first who waits for a DUT and may have it (NULL: anybody may), or NULL. */
typedef bool (*queue_may_fn)(const struct claim *claim, void *data);
struct claim *queue_first(const struct queue *queue, const char *dut, queue_may_fn may, void *data);

/* All of them, in order. Between two calls only the claim that was given may be taken out, and not
 * before its successor was asked for. NULL begins, and ends. */
struct claim *queue_next(const struct queue *queue, const struct claim *claim);

/* 1 + the number of those before it who wait for a DUT that it waits for. */
unsigned queue_place(struct queue *queue, const struct claim *claim);

/* With what it has gained by waiting, in whole numbers. */
int64_t queue_effective_priority(const struct claim *claim, uint64_t now_us);

/* How many of a kind wait, and how many of them are a user's. */
unsigned queue_count(const struct queue *queue, enum claim_kind kind, const char *owner,
		     unsigned *ret_of_user);

/* One whose time is over, or NULL; in *ret_end what it is that is over. */
struct claim *queue_expired(struct queue *queue, uint64_t now_us, uint64_t realtime_us,
			    enum claim_end *ret_end);

/*
 * When somebody's time is over next; UINT64_MAX: nobody's. It may be too early, when the one whose
 * time it was has left: queue_expired() finds nothing then, and the next answer is right.
 */
void queue_next_expiry(const struct queue *queue, uint64_t *ret_us, uint64_t *ret_realtime_us);
