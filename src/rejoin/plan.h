/*
 * plan.h
 *		What leasehold-rejoin decides: who holds the lease, where two histories
 *		part, and what has to be done to the data directory.
 *
 * Pure C: no server headers, no I/O; what was seen is an argument.
 */
#ifndef REJOIN_PLAN_H
#define REJOIN_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "lease.h"

/* ---- who holds ---- */

/* The lease's row at one member of the store. */
typedef struct PlanRow
{
	bool		counted;		/* does the member count (R6, R10)? */
	bool		present;		/* does it know the lease? */
	char		holder[LEASE_NAME_LEN]; /* "": released, or never held */
	uint64_t	incarnation;
	int64_t		epoch;
	int64_t		version;
} PlanRow;

typedef enum PlanHolder
{
	PLAN_HOLDER_TOO_FEW,		/* too few members count */
	PLAN_HOLDER_NO_LEASE,		/* a majority does not know the lease */
	PLAN_HOLDER_UNDECIDED,		/* no majority agrees: it is changing hands */
	PLAN_HOLDER_NONE,			/* released, or never held */
	PLAN_HOLDER_KNOWN
} PlanHolder;

/*
 * plan_holder
 *		Who holds the lease, as a majority of the members says it (R3)?  Sets
 *		*which to the row to go by for the last two answers: of those that
 *		agree, the one with the highest version.
 */
extern PlanHolder plan_holder(const PlanRow *row, int n, int majority,
							  int *which);

/* ---- where histories part ---- */

#define PLAN_END_OPEN		UINT64_MAX	/* the timeline goes on */

/* A timeline, and the part of the log that belongs to it. */
typedef struct PlanTimeline
{
	uint32_t	id;
	uint64_t	begin;
	uint64_t	end;
} PlanTimeline;

/* From the first timeline to the present one. */
typedef struct PlanHistory
{
	int			n;
	PlanTimeline *timeline;		/* malloc'd */
} PlanHistory;

/*
 * plan_parse_history
 *		Read the text of a history file; "" is that of timeline 1.  False if it
 *		is not one.
 */
extern bool plan_parse_history(const char *text, uint32_t present,
							   PlanHistory *history);

/* Is this timeline one of the history's? */
extern bool plan_contains(const PlanHistory *history, uint32_t id);

typedef struct PlanFork
{
	bool		found;			/* do they have a beginning in common? */
	uint32_t	id;				/* the last timeline that both have */
	uint64_t	lsn;			/* up to here they are the same; PLAN_END_OPEN:
								 * neither has left that timeline */
} PlanFork;

/* Where the history of "ours" leaves that of "theirs". */
extern PlanFork plan_fork(const PlanHistory *ours, const PlanHistory *theirs);

/* ---- what to do ---- */

/* What is known of the data directory. */
typedef struct PlanLocal
{
	uint32_t	timeline;		/* the last one that it was on */
	bool		was_primary;	/* its last run was not in recovery */
	bool		is_backup;		/* a backup, or rewound, and not started since */
	bool		data_end_known;
	uint64_t	data_end;		/* no page carries a change from beyond */
	bool		rewindable;		/* checksums, or wal_log_hints */
	uint32_t	half_rewound;	/* an interrupted rewind's timeline, or 0 */
} PlanLocal;

typedef enum PlanKind
{
	PLAN_FOLLOW,				/* it only has to be told to follow */
	PLAN_REWIND,
	PLAN_BACKUP					/* only a new copy helps */
} PlanKind;

typedef enum PlanReason
{
	PLAN_ANCESTOR,				/* nothing here that the holder does not have */
	PLAN_SAME_TIMELINE,
	PLAN_DIVERGED,
	PLAN_REPEAT,				/* an interrupted rewind */
	PLAN_UNRELATED,				/* no common history */
	PLAN_COLLISION,				/* two primaries on one timeline */
	PLAN_NO_HINTS,				/* diverged, and pg_rewind cannot help */
	PLAN_BACKUP_AHEAD,			/* a backup of a branch that was left */
	PLAN_HALF_REWOUND			/* towards another holder than today's */
} PlanReason;

extern PlanKind plan_decide(const PlanLocal *local, const PlanFork *fork,
							uint32_t holder_timeline, PlanReason *reason);

/* A sentence for people. */
extern const char *plan_reason_text(PlanReason reason);

#endif							/* REJOIN_PLAN_H */
