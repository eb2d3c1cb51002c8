/*
 * prober_store.c
 *		What the prober says to the members, and reads from them: reports, outages,
 *		notifications, and mail.
 *
 * Nothing is decided by any of it, so there is no majority here: everything goes
 * to every member that answers, and of several versions the latest counts.  One
 * thing after another on each session; the exchange of reports is what the path to
 * the member is judged by.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "prober.h"
#include "store_paths.h"

#define EXCHANGE_MIN	(100 * CLOCK_MS)
#define OUTAGES_EVERY	(30 * CLOCK_S)
#define MOMENT_MAX		INT64CONST(253402300799000000)	/* the end of the year 9999 */

static const char *
number_text(int64 number)
{
	return psprintf(INT64_FORMAT, number);
}

/* ------------------------------------------------------------------------
 * What there is to say
 * ------------------------------------------------------------------------
 */

void
traffic_begin(Peer *peer)
{
	Traffic    *traffic = peer->traffic;

	traffic->task = TRAFFIC_NONE;
	traffic->listens = traffic->mute = false;
	traffic->swept = false;
	traffic->exchanged_at = 0;
	traffic->outages_at = 0;
	traffic->mail_due = true;
}

/* One of our outages that this member does not have as it is now; -1: none. */
static int
next_outage(const Prober *prober, const Traffic *traffic)
{
	for (int i = 0; i < OUTAGES_OWN; i++)
		if (prober->outage[i].version != traffic->outage_told[i])
			return i;
	return -1;
}

static bool
exchange_is_due(const Prober *prober, const Traffic *traffic, ClockTime now)
{
	if (now < traffic->exchanged_at + EXCHANGE_MIN)
		return false;
	return traffic->look || traffic->exchanged_seq != prober->report_seq ||
		now >= traffic->exchanged_at + prober->rules.interval;
}

static TrafficTask
next_task(const Prober *prober, const Peer *peer, ClockTime now)
{
	const Traffic *traffic = peer->traffic;

	if (!traffic->listens && !traffic->mute)
		return TRAFFIC_LISTEN;
	if (prober->mail.answered && !traffic->answer_told)
		return TRAFFIC_ANSWER;
	if (traffic->mail_due)
		return TRAFFIC_MAIL;
	if (exchange_is_due(prober, traffic, now))
		return TRAFFIC_EXCHANGE;
	if (next_outage(prober, traffic) >= 0)
		return TRAFFIC_OUTAGE;
	if (!traffic->swept)
		return TRAFFIC_SWEEP;
	if (now >= traffic->outages_at + OUTAGES_EVERY)
		return TRAFFIC_OUTAGES;
	if (traffic->event_told < prober->nevents && !traffic->mute)
		return TRAFFIC_EVENT;
	if (traffic->hasten_due && !traffic->mute)
		return TRAFFIC_HASTEN;
	return TRAFFIC_NONE;
}

ClockTime
traffic_due(const Prober *prober, const Peer *peer, ClockTime now)
{
	const Traffic *traffic = peer->traffic;
	ClockTime	due = clock_min(traffic->exchanged_at + prober->rules.interval,
								traffic->outages_at + OUTAGES_EVERY);

	if (peer->probe.link.state != LINK_IDLE)
		return CLOCK_NEVER;
	if (traffic->look || traffic->exchanged_seq != prober->report_seq)
		due = clock_min(due, traffic->exchanged_at + EXCHANGE_MIN);
	return due;
}

/* ------------------------------------------------------------------------
 * Saying it
 * ------------------------------------------------------------------------
 */

static bool
send_exchange(Prober *prober, Peer *peer, ClockTime deadline)
{
	const char *values[] = {
		settings_node_name(), number_text((int64) leasehold_shared->incarnation),
		number_text(prober->report_seq), prober->report
	};

	peer->traffic->exchanged_seq = prober->report_seq;
	peer->traffic->look = false;
	return link_send(&peer->probe.link, store_exchange_sql, 4, values, deadline);
}

static bool
send_outage(Prober *prober, Peer *peer, ClockTime deadline)
{
	Traffic    *traffic = peer->traffic;
	const PathOutage *outage;

	traffic->outage = next_outage(prober, traffic);
	outage = &prober->outage[traffic->outage];
	traffic->outage_version = outage->version;
	{
		const char *values[] = {
			outage->source, outage->target, number_text(outage->began_us),
			number_text(outage->ended_us), path_phase_name(outage->phase),
			cause_name(outage->cause), outage->error
		};

		return link_send(&peer->probe.link, store_outage_sql, 7, values, deadline);
	}
}

/* Those that have left the ring meanwhile are told of by their outages only. */
static bool
send_event(Prober *prober, Peer *peer, ClockTime deadline)
{
	Traffic    *traffic = peer->traffic;
	const char *value;

	if (traffic->event_told + EVENTS_MAX < prober->nevents)
		traffic->event_told = prober->nevents - EVENTS_MAX;
	value = prober->event[traffic->event_told % EVENTS_MAX];
	return link_send(&peer->probe.link, store_event_sql, 1, &value, deadline);
}

static bool
send_task(Prober *prober, Peer *peer, TrafficTask task, ClockTime deadline)
{
	Link	   *link = &peer->probe.link;
	const char *node = settings_node_name();
	const char *limit = number_text(OUTAGES_STORE);
	const char *answer[] = {prober->mail.id, prober->mail.answer};
	const char *run[] = {node, number_text((int64) leasehold_shared->incarnation)};

	switch (task)
	{
		case TRAFFIC_LISTEN:
			return link_send(link, store_listen_paths_sql, 0, NULL, deadline);
		case TRAFFIC_EXCHANGE:
			return send_exchange(prober, peer, deadline);
		case TRAFFIC_SWEEP:
			return link_send(link, store_sweep_mail_sql, 2, run, deadline);
		case TRAFFIC_MAIL:
			return link_send(link, store_mail_sql, 1, &node, deadline);
		case TRAFFIC_ANSWER:
			return link_send(link, store_mail_answer_sql, 2, answer, deadline);
		case TRAFFIC_OUTAGE:
			return send_outage(prober, peer, deadline);
		case TRAFFIC_OUTAGES:
			return link_send(link, store_outages_sql, 1, &limit, deadline);
		case TRAFFIC_EVENT:
			return send_event(prober, peer, deadline);
		case TRAFFIC_HASTEN:
			return link_send(link, store_hasten_sql, 0, NULL, deadline);
		default:
			return true;
	}
}

void
traffic_advance(Prober *prober, Peer *peer, ClockTime now)
{
	Traffic    *traffic = peer->traffic;
	Link	   *link = &peer->probe.link;
	ClockTime	deadline = now + prober->rules.timeout;

	if (link->notified)
	{
		link->notified = false;
		traffic->look = traffic->mail_due = true;
	}
	if (link->state != LINK_IDLE)
		return;
	traffic->task = next_task(prober, peer, now);
	if (traffic->task == TRAFFIC_NONE)
		return;
	if (traffic->task == TRAFFIC_EXCHANGE)
		traffic->exchanged_at = now;
	else if (traffic->task == TRAFFIC_OUTAGES)
		traffic->outages_at = now;
	else if (traffic->task == TRAFFIC_MAIL)
		traffic->mail_due = false;
	else if (traffic->task == TRAFFIC_HASTEN)
		traffic->hasten_due = false;
	traffic->sent = now;
	peer->probe.deadline = deadline;
	(void) send_task(prober, peer, traffic->task, deadline);
}

/* ------------------------------------------------------------------------
 * What comes back
 * ------------------------------------------------------------------------
 */

static PathReport *
place_for_report(Prober *prober, const char *node)
{
	PathReport *report;

	for (int i = 0; i < prober->nreports; i++)
		if (strcmp(prober->others[i].node, node) == 0)
			return &prober->others[i];
	if (prober->nreports == setting_peers_max || strlen(node) >= sizeof(report->node))
		return NULL;
	report = &prober->others[prober->nreports++];
	if (report->text == NULL)
		report->text = MemoryContextAlloc(TopMemoryContext, paths_report_size());
	strlcpy(report->node, node, sizeof(report->node));
	report->incarnation = report->other = 0;
	report->seq = report->other_seq = 0;
	return report;
}

/* What a member has that was away does not count, be it from an earlier run. */
static bool
is_news(PathReport *report, uint64 incarnation, int64 seq)
{
	if (report->incarnation == incarnation)
		return seq > report->seq;
	if (report->other == incarnation && seq <= report->other_seq)
		return false;
	report->other = report->incarnation;
	report->other_seq = report->seq;
	return true;
}

static void
take_report(Prober *prober, const char *node, uint64 incarnation, int64 seq,
			const char *body, ClockTime now)
{
	Peer	   *peer = prober_find(prober, node);
	PathReport *report = peer == NULL ? NULL : place_for_report(prober, node);

	if (report == NULL || !is_news(report, incarnation, seq))
		return;
	report->incarnation = incarnation;
	report->seq = seq;
	report->seen = now;
	strlcpy(report->text, body, paths_report_size());
	prober->dirty = true;
}

/* Nodes that are known no more. */
static void
drop_reports(Prober *prober)
{
	for (int i = prober->nreports - 1; i >= 0; i--)
	{
		PathReport	gone = prober->others[i];

		if (prober_find(prober, gone.node) != NULL)
			continue;
		prober->others[i] = prober->others[--prober->nreports];
		prober->others[prober->nreports] = gone;
	}
}

static void
take_exchange(Prober *prober, const PGresult *result, ClockTime now)
{
	for (int i = 0; i < PQntuples(result); i++)
		take_report(prober, PQgetvalue(result, i, 0),
					(uint64) strtoll(PQgetvalue(result, i, 1), NULL, 10),
					strtoll(PQgetvalue(result, i, 2), NULL, 10),
					PQgetvalue(result, i, 3), now);
	drop_reports(prober);
}

static int
cause_or_other(const char *name)
{
	int			cause = cause_of_name(name);

	return cause < 0 ? CAUSE_OTHER : cause;
}

/* Whatever stands there has to be a time that can be shown. */
static int64
read_moment(const char *text)
{
	int64		us = strtoll(text, NULL, 10);

	return us < 0 ? 0 : Min(us, MOMENT_MAX);
}

static void
take_outages(Prober *prober, const PGresult *result)
{
	prober->nstore_outages = Min(PQntuples(result), OUTAGES_STORE);
	for (int i = 0; i < prober->nstore_outages; i++)
	{
		PathOutage *outage = &prober->store_outage[i];

		memset(outage, 0, sizeof(*outage));
		strlcpy(outage->source, PQgetvalue(result, i, 0), sizeof(outage->source));
		strlcpy(outage->target, PQgetvalue(result, i, 1), sizeof(outage->target));
		outage->began_us = read_moment(PQgetvalue(result, i, 2));
		outage->ended_us = read_moment(PQgetvalue(result, i, 3));
		outage->phase = Max(path_phase_of(PQgetvalue(result, i, 4)), 0);
		outage->cause = cause_or_other(PQgetvalue(result, i, 5));
		strlcpy(outage->error, PQgetvalue(result, i, 6), sizeof(outage->error));
		outage->version = 1;
		watch_adopt(prober, outage);
	}
	prober->outages_read = true;
	prober->dirty = true;
}

static void
take_mail(Prober *prober, const PGresult *result, ClockTime now)
{
	for (int i = 0; i < PQntuples(result); i++)
		mail_take(prober, PQgetvalue(result, i, 0), PQgetvalue(result, i, 1),
				  PQgetvalue(result, i, 3), PQgetvalue(result, i, 4),
				  PQgetvalue(result, i, 5)[0] == 't', now);
}

/* What was said is said, whether it was understood or not. */
static void
note_done(Peer *peer, bool understood)
{
	Traffic    *traffic = peer->traffic;

	switch (traffic->task)
	{
		case TRAFFIC_LISTEN:
			traffic->listens = understood;
			traffic->mute = !understood;
			break;
		case TRAFFIC_SWEEP:
			traffic->swept = true;
			break;
		case TRAFFIC_OUTAGE:
			traffic->outage_told[traffic->outage] = traffic->outage_version;
			traffic->outages_at = clock_min(traffic->outages_at,
											clock_now() - OUTAGES_EVERY + CLOCK_S / 2);
			break;
		case TRAFFIC_EVENT:
			traffic->event_told++;
			break;
		case TRAFFIC_ANSWER:
			traffic->answer_told = true;
			break;
		default:
			break;
	}
}

static int
columns_of(TrafficTask task)
{
	return task == TRAFFIC_EXCHANGE ? 4 : task == TRAFFIC_MAIL ? 6 :
		task == TRAFFIC_OUTAGES ? 7 : 0;
}

void
traffic_result(Prober *prober, Peer *peer, PGresult *result, ClockTime now)
{
	Traffic    *traffic = peer->traffic;
	bool		rows = result != NULL && PQresultStatus(result) == PGRES_TUPLES_OK &&
		PQnfields(result) >= columns_of(traffic->task);
	bool		understood = rows || (result != NULL &&
									  PQresultStatus(result) == PGRES_COMMAND_OK);

	if (traffic->task == TRAFFIC_EXCHANGE)
		watch_succeeded(prober, peer, now, now - traffic->sent);
	if (traffic->task == TRAFFIC_EXCHANGE && rows)
		take_exchange(prober, result, now);
	else if (traffic->task == TRAFFIC_OUTAGES && rows)
		take_outages(prober, result);
	else if (traffic->task == TRAFFIC_MAIL && rows)
		take_mail(prober, result, now);
	note_done(peer, understood);
	traffic->task = TRAFFIC_NONE;
}
