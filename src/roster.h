/*
 * roster.h
 *		The agreed list of store members, and when a node may count by it (R10).
 *
 * Every member stores the same text: a lineage (made when the store was
 * formed, the same for ever) and the members' identities.  A node counts only
 * members that stand on its own list, with the identity written there, and
 * goes over to another list only when that list is settled at a majority of
 * its own members and continues the same lineage.
 *
 * Layer 0: no server headers.
 */
#ifndef LEASEHOLD_ROSTER_H
#define LEASEHOLD_ROSTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lease.h"

#define ROSTER_ID_LEN		40	/* a uuid as text */
#define ROSTER_SYSID_LEN	24	/* a system identifier as text */
#define ROSTER_TEXT_LEN		1024

/* What makes a member the one that it was (R6). */
typedef struct RosterId
{
	char		store_id[ROSTER_ID_LEN];
	char		sysid[ROSTER_SYSID_LEN];	/* "": the server has none */
	int32_t		timeline;		/* 0: the server has none */
} RosterId;

typedef struct Roster
{
	int64_t		generation;		/* 0: no list */
	char		lineage[ROSTER_ID_LEN];
	int			n;
	RosterId	id[LEASE_MEMBERS_MAX];
} Roster;

/* What one reachable member says of itself and of the list. */
typedef struct RosterReport
{
	bool		known;			/* has it been asked yet? */
	bool		settled;
	RosterId	id;
	Roster		roster;
} RosterReport;

/* How one member stands to this node's list. */
typedef enum RosterStanding
{
	ROSTER_COUNTED,
	ROSTER_NOT_ASKED,			/* nothing is known of it yet */
	ROSTER_NO_LIST,				/* a fresh store that belongs to no list */
	ROSTER_NOT_LISTED,			/* it is not on the list */
	ROSTER_OTHER_LINEAGE,		/* it belongs to another store altogether */
	ROSTER_OTHER_SYSTEM,		/* same store, another server or timeline */
	ROSTER_OLD_GENERATION,		/* it has an older list, or a newer unsettled */
	ROSTER_NOT_SETTLED,			/* it has the list, but copies may still come */
	ROSTER_DOUBLE				/* another address leads to the same member */
} RosterStanding;

/*
 * roster_parse, roster_format
 *		Between the stored text and the list: "lineage;id/sysid/timeline,...".
 *		Parsing returns false for anything else; formatting returns false when
 *		the text does not fit.
 */
extern bool roster_parse(Roster *roster, int64_t generation, const char *text);
extern bool roster_format(const Roster *roster, char *text, size_t size);

/*
 * roster_adopt
 *		Is there a list that this node has to go over to?  Copies it to *roster
 *		and returns true.  An empty *roster (generation 0) accepts any lineage.
 */
extern bool roster_adopt(Roster *roster, const RosterReport *report, int n);

/* How report[i] stands to the list; the first of two equal ones counts. */
extern RosterStanding roster_standing(const Roster *roster,
									  const RosterReport *report, int i);

/* A few words for people. */
extern const char *roster_standing_text(RosterStanding standing);

extern bool roster_same_id(const RosterId *a, const RosterId *b);

#endif							/* LEASEHOLD_ROSTER_H */
