/*
 * repair.h
 *		Operations from a fixed list, performed by this node on itself.
 *
 * Layer 4.
 */
#ifndef LEASEHOLD_REPAIR_H
#define LEASEHOLD_REPAIR_H

#include "postgres.h"

/*
 * repair_begin
 *		Have a worker perform what another node asks for.  NULL if it is under way,
 *		else why not, a piece of a sentence.
 */
extern const char *repair_begin(const char *from, const char *arguments);

/* What came of it, palloc'd; NULL while it is under way. */
extern char *repair_answer(void);

#endif							/* LEASEHOLD_REPAIR_H */
