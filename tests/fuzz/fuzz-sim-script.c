/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <stdio.h>

#include "hw/sim-script.h"
#include "tests/fuzz/fuzz.h"

static void check_line(const struct sim_line *line)
{
	if (line->when == SIM_ON)
		assert(line->trigger_length > 0 && line->trigger_length <= SIM_TRIGGER_MAX);
	if (line->when == SIM_EVERY)
		assert(line->time_us > 0);
	if (line->action == SIM_FLOOD)
		assert(line->rate > 0);
	if (line->action == SIM_SEND)
		assert(line->text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sim_script script;
	struct error err;
	char path[512];
	int r;

	/* What `print` may name lies beside it. */
	fuzz_write("s.sim", data, size);
	fuzz_write("text", "what the board says", 19);
	(void)snprintf(path, sizeof(path), "%s/s.sim", fuzz_folder());
	r = sim_script_load(&script, path, &err);
	if (r < 0) {
		assert(err.text[0] && !script.lines);
		return 0;
	}
	for (size_t i = 0; i < script.count; i++)
		check_line(&script.lines[i]);
	sim_script_done(&script);
	return 0;
}
