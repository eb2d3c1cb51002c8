/*
 * sql_switchover.c
 *		leasehold.switchover(): have the lease handed to another node.
 *
 * The request is posted in the store, where whoever holds the lease finds it;
 * what becomes of it is watched there, too.  So this works from any node.
 */
#include "postgres.h"

#include "fmgr.h"
#include "storage/ipc.h"
#include "utils/builtins.h"

#include "group_tables.h"
#include "settings.h"
#include "sql.h"
#include "watch.h"

PG_FUNCTION_INFO_V1(leasehold_switchover);

/* How long it may take to withdraw a request. */
#define WITHDRAW_MS		2000
/*
 * How long a hand-over that was withdrawn may still turn out done; and how long
 * a holder that may have begun it is watched for letting go.
 */
#define AFTERMATH_MS	1000
#define CALM_MS			200

static void
require_node(StoreGroup *group, const char *target)
{
	StoreNode  *node = palloc(sizeof(StoreNode) * setting_peers_max);
	int			n = group_nodes(group, node, setting_peers_max);

	for (int i = 0; i < n; i++)
		if (strcmp(node[i].name, target) == 0)
			return;
	sql_unknown("node", target, group_node_names(node, n));
}

/* A lease of tables goes only to nodes that take part in it. */
static void
require_member(StoreGroup *group, const StoreLease *lease, const char *target)
{
	GroupMemberships rows;

	if (strcmp(lease->scope, "tables") != 0)
		return;
	group_memberships(group, &rows);
	if (group_find_membership(&rows, group->lease, target) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("node \"%s\" takes no part in lease \"%s\"", target,
						group->lease),
				 errhint("SELECT leasehold.join_lease(%s, %s) has it take part.",
						 quote_literal_cstr(group->lease),
						 quote_literal_cstr(target))));
}

/*
 * Raise an error if this node has watched the target's heartbeat stand still,
 * up to this moment: the target may just have been started.  A node that was
 * seen for the first time only now is given time to show that it lives.
 */
static void
require_alive(const char *target, ClockTime patience, ClockTime until)
{

	for (;;)
	{
		Survey	   *survey = sql_fresh_survey(until);
		const SurveyNode *seen = survey ? sql_find_node(survey, target) : NULL;
		ClockTime	now = clock_now();

		if (seen == NULL || seen->alive)
			return;				/* the holder knows better */
		if (now - seen->beat_seen > patience || now >= until)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("node \"%s\" is not alive", target),
					 errdetail("Its heartbeat has stood still for " INT64_FORMAT " s.",
							   (int64) ((now - seen->beat_seen) / CLOCK_S))));
		sql_free_survey(survey);
		sql_sleep(50);
	}
}

/* ------------------------------------------------------------------------
 * The request, and what becomes of it
 * ------------------------------------------------------------------------
 */

/* A hand-over that somebody waits for. */
typedef struct HandOver
{
	StoreGroup *group;
	const char *target;
	char		old_holder[LEASE_NAME_LEN];
	int64		old_epoch;
	ClockTime	until;
	ClockTime	patience;		/* with a heartbeat that stands still */
	GroupRequest request;		/* as it stands in the store; seq 0: none does */
	bool		refused;		/* its holder has said that it will not do it */
	Watch		watch;			/* the last look at the store */
	WatchPulse	pulse;			/* of the target */
} HandOver;

/*
 * Does a live run of the target hold it?  The row alone does not say so, it may
 * have been written by a run that is dead.  A higher epoch was taken since we
 * asked, and an answer given since.
 */
static bool
is_handed(const HandOver *order)
{
	const Watch *watch = &order->watch;

	return watch->current && watch->open &&
		strcmp(watch->holder, order->target) == 0 &&
		(watch->epoch > order->old_epoch ||
		 strcmp(watch->answer, STORE_ANSWER_HELD) == 0);
}

/* Is it somebody else's by now?  With that the request is void. */
static bool
is_taken(const HandOver *order)
{
	const Watch *watch = &order->watch;

	return watch->agreed && watch->epoch > order->old_epoch &&
		watch->holder[0] != '\0' && strcmp(watch->holder, order->target) != 0;
}

/*
 * Take the request back, so that nothing comes of it any more.  Also on the way
 * out of an error, or out of the session.
 */
static void
withdraw(HandOver *order)
{
	if (order->request.seq == 0)
		return;
	if (!group_withdraw(order->group, &order->request,
						clock_now() + clock_ms(WITHDRAW_MS)))
		ereport(LOG,
				(errmsg("leasehold: could not withdraw the request to hand lease \"%s\" to node \"%s\"",
						order->group->lease, order->target),
				 errdetail("Too few members of the store answered. The holder may still act on the request.")));
	order->request.seq = 0;
}

static void
withdraw_at_exit(int code, Datum arg)
{
	withdraw((HandOver *) DatumGetPointer(arg));
}

/* Has it happened although the request was withdrawn? */
static bool
happened_after_all(HandOver *order)
{
	StoreGroup *group = order->group;
	ClockTime	now = clock_now();
	ClockTime	until = now + clock_ms(AFTERMATH_MS);
	ClockTime	calm_at = order->refused ? now : now + clock_ms(CALM_MS);

	group->deadline = until;
	do
	{
		watch_store(group, &order->watch, order->target, 0);
		if (is_handed(order))
			return true;
		/* somebody holds it, and is not just letting go: nothing more will come */
		if (order->watch.agreed && order->watch.holder[0] != '\0' &&
			clock_now() >= calm_at)
			return false;
		sql_sleep(10);
	} while (clock_now() < until);
	return false;
}

static void
raise_not_handed(const HandOver *order, const char *why)
{
	const Watch *watch = &order->watch;

	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("lease \"%s\" was not handed to node \"%s\"",
					order->group->lease, order->target),
			 errdetail("%s", why),
			 watch->holder[0] ?
			 errhint("Node \"%s\" holds it under epoch " INT64_FORMAT ".",
					 watch->holder, watch->epoch) :
			 errhint("Nobody holds it at this moment.")));
}

/*
 * The row says that the target has the lease already: has it stopped living?
 * (What stops a target that has yet to get it, its holder sees.)
 */
static bool
is_dead_holder(HandOver *order)
{
	const Watch *watch = &order->watch;

	return strcmp(order->old_holder, order->target) == 0 &&
		watch_pulse(&order->pulse, order->group, watch, watch->beats) >
		order->patience;
}

/* Nothing more will come of the request: why not?  NULL if it may yet be done. */
static const char *
why_ended(HandOver *order)
{
	const Watch *watch = &order->watch;

	order->refused = watch->answer[0] != '\0' &&
		strcmp(watch->answer, STORE_ANSWER_HELD) != 0;
	if (order->refused)
		return pstrdup(watch->answer);
	if (is_taken(order))
		return psprintf(strcmp(watch->holder, order->old_holder) == 0 ?
						"Node \"%s\" has taken it back." :
						"Node \"%s\" has taken it meanwhile.", watch->holder);
	if (watch->seq > order->request.seq)
		return "Another request has taken the place of this one.";
	if (is_dead_holder(order))
		return psprintf("Node \"%s\" is not alive: it does not answer, and its heartbeat stands still.",
						order->target);
	if (clock_now() < order->until)
		return NULL;
	if (!watch_heard(order->group, watch))
		return psprintf("Too few members of the store answer. %s",
						group_faults(order->group));
	return "It was not done in time.";
}

/* Post the request, and watch until it is done (NULL) or known to fail. */
static const char *
try_hand_over(HandOver *order)
{
	const char *why;

	group_request(order->group, 0, -1, order->target, &order->request);
	for (;;)
	{
		watch_store(order->group, &order->watch, order->target,
					order->request.seq);
		if (is_handed(order))
			return NULL;
		if ((why = why_ended(order)) != NULL)
			return why;
		sql_sleep(3);
	}
}

/* A holder that has not seen a new node live yet is asked again. */
static const char *
try_patiently(HandOver *order)
{
	ClockTime	patient_until = clock_min(order->until, clock_now() +
										  order->patience + CLOCK_S);
	const char *why;

	while ((why = try_hand_over(order)) != NULL &&
		   strcmp(why, STORE_ANSWER_NOT_ALIVE) == 0 &&
		   clock_now() < patient_until)
	{
		sql_sleep(100);
		group_look(order->group);
	}
	return why;
}

static int64
hand_over(HandOver *order)
{
	sql_spare_session();
	/* whatever ends this, the request does not stay behind */
	PG_ENSURE_ERROR_CLEANUP(withdraw_at_exit, PointerGetDatum(order));
	{
		const char *why = try_patiently(order);

		if (why != NULL)
		{
			withdraw(order);
			if (!happened_after_all(order))
				raise_not_handed(order, why);
		}
	}
	PG_END_ENSURE_ERROR_CLEANUP(withdraw_at_exit, PointerGetDatum(order));
	return order->watch.epoch;
}

/* ------------------------------------------------------------------------
 * switchover
 * ------------------------------------------------------------------------
 */

/* Who has it now? */
static HandOver *
make_order(StoreGroup *group, const char *target, ClockTime patience,
		   ClockTime until)
{
	HandOver   *order = palloc0(sizeof(HandOver));

	order->group = group;
	order->target = target;
	order->until = until;
	order->patience = patience;
	watch_store(group, &order->watch, target, 0);
	order->old_epoch = order->watch.epoch;
	strlcpy(order->old_holder, order->watch.holder, sizeof(order->old_holder));
	return order;
}

/* Is the target this very node, and does it hold the lease? */
static bool
is_held_here(const HandOver *order)
{
	uint64		held = sql_held_epoch(order->group->lease);

	return held != 0 && held == (uint64) order->old_epoch &&
		strcmp(order->target, settings_node_name()) == 0;
}

static void
require_handable(const char *lease, const HandOver *order,
				 const LeaseRow *row)
{
	if (order->old_holder[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("nobody holds lease \"%s\"", lease),
				 errhint("leasehold.acquire() on node \"%s\" takes it.",
						 order->target)));
	if ((row->frozen || row->pause_wanted) &&
		strcmp(order->old_holder, order->target) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("lease \"%s\" is paused", lease),
				 errhint("leasehold.resume() ends the pause.")));
	require_alive(order->target, order->patience, order->until);
}

int64
sql_switchover(const char *target, const char *lease, ClockTime until)
{
	StoreGroup *group = group_of_settings(lease, until + clock_ms(3000));
	const StoreLease *row = sql_require_lease(group);
	HandOver   *order;
	int64		epoch;

	require_node(group, target);
	require_member(group, row, target);
	order = make_order(group, target, sql_patience(row->row.ttl_ms), until);
	if (is_held_here(order))
		epoch = order->old_epoch;
	else
	{
		require_handable(lease, order, &row->row);
		epoch = hand_over(order);
	}
	group_close(group);
	return epoch;
}

/*
 * leasehold_switchover
 *		Hand the lease to another node; on failure the old holder stays holder.
 *		A target that has it already is asked to confirm that.
 */
Datum
leasehold_switchover(PG_FUNCTION_ARGS)
{
	char	   *target = sql_text(fcinfo, 0);
	char	   *lease;
	ClockTime	until;

	sql_require_preloaded();
	if (target == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the target of a switchover must not be null")));
	lease = sql_lease(fcinfo, 1);
	until = clock_now() +
		clock_ms(sql_milliseconds(fcinfo, 2, "timeout", 1, SQL_TIMEOUT_MAX_MS));
	PG_RETURN_INT64(sql_switchover(target, lease, until));
}
