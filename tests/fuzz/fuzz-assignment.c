/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <jansson.h>

#include "base/cleanup.h"
#include "executor/assignment.h"
#include "tests/fuzz/fuzz.h"

/* job.json, with members that come from the submitter. */

CLEANUP_DEFINE(struct assignment *, assignment_free)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_(assignment_freep) struct assignment *assignment = NULL;
	json_auto_t *facts = NULL;
	struct error err;
	int r;

	fuzz_begin();
	fuzz_write("job.json", data, size);
	r = assignment_load(&assignment, fuzz_folder_fd(), &err);
	assert(r == 0 || (r == -EBADMSG && err.text[0]));
	if (r < 0)
		return 0;
	assert(assignment->nonce && assignment->dut && assignment->number > 0);
	facts = assignment_facts(assignment);
	assert(json_is_object(facts));
	return 0;
}
