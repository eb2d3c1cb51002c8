/*
 * keeper_drain.c
 *		How the keeper gives the lease up on purpose: by request, for a hand-over,
 *		at a shutdown, or because the instance is not well.
 *
 * In every case the fence closes first, then the commits that are past their
 * check are waited for, and only then does the store hear of it.
 */
#include "postgres.h"

#include "keeper_tables.h"
#include "lease_rules.h"

/* How long a hand-over may wait for the nodes to be read. */
#define JUDGE_MAX	(5 * CLOCK_S)

/* ------------------------------------------------------------------------
 * Giving the lease up
 * ------------------------------------------------------------------------
 */

void
keeper_begin_drain(Keeper *keeper, DrainWhy why, const char *reserve_for,
				   ClockTime limit, ClockTime now)
{
	if (!lease_begin_drain(&keeper->lease, reserve_for, now))
		return;
	keeper->drain_why = why;
	keeper->drain_until = now + limit;
	keeper->flush_asked = 0;
	pg_atomic_write_u32(&leasehold_shared->fence.draining, 1);
	publish_fence(keeper);		/* a full barrier before the flags are read */
}

bool
keeper_is_drained(uint32 leases)
{
	FenceShared *fence = &leasehold_shared->fence;

	for (int i = 0; i < fence->nbackends; i++)
		if ((pg_atomic_read_u32(&fence->backends[i].backend.in_commit) & leases) != 0)
			return false;
	return true;
}

/*
 * With on_shutdown = keep, or paused, the row stays ours for the next run.  A
 * primary leaves its release to the postmaster (farewell.c).
 */
bool
keeper_keeps_row(const Keeper *keeper)
{
	return keeper->lease.frozen ||
		(keeper->drain_why == DRAIN_SHUTDOWN &&
		 (setting_on_shutdown == ON_SHUTDOWN_KEEP ||
		  (keeper->lease.pinned && rule_may_write(&keeper->lease))));
}

void
keeper_leave_farewell(const Keeper *keeper)
{
	const LeaseState *lease = &keeper->lease;
	Farewell	farewell = {0};

	if (lease->phase != LEASE_DRAINING || lease->frozen || keeper->orphaned ||
		setting_on_shutdown != ON_SHUTDOWN_RELEASE ||
		!keeper_keeps_row(keeper))
		return;
	farewell.release = true;
	strlcpy(farewell.lease, keeper->name, sizeof(farewell.lease));
	farewell.epoch = lease->epoch;
	farewell.version = lease->version;
	farewell.timeline = lease->timeline;
	farewell.timeline_begin = lease->timeline_begin;
	strlcpy(farewell.sync_set, lease->sync_set, sizeof(farewell.sync_set));
	shared_publish(&leasehold_shared->farewell, &farewell);
}

/* Tell whoever asked, through the store. */
static void
answer_handover(Keeper *keeper, const char *why)
{
	strlcpy(keeper->answer, why, sizeof(keeper->answer));
	for (int i = 0; i < keeper->n; i++)
		keeper->member[i].answer_due = true;
}

/* Nothing was said to anybody yet: the holder stays holder, and says why. */
static void
undo_drain(Keeper *keeper, const char *why, ClockTime now)
{
	ereport(LOG, (errmsg("leasehold: the lease is kept, because %s", why)));
	if (keeper->drain_why == DRAIN_HANDOVER)
		answer_handover(keeper, why);
	lease_undo_drain(&keeper->lease, now);
}

static void
end_drain(Keeper *keeper, bool drained, ClockTime now)
{
	bool		optional = keeper->drain_why == DRAIN_HANDOVER ||
		keeper->drain_why == DRAIN_RELEASE;

	if (optional && !drained)
		undo_drain(keeper, "running commits did not end in time", now);
	else if (optional && keeper->lease.frozen)
		undo_drain(keeper, "it is paused", now);
	else if (!keeper_keeps_row(keeper))
		lease_drained(&keeper->lease, now);
	else if (!keeper->ending)
		lease_close(&keeper->lease, now);
	/* else it is kept for the next run, and this one ends (may_end) */
}

/* Does the store say no more that the lease be handed to this node? */
static bool
handover_withdrawn(const Keeper *keeper)
{
	const LeaseRow *request = lease_request(&keeper->lease);

	return keeper->drain_why == DRAIN_HANDOVER && request != NULL &&
		strcmp(request->handover_to, keeper->lease.reserve_for) != 0;
}

void
keeper_follow_drain(Keeper *keeper, ClockTime now)
{
	if (keeper->lease.phase == LEASE_DRAINING)
	{
		bool		drained = keeper_is_drained(FENCE_BIT_INSTANCE) && keeper_is_flushed(keeper);

		if (handover_withdrawn(keeper))
			undo_drain(keeper, "the hand-over was withdrawn", now);
		else if (drained || now >= keeper->drain_until)
			end_drain(keeper, drained, now);
	}
	if (keeper->lease.phase != LEASE_DRAINING && keeper->tables->ndraining == 0)
		pg_atomic_write_u32(&leasehold_shared->fence.draining, 0);
	if (keeper->lease.phase == LEASE_HOLDER)
		keeper->drain_why = DRAIN_NONE;
}

/* ------------------------------------------------------------------------
 * Requests
 * ------------------------------------------------------------------------
 */

void
keeper_serve_box(Keeper *keeper, ClockTime now)
{
	KeeperBox  *box = &leasehold_shared->box;
	uint64		posted = pg_atomic_read_u64(&box->posted);

	if (pg_atomic_exchange_u32(&leasehold_shared->nodes_wanted, 0) != 0)
		keeper->nodes_wanted = now;
	if (posted == keeper->box_served)
		return;
	keeper->box_served = posted;
	pg_read_barrier();
	if (box->lease[0] != '\0')
	{
		keeper_moves_serve_box(keeper, box, now);
		return;
	}
	switch (box->ask)
	{
		case ASK_ACQUIRE:
			keeper->acquire_until = box->until;
			keeper->acquire_forced = box->force;
			keeper->lease.abstain_until = 0;
			break;
		case ASK_RELEASE:
			keeper->lease.abstain_until = now + clock_ms(keeper->lease.ttl_ms);
			keeper_begin_drain(keeper, DRAIN_RELEASE, "", DRAIN_MAX, now);
			break;
		case ASK_LOOK:
		case ASK_NOTHING:
			break;
	}
	for (int i = 0; i < keeper->n; i++)
		keeper->lease.member[i].look_now = true;
}

static bool
is_alive(const Keeper *keeper, const char *name)
{
	for (int i = 0; i < keeper->nnodes; i++)
		if (strcmp(keeper->node[i].name, name) == 0)
			return keeper->node[i].alive;
	return false;
}

/*
 * Can it be said by now whether the target lives?  What was read before the
 * request came tells nothing of a node that has been started since: one that
 * seems dead is read again before that is held against it.
 */
static bool
can_judge(Keeper *keeper, const LeaseRow *request, ClockTime now)
{
	if (keeper->waiting_seq != request->request_seq)
	{
		keeper->waiting_seq = request->request_seq;
		keeper->waiting_since = now;
	}
	if (is_alive(keeper, request->handover_to) ||
		keeper->nodes_read >= keeper->waiting_since)
		return true;
	keeper->nodes_wanted = clock_max(keeper->nodes_wanted, keeper->waiting_since);
	return now >= keeper->waiting_since +
		clock_min(clock_ms(keeper->lease.ttl_ms), JUDGE_MAX);
}

/* The holder acts on what is asked of it, or says why it does not. */
static void
serve_handover(Keeper *keeper, const LeaseRow *request, ClockTime now)
{
	bool		to_us = strcmp(request->handover_to, keeper->self.name) == 0;
	bool		paused = keeper->lease.frozen || request->pause_wanted;
	const char *why;

	if (!to_us && !paused && !can_judge(keeper, request, now))
		return;
	keeper->handled_seq = request->request_seq;
	if (to_us)
		answer_handover(keeper, STORE_ANSWER_HELD);
	else if (paused)
		answer_handover(keeper, "the lease is paused");
	else if (!is_alive(keeper, request->handover_to))
		answer_handover(keeper, STORE_ANSWER_NOT_ALIVE);
	else if ((why = keeper_why_not_hand_to(keeper, request->handover_to)) != NULL)
		answer_handover(keeper, why);
	else
		keeper_begin_drain(keeper, DRAIN_HANDOVER, request->handover_to,
						   clock_min(DRAIN_MAX, clock_ms(keeper->lease.ttl_ms) / 2), now);
}

/* Has somebody asked that a node be given the lease? */
void
keeper_follow_handover(Keeper *keeper, ClockTime now)
{
	const LeaseRow *request = lease_request(&keeper->lease);
	bool		to_us;

	if (request == NULL)
		return;
	to_us = strcmp(request->handover_to, keeper->self.name) == 0 ||
		strcmp(request->reserved_for, keeper->self.name) == 0;
	/* whoever is about to get it looks as often as it can */
	keeper->lease.look_setting_ms = to_us && keeper->lease.phase == LEASE_FOLLOWER ?
		5 : keeper->look_ms;
	if (keeper->lease.phase == LEASE_HOLDER && request->handover_to[0] != '\0' &&
		request->request_seq > keeper->handled_seq)
		serve_handover(keeper, request, now);
}
