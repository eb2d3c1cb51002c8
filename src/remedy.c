/*
 * remedy.c
 *		From the cause of a failure to the operations that mend it.
 *
 * See remedy.h.  Must never do I/O or depend on the server.
 */
#include "remedy.h"

#include <stdio.h>
#include <string.h>

#include "remedy_plan.h"

static const PlanMaker maker[CAUSE_COUNT] = {
	[CAUSE_BAD_ADDRESS] = way_bad_address,
	[CAUSE_NO_ADDRESS] = way_no_address,
	[CAUSE_REFUSED] = way_refused,
	[CAUSE_TIMEOUT] = way_timeout,
	[CAUSE_NO_ROUTE] = way_no_route,
	[CAUSE_NO_SOCKET] = way_no_socket,
	[CAUSE_CLOSED] = way_closed,
	[CAUSE_SILENT] = way_silent,
	[CAUSE_NOT_POSTGRES] = way_not_postgres,
	[CAUSE_TLS_MISSING] = tls_missing,
	[CAUSE_TLS_REQUIRED] = tls_required,
	[CAUSE_TLS_CERTIFICATE] = tls_certificate,
	[CAUSE_TLS_NAME] = tls_name,
	[CAUSE_TLS_CLIENT] = tls_client,
	[CAUSE_TLS] = tls_other,
	[CAUSE_NO_HBA] = door_no_hba,
	[CAUSE_HBA_REJECTS] = door_hba_rejects,
	[CAUSE_NO_PASSWORD] = door_no_password,
	[CAUSE_WRONG_PASSWORD] = door_wrong_password,
	[CAUSE_AUTHENTICATION] = door_authentication,
	[CAUSE_NO_ROLE] = door_no_role,
	[CAUSE_NO_LOGIN] = door_no_login,
	[CAUSE_NO_DATABASE] = door_no_database,
	[CAUSE_NO_CONNECT] = door_no_connect,
	[CAUSE_DATABASE_CLOSED] = door_database_closed,
	[CAUSE_TOO_MANY] = door_too_many,
	[CAUSE_TOO_MANY_OF_ROLE] = door_too_many_of_role,
	[CAUSE_STARTING] = door_starting,
	[CAUSE_STOPPING] = door_stopping,
	[CAUSE_NO_STANDBY_SESSIONS] = door_no_standby_sessions,
	[CAUSE_WRONG_SERVER] = way_wrong_server,
	[CAUSE_NOT_PRELOADED] = door_not_preloaded,
	[CAUSE_NO_EXTENSION] = door_no_extension,
	[CAUSE_NO_PRIVILEGE] = door_no_privilege,
	[CAUSE_NO_STORE] = door_no_store,
	[CAUSE_NO_STORE_PRIVILEGE] = door_no_store_privilege,
	[CAUSE_OTHER] = door_other,
};

/* What is left to say if the names are such that nothing exact can be. */
static int
explain(const RemedyFacts *facts, Remedy remedy[REMEDY_MAX])
{
	memset(&remedy[0], 0, sizeof(remedy[0]));
	remedy[0].kind = REMEDY_CONFIGURATION;
	remedy[0].action = ACTION_NONE;
	snprintf(remedy[0].run_on, sizeof(remedy[0].run_on), "%.127s", facts->target);
	snprintf(remedy[0].operation, sizeof(remedy[0].operation), "# %s",
			 cause_text(facts->cause));
	snprintf(remedy[0].why, sizeof(remedy[0].why), "%s",
			 "A name is too long, or of a kind that cannot be written down safely; "
			 "the operation has to be made up by hand.");
	return 1;
}

int
remedy_list(const RemedyFacts *facts, Remedy remedy[REMEDY_MAX])
{
	Plan		plan;

	if (facts->cause == CAUSE_NONE)
		return 0;
	plan_begin(&plan, facts, remedy);
	if ((unsigned) facts->cause < CAUSE_COUNT)
		maker[facts->cause] (&plan);
	else
		door_other(&plan);
	return plan.failed ? explain(facts, remedy) : plan.n;
}

/* ------------------------------------------------------------------------
 * pg_hba.conf
 * ------------------------------------------------------------------------
 */

/*
 * The address by which the target sees the source: the source's own end of the
 * connection, or what the target's own report says, or what the source advertises, be
 * it a name.  If nothing is known, the networks of the target itself.
 */
static void
add_address(Text *text, const RemedyFacts *facts)
{
	const char *address = plan_source_address(facts);
	int			family = text_address_family(address);

	if (family != 0)
		text_add(text, "%s/%d", address, family == 4 ? 32 : 128);
	else if (facts->source_host[0] != '\0' && facts->source_host[0] != '/' &&
			 facts->source_host[0] != '@')
		text_add(text, "%H", facts->source_host);
	else
		text_add(text, "samenet");
}

bool
remedy_hba_line(const RemedyFacts *facts, char *line, int size)
{
	Text		text;
	Plan		plan;

	/* for its defaults, and what it thinks of the role */
	plan_begin(&plan, facts, NULL);
	text_begin(&text, line, (size_t) size);
	if (plan_is_local(&plan))
		text_add(&text, "local %H %H", plan.database, plan.user);
	else
	{
		text_add(&text, "%s %H %H ", facts->encrypted ? "hostssl" : "host",
				 plan.database, plan.user);
		add_address(&text, facts);
	}
	text_add(&text, " scram-sha-256");
	if (text.failed || plan.failed)
		line[0] = '\0';
	return line[0] != '\0';
}

static bool
lets_in(const ReportHba *hba)
{
	return hba != NULL && hba->line > 0 && hba->method[0] != '\0' &&
		strcmp(hba->method, "reject") != 0;
}

Cause
cause_with_hba(Cause cause, const Fault *fault, const ReportHba *plain,
			   const ReportHba *encrypted)
{
	const ReportHba *met = fault->encrypted ? encrypted : plain;

	if (cause != CAUSE_NO_HBA && cause != CAUSE_HBA_REJECTS)
		return cause;
	if (fault->local)
		return cause;
	if (!fault->encrypted && !lets_in(plain) && lets_in(encrypted))
		return CAUSE_TLS_REQUIRED;
	if (met != NULL && met->line > 0 && strcmp(met->method, "reject") == 0)
		return CAUSE_HBA_REJECTS;
	return cause;
}

/* ------------------------------------------------------------------------
 * Names
 * ------------------------------------------------------------------------
 */

static const char *const kind_name[] = {
	[REMEDY_SQL] = "sql",
	[REMEDY_CONFIGURATION] = "configuration",
	[REMEDY_SHELL] = "shell",
};

static const char *const action_name[] = {
	[ACTION_NONE] = "none",
	[ACTION_RELOAD] = "reload",
	[ACTION_HBA_LINE] = "hba_line",
	[ACTION_CREATE_ROLE] = "create_role",
	[ACTION_ALLOW_LOGIN] = "allow_login",
	[ACTION_GRANT_CONNECT] = "grant_connect",
	[ACTION_CREATE_EXTENSION] = "create_extension",
	[ACTION_GRANT_MONITOR] = "grant_monitor",
};

#define LENGTH(array)	(sizeof(array) / sizeof((array)[0]))

const char *
remedy_kind_name(RemedyKind kind)
{
	return (unsigned) kind < LENGTH(kind_name) ? kind_name[kind] : "";
}

const char *
remedy_action_name(RemedyAction action)
{
	return (unsigned) action < LENGTH(action_name) ? action_name[action] : "none";
}

int
remedy_action_of(const char *name)
{
	for (size_t i = 0; i < LENGTH(action_name); i++)
		if (strcmp(action_name[i], name) == 0)
			return (int) i;
	return -1;
}
