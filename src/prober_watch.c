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

static void
begin_outage(Prober *prober, Peer *peer)
{
	int			place = prober->next_outage;
	PathOutage *outage = &prober->outage[place];
	uint32		version = outage->version;

	/* what lasts in this place lasts no longer in the ring */
	for (int i = 0; i < prober->npeers; i++)
		if (prober->peer[i]->outage == place)
			prober->peer[i]->outage = -1;
	prober->next_outage = (place + 1) % OUTAGES_OWN;
	memset(outage, 0, sizeof(*outage));
	strlcpy(outage->source, settings_node_name(), sizeof(outage->source));
	strlcpy(outage->target, peer->name, sizeof(outage->target));
	outage->began_us = wall_clock_us();
	outage->version = version + 1;
	peer->outage = place;
}

static void
end_outage(Prober *prober, Peer *peer)
{
	PathOutage *outage = &prober->outage[peer->outage];

	outage->ended_us = Max(wall_clock_us(), outage->began_us + 1);
	outage->version++;
	peer->outage = -1;
}

static void
follow_outage(Prober *prober, Peer *peer)
{
	PathOutage *outage;

	if (!is_out(&peer->path))
	{
		if (peer->outage >= 0)
			end_outage(prober, peer);
		return;
	}
	/* what never stood was not lost */
	if (peer->outage < 0 && peer->path.last_ok == 0)
		return;
	if (peer->outage < 0)
		begin_outage(prober, peer);
	outage = &prober->outage[peer->outage];
	if (outage->phase == peer->path.phase && outage->cause == peer->path.cause &&
		outage->error[0] != '\0')
		return;
	outage->phase = peer->path.phase;
	outage->cause = peer->path.cause;
	strlcpy(outage->error, peer->error[0] ? peer->error :
			cause_text(outage->cause), sizeof(outage->error));
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
	note_ends(peer);
	follow_outage(prober, peer);
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
	strlcpy(peer->error, walk->step[walk->phase].evidence, sizeof(peer->error));
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
		end_outage(prober, peer);
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
	/* whether they last is found out anew */
	for (int i = 0; i < OUTAGES_OWN; i++)
		if (prober->outage[i].version != 0 && prober->outage[i].ended_us == 0)
		{
			prober->outage[i].ended_us = wall_clock_us();
			prober->outage[i].version++;
		}
}
