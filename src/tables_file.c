/*
 * tables_file.c
 *		The list of protected tables on this node's disk (R11).
 *
 * A header with a checksum, then the entries as they stand in memory: nobody but
 * this server reads the file, and one of another build finds it broken, which
 * fences all until the store has been read.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "port/pg_crc32c.h"
#include "storage/fd.h"

#include "tables_file.h"

#define TABLES_MAGIC	0x4C485431	/* "LHT1" */

typedef struct TablesHeader
{
	uint32		magic;
	uint32		entry_size;
	int64		seq;
	int32		n;
	bool		unknown;
	pg_crc32c	checksum;		/* of the entries, and of this with 0 here */
} TablesHeader;

static pg_crc32c
checksum_of(const TablesHeader *header, const TableEntry *entry)
{
	TablesHeader plain = *header;
	pg_crc32c	crc;

	plain.checksum = 0;
	INIT_CRC32C(crc);
	COMP_CRC32C(crc, &plain, sizeof(plain));
	COMP_CRC32C(crc, entry, sizeof(TableEntry) * header->n);
	FIN_CRC32C(crc);
	return crc;
}

static bool
read_all(int fd, void *to, Size size)
{
	return read(fd, to, size) == (ssize_t) size;
}

static bool
read_list(int fd, TableList *list)
{
	TablesHeader header;

	if (!read_all(fd, &header, sizeof(header)) ||
		header.magic != TABLES_MAGIC || header.entry_size != sizeof(TableEntry) ||
		header.n < 0 || header.n > setting_tables_max ||
		!read_all(fd, list->entry, sizeof(TableEntry) * header.n) ||
		header.checksum != checksum_of(&header, list->entry))
		return false;
	list->seq = header.seq;
	list->n = header.n;
	list->unknown = header.unknown;
	/* slots are of one run */
	for (int e = 0; e < list->n; e++)
		list->entry[e].slot = TABLES_NO_SLOT;
	return true;
}

TablesFileState
tables_file_read(TableList *list)
{
	int			fd = open(TABLES_FILE, O_RDONLY | PG_BINARY);
	bool		good;

	list->generation = 0;
	list->unknown = false;
	list->seq = 0;
	list->n = 0;
	if (fd < 0)
		return errno == ENOENT ? TABLES_FILE_ABSENT : TABLES_FILE_BROKEN;
	good = read_list(fd, list);
	close(fd);
	if (good)
		return TABLES_FILE_GOOD;
	list->seq = 0;
	list->n = 0;
	return TABLES_FILE_BROKEN;
}

bool
tables_file_write(const TableList *list)
{
	TablesHeader header;
	Size		size = sizeof(TableEntry) * list->n;
	int			fd;
	bool		written;

	memset(&header, 0, sizeof(header));
	header.magic = TABLES_MAGIC;
	header.entry_size = sizeof(TableEntry);
	header.seq = list->seq;
	header.n = list->n;
	header.unknown = list->unknown;
	header.checksum = checksum_of(&header, list->entry);
	fd = BasicOpenFile(TABLES_FILE ".tmp", O_CREAT | O_TRUNC | O_WRONLY | PG_BINARY);
	written = fd >= 0 &&
		write(fd, &header, sizeof(header)) == sizeof(header) &&
		write(fd, list->entry, size) == (ssize_t) size && pg_fsync(fd) == 0;
	if (fd >= 0)
		close(fd);
	if (written)
		return durable_rename(TABLES_FILE ".tmp", TABLES_FILE, LOG) == 0;
	ereport(LOG,
			(errcode_for_file_access(),
			 errmsg("could not write file \"%s\": %m", TABLES_FILE ".tmp")));
	return false;
}

void
tables_file_follow(void)
{
	TablesShared *tables = leasehold_tables;
	TableList  *list;

	if (pg_atomic_read_u32(&tables->generation) ==
		pg_atomic_read_u32(&tables->on_disk))
		return;
	list = palloc(tables_list_size());
	if (tables_read(list) && tables_file_write(list))
	{
		pg_atomic_write_u32(&tables->on_disk, list->generation);
		shared_wake_keeper();
	}
	pfree(list);
}
