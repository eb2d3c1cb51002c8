/*
 * fence_hooks.c
 *		The server's hooks, led to the fence.
 *
 * Only dispatches: each hook asks whether this process is fenced, calls the
 * decision (fence.c), and goes on to the hook that was there before it, or to
 * the server's own function.  Installed once by _PG_init().
 *
 * Must stay cheap: the executor's hooks run with every statement, the object
 * access hook with every function of every plan.
 */
#include "postgres.h"

#include "compat.h"				/* first: see ENABLE_GSS there */

#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "executor/executor.h"
#include "libpq/auth.h"
#include "replication/walsender.h"
#include "tcop/utility.h"

#include "fence.h"
#include "fence_ddl.h"
#include "fence_notes.h"
#include "fence_prepared.h"
#include "fence_refuse.h"
#include "fence_sequence.h"
#include "fence_signal.h"
#include "fence_statement.h"

/* these two are never NULL: the server's own functions, if nobody else's */
static ExecutorStart_hook_type previous_ExecutorStart;
static ExecutorRun_hook_type previous_ExecutorRun;
static ProcessUtility_hook_type previous_ProcessUtility = NULL;
static object_access_hook_type previous_object_access = NULL;
static ClientAuthentication_hook_type previous_ClientAuthentication = NULL;

/* ---- plans ---- */

/* A plan that writes, started and about to be run by the same caller. */
static const QueryDesc *started_plan = NULL;

/* Plans that only read, outside any special scope, take the short way. */
static inline bool
plan_is_simple(const QueryDesc *queryDesc)
{
	return fence_plan_only_reads(queryDesc->plannedstmt) &&
		fence_scope == FENCE_SCOPE_ORDINARY;
}

static pg_noinline void
read_unsettled(void)
{
	if (fence_governs())
		fence_before_read();
	if (unlikely(!pgstat_track_counts) && fence_applies() && fence_tables_look())
		fence_notes_list();
}

static inline void
start_plan(QueryDesc *queryDesc, int eflags)
{
	previous_ExecutorStart(queryDesc, eflags);
}

static pg_noinline void
start_plan_in_scope(FenceScope scope, QueryDesc *queryDesc, int eflags)
{
	FenceSaved	saved;

	fence_enter(scope, &saved);
	if (scope == FENCE_SCOPE_TABLES)
		fence_sequence_begin(queryDesc->plannedstmt);
	PG_TRY();
	{
		start_plan(queryDesc, eflags);
	}
	PG_FINALLY();
	{
		fence_sequence_end();
		fence_leave(&saved);
	}
	PG_END_TRY();
}

/* Any other plan; see start_writing() about "started_plan". */
static pg_noinline void
start_guarded(QueryDesc *queryDesc, int eflags)
{
	FenceScope	scope = fence_scope;

	started_plan = NULL;
	if (!fence_applies())
		started_plan = queryDesc->operation != CMD_SELECT ? queryDesc : NULL;
	else if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
	{
		if (fence_governs())
			fence_before_read();
		scope = FENCE_SCOPE_EXPLAIN;
	}
	else
	{
		scope = fence_before_query(queryDesc->plannedstmt);
		if (scope == FENCE_SCOPE_ORDINARY && queryDesc->operation != CMD_SELECT)
			started_plan = queryDesc;
	}
	if (scope == fence_scope)
		start_plan(queryDesc, eflags);
	else
		start_plan_in_scope(scope, queryDesc, eflags);
}

/* May it write, by what is known of the table that it changes? */
static inline bool
settle_writing(const PlannedStmt *stmt)
{
	const FenceTable *table = fence_first_written(stmt);

	if (table == NULL)
		return false;
	if (fence_table_needs_instance(table, stmt))
		return fence_settle_write() || !fence_governs();
	return fence_table_needs_lease(table, stmt) && fence_notes_settle(table);
}

/*
 * A plan that changes rows of the user's, outside any special scope, while the
 * lease is held, or where none is needed.  It is started and run in one go, so that it need not be
 * looked at twice; cursors and the portals of the extended protocol are not,
 * and are always CMD_SELECT.
 */
static pg_noinline COMPAT_NO_STACK_PROTECTOR void
start_writing(QueryDesc *queryDesc, int eflags)
{
	if (likely(fence_scope == FENCE_SCOPE_ORDINARY &&
			   !(eflags & EXEC_FLAG_EXPLAIN_ONLY) &&
			   settle_writing(queryDesc->plannedstmt)))
	{
		started_plan = queryDesc;
		start_plan(queryDesc, eflags);
	}
	else
		start_guarded(queryDesc, eflags);
}

static void
fence_ExecutorStart(QueryDesc *queryDesc, int eflags)
{
	if (queryDesc->plannedstmt->commandType != CMD_SELECT)
		start_writing(queryDesc, eflags);
	else if (plan_is_simple(queryDesc) && !(eflags & EXEC_FLAG_EXPLAIN_ONLY))
	{
		if (!fence_settled() && !fence_settle())
			read_unsettled();
		start_plan(queryDesc, eflags);
	}
	else
		start_guarded(queryDesc, eflags);
}

static inline void
run_plan(COMPAT_EXECUTOR_RUN_ARGS)
{
	previous_ExecutorRun(COMPAT_EXECUTOR_RUN_PASS);
}

static pg_noinline void
run_plan_in_scope(FenceScope scope, COMPAT_EXECUTOR_RUN_ARGS)
{
	FenceSaved	saved;

	fence_enter(scope, &saved);
	PG_TRY();
	{
		run_plan(COMPAT_EXECUTOR_RUN_PASS);
	}
	PG_FINALLY();
	{
		fence_leave(&saved);
	}
	PG_END_TRY();
}

/* A plan may have been started long ago: a cursor, a portal half executed. */
static pg_noinline void
run_guarded(COMPAT_EXECUTOR_RUN_ARGS)
{
	FenceScope	scope = fence_scope;

	if (fence_applies())
		scope = fence_before_query(queryDesc->plannedstmt);
	if (scope == fence_scope)
		run_plan(COMPAT_EXECUTOR_RUN_PASS);
	else
		run_plan_in_scope(scope, COMPAT_EXECUTOR_RUN_PASS);
}

static void
fence_ExecutorRun(COMPAT_EXECUTOR_RUN_ARGS)
{
	if (likely(plan_is_simple(queryDesc) ? fence_settled() || !fence_governs() :
			   queryDesc == started_plan))
	{
		started_plan = NULL;
		run_plan(COMPAT_EXECUTOR_RUN_PASS);
	}
	else
		run_guarded(COMPAT_EXECUTOR_RUN_PASS);
}

/* ---- utility statements ---- */

static inline void
process_utility(PlannedStmt *pstmt, const char *queryString,
				bool readOnlyTree, ProcessUtilityContext context,
				ParamListInfo params, QueryEnvironment *queryEnv,
				DestReceiver *dest, QueryCompletion *qc)
{
	if (previous_ProcessUtility)
		previous_ProcessUtility(pstmt, queryString, readOnlyTree, context,
								params, queryEnv, dest, qc);
	else
		standard_ProcessUtility(pstmt, queryString, readOnlyTree, context,
								params, queryEnv, dest, qc);
}

static void
process_utility_in_scope(FenceScope scope,
						 PlannedStmt *pstmt, const char *queryString,
						 bool readOnlyTree, ProcessUtilityContext context,
						 ParamListInfo params, QueryEnvironment *queryEnv,
						 DestReceiver *dest, QueryCompletion *qc)
{
	FenceSaved	saved;

	fence_enter(scope, &saved);
	PG_TRY();
	{
		process_utility(pstmt, queryString, readOnlyTree, context, params,
						queryEnv, dest, qc);
	}
	PG_FINALLY();
	{
		fence_leave(&saved);
	}
	PG_END_TRY();
}

static void
fence_ProcessUtility(PlannedStmt *pstmt, const char *queryString,
					 bool readOnlyTree, ProcessUtilityContext context,
					 ParamListInfo params, QueryEnvironment *queryEnv,
					 DestReceiver *dest, QueryCompletion *qc)
{
	FenceScope	scope = fence_scope;
	bool		applies = fence_applies();
	List	   *altered = NIL;

	if (applies)
		scope = fence_before_utility(pstmt);
	else if (fence_concerns() && fence_finishes_prepared(pstmt->utilityStmt))
		fence_before_finish_unfenced();
	if (scope != FENCE_SCOPE_LOCAL_DDL && fence_concerns())
		altered = fence_altered_by(pstmt->utilityStmt);
	if (scope == fence_scope)
		process_utility(pstmt, queryString, readOnlyTree, context, params,
						queryEnv, dest, qc);
	else
		process_utility_in_scope(scope, pstmt, queryString, readOnlyTree,
								 context, params, queryEnv, dest, qc);
	if (altered != NIL)
		fence_remember_altered(altered);
	if (applies)
		fence_after_utility(pstmt);
}

/* ---- functions and schemas ---- */

/* Is it what the server used for a while, and nobody's table? */
static bool
drop_is_internal(const ObjectAccessDrop *drop)
{
	return drop != NULL && (drop->dropflags & PERFORM_DELETION_INTERNAL) != 0;
}

/* What is dropped CONCURRENTLY commits by itself, and may not have an xid yet. */
static bool
is_to_be_remembered(ObjectAccessType access, const void *arg)
{
	if (arg == NULL)
		return true;
	if (access == OAT_DROP)
		return (((const ObjectAccessDrop *) arg)->dropflags &
				(PERFORM_DELETION_INTERNAL | PERFORM_DELETION_CONCURRENTLY)) == 0;
	return access != OAT_POST_ALTER ||
		!((const ObjectAccessPostAlter *) arg)->is_internal;
}

/* Of all that the hook is called for, the little that the fence looks at. */
static pg_noinline void
consider_access(ObjectAccessType access, Oid classId, Oid objectId,
				int subId, void *arg)
{
	if (access == OAT_FUNCTION_EXECUTE)
	{
		if (fence_function_writes(objectId) && fence_governs())
			fence_before_function(objectId);
	}
	else if (access == OAT_DROP || access == OAT_TRUNCATE ||
			 access == OAT_POST_ALTER)
	{
		if (is_to_be_remembered(access, arg) && fence_concerns())
			fence_remember_change(access, classId, objectId);
		if (!(access == OAT_DROP && drop_is_internal(arg)) &&
			pg_atomic_read_u32(fence_tables_published) != 0 && fence_concerns())
			fence_before_change(access, classId, objectId);
	}
	else if (access == OAT_NAMESPACE_SEARCH)
	{
		if (fence_process == FENCE_PROCESS_UNKNOWN)
			fence_join();
		fence_before_schema(objectId);
	}
	if (previous_object_access)
		previous_object_access(access, classId, objectId, subId, arg);
}

/* The hook, where it is the only one: nearly always nothing is to be done. */
static void
fence_object_access(ObjectAccessType access, Oid classId, Oid objectId,
					int subId, void *arg)
{
	if (access != OAT_FUNCTION_EXECUTE || fence_function_may_write(objectId))
		consider_access(access, classId, objectId, subId, arg);
}

/* ---- sessions ---- */

/*
 * Authenticated: from here on the session is known to the steward as one that
 * was opened under this epoch.
 */
static void
fence_ClientAuthentication(Port *port, int status)
{
	if (previous_ClientAuthentication)
		previous_ClientAuthentication(port, status);
	if (status == STATUS_OK && fence_process == FENCE_PROCESS_UNKNOWN)
		fence_join();
	if (status == STATUS_OK && am_walsender && leasehold_shared != NULL &&
		!fence_feeds_standbys())
		fence_refuse_standby();
}

/* ---- transactions ---- */

static pg_noinline void
end_of_transaction(XactEvent event)
{
	switch (event)
	{
		case XACT_EVENT_PRE_PREPARE:
			if (fence_transaction.wrote || fence_concerns())
				fence_before_commit(true);
			break;
		case XACT_EVENT_PREPARE:
			fence_after_prepare();
			break;
		case XACT_EVENT_ABORT:
			fence_after_abort();
			break;
		default:
			break;
	}
}

/*
 * Nearly all transactions commit: those that have only read have nothing to
 * check and nothing to lower, those seen writing go straight on.
 */
static void
fence_transaction_callback(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT)
	{
		if (fence_transaction.wrote ||
			(TransactionIdIsValid(GetTopTransactionIdIfAny()) && fence_concerns()))
			fence_before_commit(false);
	}
	else if (event == XACT_EVENT_COMMIT)
	{
		if (fence_transaction.wrote || fence_transaction.in_commit)
			fence_after_commit();
		else
			fence_forget_transaction();
	}
	else
		end_of_transaction(event);
}

void
fence_install(void)
{
	fence_statement_install();
	fence_signal_install();
	fence_prepared_install();

	previous_ExecutorStart = ExecutorStart_hook ? ExecutorStart_hook :
		standard_ExecutorStart;
	ExecutorStart_hook = fence_ExecutorStart;
	previous_ExecutorRun = ExecutorRun_hook ? ExecutorRun_hook :
		standard_ExecutorRun;
	ExecutorRun_hook = fence_ExecutorRun;
	previous_ProcessUtility = ProcessUtility_hook;
	ProcessUtility_hook = fence_ProcessUtility;
	previous_object_access = object_access_hook;
	object_access_hook = previous_object_access ? consider_access :
		fence_object_access;
	previous_ClientAuthentication = ClientAuthentication_hook;
	ClientAuthentication_hook = fence_ClientAuthentication;
	RegisterXactCallback(fence_transaction_callback, NULL);
}
