/*
 * steward.c
 *		The background worker that carries out what a lease asks of its
 *		instance, and what may block.
 *
 * It writes to disk what must outlive this run (R11), checks the instance's
 * health, ends sessions when the lease is lost, tells of changes of role, and
 * makes the embedded store.  Each of these has its own file; here is the loop,
 * and what concerns the file leasehold.state.
 *
 * Started by the postmaster, on a standby too; shared memory only.  Must never
 * wait for the network or for another process, and never decide who holds a
 * lease.  The one thing that it may hang in is the local disk: then the health
 * stamp grows stale, and the keeper lets go.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#include "compat.h"
#include "durable.h"
#include "embedded.h"
#include "health.h"
#include "instance.h"
#include "opener.h"
#include "role_command.h"
#include "sessions.h"
#include "settings.h"
#include "shared.h"
#include "tables_file.h"
#include "workers.h"

#define IDLE_MAX		(10 * CLOCK_S)
#define PERSIST_RETRY	CLOCK_S
#define LEAVE_PATIENCE	(10 * CLOCK_S)

/* Ending: how often to look, how long to wait for keeper and role command. */
#define END_POLL		(10 * CLOCK_MS)
#define END_MAX			(10 * CLOCK_S)
#define END_TELL_MAX	(2 * CLOCK_S)

#define DEFAULT_TTL		(10 * CLOCK_S)

typedef struct Steward
{
	MemoryContext cycle_context;	/* reset at every turn of the loop */
	KeeperStatus status;		/* as last read */
	DurableState persisted;		/* what stands on disk */
	ClockTime	persist_retry;	/* after a failure: not before */
	ClockTime	leave_since;	/* somebody asks to leave; or 0 */
	ClockTime	end_since;		/* asked to end; or 0 */
	ClockTime	keeper_gone_at;	/* while ending; or 0 */
	Health		health;
	Sessions	sessions;
	Embedded	embedded;
	Openers		openers;
	InstanceWork instance;
} Steward;

/* ------------------------------------------------------------------------
 * The file
 * ------------------------------------------------------------------------
 */

static bool
write_state(Steward *steward, const DurableState *state)
{
	if (!durable_write(state))
	{
		steward->persist_retry = clock_now() + PERSIST_RETRY;
		return false;
	}
	steward->persist_retry = 0;
	steward->persisted = *state;
	shared_publish(&leasehold_shared->persisted, state);
	shared_wake_keeper();
	return true;
}

/*
 * Write what the keeper wants to be written.  It waits for this on its way to
 * the lease, so this comes first at every turn.
 */
static void
persist(Steward *steward, ClockTime now)
{
	DurableState wanted;

	if (now < steward->persist_retry ||
		!shared_read(&leasehold_shared->to_persist, &wanted) ||
		memcmp(&wanted, &steward->persisted, sizeof(wanted)) == 0)
		return;

	/*
	 * After leave() the keeper may not have heard yet that no lease governs:
	 * what it wanted before must not bring the lease back.
	 */
	if (wanted.lease[0] != '\0' && steward->persisted.lease[0] == '\0' &&
		settings_lease()[0] == '\0')
		return;
	write_state(steward, &wanted);
}

/*
 * leasehold.leave(): forget that a lease governs.  The session that asks has
 * seen leasehold.lease empty; we may not have reloaded yet.
 */
static void
leave(Steward *steward, ClockTime now)
{
	DurableState state = steward->persisted;

	if (pg_atomic_read_u32(&leasehold_shared->leave_asked) == 0)
	{
		steward->leave_since = 0;
		return;
	}
	if (steward->leave_since == 0)
		steward->leave_since = now;
	if (settings_lease()[0] != '\0')
	{
		if (now - steward->leave_since >= LEAVE_PATIENCE)
			pg_atomic_write_u32(&leasehold_shared->leave_asked, 0);
		return;
	}
	state.lease[0] = '\0';
	if (now < steward->persist_retry || !write_state(steward, &state))
		return;
	pg_atomic_write_u32(&fence_shared->governed, 0);
	pg_memory_barrier();
	pg_atomic_write_u32(&leasehold_shared->leave_asked, 0);
	shared_wake_keeper();
	ereport(LOG, (errmsg("leasehold: this node is governed by no lease any more")));
}

/* ------------------------------------------------------------------------
 * Ending
 * ------------------------------------------------------------------------
 */

/* The keeper has to know, and may not wait for the disk. */
static void
answer_keeper(void)
{
	pg_atomic_uint32 *question = &leasehold_shared->end_question;

	if (pg_atomic_read_u32(question) != END_ASKED)
		return;
	pg_atomic_write_u32(question, workers_server_is_ending() ? END_OF_SERVER : END_OF_KEEPER);
	shared_wake_keeper();
}

static bool
takes_part_in_tables(void)
{
	return pg_atomic_read_u32(&leasehold_tables->nslots) > 0;
}

static bool
fence_is_closed(void)
{
	int			n = (int) pg_atomic_read_u32(&leasehold_tables->nslots);

	for (int i = 0; i < n; i++)
		if (tables_held_epoch(i) != 0)
			return false;
	return shared_lease_epoch(&fence_shared->instance) == 0;
}

/*
 * Note that this run has ended, if it was this run that wrote the state: then
 * its successor need not wait like a stranger (R7).
 */
static void
note_end(Steward *steward)
{
	DurableState state;

	if (!shared_read(&leasehold_shared->persisted, &state) ||
		state.incarnation != leasehold_shared->incarnation ||
		(state.lease[0] == '\0' && !takes_part_in_tables()) ||
		!fence_is_closed())
		return;
	state.ended = true;
	(void) write_state(steward, &state);
}

/*
 * The keeper goes first: it drains, releases, and may want something written.
 * Told to end alone, we leave everything to our successor.
 */
static bool
may_end(Steward *steward, ClockTime now)
{
	if (steward->end_since == 0 && !workers_server_is_ending())
		return true;
	if (steward->end_since == 0)
		steward->end_since = now;
	if (now - steward->end_since >= END_MAX)
		return true;
	if (pg_atomic_read_u32(&leasehold_shared->keeper.pid) != 0)
	{
		steward->keeper_gone_at = 0;
		return false;
	}
	if (steward->keeper_gone_at == 0)
		steward->keeper_gone_at = now;
	if (!fence_is_closed())
		return false;
	/* the last change of role is worth a moment, a hanging command is not */
	return !role_command_busy() ||
		now - steward->keeper_gone_at >= END_TELL_MAX;
}

static void
end(Steward *steward)
{
	if (steward->keeper_gone_at != 0)
		note_end(steward);
	role_command_give_up();
	proc_exit(1);
}

/* ------------------------------------------------------------------------
 * The loop
 * ------------------------------------------------------------------------
 */

static bool
is_armed(void)
{
	return shared_is_governed(fence_shared) || settings_lease()[0] != '\0' ||
		takes_part_in_tables();
}

static ClockTime
health_timeout(const Steward *steward)
{
	if (setting_health_timeout > 0)
		return clock_ms(setting_health_timeout);
	return steward->status.shortest_ttl_ms > 0 ?
		clock_ms(steward->status.shortest_ttl_ms) : DEFAULT_TTL;
}

static void
turn(Steward *steward)
{
	ClockTime	now = clock_now();

	persist(steward, now);
	tables_file_follow();
	answer_keeper();
	leave(steward, now);
	instance_step(&steward->instance, now);
	shared_read(&leasehold_shared->status, &steward->status);
	if (is_armed())
	{
		sessions_step(&steward->sessions, &steward->status, now);
		sessions_follow_tables(&steward->sessions, now);
	}
	role_command_watch(&steward->status);
	role_command_step();
	embedded_step(&steward->embedded, now);
	openers_step(&steward->openers, now);
	/* the last: it waits for the disk */
	if (is_armed())
		health_step(&steward->health, now, health_timeout(steward));
	else
		health_rest(&steward->health);
}

static ClockTime
next_due(const Steward *steward, ClockTime now)
{
	ClockTime	due = now + IDLE_MAX;

	if (steward->end_since != 0)
		due = now + END_POLL;
	if (steward->persist_retry > now)
		due = clock_min(due, steward->persist_retry);
	if (steward->leave_since != 0)
		due = clock_min(due, now + CLOCK_S);
	due = clock_min(due, embedded_due(&steward->embedded));
	due = clock_min(due, openers_due(&steward->openers));
	due = clock_min(due, role_command_due(now));
	due = clock_min(due, instance_due(&steward->instance, now));
	if (is_armed())
	{
		due = clock_min(due, sessions_due(&steward->sessions));
		if (takes_part_in_tables())
			due = clock_min(due, now + CLOCK_S);
		due = clock_min(due, health_due(&steward->health));
	}
	return due;
}

static void
wait_for_something(const Steward *steward)
{
	static uint32 event = 0;
	uint32		wants = health_wants(&steward->health);
	ClockTime	now = clock_now();
	long		timeout = clock_wait_ms(now, next_due(steward, now));

	if (event == 0)
		event = compat_wait_event("LeaseholdStewardMain");
	if (wants != 0)
		(void) WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_TIMEOUT |
								 WL_EXIT_ON_PM_DEATH | wants,
								 steward->health.sock, timeout, event);
	else
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT |
						 WL_EXIT_ON_PM_DEATH, timeout, event);
	ResetLatch(MyLatch);
}

void
leasehold_steward_main(Datum arg)
{
	Steward    *steward = MemoryContextAllocZero(TopMemoryContext,
												 sizeof(Steward));

	workers_start();
	workers_take_seat(&leasehold_shared->steward);
	steward->cycle_context = AllocSetContextCreate(TopMemoryContext,
												   "leasehold steward",
												   ALLOCSET_DEFAULT_SIZES);
	shared_read(&leasehold_shared->persisted, &steward->persisted);
	health_init(&steward->health);
	sessions_init(&steward->sessions);
	embedded_init(&steward->embedded);
	openers_init(&steward->openers);
	instance_init(&steward->instance);
	role_command_init();
	for (;;)
	{
		MemoryContextSwitchTo(steward->cycle_context);
		MemoryContextReset(steward->cycle_context);
		(void) workers_reload();
		turn(steward);
		if (ShutdownRequestPending && may_end(steward, clock_now()))
			end(steward);
		wait_for_something(steward);
	}
}
