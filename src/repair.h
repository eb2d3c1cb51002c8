/*
 * repair.h
 *		Operations from a fixed list, performed by this node on itself.
 *
 * Layer 4.  Whoever asks names the operation, and the node whose path to this one is
 * to be mended; what else it takes this node knows itself, from that node's report.
 */
#ifndef LEASEHOLD_REPAIR_H
#define LEASEHOLD_REPAIR_H

#include "postgres.h"

#include "clock.h"
#include "remedy.h"

/* No request takes longer. */
#define REPAIR_MAX	(30 * CLOCK_S)

/* ---- for the prober ---- */

/*
 * repair_begin
 *		Node "from" asks for it, with "ACTION<TAB>SOURCE", and the store says whether
 *		it may.  NULL if it is taken up, else why not, a piece of a sentence.  Never waits; if something else is
 *		being repaired, this begins when that has ended.
 */
extern const char *repair_begin(const char *from, const char *arguments, bool may);

/*
 * repair_answer
 *		Go on with what was begun.  What came of it, palloc'd; NULL while it is under
 *		way: ask again soon.  "ok\t" and what was done, or "error\t" and why not.
 */
extern char *repair_answer(void);

/* ---- for sessions ---- */

/*
 * repair_ask, repair_take, repair_drop
 *		Have it done at the wish of this session; the caller sees to it that it may.
 *		The number 0 means that something else is being repaired just now.  False
 *		means that it has not ended yet; the session's latch is set when it has.  Who
 *		waits no more drops it, so that others have their turn; what has begun goes
 *		on.
 */
extern uint64 repair_ask(RemedyAction action, const char *source);
extern bool repair_take(uint64 number, char *answer, Size size);
extern void repair_drop(uint64 number);

/* The worker's main function, found by name by the server. */
extern PGDLLEXPORT void leasehold_repairer_main(Datum arg);

#endif							/* LEASEHOLD_REPAIR_H */
