/* SPDX-License-Identifier: MIT */
#pragma once

/* The fds that a sim board inherits; both sockets are listening already, the lock is held. */
enum sim_fd { SIM_FD_CONTROL = 3, SIM_FD_CONSOLE = 4, SIM_FD_LOCK = 5 };
