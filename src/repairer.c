/*
 * repairer.c
 *		The short-lived worker that performs one operation of a fixed list.
 *
 * Whoever asks says no more than which operation it is, and for which node.  The
 * names and the address come from that node's report: they are checked here and
 * quoted, whatever they are.  What goes wrong, and what is refused, is an ERROR of
 * this worker, which becomes the answer.
 *
 * Statements are stopped by the fence as those of any session; on a fenced node that
 * is a cluster of its own, leasehold.local_ddl lets them through.  Must never be
 * given text to execute.
 */
#include "postgres.h"

#include "compat.h"

#include <signal.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "libpq/libpq.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/procarray.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#include "fence.h"
#include "hba.h"
#include "paths.h"
#include "repair.h"
#include "visitor.h"
#include "workers.h"

/* Somebody may hold a lock that is needed; the asker waits a little longer. */
#define PATIENCE_MS		20000

/* What is performed, for whom. */
static RepairBox box;
static Visitor visitor;
static bool has_report;			/* "visitor" is filled */
static ReportSelf of_source;

/* ------------------------------------------------------------------------
 * The request and its answer
 * ------------------------------------------------------------------------
 */

static void
wake_asker(int pid)
{
	PGPROC	   *proc = BackendPidGetProc(pid);

	if (proc != NULL)
		SetLatch(&proc->procLatch);
	shared_wake_prober();
}

/* Whatever comes: the store takes UTF-8 and nothing else. */
static void
make_utf8(char *text)
{
	int			length = strlen(text);
	int			valid;

	while ((valid = pg_encoding_verifymbstr(PG_UTF8, text, length)) < length)
	{
		text[valid] = '?';
		text += valid;
		length -= valid;
	}
}

static void
put_answer(const char *what, const char *text)
{
	RepairBox  *shared = &leasehold_paths->repair;

	LWLockAcquire(leasehold_paths->lock, LW_EXCLUSIVE);
	if (shared->number == box.number && shared->state == REPAIR_RUNNING)
	{
		snprintf(shared->answer, sizeof(shared->answer), "%s\t%s", what, text);
		make_utf8(shared->answer);
		shared->state = shared->until == 0 ? REPAIR_FREE : REPAIR_DONE;
		shared->until = clock_now() + REPAIR_MAX;
	}
	LWLockRelease(leasehold_paths->lock);
	wake_asker(box.pid);
}

/* This process ends, however it ends. */
static void
answer_at_exit(int code, Datum arg)
{
	LWLockReleaseAll();
	put_answer("error", "it could not be done; the log of the server there says why");
}

/* False if nobody waits for it any more. */
static bool
take_request(uint32 number)
{
	RepairBox  *shared = &leasehold_paths->repair;
	bool		taken = false;

	LWLockAcquire(leasehold_paths->lock, LW_EXCLUSIVE);
	if ((uint32) shared->number == number && shared->state == REPAIR_ASKED &&
		clock_now() < shared->until)
	{
		shared->state = REPAIR_RUNNING;
		box = *shared;
		taken = true;
	}
	LWLockRelease(leasehold_paths->lock);
	return taken;
}

/* What the node whose path is to be mended says of itself. */
static void
read_report(void)
{
	const Paths *paths = paths_copy();

	has_report = visitor_find(paths, box.source, &visitor);
	if (has_report)
		(void) report_read_self(paths_find_report(paths, box.source)->text, &of_source);
}

/* ------------------------------------------------------------------------
 * What is refused
 * ------------------------------------------------------------------------
 */

static bool
is_this_node(void)
{
	return strcmp(box.source, settings_node_name()) == 0;
}

static void
require_known_node(void)
{
	if (!has_report && !is_this_node())
		ereport(ERROR,
				(errmsg("no report of node \"%s\" has come here", box.source)));
}

static void
require_report(void)
{
	if (is_this_node())
		ereport(ERROR,
				(errmsg("node \"%s\" is the one that is asked", box.source)));
	require_known_node();
}

/*
 * A name that another node says: no longer than names are, all of it to be seen.
 * (Longer ones were cut as the report was read.)  NULL if it is a name.
 */
static const char *
judge_name(const char *name)
{
	if (name[0] == '\0')
		return "is missing in its report";
	if (strlen(name) >= NAMEDATALEN - 1)
		return "is too long";
	for (const char *c = name; *c != '\0'; c++)
		if ((unsigned char) *c < ' ' || *c == 0x7F)
			return "has a control character";
	return NULL;
}

static void
require_name(const char *what, const char *name)
{
	const char *fault = judge_name(name);

	if (fault != NULL)
		ereport(ERROR,
				(errmsg("the name of the %s of node \"%s\" %s", what, box.source,
						fault)));
}

/* "public" would be everybody, quoted or not. */
static void
require_role(void)
{
	require_report();
	require_name("role", visitor.user);
	if (strcmp(visitor.user, "public") == 0 || strcmp(visitor.user, "none") == 0)
		ereport(ERROR, (errmsg("\"%s\" is no name of a role", visitor.user)));
}

static void
require_database(void)
{
	require_report();
	require_name("database", visitor.database);
}

/* A role and all that it is a member of. */
#define REACH \
	"WITH RECURSIVE reach AS (" \
	"  SELECT a.oid FROM pg_authid a WHERE a.rolname = $1" \
	"  UNION" \
	"  SELECT m.roleid FROM pg_auth_members m JOIN reach r ON m.member = r.oid)"

/*
 * Which role, and from where, the store says, so whoever writes there could have any
 * role let in.  Those of peers need no privileges: one that has some is left to
 * people.  (REPLICATION is for standbys; pg_monitor is what we grant.)
 */
static const char privileged_sql[] =
REACH
" SELECT a.rolname FROM pg_authid a JOIN reach r ON r.oid = a.oid"
" WHERE a.rolsuper OR a.rolcreaterole OR a.rolcreatedb OR a.rolbypassrls"
"  OR (left(a.rolname, 3) = 'pg_' AND a.rolname NOT IN ('pg_monitor',"
"   'pg_read_all_settings', 'pg_read_all_stats', 'pg_stat_scan_tables'))"
" LIMIT 1";

/* What is more than the right to connect somewhere. */
static const char endowed_sql[] =
REACH
" SELECT a.rolname FROM pg_authid a JOIN reach r ON r.oid = a.oid"
" WHERE left(a.rolname, 3) <> 'pg_' AND (a.rolreplication"
"  OR EXISTS (SELECT FROM pg_shdepend d"
"   WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = a.oid"
"   AND NOT (d.classid = 'pg_database'::regclass AND d.deptype = 'a')))"
" LIMIT 1";

static const char database_sql[] =
"SELECT d.datname FROM pg_database d WHERE d.datname = $1"
" AND (d.datistemplate OR NOT d.datallowconn)";

static const char foreign_schema_sql[] =
"SELECT n.nspname FROM pg_namespace n WHERE n.nspname = 'leasehold'"
" AND $1 <> '' AND NOT EXISTS"
" (SELECT FROM pg_extension e WHERE e.extname = 'leasehold')";

/* The one value that a query of those above finds for a name; NULL if none. */
static char *
look_up(const char *sql, const char *name)
{
	Oid			type = TEXTOID;
	Datum		value = CStringGetTextDatum(name);
	char	   *found = NULL;

	if (SPI_execute_with_args(sql, 1, &type, &value, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "the catalog cannot be read");
	if (SPI_processed > 0)
		found = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	return found;
}

static void
require_role_of_peer(void)
{
	char	   *privileged = look_up(privileged_sql, visitor.user);

	if (privileged != NULL)
		ereport(ERROR,
				(errmsg("role \"%s\" has privileges by \"%s\", so it is left to people",
						visitor.user, privileged)));
}

/* NOLOGIN may be somebody's lock; a role that can do nothing needs none. */
static void
require_role_without_rights(void)
{
	char	   *endowed = look_up(endowed_sql, visitor.user);

	if (endowed != NULL)
		ereport(ERROR,
				(errmsg("role \"%s\" has rights or belongings by \"%s\", so it is left to people",
						visitor.user, endowed)));
}

/* Neither what every new database begins with, nor what somebody has closed. */
static void
require_open_database(void)
{
	if (look_up(database_sql, visitor.database) != NULL)
		ereport(ERROR,
				(errmsg("database \"%s\" is a template, or closed", visitor.database)));
}

/* Its owner could lay traps between the extension's functions. */
static void
require_own_schema(void)
{
	if (look_up(foreign_schema_sql, visitor.database) != NULL)
		ereport(ERROR,
				(errmsg("database \"%s\" has a schema \"leasehold\" of its own",
						visitor.database)));
}

/*
 * For what writes: not on a standby, nor on a branch that may be dead, where the
 * fence would let through what is said to be local.
 */
static void
require_primary(void)
{
	KeeperStatus *status = palloc(sizeof(KeeperStatus));
	bool		independent = shared_read(&leasehold_shared->status, status) &&
		strcmp(status->kind, "independent") == 0;

	if (RecoveryInProgress() ||
		(!independent && shared_is_governed(fence_shared) &&
		 shared_lease_epoch(&fence_shared->instance) == 0))
		ereport(ERROR, (errmsg("it has to be run on the holder")));
	pfree(status);
}

/* ------------------------------------------------------------------------
 * SQL
 * ------------------------------------------------------------------------
 */

static char *
run(char *sql)
{
	int			result;

	SetConfigOption("leasehold.local_ddl", "on", PGC_SUSET, PGC_S_SESSION);
	result = SPI_execute(sql, false, 0);
	if (result < 0)
		elog(ERROR, "could not run \"%s\": %s", sql, SPI_result_code_string(result));
	return sql;
}

static char *
create_role(void)
{
	require_role();
	require_primary();
	if (OidIsValid(get_role_oid(visitor.user, true)))
		return psprintf("role \"%s\" is there already", visitor.user);
	return run(psprintf("CREATE ROLE %s LOGIN", quote_identifier(visitor.user)));
}

static char *
allow_login(void)
{
	require_role();
	require_primary();
	require_role_of_peer();
	require_role_without_rights();
	return run(psprintf("ALTER ROLE %s LOGIN", quote_identifier(visitor.user)));
}

static char *
grant_connect(void)
{
	require_role();
	require_database();
	require_primary();
	require_role_of_peer();
	require_open_database();
	return run(psprintf("GRANT CONNECT ON DATABASE %s TO %s",
						quote_identifier(visitor.database),
						quote_identifier(visitor.user)));
}

static char *
grant_monitor(void)
{
	require_role();
	require_primary();
	require_role_of_peer();
	return run(psprintf("GRANT pg_monitor TO %s", quote_identifier(visitor.user)));
}

/* This session is in the database where the node looks for it. */
static char *
create_extension(void)
{
	require_database();
	require_primary();
	require_open_database();
	require_own_schema();
	return run(pstrdup("CREATE EXTENSION IF NOT EXISTS leasehold"));
}

/* ------------------------------------------------------------------------
 * pg_hba.conf
 * ------------------------------------------------------------------------
 */

static char *
reload(void)
{
	if (kill(PostmasterPid, SIGHUP) != 0)
		ereport(ERROR, (errmsg("could not signal the postmaster: %m")));
	return pstrdup("the configuration is read anew");
}

/*
 * Since 16 a name that begins with a slash is a regular expression, quoted or not:
 * what looks like one role would be many.
 */
static void
require_plain(const char *what, const char *name)
{
	if (name[0] == '/')
		ereport(ERROR,
				(errmsg("the name of the %s begins with a slash", what)));
}

static void
require_file_without_error(void *arg)
{
	char	   *what;
	int			line = hba_error(&what);

	if (line > 0)
		ereport(ERROR,
				(errmsg("line %d of file \"%s\" has an error: %s", line, HbaFileName,
						what)));
}

/* The draft does what it should: what is quoted wrongly would be seen here. */
static void
require_effect(void *arg)
{
	const HbaDraft *draft = arg;
	ReportHba	met;

	require_file_without_error(NULL);
	hba_meet(&visitor, visitor.encrypted, &met);
	if (met.line != draft->line || met.file[0] != '\0' ||
		strcmp(met.method, "scram-sha-256") != 0)
		ereport(ERROR, (errmsg("the new line would not have the effect that it should")));
}

/* Another line that asks for a password would change nothing. */
static bool
lets_in(const ReportHba *met)
{
	static const char *const methods[] = {"scram-sha-256", "md5", "password", "trust"};

	for (int i = 0; i < lengthof(methods); i++)
		if (strcmp(met->method, methods[i]) == 0)
			return true;
	return false;
}

static void
compose_line(char *line, int size)
{
	RemedyFacts *facts = palloc0(sizeof(RemedyFacts));

	strlcpy(facts->source, visitor.node, sizeof(facts->source));
	strlcpy(facts->target, settings_node_name(), sizeof(facts->target));
	strlcpy(facts->from, visitor.address, sizeof(facts->from));
	strlcpy(facts->user, visitor.user, sizeof(facts->user));
	strlcpy(facts->database, visitor.database, sizeof(facts->database));
	facts->encrypted = visitor.encrypted;
	if (visitor.local)
		strlcpy(facts->host, "/", sizeof(facts->host));
	facts->source_known = true;
	facts->of_source = of_source;
	remedy_hba_line(facts, line, size);
	if (line[0] == '\0' || strpbrk(line, "\r\n") != NULL)
		ereport(ERROR, (errmsg("the new line cannot be written")));
}

static char *
add_line(const char *line)
{
	HbaDraft	draft = {0};

	PG_TRY();
	{
		hba_draft(&draft, line);
		hba_look_at_draft(&draft, require_effect, &draft);
		hba_install(&draft);
	}
	PG_CATCH();
	{
		hba_forget(&draft);
		PG_RE_THROW();
	}
	PG_END_TRY();
	(void) reload();
	return psprintf("line %d of file \"%s\" is now: %s", draft.line, draft.file, line);
}

/*
 * Behind all others, so no line is overruled, not even one of which it cannot be told
 * whether it is met: who has said no, or how somebody has to come, is not contradicted.
 */
static char *
add_hba_line(void)
{
	ReportHba	met;
	char		line[REMEDY_TEXT_LEN];

	require_role();
	require_database();
	require_plain("role", visitor.user);
	require_plain("database", visitor.database);
	require_role_of_peer();
	if (!visitor.known)
		ereport(ERROR,
				(errmsg("it is not known from which address node \"%s\" comes",
						box.source)));
	require_file_without_error(NULL);
	hba_meet(&visitor, visitor.encrypted, &met);
	if (lets_in(&met))
	{
		/* but perhaps the server has not read it */
		(void) reload();
		return psprintf("line %d of pg_hba.conf lets it in already, by method %s; the configuration is read anew",
						met.line, met.method);
	}
	if (met.line > 0)
		ereport(ERROR,
				(errmsg("line %d of pg_hba.conf decides by method %s, which is left to people",
						met.line, met.method)));
	compose_line(line, sizeof(line));
	return add_line(line);
}

/* ------------------------------------------------------------------------
 * The worker
 * ------------------------------------------------------------------------
 */

static char *
perform(void)
{
	switch (box.action)
	{
		case ACTION_RELOAD:
			require_known_node();
			return reload();
		case ACTION_HBA_LINE:
			return add_hba_line();
		case ACTION_CREATE_ROLE:
			return create_role();
		case ACTION_ALLOW_LOGIN:
			return allow_login();
		case ACTION_GRANT_CONNECT:
			return grant_connect();
		case ACTION_CREATE_EXTENSION:
			return create_extension();
		case ACTION_GRANT_MONITOR:
			return grant_monitor();
		default:
			elog(ERROR, "no such operation: %d", (int) box.action);
	}
}

static char *
perform_in_transaction(void)
{
	char	   *done;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	done = MemoryContextStrdup(TopMemoryContext, perform());
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	return done;
}

static void
tell_done(const char *done)
{
	ereport(LOG,
			(errmsg("leasehold: repaired the path of node \"%s\" to this one: %s",
					box.source, remedy_action_name(box.action)),
			 errdetail("Asked by %s \"%s\".  Done: %s.", box.by_node ? "node" : "role",
					   box.by, done)));
	put_answer("ok", done);
}

static void
tell_failed(const char *why)
{
	ereport(LOG,
			(errmsg("leasehold: did not repair the path of node \"%s\" to this one: %s",
					box.source, remedy_action_name(box.action)),
			 errdetail("Asked by %s \"%s\".  The reason: %s.",
					   box.by_node ? "node" : "role", box.by, why)));
	put_answer("error", why);
}

/* Which database the session has to be in; one that is not there ends us. */
static const char *
choose_database(void)
{
	return box.action == ACTION_CREATE_EXTENSION && has_report &&
		judge_name(visitor.database) == NULL ? visitor.database : "postgres";
}

void
leasehold_repairer_main(Datum arg)
{
	MemoryContextSwitchTo(TopMemoryContext);
	if (!take_request(DatumGetUInt32(arg)))
		proc_exit(0);
	before_shmem_exit(answer_at_exit, (Datum) 0);
	read_report();
	workers_open_session(choose_database());
	enable_timeout_after(STATEMENT_TIMEOUT, PATIENCE_MS);
	PG_TRY();
	{
		tell_done(perform_in_transaction());
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(TopMemoryContext);
		error = CopyErrorData();
		FlushErrorState();
		AbortCurrentTransaction();
		tell_failed(error->message);
	}
	PG_END_TRY();
	proc_exit(0);
}
