/*
 * keeper_member.c
 *		The keeper's conversation with one member of the store.
 *
 * A session begins with the question what server this is, goes on with LISTEN
 * where that is offered, and then carries one request at a time.  What the
 * lease protocol wants to say goes first; heartbeats and the rows for the
 * views fill the gaps.
 *
 * Must never block, and never raise an error for what a member does: faults
 * are data.
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "storage/latch.h"

#include "compat.h"
#include "keeper_tables.h"

#define BACKOFF_MIN		(20 * CLOCK_MS)
#define BACKOFF_MAX		(2 * CLOCK_S)
#define CONNECT_MIN		(250 * CLOCK_MS)
#define CONNECT_MAX		(5 * CLOCK_S)

static ClockTime
connect_timeout(const Keeper *keeper)
{
	return clock_min(clock_max(keeper_request_timeout(keeper), CONNECT_MIN),
					 CONNECT_MAX);
}

/* ------------------------------------------------------------------------
 * Faults
 * ------------------------------------------------------------------------
 */

static void
note_fault(KeeperMember *member, const char *sqlstate, const char *fault)
{
	/* once per change, not once per attempt */
	if (strcmp(member->fault, fault) != 0)
		ereport(LOG,
				(errmsg("leasehold: store member %s: %s",
						member->conninfo.label, fault)));
	strlcpy(member->fault, fault, sizeof(member->fault));
	strlcpy(member->sqlstate, sqlstate, sizeof(member->sqlstate));
}

static void
clear_fault(KeeperMember *member)
{
	if (member->fault[0] != '\0')
		ereport(LOG,
				(errmsg("leasehold: store member %s answers again",
						member->conninfo.label)));
	member->fault[0] = '\0';
	member->sqlstate[0] = '\0';
	member->write_fault = false;
	member->backoff = 0;
}

/*
 * Did the member take what this node wrote there?  The heartbeat is what finds
 * out: it costs no epoch, and is repeated as soon as the member may be asked.
 */
static void
note_written(Keeper *keeper, int i, bool written)
{
	keeper->lease.member[i].refuses = !written;
	if (!written)
		keeper->member[i].beat_at = 0;
}

/* Leave it alone for a while, longer each time, never in step with others. */
static void
rest(Keeper *keeper, int i, ClockTime now)
{
	KeeperMember *member = &keeper->member[i];
	ClockTime	longest = clock_min(BACKOFF_MAX,
									clock_ms(keeper->lease.ttl_ms) / 5);
	double		jitter = 0.5 + pg_prng_double(&pg_global_prng_state);

	member->backoff = clock_min(clock_max(2 * member->backoff, BACKOFF_MIN),
								longest);
	member->rest_until = now + (ClockTime) ((double) member->backoff * jitter);
	keeper_set_reachable(keeper, i, false, keeper->lease.member[i].counted);
}

static void
drop_session(Keeper *keeper, int i, ClockTime now)
{
	KeeperMember *member = &keeper->member[i];

	if (member->task == TASK_LEASE)
		lease_failed(&keeper->lease, i, now);
	else if (member->task == TASK_BATCH)
		keeper_batch_failed(keeper, i, now);
	else
		keeper_tables_chore_done(keeper, i, member->task, NULL);
	member->task = TASK_NONE;
	member->ready = false;
	keeper_set_reachable(keeper, i, false, keeper->lease.member[i].counted);
	link_close(&member->link);
	keeper->sockets_changed = true;
}

void
member_close(Keeper *keeper, int i, ClockTime now)
{
	drop_session(keeper, i, now);
	keeper->member[i].backoff = 0;
	keeper->member[i].rest_until = 0;
}

static void
fail_session(Keeper *keeper, int i, const char *sqlstate, const char *fault,
			 ClockTime now)
{
	note_fault(&keeper->member[i], sqlstate, fault);
	drop_session(keeper, i, now);
	rest(keeper, i, now);
}

/* ------------------------------------------------------------------------
 * What comes in
 * ------------------------------------------------------------------------
 */

/* R14: at another address, or on another timeline, nothing seen before holds. */
static void
note_peer(Keeper *keeper, int i, const StoreServer *server)
{
	KeeperMember *member = &keeper->member[i];
	char		peer[sizeof(member->peer)];

	snprintf(peer, sizeof(peer), "%s/%s/%s/%d",
			 PQhostaddr(member->link.conn) ? PQhostaddr(member->link.conn) : "",
			 PQport(member->link.conn), server->sysid, server->timeline);
	if (strcmp(peer, member->peer) != 0)
	{
		lease_restart_observation(&keeper->lease, i);
		keeper_tables_restart_observation(keeper, i);
	}
	strlcpy(member->peer, peer, sizeof(member->peer));
	member->server = *server;
}

static void
got_identity(Keeper *keeper, int i, const PGresult *result, ClockTime now)
{
	KeeperMember *member = &keeper->member[i];
	StoreServer server = {{0}};

	if (PQresultStatus(result) != PGRES_TUPLES_OK)
	{
		/* a server that does not know the question is taken as it is */
		link_note_error(&member->link, result);
		if (!store_is_unknown_there(member->link.sqlstate))
		{
			fail_session(keeper, i, member->link.sqlstate, member->link.fault,
						 now);
			return;
		}
	}
	else if (!store_read_identify(result, &server))
	{
		fail_session(keeper, i, "08P01", "it does not answer like a database server",
					 now);
		return;
	}
	if (server.in_recovery)
	{
		fail_session(keeper, i, "57P03",
					 "it is a physical standby, which is never a member", now);
		return;
	}
	note_peer(keeper, i, &server);
	if (server.notifies)
	{
		member->task = TASK_SESSION;
		if (!store_send_prepare_session(&member->link, &server, now +
										keeper_request_timeout(keeper)))
			fail_session(keeper, i, member->link.sqlstate, member->link.fault, now);
	}
	else
		member->ready = true;
}

static void
log_forgotten(const KeeperMember *member)
{
	ereport(LOG,
			(errmsg("leasehold: store member %s has lost its memory and is not counted any more",
					member->conninfo.label),
			 errdetail("An epoch or a version that it had confirmed has fallen."),
			 errhint("Find out why, then run leasehold.reseed_member().")));
}

/* The answer to a look, or to a write of the lease. */
static void
got_lease_answer(Keeper *keeper, int i, const PGresult *result, ClockTime now)
{
	KeeperMember *member = &keeper->member[i];
	LeaseOp		op = member->request.op;
	StoreAnswer answer;
	bool		remembers = true;

	store_read_answer(result, &answer);
	if (!answer.ok)
	{
		lease_failed(&keeper->lease, i, now);
		note_fault(member, "08P01", "it is no lease store");
		rest(keeper, i, now);
		return;
	}
	if (answer.head.schema_version != STORE_SCHEMA_VERSION)
	{
		char		fault[128];

		snprintf(fault, sizeof(fault),
				 "its store has schema version %d, this library needs %d",
				 answer.head.schema_version, STORE_SCHEMA_VERSION);
		lease_failed(&keeper->lease, i, now);
		note_fault(member, "55000", fault);
		rest(keeper, i, now);
		return;
	}
	/* that it can be read does not mean that it can be written */
	if (op != LEASE_OP_LOOK || !member->write_fault)
		clear_fault(member);
	member->head = answer.head;
	member->head_known = true;
	keeper->tables->protections_wanted[i] = answer.head.protections;
	keeper->tables->memberships_wanted[i] = answer.head.memberships;
	if (answer.effective && answer.lease.row.present)
	{
		strlcpy(keeper->kind, answer.lease.kind, sizeof(keeper->kind));
		strlcpy(keeper->scope, answer.lease.scope, sizeof(keeper->scope));
	}
	/* what the row says counts as what the member is now */
	members_judge(keeper);
	if (op == LEASE_OP_LOOK)
		remembers = lease_saw(&keeper->lease, i, &answer.lease.row, now);
	else
		lease_replied(&keeper->lease, i,
					  answer.effective ? &answer.lease.row : NULL, now);
	if (!remembers)
		log_forgotten(member);
	if (op == LEASE_OP_LOOK || (op == LEASE_OP_RENEW && answer.node_present))
		election_watch_name(&member->name, answer.node_present,
							answer.node_incarnation, answer.node_beat, now);
	if (op != LEASE_OP_LOOK && answer.effective)
		note_written(keeper, i, true);
	if (op == LEASE_OP_RENEW && answer.effective)
	{
		keeper->last_renewal = member->sent_at;
		keeper->renewal_latency = now - member->sent_at;
		if (answer.node_present)
			member->beat_at = member->sent_at;
	}
	if (op == LEASE_OP_RELEASE && answer.effective)
		member->notify_due = member->server.notifies;
}

static void
got_error(Keeper *keeper, int i, MemberTask task, const PGresult *result,
		  ClockTime now)
{
	KeeperMember *member = &keeper->member[i];

	link_note_error(&member->link, result);
	if (task == TASK_LEASE)
		lease_failed(&keeper->lease, i, now);
	else if (task == TASK_BATCH)
		keeper_batch_failed(keeper, i, now);
	else
		keeper_tables_chore_done(keeper, i, task, NULL);
	/* a lost race with another transaction is no fault of the member */
	if (strncmp(member->link.sqlstate, "40", 2) == 0)
		return;
	note_fault(member, member->link.sqlstate,
			   strcmp(member->link.sqlstate, "42P01") == 0 ||
			   strcmp(member->link.sqlstate, "3F000") == 0 ?
			   "it holds no lease store (load leasehold-store.sql there, or call leasehold.init_store())" :
			   member->link.fault);
	member->write_fault = task == TASK_BEAT || task == TASK_JOIN ||
		task == TASK_ANSWER || task == TASK_KNOWN || task == TASK_READY ||
		(task == TASK_BATCH && keeper->tables->batch[i].op != LEASE_OP_LOOK) ||
		(task == TASK_LEASE && member->request.op != LEASE_OP_LOOK);
	if (task == TASK_BEAT || task == TASK_JOIN)
		note_written(keeper, i, false);
	rest(keeper, i, now);
}

static void
got_result(Keeper *keeper, int i, PGresult *result, ClockTime now)
{
	KeeperMember *member = &keeper->member[i];
	MemberTask	task = member->task;
	ExecStatusType status = PQresultStatus(result);

	member->task = TASK_NONE;
	member->last_answer = now;
	member->latency = now - member->sent_at;
	if (task == TASK_IDENTIFY)
	{
		got_identity(keeper, i, result, now);
		return;
	}
	if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
	{
		/* what is not essential to a session may be unknown there */
		if (task == TASK_SESSION)
		{
			link_note_error(&member->link, result);
			if (!store_is_unknown_there(member->link.sqlstate))
			{
				fail_session(keeper, i, member->link.sqlstate,
							 member->link.fault, now);
				return;
			}
			member->ready = true;
		}
		got_error(keeper, i, task, result, now);
		return;
	}
	switch (task)
	{
		case TASK_SESSION:
			member->ready = true;
			break;
		case TASK_LEASE:
			got_lease_answer(keeper, i, result, now);
			break;
		case TASK_BATCH:
			keeper_batch_answered(keeper, i, result, now);
			break;
		case TASK_MEMBERSHIPS:
		case TASK_PROTECTIONS:
		case TASK_KNOWN:
		case TASK_READY:
		case TASK_TABLE_ANSWER:
		case TASK_FAILBACK:
			keeper_tables_chore_done(keeper, i, task, result);
			break;
		case TASK_BEAT:
		case TASK_JOIN:
			clear_fault(member);
			/* no row: somebody else has the name now; a look will tell */
			if (PQntuples(result) != 1)
				keeper->lease.member[i].look_now = true;
			else
			{
				note_written(keeper, i, true);
				election_watch_name(&member->name, true,
									strtoull(PQgetvalue(result, 0, 0), NULL, 10),
									strtoll(PQgetvalue(result, 0, 1), NULL, 10),
									now);
			}
			break;
		case TASK_SETTLE:
			keeper->lease.member[i].look_now = true;
			break;
		case TASK_NODES:
			publish_nodes(keeper, result, member->sent_at, now);
			break;
		case TASK_LEASES:
			publish_leases(keeper, result, now);
			break;
		case TASK_HISTORY:
			publish_history(keeper, result, now);
			break;
		default:
			break;
	}
}

void
member_poll(Keeper *keeper, int i)
{
	KeeperMember *member = &keeper->member[i];
	pgsocket	socket = member->link.socket;
	uint32		wants = member->link.wants;
	PGresult   *result;
	LinkEvent	event;
	ClockTime	now;

	if (member->link.state == LINK_DOWN)
		return;
	event = link_poll(&member->link, clock_now(), &result);
	/*
	 * R2: what an answer says was seen now, not when we set out to look: this
	 * process may have been stopped in between.
	 */
	now = clock_now();
	switch (event)
	{
		case LINK_NOTHING:
			break;
		case LINK_CONNECTED:
			member->task = TASK_IDENTIFY;
			member->sent_at = now;
			if (!store_send_identify(&member->link,
									 now + keeper_request_timeout(keeper)))
				fail_session(keeper, i, member->link.sqlstate,
							 member->link.fault, now);
			break;
		case LINK_RESULT:
			got_result(keeper, i, result, now);
			PQclear(result);
			break;
		case LINK_LOST:
			fail_session(keeper, i, member->link.sqlstate, member->link.fault,
						 now);
			break;
	}
	if (member->link.notified)
	{
		member->link.notified = false;
		keeper->lease.member[i].look_now = true;
		keeper->lease.member[i].retry_at = 0;
		keeper_tables_look_now(keeper, i);
	}
	keeper->lease.member[i].occupied = member->link.state == LINK_BUSY;
	if (socket != member->link.socket || wants != member->link.wants ||
		member->link.moved)
		keeper->sockets_changed = true;
	member->link.moved = false;
}

/* ------------------------------------------------------------------------
 * What goes out
 * ------------------------------------------------------------------------
 */

static void
begin_connect(Keeper *keeper, int i, ClockTime now)
{
	KeeperMember *member = &keeper->member[i];
	const char *const *keywords;
	const char *const *values;
	const char *unresolved;
	MemoryContext old = MemoryContextSwitchTo(keeper->cycle_context);

	if (!conninfo_start_values(&member->conninfo, &keeper->addresses,
							   &keywords, &values, &unresolved))
	{
		char		fault[256];

		snprintf(fault, sizeof(fault), "host name \"%s\" is not resolved (yet)",
				 unresolved);
		note_fault(member, "08001", fault);
		rest(keeper, i, now);
	}
	else if (!link_start(&member->link, keywords, values,
						 now + connect_timeout(keeper)))
		fail_session(keeper, i, member->link.sqlstate, member->link.fault, now);
	keeper->sockets_changed = true;
	MemoryContextSwitchTo(old);
}

static bool
send_lease(Keeper *keeper, int i, ClockTime now, ClockTime deadline)
{
	KeeperMember *member = &keeper->member[i];
	LeaseRequest *request = &member->request;
	Link	   *link = &member->link;
	int64		generation = keeper->roster.generation;

	switch (request->op)
	{
		case LEASE_OP_LOOK:
			return store_send_look(link, keeper->name, keeper->self.name,
								   deadline);
		case LEASE_OP_ACQUIRE:
			return store_send_acquire(link, keeper->name, &keeper->self,
									  generation, request,
									  keeper_acquire_reason(keeper, i),
									  deadline);
		case LEASE_OP_RENEW:
			return store_send_renew(link, keeper->name, &keeper->self,
									generation, request, deadline);
		case LEASE_OP_RELEASE:
			return store_send_release(link, keeper->name, &keeper->self,
									  request, keeper_release_reason(keeper),
									  deadline);
		case LEASE_OP_NONE:
			break;
	}
	return true;
}

void
member_advance(Keeper *keeper, int i, ClockTime now)
{
	KeeperMember *member = &keeper->member[i];
	ClockTime	deadline = now + keeper_request_timeout(keeper);
	MemberTask	chore;
	bool		sent = true;

	if (now < member->rest_until)
		return;
	if (member->link.state == LINK_DOWN)
	{
		begin_connect(keeper, i, now);
		return;
	}
	if (!member->ready || member->link.state != LINK_IDLE)
		return;
	keeper_set_reachable(keeper, i, true, member->standing == ROSTER_COUNTED);
	keeper->lease.member[i].occupied = false;
	chore = keeper_next_chore(keeper, i, now);

	if (!member->notify_due &&
		lease_next(&keeper->lease, i, now, &member->request))
	{
		publish_fence(keeper);	/* R13: before the message leaves */
		member->task = TASK_LEASE;
		sent = send_lease(keeper, i, now, deadline);
	}
	/* of many leases there may always be one that has something to say */
	else if (!(chore != TASK_NONE && (member->notify_due || member->batched)) &&
			 keeper_batch_next(keeper, i, now, deadline, &sent))
	{
		member->task = TASK_BATCH;
		member->batched = true;
		keeper->lease.member[i].occupied = true;
	}
	else if (chore != TASK_NONE)
	{
		member->task = chore;
		member->batched = false;
		keeper->lease.member[i].occupied = true;
		sent = keeper_send_chore(keeper, i, chore, now, deadline);
	}
	else
		return;
	member->sent_at = now;
	if (member->link.wants != WL_SOCKET_READABLE)
		keeper->sockets_changed = true;
	if (!sent)
		fail_session(keeper, i, member->link.sqlstate, member->link.fault, now);
}

ClockTime
member_due(Keeper *keeper, int i, ClockTime now)
{
	KeeperMember *member = &keeper->member[i];

	if (member->link.state == LINK_DOWN || now < member->rest_until)
		return member->rest_until > now ? member->rest_until : now;
	if (member->link.state != LINK_IDLE)
		return member->link.deadline;
	return keeper_chore_due(keeper, i, now);
}

bool
member_release_pending(const Keeper *keeper, int i)
{
	const KeeperMember *member = &keeper->member[i];

	return member->ready &&
		(member->notify_due || member->task == TASK_NOTIFY ||
		 (member->task == TASK_BATCH &&
		  keeper->tables->batch[i].op == LEASE_OP_RELEASE) ||
		 (member->task == TASK_LEASE &&
		  member->request.op == LEASE_OP_RELEASE));
}
