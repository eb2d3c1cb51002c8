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
#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "postmaster/autovacuum.h"
#include "replication/logicalworker.h"
#include "replication/walsender.h"
#include "storage/ipc.h"
#include "tcop/utility.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "fence.h"
#include "fence_prepared.h"
#include "fence_reply.h"
#include "fence_signal.h"
#include "fence_statement.h"

FenceProcess fence_process = FENCE_PROCESS_UNKNOWN;
FenceTransaction fence_transaction;
FenceScope	fence_scope = FENCE_SCOPE_ORDINARY;
bool		fence_exempt_process = false;

static FenceBackend *my_backend = NULL;

/* PREPARE TRANSACTION under way: what the callback is to remember. */
static char preparing_gid[GIDSIZE];

/* warn mode: what was logged last, so that it is logged once. */
static const void *warned_of = NULL;
static TimestampTz warned_at = 0;

#define my_lease (&fence_shared->instance)

/* ------------------------------------------------------------------------
 * This process
 * ------------------------------------------------------------------------
 */

/* Lower our flag; whoever waits for it is woken. */
static inline void
lower_flag(void)
{
	pg_atomic_write_u32(&my_backend->in_commit, 0);
	pg_memory_barrier();
	if (pg_atomic_read_u32(&fence_shared->draining) != 0)
		shared_wake_keeper();
}

/* on_shmem_exit callback: leave our place as if nobody had been there. */
static void
fence_part(int code, Datum arg)
{
	pg_atomic_write_u32(&my_backend->pid, 0);
	pg_atomic_write_u32(&my_backend->writing, 0);
	pg_atomic_write_u32(&my_backend->spared, 0);
	pg_atomic_write_u64(&my_backend->opened_epoch, 0);
	lower_flag();
}

/* Take our place in shared memory; only sessions of clients show their pid. */
static void
take_place(void)
{
	FenceBackend *backend = shared_my_backend();

	my_backend = backend;
	on_shmem_exit(fence_part, (Datum) 0);
	pg_atomic_write_u32(&backend->in_commit, 0);
	pg_atomic_write_u32(&backend->writing, 0);
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
		fence_process = FENCE_PROCESS_FENCED;
	}
}

/* ------------------------------------------------------------------------
 * Refusing
 * ------------------------------------------------------------------------
 */

/* What is known of the lease, with its name at least. */
static void
read_notice(FenceNotice *notice)
{
	shared_read_notice(notice);
	if (notice->lease[0] == '\0')
		strlcpy(notice->lease, settings_lease(), sizeof(notice->lease));
}

static bool
held_elsewhere(const FenceNotice *notice)
{
	return notice->holder[0] != '\0' &&
		strcmp(notice->holder, notice->node) != 0;
}

/* Who holds it, and under which epoch: one full sentence, or two. */
static int
lease_detail(const FenceNotice *notice)
{
	const char *space = notice->reason[0] != '\0' ? " " : "";

	if (held_elsewhere(notice))
		return errdetail("Lease \"%s\" is held by node \"%s\" under epoch %lld.",
						 notice->lease, notice->holder,
						 (long long) notice->epoch);
	return errdetail("Nobody holds lease \"%s\"; the highest epoch known is %lld.%s%s",
					 notice->lease, (long long) notice->epoch,
					 space, notice->reason);
}

static int
lease_hint(const FenceNotice *notice)
{
	if (!held_elsewhere(notice) || notice->address[0] == '\0')
		return 0;
	return errhint("Connect to node \"%s\" at %s.",
				   notice->holder, notice->address);
}

/* In warn mode: has this very statement been logged already? */
static bool
already_warned(const void *statement)
{
	TimestampTz started = GetCurrentStatementStartTimestamp();

	if (warned_of == statement && warned_at == started)
		return true;
	warned_of = statement;
	warned_at = started;
	return false;
}

/*
 * Refuse a statement: ERROR in enforce mode, a line in the log in warn mode.
 * "held" is the epoch held at this moment: if there is one, the node may write
 * but this transaction may not.
 */
static pg_noinline void
refuse_statement(const char *command, const void *statement, uint64 held)
{
	FenceNotice notice;

	if (setting_fence == FENCE_WARN)
	{
		fence_transaction.warned = true;
		if (already_warned(statement))
			return;
		read_notice(&notice);
		ereport(LOG,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("would have refused %s: this node does not hold lease \"%s\"",
						command, notice.lease),
				 lease_detail(&notice)));
		return;
	}

	pg_atomic_fetch_add_u64(&fence_shared->refused, 1);
	read_notice(&notice);
	if (held != 0)
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot execute %s: this transaction has seen this node without lease \"%s\"",
						command, notice.lease),
				 errdetail("This node holds lease \"%s\" under epoch %lld now, but the transaction began before.",
						   notice.lease, (long long) held),
				 errhint("Start a new transaction.")));
	ereport(ERROR,
			(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
			 errmsg("cannot execute %s: this node does not hold lease \"%s\"",
					command, notice.lease),
			 lease_detail(&notice),
			 lease_hint(&notice)));
}

/*
 * The same for a commit.  "seen" says whether the fence let the transaction
 * write, so that it must have lost the lease since; else it wrote behind the
 * fence's back.
 */
static pg_noinline void
refuse_commit(uint64 held, bool seen)
{
	FenceNotice notice;

	if (setting_fence == FENCE_WARN && fence_transaction.warned)
		return;
	read_notice(&notice);
	if (setting_fence == FENCE_WARN)
	{
		fence_transaction.warned = true;
		ereport(LOG,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("would have refused to commit: this node does not hold lease \"%s\" (any more)",
						notice.lease),
				 lease_detail(&notice)));
		return;
	}

	pg_atomic_fetch_add_u64(&fence_shared->refused, 1);
	if (held != 0)
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot commit: lease \"%s\" was lost during this transaction",
						notice.lease),
				 errdetail("This node has come to hold lease \"%s\" again since, under epoch %lld.",
						   notice.lease, (long long) held),
				 errhint("Run the transaction again.")));
	ereport(ERROR,
			(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
			 seen ?
			 errmsg("cannot commit: lease \"%s\" was lost during this transaction",
					notice.lease) :
			 errmsg("cannot commit: this transaction wrote, and this node does not hold lease \"%s\"",
					notice.lease),
			 lease_detail(&notice),
			 lease_hint(&notice)));
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
		refuse_statement(command, statement, held);
		return;
	}
	if (!fence_transaction.wrote)
	{
		fence_transaction.wrote = true;
		pg_atomic_write_u32(&my_backend->writing, 1);
	}
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
	pg_atomic_write_u32(&my_backend->spared, 1);
	return FENCE_SCOPE_STORE;
}

FenceScope
fence_before_query(const PlannedStmt *stmt)
{
	FenceWrite	what = fence_plan_only_reads(stmt) ? FENCE_READS :
		fence_classify_plan(stmt);

	if (likely(what == FENCE_WRITES))
		before_write(NULL, stmt);
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
	if (my_backend != NULL)
		pg_atomic_write_u32(&my_backend->spared, 1);
}

/* ------------------------------------------------------------------------
 * Prepared transactions
 * ------------------------------------------------------------------------
 */

static void
before_prepare(const TransactionStmt *stmt, const PlannedStmt *pstmt)
{
	strlcpy(preparing_gid, stmt->gid, sizeof(preparing_gid));
	before_write("PREPARE TRANSACTION", pstmt);
}

/* In an independent group, only the epoch that prepared it commits it. */
static void
check_prepared_epoch(const char *gid, uint64 held)
{
	uint64		prepared = fence_prepared_epoch(gid);
	FenceNotice notice;

	if (prepared == held ||
		pg_atomic_read_u32(&fence_shared->physical) != 0)
		return;
	read_notice(&notice);
	if (setting_fence == FENCE_WARN)
	{
		ereport(LOG,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("would have refused COMMIT PREPARED: transaction \"%s\" was prepared under another epoch of lease \"%s\"",
						gid, notice.lease)));
		return;
	}
	pg_atomic_fetch_add_u64(&fence_shared->refused, 1);
	ereport(ERROR,
			(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
			 errmsg("cannot execute COMMIT PREPARED: transaction \"%s\" was prepared under another epoch of lease \"%s\"",
					gid, notice.lease),
			 prepared != 0 ?
			 errdetail("It was prepared under epoch %llu; this node holds epoch %llu.",
					   (unsigned long long) prepared,
					   (unsigned long long) held) :
			 errdetail("It was prepared before this server started, or while no lease governed it; this node holds epoch %llu.",
					   (unsigned long long) held),
			 errhint("Roll it back with ROLLBACK PREPARED.")));
}

/* Raise our flag: a hand-over waits for it from here on. */
static void
raise_flag(void)
{
	fence_transaction.in_commit = true;
	pg_atomic_write_u32(&my_backend->in_commit, 1);
	pg_memory_barrier();
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

	raise_flag();
	before_write(commit ? "COMMIT PREPARED" : "ROLLBACK PREPARED", pstmt);
	if (!fence_transaction.wrote)
		return;					/* warn mode let it pass */
	if (commit)
		check_prepared_epoch(stmt->gid, fence_transaction.epoch);
	fence_transaction.finished = true;
	fence_reply_shut_gate(fence_transaction.epoch);
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

/* Schema changes: local_ddl lets them through where the lease is missing. */
static FenceScope
before_ddl(const PlannedStmt *pstmt)
{
	if (!setting_local_ddl || note_epoch() != 0)
	{
		before_write(NULL, pstmt);
		return FENCE_SCOPE_ORDINARY;
	}
	if (!already_warned(pstmt))
		ereport(LOG,
				(errmsg("letting %s through on a node without its lease, because leasehold.local_ddl is on",
						CreateCommandName((Node *) pstmt))));
	fence_transaction.local_ddl = true;
	return FENCE_SCOPE_LOCAL_DDL;
}

static void
check_extension_stays(Node *statement)
{
	FenceNotice notice;

	if (!fence_drops_extension(statement))
		return;
	read_notice(&notice);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("cannot drop extension \"leasehold\" while lease \"%s\" governs this node",
					notice.lease),
			 errhint("Call leasehold.leave() first.")));
}

FenceScope
fence_before_utility(const PlannedStmt *pstmt)
{
	Node	   *statement = pstmt->utilityStmt;

	switch (fence_classify_utility(statement))
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
		case FENCE_DDL:
			check_extension_stays(statement);
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
	if ((scope == FENCE_SCOPE_STORE || scope == FENCE_SCOPE_LOCAL_DDL) &&
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

/* ------------------------------------------------------------------------
 * The end of a transaction
 * ------------------------------------------------------------------------
 */

/*
 * A transaction with an xid that no hook saw writing: C code that bypasses the
 * executor, or nothing but temporary tables, maintenance, LOCK, txid_current().
 */
static bool
wrote_unseen(void)
{
	if (fence_transaction.local_ddl)
		return false;
	return fence_transaction_changed_data(fence_transaction.maintained ||
										  fence_scope == FENCE_SCOPE_MAINTENANCE,
										  fence_transaction.harmless ||
										  fence_scope == FENCE_SCOPE_MAINTENANCE);
}

void
fence_before_commit(void)
{
	bool		seen = fence_transaction.wrote;
	uint64		held;

	if (fence_transaction.finished)
		return;					/* checked, and durable already */
	/* A session that ends takes its temporary tables with it. */
	if (proc_exit_inprogress || shmem_exit_inprogress)
		return;
	if (!seen && !wrote_unseen())
		return;

	raise_flag();
	held = shared_lease_epoch(my_lease);
	if (!fence_transaction.seen)
	{
		fence_transaction.seen = true;
		fence_transaction.epoch = held;
	}
	fence_transaction.wrote = true;
	if (held == 0 || held != fence_transaction.epoch)
		refuse_commit(held, seen);
	else if (setting_fence == FENCE_ENFORCE)
		fence_reply_shut_gate(held);
}

/*
 * Durable, but the lease is gone: say so in the log, and end the connection.
 * The order matters: a message while output is still possible would flush what
 * is buffered, the success included.
 */
static pg_noinline void
withhold_reply(void)
{
	bool		enforce = setting_fence == FENCE_ENFORCE;
	FenceNotice notice;

	if (!enforce && fence_transaction.warned)
		return;
	if (enforce)
	{
		fence_reply_silence();
		pg_atomic_fetch_add_u64(&fence_shared->withheld, 1);
	}
	read_notice(&notice);
	ereport(LOG,
			(errcode(ERRCODE_ADMIN_SHUTDOWN),
			 enforce ?
			 errmsg("not acknowledging a commit: lease \"%s\" was lost while it became durable",
					notice.lease) :
			 errmsg("would not have acknowledged a commit: lease \"%s\" was lost while it became durable",
					notice.lease),
			 errdetail("The transaction has committed on this node; its outcome is unknown to the client.")));
	if (enforce)
		fence_reply_end();
}

static inline void
end_transaction(void)
{
	if (fence_transaction.in_commit)
		lower_flag();
	if (fence_transaction.wrote)
		pg_atomic_write_u32(&my_backend->writing, 0);
	fence_forget_transaction();
}

void
fence_after_commit(bool prepared)
{
	if (fence_transaction.wrote)
	{
		bool		open = fence_reply_open_gate();

		if (unlikely(prepared && preparing_gid[0] != '\0'))
		{
			fence_prepared_remember(preparing_gid, fence_transaction.epoch);
			preparing_gid[0] = '\0';
		}
		if (!open ||
			shared_lease_epoch(my_lease) != fence_transaction.epoch)
			withhold_reply();
	}
	end_transaction();
}

void
fence_after_abort(void)
{
	if (fence_transaction.in_commit && !fence_reply_open_gate())
		fence_reply_end();
	fence_scope = FENCE_SCOPE_ORDINARY;
	preparing_gid[0] = '\0';
	end_transaction();
}
