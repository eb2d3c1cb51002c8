/*
 * sql_check.h
 *		What the files that make up leasehold.check() share.
 *
 * Layer 4.
 */
#ifndef LEASEHOLD_SQL_CHECK_H
#define LEASEHOLD_SQL_CHECK_H

#include "postgres.h"

#include "fmgr.h"

#include "sql.h"

typedef struct Check
{
	FunctionCallInfo fcinfo;
	KeeperStatus *status;		/* NULL if not preloaded */
	StoreGroup *group;			/* NULL if no store is configured */
	const StoreLease *lease;	/* its row; NULL if unknown */
} Check;

/* One row of the answer; the remedy is shown only where it is needed. */
extern void check_put(Check *check, const char *item, bool ok,
					  const char *detail, const char *remedy);

/* Where the lease is of kind "physical": a primary and its standbys. */
extern void check_replication(Check *check);

/* Where tables are protected, or this node takes part in leases of tables. */
extern void check_tables(Check *check);

#endif							/* LEASEHOLD_SQL_CHECK_H */
