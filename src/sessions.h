/*
 * sessions.h
 *		What becomes of sessions when the lease is lost (leasehold.on_expiry).
 *
 * Layer 3.  Used by the steward.
 */
#ifndef LEASEHOLD_SESSIONS_H
#define LEASEHOLD_SESSIONS_H

#include "postgres.h"

#include "clock.h"
#include "shared.h"

typedef struct Sessions
{
	uint64		lost;			/* the highest epoch that was seen to be lost */
	ClockTime	closed_at;		/* since when it is seen lost */
	int			round;			/* how often the sessions were gone through */
	ClockTime	next;			/* when to do so again */
	ClockTime  *in_vain_since;	/* by place: under a lost lease of a table */
} Sessions;

extern void sessions_init(Sessions *sessions);

/*
 * sessions_step
 *		Look at the fence; if an epoch was lost, do to the sessions that were
 *		opened under it what the setting asks for.  Needs no keeper.
 */
extern void sessions_step(Sessions *sessions, const KeeperStatus *status,
						  ClockTime now);

/*
 * sessions_follow_tables
 *		End transactions that wrote tables whose leases are lost.  To be called
 *		after every change of such a lease, and now and then.
 */
extern void sessions_follow_tables(Sessions *sessions, ClockTime now);

/* When to call sessions_step() again if nothing happens. */
extern ClockTime sessions_due(const Sessions *sessions);

#endif							/* LEASEHOLD_SESSIONS_H */
