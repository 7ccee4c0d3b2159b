/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/protocol.h"
#include "base/spawn.h"
#include "hw/drivers.h"
#include "hw/sim-board.h"
#include "hw/sim-script.h"

/*
 * The outlet of a sim board: packets to its process, dut-sim. The process is started when the board
 * is opened and sim.lock, which it inherits, is free; one that an earlier dutd started is found
 * again by that lock.
 */

/* A board may be told to answer late; one that never does has no outlet any more. */
static const uint64_t ANSWER_LIMIT_US = UINT64_C(120) * 1000000;
static const uint64_t END_STEP_US = 20000;

enum { END_STEPS_MAX = 100 };

struct power_sim {
	struct power power;
	int fd; /* to sim.sock */
	sd_event_source *source;
	sd_event_source *timer; /* for an answer, or for its end */
	sd_event_source *child; /* its process, when it is ours: to be reaped */
	bool waits;
	bool ends;	    /* the operation that waits is POWER_OP_END */
	unsigned end_steps; /* looks whether it has ended */
};

static struct power_sim *sim_of(struct power *power)
{
	return CONTAINER_OF(power, struct power_sim, power);
}

/* A path of the configuration is meant relative to the file that it stands in. */
static int make_path(char path[PATH_MAX], const struct yaml_node *node)
{
	const char *slash = node->file ? strrchr(node->file, '/') : NULL;
	int length;

	if (node->text[0] == '/' || !slash)
		length = snprintf(path, PATH_MAX, "%s", node->text);
	else
		length = snprintf(path, PATH_MAX, "%.*s/%s", (int)(slash - node->file), node->file,
				  node->text);
	return length < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static void check(const struct yaml_node *keys, struct problems *problems)
{
	static const char *const known[] = { "script", "sent", NULL };
	const struct yaml_node *node = yaml_get(keys, "script");
	struct sim_script script;
	char path[PATH_MAX];
	struct error err;

	yaml_check_keys(keys, NULL, known, problems);
	YAML_FOREACH(child, keys)
		if (child->kind != YAML_SCALAR)
			problems_add_at(problems, child, child->key, "%s must be a text",
					child->key);
	if (!node) {
		problems_add_at(problems, keys, "script", "a sim board needs a script");
		return;
	}
	if (node->kind != YAML_SCALAR || make_path(path, node) < 0)
		return;
	if (sim_script_load(&script, path, &err) < 0)
		problems_add_at(problems, node, "script", "%s", err.text);
	else
		sim_script_done(&script);
}

/* ---- the process ---- */

static int on_child(sd_event_source *source, const siginfo_t *info, void *data)
{
	struct power_sim *sim = data;

	/* Its connection says the rest. */
	(void)source;
	(void)info;
	sim->child = sd_event_source_disable_unref(sim->child);
	return 0;
}

/* One that was killed, and whose end the loop has not told yet. It has let go of its lock, so that
 * this does not wait. */
static void reap(struct power_sim *sim)
{
	if (sim->child)
		(void)waitid(P_PIDFD, (id_t)sd_event_source_get_child_pidfd(sim->child), NULL,
			     WEXITED);
	sim->child = sd_event_source_disable_unref(sim->child);
}

static int spawn_board(struct power_sim *sim, const struct power_config *config, int lock_fd,
		       struct error *err)
{
	const struct yaml_node *sent_node = yaml_get(config->keys, "sent");
	char name[] = "dut-sim", script[PATH_MAX], sent[PATH_MAX];
	close_ int control_fd = -1, console_fd = -1, pidfd = -1;
	free_ char *path = NULL;
	free_ char *board = strdup(config->board);
	char *const argv[] = { name, board, script, sent_node ? sent : NULL, NULL };
	pid_t pid;
	int r;

	if (!board || asprintf(&path, "%s/dut-sim", config->libexec_dir) < 0) {
		path = NULL;
		return error_oom(err);
	}
	if (make_path(script, yaml_get(config->keys, "script")) < 0 ||
	    (sent_node && make_path(sent, sent_node) < 0))
		return error_set(err, -ENAMETOOLONG, "the path of the script is too long");
	r = file_listen_socket(&control_fd, config->runtime_dir_fd, "sim.sock", SOCK_SEQPACKET,
			       0600, err);
	if (r >= 0)
		r = file_listen_socket(&console_fd, config->runtime_dir_fd, "console.sock",
				       SOCK_STREAM, 0600, err);
	if (r < 0)
		return r;

	const struct spawn_fd fds[] = {
		{ control_fd, SIM_FD_CONTROL },
		{ console_fd, SIM_FD_CONSOLE },
		{ lock_fd, SIM_FD_LOCK },
	};
	const struct spawn_config spawn_config = {
		.path = path,
		.argv = argv,
		.fds = fds,
		.n_fds = ARRAY_SIZE(fds),
		.new_session = true,
	};

	r = spawn(&pid, &pidfd, &spawn_config, err);
	if (r < 0)
		return error_prefix(err, r, "cannot start %s", path);
	reap(sim);
	r = sd_event_add_child_pidfd(config->event, &sim->child, pidfd, WEXITED, on_child, sim);
	if (r < 0)
		return error_code(err, r, "cannot watch dut-sim");
	(void)sd_event_source_set_child_pidfd_own(sim->child, true);
	(void)take_fd(&pidfd);
	if (config->started)
		config->started(pid, config->started_data);
	return 0;
}

static int find_board(struct power_sim *sim, const struct power_config *config, struct error *err)
{
	close_ int lock_fd = -1;
	int r = file_lock(&lock_fd, config->state_dir_fd, "sim.lock", err);

	if (r == -EWOULDBLOCK)
		return 0; /* it lives */
	return r < 0 ? r : spawn_board(sim, config, lock_fd, err);
}

/* ---- the operations ---- */

static enum power_state state_of(const json_t *packet)
{
	const char *state = json_string_value(json_object_get(packet, "state"));

	if (state && strcmp(state, "ON") == 0)
		return POWER_ON;
	return state && strcmp(state, "OFF") == 0 ? POWER_OFF : POWER_UNKNOWN;
}

static void finish(struct power_sim *sim, const struct power_result *result)
{
	(void)sd_event_source_set_enabled(sim->timer, SD_EVENT_OFF);
	if (sim->waits)
		power_finish(&sim->power, result);
	sim->waits = false;
}

static void finish_gone(struct power_sim *sim)
{
	sim->waits = true;
	finish(sim, &(struct power_result){ .state = POWER_OFF, .verified = true });
}

static void disconnect(struct power_sim *sim)
{
	sim->source = sd_event_source_disable_unref(sim->source);
	sim->fd = close_fd(sim->fd);
}

/* Whether it is known without asking that the board has no power: it has no process. */
static bool is_gone(const struct power_sim *sim)
{
	close_ int lock_fd = -1;

	return sim->fd < 0 &&
	       file_lock(&lock_fd, sim->power.config->state_dir_fd, "sim.lock", NULL) >= 0;
}

/* A process that ends closes its connection before it lets go of its lock. */
static void await_end(struct power_sim *sim)
{
	(void)sd_event_source_set_time_relative(sim->timer, END_STEP_US);
	(void)sd_event_source_set_enabled(sim->timer, SD_EVENT_ONESHOT);
}

/* The answer of a board that is to end: off, it goes. False when it does not. */
static bool let_go(struct power_sim *sim, const struct power_result *result)
{
	return result->error >= 0 && result->state == POWER_OFF &&
	       packet_send(sim->fd, json_pack("{s:s}", "t", "exit"), NULL, 0, NULL) >= 0;
}

static int on_packet(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct power_sim *sim = data;
	struct power_result result = { .verified = true };
	int fds[PACKET_FDS_MAX], r;
	json_auto_t *packet = NULL;
	const char *text;

	(void)source;
	(void)events;
	r = packet_receive(fd, &packet, fds, &result.text);
	for (unsigned i = 0; i < PACKET_FDS_MAX; i++)
		(void)close_fd(fds[i]);
	if (r == -EAGAIN)
		return 0;
	if (r != 1) {
		result = (struct power_result){ 0 };
		result.error = error_set(&result.text, -EIO, "dut-sim has closed its connection");
		disconnect(sim);
		if (!sim->waits || sim->ends) {
			sim->end_steps = 0;
			await_end(sim);
			return 0;
		}
	} else {
		result.state = state_of(packet);
		text = json_string_value(json_object_get(packet, "error"));
		if (!json_is_true(json_object_get(packet, "ok"))) {
			result.verified = false;
			result.error =
				error_set(&result.text, -EIO, "%s", text ? text : "no reason");
		}
		if (sim->ends && let_go(sim, &result))
			return 0;
	}
	finish(sim, &result);
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct power_sim *sim = data;
	struct power_result result = { 0 };

	(void)source;
	(void)usec;
	if (!sim->waits) {
		if (is_gone(sim) || ++sim->end_steps == END_STEPS_MAX)
			power_changed(&sim->power);
		else
			await_end(sim);
		return 0;
	}
	if (sim->ends && is_gone(sim)) {
		reap(sim);
		finish_gone(sim);
		return 0;
	}
	if (sim->ends && sim->fd < 0 && ++sim->end_steps < END_STEPS_MAX) {
		await_end(sim);
		return 0;
	}
	/* What it may still say is no answer to the next operation. */
	disconnect(sim);
	result.error = error_set(&result.text, -ETIMEDOUT, "dut-sim does not answer");
	finish(sim, &result);
	return 0;
}

static int connect_board(struct power_sim *sim, struct error *err)
{
	const struct power_config *config = sim->power.config;
	int r;

	if (sim->fd >= 0)
		return 0;
	r = find_board(sim, config, err);
	if (r >= 0)
		r = file_connect_socket(&sim->fd, config->runtime_dir_fd, "sim.sock",
					SOCK_SEQPACKET, err);
	if (r < 0)
		return error_prefix(err, r, "dut-sim cannot be reached");
	r = sd_event_add_io(config->event, &sim->source, sim->fd, EPOLLIN, on_packet, sim);
	if (r < 0) {
		disconnect(sim);
		return error_code(err, r, "cannot watch dut-sim");
	}
	(void)sd_event_source_set_description(sim->source, "sim");
	return 0;
}

static int send_verb(struct power_sim *sim, const char *verb, struct error *err)
{
	return packet_send(sim->fd, json_pack("{s:s}", "t", verb), NULL, 0, err);
}

static int start(struct power *power, enum power_operation operation,
		 const struct power_deploy *deploy, struct error *err)
{
	static const char *const types[] = {
		[POWER_OP_ON] = "on",
		[POWER_OP_OFF] = "off",
		[POWER_OP_READ] = "read",
		[POWER_OP_END] = "off", /* and then it is let go */
	};
	struct power_sim *sim = sim_of(power);
	bool brings_back = operation != POWER_OP_READ && operation != POWER_OP_END;
	int r;

	(void)deploy;
	sim->ends = operation == POWER_OP_END;
	/* To look must not bring it back. */
	if (!brings_back && is_gone(sim)) {
		reap(sim);
		finish_gone(sim);
		return 0;
	}
	r = connect_board(sim, err);
	if (r < 0)
		return r;
	if (operation == POWER_OP_PREPARE) {
		/* Its console is always there. */
		sim->waits = true;
		finish(sim, &(struct power_result){ .state = POWER_UNKNOWN });
		return 0;
	}
	r = send_verb(sim, types[operation], err);
	if (r == -EPIPE || r == -ECONNRESET) {
		/* It was killed, and the loop has not told yet. */
		disconnect(sim);
		if (!brings_back && is_gone(sim)) {
			reap(sim);
			finish_gone(sim);
			return 0;
		}
		r = connect_board(sim, err);
		if (r >= 0)
			r = send_verb(sim, types[operation], err);
	}
	if (r < 0)
		return r;
	sim->waits = true;
	(void)sd_event_source_set_time_relative(sim->timer, ANSWER_LIMIT_US);
	(void)sd_event_source_set_enabled(sim->timer, SD_EVENT_ONESHOT);
	return 0;
}

static void release(struct power *power)
{
	struct power_sim *sim = sim_of(power);

	/* It goes only if it is off. */
	if (!is_gone(sim) && connect_board(sim, NULL) >= 0)
		(void)packet_send(sim->fd, json_pack("{s:s}", "t", "exit"), NULL, 0, NULL);
}

static void close_sim(struct power *power)
{
	struct power_sim *sim = sim_of(power);

	disconnect(sim);
	sd_event_source_disable_unref(sim->timer);
	sd_event_source_disable_unref(sim->child);
	free(sim);
}

static int open_sim(struct power **ret, const struct power_config *config, struct error *err)
{
	struct power_sim *sim = calloc(1, sizeof(*sim));
	int r;

	if (!sim)
		return error_oom(err);
	sim->fd = -1;
	r = sd_event_add_time(config->event, &sim->timer, CLOCK_BOOTTIME, 0, 0, on_timer, sim);
	if (r >= 0)
		r = sd_event_source_set_enabled(sim->timer, SD_EVENT_OFF);
	if (r < 0)
		r = error_code(err, r, "cannot add a timer");
	else
		r = find_board(sim, config, err);
	if (r < 0) {
		close_sim(&sim->power);
		return r;
	}
	*ret = &sim->power;
	return 0;
}

static const char *const paths[] = { "script", "sent", NULL };

const struct power_driver power_sim = {
	.name = "sim",
	.is_virtual = true,
	.paths = paths,
	.check = check,
	.open = open_sim,
	.start = start,
	.release = release,
	.close = close_sim,
};
