/*
 * test_syncset.c
 *		Which standby has every acknowledged write: the order of steps.
 *
 * A small server is played here: what is waited for comes into force only when
 * the test says so, and the store knows of a set only when the test says so.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "syncset.h"

#define PATIENCE	CLOCK_S

static SyncSet sync;
static SyncPeer peer[2];
static SyncView view;
static ClockTime now;

static void
begin(SyncMode mode)
{
	memset(peer, 0, sizeof(peer));
	memset(&view, 0, sizeof(view));
	strcpy(peer[0].name, "b");
	strcpy(peer[1].name, "c");
	view.mode = mode;
	view.peer = peer;
	view.n = 2;
	view.written = 1000;
	view.told = true;
	now = 10 * CLOCK_S;
	syncset_begin(&sync, mode, 0);
}

static void
step(void)
{
	now += CLOCK_MS;
	syncset_step(&sync, &view, PATIENCE, now);
}

static void
stream(int i, uint64_t flushed)
{
	peer[i].streaming = true;
	peer[i].flushed = flushed;
}

/* The server does what it was told. */
static void
obey(void)
{
	view.waits = sync.wait_for[0] != '\0';
	for (int i = 0; i < 2; i++)
		peer[i].waited_for = strcmp(peer[i].name, sync.wait_for) == 0;
}

static void
become_synchronous(int i)
{
	stream(i, 1000);
	step();
	assert_string_equal(sync.wait_for, peer[i].name);
	obey();
	step();
	step();
	assert_string_equal(syncset_node(sync.set), peer[i].name);
}

static void
nothing_is_promised_when_off(void **state)
{
	begin(SYNC_OFF);
	stream(0, 1000);
	step();
	assert_null(syncset_node(sync.set));
	assert_string_equal(sync.wait_for, "");
}

static void
the_holder_begins_alone(void **state)
{
	begin(SYNC_ON);
	assert_string_equal(syncset_node(sync.set), "");
	step();
	assert_string_equal(syncset_node(sync.set), "");
	assert_string_equal(sync.wait_for, "");
}

static void
strict_waits_for_somebody_from_the_beginning(void **state)
{
	begin(SYNC_STRICT);
	assert_string_equal(sync.wait_for, SYNCSET_NOT_YET);
	step();
	assert_string_equal(sync.wait_for, SYNCSET_NOT_YET);
	become_synchronous(1);
}

static void
the_server_waits_before_the_set_grows(void **state)
{
	begin(SYNC_ON);
	stream(0, 5000);
	step();
	step();
	assert_string_equal(sync.wait_for, "b");
	assert_string_equal(syncset_node(sync.set), "");

	/* the checkpointer runs with it, the walsender does not yet */
	view.waits = true;
	step();
	assert_string_equal(syncset_node(sync.set), "");
	/* and the other way round */
	view.waits = false;
	peer[0].waited_for = true;
	step();
	assert_string_equal(syncset_node(sync.set), "");
	view.waits = true;
	step();
	assert_string_equal(syncset_node(sync.set), "b");
}

static void
what_was_written_before_has_to_arrive(void **state)
{
	begin(SYNC_ON);
	stream(0, 900);
	step();
	obey();
	step();
	assert_string_equal(syncset_node(sync.set), "");
	/* more is written meanwhile: that waits for the standby already */
	view.written = 2000;
	peer[0].flushed = 999;
	step();
	assert_string_equal(syncset_node(sync.set), "");
	peer[0].flushed = 1000;
	step();
	assert_string_equal(syncset_node(sync.set), "b");
}

static void
the_set_shrinks_before_the_server_stops_waiting(void **state)
{
	begin(SYNC_ON);
	become_synchronous(0);
	peer[0].streaming = false;
	view.told = false;
	step();
	assert_string_equal(syncset_node(sync.set), "");
	assert_string_equal(sync.wait_for, "b");
	for (int i = 0; i < 10; i++)
		step();
	assert_string_equal(sync.wait_for, "b");
	view.told = true;
	step();
	assert_string_equal(sync.wait_for, "");
}

static void
strict_goes_on_waiting(void **state)
{
	begin(SYNC_STRICT);
	become_synchronous(0);
	peer[0].streaming = false;
	for (int i = 0; i < 10; i++)
		step();
	assert_string_equal(sync.wait_for, "b");
	assert_string_equal(syncset_node(sync.set), "b");
	/* until another one can take its place */
	stream(1, 10);
	step();
	assert_string_equal(syncset_node(sync.set), "");
	step();
	assert_string_equal(sync.wait_for, "c");
}

static void
the_most_advanced_is_chosen_and_kept(void **state)
{
	begin(SYNC_ON);
	stream(0, 400);
	stream(1, 500);
	step();
	assert_string_equal(sync.wait_for, "c");
	peer[0].flushed = 900;
	obey();
	step();
	assert_string_equal(sync.wait_for, "c");
}

static void
one_that_confirms_nothing_is_given_up(void **state)
{
	begin(SYNC_ON);
	become_synchronous(0);
	view.written = 3000;
	step();
	now += PATIENCE / 2;
	step();
	assert_string_equal(syncset_node(sync.set), "b");
	now += PATIENCE;
	step();
	assert_string_equal(syncset_node(sync.set), "");
	step();
	assert_string_equal(sync.wait_for, "");
	/* and is not taken again before it has what it failed to confirm */
	obey();
	step();
	assert_string_equal(sync.wait_for, "");
	peer[0].flushed = 3000;
	step();
	assert_string_equal(sync.wait_for, "b");
}

static void
one_that_comes_along_is_kept(void **state)
{
	begin(SYNC_ON);
	become_synchronous(0);
	for (int i = 0; i < 20; i++)
	{
		view.written += 1000;
		now += PATIENCE / 2;
		step();
		peer[0].flushed = view.written - 1;
	}
	assert_string_equal(syncset_node(sync.set), "b");
}

static void
a_setting_changed_by_others_shrinks_the_set(void **state)
{
	begin(SYNC_ON);
	become_synchronous(0);
	view.waits = false;
	step();
	assert_string_equal(syncset_node(sync.set), "");
	view.written = 5000;
	view.waits = true;
	step();
	/* what was acknowledged meanwhile has to arrive first */
	assert_string_equal(syncset_node(sync.set), "");
	peer[0].flushed = 5000;
	step();
	assert_string_equal(syncset_node(sync.set), "b");
}

static void
switched_on_and_off(void **state)
{
	begin(SYNC_OFF);
	step();
	view.mode = SYNC_ON;
	step();
	assert_string_equal(syncset_node(sync.set), "");
	become_synchronous(0);
	view.mode = SYNC_OFF;
	step();
	assert_null(syncset_node(sync.set));
	assert_string_equal(sync.wait_for, "");
}

static void
who_may_take_over(void **state)
{
	assert_true(syncset_allows("", "b"));
	assert_true(syncset_allows("7", "b"));
	assert_false(syncset_allows("7=", "b"));
	assert_false(syncset_allows("7=", ""));
	assert_true(syncset_allows("7=b", "b"));
	assert_false(syncset_allows("7=b", "c"));
	assert_false(syncset_allows("7=b", "bb"));
	assert_false(syncset_allows("7=b", ""));
}

/* Rows that were written at different times can be told apart. */
static void
every_change_has_a_number(void **state)
{
	int64_t		last;

	begin(SYNC_ON);
	last = syncset_serial(sync.set);
	become_synchronous(0);
	assert_true(syncset_serial(sync.set) > last);
	last = syncset_serial(sync.set);
	step();
	assert_int_equal(syncset_serial(sync.set), last);
	peer[0].streaming = false;
	step();
	assert_true(syncset_serial(sync.set) > last);
	last = syncset_serial(sync.set);
	view.mode = SYNC_OFF;
	step();
	assert_true(syncset_serial(sync.set) > last);
	assert_int_equal(syncset_serial(""), 0);
	/* one that goes on where another left off */
	syncset_begin(&sync, SYNC_OFF, 1000);
	assert_int_equal(syncset_serial(sync.set), 1000);
	syncset_begin(&sync, SYNC_ON, 1000);
	assert_int_equal(syncset_serial(sync.set), 1001);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_promised_when_off),
		cmocka_unit_test(the_holder_begins_alone),
		cmocka_unit_test(strict_waits_for_somebody_from_the_beginning),
		cmocka_unit_test(the_server_waits_before_the_set_grows),
		cmocka_unit_test(what_was_written_before_has_to_arrive),
		cmocka_unit_test(the_set_shrinks_before_the_server_stops_waiting),
		cmocka_unit_test(strict_goes_on_waiting),
		cmocka_unit_test(the_most_advanced_is_chosen_and_kept),
		cmocka_unit_test(one_that_confirms_nothing_is_given_up),
		cmocka_unit_test(one_that_comes_along_is_kept),
		cmocka_unit_test(a_setting_changed_by_others_shrinks_the_set),
		cmocka_unit_test(switched_on_and_off),
		cmocka_unit_test(who_may_take_over),
		cmocka_unit_test(every_change_has_a_number),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
