/*
 * opener.h
 *		The short-lived workers that see to the data of a table lease before its
 *		tables are opened: their parts, and the steward's, who starts them.
 *
 * Layer 4.
 */
#ifndef LEASEHOLD_OPENER_H
#define LEASEHOLD_OPENER_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "postmaster/bgworker.h"
#include "replication/origin.h"

#include "link.h"
#include "opening.h"

/* ------------------------------------------------------------------------
 * In the steward
 * ------------------------------------------------------------------------
 */

/* For each desk: its worker under way, or NULL; not to be started before "next". */
typedef struct Openers
{
	BackgroundWorkerHandle *worker[OPENING_DESKS_MAX];
	ClockTime	next[OPENING_DESKS_MAX];
} Openers;

extern void openers_init(Openers *openers);

/* Start a worker for each desk that needs one. */
extern void openers_step(Openers *openers, ClockTime now);

/* When to call openers_step() again if nothing happens. */
extern ClockTime openers_due(const Openers *openers);

/* ------------------------------------------------------------------------
 * Publishers, as the subscriptions of this database name them
 * ------------------------------------------------------------------------
 */

/* What a publisher is asked, one question at a time. */
typedef enum SourceQuestion
{
	SOURCE_NOTHING,
	SOURCE_NAMES,				/* which sequences it has for these columns */
	SOURCE_VALUES,				/* how far these are */
	SOURCE_POSITION				/* how far it has written */
} SourceQuestion;

/*
 * The publisher of one subscription, by its own connection string.  Lives as
 * long as the worker; which node it is does not change while it is connected.
 */
typedef struct Source
{
	Oid			subid;
	char	   *conninfo;		/* a secret: never shown */
	Link		link;
	ClockTime	failed_at;		/* when it was last found not to answer; or 0 */
	bool		known;			/* the next two, over this connection */
	char		node[LEASEHOLD_NAME_LEN];	/* "" if it does not say */
	char		sysid[24];
	SourceQuestion question;	/* under way, or answered */
	int			slot;			/* for whom ... */
	uint64		number;			/* ... and for which request of it */
	bool		done;
	PGresult   *result;			/* NULL if it could not be had, see link.fault */
} Source;

/* The source of this subscription; made if there is none. */
extern Source *source_find(Oid subid, const char *conninfo);

/*
 * source_identify
 *		Have it connected and identified by "deadline".  True once that is settled:
 *		it is known, or has failed since "since", and link.fault says how.
 */
extern bool source_identify(Source *source, ClockTime since, ClockTime deadline);

/* Is it this node?  False if it is not known. */
extern bool source_is_node(const Source *source, const char *node);

/* Does its string lead to where this address does, as far as both say it? */
extern bool source_is_at(const Source *source, const char *address);

/*
 * source_ask
 *		Have the question answered, for this request.  True once it is: then
 *		source->result holds rows, or is NULL.  False while it is under way, or
 *		another slot's question is.
 */
extern bool source_ask(Source *source, SourceQuestion question, int slot,
					   uint64 number, const char *sql, ClockTime deadline);

/* Make progress with all of them. */
extern void sources_poll(ClockTime now);

/* The socket of one that is busy; PGINVALID_SOCKET if none is. */
extern pgsocket sources_busy(uint32 *wants);

/* ------------------------------------------------------------------------
 * What a lease needs in this database
 * ------------------------------------------------------------------------
 */

/* A subscription that knows a table. */
typedef struct PlanWay
{
	Oid			subid;
	char	   *name;
	bool		enabled;
	bool		copied;			/* pg_subscription_rel says 'r' */
	RepOriginId origin;			/* InvalidRepOriginId: it never ran */
	Source	   *source;
	uint64		earlier;		/* how far its publisher has written, which is not
								 * the last writer but may be one of those before;
								 * 0: not known */
	uint64		come_to;		/* where it has come to, ... */
	TransactionId next_then;	/* ... as we first saw at this xid */
} PlanWay;

/* A table that holds rows, one protected or a descendant of one. */
typedef struct PlanTable
{
	Oid			root;			/* the protected one */
	char	   *name;			/* schema.name, quoted */
	List	   *ways;			/* of PlanWay */
	PlanWay    *way;			/* the one that brings it from where it was asked */
} PlanTable;

/* A sequence that fills a column of such a table, and the values of it. */
typedef struct PlanSequence
{
	Oid			oid;
	char	   *name;			/* schema.name, quoted */
	int64		increment;
	int64		minimum;
	int64		maximum;
	Oid			root;			/* of the first of its columns */
	char	   *table;
	char	   *column;
	List	   *maxima;			/* of char *: SELECT of the furthest value stored */
	char	   *remote;			/* name at the publisher; NULL if it has none */
	bool		told;			/* the publisher has told the next two */
	int64		remote_value;
	bool		remote_called;
} PlanSequence;

typedef struct OpeningPlan
{
	MemoryContext context;
	uint32		generation;		/* of the list of tables */
	OpeningKind kind;			/* of the request that it was made for */
	char		from[LEASEHOLD_NAME_LEN];
	char		address[256];	/* of that node, if it may be down; or "" */
	ClockTime	made_at;
	List	   *tables;
	List	   *sequences;
	bool		judged;			/* every table's way was found */
	bool		settled;		/* all is done that can be, ahead of its end */
} OpeningPlan;

/*
 * plan_make
 *		Read the catalogs: the tables of this slot's lease, their subscriptions and
 *		sequences.  NULL if the list of tables cannot be read now.  May raise an
 *		error; starts and ends a transaction.
 */
extern OpeningPlan *plan_make(int slot, const OpeningRequest *request);
extern void plan_free(OpeningPlan *plan);

/*
 * plan_judge
 *		Find the way by which each table is brought from node plan->from.  False,
 *		and "why" says it, if one is not.  The sources have to be settled.  One that
 *		handed its tables over and is gone by now is known by its address.
 */
extern bool plan_judge(OpeningPlan *plan, char *why);

/* Questions to this source about its sequences; NULL if there is nothing to ask. */
extern char *plan_names_sql(const OpeningPlan *plan, const Source *source);
extern char *plan_values_sql(const OpeningPlan *plan, const Source *source);

/*
 * Does any table come from this source, too, though another node is its last
 * writer, and is it not known yet how far this one has written?
 */
extern bool plan_wants_position(const OpeningPlan *plan, const Source *source);

/* Note what was answered. */
extern void plan_take_position(OpeningPlan *plan, const Source *source);
extern void plan_take_names(OpeningPlan *plan, const PGresult *result);
extern void plan_take_values(OpeningPlan *plan, const PGresult *result);

/*
 * SQL in this database, by SPI, in a transaction of its own.  A query that is not
 * a SELECT, or fails, is an error.  A text is NULL if it is null, and lives as
 * long as SPI's memory.
 */
extern void opener_begin_work(void);
extern void opener_end_work(void);
extern void opener_query(const char *sql, int nargs, Oid *types, Datum *values);
extern char *opener_text_at(uint64 row, int column);

/*
 * plan_move_sequences
 *		Set every sequence past what was given out elsewhere, as its publisher has
 *		told, else past what is stored here.  If there may be rows that were written
 *		elsewhere and are not here yet, "turn" is a number that this node has to
 *		itself, and every sequence goes on so far from there that it does not meet
 *		theirs; else it is PLAN_ALL_SEEN.  May raise an error; starts and ends a
 *		transaction.  The number of those whose publisher has not told.
 */
#define PLAN_ALL_SEEN	(-1)

extern int	plan_move_sequences(const OpeningPlan *plan, int turn);

/* ------------------------------------------------------------------------
 * How far a subscription has come
 * ------------------------------------------------------------------------
 */

typedef struct Progress
{
	bool		runs;			/* its apply worker does */
	uint64		seen;			/* all up to here is applied, and seen by everybody */
	uint64		committed;		/* the last commit applied, which may not be seen
								 * by others before this transaction has ended: */
	TransactionId committing;	/* ... the oldest within its commit, if any */
	int64		heard_ms;		/* since its last message; -1: none */
} Progress;

extern void progress_read(const PlanWay *way, Progress *progress);

/*
 * Is all applied, and seen by everybody, that its publisher had written up to here?
 * If not, "why" says how far it is, and *runs whether more may come.
 */
extern bool progress_come_to(PlanWay *way, uint64 lsn, bool *runs, char *why);

/* The short-lived workers' main function, found by name by the server. */
extern PGDLLEXPORT void leasehold_opener_main(Datum arg);

#endif							/* LEASEHOLD_OPENER_H */
