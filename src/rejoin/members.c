/*
 * members.c
 *		What the members of the store say about the lease.
 *
 * All are asked side by side, so that those that do not answer cost one
 * timeout together.  What counts, and who holds, is decided by src/roster.c
 * and plan.c by the same rules that the server's keeper goes by.
 */
#include "members.h"

#include <poll.h>

#include "port/pg_crc32c.h"

/* As the server asks (src/store.c): others than PostgreSQL refuse it. */
static const char identify_sql[] =
"SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system()),"
" CASE WHEN pg_catalog.pg_is_in_recovery() THEN NULL ELSE"
" pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8) END";

static const char look_sql[] =
"SELECT s.store_id, s.generation, s.members, s.settled,"
" l.name, l.holder, l.incarnation, l.epoch, l.version, l.dropped,"
" l.kind, l.system_identifier, l.timeline, n.advertise"
" FROM leasehold_store.store s"
" LEFT JOIN leasehold_store.lease l ON l.name = $1"
" LEFT JOIN leasehold_store.node n ON n.name = l.holder"
" WHERE s.id = 1";

enum
{
	COL_STORE_ID, COL_GENERATION, COL_MEMBERS, COL_SETTLED,
	COL_NAME, COL_HOLDER, COL_INCARNATION, COL_EPOCH, COL_VERSION, COL_DROPPED,
	COL_KIND, COL_SYSID, COL_TIMELINE, COL_ADVERTISE, COL_COUNT
};

typedef enum AskStep
{
	ASK_CONNECT, ASK_IDENTIFY, ASK_LOOK, ASK_DONE, ASK_FAILED
} AskStep;

typedef struct Member
{
	AskStep		step;
	char	   *label;
	char	   *trouble;
	PGconn	   *conn;
	short		events;
	RosterReport report;
	PlanRow		row;
	char	   *advertise;
	char	   *kind;
	char	   *sysid;
	uint32		timeline;
} Member;

/* ------------------------------------------------------------------------
 * The list that this node goes by
 * ------------------------------------------------------------------------
 */

/* The file ends with a line "checksum" over all before it. */
static bool
checksum_fits(char *text)
{
	char	   *last = strstr(text, "checksum ");
	pg_crc32c	crc;
	unsigned int written;

	if (last == NULL || sscanf(last, "checksum %8X", &written) != 1)
		return false;
	INIT_CRC32C(crc);
	COMP_CRC32C(crc, text, last - text);
	FIN_CRC32C(crc);
	*last = '\0';
	return EQ_CRC32C(crc, (pg_crc32c) written);
}

void
members_list_on_disk(const char *file, Roster *roster)
{
	char	   *text = read_whole_file(file, NULL);
	int64		generation = 0;
	char	   *line;

	memset(roster, 0, sizeof(*roster));
	if (text == NULL || !checksum_fits(text))
		return;
	for (line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n"))
	{
		if (strncmp(line, "generation ", 11) == 0)
			generation = strtoll(line + 11, NULL, 10);
		else if (strncmp(line, "members ", 8) == 0 &&
				 !roster_parse(roster, generation, line + 8))
			memset(roster, 0, sizeof(*roster));
	}
	pg_free(text);
}

/* ------------------------------------------------------------------------
 * Asking one
 * ------------------------------------------------------------------------
 */

static void
give_up(Member *member, const char *why)
{
	member->step = ASK_FAILED;
	if (member->trouble == NULL)
	{
		member->trouble = pg_strdup(why);
		/* the last line of several, without its end */
		member->trouble[strcspn(member->trouble, "\n")] = '\0';
	}
}

static void
start_member(Member *member, const char *text)
{
	ConnOptions conn = {0};

	memset(member, 0, sizeof(*member));
	if (!conn_add_string(&conn, text))
	{
		member->label = pg_strdup("a member");
		give_up(member, "its connection string is malformed");
		return;
	}
	member->label = conn_label(&conn);
	conn_set(&conn, "fallback_application_name", "leasehold-rejoin");
	conn.keyword[conn.n] = NULL;
	conn.value[conn.n] = NULL;
	member->conn = PQconnectStartParams((const char *const *) conn.keyword,
										(const char *const *) conn.value, 0);
	member->step = ASK_CONNECT;
	member->events = POLLOUT;
	if (member->conn == NULL || PQstatus(member->conn) == CONNECTION_BAD)
		give_up(member, member->conn ? PQerrorMessage(member->conn) : "out of memory");
}

static void
ask_look(Member *member, const char *lease)
{
	member->step = ASK_LOOK;
	if (!PQsendQueryParams(member->conn, look_sql, 1, NULL, &lease, NULL,
						   NULL, 0))
		give_up(member, PQerrorMessage(member->conn));
}

static void
go_on_connecting(Member *member)
{
	switch (PQconnectPoll(member->conn))
	{
		case PGRES_POLLING_OK:
			member->step = ASK_IDENTIFY;
			member->events = POLLIN;
			if (!PQsendQuery(member->conn, identify_sql))
				give_up(member, PQerrorMessage(member->conn));
			break;
		case PGRES_POLLING_READING:
			member->events = POLLIN;
			break;
		case PGRES_POLLING_WRITING:
			member->events = POLLOUT;
			break;
		default:
			give_up(member, PQerrorMessage(member->conn));
	}
}

static void
take_identity(Member *member, const PGresult *result)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1)
	{
		strlcpy(member->report.id.sysid, PQgetvalue(result, 0, 0), ROSTER_SYSID_LEN);
		member->report.id.timeline = (int32) strtol(PQgetvalue(result, 0, 1), NULL, 16);
	}
	/* no such function, denied, not supported: another kind of server */
	else if (state == NULL || (strncmp(state, "42", 2) != 0 &&
							   strncmp(state, "0A", 2) != 0 &&
							   strncmp(state, "3F", 2) != 0))
		give_up(member, PQresultErrorMessage(result));
}

static int64
number(const PGresult *result, int column)
{
	return strtoll(PQgetvalue(result, 0, column), NULL, 10);
}

static bool
truth(const PGresult *result, int column)
{
	return PQgetvalue(result, 0, column)[0] == 't';
}

static void
take_look(Member *member, const PGresult *result)
{
	RosterReport *report = &member->report;
	PlanRow    *row = &member->row;

	if (PQresultStatus(result) != PGRES_TUPLES_OK)
	{
		give_up(member, PQresultErrorMessage(result));
		return;
	}
	if (PQntuples(result) != 1 || PQnfields(result) != COL_COUNT)
	{
		give_up(member, "there is no lease store");
		return;
	}
	report->known = true;
	report->settled = truth(result, COL_SETTLED);
	strlcpy(report->id.store_id, PQgetvalue(result, 0, COL_STORE_ID), ROSTER_ID_LEN);
	if (!roster_parse(&report->roster, number(result, COL_GENERATION),
					  PQgetvalue(result, 0, COL_MEMBERS)))
		memset(&report->roster, 0, sizeof(report->roster));
	row->present = !PQgetisnull(result, 0, COL_NAME) &&
		!truth(result, COL_DROPPED);
	strlcpy(row->holder, PQgetvalue(result, 0, COL_HOLDER), LEASE_NAME_LEN);
	row->incarnation = (uint64) number(result, COL_INCARNATION);
	row->epoch = number(result, COL_EPOCH);
	row->version = number(result, COL_VERSION);
	member->kind = pg_strdup(PQgetvalue(result, 0, COL_KIND));
	member->sysid = pg_strdup(PQgetvalue(result, 0, COL_SYSID));
	member->timeline = (uint32) number(result, COL_TIMELINE);
	member->advertise = pg_strdup(PQgetvalue(result, 0, COL_ADVERTISE));
	member->step = ASK_DONE;
}

static void
go_on_asking(Member *member, const char *lease)
{
	PGresult   *result;

	if (!PQconsumeInput(member->conn))
	{
		give_up(member, PQerrorMessage(member->conn));
		return;
	}
	while (member->step == ASK_IDENTIFY || member->step == ASK_LOOK)
	{
		AskStep		step = member->step;

		if (PQisBusy(member->conn))
			return;
		result = PQgetResult(member->conn);
		if (result == NULL)
		{
			if (step == ASK_IDENTIFY)
				ask_look(member, lease);
			else
				give_up(member, "no answer");
			continue;
		}
		if (step == ASK_IDENTIFY)
			take_identity(member, result);
		else
			take_look(member, result);
		PQclear(result);
	}
}

/* ------------------------------------------------------------------------
 * Asking all
 * ------------------------------------------------------------------------
 */

static bool
is_waiting(const Member *member)
{
	return member->step != ASK_DONE && member->step != ASK_FAILED;
}

static void
ask_all(Member *member, int n, const char *lease)
{
	ClockTime	deadline = clock_now() + options.timeout * CLOCK_S;

	for (;;)
	{
		struct pollfd fds[LEASE_MEMBERS_MAX];
		int			waiting = 0;
		long		left = clock_wait_ms(clock_now(), deadline);

		for (int i = 0; i < n; i++)
		{
			bool		waits = is_waiting(&member[i]);

			fds[i].fd = waits ? PQsocket(member[i].conn) : -1;
			fds[i].events = member[i].events;
			fds[i].revents = 0;
			waiting += waits;
		}
		if (waiting == 0 || left == 0)
			break;
		if (poll(fds, n, (int) left) <= 0)
			continue;
		for (int i = 0; i < n; i++)
		{
			if (fds[i].revents == 0)
				continue;
			if (member[i].step == ASK_CONNECT)
				go_on_connecting(&member[i]);
			else
				go_on_asking(&member[i], lease);
		}
	}
	for (int i = 0; i < n; i++)
	{
		if (is_waiting(&member[i]))
			give_up(&member[i], psprintf("no answer within %d s", options.timeout));
		PQfinish(member[i].conn);
	}
}

/* ------------------------------------------------------------------------
 * What they say together
 * ------------------------------------------------------------------------
 */

static void
add_trouble(PQExpBuffer trouble, const Member *member, const char *what)
{
	appendPQExpBuffer(trouble, "%s%s: %s.", trouble->len > 0 ? " " : "",
					  member->label, what);
}

static void
judge(Member *member, int n, const Roster *known, StoreView *view)
{
	RosterReport report[LEASE_MEMBERS_MAX];
	PlanRow		row[LEASE_MEMBERS_MAX];
	Roster		roster = *known;
	PQExpBufferData trouble;
	int			which = 0;

	for (int i = 0; i < n; i++)
		report[i] = member[i].report;
	/* lists may have changed more than once since we looked */
	while (roster_adopt(&roster, report, n))
		;
	initPQExpBuffer(&trouble);
	for (int i = 0; i < n; i++)
	{
		RosterStanding standing = roster_standing(&roster, report, i);

		member[i].row.counted = standing == ROSTER_COUNTED;
		view->counted += member[i].row.counted;
		row[i] = member[i].row;
		if (member[i].trouble != NULL)
			add_trouble(&trouble, &member[i], member[i].trouble);
		else if (standing != ROSTER_COUNTED)
			add_trouble(&trouble, &member[i], roster_standing_text(standing));
	}
	view->asked = n;
	view->majority = roster.n > 0 ? roster.n / 2 + 1 : 0;
	view->trouble = trouble.data;
	view->answer = plan_holder(row, n, view->majority, &which);
	if (view->answer == PLAN_HOLDER_KNOWN || view->answer == PLAN_HOLDER_NONE)
	{
		view->holder = pg_strdup(member[which].row.holder);
		view->epoch = member[which].row.epoch;
		view->advertise = member[which].advertise;
		view->kind = member[which].kind;
		view->sysid = member[which].sysid;
		view->timeline = member[which].timeline;
	}
}

void
members_ask(const Node *node, const Roster *known, StoreView *view)
{
	Member		member[LEASE_MEMBERS_MAX];
	const char *at = node->store;
	char	   *text;
	int			n = 0;

	memset(view, 0, sizeof(*view));
	while (n < LEASE_MEMBERS_MAX && (text = conn_next_string(&at)) != NULL)
		start_member(&member[n++], text);
	ask_all(member, n, node->lease);
	judge(member, n, known, view);
}
