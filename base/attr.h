/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>

#define printf_(format_index, first_argument) \
	__attribute__((format(printf, format_index, first_argument)))
#define must_check_ __attribute__((warn_unused_result))

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

/* The object of TYPE whose MEMBER lies at ADDRESS. */
#define CONTAINER_OF(address, type, member) \
	((type *)(void *)((char *)(address)-offsetof(type, member)))

/*
 * Whether this is a build with AddressSanitizer, which reserves terabytes of addresses: no limit of
 * ours fits. gcc and clang say it in different ways.
 */
#if defined(__SANITIZE_ADDRESS__)
#	define WITH_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#	if __has_feature(address_sanitizer)
#		define WITH_ADDRESS_SANITIZER 1
#	endif
#endif
#ifndef WITH_ADDRESS_SANITIZER
#	define WITH_ADDRESS_SANITIZER 0
#endif
