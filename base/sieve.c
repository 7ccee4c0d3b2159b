/* SPDX-License-Identifier: MIT */
#include "base/sieve.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

/*
 * Of a text only each stride-th position is looked at, and there three bytes, a gram. Each needle
 * has stride grams in a row in the table (a window of stride + 2 bytes; the shortest needle gives
 * the stride), so that wherever a needle stands one of its grams is met. A gram that is in the
 * table is then compared with the needles that it belongs to.
 *
 * The window is the rarest part of the needle, for what is met often costs.
 */

/* Source: Knuth, The Art of Computer Programming, volume 3, 6.4: multiplicative hashing. */
static const uint32_t HASH = 2654435769U;

enum {
	GRAM = 3,
	STRIDE_MAX = 4,
	ROOM = 32, /* places in the table for each gram: few foreign ones meet a taken one */
	BITS_MIN = 6,
	BITS_MAX = 16,
	GRAMS_MAX = UINT16_MAX, /* everything concerns the owners beyond */
	CHAIN_MAX = 64,		/* grams in one place, so that needles all alike cost no more */
	WORD_BITS = 64,
};

struct gram {
	uint32_t bytes;
	uint16_t next;	/* in the same place of the table; 0 is none */
	uint8_t offset; /* in the needle */
	uint32_t needle;
};

struct owned {
	struct needle needle;
	size_t owner;
};

struct sieve {
	size_t stride, words;
	unsigned shift;	     /* of a hash */
	uint16_t *table;     /* the first gram of each place; 0 is none */
	struct gram *grams;  /* from 1 */
	struct owned *owned; /* the needles */
	size_t n_grams, n_owned;
	bool any_always;
	uint64_t *always; /* bits of owners without needles */
	uint64_t *passed; /* bits of those whom the last text may concern */
};

CLEANUP_DEFINE(struct sieve *, sieve_free)

struct sieve *sieve_free(struct sieve *sieve)
{
	if (!sieve)
		return NULL;
	free(sieve->table);
	free(sieve->grams);
	free(sieve->owned);
	free(sieve->always);
	free(sieve->passed);
	free(sieve);
	return NULL;
}

/* The gram in the low bytes of a word. Big letters become small ones, and a few other bytes become
 * others, which costs a comparison. */
static uint32_t gram_of_word(uint32_t word)
{
	return (word | 0x20202020U) & 0xffffffU;
}

static uint32_t gram_of(char first, char second, char third)
{
	return gram_of_word((unsigned char)first | (uint32_t)(unsigned char)second << 8 |
			    (uint32_t)(unsigned char)third << 16);
}

static void pass(uint64_t *owners, size_t owner)
{
	owners[owner / WORD_BITS] |= UINT64_C(1) << owner % WORD_BITS;
}

/* ---- making one ---- */

/* Where the rarest window of a needle begins: its most common gram is the rarest. */
static size_t rarest_window(const struct needle *needle, size_t stride)
{
	size_t best = 0;
	unsigned most = 0;

	for (size_t at = 0; at + stride + GRAM - 1 <= needle->length; at++) {
		unsigned least = UINT_MAX;

		for (size_t i = at; i < at + stride; i++) {
			unsigned rarity = needle_rarity(needle->text + i, GRAM);

			least = rarity < least ? rarity : least;
		}
		if (least > most) {
			most = least;
			best = at;
		}
	}
	return best;
}

static void add_gram(struct sieve *sieve, size_t owned, size_t offset)
{
	const char *text = sieve->owned[owned].needle.text + offset;
	uint32_t bytes = gram_of(text[0], text[1], text[2]);
	uint16_t *place = &sieve->table[bytes * HASH >> sieve->shift];

	sieve->n_grams++;
	sieve->grams[sieve->n_grams] = (struct gram){
		.bytes = bytes,
		.next = *place,
		.offset = (uint8_t)offset,
		.needle = (uint32_t)owned,
	};
	*place = (uint16_t)sieve->n_grams;
}

static bool has_room(const struct sieve *sieve, const struct needle *needle, size_t at)
{
	for (size_t i = at; i < at + sieve->stride; i++) {
		const char *text = needle->text + i;
		uint32_t bytes = gram_of(text[0], text[1], text[2]);
		size_t place = sieve->table[bytes * HASH >> sieve->shift];
		unsigned count = 0;

		for (; place; place = sieve->grams[place].next)
			if (++count >= CHAIN_MAX)
				return false;
	}
	return sieve->n_grams + sieve->stride <= GRAMS_MAX;
}

/* Adds an owner's needles. Without any, or room for all of them, everything concerns it. */
static void add_owner(struct sieve *sieve, size_t owner, const struct needles *needles)
{
	bool all = needles->count > 0;

	for (size_t i = 0; i < needles->count; i++) {
		const struct needle *needle = &needles->items[i];
		size_t at = rarest_window(needle, sieve->stride);

		all = has_room(sieve, needle, at);
		if (!all)
			break;
		sieve->owned[sieve->n_owned] = (struct owned){ *needle, owner };
		for (size_t j = 0; j < sieve->stride; j++)
			add_gram(sieve, sieve->n_owned, at + j);
		sieve->n_owned++;
	}
	if (!all) {
		sieve->any_always = true;
		pass(sieve->always, owner);
	}
}

/* Sets stride and the table's size, and returns the number of needles. */
static size_t measure(struct sieve *sieve, const struct sieve_owner *owners, size_t count)
{
	size_t n_needles = 0, shortest = STRIDE_MAX + GRAM - 1;
	unsigned bits = BITS_MIN;

	for (size_t owner = 0; owner < count; owner++) {
		if (!owners[owner].needles)
			continue;
		n_needles += owners[owner].needles->count;
		for (size_t i = 0; i < owners[owner].needles->count; i++)
			if (owners[owner].needles->items[i].length < shortest)
				shortest = owners[owner].needles->items[i].length;
	}
	assert(shortest >= GRAM);
	sieve->stride = shortest - GRAM + 1;
	while (bits < BITS_MAX && (size_t)1 << bits < n_needles * sieve->stride * ROOM)
		bits++;
	sieve->shift = 32 - bits;
	sieve->words = count / WORD_BITS + 1;
	return n_needles;
}

int sieve_new(struct sieve **ret, const struct sieve_owner *owners, size_t count)
{
	cleanup_(sieve_freep) struct sieve *sieve = calloc(1, sizeof(*sieve));
	size_t n_needles, n_grams;

	if (!sieve)
		return -ENOMEM;
	n_needles = measure(sieve, owners, count);
	n_grams = n_needles * sieve->stride;
	sieve->table = calloc((size_t)1 << (32 - sieve->shift), sizeof(*sieve->table));
	sieve->grams =
		calloc((n_grams < GRAMS_MAX ? n_grams : GRAMS_MAX) + 1, sizeof(*sieve->grams));
	sieve->owned = calloc(n_needles + 1, sizeof(*sieve->owned));
	sieve->always = calloc(sieve->words, sizeof(*sieve->always));
	sieve->passed = calloc(sieve->words, sizeof(*sieve->passed));
	if (!sieve->table || !sieve->grams || !sieve->owned || !sieve->always || !sieve->passed)
		return -ENOMEM;
	for (size_t owner = 0; owner < count; owner++)
		if (owners[owner].needles)
			add_owner(sieve, owner, owners[owner].needles);
	*ret = take_ptr(sieve);
	return 0;
}

/* ---- looking ---- */

/* Whether a needle stands at this place, which is -1 for the LF before the text. */
static bool stands_at(const struct needle *needle, const char *text, ptrdiff_t length, ptrdiff_t at)
{
	size_t skip = at < 0;

	if (at < -1 || length - at < needle->length || (skip && needle->text[0] != '\n'))
		return false;
	for (size_t i = skip; i < needle->length; i++)
		if (needle_fold((unsigned char)text[at + (ptrdiff_t)i]) !=
		    (unsigned char)needle->text[i])
			return false;
	return true;
}

/* A text that is being looked through. */
struct look {
	const char *text;
	ptrdiff_t length, at; /* the next place to look at, from -1 */
	uint32_t bytes;	      /* the gram that was found there */
};

/* Goes to the next place whose gram is in the table, and says where in the table; 0 for none. */
static inline size_t look_on(const struct sieve *sieve, struct look *look)
{
	const uint16_t *table = sieve->table;
	const char *text = look->text;
	const ptrdiff_t stride = (ptrdiff_t)sieve->stride, length = look->length;
	const unsigned shift = sieve->shift;
	ptrdiff_t at = look->at;
	uint32_t bytes = 0;

	if (at < 0 && length >= GRAM - 1) {
		bytes = gram_of('\n', text[0], text[1]);
		if (table[bytes * HASH >> shift])
			goto found;
		at += stride;
	}
	/* A word is read at once, as long as there is one. */
	for (; at <= length - (ptrdiff_t)sizeof(bytes); at += stride) {
		memcpy(&bytes, text + at, sizeof(bytes));
		bytes = gram_of_word(le32toh(bytes));
		if (table[bytes * HASH >> shift])
			goto found;
	}
	for (; at <= length - GRAM; at += stride) {
		bytes = gram_of(text[at], text[at + 1], text[at + 2]);
		if (table[bytes * HASH >> shift])
			goto found;
	}
	return 0;
found:
	look->at = at;
	look->bytes = bytes;
	return table[bytes * HASH >> shift];
}

void sieve_scan(struct sieve *sieve, const char *text, size_t length)
{
	struct look look = { .text = text, .length = (ptrdiff_t)length, .at = -1 };
	size_t place;

	memcpy(sieve->passed, sieve->always, sieve->words * sizeof(*sieve->passed));
	for (; (place = look_on(sieve, &look)); look.at += (ptrdiff_t)sieve->stride)
		for (; place; place = sieve->grams[place].next) {
			const struct gram *gram = &sieve->grams[place];
			const struct owned *owned = &sieve->owned[gram->needle];

			if (gram->bytes == look.bytes && !sieve_passed(sieve, owned->owner) &&
			    stands_at(&owned->needle, text, look.length, look.at - gram->offset))
				pass(sieve->passed, owned->owner);
		}
}

size_t sieve_find(const struct sieve *sieve, const char *text, size_t length)
{
	struct look look = { .text = text, .length = (ptrdiff_t)length, .at = -1 };
	size_t place;

	if (sieve->any_always)
		return 0;
	for (; (place = look_on(sieve, &look)); look.at += (ptrdiff_t)sieve->stride)
		for (; place; place = sieve->grams[place].next) {
			const struct gram *gram = &sieve->grams[place];
			const struct needle *needle = &sieve->owned[gram->needle].needle;

			if (gram->bytes == look.bytes &&
			    stands_at(needle, text, look.length, look.at - gram->offset))
				return (size_t)(look.at - gram->offset + (needle->text[0] == '\n'));
		}
	return length;
}

bool sieve_passed(const struct sieve *sieve, size_t owner)
{
	return sieve->passed[owner / WORD_BITS] >> owner % WORD_BITS & 1;
}

size_t sieve_next(const struct sieve *sieve, size_t from)
{
	for (size_t i = from / WORD_BITS; i < sieve->words; i++) {
		uint64_t word = sieve->passed[i];

		if (i == from / WORD_BITS)
			word &= UINT64_MAX << from % WORD_BITS;
		if (word)
			return i * WORD_BITS + (size_t)__builtin_ctzll(word);
	}
	return SIZE_MAX;
}
