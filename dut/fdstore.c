/* SPDX-License-Identifier: MIT */
#include "dut/fdstore.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/text.h"

struct entry {
	char *name;
	int fd; /* -1 once somebody has it */
};

struct fdstore {
	struct entry *entries; /* that were handed in */
	size_t count;
	unsigned serial; /* the highest so far; no two fds of one service have the same */
	bool keeps;	 /* there is a store for us */
	bool sealed;	 /* or it has failed */
};

struct fdstore *fdstore_free(struct fdstore *store)
{
	if (!store)
		return NULL;
	for (size_t i = 0; i < store->count; i++) {
		free(store->entries[i].name);
		(void)close_fd(store->entries[i].fd);
	}
	free(store->entries);
	free(store);
	return NULL;
}

/* systemd 254 tells by itself; the unit does it for those before. */
static bool has_store(void)
{
	const char *size = getenv("FDSTORE");
	uint64_t count;

	return size && text_to_uint64(&count, size, 1, UINT32_MAX, NULL) >= 0 &&
	       getenv("NOTIFY_SOCKET");
}

static unsigned last_number(const char *name)
{
	const char *slash = strrchr(name, '/');
	uint64_t serial;

	if (!slash || text_to_uint64(&serial, slash + 1, 1, INT32_MAX, NULL) < 0)
		return 0;
	return (unsigned)serial;
}

int fdstore_new(struct fdstore **ret, struct error *err)
{
	struct fdstore *store = calloc(1, sizeof(*store));
	char **names = NULL;
	int count;

	if (!store)
		return error_oom(err);
	store->keeps = has_store();
	count = sd_listen_fds_with_names(1, &names);
	if (count > 0)
		store->entries = calloc((size_t)count, sizeof(*store->entries));
	if (count < 0 || (count > 0 && !store->entries)) {
		fdstore_free(store);
		return count < 0 ? error_code(err, count, "LISTEN_FDS") : error_oom(err);
	}
	for (int i = 0; i < count; i++) {
		unsigned serial = last_number(names[i]);

		store->entries[i] = (struct entry){ names[i], SD_LISTEN_FDS_START + i };
		store->serial = serial > store->serial ? serial : store->serial;
	}
	store->count = (size_t)count;
	free(names);
	*ret = store;
	return 0;
}

/* ---- the socket ---- */

/* Sockets have the names of their units; who hands in one without systemd gives it none. */
static bool is_socket_name(const char *name)
{
	static const char suffix[] = ".socket";
	size_t length = strlen(name);

	return strcmp(name, "unknown") == 0 ||
	       (length >= strlen(suffix) && strcmp(name + length - strlen(suffix), suffix) == 0 &&
		!strchr(name, '/'));
}

int fdstore_take_socket(struct fdstore *store, int *ret_fd, struct error *err)
{
	struct entry *found = NULL;

	for (size_t i = 0; i < store->count; i++) {
		struct entry *entry = &store->entries[i];

		if (entry->fd < 0 || !is_socket_name(entry->name))
			continue;
		if (sd_is_socket_unix(entry->fd, SOCK_STREAM, 1, NULL, 0) <= 0)
			return error_set(err, -EINVAL,
					 "the service manager hands in '%s', which is no listening "
					 "unix stream socket",
					 entry->name);
		if (found)
			return error_set(err, -EINVAL,
					 "the service manager hands in more than one socket: '%s' "
					 "and '%s'",
					 found->name, entry->name);
		found = entry;
	}
	if (!found)
		return 0;
	*ret_fd = take_fd(&found->fd);
	return 1;
}

/* ---- the store ---- */

void fdstore_slot_init(struct fdstore_slot *slot, const char *kind, const char *dut,
		       const char *name)
{
	slot->serial = 0;
	(void)snprintf(slot->name, sizeof(slot->name), "%s/%s/%s", kind, dut, name);
}

/* The number behind a slot's name, 0 when this is another's. */
static unsigned serial_of(const struct fdstore_slot *slot, const char *name)
{
	size_t length = strlen(slot->name);

	if (strncmp(name, slot->name, length) != 0 || name[length] != '/' ||
	    strchr(name + length + 1, '/'))
		return 0;
	return last_number(name);
}

/* A store that does not take fds costs what it is there for, and nothing else. */
static void tell(struct fdstore *store, const char *text, const int *fd)
{
	int r = sd_pid_notify_with_fds(0, false, text, fd, fd ? 1 : 0);

	if (r >= 0)
		return;
	log_msg(LOG_WARNING, "the service manager keeps no consoles for us any more: %s",
		strerror(-r));
	store->sealed = true;
}

static void remove_name(struct fdstore *store, const char *name)
{
	char text[256];

	(void)snprintf(text, sizeof(text), "FDSTOREREMOVE=1\nFDNAME=%s", name);
	tell(store, text, NULL);
}

static void remove_serial(struct fdstore *store, const struct fdstore_slot *slot, unsigned serial)
{
	char name[sizeof(slot->name) + 16];

	(void)snprintf(name, sizeof(name), "%s/%u", slot->name, serial);
	remove_name(store, name);
}

int fdstore_take(struct fdstore *store, struct fdstore_slot *slot)
{
	struct entry *found = NULL;

	/* A dutd that was killed while it replaced one has left both. */
	for (size_t i = 0; store && i < store->count; i++) {
		struct entry *entry = &store->entries[i];
		unsigned serial = entry->fd >= 0 ? serial_of(slot, entry->name) : 0;

		if (serial > slot->serial) {
			slot->serial = serial;
			found = entry;
		}
	}
	return found ? take_fd(&found->fd) : -1;
}

void fdstore_put(struct fdstore *store, struct fdstore_slot *slot, int fd)
{
	unsigned before = slot->serial;
	char text[256];

	if (!store || !store->keeps || store->sealed)
		return;
	if (fd >= 0) {
		slot->serial = ++store->serial;
		/* Without FDPOLL=0 systemd drops what has hung up: a pipe without its writer, a
		 * console with last words. */
		(void)snprintf(text, sizeof(text), "FDSTORE=1\nFDPOLL=0\nFDNAME=%s/%u", slot->name,
			       slot->serial);
		tell(store, text, &fd);
	} else {
		slot->serial = 0;
	}
	if (before > 0)
		remove_serial(store, slot, before);
}

void fdstore_drop_rest(struct fdstore *store)
{
	for (size_t i = 0; i < store->count; i++) {
		struct entry *entry = &store->entries[i];

		if (entry->fd < 0)
			continue;
		log_msg(LOG_NOTICE, "the service manager kept '%s', which belongs to no board",
			entry->name);
		if (store->keeps && !store->sealed)
			remove_name(store, entry->name);
		entry->fd = close_fd(entry->fd);
	}
}

void fdstore_seal(struct fdstore *store)
{
	if (store)
		store->sealed = true;
}
