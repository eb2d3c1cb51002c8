/*
 * holder.h
 *		The node that holds the lease, asked directly.
 */
#ifndef REJOIN_HOLDER_H
#define REJOIN_HOLDER_H

#include "rejoin.h"

typedef struct Holder
{
	char	   *name;
	char	   *label;			/* host and port, for people */
	ConnOptions conn;			/* advertise and peer_options */
	uint64		sysid;
	uint32		timeline;
	uint64		lsn;			/* flushed there */
	PlanHistory history;
	bool		slot_exists;	/* the slot that it keeps for this node */
} Holder;

/*
 * holder_reach
 *		Ask it over a replication connection who it is and where its history
 *		comes from.  False, *why set, if it cannot be reached or is not a
 *		primary (yet).
 */
extern bool holder_reach(const Node *node, const char *name,
						 const char *advertise, Holder *holder, char **why);

/* A replication connection; NULL, *why set, if there can be none. */
extern PGconn *holder_stream(const Holder *holder, char **why);

/* An ordinary session there; NULL, *why set, if there can be none. */
extern PGconn *holder_session(const Holder *holder, const char *dbname,
							  char **why);

/* The connection string for pg_rewind and pg_basebackup. */
extern char *holder_source(const Holder *holder, bool with_database);

/* The values of primary_conninfo and primary_slot_name. */
extern char *holder_primary_conninfo(const Node *node, const Holder *holder);
extern char *holder_slot_name(const Node *node);

/*
 * holder_wait_checkpoint
 *		Until its control file shows its present timeline: before that
 *		pg_rewind takes it for being on the old one and does nothing.
 */
extern bool holder_wait_checkpoint(const Holder *holder, char **why);

#endif							/* REJOIN_HOLDER_H */
