/*
 * fence_reply.c
 *		What leaves for the client around a commit: nothing that a lost lease
 *		forbids.
 *
 * Between the check before a commit and the callback after it, the server may
 * send to the client: the warning of a cancelled wait for a synchronous standby
 * is one case, and it flushes whatever is buffered before it, in the extended
 * protocol the very command tag that says "done".  So for that time all output
 * passes a gate that asks for the lease first.  Once the lease is found gone,
 * output is not merely switched off (CommandComplete is still put into the
 * buffer then, and a full buffer flushes itself): it goes nowhere.
 *
 * After the commit the gate stays shut until the whole answer is on its way: a
 * process can be stopped between the callback and the answer, too.  The end of
 * the answer is held back until the server flushes: it leaves after the last
 * look at the clock, not before.
 *
 * Called from fence.c.  Must never throw: it runs when a transaction is already
 * durable, where an error would take the whole server down.
 */
#include "postgres.h"

#include "compat.h"				/* first: see ENABLE_GSS there */

#include "access/xact.h"
#include "access/xlog.h"
#include "libpq/libpq.h"
#include "miscadmin.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/lwlock.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"

#include "fence_notes.h"
#include "fence_refuse.h"
#include "fence_reply.h"
#include "shared.h"
#include "tables.h"

FenceGate	fence_gate = FENCE_GATE_OPEN;

static const PQcommMethods *open_methods = NULL;	/* set while we are in between */

/* What the gate asks for: a lease, and under which epoch. */
typedef struct GateLease
{
	FenceLease *lease;
	uint64		epoch;
} GateLease;

static GateLease gate_first;	/* nearly always the only one */
static GateLease *gate_others = NULL;
static int	gate_nothers = 0;
static int	gate_room = 0;
static char ready_held = '\0';	/* the end of the answer, held back: its status */
static XLogRecPtr last_commit_end = InvalidXLogRecPtr;	/* before this one */

/* ---- to nowhere ---- */

static void
silent_comm_reset(void)
{
}

static int
silent_flush(void)
{
	return 0;
}

static bool
silent_is_send_pending(void)
{
	return false;
}

static int
silent_putmessage(char msgtype, const char *s, size_t len)
{
	return 0;
}

static void
silent_putmessage_noblock(char msgtype, const char *s, size_t len)
{
}

static const PQcommMethods silent_methods = {
	.comm_reset = silent_comm_reset,
	.flush = silent_flush,
	.flush_if_writable = silent_flush,
	.is_send_pending = silent_is_send_pending,
	.putmessage = silent_putmessage,
	.putmessage_noblock = silent_putmessage_noblock
};

/* ---- through the gate ---- */

static inline bool
is_held(const GateLease *asked)
{
	uint64		held = shared_lease_epoch(asked->lease);

	return held != 0 && held == asked->epoch;
}

static pg_noinline bool
others_are_held(void)
{
	for (int i = 0; i < gate_nothers; i++)
		if (!is_held(&gate_others[i]))
			return false;
	return true;
}

/* The table lease for which the gate stays shut; NULL: it is the instance's. */
static const char *
lost_table_lease(void)
{
	const GateLease *lost = &gate_first;

	for (int i = 0; i < gate_nothers && is_held(lost); i++)
		lost = &gate_others[i];
	return lost->lease == &fence_shared->instance ? NULL :
		((const TableSlot *) lost->lease)->name;
}

/* The lease is gone: the gate never opens again. */
static pg_noinline bool
stay_shut(void)
{
	bool		committed = fence_gate == FENCE_GATE_ANSWERING;

	if (fence_gate == FENCE_GATE_SILENT)
		return false;
	fence_reply_silence();
	if (committed)
	{
		pg_atomic_fetch_add_u64(&fence_shared->withheld, 1);
		fence_log_withheld(WITHHELD_ANSWER, lost_table_lease());
		fence_reply_end();
	}
	return false;
}

/* The whole answer is on its way: whoever speaks now is not held up any more. */
static inline void
end_answer(void)
{
	char		status = ready_held;

	ready_held = '\0';
	PqCommMethods = open_methods;
	fence_gate = FENCE_GATE_OPEN;
	(void) open_methods->putmessage('Z', &status, 1);
}

/* Is every lease still held? */
static inline bool
gate_passes(void)
{
	if (unlikely(fence_gate == FENCE_GATE_SILENT || !is_held(&gate_first) ||
				 (gate_nothers != 0 && !others_are_held())))
		return stay_shut();
	if (ready_held != '\0')
		end_answer();
	return true;
}

static void
gate_comm_reset(void)
{
	open_methods->comm_reset();
}

static COMPAT_NO_STACK_PROTECTOR int
gate_flush(void)
{
	return gate_passes() ? open_methods->flush() : 0;
}

static int
gate_flush_if_writable(void)
{
	return gate_passes() ? open_methods->flush_if_writable() : 0;
}

static bool
gate_is_send_pending(void)
{
	return gate_passes() ? open_methods->is_send_pending() : false;
}

static pg_noinline int
put_message(char msgtype, const char *s, size_t len)
{
	return gate_passes() ? open_methods->putmessage(msgtype, s, len) : 0;
}

/*
 * The end of the answer waits here until the server flushes, which it does
 * next: so it costs no look at the clock of its own, and does not even reach
 * the buffer before the last one.
 */
static int
gate_putmessage(char msgtype, const char *s, size_t len)
{
	if (msgtype != 'Z' || fence_gate != FENCE_GATE_ANSWERING)
		return put_message(msgtype, s, len);
	ready_held = *s;
	return 0;
}

static void
gate_putmessage_noblock(char msgtype, const char *s, size_t len)
{
	if (gate_passes())
		open_methods->putmessage_noblock(msgtype, s, len);
}

static const PQcommMethods gate_methods = {
	.comm_reset = gate_comm_reset,
	.flush = gate_flush,
	.flush_if_writable = gate_flush_if_writable,
	.is_send_pending = gate_is_send_pending,
	.putmessage = gate_putmessage,
	.putmessage_noblock = gate_putmessage_noblock
};

/*
 * The gate asks for this lease, too.  What an earlier transaction of the same
 * procedure wrote under has to be held as well: the answer is about all of them.
 */
static pg_noinline void
ask_for_another(FenceLease *lease, uint64 epoch)
{
	int			i = 0;

	while (i < gate_nothers && gate_others[i].lease != lease)
		i++;
	if (i == gate_room)
	{
		int			wanted = Max(8, 2 * gate_room);

		gate_others = gate_room == 0 ?
			MemoryContextAlloc(TopMemoryContext, sizeof(GateLease) * wanted) :
			repalloc(gate_others, sizeof(GateLease) * wanted);
		gate_room = wanted;
	}
	gate_others[i].lease = lease;
	gate_others[i].epoch = epoch;
	gate_nothers = Max(gate_nothers, i + 1);
}

static inline void
ask_for(FenceLease *lease, uint64 epoch)
{
	if (likely(gate_first.lease == NULL || gate_first.lease == lease))
	{
		gate_first.lease = lease;
		gate_first.epoch = epoch;
	}
	else
		ask_for_another(lease, epoch);
}

void
fence_reply_shut_gate(uint64 epoch, const FenceNote *notes, int n)
{
	last_commit_end = XactLastCommitEnd;
	if (whereToSendOutput != DestRemote || fence_gate == FENCE_GATE_SILENT)
		return;
	if (likely(fence_gate == FENCE_GATE_OPEN))
	{
		gate_first.lease = NULL;
		gate_nothers = 0;
	}
	/* else it is shut already: a procedure's next transaction */
	if (epoch != 0)
		ask_for(&fence_shared->instance, epoch);
	for (const FenceNote *noted = notes; noted < notes + n; noted++)
		if (noted->wrote)
			ask_for(noted->lease, noted->epoch);
	Assert(gate_first.lease != NULL);
	if (likely(fence_gate == FENCE_GATE_OPEN))
	{
		open_methods = PqCommMethods;
		PqCommMethods = &gate_methods;
	}
	fence_gate = FENCE_GATE_SHUT;
}

bool
fence_reply_open_gate(void)
{
	Assert(ready_held == '\0');	/* it is flushed at once */
	if (fence_gate == FENCE_GATE_SILENT)
		return false;
	if (fence_gate != FENCE_GATE_OPEN)
		PqCommMethods = open_methods;
	fence_gate = FENCE_GATE_OPEN;
	return true;
}

/*
 * Before anything is logged: a message to the client would flush the rest.
 */
void
fence_reply_silence(void)
{
	fence_gate = FENCE_GATE_SILENT;
	whereToSendOutput = DestNone;
	PqCommMethods = &silent_methods;
}

/*
 * End the connection the way a cancelled wait for synchronous replication
 * does: at the next point where the process looks for interrupts.
 */
void
fence_reply_end(void)
{
	fence_reply_silence();
	ProcDiePending = true;
	InterruptPending = true;
}

/* ------------------------------------------------------------------------
 * Confirmed by a standby
 * ------------------------------------------------------------------------
 */

/* Where nobody is waited for, the server goes on alone and the lease row says so. */
static bool
has_what_is_waited_for(bool prepared)
{
	XLogRecPtr	confirmed;

	if (!compat_sync_standbys_defined())
		return true;
	confirmed = ((volatile WalSndCtlData *) WalSndCtl)->lsn[SYNC_REP_WAIT_FLUSH];
	/* where a prepared transaction's record ends, nobody has noted */
	return prepared ? confirmed > ProcLastRecPtr : confirmed >= XactLastCommitEnd;
}

/*
 * A session that does not want to wait for a standby's disk has chosen to be
 * outside the promise.
 */
bool
fence_reply_is_confirmed(bool prepared)
{
	/* it has written nothing: what is to be lost? */
	if (!prepared && XactLastCommitEnd == last_commit_end)
		return true;
	if (synchronous_commit < SYNCHRONOUS_COMMIT_REMOTE_FLUSH)
	{
		pg_atomic_fetch_add_u64(&fence_shared->unprotected, 1);
		return true;
	}
	if (likely(has_what_is_waited_for(prepared)))
		return true;
	/*
	 * A server that is to go on alone wakes whoever waits first, and notes that
	 * nobody is waited for next, both under this lock.
	 */
	LWLockAcquire(SyncRepLock, LW_SHARED);
	LWLockRelease(SyncRepLock);
	return has_what_is_waited_for(prepared);
}
