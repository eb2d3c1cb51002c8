/*
 * names.h
 *		Names that are made of a node's name.
 *
 * Layer 0: no server headers.
 */
#ifndef LEASEHOLD_NAMES_H
#define LEASEHOLD_NAMES_H

#define LEASEHOLD_SLOT_NAME_LEN	64	/* with the final NUL */
#define LEASEHOLD_SLOT_PREFIX	"leasehold_"	/* all of these begin so */

/*
 * leasehold_slot_name
 *		The physical replication slot that every member of a group keeps for
 *		the node: "leasehold_" and the node's name.  Slots allow fewer
 *		characters than nodes do; where one had to be replaced or the name is
 *		too long, a hash of the whole name keeps two nodes apart.
 *
 *		Part of what stands on disk at other nodes: never change what it gives.
 */
extern void leasehold_slot_name(const char *node,
								char slot[LEASEHOLD_SLOT_NAME_LEN]);

#endif							/* LEASEHOLD_NAMES_H */
