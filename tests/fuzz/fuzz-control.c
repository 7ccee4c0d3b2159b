/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "executor/control.h"
#include "executor/loan.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/packets.h"

/*
 * What comes over control.sock to an executor, with consoles; "!new" is another connection beside
 * the last one.
 */

struct executor {
	struct control *control;
	struct loan *loan;
	unsigned asked, answered;
	struct fuzz_board board; /* of the console that was lent last */
};

static void describe(json_t *hello, int fds[static PACKET_FDS_MAX], void *data)
{
	const struct executor *executor = data;

	assert(json_object_set_new(hello, "console", loan_describe(executor->loan, fds)) == 0);
}

static void connected(void *data)
{
	const struct executor *executor = data;

	assert(control_connected(executor->control));
}

static void ask(struct executor *executor, const char *what)
{
	if (control_is_asking(executor->control))
		return;
	executor->asked++;
	control_ask(executor->control, json_pack("{s:s}", "t", what));
}

static void go(void *data)
{
	ask(data, "off");
}

static void lend(const struct control_loan *loan, void *data)
{
	struct executor *executor = data;

	(void)loan_take(executor->loan, loan, NULL);
}

static void give_back(uint64_t generation, void *data)
{
	struct executor *executor = data;

	if (generation == loan_generation(executor->loan))
		(void)loan_give_back(executor->loan);
}

static void answered(const struct control_answer *answer, void *data)
{
	struct executor *executor = data;

	assert(answer->state && answer->error && !control_is_asking(executor->control));
	executor->answered++;
	assert(executor->answered <= executor->asked);
	ask(executor, "on");
}

static void cancel(const char *reason, const char *by, const char *why, void *data)
{
	const struct executor *executor = data;

	(void)reason;
	(void)by;
	(void)why;
	control_send(executor->control, json_pack("{s:s}", "t", "cancelling"));
}

static void lost(void *data)
{
	const struct executor *executor = data;

	assert(!control_connected(executor->control));
}

static void on_bytes(uint64_t now_us, void *data)
{
	(void)now_us;
	(void)data;
}

static void on_line(const struct line *line, void *data)
{
	(void)line;
	(void)data;
}

static void on_ended(enum loan_end end, void *data)
{
	(void)end;
	(void)data;
}

static void on_appended(void *data)
{
	(void)data;
}

static void start(sd_event *event, struct executor *executor, int listen_fd)
{
	static const struct control_handlers handlers = {
		.describe = describe,
		.connected = connected,
		.go = go,
		.lend = lend,
		.give_back = give_back,
		.answered = answered,
		.cancel = cancel,
		.lost = lost,
	};
	const struct control_config config = {
		.event = event,
		.listen_fd = listen_fd,
		.uid = getuid(),
		.epoch = 3,
		.id = "17",
		.attempt = 1,
		.nonce = "n",
		.handlers = &handlers,
		.data = executor,
	};
	const struct loan_config loan_config = {
		.event = event,
		.dir_fd = fuzz_folder_fd(),
		.console_log_max = 1000,
		.bytes = on_bytes,
		.line = on_line,
		.ended = on_ended,
		.appended = on_appended,
		.data = executor,
	};

	assert(loan_new(&executor->loan, &loan_config, NULL) == 0);
	assert(control_new(&executor->control, &config, NULL) == 0);
}

static struct fuzz_peer connect_to(sd_event *event)
{
	struct fuzz_peer peer = { .fd = -1 };

	assert(file_connect_socket(&peer.fd, fuzz_folder_fd(), "control.sock", SOCK_SEQPACKET,
				   NULL) == 0);
	fuzz_settle(event);
	return peer;
}

static void talk(sd_event *event, struct executor *executor, struct fuzz_part rest)
{
	struct fuzz_peer peers[2] = { connect_to(event), { .fd = -1 } };
	struct fuzz_part line;

	while (fuzz_next_line(&rest, &line)) {
		if (fuzz_peer_say(&peers[0], event, &line))
			continue;
		if (fuzz_line_is(&line, "!new")) {
			fuzz_peer_close(&peers[1]);
			peers[1] = peers[0];
			peers[0] = connect_to(event);
		} else {
			(void)fuzz_board_act(&executor->board, &peers[0], &line);
		}
		fuzz_settle(event);
		loan_pump(executor->loan);
	}
	fuzz_settle(event);
	fuzz_peer_close(&peers[0]);
	fuzz_peer_close(&peers[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct executor executor = { .board.fd = -1 };
	sd_event *event = NULL;
	int listen_fd;

	fuzz_begin();
	fuzz_clear();
	assert(sd_event_new(&event) >= 0);
	assert(file_bind_socket(&listen_fd, fuzz_folder_fd(), "control.sock", SOCK_SEQPACKET, 0600,
				NULL) == 0);
	start(event, &executor, listen_fd);
	talk(event, &executor, (struct fuzz_part){ data, size });
	control_finish(executor.control);
	fuzz_settle(event);
	control_free(executor.control);
	loan_free(executor.loan);
	(void)close_fd(executor.board.fd);
	(void)close(listen_fd);
	sd_event_unref(event);
	return 0;
}
