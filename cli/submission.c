/* SPDX-License-Identifier: MIT */
#include "cli/submission.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/cleanup.h"
#include "cli/retry.h"

enum { ID_BYTES = (SUBMISSION_TOKEN_SIZE - 1) / 2 };

struct upload {
	struct session *session;
	const struct client_part *parts;
	struct transfer *transfer; /* NULL: between two tries */
	struct retry retry;
	struct answer answer;
	bool interrupted;
	bool may_be_taken; /* by a daemon that broke off before it answered */
};

/* A repeat of a submission with the same id is answered with the first one's job. */
static int random_id(char text[static SUBMISSION_TOKEN_SIZE])
{
	unsigned char bytes[ID_BYTES];

	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		return -1;
	for (size_t i = 0; i < ID_BYTES; i++)
		(void)snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	return 0;
}

static json_t *target_of(const struct submission_request *request)
{
	const struct option_list *tags = &request->jobfile->tags;
	json_t *list;

	if (!request->dut && tags->count == 0)
		return json_null();
	list = json_array();
	for (size_t i = 0; i < tags->count; i++)
		(void)json_array_append_new(list, json_string(tags->items[i]));
	return json_pack("{s:s?, s:o}", "id", request->dut, "tags", list);
}

/* The caller frees it; NULL when something is not UTF-8, or memory ran out. */
static char *metadata_of(const struct submission_request *request, const char *id)
{
	json_t *object;
	char *text;

	object = json_pack("{s:i, s:s?, s:o, s:O, s:s, s:s}", "version", 1, "name", request->name,
			   "target", target_of(request), "environ", request->jobfile->environ,
			   "submission_id", id, "on_disconnect",
			   request->detach ? "continue" : "cancel");
	if (object && request->wait)
		(void)json_object_set_new(object, "wait", json_string(request->wait));
	if (object && request->priority != 0)
		(void)json_object_set_new(object, "priority", json_integer(request->priority));
	if (object && request->jobfile->ignore_deadline)
		(void)json_object_set_new(object, "ignore_deadline", json_true());
	text = object ? json_dumps(object, JSON_COMPACT) : NULL;
	json_decref(object);
	return text;
}

static void on_done(struct transfer *transfer, struct answer *answer, void *data)
{
	struct upload *upload = data;

	if (answer->r < 0 && transfer_is_sent(transfer))
		upload->may_be_taken = true;
	upload->transfer = transfer_free(transfer);
	/* "Busy" is an answer; only what could not be asked is asked again. */
	if ((answer->r < 0 || answer->status == 503) && !upload->interrupted &&
	    retry_later(&upload->retry, answer)) {
		answer_done(answer);
		return;
	}
	if (answer->r >= 0)
		retry_good(&upload->retry);
	upload->answer = *answer;
	session_stop(upload->session, 0);
}

/* Before everything is sent the daemon has no job. After that only its answer tells which one. */
static void on_signal(struct session *session, int signal)
{
	struct upload *upload = session->data;
	bool is_sent = upload->transfer && transfer_is_sent(upload->transfer);

	(void)signal;
	if (!is_sent && !upload->may_be_taken)
		session_stop(session, EXIT_INTERRUPTED);
	else if (!is_sent || upload->interrupted)
		session_stop(session,
			     say_exit(EXIT_INTERRUPTED,
				      "the daemon may have taken the job; see 'dut jobs'"));
	upload->interrupted = true;
}

static int start(struct upload *upload, struct error *err)
{
	const struct client_request post = {
		.method = "POST",
		.path = "/jobs",
		.parts = upload->parts,
		.on_done = on_done,
		.data = upload,
	};

	return client_start(&upload->transfer, upload->session->client, &post, err);
}

static void again(void *data)
{
	struct upload *upload = data;
	struct error err;

	if (start(upload, &err) < 0)
		session_stop(upload->session, say_exit(EXIT_INTERNAL, "%s", err.text));
}

static int send_all(struct upload *upload, const struct submission_request *request,
		    const char *metadata)
{
	const struct client_part parts[] = {
		{ "metadata", "application/json", metadata, strlen(metadata), -1 },
		{ "job", "application/yaml", request->jobfile->text, request->jobfile->length, -1 },
		{ request->bucket->tar_fd >= 0 ? "job_bucket_initial_state_tarball_file" : NULL,
		  "application/octet-stream", NULL, request->bucket->tar_size,
		  request->bucket->tar_fd },
		{ 0 },
	};
	struct error err;
	int code;

	upload->parts = parts;
	retry_init(&upload->retry, upload->session, again, upload);
	if (start(upload, &err) < 0)
		return say_exit(EXIT_INTERNAL, "%s", err.text);
	upload->session->on_signal = on_signal;
	upload->session->data = upload;
	code = session_run(upload->session);
	upload->session->on_signal = NULL;
	if (code == 0 && upload->answer.r < 0 && upload->may_be_taken)
		say("the daemon may have taken the job before that; see 'dut jobs'");
	retry_done(&upload->retry);
	upload->transfer = transfer_free(upload->transfer);
	return code;
}

/* All DUTs are busy, and nothing said that the job may wait. */
static int refused_for_now(const struct answer *answer)
{
	const char *text = view_text(answer->json, "error");

	return say_exit(EXIT_BUSY, "%s. Wait with --wait 30m.", text ? text : "its DUT is busy");
}

static int read_answer(const struct answer *answer, const char *job_path, struct submission *ret)
{
	const char *state = view_text(answer->json, "state");
	const json_t *errors = json_object_get(answer->json, "errors");
	const char *dut;

	if (answer->r >= 0 && answer->status == 400 && json_array_size(errors) > 0) {
		(void)validator_print_errors(errors, job_path);
		return EXIT_DATA;
	}
	if (answer->r >= 0 && answer->status == 409 &&
	    json_is_integer(json_object_get(answer->json, "place")))
		return refused_for_now(answer);
	if (!answer_is_good(answer) || !*view_id(ret->id, answer->json))
		return session_refused(answer);
	dut = view_text(answer->json, "dut");
	ret->dut = dut ? strdup(dut) : NULL;
	ret->waits = state && strcmp(state, "WAITING") == 0;
	return 0;
}

int submit(struct session *session, const struct submission_request *request,
	   struct submission *ret)
{
	struct upload upload = { .session = session };
	free_ char *metadata = NULL;
	int code;

	*ret = (struct submission){ 0 };
	if (random_id(ret->token) < 0)
		return say_exit(EXIT_INTERNAL, "no random numbers can be had");
	metadata = metadata_of(request, ret->token);
	if (!metadata)
		return say_exit(EXIT_USAGE, "run: a name or a tag is not valid UTF-8");
	code = send_all(&upload, request, metadata);
	if (code == 0)
		code = read_answer(&upload.answer, request->jobfile->path, ret);
	ret->interrupted = upload.interrupted;
	answer_done(&upload.answer);
	return code;
}

void submission_done(struct submission *submission)
{
	free(submission->dut);
}
