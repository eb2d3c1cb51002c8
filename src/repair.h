/*
 * repair.h
 *		Operations from a fixed list, performed by this node on itself.
 *
 * Layer 4.
 */
#ifndef LEASEHOLD_REPAIR_H
#define LEASEHOLD_REPAIR_H

#include "postgres.h"

#include "remedy.h"

/*
 * repair_begin
 *		Have a worker perform what another node asks for.  NULL if it is under way,
 *		else why not, a piece of a sentence.
 */
extern const char *repair_begin(const char *from, const char *arguments);

/* What came of it, palloc'd; NULL while it is under way. */
extern char *repair_answer(void);

#define REPAIR_ANSWER_LEN 1024
extern uint64 repair_ask(RemedyAction action, const char *source);
extern bool repair_take(uint64 number, char *answer, Size size);

#endif							/* LEASEHOLD_REPAIR_H */
