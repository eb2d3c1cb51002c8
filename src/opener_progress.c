/*
 * opener_progress.c
 *		How far a subscription of this database has come.
 *
 * Read from shared memory: the server's own workers keep it there.  Must never
 * wait.
 */
#include "postgres.h"

#include "access/transam.h"
#include "nodes/pg_list.h"
#include "replication/origin.h"
#include "replication/worker_internal.h"
#include "storage/proc.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "opener.h"

/* WAL pages of the publisher: what it flushed may end behind a page's header. */
#define PAGE_HEADER		24

/*
 * The oldest transaction of the subscription's workers that is within its commit.
 * From 16 on a large one has a worker of its own, which notes its commit as that of
 * the subscription; others of this kind may go on for long, and do not count.  Read
 * after the position of the commit: between noting that and being seen, a
 * transaction first delays checkpoints, and then is known to have committed.
 */
static TransactionId
read_committing(Oid subid)
{
	TransactionId oldest = InvalidTransactionId;
	List	   *others = NIL;
	ListCell   *cell;

	LWLockAcquire(LogicalRepWorkerLock, LW_SHARED);
	foreach(cell, compat_subscription_workers(subid))
	{
		const LogicalRepWorker *worker = lfirst(cell);
		TransactionId xid = ((volatile PGPROC *) worker->proc)->xid;

		if (OidIsValid(worker->relid) || !TransactionIdIsValid(xid))
			continue;
		pg_read_barrier();
		if (((volatile PGPROC *) worker->proc)->delayChkptFlags == 0)
			others = lappend_oid(others, xid);
		else if (!TransactionIdIsValid(oldest) || TransactionIdPrecedes(xid, oldest))
			oldest = xid;
	}
	LWLockRelease(LogicalRepWorkerLock);
	foreach(cell, others)
	{
		TransactionId xid = lfirst_oid(cell);

		if (TransactionIdDidCommit(xid) &&
			(!TransactionIdIsValid(oldest) || TransactionIdPrecedes(xid, oldest)))
			oldest = xid;
	}
	list_free(others);
	return oldest;
}

/*
 * What the worker says in pg_stat_subscription, latest_end_lsn, moves when the
 * publisher sends where it is, right after it has sent all that there is; but not if
 * it has heard by then that the last commit is applied.  So the replication origin
 * counts, too: that moves within the commit itself.
 */
void
progress_read(const PlanWay *way, Progress *progress)
{
	LogicalRepWorker *worker;
	TimestampTz heard = 0;

	memset(progress, 0, sizeof(*progress));
	progress->heard_ms = -1;
	if (way->origin != InvalidRepOriginId)
		progress->committed = replorigin_get_progress(way->origin, false);
	LWLockAcquire(LogicalRepWorkerLock, LW_SHARED);
	worker = logicalrep_worker_find(way->subid, InvalidOid, true);
	if (worker != NULL)
	{
		progress->runs = true;
		progress->seen = worker->reply_lsn;
		heard = worker->last_recv_time;
	}
	LWLockRelease(LogicalRepWorkerLock);
	progress->committing = read_committing(way->subid);
	if (heard > 0)
		progress->heard_ms = TimestampDifferenceMilliseconds(heard, GetCurrentTimestamp());
}

/*
 * The end of what was flushed there.  A record that ends with its page has its
 * end noted there as the place where the next one can begin, behind the header,
 * but not where it is read.
 */
static uint64
wanted_lsn(uint64 lsn)
{
	return lsn % XLOG_BLCKSZ == PAGE_HEADER ? lsn - PAGE_HEADER : lsn;
}

/*
 * Whoever reads a table after it is opened has to see the last of it.  A commit
 * that was just noted is seen when its transaction has ended: when none is within
 * its commit any more but those that began after we first came by.
 */
static bool
is_there(PlanWay *way, const Progress *progress, uint64 lsn)
{
	if (progress->seen >= lsn)
		return true;
	if (progress->committed < lsn)
		return false;
	if (way->come_to != lsn)
		way->next_then = XidFromFullTransactionId(ReadNextFullTransactionId());
	way->come_to = lsn;
	return !TransactionIdIsValid(progress->committing) ||
		TransactionIdFollowsOrEquals(progress->committing, way->next_then);
}

bool
progress_come_to(PlanWay *way, uint64 lsn, bool *runs, char *why)
{
	Progress	progress;

	progress_read(way, &progress);
	*runs = progress.runs;
	if (is_there(way, &progress, wanted_lsn(lsn)))
		return true;
	snprintf(why, OPENING_WHY_LEN, "subscription \"%.40s\" %sas applied up to %X/%X of %X/%X",
			 way->name, progress.runs ? "h" : "does not run, and h",
			 LSN_FORMAT_ARGS(Max(progress.seen, progress.committed)),
			 LSN_FORMAT_ARGS(lsn));
	return false;
}
