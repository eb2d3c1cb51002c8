/*
 * store.h
 *		What is said to a member of the store, and what it answers.
 *
 * Layer 3.  The statements (a subset that any PostgreSQL-wire database with
 * serialisable single-row updates runs), their parameters and the reading of
 * their results; no connection state of its own.  The keeper sends them over
 * links that never block, SQL functions over links that wait.
 */
#ifndef LEASEHOLD_STORE_H
#define LEASEHOLD_STORE_H

#include "postgres.h"

#include "lease.h"
#include "link.h"
#include "roster.h"

#define STORE_SCHEMA_VERSION	2
#define STORE_CHANNEL			"leasehold_store"
/* why a hand-over was refused, where the asker may try again */
#define STORE_ANSWER_NOT_ALIVE	"the target node shows no sign of life"
/* what a live holder says that is asked to hand the lease to itself */
#define STORE_ANSWER_HELD		"the target node holds the lease"
#define STORE_ADDRESS_LEN		256
#define STORE_REASON_LEN		128

/* What a connection to a member leads to. */
typedef struct StoreServer
{
	char		sysid[ROSTER_SYSID_LEN];
	int32		timeline;
	bool		in_recovery;
	bool		notifies;		/* offers LISTEN and NOTIFY */
	bool		lax_commit;		/* synchronous_commit would not wait for disk */
} StoreServer;

/* The store row. */
typedef struct StoreHead
{
	int			schema_version;
	int64		generation;
	bool		settled;
	int64		changes;
	int64		protections;	/* the last change of the list of tables */
	int64		memberships;	/* ... of who takes part in which lease */
	char		store_id[ROSTER_ID_LEN];
	char		members[ROSTER_TEXT_LEN];
} StoreHead;

/* A node row. */
typedef struct StoreNode
{
	char		name[LEASE_NAME_LEN];
	uint64		incarnation;
	int64		beat;
	char		advertise[STORE_ADDRESS_LEN];
	char		role[16];
	char		lsn[24];
	int32		timeline;
	int32		priority;
	char		version[32];
} StoreNode;

/* A lease row beyond what the protocol needs. */
typedef struct StoreLease
{
	char		name[LEASE_NAME_LEN];
	LeaseRow	row;
	char		kind[16];
	char		scope[16];
} StoreLease;

typedef struct StoreHistory
{
	char		lease[LEASE_NAME_LEN];
	int64		epoch;
	char		from_node[LEASE_NAME_LEN];
	char		to_node[LEASE_NAME_LEN];
	char		reason[STORE_REASON_LEN];
	int64		at_us;			/* microseconds since 1970 by the store's clock */
} StoreHistory;

/* The answer to a look, an acquire, a renewal or a release. */
typedef struct StoreAnswer
{
	bool		ok;				/* false: not what a store would answer */
	StoreHead	head;
	bool		effective;		/* a lease row came with it */
	StoreLease	lease;
	bool		node_present;	/* (look, renew) our node row came with it */
	uint64		node_incarnation;
	int64		node_beat;
} StoreAnswer;

/*
 * store_send_...
 *		Send one statement over an idle link; false if the link is lost.  All
 *		texts are constants, all values go as parameters.
 */
extern bool store_send_identify(Link *link, ClockTime deadline);
extern bool store_send_prepare_session(Link *link, const StoreServer *server,
									   ClockTime deadline);
extern bool store_send_look(Link *link, const char *lease, const char *node,
							ClockTime deadline);
extern bool store_send_acquire(Link *link, const char *lease,
							   const StoreNode *self, int64 generation,
							   const LeaseRequest *request, const char *reason,
							   ClockTime deadline);
extern bool store_send_renew(Link *link, const char *lease,
							 const StoreNode *self, int64 generation,
							 const LeaseRequest *request, ClockTime deadline);
extern bool store_send_release(Link *link, const char *lease,
							   const StoreNode *self,
							   const LeaseRequest *request, const char *reason,
							   ClockTime deadline);
extern bool store_send_beat(Link *link, const StoreNode *self,
							ClockTime deadline);
/* Make our node row, or take over one that stands as (incarnation, beat). */
extern bool store_send_join(Link *link, const StoreNode *self,
							uint64 incarnation, int64 beat, ClockTime deadline);
extern bool store_send_nodes(Link *link, ClockTime deadline);
extern bool store_send_leases(Link *link, ClockTime deadline);
extern bool store_send_history(Link *link, int limit, ClockTime deadline);
extern bool store_send_notify(Link *link, ClockTime deadline);
/* Tell a member that the list which it has is settled at a majority (R10). */
extern bool store_send_settle(Link *link, int64 generation,
							  const char *members, ClockTime deadline);
/* Refuse a hand-over request: clear it and say why. */
extern bool store_send_answer(Link *link, const char *lease,
							  int64 request_seq, const char *answer,
							  ClockTime deadline);

/* store_read_... take a result of status PGRES_TUPLES_OK. */
/*
 * Does an error of this kind mean that the server does not know the question?
 * Any other one means that it could not answer it this time.
 */
extern bool store_is_unknown_there(const char *sqlstate);

extern bool store_read_identify(const PGresult *result, StoreServer *server);
extern void store_read_answer(const PGresult *result, StoreAnswer *answer);
extern int	store_read_nodes(const PGresult *result, StoreNode *node, int max);
extern int	store_read_leases(const PGresult *result, StoreLease *lease, int max);
extern int	store_read_history(const PGresult *result, StoreHistory *history,
							   int max);

/* From a store row to what roster.h judges by. */
extern void store_report(const StoreServer *server, const StoreHead *head,
						 RosterReport *report);

/* Every statement's text, for the test that keeps them inside the subset. */
extern const char *const store_statements[];

#endif							/* LEASEHOLD_STORE_H */
