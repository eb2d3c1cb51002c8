/*
 * walk.h
 *		One attempt to reach a node or a member, phase by phase: what was tried, and
 *		what was found.
 *
 * Layer 0: no server headers, no I/O.
 */
#ifndef LEASEHOLD_WALK_H
#define LEASEHOLD_WALK_H

#include <stdbool.h>
#include <stddef.h>

#include "cause.h"
#include "path.h"
#include "report.h"

typedef enum StepStatus
{
	STEP_NOT_REACHED,
	STEP_OK,
	STEP_FAILED
} StepStatus;

typedef struct WalkStep
{
	StepStatus	status;
	char		detail[192];	/* what was tried or found, a sentence */
	char		evidence[192];	/* as the other side or the system put it */
} WalkStep;

typedef struct Walk
{
	char		target[128];	/* a node's name, or a member's label */
	bool		member;
	char		host[256];		/* as written; "" if there is none */
	char		port[8];
	char		address[REPORT_ADDRESS_LEN];	/* numeric, that was tried last */
	char		from[REPORT_ADDRESS_LEN];	/* our own end of it */
	char		user[64];
	char		database[64];
	bool		encrypted;
	Fault		fault;			/* if the cause is one */
	PathPhase	phase;			/* how far it came */
	Cause		cause;			/* CAUSE_NONE if it arrived */
	WalkStep	step[PHASE_COUNT];
} Walk;

/* The text that a step's status is shown as: ok, failed, not reached. */
extern const char *walk_step_name(StepStatus status);

/*
 * walk_write
 *		The whole as text, for the store; false if there is no room.  No line of
 *		it is one of report.h.
 */
extern bool walk_write(char *buffer, size_t size, const Walk *walk);

/* The reverse; false if the text is none. */
extern bool walk_read(const char *text, Walk *walk);

#endif							/* LEASEHOLD_WALK_H */
