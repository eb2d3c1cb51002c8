/*
 * conninfo.h
 *		Connection strings: the list in leasehold.store, what is allowed in
 *		them, and how they are turned into something that never resolves names.
 *
 * Layer 3.
 */
#ifndef LEASEHOLD_CONNINFO_H
#define LEASEHOLD_CONNINFO_H

#include "postgres.h"

#include "libpq-fe.h"

#include "shared.h"

/* One member's parsed connection string; palloc'd pieces. */
#define CONNINFO_KEYWORDS_MAX	64

typedef struct Conninfo
{
	char	   *text;			/* as written */
	char		label[128];		/* host, port and database, for people */
	int			n;
	char	   *keyword[CONNINFO_KEYWORDS_MAX];
	char	   *value[CONNINFO_KEYWORDS_MAX];
} Conninfo;

/*
 * conninfo_judge
 *		NULL if every string of the list (separated by semicolons) can be
 *		parsed, names no password and is not given twice; else a palloc'd
 *		sentence that never repeats a value.
 */
extern char *conninfo_judge(const char *list);

/*
 * conninfo_split
 *		Parse a list that conninfo_judge() found good (else 0 is returned).
 *		"embedded" is one string that leads to this instance's own socket.
 *		Allocates in the current memory context.
 */
extern int	conninfo_split(const char *list, Conninfo *out, int max);

/* What a keyword is set to; NULL if it is not. */
extern const char *conninfo_value(const Conninfo *conninfo, const char *keyword);

/*
 * conninfo_start_values
 *		Keywords and values for PQconnectStartParams() with every host replaced
 *		by its numeric addresses.  Hosts without a known address are left out;
 *		false if there is no other, *unresolved is set to the last of them.  The arrays live until the next call.
 */
extern bool conninfo_start_values(const Conninfo *conninfo,
								  const Addresses *addresses,
								  const char *const **keywords,
								  const char *const **values,
								  const char **unresolved);

/* Call "each" for every host name in it that has to be resolved. */
extern void conninfo_each_name(const Conninfo *conninfo,
							   void (*each) (const char *host, void *arg),
							   void *arg);

/*
 * conninfo_for_peer
 *		The connection string by which this node streams from a peer: of the peer's
 *		address what says where it is, then leasehold.peer_options, then this node's name; and a
 *		database, if one is given and none is named.  palloc'd; NULL if the
 *		address cannot be parsed.
 */
extern char *conninfo_for_peer(const char *address, const char *options,
							   const char *node, const char *dbname);

/* The connection string to this instance's own database "dbname". */
extern char *conninfo_self(const char *dbname);

#endif							/* LEASEHOLD_CONNINFO_H */
