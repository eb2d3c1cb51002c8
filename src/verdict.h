/*
 * verdict.h
 *		What three witnesses say of a path: its source, its target, and everybody
 *		else.
 *
 * Layer 0: no server headers, no I/O.  The source alone cannot tell a server that is
 * down from a path that is blocked, or from being cut off itself.
 */
#ifndef LEASEHOLD_VERDICT_H
#define LEASEHOLD_VERDICT_H

#include <stdbool.h>

#include "cause.h"
#include "path.h"

typedef enum Verdict
{
	VERDICT_STANDS,				/* the path is as it should be */
	VERDICT_TARGET_REFUSES,		/* the target answers and does not let the source in */
	VERDICT_NAME,				/* the source has no address for the target */
	VERDICT_TARGET_DOWN,		/* nobody reaches it, and it shows no sign of life */
	VERDICT_TARGET_HIDDEN,		/* it lives, and nobody reaches its address */
	VERDICT_TARGET_CUT_OFF,		/* it lives, nobody reaches it, and it reaches nobody */
	VERDICT_SOURCE_SILENT,		/* the source is not heard: nothing new is known */
	VERDICT_SOURCE_CUT_OFF,		/* the source reaches no node, others reach each other */
	VERDICT_ONE_DIRECTION,		/* the target reaches the source */
	VERDICT_PATH_BLOCKED,		/* both are alive */
	VERDICT_UNKNOWN				/* there is no other witness */
} Verdict;

typedef struct Witnesses
{
	/* the source, of the target */
	bool		stands;
	PathPhase	phase;			/* where it ends */
	Cause		cause;
	/* the source, of itself */
	bool		source_fresh;	/* it says so now, not long ago */
	int			source_reaches; /* of the others, members included */
	int			source_tries;
	int			source_nodes;	/* ... of these, nodes */
	int			source_nodes_reached;
	/* the target, of itself */
	bool		target_alive;	/* a fresh report, or a heartbeat that moves */
	int			target_reaches; /* of the nodes but the source */
	int			target_tries;
	bool		target_says;	/* its word about the path back is fresh: */
	bool		back_stands;	/* ... it reaches the source */
	/* every third node, with a fresh report */
	int			others;			/* of those that know the target ... */
	int			others_reach_target;
	int			others_know_source;	/* ... the source */
	int			others_reach_source;
} Witnesses;

extern Verdict verdict_of(const Witnesses *witnesses);

/* Did the target itself answer, though a walk ended here for this reason? */
extern bool verdict_is_answered(PathPhase phase, Cause cause);

/* Its short name: "target_down"; and a sentence for people. */
extern const char *verdict_name(Verdict verdict);
extern const char *verdict_text(Verdict verdict);

#endif							/* LEASEHOLD_VERDICT_H */
