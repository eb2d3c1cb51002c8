/*
 * prober_watch.c
 *		What is told of a path: each change once, in the log, as an outage, and to
 *		whoever listens in the store's database.
 *
 * Outages stand in a ring until every member has them, so that a node that is cut
 * off loses none.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#include "lines.h"
#include "prober.h"

static int64
wall_clock_us(void)
{
	return GetCurrentTimestamp() +
		((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE)) * USECS_PER_DAY;
}

/* ------------------------------------------------------------------------
 * Outages
 * ------------------------------------------------------------------------
 */

static bool
is_out(const Path *path)
{
	return path->status == PATH_UNREACHABLE || path->status == PATH_FLAPPING;
}

static bool
lasts(const PathOutage *outage)
{
	return outage->version != 0 && outage->ended_us == 0;
}

/* In the next place of the ring. */
static int
put_outage(Prober *prober, const PathOutage *from)
{
	int			place = prober->next_outage;
	PathOutage *outage = &prober->outage[place];
	uint32		version = outage->version;

	/* what lasts in this place lasts no longer in the ring */
	for (int i = 0; i < prober->npeers; i++)
		if (prober->peer[i]->outage == place)
			prober->peer[i]->outage = -1;
	prober->next_outage = (place + 1) % OUTAGES_OWN;
	*outage = *from;
	outage->version = version + 1;
	return place;
}

static void
begin_outage(Prober *prober, Peer *peer)
{
	PathOutage	outage = {0};

	strlcpy(outage.source, settings_node_name(), sizeof(outage.source));
	strlcpy(outage.target, peer->name, sizeof(outage.target));
	outage.began_us = wall_clock_us();
	peer->outage = put_outage(prober, &outage);
}

static void
end_outage(PathOutage *outage)
{
	outage->ended_us = Max(wall_clock_us(), outage->began_us + 1);
	outage->version++;
}

static bool
is_followed(const Prober *prober, int place)
{
	for (int i = 0; i < prober->npeers; i++)
		if (prober->peer[i]->outage == place)
			return true;
	return false;
}

void
watch_settle(Prober *prober)
{
	for (int i = 0; prober->nodes_known && i < OUTAGES_OWN; i++)
	{
		const PathOutage *outage = &prober->outage[i];
		Peer	   *peer;

		if (!lasts(outage) || is_followed(prober, i))
			continue;
		peer = prober_find(prober, outage->target);
		if (peer != NULL && peer->outage < 0 &&
			(peer->path.status == PATH_UNKNOWN || is_out(&peer->path)))
			peer->outage = i;
		else
			end_outage(&prober->outage[i]);
		prober->dirty = true;
	}
}

void
watch_adopt(Prober *prober, const PathOutage *outage)
{
	if (!prober->nodes_known || !lasts(outage) ||
		strcmp(outage->source, settings_node_name()) != 0 ||
		/* (what lasts is not forgotten for it) */
		lasts(&prober->outage[prober->next_outage]))
		return;
	for (int i = 0; i < OUTAGES_OWN; i++)
		if (prober->outage[i].version != 0 &&
			prober->outage[i].began_us == outage->began_us &&
			strcmp(prober->outage[i].target, outage->target) == 0)
			return;
	put_outage(prober, outage);
	watch_settle(prober);
}

static void
follow_outage(Prober *prober, Peer *peer, bool was_out)
{
	PathOutage *outage;

	if (!is_out(&peer->path))
	{
		if (peer->outage >= 0)
			end_outage(&prober->outage[peer->outage]);
		peer->outage = -1;
		return;
	}
	/* what never stood was not lost; and what is lost is not lost again */
	if (peer->outage < 0 && (was_out || peer->path.last_ok == 0))
		return;
	if (peer->outage < 0)
		begin_outage(prober, peer);
	outage = &prober->outage[peer->outage];
	if (outage->phase == peer->path.phase && outage->cause == peer->path.cause &&
		outage->error[0] != '\0')
		return;
	outage->phase = peer->path.phase;
	outage->cause = peer->path.cause;
	line_text(outage->error, sizeof(outage->error), peer->error[0] ? peer->error :
			  cause_text(outage->cause));
	outage->version++;
}

/* ------------------------------------------------------------------------
 * Telling
 * ------------------------------------------------------------------------
 */

static void
add_field(StringInfo out, const char *name, const char *value)
{
	appendStringInfo(out, ", \"%s\": ", name);
	escape_json(out, value);
}

static void
queue_event(Prober *prober, const Peer *peer)
{
	const Path *path = &peer->path;
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoString(&out, "{\"event\": \"path\"");
	add_field(&out, "source", settings_node_name());
	add_field(&out, "target", peer->name);
	add_field(&out, "kind", peer->member ? "member" : "node");
	add_field(&out, "status", path_status_name(path->status));
	add_field(&out, "phase", path_phase_name(path->phase));
	if (path->cause != CAUSE_NONE)
	{
		add_field(&out, "cause", cause_name(path->cause));
		add_field(&out, "error", peer->error);
	}
	appendStringInfo(&out, ", \"at_us\": " INT64_FORMAT "}", wall_clock_us());
	/* (a part of a payload would be none) */
	if (out.len < EVENT_LEN)
		strlcpy(prober->event[prober->nevents++ % EVENTS_MAX], out.data, EVENT_LEN);
	pfree(out.data);
}

static const char *
kind_of(const Peer *peer)
{
	return peer->member ? "member" : "node";
}

static void
log_change(const Peer *peer, PathStatus before, PathChange change)
{
	const Path *path = &peer->path;

	switch (path->status)
	{
		case PATH_UNREACHABLE:
			ereport(LOG,
					(errmsg("leasehold: %s \"%s\" cannot be reached%s", kind_of(peer),
							peer->name, change == PATH_CAUSE_CHANGED ?
							", now for another reason" : ""),
					 errdetail("%s%s%s", cause_text(path->cause),
							   peer->error[0] ? " It said: " : "", peer->error)));
			break;
		case PATH_FLAPPING:
			ereport(LOG,
					(errmsg("leasehold: the path to %s \"%s\" comes and goes",
							kind_of(peer), peer->name),
					 errdetail("No more is logged of it until it stays as it is.")));
			break;
		case PATH_DEGRADED:
			ereport(LOG,
					(errmsg("leasehold: the path to %s \"%s\" has become slow",
							kind_of(peer), peer->name),
					 errdetail("The last answer took %.1f ms; half of all took no more than %.1f ms.",
							   path->latency / (double) CLOCK_MS,
							   path_quantile(path, 50) / (double) CLOCK_MS)));
			break;
		default:
			if (before != PATH_UNKNOWN)
				ereport(LOG,
						(errmsg("leasehold: %s \"%s\" is reached as it should be",
								kind_of(peer), peer->name)));
	}
}

static void
note_ends(Peer *peer)
{
	const Walk *walk = &peer->probe.walk;

	if (walk->address[0] != '\0')
		strlcpy(peer->to, walk->address, sizeof(peer->to));
	if (walk->from[0] != '\0')
		strlcpy(peer->from, walk->from, sizeof(peer->from));
}

static void
tell(Prober *prober, Peer *peer, PathStatus before, PathChange change)
{
	bool		was_out = before == PATH_UNREACHABLE || before == PATH_FLAPPING;

	note_ends(peer);
	follow_outage(prober, peer, was_out);
	prober->dirty = true;
	if (change == PATH_SAME)
		return;
	prober->report_due = true;
	log_change(peer, before, change);
	if (before != PATH_UNKNOWN || peer->path.status != PATH_OK)
		queue_event(prober, peer);
}

void
watch_succeeded(Prober *prober, Peer *peer, ClockTime now, ClockTime latency)
{
	PathStatus	before = peer->path.status;
	PathChange	change = path_succeeded(&peer->path, now, latency, &prober->rules);

	peer->sqlstate[0] = '\0';
	peer->error[0] = '\0';
	tell(prober, peer, before, change);
}

/* A session that fell silent, and a host that does not answer: one loss, told once. */
static bool
is_still_silent(const Path *before, const Path *path)
{
	return before->cause == CAUSE_SILENT && path->cause == CAUSE_TIMEOUT;
}

void
watch_failed(Prober *prober, Peer *peer, ClockTime now)
{
	const Walk *walk = &peer->probe.walk;
	Path		before = peer->path;
	PathChange	change;

	strlcpy(peer->sqlstate, walk->fault.sqlstate, sizeof(peer->sqlstate));
	/* a server's words may be in any encoding, the members take only one */
	line_text(peer->error, sizeof(peer->error), walk->step[walk->phase].evidence);
	change = path_failed(&peer->path, now, walk->phase, walk->cause, &prober->rules);
	if (change == PATH_CAUSE_CHANGED && is_still_silent(&before, &peer->path))
	{
		prober->report_due = true;
		change = PATH_SAME;
	}
	tell(prober, peer, before.status, change);
}

void
watch_forget(Prober *prober, Peer *peer)
{
	if (peer->outage >= 0)
		end_outage(&prober->outage[peer->outage]);
	prober->dirty = true;
	prober->report_due = true;
}

void
prober_recall(Prober *prober)
{
	Paths	   *paths = leasehold_paths;

	LWLockAcquire(paths->lock, LW_EXCLUSIVE);
	for (int i = 0; i < WALKS_MAX; i++)
		if (paths->walk[i].ask == WALK_RUNNING)
			paths->walk[i].ask = WALK_ASKED;
	memcpy(prober->outage, paths->outage, sizeof(PathOutage) * OUTAGES_OWN);
	prober->next_outage = paths->next_outage;
	LWLockRelease(paths->lock);
	/* higher than any number that our predecessor gave */
	prober->report_seq = clock_now() / CLOCK_MS;
}
