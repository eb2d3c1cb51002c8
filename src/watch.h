/*
 * watch.h
 *		What the members of a group say of its lease, one round after another.
 *
 * Layer 3.  For SQL functions that have asked for something in the store and
 * wait until it is done.
 */
#ifndef LEASEHOLD_WATCH_H
#define LEASEHOLD_WATCH_H

#include "postgres.h"

#include "group.h"

/* What all counted members together say of the lease. */
typedef struct Watch
{
	int			seen;			/* members that answered */
	int			frozen;			/* ... whose row is frozen */
	bool		agreed;			/* a majority says the same of these two: */
	int64		epoch;
	char		holder[LEASE_NAME_LEN];
	int64		seq;			/* the latest request */
	char		answer[STORE_REASON_LEN];	/* to the request asked for */
} Watch;

/*
 * watch_store
 *		One round; members that were lost are connected again.  "seq" is the
 *		request whose answer is wanted.
 */
extern void watch_store(StoreGroup *group, Watch *watch, int64 seq);

/* Did a majority of the members answer? */
extern bool watch_heard(const StoreGroup *group, const Watch *watch);

#endif							/* LEASEHOLD_WATCH_H */
