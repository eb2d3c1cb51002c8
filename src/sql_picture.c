/*
 * sql_picture.c
 *		leasehold.connectivity_svg(): the group as a picture.
 *
 * Drawn from what stands in shared memory, so it comes at once on any node, and
 * marks what is old as old.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"

#include "paths.h"
#include "picture.h"
#include "sql.h"
#include "timeline.h"

PG_FUNCTION_INFO_V1(leasehold_connectivity_svg);

/* What a picture is put together from. */
typedef struct Sketch
{
	Paths	   *paths;
	Survey	   *survey;
	KeeperStatus *status;
	PictureNode *node;
	int			nnodes;
	PicturePath *path;
	int			npaths;
	int			room;			/* for paths */
} Sketch;

static void
append(void *arg, const char *text)
{
	appendStringInfoString((StringInfo) arg, text);
}

static int
find_node(const Sketch *sketch, const char *name, bool member)
{
	for (int i = 0; i < sketch->nnodes; i++)
		if (sketch->node[i].member == member && strcmp(sketch->node[i].name, name) == 0)
			return i;
	return -1;
}

static int64
lag_of(const Sketch *sketch, const SurveyNode *node)
{
	const SurveyNode *holder = sql_find_node(sketch->survey, sketch->status->holder);
	uint64		front;
	uint64		here;

	if (strcmp(sketch->status->kind, "physical") != 0 || holder == NULL ||
		!lsn_parse(holder->lsn, &front) || !lsn_parse(node->lsn, &here))
		return -1;
	return front > here ? (int64) (front - here) : 0;
}

static void
add_node(Sketch *sketch, const SurveyNode *node, ClockTime now)
{
	const PathReport *report = paths_find_report(sketch->paths, node->name);
	PictureNode *to = &sketch->node[sketch->nnodes++];
	ReportSelf *self = palloc0(sizeof(ReportSelf));

	to->name = node->name;
	to->role = "";
	if (report != NULL && report_read_self(report->text, self))
		to->role = self->role;
	to->address = node->advertise;
	to->holder = strcmp(sketch->status->holder, node->name) == 0;
	to->self = strcmp(settings_node_name(), node->name) == 0;
	to->alive = node->alive || to->self;
	to->lag = lag_of(sketch, node);
	to->age_ms = report == NULL ? -1 : clock_max(now - report->seen, 0) / CLOCK_MS;
}

static void
add_members(Sketch *sketch)
{
	for (int i = 0; i < sketch->paths->nentries; i++)
	{
		const PathEntry *entry = &sketch->paths->entry[i];
		PictureNode *to;

		if (!entry->member)
			continue;
		to = &sketch->node[sketch->nnodes++];
		memset(to, 0, sizeof(*to));
		to->name = entry->target;
		to->role = to->address = "";
		to->member = true;
		to->alive = entry->path.status == PATH_OK || entry->path.status == PATH_DEGRADED;
		to->lag = to->age_ms = -1;
	}
}

static void
add_paths(Sketch *sketch, const PathReport *report)
{
	int			source = find_node(sketch, report->node, false);
	const char *at = report->text;
	ReportPath	path;

	while (source >= 0 && report_next_path(&at, &path))
	{
		int			target = find_node(sketch, path.target, path.member);
		PicturePath *to;

		if (target < 0 || sketch->npaths == sketch->room)
			continue;
		to = &sketch->path[sketch->npaths++];
		to->source = source;
		to->target = target;
		to->status = path.status;
		to->phase = path.phase;
		to->latency_us = path.latency_us;
		to->cause = path.cause == CAUSE_NONE ? "" : cause_name(path.cause);
		to->error = pstrdup(path.error);
	}
}

static void
make_sketch(Sketch *sketch)
{
	ClockTime	now = clock_now();
	int			most;

	sketch->paths = paths_copy();
	sketch->survey = sql_survey();
	sketch->status = sql_status();
	most = sketch->survey->nnodes + sketch->paths->nentries;
	sketch->node = palloc0(sizeof(PictureNode) * Max(most, 1));
	sketch->room = most * most;
	sketch->path = palloc0(sizeof(PicturePath) * Max(sketch->room, 1));
	for (int i = 0; i < sketch->survey->nnodes; i++)
		add_node(sketch, &sketch->survey->node[i], now);
	add_members(sketch);
	for (int i = 0; i < sketch->paths->nreports; i++)
		add_paths(sketch, &sketch->paths->report[i]);
}

/*
 * leasehold_connectivity_svg
 *		Matrix and topology as one self-contained SVG.
 */
Datum
leasehold_connectivity_svg(PG_FUNCTION_ARGS)
{
	Sketch		sketch = {0};
	Picture		picture = {0};
	StringInfoData out;
	int			members = 0;
	int			alive = 0;

	sql_require_preloaded();
	make_sketch(&sketch);
	for (int i = 0; i < sketch.nnodes; i++)
	{
		members += sketch.node[i].member;
		alive += sketch.node[i].member && sketch.node[i].alive;
	}
	picture.lease = sketch.status->lease;
	picture.epoch = sketch.status->epoch;
	picture.store = psprintf("%d of %d members answer", alive, members);
	picture.nnodes = sketch.nnodes;
	picture.node = sketch.node;
	/* as inquiry.c sees it: what was not said in two intervals is old */
	picture.stale_ms = 2 * setting_probe_interval + setting_probe_timeout;
	picture.npaths = sketch.npaths;
	picture.path = sketch.path;
	initStringInfo(&out);
	picture_draw(&picture, append, &out);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}
