/*
 * test_path.c
 *		What is known of a path: up and down, flapping, slow.
 *
 * One probe each five seconds, as a prober would do it, with the time made here.
 */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "path.h"

#define INTERVAL	(5 * CLOCK_S)
#define US			(CLOCK_MS / 1000)
#define MINUTE		12			/* probes */

static const PathRules rules = {INTERVAL, 2 * CLOCK_S};
static Path path;
static ClockTime now;

static void
begin(void)
{
	memset(&path, 'x', sizeof(path));
	now = 1000 * CLOCK_S;
	path_init(&path, now);
}

static PathChange
succeed(ClockTime latency)
{
	now += INTERVAL;
	return path_succeeded(&path, now, latency, &rules);
}

static PathChange
miss(PathPhase phase, int cause)
{
	now += INTERVAL;
	return path_failed(&path, now, phase, cause, &rules);
}

/* "+" is a success, "-" a failure; all changes, "." for none. */
static void
expect_changes(const char *probes, const char *expected)
{
	char		changes[128];
	size_t		n = 0;

	for (; *probes != '\0'; probes++)
	{
		PathChange	change = *probes == '+' ? succeed(CLOCK_MS) :
			miss(PHASE_CONNECT, 3);

		changes[n++] = change == PATH_SAME ? '.' :
			change == PATH_CAUSE_CHANGED ? 'c' : "?odfu"[path.status];
	}
	changes[n] = '\0';
	assert_string_equal(changes, expected);
}

/* So many successes, without a change. */
static void
quietly(int n, ClockTime latency)
{
	for (int i = 0; i < n; i++)
		assert_int_equal(succeed(latency), PATH_SAME);
}

/* How many successes it takes until something changes. */
static int
until_change(ClockTime latency)
{
	for (int i = 1; i <= 1000; i++)
		if (succeed(latency) != PATH_SAME)
			return i;
	return INT_MAX;
}

/* ------------------------------------------------------------------------
 * Up and down
 * ------------------------------------------------------------------------
 */

static void
nothing_is_known_at_first(void **state)
{
	begin();
	assert_int_equal(path.status, PATH_UNKNOWN);
	assert_int_equal(path.since, now);
	assert_int_equal(path.last_ok, 0);
	assert_int_equal(path.failures, 0);
	assert_int_equal(path_quantile(&path, 50), 0);
}

static void
up_and_down(void **state)
{
	begin();
	expect_changes("+++", "o..");
	expect_changes("---", "u..");
	expect_changes("++", "o.");
	begin();
	expect_changes("--+", "u.o");
	/* nothing has ever changed before the machine was started */
	now = 1;
	path_init(&path, now);
	expect_changes("+-+-", "ouou");
}

static void
what_is_told_of_a_failure(void **state)
{
	ClockTime	last_ok;
	ClockTime	down;

	begin();
	expect_changes("++", "o.");
	assert_true(path.up);
	assert_int_equal(path.phase, PHASE_READY);
	assert_int_equal(path.cause, 0);
	last_ok = now;
	assert_int_equal(miss(PHASE_AUTHENTICATE, 7), PATH_CHANGED);
	down = now;
	assert_int_equal(miss(PHASE_AUTHENTICATE, 7), PATH_SAME);
	assert_false(path.up);
	assert_int_equal(path.status, PATH_UNREACHABLE);
	assert_int_equal(path.phase, PHASE_AUTHENTICATE);
	assert_int_equal(path.cause, 7);
	assert_int_equal(path.failures, 2);
	assert_int_equal(path.since, down);
	assert_int_equal(path.last_ok, last_ok);
	assert_int_equal(path.latency, CLOCK_MS);

	assert_int_equal(succeed(3 * CLOCK_MS), PATH_CHANGED);
	assert_int_equal(path.failures, 0);
	assert_int_equal(path.phase, PHASE_READY);
	assert_int_equal(path.cause, 0);
	assert_int_equal(path.since, now);
	assert_int_equal(path.last_ok, now);
	assert_int_equal(path.latency, 3 * CLOCK_MS);
	/* the time of the status is that of its beginning */
	down = now;
	quietly(3, 4 * CLOCK_MS);
	assert_int_equal(path.since, down);
	assert_int_equal(path.last_ok, now);
	assert_int_equal(path.latency, 4 * CLOCK_MS);
}

static void
another_cause_is_told_of(void **state)
{
	ClockTime	since;

	begin();
	assert_int_equal(miss(PHASE_CONNECT, 3), PATH_CHANGED);
	since = now;
	assert_int_equal(miss(PHASE_CONNECT, 3), PATH_SAME);
	assert_int_equal(miss(PHASE_CONNECT, 4), PATH_CAUSE_CHANGED);
	assert_int_equal(miss(PHASE_CONNECT, 4), PATH_SAME);
	assert_int_equal(miss(PHASE_SESSION, 4), PATH_CAUSE_CHANGED);
	assert_int_equal(path.phase, PHASE_SESSION);
	assert_int_equal(path.cause, 4);
	assert_int_equal(path.since, since);
	assert_int_equal(path.failures, 5);
	/* the same after it stood is a change of the status */
	expect_changes("+", "o");
	assert_int_equal(miss(PHASE_SESSION, 4), PATH_CHANGED);
}

/* ------------------------------------------------------------------------
 * Flapping
 * ------------------------------------------------------------------------
 */

static void
four_changes_are_flapping(void **state)
{
	begin();
	/* the first result is none of them */
	expect_changes("+-+-+", "ououf");
	begin();
	expect_changes("-+-+-", "uouof");
}

static void
changes_count_within_twelve_intervals(void **state)
{
	/* from the first to the fourth: twelve intervals */
	begin();
	expect_changes("+-+----------+", "ouou.........f");
	/* one more */
	begin();
	expect_changes("+-+-----------+", "ouou..........o");
}

static void
flapping_is_quiet(void **state)
{
	ClockTime	since;

	begin();
	expect_changes("+-+-+", "ououf");
	since = now;
	expect_changes("-+-+--++---+++-", "...............");
	assert_int_equal(path.status, PATH_FLAPPING);
	assert_int_equal(path.since, since);
	/* not even of another cause, but it is known */
	assert_int_equal(miss(PHASE_TLS, 9), PATH_SAME);
	assert_int_equal(path.phase, PHASE_TLS);
	assert_int_equal(path.cause, 9);
	assert_int_equal(path.failures, 2);
	/* a success does not wipe out what the trouble is */
	assert_int_equal(succeed(2 * CLOCK_MS), PATH_SAME);
	assert_int_equal(path.status, PATH_FLAPPING);
	assert_int_equal(path.phase, PHASE_TLS);
	assert_int_equal(path.cause, 9);
	assert_int_equal(path.failures, 0);
	assert_int_equal(path.latency, 2 * CLOCK_MS);
	assert_int_equal(path.last_ok, now);
	assert_true(path.up);
}

static void
flapping_ends_after_twelve_quiet_intervals(void **state)
{
	begin();
	expect_changes("+-+-+", "ououf");
	expect_changes("+++++++++++", "...........");
	expect_changes("+", "o");
	assert_int_equal(path.since, now);
	assert_int_equal(path.phase, PHASE_READY);
	assert_int_equal(path.cause, 0);

	begin();
	expect_changes("-+-+-", "uouof");
	expect_changes("-----------", "...........");
	expect_changes("-", "u");
	assert_int_equal(path.phase, PHASE_CONNECT);
	assert_int_equal(path.cause, 3);
	/* what was does not count again */
	expect_changes("+-+-", "ouof");
}

static void
every_change_prolongs_flapping(void **state)
{
	begin();
	expect_changes("+-+-+", "ououf");
	expect_changes("++++++++++-", "...........");
	expect_changes("-----------", "...........");
	/* at the last moment */
	expect_changes("+++++++++++", "...........");
	expect_changes("------------", "............");
	expect_changes("-", "u");
}

static void
slow_and_flapping_is_flapping(void **state)
{
	begin();
	expect_changes("+", "o");
	quietly(20, CLOCK_MS);
	expect_changes("-+-", "uou");
	assert_int_equal(succeed(900 * CLOCK_MS), PATH_CHANGED);
	assert_int_equal(path.status, PATH_FLAPPING);
	quietly(11, 900 * CLOCK_MS);
	assert_int_equal(succeed(900 * CLOCK_MS), PATH_CHANGED);
	assert_int_equal(path.status, PATH_DEGRADED);
	/* and from there into flapping */
	expect_changes("-+-+", "uduf");
}

/* ------------------------------------------------------------------------
 * Slow
 * ------------------------------------------------------------------------
 */

/* A path that has been known for so long. */
static void
stand(int n, ClockTime latency)
{
	begin();
	assert_int_equal(succeed(latency), PATH_CHANGED);
	assert_int_equal(path.status, PATH_OK);
	quietly(n - 1, latency);
}

static void
much_slower_is_degraded(void **state)
{
	stand(10 * MINUTE, CLOCK_MS);
	/* once it is most of the recent ones */
	assert_int_equal(until_change(50 * CLOCK_MS), 5);
	assert_int_equal(path.status, PATH_DEGRADED);
	assert_int_equal(path.since, now);
	assert_int_equal(path.phase, PHASE_READY);
	/* and back */
	assert_int_equal(until_change(CLOCK_MS), 4);
	assert_int_equal(path.status, PATH_OK);
	assert_int_equal(path.since, now);
}

static void
single_slow_ones_do_not_count(void **state)
{
	stand(10 * MINUTE, CLOCK_MS);
	for (int i = 0; i < 100; i++)
		assert_int_equal(succeed(i % 2 ? 500 * CLOCK_MS : CLOCK_MS), PATH_SAME);
}

/* Five times what it was ... */
static void
slower_by_little_is_not_degraded(void **state)
{
	stand(10 * MINUTE, 10 * CLOCK_MS);
	quietly(2 * MINUTE, 49 * CLOCK_MS);
	stand(10 * MINUTE, 10 * CLOCK_MS);
	assert_int_equal(until_change(55 * CLOCK_MS), 5);
	assert_int_equal(path.status, PATH_DEGRADED);
}

/* ... and 20 ms more. */
static void
slower_by_milliseconds_is_not_degraded(void **state)
{
	stand(10 * MINUTE, 100 * US);
	quietly(2 * MINUTE, 19 * CLOCK_MS);
	stand(10 * MINUTE, 100 * US);
	assert_int_equal(until_change(21 * CLOCK_MS), 5);
	assert_int_equal(path.status, PATH_DEGRADED);
}

static void
degraded_stays_until_it_is_clearly_faster(void **state)
{
	stand(10 * MINUTE, 10 * CLOCK_MS);
	assert_int_equal(until_change(100 * CLOCK_MS), 5);
	/* would not have been degraded, but is so still */
	quietly(MINUTE, 40 * CLOCK_MS);
	assert_int_equal(path.status, PATH_DEGRADED);
	assert_int_equal(until_change(29 * CLOCK_MS), 4);
	assert_int_equal(path.status, PATH_OK);
	quietly(MINUTE, 40 * CLOCK_MS);

	/* a fast one, by milliseconds */
	stand(10 * MINUTE, 100 * US);
	assert_int_equal(until_change(30 * CLOCK_MS), 5);
	quietly(MINUTE, 11 * CLOCK_MS);
	assert_int_equal(until_change(9 * CLOCK_MS), 4);
	assert_int_equal(path.status, PATH_OK);
}

/* Whatever it used to be: half of the probe's timeout, here of two seconds. */
static void
hardly_in_time_is_degraded(void **state)
{
	begin();
	assert_int_equal(succeed(1100 * CLOCK_MS), PATH_CHANGED);
	assert_int_equal(path.status, PATH_OK);
	assert_int_equal(until_change(1100 * CLOCK_MS), 3);
	assert_int_equal(path.status, PATH_DEGRADED);
	/* nor does anybody get used to it */
	quietly(60 * MINUTE, 1100 * CLOCK_MS);
	/* a third ends it */
	quietly(MINUTE, 700 * CLOCK_MS);
	assert_int_equal(until_change(600 * CLOCK_MS), 4);
	assert_int_equal(path.status, PATH_OK);

	stand(10 * MINUTE, 900 * CLOCK_MS);
	/* without a timeout nothing is hardly in time */
	begin();
	for (int i = 0; i < 10; i++)
	{
		PathRules	none = {INTERVAL, 0};

		path_succeeded(&path, now += INTERVAL, CLOCK_S, &none);
		assert_int_equal(path.status, PATH_OK);
	}
}

static void
what_a_path_used_to_be_changes_slowly(void **state)
{
	int			probes;

	stand(60 * MINUTE, CLOCK_MS);
	assert_int_equal(until_change(50 * CLOCK_MS), 5);
	probes = until_change(50 * CLOCK_MS);
	assert_int_equal(path.status, PATH_OK);
	assert_in_range(probes, 15 * MINUTE, 30 * MINUTE);
	/* that is what it is now */
	quietly(60 * MINUTE, 50 * CLOCK_MS);
	/* and it is not degraded for being fast again */
	quietly(60 * MINUTE, CLOCK_MS);
	assert_int_equal(until_change(50 * CLOCK_MS), 5);
}

/* Neither does a path that is hardly known, not within a minute. */
static void
a_young_path_remembers_too(void **state)
{
	stand(8, CLOCK_MS);
	assert_int_equal(until_change(50 * CLOCK_MS), 5);
	assert_int_equal(path.status, PATH_DEGRADED);
	quietly(MINUTE - 1, 50 * CLOCK_MS);
	/* one is not enough to say what it was */
	stand(1, CLOCK_MS);
	quietly(MINUTE, 50 * CLOCK_MS);
}

static void
failures_do_not_make_slow(void **state)
{
	stand(10 * MINUTE, CLOCK_MS);
	expect_changes("--------", "u.......");
	assert_int_equal(succeed(CLOCK_MS), PATH_CHANGED);
	assert_int_equal(path.status, PATH_OK);
	/* a slow one is so at once when it comes back */
	assert_int_equal(until_change(50 * CLOCK_MS), 5);
	expect_changes("--", "u.");
	assert_int_equal(succeed(50 * CLOCK_MS), PATH_CHANGED);
	assert_int_equal(path.status, PATH_DEGRADED);
}

/* ------------------------------------------------------------------------
 * Quantiles
 * ------------------------------------------------------------------------
 */

static void
within_a_fifth(ClockTime told, ClockTime latency)
{
	assert_true(told >= latency);
	assert_true(told - latency <= latency / 5);
}

static void
one_latency_is_found_again(void **state)
{
	for (ClockTime latency = 20 * US; latency <= 20 * CLOCK_S; latency += latency / 50)
	{
		begin();
		succeed(latency);
		within_a_fifth(path_quantile(&path, 50), latency);
		within_a_fifth(path_quantile(&path, 99), latency);
	}
	begin();
	succeed(40 * US);
	assert_int_equal(path_quantile(&path, 50), 40 * US);
}

static void
quantiles_of_many(void **state)
{
	begin();
	for (int i = 1; i <= 200; i++)
	{
		succeed((i * 77 % 200 + 1) * CLOCK_MS);
		assert_true(path_quantile(&path, 50) > 0);
	}
	within_a_fifth(path_quantile(&path, 0), CLOCK_MS);
	within_a_fifth(path_quantile(&path, 10), 20 * CLOCK_MS);
	within_a_fifth(path_quantile(&path, 50), 100 * CLOCK_MS);
	within_a_fifth(path_quantile(&path, 90), 180 * CLOCK_MS);
	within_a_fifth(path_quantile(&path, 99), 198 * CLOCK_MS);
	within_a_fifth(path_quantile(&path, 100), 200 * CLOCK_MS);
	begin();
	succeed(10 * CLOCK_MS);
	succeed(CLOCK_MS);
	succeed(100 * CLOCK_MS);
	within_a_fifth(path_quantile(&path, 50), 10 * CLOCK_MS);
	/* what is no percentage is the nearest one */
	assert_int_equal(path_quantile(&path, -1), path_quantile(&path, 0));
	assert_int_equal(path_quantile(&path, INT_MIN), path_quantile(&path, 0));
	assert_int_equal(path_quantile(&path, INT_MAX), path_quantile(&path, 100));
}

/* The slowest is one of the recent ones, and one of those before. */
static void
all_probes_count(void **state)
{
	begin();
	succeed(CLOCK_MS);
	succeed(CLOCK_MS);
	succeed(80 * CLOCK_MS);
	for (int i = 0; i < 20; i++)
	{
		within_a_fifth(path_quantile(&path, 100), 80 * CLOCK_MS);
		succeed(CLOCK_MS);
	}
	within_a_fifth(path_quantile(&path, 95), CLOCK_MS);
}

static void
old_ones_fade(void **state)
{
	stand(10 * MINUTE, 100 * CLOCK_MS);
	for (int i = 0; i < 10 * MINUTE; i++)
		succeed(CLOCK_MS);
	within_a_fifth(path_quantile(&path, 99), 100 * CLOCK_MS);
	for (int i = 0; i < 10 * 60 * MINUTE; i++)
		succeed(CLOCK_MS);
	within_a_fifth(path_quantile(&path, 99), CLOCK_MS);
	within_a_fifth(path_quantile(&path, 100), CLOCK_MS);
}

/* ------------------------------------------------------------------------
 * Names, and what nobody expects
 * ------------------------------------------------------------------------
 */

static void
names_and_back(void **state)
{
	for (int i = 0; i < PHASE_COUNT; i++)
		assert_int_equal(path_phase_of(path_phase_name((PathPhase) i)), i);
	for (int i = PATH_UNKNOWN; i <= PATH_UNREACHABLE; i++)
		assert_int_equal(path_status_of(path_status_name((PathStatus) i)), i);
	/* as they stand in views and in reports */
	assert_string_equal(path_phase_name(PHASE_RESOLVE), "resolve");
	assert_string_equal(path_phase_name(PHASE_CONNECT), "connect");
	assert_string_equal(path_phase_name(PHASE_TLS), "tls");
	assert_string_equal(path_phase_name(PHASE_AUTHENTICATE), "authenticate");
	assert_string_equal(path_phase_name(PHASE_SESSION), "session");
	assert_string_equal(path_phase_name(PHASE_READY), "ready");
	assert_string_equal(path_status_name(PATH_UNKNOWN), "unknown");
	assert_string_equal(path_status_name(PATH_OK), "ok");
	assert_string_equal(path_status_name(PATH_DEGRADED), "degraded");
	assert_string_equal(path_status_name(PATH_FLAPPING), "flapping");
	assert_string_equal(path_status_name(PATH_UNREACHABLE), "unreachable");
	assert_int_equal(path_phase_of(""), -1);
	assert_int_equal(path_phase_of("OK"), -1);
	assert_int_equal(path_status_of("o"), -1);
	assert_int_equal(path_status_of("okay"), -1);
	/* what is none has a name all the same */
	assert_string_equal(path_phase_name((PathPhase) 99), "unknown");
	assert_string_equal(path_phase_name((PathPhase) -1), "unknown");
	assert_string_equal(path_status_name((PathStatus) 99), "unknown");
	assert_string_equal(path_status_name((PathStatus) -1), "unknown");
}

static void
latencies_that_are_none(void **state)
{
	static const ClockTime latency[] = {0, -1, INT64_MIN, 1, INT64_MAX, CLOCK_S};

	begin();
	for (int i = 0; i < 3000; i++)
	{
		succeed(latency[i / 7 % 6]);
		assert_true(path.latency >= 0);
		assert_true(path_quantile(&path, 50) > 0);
		assert_true(path_quantile(&path, 100) > 0);
	}
	begin();
	succeed(INT64_MIN);
	assert_int_equal(path.latency, 0);
	assert_int_equal(path_quantile(&path, 50), 20 * US);
	begin();
	succeed(INT64_MAX);
	assert_int_equal(path.latency, INT64_MAX);
	assert_true(path_quantile(&path, 50) >= 20 * CLOCK_S);
}

static void
times_and_rules_that_are_none(void **state)
{
	static const ClockTime value[] = {0, 1, -1, INT64_MAX, INT64_MIN, CLOCK_S,
	INT64_MAX / 12, INT64_MAX / 12 + 1};

	for (int i = 0; i < 64; i++)
	{
		PathRules	odd = {value[i / 8], value[i % 8]};

		path_init(&path, value[i % 8]);
		for (int n = 0; n < 200; n++)
		{
			ClockTime	when = value[n * 7 % 8];

			if (n % 3 == 0)
				path_failed(&path, when, PHASE_TLS, n, &odd);
			else
				path_succeeded(&path, when, value[n % 8], &odd);
		}
	}
	/* as many failures as there are */
	begin();
	miss(PHASE_TLS, 1);
	path.failures = INT_MAX - 1;
	miss(PHASE_TLS, 1);
	miss(PHASE_TLS, 1);
	assert_int_equal(path.failures, INT_MAX);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_known_at_first),
		cmocka_unit_test(up_and_down),
		cmocka_unit_test(what_is_told_of_a_failure),
		cmocka_unit_test(another_cause_is_told_of),
		cmocka_unit_test(four_changes_are_flapping),
		cmocka_unit_test(changes_count_within_twelve_intervals),
		cmocka_unit_test(flapping_is_quiet),
		cmocka_unit_test(flapping_ends_after_twelve_quiet_intervals),
		cmocka_unit_test(every_change_prolongs_flapping),
		cmocka_unit_test(slow_and_flapping_is_flapping),
		cmocka_unit_test(much_slower_is_degraded),
		cmocka_unit_test(single_slow_ones_do_not_count),
		cmocka_unit_test(slower_by_little_is_not_degraded),
		cmocka_unit_test(slower_by_milliseconds_is_not_degraded),
		cmocka_unit_test(degraded_stays_until_it_is_clearly_faster),
		cmocka_unit_test(hardly_in_time_is_degraded),
		cmocka_unit_test(what_a_path_used_to_be_changes_slowly),
		cmocka_unit_test(a_young_path_remembers_too),
		cmocka_unit_test(failures_do_not_make_slow),
		cmocka_unit_test(one_latency_is_found_again),
		cmocka_unit_test(quantiles_of_many),
		cmocka_unit_test(all_probes_count),
		cmocka_unit_test(old_ones_fade),
		cmocka_unit_test(names_and_back),
		cmocka_unit_test(latencies_that_are_none),
		cmocka_unit_test(times_and_rules_that_are_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
