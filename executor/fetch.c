/* SPDX-License-Identifier: MIT */

/*
 * dut-fetch: one download or one archive, in a process that lives no longer than that. libcurl and
 * libarchive, and whatever the network and a job's tarball do to them, stay out of the programs
 * that hold a job or a board; and whoever does not want the result any more kills the process,
 * whatever it waits for.
 *
 * Fds: 0 the request (one JSON object, then the end), 1 the answer, 3 and 4 as below. The answer is
 * a line {"ok": true, "size", "seconds"} or {"reason", "error"}; lines {"progress": BYTES} may come
 * before it. The exit status is 0 when it is done, and 1 when the answer says why not.
 */

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/archive.h"
#include "base/attr.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/jsontext.h"
#include "base/protocol.h"
#include "executor/download.h"
#include "executor/fetchbox.h"
#include "executor/fileurl.h"
#include "executor/localfile.h"
#include "executor/sink.h"

enum {
	FD_REQUEST = 0,
	FD_ANSWER = 1,
	FD_FILE = 3,  /* download: to write; unpack: the archive; pack: where the tar goes */
	FD_OTHER = 4, /* download without URL: the file to read; unpack, pack: the folder */
};

enum {
	EXIT_FAILED = 1,
	EXIT_USAGE = 64,
	EXIT_NO_ANSWER = 70,
	/* Of processor time: this, and more for each byte of the archive. */
	UNPACK_TIME_S = 300,
	UNPACK_BYTES_PER_S = 256 << 10,
	NAMES_MAX = 32, /* to pack */
};

/* One action. *ret_reason is set on failure, to a reason of result.json. */
typedef int (*action_fn)(const json_t *request, uint64_t *ret_size, const char **ret_reason,
			 struct error *err);

/* Writes one line; there is nobody to tell that it failed. */
static void answer(json_t *packet)
{
	free_ char *text = json_dumps(packet, JSON_COMPACT);
	size_t length = text ? strlen(text) : 0;

	json_decref(packet);
	if (!text)
		_exit(EXIT_NO_ANSWER);
	text[length] = '\n';
	if (file_write_all(FD_ANSWER, text, length + 1, NULL) < 0)
		_exit(EXIT_NO_ANSWER);
}

static void answer_progress(uint64_t bytes)
{
	answer(json_pack("{s:I}", "progress", (json_int_t)bytes));
}

/* A number of the request; max where it is missing or no number. */
static uint64_t get_limit(const json_t *request, const char *key)
{
	const json_t *value = json_object_get(request, key);

	return json_is_integer(value) && json_integer_value(value) >= 0
		       ? (uint64_t)json_integer_value(value)
		       : INT64_MAX;
}

static bool is_disk_fault(int r)
{
	return r == -ENOSPC || r == -EDQUOT || r == -EFBIG || r == -EIO || r == -EROFS;
}

static int check_sha256(struct sink *sink, const char *wanted, struct error *err)
{
	char found[SINK_HEX_SIZE];

	if (!wanted)
		return 0;
	sink_finish(sink, found);
	if (strcasecmp(found, wanted) == 0)
		return 0;
	return error_set(err, -EBADMSG, "its sha256 is %s and not %.64s", found, wanted);
}

static int check_roots(const json_t *roots, struct error *err)
{
	const json_t *root;
	size_t i;

	/* clang-format off */
	json_array_foreach(roots, i, root) {
		if (!json_is_string(root) || *json_string_value(root) != '/')
			return error_set(err, -EINVAL, "file_roots are not absolute paths");
	}
	/* clang-format on */
	return 0;
}

/* How patient a download is; what the request does not say is as the manual has it. */
static void read_patience(struct download_limits *limits, const json_t *request)
{
	const json_t *stall = json_object_get(request, "stall_s");
	const json_t *retry = json_object_get(request, "retry_ms");

	*limits = (struct download_limits){
		.connect_s = DOWNLOAD_CONNECT_S,
		.stall_s = DOWNLOAD_STALL_S,
		.retry_ms = DOWNLOAD_RETRY_MS,
	};
	if (json_integer_value(stall) > 0 && json_integer_value(stall) < DOWNLOAD_STALL_S)
		limits->stall_s = (unsigned)json_integer_value(stall);
	if (json_integer_value(retry) > 0 && json_integer_value(retry) < DOWNLOAD_RETRY_MS)
		limits->retry_ms = (unsigned)json_integer_value(retry);
}

static int confine_download(const struct sink *sink, const char *url, const json_t *roots,
			    struct error *err)
{
	return url && !fileurl_is(url) ? fetchbox_download(sink->max_bytes, err)
				       : fetchbox_copy(sink->max_bytes, url, roots, err);
}

static int download_into(struct sink *sink, const char *url, const json_t *roots,
			 const json_t *request, struct error *err)
{
	struct download_limits limits;
	close_ int fd = -1;
	int r = sink_start(sink, err);

	if (r < 0)
		return r;
	if (!url)
		return localfile_copy(FD_OTHER, sink, err);
	if (!fileurl_is(url)) {
		read_patience(&limits, request);
		return download_url(url, sink, &limits, err);
	}
	r = localfile_open(&fd, url, roots, err);
	return r < 0 ? r : localfile_copy(fd, sink, err);
}

/* What has to be left on the disk. */
static uint64_t get_floor(const json_t *request)
{
	json_int_t bytes = json_integer_value(json_object_get(request, "min_free"));

	return bytes > 0 ? (uint64_t)bytes : 0;
}

static int do_download(const json_t *request, uint64_t *ret_size, const char **ret_reason,
		       struct error *err)
{
	const char *sha256 = json_string_value(json_object_get(request, "sha256"));
	const char *url = json_string_value(json_object_get(request, "url"));
	struct sink sink = {
		.fd = FD_FILE,
		.max_bytes = get_limit(request, "max_bytes"),
		.max_key = "limits.bucket",
		.min_free = get_floor(request),
		.progress = answer_progress,
	};
	const json_t *roots = json_object_get(request, "file_roots");
	int r;

	if (!json_is_array(roots))
		roots = NULL;
	*ret_reason = "executor_failed";
	r = check_roots(roots, err);
	if (r >= 0)
		r = confine_download(&sink, url, roots, err);
	if (r < 0)
		return r;
	r = download_into(&sink, url, roots, request, err);
	*ret_reason = is_disk_fault(r) ? "disk" : "download";
	if (r < 0)
		return r;
	*ret_reason = "checksum";
	*ret_size = sink.size;
	return check_sha256(&sink, sha256, err);
}

static char time_over_text[160];

/* libarchive may be deep in a loop over what a few bytes have become: there is no way back. What is
 * in the folder is removed by the executor. */
static void on_time_over(int number)
{
	ssize_t n = write(FD_ANSWER, time_over_text, strlen(time_over_text));

	(void)number;
	_exit(n < 0 ? EXIT_NO_ANSWER : EXIT_FAILED);
}

/* A bomb is small and takes long; an archive that is large may. */
static void limit_time(const json_t *request)
{
	uint64_t limit_s = get_limit(request, "cpu_s");
	struct rlimit limit;
	struct stat found;

	if (fstat(FD_FILE, &found) < 0 || getrlimit(RLIMIT_CPU, &limit) < 0)
		return;
	if (limit_s > UNPACK_TIME_S)
		limit_s = UNPACK_TIME_S + (uint64_t)found.st_size / UNPACK_BYTES_PER_S;
	(void)snprintf(time_over_text, sizeof(time_over_text),
		       "{\"reason\":\"bucket\",\"error\":\"the archive takes more than %llu s of "
		       "processor time to unpack\"}\n",
		       (unsigned long long)limit_s);
	(void)signal(SIGXCPU, on_time_over);
	if (limit_s < limit.rlim_cur)
		limit.rlim_cur = limit_s;
	(void)setrlimit(RLIMIT_CPU, &limit);
}

static int do_unpack(const json_t *request, uint64_t *ret_size, const char **ret_reason,
		     struct error *err)
{
	const struct archive_unpack_options options = {
		.target = ARCHIVE_INTO_EMPTY,
		.max_bytes = get_limit(request, "max_bytes"),
		.max_files = get_limit(request, "max_files"),
		.max_bytes_key = "limits.bucket",
		.max_files_key = "limits.bucket_files",
		.min_free = get_floor(request),
	};
	int r;

	*ret_reason = "executor_failed";
	limit_time(request);
	r = fetchbox_unpack(options.max_bytes, FD_OTHER, err);
	if (r < 0)
		return r;
	r = archive_unpack(FD_FILE, FD_OTHER, &options, ret_size, err);
	*ret_reason = is_disk_fault(r) ? "disk" : "bucket";
	return r;
}

/* What is to be packed: folders by name, files as they are open. */
struct packing {
	const char *folders[NAMES_MAX + 1]; /* ends with NULL */
	struct archive_member files[NAMES_MAX];
	size_t n_folders, n_files;
};

static void packing_done(struct packing *packing)
{
	for (size_t i = 0; i < packing->n_files; i++) {
		(void)close_fd(packing->files[i].fd);
		free(packing->files[i].name);
	}
}

/*
 * Takes in a file, as a job has left it. What is no regular file with this one name is left out:
 * dutd may read what the job may not, and a second name can be anybody's file.
 */
static int add_file(struct packing *packing, const char *name, struct error *err)
{
	int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	close_ int fd = openat(FD_OTHER, name, flags);
	struct archive_member *file = &packing->files[packing->n_files];
	struct stat found;

	if (fd < 0 || fstat(fd, &found) < 0 || !S_ISREG(found.st_mode) || found.st_nlink != 1)
		return 0;
	file->name = strdup(name);
	if (!file->name)
		return error_oom(err);
	file->fd = take_fd(&fd);
	packing->n_files++;
	return 0;
}

static int add_folder(struct packing *packing, const char *name, struct error *err)
{
	struct stat found;

	(void)err;
	if (fstatat(FD_OTHER, name, &found, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(found.st_mode))
		packing->folders[packing->n_folders++] = name;
	return 0;
}

static int add_names(struct packing *packing, const json_t *names,
		     int (*add)(struct packing *packing, const char *name, struct error *err),
		     struct error *err)
{
	if (json_array_size(names) > NAMES_MAX)
		return error_set(err, -E2BIG, "more than %d names to pack", NAMES_MAX);
	for (size_t i = 0; i < json_array_size(names); i++) {
		const char *name = json_string_value(json_array_get(names, i));
		int r;

		if (!name || !*name || strchr(name, '/') || *name == '.')
			return error_set(err, -EINVAL, "a name to pack is none of this folder's");
		r = add(packing, name, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int do_pack(const json_t *request, uint64_t *ret_size, const char **ret_reason,
		   struct error *err)
{
	cleanup_(packing_done) struct packing packing = { .n_files = 0 };
	int r = fetchbox_pack(FD_OTHER, err);

	/* Whoever reads the tar counts it. */
	*ret_size = 0;
	*ret_reason = "disk";
	if (r >= 0)
		r = add_names(&packing, json_object_get(request, "files"), add_file, err);
	if (r >= 0)
		r = add_names(&packing, json_object_get(request, "folders"), add_folder, err);
	if (r < 0)
		return r;
	return archive_pack_members(FD_FILE, FD_OTHER, packing.folders, packing.files,
				    packing.n_files, err);
}

static const struct {
	const char *mode;
	action_fn run;
} actions[] = {
	{ "download", do_download },
	{ "unpack", do_unpack },
	{ "pack", do_pack },
};

static int run_action(action_fn action)
{
	json_auto_t *request = NULL;
	const char *reason = "executor_failed";
	uint64_t began_us = clock_now_us(), size = 0;
	free_ char *text = NULL;
	struct error err;
	size_t length;
	int r;

	r = file_read_fd(&text, &length, FD_REQUEST, PACKET_MAX, &err);
	if (r == 0) {
		request = json_loadb(text, length, JSON_REJECT_DUPLICATES, NULL);
		r = json_is_object(request)
			    ? action(request, &size, &reason, &err)
			    : error_set(&err, -EBADMSG, "dut-fetch: the request is no JSON object");
	}
	if (r < 0)
		answer(json_pack("{s:s, s:o}", "reason", reason, "error", jsontext_new(err.text)));
	else
		answer(json_pack("{s:b, s:I, s:f}", "ok", 1, "size", (json_int_t)size, "seconds",
				 (double)(clock_now_us() - began_us) / 1e6));
	return r < 0 ? EXIT_FAILED : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	struct pollfd reader = { .fd = FD_ANSWER };

	/* Killed with its starter; unless that died before, when nobody can read the answer. */
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (poll(&reader, 1, 0) > 0 && (reader.revents & POLLERR))
		return EXIT_NO_ANSWER;
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGXFSZ, SIG_IGN);

	for (size_t i = 0; argc == 2 && i < ARRAY_SIZE(actions); i++)
		if (strcmp(argv[1], actions[i].mode) == 0)
			return run_action(actions[i].run);
	(void)fprintf(stderr, "usage: dut-fetch download|unpack|pack, started by dut-helper\n");
	return EXIT_USAGE;
}
