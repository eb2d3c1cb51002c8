/*
 * fence_refuse_table.h
 *		What is said when the fence refuses for the lease of a table.
 *
 * Layer 2.
 */
#ifndef LEASEHOLD_FENCE_REFUSE_TABLE_H
#define LEASEHOLD_FENCE_REFUSE_TABLE_H

#include "postgres.h"

#include "compat.h"
#include "fence_ddl.h"
#include "fence_notes.h"
#include "fence_tables.h"

typedef enum FenceTableFault
{
	TABLE_LOST,					/* the lease was lost since it was noted */
	TABLE_UNHELD,				/* it was not held when it was noted */
	TABLE_UNNOTED				/* the table was written without it */
} FenceTableFault;

/*
 * Each throws ERROR 25006 in enforce mode, and logs and returns in warn mode.
 * For "command" and "statement" see fence_notes_require(); "held" is the epoch
 * held at this moment, 0 if none.
 */
extern void fence_refuse_table(const char *command, const void *statement,
							   Oid relid, const FenceTableLease *lease,
							   uint64 held);
extern void fence_refuse_table_commit(Oid relid, const FenceTableLease *lease,
									  FenceTableFault fault);

/* Its schema was changed, or it was dropped, by one that began before. */
extern void fence_refuse_altered(const FenceAltered *altered,
								 const FenceTableLease *lease);

/* Nothing is counted, and the list of protected tables is another one. */
extern void fence_refuse_changed_list(void);

/* A transaction prepared while the table was not protected is to be committed. */
extern void fence_refuse_table_finish(const char *gid, Oid relid);

/* ERROR 0A000: what wrote protected tables cannot be prepared. */
extern void fence_refuse_table_prepare(const FenceNote *notes, int n);

/* ERROR 55006, in every mode: the list goes by names. */
COMPAT_NORETURN extern void fence_refuse_rename(const char *what, const char *name);

#endif							/* LEASEHOLD_FENCE_REFUSE_TABLE_H */
