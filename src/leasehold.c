/*
 * leasehold.c
 *		The way in: settings, shared memory, hooks, workers, in this order.
 *
 * Layer 5.  Loaded by the postmaster (shared_preload_libraries) it arms the
 * fence and starts the workers; loaded by a session only, for instance by
 * CREATE EXTENSION, it does neither, and every function says what to do.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

#include "conninfo.h"
#include "farewell.h"
#include "fence.h"
#include "settings.h"
#include "shared.h"
#include "workers.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

void
_PG_init(void)
{
	bool		preloaded = process_shared_preload_libraries_in_progress;

	settings_judge_conninfo = conninfo_judge;
	settings_define(preloaded);

	/* single-user mode and pg_upgrade are the operator's own hands */
	if (!preloaded || !IsPostmasterEnvironment || IsBinaryUpgrade)
		return;
	shared_request_hooks();
	farewell_install();
	fence_install();
	workers_register();
}
