/*
 * durable.h
 *		What this node must remember from one run to the next (R11).
 *
 * Layer 1.  One small file in the data directory, read by the postmaster when
 * shared memory is made and written by the steward alone.
 */
#ifndef LEASEHOLD_DURABLE_H
#define LEASEHOLD_DURABLE_H

#include "shared.h"

#define DURABLE_FILE	"leasehold.state"

typedef enum DurableProof
{
	DURABLE_ABSENT,				/* there is no file: never governed */
	DURABLE_BROKEN,				/* there is one that cannot be read */
	DURABLE_COPY,				/* another directory's, or another boot's */
	DURABLE_OURS				/* this very directory's last run wrote it */
} DurableProof;

/*
 * durable_read
 *		Read the file in the current (data) directory.  Whoever runs on this
 *		directory now proves, by the server's own interlock, that the run which
 *		wrote DURABLE_OURS is over.  Zeroes *state unless it could be read.
 */
extern DurableProof durable_read(DurableState *state);

/*
 * durable_write
 *		Write it and flush it to disk before returning.  May block; returns
 *		false (having logged why) if it could not.
 */
extern bool durable_write(const DurableState *state);

#endif							/* LEASEHOLD_DURABLE_H */
