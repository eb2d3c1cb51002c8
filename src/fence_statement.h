/*
 * fence_statement.h
 *		What a statement would write: the fence's knowledge of SQL.
 *
 * Layer 2.  Nothing here looks at a lease.
 */
#ifndef LEASEHOLD_FENCE_STATEMENT_H
#define LEASEHOLD_FENCE_STATEMENT_H

#include "postgres.h"

#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"
#include "parser/parsetree.h"
#include "pgstat.h"
#include "utils/pgstat_internal.h"

#include "fence_tables.h"

#pragma GCC visibility push(hidden)	/* see fence.h */

/* From the harmless to the worst. */
typedef enum FenceWrite
{
	FENCE_READS,				/* nothing, or only what stays in the session */
	FENCE_TEMPORARY,			/* this session's temporary tables */
	FENCE_MAINTAINS,			/* VACUUM and its like: no user data changes */
	FENCE_STORE,				/* the store's own tables */
	FENCE_PROTECTED,			/* tables that have leases of their own */
	FENCE_DDL,					/* schema, roles and the like, no rows */
	FENCE_WRITES,				/* user data, or an announcement of it */
	FENCE_PREPARES,				/* PREPARE TRANSACTION */
	FENCE_FINISHES				/* COMMIT PREPARED, ROLLBACK PREPARED */
} FenceWrite;

#define FENCE_STORE_SCHEMA "leasehold_store"

/*
 * The built-in functions that write without the executor's noticing, as one
 * flag for each low OID: the object access hook is called for every function
 * of every plan, and asks first whether it may be one of them.
 */
#define FENCE_FUNCTIONS		8192
extern bool fence_functions[FENCE_FUNCTIONS];

static inline bool
fence_function_may_write(Oid function)
{
	return fence_functions[function % FENCE_FUNCTIONS];
}

static inline bool
fence_function_writes(Oid function)
{
	return function < FENCE_FUNCTIONS && fence_functions[function];
}

/* Fill the above; called once, at installation. */
extern void fence_statement_install(void);

/* The name by which a message mentions such a function: "nextval()". */
extern const char *fence_function_name(Oid function);

/* Is it one that core itself stops in a read-only transaction, and that may be
 * about a temporary object?  Then core decides, who knows the arguments. */
extern bool fence_function_may_be_temporary(Oid function);

/* Is it one that a statement on the store's own tables may call? */
extern bool fence_function_serves_store(Oid function);

/* Can this plan not write at all?  The cheapest question, for the most plans. */
static inline bool
fence_plan_only_reads(const PlannedStmt *stmt)
{
	return stmt->commandType == CMD_SELECT &&
		stmt->rowMarks == NIL && !stmt->hasModifyingCTE;
}

/*
 * What tables are, by their OID: a small cache, kept by fence_statement.c.
 */
#define FENCE_TABLES 64

typedef struct FenceTable
{
	Oid			relid;
	FenceWrite	what;
	const FenceNeed *need;		/* or NULL; see fence_tables.h */
} FenceTable;

extern FenceTable fence_tables[FENCE_TABLES];

/* Of a table that need not be in the cache. */
extern FenceTable fence_look_at_table(Oid relid);

static inline FenceTable
fence_table(Oid relid)
{
	FenceTable *known = &fence_tables[relid % FENCE_TABLES];

	if (likely(known->relid == relid && OidIsValid(relid)))
		return *known;
	return fence_look_at_table(relid);
}

/* The list of protected tables is another one now. */
extern void fence_forget_tables(void);

/* What is known of the first table that the plan changes; NULL if nothing is. */
static inline const FenceTable *
fence_first_written(const PlannedStmt *stmt)
{
	RangeTblEntry *table;
	FenceTable *known;

	if (stmt->resultRelations == NIL ||
		pg_atomic_read_u32(fence_tables_published) != fence_tables_generation)
		return NULL;
	table = rt_fetch(linitial_int(stmt->resultRelations), stmt->rtable);
	known = &fence_tables[table->relid % FENCE_TABLES];
	return known->relid == table->relid ? known : NULL;
}

/* Is that the only one, and is it counted? */
static inline bool
fence_writes_one_table(const PlannedStmt *stmt)
{
	return list_length(stmt->resultRelations) == 1 && stmt->rowMarks == NIL &&
		pgstat_track_counts;
}

/*
 * Does this plan surely change user data, and no table that has a lease of its
 * own?  The next cheapest question: false means only that more has to be found
 * out.
 */
static inline bool
fence_table_needs_instance(const FenceTable *known, const PlannedStmt *stmt)
{
	return known->what == FENCE_WRITES &&
		(likely(!fence_tables_here) ||
		 (known->need == NULL && fence_writes_one_table(stmt)));
}

static inline bool
fence_plan_surely_writes(const PlannedStmt *stmt)
{
	const FenceTable *known = fence_first_written(stmt);

	return known != NULL && fence_table_needs_instance(known, stmt);
}

/* Does it surely change the rows of one table that has leases of its own? */
static inline bool
fence_table_needs_lease(const FenceTable *known, const PlannedStmt *stmt)
{
	return known->what == FENCE_PROTECTED && fence_writes_one_table(stmt);
}

static inline const FenceTable *
fence_plan_protected_table(const PlannedStmt *stmt)
{
	const FenceTable *known = fence_first_written(stmt);

	return known != NULL && fence_table_needs_lease(known, stmt) ? known : NULL;
}

extern FenceWrite fence_classify_plan(const PlannedStmt *stmt);
extern FenceWrite fence_classify_utility(Node *statement);

/*
 * fence_each_written
 *		Call "see" for every table that needs a lease of its own, or has tables
 *		below it that do, that the plan names, and that it is to change or to lock
 *		rows of in a way that keeps others from changing them.  Tables that it
 *		comes to only by way of those are not told.
 */
typedef void (*FenceSee) (Oid relid, const FenceNeed *need, void *arg);

extern void fence_each_written(const PlannedStmt *stmt, FenceSee see, void *arg);

/* Does this plan change nothing, and lock rows only as a foreign key does? */
extern bool fence_plan_only_refers(const PlannedStmt *stmt);

/* Does it commit a prepared transaction, or roll it back? */
extern bool fence_finishes_prepared(Node *statement);

/* Does the statement drop this very extension? */
extern bool fence_drops_extension(Node *statement);

/* Is this the schema of the store's tables? */
extern bool fence_is_store_schema(Oid schema);

/*
 * fence_transaction_changed_data
 *		Has the transaction at hand changed rows of anything but temporary and
 *		store tables and those that have leases of their own (and, if "maintained",
 *		catalogs)?  Counts what the
 *		table access methods report, so that C code that bypasses the executor
 *		is found out too.  "harmless" is the answer where nothing is counted.
 */
extern bool fence_transaction_changed_data(bool maintained, bool harmless);

/*
 * fence_first_changed
 *		The counts of the transaction at hand, to be followed by "next".  Only at
 *		its end; meaningless where nothing is counted.
 */
static inline const PgStat_TableXactStatus *
fence_first_changed(void)
{
	return pgstat_get_xact_stack_level(1)->first;
}

static inline bool
fence_changed_rows(const PgStat_TableXactStatus *counts)
{
	return counts->tuples_inserted != 0 || counts->tuples_updated != 0 ||
		counts->tuples_deleted != 0 || counts->truncdropped;
}

/*
 * fence_each_changed
 *		Call "see" for every table with a lease of its own of which the transaction
 *		at hand has changed rows.  False where nothing is counted.
 */
extern bool fence_each_changed(FenceSee see, void *arg);

#pragma GCC visibility pop

#endif							/* LEASEHOLD_FENCE_STATEMENT_H */
