/* SPDX-License-Identifier: MIT */

/*
 * dut-helper: starts what an executor may not once it is in its sandbox. It holds no board, no
 * console and no lock, and parses nothing but its executor's small requests and the small answers
 * of its children; when the executor is gone it kills them and leaves.
 *
 * Its arguments are the folders beneath which file: URLs may lie; fd 4 is the job's folder. It
 * confines itself to these (executor/fetchbox.h) before it reads anything.
 *
 * fd 3 is a SEQPACKET socket; packets are those of base/protocol.h. Requests: "download" {id, url,
 * sha256, max_bytes, file_roots} + [file to write] (without a url: + [file to copy]), "unpack" {id,
 * max_bytes, max_files} + [archive, folder], "cancel" {}: all end now, and nothing more is said of
 * them. Answers: "progress" {id, progress}, and "done" {id} with what dut-fetch answered.
 */

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/jsontext.h"
#include "base/list.h"
#include "base/log.h"
#include "base/protocol.h"
#include "base/spawn.h"
#include "executor/fetchbox.h"

enum {
	FD_EXECUTOR = 3,
	FD_JOB_DIR = 4, /* where dut-fetch may write; without it nothing is confined (in tests) */
	TASKS_MAX = 16, /* at once; more are refused */
	ANSWER_MAX = 4096,
	EXIT_USAGE = 64,
	EXIT_FAULT = 70,
};

struct helper {
	sd_event *event;
	sd_event_source *executor;
	const char *fetch_path;
	struct list running, ended; /* tasks */
	unsigned n_running, n_ended;
};

/* A dut-fetch that runs, then its answer until the executor has taken it. */
struct task {
	struct list link; /* helper.running, then helper.ended */
	struct helper *helper;
	json_int_t id;
	bool cancelled; /* nobody wants the answer */
	pid_t pid;
	int pidfd, output_fd;
	sd_event_source *child, *output;
	char line[ANSWER_MAX]; /* the beginning of one */
	size_t used;
	json_t *answer;
};

static struct task *task_free(struct task *task)
{
	if (!task)
		return NULL;
	list_remove(&task->link);
	task->child = sd_event_source_disable_unref(task->child);
	task->output = sd_event_source_disable_unref(task->output);
	(void)close_fd(task->pidfd);
	(void)close_fd(task->output_fd);
	json_decref(task->answer);
	free(task);
	return NULL;
}

static void task_kill(struct task *task)
{
	/* Its session too, whose number is its own until it is waited for. */
	if (task->pid > 0)
		(void)kill(-task->pid, SIGKILL);
	(void)pidfd_send_signal(task->pidfd, SIGKILL, NULL, 0);
}

/* ---- to the executor ---- */

/* Reads on unless the executor does not take what has ended. */
static void watch_executor(struct helper *helper)
{
	uint32_t events = helper->n_ended < TASKS_MAX ? EPOLLIN : 0;

	if (helper->n_ended > 0)
		events |= EPOLLOUT;
	(void)sd_event_source_set_io_events(helper->executor, events);
}

/* Sends the answers that wait, as far as the socket takes them. */
static void send_ended(struct helper *helper)
{
	while (helper->n_ended > 0) {
		struct task *task = CONTAINER_OF(helper->ended.next, struct task, link);
		int r = packet_send(FD_EXECUTOR, json_incref(task->answer), NULL, 0, NULL);

		if (r == -EAGAIN)
			break;
		/* Any other failure is the socket's end, which is read as such. */
		helper->n_ended--;
		task_free(task);
	}
	watch_executor(helper);
}

/* Takes the reference to answer. */
static void task_end(struct task *task, json_t *answer)
{
	struct helper *helper = task->helper;

	if (!answer)
		answer = json_object();
	(void)json_object_set_new(answer, "t", json_string("done"));
	(void)json_object_set_new(answer, "id", json_integer(task->id));
	task->answer = answer;
	list_remove(&task->link);
	list_append(&helper->ended, &task->link);
	helper->n_ended++;
	send_ended(helper);
}

static json_t *fault(const char *text)
{
	return json_pack("{s:s, s:o}", "reason", "executor_failed", "error", jsontext_new(text));
}

/* ---- from a dut-fetch ---- */

static void on_line(struct task *task, size_t length)
{
	json_t *object = json_loadb(task->line, length, JSON_REJECT_DUPLICATES, NULL);
	json_t *progress = json_object_get(object, "progress");

	if (json_is_integer(progress) && !task->cancelled)
		/* One that the executor has no room for is none that it misses. */
		(void)packet_send(FD_EXECUTOR,
				  json_pack("{s:s, s:I, s:O}", "t", "progress", "id", task->id,
					    "progress", progress),
				  NULL, 0, NULL);
	else if (json_is_object(object) && !progress && !task->answer)
		task->answer = json_incref(object);
	json_decref(object);
}

/* Takes in what dut-fetch has written. false: there will be no more. */
static bool read_output(struct task *task)
{
	for (;;) {
		size_t room = sizeof(task->line) - task->used;
		ssize_t n = read(task->output_fd, task->line + task->used, room);
		char *end;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		if (n == 0)
			return false;
		task->used += (size_t)n;
		while ((end = memchr(task->line, '\n', task->used))) {
			size_t length = (size_t)(end - task->line);

			on_line(task, length);
			task->used -= length + 1;
			memmove(task->line, end + 1, task->used);
		}
		if (task->used == sizeof(task->line)) {
			task_kill(task);
			return false;
		}
	}
}

static int on_output(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct task *task = data;

	(void)fd;
	(void)events;
	if (!read_output(task))
		(void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
	return 0;
}

static int on_fetch_exit(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct task *task = data;
	siginfo_t info = { 0 };
	char text[96];

	(void)source;
	(void)fd;
	(void)events;
	(void)read_output(task);
	/* What it may have left behind in its session; then the number is free. */
	task_kill(task);
	(void)waitid(P_PIDFD, (id_t)task->pidfd, &info, WEXITED);
	task->child = sd_event_source_disable_unref(task->child);
	task->output = sd_event_source_disable_unref(task->output);
	task->helper->n_running--;
	if (task->cancelled) {
		task_free(task);
		return 0;
	}
	if (task->answer) {
		task_end(task, task->answer);
		return 0;
	}
	if (info.si_code == CLD_EXITED)
		(void)snprintf(text, sizeof(text), "dut-fetch ended with status %d and no answer",
			       info.si_status);
	else
		(void)snprintf(text, sizeof(text), "dut-fetch was killed by signal %d",
			       info.si_status);
	task_end(task, fault(text));
	return 0;
}

/* ---- from the executor ---- */

/* The request as a file, so that writing it waits for nobody. */
static int make_request(int *ret_fd, const json_t *request, struct error *err)
{
	free_ char *text = json_dumps(request, JSON_COMPACT);
	close_ int fd = memfd_create("request", MFD_CLOEXEC);
	int r;

	if (!text)
		return error_oom(err);
	if (fd < 0)
		return error_errno(err, "cannot make a request");
	r = file_write_all(fd, text, strlen(text), err);
	if (r < 0)
		return r;
	if (lseek(fd, 0, SEEK_SET) < 0)
		return error_errno(err, "cannot make a request");
	*ret_fd = take_fd(&fd);
	return 0;
}

static int spawn_fetch(struct task *task, const char *mode, const json_t *request,
		       const int fds[static 2], struct error *err)
{
	char name[] = "dut-fetch", mode_argument[16];
	char *argv[] = { name, mode_argument, NULL };
	close_ int request_fd = -1, output_fd = -1;
	struct spawn_fd map[4];
	struct spawn_config config = {
		.path = task->helper->fetch_path,
		.argv = argv,
		.fds = map,
		.n_fds = fds[1] >= 0 ? 4 : 3,
		.new_session = true,
	};
	int pipes[2], r;

	(void)snprintf(mode_argument, sizeof(mode_argument), "%s", mode);
	r = make_request(&request_fd, request, err);
	if (r < 0)
		return r;
	if (pipe2(pipes, O_CLOEXEC) < 0)
		return error_errno(err, "cannot make a pipe");
	task->output_fd = pipes[0];
	output_fd = pipes[1];
	if (fcntl(task->output_fd, F_SETFL, O_NONBLOCK) < 0)
		return error_errno(err, "cannot make a pipe");
	map[0] = (struct spawn_fd){ .from = request_fd, .to = 0 };
	map[1] = (struct spawn_fd){ .from = output_fd, .to = 1 };
	map[2] = (struct spawn_fd){ .from = fds[0], .to = 3 };
	map[3] = (struct spawn_fd){ .from = fds[1], .to = 4 };
	return spawn(&task->pid, &task->pidfd, &config, err);
}

/* From here on the task lives until its child is gone. */
static int watch_fetch(struct task *task, struct error *err)
{
	sd_event *event = task->helper->event;
	int r;

	/* Not as a child of the loop, which looks into /proc for it: that is not ours to read. */
	r = sd_event_add_io(event, &task->child, task->pidfd, EPOLLIN, on_fetch_exit, task);
	if (r >= 0)
		r = sd_event_add_io(event, &task->output, task->output_fd, EPOLLIN, on_output,
				    task);
	if (r >= 0)
		return 0;
	task_kill(task);
	(void)waitid(P_PIDFD, (id_t)task->pidfd, &(siginfo_t){ 0 }, WEXITED);
	return error_code(err, r, "cannot watch dut-fetch");
}

static int start_task(struct task *task, const char *mode, const json_t *request,
		      const int fds[static 2], struct error *err)
{
	bool one_is_enough = json_is_string(json_object_get(request, "url"));
	int r;

	if (fds[0] < 0 || (fds[1] < 0 && !one_is_enough))
		return error_set(err, -EINVAL, "a request came without its files");
	if (task->helper->n_running == TASKS_MAX)
		return error_set(err, -EBUSY, "more than %d downloads at once", TASKS_MAX);
	r = spawn_fetch(task, mode, request, fds, err);
	if (r < 0)
		return r;
	r = watch_fetch(task, err);
	if (r < 0)
		return r;
	task->helper->n_running++;
	return 0;
}

static void on_start(struct helper *helper, const char *mode, const json_t *request,
		     const int fds[static 2])
{
	struct task *task = calloc(1, sizeof(*task));
	struct error err;

	if (!task) {
		(void)sd_event_exit(helper->event, EXIT_FAULT);
		return;
	}
	task->helper = helper;
	task->id = json_integer_value(json_object_get(request, "id"));
	task->pidfd = task->output_fd = -1;
	list_append(&helper->running, &task->link);
	if (start_task(task, mode, request, fds, &err) < 0) {
		task->child = sd_event_source_disable_unref(task->child);
		task_end(task, fault(err.text));
	}
}

static void on_cancel(struct helper *helper)
{
	LIST_FOREACH(link, &helper->running) {
		struct task *task = CONTAINER_OF(link, struct task, link);

		task->cancelled = true;
		task_kill(task);
	}
	while (!list_empty(&helper->ended)) {
		helper->n_ended--;
		task_free(CONTAINER_OF(helper->ended.next, struct task, link));
	}
	watch_executor(helper);
}

static void on_request(struct helper *helper, const json_t *request, const int fds[static 2])
{
	const char *type = json_string_value(json_object_get(request, "t"));

	if (strcmp(type, "download") == 0 || strcmp(type, "unpack") == 0)
		on_start(helper, type, request, fds);
	else if (strcmp(type, "cancel") == 0)
		on_cancel(helper);
	else
		(void)packet_send(FD_EXECUTOR,
				  json_pack("{s:s, s:s}", "t", "unknown", "unknown", type), NULL, 0,
				  NULL);
}

static int on_executor(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct helper *helper = data;
	int fds[PACKET_FDS_MAX], r;
	json_t *request = NULL;

	(void)source;
	if (events & EPOLLOUT)
		send_ended(helper);
	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return 0;
	r = packet_receive(fd, &request, fds, NULL);
	if (r == 1) {
		on_request(helper, request, fds);
		json_decref(request);
		for (unsigned i = 0; i < PACKET_FDS_MAX; i++)
			(void)close_fd(fds[i]);
	} else if (r != -EAGAIN && r != -EBADMSG) {
		(void)sd_event_exit(helper->event, EXIT_SUCCESS);
	}
	return 0;
}

static int run(const char *fetch_path)
{
	struct helper helper = { .fetch_path = fetch_path };
	int r;

	list_init(&helper.running);
	list_init(&helper.ended);
	r = sd_event_new(&helper.event);
	if (r >= 0)
		r = sd_event_add_io(helper.event, &helper.executor, FD_EXECUTOR, EPOLLIN,
				    on_executor, &helper);
	if (r >= 0)
		r = sd_event_loop(helper.event);
	/* Nobody is waited for: they are killed, and init takes them. */
	while (!list_empty(&helper.running)) {
		struct task *task = CONTAINER_OF(helper.running.next, struct task, link);

		task_kill(task);
		task_free(task);
	}
	while (!list_empty(&helper.ended))
		task_free(CONTAINER_OF(helper.ended.next, struct task, link));
	(void)sd_event_source_disable_unref(helper.executor);
	(void)sd_event_unref(helper.event);
	if (r < 0)
		log_msg(LOG_ERR, "dut-helper: %s", strerror(-r));
	return r < 0 ? EXIT_FAULT : r;
}

int main(int argc, char **argv)
{
	free_ char *fetch_path = NULL;
	const char *slash;
	struct error err;
	sigset_t child;

	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	(void)sigemptyset(&child);
	(void)sigaddset(&child, SIGCHLD);
	(void)sigprocmask(SIG_BLOCK, &child, NULL);
	(void)signal(SIGPIPE, SIG_IGN);

	slash = argc >= 1 ? strrchr(argv[0], '/') : NULL;
	if (!slash || fcntl(FD_EXECUTOR, F_SETFD, FD_CLOEXEC) < 0) {
		(void)fprintf(stderr, "dut-helper is started by dut-executor\n");
		return EXIT_USAGE;
	}
	if (asprintf(&fetch_path, "%.*s/dut-fetch", (int)(slash - argv[0]), argv[0]) < 0)
		return EXIT_FAULT;
	if (fcntl(FD_JOB_DIR, F_SETFD, FD_CLOEXEC) == 0 &&
	    fetchbox_helper(FD_JOB_DIR, fetch_path, argv + 1, &err) < 0) {
		log_msg(LOG_ERR, "dut-helper: %s", err.text);
		return EXIT_FAULT;
	}
	return run(fetch_path);
}
