/*
 * fence_ddl.c
 *		Which tables a utility statement is about: the fence's knowledge of DDL.
 *
 * What a statement names is read from its parse tree before it runs, without
 * locks: a name may mean another table by the time it is carried out, but only
 * if that table was renamed meanwhile, which a protected one cannot be.  What
 * follows from it, a cascade or a recursion, the object access hook tells of.
 *
 * Left alone, though they change catalogs: privileges, comments, security
 * labels, statistics objects, publications; they change nothing that another
 * writer of the table could contradict.
 *
 * What a transaction has changed is remembered, also while no table is
 * protected: some may be by the time it commits.
 *
 * Called from fence_hooks.c and fence_notes.c.  Must never look at a lease.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/index.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_attrdef.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_policy.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_trigger.h"
#include "commands/defrem.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "fence.h"
#include "fence_ddl.h"
#include "fence_refuse_table.h"
#include "fence_statement.h"
#include "settings.h"

/* ------------------------------------------------------------------------
 * What a statement names
 * ------------------------------------------------------------------------
 */

/* The table itself, or the one that an index belongs to. */
static Oid
table_of(Oid relid)
{
	switch (get_rel_relkind(relid))
	{
		case RELKIND_RELATION:
		case RELKIND_PARTITIONED_TABLE:
		case RELKIND_MATVIEW:
		case RELKIND_FOREIGN_TABLE:
			return relid;
		case RELKIND_INDEX:
		case RELKIND_PARTITIONED_INDEX:
			return IndexGetRelation(relid, true);
		default:
			return InvalidOid;
	}
}

static void
add_table(FenceNamed *named, const RangeVar *name)
{
	Oid			relid = name == NULL ? InvalidOid :
		table_of(RangeVarGetRelid(name, NoLock, true));

	if (OidIsValid(relid))
		named->relids = list_append_unique_oid(named->relids, relid);
	else
		named->partly = true;
}

/* ATTACH, DETACH, INHERIT and NO INHERIT are about two tables. */
static void
add_altered(FenceNamed *named, const AlterTableStmt *stmt)
{
	ListCell   *cell;

	add_table(named, stmt->relation);
	named->whole = stmt->relation->inh;
	foreach(cell, stmt->cmds)
	{
		AlterTableCmd *command = lfirst_node(AlterTableCmd, cell);

		if (command->def == NULL)
			continue;
		if (IsA(command->def, PartitionCmd))
		{
			add_table(named, ((PartitionCmd *) command->def)->name);
			named->whole = true;
		}
		else if (command->subtype == AT_AddInherit ||
				 command->subtype == AT_DropInherit)
		{
			add_table(named, castNode(RangeVar, command->def));
			named->whole = true;
		}
	}
}

static void
add_dropped(FenceNamed *named, const DropStmt *stmt)
{
	ListCell   *cell;

	foreach(cell, stmt->objects)
	{
		List	   *name = lfirst(cell);

		switch (stmt->removeType)
		{
			case OBJECT_TABLE:
			case OBJECT_MATVIEW:
			case OBJECT_FOREIGN_TABLE:
			case OBJECT_INDEX:
				add_table(named, makeRangeVarFromNameList(name));
				break;
			case OBJECT_TRIGGER:
			case OBJECT_RULE:
			case OBJECT_POLICY:
				if (list_length(name) > 1)
				{
					name = list_truncate(list_copy(name), list_length(name) - 1);
					add_table(named, makeRangeVarFromNameList(name));
				}
				break;
			default:
				named->partly = true;
		}
	}
}

/* A table that the statement makes and fills in one go has but a name so far. */
static void
add_made(FenceNamed *named, const CreateTableAsStmt *stmt)
{
	const RangeVar *name = stmt->into->rel;

	named->partly = true;
	if (stmt->into->skipData || name->relpersistence == RELPERSISTENCE_TEMP)
		return;
	named->made = fence_tables_need_of_name(name->schemaname ? name->schemaname :
											get_namespace_name(RangeVarGetCreationNamespace(name)),
											name->relname);
}

static void
add_explained(FenceNamed *named, const ExplainStmt *stmt)
{
	Query	   *query = castNode(Query, stmt->query);

	named->partly = true;
	if (query->commandType == CMD_UTILITY &&
		IsA(query->utilityStmt, CreateTableAsStmt))
		add_made(named, (CreateTableAsStmt *) query->utilityStmt);
}

static void
add_all(FenceNamed *named, const List *names)
{
	ListCell   *cell;

	foreach(cell, names)
		add_table(named, lfirst_node(RangeVar, cell));
}

void
fence_named_tables(Node *statement, FenceNamed *named)
{
	memset(named, 0, sizeof(*named));
	switch (nodeTag(statement))
	{
		case T_CopyStmt:
			add_table(named, ((CopyStmt *) statement)->relation);
			break;
		case T_TruncateStmt:
			add_all(named, ((TruncateStmt *) statement)->relations);
			break;
		case T_RefreshMatViewStmt:
			add_table(named, ((RefreshMatViewStmt *) statement)->relation);
			break;
		case T_CreateTableAsStmt:
			add_made(named, (CreateTableAsStmt *) statement);
			break;
		case T_ExplainStmt:
			add_explained(named, (ExplainStmt *) statement);
			break;
		case T_CreateStmt:
			add_all(named, ((CreateStmt *) statement)->inhRelations);
			break;
		case T_CreateForeignTableStmt:
			add_all(named, ((CreateForeignTableStmt *) statement)->base.inhRelations);
			break;
		case T_AlterTableStmt:
			add_altered(named, (AlterTableStmt *) statement);
			break;
		case T_DropStmt:
			add_dropped(named, (DropStmt *) statement);
			break;
		case T_IndexStmt:
			add_table(named, ((IndexStmt *) statement)->relation);
			named->whole = ((IndexStmt *) statement)->relation->inh;
			break;
		case T_CreateTrigStmt:
			add_table(named, ((CreateTrigStmt *) statement)->relation);
			named->whole = true;
			break;
		case T_RuleStmt:
			add_table(named, ((RuleStmt *) statement)->relation);
			break;
		case T_CreatePolicyStmt:
			add_table(named, ((CreatePolicyStmt *) statement)->table);
			break;
		case T_AlterPolicyStmt:
			add_table(named, ((AlterPolicyStmt *) statement)->table);
			break;
		case T_RenameStmt:
			add_table(named, ((RenameStmt *) statement)->relation);
			break;
		case T_AlterObjectSchemaStmt:
			add_table(named, ((AlterObjectSchemaStmt *) statement)->relation);
			break;
		default:
			named->partly = true;
	}
}

/* ------------------------------------------------------------------------
 * What the object access hook tells of
 * ------------------------------------------------------------------------
 */

/* One row of a catalog, by the OID of its object; a copy, or NULL. */
static HeapTuple
catalog_row(Oid catalog, Oid index, AttrNumber key_column, Oid object)
{
	Relation	relation = table_open(catalog, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, key_column, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(object));
	scan = systable_beginscan(relation, index, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		tuple = heap_copytuple(tuple);
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return tuple;
}

/*
 * Triggers that foreign keys need come and go with a table that refers to this
 * one, which need not be protected.
 */
static Oid
table_of_trigger(Oid object)
{
	HeapTuple	tuple = catalog_row(TriggerRelationId, TriggerOidIndexId,
									Anum_pg_trigger_oid, object);
	Form_pg_trigger trigger;

	if (tuple == NULL)
		return InvalidOid;
	trigger = (Form_pg_trigger) GETSTRUCT(tuple);
	return trigger->tgisinternal ? InvalidOid : trigger->tgrelid;
}

static Oid
table_of_part(Oid class, Oid object)
{
	HeapTuple	tuple;

	switch (class)
	{
		case TriggerRelationId:
			return table_of_trigger(object);
		case RewriteRelationId:
			tuple = catalog_row(class, RewriteOidIndexId, Anum_pg_rewrite_oid, object);
			return tuple ? ((Form_pg_rewrite) GETSTRUCT(tuple))->ev_class : InvalidOid;
		case PolicyRelationId:
			tuple = catalog_row(class, PolicyOidIndexId, Anum_pg_policy_oid, object);
			return tuple ? ((Form_pg_policy) GETSTRUCT(tuple))->polrelid : InvalidOid;
		case ConstraintRelationId:
			tuple = catalog_row(class, ConstraintOidIndexId, Anum_pg_constraint_oid, object);
			return tuple ? ((Form_pg_constraint) GETSTRUCT(tuple))->conrelid : InvalidOid;
		case AttrDefaultRelationId:
			tuple = catalog_row(class, AttrDefaultOidIndexId, Anum_pg_attrdef_oid, object);
			return tuple ? ((Form_pg_attrdef) GETSTRUCT(tuple))->adrelid : InvalidOid;
		default:
			return InvalidOid;
	}
}

Oid
fence_changed_table(ObjectAccessType access, Oid class, Oid object)
{
	if (class == RelationRelationId)
		return table_of(object);
	return access == OAT_DROP ? table_of_part(class, object) : InvalidOid;
}

/* ------------------------------------------------------------------------
 * What a transaction has changed
 * ------------------------------------------------------------------------
 */

/* What has to be known of it later; NULL if it is nobody else's table. */
static FenceAltered *
describe(Oid relid)
{
	FenceAltered *altered;
	char	   *name = get_rel_name(relid);

	if (name == NULL || get_rel_persistence(relid) == RELPERSISTENCE_TEMP)
		return NULL;
	altered = palloc0(sizeof(FenceAltered));
	altered->relid = relid;
	altered->schema = get_namespace_name(get_rel_namespace(relid));
	altered->name = name;
	return altered->schema == NULL ? NULL : altered;
}

static List *
describe_all(List *altered, const List *relids)
{
	ListCell   *cell;

	foreach(cell, relids)
	{
		FenceAltered *one = describe(lfirst_oid(cell));

		if (one != NULL)
			altered = lappend(altered, one);
	}
	return altered;
}

/* With local_ddl on, a superuser has said that it is the node's own affair. */
static bool
is_local(void)
{
	return setting_local_ddl || fence_scope == FENCE_SCOPE_LOCAL_DDL;
}

List *
fence_altered_by(Node *statement)
{
	FenceNamed	named;
	List	   *altered;
	ListCell   *cell;

	if (is_local() || fence_classify_utility(statement) != FENCE_DDL)
		return NIL;
	fence_named_tables(statement, &named);
	altered = describe_all(NIL, named.relids);
	if (named.whole)
		foreach(cell, named.relids)
			if (has_subclass(lfirst_oid(cell)))
				altered = describe_all(altered,
									   find_all_inheritors(lfirst_oid(cell), NoLock, NULL));
	return altered;
}

static void
remember(const FenceAltered *altered, TransactionId xid)
{
	MemoryContext caller = MemoryContextSwitchTo(TopTransactionContext);
	FenceAltered *copy = palloc(sizeof(FenceAltered));

	*copy = *altered;
	copy->xid = xid;
	copy->schema = pstrdup(altered->schema);
	copy->name = pstrdup(altered->name);
	copy->parents = list_copy(altered->parents);
	fence_transaction.altered = lappend(fence_transaction.altered, copy);
	MemoryContextSwitchTo(caller);
}

/* Without an xid it has changed nothing, or has committed that by itself. */
void
fence_remember_altered(List *altered)
{
	TransactionId xid = GetCurrentTransactionIdIfAny();
	ListCell   *cell;

	if (!TransactionIdIsValid(xid))
		return;
	foreach(cell, altered)
		remember(lfirst(cell), xid);
}

/*
 * Of what a statement takes along, tables themselves will do: what belongs to one
 * is dropped with it, or by a statement that names it.
 */
void
fence_remember_change(ObjectAccessType access, Oid class, Oid object)
{
	Oid			relid;
	FenceAltered *altered;

	if (is_local() || fence_scope == FENCE_SCOPE_MAINTENANCE ||
		class != RelationRelationId || object < FirstNormalObjectId ||
		access == OAT_TRUNCATE || !IsTransactionState() || RecoveryInProgress())
		return;
	relid = table_of(object);
	altered = OidIsValid(relid) ? describe(relid) : NULL;
	if (altered == NULL)
		return;
	if (access == OAT_DROP && relid == object)
		altered->parents = fence_tables_parents(relid);
	remember(altered, GetCurrentTransactionId());
}

/* ------------------------------------------------------------------------
 * Names
 * ------------------------------------------------------------------------
 */

static void
check_table(const RangeVar *name)
{
	Oid			relid = name == NULL ? InvalidOid :
		RangeVarGetRelid(name, NoLock, true);

	if (OidIsValid(relid) && fence_tables_list_relation(relid))
		fence_refuse_rename("table", name->relname);
}

void
fence_check_rename(Node *statement)
{
	if (IsA(statement, AlterObjectSchemaStmt))
		check_table(((AlterObjectSchemaStmt *) statement)->relation);
	else if (IsA(statement, DropdbStmt))
	{
		char	   *database = ((DropdbStmt *) statement)->dbname;

		if (fence_tables_list_database(database))
			fence_refuse_rename("database", database);
	}
	else if (IsA(statement, RenameStmt))
	{
		RenameStmt *stmt = (RenameStmt *) statement;

		/* a column, a constraint and the like have a name of their own */
		if (stmt->relation != NULL && stmt->subname == NULL)
			check_table(stmt->relation);
		else if (stmt->renameType == OBJECT_SCHEMA &&
				 fence_tables_list_schema(stmt->subname))
			fence_refuse_rename("schema", stmt->subname);
		else if (stmt->renameType == OBJECT_DATABASE &&
				 fence_tables_list_database(stmt->subname))
			fence_refuse_rename("database", stmt->subname);
	}
}
