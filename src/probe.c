/*
 * probe.c
 *		One path to a node or a member: walked phase by phase, then held.
 *
 * A session is closed with the protocol's own message, so that the other side
 * logs nothing about it.
 */
#include "postgres.h"

#include <netdb.h>
#include <sys/socket.h>

#include "access/xlog.h"

#include "probe.h"
#include "store_paths.h"

/* Of a node: is the library there, and the extension? */
static const char who_sql[] =
"SELECT pg_catalog.current_setting('leasehold.node_name', true) IS NOT NULL,"
" pg_catalog.to_regprocedure('leasehold.identity()') IS NOT NULL";

static const char identity_sql[] =
"SELECT node, system_identifier, role, state, timeline FROM leasehold.identity()";

/* ------------------------------------------------------------------------
 * What is found on the way
 * ------------------------------------------------------------------------
 */

static void pg_attribute_printf(3, 4)
pass(Probe *probe, PathPhase phase, const char *format,...)
{
	WalkStep   *step = &probe->walk.step[phase];
	va_list		args;

	step->status = STEP_OK;
	va_start(args, format);
	vsnprintf(step->detail, sizeof(step->detail), format, args);
	va_end(args);
	if (probe->walk.phase < phase)
		probe->walk.phase = phase;
}

static void
fail(Probe *probe, PathPhase phase, Cause cause, const char *evidence)
{
	Walk	   *walk = &probe->walk;

	walk->phase = phase;
	walk->cause = cause;
	walk->fault.phase = phase;
	for (int i = phase; i < PHASE_COUNT; i++)
		memset(&walk->step[i], 0, sizeof(walk->step[i]));
	walk->step[phase].status = STEP_FAILED;
	strlcpy(walk->step[phase].detail, cause_text(cause),
			sizeof(walk->step[phase].detail));
	strlcpy(walk->step[phase].evidence, evidence,
			sizeof(walk->step[phase].evidence));
	/* noticed later than it was: what came between was never reached */
	for (int i = 0; i < (int) phase; i++)
		if (walk->step[i].status == STEP_NOT_REACHED)
			walk->step[i].status = STEP_OK;
	link_close(&probe->link);
	probe->stage = PROBE_DOWN;
}

/* How far had the connect come? */
static PathPhase
phase_of_stage(ConnStatusType stage)
{
	switch (stage)
	{
		case CONNECTION_NEEDED:
		case CONNECTION_STARTED:
			return PHASE_CONNECT;
		case CONNECTION_MADE:
		case CONNECTION_SSL_STARTUP:
			return PHASE_TLS;
		case CONNECTION_AWAITING_RESPONSE:
			return PHASE_AUTHENTICATE;
		default:
			return PHASE_SESSION;
	}
}

static void
fail_connect(Probe *probe)
{
	Fault	   *fault = &probe->walk.fault;
	PathPhase	phase;
	Cause		cause;

	memset(fault, 0, sizeof(*fault));
	fault->phase = phase_of_stage(probe->link.stage);
	fault->timed_out = probe->link.timed_out;
	fault_of_message(fault, probe->link.said);
	fault->member = probe->member;
	fault->encrypted = probe->walk.encrypted;
	fault->local = probe->walk.host[0] == '/' || probe->walk.host[0] == '@';
	cause = cause_of(fault, &phase);
	fail(probe, phase, cause, fault->message);
}

/* ------------------------------------------------------------------------
 * Resolve
 * ------------------------------------------------------------------------
 */

static void
note_conninfo(Walk *walk, const char *const *keywords, const char *const *values)
{
	for (int i = 0; keywords[i] != NULL; i++)
	{
		if (strcmp(keywords[i], "host") == 0)
			strlcpy(walk->host, values[i], sizeof(walk->host));
		else if (strcmp(keywords[i], "port") == 0)
			strlcpy(walk->port, values[i], sizeof(walk->port));
		else if (strcmp(keywords[i], "user") == 0)
			strlcpy(walk->user, values[i], sizeof(walk->user));
		else if (strcmp(keywords[i], "dbname") == 0)
			strlcpy(walk->database, values[i], sizeof(walk->database));
	}
}

/* One of several hosts or addresses looks like many: people want the first. */
static void
cut_list(char *list)
{
	list[strcspn(list, ",")] = '\0';
}

static void
tell_names(Probe *probe, const ProbeTarget *target)
{
	char		list[128] = "";

	for (int i = 0; i < target->addresses->n; i++)
	{
		if (strlen(list) + strlen(target->addresses->entry[i].address) + 3 > sizeof(list))
			break;
		strlcat(list, i > 0 ? ", " : "", sizeof(list));
		strlcat(list, target->addresses->entry[i].address, sizeof(list));
	}
	if (list[0] == '\0')
		pass(probe, PHASE_RESOLVE, "\"%s\" needs no resolving.", probe->walk.host);
	else
		pass(probe, PHASE_RESOLVE, "Host \"%s\" has the address %s%s",
			 probe->walk.host, list,
			 target->name_fault ? ", known from before; it does not resolve now." : ".");
}

/* False if the walk has ended here. */
static bool
start_connect(Probe *probe, const ProbeTarget *target, ClockTime deadline)
{
	Conninfo	conninfo;
	const char *const *keywords;
	const char *const *values;
	const char *unresolved = "";

	if (conninfo_split(target->conninfo, &conninfo, 1) != 1)
	{
		fail(probe, PHASE_RESOLVE, CAUSE_BAD_ADDRESS, "");
		return false;
	}
	conninfo.keyword[conninfo.n] = pstrdup("fallback_application_name");
	conninfo.value[conninfo.n++] = pstrdup("leasehold prober");
	if (!conninfo_start_values(&conninfo, target->addresses, &keywords, &values,
							   &unresolved))
	{
		strlcpy(probe->walk.host, unresolved, sizeof(probe->walk.host));
		fail(probe, PHASE_RESOLVE, CAUSE_NO_ADDRESS,
			 target->name_fault ? target->name_fault : "not resolved yet");
		return false;
	}
	note_conninfo(&probe->walk, keywords, values);
	cut_list(probe->walk.host);
	cut_list(probe->walk.port);
	tell_names(probe, target);
	if (!link_start(&probe->link, keywords, values, deadline))
		return false;
	link_explain(&probe->link);
	return true;
}

bool
probe_begin(Probe *probe, const ProbeTarget *target, ClockTime now,
			ClockTime timeout)
{
	link_close(&probe->link);
	memset(&probe->walk, 0, sizeof(probe->walk));
	memset(&probe->identity, 0, sizeof(probe->identity));
	strlcpy(probe->name, target->name, sizeof(probe->name));
	strlcpy(probe->walk.target, target->name, sizeof(probe->walk.target));
	strlcpy(probe->wanted_sysid, target->sysid, sizeof(probe->wanted_sysid));
	probe->member = probe->walk.member = target->member;
	probe->began = now;
	probe->deadline = now + timeout;
	probe->asked = 0;
	probe->stage = PROBE_CONNECTING;
	probe->link.stage = CONNECTION_STARTED;
	if (start_connect(probe, target, probe->deadline))
		return true;
	if (probe->walk.cause == CAUSE_NONE)
		fail_connect(probe);
	return false;
}

/* ------------------------------------------------------------------------
 * Connect to session
 * ------------------------------------------------------------------------
 */

/* Our own end of the connection, as the other side's pg_hba.conf sees it. */
static void
note_addresses(Probe *probe)
{
	struct sockaddr_storage own;
	socklen_t	len = sizeof(own);
	int			sock = PQsocket(probe->link.conn);
	const char *address = PQhostaddr(probe->link.conn);
	Walk	   *walk = &probe->walk;

	if (address != NULL && address[0] != '\0')
		strlcpy(walk->address, address, sizeof(walk->address));
	if (PQhost(probe->link.conn) != NULL)
		strlcpy(walk->host, PQhost(probe->link.conn), sizeof(walk->host));
	if (PQport(probe->link.conn) != NULL)
		strlcpy(walk->port, PQport(probe->link.conn), sizeof(walk->port));
	if (sock < 0 || getsockname(sock, (struct sockaddr *) &own, &len) != 0 ||
		own.ss_family == AF_UNIX ||
		getnameinfo((struct sockaddr *) &own, len, walk->from, sizeof(walk->from),
					NULL, 0, NI_NUMERICHOST) != 0)
		walk->from[0] = '\0';
}

/* What can be said of a connect under way: before libpq forgets it. */
static void
note_progress(Probe *probe)
{
	PGconn	   *conn = probe->link.conn;

	if (conn == NULL)
		return;
	probe->link.stage = PQstatus(conn);
	if (PQuser(conn) != NULL)
		strlcpy(probe->walk.user, PQuser(conn), sizeof(probe->walk.user));
	if (PQdb(conn) != NULL)
		strlcpy(probe->walk.database, PQdb(conn), sizeof(probe->walk.database));
	note_addresses(probe);
	if (probe->link.stage == CONNECTION_STARTED)
		return;
	probe->walk.encrypted = PQsslInUse(conn) != 0;
	if (probe->walk.step[PHASE_CONNECT].status != STEP_OK)
		pass(probe, PHASE_CONNECT, "Connected to \"%s\"%s%s, port %s.",
			 probe->walk.host, probe->walk.from[0] ? " from " : "",
			 probe->walk.from, probe->walk.port);
	if (phase_of_stage(probe->link.stage) > PHASE_TLS)
		pass(probe, PHASE_TLS, "The connection is %s.",
			 probe->walk.encrypted ? "encrypted" : "not encrypted");
	if (phase_of_stage(probe->link.stage) > PHASE_AUTHENTICATE)
		pass(probe, PHASE_AUTHENTICATE, "Authenticated as role \"%s\".",
			 probe->walk.user);
}

static void
arrive_in_session(Probe *probe)
{
	PGconn	   *conn = probe->link.conn;
	const char *version = PQparameterStatus(conn, "server_version");

	note_progress(probe);
	pass(probe, PHASE_SESSION, "A session in database \"%s\" of server version %.32s.",
		 PQdb(conn), version ? version : "unknown");
	probe->stage = PROBE_ASKING_WHO;
	probe->sent = clock_now();
	(void) link_send(&probe->link, probe->member ? store_member_sql : who_sql, 0, NULL,
					 probe->deadline);
}

/* ------------------------------------------------------------------------
 * Ready
 * ------------------------------------------------------------------------
 */

/* A question that the server answered with an error, or with something else. */
static void
fail_ready(Probe *probe, const PGresult *result)
{
	const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	Fault	   *fault = &probe->walk.fault;
	PathPhase	phase;
	Cause		cause;

	memset(fault, 0, sizeof(*fault));
	fault->phase = PHASE_READY;
	fault->member = probe->member;
	fault->by_server = sqlstate != NULL;
	strlcpy(fault->sqlstate, sqlstate ? sqlstate : "", sizeof(fault->sqlstate));
	strlcpy(fault->message, message ? message : "an answer that no PostgreSQL gives",
			sizeof(fault->message));
	cause = cause_of(fault, &phase);
	fail(probe, phase, cause, fault->message);
}

static void pg_attribute_printf(4, 5)
fail_with(Probe *probe, PathPhase phase, Cause cause, const char *format,...)
{
	Fault	   *fault = &probe->walk.fault;
	va_list		args;

	memset(fault, 0, sizeof(*fault));
	va_start(args, format);
	vsnprintf(fault->message, sizeof(fault->message), format, args);
	va_end(args);
	fail(probe, phase, cause, fault->message);
}

static bool
is_true(const PGresult *result, int column)
{
	return strcmp(PQgetvalue(result, 0, column), "t") == 0;
}

static bool
is_row(const PGresult *result, int columns)
{
	return result != NULL && PQresultStatus(result) == PGRES_TUPLES_OK &&
		PQntuples(result) == 1 && PQnfields(result) == columns;
}

static ProbeEvent
arrive(Probe *probe)
{
	probe->stage = PROBE_STANDS;
	probe->walk.phase = PHASE_READY;
	probe->asked = 0;
	return PROBE_ARRIVED;
}

static ProbeEvent
take_who(Probe *probe, const PGresult *result)
{
	if (!is_row(result, probe->member ? 1 : 2))
	{
		if (probe->member && result != NULL &&
			PQresultStatus(result) == PGRES_TUPLES_OK)
			fail_with(probe, PHASE_READY, CAUSE_NO_STORE, "the store has no row");
		else
			fail_ready(probe, result);
		return PROBE_FAILED;
	}
	if (probe->member)
	{
		pass(probe, PHASE_READY, "A member of the store, schema version %.10s.",
			 PQgetvalue(result, 0, 0));
		return arrive(probe);
	}
	if (!is_true(result, 0) || !is_true(result, 1))
	{
		if (is_true(result, 0))
			fail_with(probe, PHASE_READY, CAUSE_NO_EXTENSION,
					  "database \"%s\" has no extension leasehold", probe->walk.database);
		else
			fail_with(probe, PHASE_READY, CAUSE_NOT_PRELOADED,
					  "leasehold is not loaded there");
		return PROBE_FAILED;
	}
	probe->stage = PROBE_ASKING_IDENTITY;
	probe->sent = clock_now();
	(void) link_send(&probe->link, identity_sql, 0, NULL, probe->deadline);
	return PROBE_NOTHING;
}

static void
read_identity(const PGresult *result, ProbeIdentity *identity)
{
	strlcpy(identity->node, PQgetvalue(result, 0, 0), sizeof(identity->node));
	strlcpy(identity->sysid, PQgetvalue(result, 0, 1), sizeof(identity->sysid));
	strlcpy(identity->role, PQgetvalue(result, 0, 2), sizeof(identity->role));
	strlcpy(identity->state, PQgetvalue(result, 0, 3), sizeof(identity->state));
	identity->timeline = atoi(PQgetvalue(result, 0, 4));
}

/* Is it the node that it should be?  It may become another one under our eyes. */
static bool
is_who_it_should_be(Probe *probe)
{
	const ProbeIdentity *identity = &probe->identity;

	if (strcmp(identity->node, probe->name) != 0)
		fail_with(probe, PHASE_READY, CAUSE_WRONG_SERVER,
				  "the server there is node \"%s\", not \"%s\"",
				  identity->node, probe->name);
	else if (probe->wanted_sysid[0] != '\0' &&
			 strcmp(identity->sysid, probe->wanted_sysid) != 0)
		fail_with(probe, PHASE_READY, CAUSE_WRONG_SERVER,
				  "the server there has the system identifier %s, the group has %s",
				  identity->sysid, probe->wanted_sysid);
	else
		return true;
	return false;
}

static ProbeEvent
take_identity(Probe *probe, const PGresult *result)
{
	bool		pinged = probe->stage == PROBE_STANDS;

	if (!is_row(result, 5))
	{
		fail_ready(probe, result);
		return PROBE_FAILED;
	}
	read_identity(result, &probe->identity);
	if (!is_who_it_should_be(probe))
		return PROBE_FAILED;
	if (strcmp(probe->identity.state, "stopping") == 0)
	{
		fail_with(probe, PHASE_SESSION, CAUSE_STOPPING, "the server is shutting down");
		return PROBE_FAILED;
	}
	pass(probe, PHASE_READY, "Node \"%s\", %s, timeline %d; it says of its lease: %s.",
		 probe->identity.node, probe->identity.role, probe->identity.timeline,
		 probe->identity.state);
	return pinged ? PROBE_ANSWERED : arrive(probe);
}

/* ------------------------------------------------------------------------
 * The held session
 * ------------------------------------------------------------------------
 */

void
probe_ping(Probe *probe, ClockTime now, ClockTime timeout)
{
	Assert(probe->stage == PROBE_STANDS);
	if (probe->link.state != LINK_IDLE)
		return;
	probe->asked = probe->sent = now;
	probe->deadline = now + timeout;
	(void) link_send(&probe->link, identity_sql, 0, NULL, probe->deadline);
}

/* What the other side says as it ends a session is known if something was asked. */
static ProbeEvent
lose(Probe *probe)
{
	Fault	   *fault = &probe->walk.fault;
	bool		silent = probe->link.timed_out;

	memset(fault, 0, sizeof(*fault));
	fault->timed_out = silent;
	strlcpy(fault->sqlstate, probe->link.sqlstate, sizeof(fault->sqlstate));
	fault->by_server = strncmp(fault->sqlstate, "08", 2) != 0;
	strlcpy(fault->message, probe->link.fault, sizeof(fault->message));
	fail(probe, PHASE_SESSION, silent ? CAUSE_SILENT : CAUSE_CLOSED, fault->message);
	return PROBE_LOST;
}

static ProbeEvent
take_result(Probe *probe, PGresult **result)
{
	ProbeEvent	event;

	switch (probe->stage)
	{
		case PROBE_ASKING_WHO:
			event = take_who(probe, *result);
			break;
		case PROBE_ASKING_IDENTITY:
			event = take_identity(probe, *result);
			break;
		default:
			if (probe->asked == 0)
				return PROBE_RESULT;
			event = take_identity(probe, *result);
	}
	PQclear(*result);
	*result = NULL;
	return event;
}

ProbeEvent
probe_poll(Probe *probe, ClockTime now, PGresult **result)
{
	bool		stood = probe->stage == PROBE_STANDS;

	*result = NULL;
	if (probe->stage == PROBE_DOWN)
		return PROBE_NOTHING;
	if (probe->link.state == LINK_DOWN)
	{
		/* sending has failed meanwhile */
		if (stood)
			return lose(probe);
		fail_connect(probe);
		return PROBE_FAILED;
	}
	if (probe->stage == PROBE_CONNECTING)
		note_progress(probe);
	switch (link_poll(&probe->link, now, result))
	{
		case LINK_CONNECTED:
			arrive_in_session(probe);
			return PROBE_NOTHING;
		case LINK_RESULT:
			return take_result(probe, result);
		case LINK_LOST:
			if (stood)
				return lose(probe);
			fail_connect(probe);
			return PROBE_FAILED;
		default:
			return PROBE_NOTHING;
	}
}

void
probe_close(Probe *probe)
{
	link_close(&probe->link);
	probe->stage = PROBE_DOWN;
	probe->asked = 0;
}
