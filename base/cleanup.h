/* SPDX-License-Identifier: MIT */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/*
 * Every local that owns something names its destructor: `free_ char *text = NULL;`, `close_ int fd
 * = -1;`, `cleanup_(board_freep) struct board *board = NULL;`. Ownership leaves through take_ptr()
 * and take_fd().
 */
#define cleanup_(function) __attribute__((cleanup(function)))

/* Defines NAME_freep() for cleanup_() from a destructor that takes NULL. */
#define CLEANUP_DEFINE(type, destructor)               \
	static inline void destructor##p(type *object) \
	{                                              \
		if (*object)                           \
			destructor(*object);           \
	}

static inline void cleanup_free(void *pointer)
{
	free(*(void **)pointer);
}

/* Closes a file descriptor that is there; keeps errno, so that it may stand on an error path. */
static inline int close_fd(int fd)
{
	int saved = errno;

	if (fd >= 0)
		(void)close(fd);
	errno = saved;
	return -1;
}

static inline void cleanup_close(const int *fd)
{
	(void)close_fd(*fd);
}

static inline void cleanup_fclose(FILE **file)
{
	if (*file)
		(void)fclose(*file);
}

static inline void cleanup_closedir(DIR **dir)
{
	if (*dir)
		(void)closedir(*dir);
}

#define free_	  cleanup_(cleanup_free)
#define close_	  cleanup_(cleanup_close)
#define fclose_	  cleanup_(cleanup_fclose)
#define closedir_ cleanup_(cleanup_closedir)

static inline int take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

static inline void *take_ptr_impl(void *pointer)
{
	void *taken = *(void **)pointer;

	*(void **)pointer = NULL;
	return taken;
}

/* Moves a pointer out of its variable, which becomes NULL. */
#define take_ptr(pointer) take_ptr_impl(&(pointer))
