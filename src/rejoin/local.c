/*
 * local.c
 *		What state the data directory is in, and whether anyone uses it.
 */
#include "node.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog_internal.h"
#include "access/xlogrecord.h"
#include "common/controldata_utils.h"

/* ------------------------------------------------------------------------
 * Who uses it
 * ------------------------------------------------------------------------
 */

/* The n-th line of postmaster.pid. */
static char *
pid_file_line(const Node *node, int n)
{
	char	   *text = read_whole_file(psprintf("%s/postmaster.pid", node->datadir), NULL);
	char	   *at = text;

	while (at != NULL && --n > 0)
	{
		at = strchr(at, '\n');
		if (at != NULL)
			at++;
	}
	if (at != NULL)
		at[strcspn(at, "\n")] = '\0';
	return at;
}

pid_t
node_postmaster(const Node *node)
{
	char	   *line = pid_file_line(node, 1);

	/* a standalone backend writes its own, negated */
	return line != NULL ? (pid_t) labs(strtol(line, NULL, 10)) : 0;
}

static bool
process_runs(pid_t pid)
{
	/* as for the server itself, another user's process is not one of its */
	return pid > 0 && pid != getpid() && pid != getppid() && kill(pid, 0) == 0;
}

/* Children may outlive a postmaster that was killed; its memory tells. */
static bool
memory_in_use(const Node *node)
{
	char	   *line = pid_file_line(node, 7);
	unsigned long key;
	int			id;
	struct shmid_ds segment;

	return line != NULL && sscanf(line, "%lu %d", &key, &id) == 2 &&
		shmctl(id, IPC_STAT, &segment) == 0 && segment.shm_nattch > 0 &&
#ifdef __linux__
		(unsigned long) (unsigned int) segment.shm_perm.__key == (key & 0xffffffffUL) &&
#endif
		segment.shm_perm.uid == geteuid();
}

void
node_refuse_running(const Node *node)
{
	pid_t		pid = node_postmaster(node);

	if (process_runs(pid))
		refuse(REJOIN_BUSY, psprintf("a server is running in \"%s\"", node->datadir),
			   psprintf("Its process is %d.", (int) pid), "Stop it first.");
	if (memory_in_use(node))
		refuse(REJOIN_BUSY, psprintf("processes of a server still use \"%s\"", node->datadir),
			   "The postmaster has ended, its children have not.",
			   "Wait until they have, or end them.");
}

/*
 * The lock is inherited by the programs that we run, on purpose: it is held as
 * long as any of them works in the directory.
 */
void
node_lock(const Node *node)
{
	int			fd = open(node->datadir, O_RDONLY);

	if (fd < 0)
		refuse(REJOIN_CONFIG, psprintf("could not open directory \"%s\": %m", node->datadir),
			   NULL, NULL);
	if (flock(fd, LOCK_EX | LOCK_NB) != 0)
		refuse(REJOIN_BUSY, psprintf("another leasehold-rejoin is at work in \"%s\"", node->datadir),
			   NULL, NULL);
}

/* ------------------------------------------------------------------------
 * Its state
 * ------------------------------------------------------------------------
 */

static bool
has(const Node *node, const char *name)
{
	return file_exists(psprintf("%s/%s", node->datadir, name));
}

/*
 * After a promotion the control file shows the new timeline first as that of
 * the minimum recovery point, and only later as the checkpoint's.
 */
static TimeLineID
last_timeline(const ControlFileData *control)
{
	return Max(control->checkPointCopy.ThisTimeLineID, control->minRecoveryPointTLI);
}

void
node_read_local(const Node *node, Local *local)
{
	char	   *control = psprintf("%s/global/pg_control", node->datadir);
	bool		crc_ok = false;
	TimeLineID	timeline;
	char	   *text = "";

	memset(local, 0, sizeof(*local));
	if (access(control, R_OK) != 0)
		refuse(REJOIN_CONFIG, psprintf("could not read file \"%s\": %m", control), NULL, NULL);
	local->control = get_controlfile(node->datadir, &crc_ok);
	if (!crc_ok || local->control->pg_control_version != PG_CONTROL_VERSION)
		refuse(REJOIN_NEEDS_BACKUP, psprintf("file \"%s\" is damaged", control), NULL, NULL);
	local->standby_signal = has(node, "standby.signal");
	local->backup_label = has(node, "backup_label");
	local->in_recovery = local->control->state == DB_IN_ARCHIVE_RECOVERY ||
		local->control->state == DB_SHUTDOWNED_IN_RECOVERY;
	local->clean = local->control->state == DB_SHUTDOWNED ||
		local->control->state == DB_SHUTDOWNED_IN_RECOVERY;

	timeline = last_timeline(local->control);
	if (timeline > 1)
		text = read_whole_file(psprintf("%s/pg_wal/%08X.history", node->datadir, timeline), NULL);
	local->history_known = text != NULL &&
		plan_parse_history(text, timeline, &local->history);
}

/* ------------------------------------------------------------------------
 * Where it ends
 * ------------------------------------------------------------------------
 */

XLogRecPtr
node_record_end(XLogRecPtr at, uint32 length, uint32 segment_size)
{
	while (length > 0)
	{
		uint32		room = XLOG_BLCKSZ - at % XLOG_BLCKSZ;
		uint32		part = Min(room, length);

		at += part;
		length -= part;
		if (length > 0)
			at += at % segment_size == 0 ? SizeOfXLogLongPHD : SizeOfXLogShortPHD;
	}
	return MAXALIGN(at);
}

XLogRecPtr
node_checkpoint_end(const Node *node, const Local *local)
{
	const ControlFileData *control = local->control;
	uint32		segment_size = control->xlog_seg_size;
	char		name[MAXFNAMELEN];
	XLogSegNo	segment;
	uint32		length = 0;
	int			fd;

	XLByteToSeg(control->checkPoint, segment, segment_size);
	XLogFileName(name, control->checkPointCopy.ThisTimeLineID, segment, segment_size);
	fd = open(psprintf("%s/pg_wal/%s", node->datadir, name), O_RDONLY | PG_BINARY);
	if (fd < 0)
		return InvalidXLogRecPtr;
	/* the length comes first, and is never divided */
	if (pread(fd, &length, sizeof(length), control->checkPoint % segment_size) != sizeof(length))
		length = 0;
	close(fd);
	if (length < SizeOfXLogRecord || length > SizeOfXLogRecord + 1024)
		return InvalidXLogRecPtr;
	return node_record_end(control->checkPoint, length, segment_size);
}
