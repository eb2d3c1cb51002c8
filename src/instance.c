/*
 * instance.c
 *		What becomes of the instance as its lease changes hands, where it is one
 *		of a primary and its streaming standbys.
 *
 * Here: what it is (read from disk, published for the keeper), promotion, the
 * flush before a hand-over, and what a superseded primary does.  Following
 * another server and keeping slots is errand.c's.
 *
 * Called by the steward.  Must never decide who holds a lease, and never wait
 * for another process.
 */
#include "postgres.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "access/timeline.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogrecovery.h"
#include "miscadmin.h"
#include "replication/walreceiver.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/fd.h"
#include "storage/spin.h"

#include "fence_refuse.h"
#include "instance.h"
#include "shell.h"
#include "workers.h"

#define LOOK_RECOVERING		(10 * CLOCK_MS)
#define LOOK_STANDBY		(CLOCK_S / 4)
#define PROMOTE_AGAIN		(CLOCK_S / 2)
#define TURN_AWAY			(CLOCK_S / 10)
#define ASTRAY_PATIENCE		(15 * CLOCK_S)
#define ERRAND_POLL			(20 * CLOCK_MS)
#define ERRAND_PAUSE		(2 * CLOCK_S)

extern char **environ;

void
instance_init(InstanceWork *work)
{
	memset(work, 0, sizeof(*work));
	shared_read(&leasehold_shared->instance, &work->instance);
	shared_read(&leasehold_shared->orders, &work->orders);
}

/* ------------------------------------------------------------------------
 * What it is
 * ------------------------------------------------------------------------
 */

/* False if the history file is not here yet. */
static bool
read_history(TimeLineID timeline, TimelineHistory *to)
{
	List	   *entries = readTimeLineHistory(timeline);
	int			n = list_length(entries);
	int			skip = Max(n - TIMELINES_MAX, 0);

	/* (newest first) */
	if (timeline > 1 && n == 1)
		return false;
	to->n = n - skip;
	for (int i = 0; i < to->n; i++)
	{
		TimeLineHistoryEntry *entry = list_nth(entries, n - 1 - skip - i);

		to->at[i].id = entry->tli;
		to->at[i].end = entry->end;
	}
	return true;
}

/*
 * Has this standby replayed more of a timeline than the one had that it streams now?
 * The server sees that when it changes over, but not when it starts with such WAL in
 * the segment in which the new timeline branched off: it replays that, and goes on
 * with the other timeline's.
 */
static bool
has_overrun(TimeLineID received_on)
{
	TimelineHistory history;
	TimeLineID	replayed_on = 0;
	XLogRecPtr	replayed = GetXLogReplayRecPtr(&replayed_on);

	return received_on != 0 && replayed_on != 0 && received_on != replayed_on &&
		read_history(received_on, &history) &&
		timeline_has_left_behind(&history, replayed_on, replayed);
}

/* The timeline that the WAL here ends on; 0 if that is not known yet. */
static TimeLineID
present_timeline(InstanceWork *work, bool in_recovery)
{
	TimeLineID	received_on = 0;
	TimeLineID	replayed_on = 0;
	XLogRecPtr	received;
	XLogRecPtr	replayed;

	work->overran = false;
	if (!in_recovery)
		return GetWALInsertionTimeLine();
	received = GetWalRcvFlushRecPtr(NULL, &received_on);
	replayed = GetXLogReplayRecPtr(&replayed_on);
	work->overran = has_overrun(received_on);
	return received > replayed && !work->overran ? received_on : replayed_on;
}

static bool
is_told_to_follow(void)
{
	struct stat st;

	return stat(STANDBY_SIGNAL_FILE, &st) == 0;
}

static void
look(InstanceWork *work)
{
	Instance	fresh = {0};
	bool		in_recovery = RecoveryInProgress();
	TimeLineID	timeline = present_timeline(work, in_recovery);

	if (timeline == 0 ||
		(work->instance.known && work->instance.in_recovery == in_recovery &&
		 timeline_present(&work->instance.history) == timeline))
		return;
	if (!read_history(timeline, &fresh.history))
		return;
	fresh.known = true;
	fresh.in_recovery = in_recovery;
	fresh.standby = in_recovery && is_told_to_follow();
	snprintf(fresh.sysid, sizeof(fresh.sysid), UINT64_FORMAT,
			 GetSystemIdentifier());
	work->instance = fresh;
	shared_publish(&leasehold_shared->instance, &fresh);
	shared_wake_keeper();
}

/* ------------------------------------------------------------------------
 * Promotion
 * ------------------------------------------------------------------------
 */

/* As pg_promote() does; repeated, for a postmaster that starts may not hear. */
static void
promote(InstanceWork *work, ClockTime now)
{
	FILE	   *file;

	if (work->orders.promote_under == 0 || !RecoveryInProgress())
	{
		work->promote_at = 0;
		return;
	}
	if (now < work->promote_at)
		return;
	if (work->promote_at == 0)
		ereport(LOG,
				(errmsg("leasehold: promoting this standby"),
				 errdetail("The epoch is " INT64_FORMAT ".",
						   work->orders.promote_under)));
	work->promote_at = now + PROMOTE_AGAIN;
	file = AllocateFile(PROMOTE_SIGNAL_FILE, "w");
	if (file == NULL || FreeFile(file) != 0)
	{
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("leasehold: could not write file \"%s\": %m",
						PROMOTE_SIGNAL_FILE)));
		return;
	}
	if (kill(PostmasterPid, SIGUSR1) != 0)
		ereport(LOG, (errmsg("leasehold: could not signal the postmaster: %m")));
}

/* ------------------------------------------------------------------------
 * The flush before a hand-over
 * ------------------------------------------------------------------------
 */

/*
 * Where the last record ends.  At the end of a page the next one is to be written
 * behind the next page's header, and up to there nothing can be flushed.
 */
static XLogRecPtr
end_of_last_record(void)
{
	XLogRecPtr	end = GetXLogInsertRecPtr();
	Size		header = XLogSegmentOffset(end, wal_segment_size) < XLOG_BLCKSZ ?
		SizeOfXLogLongPHD : SizeOfXLogShortPHD;

	return end % XLOG_BLCKSZ == header ? end - header : end;
}

static void
flush_if_asked(void)
{
	LeaseholdShared *shared = leasehold_shared;
	uint64		asked = pg_atomic_read_u64(&shared->flush_asked);
	XLogRecPtr	end;

	if (asked == pg_atomic_read_u64(&shared->flush_done) || RecoveryInProgress())
		return;
	end = end_of_last_record();
	XLogFlush(end);
	pg_atomic_write_u64(&shared->flushed_to, end);
	pg_write_barrier();
	pg_atomic_write_u64(&shared->flush_done, asked);
	shared_wake_keeper();
}

/* ------------------------------------------------------------------------
 * A primary without its lease
 * ------------------------------------------------------------------------
 */

/*
 * Nobody is to follow a timeline that may be dead.  A base backup goes on until
 * it is known that it is.
 */
static void
end_walsenders(bool all)
{
	for (int i = 0; i < max_wal_senders; i++)
	{
		WalSnd	   *sender = &WalSndCtl->walsnds[i];
		WalSndState state;
		pid_t		pid;

		SpinLockAcquire(&sender->mutex);
		pid = sender->pid;
		state = sender->state;
		SpinLockRelease(&sender->mutex);
		if (pid != 0 && (all || state == WALSNDSTATE_CATCHUP ||
						 state == WALSNDSTATE_STREAMING))
			(void) kill(pid, SIGTERM);
	}
}

static char **
rejoin_environment(const InstanceOrders *orders)
{
	int			n = 0;
	int			to = 0;
	char	  **env;

	while (environ[n] != NULL)
		n++;
	env = palloc(sizeof(char *) * (n + 5));
	for (int i = 0; i < n; i++)
		if (strncmp(environ[i], "LEASEHOLD_", 10) != 0)
			env[to++] = environ[i];
	env[to++] = psprintf("LEASEHOLD_DATA=%s", DataDir);
	env[to++] = psprintf("LEASEHOLD_NODE=%s", settings_node_name());
	env[to++] = psprintf("LEASEHOLD_LEASE=%s", settings_lease());
	env[to++] = psprintf("LEASEHOLD_HOLDER=%s", orders->leader);
	env[to] = NULL;
	return env;
}

static void
run_rejoin_command(InstanceWork *work)
{
	int			error;

	if (setting_rejoin_command == NULL || setting_rejoin_command[0] == '\0')
	{
		ereport(LOG,
				(errmsg("leasehold: leasehold.on_superseded is \"rejoin\", but leasehold.rejoin_command is empty")));
		return;
	}
	ereport(LOG, (errmsg("leasehold: running the rejoin command")));
	error = spawn_shell(setting_rejoin_command,
						rejoin_environment(&work->orders), &work->rejoin_pid);
	if (error == 0)
		return;
	work->rejoin_pid = 0;
	errno = error;
	ereport(LOG, (errmsg("leasehold: could not run the rejoin command: %m")));
}

static void
reap_rejoin_command(InstanceWork *work)
{
	int			status;
	pid_t		pid;

	if (work->rejoin_pid == 0)
		return;
	pid = waitpid(work->rejoin_pid, &status, WNOHANG);
	if (pid == 0 || (pid < 0 && errno == EINTR))
		return;
	work->rejoin_pid = 0;
	if (pid > 0 && status != 0)
		ereport(LOG,
				(errmsg("leasehold: the rejoin command failed"),
				 errdetail_internal("%s", wait_result_to_str(status))));
}

/*
 * Once per loss of the lease, and only when somebody writes: before that there
 * is nobody to follow.
 */
static void
act_on_superseded(InstanceWork *work)
{
	const InstanceOrders *orders = &work->orders;

	if (orders->leader[0] == '\0' || work->acted_on == orders->superseded_by ||
		setting_on_superseded == ON_SUPERSEDED_STAY)
		return;
	work->acted_on = orders->superseded_by;
	if (setting_on_superseded == ON_SUPERSEDED_REJOIN)
		run_rejoin_command(work);
	else
	{
		ereport(LOG,
				(errmsg("leasehold: shutting the server down, since node \"%s\" is the primary now",
						orders->leader)));
		(void) kill(PostmasterPid, SIGINT);
	}
}

static void
follow_superseded(InstanceWork *work, ClockTime now)
{
	if (fence_feeds_standbys())
	{
		work->turn_away_at = 0;
		return;
	}
	if (now >= work->turn_away_at)
	{
		end_walsenders(work->orders.superseded);
		work->turn_away_at = now + TURN_AWAY;
	}
	if (work->orders.superseded)
		act_on_superseded(work);
}

/*
 * What it would replay from now on belongs to data that it does not have.  A restart
 * would begin at the last restartpoint, and come here again.
 */
static void
stop_replay(InstanceWork *work)
{
	if (GetRecoveryPauseState() != RECOVERY_NOT_PAUSED)
		return;
	SetRecoveryPause(true);
	WakeupRecovery();
	ereport(LOG,
			(errmsg("leasehold: this standby has replayed WAL that node \"%s\" never had",
					work->orders.leader),
			 errdetail("It is beyond the point where the timeline that it streams branched off. Replay is paused."),
			 errhint("leasehold-rejoin tells what it is, and brings it back.")));
}

/*
 * A standby that received more from the last primary than the new one had can
 * not follow it: it does not stream, and does not come by the new timeline.
 */
static void
follow_astray(InstanceWork *work, ClockTime now)
{
	const InstanceOrders *orders = &work->orders;
	const Instance *instance = &work->instance;

	if (!instance->known || !instance->standby || orders->leader[0] == '\0' ||
		orders->leader_timeline == 0 || (WalRcvStreaming() && !work->overran) ||
		timeline_contains(&instance->history, (uint32) orders->leader_timeline,
						  orders->leader_begin))
	{
		work->astray_since = 0;
		return;
	}
	if (work->overran)
		stop_replay(work);
	if (work->astray_since == 0)
		work->astray_since = now;
	if (now - work->astray_since < ASTRAY_PATIENCE ||
		work->acted_on == orders->leader_epoch)
		return;
	work->acted_on = orders->leader_epoch;
	ereport(LOG,
			(errmsg("leasehold: this standby cannot follow node \"%s\"",
					orders->leader),
			 errdetail("It has not come by timeline %d for some time; it may have received what the new primary never had.",
					   orders->leader_timeline),
			 errhint("leasehold-rejoin tells, and brings it back.")));
	if (setting_on_superseded == ON_SUPERSEDED_REJOIN)
		run_rejoin_command(work);
}

/* ------------------------------------------------------------------------
 * Errands: what needs a database session or may raise an error
 * ------------------------------------------------------------------------
 */

static void
start_errand(InstanceWork *work, ClockTime now)
{
	work->errand = workers_begin("errand", "leasehold_errand_main",
								 BgWorkerStart_ConsistentState, (Datum) 0, "");
	if (work->errand == NULL)
	{
		ereport(LOG,
				(errmsg("leasehold: the server has no free worker process"),
				 errdetail("Replication slots are not kept, and no new primary is followed."),
				 errhint("Raise max_worker_processes.")));
		work->errand_at = now + 30 * CLOCK_S;
	}
	else
		work->errand_at = now + ERRAND_POLL;
}

static void
run_errands(InstanceWork *work, ClockTime now)
{
	pid_t		pid;

	/* what was ordered since does not wait */
	if (work->errand == NULL &&
		memcmp(&work->errand_for, &work->orders, sizeof(work->orders)) != 0)
		work->errand_at = now;
	if (now < work->errand_at)
		return;
	if (work->errand == NULL)
		work->errand_for = work->orders;
	if (work->errand == NULL)
	{
		if (errand_is_due(&work->orders, &work->instance))
			start_errand(work, now);
		else
			work->errand_at = now + CLOCK_S;
	}
	else if (GetBackgroundWorkerPid(work->errand, &pid) == BGWH_STOPPED)
	{
		pfree(work->errand);
		work->errand = NULL;
		work->errand_at = now + ERRAND_PAUSE;
	}
	else
		work->errand_at = now + ERRAND_POLL;
}

void
instance_step(InstanceWork *work, ClockTime now)
{
	look(work);
	flush_if_asked();
	shared_read(&leasehold_shared->orders, &work->orders);
	promote(work, now);
	follow_superseded(work, now);
	follow_astray(work, now);
	reap_rejoin_command(work);
	if (work->orders.pinned)
		run_errands(work, now);
}

ClockTime
instance_due(const InstanceWork *work, ClockTime now)
{
	ClockTime	due = CLOCK_NEVER;

	if (!work->instance.known || work->orders.promote_under != 0)
		due = now + LOOK_RECOVERING;
	else if (work->instance.in_recovery)
		due = now + LOOK_STANDBY;
	if (work->turn_away_at != 0)
		due = clock_min(due, clock_max(now, work->turn_away_at));
	else if (work->orders.pinned)
	{
		ClockTime	deadline = (ClockTime)
			pg_atomic_read_u64(&leasehold_shared->fence.instance.deadline);

		if (deadline > now)
			due = clock_min(due, deadline);
	}
	if (work->orders.pinned)
		due = clock_min(due, clock_max(now, work->errand_at));
	return due;
}
