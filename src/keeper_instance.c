/*
 * keeper_instance.c
 *		The keeper and its own instance, where that is one of a primary and its
 *		streaming standbys: what it is, whether it may take the lease, what is
 *		to become of it.
 *
 * The keeper reads positions from shared memory; what stands on disk (timelines)
 * the steward reads, and the steward carries out what is ordered here.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "replication/slot.h"
#include "replication/walreceiver.h"
#include "storage/spin.h"

#include "keeper.h"
#include "lease_rules.h"
#include "names.h"

/* A promotion that does not come nearer to its end is given up. */
#define PROMOTION_STALL_MIN		(10 * CLOCK_S)

/* How long candidates wait for each other's last positions. */
#define PATIENCE_MAX			(200 * CLOCK_MS)

/* ------------------------------------------------------------------------
 * Where it stands
 * ------------------------------------------------------------------------
 */

/*
 * What a standby has received and flushed is what it will have after its
 * promotion; the part that came from an archive shows only as it is replayed.
 */
static uint64
position_in_recovery(void)
{
	TimeLineID	timeline;
	uint64		received = GetWalRcvFlushRecPtr(NULL, &timeline);
	uint64		replayed = GetXLogReplayRecPtr(&timeline);

	return Max(received, replayed);
}

void
keeper_look_at_instance(Keeper *keeper)
{
	Instance   *instance = &keeper->instance;
	LeaseState *lease = &keeper->lease;

	shared_read(&leasehold_shared->instance, instance);
	if (!instance->known)
		return;
	instance->position = instance->in_recovery ? position_in_recovery() :
		GetFlushRecPtr(NULL);
	instance->held_epoch = keeper->persisted.held_epoch;
	/* that it was held has to be known to the next run, too */
	lease->writable = !instance->in_recovery &&
		keeper->persisted.held_epoch >= lease->epoch;
	lease->timeline = (int32) timeline_present(&instance->history);
	lease->timeline_begin = timeline_begin(&instance->history,
										   (uint32) lease->timeline);
	lease->lsn = instance->position;
	keeper->self.timeline = lease->timeline;
	lsn_format(instance->position, keeper->self.lsn, sizeof(keeper->self.lsn));
}

static uint64
max_lag(void)
{
	return setting_max_lag < 0 ? CANDIDACY_NO_LIMIT :
		(uint64) setting_max_lag * 1024;
}

/* By what instances are judged: the best row, and who wrote last (R12). */
static const LeaseRow *
row_to_judge_by(const Keeper *keeper)
{
	const LeaseRow *best = lease_best_row(&keeper->lease);
	LeaseRow   *row;

	if (best == NULL)
		return NULL;
	row = palloc(sizeof(LeaseRow));
	*row = *best;
	row->wrote = lease_wrote(&keeper->lease, clock_now());
	return row;
}

/* R12: may this instance take the lease, as it is now? */
bool
keeper_is_candidate(Keeper *keeper)
{
	const LeaseRow *row = row_to_judge_by(keeper);

	keeper->candidacy = CANDIDACY_FIT;
	if (!keeper->lease.pinned)
		return !RecoveryInProgress();
	if (row == NULL)
		return false;
	keeper->candidacy = candidacy_judge(&keeper->instance, row,
										keeper->self.name, setting_promote, max_lag(),
										keeper->acquire_until != 0 &&
										keeper->acquire_forced);
	return keeper->candidacy == CANDIDACY_FIT;
}

/* A full sentence. */
const char *
keeper_why_no_candidate(const Keeper *keeper)
{
	const LeaseRow *row = row_to_judge_by(keeper);

	switch (keeper->candidacy)
	{
		case CANDIDACY_FIT:
			break;
		case CANDIDACY_UNKNOWN:
			return "The steward has not yet looked at this instance's timelines.";
		case CANDIDACY_RECOVERING:
			return "The instance is still recovering.";
		case CANDIDACY_OTHER_SYSTEM:
			return psprintf("The lease is for the database system %s, and this is %s.",
							row ? row->sysid : "", keeper->instance.sysid);
		case CANDIDACY_NEVER_HELD:
			return "Nobody has held it yet, and the first holder is the primary.";
		case CANDIDACY_DIVERGED:
			return psprintf("The last holder wrote on timeline %d, which is not in the history of this instance (now on %u); leasehold-rejoin brings it back.",
							row ? row->wrote.timeline : 0,
							timeline_present(&keeper->instance.history));
		case CANDIDACY_PROMOTED:
			return psprintf("This instance was promoted to timeline %u outside the lease; leasehold.acquire(force => true) takes it nevertheless.",
							timeline_present(&keeper->instance.history));
		case CANDIDACY_NO_PROMOTION:
			return "This is a standby, and leasehold.promote is off.";
		case CANDIDACY_NOT_SYNCHRONOUS:
			return row == NULL || syncset_node(row->wrote.sync_set)[0] == '\0' ?
				"The last holder acknowledged writes that no standby is known to have (leasehold.zero_loss)." :
				psprintf("Only node \"%s\" is known to have every acknowledged write (leasehold.zero_loss).",
						 syncset_node(row->wrote.sync_set));
		case CANDIDACY_LAGS:
			return psprintf("This standby is " UINT64_FORMAT " bytes behind the last holder, more than leasehold.max_lag.",
							row ? candidacy_lag(&keeper->instance, row) : 0);
	}
	return "";
}

/* ------------------------------------------------------------------------
 * What it says of itself
 * ------------------------------------------------------------------------
 */

/* Is the lease free, and this node one of those who want it? */
static bool
stands_for_it(const Keeper *keeper)
{
	return keeper->lease.phase == LEASE_FOLLOWER &&
		keeper->lease.free_since != 0 && keeper->lease.able &&
		keeper->lease.eager;
}

void
keeper_choose_role(Keeper *keeper)
{
	const LeaseState *lease = &keeper->lease;
	const char *role;

	if (lease->phase == LEASE_HOLDER || lease->phase == LEASE_DRAINING)
		role = rule_may_write(lease) ? "holder" : "promoting";
	else if (keeper_is_ungoverned(keeper))
		role = ROLE_UNGOVERNED;
	else if (!lease->pinned)
		role = "follower";
	else if (stands_for_it(keeper))
		role = "candidate";
	else
		role = keeper->instance.in_recovery ? "standby" : "fenced";
	strlcpy(keeper->self.role, role, sizeof(keeper->self.role));
}

/* ------------------------------------------------------------------------
 * Who goes first
 * ------------------------------------------------------------------------
 */

ClockTime
keeper_stagger(const Keeper *keeper)
{
	const LeaseState *lease = &keeper->lease;
	const LeaseRow *best = lease_best_row(lease);
	Electorate	electorate = {0};

	electorate.candidate = keeper->candidate;
	electorate.n = keeper->ncandidates;
	electorate.self = keeper->self.name;
	electorate.priority = setting_priority;
	electorate.position = keeper->instance.position;
	electorate.by_position = lease->pinned;
	electorate.last_holder = best != NULL ? best->holder : "";
	electorate.last_incarnation = best != NULL ? best->incarnation : 0;
	electorate.step = 2 * lease_look_interval(lease);
	electorate.patience = clock_min(2 * lease_look_interval(lease), PATIENCE_MAX);
	return election_stagger(&electorate);
}

/* ------------------------------------------------------------------------
 * Promotion
 * ------------------------------------------------------------------------
 */

static void
give_promotion_up(Keeper *keeper, const char *why, ClockTime now)
{
	ereport(LOG,
			(errmsg("leasehold: letting go of the lease, because %s", why)));
	keeper->lease.abstain_until = now + 2 * clock_ms(keeper->lease.ttl_ms);
	keeper_begin_drain(keeper, DRAIN_NOT_PROMOTED, "", 0, now);
}

/*
 * A standby that holds the lease is promoted.  Replay of what was received may
 * take its time, but it has to go on.
 */
static void
follow_promotion(Keeper *keeper, ClockTime now)
{
	const LeaseState *lease = &keeper->lease;
	uint64		replayed;
	ClockTime	patience = clock_max(PROMOTION_STALL_MIN,
									 2 * clock_ms(lease->ttl_ms));

	keeper->orders.promote_under = 0;
	if (lease->phase != LEASE_HOLDER || !lease->pinned ||
		rule_may_write(lease) || !keeper->instance.known)
	{
		keeper->promotion_at = 0;
		return;
	}
	if (keeper->instance.in_recovery)
	{
		/* whatever becomes of it, the next run has to know that it was us */
		if (keeper->persisted.held_epoch >= lease->epoch)
			keeper->orders.promote_under = lease->epoch;
		if (!setting_promote)
			give_promotion_up(keeper, "leasehold.promote is off", now);
	}
	replayed = GetXLogReplayRecPtr(NULL);
	if (keeper->promotion_at == 0 || replayed != keeper->promotion_replayed)
	{
		keeper->promotion_at = now;
		keeper->promotion_replayed = replayed;
	}
	else if (now - keeper->promotion_at >= patience)
		give_promotion_up(keeper, "the promotion of this standby takes too long",
						  now);
}

/* ------------------------------------------------------------------------
 * Whom to follow
 * ------------------------------------------------------------------------
 */

/* Whoever holds the lease and has come to write under it. */
static void
choose_leader(Keeper *keeper, const LeaseRow *best)
{
	InstanceOrders *orders = &keeper->orders;

	orders->leader[0] = '\0';
	orders->leader_address[0] = '\0';
	orders->leader_timeline = 0;
	orders->leader_begin = 0;
	orders->leader_epoch = 0;
	if (best == NULL || best->holder[0] == '\0' ||
		strcmp(best->holder, keeper->self.name) == 0)
		return;
	for (int i = 0; i < keeper->nnodes; i++)
	{
		const SurveyNode *node = &keeper->node[i];

		if (strcmp(node->name, best->holder) != 0 || !node->alive ||
			strcmp(node->role, "holder") != 0 ||
			node->incarnation != best->incarnation)
			continue;
		strlcpy(orders->leader, node->name, sizeof(orders->leader));
		strlcpy(orders->leader_address, node->advertise,
				sizeof(orders->leader_address));
		orders->leader_timeline = best->wrote.timeline;
		orders->leader_begin = best->wrote.begin;
		orders->leader_epoch = best->epoch;
	}
}

/* Is there somebody to follow whose address is not known yet? */
bool
keeper_misses_leader(const Keeper *keeper)
{
	const LeaseRow *best = lease_best_row(&keeper->lease);

	return keeper->lease.pinned && keeper->lease.phase == LEASE_FOLLOWER &&
		best != NULL && best->holder[0] != '\0' &&
		strcmp(best->holder, keeper->self.name) != 0 &&
		keeper->orders.leader[0] == '\0';
}

static void
judge_superseded(Keeper *keeper)
{
	InstanceOrders *orders = &keeper->orders;
	const LeaseRow *row = row_to_judge_by(keeper);
	bool		superseded = row != NULL &&
		keeper->lease.phase == LEASE_FOLLOWER && keeper->lease.pinned &&
		candidacy_is_superseded(&keeper->instance, row, keeper->self.name);

	/* who did may have given it back meanwhile, and the row names nobody */
	if (superseded && !orders->superseded)
		ereport(LOG,
				(row->holder[0] != '\0' ?
				 errmsg("leasehold: this primary is superseded: node \"%s\" took the lease",
						row->holder) :
				 errmsg("leasehold: this primary is superseded: another node has had the lease since"),
				 errdetail("The epoch is " INT64_FORMAT ", the timeline %d. Standbys are turned away.",
						   row->epoch, row->wrote.timeline)));
	orders->superseded = superseded;
	orders->superseded_by = superseded ? row->epoch : 0;
	pg_atomic_write_u32(&leasehold_shared->superseded, superseded);
}

void
keeper_order_instance(Keeper *keeper, ClockTime now)
{
	const LeaseRow *best = lease_best_row(&keeper->lease);

	keeper->orders.pinned = keeper->lease.pinned;
	keeper->orders.writes = lease_deadline(&keeper->lease) != 0;
	follow_promotion(keeper, now);
	choose_leader(keeper, best);
	judge_superseded(keeper);
	if (memcmp(&keeper->orders_told, &keeper->orders, sizeof(keeper->orders)) == 0)
		return;
	keeper->orders_told = keeper->orders;
	shared_publish(&leasehold_shared->orders, &keeper->orders);
	shared_wake_steward();
}

/* ------------------------------------------------------------------------
 * Handing over
 * ------------------------------------------------------------------------
 */

/*
 * keeper_peer_position
 *		How far a standby has confirmed what this instance sends to it; 0 if it
 *		does not stream from here.
 */
uint64
keeper_peer_position(const char *node)
{
	char		name[LEASEHOLD_SLOT_NAME_LEN];
	uint64		position = 0;

	leasehold_slot_name(node, name);
	for (int i = 0; i < max_replication_slots; i++)
	{
		ReplicationSlot *slot = &ReplicationSlotCtl->replication_slots[i];

		/* without the lock: a name that is being changed just does not match */
		if (!slot->in_use || strcmp(NameStr(slot->data.name), name) != 0)
			continue;
		SpinLockAcquire(&slot->mutex);
		if (slot->active_pid != 0)
			position = slot->data.restart_lsn;
		SpinLockRelease(&slot->mutex);
	}
	return position;
}

/* NULL if the target can be handed the lease; else a phrase that says why not. */
const char *
keeper_why_not_hand_to(Keeper *keeper, const char *node)
{
	uint64		position;

	if (!keeper->lease.pinned)
		return NULL;
	position = keeper_peer_position(node);
	if (position == 0)
		return "the target does not stream from the holder";
	if (max_lag() != CANDIDACY_NO_LIMIT &&
		keeper->instance.position > position + max_lag())
		return "the target is further behind than leasehold.max_lag";
	return NULL;
}

/*
 * keeper_is_flushed
 *		Has all that was written before the fence closed reached the disk here,
 *		and the node that the lease is handed to?  Commits that did not wait for
 *		the disk are acknowledged, too.
 */
bool
keeper_is_flushed(Keeper *keeper)
{
	LeaseholdShared *shared = leasehold_shared;

	if (!keeper->lease.pinned || keeper->drain_why == DRAIN_UNHEALTHY ||
		keeper->drain_why == DRAIN_NOT_PROMOTED ||
		keeper->drain_why == DRAIN_SHUTDOWN || keeper->orphaned ||
		!keeper->lease.writable)
		return true;
	if (keeper->flush_asked == 0)
	{
		keeper->flush_asked = pg_atomic_add_fetch_u64(&shared->flush_asked, 1);
		shared_wake_steward();
		return false;
	}
	if (pg_atomic_read_u64(&shared->flush_done) < keeper->flush_asked)
		return false;
	pg_read_barrier();
	keeper->lease.lsn = pg_atomic_read_u64(&shared->flushed_to);
	if (keeper->lease.reserve_for[0] == '\0')
		return true;
	if (keeper_peer_position(keeper->lease.reserve_for) < keeper->lease.lsn)
		return false;
	keeper_sync_handed(keeper);
	return true;
}
