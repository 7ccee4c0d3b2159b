/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

/*
 * What a process gives up before it reads anything that a stranger wrote. Three steps, in this
 * order: sandbox_limit(), sandbox_drop() and, once whatever has to be started or opened is there,
 * sandbox_enter(). There is no way back from any of them, and children inherit them all.
 *
 * What the kernel does not have is left out (sandbox_lacks() says what that is, for whoever tells
 * the administrator); what it has and refuses is an error, and the process must not go on.
 */

/* Hard and soft limits; 0 leaves one as it is. */
struct sandbox_limits {
	uint64_t memory;     /* bytes of address space; ignored under AddressSanitizer */
	uint64_t file_size;  /* bytes of any one file that it writes */
	uint64_t open_files; /* fds */
	uint64_t cpu_s;	     /* of processor time */
	uint64_t processes;  /* and threads, of the user: only for a user of its own */
};

/* No core files, and these limits. */
int sandbox_limit(const struct sandbox_limits *limits, struct error *err);

struct sandbox_user {
	uid_t uid;
	gid_t gid;
};

/*
 * Gives up every capability, every way to get one (no_new_privs), being traced, the supplementary
 * groups, and the user: from now on the process is this one. NULL keeps the user.
 *
 * Errors: -EPERM when it is still somebody that it should not be.
 * Source: capabilities(7); PR_SET_NO_NEW_PRIVS(2const); setresuid(2).
 */
int sandbox_drop(const struct sandbox_user *user, struct error *err);

/* Which system calls are left. */
enum sandbox_profile {
	SANDBOX_COMPUTE,  /* reads and writes the fds that it has, and computes */
	SANDBOX_EXECUTOR, /* a loop over given fds, and files: no socket(), fork, execve or kill */
	SANDBOX_UNPACK,	  /* files, folders and links: no sockets, no other process */
	SANDBOX_DOWNLOAD, /* the same, threads, and sockets of the internet: no listen(), no process
			   */
	SANDBOX_HELPER,	  /* a loop that starts programs which enter one of the former two */
};

enum sandbox_access {
	SANDBOX_READ,	 /* files and folders */
	SANDBOX_EXECUTE, /* the same, and programs */
	SANDBOX_WRITE,	 /* as well as create, remove, rename: files and folders, nothing else */
	SANDBOX_LINK,	 /* the same, and links */
};

/* A file, or a folder with all that is beneath it. */
struct sandbox_path {
	int fd;
	enum sandbox_access access;
};

/*
 * Leaves the process with these paths (by Landlock; fds that are open stay usable) and the
 * profile's system calls (by seccomp: any other one fails with EPERM and is logged by the kernel).
 * To be called while there is one thread. With DUT_SANDBOX=kill in the environment a system call
 * outside the profile kills the process: for tests.
 *
 * Source: landlock(7), whose access rights are asked for as far as the kernel's ABI has them;
 * seccomp(2).
 */
int sandbox_enter(enum sandbox_profile profile, const struct sandbox_path *paths, size_t n_paths,
		  struct error *err);

/*
 * Opens the files and folders names (ends with NULL; links are followed, what is not there is left
 * out) and appends them to paths, of which there are *count and place for max.
 *
 * Owns: the fds are the caller's, who needs them until sandbox_enter().
 */
void sandbox_open(struct sandbox_path *paths, size_t *count, size_t max, const char *const *names,
		  enum sandbox_access access);

/* Names what this kernel lacks of it, or NULL when it has everything. */
const char *sandbox_lacks(void);
