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

/*
 * election_outranks
 *		Does that node go before this one, by its priority, or by its name among
 *		equals?  Of two that want the lease exactly one does; priority 0 never.
 */
extern bool election_outranks(int32_t priority, const char *name,
							  int32_t own_priority, const char *self);

/* A candidate as the others see it. */
typedef struct Candidate
{
	char		name[LEASE_NAME_LEN];
	uint64_t	incarnation;
	int32_t		priority;
	bool		alive;
	bool		stands;			/* it has seen the lease free, and told its last
								 * position */
	uint64_t	position;
} Candidate;

/* All that a node needs to find its place among the candidates. */
typedef struct Electorate
{
	const Candidate *candidate;
	int			n;
	const char *self;
	int32_t		priority;
	uint64_t	position;
	bool		by_position;	/* streaming standbys: the most advanced first */
	/* who left the lease: if it is free, that one is gone, or gave up */
	const char *last_holder;
	uint64_t	last_incarnation;
	ClockTime	step;			/* from one candidate to the next */
	ClockTime	patience;		/* for positions that are still to come */
} Electorate;

/*
 * election_stagger
 *		How long after the lease became free this node lets better candidates go
 *		first: one step for each live one that is more advanced, or as advanced
 *		and of higher priority, or of equal priority and smaller name.
 *
 *		Positions count once their nodes stand for the lease, for only then they
 *		are final.  As long as one that may be more advanced has not said so,
 *		and for no longer than the patience, everybody waits.
 */
extern ClockTime election_stagger(const Electorate *electorate);

#endif							/* LEASEHOLD_ELECTION_H */
