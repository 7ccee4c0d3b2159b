/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/jsontext.h"
#include "base/log.h"
#include "dut/daemon.h"
#include "dut/lab-events.h"
#include "dut/lease-internal.h"
#include "dut/lease.h"
#include "dut/scope.h"

/*
 * The control packets of a running job. The executor may be hostile: nothing that it sends is
 * believed further than its own board, and what is no packet of ours is answered or dropped.
 */

enum { MAX_LAST_PACKETS = 100 };

static void drop_connection(struct lease *lease)
{
	lease->control_source = sd_event_source_disable_unref(lease->control_source);
	lease->control_fd = close_fd(lease->control_fd);
	lease->said_hello = false;
	lease->cancel_sent = false; /* it may not have read it */
	lab_look(lease->board->daemon);
}

/* Once until the next good hello: an executor must not fill the log. */
static void complain(struct lease *lease, const char *text)
{
	if (!lease->complained)
		log_job(lease->board->config->id, lease->job->id, LOG_WARNING, "control: %s", text);
	lease->complained = true;
}

static void set_phase(struct lease *lease, enum job_phase phase)
{
	const struct job *job = lease->job;

	if (phase != job->phase)
		lab_event(lease->board->daemon, "phase", job->dut, job->id,
			  json_pack("{s:s}", "phase", job_phase_name(phase)));
	lease->job->phase = phase;
}

int lease_send(struct lease *lease, json_t *packet, const int *fds, unsigned n_fds)
{
	struct error err;
	int r;

	if (lease->control_fd < 0) {
		json_decref(packet);
		return -ENOTCONN;
	}
	r = packet_send(lease->control_fd, packet, fds, n_fds, &err);
	if (r < 0) {
		complain(lease, err.text);
		drop_connection(lease);
		lease_reconnect_later(lease);
	}
	return r;
}

/* ---- power ---- */

static void answer_request(struct lease *lease, const struct power_result *result)
{
	json_decref(lease->answer);
	lease->answer = json_pack("{s:s, s:I, s:b, s:s, s:b}", "t", "done", "n", lease->request,
				  "ok", result->error >= 0, "state",
				  power_state_name(result->state), "verified", result->verified);
	if (result->error < 0)
		(void)json_object_set_new(lease->answer, "error", jsontext_new(result->text.text));
	lease->answered = lease->request;
	lease->request = 0;
	(void)lease_send(lease, json_incref(lease->answer), NULL, 0);
}

static void on_power_done(const struct power_result *result, void *data)
{
	struct lease *lease = data;

	if (lease->request)
		answer_request(lease, result);
}

static void refuse_request(struct lease *lease, int r, const struct error *err)
{
	struct power_result result = { .error = r, .text = *err };

	if (lease->board->outlet)
		result.state = outlet_status(lease->board->outlet)->state;
	answer_request(lease, &result);
}

/* QEMU opens it once more, as its own user. Nobody else gets into the job's folder. */
static int let_read(int fd, struct error *err)
{
	struct stat status;

	if (fstat(fd, &status) < 0 || fchmod(fd, (status.st_mode & 07777) | S_IROTH) < 0)
		return error_errno(err, "cannot let QEMU read it");
	return 0;
}

/* One file of a deployment, beneath artifacts/ or bucket/ of the job's own folder and nowhere else.
 */
static int open_deployed(const struct lease *lease, const json_t *deploy, const char *key,
			 int *ret_fd, struct error *err)
{
	static const char *const folders[] = { "artifacts", "bucket" };
	const char *path = json_string_value(json_object_get(deploy, key));

	if (!path)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		size_t length = strlen(folders[i]);
		close_ int dir_fd = -1;
		char folder[64];
		int r;

		if (strncmp(path, folders[i], length) != 0 || path[length] != '/')
			continue;
		(void)snprintf(folder, sizeof(folder), "%" PRIu64 "/%s", lease->job->id,
			       folders[i]);
		r = file_open_beneath(&dir_fd, lease->board->daemon->jobs_fd, folder,
				      O_DIRECTORY | O_RDONLY, err);
		if (r >= 0)
			r = file_open_beneath(ret_fd, dir_fd, path + length + 1, O_RDONLY, err);
		if (r >= 0 && lease->board->daemon->board_user.uid)
			r = let_read(*ret_fd, err);
		return r < 0 ? error_prefix(err, r, "deploy %s", key) : 0;
	}
	return error_set(err, -EINVAL, "deploy: '%s' lies neither in artifacts/ nor in bucket/",
			 key);
}

static int take_deploy(const struct lease *lease, const json_t *packet, struct power_deploy *ret,
		       struct error *err)
{
	const json_t *deploy = json_object_get(packet, "deploy");
	const char *cmdline = json_string_value(json_object_get(deploy, "cmdline"));
	close_ int kernel = -1, initramfs = -1, dtb = -1;
	int r;

	r = open_deployed(lease, deploy, "kernel", &kernel, err);
	if (r >= 0)
		r = open_deployed(lease, deploy, "initramfs", &initramfs, err);
	if (r >= 0)
		r = open_deployed(lease, deploy, "dtb", &dtb, err);
	if (r < 0)
		return r;
	*ret = (struct power_deploy){
		.kernel_fd = take_fd(&kernel),
		.initramfs_fd = take_fd(&initramfs),
		.dtb_fd = take_fd(&dtb),
		.cmdline = cmdline ? strdup(cmdline) : NULL,
	};
	return 0;
}

/* The job switches on: its console has to be lent before the board gets power. */
static void begin_on(struct lease *lease, const json_t *packet)
{
	struct power_deploy deploy;
	struct error err;
	int r;

	r = take_deploy(lease, packet, &deploy, &err);
	if (r >= 0)
		r = outlet_request(lease->board->outlet, OUTLET_ON, &deploy, on_power_done, lease,
				   &err);
	if (r < 0)
		refuse_request(lease, r, &err);
}

static void on_request(struct lease *lease, const json_t *packet, bool on)
{
	json_int_t number = json_integer_value(json_object_get(packet, "n"));
	struct error err;
	int r;

	/* One at a time; one that is repeated over a new connection is served once. */
	if (number <= 0 || lease->request)
		return;
	if (number == lease->answered) {
		(void)lease_send(lease, json_incref(lease->answer), NULL, 0);
		return;
	}
	lease->request = number;
	set_phase(lease, on ? PHASE_POWER_ON : PHASE_POWER_OFF);
	if (!lease->board->outlet) {
		r = error_set(&err, -ENODEV, "the DUT has no power configured");
		refuse_request(lease, r, &err);
		return;
	}
	if (on) {
		begin_on(lease, packet);
		return;
	}
	r = outlet_request(lease->board->outlet, OUTLET_OFF, NULL, on_power_done, lease, &err);
	if (r < 0)
		refuse_request(lease, r, &err);
}

static void on_off(struct lease *lease, const json_t *packet)
{
	on_request(lease, packet, false);
}

static void on_on(struct lease *lease, const json_t *packet)
{
	on_request(lease, packet, true);
}

/* ---- hello, go, cancel, end ---- */

static void give_go(struct lease *lease);

/* Its processes are where they stay. Without a connection the next hello leads on. */
static void on_placed(int r, void *data)
{
	struct lease *lease = data;

	(void)r; /* has been told */
	lease->move = NULL;
	lease->placed = true;
	if (lease->said_hello)
		give_go(lease);
}

/* A scope of its own for each attempt: that of the last may not be gone yet. */
static void place(struct lease *lease)
{
	const struct daemon *daemon = lease->board->daemon;
	const struct job *job = lease->job;
	char name[48], description[128];
	const struct scope_config config = {
		.kind = "job",
		.name = name,
		.description = description,
		.pid = lease->pid,
		.memory_max = daemon->config->limits.job_memory,
		.tasks_max = daemon->config->limits.job_tasks,
		.without_devices = true,
	};
	struct error err;

	if (job->attempt > 1)
		(void)snprintf(name, sizeof(name), "%" PRIu64 "-%u", job->id, job->attempt);
	else
		(void)snprintf(name, sizeof(name), "%" PRIu64, job->id);
	(void)snprintf(description, sizeof(description), "Job %" PRIu64 " of dutd, on %s", job->id,
		       lease->board->config->id);
	if (scope_move(&lease->move, daemon->scopes, &config, on_placed, lease, &err) < 0) {
		log_job(lease->board->config->id, job->id, LOG_WARNING, "%s", err.text);
		lease->placed = true;
	}
}

static void give_go(struct lease *lease)
{
	if (lease->going || lease->move)
		return;
	if (!lease->placed && lease->board->daemon->scopes)
		place(lease);
	if (lease->move)
		return;
	lease->going = true;
	(void)lease_send(lease, json_pack("{s:s}", "t", "go"), NULL, 0);
	board_job_runs(lease->board);
}

static void on_phase(struct lease *lease, const json_t *packet)
{
	const char *name = json_string_value(json_object_get(packet, "phase"));

	for (unsigned i = 0; name && i < JOB_PHASES; i++)
		if (strcmp(name, job_phase_name((enum job_phase)i)) == 0)
			set_phase(lease, (enum job_phase)i);
	/* It may have hung up while it did not matter. */
	lease_watch_console(lease);
	/* There was an event, and without a loan there is no eventfd that tells. */
	viewers_wake(&lease->job->viewers);
}

static void on_hello(struct lease *lease, const json_t *packet, int fds[static PACKET_FDS_MAX])
{
	const char *nonce = json_string_value(json_object_get(packet, "nonce"));
	const json_t *console = json_object_get(packet, "console");
	struct line *line = lease_line(lease);
	struct error err;

	if (lease->said_hello) {
		complain(lease, "a second hello");
		return;
	}
	if (!nonce || strcmp(nonce, lease->job->nonce) != 0 ||
	    json_integer_value(json_object_get(packet, "attempt")) !=
		    (json_int_t)lease->job->attempt) {
		lease_refuse(lease, "it said hello for another job");
		return;
	}
	if (lease->adopted && lease_adopt_console(lease, console, fds, &err) < 0)
		complain(lease, err.text);
	if (lease->adopted && !lease->greeted) {
		on_phase(lease, packet);
		lease->going = lease->job->state == JOB_RUNNING;
		board_adopted(lease->board);
	}
	lease->greeted = lease->said_hello = true;
	lab_look(lease->board->daemon);
	lease->complained = false;
	if (line && json_integer_value(json_object_get(console, "gen")) !=
			    (json_int_t)line_generation(line))
		line_forget_loan(line);
	/* It has the loan already; only its `lent` was lost. */
	if (!lease_lend(lease) && lease->board->outlet)
		outlet_continue(lease->board->outlet, 0, NULL);
	give_go(lease);
	if (lease->job->cancelled || lease->console_lost)
		lease_send_cancel(lease);
}

void lease_send_cancel(struct lease *lease)
{
	const struct job *job = lease->job;

	if (!lease->greeted || lease->cancel_sent)
		return;
	lease->cancel_sent =
		lease_send(lease,
			   job->cancelled
				   ? json_pack("{s:s, s:s, s:s?, s:s?}", "t", "cancel", "reason",
					       job_client_cancel_reason(&job->client), "by",
					       job->cancel_by, "why", job->cancel_why)
				   : json_pack("{s:s, s:s, s:s}", "t", "cancel", "reason",
					       "console_lost", "why", lease->why),
			   NULL, 0) >= 0;
}

static void on_end(struct lease *lease, const json_t *packet)
{
	(void)packet;
	set_phase(lease, PHASE_TEARDOWN);
}

/* Nothing follows from these: result.json is the witness, and the console is ours when the process
 * is gone. */
static void on_note(struct lease *lease, const json_t *packet)
{
	(void)lease;
	(void)packet;
}

static const struct {
	const char *type;
	bool before_hello;
	void (*handle)(struct lease *lease, const json_t *packet);
} handlers[] = {
	{ "lent", false, lease_on_lent }, { "off", false, on_off },
	{ "on", false, on_on },		  { "phase", false, on_phase },
	{ "end", false, on_end },	  { "returned", false, on_note },
	{ "cancelling", false, on_note }, { "unknown", true, on_note },
};

static void handle_packet(struct lease *lease, const json_t *packet, int fds[static PACKET_FDS_MAX])
{
	const char *type = json_string_value(json_object_get(packet, "t"));

	/* The one packet whose fds are of use. */
	if (strcmp(type, "hello") == 0) {
		on_hello(lease, packet, fds);
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(handlers); i++) {
		if (strcmp(type, handlers[i].type) != 0)
			continue;
		if (lease->greeted || handlers[i].before_hello)
			handlers[i].handle(lease, packet);
		return;
	}
	(void)lease_send(lease, json_pack("{s:s}", "t", "unknown"), NULL, 0);
}

/* One packet: 1, or what packet_receive() says. */
static int receive_one(struct lease *lease)
{
	json_t *packet = NULL;
	int fds[PACKET_FDS_MAX];
	struct error err;
	int r;

	r = packet_receive(lease->control_fd, &packet, fds, &err);
	if (r == 1)
		handle_packet(lease, packet, fds);
	else if (r == -EBADMSG)
		complain(lease, err.text);
	/* An executor sends fds back with hello and returned; mostly we have never closed ours. */
	for (unsigned i = 0; i < PACKET_FDS_MAX; i++)
		(void)close_fd(fds[i]);
	json_decref(packet);
	return r;
}

void lease_drain_control(struct lease *lease)
{
	int r = 1;

	/* A child of it that kept the connection may go on sending: what is not here yet is not its
	 * word. */
	for (unsigned i = 0; i < MAX_LAST_PACKETS && lease->control_fd >= 0; i++) {
		if (r != 1 && r != -EBADMSG)
			return;
		r = receive_one(lease);
	}
}

static int on_packet(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct lease *lease = data;
	int r;

	(void)source;
	(void)fd;
	(void)events;
	r = receive_one(lease);
	if (r == 1 || r == -EAGAIN || r == -EBADMSG)
		return 0;
	/* It closed the connection. If it is gone its pidfd says so; if it lives it gets a new one.
	 */
	drop_connection(lease);
	lease_reconnect_later(lease);
	return 0;
}

int lease_greet(struct lease *lease, struct error *err)
{
	char id[24];
	int r;

	(void)snprintf(id, sizeof(id), "%" PRIu64, lease->job->id);
	r = sd_event_add_io(lease->board->daemon->event, &lease->control_source, lease->control_fd,
			    EPOLLIN, on_packet, lease);
	if (r < 0) {
		drop_connection(lease);
		return error_code(err, r, "cannot watch the control socket");
	}
	(void)sd_event_source_set_description(lease->control_source, "executor-control");
	r = lease_send(lease,
		       json_pack("{s:s, s:i, s:I, s:s, s:I, s:s}", "t", "hello", "v",
				 PROTOCOL_VERSION, "epoch", (json_int_t)lease->board->daemon->epoch,
				 "job", id, "attempt", (json_int_t)lease->job->attempt, "nonce",
				 lease->job->nonce),
		       NULL, 0);
	if (r < 0) {
		drop_connection(lease);
		return error_set(err, r, "cannot say hello");
	}
	return 0;
}
