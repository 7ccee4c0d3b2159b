/* SPDX-License-Identifier: MIT */
#pragma once

/* What somebody may do; each has what those before it have. See access.h. */
enum access_role { ACCESS_NOBODY, ACCESS_VIEW, ACCESS_USE, ACCESS_ADMIN, ACCESS_ROLES };

const char *access_role_name(enum access_role role);

/* -EINVAL when the word is no role. */
int access_role_from_name(enum access_role *ret, const char *word);
