/*
 * probe.h
 *		One path to a node or a member: walked phase by phase, then held.
 *
 * Layer 3.  Never blocks and resolves no names.  Faults are data.
 */
#ifndef LEASEHOLD_PROBE_H
#define LEASEHOLD_PROBE_H

#include "postgres.h"

#include "conninfo.h"
#include "link.h"
#include "walk.h"

/* Whom to reach, and what is known of the way there. */
typedef struct ProbeTarget
{
	const char *name;			/* a node's name, or a member's label */
	bool		member;
	const char *conninfo;		/* with this node's options */
	const Addresses *addresses; /* of all host names in it */
	const char *name_fault;		/* why a name has no address; or NULL */
	const char *sysid;			/* that the node has to have; "" if any will do */
} ProbeTarget;

/* What a node answers for itself: leasehold.identity(). */
typedef struct ProbeIdentity
{
	char		node[LEASEHOLD_NAME_LEN];
	char		sysid[24];
	char		role[16];
	char		state[16];
	int32		timeline;
} ProbeIdentity;

typedef enum ProbeStage
{
	PROBE_DOWN,
	PROBE_CONNECTING,
	PROBE_ASKING_WHO,			/* is leasehold there at all? */
	PROBE_ASKING_IDENTITY,
	PROBE_STANDS				/* arrived; the session is held */
} ProbeStage;

typedef struct Probe
{
	Link		link;
	ProbeStage	stage;
	ClockTime	began;			/* of the walk */
	ClockTime	deadline;		/* of the walk, or of the ping */
	ClockTime	asked;			/* of the ping under way; 0: none */
	ClockTime	sent;			/* of the last question */
	char		name[128];
	bool		member;
	char		wanted_sysid[24];
	ProbeIdentity identity;		/* as last answered; nodes only */
	Walk		walk;			/* of the present session, or of the last failure */
} Probe;

typedef enum ProbeEvent
{
	PROBE_NOTHING,
	PROBE_ARRIVED,				/* the walk has come to its end */
	PROBE_FAILED,				/* it has not: probe->walk says where and why */
	PROBE_ANSWERED,				/* a ping came back */
	PROBE_RESULT,				/* of what the owner has sent over probe->link */
	PROBE_LOST					/* a session that stood is gone: see probe->walk */
} ProbeEvent;

/*
 * probe_begin
 *		Walk the path anew: what stood before is closed.  False if that has failed
 *		at once.
 */
extern bool probe_begin(Probe *probe, const ProbeTarget *target, ClockTime now,
						ClockTime timeout);

/* A held session of a node is asked who it is. */
extern void probe_ping(Probe *probe, ClockTime now, ClockTime timeout);

/* Make progress.  *result is the owner's to clear, with PROBE_RESULT. */
extern ProbeEvent probe_poll(Probe *probe, ClockTime now, PGresult **result);

/* Say goodbye. */
extern void probe_close(Probe *probe);

#endif							/* LEASEHOLD_PROBE_H */
