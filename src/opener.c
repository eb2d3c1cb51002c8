/*
 * opener.c
 *		A short-lived worker that sees to the data of table leases in its database
 *		before their tables are opened.
 *
 * Handed over: the tables have to be brought here by subscriptions from the node
 * that writes them now, these have to have applied all that it wrote, and the
 * sequences have to be past all that it has given out.  What the nodes wrote that
 * had the lease before that one comes by subscriptions of its own, and has to be
 * here, too.  What takes time is done when the hand-over is prepared: the catalogs
 * are read, the publishers are connected to, and what others wrote is waited for.
 * What is left is to see one number pass another, one question and a setval().
 *
 * Taken from a node that fell silent: there is nothing to wait for.  The sequences
 * are moved past what is stored here, with a margin for what was written there and
 * did not come, and the log says how far this node has come.
 *
 * One worker for each database, for all the leases that have tables there; none of
 * them waits for another.  It stays for some seconds after the last request.  An
 * error fails one request; if the worker ends before its time, the steward says so
 * in its place.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "replication/origin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timeout.h"

#include "compat.h"
#include "fence.h"
#include "names.h"
#include "opener.h"
#include "syncset.h"
#include "workers.h"

#define LINGER			(10 * CLOCK_S)
#define POLL			CLOCK_MS
#define PLAN_AGE_MAX	(30 * CLOCK_S)
#define WORK_TIMEOUT_MS	3000

/* From the answer that all is applied: longer than this no sequence is waited for. */
#define VALUES_TIME		CLOCK_S

/* A publisher that cannot be reached may come back for so long. */
#define GONE_TIME		CLOCK_S

typedef enum JobStage
{
	JOB_NONE,
	JOB_IDENTIFY,
	JOB_NAMES,
	JOB_EARLIER,
	JOB_APPLY
} JobStage;

/* What is being done for one slot. */
typedef struct Job
{
	JobStage	stage;
	OpeningRequest request;
	ClockTime	began;
	bool		told;			/* the publishers need not be asked any more */
	OpeningPlan *plan;			/* also of the last request, if it was to prepare */
} Job;

typedef struct Opener
{
	int			desk;
	Job		   *job;			/* [setting_leases_max] */
	ClockTime	last_work;
	MemoryContext turn_context;
} Opener;

static Opener opener;

/* ------------------------------------------------------------------------
 * Ending a job
 * ------------------------------------------------------------------------
 */

static const char *
lease_of(const Job *job)
{
	return leasehold_tables->slot[job - opener.job].name;
}

static void
answer(Job *job, OpeningState state, const char *why)
{
	job->stage = JOB_NONE;
	if (state == OPENING_FAILED || job->request.kind == OPENING_TO_BEGIN)
	{
		plan_free(job->plan);
		job->plan = NULL;
	}
	opening_answer(opener.desk, (int) (job - opener.job), job->request.number,
				   state, why);
}

/*
 * Run a piece of work in this database.  An error is logged, and fails the job.
 */
static bool
run_guarded(Job *job, void (*work) (Job *))
{
	MemoryContext context = CurrentMemoryContext;
	char		why[OPENING_WHY_LEN];
	volatile bool good = false;
	ClockTime	left = (job->request.until - clock_now()) / CLOCK_MS;

	PG_TRY();
	{
		/* once the keeper waits no more, clients may draw from the sequences */
		enable_timeout_after(STATEMENT_TIMEOUT,
							 (int) clock_max(1, clock_min(left, WORK_TIMEOUT_MS)));
		work(job);
		good = true;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		snprintf(why, sizeof(why), "an error: %s", CopyErrorData()->message);
		EmitErrorReport();
		FlushErrorState();
		AbortCurrentTransaction();
	}
	PG_END_TRY();
	disable_timeout(STATEMENT_TIMEOUT, false);
	/* it may have struck between the work and here */
	QueryCancelPending = false;
	MemoryContextSwitchTo(context);
	if (!good)
		answer(job, OPENING_FAILED, why);
	return good;
}

/* ------------------------------------------------------------------------
 * Taken from a node that fell silent
 * ------------------------------------------------------------------------
 */

/* Where the node said it was, when it was last heard of. */
static void
last_told(const char *node, char *lsn, Size size)
{
	Survey	   *survey = leasehold_shared->survey;

	lsn[0] = '\0';
	if (!LWLockConditionalAcquire(leasehold_shared->survey_lock, LW_SHARED))
		return;
	for (int i = 0; i < survey->nnodes; i++)
		if (strcmp(survey->node[i].name, node) == 0)
			strlcpy(lsn, survey->node[i].lsn, size);
	LWLockRelease(leasehold_shared->survey_lock);
}

static void
append_progress(StringInfo out, const PlanWay *way)
{
	Progress	progress;

	progress_read(way, &progress);
	progress.seen = Max(progress.seen, progress.committed);
	if (progress.seen == 0)
		appendStringInfo(out, " Subscription \"%s\" has applied nothing since it was made", way->name);
	else
		appendStringInfo(out, " Subscription \"%s\" has applied up to %X/%X", way->name,
						 LSN_FORMAT_ARGS(progress.seen));
	if (!progress.runs)
		appendStringInfoString(out, ", and does not run.");
	else if (progress.heard_ms >= 0)
		appendStringInfo(out, ", its last message is " INT64_FORMAT " ms old.", progress.heard_ms);
	else
		appendStringInfoString(out, ", and has heard nothing.");
}

static void
tell_progress(Job *job)
{
	StringInfoData said;
	char		lsn[24];
	List	   *seen = NIL;
	ListCell   *cell;
	ListCell   *inner;

	initStringInfo(&said);
	if (job->request.from[0] == '\0')
		appendStringInfoString(&said, "Nobody held it.");
	else
	{
		last_told(job->request.from, lsn, sizeof(lsn));
		appendStringInfo(&said, "Node \"%s\" last told position %s.",
						 job->request.from, lsn[0] != '\0' ? lsn : "unknown");
	}
	foreach(cell, job->plan->tables)
	{
		PlanTable  *table = lfirst(cell);

		foreach(inner, table->ways)
		{
			PlanWay    *way = lfirst(inner);

			if (!list_member_oid(seen, way->subid))
				append_progress(&said, way);
			seen = list_append_unique_oid(seen, way->subid);
		}
	}
	if (seen == NIL)
		appendStringInfoString(&said, " No subscription of this database brings its tables.");
	ereport(LOG,
			(errmsg("leasehold: the tables of lease \"%s\" in database \"%s\" are opened without the node that wrote them last",
					lease_of(job), MyBgworkerEntry->bgw_extra),
			 errdetail("%s", said.data)));
}

/* A number that this node has to itself: its place among the names of all. */
static int
own_turn(void)
{
	Survey	   *survey = leasehold_shared->survey;
	int			turn = 0;

	LWLockAcquire(leasehold_shared->survey_lock, LW_SHARED);
	for (int i = 0; i < survey->nnodes; i++)
		turn += strcmp(survey->node[i].name, settings_node_name()) < 0;
	LWLockRelease(leasehold_shared->survey_lock);
	return turn;
}

/* Where nobody wrote before, there is nothing that could be late. */
static void
open_alone(Job *job)
{
	tell_progress(job);
	(void) plan_move_sequences(job->plan, job->request.from[0] == '\0' ?
							   PLAN_ALL_SEEN : own_turn());
	answer(job, OPENING_READY, "");
}

/* ------------------------------------------------------------------------
 * Handed over
 * ------------------------------------------------------------------------
 */

/* Call "each" for every source that may bring a table, or does: do all say true? */
static bool
each_source(Job *job, bool chosen, bool (*each) (Job *, Source *))
{
	List	   *sources = NIL;
	ListCell   *cell;
	ListCell   *inner;
	bool		all = true;

	foreach(cell, job->plan->tables)
	{
		PlanTable  *table = lfirst(cell);

		foreach(inner, table->ways)
			if (!chosen || lfirst(inner) == table->way)
				sources = list_append_unique_ptr(sources, ((PlanWay *) lfirst(inner))->source);
	}
	foreach(cell, sources)
		all &= each(job, lfirst(cell));
	return all;
}

static bool
identify(Job *job, Source *source)
{
	return source_identify(source, job->began,
						   job->began + 4 * CLOCK_S);
}

static bool
ask_names(Job *job, Source *source)
{
	char	   *sql = plan_names_sql(job->plan, source);

	if (sql == NULL)
		return true;
	if (!source_ask(source, SOURCE_NAMES, (int) (job - opener.job),
					job->request.number, sql, job->request.until))
		return false;
	if (source->result != NULL)
		plan_take_names(job->plan, source->result);
	return true;
}

static bool
ask_values(Job *job, Source *source)
{
	char	   *sql = plan_values_sql(job->plan, source);

	if (sql == NULL)
		return true;
	if (!source_identify(source, job->began, job->began + VALUES_TIME))
		return false;
	if (!source_ask(source, SOURCE_VALUES, (int) (job - opener.job),
					job->request.number, sql, clock_now() + VALUES_TIME))
		return false;
	if (source->result != NULL)
		plan_take_values(job->plan, source->result);
	return true;
}

/*
 * How far had those come who may have written before?  None of them writes any
 * more: all that they did is in their WAL.  Asked once, since they go on writing
 * other tables.  Who cannot be asked is left out.
 */
static bool
ask_position(Job *job, Source *source)
{
	if (!source->known || !plan_wants_position(job->plan, source))
		return true;
	if (!source_ask(source, SOURCE_POSITION, (int) (job - opener.job),
					job->request.number,
					"SELECT pg_catalog.pg_current_wal_flush_lsn()",
					clock_now() + VALUES_TIME))
		return false;
	if (source->result != NULL)
		plan_take_position(job->plan, source);
	return true;
}

/*
 * "until": there is nothing more to wait for after this moment.  A publisher that
 * is gone sends no more.
 */
static bool
has_applied(Job *job, char *why, ClockTime *until)
{
	ListCell   *cell;

	why[0] = '\0';
	*until = job->request.until;
	foreach(cell, job->plan->tables)
	{
		PlanTable  *table = lfirst(cell);
		bool		runs;

		if (progress_come_to(table->way, job->request.lsn, &runs, why))
			continue;
		if (!runs && !table->way->source->known)
			*until = clock_min(*until, job->began + GONE_TIME);
		return false;
	}
	return true;
}

/* The same for those who wrote before. */
static bool
has_applied_earlier(Job *job, char *why)
{
	ListCell   *cell;
	ListCell   *inner;
	bool		runs;

	foreach(cell, job->plan->tables)
	{
		PlanTable  *table = lfirst(cell);

		foreach(inner, table->ways)
		{
			PlanWay    *way = lfirst(inner);

			if (way->earlier != 0 &&
				!progress_come_to(way, way->earlier, &runs, why))
				return false;
		}
	}
	return true;
}

/* Why sequences could not be read; "" if it is not known. */
static const char *
fault_of_sources(const Job *job)
{
	ListCell   *cell;

	foreach(cell, job->plan->tables)
	{
		const Source *source = ((PlanTable *) lfirst(cell))->way->source;

		if (source->result == NULL && source->link.fault[0] != '\0')
			return source->link.fault;
	}
	return "it has none of the same column or name";
}

/*
 * What was applied has to be on this disk before something is written that builds
 * on it: an apply worker need not have waited for that.
 */
static void
move_sequences(Job *job)
{
	int			untold = plan_move_sequences(job->plan,
									(job->request.how & OPENING_DOUBT) != 0 ?
									own_turn() : PLAN_ALL_SEEN);
	ListCell   *cell;

	foreach(cell, job->plan->tables)
		(void) replorigin_get_progress(((PlanTable *) lfirst(cell))->way->origin, true);

	if (untold > 0)
		ereport(LOG,
				(errmsg("leasehold: sequences of lease \"%s\" (%d) are set by what is stored in their columns here, since node \"%s\" does not tell them",
						lease_of(job), untold, job->request.from),
				 errdetail("What it says: %s.", fault_of_sources(job))));
	answer(job, OPENING_READY, "");
}

static void
step_apply(Job *job, ClockTime now)
{
	char		why[OPENING_WHY_LEN];
	ClockTime	until;

	job->told = job->told || each_source(job, true, ask_values);
	if (!has_applied(job, why, &until))
	{
		if (now >= until)
			answer(job, OPENING_FAILED, why);
	}
	else if (job->told)
		(void) run_guarded(job, move_sequences);
}

static void
step_earlier(Job *job, ClockTime now)
{
	char		why[OPENING_WHY_LEN];

	if (!each_source(job, false, ask_position))
		return;
	if (!has_applied_earlier(job, why))
	{
		if (now >= job->request.until)
			answer(job, OPENING_FAILED, why);
		return;
	}
	job->plan->settled = true;
	if (job->request.kind == OPENING_TO_PREPARE)
		answer(job, OPENING_READY, "");
	else
	{
		job->stage = JOB_APPLY;
		step_apply(job, now);
	}
}

static void
step_names(Job *job, ClockTime now)
{
	if (!each_source(job, true, ask_names))
		return;
	job->stage = JOB_EARLIER;
	step_earlier(job, now);
}

static void
judge(Job *job, ClockTime now)
{
	char		why[OPENING_WHY_LEN];

	if (!plan_judge(job->plan, why))
	{
		answer(job, OPENING_FAILED, why);
		return;
	}
	job->stage = JOB_NAMES;
	step_names(job, now);
}

static void
step(Job *job, ClockTime now)
{
	switch (job->stage)
	{
		case JOB_NONE:
			break;
		case JOB_IDENTIFY:
			if (each_source(job, false, identify))
				judge(job, now);
			break;
		case JOB_NAMES:
			step_names(job, now);
			break;
		case JOB_EARLIER:
			step_earlier(job, now);
			break;
		case JOB_APPLY:
			step_apply(job, now);
			break;
	}
	if (job->stage != JOB_NONE && job->stage != JOB_APPLY &&
		now >= job->request.until)
		answer(job, OPENING_FAILED, "the publisher does not answer in time");
}

/* ------------------------------------------------------------------------
 * Requests
 * ------------------------------------------------------------------------
 */

/* Was all of it prepared for this very hand-over, a moment ago? */
static bool
is_prepared(const Job *job)
{
	const OpeningPlan *plan = job->plan;

	return plan != NULL && plan->judged && plan->settled &&
		job->request.kind == OPENING_TO_BEGIN &&
		(job->request.how & OPENING_HANDED) != 0 &&
		strcmp(plan->from, job->request.from) == 0 &&
		plan->generation == pg_atomic_read_u32(&leasehold_tables->generation) &&
		clock_now() < plan->made_at + PLAN_AGE_MAX;
}

static void
make_plan(Job *job)
{
	plan_free(job->plan);
	job->plan = NULL;
	job->plan = plan_make((int) (job - opener.job), &job->request);
}

static void
start(Job *job, ClockTime now)
{
	job->began = now;
	job->told = false;
	if (job->request.lsn != 0 && is_prepared(job))
	{
		job->stage = JOB_APPLY;
		step(job, now);
		return;
	}
	if (!run_guarded(job, make_plan))
		return;
	if (job->plan == NULL)
		answer(job, OPENING_FAILED, "the list of protected tables cannot be read");
	else if (job->plan->tables == NIL)
		answer(job, OPENING_READY, "");
	else if (job->request.kind == OPENING_TO_BEGIN && job->request.lsn == 0)
		(void) run_guarded(job, open_alone);
	else
	{
		job->stage = JOB_IDENTIFY;
		step(job, now);
	}
}

/* One turn for all slots; true while there is something under way. */
static bool
turn(void)
{
	int			nslots = (int) pg_atomic_read_u32(&leasehold_tables->nslots);
	ClockTime	now = clock_now();
	bool		busy = false;

	sources_poll(now);
	for (int slot = 0; slot < nslots; slot++)
	{
		Job		   *job = &opener.job[slot];
		OpeningRequest request;

		if (!opening_read(opener.desk, slot, &request))
			job->stage = JOB_NONE;
		else if (job->stage == JOB_NONE || request.number != job->request.number)
		{
			job->request = request;
			start(job, now);
		}
		else
			step(job, now);
		busy |= job->stage != JOB_NONE;
	}
	if (busy)
		opener.last_work = now;
	return busy;
}

static void
wait_for_something(bool busy)
{
	uint32		wants = 0;
	pgsocket	socket = sources_busy(&wants);
	ClockTime	now = clock_now();
	long		timeout = busy ? clock_wait_ms(now, now + POLL) :
		clock_wait_ms(now, opener.last_work + LINGER);
	int			events = WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH;

	if (busy && socket != PGINVALID_SOCKET)
		(void) WaitLatchOrSocket(MyLatch, events | wants, socket, timeout,
								 compat_wait_event("LeaseholdOpener"));
	else
		(void) WaitLatch(MyLatch, events, timeout, compat_wait_event("LeaseholdOpener"));
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* Whoever waits for this desk is the steward's to look after from here on. */
static void
tell_steward(int code, Datum arg)
{
	shared_wake_steward();
}

/* One for each desk: a second one goes, as its steward forgot the first. */
static void
take_desk(int i)
{
	OpeningDesk *desk = &leasehold_opening->desk[i];
	uint32		nobody = 0;

	if (!pg_atomic_compare_exchange_u32(&desk->seat.pid, &nobody, (uint32) MyProcPid))
	{
		pg_atomic_write_u32(&desk->left, 1);
		proc_exit(0);
	}
	before_shmem_exit(tell_steward, (Datum) 0);
	shared_take_seat(&desk->seat);
	if (strcmp(desk->database, MyBgworkerEntry->bgw_extra) != 0)
	{
		pg_atomic_write_u32(&desk->left, 1);
		proc_exit(0);
	}
}

void
leasehold_opener_main(Datum arg)
{
	opener.desk = DatumGetInt32(arg);
	fence_process = FENCE_PROCESS_EXEMPT;
	workers_open_session(MyBgworkerEntry->bgw_extra);
	take_desk(opener.desk);
	SetConfigOption("lock_timeout", "1s", PGC_SUSET, PGC_S_OVERRIDE);
	/* what clients write is flushed with it or after it; standbys need not have it */
	SetConfigOption("synchronous_commit", "local", PGC_SUSET, PGC_S_OVERRIDE);
	opener.job = MemoryContextAllocZero(TopMemoryContext,
										sizeof(Job) * setting_leases_max);
	opener.turn_context = AllocSetContextCreate(TopMemoryContext, "leasehold opener",
												ALLOCSET_DEFAULT_SIZES);
	opener.last_work = clock_now();
	pgstat_report_activity(STATE_IDLE, NULL);
	for (;;)
	{
		bool		busy;

		MemoryContextSwitchTo(opener.turn_context);
		MemoryContextReset(opener.turn_context);
		busy = turn();
		if (!busy && clock_now() >= opener.last_work + LINGER)
			break;
		wait_for_something(busy);
	}
	pg_atomic_write_u32(&leasehold_opening->desk[opener.desk].left, 1);
	proc_exit(0);
}
