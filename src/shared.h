/*
 * shared.h
 *		What the processes of one instance tell each other in shared memory.
 *
 * Layer 1.  Three kinds of data, each with its own discipline:
 *
 * - the fence (FenceShared): single atomics, written by the keeper, read by
 *   every backend at every write.  Zeroed memory means "no lease".
 * - published pages (status for views, orders for the steward): one writer,
 *   many readers, a change counter; no lock, so that a stopped reader or
 *   writer never blocks the keeper.
 * - the request box: sessions ask the keeper for something (acquire, release);
 *   an LWLock serialises the askers, never the keeper.
 */
#ifndef LEASEHOLD_SHARED_H
#define LEASEHOLD_SHARED_H

#include "postgres.h"

#include "port/atomics.h"
#include "storage/latch.h"
#include "storage/lwlock.h"

#include "clock.h"
#include "settings.h"

/* ------------------------------------------------------------------------
 * The fence
 * ------------------------------------------------------------------------
 */

/*
 * One lease as the fence sees it.  "deadline" is a ClockTime, 0 when the
 * lease is not held, CLOCK_NEVER while it is paused.  The keeper publishes a
 * new epoch while the deadline is 0, and only then the deadline; a reader
 * reads the deadline first.  So whoever sees an open deadline sees the epoch
 * that it belongs to, or a later one.
 */
typedef struct FenceLease
{
	pg_atomic_uint64 deadline;
	pg_atomic_uint64 epoch;
} FenceLease;

/* What one backend tells the keeper and the steward; a cache line each. */
typedef struct FenceBackend
{
	pg_atomic_uint32 in_commit; /* raised around the commit check */
	pg_atomic_uint32 pid;		/* 0: no client session in this place */
	pg_atomic_uint64 opened_epoch;	/* epoch held when the session began, 0 if
									 * the node was not writable by a lease */
	pg_atomic_uint32 writing;	/* a transaction that wrote is running */
	pg_atomic_uint32 spared;	/* on_expiry must not end this session */
} FenceBackend;

typedef union FenceBackendPadded
{
	FenceBackend backend;
	char		pad[PG_CACHE_LINE_SIZE];
} FenceBackendPadded;

typedef struct FenceShared
{
	/*
	 * Is this instance governed by a lease?  Set by the postmaster from the
	 * note in the data directory and the settings, by the keeper when a lease
	 * is named; cleared only by leasehold.leave().
	 */
	pg_atomic_uint32 governed;
	/* The keeper waits for raised flags: whoever lowers one wakes it. */
	pg_atomic_uint32 draining;
	/* Acknowledgements withheld, statements refused (since server start). */
	pg_atomic_uint64 withheld;
	pg_atomic_uint64 refused;
	char		pad[PG_CACHE_LINE_SIZE];
	FenceLease	instance;		/* the lease that governs the instance */
	char		pad2[PG_CACHE_LINE_SIZE];
	int			nbackends;		/* places in backends[] */
	FenceBackendPadded *backends;	/* by process number */
} FenceShared;

/* What a refused client is told; published by the keeper. */
typedef struct FenceNotice
{
	char		lease[LEASEHOLD_NAME_LEN];
	char		node[LEASEHOLD_NAME_LEN];	/* this node */
	char		holder[LEASEHOLD_NAME_LEN]; /* "" if nobody holds it */
	int64		epoch;			/* the highest epoch known */
	char		address[256];	/* where to connect, "" if unknown */
	char		reason[256];	/* why this node does not hold it */
} FenceNotice;

/* ------------------------------------------------------------------------
 * Access
 * ------------------------------------------------------------------------
 */

extern FenceShared *fence_shared;	/* NULL if the library is not preloaded */

/*
 * shared_lease_epoch
 *		The epoch under which this node holds "lease" at this moment, 0 if it
 *		does not hold it.  *This* is the comparison that every backend makes
 *		itself.  Lock-free; reads the clock once.
 */
static inline uint64
shared_lease_epoch(FenceLease *lease)
{
	uint64		deadline = pg_atomic_read_u64(&lease->deadline);
	uint64		epoch;

	if (deadline == 0)
		return 0;
	pg_read_barrier();
	epoch = pg_atomic_read_u64(&lease->epoch);
	if ((uint64) clock_now() >= deadline)
		return 0;
	return epoch;
}

/* Copy the notice for error messages; all empty if none was published. */
extern void shared_read_notice(FenceNotice *notice);

/* This process's place in fence_shared->backends. */
extern FenceBackend *shared_my_backend(void);

/* Wake the keeper (after lowering a flag while it drains). */
extern void shared_wake_keeper(void);
extern void shared_wake_steward(void);

/*
 * shared_request_hooks
 *		Install the hooks that size and initialise shared memory.  Called from
 *		_PG_init() while the postmaster preloads.
 */
extern void shared_request_hooks(void);

#endif							/* LEASEHOLD_SHARED_H */
