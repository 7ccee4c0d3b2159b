/* SPDX-License-Identifier: MIT */
#include "executor/fetchbox.h"

#include <elf.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/attr.h"
#include "base/cleanup.h"
#include "base/sandbox.h"

enum {
	PATHS_MAX = 128,
	MEMORY_MAX = 1 << 30, /* a decompressor may ask for 4 GiB */
	OPEN_FILES_MAX = 512, /* one for each folder of a path, and some */
};

/* Paths that are open only to be allowed. */
struct paths {
	struct sandbox_path items[PATHS_MAX];
	size_t count, borrowed; /* the first ones are not closed */
};

static void paths_done(struct paths *paths)
{
	for (size_t i = paths->borrowed; i < paths->count; i++)
		(void)close_fd(paths->items[i].fd);
}

static void add(struct paths *paths, const char *const *names, enum sandbox_access access)
{
	sandbox_open(paths->items, &paths->count, PATHS_MAX, names, access);
}

static void add_borrowed(struct paths *paths, int fd, enum sandbox_access access)
{
	paths->items[paths->count++] = (struct sandbox_path){ .fd = fd, .access = access };
	paths->borrowed = paths->count;
}

/*
 * Where libraries and their modules are: names are looked up by such (nsswitch), characters
 * converted, and certificates checked.
 */
static void add_libraries(struct paths *paths)
{
	static const char *const names[] = {
		"/lib",		  "/lib64",	      "/usr/lib", "/usr/lib64",
		"/usr/local/lib", "/etc/ld.so.cache", NULL,
	};

	add(paths, names, SANDBOX_READ);
}

/* What says who is who on the internet. Not /etc as a whole: the secrets of a lab may be there. */
static void add_network(struct paths *paths)
{
	static const char *const names[] = {
		"/etc/resolv.conf",
		"/etc/hosts",
		"/etc/host.conf",
		"/etc/nsswitch.conf",
		"/etc/gai.conf",
		"/etc/services",
		"/etc/localtime",
		"/etc/ssl",
		"/etc/pki",
		"/etc/ca-certificates",
		"/etc/crypto-policies",
		"/usr/share/ca-certificates",
		"/usr/local/share/ca-certificates",
		"/usr/share/crypto-policies",
		"/usr/share/pki",
		NULL,
	};
	const char *const file[] = { getenv("SSL_CERT_FILE"), NULL };
	const char *const folder[] = { getenv("SSL_CERT_DIR"), NULL };

	add(paths, names, SANDBOX_READ);
	add(paths, file, SANDBOX_READ);
	add(paths, folder, SANDBOX_READ);
}

static int enter(enum sandbox_profile profile, uint64_t file_size, struct paths *paths,
		 struct error *err)
{
	const struct sandbox_limits limits = {
		.memory = MEMORY_MAX,
		.file_size = file_size,
		.open_files = OPEN_FILES_MAX,
	};
	int r = sandbox_limit(&limits, err);

	return r < 0 ? r : sandbox_enter(profile, paths->items, paths->count, err);
}

/* A file may have its last byte at the limit; 0 is no limit. */
static uint64_t file_size_of(uint64_t max_bytes)
{
	return max_bytes < INT64_MAX ? max_bytes + 1 : 0;
}

/* The program that loads the libraries of this one, and of dut-fetch. */
static int note_loader(struct dl_phdr_info *info, size_t size, void *data)
{
	const char **loader = data;

	(void)size;
	for (unsigned i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_INTERP)
			/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
			*loader = (const char *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
	return 1; /* the first one is the program itself */
}

static void add_program(struct paths *paths, const char *path)
{
	const char *names[] = { path, NULL, NULL };

	(void)dl_iterate_phdr(note_loader, (void *)&names[1]);
	add(paths, names, SANDBOX_EXECUTE);
}

int fetchbox_helper(int job_dir_fd, const char *fetch_path, char *const *roots, struct error *err)
{
	cleanup_(paths_done) struct paths paths = { .count = 0 };
	int r = sandbox_drop(NULL, err);

	add_borrowed(&paths, job_dir_fd, SANDBOX_LINK);
	add_program(&paths, fetch_path);
	add_libraries(&paths);
	add_network(&paths);
#if WITH_ADDRESS_SANITIZER
	static const char *const proc[] = { "/proc", NULL };

	/* Where dut-fetch begins with a look at its own map. */
	add(&paths, proc, SANDBOX_READ);
#endif
	for (; *roots; roots++) {
		const char *const root[] = { *roots, NULL };

		add(&paths, root, SANDBOX_READ);
	}
	return r < 0 ? r : sandbox_enter(SANDBOX_HELPER, paths.items, paths.count, err);
}

int fetchbox_download(uint64_t max_bytes, struct error *err)
{
	cleanup_(paths_done) struct paths paths = { .count = 0 };
	int r = sandbox_drop(NULL, err);

	add_libraries(&paths);
	add_network(&paths);
	return r < 0 ? r : enter(SANDBOX_DOWNLOAD, file_size_of(max_bytes), &paths, err);
}

int fetchbox_copy(uint64_t max_bytes, const char *url, const json_t *roots, struct error *err)
{
	static const char *const everything[] = { "/", NULL };
	cleanup_(paths_done) struct paths paths = { .count = 0 };
	int r = sandbox_drop(NULL, err);

	if (url && !roots)
		add(&paths, everything, SANDBOX_READ);
	for (size_t i = 0; url && i < json_array_size(roots); i++) {
		const char *const root[] = { json_string_value(json_array_get(roots, i)), NULL };

		add(&paths, root, SANDBOX_READ);
	}
	return r < 0 ? r : enter(SANDBOX_UNPACK, file_size_of(max_bytes), &paths, err);
}

int fetchbox_unpack(uint64_t max_bytes, int dir_fd, struct error *err)
{
	cleanup_(paths_done) struct paths paths = { .count = 0 };
	int r = sandbox_drop(NULL, err);

	add_borrowed(&paths, dir_fd, SANDBOX_LINK);
	add_libraries(&paths);
	return r < 0 ? r : enter(SANDBOX_UNPACK, file_size_of(max_bytes), &paths, err);
}

int fetchbox_pack(int dir_fd, struct error *err)
{
	cleanup_(paths_done) struct paths paths = { .count = 0 };

	/* No sandbox_drop(): what is in the folder belongs to the job's user. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_errno(err, "cannot set no_new_privs");
	add_borrowed(&paths, dir_fd, SANDBOX_READ);
	add_libraries(&paths);
	return enter(SANDBOX_UNPACK, 0, &paths, err);
}
