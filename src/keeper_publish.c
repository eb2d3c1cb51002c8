/*
 * keeper_publish.c
 *		What the keeper lets others see: the deadline for every backend, the
 *		status for views and error messages, the store's rows for views.
 *
 * Must never block: the survey's lock is only tried, all else is lock-free.
 */
#include "postgres.h"

#include "storage/lwlock.h"

#include "keeper_tables.h"
#include "lease_rules.h"

/* ------------------------------------------------------------------------
 * Reasons for the history
 * ------------------------------------------------------------------------
 */

const char *
keeper_release_reason(const Keeper *keeper)
{
	switch (keeper->drain_why)
	{
		case DRAIN_RELEASE:
			return "released by request";
		case DRAIN_HANDOVER:
			return "switchover";
		case DRAIN_UNHEALTHY:
			return "the instance failed its health check";
		case DRAIN_NOT_PROMOTED:
			return "the standby could not be promoted";
		case DRAIN_RENAMED:
			return "another lease governs the node";
		case DRAIN_SHUTDOWN:
			return "clean shutdown";
		case DRAIN_ORPHANED:
			return "the postmaster died";
		case DRAIN_NONE:
			break;
	}
	return "expired, or lost a race";
}

const char *
keeper_acquire_reason(const Keeper *keeper, int i)
{
	const LeaseRequest *request = &keeper->member[i].request;
	const LeaseRow *row = &keeper->lease.member[i].row;

	if (request->reclaim)
		return "reclaimed by the same node";
	if (strcmp(row->reserved_for, keeper->self.name) == 0)
		return "handed over";
	if (request->from[0] == '\0')
		return keeper->acquire_until != 0 ? "acquired by request" : "it was free";
	return "the holder fell silent";
}

/* ------------------------------------------------------------------------
 * The fence
 * ------------------------------------------------------------------------
 */

void
publish_fence(Keeper *keeper)
{
	/* what a keeper started anew must know, before it can matter */
	pg_atomic_write_u64(&leasehold_shared->version,
						(uint64) keeper->lease.version);
	pg_atomic_write_u64(&leasehold_shared->closed_epoch,
						(uint64) keeper->lease.closed_epoch);
	pg_atomic_write_u64(&leasehold_shared->highest_epoch,
						(uint64) keeper->lease.highest_epoch);

	shared_publish_lease(&leasehold_shared->fence.instance,
						 (uint64) lease_deadline(&keeper->lease),
						 (uint64) keeper->lease.epoch);
}

/* ------------------------------------------------------------------------
 * Why not
 * ------------------------------------------------------------------------
 */

static int
members_reachable(const Keeper *keeper)
{
	int			n = 0;

	for (int i = 0; i < keeper->n; i++)
		n += keeper->lease.member[i].reachable &&
			keeper->member[i].standing == ROSTER_COUNTED &&
			!keeper->lease.member[i].forgot;
	return n;
}

/*
 * A follower looks all the time.  What it saw once tells nothing of now, when
 * fewer than a majority have shown the lease for a while.
 */
static bool
store_is_silent(const Keeper *keeper, ClockTime now)
{
	ClockTime	patience = clock_max(clock_ms(keeper->lease.ttl_ms) / 2,
									 2 * lease_look_interval(&keeper->lease));
	int			n = 0;

	for (int i = 0; i < keeper->n; i++)
		n += rule_counts(&keeper->lease.member[i]) &&
			now - keeper->lease.member[i].seen_at <= patience;
	return keeper->lease.phase == LEASE_FOLLOWER &&
		n < lease_majority(&keeper->lease);
}

/* It can be read, but whoever wants the lease has to write. */
static bool
store_refuses_writes(const Keeper *keeper)
{
	LeasePhase	phase = keeper->lease.phase;
	LeaseReason reason = keeper->lease.reason;
	int			n = 0;

	for (int i = 0; i < keeper->n; i++)
		n += rule_counts(&keeper->lease.member[i]) &&
			!keeper->member[i].write_fault;
	return n < lease_majority(&keeper->lease) &&
		(phase == LEASE_ACQUIRING || phase == LEASE_RELEASING ||
		 reason == LEASE_REASON_BACKING_OFF || reason == LEASE_REASON_WAITING ||
		 reason == LEASE_REASON_NOT_ABLE || reason == LEASE_REASON_DISK);
}

/* The first member's trouble stands for all of them. */
static const char *
first_fault(const Keeper *keeper)
{
	if (keeper->n == 0)
		return " No store is configured: leasehold.store is empty.";
	for (int i = 0; i < keeper->n; i++)
	{
		const KeeperMember *member = &keeper->member[i];

		if (member->fault[0] != '\0')
			return psprintf(" Member %s: %s.", member->conninfo.label,
							member->fault);
		if (keeper->lease.member[i].forgot)
			return psprintf(" Member %s has lost its memory.",
							member->conninfo.label);
		if (member->standing != ROSTER_COUNTED &&
			member->standing != ROSTER_NOT_ASKED)
			return psprintf(" Member %s is %s.", member->conninfo.label,
							roster_standing_text(member->standing));
	}
	return "";
}

static const char *
why_no_majority(const Keeper *keeper)
{
	if (keeper->n == 0)
		return "No store is configured: leasehold.store is empty.";
	if (keeper->lease.list_size == 0)
		return psprintf("The store's list of members is not known yet.%s",
						first_fault(keeper));
	return psprintf("Only %d of %d members of the store can be counted, %d are needed.%s",
					members_reachable(keeper), keeper->lease.list_size,
					lease_majority(&keeper->lease), first_fault(keeper));
}

static const char *
why_not_able(const Keeper *keeper)
{
	if (keeper->persisted.incarnation != keeper->lease.incarnation)
		return psprintf("The steward has not yet written %s.", "leasehold.state");
	if (pg_atomic_read_u64(&leasehold_shared->healthy_at) == 0 ||
		keeper->drain_why == DRAIN_UNHEALTHY)
		return "The instance has not passed its own health check.";
	if (keeper->ending)
		return "The instance is shutting down.";
	if (keeper->candidacy != CANDIDACY_FIT)
		return keeper_why_no_candidate(keeper);
	return "The node is not registered in the store yet, or its health check is overdue.";
}

/* A full sentence; "" while the lease is held. */
const char *
keeper_plain_reason(LeaseReason reason, const char *holder)
{
	switch (reason)
	{
		case LEASE_REASON_STARTING:
			return "The store has not been read yet.";
		case LEASE_REASON_NO_MAJORITY:
			return "Too few members of the store can be counted.";
		case LEASE_REASON_UNKNOWN_LEASE:
			return "The store knows no such lease.";
		case LEASE_REASON_HELD:
			return holder[0] ? psprintf("Node \"%s\" holds it.", holder) :
				"It has been given up, but too few members of the store say so yet.";
		case LEASE_REASON_WAITING:
			return "An earlier run of this node held it, and its time has not run out.";
		case LEASE_REASON_FROZEN:
			return holder[0] ?
				psprintf("It is paused, and node \"%s\" holds it.", holder) :
				"It is paused.";
		case LEASE_REASON_RESERVED:
			return "It is being handed to another node.";
		case LEASE_REASON_UNWRITABLE:
			return "The store cannot be written.";
		case LEASE_REASON_BACKING_OFF:
			return "It is free; other nodes go first.";
		case LEASE_REASON_MARGIN:
			return "The safety margin leaves less than half of the lease's ttl.";
		case LEASE_REASON_DISK:
			return "The epoch is not on this node's disk yet.";
		case LEASE_REASON_EXPIRED:
			return "It ran out before a majority of the store renewed it.";
		case LEASE_REASON_NONE:
		case LEASE_REASON_NOT_ABLE:
		case LEASE_REASON_NOT_EAGER:
			break;				/* for each lease in words of its own */
	}
	return "";
}

NodeState
keeper_follower_state(LeaseReason reason)
{
	switch (reason)
	{
		case LEASE_REASON_STARTING:
		case LEASE_REASON_NO_MAJORITY:
		case LEASE_REASON_UNKNOWN_LEASE:
		case LEASE_REASON_EXPIRED:
			return NODE_FENCED;
		default:
			return NODE_FOLLOWER;
	}
}

static const char *
reason_text(const Keeper *keeper, NodeState state, const char *holder,
			ClockTime now)
{
	LeaseReason reason = keeper->lease.reason;

	if (state == NODE_EXCLUDED)
		return psprintf("Another live instance uses the node name \"%s\".",
						keeper->self.name);
	if (keeper->name[0] == '\0')
		return keeper->persisted.lease[0] != '\0' ?
			psprintf("This node was governed by lease \"%s\", and leasehold.lease is empty.",
					 keeper->persisted.lease) :
			state == NODE_FENCED ?
			"This node was governed by a lease, and leasehold.lease is empty." : "";
	if (reason != LEASE_REASON_STARTING && reason != LEASE_REASON_EXPIRED &&
		store_is_silent(keeper, now))
		return why_no_majority(keeper);
	if (store_refuses_writes(keeper))
		return psprintf("The store cannot be written.%s", first_fault(keeper));
	switch (reason)
	{
		case LEASE_REASON_NONE:
			return state != NODE_ACQUIRING ||
				keeper->lease.phase != LEASE_HOLDER ? "" :
				keeper->instance.in_recovery ?
				"It is held, and this standby is being promoted." :
				"It is held, and a majority of the store has yet to learn on which timeline.";
		case LEASE_REASON_NO_MAJORITY:
			return why_no_majority(keeper);
		case LEASE_REASON_UNKNOWN_LEASE:
			return psprintf("The store knows no lease \"%s\".", keeper->name);
		case LEASE_REASON_NOT_ABLE:
			return why_not_able(keeper);
		case LEASE_REASON_NOT_EAGER:
			return "It is free, but leasehold.priority is 0 on this node.";
		case LEASE_REASON_UNWRITABLE:
		case LEASE_REASON_EXPIRED:
			return psprintf("%s%s", keeper_plain_reason(reason, holder),
							first_fault(keeper));
		default:
			return keeper_plain_reason(reason, holder);
	}
}

/* ------------------------------------------------------------------------
 * Status and notice
 * ------------------------------------------------------------------------
 */

static NodeState
node_state(const Keeper *keeper, ClockTime now)
{
	if (keeper->name[0] == '\0')
		return shared_is_governed(&leasehold_shared->fence) ?
			NODE_FENCED : NODE_UNGOVERNED;
	switch (keeper->lease.phase)
	{
		case LEASE_HOLDER:
			if (!rule_may_write(&keeper->lease))
				return NODE_ACQUIRING;
			return lease_deadline(&keeper->lease) == CLOCK_NEVER ?
				NODE_PAUSED : NODE_HOLDER;
		case LEASE_DRAINING:
		case LEASE_RELEASING:
			return NODE_DRAINING;
		case LEASE_ACQUIRING:
			return NODE_ACQUIRING;
		case LEASE_FOLLOWER:
			break;
	}
	if (members_name_verdict(keeper, now) == NAME_TAKEN)
		return NODE_EXCLUDED;
	if (store_is_silent(keeper, now))
		return NODE_FENCED;
	return keeper_follower_state(keeper->lease.reason);
}

static void
fill_member(const Keeper *keeper, int i, StatusMember *to)
{
	const KeeperMember *member = &keeper->member[i];

	strlcpy(to->label, member->conninfo.label, sizeof(to->label));
	to->reachable = keeper->lease.member[i].reachable;
	to->standing = member->standing;
	to->forgot = keeper->lease.member[i].forgot;
	if (member->head_known)
	{
		to->schema_version = member->head.schema_version;
		to->generation = member->head.generation;
		strlcpy(to->id.store_id, member->head.store_id, sizeof(to->id.store_id));
	}
	strlcpy(to->id.sysid, member->server.sysid, sizeof(to->id.sysid));
	to->id.timeline = member->server.timeline;
	to->last_answer = member->last_answer;
	to->latency = member->latency;
	strlcpy(to->sqlstate, member->sqlstate, sizeof(to->sqlstate));
	strlcpy(to->fault, member->fault, sizeof(to->fault));
}

/* The instance is to be known healthy, or not, within the shortest of all. */
static int32
shortest_ttl(const Keeper *keeper, int32 ttl_ms)
{
	int32		of_tables = (int32) (keeper->tables->ttl_min / CLOCK_MS);

	return of_tables > 0 && (ttl_ms == 0 || of_tables < ttl_ms) ? of_tables : ttl_ms;
}

static void
fill_status(const Keeper *keeper, KeeperStatus *status, ClockTime now)
{
	const LeaseRow *best = lease_best_row(&keeper->lease);
	bool		ours = keeper->lease.phase == LEASE_HOLDER ||
		keeper->lease.phase == LEASE_DRAINING;

	memset(status, 0, sizeof(*status));
	status->published_at = now;
	status->state = node_state(keeper, now);
	strlcpy(status->node, keeper->self.name, sizeof(status->node));
	strlcpy(status->lease, keeper->name, sizeof(status->lease));
	if (ours)
		strlcpy(status->holder, keeper->self.name, sizeof(status->holder));
	else if (best != NULL)
		strlcpy(status->holder, best->holder, sizeof(status->holder));
	status->epoch = ours ? keeper->lease.epoch : best ? best->epoch : 0;
	status->deadline = lease_deadline(&keeper->lease);
	status->ttl_ms = best != NULL || ours ? keeper->lease.ttl_ms : 0;
	status->shortest_ttl_ms = shortest_ttl(keeper, status->ttl_ms);
	strlcpy(status->kind, keeper->kind, sizeof(status->kind));
	strlcpy(status->scope, keeper->scope, sizeof(status->scope));
	if (best != NULL)
		strlcpy(status->sync_set, best->wrote.sync_set, sizeof(status->sync_set));
	if (keeper->lease.pinned)
		strlcpy(status->candidacy_fault, keeper_why_no_candidate(keeper),
				sizeof(status->candidacy_fault));
	status->last_renewal = keeper->last_renewal;
	status->renewal_latency = keeper->renewal_latency;
	strlcpy(status->reason, reason_text(keeper, status->state, status->holder, now),
			sizeof(status->reason));
	strlcpy(status->settings_fault, keeper->settings_fault,
			sizeof(status->settings_fault));
	status->incarnation = keeper->lease.incarnation;
	status->majority = lease_majority(&keeper->lease);
	status->nmembers = keeper->n;
	for (int i = 0; i < keeper->n; i++)
		fill_member(keeper, i, &status->member[i]);
	/* sessions, too, take the list that they find, if no lease hangs on it */
	status->roster = keeper_has_no_lease(keeper) ? keeper->persisted.roster :
		keeper->roster;
	status->margin = lease_margin(&keeper->lease, keeper->lease.ttl_ms);
	status->renew_interval = lease_renew_interval(&keeper->lease);
	status->look_interval = lease_look_interval(&keeper->lease);
	status->observation = lease_observation(&keeper->lease, keeper->lease.ttl_ms);
}

static void
publish_notice(const Keeper *keeper, const KeeperStatus *status)
{
	FenceNotice notice = {{0}};

	strlcpy(notice.lease, status->lease[0] ? status->lease :
			keeper->persisted.lease, sizeof(notice.lease));
	strlcpy(notice.node, status->node, sizeof(notice.node));
	strlcpy(notice.holder, status->holder, sizeof(notice.holder));
	notice.epoch = status->epoch;
	for (int i = 0; i < keeper->nnodes; i++)
		if (strcmp(keeper->node[i].name, status->holder) == 0)
			strlcpy(notice.address, keeper->node[i].advertise,
					sizeof(notice.address));
	strlcpy(notice.reason, status->reason, sizeof(notice.reason));
	shared_publish(&leasehold_shared->notice, &notice);
}

static void
log_change(const KeeperStatus *old, const KeeperStatus *new)
{
	static const char *const state_name[] = {
		"ungoverned", "fenced", "follower", "acquiring", "holder", "draining",
		"paused", "excluded"
	};

	if (new->state == NODE_ACQUIRING || old->state == new->state)
		return;
	ereport(LOG,
			(errmsg("leasehold: node \"%s\" is now %s%s%s%s", new->node,
					state_name[new->state],
					new->lease[0] ? " of lease \"" : "", new->lease,
					new->lease[0] ? "\"" : ""),
			 new->state == NODE_HOLDER ?
			 errdetail("The epoch is " INT64_FORMAT ".", new->epoch) :
			 new->reason[0] ? errdetail("%s", new->reason) : 0));
}

void
publish_status(Keeper *keeper, ClockTime now)
{
	KeeperStatus *old = &keeper->status;
	KeeperStatus *new = palloc(sizeof(KeeperStatus));
	bool		changed;

	fill_status(keeper, new, now);
	pg_atomic_write_u32(&leasehold_shared->fence.physical,
						strcmp(keeper->kind, "physical") == 0);
	changed = new->state != old->state || new->ttl_ms != old->ttl_ms ||
		new->shortest_ttl_ms != old->shortest_ttl_ms || new->epoch != old->epoch ||
		strcmp(new->holder, old->holder) != 0 ||
		strcmp(new->reason, old->reason) != 0;
	if (changed || old->published_at == 0 ||
		now - old->published_at >= CLOCK_S ||
		new->last_renewal != old->last_renewal ||
		new->deadline != old->deadline)
	{
		log_change(old, new);
		*old = *new;
		shared_publish(&leasehold_shared->status, new);
		publish_notice(keeper, new);
	}
	if (changed)
		shared_wake_steward();
}

/* ------------------------------------------------------------------------
 * The store's rows
 * ------------------------------------------------------------------------
 */

/* When did this node's beat last change, as seen from here? */
static void
watch_node(const Keeper *keeper, const StoreNode *row, SurveyNode *to,
		   ClockTime now)
{
	ClockTime	observation = lease_observation(&keeper->lease,
												keeper->lease.ttl_ms);

	to->beat_seen = now;
	to->alive = row->incarnation == keeper->lease.incarnation;
	for (int i = 0; i < keeper->nnodes; i++)
	{
		const SurveyNode *known = &keeper->node[i];

		if (strcmp(known->name, row->name) != 0)
			continue;
		if (known->incarnation == row->incarnation && known->beat == row->beat)
		{
			to->beat_seen = known->beat_seen;
			to->alive = known->alive && now - known->beat_seen < observation;
		}
		else
			to->alive = true;
	}
}

/* Who may want the lease of the instance. */
static void
note_candidates(Keeper *keeper)
{
	keeper->ncandidates = 0;
	for (int i = 0; i < keeper->nnodes; i++)
	{
		const SurveyNode *node = &keeper->node[i];
		Candidate  *candidate;

		if (strcmp(node->role, ROLE_UNGOVERNED) == 0)
			continue;
		candidate = &keeper->candidate[keeper->ncandidates++];
		strlcpy(candidate->name, node->name, LEASE_NAME_LEN);
		candidate->priority = node->priority;
		candidate->incarnation = node->incarnation;
		candidate->alive = node->alive;
		candidate->stands = strcmp(node->role, "candidate") == 0;
		candidate->position = 0;
		(void) lsn_parse(node->lsn, &candidate->position);
	}
}

void
publish_nodes(Keeper *keeper, const PGresult *result, ClockTime asked_at,
			  ClockTime now)
{
	StoreNode  *row = palloc(sizeof(StoreNode) * setting_peers_max);
	SurveyNode *fresh = palloc0(sizeof(SurveyNode) * setting_peers_max);
	Survey	   *survey = leasehold_shared->survey;
	int			n = store_read_nodes(result, row, setting_peers_max);

	for (int i = 0; i < n; i++)
	{
		strlcpy(fresh[i].name, row[i].name, sizeof(fresh[i].name));
		fresh[i].incarnation = row[i].incarnation;
		fresh[i].beat = row[i].beat;
		strlcpy(fresh[i].advertise, row[i].advertise, sizeof(fresh[i].advertise));
		strlcpy(fresh[i].role, row[i].role, sizeof(fresh[i].role));
		strlcpy(fresh[i].lsn, row[i].lsn, sizeof(fresh[i].lsn));
		fresh[i].timeline = row[i].timeline;
		fresh[i].priority = row[i].priority;
		strlcpy(fresh[i].version, row[i].version, sizeof(fresh[i].version));
		watch_node(keeper, &row[i], &fresh[i], now);
	}
	memcpy(keeper->node, fresh, sizeof(SurveyNode) * setting_peers_max);
	keeper->nnodes = n;
	keeper->nodes_read = asked_at;
	note_candidates(keeper);
	if (LWLockConditionalAcquire(leasehold_shared->survey_lock, LW_EXCLUSIVE))
	{
		memcpy(survey->node, fresh, sizeof(SurveyNode) * setting_peers_max);
		survey->nnodes = n;
		survey->nodes_at = asked_at;
		LWLockRelease(leasehold_shared->survey_lock);
	}
	pfree(row);
	pfree(fresh);
}

void
publish_leases(Keeper *keeper, const PGresult *result, ClockTime now)
{
	StoreLease *row = palloc(sizeof(StoreLease) * setting_leases_max);
	Survey	   *survey = leasehold_shared->survey;
	int			n = store_read_leases(result, row, setting_leases_max);

	if (LWLockConditionalAcquire(leasehold_shared->survey_lock, LW_EXCLUSIVE))
	{
		for (int i = 0; i < n; i++)
		{
			SurveyLease *to = &survey->lease[i];

			strlcpy(to->name, row[i].name, sizeof(to->name));
			to->row = row[i].row;
			strlcpy(to->kind, row[i].kind, sizeof(to->kind));
			strlcpy(to->scope, row[i].scope, sizeof(to->scope));
		}
		survey->nleases = n;
		survey->leases_at = now;
		LWLockRelease(leasehold_shared->survey_lock);
	}
	pfree(row);
}

void
publish_history(Keeper *keeper, const PGresult *result, ClockTime now)
{
	StoreHistory *row = palloc(sizeof(StoreHistory) * SURVEY_HISTORY_MAX);
	Survey	   *survey = leasehold_shared->survey;
	int			n = store_read_history(result, row, SURVEY_HISTORY_MAX);

	if (LWLockConditionalAcquire(leasehold_shared->survey_lock, LW_EXCLUSIVE))
	{
		for (int i = 0; i < n; i++)
		{
			SurveyHistory *to = &survey->history[i];

			strlcpy(to->lease, row[i].lease, sizeof(to->lease));
			to->epoch = row[i].epoch;
			strlcpy(to->from_node, row[i].from_node, sizeof(to->from_node));
			strlcpy(to->to_node, row[i].to_node, sizeof(to->to_node));
			strlcpy(to->reason, row[i].reason, sizeof(to->reason));
			to->at_us = row[i].at_us;
		}
		survey->nhistory = n;
		survey->history_at = now;
		LWLockRelease(leasehold_shared->survey_lock);
		keeper->history_epoch = keeper->lease.highest_epoch;
	}
	pfree(row);
}
