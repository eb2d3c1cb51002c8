/*
 * health.h
 *		Is this instance well enough to hold a lease?
 *
 * Layer 3.  Used by the steward.
 */
#ifndef LEASEHOLD_HEALTH_H
#define LEASEHOLD_HEALTH_H

#include "postgres.h"

#include "port.h"

#include "clock.h"

typedef struct Health
{
	pgsocket	sock;			/* of the check under way, or PGINVALID_SOCKET */
	bool		connecting;
	int			way;			/* which of the local addresses to try */
	ClockTime	began;			/* of the last check, be it under way */
	ClockTime	give_up;		/* of the check under way */
	ClockTime	next;			/* when the next check begins */
	ClockTime	unwell_since;	/* first check since one has passed; or 0 */
	ClockTime	complain_at;	/* unwell for too long; or never */
	char		fault[128];		/* of the last failure */
} Health;

extern void health_init(Health *health);

/*
 * health_step
 *		Begin a check when it is time to, go on with the one under way; stamp
 *		shared memory when one has passed.  "timeout" is how long the keeper
 *		puts up with a stale stamp.  Waits for nothing but the local disk.
 */
extern void health_step(Health *health, ClockTime now, ClockTime timeout);

/* No lease: no checks. */
extern void health_rest(Health *health);

/* What to wait for on health->sock: WL_SOCKET_*, or 0. */
extern uint32 health_wants(const Health *health);

/* When to call health_step() again if nothing happens. */
extern ClockTime health_due(const Health *health);

#endif							/* LEASEHOLD_HEALTH_H */
