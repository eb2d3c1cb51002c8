/*
 * test_lease_timeline.c
 *		R12 in the state machine: what is held of kind "physical" is used only
 *		once a majority knows under which epoch and on which timeline somebody
 *		writes; what was never used leaves no trace.
 *
 * The node under test is "a".  Before it, "b" wrote under epoch 5 on timeline 3
 * up to 0x5000, and is gone; "a" is promoted to timeline 4.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lease.h"

/* cmocka hands every test a state; these keep theirs below */
#pragma GCC diagnostic ignored "-Wunused-parameter"

#define MINE		11
#define OTHER		22
#define TTL			1000
#define RENEW		200
#define EPOCH		6			/* what "a" is given */

static LeaseState lease;
static LeaseRow member[LEASE_MEMBERS_MAX];
static LeaseRequest sent;
static ClockTime now;

/* ------------------------------------------------------------------------
 * Driving it
 * ------------------------------------------------------------------------
 */

static void
pass_ms(int64_t ms)
{
	now += clock_ms(ms);
	lease_tick(&lease, now);
}

static void
expect(int i, LeaseOp op)
{
	LeaseRequest request;

	if (op == LEASE_OP_NONE)
	{
		assert_false(lease_next(&lease, i, now, &request));
		return;
	}
	assert_true(lease_next(&lease, i, now, &sent));
	assert_int_equal(sent.op, op);
}

/* What the statements of store.c do to a row. */
static void
take_effect(int i)
{
	LeaseRow   *row = &member[i];

	row->version = sent.version;
	row->reserved_for[0] = '\0';
	if (sent.op == LEASE_OP_ACQUIRE)
	{
		snprintf(row->holder, sizeof(row->holder), "a");
		row->incarnation = MINE;
		row->epoch = sent.epoch;
		row->ttl_ms = sent.ttl_ms;
		return;
	}
	/* an acquire says nothing of timelines */
	row->wrote = sent.wrote;
	if (sent.op == LEASE_OP_RELEASE)
		row->holder[0] = '\0';
	else
		row->ttl_ms = sent.ttl_ms;
}

static void
answer(int i)
{
	lease_replied(&lease, i, &member[i], now);
	lease_tick(&lease, now);
}

static void
ask(int i, LeaseOp op)
{
	expect(i, op);
	take_effect(i);
	answer(i);
}

static void
look(int i)
{
	expect(i, LEASE_OP_LOOK);
	assert_true(lease_saw(&lease, i, &member[i], now));
	lease_tick(&lease, now);
}

static void
init(int members)
{
	lease_init(&lease, "a", MINE, 0, 7);
	lease_set_members(&lease, members, members);
	for (int i = 0; i < members; i++)
		lease_set_reachable(&lease, i, true, true);
	lease.able = lease.eager = true;
	lease.durable_epoch = 1000;
}

static void
set_wrote(LeaseWrote *wrote, int32_t timeline, int64_t epoch, uint64_t lsn)
{
	wrote->timeline = timeline;
	wrote->epoch = epoch;
	wrote->lsn = lsn;
}

static void
start(int members)
{
	now = 1000 * CLOCK_S;
	memset(member, 0, sizeof(member));
	for (int i = 0; i < members; i++)
	{
		LeaseRow   *row = &member[i];

		row->present = row->pinned = true;
		row->ttl_ms = TTL;
		row->incarnation = OTHER;
		row->epoch = EPOCH - 1;
		row->version = 40;
		set_wrote(&row->wrote, 3, 5, 0x5000);
	}
	init(members);
}

/* "a" holds it at the first n members, and is a standby yet. */
static void
start_holder_of(int n, int members)
{
	start(members);
	for (int i = 0; i < n; i++)
		look(i);
	for (int i = 0; i < n; i++)
		ask(i, LEASE_OP_ACQUIRE);
	assert_int_equal(lease.phase, LEASE_HOLDER);
	assert_int_equal(lease.epoch, EPOCH);
}

/* The promotion is done, and known to the next run. */
static void
be_promoted(void)
{
	lease.writable = true;
	lease.timeline = 4;
	lease.lsn = 0x6000;
	lease_tick(&lease, now);
}

static void
assert_wrote(const LeaseWrote *wrote, int32_t timeline, int64_t epoch, uint64_t lsn)
{
	assert_int_equal(wrote->timeline, timeline);
	assert_int_equal(wrote->epoch, epoch);
	assert_true(wrote->lsn == lsn);
}

static void
assert_deadline(ClockTime deadline)
{
	assert_true(lease_deadline(&lease) == deadline);
}

static ClockTime
promise(void)
{
	return now + clock_ms(TTL) - lease_margin(&lease, TTL);
}

static void
give_up(void)
{
	assert_true(lease_begin_drain(&lease, "", now));
	lease_drained(&lease, now);
	lease_tick(&lease, now);
}

/* ------------------------------------------------------------------------
 * Before it is used
 * ------------------------------------------------------------------------
 */

/* Held, and kept, but of no use yet; the row says what it said. */
static void
test_standby_that_holds(void **state)
{
	start_holder_of(1, 1);
	assert_deadline(0);
	for (int i = 0; i < 10; i++)
	{
		pass_ms(RENEW);
		ask(0, LEASE_OP_RENEW);
		assert_wrote(&sent.wrote, 3, 5, 0x5000);
		assert_deadline(0);
	}
	assert_int_equal(lease.phase, LEASE_HOLDER);
}

static void
test_promoted(void **state)
{
	start_holder_of(1, 1);
	pass_ms(20);
	be_promoted();
	assert_deadline(0);
	/* at once, not with the next renewal */
	expect(0, LEASE_OP_RENEW);
	assert_wrote(&sent.wrote, 4, EPOCH, 0x6000);
	assert_deadline(0);
	take_effect(0);
	answer(0);
	assert_deadline(promise());
	/* that was all */
	expect(0, LEASE_OP_NONE);
	pass_ms(RENEW);
	lease.lsn = 0x7000;
	ask(0, LEASE_OP_RENEW);
	assert_wrote(&sent.wrote, 4, EPOCH, 0x7000);
	assert_deadline(promise());
}

static void
test_majority_has_to_know(void **state)
{
	start_holder_of(3, 3);
	be_promoted();
	ask(0, LEASE_OP_RENEW);
	assert_deadline(0);
	/* it may have taken effect; that is not knowing */
	expect(1, LEASE_OP_RENEW);
	take_effect(1);
	lease_failed(&lease, 1, now);
	lease_tick(&lease, now);
	assert_deadline(0);
	ask(2, LEASE_OP_RENEW);
	assert_true(lease_deadline(&lease) > now);
}

/* The majority is that of the list, not of those that answer. */
static void
test_majority_of_the_list(void **state)
{
	start_holder_of(3, 5);
	be_promoted();
	for (int i = 0; i < 2; i++)
	{
		ask(i, LEASE_OP_RENEW);
		assert_deadline(0);
	}
	ask(2, LEASE_OP_RENEW);
	assert_true(lease_deadline(&lease) > now);
}

/* A row with the right timeline, of a holder before us, tells nobody of us. */
static void
test_same_timeline_of_another_epoch(void **state)
{
	start_holder_of(1, 1);
	lease.writable = true;
	lease.timeline = 3;
	lease.lsn = 0x5000;
	lease_tick(&lease, now);
	assert_deadline(0);
	ask(0, LEASE_OP_RENEW);
	assert_wrote(&sent.wrote, 3, EPOCH, 0x5000);
	assert_deadline(promise());
}

/* Nor does one with our epoch tell of another timeline. */
static void
test_another_timeline_is_told_anew(void **state)
{
	start_holder_of(1, 1);
	be_promoted();
	ask(0, LEASE_OP_RENEW);
	lease.timeline = 5;
	ask(0, LEASE_OP_RENEW);
	assert_wrote(&sent.wrote, 5, EPOCH, 0x6000);
}

/* Told under the epoch before does not count for the next. */
static void
test_every_epoch_is_told_anew(void **state)
{
	start_holder_of(1, 1);
	be_promoted();
	ask(0, LEASE_OP_RENEW);
	pass_ms(TTL);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	ask(0, LEASE_OP_RELEASE);
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
	ask(0, LEASE_OP_ACQUIRE);
	assert_int_equal(lease.phase, LEASE_HOLDER);
	assert_deadline(0);
	ask(0, LEASE_OP_RENEW);
	assert_wrote(&sent.wrote, 4, EPOCH + 1, 0x6000);
	assert_deadline(promise());
}

/* A standby again, whatever the row says of it. */
static void
test_not_writable_any_more(void **state)
{
	start_holder_of(1, 1);
	be_promoted();
	ask(0, LEASE_OP_RENEW);
	lease.writable = false;
	assert_deadline(0);
}

static void
test_other_kinds_need_not_tell(void **state)
{
	start(1);
	member[0].pinned = false;
	look(0);
	ask(0, LEASE_OP_ACQUIRE);
	assert_deadline(promise());
}

/* ------------------------------------------------------------------------
 * Giving it up
 * ------------------------------------------------------------------------
 */

static void
test_release_of_what_was_used(void **state)
{
	start_holder_of(1, 1);
	be_promoted();
	ask(0, LEASE_OP_RENEW);
	lease.lsn = 0x8000;
	give_up();
	assert_deadline(0);
	ask(0, LEASE_OP_RELEASE);
	assert_wrote(&sent.wrote, 4, EPOCH, 0x8000);
}

/* The promotion failed. */
static void
test_release_of_what_was_never_used(void **state)
{
	start_holder_of(1, 1);
	give_up();
	ask(0, LEASE_OP_RELEASE);
	assert_wrote(&sent.wrote, 3, 5, 0x5000);
}

/*
 * The promotion was done, a minority knows, nobody wrote.  The others may not
 * have come by this timeline, and need not.
 */
static void
test_release_of_what_only_a_minority_knows(void **state)
{
	start_holder_of(3, 3);
	be_promoted();
	ask(0, LEASE_OP_RENEW);
	assert_wrote(&member[0].wrote, 4, EPOCH, 0x6000);
	give_up();
	for (int i = 0; i < 3; i++)
	{
		ask(i, LEASE_OP_RELEASE);
		assert_wrote(&sent.wrote, 3, 5, 0x5000);
	}
}

/* Given up by running out, and by what became of the instance meanwhile. */
static void
test_leftover_of_what_was_never_used(void **state)
{
	start_holder_of(1, 1);
	pass_ms(TTL);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	lease.able = false;
	be_promoted();
	ask(0, LEASE_OP_RELEASE);
	assert_wrote(&sent.wrote, 3, 5, 0x5000);
}

/* The first one ever: what it found was nothing. */
static void
test_release_by_the_first_holder(void **state)
{
	start(1);
	memset(&member[0].wrote, 0, sizeof(member[0].wrote));
	look(0);
	ask(0, LEASE_OP_ACQUIRE);
	give_up();
	ask(0, LEASE_OP_RELEASE);
	assert_wrote(&sent.wrote, 0, 0, 0);
}

/* ------------------------------------------------------------------------
 * A keeper that was started anew
 * ------------------------------------------------------------------------
 */

static void
restart_keeper(ClockTime deadline)
{
	LeaseState	old = lease;

	init(old.nmembers);
	lease_resume_epoch(&lease, old.epoch, old.closed_epoch, old.highest_epoch,
					   old.version, deadline);
	lease.writable = old.writable;
	lease.timeline = old.timeline;
	lease.lsn = old.lsn;
	lease_tick(&lease, now);
}

static void
test_keeper_restarts(void **state)
{
	ClockTime	until;

	start_holder_of(1, 1);
	be_promoted();
	ask(0, LEASE_OP_RENEW);
	until = lease_deadline(&lease);
	pass_ms(50);
	restart_keeper(until);
	/* (nothing was looked at yet: it is the row that says it is pinned) */
	assert_deadline(until);
	look(0);
	assert_deadline(until);
	ask(0, LEASE_OP_RENEW);
	assert_deadline(promise());
}

/* The first row that it sees says that the lease is pinned; one row is enough. */
static void
test_keeper_restarts_and_looks_around(void **state)
{
	ClockTime	until;

	start_holder_of(3, 3);
	be_promoted();
	for (int i = 0; i < 3; i++)
		ask(i, LEASE_OP_RENEW);
	until = lease_deadline(&lease);
	restart_keeper(until);
	for (int i = 0; i < 3; i++)
	{
		look(i);
		assert_deadline(until);
	}
}

/* It had not come to be used: another epoch has to do. */
static void
test_keeper_restarts_before_it_was_used(void **state)
{
	start_holder_of(1, 1);
	restart_keeper(lease_deadline(&lease));
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	assert_deadline(0);
	look(0);
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
	assert_int_equal(lease.epoch, EPOCH + 1);
	ask(0, LEASE_OP_RELEASE);
	assert_wrote(&sent.wrote, 3, 5, 0x5000);
	ask(0, LEASE_OP_ACQUIRE);
	assert_deadline(0);
	be_promoted();
	ask(0, LEASE_OP_RENEW);
	assert_wrote(&sent.wrote, 4, EPOCH + 1, 0x6000);
	assert_deadline(promise());
}

/* ------------------------------------------------------------------------
 * What a candidate has to go by
 * ------------------------------------------------------------------------
 */

/* Rows as "b" left them: versions rise from member to member. */
static void
watch(int members)
{
	start(members);
	lease.able = false;
	for (int i = 0; i < members; i++)
	{
		snprintf(member[i].holder, sizeof(member[i].holder), "b");
		member[i].version += i;
	}
}

static void
look_all(int n)
{
	for (int i = 0; i < n; i++)
		look(i);
}

static void
test_last_to_write(void **state)
{
	LeaseWrote	wrote;

	watch(1);
	wrote = lease_wrote(&lease, now);
	assert_wrote(&wrote, 0, 0, 0);
	look(0);
	wrote = lease_wrote(&lease, now);
	assert_wrote(&wrote, 3, 5, 0x5000);
}

/*
 * A holder wins a third member after it has told the two others and begun to
 * write, and dies: the row that was written last knows nothing of it.
 */
static void
test_the_row_written_last_may_not_know(void **state)
{
	LeaseWrote	wrote;

	watch(3);
	set_wrote(&member[2].wrote, 2, 4, 0x4000);
	look_all(3);
	assert_int_equal(lease_best_row(&lease)->wrote.epoch, 4);
	wrote = lease_wrote(&lease, now);
	assert_wrote(&wrote, 3, 5, 0x5000);
}

/* Of one of two that are seen, a majority may know. */
static void
test_a_majority_may_know(void **state)
{
	LeaseWrote	wrote;

	watch(3);
	set_wrote(&member[1].wrote, 2, 4, 0x4000);
	look_all(2);
	wrote = lease_wrote(&lease, now);
	assert_wrote(&wrote, 3, 5, 0x5000);
}

/* Told to a minority only: it has not been used, and binds nobody. */
static void
test_a_minority_binds_nobody(void **state)
{
	LeaseWrote	wrote;

	watch(3);
	set_wrote(&member[0].wrote, 2, 4, 0x4000);
	set_wrote(&member[1].wrote, 2, 4, 0x4100);
	look_all(3);
	/* the others may yet be told, as long as their holder may live */
	pass_ms(1000);
	wrote = lease_wrote(&lease, now);
	assert_wrote(&wrote, 3, 5, 0x5000);
	pass_ms(60);
	wrote = lease_wrote(&lease, now);
	assert_wrote(&wrote, 2, 4, 0x4100);
	/* out of reach: may have been told since */
	lease_set_reachable(&lease, 1, false, true);
	wrote = lease_wrote(&lease, now);
	assert_wrote(&wrote, 3, 5, 0x5000);
	/* does not count: may be told under another list */
	lease_set_reachable(&lease, 1, true, false);
	wrote = lease_wrote(&lease, now);
	assert_wrote(&wrote, 3, 5, 0x5000);
}

/* What a member of another list says is not this group's word. */
static void
test_members_that_do_not_count(void **state)
{
	LeaseWrote	wrote;

	watch(3);
	set_wrote(&member[0].wrote, 9, 9, 0x9000);
	look_all(3);
	lease_set_reachable(&lease, 0, true, false);
	wrote = lease_wrote(&lease, now);
	assert_wrote(&wrote, 3, 5, 0x5000);
	/* nor a row that is gone */
	lease_set_reachable(&lease, 0, true, true);
	member[0].version += 50;
	member[0].present = false;
	pass_ms(RENEW);
	look(0);
	wrote = lease_wrote(&lease, now);
	assert_wrote(&wrote, 3, 5, 0x5000);
}

/* As far as anybody has said. */
static void
test_how_far_it_wrote(void **state)
{
	LeaseWrote	wrote;

	watch(3);
	member[0].wrote.lsn = 0x7000;
	member[1].wrote.lsn = 0x6000;
	look_all(3);
	wrote = lease_wrote(&lease, now);
	assert_wrote(&wrote, 3, 5, 0x7000);
}

/* What is found when it is taken is restored everywhere if it is not used. */
static void
test_what_was_found_is_restored(void **state)
{
	start(3);
	set_wrote(&member[2].wrote, 2, 4, 0x4000);
	member[2].version += 7;
	lease.eager = false;
	for (int i = 0; i < 3; i++)
		look(i);
	lease.eager = true;
	pass_ms(1);
	for (int i = 0; i < 3; i++)
		ask(i, LEASE_OP_ACQUIRE);
	give_up();
	for (int i = 0; i < 3; i++)
	{
		ask(i, LEASE_OP_RELEASE);
		assert_wrote(&sent.wrote, 3, 5, 0x5000);
	}
}

/* What it found when the race began may have been old, if it was stopped before. */
static void
test_what_is_found_while_it_races(void **state)
{
	start(3);
	lease.highest_epoch = EPOCH + 2;
	lease.eager = false;
	for (int i = 0; i < 3; i++)
		look(i);
	pass_ms(RENEW);
	for (int i = 0; i < 3; i++)
		expect(i, LEASE_OP_LOOK);
	lease.eager = true;
	pass_ms(1);
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
	assert_int_equal(lease.epoch, EPOCH + 3);
	/* another node has held it, written, and let go */
	for (int i = 0; i < 3; i++)
	{
		member[i].epoch = EPOCH;
		member[i].version += 9;
		set_wrote(&member[i].wrote, 4, EPOCH, 0x6000);
		assert_true(lease_saw(&lease, i, &member[i], now));
		lease_tick(&lease, now);
	}
	for (int i = 0; i < 3; i++)
		ask(i, LEASE_OP_ACQUIRE);
	assert_int_equal(lease.phase, LEASE_HOLDER);
	give_up();
	for (int i = 0; i < 3; i++)
	{
		ask(i, LEASE_OP_RELEASE);
		assert_wrote(&sent.wrote, 4, EPOCH, 0x6000);
	}
}

/* What a minority knew is not taken for used because the rest is being won. */
static void
test_what_is_found_beside_a_minority(void **state)
{
	LeaseWrote	wrote;

	start(3);
	lease.highest_epoch = EPOCH + 2;
	set_wrote(&member[0].wrote, 4, EPOCH, 0x6000);
	member[0].version += 7;
	lease.eager = false;
	for (int i = 0; i < 3; i++)
		look(i);
	wrote = lease_wrote(&lease, now);
	assert_wrote(&wrote, 3, 5, 0x5000);
	lease.eager = true;
	pass_ms(1);
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
	ask(1, LEASE_OP_ACQUIRE);
	wrote = lease_wrote(&lease, now);
	assert_wrote(&wrote, 3, 5, 0x5000);
	/* and so it says when it gives up */
	pass_ms(2 * TTL);
	assert_int_not_equal(lease.phase, LEASE_ACQUIRING);
	ask(1, LEASE_OP_RELEASE);
	assert_wrote(&sent.wrote, 3, 5, 0x5000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_standby_that_holds),
		cmocka_unit_test(test_promoted),
		cmocka_unit_test(test_majority_has_to_know),
		cmocka_unit_test(test_majority_of_the_list),
		cmocka_unit_test(test_same_timeline_of_another_epoch),
		cmocka_unit_test(test_another_timeline_is_told_anew),
		cmocka_unit_test(test_every_epoch_is_told_anew),
		cmocka_unit_test(test_not_writable_any_more),
		cmocka_unit_test(test_other_kinds_need_not_tell),
		cmocka_unit_test(test_release_of_what_was_used),
		cmocka_unit_test(test_release_of_what_was_never_used),
		cmocka_unit_test(test_release_of_what_only_a_minority_knows),
		cmocka_unit_test(test_leftover_of_what_was_never_used),
		cmocka_unit_test(test_release_by_the_first_holder),
		cmocka_unit_test(test_keeper_restarts),
		cmocka_unit_test(test_keeper_restarts_and_looks_around),
		cmocka_unit_test(test_keeper_restarts_before_it_was_used),
		cmocka_unit_test(test_last_to_write),
		cmocka_unit_test(test_the_row_written_last_may_not_know),
		cmocka_unit_test(test_a_majority_may_know),
		cmocka_unit_test(test_a_minority_binds_nobody),
		cmocka_unit_test(test_members_that_do_not_count),
		cmocka_unit_test(test_how_far_it_wrote),
		cmocka_unit_test(test_what_was_found_is_restored),
		cmocka_unit_test(test_what_is_found_while_it_races),
		cmocka_unit_test(test_what_is_found_beside_a_minority),
	};

	return cmocka_run_group_tests_name("lease_timeline", tests, NULL, NULL);
}
