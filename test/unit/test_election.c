/*
 * test_election.c
 *		Who goes first when the lease is free, and whether a name is free (R8).
 *
 * The node under test is "m", priority 100, at position 5000.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "election.h"

/* cmocka hands every test a state; these keep theirs below */
#pragma GCC diagnostic ignored "-Wunused-parameter"

#define STEP		10
#define PATIENCE	1000

static Electorate us;
static Candidate candidate[8];

/* Of streaming standbys; "m" knows itself, too. */
static void
start(void)
{
	memset(&us, 0, sizeof(us));
	memset(candidate, 0, sizeof(candidate));
	us.candidate = candidate;
	us.self = "m";
	us.priority = 100;
	us.position = 5000;
	us.by_position = true;
	us.last_holder = "h";
	us.last_incarnation = 77;
	us.step = STEP;
	us.patience = PATIENCE;
}

static Candidate *
add(const char *name, uint64_t position, int32_t priority)
{
	Candidate  *c = &candidate[us.n++];

	snprintf(c->name, sizeof(c->name), "%s", name);
	c->incarnation = 100 + us.n;
	c->priority = priority;
	c->alive = true;
	c->stands = true;
	c->position = position;
	return c;
}

static void
expect_after(int others)
{
	assert_int_equal(election_stagger(&us), others * STEP);
}

/* ------------------------------------------------------------------------
 * Rank
 * ------------------------------------------------------------------------
 */

static void
test_alone(void **state)
{
	start();
	expect_after(0);
	add("m", 9000, 200);
	expect_after(0);
}

static void
test_the_most_advanced_goes_first(void **state)
{
	start();
	add("m", 5000, 100);
	add("a", 5001, 1);
	add("z", 9000, 1);
	add("b", 4999, 900);
	expect_after(2);
	us.position = 9001;
	expect_after(0);
	us.position = 1;
	expect_after(3);
}

static void
test_priority_among_equals(void **state)
{
	start();
	add("z", 5000, 101);
	expect_after(1);
	add("a", 5000, 99);
	expect_after(1);
	us.priority = 98;
	expect_after(2);
	us.priority = 102;
	expect_after(0);
}

static void
test_name_among_equals(void **state)
{
	start();
	add("l", 5000, 100);
	expect_after(1);
	add("n", 5000, 100);
	expect_after(1);
	add("ma", 5000, 100);
	expect_after(1);
}

/* Every two of them agree on who goes first, so no two go at once. */
static void
test_who_outranks_whom(void **state)
{
	static const char *const name[] = {"a", "m", "z"};

	assert_true(election_outranks(101, "z", 100, "a"));
	assert_false(election_outranks(99, "a", 100, "z"));
	assert_true(election_outranks(100, "a", 100, "b"));
	assert_false(election_outranks(100, "b", 100, "a"));
	assert_false(election_outranks(100, "a", 100, "a"));
	/* who takes nothing by itself goes before nobody, another such one included */
	assert_false(election_outranks(0, "a", 0, "b"));
	assert_true(election_outranks(1, "b", 0, "a"));
	for (int i = 0; i < 3; i++)
		for (int j = 0; j < 3; j++)
			for (int k = 1; k <= 3; k++)
				for (int l = 1; l <= 3; l++)
					if (i != j)
						assert_int_equal(election_outranks(k, name[i], l, name[j]) +
										 election_outranks(l, name[j], k, name[i]), 1);
}

static void
test_everybody_has_a_place_of_its_own(void **state)
{
	static const char *const name[] = {"a", "b", "c", "d", "e", "f"};
	static const uint64_t position[] = {10, 20, 10, 20, 10, 20};
	static const int32_t priority[] = {1, 1, 2, 2, 1, 1};
	int			seen = 0;

	for (int who = 0; who < 6; who++)
	{
		start();
		for (int i = 0; i < 6; i++)
			add(name[i], position[i], priority[i]);
		us.self = name[who];
		us.position = position[who];
		us.priority = priority[who];
		seen |= 1 << (election_stagger(&us) / STEP);
	}
	assert_int_equal(seen, 0x3f);
	/* far along, and of the highest priority */
	us.self = "d";
	us.priority = 2;
	expect_after(0);
}

static void
test_positions_do_not_count_elsewhere(void **state)
{
	start();
	us.by_position = false;
	add("z", 9000, 100)->stands = false;
	expect_after(0);
	add("a", 1, 100)->stands = false;
	expect_after(1);
	add("y", 1, 101);
	expect_after(2);
}

/* ------------------------------------------------------------------------
 * Who is not waited for
 * ------------------------------------------------------------------------
 */

static void
test_the_dead_are_ignored(void **state)
{
	start();
	add("a", 9000, 100)->alive = false;
	expect_after(0);
	candidate[0].stands = false;
	expect_after(0);
}

static void
test_priority_zero_is_ignored(void **state)
{
	start();
	add("a", 9000, 0);
	expect_after(0);
	candidate[0].stands = false;
	expect_after(0);
	us.by_position = false;
	us.priority = -1;
	expect_after(0);
}

/* The lease is free: its holder is gone, or gave up. */
static void
test_the_last_holder_is_ignored(void **state)
{
	start();
	add("h", 9000, 200);
	expect_after(0);
	candidate[0].stands = false;
	expect_after(0);
}

/* A release takes the name out of the row, but leaves the incarnation. */
static void
test_the_last_holder_after_a_release(void **state)
{
	start();
	us.last_holder = "";
	add("h", 9000, 200)->stands = false;
	candidate[0].incarnation = 77;
	expect_after(0);
	/* unless it wants it back */
	candidate[0].stands = true;
	expect_after(1);
}

/* ------------------------------------------------------------------------
 * Patience
 * ------------------------------------------------------------------------
 */

static void
test_patience_while_positions_are_missing(void **state)
{
	start();
	/* an old position says nothing: it may have received more since */
	add("a", 1, 1)->stands = false;
	assert_int_equal(election_stagger(&us), PATIENCE);
	/* those who said theirs go before us all the same */
	add("b", 5001, 1);
	assert_int_equal(election_stagger(&us), PATIENCE + STEP);
	candidate[0].stands = true;
	expect_after(1);
}

/* One that never says it holds nobody up for longer than that. */
static void
test_patience_is_paid_once(void **state)
{
	start();
	add("a", 1, 1)->stands = false;
	add("b", 1, 1)->stands = false;
	add("c", 9000, 1)->stands = false;
	assert_int_equal(election_stagger(&us), PATIENCE);
}

/* ------------------------------------------------------------------------
 * Names (R8)
 * ------------------------------------------------------------------------
 */

#define ME			11
#define OTHER		22
#define PREVIOUS	10
#define SILENCE		500

static NameWatch watch;
static ClockTime now;

static void
start_watch(void)
{
	memset(&watch, 0, sizeof(watch));
	now = 1000;
}

static void
watched(bool present, uint64_t incarnation, int64_t beat)
{
	now += 100;
	election_watch_name(&watch, present, incarnation, beat, now);
}

static void
expect_name(NameVerdict verdict)
{
	assert_int_equal(election_name(&watch, ME, PREVIOUS, SILENCE, now), verdict);
}

static void
test_name_not_asked(void **state)
{
	start_watch();
	expect_name(NAME_UNKNOWN);
}

static void
test_name_free(void **state)
{
	start_watch();
	watched(false, 0, 0);
	expect_name(NAME_FREE);
	watched(true, ME, 1);
	expect_name(NAME_MINE);
}

static void
test_name_of_the_previous_run(void **state)
{
	start_watch();
	watched(true, PREVIOUS, 40);
	expect_name(NAME_FREE);
	/* a proof that a beat disproves */
	watched(true, PREVIOUS, 41);
	expect_name(NAME_TAKEN);
	/* no proof */
	start_watch();
	watched(true, PREVIOUS, 40);
	assert_int_equal(election_name(&watch, ME, 0, SILENCE, now), NAME_UNKNOWN);
	start_watch();
	watched(true, 0, 40);
	assert_int_equal(election_name(&watch, ME, 0, SILENCE, now), NAME_UNKNOWN);
}

static void
test_name_of_another_run(void **state)
{
	start_watch();
	watched(true, OTHER, 40);
	expect_name(NAME_UNKNOWN);
	watched(true, OTHER, 40);
	expect_name(NAME_UNKNOWN);
	watched(true, OTHER, 41);
	expect_name(NAME_TAKEN);
	/* silent for long enough, from the last beat on */
	for (int i = 0; i < 4; i++)
	{
		watched(true, OTHER, 41);
		expect_name(NAME_TAKEN);
	}
	watched(true, OTHER, 41);
	expect_name(NAME_FREE);
}

/* Runs that follow each other are not one that moves. */
static void
test_name_of_runs_that_change(void **state)
{
	start_watch();
	watched(true, OTHER, 40);
	watched(true, OTHER + 1, 41);
	expect_name(NAME_UNKNOWN);
	watched(false, 0, 0);
	expect_name(NAME_FREE);
	watched(true, OTHER + 1, 42);
	expect_name(NAME_UNKNOWN);
	/* the silence of one is not the next one's */
	for (int i = 0; i < 4; i++)
		watched(true, OTHER + 1, 42);
	watched(true, OTHER + 2, 42);
	expect_name(NAME_UNKNOWN);
	watched(true, OTHER + 2, 42);
	expect_name(NAME_UNKNOWN);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_alone),
		cmocka_unit_test(test_the_most_advanced_goes_first),
		cmocka_unit_test(test_priority_among_equals),
		cmocka_unit_test(test_name_among_equals),
		cmocka_unit_test(test_who_outranks_whom),
		cmocka_unit_test(test_everybody_has_a_place_of_its_own),
		cmocka_unit_test(test_positions_do_not_count_elsewhere),
		cmocka_unit_test(test_the_dead_are_ignored),
		cmocka_unit_test(test_priority_zero_is_ignored),
		cmocka_unit_test(test_the_last_holder_is_ignored),
		cmocka_unit_test(test_the_last_holder_after_a_release),
		cmocka_unit_test(test_patience_while_positions_are_missing),
		cmocka_unit_test(test_patience_is_paid_once),
		cmocka_unit_test(test_name_not_asked),
		cmocka_unit_test(test_name_free),
		cmocka_unit_test(test_name_of_the_previous_run),
		cmocka_unit_test(test_name_of_another_run),
		cmocka_unit_test(test_name_of_runs_that_change),
	};

	return cmocka_run_group_tests_name("election", tests, NULL, NULL);
}
