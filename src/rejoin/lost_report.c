/*
 * lost_report.c
 *		Telling of what the group never received, and keeping it aside.
 */
#include "lost.h"

#include "access/xlog_internal.h"
#include "common/file_utils.h"

/* More than these on a terminal help nobody; the report has all. */
#define TELL_RELATIONS_MAX	20

/* ------------------------------------------------------------------------
 * Names
 * ------------------------------------------------------------------------
 */

static void
name_relations(Lost *lost, PGconn *conn, unsigned int database,
			   const char *dbname)
{
	PQExpBufferData sql;
	PGresult   *result;
	char	   *why;
	const char *comma = "";

	initPQExpBuffer(&sql);
	appendPQExpBufferStr(&sql,
						 "SELECT v.i, pg_catalog.format('%I.%I', n.nspname, c.relname) FROM (VALUES ");
	for (int i = 0; i < lost->n_relations; i++)
	{
		const LostRelation *relation = &lost->relation[i];

		if (relation->database != database || relation->created)
			continue;
		appendPQExpBuffer(&sql, "%s(%d, %u::oid, %u::oid)", comma, i,
						  relation->tablespace, relation->file);
		comma = ", ";
	}
	appendPQExpBufferStr(&sql,
						 ") AS v(i, tablespace, file)"
						 " JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()"
						 " JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.pg_filenode_relation("
						 "CASE WHEN v.tablespace = d.dattablespace THEN 0 ELSE v.tablespace END, v.file)"
						 " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace");
	result = comma[0] ? conn_query(conn, sql.data, options.timeout, &why) : NULL;
	for (int k = 0; result != NULL && k < PQntuples(result); k++)
		lost->relation[atoi(PQgetvalue(result, k, 0))].name =
			psprintf("%s of database %s", PQgetvalue(result, k, 1), dbname);
	PQclear(result);
	termPQExpBuffer(&sql);
}

/* A number may mean another relation there than here once both went on. */
void
lost_find_names(Lost *lost, const Holder *holder)
{
	char	   *why;
	PGconn	   *conn = holder_session(holder, NULL, &why);
	PGresult   *databases;

	if (conn == NULL)
		return;
	databases = conn_query(conn, "SELECT oid, datname FROM pg_catalog.pg_database WHERE datallowconn",
						   options.timeout, &why);
	PQfinish(conn);
	for (int i = 0; databases != NULL && i < PQntuples(databases); i++)
	{
		unsigned int database = strtoul(PQgetvalue(databases, i, 0), NULL, 10);
		const char *dbname = PQgetvalue(databases, i, 1);
		bool		touched = false;

		for (int k = 0; k < lost->n_relations; k++)
			touched |= lost->relation[k].database == database;
		if (!touched || (conn = holder_session(holder, dbname, &why)) == NULL)
			continue;
		name_relations(lost, conn, database, dbname);
		PQfinish(conn);
	}
	PQclear(databases);
}

/* ------------------------------------------------------------------------
 * Telling
 * ------------------------------------------------------------------------
 */

static char *
relation_line(const LostRelation *relation)
{
	char	   *file = psprintf("%u/%u/%u", relation->tablespace,
								relation->database, relation->file);
	char	   *name = relation->name ?
		psprintf("%s (%s)", relation->name, file) :
		psprintf("%s%s", file, relation->created ? " (made in this part)" : "");

	if (relation->inserted + relation->updated + relation->deleted == 0)
		return psprintf("%s: changed", name);
	return psprintf("%s: " INT64_FORMAT " rows inserted, " INT64_FORMAT " updated, " INT64_FORMAT " deleted",
					name, relation->inserted, relation->updated, relation->deleted);
}

static bool
has_rows(const LostRelation *relation)
{
	return relation->inserted + relation->updated + relation->deleted > 0;
}

static bool
is_touched(const LostRelation *relation)
{
	return has_rows(relation) || relation->other > 0;
}

static char *
summary(const Lost *lost)
{
	if (lost->records == 0)
		return psprintf("The log that follows %X/%X on timeline %u of this node cannot be read; what was written there is not known.",
						LSN_FORMAT_ARGS(lost->from), lost->timeline);
	return psprintf("The group never received the log of this node from %X/%X on timeline %u to %X/%X: " INT64_FORMAT " committed transactions%s, " INT64_FORMAT " records.%s",
					LSN_FORMAT_ARGS(lost->from), lost->timeline,
					LSN_FORMAT_ARGS(lost->to), lost->commits,
					lost->prepared > 0 ? psprintf(", " INT64_FORMAT " prepared ones", lost->prepared) : "",
					lost->records,
					lost->readable ? "" : "  Not all of it can be read.");
}

void
lost_tell(const Lost *lost)
{
	int			told = 0;
	int			others = 0;

	say("%s", summary(lost));
	if (lost->commits > 0)
		say("The first of them committed at %s, the last at %s.",
			lost->first_commit, lost->last_commit);
	for (int i = 0; i < lost->n_relations; i++)
	{
		if (has_rows(&lost->relation[i]) && told < TELL_RELATIONS_MAX)
		{
			say("  %s", relation_line(&lost->relation[i]));
			told++;
		}
		else
			others += is_touched(&lost->relation[i]);
	}
	if (others > 0)
		say("  and %d other relations (indexes, sequences, ...)", others);
}

static char *
report_text(const Node *node, const Local *local, const Lost *lost)
{
	PQExpBufferData out;

	initPQExpBuffer(&out);
	appendPQExpBuffer(&out, "node: %s\nlease: %s\nsystem identifier: " UINT64_FORMAT "\n",
					  node->name, node->lease, local->control->system_identifier);
	appendPQExpBuffer(&out, "timeline: %u\nfrom: %X/%X\nto: %X/%X\n", lost->timeline,
					  LSN_FORMAT_ARGS(lost->from), LSN_FORMAT_ARGS(lost->to));
	appendPQExpBuffer(&out, "records: " INT64_FORMAT "\ncommitted transactions: " INT64_FORMAT "\nprepared transactions: " INT64_FORMAT "\ncomplete: %s\n",
					  lost->records, lost->commits, lost->prepared,
					  lost->readable ? "yes" : "no");
	if (lost->commits > 0)
		appendPQExpBuffer(&out, "first commit: %s\nlast commit: %s\n",
						  lost->first_commit, lost->last_commit);
	for (int i = 0; i < lost->n_relations; i++)
		if (is_touched(&lost->relation[i]))
			appendPQExpBuffer(&out, "relation: %s\n", relation_line(&lost->relation[i]));
	appendPQExpBuffer(&out, "\n%s\nRead the files beside this one with pg_waldump of PostgreSQL %s.\n",
					  summary(lost), PG_MAJORVERSION);
	return out.data;
}

/* ------------------------------------------------------------------------
 * Keeping
 * ------------------------------------------------------------------------
 */

char *
lost_directory(const Node *node, const Lost *lost)
{
	const char *base = options.keep_wal ? options.keep_wal :
		psprintf("%s/leasehold_lost", parent_of(node->datadir));

	char	   *directory = psprintf("%s/%08X-%X_%X", base, lost->timeline,
									 LSN_FORMAT_ARGS(lost->from));
	char	   *report = read_whole_file(psprintf("%s/report.txt", directory), NULL);
	char	   *ours = psprintf("node: %s\n", node->name);

	/* another node's, whose data directory lies beside ours */
	if (report != NULL && strncmp(report, ours, strlen(ours)) != 0)
		directory = psprintf("%s-%s", directory, node->name);
	return directory;
}

/* Does the file hold a part of the range? */
static bool
is_in_range(const LostRange *range, const Local *local, const char *name)
{
	uint32		segment_size = local->control->xlog_seg_size;
	TimeLineID	timeline;
	XLogSegNo	segment;
	XLogSegNo	first;
	XLogSegNo	last;

	if (!IsXLogFileName(name) || !range->readable || range->to == 0)
		return false;
	XLogFromFileName(name, &timeline, &segment, segment_size);
	XLByteToSeg(range->from, first, segment_size);
	XLByteToPrevSeg(range->to, last, segment_size);
	return timeline == range->timeline && segment >= first && segment <= last;
}

static bool
is_history_of(const Lost *lost, const char *name)
{
	for (int i = 0; i < lost->n_ranges; i++)
	{
		char		expected[MAXFNAMELEN];

		TLHistoryFileName(expected, lost->range[i].timeline);
		if (strcmp(expected, name) == 0)
			return true;
	}
	return false;
}

typedef struct Keeper
{
	const Node *node;
	const Local *local;
	const Lost *lost;
	const char *directory;
	bool		anew;
	bool		move;
	char	  **moved;			/* to be removed from pg_wal once all is kept */
	int			n_moved;
} Keeper;

static bool
is_stranger(const Lost *lost, const char *name)
{
	for (int i = 0; i < lost->n_strangers; i++)
		if (strcmp(lost->stranger[i], name) == 0)
			return true;
	return false;
}

static void
keep_file(const char *name, void *arg)
{
	Keeper	   *keeper = arg;
	char	   *from = psprintf("%s/pg_wal/%s", keeper->node->datadir, name);
	char	   *to = psprintf("%s/%s", keeper->directory, name);
	bool		wanted = keeper->move ? is_stranger(keeper->lost, name) :
		is_history_of(keeper->lost, name);

	for (int i = 0; i < keeper->lost->n_ranges && !wanted; i++)
		wanted = is_in_range(&keeper->lost->range[i], keeper->local, name);
	if (wanted)
		copy_file_once(from, to, keeper->anew);
	if (wanted && keeper->move)
	{
		keeper->moved = pg_realloc(keeper->moved, (keeper->n_moved + 1) * sizeof(char *));
		keeper->moved[keeper->n_moved++] = pg_strdup(from);
	}
	pg_free(from);
	pg_free(to);
}

/* Of an earlier run that was interrupted, and saw more of the same. */
static bool
is_told_already(const char *report, const Lost *lost)
{
	char	   *text = read_whole_file(report, NULL);
	char	   *from = psprintf("\nfrom: %X/%X\nto: ", LSN_FORMAT_ARGS(lost->from));
	char	   *at = text != NULL ? strstr(text, from) : NULL;
	unsigned int high;
	unsigned int low;

	return at != NULL && sscanf(at + strlen(from), "%X/%X", &high, &low) == 2 &&
		(((uint64) high << 32) | low) > lost->to;
}

static void
keep(Keeper *keeper)
{
	char	   *path = psprintf("%s/report.txt", keeper->directory);
	char	   *report = report_text(keeper->node, keeper->local, keeper->lost);

	make_directories(keeper->directory);
	each_entry(psprintf("%s/pg_wal", keeper->node->datadir), keep_file, keeper);
	if (!keeper->move || !is_told_already(path, keeper->lost))
		write_whole_file(path, report, strlen(report));
}

void
lost_keep(const Node *node, const Local *local, const Lost *lost,
		  const char *directory, bool anew)
{
	Keeper		keeper = {node, local, lost, directory, anew, false, NULL, 0};

	keep(&keeper);
}

static int
later_first(const void *a, const void *b)
{
	return -strcmp(*(char *const *) a, *(char *const *) b);
}

/*
 * The first file of each timeline goes last, and its history after that: as
 * long as anything is left to be done, the next run finds them.
 */
void
lost_set_aside(const Node *node, const Local *local, const Lost *lost,
			   const char *directory)
{
	Keeper		keeper = {node, local, lost, directory, true, true, NULL, 0};

	keep(&keeper);
	if (keeper.n_moved > 0)
		qsort(keeper.moved, keeper.n_moved, sizeof(char *), later_first);
	for (int histories = 0; histories <= 1; histories++)
		for (int i = 0; i < keeper.n_moved; i++)
			if (IsTLHistoryFileName(name_of(keeper.moved[i])) == (histories == 1))
			{
				remove_tree(keeper.moved[i]);
				fsync_parent_path(keeper.moved[i]);
			}
}

static void
put_back(const char *name, void *arg)
{
	const Keeper *keeper = arg;

	if (IsXLogFileName(name))
		copy_file_once(psprintf("%s/%s", keeper->directory, name),
					   psprintf("%s/pg_wal/%s", keeper->node->datadir, name), true);
}

void
lost_put_back(const Node *node, const char *directory)
{
	Keeper		keeper = {node, NULL, NULL, directory, true, false, NULL, 0};

	each_entry(directory, put_back, &keeper);
}
