/* SPDX-License-Identifier: MIT */
#pragma once

#include "base/sandbox.h"

/* Installs the profile's filter of system calls. */
int sandbox_filter_calls(enum sandbox_profile profile, struct error *err);

/* Whether the kernel can filter system calls. */
bool sandbox_can_filter(void);
