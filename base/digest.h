/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* SHA-256 of what is in memory. */

enum { DIGEST_SIZE = 32, DIGEST_HEX_SIZE = 2 * DIGEST_SIZE + 1 };

void digest_sha256(unsigned char ret[static DIGEST_SIZE], const void *data, size_t length);

/* In lower case, terminated. */
void digest_to_hex(char ret[static DIGEST_HEX_SIZE],
		   const unsigned char digest[static DIGEST_SIZE]);

/* False for anything but 64 digits, in either case. */
bool digest_from_hex(unsigned char ret[static DIGEST_SIZE], const char *text, size_t length);

/* In a time that does not tell where they differ. */
bool digest_equal(const unsigned char a[static DIGEST_SIZE],
		  const unsigned char b[static DIGEST_SIZE]);
