/*
 * store_tables.h
 *		What is said to a member about leases of tables: many of them in one
 *		statement.
 *
 * Layer 3.  The guards are those of store.h, one by one for each lease; a batch
 * that fails (an error, no answer) may have taken effect for all of its leases
 * or for none.
 */
#ifndef LEASEHOLD_STORE_TABLES_H
#define LEASEHOLD_STORE_TABLES_H

#include "postgres.h"

#include "store.h"
#include "tables.h"

/* Requests of one kind for n leases, in the order of their names. */
typedef struct StoreBatch
{
	LeaseOp		op;
	int			n;
	const char **name;
	const LeaseRequest **request;	/* (not for a look) */
	const char **reason;		/* for the history: acquire, release */
} StoreBatch;

/*
 * What comes before the rows of an answer.  A row is there for each lease that
 * the batch had an effect on, or that exists (look).
 */
typedef struct StoreBatchHead
{
	bool		ok;				/* false: not what a store would answer */
	int64		generation;
	bool		settled;
	int64		protections;
	int64		memberships;
	bool		node_present;	/* (renew) our node row came with it */
	uint64		node_incarnation;
	int64		node_beat;
} StoreBatchHead;

/* One row of membership. */
typedef struct StoreMembership
{
	char		lease[LEASE_NAME_LEN];
	char		node[LEASE_NAME_LEN];
	int32		priority;
} StoreMembership;

/* Renewals carry the heartbeat: one round trip per member and tick. */
extern bool store_send_batch(Link *link, const StoreNode *self,
							 int64 generation, const StoreBatch *batch,
							 ClockTime deadline);
extern bool store_read_batch(const PGresult *result, StoreBatchHead *head);
/* The lease of row i; false if there is none. */
extern bool store_read_batch_lease(const PGresult *result, int i,
								   StoreLease *lease);

/* All members of all leases that this node takes part in. */
extern bool store_send_memberships(Link *link, const char *node,
								   ClockTime deadline);
/* How many rows there are, -1 if it is not what a store would answer. */
extern int	store_read_memberships(const PGresult *result, int64 *memberships);
extern void store_read_membership(const PGresult *result, int i,
								  StoreMembership *membership);

/* The list of protected tables, with those that are not any more. */
extern bool store_send_protections(Link *link, ClockTime deadline);
extern int	store_read_protections(const PGresult *result, int64 *protections);
extern void store_read_protection(const PGresult *result, int i,
								  TableEntry *entry);

/* This node fences all of the list up to this change. */
extern bool store_send_known(Link *link, const StoreNode *self,
							 int64 protections, ClockTime deadline);

/* The target of a hand-over is ready for request "request_seq". */
extern bool store_send_ready(Link *link, const char *lease,
							 int64 request_seq, ClockTime deadline);

/* Post the request to have the lease handed to this node. */
extern bool store_send_failback(Link *link, const char *lease,
								int64 request_seq, int32 ttl_ms,
								const char *node, ClockTime deadline);

extern const char store_look_batch_sql[];
extern const char store_acquire_batch_sql[];
extern const char store_renew_batch_sql[];
extern const char store_release_batch_sql[];
extern const char store_memberships_sql[];
extern const char store_protections_sql[];
extern const char store_known_sql[];
extern const char store_ready_sql[];

#endif							/* LEASEHOLD_STORE_TABLES_H */
