/* SPDX-License-Identifier: MIT */

/*
 * What packing and unpacking costs at least: libarchive's own loops between a folder and a tar.
 * limit-archive pack|unpack TAR FOLDER; what is unpacked may be compressed.
 */

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK_SIZE = 65536 };

static int fault(struct archive *archive)
{
	(void)fprintf(stderr, "limit-archive: %s\n", archive_error_string(archive));
	return 1;
}

static int copy_file(struct archive *tar, const char *path)
{
	static char block[BLOCK_SIZE];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -1;
	while ((n = read(fd, block, sizeof(block))) > 0)
		if (archive_write_data(tar, block, (size_t)n) < 0)
			break;
	(void)close(fd);
	return n == 0 ? 0 : -1;
}

/* The entries of the present folder. */
static int pack(const char *path, const char *folder)
{
	struct archive *disk = archive_read_disk_new(), *tar = archive_write_new();
	struct archive_entry *entry = archive_entry_new();
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
	int r;

	if (fd < 0 || chdir(folder) < 0) {
		perror("limit-archive");
		return 1;
	}
	(void)archive_read_disk_set_behavior(disk, ARCHIVE_READDISK_NO_XATTR |
							   ARCHIVE_READDISK_NO_ACL |
							   ARCHIVE_READDISK_NO_FFLAGS);
	(void)archive_write_set_format_pax_restricted(tar);
	(void)archive_write_set_bytes_per_block(tar, BLOCK_SIZE);
	if (archive_write_open_fd(tar, fd) < 0 || archive_read_disk_open(disk, ".") < 0)
		return fault(tar);
	while ((r = archive_read_next_header2(disk, entry)) == ARCHIVE_OK) {
		(void)archive_read_disk_descend(disk);
		if (archive_write_header(tar, entry) < 0)
			return fault(tar);
		if (archive_entry_filetype(entry) == AE_IFREG &&
		    copy_file(tar, archive_entry_sourcepath(entry)) < 0)
			return fault(tar);
		(void)archive_entry_clear(entry);
	}
	if (r != ARCHIVE_EOF)
		return fault(disk);
	if (archive_write_close(tar) < 0)
		return fault(tar);
	archive_entry_free(entry);
	(void)archive_write_free(tar);
	(void)archive_read_free(disk);
	return 0;
}

static int copy_data(struct archive *tar, struct archive *disk)
{
	const void *block;
	la_int64_t offset;
	size_t size;
	int r;

	while ((r = archive_read_data_block(tar, &block, &size, &offset)) == ARCHIVE_OK)
		if (archive_write_data_block(disk, block, size, offset) < 0)
			return fault(disk);
	return r == ARCHIVE_EOF ? 0 : fault(tar);
}

static int unpack(const char *path, const char *folder)
{
	struct archive *tar = archive_read_new(), *disk = archive_write_disk_new();
	struct archive_entry *entry;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int r;

	if (fd < 0 || chdir(folder) < 0) {
		perror("limit-archive");
		return 1;
	}
	(void)archive_read_support_format_tar(tar);
	(void)archive_read_support_filter_gzip(tar);
	(void)archive_read_support_filter_zstd(tar);
	(void)archive_write_disk_set_options(disk, ARCHIVE_EXTRACT_TIME | ARCHIVE_EXTRACT_PERM |
							   ARCHIVE_EXTRACT_SECURE_NODOTDOT |
							   ARCHIVE_EXTRACT_SECURE_SYMLINKS);
	if (archive_read_open_fd(tar, fd, BLOCK_SIZE) < 0)
		return fault(tar);
	while ((r = archive_read_next_header(tar, &entry)) == ARCHIVE_OK)
		if (archive_write_header(disk, entry) < 0 || copy_data(tar, disk) != 0 ||
		    archive_write_finish_entry(disk) < 0)
			return fault(disk);
	if (r != ARCHIVE_EOF)
		return fault(tar);
	(void)archive_write_free(disk);
	(void)archive_read_free(tar);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "pack") == 0)
		return pack(argv[2], argv[3]);
	if (argc == 4 && strcmp(argv[1], "unpack") == 0)
		return unpack(argv[2], argv[3]);
	(void)fputs("usage: limit-archive pack|unpack TAR FOLDER\n", stderr);
	return 64;
}
