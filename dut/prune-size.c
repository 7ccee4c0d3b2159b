/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/folder.h"
#include "dut/daemon.h"
#include "dut/prune-internal.h"
#include "dut/records.h"
#include "dut/worker.h"

/* What the folders of ended jobs take of the disk: measured beside everything else, kept in their
 * rows. */

struct measuring {
	struct daemon *daemon;
	int jobs_fd;
	uint64_t id, bytes; /* id 0: none is left */
	bool is_counted;
};

static int take_unmeasured(const struct database_row *row, void *data, struct error *err)
{
	struct measuring *measuring = data;

	(void)err;
	measuring->id = (uint64_t)database_integer(row, 0);
	return 0;
}

static int find_unmeasured(struct database *database, void *data, struct error *err)
{
	struct measuring *measuring = data;
	uint64_t after = measuring->id;

	measuring->id = 0;
	return database_query(database, take_unmeasured, measuring, err,
			      "SELECT id FROM jobs WHERE NOT open AND pruned_us IS NULL"
			      " AND size IS NULL AND id > ? ORDER BY id LIMIT 1",
			      "u", after);
}

static int measure(void *data, struct error *err)
{
	struct measuring *measuring = data;
	close_ int fd = -1;
	char name[32];

	(void)err;
	(void)snprintf(name, sizeof(name), "%" PRIu64, measuring->id);
	if (file_open_beneath(&fd, measuring->jobs_fd, name, O_RDONLY | O_DIRECTORY, NULL) >= 0)
		measuring->bytes = folder_size(fd);
	return 0;
}

static int write_size(struct database *database, void *data, struct error *err)
{
	struct measuring *measuring = data;
	int r = database_run(database, err,
			     "UPDATE jobs SET size = ? WHERE id = ? AND pruned_us IS NULL", "uu",
			     measuring->bytes, measuring->id);

	measuring->is_counted = r > 0;
	return r;
}

static void on_size_written(int r, const struct error *err, void *data)
{
	const struct measuring *measuring = data;
	struct prune *prune = measuring->daemon->prune;

	(void)err;
	prune->is_measuring = false;
	if (r < 0)
		return; /* with the next job */
	prune->kept_bytes += measuring->is_counted ? measuring->bytes : 0;
	if (prune->measured < measuring->id)
		prune->measured = measuring->id;
	prune_jobs(measuring->daemon);
	prune_measure(measuring->daemon);
}

static struct measuring *copy_of(const struct measuring *measuring)
{
	struct measuring *copy = malloc(sizeof(*copy));

	if (copy)
		*copy = *measuring;
	return copy;
}

static void on_measured(int r, const struct error *err, void *data)
{
	struct measuring *measuring = copy_of(data);
	const struct records_work work = {
		.write = write_size, .done = on_size_written, .release = free, .data = measuring
	};
	struct prune *prune = ((const struct measuring *)data)->daemon->prune;

	(void)r;
	(void)err;
	prune->is_measuring =
		measuring && records_run(measuring->daemon->records, &work, NULL) >= 0;
	if (!prune->is_measuring)
		free(measuring);
}

static void on_unmeasured(int r, const struct error *err, void *data)
{
	struct measuring *measuring;
	struct prune *prune = ((const struct measuring *)data)->daemon->prune;

	(void)err;
	prune->is_measuring = false;
	if (r < 0 || ((const struct measuring *)data)->id == 0)
		return;
	measuring = copy_of(data);
	prune->is_measuring = measuring && worker_run(prune->daemon->bulk_worker, measure,
						      on_measured, free, measuring, NULL) >= 0;
	if (!prune->is_measuring)
		free(measuring);
}

/* One after the other: the row, the folder, the row. */
void prune_measure(struct daemon *daemon)
{
	struct prune *prune = daemon->prune;
	struct measuring *measuring;

	if (!daemon->config->limits.kept_size || prune->is_measuring)
		return;
	measuring = calloc(1, sizeof(*measuring));
	if (!measuring)
		return;
	measuring->daemon = daemon;
	measuring->jobs_fd = daemon->jobs_fd;
	measuring->id = prune->measured;
	const struct records_work work = {
		.read = find_unmeasured, .done = on_unmeasured, .release = free, .data = measuring
	};

	prune->is_measuring = records_run(daemon->records, &work, NULL) >= 0;
	if (!prune->is_measuring)
		free(measuring);
}
