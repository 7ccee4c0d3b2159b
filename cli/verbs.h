/* SPDX-License-Identifier: MIT */
#pragma once

#include "cli/cli.h"

/* Each in the file of its name. */
extern const struct verb verb_activate;
extern const struct verb verb_cancel;
extern const struct verb verb_console;
extern const struct verb verb_history;
extern const struct verb verb_job;
extern const struct verb verb_jobs;
extern const struct verb verb_kick;
extern const struct verb verb_list;
extern const struct verb verb_log;
extern const struct verb verb_power;
extern const struct verb verb_proxy;
extern const struct verb verb_release;
extern const struct verb verb_reload;
extern const struct verb verb_reserve;
extern const struct verb verb_results;
extern const struct verb verb_retire;
extern const struct verb verb_run;
extern const struct verb verb_set;
extern const struct verb verb_show;
extern const struct verb verb_token;
extern const struct verb verb_validate;
extern const struct verb verb_version;
extern const struct verb verb_wait;
