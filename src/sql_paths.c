/*
 * sql_paths.c
 *		The views of paths, and what a node answers for itself.
 *
 * They read what the prober has left in shared memory, each with its age, and so
 * answer at once on any node, one that is cut off included.  What other nodes say
 * is as old as it is: they are never shown as fresh.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "funcapi.h"
#include "utils/builtins.h"

#include "paths.h"
#include "sql.h"
#include "sql_row.h"
#include "workers.h"

PG_FUNCTION_INFO_V1(leasehold_identity);
PG_FUNCTION_INFO_V1(leasehold_peers);
PG_FUNCTION_INFO_V1(leasehold_connectivity);
PG_FUNCTION_INFO_V1(leasehold_outages);

/*
 * leasehold_identity
 *		Which node is this?  What the probers of the others ask, again and again.
 */
Datum
leasehold_identity(PG_FUNCTION_ARGS)
{
	TimeLineID	timeline = 0;
	bool		standby;
	Row			row = {0};

	sql_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	standby = RecoveryInProgress();
	if (standby)
		(void) GetXLogReplayRecPtr(&timeline);
	else
		(void) GetFlushRecPtr(&timeline);
	row_text(&row, settings_node_name());
	row_text(&row, psprintf(UINT64_FORMAT, GetSystemIdentifier()));
	row_text(&row, standby ? "standby" : "primary");
	/* a smart shutdown waits for all sessions: those of the probers have to go */
	row_text(&row, workers_server_is_ending() ? "stopping" :
			 sql_state_name(sql_status()->state));
	row_add(&row, Int32GetDatum((int32) timeline), false);
	row_put(fcinfo, &row);
	return (Datum) 0;
}

/* ------------------------------------------------------------------------
 * This node's paths
 * ------------------------------------------------------------------------
 */

static void
add_phase(Row *row, PathStatus status, PathPhase phase)
{
	row_text(row, status == PATH_UNKNOWN ? "" : path_phase_name(phase));
}

/*
 * leasehold_peers
 *		One row for each node and member that this node should reach.
 */
Datum
leasehold_peers(PG_FUNCTION_ARGS)
{
	ClockTime	now = clock_now();
	Paths	   *paths;

	sql_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	paths = paths_copy();
	for (int i = 0; i < paths->nentries; i++)
	{
		const PathEntry *entry = &paths->entry[i];
		const Path *path = &entry->path;
		Row			row = {0};

		row_text(&row, entry->target);
		row_text(&row, entry->member ? "member" : "node");
		row_text(&row, path_status_name(path->status));
		add_phase(&row, path->status, path->phase);
		row_age(&row, path->since, now);
		row_age(&row, path->last_ok, now);
		row_duration(&row, path->latency);
		row_duration(&row, path_quantile(path, 50));
		row_duration(&row, path_quantile(path, 99));
		row_add(&row, Int32GetDatum(path->failures), false);
		row_text(&row, entry->sqlstate);
		row_text(&row, entry->error);
		row_text(&row, path->cause == CAUSE_NONE ? "" : cause_name(path->cause));
		row_text(&row, entry->address);
		row_age(&row, paths->published_at, now);
		row_put(fcinfo, &row);
	}
	return (Datum) 0;
}

/* ------------------------------------------------------------------------
 * The matrix
 * ------------------------------------------------------------------------
 */

static void
put_path(FunctionCallInfo fcinfo, const PathReport *report, const ReportPath *path,
		 ClockTime now)
{
	ClockTime	age = clock_max(now - report->seen, 0);
	Row			row = {0};

	row_text(&row, report->node);
	row_text(&row, path->target);
	row_text(&row, path_status_name(path->status));
	add_phase(&row, path->status, path->phase);
	row_duration(&row, path->latency_us * CLOCK_US);
	row_add(&row, sql_interval(clock_add(clock_ms(path->since_ms), age)), false);
	row_add(&row, sql_interval(age), false);
	row_text(&row, path->error);
	row_text(&row, path->member ? "member" : "node");
	row_text(&row, path->cause == CAUSE_NONE ? "" : cause_name(path->cause));
	row_put(fcinfo, &row);
}

/*
 * leasehold_connectivity
 *		Every path of every node, as that node said when it was last heard.
 */
Datum
leasehold_connectivity(PG_FUNCTION_ARGS)
{
	ClockTime	now = clock_now();
	Paths	   *paths;

	sql_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	paths = paths_copy();
	for (int i = 0; i < paths->nreports; i++)
	{
		const char *at = paths->report[i].text;
		ReportPath	path;

		while (report_next_path(&at, &path))
			put_path(fcinfo, &paths->report[i], &path, now);
	}
	return (Datum) 0;
}

/* ------------------------------------------------------------------------
 * Outages
 * ------------------------------------------------------------------------
 */

static Datum
timestamp_of(int64 us)
{
	return TimestampTzGetDatum(us - ((int64) (POSTGRES_EPOCH_JDATE -
											  UNIX_EPOCH_JDATE)) * USECS_PER_DAY);
}

static void
put_outage(FunctionCallInfo fcinfo, const PathOutage *outage)
{
	Row			row = {0};

	row_text(&row, outage->source);
	row_text(&row, outage->target);
	row_add(&row, timestamp_of(outage->began_us), false);
	row_add(&row, timestamp_of(outage->ended_us), outage->ended_us == 0);
	row_text(&row, path_phase_name(outage->phase));
	row_text(&row, outage->error);
	row_text(&row, cause_name(outage->cause));
	row_put(fcinfo, &row);
}

/* This node's own ring is fresher, but does not go back as far. */
static bool
is_in_ring(const Paths *paths, const PathOutage *outage)
{
	for (int i = 0; i < OUTAGES_OWN; i++)
		if (paths->outage[i].version != 0 &&
			paths->outage[i].began_us == outage->began_us &&
			strcmp(paths->outage[i].source, outage->source) == 0 &&
			strcmp(paths->outage[i].target, outage->target) == 0)
			return true;
	return false;
}

/*
 * leasehold_outages
 *		Every loss of a path that once stood: this node's own as it knows them, those
 *		of the others as the store said when it was last read.
 */
Datum
leasehold_outages(PG_FUNCTION_ARGS)
{
	Paths	   *paths;

	sql_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	paths = paths_copy();
	for (int i = 0; i < OUTAGES_OWN; i++)
		if (paths->outage[i].version != 0)
			put_outage(fcinfo, &paths->outage[i]);
	for (int i = 0; i < paths->noutages; i++)
		if (!is_in_ring(paths, &paths->store_outage[i]))
			put_outage(fcinfo, &paths->store_outage[i]);
	return (Datum) 0;
}
