/*
 * sql_lease.c
 *		What people ask of a lease: acquire, release, pause, resume.
 *
 * acquire() and release() ask this node's keeper, through shared memory.  The
 * others post a request in the store, which whoever holds the lease acts on,
 * and watch the store until it is done: they work from any node.  So does
 * switchover, in sql_switchover.c.
 */
#include "postgres.h"

#include "fmgr.h"
#include "storage/ipc.h"
#include "utils/builtins.h"

#include "settings.h"
#include "sql.h"
#include "store_care.h"
#include "watch.h"

PG_FUNCTION_INFO_V1(leasehold_acquire);
PG_FUNCTION_INFO_V1(leasehold_release);
PG_FUNCTION_INFO_V1(leasehold_pause);
PG_FUNCTION_INFO_V1(leasehold_resume);

#define RELEASE_MS		10000
#define PAUSE_MS		10000
#define RESUME_MS		10000
/* How long it may take to withdraw a request. */
#define WITHDRAW_MS		2000

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
		clock_ms(sql_milliseconds(fcinfo, 1, "timeout", 0, SQL_TIMEOUT_MAX_MS));
	for (;;)
	{
		uint64		epoch = sql_held_epoch(lease);
		ClockTime	now = clock_now();

		if (epoch != 0)
			PG_RETURN_INT64((int64) epoch);
		if (now >= until)
			raise_not_acquired(lease, sql_lease_status(lease));
		/* somebody else may have put another request into the box */
		if (asked_at == 0 || now - asked_at >= CLOCK_S)
		{
			shared_ask_keeper(ASK_ACQUIRE, sql_box_name(lease), force, until);
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
is_released(const char *lease, uint64 epoch, bool *drained)
{
	uint64		now_held = sql_held_epoch(lease);
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
	status = sql_lease_status(lease);
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
	epoch = sql_held_epoch(lease);
	if (epoch == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this node does not hold lease \"%s\"", lease)));
	if (sql_lease_status(lease)->state == NODE_PAUSED)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("lease \"%s\" is paused", lease),
				 errhint("leasehold.resume() ends the pause.")));
	sql_spare_session();
	shared_ask_keeper(ASK_RELEASE, sql_box_name(lease), false, until);
	while (!is_released(lease, epoch, &drained))
	{
		if (clock_now() >= until)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("lease \"%s\" was not released in time", lease),
					 errdetail("%s", sql_lease_status(lease)->reason)));
		sql_sleep(10);
	}
	PG_RETURN_VOID();
}

/* ------------------------------------------------------------------------
 * pause and resume
 * ------------------------------------------------------------------------
 */

/* A pause, or the end of one, that somebody waits for. */
typedef struct Pausing
{
	StoreGroup *group;
	bool		before;			/* was a pause wanted before? */
	GroupRequest request;		/* as it stands in the store; seq 0: none does */
} Pausing;

/* Take the request back; also on the way out of an error, or of the session. */
static void
withdraw(Pausing *pausing)
{
	GroupRequest request = pausing->request;

	if (request.seq == 0)
		return;
	pausing->request.seq = 0;
	request.pause = pausing->before;
	if (!group_withdraw(pausing->group, &request,
						clock_now() + clock_ms(WITHDRAW_MS)))
		ereport(LOG,
				(errmsg("leasehold: could not withdraw the request to %s lease \"%s\"",
						pausing->request.pause ? "pause" : "resume",
						pausing->group->lease),
				 errdetail("Too few members of the store answered. The holder may still act on the request.")));
}

static void
withdraw_at_exit(int code, Datum arg)
{
	withdraw((Pausing *) DatumGetPointer(arg));
}

/* The holder whose doing is waited for, and how long its silence is borne. */
typedef struct Awaited
{
	const char *holder;
	ClockTime	patience;
	ClockTime	judged_at;		/* not before this moment */
	WatchPulse	pulse;
	ClockTime	silence;		/* so far */
} Awaited;

/*
 * What this node's keeper has seen before counts, if it is the run that holds
 * the lease whose heartbeat has stood still.  But it looks at one member only:
 * a holder that reaches others is given time for a heartbeat there.
 */
static void
begin_awaiting(Awaited *awaited, StoreGroup *group, const LeaseRow *row,
			   ClockTime until)
{
	Survey	   *survey = sql_fresh_survey(until);
	const SurveyNode *seen = survey ? sql_find_node(survey, row->holder) : NULL;
	Watch		watch;

	memset(awaited, 0, sizeof(*awaited));
	awaited->holder = pstrdup(row->holder);
	awaited->patience = sql_patience(row->ttl_ms);
	awaited->judged_at = clock_now() +
		2 * clock_max(sql_status()->renew_interval, clock_ms(row->ttl_ms) / 5);
	watch_store(group, &watch, awaited->holder, 0);
	(void) watch_pulse(&awaited->pulse, group, &watch, watch.run_beats);
	if (seen != NULL && seen->incarnation == watch.incarnation)
		awaited->pulse.moved_at = clock_min(awaited->pulse.moved_at,
											seen->beat_seen);
}

/*
 * Wait until a majority of the rows is frozen, or thawed.  A row that nobody
 * holds is frozen and thawed from here, since nobody renews it.  Ends early
 * when the holder that is awaited, if any, is silent for too long.
 */
static bool
wait_frozen(StoreGroup *group, bool frozen, Awaited *awaited, ClockTime until)
{
	for (;;)
	{
		Watch		watch;
		const char *values[2] = {group->lease};

		watch_store(group, &watch, awaited ? awaited->holder : "", 0);
		if ((frozen ? watch.frozen : watch.seen - watch.frozen) >=
			group_majority(group))
			return true;
		if (clock_now() >= until)
			return false;
		if (awaited != NULL && watch.holder[0] != '\0')
		{
			awaited->silence = watch_pulse(&awaited->pulse, group, &watch,
										   watch.run_beats);
			if (awaited->silence > awaited->patience &&
				clock_now() >= awaited->judged_at)
				return false;
		}
		if (watch_heard(group, &watch) && watch.holder[0] == '\0')
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

/*
 * Ask for it, and wait until it is done.  Else, and whatever ends this, the
 * request does not stay behind.
 */
static bool
ask_frozen(StoreGroup *group, bool frozen, Awaited *awaited, ClockTime until)
{
	const StoreLease *last = group_last_request(group);
	Pausing    *pausing = palloc0(sizeof(Pausing));
	bool		done;

	pausing->group = group;
	pausing->before = last != NULL && last->row.pause_wanted;
	PG_ENSURE_ERROR_CLEANUP(withdraw_at_exit, PointerGetDatum(pausing));
	{
		group_request(group, 0, frozen, "", &pausing->request);
		done = wait_frozen(group, frozen, awaited, until);
		if (!done)
			withdraw(pausing);
	}
	PG_END_ENSURE_ERROR_CLEANUP(withdraw_at_exit, PointerGetDatum(pausing));
	return done;
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
	if (!ask_frozen(group, true, NULL, until))
	{
		group_look(group);
		group_require_majority(group);
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("lease \"%s\" was not paused in time", lease),
				 errdetail("Its holder did not confirm the pause, which has been taken back.")));
	}
	group_close(group);
	PG_RETURN_VOID();
}

static void
raise_still_paused(const char *lease, const Awaited *awaited)
{
	bool		silent = awaited->silence > awaited->patience;

	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("lease \"%s\" is still paused", lease),
			 silent ?
			 errdetail("Its holder, node \"%s\", does not answer: its heartbeat has stood still for " INT64_FORMAT " s.",
					   awaited->holder, (int64) (awaited->silence / CLOCK_S)) :
			 errdetail("Its holder, node \"%s\", has not confirmed the end of the pause.",
					   awaited->holder),
			 errhint("If that node is known to be dead, use leasehold.resume(force => true). If it lives, call leasehold.resume() again when it reaches the store.")));
}

/* Whether or not its holder agrees: what was begun is not taken back. */
static void
thaw_by_force(StoreGroup *group, Awaited *awaited, ClockTime until)
{
	const char *values[2] = {group->lease, psprintf(INT64_FORMAT, PG_INT64_MAX)};

	group_request(group, 0, 0, "", NULL);
	group_send(group, group_counted, store_thaw_sql, 2, values);
	group_notify(group);
	if (!wait_frozen(group, false, NULL, until))
		raise_still_paused(group->lease, awaited);
}

/*
 * leasehold_resume
 *		End a pause.  By force it ends whether or not the holder agrees, and the
 *		lease runs out as if it had been renewed at this moment.  That is for
 *		people to decide: a silent holder may be alive, and writing.
 */
Datum
leasehold_resume(PG_FUNCTION_ARGS)
{
	bool		force = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1);
	char	   *lease;
	ClockTime	until = clock_now() + clock_ms(RESUME_MS);
	StoreGroup *group;
	Awaited		awaited;

	sql_require_preloaded();
	lease = sql_lease(fcinfo, 0);
	group = group_of_settings(lease, until + clock_ms(5000));
	begin_awaiting(&awaited, group, &sql_require_lease(group)->row, until);
	if (force)
		thaw_by_force(group, &awaited, until);
	else if (!ask_frozen(group, false, &awaited, until))
		raise_still_paused(lease, &awaited);
	thaw_leftovers(group);
	group_close(group);
	PG_RETURN_VOID();
}
