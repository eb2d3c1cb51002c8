/*
 * compare.h
 *		Is this node's log what the holder has at the same place?
 */
#ifndef REJOIN_COMPARE_H
#define REJOIN_COMPARE_H

#include "holder.h"
#include "node.h"

/*
 * compare_log
 *		False only if the last part of the log before "end", on that timeline
 *		and not before "begin", is different at the holder.  What cannot be
 *		read, here or there, is not different.
 */
extern bool compare_log(const Node *node, const Local *local,
						const Holder *holder, uint32 timeline,
						XLogRecPtr begin, XLogRecPtr end);

#endif							/* REJOIN_COMPARE_H */
