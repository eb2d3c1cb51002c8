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

#pragma GCC visibility push(hidden)	/* see fence.h */

/* From the harmless to the worst. */
typedef enum FenceWrite
{
	FENCE_READS,				/* nothing, or only what stays in the session */
	FENCE_TEMPORARY,			/* this session's temporary tables */
	FENCE_MAINTAINS,			/* VACUUM and its like: no user data changes */
	FENCE_STORE,				/* the store's own tables */
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
} FenceTable;

extern FenceTable fence_tables[FENCE_TABLES];

/*
 * Does this plan surely change user data?  The next cheapest question: false
 * means only that fence_classify_plan() has to find out.
 */
static inline bool
fence_plan_surely_writes(const PlannedStmt *stmt)
{
	RangeTblEntry *table;
	FenceTable *known;

	if (stmt->resultRelations == NIL)
		return false;
	table = rt_fetch(linitial_int(stmt->resultRelations), stmt->rtable);
	known = &fence_tables[table->relid % FENCE_TABLES];
	return known->relid == table->relid && known->what == FENCE_WRITES;
}

extern FenceWrite fence_classify_plan(const PlannedStmt *stmt);
extern FenceWrite fence_classify_utility(Node *statement);

/* Does the statement drop this very extension? */
extern bool fence_drops_extension(Node *statement);

/* Is this the schema of the store's tables? */
extern bool fence_is_store_schema(Oid schema);

/*
 * fence_transaction_changed_data
 *		Has the transaction at hand changed rows of anything but temporary and
 *		store tables (and, if "maintained", of catalogs)?  Counts what the
 *		table access methods report, so that C code that bypasses the executor
 *		is found out too.  "harmless" is the answer where nothing is counted.
 */
extern bool fence_transaction_changed_data(bool maintained, bool harmless);

#pragma GCC visibility pop

#endif							/* LEASEHOLD_FENCE_STATEMENT_H */
