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
	bool		agreed;			/* a majority says the same of these three: */
	int64		epoch;
	char		holder[LEASE_NAME_LEN];
	uint64		incarnation;
	bool		current;		/* ... and that this is the run of the node asked
								 * for that is up now, or was the last */
	bool		open;			/* ... and that its holder uses it: of an instance's
								 * lease that is not asked */
	int64		beats;			/* of that node, over all members */
	int64		run_beats;		/* ... of the run that holds the lease */
	int64		seq;			/* the latest request */
	char		answer[STORE_REASON_LEN];	/* to the request asked for */
} Watch;

/*
 * watch_store
 *		One round; members that were lost are connected again.  "node" is the one
 *		whose heartbeat is read, too, "seq" the request whose answer is wanted.
 */
extern void watch_store(StoreGroup *group, Watch *watch, const char *node,
						int64 seq);

/* Did a majority of the members answer? */
extern bool watch_heard(const StoreGroup *group, const Watch *watch);

/* A heartbeat, followed from one round to the next. */
typedef struct WatchPulse
{
	int64		beats;
	ClockTime	moved_at;		/* 0: not looked at yet */
} WatchPulse;

/*
 * watch_pulse
 *		How long has it stood still?  Time in which the members could not be heard
 *		does not count.
 */
extern ClockTime watch_pulse(WatchPulse *pulse, const StoreGroup *group,
							 const Watch *watch, int64 beats);

#endif							/* LEASEHOLD_WATCH_H */
