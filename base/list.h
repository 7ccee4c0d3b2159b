/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"

/*
 * An intrusive, circular, doubly linked list. The head and the links have the same type; a link
 * says in a comment which list it is on. A link that is on no list points at itself, so that
 * list_remove() may run twice.
 */
struct list {
	struct list *previous, *next;
};

static inline void list_init(struct list *list)
{
	list->previous = list;
	list->next = list;
}

static inline bool list_empty(const struct list *list)
{
	return list->next == list;
}

static inline void list_append(struct list *head, struct list *link)
{
	link->previous = head->previous;
	link->next = head;
	head->previous->next = link;
	head->previous = link;
}

static inline void list_remove(struct list *link)
{
	link->previous->next = link->next;
	link->next->previous = link->previous;
	list_init(link);
}

/* Walks a list; the present link must not be removed. */
#define LIST_FOREACH(link, head) \
	for (struct list *link = (head)->next; link != (head); link = link->next)

/* The same, where the present link may be removed. */
#define LIST_FOREACH_SAFE(link, after, head)                                        \
	for (struct list *link = (head)->next, *after = link->next; link != (head); \
	     link = after, after = link->next)
