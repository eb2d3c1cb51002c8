/*
 * keeper.c
 *		The keeper: the worker that holds the lease on this node's behalf.
 *
 * One loop around one WaitEventSet: the latch, the postmaster, and a socket
 * per member of the store.  It lives a little longer than the postmaster: when
 * that dies it closes the fence, drains, releases and goes.
 *
 * Must never block: no lock is waited for, no name resolved, no disk touched
 * (but for the password file that libpq reads when it connects), no member
 * waited for beyond a deadline.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "access/xlog.h"

#include "compat.h"
#include "keeper_tables.h"
#include "workers.h"

#define LAST_WORDS_MAX	(2 * CLOCK_S)	/* after the postmaster's death */
#define RENAME_GRACE	CLOCK_S
#define TABLE_EPOCHS	16
#define UNGOVERNED_LOOK_MS	3000	/* at what the members say of themselves */
#define END_ANSWER_MAX	(CLOCK_S / 4)	/* for the steward's answer */

/* ------------------------------------------------------------------------
 * Settings
 * ------------------------------------------------------------------------
 */

/* Do margin and intervals leave a lease of this ttl any room? */
static const char *
judge_intervals(const Keeper *keeper)
{
	int			ttl = keeper->lease.ttl_ms;
	int			margin = setting_safety_margin;

	if (margin > ttl / 2)
		return "leasehold.safety_margin is more than half of the lease's ttl.";
	if (setting_renew_interval > (ttl - margin) / 2)
		return "leasehold.renew_interval leaves no time for a second attempt within the lease's ttl.";
	if (setting_look_interval > ttl)
		return "leasehold.look_interval is longer than the lease's ttl.";
	return NULL;
}

/* All three together or none; at the first reading there is nothing to keep. */
static void
take_intervals(Keeper *keeper, bool first)
{
	const char *fault = judge_intervals(keeper);

	if (fault != NULL && strcmp(fault, keeper->settings_fault) != 0)
		ereport(LOG,
				(errmsg("leasehold: intervals are inconsistent%s",
						first ? "" : ", the last consistent ones stay in force"),
				 errdetail("%s", fault)));
	strlcpy(keeper->settings_fault, fault ? fault : "",
			sizeof(keeper->settings_fault));
	if (fault == NULL || first)
	{
		keeper->margin_ms = setting_safety_margin;
		keeper->renew_ms = setting_renew_interval;
		keeper->look_ms = setting_look_interval;
	}
	keeper->lease.margin_setting_ms = keeper->margin_ms;
	keeper->lease.renew_setting_ms = keeper->renew_ms;
	keeper->lease.look_setting_ms = keeper->name[0] != '\0' ? keeper->look_ms :
		Max(keeper->look_ms, UNGOVERNED_LOOK_MS);
	keeper_tables_take_intervals(keeper);
}

/* Connect to the members that leasehold.store names now. */
static void
take_store(Keeper *keeper, ClockTime now)
{
	Conninfo   *conninfo;
	MemoryContext old;

	for (int i = 0; i < keeper->n; i++)
		member_close(keeper, i, now);
	MemoryContextReset(keeper->config_context);
	old = MemoryContextSwitchTo(keeper->config_context);
	conninfo = palloc0(sizeof(Conninfo) * LEASE_MEMBERS_MAX);
	keeper->n = conninfo_split(setting_store, conninfo, LEASE_MEMBERS_MAX);
	memset(keeper->member, 0, sizeof(KeeperMember) * LEASE_MEMBERS_MAX);
	for (int i = 0; i < keeper->n; i++)
	{
		keeper->member[i].conninfo = conninfo[i];
		keeper->member[i].standing = ROSTER_NOT_ASKED;
		keeper->member[i].link.socket = PGINVALID_SOCKET;
	}
	MemoryContextSwitchTo(old);
	lease_set_members(&keeper->lease, keeper->n, keeper->roster.n);
	keeper_tables_set_members(keeper);
	keeper->sockets_changed = true;
}

static void
describe_self(Keeper *keeper)
{
	StoreNode  *self = &keeper->self;

	strlcpy(self->name, settings_node_name(), sizeof(self->name));
	self->incarnation = leasehold_shared->incarnation;
	strlcpy(self->advertise, settings_advertise(), sizeof(self->advertise));
	self->priority = setting_priority;
	snprintf(self->version, sizeof(self->version), "%s/%s", "1.0", PG_VERSION);
}

/* A fresh state machine for the lease that the settings name. */
static void
take_lease_name(Keeper *keeper)
{
	LeaseState *lease = &keeper->lease;
	uint64		seed;

	if (!pg_strong_random(&seed, sizeof(seed)))
		seed = (uint64) clock_now();
	strlcpy(keeper->name, settings_lease(), sizeof(keeper->name));
	lease_init(lease, settings_node_name(), leasehold_shared->incarnation,
			   leasehold_shared->previous, seed);
	lease->version = (int64) pg_atomic_read_u64(&leasehold_shared->version);
	keeper->handled_seq = 0;
	if (keeper->name[0] != '\0')
		pg_atomic_write_u32(&leasehold_shared->fence.governed, 1);
}

/*
 * A keeper that was started anew within one run of the postmaster takes over
 * from its predecessor: what that one had promised and closed is in shared
 * memory.
 */
static void
resume(Keeper *keeper)
{
	FenceLease *fence = &leasehold_shared->fence.instance;

	lease_resume_epoch(&keeper->lease,
					   (int64) pg_atomic_read_u64(&fence->epoch),
					   (int64) pg_atomic_read_u64(&leasehold_shared->closed_epoch),
					   (int64) pg_atomic_read_u64(&leasehold_shared->highest_epoch),
					   (int64) pg_atomic_read_u64(&leasehold_shared->version),
					   (ClockTime) pg_atomic_read_u64(&fence->deadline));
}

/* After SIGHUP.  Another lease is taken up once the old one is let go. */
static void
reload(Keeper *keeper, ClockTime now)
{
	char	   *store = MemoryContextStrdup(keeper->cycle_context, setting_store);

	if (!workers_reload())
		return;
	describe_self(keeper);
	take_intervals(keeper, false);
	if (strcmp(store, setting_store) != 0)
		take_store(keeper, now);
}

/*
 * The settings name another lease.  A configuration file that was read while
 * it was being written may seem to name none for a moment: that must not cost
 * the lease.
 */
static void
follow_lease_name(Keeper *keeper, ClockTime now)
{
	if (strcmp(keeper->name, settings_lease()) == 0)
	{
		keeper->renamed_since = 0;
		return;
	}
	if (keeper->renamed_since == 0)
		keeper->renamed_since = now;
	/* (whoever has left meant it) */
	if (keeper->name[0] != '\0' && keeper->persisted.lease[0] != '\0' &&
		now < keeper->renamed_since + RENAME_GRACE)
		return;
	if (keeper->lease.phase == LEASE_HOLDER)
		keeper_begin_drain(keeper, DRAIN_RENAMED, "", DRAIN_MAX, now);
	if (keeper->lease.phase != LEASE_FOLLOWER)
		return;
	take_lease_name(keeper);
	take_intervals(keeper, true);
	take_store(keeper, now);
}

/* ------------------------------------------------------------------------
 * What has to be on disk (R11)
 * ------------------------------------------------------------------------
 */

/* Some epochs more than are needed now: each costs a write. */
static int64
table_epoch(const Keeper *keeper)
{
	int64		epoch = Max(keeper->persisted.table_epoch,
							keeper->to_persist.table_epoch);

	return keeper->tables->epoch_to_persist > epoch ?
		keeper->tables->epoch_to_persist + TABLE_EPOCHS : epoch;
}

/*
 * To whom no lease matters, whatever list of members there is will do, and none is
 * noted: a store that is made anew is another one, and just as good.
 */
static void
follow_any_list(Keeper *keeper)
{
	bool		gone = keeper->roster.generation > 0;

	for (int i = 0; i < keeper->n; i++)
		gone &= keeper->member[i].standing != ROSTER_COUNTED &&
			keeper->member[i].standing != ROSTER_NOT_ASKED &&
			keeper->member[i].standing != ROSTER_NOT_SETTLED;
	if (gone)
		memset(&keeper->roster_next, 0, sizeof(keeper->roster_next));
	else if (keeper->roster_next.generation <= keeper->roster.generation)
		return;
	keeper->roster = keeper->roster_next;
	lease_set_members(&keeper->lease, keeper->n, keeper->roster.n);
	keeper_tables_set_members(keeper);
	members_judge(keeper);
}

static void
follow_disk(Keeper *keeper)
{
	DurableState *want = &keeper->to_persist;
	DurableState fresh = {{0}};
	bool		no_lease;

	shared_read(&leasehold_shared->persisted, &keeper->persisted);
	if (keeper->persisted.incarnation == keeper->lease.incarnation)
	{
		keeper->lease.durable_epoch = keeper->persisted.epoch;
		if (keeper->persisted.roster.generation > keeper->roster.generation)
		{
			keeper->roster = keeper->persisted.roster;
			lease_set_members(&keeper->lease, keeper->n, keeper->roster.n);
			keeper_tables_set_members(keeper);
			members_judge(keeper);
		}
	}
	no_lease = keeper_has_no_lease(keeper);
	if (no_lease && (keeper->n == 0 || !keeper_is_ungoverned(keeper)))
		return;

	strlcpy(fresh.node, keeper->self.name, sizeof(fresh.node));
	strlcpy(fresh.lease, keeper->name[0] ? keeper->name :
			keeper->persisted.lease, sizeof(fresh.lease));
	fresh.incarnation = keeper->lease.incarnation;
	fresh.epoch = Max(lease_epoch_to_persist(&keeper->lease),
					  keeper->persisted.epoch);
	fresh.held_epoch = keeper->persisted.held_epoch;
	if (keeper->lease.pinned && keeper->lease.phase == LEASE_HOLDER)
		fresh.held_epoch = Max(fresh.held_epoch, keeper->lease.epoch);
	fresh.table_epoch = table_epoch(keeper);
	if (no_lease)
		follow_any_list(keeper);
	fresh.roster = no_lease ? keeper->persisted.roster :
		keeper->roster_next.generation > keeper->roster.generation ?
		keeper->roster_next : keeper->roster;
	if (memcmp(&fresh, want, sizeof(fresh)) != 0)
	{
		*want = fresh;
		shared_publish(&leasehold_shared->to_persist, want);
		shared_wake_steward();
	}
}

/* ------------------------------------------------------------------------
 * One turn
 * ------------------------------------------------------------------------
 */

/*
 * The steward stamps as often as the ttl asks for, and learns of another ttl
 * from us: until its first stamp after a change the longer time holds.
 */
static ClockTime
health_timeout(Keeper *keeper, ClockTime stamp, ClockTime now)
{
	ClockTime	timeout = clock_ms(setting_health_timeout > 0 ?
								   setting_health_timeout :
								   keeper->lease.ttl_ms);

	if (setting_health_timeout == 0 && keeper->tables->ttl_min > 0)
		timeout = clock_min(timeout, keeper->tables->ttl_min);

	if (timeout != keeper->health_timeout)
	{
		keeper->health_grace = clock_max(timeout, keeper->health_timeout);
		keeper->health_timeout = timeout;
		keeper->health_changed_at = now;
	}
	return stamp < keeper->health_changed_at ? keeper->health_grace : timeout;
}

static bool
is_healthy(Keeper *keeper, ClockTime now)
{
	ClockTime	stamp = (ClockTime) pg_atomic_read_u64(&leasehold_shared->healthy_at);

	return stamp != 0 && now - stamp < health_timeout(keeper, stamp, now);
}

static void
follow_health(Keeper *keeper, ClockTime now)
{
	bool		healthy = is_healthy(keeper, now);

	if (!healthy && !keeper->orphaned && keeper->lease.phase == LEASE_HOLDER)
	{
		ereport(LOG,
				(errmsg("leasehold: letting go of the lease, because the instance fails its health check")));
		keeper_begin_drain(keeper, DRAIN_UNHEALTHY, "", CLOCK_S / 2, now);
	}
	if (!healthy && !keeper->orphaned)
		keeper_tables_let_go(keeper, now);
	keeper->fit = healthy && !keeper->ending &&
		keeper->persisted.incarnation == keeper->lease.incarnation &&
		members_name_verdict(keeper, now) == NAME_MINE;
	keeper->lease.able = keeper_is_candidate(keeper) && keeper->fit &&
		keeper->name[0] != '\0' && strcmp(keeper->name, settings_lease()) == 0;
}

static void
follow_others(Keeper *keeper, ClockTime now)
{
	if (keeper->acquire_until != 0 &&
		(now >= keeper->acquire_until || keeper->lease.phase == LEASE_HOLDER))
		keeper->acquire_until = 0;
	keeper->lease.eager = setting_priority > 0 || keeper->acquire_until != 0;
	keeper->lease.stagger = keeper->acquire_until != 0 ? 0 :
		keeper_stagger(keeper);
}

static void
turn(Keeper *keeper)
{
	ClockTime	now;

	for (int i = 0; i < keeper->n; i++)
		member_poll(keeper, i);
	/* a deadline is judged by a clock read after whatever made us wait */
	now = clock_now();
	follow_disk(keeper);
	keeper_look_at_instance(keeper);
	keeper_follow_sync(keeper, now);
	follow_health(keeper, now);
	follow_others(keeper, now);
	keeper_serve_box(keeper, now);
	lease_tick(&keeper->lease, now);
	publish_fence(keeper);
	keeper_follow_handover(keeper, now);
	keeper_follow_drain(keeper, now);
	keeper_tables_turn(keeper, keeper->fit, now);
	follow_lease_name(keeper, now);
	keeper_order_instance(keeper, now);
	keeper_choose_role(keeper);
	publish_fence(keeper);
	for (int i = 0; i < keeper->n; i++)
		member_advance(keeper, i, clock_now());
	publish_fence(keeper);
	publish_status(keeper, now);
}

/* ------------------------------------------------------------------------
 * Waiting
 * ------------------------------------------------------------------------
 */

static void
rebuild_wait_set(Keeper *keeper)
{
	if (keeper->wait_set != NULL)
		FreeWaitEventSet(keeper->wait_set);
	keeper->wait_set = compat_create_wait_set(keeper->n + 2);
	AddWaitEventToSet(keeper->wait_set, WL_LATCH_SET, PGINVALID_SOCKET,
					  MyLatch, NULL);
	if (!keeper->orphaned)
		AddWaitEventToSet(keeper->wait_set, WL_POSTMASTER_DEATH,
						  PGINVALID_SOCKET, NULL, NULL);
	for (int i = 0; i < keeper->n; i++)
	{
		Link	   *link = &keeper->member[i].link;

		if (link->socket != PGINVALID_SOCKET)
			AddWaitEventToSet(keeper->wait_set, link->wants, link->socket,
							  NULL, NULL);
	}
	keeper->sockets_changed = false;
}

static ClockTime
next_wakeup(Keeper *keeper, ClockTime now)
{
	ClockTime	at = clock_min(lease_wakeup(&keeper->lease, now), now + CLOCK_S);

	for (int i = 0; i < keeper->n; i++)
		at = clock_min(at, member_due(keeper, i, now));
	at = clock_min(at, keeper_tables_wakeup(keeper, now));
	if (keeper->lease.phase == LEASE_DRAINING)
		at = clock_min(at, now + CLOCK_MS);
	if (keeper->lease.phase == LEASE_HOLDER)
	{
		ClockTime	stamp = (ClockTime)
			pg_atomic_read_u64(&leasehold_shared->healthy_at);

		at = clock_min(at, clock_max(now + CLOCK_MS, stamp +
									 health_timeout(keeper, stamp, now)));
	}
	if (keeper->ending)
		at = clock_min(at, keeper->end_at);
	else if (keeper->asked_to_end != 0)
		at = clock_min(at, keeper->asked_to_end + END_ANSWER_MAX);
	return at;
}

/* Sleep until something happens; true if the postmaster has died. */
static bool
wait_for_events(Keeper *keeper)
{
	WaitEvent	event[LEASE_MEMBERS_MAX + 2];
	ClockTime	now = clock_now();
	int			n;

	if (keeper->sockets_changed || keeper->wait_set == NULL)
		rebuild_wait_set(keeper);
	n = WaitEventSetWait(keeper->wait_set,
						 clock_wait_ms(now, next_wakeup(keeper, now)),
						 event, lengthof(event), compat_wait_event("LeaseholdKeeper"));
	for (int i = 0; i < n; i++)
	{
		if (event[i].events & WL_LATCH_SET)
			ResetLatch(MyLatch);
		if (event[i].events & WL_POSTMASTER_DEATH)
			return true;
	}
	return false;
}

/* ------------------------------------------------------------------------
 * Life and death
 * ------------------------------------------------------------------------
 */

static void
begin_end(Keeper *keeper, DrainWhy why)
{
	ClockTime	now = clock_now();
	ClockTime	limit = clock_min(clock_ms(keeper->lease.ttl_ms), LAST_WORDS_MAX);

	keeper->ending = true;
	keeper->orphaned = why == DRAIN_ORPHANED;
	/* whoever still feeds standbys may go on */
	if (why == DRAIN_SHUTDOWN)
		pg_atomic_write_u32(&leasehold_shared->end_question, END_OF_SERVER);
	keeper->end_at = now + limit;
	keeper->sockets_changed = true;
	/* half of the time for the commits, half for the members */
	if (keeper->lease.phase == LEASE_DRAINING)
		keeper->drain_why = why;
	keeper_begin_drain(keeper, why, "", limit / 2, now);
	keeper_tables_begin_end(keeper, limit, now);
	if (keeper->lease.phase == LEASE_ACQUIRING)
		lease_close(&keeper->lease, now);
	publish_fence(keeper);
}

/*
 * SIGTERM.  A server that ends lets go of its lease.  A keeper that was told to
 * end alone leaves everything to its successor, which the postmaster starts at
 * once.  Without an answer it is the server: then others need not wait.
 */
static void
follow_end(Keeper *keeper, ClockTime now)
{
	pg_atomic_uint32 *question = &leasehold_shared->end_question;

	if (keeper->asked_to_end == 0)
	{
		keeper->asked_to_end = now;
		pg_atomic_write_u32(question, END_ASKED);
		shared_wake_steward();
	}
	switch (pg_atomic_read_u32(question))
	{
		case END_OF_KEEPER:
			keeper_tables_leave_to_successor(keeper, now);
			ereport(LOG,
					(errmsg("leasehold: the keeper was told to end, and its successor goes on")));
			proc_exit(1);
		case END_OF_SERVER:
			begin_end(keeper, DRAIN_SHUTDOWN);
			break;
		default:
			if (now >= keeper->asked_to_end + END_ANSWER_MAX)
				begin_end(keeper, DRAIN_SHUTDOWN);
	}
}

static bool
may_end(const Keeper *keeper)
{
	if (!keeper->ending)
		return false;
	if (clock_now() >= keeper->end_at)
		return true;
	if (!keeper_tables_may_end(keeper))
		return false;
	if (keeper->lease.phase == LEASE_DRAINING)
		return keeper_keeps_row(keeper) && keeper_is_drained(FENCE_BIT_ALL);
	if (keeper->lease.phase != LEASE_FOLLOWER)
		return false;
	for (int i = 0; i < keeper->n; i++)
		if (member_release_pending(keeper, i))
			return false;
	return true;
}

/* Whatever ends this process, the fence does not stay open beyond it. */
static void
close_fence_at_exit(int code, Datum arg)
{
	/*
	 * An error in the keeper alone leaves the deadline to run out: its
	 * successor may go on with the same epoch.
	 */
	Keeper	   *keeper = (Keeper *) DatumGetPointer(arg);

	if (keeper->ending)
	{
		pg_atomic_write_u64(&leasehold_shared->fence.instance.deadline, 0);
		keeper_tables_close_fence();
	}
}

static Keeper *
make_keeper(void)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	Keeper	   *keeper = palloc0(sizeof(Keeper));

	keeper->member = palloc0(sizeof(KeeperMember) * LEASE_MEMBERS_MAX);
	keeper->candidate = palloc0(sizeof(Candidate) * setting_peers_max);
	keeper->node = palloc0(sizeof(SurveyNode) * setting_peers_max);
	keeper->tables = keeper_tables_make();
	keeper->config_context = AllocSetContextCreate(TopMemoryContext,
												   "leasehold settings",
												   ALLOCSET_SMALL_SIZES);
	keeper->cycle_context = AllocSetContextCreate(TopMemoryContext,
												  "leasehold cycle",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(old);
	keeper->box_served = pg_atomic_read_u64(&leasehold_shared->box.posted);
	shared_read(&leasehold_shared->persisted, &keeper->persisted);
	keeper->roster = keeper->persisted.roster;
	return keeper;
}

static void
start(Keeper *keeper)
{
	describe_self(keeper);
	take_lease_name(keeper);
	resume(keeper);
	keeper_protect_start(keeper);
	take_intervals(keeper, true);
	take_store(keeper, clock_now());
	pg_atomic_write_u32(&leasehold_shared->end_question, END_NOT_ASKED);
}

void
leasehold_keeper_main(Datum arg)
{
	Keeper	   *keeper;

	workers_start();
	workers_reload();
	keeper = make_keeper();
	before_shmem_exit(close_fence_at_exit, PointerGetDatum(keeper));
	workers_take_seat(&leasehold_shared->keeper);
	start(keeper);

	for (;;)
	{
		MemoryContextSwitchTo(keeper->cycle_context);
		MemoryContextReset(keeper->cycle_context);
		if (!keeper->ending)
			reload(keeper, clock_now());
		if (ShutdownRequestPending && !keeper->ending)
			follow_end(keeper, clock_now());
		shared_read(&leasehold_shared->addresses, &keeper->addresses);
		turn(keeper);
		if (may_end(keeper))
		{
			keeper_leave_farewell(keeper);
			proc_exit(1);
		}
		if (wait_for_events(keeper) && !keeper->orphaned)
			begin_end(keeper, DRAIN_ORPHANED);
	}
}
