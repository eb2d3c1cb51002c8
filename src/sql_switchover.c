/*
 * sql_switchover.c
 *		leasehold.switchover(): have the lease handed to another node.
 *
 * The request is posted in the store, where whoever holds the lease finds it;
 * what becomes of it is watched there, too.  So this works from any node.
 */
#include "postgres.h"

#include "fmgr.h"

#include "settings.h"
#include "sql.h"
#include "watch.h"

PG_FUNCTION_INFO_V1(leasehold_switchover);

/* How long a hand-over that was withdrawn may still turn out done. */
#define AFTERMATH_MS	1000

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

/*
 * Raise an error if this node has watched the target's heartbeat stand still.
 * A node that was seen for the first time only now is given time to show that
 * it lives.
 */
static void
require_alive(const char *target, ClockTime until)
{
	ClockTime	patience = sql_status()->observation;

	for (;;)
	{
		Survey	   *survey = sql_survey();
		const SurveyNode *seen = sql_find_node(survey, target);
		ClockTime	now = clock_now();

		if (seen == NULL || seen->alive || now - survey->nodes_at > 10 * CLOCK_S)
			return;				/* the holder knows better */
		if (now - seen->beat_seen > patience || now >= until)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("node \"%s\" is not alive", target),
					 errdetail("Its heartbeat has stood still for " INT64_FORMAT " s.",
							   (int64) ((now - seen->beat_seen) / CLOCK_S))));
		sql_sleep(50);
	}
}

static bool
is_handed(const Watch *watch, const char *target, int64 above_epoch)
{
	return watch->agreed && watch->epoch > above_epoch &&
		strcmp(watch->holder, target) == 0;
}

/* Take the request back, and see whether it happened in spite of that. */
static bool
withdraw(StoreGroup *group, const char *target, int64 above_epoch, Watch *watch)
{
	ClockTime	until;
	int64		seq;

	group->deadline = clock_now() + clock_ms(3000);
	if (group_count(group, group_counted) < group_majority(group))
		group_open(group);
	group_look(group);
	group_require_majority(group);
	seq = group_request(group, 0, -1, "");
	until = clock_now() + clock_ms(AFTERMATH_MS);
	do
	{
		watch_store(group, watch, seq);
		if (is_handed(watch, target, above_epoch))
			return true;
		/* somebody holds it: nothing more will come of the request */
		if (watch_heard(group, watch) && watch->holder[0] != '\0')
			return false;
		sql_sleep(10);
	} while (clock_now() < until);
	return false;
}

static void
raise_not_handed(const char *lease, const char *target, const Watch *watch,
				 const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("lease \"%s\" was not handed to node \"%s\"", lease, target),
			 errdetail("%s", why),
			 watch->holder[0] ?
			 errhint("Node \"%s\" holds it under epoch " INT64_FORMAT ".",
					 watch->holder, watch->epoch) :
			 errhint("Nobody holds it at this moment.")));
}

/* Post the request, and watch until it is done (NULL) or known to fail (why). */
static char *
try_hand_over(StoreGroup *group, const char *target, int64 old_epoch,
			  ClockTime until, Watch *watch, int64 *seq)
{
	*seq = group_request(group, 0, -1, target);
	for (;;)
	{
		watch_store(group, watch, *seq);
		if (is_handed(watch, target, old_epoch))
			return NULL;
		if (watch->answer[0] != '\0')
			return pstrdup(watch->answer);
		if (watch->seq > *seq)
			return "Another request has taken the place of this one.";
		if (clock_now() >= until)
			return !watch_heard(group, watch) ?
				psprintf("Too few members of the store answer. %s",
						 group_faults(group)) :
				"It was not done in time.";
		sql_sleep(3);
	}
}

static int64
hand_over(StoreGroup *group, const char *target, const StoreLease *row,
		  ClockTime until)
{
	int64		old_epoch = row->row.epoch;
	ClockTime	patient_until = clock_min(until, clock_now() +
										  sql_status()->observation + CLOCK_S);
	char	   *why;
	int64		seq;
	Watch		watch;

	sql_spare_session();
	/* a holder that has not seen a new node live yet is asked again */
	while ((why = try_hand_over(group, target, old_epoch, until, &watch, &seq)) != NULL &&
		   strcmp(why, STORE_ANSWER_NOT_ALIVE) == 0 &&
		   clock_now() < patient_until)
	{
		sql_sleep(100);
		group_look(group);
	}
	if (why == NULL || (watch.seq <= seq &&
						withdraw(group, target, old_epoch, &watch)))
		return watch.epoch;
	raise_not_handed(group->lease, target, &watch, why);
	return 0;
}

/*
 * leasehold_switchover
 *		Hand the lease to another node; on failure the old holder stays holder.
 */
Datum
leasehold_switchover(PG_FUNCTION_ARGS)
{
	char	   *target = sql_text(fcinfo, 0);
	char	   *lease;
	ClockTime	until;
	StoreGroup *group;
	const StoreLease *row;
	int64		epoch;

	sql_require_preloaded();
	if (target == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the target of a switchover must not be null")));
	lease = sql_lease(fcinfo, 1);
	until = clock_now() +
		clock_ms(sql_milliseconds(fcinfo, 2, "timeout", 1, SQL_TIMEOUT_MAX_MS));
	group = group_of_settings(lease, until + clock_ms(3000));
	row = sql_require_lease(group);
	require_node(group, target);
	if (strcmp(row->row.holder, target) == 0)
	{
		epoch = row->row.epoch;
		group_close(group);
		PG_RETURN_INT64(epoch);
	}
	if (row->row.holder[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("nobody holds lease \"%s\"", lease),
				 errhint("leasehold.acquire() on node \"%s\" takes it.", target)));
	if (row->row.frozen || row->row.pause_wanted)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("lease \"%s\" is paused", lease),
				 errhint("leasehold.resume() ends the pause.")));
	require_alive(target, until);
	epoch = hand_over(group, target, row, until);
	group_close(group);
	PG_RETURN_INT64(epoch);
}
