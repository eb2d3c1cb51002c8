/*
 * durable.c
 *		What this node must remember from one run to the next (R11).
 *
 * The file is text, one "word value" per line, and ends with a checksum.  It
 * names the directory (device and inode) and the boot of the machine that it
 * was written in: a copy of the data directory, or a clone of the machine,
 * does not pass for the original.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog.h"
#include "lib/stringinfo.h"
#include "port/pg_crc32c.h"
#include "storage/fd.h"

#include "durable.h"

#define DURABLE_MAX	4096

/* Where we are: the directory, the boot and the cluster, as one line. */
static void
append_place(StringInfo out)
{
	struct stat st;
	char		boot[64] = "";
	int			fd;

	if (stat(".", &st) != 0)
		memset(&st, 0, sizeof(st));
	fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY);
	if (fd >= 0)
	{
		ssize_t		n = read(fd, boot, sizeof(boot) - 1);

		close(fd);
		boot[n > 0 ? n : 0] = '\0';
		boot[strcspn(boot, "\n")] = '\0';
	}
	appendStringInfo(out, "%llu/%llu/%s/" UINT64_FORMAT,
					 (unsigned long long) st.st_dev,
					 (unsigned long long) st.st_ino,
					 boot[0] ? boot : "unknown", GetSystemIdentifier());
}

static void
append_checksum(StringInfo out)
{
	pg_crc32c	crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, out->data, out->len);
	FIN_CRC32C(crc);
	appendStringInfo(out, "checksum %08X\n", crc);
}

/* Read the whole file; -1 if there is none, 0 if it cannot be read. */
static int
read_file(char *buffer)
{
	int			fd = open(DURABLE_FILE, O_RDONLY | PG_BINARY);
	ssize_t		n;

	if (fd < 0)
		return errno == ENOENT ? -1 : 0;
	n = read(fd, buffer, DURABLE_MAX - 1);
	close(fd);
	if (n <= 0)
		return 0;
	buffer[n] = '\0';
	return (int) n;
}

/* Cut off and compare the last line. */
static bool
checksum_fits(char *buffer)
{
	char	   *last = strstr(buffer, "checksum ");
	StringInfoData again;
	bool		fits;

	if (last == NULL)
		return false;
	initStringInfo(&again);
	appendBinaryStringInfo(&again, buffer, last - buffer);
	append_checksum(&again);
	fits = strcmp(again.data, buffer) == 0;
	pfree(again.data);
	*last = '\0';
	return fits;
}

static bool
parse_line(DurableState *state, const char *word, const char *value,
		   bool *same_place, int64 *generation)
{
	if (strcmp(word, "node") == 0)
		strlcpy(state->node, value, sizeof(state->node));
	else if (strcmp(word, "lease") == 0)
		strlcpy(state->lease, value, sizeof(state->lease));
	else if (strcmp(word, "incarnation") == 0)
		state->incarnation = strtoull(value, NULL, 10);
	else if (strcmp(word, "ended") == 0)
		state->ended = strcmp(value, "yes") == 0;
	else if (strcmp(word, "epoch") == 0)
		state->epoch = strtoll(value, NULL, 10);
	else if (strcmp(word, "held") == 0)
		state->held_epoch = strtoll(value, NULL, 10);
	else if (strcmp(word, "tables") == 0)
		state->table_epoch = strtoll(value, NULL, 10);
	else if (strcmp(word, "generation") == 0)
		*generation = strtoll(value, NULL, 10);
	else if (strcmp(word, "members") == 0)
		return roster_parse(&state->roster, *generation, value);
	else if (strcmp(word, "place") == 0)
	{
		StringInfoData here;

		initStringInfo(&here);
		append_place(&here);
		*same_place = strcmp(here.data, value) == 0 &&
			strstr(value, "/unknown/") == NULL;
		pfree(here.data);
	}
	return true;
}

DurableProof
durable_read(DurableState *state)
{
	char		buffer[DURABLE_MAX];
	int			n;
	bool		same_place = false;
	bool		good = true;
	int64		generation = 0;

	memset(state, 0, sizeof(*state));
	n = read_file(buffer);
	if (n < 0)
		return DURABLE_ABSENT;
	if (n == 0 || !checksum_fits(buffer))
		return DURABLE_BROKEN;
	for (char *line = buffer; good && *line != '\0';)
	{
		char	   *end = strchr(line, '\n');
		char	   *space = strchr(line, ' ');

		good = end != NULL && space != NULL && space < end;
		if (good)
		{
			*end = *space = '\0';
			good = parse_line(state, line, space + 1, &same_place, &generation);
			line = end + 1;
		}
	}
	if (!good)
	{
		memset(state, 0, sizeof(*state));
		return DURABLE_BROKEN;
	}
	return same_place ? DURABLE_OURS : DURABLE_COPY;
}

bool
durable_write(const DurableState *state)
{
	StringInfoData out;
	char		members[ROSTER_TEXT_LEN] = "";
	int			fd;
	bool		written;

	if (state->roster.generation > 0 &&
		!roster_format(&state->roster, members, sizeof(members)))
		members[0] = '\0';
	initStringInfo(&out);
	appendStringInfo(&out, "node %s\nlease %s\nincarnation " UINT64_FORMAT
					 "\nended %s\nepoch " INT64_FORMAT "\nheld " INT64_FORMAT
					 "\ntables " INT64_FORMAT
					 "\ngeneration " INT64_FORMAT "\nmembers %s\nplace ",
					 state->node, state->lease, state->incarnation,
					 state->ended ? "yes" : "no", state->epoch, state->held_epoch,
					 state->table_epoch,
					 members[0] ? state->roster.generation : (int64) 0, members);
	append_place(&out);
	appendStringInfoChar(&out, '\n');
	append_checksum(&out);

	fd = BasicOpenFile(DURABLE_FILE ".tmp", O_CREAT | O_TRUNC | O_WRONLY | PG_BINARY);
	written = fd >= 0 && write(fd, out.data, out.len) == out.len &&
		pg_fsync(fd) == 0;
	if (fd >= 0)
		close(fd);
	if (!written)
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", DURABLE_FILE ".tmp")));
	else
		written = durable_rename(DURABLE_FILE ".tmp", DURABLE_FILE, LOG) == 0;
	pfree(out.data);
	return written;
}
