/*
 * link.h
 *		One connection to a PostgreSQL-wire server that never blocks.
 *
 * Layer 3.  Used by the workers, which put its socket into their own
 * WaitEventSet, and by SQL functions through link_run(), which waits (with
 * interrupts served) on their behalf.  Every connect and every request has one
 * absolute deadline.  Faults are data: nothing here raises an error, but for
 * link_run()'s interrupts.
 */
#ifndef LEASEHOLD_LINK_H
#define LEASEHOLD_LINK_H

#include "postgres.h"

#include "libpq-fe.h"

#include "clock.h"

#define LINK_PARAMS_MAX		28

typedef enum LinkState
{
	LINK_DOWN,
	LINK_CONNECTING,
	LINK_IDLE,					/* connected, nothing under way */
	LINK_BUSY					/* a request is under way */
} LinkState;

typedef struct Link
{
	PGconn	   *conn;
	PGresult   *pending;		/* the answer, until the server is done with it */
	LinkState	state;
	ClockTime	deadline;		/* of the connect or request under way */
	uint32		wants;			/* WL_SOCKET_* to wait for */
	pgsocket	socket;			/* as last seen; PGINVALID_SOCKET if none */
	bool		moved;			/* the socket may be another one of the same number:
								 * whoever waits for it has to forget the old one,
								 * and clears this */
	bool		notified;		/* a notification has arrived */
	bool		timed_out;		/* lost because of its deadline */
	ConnStatusType stage;		/* how far the connect had come, at the last look */
	char		fault[256];		/* why it is down, or the last request failed */
	char		said[1024];		/* all that libpq said of it */
	char		sqlstate[6];
} Link;

/* What link_poll() found. */
typedef enum LinkEvent
{
	LINK_NOTHING,				/* still under way */
	LINK_CONNECTED,
	LINK_RESULT,				/* *result is the request's, the caller clears it */
	LINK_LOST					/* down now, see fault; a request under way may or
								 * may not have taken effect */
} LinkEvent;

/*
 * link_start
 *		Begin to connect.  All hosts have to be numeric or sockets, else libpq
 *		resolves them and may block.  Returns false (and fills fault) on refusal.
 */
extern bool link_start(Link *link, const char *const *keywords,
					   const char *const *values, ClockTime deadline);

/*
 * link_explain
 *		Right after link_start(): have errors of the server told with all that
 *		cause_of() wants to know, in link->said.
 */
extern void link_explain(Link *link);

/* Send one statement; the state must be LINK_IDLE. */
extern bool link_send(Link *link, const char *sql, int nparams,
					  const char *const *values, ClockTime deadline);

/* Make progress: after socket readiness, and when the deadline has passed. */
extern LinkEvent link_poll(Link *link, ClockTime now, PGresult **result);

extern void link_close(Link *link);

/* Was the last fault of this SQLSTATE? */
extern bool link_error_is(const Link *link, const char *sqlstate);

/* Note the error of a failed result in fault and sqlstate. */
extern void link_note_error(Link *link, const PGresult *result);

/*
 * link_connect, link_run
 *		For SQL functions: connect, or run one statement, and wait for it.
 *		Serves interrupts.  link_run() returns NULL when the connection is lost
 *		or the deadline passes (the link is closed then), else a result of
 *		whatever status, which the caller clears.
 */
extern bool link_connect(Link *link, const char *conninfo, ClockTime deadline);
extern PGresult *link_run(Link *link, const char *sql, int nparams,
						  const char *const *values, ClockTime deadline);

#endif							/* LEASEHOLD_LINK_H */
