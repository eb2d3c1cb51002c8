/*
 * keeper_tables.h
 *		The keeper's leases of tables: any number of them beside the instance's.
 *
 * Layer 4.  keeper_tables.c is who they are and how time passes for them,
 * keeper_batch.c what is said of them to one member of the store, keeper_moves.c
 * how one changes hands on purpose, keeper_protect.c which tables they protect.
 *
 * Each has a state machine of its own (lease.h), the same as the instance's.  A
 * turn of the keeper touches only those that something has happened to.
 */
#ifndef LEASEHOLD_KEEPER_TABLES_H
#define LEASEHOLD_KEEPER_TABLES_H

#include "keeper.h"
#include "store_tables.h"
#include "tables.h"

#define TABLE_BETTER_MAX	8	/* nodes that go before this one, as far as counted */

typedef struct TableLease
{
	/* first what is looked at for all of them in every turn */
	ClockTime	wake_at;		/* when something will happen, or be sent */
	ClockTime	turn_at;		/* the same, but for what waits to be sent */
	ClockTime	ahead_max;		/* how much earlier it may be sent */
	ClockTime	ttl;			/* as of its last turn ... */
	bool		draining;		/* ... and so are these */
	bool		following;
	bool		for_disk;		/* it waits for its epoch to be there */
	bool		due;			/* something happened to it */
	bool		status_due;		/* to be published */
	bool		takes_part;		/* this node is a member of the lease */

	char		name[LEASEHOLD_NAME_LEN];
	int			slot;
	LeaseState	state;
	uint16		read_at;		/* by member of the store: it was read there ... */
	uint16		part_at;		/* ... and said that this node is one */
	int32		priority;
	bool		first_choice;	/* no other node has as high a priority */
	int			nbetter;
	uint16		better[TABLE_BETTER_MAX];	/* indexes of KeeperTables.peer */
	NodeState	told_state;		/* as last logged */
	int64		seen_epoch;		/* as its row was last seen */
	bool		seen_held;

	/* requests */
	ClockTime	acquire_until;	/* somebody asked for it until then */
	int64		handled_seq;	/* the last hand-over request dealt with */
	int64		waiting_seq;	/* one that waits for its target ... */
	ClockTime	waiting_since;	/* ... since when */
	int64		prepared_seq;	/* one to this node: asked to get ready for */
	int64		ready_seq;		/* ... and it is */
	ClockTime	ready_told_at;	/* ... which it last set out to tell */
	char		answer[STORE_REASON_LEN];	/* why one was refused ... */
	int64		answer_seq;		/* ... which */
	uint16		answer_due;		/* members of the store that have to be told */
	uint16		ready_due;
	ClockTime	failback_at;	/* when to ask for it; 0: not */
	int64		failback_seq;	/* the request that asks for it ... */
	uint16		failback_due;	/* ... and who has to be told */

	/* giving it up */
	DrainWhy	drain_why;
	ClockTime	drain_until;
	uint64		flush_asked;

	/* taking it */
	int64		opened_epoch;	/* under which it may be used */
	int64		opening_epoch;	/* for which the opener was asked ... */
	ClockTime	opening_until;	/* ... and how long it may take */
	char		from[LEASEHOLD_NAME_LEN];	/* who had it before; "": nobody */
	uint64		from_lsn;		/* how far that had written; 0: not told */
	bool		handed;			/* ... and handed it to this node */
	char		doubt[LEASEHOLD_NAME_LEN];	/* had it since, and may have written
											 * before it could say so; or "" */

	ClockTime	last_renewal;
	ClockTime	renewal_latency;
} TableLease;

/* A batch that is under way with a member. */
typedef struct TableBatch
{
	LeaseOp		op;
	int			n;
	int		   *lease;			/* indexes, in the order of names */
} TableBatch;

typedef struct KeeperTables
{
	int			n;
	TableLease **lease;			/* in the order of names */
	int			room;
	MemoryContext context;
	int			npeers;			/* names of nodes that are members of any */
	char	  (*peer)[LEASEHOLD_NAME_LEN];
	TableBatch	batch[LEASE_MEMBERS_MAX];
	ClockTime	turned_at;		/* when their time last passed */
	bool		able;			/* what holds for all of them, as last seen */
	int			reached[LEASE_MEMBERS_MAX]; /* ... by member; -1: not known */
	TableLease *told[LEASE_MEMBERS_MAX];	/* of whom it was last told something */
	uint16		say_due;		/* by member: some lease has what send_due() says */
	bool		list_due;		/* slots have changed since it was published */
	int64		moves;			/* rises when one is seen to change hands */
	int			ndraining;
	int			nfollowing;
	int			nparts;			/* how many this node takes part in */
	ClockTime	ttl_min;		/* the shortest of them, 0: there is none */
	int64		epoch_to_persist;
	int64		durable_epoch;	/* on disk, as last seen */

	/* by member of the store: what was read there, and what is to be read */
	int64		memberships[LEASE_MEMBERS_MAX]; /* -1: nothing yet */
	int64		memberships_wanted[LEASE_MEMBERS_MAX];
	int64		protections[LEASE_MEMBERS_MAX];
	int64		protections_wanted[LEASE_MEMBERS_MAX];
	int64		known_told[LEASE_MEMBERS_MAX];

	/* the list of protected tables, with those that are not any more */
	TableEntry *entry;			/* in the order of names */
	int			nentries;
	int			entries_room;
	bool		unknown;
	int64		seq;			/* complete up to this change */
	int64		confirmed;		/* ... and fenced by all of this instance */
	uint32		generation;		/* as last published; 0: not by this keeper */
	bool		waiting;		/* for the transactions below */
	TransactionId *running;		/* by place: one that ran when it was published */
	int			nplaces;
	bool	   *in_commit;		/* by place: one that was past its check then */
} KeeperTables;

/* ---- keeper_tables.c ---- */

extern KeeperTables *keeper_tables_make(void);

/* Does this node take part in any, or is any table protected? */
extern bool keeper_tables_used(const Keeper *keeper);

/* Does the store know of any, as far as it has said? */
extern bool keeper_tables_exist(const Keeper *keeper);

/* What holds for the members of the store holds for all leases. */
extern void keeper_tables_set_members(Keeper *keeper);
extern void keeper_tables_set_reachable(Keeper *keeper, int i, bool reachable,
										bool counted);
extern void keeper_tables_restart_observation(Keeper *keeper, int i);
extern void keeper_tables_forgotten(Keeper *keeper, int i);
extern void keeper_tables_look_now(Keeper *keeper, int i);

/* After a reload. */
extern void keeper_tables_take_intervals(Keeper *keeper);

/* The index of a lease; -1 if there is no such. */
extern int	keeper_tables_find(const KeeperTables *tables, const char *name);

/* Time passes: lose, win, begin to acquire, drain, open. */
extern void keeper_tables_turn(Keeper *keeper, bool able, ClockTime now);
extern ClockTime keeper_tables_wakeup(const Keeper *keeper, ClockTime now);

/* How often to look at it while this node follows, in ms. */
extern int32 keeper_tables_look_ms(const Keeper *keeper, const TableLease *lease);

/* When it has to be turned to again, after a turn and after each message. */
extern void keeper_tables_set_wakeup(TableLease *lease, ClockTime now);

/* The deadline for every backend.  Before any message that promises less. */
extern void keeper_tables_publish_fence(TableLease *lease);

/* For views: only what has changed, and only if no reader stands in the way. */
extern void keeper_tables_publish_status(Keeper *keeper, ClockTime now);

/* Who takes part in what, as one member of the store says. */
extern void keeper_tables_take_memberships(Keeper *keeper, int i,
										   const PGresult *result);

/* The instance is not well. */
extern void keeper_tables_let_go(Keeper *keeper, ClockTime now);

/* When the server ends, or the postmaster is dead; and once all is done. */
extern void keeper_tables_begin_end(Keeper *keeper, ClockTime limit,
									ClockTime now);
extern bool keeper_tables_may_end(const Keeper *keeper);

/* The keeper alone ends: what was not said yet to anybody is taken back. */
extern void keeper_tables_leave_to_successor(Keeper *keeper, ClockTime now);
extern void keeper_tables_close_fence(void);

/* ---- keeper_batch.c ---- */

/* Is there anything to say to this member?  True: *sent says whether it went. */
extern bool keeper_batch_next(Keeper *keeper, int i, ClockTime now,
							  ClockTime deadline, bool *sent);
extern void keeper_batch_answered(Keeper *keeper, int i,
								  const PGresult *result, ClockTime now);
extern void keeper_batch_failed(Keeper *keeper, int i, ClockTime now);

/* What is there to say besides: answers to requests, "known", lists to read. */
extern MemberTask keeper_tables_chore(const Keeper *keeper, int i);
extern bool keeper_tables_send_chore(Keeper *keeper, int i, MemberTask task,
									 ClockTime deadline);
extern void keeper_tables_chore_done(Keeper *keeper, int i, MemberTask task,
									 const PGresult *result);

/* ---- keeper_moves.c ---- */

extern void keeper_moves_begin_drain(TableLease *lease, DrainWhy why,
									 const char *reserve_for, ClockTime limit,
									 ClockTime now);
/* Before and after the lease's own turn. */
extern void keeper_moves_follow_requests(Keeper *keeper, TableLease *lease,
										 ClockTime now);
extern void keeper_moves_follow_failback(Keeper *keeper, TableLease *lease,
										 ClockTime now);
extern void keeper_moves_follow_drain(Keeper *keeper, TableLease *lease,
									  ClockTime now);
extern void keeper_moves_note_source(Keeper *keeper, TableLease *lease);
extern void keeper_moves_follow_opening(Keeper *keeper, TableLease *lease,
										ClockTime now);
extern void keeper_moves_serve_box(Keeper *keeper, const KeeperBox *box,
								   ClockTime now);
/* Paused, or leasehold.on_shutdown = keep: it stays this node's. */
extern bool keeper_moves_keeps_row(const TableLease *lease);
extern const char *keeper_moves_release_reason(const TableLease *lease);
extern const char *keeper_moves_acquire_reason(const TableLease *lease,
											   const LeaseRequest *request);

/* ---- keeper_protect.c ---- */

extern void keeper_protect_start(Keeper *keeper);
extern void keeper_protect_take(Keeper *keeper, int i, const PGresult *result);

/* Publish, wait for the disk and for what ran before, confirm. */
extern void keeper_protect_turn(Keeper *keeper);

/* Does this node fence all that the store lists, as far as it has heard? */
extern bool keeper_protect_is_current(const Keeper *keeper);

#endif							/* LEASEHOLD_KEEPER_TABLES_H */
