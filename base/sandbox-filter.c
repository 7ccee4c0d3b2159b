/* SPDX-License-Identifier: MIT */

/*
 * The filters of system calls: a list of rules for each profile, compiled to the kernel's own
 * little machine code. Without libseccomp, because the programs are built for one architecture,
 * their lists are short, and a library more would be half of an executor's start.
 *
 * The lists hold what the programs and their libraries call, by name: a name that an architecture
 * does not have is left out there.
 */

#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/protocol.h"
#include "base/sandbox-internal.h"

#if defined(__x86_64__)
#	define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#	define ARCHITECTURE AUDIT_ARCH_AARCH64
#elif defined(__arm__)
#	define ARCHITECTURE AUDIT_ARCH_ARM
#elif defined(__riscv) && __riscv_xlen == 64
#	define ARCHITECTURE AUDIT_ARCH_RISCV64
#elif defined(__i386__)
#	define ARCHITECTURE AUDIT_ARCH_I386
#else
#	error "which AUDIT_ARCH_ is this?"
#endif

/* The low half of an argument, which is all that int and unsigned int have. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#	define ARGUMENT(n) (offsetof(struct seccomp_data, args) + sizeof(uint64_t) * (n))
#else
#	define ARGUMENT(n) (offsetof(struct seccomp_data, args) + sizeof(uint64_t) * (n) + 4)
#endif

enum { X32_BIT = 0x40000000 };

enum verb {
	ALLOW,
	ALLOW_IF,     /* the argument is the value */
	ALLOW_MASKED, /* the argument has all bits of the value */
	ALLOW_SELF,   /* the argument is our pid */
	REFUSE_IF,    /* the argument is the value; a rule that allows the call follows */
	MISSING,      /* as if the kernel did not have it: libc then does without */
	MISSING_IF,   /* the same when the argument is the value */
};

struct rule {
	int number;
	enum verb verb;
	unsigned argument;
	uint32_t value;
};

/* clang-format off */

/* What is done with an fd of one's own. */
#define FCNTL_RULES(number)				\
	{ number, ALLOW_IF, 1, F_GETFD },		\
	{ number, ALLOW_IF, 1, F_SETFD },		\
	{ number, ALLOW_IF, 1, F_GETFL },		\
	{ number, ALLOW_IF, 1, F_SETFL },		\
	{ number, ALLOW_IF, 1, F_DUPFD },		\
	{ number, ALLOW_IF, 1, F_DUPFD_CLOEXEC }

/* What any C program needs to compute, to write what it found, and to end. */
static const struct rule compute_rules[] = {
	{ SYS_read, ALLOW, 0, 0 },
	{ SYS_write, ALLOW, 0, 0 },
	{ SYS_writev, ALLOW, 0, 0 },
	{ SYS_close, ALLOW, 0, 0 },
	{ SYS_lseek, ALLOW, 0, 0 },
	{ SYS_fstat, ALLOW, 0, 0 },
#ifdef SYS_newfstatat
	{ SYS_newfstatat, ALLOW, 0, 0 },
#endif
#ifdef SYS_fstat64
	{ SYS_fstat64, ALLOW, 0, 0 },
	{ SYS_fstatat64, ALLOW, 0, 0 },
	{ SYS__llseek, ALLOW, 0, 0 },
	{ SYS_mmap2, ALLOW, 0, 0 },
#endif
#ifdef SYS_mmap
	{ SYS_mmap, ALLOW, 0, 0 },
#endif
	{ SYS_statx, ALLOW, 0, 0 },
	{ SYS_ioctl, ALLOW_IF, 1, TCGETS }, /* isatty() */
	{ SYS_brk, ALLOW, 0, 0 },
	{ SYS_munmap, ALLOW, 0, 0 },
	{ SYS_mremap, ALLOW, 0, 0 },
	{ SYS_mprotect, ALLOW, 0, 0 },
	{ SYS_madvise, ALLOW, 0, 0 },
	{ SYS_futex, ALLOW, 0, 0 },
	{ SYS_getrandom, ALLOW, 0, 0 },
	{ SYS_clock_gettime, ALLOW, 0, 0 },
	{ SYS_clock_getres, ALLOW, 0, 0 },
	{ SYS_gettimeofday, ALLOW, 0, 0 },
#ifdef SYS_clock_gettime64
	{ SYS_clock_gettime64, ALLOW, 0, 0 },
	{ SYS_clock_getres_time64, ALLOW, 0, 0 },
	{ SYS_futex_time64, ALLOW, 0, 0 },
#endif
#ifdef SYS_time
	{ SYS_time, ALLOW, 0, 0 },
#endif
	{ SYS_getpid, ALLOW, 0, 0 },
	{ SYS_gettid, ALLOW, 0, 0 },
	{ SYS_getuid, ALLOW, 0, 0 },
	{ SYS_geteuid, ALLOW, 0, 0 },
	{ SYS_getgid, ALLOW, 0, 0 },
	{ SYS_getegid, ALLOW, 0, 0 },
#ifdef SYS_getuid32
	{ SYS_getuid32, ALLOW, 0, 0 },
	{ SYS_geteuid32, ALLOW, 0, 0 },
	{ SYS_getgid32, ALLOW, 0, 0 },
	{ SYS_getegid32, ALLOW, 0, 0 },
#endif
	/* Code that was just compiled is read by another way than it was written. */
#ifdef __ARM_NR_cacheflush
	{ __ARM_NR_cacheflush, ALLOW, 0, 0 },
#endif
#ifdef SYS_riscv_flush_icache
	{ SYS_riscv_flush_icache, ALLOW, 0, 0 },
#endif
	{ SYS_prlimit64, ALLOW_IF, 0, 0 }, /* of itself */
	{ SYS_sched_yield, ALLOW, 0, 0 },
	{ SYS_rt_sigaction, ALLOW, 0, 0 },
	{ SYS_rt_sigprocmask, ALLOW, 0, 0 },
	{ SYS_rt_sigreturn, ALLOW, 0, 0 },
#ifdef SYS_sigreturn
	{ SYS_sigreturn, ALLOW, 0, 0 },
#endif
	{ SYS_sigaltstack, ALLOW, 0, 0 },
	{ SYS_restart_syscall, ALLOW, 0, 0 },
	{ SYS_tgkill, ALLOW_SELF, 0, 0 }, /* abort() */
	{ SYS_set_robust_list, ALLOW, 0, 0 },
#ifdef SYS_rseq
	{ SYS_rseq, ALLOW, 0, 0 },
#endif
	{ SYS_exit, ALLOW, 0, 0 },
	{ SYS_exit_group, ALLOW, 0, 0 },
};

/*
 * A loop over given sockets, pipes and terminals, and files in the folders that Landlock leaves.
 * Landlock does not know of modes: none is changed by a path. And whoever can close the DUT's lock
 * gives it away while it lives.
 */
static const struct rule executor_rules[] = {
	{ SYS_close, REFUSE_IF, 0, EXECUTOR_FD_LOCK },
	{ SYS_pread64, ALLOW, 0, 0 },
	{ SYS_pwrite64, ALLOW, 0, 0 },
	{ SYS_splice, ALLOW, 0, 0 },
	{ SYS_dup, ALLOW, 0, 0 },
	{ SYS_pipe2, ALLOW, 0, 0 },
	/* No leases, over which others stumble, and no signals for events, which go to anybody. */
	FCNTL_RULES(SYS_fcntl),
#ifdef SYS_fcntl64
	FCNTL_RULES(SYS_fcntl64),
#endif
	{ SYS_ioctl, ALLOW_IF, 1, FIONREAD },
	{ SYS_ioctl, ALLOW_IF, 1, TIOCOUTQ },
	{ SYS_ioctl, ALLOW_IF, 1, TIOCMGET },
	/* files */
	{ SYS_openat, ALLOW, 0, 0 },
	{ SYS_openat2, ALLOW, 0, 0 },
	{ SYS_mkdirat, ALLOW, 0, 0 },
	{ SYS_fchmod, ALLOW, 0, 0 },
	{ SYS_unlinkat, ALLOW, 0, 0 },
#ifdef SYS_renameat
	{ SYS_renameat, ALLOW, 0, 0 },
#endif
	{ SYS_renameat2, ALLOW, 0, 0 },
	{ SYS_faccessat, ALLOW, 0, 0 },
	{ SYS_faccessat2, ALLOW, 0, 0 },
	{ SYS_getdents64, ALLOW, 0, 0 },
	{ SYS_ftruncate, ALLOW, 0, 0 },
#ifdef SYS_ftruncate64
	{ SYS_ftruncate64, ALLOW, 0, 0 },
#endif
	{ SYS_fallocate, ALLOW_IF, 1, 0 }, /* makes no holes */
	{ SYS_fsync, ALLOW, 0, 0 },
	{ SYS_fdatasync, ALLOW, 0, 0 },
	{ SYS_fstatfs, ALLOW, 0, 0 },
#ifdef SYS_fstatfs64
	{ SYS_fstatfs64, ALLOW, 0, 0 },
#endif
	/* the loop */
	{ SYS_epoll_create1, ALLOW, 0, 0 },
	{ SYS_epoll_ctl, ALLOW, 0, 0 },
#ifdef SYS_epoll_wait
	{ SYS_epoll_wait, ALLOW, 0, 0 },
#endif
	{ SYS_epoll_pwait, ALLOW, 0, 0 },
	{ SYS_epoll_pwait2, ALLOW, 0, 0 },
	{ SYS_timerfd_create, ALLOW, 0, 0 },
	{ SYS_timerfd_settime, ALLOW, 0, 0 },
#ifdef SYS_timerfd_settime64
	{ SYS_timerfd_settime64, ALLOW, 0, 0 },
#endif
	{ SYS_signalfd4, ALLOW, 0, 0 },
	{ SYS_eventfd2, ALLOW, 0, 0 },
#ifdef SYS_poll
	{ SYS_poll, ALLOW, 0, 0 },
#endif
	{ SYS_ppoll, ALLOW, 0, 0 },
#ifdef SYS_ppoll_time64
	{ SYS_ppoll_time64, ALLOW, 0, 0 },
#endif
	{ SYS_waitid, ALLOW, 0, 0 },
	/* sockets that are there */
	{ SYS_listen, ALLOW, 0, 0 },
	{ SYS_accept4, ALLOW, 0, 0 },
	{ SYS_shutdown, ALLOW, 0, 0 },
	{ SYS_sendmsg, ALLOW, 0, 0 },
	{ SYS_recvmsg, ALLOW, 0, 0 },
	{ SYS_sendto, ALLOW, 0, 0 },
	{ SYS_recvfrom, ALLOW, 0, 0 },
#ifdef SYS_send
	{ SYS_send, ALLOW, 0, 0 },
	{ SYS_recv, ALLOW, 0, 0 },
#endif
	{ SYS_getsockopt, ALLOW, 0, 0 },
	{ SYS_setsockopt, ALLOW, 0, 0 }, /* as far as this filter goes: refuse_quietly() */
	{ SYS_clone3, MISSING, 0, 0 },
};

/* Files, folders and links in the folders that Landlock leaves, and what loads a library. */
static const struct rule file_rules[] = {
	{ SYS_pread64, ALLOW, 0, 0 },
	{ SYS_pwrite64, ALLOW, 0, 0 },
	FCNTL_RULES(SYS_fcntl),
#ifdef SYS_fcntl64
	FCNTL_RULES(SYS_fcntl64),
#endif
	{ SYS_openat, ALLOW, 0, 0 },
	{ SYS_openat2, ALLOW, 0, 0 },
	{ SYS_mkdirat, ALLOW, 0, 0 },
	{ SYS_symlinkat, ALLOW, 0, 0 },
	{ SYS_linkat, ALLOW, 0, 0 },
	{ SYS_unlinkat, ALLOW, 0, 0 },
#ifdef SYS_renameat
	{ SYS_renameat, ALLOW, 0, 0 },
#endif
	{ SYS_renameat2, ALLOW, 0, 0 },
	{ SYS_readlinkat, ALLOW, 0, 0 },
	{ SYS_faccessat, ALLOW, 0, 0 },
	{ SYS_faccessat2, ALLOW, 0, 0 },
#ifdef SYS_access
	{ SYS_access, ALLOW, 0, 0 },
	{ SYS_readlink, ALLOW, 0, 0 },
#endif
	{ SYS_getdents64, ALLOW, 0, 0 },
	{ SYS_ftruncate, ALLOW, 0, 0 },
#ifdef SYS_ftruncate64
	{ SYS_ftruncate64, ALLOW, 0, 0 },
#endif
	{ SYS_fstatfs, ALLOW, 0, 0 },
#ifdef SYS_fstatfs64
	{ SYS_fstatfs64, ALLOW, 0, 0 },
#endif
	{ SYS_utimensat, ALLOW, 0, 0 },
#ifdef SYS_utimensat_time64
	{ SYS_utimensat_time64, ALLOW, 0, 0 },
#endif
#ifdef SYS_poll
	{ SYS_poll, ALLOW, 0, 0 },
#endif
	{ SYS_ppoll, ALLOW, 0, 0 },
#ifdef SYS_ppoll_time64
	{ SYS_ppoll_time64, ALLOW, 0, 0 },
#endif
	{ SYS_sched_getaffinity, ALLOW, 0, 0 }, /* how many processors malloc() has */
	{ SYS_sysinfo, ALLOW, 0, 0 },		/* how much memory qsort() has */
	{ SYS_uname, ALLOW, 0, 0 },
	{ SYS_clone3, MISSING, 0, 0 },
};

/* A client of the internet, and the thread in which it looks up a name. */
static const struct rule network_rules[] = {
	{ SYS_socket, ALLOW_IF, 0, AF_INET },
	{ SYS_socket, ALLOW_IF, 0, AF_INET6 },
	/* libc asks local services, and the kernel for its addresses, and does without. */
	{ SYS_socket, MISSING_IF, 0, AF_UNIX },
	{ SYS_socket, MISSING_IF, 0, AF_NETLINK },
	/* No datagrams, which could be sent to any name. */
	{ SYS_socketpair, ALLOW_IF, 1, SOCK_STREAM },
	{ SYS_socketpair, ALLOW_IF, 1, SOCK_STREAM | SOCK_CLOEXEC },
	{ SYS_socketpair, ALLOW_IF, 1, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK },
	{ SYS_connect, ALLOW, 0, 0 },
	{ SYS_shutdown, ALLOW, 0, 0 },
	{ SYS_sendmsg, ALLOW, 0, 0 },
	{ SYS_sendmmsg, ALLOW, 0, 0 },
	{ SYS_recvmsg, ALLOW, 0, 0 },
	{ SYS_sendto, ALLOW, 0, 0 },
	{ SYS_recvfrom, ALLOW, 0, 0 },
#ifdef SYS_send
	{ SYS_send, ALLOW, 0, 0 },
	{ SYS_recv, ALLOW, 0, 0 },
#endif
	{ SYS_getsockopt, ALLOW, 0, 0 },
	{ SYS_setsockopt, ALLOW, 0, 0 },
	{ SYS_getsockname, ALLOW, 0, 0 },
	{ SYS_getpeername, ALLOW, 0, 0 },
	{ SYS_ioctl, ALLOW_IF, 1, FIONREAD },
	{ SYS_pipe2, ALLOW, 0, 0 },
	{ SYS_eventfd2, ALLOW, 0, 0 },
	{ SYS_dup, ALLOW, 0, 0 },
	{ SYS_clone, ALLOW_MASKED, 0, CLONE_THREAD },
};

/* A loop that starts programs with given fds, each in a session of its own, and ends them. */
static const struct rule helper_rules[] = {
	{ SYS_clone, ALLOW_IF, 0, CLONE_VM | CLONE_VFORK | SIGCHLD }, /* posix_spawn() alone */
	{ SYS_execve, ALLOW, 0, 0 },
	{ SYS_setsid, ALLOW, 0, 0 },
	{ SYS_dup3, ALLOW, 0, 0 },
#ifdef SYS_dup2
	{ SYS_dup2, ALLOW, 0, 0 },
#endif
	{ SYS_close_range, ALLOW, 0, 0 },
	{ SYS_kill, ALLOW, 0, 0 },
	{ SYS_pidfd_open, ALLOW, 0, 0 },
	{ SYS_pidfd_send_signal, ALLOW, 0, 0 },
	{ SYS_waitid, ALLOW, 0, 0 },
	{ SYS_wait4, ALLOW, 0, 0 },
	{ SYS_memfd_create, ALLOW, 0, 0 },
	{ SYS_epoll_create1, ALLOW, 0, 0 },
	{ SYS_epoll_ctl, ALLOW, 0, 0 },
#ifdef SYS_epoll_wait
	{ SYS_epoll_wait, ALLOW, 0, 0 },
#endif
	{ SYS_epoll_pwait, ALLOW, 0, 0 },
	{ SYS_epoll_pwait2, ALLOW, 0, 0 },
	{ SYS_signalfd4, ALLOW, 0, 0 },
	/* As what is started begins, and confines itself further. */
#ifdef SYS_arch_prctl
	{ SYS_arch_prctl, ALLOW, 0, 0 },
#endif
#ifdef __ARM_NR_set_tls
	{ __ARM_NR_set_tls, ALLOW, 0, 0 },
#endif
	{ SYS_set_tid_address, ALLOW, 0, 0 },
	{ SYS_prctl, ALLOW, 0, 0 },
	{ SYS_capget, ALLOW, 0, 0 },
	{ SYS_capset, ALLOW, 0, 0 },
	{ SYS_seccomp, ALLOW, 0, 0 },
	{ SYS_landlock_create_ruleset, ALLOW, 0, 0 },
	{ SYS_landlock_add_rule, ALLOW, 0, 0 },
	{ SYS_landlock_restrict_self, ALLOW, 0, 0 },
};
/* clang-format on */

struct rules {
	const struct rule *items;
	size_t count;
};

enum { MAX_RULES = 256, MAX_CODE = 8 + 5 * MAX_RULES };

struct filter {
	struct sock_filter code[MAX_CODE];
	unsigned short length;
	uint32_t refusal; /* what a call outside the rules gets */
};

static void emit(struct filter *filter, uint16_t code, uint32_t k, uint8_t jt, uint8_t jf)
{
	if (filter->length < MAX_CODE)
		filter->code[filter->length++] =
			(struct sock_filter){ .code = code, .jt = jt, .jf = jf, .k = k };
}

static void emit_load(struct filter *filter, size_t offset)
{
	emit(filter, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void emit_return(struct filter *filter, uint32_t action)
{
	emit(filter, BPF_RET | BPF_K, action, 0, 0);
}

/* Each rule begins and, when it does not decide, ends with the call's number in the accumulator. */
static void emit_rule(struct filter *filter, const struct rule *rule)
{
	const uint16_t equal = BPF_JMP | BPF_JEQ | BPF_K;
	uint32_t number = (uint32_t)rule->number, value = rule->value;
	uint32_t decision = SECCOMP_RET_ALLOW;

	if (rule->verb == MISSING || rule->verb == MISSING_IF)
		decision = SECCOMP_RET_ERRNO | ENOSYS;
	else if (rule->verb == REFUSE_IF)
		decision = filter->refusal;
	if (rule->verb == ALLOW || rule->verb == MISSING) {
		emit(filter, equal, number, 0, 1);
		emit_return(filter, decision);
		return;
	}
	if (rule->verb == ALLOW_SELF)
		value = (uint32_t)getpid();
	if (rule->verb == ALLOW_MASKED) {
		emit(filter, equal, number, 0, 5);
		emit_load(filter, ARGUMENT(rule->argument));
		emit(filter, BPF_ALU | BPF_AND | BPF_K, value, 0, 0);
	} else {
		emit(filter, equal, number, 0, 4);
		emit_load(filter, ARGUMENT(rule->argument));
	}
	emit(filter, equal, value, 0, 1);
	emit_return(filter, decision);
	emit_load(filter, offsetof(struct seccomp_data, nr));
}

static void emit_start(struct filter *filter)
{
	/* Numbers mean something else to another architecture of the same kernel. */
	emit_load(filter, offsetof(struct seccomp_data, arch));
	emit(filter, BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0);
	emit_return(filter, SECCOMP_RET_KILL_PROCESS);
	emit_load(filter, offsetof(struct seccomp_data, nr));
#ifdef __x86_64__
	emit(filter, BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1);
	emit_return(filter, filter->refusal);
#endif
}

static void emit_rules(struct filter *filter, const struct rules *rules)
{
	for (size_t i = 0; i < rules->count; i++)
		emit_rule(filter, &rules->items[i]);
}

static bool is_strict(void)
{
	const char *wish = getenv("DUT_SANDBOX");

	return wish && strcmp(wish, "kill") == 0;
}

bool sandbox_can_filter(void)
{
	uint32_t action = SECCOMP_RET_ERRNO;

	return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

static void emit_profile(struct filter *filter, enum sandbox_profile profile)
{
	const struct rules compute = { compute_rules, ARRAY_SIZE(compute_rules) };
	const struct rules executor = { executor_rules, ARRAY_SIZE(executor_rules) };
	const struct rules files = { file_rules, ARRAY_SIZE(file_rules) };
	const struct rules network = { network_rules, ARRAY_SIZE(network_rules) };
	const struct rules helper = { helper_rules, ARRAY_SIZE(helper_rules) };

	/* The first rule that decides does: what is refused stands before what is allowed. */
	switch (profile) {
	case SANDBOX_COMPUTE:
		break;
	case SANDBOX_EXECUTOR:
		emit_rules(filter, &executor);
		break;
	case SANDBOX_HELPER:
		emit_rules(filter, &helper);
		emit_rules(filter, &network);
		emit_rules(filter, &files);
		break;
	case SANDBOX_DOWNLOAD:
		emit_rules(filter, &network);
		emit_rules(filter, &files);
		break;
	case SANDBOX_UNPACK:
		emit_rules(filter, &files);
		break;
	}
	emit_rules(filter, &compute);
}

static int load(struct filter *filter, unsigned flags, struct error *err)
{
	const struct sock_fprog program = { .len = filter->length, .filter = filter->code };

	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) < 0)
		return error_errno(err, "cannot filter system calls");
	return 0;
}

/*
 * A filter in front of the executor's own, without records for audit: setsockopt() fails with
 * EINVAL. An option would stay with a console when its job is over; libmicrohttpd tries one with
 * each connection, and after EINVAL no other. Its record would cost more than the answer.
 */
static int refuse_quietly(struct error *err)
{
	struct filter filter = { .refusal = SECCOMP_RET_ERRNO | EINVAL };

	emit_start(&filter);
	emit(&filter, BPF_JMP | BPF_JEQ | BPF_K, SYS_setsockopt, 0, 1);
	emit_return(&filter, filter.refusal);
	emit_return(&filter, SECCOMP_RET_ALLOW);
	return load(&filter, 0, err);
}

int sandbox_filter_calls(enum sandbox_profile profile, struct error *err)
{
	struct filter filter = {
		.refusal = is_strict() ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_ERRNO | EPERM,
	};
	int r;

	if (!sandbox_can_filter())
		return 0;
	if (profile == SANDBOX_EXECUTOR) {
		r = refuse_quietly(err);
		if (r < 0)
			return r;
	}
	emit_start(&filter);
	emit_profile(&filter, profile);
	emit_return(&filter, filter.refusal);
	return load(&filter, SECCOMP_FILTER_FLAG_LOG, err);
}
