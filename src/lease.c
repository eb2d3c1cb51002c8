/*
 * lease.c
 *		The lease protocol of one node and one lease, as a pure state machine.
 *
 * See lease.h for how it is driven and docs/protocol.md for why it is safe.
 * Must never do I/O, read a clock, or depend on the server.
 */
#include "lease_rules.h"

#include <stdio.h>
#include <string.h>

/* Nobody must ever count the current epoch again. */
static void
close_epoch(LeaseState *lease)
{
	if (lease->epoch > lease->closed_epoch)
		lease->closed_epoch = lease->epoch;
	lease->carry = 0;
	for (int i = 0; i < lease->nmembers; i++)
		lease->member[i].contribution = 0;
}

static void
enter(LeaseState *lease, LeasePhase phase, ClockTime now)
{
	lease->phase = phase;
	lease->phase_since = now;
}

static void
note_epoch(LeaseState *lease, int64_t epoch)
{
	if (epoch > lease->highest_epoch)
		lease->highest_epoch = epoch;
}

/* xorshift64*: back-off needs to differ between nodes, nothing more. */
static uint64_t
next_random(LeaseState *lease)
{
	uint64_t	x = lease->random;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	lease->random = x;
	return x * UINT64_C(2685821657736338717);
}

/* ------------------------------------------------------------------------
 * Setting up
 * ------------------------------------------------------------------------
 */

static void
copy_name(char *to, const char *from)
{
	snprintf(to, LEASE_NAME_LEN, "%s", from);
}

void
lease_init(LeaseState *lease, const char *node, uint64_t incarnation,
		   uint64_t previous, uint64_t seed)
{
	memset(lease, 0, sizeof(*lease));
	copy_name(lease->node, node);
	lease->incarnation = incarnation;
	lease->previous = previous;
	lease->phase = LEASE_FOLLOWER;
	lease->reason = LEASE_REASON_STARTING;
	lease->ttl_ms = 10000;		/* until a row says otherwise */
	lease->random = seed | 1;
}

void
lease_set_members(LeaseState *lease, int nmembers, int list_size)
{
	if (lease->phase == LEASE_HOLDER || lease->phase == LEASE_DRAINING)
		lease->carry = rule_held_until(lease);
	for (int i = 0; i < LEASE_MEMBERS_MAX; i++)
	{
		LeaseMember *member = &lease->member[i];
		LeaseMember old = *member;

		/* the place may be another member's now: nothing seen or sent counts */
		memset(member, 0, sizeof(*member));
		if (i >= nmembers)
			continue;
		member->reachable = old.reachable;
		member->counted = old.counted;
		member->in_flight = old.in_flight;
		member->occupied = old.occupied;
		member->sent = old.sent;
		lease_restart_observation(lease, i);
	}
	lease->nmembers = nmembers;
	lease->list_size = list_size;
	lease->free_since = 0;
	/* a race for the lease cannot straddle two lists */
	if (lease->phase == LEASE_ACQUIRING)
	{
		close_epoch(lease);
		lease->phase = LEASE_FOLLOWER;
	}
}

void
lease_restart_observation(LeaseState *lease, int i)
{
	LeaseMember *member = &lease->member[i];

	member->seen = false;
	member->discard = member->in_flight;
	member->unchanged_since = 0;
	member->looked_at = 0;
	member->look_now = true;
}

void
lease_set_reachable(LeaseState *lease, int i, bool reachable, bool counted)
{
	LeaseMember *member = &lease->member[i];

	member->reachable = reachable;
	member->counted = counted;
}

void
lease_forgotten(LeaseState *lease, int i)
{
	lease->member[i].forgot = true;
	lease->member[i].contribution = 0;
}

void
lease_resume_epoch(LeaseState *lease, int64_t epoch, int64_t closed_epoch,
				   int64_t highest_epoch, int64_t version, ClockTime deadline)
{
	lease->epoch = epoch;
	lease->closed_epoch = closed_epoch;
	note_epoch(lease, highest_epoch);
	note_epoch(lease, epoch);
	if (version > lease->version)
		lease->version = version;
	if (epoch > closed_epoch && deadline != 0)
	{
		lease->phase = LEASE_HOLDER;
		lease->reason = LEASE_REASON_NONE;
		lease->carry = deadline;
		lease->told_epoch = epoch;	/* or there would be no deadline */
	}
	else
	{
		/* a race that the predecessor may have been in is over */
		lease->epoch = lease->highest_epoch;
		close_epoch(lease);
	}
}

/* ------------------------------------------------------------------------
 * What arrives
 * ------------------------------------------------------------------------
 */

/*
 * R6: an epoch never falls, nor a version within an epoch, nor does a row go;
 * not even when the member has moved and its row is watched anew.
 */
static bool
has_forgotten(const LeaseMember *member, const LeaseRow *row)
{
	return row->epoch < member->row.epoch ||
		(row->epoch == member->row.epoch &&
		 row->version < member->row.version);
}

static void
take_row(LeaseState *lease, LeaseMember *member, const LeaseRow *row,
		 ClockTime now)
{
	if (!member->seen || row->epoch != member->row.epoch ||
		row->version != member->row.version)
		member->unchanged_since = now;
	member->row = *row;
	member->seen = true;
	member->seen_at = now;
	if (row->present)
		lease->pinned = row->pinned;
	note_epoch(lease, row->epoch);
	/* a member of another list may be in the middle of a change (R10) */
	if (rule_counts(member) && row->version > lease->version)
		lease->version = row->version;
	/* whatever we hold there, we do not hold it any more */
	if (!rule_row_is_current(lease, row))
		member->contribution = 0;
}

bool
lease_saw(LeaseState *lease, int i, const LeaseRow *row, ClockTime now)
{
	LeaseMember *member = &lease->member[i];

	member->in_flight = false;
	if (member->discard)
	{
		member->discard = false;
		return true;
	}
	member->look_now = false;
	/* what another store says at this address is not this member's word */
	if (member->forgot || !member->counted)
		return true;
	if (has_forgotten(member, row))
	{
		lease_forgotten(lease, i);
		return false;
	}
	take_row(lease, member, row, now);
	/*
	 * An acquire that has not taken effect may be repeated under the same
	 * epoch: the guards let only one of them do so.
	 */
	if (!rule_row_is_current(lease, row))
		member->tried_epoch = 0;
	return true;
}

/* After a fault or a refusal, a member is left alone for a moment. */
static ClockTime
retry_pause(const LeaseState *lease)
{
	return clock_min(lease_look_interval(lease), clock_ms(50));
}

void
lease_replied(LeaseState *lease, int i, const LeaseRow *row, ClockTime now)
{
	LeaseMember *member = &lease->member[i];
	LeaseRequest *sent = &member->sent;

	if (member->discard)
	{
		lease_failed(lease, i, now);
		return;
	}
	member->in_flight = false;
	member->failed_epoch = 0;
	if (row == NULL)
	{
		/* no effect: our picture of the row, or of the list, is out of date */
		member->look_now = true;
		member->retry_at = now + retry_pause(lease);
		if (sent->op == LEASE_OP_ACQUIRE)
			member->refused_epoch = sent->epoch;
		return;
	}
	if (sent->op == LEASE_OP_ACQUIRE)
		member->refused_epoch = 0;
	take_row(lease, member, row, now);
	if (sent->op != LEASE_OP_RELEASE && rule_row_is_current(lease, row))
		member->contribution = rule_promise(lease, sent->sent_at, sent->ttl_ms,
									   sent->op == LEASE_OP_RENEW && sent->frozen);
}

void
lease_failed(LeaseState *lease, int i, ClockTime now)
{
	LeaseMember *member = &lease->member[i];

	member->in_flight = false;
	member->discard = false;
	member->retry_at = now + retry_pause(lease);
	if (member->sent.op == LEASE_OP_ACQUIRE)
		member->failed_epoch = member->sent.epoch;
	if (member->sent.op == LEASE_OP_RENEW)
		member->renewed_at = 0; /* the next answer tells as much as a look */
	else
		member->look_now = true;
}

/* ------------------------------------------------------------------------
 * Time passes
 * ------------------------------------------------------------------------
 */

/* What people asked for binds a holder from its next renewal. */
static void
follow_requests(LeaseState *lease)
{
	const LeaseRow *request = lease_request(lease);

	if (request == NULL)
		return;
	if (request->ttl_wanted_ms >= LEASE_TTL_MIN_MS &&
		request->ttl_wanted_ms <= LEASE_TTL_MAX_MS)
		lease->ttl_ms = request->ttl_wanted_ms;
	lease->frozen = request->pause_wanted;
}

static void
abandon(LeaseState *lease, LeaseReason reason, ClockTime now)
{
	close_epoch(lease);
	lease->reserve_for[0] = '\0';
	lease->reason = reason;
	enter(lease, LEASE_FOLLOWER, now);
}

/* R12: from now on this epoch may be used. */
static void
note_told(LeaseState *lease)
{
	if (lease->pinned && rule_timeline_told(lease))
		lease->told_epoch = lease->epoch;
}

static void
tick_holder(LeaseState *lease, ClockTime now)
{
	const LeaseRow *best = lease_best_row(lease);

	/* a keeper started anew goes on with what its predecessor promised */
	if (best != NULL && rule_row_is_current(lease, best))
		lease->ttl_ms = best->ttl_ms;
	follow_requests(lease);
	if (now >= rule_held_until(lease))
		abandon(lease, LEASE_REASON_EXPIRED, now);
	else if (rule_earned_until(lease) == 0 && rule_is_disowned(lease))
		abandon(lease, LEASE_REASON_HELD, now);
	else if (lease->carry != 0 && rule_earned_until(lease) >= lease->carry)
		lease->carry = 0;
	if (lease->phase == LEASE_HOLDER)
		note_told(lease);
}

/*
 * R4: chance decides the next round.  Where it is not a rival but errors that
 * keep every member from being won, rounds become rarer, up to one in a ttl.
 */
static void
back_off(LeaseState *lease, bool by_errors, ClockTime now)
{
	ClockTime	shortest = 4 * lease_look_interval(lease);
	ClockTime	longest = clock_max(shortest, clock_ms(lease->ttl_ms));
	ClockTime	span = by_errors ?
		clock_min(clock_max(2 * lease->setback, shortest), longest) : shortest;

	lease->setback = by_errors ? span : 0;
	lease->not_before = now + (span - shortest) / 2 +
		(ClockTime) (next_random(lease) % (uint64_t) span);
}

static void
tick_acquiring(LeaseState *lease, ClockTime now)
{
	int			spare = lease->list_size - lease_majority(lease);
	int			refused = 0;
	int			failed = 0;
	int			won = 0;

	/* another node may have written, and let go, since the race began */
	lease->found = lease_wrote(lease, now);
	if (now < rule_earned_until(lease))
	{
		lease->reason = LEASE_REASON_NONE;
		lease->retake_at = 0;
		lease->setback = 0;
		enter(lease, LEASE_HOLDER, now);
		note_told(lease);
		return;
	}
	for (int i = 0; i < lease->nmembers; i++)
	{
		refused += lease->member[i].refused_epoch == lease->epoch;
		failed += lease->member[i].failed_epoch == lease->epoch;
		won += lease->member[i].contribution != 0;
	}
	if (!lease->able || refused > spare ||
		now >= lease->phase_since + rule_acquire_timeout(lease))
	{
		/* what was won is given back (R4) */
		back_off(lease, failed > spare && won == 0, now);
		lease->free_since = 0;
		abandon(lease, LEASE_REASON_BACKING_OFF, now);
	}
}

static void
tick_releasing(LeaseState *lease, ClockTime now)
{
	int			left = 0;

	for (int i = 0; i < lease->nmembers; i++)
	{
		const LeaseMember *member = &lease->member[i];

		if (rule_counts(member) && member->reachable &&
			(member->in_flight || rule_row_is_leftover(lease, &member->row)))
			left++;
	}
	if (left == 0 || now >= lease->phase_since + rule_acquire_timeout(lease))
	{
		lease->reserve_for[0] = '\0';
		enter(lease, LEASE_FOLLOWER, now);
	}
}

/* Why a follower does not begin to acquire; NONE if it may. */
static LeaseReason
why_not_acquire(LeaseState *lease, ClockTime now)
{
	const LeaseRow *best = lease_best_row(lease);
	bool		mine;

	if (lease->list_size == 0 || !rule_majority_seen(lease))
		return lease->reason == LEASE_REASON_EXPIRED ?
			LEASE_REASON_EXPIRED : LEASE_REASON_NO_MAJORITY;
	if (best == NULL)
		return LEASE_REASON_UNKNOWN_LEASE;
	if (rule_count_winnable(lease, now) < lease_majority(lease))
	{
		lease->free_since = 0;
		if (rule_is_unwritable(lease, now))
			return LEASE_REASON_UNWRITABLE;
		if (best->frozen)
			return LEASE_REASON_FROZEN;
		if (best->holder[0] == '\0' && best->reserved_for[0] != '\0')
			return LEASE_REASON_RESERVED;
		if (strcmp(best->holder, lease->node) == 0)
			return LEASE_REASON_WAITING;
		return LEASE_REASON_HELD;
	}
	if (lease->free_since == 0)
		lease->free_since = now;
	mine = rule_meant_for_me(lease);
	if (!lease->able)
		return LEASE_REASON_NOT_ABLE;
	if (!lease->eager && !mine)
		return LEASE_REASON_NOT_EAGER;
	if (!rule_margin_fits(lease))
		return LEASE_REASON_MARGIN;
	if (now < lease->not_before ||
		(!mine && (now < lease->abstain_until ||
				   now < lease->free_since + lease->stagger)))
		return LEASE_REASON_BACKING_OFF;
	if (lease->durable_epoch <= lease->highest_epoch)
		return LEASE_REASON_DISK;
	return LEASE_REASON_NONE;
}

static void
tick_follower(LeaseState *lease, ClockTime now)
{
	const LeaseRow *best = lease_best_row(lease);
	LeaseReason reason;

	if (best != NULL)
	{
		lease->ttl_ms = best->ttl_ms;
		if (best->holder[0] != '\0' && strcmp(best->holder, lease->node) != 0)
			lease->retake_at = 0;
	}
	follow_requests(lease);
	reason = why_not_acquire(lease, now);
	lease->reason = reason;
	if (reason != LEASE_REASON_NONE)
		return;
	lease->epoch = ++lease->highest_epoch;
	lease->found = lease_wrote(lease, now);
	lease->carry = 0;
	lease->free_since = 0;
	enter(lease, LEASE_ACQUIRING, now);
}

void
lease_tick(LeaseState *lease, ClockTime now)
{
	switch (lease->phase)
	{
		case LEASE_HOLDER:
		case LEASE_DRAINING:
			tick_holder(lease, now);
			break;
		case LEASE_ACQUIRING:
			tick_acquiring(lease, now);
			break;
		case LEASE_RELEASING:
			tick_releasing(lease, now);
			break;
		case LEASE_FOLLOWER:
			tick_follower(lease, now);
			break;
	}
}

/* ------------------------------------------------------------------------
 * Giving it up
 * ------------------------------------------------------------------------
 */

bool
lease_begin_drain(LeaseState *lease, const char *reserve_for, ClockTime now)
{
	if (lease->phase != LEASE_HOLDER)
		return false;
	copy_name(lease->reserve_for, reserve_for);
	enter(lease, LEASE_DRAINING, now);
	return true;
}

bool
lease_undo_drain(LeaseState *lease, ClockTime now)
{
	if (lease->phase != LEASE_DRAINING)
		return false;
	lease->reserve_for[0] = '\0';
	enter(lease, LEASE_HOLDER, now);
	return true;
}

void
lease_drained(LeaseState *lease, ClockTime now)
{
	if (lease->phase != LEASE_DRAINING)
		return;
	close_epoch(lease);
	if (lease->reserve_for[0] != '\0')
		lease->retake_at = now + rule_acquire_timeout(lease);
	lease->reason = LEASE_REASON_NONE;
	enter(lease, LEASE_RELEASING, now);
}

void
lease_close(LeaseState *lease, ClockTime now)
{
	if (lease->phase == LEASE_FOLLOWER)
		return;
	abandon(lease, LEASE_REASON_NOT_ABLE, now);
}
