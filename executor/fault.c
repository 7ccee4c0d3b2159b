/* SPDX-License-Identifier: MIT */
#include "executor/fault.h"

#include <string.h>

#include "base/attr.h"

/* The first one that a line holds names its kind, so the special comes before the general. */
static const struct {
	const char *text;
	const char *kind; /* NULL: part of the report of a fault that was told before */
	const char *also; /* must be there too, where text alone is what programs print as well */
} faults[] = {
	/* clang-format off */
	{ "---[ end ",                           NULL,          NULL },
	{ "Kernel panic - not syncing",          "panic",       NULL },
	{ "BUG: soft lockup",                    "soft_lockup", NULL },
	{ "hard LOCKUP",                         "hard_lockup", NULL },
	{ "BUG: KASAN:",                         "kasan",       NULL },
	{ "BUG: KFENCE:",                        "kfence",      NULL },
	{ "BUG: KCSAN:",                         "kcsan",       NULL },
	{ "BUG: KMSAN:",                         "kmsan",       NULL },
	{ "UBSAN:",                              "ubsan",       NULL },
	{ "self-detected stall",                 "rcu_stall",   NULL },
	{ "detected stalls on CPUs",             "rcu_stall",   NULL },
	{ "detected expedited stalls",           "rcu_stall",   NULL },
	{ "INFO: task ",                         "hung_task",   "blocked for more than" },
	{ "Internal error: ",                    "oops",        "[#" },
	{ "Oops: ",                              "oops",        NULL },
	{ "general protection fault",            "oops",        NULL },
	{ "Unable to handle kernel",             "oops",        NULL },
	{ "kernel BUG at ",                      "bug",         NULL },
	{ "BUG: ",                               "bug",         NULL },
	{ "WARNING: CPU: ",                      "warning",     " at " },
	{ "WARNING: ",                           "warning",     ", CPU#" },
	{ "WARNING: possible ",                  "warning",     " lock" },
	{ "WARNING: suspicious RCU usage",       "warning",     NULL },
	{ "WARNING: inconsistent lock state",    "warning",     NULL },
	{ "WARNING: bad unlock balance",         "warning",     NULL },
	/* clang-format on */
};

static const char banner[] = "Linux version ";

static bool holds(const char *line, size_t length, const char *text)
{
	return memmem(line, length, text, strlen(text));
}

const char *fault_find(const char *line, size_t length)
{
	for (size_t i = 0; i < ARRAY_SIZE(faults); i++)
		if (holds(line, length, faults[i].text) &&
		    (!faults[i].also || holds(line, length, faults[i].also)))
			return faults[i].kind;
	return NULL;
}

bool fault_is_kernel_banner(const char *line, size_t length)
{
	return holds(line, length, banner);
}

const char *fault_text(size_t index)
{
	if (index < ARRAY_SIZE(faults))
		return faults[index].text;
	return index == ARRAY_SIZE(faults) ? banner : NULL;
}
