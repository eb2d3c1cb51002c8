/*
 * opening.h
 *		Between taking a table lease and writing its tables: what has to be true
 *		of the data before the fence opens.
 *
 * Layer 1: the part in shared memory, between the keeper, who asks and never
 * waits, and the short-lived workers (opener.c) that have a session in the
 * databases concerned.  They see to it that the writes of the node that held the
 * lease before have been applied here, and that the sequences of the tables are
 * past all that it has given out.
 *
 * Each slot has one request, written by the keeper alone; each database with
 * tables of a lease that was ever asked for has a desk, with one worker at most
 * and its answers to the requests, one place for each slot.  What all the desks
 * concerned have answered is put together by who asks.  No locks: whoever is
 * stopped holds up nobody but itself.
 */
#ifndef LEASEHOLD_OPENING_H
#define LEASEHOLD_OPENING_H

#include "postgres.h"

#include "tables.h"

typedef enum OpeningState
{
	OPENING_NONE,				/* nobody asked, or it was forgotten */
	OPENING_PENDING,
	OPENING_READY,
	OPENING_FAILED				/* "why" says so, a phrase without a period */
} OpeningState;

#define OPENING_WHY_LEN		128

/* Databases with tables of leases that are being opened, at one time. */
#define OPENING_DESKS_MAX	16

/* A worker has so much time; the keeper grants a little more to hear of it. */
#define OPENING_TIME		(4500 * CLOCK_MS)

typedef enum OpeningKind
{
	OPENING_NO_REQUEST,
	OPENING_TO_PREPARE,
	OPENING_TO_BEGIN
} OpeningKind;

typedef struct OpeningRequest
{
	uint64		number;			/* rises with every request of this slot */
	OpeningKind kind;
	int64		key;			/* number of the hand-over, or epoch */
	char		from[LEASEHOLD_NAME_LEN];
	char		address[256];
	uint64		lsn;
	uint32		how;			/* OPENING_ flags of opening_begin() */
	uint32		desks;			/* which of them are concerned, a bit each */
	ClockTime	asked_at;
	ClockTime	until;
	bool		refused;		/* failed at once, "why" */
	char		why[OPENING_WHY_LEN];
} OpeningRequest;

/* Of one desk to the request of one slot. */
typedef struct OpeningAnswer
{
	pg_atomic_uint64 done;		/* number of the request * 4 + OpeningState */
	char		why[OPENING_WHY_LEN];
} OpeningAnswer;

typedef struct OpeningDesk
{
	char		database[NAMEDATALEN];	/* "": not given yet */
	WorkerSeat	seat;
	pg_atomic_uint32 left;		/* the last worker went because there was nothing
								 * more to do */
	OpeningAnswer *answer;		/* [setting_leases_max] */
} OpeningDesk;

typedef struct OpeningShared
{
	SharedPage *request;		/* [setting_leases_max], OpeningRequest [keeper] */
	OpeningDesk desk[OPENING_DESKS_MAX];
} OpeningShared;

extern PGDLLEXPORT OpeningShared *leasehold_opening;	/* NULL if not preloaded */

extern Size opening_size(void);
extern void opening_attach(void);

/* ------------------------------------------------------------------------
 * For the keeper
 * ------------------------------------------------------------------------
 */

/*
 * opening_prepare
 *		Request "seq" wants the lease in this slot handed here from node "from"
 *		(reached by "address"): get ready, so that nothing takes long once it
 *		closes its fence.  opening_prepared() says how that went.  To ask the same
 *		again changes nothing, but for one that failed more than a second ago: then
 *		it is tried anew.
 */
extern PGDLLEXPORT void opening_prepare(int slot, int64 seq, const char *from,
										const char *address);
extern PGDLLEXPORT OpeningState opening_prepared(int slot, int64 seq, char *why);

/*
 * opening_begin
 *		The lease in this slot was taken under "epoch".  "from": who wrote under it
 *		last, that is, whose fence was open; this node itself, if it was the last
 *		(also if another node held it since and never came to write): then nothing
 *		is to be done; "" if that is not known, then whoever it was prepared from
 *		counts.  "lsn": how far "from" had written when it closed its fence,
 *		all of which has to be applied; 0 if it fell silent, or nobody held it: then
 *		it is only looked how far this node has come, and said in the log, sequences
 *		are moved on with a margin for what may come yet, and it does not fail.  Ends
 *		within OPENING_TIME and a little.
 *
 *		"how": OPENING_HANDED, it was handed to this node, right after that was
 *		prepared; OPENING_DOUBT, yet another node has held it since, which may have
 *		written and did not come to say so: the margin is for its rows.
 */
#define OPENING_HANDED		1
#define OPENING_DOUBT		2

extern PGDLLEXPORT void opening_begin(int slot, int64 epoch, const char *from,
									  const char *address, uint64 lsn,
									  uint32 how);
extern PGDLLEXPORT OpeningState opening_state(int slot, int64 epoch, char *why);

/* Nothing is to be waited for any more. */
extern PGDLLEXPORT void opening_forget(int slot);

/* ------------------------------------------------------------------------
 * For the workers and the steward, who starts them
 * ------------------------------------------------------------------------
 */

/*
 * opening_read
 *		A copy of the request of this slot, if this desk has something to do with
 *		it and has not answered yet; else false.
 */
extern bool opening_read(int desk, int slot, OpeningRequest *request);

/* Is there anything that this desk has not answered yet? */
extern bool opening_wanted(int desk);

/* Answer a request; wakes the keeper.  By the worker, or when there is none. */
extern void opening_answer(int desk, int slot, uint64 number,
						   OpeningState state, const char *why);

/* Answer whatever this desk has not answered, since there is no worker for it. */
extern void opening_give_up(int desk, const char *why);

#endif							/* LEASEHOLD_OPENING_H */
