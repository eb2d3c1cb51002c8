/*
 * spread.h
 *		On which nodes leases of tables belong, so that the work is spread.
 *
 * Layer 0: no server headers.
 *
 * A lease belongs on a live node that takes part in it, one of the highest
 * priority among these.  Where several have that, the leases are spread so that
 * no node has many more than another; and as few as possible are moved for that.
 */
#ifndef LEASEHOLD_SPREAD_H
#define LEASEHOLD_SPREAD_H

#include <stdbool.h>

#define SPREAD_NODES_MAX	64	/* of one call */
#define SPREAD_NOBODY		(-1)

typedef struct SpreadLease
{
	int			holder;			/* a node, or SPREAD_NOBODY */
	bool		fixed;			/* it may not be moved now: paused */
	/* by node: 0 if it takes no part, or never takes the lease by itself */
	int			priority[SPREAD_NODES_MAX];
	int			to;				/* filled: where it belongs, or SPREAD_NOBODY */
} SpreadLease;

/*
 * spread_leases
 *		Fill "to" of all leases.  The same question always gets the same answer.
 *		A lease that is fixed, or none of whose nodes is alive, stays as it is.
 */
extern void spread_leases(SpreadLease *lease, int nleases, int nnodes,
						  const bool *alive);

/* May this node have the lease, by the rule? */
extern bool spread_may_have(const SpreadLease *lease, int node, int nnodes,
							const bool *alive);

#endif							/* LEASEHOLD_SPREAD_H */
