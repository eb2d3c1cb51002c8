/*
 * cause.h
 *		Why a connection attempt failed, by what it left behind.
 *
 * Layer 0: no server headers, no I/O.  SQLSTATE and the routine that raised the
 * error tell it, whatever language the server speaks; its words do only where
 * there is nothing else (libpq's own errors).
 */
#ifndef LEASEHOLD_CAUSE_H
#define LEASEHOLD_CAUSE_H

#include <stdbool.h>

#include "path.h"

typedef enum Cause
{
	CAUSE_NONE,
	/* resolve */
	CAUSE_BAD_ADDRESS,			/* the node's advertise is no connection string */
	CAUSE_NO_ADDRESS,			/* the name does not resolve */
	/* connect */
	CAUSE_REFUSED,				/* the host is there, nobody listens */
	CAUSE_TIMEOUT,				/* nothing answers */
	CAUSE_NO_ROUTE,				/* the network says that it cannot be reached */
	CAUSE_NO_SOCKET,			/* no such local socket */
	CAUSE_CLOSED,				/* accepted, then closed without a word */
	CAUSE_SILENT,				/* accepted, and never answered */
	CAUSE_NOT_POSTGRES,			/* answers, in another protocol */
	/* tls */
	CAUSE_TLS_MISSING,			/* we require it, the server has none */
	CAUSE_TLS_REQUIRED,			/* the server requires it, we have none */
	CAUSE_TLS_CERTIFICATE,		/* the server's certificate is not trusted */
	CAUSE_TLS_NAME,				/* ... is for another host name */
	CAUSE_TLS_CLIENT,			/* the server does not accept ours, or we have none */
	CAUSE_TLS,					/* anything else about it */
	/* authenticate */
	CAUSE_NO_HBA,				/* no line of pg_hba.conf is about us */
	CAUSE_HBA_REJECTS,			/* one is, and says reject */
	CAUSE_NO_PASSWORD,			/* the server wants one, we know none */
	CAUSE_WRONG_PASSWORD,
	CAUSE_AUTHENTICATION,		/* another method failed (peer, ident, cert, gss ...) */
	/* authenticate or session: the server tells only after it */
	CAUSE_NO_ROLE,
	CAUSE_NO_LOGIN,				/* the role may not log in */
	/* session */
	CAUSE_NO_DATABASE,
	CAUSE_NO_CONNECT,			/* the role may not connect to the database */
	CAUSE_DATABASE_CLOSED,		/* the database takes no connections */
	CAUSE_TOO_MANY,				/* all connection slots are taken */
	CAUSE_TOO_MANY_OF_ROLE,		/* ... those of this role or database */
	CAUSE_STARTING,
	CAUSE_STOPPING,
	CAUSE_NO_STANDBY_SESSIONS,	/* a standby that takes no connections */
	/* ready */
	CAUSE_WRONG_SERVER,			/* another node, or another cluster, at this address */
	CAUSE_NOT_PRELOADED,		/* PostgreSQL without leasehold's library */
	CAUSE_NO_EXTENSION,			/* ... with it, without the extension in this database */
	CAUSE_NO_PRIVILEGE,			/* the role may not call its functions */
	CAUSE_NO_STORE,				/* a member without the schema of the store */
	CAUSE_NO_STORE_PRIVILEGE,	/* ... that this role may not use */
	CAUSE_OTHER
} Cause;
#define CAUSE_COUNT		(CAUSE_OTHER + 1)

/* What a failed attempt left behind. */
typedef struct Fault
{
	PathPhase	phase;			/* how far it had come */
	bool		timed_out;
	int			error;			/* errno of a connect() that failed; or 0 */
	bool		by_server;		/* the server said it: an ErrorResponse */
	char		sqlstate[6];	/* of the server's error; "" if there was none */
	char		routine[48];	/* that raised it, e.g. "ClientAuthentication"; or "" */
	char		message[256];	/* one line, for people; never a password */
	bool		encrypted;		/* TLS was in use, or had begun, when it failed */
	bool		local;			/* over a local socket */
	bool		member;			/* on the way to a member of the store */
} Fault;

/*
 * fault_of_message
 *		Fill by_server, sqlstate, routine, error and message from what libpq left in
 *		PQerrorMessage(), or PQresultErrorMessage(), at PQERRORS_VERBOSE: one line,
 *		and never a password.
 *
 *		An attempt that went on to another address, or on without TLS, leaves one
 *		block for each.  The one that explains most decides: what a server said about
 *		role, password, database or itself; else what went wrong with TLS; else that
 *		pg_hba.conf does not let us in; else whatever libpq said.  Of equals the last.
 *
 *		Whoever calls this runs with LC_MESSAGES = C: libpq's own words have no code
 *		that stands for them.  The server's may be in any language.
 */
extern void fault_of_message(Fault *fault, const char *text);

/*
 * cause_of
 *		Why it failed; CAUSE_OTHER if that cannot be told.  *phase is set to the
 *		phase that the cause belongs to, which may be another one than that in
 *		which it was noticed (a role that does not exist is told of after the
 *		authentication).  A fault in PHASE_READY that has nothing to say for itself
 *		is an answer, but another server's than the one that was wanted.
 */
extern Cause cause_of(const Fault *fault, PathPhase *phase);

/* A short name, as in reports and NOTIFY: "no_hba"; and the reverse, or -1. */
extern const char *cause_name(Cause cause);
extern int	cause_of_name(const char *name);

/* A sentence for people, with a capital and a full stop, which names no names. */
extern const char *cause_text(Cause cause);

#endif							/* LEASEHOLD_CAUSE_H */
