/*
 * opener_plan.c
 *		What a table lease needs in this database before its tables are opened:
 *		which subscriptions bring them, which sequences fill their columns.
 *
 * Read from the catalogs when a hand-over is prepared, so that nothing of it takes
 * time once the old holder has closed its fence.  Must never change anything.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "opener.h"
#include "tables.h"
#include "timeline.h"

/* The protected tables that exist here, and all that inherits from them. */
#define TREE \
	"WITH RECURSIVE tree (oid, root) AS (" \
	" SELECT c.oid, c.oid FROM unnest($1, $2) AS e (s, t)" \
	" JOIN pg_namespace n ON n.nspname = e.s" \
	" JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = e.t" \
	" AND c.relkind IN ('r', 'p')" \
	" UNION SELECT i.inhrelid, tree.root FROM tree" \
	" JOIN pg_inherits i ON i.inhparent = tree.oid) "

/* One row for each table and subscription; a table without one has one, too. */
#define TABLES_QUERY TREE \
	"SELECT t.oid, t.root, format('%I.%I', n.nspname, c.relname)," \
	" w.oid, w.subname, w.subenabled, w.subconninfo, w.srsubstate = 'r'" \
	" FROM tree t JOIN pg_class c ON c.oid = t.oid AND c.relkind = 'r'" \
	" JOIN pg_namespace n ON n.oid = c.relnamespace" \
	" LEFT JOIN (SELECT s.oid, s.subname, s.subenabled, s.subconninfo," \
	" r.srrelid, r.srsubstate FROM pg_subscription s" \
	" JOIN pg_subscription_rel r ON r.srsubid = s.oid) w" \
	" ON w.srrelid = t.oid" \
	" OR w.srrelid IN (SELECT relid FROM pg_partition_ancestors(t.oid))" \
	" ORDER BY t.oid"

/* Its own sequences, and those that its defaults draw from. */
#define SEQUENCES_QUERY TREE \
	"SELECT q.seqrelid, format('%I.%I', sn.nspname, s.relname)," \
	" q.seqincrement, q.seqmin, q.seqmax, t.root," \
	" format('%I.%I', n.nspname, c.relname), a.attname," \
	" a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype)," \
	" bool_or(u.owned)" \
	" FROM tree t JOIN pg_class c ON c.oid = t.oid" \
	" JOIN pg_namespace n ON n.oid = c.relnamespace" \
	" JOIN (SELECT d.refobjid AS relid, d.refobjsubid AS attnum, d.objid AS seqid," \
	" true AS owned" \
	" FROM pg_depend d WHERE d.classid = 'pg_class'::regclass" \
	" AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')" \
	" UNION ALL SELECT ad.adrelid, ad.adnum, d.refobjid, false" \
	" FROM pg_attrdef ad JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass" \
	" AND d.objid = ad.oid AND d.refclassid = 'pg_class'::regclass) u" \
	" ON u.relid = t.oid" \
	" JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = u.attnum" \
	" JOIN pg_sequence q ON q.seqrelid = u.seqid" \
	" JOIN pg_class s ON s.oid = q.seqrelid" \
	" JOIN pg_namespace sn ON sn.oid = s.relnamespace" \
	" GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9 ORDER BY 1, 10 DESC"

/* ------------------------------------------------------------------------
 * SQL in this database
 * ------------------------------------------------------------------------
 */

void
opener_begin_work(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	PushActiveSnapshot(GetTransactionSnapshot());
}

void
opener_end_work(void)
{
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
}

void
opener_query(const char *sql, int nargs, Oid *types, Datum *values)
{
	int			result = SPI_execute_with_args(sql, nargs, types, values, NULL,
											   false, 0);

	if (result != SPI_OK_SELECT)
		elog(ERROR, "unexpected result of a query: %s",
			 SPI_result_code_string(result));
}

char *
opener_text_at(uint64 row, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
}

static int64
number_at(uint64 row, int column)
{
	char	   *text = opener_text_at(row, column);

	return text == NULL ? 0 : strtoll(text, NULL, 10);
}

static bool
truth_at(uint64 row, int column)
{
	char	   *text = opener_text_at(row, column);

	return text != NULL && text[0] == 't';
}

/* ------------------------------------------------------------------------
 * Making it
 * ------------------------------------------------------------------------
 */

/* The names of this slot's tables in this database, as two arrays. */
static bool
read_names(int slot, OpeningPlan *plan, Datum *values)
{
	TableList  *list = palloc(tables_list_size());
	char	   *database = opener_text_at(0, 1);
	Datum	   *schemas;
	Datum	   *names;
	int			n = 0;

	if (!tables_read(list) || list->unknown)
		return false;
	schemas = palloc(sizeof(Datum) * Max(list->n, 1));
	names = palloc(sizeof(Datum) * Max(list->n, 1));
	for (int i = 0; i < list->n; i++)
	{
		TableEntry *entry = &list->entry[i];

		if (entry->slot != slot || strcmp(entry->database, database) != 0)
			continue;
		schemas[n] = CStringGetTextDatum(entry->schema);
		names[n++] = CStringGetTextDatum(entry->name);
	}
	values[0] = PointerGetDatum(construct_array(schemas, n, TEXTOID, -1, false, TYPALIGN_INT));
	values[1] = PointerGetDatum(construct_array(names, n, TEXTOID, -1, false, TYPALIGN_INT));
	plan->generation = list->generation;
	return true;
}

static PlanWay *
read_way(uint64 row)
{
	PlanWay    *way = palloc0(sizeof(PlanWay));

	way->subid = (Oid) number_at(row, 4);
	way->name = opener_text_at(row, 5);
	way->enabled = truth_at(row, 6);
	way->copied = truth_at(row, 8);
	way->origin = replorigin_by_name(psprintf("pg_%u", way->subid), true);
	way->source = source_find(way->subid, opener_text_at(row, 7));
	return way;
}

static void
read_tables(OpeningPlan *plan)
{
	MemoryContext spi = MemoryContextSwitchTo(plan->context);
	Oid			last = InvalidOid;

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Oid			oid = (Oid) number_at(i, 1);
		PlanTable  *table;

		if (oid != last)
		{
			table = palloc0(sizeof(PlanTable));
			table->root = (Oid) number_at(i, 2);
			table->name = opener_text_at(i, 3);
			plan->tables = lappend(plan->tables, table);
		}
		last = oid;
		table = llast(plan->tables);
		if (number_at(i, 4) != 0)
			table->ways = lappend(table->ways, read_way(i));
	}
	MemoryContextSwitchTo(spi);
}

static PlanSequence *
read_sequence(uint64 row)
{
	PlanSequence *sequence = palloc0(sizeof(PlanSequence));

	sequence->oid = (Oid) number_at(row, 1);
	sequence->name = opener_text_at(row, 2);
	sequence->increment = number_at(row, 3);
	sequence->minimum = number_at(row, 4);
	sequence->maximum = number_at(row, 5);
	sequence->root = (Oid) number_at(row, 6);
	sequence->table = opener_text_at(row, 7);
	sequence->column = opener_text_at(row, 8);
	return sequence;
}

/*
 * The furthest value stored.  What stands at the end of the sequence's range or
 * beyond was not drawn from it, and would leave it nothing to give out.
 */
static char *
maximum_sql(const PlanSequence *sequence, const char *table, const char *column)
{
	if (sequence->increment > 0)
		return psprintf("SELECT pg_catalog.max(%s)::pg_catalog.numeric FROM %s WHERE %s < " INT64_FORMAT,
						column, table, column, sequence->maximum);
	return psprintf("SELECT pg_catalog.min(%s)::pg_catalog.numeric FROM %s WHERE %s > " INT64_FORMAT,
					column, table, column, sequence->minimum);
}

static void
read_sequences(OpeningPlan *plan)
{
	MemoryContext spi = MemoryContextSwitchTo(plan->context);

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		PlanSequence *sequence = plan->sequences == NIL ? NULL : llast(plan->sequences);

		if (sequence == NULL || sequence->oid != (Oid) number_at(i, 1))
		{
			sequence = read_sequence(i);
			plan->sequences = lappend(plan->sequences, sequence);
		}
		if (truth_at(i, 9))
			sequence->maxima = lappend(sequence->maxima,
									   maximum_sql(sequence, opener_text_at(i, 7),
												   quote_identifier(opener_text_at(i, 8))));
	}
	MemoryContextSwitchTo(spi);
}

OpeningPlan *
plan_make(int slot, const OpeningRequest *request)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "leasehold plan",
												  ALLOCSET_SMALL_SIZES);
	OpeningPlan *plan = MemoryContextAllocZero(context, sizeof(OpeningPlan));
	Oid			types[2] = {TEXTARRAYOID, TEXTARRAYOID};
	Datum		values[2];
	bool		read;

	plan->context = context;
	strlcpy(plan->from, request->from, sizeof(plan->from));
	plan->kind = request->kind;
	if (request->kind == OPENING_TO_BEGIN)
		strlcpy(plan->address, request->address, sizeof(plan->address));
	plan->made_at = clock_now();
	opener_begin_work();
	opener_query("SELECT current_database()", 0, NULL, NULL);
	read = read_names(slot, plan, values);
	if (read)
	{
		opener_query(TABLES_QUERY, 2, types, values);
		read_tables(plan);
		opener_query(SEQUENCES_QUERY, 2, types, values);
		read_sequences(plan);
	}
	opener_end_work();
	if (read)
		return plan;
	plan_free(plan);
	return NULL;
}

void
plan_free(OpeningPlan *plan)
{
	if (plan != NULL)
		MemoryContextDelete(plan->context);
}

/* ------------------------------------------------------------------------
 * The way of each table
 * ------------------------------------------------------------------------
 */

/*
 * What keeps this way from bringing the table; NULL if nothing does.  Once all is
 * written it may have brought it and run no more.
 */
static const char *
fault_of(const OpeningPlan *plan, const PlanWay *way)
{
	Progress	progress;

	if (!way->copied)
		return "is still copying it";
	if (plan->kind == OPENING_TO_BEGIN)
		return NULL;
	if (!way->enabled)
		return "is disabled";
	progress_read(way, &progress);
	return progress.runs ? NULL : "has no worker that runs";
}

static bool
is_from(const OpeningPlan *plan, const Source *source)
{
	if (source->known || plan->address[0] == '\0')
		return source_is_node(source, plan->from);
	return source_is_at(source, plan->address);
}

/* The names are cut, so that there is room for what is said of them. */
static bool
judge_table(const OpeningPlan *plan, PlanTable *table, char *why)
{
	ListCell   *cell;

	snprintf(why, OPENING_WHY_LEN, "no subscription here brings table %.48s from node \"%.28s\"",
			 table->name, plan->from);
	table->way = NULL;
	foreach(cell, table->ways)
	{
		PlanWay    *way = lfirst(cell);
		const char *fault = fault_of(plan, way);

		if (!way->source->known)
			snprintf(why, OPENING_WHY_LEN, "subscription \"%.30s\" does not reach its publisher: %.60s",
					 way->name, way->source->link.fault);
		if (!is_from(plan, way->source))
			continue;
		if (fault == NULL)
		{
			table->way = way;
			return true;
		}
		snprintf(why, OPENING_WHY_LEN, "subscription \"%.30s\", which brings table %.40s, %s",
				 way->name, table->name, fault);
	}
	return false;
}

bool
plan_judge(OpeningPlan *plan, char *why)
{
	ListCell   *cell;

	foreach(cell, plan->tables)
		if (!judge_table(plan, lfirst(cell), why))
			return false;
	plan->judged = true;
	why[0] = '\0';
	return true;
}

/* ------------------------------------------------------------------------
 * Who wrote before the last writer
 * ------------------------------------------------------------------------
 */

/*
 * A way that brings what a node wrote before the last writer had the lease.  That
 * one has all of it, and has built on it; it does not pass it on.
 */
static bool
is_earlier(const PlanTable *table, const PlanWay *way, const Source *source)
{
	return way->source == source && table->way != NULL &&
		table->way->source != source;
}

bool
plan_wants_position(const OpeningPlan *plan, const Source *source)
{
	ListCell   *cell;
	ListCell   *inner;

	foreach(cell, plan->tables)
	{
		PlanTable  *table = lfirst(cell);

		foreach(inner, table->ways)
			if (is_earlier(table, lfirst(inner), source) &&
				((PlanWay *) lfirst(inner))->earlier == 0)
				return true;
	}
	return false;
}

void
plan_take_position(OpeningPlan *plan, const Source *source)
{
	ListCell   *cell;
	ListCell   *inner;
	uint64_t	lsn;

	if (PQntuples(source->result) != 1 ||
		!lsn_parse(PQgetvalue(source->result, 0, 0), &lsn))
		return;
	foreach(cell, plan->tables)
	{
		PlanTable  *table = lfirst(cell);

		foreach(inner, table->ways)
		{
			PlanWay    *way = lfirst(inner);

			if (is_earlier(table, way, source))
				way->earlier = lsn;
		}
	}
}

/* ------------------------------------------------------------------------
 * Sequences, as the publisher has them
 * ------------------------------------------------------------------------
 */

/* Does this source bring the sequence's table? */
static bool
is_of_source(const OpeningPlan *plan, const PlanSequence *sequence, const Source *source)
{
	ListCell   *cell;

	foreach(cell, plan->tables)
	{
		PlanTable  *table = lfirst(cell);

		if (table->root == sequence->root && table->way != NULL)
			return table->way->source == source;
	}
	return false;
}

/*
 * The sequence of the same column, whatever its name; else the one of the same
 * name.
 */
char *
plan_names_sql(const OpeningPlan *plan, const Source *source)
{
	StringInfoData sql;
	ListCell   *cell;
	int			n = 0;

	initStringInfo(&sql);
	appendStringInfoString(&sql,
						   "SELECT v.k, coalesce("
						   "(SELECT format('%I.%I', n.nspname, s.relname) FROM pg_depend d"
						   " JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'"
						   " JOIN pg_namespace n ON n.oid = s.relnamespace"
						   " JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid"
						   " WHERE d.classid = 'pg_class'::regclass"
						   " AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')"
						   " AND d.refobjid = to_regclass(v.t) AND a.attname = v.c LIMIT 1),"
						   " (SELECT v.s FROM pg_class WHERE oid = to_regclass(v.s) AND relkind = 'S'))"
						   " FROM (VALUES ");
	foreach(cell, plan->sequences)
	{
		PlanSequence *sequence = lfirst(cell);

		if (!is_of_source(plan, sequence, source))
			continue;
		appendStringInfo(&sql, "%s(%d, %s, %s, %s)", n++ > 0 ? ", " : "",
						 foreach_current_index(cell),
						 quote_literal_cstr(sequence->table),
						 quote_literal_cstr(sequence->column),
						 quote_literal_cstr(sequence->name));
	}
	appendStringInfoString(&sql, ") v (k, t, c, s)");
	return n > 0 ? sql.data : NULL;
}

char *
plan_values_sql(const OpeningPlan *plan, const Source *source)
{
	StringInfoData sql;
	ListCell   *cell;

	initStringInfo(&sql);
	foreach(cell, plan->sequences)
	{
		PlanSequence *sequence = lfirst(cell);

		if (sequence->remote == NULL || !is_of_source(plan, sequence, source))
			continue;
		appendStringInfo(&sql, "%sSELECT %d, last_value, is_called FROM %s",
						 sql.len > 0 ? " UNION ALL " : "",
						 foreach_current_index(cell), sequence->remote);
	}
	return sql.len > 0 ? sql.data : NULL;
}

/* The sequence that a row of an answer is about; NULL if there is none. */
static PlanSequence *
sequence_of(const OpeningPlan *plan, const PGresult *result, int row)
{
	int			k = atoi(PQgetvalue(result, row, 0));

	if (k < 0 || k >= list_length(plan->sequences))
		return NULL;
	return list_nth(plan->sequences, k);
}

void
plan_take_names(OpeningPlan *plan, const PGresult *result)
{
	for (int i = 0; i < PQntuples(result); i++)
	{
		PlanSequence *sequence = sequence_of(plan, result, i);

		if (sequence != NULL && !PQgetisnull(result, i, 1))
			sequence->remote = MemoryContextStrdup(plan->context,
												   PQgetvalue(result, i, 1));
	}
}

void
plan_take_values(OpeningPlan *plan, const PGresult *result)
{
	for (int i = 0; i < PQntuples(result); i++)
	{
		PlanSequence *sequence = sequence_of(plan, result, i);

		if (sequence == NULL)
			continue;
		sequence->told = true;
		sequence->remote_value = strtoll(PQgetvalue(result, i, 1), NULL, 10);
		sequence->remote_called = PQgetvalue(result, i, 2)[0] == 't';
	}
}
