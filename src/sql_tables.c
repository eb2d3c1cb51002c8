/*
 * sql_tables.c
 *		Table leases: who takes part in them, and which tables they protect.
 *
 * All of it is done over libpq, at a majority of the members, and so works on
 * any node.  What is asked of shared memory alone is in sql_writer.c.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "group_tables.h"
#include "settings.h"
#include "sql.h"
#include "store_care.h"

PG_FUNCTION_INFO_V1(leasehold_join_lease);
PG_FUNCTION_INFO_V1(leasehold_leave_lease);
PG_FUNCTION_INFO_V1(leasehold_protect);
PG_FUNCTION_INFO_V1(leasehold_unprotect);
PG_FUNCTION_INFO_V1(leasehold_unprotect_named);

#define CALL_MS			30000
/* How long this node is given to learn that a table is not protected any more. */
#define UNPROTECT_MS	10000
/* How often members that have missed a change are reminded of it. */
#define REMIND_MS		1000
#define LOOK_MS			25
#define PRIORITY_MAX	1000000

/* ------------------------------------------------------------------------
 * Who takes part
 * ------------------------------------------------------------------------
 */

/* The argument, which may be left out: then this very node. */
static char *
node_argument(FunctionCallInfo fcinfo, int arg)
{
	char	   *node = sql_text(fcinfo, arg);

	return node != NULL ? node : pstrdup(settings_node_name());
}

static char *
lease_argument(FunctionCallInfo fcinfo, int arg)
{
	char	   *lease = sql_text(fcinfo, arg);

	if (lease == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the lease must not be null")));
	return lease;
}

/* A node that never ran cannot be waited for, and its name may be misspelt. */
static void
require_registered(StoreGroup *group, const char *name)
{
	StoreNode  *node = palloc(sizeof(StoreNode) * GROUP_NODES_MAX);
	int			n;

	if (strcmp(name, settings_node_name()) == 0)
		return;
	n = group_nodes(group, node, GROUP_NODES_MAX);
	for (int i = 0; i < n; i++)
		if (strcmp(node[i].name, name) == 0)
			return;
	sql_unknown("node", name, group_node_names(node, n));
}

/* Could it govern tables, as far as its row tells? */
static void
require_for_tables(const StoreGroup *group, const StoreLease *lease)
{
	const char *name = group->lease;

	if (strcmp(name, settings_lease()) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("lease \"%s\" governs this whole instance", name),
				 errhint("Make another one: SELECT leasehold.create_lease(..., kind => 'independent').")));
	if (strcmp(lease->kind, "independent") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("lease \"%s\" is of kind \"%s\"", name, lease->kind),
				 errdetail("Tables are governed by leases of kind \"independent\"."),
				 errhint("Make another one: SELECT leasehold.create_lease(..., kind => 'independent').")));
	if (strcmp(lease->scope, "tables") != 0 &&
		(lease->row.epoch > 0 || lease->row.holder[0] != '\0'))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("lease \"%s\" has governed whole instances", name),
				 errhint("Make another one: SELECT leasehold.create_lease(..., kind => 'independent').")));
}

/* How many members' rows say that it governs tables? */
static int
count_for_tables(const StoreGroup *group)
{
	int			n = 0;

	for (int i = 0; i < group->n; i++)
		n += group_counted(group, i) &&
			group->member[i].answer.lease.row.present &&
			strcmp(group->member[i].answer.lease.scope, "tables") == 0;
	return n;
}

static void
make_for_tables(StoreGroup *group)
{
	const char *values[1] = {group->lease};

	if (count_for_tables(group) >= group_majority(group))
		return;
	(void) group_send(group, group_counted, store_for_tables_sql, 1, values);
	group_look(group);
	group_require_majority(group);
	require_for_tables(group, sql_require_lease(group));
	if (count_for_tables(group) < group_majority(group))
		group_refused(group, "have the lease govern tables",
					  count_for_tables(group));
}

/*
 * leasehold_join_lease
 *		Have a node take part in a lease of tables, or change its priority there.
 */
Datum
leasehold_join_lease(PG_FUNCTION_ARGS)
{
	char	   *lease;
	char	   *node;
	int32		priority;
	StoreGroup *group;

	sql_require_preloaded();
	lease = lease_argument(fcinfo, 0);
	node = node_argument(fcinfo, 1);
	priority = PG_ARGISNULL(2) ? 100 : PG_GETARG_INT32(2);
	sql_check_name("node", node);
	if (priority < 0 || priority > PRIORITY_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid priority: %d", priority),
				 errdetail("It has to be between 0 and %d.", PRIORITY_MAX)));
	group = group_of_settings(lease, clock_now() + clock_ms(CALL_MS));
	require_for_tables(group, sql_require_lease(group));
	require_registered(group, node);
	make_for_tables(group);
	(void) group_join(group, lease, node, priority);
	group_close(group);
	PG_RETURN_VOID();
}

/*
 * leasehold_leave_lease
 *		A node takes part in a lease of tables no more.
 */
Datum
leasehold_leave_lease(PG_FUNCTION_ARGS)
{
	char	   *lease;
	char	   *node;
	StoreGroup *group;
	const StoreLease *best;

	sql_require_preloaded();
	lease = lease_argument(fcinfo, 0);
	node = node_argument(fcinfo, 1);
	group = group_of_settings(lease, clock_now() + clock_ms(CALL_MS));
	best = sql_require_lease(group);
	if (strcmp(best->scope, "tables") == 0 &&
		strcmp(best->row.holder, node) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("node \"%s\" holds lease \"%s\"", node, lease),
				 errhint("Hand it over with leasehold.switchover(). Where no other node takes part, leasehold.join_lease() with priority 0 and leasehold.release() on the node let go of it.")));
	if (!group_part(group, lease, node))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("node \"%s\" takes no part in lease \"%s\"", node, lease)));
	group_close(group);
	PG_RETURN_VOID();
}

/* ------------------------------------------------------------------------
 * The table
 * ------------------------------------------------------------------------
 */

COMPAT_NORETURN static void
refuse_relation(const TableEntry *table, const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("\"%s.%s\" cannot be protected", table->schema, table->name),
			 errdetail("%s", why)));
	pg_unreachable();
}

/* By names: the other nodes know it by those. */
static void
name_table(Relation relation, TableEntry *table)
{
	memset(table, 0, sizeof(*table));
	strlcpy(table->database, get_database_name(MyDatabaseId), NAMEDATALEN);
	strlcpy(table->schema,
			get_namespace_name(RelationGetNamespace(relation)), NAMEDATALEN);
	strlcpy(table->name, RelationGetRelationName(relation), NAMEDATALEN);
}

/* Only what clients write, and what other nodes have as well. */
static void
require_protectable(Relation relation, const TableEntry *table)
{
	if (relation->rd_rel->relkind != RELKIND_RELATION &&
		relation->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		refuse_relation(table, "Only tables and partitioned tables are protected.");
	if (relation->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		refuse_relation(table, "It is a temporary table.");
	if (IsCatalogRelation(relation) || IsToastRelation(relation) ||
		strcmp(table->schema, "pg_catalog") == 0 ||
		strcmp(table->schema, "information_schema") == 0)
		refuse_relation(table, "It belongs to the system.");
	if (strcmp(table->schema, "leasehold") == 0 ||
		strcmp(table->schema, "leasehold_store") == 0)
		refuse_relation(table, "It is part of leasehold itself.");
}

static void
find_table(Oid relid, bool judge, TableEntry *table)
{
	Relation	relation = relation_open(relid, AccessShareLock);

	name_table(relation, table);
	if (judge)
		require_protectable(relation, table);
	relation_close(relation, AccessShareLock);
}

/* ------------------------------------------------------------------------
 * Protecting it
 * ------------------------------------------------------------------------
 */

static void
require_usable_lease(StoreGroup *group)
{
	const StoreLease *lease = sql_require_lease(group);
	GroupMemberships rows;

	if (strcmp(lease->scope, "tables") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("lease \"%s\" does not govern tables", group->lease),
				 errhint("leasehold.join_lease() makes a lease govern tables, with its first node.")));
	group_memberships(group, &rows);
	for (int i = 0; i < rows.n; i++)
		if (strcmp(rows.row[i].lease, group->lease) == 0)
			return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("no node takes part in lease \"%s\"", group->lease),
			 errdetail("The table would be writable nowhere."),
			 errhint("leasehold.join_lease() has a node take part.")));
}

/* One table too many, and every node would have to take all for protected. */
static void
require_room(StoreGroup *group, const TableEntry *table)
{
	GroupTables tables;
	int			n = 0;

	group_tables(group, &tables);
	for (int i = 0; i < tables.n; i++)
		n += tables.entry[i].lease[0] != '\0';
	if (n >= setting_tables_max && group_find_table(&tables, table) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("%d tables are protected, and there is no room for more", n),
				 errhint("Raise leasehold.tables_max on every node and restart them.")));
}

/* From one lease to another directly, two nodes could write for a while. */
static void
judge_protect(const TableEntry *before, const TableEntry *change)
{
	if (before == NULL || before->lease[0] == '\0' ||
		strcmp(before->lease, change->lease) == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table \"%s.%s\" is protected by lease \"%s\"",
					change->schema, change->name, before->lease),
			 errhint("Call leasehold.unprotect() first.")));
}

static void
judge_unprotect(const TableEntry *before, const TableEntry *change)
{
	/* whatever it was, it may go */
}

/* Who has not confirmed it, at the end of all patience. */
static void
raise_unconfirmed(const TableEntry *table, char **name, int n)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < n; i++)
		appendStringInfo(&names, "%s\"%s\"", i > 0 ? ", " : "", name[i]);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("not every node has confirmed that table \"%s.%s\" is protected",
					table->schema, table->name),
			 errdetail("Not confirmed by: %s. On the other nodes the protection stands.",
					   names.data),
			 errhint("These nodes are down or cut off, or have old transactions under way: start them, or forget them with leasehold.drop_node(), and call leasehold.protect() again.")));
}

/*
 * Until every node that is registered fences it: each that has reached the store.
 * One that has not is no part of the group yet.  It is not waited for, and writes
 * the table like any server until it has read the list, which it does when it
 * registers.
 */
static void
wait_confirmed(StoreGroup *group, const TableEntry *table, ClockTime until)
{
	ClockTime	remind_at = clock_now() + clock_ms(REMIND_MS);

	for (;;)
	{
		char	  **name;
		int			n;
		bool		heard = group_unconfirmed(group, table->seq, &name, &n);
		ClockTime	now = clock_now();

		if (heard && n == 0)
			return;
		if (now >= until)
		{
			group_require_majority(group);
			raise_unconfirmed(table, name, n);
		}
		if (!heard || now >= remind_at)
		{
			group_open(group);
			group_spread_table(group, table);
			remind_at = now + clock_ms(REMIND_MS);
		}
		sql_sleep(LOOK_MS);
	}
}

/*
 * leasehold_protect
 *		Have a table written only where its lease is held.  Returns when that is
 *		so on every node.  A call that was not waited for is completed by the same
 *		call.
 */
Datum
leasehold_protect(PG_FUNCTION_ARGS)
{
	TableEntry	table;
	char	   *lease;
	ClockTime	until;
	StoreGroup *group;

	sql_require_preloaded();
	lease = sql_text(fcinfo, 1);
	until = clock_now() +
		clock_ms(sql_milliseconds(fcinfo, 2, "timeout", 1, SQL_TIMEOUT_MAX_MS));
	find_table(PG_GETARG_OID(0), true, &table);
	group = group_of_settings(lease, until + clock_ms(CALL_MS));
	require_usable_lease(group);
	require_room(group, &table);
	strlcpy(table.lease, lease, sizeof(table.lease));
	group_change_table(group, &table, judge_protect);
	wait_confirmed(group, &table, until);
	group_close(group);
	PG_RETURN_VOID();
}

/* ------------------------------------------------------------------------
 * Not protecting it any more
 * ------------------------------------------------------------------------
 */

/* Does this node know?  The others go on fencing until they do. */
static bool
wait_known_here(int64 seq)
{
	ClockTime	until = clock_now() + clock_ms(UNPROTECT_MS);

	for (;;)
	{
		TableList  *list = sql_tables();
		bool		known = list->seq >= seq;

		pfree(list);
		if (known)
			return true;
		if (clock_now() >= until)
			return false;
		sql_sleep(LOOK_MS);
	}
}

static void
unprotect(TableEntry *table)
{
	StoreGroup *group = group_of_settings("", clock_now() + clock_ms(CALL_MS));
	GroupTables tables;
	const TableEntry *before;

	group_tables(group, &tables);
	before = group_find_table(&tables, table);
	if (before == NULL || before->lease[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("table \"%s.%s\" of database \"%s\" is not protected",
						table->schema, table->name, table->database),
				 errhint("leasehold.protected lists the tables that are.")));
	table->lease[0] = '\0';
	group_change_table(group, table, judge_unprotect);
	group_close(group);
	if (!wait_known_here(table->seq))
		ereport(WARNING,
				(errmsg("this node has not heard yet that table \"%s.%s\" is not protected any more",
						table->schema, table->name),
				 errdetail("It goes on fencing the table until it does.")));
}

/*
 * leasehold_unprotect
 *		Have a table protected by its lease no more.
 */
Datum
leasehold_unprotect(PG_FUNCTION_ARGS)
{
	TableEntry	table;

	sql_require_preloaded();
	find_table(PG_GETARG_OID(0), false, &table);
	unprotect(&table);
	PG_RETURN_VOID();
}

/*
 * leasehold_unprotect_named
 *		The same for a table that need not exist here.
 */
Datum
leasehold_unprotect_named(PG_FUNCTION_ARGS)
{
	TableEntry	table;

	sql_require_preloaded();
	memset(&table, 0, sizeof(table));
	strlcpy(table.database, sql_text(fcinfo, 0), NAMEDATALEN);
	strlcpy(table.schema, sql_text(fcinfo, 1), NAMEDATALEN);
	strlcpy(table.name, sql_text(fcinfo, 2), NAMEDATALEN);
	unprotect(&table);
	PG_RETURN_VOID();
}
