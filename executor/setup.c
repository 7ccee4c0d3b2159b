/* SPDX-License-Identifier: MIT */
#include "executor/setup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/folder.h"

/* The files of a deployment, in both. */
enum part { PART_KERNEL, PART_INITRAMFS, PART_DTB, PARTS };
enum { DEPLOYMENTS = 2, START = 0, CONTINUE = 1 };

static const char *const part_names[PARTS] = { "kernel", "initramfs", "dtb" };
static const char *const deployment_names[DEPLOYMENTS] = { "start", "continue" };

struct item {
	struct setup *setup;
	const struct artifact *artifact;
	char label[32];		    /* "start-kernel" */
	char *path;		    /* beneath the job's folder; set when the file is there */
	const struct item *same_as; /* of the start deployment, which delivers it */
	int fd;			    /* the file that is being written, or -1 */
};

struct setup {
	struct setup_config config;
	struct item items[DEPLOYMENTS][PARTS];
	sd_event_source *begin;
	unsigned running; /* downloads */
	bool over;	  /* done() ran */
	int bucket_fd;
};

struct setup *setup_free(struct setup *setup)
{
	if (!setup)
		return NULL;
	setup->begin = sd_event_source_disable_unref(setup->begin);
	for (unsigned i = 0; i < DEPLOYMENTS; i++)
		for (unsigned part = 0; part < PARTS; part++) {
			free(setup->items[i][part].path);
			(void)close_fd(setup->items[i][part].fd);
		}
	(void)close_fd(setup->bucket_fd);
	free(setup);
	return NULL;
}

static void finish(struct setup *setup, const char *reason, const char *text)
{
	if (setup->over)
		return;
	setup->over = true;
	setup->config.done(reason, text, setup->config.data);
}

static bool is_disk_error(int r)
{
	return r == -ENOSPC || r == -EDQUOT || r == -EIO || r == -EROFS;
}

static void fail(struct setup *setup, const char *reason, const char *label,
		 const struct error *err)
{
	char text[384];

	(void)snprintf(text, sizeof(text), "%s: %s", label, err->text);
	finish(setup, reason, text);
}

static bool is_there(const struct artifact *artifact)
{
	return artifact->url || artifact->bucket;
}

static bool is_same(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

/* ---- files ---- */

/* A URL without what may be secret in it: the user before '@', and the query. */
static const char *public_url(const char *url, char *text, size_t size)
{
	const char *host = strstr(url, "://");
	size_t scheme = host ? (size_t)(host - url) + 3 : 0, authority;
	const char *at;

	host = url + scheme;
	authority = strcspn(host, "/?#");
	at = memrchr(host, '@', authority);
	if (at)
		host = at + 1;
	(void)snprintf(text, size, "%.*s%.*s", (int)scheme, url, (int)strcspn(host, "?#"), host);
	return text;
}

static void report_download(const struct item *item, const struct fetch_result *result)
{
	char shown[512];
	const char *from = item->artifact->url
				   ? public_url(item->artifact->url, shown, sizeof(shown))
				   : item->artifact->bucket;
	double mib = (double)result->size / (1024 * 1024);
	char text[1024];

	(void)snprintf(text, sizeof(text), "%s: %s, %.1f MiB in %.1f s", item->label, from, mib,
		       result->seconds);
	item->setup->config.progress(json_pack("{s:s, s:s, s:I, s:f}", "artifact", item->label,
					       "url", from, "size", (json_int_t)result->size,
					       "seconds", result->seconds),
				     text, item->setup->config.data);
}

static void on_fetched(const struct fetch_result *result, void *data)
{
	struct item *item = data;
	struct setup *setup = item->setup;

	setup->running--;
	/* Half a file is of no use, and may be what fills the disk. */
	if (result->reason)
		(void)ftruncate(item->fd, 0);
	item->fd = close_fd(item->fd);
	if (setup->over)
		return;
	if (result->reason) {
		fail(setup, result->reason, item->label, &result->error);
		return;
	}
	report_download(item, result);
	if (setup->running == 0)
		finish(setup, NULL, NULL);
}

/* Makes artifacts/LABEL for what is fetched. */
static int make_file(struct item *item, struct error *err)
{
	char *path;

	if (asprintf(&path, "artifacts/%s", item->label) < 0)
		return error_oom(err);
	item->path = path;
	item->fd = openat(item->setup->config.dir_fd, path,
			  O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
	return item->fd < 0 ? error_errno(err, "cannot create %s", path) : 0;
}

static int fetch_url(struct item *item, struct error *err)
{
	struct setup *setup = item->setup;
	int r;

	r = make_file(item, err);
	if (r < 0)
		return r;
	r = fetcher_download(setup->config.fetcher, item->artifact->url, item->artifact->sha256,
			     item->fd, setup->config.assignment->bucket_max, on_fetched, item, err);
	if (r >= 0)
		setup->running++;
	return r;
}

/* A file of the bucket is used where it lies; one with a checksum is read, and copied on the way.
 */
static int find_in_bucket(struct item *item, const char **ret_reason, struct error *err)
{
	struct setup *setup = item->setup;
	const char *path = item->artifact->bucket;
	close_ int fd = -1;
	int r;

	r = file_open_beneath(&fd, setup->bucket_fd, path, O_RDONLY, err);
	if (r < 0) {
		*ret_reason = "bucket";
		return error_prefix(err, r, "bucket:%s", path);
	}
	if (!item->artifact->sha256) {
		if (asprintf(&item->path, "bucket/%s", path) < 0) {
			item->path = NULL;
			return error_oom(err);
		}
		return 0;
	}
	r = make_file(item, err);
	if (r < 0)
		return r;
	r = fetcher_copy(setup->config.fetcher, fd, item->artifact->sha256, item->fd,
			 setup->config.assignment->bucket_max, on_fetched, item, err);
	if (r >= 0)
		setup->running++;
	return r;
}

/* Whether it came to an end: with an error, the reason is told. */
static bool begin_item(struct item *item)
{
	const char *reason = "executor_failed";
	struct error err;
	int r;

	if (!is_there(item->artifact) || item->same_as)
		return true;
	r = item->artifact->url ? fetch_url(item, &err) : find_in_bucket(item, &reason, &err);
	if (r < 0) {
		fail(item->setup, is_disk_error(r) ? "disk" : reason, item->label, &err);
		return false;
	}
	return true;
}

static void begin_items(struct setup *setup)
{
	/* What lies in the bucket is looked at first: it costs nothing and may be wrong. */
	for (unsigned pass = 0; pass < 2; pass++)
		for (unsigned i = 0; i < DEPLOYMENTS; i++)
			for (unsigned part = 0; part < PARTS; part++) {
				struct item *item = &setup->items[i][part];

				if ((item->artifact->url != NULL) == (pass == 1) &&
				    !begin_item(item))
					return;
			}
	if (setup->running == 0)
		finish(setup, NULL, NULL);
}

/* ---- the bucket ---- */

static void on_unpacked(const struct fetch_result *result, void *data)
{
	struct setup *setup = data;
	char text[128];

	if (setup->over)
		return;
	if (result->reason) {
		/* A dut-fetch that was killed, or took too long, has left what it had. */
		(void)folder_clear(setup->bucket_fd, NULL);
		fail(setup, result->reason, "bucket", &result->error);
		return;
	}
	(void)snprintf(text, sizeof(text), "bucket: %.1f MiB unpacked in %.1f s",
		       (double)result->size / (1024 * 1024), result->seconds);
	setup->config.progress(json_pack("{s:s, s:I, s:f}", "artifact", "bucket", "size",
					 (json_int_t)result->size, "seconds", result->seconds),
			       text, setup->config.data);
	begin_items(setup);
}

static int make_folders(struct setup *setup, struct error *err)
{
	close_ int artifacts_fd = -1;
	int r;

	r = file_make_dir(&artifacts_fd, setup->config.dir_fd, "artifacts", 0750, err);
	if (r < 0)
		return r;
	r = file_make_dir(&setup->bucket_fd, setup->config.dir_fd, "bucket", 0750, err);
	if (r < 0)
		return r;
	/* An attempt that died in its setup leaves half a bucket behind. */
	return folder_clear(setup->bucket_fd, err);
}

static int on_begin(sd_event_source *source, void *data)
{
	struct setup *setup = data;
	const struct assignment *assignment = setup->config.assignment;
	struct error err;
	int r;

	(void)source;
	setup->begin = sd_event_source_disable_unref(setup->begin);
	r = make_folders(setup, &err);
	if (r < 0) {
		fail(setup, is_disk_error(r) ? "disk" : "executor_failed", "setup", &err);
		return 0;
	}
	if (setup->config.tarball_fd < 0) {
		begin_items(setup);
		return 0;
	}
	r = fetcher_unpack(setup->config.fetcher, setup->config.tarball_fd, setup->bucket_fd,
			   assignment->bucket_max, assignment->bucket_files_max, on_unpacked, setup,
			   &err);
	if (r < 0)
		fail(setup, "executor_failed", "bucket", &err);
	return 0;
}

/* Names the files; one that both deployments share is fetched once. */
static void list_items(struct setup *setup)
{
	const struct description *description = setup->config.description;

	for (unsigned i = 0; i < DEPLOYMENTS; i++) {
		const struct deployment *deployment =
			i == START ? &description->start : &description->next;
		const struct artifact *artifacts[PARTS] = { &deployment->kernel,
							    &deployment->initramfs,
							    &deployment->dtb };

		for (unsigned part = 0; part < PARTS; part++) {
			struct item *item = &setup->items[i][part];
			const struct item *first = &setup->items[START][part];

			*item = (struct item){
				.setup = setup,
				.artifact = artifacts[part],
				.fd = -1,
			};
			(void)snprintf(item->label, sizeof(item->label), "%s-%s",
				       deployment_names[i], part_names[part]);
			if (i != START && is_same(item->artifact->url, first->artifact->url) &&
			    is_same(item->artifact->bucket, first->artifact->bucket) &&
			    is_same(item->artifact->sha256, first->artifact->sha256))
				item->same_as = first;
		}
	}
}

int setup_new(struct setup **ret, const struct setup_config *config, struct error *err)
{
	struct setup *setup = calloc(1, sizeof(*setup));
	int r;

	if (!setup)
		return error_oom(err);
	setup->config = *config;
	setup->bucket_fd = -1;
	list_items(setup);
	r = sd_event_add_defer(config->event, &setup->begin, on_begin, setup);
	if (r < 0) {
		(void)setup_free(setup);
		return error_code(err, r, "cannot begin the setup");
	}
	*ret = setup;
	return 0;
}

json_t *setup_deploy(const struct setup *setup, bool first)
{
	const struct description *description = setup->config.description;
	const char *cmdline = first ? description->start.cmdline : description->next.cmdline;
	json_t *deploy;

	if (!description->has_deployment)
		return json_null();
	deploy = json_object();
	for (unsigned part = 0; part < PARTS; part++) {
		const struct item *item = &setup->items[first ? START : CONTINUE][part];

		if (item->same_as)
			item = item->same_as;
		if (item->path)
			(void)json_object_set_new(deploy, part_names[part],
						  json_string(item->path));
	}
	if (cmdline)
		(void)json_object_set_new(deploy, "cmdline", json_string(cmdline));
	return deploy;
}
