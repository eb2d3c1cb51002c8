/*
 * visitor.h
 *		As what another node comes to this one: from which address, by which role,
 *		into which database.
 *
 * Layer 3.  All of it is what the other node says of itself: material for
 * judgement, never to be trusted.
 */
#ifndef LEASEHOLD_VISITOR_H
#define LEASEHOLD_VISITOR_H

#include "postgres.h"

#include "paths.h"

typedef struct Visitor
{
	char		node[LEASEHOLD_NAME_LEN];
	bool		known;			/* how it comes; else only what follows */
	bool		local;			/* over a socket of this machine */
	char		address[REPORT_ADDRESS_LEN];	/* numeric; "" if local */
	char		user[64];
	char		database[64];
	bool		encrypted;		/* it would use TLS if both can */
} Visitor;

/*
 * visitor_find
 *		False if this node has sent no report, or is this one.  Nothing is read
 *		but reports and entries: the prober, who writes them, may ask without the
 *		lock.
 */
extern bool visitor_find(const Paths *paths, const char *node, Visitor *visitor);

/* All of whom it is known how they come; returns their number. */
extern int	visitors_list(const Paths *paths, Visitor *visitor, int max);

#endif							/* LEASEHOLD_VISITOR_H */
