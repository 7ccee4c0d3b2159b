/* SPDX-License-Identifier: MIT */
#include "base/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/sandbox-internal.h"

/* ---- limits ---- */

static int set_limit(__rlimit_resource_t resource, uint64_t value, const char *name,
		     struct error *err)
{
	struct rlimit limit;

	if (getrlimit(resource, &limit) < 0)
		return error_errno(err, "cannot read the limit of %s", name);
	/* Without root a hard limit only goes down. */
	if (value < limit.rlim_max)
		limit.rlim_max = value;
	if (limit.rlim_cur > limit.rlim_max)
		limit.rlim_cur = limit.rlim_max;
	if (setrlimit(resource, &limit) < 0)
		return error_errno(err, "cannot limit %s", name);
	return 0;
}

int sandbox_limit(const struct sandbox_limits *limits, struct error *err)
{
	const struct {
		__rlimit_resource_t resource;
		uint64_t value;
		const char *name;
	} table[] = {
		{ RLIMIT_AS, WITH_ADDRESS_SANITIZER ? 0 : limits->memory, "memory" },
		{ RLIMIT_FSIZE, limits->file_size, "the size of files" },
		{ RLIMIT_NOFILE, limits->open_files, "open files" },
		{ RLIMIT_CPU, limits->cpu_s, "processor time" },
		{ RLIMIT_NPROC, limits->processes, "processes" },
	};
	int r = set_limit(RLIMIT_CORE, 0, "core files", err);

	for (size_t i = 0; i < ARRAY_SIZE(table) && r >= 0; i++)
		if (table[i].value > 0)
			r = set_limit(table[i].resource, table[i].value, table[i].name, err);
	return r;
}

/* ---- the user and its rights ---- */

static int become(const struct sandbox_user *user, struct error *err)
{
	uid_t real, effective, saved;

	/* An ordinary user has no groups to give up but its own, and may not. */
	if (setgroups(0, NULL) < 0 && errno != EPERM)
		return error_errno(err, "cannot leave the supplementary groups");
	if (setresgid(user->gid, user->gid, user->gid) < 0 ||
	    setresuid(user->uid, user->uid, user->uid) < 0)
		return error_errno(err, "cannot become user %u, group %u", user->uid, user->gid);
	if (getresuid(&real, &effective, &saved) < 0 || real != user->uid ||
	    effective != user->uid || saved != user->uid)
		return error_set(err, -EPERM, "did not become user %u", user->uid);
	return 0;
}

static int drop_capabilities(struct error *err)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };

	/* From one ordinary user to another the kernel keeps them: a dutd with ambient ones would
	 * pass them on. */
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
		return error_errno(err, "cannot drop the ambient capabilities");
	if (syscall(SYS_capset, &header, data) < 0)
		return error_errno(err, "cannot drop the capabilities");
	if (syscall(SYS_capget, &header, data) < 0)
		return error_errno(err, "cannot read the capabilities");
	for (size_t i = 0; i < ARRAY_SIZE(data); i++)
		if (data[i].effective || data[i].permitted || data[i].inheritable)
			return error_set(err, -EPERM, "still has capabilities");
	return 0;
}

/* Before setresuid(), which takes the right to do so along. */
static void drop_bounding_set(void)
{
	for (unsigned long capability = 0; capability < 64; capability++)
		if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0)
			return;
}

int sandbox_drop(const struct sandbox_user *user, struct error *err)
{
	int r;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_errno(err, "cannot set no_new_privs");
	drop_bounding_set();
	r = user ? become(user, err) : 0;
	if (r >= 0)
		r = drop_capabilities(err);
	if (r < 0)
		return r;
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return error_errno(err, "cannot forbid being traced");
	return 0;
}

/* ---- Landlock ---- */

/* Source: landlock(7). By number, because the headers of Debian 12 do not name the later ones. */
enum {
	ABI_REFER = 2,
	ABI_TRUNCATE = 3,
	ABI_NET = 4,
	ABI_IOCTL_DEV = 5,
	ABI_SCOPE = 6,

	RULE_PATH_BENEATH = 1,
	CREATE_RULESET_VERSION = 1,
};

static const uint64_t FS_EXECUTE = 1U << 0;
static const uint64_t FS_WRITE_FILE = 1U << 1;
static const uint64_t FS_READ_FILE = 1U << 2;
static const uint64_t FS_READ_DIR = 1U << 3;
static const uint64_t FS_REMOVE_DIR = 1U << 4;
static const uint64_t FS_REMOVE_FILE = 1U << 5;
static const uint64_t FS_MAKE_DIR = 1U << 7;
static const uint64_t FS_MAKE_REG = 1U << 8;
static const uint64_t FS_MAKE_SYM = 1U << 12;
static const uint64_t FS_OF_ABI_1 = (1U << 13) - 1;
static const uint64_t FS_REFER = 1U << 13; /* to rename between folders */
static const uint64_t FS_TRUNCATE = 1U << 14;
static const uint64_t FS_IOCTL_DEV = 1U << 15;
static const uint64_t NET_BIND_TCP = 1U << 0;
static const uint64_t NET_CONNECT_TCP = 1U << 1;
static const uint64_t SCOPE_ABSTRACT_SOCKET_AND_SIGNAL = 3;

/* The kernel takes the shorter ones of older ABIs by their length. */
struct ruleset {
	uint64_t fs, net, scope;
};

static const size_t RULESET_SIZE_ABI_1 = sizeof(uint64_t);
static const size_t RULESET_SIZE_ABI_4 = 2 * sizeof(uint64_t);

struct path_beneath {
	uint64_t allowed;
	int32_t fd;
} __attribute__((packed));

static int landlock_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_RULESET_VERSION);

	return abi < 0 ? 0 : (int)abi;
}

static uint64_t fs_of(int abi)
{
	return FS_OF_ABI_1 | (abi >= ABI_REFER ? FS_REFER : 0) |
	       (abi >= ABI_TRUNCATE ? FS_TRUNCATE : 0) | (abi >= ABI_IOCTL_DEV ? FS_IOCTL_DEV : 0);
}

static uint64_t fs_allowed(enum sandbox_access access, bool is_folder)
{
	uint64_t file = FS_READ_FILE, folder = FS_READ_DIR;

	if (access == SANDBOX_EXECUTE)
		file |= FS_EXECUTE;
	if (access == SANDBOX_WRITE || access == SANDBOX_LINK) {
		file |= FS_WRITE_FILE | FS_TRUNCATE;
		folder |= FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE_DIR | FS_MAKE_REG | FS_REFER;
	}
	if (access == SANDBOX_LINK)
		folder |= FS_MAKE_SYM;
	return is_folder ? file | folder : file;
}

static int allow_path(int ruleset_fd, const struct sandbox_path *path, int abi, struct error *err)
{
	struct path_beneath rule = { .fd = path->fd };
	struct stat status;

	if (fstat(path->fd, &status) < 0)
		return error_errno(err, "cannot allow a path");
	rule.allowed = fs_allowed(path->access, S_ISDIR(status.st_mode)) & fs_of(abi);
	if (syscall(SYS_landlock_add_rule, ruleset_fd, RULE_PATH_BENEATH, &rule, 0) < 0)
		return error_errno(err, "cannot allow a path");
	return 0;
}

/* The first version of Landlock has no rule that lets a hard link be made in another folder. */
static bool is_beyond(int abi, const struct sandbox_path *paths, size_t n_paths)
{
	for (size_t i = 0; i < n_paths; i++)
		if (paths[i].access == SANDBOX_LINK && abi < ABI_REFER)
			return true;
	return abi == 0;
}

static int restrict_paths(const struct sandbox_path *paths, size_t n_paths, bool connects,
			  struct error *err)
{
	int abi = landlock_abi();
	const struct ruleset ruleset = {
		.fs = fs_of(abi),
		.net = abi < ABI_NET ? 0
		       : connects    ? NET_BIND_TCP
				     : NET_BIND_TCP | NET_CONNECT_TCP,
		.scope = abi >= ABI_SCOPE ? SCOPE_ABSTRACT_SOCKET_AND_SIGNAL : 0,
	};
	size_t size = abi >= ABI_SCOPE ? sizeof(ruleset)
		      : abi >= ABI_NET ? RULESET_SIZE_ABI_4
				       : RULESET_SIZE_ABI_1;
	close_ int fd = -1;

	if (is_beyond(abi, paths, n_paths))
		return 0;
	fd = (int)syscall(SYS_landlock_create_ruleset, &ruleset, size, 0);
	if (fd < 0)
		return error_errno(err, "cannot make a Landlock ruleset");
	for (size_t i = 0; i < n_paths; i++) {
		int r = allow_path(fd, &paths[i], abi, err);

		if (r < 0)
			return r;
	}
	if (syscall(SYS_landlock_restrict_self, fd, 0) < 0)
		return error_errno(err, "cannot enter the Landlock ruleset");
	return 0;
}

/* ---- all of it ---- */

static bool entered;

#if WITH_ADDRESS_SANITIZER
/* LeakSanitizer asks: it would trace the process from a thread, which the sandbox forbids. */
int __lsan_is_turned_off(void);

int __lsan_is_turned_off(void)
{
	return entered;
}
#endif

int sandbox_enter(enum sandbox_profile profile, const struct sandbox_path *paths, size_t n_paths,
		  struct error *err)
{
	bool connects = profile == SANDBOX_DOWNLOAD || profile == SANDBOX_HELPER;
	int r = restrict_paths(paths, n_paths, connects, err);

	if (r >= 0)
		r = sandbox_filter_calls(profile, err);
	if (r >= 0)
		entered = true;
	return r;
}

void sandbox_open(struct sandbox_path *paths, size_t *count, size_t max, const char *const *names,
		  enum sandbox_access access)
{
	for (; *names && *count < max; names++) {
		int fd = open(*names, O_PATH | O_CLOEXEC);

		if (fd >= 0)
			paths[(*count)++] = (struct sandbox_path){ .fd = fd, .access = access };
	}
}

const char *sandbox_lacks(void)
{
	bool landlock = landlock_abi() > 0, seccomp = sandbox_can_filter();

	if (landlock && seccomp)
		return NULL;
	if (landlock)
		return "this kernel has no seccomp filters";
	return seccomp ? "this kernel has no Landlock"
		       : "this kernel has neither Landlock nor seccomp filters";
}
