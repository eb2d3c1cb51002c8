/*
 * test_lease.c
 *		The rules of the lease protocol and the transitions of its state
 *		machine, one by one.
 *
 * The node under test is "a", incarnation 11; its rival is "b", incarnation
 * 22.  Members are rows in this file: accept() lets a request take effect and
 * answers, refuse() answers that it did not, lose() never answers.
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
#define MARGIN		50			/* what follows from it */
#define RENEW		200
#define LOOK		50

static LeaseState lease;
static LeaseRow member[LEASE_MEMBERS_MAX];
static LeaseRequest sent[LEASE_MEMBERS_MAX];
static ClockTime now;

/* ------------------------------------------------------------------------
 * Driving it
 * ------------------------------------------------------------------------
 */

static void
start(int members)
{
	now = 1000 * CLOCK_S;
	memset(sent, 0, sizeof(sent));
	memset(member, 0, sizeof(member));
	for (int i = 0; i < LEASE_MEMBERS_MAX; i++)
	{
		member[i].present = true;
		member[i].ttl_ms = TTL;
	}
	lease_init(&lease, "a", MINE, 0, 7);
	lease_set_members(&lease, members, members);
	for (int i = 0; i < members; i++)
		lease_set_reachable(&lease, i, true, true);
	lease.able = true;
	lease.eager = true;
	lease.durable_epoch = 1000;
}

/* Time passes, and members go on answering looks with what they said last. */
static void
pass_ms(int64_t ms)
{
	now += clock_ms(ms);
	for (int i = 0; i < lease.nmembers; i++)
		if (lease.member[i].reachable && lease.member[i].seen)
			lease.member[i].seen_at = now;
	lease_tick(&lease, now);
}

static void
held_by(int i, const char *holder, uint64_t incarnation, int64_t epoch, int64_t version)
{
	snprintf(member[i].holder, LEASE_NAME_LEN, "%s", holder);
	member[i].incarnation = incarnation;
	member[i].epoch = epoch;
	member[i].version = version;
}

/* The next request to this member has to be this. */
static void
expect(int i, LeaseOp op)
{
	LeaseRequest request;

	if (op == LEASE_OP_NONE)
	{
		assert_false(lease_next(&lease, i, now, &request));
		return;
	}
	assert_true(lease_next(&lease, i, now, &request));
	assert_int_equal(request.op, op);
	assert_true(request.sent_at == now);
	sent[i] = request;
}

/* The request takes effect; the answer is still to come. */
static void
take_effect(int i)
{
	const LeaseRequest *request = &sent[i];

	if (request->op == LEASE_OP_ACQUIRE)
	{
		held_by(i, "a", MINE, request->epoch, request->version);
		member[i].reserved_for[0] = '\0';
	}
	else if (request->op == LEASE_OP_RENEW)
		member[i].version = request->version;
	else
	{
		member[i].holder[0] = '\0';
		member[i].version = request->version;
		memcpy(member[i].reserved_for, request->reserved_for, LEASE_NAME_LEN);
	}
	member[i].ttl_ms = request->ttl_ms;
	member[i].frozen = request->op != LEASE_OP_RELEASE && request->frozen;
}

static void
answer(int i)
{
	assert_true(lease.member[i].in_flight);
	lease_replied(&lease, i, &member[i], now);
	lease_tick(&lease, now);
}

static void
accept(int i)
{
	take_effect(i);
	answer(i);
}

static void
refuse(int i)
{
	lease_replied(&lease, i, NULL, now);
	lease_tick(&lease, now);
}

static void
lose(int i)
{
	lease_failed(&lease, i, now);
	lease_tick(&lease, now);
}

/* The answer to a look that was sent. */
static void
saw(int i)
{
	assert_true(lease_saw(&lease, i, &member[i], now));
	lease_tick(&lease, now);
}

static void
look(int i)
{
	expect(i, LEASE_OP_LOOK);
	saw(i);
}

static void
look_all(void)
{
	for (int i = 0; i < lease.nmembers; i++)
		expect(i, LEASE_OP_LOOK);
	for (int i = 0; i < lease.nmembers; i++)
		saw(i);
}

/* A group in which nobody holds the lease, and "a" takes it. */
static void
start_holder(int members)
{
	start(members);
	look_all();
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
	for (int i = 0; i < members; i++)
	{
		expect(i, LEASE_OP_ACQUIRE);
		accept(i);
	}
	assert_int_equal(lease.phase, LEASE_HOLDER);
	assert_int_equal(lease.reason, LEASE_REASON_NONE);
}

/* A group in which "b" holds epoch 5, observed from now on. */
static void
start_follower(int members)
{
	start(members);
	for (int i = 0; i < members; i++)
		held_by(i, "b", OTHER, 5, 40 + i);
	look_all();
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	assert_int_equal(lease.reason, LEASE_REASON_HELD);
}

static void
renew_all(void)
{
	for (int i = 0; i < lease.nmembers; i++)
	{
		expect(i, LEASE_OP_RENEW);
		accept(i);
	}
}

static void
ask(int64_t seq, int32_t ttl_ms, bool pause)
{
	for (int i = 0; i < LEASE_MEMBERS_MAX; i++)
	{
		member[i].request_seq = seq;
		member[i].ttl_wanted_ms = ttl_ms;
		member[i].pause_wanted = pause;
	}
}

/* The moment at which a promise of so many ms, made now, ends. */
static ClockTime
promise(int32_t ttl_ms)
{
	return now + clock_ms(ttl_ms) - lease_margin(&lease, ttl_ms);
}

static void
assert_moment(ClockTime a, ClockTime b)
{
	assert_int_equal(a, b);
}

/* ------------------------------------------------------------------------
 * Durations
 * ------------------------------------------------------------------------
 */

static void
test_durations(void **state)
{
	start(1);
	assert_moment(lease_margin(&lease, TTL), clock_ms(MARGIN));
	assert_moment(lease_margin(&lease, 200), clock_ms(20));
	assert_moment(lease_margin(&lease, 10000), clock_ms(500));
	lease.margin_setting_ms = 7;
	assert_moment(lease_margin(&lease, TTL), clock_ms(7));

	lease.ttl_ms = TTL;
	assert_moment(lease_renew_interval(&lease), clock_ms(RENEW));
	lease.renew_setting_ms = 300;
	assert_moment(lease_renew_interval(&lease), clock_ms(300));
	lease.renew_setting_ms = 5000;
	assert_moment(lease_renew_interval(&lease), clock_ms(TTL / 2));

	assert_moment(lease_look_interval(&lease), clock_ms(LOOK));
	lease.ttl_ms = 200;
	assert_moment(lease_look_interval(&lease), clock_ms(20));
	lease.ttl_ms = 3600000;
	assert_moment(lease_look_interval(&lease), clock_ms(500));
	lease.look_setting_ms = 5;
	assert_moment(lease_look_interval(&lease), clock_ms(5));
}

/*
 * The slowest holder's clock and the fastest candidate's: the observation must
 * outlast the ttl even if neither leaves any margin.
 */
static void
test_observation_covers_clock_rates(void **state)
{
	start(1);
	lease.margin_setting_ms = 1;
	for (int64_t ttl_ms = LEASE_TTL_MIN_MS; ttl_ms <= LEASE_TTL_MAX_MS; ttl_ms += 997)
	{
		double		ttl = (double) clock_ms(ttl_ms);
		double		needed = ttl * (1e6 + LEASE_RATE_PPM) / (1e6 - LEASE_RATE_PPM);
		double		given = (double) (lease_observation(&lease, (int32_t) ttl_ms) - CLOCK_MS);

		assert_true(given >= needed);
		assert_true(given <= needed + 2000);
	}
}

static void
test_clock_arithmetic(void **state)
{
	assert_moment(clock_add(5, 6), 11);
	assert_moment(clock_add(CLOCK_NEVER, 1), CLOCK_NEVER);
	assert_moment(clock_add(1, CLOCK_NEVER), CLOCK_NEVER);
	assert_moment(clock_add(CLOCK_NEVER - 5, 6), CLOCK_NEVER);
	assert_moment(clock_min(1, 2), 1);
	assert_moment(clock_max(1, 2), 2);
	assert_int_equal(clock_wait_ms(10, CLOCK_NEVER), -1);
	assert_int_equal(clock_wait_ms(10, 10), 0);
	assert_int_equal(clock_wait_ms(10, 11), 1);
	assert_int_equal(clock_wait_ms(0, CLOCK_MS + 1), 2);
	assert_int_equal(clock_wait_ms(0, 100000 * CLOCK_S), 3600000);
	assert_true(clock_now() > 0);
}

static void
test_majority(void **state)
{
	static const int majority[] = {1, 1, 2, 2, 3, 3, 4, 4, 5, 5};

	start(1);
	for (int n = 1; n <= LEASE_MEMBERS_MAX; n++)
	{
		lease.list_size = n;
		assert_int_equal(lease_majority(&lease), majority[n]);
	}
}

/* ------------------------------------------------------------------------
 * Starting
 * ------------------------------------------------------------------------
 */

static void
test_knows_nothing(void **state)
{
	lease_init(&lease, "a", MINE, 0, 0);
	assert_int_equal(lease.reason, LEASE_REASON_STARTING);
	lease_tick(&lease, CLOCK_S);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	assert_int_equal(lease.reason, LEASE_REASON_NO_MAJORITY);
	assert_moment(lease_deadline(&lease), 0);
	assert_moment(lease_wakeup(&lease, CLOCK_S), CLOCK_NEVER);
	assert_null(lease_best_row(&lease));
	assert_null(lease_request(&lease));
	assert_int_not_equal(lease.random, 0);
}

static void
test_long_name_is_cut(void **state)
{
	char		name[2 * LEASE_NAME_LEN];

	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	lease_init(&lease, name, MINE, 0, 0);
	assert_int_equal(strlen(lease.node), LEASE_NAME_LEN - 1);
}

static void
test_too_few_members_answer(void **state)
{
	start(3);
	look(0);
	assert_int_equal(lease.reason, LEASE_REASON_NO_MAJORITY);
	look(1);
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
}

static void
test_lease_that_nobody_made(void **state)
{
	start(3);
	for (int i = 0; i < 3; i++)
		member[i].present = false;
	look_all();
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	assert_int_equal(lease.reason, LEASE_REASON_UNKNOWN_LEASE);
}

static void
test_takes_a_free_lease(void **state)
{
	start_holder(3);
	assert_int_equal(lease.epoch, 1);
	assert_moment(lease_deadline(&lease), promise(TTL));
	for (int i = 0; i < 3; i++)
		assert_int_equal(member[i].epoch, 1);
}

/* ------------------------------------------------------------------------
 * R1: epochs
 * ------------------------------------------------------------------------
 */

static void
test_r1_epoch_above_all_seen(void **state)
{
	start(3);
	member[0].epoch = 4;
	member[1].epoch = 9;
	member[2].epoch = 6;
	look_all();
	expect(0, LEASE_OP_ACQUIRE);
	assert_int_equal(sent[0].epoch, 10);
	assert_int_equal(sent[0].guard_epoch, 4);
	expect(1, LEASE_OP_ACQUIRE);
	assert_int_equal(sent[1].epoch, 10);
	assert_int_equal(sent[1].guard_epoch, 9);
}

/* What the disk remembers counts, although every member seen is below. */
static void
test_r1_epoch_above_the_own_highest(void **state)
{
	start(3);
	lease_resume_epoch(&lease, 0, 0, 70, 0, 0);
	look_all();
	expect(0, LEASE_OP_ACQUIRE);
	assert_int_equal(sent[0].epoch, 71);
}

static void
test_r1_epoch_is_durable_first(void **state)
{
	start(1);
	lease.durable_epoch = 6;
	member[0].epoch = 6;
	look(0);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	assert_int_equal(lease.reason, LEASE_REASON_DISK);
	assert_int_equal(lease_epoch_to_persist(&lease), 7);
	expect(0, LEASE_OP_NONE);
	lease.durable_epoch = 7;
	pass_ms(0);
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
	expect(0, LEASE_OP_ACQUIRE);
	assert_int_equal(sent[0].epoch, 7);
	assert_int_equal(lease_epoch_to_persist(&lease), 7);
}

/* Without a majority there is nothing to prepare for. */
static void
test_r1_epoch_to_persist_of_a_minority(void **state)
{
	start(3);
	member[0].epoch = 6;
	look(0);
	assert_int_equal(lease_epoch_to_persist(&lease), 6);
}

/* A member whose epoch is above the race's own cannot be won in it. */
static void
test_r1_no_acquire_below_a_members_epoch(void **state)
{
	start(3);
	look(0);
	look(1);
	assert_int_equal(lease.epoch, 1);
	member[2].epoch = 8;
	look(2);
	expect(2, LEASE_OP_NONE);
	assert_int_equal(lease.epoch, 1);
	assert_int_equal(lease.highest_epoch, 8);
}

/* ------------------------------------------------------------------------
 * R2: observation
 * ------------------------------------------------------------------------
 */

static void
test_r2_waits_a_whole_observation(void **state)
{
	ClockTime	since;

	start_follower(1);
	since = now;
	pass_ms(TTL);
	now = since + lease_observation(&lease, TTL) - 1;
	lease_tick(&lease, now);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	now++;
	lease_tick(&lease, now);
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
	expect(0, LEASE_OP_ACQUIRE);
	assert_int_equal(sent[0].epoch, 6);
	assert_int_equal(sent[0].guard_epoch, 5);
	assert_int_equal(sent[0].guard_version, 40);
	assert_false(sent[0].reclaim);
	assert_string_equal(sent[0].from, "b");
}

static void
test_r2_a_renewal_restarts_it(void **state)
{
	start_follower(1);
	pass_ms(900);
	member[0].version++;
	look(0);
	pass_ms(1051);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	pass_ms(1);
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
}

static void
test_r2_looking_again_does_not_restart_it(void **state)
{
	start_follower(1);
	for (int i = 0; i < 21; i++)
	{
		pass_ms(LOOK);
		look(0);
		assert_int_equal(lease.phase, LEASE_FOLLOWER);
	}
	pass_ms(2);
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
}

static void
test_r2_each_member_has_its_timer(void **state)
{
	start_follower(3);
	pass_ms(500);
	member[0].version++;
	member[1].version++;
	look(0);
	look(1);
	pass_ms(600);
	/* one of three has stood still */
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	member[0].version++;
	look(0);
	pass_ms(460);
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
	expect(2, LEASE_OP_ACQUIRE);
	expect(1, LEASE_OP_ACQUIRE);
	expect(0, LEASE_OP_LOOK);
	saw(0);
	expect(0, LEASE_OP_NONE);
}

/* The row's ttl is the promise, whatever this node would promise itself. */
static void
test_r2_judges_by_the_rows_ttl(void **state)
{
	start(1);
	held_by(0, "b", OTHER, 5, 1);
	member[0].ttl_ms = 5000;
	ask(1, 300, false);
	look(0);
	assert_int_equal(lease.ttl_ms, 300);
	pass_ms(5200);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	pass_ms(60);
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
	expect(0, LEASE_OP_ACQUIRE);
	assert_int_equal(sent[0].ttl_ms, 300);
}

static void
test_r2_a_released_row_is_free_at_once(void **state)
{
	start(1);
	held_by(0, "", OTHER, 5, 1);
	look(0);
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
	expect(0, LEASE_OP_ACQUIRE);
}

static void
test_r2_members_out_of_reach_are_no_majority(void **state)
{
	start_follower(3);
	lease_set_reachable(&lease, 0, false, true);
	lease_set_reachable(&lease, 1, false, true);
	pass_ms(5000);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	lease_set_reachable(&lease, 1, true, true);
	pass_ms(0);
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
	expect(0, LEASE_OP_NONE);
}

/* ------------------------------------------------------------------------
 * R3: the deadline
 * ------------------------------------------------------------------------
 */

static void
test_r3_runs_from_before_the_request(void **state)
{
	ClockTime	until;

	start_holder(1);
	pass_ms(RENEW);
	until = promise(TTL);
	expect(0, LEASE_OP_RENEW);
	pass_ms(100);
	accept(0);
	assert_moment(lease_deadline(&lease), until);
}

static void
test_r3_a_minority_is_no_hold(void **state)
{
	start(3);
	look_all();
	expect(0, LEASE_OP_ACQUIRE);
	accept(0);
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
	assert_moment(lease_deadline(&lease), 0);
	expect(1, LEASE_OP_ACQUIRE);
	accept(1);
	assert_int_equal(lease.phase, LEASE_HOLDER);
}

/* With three members it is the second latest promise, with five the third. */
static void
test_r3_majoritys_latest_promise(void **state)
{
	for (int members = 3; members <= 5; members += 2)
	{
		ClockTime	until[5];

		start_holder(members);
		for (int i = 0; i < members; i++)
		{
			pass_ms(RENEW / (i == 0 ? 1 : 20));
			until[i] = promise(TTL);
			expect(i, LEASE_OP_RENEW);
			accept(i);
		}
		assert_moment(lease_deadline(&lease), until[members - lease_majority(&lease)]);
	}
}

static void
test_r3_a_lost_member_promises_nothing(void **state)
{
	ClockTime	until;

	start_holder(3);
	until = lease_deadline(&lease);
	pass_ms(RENEW);
	expect(0, LEASE_OP_RENEW);
	accept(0);
	assert_moment(lease_deadline(&lease), until);
	expect(1, LEASE_OP_RENEW);
	accept(1);
	assert_moment(lease_deadline(&lease), promise(TTL));
	/* another node has it there */
	held_by(1, "b", OTHER, 2, 90);
	lease.member[1].look_now = true;
	look(1);
	assert_moment(lease_deadline(&lease), until);
	/* that a session ends, or the list moves on, breaks no promise */
	lease_set_reachable(&lease, 0, false, false);
	assert_moment(lease_deadline(&lease), until);
	/* but this one is no longer the member that it was */
	lease_forgotten(&lease, 0);
	assert_moment(lease_deadline(&lease), 0);
}

static void
test_r3_expires(void **state)
{
	ClockTime	until;

	start_holder(3);
	until = lease_deadline(&lease);
	for (int i = 0; i < 3; i++)
		lease_set_reachable(&lease, i, false, true);
	assert_moment(lease_wakeup(&lease, now), until);
	now = until - 1;
	lease_tick(&lease, now);
	assert_int_equal(lease.phase, LEASE_HOLDER);
	now = until;
	lease_tick(&lease, now);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	assert_int_equal(lease.reason, LEASE_REASON_EXPIRED);
	assert_moment(lease_deadline(&lease), 0);
	assert_int_equal(lease.closed_epoch, 1);
}

/* An answer that comes after the epoch was closed does not open it again. */
static void
test_r3_late_answer_after_expiry(void **state)
{
	start_holder(1);
	pass_ms(RENEW);
	expect(0, LEASE_OP_RENEW);
	take_effect(0);
	pass_ms(TTL);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	answer(0);
	assert_moment(lease_deadline(&lease), 0);
	assert_moment(lease.member[0].contribution, 0);
	/* what is left there is given back, or taken under another epoch */
	expect(0, LEASE_OP_RELEASE);
	assert_int_equal(sent[0].epoch, 1);
}

/* ------------------------------------------------------------------------
 * R4: lost races
 * ------------------------------------------------------------------------
 */

static void
test_r4_minority_win_is_given_back(void **state)
{
	start(3);
	look_all();
	for (int i = 0; i < 3; i++)
		expect(i, LEASE_OP_ACQUIRE);
	accept(0);
	refuse(1);
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
	refuse(2);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	assert_int_equal(lease.reason, LEASE_REASON_BACKING_OFF);
	assert_int_equal(lease.closed_epoch, 1);
	assert_true(lease.not_before <= now + clock_ms(4 * LOOK));
	expect(0, LEASE_OP_RELEASE);
	assert_int_equal(sent[0].epoch, 1);
	assert_string_equal(sent[0].reserved_for, "");
	accept(0);
	assert_int_equal(member[0].epoch, 1);
	assert_string_equal(member[0].holder, "");
}

static void
test_r4_a_race_has_an_end(void **state)
{
	start(3);
	look_all();
	expect(0, LEASE_OP_ACQUIRE);
	accept(0);
	expect(1, LEASE_OP_ACQUIRE);
	assert_true(lease_wakeup(&lease, now) <= now + clock_ms(TTL) / 3);
	pass_ms(333);
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
	pass_ms(1);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	/* the answer that would have made the majority comes too late */
	accept(1);
	assert_int_not_equal(lease.phase, LEASE_HOLDER);
	assert_moment(lease_deadline(&lease), 0);
}

static void
test_r4_backs_off_and_takes_another_epoch(void **state)
{
	start(1);
	look(0);
	expect(0, LEASE_OP_ACQUIRE);
	refuse(0);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	lease.not_before = now + clock_ms(120);
	pass_ms(LOOK);
	look(0);
	assert_int_equal(lease.reason, LEASE_REASON_BACKING_OFF);
	assert_true(lease_wakeup(&lease, now) <= lease.not_before);
	pass_ms(70);
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
	expect(0, LEASE_OP_ACQUIRE);
	assert_int_equal(sent[0].epoch, 2);
}

static void
test_r4_back_off_differs_between_nodes(void **state)
{
	int			same = 0;

	for (uint64_t seed = 0; seed < 20; seed++)
	{
		ClockTime	first;

		start(1);
		lease.random = 2 * seed + 1;
		for (int i = 0; i < 2; i++)
		{
			/* the generator is poor in its first steps */
			lease.not_before = 0;
			pass_ms(LOOK);
			look(0);
			expect(0, LEASE_OP_ACQUIRE);
			first = lease.not_before;
			refuse(0);
			assert_true(lease.not_before >= now);
			assert_true(lease.not_before < now + clock_ms(4 * LOOK));
			same += first == lease.not_before;
		}
	}
	assert_true(same < 10);
}

static void
test_r4_not_able_any_more(void **state)
{
	start(3);
	look_all();
	expect(0, LEASE_OP_ACQUIRE);
	accept(0);
	lease.able = false;
	pass_ms(0);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	expect(0, LEASE_OP_RELEASE);
}

/*
 * For so long, or until it holds, member 0 answers looks; acquires fail, unless
 * they are served, too.  Returns how many epochs were tried.
 */
static int64_t
go_on(int64_t ms, bool serves)
{
	int64_t		before = lease.highest_epoch;

	for (int64_t passed = 0; passed < ms && lease.phase != LEASE_HOLDER;
		 passed += 10)
	{
		if (lease_next(&lease, 0, now, &sent[0]))
		{
			if (sent[0].op == LEASE_OP_LOOK)
				saw(0);
			else if (serves || sent[0].op == LEASE_OP_RELEASE)
				accept(0);
			else
				lose(0);
		}
		pass_ms(10);
	}
	return lease.highest_epoch - before;
}

/* Each attempt costs an epoch: they become rarer, and a win makes up for it. */
static void
test_r4_attempts_that_fail_become_rarer(void **state)
{
	start(1);
	assert_in_range(go_on(TTL, false), 2, 3);
	assert_in_range(go_on(50 * TTL, false), 20, 60);
	assert_in_range(go_on(2 * TTL, true), 0, 1);
	assert_int_equal(lease.phase, LEASE_HOLDER);
	lease_close(&lease, now);
	assert_in_range(go_on(TTL, false), 2, 3);
}

/* A member that failed and then answered does not make the round a failure. */
static void
test_r4_a_fault_that_passed(void **state)
{
	start(1);
	look(0);
	for (int i = 0; i < 8; i++)
	{
		expect(0, LEASE_OP_ACQUIRE);
		lose(0);
		pass_ms(LOOK);
		look(0);
		expect(0, LEASE_OP_ACQUIRE);
		refuse(0);
		assert_int_equal(lease.phase, LEASE_FOLLOWER);
		assert_true(lease.not_before < now + clock_ms(4 * LOOK));
		pass_ms(4 * LOOK);
		look(0);
		assert_int_equal(lease.phase, LEASE_ACQUIRING);
	}
}

/* Another node gives a member back while the race goes on. */
static void
test_r4_a_refusal_is_not_the_end(void **state)
{
	start(5);
	look_all();
	for (int i = 0; i < 5; i++)
		expect(i, LEASE_OP_ACQUIRE);
	accept(0);
	accept(1);
	refuse(2);
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
	expect(2, LEASE_OP_NONE);
	pass_ms(LOOK);
	held_by(2, "", OTHER, 0, 9);
	look(2);
	expect(2, LEASE_OP_ACQUIRE);
	assert_int_equal(sent[2].guard_version, 9);
	accept(2);
	assert_int_equal(lease.phase, LEASE_HOLDER);
}

/* ------------------------------------------------------------------------
 * R5: answers that do not come
 * ------------------------------------------------------------------------
 */

static void
test_r5_no_answer_extends_nothing(void **state)
{
	ClockTime	until;

	start_holder(1);
	until = lease_deadline(&lease);
	pass_ms(RENEW);
	expect(0, LEASE_OP_RENEW);
	take_effect(0);
	lose(0);
	assert_moment(lease_deadline(&lease), until);
	expect(0, LEASE_OP_NONE);
	assert_true(lease_wakeup(&lease, now) > now);
	pass_ms(LOOK);
	/* the next answer tells as much as a look would */
	expect(0, LEASE_OP_RENEW);
	assert_true(sent[0].version > member[0].version);
	accept(0);
	assert_moment(lease_deadline(&lease), promise(TTL));
}

/* That the row turns out to be ours tells nothing about when it was sent. */
static void
test_r5_a_look_extends_nothing(void **state)
{
	ClockTime	until;

	start_holder(1);
	until = lease_deadline(&lease);
	pass_ms(RENEW);
	expect(0, LEASE_OP_RENEW);
	take_effect(0);
	lose(0);
	pass_ms(LOOK);
	lease.member[0].look_now = true;
	look(0);
	assert_moment(lease_deadline(&lease), until);
}

static void
test_r5_acquire_with_effect_without_answer(void **state)
{
	start(1);
	look(0);
	expect(0, LEASE_OP_ACQUIRE);
	take_effect(0);
	lose(0);
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
	pass_ms(LOOK);
	look(0);
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
	assert_moment(lease_deadline(&lease), 0);
	expect(0, LEASE_OP_RENEW);
	accept(0);
	assert_int_equal(lease.phase, LEASE_HOLDER);
	assert_moment(lease_deadline(&lease), promise(TTL));
}

static void
test_r5_acquire_without_effect_is_repeated(void **state)
{
	start(1);
	look(0);
	expect(0, LEASE_OP_ACQUIRE);
	lose(0);
	pass_ms(LOOK);
	look(0);
	expect(0, LEASE_OP_ACQUIRE);
	assert_int_equal(sent[0].epoch, 1);
	accept(0);
	assert_int_equal(lease.phase, LEASE_HOLDER);
}

/* A holder goes on until every member is its own. */
static void
test_r5_holder_wins_the_last_member_too(void **state)
{
	start(3);
	look_all();
	expect(0, LEASE_OP_ACQUIRE);
	expect(1, LEASE_OP_ACQUIRE);
	expect(2, LEASE_OP_ACQUIRE);
	accept(0);
	accept(1);
	assert_int_equal(lease.phase, LEASE_HOLDER);
	lose(2);
	pass_ms(LOOK);
	look(2);
	expect(2, LEASE_OP_ACQUIRE);
	/* refused: a rival had won it, and then gave it back */
	refuse(2);
	held_by(2, "b", OTHER, 0, 6);
	pass_ms(LOOK);
	look(2);
	expect(2, LEASE_OP_NONE);
	held_by(2, "", OTHER, 0, 7);
	pass_ms(RENEW);
	expect(0, LEASE_OP_RENEW);
	look(2);
	expect(2, LEASE_OP_ACQUIRE);
	assert_int_equal(sent[2].epoch, 1);
	accept(2);
	assert_int_equal(member[2].epoch, 1);
}

static void
test_r5_a_refused_renewal_asks_what_is_there(void **state)
{
	ClockTime	until;

	start_holder(3);
	until = lease_deadline(&lease);
	pass_ms(RENEW);
	expect(0, LEASE_OP_RENEW);
	refuse(0);
	assert_moment(lease_deadline(&lease), until);
	expect(0, LEASE_OP_NONE);
	pass_ms(LOOK);
	held_by(0, "b", OTHER, 9, 99);
	look(0);
	expect(0, LEASE_OP_NONE);
	assert_int_equal(lease.highest_epoch, 9);
	assert_int_equal(lease.phase, LEASE_HOLDER);
}

/* ------------------------------------------------------------------------
 * R6: members that forget
 * ------------------------------------------------------------------------
 */

static void
test_r6_an_epoch_that_fell(void **state)
{
	start_holder(3);
	pass_ms(RENEW);
	held_by(0, "", 0, 0, 0);
	lease.member[0].look_now = true;
	expect(0, LEASE_OP_LOOK);
	assert_false(lease_saw(&lease, 0, &member[0], now));
	lease_tick(&lease, now);
	assert_true(lease.member[0].forgot);
	assert_moment(lease.member[0].contribution, 0);
	assert_int_equal(lease_members_seen(&lease), 2);
	assert_int_equal(lease.phase, LEASE_HOLDER);
	/* it is looked at, but neither counted nor written to */
	pass_ms(RENEW);
	expect(0, LEASE_OP_LOOK);
	assert_true(lease_saw(&lease, 0, &member[0], now));
	lease_tick(&lease, now);
	expect(0, LEASE_OP_NONE);
	assert_true(lease_wakeup(&lease, now) >= now);
	/* the two others do */
	expect(1, LEASE_OP_RENEW);
	accept(1);
	expect(2, LEASE_OP_RENEW);
	accept(2);
	assert_moment(lease_deadline(&lease), promise(TTL));
	/* until it is seeded again, with another generation of the list */
	held_by(0, "a", MINE, 1, 90);
	lease_set_members(&lease, 3, 3);
	look(0);
	assert_int_equal(lease_members_seen(&lease), 1);
}

static void
test_r6_a_version_that_fell(void **state)
{
	start_follower(1);
	pass_ms(LOOK);
	member[0].version--;
	expect(0, LEASE_OP_LOOK);
	assert_false(lease_saw(&lease, 0, &member[0], now));
	pass_ms(5000);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	assert_int_equal(lease.reason, LEASE_REASON_NO_MAJORITY);
}

static void
test_r6_a_member_that_moved_and_fell(void **state)
{
	start_follower(1);
	lease_restart_observation(&lease, 0);
	held_by(0, "", 0, 4, 1);
	expect(0, LEASE_OP_LOOK);
	assert_false(lease_saw(&lease, 0, &member[0], now));
}

static void
test_r6_a_stranger_does_not_count(void **state)
{
	start(3);
	lease_set_reachable(&lease, 1, true, false);
	lease_set_reachable(&lease, 2, true, false);
	look_all();
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	assert_int_equal(lease.reason, LEASE_REASON_NO_MAJORITY);
	for (int i = 1; i < 3; i++)
		expect(i, LEASE_OP_NONE);
}

/* ------------------------------------------------------------------------
 * R7, R8: runs of one node
 * ------------------------------------------------------------------------
 */

static void
test_r7_proven_previous_run(void **state)
{
	start(3);
	lease_init(&lease, "a", MINE, 10, 7);
	lease_set_members(&lease, 3, 3);
	for (int i = 0; i < 3; i++)
	{
		lease_set_reachable(&lease, i, true, true);
		held_by(i, "a", 10, 5, 30);
	}
	lease.able = true;
	lease.durable_epoch = 1000;
	/* it does not take a lease by itself, but its own it takes back */
	lease.eager = false;
	lease.stagger = 10 * CLOCK_S;
	lease.abstain_until = now + 10 * CLOCK_S;
	look_all();
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
	expect(0, LEASE_OP_ACQUIRE);
	assert_true(sent[0].reclaim);
	assert_false(sent[0].frozen);
	assert_int_equal(sent[0].epoch, 6);
}

static void
test_r7_without_the_proof_it_waits(void **state)
{
	start(1);
	held_by(0, "a", 10, 5, 30);
	look(0);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	assert_int_equal(lease.reason, LEASE_REASON_WAITING);
	pass_ms(1051);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	pass_ms(1);
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
	expect(0, LEASE_OP_ACQUIRE);
	assert_false(sent[0].reclaim);
}

static void
test_r7_previous_run_of_another_name(void **state)
{
	start(1);
	lease.previous = OTHER;
	held_by(0, "b", OTHER, 5, 30);
	look(0);
	assert_int_equal(lease.reason, LEASE_REASON_HELD);
}

/* R8: a twin's row is never ours, whatever its epoch. */
static void
test_r8_twin_incarnation(void **state)
{
	ClockTime	until;

	start_holder(1);
	until = lease_deadline(&lease);
	pass_ms(RENEW);
	expect(0, LEASE_OP_RENEW);
	refuse(0);
	pass_ms(LOOK);
	member[0].incarnation = 12;
	member[0].version += 5;
	look(0);
	assert_moment(lease.member[0].contribution, 0);
	assert_true(lease_deadline(&lease) < until);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	expect(0, LEASE_OP_NONE);
}

/* ------------------------------------------------------------------------
 * R9: pause and resume
 * ------------------------------------------------------------------------
 */

static void
start_paused(int members)
{
	start_holder(members);
	ask(1, TTL, true);
	pass_ms(RENEW);
	renew_all();				/* the first answer brings the request */
	expect(0, LEASE_OP_RENEW);
	accept(0);
	for (int i = 0; i < members; i++)
		assert_true(member[i].frozen);
	assert_moment(lease_deadline(&lease), CLOCK_NEVER);
}

static void
test_r9_unlimited_once_a_majority_is_frozen(void **state)
{
	start_holder(3);
	ask(1, TTL, true);
	pass_ms(RENEW);
	expect(0, LEASE_OP_RENEW);
	assert_false(sent[0].frozen);
	accept(0);
	/* it knows of the pause; it goes out at once, to everybody */
	for (int i = 0; i < 3; i++)
	{
		expect(i, LEASE_OP_RENEW);
		assert_true(sent[i].frozen);
		assert_true(lease_deadline(&lease) != CLOCK_NEVER);
	}
	accept(0);
	assert_true(lease_deadline(&lease) != CLOCK_NEVER);
	take_effect(1);
	lose(1);
	assert_true(lease_deadline(&lease) != CLOCK_NEVER);
	accept(2);
	assert_moment(lease_deadline(&lease), CLOCK_NEVER);
	assert_true(lease_wakeup(&lease, now) > now);
	for (int i = 0; i < 3; i++)
		lease_set_reachable(&lease, i, false, true);
	pass_ms(100000);
	assert_int_equal(lease.phase, LEASE_HOLDER);
}

static void
test_r9_resume_is_a_promise_of_less(void **state)
{
	start_paused(1);
	ask(2, TTL, false);
	pass_ms(RENEW);
	expect(0, LEASE_OP_RENEW);
	assert_true(sent[0].frozen);
	accept(0);
	assert_moment(lease_deadline(&lease), CLOCK_NEVER);
	/* cut when the thaw leaves, not when it is answered */
	expect(0, LEASE_OP_RENEW);
	assert_false(sent[0].frozen);
	assert_moment(lease_deadline(&lease), promise(TTL));
	lose(0);
	pass_ms(TTL);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
}

/* One of three thawed: two still keep everybody off for good. */
static void
test_r9_resume_at_a_minority(void **state)
{
	start_paused(3);
	ask(2, TTL, false);
	pass_ms(RENEW);
	expect(0, LEASE_OP_RENEW);
	accept(0);
	expect(0, LEASE_OP_RENEW);
	assert_false(sent[0].frozen);
	assert_moment(lease_deadline(&lease), CLOCK_NEVER);
	accept(0);
	expect(1, LEASE_OP_RENEW);
	assert_moment(lease_deadline(&lease), promise(TTL));
}

static void
test_r9_nobody_takes_a_frozen_lease(void **state)
{
	start(3);
	for (int i = 0; i < 3; i++)
	{
		held_by(i, "b", OTHER, 5, 1);
		member[i].frozen = true;
	}
	look_all();
	pass_ms(100000);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	assert_int_equal(lease.reason, LEASE_REASON_FROZEN);
	assert_true(lease_wakeup(&lease, now) >= now);
}

/* The next run of its holder does, keeps it frozen, and counts no longer. */
static void
test_r9_reclaim_keeps_the_pause(void **state)
{
	start(1);
	lease.previous = 10;
	held_by(0, "a", 10, 5, 1);
	member[0].frozen = true;
	ask(1, TTL, true);
	look(0);
	expect(0, LEASE_OP_ACQUIRE);
	assert_true(sent[0].reclaim);
	assert_true(sent[0].frozen);
	accept(0);
	assert_int_equal(lease.phase, LEASE_HOLDER);
	assert_moment(lease_deadline(&lease), promise(TTL));
	pass_ms(RENEW);
	expect(0, LEASE_OP_RENEW);
	assert_true(sent[0].frozen);
	accept(0);
	assert_moment(lease_deadline(&lease), CLOCK_NEVER);
}

/* A frozen minority win would be nobody's to give back. */
static void
test_r9_a_race_does_not_freeze(void **state)
{
	start(3);
	ask(1, TTL, true);
	look_all();
	expect(0, LEASE_OP_ACQUIRE);
	assert_false(sent[0].frozen);
	accept(0);
	pass_ms(RENEW);
	expect(0, LEASE_OP_RENEW);
	assert_false(sent[0].frozen);
	accept(0);
	expect(0, LEASE_OP_NONE);
	expect(1, LEASE_OP_ACQUIRE);
	accept(1);
	assert_int_equal(lease.phase, LEASE_HOLDER);
	expect(0, LEASE_OP_RENEW);
	assert_true(sent[0].frozen);
}

/* What a paused holder leaves behind stays frozen as long as people want it. */
static void
test_r9_frozen_leftover(void **state)
{
	start_paused(3);
	lease.eager = false;
	lease_close(&lease, now);
	assert_moment(lease_deadline(&lease), 0);
	pass_ms(RENEW);
	for (int i = 0; i < 3; i++)
		look(i);
	expect(0, LEASE_OP_NONE);
	ask(2, TTL, false);
	pass_ms(RENEW);
	look(0);
	expect(0, LEASE_OP_RELEASE);
	assert_true(sent[0].frozen);
	accept(0);
	assert_false(member[0].frozen);
}

/* ... and its node may have it back at once, under another epoch. */
static void
test_r9_frozen_leftover_taken_back(void **state)
{
	start_paused(1);
	lease_close(&lease, now);
	pass_ms(0);
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
	expect(0, LEASE_OP_ACQUIRE);
	assert_true(sent[0].reclaim);
	assert_true(sent[0].frozen);
	assert_int_equal(sent[0].epoch, 2);
}

/* ------------------------------------------------------------------------
 * R10: lists of members
 * ------------------------------------------------------------------------
 */

static void
test_r10_the_deadline_is_carried_over(void **state)
{
	ClockTime	until;

	start_holder(3);
	until = lease_deadline(&lease);
	pass_ms(100);
	lease_set_members(&lease, 5, 5);
	assert_moment(lease_deadline(&lease), until);
	assert_int_equal(lease.phase, LEASE_HOLDER);
	for (int i = 0; i < 5; i++)
	{
		lease_set_reachable(&lease, i, true, true);
		held_by(i, "a", MINE, 1, 50);
		look(i);
		expect(i, LEASE_OP_RENEW);
		accept(i);
		/* two of five do not make a deadline, three do */
		assert_moment(lease_deadline(&lease), i < 2 ? until : promise(TTL));
	}
	assert_moment(lease.carry, 0);
}

static void
test_r10_the_carry_ends(void **state)
{
	ClockTime	until;

	start_holder(1);
	until = lease_deadline(&lease);
	lease_set_members(&lease, 3, 3);
	now = until;
	lease_tick(&lease, now);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	assert_moment(lease.carry, 0);
}

/* R13 binds the carry as well. */
static void
test_r10_the_carry_is_cut(void **state)
{
	start_paused(1);
	lease_set_members(&lease, 1, 1);
	assert_moment(lease_deadline(&lease), CLOCK_NEVER);
	ask(2, 400, false);
	look(0);
	expect(0, LEASE_OP_RENEW);
	assert_moment(lease_deadline(&lease), promise(400));
	lose(0);
	assert_moment(lease_deadline(&lease), promise(400));
}

static void
test_r10_old_answers_are_discarded(void **state)
{
	ClockTime	until;

	start_holder(3);
	until = lease_deadline(&lease);
	pass_ms(RENEW);
	for (int i = 0; i < 3; i++)
	{
		expect(i, LEASE_OP_RENEW);
		take_effect(i);
	}
	lease_set_members(&lease, 3, 3);
	for (int i = 0; i < 3; i++)
	{
		answer(i);
		assert_moment(lease.member[i].contribution, 0);
	}
	assert_moment(lease_deadline(&lease), until);
	assert_int_equal(lease_members_seen(&lease), 0);
	/* nor an answer to a look */
	pass_ms(LOOK);
	expect(0, LEASE_OP_LOOK);
	lease_set_members(&lease, 3, 3);
	saw(0);
	assert_int_equal(lease_members_seen(&lease), 0);
	look(0);
	assert_int_equal(lease_members_seen(&lease), 1);
}

static void
test_r10_a_race_ends_with_the_list(void **state)
{
	start(3);
	look_all();
	expect(0, LEASE_OP_ACQUIRE);
	accept(0);
	lease_set_members(&lease, 1, 1);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	assert_int_equal(lease.closed_epoch, 1);
}

static void
test_r10_observation_starts_anew(void **state)
{
	start_follower(1);
	pass_ms(1000);
	lease_set_members(&lease, 1, 1);
	lease_tick(&lease, now);
	assert_int_equal(lease.reason, LEASE_REASON_NO_MAJORITY);
	look(0);
	pass_ms(1000);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	pass_ms(60);
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
}

/* What was tried at a place of the old list is no concern of the new one. */
static void
test_r10_nothing_tried_is_inherited(void **state)
{
	start_holder(3);
	lease_set_members(&lease, 3, 3);
	held_by(2, "", 0, 0, 0);
	look_all();
	expect(2, LEASE_OP_ACQUIRE);
	assert_int_equal(sent[2].epoch, 1);
}

/* The agreed list is longer than what this node has addresses for. */
static void
test_r10_majority_of_the_agreed_list(void **state)
{
	start(2);
	lease_set_members(&lease, 2, 5);
	look_all();
	assert_int_equal(lease.reason, LEASE_REASON_NO_MAJORITY);
	lease_set_members(&lease, 2, 3);
	look_all();
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
}

/* ------------------------------------------------------------------------
 * R13: promises of less
 * ------------------------------------------------------------------------
 */

static void
test_r13_shorter_ttl(void **state)
{
	ClockTime	until;

	start_holder(1);
	ask(1, 400, false);
	pass_ms(RENEW);
	expect(0, LEASE_OP_RENEW);
	assert_int_equal(sent[0].ttl_ms, TTL);
	accept(0);
	until = promise(400);
	/* changed promises do not wait for the next renewal */
	expect(0, LEASE_OP_RENEW);
	assert_int_equal(sent[0].ttl_ms, 400);
	assert_moment(lease_deadline(&lease), until);
	lose(0);
	assert_moment(lease_deadline(&lease), until);
	pass_ms(50);
	expect(0, LEASE_OP_RENEW);
	assert_moment(lease_deadline(&lease), until);
	accept(0);
	assert_moment(lease_deadline(&lease), promise(400));
}

static void
test_r13_longer_ttl(void **state)
{
	ClockTime	until;

	start_holder(1);
	ask(1, 5000, false);
	pass_ms(RENEW);
	expect(0, LEASE_OP_RENEW);
	accept(0);
	until = lease_deadline(&lease);
	expect(0, LEASE_OP_RENEW);
	assert_int_equal(sent[0].ttl_ms, 5000);
	assert_moment(lease_deadline(&lease), until);
	take_effect(0);
	lose(0);
	assert_moment(lease_deadline(&lease), until);
	pass_ms(50);
	expect(0, LEASE_OP_RENEW);
	accept(0);
	assert_moment(lease_deadline(&lease), promise(5000));
}

static void
test_r13_senseless_ttl_is_not_followed(void **state)
{
	start_holder(1);
	ask(1, LEASE_TTL_MIN_MS - 1, false);
	pass_ms(RENEW);
	renew_all();
	assert_int_equal(lease.ttl_ms, TTL);
	ask(2, LEASE_TTL_MAX_MS + 1, false);
	pass_ms(RENEW);
	renew_all();
	assert_int_equal(lease.ttl_ms, TTL);
	expect(0, LEASE_OP_NONE);
}

static void
test_r13_closed_before_the_release(void **state)
{
	start_holder(3);
	assert_true(lease_begin_drain(&lease, "", now));
	assert_int_equal(lease.phase, LEASE_DRAINING);
	assert_moment(lease_deadline(&lease), 0);
	expect(0, LEASE_OP_NONE);
	lease_drained(&lease, now);
	assert_int_equal(lease.phase, LEASE_RELEASING);
	assert_int_equal(lease.closed_epoch, 1);
	lease_tick(&lease, now);
	/* there is no way back */
	assert_false(lease_undo_drain(&lease, now));
	for (int i = 0; i < 3; i++)
	{
		expect(i, LEASE_OP_RELEASE);
		assert_int_equal(sent[i].epoch, 1);
		assert_int_equal(lease.phase, LEASE_RELEASING);
		accept(i);
	}
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	assert_false(lease_undo_drain(&lease, now));
	assert_moment(lease_deadline(&lease), 0);
}

/* ------------------------------------------------------------------------
 * R14: versions and observation
 * ------------------------------------------------------------------------
 */

static void
test_r14_every_message_raises_the_version(void **state)
{
	int64_t		last = 0;

	start(1);
	member[0].version = 500;
	look(0);
	expect(0, LEASE_OP_ACQUIRE);
	assert_true(sent[0].version > 500);
	last = sent[0].version;
	accept(0);
	for (int i = 0; i < 5; i++)
	{
		pass_ms(RENEW);
		expect(0, LEASE_OP_RENEW);
		assert_true(sent[0].version > last);
		last = sent[0].version;
		if (i % 2 == 0)
			accept(0);
		else
			lose(0);
	}
	lease_begin_drain(&lease, "", now);
	lease_drained(&lease, now);
	pass_ms(LOOK);
	expect(0, LEASE_OP_RELEASE);
	assert_true(sent[0].version > last);
}

static void
test_r14_a_move_restarts_the_observation(void **state)
{
	start_follower(1);
	pass_ms(1000);
	expect(0, LEASE_OP_LOOK);
	lease_restart_observation(&lease, 0);
	/* an answer from the old address is none */
	saw(0);
	assert_int_equal(lease_members_seen(&lease), 0);
	look(0);
	assert_moment(lease.member[0].unchanged_since, now);
	pass_ms(1000);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
}

/* ------------------------------------------------------------------------
 * Pacing
 * ------------------------------------------------------------------------
 */

static void
test_follower_looks_often(void **state)
{
	start_follower(3);
	for (int i = 0; i < 3; i++)
		expect(i, LEASE_OP_NONE);
	assert_moment(lease_wakeup(&lease, now), now + clock_ms(LOOK));
	pass_ms(LOOK - 1);
	expect(0, LEASE_OP_NONE);
	pass_ms(1);
	look(0);
	look(1);
	expect(0, LEASE_OP_NONE);
}

static void
test_holder_renews_and_does_not_look(void **state)
{
	start_holder(3);
	for (int i = 0; i < 3; i++)
		expect(i, LEASE_OP_NONE);
	assert_moment(lease_wakeup(&lease, now), now + clock_ms(RENEW));
	pass_ms(RENEW - 1);
	expect(0, LEASE_OP_NONE);
	pass_ms(1);
	renew_all();
	assert_moment(lease_wakeup(&lease, now), now + clock_ms(RENEW));
	/* a member in flight is not written to again */
	pass_ms(RENEW);
	expect(0, LEASE_OP_RENEW);
	expect(0, LEASE_OP_NONE);
	pass_ms(RENEW);
	expect(0, LEASE_OP_NONE);
}

static void
test_wakes_when_a_row_becomes_free(void **state)
{
	ClockTime	free_at;

	start_follower(1);
	free_at = now + lease_observation(&lease, TTL);
	lease.look_setting_ms = 5000;
	assert_moment(lease_wakeup(&lease, now), free_at);
	now = free_at;
	lease_tick(&lease, now);
	expect(0, LEASE_OP_ACQUIRE);
}

static void
test_fault_is_followed_by_a_pause(void **state)
{
	start_follower(1);
	pass_ms(LOOK);
	expect(0, LEASE_OP_LOOK);
	lose(0);
	expect(0, LEASE_OP_NONE);
	assert_moment(lease_wakeup(&lease, now), now + clock_ms(50));
	pass_ms(50);
	expect(0, LEASE_OP_LOOK);
}

/* Every state in which nothing can be sent asks to be woken later. */
static void
assert_no_busy_loop(void)
{
	LeaseRequest request;

	lease_tick(&lease, now);
	for (int i = 0; i < lease.nmembers; i++)
		(void) lease_next(&lease, i, now, &request);
	assert_true(lease_wakeup(&lease, now) > now);
}

static void
test_never_a_busy_loop(void **state)
{
	for (int counted = 0; counted < 2; counted++)
	{
		start_holder(3);
		lease_set_reachable(&lease, 0, true, counted);
		for (int ms = 0; ms < 3000; ms += 7)
		{
			assert_no_busy_loop();
			/* answers come for two, the third is deaf */
			for (int i = 0; i < 2; i++)
				if (lease.member[i].in_flight && ms % 3 == i)
				{
					sent[i] = lease.member[i].sent;
					if (sent[i].op == LEASE_OP_LOOK)
						(void) lease_saw(&lease, i, &member[i], now);
					else
						accept(i);
					assert_no_busy_loop();
				}
			pass_ms(7);
			assert_no_busy_loop();
		}
	}
	start_follower(3);
	lease.able = false;
	pass_ms(5000);
	assert_no_busy_loop();
	assert_int_equal(lease.reason, LEASE_REASON_NOT_ABLE);
	start_paused(3);
	assert_no_busy_loop();
	lease_close(&lease, now);
	assert_no_busy_loop();
	start_holder(1);
	lease_begin_drain(&lease, "", now);
	assert_no_busy_loop();
	lease_drained(&lease, now);
	assert_no_busy_loop();
}

/* ------------------------------------------------------------------------
 * Who takes it
 * ------------------------------------------------------------------------
 */

static void
test_not_able(void **state)
{
	start(1);
	lease.able = false;
	look(0);
	assert_int_equal(lease.reason, LEASE_REASON_NOT_ABLE);
	lease.able = true;
	pass_ms(0);
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
}

/* No epoch is spent on members that are known to refuse writes. */
static void
test_store_refuses_writes(void **state)
{
	start_follower(3);
	lease.member[0].refuses = lease.member[2].refuses = true;
	for (int ms = 0; ms < 10 * TTL; ms += LOOK)
	{
		pass_ms(LOOK);
		look_all();
		assert_int_equal(lease.phase, LEASE_FOLLOWER);
	}
	assert_int_equal(lease.reason, LEASE_REASON_UNWRITABLE);
	assert_int_equal(lease.highest_epoch, 5);
	assert_int_equal(lease_epoch_to_persist(&lease), 6);
	/* a moment out of reach makes it no other store */
	lease_set_reachable(&lease, 2, false, true);
	pass_ms(0);
	assert_int_equal(lease.reason, LEASE_REASON_UNWRITABLE);
	lease_set_reachable(&lease, 2, true, true);
	/* two of three do */
	lease.member[2].refuses = false;
	pass_ms(0);
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
	assert_int_equal(lease.epoch, 6);
}

/* Who holds the lease matters more than that one could not take it. */
static void
test_refusing_store_is_held(void **state)
{
	start_follower(3);
	for (int i = 0; i < 3; i++)
		lease.member[i].refuses = true;
	pass_ms(LOOK);
	assert_int_equal(lease.reason, LEASE_REASON_HELD);
}

static void
test_not_eager(void **state)
{
	start(1);
	lease.eager = false;
	look(0);
	assert_int_equal(lease.reason, LEASE_REASON_NOT_EAGER);
	/* a hand-over is asked for */
	snprintf(member[0].reserved_for, LEASE_NAME_LEN, "a");
	member[0].version++;
	pass_ms(LOOK);
	look(0);
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
}

static void
test_stagger_lets_others_go_first(void **state)
{
	start(1);
	lease.stagger = clock_ms(30);
	look(0);
	assert_int_equal(lease.reason, LEASE_REASON_BACKING_OFF);
	assert_moment(lease_wakeup(&lease, now), now + clock_ms(30));
	pass_ms(29);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	pass_ms(1);
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
}

/* The stagger counts from when it became free, each time. */
static void
test_stagger_starts_anew(void **state)
{
	start(1);
	lease.stagger = clock_ms(60);
	look(0);
	pass_ms(LOOK);
	held_by(0, "b", OTHER, 1, 1);
	look(0);
	assert_int_equal(lease.reason, LEASE_REASON_HELD);
	pass_ms(LOOK);
	held_by(0, "", OTHER, 1, 2);
	look(0);
	assert_int_equal(lease.reason, LEASE_REASON_BACKING_OFF);
	pass_ms(59);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
}

static void
test_abstains(void **state)
{
	start(1);
	lease.abstain_until = now + clock_ms(40);
	look(0);
	assert_int_equal(lease.reason, LEASE_REASON_BACKING_OFF);
	assert_moment(lease_wakeup(&lease, now), now + clock_ms(40));
	pass_ms(40);
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
}

/* A margin that eats the ttl leaves nothing to hold. */
static void
test_margin_eats_the_ttl(void **state)
{
	start(1);
	lease.margin_setting_ms = TTL / 2 + 1;
	look(0);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	assert_int_equal(lease.reason, LEASE_REASON_MARGIN);
	lease.margin_setting_ms = TTL / 2;
	pass_ms(0);
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
	expect(0, LEASE_OP_ACQUIRE);
	accept(0);
	assert_moment(lease_deadline(&lease), now + clock_ms(TTL / 2));
	/* a holder whose margin grows beyond the ttl lets go */
	lease.margin_setting_ms = 2 * TTL;
	pass_ms(RENEW);
	expect(0, LEASE_OP_RENEW);
	lease_tick(&lease, now);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	assert_no_busy_loop();
}

static void
test_latest_request_counts(void **state)
{
	start_follower(3);
	member[1].request_seq = 9;
	member[1].ttl_wanted_ms = 2000;
	member[2].request_seq = 8;
	member[2].ttl_wanted_ms = 3000;
	pass_ms(LOOK);
	look_all();
	assert_int_equal(lease_request(&lease)->request_seq, 9);
	assert_int_equal(lease.ttl_ms, 2000);
	assert_int_equal(lease_best_row(&lease)->version, 42);
}

/*
 * A withdrawal keeps the request's number, and may not reach every member: it
 * counts wherever in the list it stands.
 */
static void
test_withdrawn_anywhere_counts(void **state)
{
	for (int withdrawn = 0; withdrawn < 3; withdrawn++)
	{
		start_follower(3);
		for (int i = 0; i < 3; i++)
		{
			member[i].request_seq = 9;
			snprintf(member[i].handover_to, LEASE_NAME_LEN, "%s",
					 i == withdrawn ? "" : "b");
		}
		pass_ms(LOOK);
		look_all();
		assert_string_equal(lease_request(&lease)->handover_to, "");
	}
}

/* ------------------------------------------------------------------------
 * Giving it up
 * ------------------------------------------------------------------------
 */

static void
test_drain_goes_on_renewing(void **state)
{
	start_holder(1);
	lease_begin_drain(&lease, "", now);
	assert_false(lease_begin_drain(&lease, "", now));
	pass_ms(RENEW);
	expect(0, LEASE_OP_RENEW);
	accept(0);
	assert_moment(lease_deadline(&lease), 0);
	assert_true(lease_undo_drain(&lease, now));
	assert_int_equal(lease.phase, LEASE_HOLDER);
	assert_moment(lease_deadline(&lease), promise(TTL));
	assert_false(lease_undo_drain(&lease, now));
}

static void
test_drain_that_expires(void **state)
{
	start_holder(1);
	lease_begin_drain(&lease, "b", now);
	pass_ms(TTL);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	assert_false(lease_undo_drain(&lease, now));
	lease_drained(&lease, now);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	/* the hand-over came to nothing: what is left is free for all */
	expect(0, LEASE_OP_RELEASE);
	assert_string_equal(sent[0].reserved_for, "");
}

static void
test_hand_over(void **state)
{
	start_holder(3);
	lease_begin_drain(&lease, "b", now);
	lease_drained(&lease, now);
	lease_tick(&lease, now);
	for (int i = 0; i < 3; i++)
	{
		expect(i, LEASE_OP_RELEASE);
		assert_string_equal(sent[i].reserved_for, "b");
		assert_false(sent[i].frozen);
		accept(i);
		assert_string_equal(member[i].reserved_for, "b");
	}
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	lease_tick(&lease, now);
	assert_int_equal(lease.reason, LEASE_REASON_RESERVED);
	/* if it does not come, who handed it over takes it back */
	assert_true(lease_wakeup(&lease, now) <= now + clock_ms(TTL) / 3);
	pass_ms(333);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	pass_ms(1);
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
	expect(0, LEASE_OP_ACQUIRE);
	assert_int_equal(sent[0].epoch, 2);
	expect(1, LEASE_OP_ACQUIRE);
	accept(0);
	accept(1);
	assert_int_equal(lease.phase, LEASE_HOLDER);
	assert_moment(lease.retake_at, 0);
}

/*
 * Only its own reservation does a node undo.  Another may stand for a holder
 * that a change of the list could not make out.
 */
static void
test_reservation_of_somebody_else(void **state)
{
	start_holder(1);
	lease_begin_drain(&lease, "b", now);
	lease_drained(&lease, now);
	lease_tick(&lease, now);
	expect(0, LEASE_OP_RELEASE);
	accept(0);
	pass_ms(LOOK);
	held_by(0, "", 0, 3, 60);
	snprintf(member[0].reserved_for, LEASE_NAME_LEN, "*");
	lease_set_members(&lease, 1, 1);
	look(0);
	pass_ms(1000);
	assert_int_equal(lease.reason, LEASE_REASON_RESERVED);
	pass_ms(60);
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
}

/* It came, and went away again: the reservation is another one. */
static void
test_hand_over_that_was_taken(void **state)
{
	start_holder(1);
	lease_begin_drain(&lease, "b", now);
	lease_drained(&lease, now);
	lease_tick(&lease, now);
	expect(0, LEASE_OP_RELEASE);
	accept(0);
	pass_ms(LOOK);
	held_by(0, "b", OTHER, 2, 60);
	look(0);
	assert_int_equal(lease.reason, LEASE_REASON_HELD);
	pass_ms(LOOK);
	held_by(0, "", OTHER, 2, 61);
	snprintf(member[0].reserved_for, LEASE_NAME_LEN, "c");
	look(0);
	pass_ms(TTL);
	assert_int_equal(lease.reason, LEASE_REASON_RESERVED);
}

/* What is reserved for another node is free when that one does not come. */
static void
test_reserved_for_another(void **state)
{
	start(1);
	held_by(0, "", OTHER, 5, 1);
	snprintf(member[0].reserved_for, LEASE_NAME_LEN, "c");
	look(0);
	assert_int_equal(lease.reason, LEASE_REASON_RESERVED);
	pass_ms(1051);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	pass_ms(1);
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
	expect(0, LEASE_OP_ACQUIRE);
}

static void
test_reserved_for_this_node(void **state)
{
	start(3);
	for (int i = 0; i < 3; i++)
	{
		held_by(i, "", OTHER, 5, 1);
		snprintf(member[i].reserved_for, LEASE_NAME_LEN, "a");
	}
	lease.eager = false;
	lease.stagger = CLOCK_S;
	look_all();
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
}

static void
test_release_that_nobody_answers(void **state)
{
	start_holder(3);
	lease_begin_drain(&lease, "b", now);
	lease_drained(&lease, now);
	lease_tick(&lease, now);
	for (int i = 0; i < 3; i++)
		expect(i, LEASE_OP_RELEASE);
	assert_true(lease_wakeup(&lease, now) <= now + clock_ms(TTL) / 3 + 1);
	pass_ms(334);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	/* it is repeated, but the hand-over is over */
	lose(0);
	pass_ms(LOOK);
	look(0);
	expect(0, LEASE_OP_RELEASE);
	assert_string_equal(sent[0].reserved_for, "");
}

static void
test_release_waits_for_nobody_out_of_reach(void **state)
{
	start_holder(3);
	lease_begin_drain(&lease, "", now);
	lease_set_reachable(&lease, 2, false, true);
	lease_drained(&lease, now);
	lease_tick(&lease, now);
	for (int i = 0; i < 2; i++)
	{
		expect(i, LEASE_OP_RELEASE);
		accept(i);
	}
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
}

static void
test_close_at_once(void **state)
{
	start_holder(1);
	lease_close(&lease, now);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	assert_int_equal(lease.reason, LEASE_REASON_NOT_ABLE);
	assert_moment(lease_deadline(&lease), 0);
	assert_int_equal(lease.closed_epoch, 1);
	assert_moment(lease.member[0].contribution, 0);
	expect(0, LEASE_OP_RELEASE);
	accept(0);
	/* to a follower it means nothing */
	start_follower(1);
	lease_close(&lease, now);
	assert_int_equal(lease.reason, LEASE_REASON_HELD);
}

/* ------------------------------------------------------------------------
 * A keeper started anew
 * ------------------------------------------------------------------------
 */

static void
restart_keeper(int members, ClockTime deadline)
{
	LeaseState	old = lease;

	lease_init(&lease, "a", MINE, 0, 9);
	lease_set_members(&lease, members, members);
	lease_resume_epoch(&lease, old.epoch, old.closed_epoch, old.highest_epoch,
					   old.version, deadline);
	for (int i = 0; i < members; i++)
		lease_set_reachable(&lease, i, true, true);
	lease.able = lease.eager = true;
	lease.durable_epoch = 1000;
	lease_tick(&lease, now);
}

static void
test_resume_holder(void **state)
{
	ClockTime	until;
	int64_t		version;

	start_holder(3);
	until = lease_deadline(&lease);
	version = lease.version;
	pass_ms(100);
	restart_keeper(3, until);
	assert_int_equal(lease.phase, LEASE_HOLDER);
	assert_int_equal(lease.reason, LEASE_REASON_NONE);
	assert_moment(lease_deadline(&lease), until);
	look_all();
	assert_int_equal(lease.ttl_ms, TTL);
	for (int i = 0; i < 3; i++)
	{
		expect(i, LEASE_OP_RENEW);
		assert_int_equal(sent[i].epoch, 1);
		assert_int_equal(sent[i].ttl_ms, TTL);
		assert_true(sent[i].version > version);
		accept(i);
		assert_moment(lease_deadline(&lease), i == 0 ? until : promise(TTL));
	}
	assert_moment(lease.carry, 0);
}

/* What the predecessor has sent must not act after what its successor sends. */
static void
test_resume_above_what_is_in_flight(void **state)
{
	int64_t		version;

	start_holder(1);
	pass_ms(RENEW);
	expect(0, LEASE_OP_RENEW);
	lose(0);
	pass_ms(LOOK);
	expect(0, LEASE_OP_RENEW);
	version = sent[0].version;
	restart_keeper(1, lease_deadline(&lease));
	look(0);
	expect(0, LEASE_OP_RENEW);
	assert_true(sent[0].version > version);
}

static void
test_resume_too_late(void **state)
{
	ClockTime	until;

	start_holder(1);
	until = lease_deadline(&lease);
	now = until;
	restart_keeper(1, until);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	assert_int_equal(lease.closed_epoch, 1);
}

static void
test_resume_closed_epoch(void **state)
{
	start_holder(1);
	lease_close(&lease, now);
	restart_keeper(1, 0);
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	look(0);
	/* it is this run's own: free at once, under another epoch */
	assert_int_equal(lease.phase, LEASE_ACQUIRING);
	assert_int_equal(lease.epoch, 2);
	/* a deadline of a closed epoch is none */
	start_holder(1);
	lease.closed_epoch = 1;
	restart_keeper(1, now + CLOCK_S);
	assert_moment(lease_deadline(&lease), 0);
}

/* Wherever the predecessor was in a race, this run has given it up. */
static void
test_resume_in_a_race(void **state)
{
	start(3);
	look_all();
	expect(0, LEASE_OP_ACQUIRE);
	accept(0);
	lease.epoch = 0;			/* not published before it holds */
	restart_keeper(3, 0);
	assert_int_equal(lease.closed_epoch, 1);
	lease.eager = false;
	look_all();
	expect(0, LEASE_OP_RELEASE);
}

static void
test_resume_draining(void **state)
{
	start_holder(1);
	lease_begin_drain(&lease, "b", now);
	restart_keeper(1, lease_deadline(&lease));
	assert_int_equal(lease.phase, LEASE_FOLLOWER);
	assert_int_equal(lease.closed_epoch, 1);
}

static void
test_resume_paused(void **state)
{
	start_paused(3);
	restart_keeper(3, CLOCK_NEVER);
	look_all();
	assert_moment(lease_deadline(&lease), CLOCK_NEVER);
	for (int i = 0; i < 3; i++)
	{
		expect(i, LEASE_OP_RENEW);
		assert_true(sent[i].frozen);
		accept(i);
	}
	assert_moment(lease_deadline(&lease), CLOCK_NEVER);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_durations),
		cmocka_unit_test(test_observation_covers_clock_rates),
		cmocka_unit_test(test_clock_arithmetic),
		cmocka_unit_test(test_majority),
		cmocka_unit_test(test_knows_nothing),
		cmocka_unit_test(test_long_name_is_cut),
		cmocka_unit_test(test_too_few_members_answer),
		cmocka_unit_test(test_lease_that_nobody_made),
		cmocka_unit_test(test_takes_a_free_lease),
		cmocka_unit_test(test_r1_epoch_above_all_seen),
		cmocka_unit_test(test_r1_epoch_above_the_own_highest),
		cmocka_unit_test(test_r1_epoch_is_durable_first),
		cmocka_unit_test(test_r1_epoch_to_persist_of_a_minority),
		cmocka_unit_test(test_r1_no_acquire_below_a_members_epoch),
		cmocka_unit_test(test_r2_waits_a_whole_observation),
		cmocka_unit_test(test_r2_a_renewal_restarts_it),
		cmocka_unit_test(test_r2_looking_again_does_not_restart_it),
		cmocka_unit_test(test_r2_each_member_has_its_timer),
		cmocka_unit_test(test_r2_judges_by_the_rows_ttl),
		cmocka_unit_test(test_r2_a_released_row_is_free_at_once),
		cmocka_unit_test(test_r2_members_out_of_reach_are_no_majority),
		cmocka_unit_test(test_r3_runs_from_before_the_request),
		cmocka_unit_test(test_r3_a_minority_is_no_hold),
		cmocka_unit_test(test_r3_majoritys_latest_promise),
		cmocka_unit_test(test_r3_a_lost_member_promises_nothing),
		cmocka_unit_test(test_r3_expires),
		cmocka_unit_test(test_r3_late_answer_after_expiry),
		cmocka_unit_test(test_r4_minority_win_is_given_back),
		cmocka_unit_test(test_r4_a_race_has_an_end),
		cmocka_unit_test(test_r4_backs_off_and_takes_another_epoch),
		cmocka_unit_test(test_r4_back_off_differs_between_nodes),
		cmocka_unit_test(test_r4_not_able_any_more),
		cmocka_unit_test(test_r4_attempts_that_fail_become_rarer),
		cmocka_unit_test(test_r4_a_fault_that_passed),
		cmocka_unit_test(test_r4_a_refusal_is_not_the_end),
		cmocka_unit_test(test_r5_no_answer_extends_nothing),
		cmocka_unit_test(test_r5_a_look_extends_nothing),
		cmocka_unit_test(test_r5_acquire_with_effect_without_answer),
		cmocka_unit_test(test_r5_acquire_without_effect_is_repeated),
		cmocka_unit_test(test_r5_holder_wins_the_last_member_too),
		cmocka_unit_test(test_r5_a_refused_renewal_asks_what_is_there),
		cmocka_unit_test(test_r6_an_epoch_that_fell),
		cmocka_unit_test(test_r6_a_version_that_fell),
		cmocka_unit_test(test_r6_a_member_that_moved_and_fell),
		cmocka_unit_test(test_r6_a_stranger_does_not_count),
		cmocka_unit_test(test_r7_proven_previous_run),
		cmocka_unit_test(test_r7_without_the_proof_it_waits),
		cmocka_unit_test(test_r7_previous_run_of_another_name),
		cmocka_unit_test(test_r8_twin_incarnation),
		cmocka_unit_test(test_r9_unlimited_once_a_majority_is_frozen),
		cmocka_unit_test(test_r9_resume_is_a_promise_of_less),
		cmocka_unit_test(test_r9_resume_at_a_minority),
		cmocka_unit_test(test_r9_nobody_takes_a_frozen_lease),
		cmocka_unit_test(test_r9_reclaim_keeps_the_pause),
		cmocka_unit_test(test_r9_a_race_does_not_freeze),
		cmocka_unit_test(test_r9_frozen_leftover),
		cmocka_unit_test(test_r9_frozen_leftover_taken_back),
		cmocka_unit_test(test_r10_the_deadline_is_carried_over),
		cmocka_unit_test(test_r10_the_carry_ends),
		cmocka_unit_test(test_r10_the_carry_is_cut),
		cmocka_unit_test(test_r10_old_answers_are_discarded),
		cmocka_unit_test(test_r10_a_race_ends_with_the_list),
		cmocka_unit_test(test_r10_observation_starts_anew),
		cmocka_unit_test(test_r10_nothing_tried_is_inherited),
		cmocka_unit_test(test_r10_majority_of_the_agreed_list),
		cmocka_unit_test(test_r13_shorter_ttl),
		cmocka_unit_test(test_r13_longer_ttl),
		cmocka_unit_test(test_r13_senseless_ttl_is_not_followed),
		cmocka_unit_test(test_r13_closed_before_the_release),
		cmocka_unit_test(test_r14_every_message_raises_the_version),
		cmocka_unit_test(test_r14_a_move_restarts_the_observation),
		cmocka_unit_test(test_follower_looks_often),
		cmocka_unit_test(test_holder_renews_and_does_not_look),
		cmocka_unit_test(test_wakes_when_a_row_becomes_free),
		cmocka_unit_test(test_fault_is_followed_by_a_pause),
		cmocka_unit_test(test_never_a_busy_loop),
		cmocka_unit_test(test_not_able),
		cmocka_unit_test(test_store_refuses_writes),
		cmocka_unit_test(test_refusing_store_is_held),
		cmocka_unit_test(test_not_eager),
		cmocka_unit_test(test_stagger_lets_others_go_first),
		cmocka_unit_test(test_stagger_starts_anew),
		cmocka_unit_test(test_abstains),
		cmocka_unit_test(test_margin_eats_the_ttl),
		cmocka_unit_test(test_latest_request_counts),
		cmocka_unit_test(test_withdrawn_anywhere_counts),
		cmocka_unit_test(test_drain_goes_on_renewing),
		cmocka_unit_test(test_drain_that_expires),
		cmocka_unit_test(test_hand_over),
		cmocka_unit_test(test_hand_over_that_was_taken),
		cmocka_unit_test(test_reservation_of_somebody_else),
		cmocka_unit_test(test_reserved_for_another),
		cmocka_unit_test(test_reserved_for_this_node),
		cmocka_unit_test(test_release_that_nobody_answers),
		cmocka_unit_test(test_release_waits_for_nobody_out_of_reach),
		cmocka_unit_test(test_close_at_once),
		cmocka_unit_test(test_resume_holder),
		cmocka_unit_test(test_resume_above_what_is_in_flight),
		cmocka_unit_test(test_resume_too_late),
		cmocka_unit_test(test_resume_closed_epoch),
		cmocka_unit_test(test_resume_in_a_race),
		cmocka_unit_test(test_resume_draining),
		cmocka_unit_test(test_resume_paused),
	};

	return cmocka_run_group_tests_name("lease", tests, NULL, NULL);
}
