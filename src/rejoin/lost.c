/*
 * lost.c
 *		Reading what this node wrote and the group never received.
 *
 * pg_waldump tells.  Rows are counted for transactions that committed, with
 * their subtransactions; changes that never committed were never visible.
 */
#include "lost.h"

#include "access/xlog_internal.h"

/* What one transaction did to one relation, until it is known to commit. */
typedef struct Change
{
	int			relation;
	int64		inserted;
	int64		updated;
	int64		deleted;
	int64		other;
	struct Change *next;
} Change;

typedef struct Xact
{
	unsigned int xid;
	char		status;
	Change	   *changes;
} Xact;

#define SH_PREFIX xacts
#define SH_ELEMENT_TYPE Xact
#define SH_KEY_TYPE unsigned int
#define SH_KEY xid
#define SH_HASH_KEY(tb, key) ((key) * 2654435761U)
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_RAW_ALLOCATOR pg_malloc0
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

typedef struct Reader
{
	Lost	   *lost;
	LostRange  *range;
	uint32		segment_size;
	xacts_hash *xacts;
} Reader;

/* One line of pg_waldump. */
typedef struct Record
{
	char	   *manager;
	unsigned int length;
	unsigned int xid;
	uint64		lsn;
	char	   *what;			/* the description */
} Record;

/* ------------------------------------------------------------------------
 * Reading a line
 * ------------------------------------------------------------------------
 */

/*
 * "rmgr: Heap  len (rec/tot): 59/ 175, tx: 736, lsn: 0/03000180, prev ...,
 * desc: INSERT off 2, blkref #0: rel 1663/5/16384 blk 0"
 */
static bool
parse_record(char *line, Record *record)
{
	char	   *length = strstr(line, "len (rec/tot):");
	char	   *xid = strstr(line, ", tx:");
	char	   *lsn = strstr(line, ", lsn:");
	char	   *what = strstr(line, ", desc: ");
	unsigned int high;
	unsigned int low;

	if (strncmp(line, "rmgr: ", 6) != 0 || length == NULL || xid == NULL ||
		lsn == NULL || what == NULL ||
		sscanf(length + 14, " %*u/ %u", &record->length) != 1 ||
		sscanf(xid + 5, " %u", &record->xid) != 1 ||
		sscanf(lsn + 6, " %X/%X", &high, &low) != 2)
		return false;
	record->lsn = ((uint64) high << 32) | low;
	record->what = what + 8;
	record->manager = line + 6;
	record->manager[strcspn(record->manager, " ")] = '\0';
	return true;
}

static bool
starts(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

/* ------------------------------------------------------------------------
 * Relations
 * ------------------------------------------------------------------------
 */

static int
find_relation(Lost *lost, unsigned int tablespace, unsigned int database,
			  unsigned int file)
{
	static int	recent[4096];	/* by file: where it was last time, plus one */
	int		   *guess = &recent[(file ^ database) % lengthof(recent)];
	LostRelation *relation;

	for (int i = lost->n_relations; i >= 0; i--)
	{
		int			at = i == lost->n_relations ? *guess - 1 : i;

		if (at < 0 || at >= lost->n_relations)
			continue;
		relation = &lost->relation[at];
		if (relation->file == file && relation->database == database &&
			relation->tablespace == tablespace)
		{
			*guess = at + 1;
			return at;
		}
	}
	if (lost->n_relations % 64 == 0)
		lost->relation = pg_realloc(lost->relation,
									(lost->n_relations + 64) * sizeof(LostRelation));
	relation = &lost->relation[lost->n_relations];
	memset(relation, 0, sizeof(*relation));
	relation->tablespace = tablespace;
	relation->database = database;
	relation->file = file;
	return lost->n_relations++;
}

static Change *
find_change(Reader *reader, unsigned int xid, int relation)
{
	bool		found;
	Xact	   *xact = xacts_insert(reader->xacts, xid, &found);
	Change	   *change;

	if (!found)
		xact->changes = NULL;
	for (change = xact->changes; change != NULL; change = change->next)
		if (change->relation == relation)
			return change;
	change = pg_malloc0(sizeof(Change));
	change->relation = relation;
	change->next = xact->changes;
	xact->changes = change;
	return change;
}

static void
count_rows(const Record *record, Change *change)
{
	const char *what = record->what;
	const char *tuples;
	int			n = 1;

	if (strcmp(record->manager, "Heap") == 0 && starts(what, "INSERT"))
		change->inserted++;
	else if (strcmp(record->manager, "Heap2") == 0 && starts(what, "MULTI_INSERT"))
	{
		/* "3 tuples", or "ntuples: 3" */
		tuples = strpbrk(what, "0123456789");
		if (tuples != NULL)
			n = atoi(tuples);
		change->inserted += n;
	}
	else if (strcmp(record->manager, "Heap") == 0 &&
			 (starts(what, "UPDATE") || starts(what, "HOT_UPDATE")))
		change->updated++;
	else if (strcmp(record->manager, "Heap") == 0 && starts(what, "DELETE"))
		change->deleted++;
	else
		change->other++;
}

/* Every relation named in the record; rows are those of the first. */
static void
note_relations(Reader *reader, const Record *record)
{
	const char *at = record->what;
	bool		first = true;

	while ((at = strstr(at, "rel ")) != NULL)
	{
		unsigned int tablespace;
		unsigned int database;
		unsigned int file;

		at += 4;
		if (sscanf(at, "%u/%u/%u", &tablespace, &database, &file) != 3)
			continue;
		if (first)
			count_rows(record, find_change(reader, record->xid,
										   find_relation(reader->lost, tablespace, database, file)));
		else
			find_change(reader, record->xid,
						find_relation(reader->lost, tablespace, database, file));
		first = false;
	}
}

/* "CREATE base/5/16400", of the default tablespace or another one. */
static void
note_creation(Reader *reader, const Record *record)
{
	const char *end = record->what + strcspn(record->what, ";,");
	unsigned int number[2];
	unsigned int tablespace = 1663;
	const char *at = end;
	int			n = 0;

	/* the last two numbers are the database and the file */
	while (n < 2 && at > record->what)
	{
		while (at > record->what && isdigit((unsigned char) at[-1]))
			at--;
		number[n++] = strtoul(at, NULL, 10);
		if (at == record->what || at[-1] != '/')
			break;
		at--;
	}
	if (n < 2)
		return;
	sscanf(record->what, "CREATE pg_tblspc/%u/", &tablespace);
	reader->lost->relation[find_relation(reader->lost, tablespace, number[1],
										 number[0])].created = true;
}

/* ------------------------------------------------------------------------
 * Transactions
 * ------------------------------------------------------------------------
 */

static void
settle(Reader *reader, unsigned int xid, bool committed)
{
	Xact	   *xact = xacts_lookup(reader->xacts, xid);
	Change	   *change = xact ? xact->changes : NULL;

	while (change != NULL)
	{
		Change	   *next = change->next;
		LostRelation *relation = &reader->lost->relation[change->relation];

		if (committed)
		{
			relation->inserted += change->inserted;
			relation->updated += change->updated;
			relation->deleted += change->deleted;
			relation->other += change->other +
				(change->inserted + change->updated + change->deleted == 0);
		}
		pg_free(change);
		change = next;
	}
	if (xact != NULL)
		xacts_delete(reader->xacts, xid);
}

/* "COMMIT 2023-01-01 00:00:00.000000 UTC; rels: ...; subxacts: 737 738" */
static void
note_end(Reader *reader, const Record *record, bool committed)
{
	const char *what = record->what + strcspn(record->what, " ");
	const char *subxacts = strstr(what, "subxacts:");
	unsigned int xid = record->xid;
	int			used;

	/* of a prepared transaction the record names it: "COMMIT_PREPARED 735: " */
	if (strstr(record->what, "_PREPARED") != NULL &&
		sscanf(what, " %u:%n", &xid, &used) == 1)
		what += used;
	settle(reader, xid, committed);
	if (subxacts != NULL)
	{
		const char *at = subxacts + 9;
		unsigned int sub;

		while (sscanf(at, " %u%n", &sub, &used) == 1)
		{
			settle(reader, sub, committed);
			at += used;
		}
	}
	if (!committed)
		return;
	while (*what == ' ')
		what++;
	reader->lost->commits++;
	pg_free(reader->lost->last_commit);
	reader->lost->last_commit = pnstrdup(what, strcspn(what, ";"));
	if (reader->lost->first_commit == NULL)
		reader->lost->first_commit = pg_strdup(reader->lost->last_commit);
}

static void
take_record(char *line, void *arg)
{
	Reader	   *reader = arg;
	Record		record;

	if (!parse_record(line, &record))
		return;
	reader->lost->records++;
	reader->range->to = node_record_end(record.lsn, record.length,
										reader->segment_size);
	reader->lost->to = reader->range->to;
	if (strcmp(record.manager, "Transaction") == 0)
	{
		if (starts(record.what, "COMMIT"))
			note_end(reader, &record, true);
		else if (starts(record.what, "ABORT"))
			note_end(reader, &record, false);
		else if (starts(record.what, "PREPARE"))
			reader->lost->prepared++;
		return;
	}
	if (strcmp(record.manager, "Storage") == 0 && starts(record.what, "CREATE"))
		note_creation(reader, &record);
	/* without a transaction it is upkeep: hints, vacuum, checkpoints */
	else if (record.xid != 0)
		note_relations(reader, &record);
}

/* ------------------------------------------------------------------------
 * Reading it all
 * ------------------------------------------------------------------------
 */

static bool
segment_exists(const Node *node, const Local *local, uint32 timeline, uint64 lsn)
{
	char		name[MAXFNAMELEN];
	XLogSegNo	segment;

	XLByteToSeg(lsn, segment, local->control->xlog_seg_size);
	XLogFileName(name, timeline, segment, local->control->xlog_seg_size);
	return file_exists(psprintf("%s/pg_wal/%s", node->datadir, name));
}

static void
read_range(const Node *node, const Local *local, Reader *reader, uint64 to)
{
	LostRange  *range = reader->range;
	char	   *argv[12];
	int			n = 0;
	PQExpBufferData errors;
	int			status;

	/* its first words would be the same as those for an empty end */
	range->readable = segment_exists(node, local, range->timeline, range->from);
	if (!range->readable)
		return;
	initPQExpBuffer(&errors);
	argv[n++] = program(node, "pg_waldump");
	argv[n++] = "-p";
	argv[n++] = psprintf("%s/pg_wal", node->datadir);
	argv[n++] = "-t";
	argv[n++] = psprintf("%u", range->timeline);
	argv[n++] = "-s";
	argv[n++] = psprintf("%X/%X", LSN_FORMAT_ARGS(range->from));
	if (to != PLAN_END_OPEN)
	{
		argv[n++] = "-e";
		argv[n++] = psprintf("%X/%X", LSN_FORMAT_ARGS(to));
	}
	argv[n] = NULL;
	status = run_program(argv, take_record, reader, &errors);
	/* it ends with an error where the log ends; 127 and 128 are ours */
	range->readable = status == 0 || status == 1;
	termPQExpBuffer(&errors);
}

static void
begin_reading(const Node *node, const Local *local, const PlanFork *fork,
			  int ranges, Reader *reader, Lost *lost)
{
	memset(lost, 0, sizeof(*lost));
	lost->timeline = fork->id;
	lost->from = fork->lsn;
	lost->to = fork->lsn;
	lost->readable = true;
	lost->range = pg_malloc0(Max(ranges, 1) * sizeof(LostRange));
	reader->lost = lost;
	reader->range = NULL;
	reader->segment_size = local->control->xlog_seg_size;
	reader->xacts = xacts_create(256, NULL);
}

void
lost_read(const Node *node, const Local *local, const PlanFork *fork,
		  Lost *lost)
{
	Reader		reader;

	begin_reading(node, local, fork, local->history.n, &reader, lost);
	for (int i = 0; i < local->history.n; i++)
	{
		const PlanTimeline *timeline = &local->history.timeline[i];

		/* of the timelines before the fork, and at it, the later part */
		if (timeline->end <= fork->lsn || timeline->id < fork->id)
			continue;
		reader.range = &lost->range[lost->n_ranges++];
		reader.range->timeline = timeline->id;
		reader.range->from = Max(timeline->begin, fork->lsn);
		read_range(node, local, &reader, timeline->end);
		lost->readable &= reader.range->readable;
	}
}

/* ------------------------------------------------------------------------
 * What the server would replay, and the control file does not tell
 * ------------------------------------------------------------------------
 */

/* History files in pg_wal that the holder's history is not a continuation of. */
typedef struct Strangers
{
	const Node *node;
	const PlanHistory *theirs;
	int			n;
	char	  **name;
	PlanTimeline *timeline;		/* the last of each, "begin" where it leaves */
} Strangers;

static void
find_stranger(const char *name, void *arg)
{
	Strangers  *all = arg;
	PlanHistory history;
	PlanFork	fork;
	uint32		id;
	char	   *text;

	if (!IsTLHistoryFileName(name) || sscanf(name, "%8X", &id) != 1)
		return;
	text = read_whole_file(psprintf("%s/pg_wal/%s", all->node->datadir, name), NULL);
	if (text == NULL || !plan_parse_history(text, id, &history))
		return;
	fork = plan_fork(&history, all->theirs);
	if (fork.found && fork.id == id)
		return;
	all->name = pg_realloc(all->name, (all->n + 1) * sizeof(char *));
	all->timeline = pg_realloc(all->timeline, (all->n + 1) * sizeof(PlanTimeline));
	all->name[all->n] = pg_strdup(name);
	all->timeline[all->n++] = history.timeline[history.n - 1];
}

/*
 * The server goes for the last of the timelines that follow its own without a
 * gap.  Is that one a stranger?  Else it reads none of theirs.
 */
static bool
goes_astray(const Node *node, const Local *local, const Strangers *strangers)
{
	uint32		newest = Max(local->control->checkPointCopy.ThisTimeLineID,
							 local->control->minRecoveryPointTLI);

	while (file_exists(psprintf("%s/pg_wal/%08X.history", node->datadir, newest + 1)))
		newest++;
	for (int i = 0; i < strangers->n; i++)
		if (strangers->timeline[i].id == newest)
			return true;
	return false;
}

/* A part of the log that is not the holder's. */
static void
read_ahead(const Node *node, const Local *local, Reader *reader,
		   uint32 timeline, uint64 from)
{
	Lost	   *lost = reader->lost;
	LostRange  *range = &lost->range[lost->n_ranges];

	range->timeline = timeline;
	range->from = from;
	reader->range = range;
	/* nothing there is as good as nothing beyond */
	if (!segment_exists(node, local, timeline, from))
		return;
	lost->n_ranges++;
	read_range(node, local, reader, PLAN_END_OPEN);
	if (!range->readable)
		refuse(REJOIN_FAILED, "the log that follows what the holder has cannot be read",
			   psprintf("pg_waldump failed for timeline %u from %X/%X.", timeline,
						LSN_FORMAT_ARGS(from)), NULL);
	if (range->to != 0 && lost->from == PLAN_END_OPEN)
	{
		lost->timeline = timeline;
		lost->from = from;
	}
}

/*
 * The control file of a standby tells where its pages stand.  Its log may have
 * gone on from there, over promotions that no restartpoint has seen; at its
 * start the server replays all of it, and does not notice that it passes the
 * place where a timeline was left if that is in the middle of a file.
 */
void
lost_read_ahead(const Node *node, const Local *local, const PlanFork *fork,
				const PlanHistory *theirs, Lost *lost)
{
	Strangers	strangers = {node, theirs, 0, NULL, NULL};
	Reader		reader;

	each_entry(psprintf("%s/pg_wal", node->datadir), find_stranger, &strangers);
	if (!goes_astray(node, local, &strangers))
		strangers.n = 0;
	begin_reading(node, local, fork, theirs->n + strangers.n, &reader, lost);
	lost->from = PLAN_END_OPEN;
	for (int i = 0; i < theirs->n; i++)
		if (theirs->timeline[i].id >= fork->id &&
			theirs->timeline[i].end != PLAN_END_OPEN)
			read_ahead(node, local, &reader, theirs->timeline[i].id,
					   theirs->timeline[i].end);
	for (int i = 0; i < strangers.n; i++)
		read_ahead(node, local, &reader, strangers.timeline[i].id,
				   strangers.timeline[i].begin);
	lost->n_strangers = strangers.n;
	lost->stranger = strangers.name;
	if (lost->from == PLAN_END_OPEN)
	{
		/* no record; a directory needs a name all the same */
		lost->timeline = strangers.n > 0 ? strangers.timeline[0].id : fork->id;
		lost->from = lost->to = strangers.n > 0 ? strangers.timeline[0].begin : fork->lsn;
	}
}

bool
lost_matters(const Lost *lost)
{
	return !lost->readable || lost->commits > 0 || lost->prepared > 0;
}
