/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/client.h"
#include "cli/endpoint.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/server.h"

/* What a daemon, or who says that he is one, answers to the command line: an object and a stream.
 */

struct asked {
	unsigned ended;
	uint64_t bytes;
	bool pauses;
};

static void on_head(struct transfer *transfer, void *data)
{
	uint64_t offset;

	(void)data;
	(void)transfer_console_offset(transfer, &offset);
}

static void on_bytes(struct transfer *transfer, const char *bytes, size_t length, void *data)
{
	struct asked *asked = data;

	assert(bytes && length > 0);
	asked->bytes += length;
	if (asked->pauses)
		transfer_pause(transfer);
}

static void on_done(struct transfer *transfer, struct answer *answer, void *data)
{
	struct asked *asked = data;

	(void)transfer_is_sent(transfer);
	asked->ended++;
	if (answer->r < 0)
		assert(answer->err.text[0] && !answer->json);
	answer_done(answer);
}

static void run(sd_event *event, struct transfer *transfer, const struct asked *asked)
{
	/* libcurl has timers of its own. */
	for (unsigned i = 0; i < 1000 && !asked->ended; i++) {
		(void)sd_event_run(event, 1000);
		if (asked->pauses)
			transfer_resume(transfer);
	}
	assert(asked->ended == 1);
	transfer_free(transfer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct asked object = { 0 }, stream = { .pauses = size % 2 == 1 };
	struct client_request request = { .method = "GET", .path = "/jobs/1", .on_done = on_done };
	struct endpoint endpoint = { .kind = ENDPOINT_SOCKET };
	struct transfer *transfer;
	struct client *client;
	sd_event *event;

	fuzz_begin();
	fuzz_serve(data, size);
	assert(sd_event_new(&event) >= 0);
	endpoint.name = strdup("/nowhere/dutd.sock");
	endpoint.base = strdup("http://dutd");
	assert(client_new(&client, event, &endpoint, NULL) == 0);
	request.data = &object;
	assert(client_start(&transfer, client, &request, NULL) == 0);
	run(event, transfer, &object);
	request.data = &stream;
	request.on_head = on_head;
	request.on_bytes = on_bytes;
	assert(client_start(&transfer, client, &request, NULL) == 0);
	run(event, transfer, &stream);
	client_free(client);
	fuzz_serve_end();
	sd_event_unref(event);
	return 0;
}
