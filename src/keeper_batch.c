/*
 * keeper_batch.c
 *		What the keeper says of its leases of tables to one member of the store.
 *
 * Requests of one kind go together: what has to be given back first, then what
 * can be won, then renewals, then looks.  Renewals and looks that are due soon
 * go with those that are due, so that all fall into one step.
 */
#include "postgres.h"

#include "keeper_tables.h"
#include "lease_rules.h"

#define BATCH_MAX	1000

/* ------------------------------------------------------------------------
 * What goes out
 * ------------------------------------------------------------------------
 */

/* The most urgent kind that any of them has for this member. */
static LeaseOp
choose_op(const KeeperTables *tables, int i, ClockTime now)
{
	static const int rank[] = {
		[LEASE_OP_NONE] = 0, [LEASE_OP_LOOK] = 1, [LEASE_OP_RENEW] = 2,
		[LEASE_OP_ACQUIRE] = 3, [LEASE_OP_RELEASE] = 4
	};
	LeaseOp		best = LEASE_OP_NONE;

	for (int k = 0; k < tables->n; k++)
	{
		const TableLease *lease = tables->lease[k];
		LeaseOp		op;

		if (lease->wake_at > now)
			continue;
		op = lease_wants(&lease->state, i, now);
		if (rank[op] > rank[best])
			best = op;
	}
	return best;
}

/* Take this lease's request along, if it has one of the kind. */
static void
collect(Keeper *keeper, int i, int k, LeaseOp op, ClockTime now,
		StoreBatch *batch)
{
	KeeperTables *tables = keeper->tables;
	TableLease *lease = tables->lease[k];
	LeaseState *state = &lease->state;
	LeaseRequest *request;
	bool		wants;

	/* most of them, by far */
	if (lease->wake_at > now + lease->ahead_max)
		return;
	/* nobody looks at what does not concern this node any more */
	if (op == LEASE_OP_LOOK && !lease->takes_part &&
		state->phase == LEASE_FOLLOWER && lease->wake_at > now)
		return;
	state->ahead = lease_ahead(state, op);
	wants = lease_wants(state, i, now) == op;
	if (wants)
	{
		request = palloc(sizeof(LeaseRequest));
		(void) lease_next(state, i, now, request);
		/* R13: before the message leaves */
		keeper_tables_publish_fence(lease);
		tables->batch[i].lease[batch->n] = k;
		batch->name[batch->n] = lease->name;
		batch->request[batch->n] = request;
		batch->reason[batch->n] = op == LEASE_OP_RELEASE ?
			keeper_moves_release_reason(lease) :
			keeper_moves_acquire_reason(lease, request);
		batch->n++;
	}
	state->ahead = 0;
	if (wants)
		keeper_tables_set_wakeup(lease, now);
}

bool
keeper_batch_next(Keeper *keeper, int i, ClockTime now, ClockTime deadline,
				  bool *sent)
{
	KeeperTables *tables = keeper->tables;
	LeaseOp		op = choose_op(tables, i, now);
	StoreBatch	batch = {0};

	if (op == LEASE_OP_NONE)
		return false;
	batch.op = op;
	batch.name = palloc(sizeof(char *) * tables->n);
	batch.request = palloc(sizeof(LeaseRequest *) * tables->n);
	batch.reason = palloc(sizeof(char *) * tables->n);
	if (tables->batch[i].lease != NULL)
		pfree(tables->batch[i].lease);
	tables->batch[i].lease = MemoryContextAlloc(tables->context,
												sizeof(int) * tables->n);
	for (int k = 0; k < tables->n && batch.n < BATCH_MAX; k++)
		collect(keeper, i, k, op, now, &batch);
	tables->batch[i].op = op;
	tables->batch[i].n = batch.n;
	*sent = store_send_batch(&keeper->member[i].link, &keeper->self,
							 keeper->roster.generation, &batch, deadline);
	return true;
}

/* ------------------------------------------------------------------------
 * What comes back
 * ------------------------------------------------------------------------
 */

/* The place in the batch of the lease of this name; -1: it was not asked for. */
static int
find_in_batch(const KeeperTables *tables, const TableBatch *batch,
			  const char *name)
{
	int			low = 0;
	int			high = batch->n - 1;

	while (low <= high)
	{
		int			middle = (low + high) / 2;
		int			order = strcmp(tables->lease[batch->lease[middle]]->name, name);

		if (order == 0)
			return middle;
		if (order < 0)
			low = middle + 1;
		else
			high = middle - 1;
	}
	return -1;
}

static void
log_forgotten(const Keeper *keeper, int i, const TableLease *lease)
{
	ereport(LOG,
			(errmsg("leasehold: store member %s has lost its memory of lease \"%s\" and is not counted for it any more",
					keeper->member[i].conninfo.label, lease->name),
			 errdetail("An epoch or a version that it had confirmed has fallen."),
			 errhint("Find out why, then run leasehold.reseed_member().")));
}

/* "row" is NULL where there was no effect, or is no such lease. */
static void
take_answer(Keeper *keeper, int i, TableLease *lease, LeaseOp op,
			const LeaseRow *row, ClockTime now)
{
	static const LeaseRow absent = {0};
	LeaseState *state = &lease->state;
	ClockTime	sent_at = state->member[i].sent.sent_at;

	lease->due = true;
	if (op == LEASE_OP_LOOK)
	{
		bool		forgot = state->member[i].forgot;

		if (!lease_saw(state, i, row ? row : &absent, now) && !forgot)
			log_forgotten(keeper, i, lease);
		return;
	}
	lease_replied(state, i, row, now);
	if (op == LEASE_OP_RENEW && row != NULL)
	{
		lease->last_renewal = sent_at;
		lease->renewal_latency = now - sent_at;
	}
}

/* What the member says of itself, besides. */
static void
take_head(Keeper *keeper, int i, const StoreBatchHead *head, LeaseOp op,
		  ClockTime now)
{
	KeeperMember *member = &keeper->member[i];
	KeeperTables *tables = keeper->tables;

	tables->protections_wanted[i] = head->protections;
	tables->memberships_wanted[i] = head->memberships;
	/* as much as a look for a lease of the instance tells, if there is none */
	if (keeper->name[0] == '\0' && member->head_known &&
		member->name.present &&
		member->name.incarnation == keeper->lease.incarnation &&
		head->generation == member->head.generation &&
		head->settled == member->head.settled)
		keeper->lease.member[i].looked_at = member->sent_at;
	if (op == LEASE_OP_RENEW && !head->node_present)
		keeper->lease.member[i].look_now = true;	/* whose is the name now? (R8) */
	else if (op == LEASE_OP_RENEW)
	{
		election_watch_name(&member->name, true, head->node_incarnation,
							head->node_beat, now);
		member->beat_at = member->sent_at;
	}
}

void
keeper_batch_answered(Keeper *keeper, int i, const PGresult *result,
					  ClockTime now)
{
	KeeperTables *tables = keeper->tables;
	TableBatch *batch = &tables->batch[i];
	StoreBatchHead head;
	StoreLease **row = palloc0(sizeof(StoreLease *) * Max(batch->n, 1));
	int			effects = 0;

	if (!store_read_batch(result, &head) ||
		(batch->op == LEASE_OP_LOOK &&
		 (head.generation != keeper->roster.generation || !head.settled)))
	{
		/* R10: of another list; the head of a look will tell */
		keeper_batch_failed(keeper, i, now);
		keeper->lease.member[i].look_now = true;
		return;
	}
	take_head(keeper, i, &head, batch->op, now);
	for (int r = 0; r < PQntuples(result); r++)
	{
		StoreLease *lease = palloc(sizeof(StoreLease));
		int			at;

		if (!store_read_batch_lease(result, r, lease) ||
			(at = find_in_batch(tables, batch, lease->name)) < 0)
			continue;
		row[at] = lease;
		effects++;
	}
	for (int b = 0; b < batch->n; b++)
		take_answer(keeper, i, tables->lease[batch->lease[b]], batch->op,
					row[b] ? &row[b]->row : NULL, now);
	if (effects > 0 && batch->op == LEASE_OP_RELEASE)
		keeper->member[i].notify_due = keeper->member[i].server.notifies;
	batch->n = 0;
}

void
keeper_batch_failed(Keeper *keeper, int i, ClockTime now)
{
	KeeperTables *tables = keeper->tables;
	TableBatch *batch = &tables->batch[i];

	for (int b = 0; b < batch->n; b++)
	{
		TableLease *lease = tables->lease[batch->lease[b]];

		lease_failed(&lease->state, i, now);
		lease->due = true;
	}
	batch->n = 0;
}

/* ------------------------------------------------------------------------
 * What is there to say besides
 * ------------------------------------------------------------------------
 */

/* The first lease with something for this member, and what it is. */
static TableLease *
find_due(const KeeperTables *tables, int i, MemberTask *task)
{
	uint16		bit = (uint16) (1 << i);

	if ((tables->say_due & bit) == 0)
		return NULL;
	for (int k = 0; k < tables->n; k++)
	{
		TableLease *lease = tables->lease[k];

		if (((lease->answer_due | lease->ready_due | lease->failback_due) & bit) == 0)
			continue;
		*task = lease->answer_due & bit ? TASK_TABLE_ANSWER :
			lease->ready_due & bit ? TASK_READY : TASK_FAILBACK;
		return lease;
	}
	return NULL;
}

/* Say it; others are waiting to hear. */
static bool
send_due(Keeper *keeper, int i, ClockTime deadline)
{
	Link	   *link = &keeper->member[i].link;
	uint16		others = (uint16) ~(1 << i);
	MemberTask	task = TASK_NONE;
	TableLease *lease = find_due(keeper->tables, i, &task);
	const LeaseRow *request;

	keeper->member[i].notify_due = keeper->member[i].server.notifies;
	keeper->tables->told[i] = lease;
	switch (task)
	{
		case TASK_TABLE_ANSWER:
			lease->answer_due &= others;
			return store_send_answer(link, lease->name, lease->answer_seq,
									 lease->answer, deadline);
		case TASK_READY:
			lease->ready_due &= others;
			return store_send_ready(link, lease->name, lease->ready_seq, deadline);
		case TASK_FAILBACK:
			lease->failback_due &= others;
			request = lease_request(&lease->state);
			return store_send_failback(link, lease->name, lease->failback_seq,
									   request ? request->ttl_wanted_ms :
									   lease->state.ttl_ms,
									   keeper->self.name, deadline);
		default:
			return true;
	}
}

MemberTask
keeper_tables_chore(const Keeper *keeper, int i)
{
	const KeeperTables *tables = keeper->tables;
	MemberTask	task;

	if (find_due(tables, i, &task) != NULL)
		return task;
	if (tables->memberships[i] != tables->memberships_wanted[i])
		return TASK_MEMBERSHIPS;
	if (tables->protections[i] != tables->protections_wanted[i])
		return TASK_PROTECTIONS;
	if (tables->known_told[i] != tables->confirmed &&
		keeper->member[i].name.present &&
		keeper->member[i].name.incarnation == keeper->lease.incarnation)
		return TASK_KNOWN;
	return TASK_NONE;
}

bool
keeper_tables_send_chore(Keeper *keeper, int i, MemberTask task,
						 ClockTime deadline)
{
	KeeperTables *tables = keeper->tables;
	Link	   *link = &keeper->member[i].link;
	bool		sent;

	switch (task)
	{
		case TASK_TABLE_ANSWER:
		case TASK_READY:
		case TASK_FAILBACK:
			sent = send_due(keeper, i, deadline);
			if (find_due(tables, i, &task) == NULL)
				tables->say_due &= (uint16) ~(1 << i);
			return sent;
		case TASK_MEMBERSHIPS:
			return store_send_memberships(link, keeper->self.name, deadline);
		case TASK_PROTECTIONS:
			return store_send_protections(link, deadline);
		case TASK_KNOWN:
			tables->known_told[i] = tables->confirmed;
			return store_send_known(link, &keeper->self, tables->confirmed,
									deadline);
		default:
			return true;
	}
}

static void
tell_again(KeeperTables *tables, int i, MemberTask task)
{
	uint16		bit = (uint16) (1 << i);
	TableLease *lease = tables->told[i];

	if (task == TASK_KNOWN)
		tables->known_told[i] = 0;
	else if (task == TASK_READY)
		lease->ready_due |= bit;
	else if (task == TASK_TABLE_ANSWER)
		lease->answer_due |= bit;
	else
		return;
	tables->say_due |= bit;
}

void
keeper_tables_chore_done(Keeper *keeper, int i, MemberTask task,
						 const PGresult *result)
{
	KeeperTables *tables = keeper->tables;

	/* what could not be read, or told, is tried again */
	if (result == NULL)
		tell_again(tables, i, task);
	else if (task == TASK_MEMBERSHIPS)
		keeper_tables_take_memberships(keeper, i, result);
	else if (task == TASK_PROTECTIONS)
		keeper_protect_take(keeper, i, result);
}
