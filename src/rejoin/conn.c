/*
 * conn.c
 *		Connection strings, and connections that do not wait for ever.
 *
 * Messages name host, port and database, never a whole string.
 */
#include "rejoin.h"

#include <poll.h>

#include "list.h"

/* ------------------------------------------------------------------------
 * Connection strings
 * ------------------------------------------------------------------------
 */

void
conn_set(ConnOptions *conn, const char *keyword, const char *value)
{
	for (int i = 0; i < conn->n; i++)
		if (strcmp(conn->keyword[i], keyword) == 0)
		{
			conn->value[i] = pg_strdup(value);
			return;
		}
	if (conn->n < CONN_OPTIONS_MAX)
	{
		conn->keyword[conn->n] = pg_strdup(keyword);
		conn->value[conn->n++] = pg_strdup(value);
	}
}

const char *
conn_get(const ConnOptions *conn, const char *keyword)
{
	for (int i = 0; i < conn->n; i++)
		if (strcmp(conn->keyword[i], keyword) == 0)
			return conn->value[i];
	return NULL;
}

bool
conn_add_string(ConnOptions *conn, const char *text)
{
	char	   *message = NULL;
	PQconninfoOption *option = PQconninfoParse(text, &message);

	/* libpq's own message may quote a piece of it */
	PQfreemem(message);
	if (option == NULL)
		return false;
	for (PQconninfoOption *o = option; o->keyword != NULL; o++)
		if (o->val != NULL && o->val[0] != '\0')
			conn_set(conn, o->keyword, o->val);
	PQconninfoFree(option);
	return true;
}

static void
append_value(PQExpBuffer out, const char *value)
{
	appendPQExpBufferChar(out, '\'');
	for (; *value != '\0'; value++)
	{
		if (*value == '\'' || *value == '\\')
			appendPQExpBufferChar(out, '\\');
		appendPQExpBufferChar(out, *value);
	}
	appendPQExpBufferChar(out, '\'');
}

/* Quotes only where they are needed, so that people can read it. */
char *
conn_string(const ConnOptions *conn)
{
	PQExpBufferData out;

	initPQExpBuffer(&out);
	for (int i = 0; i < conn->n; i++)
	{
		const char *value = conn->value[i];

		appendPQExpBuffer(&out, "%s%s=", i > 0 ? " " : "", conn->keyword[i]);
		if (value[0] != '\0' && strpbrk(value, " \t\r\n'\\") == NULL)
			appendPQExpBufferStr(&out, value);
		else
			append_value(&out, value);
	}
	return out.data;
}

char *
conn_label(const ConnOptions *conn)
{
	const char *host = conn_get(conn, "host");
	const char *port = conn_get(conn, "port");
	const char *dbname = conn_get(conn, "dbname");
	const char *service = conn_get(conn, "service");

	if (host == NULL)
		host = conn_get(conn, "hostaddr");
	if (host == NULL && service != NULL)
		return psprintf("service %s", service);
	return psprintf("%s:%s%s%s", host ? host : "local", port ? port : "5432",
					dbname ? "/" : "", dbname ? dbname : "");
}

char *
conn_next_string(const char **list)
{
	const char *string;
	size_t		length;

	return list_next(list, &string, &length) ? pnstrdup(string, length) : NULL;
}

/* ------------------------------------------------------------------------
 * Connections
 * ------------------------------------------------------------------------
 */

static char *
last_error(PGconn *conn)
{
	char	   *text = pg_strdup(PQerrorMessage(conn));
	size_t		n = strlen(text);

	while (n > 0 && isspace((unsigned char) text[n - 1]))
		text[--n] = '\0';
	return text;
}

PGconn *
conn_open(const ConnOptions *options_, char **why)
{
	ConnOptions all = *options_;
	PGconn	   *conn;

	conn_set(&all, "connect_timeout", psprintf("%d", Max(options.timeout, 2)));
	if (conn_get(&all, "application_name") == NULL)
		conn_set(&all, "fallback_application_name", "leasehold-rejoin");
	all.keyword[all.n] = NULL;
	all.value[all.n] = NULL;
	conn = PQconnectdbParams((const char *const *) all.keyword,
							 (const char *const *) all.value, 0);
	if (PQstatus(conn) == CONNECTION_OK)
		return conn;
	*why = last_error(conn);
	PQfinish(conn);
	return NULL;
}

/* The next result; NULL at the end, or, with *why set, if there is none in time. */
static PGresult *
next_result(PGconn *conn, int seconds, char **why)
{
	ClockTime	deadline = clock_now() + seconds * CLOCK_S;

	while (PQisBusy(conn))
	{
		struct pollfd fd = {PQsocket(conn), POLLIN, 0};

		if (clock_now() > deadline)
		{
			*why = psprintf("no answer within %d s", seconds);
			return NULL;
		}
		poll(&fd, 1, 200);
		if (!PQconsumeInput(conn))
		{
			*why = last_error(conn);
			return NULL;
		}
	}
	return PQgetResult(conn);
}

PGresult *
conn_query(PGconn *conn, const char *sql, int seconds, char **why)
{
	PGresult   *result = NULL;
	PGresult   *next;
	char	   *late = NULL;

	if (!PQsendQuery(conn, sql))
	{
		*why = last_error(conn);
		return NULL;
	}
	while ((next = next_result(conn, seconds, &late)) != NULL)
	{
		ExecStatusType status = PQresultStatus(next);

		PQclear(result);
		result = next;
		/* the stream follows, not the end */
		if (status == PGRES_COPY_BOTH)
			return result;
	}
	if (late == NULL && result != NULL &&
		(PQresultStatus(result) == PGRES_TUPLES_OK ||
		 PQresultStatus(result) == PGRES_COMMAND_OK))
		return result;
	PQclear(result);
	*why = late ? late : last_error(conn);
	return NULL;
}
