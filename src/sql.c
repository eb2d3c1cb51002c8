/*
 * sql.c
 *		What the SQL-callable functions share.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "utils/builtins.h"

#include "compat.h"
#include "settings.h"
#include "sql.h"

#define FRESH_MAX	CLOCK_S		/* for the nodes to be read anew */

void
sql_require_preloaded(void)
{
	const char *others = shared_preload_libraries_string;

	if (leasehold_shared != NULL)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("leasehold is not preloaded"),
			 errhint("Add the line shared_preload_libraries = '%s%sleasehold' to postgresql.conf and restart the server.",
					 others ? others : "", others && others[0] ? "," : "")));
}

/* ------------------------------------------------------------------------
 * Arguments
 * ------------------------------------------------------------------------
 */

char *
sql_text(FunctionCallInfo fcinfo, int arg)
{
	if (PG_ARGISNULL(arg))
		return NULL;
	return text_to_cstring(PG_GETARG_TEXT_PP(arg));
}

void
sql_check_name(const char *what, const char *name)
{
	size_t		len = strlen(name);

	if (len > 0 && len < LEASEHOLD_NAME_LEN &&
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
			   "0123456789_.:-") == len)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_NAME),
			 errmsg("invalid name for a %s", what),
			 errdetail("A name has 1 to %d letters, digits and characters of \"_.:-\".",
					   LEASEHOLD_NAME_LEN - 1)));
}

void
sql_unknown(const char *what, const char *name, const char *known)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("%s \"%s\" does not exist", what, name),
			 known[0] ? errhint("Known: %s.", known) :
			 errhint("The store knows none.")));
	pg_unreachable();
}

char *
sql_lease(FunctionCallInfo fcinfo, int arg)
{
	char	   *lease = sql_text(fcinfo, arg);

	if (lease != NULL)
		return lease;
	if (settings_lease()[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no lease governs this node"),
				 errhint("Name the lease, or set leasehold.lease.")));
	return pstrdup(settings_lease());
}

/* The leases that this node has read of, and its own. */
static char *
known_leases(const Survey *survey)
{
	StringInfoData names;
	const char *own = settings_lease();

	initStringInfo(&names);
	if (own[0] != '\0')
		appendStringInfo(&names, "\"%s\"", own);
	for (int i = 0; i < survey->nleases; i++)
		if (strcmp(survey->lease[i].name, own) != 0)
			appendStringInfo(&names, "%s\"%s\"", names.len > 0 ? ", " : "",
							 survey->lease[i].name);
	return names.data;
}

char *
sql_own_lease(FunctionCallInfo fcinfo, int arg)
{
	char	   *lease = sql_lease(fcinfo, arg);
	Survey	   *survey;

	if (strcmp(lease, settings_lease()) == 0 ||
		sql_table_slot(lease, NULL) != TABLES_NO_SLOT)
		return lease;
	survey = sql_survey();
	for (int i = 0; i < survey->nleases; i++)
		if (strcmp(survey->lease[i].name, lease) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("lease \"%s\" does not govern this node", lease),
					 strcmp(survey->lease[i].scope, "tables") == 0 ?
					 errhint("leasehold.join_lease() has this node take part in it.") :
					 errhint("leasehold.lease names the lease of this node.")));
	sql_unknown("lease", lease, known_leases(survey));
}

/* ------------------------------------------------------------------------
 * This node's leases
 * ------------------------------------------------------------------------
 */

uint64
sql_held_epoch(const char *lease)
{
	if (strcmp(lease, settings_lease()) == 0)
		return shared_lease_epoch(&fence_shared->instance);
	return tables_held_epoch(tables_find_slot(lease));
}

int
sql_table_slot(const char *lease, TableStatus *status)
{
	int			slot = tables_find_slot(lease);
	TableStatus copy;

	if (slot == TABLES_NO_SLOT)
		return TABLES_NO_SLOT;
	LWLockAcquire(leasehold_tables->status_lock, LW_SHARED);
	copy = leasehold_tables->status[slot];
	LWLockRelease(leasehold_tables->status_lock);
	if (status != NULL)
		*status = copy;
	return copy.takes_part ? slot : TABLES_NO_SLOT;
}

KeeperStatus *
sql_lease_status(const char *lease)
{
	KeeperStatus *status = sql_status();
	TableStatus table;
	int			slot;

	if (strcmp(lease, settings_lease()) == 0)
		return status;
	slot = sql_table_slot(lease, &table);
	if (slot == TABLES_NO_SLOT)
	{
		status->state = NODE_UNGOVERNED;
		return status;
	}
	strlcpy(status->lease, lease, sizeof(status->lease));
	strlcpy(status->holder, table.holder, sizeof(status->holder));
	strlcpy(status->reason, table.reason, sizeof(status->reason));
	strlcpy(status->kind, "independent", sizeof(status->kind));
	strlcpy(status->scope, "tables", sizeof(status->scope));
	status->state = table.state;
	status->epoch = table.epoch;
	status->ttl_ms = table.ttl_ms;
	status->last_renewal = table.last_renewal;
	status->renewal_latency = table.renewal_latency;
	status->sync_set[0] = '\0';
	/* a keeper that is stopped leaves an old page behind, see sql_status() */
	if ((status->state == NODE_HOLDER || status->state == NODE_PAUSED) &&
		tables_held_epoch(slot) == 0)
	{
		status->state = NODE_FENCED;
		snprintf(status->reason, sizeof(status->reason),
				 "The deadline has passed, and the keeper has not reported since.");
	}
	return status;
}

TableList *
sql_tables(void)
{
	TableList  *list = palloc(tables_list_size());

	if (!tables_read(list))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the list of protected tables is changing"),
				 errhint("Try again.")));
	return list;
}

const char *
sql_box_name(const char *lease)
{
	return strcmp(lease, settings_lease()) == 0 ? "" : lease;
}

ClockTime
sql_patience(int32 ttl_ms)
{
	ClockTime	ttl = clock_ms(ttl_ms);

	return clock_max(sql_status()->observation, ttl + ttl / 10 + clock_ms(20));
}

const StoreLease *
sql_require_lease(StoreGroup *group)
{
	const StoreLease *best = group_best(group);

	if (best == NULL || !best->row.present)
		sql_unknown("lease", group->lease, group_lease_names(group));
	return best;
}

void
sql_spare_session(void)
{
	if (MyProc != NULL && fence_shared != NULL)
		pg_atomic_write_u32(&shared_my_backend()->spared, 1);
}

int64
sql_milliseconds(FunctionCallInfo fcinfo, int arg, const char *what,
				 int64 min, int64 max)
{
	Interval   *span;
	double		ms;

	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", what)));
	span = PG_GETARG_INTERVAL_P(arg);
	ms = ((double) span->month * DAYS_PER_MONTH + span->day) *
		SECS_PER_DAY * 1000.0 + (double) span->time / 1000.0;
	if (ms < (double) min || ms > (double) max)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s is out of range", what),
				 errdetail("It has to be between " INT64_FORMAT " ms and " INT64_FORMAT " ms.",
						   min, max)));
	return (int64) ms;
}

Datum
sql_interval(ClockTime duration)
{
	Interval   *span = palloc0(sizeof(Interval));

	span->time = duration / 1000;
	return IntervalPGetDatum(span);
}

void
sql_judge_conninfo(const char *list)
{
	char	   *fault = conninfo_judge(list);

	if (fault != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid connection string"),
				 errdetail("%s", fault),
				 errhidestmt(true)));	/* it may have a secret in it */
}

char *
sql_uuid(void)
{
	unsigned char b[16];

	if (!pg_strong_random(b, sizeof(b)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	b[6] = (b[6] & 0x0f) | 0x40;
	b[8] = (b[8] & 0x3f) | 0x80;
	return psprintf("%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
					b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7],
					b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

/* ------------------------------------------------------------------------
 * What the workers have left
 * ------------------------------------------------------------------------
 */

void
sql_sleep(long ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

const char *
sql_state_name(NodeState state)
{
	switch (state)
	{
		case NODE_UNGOVERNED:
			return "ungoverned";
		case NODE_FENCED:
			return "fenced";
		case NODE_FOLLOWER:
			return "follower";
		case NODE_ACQUIRING:
			return "acquiring";
		case NODE_HOLDER:
			return "holder";
		case NODE_DRAINING:
			return "draining";
		case NODE_PAUSED:
			return "paused";
		case NODE_EXCLUDED:
			return "excluded";
	}
	return "unknown";
}

/*
 * A keeper that is stopped leaves an old page behind: what it says of the
 * present is then corrected by the deadline, which every process can judge.
 */
KeeperStatus *
sql_status(void)
{
	KeeperStatus *status = palloc0(sizeof(KeeperStatus));
	bool		held = shared_lease_epoch(&fence_shared->instance) != 0;

	if (!shared_read(&leasehold_shared->status, status))
	{
		status->state = shared_is_governed(fence_shared) ?
			NODE_FENCED : NODE_UNGOVERNED;
		strlcpy(status->node, settings_node_name(), sizeof(status->node));
		strlcpy(status->lease, settings_lease(), sizeof(status->lease));
		snprintf(status->reason, sizeof(status->reason),
				 "The keeper has not reported yet.");
	}
	else if (!held && (status->state == NODE_HOLDER || status->state == NODE_PAUSED))
	{
		status->state = NODE_FENCED;
		status->deadline = 0;
		snprintf(status->reason, sizeof(status->reason),
				 "The deadline has passed, and the keeper has not reported since.");
	}
	return status;
}

Survey *
sql_survey(void)
{
	Survey	   *from = leasehold_shared->survey;
	Survey	   *copy = palloc(sizeof(Survey));
	SurveyLease *lease = palloc(sizeof(SurveyLease) * setting_leases_max);
	SurveyNode *node = palloc(sizeof(SurveyNode) * setting_peers_max);

	LWLockAcquire(leasehold_shared->survey_lock, LW_SHARED);
	*copy = *from;
	memcpy(lease, from->lease, sizeof(SurveyLease) * from->nleases);
	memcpy(node, from->node, sizeof(SurveyNode) * from->nnodes);
	LWLockRelease(leasehold_shared->survey_lock);
	copy->lease = lease;
	copy->node = node;
	return copy;
}

void
sql_free_survey(Survey *survey)
{
	pfree(survey->lease);
	pfree(survey->node);
	pfree(survey);
}

/* Asked again and again, since the keeper may not get at the survey's lock. */
Survey *
sql_fresh_survey(ClockTime until)
{
	ClockTime	asked_at = clock_now();
	ClockTime	patient_until = clock_min(until, asked_at + FRESH_MAX);

	for (;;)
	{
		Survey	   *survey = sql_survey();

		if (survey->nodes_at >= asked_at)
			return survey;
		sql_free_survey(survey);
		if (clock_now() >= patient_until)
			return NULL;
		pg_atomic_write_u32(&leasehold_shared->nodes_wanted, 1);
		shared_wake_keeper();
		sql_sleep(20);
	}
}

const SurveyNode *
sql_find_node(const Survey *survey, const char *name)
{
	for (int i = 0; i < survey->nnodes; i++)
		if (strcmp(survey->node[i].name, name) == 0)
			return &survey->node[i];
	return NULL;
}
