/*
 * path.h
 *		What is known of the path from this node to another: does it stand, since
 *		when, how fast, and where it ends if it does not.
 *
 * Layer 0: no server headers, no I/O; time is an argument.
 */
#ifndef LEASEHOLD_PATH_H
#define LEASEHOLD_PATH_H

#include <stdbool.h>
#include <stdint.h>

#include "clock.h"

/* What a connection goes through, in this order. */
typedef enum PathPhase
{
	PHASE_RESOLVE,				/* the name has an address */
	PHASE_CONNECT,				/* the address answers */
	PHASE_TLS,					/* encryption, as both sides want it */
	PHASE_AUTHENTICATE,			/* pg_hba.conf, role, password */
	PHASE_SESSION,				/* database, connection slots, a running server */
	PHASE_READY					/* the right server, with the extension */
} PathPhase;
#define PHASE_COUNT		(PHASE_READY + 1)

typedef enum PathStatus
{
	PATH_UNKNOWN,				/* not probed yet */
	PATH_OK,
	PATH_DEGRADED,				/* stands, much slower than before or hardly in time */
	PATH_FLAPPING,				/* comes and goes */
	PATH_UNREACHABLE
} PathStatus;

#define PATH_BUCKETS		81	/* of latencies, 20 us to 20 s: four for each factor of two */
#define PATH_RECENT			8

/* A path flaps that has changed so often within so many intervals. */
#define FLIPS_TO_FLAP		4
#define FLAP_INTERVALS		12

typedef struct Path
{
	PathStatus	status;
	/* of the last failure, if unreachable or flapping; READY and 0 if it stands */
	PathPhase	phase;
	int			cause;			/* a Cause of cause.h */
	ClockTime	since;			/* of the status */
	ClockTime	last_ok;		/* 0: never */
	ClockTime	latency;		/* of the last success */
	int			failures;		/* in a row */
	bool		up;				/* the last probe succeeded */
	/* when "up" changed last, the newest first; 0: never */
	ClockTime	flip[FLIPS_TO_FLAP];
	/* latencies: of late, and those before, of long ago with less and less weight */
	ClockTime	recent[PATH_RECENT];	/* the newest first */
	int			nrecent;
	uint16_t	bucket[PATH_BUCKETS];
	uint16_t	weight;			/* of all buckets */
} Path;

/* What somebody might be told of. */
typedef enum PathChange
{
	PATH_SAME,
	PATH_CHANGED,				/* the status is another one */
	PATH_CAUSE_CHANGED			/* unreachable as before, for another reason */
} PathChange;

/* By what a path is judged. */
typedef struct PathRules
{
	ClockTime	interval;		/* from one probe to the next */
	ClockTime	timeout;		/* of one probe */
} PathRules;

extern void path_init(Path *path, ClockTime now);

/*
 * path_succeeded, path_failed
 *		One probe has ended at "now".  A path that has changed between up and down at
 *		least FLIPS_TO_FLAP times within FLAP_INTERVALS intervals is flapping, and stays
 *		so until it has not changed for that long; that is one PATH_CHANGED when it
 *		begins and one when it ends.  What a path that has never been probed becomes
 *		is no such change.
 */
extern PathChange path_succeeded(Path *path, ClockTime now, ClockTime latency,
								 const PathRules *rules);
extern PathChange path_failed(Path *path, ClockTime now, PathPhase phase,
							  int cause, const PathRules *rules);

/*
 * path_quantile
 *		The latency that "percent" of all probes were no slower than, within a fifth
 *		(that of the bucket's upper edge, so never less than it was) from 20 us to 20 s;
 *		0 if none has succeeded yet.
 */
extern ClockTime path_quantile(const Path *path, int percent);

/* Their names in views; the reverse gives -1 for what is none. */
extern const char *path_phase_name(PathPhase phase);
extern const char *path_status_name(PathStatus status);
extern int	path_phase_of(const char *name);
extern int	path_status_of(const char *name);

#endif							/* LEASEHOLD_PATH_H */
