/*
 * group_tables.h
 *		What the members of a group say of table leases, taken together: which
 *		tables are protected, who takes part in which lease, what each node has
 *		confirmed; and the changes of these.
 *
 * Layer 3.
 *
 * The list of protected tables has to be changed so that a node which says
 * "known up to number k" cannot have missed a change with a number up to k:
 *
 * - A change first reserves a number p at a majority: above all that it has seen
 *   there, and from then on no lower one is taken there.  Then it reads what
 *   stands there; then it writes, under the number p + 1, wherever no higher one
 *   was reserved.  It counts if a majority took it.  So of two at once one loses,
 *   and whoever comes later has read what was done before.
 * - A node reads a majority of members.  It knows all changes up to the lowest of
 *   the numbers that these had when they were read: any change that counts, or
 *   ever will, has been taken by one of them, and by that one before the read,
 *   since it takes none later that is not above its number.
 */
#ifndef LEASEHOLD_GROUP_TABLES_H
#define LEASEHOLD_GROUP_TABLES_H

#include "postgres.h"

#include "group.h"
#include "store_tables.h"

/* The rows of protection, each table once, as its latest change says. */
typedef struct GroupTables
{
	int64		highest;		/* number at any member */
	int64		known;			/* all changes up to this one are in it */
	int			n;
	TableEntry *entry;
} GroupTables;

/*
 * group_read_tables
 *		Read them at the members that pass the filter, and return how many of them
 *		answered.  group_merge_tables() puts the last results together.
 */
extern int	group_read_tables(StoreGroup *group, GroupFilter filter,
							  GroupTables *tables);
extern void group_merge_tables(const StoreGroup *group, GroupTables *tables);

/* The same at all counted members; an error unless they are a majority. */
extern void group_tables(StoreGroup *group, GroupTables *tables);

extern TableEntry *group_find_table(const GroupTables *tables,
									const TableEntry *names);

/*
 * group_change_table
 *		Have the table that "change" names protected by its lease ("": by none).
 *		What stands there before is judged by the callback, which raises an error
 *		if it may not be changed.  Fills change->seq.  Done at a majority, or an
 *		error.  If it stands there already under a number, that is its number.
 */
typedef void (*GroupTableJudge) (const TableEntry *before, const TableEntry *change);
extern void group_change_table(StoreGroup *group, TableEntry *change,
							   GroupTableJudge judge);

/* Let members that have missed the change have it, too. */
extern void group_spread_table(StoreGroup *group, const TableEntry *change);

/* What a node has confirmed, as some member says. */
typedef struct GroupKnown
{
	char		node[LEASE_NAME_LEN];
	uint64		incarnation;
	int64		protections;
} GroupKnown;

/*
 * group_unconfirmed
 *		The registered nodes that have not confirmed the list up to this number,
 *		as palloc'd names; *n of them.  False if too few members answered.
 */
extern bool group_unconfirmed(StoreGroup *group, int64 number, char ***name,
							  int *n);

/* All memberships, in the order of leases and nodes. */
typedef struct GroupMemberships
{
	int64		highest;		/* number at any member */
	int			n;
	StoreMembership *row;		/* with room for one more */
} GroupMemberships;

/*
 * group_read_memberships
 *		At the members that pass the filter; returns how many answered.  "majority"
 *		of them saying the same number are believed, else the highest number.
 */
extern int	group_read_memberships(StoreGroup *group, GroupFilter filter,
								   int majority, GroupMemberships *to);
extern void group_memberships(StoreGroup *group, GroupMemberships *to);

/* The row of this node in this lease; NULL if there is none. */
extern StoreMembership *group_find_membership(const GroupMemberships *from,
											  const char *lease,
											  const char *node);

/*
 * group_join, group_part
 *		The node takes part in the lease with this priority; or in it (NULL: in
 *		any) no more.  Done at a majority, or an error.  Return whether that
 *		changed anything.
 */
extern bool group_join(StoreGroup *group, const char *lease, const char *node,
					   int32 priority);
extern bool group_part(StoreGroup *group, const char *lease, const char *node);

/* The parameters from $3 on of statements that write such rows. */
extern void group_tables_values(const GroupTables *tables, const char **values);
extern void group_memberships_values(const GroupMemberships *rows,
									 const char **values);

#endif							/* LEASEHOLD_GROUP_TABLES_H */
