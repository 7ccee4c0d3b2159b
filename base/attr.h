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
