/* SPDX-License-Identifier: MIT */
#include "hw/qemu-command.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/cleanup.h"

enum { MAX_ARGUMENTS = 256 };

static const struct arch {
	const char *name, *program, *machine, *cpu;
} archs[] = {
	/* The first is the default. */
	{ "amd64", "qemu-system-x86_64", "q35", "max" },
	{ "i386", "qemu-system-i386", "pc", "max" },
	{ "arm64", "qemu-system-aarch64", "virt", "max" },
	{ "armhf", "qemu-system-arm", "virt", "cortex-a15" },
	{ "riscv64", "qemu-system-riscv64", "virt", "rv64" },
};

static const char *text_of(const struct yaml_node *keys, const char *key)
{
	const struct yaml_node *node = yaml_get(keys, key);

	return node && node->kind == YAML_SCALAR && !yaml_is_null(node) ? node->text : NULL;
}

static const struct arch *find_arch(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(archs); i++)
		if (strcmp(archs[i].name, name) == 0)
			return &archs[i];
	return NULL;
}

static void check_one_of(const struct yaml_node *keys, const char *key, bool known,
			 const char *list, struct problems *problems)
{
	if (!known)
		problems_add_at(problems, yaml_get(keys, key), key, "%s must be one of %s", key,
				list);
}

void qemu_command_check(const struct yaml_node *keys, struct problems *problems)
{
	static const char *const known[] = { "arch",	"machine",  "cpu",    "memory",
					     "accel",	"firmware", "kernel", "initramfs",
					     "cmdline", "args",	    NULL };
	const struct yaml_node *args = yaml_get(keys, "args");
	const char *arch = text_of(keys, "arch"), *accel = text_of(keys, "accel");

	yaml_check_keys(keys, NULL, known, problems);
	YAML_FOREACH(node, keys)
		if (node != args && node->kind != YAML_SCALAR)
			problems_add_at(problems, node, node->key, "%s must be a text", node->key);
	check_one_of(keys, "arch", !arch || find_arch(arch), "amd64, i386, arm64, armhf, riscv64",
		     problems);
	check_one_of(keys, "accel",
		     !accel || strcmp(accel, "tcg") == 0 || strcmp(accel, "kvm") == 0, "tcg, kvm",
		     problems);
	if (args && args->kind != YAML_SEQUENCE)
		problems_add_at(problems, args, "args", "args must be a list");
	else if (args)
		YAML_FOREACH(node, args)
			if (node->kind != YAML_SCALAR)
				problems_add_at(problems, node, "args",
						"each of args must be a text");
}

printf_(2, 3) static int add(struct qemu_command *command, const char *format, ...)
{
	va_list arguments;
	int r;

	if (command->count + 1 >= MAX_ARGUMENTS)
		return -E2BIG;
	va_start(arguments, format);
	r = vasprintf(&command->argv[command->count], format, arguments);
	va_end(arguments);
	if (r < 0) {
		command->argv[command->count] = NULL;
		return -ENOMEM;
	}
	command->count++;
	return 0;
}

static int add_pair(struct qemu_command *command, const char *option, const char *value)
{
	int r = value ? add(command, "%s", option) : 0;

	return value && r >= 0 ? add(command, "%s", value) : r;
}

/* A path of the configuration is meant relative to the file that it stands in. */
static int add_path(struct qemu_command *command, const char *option, const struct yaml_node *node)
{
	const char *slash = node && node->file ? strrchr(node->file, '/') : NULL;
	int r;

	if (!node || yaml_is_null(node))
		return 0;
	if (node->text[0] == '/' || !slash)
		return add_pair(command, option, node->text);
	r = add(command, "%s", option);
	return r < 0 ? r
		     : add(command, "%.*s/%s", (int)(slash - node->file), node->file, node->text);
}

/* What a job brings, else what the configuration names. */
static int add_file(struct qemu_command *command, const char *option, int deployed_fd, int fd,
		    const struct yaml_node *node)
{
	int r;

	if (deployed_fd < 0)
		return add_path(command, option, node);
	r = add(command, "%s", option);
	return r < 0 ? r : add(command, "/proc/self/fd/%d", fd);
}

/* posix_spawn() of ours does not search; an administrator's own build in /usr/local comes first, as
 * in a shell. */
static int find_program(char **ret, const char *name, struct error *err)
{
	static const char *const folders[] = { "/usr/local/bin", "/usr/bin", "/bin" };

	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		char *path;

		if (asprintf(&path, "%s/%s", folders[i], name) < 0)
			return error_oom(err);
		if (access(path, X_OK) == 0) {
			*ret = path;
			return 0;
		}
		free(path);
	}
	return error_set(err, -ENOENT, "%s is not installed", name);
}

static int add_all(struct qemu_command *command, const struct arch *arch, const char *program,
		   const struct yaml_node *keys, const struct power_config *config,
		   const struct power_deploy *deploy)
{
	static const struct power_deploy none = { .kernel_fd = -1,
						  .initramfs_fd = -1,
						  .dtb_fd = -1 };
	const char *machine = text_of(keys, "machine"), *cpu = text_of(keys, "cpu");
	const char *memory = text_of(keys, "memory"), *accel = text_of(keys, "accel");
	const char *cmdline = text_of(keys, "cmdline");
	const struct yaml_node *initramfs = yaml_get(keys, "initramfs");
	int r = 0;

	deploy = deploy ? deploy : &none;
	/* posix_spawn() changes no user, and QEMU's own way to do it has changed its name. */
	if (config->user) {
		r = r < 0 ? r : add(command, "setpriv");
		r = r < 0 ? r : add_pair(command, "--reuid", config->user);
		r = r < 0 ? r : add_pair(command, "--regid", config->user);
		r = r < 0 ? r : add(command, "--init-groups");
	}
	/* What is configured for kernels that jobs bring is nothing for a boot without one. */
	if (deploy->kernel_fd < 0 && !text_of(keys, "kernel")) {
		cmdline = NULL;
		initramfs = NULL;
	}
	if (deploy->cmdline)
		cmdline = deploy->cmdline;
	r = r < 0 ? r : add(command, "%s", config->user ? program : arch->program);
	r = r < 0 ? r : add_pair(command, "-name", config->board);
	r = r < 0 ? r : add_pair(command, "-accel", accel ? accel : "tcg");
	r = r < 0 ? r : add_pair(command, "-machine", machine ? machine : arch->machine);
	r = r < 0 ? r : add_pair(command, "-cpu", cpu ? cpu : arch->cpu);
	r = r < 0 ? r : add_pair(command, "-m", memory ? memory : "256M");
	r = r < 0 ? r : add(command, "-nodefaults");
	r = r < 0 ? r : add(command, "-no-user-config");
	r = r < 0 ? r : add_pair(command, "-display", "none");
	r = r < 0 ? r : add(command, "-S");
	r = r < 0 ? r : add(command, "-no-shutdown");
	/* Its folder is not that user's. */
	if (!config->user) {
		r = r < 0 ? r : add(command, "-pidfile");
		r = r < 0 ? r : add(command, "%s/qemu.pid", config->runtime_dir);
	}
	r = r < 0 ? r : add(command, "-chardev");
	r = r < 0 ? r : add(command, "socket,id=dut-qmp,fd=%d,server=on,wait=off", QEMU_FD_QMP);
	r = r < 0 ? r : add_pair(command, "-mon", "chardev=dut-qmp,mode=control");
	r = r < 0 ? r : add(command, "-chardev");
	r = r < 0 ? r
		  : add(command, "socket,id=dut-console,fd=%d,server=on,wait=off", QEMU_FD_CONSOLE);
	r = r < 0 ? r : add_pair(command, "-serial", "chardev:dut-console");
	r = r < 0 ? r : add_path(command, "-bios", yaml_get(keys, "firmware"));
	r = r < 0 ? r
		  : add_file(command, "-kernel", deploy->kernel_fd, QEMU_FD_KERNEL,
			     yaml_get(keys, "kernel"));
	r = r < 0 ? r
		  : add_file(command, "-initrd", deploy->initramfs_fd, QEMU_FD_INITRAMFS,
			     initramfs);
	r = r < 0 ? r : add_file(command, "-dtb", deploy->dtb_fd, QEMU_FD_DTB, NULL);
	r = r < 0 ? r : add_pair(command, "-append", cmdline);
	if (yaml_get(keys, "args"))
		YAML_FOREACH(node, yaml_get(keys, "args"))
			r = r < 0 ? r : add(command, "%s", node->text);
	return r;
}

int qemu_command_make(struct qemu_command *command, const struct power_config *config,
		      const struct power_deploy *deploy, struct error *err)
{
	const char *name = text_of(config->keys, "arch");
	const struct arch *arch = name ? find_arch(name) : &archs[0];
	free_ char *program = NULL;
	int r;

	if (!arch)
		return error_set(err, -EINVAL, "arch '%s' is not known", name);
	r = find_program(&program, arch->program, err);
	if (r < 0)
		return r;
	if (config->user)
		r = find_program(&command->path, "setpriv", err);
	else
		command->path = take_ptr(program);
	if (r < 0)
		return r;
	command->argv = calloc(MAX_ARGUMENTS, sizeof(*command->argv));
	if (!command->argv)
		return error_oom(err);
	r = add_all(command, arch, program, config->keys, config, deploy);
	if (r == -E2BIG)
		return error_set(err, r, "QEMU gets more than %d arguments", MAX_ARGUMENTS);
	return r < 0 ? error_oom(err) : 0;
}

void qemu_command_done(struct qemu_command *command)
{
	for (size_t i = 0; i < command->count; i++)
		free(command->argv[i]);
	free(command->argv);
	free(command->path);
	*command = (struct qemu_command){ 0 };
}
