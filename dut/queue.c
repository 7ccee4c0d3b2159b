/* SPDX-License-Identifier: MIT */
#include "dut/queue.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

/*
 * All claims lie in one sorted list. Those who wait for the same DUTs share a target, which has a
 * sorted list of its own, and each DUT knows the targets that it is good for: the first claim of a
 * DUT is the best of the first ones of its targets, however many wait.
 */

static const int64_t MINUTE_US = 60000000;

/* A DUT's membership in a target. */
struct want {
	struct list link; /* wanted.wants */
	struct wanted *dut;
	struct queue_target *target;
};

/* A DUT that somebody waits for. */
struct wanted {
	char *name;
	struct list wants;
};

struct queue_target {
	struct list link; /* queue.targets */
	struct list claims;
	struct want *wants;
	const char **names; /* sorted; the strings are the DUTs' */
	size_t n_duts;
	struct queue_target **near; /* that share a DUT with it, itself included; NULL: not known */
	size_t n_near;
	unsigned ahead; /* claims so far that are before the next one of this target */
	unsigned seen;	/* the last search that has met it */
};

struct queue {
	struct list claims;    /* claim.link, the first one first */
	struct list targets;   /* queue_target.link */
	struct wanted **duts;  /* sorted by name */
	size_t n_duts, n_room; /* room for so many */
	unsigned search;
	bool counted;			 /* claim.place is right */
	uint64_t next_us, next_realtime; /* nobody's time is over before */
};

/* ---- DUTs ---- */

/* Where the name is, or belongs. */
static size_t search_dut(const struct queue *queue, const char *name, bool *ret_found)
{
	size_t low = 0, high = queue->n_duts;

	*ret_found = false;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(name, queue->duts[middle]->name);

		if (order == 0) {
			*ret_found = true;
			return middle;
		}
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

static struct wanted *find_dut(const struct queue *queue, const char *name)
{
	bool found;
	size_t at = search_dut(queue, name, &found);

	return found ? queue->duts[at] : NULL;
}

static struct wanted *dut_new(const char *name)
{
	struct wanted *dut = calloc(1, sizeof(*dut));

	if (!dut)
		return NULL;
	list_init(&dut->wants);
	dut->name = strdup(name);
	if (!dut->name) {
		free(dut);
		return NULL;
	}
	return dut;
}

static struct wanted *add_dut(struct queue *queue, const char *name)
{
	bool found;
	size_t at = search_dut(queue, name, &found);
	struct wanted *dut;

	if (found)
		return queue->duts[at];
	if (queue->n_duts == queue->n_room) {
		size_t room = queue->n_room ? 2 * queue->n_room : 16;
		struct wanted **duts = reallocarray(queue->duts, room, sizeof(struct wanted *));

		if (!duts)
			return NULL;
		queue->duts = duts;
		queue->n_room = room;
	}
	dut = dut_new(name);
	if (!dut)
		return NULL;
	memmove(&queue->duts[at + 1], &queue->duts[at],
		(queue->n_duts - at) * sizeof(struct wanted *));
	queue->duts[at] = dut;
	queue->n_duts++;
	return dut;
}

static void drop_dut(struct queue *queue, struct wanted *dut)
{
	bool found;
	size_t at = search_dut(queue, dut->name, &found);

	queue->n_duts--;
	memmove(&queue->duts[at], &queue->duts[at + 1],
		(queue->n_duts - at) * sizeof(struct wanted *));
	free(dut->name);
	free(dut);
}

/* ---- targets ---- */

/* Others may share a DUT with it, or do not any more. */
static void forget_near(const struct queue *queue)
{
	LIST_FOREACH(link, &queue->targets) {
		struct queue_target *target = CONTAINER_OF(link, struct queue_target, link);

		free(target->near);
		target->near = NULL;
		target->n_near = 0;
	}
}

static struct queue_target *target_free(struct queue *queue, struct queue_target *target)
{
	forget_near(queue);
	list_remove(&target->link);
	for (size_t i = 0; target->wants && i < target->n_duts; i++) {
		struct wanted *dut = target->wants[i].dut;

		if (!dut)
			continue;
		list_remove(&target->wants[i].link);
		if (list_empty(&dut->wants))
			drop_dut(queue, dut);
	}
	free(target->wants);
	free(target->names);
	free(target->near);
	free(target);
	return NULL;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Joins a new target with its DUTs; names is sorted. False when memory ran out. */
static bool fill_target(struct queue *queue, struct queue_target *target, const char **names)
{
	for (size_t i = 0; i < target->n_duts; i++) {
		struct want *want = &target->wants[i];

		want->target = target;
		list_init(&want->link);
		want->dut = add_dut(queue, names[i]);
		if (!want->dut)
			return false;
		list_append(&want->dut->wants, &want->link);
		target->names[i] = want->dut->name;
	}
	return true;
}

static struct queue_target *target_new(struct queue *queue, const char **names, size_t count)
{
	struct queue_target *target = calloc(1, sizeof(*target));

	if (!target)
		return NULL;
	list_init(&target->claims);
	list_init(&target->link);
	list_append(&queue->targets, &target->link);
	target->n_duts = count;
	target->wants = calloc(count, sizeof(*target->wants));
	target->names = calloc(count, sizeof(*target->names));
	if (!target->wants || !target->names || !fill_target(queue, target, names))
		return target_free(queue, target);
	forget_near(queue);
	return target;
}

static bool is_for(const struct queue_target *target, const char *const *names, size_t count)
{
	if (target->n_duts != count)
		return false;
	for (size_t i = 0; i < count; i++)
		if (strcmp(target->names[i], names[i]) != 0)
			return false;
	return true;
}

static struct queue_target *find_target(const struct queue *queue, const char **names, size_t count)
{
	const struct wanted *dut = find_dut(queue, names[0]);

	if (!dut)
		return NULL;
	LIST_FOREACH(link, &dut->wants) {
		struct want *want = CONTAINER_OF(link, struct want, link);

		if (is_for(want->target, names, count))
			return want->target;
	}
	return NULL;
}

static size_t count_near(const struct queue_target *target)
{
	size_t count = 0;

	for (size_t i = 0; i < target->n_duts; i++)
		LIST_FOREACH(link, &target->wants[i].dut->wants)
			count++;
	return count;
}

/* Finds all targets that share a DUT with this one; false when memory ran out. */
static bool find_near(struct queue *queue, struct queue_target *target)
{
	struct queue_target **near = calloc(count_near(target) + 1, sizeof(struct queue_target *));

	if (!near)
		return false;
	queue->search++;
	target->near = near;
	for (size_t i = 0; i < target->n_duts; i++)
		LIST_FOREACH(link, &target->wants[i].dut->wants) {
			struct queue_target *other = CONTAINER_OF(link, struct want, link)->target;

			if (other->seen != queue->search)
				near[target->n_near++] = other;
			other->seen = queue->search;
		}
	return true;
}

/* ---- the order ---- */

/* The smaller the earlier: a minute of waiting is worth as much as a step of priority. */
static int64_t turn(const struct claim *claim)
{
	return claim->queued_us - claim->priority * MINUTE_US;
}

static bool is_before(const struct claim *a, const struct claim *b)
{
	if (turn(a) != turn(b))
		return turn(a) < turn(b);
	if (a->number != b->number)
		return a->number < b->number;
	return a->kind < b->kind;
}

/* Nearly always to the end. */
static void insert_sorted(struct queue *queue, struct claim *claim)
{
	struct list *at = &queue->claims;

	while (at->previous != &queue->claims &&
	       is_before(claim, CONTAINER_OF(at->previous, struct claim, link)))
		at = at->previous;
	list_append(at, &claim->link);

	at = &claim->target->claims;
	while (at->previous != &claim->target->claims &&
	       is_before(claim, CONTAINER_OF(at->previous, struct claim, target_link)))
		at = at->previous;
	list_append(at, &claim->target_link);
}

/* ---- coming and going ---- */

int queue_new(struct queue **ret, struct error *err)
{
	struct queue *queue = calloc(1, sizeof(*queue));

	if (!queue)
		return error_oom(err);
	list_init(&queue->claims);
	list_init(&queue->targets);
	queue->next_us = queue->next_realtime = UINT64_MAX;
	*ret = queue;
	return 0;
}

struct queue *queue_free(struct queue *queue)
{
	if (!queue)
		return NULL;
	while (!list_empty(&queue->claims))
		queue_remove(CONTAINER_OF(queue->claims.previous, struct claim, link));
	free(queue->duts);
	free(queue);
	return NULL;
}

int queue_add(struct queue *queue, struct claim *claim, const char *const *duts, size_t n_duts,
	      struct error *err)
{
	free_ const char **names = NULL;
	struct queue_target *target;
	size_t count = 0;

	if (n_duts == 0)
		return error_set(err, -EINVAL, "there is no DUT to wait for");
	names = calloc(n_duts, sizeof(*names));
	if (!names)
		return error_oom(err);
	memcpy(names, duts, n_duts * sizeof(*names));
	qsort(names, n_duts, sizeof(*names), by_name);
	for (size_t i = 0; i < n_duts; i++)
		if (count == 0 || strcmp(names[count - 1], names[i]) != 0)
			names[count++] = names[i];

	target = find_target(queue, names, count);
	if (!target)
		target = target_new(queue, names, count);
	if (!target)
		return error_oom(err);
	claim->queue = queue;
	claim->target = target;
	insert_sorted(queue, claim);
	if (claim->limit_us < queue->next_us)
		queue->next_us = claim->limit_us;
	if (claim->deadline_realtime_us < queue->next_realtime)
		queue->next_realtime = claim->deadline_realtime_us;
	queue->counted = false;
	return 0;
}

void queue_remove(struct claim *claim)
{
	struct queue *queue = claim->queue;

	if (!queue)
		return;
	list_remove(&claim->link);
	list_remove(&claim->target_link);
	if (list_empty(&claim->target->claims))
		(void)target_free(queue, claim->target);
	claim->queue = NULL;
	claim->target = NULL;
	queue->counted = false;
}

/* ---- questions ---- */

const char *const *queue_duts(const struct claim *claim, size_t *ret_count)
{
	*ret_count = claim->target->n_duts;
	return claim->target->names;
}

bool queue_wants(const struct claim *claim, const char *dut)
{
	const struct queue_target *target = claim->target;

	return bsearch(&dut, target->names, target->n_duts, sizeof(*target->names), by_name);
}

static struct claim *first_of(const struct queue_target *target, queue_may_fn may, void *data)
{
	LIST_FOREACH(link, &target->claims) {
		struct claim *claim = CONTAINER_OF(link, struct claim, target_link);

		if (!may || may(claim, data))
			return claim;
	}
	return NULL;
}

struct claim *queue_first(const struct queue *queue, const char *dut, queue_may_fn may, void *data)
{
	const struct wanted *wanted = find_dut(queue, dut);
	struct claim *first = NULL;

	if (!wanted)
		return NULL;
	LIST_FOREACH(link, &wanted->wants) {
		const struct want *want = CONTAINER_OF(link, struct want, link);
		struct claim *claim = first_of(want->target, may, data);

		if (claim && (!first || is_before(claim, first)))
			first = claim;
	}
	return first;
}

struct claim *queue_next(const struct queue *queue, const struct claim *claim)
{
	struct list *next = claim ? claim->link.next : queue->claims.next;

	return next == &queue->claims ? NULL : CONTAINER_OF(next, struct claim, link);
}

/* Gives everybody a place in one pass; false when memory ran out. */
static bool count_places(struct queue *queue)
{
	LIST_FOREACH(link, &queue->targets) {
		struct queue_target *target = CONTAINER_OF(link, struct queue_target, link);

		target->ahead = 0;
		if (!target->near && !find_near(queue, target))
			return false;
	}
	LIST_FOREACH(link, &queue->claims) {
		struct claim *claim = CONTAINER_OF(link, struct claim, link);

		claim->place = claim->target->ahead + 1;
		for (size_t i = 0; i < claim->target->n_near; i++)
			claim->target->near[i]->ahead++;
	}
	return true;
}

unsigned queue_place(struct queue *queue, const struct claim *claim)
{
	if (!queue->counted)
		queue->counted = count_places(queue);
	return claim->place;
}

int64_t queue_effective_priority(const struct claim *claim, uint64_t now_us)
{
	int64_t waited_us = (int64_t)now_us - claim->queued_us;

	return claim->priority + (waited_us > 0 ? waited_us / MINUTE_US : 0);
}

unsigned queue_count(const struct queue *queue, enum claim_kind kind, const char *owner,
		     unsigned *ret_of_user)
{
	unsigned count = 0;

	*ret_of_user = 0;
	LIST_FOREACH(link, &queue->claims) {
		const struct claim *claim = CONTAINER_OF(link, struct claim, link);

		if (claim->kind != kind)
			continue;
		count++;
		*ret_of_user += strcmp(claim->owner, owner) == 0;
	}
	return count;
}

struct claim *queue_expired(struct queue *queue, uint64_t now_us, uint64_t realtime_us,
			    enum claim_end *ret_end)
{
	uint64_t next_us = UINT64_MAX, next_realtime = UINT64_MAX;

	if (now_us < queue->next_us && realtime_us < queue->next_realtime)
		return NULL;
	LIST_FOREACH(link, &queue->claims) {
		struct claim *claim = CONTAINER_OF(link, struct claim, link);

		if (claim->limit_us <= now_us || claim->deadline_realtime_us <= realtime_us) {
			*ret_end = claim->deadline_realtime_us <= realtime_us
					   ? CLAIM_TOO_LATE
					   : CLAIM_WAITED_LONG_ENOUGH;
			return claim;
		}
		if (claim->limit_us < next_us)
			next_us = claim->limit_us;
		if (claim->deadline_realtime_us < next_realtime)
			next_realtime = claim->deadline_realtime_us;
	}
	queue->next_us = next_us;
	queue->next_realtime = next_realtime;
	return NULL;
}

void queue_next_expiry(const struct queue *queue, uint64_t *ret_us, uint64_t *ret_realtime_us)
{
	*ret_us = queue->next_us;
	*ret_realtime_us = queue->next_realtime;
}
