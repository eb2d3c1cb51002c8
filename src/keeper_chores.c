/*
 * keeper_chores.c
 *		What the keeper says to a member of the store besides its leases: its
 *		heartbeat, answers, and what it reads for the views.
 *
 * All of it fills the gaps between what the protocol wants to say.
 */
#include "postgres.h"

#include "keeper_tables.h"

#define NODES_URGENT	(10 * CLOCK_MS)

static ClockTime
beat_interval(const Keeper *keeper)
{
	return lease_renew_interval(&keeper->lease);
}

/* One that was seen once only is not known to be. */
static bool
all_are_alive(const Keeper *keeper)
{
	for (int k = 0; k < keeper->nnodes; k++)
		if (!keeper->node[k].alive)
			return false;
	return true;
}

/*
 * How often to read what the nodes say of themselves.  When the lease is free,
 * or has just been taken, the others' last words are worth more.
 */
static ClockTime
nodes_interval(const Keeper *keeper)
{
	const LeaseState *lease = &keeper->lease;

	if (lease->pinned && lease->phase == LEASE_FOLLOWER &&
		lease->free_since != 0)
		return NODES_URGENT;
	if (keeper_misses_leader(keeper))
		return lease_look_interval(lease);
	/* no lease of the instance waits for a word of theirs */
	if (keeper->name[0] == '\0' && all_are_alive(keeper))
		return 2 * beat_interval(keeper);
	return clock_max(beat_interval(keeper), CLOCK_S / 4);
}

/* For the views alone: the more there are, the more it costs to read them all. */
static ClockTime
leases_interval(const Keeper *keeper)
{
	ClockTime	of_many = leasehold_shared->survey->nleases * (10 * CLOCK_MS);

	return clock_max(clock_max(beat_interval(keeper), 2 * CLOCK_S),
					 clock_min(of_many, 30 * CLOCK_S));
}

/* Only one member is asked for the rows that the views show. */
static bool
is_surveyed(const Keeper *keeper, int i)
{
	for (int k = 0; k < i; k++)
		if (keeper->member[k].ready &&
			keeper->member[k].standing == ROSTER_COUNTED)
			return false;
	return keeper->member[i].standing == ROSTER_COUNTED;
}

static bool
joins(const Keeper *keeper, const KeeperMember *member, ClockTime now)
{
	return election_name(&member->name, keeper->lease.incarnation,
						 keeper->lease.previous,
						 lease_observation(&keeper->lease, keeper->lease.ttl_ms),
						 now) == NAME_FREE;
}

/* No lease of the instance, and none of tables anywhere, as far as it knows. */
bool
keeper_has_no_lease(const Keeper *keeper)
{
	return keeper->name[0] == '\0' && keeper->persisted.lease[0] == '\0' &&
		!keeper_tables_exist(keeper);
}

/* No lease of the instance, neither now nor before, and not told to leave. */
bool
keeper_is_ungoverned(const Keeper *keeper)
{
	return keeper->name[0] == '\0' && keeper->persisted.lease[0] == '\0' &&
		pg_atomic_read_u32(&leasehold_shared->left) == 0;
}

/*
 * Whoever protects a table waits for all that have a row, so every node that
 * reaches the store has one, governed or not.  One that was told to leave comes
 * back only for leases of tables.
 */
static bool
is_one_of_the_group(const Keeper *keeper)
{
	if (keeper->ending || keeper->persisted.incarnation != keeper->lease.incarnation)
		return false;
	if (keeper->name[0] == '\0' && settings_lease()[0] == '\0')
		return keeper_tables_used(keeper) || keeper_is_ungoverned(keeper);
	return keeper->renamed_since == 0 && keeper->name[0] != '\0' &&
		strcmp(keeper->name, settings_lease()) == 0;
}

/* Is there anything besides the lease to say to this member? */
MemberTask
keeper_next_chore(const Keeper *keeper, int i, ClockTime now)
{
	const KeeperMember *member = &keeper->member[i];
	MemberTask	chore;

	if (member->notify_due)
		return TASK_NOTIFY;
	if (!keeper->orphaned && member->standing == ROSTER_NOT_SETTLED &&
		now >= member->settle_at)
		return TASK_SETTLE;
	if (keeper->orphaned || member->standing != ROSTER_COUNTED)
		return TASK_NONE;
	if (member->answer_due)
		return TASK_ANSWER;
	if ((chore = keeper_tables_chore(keeper, i)) != TASK_NONE)
		return chore;
	if (is_one_of_the_group(keeper))
	{
		if (joins(keeper, member, now))
			return TASK_JOIN;
		if (member->name.present &&
			member->name.incarnation == keeper->lease.incarnation &&
			(now >= member->beat_at + beat_interval(keeper) ||
			 strcmp(member->role_told, keeper->self.role) != 0))
			return TASK_BEAT;
	}
	if (is_surveyed(keeper, i))
	{
		if (keeper->nodes_wanted > keeper->nodes_read ||
			now >= keeper->nodes_at + nodes_interval(keeper))
			return TASK_NODES;
		if (now >= keeper->leases_at + leases_interval(keeper))
			return TASK_LEASES;
		if (now >= keeper->history_at + 30 * CLOCK_S ||
			(keeper->history_epoch != keeper->lease.highest_epoch &&
			 now >= keeper->history_at + CLOCK_S / 4) ||
			(keeper->history_moves != keeper->tables->moves &&
			 now >= keeper->history_at + CLOCK_S))
			return TASK_HISTORY;
	}
	return TASK_NONE;
}

bool
keeper_send_chore(Keeper *keeper, int i, MemberTask task, ClockTime now,
				  ClockTime deadline)
{
	KeeperMember *member = &keeper->member[i];
	Link	   *link = &member->link;

	switch (task)
	{
		case TASK_NOTIFY:
			member->notify_due = false;
			return store_send_notify(link, deadline);
		case TASK_ANSWER:
			member->answer_due = false;
			return store_send_answer(link, keeper->name, keeper->handled_seq,
									 keeper->answer, deadline);
		case TASK_SETTLE:
			member->settle_at = now + CLOCK_S;
			return store_send_settle(link, keeper->roster.generation,
									 member->head.members, deadline);
		case TASK_JOIN:
			return store_send_join(link, &keeper->self,
								   member->name.incarnation, member->name.beat,
								   deadline);
		case TASK_BEAT:
			member->beat_at = now;
			strlcpy(member->role_told, keeper->self.role,
					sizeof(member->role_told));
			return store_send_beat(link, &keeper->self, deadline);
		case TASK_NODES:
			keeper->nodes_at = now;
			return store_send_nodes(link, deadline);
		case TASK_LEASES:
			keeper->leases_at = now;
			return store_send_leases(link, deadline);
		case TASK_HISTORY:
			keeper->history_at = now;
			keeper->history_moves = keeper->tables->moves;
			return store_send_history(link, SURVEY_HISTORY_MAX, deadline);
		default:
			return keeper_tables_send_chore(keeper, i, task, deadline);
	}
}

ClockTime
keeper_chore_due(const Keeper *keeper, int i, ClockTime now)
{
	ClockTime	at;

	if (keeper_next_chore(keeper, i, now) != TASK_NONE)
		return now;
	at = keeper->member[i].beat_at + beat_interval(keeper);
	if (is_surveyed(keeper, i))
		at = clock_min(at, keeper->nodes_at + nodes_interval(keeper));
	/* a chore that waits for something else must not make us spin */
	return clock_max(at, now + 10 * CLOCK_MS);
}
