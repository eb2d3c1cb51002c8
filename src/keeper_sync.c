/*
 * keeper_sync.c
 *		Whom commits wait for, and who may therefore take over
 *		(leasehold.zero_loss).
 *
 * The rules are in syncset.c; here is what the server says, and what it is told.
 * Positions and priorities of the walsenders are read from shared memory.  A
 * walsender that does not count its standby as synchronous releases nobody; so
 * once the one wanted counts and no other does, everybody waits for the one.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "replication/slot.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/spin.h"

#include "compat.h"
#include "keeper.h"
#include "lease_rules.h"
#include "names.h"

/* What this project writes begins like this; else the setting is a user's. */
#define NAMES_FORMAT	"FIRST 1 (\"%s\")"
#define SERIAL_LEAP		1000
#define NAMES_BEGIN		"FIRST 1 (\""

/* ------------------------------------------------------------------------
 * What the server says
 * ------------------------------------------------------------------------
 */

/* Who streams through this slot; 0 if nobody does. */
static pid_t
pid_on_slot(const char *name)
{
	pid_t		pid = 0;

	for (int i = 0; i < max_replication_slots; i++)
	{
		ReplicationSlot *slot = &ReplicationSlotCtl->replication_slots[i];

		if (!slot->in_use || strcmp(NameStr(slot->data.name), name) != 0)
			continue;
		SpinLockAcquire(&slot->mutex);
		pid = slot->active_pid;
		SpinLockRelease(&slot->mutex);
	}
	return pid;
}

static void
read_walsender(pid_t pid, SyncPeer *peer)
{
	for (int i = 0; i < max_wal_senders; i++)
	{
		WalSnd	   *sender = &WalSndCtl->walsnds[i];

		SpinLockAcquire(&sender->mutex);
		if (sender->pid == pid)
		{
			peer->streaming = sender->state == WALSNDSTATE_STREAMING;
			peer->waited_for = sender->sync_standby_priority == 1;
			peer->flushed = sender->flush;
		}
		SpinLockRelease(&sender->mutex);
	}
}

/* Walsenders that count their standbys as synchronous. */
static int
count_waited_for(void)
{
	int			n = 0;

	for (int i = 0; i < max_wal_senders; i++)
	{
		WalSnd	   *sender = &WalSndCtl->walsnds[i];

		SpinLockAcquire(&sender->mutex);
		n += sender->pid != 0 && sender->sync_standby_priority > 0;
		SpinLockRelease(&sender->mutex);
	}
	return n;
}

static void
read_peers(const Keeper *keeper, SyncPeer *peer, SyncView *view)
{
	view->peer = peer;
	for (int i = 0; i < keeper->nnodes; i++)
	{
		const SurveyNode *node = &keeper->node[i];
		char		slot[LEASEHOLD_SLOT_NAME_LEN];
		pid_t		pid;

		if (strcmp(node->name, keeper->self.name) == 0 || node->priority == 0)
			continue;
		leasehold_slot_name(node->name, slot);
		pid = pid_on_slot(slot);
		memset(peer, 0, sizeof(*peer));
		strlcpy(peer->name, node->name, sizeof(peer->name));
		if (pid != 0)
			read_walsender(pid, peer);
		peer++;
		view->n++;
	}
	/* two that count: one of them still runs with what was set before */
	if (count_waited_for() != 1)
		for (int i = 0; i < view->n; i++)
			((SyncPeer *) view->peer)[i].waited_for = false;
}

/* ------------------------------------------------------------------------
 * What it is told
 * ------------------------------------------------------------------------
 */

static bool
is_ours(const char *names)
{
	return names != NULL && strncmp(names, NAMES_BEGIN, strlen(NAMES_BEGIN)) == 0;
}

static void
order_names(Keeper *keeper)
{
	InstanceOrders *orders = &keeper->orders;
	const SyncSet *sync = &keeper->sync;

	orders->names[0] = '\0';
	if (sync->wait_for[0] != '\0')
		snprintf(orders->names, sizeof(orders->names), NAMES_FORMAT,
				 sync->wait_for);
	orders->manage_names = setting_zero_loss != SYNC_OFF ||
		is_ours(SyncRepStandbyNames);
}

static void
log_change(const SyncSet *old, const SyncSet *new)
{
	const char *node = syncset_node(new->set);

	if (strcmp(old->set, new->set) == 0 || node == NULL)
		return;
	if (node[0] != '\0')
		ereport(LOG,
				(errmsg("leasehold: node \"%s\" has every acknowledged write and may take over",
						node)));
	else if (syncset_node(old->set) != NULL)
		ereport(LOG,
				(errmsg("leasehold: no standby is known to have every acknowledged write"),
				 setting_zero_loss == SYNC_STRICT ?
				 errdetail("Writes wait until one has.") :
				 errdetail("Writes go on alone, and no other node takes over meanwhile.")));
}

/*
 * What the first renewal under an epoch is to say.  A keeper that was started
 * anew goes on with its predecessor's epoch: its numbers have to be above those
 * in the rows, of which a minority may bear a later one than is seen.
 */
static bool
begin_sync(Keeper *keeper, ClockTime now)
{
	LeaseState *lease = &keeper->lease;
	int32		serial = 0;

	if (lease->phase == LEASE_HOLDER && lease->told_epoch == lease->epoch)
	{
		LeaseWrote	wrote = lease_wrote(lease, now);

		lease->set_unknown = !rule_majority_seen(lease);
		if (lease->set_unknown)
			return false;
		if (wrote.epoch == lease->epoch)
			serial = (int32) syncset_serial(wrote.sync_set) + SERIAL_LEAP;
	}
	lease->set_unknown = false;
	syncset_begin(&keeper->sync, lease->pinned ? setting_zero_loss : SYNC_OFF,
				  serial);
	memcpy(lease->sync_set, keeper->sync.set, sizeof(lease->sync_set));
	keeper->sync_epoch = lease->phase == LEASE_HOLDER ? lease->epoch : 0;
	return true;
}

void
keeper_follow_sync(Keeper *keeper, ClockTime now)
{
	LeaseState *lease = &keeper->lease;
	SyncPeer   *peer;
	SyncView	view = {0};
	SyncSet		old;

	pg_atomic_write_u32(&leasehold_shared->fence.zero_loss,
						lease->pinned && setting_zero_loss != SYNC_OFF);
	keeper->orders.manage_names = false;
	/*
	 * Until the next epoch it stays as it is: a release says it, which may have
	 * to wait for its turn, and the next holder goes by it.
	 */
	if (lease->phase != LEASE_HOLDER && lease->phase != LEASE_ACQUIRING)
		return;
	if ((lease->phase != LEASE_HOLDER || keeper->sync_epoch != lease->epoch) &&
		!begin_sync(keeper, now))
		return;
	if (!lease->pinned || lease->phase != LEASE_HOLDER ||
		!keeper->instance.known)
		return;
	old = keeper->sync;
	if (!keeper->instance.in_recovery)
	{
		peer = palloc0(sizeof(SyncPeer) * (keeper->nnodes + 1));
		view.mode = setting_zero_loss;
		view.waits = compat_sync_standbys_defined();
		view.written = GetXLogInsertRecPtr();
		view.told = rule_timeline_told(lease);
		read_peers(keeper, peer, &view);
		syncset_step(&keeper->sync, &view, clock_ms(lease->ttl_ms), now);
		/* nobody is told "done" before somebody is waited for */
		if (setting_zero_loss == SYNC_STRICT && !view.waits &&
			lease->told_epoch != lease->epoch)
			lease->writable = false;
	}
	order_names(keeper);
	log_change(&old, &keeper->sync);
	memcpy(lease->sync_set, keeper->sync.set, sizeof(lease->sync_set));
}

void
keeper_sync_handed(Keeper *keeper)
{
	if (setting_zero_loss == SYNC_OFF)
		return;
	syncset_hand_to(&keeper->sync, keeper->lease.reserve_for);
	memcpy(keeper->lease.sync_set, keeper->sync.set, sizeof(keeper->sync.set));
}
