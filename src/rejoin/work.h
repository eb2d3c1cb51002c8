/*
 * work.h
 *		What a run notes beside the data directory, so that another one can go
 *		on after an interruption: how far it came, and the node's own files.
 */
#ifndef REJOIN_WORK_H
#define REJOIN_WORK_H

#include "node.h"

typedef enum WorkPhase
{
	WORK_NONE,
	WORK_REWINDING,				/* pages may be of either history */
	WORK_REWOUND,				/* own files have to come back */
	WORK_SWAPPING				/* a new copy takes the directory's place */
} WorkPhase;

typedef struct Work
{
	char	   *directory;
	WorkPhase	phase;
	uint32		timeline;		/* of the holder that is, or was, rewound to */
	char	   *kept;			/* where the lost log is, or "" */
	char	   *fresh;			/* swapping: the new copy ... */
	char	   *old;			/* ... and where the old directory goes */
} Work;

/* Read what an earlier run left, if any. */
extern void work_open(Work *work, const Node *node);

/* Note a phase, on disk. */
extern void work_note(Work *work, WorkPhase phase);

/* It is done with, or no longer true. */
extern void work_close(Work *work);

/* Did the interrupted rewind come to its end? Is the note still true at all? */
typedef enum WorkProgress
{
	WORK_UNFINISHED,
	WORK_FINISHED,
	WORK_OVERTAKEN				/* somebody did something else since */
} WorkProgress;

extern WorkProgress work_progress(const Work *work, const Node *node);

/*
 * work_save_own, work_restore_own
 *		The node's own files in the data directory: its configuration, what it
 *		includes, certificates, leasehold.state; its log apart.  Restoring also takes
 *		away what came from elsewhere, and may be repeated.  pg_rewind does not
 *		get on with symbolic links among them: work_remove_links() takes them
 *		away until then.
 */
extern void work_save_own(Work *work, const Node *node);
extern void work_save_log(const Work *work, const Node *node);
extern void work_remove_links(const Node *node);
extern void work_restore_own(const Work *work, const Node *node,
							 const char *datadir);

#endif							/* REJOIN_WORK_H */
