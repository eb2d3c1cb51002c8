/*
 * names.h
 *		Names that several programs have to make in the same way.
 *
 * Layer 0: no server headers.
 */
#ifndef LEASEHOLD_NAMES_H
#define LEASEHOLD_NAMES_H

#include <stddef.h>

#define SLOT_NAME_LEN	64		/* with the final NUL, as the server has it */
#define SLOT_PREFIX		"leasehold_"

/*
 * leasehold_slot_name
 *		The replication slot that keeps WAL for a node.  A slot's name has fewer
 *		characters than a node's: what does not fit is replaced, and a hash of
 *		the node's name tells such slots apart.
 */
extern void leasehold_slot_name(const char *node, char *slot, size_t size);

#endif							/* LEASEHOLD_NAMES_H */
