/*
 * witness.c
 *		What all nodes have said of a path, as far as it was said late enough.
 *
 * Reports travel: one that we saw within an interval after the loss may have been
 * written before it.  A witness has had its say when it has been heard after that.
 */
#include "postgres.h"

#include "sql.h"
#include "witness.h"

/* Between the members and us, and for a busy machine. */
#define TRAVEL		(CLOCK_S / 2)

static ClockTime
interval(void)
{
	return clock_ms(setting_probe_interval);
}

/* After so long a time everybody who lives has noticed, and said so. */
static ClockTime
patience(void)
{
	return 2 * interval() + clock_ms(setting_probe_timeout) + 2 * TRAVEL;
}

static bool
stands(const ReportPath *path)
{
	return path->status == PATH_OK || path->status == PATH_DEGRADED;
}

static bool
is_fresh(const PathReport *report)
{
	return report != NULL && clock_now() - report->seen < patience();
}

/* Was this surely written after that moment? */
static bool
is_after(const PathReport *report, ClockTime moment)
{
	return report != NULL && report->seen > moment + interval() + TRAVEL;
}

ClockTime
witness_lost_at(const Paths *paths, const char *source, const char *target)
{
	const PathReport *report = paths_find_report(paths, source);
	const PathEntry *entry = paths_find_entry(paths, target);
	ReportPath	path;

	if (strcmp(source, settings_node_name()) == 0)
	{
		if (entry != NULL && !entry->path.up && entry->path.failures > 0)
			return clock_max(entry->path.since, entry->path.last_ok);
	}
	else if (report != NULL && report_find_path(report->text, target, &path) &&
			 !stands(&path) && path.failures > 0)
		/* (one that flaps does so since longer than it is lost) */
		return report->seen - clock_ms(path.last_ok_ms < 0 ? path.since_ms :
									   Min(path.since_ms, path.last_ok_ms));
	return clock_now();
}

/* How many nodes, or members, but for "except", does a node reach? */
static void
count_paths(const PathReport *report, const char *except, bool members, int *tries,
			int *reaches)
{
	const char *at = report->text;
	ReportPath	path;

	while (report_next_path(&at, &path))
	{
		if (strcmp(path.target, except) == 0 || path.member != members)
			continue;
		(*tries)++;
		*reaches += stands(&path);
	}
}

/*
 * What a report says of the path to "name": that it stands, or not, or (false)
 * nothing that counts: it stood when it was last tried, which was before the loss.
 */
static bool
knows_path(const PathReport *report, const char *name, ClockTime lost_at, bool *up,
		   bool *is_there)
{
	ReportPath	path;

	*is_there = report_find_path(report->text, name, &path);
	if (!*is_there || path.status == PATH_UNKNOWN)
		return false;
	*up = stands(&path);
	return !*up || report->seen - clock_ms(path.last_ok_ms) > lost_at + TRAVEL;
}

/* Does the target live, and does it reach the source? */
static bool
hear_target(Witnesses *w, const PathReport *report, const SurveyNode *node,
			const char *source, ClockTime lost_at)
{
	bool		is_there;
	ClockTime	beat_margin = clock_ms(sql_status()->ttl_ms) / 2 + TRAVEL;

	w->target_alive = (is_after(report, lost_at) && is_fresh(report)) ||
		(node != NULL && node->alive && node->beat_seen > lost_at + beat_margin);
	if (!w->target_alive)
		return clock_now() > lost_at + patience();
	if (!is_fresh(report))
		return true;
	count_paths(report, source, false, &w->target_tries, &w->target_reaches);
	w->target_says = knows_path(report, source, lost_at, &w->back_stands, &is_there);
	if (!w->target_says)
		w->back_stands = false;
	return w->target_says || !is_there || clock_now() > lost_at + patience();
}

/* A third node; false if it has not had the time to notice. */
static bool
hear_other(Witnesses *w, const PathReport *report, const char *source,
		   const char *target, ClockTime lost_at)
{
	bool		up;
	bool		is_there;
	bool		decided = true;

	if (knows_path(report, target, lost_at, &up, &is_there))
	{
		w->others++;
		w->others_reach_target += up;
	}
	else if (is_there)
		decided = clock_now() > lost_at + patience();
	if (knows_path(report, source, lost_at, &up, &is_there))
	{
		w->others_know_source++;
		w->others_reach_source += up;
	}
	return decided;
}

bool
witness_hear(Witnesses *w, const Paths *paths, const Survey *survey,
			 const char *source, const char *target, ClockTime lost_at)
{
	const PathReport *own = paths_find_report(paths, source);
	bool		decided;

	if (own != NULL)
	{
		count_paths(own, target, false, &w->source_nodes, &w->source_nodes_reached);
		w->source_tries = w->source_nodes;
		w->source_reaches = w->source_nodes_reached;
		count_paths(own, target, true, &w->source_tries, &w->source_reaches);
	}
	decided = hear_target(w, paths_find_report(paths, target),
						  sql_find_node(survey, target), source, lost_at);
	for (int i = 0; i < paths->nreports; i++)
	{
		const PathReport *report = &paths->report[i];

		if (strcmp(report->node, source) != 0 && strcmp(report->node, target) != 0 &&
			is_fresh(report))
			decided &= hear_other(w, report, source, target, lost_at);
	}
	return decided;
}
