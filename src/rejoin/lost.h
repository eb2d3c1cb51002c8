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
	int			n_relations;
	LostRelation *relation;
} Lost;

/*
 * lost_read
 *		Read, by pg_waldump, what the data directory's log has beyond the fork.
 */
extern void lost_read(const Node *node, const Local *local,
					  const PlanFork *fork, Lost *lost);

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
 *		Move, rather than copy, what a standby has received of it and not
 *		applied, so that it does not apply it.
 */
extern void lost_set_aside(const Node *node, const Local *local,
						   const Lost *lost, const char *directory);

#endif							/* REJOIN_LOST_H */
