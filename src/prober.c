/*
 * prober.c
 *		The background worker that knows the paths: it reaches every node and every
 *		member of the store, holds a session with each, and says what it finds.
 *
 * It is the only one that may resolve names (see resolver.c), and resolves those
 * of the keeper, too.  Each peer is probed phase by phase and then asked over the
 * same session at every interval; at most one session with each.  Nothing here
 * blocks: one WaitEventSet, one deadline for each probe.
 *
 * Started by the postmaster, on a standby too; shared memory only.  Must never be
 * waited for, but by sessions that ask it to try a path.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <locale.h>

#include "access/xlog.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "postmaster/postmaster.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/varlena.h"

#include "compat.h"
#include "prober.h"
#include "workers.h"

#define LOOK_UP			CLOCK_S	/* how often the peers are looked up */
#define PUBLISH_RETRY	(20 * CLOCK_MS)
#define MAIL_POLL		(50 * CLOCK_MS) /* while a repair is under way */
/* A session that ends soon after it began is not begun again at once. */
#define SESSION_MIN		CLOCK_S

Peer *
prober_find(const Prober *prober, const char *name)
{
	for (int i = 0; i < prober->npeers; i++)
		if (strcmp(prober->peer[i]->name, name) == 0)
			return prober->peer[i];
	return NULL;
}

/* (a node might call itself what a member is called) */
static Peer *
find_of_kind(const Prober *prober, const char *name, bool member)
{
	for (int i = 0; i < prober->npeers; i++)
		if (strcmp(prober->peer[i]->name, name) == 0 &&
			prober->peer[i]->member == member)
			return prober->peer[i];
	return NULL;
}

/* ------------------------------------------------------------------------
 * Who is there to be reached
 * ------------------------------------------------------------------------
 */

static void
drop_peer(Prober *prober, int i)
{
	Peer	   *peer = prober->peer[i];

	watch_forget(prober, peer);
	probe_close(&peer->probe);
	if (peer->traffic != NULL)
		pfree(peer->traffic);
	pfree(peer->address);
	pfree(peer);
	prober->peer[i] = prober->peer[--prober->npeers];
	prober->sockets_changed = true;
}

static Peer *
make_peer(Prober *prober, const char *name, bool member, ClockTime now)
{
	Peer	   *peer = MemoryContextAllocZero(TopMemoryContext, sizeof(Peer));

	strlcpy(peer->name, name, sizeof(peer->name));
	peer->member = member;
	peer->address = MemoryContextStrdup(TopMemoryContext, "");
	peer->outage = -1;
	peer->next = now;
	path_init(&peer->path, now);
	if (member)
		peer->traffic = MemoryContextAllocZero(TopMemoryContext, sizeof(Traffic));
	prober->peer[prober->npeers++] = peer;
	return peer;
}

/* It is reached by another string now; a walk under way begins anew. */
static void
start_over(Prober *prober, Peer *peer, ClockTime now)
{
	probe_close(&peer->probe);
	peer->walk_wanted |= peer->walking;
	peer->walking = false;
	peer->next = now;
	prober->sockets_changed = true;
}

static void
note_peer(Prober *prober, const char *name, bool member, const char *address,
		  ClockTime now)
{
	Peer	   *peer = find_of_kind(prober, name, member);

	if (peer == NULL && prober->npeers == paths_entries_max())
		return;
	if (peer == NULL)
		peer = make_peer(prober, name, member, now);
	peer->present = true;
	if (strcmp(peer->address, address) == 0)
		return;
	pfree(peer->address);
	peer->address = MemoryContextStrdup(TopMemoryContext, address);
	peer->to[0] = peer->from[0] = '\0';
	start_over(prober, peer, now);
}

/* False if the keeper is reading the nodes just now. */
static bool
note_nodes(Prober *prober, ClockTime now)
{
	Survey	   *survey = leasehold_shared->survey;

	if (!LWLockConditionalAcquire(leasehold_shared->survey_lock, LW_SHARED))
		return false;
	for (int i = 0; i < survey->nnodes; i++)
		if (strcmp(survey->node[i].name, settings_node_name()) != 0)
			note_peer(prober, survey->node[i].name, false,
					  survey->node[i].advertise, now);
	prober->nodes_known = survey->nodes_at != 0;
	LWLockRelease(leasehold_shared->survey_lock);
	return true;
}

static void
note_members(Prober *prober, ClockTime now)
{
	Conninfo   *conninfo = palloc(sizeof(Conninfo) * LEASE_MEMBERS_MAX);
	int			n = setting_store == NULL ? 0 :
		conninfo_split(setting_store, conninfo, LEASE_MEMBERS_MAX);

	for (int i = 0; i < n; i++)
	{
		char		name[sizeof(conninfo->label)];
		int			same = 1;

		strlcpy(name, conninfo[i].label, sizeof(name));
		for (int k = 0; k < i; k++)
			same += strcmp(conninfo[k].label, conninfo[i].label) == 0;
		/* two strings may differ in what no label shows */
		if (same > 1)
			snprintf(name, sizeof(name), "%.120s (%d)", conninfo[i].label, same);
		note_peer(prober, name, true, conninfo[i].text, now);
	}
}

/* The string by which this node connects to the peer; palloc'd, or NULL. */
static char *
peer_conninfo(const Peer *peer)
{
	if (peer->member)
		return pstrdup(peer->address);
	return conninfo_for_peer(peer->address,
							 setting_peer_options ? setting_peer_options : "",
							 "leasehold prober", "postgres");
}

/* On a server without local sockets, the name that it listens on. */
static void
want_listen_name(Resolver *resolver)
{
	char	   *hosts = pstrdup(ListenAddresses ? ListenAddresses : "");
	List	   *list;
	ListCell   *cell;

	if (Unix_socket_directories != NULL && Unix_socket_directories[0] != '\0')
		return;
	if (!SplitGUCList(hosts, ',', &list))
		return;
	foreach(cell, list)
	{
		const char *host = lfirst(cell);
		char		numeric[sizeof(struct in6_addr)];

		if (strcmp(host, "*") != 0 && strcmp(host, "localhost") != 0 &&
			inet_pton(AF_INET, host, numeric) != 1 &&
			inet_pton(AF_INET6, host, numeric) != 1)
			resolver_want(resolver, host, true);
	}
}

static void
collect_names(Prober *prober)
{
	Conninfo   *conninfo = palloc(sizeof(Conninfo));
	char	   *text;

	resolver_collect(&prober->resolver);
	want_listen_name(&prober->resolver);
	for (int i = 0; i < prober->npeers; i++)
		if ((text = peer_conninfo(prober->peer[i])) != NULL &&
			conninfo_split(text, conninfo, 1) == 1)
			resolver_want_conninfo(&prober->resolver, conninfo,
								   prober->peer[i]->member);
	resolver_collected(&prober->resolver);
}

/* In a group of streaming standbys all have the same system identifier. */
static void
note_kind(Prober *prober)
{
	KeeperStatus *status = palloc(sizeof(KeeperStatus));

	prober->sysid[0] = '\0';
	if (shared_read(&leasehold_shared->status, status) &&
		strcmp(status->kind, "physical") == 0)
		snprintf(prober->sysid, sizeof(prober->sysid), UINT64_FORMAT,
				 GetSystemIdentifier());
	pfree(status);
}

static void
look_up_peers(Prober *prober, ClockTime now)
{
	for (int i = 0; i < prober->npeers; i++)
		prober->peer[i]->present = false;
	if (!note_nodes(prober, now))
	{
		prober->peers_at = now - LOOK_UP + PUBLISH_RETRY;
		return;
	}
	note_members(prober, now);
	for (int i = prober->npeers - 1; i >= 0; i--)
		if (!prober->peer[i]->present)
			drop_peer(prober, i);
	watch_settle(prober);
	prober->peers_at = now;
	note_kind(prober);
	collect_names(prober);
}

/* ------------------------------------------------------------------------
 * Probing
 * ------------------------------------------------------------------------
 */

/* Peers are not all probed in the same moment. */
static ClockTime
first_interval(const Prober *prober, const Peer *peer)
{
	uint32		hash = hash_bytes((const unsigned char *) peer->name,
								  strlen(peer->name));

	return prober->rules.interval / 2 +
		prober->rules.interval / 2 * (hash % 1024) / 1024;
}

static void
set_next(Prober *prober, Peer *peer, ClockTime now)
{
	ClockTime	interval = prober->rules.interval;

	if (peer->path.status == PATH_UNKNOWN)
		peer->next = now + first_interval(prober, peer);
	else if (peer->next + interval > now && peer->next <= now)
		peer->next += interval;
	else
		peer->next = now + interval;
}

static void
end_walk(Prober *prober, Peer *peer)
{
	if (!peer->walking)
		return;
	peer->walking = false;
	mail_walked(prober, peer);
	prober->dirty = true;
}

static void
begin(Prober *prober, Peer *peer, ClockTime now)
{
	Conninfo   *conninfo = palloc(sizeof(Conninfo));
	Addresses  *addresses = palloc0(sizeof(Addresses));
	char	   *text = peer_conninfo(peer);
	ProbeTarget target = {
		.name = peer->name, .member = peer->member,
		.conninfo = text ? text : "", .addresses = addresses,
		.sysid = prober->sysid
	};

	if (text != NULL && conninfo_split(text, conninfo, 1) == 1)
	{
		resolver_addresses(&prober->resolver, conninfo, addresses);
		target.name_fault = resolver_faults(&prober->resolver, conninfo);
	}
	peer->walking = peer->walk_wanted;
	peer->walk_wanted = false;
	prober->sockets_changed = true;
	set_next(prober, peer, now);
	if (probe_begin(&peer->probe, &target, now, prober->rules.timeout))
		return;
	/* nobody knows yet whether the name has an address: no finding */
	if (peer->probe.walk.cause == CAUSE_NO_ADDRESS && target.name_fault == NULL)
	{
		peer->walk_wanted = peer->walking;
		peer->next = now + 50 * CLOCK_MS;
		return;
	}
	watch_failed(prober, peer, now);
	end_walk(prober, peer);
}

static void
lost(Prober *prober, Peer *peer, ClockTime now)
{
	if (peer->probe.walk.cause == CAUSE_SILENT)
		watch_failed(prober, peer, now);
	prober->sockets_changed = true;
	peer->next = clock_max(now, peer->probe.began + SESSION_MIN);
}

static void
take_event(Prober *prober, Peer *peer, ProbeEvent event, PGresult *result,
		   ClockTime now)
{
	switch (event)
	{
		case PROBE_ARRIVED:
			if (peer->member)
				traffic_begin(peer);
			watch_succeeded(prober, peer, now, now - peer->probe.sent);
			end_walk(prober, peer);
			break;
		case PROBE_ANSWERED:
			peer->probe.asked = 0;
			watch_succeeded(prober, peer, now, now - peer->probe.sent);
			break;
		case PROBE_RESULT:
			traffic_result(prober, peer, result, now);
			break;
		case PROBE_FAILED:
			watch_failed(prober, peer, now);
			end_walk(prober, peer);
			break;
		case PROBE_LOST:
			lost(prober, peer, now);
			break;
		default:
			break;
	}
}

static void
step_peer(Prober *prober, Peer *peer, ClockTime now)
{
	Link	   *link = &peer->probe.link;
	pgsocket	socket = link->socket;
	uint32		wants = link->wants;
	PGresult   *result;
	ProbeEvent	event;

	/* several things may have come at once */
	while ((event = probe_poll(&peer->probe, now, &result)) != PROBE_NOTHING)
	{
		take_event(prober, peer, event, result, now);
		PQclear(result);
	}
	if (peer->walk_wanted && !peer->walking)
		begin(prober, peer, now);
	else if (now >= peer->next && peer->probe.stage == PROBE_DOWN)
		begin(prober, peer, now);
	else if (now >= peer->next && peer->probe.stage == PROBE_STANDS &&
			 link->state == LINK_IDLE && !peer->member)
	{
		probe_ping(&peer->probe, now, prober->rules.timeout);
		set_next(prober, peer, now);
	}
	if (peer->member && peer->probe.stage == PROBE_STANDS)
		traffic_advance(prober, peer, now);
	if (link->socket != socket || link->wants != wants || link->moved)
		prober->sockets_changed = true;
	link->moved = false;
}

/* ------------------------------------------------------------------------
 * The loop
 * ------------------------------------------------------------------------
 */

static void
rebuild_wait_set(Prober *prober)
{
	if (prober->wait_set != NULL)
		FreeWaitEventSet(prober->wait_set);
	prober->wait_set = compat_create_wait_set(paths_entries_max() + 3);
	AddWaitEventToSet(prober->wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(prober->wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET,
					  NULL, NULL);
	if (resolver_pipe(&prober->resolver) >= 0)
		AddWaitEventToSet(prober->wait_set, WL_SOCKET_READABLE,
						  resolver_pipe(&prober->resolver), NULL, NULL);
	for (int i = 0; i < prober->npeers; i++)
	{
		const Link *link = &prober->peer[i]->probe.link;

		if (link->state != LINK_DOWN && link->socket != PGINVALID_SOCKET)
			AddWaitEventToSet(prober->wait_set, link->wants, link->socket, NULL, NULL);
	}
	prober->sockets_changed = false;
}

static ClockTime
peer_due(const Prober *prober, const Peer *peer, ClockTime now)
{
	const Link *link = &peer->probe.link;
	ClockTime	due = CLOCK_NEVER;

	if (link->state != LINK_DOWN)
		due = link->deadline;
	if (peer->member && peer->probe.stage == PROBE_STANDS)
		return clock_min(due, traffic_due(prober, peer, now));
	if (peer->probe.stage == PROBE_DOWN || link->state == LINK_IDLE)
		due = clock_min(due, peer->next);
	return due;
}

static ClockTime
next_due(const Prober *prober, ClockTime now)
{
	ClockTime	due = clock_min(prober->peers_at + LOOK_UP,
								resolver_due(&prober->resolver));

	if (prober->again)
		return now;
	due = clock_min(due, reporter_due(prober));
	if (prober->walks_asked)
		due = clock_min(due, now + PUBLISH_RETRY);
	if (prober->mail.id[0] != '\0')
		due = clock_min(due, now + MAIL_POLL);
	if (prober->dirty)
		due = clock_min(due, clock_max(prober->publish_retry, now));
	for (int i = 0; i < prober->npeers; i++)
		due = clock_min(due, peer_due(prober, prober->peer[i], now));
	return due;
}

static void
wait_for_something(Prober *prober)
{
	WaitEvent	event[8];
	ClockTime	now = clock_now();
	static pid_t waited_child = 0;
	int			n;

	/* (the pipe of another child may have the same number) */
	if (prober->sockets_changed || prober->wait_set == NULL ||
		prober->resolver.child != waited_child)
		rebuild_wait_set(prober);
	waited_child = prober->resolver.child;
	n = WaitEventSetWait(prober->wait_set, clock_wait_ms(now, next_due(prober, now)),
						 event, lengthof(event),
						 compat_wait_event("LeaseholdProberMain"));
	for (int i = 0; i < n; i++)
		if (event[i].events & WL_LATCH_SET)
			ResetLatch(MyLatch);
}

/* What the nodes are reached by may be another string now. */
static void
take_peer_options(Prober *prober, ClockTime now)
{
	const char *options = setting_peer_options ? setting_peer_options : "";

	if (prober->peer_options != NULL && strcmp(prober->peer_options, options) == 0)
		return;
	if (prober->peer_options != NULL)
		pfree(prober->peer_options);
	prober->peer_options = MemoryContextStrdup(TopMemoryContext, options);
	for (int i = 0; i < prober->npeers; i++)
		if (!prober->peer[i]->member)
		{
			start_over(prober, prober->peer[i], now);
			/* (who changes this changes other files, too) */
			prober->peer[i]->next = now + SESSION_MIN;
		}
}

static void
take_settings(Prober *prober)
{
	/* what libpq says is read by cause_of(); servers may speak any language */
	(void) setlocale(LC_MESSAGES, "C");
	prober->rules.interval = clock_ms(setting_probe_interval);
	prober->rules.timeout = clock_ms(setting_probe_timeout);
	prober->peers_at = 0;
	reporter_hasten(prober);
	for (int i = 0; i < prober->npeers; i++)
		prober->peer[i]->next = clock_min(prober->peer[i]->next,
										  clock_now() + prober->rules.interval);
	take_peer_options(prober, clock_now());
}

static void
turn(Prober *prober)
{
	ClockTime	now = clock_now();

	if (now >= prober->peers_at + LOOK_UP)
		look_up_peers(prober, now);
	if (resolver_step(&prober->resolver, now))
		for (int i = 0; i < prober->npeers; i++)
			if (prober->peer[i]->probe.stage == PROBE_DOWN &&
				prober->peer[i]->probe.walk.phase == PHASE_RESOLVE)
				prober->peer[i]->next = now;
	prober->again = false;
	prober_take_walks(prober, now);
	mail_step(prober, now);
	for (int i = 0; i < prober->npeers; i++)
		step_peer(prober, prober->peer[i], clock_now());
	reporter_step(prober, now);
	report_compose(prober, now);
	if (prober->dirty && now >= prober->publish_retry)
		prober_publish(prober, now);
}

static void
close_all(int code, Datum arg)
{
	Prober	   *prober = (Prober *) DatumGetPointer(arg);

	resolver_stop(&prober->resolver);
	for (int i = 0; i < prober->npeers; i++)
		probe_close(&prober->peer[i]->probe);
}

static Prober *
make_prober(void)
{
	Prober	   *prober = palloc0(sizeof(Prober));

	resolver_init(&prober->resolver, 4 * paths_entries_max());
	prober->peer = palloc0(sizeof(Peer *) * paths_entries_max());
	prober->report = palloc0(paths_report_size());
	prober->others = palloc0(sizeof(PathReport) * setting_peers_max);
	prober->outage = palloc0(sizeof(PathOutage) * OUTAGES_OWN);
	prober->store_outage = palloc0(sizeof(PathOutage) * OUTAGES_STORE);
	prober->event = palloc0(EVENT_LEN * EVENTS_MAX);
	prober->mail.answer = palloc0(MAIL_ANSWER_LEN);
	prober->cycle_context = AllocSetContextCreate(TopMemoryContext,
												  "leasehold prober",
												  ALLOCSET_DEFAULT_SIZES);
	return prober;
}

void
leasehold_prober_main(Datum arg)
{
	Prober	   *prober;

	workers_start();
	MemoryContextSwitchTo(TopMemoryContext);
	prober = make_prober();
	before_shmem_exit(close_all, PointerGetDatum(prober));
	shared_take_seat(&leasehold_shared->prober);
	prober_recall(prober);
	for (;;)
	{
		MemoryContextSwitchTo(prober->cycle_context);
		MemoryContextReset(prober->cycle_context);
		if (ShutdownRequestPending)
			proc_exit(1);
		if (workers_reload())
			take_settings(prober);
		turn(prober);
		wait_for_something(prober);
	}
}
