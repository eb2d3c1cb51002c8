/*
 * link.c
 *		One connection to a PostgreSQL-wire server that never blocks.
 *
 * PGconn and PGresult live in malloc'd memory: whoever may raise an error
 * while one is open has to close it first or in a PG_FINALLY block.  Nothing
 * here logs a connection string.
 */
#include "postgres.h"

#include <poll.h>

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "link.h"

/* Copy the first line of a libpq message, without its newline. */
static void
copy_fault(Link *link, const char *message)
{
	size_t		len = strcspn(message, "\n");

	if (len >= sizeof(link->fault))
		len = pg_mbcliplen(message, len, sizeof(link->fault) - 1);
	memcpy(link->fault, message, len);
	link->fault[len] = '\0';
}

static void
note_fault(Link *link, const char *message, const char *sqlstate)
{
	copy_fault(link, message);
	strlcpy(link->said, message, sizeof(link->said));
	strlcpy(link->sqlstate, sqlstate, sizeof(link->sqlstate));
}

void
link_close(Link *link)
{
	PQclear(link->pending);
	link->pending = NULL;
	if (link->conn != NULL)
		PQfinish(link->conn);
	link->conn = NULL;
	link->state = LINK_DOWN;
	link->socket = PGINVALID_SOCKET;
	link->wants = 0;
	link->deadline = CLOCK_NEVER;
	link->notified = false;
}

/*
 * libpq would print it to the server's log, bare: warnings at every connect, and
 * the last words to a session that is idle.  That it is lost is seen without them.
 */
static void
ignore_notice(void *arg, const PGresult *result)
{
}

static void
lose(Link *link, const char *message, const char *sqlstate)
{
	note_fault(link, message, sqlstate);
	link_close(link);
}

bool
link_start(Link *link, const char *const *keywords, const char *const *values,
		   ClockTime deadline)
{
	link_close(link);
	link->timed_out = false;
	link->conn = PQconnectStartParams(keywords, values, 0);
	if (link->conn == NULL)
	{
		note_fault(link, "out of memory", "53200");
		return false;
	}
	if (PQstatus(link->conn) == CONNECTION_BAD)
	{
		lose(link, PQerrorMessage(link->conn), "08001");
		return false;
	}
	PQsetNoticeReceiver(link->conn, ignore_notice, NULL);
	link->state = LINK_CONNECTING;
	link->deadline = deadline;
	link->wants = WL_SOCKET_WRITEABLE;
	link->socket = PQsocket(link->conn);
	return true;
}

void
link_explain(Link *link)
{
	PQsetErrorVerbosity(link->conn, PQERRORS_VERBOSE);
}

/* Has what libpq waits for come about? */
static bool
is_ready(const Link *link)
{
	struct pollfd fd = {.fd = link->socket};

	fd.events = (link->wants & WL_SOCKET_READABLE ? POLLIN : 0) |
		(link->wants & WL_SOCKET_WRITEABLE ? POLLOUT : 0);
	return poll(&fd, 1, 0) != 0;
}

/*
 * PQconnectPoll() may be called only when the socket is ready: while the kernel
 * still waits for the other side it takes the connection for made, and waits
 * without a timeout until it can send.
 */
static LinkEvent
poll_connect(Link *link)
{
	link->stage = PQstatus(link->conn);
	if (!is_ready(link))
		return LINK_NOTHING;
	link->moved = true;
	switch (PQconnectPoll(link->conn))
	{
		case PGRES_POLLING_OK:
			PQsetnonblocking(link->conn, 1);
			link->state = LINK_IDLE;
			link->deadline = CLOCK_NEVER;
			link->wants = WL_SOCKET_READABLE;
			link->socket = PQsocket(link->conn);
			return LINK_CONNECTED;
		case PGRES_POLLING_READING:
			link->wants = WL_SOCKET_READABLE;
			link->socket = PQsocket(link->conn);
			return LINK_NOTHING;
		case PGRES_POLLING_WRITING:
			link->wants = WL_SOCKET_WRITEABLE;
			link->socket = PQsocket(link->conn);
			return LINK_NOTHING;
		default:
			lose(link, PQerrorMessage(link->conn), "08001");
			return LINK_LOST;
	}
}

bool
link_send(Link *link, const char *sql, int nparams, const char *const *values,
		  ClockTime deadline)
{
	int			sent;
	int			unsent;

	Assert(link->state == LINK_IDLE);
	/* a statement list goes by the simple protocol, all else by the extended */
	if (nparams == 0)
		sent = PQsendQuery(link->conn, sql);
	else
		sent = PQsendQueryParams(link->conn, sql, nparams, NULL, values,
								 NULL, NULL, 0);
	unsent = sent ? PQflush(link->conn) : -1;
	if (unsent < 0)
	{
		lose(link, PQerrorMessage(link->conn), "08006");
		return false;
	}
	link->state = LINK_BUSY;
	link->deadline = deadline;
	link->wants = WL_SOCKET_READABLE | (unsent > 0 ? WL_SOCKET_WRITEABLE : 0);
	return true;
}

static void
take_notifications(Link *link)
{
	PGnotify   *notify;

	while ((notify = PQnotifies(link->conn)) != NULL)
	{
		link->notified = true;
		PQfreemem(notify);
	}
}

/* Nothing that we ask is answered with a COPY; libpq gives that again for ever. */
static bool
begins_copy(const PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);

	return status == PGRES_COPY_OUT || status == PGRES_COPY_IN ||
		status == PGRES_COPY_BOTH;
}

/*
 * Collect the request's results as they come in.  The last one is the answer;
 * an error among several statements ends them and so is the last.
 */
static LinkEvent
poll_result(Link *link, PGresult **result)
{
	while (!PQisBusy(link->conn))
	{
		PGresult   *next = PQgetResult(link->conn);

		if (next != NULL && begins_copy(next))
		{
			PQclear(next);
			lose(link, "an answer that no PostgreSQL gives", "08P01");
			return LINK_LOST;
		}
		if (next == NULL)
		{
			link->state = LINK_IDLE;
			link->deadline = CLOCK_NEVER;
			*result = link->pending;
			link->pending = NULL;
			return LINK_RESULT;
		}
		PQclear(link->pending);
		link->pending = next;
	}
	return LINK_NOTHING;
}

LinkEvent
link_poll(Link *link, ClockTime now, PGresult **result)
{
	LinkEvent	event = LINK_NOTHING;

	*result = NULL;
	if (link->state == LINK_DOWN)
		return LINK_NOTHING;
	if (link->state == LINK_CONNECTING)
		event = poll_connect(link);
	else
	{
		int			unsent = PQflush(link->conn);

		link->wants = WL_SOCKET_READABLE | (unsent > 0 ? WL_SOCKET_WRITEABLE : 0);
		if (unsent < 0 || !PQconsumeInput(link->conn))
		{
			lose(link, PQerrorMessage(link->conn), "08006");
			return LINK_LOST;
		}
		take_notifications(link);
		if (link->state == LINK_BUSY)
			event = poll_result(link, result);
		if (event == LINK_LOST)
			return event;
		if (PQstatus(link->conn) == CONNECTION_BAD)
		{
			/* a FATAL error comes as a result first, and says why */
			if (event == LINK_RESULT && *result != NULL &&
				PQresultStatus(*result) == PGRES_FATAL_ERROR &&
				PQresultErrorField(*result, PG_DIAG_SQLSTATE) != NULL)
			{
				link_note_error(link, *result);
				link_close(link);
			}
			else
				lose(link, PQerrorMessage(link->conn), "08006");
			PQclear(*result);
			*result = NULL;
			return LINK_LOST;
		}
	}
	if (event == LINK_NOTHING && now >= link->deadline)
	{
		lose(link, link->state == LINK_CONNECTING ?
			 "no connection within the time allowed" :
			 "no answer within the time allowed", "08006");
		link->timed_out = true;
		return LINK_LOST;
	}
	return event;
}

bool
link_error_is(const Link *link, const char *sqlstate)
{
	return strcmp(link->sqlstate, sqlstate) == 0;
}

void
link_note_error(Link *link, const PGresult *result)
{
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	note_fault(link, message != NULL ? message : PQresultErrorMessage(result),
			   sqlstate != NULL ? sqlstate : "XX000");
}

/* ------------------------------------------------------------------------
 * For SQL functions
 * ------------------------------------------------------------------------
 */

/* Wait until the link has something to say; serves interrupts. */
static LinkEvent
wait_for(Link *link, PGresult **result)
{
	for (;;)
	{
		ClockTime	now = clock_now();
		LinkEvent	event = link_poll(link, now, result);
		int			rc;

		if (event != LINK_NOTHING || link->state == LINK_DOWN)
			return event;
		rc = WaitLatchOrSocket(MyLatch,
							   WL_LATCH_SET | WL_EXIT_ON_PM_DEATH |
							   WL_TIMEOUT | link->wants,
							   link->socket,
							   Max(1, clock_wait_ms(now, link->deadline)),
							   PG_WAIT_EXTENSION);
		if (rc & WL_LATCH_SET)
		{
			ResetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
		}
	}
}

bool
link_connect(Link *link, const char *conninfo, ClockTime deadline)
{
	const char *keywords[] = {"dbname", "fallback_application_name", NULL};
	const char *values[] = {conninfo, "leasehold", NULL};
	PGresult   *none;

	link_close(link);
	/* expand_dbname: the string may name anything, the host included */
	link->conn = PQconnectStartParams(keywords, values, 1);
	if (link->conn == NULL || PQstatus(link->conn) == CONNECTION_BAD)
	{
		lose(link, link->conn ? PQerrorMessage(link->conn) : "out of memory",
			 "08001");
		return false;
	}
	PQsetNoticeReceiver(link->conn, ignore_notice, NULL);
	link->state = LINK_CONNECTING;
	link->deadline = deadline;
	link->wants = WL_SOCKET_WRITEABLE;
	link->socket = PQsocket(link->conn);
	return wait_for(link, &none) == LINK_CONNECTED;
}

PGresult *
link_run(Link *link, const char *sql, int nparams, const char *const *values,
		 ClockTime deadline)
{
	PGresult   *result;

	if (link->state != LINK_IDLE ||
		!link_send(link, sql, nparams, values, deadline))
		return NULL;
	if (wait_for(link, &result) != LINK_RESULT)
		return NULL;
	if (result != NULL && PQresultStatus(result) == PGRES_FATAL_ERROR)
		link_note_error(link, result);
	return result;
}
