/*
 * keeper_tables.c
 *		The keeper's leases of tables: which there are, and how time passes for
 *		them.
 *
 * Must never block.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#include "keeper_tables.h"
#include "lease_rules.h"
#include "opening.h"

#define POLL	CLOCK_MS		/* while one changes hands */
#define WAITING	(10 * CLOCK_MS)	/* while it waits to be sent with others */

/* ------------------------------------------------------------------------
 * Which there are
 * ------------------------------------------------------------------------
 */

KeeperTables *
keeper_tables_make(void)
{
	KeeperTables *tables = palloc0(sizeof(KeeperTables));

	tables->context = AllocSetContextCreate(CurrentMemoryContext,
											"leasehold tables",
											ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < LEASE_MEMBERS_MAX; i++)
		tables->memberships[i] = tables->protections[i] = tables->reached[i] = -1;
	return tables;
}

bool
keeper_tables_used(const Keeper *keeper)
{
	const KeeperTables *tables = keeper->tables;

	return tables->nparts > 0 || tables->nentries > 0 || tables->unknown;
}

bool
keeper_tables_exist(const Keeper *keeper)
{
	for (int i = 0; i < keeper->n; i++)
		if (keeper->tables->memberships_wanted[i] > 0 ||
			keeper->tables->protections_wanted[i] > 0)
			return true;
	return keeper_tables_used(keeper);
}

/* Where a name stands, or would. */
static int
find_place(const KeeperTables *tables, const char *name, bool *found)
{
	int			low = 0;
	int			high = tables->n;

	*found = false;
	while (low < high)
	{
		int			middle = (low + high) / 2;
		int			order = strcmp(tables->lease[middle]->name, name);

		if (order == 0)
		{
			*found = true;
			return middle;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

int
keeper_tables_find(const KeeperTables *tables, const char *name)
{
	bool		found;
	int			at = find_place(tables, name, &found);

	return found ? at : -1;
}

static void
take_intervals(const Keeper *keeper, LeaseState *state)
{
	state->margin_setting_ms = keeper->margin_ms;
	state->renew_setting_ms = keeper->renew_ms;
	state->look_setting_ms = keeper->look_ms;
}

void
keeper_tables_take_intervals(Keeper *keeper)
{
	for (int k = 0; k < keeper->tables->n; k++)
		take_intervals(keeper, &keeper->tables->lease[k]->state);
}

/*
 * A keeper that was started anew within one run of the postmaster goes on with
 * what its predecessor left in the slot.
 */
static void
resume(TableLease *lease)
{
	TableSlot  *slot = &leasehold_tables->slot[lease->slot];
	LeaseState *state = &lease->state;

	lease_resume_epoch(state, (int64) pg_atomic_read_u64(&slot->lease.epoch),
					   (int64) pg_atomic_read_u64(&slot->closed_epoch),
					   (int64) pg_atomic_read_u64(&slot->highest_epoch),
					   (int64) pg_atomic_read_u64(&slot->version),
					   (ClockTime) pg_atomic_read_u64(&slot->lease.deadline));
	/* an epoch gets there only when it is opened, and then it is this node's rows */
	if (state->phase == LEASE_HOLDER)
	{
		lease->opened_epoch = lease->opening_epoch = state->epoch;
		strlcpy(state->sync_set, state->node, sizeof(state->sync_set));
	}
}

static TableLease *
make_lease(Keeper *keeper, const char *name, int slot)
{
	TableLease *lease = MemoryContextAllocZero(keeper->tables->context,
											   sizeof(TableLease));
	LeaseState *state = &lease->state;
	uint64		seed;

	if (!pg_strong_random(&seed, sizeof(seed)))
		seed = (uint64) clock_now();
	strlcpy(lease->name, name, sizeof(lease->name));
	lease->slot = slot;
	lease_init(state, settings_node_name(), keeper->lease.incarnation,
			   keeper->lease.previous, seed);
	/* R1: nothing above it was ever used */
	state->highest_epoch = keeper->persisted.table_epoch;
	resume(lease);
	take_intervals(keeper, state);
	lease_set_members(state, keeper->n, keeper->roster.n);
	for (int i = 0; i < keeper->n; i++)
		lease_set_reachable(state, i, keeper->lease.member[i].reachable,
							keeper->lease.member[i].counted);
	lease->told_state = NODE_FOLLOWER;
	lease->due = true;
	/* until a majority says otherwise */
	if (state->phase == LEASE_HOLDER)
	{
		lease->takes_part = true;
		keeper->tables->nparts++;
	}
	return lease;
}

/* NULL, and a line in the log, if there is no room for it. */
static TableLease *
add_lease(Keeper *keeper, const char *name)
{
	KeeperTables *tables = keeper->tables;
	bool		found;
	int			at = find_place(tables, name, &found);
	int			slot;

	if (found)
		return tables->lease[at];
	slot = tables_give_slot(name);
	if (slot == TABLES_NO_SLOT)
	{
		ereport(LOG,
				(errmsg("leasehold: there is no room for lease \"%s\"", name),
				 errhint("Raise leasehold.leases_max.")));
		return NULL;
	}
	if (tables->n == tables->room)
	{
		tables->room = tables->room == 0 ? 16 : 2 * tables->room;
		tables->lease = tables->lease == NULL ?
			MemoryContextAlloc(tables->context, sizeof(TableLease *) * tables->room) :
			repalloc(tables->lease, sizeof(TableLease *) * tables->room);
	}
	/* batches under way know leases by their places */
	for (int i = 0; i < LEASE_MEMBERS_MAX; i++)
		for (int b = 0; b < tables->batch[i].n; b++)
			if (tables->batch[i].lease[b] >= at)
				tables->batch[i].lease[b]++;
	memmove(&tables->lease[at + 1], &tables->lease[at],
			sizeof(TableLease *) * (tables->n - at));
	tables->lease[at] = make_lease(keeper, name, slot);
	tables->n++;
	tables->list_due = true;
	return tables->lease[at];
}

/* ------------------------------------------------------------------------
 * Who takes part
 * ------------------------------------------------------------------------
 */

static uint16
peer_number(KeeperTables *tables, const char *name)
{
	for (int k = 0; k < tables->npeers; k++)
		if (strcmp(tables->peer[k], name) == 0)
			return (uint16) k;
	if (tables->npeers % 16 == 0)
	{
		Size		size = LEASEHOLD_NAME_LEN * (Size) (tables->npeers + 16);

		tables->peer = tables->peer == NULL ?
			MemoryContextAlloc(tables->context, size) :
			repalloc(tables->peer, size);
	}
	strlcpy(tables->peer[tables->npeers], name, LEASEHOLD_NAME_LEN);
	return (uint16) tables->npeers++;
}

static int
count_bits(uint16 bits)
{
	int			n = 0;

	for (; bits != 0; bits &= bits - 1)
		n++;
	return n;
}

/*
 * A majority has to say so, either way; until then it stays as it was.  To give
 * up a lease because one member has not heard of it yet would be no good.
 */
static void
judge_part(Keeper *keeper, TableLease *lease)
{
	int			majority = lease_majority(&keeper->lease);
	int			yes = count_bits(lease->read_at & lease->part_at);
	int			no = count_bits(lease->read_at & ~lease->part_at);
	bool		before = lease->takes_part;

	if (yes >= majority)
		lease->takes_part = true;
	else if (no >= majority)
		lease->takes_part = false;
	if (before != lease->takes_part)
	{
		keeper->tables->nparts += lease->takes_part ? 1 : -1;
		lease->due = lease->status_due = true;
	}
}

/* The rows come in the order of leases and nodes. */
static void
take_rows(Keeper *keeper, int i, const PGresult *result, int n)
{
	KeeperTables *tables = keeper->tables;

	for (int r = 0; r < n;)
	{
		StoreMembership row;
		TableLease *lease;
		int			end = r;
		int32		mine = 0;

		store_read_membership(result, r, &row);
		lease = add_lease(keeper, row.lease);
		for (; end < n && strcmp(PQgetvalue(result, end, 1), row.lease) == 0; end++)
			if (strcmp(PQgetvalue(result, end, 2), keeper->self.name) == 0)
				mine = (int32) strtol(PQgetvalue(result, end, 3), NULL, 10);
		if (lease != NULL)
		{
			lease->part_at |= (uint16) (1 << i);
			lease->priority = mine;
			lease->first_choice = mine > 0;
			lease->nbetter = 0;
		}
		for (; r < end; r++)
		{
			store_read_membership(result, r, &row);
			if (lease != NULL && row.priority >= mine &&
				strcmp(row.node, keeper->self.name) != 0)
				lease->first_choice = false;
			if (lease != NULL && lease->nbetter < TABLE_BETTER_MAX &&
				election_outranks(row.priority, row.node, mine, keeper->self.name))
				lease->better[lease->nbetter++] = peer_number(tables, row.node);
		}
	}
}

void
keeper_tables_take_memberships(Keeper *keeper, int i, const PGresult *result)
{
	KeeperTables *tables = keeper->tables;
	int64		number;
	int			n = store_read_memberships(result, &number);

	if (n < 0 || keeper->member[i].standing != ROSTER_COUNTED)
		return;
	tables->memberships[i] = number;
	for (int k = 0; k < tables->n; k++)
		tables->lease[k]->part_at &= (uint16) ~(1 << i);
	take_rows(keeper, i, result, n);
	for (int k = 0; k < tables->n; k++)
	{
		tables->lease[k]->read_at |= (uint16) (1 << i);
		tables->lease[k]->due = true;
		judge_part(keeper, tables->lease[k]);
	}
}

/* ------------------------------------------------------------------------
 * The members of the store
 * ------------------------------------------------------------------------
 */

void
keeper_tables_set_members(Keeper *keeper)
{
	KeeperTables *tables = keeper->tables;

	for (int k = 0; k < tables->n; k++)
	{
		lease_set_members(&tables->lease[k]->state, keeper->n, keeper->roster.n);
		tables->lease[k]->read_at = tables->lease[k]->part_at = 0;
		tables->lease[k]->due = true;
	}
	for (int i = 0; i < LEASE_MEMBERS_MAX; i++)
	{
		tables->memberships[i] = tables->protections[i] = -1;
		tables->memberships_wanted[i] = tables->protections_wanted[i] = 0;
		tables->known_told[i] = 0;
		tables->reached[i] = -1;
	}
}

void
keeper_tables_set_reachable(Keeper *keeper, int i, bool reachable, bool counted)
{
	KeeperTables *tables = keeper->tables;
	int			reached = (reachable ? 1 : 0) | (counted ? 2 : 0);

	/* said again and again */
	if (tables->reached[i] == reached)
		return;
	tables->reached[i] = reached;
	for (int k = 0; k < tables->n; k++)
	{
		LeaseMember *member = &tables->lease[k]->state.member[i];

		if (member->reachable == reachable && member->counted == counted)
			continue;
		lease_set_reachable(&tables->lease[k]->state, i, reachable, counted);
		tables->lease[k]->due = true;
	}
}

void
keeper_tables_restart_observation(Keeper *keeper, int i)
{
	KeeperTables *tables = keeper->tables;

	for (int k = 0; k < tables->n; k++)
	{
		lease_restart_observation(&tables->lease[k]->state, i);
		tables->lease[k]->due = true;
	}
	tables->memberships[i] = tables->protections[i] = -1;
	tables->known_told[i] = 0;
}

void
keeper_tables_forgotten(Keeper *keeper, int i)
{
	KeeperTables *tables = keeper->tables;

	for (int k = 0; k < tables->n; k++)
	{
		lease_forgotten(&tables->lease[k]->state, i);
		tables->lease[k]->due = true;
	}
}

void
keeper_tables_look_now(Keeper *keeper, int i)
{
	KeeperTables *tables = keeper->tables;

	for (int k = 0; k < tables->n; k++)
	{
		TableLease *lease = tables->lease[k];

		/* whoever holds it learns of requests; whoever waits for it, all */
		lease->state.member[i].look_now = true;
		lease->state.member[i].retry_at = 0;
		lease->due = true;
	}
}

/* ------------------------------------------------------------------------
 * Time passes
 * ------------------------------------------------------------------------
 */

/* One that has not been heard of yet, or once only, may just be starting. */
static bool
is_dead(const Keeper *keeper, const char *name, ClockTime now)
{
	ClockTime	observation = lease_observation(&keeper->lease,
												keeper->lease.ttl_ms);

	for (int k = 0; k < keeper->nnodes; k++)
		if (strcmp(keeper->node[k].name, name) == 0)
			return !keeper->node[k].alive &&
				now - keeper->node[k].beat_seen >= observation;
	return false;
}

/* Nodes that go before this one, unless they are dead: a step each. */
static ClockTime
stagger_of(const Keeper *keeper, const TableLease *lease, ClockTime now)
{
	const LeaseRow *best = lease_best_row(&lease->state);
	int			n = 0;

	for (int b = 0; b < lease->nbetter; b++)
	{
		const char *name = keeper->tables->peer[lease->better[b]];

		if (best != NULL && strcmp(best->holder, name) == 0)
			continue;			/* it is its silence that frees the lease */
		n += !is_dead(keeper, name, now);
	}
	return n * 2 * lease_look_interval(&lease->state);
}

/* Has it changed hands, or been given up?  Then the history has grown. */
static void
note_moves(KeeperTables *tables, TableLease *lease)
{
	const LeaseRow *best = lease_best_row(&lease->state);
	bool		held = best != NULL && best->holder[0] != '\0';
	int64		epoch = best != NULL ? best->epoch : 0;

	if (lease->seen_epoch != epoch || lease->seen_held != held)
		tables->moves++;
	lease->seen_epoch = epoch;
	lease->seen_held = held;
}

/* One lease's turn. */
static void
turn(Keeper *keeper, TableLease *lease, ClockTime now)
{
	LeaseState *state = &lease->state;
	LeasePhase	before = state->phase;

	if (lease->acquire_until != 0 &&
		(now >= lease->acquire_until || state->phase == LEASE_HOLDER))
		lease->acquire_until = 0;
	state->able = keeper->tables->able && lease->takes_part;
	state->eager = lease->priority > 0 || lease->acquire_until != 0;
	state->stagger = lease->acquire_until != 0 ? 0 :
		stagger_of(keeper, lease, now);
	state->durable_epoch = keeper->persisted.table_epoch;
	state->writable = lease->opened_epoch == state->epoch;
	if (!lease->takes_part && state->phase == LEASE_HOLDER)
		keeper_moves_begin_drain(lease, DRAIN_RELEASE, "", DRAIN_MAX, now);
	lease_tick(state, now);
	keeper_tables_publish_fence(lease);
	if (state->phase == LEASE_ACQUIRING ||
		(before == LEASE_ACQUIRING && state->phase == LEASE_HOLDER))
		keeper_moves_note_source(keeper, lease);
	keeper_moves_follow_requests(keeper, lease, now);
	keeper_moves_follow_failback(keeper, lease, now);
	keeper_moves_follow_drain(keeper, lease, now);
	keeper_moves_follow_opening(keeper, lease, now);
	keeper_tables_publish_fence(lease);
	if (state->phase == LEASE_FOLLOWER && lease->takes_part)
		keeper->tables->epoch_to_persist = Max(keeper->tables->epoch_to_persist,
											   lease_epoch_to_persist(state));
	note_moves(keeper->tables, lease);
	keeper->tables->say_due |= lease->answer_due | lease->ready_due |
		lease->failback_due;
	lease->due = false;
	lease->status_due = true;
	lease->for_disk = state->phase == LEASE_FOLLOWER &&
		state->reason == LEASE_REASON_DISK;
	lease->draining = state->phase == LEASE_DRAINING;
	lease->following = state->phase == LEASE_FOLLOWER && lease->takes_part;
	lease->ttl = clock_ms(state->ttl_ms);
	lease->ahead_max = clock_max(lease_ahead(state, LEASE_OP_RENEW),
								 lease_ahead(state, LEASE_OP_LOOK));
	keeper_tables_set_wakeup(lease, now);
}

/*
 * The more there are, the rarer, down to how often they are renewed: a takeover
 * is later by that much, and the member has no more than 4000 rows a second to
 * show to this node.
 */
int32
keeper_tables_look_ms(const Keeper *keeper, const TableLease *lease)
{
	int32		ttl_ms = lease->state.ttl_ms;
	int32		alone = Min(Max(ttl_ms / 20, 20), 500);

	if (keeper->look_ms > 0)
		return keeper->look_ms;
	return Min(alone + keeper->tables->nfollowing / 4, Max(alone, ttl_ms / 5));
}

/* Whatever waits to be sent need not be turned to for that in every turn. */
void
keeper_tables_set_wakeup(TableLease *lease, ClockTime now)
{
	const LeaseState *state = &lease->state;
	ClockTime	at = lease_wakeup(state, now);
	ClockTime	poll = CLOCK_NEVER;

	if (lease->failback_at > now)
		at = clock_min(at, lease->failback_at);
	if (state->phase == LEASE_DRAINING || lease->waiting_seq > lease->handled_seq ||
		lease->prepared_seq > Max(lease->ready_seq, lease->answer_seq) ||
		(state->phase == LEASE_HOLDER && lease->opened_epoch != state->epoch))
		poll = now + POLL;
	lease->wake_at = clock_min(at, poll);
	lease->turn_at = clock_min(at > now ? at : now + WAITING, poll);
}

static void
count_all(KeeperTables *tables)
{
	tables->ndraining = tables->nfollowing = 0;
	tables->ttl_min = 0;
	for (int k = 0; k < tables->n; k++)
	{
		const TableLease *lease = tables->lease[k];

		tables->ndraining += lease->draining;
		tables->nfollowing += lease->following;
		if (lease->takes_part &&
			(tables->ttl_min == 0 || lease->ttl < tables->ttl_min))
			tables->ttl_min = lease->ttl;
	}
}

void
keeper_tables_turn(Keeper *keeper, bool able, ClockTime now)
{
	KeeperTables *tables = keeper->tables;
	int64		wanted = tables->epoch_to_persist;
	bool		written = tables->durable_epoch != keeper->persisted.table_epoch;
	bool		all;

	tables->durable_epoch = keeper->persisted.table_epoch;
	keeper_protect_turn(keeper);
	able = able && !RecoveryInProgress() && !tables->unknown &&
		keeper_protect_is_current(keeper);
	all = able != tables->able;
	tables->able = able;
	tables->turned_at = now;
	for (int k = 0; k < tables->n; k++)
	{
		TableLease *lease = tables->lease[k];

		if (all || lease->due || now >= lease->turn_at ||
			(written && lease->for_disk))
			turn(keeper, lease, now);
	}
	/* the next turn begins with asking for it */
	if (tables->epoch_to_persist != wanted)
		SetLatch(MyLatch);
	count_all(tables);
	keeper_tables_publish_status(keeper, now);
}

/*
 * What is due and could not be done waits for a member of the store, which wakes
 * the keeper by itself.
 */
ClockTime
keeper_tables_wakeup(const Keeper *keeper, ClockTime now)
{
	const KeeperTables *tables = keeper->tables;
	ClockTime	at = CLOCK_NEVER;

	for (int k = 0; k < tables->n; k++)
		if (tables->lease[k]->wake_at > tables->turned_at)
			at = clock_min(at, clock_max(now, tables->lease[k]->wake_at));
	if (tables->waiting)
		at = clock_min(at, now + 5 * CLOCK_MS);
	return at;
}

/* ------------------------------------------------------------------------
 * The end
 * ------------------------------------------------------------------------
 */

void
keeper_tables_let_go(Keeper *keeper, ClockTime now)
{
	KeeperTables *tables = keeper->tables;

	for (int k = 0; k < tables->n; k++)
		if (tables->lease[k]->state.phase == LEASE_HOLDER)
			keeper_moves_begin_drain(tables->lease[k], DRAIN_UNHEALTHY, "",
									 CLOCK_S / 2, now);
}

void
keeper_tables_begin_end(Keeper *keeper, ClockTime limit, ClockTime now)
{
	KeeperTables *tables = keeper->tables;

	for (int k = 0; k < tables->n; k++)
	{
		TableLease *lease = tables->lease[k];

		if (lease->state.phase == LEASE_ACQUIRING)
			lease_close(&lease->state, now);
		keeper_moves_begin_drain(lease, keeper->orphaned ? DRAIN_ORPHANED :
								 DRAIN_SHUTDOWN, "", limit / 2, now);
		lease->due = true;
	}
}

void
keeper_tables_leave_to_successor(Keeper *keeper, ClockTime now)
{
	KeeperTables *tables = keeper->tables;

	for (int k = 0; k < tables->n; k++)
		if (lease_undo_drain(&tables->lease[k]->state, now))
			keeper_tables_publish_fence(tables->lease[k]);
}

bool
keeper_tables_may_end(const Keeper *keeper)
{
	const KeeperTables *tables = keeper->tables;

	for (int k = 0; k < tables->n; k++)
	{
		const TableLease *lease = tables->lease[k];

		if (lease->state.phase == LEASE_DRAINING && keeper_moves_keeps_row(lease) &&
			keeper_is_drained(FENCE_BIT_SLOT(lease->slot)))
			continue;
		if (lease->state.phase != LEASE_FOLLOWER)
			return false;
	}
	return true;
}

void
keeper_tables_close_fence(void)
{
	int			n = (int) pg_atomic_read_u32(&leasehold_tables->nslots);

	for (int i = 0; i < n; i++)
		pg_atomic_write_u64(&leasehold_tables->slot[i].lease.deadline, 0);
}
