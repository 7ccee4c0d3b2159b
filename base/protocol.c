/* SPDX-License-Identifier: MIT */
#include "base/protocol.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/attr.h"
#include "base/cleanup.h"

static const char *const status_names[JOB_STATUSES] = {
	[JOB_PASS] = "PASS",
	[JOB_WARN] = "WARN",
	[JOB_COMPLETE] = "COMPLETE",
	[JOB_FAIL] = "FAIL",
	[JOB_INCOMPLETE] = "INCOMPLETE",
	[JOB_UNKNOWN] = "UNKNOWN",
	[JOB_SETUP_FAIL] = "SETUP_FAIL",
	[JOB_CANCELLED] = "CANCELLED",
};

static const char *const phase_names[JOB_PHASES] = {
	[PHASE_SETUP] = "setup", [PHASE_POWER_OFF] = "power_off", [PHASE_POWER_ON] = "power_on",
	[PHASE_BOOT] = "boot",	 [PHASE_RUNNING] = "running",	  [PHASE_TEARDOWN] = "teardown",
};

/*
 * Every reason and its status. A reason that ends in ':' or '.' stands for all that begin with it.
 * before_on is the status while the board has not been switched on yet.
 */
static const struct {
	const char *reason;
	enum job_status status, before_on;
} reasons[] = {
	/* clang-format off */
	{ "ok",                             JOB_PASS,       JOB_PASS },
	{ "warn",                           JOB_WARN,       JOB_WARN },
	{ "no_success",                     JOB_FAIL,       JOB_FAIL },
	{ "pattern_fail",                   JOB_FAIL,       JOB_FAIL },
	{ "step:",                          JOB_FAIL,       JOB_FAIL },
	{ "command:",                       JOB_FAIL,       JOB_FAIL },
	{ "timeout:overall",                JOB_INCOMPLETE, JOB_SETUP_FAIL },
	{ "timeout:infra_setup",            JOB_SETUP_FAIL, JOB_SETUP_FAIL },
	{ "timeout:boot_cycle",             JOB_INCOMPLETE, JOB_INCOMPLETE },
	{ "timeout:first_console_activity", JOB_INCOMPLETE, JOB_INCOMPLETE },
	{ "timeout:console_activity",       JOB_INCOMPLETE, JOB_INCOMPLETE },
	{ "timeout:watchdogs.",             JOB_INCOMPLETE, JOB_INCOMPLETE },
	{ "queue_timeout",                  JOB_SETUP_FAIL, JOB_SETUP_FAIL },
	{ "deadline",                       JOB_SETUP_FAIL, JOB_SETUP_FAIL },
	{ "download",                       JOB_SETUP_FAIL, JOB_SETUP_FAIL },
	{ "checksum",                       JOB_SETUP_FAIL, JOB_SETUP_FAIL },
	{ "bucket",                         JOB_SETUP_FAIL, JOB_SETUP_FAIL },
	{ "disk",                           JOB_INCOMPLETE, JOB_SETUP_FAIL },
	{ "console_flood",                  JOB_INCOMPLETE, JOB_INCOMPLETE },
	{ "regex_limit",                    JOB_INCOMPLETE, JOB_INCOMPLETE },
	{ "unfit",                          JOB_INCOMPLETE, JOB_INCOMPLETE },
	{ "power",                          JOB_INCOMPLETE, JOB_SETUP_FAIL },
	{ "console_lost",                   JOB_INCOMPLETE, JOB_INCOMPLETE },
	{ "executor_failed",                JOB_SETUP_FAIL, JOB_SETUP_FAIL },
	{ "executor_killed",                JOB_INCOMPLETE, JOB_INCOMPLETE },
	{ "daemon_lost",                    JOB_INCOMPLETE, JOB_INCOMPLETE },
	{ "gateway_reboot",                 JOB_INCOMPLETE, JOB_INCOMPLETE },
	{ "client_lost",                    JOB_CANCELLED,  JOB_CANCELLED },
	{ "cancelled",                      JOB_CANCELLED,  JOB_CANCELLED },
	/* clang-format on */
};

const char *job_status_name(enum job_status status)
{
	return (unsigned)status < JOB_STATUSES ? status_names[status] : "UNKNOWN";
}

int job_status_from_name(const char *name)
{
	for (unsigned i = 0; i < JOB_STATUSES; i++)
		if (strcmp(name, status_names[i]) == 0)
			return (int)i;
	return -EINVAL;
}

const char *job_phase_name(enum job_phase phase)
{
	return (unsigned)phase < JOB_PHASES ? phase_names[phase] : "unknown";
}

/* The index in reasons[], or -1. */
static int find_reason(const char *reason)
{
	for (unsigned i = 0; i < ARRAY_SIZE(reasons); i++) {
		size_t length = strlen(reasons[i].reason);
		bool open = strchr(":.", reasons[i].reason[length - 1]);

		if (open ? strncmp(reason, reasons[i].reason, length) == 0 && reason[length]
			 : strcmp(reason, reasons[i].reason) == 0)
			return (int)i;
	}
	return -1;
}

enum job_status job_reason_status(const char *reason, bool before_on)
{
	int i = find_reason(reason);

	if (i < 0)
		return JOB_INCOMPLETE;
	return before_on ? reasons[i].before_on : reasons[i].status;
}

bool job_status_fits(enum job_status status, const char *reason)
{
	/* A session without a job_success to wait for; a step whose time is over. */
	static const struct {
		const char *reason;
		enum job_status status;
	} besides[] = { { "ok", JOB_COMPLETE }, { "step:", JOB_INCOMPLETE } };
	int i = find_reason(reason);

	if (i < 0)
		return false;
	for (size_t j = 0; j < ARRAY_SIZE(besides); j++)
		if (status == besides[j].status &&
		    strcmp(reasons[i].reason, besides[j].reason) == 0)
			return true;
	return status == reasons[i].status || status == reasons[i].before_on;
}

bool job_reason_known(const char *reason)
{
	return find_reason(reason) >= 0;
}

bool job_reason_cancels(const char *reason)
{
	int i = find_reason(reason);

	return i >= 0 &&
	       (reasons[i].status == JOB_CANCELLED || reasons[i].status == JOB_INCOMPLETE ||
		reasons[i].status == JOB_SETUP_FAIL);
}

int packet_send(int fd, json_t *packet, const int *fds, unsigned n_fds, struct error *err)
{
	char control[CMSG_SPACE(sizeof(int) * PACKET_FDS_MAX)] = { 0 };
	struct iovec piece = { 0 };
	struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1 };
	free_ char *text = json_dumps(packet, JSON_COMPACT);

	json_decref(packet);
	if (!text)
		return error_oom(err);

	piece.iov_base = text;
	piece.iov_len = strlen(text);
	if (piece.iov_len > PACKET_MAX || n_fds > PACKET_FDS_MAX)
		return error_set(err, -EMSGSIZE, "a control packet of %zu bytes is over %d",
				 piece.iov_len, PACKET_MAX);
	if (n_fds > 0) {
		struct cmsghdr *header;

		message.msg_control = control;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(header), fds, sizeof(int) * n_fds);
	}
	if (sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return error_errno(err, "cannot send a control packet");
	return 0;
}

/* Takes the fds out of a message; more than there is room for are closed. */
static void take_fds(struct msghdr *message, int ret_fds[static PACKET_FDS_MAX])
{
	unsigned used = 0;

	for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header;
	     header = CMSG_NXTHDR(message, header)) {
		size_t count;

		if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
			continue;
		count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(fd));
			if (used < PACKET_FDS_MAX)
				ret_fds[used++] = fd;
			else
				(void)close_fd(fd);
		}
	}
}

static void close_fds(int fds[static PACKET_FDS_MAX])
{
	for (unsigned i = 0; i < PACKET_FDS_MAX; i++)
		fds[i] = close_fd(fds[i]);
}

int packet_receive(int fd, json_t **ret, int ret_fds[static PACKET_FDS_MAX], struct error *err)
{
	char control[CMSG_SPACE(sizeof(int) * PACKET_FDS_MAX)];
	free_ char *text = malloc(PACKET_MAX);
	struct iovec piece = { .iov_base = text, .iov_len = PACKET_MAX };
	struct msghdr message = {
		.msg_iov = &piece,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	json_t *packet;
	ssize_t n;

	for (unsigned i = 0; i < PACKET_FDS_MAX; i++)
		ret_fds[i] = -1;
	if (!text)
		return error_oom(err);

	n = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return error_errno(err, "cannot receive a control packet");
	take_fds(&message, ret_fds);
	if (n == 0) {
		close_fds(ret_fds);
		return 0;
	}
	packet = message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)
			 ? NULL
			 : json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_string(json_object_get(packet, "t"))) {
		json_decref(packet);
		close_fds(ret_fds);
		return error_set(err, -EBADMSG, "what came is no control packet");
	}
	*ret = packet;
	return 1;
}
