/*
 * election.h
 *		Who takes part, and who goes first.
 *
 * Ranking only keeps candidates out of each other's way; the guarded acquire
 * in the store decides.
 *
 * Layer 0: no server headers.
 */
#ifndef LEASEHOLD_ELECTION_H
#define LEASEHOLD_ELECTION_H

#include "lease.h"

/* A node's row at one member, watched for signs of life. */
typedef struct NameWatch
{
	bool		seen;			/* has the member been asked? */
	bool		present;
	uint64_t	incarnation;
	int64_t		beat;
	ClockTime	unchanged_since;
	bool		moved;			/* the beat has been seen to rise */
} NameWatch;

/* How this run stands to its own name's row at one member (R8). */
typedef enum NameVerdict
{
	NAME_UNKNOWN,				/* not asked yet, or not yet known to be alive */
	NAME_MINE,					/* the row is this run's */
	NAME_FREE,					/* absent, our own last run's, or silent for long */
	NAME_TAKEN					/* another live run uses the name */
} NameVerdict;

/* Note what a member says; a change of member or session forgets nothing. */
extern void election_watch_name(NameWatch *watch, bool present,
								uint64_t incarnation, int64_t beat,
								ClockTime now);

/*
 * election_name
 *		Judge the watched row.  "previous" is the run before this one if it is
 *		proven over (R7), else 0; "observation" is how long silence has to last.
 */
extern NameVerdict election_name(const NameWatch *watch, uint64_t incarnation,
								 uint64_t previous, ClockTime observation,
								 ClockTime now);

/* A candidate as the others see it. */
typedef struct Candidate
{
	char		name[LEASE_NAME_LEN];
	int32_t		priority;
	bool		alive;
} Candidate;

/*
 * election_stagger
 *		How long this node lets better candidates go first: one step for each
 *		live one of higher priority, or equal priority and smaller name.  The
 *		last holder does not count: if the lease is free it is gone, or gave up.
 */
extern ClockTime election_stagger(const Candidate *candidate, int n,
								  const char *self, int32_t priority,
								  const char *last_holder, ClockTime step);

#endif							/* LEASEHOLD_ELECTION_H */
