/*
 * fence_refuse.h
 *		What is said when the fence refuses, or would have.
 *
 * Layer 2.
 */
#ifndef LEASEHOLD_FENCE_REFUSE_H
#define LEASEHOLD_FENCE_REFUSE_H

#include "postgres.h"

#include "compat.h"

#include "nodes/plannodes.h"

/*
 * Each throws ERROR 25006 in enforce mode, and logs and returns in warn mode.
 * "held" is the epoch held at this moment, 0 if none.
 */
extern void fence_refuse_statement(const char *command, const void *statement,
								   uint64 held);
extern void fence_refuse_commit(uint64 held, bool seen);
extern void fence_refuse_prepared(const char *gid, uint64 prepared, uint64 held);

/* ERROR 55006, in every mode. */
extern void fence_refuse_drop(void);

/* In warn mode: has this very statement been logged already? */
extern bool fence_already_warned(const void *statement);

/* Lines in the log. */
extern void fence_log_local_ddl(const PlannedStmt *pstmt);

/* Why a client is not told of a commit that is durable. */
typedef enum FenceWithheld
{
	WITHHELD_LOST,				/* the lease was lost while it became durable */
	WITHHELD_ANSWER,			/* ... or before the answer had left */
	WITHHELD_UNCONFIRMED		/* no standby has it for sure (zero_loss) */
} FenceWithheld;

/*
 * Call it when output to the client is silenced: this is for the log alone.
 * "lease" is that of a table; NULL is the instance's.
 */
extern void fence_log_withheld(FenceWithheld why, const char *lease);

/*
 * fence_feeds_standbys
 *		May this instance send WAL to others?  A fenced primary still writes (hint
 *		bits, running transactions), and a standby that gets more of it than the
 *		one that is being elected could not follow that one.
 */
extern bool fence_feeds_standbys(void);

/* FATAL: this primary feeds nobody. */
COMPAT_NORETURN extern void fence_refuse_standby(void);

#endif							/* LEASEHOLD_FENCE_REFUSE_H */
