/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "executor/description.h"
#include "tests/fuzz/fuzz.h"

/* A job file as the executor reads it, and as `dut validate` does without a daemon. */

CLEANUP_DEFINE(struct description *, description_free)

static const char dut_facts[] =
	"{\"dut\": {\"id\": \"bbb-1\", \"aliases\": [\"a b\"], \"tags\": [\"bbb\", \"arch:armhf\"],"
	"\"mac\": \"02:00:00:00:00:01\", \"tty\": \"ttyS0\", \"variables\": {\"rootfs\": \"nfs\"},"
	"\"deploy\": \"qemu\"}, \"job\": {\"id\": \"17\", \"name\": \"nightly\"},"
	"\"environ\": {\"A\": \"main\", \"N\": \"7\", \"T\": \"{{ job.id }}\", \"E\": \"\"},"
	"\"variables\": {\"url\": \"http://far.example\", \"list\": [\"a=1\", \"b\"]},"
	"\"timeouts\": {\"overall\": 7200000000, \"infra_teardown\": 300000000},"
	"\"limits\": {\"overall\": 86400000000}, \"file_roots\": [\"/srv/images\"],"
	"\"ignore_deadline\": true}";

static const char guess_facts[] = "{\"without_daemon\": true, \"ignore_deadline\": true}";

static void check_artifact(const struct artifact *artifact)
{
	assert(!artifact->url || !artifact->bucket);
	if (artifact->sha256)
		assert(strlen(artifact->sha256) == 64);
	if (artifact->bucket)
		assert(artifact->bucket[0] && artifact->bucket[0] != '/');
}

static void check_deployment(const struct deployment *deployment)
{
	check_artifact(&deployment->kernel);
	check_artifact(&deployment->initramfs);
	check_artifact(&deployment->dtb);
}

static void check_description(const struct description *description)
{
	if (description->name)
		assert(text_is_printable(description->name, strlen(description->name)));
	for (unsigned i = 0; i < TIMEOUT_NAMES; i++)
		assert(description->timeouts[i].limit_us > 0);
	for (size_t i = 0; i < description->n_watchdogs; i++)
		assert(description->watchdogs[i].name &&
		       description->watchdogs[i].timeout.limit_us);
	check_deployment(&description->start);
	check_deployment(&description->next);
}

static void check_text(const char *text)
{
	json_t *value = json_string(text);

	/* It becomes a text in JSON. */
	assert(value);
	json_decref(value);
}

/* What only a daemon knows is a placeholder without one: nothing follows from such a description.
 */
static void parse(const uint8_t *data, size_t size, const json_t *facts, bool is_whole)
{
	cleanup_(description_freep) struct description *description = NULL;
	struct problems problems = { 0 };
	int r = description_parse(&description, (const char *)data, size, facts, &problems);

	assert(r == 0 || r == -EBADMSG);
	assert((r == 0) == (description != NULL) && (r == 0) == !problems_any(&problems));
	for (size_t i = 0; i < problems.count; i++) {
		check_text(problems.items[i].text);
		if (problems.items[i].key)
			check_text(problems.items[i].key);
	}
	problems_done(&problems);
	if (description && is_whole)
		check_description(description);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static json_t *facts, *guess;

	fuzz_begin();
	if (!facts) {
		facts = json_loads(dut_facts, 0, NULL);
		guess = json_loads(guess_facts, 0, NULL);
		assert(facts && guess);
	}
	parse(data, size, facts, true);
	parse(data, size, guess, false);
	return 0;
}
