/*
 * opening.h
 *		Between taking a table lease and writing its tables: what has to be true
 *		of the data before the fence opens.
 *
 * Layer 1: the part in shared memory, between the keeper, who asks and never
 * waits, and the short-lived workers (opener.c) that have a session in the
 * databases concerned.  They see to it that the writes of the node that held the
 * lease before have been applied here, and that the sequences of the tables are
 * past all that it has given out.
 */
#ifndef LEASEHOLD_OPENING_H
#define LEASEHOLD_OPENING_H

#include "postgres.h"

#include "tables.h"

typedef enum OpeningState
{
	OPENING_NONE,				/* nobody asked, or it was forgotten */
	OPENING_PENDING,
	OPENING_READY,
	OPENING_FAILED				/* "why" says so, a phrase without a period */
} OpeningState;

#define OPENING_WHY_LEN		128

extern Size opening_size(void);
extern void opening_attach(void);

/*
 * opening_prepare
 *		Request "seq" wants the lease in this slot handed here from node "from"
 *		(reached by "address"): get ready, so that nothing takes long once it
 *		closes its fence.  opening_prepared() says how that went.
 */
extern void opening_prepare(int slot, int64 seq, const char *from,
							const char *address);
extern OpeningState opening_prepared(int slot, int64 seq, char *why);

/*
 * opening_begin
 *		The lease in this slot was taken under "epoch".  "lsn": how far "from" had
 *		written when it closed its fence, all of which has to be applied; 0 if it
 *		fell silent, or nobody held it: then it is only looked how far this node
 *		has come, and said in the log.
 */
extern void opening_begin(int slot, int64 epoch, const char *from,
						  const char *address, uint64 lsn);
extern OpeningState opening_state(int slot, int64 epoch, char *why);

/* Nothing is to be waited for any more. */
extern void opening_forget(int slot);

#endif							/* LEASEHOLD_OPENING_H */
