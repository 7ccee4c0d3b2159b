/* SPDX-License-Identifier: MIT */
#include "dut/binding.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct binding *binding = data;

	(void)source;
	(void)usec;
	binding_end(binding);
	binding->lost(binding->data);
	return 0;
}

int binding_begin(struct binding *binding, const struct binding_config *config, struct error *err)
{
	int r;

	binding_end(binding);
	binding->limit_us = config->limit_us;
	binding->lost = config->lost;
	binding->data = config->data;
	binding->token = strdup(config->token);
	if (!binding->token)
		return error_oom(err);
	r = sd_event_add_time_relative(config->event, &binding->timer, CLOCK_BOOTTIME,
				       config->limit_us, 0, on_timer, binding);
	if (r >= 0 && binding->streams > 0)
		r = sd_event_source_set_enabled(binding->timer, SD_EVENT_OFF);
	if (r < 0) {
		binding_end(binding);
		return error_code(err, r, "cannot watch over the client");
	}
	(void)sd_event_source_set_description(binding->timer, "binding");
	return 0;
}

void binding_end(struct binding *binding)
{
	binding->timer = sd_event_source_disable_unref(binding->timer);
	free(binding->token);
	binding->token = NULL;
}

bool binding_is_on(const struct binding *binding)
{
	return binding->timer != NULL;
}

bool binding_is_token(const char *token, const char *said)
{
	size_t length = said ? strlen(said) : 0;
	unsigned char differs = 0;

	if (!said || strlen(token) != length)
		return false;
	for (size_t i = 0; i < length; i++)
		differs |= (unsigned char)(token[i] ^ said[i]);
	return differs == 0;
}

bool binding_knows(const struct binding *binding, const char *token)
{
	return binding->token && binding_is_token(binding->token, token);
}

void binding_attach(struct binding *binding)
{
	binding->streams++;
	if (binding->timer)
		(void)sd_event_source_set_enabled(binding->timer, SD_EVENT_OFF);
}

void binding_detach(struct binding *binding)
{
	assert(binding->streams > 0);
	if (--binding->streams > 0 || !binding->timer)
		return;
	(void)sd_event_source_set_time_relative(binding->timer, binding->limit_us);
	(void)sd_event_source_set_enabled(binding->timer, SD_EVENT_ONESHOT);
}
