/* SPDX-License-Identifier: MIT */
#pragma once

#include "cli/cli.h"

/* Each in the file of its name. */
extern const struct verb verb_version;
