/*
 * lease_rules.c
 *		The rules of the lease protocol: durations, what a member's row means
 *		to this node, and the deadline.
 *
 * Nothing in this file changes any state; lease.c applies the rules.  Must
 * never do I/O, read a clock, or depend on the server.
 */
#include "lease_rules.h"

#include "syncset.h"

#include <string.h>

/* ------------------------------------------------------------------------
 * Durations
 * ------------------------------------------------------------------------
 */

/* The part of the ttl that the holder leaves unused. */
ClockTime
lease_margin(const LeaseState *lease, int32_t ttl_ms)
{
	if (lease->margin_setting_ms > 0)
		return clock_ms(lease->margin_setting_ms);
	return clock_max(clock_ms(ttl_ms) / 20, clock_ms(20));
}

/*
 * R2: how long a member's row has to stand unchanged before another node may
 * take it.  Clocks run at most LEASE_RATE_PPM fast or slow, so a candidate
 * counts that much longer than the holder can.
 */
ClockTime
lease_observation(const LeaseState *lease, int32_t ttl_ms)
{
	ClockTime	ttl = clock_ms(ttl_ms);

	return ttl + 2 * (ttl / (1000000 - LEASE_RATE_PPM)) * LEASE_RATE_PPM +
		2 * LEASE_RATE_PPM + lease_margin(lease, ttl_ms);
}

ClockTime
lease_renew_interval(const LeaseState *lease)
{
	if (lease->renew_setting_ms > 0)
		return clock_min(clock_ms(lease->renew_setting_ms), clock_ms(lease->ttl_ms) / 2);
	return clock_ms(lease->ttl_ms) / 5;
}

ClockTime
lease_look_interval(const LeaseState *lease)
{
	if (lease->look_setting_ms > 0)
		return clock_ms(lease->look_setting_ms);
	return clock_min(clock_max(clock_ms(lease->ttl_ms) / 20, clock_ms(20)), clock_ms(500));
}

/* An acquire that has no majority by then is abandoned (R4). */
ClockTime
rule_acquire_timeout(const LeaseState *lease)
{
	return clock_ms(lease->ttl_ms) / 3;
}

/* Does the margin leave enough of the ttl to be worth holding? */
bool
rule_margin_fits(const LeaseState *lease)
{
	return lease_margin(lease, lease->ttl_ms) <= clock_ms(lease->ttl_ms) / 2;
}

/*
 * Until when does a message sent at this moment keep others from the lease?
 * The margin is taken off here, so that a deadline made of promises under
 * several ttls is right without further ado.
 */
ClockTime
rule_promise(const LeaseState *lease, ClockTime sent_at, int32_t ttl_ms, bool frozen)
{
	if (frozen)
		return CLOCK_NEVER;
	return sent_at + clock_ms(ttl_ms) - lease_margin(lease, ttl_ms);
}

/* ------------------------------------------------------------------------
 * Questions about members
 * ------------------------------------------------------------------------
 */

int
lease_majority(const LeaseState *lease)
{
	return lease->list_size / 2 + 1;
}

/* Does what this member says count? */
bool
rule_counts(const LeaseMember *member)
{
	return member->counted && !member->forgot;
}

int
lease_members_seen(const LeaseState *lease)
{
	int			n = 0;

	for (int i = 0; i < lease->nmembers; i++)
		if (rule_counts(&lease->member[i]) && lease->member[i].seen)
			n++;
	return n;
}

bool
rule_majority_seen(const LeaseState *lease)
{
	return lease->list_size > 0 &&
		lease_members_seen(lease) >= lease_majority(lease);
}

/* Is the row this run's, under whatever epoch? */
static bool
row_is_mine(const LeaseState *lease, const LeaseRow *row)
{
	return row->present && row->incarnation == lease->incarnation &&
		strcmp(row->holder, lease->node) == 0;
}

/* Is the row held under the epoch that this node holds or tries to get? */
bool
rule_row_is_current(const LeaseState *lease, const LeaseRow *row)
{
	return row_is_mine(lease, row) && row->epoch == lease->epoch &&
		row->epoch > lease->closed_epoch;
}

/* Is it left over from an epoch that this run has given up? */
bool
rule_row_is_leftover(const LeaseState *lease, const LeaseRow *row)
{
	return row_is_mine(lease, row) && row->epoch <= lease->closed_epoch;
}

/* R7: does it belong to this directory's last run, which is proven over? */
bool
rule_row_is_previous(const LeaseState *lease, const LeaseRow *row)
{
	return lease->previous != 0 && row->incarnation == lease->previous &&
		strcmp(row->holder, lease->node) == 0;
}

/* Its run is over, or it was ours: nobody else can be writing under it. */
bool
rule_row_is_reclaimable(const LeaseState *lease, const LeaseRow *row)
{
	return rule_row_is_previous(lease, row) || rule_row_is_leftover(lease, row);
}

/*
 * R9: what a renewal of this row promises.  Only a holder freezes or thaws: a
 * minority win that was frozen could not be given back.
 */
bool
rule_promised_frozen(const LeaseState *lease, const LeaseRow *row)
{
	return lease->phase == LEASE_ACQUIRING ? row->frozen : lease->frozen;
}

/* R12: does the row say where this node writes, or is about to? */
static bool
has_told(const LeaseState *lease, const LeaseRow *row)
{
	return row->wrote.timeline == lease->timeline &&
		row->wrote.begin == lease->timeline_begin &&
		row->wrote.epoch == lease->epoch &&
		strcmp(row->wrote.sync_set, lease->sync_set) == 0;
}

/* Is the row's promise another than the one that renewals make now? */
bool
rule_promise_changed(const LeaseState *lease, const LeaseRow *row)
{
	return row->ttl_ms != lease->ttl_ms ||
		row->frozen != rule_promised_frozen(lease, row) ||
		(row->pinned && lease->writable && !lease->set_unknown &&
		 !has_told(lease, row));
}

/*
 * Is the row to be given back?  A frozen one only when a majority has been
 * asked whether the pause goes on, and it does not.
 */
bool
rule_to_release(const LeaseState *lease, const LeaseRow *row)
{
	return rule_row_is_leftover(lease, row) &&
		(!row->frozen || (!lease->frozen && rule_majority_seen(lease)));
}

/*
 * takeable_at
 *		The moment from which an acquire may be sent to this member (R2); 0 for
 *		at once, CLOCK_NEVER if its row has to change first.
 */
ClockTime
rule_takeable_at(const LeaseState *lease, const LeaseMember *member)
{
	const LeaseRow *row = &member->row;
	ClockTime	free_at;

	if (!rule_counts(member) || !member->seen || !row->present)
		return CLOCK_NEVER;
	if (rule_row_is_reclaimable(lease, row))
		return 0;
	if (row->frozen)
		return CLOCK_NEVER;
	if (row->holder[0] == '\0' &&
		(row->reserved_for[0] == '\0' ||
		 strcmp(row->reserved_for, lease->node) == 0))
		return 0;
	free_at = member->unchanged_since + lease_observation(lease, row->ttl_ms);
	/*
	 * Who reserved it may change its mind: a release leaves the incarnation in
	 * the row.  Other reservations may hide a holder (a change of the list).
	 */
	if (row->holder[0] == '\0' && row->incarnation == lease->incarnation &&
		lease->retake_at != 0)
		free_at = clock_min(free_at, lease->retake_at);
	return free_at;
}

bool
rule_takeable(const LeaseState *lease, const LeaseMember *member, ClockTime now)
{
	return rule_takeable_at(lease, member) <= now;
}

/*
 * How many members could be won now, as far as is known?  An attempt without a
 * majority of them would win nothing, and costs an epoch and its way to the disk.
 */
int
rule_count_winnable(const LeaseState *lease, ClockTime now)
{
	int			n = 0;

	for (int i = 0; i < lease->nmembers; i++)
		if (lease->member[i].reachable && !lease->member[i].refuses &&
			rule_takeable(lease, &lease->member[i], now))
			n++;
	return n;
}

/* Is a majority to be had, but for members that refuse to be written? */
bool
rule_is_unwritable(const LeaseState *lease, ClockTime now)
{
	int			takeable = 0;
	int			refusing = 0;

	for (int i = 0; i < lease->nmembers; i++)
		if (rule_takeable(lease, &lease->member[i], now))
		{
			takeable++;
			refusing += lease->member[i].refuses;
		}
	return takeable >= lease_majority(lease) &&
		takeable - refusing < lease_majority(lease);
}

/* Has a hand-over, or our own previous run, left the lease to this node? */
bool
rule_meant_for_me(const LeaseState *lease)
{
	for (int i = 0; i < lease->nmembers; i++)
	{
		const LeaseMember *member = &lease->member[i];

		if (rule_counts(member) && member->seen && member->row.present &&
			(rule_row_is_previous(lease, &member->row) ||
			 (member->row.holder[0] == '\0' &&
			  strcmp(member->row.reserved_for, lease->node) == 0)))
			return true;
	}
	return false;
}

/*
 * Does a majority say that the lease is not this node's?  Then a deadline that
 * was carried over from another list must not be relied on any longer.
 */
bool
rule_is_disowned(const LeaseState *lease)
{
	int			n = 0;

	for (int i = 0; i < lease->nmembers; i++)
	{
		const LeaseMember *member = &lease->member[i];

		n += rule_counts(member) && member->seen &&
			!rule_row_is_current(lease, &member->row);
	}
	return lease->list_size > 0 && n >= lease_majority(lease);
}

const LeaseRow *
lease_best_row(const LeaseState *lease)
{
	const LeaseRow *best = NULL;

	for (int i = 0; i < lease->nmembers; i++)
	{
		const LeaseMember *member = &lease->member[i];

		if (!rule_counts(member) || !member->seen || !member->row.present)
			continue;
		if (best == NULL || member->row.epoch > best->epoch ||
			(member->row.epoch == best->epoch &&
			 member->row.version > best->version))
			best = &member->row;
	}
	return best;
}

/*
 * How many members may have been told that this epoch, or a later one, is used?
 * Surely not only those that could be won now, or have been won, and do not say
 * so: if that is a majority, whoever held it until now does not any more.
 */
static int
count_may_know(const LeaseState *lease, int64_t epoch, ClockTime now)
{
	int			n = lease->list_size;

	for (int i = 0; i < lease->nmembers; i++)
	{
		const LeaseMember *member = &lease->member[i];

		n -= member->reachable && member->row.wrote.epoch < epoch &&
			(rule_takeable(lease, member, now) ||
			 (lease->phase == LEASE_ACQUIRING &&
			  rule_row_is_current(lease, &member->row)));
	}
	return n;
}

LeaseWrote
lease_wrote(const LeaseState *lease, ClockTime now)
{
	LeaseWrote	last = {0};

	for (int i = 0; i < lease->nmembers; i++)
	{
		const LeaseMember *member = &lease->member[i];
		const LeaseWrote *wrote = &member->row.wrote;
		uint64_t	lsn;

		if (!rule_counts(member) || !member->seen || !member->row.present ||
			count_may_know(lease, wrote->epoch, now) < lease_majority(lease))
			continue;
		lsn = wrote->epoch == last.epoch && last.lsn > wrote->lsn ?
			last.lsn : wrote->lsn;
		if (wrote->epoch < last.epoch)
			continue;
		if (wrote->epoch > last.epoch ||
			syncset_serial(wrote->sync_set) >= syncset_serial(last.sync_set))
			last = *wrote;
		last.lsn = lsn;
	}
	return last;
}

const LeaseRow *
lease_request(const LeaseState *lease)
{
	const LeaseRow *best = NULL;

	for (int i = 0; i < lease->nmembers; i++)
	{
		const LeaseMember *member = &lease->member[i];

		if (!rule_counts(member) || !member->seen || !member->row.present)
			continue;
		/* one that is done, refused or withdrawn at one member is over at all */
		if (best == NULL || member->row.request_seq > best->request_seq ||
			(member->row.request_seq == best->request_seq &&
			 member->row.handover_to[0] == '\0'))
			best = &member->row;
	}
	return best;
}

/* ------------------------------------------------------------------------
 * The deadline (R3)
 * ------------------------------------------------------------------------
 */

/*
 * earned_until
 *		With m the majority, the m-th latest of the members' promises: until
 *		then every majority contains a member that refuses other candidates.
 */
ClockTime
rule_earned_until(const LeaseState *lease)
{
	ClockTime	latest[LEASE_MEMBERS_MAX];
	int			n = 0;
	int			m = lease_majority(lease);

	if (lease->list_size == 0)
		return 0;
	for (int i = 0; i < lease->nmembers; i++)
	{
		ClockTime	c = lease->member[i].contribution;
		int			at;

		if (c == 0)
			continue;
		for (at = n++; at > 0 && latest[at - 1] < c; at--)
			latest[at] = latest[at - 1];
		latest[at] = c;
	}
	return n >= m ? latest[m - 1] : 0;
}

/* Until when the lease is ours, whether or not the fence is open. */
ClockTime
rule_held_until(const LeaseState *lease)
{
	return clock_max(rule_earned_until(lease), lease->carry);
}

/* R12 */
bool
rule_timeline_told(const LeaseState *lease)
{
	int			n = 0;

	for (int i = 0; i < lease->nmembers; i++)
	{
		const LeaseMember *member = &lease->member[i];

		n += rule_counts(member) && member->seen &&
			rule_row_is_current(lease, &member->row) &&
			has_told(lease, &member->row);
	}
	return lease->writable && lease->list_size > 0 &&
		n >= lease_majority(lease);
}

bool
rule_may_write(const LeaseState *lease)
{
	return !lease->pinned ||
		(lease->writable && lease->told_epoch == lease->epoch);
}

ClockTime
lease_deadline(const LeaseState *lease)
{
	return lease->phase == LEASE_HOLDER && rule_may_write(lease) ?
		rule_held_until(lease) : 0;
}
