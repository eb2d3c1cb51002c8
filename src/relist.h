/*
 * relist.h
 *		Changes of the agreed list of members (R10).
 *
 * Layer 3.  Run by SQL functions; whoever is stopped half-way is completed by
 * running it again.
 */
#ifndef LEASEHOLD_RELIST_H
#define LEASEHOLD_RELIST_H

#include "group.h"

/*
 * relist_form
 *		The first list, of all members of the group, which have to be fresh.
 *		After it the group counts by the list.  "lineage" is a new uuid.
 */
extern void relist_form(StoreGroup *group, const char *lineage);

/*
 * relist_change
 *		From the group's agreed list to "next".  The group's connections have to
 *		reach a majority of either.
 */
extern void relist_change(StoreGroup *group, const Roster *next);

/* One lease row as text, one value per column (ROW_...). */
typedef struct RelistRow
{
	char	   *value[32];
} RelistRow;

/*
 * relist_merge
 *		What a majority's rows of one lease come to for the members of the next
 *		list.  "majority" is how many have to agree on who holds it.
 */
extern void relist_merge(const RelistRow *row, int n, int majority,
						 RelistRow *to);

/* Read row r of a result of store_rows_sql or store_seal_sql. */
extern void relist_read_row(const PGresult *result, int r, RelistRow *to);

/* Does the list contain this member, with the same identity? */
extern bool relist_contains(const Roster *roster, const RosterId *id);

#endif							/* LEASEHOLD_RELIST_H */
