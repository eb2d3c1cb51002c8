/*
 * tables.h
 *		Table leases in shared memory: which tables are protected by which lease,
 *		and how this node stands to each of these leases.
 *
 * Layer 1.  Two kinds of data, both written by the keeper alone and read without
 * a lock:
 *
 * - slots: one for each table lease that this node takes part in, with the
 *   epoch and the deadline that every backend judges by itself, as it does with
 *   the lease of the instance (FenceLease in shared.h);
 * - the list of protected tables, by name, as the store says it.  It stands in
 *   two pages, of which one is current: a writer that was stopped half-way
 *   leaves the current one whole.
 *
 * A slot that was once given to a name keeps it until the server ends, so that
 * its number in a list never means another lease.
 */
#ifndef LEASEHOLD_TABLES_H
#define LEASEHOLD_TABLES_H

#include "postgres.h"

#include "port/atomics.h"

#include "clock.h"
#include "shared.h"

#define TABLES_NO_SLOT	(-1)	/* this node takes no part in the lease */

/* A transaction's flags (in_commit, writing): which leases are concerned. */
#define FENCE_BIT_INSTANCE	((uint32) 1 << 31)
#define FENCE_BIT_SLOT(slot) ((uint32) 1 << ((slot) % 31))
#define FENCE_BIT_ALL		((uint32) 0xFFFFFFFF)

/* One table lease, as the fence sees it. */
typedef struct TableSlot
{
	FenceLease	lease;
	/* what a keeper started anew within this run must know (see shared.h) */
	pg_atomic_uint64 version;
	pg_atomic_uint64 closed_epoch;
	pg_atomic_uint64 highest_epoch;
	char		name[LEASEHOLD_NAME_LEN];	/* "": not given yet */
	/* what leasehold.role_command was last told [steward]; 0: nothing yet */
	NodeState	role_told;
	int64		role_epoch;
} TableSlot;

/* One protected table. */
typedef struct TableEntry
{
	char		database[NAMEDATALEN];
	char		schema[NAMEDATALEN];
	char		name[NAMEDATALEN];
	char		lease[LEASEHOLD_NAME_LEN];
	int32		slot;			/* of the lease, or TABLES_NO_SLOT */
	int64		seq;			/* of the change that made it so */
} TableEntry;

/*
 * The list.  "unknown": the file that keeps it cannot be read, and the store has
 * not been read yet; any table may be protected.
 */
typedef struct TableList
{
	uint32		generation;		/* of this run; see TablesShared */
	bool		unknown;
	int64		seq;			/* every change up to this one is in it */
	int			n;
	TableEntry	entry[FLEXIBLE_ARRAY_MEMBER];	/* [setting_tables_max] */
} TableList;

/* How this node stands to a table lease, for views and messages. */
typedef struct TableStatus
{
	NodeState	state;
	char		holder[LEASEHOLD_NAME_LEN];
	int64		epoch;			/* the highest known; while held, ours */
	int32		ttl_ms;
	ClockTime	last_renewal;	/* 0: none in this run */
	ClockTime	renewal_latency;
	bool		takes_part;		/* the store says that it is a member */
	int32		priority;
	char		reason[128];	/* why it is not held, a sentence; or "" */
} TableStatus;

typedef struct TablesShared
{
	/*
	 * Rises with every change of the list; 0 while no table of any database is
	 * protected.  This is the one test of a statement that touches none.
	 */
	pg_atomic_uint32 generation;
	pg_atomic_uint32 current;	/* which of the two pages */
	pg_atomic_uint32 nslots;	/* how many are given */
	TableSlot  *slot;			/* [setting_leases_max] */
	/* by name: 0, or one of them (plus 1); none is ever taken out again */
	uint32		nplaces;		/* a power of two */
	pg_atomic_uint32 *place;
	TableList  *page[2];
	/* R11: the generation that stands on disk, written by the steward */
	pg_atomic_uint32 on_disk;
	/* views: the keeper takes the lock only conditionally */
	LWLock	   *status_lock;
	ClockTime	status_at;
	TableStatus *status;		/* [setting_leases_max] */
	pg_atomic_uint32 changes;	/* rises when one is gained, lost, or otherwise
								 * another state than before */
} TablesShared;

extern PGDLLEXPORT TablesShared *leasehold_tables;	/* NULL if not preloaded */

/* For shared.c: its size, making it. */
extern Size tables_size(void);
extern void tables_attach(void);

/* Bytes of a list with room for setting_tables_max entries. */
extern Size tables_list_size(void);

/*
 * tables_publish
 *		Make this list the current one, under the next generation (0 becomes 0
 *		only while it is empty, not unknown, and was never anything else).
 */
extern PGDLLEXPORT void tables_publish(const TableList *list);

/*
 * tables_read
 *		Copy the current list to "list" (of tables_list_size() bytes).  False, if
 *		it changed again and again meanwhile: nothing may be concluded then.
 */
extern PGDLLEXPORT bool tables_read(TableList *list);

/* The slot of a lease, TABLES_NO_SLOT if it has none. */
extern PGDLLEXPORT int tables_find_slot(const char *lease);

/* The same, but give it one; TABLES_NO_SLOT if there is none left.  [keeper] */
extern PGDLLEXPORT int tables_give_slot(const char *lease);

/* The epoch under which this node holds the lease in this slot; 0: it does not. */
static inline uint64
tables_held_epoch(int slot)
{
	return slot == TABLES_NO_SLOT ? 0 :
		shared_lease_epoch(&leasehold_tables->slot[slot].lease);
}

#endif							/* LEASEHOLD_TABLES_H */
