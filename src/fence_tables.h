/*
 * fence_tables.h
 *		Which leases a table needs: the list of protected tables, as one backend
 *		knows it for its own database.
 *
 * Layer 2.  Reads the list in shared memory (tables.h) and the catalogs; knows
 * nothing of epochs and deadlines.
 */
#ifndef LEASEHOLD_FENCE_TABLES_H
#define LEASEHOLD_FENCE_TABLES_H

#include "postgres.h"

#include "tables.h"

#pragma GCC visibility push(hidden)	/* see fence.h */

/* A table lease, as this process knows it. */
typedef struct FenceTableLease
{
	int			slot;			/* or TABLES_NO_SLOT */
	uint32		bit;			/* its flag; 0 without a slot */
	FenceLease *shared;			/* what lies in the slot; NULL without one */
	char		name[LEASEHOLD_NAME_LEN];
} FenceTableLease;

/*
 * The leases that a relation needs.  Its own: those by which it is protected
 * itself, and those of the tables that its rows are part of, its partitioned
 * parents and the ones it inherits from.  Behind them those that only tables
 * below it need: whether a statement that names it comes to write those, is not
 * known before it has.
 *
 * It is "fixed" if the list names the relation itself, and that is no part of
 * another one: then only another list can change its own leases while somebody
 * has a lock on it.  To become part of another relation takes a lock that nobody
 * shares, and its name, and its schema's, stay as they are while it is listed.
 */
typedef struct FenceNeed
{
	int			nown;
	int			nbelow;
	bool		fixed;
	const FenceTableLease *only;	/* if all there is is one with a slot */
	const FenceTableLease *lease[FLEXIBLE_ARRAY_MEMBER];
} FenceNeed;

/* The generation in shared memory; 0 for whoever has not joined the fence. */
extern pg_atomic_uint32 *fence_tables_published;

/* What this process knows: the list of which generation ... */
extern uint32 fence_tables_generation;
/* ... whether it has a table of this database, or may have ... */
extern bool fence_tables_here;
/* ... since it could not be read. */
extern bool fence_tables_unknown;

/* The first use of the fence in a process. */
extern void fence_tables_join(void);

/*
 * fence_tables_refresh
 *		Read the list anew.  Needs a transaction; without one, what is known stays
 *		of another generation than what is published, and the next one reads it.
 */
extern void fence_tables_refresh(void);

/*
 * fence_tables_look
 *		Is a table of this database protected, by the list of this moment?
 */
static inline bool
fence_tables_look(void)
{
	if (unlikely(pg_atomic_read_u32(fence_tables_published) !=
				 fence_tables_generation))
		fence_tables_refresh();
	return fence_tables_here;
}

/*
 * fence_tables_need
 *		What this relation needs, NULL if nothing.  Looks into the catalogs, if it
 *		has not been asked since something changed there; "settled" says whether
 *		nothing has meanwhile.  What is returned stays valid until the list is read
 *		anew.
 */
extern const FenceNeed *fence_tables_need(Oid relid, bool *settled);

/* The tables that this one is a partition of, or inherits from: a list of OIDs. */
extern List *fence_tables_parents(Oid relid);

/* What a table of this name would need by itself. */
extern const FenceNeed *fence_tables_need_of_name(const char *schema,
												  const char *name);

/* Does the list name this very relation, one of this schema, this database? */
extern bool fence_tables_list_relation(Oid relid);
extern bool fence_tables_list_schema(const char *schema);
extern bool fence_tables_list_database(const char *database);

#pragma GCC visibility pop

#endif							/* LEASEHOLD_FENCE_TABLES_H */
