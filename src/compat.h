/*
 * compat.h
 *		Every difference between server versions, in one place.
 *
 * Layer 1.  No other file of the project looks at PG_VERSION_NUM.
 */
#ifndef LEASEHOLD_COMPAT_H
#define LEASEHOLD_COMPAT_H

#include "postgres.h"

/*
 * The server's headers for its client connections ask for those of GSSAPI,
 * which need not be installed and of which nothing here depends.
 */
#undef ENABLE_GSS

#include "miscadmin.h"
#include "replication/walsender_private.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/sinvaladt.h"
#include "utils/backend_status.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 190000
#error "leasehold needs PostgreSQL 15 to 18"
#endif

#if PG_VERSION_NUM >= 170000
#include "storage/procnumber.h"
#include "utils/resowner.h"
#endif
#if PG_VERSION_NUM >= 180000
#include "storage/waiteventset.h"
#endif

/* Before a declaration: the function does not return. */
#if PG_VERSION_NUM >= 180000
#define COMPAT_NORETURN pg_noreturn
#else
#define COMPAT_NORETURN __attribute__((noreturn))
#endif

/*
 * For the few functions that run with every write: all that lies on their stack
 * is the time, and to guard it would cost more than to compare it.
 */
#if __has_attribute(no_stack_protector)
#define COMPAT_NO_STACK_PROTECTOR __attribute__((no_stack_protector))
#else
#define COMPAT_NO_STACK_PROTECTOR
#endif

/* The place of a process in arrays sized by all possible processes. */
#if PG_VERSION_NUM >= 170000
#define compat_proc_number() ((int) MyProcNumber)
#define compat_proc_number_of(proc) ((int) GetNumberFromPGProc(proc))
#else
#define compat_proc_number() (MyProc->pgprocno)
#define compat_proc_number_of(proc) ((proc)->pgprocno)
#endif

/* ---- the workers ---- */

#if PG_VERSION_NUM >= 170000
#define compat_create_wait_set(n) CreateWaitEventSet(NULL, (n))
#else
#define compat_create_wait_set(n) CreateWaitEventSet(TopMemoryContext, (n))
#endif

/* A wait event of our own, where the server lets extensions name them. */
#if PG_VERSION_NUM >= 170000
#define compat_wait_event(name) \
	({ static uint32 event_ = 0; \
	   if (event_ == 0) event_ = WaitEventExtensionNew(name); \
	   event_; })
#else
#define compat_wait_event(name) PG_WAIT_EXTENSION
#endif

/*
 * A worker without a database is not seen in pg_stat_activity unless it shows
 * itself.  Up to 16 the places there are those of the invalidation queue: as one
 * that only sends, this process need not read it.
 */
static inline void
compat_show_worker(void)
{
#if PG_VERSION_NUM < 170000
	SharedInvalBackendInit(true);
#endif
	InitializeSessionUserIdStandalone();
	pgstat_beinit();
#if PG_VERSION_NUM >= 180000
	pgstat_bestart_initial();
	pgstat_bestart_final();
#else
	pgstat_bestart();
#endif
}

/* ---- replication slots ---- */

#if PG_VERSION_NUM >= 170000
#define compat_create_physical_slot(name) \
	ReplicationSlotCreate((name), false, RS_PERSISTENT, false, false, false)
#else
#define compat_create_physical_slot(name) \
	ReplicationSlotCreate((name), false, RS_PERSISTENT, false)
#endif

#if PG_VERSION_NUM >= 180000
#define compat_acquire_slot(name) ReplicationSlotAcquire((name), true, true)
#else
#define compat_acquire_slot(name) ReplicationSlotAcquire((name), true)
#endif

/* Is it a logical slot that standbys are to have, too; is it a standby's copy (17+)? */
#if PG_VERSION_NUM >= 170000
#define compat_slot_fails_over(slot) ((slot)->data.failover)
#define compat_slot_is_copy(slot) ((slot)->data.synced)
#else
#define compat_slot_fails_over(slot) ((void) (slot), false)
#define compat_slot_is_copy(slot) ((void) (slot), false)
#endif

/* ---- logical replication ---- */

/* A subscription's workers; the caller holds LogicalRepWorkerLock. */
#if PG_VERSION_NUM >= 180000
#define compat_subscription_workers(subid) \
	logicalrep_workers_find((subid), true, false)
#else
#define compat_subscription_workers(subid) \
	logicalrep_workers_find((subid), true)
#endif

/* ---- synchronous replication ---- */

/* Do commits wait for a standby?  Minor versions of 2025 tell more. */
#ifdef SYNC_STANDBY_DEFINED
#define compat_sync_standbys_defined() \
	((((volatile WalSndCtlData *) WalSndCtl)->sync_standbys_status & \
	  SYNC_STANDBY_DEFINED) != 0)
#else
#define compat_sync_standbys_defined() \
	(((volatile WalSndCtlData *) WalSndCtl)->sync_standbys_defined)
#endif

/* ---- pg_hba_file_rules ---- */

/* 16+: other files may be included, names may be regular expressions. */
#if PG_VERSION_NUM >= 160000
#define COMPAT_HBA_NUMBER "r.rule_number"
#define COMPAT_HBA_FILE "r.file_name"
#define COMPAT_HBA_REGEX "true"
#else
#define COMPAT_HBA_NUMBER "r.line_number"
#define COMPAT_HBA_FILE "NULL::text"
#define COMPAT_HBA_REGEX "false"
#endif

/* ---- the fence ---- */

/* ExecutorRun lost an argument in 18. */
#if PG_VERSION_NUM >= 180000
#define COMPAT_EXECUTOR_RUN_ARGS \
	QueryDesc *queryDesc, ScanDirection direction, uint64 count
#define COMPAT_EXECUTOR_RUN_PASS queryDesc, direction, count
#else
#define COMPAT_EXECUTOR_RUN_ARGS \
	QueryDesc *queryDesc, ScanDirection direction, uint64 count, \
	bool execute_once
#define COMPAT_EXECUTOR_RUN_PASS queryDesc, direction, count, execute_once
#endif

#if PG_VERSION_NUM >= 170000
#define compat_is_autovacuum_worker() AmAutoVacuumWorkerProcess()
#else
#define compat_is_autovacuum_worker() IsAutoVacuumWorkerProcess()
#endif

/*
 * The permissions that a plan needs stand in its range table (15) or in a list
 * of their own (16+).  The members that we read have the same names.  A table
 * that a statement does not name, such as a partition, has none.
 */
#if PG_VERSION_NUM >= 160000
#define compat_permissions(stmt) ((stmt)->permInfos)
#define compat_table_is_named(entry) ((entry)->perminfoindex != 0)
#define compat_permission_at(cell) lfirst_node(RTEPermissionInfo, cell)
#define COMPAT_PERMISSION RTEPermissionInfo
#else
#define compat_permissions(stmt) ((stmt)->rtable)
#define compat_table_is_named(entry) ((entry)->requiredPerms != 0)
#define compat_permission_at(cell) lfirst_node(RangeTblEntry, cell)
#define COMPAT_PERMISSION RangeTblEntry
#endif

/* The table that a transaction's counts of changed rows belong to. */
#if PG_VERSION_NUM >= 160000
#define compat_counted_table(trans) ((trans)->parent->id)
#else
#define compat_counted_table(trans) ((trans)->parent->t_id)
#endif

/* Look a setting up by its name; NULL if there is none. */
#if PG_VERSION_NUM >= 160000
#define compat_find_setting(name) find_option(name, false, true, LOG)
#else
static inline struct config_generic *
compat_find_setting(const char *name)
{
	struct config_generic **settings = get_guc_variables();

	for (int i = 0; i < GetNumConfigOptions(); i++)
	{
		if (strcmp(settings[i]->name, name) == 0)
			return settings[i];
	}
	return NULL;
}
#endif

/* All processes that can have a transaction, prepared ones included. */
static inline int
compat_proc_count(void)
{
	return (int) ProcGlobal->allProcCount;
}

static inline volatile PGPROC *
compat_proc(int i)
{
	return &ProcGlobal->allProcs[i];
}

#endif							/* LEASEHOLD_COMPAT_H */
