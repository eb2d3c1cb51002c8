/*
 * test_verdict.c
 *		What three witnesses say of a path.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "verdict.h"

/* Five nodes; the source tries one member of the store, too. */
static Witnesses
silence(void)
{
	return (Witnesses) {
		.phase = PHASE_CONNECT, .cause = CAUSE_TIMEOUT, .source_fresh = true,
		.source_tries = 4, .source_reaches = 4,
		.source_nodes = 3, .source_nodes_reached = 3,
		.others = 3, .others_know_source = 3, .others_reach_source = 3
	};
}

static void
target_lives(Witnesses *w)
{
	w->target_alive = true;
	w->target_tries = w->target_reaches = 3;
	w->target_says = true;
}

static void
test_stands(void **state)
{
	Witnesses	w = {.stands = true, .phase = PHASE_READY, .source_fresh = true};

	assert_int_equal(verdict_of(&w), VERDICT_STANDS);
	/* so it was when it was heard last */
	w.source_fresh = false;
	assert_int_equal(verdict_of(&w), VERDICT_SOURCE_SILENT);
}

static void
test_nobody_reaches_it(void **state)
{
	Witnesses	w = silence();

	assert_int_equal(verdict_of(&w), VERDICT_TARGET_DOWN);
	w.cause = CAUSE_REFUSED;
	assert_int_equal(verdict_of(&w), VERDICT_TARGET_DOWN);
	/* it may still accept connections, and say nothing */
	w.phase = PHASE_AUTHENTICATE;
	w.cause = CAUSE_SILENT;
	assert_int_equal(verdict_of(&w), VERDICT_TARGET_DOWN);
}

static void
test_only_this_path(void **state)
{
	Witnesses	w = silence();

	target_lives(&w);
	w.others_reach_target = 3;
	assert_int_equal(verdict_of(&w), VERDICT_PATH_BLOCKED);
	w.back_stands = true;
	assert_int_equal(verdict_of(&w), VERDICT_ONE_DIRECTION);
	/* what it said long ago does not count */
	w.target_says = false;
	assert_int_equal(verdict_of(&w), VERDICT_PATH_BLOCKED);
}

static void
test_source_cut_off(void **state)
{
	Witnesses	w = silence();

	w.source_reaches = w.source_nodes_reached = 0;
	w.others_reach_source = 0;
	w.others_reach_target = 3;
	assert_int_equal(verdict_of(&w), VERDICT_SOURCE_CUT_OFF);
	/* from the nodes, not from the store */
	w.source_reaches = 1;
	assert_int_equal(verdict_of(&w), VERDICT_SOURCE_CUT_OFF);
	/* whoever is reached by somebody is not cut off */
	w.others_reach_source = 1;
	assert_int_equal(verdict_of(&w), VERDICT_PATH_BLOCKED);
	/* nor is one that reaches somebody */
	w.others_reach_source = 0;
	w.source_reaches = 2;
	w.source_nodes_reached = 1;
	assert_int_equal(verdict_of(&w), VERDICT_PATH_BLOCKED);
	/* it hears of nobody */
	w = silence();
	w.source_reaches = w.source_nodes_reached = 0;
	w.others = w.others_know_source = w.others_reach_source = 0;
	assert_int_equal(verdict_of(&w), VERDICT_SOURCE_CUT_OFF);
}

/* Two nodes: the target's word reaches us by the store, or not at all. */
static void
test_no_third(void **state)
{
	Witnesses	w = {
		.phase = PHASE_CONNECT, .cause = CAUSE_TIMEOUT, .source_fresh = true,
		.source_tries = 1, .source_reaches = 1
	};

	assert_int_equal(verdict_of(&w), VERDICT_TARGET_DOWN);
	w.target_alive = true;
	assert_int_equal(verdict_of(&w), VERDICT_PATH_BLOCKED);
	/* a source that hears of nothing cannot say that the target is dead */
	w.target_alive = false;
	w.source_reaches = 0;
	assert_int_equal(verdict_of(&w), VERDICT_UNKNOWN);
}

static void
test_target_hidden_or_cut_off(void **state)
{
	Witnesses	w = silence();

	target_lives(&w);
	assert_int_equal(verdict_of(&w), VERDICT_TARGET_HIDDEN);
	/* that it gets out itself does not mean that others get in */
	w.back_stands = true;
	assert_int_equal(verdict_of(&w), VERDICT_TARGET_HIDDEN);
	w.back_stands = false;
	w.target_reaches = 0;
	assert_int_equal(verdict_of(&w), VERDICT_TARGET_CUT_OFF);
}

static void
test_answers(void **state)
{
	Witnesses	w = silence();

	w.phase = PHASE_AUTHENTICATE;
	w.cause = CAUSE_NO_HBA;
	assert_int_equal(verdict_of(&w), VERDICT_TARGET_REFUSES);
	w.phase = PHASE_READY;
	w.cause = CAUSE_NO_EXTENSION;
	assert_int_equal(verdict_of(&w), VERDICT_TARGET_REFUSES);
	w.phase = PHASE_RESOLVE;
	w.cause = CAUSE_NO_ADDRESS;
	assert_int_equal(verdict_of(&w), VERDICT_NAME);
}

static void
test_words(void **state)
{
	for (int i = 0; i <= VERDICT_UNKNOWN; i++)
	{
		const char *text = verdict_text(i);

		assert_true(text[0] >= 'A' && text[0] <= 'Z');
		assert_int_equal(text[strlen(text) - 1], '.');
		for (int k = 0; k < i; k++)
			assert_string_not_equal(verdict_name(i), verdict_name(k));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stands),
		cmocka_unit_test(test_nobody_reaches_it),
		cmocka_unit_test(test_only_this_path),
		cmocka_unit_test(test_source_cut_off),
		cmocka_unit_test(test_no_third),
		cmocka_unit_test(test_target_hidden_or_cut_off),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_words),
	};

	return cmocka_run_group_tests_name("verdict", tests, NULL, NULL);
}
