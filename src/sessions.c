/*
 * sessions.c
 *		What becomes of sessions when the lease is lost (leasehold.on_expiry).
 *
 * A session that was opened while the node was writable belongs to a pool or a
 * client that wants to write: ending it, idle or not, makes the client look for
 * the new holder.  This is a courtesy; what keeps the session from writing is
 * the fence, which has closed already.
 *
 * The fence itself is looked at, not what the keeper says: so it works when the
 * keeper is stopped and the deadline has simply passed.
 *
 * Called by the steward.  Must never take a lock: a process that was stopped
 * while it held one would keep the others from being ended.
 */
#include "postgres.h"

#include <signal.h>

#include "storage/proc.h"
#include "utils/memutils.h"

#include "sessions.h"
#include "tables.h"

/* A session that was just being opened shows up late: look again, and again. */
#define ROUNDS			8
#define TABLE_GRACE		CLOCK_S		/* for a transaction under a lost lease of a table */
#define FIRST_PAUSE		(20 * CLOCK_MS)

/* How long a hand-over that may yet be undone keeps sessions alive. */
#define DRAIN_MAX		(5 * CLOCK_S)

void
sessions_init(Sessions *sessions)
{
	memset(sessions, 0, sizeof(*sessions));
	sessions->next = CLOCK_NEVER;
	sessions->in_vain_since = MemoryContextAllocZero(TopMemoryContext,
													 sizeof(ClockTime) *
													 fence_shared->nbackends);
}

ClockTime
sessions_due(const Sessions *sessions)
{
	ClockTime	deadline = (ClockTime)
		pg_atomic_read_u64(&fence_shared->instance.deadline);

	/* past or zero: sessions_step() has seen it closed */
	if (deadline > clock_now())
		return clock_min(sessions->next, deadline);
	return sessions->next;
}

/* ------------------------------------------------------------------------
 * Signalling
 * ------------------------------------------------------------------------
 */

/*
 * The pid in the place is the session's own word.  Send a signal only if the
 * server says the same, so that a number used again is not hit.
 */
static bool
signal_session(int place, int signo)
{
	pid_t		pid = (pid_t)
		pg_atomic_read_u32(&fence_shared->backends[place].backend.pid);

	if (pid == 0 || ProcGlobal->allProcs[place].pid != pid)
		return false;
	/* with the programs that it runs, as pg_terminate_backend() does */
	return kill(-pid, signo) == 0 || kill(pid, signo) == 0;
}

static bool
is_concerned(FenceBackend *backend, uint64 lost)
{
	uint64		opened = pg_atomic_read_u64(&backend->opened_epoch);

	if (pg_atomic_read_u32(&backend->pid) == 0 ||
		pg_atomic_read_u32(&backend->spared) != 0)
		return false;
	if (setting_on_expiry == ON_EXPIRY_CANCEL)
		return (pg_atomic_read_u32(&backend->writing) & FENCE_BIT_INSTANCE) != 0;
	return opened != 0 && opened <= lost;
}

static int
signal_sessions(uint64 lost)
{
	int			signo = setting_on_expiry == ON_EXPIRY_CANCEL ? SIGINT : SIGTERM;
	int			n = 0;

	/* prepared transactions have places, too, but never a pid */
	for (int i = 0; i < fence_shared->nbackends; i++)
		if (is_concerned(&fence_shared->backends[i].backend, lost) &&
			signal_session(i, signo))
			n++;
	return n;
}

/* ------------------------------------------------------------------------
 * When
 * ------------------------------------------------------------------------
 */

/*
 * A hand-over that can be undone: the same epoch may be held again.  The keeper
 * closes the fence first and says so then: until it has, it still calls itself
 * the holder of what nobody but it can have closed.
 */
static bool
may_be_undone(const Sessions *sessions, const KeeperStatus *status,
			  ClockTime now)
{
	bool		closed = pg_atomic_read_u64(&fence_shared->instance.deadline) == 0;

	return (status->state == NODE_DRAINING ||
			(closed && (status->state == NODE_HOLDER ||
						status->state == NODE_PAUSED))) &&
		(uint64) status->epoch == sessions->lost &&
		now < sessions->closed_at +
		clock_min(clock_ms(status->ttl_ms), DRAIN_MAX);
}

/* Under a new epoch nobody can tell which writer is one of the old. */
static bool
is_wanted(uint64 held)
{
	if (setting_fence != FENCE_ENFORCE)
		return false;
	return setting_on_expiry == ON_EXPIRY_TERMINATE ||
		(setting_on_expiry == ON_EXPIRY_CANCEL && held == 0);
}

static void
go_round(Sessions *sessions)
{
	int			n = signal_sessions(sessions->lost);

	if (n > 0 && sessions->round == 0)
		ereport(LOG,
				(errmsg_plural("leasehold: %d session %s, since the lease is lost",
							   "leasehold: %d sessions %s, since the lease is lost",
							   n, n,
							   setting_on_expiry == ON_EXPIRY_CANCEL ?
							   "cancelled" : "ended"),
				 errdetail("The epoch was " UINT64_FORMAT ".", sessions->lost)));
}

void
sessions_step(Sessions *sessions, const KeeperStatus *status, ClockTime now)
{
	uint64		held = shared_lease_epoch(&fence_shared->instance);
	uint64		lost = held != 0 ? held - 1 :
		pg_atomic_read_u64(&fence_shared->instance.epoch);

	if (lost < sessions->lost)
	{
		/* undone: the epoch is held after all */
		sessions->lost = lost;
		sessions->next = CLOCK_NEVER;
	}
	else if (lost > sessions->lost)
	{
		sessions->lost = lost;
		sessions->closed_at = now;
		sessions->round = 0;
		sessions->next = now;
	}
	if (now < sessions->next)
		return;
	if (!is_wanted(held))
	{
		sessions->next = CLOCK_NEVER;
		return;
	}
	if (held == 0 && sessions->round == 0 && may_be_undone(sessions, status, now))
	{
		sessions->next = now + FIRST_PAUSE;
		return;
	}
	go_round(sessions);
	sessions->next = ++sessions->round < ROUNDS ?
		now + (FIRST_PAUSE << Min(sessions->round, 5)) : CLOCK_NEVER;
}

/* ------------------------------------------------------------------------
 * Leases of tables
 * ------------------------------------------------------------------------
 */

/* For good: a hand-over that is still draining may be undone. */
static bool
is_slot_lost(int slot, ClockTime now)
{
	TableSlot  *table = &leasehold_tables->slot[slot];
	uint64		deadline = pg_atomic_read_u64(&table->lease.deadline);

	if (deadline != 0)
		return (uint64) now >= deadline;
	return pg_atomic_read_u64(&table->closed_epoch) >=
		pg_atomic_read_u64(&table->lease.epoch);
}

/*
 * Such a transaction cannot commit any more, but its row locks keep replication
 * from applying what the next holder writes.  Only it is ended, not the sessions
 * that have none: they may be writing other tables.
 */
static bool
writes_in_vain(FenceBackend *backend, ClockTime now)
{
	for (int k = 0; k < FENCE_SLOTS_SHOWN; k++)
	{
		uint32		shown = pg_atomic_read_u32(&backend->wrote_slot[k]);

		if (shown == 0)
			break;
		if (is_slot_lost((int) shown - 1, now))
			return true;
	}
	return false;
}

/*
 * One that is running is told by its next statement, or its commit, that the
 * table has another writer.  That is the better word: it is given time for it.
 */
static bool
had_its_time(Sessions *sessions, int place, ClockTime now)
{
	FenceBackend *backend = &fence_shared->backends[place].backend;
	ClockTime  *since = &sessions->in_vain_since[place];

	/* one that is past its check ends by itself */
	if (pg_atomic_read_u32(&backend->pid) == 0 ||
		pg_atomic_read_u32(&backend->in_commit) != 0 ||
		pg_atomic_read_u32(&backend->spared) != 0 ||
		!writes_in_vain(backend, now))
	{
		*since = 0;
		return false;
	}
	if (*since == 0)
		*since = now;
	return *since <= now - TABLE_GRACE;
}

void
sessions_follow_tables(Sessions *sessions, ClockTime now)
{
	int			signo = setting_on_expiry == ON_EXPIRY_CANCEL ? SIGINT : SIGTERM;
	int			n = 0;

	if (setting_fence != FENCE_ENFORCE || setting_on_expiry == ON_EXPIRY_NONE ||
		pg_atomic_read_u32(&leasehold_tables->nslots) == 0)
		return;
	for (int i = 0; i < fence_shared->nbackends; i++)
		if (had_its_time(sessions, i, now) && signal_session(i, signo))
		{
			/* once: an idle one cannot be cancelled */
			sessions->in_vain_since[i] = CLOCK_NEVER;
			n++;
		}
	if (n > 0)
		ereport(LOG,
				(errmsg_plural("leasehold: %d transaction %s, since the lease of a table that it wrote is lost",
							   "leasehold: %d transactions %s, since the leases of tables that they wrote are lost",
							   n, n,
							   setting_on_expiry == ON_EXPIRY_CANCEL ?
							   "cancelled" : "ended")));
}
