/*
 * workers.c
 *		The background workers: registration and what their loops share.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/pidfile.h"

#include "compat.h"
#include "workers.h"

/* From one start of a worker to the next. */
#define START_INTERVAL	CLOCK_S

/*
 * A worker that ends with status 0 is never started again, so all of ours end
 * with status 1, in a shutdown too; the postmaster does not restart them then.
 */
static void
register_one(const char *what, const char *function, int restart_s)
{
	BackgroundWorker worker = {0};

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
	worker.bgw_start_time = BgWorkerStart_PostmasterStart;
	worker.bgw_restart_time = restart_s;
	snprintf(worker.bgw_name, BGW_MAXLEN, "leasehold %s", what);
	snprintf(worker.bgw_type, BGW_MAXLEN, "leasehold %s", what);
	snprintf(worker.bgw_library_name, MAXPGPATH, "leasehold");
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "%s", function);
	RegisterBackgroundWorker(&worker);
}

void
workers_register(void)
{
	/* a lease waits for these two: see workers_take_seat() */
	register_one("keeper", "leasehold_keeper_main", 0);
	register_one("steward", "leasehold_steward_main", 0);
	register_one("prober", "leasehold_prober_main", 5);
}

void
workers_start(void)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	compat_show_worker();
	ConfigReloadPending = true;
}

/*
 * The postmaster's own pause before it starts a worker again would be the same
 * for one that was told to end, and whose lease runs out meanwhile, as for one
 * that fails at every start and must not keep the machine busy.
 */
void
workers_take_seat(WorkerSeat *seat)
{
	ClockTime	began = (ClockTime) pg_atomic_read_u64(&seat->began);
	ClockTime	now = clock_now();

	while (began != 0 && now < began + START_INTERVAL && !ShutdownRequestPending)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 clock_wait_ms(now, began + START_INTERVAL),
						 compat_wait_event("LeaseholdWorkerStart"));
		ResetLatch(MyLatch);
		now = clock_now();
	}
	pg_atomic_write_u64(&seat->began, (uint64) now);
	shared_take_seat(seat);
}

BackgroundWorkerHandle *
workers_begin(const char *what, const char *function, BgWorkerStartTime when,
			  Datum arg, const char *extra)
{
	BackgroundWorker worker = {0};
	BackgroundWorkerHandle *handle = NULL;
	MemoryContext context;
	bool		registered;

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = when;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	snprintf(worker.bgw_name, BGW_MAXLEN, "leasehold %s", what);
	snprintf(worker.bgw_type, BGW_MAXLEN, "leasehold %s", what);
	snprintf(worker.bgw_library_name, MAXPGPATH, "leasehold");
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "%s", function);
	worker.bgw_main_arg = arg;
	strlcpy(worker.bgw_extra, extra, BGW_EXTRALEN);

	/* the handle has to outlive this turn of the caller's loop */
	context = MemoryContextSwitchTo(TopMemoryContext);
	registered = RegisterDynamicBackgroundWorker(&worker, &handle);
	MemoryContextSwitchTo(context);
	return registered ? handle : NULL;
}

void
workers_open_session(const char *database)
{
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(database, NULL, BGWORKER_BYPASS_ALLOWCONN);
	if (database == NULL)
		return;
	/* whatever the database, the role or the configuration say */
	SetConfigOption("default_transaction_read_only", "off", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("search_path", "pg_catalog", PGC_SUSET, PGC_S_OVERRIDE);
}

bool
workers_reload(void)
{
	if (!ConfigReloadPending)
		return false;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	return true;
}

/*
 * Does the server end, or was a process told to end alone?  The postmaster notes
 * in its lock file that it stops before it tells anybody to.  In doubt it stops.
 */
bool
workers_server_is_ending(void)
{
	FILE	   *file = AllocateFile("postmaster.pid", "r");
	char		line[MAXPGPATH + 2] = "";
	int			n = 0;

	if (file == NULL)
		return true;
	while (n < LOCK_FILE_LINE_PM_STATUS && fgets(line, sizeof(line), file) != NULL)
		n++;
	FreeFile(file);
	return n < LOCK_FILE_LINE_PM_STATUS ||
		strncmp(line, PM_STATUS_STOPPING, strlen(PM_STATUS_STOPPING)) == 0;
}
