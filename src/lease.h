/*
 * lease.h
 *		The lease protocol of one node and one lease, as a pure state machine.
 *
 * This is where the safety argument is read: (state, what was seen, now) goes
 * in, (state, what to send, the deadline to publish) comes out.  Nothing here
 * does I/O, allocates or looks at a clock.  The keeper owns one LeaseState per
 * lease and carries out what it says; the rule numbers R1 to R14 are those of
 * docs/protocol.md.
 *
 * How the caller drives it:
 *
 *		lease_saw() / lease_replied() / lease_failed()	when something arrives
 *		lease_tick()									then, and at lease_wakeup()
 *		publish lease_deadline()						after every one of these
 *		lease_next() for each idle member				then: publish again, send
 *
 * The order of the last line matters (R13): a message that promises less than
 * what was promised before cuts the deadline when lease_next() hands it out,
 * and the cut has to be published before the message leaves.  So does when
 * the clock is read: after an answer was taken from the network, or the row
 * would seem to have stood still while this process was stopped (R2); and
 * before a request is put there (R3).
 *
 * Layer 0: no server headers.
 */
#ifndef LEASEHOLD_LEASE_H
#define LEASEHOLD_LEASE_H

#include "clock.h"

#define LEASE_NAME_LEN		64
#define LEASE_SYSID_LEN		24
#define LEASE_SYNC_LEN		(LEASE_NAME_LEN + 16)
#define LEASE_MEMBERS_MAX	9
#define LEASE_TTL_MIN_MS	200
#define LEASE_TTL_MAX_MS	3600000
#define LEASE_RATE_PPM		500 /* assumed bound of a clock's rate error */

/* R12: where somebody last wrote, of those who held a lease of kind "physical". */
typedef struct LeaseWrote
{
	int32_t		timeline;		/* 0: not known */
	uint64_t	begin;			/* where that branched off; 0: not known */
	int64_t		epoch;			/* under which; 0: nobody has yet */
	uint64_t	lsn;			/* how far; 0: not known */
	char		sync_set[LEASE_SYNC_LEN];	/* who has all of it; see syncset.h */
} LeaseWrote;

/* What a member says about the lease. */
typedef struct LeaseRow
{
	bool		present;		/* is there such a row, and not dropped? */
	/* the register: every write to one of these raises the version */
	char		holder[LEASE_NAME_LEN]; /* "": released, or never held */
	uint64_t	incarnation;
	int64_t		epoch;
	int64_t		version;
	int32_t		ttl_ms;
	bool		frozen;
	char		reserved_for[LEASE_NAME_LEN];	/* a hand-over's target */
	/* of kind "physical": the database that it governs, and how far its holder
	 * had written (R12) */
	bool		pinned;
	char		sysid[LEASE_SYSID_LEN];
	LeaseWrote	wrote;
	/* requests of people: change neither epoch nor version */
	int64_t		request_seq;	/* rises with every request */
	int32_t		ttl_wanted_ms;
	bool		pause_wanted;
	char		handover_to[LEASE_NAME_LEN];
	int64_t		ready_seq;		/* the request that its target is ready for */
} LeaseRow;

typedef enum LeaseOp
{
	LEASE_OP_NONE,
	LEASE_OP_LOOK,				/* read the row */
	LEASE_OP_ACQUIRE,
	LEASE_OP_RENEW,
	LEASE_OP_RELEASE
} LeaseOp;

/* One statement to send to one member. */
typedef struct LeaseRequest
{
	LeaseOp		op;
	int64_t		epoch;			/* the epoch written or renewed */
	int64_t		version;		/* the version written */
	int64_t		guard_epoch;	/* acquire: the row as it was observed */
	int64_t		guard_version;
	int32_t		ttl_ms;
	bool		frozen;			/* what is written; release: thaw it as well */
	bool		reclaim;		/* acquire: our own previous run's row (R7) */
	char		reserved_for[LEASE_NAME_LEN];	/* release */
	LeaseWrote	wrote;			/* renew, release: R12 */
	char		from[LEASE_NAME_LEN];	/* acquire: whose it was, for history */
	ClockTime	sent_at;		/* set by lease_next() */
} LeaseRequest;

/* What the state machine knows of one member. */
typedef struct LeaseMember
{
	bool		reachable;		/* a session stands */
	bool		counted;		/* its identity is on our list (R6, R10) */
	bool		forgot;			/* it has lost its memory (R6) */
	bool		seen;			/* row is what it last said */
	bool		look_now;		/* its row may have changed under us */
	bool		in_flight;
	bool		occupied;		/* the caller's: its session is busy otherwise */
	bool		refuses;		/* the caller's: it can be read, but not written */
	bool		discard;		/* the answer under way no longer counts */
	int64_t		tried_epoch;	/* an acquire under this epoch was sent */
	int64_t		refused_epoch;	/* ... and its guards refused it */
	int64_t		failed_epoch;	/* ... and an error came back, or nothing */
	LeaseRequest sent;			/* the last request, in flight or not */
	LeaseRow	row;
	ClockTime	seen_at;
	ClockTime	unchanged_since;	/* when this (epoch, version) was first seen */
	ClockTime	retry_at;		/* after an error: not before */
	ClockTime	looked_at;		/* when the last look was sent */
	ClockTime	renewed_at;		/* when the last acquire or renewal went */
	ClockTime	contribution;	/* R3: this member lets nobody else take the
								 * lease before this moment; 0: no promise */
} LeaseMember;

typedef enum LeasePhase
{
	LEASE_FOLLOWER,
	LEASE_ACQUIRING,
	LEASE_HOLDER,
	LEASE_DRAINING,				/* fence closed, renewals go on, not yet let go */
	LEASE_RELEASING				/* the release is under way */
} LeasePhase;

/* Why this node does not hold the lease; a sentence is made of it elsewhere. */
typedef enum LeaseReason
{
	LEASE_REASON_NONE,			/* it holds it */
	LEASE_REASON_STARTING,		/* nothing was read yet */
	LEASE_REASON_NO_MAJORITY,	/* too few members answer */
	LEASE_REASON_UNKNOWN_LEASE, /* a majority answers, none knows the lease */
	LEASE_REASON_HELD,			/* another node holds it */
	LEASE_REASON_WAITING,		/* held once; its time has not run out */
	LEASE_REASON_FROZEN,		/* paused, and not ours to take */
	LEASE_REASON_RESERVED,		/* being handed to another node */
	LEASE_REASON_NOT_ABLE,		/* see why the caller said so */
	LEASE_REASON_NOT_EAGER,		/* free, but left to others */
	LEASE_REASON_UNWRITABLE,	/* free, but too few members can be written */
	LEASE_REASON_BACKING_OFF,	/* lost a race */
	LEASE_REASON_MARGIN,		/* the safety margin eats the ttl */
	LEASE_REASON_DISK,			/* the epoch is not durable here yet */
	LEASE_REASON_EXPIRED		/* the deadline passed without a majority */
} LeaseReason;

typedef struct LeaseState
{
	/* identity: set once */
	char		node[LEASE_NAME_LEN];
	uint64_t	incarnation;
	uint64_t	previous;		/* the run before this one of this very data
								 * directory, proven to be over (R7); or 0 */
	/* settings: the caller may change them at any time */
	int32_t		margin_setting_ms;	/* 0: derived from the ttl */
	int32_t		renew_setting_ms;	/* 0: ttl / 5 */
	int32_t		look_setting_ms;	/* 0: ttl / 20 within 20..500 */
	bool		able;			/* may this node hold it at all? */
	bool		eager;			/* does it take it by itself? */
	ClockTime	stagger;		/* how long to let better candidates go first */
	ClockTime	not_before;		/* back-off after an attempt that failed */
	ClockTime	abstain_until;	/* after a release: leave it to others */
	ClockTime	ahead;			/* send what is due this much later, too */
	int64_t		durable_epoch;	/* highest epoch written to disk (R1) */
	bool		writable;		/* the instance is out of recovery ... */
	int32_t		timeline;		/* ... on this timeline ... */
	uint64_t	timeline_begin; /* (which branched off there) */
	uint64_t	lsn;			/* ... and has written and flushed so far */
	char		sync_set[LEASE_SYNC_LEN];	/* ... which these nodes have, too */
	bool		set_unknown;	/* that is not known yet: leave the rows alone */
	/* members */
	int			list_size;		/* length of the agreed list; majority is of
								 * this; 0: no list is known yet */
	int			nmembers;		/* members this node has an address for */
	LeaseMember member[LEASE_MEMBERS_MAX];
	/* the protocol */
	LeasePhase	phase;
	LeaseReason reason;
	int64_t		epoch;			/* acquired, or being acquired */
	int64_t		closed_epoch;	/* never again count an epoch up to this one */
	int64_t		highest_epoch;	/* ever seen or used */
	int64_t		version;		/* the last version written by this node */
	int32_t		ttl_ms;			/* what renewals promise */
	bool		frozen;			/* what renewals promise (R9) */
	bool		pinned;			/* R12: the lease is of kind "physical" */
	int64_t		told_epoch;		/* R12: under this epoch a majority knows our
								 * timeline */
	LeaseWrote	found;			/* what the row said when it was taken */
	ClockTime	carry;			/* a deadline that outlives a change of the
								 * member list or of the keeper process */
	ClockTime	retake_at;		/* when to stop waiting for the node that the
								 * lease was handed to; or 0 */
	ClockTime	free_since;		/* when a majority became takeable; or 0 */
	ClockTime	phase_since;
	ClockTime	setback;		/* grows with attempts that failed by errors */
	char		reserve_for[LEASE_NAME_LEN];	/* to whom it is released */
	uint64_t	random;			/* state of the generator for back-off */
} LeaseState;

/*
 * lease_init
 *		A follower that has seen nothing.  "previous" is 0 unless R7's proof is
 *		at hand; "seed" feeds the random back-off.
 */
extern void lease_init(LeaseState *lease, const char *node,
					   uint64_t incarnation, uint64_t previous, uint64_t seed);

/*
 * lease_set_members
 *		Another list of members, or the first (R10).  All observation starts
 *		anew (R14); a deadline already earned is kept as the carry, because no
 *		one who counts by the new list can take the lease before it.
 */
extern void lease_set_members(LeaseState *lease, int nmembers, int list_size);

/* The member's address or timeline changed: its rows are watched anew (R14). */
extern void lease_restart_observation(LeaseState *lease, int member);

/*
 * A session with the member stands, or is gone; is the member on our list?
 * What it promised before stands in either case.
 */
extern void lease_set_reachable(LeaseState *lease, int member,
								bool reachable, bool counted);

/* R6: the member is not what it was; its promises are void. */
extern void lease_forgotten(LeaseState *lease, int member);

/* The answer to a look. Returns false if the member has lost its memory (R6). */
extern bool lease_saw(LeaseState *lease, int member, const LeaseRow *row,
					  ClockTime now);

/*
 * lease_replied
 *		The answer to an acquire, renew or release: the row as written if it
 *		took effect, NULL if the guards kept it from doing so.
 */
extern void lease_replied(LeaseState *lease, int member, const LeaseRow *row,
						  ClockTime now);

/* No answer, or an error: it may or may not have taken effect (R5). */
extern void lease_failed(LeaseState *lease, int member, ClockTime now);

/* Let time pass: lose, win, abandon, begin to acquire. */
extern void lease_tick(LeaseState *lease, ClockTime now);

/*
 * What lease_next() would have sent to this member now; "ahead" brings renewals
 * and looks forward, so that those of many leases go together.
 */
extern LeaseOp lease_wants(const LeaseState *lease, int member, ClockTime now);

/*
 * lease_ahead
 *		By how much a request of this kind may come early, to go with others: half
 *		the interval, so that those of many leases fall into one step.  0 for what
 *		is never early.
 */
extern ClockTime lease_ahead(const LeaseState *lease, LeaseOp op);

/*
 * lease_next
 *		What to send to this member now, if anything; notes it as in flight.
 *		Publish lease_deadline() before it leaves.
 */
extern bool lease_next(LeaseState *lease, int member, ClockTime now,
					   LeaseRequest *request);

/*
 * The moment after which this node may not write; 0 if it does not hold it, or
 * not yet: R12, of a physical group nobody writes before a majority knows on
 * which timeline, or else a node without these writes might come to hold it.
 */
extern ClockTime lease_deadline(const LeaseState *lease);

/* When to call lease_tick() and lease_next() again if nothing arrives. */
extern ClockTime lease_wakeup(const LeaseState *lease, ClockTime now);

/* The epoch that has to be on disk before an acquire can be sent (R1, R11). */
extern int64_t lease_epoch_to_persist(const LeaseState *lease);

/*
 * Giving it up: begin_drain closes the fence while renewals go on; then either
 * drained (release it, to "reserve_for" if not empty) or undo_drain (the holder
 * stays holder: nothing was said to anybody).  lease_close() gives up at once,
 * without a word to the store until lease_next() cleans up.
 */
extern bool lease_begin_drain(LeaseState *lease, const char *reserve_for,
							  ClockTime now);
extern void lease_drained(LeaseState *lease, ClockTime now);
extern bool lease_undo_drain(LeaseState *lease, ClockTime now);
extern void lease_close(LeaseState *lease, ClockTime now);

/*
 * lease_resume_epoch
 *		A keeper started anew within one run of the postmaster: go on with what
 *		its predecessor left in shared memory.
 */
extern void lease_resume_epoch(LeaseState *lease, int64_t epoch,
							   int64_t closed_epoch, int64_t highest_epoch,
							   int64_t version, ClockTime deadline);

/*
 * The most recent request of people, over all members; NULL if none was seen.
 * Its number is nobody else's.
 */
extern const LeaseRow *lease_request(const LeaseState *lease);

/* Counting */
extern int	lease_majority(const LeaseState *lease);
extern int	lease_members_seen(const LeaseState *lease);
/* The row of the highest (epoch, version) seen; NULL if none was seen. */
extern const LeaseRow *lease_best_row(const LeaseState *lease);

/*
 * R12: where somebody wrote last, of all who may have.  The best row need not
 * know: a holder may win a member after it has begun to write.  And what only a
 * minority was told has never been used.
 */
extern LeaseWrote lease_wrote(const LeaseState *lease, ClockTime now);

/* Derived durations, in nanoseconds, for a ttl in ms. */
extern ClockTime lease_margin(const LeaseState *lease, int32_t ttl_ms);
extern ClockTime lease_observation(const LeaseState *lease, int32_t ttl_ms);
extern ClockTime lease_renew_interval(const LeaseState *lease);
extern ClockTime lease_look_interval(const LeaseState *lease);

#endif							/* LEASEHOLD_LEASE_H */
