/*
 * workers.c
 *		The background workers: registration and what their loops share.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "utils/guc.h"

#include "workers.h"

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
	register_one("keeper", "leasehold_keeper_main", 1);
	register_one("steward", "leasehold_steward_main", 1);
	register_one("prober", "leasehold_prober_main", 5);
}

void
workers_start(void)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	ConfigReloadPending = true;
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
