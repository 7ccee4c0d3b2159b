/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "executor/fetcher.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/packets.h"

/* What dut-helper answers to an executor. */

enum { ASKED = 3 };

static void on_done(const struct fetch_result *result, void *data)
{
	unsigned *count = data;

	++*count;
	assert(!result->reason || (result->reason[0] && result->error.text[0]));
}

static void on_progress(uint64_t bytes, void *data)
{
	(void)bytes;
	(void)data;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fetcher_config config = {
		.libexec_dir = "/",
		.job_dir_fd = -1,
		.progress = on_progress,
	};
	struct fuzz_part rest = { data, size }, line;
	unsigned done[ASKED] = { 0 };
	struct fetcher *fetcher;
	close_ int fd = fuzz_file("", 0);

	fuzz_begin();
	assert(sd_event_new(&config.event) >= 0);
	assert(fetcher_new(&fetcher, &config, NULL) == 0);
	assert(fetcher_download(fetcher, "http://x/", NULL, fd, 9, on_done, &done[0], NULL) == 0);
	assert(fetcher_copy(fetcher, fd, "00", fd, UINT64_MAX, on_done, &done[1], NULL) == 0);
	assert(fetcher_unpack(fetcher, fd, fd, 9, 9, on_done, &done[2], NULL) == 0);
	while (fuzz_next_line(&rest, &line))
		if (!fuzz_peer_say(fuzz_helper(), config.event, &line) &&
		    fuzz_line_is(&line, "!end"))
			fuzz_peer_close(fuzz_helper());
	fuzz_settle(config.event);
	fetcher_cancel(fetcher);
	fuzz_settle(config.event);
	for (unsigned i = 0; i < ASKED; i++)
		assert(done[i] == 1);
	fetcher_free(fetcher);
	fuzz_peer_close(fuzz_helper());
	sd_event_unref(config.event);
	return 0;
}
