/*
 * fence_signal.h
 *		default_transaction_read_only as clients see it: "on" while fenced.
 *
 * Layer 2.  A signal for drivers, poolers and balancers; never the fence.
 */
#ifndef LEASEHOLD_FENCE_SIGNAL_H
#define LEASEHOLD_FENCE_SIGNAL_H

#include "postgres.h"

#pragma GCC visibility push(hidden)	/* see fence.h */

/* What the client was last told: 0 (not fenced), 1 (fenced), -1 (unknown). */
extern int	fence_signal_last;

/* Take over how the setting is shown; called once, at installation. */
extern void fence_signal_install(void);

/* Have the setting reported anew before the next ReadyForQuery. */
extern void fence_signal_report(bool fenced);

/* Called with every statement: tell the client if it does not know yet. */
static inline void
fence_signal(bool fenced)
{
	if (unlikely((int) fenced != fence_signal_last))
		fence_signal_report(fenced);
}

#pragma GCC visibility pop

#endif							/* LEASEHOLD_FENCE_SIGNAL_H */
