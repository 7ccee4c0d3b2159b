/* SPDX-License-Identifier: MIT */
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "dut/board.h"
#include "dut/daemon.h"
#include "dut/jobdir.h"
#include "dut/records.h"
#include "dut/worker.h"

/* A disk on which big files take until the gate is opened. */
static int gate[2];

int __real_fsync(int fd);
int __wrap_fsync(int fd);

int __wrap_fsync(int fd)
{
	struct pollfd open_gate = { .fd = gate[0], .events = POLLIN };
	struct stat status;

	if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
	    status.st_size > JOBDIR_BIG_TARBALL)
		(void)poll(&open_gate, 1, -1);
	return __real_fsync(fd);
}

struct fixture {
	char path[64];
	struct daemon daemon;
	struct config config;
	struct config_dut dut;
	struct board board;
	unsigned done;
	uint64_t last; /* the job that was done last */
};

struct made {
	struct fixture *f;
	struct job *job;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	static char name[] = "b1";

	(void)snprintf(f->path, sizeof(f->path), "/tmp/test-jobdir.XXXXXX");
	assert_non_null(mkdtemp(f->path));
	assert_int_equal(pipe2(gate, O_CLOEXEC), 0);
	f->daemon.state_fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(file_make_dir(&f->daemon.jobs_fd, f->daemon.state_fd, "jobs", 0700, NULL),
			 0);
	assert_int_equal(sd_event_new(&f->daemon.event), 0);
	const struct records_config records = {
		.event = f->daemon.event,
		.state_dir = f->path,
		.state_fd = f->daemon.state_fd,
		.jobs_fd = f->daemon.jobs_fd,
	};
	list_init(&f->daemon.jobs);
	for (size_t i = 0; i < DAEMON_JOB_LISTS; i++)
		list_init(&f->daemon.jobs_by_id[i]);
	assert_int_equal(records_open(&f->daemon.records, &records, NULL), 0);
	assert_int_equal(worker_new(&f->daemon.bulk_worker, f->daemon.event, NULL), 0);
	f->daemon.config = &f->config;
	f->daemon.next_id = 1;
	f->dut.id = name;
	f->board.daemon = &f->daemon;
	f->board.config = &f->dut;
	f->board.present = &f->dut;
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	char command[128];

	(void)close(gate[1]); /* whatever still waits goes on */
	worker_free(f->daemon.bulk_worker);
	records_free(f->daemon.records);
	sd_event_unref(f->daemon.event);
	(void)close(gate[0]);
	(void)close(f->daemon.jobs_fd);
	(void)close(f->daemon.state_fd);
	(void)snprintf(command, sizeof(command), "rm -rf '%s'", f->path);
	assert_int_equal(system(command), 0);
	free(f);
	return 0;
}

static void on_made(int r, const struct error *err, void *data)
{
	struct made *made = data;

	(void)err;
	assert_int_equal(r, 0);
	made->f->done++;
	made->f->last = made->job->id;
}

static struct made make(struct fixture *f)
{
	struct made made = { .f = f };

	assert_int_equal(job_new(&made.job, f->daemon.next_id++, "n", "alice", 1000, "b1", NULL),
			 0);
	return made;
}

static void begin(struct made *made, off_t tarball_size)
{
	struct fixture *f = made->f;
	close_ int tarball_fd = -1;
	struct error err;

	if (tarball_size > 0) {
		tarball_fd = openat(f->daemon.jobs_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
		assert_true(tarball_fd >= 0);
		assert_int_equal(ftruncate(tarball_fd, tarball_size), 0);
	}
	assert_int_equal(jobdir_create(&f->daemon, &f->board, made->job, NULL, "text", 4,
				       tarball_fd, on_made, made, &err),
			 0);
}

static void run_until(struct fixture *f, unsigned done)
{
	while (f->done < done)
		assert_true(sd_event_run(f->daemon.event, UINT64_MAX) >= 0);
}

static void assert_text(struct fixture *f, const char *path, const char *expected)
{
	free_ char *text = NULL;
	size_t length;

	assert_int_equal(file_read_beneath(&text, &length, f->daemon.state_fd, path, 8 << 20, NULL),
			 0);
	if (expected)
		assert_string_equal(text, expected);
}

static void a_job_is_stored_with_its_tarball(void **state)
{
	struct fixture *f = *state;
	struct made made = make(f);

	begin(&made, 5);
	run_until(f, 1);
	assert_text(f, "next-id", "2\n");
	assert_text(f, "jobs/1/job.yml", "text");
	assert_text(f, "jobs/1/bucket.tar", NULL);
	assert_text(f, "jobs/1/job.json", NULL);
	assert_text(f, "jobs/1.json", NULL);
	job_free(made.job);
}

static void a_big_tarball_delays_nobody_else(void **state)
{
	struct fixture *f = *state;
	struct made big = make(f), small = make(f);
	struct stat status;

	begin(&big, JOBDIR_BIG_TARBALL + 1);
	begin(&small, JOBDIR_BIG_TARBALL);
	run_until(f, 1);
	assert_int_equal(f->last, 2);
	/* The big one is no job yet. */
	assert_int_equal(fstatat(f->daemon.jobs_fd, "1.json", &status, 0), -1);
	/* A cancel that came meanwhile is in its first record. */
	big.job->cancelled = true;
	assert_int_equal(write(gate[1], "go", 2), 2);
	run_until(f, 2);
	assert_int_equal(f->last, 1);
	assert_text(f, "jobs/1/bucket.tar", NULL);
	assert_text(f, "next-id", "3\n"); /* not back to 2 */
	{
		json_auto_t *record = NULL;
		free_ char *text = NULL;
		size_t length;

		assert_int_equal(file_read_beneath(&text, &length, f->daemon.jobs_fd, "1.json",
						   1 << 16, NULL),
				 0);
		record = json_loads(text, 0, NULL);
		assert_true(json_is_object(json_object_get(record, "cancel")));
	}
	job_free(big.job);
	job_free(small.job);
}

static void the_end_of_dutd_leaves_no_half_a_job(void **state)
{
	struct fixture *f = *state;
	struct made big = make(f);
	struct stat status;

	begin(&big, JOBDIR_BIG_TARBALL + 1);
	assert_int_equal(write(gate[1], "go", 2), 2);
	f->daemon.bulk_worker = worker_free(f->daemon.bulk_worker);
	f->daemon.records = records_free(f->daemon.records);
	assert_int_equal(f->done, 0);
	assert_int_equal(fstatat(f->daemon.jobs_fd, "1.json", &status, 0), -1);
	job_free(big.job);
}

static void put(int dir_fd, const char *name, const char *text)
{
	close_ int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void what_an_attempt_wrote_is_set_aside(void **state)
{
	struct fixture *f = *state;
	close_ int dir_fd = -1;
	struct error err;

	assert_int_equal(file_make_dir(&dir_fd, f->daemon.state_fd, "jobs/1", 0700, NULL), 0);
	put(dir_fd, "console.log", "first");
	put(dir_fd, "events.jsonl", "{}");
	assert_int_equal(jobdir_set_aside(dir_fd, 1, &err), 0);
	assert_int_equal(jobdir_set_aside(dir_fd, 1, &err), 0); /* a dutd that died in between */
	put(dir_fd, "console.log", "second");
	assert_int_equal(jobdir_set_aside(dir_fd, 2, &err), 0);
	assert_text(f, "jobs/1/console.1.log", "first");
	assert_text(f, "jobs/1/events.1.jsonl", "{}");
	assert_text(f, "jobs/1/console.2.log", "second");
	/* A job's folder is the job's: what cannot be renamed is said. */
	put(dir_fd, "console.log", "third");
	assert_int_equal(mkdirat(dir_fd, "console.3.log", 0700), 0);
	assert_int_equal(jobdir_set_aside(dir_fd, 3, &err), -EISDIR);
	assert_string_equal(err.text, "cannot set aside console.log of attempt 3: Is a directory");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_job_is_stored_with_its_tarball),
		TEST(a_big_tarball_delays_nobody_else),
		TEST(the_end_of_dutd_leaves_no_half_a_job),
		TEST(what_an_attempt_wrote_is_set_aside),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
