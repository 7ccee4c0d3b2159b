/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "dut/job.h"
#include "executor/session-internal.h"
#include "executor/session.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/packets.h"

/*
 * A whole job, but for its timers and its programs. The first part of the input is the job file,
 * the second what happens: packets of dutd ("!new": of another one), what the board says, and
 * "!helper JSON" from dut-helper. At the end there is a SIGTERM; whatever was before, the job has a
 * result then that dutd takes.
 */

CLEANUP_DEFINE(struct job *, job_free)

static void write_assignment(void)
{
	char text[512];
	int length = snprintf(
		text, sizeof(text),
		"{\"v\": 1, \"id\": \"17\", \"attempt\": 1, \"nonce\": \"n\", \"epoch\": 3,"
		" \"dut\": {\"id\": \"b\", \"tags\": [\"t\"], \"console\": \"main\","
		" \"deploy\": \"qemu\"}, \"console_base\": 100, \"environ\": {\"A_TOKEN\": \"abc\"},"
		" \"limits\": {\"console_log\": 3000}, \"file_roots\": [\"/srv\"],"
		" \"socket_uid\": %u}",
		(unsigned)getuid());

	fuzz_write("job.json", text, (size_t)length);
}

struct executor {
	sd_event *event;
	struct assignment *assignment;
	struct description *description;
	struct fetcher *fetcher;
	struct session *session;
	int control_fd;
};

static bool read_job(struct executor *executor, const struct fuzz_part *job)
{
	json_auto_t *facts = NULL;
	struct problems problems = { 0 };

	assert(assignment_load(&executor->assignment, fuzz_folder_fd(), NULL) == 0);
	facts = assignment_facts(executor->assignment);
	(void)description_parse(&executor->description, (const char *)job->data, job->size, facts,
				&problems);
	problems_done(&problems);
	return executor->description;
}

static void start(struct executor *executor)
{
	struct fetcher_config fetcher = { .libexec_dir = "/", .job_dir_fd = fuzz_folder_fd() };
	struct session_config config = {
		.assignment = executor->assignment,
		.description = executor->description,
		.dir_fd = fuzz_folder_fd(),
		.tarball_fd = -1,
	};

	assert(sd_event_new(&executor->event) >= 0);
	fetcher.event = config.event = executor->event;
	assert(fetcher_new(&executor->fetcher, &fetcher, NULL) == 0);
	config.fetcher = executor->fetcher;
	assert(file_bind_socket(&config.job_socket_fd, fuzz_folder_fd(), "job.sock", SOCK_STREAM,
				0600, NULL) == 0);
	assert(file_bind_socket(&executor->control_fd, fuzz_folder_fd(), "control.sock",
				SOCK_SEQPACKET, 0600, NULL) == 0);
	config.control_socket_fd = executor->control_fd;
	assert(session_new(&executor->session, &config, NULL) == 0);
}

static void connect_to(struct fuzz_peer *peer, const struct executor *executor)
{
	fuzz_peer_close(peer);
	(void)file_connect_socket(&peer->fd, fuzz_folder_fd(), "control.sock", SOCK_SEQPACKET,
				  NULL);
	fuzz_settle(executor->event);
}

static bool is_over(const struct executor *executor)
{
	return sd_event_get_state(executor->event) == SD_EVENT_FINISHED;
}

/* What a timer does otherwise, some milliseconds later. */
static void look_at_console(const struct executor *executor)
{
	if (is_over(executor) || !loan_is_live(executor->session->loan))
		return;
	loan_pump(executor->session->loan);
	fuzz_settle(executor->event);
}

static void happen(const struct executor *executor, struct fuzz_part rest)
{
	struct fuzz_board board = { .fd = -1 };
	struct fuzz_peer dutd = { .fd = -1 };
	struct fuzz_part line, packet;

	connect_to(&dutd, executor);
	while (!is_over(executor) && fuzz_next_line(&rest, &line)) {
		if (fuzz_peer_say(&dutd, executor->event, &line))
			continue;
		if (fuzz_line_is(&line, "!new"))
			connect_to(&dutd, executor);
		else if (fuzz_line_begins(&line, "!helper ", &packet))
			(void)fuzz_peer_say(fuzz_helper(), executor->event, &packet);
		else
			(void)fuzz_board_act(&board, &dutd, &line);
		fuzz_settle(executor->event);
		look_at_console(executor);
	}
	/* The board has said its last words. */
	if (!is_over(executor) && executor->session->ended)
		session_conclude(executor->session);
	fuzz_settle(executor->event);
	/* To this thread: the fuzzer's others have not blocked it. */
	if (!is_over(executor))
		assert(raise(SIGTERM) == 0);
	fuzz_settle(executor->event);
	fuzz_peer_close(&dutd);
	(void)close_fd(board.fd);
}

static void check_result(const struct executor *executor)
{
	cleanup_(job_freep) struct job *job = NULL;
	struct job_result result = { 0 };
	int code = -1;

	assert(is_over(executor) && sd_event_get_exit_code(executor->event, &code) >= 0);
	assert(code == 0);
	assert(job_new(&job, 17, "", "", 0, "b", NULL) == 0);
	job->attempt = 1;
	memcpy(job->nonce, "n", 2);
	job->has_console = true;
	job->console_base = 100;
	assert(job_read_result(job, fuzz_folder_fd(), &result, NULL) == 0);
	job_result_done(&result);
}

static void run(struct executor *executor, struct fuzz_part what)
{
	sigset_t signals, before;

	/* As main() does; in between they end the fuzzer. */
	(void)sigemptyset(&signals);
	(void)sigaddset(&signals, SIGTERM);
	(void)sigaddset(&signals, SIGINT);
	assert(sigprocmask(SIG_BLOCK, &signals, &before) == 0);
	start(executor);
	happen(executor, what);
	check_result(executor);
	executor->session = session_free(executor->session);
	executor->fetcher = fetcher_free(executor->fetcher);
	executor->event = sd_event_unref(executor->event);
	(void)close_fd(executor->control_fd);
	fuzz_peer_close(fuzz_helper());
	assert(sigprocmask(SIG_SETMASK, &before, NULL) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_part rest = { data, size }, job = { data, 0 };
	struct executor executor = { 0 };

	fuzz_begin();
	fuzz_clear();
	write_assignment();
	(void)fuzz_next_part(&rest, &job);
	if (read_job(&executor, &job))
		run(&executor, rest);
	(void)description_free(executor.description);
	(void)assignment_free(executor.assignment);
	return 0;
}
