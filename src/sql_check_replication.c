/*
 * sql_check_replication.c
 *		leasehold.check(), where the lease governs a primary and its standbys:
 *		what would keep a node from taking over, from following, or from coming
 *		back.
 *
 * Looks at this instance alone.  Must never raise an error for what it finds.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "replication/slot.h"
#include "replication/walreceiver.h"
#include "replication/walsender.h"
#include "utils/guc.h"

#include "sql_check.h"
#include "syncset.h"

/* Keeper, steward, prober, one errand, and the server's own launcher. */
#define WORKERS_MIN		5

/* For a base backup and its WAL, beside the standbys. */
#define SENDERS_SPARE	2

static int
count_peers(void)
{
	Survey	   *survey = sql_survey();
	int			n = 0;

	for (int i = 0; i < survey->nnodes; i++)
		n += strcmp(survey->node[i].name, settings_node_name()) != 0 &&
			strcmp(survey->node[i].role, ROLE_UNGOVERNED) != 0;
	return n;
}

/* R12 */
static void
check_candidacy(Check *check)
{
	const char *fault = check->status->candidacy_fault;

	check_put(check, "candidacy", fault[0] == '\0',
			  fault[0] == '\0' ? "This instance may take the lease." : fault,
			  "A node that has diverged is brought back by leasehold-rejoin; one of another database system has to be made anew, as a standby of the holder.");
}

static void
check_hot_standby(Check *check)
{
	check_put(check, "hot_standby", EnableHotStandby,
			  EnableHotStandby ? "hot_standby is on." :
			  "hot_standby is off: as a standby this node cannot follow a new primary by itself.",
			  "Set hot_standby to on and restart the server.");
}

/* What pg_rewind needs, should this node have to come back. */
static void
check_rewind(Check *check)
{
	bool		ok = DataChecksumsEnabled() || wal_log_hints;

	check_put(check, "wal_log_hints", ok,
			  ok ? "This node can be rewound." :
			  "Data checksums and wal_log_hints are both off: once superseded, this node can come back only by a new base backup.",
			  "Set wal_log_hints to on and restart the server.");
}

static void
check_limit(Check *check, const char *setting, int value, int needed,
			const char *what)
{
	check_put(check, setting, value >= needed,
			  psprintf("%s is %d; %d are needed for %s.", setting, value,
					   needed, what),
			  psprintf("Set %s to at least %d and restart the server.", setting,
					   needed));
}

static void
check_limits(Check *check)
{
	int			peers = count_peers();

	check_limit(check, "max_worker_processes", max_worker_processes,
				WORKERS_MIN, "the workers of leasehold and of the server");
	check_limit(check, "max_wal_senders", max_wal_senders,
				peers + SENDERS_SPARE, "the other nodes and a base backup");
	check_limit(check, "max_replication_slots", max_replication_slots,
				peers + 1, "the nodes of the group");
}

/* Slots of nodes that are down keep WAL; something has to bound that. */
static void
check_slot_size(Check *check)
{
	bool		ok = max_slot_wal_keep_size_mb >= 0;

	check_put(check, "max_slot_wal_keep_size", ok,
			  ok ? psprintf("A node that is down makes this one keep at most %d MB of WAL.",
							max_slot_wal_keep_size_mb) :
			  "max_slot_wal_keep_size is -1: a node that is down makes this one keep WAL until the disk is full.",
			  "Set max_slot_wal_keep_size to what the disk can spare, and reload.");
}

/* Following and the synchronous standby are written by ALTER SYSTEM. */
static void
check_alter_system(Check *check)
{
	const char *allowed = GetConfigOption("allow_alter_system", true, false);
	bool		ok = allowed == NULL || strcmp(allowed, "on") == 0;

	if (!setting_follow && setting_zero_loss == SYNC_OFF)
		return;
	check_put(check, "allow_alter_system", ok,
			  ok ? "The configuration can be changed by ALTER SYSTEM." :
			  "allow_alter_system is off: primary_conninfo and synchronous_standby_names cannot be kept right.",
			  "Set allow_alter_system to on and reload; or set leasehold.follow and leasehold.zero_loss to off and do their work by other means.");
}

/* 17+: a standby that is to have copies of logical slots. */
static void
check_slot_copies(Check *check)
{
	const char *wanted = GetConfigOption("sync_replication_slots", true, false);
	const char *fault =
		wal_level < WAL_LEVEL_LOGICAL ? "wal_level is below logical" :
		!hot_standby_feedback ? "hot_standby_feedback is off" : NULL;

	if (wanted == NULL || strcmp(wanted, "on") != 0)
		return;
	check_put(check, "sync_replication_slots", fault == NULL,
			  fault == NULL ? "As a standby this node has copies of logical slots." :
			  psprintf("sync_replication_slots is on, but %s: as a standby this node has no copies of logical slots.",
					   fault),
			  "Set wal_level to logical and hot_standby_feedback to on, and restart the server.");
}

static void
check_superseded(Check *check)
{
	bool		ok = setting_on_superseded != ON_SUPERSEDED_REJOIN ||
		(setting_rejoin_command != NULL && setting_rejoin_command[0] != '\0');

	check_put(check, "on_superseded", ok,
			  ok ? "What becomes of a superseded primary is settled." :
			  "leasehold.on_superseded is rejoin, but leasehold.rejoin_command is empty.",
			  "Set leasehold.rejoin_command, and reload.");
}

static void
check_streaming(Check *check)
{
	bool		ok;

	if (!RecoveryInProgress())
		return;
	ok = WalRcvStreaming();
	check_put(check, "streaming", ok,
			  ok ? "This standby receives WAL." :
			  "This standby does not receive WAL.",
			  "The server's log says why; leasehold.peer_options has to name a user that may replicate, and the holder's pg_hba.conf has to let it in.");
}

static void
check_zero_loss(Check *check)
{
	const char *node = syncset_node(check->status->sync_set);
	bool		held = check->status->state == NODE_HOLDER;
	bool		ok = node != NULL && node[0] != '\0';

	if (setting_zero_loss == SYNC_OFF || !held)
		return;
	check_put(check, "zero_loss", ok,
			  ok ? psprintf("Node \"%s\" has every acknowledged write.", node) :
			  setting_zero_loss == SYNC_STRICT ?
			  "No standby has every acknowledged write: writes wait." :
			  "No standby has every acknowledged write: writes go on alone, and nobody takes over.",
			  "Start a standby, or see why none streams.");
	check_put(check, "synchronous_commit",
			  synchronous_commit >= SYNCHRONOUS_COMMIT_REMOTE_FLUSH,
			  "Sessions with a synchronous_commit below on are outside the promise of leasehold.zero_loss.",
			  "Set synchronous_commit to on and reload.");
}

void
check_replication(Check *check)
{
	check_candidacy(check);
	check_hot_standby(check);
	check_rewind(check);
	check_limits(check);
	check_slot_size(check);
	check_alter_system(check);
	check_slot_copies(check);
	check_superseded(check);
	check_streaming(check);
	check_zero_loss(check);
}
