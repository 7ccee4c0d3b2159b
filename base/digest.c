/* SPDX-License-Identifier: MIT */
#include "base/digest.h"

#include <nettle/memops.h>
#include <nettle/sha2.h>
#include <nettle/version.h>
#include <stdio.h>
#include <string.h>

void digest_sha256(unsigned char ret[static DIGEST_SIZE], const void *data, size_t length)
{
	struct sha256_ctx hash;

	sha256_init(&hash);
	sha256_update(&hash, length, data);
#if NETTLE_VERSION_MAJOR >= 4
	sha256_digest(&hash, ret);
#else
	sha256_digest(&hash, DIGEST_SIZE, ret);
#endif
}

void digest_to_hex(char ret[static DIGEST_HEX_SIZE], const unsigned char digest[static DIGEST_SIZE])
{
	for (size_t i = 0; i < DIGEST_SIZE; i++)
		(void)snprintf(ret + 2 * i, 3, "%02x", digest[i]);
}

bool digest_from_hex(unsigned char ret[static DIGEST_SIZE], const char *text, size_t length)
{
	static const char digits[] = "0123456789abcdef0123456789ABCDEF";

	if (length != DIGEST_HEX_SIZE - 1)
		return false;
	memset(ret, 0, DIGEST_SIZE);
	for (size_t i = 0; i < length; i++) {
		const char *digit = text[i] ? strchr(digits, text[i]) : NULL;

		if (!digit)
			return false;
		ret[i / 2] = (unsigned char)(ret[i / 2] << 4 | ((digit - digits) & 15));
	}
	return true;
}

bool digest_equal(const unsigned char a[static DIGEST_SIZE],
		  const unsigned char b[static DIGEST_SIZE])
{
	return memeql_sec(a, b, DIGEST_SIZE);
}
