/*
 * syncset.h
 *		Which standby has every acknowledged write (leasehold.zero_loss).
 *
 * The lease row names the nodes that may take the lease after its holder: the
 * set.  What is promised: a node in the set has every write that was ever
 * acknowledged, at every instant.  So the server waits for a standby before the
 * set may grow by it, and the set has shrunk at a majority of the store before
 * the server waits for it no longer.
 *
 * Here one standby at a time is waited for; the others replicate as they can.
 *
 * Layer 0: no server headers.
 */
#ifndef LEASEHOLD_SYNCSET_H
#define LEASEHOLD_SYNCSET_H

#include "lease.h"

/*
 * What the row says: "" where nothing was ever promised under this epoch, else a
 * number that rises with every change, and then "=" and the set: "3=" is the
 * holder alone, "4=b" the holder and b.  "5" without "=" promises nothing.
 */
extern int64_t syncset_serial(const char *set);

/* The node beside the holder: "" for none; NULL where nothing is promised. */
extern const char *syncset_node(const char *set);

/* Waited for where there is no standby and writes have to wait for one. */
#define SYNCSET_NOT_YET			"leasehold_nobody_yet"

typedef enum SyncMode
{
	SYNC_OFF,
	SYNC_ON,					/* go on alone when no standby is left */
	SYNC_STRICT					/* wait for one */
} SyncMode;

/* A standby as the holder sees it. */
typedef struct SyncPeer
{
	char		name[LEASE_NAME_LEN];
	bool		streaming;
	bool		waited_for;		/* its walsender knows that it is waited for */
	uint64_t	flushed;
} SyncPeer;

typedef struct SyncView
{
	SyncMode	mode;
	const SyncPeer *peer;
	int			n;
	bool		waits;			/* the server waits for somebody at all */
	uint64_t	written;		/* how far this server has written */
	bool		told;			/* a majority of the store has the set */
} SyncView;

typedef struct SyncSet
{
	/* what is to be */
	char		wait_for[LEASE_NAME_LEN];	/* the server's setting; "": nobody */
	char		set[LEASE_SYNC_LEN];	/* the row's */
	int32_t		serial;
	/* how far it has come */
	bool		in_force;		/* everybody waits for the one */
	uint64_t	barrier;		/* what it has to have by then */
	uint64_t	awaited;		/* a position, to see whether it goes on ... */
	ClockTime	awaited_since;	/* ... since then */
	char		given_up[LEASE_NAME_LEN];	/* until it has ... */
	uint64_t	given_up_at;	/* ... what it failed to confirm */
} SyncSet;

/*
 * A holder begins: nothing is promised by anybody but itself.  "serial" is above
 * all numbers that were used under its epoch; 0 at the beginning of an epoch.
 */
extern void syncset_begin(SyncSet *sync, SyncMode mode, int32_t serial);

/*
 * syncset_step
 *		What to wait for and what to promise next.  A standby that confirms
 *		nothing for "patience" is given up, unless the mode is strict and there
 *		is no other.
 */
extern void syncset_step(SyncSet *sync, const SyncView *view,
						 ClockTime patience, ClockTime now);

/* May this node take the lease, by the set that the row names? */
extern bool syncset_allows(const char *set, const char *node);

/* The holder knows that "node" has all that was acknowledged, and stops. */
extern void syncset_hand_to(SyncSet *sync, const char *node);

#endif							/* LEASEHOLD_SYNCSET_H */
