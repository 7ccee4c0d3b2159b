/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "executor/setup.h"

/* A fetcher that notes what it is asked for; the test ends each job by hand. */

enum { MAX_ASKED = 8 };

static struct {
	unsigned count;
	struct {
		char url[256]; /* "unpack" for the bucket */
		bool checksum;
		fetch_done_fn done;
		void *data;
	} asked[MAX_ASKED];
} fake;

int fetcher_download(struct fetcher *fetcher, const char *url, const char *sha256, int out_fd,
		     uint64_t max_bytes, fetch_done_fn done, void *data, struct error *err)
{
	(void)fetcher;
	(void)max_bytes;
	if (fake.count == MAX_ASKED || out_fd < 0)
		return error_set(err, -EINVAL, "the fake is full");
	(void)snprintf(fake.asked[fake.count].url, sizeof(fake.asked[0].url), "%s", url);
	fake.asked[fake.count].checksum = sha256;
	fake.asked[fake.count].done = done;
	fake.asked[fake.count++].data = data;
	return 0;
}

int fetcher_copy(struct fetcher *fetcher, int from_fd, const char *sha256, int out_fd,
		 uint64_t max_bytes, fetch_done_fn done, void *data, struct error *err)
{
	assert_true(from_fd >= 0);
	return fetcher_download(fetcher, "copy", sha256, out_fd, max_bytes, done, data, err);
}

int fetcher_unpack(struct fetcher *fetcher, int tar_fd, int dir_fd, uint64_t max_bytes,
		   uint64_t max_files, fetch_done_fn done, void *data, struct error *err)
{
	(void)tar_fd;
	(void)dir_fd;
	(void)max_files;
	return fetcher_download(fetcher, "unpack", NULL, 0, max_bytes, done, data, err);
}

static void end_fetch(unsigned index, const char *reason)
{
	struct fetch_result result = { .reason = reason, .size = 1, .error = { "words" } };

	assert_true(index < fake.count);
	fake.asked[index].done(&result, fake.asked[index].data);
}

struct fixture {
	sd_event *event;
	char path[64];
	int dir_fd;
	struct assignment assignment;
	struct description description;
	struct setup *setup;
	unsigned done, progress;
	char reason[32], text[256];
	char said[256]; /* the last progress */
};

static void on_progress(json_t *extra, const char *text, void *data)
{
	struct fixture *fixture = data;

	(void)snprintf(fixture->said, sizeof(fixture->said), "%s", text);
	fixture->progress++;
	json_decref(extra);
}

static void on_done(const char *reason, const char *text, void *data)
{
	struct fixture *fixture = data;

	fixture->done++;
	(void)snprintf(fixture->reason, sizeof(fixture->reason), "%s", reason ? reason : "");
	(void)snprintf(fixture->text, sizeof(fixture->text), "%s", text ? text : "");
}

static int set_up(void **state)
{
	static struct fixture fixture;

	fixture = (struct fixture){ .path = "/tmp/test-setup-XXXXXX" };
	fake.count = 0;
	assert_non_null(mkdtemp(fixture.path));
	fixture.dir_fd = open(fixture.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(sd_event_new(&fixture.event), 0);
	fixture.description.has_deployment = true;
	*state = &fixture;
	return 0;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
	(void)status;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	fixture->setup = setup_free(fixture->setup);
	fixture->event = sd_event_unref(fixture->event);
	(void)close_fd(fixture->dir_fd);
	return nftw(fixture->path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* Begins, and lets everything happen that needs no fetcher. */
static void begin(struct fixture *fixture, bool with_tarball)
{
	const struct setup_config config = {
		.event = fixture->event,
		.assignment = &fixture->assignment,
		.description = &fixture->description,
		.dir_fd = fixture->dir_fd,
		.tarball_fd = with_tarball ? 0 : -1,
		.progress = on_progress,
		.done = on_done,
		.data = fixture,
	};
	struct error err;

	assert_int_equal(setup_new(&fixture->setup, &config, &err), 0);
	assert_int_equal(fixture->done, 0);
	while (sd_event_run(fixture->event, 0) > 0)
		;
}

static void assert_deploy(const struct fixture *fixture, bool first, const char *expected)
{
	json_t *deploy = setup_deploy(fixture->setup, first);
	free_ char *text = json_dumps(deploy, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);

	assert_string_equal(text, expected);
	json_decref(deploy);
}

static void nothing_to_fetch_is_done_from_the_loop(void **state)
{
	struct fixture *fixture = *state;

	fixture->description.has_deployment = false;
	begin(fixture, false);
	assert_int_equal(fixture->done, 1);
	assert_string_equal(fixture->reason, "");
	assert_int_equal(fake.count, 0);
	assert_deploy(fixture, true, "null");
	assert_int_equal(faccessat(fixture->dir_fd, "bucket", F_OK, 0), 0);
	assert_int_equal(faccessat(fixture->dir_fd, "artifacts", F_OK, 0), 0);
}

static void what_both_deployments_share_is_fetched_once(void **state)
{
	static char kernel[] = "http://x/k", first[] = "http://x/1", second[] = "http://x/2",
		    cmdline[] = "phase=2";
	struct fixture *fixture = *state;

	fixture->description.start.kernel.url = kernel;
	fixture->description.start.initramfs.url = first;
	fixture->description.next.kernel.url = kernel;
	fixture->description.next.initramfs.url = second;
	fixture->description.next.cmdline = cmdline;
	begin(fixture, false);
	assert_int_equal(fake.count, 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(fixture->done, 0);
		end_fetch(i, NULL);
	}
	assert_int_equal(fixture->done, 1);
	assert_int_equal(fixture->progress, 3);
	assert_deploy(
		fixture, true,
		"{\"initramfs\":\"artifacts/start-initramfs\",\"kernel\":\"artifacts/start-kernel\"}");
	assert_deploy(fixture, false,
		      "{\"cmdline\":\"phase=2\",\"initramfs\":\"artifacts/continue-initramfs\","
		      "\"kernel\":\"artifacts/start-kernel\"}");
}

static void secrets_of_a_url_are_not_told(void **state)
{
	static char kernel[] = "http://bob:geheim@x:80/k@1?token=abc";
	struct fixture *fixture = *state;

	fixture->description.start.kernel.url = kernel;
	fixture->description.next.kernel.url = kernel;
	begin(fixture, false);
	assert_string_equal(fake.asked[0].url, kernel);
	end_fetch(0, NULL);
	assert_string_equal(fixture->said, "start-kernel: http://x:80/k@1, 0.0 MiB in 0.0 s");
}

static void the_bucket_is_unpacked_and_looked_at_before_any_download(void **state)
{
	static char kernel[] = "http://x/k", missing[] = "not/there";
	struct fixture *fixture = *state;

	fixture->description.start.kernel.url = kernel;
	fixture->description.start.dtb.bucket = missing;
	begin(fixture, true);
	assert_int_equal(fake.count, 1);
	assert_string_equal(fake.asked[0].url, "unpack");
	end_fetch(0, NULL);
	assert_int_equal(fixture->done, 1);
	assert_string_equal(fixture->reason, "bucket");
	assert_non_null(strstr(fixture->text, "start-dtb: bucket:not/there"));
	assert_int_equal(fake.count, 1);
}

static void a_bucket_file_with_a_checksum_is_read_through_the_fetcher(void **state)
{
	static char image[] = "Image", sum[] = "00";
	struct fixture *fixture = *state;

	fixture->description.start.kernel.bucket = image;
	fixture->description.next.kernel.bucket = image;
	fixture->description.next.kernel.sha256 = sum;
	begin(fixture, true);
	(void)close_fd(
		openat(fixture->dir_fd, "bucket/Image", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	end_fetch(0, NULL);
	assert_int_equal(fake.count, 2);
	assert_true(fake.asked[1].checksum);
	assert_string_equal(fake.asked[1].url, "copy");
	end_fetch(1, NULL);
	assert_int_equal(fixture->done, 1);
	assert_deploy(fixture, true, "{\"kernel\":\"bucket/Image\"}");
	assert_deploy(fixture, false, "{\"kernel\":\"artifacts/continue-kernel\"}");
}

static void what_an_earlier_attempt_left_in_the_bucket_is_gone(void **state)
{
	static char image[] = "Image";
	struct fixture *fixture = *state;

	assert_int_equal(mkdirat(fixture->dir_fd, "bucket", 0700), 0);
	(void)close_fd(
		openat(fixture->dir_fd, "bucket/Image", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	fixture->description.start.kernel.bucket = image;
	begin(fixture, true);
	end_fetch(0, NULL);
	assert_string_equal(fixture->reason, "bucket");
}

static void the_first_failure_is_told_and_only_that(void **state)
{
	static char kernel[] = "http://x/k", initramfs[] = "http://x/i";
	struct fixture *fixture = *state;

	fixture->description.start.kernel.url = kernel;
	fixture->description.start.initramfs.url = initramfs;
	fixture->description.next = fixture->description.start;
	begin(fixture, false);
	assert_int_equal(fake.count, 2);
	end_fetch(1, "checksum");
	assert_int_equal(fixture->done, 1);
	assert_string_equal(fixture->reason, "checksum");
	assert_string_equal(fixture->text, "start-initramfs: words");
	end_fetch(0, "cancelled");
	assert_int_equal(fixture->done, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(nothing_to_fetch_is_done_from_the_loop, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(secrets_of_a_url_are_not_told, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_both_deployments_share_is_fetched_once, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(
			the_bucket_is_unpacked_and_looked_at_before_any_download, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(
			a_bucket_file_with_a_checksum_is_read_through_the_fetcher, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(what_an_earlier_attempt_left_in_the_bucket_is_gone,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_first_failure_is_told_and_only_that, set_up,
						tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
