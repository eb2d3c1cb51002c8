/*
 * fence.h
 *		What a backend may do while a lease governs its instance, or leases of
 *		their own govern single tables.
 *
 * Layer 2: shared memory and the clock alone; no network, no libpq, ever.
 *
 * fence_hooks.c calls these functions from the server's hooks; nobody else
 * needs more than fence_install() and fence_process.
 */
#ifndef LEASEHOLD_FENCE_H
#define LEASEHOLD_FENCE_H

#include "postgres.h"

#include "access/xact.h"
#include "catalog/objectaccess.h"
#include "nodes/plannodes.h"

#include "fence_signal.h"
#include "fence_statement.h"
#include "fence_tables.h"
#include "settings.h"
#include "shared.h"
#include "tables.h"

/*
 * Nothing here is for other libraries: what is hidden is reached directly, not
 * by way of the tables that bind libraries to each other, and no symbol of
 * another library can take its place.
 */
#pragma GCC visibility push(hidden)

/* What the fence makes of a process; found out at its first statement. */
typedef enum FenceProcess
{
	FENCE_PROCESS_UNKNOWN,
	FENCE_PROCESS_FENCED,		/* sessions, walsenders, foreign workers */
	FENCE_PROCESS_LOGICAL,		/* logical apply, tablesync: exempt */
	FENCE_PROCESS_EXEMPT		/* autovacuum, parallel workers, our own */
} FenceProcess;

/*
 * The transaction at hand.  "epoch" is the one epoch that its writes belong
 * to: the one held at its first statement.  It becomes 0, for good, when a
 * statement meets another one or none: such a transaction is doomed to write
 * nothing more, and to fail if it has written already.
 */
typedef struct FenceTransaction
{
	uint64		epoch;			/* see above; valid once "seen" */
	bool		seen;			/* a statement was seen */
	uint8		wrote;			/* user data, or may have: FENCE_WROTE_... */
	bool		harmless;		/* temporary tables, store, maintenance */
	bool		maintained;		/* VACUUM and its like: catalogs may change */
	bool		local_ddl;		/* schema changed on a fenced node, as asked */
	bool		warned;			/* warn mode has logged what it let pass */
	bool		forced;			/* it was we who made it read-only */
	bool		in_commit;		/* our flag is raised, our gate is shut */
	bool		finished;		/* COMMIT PREPARED, ROLLBACK PREPARED done */
	/* of table leases: see fence_notes.h */
	int			nnotes;
	uint32		bits;			/* flags of the leases noted */
	uint32		generation;		/* of the list, when it first may have written */
	List	   *altered;		/* tables: see fence_ddl.h */
} FenceTransaction;

#define FENCE_WROTE_INSTANCE	1	/* under the lease of the instance */
#define FENCE_WROTE_TABLES		2	/* under leases of tables */

/* Where the object access hook finds itself. */
typedef enum FenceScope
{
	FENCE_SCOPE_ORDINARY,
	FENCE_SCOPE_EXPLAIN,		/* initialised, never run */
	FENCE_SCOPE_TEMPORARY,		/* a statement on temporary tables */
	FENCE_SCOPE_STORE,			/* a statement on the store's own tables */
	FENCE_SCOPE_TABLES,			/* one on tables with leases of their own */
	FENCE_SCOPE_LOCAL_DDL,		/* a schema change let through */
	FENCE_SCOPE_MAINTENANCE		/* VACUUM and its like */
} FenceScope;

/* What fence_leave() needs to undo fence_enter(). */
typedef struct FenceSaved
{
	FenceScope	scope;
	bool		read_only;
	bool		cleared;		/* XactReadOnly was cleared, put it back */
} FenceSaved;

/* The project's own workers exempt themselves before they run any SQL. */
extern FenceProcess fence_process;
extern FenceTransaction fence_transaction;
extern FenceScope fence_scope;
extern TimestampTz fence_looked_at; /* the last statement that read the clock */
extern FenceBackend *fence_backend; /* our place in shared memory, or NULL */

/*
 * fence_install
 *		Arm the fence: called once, by _PG_init() while the postmaster preloads
 *		the library; never in single-user mode or in binary upgrade.  After the
 *		callbacks of everything loaded before, ours are called last.
 */
extern void fence_install(void);

/*
 * fence_join
 *		The first use of the fence in a process: what is it, and which place
 *		does it use?  Sets fence_process.
 */
extern void fence_join(void);

/* Does the fence concern this process at all? */
static inline bool
fence_concerns(void)
{
	if (unlikely(fence_process == FENCE_PROCESS_UNKNOWN))
		fence_join();
	return fence_process == FENCE_PROCESS_FENCED && setting_fence != FENCE_OFF;
}

/* Does a setting name the lease of the instance?  (A store of its own names one.) */
static inline bool
fence_lease_is_set(void)
{
	return (setting_lease != NULL && setting_lease[0] != '\0') ||
		(setting_store != NULL && setting_store[0] == 'e' &&
		 settings_lease()[0] != '\0');
}

/* Is there a lease of the instance? */
static inline bool
fence_instance_is_governed(void)
{
	return pg_atomic_read_u32(&fence_shared->governed) != 0 ||
		fence_lease_is_set();
}

/*
 * fence_governs
 *		Is this process to be fenced by the lease of the instance?
 */
static inline bool
fence_governs(void)
{
	return fence_concerns() && fence_instance_is_governed();
}

/*
 * fence_applies
 *		Is this process to be fenced, by that lease or by those of tables?  The
 *		first question of every hook: a few instructions.
 */
static inline bool
fence_applies(void)
{
	return fence_concerns() &&
		(fence_instance_is_governed() ||
		 pg_atomic_read_u32(fence_tables_published) != 0);
}

/*
 * fence_settled
 *		Did the transaction begin under a lease not let go of since?  Then a
 *		plan that only reads has nothing to look at, not even the clock.
 */
static inline bool
fence_settled(void)
{
	return fence_transaction.epoch != 0 &&
		pg_atomic_read_u64(&fence_shared->instance.deadline) != 0;
}

/*
 * fence_is_enforced
 *		What the short ways below ask first.  That the signal has once been given
 *		for "not fenced" says that this process is one of those to be fenced.
 */
static inline bool
fence_is_enforced(void)
{
	return fence_signal_last == 0 && setting_fence == FENCE_ENFORCE &&
		pg_atomic_read_u32(&fence_shared->governed) != 0;
}

/*
 * fence_settle
 *		The short way to be so, for the first statement of a transaction that
 *		only reads, on a node that holds its lease: note the epoch.  False if
 *		there is more to be done.
 *
 * To note an epoch needs no clock: should its deadline have passed unnoticed,
 * the first write finds out.  But a session that only reads is to learn from
 * the signal that the node is fenced, even when nobody is left to close the
 * fence; for that it is soon enough to look at the clock now and then.
 */
#define FENCE_LOOK_AGAIN 10000	/* microseconds between statements' starts */

static inline bool
fence_settle(void)
{
	FenceLease *lease;
	uint64		epoch;

	if (fence_transaction.seen || !fence_is_enforced() ||
		(uint64) (GetCurrentStatementStartTimestamp() - fence_looked_at) >=
		FENCE_LOOK_AGAIN)
		return false;
	lease = &fence_shared->instance;
	if (pg_atomic_read_u64(&lease->deadline) == 0)
		return false;
	pg_read_barrier();
	epoch = pg_atomic_read_u64(&lease->epoch);
	fence_transaction.epoch = epoch;
	fence_transaction.seen = true;
	return epoch != 0;
}

/* Show the others under which leases the transaction at hand has written. */
static inline void
fence_show_writing(uint32 bits)
{
	pg_atomic_write_u32(&fence_backend->writing,
						pg_atomic_read_u32(&fence_backend->writing) | bits);
}

/* A table lease that it has written under: should that be lost, it is ended. */
static inline void
fence_show_slot(int slot, uint32 bit)
{
	fence_show_writing(bit);
	for (size_t k = 0; k < FENCE_SLOTS_SHOWN; k++)
		if (pg_atomic_read_u32(&fence_backend->wrote_slot[k]) == 0)
		{
			pg_atomic_write_u32(&fence_backend->wrote_slot[k], (uint32) slot + 1);
			return;
		}
}

static inline void
fence_hide_writing(FenceBackend *backend)
{
	pg_atomic_write_u32(&backend->writing, 0);
	for (size_t k = 0; k < FENCE_SLOTS_SHOWN; k++)
	{
		if (pg_atomic_read_u32(&backend->wrote_slot[k]) == 0)
			break;
		pg_atomic_write_u32(&backend->wrote_slot[k], 0);
	}
}

/*
 * fence_raise_flag
 *		A hand-over waits for us from here on.  The deadline is read when the flag
 *		is up for all to see: if the keeper, having closed the fence, finds it
 *		down, we find the fence closed.
 *
 * Every commit raises the flag of the instance, whatever it is about: so whoever
 * has changed the list of protected tables can wait for those that did not know
 * the new one.
 */
static inline void
fence_raise_flag(void)
{
	fence_transaction.in_commit = true;
	pg_atomic_write_u32(&fence_backend->in_commit,
						FENCE_BIT_INSTANCE | fence_transaction.bits);
	pg_memory_barrier();
}

/* Lower our flag; whoever waits for it is woken. */
static inline void
fence_lower_flag(void)
{
	pg_atomic_write_u32(&fence_backend->in_commit, 0);
	pg_memory_barrier();
	if (pg_atomic_read_u32(&fence_shared->draining) != 0)
		shared_wake_keeper();
}

/* The transaction at hand is about to write, or may be. */
static inline void
fence_note_write(void)
{
	if (!(fence_transaction.wrote & FENCE_WROTE_INSTANCE))
	{
		fence_transaction.wrote |= FENCE_WROTE_INSTANCE;
		fence_show_writing(FENCE_BIT_INSTANCE);
	}
}

/*
 * fence_settle_write
 *		The short way for a plan that surely changes user data, on a node that
 *		holds its lease: the clock says so now, and the transaction has seen no
 *		other epoch.  False if there is more to be done.
 */
static inline bool
fence_settle_write(void)
{
	uint64		held;

	if (!fence_is_enforced())
		return false;
	held = shared_lease_epoch(&fence_shared->instance);
	if (held == 0 ||
		(fence_transaction.seen && fence_transaction.epoch != held))
		return false;
	fence_transaction.epoch = held;
	fence_transaction.seen = true;
	fence_note_write();
	return true;
}

/* ---- before a statement ---- */

/*
 * fence_before_read
 *		A statement that writes nothing: note the epoch, drive the signal, and
 *		on a fenced node see to it that what it calls finds itself read-only.
 */
extern void fence_before_read(void);

/*
 * fence_before_query, fence_before_run
 *		A plan that may write is about to start, or to go on.  ERROR 25006 if
 *		it writes user data and the lease is not held.  Says in which scope to
 *		run it.
 */
extern FenceScope fence_before_query(const PlannedStmt *stmt);

/*
 * fence_before_utility
 *		The same for a utility statement.  Also refuses what must never be done
 *		while a lease governs (55006), and takes the steps that have to precede
 *		COMMIT PREPARED and ROLLBACK PREPARED.
 */
extern FenceScope fence_before_utility(const PlannedStmt *pstmt);

/*
 * fence_before_finish_unfenced
 *		The steps that have to precede COMMIT PREPARED even where no lease governs
 *		and no table is protected: one may come to be while it is carried out.
 */
extern void fence_before_finish_unfenced(void);

/* A utility statement has been executed without an error. */
extern void fence_after_utility(const PlannedStmt *pstmt);

/*
 * fence_before_function
 *		A built-in function that writes is about to be called, or at least its
 *		expression to be initialised.
 */
extern void fence_before_function(Oid function);

/*
 * fence_before_change
 *		An object is about to be dropped, truncated, or was altered: if it is a
 *		table with a lease of its own, or belongs to one, that lease is needed.
 */
extern void fence_before_change(ObjectAccessType access, Oid class, Oid object);

/* A name was looked up in a schema: logical apply keeps off the store's. */
extern void fence_before_schema(Oid schema);

/* Run something in a scope; leave on errors too. */
extern void fence_enter(FenceScope scope, FenceSaved *saved);
extern void fence_leave(const FenceSaved *saved);

/* ---- at the end of a transaction ---- */

/*
 * fence_before_commit
 *		At PRE_COMMIT, and PRE_PREPARE ("prepare"), of a transaction that was seen
 *		writing, or that was not but has an xid and may have: ERROR 25006 unless
 *		each of its epochs is still held.
 */
extern void fence_before_commit(bool prepare);

/*
 * fence_after_commit, fence_after_prepare
 *		The transaction is durable and visible, or prepared.  If its lease is
 *		gone the client must not learn so: the connection ends.  Never throws.
 */
extern void fence_after_commit(void);
extern void fence_after_prepare(void);

/* It failed, or was rolled back. */
extern void fence_after_abort(void);

/* A transaction that has only read needs no more than this. */
static inline void
fence_forget_transaction(void)
{
	memset(&fence_transaction, 0, sizeof(fence_transaction));
}

#pragma GCC visibility pop

#endif							/* LEASEHOLD_FENCE_H */
