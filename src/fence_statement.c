/*
 * fence_statement.c
 *		What a statement would write: the fence's knowledge of SQL.
 *
 * A plan is judged by the tables that it writes, a utility statement by its
 * kind, a built-in function that writes behind the executor's back by its OID,
 * and a finished transaction by the rows that it changed.
 *
 * Called from fence.c and fence_hooks.c.  Must never look at a lease: what is
 * allowed when, fence.c decides.  What is not known here counts as writing.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "commands/defrem.h"
#include "nodes/parsenodes.h"
#include "parser/parsetree.h"
#include "pgstat.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "compat.h"
#include "fence_statement.h"

/* ------------------------------------------------------------------------
 * Functions
 * ------------------------------------------------------------------------
 */

typedef struct FenceFunction
{
	Oid			function;
	const char *name;
} FenceFunction;

/*
 * Built-in functions that change or announce user data without an executor
 * node that says so.  Their OIDs are the same in 15 to 18.
 *
 * Left out on purpose: what stays in the session or the node (advisory locks,
 * replication slots, pg_switch_wal() and its like, statistics, the origin that
 * a session sets up for itself), and lo_open(), which by itself changes nothing.
 */
static const FenceFunction functions[] = {
	{1574, "nextval()"},
	{1576, "setval()"},
	{1765, "setval()"},
	{957, "lo_creat()"},
	{715, "lo_create()"},
	{964, "lo_unlink()"},
	{955, "lowrite()"},
	{3460, "lo_put()"},
	{3457, "lo_from_bytea()"},
	{1004, "lo_truncate()"},
	{3172, "lo_truncate64()"},
	{764, "lo_import()"},
	{767, "lo_import()"},
	{3036, "pg_notify()"},
	{3577, "pg_logical_emit_message()"},
	{3578, "pg_logical_emit_message()"},
	{6003, "pg_replication_origin_create()"},
	{6004, "pg_replication_origin_drop()"},
	{6011, "pg_replication_origin_advance()"},
	{3445, "pg_import_system_collations()"},
};

#define FUNCTION_NEXTVAL	1574
#define FUNCTION_SETVAL		1576
#define FUNCTION_SETVAL_3	1765
#define FUNCTION_NOTIFY		3036

bool		fence_functions[FENCE_FUNCTIONS];

void
fence_statement_install(void)
{
	for (int i = 0; i < lengthof(functions); i++)
	{
		Oid			function = functions[i].function;

		Assert(function < FENCE_FUNCTIONS);
		fence_functions[function] = true;
	}
}

const char *
fence_function_name(Oid function)
{
	for (int i = 0; i < lengthof(functions); i++)
	{
		if (functions[i].function == function)
			return functions[i].name;
	}
	return "a function that writes";
}

/*
 * Sequences alone have no lo_...-like permanence: in a session that has
 * temporary objects, the sequence may be one of them.
 */
bool
fence_function_may_be_temporary(Oid function)
{
	Oid			namespace;
	Oid			toast_namespace;

	if (function != FUNCTION_NEXTVAL && function != FUNCTION_SETVAL &&
		function != FUNCTION_SETVAL_3)
		return false;
	GetTempNamespaceState(&namespace, &toast_namespace);
	return OidIsValid(namespace);
}

bool
fence_function_serves_store(Oid function)
{
	return function == FUNCTION_NEXTVAL || function == FUNCTION_NOTIFY;
}

/* ------------------------------------------------------------------------
 * Tables
 * ------------------------------------------------------------------------
 */

/* What a table is does not change often. */
FenceTable	fence_tables[FENCE_TABLES];

static bool caches_registered = false;
static uint64 forgotten = 0;	/* counts the invalidations */
static Oid	store_schema = InvalidOid;	/* valid with the following */
static bool store_schema_known = false;

void
fence_forget_tables(void)
{
	forgotten++;
	memset(fence_tables, 0, sizeof(fence_tables));
}

/*
 * While tables are protected, whatever happens to one may concern others: that
 * it got a new parent is news for all below it.
 */
static void
forget_table(Datum arg, Oid relid)
{
	forgotten++;
	if (OidIsValid(relid) && !fence_tables_here)
	{
		FenceTable *entry = &fence_tables[relid % FENCE_TABLES];

		if (entry->relid == relid)
			entry->relid = InvalidOid;
	}
	else
		memset(fence_tables, 0, sizeof(fence_tables));
}

static void
forget_schemas(Datum arg, int cacheid, uint32 hashvalue)
{
	forgotten++;
	memset(fence_tables, 0, sizeof(fence_tables));
	store_schema_known = false;
}

static void
register_caches(void)
{
	if (caches_registered)
		return;
	CacheRegisterRelcacheCallback(forget_table, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, forget_schemas, (Datum) 0);
	caches_registered = true;
}

bool
fence_is_store_schema(Oid schema)
{
	register_caches();
	if (!store_schema_known)
	{
		store_schema = get_namespace_oid(FENCE_STORE_SCHEMA, true);
		store_schema_known = true;
	}
	return OidIsValid(store_schema) && schema == store_schema;
}

/*
 * A store table is a plain table without children: rows put into it stay in it.
 */
static FenceWrite
look_up_kind(Oid relid)
{
	HeapTuple	tuple;
	Form_pg_class class;
	FenceWrite	what = FENCE_WRITES;

	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	if (!HeapTupleIsValid(tuple))
		return FENCE_WRITES;
	class = (Form_pg_class) GETSTRUCT(tuple);
	if (isTempOrTempToastNamespace(class->relnamespace))
		what = FENCE_TEMPORARY;
	else if (class->relkind == RELKIND_RELATION && !class->relhassubclass &&
			 fence_is_store_schema(class->relnamespace))
		what = FENCE_STORE;
	ReleaseSysCache(tuple);
	return what;
}

FenceTable
fence_look_at_table(Oid relid)
{
	FenceTable	table = {relid, FENCE_WRITES, NULL};
	bool		settled = true;
	bool		here = fence_tables_look();
	uint64		before;

	register_caches();
	before = forgotten;
	table.what = look_up_kind(relid);
	if (table.what == FENCE_WRITES && here)
	{
		table.need = fence_tables_need(relid, &settled);
		if (table.need != NULL && table.need->nown > 0)
			table.what = FENCE_PROTECTED;
	}
	/* what was invalidated while we looked may be old already */
	if (before == forgotten && settled && OidIsValid(relid))
		fence_tables[relid % FENCE_TABLES] = table;
	return table;
}

static inline FenceWrite
classify_table(Oid relid)
{
	return fence_table(relid).what;
}

/* ------------------------------------------------------------------------
 * Plans
 * ------------------------------------------------------------------------
 */

/*
 * The worst of the tables that the plan is to change or to lock rows of.  The
 * tables changed are looked at first: nearly always one of them settles it.
 */
FenceWrite
fence_classify_plan(const PlannedStmt *stmt)
{
	FenceWrite	worst = FENCE_READS;
	ListCell   *cell;

	foreach(cell, stmt->resultRelations)
	{
		RangeTblEntry *table = rt_fetch(lfirst_int(cell), stmt->rtable);
		FenceWrite	what = classify_table(table->relid);

		if (what == FENCE_WRITES)
			return what;
		worst = Max(worst, what);
	}
	foreach(cell, compat_permissions(stmt))
	{
		COMPAT_PERMISSION *needed = compat_permission_at(cell);
		FenceWrite	what;

		if ((needed->requiredPerms & ~ACL_SELECT) == 0 ||
			!OidIsValid(needed->relid))
			continue;
		what = classify_table(needed->relid);
		/* a view has no rows: its tables are there, too */
		if (what == FENCE_WRITES && worst == FENCE_PROTECTED &&
			get_rel_relkind(needed->relid) == RELKIND_VIEW)
			continue;
		if (what == FENCE_WRITES)
			return what;
		worst = Max(worst, what);
	}

	/* Whatever writes without saying where. */
	if (worst == FENCE_READS && stmt->commandType != CMD_SELECT)
		worst = FENCE_WRITES;
	return worst;
}

/* A table that the statement names, not one that is there for another's sake. */
static inline void
see_named(const PlannedStmt *stmt, int index, FenceSee see, void *arg)
{
	RangeTblEntry *entry = rt_fetch(index, stmt->rtable);

	if (compat_table_is_named(entry) && OidIsValid(entry->relid))
	{
		const FenceNeed *need = fence_table(entry->relid).need;

		if (need != NULL)
			see(entry->relid, need, arg);
	}
}

static bool
keeps_others_off(const PlanRowMark *mark)
{
	return mark->markType <= ROW_MARK_SHARE;
}

void
fence_each_written(const PlannedStmt *stmt, FenceSee see, void *arg)
{
	ListCell   *cell;

	foreach(cell, stmt->resultRelations)
		see_named(stmt, lfirst_int(cell), see, arg);
	foreach(cell, stmt->rowMarks)
	{
		PlanRowMark *mark = lfirst_node(PlanRowMark, cell);

		if (keeps_others_off(mark))
			see_named(stmt, mark->rti, see, arg);
	}
}

bool
fence_plan_only_refers(const PlannedStmt *stmt)
{
	ListCell   *cell;

	if (stmt->commandType != CMD_SELECT || stmt->resultRelations != NIL)
		return false;
	foreach(cell, stmt->rowMarks)
		if (keeps_others_off(lfirst_node(PlanRowMark, cell)))
			return false;
	return true;
}

/* ------------------------------------------------------------------------
 * Utility statements
 * ------------------------------------------------------------------------
 */

static FenceWrite
classify_transaction(const TransactionStmt *stmt)
{
	switch (stmt->kind)
	{
		case TRANS_STMT_PREPARE:
			return FENCE_PREPARES;
		case TRANS_STMT_COMMIT_PREPARED:
		case TRANS_STMT_ROLLBACK_PREPARED:
			return FENCE_FINISHES;
		default:
			return FENCE_READS;
	}
}

/* COPY ... TO reads here; a query inside it is a plan of its own. */
static FenceWrite
classify_copy(const CopyStmt *stmt)
{
	if (!stmt->is_from)
		return FENCE_READS;
	if (stmt->relation == NULL)
		return FENCE_WRITES;
	return classify_table(RangeVarGetRelid(stmt->relation, NoLock, true));
}

/* EXPLAIN ANALYZE carries out the query, which is a plan of its own; but a
 * table that it would create is not part of the plan. */
static FenceWrite
classify_explain(const ExplainStmt *stmt)
{
	Query	   *query = castNode(Query, stmt->query);
	bool		analyze = false;
	ListCell   *cell;

	if (query->commandType != CMD_UTILITY ||
		!IsA(query->utilityStmt, CreateTableAsStmt))
		return FENCE_READS;
	foreach(cell, stmt->options)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, "analyze") == 0)
			analyze = defGetBoolean(option);
	}
	return analyze ? FENCE_WRITES : FENCE_READS;
}

/* DISCARD TEMP drops this session's tables, in the catalogs too. */
static FenceWrite
classify_discard(const DiscardStmt *stmt)
{
	return stmt->target == DISCARD_ALL || stmt->target == DISCARD_TEMP ?
		FENCE_MAINTAINS : FENCE_READS;
}

/*
 * What a read-only transaction allows, with the exceptions that follow from
 * its being allowed on a single node: it may announce nothing, and leave
 * nothing for others to commit.
 */
FenceWrite
fence_classify_utility(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_TransactionStmt:
			return classify_transaction((TransactionStmt *) statement);
		case T_CopyStmt:
			return classify_copy((CopyStmt *) statement);
		case T_ExplainStmt:
			return classify_explain((ExplainStmt *) statement);
		case T_DiscardStmt:
			return classify_discard((DiscardStmt *) statement);

		case T_NotifyStmt:
			return strcmp(((NotifyStmt *) statement)->conditionname,
						  FENCE_STORE_SCHEMA) == 0 ? FENCE_READS : FENCE_WRITES;

			/* what they run are statements of their own */
		case T_CallStmt:
		case T_DoStmt:
		case T_ExecuteStmt:
		case T_DeclareCursorStmt:
		case T_FetchStmt:
		case T_PrepareStmt:
			/* within the session, or the node */
		case T_AlterSystemStmt:
		case T_CheckPointStmt:
		case T_ClosePortalStmt:
		case T_ConstraintsSetStmt:
		case T_DeallocateStmt:
		case T_ListenStmt:
		case T_LoadStmt:
		case T_LockStmt:
		case T_UnlistenStmt:
		case T_VariableSetStmt:
		case T_VariableShowStmt:
			return FENCE_READS;

			/* naming an index marks it as the one to cluster by */
		case T_ClusterStmt:
			return ((ClusterStmt *) statement)->indexname != NULL ?
				FENCE_DDL : FENCE_MAINTAINS;
		case T_ReindexStmt:
		case T_VacuumStmt:
			return FENCE_MAINTAINS;

			/* rows */
		case T_TruncateStmt:
		case T_RefreshMatViewStmt:
			return FENCE_WRITES;
		case T_CreateTableAsStmt:
			return ((CreateTableAsStmt *) statement)->into->skipData ?
				FENCE_DDL : FENCE_WRITES;

		case T_AlterCollationStmt:
		case T_AlterDatabaseRefreshCollStmt:
		case T_AlterDatabaseSetStmt:
		case T_AlterDatabaseStmt:
		case T_AlterDefaultPrivilegesStmt:
		case T_AlterDomainStmt:
		case T_AlterEnumStmt:
		case T_AlterEventTrigStmt:
		case T_AlterExtensionContentsStmt:
		case T_AlterExtensionStmt:
		case T_AlterFdwStmt:
		case T_AlterForeignServerStmt:
		case T_AlterFunctionStmt:
		case T_AlterObjectDependsStmt:
		case T_AlterObjectSchemaStmt:
		case T_AlterOpFamilyStmt:
		case T_AlterOperatorStmt:
		case T_AlterOwnerStmt:
		case T_AlterPolicyStmt:
		case T_AlterPublicationStmt:
		case T_AlterRoleSetStmt:
		case T_AlterRoleStmt:
		case T_AlterSeqStmt:
		case T_AlterStatsStmt:
		case T_AlterSubscriptionStmt:
		case T_AlterTSConfigurationStmt:
		case T_AlterTSDictionaryStmt:
		case T_AlterTableMoveAllStmt:
		case T_AlterTableSpaceOptionsStmt:
		case T_AlterTableStmt:
		case T_AlterTypeStmt:
		case T_AlterUserMappingStmt:
		case T_CommentStmt:
		case T_CompositeTypeStmt:
		case T_CreateAmStmt:
		case T_CreateCastStmt:
		case T_CreateConversionStmt:
		case T_CreateDomainStmt:
		case T_CreateEnumStmt:
		case T_CreateEventTrigStmt:
		case T_CreateExtensionStmt:
		case T_CreateFdwStmt:
		case T_CreateForeignServerStmt:
		case T_CreateForeignTableStmt:
		case T_CreateFunctionStmt:
		case T_CreateOpClassStmt:
		case T_CreateOpFamilyStmt:
		case T_CreatePLangStmt:
		case T_CreatePolicyStmt:
		case T_CreatePublicationStmt:
		case T_CreateRangeStmt:
		case T_CreateRoleStmt:
		case T_CreateSchemaStmt:
		case T_CreateSeqStmt:
		case T_CreateStatsStmt:
		case T_CreateStmt:
		case T_CreateSubscriptionStmt:
		case T_CreateTableSpaceStmt:
		case T_CreateTransformStmt:
		case T_CreateTrigStmt:
		case T_CreateUserMappingStmt:
		case T_CreatedbStmt:
		case T_DefineStmt:
		case T_DropOwnedStmt:
		case T_DropRoleStmt:
		case T_DropStmt:
		case T_DropSubscriptionStmt:
		case T_DropTableSpaceStmt:
		case T_DropUserMappingStmt:
		case T_DropdbStmt:
		case T_GrantRoleStmt:
		case T_GrantStmt:
		case T_ImportForeignSchemaStmt:
		case T_IndexStmt:
		case T_ReassignOwnedStmt:
		case T_RenameStmt:
		case T_RuleStmt:
		case T_SecLabelStmt:
		case T_ViewStmt:
			return FENCE_DDL;

		default:
			return FENCE_WRITES;
	}
}

bool
fence_finishes_prepared(Node *statement)
{
	return IsA(statement, TransactionStmt) &&
		classify_transaction((TransactionStmt *) statement) == FENCE_FINISHES;
}

bool
fence_drops_extension(Node *statement)
{
	ListCell   *cell;

	if (!IsA(statement, DropStmt) ||
		((DropStmt *) statement)->removeType != OBJECT_EXTENSION)
		return false;
	foreach(cell, ((DropStmt *) statement)->objects)
	{
		if (strcmp(strVal(lfirst(cell)), "leasehold") == 0)
			return true;
	}
	return false;
}

/* ------------------------------------------------------------------------
 * A finished transaction
 * ------------------------------------------------------------------------
 */

/* Is this a table whose changes are nobody's data? */
static bool
changes_are_harmless(Oid relid, bool maintained)
{
	Oid			schema;

	if (maintained && IsCatalogRelationOid(relid))
		return true;
	schema = get_rel_namespace(relid);
	/* a row of a toast table belongs to one of a table that is counted too */
	if (schema == PG_TOAST_NAMESPACE)
		return true;
	/* what a rewrite used, and is gone already */
	if (!OidIsValid(schema))
		return maintained;
	/* a table that has a lease of its own has been looked at already */
	return classify_table(relid) < FENCE_DDL;
}

bool
fence_transaction_changed_data(bool maintained, bool harmless)
{
	if (!pgstat_track_counts)
		return !harmless;
	for (const PgStat_TableXactStatus *counts = fence_first_changed();
		 counts != NULL; counts = counts->next)
	{
		if (fence_changed_rows(counts) &&
			!changes_are_harmless(compat_counted_table(counts), maintained))
			return true;
	}
	return false;
}

bool
fence_each_changed(FenceSee see, void *arg)
{
	if (!pgstat_track_counts)
		return false;
	for (const PgStat_TableXactStatus *counts = fence_first_changed();
		 counts != NULL; counts = counts->next)
	{
		Oid			relid = compat_counted_table(counts);
		const FenceNeed *need;

		if (!fence_changed_rows(counts) || relid < FirstNormalObjectId)
			continue;
		need = fence_table(relid).need;
		if (need != NULL && need->nown > 0)
			see(relid, need, arg);
	}
	return true;
}
