/*
 * resolver.h
 *		Host names and their addresses, for all that this instance connects to.
 *
 * Layer 4.  Part of the prober.  Resolving a name blocks, for many seconds when
 * the name servers are gone, and knows nothing of latches and signals: a child
 * process asks the resolver and writes what it learns into a pipe.
 */
#ifndef LEASEHOLD_RESOLVER_H
#define LEASEHOLD_RESOLVER_H

#include "postgres.h"

#include "lib/stringinfo.h"

#include "conninfo.h"
#include "shared.h"

#define RESOLVER_ADDRESSES	4	/* of one name */

typedef struct ResolverName
{
	char		host[128];
	bool		wanted;			/* somebody still connects to it */
	bool		published;		/* keeper and steward need it, too */
	bool		was_published;	/* ... before the names were collected anew */
	int			n;
	char		address[RESOLVER_ADDRESSES][64];
	bool		asking;			/* the child asks for it just now */
	bool		asked;			/* the resolver has had its say at least once */
	bool		answered;		/* in the last round */
	bool		failing;		/* as last logged */
	char		fault[128];
} ResolverName;

typedef struct Resolver
{
	int			n;
	int			max;
	ResolverName *name;
	ClockTime	next;
	ClockTime	backoff;
	pid_t		child;			/* that asks; or 0 */
	int			pipe;			/* what it says */
	StringInfoData said;
	bool		unpublished;	/* an address is known that has to be published */
	ClockTime	began;
} Resolver;

/* In the current memory context, with room for "max" names. */
extern void resolver_init(Resolver *resolver, int max);

/*
 * resolver_collect, resolver_want, resolver_want_conninfo, resolver_collected
 *		Say anew which names are needed.  One that is new is asked for at once.
 */
extern void resolver_collect(Resolver *resolver);
extern void resolver_want(Resolver *resolver, const char *host, bool published);
extern void resolver_want_conninfo(Resolver *resolver, const Conninfo *conninfo,
								   bool published);
extern void resolver_collected(Resolver *resolver);

/* Ask again at the next step, whatever is known. */
extern void resolver_hasten(Resolver *resolver);

/*
 * resolver_step
 *		Begin a round when it is time to, read what the child says.  True if an
 *		address or a fault has changed.
 */
extern bool resolver_step(Resolver *resolver, ClockTime now);

/* What to wait for: a pipe or -1, and when to call resolver_step() at the latest. */
extern int	resolver_pipe(const Resolver *resolver);
extern ClockTime resolver_due(const Resolver *resolver);

/* The addresses of all names in this connection string. */
extern void resolver_addresses(const Resolver *resolver, const Conninfo *conninfo,
							   Addresses *addresses);

/*
 * resolver_faults
 *		Why a name in this connection string could not be resolved the last time, a
 *		piece of a sentence; NULL: all could be, or nobody was asked yet.
 */
extern const char *resolver_faults(const Resolver *resolver,
								   const Conninfo *conninfo);

/* End the child, if there is one. */
extern void resolver_stop(Resolver *resolver);

#endif							/* LEASEHOLD_RESOLVER_H */
