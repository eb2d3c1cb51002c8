/*
 * opener_source.c
 *		The publishers of this database's subscriptions, asked by the opener.
 *
 * Each is asked over a connection of our own, by the subscription's own string:
 * who it is, and how far its sequences are.  Nothing here waits: whoever wants an
 * answer comes again.  A name in such a string may be looked up at the start of a
 * connect, though.  Must never show the string, nor what libpq says when it
 * cannot be parsed.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#include "conninfo.h"
#include "opener.h"
#include "paths.h"
#include "report.h"

/* Nothing of the publisher's settings may change what the queries mean. */
#define IDENTITY_QUERY \
	"SELECT pg_catalog.set_config('search_path', 'pg_catalog', false)," \
	" pg_catalog.set_config('statement_timeout', '5s', false)," \
	" pg_catalog.set_config('lock_timeout', '1s', false)," \
	" pg_catalog.current_setting('leasehold.node_name', true)," \
	" (SELECT system_identifier FROM pg_catalog.pg_control_system())"
#define IDENTITY_NODE	3
#define IDENTITY_SYSID	4

static List *sources = NIL;

Source *
source_find(Oid subid, const char *conninfo)
{
	MemoryContext context;
	ListCell   *cell;
	Source	   *source;

	foreach(cell, sources)
	{
		source = lfirst(cell);
		if (source->subid == subid && strcmp(source->conninfo, conninfo) == 0)
			return source;
	}
	context = MemoryContextSwitchTo(TopMemoryContext);
	source = palloc0(sizeof(Source));
	source->subid = subid;
	source->conninfo = pstrdup(conninfo);
	source->link.socket = PGINVALID_SOCKET;
	sources = lappend(sources, source);
	MemoryContextSwitchTo(context);
	return source;
}

static bool
start_connect(Source *source, ClockTime deadline)
{
	const char *keywords[LINK_PARAMS_MAX * 2 + 3];
	const char *values[LINK_PARAMS_MAX * 2 + 3];
	PQconninfoOption *options = PQconninfoParse(source->conninfo, NULL);
	int			n = 0;
	bool		started;

	source->known = false;
	if (options == NULL)
	{
		strlcpy(source->link.fault, "its connection string is malformed",
				sizeof(source->link.fault));
		return false;
	}
	for (PQconninfoOption *o = options; o->keyword != NULL; o++)
	{
		if (o->val == NULL || strcmp(o->keyword, "client_encoding") == 0 ||
			strcmp(o->keyword, "fallback_application_name") == 0 ||
			strcmp(o->keyword, "replication") == 0 || n == LINK_PARAMS_MAX * 2)
			continue;
		keywords[n] = o->keyword;
		values[n++] = o->val;
	}
	keywords[n] = "client_encoding";
	values[n++] = GetDatabaseEncodingName();
	keywords[n] = "fallback_application_name";
	values[n++] = "leasehold opener";
	keywords[n] = NULL;
	values[n] = NULL;
	started = link_start(&source->link, keywords, values, deadline);
	PQconninfoFree(options);
	return started;
}

static void
take_identity(Source *source, const PGresult *result)
{
	if (result == NULL || PQresultStatus(result) != PGRES_TUPLES_OK ||
		PQntuples(result) != 1)
	{
		link_close(&source->link);
		source->failed_at = clock_now();
		return;
	}
	strlcpy(source->node, PQgetvalue(result, 0, IDENTITY_NODE), sizeof(source->node));
	strlcpy(source->sysid, PQgetvalue(result, 0, IDENTITY_SYSID), sizeof(source->sysid));
	source->known = true;
}

static void
drop_answer(Source *source)
{
	PQclear(source->result);
	source->result = NULL;
	source->done = false;
	source->question = SOURCE_NOTHING;
}

static void
poll_one(Source *source, ClockTime now)
{
	bool		idle = source->link.state == LINK_IDLE;
	PGresult   *result;

	switch (link_poll(&source->link, now, &result))
	{
		case LINK_NOTHING:
			break;
		case LINK_CONNECTED:
			(void) link_send(&source->link, IDENTITY_QUERY, 0, NULL, now + 2 * CLOCK_S);
			break;
		case LINK_RESULT:
			if (result != NULL && PQresultStatus(result) != PGRES_TUPLES_OK)
				link_note_error(&source->link, result);
			if (!source->known)
			{
				take_identity(source, result);
				PQclear(result);
			}
			else if (source->question == SOURCE_NOTHING)
				PQclear(result);
			else if (result != NULL && PQresultStatus(result) != PGRES_TUPLES_OK)
			{
				PQclear(result);
				source->done = true;
			}
			else
			{
				source->result = result;
				source->done = true;
			}
			break;
		case LINK_LOST:
			source->known = false;
			/* nobody waited for one that lay idle: it is connected anew */
			if (!idle)
				source->failed_at = now;
			source->done = source->question != SOURCE_NOTHING;
			break;
	}
}

void
sources_poll(ClockTime now)
{
	ListCell   *cell;

	foreach(cell, sources)
		poll_one(lfirst(cell), now);
}

pgsocket
sources_busy(uint32 *wants)
{
	ListCell   *cell;

	foreach(cell, sources)
	{
		Source	   *source = lfirst(cell);

		if (source->link.state == LINK_BUSY || source->link.state == LINK_CONNECTING)
		{
			*wants = source->link.wants;
			return source->link.socket;
		}
	}
	return PGINVALID_SOCKET;
}

bool
source_identify(Source *source, ClockTime since, ClockTime deadline)
{
	if (source->known || source->failed_at >= since)
		return true;
	if (source->link.state == LINK_DOWN && !start_connect(source, deadline))
		source->failed_at = clock_now();
	return source->failed_at >= since;
}

/* A node that was never given a name is known by its server, as it has reported. */
static bool
has_sysid(const char *node, const char *sysid)
{
	Paths	   *paths = paths_copy();
	const PathReport *report = paths_find_report(paths, node);
	ReportSelf	self;

	return report != NULL && report_read_self(report->text, &self) &&
		self.sysid[0] != '\0' && strcmp(self.sysid, sysid) == 0;
}

bool
source_is_node(const Source *source, const char *node)
{
	if (!source->known)
		return false;
	return source->node[0] != '\0' ? strcmp(source->node, node) == 0 :
		has_sysid(node, source->sysid);
}

static bool
same_value(const Conninfo *a, const Conninfo *b, const char *keyword,
		   const char *otherwise)
{
	const char *one = conninfo_value(a, keyword);
	const char *two = conninfo_value(b, keyword);

	return strcmp(one ? one : otherwise, two ? two : otherwise) == 0;
}

bool
source_is_at(const Source *source, const char *address)
{
	Conninfo	here;
	Conninfo	there;

	return conninfo_split(source->conninfo, &here, 1) == 1 &&
		conninfo_split(address, &there, 1) == 1 &&
		same_value(&here, &there, "host", "") &&
		same_value(&here, &there, "hostaddr", "") &&
		same_value(&here, &there, "port", "5432");
}

bool
source_ask(Source *source, SourceQuestion question, int slot, uint64 number,
		   const char *sql, ClockTime deadline)
{
	if (source->question == question && source->slot == slot &&
		source->number == number)
		return source->done;
	/* somebody else's, who is still to come for it or has gone */
	if (source->question != SOURCE_NOTHING && !source->done)
		return false;
	drop_answer(source);
	source->question = question;
	source->slot = slot;
	source->number = number;
	if (source->link.state != LINK_IDLE || !source->known ||
		!link_send(&source->link, sql, 0, NULL, deadline))
		source->done = true;
	return source->done;
}
