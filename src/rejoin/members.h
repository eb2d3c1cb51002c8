/*
 * members.h
 *		What the members of the store say about the lease.
 */
#ifndef REJOIN_MEMBERS_H
#define REJOIN_MEMBERS_H

#include "rejoin.h"
#include "roster.h"

typedef struct StoreView
{
	PlanHolder	answer;
	int			asked;
	int			counted;
	int			majority;		/* 0: no list of members is known */
	char	   *trouble;		/* what is wrong with the others, or "" */
	/* of PLAN_HOLDER_KNOWN and PLAN_HOLDER_NONE */
	char	   *holder;
	char	   *advertise;		/* of the holder; "": it is not registered */
	char	   *kind;
	char	   *sysid;			/* "": not pinned */
	uint32		timeline;		/* 0: never held */
	int64		epoch;
} StoreView;

/*
 * members_list_on_disk
 *		The list of members that this node went by last, from its durable file
 *		(empty if there is none that can be read): it never goes over to
 *		another store's.
 */
extern void members_list_on_disk(const char *file, Roster *roster);

/*
 * members_ask
 *		Ask all members at once, within the time of one question.
 */
extern void members_ask(const Node *node, const Roster *known,
						StoreView *view);

#endif							/* REJOIN_MEMBERS_H */
