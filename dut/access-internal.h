/* SPDX-License-Identifier: MIT */
#pragma once

#include "dut/access.h"

/* What the files of access share: access.c decides, access-tcp.c knows who comes by TCP. */

/* Finds out who it is, or refuses. */
void access_by_tcp(struct http_request *request, struct daemon *daemon);
