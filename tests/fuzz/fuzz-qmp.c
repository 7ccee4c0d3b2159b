/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <jansson.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "hw/qmp.h"
#include "tests/fuzz/fuzz.h"

/*
 * What a QEMU says that its guest has taken over. Each part of the input comes at once; between
 * them the loop runs, and a command is sent when none is under way.
 */

struct guest {
	struct qmp *qmp;
	unsigned asked, answered;
	bool frees;
};

static void on_done(int r, const json_t *answer, const struct error *err, void *data)
{
	struct guest *guest = data;

	guest->answered++;
	assert((r == 0) == (answer != NULL));
	assert(r == 0 || (r < 0 && err->text[0]));
	if (guest->frees)
		guest->qmp = qmp_free(guest->qmp);
}

static void talk(const uint8_t *data, size_t size, bool frees)
{
	struct fuzz_part rest = { data, size }, part;
	struct guest guest = { .frees = frees };
	sd_event *event = NULL;
	struct error err;
	int pair[2];

	assert(sd_event_new(&event) == 0);
	assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
	assert(qmp_new(&guest.qmp, event, pair[0], &err) == 0);
	while (guest.qmp && fuzz_next_part(&rest, &part)) {
		if (qmp_command(guest.qmp, "query-status", on_done, &guest, &err) == 0)
			guest.asked++;
		(void)send(pair[1], part.data, part.size, MSG_NOSIGNAL);
		fuzz_settle(event);
	}
	(void)close(pair[1]);
	fuzz_settle(event);
	/* Each command ends exactly once; the last one at the latest with its connection. */
	assert(guest.asked == guest.answered);
	qmp_free(guest.qmp);
	sd_event_unref(event);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fuzz_begin();
	talk(data, size, false);
	talk(data, size, true);
	return 0;
}
