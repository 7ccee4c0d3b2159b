/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "dut/config.h"
#include "tests/fuzz/fuzz.h"

/* dutd.yaml, and what lies beside it, with the checks of the drivers. */

CLEANUP_DEFINE(struct config *, config_free)

static void check_dut(const struct config *config, const struct config_dut *dut)
{
	assert(config_find_dut(config, dut->id) == dut);
	for (char **alias = dut->aliases; alias && *alias; alias++)
		assert(config_find_dut(config, *alias) == dut);
	for (size_t i = 0; i < dut->n_consoles; i++)
		assert(dut->consoles[i].name && dut->consoles[i].driver);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = { "dutd.yaml", "types.d/t.yaml", "duts.d/a.yaml",
					     "duts.d/b.yaml" };
	cleanup_(config_freep) struct config *config = NULL;
	struct fuzz_part rest = { data, size }, part;
	struct problems problems = { 0 };
	struct error err;
	char path[512];
	int r;

	fuzz_begin();
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!fuzz_next_part(&rest, &part))
			part = (struct fuzz_part){ (const uint8_t *)"", 0 };
		fuzz_write(names[i], part.data, part.size);
	}
	(void)snprintf(path, sizeof(path), "%s/dutd.yaml", fuzz_folder());
	r = config_load(&config, path, &problems, &err);
	assert(r == 0 || r == -EBADMSG);
	assert((r == 0) == !problems_any(&problems));
	for (size_t i = 0; i < problems.count; i++)
		assert(problems.items[i].text && problems.items[i].file);
	problems_done(&problems);
	for (size_t i = 0; config && i < config->n_duts; i++)
		check_dut(config, config->duts[i]);
	return 0;
}
