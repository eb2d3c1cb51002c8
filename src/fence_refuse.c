/*
 * fence_refuse.c
 *		What is said when the fence refuses, or would have.
 *
 * In enforce mode an ERROR, SQLSTATE 25006, that names the statement and the
 * lease, who holds it under which epoch, and where to connect; in warn mode a
 * line in the log, once for each statement.
 *
 * Called from fence.c, which decides; nothing is decided here.  What is said
 * comes from the keeper's notice in shared memory, never from the network.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "tcop/utility.h"
#include "utils/timestamp.h"

#include "fence.h"
#include "fence_refuse.h"

/* warn mode: what was logged last, so that it is logged once. */
static const void *warned_of = NULL;
static TimestampTz warned_at = 0;

/* What is known of the lease, with its name at least. */
static void
read_notice(FenceNotice *notice)
{
	shared_read_notice(notice);
	if (notice->lease[0] == '\0')
		strlcpy(notice->lease, settings_lease(), sizeof(notice->lease));
}

static bool
held_elsewhere(const FenceNotice *notice)
{
	return notice->holder[0] != '\0' &&
		strcmp(notice->holder, notice->node) != 0;
}

/* Who holds it, and under which epoch: one full sentence, or two. */
static int
lease_detail(const FenceNotice *notice)
{
	const char *space = notice->reason[0] != '\0' ? " " : "";

	if (held_elsewhere(notice))
		return errdetail("Lease \"%s\" is held by node \"%s\" under epoch %lld.",
						 notice->lease, notice->holder,
						 (long long) notice->epoch);
	/* the keeper has not said anything since: it may be stopped */
	if (notice->holder[0] != '\0' && notice->reason[0] == '\0')
		return errdetail("This node held lease \"%s\" under epoch %lld until its time ran out; who holds it now is not known here.",
						 notice->lease, (long long) notice->epoch);
	return errdetail("Nobody holds lease \"%s\"; the highest epoch known is %lld.%s%s",
					 notice->lease, (long long) notice->epoch,
					 space, notice->reason);
}

static int
lease_hint(const FenceNotice *notice)
{
	if (!held_elsewhere(notice) || notice->address[0] == '\0')
		return 0;
	return errhint("Connect to node \"%s\" at %s.",
				   notice->holder, notice->address);
}

bool
fence_already_warned(const void *statement)
{
	TimestampTz started = GetCurrentStatementStartTimestamp();

	if (warned_of == statement && warned_at == started)
		return true;
	warned_of = statement;
	warned_at = started;
	return false;
}

/*
 * Refuse a statement: ERROR in enforce mode, a line in the log in warn mode.
 * "held" is the epoch held at this moment: if there is one, the node may write
 * but this transaction may not.
 */
void
fence_refuse_statement(const char *command, const void *statement, uint64 held)
{
	FenceNotice notice;

	if (setting_fence == FENCE_WARN)
	{
		fence_transaction.warned = true;
		if (fence_already_warned(statement))
			return;
		read_notice(&notice);
		ereport(LOG,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("would have refused %s: this node does not hold lease \"%s\"",
						command, notice.lease),
				 lease_detail(&notice)));
		return;
	}

	pg_atomic_fetch_add_u64(&fence_shared->refused, 1);
	read_notice(&notice);
	if (held != 0)
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot execute %s: this transaction has seen this node without lease \"%s\"",
						command, notice.lease),
				 errdetail("This node holds lease \"%s\" under epoch %lld now, but the transaction began before.",
						   notice.lease, (long long) held),
				 errhint("Start a new transaction.")));
	ereport(ERROR,
			(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
			 errmsg("cannot execute %s: this node does not hold lease \"%s\"",
					command, notice.lease),
			 lease_detail(&notice),
			 lease_hint(&notice)));
}

/*
 * The same for a commit.  "seen" says whether the fence let the transaction
 * write, so that it must have lost the lease since; else it wrote behind the
 * fence's back.
 */
void
fence_refuse_commit(uint64 held, bool seen)
{
	FenceNotice notice;

	if (setting_fence == FENCE_WARN && fence_transaction.warned)
		return;
	read_notice(&notice);
	if (setting_fence == FENCE_WARN)
	{
		fence_transaction.warned = true;
		ereport(LOG,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("would have refused to commit: this node does not hold lease \"%s\" (any more)",
						notice.lease),
				 lease_detail(&notice)));
		return;
	}

	pg_atomic_fetch_add_u64(&fence_shared->refused, 1);
	if (held != 0)
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot commit: lease \"%s\" was lost during this transaction",
						notice.lease),
				 errdetail("This node has come to hold lease \"%s\" again since, under epoch %lld.",
						   notice.lease, (long long) held),
				 errhint("Run the transaction again.")));
	ereport(ERROR,
			(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
			 seen ?
			 errmsg("cannot commit: lease \"%s\" was lost during this transaction",
					notice.lease) :
			 errmsg("cannot commit: this transaction wrote, and this node does not hold lease \"%s\"",
					notice.lease),
			 lease_detail(&notice),
			 lease_hint(&notice)));
}

/* A prepared transaction of another epoch, in an independent group. */
void
fence_refuse_prepared(const char *gid, uint64 prepared, uint64 held)
{
	FenceNotice notice;

	read_notice(&notice);
	if (setting_fence == FENCE_WARN)
	{
		ereport(LOG,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("would have refused COMMIT PREPARED: transaction \"%s\" was prepared under another epoch of lease \"%s\"",
						gid, notice.lease)));
		return;
	}
	pg_atomic_fetch_add_u64(&fence_shared->refused, 1);
	ereport(ERROR,
			(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
			 errmsg("cannot execute COMMIT PREPARED: transaction \"%s\" was prepared under another epoch of lease \"%s\"",
					gid, notice.lease),
			 prepared != 0 ?
			 errdetail("It was prepared under epoch %llu; this node holds epoch %llu.",
					   (unsigned long long) prepared,
					   (unsigned long long) held) :
			 errdetail("It was prepared before this server started, or while no lease governed it; this node holds epoch %llu.",
					   (unsigned long long) held),
			 errhint("Roll it back with ROLLBACK PREPARED.")));
}

/* The extension cannot be dropped while what it promises is relied upon. */
void
fence_refuse_drop(void)
{
	FenceNotice notice;

	read_notice(&notice);
	if (notice.lease[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("cannot drop extension \"leasehold\" while tables of this database are protected"),
				 errhint("Call leasehold.unprotect() for each of them first.")));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("cannot drop extension \"leasehold\" while lease \"%s\" governs this node",
					notice.lease),
			 errhint("Call leasehold.leave() first.")));
}

void
fence_log_local_ddl(const PlannedStmt *pstmt)
{
	if (fence_already_warned(pstmt))
		return;
	ereport(LOG,
			(errmsg("letting %s through on a node without its lease, because leasehold.local_ddl is on",
					CreateCommandName((Node *) pstmt))));
}

void
fence_log_withheld(FenceWithheld why, const char *lease)
{
	const char *not_told = setting_fence == FENCE_ENFORCE ?
		"not acknowledging a commit" : "would not have acknowledged a commit";
	FenceNotice notice;

	read_notice(&notice);
	if (lease != NULL)
		strlcpy(notice.lease, lease, sizeof(notice.lease));
	if (why == WITHHELD_UNCONFIRMED)
		ereport(LOG,
				(errcode(ERRCODE_ADMIN_SHUTDOWN),
				 errmsg("%s: no standby has confirmed it", not_told),
				 errdetail("The transaction has committed on this node; whether a standby has it is unknown, and its outcome is unknown to the client.")));
	else
		ereport(LOG,
				(errcode(ERRCODE_ADMIN_SHUTDOWN),
				 why == WITHHELD_LOST ?
				 errmsg("%s: lease \"%s\" was lost while it became durable",
						not_told, notice.lease) :
				 errmsg("%s: lease \"%s\" was lost before the answer had left",
						not_told, notice.lease),
				 errdetail("The transaction has committed on this node; its outcome is unknown to the client.")));
}

/*
 * Judged by the clock, not by what the keeper says: that one may be what has
 * stopped.
 */
bool
fence_feeds_standbys(void)
{
	LeaseholdShared *shared = leasehold_shared;
	FenceShared *fence = &shared->fence;

	if (pg_atomic_read_u32(&shared->superseded) != 0)
		return false;
	return setting_fence != FENCE_ENFORCE || !shared_is_governed(fence) ||
		pg_atomic_read_u32(&fence->physical) == 0 || RecoveryInProgress() ||
		shared_lease_epoch(&fence->instance) != 0 ||
		pg_atomic_read_u32(&fence->draining) != 0 ||
		pg_atomic_read_u32(&shared->end_question) == END_OF_SERVER;
}

void
fence_refuse_standby(void)
{
	bool		superseded = pg_atomic_read_u32(&leasehold_shared->superseded) != 0;
	FenceNotice notice;

	shared_read_notice(&notice);
	ereport(FATAL,
			(errcode(ERRCODE_CANNOT_CONNECT_NOW),
			 superseded ?
			 errmsg("this primary is superseded") :
			 errmsg("this primary does not hold its lease"),
			 superseded && notice.holder[0] == '\0' ?
			 errdetail("Another node has had lease \"%s\" since, the last epoch is " INT64_FORMAT "; what this instance would send may be on a dead timeline.",
					   notice.lease, notice.epoch) :
			 superseded ?
			 errdetail("Node \"%s\" took lease \"%s\" under epoch " INT64_FORMAT "; what this instance would send may be on a dead timeline.",
					   notice.holder, notice.lease, notice.epoch) :
			 errdetail("What this instance would send may be missing on the next holder of lease \"%s\".",
					   notice.lease),
			 notice.address[0] ?
			 errhint("Follow the instance at \"%s\".", notice.address) : 0));
}
