/* SPDX-License-Identifier: MIT */
#include "dut/config-internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "hw/console.h"
#include "hw/power.h"

enum { USEC_PER_SEC = 1000000, ALIAS_MAX = 255 };

/* Of types and DUTs. */
#define SHARED_KEYS                                                                        \
	"description", "tags", "variables", "power", "console", "consoles", "qemu", "sim", \
		"deploy", "reset", "buttons", "training", "export"

static const char *const type_keys[] = { SHARED_KEYS, NULL };
static const char *const dut_keys[] = { SHARED_KEYS, "type", "aliases", "mac", NULL };

/* The keys of `power`, `qemu` and `sim` that are dutd's own; the others are the driver's. */
#define OWN_POWER_KEYS "min_off_time", "settle", "after_job", "at_start", "before_off"

static const char *const own_power_keys[] = { "driver", OWN_POWER_KEYS, NULL };
static const char *const own_console_keys[] = { "driver", "dut_tty", NULL };
static const char *const own_short_keys[] = { OWN_POWER_KEYS, "dut_tty", NULL };

void config_dut_done(struct config_dut *dut)
{
	free(dut->id);
	free(dut->description);
	for (char **alias = dut->aliases; alias && *alias; alias++)
		free(*alias);
	free(dut->aliases);
	for (char **tag = dut->tags; tag && *tag; tag++)
		free(*tag);
	free(dut->tags);
	free(dut->mac);
	json_decref(dut->variables);
	free(dut->power_driver);
	for (size_t i = 0; i < dut->n_consoles; i++) {
		free(dut->consoles[i].name);
		free(dut->consoles[i].driver);
		free(dut->consoles[i].dut_tty);
	}
	free(dut->consoles);
	free(dut->deploy_driver);
}

/* ---- types ---- */

static const struct yaml_node *find_type(const struct config_loader *loader, const char *name)
{
	for (size_t i = 0; i < loader->n_types; i++)
		if (strcmp(loader->types[i]->key, name) == 0)
			return loader->types[i];
	return NULL;
}

/* Whether a file's root, or an entry of it, is a mapping; nothing at all is well. */
static bool is_mapping(struct config_loader *loader, const struct yaml_node *node, const char *what)
{
	if (node->kind == YAML_MAPPING)
		return true;
	if (!yaml_is_null(node))
		problems_add_at(loader->problems, node, node->key, "%s needs keys with values",
				what);
	return false;
}

static bool is_legal_name(struct config_loader *loader, const struct yaml_node *node)
{
	if (text_is_name(node->key))
		return true;
	problems_add(loader->problems, node->file, node->key_line, node->key_column, node->key,
		     "'%s' is no name: a letter, then at most 62 letters, digits, '_', '.', '-'",
		     node->key);
	return false;
}

static void add_type(struct config_loader *loader, const struct yaml_node *node)
{
	const struct yaml_node *other = find_type(loader, node->key), **types;

	if (other) {
		problems_add(loader->problems, node->file, node->key_line, node->key_column,
			     node->key, "type '%s' stands already at %s:%u:%u", node->key,
			     other->file, other->key_line, other->key_column);
		return;
	}
	types = reallocarray(loader->types, loader->n_types + 1, sizeof(const struct yaml_node *));
	if (!types) {
		loader->out_of_memory = true;
		return;
	}
	loader->types = types;
	types[loader->n_types++] = node;
}

void config_read_types(struct config_loader *loader, const struct yaml_node *root)
{
	if (!is_mapping(loader, root, "a file of types"))
		return;
	YAML_FOREACH(child, root) {
		if (!is_legal_name(loader, child))
			continue;
		if (is_mapping(loader, child, child->key))
			yaml_check_keys(child, child->key, type_keys, loader->problems);
		add_type(loader, child);
	}
}

/* The DUT's own keys over those of its type; NULL when memory ran out. */
static const struct yaml_node *merge_type(struct config_loader *loader,
					  const struct yaml_node *node)
{
	const struct yaml_node *type = yaml_get(node, "type");
	const struct yaml_node *below;
	struct yaml_tree *tree = NULL;

	if (!type || yaml_is_null(type))
		return node;
	if (type->kind != YAML_SCALAR) {
		problems_add_at(loader->problems, type, "type", "type: needs the name of a type");
		return node;
	}
	below = find_type(loader, type->text);
	if (!below) {
		problems_add_at(loader->problems, type, "type", "type: there is no '%s' in types.d",
				type->text);
		return node;
	}
	if (below->kind != YAML_MAPPING)
		return node;
	if (yaml_merge(&tree, below, node) < 0 || config_keep_tree(loader, tree) < 0) {
		loader->out_of_memory = true;
		return NULL;
	}
	return yaml_root(tree);
}

/* ---- drivers ---- */

/* A mapping without the keys that are dutd's own, for its driver; NULL when memory ran out. */
static const struct yaml_node *driver_keys(struct config_loader *loader,
					   const struct yaml_node *mapping, const char *const *own)
{
	struct yaml_tree *tree = NULL;

	if (yaml_copy_without(&tree, mapping, own) < 0 || config_keep_tree(loader, tree) < 0) {
		loader->out_of_memory = true;
		return NULL;
	}
	return yaml_root(tree);
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
	dut->power_keys = driver_keys(section->loader, power.mapping, own_power_keys);
	if (dut->power_keys)
		(void)power_check(dut->power_driver, dut->power_keys, section->loader->problems);
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

/* A virtual board's console exists only while its power driver runs the board. */
static void check_virtual_console(const struct config_section *console, const char *driver,
				  const struct config_dut *dut)
{
	if (is_virtual(driver) && (!dut->power_driver || strcmp(dut->power_driver, driver) != 0))
		config_problem(console, config_get(console, "driver"),
			       "'%s' needs the power driver '%s' as well", driver, driver);
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
	console->keys = driver_keys(loader, section->mapping, own_console_keys);
	if (console->keys && console_check(console->driver, console->keys, loader->problems) >= 0)
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
		if (!is_legal_name(section->loader, child))
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
	dut->power_keys = driver_keys(loader, keys.mapping, own_short_keys);
	if (dut->power_keys)
		(void)power_check(driver, dut->power_keys, loader->problems);
}

static void read_hardware(const struct config_section *section, struct config_dut *dut)
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

/* ---- the DUT ---- */

static void read_aliases(const struct config_section *section, struct config_dut *dut)
{
	const struct yaml_node *node = config_get(section, "aliases");

	config_read_texts(section, "aliases", &dut->aliases);
	if (!node || node->kind != YAML_SEQUENCE)
		return;
	YAML_FOREACH(child, node)
		if (child->kind == YAML_SCALAR && strchr(child->text, '/'))
			problems_add_at(section->loader->problems, child, "aliases",
					"alias '%s' holds a '/'", child->text);
		else if (child->kind == YAML_SCALAR && child->length > ALIAS_MAX)
			problems_add_at(section->loader->problems, child, "aliases",
					"this alias is over %d bytes", ALIAS_MAX);
}

static bool is_mac(const char *text)
{
	for (size_t i = 0; i < 17; i++)
		if (i % 3 == 2 ? text[i] != ':' : !isxdigit((unsigned char)text[i]))
			return false;
	return text[17] == '\0';
}

static void read_mac(const struct config_section *section, struct config_dut *dut)
{
	config_read_text(section, "mac", &dut->mac);
	if (!dut->mac)
		return;
	if (!is_mac(dut->mac))
		config_problem(section, config_get(section, "mac"),
			       "needs to be such as 02:00:00:12:34:56");
	for (char *at = dut->mac; *at; at++)
		*at = (char)tolower((unsigned char)*at);
}

static void read_dut(struct config_loader *loader, const struct yaml_node *node,
		     struct config_dut *dut)
{
	struct config_section section;

	dut->id = config_copy(loader, node->key);
	dut->node = merge_type(loader, node);
	if (!dut->node)
		return;
	config_section_init(&section, loader, node->key, dut->node, dut_keys);
	config_read_text(&section, "description", &dut->description);
	read_aliases(&section, dut);
	config_read_texts(&section, "tags", &dut->tags);
	read_mac(&section, dut);
	dut->variables = json_copy(loader->config->variables);
	if (dut->variables)
		config_read_variables(&section, dut->variables);
	else
		loader->out_of_memory = true;
	read_hardware(&section, dut);
	config_refuse_not_yet(&section, "reset", "reset");
	config_refuse_not_yet(&section, "buttons", "buttons");
	config_refuse_not_yet(&section, "training", "training");
	config_refuse_not_yet(&section, "export", "export");
}

void config_read_duts(struct config_loader *loader, const struct yaml_node *root)
{
	struct config *config = loader->config;

	if (!is_mapping(loader, root, "a file of DUTs"))
		return;
	YAML_FOREACH(child, root) {
		struct config_dut *duts;

		if (!is_legal_name(loader, child))
			continue;
		duts = reallocarray(config->duts, config->n_duts + 1, sizeof(*duts));
		if (!duts) {
			loader->out_of_memory = true;
			return;
		}
		config->duts = duts;
		duts[config->n_duts] = (struct config_dut){ 0 };
		read_dut(loader, child, &duts[config->n_duts++]);
	}
}
