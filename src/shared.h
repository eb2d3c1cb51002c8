/*
 * shared.h
 *		What the processes of one instance tell each other in shared memory.
 *
 * Layer 1.  Three kinds of data, each with its own discipline:
 *
 * - the fence (FenceShared): single atomics, written by the keeper, read by
 *   every backend at every write.  Zeroed memory means "no lease".
 * - published pages (status for views, orders for the steward): one writer,
 *   many readers, a change counter; no lock, so that a stopped reader or
 *   writer never blocks the keeper.
 * - the request box: sessions ask the keeper for something (acquire, release);
 *   an LWLock serialises the askers, never the keeper.
 */
#ifndef LEASEHOLD_SHARED_H
#define LEASEHOLD_SHARED_H

#include "postgres.h"

#include "port/atomics.h"
#include "storage/latch.h"
#include "storage/lwlock.h"

#include "candidacy.h"
#include "clock.h"
#include "lease.h"
#include "roster.h"
#include "settings.h"

/* ------------------------------------------------------------------------
 * The fence
 * ------------------------------------------------------------------------
 */

/*
 * One lease as the fence sees it.  "deadline" is a ClockTime, 0 when the
 * lease is not held, CLOCK_NEVER while it is paused.  The keeper publishes a
 * new epoch while the deadline is 0, and only then the deadline; a reader
 * reads the deadline first.  So whoever sees an open deadline sees the epoch
 * that it belongs to, or a later one.
 */
typedef struct FenceLease
{
	pg_atomic_uint64 deadline;
	pg_atomic_uint64 epoch;
} FenceLease;

#define FENCE_SLOTS_SHOWN	8

/* What one backend tells the keeper and the steward; a cache line each. */
typedef struct FenceBackend
{
	pg_atomic_uint32 in_commit; /* raised around the commit check */
	pg_atomic_uint32 pid;		/* 0: no client session in this place */
	pg_atomic_uint64 opened_epoch;	/* epoch held when the session began, 0 if
									 * the node was not writable by a lease */
	pg_atomic_uint32 writing;	/* a transaction that wrote is running */
	pg_atomic_uint32 spared;	/* on_expiry must not end this session */
	/* slots (plus 1) of the first table leases that this transaction wrote under */
	pg_atomic_uint32 wrote_slot[FENCE_SLOTS_SHOWN];
} FenceBackend;

typedef union FenceBackendPadded
{
	FenceBackend backend;
	char		pad[PG_CACHE_LINE_SIZE];
} FenceBackendPadded;

typedef struct FenceShared
{
	/*
	 * Is this instance governed by a lease?  Set by the postmaster from the
	 * note in the data directory and the settings, by the keeper when a lease
	 * is named; cleared only by leasehold.leave().
	 */
	pg_atomic_uint32 governed;
	/*
	 * Is the instance's lease of kind "physical"?  Set by the keeper.  Then a
	 * prepared transaction may be committed under any epoch; else only under
	 * the one that prepared it.
	 */
	pg_atomic_uint32 physical;
	/*
	 * Is a write acknowledged only when a standby has confirmed it?  Set by the
	 * keeper, with leasehold.zero_loss.
	 */
	pg_atomic_uint32 zero_loss;
	/* Writes that were acknowledged all the same, as their sessions asked for. */
	pg_atomic_uint64 unprotected;
	/* The keeper waits for raised flags: whoever lowers one wakes it. */
	pg_atomic_uint32 draining;
	/* Acknowledgements withheld, statements refused (since server start). */
	pg_atomic_uint64 withheld;
	pg_atomic_uint64 refused;
	char		pad[PG_CACHE_LINE_SIZE];
	FenceLease	instance;		/* the lease that governs the instance */
	char		pad2[PG_CACHE_LINE_SIZE];
	int			nbackends;		/* places in backends[] */
	FenceBackendPadded *backends;	/* by process number */
} FenceShared;

/* What a refused client is told; published by the keeper. */
typedef struct FenceNotice
{
	char		lease[LEASEHOLD_NAME_LEN];
	char		node[LEASEHOLD_NAME_LEN];	/* this node */
	char		holder[LEASEHOLD_NAME_LEN]; /* "" if nobody holds it */
	int64		epoch;			/* the highest epoch known */
	char		address[256];	/* where to connect, "" if unknown */
	char		reason[256];	/* why this node does not hold it */
} FenceNotice;

/* ------------------------------------------------------------------------
 * Pages: what one worker publishes
 * ------------------------------------------------------------------------
 */

/* How this node stands to its lease, in the words of leasehold.status. */
typedef enum NodeState
{
	NODE_UNGOVERNED,			/* no lease is named */
	NODE_FENCED,				/* the store cannot be read, or knows no lease */
	NODE_FOLLOWER,
	NODE_ACQUIRING,
	NODE_HOLDER,
	NODE_DRAINING,
	NODE_PAUSED,				/* holder of a frozen row */
	NODE_EXCLUDED				/* refuses to take part (R8) */
} NodeState;

/* One address of leasehold.store. */
typedef struct StatusMember
{
	char		label[128];		/* host, port and database; never a password */
	bool		reachable;
	RosterStanding standing;
	bool		forgot;			/* R6 */
	int			schema_version; /* 0: not known */
	int64		generation;
	RosterId	id;
	ClockTime	last_answer;	/* 0: never */
	ClockTime	latency;		/* of the last answer */
	char		sqlstate[6];
	char		fault[256];		/* "" if the last request succeeded */
} StatusMember;

/* Published by the keeper at every change and at least every second. */
typedef struct KeeperStatus
{
	ClockTime	published_at;	/* 0: never */
	NodeState	state;
	char		node[LEASEHOLD_NAME_LEN];
	char		lease[LEASEHOLD_NAME_LEN];
	char		holder[LEASEHOLD_NAME_LEN];
	int64		epoch;			/* the highest known; while held, ours */
	ClockTime	deadline;		/* 0: not held here */
	int32		ttl_ms;
	int32		shortest_ttl_ms;	/* with those of tables; 0: none is known */
	char		kind[16];
	char		scope[16];
	char		sync_set[LEASE_SYNC_LEN];	/* of the row; see syncset.h */
	/* R12: why this instance may not take the lease, a sentence; or "" */
	char		candidacy_fault[256];
	ClockTime	last_renewal;	/* 0: none in this run */
	ClockTime	renewal_latency;
	char		reason[256];	/* why it is not held, a sentence; or "" */
	char		settings_fault[256];	/* why the last reload was not taken */
	uint64		incarnation;
	int			majority;
	int			nmembers;
	StatusMember member[LEASE_MEMBERS_MAX];
	Roster		roster;
	/* what follows from the settings and the ttl */
	ClockTime	margin;
	ClockTime	renew_interval;
	ClockTime	look_interval;
	ClockTime	observation;
} KeeperStatus;

/* One lease, node and change of hands as the store says. */
typedef struct SurveyLease
{
	char		name[LEASEHOLD_NAME_LEN];
	LeaseRow	row;
	char		kind[16];
	char		scope[16];
} SurveyLease;

/* Of a node that no lease governs: it replicates nothing with the group. */
#define ROLE_UNGOVERNED	"ungoverned"

typedef struct SurveyNode
{
	char		name[LEASEHOLD_NAME_LEN];
	uint64		incarnation;
	int64		beat;
	char		advertise[256];
	char		role[16];
	char		lsn[24];
	int32		timeline;
	int32		priority;
	char		version[32];
	ClockTime	beat_seen;		/* when the beat was last seen to change */
	bool		alive;			/* it changed within the observation time */
} SurveyNode;

typedef struct SurveyHistory
{
	char		lease[LEASEHOLD_NAME_LEN];
	int64		epoch;
	char		from_node[LEASEHOLD_NAME_LEN];
	char		to_node[LEASEHOLD_NAME_LEN];
	char		reason[128];
	int64		at_us;			/* microseconds since 1970, the store's clock */
} SurveyHistory;

#define SURVEY_HISTORY_MAX	128

/* Published by the keeper; sized by leases_max and peers_max. */
typedef struct Survey
{
	ClockTime	leases_at;		/* when read; 0: never */
	ClockTime	nodes_at;
	ClockTime	history_at;
	int			nleases;
	int			nnodes;
	int			nhistory;
	SurveyLease *lease;			/* [setting_leases_max] */
	SurveyNode *node;			/* [setting_peers_max] */
	SurveyHistory history[SURVEY_HISTORY_MAX];
} Survey;

/* What the prober has found out for the others: host names and addresses. */
#define ADDRESS_MAX		32
typedef struct Addresses
{
	ClockTime	resolved_at;	/* 0: never */
	int			n;
	struct
	{
		char		host[128];
		char		address[64];	/* numeric; a host may occur several times */
	}			entry[ADDRESS_MAX];
} Addresses;

/*
 * What must outlive this run (R11).  The keeper says what has to be written,
 * the steward writes and fsyncs it, and says what stands on disk.
 */
typedef struct DurableState
{
	char		node[LEASEHOLD_NAME_LEN];
	char		lease[LEASEHOLD_NAME_LEN];	/* governed by; "": never was */
	uint64		incarnation;	/* of the run that wrote it */
	bool		ended;			/* that run closed its fence and ended */
	int64		epoch;			/* the highest ever seen or used */
	int64		held_epoch;		/* the last one under which it was held */
	int64		table_epoch;	/* no table lease was used under a higher one */
	Roster		roster;			/* the last list adopted */
} DurableState;

/* What the keeper asks of the instance; the steward carries it out. */
typedef struct InstanceOrders
{
	int64		promote_under;	/* be promoted, under this epoch; or 0 */
	bool		superseded;		/* another node holds the lease of this primary */
	int64		superseded_by;	/* ... under this epoch */
	char		leader[LEASEHOLD_NAME_LEN]; /* writes now; "": nobody */
	char		leader_address[256];
	int32		leader_timeline;
	uint64		leader_begin;	/* where that branched off */
	int64		leader_epoch;
	bool		pinned;			/* the lease is of kind "physical" */
	bool		writes;			/* this node holds it, and may write */
	bool		manage_names;	/* keep synchronous_standby_names as follows */
	char		names[LEASEHOLD_NAME_LEN + 16];
} InstanceOrders;

/*
 * What the postmaster does when all else has ended: release the lease that the
 * keeper left to it.  Written by the keeper as it ends.
 */
typedef struct Farewell
{
	bool		release;
	char		lease[LEASEHOLD_NAME_LEN];
	int64		epoch;
	int64		version;		/* the last one written */
	int32		timeline;
	uint64		timeline_begin;
	char		sync_set[LEASE_SYNC_LEN];
} Farewell;

typedef struct SharedPage
{
	pg_atomic_uint32 changes;	/* odd while the page is being written */
	uint32		size;
	char	   *data;
} SharedPage;

extern PGDLLEXPORT void shared_publish(SharedPage *page, const void *data);

/* Copy a page; false (and zeroes) if it was never published or is torn. */
extern bool shared_read(SharedPage *page, void *data);

/* ------------------------------------------------------------------------
 * Between sessions and workers
 * ------------------------------------------------------------------------
 */

typedef enum KeeperAsk
{
	ASK_NOTHING,
	ASK_ACQUIRE,				/* take it when it is free, in spite of priority */
	ASK_RELEASE,
	ASK_LOOK					/* look at the store now */
} KeeperAsk;

/*
 * The request box.  Sessions fill it under the lock and wake the keeper, then
 * watch the status page; the keeper only compares "posted" with the last
 * number that it has served.
 */
typedef struct KeeperBox
{
	LWLock	   *lock;
	pg_atomic_uint64 posted;
	KeeperAsk	ask;
	char		lease[LEASEHOLD_NAME_LEN];	/* a table lease; "": the instance's */
	bool		force;
	ClockTime	until;			/* forget it after this moment */
} KeeperBox;

typedef struct WorkerSeat
{
	pg_atomic_uint64 latch;		/* Latch *, 0 when nobody sits here */
	pg_atomic_uint32 pid;
	pg_atomic_uint64 began;		/* ClockTime: when the last one set to work */
} WorkerSeat;

/*
 * Is it the server that ends, or the keeper alone?  A signal does not tell, and
 * the keeper may not look for itself, on the disk: it asks the steward.
 */
typedef enum EndQuestion
{
	END_NOT_ASKED,
	END_ASKED,
	END_OF_SERVER,
	END_OF_KEEPER
} EndQuestion;

typedef struct LeaseholdShared
{
	FenceShared fence;

	WorkerSeat	keeper;
	WorkerSeat	steward;
	WorkerSeat	prober;
	KeeperBox	box;

	/* pages; the writer in brackets */
	SharedPage	notice;			/* FenceNotice [keeper] */
	SharedPage	status;			/* KeeperStatus [keeper] */
	SharedPage	addresses;		/* Addresses [prober] */
	SharedPage	to_persist;		/* DurableState [keeper] */
	SharedPage	persisted;		/* DurableState [steward, postmaster] */
	SharedPage	instance;		/* Instance [steward] */
	SharedPage	orders;			/* InstanceOrders [keeper] */
	SharedPage	farewell;		/* Farewell [keeper] */
	LWLock	   *survey_lock;	/* the survey is too big for a page; the keeper
								 * takes it only conditionally */
	Survey	   *survey;

	/* this run */
	uint64		incarnation;
	uint64		previous;		/* R7: the run before, proven over; or 0 */

	/*
	 * What a keeper started anew within this run must know.  Written by the
	 * keeper before the message that makes it so is sent.
	 */
	pg_atomic_uint64 version;
	pg_atomic_uint64 closed_epoch;
	pg_atomic_uint64 highest_epoch;

	/* the steward's health stamp: when the instance was last seen healthy */
	pg_atomic_uint64 healthy_at;	/* ClockTime, 0: never */
	/* the keeper has all WAL flushed, by the steward, before it hands over */
	pg_atomic_uint64 flush_asked;	/* rises with every request */
	pg_atomic_uint64 flush_done;	/* the last one carried out ... */
	pg_atomic_uint64 flushed_to;	/* ... and how far that came */
	/* by place: a replication slot that a node of the group had [steward] */
	bool	   *slot_had_node;
	/* standbys must not follow this instance any more */
	pg_atomic_uint32 superseded;
	/* an EndQuestion: the keeper asks, the steward answers */
	pg_atomic_uint32 end_question;
	/* sessions may ask the steward to forget that a lease governs */
	pg_atomic_uint32 leave_asked;
	/* this run was told to leave the group: not to be registered again */
	pg_atomic_uint32 left;
	/* the NodeState that leasehold.role_command was last told of */
	pg_atomic_uint32 role_told;
	/* sessions may ask the keeper to read the nodes anew */
	pg_atomic_uint32 nodes_wanted;
	/* how far the workers that make the embedded store have come */
	pg_atomic_uint32 embedded_made;
} LeaseholdShared;

extern PGDLLEXPORT LeaseholdShared *leasehold_shared;	/* NULL if not preloaded */

/* Take a seat: whoever wakes the worker finds its latch there. */
extern void shared_take_seat(WorkerSeat *seat);

/* Fill the request box; "lease" is "" for the instance's. */
extern void shared_ask_keeper(KeeperAsk ask, const char *lease, bool force,
							  ClockTime until);

/* Is this instance governed by a lease? */
static inline bool
shared_is_governed(FenceShared *fence)
{
	return pg_atomic_read_u32(&fence->governed) != 0;
}

/* ------------------------------------------------------------------------
 * Access
 * ------------------------------------------------------------------------
 */

/* NULL if the library is not preloaded; test modules read it too */
extern PGDLLEXPORT FenceShared *fence_shared;

/*
 * shared_lease_epoch
 *		The epoch under which this node holds "lease" at this moment, 0 if it
 *		does not hold it.  *This* is the comparison that every backend makes
 *		itself.  Lock-free; reads the clock once.
 *
 * The clock may be read first: a deadline published since then has been moved
 * by a renewal under the same epoch, which says that the lease was held all the
 * while, or has come with a later epoch, which is told by its number; and to be
 * stopped here is no worse than to be stopped right after the comparison.
 */
static inline uint64
shared_lease_epoch(FenceLease *lease)
{
	uint64		now = (uint64) clock_now();
	uint64		deadline = pg_atomic_read_u64(&lease->deadline);
	uint64		epoch;

	pg_read_barrier();
	epoch = pg_atomic_read_u64(&lease->epoch);
	return now < deadline ? epoch : 0;
}

/* The writer's side: [keeper] */
extern void shared_publish_lease(FenceLease *lease, uint64 deadline, uint64 epoch);

/* Copy the notice for error messages; all empty if none was published. */
extern void shared_read_notice(FenceNotice *notice);

/* This process's place in fence_shared->backends. */
extern FenceBackend *shared_my_backend(void);

/* Wake the keeper (after lowering a flag while it drains). */
extern void shared_wake_keeper(void);
extern void shared_wake_steward(void);
extern void shared_wake_prober(void);

/*
 * shared_request_hooks
 *		Install the hooks that size and initialise shared memory.  Called from
 *		_PG_init() while the postmaster preloads.
 */
extern void shared_request_hooks(void);

#endif							/* LEASEHOLD_SHARED_H */
