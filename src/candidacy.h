/*
 * candidacy.h
 *		May this instance take a lease of kind "physical" (R12)?
 *
 * One server of the group is the primary, the others follow it.  Whoever takes
 * the lease next must have come by the timeline on which the last holder wrote,
 * and far enough along it; else what that one acknowledged would be gone, or two
 * histories would go on side by side.
 *
 * Layer 0: no server headers.
 */
#ifndef LEASEHOLD_CANDIDACY_H
#define LEASEHOLD_CANDIDACY_H

#include "lease.h"
#include "timeline.h"

#define INSTANCE_SYSID_LEN	LEASE_SYSID_LEN

/* What is known of this instance. */
typedef struct Instance
{
	bool		known;			/* has it been looked at? */
	bool		in_recovery;
	bool		standby;		/* ... and told to follow another server */
	char		sysid[INSTANCE_SYSID_LEN];
	TimelineHistory history;
	int64_t		held_epoch;		/* the last one under which this data directory
								 * held the lease (kept on disk) */
	uint64_t	position;		/* received and flushed, or written and flushed */
} Instance;

typedef enum Candidacy
{
	CANDIDACY_FIT,
	CANDIDACY_UNKNOWN,			/* the instance has not been looked at yet */
	CANDIDACY_RECOVERING,		/* it replays its own WAL after a crash, or a
								 * backup: what becomes of it is open */
	CANDIDACY_OTHER_SYSTEM,		/* not a copy of this group's database */
	CANDIDACY_NEVER_HELD,		/* the first holder is the primary */
	CANDIDACY_DIVERGED,			/* it has not come by the holder's timeline */
	CANDIDACY_PROMOTED,			/* it became a primary outside the lease */
	CANDIDACY_NO_PROMOTION,		/* leasehold.promote is off */
	CANDIDACY_LAGS,				/* behind by more than leasehold.max_lag */
	CANDIDACY_NOT_SYNCHRONOUS	/* it may lack what was acknowledged */
} Candidacy;

#define CANDIDACY_NO_LIMIT	UINT64_MAX

/*
 * candidacy_judge
 *		Judge the instance by the row that the last holder left.
 *		"max_lag" in bytes.  "forced" by a person: then lag does not matter, nor
 *		that the instance became a primary outside the lease; the rest does.
 *		Nor does force help a standby that the synchronous set does not name.
 */
extern Candidacy candidacy_judge(const Instance *instance, const LeaseRow *row,
								 const char *node, bool promote,
								 uint64_t max_lag, bool forced);

/* How far it is behind the last holder, in bytes; 0 if it is not. */
extern uint64_t candidacy_lag(const Instance *instance, const LeaseRow *row);

/*
 * candidacy_is_superseded
 *		Is this instance a primary whose lease another node took?  Whoever
 *		follows it follows a timeline that may be dead.
 */
extern bool candidacy_is_superseded(const Instance *instance,
									const LeaseRow *row, const char *node);

#endif							/* LEASEHOLD_CANDIDACY_H */
