/* SPDX-License-Identifier: MIT */
#include "cli/replay.h"

#include <stdlib.h>
#include <string.h>

void replay_done(struct replay *replay)
{
	free(replay->first);
	*replay = (struct replay){ 0 };
}

static bool is_first(const struct replay *replay, const char *line, size_t length)
{
	return replay->first && length == replay->length &&
	       memcmp(replay->first, line, length) == 0;
}

bool replay_is_new(struct replay *replay, const json_t *event, const char *line, size_t length)
{
	const json_t *seq = json_object_get(event, "seq");
	json_int_t number = json_integer_value(seq);

	if (!json_is_integer(seq) || number < 0)
		return true;
	if (number == 0 && !is_first(replay, line, length)) {
		replay_done(replay);
		replay->first = malloc(length);
		if (replay->first) {
			memcpy(replay->first, line, length);
			replay->length = length;
		}
	} else if ((uint64_t)number < replay->next) {
		return false;
	}
	replay->next = (uint64_t)number + 1;
	return true;
}
