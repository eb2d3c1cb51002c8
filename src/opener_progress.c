/*
 * opener_progress.c
 *		How far a subscription of this database has come.
 *
 * Read from shared memory: the server's own workers keep it there.  Must never
 * wait.
 */
#include "postgres.h"

#include "replication/origin.h"
#include "replication/worker_internal.h"
#include "storage/proc.h"
#include "utils/timestamp.h"

#include "opener.h"

/* WAL pages of the publisher: what it flushed may end behind a page's header. */
#define PAGE_HEADER		24

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
		/* read after the position of the commit */
		progress->running = worker->proc->xid;
		heard = worker->last_recv_time;
	}
	LWLockRelease(LogicalRepWorkerLock);
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
 * that was just noted is seen when its transaction has ended: when its worker has
 * none, or another one than when we first came by.
 */
static bool
is_there(PlanWay *way, const Progress *progress, uint64 lsn)
{
	if (progress->seen >= lsn)
		return true;
	if (progress->committed < lsn)
		return false;
	if (TransactionIdIsValid(progress->running) &&
		(!TransactionIdIsValid(way->committing) ||
		 way->committing == progress->running))
	{
		way->committing = progress->running;
		return false;
	}
	return true;
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
