/*
 * sql_spread.c
 *		leasehold.spread(): leases of tables to where they belong.
 *
 * The rule is in spread.c.  Here it gets to know who holds what, who takes part
 * and who is alive; and what it says is done, if that is wanted.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "group_tables.h"
#include "settings.h"
#include "spread.h"
#include "sql.h"
#include "sql_row.h"

PG_FUNCTION_INFO_V1(leasehold_spread);

#define CALL_MS			30000
#define SWITCHOVER_MS	30000
#define LEASES_MAX		1000

typedef struct Task
{
	int			nnodes;
	const char *node[SPREAD_NODES_MAX];
	bool		alive[SPREAD_NODES_MAX];
	int			nleases;
	const char *name[LEASES_MAX];
	SpreadLease *lease;			/* [LEASES_MAX] */
} Task;

/* ------------------------------------------------------------------------
 * What there is
 * ------------------------------------------------------------------------
 */

static int
find_node(const Task *task, const char *name)
{
	for (int k = 0; k < task->nnodes; k++)
		if (strcmp(task->node[k], name) == 0)
			return k;
	return SPREAD_NOBODY;
}

/* Its number; it counts as dead until somebody has seen it. */
static int
number_node(Task *task, const char *name)
{
	int			k = find_node(task, name);

	if (k != SPREAD_NOBODY)
		return k;
	if (task->nnodes == SPREAD_NODES_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("leases are spread over at most %d nodes", SPREAD_NODES_MAX)));
	task->node[task->nnodes] = pstrdup(name);
	return task->nnodes++;
}

static void
add_leases(Task *task, StoreGroup *group)
{
	StoreLease *row = palloc(sizeof(StoreLease) * LEASES_MAX);
	int			n = group_leases(group, row, LEASES_MAX);

	task->lease = palloc0(sizeof(SpreadLease) * LEASES_MAX);
	for (int i = 0; i < n; i++)
	{
		SpreadLease *lease = &task->lease[task->nleases];

		if (strcmp(row[i].scope, "tables") != 0)
			continue;
		task->name[task->nleases++] = pstrdup(row[i].name);
		lease->fixed = row[i].row.frozen || row[i].row.pause_wanted;
		lease->holder = row[i].row.holder[0] == '\0' ? SPREAD_NOBODY :
			number_node(task, row[i].row.holder);
	}
	pfree(row);
}

static void
add_memberships(Task *task, StoreGroup *group)
{
	GroupMemberships rows;

	group_memberships(group, &rows);
	for (int i = 0; i < rows.n; i++)
		for (int k = 0; k < task->nleases; k++)
			if (strcmp(task->name[k], rows.row[i].lease) == 0)
				task->lease[k].priority[number_node(task, rows.row[i].node)] =
					rows.row[i].priority;
}

static void
add_living(Task *task)
{
	Survey	   *survey = sql_fresh_survey(clock_now() + 2 * CLOCK_S);

	if (survey == NULL)
		survey = sql_survey();
	for (int k = 0; k < task->nnodes; k++)
	{
		const SurveyNode *seen = sql_find_node(survey, task->node[k]);

		task->alive[k] = strcmp(task->node[k], settings_node_name()) == 0 ||
			(seen != NULL && seen->alive);
	}
}

static Task *
survey_task(void)
{
	Task	   *task = palloc0(sizeof(Task));
	StoreGroup *group = group_of_settings("", clock_now() + clock_ms(CALL_MS));

	add_leases(task, group);
	add_memberships(task, group);
	add_living(task);
	group_close(group);
	return task;
}

/* ------------------------------------------------------------------------
 * What is to be done, and doing it
 * ------------------------------------------------------------------------
 */

static const char *
why(const Task *task, const SpreadLease *lease)
{
	int			from = lease->holder;

	if (from == SPREAD_NOBODY)
		return "nobody holds it";
	if (!task->alive[from])
		return psprintf("node \"%s\" is not alive", task->node[from]);
	if (lease->priority[from] == 0)
		return psprintf("node \"%s\" is not to have it by itself", task->node[from]);
	if (lease->priority[from] < lease->priority[lease->to])
		return psprintf("node \"%s\" has priority %d, node \"%s\" only %d",
						task->node[lease->to], lease->priority[lease->to],
						task->node[from], lease->priority[from]);
	return psprintf("node \"%s\" has fewer leases", task->node[lease->to]);
}

/* One that fails is told of, and does not keep the others from being tried. */
static char *
try_switchover(const char *target, const char *lease)
{
	MemoryContext context = CurrentMemoryContext;
	/* its connections end with it, whatever becomes of it */
	MemoryContext work = AllocSetContextCreate(context, "leasehold switchover",
											   ALLOCSET_SMALL_SIZES);
	ResourceOwner owner = CurrentResourceOwner;
	char	   *volatile done = NULL;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		int64		epoch;

		MemoryContextSwitchTo(work);
		epoch = sql_switchover(target, lease,
							   clock_now() + clock_ms(SWITCHOVER_MS));
		MemoryContextSwitchTo(context);
		done = psprintf("done, epoch " INT64_FORMAT, epoch);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
			PG_RE_THROW();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		done = error->detail == NULL ? psprintf("failed: %s", error->message) :
			psprintf("failed: %s: %s", error->message, error->detail);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	MemoryContextDelete(work);
	return done;
}

/*
 * leasehold_spread
 *		A row for each lease of tables that does not stand where it belongs; with
 *		"apply", each is handed over in turn.
 */
Datum
leasehold_spread(PG_FUNCTION_ARGS)
{
	bool		apply = PG_GETARG_BOOL(0);
	Task	   *task;

	sql_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	task = survey_task();
	spread_leases(task->lease, task->nleases, task->nnodes, task->alive);
	for (int i = 0; i < task->nleases; i++)
	{
		const SpreadLease *lease = &task->lease[i];
		Row			row = {0};

		if (lease->to == lease->holder)
			continue;
		row_text(&row, task->name[i]);
		row_text(&row, lease->holder == SPREAD_NOBODY ? NULL :
				 task->node[lease->holder]);
		row_text(&row, task->node[lease->to]);
		row_text(&row, why(task, lease));
		row_text(&row, apply ?
				 try_switchover(task->node[lease->to], task->name[i]) : NULL);
		row_put(fcinfo, &row);
	}
	return (Datum) 0;
}
