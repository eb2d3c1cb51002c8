/*
 * test_lease_sim.c
 *		The lease protocol in a simulated world: nodes with clocks of their own,
 *		store members, and a network and machines that fail in every way the
 *		protocol is meant to stand.
 *
 *		test_lease_sim [--seeds N] [--from S] [--shape NAME] [--trace]
 *
 * Everything that happens follows from the seed.  Each node runs the real
 * state machine and is driven as lease.h says; a member is a row and the
 * guards of the statements.  After every event the oracle looks at what the
 * nodes have *published*, each judged by its own node's clock:
 *
 *	- at most one deadline is open;
 *	- the epochs of successive holds rise, a closed epoch never opens again;
 *	- a node never asks to be woken at a moment that has passed, nor floods a
 *	  member with messages;
 *	- when the faults end, the lease is held within the time that the protocol
 *	  promises, stays where it is, and reaches every member.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lease.h"

#define NODES_MAX		5
#define POOL			7		/* members that exist, on the list or not */
#define GENERATIONS_MAX 6
#define EVENTS_MAX		16384
#define MESSAGES_MAX	8192
#define LOG_LINES		70
#define LOG_WIDTH		160

typedef enum EventKind
{
	EV_ARRIVE,					/* a request reaches a member */
	EV_ADDRESSED_TO_NODES,		/* what follows waits while a node is paused */
	EV_REPLY,
	EV_TIMEOUT,
	EV_CONNECT,
	EV_WAKE,
	EV_PERSISTED,
	EV_DRAIN_END,
	EV_ADOPT,
	EV_KEEPER_START,
	EV_ADDRESSED_TO_WORLD,
	EV_NODE_START,
	EV_MEMBER_UP,
	EV_PATH_UP,
	EV_FAULT,
	EV_HEAL,
	EV_THAW,
	EV_CHECK_HELD,
	EV_CHECK_END
} EventKind;

typedef struct Event
{
	ClockTime	at;				/* true time */
	uint64_t	order;			/* among events of one moment */
	EventKind	kind;
	int			node;
	int			member;
	int			tag;			/* what makes a stale event recognisable */
	int			message;
} Event;

typedef struct Message
{
	bool		used;
	int			node;
	uint64_t	incarnation;
	int			keeper;			/* the run of the keeper that sent it */
	int			index;			/* the member's place in that node's list */
	int			request_no;
	int			generation;
	LeaseRequest request;
	/* the reply */
	bool		error;
	bool		has_row;
	LeaseRow	row;
	int			member_generation;
} Message;

typedef struct Link
{
	int			member;
	bool		up;
	int			tag;			/* of the connect under way */
	int			busy;			/* number of the request under way, or 0 */
	/* against floods */
	ClockTime	window;
	int			in_window;
} Link;

typedef struct Node
{
	char		name[LEASE_NAME_LEN];
	ClockTime	offset;
	int			ppm;
	ClockTime	margin_ms;
	ClockTime	timeout;		/* of a request */
	bool		copy;			/* shares its name with another node */
	bool		up;				/* the postmaster runs */
	bool		keeper_up;
	int			keeper;			/* counts the keeper's runs */
	ClockTime	paused_until;	/* true time */
	LeaseState	lease;
	int			generation;
	Link		link[LEASE_MEMBERS_MAX];
	int			wake_tag;
	ClockTime	wake_at;
	/* shared memory: outlives the keeper */
	uint64_t	incarnation;
	uint64_t	previous;
	ClockTime	deadline;
	int64_t		epoch;
	int64_t		closed_epoch;
	int64_t		highest_epoch;
	int64_t		version;
	/* disk: outlives all */
	int64_t		disk_epoch;
	int64_t		disk_pending;
} Node;

typedef struct Member
{
	bool		up;
	int			generation;
	LeaseRow	row;
} Member;

typedef struct Shape
{
	const char *name;
	int			members;
	bool		lists;			/* the list of members changes */
	int			weight;			/* share of the seeds, in percent */
} Shape;

static struct
{
	uint64_t	random;
	ClockTime	now;
	const Shape *shape;
	int			nnodes;
	Node		node[NODES_MAX];
	Member		member[POOL];
	int			generation;
	int			list[GENERATIONS_MAX + 1][LEASE_MEMBERS_MAX];
	int			list_size[GENERATIONS_MAX + 1];
	bool		cut[NODES_MAX][POOL];
	int32_t		ttl_ms;
	int64_t		request_seq;
	int			request_no;
	uint64_t	incarnations;
	/* how bad the world is, in thousandths */
	int			loss;
	int			slow;
	int			error;
	int			proven;			/* a restart knows the run before it */
	ClockTime	latency;
	ClockTime	disk;
	ClockTime	fault_gap;
	int			favourite;		/* the fault that this world sees most */
	bool		healed;
	/* the oracle's memory: the last hold */
	int			hold_node;
	uint64_t	hold_incarnation;
	int64_t		hold_epoch;
	bool		hold_closed;
	int64_t		held_check_epoch;
	int			holds;
	/* machinery */
	Event		event[EVENTS_MAX];
	int			nevents;
	uint64_t	order;
	Message		message[MESSAGES_MAX];
	int			next_message;
	bool		failed;
	char		why[LOG_WIDTH];
	bool		log_on;
	bool		log_all;
	char		log[LOG_LINES][LOG_WIDTH];
	uint64_t	nlog;
} sim;

static int	option_seeds = 0;
static uint64_t option_from = 1;
static bool option_trace;
static const char *option_shape;

/* ------------------------------------------------------------------------
 * Chance, log, events
 * ------------------------------------------------------------------------
 */

static uint64_t
draw(void)
{
	uint64_t	z = (sim.random += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* From low to high, both included. */
static int64_t
between(int64_t low, int64_t high)
{
	return low + (int64_t) (draw() % (uint64_t) (high - low + 1));
}

static bool
chance(int thousandths)
{
	return between(0, 999) < thousandths;
}

static void __attribute__((format(printf, 1, 2)))
say(const char *format,...)
{
	va_list		args;
	char	   *line = sim.log[sim.nlog % LOG_LINES];
	int			n;

	if (!sim.log_on)
		return;
	n = snprintf(line, LOG_WIDTH, "%10.3f ", (double) sim.now / 1e6);
	va_start(args, format);
	vsnprintf(line + n, LOG_WIDTH - n, format, args);
	va_end(args);
	sim.nlog++;
	if (sim.log_all)
		printf("%s\n", line);
}

static void __attribute__((format(printf, 1, 2)))
fail_run(const char *format,...)
{
	va_list		args;

	if (sim.failed)
		return;
	sim.failed = true;
	va_start(args, format);
	vsnprintf(sim.why, sizeof(sim.why), format, args);
	va_end(args);
	say("FAILED: %s", sim.why);
}

static bool
event_before(const Event *a, const Event *b)
{
	return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void
push(Event event)
{
	int			i = sim.nevents++;

	if (sim.nevents > EVENTS_MAX)
	{
		sim.nevents--;
		fail_run("too many events");
		return;
	}
	event.order = ++sim.order;
	while (i > 0 && event_before(&event, &sim.event[(i - 1) / 2]))
	{
		sim.event[i] = sim.event[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	sim.event[i] = event;
}

static Event
pop(void)
{
	Event		first = sim.event[0];
	Event		last = sim.event[--sim.nevents];
	int			i = 0;

	for (;;)
	{
		int			child = 2 * i + 1;

		if (child >= sim.nevents)
			break;
		if (child + 1 < sim.nevents &&
			event_before(&sim.event[child + 1], &sim.event[child]))
			child++;
		if (!event_before(&sim.event[child], &last))
			break;
		sim.event[i] = sim.event[child];
		i = child;
	}
	sim.event[i] = last;
	return first;
}

static void
schedule(ClockTime delay, EventKind kind, int node, int member, int tag)
{
	push((Event) {.at = sim.now + delay,.kind = kind,.node = node,
		 .member = member,.tag = tag,.message = -1});
}

static Message *
new_message(void)
{
	for (int n = 0; n < MESSAGES_MAX; n++)
	{
		Message    *message = &sim.message[sim.next_message++ % MESSAGES_MAX];

		if (!message->used)
		{
			message->used = true;
			return message;
		}
	}
	fail_run("too many messages");
	return &sim.message[0];
}

static ClockTime
ttl(void)
{
	return clock_ms(sim.ttl_ms);
}

/* ------------------------------------------------------------------------
 * Clocks
 * ------------------------------------------------------------------------
 */

static ClockTime
local_at(const Node *node, ClockTime at)
{
	return node->offset + at + at * node->ppm / 1000000;
}

static ClockTime
local(const Node *node)
{
	return local_at(node, sim.now);
}

/* The true time that passes on this node's clock until a moment of its own. */
static ClockTime
until_local(const Node *node, ClockTime moment)
{
	ClockTime	ahead = moment - local(node);

	if (ahead <= 0)
		return 0;
	ahead -= ahead * node->ppm / 1000000;
	while (local_at(node, sim.now + ahead) < moment)
		ahead += 1 + (moment - local_at(node, sim.now + ahead));
	return ahead;
}

/* How long a message takes: mostly little, sometimes longer than any ttl. */
static ClockTime
message_delay(void)
{
	if (chance(sim.slow))
		return chance(500) ? between(0, ttl() / 2) : between(0, 3 * ttl());
	return between(sim.latency / 10, sim.latency);
}

/* ------------------------------------------------------------------------
 * The oracle
 * ------------------------------------------------------------------------
 */

static bool
is_open(const Node *node)
{
	return node->up && local(node) < node->deadline;
}

static void
judge(void)
{
	int			open = -1;

	for (int n = 0; n < sim.nnodes; n++)
	{
		Node	   *node = &sim.node[n];

		if (!is_open(node))
			continue;
		if (open >= 0)
			fail_run("nodes %d (epoch %lld) and %d (epoch %lld) may both write",
					 open, (long long) sim.node[open].epoch, n, (long long) node->epoch);
		open = n;
		if (node->incarnation != sim.hold_incarnation || node->epoch != sim.hold_epoch)
		{
			if (node->epoch <= sim.hold_epoch)
				fail_run("node %d holds epoch %lld after node %d held %lld", n,
						 (long long) node->epoch, sim.hold_node, (long long) sim.hold_epoch);
			sim.hold_node = n;
			sim.hold_incarnation = node->incarnation;
			sim.hold_epoch = node->epoch;
			sim.hold_closed = false;
			sim.holds++;
		}
		if (sim.hold_closed)
			fail_run("node %d opened epoch %lld again", n, (long long) node->epoch);
	}
	if (sim.hold_node >= 0)
	{
		const Node *node = &sim.node[sim.hold_node];

		if (!node->up || node->incarnation != sim.hold_incarnation ||
			node->closed_epoch >= sim.hold_epoch)
			sim.hold_closed = true;
	}
}

/* ------------------------------------------------------------------------
 * A member: one row and the guards
 * ------------------------------------------------------------------------
 */

static bool
is_held_by(const LeaseRow *row, const Node *node, const Message *message)
{
	return row->present && strcmp(row->holder, node->name) == 0 &&
		row->incarnation == message->incarnation &&
		row->epoch == message->request.epoch &&
		row->version < message->request.version;
}

/* Returns whether it took effect; a look always does. */
static bool
member_executes(Member *member, const Message *message)
{
	const LeaseRequest *request = &message->request;
	const Node *node = &sim.node[message->node];
	LeaseRow   *row = &member->row;

	if (request->op == LEASE_OP_LOOK)
		return true;
	if (message->generation < member->generation)
		return false;
	switch (request->op)
	{
		case LEASE_OP_ACQUIRE:
			if (!row->present || row->epoch != request->guard_epoch ||
				row->version != request->guard_version ||
				row->epoch >= request->epoch ||
				(row->frozen && !request->reclaim))
				return false;
			snprintf(row->holder, LEASE_NAME_LEN, "%s", node->name);
			row->incarnation = message->incarnation;
			row->epoch = request->epoch;
			row->version = request->version;
			row->ttl_ms = request->ttl_ms;
			row->frozen = request->frozen;
			row->reserved_for[0] = '\0';
			row->handover_to[0] = '\0';
			return true;
		case LEASE_OP_RENEW:
			if (!is_held_by(row, node, message))
				return false;
			row->version = request->version;
			row->ttl_ms = request->ttl_ms;
			row->frozen = request->frozen;
			return true;
		case LEASE_OP_RELEASE:
			if (!is_held_by(row, node, message) || (row->frozen && !request->frozen))
				return false;
			row->holder[0] = '\0';
			row->version = request->version;
			row->frozen = false;
			memcpy(row->reserved_for, request->reserved_for, LEASE_NAME_LEN);
			row->handover_to[0] = '\0';
			return true;
		default:
			return false;
	}
}

static const char *
op_name(LeaseOp op)
{
	static const char *const names[] = {"none", "look", "acquire", "renew", "release"};

	return names[op];
}

static void
arrive(const Event *event)
{
	Message    *message = &sim.message[event->message];
	Member	   *member = &sim.member[event->member];
	bool		answered = !chance(sim.loss) && !sim.cut[message->node][event->member];

	message->used = false;
	if (!member->up)
		return;
	message->error = chance(sim.error);
	message->has_row = false;
	if (!message->error || chance(500))
	{
		LeaseRow	before = member->row;

		message->has_row = member_executes(member, message);
		/* looks and renewals that change nothing would drown the rest */
		if (message->request.op != LEASE_OP_LOOK &&
			(message->request.op != LEASE_OP_RENEW || !message->has_row || !answered ||
			 before.ttl_ms != member->row.ttl_ms || before.frozen != member->row.frozen))
			say("  member %d: %s by node %d epoch %lld version %lld ttl %d%s%s%s", event->member,
				op_name(message->request.op), message->node,
				(long long) message->request.epoch, (long long) message->request.version,
				message->request.ttl_ms, message->request.frozen ? " frozen" : "",
				message->has_row ? "" : " REFUSED", answered ? "" : " (no reply)");
	}
	if (!answered)
		return;
	message->row = member->row;
	message->member_generation = member->generation;
	message->used = true;
	push((Event) {.at = sim.now + message_delay(),.kind = EV_REPLY,
		 .node = message->node,.member = event->member,.message = event->message});
}

/* ------------------------------------------------------------------------
 * A node's keeper: the driver of the state machine
 * ------------------------------------------------------------------------
 */

static void
publish(Node *node)
{
	node->deadline = lease_deadline(&node->lease);
	node->epoch = node->lease.epoch;
	node->closed_epoch = node->lease.closed_epoch;
	node->highest_epoch = node->lease.highest_epoch;
	node->version = node->lease.version;
	judge();
}

static void
send(int n, int index, const LeaseRequest *request)
{
	Node	   *node = &sim.node[n];
	Link	   *link = &node->link[index];
	Message    *message = new_message();
	int			copies = 1;

	link->busy = ++sim.request_no;
	message->node = n;
	message->incarnation = node->incarnation;
	message->keeper = node->keeper;
	message->index = index;
	message->request_no = link->busy;
	message->generation = node->generation;
	message->request = *request;
	schedule(until_local(node, local(node) + node->timeout), EV_TIMEOUT, n, index, link->busy);
	if (local(node) > link->window + clock_min(lease_look_interval(&node->lease),
											   lease_renew_interval(&node->lease)))
	{
		link->window = local(node);
		link->in_window = 0;
	}
	if (++link->in_window > 30)
		fail_run("node %d floods member %d", n, link->member);

	if (sim.cut[n][link->member] ? chance(800) : chance(sim.loss))
		copies = 0;
	else if (chance(sim.slow / 10))
		copies = 2;
	if (copies == 0)
		message->used = false;
	for (int i = 0; i < copies; i++)
	{
		Message    *copy = message;

		if (i > 0)
		{
			copy = new_message();
			*copy = *message;
		}
		push((Event) {.at = sim.now + (sim.cut[n][link->member] ? between(0, 3 * ttl()) : message_delay()),
			 .kind = EV_ARRIVE,.node = n,.member = link->member,
			 .message = (int) (copy - sim.message)});
	}
}

/* After everything that happens: the contract at the top of lease.h. */
static void
serve(int n)
{
	Node	   *node = &sim.node[n];
	LeaseState *lease = &node->lease;
	ClockTime	now = local(node);
	ClockTime	at;
	const LeaseRow *request;
	LeaseRequest message;

	for (int turn = 0;; turn++)
	{
		lease_tick(lease, now);
		publish(node);
		request = lease_request(lease);
		if (lease->phase == LEASE_HOLDER && request != NULL &&
			request->handover_to[0] != '\0' &&
			strcmp(request->handover_to, node->name) != 0)
		{
			say("node %d: hand over to %s", n, request->handover_to);
			lease_begin_drain(lease, request->handover_to, now);
			publish(node);
			schedule(between(0, ttl() / 4), EV_DRAIN_END, n, 0, node->keeper);
		}
		for (int i = 0; i < lease->nmembers; i++)
			if (node->link[i].up && node->link[i].busy == 0 &&
				lease_next(lease, i, now, &message))
			{
				publish(node);
				send(n, i, &message);
			}
		if (lease_epoch_to_persist(lease) > node->disk_pending)
		{
			node->disk_pending = lease_epoch_to_persist(lease);
			schedule(between(sim.disk / 10, sim.disk), EV_PERSISTED, n, 0,
					 (int) node->disk_pending);
		}
		at = lease_wakeup(lease, now);
		if (at > now)
			break;
		if (turn > 2)
		{
			fail_run("node %d: busy loop in phase %d", n, lease->phase);
			return;
		}
	}
	if (at == CLOCK_NEVER || at == node->wake_at)
		return;
	node->wake_at = at;
	schedule(until_local(node, at) + between(0, CLOCK_MS), EV_WAKE, n, 0, ++node->wake_tag);
}

static void
reconnect(int n, int index, bool soon)
{
	Link	   *link = &sim.node[n].link[index];

	link->up = false;
	link->busy = 0;
	schedule(soon ? between(0, sim.latency) : between(0, ttl() / 4), EV_CONNECT, n, index,
			 ++link->tag);
}

/* The link is gone, and what was under way with it. */
static void
lose_link(int n, int index)
{
	Node	   *node = &sim.node[n];
	bool		busy = node->link[index].busy != 0;

	if (busy)
		lease_failed(&node->lease, index, local(node));
	lease_set_reachable(&node->lease, index, false, node->lease.member[index].counted);
	reconnect(n, index, false);
}

static void
adopt(int n, int generation)
{
	Node	   *node = &sim.node[n];
	int			size = sim.list_size[generation];
	int			old_size = node->generation == 0 ? 0 : sim.list_size[node->generation];

	say("node %d adopts list %d of %d", n, generation, size);
	node->generation = generation;
	lease_set_members(&node->lease, size, size);
	for (int i = 0; i < LEASE_MEMBERS_MAX; i++)
	{
		Link	   *link = &node->link[i];

		if (i < size && i < old_size && link->member == sim.list[generation][i])
		{
			/* the session may stay, or be opened anew */
			if (link->up && chance(500))
				lease_set_reachable(&node->lease, i, true, true);
			else
				lose_link(n, i);
			continue;
		}
		if (i < size)
		{
			link->member = sim.list[generation][i];
			lose_link(n, i);
		}
		else
		{
			link->up = false;
			link->busy = 0;
			link->tag++;
		}
	}
}

static void
start_keeper(int n)
{
	Node	   *node = &sim.node[n];
	LeaseState *lease = &node->lease;
	bool		members_first = chance(500);
	int			generation = node->generation;

	node->keeper_up = true;
	node->keeper++;
	node->wake_at = 0;
	node->wake_tag++;
	lease_init(lease, node->name, node->incarnation, node->previous, draw());
	lease->margin_setting_ms = (int32_t) node->margin_ms;
	if (node->timeout % 3 != 0)
		lease->look_setting_ms = sim.ttl_ms / (int32_t) between(4, 10);
	lease->able = sim.healed || chance(900);
	lease->eager = sim.healed || chance(900);
	lease->stagger = chance(300) ? between(0, ttl() / 2) : 0;
	lease->durable_epoch = node->disk_epoch;
	node->disk_pending = node->disk_epoch;
	node->generation = 0;
	memset(node->link, 0, sizeof(node->link));
	say("node %d: keeper run %d of incarnation %llu, previous %llu", n, node->keeper,
		(unsigned long long) node->incarnation, (unsigned long long) node->previous);
	if (members_first)
		adopt(n, generation);
	lease_resume_epoch(lease, node->epoch, node->closed_epoch, node->highest_epoch,
					   node->version, node->deadline);
	if (!members_first)
		adopt(n, generation);
	if (generation < sim.generation)
		schedule(between(0, ttl()), EV_ADOPT, n, 0, sim.generation);
	serve(n);
}

static void
stop_keeper(int n)
{
	Node	   *node = &sim.node[n];

	node->keeper_up = false;
	node->wake_tag++;
	for (int i = 0; i < LEASE_MEMBERS_MAX; i++)
	{
		node->link[i].up = false;
		node->link[i].busy = 0;
		node->link[i].tag++;
	}
}

static void
start_node(int n)
{
	Node	   *node = &sim.node[n];

	node->previous = !node->copy && chance(sim.proven) ? node->incarnation : 0;
	node->incarnation = ++sim.incarnations;
	node->up = true;
	node->epoch = 0;
	node->closed_epoch = 0;
	node->highest_epoch = node->disk_epoch;
	node->version = 0;
	node->deadline = 0;
	start_keeper(n);
}

static void
node_event(const Event *event)
{
	int			n = event->node;
	Node	   *node = &sim.node[n];
	LeaseState *lease = &node->lease;
	ClockTime	now = local(node);
	Link	   *link = &node->link[event->member];

	if (!node->up)
		return;
	if (event->kind == EV_KEEPER_START)
	{
		if (!node->keeper_up)
			start_keeper(n);
		return;
	}
	if (!node->keeper_up)
		return;
	switch (event->kind)
	{
		case EV_TIMEOUT:
			if (link->busy != event->tag)
				return;
			say("node %d: no answer from member %d", n, link->member);
			lose_link(n, event->member);
			break;
		case EV_CONNECT:
			if (link->tag != event->tag || link->up)
				return;
			if (sim.cut[n][link->member] || !sim.member[link->member].up)
			{
				reconnect(n, event->member, false);
				return;
			}
			link->up = true;
			lease_set_reachable(lease, event->member, true, true);
			break;
		case EV_WAKE:
			if (event->tag != node->wake_tag)
				return;
			node->wake_at = 0;
			break;
		case EV_PERSISTED:
			if (event->tag > node->disk_epoch)
				node->disk_epoch = event->tag;
			lease->durable_epoch = node->disk_epoch;
			break;
		case EV_DRAIN_END:
			if (event->tag != node->keeper || lease->phase != LEASE_DRAINING)
				return;
			if (event->member != 0)
			{
				say("node %d: drain undone", n);
				lease_undo_drain(lease, now);
			}
			else
			{
				say("node %d: drained", n);
				if (chance(500))
					lease->abstain_until = now + between(0, ttl());
				lease_drained(lease, now);
			}
			break;
		case EV_ADOPT:
			if (event->tag <= node->generation)
				return;
			adopt(n, event->tag);
			break;
		default:
			break;
	}
	serve(n);
}

static void
reply_arrives(const Event *event)
{
	Message    *message = &sim.message[event->message];
	int			n = message->node;
	int			i = message->index;
	Node	   *node = &sim.node[n];
	Link	   *link = &node->link[i];
	LeaseState *lease = &node->lease;
	ClockTime	now = local(node);

	message->used = false;
	if (!node->up || !node->keeper_up || message->keeper != node->keeper ||
		link->busy != message->request_no)
		return;
	link->busy = 0;
	if (message->error)
		lease_failed(lease, i, now);
	else if (message->request.op == LEASE_OP_LOOK)
	{
		if (!lease_saw(lease, i, &message->row, now))
			fail_run("node %d takes member %d to have lost its memory", n, link->member);
		if (message->member_generation > node->generation)
		{
			if (chance(300))
				lease_set_reachable(lease, i, true, false);
			schedule(between(0, chance(500) ? sim.latency : ttl()), EV_ADOPT, n, 0,
					 message->member_generation);
		}
	}
	else
		lease_replied(lease, i, message->has_row ? &message->row : NULL, now);
	serve(n);
}

/* ------------------------------------------------------------------------
 * What people do to the store
 * ------------------------------------------------------------------------
 */

/* Requests reach the members that are up, mostly. */
static void
ask_people(int what)
{
	char		target[LEASE_NAME_LEN];
	int32_t		ttl_ms = (int32_t) between(LEASE_TTL_MIN_MS, 2 * sim.ttl_ms);
	bool		pause = chance(500);

	snprintf(target, sizeof(target), "%s", sim.node[between(0, sim.nnodes - 1)].name);
	sim.request_seq++;
	for (int i = 0; i < sim.list_size[sim.generation]; i++)
	{
		Member	   *member = &sim.member[sim.list[sim.generation][i]];
		LeaseRow   *row = &member->row;

		if (!sim.healed && (!member->up || chance(100)))
			continue;
		row->request_seq = sim.request_seq;
		if (what == 0)
			row->ttl_wanted_ms = ttl_ms;
		else if (what == 1)
			row->pause_wanted = pause;
		else if (what == 2)
			memcpy(row->handover_to, target, LEASE_NAME_LEN);
		else
		{
			row->pause_wanted = false;
			row->ttl_wanted_ms = sim.ttl_ms;
			row->handover_to[0] = '\0';
		}
	}
	say("request %lld: %s", (long long) sim.request_seq,
		what == 0 ? "ttl" : what == 1 ? (pause ? "pause" : "resume") :
		what == 2 ? target : "back to normal");
}

static bool
same_holder(const LeaseRow *a, const LeaseRow *b)
{
	return a->epoch == b->epoch && a->incarnation == b->incarnation &&
		strcmp(a->holder, b->holder) == 0;
}

/* Does b come before a when a list's rows are merged? */
static bool
goes_before(const LeaseRow *b, const LeaseRow *a)
{
	bool		a_held = a->holder[0] != '\0';
	bool		b_held = b->holder[0] != '\0';

	if (b->epoch != a->epoch)
		return b->epoch > a->epoch;
	return b_held != a_held ? b_held : b->version > a->version;
}

/*
 * merge_rows
 *		What a majority of the old list knows, as the new list is to have it.
 *
 * With the longest promise that any of them makes: a holder relies on the
 * promises of a majority, and the newest row may promise less than the others
 * still do.  What only a minority says may be a race that was lost, while the
 * holder's deadline runs: then everybody has to wait.
 */
static bool
merge_rows(int generation, LeaseRow *to)
{
	LeaseRow	merged;
	const LeaseRow *request = NULL;
	int			up = 0;
	int			agreeing = 0;

	memset(&merged, 0, sizeof(merged));
	for (int i = 0; i < sim.list_size[generation]; i++)
	{
		Member	   *member = &sim.member[sim.list[generation][i]];

		if (member->up && (up++ == 0 || goes_before(&member->row, &merged)))
			merged = member->row;
	}
	if (up < sim.list_size[generation] / 2 + 1)
		return false;
	*to = merged;
	for (int i = 0; i < sim.list_size[generation]; i++)
	{
		const Member *member = &sim.member[sim.list[generation][i]];
		const LeaseRow *row = &member->row;

		if (!member->up)
			continue;
		agreeing += same_holder(row, &merged);
		if (row->version >= to->version)
			to->version = row->version + 1;
		if (row->ttl_ms > to->ttl_ms)
			to->ttl_ms = row->ttl_ms;
		if (row->frozen)
			to->frozen = true;
		if (request == NULL || row->request_seq > request->request_seq)
			request = row;
	}
	to->request_seq = request->request_seq;
	to->ttl_wanted_ms = request->ttl_wanted_ms;
	to->pause_wanted = request->pause_wanted;
	to->handover_to[0] = '\0';
	if (agreeing < sim.list_size[generation] / 2 + 1)
	{
		/* a paused holder would never learn that it is none any more */
		if (to->frozen)
			return false;
		to->incarnation = 0;
		if (to->holder[0] == '\0')
			snprintf(to->reserved_for, LEASE_NAME_LEN, "*");
	}
	return true;
}

/* Commit another list of members, and copy the row to it. */
static void
change_list(void)
{
	int			old = sim.generation;
	int			size = 2 * (int) between(0, 2) + 1;
	int			list[LEASE_MEMBERS_MAX];
	int			n = 0;
	LeaseRow	row;

	if (old == GENERATIONS_MAX || !merge_rows(old, &row))
		return;
	for (int i = (int) between(0, POOL - 1), k = 0; k < POOL && n < size; k++, i++)
		if (sim.member[i % POOL].up)
			list[n++] = i % POOL;
	if (n == 0)
		return;
	for (int i = 0; i < n; i++)
		if (sim.member[list[i]].row.version >= row.version ||
			sim.member[list[i]].row.epoch > row.epoch)
			return;

	sim.generation++;
	for (int i = 0; i < sim.list_size[old]; i++)
		if (sim.member[sim.list[old][i]].up)
			sim.member[sim.list[old][i]].generation = sim.generation;
	for (int i = 0; i < n; i++)
	{
		sim.list[sim.generation][i] = list[i];
		sim.member[list[i]].row = row;
		sim.member[list[i]].generation = sim.generation;
	}
	sim.list_size[sim.generation] = n;
	say("list %d committed: %d members", sim.generation, n);
	for (int i = 0; i < sim.nnodes; i++)
		schedule(between(0, chance(500) ? sim.latency : 3 * ttl()), EV_ADOPT, i, 0, sim.generation);
}

/* ------------------------------------------------------------------------
 * Faults
 * ------------------------------------------------------------------------
 */

static void
crash_node(int n)
{
	say("node %d: crash", n);
	stop_keeper(n);
	sim.node[n].up = false;
	sim.node[n].deadline = 0;
	sim.node[n].paused_until = 0;
	judge();
	schedule(between(0, chance(500) ? ttl() / 4 : 3 * ttl()), EV_NODE_START, n, 0, 0);
}

static void
member_down(int m)
{
	say("member %d: down", m);
	sim.member[m].up = false;
	schedule(between(0, 3 * ttl()), EV_MEMBER_UP, 0, m, 0);
	/* some notice at once, the others when their request times out */
	for (int n = 0; n < sim.nnodes; n++)
	{
		Node	   *node = &sim.node[n];

		if (!node->up || !node->keeper_up || sim.now < node->paused_until || chance(500))
			continue;
		for (int i = 0; i < node->lease.nmembers; i++)
			if (node->link[i].up && node->link[i].member == m)
				lose_link(n, i);
		serve(n);
	}
}

static void
cut_paths(void)
{
	int			n = (int) between(0, sim.nnodes - 1);
	int			m = (int) between(0, POOL - 1);
	bool		whole_node = chance(500);

	for (int i = 0; i < POOL; i++)
		if (whole_node || i == m)
		{
			sim.cut[n][i] = true;
			schedule(between(0, 4 * ttl()), EV_PATH_UP, n, i, 0);
		}
	say("node %d: cut from %s", n, whole_node ? "all members" : "one member");
}

/* Something that the node's own people or health do. */
static void
disturb_keeper(int n)
{
	Node	   *node = &sim.node[n];
	LeaseState *lease = &node->lease;
	ClockTime	now = local(node);

	if (!node->up || !node->keeper_up || sim.now < node->paused_until)
		return;
	switch (between(0, 4))
	{
		case 0:
			lease->able = !lease->able;
			if (!lease->able && chance(500))
				lease_close(lease, now);
			break;
		case 1:
			lease->eager = !lease->eager;
			break;
		case 2:
			say("node %d: close", n);
			lease_close(lease, now);
			break;
		default:
			if (lease_begin_drain(lease, chance(500) ? "" :
								  sim.node[between(0, sim.nnodes - 1)].name, now))
			{
				say("node %d: drain", n);
				schedule(between(0, ttl()), EV_DRAIN_END, n, chance(500), node->keeper);
			}
			break;
	}
	serve(n);
}

static int
pick_fault(void)
{
	return (int) between(0, sim.shape->lists ? 15 : 12);
}

static void
fault(void)
{
	int			kind = chance(400) ? sim.favourite : pick_fault();
	int			n = (int) between(0, sim.nnodes - 1);
	Node	   *node = &sim.node[n];

	/* a holder is the more interesting victim */
	if (chance(500) && sim.hold_node >= 0)
		node = &sim.node[n = sim.hold_node];
	switch (kind)
	{
		case 0:
		case 1:
			if (node->up)
				crash_node(n);
			break;
		case 2:
		case 3:
			if (node->up && sim.now >= node->paused_until)
			{
				node->paused_until = sim.now + between(0, 3 * ttl());
				say("node %d: paused for %.3f", n, (double) (node->paused_until - sim.now) / 1e6);
			}
			break;
		case 4:
			if (node->up && node->keeper_up)
			{
				say("node %d: keeper dies", n);
				stop_keeper(n);
				schedule(between(0, ttl()), EV_KEEPER_START, n, 0, 0);
			}
			break;
		case 5:
		case 6:
			member_down((int) between(0, POOL - 1));
			break;
		case 7:
		case 8:
			cut_paths();
			break;
		case 9:
		case 10:
			disturb_keeper(n);
			break;
		case 11:
		case 12:
			ask_people((int) between(0, 2));
			break;
		default:
			change_list();
			break;
	}
	if (!sim.healed)
		schedule(between(0, 2 * sim.fault_gap), EV_FAULT, 0, 0, 0);
}

/* The longest that anybody may have to wait for a row. */
static ClockTime
longest_wait(void)
{
	ClockTime	longest = 0;

	for (int i = 0; i < sim.list_size[sim.generation]; i++)
		longest = clock_max(longest,
							lease_observation(&sim.node[0].lease,
											  sim.member[sim.list[sim.generation][i]].row.ttl_ms));
	return clock_max(longest, lease_observation(&sim.node[0].lease, sim.ttl_ms));
}

static bool
is_alive(uint64_t incarnation)
{
	for (int n = 0; n < sim.nnodes; n++)
		if (sim.node[n].up && sim.node[n].incarnation == incarnation)
			return true;
	return false;
}

/* The operator thaws what a dead holder has frozen. */
static void
thaw(void)
{
	for (int m = 0; m < POOL; m++)
	{
		LeaseRow   *row = &sim.member[m].row;

		if (row->frozen && (row->holder[0] == '\0' || !is_alive(row->incarnation)))
		{
			say("member %d: thawed", m);
			row->frozen = false;
			row->version++;
		}
	}
}

/* All faults end; then it must be held, once late messages have arrived. */
static void
heal(void)
{
	ClockTime	quiet = sim.now;
	ClockTime	round;

	say("the faults end");
	sim.healed = true;
	sim.loss = sim.slow = sim.error = 0;
	memset(sim.cut, 0, sizeof(sim.cut));
	for (int m = 0; m < POOL; m++)
		sim.member[m].up = true;
	ask_people(3);
	for (int n = 0; n < sim.nnodes; n++)
	{
		Node	   *node = &sim.node[n];

		node->margin_ms = 0;
		node->paused_until = 0;
		if (!node->up)
			start_node(n);
		else if (!node->keeper_up)
			start_keeper(n);
		node->lease.margin_setting_ms = 0;
		node->lease.able = node->lease.eager = true;
		schedule(0, EV_ADOPT, n, 0, sim.generation);
		serve(n);
	}
	for (int i = 0; i < sim.nevents; i++)
		if (sim.event[i].kind == EV_ARRIVE)
			quiet = clock_max(quiet, sim.event[i].at);
	schedule(quiet - sim.now, EV_THAW, 0, 0, 0);
	/* at worst: a timeout, W, and some races with their back-off */
	round = clock_ms(2 * sim.ttl_ms) / 3 + 5 * ttl() / 4 + 4 * sim.latency + 2 * sim.disk;
	schedule(quiet - sim.now + 2 * ttl() + longest_wait() + 6 * round, EV_CHECK_HELD, 0, 0, 0);
}

static void
check_held(void)
{
	for (int n = 0; n < sim.nnodes; n++)
		if (is_open(&sim.node[n]))
			sim.held_check_epoch = sim.node[n].epoch;
	if (sim.held_check_epoch == 0)
		fail_run("nobody holds the lease although nothing fails");
	schedule(longest_wait() + 4 * ttl(), EV_CHECK_END, 0, 0, 0);
}

static void
check_end(void)
{
	const Node *node = &sim.node[sim.hold_node];

	if (!is_open(node) || node->epoch != sim.held_check_epoch)
	{
		fail_run("the lease moved although nothing fails");
		return;
	}
	for (int i = 0; i < sim.list_size[sim.generation]; i++)
	{
		const LeaseRow *row = &sim.member[sim.list[sim.generation][i]].row;

		/* a lost race can leave an epoch behind that the holder cannot top */
		if (row->epoch >= node->epoch && row->incarnation != node->incarnation)
			continue;
		if (row->incarnation != node->incarnation || row->epoch != node->epoch ||
			row->frozen || row->ttl_ms != sim.ttl_ms)
			fail_run("the holder, node %d, has not reached member %d", sim.hold_node,
					 sim.list[sim.generation][i]);
	}
}

/* ------------------------------------------------------------------------
 * One run
 * ------------------------------------------------------------------------
 */

static void
build_world(const Shape *shape, uint64_t seed, bool log_on)
{
	static const int32_t ttls[] = {200, 500, 1000, 3000, 10000};
	static const int levels[] = {0, 0, 20, 100, 300};

	memset(&sim, 0, sizeof(sim));
	sim.random = seed;
	sim.log_on = log_on;
	sim.log_all = option_trace;
	sim.shape = shape;
	sim.now = CLOCK_S;
	sim.hold_node = -1;
	sim.nnodes = (int) between(2, 2 + between(0, NODES_MAX - 2));
	sim.ttl_ms = ttls[between(0, 4)];
	sim.loss = levels[between(0, 4)] / 2;
	sim.slow = levels[between(0, 4)];
	sim.error = levels[between(0, 4)] / 3;
	sim.proven = 500;
	sim.latency = chance(500) ? CLOCK_MS / 10 : between(1, 8) * CLOCK_MS;
	sim.disk = chance(500) ? CLOCK_MS : between(1, 20) * CLOCK_MS;
	sim.fault_gap = between(ttl() / 8, ttl());
	sim.favourite = pick_fault();
	sim.generation = 1;
	sim.list_size[1] = shape->members;
	for (int m = 0; m < POOL; m++)
	{
		Member	   *member = &sim.member[m];

		if (m < shape->members)
			sim.list[1][m] = m;
		member->up = true;
		member->generation = 1;
		member->row.present = true;
		member->row.ttl_ms = sim.ttl_ms;
	}
	for (int n = 0; n < sim.nnodes; n++)
	{
		Node	   *node = &sim.node[n];

		node->copy = n == 1 && chance(100);
		snprintf(node->name, sizeof(node->name), "n%d", node->copy ? 0 : n);
		node->offset = between(0, 1000) * CLOCK_S;
		node->ppm = chance(500) ? (int) between(-LEASE_RATE_PPM, LEASE_RATE_PPM) :
			chance(500) ? LEASE_RATE_PPM : -LEASE_RATE_PPM;
		if (chance(600))
			node->margin_ms = chance(700) ? 1 : between(1, sim.ttl_ms / 2);
		node->timeout = between(ttl() / 10, ttl());
		if (node->timeout < 5 * sim.latency)
			node->timeout = 5 * sim.latency;
		node->generation = 1;
		start_node(n);
	}
	schedule(between(0, sim.fault_gap), EV_FAULT, 0, 0, 0);
	schedule(between(8, 16) * ttl(), EV_HEAL, 0, 0, 0);
}

static bool
run(const Shape *shape, uint64_t seed, bool log_on)
{
	build_world(shape, seed, log_on);
	while (sim.nevents > 0 && !sim.failed)
	{
		Event		event = pop();

		sim.now = event.at;
		if (event.kind > EV_ADDRESSED_TO_NODES && event.kind < EV_ADDRESSED_TO_WORLD &&
			sim.now < sim.node[event.node].paused_until)
		{
			/* an answer may be found before it is noticed to be overdue */
			event.at = sim.node[event.node].paused_until +
				(event.kind == EV_TIMEOUT ? between(0, 1) : 0);
			push(event);
			continue;
		}
		switch (event.kind)
		{
			case EV_ARRIVE:
				arrive(&event);
				break;
			case EV_REPLY:
				reply_arrives(&event);
				break;
			case EV_NODE_START:
				if (!sim.node[event.node].up)
					start_node(event.node);
				break;
			case EV_MEMBER_UP:
				sim.member[event.member].up = true;
				break;
			case EV_PATH_UP:
				sim.cut[event.node][event.member] = false;
				break;
			case EV_FAULT:
				if (!sim.healed)
					fault();
				break;
			case EV_HEAL:
				heal();
				break;
			case EV_THAW:
				thaw();
				break;
			case EV_CHECK_HELD:
				check_held();
				break;
			case EV_CHECK_END:
				check_end();
				judge();
				return !sim.failed;
			default:
				node_event(&event);
				break;
		}
		judge();
	}
	return false;
}

static const Shape shapes[] = {
	{"one member", 1, false, 35},
	{"three members", 3, false, 30},
	{"five members", 5, false, 10},
	{"changing lists", 3, true, 25},
};

/* Enough for every `make check`; --seeds asks for more. */
#define SEEDS_DEFAULT	3000

static void
run_seeds(void **state)
{
	const Shape *shape = *state;
	int			seeds = option_seeds > 0 ? option_seeds : SEEDS_DEFAULT * shape->weight / 100;
	uint64_t	holds = 0;

	for (int i = 0; i < seeds; i++)
	{
		uint64_t	seed = option_from + (uint64_t) i;

		if (run(shape, seed, option_trace))
		{
			holds += (uint64_t) sim.holds;
			continue;
		}
		/* once more, to tell what happened */
		if (!option_trace)
			run(shape, seed, true);
		for (uint64_t line = sim.nlog > LOG_LINES ? sim.nlog - LOG_LINES : 0;
			 !option_trace && line < sim.nlog; line++)
			print_error("%s\n", sim.log[line % LOG_LINES]);
		fail_msg("%s, seed %llu: %s (see it all: --shape \"%s\" --seeds 1 --from %llu --trace)",
				 shape->name, (unsigned long long) seed, sim.why, shape->name,
				 (unsigned long long) seed);
	}
	print_message("%s: %d worlds, %llu holds\n", shape->name, seeds, (unsigned long long) holds);
	/* a world in which nobody ever holds proves nothing */
	assert_true(holds >= (uint64_t) seeds);
}

int
main(int argc, char **argv)
{
	struct CMUnitTest tests[sizeof(shapes) / sizeof(shapes[0])];
	size_t		n = 0;

	for (int i = 1; i < argc; i++)
	{
		if (strcmp(argv[i], "--trace") == 0)
			option_trace = true;
		else if (i + 1 < argc && strcmp(argv[i], "--seeds") == 0)
			option_seeds = atoi(argv[++i]);
		else if (i + 1 < argc && strcmp(argv[i], "--from") == 0)
			option_from = strtoull(argv[++i], NULL, 10);
		else if (i + 1 < argc && strcmp(argv[i], "--shape") == 0)
			option_shape = argv[++i];
		else
		{
			fprintf(stderr, "usage: %s [--seeds N] [--from SEED] [--shape NAME] [--trace]\n", argv[0]);
			return 2;
		}
	}
	memset(tests, 0, sizeof(tests));
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
	{
		if (option_shape != NULL && strcmp(option_shape, shapes[i].name) != 0)
			continue;
		tests[n].name = shapes[i].name;
		tests[n].test_func = run_seeds;
		tests[n].initial_state = (void *) &shapes[i];
		n++;
	}
	return _cmocka_run_group_tests("lease in a world of faults", tests, n, NULL, NULL);
}
