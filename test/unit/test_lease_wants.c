/*
 * test_lease_wants.c
 *		What a lease would say to a member, asked without saying it; and how much
 *		earlier it may be said, so that the requests of many leases go together.
 *
 * The node under test is "a", incarnation 11; its rival is "b", incarnation 22.
 * What is early must be early in nothing but its sending: to take a lease (R2), or
 * to try again after an error, has its moment.
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
#define TTL			1000		/* of the rows, in ms */
#define RENEW		200			/* what follows from it */
#define LOOK		50
#define VERY_EARLY	(100 * CLOCK_S)

static LeaseState lease;
static LeaseRow member[LEASE_MEMBERS_MAX];
static LeaseRequest sent;
static ClockTime now;

/* ------------------------------------------------------------------------
 * Driving it
 * ------------------------------------------------------------------------
 */

static void
start(int members)
{
	now = 1000 * CLOCK_S;
	memset(member, 0, sizeof(member));
	lease_init(&lease, "a", MINE, 0, 7);
	lease_set_members(&lease, members, members);
	for (int i = 0; i < members; i++)
	{
		member[i].present = true;
		member[i].ttl_ms = TTL;
		lease_set_reachable(&lease, i, true, true);
	}
	lease.able = true;
	lease.eager = true;
	lease.durable_epoch = 1000;
}

static void
held_by_other(int i)
{
	snprintf(member[i].holder, LEASE_NAME_LEN, "b");
	member[i].incarnation = OTHER;
	member[i].epoch = 5;
	member[i].version = 40;
}

static void
pass_ms(int64_t ms)
{
	now += clock_ms(ms);
	lease_tick(&lease, now);
}

/* To ask is not to say: whatever comes, the state is as it was. */
static LeaseOp
wants(int i)
{
	LeaseState	before = lease;
	LeaseOp		op = lease_wants(&lease, i, now);

	assert_memory_equal(&before, &lease, sizeof(lease));
	return op;
}

static LeaseOp
wants_early(int i, ClockTime ahead)
{
	LeaseOp		op;

	lease.ahead = ahead;
	op = wants(i);
	lease.ahead = 0;
	return op;
}

/* It wants this, and this is what is sent, and promised from this moment on. */
static void
send_early(int i, LeaseOp op, ClockTime ahead)
{
	assert_int_equal(wants_early(i, ahead), op);
	lease.ahead = ahead;
	assert_true(lease_next(&lease, i, now, &sent));
	lease.ahead = 0;
	assert_int_equal(sent.op, op);
	assert_true(sent.sent_at == now);
}

static void
look(int i)
{
	send_early(i, LEASE_OP_LOOK, 0);
	assert_true(lease_saw(&lease, i, &member[i], now));
	lease_tick(&lease, now);
}

/* It takes effect. */
static void
accept(int i)
{
	member[i].epoch = sent.epoch;
	member[i].version = sent.version;
	if (sent.op == LEASE_OP_RELEASE)
		member[i].holder[0] = '\0';
	else
	{
		snprintf(member[i].holder, LEASE_NAME_LEN, "a");
		member[i].incarnation = MINE;
	}
	lease_replied(&lease, i, &member[i], now);
	lease_tick(&lease, now);
}

static void
start_holder(void)
{
	start(1);
	look(0);
	send_early(0, LEASE_OP_ACQUIRE, 0);
	accept(0);
	assert_int_equal(lease.phase, LEASE_HOLDER);
}

static void
start_follower(void)
{
	start(1);
	held_by_other(0);
	look(0);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
}

/* ------------------------------------------------------------------------
 * What it wants
 * ------------------------------------------------------------------------
 */

static void
test_wants_what_is_sent(void **state)
{
	start(1);
	look(0);
	send_early(0, LEASE_OP_ACQUIRE, 0);
	assert_int_equal(wants(0), LEASE_OP_NONE);	/* it is under way */
	accept(0);
	assert_int_equal(wants(0), LEASE_OP_NONE);
	pass_ms(RENEW);
	send_early(0, LEASE_OP_RENEW, 0);
	accept(0);
	lease.able = false;
	lease_close(&lease, now);
	send_early(0, LEASE_OP_RELEASE, 0);
	accept(0);
	pass_ms(RENEW);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	assert_int_equal(wants(0), LEASE_OP_LOOK);
}

static void
test_wants_nothing_of_a_member_that_cannot_be_asked(void **state)
{
	start(1);
	assert_int_equal(wants(0), LEASE_OP_LOOK);
	lease.member[0].occupied = true;
	assert_int_equal(wants_early(0, VERY_EARLY), LEASE_OP_NONE);
	lease.member[0].occupied = false;
	lease_set_reachable(&lease, 0, false, true);
	assert_int_equal(wants_early(0, VERY_EARLY), LEASE_OP_NONE);
	lease_set_reachable(&lease, 0, true, true);
	send_early(0, LEASE_OP_LOOK, 0);
	assert_int_equal(wants_early(0, VERY_EARLY), LEASE_OP_NONE);
}

/* ------------------------------------------------------------------------
 * How much earlier
 * ------------------------------------------------------------------------
 */

static void
test_ahead_is_half_an_interval(void **state)
{
	start_holder();
	assert_true(lease_ahead(&lease, LEASE_OP_RENEW) == clock_ms(RENEW) / 2);
	assert_true(lease_ahead(&lease, LEASE_OP_LOOK) == clock_ms(LOOK) / 2);
	assert_true(lease_ahead(&lease, LEASE_OP_ACQUIRE) == 0);
	assert_true(lease_ahead(&lease, LEASE_OP_RELEASE) == 0);
	assert_true(lease_ahead(&lease, LEASE_OP_NONE) == 0);
	lease.renew_setting_ms = 120;
	lease.look_setting_ms = 30;
	assert_true(lease_ahead(&lease, LEASE_OP_RENEW) == clock_ms(60));
	assert_true(lease_ahead(&lease, LEASE_OP_LOOK) == clock_ms(15));
}

static void
test_a_renewal_goes_with_others(void **state)
{
	ClockTime	ahead;

	start_holder();
	ahead = lease_ahead(&lease, LEASE_OP_RENEW);
	pass_ms(RENEW / 2 - 1);
	assert_int_equal(wants_early(0, ahead), LEASE_OP_NONE);
	pass_ms(1);
	assert_int_equal(wants(0), LEASE_OP_NONE);
	send_early(0, LEASE_OP_RENEW, ahead);
	accept(0);
	/* the next one counts from there; the deadline does, too */
	assert_true(lease_deadline(&lease) ==
				now + clock_ms(TTL) - lease_margin(&lease, TTL));
	pass_ms(RENEW - 1);
	assert_int_equal(wants(0), LEASE_OP_NONE);
	pass_ms(1);
	assert_int_equal(wants(0), LEASE_OP_RENEW);
}

static void
test_a_look_goes_with_others(void **state)
{
	ClockTime	ahead;

	start_follower();
	ahead = lease_ahead(&lease, LEASE_OP_LOOK);
	pass_ms(LOOK / 2 - 1);
	assert_int_equal(wants_early(0, ahead), LEASE_OP_NONE);
	pass_ms(1);
	assert_int_equal(wants(0), LEASE_OP_NONE);
	assert_int_equal(wants_early(0, ahead), LEASE_OP_LOOK);
	pass_ms(LOOK / 2);
	assert_int_equal(wants(0), LEASE_OP_LOOK);
}

/* ------------------------------------------------------------------------
 * What is never early
 * ------------------------------------------------------------------------
 */

/* R2: two members are free, one is held until it has stood for long enough. */
static void
test_r2_an_acquire_is_never_early(void **state)
{
	start(3);
	held_by_other(2);
	for (int i = 2; i >= 0; i--)
		look(i);
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
	for (int i = 0; i < 2; i++)
	{
		send_early(i, LEASE_OP_ACQUIRE, 0);
		accept(i);
	}
	assert_int_equal(lease.phase, LEASE_HOLDER);
	now = lease.member[2].unchanged_since + lease_observation(&lease, TTL) - 1;
	for (int i = 0; i < 2; i++)
		lease.member[i].contribution = CLOCK_NEVER; /* renewed all the while */
	lease_tick(&lease, now);
	assert_int_equal(lease.phase, LEASE_HOLDER);
	assert_int_equal(wants_early(2, VERY_EARLY), LEASE_OP_LOOK);
	now++;
	assert_int_equal(wants(2), LEASE_OP_ACQUIRE);
}

static void
test_a_follower_begins_nothing_early(void **state)
{
	start_follower();
	lease.ahead = VERY_EARLY;
	now = lease.member[0].unchanged_since + lease_observation(&lease, TTL) - 1;
	lease.member[0].seen_at = now;
	lease_tick(&lease, now);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	assert_int_equal(wants(0), LEASE_OP_LOOK);
	now++;
	lease.member[0].seen_at = now;
	lease_tick(&lease, now);
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
}

static void
test_a_member_that_failed_is_left_alone(void **state)
{
	start_holder();
	pass_ms(RENEW);
	send_early(0, LEASE_OP_RENEW, 0);
	lease_failed(&lease, 0, now);
	assert_true(lease.member[0].retry_at > now);
	now = lease.member[0].retry_at - 1;
	assert_int_equal(wants_early(0, VERY_EARLY), LEASE_OP_NONE);
	now++;
	assert_int_not_equal(wants(0), LEASE_OP_NONE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wants_what_is_sent),
		cmocka_unit_test(test_wants_nothing_of_a_member_that_cannot_be_asked),
		cmocka_unit_test(test_ahead_is_half_an_interval),
		cmocka_unit_test(test_a_renewal_goes_with_others),
		cmocka_unit_test(test_a_look_goes_with_others),
		cmocka_unit_test(test_r2_an_acquire_is_never_early),
		cmocka_unit_test(test_a_follower_begins_nothing_early),
		cmocka_unit_test(test_a_member_that_failed_is_left_alone),
	};

	return cmocka_run_group_tests_name("lease_wants", tests, NULL, NULL);
}
