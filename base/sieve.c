/* SPDX-License-Identifier: MIT */
#include "base/sieve.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
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
enum {
	GRAM = 3,
	STRIDE_MAX = 4,
	ROOM = 32, /* places in the table for each gram: few foreign ones meet a taken one */
	BITS_MIN = 6,
	BITS_MAX = 16,
	GRAMS_MAX = UINT16_MAX, /* everything concerns the owners beyond */
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

static uint32_t gram_at(const char *text)
{
	return gram_of_word((unsigned char)text[0] | (uint32_t)(unsigned char)text[1] << 8 |
			    (uint32_t)(unsigned char)text[2] << 16);
}

/* Source: Knuth, The Art of Computer Programming, volume 3, 6.4: multiplicative hashing. */
static uint32_t place_of(const struct sieve *sieve, uint32_t gram)
{
	return gram * 2654435769U >> sieve->shift;
}

/* ---- making one ---- */

/* How often a byte stands in what boards print, roughly. */
static unsigned frequency(char byte)
{
	static const char frequent[] = " 0e1tsainr:o2dpl.3c45_f6[]m9x87bu/-g=k";
	const char *at = byte ? strchr(frequent, byte) : NULL;

	return at ? (unsigned)(sizeof(frequent) - (size_t)(at - frequent)) : 1;
}

/* Where the rarest window of a needle begins. */
static size_t rarest_window(const struct needle *needle, size_t stride)
{
	size_t best = 0;
	unsigned least = UINT32_MAX;

	for (size_t at = 0; at + stride + GRAM - 1 <= needle->length; at++) {
		unsigned sum = 0;

		for (size_t i = at; i < at + stride; i++)
			sum += frequency(needle->text[i]) * frequency(needle->text[i + 1]) *
			       frequency(needle->text[i + 2]);
		if (sum < least) {
			least = sum;
			best = at;
		}
	}
	return best;
}

static void add_gram(struct sieve *sieve, size_t owned, size_t offset)
{
	uint32_t bytes = gram_at(sieve->owned[owned].needle.text + offset);
	uint16_t *place = &sieve->table[place_of(sieve, bytes)];

	sieve->n_grams++;
	sieve->grams[sieve->n_grams] = (struct gram){
		.bytes = bytes,
		.next = *place,
		.offset = (uint8_t)offset,
		.needle = (uint32_t)owned,
	};
	*place = (uint16_t)sieve->n_grams;
}

/* Adds an owner's needles; without any, or room for them, it passes every text. */
static void add_owner(struct sieve *sieve, size_t owner, const struct needles *needles)
{
	if (needles->count == 0 || sieve->n_grams + needles->count * sieve->stride > GRAMS_MAX) {
		sieve->always[owner / WORD_BITS] |= UINT64_C(1) << owner % WORD_BITS;
		return;
	}
	for (size_t i = 0; i < needles->count; i++) {
		size_t at = rarest_window(&needles->items[i], sieve->stride);

		sieve->owned[sieve->n_owned] = (struct owned){ needles->items[i], owner };
		for (size_t j = 0; j < sieve->stride; j++)
			add_gram(sieve, sieve->n_owned, at + j);
		sieve->n_owned++;
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

static bool holds(const char *text, const struct needle *needle)
{
	for (size_t i = 0; i < needle->length; i++)
		if (needle_fold((unsigned char)text[i]) != (unsigned char)needle->text[i])
			return false;
	return true;
}

/* Compares a text with the needles in one place of the table; a gram of theirs may stand at `at`.
 */
static void look_closer(struct sieve *sieve, size_t place, uint32_t bytes, const char *text,
			size_t length, size_t at)
{
	for (size_t i = place; i; i = sieve->grams[i].next) {
		const struct gram *gram = &sieve->grams[i];
		const struct owned *owned = &sieve->owned[gram->needle];
		uint64_t bit = UINT64_C(1) << owned->owner % WORD_BITS;
		uint64_t *word = &sieve->passed[owned->owner / WORD_BITS];
		size_t start = at - gram->offset;

		if (gram->bytes != bytes || at < gram->offset ||
		    length - start < owned->needle.length || *word & bit)
			continue;
		if (holds(text + start, &owned->needle))
			*word |= bit;
	}
}

void sieve_scan(struct sieve *sieve, const char *text, size_t length)
{
	const uint16_t *table = sieve->table;
	size_t stride = sieve->stride, at = 0;

	memcpy(sieve->passed, sieve->always, sieve->words * sizeof(*sieve->passed));
	/* A word is read at once, as long as there is one. */
	for (; at + sizeof(uint32_t) <= length; at += stride) {
		uint32_t bytes, place;

		memcpy(&bytes, text + at, sizeof(bytes));
		bytes = gram_of_word(le32toh(bytes));
		place = table[place_of(sieve, bytes)];
		if (place)
			look_closer(sieve, place, bytes, text, length, at);
	}
	for (; at + GRAM <= length; at += stride) {
		uint32_t bytes = gram_at(text + at);
		uint32_t place = table[place_of(sieve, bytes)];

		if (place)
			look_closer(sieve, place, bytes, text, length, at);
	}
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
