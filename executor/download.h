/* SPDX-License-Identifier: MIT */
#pragma once

#include "base/error.h"
#include "executor/sink.h"

/*
 * Downloads an http or https URL into a sink, on libcurl. Redirects are followed within http and
 * https. A transfer that breaks is taken up again where it stopped, if the server can tell that its
 * file is still the same one, else from the beginning. Proxies are those of the environment.
 *
 * Errors: -EREMOTEIO what the network or the server did; those of the sink. Texts never hold the
 * user, password or query of a URL.
 * Blocks: until it is done. Whoever does not want it any more kills the process.
 */
int download_url(const char *url, struct sink *sink, struct error *err);
