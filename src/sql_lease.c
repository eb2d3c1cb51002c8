/*
 * sql_lease.c
 *		What people ask of a lease: acquire, release, switchover, pause, resume.
 *
 * acquire() and release() ask this node's keeper, through shared memory.  The
 * others post a request in the store, which whoever holds the lease acts on,
 * and watch the store until it is done: they work from any node.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "settings.h"
#include "sql.h"
#include "store_care.h"

PG_FUNCTION_INFO_V1(leasehold_acquire);
PG_FUNCTION_INFO_V1(leasehold_release);
PG_FUNCTION_INFO_V1(leasehold_switchover);
PG_FUNCTION_INFO_V1(leasehold_pause);
PG_FUNCTION_INFO_V1(leasehold_resume);

#define TIMEOUT_MAX_MS	(24 * 3600 * 1000)
#define RELEASE_MS		10000
#define PAUSE_MS		10000
#define RESUME_MS		10000

/* How long a hand-over that was withdrawn may still turn out done. */
#define AFTERMATH_MS	1000

/* ------------------------------------------------------------------------
 * Asking this node's keeper
 * ------------------------------------------------------------------------
 */

static void
raise_not_acquired(const char *lease, const KeeperStatus *status)
{
	bool		held = status->state == NODE_FOLLOWER && status->holder[0] != '\0' &&
		strcmp(status->holder, status->node) != 0;

	if (held)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("lease \"%s\" is held by node \"%s\" under epoch " INT64_FORMAT,
						lease, status->holder, status->epoch),
				 status->reason[0] ? errdetail("%s", status->reason) : 0,
				 errhint("leasehold.switchover() hands it over.")));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("lease \"%s\" could not be acquired in time", lease),
			 errdetail("This node is %s. %s", sql_state_name(status->state),
					   status->reason),
			 errhint("leasehold.check() says what stands against it.")));
}

/*
 * leasehold_acquire
 *		Have this node take the lease as soon as it is free.
 */
Datum
leasehold_acquire(PG_FUNCTION_ARGS)
{
	char	   *lease;
	ClockTime	until;
	ClockTime	asked_at = 0;
	bool		force = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2);

	sql_require_preloaded();
	lease = sql_own_lease(fcinfo, 0);
	until = clock_now() +
		clock_ms(sql_milliseconds(fcinfo, 1, "timeout", 0, TIMEOUT_MAX_MS));
	for (;;)
	{
		uint64		epoch = shared_lease_epoch(&fence_shared->instance);
		ClockTime	now = clock_now();

		if (epoch != 0)
			PG_RETURN_INT64((int64) epoch);
		if (now >= until)
			raise_not_acquired(lease, sql_status());
		/* somebody else may have put another request into the box */
		if (asked_at == 0 || now - asked_at >= CLOCK_S)
		{
			shared_ask_keeper(ASK_ACQUIRE, force, until);
			asked_at = now;
		}
		sql_sleep(10);
	}
}

/*
 * Is the lease, as held under this epoch, given up and the store told?  Notes
 * in *drained that the fence was closed: when it is open again, the keeper has
 * taken the release back.
 */
static bool
is_released(uint64 epoch, bool *drained)
{
	uint64		now_held = shared_lease_epoch(&fence_shared->instance);
	KeeperStatus *status;
	bool		released;

	if (now_held > epoch)
		return true;
	if (now_held == epoch)
	{
		if (*drained)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the lease was not released"),
					 errdetail("Commits under way did not end in time.")));
		return false;
	}
	*drained = true;
	status = sql_status();
	released = status->state != NODE_HOLDER && status->state != NODE_DRAINING &&
		status->state != NODE_PAUSED;
	pfree(status);
	return released;
}

/*
 * leasehold_release
 *		Have this node drain and give up the lease.
 */
Datum
leasehold_release(PG_FUNCTION_ARGS)
{
	char	   *lease;
	uint64		epoch;
	bool		drained = false;
	ClockTime	until = clock_now() + clock_ms(RELEASE_MS);

	sql_require_preloaded();
	lease = sql_own_lease(fcinfo, 0);
	epoch = shared_lease_epoch(&fence_shared->instance);
	if (epoch == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this node does not hold lease \"%s\"", lease)));
	if (sql_status()->state == NODE_PAUSED)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("lease \"%s\" is paused", lease),
				 errhint("leasehold.resume() ends the pause.")));
	sql_spare_session();
	shared_ask_keeper(ASK_RELEASE, false, until);
	while (!is_released(epoch, &drained))
	{
		if (clock_now() >= until)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("lease \"%s\" was not released in time", lease),
					 errdetail("%s", sql_status()->reason)));
		sql_sleep(10);
	}
	PG_RETURN_VOID();
}

/* ------------------------------------------------------------------------
 * Watching the store
 * ------------------------------------------------------------------------
 */

/* What all counted members together say of the lease. */
typedef struct Watch
{
	int			seen;			/* members that answered */
	int			frozen;			/* ... whose row is frozen */
	int			held;			/* ... held by the node asked for, see below */
	int64		epoch;			/* the highest */
	char		holder[LEASE_NAME_LEN]; /* under it */
	int64		seq;			/* the latest request */
	char		answer[STORE_REASON_LEN];	/* to the request asked for */
} Watch;

static void
watch_member(const PGresult *row, Watch *watch, const char *target,
			 int64 above_epoch, int64 seq)
{
	int64		epoch = strtoll(PQgetvalue(row, 0, WATCH_EPOCH), NULL, 10);
	int64		row_seq = strtoll(PQgetvalue(row, 0, WATCH_SEQ), NULL, 10);
	const char *holder = PQgetvalue(row, 0, WATCH_HOLDER);
	const char *answer = PQgetvalue(row, 0, WATCH_ANSWER);

	watch->seen++;
	watch->frozen += PQgetvalue(row, 0, WATCH_FROZEN)[0] == 't';
	if (target != NULL && epoch > above_epoch && strcmp(holder, target) == 0)
		watch->held++;
	if (epoch > watch->epoch || (epoch == watch->epoch && holder[0] != '\0'))
	{
		watch->epoch = epoch;
		strlcpy(watch->holder, holder, sizeof(watch->holder));
	}
	watch->seq = Max(watch->seq, row_seq);
	if (row_seq == seq && answer[0] != '\0')
		strlcpy(watch->answer, answer, sizeof(watch->answer));
}

/* One round; members that were lost are connected again. */
static void
watch_store(StoreGroup *group, Watch *watch, const char *target,
			int64 above_epoch, int64 seq)
{
	const char *values[1] = {group->lease};

	memset(watch, 0, sizeof(*watch));
	if (group_count(group, group_counted) < group_majority(group))
		group_open(group);
	group_send(group, group_counted, store_watch_sql, 1, values);
	for (int i = 0; i < group->n; i++)
		if (group_took(group, i) &&
			PQnfields(group->member[i].result) == WATCH_COUNT)
			watch_member(group->member[i].result, watch, target, above_epoch,
						 seq);
}

/* ------------------------------------------------------------------------
 * switchover
 * ------------------------------------------------------------------------
 */

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
		watch_store(group, watch, target, above_epoch, seq);
		if (watch->held >= group_majority(group))
			return true;
		/* somebody holds it: nothing more will come of the request */
		if (watch->seen >= group_majority(group) && watch->holder[0] != '\0')
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
		watch_store(group, watch, target, old_epoch, *seq);
		if (watch->held >= group_majority(group))
			return NULL;
		if (watch->answer[0] != '\0')
			return pstrdup(watch->answer);
		if (watch->seq > *seq)
			return "Another request has taken the place of this one.";
		if (clock_now() >= until)
			return watch->seen < group_majority(group) ?
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
		clock_ms(sql_milliseconds(fcinfo, 2, "timeout", 1, TIMEOUT_MAX_MS));
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

/* ------------------------------------------------------------------------
 * pause and resume
 * ------------------------------------------------------------------------
 */

/*
 * Wait until a majority of the rows is frozen, or thawed.  A row that nobody
 * holds is frozen and thawed from here, since nobody renews it.
 */
static bool
wait_frozen(StoreGroup *group, bool frozen, ClockTime until)
{
	for (;;)
	{
		Watch		watch;
		const char *values[2] = {group->lease};

		watch_store(group, &watch, NULL, 0, 0);
		if ((frozen ? watch.frozen : watch.seen - watch.frozen) >=
			group_majority(group))
			return true;
		if (clock_now() >= until)
			return false;
		if (watch.seen >= group_majority(group) && watch.holder[0] == '\0')
		{
			/* nobody holds it, or only under an epoch that is long over */
			values[1] = psprintf(INT64_FORMAT, watch.epoch);
			group_send(group, group_counted,
					   frozen ? store_freeze_sql : store_thaw_sql,
					   frozen ? 1 : 2, values);
			group_notify(group);
		}
		sql_sleep(10);
	}
}

/* Thaw rows left frozen by holders that a majority has outlived. */
static void
thaw_leftovers(StoreGroup *group)
{
	const StoreLease *best;
	const char *values[2] = {group->lease};

	group_look(group);
	best = group_best(group);
	if (best == NULL || best->row.frozen)
		return;
	values[1] = psprintf(INT64_FORMAT, best->row.epoch);
	group_send(group, group_counted, store_thaw_sql, 2, values);
}

/*
 * leasehold_pause
 *		Freeze the lease.  Returns when its holder relies on that (R9).
 */
Datum
leasehold_pause(PG_FUNCTION_ARGS)
{
	char	   *lease;
	ClockTime	until = clock_now() + clock_ms(PAUSE_MS);
	StoreGroup *group;

	sql_require_preloaded();
	lease = sql_lease(fcinfo, 0);
	group = group_of_settings(lease, until + clock_ms(5000));
	sql_require_lease(group);
	(void) group_request(group, 0, 1, "");
	if (!wait_frozen(group, true, until))
	{
		group_look(group);
		group_require_majority(group);
		(void) group_request(group, 0, 0, "");
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("lease \"%s\" was not paused in time", lease),
				 errdetail("Its holder did not confirm the pause, which has been taken back.")));
	}
	group_close(group);
	PG_RETURN_VOID();
}

/*
 * leasehold_resume
 *		End a pause.  By force it ends whether or not the holder agrees, and the
 *		lease runs out as if it had been renewed at this moment.
 */
Datum
leasehold_resume(PG_FUNCTION_ARGS)
{
	bool		force = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1);
	char	   *lease;
	ClockTime	until = clock_now() + clock_ms(RESUME_MS);
	StoreGroup *group;
	const StoreLease *row;

	sql_require_preloaded();
	lease = sql_lease(fcinfo, 0);
	group = group_of_settings(lease, until + clock_ms(5000));
	row = sql_require_lease(group);
	(void) group_request(group, 0, 0, "");
	if (force)
	{
		const char *values[2] = {lease, psprintf(INT64_FORMAT, PG_INT64_MAX)};

		group_send(group, group_counted, store_thaw_sql, 2, values);
		group_notify(group);
	}
	if (!wait_frozen(group, false, until))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("lease \"%s\" is still paused", lease),
				 errdetail("Its holder, node \"%s\", has not confirmed the end of the pause.",
						   row->row.holder),
				 errhint("If that node is known to be dead, use leasehold.resume(force => true).")));
	thaw_leftovers(group);
	group_close(group);
	PG_RETURN_VOID();
}
