/*
 * reporter.c
 *		Which line of pg_hba.conf the other nodes meet here.
 *
 * To read pg_hba_file_rules takes a session, and the prober has none.  So it starts
 * a short-lived worker, at most one at a time: when somebody comes from elsewhere or
 * as somebody else, when the configuration was read anew, and now and then.  What
 * that finds out goes into shared memory and from there into this node's report.
 *
 * The upper half runs in the prober and never waits; the lower half runs in the
 * worker, which the fence lets pass: it writes nothing.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#include "fence.h"
#include "hba.h"
#include "prober.h"
#include "reporter.h"
#include "visitor.h"
#include "workers.h"

#define LOOK			CLOCK_S
#define EVERY			(60 * CLOCK_S)
#define POLL			(50 * CLOCK_MS)
#define RETRY			(30 * CLOCK_S)
#define PATIENCE_MS		20000	/* of the worker with a file that does not come */

/* ------------------------------------------------------------------------
 * In the prober
 * ------------------------------------------------------------------------
 */

/* Who comes, and from where: it is this process that writes what is read here. */
static void
look_for_visitors(Reporter *reporter, ClockTime now)
{
	Visitor    *visitor = palloc(sizeof(Visitor) * setting_peers_max);
	int			n = visitors_list(leasehold_paths, visitor, setting_peers_max);
	uint32		hash = hash_bytes((unsigned char *) visitor, sizeof(Visitor) * n);

	if (hash != reporter->visitors || n != reporter->nvisitors)
		reporter->next = now;
	reporter->visitors = hash;
	reporter->nvisitors = n;
	reporter->look = now + LOOK;
	pfree(visitor);
}

static void
retry_later(Reporter *reporter, ClockTime now, const char *hint)
{
	if (reporter->failures++ == 0)
		ereport(LOG,
				(errmsg("leasehold: pg_hba.conf could not be read for the other nodes"),
				 errdetail("It is tried again."),
				 errhint("%s", hint)));
	reporter->next = now + RETRY;
}

/*
 * A worker fails for good when its database is not there; so every other attempt
 * goes by way of template1.
 */
static void
start(Reporter *reporter, ClockTime now)
{
	reporter->began = now;
	reporter->next = now + EVERY;
	reporter->worker = workers_begin("reporter", "leasehold_reporter_main",
									 BgWorkerStart_ConsistentState, (Datum) 0,
									 reporter->failures % 2 == 0 ? "postgres" :
									 "template1");
	if (reporter->worker == NULL)
		retry_later(reporter, now,
					"The server has no free worker process: raise max_worker_processes.");
}

/* False if somebody is in the way just now. */
static bool
read_lines(Reporter *reporter, uint32 *lines)
{
	if (!LWLockConditionalAcquire(leasehold_paths->lock, LW_SHARED))
		return false;
	reporter->taken = leasehold_paths->hba_at;
	*lines = hash_bytes((unsigned char *) leasehold_paths->hba,
						strlen(leasehold_paths->hba));
	LWLockRelease(leasehold_paths->lock);
	return true;
}

/* The worker has ended: has it written anything, and anything new? */
static void
judge(Prober *prober, ClockTime now)
{
	Reporter   *reporter = &prober->reporter;
	uint32		lines;

	if (!read_lines(reporter, &lines))
		return;
	pfree(reporter->worker);
	reporter->worker = NULL;
	if (reporter->taken < reporter->began)
	{
		retry_later(reporter, now,
					"See the message that the server logged just before this one.");
		return;
	}
	reporter->failures = 0;
	if (lines != reporter->lines)
		prober->report_due = true;
	reporter->lines = lines;
}

void
reporter_step(Prober *prober, ClockTime now)
{
	Reporter   *reporter = &prober->reporter;
	pid_t		pid;

	if (now >= reporter->look)
		look_for_visitors(reporter, now);
	if (reporter->worker != NULL)
	{
		if (GetBackgroundWorkerPid(reporter->worker, &pid) == BGWH_STOPPED)
			judge(prober, now);
	}
	/* a node that is alone has nothing to tell */
	else if (now >= reporter->next &&
			 (reporter->nvisitors > 0 || reporter->taken != 0))
		start(reporter, now);
}

ClockTime
reporter_due(const Prober *prober)
{
	const Reporter *reporter = &prober->reporter;

	if (reporter->worker != NULL)
		return clock_now() + POLL;
	if (reporter->nvisitors == 0)
		return reporter->look;
	return clock_min(reporter->look, reporter->next);
}

void
reporter_hasten(Prober *prober)
{
	prober->reporter.next = 0;
}

/* ------------------------------------------------------------------------
 * In the worker
 * ------------------------------------------------------------------------
 */

/* With TLS and without; over a socket of this machine there is no TLS. */
static void
write_lines(const Visitor *visitor, char *text, size_t *used)
{
	ReportHba	met;

	for (int encrypted = 0; encrypted <= (visitor->local ? 0 : 1); encrypted++)
	{
		hba_meet(visitor, encrypted, &met);
		(void) report_write_hba(text, HBA_TEXT_SIZE, used, &met);
	}
}

void
leasehold_reporter_main(Datum arg)
{
	char	   *text;
	size_t		used = 0;
	Visitor    *visitor;
	int			n;

	fence_process = FENCE_PROCESS_EXEMPT;
	workers_open_session(MyBgworkerEntry->bgw_extra);
	enable_timeout_after(STATEMENT_TIMEOUT, PATIENCE_MS);
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	text = palloc0(HBA_TEXT_SIZE);
	visitor = palloc(sizeof(Visitor) * setting_peers_max);
	n = visitors_list(paths_copy(), visitor, setting_peers_max);
	SPI_connect();
	for (int i = 0; i < n; i++)
		write_lines(&visitor[i], text, &used);
	SPI_finish();

	LWLockAcquire(leasehold_paths->lock, LW_EXCLUSIVE);
	strlcpy(leasehold_paths->hba, text, HBA_TEXT_SIZE);
	leasehold_paths->hba_at = clock_now();
	LWLockRelease(leasehold_paths->lock);
	PopActiveSnapshot();
	CommitTransactionCommand();
	shared_wake_prober();
	proc_exit(0);
}
