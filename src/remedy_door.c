/*
 * remedy_door.c
 *		Operations that let a connection in: pg_hba.conf, roles, passwords,
 *		databases, and what has to be there behind the door.
 *
 * See remedy.h.  Must never do I/O or depend on the server.
 */
#include "remedy_plan.h"

#include <stdio.h>
#include <string.h>

/* ------------------------------------------------------------------------
 * pg_hba.conf
 * ------------------------------------------------------------------------
 */

/*
 * Comes before the line that was met, if one was; "top" says before all.  The file
 * is replaced at one stroke, and keeps its owner and mode.
 */
static void
add_hba_line(Plan *plan, RemedyAction action, bool top, const char *why)
{
	const RemedyFacts *facts = plan->facts;
	char		line[512];
	char		file[512];
	char		port[16];
	int			before = facts->hba_known ? facts->hba.line : 0;

	if (!remedy_hba_line(facts, line, sizeof(line)))
		plan->failed = true;
	if (facts->target_known && facts->of_target.hba_file[0] != '\0')
		plan_text(plan, file, sizeof(file), "F=%S", facts->of_target.hba_file);
	else
		plan_text(plan, file, sizeof(file),
				  "F=$(psql -p %s -d postgres -XAtc 'SHOW hba_file')",
				  plan_target_port(plan, port));
	if (before <= 0 && top)
		before = 1;
	if (before > 0)
		plan_add(plan, facts->target, REMEDY_SHELL, action, why,
				 "%s && cp -p \"$F\" \"$F.new\" && L=%S awk 'NR == %d "
				 "{ print ENVIRON[\"L\"] } { print }' \"$F\" > \"$F.new\" && "
				 "mv \"$F.new\" \"$F\"", file, line, before);
	else
		plan_add(plan, facts->target, REMEDY_SHELL, action, why,
				 "%s && printf '\\n%%s\\n' %S >> \"$F\"", file, line);
	plan_reload(plan, action == ACTION_NONE ? ACTION_NONE : ACTION_RELOAD);
}

void
door_no_hba(Plan *plan)
{
	/* an address of which too little is known is for people to judge */
	bool		exact = plan_is_local(plan) ||
		plan_source_address(plan->facts)[0] != '\0';

	add_hba_line(plan, exact ? ACTION_HBA_LINE : ACTION_NONE, false,
				 "No line of pg_hba.conf lets this role in from this address to this "
				 "database; this one does, with a password.");
}

/* Somebody has said no: it is for people to take that back. */
void
door_hba_rejects(Plan *plan)
{
	add_hba_line(plan, ACTION_NONE, true,
				 "A line of pg_hba.conf rejects the source, on purpose perhaps. The "
				 "first line that matches counts, so this one goes before it.");
}

void
door_authentication(Plan *plan)
{
	add_hba_line(plan, ACTION_NONE, true,
				 "The method of the line that was met does not know the source as "
				 "this role. This line goes before it, and asks for a password.");
	plan_password_line(plan, "The source gives this password; put it in the place of "
					   "<password>.");
}

/* ------------------------------------------------------------------------
 * Roles and passwords
 * ------------------------------------------------------------------------
 */

/* psql asks for it, and sends it encrypted. */
static void
set_password(Plan *plan, const char *why)
{
	plan_write(plan, ACTION_NONE, why, "\\password %I", plan->user);
}

void
door_no_password(Plan *plan)
{
	plan_password_line(plan, "The server asks for a password, and the source knows "
					   "none for it; put it in the place of <password>.");
	set_password(plan, "If the role has no password yet, this asks for one and "
				 "sets it.");
}

void
door_wrong_password(Plan *plan)
{
	plan_write(plan, ACTION_NONE,
			   "A server says the same of a wrong password and of a role that does not "
			   "exist; so this makes the role, if it does not.",
			   "SELECT format('CREATE ROLE %%I LOGIN', %L) WHERE NOT EXISTS "
			   "(SELECT FROM pg_roles WHERE rolname = %L) \\gexec\n"
			   "\\password %I", plan->user, plan->user, plan->user);
	plan_password_line(plan, "The source gives the same password; put it in the place "
					   "of <password>.");
}

static void
grant_store(Plan *plan, const char *why)
{
	plan_write_in(plan, plan->database, ACTION_NONE, why,
				  "GRANT USAGE ON SCHEMA leasehold_store TO %I;\n"
				  "GRANT SELECT ON ALL TABLES IN SCHEMA leasehold_store TO %I;\n"
				  "GRANT INSERT, UPDATE ON leasehold_store.store, "
				  "leasehold_store.lease TO %I;\n"
				  "GRANT INSERT, UPDATE, DELETE ON leasehold_store.node, "
				  "leasehold_store.history, leasehold_store.report, "
				  "leasehold_store.outage, leasehold_store.mail TO %I;", plan->user,
				  plan->user, plan->user, plan->user);
}

static void
grant_monitor(Plan *plan, const char *why)
{
	plan_write(plan, ACTION_GRANT_MONITOR, why, "GRANT pg_monitor TO %I;",
			   plan->user);
}

void
door_no_role(Plan *plan)
{
	plan_write(plan, ACTION_CREATE_ROLE,
			   "The role by which the source connects does not exist.",
			   "CREATE ROLE %I LOGIN;", plan->user);
	if (plan->facts->member)
		grant_store(plan, "A node's role reads and writes the store.");
	else
		grant_monitor(plan, "A peer's role reads what the node says of itself.");
}

void
door_no_login(Plan *plan)
{
	plan_write(plan, ACTION_ALLOW_LOGIN,
			   "The role by which the source connects may not log in.",
			   "ALTER ROLE %I LOGIN;", plan->user);
}

/* ------------------------------------------------------------------------
 * Databases and slots
 * ------------------------------------------------------------------------
 */

static void
create_extension(Plan *plan, RemedyAction action)
{
	plan_write_in(plan, plan->database, action,
				  "The database to which the source connects has no leasehold, or an "
				  "older one.",
				  "CREATE EXTENSION IF NOT EXISTS leasehold;\n"
				  "ALTER EXTENSION leasehold UPDATE;");
}

void
door_no_database(Plan *plan)
{
	static const char why[] =
		"The database to which the source connects does not exist.";

	if (plan->facts->member)
	{
		/* the source's role makes the store in it */
		plan_write(plan, ACTION_NONE, why, "CREATE DATABASE %I OWNER %I;",
				   plan->database, plan->user);
		door_no_store(plan);
		return;
	}
	plan_write(plan, ACTION_NONE, why, "CREATE DATABASE %I;", plan->database);
	create_extension(plan, ACTION_NONE);
}

void
door_no_connect(Plan *plan)
{
	plan_write(plan, ACTION_GRANT_CONNECT,
			   "The role may not connect to the database.",
			   "GRANT CONNECT ON DATABASE %I TO %I;", plan->database, plan->user);
}

void
door_database_closed(Plan *plan)
{
	plan_write(plan, ACTION_NONE,
			   "Somebody has closed the database to all connections.",
			   "ALTER DATABASE %I ALLOW_CONNECTIONS true;", plan->database);
}

void
door_too_many(Plan *plan)
{
	const RemedyFacts *facts = plan->facts;
	int			slots = facts->target_known && facts->of_target.slots > 0 ?
		facts->of_target.slots : 100;

	plan_add(plan, facts->target, REMEDY_SQL, ACTION_NONE,
			 "Shows who holds the connections; whoever holds too many of them may be "
			 "the one to be mended.",
			 "SELECT usename, application_name, client_addr, state, count(*) FROM "
			 "pg_stat_activity WHERE backend_type = 'client backend' "
			 "GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC;");
	plan_add(plan, facts->target, REMEDY_SQL, ACTION_NONE,
			 "All slots are taken; this allows for half as many again. A standby must "
			 "not have fewer than its primary: begin with the standbys.",
			 "ALTER SYSTEM SET max_connections = %d;", slots + slots / 2);
	plan_restart(plan, "max_connections takes effect with a restart of the server.");
}

void
door_too_many_of_role(Plan *plan)
{
	plan_write(plan, ACTION_NONE,
			   "The role has all the connections that it may have; the failure's "
			   "message says whether it is the role or the database.",
			   "ALTER ROLE %I CONNECTION LIMIT -1;", plan->user);
	plan_write(plan, ACTION_NONE,
			   "The same for the database, if it is that one.",
			   "ALTER DATABASE %I CONNECTION LIMIT -1;", plan->database);
}

/* ------------------------------------------------------------------------
 * Servers that take no connections now
 * ------------------------------------------------------------------------
 */

void
door_starting(Plan *plan)
{
	char		host[300] = "";

	if (plan->facts->host[0] != '\0')
		plan_text(plan, host, sizeof(host), " -h %S", plan->facts->host);
	plan_add(plan, plan->facts->source, REMEDY_SHELL, ACTION_NONE,
			 "The server is on its way up. This waits until it takes connections; its "
			 "log says how far it is.",
			 "until pg_isready -q%s -p %s; do sleep 1; done", host, plan_port(plan));
}

void
door_stopping(Plan *plan)
{
	char		directory[256];

	plan->deaf = true;
	if (plan_directory(plan, directory)[0] != '\0')
		plan_add_there(plan, "Waits until the server is down.",
					   "while kill -s 0 \"$(head -n 1 \"$D/postmaster.pid\")\"; do "
					   "sleep 1; done 2>/dev/null");
	plan_start(plan, "Somebody has shut the server down; this starts it again.");
}

void
door_no_standby_sessions(Plan *plan)
{
	const RemedyFacts *facts = plan->facts;

	plan->deaf = true;
	plan_add(plan, facts->target, REMEDY_CONFIGURATION, ACTION_NONE,
			 "The standby runs with hot_standby = off, which also postgresql.auto.conf "
			 "or the command line may say.",
			 "# %S\nhot_standby = on", facts->target_known &&
			 facts->of_target.config_file[0] != '\0' ?
			 facts->of_target.config_file : "postgresql.conf");
	plan_restart(plan, "hot_standby takes effect with a restart of the server.");
}

/* ------------------------------------------------------------------------
 * Ready
 * ------------------------------------------------------------------------
 */

void
door_not_preloaded(Plan *plan)
{
	char		port[16];

	if (plan->facts->target_known && !plan->facts->member && !plan_is_local(plan) &&
		strcmp(plan_target_port(plan, port), plan_port(plan)) != 0)
	{
		plan_correct_address(plan, "Some other server answers there: the node listens "
							 "on another port than the one that it tells its peers.");
		return;
	}
	plan_add(plan, plan->facts->target, REMEDY_SQL, ACTION_NONE,
			 "Adds leasehold to the libraries that the server loads when it starts; "
			 "what stands there stays.",
			 "SELECT 'ALTER SYSTEM SET shared_preload_libraries = ' || "
			 "string_agg(quote_literal(btrim(l, ' \"')), ', ') FROM "
			 "unnest(string_to_array(concat_ws(',', "
			 "nullif(current_setting('shared_preload_libraries'), ''), "
			 "'leasehold'), ',')) l \\gexec");
	plan_restart(plan, "shared_preload_libraries takes effect with a restart of the "
				 "server.");
}

void
door_no_extension(Plan *plan)
{
	create_extension(plan, ACTION_CREATE_EXTENSION);
}

void
door_no_privilege(Plan *plan)
{
	grant_monitor(plan, "A peer's role reads what the node says of itself.");
	plan_write_in(plan, plan->database, ACTION_NONE,
				  "Everybody has these rights, unless they were revoked.",
				  "GRANT USAGE ON SCHEMA leasehold TO %I;\n"
				  "GRANT EXECUTE ON FUNCTION leasehold.identity() TO %I;",
				  plan->user, plan->user);
}

/* The file comes with the extension, so it is at the source, not at the member. */
void
door_no_store(Plan *plan)
{
	const RemedyFacts *facts = plan->facts;
	char		port[16] = "";
	char		conninfo[1024];

	if (facts->source_known && facts->of_source.port > 0)
		snprintf(port, sizeof(port), " -p %d", facts->of_source.port);
	plan_text(plan, conninfo, sizeof(conninfo), "host=%C port=%s dbname=%C user=%C",
			  facts->host, plan_port(plan), plan->database, plan->user);
	plan_add(plan, facts->source, REMEDY_SHELL, ACTION_NONE,
			 "The member's database has no store yet. The role has to be allowed to "
			 "create a schema there.",
			 "psql -X -v ON_ERROR_STOP=1 -1 -d %S -f \"$(psql%s -d postgres -XAtc "
			 "\"SELECT setting || '/extension/leasehold-store.sql' FROM pg_config "
			 "WHERE name = 'SHAREDIR'\")\"", conninfo, port);
}

void
door_no_store_privilege(Plan *plan)
{
	grant_store(plan, "The role may not read and write the store.");
}

void
door_other(Plan *plan)
{
	const RemedyFacts *facts = plan->facts;
	char		conninfo[1024];

	plan_text(plan, conninfo, sizeof(conninfo), "%s%C port=%s dbname=%C user=%C",
			  facts->host[0] != '\0' ? "host=" : "hostaddr=",
			  facts->host[0] != '\0' ? facts->host :
			  facts->address[0] != '\0' ? facts->address : "127.0.0.1",
			  plan_port(plan), plan->database, plan->user);
	plan_add(plan, facts->source, REMEDY_SHELL, ACTION_NONE,
			 "No operation is known for this failure. This tries the same connection; "
			 "the target's log says more of why it fails.",
			 "psql -X -d %S -c 'SELECT 1'", conninfo);
}
