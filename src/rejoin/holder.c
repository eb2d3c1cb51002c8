/*
 * holder.c
 *		The node that holds the lease, asked directly.
 *
 * Who it is and where its history comes from is asked over a replication
 * connection: that is what a standby needs anyhow, and so it shows early
 * whether following will work.
 */
#include "holder.h"

#include <unistd.h>

#include "names.h"

/* Address as it advertises it, and what this node adds. */
static bool
make_options(const Node *node, const char *advertise, Holder *holder, char **why)
{
	memset(&holder->conn, 0, sizeof(holder->conn));
	if (advertise[0] == '\0')
	{
		*why = "It has not said in the store how it can be reached.";
		return false;
	}
	if (!conn_add_string(&holder->conn, advertise))
	{
		*why = "What it advertises is not a connection string.";
		return false;
	}
	if (!conn_add_string(&holder->conn, node->peer_options))
		refuse(REJOIN_CONFIG, "leasehold.peer_options is not a connection string",
			   NULL, NULL);
	holder->label = conn_label(&holder->conn);
	return true;
}

static bool
ask_identity(PGconn *conn, Holder *holder, char **why)
{
	PGresult   *result = conn_query(conn, "IDENTIFY_SYSTEM", options.timeout, why);
	bool		primary;
	unsigned int high = 0;
	unsigned int low = 0;

	if (result == NULL)
		return false;
	sscanf(PQgetvalue(result, 0, 2), "%X/%X", &high, &low);
	holder->lsn = ((uint64) high << 32) | low;
	holder->sysid = strtoull(PQgetvalue(result, 0, 0), NULL, 10);
	holder->timeline = strtoul(PQgetvalue(result, 0, 1), NULL, 10);
	PQclear(result);
	result = conn_query(conn, "SHOW in_hot_standby", options.timeout, why);
	if (result == NULL)
		return false;
	primary = strcmp(PQgetvalue(result, 0, 0), "off") == 0;
	PQclear(result);
	if (!primary)
		*why = "It is still in recovery.";
	return primary;
}

static bool
ask_history(PGconn *conn, Holder *holder, char **why)
{
	PGresult   *result = NULL;
	const char *text = "";
	bool		good;

	/* the first timeline has none */
	if (holder->timeline > 1)
	{
		result = conn_query(conn, psprintf("TIMELINE_HISTORY %u", holder->timeline),
							options.timeout, why);
		if (result == NULL)
			return false;
		text = PQgetvalue(result, 0, 1);
	}
	good = plan_parse_history(text, holder->timeline, &holder->history);
	if (!good)
		*why = "The history of its timeline cannot be read.";
	PQclear(result);
	return good;
}

static void
ask_slot(const Node *node, PGconn *conn, Holder *holder)
{
	char	   *why;
	PGresult   *result = conn_query(conn, psprintf("READ_REPLICATION_SLOT %s", holder_slot_name(node)),
									options.timeout, &why);

	holder->slot_exists = result != NULL && PQntuples(result) == 1 &&
		!PQgetisnull(result, 0, 0);
	PQclear(result);
}

bool
holder_reach(const Node *node, const char *name, const char *advertise,
			 Holder *holder, char **why)
{
	PGconn	   *conn;
	bool		good;

	memset(holder, 0, sizeof(*holder));
	holder->name = pg_strdup(name);
	if (!make_options(node, advertise, holder, why))
		return false;
	conn = holder_stream(holder, why);
	if (conn == NULL)
		return false;
	good = ask_identity(conn, holder, why) && ask_history(conn, holder, why);
	if (good)
		ask_slot(node, conn, holder);
	PQfinish(conn);
	return good;
}

/* ------------------------------------------------------------------------
 * Connecting to it
 * ------------------------------------------------------------------------
 */

PGconn *
holder_stream(const Holder *holder, char **why)
{
	ConnOptions conn = holder->conn;

	conn_set(&conn, "replication", "true");
	return conn_open(&conn, why);
}

PGconn *
holder_session(const Holder *holder, const char *dbname, char **why)
{
	ConnOptions conn = holder->conn;

	if (dbname != NULL || conn_get(&conn, "dbname") == NULL)
		conn_set(&conn, "dbname", dbname ? dbname : "postgres");
	return conn_open(&conn, why);
}

char *
holder_source(const Holder *holder, bool with_database)
{
	ConnOptions conn = holder->conn;

	if (with_database && conn_get(&conn, "dbname") == NULL)
		conn_set(&conn, "dbname", "postgres");
	conn_set(&conn, "connect_timeout", psprintf("%d", Max(options.timeout, 2)));
	conn_set(&conn, "application_name", "leasehold-rejoin");
	return conn_string(&conn);
}

char *
holder_primary_conninfo(const Node *node, const Holder *holder)
{
	ConnOptions conn = holder->conn;

	conn_set(&conn, "application_name", node->name);
	return conn_string(&conn);
}

char *
holder_slot_name(const Node *node)
{
	char	   *slot = pg_malloc(LEASEHOLD_SLOT_NAME_LEN);

	leasehold_slot_name(node->name, slot);
	return slot;
}

/* ------------------------------------------------------------------------
 * Its checkpoint
 * ------------------------------------------------------------------------
 */

static bool
checkpoint_is_there(PGconn *conn, const Holder *holder, char **why)
{
	PGresult   *result = conn_query(conn, "SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()",
									options.timeout, why);
	bool		there = result != NULL &&
		strtoul(PQgetvalue(result, 0, 0), NULL, 10) >= holder->timeline;

	PQclear(result);
	return there;
}

bool
holder_wait_checkpoint(const Holder *holder, char **why)
{
	ClockTime	deadline = clock_now() + Max(options.wait, 60) * CLOCK_S;
	PGconn	   *conn = holder_session(holder, NULL, why);
	bool		there;

	if (conn == NULL)
		return false;
	there = checkpoint_is_there(conn, holder, why);
	if (!there)
	{
		char	   *denied = NULL;

		/* without the right to ask for one (pg_checkpoint) it comes later */
		PQclear(conn_query(conn, "CHECKPOINT", Max(options.wait, 60), &denied));
		*why = "Its first checkpoint on its timeline has not come yet; a role that is a member of pg_checkpoint can ask for it.";
		while (!(there = checkpoint_is_there(conn, holder, why)) &&
			   PQstatus(conn) == CONNECTION_OK && clock_now() < deadline)
			pg_usleep(250000L);
	}
	PQfinish(conn);
	return there;
}
