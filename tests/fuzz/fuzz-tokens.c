/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "dut/tokens.h"
#include "tests/fuzz/fuzz.h"

/* The file of api.tokens_file, and a secret that somebody brings. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_part rest = { data, size }, file, secret;
	struct problems problems = { 0 };
	struct tokens tokens = { 0 };
	const struct token *found;
	struct error err;
	int r;

	fuzz_begin();
	if (!fuzz_next_part(&rest, &file))
		return 0;
	if (!fuzz_next_part(&rest, &secret))
		secret = (struct fuzz_part){ (const uint8_t *)"", 0 };
	r = tokens_parse(&tokens, "tokens", (const char *)file.data, file.size, &problems, &err);
	assert(r == 0 || r == -EBADMSG);
	assert((r == 0) == !problems_any(&problems));
	assert(r == 0 || tokens.count == 0);
	for (size_t i = 0; i < problems.count; i++) {
		assert(problems.items[i].line > 0 && problems.items[i].column > 0);
		assert(text_is_printable(problems.items[i].text, strlen(problems.items[i].text)));
	}
	for (size_t i = 0; i < tokens.count; i++) {
		assert(text_is_name(tokens.items[i].name));
		assert(tokens.items[i].role >= ACCESS_VIEW && tokens.items[i].role <= ACCESS_ADMIN);
	}
	found = tokens_find(&tokens, (const char *)secret.data, secret.size);
	assert(!found || (found >= tokens.items && found < tokens.items + tokens.count));
	problems_done(&problems);
	tokens_done(&tokens);
	return 0;
}
