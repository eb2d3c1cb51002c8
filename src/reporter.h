/*
 * reporter.h
 *		Which line of pg_hba.conf the other nodes meet here: a short-lived worker
 *		finds out.
 *
 * Layer 4.  Used by the prober.
 */
#ifndef LEASEHOLD_REPORTER_H
#define LEASEHOLD_REPORTER_H

#include "postgres.h"

#include "postmaster/bgworker.h"

#include "clock.h"

typedef struct Prober Prober;

typedef struct Reporter
{
	BackgroundWorkerHandle *worker; /* under way, or NULL */
	ClockTime	next;			/* when to start it, if nothing happens before */
	ClockTime	look;			/* when to look who the others are */
	uint32		visitors;		/* a hash of them */
	int			nvisitors;
	ClockTime	began;
	ClockTime	taken;			/* hba_at of what is reported */
	uint32		lines;			/* a hash of it */
	int			failures;
} Reporter;

/* Start it when it is due; never waits. */
extern void reporter_step(Prober *prober, ClockTime now);
extern ClockTime reporter_due(const Prober *prober);

/* The configuration was read anew. */
extern void reporter_hasten(Prober *prober);

/* The worker's main function, found by name by the server. */
extern PGDLLEXPORT void leasehold_reporter_main(Datum arg);

#endif							/* LEASEHOLD_REPORTER_H */
