/*
 * fence_prepared.h
 *		Under which epoch each prepared transaction was prepared.
 *
 * Layer 2.  The epochs are in shared memory only; that is enough, see
 * fence_prepared.c.
 */
#ifndef LEASEHOLD_FENCE_PREPARED_H
#define LEASEHOLD_FENCE_PREPARED_H

#include "postgres.h"

/* Hook into the sizing and initialisation of shared memory. */
extern void fence_prepared_install(void);

/* PREPARE TRANSACTION under way: what the callback is to remember; or "". */
extern char fence_preparing_gid[];

/* PREPARE TRANSACTION has succeeded.  Never throws. */
extern void fence_prepared_remember(const char *gid, uint64 epoch);

/* The epoch, or 0 if it was prepared by another run of the server. */
extern uint64 fence_prepared_epoch(const char *gid);

/* Does such a prepared transaction exist?  Asks the server, by SQL. */
extern bool fence_prepared_exists(const char *gid);

/*
 * A table that has a lease of its own and that this transaction may have written:
 * it holds the locks for it still.  InvalidOid if there is none.
 */
extern Oid	fence_prepared_protected_table(const char *gid);

/* It was committed or rolled back. */
extern void fence_prepared_forget(const char *gid);

#endif							/* LEASEHOLD_FENCE_PREPARED_H */
