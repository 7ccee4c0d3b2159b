/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/attr.h"
#include "base/digest.h"
#include "base/text.h"
#include "cli/options.h"
#include "cli/verbs.h"

/*
 * A token is made here and known to nobody else: dutd has its hash alone, in the line that is to be
 * added to the file of api.tokens_file. No daemon is asked.
 */

#define SECRET_PREFIX "dut_"

enum {
	SECRET_BYTES = 20, /* 160 bits, a multiple of 40 */
	SECRET_SIZE = sizeof(SECRET_PREFIX) + SECRET_BYTES * 8 / 5,
};

/* Source: RFC 4648, section 6, in lower case. */
static void write_base32(char *text, const unsigned char *bytes, size_t count)
{
	static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";
	unsigned bits = 0, held = 0;

	for (size_t i = 0; i < count; i++) {
		bits = (bits << 8 | bytes[i]) & 0xfff;
		for (held += 8; held >= 5; held -= 5)
			*text++ = digits[bits >> (held - 5) & 31];
	}
	*text = '\0';
}

static int make_secret(char secret[static SECRET_SIZE])
{
	unsigned char bytes[SECRET_BYTES];

	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		return -1;
	memcpy(secret, SECRET_PREFIX, sizeof(SECRET_PREFIX));
	write_base32(secret + strlen(SECRET_PREFIX), bytes, sizeof(bytes));
	explicit_bzero(bytes, sizeof(bytes));
	return 0;
}

static int print_token(const struct cli *cli, const char *name, const char *role)
{
	char secret[SECRET_SIZE], hex[DIGEST_HEX_SIZE];
	unsigned char digest[DIGEST_SIZE];

	if (make_secret(secret) < 0)
		return say_exit(EXIT_INTERNAL, "getrandom: %s", strerror(errno));
	digest_sha256(digest, secret, strlen(secret));
	digest_to_hex(hex, digest);
	if (cli->json) {
		json_t *object = json_pack("{s:s, s:s, s:s, s:s}", "name", name, "role", role,
					   "secret", secret, "sha256", hex);

		say_json(object);
		json_decref(object);
	} else {
		(void)printf("%s\n%s %s %s\n", secret, name, role, hex);
		say("the first line is the secret, which is shown this once: for DUT_TOKEN or the "
		    "file that DUT_TOKEN_FILE names");
		say("the second line is to be added to the file of api.tokens_file (dutd.yaml(5))");
	}
	explicit_bzero(secret, sizeof(secret));
	return say_finish(0);
}

static int check_and_print(const struct cli *cli, const char *const *words)
{
	static const char *const roles[] = { "view", "use", "admin" };
	char shown[64];

	if (strcmp(words[0], "new") != 0)
		return say_exit(EXIT_USAGE, "token: '%.60s' is not new", words[0]);
	if (!text_is_name(words[1]))
		return say_exit(EXIT_USAGE,
				"token: '%s' is no name: a letter, then at most 62 letters, "
				"digits, '_', '.', '-'",
				text_escape(shown, sizeof(shown), words[1], strlen(words[1])));
	for (size_t i = 0; i < ARRAY_SIZE(roles); i++)
		if (strcmp(roles[i], words[2]) == 0)
			return print_token(cli, words[1], words[2]);
	return say_exit(EXIT_USAGE, "token: '%s' is no role: view, use or admin",
			text_escape(shown, sizeof(shown), words[2], strlen(words[2])));
}

static int token(struct cli *cli, int argc, char **argv)
{
	struct option_list operands = { 0 };
	int code;

	if (options_parse(&verb_token, NULL, cli, 3, 3, &operands, argc, argv, &code))
		code = check_and_print(cli, operands.items);
	option_list_done(&operands);
	return code;
}

const struct verb verb_token = {
	.name = "token",
	.operands = "new NAME ROLE",
	.summary = "makes a token for the API by TCP: its secret, and the line for the daemon",
	.run = token,
};
