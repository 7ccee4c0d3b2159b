/* SPDX-License-Identifier: MIT */
#pragma once

#include <locale.h>

#include "base/cleanup.h"

/*
 * UTF-8 for this thread until the end of the scope: `utf8_ struct utf8_scope scope = utf8_enter();`
 * Foreign libraries convert names to the locale, and a daemon's is "C". Where C.UTF-8 is missing
 * nothing changes.
 */
struct utf8_scope {
	locale_t utf8, before;
};

static inline struct utf8_scope utf8_enter(void)
{
	struct utf8_scope scope = { .utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0) };

	if (scope.utf8)
		scope.before = uselocale(scope.utf8);
	return scope;
}

static inline void utf8_leave(struct utf8_scope *scope)
{
	if (!scope->utf8)
		return;
	(void)uselocale(scope->before);
	freelocale(scope->utf8);
}

#define utf8_ cleanup_(utf8_leave) __attribute__((unused))
