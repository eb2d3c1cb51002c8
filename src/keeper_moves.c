/*
 * keeper_moves.c
 *		How a lease of tables changes hands on purpose.
 *
 * A hand-over begins at its target: it gets ready (opening.h) while the holder
 * goes on writing, and says so in the row.  Then the holder closes its fence for
 * this lease alone, waits for the commits that are past their check, has all WAL
 * flushed, and releases the row for the target with the position that it came
 * to.  The target takes it, waits until all up to there is applied, and opens.
 */
#include "postgres.h"

#include "keeper_tables.h"
#include "lease_rules.h"
#include "opening.h"

#define PREPARE_MAX		(10 * CLOCK_S)	/* for the target to get ready */
#define READY_AGAIN		(100 * CLOCK_MS)
#define FAILBACK_CALM	(10 * CLOCK_S)
#define FAILBACK_AGAIN	(60 * CLOCK_S)
#define OPENING_MIN		(5 * CLOCK_S)	/* to apply what was handed over */

const char *
keeper_moves_release_reason(const TableLease *lease)
{
	switch (lease->drain_why)
	{
		case DRAIN_RELEASE:
			return "released by request";
		case DRAIN_HANDOVER:
			return "switchover";
		case DRAIN_NOT_PROMOTED:
			return "the target has not applied all in time";
		case DRAIN_SHUTDOWN:
			return "clean shutdown";
		case DRAIN_ORPHANED:
			return "the postmaster died";
		case DRAIN_UNHEALTHY:
			return "the instance failed its health check";
		default:
			return "expired, or lost a race";
	}
}

const char *
keeper_moves_acquire_reason(const TableLease *lease,
							const LeaseRequest *request)
{
	if (request->reclaim)
		return "reclaimed by the same node";
	if (lease->handed)
		return "handed over";
	if (request->from[0] == '\0')
		return lease->acquire_until != 0 ? "acquired by request" : "it was free";
	return "the holder fell silent";
}

/* ------------------------------------------------------------------------
 * Giving it up
 * ------------------------------------------------------------------------
 */

void
keeper_moves_begin_drain(TableLease *lease, DrainWhy why,
						 const char *reserve_for, ClockTime limit,
						 ClockTime now)
{
	/* one that is under way already is not undone by this one's end */
	if (lease->state.phase == LEASE_DRAINING)
	{
		lease->drain_why = why;
		return;
	}
	if (!lease_begin_drain(&lease->state, reserve_for, now))
		return;
	lease->drain_why = why;
	lease->drain_until = now + limit;
	lease->flush_asked = 0;
	lease->due = true;
	pg_atomic_write_u32(&leasehold_shared->fence.draining, 1);
	keeper_tables_publish_fence(lease); /* a full barrier before the flags are read */
}

/* Has all that was written reached the disk, so that it can be sent on? */
static bool
is_flushed(const Keeper *keeper, TableLease *lease)
{
	LeaseholdShared *shared = leasehold_shared;

	if (keeper->orphaned || lease->drain_why == DRAIN_UNHEALTHY ||
		lease->opened_epoch != lease->state.epoch)
		return true;
	if (lease->flush_asked == 0)
	{
		lease->flush_asked = pg_atomic_add_fetch_u64(&shared->flush_asked, 1);
		shared_wake_steward();
		return false;
	}
	if (pg_atomic_read_u64(&shared->flush_done) < lease->flush_asked)
		return false;
	pg_read_barrier();
	lease->state.lsn = pg_atomic_read_u64(&shared->flushed_to);
	return true;
}

static void
answer(Keeper *keeper, TableLease *lease, int64 seq, const char *why)
{
	strlcpy(lease->answer, why, sizeof(lease->answer));
	lease->answer_seq = seq;
	lease->answer_due = (uint16) ((1 << keeper->n) - 1);
}

static void
undo_drain(Keeper *keeper, TableLease *lease, const char *why, ClockTime now)
{
	ereport(LOG,
			(errmsg("leasehold: lease \"%s\" is kept, because %s", lease->name, why)));
	if (lease->drain_why == DRAIN_HANDOVER)
		answer(keeper, lease, lease->handled_seq, why);
	lease->state.lsn = 0;
	lease_undo_drain(&lease->state, now);
}

bool
keeper_moves_keeps_row(const TableLease *lease)
{
	return lease->state.frozen ||
		(lease->drain_why == DRAIN_SHUTDOWN &&
		 setting_on_shutdown == ON_SHUTDOWN_KEEP);
}

static void
end_drain(Keeper *keeper, TableLease *lease, bool drained, ClockTime now)
{
	bool		optional = lease->drain_why == DRAIN_HANDOVER ||
		lease->drain_why == DRAIN_RELEASE;

	if (optional && !drained)
		undo_drain(keeper, lease, "running commits did not end in time", now);
	else if (optional && lease->state.frozen)
		undo_drain(keeper, lease, "it is paused", now);
	else if (!keeper_moves_keeps_row(lease))
	{
		/* how far this epoch has come is told only if it was looked */
		if (!drained || lease->flush_asked == 0)
			lease->state.lsn = 0;
		lease_drained(&lease->state, now);
	}
	else if (!keeper->ending)
		lease_close(&lease->state, now);
	/* else it is kept for the next run, and this one ends */
}

static bool
is_withdrawn(const TableLease *lease)
{
	const LeaseRow *request = lease_request(&lease->state);

	return lease->drain_why == DRAIN_HANDOVER && request != NULL &&
		strcmp(request->handover_to, lease->state.reserve_for) != 0;
}

void
keeper_moves_follow_drain(Keeper *keeper, TableLease *lease, ClockTime now)
{
	if (lease->state.phase == LEASE_DRAINING)
	{
		bool		drained = keeper_is_drained(FENCE_BIT_SLOT(lease->slot)) &&
			is_flushed(keeper, lease);

		if (is_withdrawn(lease))
			undo_drain(keeper, lease, "the hand-over was withdrawn", now);
		else if (drained || now >= lease->drain_until)
			end_drain(keeper, lease, drained, now);
	}
	if (lease->state.phase == LEASE_HOLDER)
		lease->drain_why = DRAIN_NONE;
}

/* ------------------------------------------------------------------------
 * Requests
 * ------------------------------------------------------------------------
 */

static bool
is_alive(const Keeper *keeper, const char *name)
{
	for (int k = 0; k < keeper->nnodes; k++)
		if (strcmp(keeper->node[k].name, name) == 0)
			return keeper->node[k].alive;
	return false;
}

static const char *
address_of(const Keeper *keeper, const char *name)
{
	for (int k = 0; k < keeper->nnodes; k++)
		if (strcmp(keeper->node[k].name, name) == 0)
			return keeper->node[k].advertise;
	return "";
}

/* One member that has heard of it will do. */
static bool
is_target_ready(const LeaseState *state, int64 seq)
{
	for (int i = 0; i < state->nmembers; i++)
	{
		const LeaseMember *member = &state->member[i];

		if (rule_counts(member) && member->seen && member->row.present &&
			member->row.request_seq == seq && member->row.ready_seq == seq)
			return true;
	}
	return false;
}

/* The holder: once the target is ready, or will not be. */
static void
serve_handover(Keeper *keeper, TableLease *lease, const LeaseRow *request,
			   ClockTime now)
{
	int64		seq = request->request_seq;
	bool		to_us = strcmp(request->handover_to, keeper->self.name) == 0;
	bool		paused = lease->state.frozen || request->pause_wanted;
	bool		ready = is_target_ready(&lease->state, seq);

	if (lease->waiting_seq != seq)
	{
		lease->waiting_seq = seq;
		lease->waiting_since = now;
	}
	if (!to_us && !paused && !ready &&
		now < lease->waiting_since + PREPARE_MAX)
		return;
	lease->handled_seq = seq;
	if (to_us)
		answer(keeper, lease, seq, STORE_ANSWER_HELD);
	else if (paused)
		answer(keeper, lease, seq, "the lease is paused");
	else if (ready)
		keeper_moves_begin_drain(lease, DRAIN_HANDOVER, request->handover_to,
								 clock_min(DRAIN_MAX, clock_ms(lease->state.ttl_ms) / 2),
								 now);
	else if (!is_alive(keeper, request->handover_to))
		answer(keeper, lease, seq, STORE_ANSWER_NOT_ALIVE);
	else
		answer(keeper, lease, seq, "the target node did not get ready in time");
}

/*
 * Whom to tell that this node is ready: all, then those that heard of the request
 * later than of that.  Those who know it may be gone before the holder has asked.
 */
static void
tell_ready(Keeper *keeper, TableLease *lease, int64 seq, ClockTime now)
{
	const LeaseState *state = &lease->state;

	if (lease->ready_seq == seq && now < lease->ready_told_at + READY_AGAIN)
		return;
	for (int i = 0; i < keeper->n; i++)
	{
		const LeaseMember *member = &state->member[i];

		if (lease->ready_seq != seq ||
			(rule_counts(member) && member->seen && member->row.present &&
			 member->row.request_seq == seq && member->row.ready_seq < seq))
			lease->ready_due |= (uint16) (1 << i);
	}
	lease->ready_seq = seq;
	lease->ready_told_at = now;
}

/* The target: get ready, and say so. */
static void
prepare(Keeper *keeper, TableLease *lease, const LeaseRow *request,
		ClockTime now)
{
	const LeaseRow *best = lease_best_row(&lease->state);
	int64		seq = request->request_seq;
	char		why[OPENING_WHY_LEN] = "";

	if (lease->prepared_seq != seq)
	{
		/* what the rest of this node is to be by then, it has to be now */
		if (!lease->state.able)
			return;
		lease->prepared_seq = seq;
		opening_prepare(lease->slot, seq, best->holder,
						address_of(keeper, best->holder));
	}
	if (lease->answer_seq == seq)
		return;
	if (lease->ready_seq == seq)
	{
		tell_ready(keeper, lease, seq, now);
		return;
	}
	switch (opening_prepared(lease->slot, seq, why))
	{
		case OPENING_READY:
			tell_ready(keeper, lease, seq, now);
			break;
		case OPENING_FAILED:
			answer(keeper, lease, seq, why);
			break;
		case OPENING_NONE:
			lease->prepared_seq = 0;	/* forgotten: ask again */
			break;
		case OPENING_PENDING:
			break;
	}
}

void
keeper_moves_follow_requests(Keeper *keeper, TableLease *lease, ClockTime now)
{
	LeaseState *state = &lease->state;
	const LeaseRow *request = lease_request(state);
	bool		to_us;

	if (request == NULL)
		return;
	to_us = strcmp(request->handover_to, keeper->self.name) == 0 ||
		strcmp(request->reserved_for, keeper->self.name) == 0;
	/* whoever is about to get it looks as often as it can */
	state->look_setting_ms = to_us && state->phase == LEASE_FOLLOWER ?
		5 : keeper_tables_look_ms(keeper, lease);
	/* one that was withdrawn is not waited for any more */
	if ((!to_us || state->phase != LEASE_FOLLOWER) &&
		lease->prepared_seq > lease->ready_seq)
		lease->prepared_seq = 0;
	if (request->handover_to[0] == '\0')
		lease->waiting_seq = 0;
	else if (state->phase == LEASE_HOLDER &&
			 request->request_seq > lease->handled_seq)
		serve_handover(keeper, lease, request, now);
	else if (state->phase == LEASE_FOLLOWER && to_us)
		prepare(keeper, lease, request, now);
}

/*
 * The lease is somebody else's, and this node is its first choice: ask for it as
 * leasehold.switchover() would, when all has been well for a while.
 */
void
keeper_moves_follow_failback(Keeper *keeper, TableLease *lease, ClockTime now)
{
	const LeaseState *state = &lease->state;
	const LeaseRow *request = lease_request(state);
	const LeaseRow *best = lease_best_row(state);

	if (!setting_failback || !lease->first_choice || !state->able ||
		state->phase != LEASE_FOLLOWER || request == NULL ||
		best->holder[0] == '\0' || best->frozen || request->pause_wanted ||
		strcmp(best->holder, keeper->self.name) == 0)
	{
		lease->failback_at = 0;
		return;
	}
	if (lease->failback_at == 0)
		lease->failback_at = now + clock_max(FAILBACK_CALM,
											 2 * clock_ms(state->ttl_ms));
	if (now < lease->failback_at || request->handover_to[0] != '\0')
		return;
	lease->failback_at = now + FAILBACK_AGAIN;
	lease->failback_seq = request->request_seq + 1;
	lease->failback_due = (uint16) ((1 << keeper->n) - 1);
}

void
keeper_moves_serve_box(Keeper *keeper, const KeeperBox *box, ClockTime now)
{
	int			k = keeper_tables_find(keeper->tables, box->lease);
	TableLease *lease;

	if (k < 0)
		return;
	lease = keeper->tables->lease[k];
	if (box->ask == ASK_ACQUIRE)
	{
		lease->acquire_until = box->until;
		lease->state.abstain_until = 0;
	}
	else if (box->ask == ASK_RELEASE)
	{
		lease->state.abstain_until = now + clock_ms(lease->state.ttl_ms);
		keeper_moves_begin_drain(lease, DRAIN_RELEASE, "", DRAIN_MAX, now);
	}
	lease->due = true;
	for (int i = 0; i < keeper->n; i++)
		lease->state.member[i].look_now = true;
}

/* ------------------------------------------------------------------------
 * Taking it
 * ------------------------------------------------------------------------
 */

/*
 * While it races for it, and when it has won: who wrote its tables last, and how far
 * did that come?  Whoever has held it since without opening it leaves in the row what
 * it found there.  A position stands there only if the writer itself let go.
 *
 * What it knew when the race began does not do: that may have been old, and another
 * node may have held it, written, and let go before this one won.  To acquire it
 * leaves in the row what it says of that, but not for whom it was reserved.
 *
 * Whoever holds it opens it before the row says so: if the store did not hear of it
 * any more, nobody knows whether it has written.
 */
void
keeper_moves_note_source(Keeper *keeper, TableLease *lease)
{
	const LeaseState *state = &lease->state;
	const LeaseWrote *last = NULL;
	const LeaseRow *since = NULL;
	bool		reserved = false;
	bool		won = false;

	for (int i = 0; i < state->nmembers; i++)
	{
		const LeaseMember *member = &state->member[i];
		const LeaseWrote *wrote = &member->row.wrote;

		if (!rule_counts(member) || !member->seen || !member->row.present)
			continue;
		won |= rule_row_is_current(state, &member->row);
		reserved |= member->row.holder[0] == '\0' &&
			strcmp(member->row.reserved_for, keeper->self.name) == 0;
		if (last == NULL || wrote->epoch > last->epoch ||
			(wrote->epoch == last->epoch && wrote->lsn > last->lsn))
			last = wrote;
		if (member->row.holder[0] != '\0' &&
			strcmp(member->row.holder, keeper->self.name) != 0 &&
			(since == NULL || member->row.epoch > since->epoch))
			since = &member->row;
	}
	if (!won)
	{
		lease->handed = reserved;
		strlcpy(lease->doubt, since != NULL && since->epoch > last->epoch ?
				since->holder : "", sizeof(lease->doubt));
	}
	strlcpy(lease->from, last != NULL ? last->sync_set : "", sizeof(lease->from));
	lease->from_lsn = last != NULL ? last->lsn : 0;
}

static void
give_back(Keeper *keeper, TableLease *lease, const char *why, ClockTime now)
{
	ereport(LOG,
			(errmsg("leasehold: handing lease \"%s\" back to node \"%s\", because %s",
					lease->name, lease->from, why)));
	opening_forget(lease->slot);
	lease->state.abstain_until = now + clock_ms(lease->state.ttl_ms);
	keeper_moves_begin_drain(lease, DRAIN_NOT_PROMOTED, lease->from, 0, now);
}

/*
 * From now on it may be used.  The row says so with the next renewal, at once:
 * whoever asked for the hand-over waits for that.  How far this epoch comes, only
 * its release says.
 */
static void
open_lease(Keeper *keeper, TableLease *lease)
{
	LeaseState *state = &lease->state;

	lease->opened_epoch = state->epoch;
	state->told_epoch = state->epoch;
	state->writable = true;
	strlcpy(state->sync_set, keeper->self.name, sizeof(state->sync_set));
	state->lsn = 0;
	for (int i = 0; i < keeper->n; i++)
		state->member[i].renewed_at = 0;
	opening_forget(lease->slot);
}

/* What this node wrote itself is here; what the one in doubt wrote is not. */
static void
ask_to_open(const Keeper *keeper, const TableLease *lease)
{
	bool		by_doubt = lease->doubt[0] != '\0' &&
		(lease->from[0] == '\0' || strcmp(lease->from, keeper->self.name) == 0);
	const char *from = by_doubt ? lease->doubt : lease->from;

	opening_begin(lease->slot, lease->state.epoch, from,
				  address_of(keeper, from), by_doubt ? 0 : lease->from_lsn,
				  (lease->handed ? OPENING_HANDED : 0) |
				  (lease->doubt[0] != '\0' ? OPENING_DOUBT : 0));
}

static void
begin_opening(const Keeper *keeper, TableLease *lease, ClockTime now)
{
	lease->opening_epoch = lease->state.epoch;
	lease->opening_until = now + clock_max(OPENING_MIN, clock_ms(lease->state.ttl_ms));
	ask_to_open(keeper, lease);
}

/*
 * What was handed over can be handed back; what fell to this node is used.  If not
 * all that was written there has come, it is opened as if its writer had fallen
 * silent: what is late is not to meet what is written here.
 */
static void
opening_failed(Keeper *keeper, TableLease *lease, const char *why,
			   ClockTime now)
{
	if (lease->handed && lease->from[0] != '\0' && !keeper->ending)
	{
		give_back(keeper, lease, why, now);
		return;
	}
	ereport(LOG,
			(errmsg("leasehold: lease \"%s\" is used although %s",
					lease->name, why)));
	if (lease->from_lsn == 0)
	{
		open_lease(keeper, lease);
		return;
	}
	lease->from_lsn = 0;
	opening_forget(lease->slot);
	begin_opening(keeper, lease, now);
}

void
keeper_moves_follow_opening(Keeper *keeper, TableLease *lease, ClockTime now)
{
	const LeaseState *state = &lease->state;
	char		why[OPENING_WHY_LEN] = "";

	if (state->phase != LEASE_HOLDER || lease->opened_epoch == state->epoch)
		return;
	if (lease->opening_epoch != state->epoch)
		begin_opening(keeper, lease, now);
	switch (opening_state(lease->slot, state->epoch, why))
	{
		case OPENING_READY:
			open_lease(keeper, lease);
			break;
		case OPENING_FAILED:
			opening_failed(keeper, lease, why, now);
			break;
		case OPENING_NONE:		/* forgotten: ask again */
			ask_to_open(keeper, lease);
			/* FALLTHROUGH */
		case OPENING_PENDING:
			if (now >= lease->opening_until)
				opening_failed(keeper, lease,
							   "what was written before has not been applied in time",
							   now);
			break;
	}
}
