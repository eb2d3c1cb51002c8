/*
 * keeper.h
 *		The keeper's own state, shared by the files that make up the keeper.
 *
 * Layer 4.  keeper.c is the loop and the life of the process, keeper_member.c
 * the conversation with one member, keeper_chores.c what it is about besides the
 * leases, keeper_list.c what the members make up
 * together, keeper_drain.c giving the lease up, keeper_publish.c what others get
 * to see; of a primary and its standbys, keeper_instance.c what this instance is
 * and shall become, keeper_sync.c whom commits wait for.
 */
#ifndef LEASEHOLD_KEEPER_H
#define LEASEHOLD_KEEPER_H

#include "postgres.h"

#include "candidacy.h"
#include "conninfo.h"
#include "election.h"
#include "lease.h"
#include "link.h"
#include "roster.h"
#include "shared.h"
#include "store.h"
#include "syncset.h"

/* What is under way with a member. */
typedef enum MemberTask
{
	TASK_NONE,
	TASK_IDENTIFY,				/* what server is it? */
	TASK_SESSION,				/* session settings, LISTEN */
	TASK_LEASE,					/* a LeaseRequest */
	TASK_BEAT,
	TASK_JOIN,
	TASK_SETTLE,
	TASK_NODES,
	TASK_LEASES,
	TASK_HISTORY,
	TASK_NOTIFY,
	TASK_ANSWER,
	/* of leases of tables */
	TASK_BATCH,
	TASK_MEMBERSHIPS,
	TASK_PROTECTIONS,
	TASK_KNOWN,
	TASK_READY,
	TASK_TABLE_ANSWER,
	TASK_FAILBACK
} MemberTask;

typedef struct KeeperMember
{
	Conninfo	conninfo;
	Link		link;
	bool		ready;			/* identified, session prepared */
	MemberTask	task;
	bool		batched;		/* the last thing but chores was a batch */
	LeaseRequest request;		/* of TASK_LEASE */
	ClockTime	sent_at;
	ClockTime	rest_until;		/* back-off after a failure */
	ClockTime	backoff;
	char		role_told[16];	/* by our last heartbeat */
	char		peer[96];		/* address it was last reached at (R14) */
	StoreServer server;
	StoreHead	head;
	bool		head_known;
	RosterStanding standing;
	NameWatch	name;			/* R8: our own node row there */
	ClockTime	settle_at;		/* when to tell it again that its list is settled */
	ClockTime	beat_at;		/* when the last heartbeat was sent */
	bool		notify_due;
	bool		answer_due;
	ClockTime	last_answer;
	ClockTime	latency;
	char		sqlstate[6];
	char		fault[256];
	bool		write_fault;	/* it was a write that failed */
} KeeperMember;

/* Why the fence is being closed on purpose. */
typedef enum DrainWhy
{
	DRAIN_NONE,
	DRAIN_RELEASE,				/* leasehold.release() */
	DRAIN_HANDOVER,				/* switchover: undone if it takes too long */
	DRAIN_UNHEALTHY,
	DRAIN_NOT_PROMOTED,			/* this standby could not be promoted */
	DRAIN_RENAMED,				/* leasehold.lease names another lease */
	DRAIN_SHUTDOWN,
	DRAIN_ORPHANED				/* the postmaster is dead */
} DrainWhy;

typedef struct Keeper
{
	LeaseState	lease;
	char		name[LEASEHOLD_NAME_LEN];	/* of the lease; "": none */
	char		kind[16];
	char		scope[16];
	StoreNode	self;
	int			n;
	KeeperMember *member;		/* [LEASE_MEMBERS_MAX] */
	MemoryContext config_context;	/* parsed connection strings */
	MemoryContext cycle_context;	/* reset at every turn of the loop */
	Addresses	addresses;

	/* R10, R11 */
	Roster		roster;			/* counted by, and on disk */
	Roster		roster_next;	/* adopted, not yet on disk */
	DurableState persisted;
	DurableState to_persist;

	/* settings as last taken */
	int			margin_ms;
	int			renew_ms;
	int			look_ms;
	char		settings_fault[256];
	ClockTime	renamed_since;	/* the settings name another lease; or 0 */

	/* requests */
	uint64		box_served;
	ClockTime	acquire_until;	/* somebody asked for it until then */
	bool		acquire_forced; /* ... in spite of lag and priority */
	int64		handled_seq;	/* the last hand-over request dealt with */
	int64		waiting_seq;	/* one that waits for the nodes to be read ... */
	ClockTime	waiting_since;	/* ... since when */
	char		answer[STORE_REASON_LEN];	/* why it was refused */

	/* giving up */
	DrainWhy	drain_why;
	ClockTime	drain_until;
	bool		orphaned;
	ClockTime	asked_to_end;	/* SIGTERM: when; or 0 */
	bool		ending;			/* with the server, or orphaned */
	ClockTime	end_at;

	/* health */
	bool		fit;			/* nothing but a lease's own affairs stands against it */
	ClockTime	health_timeout;
	ClockTime	health_grace;	/* holds until the first stamp after ... */
	ClockTime	health_changed_at;	/* ... the timeout changed */

	/* this instance, in a group of a primary and standbys */
	Instance	instance;
	Candidacy	candidacy;
	InstanceOrders orders;
	InstanceOrders orders_told; /* as last published */
	ClockTime	promotion_at;	/* when it last made progress; or 0 */
	uint64		promotion_replayed;
	uint64		flush_asked;	/* during a drain; or 0 */
	SyncSet		sync;			/* while holding */
	int64		sync_epoch;		/* ... under this epoch */

	/* what is known of the others */
	Candidate  *candidate;		/* [setting_peers_max] */
	int			ncandidates;
	SurveyNode *node;			/* [setting_peers_max] */
	int			nnodes;
	ClockTime	nodes_at;		/* when the nodes were last asked for */
	ClockTime	nodes_read;		/* when those that we know were asked for */
	ClockTime	nodes_wanted;	/* somebody waits for what is read after this */
	ClockTime	leases_at;
	ClockTime	history_at;
	int64		history_epoch;
	int64		history_moves;	/* of leases of tables, when it was read */

	struct KeeperTables *tables;	/* keeper_tables.h */

	/* measurements */
	ClockTime	last_renewal;
	ClockTime	renewal_latency;

	/* waiting */
	WaitEventSet *wait_set;
	bool		sockets_changed;
	KeeperStatus status;		/* as last published */
} Keeper;

/* ---- keeper_member.c ---- */

/* Read whatever has come in from the member, and act on it. */
extern void member_poll(Keeper *keeper, int i);

/* Connect if it is time to; send the next thing there is to say. */
extern void member_advance(Keeper *keeper, int i, ClockTime now);

/* When member_advance() has to be called again if nothing happens. */
extern ClockTime member_due(Keeper *keeper, int i, ClockTime now);

/* Is anything that was sent still without an answer, or unsent? */
extern bool member_release_pending(const Keeper *keeper, int i);

/* Drop the connection; what was under way is ambiguous (R5). */
extern void member_close(Keeper *keeper, int i, ClockTime now);

/* ---- keeper_chores.c ---- */

/* Is there anything besides the leases to say to this member? */
extern MemberTask keeper_next_chore(const Keeper *keeper, int i, ClockTime now);
extern bool keeper_send_chore(Keeper *keeper, int i, MemberTask task,
							  ClockTime now, ClockTime deadline);

/* When there will be. */
extern ClockTime keeper_chore_due(const Keeper *keeper, int i, ClockTime now);

/* ---- keeper_list.c ---- */

/* How long a member has for an answer: so that a second attempt fits the ttl. */
extern ClockTime keeper_request_timeout(const Keeper *keeper);

/* A session with the member stands, or is gone; is it counted? */
extern void keeper_set_reachable(Keeper *keeper, int i, bool reachable,
								 bool counted);

/* Judge all members by the present list, and go over to another (R10). */
extern void members_judge(Keeper *keeper);

/* How this run stands to its name over all counted members (R8). */
extern NameVerdict members_name_verdict(const Keeper *keeper, ClockTime now);

/* ---- keeper_publish.c ---- */

/* The deadline for every backend.  Before any message that promises less. */
extern void publish_fence(Keeper *keeper);

/* Status and notice, if they changed or a second has passed. */
extern void publish_status(Keeper *keeper, ClockTime now);

/*
 * What is said, and shown, alike of the instance's lease and of those of tables:
 * why it is not held, a sentence, or "" where each says it in words of its own;
 * and what a node is that does not hold it.
 */
extern const char *keeper_plain_reason(LeaseReason reason, const char *holder);
extern NodeState keeper_follower_state(LeaseReason reason);

/* Rows read from the store, for the views. */
extern void publish_nodes(Keeper *keeper, const PGresult *result,
						  ClockTime asked_at, ClockTime now);
extern void publish_leases(Keeper *keeper, const PGresult *result, ClockTime now);
extern void publish_history(Keeper *keeper, const PGresult *result, ClockTime now);

/* ---- keeper_drain.c ---- */

#define DRAIN_MAX		(2 * CLOCK_S)

/*
 * Close the fence, for this reason, and release the lease once no commit is
 * under way any more, or after "limit" (a hand-over is undone then).
 */
extern void keeper_begin_drain(Keeper *keeper, DrainWhy why,
							   const char *reserve_for, ClockTime limit,
							   ClockTime now);
extern void keeper_follow_drain(Keeper *keeper, ClockTime now);

/*
 * Is no backend between the check before a commit and its end, with a
 * transaction that concerns one of these leases (FENCE_BIT_ of tables.h)?
 */
extern bool keeper_is_drained(uint32 leases);

/* Does the row stay this node's, for its next run? */
extern bool keeper_keeps_row(const Keeper *keeper);

/* Before the keeper ends: what the postmaster is to do when it ends. */
extern void keeper_leave_farewell(const Keeper *keeper);

/* What sessions of this instance ask for, and what people ask in the store. */
extern void keeper_serve_box(Keeper *keeper, ClockTime now);
extern void keeper_follow_handover(Keeper *keeper, ClockTime now);

/* ---- keeper_sync.c ---- */

/* Whom commits wait for, and who may therefore take over (zero_loss). */
extern void keeper_follow_sync(Keeper *keeper, ClockTime now);

/* The hand-over's target has all that was acknowledged. */
extern void keeper_sync_handed(Keeper *keeper);

/* ---- keeper_instance.c ---- */

/* Take in what this instance is and how far it has come. */
extern void keeper_look_at_instance(Keeper *keeper);

/* R12: may it take the lease; if not, why? */
extern bool keeper_is_candidate(Keeper *keeper);
extern const char *keeper_why_no_candidate(const Keeper *keeper);

/* The role that the others are told. */
extern void keeper_choose_role(Keeper *keeper);
extern bool keeper_is_ungoverned(const Keeper *keeper);
extern bool keeper_has_no_lease(const Keeper *keeper);

/* How long to let better candidates go first. */
extern ClockTime keeper_stagger(const Keeper *keeper);

/* Tell the steward what is to become of the instance. */
extern void keeper_order_instance(Keeper *keeper, ClockTime now);

/* Does somebody else hold the lease whose address is not known yet? */
extern bool keeper_misses_leader(const Keeper *keeper);

/* Handing over: can it be begun, may it be finished? */
extern uint64 keeper_peer_position(const char *node);
extern const char *keeper_why_not_hand_to(Keeper *keeper, const char *node);
extern bool keeper_is_flushed(Keeper *keeper);

/* The reason that goes into the history with a release or an acquire. */
extern const char *keeper_release_reason(const Keeper *keeper);
extern const char *keeper_acquire_reason(const Keeper *keeper, int i);

#endif							/* LEASEHOLD_KEEPER_H */
