/*
 * prober.h
 *		What the files of the prober share.
 *
 * Layer 4.  prober.c has the loop and the paths, prober_watch.c what is told of
 * their changes, prober_report.c what this node says of itself, prober_store.c
 * what is said to and read from the members, resolver.c the names.
 */
#ifndef LEASEHOLD_PROBER_H
#define LEASEHOLD_PROBER_H

#include "postgres.h"

#include "paths.h"
#include "probe.h"
#include "reporter.h"
#include "resolver.h"

#define EVENTS_MAX			64
#define EVENT_LEN			1024
#define MAIL_ID_LEN			40
#define MAIL_ANSWER_LEN		8192
#define MAILS_SERVED		32

/* What a session with a member is used for, one thing after another. */
typedef enum TrafficTask
{
	TRAFFIC_NONE,
	TRAFFIC_LISTEN,
	TRAFFIC_EXCHANGE,			/* our report there, those of the others here */
	TRAFFIC_SWEEP,				/* mail of this node's earlier runs */
	TRAFFIC_MAIL,				/* what others ask of this node */
	TRAFFIC_ANSWER,
	TRAFFIC_OUTAGE,				/* one of ours */
	TRAFFIC_OUTAGES,			/* those of all nodes */
	TRAFFIC_EVENT,				/* NOTIFY leasehold */
	TRAFFIC_HASTEN				/* have the other probers look */
} TrafficTask;

typedef struct Traffic
{
	TrafficTask task;			/* under way */
	ClockTime	sent;
	bool		listens;
	bool		mute;			/* this server knows no notifications */
	ClockTime	exchanged_at;
	int64		exchanged_seq;	/* of our report, as this member has it */
	bool		look;			/* somebody says that there is news */
	bool		swept;
	bool		mail_due;
	bool		answer_told;	/* what prober->mail says */
	bool		hasten_due;
	ClockTime	outages_at;
	int			outage;			/* being sent */
	uint32		outage_version; /* ... of it */
	uint32		outage_told[OUTAGES_OWN];
	uint64		event_told;		/* events up to this one */
} Traffic;

/* A node or a member. */
typedef struct Peer
{
	char		name[128];
	bool		member;
	bool		present;		/* still known */
	char	   *address;		/* as advertised, or as in the setting */
	Probe		probe;
	Path		path;
	ClockTime	next;			/* of the next probe */
	bool		walk_wanted;	/* somebody waits for a walk */
	bool		walking;		/* ... and this is it */
	char		sqlstate[6];
	char		error[256];
	/* both ends, as they were when last known: a walk under way knows none yet */
	char		to[REPORT_ADDRESS_LEN];
	char		from[REPORT_ADDRESS_LEN];
	int			outage;			/* in the ring, that lasts; -1: none */
	Traffic    *traffic;		/* members only */
} Peer;

/* A request that came by mail. */
typedef struct Mail
{
	char		id[MAIL_ID_LEN];	/* "": none */
	char		target[128];	/* whose path is to be walked; "": a repair */
	bool		answered;
	char	   *answer;			/* MAIL_ANSWER_LEN bytes */
	ClockTime	until;
} Mail;

struct Prober
{
	Resolver	resolver;
	int			npeers;
	Peer	  **peer;			/* [paths_entries_max()] */
	PathRules	rules;
	char	   *peer_options;	/* as in the setting when it was last read */
	bool		nodes_known;	/* the keeper has read them */
	char		sysid[24];		/* that peers have to have; "" if any will do */
	ClockTime	peers_at;		/* when they were looked up */
	ClockTime	publish_retry;	/* a reader was in the way */
	bool		dirty;			/* there is something to publish */
	bool		walks_asked;	/* a session waits to be heard */
	bool		again;			/* there is more to do at once */
	/* of this node */
	int64		report_seq;
	ClockTime	report_at;
	bool		report_due;		/* a path has changed */
	char	   *report;			/* paths_report_size() bytes */
	/* of the others, as read */
	int			nreports;
	PathReport *others;			/* [setting_peers_max] */
	/* outages of this node; the ring that is published */
	int			next_outage;
	PathOutage *outage;			/* [OUTAGES_OWN] */
	bool		outages_read;
	int			nstore_outages;
	PathOutage *store_outage;	/* [OUTAGES_STORE] */
	uint64		nevents;		/* ever */
	char	  (*event)[EVENT_LEN];	/* a ring of EVENTS_MAX */
	Mail		mail;			/* being served */
	char		served[MAILS_SERVED][MAIL_ID_LEN];
	int			next_served;
	Reporter	reporter;
	WaitEventSet *wait_set;
	bool		sockets_changed;
	MemoryContext cycle_context;
};

/* ---- prober.c ---- */

extern Peer *prober_find(const Prober *prober, const char *name);

/* ---- prober_watch.c ---- */

/* A probe of this peer has ended: judge it, tell who wants to know. */
extern void watch_succeeded(Prober *prober, Peer *peer, ClockTime now,
							ClockTime latency);
extern void watch_failed(Prober *prober, Peer *peer, ClockTime now);

/*
 * watch_settle, watch_adopt
 *		Outages that last, but which nobody follows: of a prober before this one, or
 *		(adopted from the store) of a run before this one.  Those of a path that does
 *		not stand, or is not known yet, go on; the others end.
 */
extern void watch_settle(Prober *prober);
extern void watch_adopt(Prober *prober, const PathOutage *outage);

/* The peer is known no more. */
extern void watch_forget(Prober *prober, Peer *peer);

/* ---- prober_report.c ---- */

/* Write this node's report anew, if it is due. */
extern void report_compose(Prober *prober, ClockTime now);

/* A prober started anew goes on with the outages that its predecessor knew. */
extern void prober_recall(Prober *prober);

/* What sessions want to have tried. */
extern void prober_take_walks(Prober *prober, ClockTime now);

/* Show everything in shared memory. */
extern void prober_publish(Prober *prober, ClockTime now);

/* ---- prober_store.c ---- */

extern void traffic_begin(Peer *peer);

/* Send what is due over an idle session. */
extern void traffic_advance(Prober *prober, Peer *peer, ClockTime now);
extern void traffic_result(Prober *prober, Peer *peer, PGresult *result,
						   ClockTime now);
extern ClockTime traffic_due(const Prober *prober, const Peer *peer, ClockTime now);

/* ---- prober_mail.c ---- */

/* A request for this node; arguments as in the store. */
extern void mail_take(Prober *prober, const char *id, const char *from,
					  const char *operation, const char *arguments,
					  bool may_repair, ClockTime now);

/* What there is to do about the request being served. */
extern void mail_step(Prober *prober, ClockTime now);

/* The walk that somebody waits for has ended. */
extern void mail_walked(Prober *prober, Peer *peer);

#endif							/* LEASEHOLD_PROBER_H */
