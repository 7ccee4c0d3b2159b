/* SPDX-License-Identifier: MIT */
#include "dut/users.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/list.h"

/*
 * A look-up is a thread that shares nothing with us but a pipe, into which it writes the name: one
 * that never ends costs a thread, and the end of dutd does not wait for it.
 */

static const uint64_t WAIT_LIMIT_US = UINT64_C(2) * 1000000;
static const uint64_t KEEP_US = UINT64_C(300) * 1000000; /* then it is looked up anew */

enum {
	FIRST_BUFFER = 4096, /* bytes, for an entry of the user database */
	LAST_BUFFER = 1 << 20,
};

struct user {
	struct list link; /* users.kept, the one that was asked for last at the end */
	struct users *users;
	uid_t uid;
	char name[USERS_NAME_SIZE]; /* empty: none, or not known yet */
	uint64_t known_us;	    /* CLOCK_BOOTTIME; 0: not known */
	bool late;		    /* the look-up has taken too long for those who wait */
	int pipe_fd;		    /* of a look-up, or -1 */
	sd_event_source *answer, *timer;
};

struct waiting {
	struct list link; /* users.waiting */
	uid_t uid;
	bool due;
	void (*done)(void *data);
	void *data;
};

struct users {
	sd_event *event;
	struct list kept, waiting;
	unsigned n_kept, n_lookups;
};

/* ---- in the thread ---- */

struct lookup {
	uid_t uid;
	int pipe_fd;
};

static void look_up(uid_t uid, char name[static USERS_NAME_SIZE])
{
	struct passwd entry, *found = NULL;
	int number = ERANGE;

	name[0] = '\0';
	for (size_t size = FIRST_BUFFER; number == ERANGE && size <= LAST_BUFFER; size *= 4) {
		free_ char *buffer = malloc(size);

		if (!buffer)
			return;
		number = getpwuid_r(uid, &entry, buffer, size, &found);
		if (number == 0 && found && strlen(found->pw_name) < USERS_NAME_SIZE)
			(void)snprintf(name, USERS_NAME_SIZE, "%s", found->pw_name);
	}
}

static void *thread_main(void *data)
{
	struct lookup *lookup = data;
	char name[USERS_NAME_SIZE];
	ssize_t n;

	look_up(lookup->uid, name);
	/* Less than a pipe holds. Should nobody be there any more, nobody misses it. */
	n = write(lookup->pipe_fd, name, strlen(name));
	(void)n;
	(void)close_fd(lookup->pipe_fd);
	free(lookup);
	return NULL;
}

static int start_thread(struct lookup *lookup)
{
	pthread_attr_t attributes;
	sigset_t all, old;
	pthread_t thread;
	int number;

	(void)pthread_attr_init(&attributes);
	(void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	/* Signals are the loop's business. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	number = pthread_create(&thread, &attributes, thread_main, lookup);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	(void)pthread_attr_destroy(&attributes);
	return -number;
}

/* ---- in the loop ---- */

static void end_lookup(struct user *user)
{
	if (user->pipe_fd >= 0)
		user->users->n_lookups--;
	user->pipe_fd = close_fd(user->pipe_fd);
	user->answer = sd_event_source_disable_unref(user->answer);
	user->timer = sd_event_source_disable_unref(user->timer);
}

static void user_free(struct user *user)
{
	end_lookup(user);
	list_remove(&user->link);
	user->users->n_kept--;
	free(user);
}

static struct waiting *next_due(const struct users *users)
{
	LIST_FOREACH(link, &users->waiting) {
		struct waiting *waiting = CONTAINER_OF(link, struct waiting, link);

		if (waiting->due)
			return waiting;
	}
	return NULL;
}

static void tell(struct users *users, uid_t uid)
{
	struct waiting *waiting;

	/* done may ask again, which is for the next time, and may make others forget. */
	LIST_FOREACH(link, &users->waiting) {
		waiting = CONTAINER_OF(link, struct waiting, link);
		waiting->due = waiting->due || waiting->uid == uid;
	}
	while ((waiting = next_due(users))) {
		void (*done)(void *data) = waiting->done;
		void *data = waiting->data;

		list_remove(&waiting->link);
		free(waiting);
		done(data);
	}
}

static int on_answer(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct user *user = data;
	struct users *users = user->users;
	uid_t uid = user->uid;
	ssize_t n = read(fd, user->name, sizeof(user->name) - 1);

	(void)source;
	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	user->name[n > 0 ? n : 0] = '\0';
	user->known_us = clock_now_us();
	user->late = false;
	end_lookup(user);
	tell(users, uid);
	return 0;
}

static int on_late(sd_event_source *source, uint64_t usec, void *data)
{
	struct user *user = data;

	(void)source;
	(void)usec;
	user->late = true;
	tell(user->users, user->uid);
	return 0;
}

static int watch(struct user *user, struct error *err)
{
	int r = sd_event_add_io(user->users->event, &user->answer, user->pipe_fd, EPOLLIN,
				on_answer, user);

	if (r >= 0)
		r = sd_event_add_time_relative(user->users->event, &user->timer, CLOCK_BOOTTIME,
					       WAIT_LIMIT_US, 0, on_late, user);
	if (r < 0)
		return error_code(err, r, "cannot watch the look-up of a user");
	(void)sd_event_source_set_description(user->answer, "user-name");
	(void)sd_event_source_set_description(user->timer, "user-name-limit");
	return 0;
}

static int start_lookup(struct user *user, struct error *err)
{
	struct lookup *lookup;
	int pipes[2], r;

	if (user->users->n_lookups >= USERS_MAX_LOOKUPS)
		return error_set(err, -EAGAIN, "%d users are being looked up, which is the limit",
				 USERS_MAX_LOOKUPS);
	lookup = malloc(sizeof(*lookup));
	if (!lookup)
		return error_oom(err);
	if (pipe2(pipes, O_CLOEXEC) < 0) {
		free(lookup);
		return error_errno(err, "pipe");
	}
	*lookup = (struct lookup){ .uid = user->uid, .pipe_fd = pipes[1] };
	user->pipe_fd = pipes[0];
	user->users->n_lookups++;
	r = watch(user, err);
	if (r >= 0) {
		r = start_thread(lookup);
		if (r < 0)
			(void)error_code(err, r, "cannot look up a user");
	}
	if (r < 0) {
		end_lookup(user);
		(void)close_fd(pipes[1]);
		free(lookup);
	}
	return r;
}

static struct user *find_user(struct users *users, uid_t uid)
{
	LIST_FOREACH(link, &users->kept) {
		struct user *user = CONTAINER_OF(link, struct user, link);

		if (user->uid == uid)
			return user;
	}
	return NULL;
}

/* Makes room for one; those that are being looked up are not many, and stay. */
static void drop_oldest(struct users *users)
{
	LIST_FOREACH_SAFE(link, after, &users->kept) {
		struct user *user = CONTAINER_OF(link, struct user, link);

		if (users->n_kept < USERS_MAX_KEPT)
			return;
		if (user->pipe_fd < 0)
			user_free(user);
	}
}

static struct user *add_user(struct users *users, uid_t uid)
{
	struct user *user;

	drop_oldest(users);
	user = calloc(1, sizeof(*user));
	if (!user)
		return NULL;
	user->users = users;
	user->uid = uid;
	user->pipe_fd = -1;
	list_append(&users->kept, &user->link);
	users->n_kept++;
	return user;
}

bool users_name(struct users *users, uid_t uid, char name[static USERS_NAME_SIZE])
{
	struct user *user = find_user(users, uid);

	if (user && user->name[0])
		(void)snprintf(name, USERS_NAME_SIZE, "%s", user->name);
	else
		(void)snprintf(name, USERS_NAME_SIZE, "uid:%u", (unsigned)uid);
	if (!user)
		return false;
	list_remove(&user->link);
	list_append(&users->kept, &user->link);
	/* What is old serves until its look-up has ended. */
	if (user->known_us && user->pipe_fd < 0 && clock_now_us() - user->known_us > KEEP_US)
		(void)start_lookup(user, NULL);
	return user->known_us || user->late;
}

int users_ask(struct users *users, uid_t uid, void (*done)(void *data), void *data,
	      struct error *err)
{
	struct user *user = find_user(users, uid);
	struct waiting *waiting;
	int r = 0;

	if (!user)
		user = add_user(users, uid);
	waiting = malloc(sizeof(*waiting));
	if (!user || !waiting) {
		free(waiting);
		return error_oom(err);
	}
	if (user->pipe_fd < 0)
		r = start_lookup(user, err);
	if (r < 0) {
		free(waiting);
		if (!user->known_us)
			user_free(user);
		return r;
	}
	*waiting = (struct waiting){ .uid = uid, .done = done, .data = data };
	list_append(&users->waiting, &waiting->link);
	if (user->late) {
		(void)sd_event_source_set_time_relative(user->timer, 0);
		(void)sd_event_source_set_enabled(user->timer, SD_EVENT_ONESHOT);
	}
	return 0;
}

void users_forget(struct users *users, const void *data)
{
	LIST_FOREACH_SAFE(link, after, &users->waiting) {
		struct waiting *waiting = CONTAINER_OF(link, struct waiting, link);

		if (waiting->data != data)
			continue;
		list_remove(link);
		free(waiting);
	}
}

struct users *users_free(struct users *users)
{
	if (!users)
		return NULL;
	LIST_FOREACH_SAFE(link, after, &users->waiting) {
		list_remove(link);
		free(CONTAINER_OF(link, struct waiting, link));
	}
	LIST_FOREACH_SAFE(link, after, &users->kept)
		user_free(CONTAINER_OF(link, struct user, link));
	free(users);
	return NULL;
}

int users_new(struct users **ret, sd_event *event, struct error *err)
{
	struct users *users = calloc(1, sizeof(*users));

	if (!users)
		return error_oom(err);
	users->event = event;
	list_init(&users->kept);
	list_init(&users->waiting);
	*ret = users;
	return 0;
}
