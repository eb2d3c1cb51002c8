/*
 * errand.c
 *		A short-lived worker that follows the primary of the moment, and keeps a
 *		replication slot for every other node.
 *
 * The slots are kept by whoever may be the primary next, too: so after a
 * promotion nobody needs WAL that is gone.  A node's own slot keeps what it would
 * need itself to be rewound: all since its last checkpoint as long as it was the
 * primary or a standby.  Their number is that of the nodes, and
 * max_slot_wal_keep_size bounds what they keep.
 *
 * The steward starts this worker when errand_is_due() says so.  It has a session
 * without a database: an error ends it and nothing else, and the steward tries
 * again.  Must never wait for the network.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "postmaster/bgworker.h"
#include "replication/slot.h"
#include "replication/syncrep.h"
#include "replication/walreceiver.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/spin.h"
#include "utils/guc.h"

#include "compat.h"
#include "conninfo.h"
#include "fence.h"
#include "instance.h"
#include "names.h"
#include "syncset.h"
#include "workers.h"

/* A slot that nobody streams from may stay behind its node by this much. */
#define ADVANCE_BYTES	(UINT64CONST(1) << 20)

/* The nodes that a lease governs, as the keeper has read them. */
typedef struct Peers
{
	int			n;
	SurveyNode *node;
} Peers;

/* ------------------------------------------------------------------------
 * What there is to do
 * ------------------------------------------------------------------------
 */

/* False if the keeper has not read the nodes, or is reading them just now. */
static bool
read_peers(Peers *peers)
{
	Survey	   *survey = leasehold_shared->survey;
	bool		read;

	if (!LWLockConditionalAcquire(leasehold_shared->survey_lock, LW_SHARED))
		return false;
	read = survey->nodes_at != 0;
	peers->n = 0;
	peers->node = palloc(sizeof(SurveyNode) * Max(survey->nnodes, 1));
	for (int i = 0; i < survey->nnodes; i++)
		if (strcmp(survey->node[i].role, ROLE_UNGOVERNED) != 0)
			peers->node[peers->n++] = survey->node[i];
	LWLockRelease(leasehold_shared->survey_lock);
	return read;
}

static bool
is_self(const SurveyNode *node)
{
	return strcmp(node->name, settings_node_name()) == 0;
}

/* A copy of the slot's state; false if there is none of this name. */
static bool
find_slot(const char *name, XLogRecPtr *position, bool *active)
{
	bool		found = false;

	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	for (int i = 0; i < max_replication_slots && !found; i++)
	{
		ReplicationSlot *slot = &ReplicationSlotCtl->replication_slots[i];

		if (!slot->in_use || strcmp(NameStr(slot->data.name), name) != 0)
			continue;
		found = true;
		SpinLockAcquire(&slot->mutex);
		*position = slot->data.restart_lsn;
		*active = slot->active_pid != 0;
		SpinLockRelease(&slot->mutex);
	}
	LWLockRelease(ReplicationSlotControlLock);
	return found;
}

/* How far a slot can be moved for this node; 0 if it should stay. */
static XLogRecPtr
slot_target(const SurveyNode *node, XLogRecPtr position, XLogRecPtr here)
{
	uint64		reported;

	if (!lsn_parse(node->lsn, &reported))
		return InvalidXLogRecPtr;
	reported = Min(reported, here);
	return reported > position + ADVANCE_BYTES ? reported : InvalidXLogRecPtr;
}

/* What this instance surely has. */
static XLogRecPtr
position_here(void)
{
	return RecoveryInProgress() ? GetXLogReplayRecPtr(NULL) : GetFlushRecPtr(NULL);
}

/* The same for this node's own slot: to where a recovery would begin now. */
static XLogRecPtr
own_target(XLogRecPtr position)
{
	ControlFileData *control;
	XLogRecPtr	redo;
	bool		intact;

	/* (a checkpoint that has only begun does not count) */
	if (GetRedoRecPtr() <= position)
		return InvalidXLogRecPtr;
	control = get_controlfile(DataDir, &intact);
	redo = intact ? control->checkPointCopy.redo : InvalidXLogRecPtr;
	pfree(control);
	return redo > position ? redo : InvalidXLogRecPtr;
}

/*
 * A former primary's own slot has to stay where it was when it last held the
 * lease: from there on, its WAL may differ from the others'.
 */
static bool
is_concerned(const SurveyNode *node, const InstanceOrders *orders,
			 const Instance *instance)
{
	return !is_self(node) || instance->in_recovery || orders->writes;
}

static bool
slot_needs_care(const SurveyNode *node, XLogRecPtr here)
{
	char		name[LEASEHOLD_SLOT_NAME_LEN];
	XLogRecPtr	position;
	bool		active;

	leasehold_slot_name(node->name, name);
	if (!find_slot(name, &position, &active))
		return true;
	if (is_self(node))
		return own_target(position) != InvalidXLogRecPtr;
	return !active && slot_target(node, position, here) != InvalidXLogRecPtr;
}

/* Does a node of this group use this slot? */
static bool
slot_has_node(const char *name, const Peers *peers)
{
	char		expected[LEASEHOLD_SLOT_NAME_LEN];

	for (int i = 0; i < peers->n; i++)
	{
		leasehold_slot_name(peers->node[i].name, expected);
		if (strcmp(expected, name) == 0)
			return true;
	}
	return false;
}

/* Is it named like a node's slot? */
static bool
is_ours(const char *slot)
{
	return strncmp(slot, LEASEHOLD_SLOT_PREFIX, strlen(LEASEHOLD_SLOT_PREFIX)) == 0;
}

/*
 * One of our slots that a node had, but no node has any more; NULL if there is
 * none.  A slot that was made ahead for a standby to come has had no node yet.
 */
static char *
find_orphan(const Peers *peers)
{
	bool	   *had_node = leasehold_shared->slot_had_node;
	char	   *orphan = NULL;

	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	for (int i = 0; i < max_replication_slots && orphan == NULL; i++)
	{
		ReplicationSlot *slot = &ReplicationSlotCtl->replication_slots[i];
		const char *name = NameStr(slot->data.name);

		if (!slot->in_use || !SlotIsPhysical(slot) || !is_ours(name))
			had_node[i] = false;
		else if (slot_has_node(name, peers))
			had_node[i] = true;
		else if (had_node[i] && slot->active_pid == 0)
			orphan = pstrdup(name);
	}
	LWLockRelease(ReplicationSlotControlLock);
	return orphan;
}

/* A setting that not every server version has. */
static bool
is_on(const char *setting)
{
	const char *value = GetConfigOption(setting, true, false);

	return value != NULL && strcmp(value, "on") == 0;
}

/* The value that primary_conninfo should have; NULL if it is fine as it is. */
static char *
wanted_conninfo(const InstanceOrders *orders, const Instance *instance)
{
	char	   *wanted;
	char		slot[LEASEHOLD_SLOT_NAME_LEN];

	if (!setting_follow || !instance->in_recovery || !instance->standby ||
		orders->leader[0] == '\0')
		return NULL;
	wanted = conninfo_for_peer(orders->leader_address,
							   setting_peer_options ? setting_peer_options : "",
							   settings_node_name(),
							   is_on("sync_replication_slots") ? "postgres" : NULL);
	leasehold_slot_name(settings_node_name(), slot);
	if (wanted == NULL ||
		(PrimaryConnInfo != NULL && strcmp(wanted, PrimaryConnInfo) == 0 &&
		 PrimarySlotName != NULL && strcmp(slot, PrimarySlotName) == 0))
		return NULL;
	return wanted;
}

static bool
keeps_slots(const InstanceOrders *orders, const Instance *instance)
{
	return instance->known && !orders->superseded &&
		(!instance->in_recovery || instance->standby);
}

/* Does the server wait for others than it should? */
static bool
names_differ(const InstanceOrders *orders)
{
	return orders->manage_names &&
		strcmp(SyncRepStandbyNames ? SyncRepStandbyNames : "", orders->names) != 0;
}

/* The slot of the node that has every acknowledged write, if that is another. */
static void
synchronous_slot(char *name)
{
	KeeperStatus status = {0};
	const char *node;

	shared_read(&leasehold_shared->status, &status);
	node = syncset_node(status.sync_set);
	name[0] = '\0';
	if (node != NULL && node[0] != '\0' &&
		strcmp(node, settings_node_name()) != 0)
		leasehold_slot_name(node, name);
}

/*
 * 17+: logical slots that standbys are to have, too, must not run ahead of them.
 * The value that synchronized_standby_slots should have, in the order of the
 * slots; NULL if it is fine as it is.  A standby that is gone is waited for no
 * longer, unless it is the only one that may take over (leasehold.zero_loss).
 */
static char *
wanted_standby_slots(void)
{
	const char *present = GetConfigOption("synchronized_standby_slots", true, false);
	char		synchronous[LEASEHOLD_SLOT_NAME_LEN];
	StringInfoData wanted;
	bool		needed = false;

	if (present == NULL || RecoveryInProgress() || !is_on("allow_alter_system"))
		return NULL;
	synchronous_slot(synchronous);
	initStringInfo(&wanted);
	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	for (int i = 0; i < max_replication_slots; i++)
	{
		ReplicationSlot *slot = &ReplicationSlotCtl->replication_slots[i];
		const char *name = NameStr(slot->data.name);

		if (!slot->in_use)
			continue;
		needed |= compat_slot_fails_over(slot);
		if (SlotIsPhysical(slot) && is_ours(name) &&
			(slot->active_pid != 0 || strcmp(name, synchronous) == 0))
			appendStringInfo(&wanted, "%s%s", wanted.len > 0 ? "," : "", name);
	}
	LWLockRelease(ReplicationSlotControlLock);
	/* what is a user's is left alone as long as there is nothing to keep */
	if (!needed)
	{
		resetStringInfo(&wanted);
		if (!is_ours(present))
			return NULL;
	}
	return strcmp(wanted.data, present) != 0 ? wanted.data : NULL;
}

/*
 * 17+: a logical slot that was made here when this standby was the primary.  The
 * primary's slot of that name cannot be copied because of it, nor any other.
 * NULL if there is none, or if slots are not copied.
 */
static char *
find_former_slot(const InstanceOrders *orders, const Instance *instance)
{
	char	   *former = NULL;

	if (!setting_follow || !instance->in_recovery || !instance->standby ||
		orders->leader[0] == '\0' || !is_on("sync_replication_slots") ||
		!is_on("hot_standby_feedback") || !WalRcvStreaming())
		return NULL;
	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	for (int i = 0; i < max_replication_slots && former == NULL; i++)
	{
		ReplicationSlot *slot = &ReplicationSlotCtl->replication_slots[i];

		if (slot->in_use && slot->active_pid == 0 &&
			compat_slot_fails_over(slot) && !compat_slot_is_copy(slot))
			former = pstrdup(NameStr(slot->data.name));
	}
	LWLockRelease(ReplicationSlotControlLock);
	/* one that a primary makes is a consumer's */
	return RecoveryInProgress() ? former : NULL;
}

bool
errand_is_due(const InstanceOrders *orders, const Instance *instance)
{
	Peers		peers;
	XLogRecPtr	here;

	if (!instance->known)
		return false;
	if (names_differ(orders))
		return true;
	if (wanted_conninfo(orders, instance) != NULL ||
		wanted_standby_slots() != NULL ||
		find_former_slot(orders, instance) != NULL)
		return true;
	if (!keeps_slots(orders, instance) || !read_peers(&peers))
		return false;
	here = position_here();
	for (int i = 0; i < peers.n; i++)
		if (is_concerned(&peers.node[i], orders, instance) &&
			slot_needs_care(&peers.node[i], here))
			return true;
	return find_orphan(&peers) != NULL;
}

/* ------------------------------------------------------------------------
 * Following
 * ------------------------------------------------------------------------
 */

static void
alter_system(const char *name, const char *value)
{
	AlterSystemStmt *stmt = makeNode(AlterSystemStmt);
	A_Const    *text = makeNode(A_Const);

	text->val.sval.type = T_String;
	text->val.sval.sval = pstrdup(value);
	text->location = -1;
	stmt->setstmt = makeNode(VariableSetStmt);
	stmt->setstmt->kind = VAR_SET_VALUE;
	stmt->setstmt->name = pstrdup(name);
	stmt->setstmt->args = list_make1(text);
	AlterSystemSetConfigFile(stmt);
}

static void
follow(const InstanceOrders *orders, const Instance *instance)
{
	char	   *wanted = wanted_conninfo(orders, instance);
	char		slot[LEASEHOLD_SLOT_NAME_LEN];

	if (wanted == NULL)
		return;
	leasehold_slot_name(settings_node_name(), slot);
	alter_system("primary_slot_name", slot);
	alter_system("primary_conninfo", wanted);
	ereport(LOG,
			(errmsg("leasehold: this standby follows node \"%s\" from now on",
					orders->leader)));
	(void) kill(PostmasterPid, SIGHUP);
}

/* Whom commits wait for (leasehold.zero_loss). */
static void
set_names(const InstanceOrders *orders)
{
	char	   *slots = wanted_standby_slots();

	if (names_differ(orders))
		alter_system("synchronous_standby_names", orders->names);
	else if (slots == NULL)
		return;
	if (slots != NULL)
		alter_system("synchronized_standby_slots", slots);
	(void) kill(PostmasterPid, SIGHUP);
}

/* ------------------------------------------------------------------------
 * Slots
 * ------------------------------------------------------------------------
 */

static void
make_slot(const char *name)
{
	compat_create_physical_slot(name);
	ReplicationSlotReserveWal();
	ReplicationSlotMarkDirty();
	ReplicationSlotSave();
	ReplicationSlotRelease();
}

static void
advance_slot(const char *name, XLogRecPtr to)
{
	compat_acquire_slot(name);
	SpinLockAcquire(&MyReplicationSlot->mutex);
	if (MyReplicationSlot->data.restart_lsn < to)
		MyReplicationSlot->data.restart_lsn = to;
	SpinLockRelease(&MyReplicationSlot->mutex);
	ReplicationSlotMarkDirty();
	ReplicationSlotsComputeRequiredLSN();
	ReplicationSlotSave();
	ReplicationSlotRelease();
}

static void
keep_slot(const SurveyNode *node, XLogRecPtr here)
{
	char		name[LEASEHOLD_SLOT_NAME_LEN];
	XLogRecPtr	position;
	XLogRecPtr	to;
	bool		active;

	leasehold_slot_name(node->name, name);
	if (!find_slot(name, &position, &active))
		make_slot(name);
	else if (!active &&
			 (to = is_self(node) ? own_target(position) :
			  slot_target(node, position, here)) != InvalidXLogRecPtr)
		advance_slot(name, to);
}

static void
keep_slots(const InstanceOrders *orders, const Instance *instance)
{
	Peers		peers;
	XLogRecPtr	here = position_here();
	char	   *orphan;

	if (!read_peers(&peers))
		return;
	while ((orphan = find_orphan(&peers)) != NULL)
	{
		ReplicationSlotDrop(orphan, true);
		ereport(LOG,
				(errmsg("leasehold: replication slot \"%s\" is dropped, since its node is gone",
						orphan)));
	}
	for (int i = 0; i < peers.n; i++)
		if (is_concerned(&peers.node[i], orders, instance))
			keep_slot(&peers.node[i], here);
}

static void
drop_former_slots(const InstanceOrders *orders, const Instance *instance)
{
	char	   *former;

	while ((former = find_former_slot(orders, instance)) != NULL)
	{
		ReplicationSlotDrop(former, true);
		ereport(LOG,
				(errmsg("leasehold: logical replication slot \"%s\" of the former primary is dropped here, since node \"%s\" has it now",
						former, orders->leader)));
	}
}

void
leasehold_errand_main(Datum arg)
{
	InstanceOrders orders;
	Instance	instance;

	fence_process = FENCE_PROCESS_EXEMPT;
	workers_open_session(NULL);

	StartTransactionCommand();
	shared_read(&leasehold_shared->orders, &orders);
	shared_read(&leasehold_shared->instance, &instance);
	set_names(&orders);
	follow(&orders, &instance);
	if (keeps_slots(&orders, &instance))
		keep_slots(&orders, &instance);
	drop_former_slots(&orders, &instance);
	CommitTransactionCommand();
	proc_exit(0);
}
