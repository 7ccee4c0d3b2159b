/* SPDX-License-Identifier: MIT */
#include "tests/fuzz/daemon.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/list.h"
#include "dut/lease-internal.h"
#include "dut/users.h"
#include "dut/validator.h"
#include "dut/worker.h"
#include "tests/fuzz/fuzz.h"

/* ---- no programs ---- */

static fuzz_spawn_fn play_program;

void fuzz_daemon_on_spawn(fuzz_spawn_fn fn)
{
	play_program = fn;
}

int spawn(pid_t *ret_pid, int *ret_pidfd, const struct spawn_config *config, struct error *err)
{
	if (play_program)
		return play_program(ret_pid, ret_pidfd, config, err);
	return error_set(err, -ENOENT, "%s: there are no programs here", config->path);
}

/* ---- no chance ---- */

/* Of sys/random.h: a job's nonce is what a hostile executor of ours may know. */
ssize_t getrandom(void *buffer, size_t size, unsigned flags)
{
	(void)flags;
	memset(buffer, 0, size);
	return (ssize_t)size;
}

/* ---- no thread ---- */

struct users {
	int none;
};

int users_new(struct users **ret, sd_event *event, struct error *err)
{
	(void)event;
	(void)err;
	*ret = calloc(1, sizeof(**ret));
	assert(*ret);
	return 0;
}

struct users *users_free(struct users *users)
{
	free(users);
	return NULL;
}

bool users_name(struct users *users, uid_t uid, char name[static USERS_NAME_SIZE])
{
	(void)users;
	(void)snprintf(name, USERS_NAME_SIZE, "uid:%u", (unsigned)uid);
	return true;
}

int users_ask(struct users *users, uid_t uid, void (*done)(void *data), void *data,
	      struct error *err)
{
	(void)users;
	(void)uid;
	(void)done;
	(void)data;
	return error_set(err, -EAGAIN, "nobody has to be asked here");
}

void users_forget(struct users *users, const void *data)
{
	(void)users;
	(void)data;
}

struct work {
	struct list link; /* worker.waiting */
	work_fn work;
	work_done_fn done;
	void (*release)(void *data);
	void *data;
};

struct worker {
	sd_event_source *defer;
	struct list waiting;
};

static void finish(struct work *work, bool tell)
{
	struct error err;
	int r = work->work(work->data, &err);

	if (tell && work->done)
		work->done(r, &err, work->data);
	if (work->release)
		work->release(work->data);
	free(work);
}

static struct work *take_work(struct worker *worker)
{
	struct work *work = CONTAINER_OF(worker->waiting.next, struct work, link);

	list_remove(&work->link);
	return work;
}

static int on_work(sd_event_source *source, void *data)
{
	struct worker *worker = data;
	struct work *work = take_work(worker);

	if (list_empty(&worker->waiting))
		(void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
	finish(work, true);
	return 0;
}

int worker_new(struct worker **ret, sd_event *event, struct error *err)
{
	struct worker *worker = calloc(1, sizeof(*worker));

	(void)err;
	assert(worker);
	list_init(&worker->waiting);
	assert(sd_event_add_defer(event, &worker->defer, on_work, worker) >= 0);
	assert(sd_event_source_set_enabled(worker->defer, SD_EVENT_OFF) >= 0);
	*ret = worker;
	return 0;
}

struct worker *worker_free(struct worker *worker)
{
	if (!worker)
		return NULL;
	while (!list_empty(&worker->waiting))
		finish(take_work(worker), false);
	sd_event_source_disable_unref(worker->defer);
	free(worker);
	return NULL;
}

int worker_run(struct worker *worker, work_fn work, work_done_fn done, void (*release)(void *data),
	       void *data, struct error *err)
{
	struct work *item = malloc(sizeof(*item));

	(void)err;
	assert(item);
	*item = (struct work){ .work = work, .done = done, .release = release, .data = data };
	list_append(&worker->waiting, &item->link);
	(void)sd_event_source_set_enabled(worker->defer, SD_EVENT_ON);
	return 0;
}

/* ---- no validator ---- */

struct validator {
	sd_event_source *defer;
	validator_done_fn done;
	void *data;
};

static json_t *validation;

void fuzz_daemon_set_validation(json_t *answer)
{
	json_decref(validation);
	validation = answer;
}

struct validator *validator_free(struct validator *validator)
{
	if (validator)
		sd_event_source_disable_unref(validator->defer);
	free(validator);
	return NULL;
}

static int on_validated(sd_event_source *source, void *data)
{
	struct validator *validator = data;
	struct error err;

	(void)source;
	(void)error_set(&err, -EIO, "the job file cannot be checked");
	validator->done(validation ? 0 : -EIO, &err, validation, validator->data);
	validator_free(validator);
	return 0;
}

int validator_start(struct validator **ret, struct daemon *daemon, json_t *input,
		    validator_done_fn done, void *data, struct error *err)
{
	struct validator *validator = calloc(1, sizeof(*validator));
	free_ char *text = json_dumps(input, JSON_COMPACT);

	(void)err;
	assert(validator);
	/* It is written to its program. */
	assert(text);
	json_decref(input);
	*validator = (struct validator){ .done = done, .data = data };
	assert(sd_event_add_defer(daemon->event, &validator->defer, on_validated, validator) >= 0);
	*ret = validator;
	return 0;
}

/* ---- no hardware ---- */

struct power_core {
	struct power_config config;
	sd_event_source *defer;
	enum power_state state;
	power_done_fn done;
	void *data;
};

const char *power_state_name(enum power_state state)
{
	static const char *const names[] = { "UNKNOWN", "OFF", "ON" };

	return names[state];
}

int power_check(const char *driver, const struct yaml_node *keys, struct problems *problems)
{
	(void)driver;
	(void)keys;
	(void)problems;
	return 0;
}

bool power_driver_has_deploy(const char *driver)
{
	(void)driver;
	return true;
}

static int on_power(sd_event_source *source, void *data)
{
	struct power *power = data;
	power_done_fn done = power->core->done;
	const struct power_result result = { .state = power->core->state, .verified = true };

	(void)source;
	power->core->done = NULL;
	done(power, &result, power->core->data);
	return 0;
}

int power_open(struct power **ret, const struct power_config *config, struct error *err)
{
	struct power *power = calloc(1, sizeof(*power));

	(void)err;
	assert(power);
	power->core = calloc(1, sizeof(*power->core));
	assert(power->core);
	power->core->config = *config;
	power->core->state = POWER_OFF;
	assert(sd_event_add_defer(config->event, &power->core->defer, on_power, power) >= 0);
	assert(sd_event_source_set_enabled(power->core->defer, SD_EVENT_OFF) >= 0);
	*ret = power;
	return 0;
}

struct power *power_close(struct power *power)
{
	if (power) {
		sd_event_source_disable_unref(power->core->defer);
		free(power->core);
	}
	free(power);
	return NULL;
}

static int start(struct power *power, power_done_fn done, void *data)
{
	assert(!power->core->done);
	power->core->done = done;
	power->core->data = data;
	return sd_event_source_set_enabled(power->core->defer, SD_EVENT_ONESHOT);
}

int power_prepare(struct power *power, const struct power_deploy *deploy, power_done_fn done,
		  void *data, struct error *err)
{
	(void)deploy;
	(void)err;
	return start(power, done, data);
}

int power_switch(struct power *power, bool on, power_done_fn done, void *data, struct error *err)
{
	(void)err;
	power->core->state = on ? POWER_ON : POWER_OFF;
	return start(power, done, data);
}

int power_read(struct power *power, power_done_fn done, void *data, struct error *err)
{
	(void)err;
	return start(power, done, data);
}

int power_end(struct power *power, power_done_fn done, void *data, struct error *err)
{
	return power_switch(power, false, done, data, err);
}

bool power_key_is_path(const char *driver, const char *key)
{
	(void)driver;
	(void)key;
	return false;
}

bool power_driver_is_virtual(const char *driver)
{
	(void)driver;
	return false;
}

void power_watch(struct power *power, void (*changed)(void *data), void *data)
{
	(void)power;
	(void)changed;
	(void)data;
}

void power_release(struct power *power)
{
	(void)power;
}

/* A console that is connected and silent. */
struct silent_console {
	struct console console;
	int board_fd;
};

int console_check(const char *driver, const struct yaml_node *keys, struct problems *problems)
{
	return power_check(driver, keys, problems);
}

int console_open(struct console **ret, const struct console_config *config, struct error *err)
{
	struct silent_console *silent = calloc(1, sizeof(*silent));

	(void)config;
	(void)err;
	assert(silent);
	silent->board_fd = -1;
	*ret = &silent->console;
	return 0;
}

struct console *console_close(struct console *console)
{
	struct silent_console *silent = (struct silent_console *)console;

	if (silent)
		(void)close_fd(silent->board_fd);
	free(silent);
	return NULL;
}

int console_connect(struct console *console, int *ret_fd, struct error *err)
{
	struct silent_console *silent = (struct silent_console *)console;
	int pair[2];

	(void)err;
	assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
	(void)close_fd(silent->board_fd);
	silent->board_fd = pair[0];
	*ret_fd = pair[1];
	return 0;
}

/* ---- dutd itself ---- */

static const char config_text[] =
	"limits: {job_file: 4KiB, bucket: 64KiB}\n"
	"duts:\n"
	"  d1: {tags: [a], aliases: [\"the first\"], power: {driver: x, min_off_time: 0, settle: 0},\n"
	"    console: {driver: x}}\n"
	"  d2: {tags: [b]}\n";

static const char ended_job[] =
	"{\"v\":1,\"id\":1,\"name\":\"n\",\"owner\":\"alice\",\"dut\":\"d1\",\"uid\":0,"
	"\"state\":\"ENDED\",\"status\":\"PASS\",\"reason\":\"ok\",\"attempt\":1,\"nonce\":\"x\","
	"\"boot_id\":\"y\",\"console_base\":100}";

static const char running_job[] =
	"{\"v\":1,\"id\":2,\"name\":\"m\",\"owner\":\"bob\",\"dut\":\"gone\",\"uid\":0,"
	"\"state\":\"RUNNING\",\"attempt\":1,\"nonce\":\"x\",\"boot_id\":\"y\"}";

static struct config *load_config(void)
{
	struct problems problems = { 0 };
	struct config *config;
	char path[512];

	fuzz_write("dutd.yaml", config_text, strlen(config_text));
	(void)snprintf(path, sizeof(path), "%s/dutd.yaml", fuzz_folder());
	assert(config_load(&config, path, &problems, NULL) == 0);
	return config;
}

void fuzz_daemon_write(const char *folder, const char *name, const void *data, size_t size)
{
	close_ int dir_fd = -1;

	assert(file_make_dir(&dir_fd, fuzz_folder_fd(), folder, 0700, NULL) == 0);
	assert(file_replace(dir_fd, name, data, size, 0600, NULL) == 0);
}

static void write_text(const char *folder, const char *name, const char *text)
{
	fuzz_daemon_write(folder, name, text, strlen(text));
}

/* A child is watched only where this is blocked, as main() does. */
static void block_sigchld(void)
{
	sigset_t child;

	(void)sigemptyset(&child);
	(void)sigaddset(&child, SIGCHLD);
	(void)sigprocmask(SIG_BLOCK, &child, NULL);
}

static void start_dutd(struct fuzz_daemon *lab)
{
	char state[512], runtime[512], config[512];
	const struct daemon_options options = {
		.config_path = config,
		.state_dir = state,
		.runtime_dir = runtime,
		.libexec_dir = "/",
	};

	(void)snprintf(state, sizeof(state), "%s/state", fuzz_folder());
	(void)snprintf(runtime, sizeof(runtime), "%s/runtime", fuzz_folder());
	(void)snprintf(config, sizeof(config), "%s/dutd.yaml", fuzz_folder());
	assert(sd_event_new(&lab->event) >= 0);
	assert(daemon_new(&lab->daemon, lab->event, &options, load_config(), NULL) == 0);
	fuzz_settle(lab->event);
}

void fuzz_daemon_start(struct fuzz_daemon *lab)
{
	block_sigchld();
	write_text("state/jobs", "1.json", ended_job);
	write_text("state/jobs", "2.json", running_job);
	write_text("state/jobs/1", "console.log", "what the board said\r\n");
	write_text("state/jobs/1", "events.jsonl", "{\"seq\": 0}\n");
	start_dutd(lab);
}

static void end_dutd(struct fuzz_daemon *lab)
{
	lab->daemon = daemon_free(lab->daemon);
	lab->event = sd_event_unref(lab->event);
}

void fuzz_daemon_restart(struct fuzz_daemon *lab)
{
	end_dutd(lab);
	start_dutd(lab);
}

void fuzz_daemon_end(struct fuzz_daemon *lab)
{
	end_dutd(lab);
	fuzz_daemon_set_validation(NULL);
	fuzz_clear();
}

void fuzz_daemon_reconnect(const struct fuzz_daemon *lab)
{
	struct lease *lease = fuzz_daemon_board(lab)->lease;

	if (!lease || lease->control_fd >= 0)
		return;
	lease_connect(lease);
	fuzz_settle(lab->event);
}

struct board *fuzz_daemon_board(const struct fuzz_daemon *lab)
{
	return daemon_find_board(lab->daemon, "d1");
}
