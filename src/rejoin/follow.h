/*
 * follow.h
 *		Making a data directory that of a standby of the holder.
 */
#ifndef REJOIN_FOLLOW_H
#define REJOIN_FOLLOW_H

#include "holder.h"
#include "node.h"

/* Is all of it set already? */
extern bool follow_is_set(const Node *node, const Local *local,
						  const Holder *holder);

/* Write standby.signal, primary_conninfo and primary_slot_name. */
extern void follow_set(const Node *node, const Holder *holder,
					   const char *datadir);

#endif							/* REJOIN_FOLLOW_H */
