/* SPDX-License-Identifier: MIT */
#pragma once

#include "tests/fuzz/fuzz.h"

/*
 * A hostile server in the place of the network: libcurl is as it is, but whatever it connects to is
 * a socket that has its answer already. Each part of the input is the answer of one connection; the
 * last one answers all further ones.
 */
void fuzz_serve(const uint8_t *data, size_t size);

/* Ends the last connection. */
void fuzz_serve_end(void);
