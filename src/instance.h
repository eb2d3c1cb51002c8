/*
 * instance.h
 *		What becomes of the instance as its lease changes hands, where it is one
 *		of a primary and its streaming standbys.
 *
 * Layer 3.  Called by the steward.
 */
#ifndef LEASEHOLD_INSTANCE_H
#define LEASEHOLD_INSTANCE_H

#include "postgres.h"

#include "postmaster/bgworker.h"

#include "shared.h"

typedef struct InstanceWork
{
	Instance	instance;		/* as last published */
	InstanceOrders orders;		/* as last read */
	ClockTime	promote_at;		/* when to ask for the promotion (again) */
	ClockTime	turn_away_at;	/* when to look for walsenders again */
	int64		acted_on;		/* the epoch for which on_superseded was done */
	ClockTime	astray_since;	/* a standby that cannot follow; or 0 */
	bool		overran;		/* ... that has replayed what its primary never had */
	pid_t		rejoin_pid;
	BackgroundWorkerHandle *errand; /* a worker is under way; or NULL */
	ClockTime	errand_at;		/* not before */
	InstanceOrders errand_for;	/* the orders that it was started with */
} InstanceWork;

extern void instance_init(InstanceWork *work);

/* Look at the instance, and do what the keeper has ordered. */
extern void instance_step(InstanceWork *work, ClockTime now);

/* When to call it again if nothing happens. */
extern ClockTime instance_due(const InstanceWork *work, ClockTime now);

/* The worker that follows a leader and keeps slots; see errand.c. */
extern PGDLLEXPORT void leasehold_errand_main(Datum arg);

/* Is there anything for it to do? */
extern bool errand_is_due(const InstanceOrders *orders,
						  const Instance *instance);

#endif							/* LEASEHOLD_INSTANCE_H */
