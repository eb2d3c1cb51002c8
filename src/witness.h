/*
 * witness.h
 *		What all nodes have said of a path, as far as it was said late enough.
 *
 * Layer 4.
 */
#ifndef LEASEHOLD_WITNESS_H
#define LEASEHOLD_WITNESS_H

#include "postgres.h"

#include "paths.h"
#include "shared.h"
#include "verdict.h"

/*
 * witness_lost_at
 *		Since when the source has not reached the target, as this node's clock says;
 *		the present moment if it has not noticed yet.
 */
extern ClockTime witness_lost_at(const Paths *paths, const char *source,
								 const char *target);

/*
 * witness_hear
 *		Fill in what source, target and all others say; what was said before the path
 *		was lost is not evidence.  False: somebody has not had the time to notice, and
 *		more may be known soon.
 */
extern bool witness_hear(Witnesses *witnesses, const Paths *paths,
						 const Survey *survey, const char *source,
						 const char *target, ClockTime lost_at);

#endif							/* LEASEHOLD_WITNESS_H */
