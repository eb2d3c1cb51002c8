/*
 * restore.h
 *		Bringing a data directory that has diverged to the holder's history.
 */
#ifndef REJOIN_RESTORE_H
#define REJOIN_RESTORE_H

#include "holder.h"
#include "node.h"
#include "work.h"

/*
 * restore_recover
 *		End crash recovery, as pg_rewind wants it, but without letting the
 *		server remove the log that pg_rewind has to read.  False: it failed.
 */
extern bool restore_recover(const Node *node);

/*
 * restore_rewind
 *		Run pg_rewind; the node's own files are back in place when it returns.
 *		False if it failed.
 */
extern bool restore_rewind(Work *work, const Node *node,
						   const Holder *holder);

/* Go on after an interruption, or a rewind that had just ended. */
extern void restore_finish(Work *work, const Node *node);

/*
 * restore_backup
 *		Take a base backup beside the data directory and put it in its place.
 *		Failure ends the program.  restore_check_backup() does so where putting
 *		it in its place would not be enough.
 */
extern void restore_check_backup(const Node *node);
extern void restore_backup(Work *work, const Node *node,
						   const Holder *holder);

/* The exchange of the two directories, from wherever it stands. */
extern void restore_swap(Work *work, const Node *node);

#endif							/* REJOIN_RESTORE_H */
