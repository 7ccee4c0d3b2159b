/* SPDX-License-Identifier: MIT */
#include "dut/tokens.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

enum { WORDS = 3 };

struct parser {
	const char *file;
	struct problems *problems;
	struct tokens tokens;
};

/* A word of a line, and where it begins. */
struct word {
	const char *text;
	size_t length;
	unsigned column;
};

void tokens_done(struct tokens *tokens)
{
	free(tokens->items);
	*tokens = (struct tokens){ 0 };
}

/* ---- a line ---- */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* The words of a line; one more than there may be is counted, too. */
static unsigned cut(struct word words[static WORDS], const char *line, size_t length)
{
	unsigned count = 0;

	for (size_t at = 0; at < length;) {
		size_t end = at;

		while (end < length && !is_blank(line[end]))
			end++;
		if (end > at && count < WORDS)
			words[count] = (struct word){ line + at, end - at, (unsigned)at + 1 };
		count += end > at;
		at = end + 1;
	}
	return count;
}

/* The word as a text, or false when it is too long or holds a NUL. */
static bool copy(char *buffer, size_t size, const struct word *word)
{
	if (word->length >= size || memchr(word->text, '\0', word->length))
		return false;
	memcpy(buffer, word->text, word->length);
	buffer[word->length] = '\0';
	return true;
}

/* What is no hash may be a secret, which goes into no text. */
static const char *fault_of_digest(const struct word *word)
{
	if (word->length > 4 && memcmp(word->text, "dut_", 4) == 0)
		return "this is a secret itself, which belongs to its owner alone: take it away, "
		       "and make a new one with 'dut token new'";
	return "this is no SHA-256 of 64 hexadecimal digits, as 'dut token new' prints it";
}

static void check_twice(struct parser *parser, const struct token *token, const struct word *words)
{
	for (size_t i = 0; i < parser->tokens.count; i++) {
		const struct token *other = &parser->tokens.items[i];

		if (strcmp(other->name, token->name) == 0)
			problems_add(parser->problems, parser->file, token->line, words[0].column,
				     NULL, "'%s' stands already in line %u", token->name,
				     other->line);
		if (digest_equal(other->digest, token->digest))
			problems_add(parser->problems, parser->file, token->line, words[2].column,
				     NULL, "this is the secret of '%s' in line %u", other->name,
				     other->line);
	}
}

static bool read_words(const struct parser *parser, struct token *token, const struct word *words)
{
	char role[16], shown[64];
	bool good = true;

	if (!copy(token->name, sizeof(token->name), &words[0]) || !text_is_name(token->name)) {
		problems_add(parser->problems, parser->file, token->line, words[0].column, NULL,
			     "'%s' is no name: a letter, then at most 62 letters, digits, '_', "
			     "'.', '-'",
			     text_escape(shown, sizeof(shown), words[0].text, words[0].length));
		good = false;
	}
	if (!copy(role, sizeof(role), &words[1]) || access_role_from_name(&token->role, role) < 0) {
		problems_add(parser->problems, parser->file, token->line, words[1].column, NULL,
			     "'%s' is no role: view, use or admin",
			     text_escape(shown, sizeof(shown), words[1].text, words[1].length));
		good = false;
	}
	if (!digest_from_hex(token->digest, words[2].text, words[2].length)) {
		problems_add(parser->problems, parser->file, token->line, words[2].column, NULL,
			     "%s", fault_of_digest(&words[2]));
		good = false;
	}
	return good;
}

static int read_line(struct parser *parser, const char *line, size_t length, unsigned number)
{
	struct word words[WORDS] = { 0 };
	struct token token = { .line = number }, *items;
	unsigned count = cut(words, line, length);

	if (count == 0 || words[0].text[0] == '#')
		return 0;
	if (count != WORDS) {
		problems_add(parser->problems, parser->file, number, words[0].column, NULL,
			     "a line is NAME ROLE SHA256, not %u words", count);
		return 0;
	}
	if (!read_words(parser, &token, words))
		return 0;
	check_twice(parser, &token, words);
	if (parser->tokens.count >= TOKENS_MAX) {
		problems_add(parser->problems, parser->file, number, 1, NULL, "more than %d tokens",
			     TOKENS_MAX);
		return -E2BIG;
	}
	items = reallocarray(parser->tokens.items, parser->tokens.count + 1, sizeof(*items));
	if (!items)
		return -ENOMEM;
	parser->tokens.items = items;
	items[parser->tokens.count++] = token;
	return 0;
}

/* ---- all of it ---- */

int tokens_parse(struct tokens *ret, const char *file, const char *text, size_t length,
		 struct problems *problems, struct error *err)
{
	struct parser parser = { .file = file, .problems = problems };
	size_t before = problems->count + problems->lost, count;
	unsigned number = 1;
	int r = 0;

	for (size_t at = 0; at < length && r == 0; number++) {
		const char *line = text + at, *end = memchr(line, '\n', length - at);
		size_t line_length = end ? (size_t)(end - line) : length - at;

		r = read_line(&parser, line, line_length, number);
		at += line_length + 1;
	}
	if (r != -ENOMEM && problems->count + problems->lost == before) {
		*ret = parser.tokens;
		return 0;
	}
	tokens_done(&parser.tokens);
	if (r == -ENOMEM)
		return error_oom(err);
	count = problems->count + problems->lost - before;
	return error_set(err, -EBADMSG, "%s: %zu problem%s", file, count, count == 1 ? "" : "s");
}

static int check_file(int fd, const char *path, struct error *err)
{
	struct stat status;

	if (fstat(fd, &status) < 0)
		return error_errno(err, "%s", path);
	if (!S_ISREG(status.st_mode))
		return error_set(err, -EINVAL, "%s is no regular file", path);
	if (status.st_uid != 0 && status.st_uid != geteuid())
		return error_set(err, -EPERM,
				 "%s belongs to the user with uid %u, who is neither root nor the "
				 "one that dutd runs as",
				 path, (unsigned)status.st_uid);
	if (status.st_mode & 022)
		return error_set(err, -EPERM,
				 "%s can be written by others (its mode is %04o): chmod go-w", path,
				 (unsigned)status.st_mode & 07777);
	return 0;
}

int tokens_load(struct tokens *ret, const char *path, struct problems *problems, struct error *err)
{
	/* A FIFO in its place must not hold us. */
	close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	free_ char *text = NULL;
	size_t length;
	int r;

	if (fd < 0)
		return error_errno(err, "%s", path);
	r = check_file(fd, path, err);
	if (r < 0)
		return r;
	r = file_read_fd(&text, &length, fd, TOKENS_MAX_FILE, err);
	if (r < 0)
		return error_prefix(err, r, "%s", path);
	return tokens_parse(ret, path, text, length, problems, err);
}

const struct token *tokens_find(const struct tokens *tokens, const char *secret, size_t length)
{
	const struct token *found = NULL;
	unsigned char digest[DIGEST_SIZE];

	if (length == 0 || length > TOKENS_MAX_SECRET)
		return NULL;
	digest_sha256(digest, secret, length);
	/* All of them, wherever it is. */
	for (size_t i = 0; i < tokens->count; i++)
		if (digest_equal(tokens->items[i].digest, digest))
			found = &tokens->items[i];
	return found;
}
