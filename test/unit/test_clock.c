/*
 * test_clock.c
 *		Arithmetic on moments and durations.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "clock.h"

static void
now_never_is_zero_and_does_not_fall(void **state)
{
	ClockTime	before = clock_now();

	assert_true(before > 0);
	for (int i = 0; i < 1000; i++)
	{
		ClockTime	now = clock_now();

		assert_true(now >= before);
		before = now;
	}
}

static void
adding_to_never_stays_never(void **state)
{
	assert_true(clock_add(CLOCK_NEVER, 5) == CLOCK_NEVER);
	assert_true(clock_add(CLOCK_NEVER, -5) == CLOCK_NEVER);
	assert_true(clock_add(5, CLOCK_NEVER) == CLOCK_NEVER);
}

static void
adding_past_the_end_of_time_is_never(void **state)
{
	assert_true(clock_add(CLOCK_NEVER - 1, 1) == CLOCK_NEVER);
	assert_true(clock_add(CLOCK_NEVER - 1, 2) == CLOCK_NEVER);
	assert_true(clock_add(1, CLOCK_NEVER - 1) == CLOCK_NEVER);
}

static void
adding_is_plain_otherwise(void **state)
{
	assert_true(clock_add(10, 5) == 15);
	assert_true(clock_add(10, -5) == 5);
	assert_true(clock_add(0, 0) == 0);
}

static void
min_and_max(void **state)
{
	assert_true(clock_min(1, 2) == 1);
	assert_true(clock_min(2, CLOCK_NEVER) == 2);
	assert_true(clock_max(1, 2) == 2);
	assert_true(clock_max(2, CLOCK_NEVER) == CLOCK_NEVER);
}

static void
a_wait_never_ends_early(void **state)
{
	/* rounded up: waking a moment early would find nothing due and spin */
	assert_int_equal(clock_wait_ms(0, 1), 1);
	assert_int_equal(clock_wait_ms(0, CLOCK_MS), 1);
	assert_int_equal(clock_wait_ms(0, CLOCK_MS + 1), 2);
	assert_int_equal(clock_wait_ms(7, 7), 0);
	assert_int_equal(clock_wait_ms(8, 7), 0);
}

static void
a_wait_for_never_has_no_end_and_a_long_one_is_cut(void **state)
{
	assert_int_equal(clock_wait_ms(1, CLOCK_NEVER), -1);
	assert_int_equal(clock_wait_ms(0, 100 * 3600 * CLOCK_S), 3600 * 1000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(now_never_is_zero_and_does_not_fall),
		cmocka_unit_test(adding_to_never_stays_never),
		cmocka_unit_test(adding_past_the_end_of_time_is_never),
		cmocka_unit_test(adding_is_plain_otherwise),
		cmocka_unit_test(min_and_max),
		cmocka_unit_test(a_wait_never_ends_early),
		cmocka_unit_test(a_wait_for_never_has_no_end_and_a_long_one_is_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
