/* SPDX-License-Identifier: MIT */
#include "tests/fuzz/daemon.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/http.h"

/* The bytes of a client of dutd's socket, against all of its routes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_daemon lab;

	fuzz_begin();
	fuzz_daemon_start(&lab);
	fuzz_daemon_set_validation(json_pack("{s:[s]}", "duts", "d1"));
	fuzz_http(lab.event, lab.daemon->http, lab.daemon->runtime_fd, "dutd.sock", data, size);
	fuzz_daemon_end(&lab);
	return 0;
}
