/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/text.h"
#include "cli/jobfile.h"

enum { VAR_NAME_MAX = 63 };

static int read_file(struct jobfile *jobfile)
{
	close_ int fd = open(jobfile->path, O_RDONLY | O_NOCTTY | O_CLOEXEC);
	struct error err;
	int r;

	if (fd < 0)
		return say_exit(EXIT_DATA, "cannot read '%s': %s", jobfile->path, strerror(errno));
	r = file_read_fd(&jobfile->text, &jobfile->length, fd, VALIDATOR_JOB_MAX, &err);
	if (r == -EFBIG)
		return say_exit(EXIT_DATA, "'%s' is over %d MiB: is it a job file?", jobfile->path,
				VALIDATOR_JOB_MAX / 1048576);
	if (r < 0)
		return say_exit(r == -ENOMEM ? EXIT_INTERNAL : EXIT_DATA, "cannot read '%s': %s",
				jobfile->path, err.text);
	return 0;
}

/* A job goes through JSON, which has neither other bytes nor NUL. */
static int check_encoding(const struct jobfile *jobfile)
{
	unsigned line = 1, column = 1;
	size_t at = 0;

	while (at < jobfile->length) {
		uint32_t code = 0;
		size_t used = text_decode_utf8(&code, jobfile->text + at, jobfile->length - at);

		if (used == 0 || code == 0) {
			free_ char *safe = say_safe(jobfile->path);

			(void)fprintf(stderr, "%s:%u:%u: not valid UTF-8 (byte 0x%02x)\n",
				      safe ? safe : "?", line, column,
				      (unsigned char)jobfile->text[at]);
			return EXIT_DATA;
		}
		column++;
		if (code == '\n') {
			line++;
			column = 1;
		}
		at += used;
	}
	return 0;
}

static bool is_variable(const char *name, size_t length)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_";
	static const char all[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";

	return length >= 1 && length <= VAR_NAME_MAX && strchr(letters, name[0]) &&
	       strspn(name, all) >= length;
}

static int read_variables(struct jobfile *jobfile, const char *verb)
{
	char name[VAR_NAME_MAX + 1];

	jobfile->environ = json_object();
	for (size_t i = 0; i < jobfile->vars.count; i++) {
		const char *item = jobfile->vars.items[i];
		size_t length = strcspn(item, "=");
		json_t *value;

		if (item[length] != '=' || !is_variable(item, length))
			/* Without the value, which may be a secret. */
			return say_exit(EXIT_USAGE,
					"%s: --var '%.*s' is not K=V, with K of letters, digits "
					"and '_'",
					verb,
					(int)(length < 60 ? length + (item[length] == '=') : 60),
					item);
		memcpy(name, item, length);
		name[length] = '\0';
		if (json_object_get(jobfile->environ, name))
			return say_exit(EXIT_USAGE, "%s: --var %s is given twice", verb, name);
		value = json_string(item + length + 1);
		if (!value)
			return say_exit(EXIT_USAGE, "%s: --var %s: the value is not valid UTF-8",
					verb, name);
		if (json_object_set_new(jobfile->environ, name, value) < 0)
			return say_exit(EXIT_INTERNAL, "out of memory");
	}
	return jobfile->environ ? 0 : say_exit(EXIT_INTERNAL, "out of memory");
}

static int check_names(const struct jobfile *jobfile, const char *verb)
{
	if (jobfile->dut && jobfile->tags.count > 0)
		return say_exit(EXIT_USAGE, "%s: --dut or --tag, not both", verb);
	if (jobfile->dut && !text_is_printable(jobfile->dut, strlen(jobfile->dut)))
		return say_exit(EXIT_USAGE, "%s: --dut '%.60s' is no name", verb, jobfile->dut);
	for (size_t i = 0; i < jobfile->tags.count; i++)
		if (!text_is_printable(jobfile->tags.items[i], strlen(jobfile->tags.items[i])))
			return say_exit(EXIT_USAGE, "%s: --tag '%.60s' is no tag", verb,
					jobfile->tags.items[i]);
	return 0;
}

int jobfile_load(struct jobfile *jobfile, const char *verb, const char *path)
{
	int code = check_names(jobfile, verb);

	jobfile->path = path;
	if (code == 0)
		code = read_variables(jobfile, verb);
	if (code == 0)
		code = read_file(jobfile);
	if (code == 0)
		code = check_encoding(jobfile);
	return code;
}

void jobfile_done(struct jobfile *jobfile)
{
	option_list_done(&jobfile->tags);
	option_list_done(&jobfile->vars);
	json_decref(jobfile->environ);
	free(jobfile->text);
}

int jobfile_validate(json_t **ret, const struct jobfile *jobfile, struct error *err)
{
	const struct validator_question question = {
		.libexec_dir = jobfile->libexec_dir,
		.job = jobfile->text,
		.length = jobfile->length,
		.dut = jobfile->dut,
		.tags = jobfile->tags.items,
		.n_tags = jobfile->tags.count,
		.environ = jobfile->environ,
		.ignore_deadline = jobfile->ignore_deadline,
	};

	return validator_ask(ret, &question, err);
}
