/*
 * lease_send.c
 *		What a node says to the members next, and when.
 *
 * See lease.h.  Must never do I/O, read a clock, or depend on the server.
 */
#include "lease_rules.h"

#include <string.h>

/* ------------------------------------------------------------------------
 * What to send
 * ------------------------------------------------------------------------
 */

/*
 * R12: nothing was written under an epoch that was given up before it could be
 * used, whatever this instance has become meanwhile: the row says again what it
 * said before, so that the others may take it.
 */
static void
fill_timeline_given_up(const LeaseState *lease, const LeaseRow *row,
					   LeaseRequest *request)
{
	if (lease->told_epoch == row->epoch)
		return;
	request->wrote = row->epoch == lease->epoch && lease->found.timeline != 0 ?
		lease->found : row->wrote;
}

/* Every message of a holder carries a version above all before it (R14). */
static void
fill_request(LeaseState *lease, const LeaseMember *member, LeaseOp op,
			 LeaseRequest *request)
{
	memset(request, 0, sizeof(*request));
	request->op = op;
	request->epoch = lease->epoch;
	request->ttl_ms = lease->ttl_ms;
	request->frozen = rule_promised_frozen(lease, &member->row);
	/* R12: who has not written yet says what the row says */
	request->wrote = member->row.wrote;
	if (lease->writable && !lease->set_unknown)
	{
		request->wrote.timeline = lease->timeline;
		request->wrote.begin = lease->timeline_begin;
		request->wrote.epoch = lease->epoch;
		request->wrote.lsn = lease->lsn;
		memcpy(request->wrote.sync_set, lease->sync_set, LEASE_SYNC_LEN);
	}
	if (op != LEASE_OP_LOOK)
		request->version = ++lease->version;
	if (op == LEASE_OP_ACQUIRE)
	{
		request->guard_epoch = member->row.epoch;
		request->guard_version = member->row.version;
		request->reclaim = rule_row_is_reclaimable(lease, &member->row);
		request->frozen = member->row.frozen && request->reclaim;
		memcpy(request->from, member->row.holder, LEASE_NAME_LEN);
	}
	else if (op == LEASE_OP_RELEASE)
	{
		request->epoch = member->row.epoch;
		request->frozen = member->row.frozen;
		fill_timeline_given_up(lease, &member->row, request);
		memcpy(request->reserved_for, lease->reserve_for, LEASE_NAME_LEN);
	}
}

/* Whoever waits for the lease looks often; its holder need not. */
static ClockTime
look_pace(const LeaseState *lease)
{
	return lease->phase == LEASE_FOLLOWER || lease->phase == LEASE_ACQUIRING ?
		lease_look_interval(lease) : lease_renew_interval(lease);
}

static LeaseOp
choose_op(const LeaseState *lease, const LeaseMember *member, ClockTime now)
{
	bool		has_epoch = lease->phase == LEASE_HOLDER ||
		lease->phase == LEASE_DRAINING || lease->phase == LEASE_ACQUIRING;
	ClockTime	look_interval = look_pace(lease);

	if (now < member->retry_at)
		return LEASE_OP_NONE;
	if (member->seen && rule_counts(member) && !member->look_now)
	{
		const LeaseRow *row = &member->row;

		if (rule_to_release(lease, row))
			return LEASE_OP_RELEASE;
		if (has_epoch && rule_row_is_current(lease, row))
		{
			if (member->contribution == 0 ||
				rule_promise_changed(lease, row) ||
				now + lease->ahead >= member->renewed_at + lease_renew_interval(lease))
				return LEASE_OP_RENEW;
			return LEASE_OP_NONE;
		}
		if (has_epoch && member->tried_epoch != lease->epoch &&
			row->epoch < lease->epoch && rule_takeable(lease, member, now))
			return LEASE_OP_ACQUIRE;
	}
	if (member->look_now || now + lease->ahead >= member->looked_at + look_interval)
		return LEASE_OP_LOOK;
	return LEASE_OP_NONE;
}

LeaseOp
lease_wants(const LeaseState *lease, int i, ClockTime now)
{
	const LeaseMember *member = &lease->member[i];

	if (member->in_flight || member->occupied || !member->reachable)
		return LEASE_OP_NONE;
	return choose_op(lease, member, now);
}

ClockTime
lease_ahead(const LeaseState *lease, LeaseOp op)
{
	if (op == LEASE_OP_RENEW)
		return lease_renew_interval(lease) / 2;
	return op == LEASE_OP_LOOK ? lease_look_interval(lease) / 2 : 0;
}

bool
lease_next(LeaseState *lease, int i, ClockTime now, LeaseRequest *request)
{
	LeaseMember *member = &lease->member[i];
	LeaseOp		op = lease_wants(lease, i, now);

	if (op == LEASE_OP_NONE)
		return false;

	fill_request(lease, member, op, request);
	request->sent_at = now;
	if (op == LEASE_OP_LOOK)
		member->looked_at = now;
	else if (op == LEASE_OP_ACQUIRE)
	{
		member->tried_epoch = lease->epoch;
		member->renewed_at = now;
	}
	else if (op == LEASE_OP_RENEW)
	{
		/* R13: from here on we rely on no more than this message promises */
		ClockTime	until = rule_promise(lease, now, request->ttl_ms, request->frozen);

		member->renewed_at = now;
		member->contribution = clock_min(member->contribution, until);
		lease->carry = clock_min(lease->carry, until);
	}
	member->sent = *request;
	member->in_flight = true;
	return true;
}

/* ------------------------------------------------------------------------
 * When to look again
 * ------------------------------------------------------------------------
 */

static ClockTime
member_wakeup(const LeaseState *lease, const LeaseMember *member, ClockTime now)
{
	ClockTime	at;

	if (!member->reachable || member->in_flight || member->occupied)
		return CLOCK_NEVER;
	if (now < member->retry_at)
		return member->retry_at;
	if (choose_op(lease, member, now) != LEASE_OP_NONE)
		return now;
	if (lease->phase != LEASE_FOLLOWER && member->seen && rule_counts(member) &&
		rule_row_is_current(lease, &member->row))
		return member->renewed_at + lease_renew_interval(lease);
	at = member->looked_at + look_pace(lease);
	if (member->seen)
	{
		ClockTime	free_at = rule_takeable_at(lease, member);

		if (free_at > now)
			at = clock_min(at, free_at);
	}
	return at;
}

ClockTime
lease_wakeup(const LeaseState *lease, ClockTime now)
{
	ClockTime	at = CLOCK_NEVER;

	for (int i = 0; i < lease->nmembers; i++)
		at = clock_min(at, member_wakeup(lease, &lease->member[i], now));
	switch (lease->phase)
	{
		case LEASE_HOLDER:
		case LEASE_DRAINING:
			at = clock_min(at, rule_held_until(lease));
			break;
		case LEASE_ACQUIRING:
		case LEASE_RELEASING:
			at = clock_min(at, lease->phase_since + rule_acquire_timeout(lease));
			break;
		case LEASE_FOLLOWER:
			if (lease->not_before > now)
				at = clock_min(at, lease->not_before);
			if (lease->abstain_until > now)
				at = clock_min(at, lease->abstain_until);
			if (lease->free_since != 0 &&
				lease->free_since + lease->stagger > now)
				at = clock_min(at, lease->free_since + lease->stagger);
			break;
	}
	return at;
}

int64_t
lease_epoch_to_persist(const LeaseState *lease)
{
	if (lease->phase == LEASE_FOLLOWER && rule_majority_seen(lease))
		return lease->highest_epoch + 1;
	return lease->highest_epoch;
}
