/*
 * sql_writer.c
 *		Which tables are protected, and which node writes them.
 *
 * From shared memory and the catalog alone: these answer at once on any node, one
 * that is cut off included.  Must never talk to anybody.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_inherits.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "settings.h"
#include "sql.h"
#include "sql_row.h"

PG_FUNCTION_INFO_V1(leasehold_protected);
PG_FUNCTION_INFO_V1(leasehold_writer);

/* ------------------------------------------------------------------------
 * Who holds a lease
 * ------------------------------------------------------------------------
 */

/*
 * The holder as far as this node knows; "" if nobody is known to hold it.  What
 * is held here is told by the clock, not by what was read.
 */
static const char *
holder_of(const Survey *survey, const char *lease)
{
	TableStatus status;

	if (sql_held_epoch(lease) != 0)
		return settings_node_name();
	if (strcmp(lease, settings_lease()) == 0)
		return sql_status()->holder;
	if (sql_table_slot(lease, &status) != TABLES_NO_SLOT)
		return pstrdup(status.holder);
	for (int i = 0; i < survey->nleases; i++)
		if (strcmp(survey->lease[i].name, lease) == 0)
			return survey->lease[i].row.holder;
	return "";
}

/* Where clients reach a node: what it advertises, which has no secrets in it. */
static const char *
address_of(const Survey *survey, const char *node)
{
	const SurveyNode *seen;

	if (strcmp(node, settings_node_name()) == 0)
		return settings_advertise();
	seen = sql_find_node(survey, node);
	return seen != NULL ? seen->advertise : "";
}

/* ------------------------------------------------------------------------
 * protected
 * ------------------------------------------------------------------------
 */

/*
 * leasehold_protected
 *		Every protected table of every database, and who writes it.
 */
Datum
leasehold_protected(PG_FUNCTION_ARGS)
{
	TableList  *list;
	Survey	   *survey;
	bool		on_disk;

	sql_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	survey = sql_survey();
	list = sql_tables();
	on_disk = pg_atomic_read_u32(&leasehold_tables->on_disk) == list->generation;
	for (int i = 0; i < list->n; i++)
	{
		const TableEntry *entry = &list->entry[i];
		const char *holder;
		Row			row = {0};

		if (entry->lease[0] == '\0')
			continue;
		holder = holder_of(survey, entry->lease);
		row_text(&row, entry->database);
		row_text(&row, entry->schema);
		row_text(&row, entry->name);
		row_text(&row, entry->lease);
		row_add(&row, Int64GetDatum(entry->seq), false);
		row_text(&row, holder);
		row_text(&row, holder[0] ? address_of(survey, holder) : NULL);
		row_add(&row, BoolGetDatum(sql_held_epoch(entry->lease) != 0), false);
		row_add(&row, BoolGetDatum(on_disk && list->seq >= entry->seq), false);
		row_put(fcinfo, &row);
	}
	return (Datum) 0;
}

/* ------------------------------------------------------------------------
 * writer
 * ------------------------------------------------------------------------
 */

/* Whose child or partition it is. */
static List *
parents_of(Oid relid)
{
	Relation	inherits = table_open(InheritsRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *parents = NIL;

	ScanKeyInit(&key, Anum_pg_inherits_inhrelid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(inherits, InheritsRelidSeqnoIndexId, true, NULL,
							  1, &key);
	while ((tuple = systable_getnext(scan)) != NULL)
		parents = lappend_oid(parents,
							  ((Form_pg_inherits) GETSTRUCT(tuple))->inhparent);
	systable_endscan(scan);
	table_close(inherits, AccessShareLock);
	return parents;
}

static const TableEntry *
find_entry(const TableList *list, const char *database, Oid relid)
{
	const char *schema = get_namespace_name(get_rel_namespace(relid));
	const char *name = get_rel_name(relid);

	for (int i = 0; schema != NULL && name != NULL && i < list->n; i++)
		if (strcmp(list->entry[i].name, name) == 0 &&
			strcmp(list->entry[i].schema, schema) == 0 &&
			strcmp(list->entry[i].database, database) == 0 &&
			list->entry[i].lease[0] != '\0')
			return &list->entry[i];
	return NULL;
}

/* Its own protection, or that of the nearest of its ancestors. */
static const TableEntry *
nearest_entry(const TableList *list, Oid relid)
{
	const char *database = get_database_name(MyDatabaseId);
	List	   *level = list_make1_oid(relid);

	while (level != NIL)
	{
		List	   *above = NIL;
		ListCell   *cell;

		foreach(cell, level)
		{
			const TableEntry *entry = find_entry(list, database, lfirst_oid(cell));

			if (entry != NULL)
				return entry;
			above = list_concat_unique_oid(above, parents_of(lfirst_oid(cell)));
		}
		level = above;
	}
	return NULL;
}

/*
 * leasehold_writer
 *		Where to write this table: the connection string of the node that holds its
 *		lease, or that of the instance.  Null if that is not known, or nothing
 *		governs it.
 */
Datum
leasehold_writer(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);
	TableList  *list;
	Survey	   *survey;
	const TableEntry *entry;
	const char *lease;
	const char *holder = "";
	const char *address = "";

	sql_require_preloaded();
	if (get_rel_name(relid) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	list = sql_tables();
	survey = sql_survey();
	entry = nearest_entry(list, relid);
	lease = entry != NULL ? entry->lease : settings_lease();
	if (lease[0] != '\0')
		holder = holder_of(survey, lease);
	if (holder[0] != '\0')
		address = address_of(survey, holder);
	if (address[0] == '\0')
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(address));
}
