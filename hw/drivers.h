/* SPDX-License-Identifier: MIT */
#pragma once

#include "hw/console.h"
#include "hw/power.h"

/* The drivers' one exported object each, for the tables in power.c and console.c. */

extern const struct power_driver power_qemu;
extern const struct power_driver power_sim;

extern const struct console_driver console_qemu;
extern const struct console_driver console_sim;
