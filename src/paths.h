/*
 * paths.h
 *		What the prober shows the others: this node's paths, what the other nodes say
 *		of theirs, outages, and the walks that sessions ask for.
 *
 * Layer 1.  Too big for a page: an LWLock guards it.  The prober takes it only
 * conditionally and tries again soon, so that a session that was stopped while
 * it read does not stop the prober.
 */
#ifndef LEASEHOLD_PATHS_H
#define LEASEHOLD_PATHS_H

#include "postgres.h"

#include "port/atomics.h"
#include "storage/lwlock.h"

#include "lease.h"
#include "path.h"
#include "remedy.h"
#include "report.h"
#include "settings.h"
#include "walk.h"

/* One path of this node. */
typedef struct PathEntry
{
	char		target[128];	/* a node's name, or a member's label */
	bool		member;
	Path		path;
	char		sqlstate[6];
	char		error[256];		/* of the last failure; "" if the path stands */
	char		address[REPORT_ADDRESS_LEN];
	char		from[REPORT_ADDRESS_LEN];
	bool		encrypted;
} PathEntry;

/* What a node, this one too, said of itself and its paths; see report.h. */
typedef struct PathReport
{
	char		node[LEASEHOLD_NAME_LEN];
	uint64		incarnation;
	int64		seq;			/* rises, with every prober of one incarnation */
	uint64		other;			/* another incarnation, whose last word was read ... */
	int64		other_seq;		/* ... and that was this one */
	ClockTime	seen;			/* when it was seen to change */
	char	   *text;			/* report_text_size() bytes */
} PathReport;

#define OUTAGES_OWN			256
#define OUTAGES_STORE		256

typedef struct PathOutage
{
	char		source[LEASEHOLD_NAME_LEN];
	char		target[128];
	int64		began_us;		/* microseconds since 1970 by the source's clock */
	int64		ended_us;		/* 0: it lasts */
	PathPhase	phase;
	Cause		cause;
	char		error[128];
	uint32		version;		/* rises with every change; 0: no outage */
} PathOutage;

typedef enum WalkAsk
{
	WALK_FREE,
	WALK_ASKED,					/* by a session */
	WALK_RUNNING,				/* the prober is at it */
	WALK_DONE					/* the session takes the result */
} WalkAsk;

#define WALKS_MAX	8

typedef struct WalkBox
{
	WalkAsk		ask;
	uint64		number;			/* of the request */
	int			pid;			/* of the session; gone: the box is free */
	char		target[128];
	ClockTime	until;			/* nobody waits for it after this moment */
	Walk		walk;
} WalkBox;

typedef enum RepairState
{
	REPAIR_FREE,
	REPAIR_ASKED,				/* a worker is to come */
	REPAIR_RUNNING,				/* ... and is at it */
	REPAIR_DONE					/* whoever asked takes the answer */
} RepairState;

#define REPAIR_ANSWER_LEN	1024

/* What this node is asked to repair on itself; one thing at a time. */
typedef struct RepairBox
{
	RepairState state;
	uint64		number;			/* of the request */
	RemedyAction action;
	char		source[LEASEHOLD_NAME_LEN]; /* whose path to us is to be mended */
	char		by[LEASEHOLD_NAME_LEN]; /* the node or the role that asks */
	bool		by_node;
	int			pid;			/* of the session that asks */
	ClockTime	until;			/* nobody waits for it after this moment; 0: no more */
	char		answer[REPAIR_ANSWER_LEN];
} RepairBox;

/* Lines of pg_hba.conf that peers meet here, as text of report.h. */
#define HBA_TEXT_SIZE	16384

typedef struct Paths
{
	LWLock	   *lock;
	/* by the prober: */
	ClockTime	published_at;	/* 0: never */
	int			nentries;
	PathEntry  *entry;			/* [paths_entries_max()] */
	int			nreports;		/* the first is this node's own */
	PathReport *report;			/* [setting_peers_max + 1] */
	int			next_outage;	/* in the ring */
	PathOutage	outage[OUTAGES_OWN];	/* of this node; a ring */
	ClockTime	outages_at;		/* when those of the store were read; 0: never */
	int			noutages;
	PathOutage	store_outage[OUTAGES_STORE];	/* of all nodes, newest first */
	/* by the worker that reads pg_hba_file_rules: */
	ClockTime	hba_at;			/* 0: never */
	char		hba[HBA_TEXT_SIZE];
	/* by sessions, and the prober in answer: */
	uint64		last_walk;		/* number of the last request */
	WalkBox		walk[WALKS_MAX];
	/* by sessions and the prober, and the worker that repairs: */
	RepairBox	repair;
} Paths;

extern PGDLLEXPORT Paths *leasehold_paths;	/* NULL if not preloaded */

/* Nodes and members; bytes for one report. */
extern int	paths_entries_max(void);
extern Size paths_report_size(void);

/* For shared.c: how much it needs, and to make it. */
extern Size paths_size(void);
extern void paths_attach(void);

/*
 * paths_ask_walk, paths_take_walk
 *		Ask the prober to try this path anew; and the answer, once it is there.
 *		The number 0 means that all places are taken, false that it is not
 *		finished yet.  What was not taken by "until" is dropped.
 */
extern uint64 paths_ask_walk(const char *target, ClockTime until);
extern bool paths_take_walk(uint64 number, Walk *walk);

/* A palloc'd copy of the whole, its pieces too. */
extern Paths *paths_copy(void);

/* The report of this node in a copy; NULL if nothing is known of it. */
extern const PathReport *paths_find_report(const Paths *paths, const char *node);
extern const PathEntry *paths_find_entry(const Paths *paths, const char *target);

#endif							/* LEASEHOLD_PATHS_H */
