/* SPDX-License-Identifier: MIT */
#include "dut/config-internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "hw/console.h"
#include "hw/power.h"

enum { USEC_PER_SEC = 1000000 };

/* The keys of power, of a console, and of `qemu` or `sim`, that are dutd's own; the others are the
 * driver's. */
static const char *const own_power_keys[] = {
	"driver", "min_off_time", "settle", "after_job", "at_start", "before_off", NULL,
};
static const char *const own_console_keys[] = { "driver", "dut_tty", NULL };
static const char *const own_short_keys[] = {
	"min_off_time", "settle", "after_job", "at_start", "before_off", "dut_tty", NULL,
};

/* A mapping without the keys that are dutd's own, for its driver; NULL when memory ran out. */
static const struct yaml_node *driver_keys(struct config_loader *loader,
					   const struct yaml_node *mapping, const char *const *own)
{
	struct yaml_tree *tree = NULL;

	if (yaml_copy_without(&tree, mapping, own) < 0 ||
	    config_keep_tree(loader->trees, tree) < 0) {
		loader->out_of_memory = true;
		return NULL;
	}
	return yaml_root(tree);
}

/*
 * A driver cannot know which keys beside its own dutd reads itself: where it found a key unknown
 * and had nothing to suggest, one of those may be meant.
 */
static void suggest_own_keys(struct problems *problems, size_t from,
			     const struct yaml_node *mapping, const char *const *own)
{
	for (size_t i = from; i < problems->count; i++) {
		struct problem *problem = &problems->items[i];

		YAML_FOREACH(child, mapping) {
			const char *nearest = text_nearest(child->key, own);
			char plain[256];
			char *text;

			(void)snprintf(plain, sizeof(plain), "unknown key '%.100s'", child->key);
			if (!nearest || child->key_line != problem->line ||
			    child->key_column != problem->column ||
			    strcmp(plain, problem->text) != 0 ||
			    asprintf(&text, "%s, did you mean '%s'?", plain, nearest) < 0)
				continue;
			free(problem->text);
			problem->text = text;
		}
	}
}

/* A driver that there is none of is a fault of `driver`, which the check does not see. */
static void point_at_driver(struct config_loader *loader, size_t from,
			    const struct yaml_node *mapping)
{
	const struct yaml_node *driver = yaml_get(mapping, "driver");

	for (size_t i = from; driver && i < loader->problems->count; i++) {
		struct problem *problem = &loader->problems->items[i];
		char *file = config_copy(loader, driver->file);

		if (!file)
			return;
		free(problem->file);
		problem->file = file;
		problem->line = driver->line;
		problem->column = driver->column;
	}
}

typedef int (*check_fn)(const char *driver, const struct yaml_node *keys,
			struct problems *problems);

/* Has a mapping checked by its driver; the keys for it, or NULL when it is no good. */
static const struct yaml_node *check_driver(struct config_loader *loader, check_fn check,
					    const char *driver, const struct yaml_node *mapping,
					    const char *const *own)
{
	const struct yaml_node *keys = driver_keys(loader, mapping, own);
	size_t before = loader->problems->count;
	int r;

	if (!keys)
		return NULL;
	r = check(driver, keys, loader->problems);
	if (r < 0)
		point_at_driver(loader, before, mapping);
	suggest_own_keys(loader->problems, before, mapping, own);
	return r < 0 ? NULL : keys;
}

static bool is_virtual(const char *driver)
{
	return driver && (strcmp(driver, "qemu") == 0 || strcmp(driver, "sim") == 0);
}

/* What holds for power whatever the driver. */
static void read_own_power_keys(const struct config_section *power, struct config_dut *dut)
{
	static const char *const after_job[] = { "off", "on", "leave", NULL };
	static const char *const at_start[] = { "leave", "off", NULL };
	bool virtual = is_virtual(dut->power_driver);
	unsigned word;

	dut->min_off_us = virtual ? 0 : UINT64_C(5) * USEC_PER_SEC;
	dut->settle_us = virtual ? 0 : USEC_PER_SEC;
	config_read_duration(power, "min_off_time", &dut->min_off_us);
	config_read_duration(power, "settle", &dut->settle_us);
	word = AFTER_JOB_OFF;
	config_read_word(power, "after_job", after_job, &word);
	dut->after_job = (enum after_job)word;
	word = 0;
	config_read_word(power, "at_start", at_start, &word);
	dut->off_at_start = word == 1;
	config_refuse_not_yet(power, "before_off", "power.before_off");
}

static void read_power(const struct config_section *section, struct config_dut *dut)
{
	struct config_section power;

	config_section_at(&power, section, "power", NULL);
	if (!power.mapping)
		return;
	if (config_get(&power, "pdu")) {
		config_refuse_not_yet(&power, "pdu", "power.pdu");
		return;
	}
	if (!config_get(&power, "driver")) {
		problems_add_at(section->loader->problems, power.mapping, power.path,
				"power: needs a driver");
		return;
	}
	config_read_text(&power, "driver", &dut->power_driver);
	read_own_power_keys(&power, dut);
	if (!dut->power_driver)
		return;
	dut->power_keys = check_driver(section->loader, power_check, dut->power_driver,
				       power.mapping, own_power_keys);
}

/* A new console, named and zeroed, or NULL. */
static struct config_console *add_console(struct config_loader *loader, struct config_dut *dut,
					  const char *name)
{
	struct config_console *consoles;

	consoles = reallocarray(dut->consoles, dut->n_consoles + 1, sizeof(*consoles));
	if (!consoles) {
		loader->out_of_memory = true;
		return NULL;
	}
	dut->consoles = consoles;
	consoles[dut->n_consoles] = (struct config_console){ .name = config_copy(loader, name) };
	return &consoles[dut->n_consoles++];
}

static void read_dut_tty(const struct config_section *section, struct config_console *console)
{
	const struct yaml_node *node = config_get(section, "dut_tty");

	config_read_text(section, "dut_tty", &console->dut_tty);
	if (console->dut_tty && strpbrk(console->dut_tty, " ,/"))
		config_problem(section, node,
			       "needs a name such as ttyS0, without a path or speed");
}

/* A virtual board has one console, which exists only while its power driver runs the board. */
static void check_virtual_console(const struct config_section *console, const char *driver,
				  const struct config_dut *dut)
{
	const struct yaml_node *node = config_get(console, "driver");

	if (!is_virtual(driver))
		return;
	if (!dut->power_driver || strcmp(dut->power_driver, driver) != 0)
		config_problem(console, node, "'%s' needs the power driver '%s' as well", driver,
			       driver);
	for (size_t i = 0; i + 1 < dut->n_consoles; i++)
		if (dut->consoles[i].driver && strcmp(dut->consoles[i].driver, driver) == 0) {
			config_problem(console, node, "a '%s' board has one console only", driver);
			return;
		}
}

static void read_console(const struct config_section *section, struct config_dut *dut,
			 const char *name)
{
	struct config_loader *loader = section->loader;
	struct config_console *console = add_console(loader, dut, name);

	if (!console || !section->mapping)
		return;
	if (!config_get(section, "driver")) {
		problems_add_at(loader->problems, section->mapping, section->path,
				"%s: needs a driver", section->mapping->key);
		return;
	}
	config_read_text(section, "driver", &console->driver);
	read_dut_tty(section, console);
	if (!console->driver)
		return;
	console->keys = check_driver(loader, console_check, console->driver, section->mapping,
				     own_console_keys);
	if (console->keys)
		check_virtual_console(section, console->driver, dut);
}

static void read_consoles(const struct config_section *section, struct config_dut *dut)
{
	const struct yaml_node *one = config_get(section, "console");
	const struct yaml_node *many = config_get(section, "consoles");
	struct config_section console, consoles;

	if (one && many) {
		config_problem(section, one, "cannot stand beside 'consoles'");
		return;
	}
	if (one) {
		config_section_at(&console, section, "console", NULL);
		read_console(&console, dut, "main");
	}
	config_section_at(&consoles, section, "consoles", NULL);
	if (!consoles.mapping)
		return;
	YAML_FOREACH(child, consoles.mapping) {
		if (!config_is_name(section->loader, child))
			continue;
		config_section_at(&console, &consoles, child->key, NULL);
		if (console.mapping)
			read_console(&console, dut, child->key);
		else if (yaml_is_null(child))
			config_problem(&consoles, child, "needs a driver");
	}
}

/* `deploy: qemu`, or a mapping with `driver` and its keys. */
static void read_deploy(const struct config_section *section, struct config_dut *dut)
{
	static const char *const later[] = { "netboot", "uboot", "command", NULL };
	const struct yaml_node *node = config_get(section, "deploy"), *driver = node;
	const char *name;

	if (node && node->kind == YAML_MAPPING)
		driver = yaml_get(node, "driver");
	if (!node)
		return;
	if (!driver || yaml_is_null(driver)) {
		config_problem(section, node, "needs a driver");
		return;
	}
	name = config_node_text(section, driver);
	if (!name)
		return;
	for (size_t i = 0; later[i]; i++)
		if (strcmp(later[i], name) == 0) {
			problems_add_at(section->loader->problems, driver, "deploy",
					"not yet: deploy driver '%s'", name);
			return;
		}
	if (!power_driver_has_deploy(name)) {
		config_problem(section, node, "no deploy driver '%s'", name);
		return;
	}
	if (!dut->power_driver || strcmp(dut->power_driver, name) != 0) {
		config_problem(section, node, "'%s' needs the power driver '%s' as well", name,
			       name);
		return;
	}
	if (node->kind == YAML_MAPPING) {
		static const char *const known[] = { "driver", NULL };

		yaml_check_keys(node, "deploy", known, section->loader->problems);
	}
	dut->deploy_driver = config_copy(section->loader, name);
}

/* The name that Linux gives to the console of QEMU's usual machine. */
static const char *qemu_tty(const struct yaml_node *keys)
{
	const struct yaml_node *arch = yaml_get(keys, "arch");

	if (arch && arch->kind == YAML_SCALAR && strncmp(arch->text, "arm", 3) == 0)
		return "ttyAMA0";
	return "ttyS0";
}

static void set_default_tty(struct config_loader *loader, struct config_dut *dut)
{
	for (size_t i = 0; i < dut->n_consoles; i++) {
		struct config_console *console = &dut->consoles[i];

		if (!console->dut_tty && console->driver && strcmp(console->driver, "qemu") == 0)
			console->dut_tty = config_copy(loader, qemu_tty(dut->power_keys));
	}
}

/* `qemu: {...}` and `sim: {...}`. */
static void read_short_form(const struct config_section *section, struct config_dut *dut,
			    const char *driver)
{
	static const char *const stands_for[] = { "power", "console", "consoles", "deploy", NULL };
	struct config_loader *loader = section->loader;
	struct config_console *console;
	struct config_section keys;

	for (size_t i = 0; stands_for[i]; i++) {
		const struct yaml_node *node = config_get(section, stands_for[i]);

		if (node)
			config_problem(section, node,
				       "cannot stand beside '%s', which stands for it", driver);
	}
	config_section_at(&keys, section, driver, NULL);
	console = add_console(loader, dut, "main");
	dut->power_driver = config_copy(loader, driver);
	if (!console || !dut->power_driver || !keys.mapping)
		return;
	console->driver = config_copy(loader, driver);
	read_dut_tty(&keys, console);
	read_own_power_keys(&keys, dut);
	if (power_driver_has_deploy(driver))
		dut->deploy_driver = config_copy(loader, driver);
	dut->power_keys = check_driver(loader, power_check, driver, keys.mapping, own_short_keys);
}

void config_read_hardware(const struct config_section *section, struct config_dut *dut)
{
	const struct yaml_node *qemu = config_get(section, "qemu");
	const struct yaml_node *sim = config_get(section, "sim");

	if (qemu && sim) {
		config_problem(section, sim, "cannot stand beside 'qemu'");
	} else if (qemu || sim) {
		read_short_form(section, dut, qemu ? "qemu" : "sim");
	} else {
		read_power(section, dut);
		read_consoles(section, dut);
		read_deploy(section, dut);
	}
	set_default_tty(section->loader, dut);
}
