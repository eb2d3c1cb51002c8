/*
 * fence_sequence.h
 *		Sequences that belong to tables with leases of their own.
 *
 * Layer 2.
 */
#ifndef LEASEHOLD_FENCE_SEQUENCE_H
#define LEASEHOLD_FENCE_SEQUENCE_H

#include "postgres.h"

#include "nodes/plannodes.h"

#pragma GCC visibility push(hidden)	/* see fence.h */

/*
 * fence_sequence_begin, fence_sequence_end
 *		This plan, whose tables have leases of their own that were asked for, is
 *		being started; or is not any more, on errors too.
 */
extern void fence_sequence_begin(const PlannedStmt *stmt);
extern void fence_sequence_end(void);

/*
 * fence_sequence_is_covered
 *		nextval() is about to be called, or its expression to be initialised: is it
 *		for a sequence that belongs to a table whose leases the transaction has
 *		written under?  False if it cannot be told.
 */
extern bool fence_sequence_is_covered(void);

#pragma GCC visibility pop

#endif							/* LEASEHOLD_FENCE_SEQUENCE_H */
