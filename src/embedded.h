/*
 * embedded.h
 *		leasehold.store = 'embedded': this instance is its own store.
 *
 * Layer 3.  Used by the steward.
 */
#ifndef LEASEHOLD_EMBEDDED_H
#define LEASEHOLD_EMBEDDED_H

#include "postgres.h"

#include "postmaster/bgworker.h"

#include "clock.h"
#include "settings.h"

typedef struct Embedded
{
	BackgroundWorkerHandle *worker; /* under way, or NULL */
	int			stage;			/* of that worker */
	ClockTime	next;			/* when to go on */
	ClockTime	started_at;		/* when the store was first asked for; or 0 */
	int			failures;
	char		made_for[LEASEHOLD_NAME_LEN];	/* the lease that it has */
	char		making_for[LEASEHOLD_NAME_LEN]; /* ... that its worker makes */
} Embedded;

extern void embedded_init(Embedded *embedded);

/* See to it that the store and its lease exist, if the settings ask for it. */
extern void embedded_step(Embedded *embedded, ClockTime now);

/* When to call embedded_step() again if nothing happens. */
extern ClockTime embedded_due(const Embedded *embedded);

/* The short-lived workers' main function, found by name by the server. */
extern PGDLLEXPORT void leasehold_embedded_main(Datum arg);

#endif							/* LEASEHOLD_EMBEDDED_H */
