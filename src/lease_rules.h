/*
 * lease_rules.h
 *		The rules of the lease protocol, for lease.c alone; see lease_rules.c.
 *
 * Layer 0: no server headers.
 */
#ifndef LEASEHOLD_LEASE_RULES_H
#define LEASEHOLD_LEASE_RULES_H

#include "lease.h"

/* An acquire that has no majority after this time is abandoned (R4). */
extern ClockTime rule_acquire_timeout(const LeaseState *lease);

/* Does the margin leave enough of the ttl to be worth holding? */
extern bool rule_margin_fits(const LeaseState *lease);

/* Until when does a message sent at that moment keep others from the lease? */
extern ClockTime rule_promise(const LeaseState *lease, ClockTime sent_at,
							  int32_t ttl_ms, bool frozen);

/* Does what this member says count (R6, R10)? */
extern bool rule_counts(const LeaseMember *member);
extern bool rule_majority_seen(const LeaseState *lease);

/* Whose is a row: ours now, ours once, our last run's, free to reclaim? */
extern bool rule_row_is_current(const LeaseState *lease, const LeaseRow *row);
extern bool rule_row_is_leftover(const LeaseState *lease, const LeaseRow *row);
extern bool rule_row_is_previous(const LeaseState *lease, const LeaseRow *row);
extern bool rule_row_is_reclaimable(const LeaseState *lease, const LeaseRow *row);

/* What a renewal of it promises; is that news; is it to be given back (R9)? */
extern bool rule_promised_frozen(const LeaseState *lease, const LeaseRow *row);
extern bool rule_promise_changed(const LeaseState *lease, const LeaseRow *row);
extern bool rule_to_release(const LeaseState *lease, const LeaseRow *row);

/* From when on may an acquire be sent to a member (R2)? */
extern ClockTime rule_takeable_at(const LeaseState *lease,
								  const LeaseMember *member);
extern bool rule_takeable(const LeaseState *lease, const LeaseMember *member,
						  ClockTime now);
extern int	rule_count_winnable(const LeaseState *lease, ClockTime now);
extern bool rule_is_unwritable(const LeaseState *lease, ClockTime now);
extern bool rule_is_disowned(const LeaseState *lease);
extern bool rule_meant_for_me(const LeaseState *lease);

/* The deadline (R3): by the members' promises; and with the carry. */
extern ClockTime rule_earned_until(const LeaseState *lease);
extern ClockTime rule_held_until(const LeaseState *lease);

/* R12: may what is held be used? Does a majority know our timeline? */
extern bool rule_may_write(const LeaseState *lease);
extern bool rule_timeline_told(const LeaseState *lease);

#endif							/* LEASEHOLD_LEASE_RULES_H */
