/*
 * remedy_plan.c
 *		The list of operations while it is being made.
 *
 * See remedy_plan.h.  Must never do I/O or depend on the server.
 */
#include "remedy_plan.h"

#include <stdio.h>
#include <string.h>

/* "public" and "none" are no roles, even in quotes: a grant would go to everybody. */
static bool
is_role(const char *name)
{
	return strcmp(name, "public") != 0 && strcmp(name, "none") != 0;
}

static const char *
first_of(const char *a, const char *b, const char *c)
{
	return a[0] != '\0' ? a : b[0] != '\0' ? b : c;
}

void
plan_begin(Plan *plan, const RemedyFacts *facts, Remedy *remedy)
{
	plan->facts = facts;
	plan->remedy = remedy;
	plan->n = 0;
	plan->deaf = false;
	plan->user = first_of(facts->user,
						  facts->source_known ? facts->of_source.peer_user : "",
						  "leasehold");
	plan->database = first_of(facts->database, facts->source_known &&
							  !facts->member ? facts->of_source.peer_database : "",
							  facts->member ? "leasehold_store" : "postgres");
	plan->failed = !is_role(plan->user);
}

/* ------------------------------------------------------------------------
 * Operations
 * ------------------------------------------------------------------------
 */

static void
add(Plan *plan, const char *run_on, RemedyKind kind, RemedyAction action,
	const char *why, const char *before, const char *format, va_list arguments)
{
	Remedy	   *remedy = &plan->remedy[plan->n];
	Text		text;

	if (plan->n == REMEDY_MAX)
	{
		plan->failed = true;
		return;
	}
	plan->n++;
	memset(remedy, 0, sizeof(*remedy));
	remedy->kind = kind;
	remedy->action = plan->facts->member ? ACTION_NONE : action;
	remedy->safe = remedy->action != ACTION_NONE;

	text_begin(&text, remedy->run_on, sizeof(remedy->run_on));
	text_add(&text, "%s", run_on);
	plan->failed = plan->failed || text.failed;
	text_begin(&text, remedy->why, sizeof(remedy->why));
	text_add(&text, "%s", why);
	plan->failed = plan->failed || text.failed;
	text_begin(&text, remedy->operation, sizeof(remedy->operation));
	text_add(&text, "%s", before);
	text_add_va(&text, format, arguments);
	plan->failed = plan->failed || text.failed;
}

void
plan_add(Plan *plan, const char *run_on, RemedyKind kind, RemedyAction action,
		 const char *why, const char *format,...)
{
	va_list		arguments;

	va_start(arguments, format);
	add(plan, run_on, kind, action, why, "", format, arguments);
	va_end(arguments);
}

/*
 * Streaming standbys get by replication what their holder writes.  Elsewhere the
 * target itself has to have it, and a fenced one lets schema changes through only if
 * it is told to, by the session that makes them.
 */
static void
write_where_it_can_be(Plan *plan, const char *connect, RemedyAction action,
					  const char *why, const char *format, va_list arguments)
{
	const RemedyFacts *facts = plan->facts;
	bool		known = facts->target_known && !facts->member;
	bool		physical = known && facts->of_target.physical;
	const char *run_on = physical && facts->holder[0] != '\0' ? facts->holder :
		facts->target;
	char		before[256];

	plan_text(plan, before, sizeof(before), "%s%s", connect,
			  known && !physical && facts->of_target.fenced ?
			  "SET leasehold.local_ddl = on;\n" : "");
	add(plan, run_on, REMEDY_SQL, action, why, before, format, arguments);
}

void
plan_write(Plan *plan, RemedyAction action, const char *why,
		   const char *format,...)
{
	va_list		arguments;

	va_start(arguments, format);
	write_where_it_can_be(plan, "", action, why, format, arguments);
	va_end(arguments);
}

void
plan_write_in(Plan *plan, const char *database, RemedyAction action,
			  const char *why, const char *format,...)
{
	char		connect[160];
	va_list		arguments;

	plan_text(plan, connect, sizeof(connect), "\\connect %I\n", database);
	va_start(arguments, format);
	write_where_it_can_be(plan, connect, action, why, format, arguments);
	va_end(arguments);
}

const char *
plan_text(Plan *plan, char *buffer, size_t size, const char *format,...)
{
	Text		text;
	va_list		arguments;

	text_begin(&text, buffer, size);
	va_start(arguments, format);
	text_add_va(&text, format, arguments);
	va_end(arguments);
	plan->failed = plan->failed || text.failed;
	return buffer;
}

/* ------------------------------------------------------------------------
 * What is known
 * ------------------------------------------------------------------------
 */

bool
plan_is_local(const Plan *plan)
{
	return plan->facts->host[0] == '/' || plan->facts->host[0] == '@';
}

static bool
is_number(const char *text)
{
	return text[0] != '\0' && text[strspn(text, "0123456789")] == '\0';
}

const char *
plan_port(const Plan *plan)
{
	return is_number(plan->facts->port) ? plan->facts->port : "5432";
}

const char *
plan_target_port(const Plan *plan, char buffer[16])
{
	const RemedyFacts *facts = plan->facts;

	if (!facts->target_known || facts->of_target.port <= 0)
		return plan_port(plan);
	snprintf(buffer, 16, "%d", facts->of_target.port);
	return buffer;
}

/* What comes from others is an address only if it looks like one. */
const char *
plan_source_address(const RemedyFacts *facts)
{
	if (text_address_family(facts->from) != 0)
		return facts->from;
	if (facts->hba_known && text_address_family(facts->hba.address) != 0)
		return facts->hba.address;
	if (text_address_family(facts->source_host) != 0)
		return facts->source_host;
	return "";
}

const char *
plan_target_address(const Plan *plan)
{
	if (text_address_family(plan->facts->address) != 0)
		return plan->facts->address;
	if (text_address_family(plan->facts->host) != 0)
		return plan->facts->host;
	return "";
}

/* ------------------------------------------------------------------------
 * The server as a whole
 * ------------------------------------------------------------------------
 */

/* The target's data directory, as far as it has told. */
const char *
plan_directory(const Plan *plan, char buffer[256])
{
	const ReportSelf *self = &plan->facts->of_target;
	char	   *slash;

	if (!plan->facts->target_known)
		return "";
	if (self->data_directory[0] != '\0')
		return self->data_directory;
	/* without a packager's layout the files stand side by side */
	snprintf(buffer, 256, "%s", first_of(self->config_file, self->hba_file, ""));
	slash = strrchr(buffer, '/');
	if (slash == NULL || strncmp(buffer, "/etc/", 5) == 0)
		return "";
	*slash = '\0';
	return buffer;
}

/* D='/the/data/directory', known here, or asked there. */
static const char *
set_directory(Plan *plan, char *buffer, size_t size)
{
	char		directory[256];
	char		port[16];
	const char *known = plan_directory(plan, directory);

	if (known[0] != '\0')
		return plan_text(plan, buffer, size, "D=%S", known);
	return plan_text(plan, buffer, size,
					 "D=$(psql -p %s -d postgres -XAtc 'SHOW data_directory')",
					 plan_target_port(plan, port));
}

void
plan_add_there(Plan *plan, const char *why, const char *format,...)
{
	char		set[512];
	char		before[520];
	va_list		arguments;

	plan_text(plan, before, sizeof(before), "%s && ",
			  set_directory(plan, set, sizeof(set)));
	va_start(arguments, format);
	add(plan, plan->facts->target, REMEDY_SHELL, ACTION_NONE, why, before, format,
		arguments);
	va_end(arguments);
}

/*
 * By the packager's layout: Debian's clusters have their own command, PGDG's for Red
 * Hat their units, and must not be handled behind systemd's back.  Any other server
 * has left in postmaster.opts where its programs are.
 */
static void
server(Plan *plan, const char *what, const char *why)
{
	const RemedyFacts *facts = plan->facts;
	char		version[32] = "";
	char		cluster[64];
	char		directory[256];
	const char *data = plan_directory(plan, directory);
	int			end = 0;

	if (facts->target_known &&
		sscanf(facts->of_target.config_file, "/etc/postgresql/%31[^/]/%63[^/]/",
			   version, cluster) == 2)
		plan_add(plan, facts->target, REMEDY_SHELL, ACTION_NONE, why,
				 "pg_ctlcluster %S %S %s", version, cluster, what);
	else if (sscanf(data, "/var/lib/pgsql/%31[0-9]/data%n", version, &end) == 1 &&
			 end > 0 && data[end] == '\0')
		plan_add(plan, facts->target, REMEDY_SHELL, ACTION_NONE, why,
				 "systemctl %s postgresql-%s", what, version);
	else if (strcmp(data, "/var/lib/pgsql/data") == 0 ||
			 (data[0] == '\0' && (plan->deaf || strcmp(what, "start") == 0)))
		plan_add(plan, facts->target, REMEDY_SHELL, ACTION_NONE, why,
				 "systemctl %s postgresql", what);
	else
		plan_add_there(plan, why,
					   "\"$(dirname \"$(cut -d ' ' -f 1 \"$D/postmaster.opts\")\")"
					   "/pg_ctl\" %s -D \"$D\" -l \"$D/start.log\"", what);
}

void
plan_start(Plan *plan, const char *why)
{
	server(plan, "start", why);
}

void
plan_restart(Plan *plan, const char *why)
{
	server(plan, "restart", why);
}

void
plan_reload(Plan *plan, RemedyAction action)
{
	plan_add(plan, plan->facts->target, REMEDY_SQL, action,
			 "The server reads its files again.", "SELECT pg_reload_conf();");
}

/* ------------------------------------------------------------------------
 * Addresses and passwords
 * ------------------------------------------------------------------------
 */

/*
 * Where the node is, it knows best: it says so itself if all that is wrong is the
 * port, else its machine is asked.  A member's address stands in the store setting,
 * which nobody but its author can mend.
 */
void
plan_correct_address(Plan *plan, const char *why)
{
	const RemedyFacts *facts = plan->facts;
	char		right[16];
	char		advertise[512];
	const char *port = plan_target_port(plan, right);

	if (facts->member)
		plan_add(plan, facts->source, REMEDY_SQL, ACTION_NONE,
				 "The member's string in this list has to be corrected; "
				 "leasehold.set_store() takes the corrected list.",
				 "SHOW leasehold.store;");
	else if (facts->host[0] != '\0' && !plan_is_local(plan) &&
			 strcmp(port, plan_port(plan)) != 0)
		plan_add(plan, facts->target, REMEDY_SQL, ACTION_NONE, why,
				 "ALTER SYSTEM SET leasehold.advertise = %L;\n"
				 "SELECT pg_reload_conf();",
				 plan_text(plan, advertise, sizeof(advertise), "host=%C port=%s",
						   facts->host, port));
	else
		plan_add(plan, facts->target, REMEDY_SHELL, ACTION_NONE, why,
				 "psql -p %s -d postgres -X -c \"ALTER SYSTEM SET "
				 "leasehold.advertise = 'host=$(hostname -f) port=%s'\" "
				 "-c 'SELECT pg_reload_conf()'", port, port);
}

/*
 * The first line that matches counts, so this one goes before all others.  A local
 * socket is looked up under a name that depends on how libpq was built.
 */
void
plan_password_line(Plan *plan, const char *why)
{
	const RemedyFacts *facts = plan->facts;
	const char *host = plan_is_local(plan) ? "*" :
		first_of(facts->host, facts->address, "*");
	char		file[512];
	char		line[1024];

	/* the one that is known is for peers, not for members */
	if (facts->source_known && !facts->member &&
		facts->of_source.passfile[0] != '\0')
		plan_text(plan, file, sizeof(file), "F=%S", facts->of_source.passfile);
	else
		plan_text(plan, file, sizeof(file), "F=~/.pgpass");
	if (strcmp(host, "*") == 0)
		plan_text(plan, line, sizeof(line), "*:%s:%P:%P:<password>",
				  plan_port(plan), plan->database, plan->user);
	else
		plan_text(plan, line, sizeof(line), "%P:%s:%P:%P:<password>", host,
				  plan_port(plan), plan->database, plan->user);
	plan_add(plan, facts->source, REMEDY_SHELL, ACTION_NONE, why,
			 "( %s; umask 077; touch \"$F\" && { printf '%%s\\n' %S; cat \"$F\"; } "
			 "> \"$F.new\" && chmod 600 \"$F.new\" && mv \"$F.new\" \"$F\" )",
			 file, line);
}
