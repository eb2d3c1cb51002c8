/*
 * fence_notes.h
 *		Which table leases the transaction at hand has met, and under which epochs.
 *
 * Layer 2.
 */
#ifndef LEASEHOLD_FENCE_NOTES_H
#define LEASEHOLD_FENCE_NOTES_H

#include "postgres.h"

#include "fence_statement.h"
#include "fence_tables.h"

#pragma GCC visibility push(hidden)	/* see fence.h */

/*
 * "epoch" is the one under which the lease was held when the transaction first
 * met it, 0 if it was not; it becomes 0, for good, when a statement meets
 * another one.  "wrote" says that a table of this lease was written, or may have
 * been: then the epoch must be held until the client is told.
 */
typedef struct FenceNote
{
	FenceLease *lease;
	int			slot;			/* that it lies in */
	bool		wrote;
	bool		unheld;			/* it was not held when it was first met */
	Oid			relid;			/* the table that it was met with */
	uint64		epoch;
} FenceNote;

/* Of the transaction at hand; fence_transaction.nnotes of them. */
extern FenceNote *fence_notes;

/*
 * fence_notes_require
 *		The leases that this table needs must be held at this moment, under the
 *		epochs that the transaction has met: ERROR 25006 if not.  Those that only
 *		tables below it need are noted, or, with "whole", needed as well.
 *		"command" names the statement, or NULL: then "statement" is the plan or
 *		statement to name.
 */
extern void fence_notes_require(Oid relid, const FenceNeed *need, bool whole,
								const char *command, const void *statement);

/*
 * fence_notes_cover
 *		Has the transaction written under all leases that a table needs itself, and
 *		does it need any?
 */
extern bool fence_notes_cover(const FenceNeed *need);

/* fence_notes_require() for all tables that a plan writes. */
extern void fence_notes_before_plan(const PlannedStmt *stmt);

/*
 * fence_notes_settle
 *		The short way for a table that one lease protects, and that nothing is
 *		special about, where no other lease governs: false if there is more to be
 *		done.
 */
extern bool fence_notes_settle(const FenceTable *table);

/*
 * fence_notes_before_utility
 *		The same for a utility statement that is of kind "what", and what it is
 *		beyond that: FENCE_PROTECTED, if it is about nothing but tables that have
 *		leases of their own.  With local_ddl, a change of the schema passes without
 *		them: then "local" is set.
 */
extern FenceWrite fence_notes_before_utility(const PlannedStmt *pstmt,
											 FenceWrite what, bool *local);

/*
 * fence_notes_before_commit
 *		Our flag is raised: look which tables the transaction has really changed,
 *		and whether the epochs noted for them are held.  ERROR 25006 if not, 0A000
 *		if such a transaction is to be prepared.
 */
extern void fence_notes_before_commit(bool prepare);

extern const FenceNote *fence_notes_lost_of(const FenceNote *notes, int n);

/* Are all leases under which it wrote still held?  NULL, or one that is not. */
static inline const FenceNote *
fence_notes_lost(const FenceNote *notes, int n)
{
	uint64		held;

	if (unlikely(n != 1 || !notes->wrote))
		return fence_notes_lost_of(notes, n);
	held = shared_lease_epoch(notes->lease);
	return likely(held != 0 && held == notes->epoch) ? NULL : notes;
}

/* track_counts: what is remembered in case nothing is counted. */
extern void fence_notes_list(void);

#pragma GCC visibility pop

#endif							/* LEASEHOLD_FENCE_NOTES_H */
