/*
 * keeper_list.c
 *		How the members that the keeper talks to stand to the agreed list (R6,
 *		R10), and how this run stands to its own name there (R8).
 *
 * Applies the rules of roster.c and election.c to what the members said.
 */
#include "postgres.h"

#include "keeper_tables.h"

ClockTime
keeper_request_timeout(const Keeper *keeper)
{
	ClockTime	ttl = clock_ms(keeper->lease.ttl_ms);

	if (keeper->tables->ttl_min > 0 && keeper->tables->ttl_min < ttl)
		ttl = keeper->tables->ttl_min;
	return clock_max(ttl / 3, 50 * CLOCK_MS);
}

void
keeper_set_reachable(Keeper *keeper, int i, bool reachable, bool counted)
{
	lease_set_reachable(&keeper->lease, i, reachable, counted);
	keeper_tables_set_reachable(keeper, i, reachable, counted);
}

static void
make_reports(const Keeper *keeper, RosterReport *report)
{
	for (int i = 0; i < keeper->n; i++)
	{
		const KeeperMember *member = &keeper->member[i];

		if (member->head_known &&
			member->head.schema_version == STORE_SCHEMA_VERSION)
			store_report(&member->server, &member->head, &report[i]);
		else
			memset(&report[i], 0, sizeof(report[i]));
	}
}

/*
 * A member that was on the list as one server and now is another has lost its
 * memory: it stays out until an operator re-seeds it.
 */
static void
judge_one(Keeper *keeper, int i, const RosterReport *report)
{
	KeeperMember *member = &keeper->member[i];
	RosterStanding standing = roster_standing(&keeper->roster, report, i);

	if (standing != member->standing && standing != ROSTER_COUNTED &&
		standing != ROSTER_NOT_ASKED && keeper->roster.generation > 0 &&
		keeper->roster_next.generation <= keeper->roster.generation)
		ereport(LOG,
				(errmsg("leasehold: store member %s is not counted: %s",
						member->conninfo.label,
						roster_standing_text(standing))));
	/* one that does not say what it is may be what it was */
	if (standing == ROSTER_OTHER_SYSTEM && member->server.sysid[0] != '\0')
	{
		lease_forgotten(&keeper->lease, i);
		keeper_tables_forgotten(keeper, i);
	}
	member->standing = standing;
	keeper_set_reachable(keeper, i, keeper->lease.member[i].reachable,
						 standing == ROSTER_COUNTED);
}

void
members_judge(Keeper *keeper)
{
	RosterReport report[LEASE_MEMBERS_MAX];
	Roster		next = keeper->roster_next.generation > keeper->roster.generation ?
		keeper->roster_next : keeper->roster;

	make_reports(keeper, report);
	if (roster_adopt(&next, report, keeper->n))
	{
		ereport(LOG,
				(errmsg("leasehold: generation " INT64_FORMAT " of the store's list has %d members",
						next.generation, next.n)));
		keeper->roster_next = next; /* counted by once it is on disk (R11) */
	}
	for (int i = 0; i < keeper->n; i++)
		judge_one(keeper, i, report);
}

NameVerdict
members_name_verdict(const Keeper *keeper, ClockTime now)
{
	ClockTime	observation = lease_observation(&keeper->lease,
												keeper->lease.ttl_ms);
	int			mine = 0;

	for (int i = 0; i < keeper->n; i++)
	{
		const KeeperMember *member = &keeper->member[i];

		if (member->standing != ROSTER_COUNTED)
			continue;
		switch (election_name(&member->name, keeper->lease.incarnation,
							  keeper->lease.previous, observation, now))
		{
			case NAME_TAKEN:
				return NAME_TAKEN;
			case NAME_MINE:
				mine++;
				break;
			default:
				break;
		}
	}
	return keeper->lease.list_size > 0 &&
		mine >= lease_majority(&keeper->lease) ? NAME_MINE : NAME_UNKNOWN;
}
