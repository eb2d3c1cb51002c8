/*
 * keeper_tables_publish.c
 *		What the keeper lets others see of its leases of tables: the deadlines for
 *		every backend, the status for views and messages.
 *
 * Must never block: the lock of the status is only tried, all else is lock-free.
 */
#include "postgres.h"

#include "access/xlog.h"

#include "keeper_tables.h"

/* ------------------------------------------------------------------------
 * The fence
 * ------------------------------------------------------------------------
 */

static ClockTime
deadline_of(const TableLease *lease)
{
	return lease->opened_epoch == lease->state.epoch ?
		lease_deadline(&lease->state) : 0;
}

void
keeper_tables_publish_fence(TableLease *lease)
{
	TableSlot  *slot = &leasehold_tables->slot[lease->slot];

	pg_atomic_write_u64(&slot->version, (uint64) lease->state.version);
	pg_atomic_write_u64(&slot->closed_epoch, (uint64) lease->state.closed_epoch);
	pg_atomic_write_u64(&slot->highest_epoch, (uint64) lease->state.highest_epoch);
	shared_publish_lease(&slot->lease, (uint64) deadline_of(lease),
						 (uint64) lease->state.epoch);
}

/* ------------------------------------------------------------------------
 * The status
 * ------------------------------------------------------------------------
 */

static NodeState
state_of(const TableLease *lease)
{
	switch (lease->state.phase)
	{
		case LEASE_HOLDER:
			if (lease->opened_epoch != lease->state.epoch)
				return NODE_ACQUIRING;
			return deadline_of(lease) == CLOCK_NEVER ? NODE_PAUSED : NODE_HOLDER;
		case LEASE_DRAINING:
		case LEASE_RELEASING:
			return NODE_DRAINING;
		case LEASE_ACQUIRING:
			return NODE_ACQUIRING;
		case LEASE_FOLLOWER:
			break;
	}
	return keeper_follower_state(lease->state.reason);
}

static const char *
why_not_able(const Keeper *keeper)
{
	if (RecoveryInProgress())
		return "This instance is in recovery.";
	if (keeper->tables->unknown || !keeper_protect_is_current(keeper))
		return "This node does not know the whole list of protected tables yet.";
	if (keeper->ending)
		return "The instance is shutting down.";
	return "The node is not registered in the store yet, or its health check is overdue.";
}

static const char *
reason_of(const Keeper *keeper, const TableLease *lease, const char *holder)
{
	switch (lease->state.reason)
	{
		case LEASE_REASON_NONE:
			return lease->state.phase == LEASE_HOLDER &&
				lease->opened_epoch != lease->state.epoch ?
				"It is held, and this node has yet to apply what was written before." : "";
		case LEASE_REASON_NOT_ABLE:
			return why_not_able(keeper);
		case LEASE_REASON_NOT_EAGER:
			return lease->takes_part ?
				"It is free, but this node's priority for it is 0." :
				"This node takes no part in it.";
		default:
			return keeper_plain_reason(lease->state.reason, holder);
	}
}

static void
fill_status(const Keeper *keeper, const TableLease *lease, TableStatus *status)
{
	const LeaseRow *best = lease_best_row(&lease->state);
	bool		ours = lease->state.phase == LEASE_HOLDER ||
		lease->state.phase == LEASE_DRAINING;

	memset(status, 0, sizeof(*status));
	status->state = state_of(lease);
	if (ours)
		strlcpy(status->holder, keeper->self.name, sizeof(status->holder));
	else if (best != NULL)
		strlcpy(status->holder, best->holder, sizeof(status->holder));
	status->epoch = ours ? lease->state.epoch : best ? best->epoch : 0;
	status->ttl_ms = best != NULL || ours ? lease->state.ttl_ms : 0;
	status->last_renewal = lease->last_renewal;
	status->renewal_latency = lease->renewal_latency;
	status->takes_part = lease->takes_part;
	status->priority = lease->priority;
	strlcpy(status->reason, reason_of(keeper, lease, status->holder),
			sizeof(status->reason));
}

static void
log_change(const Keeper *keeper, TableLease *lease, const TableStatus *status)
{
	if (status->state == lease->told_state || status->state == NODE_ACQUIRING ||
		(!lease->takes_part && status->state != NODE_HOLDER))
		return;
	if (status->state == NODE_HOLDER || lease->told_state == NODE_HOLDER ||
		lease->told_state == NODE_DRAINING)
		ereport(LOG,
				(errmsg("leasehold: node \"%s\" is now %s of lease \"%s\"",
						keeper->self.name,
						status->state == NODE_HOLDER ? "holder" :
						status->state == NODE_DRAINING ? "draining" :
						status->state == NODE_PAUSED ? "paused holder" :
						status->state == NODE_FENCED ? "fenced" : "follower",
						lease->name),
				 status->state == NODE_HOLDER ?
				 errdetail("The epoch is " INT64_FORMAT ".", status->epoch) :
				 status->reason[0] ? errdetail("%s", status->reason) : 0));
	lease->told_state = status->state;
}

/* Lost and gained again since it was last published, it is another epoch's. */
static bool
is_change(const TableStatus *before, const TableStatus *status)
{
	return before->state != status->state ||
		(status->state == NODE_HOLDER && before->epoch != status->epoch);
}

/* Who has come to hold it, and was not there when the nodes were read. */
static bool
is_new(const Keeper *keeper, const char *holder)
{
	if (holder[0] == '\0' || strcmp(holder, keeper->self.name) == 0)
		return false;
	for (int i = 0; i < keeper->nnodes; i++)
		if (strcmp(keeper->node[i].name, holder) == 0)
			return false;
	return true;
}

void
keeper_tables_publish_status(Keeper *keeper, ClockTime now)
{
	KeeperTables *tables = keeper->tables;

	if (tables->n == 0 ||
		!LWLockConditionalAcquire(leasehold_tables->status_lock, LW_EXCLUSIVE))
		return;
	for (int k = 0; k < tables->n; k++)
	{
		TableLease *lease = tables->lease[k];
		TableStatus status;

		if (!lease->status_due)
			continue;
		fill_status(keeper, lease, &status);
		log_change(keeper, lease, &status);
		/* whoever wrote under it, and has yet to commit, is in the way now */
		if (is_change(&leasehold_tables->status[lease->slot], &status))
		{
			pg_atomic_fetch_add_u32(&leasehold_tables->changes, 1);
			shared_wake_steward();
		}
		/* clients are told where it can be reached */
		if (strcmp(leasehold_tables->status[lease->slot].holder, status.holder) != 0 &&
			is_new(keeper, status.holder))
			keeper->nodes_wanted = now;
		leasehold_tables->status[lease->slot] = status;
		lease->status_due = false;
	}
	leasehold_tables->status_at = now;
	LWLockRelease(leasehold_tables->status_lock);
}
