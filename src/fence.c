/*
 * fence.c
 *		What a backend may do while a lease governs its instance: the decision.
 *
 * Every backend compares the clock with the deadline itself, at three points:
 * before a statement (a good error message), before the commit (the rule) and
 * after it (whether the client may be told).  The first alone proves nothing,
 * since a lease can be lost at any moment; the second neither, since a backend
 * can be stopped between the check and the commit record.  The third decides
 * what "acknowledged" means: what became durable outside the time in which this
 * node held the transaction's epoch is never acknowledged.
 *
 * Called from fence_hooks.c, in every process that runs SQL.  Decides from
 * shared memory and the clock alone: must never wait for a network, a lock of
 * the keeper or a file.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/twophase.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "postmaster/autovacuum.h"
#include "replication/logicalworker.h"
#include "replication/walsender.h"
#include "storage/ipc.h"
#include "tcop/utility.h"
#include "utils/fmgroids.h"

#include "compat.h"
#include "fence.h"
#include "fence_ddl.h"
#include "fence_notes.h"
#include "fence_prepared.h"
#include "fence_refuse.h"
#include "fence_refuse_table.h"
#include "fence_reply.h"
#include "fence_sequence.h"
#include "fence_signal.h"
#include "fence_statement.h"

FenceProcess fence_process = FENCE_PROCESS_UNKNOWN;
FenceTransaction fence_transaction;
FenceScope	fence_scope = FENCE_SCOPE_ORDINARY;
TimestampTz fence_looked_at = 0;
FenceBackend *fence_backend = NULL;

#define my_lease (&fence_shared->instance)

/* ------------------------------------------------------------------------
 * This process
 * ------------------------------------------------------------------------
 */

/* on_shmem_exit callback: leave our place as if nobody had been there. */
static void
fence_part(int code, Datum arg)
{
	pg_atomic_write_u32(&fence_backend->pid, 0);
	fence_hide_writing(fence_backend);
	pg_atomic_write_u32(&fence_backend->spared, 0);
	pg_atomic_write_u64(&fence_backend->opened_epoch, 0);
	fence_lower_flag();
}

/* Take our place in shared memory; only sessions of clients show their pid. */
static void
take_place(void)
{
	FenceBackend *backend = shared_my_backend();

	fence_backend = backend;
	on_shmem_exit(fence_part, (Datum) 0);
	pg_atomic_write_u32(&backend->in_commit, 0);
	fence_hide_writing(backend);
	pg_atomic_write_u32(&backend->spared, 0);
	pg_atomic_write_u64(&backend->opened_epoch, 0);
	if (MyBackendType == B_BACKEND)
	{
		pg_atomic_write_u64(&backend->opened_epoch,
							shared_lease_epoch(my_lease));
		pg_write_barrier();
		pg_atomic_write_u32(&backend->pid, (uint32) MyProcPid);
	}
}

void
fence_join(void)
{
	if (fence_shared == NULL || MyProc == NULL || !IsUnderPostmaster)
		return;
	if (IsLogicalWorker())
		fence_process = FENCE_PROCESS_LOGICAL;
	else if (IsParallelWorker() || compat_is_autovacuum_worker())
		fence_process = FENCE_PROCESS_EXEMPT;
	else
	{
		take_place();
		fence_tables_join();
		fence_process = FENCE_PROCESS_FENCED;
	}
}

/* ------------------------------------------------------------------------
 * Before a statement
 * ------------------------------------------------------------------------
 */

/*
 * Note which epoch is held now.  The first one is the transaction's; a
 * different one, or none, dooms it.
 */
static pg_attribute_always_inline uint64
note_epoch(void)
{
	uint64		held = shared_lease_epoch(my_lease);

	if (!fence_transaction.seen)
	{
		fence_transaction.seen = true;
		fence_transaction.epoch = held;
	}
	else if (fence_transaction.epoch != held)
		fence_transaction.epoch = 0;
	fence_signal(held == 0);
	return held;
}

/* A second line: what core itself refuses in a read-only transaction. */
static void
force_read_only(void)
{
	if (setting_fence != FENCE_ENFORCE || XactReadOnly)
		return;
	XactReadOnly = true;
	fence_transaction.forced = true;
}

void
fence_before_read(void)
{
	fence_looked_at = GetCurrentStatementStartTimestamp();
	if (note_epoch() == 0)
		force_read_only();
}

/*
 * Something is about to be written that needs the lease.  "command" names it
 * for the message; if NULL, "statement" is the plan or statement to name.
 */
static void
before_write(const char *command, const void *statement)
{
	uint64		held = note_epoch();

	if (unlikely(held == 0 || held != fence_transaction.epoch))
	{
		if (command == NULL)
			command = CreateCommandName((Node *) statement);
		fence_refuse_statement(command, statement, held);
		return;
	}
	fence_note_write();
}

/* A statement on this session's temporary tables. */
static FenceScope
before_temporary(void)
{
	fence_before_read();
	fence_transaction.harmless = true;
	return FENCE_SCOPE_TEMPORARY;
}

/* A statement on the store's own tables: nothing of the user's. */
static FenceScope
before_store(void)
{
	fence_before_read();
	fence_transaction.harmless = true;
	pg_atomic_write_u32(&fence_backend->spared, 1);
	return FENCE_SCOPE_STORE;
}

/*
 * A statement on tables that have leases of their own, which have been asked for
 * by now; that of the instance does not matter.
 */
static FenceScope
before_protected(bool ddl)
{
	fence_before_read();
	fence_transaction.harmless = true;
	fence_transaction.maintained |= ddl;
	return FENCE_SCOPE_TABLES;
}

static inline FenceWrite
classify_plan(const PlannedStmt *stmt)
{
	const FenceTable *protected;
	FenceWrite	what;

	if (likely(fence_plan_surely_writes(stmt)))
		return FENCE_WRITES;
	if (fence_plan_only_reads(stmt))
		return FENCE_READS;
	protected = fence_plan_protected_table(stmt);
	if (protected != NULL)
	{
		fence_notes_require(protected->relid, protected->need, false, NULL, stmt);
		return FENCE_PROTECTED;
	}
	what = fence_classify_plan(stmt);
	if (fence_tables_look())
		fence_notes_before_plan(stmt);
	/* a foreign key of a protected table: to refer to a row does not change it */
	if (what == FENCE_WRITES && (fence_transaction.wrote & FENCE_WROTE_TABLES) &&
		fence_plan_only_refers(stmt))
		what = FENCE_PROTECTED;
	return what;
}

FenceScope
fence_before_query(const PlannedStmt *stmt)
{
	FenceWrite	what = classify_plan(stmt);

	if (!fence_governs())
		return FENCE_SCOPE_ORDINARY;
	if (likely(what == FENCE_WRITES))
		before_write(NULL, stmt);
	else if (what == FENCE_PROTECTED)
		return before_protected(false);
	else if (what == FENCE_STORE)
		return before_store();
	else if (what == FENCE_TEMPORARY)
		return before_temporary();
	else
		fence_before_read();
	return FENCE_SCOPE_ORDINARY;
}

void
fence_before_function(Oid function)
{
	if (fence_scope == FENCE_SCOPE_EXPLAIN ||
		(fence_scope == FENCE_SCOPE_STORE &&
		 fence_function_serves_store(function)))
		return;
	if (fence_scope == FENCE_SCOPE_TABLES && function == F_NEXTVAL &&
		fence_sequence_is_covered())
		return;
	if (fence_function_may_be_temporary(function))
	{
		bool		fenced = note_epoch() == 0;

		/* the function finds out, and refuses unless it is temporary */
		if (fenced)
			force_read_only();
		if (fenced ? setting_fence == FENCE_ENFORCE :
			fence_scope == FENCE_SCOPE_TEMPORARY)
			return;
	}
	before_write(fence_function_name(function), fence_function_name(function));
}

void
fence_before_schema(Oid schema)
{
	if (!fence_is_store_schema(schema))
		return;
	if (fence_process == FENCE_PROCESS_LOGICAL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("logical replication must not touch schema \"%s\"",
						FENCE_STORE_SCHEMA),
				 errdetail("The rows in which leases live are changed by their holders alone."),
				 errhint("Take the tables of this schema out of the publication.")));
	if (fence_backend != NULL)
		pg_atomic_write_u32(&fence_backend->spared, 1);
}

/* ------------------------------------------------------------------------
 * Prepared transactions
 * ------------------------------------------------------------------------
 */

static void
before_prepare(const TransactionStmt *stmt, const PlannedStmt *pstmt)
{
	strlcpy(fence_preparing_gid, stmt->gid, GIDSIZE);
	before_write("PREPARE TRANSACTION", pstmt);
}

/* In an independent group, only the epoch that prepared it commits it. */
static void
check_prepared_epoch(const char *gid, uint64 held)
{
	uint64		prepared = fence_prepared_epoch(gid);

	if (prepared == held ||
		pg_atomic_read_u32(&fence_shared->physical) != 0)
		return;
	/* in the server's own words; what is prepared from here on is too late */
	if (prepared == 0 && !fence_prepared_exists(gid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("prepared transaction with identifier \"%s\" does not exist",
						gid)));
	fence_refuse_prepared(gid, prepared, held);
}

/*
 * COMMIT PREPARED and ROLLBACK PREPARED make durable at once what the wrapper
 * around them, which has no xid, commits only in name.  So all that precedes a
 * commit comes before the statement, the flag first.
 */
static void
before_finish(const TransactionStmt *stmt, const PlannedStmt *pstmt)
{
	bool		commit = stmt->kind == TRANS_STMT_COMMIT_PREPARED;

	fence_raise_flag();
	before_write(commit ? "COMMIT PREPARED" : "ROLLBACK PREPARED", pstmt);
	if (!(fence_transaction.wrote & FENCE_WROTE_INSTANCE))
		return;					/* warn mode let it pass */
	if (commit)
		check_prepared_epoch(stmt->gid, fence_transaction.epoch);
	fence_transaction.finished = true;
	if (setting_fence == FENCE_ENFORCE)
		fence_reply_shut_gate(fence_transaction.epoch, NULL, 0);
}

void
fence_before_finish_unfenced(void)
{
	fence_raise_flag();
}

/*
 * What wrote protected tables is not prepared; but a table may have been written
 * first and protected then.
 */
static void
check_prepared_tables(const TransactionStmt *stmt)
{
	Oid			relid;

	if (stmt->kind != TRANS_STMT_COMMIT_PREPARED || !fence_tables_look())
		return;
	relid = fence_prepared_protected_table(stmt->gid);
	if (OidIsValid(relid))
		fence_refuse_table_finish(stmt->gid, relid);
}

void
fence_after_utility(const PlannedStmt *pstmt)
{
	TransactionStmt *stmt = (TransactionStmt *) pstmt->utilityStmt;

	if (IsA(stmt, TransactionStmt) &&
		(stmt->kind == TRANS_STMT_COMMIT_PREPARED ||
		 stmt->kind == TRANS_STMT_ROLLBACK_PREPARED))
		fence_prepared_forget(stmt->gid);
}

/* ------------------------------------------------------------------------
 * Utility statements
 * ------------------------------------------------------------------------
 */

static FenceScope
let_through(const PlannedStmt *pstmt)
{
	fence_log_local_ddl(pstmt);
	fence_transaction.local_ddl = true;
	return FENCE_SCOPE_LOCAL_DDL;
}

/* Schema changes: local_ddl lets them through where the lease is missing. */
static FenceScope
before_ddl(const PlannedStmt *pstmt)
{
	if (setting_local_ddl && note_epoch() == 0)
		return let_through(pstmt);
	before_write(NULL, pstmt);
	return FENCE_SCOPE_ORDINARY;
}

/* What leases of tables say about it; false if that is all that there is. */
static bool
before_utility_on_tables(const PlannedStmt *pstmt, FenceWrite *what,
						 FenceScope *scope)
{
	Node	   *statement = pstmt->utilityStmt;
	bool		local = false;

	if (fence_tables_look())
		fence_notes_list();
	if (*what == FENCE_DDL && fence_tables_here && fence_drops_extension(statement))
		fence_refuse_drop();
	if (*what == FENCE_DDL)
		fence_check_rename(statement);
	if (*what == FENCE_PREPARES && (fence_transaction.wrote & FENCE_WROTE_TABLES))
		fence_refuse_table_prepare(fence_notes, fence_transaction.nnotes);
	if (*what == FENCE_FINISHES)
	{
		fence_raise_flag();
		check_prepared_tables((TransactionStmt *) statement);
	}
	if (fence_tables_here)
		*what = fence_notes_before_utility(pstmt, *what, &local);
	if (local)
		*scope = let_through(pstmt);
	else if (*what == FENCE_MAINTAINS)
		*scope = FENCE_SCOPE_MAINTENANCE;
	return !local;
}

FenceScope
fence_before_utility(const PlannedStmt *pstmt)
{
	Node	   *statement = pstmt->utilityStmt;
	FenceWrite	what = fence_classify_utility(statement);
	FenceScope	scope = FENCE_SCOPE_ORDINARY;

	if (pg_atomic_read_u32(fence_tables_published) != 0 &&
		!before_utility_on_tables(pstmt, &what, &scope))
		return scope;
	if (!fence_governs())
	{
		fence_transaction.harmless |= what == FENCE_MAINTAINS;
		return scope;
	}
	switch (what)
	{
		case FENCE_READS:
			/* these may say themselves whether to be read-only: ask them */
			if (IsA(statement, TransactionStmt) ||
				IsA(statement, VariableSetStmt))
				(void) note_epoch();
			else
				fence_before_read();
			break;
		case FENCE_TEMPORARY:
			return before_temporary();
		case FENCE_MAINTAINS:
			fence_before_read();
			fence_transaction.harmless = true;
			fence_transaction.maintained = true;
			return FENCE_SCOPE_MAINTENANCE;
		case FENCE_STORE:
			return before_store();
		case FENCE_PROTECTED:
			return before_protected(!IsA(statement, CopyStmt));
		case FENCE_DDL:
			if (fence_drops_extension(statement))
				fence_refuse_drop();
			return before_ddl(pstmt);
		case FENCE_WRITES:
			before_write(NULL, pstmt);
			break;
		case FENCE_PREPARES:
			before_prepare((TransactionStmt *) statement, pstmt);
			break;
		case FENCE_FINISHES:
			before_finish((TransactionStmt *) statement, pstmt);
			break;
	}
	return FENCE_SCOPE_ORDINARY;
}

/* Does what happens in this scope not concern the leases of tables? */
static inline bool
scope_is_exempt(void)
{
	return fence_scope == FENCE_SCOPE_MAINTENANCE ||
		fence_scope == FENCE_SCOPE_LOCAL_DDL ||
		proc_exit_inprogress || shmem_exit_inprogress;
}

void
fence_before_change(ObjectAccessType access, Oid class, Oid object)
{
	const char *command = access == OAT_TRUNCATE ? "TRUNCATE" :
		access == OAT_DROP ? "DROP" : "ALTER";
	FenceTable	table;
	Oid			relid;

	if (scope_is_exempt() || !IsTransactionState() || !fence_tables_look())
		return;
	relid = fence_changed_table(access, class, object);
	if (!OidIsValid(relid))
		return;
	table = fence_table(relid);
	if (table.need != NULL && table.need->nown > 0)
		fence_notes_require(relid, table.need, false, command, command);
	/* the lease of a table does not do for what its statement takes along */
	else if (fence_scope == FENCE_SCOPE_TABLES && class == RelationRelationId &&
			 table.what >= FENCE_DDL && access != OAT_POST_ALTER &&
			 fence_governs())
		before_write(command, command);
}

/*
 * In the scopes that may write without the lease, a read-only state of *our*
 * making must not stand in the way; one of the user's making stays.
 */
void
fence_enter(FenceScope scope, FenceSaved *saved)
{
	saved->scope = fence_scope;
	saved->cleared = false;
	fence_scope = scope;
	if ((scope == FENCE_SCOPE_STORE || scope == FENCE_SCOPE_LOCAL_DDL ||
		 scope == FENCE_SCOPE_TABLES) &&
		fence_transaction.forced && XactReadOnly && !RecoveryInProgress())
	{
		XactReadOnly = false;
		saved->cleared = true;
	}
}

void
fence_leave(const FenceSaved *saved)
{
	fence_scope = saved->scope;
	if (saved->cleared)
		XactReadOnly = true;
}
