/*
 * test_candidacy.c
 *		Who may take a lease of kind "physical" (R12), and the plain data that
 *		this is judged by: histories of timelines, positions.
 *
 * The group: system 7001.  The last holder wrote under epoch 5, on timeline 3,
 * which branched off from 2 at 0x3000, and came to 0x5000.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "candidacy.h"

/* cmocka hands every test a state; these keep theirs below */
#pragma GCC diagnostic ignored "-Wunused-parameter"

#define LAG		0x1000			/* leasehold.max_lag in these tests */

static Instance instance;
static LeaseRow row;

static void
timelines(int n,...)
{
	va_list		arguments;

	memset(&instance.history, 0, sizeof(instance.history));
	va_start(arguments, n);
	for (int i = 0; i < n; i++)
	{
		instance.history.at[i].id = va_arg(arguments, int);
		instance.history.at[i].end = va_arg(arguments, int);
	}
	va_end(arguments);
	instance.history.n = n;
}

/* A standby that has all there is. */
static void
start_standby(void)
{
	memset(&instance, 0, sizeof(instance));
	memset(&row, 0, sizeof(row));
	instance.known = true;
	instance.in_recovery = true;
	instance.standby = true;
	snprintf(instance.sysid, sizeof(instance.sysid), "7001");
	timelines(3, 1, 0x1000, 2, 0x3000, 3, 0);
	instance.position = 0x5000;

	row.present = true;
	row.pinned = true;
	row.epoch = 5;
	snprintf(row.sysid, sizeof(row.sysid), "7001");
	row.wrote.timeline = 3;
	row.wrote.epoch = 5;
	row.wrote.lsn = 0x5000;
}

/* The one that wrote last. */
static void
start_primary(void)
{
	start_standby();
	instance.in_recovery = false;
	instance.standby = false;
	instance.held_epoch = 5;
}

static void
held_by(const char *name)
{
	snprintf(row.holder, sizeof(row.holder), "%s", name);
}

static Candidacy
judge(bool promote, uint64_t max_lag, bool forced)
{
	return candidacy_judge(&instance, &row, "a", promote, max_lag, forced);
}

static void
expect(Candidacy verdict)
{
	assert_int_equal(judge(true, LAG, false), verdict);
}

/* ... by itself, but not if a person wants it. */
static void
expect_unless_forced(Candidacy verdict)
{
	expect(verdict);
	assert_int_equal(judge(true, LAG, true), CANDIDACY_FIT);
}

/* ... whatever a person says. */
static void
expect_forced_too(Candidacy verdict)
{
	expect(verdict);
	assert_int_equal(judge(true, LAG, true), verdict);
}

/* ------------------------------------------------------------------------
 * Verdicts
 * ------------------------------------------------------------------------
 */

static void
test_fit(void **state)
{
	start_standby();
	expect(CANDIDACY_FIT);
	start_primary();
	expect(CANDIDACY_FIT);
}

static void
test_not_looked_at(void **state)
{
	start_standby();
	instance.known = false;
	expect_forced_too(CANDIDACY_UNKNOWN);
	start_standby();
	timelines(0);
	expect_forced_too(CANDIDACY_UNKNOWN);
}

/* It replays its own WAL after a crash, or a backup up to some moment. */
static void
test_recovering(void **state)
{
	start_standby();
	instance.standby = false;
	expect_forced_too(CANDIDACY_RECOVERING);
}

static void
test_other_system(void **state)
{
	start_standby();
	snprintf(instance.sysid, sizeof(instance.sysid), "7002");
	expect_forced_too(CANDIDACY_OTHER_SYSTEM);
	start_primary();
	snprintf(instance.sysid, sizeof(instance.sysid), "70011");
	expect_forced_too(CANDIDACY_OTHER_SYSTEM);
	/* not pinned yet: the first holder does that */
	row.sysid[0] = '\0';
	expect(CANDIDACY_FIT);
}

static void
test_never_held(void **state)
{
	start_standby();
	memset(&row.wrote, 0, sizeof(row.wrote));
	expect_forced_too(CANDIDACY_NEVER_HELD);
	/* taken and given back, but nobody wrote: still the primary's */
	row.epoch = 9;
	expect_forced_too(CANDIDACY_NEVER_HELD);

	start_primary();
	memset(&row.wrote, 0, sizeof(row.wrote));
	instance.held_epoch = 0;
	expect(CANDIDACY_FIT);
	assert_int_equal(judge(false, 0, false), CANDIDACY_FIT);
}

static void
test_diverged(void **state)
{
	/* has not come as far as the holder's timeline */
	start_standby();
	timelines(2, 1, 0x1000, 2, 0);
	expect_forced_too(CANDIDACY_DIVERGED);
	/* is on another branch */
	timelines(3, 1, 0x1000, 2, 0x3000, 4, 0);
	expect_forced_too(CANDIDACY_DIVERGED);
	/* an ex-primary */
	start_primary();
	timelines(2, 1, 0x1000, 2, 0);
	instance.held_epoch = 4;
	expect_forced_too(CANDIDACY_DIVERGED);
	/* and if it had taken the lease since, but not been told to write */
	instance.held_epoch = 6;
	expect_forced_too(CANDIDACY_DIVERGED);
}

/* Behind a promotion that did not come to write: it may come back. */
static void
test_newer_timeline(void **state)
{
	start_standby();
	timelines(4, 1, 0x1000, 2, 0x3000, 3, 0x5000, 4, 0);
	instance.position = 0x5100;
	expect(CANDIDACY_FIT);
	/* one that does not say its timeline rules nobody out */
	row.wrote.timeline = 0;
	expect(CANDIDACY_FIT);
}

/* A primary that the lease did not make one. */
static void
test_promoted_by_hand(void **state)
{
	start_primary();
	timelines(4, 1, 0x1000, 2, 0x3000, 3, 0x5000, 4, 0);
	instance.held_epoch = 0;
	expect_unless_forced(CANDIDACY_PROMOTED);
	/* it has held it once, but not last */
	instance.held_epoch = 4;
	expect_unless_forced(CANDIDACY_PROMOTED);
	/* it was the last, became a standby, and was promoted again */
	instance.held_epoch = 5;
	expect_unless_forced(CANDIDACY_PROMOTED);
	/* it took the lease after that, and did not come to write */
	instance.held_epoch = 6;
	expect(CANDIDACY_FIT);
}

/* Its timeline has the very number of the holder's. */
static void
test_promoted_by_hand_to_the_same_number(void **state)
{
	start_primary();
	instance.held_epoch = 0;
	expect_unless_forced(CANDIDACY_PROMOTED);
	instance.held_epoch = 4;
	expect_unless_forced(CANDIDACY_PROMOTED);
}

static void
test_promote_is_off(void **state)
{
	start_standby();
	assert_int_equal(judge(false, LAG, false), CANDIDACY_NO_PROMOTION);
	assert_int_equal(judge(false, LAG, true), CANDIDACY_NO_PROMOTION);
	/* no concern of a primary's */
	start_primary();
	assert_int_equal(judge(false, LAG, false), CANDIDACY_FIT);
}

static void
test_max_lag(void **state)
{
	start_standby();
	instance.position = 0x5000 - LAG;
	expect(CANDIDACY_FIT);
	instance.position--;
	expect_unless_forced(CANDIDACY_LAGS);
	assert_int_equal(judge(true, CANDIDACY_NO_LIMIT, false), CANDIDACY_FIT);
	instance.position = 0;
	assert_int_equal(judge(true, CANDIDACY_NO_LIMIT, false), CANDIDACY_FIT);
	/* not a byte */
	instance.position = 0x5000;
	assert_int_equal(judge(true, 0, false), CANDIDACY_FIT);
	instance.position--;
	assert_int_equal(judge(true, 0, false), CANDIDACY_LAGS);
	/* the holder has not said how far it came */
	row.wrote.lsn = 0;
	expect(CANDIDACY_FIT);
}

/*
 * Of two things that stand against it, the one is named that matters more: what
 * no setting mends before what a setting does.
 */
static void
test_order_of_verdicts(void **state)
{
	start_standby();
	instance.position = 0;
	assert_int_equal(judge(false, LAG, false), CANDIDACY_NO_PROMOTION);
	timelines(1, 1, 0);
	assert_int_equal(judge(false, LAG, false), CANDIDACY_DIVERGED);
	row.wrote.epoch = 0;
	assert_int_equal(judge(false, LAG, false), CANDIDACY_NEVER_HELD);
	snprintf(instance.sysid, sizeof(instance.sysid), "7002");
	assert_int_equal(judge(false, LAG, false), CANDIDACY_OTHER_SYSTEM);
	instance.standby = false;
	assert_int_equal(judge(false, LAG, false), CANDIDACY_RECOVERING);
	instance.known = false;
	assert_int_equal(judge(false, LAG, false), CANDIDACY_UNKNOWN);

	start_primary();
	instance.position = 0;
	instance.held_epoch = 0;
	expect(CANDIDACY_PROMOTED);
	timelines(1, 1, 0);
	expect(CANDIDACY_DIVERGED);
}

/* ------------------------------------------------------------------------
 * Lag
 * ------------------------------------------------------------------------
 */

static void
test_lag(void **state)
{
	start_standby();
	assert_int_equal(candidacy_lag(&instance, &row), 0);
	instance.position = 0x4800;
	assert_int_equal(candidacy_lag(&instance, &row), 0x800);
	/* more than the holder said last */
	instance.position = 0x6000;
	assert_int_equal(candidacy_lag(&instance, &row), 0);
}

/* What it has beyond the fork is another history: it does not make up for it. */
static void
test_lag_at_a_fork(void **state)
{
	start_standby();
	timelines(4, 1, 0x1000, 2, 0x3000, 3, 0x4000, 4, 0);
	instance.position = 0x9000;
	assert_int_equal(candidacy_lag(&instance, &row), 0x1000);
	expect(CANDIDACY_FIT);
	row.wrote.lsn = 0x5001;
	expect(CANDIDACY_LAGS);
	/* it knows of the fork, but has not come so far */
	instance.position = 0x3800;
	assert_int_equal(candidacy_lag(&instance, &row), 0x1801);
	/* never on that timeline: nothing of it */
	row.wrote.timeline = 7;
	assert_int_equal(candidacy_lag(&instance, &row), 0x5001);
}

/* ------------------------------------------------------------------------
 * Superseded
 * ------------------------------------------------------------------------
 */

static bool
is_superseded(void)
{
	return candidacy_is_superseded(&instance, &row, "a");
}

static void
test_superseded_by_a_holder(void **state)
{
	start_primary();
	held_by("a");
	assert_false(is_superseded());
	held_by("b");
	assert_true(is_superseded());
	held_by("aa");
	assert_true(is_superseded());
	/* b let go of it before it came to write */
	held_by("");
	row.epoch = 6;
	assert_false(is_superseded());
}

static void
test_superseded_by_what_was_written(void **state)
{
	start_primary();
	row.epoch = 6;
	row.wrote.epoch = 6;
	row.wrote.timeline = 4;
	row.wrote.lsn = 0x6000;
	/* nobody holds it now, but somebody wrote since */
	assert_true(is_superseded());
	/* even if it had held it since, this is not its timeline */
	instance.held_epoch = 7;
	assert_true(is_superseded());
	timelines(4, 1, 0x1000, 2, 0x3000, 3, 0x5000, 4, 0);
	assert_false(is_superseded());
}

/* Promoted by hand: nobody is to follow it. */
static void
test_superseded_by_the_group(void **state)
{
	start_primary();
	timelines(4, 1, 0x1000, 2, 0x3000, 3, 0x5000, 4, 0);
	instance.held_epoch = 0;
	assert_true(is_superseded());
	/* a person made it holder nevertheless; soon it will have told so */
	held_by("a");
	row.epoch = 6;
	instance.held_epoch = 6;
	assert_false(is_superseded());
}

static void
test_not_superseded(void **state)
{
	/* a standby */
	start_standby();
	held_by("b");
	assert_false(is_superseded());
	/* not looked at */
	start_primary();
	held_by("b");
	instance.known = false;
	assert_false(is_superseded());
	/* no row; not of this kind; never taken */
	start_primary();
	held_by("b");
	row.present = false;
	assert_false(is_superseded());
	row.present = true;
	row.pinned = false;
	assert_false(is_superseded());
	row.pinned = true;
	row.epoch = 0;
	assert_false(is_superseded());
	/* taken for the first time, not used yet */
	start_primary();
	instance.held_epoch = 0;
	memset(&row.wrote, 0, sizeof(row.wrote));
	row.epoch = 1;
	held_by("");
	assert_false(is_superseded());
}

/* ------------------------------------------------------------------------
 * Timelines
 * ------------------------------------------------------------------------
 */

static void
test_history(void **state)
{
	start_standby();
	assert_int_equal(timeline_present(&instance.history), 3);
	for (uint32_t id = 1; id <= 3; id++)
		assert_true(timeline_contains(&instance.history, id, 0));
	assert_false(timeline_contains(&instance.history, 0, 0));
	assert_false(timeline_contains(&instance.history, 4, 0));
	timelines(1, 1, 0);
	assert_int_equal(timeline_present(&instance.history), 1);
	timelines(0);
	assert_int_equal(timeline_present(&instance.history), 0);
	assert_false(timeline_contains(&instance.history, 1, 0));
	assert_int_equal(timeline_position_on(&instance.history, 1, 5), 0);
}

/* Left behind by numbers that others took. */
static void
test_history_with_gaps(void **state)
{
	start_standby();
	timelines(3, 1, 0x1000, 4, 0x3000, 9, 0);
	assert_int_equal(timeline_present(&instance.history), 9);
	assert_false(timeline_contains(&instance.history, 2, 0));
	assert_false(timeline_contains(&instance.history, 3, 0));
	assert_true(timeline_contains(&instance.history, 4, 0));
	assert_false(timeline_contains(&instance.history, 5, 0));
}

static void
test_position_on(void **state)
{
	start_standby();
	assert_int_equal(timeline_position_on(&instance.history, 3, 0x5000), 0x5000);
	assert_int_equal(timeline_position_on(&instance.history, 2, 0x5000), 0x3000);
	assert_int_equal(timeline_position_on(&instance.history, 1, 0x5000), 0x1000);
	assert_int_equal(timeline_position_on(&instance.history, 1, 0x800), 0x800);
	assert_int_equal(timeline_position_on(&instance.history, 4, 0x5000), 0);
}

/* What it has of timeline 2 beyond 0x3000, nobody on timeline 3 ever had. */
static void
test_left_behind(void **state)
{
	start_standby();
	assert_false(timeline_has_left_behind(&instance.history, 2, 0x3000));
	assert_true(timeline_has_left_behind(&instance.history, 2, 0x3001));
	assert_true(timeline_has_left_behind(&instance.history, 1, 0x2000));
	assert_false(timeline_has_left_behind(&instance.history, 3, 0x9000));
	assert_false(timeline_has_left_behind(&instance.history, 7, 0x9000));
}

static void
parses(const char *text, uint64_t expected)
{
	uint64_t	lsn = 1;

	assert_true(lsn_parse(text, &lsn));
	assert_true(lsn == expected);
}

static void
parses_not(const char *text)
{
	uint64_t	lsn = 1;

	assert_false(lsn_parse(text, &lsn));
	assert_true(lsn == 0);
}

static void
test_lsn_text(void **state)
{
	char		text[LSN_TEXT_LEN];

	parses("0/1", 1);
	parses("16/B374D848", UINT64_C(0x16B374D848));
	parses("FFFFFFFF/FFFFFFFF", UINT64_MAX);
	parses("ffffffff/fffffff0", UINT64_MAX - 15);
	parses_not("");
	parses_not("16");
	parses_not("16/");
	parses_not("/16");
	parses_not("16/B374D848 ");
	parses_not("123456789/0");
	parses_not("1/123456789");
	parses_not("x/1");
	lsn_format(0, text, sizeof(text));
	assert_string_equal(text, "");
	lsn_format(1, text, sizeof(text));
	assert_string_equal(text, "0/1");
	lsn_format(UINT64_C(0x16B374D848), text, sizeof(text));
	assert_string_equal(text, "16/B374D848");
	lsn_format(UINT64_MAX, text, sizeof(text));
	assert_string_equal(text, "FFFFFFFF/FFFFFFFF");
}

/* One number, two timelines: a copy that was promoted somewhere else. */
static void
test_the_number_of_another_timeline(void **state)
{
	start_standby();
	row.wrote.begin = 0x3000;
	assert_true(timeline_contains(&instance.history, 3, 0x3000));
	assert_false(timeline_contains(&instance.history, 3, 0x2FFF));
	assert_int_equal(timeline_begin(&instance.history, 3), 0x3000);
	assert_int_equal(timeline_begin(&instance.history, 1), 0);
	assert_int_equal(timeline_begin(&instance.history, 9), 0);
	assert_int_equal(judge(true, LAG, false), CANDIDACY_FIT);
	row.wrote.begin = 0x2800;
	assert_int_equal(judge(true, LAG, false), CANDIDACY_DIVERGED);
	assert_int_equal(judge(true, LAG, true), CANDIDACY_DIVERGED);
	/* a row that does not say, as after create_lease() */
	row.wrote.begin = 0;
	assert_int_equal(judge(true, LAG, false), CANDIDACY_FIT);
	start_primary();
	row.wrote.begin = 0x2800;
	assert_true(candidacy_is_superseded(&instance, &row, "a"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fit),
		cmocka_unit_test(test_not_looked_at),
		cmocka_unit_test(test_recovering),
		cmocka_unit_test(test_other_system),
		cmocka_unit_test(test_never_held),
		cmocka_unit_test(test_diverged),
		cmocka_unit_test(test_newer_timeline),
		cmocka_unit_test(test_the_number_of_another_timeline),
		cmocka_unit_test(test_promoted_by_hand),
		cmocka_unit_test(test_promoted_by_hand_to_the_same_number),
		cmocka_unit_test(test_promote_is_off),
		cmocka_unit_test(test_max_lag),
		cmocka_unit_test(test_order_of_verdicts),
		cmocka_unit_test(test_lag),
		cmocka_unit_test(test_lag_at_a_fork),
		cmocka_unit_test(test_superseded_by_a_holder),
		cmocka_unit_test(test_superseded_by_what_was_written),
		cmocka_unit_test(test_superseded_by_the_group),
		cmocka_unit_test(test_not_superseded),
		cmocka_unit_test(test_history),
		cmocka_unit_test(test_history_with_gaps),
		cmocka_unit_test(test_position_on),
		cmocka_unit_test(test_left_behind),
		cmocka_unit_test(test_lsn_text),
	};

	return cmocka_run_group_tests_name("candidacy", tests, NULL, NULL);
}
