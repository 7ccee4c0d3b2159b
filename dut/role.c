/* SPDX-License-Identifier: MIT */
#include "dut/role.h"

#include <errno.h>
#include <string.h>

static const char *const names[ACCESS_ROLES] = {
	[ACCESS_NOBODY] = "none",
	[ACCESS_VIEW] = "view",
	[ACCESS_USE] = "use",
	[ACCESS_ADMIN] = "admin",
};

const char *access_role_name(enum access_role role)
{
	return names[role];
}

int access_role_from_name(enum access_role *ret, const char *word)
{
	for (enum access_role role = ACCESS_VIEW; role < ACCESS_ROLES; role++)
		if (strcmp(names[role], word) == 0) {
			*ret = role;
			return 0;
		}
	return -EINVAL;
}
