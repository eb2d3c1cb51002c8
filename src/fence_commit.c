/*
 * fence_commit.c
 *		The end of a transaction: may it commit, and may its client be told?
 *
 * See fence.c.  What is checked before the commit is checked with our flag raised
 * for all to see, so that a hand-over can wait for it; what is checked after it
 * decides whether the answer leaves.
 *
 * Called from fence_hooks.c.  After the commit it must never throw: an error
 * would take the whole server down.
 */
#include "postgres.h"

#include "access/xact.h"
#include "pgstat.h"
#include "storage/ipc.h"

#include "compat.h"
#include "fence.h"
#include "fence_notes.h"
#include "fence_prepared.h"
#include "fence_refuse.h"
#include "fence_reply.h"
#include "fence_statement.h"

#define my_lease (&fence_shared->instance)

/* ------------------------------------------------------------------------
 * Before the commit
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

/* The flag is raised: now the clock.  Returns the epoch, 0 if it was refused. */
static pg_attribute_always_inline uint64
check_instance(bool seen)
{
	uint64		held = shared_lease_epoch(my_lease);

	if (!seen && !fence_transaction.seen)
	{
		fence_transaction.seen = true;
		fence_transaction.epoch = held;
	}
	if (unlikely(held == 0 || held != fence_transaction.epoch))
	{
		fence_refuse_commit(held, seen);
		return 0;
	}
	return held;
}

/* Of a transaction that no statement was seen to write in under that lease. */
static pg_noinline uint64
check_unseen(void)
{
	if (wrote_unseen())
	{
		fence_transaction.wrote |= FENCE_WROTE_INSTANCE;
		return check_instance(false);
	}
	/*
	 * It has changed nothing that a hand-over of the instance's lease, or a
	 * change of the list of protected tables, would have to wait for.
	 */
	if (fence_transaction.wrote == 0 && pgstat_track_counts)
	{
		fence_transaction.in_commit = false;
		fence_lower_flag();
	}
	return 0;
}

/*
 * The flag first, then all else.  COMMIT PREPARED has been checked, and is
 * durable already.  A session that ends takes its temporary tables with it.
 */
COMPAT_NO_STACK_PROTECTOR void
fence_before_commit(bool prepare)
{
	bool		tables;
	uint64		held = 0;

	if (setting_fence == FENCE_OFF || fence_transaction.finished ||
		(!fence_transaction.wrote && (proc_exit_inprogress || shmem_exit_inprogress)))
		return;
	fence_raise_flag();
	tables = pg_atomic_read_u32(fence_tables_published) != 0;
	if (unlikely(tables))
		fence_notes_before_commit(prepare);
	if (likely(fence_transaction.wrote & FENCE_WROTE_INSTANCE))
		held = check_instance(true);
	else if (fence_governs())
		held = check_unseen();
	if (unlikely(setting_fence != FENCE_ENFORCE))
		return;
	if (unlikely(tables && (fence_transaction.wrote & FENCE_WROTE_TABLES)))
		fence_reply_shut_gate(held, fence_notes, fence_transaction.nnotes);
	else if (likely(held != 0))
		fence_reply_shut_gate(held, NULL, 0);
}

/* ------------------------------------------------------------------------
 * After it
 * ------------------------------------------------------------------------
 */

/*
 * Durable, but the lease is gone: say so in the log, and end the connection.
 * The order matters: a message while output is still possible would flush what
 * is buffered, the success included.
 */
static pg_noinline void
withhold_reply(const FenceNote *lost)
{
	bool		enforce = setting_fence == FENCE_ENFORCE;

	if (!enforce && fence_transaction.warned)
		return;
	if (enforce)
	{
		fence_reply_silence();
		pg_atomic_fetch_add_u64(&fence_shared->withheld, 1);
	}
	if (lost != NULL)
		fence_log_withheld(WITHHELD_LOST, leasehold_tables->slot[lost->slot].name);
	else if ((fence_transaction.wrote & FENCE_WROTE_INSTANCE) &&
			 shared_lease_epoch(my_lease) == fence_transaction.epoch)
		fence_log_withheld(WITHHELD_UNCONFIRMED, NULL);
	else
		fence_log_withheld(WITHHELD_LOST, NULL);
	if (enforce)
		fence_reply_end();
}

/* Of one that wrote, or that raised its flag for it. */
static inline void
end_writing(void)
{
	fence_hide_writing(fence_backend);
	fence_lower_flag();
	fence_forget_transaction();
}

/* Is the lease of the instance gone, under which it wrote, or is it unconfirmed? */
static pg_attribute_always_inline bool
lost_instance(bool prepared)
{
	uint64		held = shared_lease_epoch(my_lease);

	return held == 0 || held != fence_transaction.epoch ||
		(pg_atomic_read_u32(&fence_shared->zero_loss) != 0 &&
		 !fence_reply_is_confirmed(prepared));
}

static pg_attribute_always_inline void
after_commit(bool prepared)
{
	if (likely(fence_transaction.wrote))
	{
		const FenceNote *lost = NULL;

		if (unlikely(fence_transaction.wrote & FENCE_WROTE_TABLES))
			lost = fence_notes_lost(fence_notes, fence_transaction.nnotes);
		if (unlikely(lost != NULL || !fence_reply_answer() ||
					 ((fence_transaction.wrote & FENCE_WROTE_INSTANCE) &&
					  lost_instance(prepared))))
			withhold_reply(lost);
	}
	end_writing();
}

COMPAT_NO_STACK_PROTECTOR void
fence_after_commit(void)
{
	after_commit(false);
}

void
fence_after_prepare(void)
{
	if ((fence_transaction.wrote & FENCE_WROTE_INSTANCE) && fence_preparing_gid[0] != '\0')
		fence_prepared_remember(fence_preparing_gid, fence_transaction.epoch);
	fence_preparing_gid[0] = '\0';
	if (fence_transaction.wrote || fence_transaction.in_commit)
		after_commit(true);
	else
		fence_forget_transaction();
}

void
fence_after_abort(void)
{
	if (fence_transaction.in_commit && !fence_reply_open_gate())
		fence_reply_end();
	fence_scope = FENCE_SCOPE_ORDINARY;
	fence_preparing_gid[0] = '\0';
	if (fence_transaction.wrote || fence_transaction.in_commit)
		end_writing();
	else
		fence_forget_transaction();
}
