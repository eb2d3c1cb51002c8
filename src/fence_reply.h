/*
 * fence_reply.h
 *		What leaves for the client around a commit: nothing that a lost lease
 *		forbids.
 *
 * Layer 2.
 */
#ifndef LEASEHOLD_FENCE_REPLY_H
#define LEASEHOLD_FENCE_REPLY_H

#include "postgres.h"

#include "fence_notes.h"

#pragma GCC visibility push(hidden)	/* see fence.h */

/* Where this process stands between a commit and its answer. */
typedef enum FenceGate
{
	FENCE_GATE_OPEN,			/* nothing to hold back */
	FENCE_GATE_SHUT,			/* a commit is under way */
	FENCE_GATE_ANSWERING,		/* what passes now is the answer to it */
	FENCE_GATE_SILENT			/* the lease was found gone: for good */
} FenceGate;

extern FenceGate fence_gate;

/*
 * fence_reply_shut_gate
 *		From here on, and until the answer is out or the gate is opened, nothing
 *		is sent to the client unless "epoch" of the instance's lease (0: it does
 *		not matter) and those of the table leases noted as written are held at that
 *		moment; once one is not, nothing is sent any more at all.  At least one
 *		lease must be named.
 */
extern void fence_reply_shut_gate(uint64 epoch, const FenceNote *notes, int n);

/*
 * fence_reply_answer
 *		The commit is done: the gate opens by itself when its answer is out.
 *		Returns false if something had to be held back before.  Whether the
 *		lease is still held the caller has to ask.
 */
static inline bool
fence_reply_answer(void)
{
	if (likely(fence_gate == FENCE_GATE_SHUT))
		fence_gate = FENCE_GATE_ANSWERING;
	return fence_gate != FENCE_GATE_SILENT;
}

/* Returns false if something had to be held back meanwhile. */
extern bool fence_reply_open_gate(void);

/*
 * fence_reply_end
 *		Nothing more reaches the client, not even what is buffered, and the
 *		process ends at its next opportunity.  Never throws.
 */
extern void fence_reply_end(void);
extern void fence_reply_silence(void);

/*
 * fence_reply_is_confirmed
 *		With leasehold.zero_loss: does a standby have the transaction that has
 *		just become durable?  A wait for it may have been cancelled.
 */
extern bool fence_reply_is_confirmed(bool prepared);

#pragma GCC visibility pop

#endif							/* LEASEHOLD_FENCE_REPLY_H */
