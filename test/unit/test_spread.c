/*
 * test_spread.c
 *		On which nodes leases of tables belong.
 *
 * The rule is compared with all that there is: of every way to give each lease to
 * a node that may have it, the one chosen is among the most even ones, and of
 * these among those with the fewest moves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "spread.h"

/* cmocka hands every test a state; these keep theirs below */
#pragma GCC diagnostic ignored "-Wunused-parameter"

#define LEASES		8
#define NODES		5

static SpreadLease lease[LEASES];
static bool alive[NODES];
static int	nleases;
static int	nnodes;

static void
fresh(int leases, int nodes)
{
	memset(lease, 0, sizeof(lease));
	nleases = leases;
	nnodes = nodes;
	for (int i = 0; i < leases; i++)
		lease[i].holder = SPREAD_NOBODY;
	for (int k = 0; k < NODES; k++)
		alive[k] = true;
}

static void
priorities(int i, int a, int b, int c)
{
	lease[i].priority[0] = a;
	lease[i].priority[1] = b;
	lease[i].priority[2] = c;
}

static void
spread(void)
{
	spread_leases(lease, nleases, nnodes, alive);
}

/* ------------------------------------------------------------------------
 * Cost, and the lowest there is
 * ------------------------------------------------------------------------
 */

static bool
is_free(int i)
{
	for (int k = 0; k < nnodes; k++)
		if (spread_may_have(&lease[i], k, nnodes, alive))
			return !lease[i].fixed;
	return false;
}

/* Of leases where "place" says; those that cannot be placed stay and count. */
static int
cost_of(const int *place)
{
	int			load[NODES] = {0};
	int			moves = 0;
	int			cost = 0;

	for (int i = 0; i < nleases; i++)
	{
		if (place[i] != SPREAD_NOBODY && (is_free(i) || lease[i].fixed))
			load[place[i]]++;
		moves += place[i] != lease[i].holder;
	}
	for (int k = 0; k < nnodes; k++)
		cost += load[k] * load[k];
	return cost * (LEASES + 1) + moves;
}

static int
lowest_cost(int i, int *place)
{
	int			lowest = -1;

	if (i == nleases)
		return cost_of(place);
	if (!is_free(i))
	{
		place[i] = lease[i].holder;
		return lowest_cost(i + 1, place);
	}
	for (int k = 0; k < nnodes; k++)
	{
		int			cost;

		if (!spread_may_have(&lease[i], k, nnodes, alive))
			continue;
		place[i] = k;
		cost = lowest_cost(i + 1, place);
		if (lowest < 0 || cost < lowest)
			lowest = cost;
	}
	return lowest;
}

static void
assert_best(void)
{
	int			place[LEASES];
	int			chosen[LEASES];

	spread();
	for (int i = 0; i < nleases; i++)
	{
		chosen[i] = lease[i].to;
		if (is_free(i))
			assert_true(spread_may_have(&lease[i], lease[i].to, nnodes, alive));
		else
			assert_int_equal(lease[i].to, lease[i].holder);
	}
	assert_int_equal(cost_of(chosen), lowest_cost(0, place));
	/* the same question, the same answer; and once it is so, it stays */
	spread();
	for (int i = 0; i < nleases; i++)
	{
		assert_int_equal(lease[i].to, chosen[i]);
		lease[i].holder = chosen[i];
	}
	spread();
	for (int i = 0; i < nleases; i++)
		assert_int_equal(lease[i].to, chosen[i]);
}

/* ------------------------------------------------------------------------
 * By hand
 * ------------------------------------------------------------------------
 */

static void
test_priority(void **state)
{
	fresh(1, 3);
	priorities(0, 50, 100, 100);
	lease[0].holder = 0;
	spread();
	assert_int_equal(lease[0].to, 1);
	alive[1] = false;
	spread();
	assert_int_equal(lease[0].to, 2);
	alive[2] = false;
	spread();
	assert_int_equal(lease[0].to, 0);
	alive[0] = false;
	spread();
	assert_int_equal(lease[0].to, 0);	/* nowhere to go */
}

static void
test_never_by_itself(void **state)
{
	fresh(1, 2);
	priorities(0, 0, 1, 0);
	lease[0].holder = 0;
	spread();
	assert_int_equal(lease[0].to, 1);
	alive[1] = false;
	spread();
	assert_int_equal(lease[0].to, 0);	/* stays: nobody else may have it */
	lease[0].holder = SPREAD_NOBODY;
	spread();
	assert_int_equal(lease[0].to, SPREAD_NOBODY);
}

/* One node has all: half of them move, and no more. */
static void
test_balance(void **state)
{
	int			moved = 0;

	fresh(6, 2);
	for (int i = 0; i < 6; i++)
	{
		priorities(i, 100, 100, 0);
		lease[i].holder = 0;
	}
	spread();
	for (int i = 0; i < 6; i++)
		moved += lease[i].to == 1;
	assert_int_equal(moved, 3);
}

/* Three against two is as even as it gets. */
static void
test_no_needless_move(void **state)
{
	fresh(5, 2);
	for (int i = 0; i < 5; i++)
	{
		priorities(i, 100, 100, 0);
		lease[i].holder = i < 3 ? 0 : 1;
	}
	spread();
	for (int i = 0; i < 5; i++)
		assert_int_equal(lease[i].to, lease[i].holder);
}

/* From the first node to the third only by way of the second. */
static void
test_chain(void **state)
{
	fresh(3, 3);
	priorities(0, 1, 1, 0);
	priorities(1, 1, 1, 0);
	priorities(2, 0, 1, 1);
	lease[0].holder = lease[1].holder = 0;
	lease[2].holder = 1;
	spread();
	assert_int_equal((lease[0].to == 1) + (lease[1].to == 1), 1);
	assert_int_equal(lease[2].to, 2);
}

/* A paused lease stays, and the others make room for it. */
static void
test_fixed(void **state)
{
	fresh(3, 2);
	for (int i = 0; i < 3; i++)
	{
		priorities(i, 100, 100, 0);
		lease[i].holder = 0;
	}
	lease[0].fixed = true;
	lease[1].fixed = true;
	spread();
	assert_int_equal(lease[0].to, 0);
	assert_int_equal(lease[1].to, 0);
	assert_int_equal(lease[2].to, 1);
}

/* ------------------------------------------------------------------------
 * All of them
 * ------------------------------------------------------------------------
 */

/* Two leases and three nodes: every priority, holder and set of live nodes. */
static void
test_all_small(void **state)
{
	const int	ways = 27 * 4 * 2;

	fresh(2, 3);
	for (int a = 0; a < ways; a++)
		for (int b = 0; b < ways; b++)
			for (int up = 0; up < 8; up++)
			{
				int			way[2] = {a, b};

				for (int i = 0; i < 2; i++)
				{
					int			w = way[i];

					priorities(i, w % 3, w / 3 % 3, w / 9 % 3);
					lease[i].holder = w / 27 % 4 - 1;
					lease[i].fixed = w / 108 == 1;
				}
				for (int k = 0; k < 3; k++)
					alive[k] = up >> k & 1;
				assert_best();
			}
}

/* More of them, by chance, but the same each time. */
static void
test_larger(void **state)
{
	srand(4711);
	for (int round = 0; round < 4000; round++)
	{
		fresh(1 + rand() % LEASES, 2 + rand() % (NODES - 2));
		for (int k = 0; k < nnodes; k++)
			alive[k] = rand() % 8 != 0;
		for (int i = 0; i < nleases; i++)
		{
			for (int k = 0; k < nnodes; k++)
				lease[i].priority[k] = rand() % 3 == 0 ? rand() % 3 : 2;
			lease[i].holder = rand() % (nnodes + 1) - 1;
			lease[i].fixed = rand() % 12 == 0;
		}
		assert_best();
	}
}

/* As many as there may be, all on one node: it ends, and they are even. */
static void
test_many(void **state)
{
	static SpreadLease many[256];
	static bool up[SPREAD_NODES_MAX];
	int			load[SPREAD_NODES_MAX] = {0};

	memset(many, 0, sizeof(many));
	for (int k = 0; k < SPREAD_NODES_MAX; k++)
		up[k] = true;
	for (int i = 0; i < 256; i++)
		for (int k = 0; k < SPREAD_NODES_MAX; k++)
			many[i].priority[k] = 100;
	spread_leases(many, 256, SPREAD_NODES_MAX, up);
	for (int i = 0; i < 256; i++)
		load[many[i].to]++;
	for (int k = 0; k < SPREAD_NODES_MAX; k++)
		assert_int_equal(load[k], 4);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_priority),
		cmocka_unit_test(test_never_by_itself),
		cmocka_unit_test(test_balance),
		cmocka_unit_test(test_no_needless_move),
		cmocka_unit_test(test_chain),
		cmocka_unit_test(test_fixed),
		cmocka_unit_test(test_all_small),
		cmocka_unit_test(test_larger),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
