/*
 * embedded.c
 *		leasehold.store = 'embedded': this instance is its own store.
 *
 * One instance, two lines of configuration: the database leasehold_store, the
 * schema in it, the list of members with this one member and the row of the
 * lease are made here.  The steward has no database connection, so this is done
 * by two short-lived workers, one after the other: the first makes the database
 * from another one, the second fills it, in one transaction.  Each leaves alone
 * what it finds there.
 *
 * The upper half runs in the steward and never waits; the lower half runs in
 * those workers, which the fence lets pass: what they write is the store's own.
 * Must never change a list of members or a lease that exists.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parse_node.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "embedded.h"
#include "fence.h"
#include "roster.h"
#include "shared.h"
#include "store_care.h"
#include "workers.h"

#define STORE_DATABASE	"leasehold_store"
#define DEFAULT_TTL_MS	10000

/* What a worker is to do, and what it has done when it says so. */
#define STAGE_NONE		0
#define STAGE_DATABASE	1
#define STAGE_CONTENT	2

#define POLL			(20 * CLOCK_MS)
#define RETRY_MIN		(5 * CLOCK_S)
#define RETRY_MAX		(60 * CLOCK_S)

/* ------------------------------------------------------------------------
 * In the steward
 * ------------------------------------------------------------------------
 */

void
embedded_init(Embedded *embedded)
{
	memset(embedded, 0, sizeof(*embedded));
}

static bool
is_asked_for(const Embedded *embedded)
{
	return settings_store_embedded() &&
		strcmp(embedded->made_for, settings_lease()) != 0;
}

ClockTime
embedded_due(const Embedded *embedded)
{
	return is_asked_for(embedded) ? embedded->next : CLOCK_NEVER;
}

static void
retry_later(Embedded *embedded, ClockTime now, const char *hint)
{
	ClockTime	pause = RETRY_MIN << Min(embedded->failures, 4);

	if (embedded->failures++ == 0)
		ereport(LOG,
				(errmsg("leasehold: the embedded store could not be made"),
				 errdetail("It is tried again."),
				 errhint("%s", hint)));
	embedded->stage = STAGE_NONE;
	embedded->next = now + clock_min(pause, RETRY_MAX);
}

/*
 * A worker fails for good when its database is not there; so every other
 * attempt goes by way of template1.
 */
static void
start_worker(Embedded *embedded, int stage, ClockTime now)
{
	embedded->worker = workers_begin("store maker", "leasehold_embedded_main",
									 BgWorkerStart_RecoveryFinished,
									 Int32GetDatum(stage),
									 stage == STAGE_CONTENT ? STORE_DATABASE :
									 embedded->failures % 2 == 0 ? "postgres" :
									 "template1");
	if (embedded->worker == NULL)
	{
		retry_later(embedded, now,
					"The server has no free worker process: raise max_worker_processes.");
		return;
	}
	/* by the time it has ended, another lease may be asked for */
	strlcpy(embedded->making_for, settings_lease(), sizeof(embedded->making_for));
	embedded->stage = stage;
	embedded->next = now + POLL;
}

/* The worker has ended: has it done what it was asked to? */
static void
judge_worker(Embedded *embedded, ClockTime now)
{
	int			stage = embedded->stage;

	pfree(embedded->worker);
	embedded->worker = NULL;
	if ((int) pg_atomic_read_u32(&leasehold_shared->embedded_made) != stage)
	{
		retry_later(embedded, now,
					"See the message that the server logged just before this one.");
		return;
	}
	if (stage == STAGE_DATABASE)
	{
		start_worker(embedded, STAGE_CONTENT, now);
		return;
	}
	embedded->failures = 0;
	embedded->stage = STAGE_NONE;
	embedded->started_at = 0;
	strlcpy(embedded->made_for, embedded->making_for, sizeof(embedded->made_for));
	shared_wake_keeper();
}

void
embedded_step(Embedded *embedded, ClockTime now)
{
	pid_t		pid;

	if (embedded->worker == NULL && !is_asked_for(embedded))
		return;
	if (now < embedded->next)
		return;
	if (embedded->started_at == 0)
		embedded->started_at = now;
	if (RecoveryInProgress())
	{
		/* a start takes moments, a standby stays one */
		embedded->next = now +
			(now - embedded->started_at < 10 * CLOCK_S ? 5 * POLL : CLOCK_S);
		return;
	}
	if (embedded->worker == NULL)
	{
		pg_atomic_write_u32(&leasehold_shared->embedded_made, STAGE_NONE);
		start_worker(embedded, STAGE_DATABASE, now);
	}
	else if (GetBackgroundWorkerPid(embedded->worker, &pid) == BGWH_STOPPED)
		judge_worker(embedded, now);
	else
		embedded->next = now + POLL;
}

/* ------------------------------------------------------------------------
 * In the workers: the database
 * ------------------------------------------------------------------------
 */

/* From template0: what others have put into template1 is none of ours. */
static void
make_database(void)
{
	CreatedbStmt *stmt = makeNode(CreatedbStmt);
	ParseState *pstate;

	if (OidIsValid(get_database_oid(STORE_DATABASE, true)))
		return;
	stmt->dbname = STORE_DATABASE;
	stmt->options = list_make1(makeDefElem("template",
										   (Node *) makeString("template0"), -1));
	pstate = make_parsestate(NULL);
	createdb(pstate, stmt);
	free_parsestate(pstate);
	ereport(LOG, (errmsg("leasehold: database \"%s\" is made", STORE_DATABASE)));
}

/* ------------------------------------------------------------------------
 * In the workers: what is in it
 * ------------------------------------------------------------------------
 */

static void
run(const char *sql, int nargs, Oid *types, Datum *values, int expected)
{
	int			result = SPI_execute_with_args(sql, nargs, types, values, NULL,
											   false, 0);

	if (result != expected)
		elog(ERROR, "unexpected result of a statement on the store: %s",
			 SPI_result_code_string(result));
}

static void
make_schema(void)
{
	int			result;

	if (OidIsValid(get_namespace_oid(STORE_DATABASE, true)))
		return;
	result = SPI_execute(store_read_script(), false, 0);
	if (result < 0)
		elog(ERROR, "could not run \"%s\": %s", STORE_SCRIPT,
			 SPI_result_code_string(result));
	CommandCounterIncrement();
}

static char *
first_value(void)
{
	char	   *value = NULL;

	if (SPI_processed == 1)
		value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (value == NULL)
		elog(ERROR, "the store row is missing");
	return value;
}

/*
 * The list of one member, this instance, unless there is a list.  The identity
 * is what the keeper will find when it asks over a connection (store.c).
 */
static void
make_roster(void)
{
	Roster		roster = {0};
	char		members[ROSTER_TEXT_LEN];
	Oid			types[1] = {TEXTOID};
	Datum		values[1];

	run("SELECT store_id FROM leasehold_store.store WHERE id = 1", 0, NULL,
		NULL, SPI_OK_SELECT);
	roster.generation = 1;
	roster.n = 1;
	strlcpy(roster.id[0].store_id, first_value(), ROSTER_ID_LEN);
	snprintf(roster.id[0].sysid, ROSTER_SYSID_LEN, INT64_FORMAT,
			 (int64) GetSystemIdentifier());
	roster.id[0].timeline = (int32) GetWALInsertionTimeLine();
	run("SELECT pg_catalog.gen_random_uuid()::pg_catalog.text", 0, NULL, NULL,
		SPI_OK_SELECT);
	strlcpy(roster.lineage, first_value(), ROSTER_ID_LEN);
	if (!roster_format(&roster, members, sizeof(members)))
		elog(ERROR, "the list of members is too long");
	values[0] = CStringGetTextDatum(members);
	run("UPDATE leasehold_store.store SET generation = 1, settled = true,"
		" members = $1 WHERE id = 1 AND generation = 0", 1, types, values,
		SPI_OK_UPDATE);
}

/* The row of the lease, as leasehold.create_lease() would make it. */
static void
make_lease(const char *lease)
{
	Oid			types[2] = {TEXTOID, INT4OID};
	Datum		values[2];

	values[0] = CStringGetTextDatum(lease);
	values[1] = Int32GetDatum(DEFAULT_TTL_MS);
	run("INSERT INTO leasehold_store.lease (name, holder, incarnation, epoch,"
		" version, nonce, ttl_ms, frozen, reserved_for, request_seq,"
		" ttl_wanted_ms, pause_wanted, handover_to, answer, kind, scope,"
		" system_identifier, timeline, timeline_begin, timeline_epoch, holder_lsn, sync_set,"
		" ready_seq, dropped)"
		" VALUES ($1, '', 0, 0, 0, 0, $2, false, '', 0, $2, false, '', '',"
		" 'independent', 'instance', '', 0, '', 0, '', '', 0, false)"
		" ON CONFLICT (name) DO NOTHING", 2, types, values, SPI_OK_INSERT);
}

static void
make_content(void)
{
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	make_schema();
	make_roster();
	make_lease(settings_lease());
	SPI_finish();
}

void
leasehold_embedded_main(Datum arg)
{
	int			stage = DatumGetInt32(arg);

	fence_process = FENCE_PROCESS_EXEMPT;
	workers_open_session(MyBgworkerEntry->bgw_extra);
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (stage == STAGE_DATABASE)
		make_database();
	else
		make_content();
	PopActiveSnapshot();
	CommitTransactionCommand();
	pg_atomic_write_u32(&leasehold_shared->embedded_made, (uint32) stage);
	proc_exit(0);
}
