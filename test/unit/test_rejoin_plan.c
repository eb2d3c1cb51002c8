/*
 * test_rejoin_plan.c
 *		What leasehold-rejoin decides: who holds, where histories part, and what
 *		has to be done.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rejoin/plan.h"

/* ------------------------------------------------------------------------
 * Who holds
 * ------------------------------------------------------------------------
 */

static PlanRow
row_of(const char *holder, uint64_t incarnation, int64_t epoch, int64_t version)
{
	PlanRow		row = {.counted = true, .present = true};

	snprintf(row.holder, sizeof(row.holder), "%s", holder);
	row.incarnation = incarnation;
	row.epoch = epoch;
	row.version = version;
	return row;
}

static void
a_majority_says_who_holds(void **state)
{
	PlanRow		row[3] = {row_of("a", 1, 4, 9), row_of("b", 2, 5, 3), row_of("b", 2, 5, 7)};
	int			which = -1;

	assert_int_equal(plan_holder(row, 3, 2, &which), PLAN_HOLDER_KNOWN);
	assert_int_equal(which, 2);
	/* a member that does not count has no voice */
	row[2].counted = false;
	assert_int_equal(plan_holder(row, 3, 2, &which), PLAN_HOLDER_UNDECIDED);
	row[1].counted = false;
	assert_int_equal(plan_holder(row, 3, 2, &which), PLAN_HOLDER_TOO_FEW);
}

static void
a_minority_win_is_no_holder(void **state)
{
	/* b has taken one member of three, the others say a: a holds */
	PlanRow		row[3] = {row_of("b", 2, 5, 1), row_of("a", 1, 4, 9), row_of("a", 1, 4, 8)};
	int			which = -1;

	assert_int_equal(plan_holder(row, 3, 2, &which), PLAN_HOLDER_KNOWN);
	assert_int_equal(which, 1);
	/* one of those does not answer: not known */
	row[2].counted = false;
	assert_int_equal(plan_holder(row, 3, 2, &which), PLAN_HOLDER_UNDECIDED);
}

static void
another_run_is_another_holder(void **state)
{
	PlanRow		row[2] = {row_of("b", 1, 5, 1), row_of("b", 2, 5, 1)};
	int			which;

	assert_int_equal(plan_holder(row, 2, 2, &which), PLAN_HOLDER_UNDECIDED);
	row[1] = row_of("b", 1, 6, 1);
	assert_int_equal(plan_holder(row, 2, 2, &which), PLAN_HOLDER_UNDECIDED);
}

static void
a_released_lease_has_no_holder(void **state)
{
	/* a member that missed the release still names the holder */
	PlanRow		row[3] = {row_of("", 1, 4, 9), row_of("", 1, 4, 9), row_of("a", 1, 4, 8)};
	int			which = -1;

	assert_int_equal(plan_holder(row, 3, 2, &which), PLAN_HOLDER_NONE);
	/* what incarnation released it does not matter */
	row[1].incarnation = 7;
	assert_int_equal(plan_holder(row, 3, 2, &which), PLAN_HOLDER_NONE);
}

static void
a_lease_that_is_not_known(void **state)
{
	PlanRow		row[3] = {row_of("a", 1, 4, 9), row_of("a", 1, 4, 9), row_of("a", 1, 4, 9)};
	int			which = -1;

	row[0].present = row[1].present = false;
	assert_int_equal(plan_holder(row, 3, 2, &which), PLAN_HOLDER_NO_LEASE);
	row[1].present = true;
	assert_int_equal(plan_holder(row, 3, 2, &which), PLAN_HOLDER_KNOWN);
	/* no list of members: nothing can be counted */
	assert_int_equal(plan_holder(row, 3, 0, &which), PLAN_HOLDER_TOO_FEW);
	assert_int_equal(plan_holder(row, 0, 0, &which), PLAN_HOLDER_TOO_FEW);
}

/* ------------------------------------------------------------------------
 * Histories
 * ------------------------------------------------------------------------
 */

static PlanHistory
history_of(const char *text, uint32_t present)
{
	PlanHistory history;

	assert_true(plan_parse_history(text, present, &history));
	return history;
}

static void
histories_are_read(void **state)
{
	PlanHistory h = history_of("1\t0/3000148\tno recovery target specified\n"
							   "\n# a comment\n  3\t1/A0\tbefore 2000-01-01\n", 4);

	assert_int_equal(h.n, 3);
	assert_int_equal(h.timeline[0].id, 1);
	assert_true(h.timeline[0].begin == 0 && h.timeline[0].end == 0x3000148);
	assert_int_equal(h.timeline[1].id, 3);
	assert_true(h.timeline[1].begin == 0x3000148);
	assert_true(h.timeline[1].end == UINT64_C(0x1000000A0));
	assert_int_equal(h.timeline[2].id, 4);
	assert_true(h.timeline[2].end == PLAN_END_OPEN);
	assert_true(plan_contains(&h, 3) && plan_contains(&h, 4) && !plan_contains(&h, 2));
	free(h.timeline);
	h = history_of("", 1);
	assert_int_equal(h.n, 1);
	free(h.timeline);
}

static void
what_is_no_history_is_refused(void **state)
{
	static const char *const bad[] = {
		"nonsense\n", "1\n", "2\t0/10\n2\t0/20\n", "3\t0/10\n2\t0/20\n",
		"1\t0/20\n2\t0/10\n", "5\t0/20\n"
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		PlanHistory history;

		assert_false(plan_parse_history(bad[i], 5, &history));
		free(history.timeline);
	}
}

static PlanFork
fork_of(const char *ours, uint32_t our_id, const char *theirs, uint32_t their_id)
{
	PlanHistory a = history_of(ours, our_id);
	PlanHistory b = history_of(theirs, their_id);
	PlanFork	fork = plan_fork(&a, &b);

	free(a.timeline);
	free(b.timeline);
	return fork;
}

static void
histories_part_where_the_holder_left(void **state)
{
	PlanFork	fork = fork_of("", 1, "1\t0/100\n", 2);

	assert_true(fork.found && fork.id == 1 && fork.lsn == 0x100);
	/* two timelines later */
	fork = fork_of("", 1, "1\t0/100\n2\t0/200\n", 3);
	assert_true(fork.found && fork.id == 1 && fork.lsn == 0x100);
	/* the same timeline, and neither has left it */
	fork = fork_of("1\t0/100\n", 2, "1\t0/100\n", 2);
	assert_true(fork.found && fork.id == 2 && fork.lsn == PLAN_END_OPEN);
}

static void
both_may_have_gone_on(void **state)
{
	PlanFork	fork = fork_of("1\t0/100\n", 2, "1\t0/80\n", 3);

	assert_true(fork.found && fork.id == 1 && fork.lsn == 0x80);
	fork = fork_of("1\t0/80\n", 2, "1\t0/100\n", 3);
	assert_true(fork.found && fork.id == 1 && fork.lsn == 0x80);
	/* the same number for two timelines that begin apart */
	fork = fork_of("1\t0/80\n", 2, "1\t0/100\n", 2);
	assert_true(fork.found && fork.id == 1 && fork.lsn == 0x80);
}

static void
unrelated_histories(void **state)
{
	PlanFork	fork = fork_of("", 1, "", 7);

	assert_false(fork.found);
}

/* ------------------------------------------------------------------------
 * What to do
 * ------------------------------------------------------------------------
 */

static const PlanFork forked = {true, 1, 0x100};
static const PlanFork not_forked = {true, 2, PLAN_END_OPEN};

static void
expect(PlanLocal local, PlanFork fork, PlanKind kind, PlanReason reason)
{
	PlanReason	why;

	assert_int_equal(plan_decide(&local, &fork, 2, &why), kind);
	assert_int_equal(why, reason);
	assert_true(strlen(plan_reason_text(why)) > 10);
}

/* A primary of timeline 1 whose last change ends there. */
static PlanLocal
ended_at(uint64_t end)
{
	PlanLocal	local = {.timeline = 1, .was_primary = true,
		.data_end_known = true, .data_end = end, .rewindable = true};

	return local;
}

static void
nothing_beyond_the_fork_needs_no_rewind(void **state)
{
	PlanLocal	local = ended_at(0x100);

	expect(local, forked, PLAN_FOLLOW, PLAN_ANCESTOR);
	local.rewindable = false;
	expect(local, forked, PLAN_FOLLOW, PLAN_ANCESTOR);
	local.was_primary = false;
	expect(local, forked, PLAN_FOLLOW, PLAN_ANCESTOR);
}

static void
one_byte_beyond_needs_one(void **state)
{
	PlanLocal	local = ended_at(0x101);

	expect(local, forked, PLAN_REWIND, PLAN_DIVERGED);
	/* a standby may have applied what the group never received */
	local.was_primary = false;
	expect(local, forked, PLAN_REWIND, PLAN_DIVERGED);
	local.rewindable = false;
	expect(local, forked, PLAN_BACKUP, PLAN_NO_HINTS);
}

static void
what_is_not_known_counts_as_diverged(void **state)
{
	PlanLocal	local = ended_at(0);

	local.data_end_known = false;
	expect(local, forked, PLAN_REWIND, PLAN_DIVERGED);
	/* but a backup says itself where it ends */
	local.is_backup = true;
	expect(local, forked, PLAN_FOLLOW, PLAN_ANCESTOR);
}

static void
another_branch_has_diverged(void **state)
{
	PlanLocal	local = ended_at(0x90);

	local.timeline = 3;
	expect(local, forked, PLAN_REWIND, PLAN_DIVERGED);
	local.is_backup = true;
	expect(local, forked, PLAN_BACKUP, PLAN_BACKUP_AHEAD);
}

static void
the_same_timeline_has_one_primary(void **state)
{
	PlanLocal	local = ended_at(0x500);

	local.timeline = 2;
	expect(local, not_forked, PLAN_BACKUP, PLAN_COLLISION);
	local.was_primary = false;
	expect(local, not_forked, PLAN_FOLLOW, PLAN_SAME_TIMELINE);
	/* a copy of the holder that was never started */
	local.was_primary = true;
	local.is_backup = true;
	expect(local, not_forked, PLAN_FOLLOW, PLAN_SAME_TIMELINE);
}

static void
no_common_history(void **state)
{
	PlanFork	none = {false, 0, 0};

	expect(ended_at(0x10), none, PLAN_BACKUP, PLAN_UNRELATED);
}

static void
an_interrupted_rewind_goes_on_only_with_the_same_timeline(void **state)
{
	PlanLocal	local = ended_at(0x10);

	local.half_rewound = 2;
	expect(local, forked, PLAN_REWIND, PLAN_REPEAT);
	local.half_rewound = 3;
	expect(local, forked, PLAN_BACKUP, PLAN_HALF_REWOUND);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_majority_says_who_holds),
		cmocka_unit_test(a_minority_win_is_no_holder),
		cmocka_unit_test(another_run_is_another_holder),
		cmocka_unit_test(a_released_lease_has_no_holder),
		cmocka_unit_test(a_lease_that_is_not_known),
		cmocka_unit_test(histories_are_read),
		cmocka_unit_test(what_is_no_history_is_refused),
		cmocka_unit_test(histories_part_where_the_holder_left),
		cmocka_unit_test(both_may_have_gone_on),
		cmocka_unit_test(unrelated_histories),
		cmocka_unit_test(nothing_beyond_the_fork_needs_no_rewind),
		cmocka_unit_test(one_byte_beyond_needs_one),
		cmocka_unit_test(what_is_not_known_counts_as_diverged),
		cmocka_unit_test(another_branch_has_diverged),
		cmocka_unit_test(the_same_timeline_has_one_primary),
		cmocka_unit_test(no_common_history),
		cmocka_unit_test(an_interrupted_rewind_goes_on_only_with_the_same_timeline),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
