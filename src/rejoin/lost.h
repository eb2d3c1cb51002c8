/*
 * lost.h
 *		What this node wrote and the group never received.
 */
#ifndef REJOIN_LOST_H
#define REJOIN_LOST_H

#include "holder.h"
#include "node.h"

/* What was done to one relation by transactions that committed. */
typedef struct LostRelation
{
	unsigned int tablespace;
	unsigned int database;
	unsigned int file;
	bool		created;		/* in the lost part: the holder does not know it */
	int64		inserted;
	int64		updated;
	int64		deleted;
	int64		other;			/* records that are not rows: indexes, sequences */
	char	   *name;			/* as the holder knows it, or NULL */
} LostRelation;

/* A stretch of one timeline. */
typedef struct LostRange
{
	uint32		timeline;
	uint64		from;
	uint64		to;				/* where the last record ends; 0: none */
	bool		readable;
} LostRange;

typedef struct Lost
{
	uint32		timeline;		/* where it begins */
	uint64		from;
	uint64		to;				/* where the last record ends */
	int64		records;
	int64		commits;
	int64		prepared;
	char	   *first_commit;	/* the time, as the log says it */
	char	   *last_commit;
	bool		readable;		/* could all of it be read? */
	int			n_ranges;
	LostRange  *range;
	int			n_strangers;	/* history files of branches that the holder */
	char	  **stranger;		/* does not know, and the server would take */
	int			n_relations;
	LostRelation *relation;
} Lost;

/*
 * lost_read
 *		Read, by pg_waldump, what the data directory's log has beyond the fork.
 */
extern void lost_read(const Node *node, const Local *local,
					  const PlanFork *fork, Lost *lost);

/*
 * lost_read_ahead
 *		The same for a directory that only has to follow: all that the server
 *		would replay from pg_wal, though its control file knows nothing of it,
 *		and that is not in the holder's history.  That is the log of every
 *		timeline that the holder has left, from where it did, and of timelines
 *		that it never was on.
 */
extern void lost_read_ahead(const Node *node, const Local *local,
							const PlanFork *fork, const PlanHistory *theirs,
							Lost *lost);

/* Ask the holder for the relations' names; those that it knows. */
extern void lost_find_names(Lost *lost, const Holder *holder);

/* Tell people. */
extern void lost_tell(const Lost *lost);

/*
 * lost_directory
 *		Where that log is, or will be, kept.
 */
extern char *lost_directory(const Node *node, const Lost *lost);

/*
 * lost_keep
 *		Copy that part of the log there, with a report; "anew" replaces copies
 *		of an earlier run.  lost_put_back() brings copies back into pg_wal.
 */
extern void lost_keep(const Node *node, const Local *local, const Lost *lost,
					  const char *directory, bool anew);
extern void lost_put_back(const Node *node, const char *directory);

/* Did any client perhaps rely on what is lost? */
extern bool lost_matters(const Lost *lost);

/*
 * lost_set_aside
 *		Move, rather than copy, what a standby has received of it, so that it
 *		does not apply it.  May be interrupted and repeated.
 */
extern void lost_set_aside(const Node *node, const Local *local,
						   const Lost *lost, const char *directory);

#endif							/* REJOIN_LOST_H */
