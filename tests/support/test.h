/* SPDX-License-Identifier: MIT */
#pragma once

/* cmocka's header needs these four before it, in this order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
