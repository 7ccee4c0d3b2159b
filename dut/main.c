/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/problem.h"
#include "dut/config.h"
#include "dut/daemon.h"
#include "dut/reload.h"

/* Exit codes; see dut(1). */
enum { KEPT_HEAP = 1 << 20 }; /* bytes */

enum {
	EXIT_USAGE = 64,
	EXIT_CONFIG = 65,
	EXIT_INTERNAL = 70,
	EXIT_LAB = 74,
	EXIT_BUSY = 75,
	EXIT_DENIED = 77
};

static const char help[] =
	"usage: dutd [OPTION...]\n"
	"Owns the power and the consoles of the boards on this machine, and starts an executor for each job.\n"
	"\n"
	"  --config FILE      configuration (" DUT_SYSCONF_DIR "/dutd.yaml)\n"
	"  --state-dir DIR    what has to survive a reboot (/var/lib/dutd)\n"
	"  --runtime-dir DIR  sockets (/run/dutd)\n"
	"  --libexec-dir DIR  dut-executor and its companions (" DUT_LIBEXEC_DIR ")\n"
	"  --check            check the configuration, print what is wrong with it, and leave\n"
	"  --debug            log more\n"
	"  --help, --version\n"
	"\n"
	"With the folders given it runs for an ordinary user. See dutd(8) and dutd.yaml(5).\n";

struct arguments {
	struct daemon_options options;
	bool check, leave;
};

/* 0, or an exit code. */
static int parse_arguments(int argc, char **argv, struct arguments *arguments)
{
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "state-dir", required_argument, NULL, 's' },
		{ "runtime-dir", required_argument, NULL, 'r' },
		{ "libexec-dir", required_argument, NULL, 'l' },
		{ "check", no_argument, NULL, 'k' },
		{ "debug", no_argument, NULL, 'd' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (option) {
		case 'c':
			arguments->options.config_path = optarg;
			break;
		case 's':
			arguments->options.state_dir = optarg;
			break;
		case 'r':
			arguments->options.runtime_dir = optarg;
			break;
		case 'l':
			arguments->options.libexec_dir = optarg;
			break;
		case 'k':
			arguments->check = true;
			break;
		case 'd':
			log_set_level(LOG_DEBUG);
			break;
		case 'h':
			(void)fputs(help, stdout);
			arguments->leave = true;
			return 0;
		case 'v':
			(void)puts("dutd " DUT_VERSION);
			arguments->leave = true;
			return 0;
		default:
			(void)fputs("dutd: see dutd --help\n", stderr);
			return EXIT_USAGE;
		}
	}
	if (optind < argc) {
		(void)fprintf(stderr, "dutd: '%s' is no option; see dutd --help\n", argv[optind]);
		return EXIT_USAGE;
	}
	return 0;
}

static void print_problems(const struct problems *problems)
{
	for (size_t i = 0; i < problems->count; i++) {
		const struct problem *problem = &problems->items[i];

		(void)fprintf(stderr, "%s:%u:%u: %s\n", problem->file ? problem->file : "dutd",
			      problem->line, problem->column, problem->text);
	}
	if (problems->lost)
		(void)fprintf(stderr, "dutd: and %zu more\n", problems->lost);
}

/* 0, or an exit code; what is wrong has been printed. */
static int load(const struct arguments *arguments, struct config **ret)
{
	struct problems problems = { 0 };
	struct error err = { "" };
	int r = config_load(ret, arguments->options.config_path, &problems, &err);

	print_problems(&problems);
	if (r < 0 && !problems_any(&problems))
		(void)fprintf(stderr, "dutd: %s\n", err.text);
	problems_done(&problems);
	return r < 0 ? EXIT_CONFIG : 0;
}

static int on_hangup(sd_event_source *source, const struct signalfd_siginfo *info, void *data)
{
	struct daemon **daemon = data;

	(void)source;
	(void)info;
	if (*daemon)
		reload_on_signal((*daemon)->reload);
	return 0;
}

/* data is the daemon, once there is one. */
static int on_end(sd_event_source *source, const struct signalfd_siginfo *info, void *data)
{
	struct daemon **daemon = data;

	(void)info;
	if (*daemon)
		daemon_stop(*daemon);
	else
		(void)sd_event_exit(sd_event_source_get_event(source), 0);
	return 0;
}

/* Each viewer and each board takes some; what a service manager allows is meant to be used. */
static void raise_fd_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int make_loop(sd_event **ret, struct daemon **daemon, struct error *err)
{
	static const int signals[] = { SIGCHLD, SIGTERM, SIGINT, SIGHUP };
	sigset_t blocked;
	sd_event *event = NULL;
	int r;

	(void)signal(SIGPIPE, SIG_IGN);
	(void)sigemptyset(&blocked);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		(void)sigaddset(&blocked, signals[i]);
	(void)sigprocmask(SIG_BLOCK, &blocked, NULL);
	/* The default loop would ask the kernel in each turn which thread it is in. */
	r = sd_event_new(&event);
	if (r >= 0)
		r = sd_event_add_signal(event, NULL, SIGTERM, on_end, daemon);
	if (r >= 0)
		r = sd_event_add_signal(event, NULL, SIGINT, on_end, daemon);
	if (r >= 0)
		r = sd_event_add_signal(event, NULL, SIGHUP, on_hangup, daemon);
	if (r >= 0)
		r = sd_event_set_watchdog(event, true);
	if (r < 0)
		return error_code(err, r, "cannot make the event loop");
	*ret = event;
	return 0;
}

static int serve(const struct daemon_options *options, struct config *config)
{
	struct daemon *daemon = NULL;
	sd_event *event = NULL;
	struct error err;
	int r;

	raise_fd_limit();
	/* What a client's connection takes goes to the next one, and not to the kernel and back. */
	(void)mallopt(M_TRIM_THRESHOLD, KEPT_HEAP);
	r = make_loop(&event, &daemon, &err);
	if (r < 0)
		config_free(config);
	else
		r = daemon_new(&daemon, event, options, config, &err);
	if (r < 0) {
		log_msg(LOG_ERR, "%s", err.text);
		sd_event_unref(event);
		return r == -EWOULDBLOCK	     ? EXIT_BUSY
		       : r == -EACCES || r == -EPERM ? EXIT_DENIED
						     : EXIT_LAB;
	}
	log_msg(LOG_NOTICE, "dutd %s serves %zu DUTs on %s/dutd.sock", DUT_VERSION,
		daemon->config->n_duts, daemon->runtime_dir);
	(void)sd_notify(false, "READY=1");
	r = sd_event_loop(event);
	(void)sd_notify(false, "STOPPING=1");
	daemon_free(daemon);
	sd_event_unref(event);
	if (r < 0) {
		log_msg(LOG_ERR, "the event loop failed: %s", strerror(-r));
		return EXIT_INTERNAL;
	}
	return 0;
}

int main(int argc, char **argv)
{
	const char *libexec = getenv("DUT_LIBEXEC_DIR");
	struct arguments arguments = {
		.options = {
			.config_path = DUT_SYSCONF_DIR "/dutd.yaml",
			.state_dir = "/var/lib/dutd",
			.runtime_dir = "/run/dutd",
			.libexec_dir = libexec && *libexec ? libexec : DUT_LIBEXEC_DIR,
		},
	};
	struct config *config = NULL;
	int code;

	code = parse_arguments(argc, argv, &arguments);
	if (code || arguments.leave)
		return code;
	code = load(&arguments, &config);
	if (code)
		return code;
	if (arguments.check) {
		(void)printf("%s: %zu DUTs, no problem found\n", arguments.options.config_path,
			     config->n_duts);
		config_free(config);
		return 0;
	}
	return serve(&arguments.options, config);
}
