/*
 * compare.c
 *		Is this node's log what the holder has at the same place?
 *
 * Two nodes that were promoted at the same position without knowing of each
 * other give their timelines the same number, and their history files are
 * equal.  Only the log itself tells them apart: it is streamed from the holder
 * and compared byte by byte.
 */
#include "compare.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "access/xlog_internal.h"

#define COMPARE_MAX		(64 * 1024)
#define MESSAGE_HEADER	25		/* 'w', start, end, time */

/*
 * Read a part of the log, which does not leave its segment and begins with a
 * page.  Returns how much of it has been written at all: a file is longer than
 * what stands in it, and a page that is not the one of its place is of no use.
 */
static size_t
read_local(const Node *node, uint32 timeline, uint32 segment_size,
		   XLogRecPtr from, char *to, size_t size)
{
	char		name[MAXFNAMELEN];
	XLogSegNo	segment;
	size_t		done = 0;
	int			fd;

	XLByteToSeg(from, segment, segment_size);
	XLogFileName(name, timeline, segment, segment_size);
	fd = open(psprintf("%s/pg_wal/%s", node->datadir, name), O_RDONLY | PG_BINARY);
	if (fd < 0)
		return 0;
	if (pread(fd, to, size, from % segment_size) != (ssize_t) size)
		size = 0;
	close(fd);
	while (done < size)
	{
		XLogPageHeaderData header;

		memcpy(&header, to + done, sizeof(header));
		if (header.xlp_magic != XLOG_PAGE_MAGIC || header.xlp_pageaddr != from + done)
			break;
		done = Min(done + XLOG_BLCKSZ, size);
	}
	return done;
}

/* The next piece of the stream; 0 at its end, or when it takes too long. */
static int
next_piece(PGconn *conn, char **message, ClockTime deadline)
{
	for (;;)
	{
		struct pollfd fd = {PQsocket(conn), POLLIN, 0};
		int			n = PQgetCopyData(conn, message, 1);

		if (n > MESSAGE_HEADER && (*message)[0] == 'w')
			return n - MESSAGE_HEADER;
		if (n < 0)
			return 0;
		if (n > 0)
		{
			PQfreemem(*message);	/* keepalive */
			continue;
		}
		if (clock_now() > deadline)
			return 0;
		poll(&fd, 1, 200);
		if (!PQconsumeInput(conn))
			return 0;
	}
}

/* Compare as the pieces come in, which follow each other without a gap. */
static bool
compare_stream(PGconn *conn, const char *ours, size_t size)
{
	ClockTime	deadline = clock_now() + options.timeout * CLOCK_S;
	char	   *message;
	size_t		done = 0;
	bool		same = true;

	while (same && done < size)
	{
		size_t		n = next_piece(conn, &message, deadline);

		if (n == 0)
			break;
		n = Min(n, size - done);
		same = memcmp(ours + done, message + MESSAGE_HEADER, n) == 0;
		done += n;
		PQfreemem(message);
	}
	return same;
}

bool
compare_log(const Node *node, const Local *local, const Holder *holder,
			uint32 timeline, XLogRecPtr begin, XLogRecPtr end)
{
	uint32		segment_size = local->control->xlog_seg_size;
	XLogRecPtr	from;
	size_t		size;
	char	   *ours;
	PGconn	   *conn;
	PGresult   *result;
	char	   *why;
	bool		same = true;

	if (end <= begin || end > holder->lsn)
		return true;
	/* of the segment in which it ends, whole pages from the start */
	from = Max(end - (end - 1) % segment_size - 1, begin - begin % XLOG_BLCKSZ);
	if (end - from > COMPARE_MAX)
		from = end - (end - 1) % XLOG_BLCKSZ - 1 - (COMPARE_MAX - XLOG_BLCKSZ);
	ours = pg_malloc(COMPARE_MAX);
	size = read_local(node, timeline, segment_size, from, ours, end - from);
	if (size == 0 || (conn = holder_stream(holder, &why)) == NULL)
		return true;
	result = conn_query(conn, psprintf("START_REPLICATION PHYSICAL %X/%X TIMELINE %u",
									   LSN_FORMAT_ARGS(from), timeline),
						options.timeout, &why);
	if (result != NULL && PQresultStatus(result) == PGRES_COPY_BOTH)
		same = compare_stream(conn, ours, size);
	PQclear(result);
	PQfinish(conn);
	return same;
}
