/*
 * fence_prepared.c
 *		Under which epoch each prepared transaction was prepared.
 *
 * In a group of independent nodes a prepared transaction may be committed only
 * under the epoch that prepared it.  A prepared transaction outlives the
 * server, this table does not, and need not: every run of the postmaster holds
 * its leases under new epochs, so a transaction that the table does not know
 * was prepared under an earlier one, and can only be rolled back.  The same
 * goes for one that was prepared before the lease governed this node.
 *
 * Called from fence.c.  A missing entry refuses a commit; it never allows one.
 */
#include "postgres.h"

#include "access/twophase.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/builtins.h"

#include "fence_prepared.h"
#include "fence_statement.h"

#define TRANCHE "leasehold_prepared"

typedef struct PreparedEntry
{
	uint64		epoch;			/* 0: unused */
	char		gid[GIDSIZE];
} PreparedEntry;

typedef struct PreparedTable
{
	int			size;
	PreparedEntry entry[FLEXIBLE_ARRAY_MEMBER];
} PreparedTable;

char		fence_preparing_gid[GIDSIZE];

static PreparedTable *table = NULL;
static LWLock *lock = NULL;

static shmem_request_hook_type previous_shmem_request = NULL;
static shmem_startup_hook_type previous_shmem_startup = NULL;

static Size
table_size(void)
{
	return add_size(offsetof(PreparedTable, entry),
					mul_size(max_prepared_xacts, sizeof(PreparedEntry)));
}

static void
prepared_shmem_request(void)
{
	if (previous_shmem_request)
		previous_shmem_request();
	RequestAddinShmemSpace(table_size());
	RequestNamedLWLockTranche(TRANCHE, 1);
}

static void
prepared_shmem_startup(void)
{
	bool		found;

	if (previous_shmem_startup)
		previous_shmem_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	table = ShmemInitStruct("leasehold prepared transactions", table_size(),
							&found);
	if (!found)
	{
		memset(table, 0, table_size());
		table->size = max_prepared_xacts;
	}
	lock = &GetNamedLWLockTranche(TRANCHE)->lock;
	LWLockRelease(AddinShmemInitLock);
}

void
fence_prepared_install(void)
{
	previous_shmem_request = shmem_request_hook;
	shmem_request_hook = prepared_shmem_request;
	previous_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = prepared_shmem_startup;
}

/* The entry of a gid, or NULL; "" finds an unused one.  Needs the lock. */
static PreparedEntry *
find_entry(const char *gid)
{
	for (int i = 0; i < table->size; i++)
	{
		PreparedEntry *entry = &table->entry[i];

		if (gid[0] == '\0' ? entry->epoch == 0 :
			entry->epoch != 0 && strcmp(entry->gid, gid) == 0)
			return entry;
	}
	return NULL;
}

void
fence_prepared_remember(const char *gid, uint64 epoch)
{
	PreparedEntry *entry;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = find_entry(gid);
	if (entry == NULL)
		entry = find_entry("");
	if (entry != NULL)
	{
		strlcpy(entry->gid, gid, sizeof(entry->gid));
		entry->epoch = epoch;
	}
	LWLockRelease(lock);
}

uint64
fence_prepared_epoch(const char *gid)
{
	PreparedEntry *entry;
	uint64		epoch;

	LWLockAcquire(lock, LW_SHARED);
	entry = find_entry(gid);
	epoch = entry ? entry->epoch : 0;
	LWLockRelease(lock);
	return epoch;
}

bool
fence_prepared_exists(const char *gid)
{
	Oid			type = TEXTOID;
	Datum		value = CStringGetTextDatum(gid);
	bool		exists;

	if (SPI_connect() != SPI_OK_CONNECT)
		return true;
	exists = SPI_execute_with_args("SELECT 1 FROM pg_catalog.pg_prepared_xact() WHERE gid = $1",
								   1, &type, &value, NULL, false,
								   1) != SPI_OK_SELECT || SPI_processed > 0;
	SPI_finish();
	return exists;
}

/*
 * The tables on which it holds locks that allow to change rows.  Its locks are
 * those of whoever holds the lock on its xid, and is no process.
 */
#define LOCKED_TABLES \
	"SELECT l.relation" \
	" FROM pg_catalog.pg_prepared_xact() p, pg_catalog.pg_lock_status() x," \
	"  pg_catalog.pg_lock_status() l" \
	" WHERE p.gid OPERATOR(pg_catalog.=) $1" \
	"  AND x.transactionid OPERATOR(pg_catalog.=) p.transaction" \
	"  AND x.granted AND x.pid IS NULL AND l.pid IS NULL" \
	"  AND l.virtualtransaction OPERATOR(pg_catalog.=) x.virtualtransaction" \
	"  AND l.relation IS NOT NULL" \
	"  AND l.mode OPERATOR(pg_catalog.<>) ALL" \
	"      ('{AccessShareLock,RowShareLock}'::pg_catalog.text[])"

Oid
fence_prepared_protected_table(const char *gid)
{
	Oid			type = TEXTOID;
	Datum		value = CStringGetTextDatum(gid);
	Oid			found = InvalidOid;

	if (SPI_connect() != SPI_OK_CONNECT ||
		SPI_execute_with_args(LOCKED_TABLES, 1, &type, &value, NULL, false,
							  0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the locks of prepared transaction \"%s\"", gid);
	for (uint64 i = 0; i < SPI_processed && !OidIsValid(found); i++)
	{
		bool		isnull;
		Oid			relid =
			DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i],
										   SPI_tuptable->tupdesc, 1, &isnull));

		if (!isnull && fence_table(relid).what == FENCE_PROTECTED)
			found = relid;
	}
	SPI_finish();
	return found;
}

void
fence_prepared_forget(const char *gid)
{
	PreparedEntry *entry;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = find_entry(gid);
	if (entry != NULL)
		entry->epoch = 0;
	LWLockRelease(lock);
}
