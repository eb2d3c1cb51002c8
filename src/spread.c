/*
 * spread.c
 *		On which nodes leases of tables belong, so that the work is spread.
 *
 * See spread.h.  With c leases on a node counting as 1 + 3 + .. + (2c - 1), the sum
 * over all nodes is lowest when the leases are spread as evenly as the priorities
 * allow; the number of moves decides between equal sums.  Both together are the
 * cost of a flow, which is the lowest there is when no cycle of moves lowers it.
 * So it begins with the leases where they are, and follows such cycles until
 * there are none.
 *
 * Layer 0: no server headers, no I/O.
 */
#include <stdint.h>
#include <string.h>

#include "spread.h"

#define NONE		(-1)
#define FAR			(INT64_MAX / 4)

/* The best move from one node to another, in one step of a cycle. */
typedef struct Step
{
	int64_t		cost;
	int			lease;			/* NONE: one more or less on a node */
} Step;

typedef struct Spread
{
	SpreadLease *lease;
	int			nleases;
	int			nnodes;
	const bool *alive;
	int			load[SPREAD_NODES_MAX];
	int64_t		even;			/* evenness counts this much more than moves */
} Spread;

bool
spread_may_have(const SpreadLease *lease, int node, int nnodes,
				const bool *alive)
{
	if (!alive[node] || lease->priority[node] <= 0)
		return false;
	for (int i = 0; i < nnodes; i++)
		if (alive[i] && lease->priority[i] > lease->priority[node])
			return false;
	return true;
}

static bool
may_have(const Spread *spread, const SpreadLease *lease, int node)
{
	return spread_may_have(lease, node, spread->nnodes, spread->alive);
}

/* Those that stay count where they are, and the rest begins where it is least. */
static void
place_all(Spread *spread)
{
	for (int i = 0; i < spread->nleases; i++)
	{
		SpreadLease *lease = &spread->lease[i];

		lease->to = lease->holder;
		if (!lease->fixed && lease->holder != SPREAD_NOBODY &&
			!may_have(spread, lease, lease->holder))
			lease->to = SPREAD_NOBODY;
		if (lease->to != SPREAD_NOBODY)
			spread->load[lease->to]++;
	}
	for (int i = 0; i < spread->nleases; i++)
	{
		SpreadLease *lease = &spread->lease[i];
		int			best = NONE;

		if (lease->to != SPREAD_NOBODY || lease->fixed)
			continue;
		for (int k = 0; k < spread->nnodes; k++)
			if (may_have(spread, lease, k) &&
				(best == NONE || spread->load[k] < spread->load[best]))
				best = k;
		lease->to = best == NONE ? lease->holder : best;
		if (best != NONE)
			spread->load[best]++;
	}
}

/* Somebody moved it already, or nobody had it: then it costs nothing more. */
static int64_t
move_cost(const SpreadLease *lease, int from, int to)
{
	return (to != lease->holder) - (from != lease->holder);
}

/*
 * What it costs to take a lease from one node to another; the node numbered
 * nnodes stands for "one more here, one less there".
 */
static Step
step_between(const Spread *spread, int from, int to)
{
	Step		best = {FAR, NONE};

	if (from == spread->nnodes && to == spread->nnodes)
		return best;
	if (from == spread->nnodes)
	{
		/* one less on "to", where the cycle begins to take from */
		if (spread->load[to] > 0)
			best.cost = -spread->even * (2 * (int64_t) spread->load[to] - 1);
		return best;
	}
	if (to == spread->nnodes)
	{
		best.cost = spread->even * (2 * (int64_t) spread->load[from] + 1);
		return best;
	}
	for (int i = 0; i < spread->nleases; i++)
	{
		const SpreadLease *lease = &spread->lease[i];

		if (lease->to == from && !lease->fixed && may_have(spread, lease, from) &&
			may_have(spread, lease, to) && move_cost(lease, from, to) < best.cost)
		{
			best.cost = move_cost(lease, from, to);
			best.lease = i;
		}
	}
	return best;
}

/*
 * Find a cycle that lowers the cost (Bellman and Ford), and follow it.  False if
 * there is none.
 */
static bool
improve(Spread *spread)
{
	int			n = spread->nnodes + 1;
	static Step step[SPREAD_NODES_MAX + 1][SPREAD_NODES_MAX + 1];
	int64_t		distance[SPREAD_NODES_MAX + 1] = {0};
	int			before[SPREAD_NODES_MAX + 1];
	int			at = NONE;

	for (int i = 0; i < n; i++)
	{
		before[i] = NONE;
		for (int k = 0; k < n; k++)
			step[i][k] = i == k ? (Step) {FAR, NONE} : step_between(spread, i, k);
	}
	for (int round = 0; round < n; round++)
	{
		at = NONE;
		for (int i = 0; i < n; i++)
			for (int k = 0; k < n; k++)
				if (step[i][k].cost < FAR &&
					distance[i] + step[i][k].cost < distance[k])
				{
					distance[k] = distance[i] + step[i][k].cost;
					before[k] = i;
					at = k;
				}
		if (at == NONE)
			return false;
	}
	for (int i = 0; i < n; i++)
		at = before[at];		/* onto the cycle */
	for (int k = at, first = 1; first || k != at; k = before[k], first = 0)
	{
		int			moved = step[before[k]][k].lease;

		if (moved == NONE)
			continue;
		spread->lease[moved].to = k;
		spread->load[before[k]]--;
		spread->load[k]++;
	}
	return true;
}

void
spread_leases(SpreadLease *lease, int nleases, int nnodes, const bool *alive)
{
	Spread		spread = {lease, nleases, nnodes, alive, {0}, nleases + 1};

	place_all(&spread);
	while (improve(&spread))
		continue;
}
