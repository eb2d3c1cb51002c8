/*
 * prober_report.c
 *		What this node says of itself and its paths, for the store and for the views.
 */
#include "postgres.h"

#include "compat.h"

#include <unistd.h>

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "common/username.h"
#include "libpq/libpq.h"
#include "miscadmin.h"
#include "postmaster/postmaster.h"
#include "storage/procarray.h"
#include "utils/guc.h"

#include "prober.h"
#include "sql.h"

#define PUBLISH_RETRY	(20 * CLOCK_MS)

/* ------------------------------------------------------------------------
 * The node itself
 * ------------------------------------------------------------------------
 */

static void
describe_position(ReportSelf *self)
{
	TimeLineID	timeline = 0;
	XLogRecPtr	lsn;

	if (RecoveryInProgress())
	{
		strlcpy(self->role, "standby", sizeof(self->role));
		lsn = GetXLogReplayRecPtr(&timeline);
		self->accepts = HotStandbyActive();
	}
	else
	{
		strlcpy(self->role, "primary", sizeof(self->role));
		lsn = GetFlushRecPtr(&timeline);
		self->accepts = true;
	}
	self->timeline = (int) timeline;
	snprintf(self->lsn, sizeof(self->lsn), "%X/%X", LSN_FORMAT_ARGS(lsn));
}

static int
setting_number(const char *name)
{
	const char *value = GetConfigOption(name, true, false);

	return value != NULL ? atoi(value) : 0;
}

static void
describe_server(ReportSelf *self)
{
	const char *version = GetConfigOption("server_version", true, false);

	strlcpy(self->version, version ? version : "", sizeof(self->version));
	strlcpy(self->listen, ListenAddresses ? ListenAddresses : "", sizeof(self->listen));
	self->port = PostPortNumber;
	self->tls = EnableSSL;
	self->slots = MaxConnections;
	self->slots_left = Max(0, MaxConnections - CountDBConnections(InvalidOid) -
						   setting_number("superuser_reserved_connections") -
						   setting_number("reserved_connections"));
	strlcpy(self->hba_file, HbaFileName ? HbaFileName : "", sizeof(self->hba_file));
	strlcpy(self->config_file, ConfigFileName ? ConfigFileName : "",
			sizeof(self->config_file));
	strlcpy(self->data_directory, DataDir, sizeof(self->data_directory));
	snprintf(self->sysid, sizeof(self->sysid), UINT64_FORMAT, GetSystemIdentifier());
}

static void
describe_lease(ReportSelf *self)
{
	KeeperStatus *status = palloc(sizeof(KeeperStatus));

	if (shared_read(&leasehold_shared->status, status))
	{
		strlcpy(self->state, sql_state_name(status->state), sizeof(self->state));
		self->physical = strcmp(status->kind, "physical") == 0;
	}
	self->fenced = shared_is_governed(fence_shared) &&
		shared_lease_epoch(&fence_shared->instance) == 0;
	pfree(status);
}

/* By what this node connects to its peers. */
static void
describe_client(ReportSelf *self)
{
	Conninfo   *options = palloc(sizeof(Conninfo));
	char	   *text = pstrdup(setting_peer_options ? setting_peer_options : "");
	char	   *fault = NULL;
	const char *user = get_user_name(&fault);

	strlcpy(self->peer_user, user ? user : "", sizeof(self->peer_user));
	strlcpy(self->peer_database, "postgres", sizeof(self->peer_database));
	strlcpy(self->sslmode, "prefer", sizeof(self->sslmode));
	if (text[0] == '\0' || conninfo_split(text, options, 1) != 1)
		return;
	for (int i = 0; i < options->n; i++)
	{
		const char *value = options->value[i];

		if (strcmp(options->keyword[i], "user") == 0)
			strlcpy(self->peer_user, value, sizeof(self->peer_user));
		else if (strcmp(options->keyword[i], "dbname") == 0)
			strlcpy(self->peer_database, value, sizeof(self->peer_database));
		else if (strcmp(options->keyword[i], "sslmode") == 0)
			strlcpy(self->sslmode, value, sizeof(self->sslmode));
		else if (strcmp(options->keyword[i], "passfile") == 0)
			strlcpy(self->passfile, value, sizeof(self->passfile));
	}
}

static void
describe_self(ReportSelf *self)
{
	memset(self, 0, sizeof(*self));
	describe_position(self);
	describe_server(self);
	describe_lease(self);
	describe_client(self);
	self->allow_repair = setting_allow_repair;
}

/* ------------------------------------------------------------------------
 * Its paths
 * ------------------------------------------------------------------------
 */

static int64
age_ms(ClockTime since, ClockTime now)
{
	return since == 0 ? -1 : (now - since) / CLOCK_MS;
}

static void
describe_path(const Peer *peer, ReportPath *to, ClockTime now)
{
	const Path *path = &peer->path;

	memset(to, 0, sizeof(*to));
	strlcpy(to->target, peer->name, sizeof(to->target));
	to->member = peer->member;
	to->status = path->status;
	to->phase = path->phase;
	to->cause = path->cause;
	to->latency_us = path->latency / CLOCK_US;
	to->p50_us = path_quantile(path, 50) / CLOCK_US;
	to->p99_us = path_quantile(path, 99) / CLOCK_US;
	to->since_ms = age_ms(path->since, now);
	to->last_ok_ms = age_ms(path->last_ok, now);
	to->failures = path->failures;
	strlcpy(to->sqlstate, peer->sqlstate, sizeof(to->sqlstate));
	strlcpy(to->address, peer->to, sizeof(to->address));
	strlcpy(to->from, peer->from, sizeof(to->from));
	strlcpy(to->error, peer->error, sizeof(to->error));
}

/*
 * The lines of pg_hba.conf are read by a worker of their own; it may be writing
 * them just now, then the last ones stay.  As many as there is room for.
 */
static void
append_hba(char *text, Size size, size_t *used)
{
	static char hba[HBA_TEXT_SIZE];

	if (LWLockConditionalAcquire(leasehold_paths->lock, LW_SHARED))
	{
		strlcpy(hba, leasehold_paths->hba, sizeof(hba));
		LWLockRelease(leasehold_paths->lock);
	}
	for (const char *line = hba, *end; (end = strchr(line, '\n')) != NULL; line = end + 1)
	{
		size_t		length = end + 1 - line;

		if (*used + length >= size)
			break;
		memcpy(text + *used, line, length);
		*used += length;
		text[*used] = '\0';
	}
}

void
report_compose(Prober *prober, ClockTime now)
{
	Size		size = paths_report_size();
	size_t		used = 0;
	ReportSelf	self;
	ReportPath	path;

	if (!prober->report_due && now < prober->report_at + prober->rules.interval)
		return;
	describe_self(&self);
	prober->report[0] = '\0';
	(void) report_write_self(prober->report, size, &used, &self);
	for (int i = 0; i < prober->npeers; i++)
	{
		describe_path(prober->peer[i], &path, now);
		if (!report_write_path(prober->report, size, &used, &path))
		{
			/* better without its words than not at all */
			path.error[0] = '\0';
			(void) report_write_path(prober->report, size, &used, &path);
		}
	}
	append_hba(prober->report, size, &used);
	prober->report_seq++;
	prober->report_at = now;
	if (prober->report_due)
		for (int i = 0; i < prober->npeers; i++)
			if (prober->peer[i]->traffic != NULL)
				prober->peer[i]->traffic->hasten_due = true;
	prober->report_due = false;
	prober->dirty = true;
}

/* ------------------------------------------------------------------------
 * Shared memory
 * ------------------------------------------------------------------------
 */

static void
publish_entries(const Prober *prober, Paths *paths)
{
	for (int i = 0; i < prober->npeers; i++)
	{
		const Peer *peer = prober->peer[i];
		PathEntry  *entry = &paths->entry[i];

		strlcpy(entry->target, peer->name, sizeof(entry->target));
		entry->member = peer->member;
		entry->path = peer->path;
		strlcpy(entry->sqlstate, peer->sqlstate, sizeof(entry->sqlstate));
		strlcpy(entry->error, peer->error, sizeof(entry->error));
		strlcpy(entry->address, peer->to, sizeof(entry->address));
		strlcpy(entry->from, peer->from, sizeof(entry->from));
		entry->encrypted = peer->probe.walk.encrypted;
	}
	paths->nentries = prober->npeers;
}

static void
publish_report(PathReport *to, const char *node, uint64 incarnation, int64 seq,
			   ClockTime seen, const char *text)
{
	strlcpy(to->node, node, sizeof(to->node));
	to->incarnation = incarnation;
	if (to->seq != seq || to->seen != seen)
		strlcpy(to->text, text, paths_report_size());
	to->seq = seq;
	to->seen = seen;
}

static void
publish_reports(const Prober *prober, Paths *paths)
{
	publish_report(&paths->report[0], settings_node_name(),
				   leasehold_shared->incarnation, prober->report_seq,
				   prober->report_at, prober->report);
	for (int i = 0; i < prober->nreports; i++)
	{
		const PathReport *from = &prober->others[i];
		PathReport *to = &paths->report[i + 1];

		/* (places may have been given to other nodes) */
		if (strcmp(to->node, from->node) != 0)
			to->seq = -1;
		publish_report(to, from->node, from->incarnation, from->seq, from->seen,
					   from->text);
	}
	paths->nreports = prober->nreports + 1;
}

/* What somebody wants to have tried, and what came of it. */
static void
publish_walks(Prober *prober, Paths *paths)
{
	for (int i = 0; i < WALKS_MAX; i++)
	{
		WalkBox    *box = &paths->walk[i];
		Peer	   *peer;

		if (box->ask != WALK_RUNNING)
			continue;
		peer = prober_find(prober, box->target);
		if (peer != NULL && (peer->walking || peer->walk_wanted))
			continue;
		memset(&box->walk, 0, sizeof(box->walk));
		if (peer != NULL)
			box->walk = peer->probe.walk;
		box->ask = WALK_DONE;
	}
}

void
prober_publish(Prober *prober, ClockTime now)
{
	Paths	   *paths = leasehold_paths;

	if (!LWLockConditionalAcquire(paths->lock, LW_EXCLUSIVE))
	{
		prober->publish_retry = now + PUBLISH_RETRY;
		return;
	}
	publish_entries(prober, paths);
	publish_reports(prober, paths);
	publish_walks(prober, paths);
	memcpy(paths->outage, prober->outage, sizeof(PathOutage) * OUTAGES_OWN);
	paths->next_outage = prober->next_outage;
	if (prober->outages_read)
	{
		memcpy(paths->store_outage, prober->store_outage,
			   sizeof(PathOutage) * prober->nstore_outages);
		paths->noutages = prober->nstore_outages;
		paths->outages_at = now;
		prober->outages_read = false;
	}
	paths->published_at = now;
	LWLockRelease(paths->lock);
	prober->publish_retry = 0;
	prober->dirty = false;
}

void
prober_take_walks(Prober *prober, ClockTime now)
{
	Paths	   *paths = leasehold_paths;
	Peer	   *peer;

	/*
	 * (A look without the lock may see a request too late by one turn.)  One that
	 * nobody waits for any more stays where it is until its place is needed.
	 */
	for (int i = 0; i < WALKS_MAX; i++)
		if (paths->walk[i].ask == WALK_ASKED && now < paths->walk[i].until)
			prober->walks_asked = true;
	if (!prober->walks_asked || !LWLockConditionalAcquire(paths->lock, LW_EXCLUSIVE))
		return;
	prober->walks_asked = false;
	for (int i = 0; i < WALKS_MAX; i++)
	{
		WalkBox    *box = &paths->walk[i];

		if (box->ask != WALK_ASKED || now >= box->until)
			continue;
		box->ask = WALK_RUNNING;
		peer = prober_find(prober, box->target);
		if (peer != NULL)
			peer->walk_wanted = true;
		prober->dirty = true;
	}
	LWLockRelease(paths->lock);
	resolver_hasten(&prober->resolver);
}
