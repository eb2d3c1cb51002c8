/*
 * rejoin.c
 *		The steps of a rejoin, in their order.
 *
 * Nothing is changed before it is known who holds the lease, what has to be
 * done, and what would be lost by it.  From then on every step may be
 * interrupted: the next run goes on.
 */
#include "rejoin.h"

#include <time.h>
#include <unistd.h>

#include "compare.h"
#include "follow.h"
#include "holder.h"
#include "lost.h"
#include "members.h"
#include "node.h"
#include "restore.h"
#include "work.h"

/* ------------------------------------------------------------------------
 * Whether it may start as it is
 * ------------------------------------------------------------------------
 */

static ExitCode
ready_as_it_is(void)
{
	return options.ahead ? REJOIN_NOTHING : REJOIN_READY;
}

static bool
has_timeline(const Local *local, uint32 timeline)
{
	if (timeline == 0)
		return true;			/* never held */
	return local->history_known ? plan_contains(&local->history, timeline) :
		timeline == Max(local->control->checkPointCopy.ThisTimeLineID,
						local->control->minRecoveryPointTLI);
}

/* Of another group altogether? */
static void
refuse_foreign(const Node *node, const Local *local, const StoreView *view)
{
	char	   *sysid = psprintf(UINT64_FORMAT, local->control->system_identifier);

	if (strcmp(view->kind, "physical") != 0)
		refuse(REJOIN_CONFIG, psprintf("lease \"%s\" is of kind \"%s\"", node->lease, view->kind),
			   "Only the members of a physical group follow one another.", NULL);
	if (view->sysid[0] != '\0' && strcmp(view->sysid, sysid) != 0)
		refuse(REJOIN_FOREIGN, "this data directory is of another cluster",
			   psprintf("Lease \"%s\" belongs to system identifier %s; that of \"%s\" is %s.",
						node->lease, view->sysid, node->datadir, sysid), NULL);
}

/* The lease says that it is ours: then there is nobody to follow. */
static void
refuse_impostor(const Node *node, const Local *local, const Work *work,
				const StoreView *view)
{
	if (work->phase == WORK_REWINDING)
		refuse(REJOIN_FOREIGN, "this node holds the lease, but its data directory is half rewound",
			   psprintf("An earlier run in \"%s\" was interrupted.", node->datadir), NULL);
	if (!has_timeline(local, view->timeline))
		refuse(REJOIN_FOREIGN, "this node holds the lease, but not with this data directory",
			   psprintf("The lease is held on timeline %u, which is not in the history of \"%s\".",
						view->timeline, node->datadir),
			   "Find the data directory that held it, or let another node take the lease.");
}

/* ------------------------------------------------------------------------
 * Who holds the lease
 * ------------------------------------------------------------------------
 */

/* Why there is nobody to follow, for now. */
typedef struct Obstacle
{
	ExitCode	code;
	char	   *message;
	char	   *detail;
} Obstacle;

/* Is there one?  Fills *obstacle if not; *as_it_is: it may start without. */
static bool
look_for_holder(const Node *node, const Local *local, const Work *work,
				const Roster *known, Holder *holder, Obstacle *obstacle,
				bool *as_it_is)
{
	StoreView	view;

	members_ask(node, known, &view);
	obstacle->detail = view.trouble;
	if (view.answer == PLAN_HOLDER_KNOWN || view.answer == PLAN_HOLDER_NONE)
		refuse_foreign(node, local, &view);
	switch (view.answer)
	{
		case PLAN_HOLDER_TOO_FEW:
			obstacle->code = REJOIN_STORE;
			obstacle->message = view.majority == 0 ? "too few members of the store answer" :
				psprintf("too few members of the store answer (%d, needed %d)", view.counted, view.majority);
			return false;
		case PLAN_HOLDER_NO_LEASE:
			obstacle->code = REJOIN_CONFIG;
			obstacle->message = psprintf("the store does not know lease \"%s\"", node->lease);
			return false;
		case PLAN_HOLDER_UNDECIDED:
			obstacle->code = REJOIN_NO_HOLDER;
			obstacle->message = psprintf("lease \"%s\" is changing hands", node->lease);
			return false;
		case PLAN_HOLDER_NONE:
			obstacle->code = REJOIN_NO_HOLDER;
			obstacle->message = psprintf("nobody holds lease \"%s\"", node->lease);
			*as_it_is = work->phase == WORK_NONE && has_timeline(local, view.timeline);
			return false;
		case PLAN_HOLDER_KNOWN:
			break;
	}
	if (strcmp(view.holder, node->name) == 0)
	{
		refuse_impostor(node, local, work, &view);
		say("This node holds lease \"%s\": it may start as it is.", node->lease);
		exit(ready_as_it_is());
	}
	obstacle->code = REJOIN_HOLDER;
	obstacle->message = psprintf("\"%s\" holds lease \"%s\" and cannot be followed",
								 view.holder, node->lease);
	return holder_reach(node, view.holder, view.advertise, holder, &obstacle->detail);
}

/* Returns with a holder, or ends the program. */
static void
find_holder(const Node *node, const Local *local, const Work *work,
			Holder *holder)
{
	ClockTime	deadline = clock_now() + options.wait * CLOCK_S;
	Roster		known;

	members_list_on_disk(psprintf("%s/leasehold.state", node->datadir), &known);
	for (;;)
	{
		Obstacle	obstacle = {0};
		bool		as_it_is = false;

		if (look_for_holder(node, local, work, &known, holder, &obstacle, &as_it_is))
			return;
		/* It can do no harm, and without it nobody may be left to take over. */
		if (local->standby_signal && work->phase == WORK_NONE)
		{
			say("Not known whom to follow (%s); this is a standby already and may start as it is.",
				obstacle.message);
			exit(ready_as_it_is());
		}
		if (as_it_is)
		{
			say("Nobody holds lease \"%s\", and nobody has taken it since this node: it may start as it is.",
				node->lease);
			exit(ready_as_it_is());
		}
		if (clock_now() >= deadline || obstacle.code == REJOIN_CONFIG)
			refuse(obstacle.code, obstacle.message, obstacle.detail, NULL);
		pg_usleep(500000L);
	}
}

/* ------------------------------------------------------------------------
 * What has to be done
 * ------------------------------------------------------------------------
 */

/* Up to where do its pages carry changes? */
static void
find_data_end(const Node *node, const Local *local, const Lost *lost,
			  PlanLocal *plan)
{
	const ControlFileData *control = local->control;
	XLogRecPtr	checkpoint = node_checkpoint_end(node, local);

	plan->data_end_known = true;
	if (plan->is_backup)
	{
		plan->data_end = control->minRecoveryPoint;
		plan->data_end_known = local->in_recovery;
	}
	else if (local->in_recovery)
		plan->data_end = Max(control->minRecoveryPoint, Max(checkpoint, control->checkPoint));
	else if (local->clean)
	{
		plan->data_end = checkpoint;
		plan->data_end_known = checkpoint != InvalidXLogRecPtr;
	}
	else
	{
		/* it stopped anywhere: the log tells, if all of it is there */
		plan->data_end = Max(lost->to, control->checkPoint + 1);
		plan->data_end_known = lost->readable;
	}
}

/*
 * Two timelines may have the same number.  The last one that both histories
 * name has to be the same also in what stands on it.
 */
static bool
is_the_same_log(const Node *node, const Local *local, const PlanLocal *plan,
				const PlanFork *fork, const Holder *holder)
{
	XLogRecPtr	end = Min(plan->data_end, fork->lsn);
	XLogRecPtr	begin = 0;

	for (int i = 0; i < local->history.n; i++)
		if (local->history.timeline[i].id == fork->id)
			begin = local->history.timeline[i].begin;
	/* the end of a copy is that of its source, which need not be here yet */
	return !plan->data_end_known || plan->is_backup ||
		compare_log(node, local, holder, fork->id, begin, end);
}

static PlanKind
decide(const Node *node, const Local *local, const Work *work,
	   const Holder *holder, PlanFork *fork, Lost *lost, PlanReason *reason)
{
	PlanLocal	plan = {0};
	PlanKind	kind;

	memset(lost, 0, sizeof(*lost));
	memset(fork, 0, sizeof(*fork));
	if (local->history_known)
		*fork = plan_fork(&local->history, &holder->history);
	plan.timeline = Max(local->control->checkPointCopy.ThisTimeLineID,
						local->control->minRecoveryPointTLI);
	plan.was_primary = !local->in_recovery;
	plan.is_backup = local->backup_label;
	plan.rewindable = local->control->data_checksum_version != 0 ||
		local->control->wal_log_hints;
	if (work->phase == WORK_REWINDING)
		plan.half_rewound = work->timeline;
	else if (fork->found)
	{
		if (fork->lsn != PLAN_END_OPEN)
			lost_read(node, local, fork, lost);
		find_data_end(node, local, lost, &plan);
	}
	kind = plan_decide(&plan, fork, holder->timeline, reason);
	if (kind == PLAN_FOLLOW && !is_the_same_log(node, local, &plan, fork, holder))
	{
		*reason = PLAN_COLLISION;
		kind = PLAN_BACKUP;
	}
	if (kind == PLAN_FOLLOW)
		lost_read_ahead(node, local, fork, &holder->history, lost);
	return kind;
}

/* ------------------------------------------------------------------------
 * Doing it
 * ------------------------------------------------------------------------
 */

static ExitCode
follow(Work *work, const Node *node, const Local *local, const Holder *holder,
	   Lost *lost)
{
	bool		received = lost->records > 0;
	bool		move = received || lost->n_strangers > 0;
	const char *what = received ? "That log, received but not applied," :
		"The history of a timeline that the holder never was on";
	char	   *kept = move ? lost_directory(node, lost) : "";

	if (received)
	{
		lost_find_names(lost, holder);
		lost_tell(lost);
	}
	if (!move && work->phase == WORK_NONE && follow_is_set(node, local, holder))
	{
		say("Nothing to do: this is a standby of %s.", holder->name);
		return ready_as_it_is();
	}
	if (move && !can_be_made(kept))
		refuse(REJOIN_CONFIG, psprintf("directory \"%s\" cannot be made", kept), NULL,
			   "Name another place with --keep-wal.");
	if (options.dry_run)
	{
		if (move)
			say("%s would be moved to \"%s\".", what, kept);
		say("This node would be made a standby of %s.", holder->name);
		return REJOIN_READY;
	}
	if (move)
	{
		lost_set_aside(node, local, lost, kept);
		say("%s now stands in \"%s\".", what, kept);
	}
	follow_set(node, holder, node->datadir);
	if (work->phase != WORK_NONE)
		work_close(work);
	say("This node starts as a standby of %s (%s), timeline %u.",
		holder->name, holder->label, holder->timeline);
	return REJOIN_READY;
}

/* What pg_rewind needs before it starts; false, having said why, if it fails. */
static bool
prepare_rewind(Work *work, const Node *node, Local *local,
			   const PlanFork *fork, const Holder *holder)
{
	char	   *why = NULL;

	if (work->phase == WORK_REWINDING)
	{
		if (work->kept[0] != '\0')
			lost_put_back(node, work->kept);
	}
	else if (!local->clean)
	{
		Lost		after;

		if (!restore_recover(node))
		{
			say("Crash recovery failed.");
			return false;
		}
		/* its end was written to the log, and is needed for a second try */
		node_read_local(node, local);
		lost_read(node, local, fork, &after);
		if (after.records > 0)
			lost_keep(node, local, &after, work->kept, true);
	}
	if (holder_wait_checkpoint(holder, &why))
		return true;
	say("The holder is not ready to be rewound to: %s", why);
	return false;
}

static ExitCode
rewind_(Work *work, const Node *node, Local *local, const PlanFork *fork,
		const Holder *holder, const Lost *lost)
{
	if (!prepare_rewind(work, node, local, fork, holder) ||
		!restore_rewind(work, node, holder))
	{
		if (!options.allow_backup)
			refuse(REJOIN_FAILED, "the data directory could not be rewound",
				   "What failed stands above.",
				   "Correct that and run it again, or allow a new copy with --allow-basebackup.");
		restore_backup(work, node, holder);
	}
	else
	{
		follow_set(node, holder, node->datadir);
		work_close(work);
	}
	if (lost->records > 0 && !lost_matters(lost))
	{
		remove_tree(work->kept);
		/* ours, unless there are others in it */
		rmdir(parent_of(work->kept));
	}
	say("This node starts as a standby of %s (%s), timeline %u.",
		holder->name, holder->label, holder->timeline);
	return REJOIN_READY;
}

/* Better now than half-way. */
static void
check_places(const Node *node, const Work *work, PlanKind plan)
{
	if (work->kept[0] != '\0' && !can_be_made(work->kept))
		refuse(REJOIN_CONFIG, psprintf("directory \"%s\" cannot be made", work->kept), NULL,
			   "Name another place with --keep-wal.");
	if (!can_be_made(work->directory))
		refuse(REJOIN_CONFIG, psprintf("directory \"%s\" cannot be made", work->directory), NULL,
			   "Name another place with --work-dir, the same in every run.");
	if (plan == PLAN_BACKUP)
		restore_check_backup(node);
}

static ExitCode
restore(Work *work, const Node *node, Local *local, const PlanFork *fork,
		const Holder *holder, Lost *lost, PlanKind plan, PlanReason reason)
{
	bool		keep = lost->records > 0;

	say("This node cannot simply follow %s: %s.", holder->name, plan_reason_text(reason));
	if (lost->range != NULL)
	{
		lost_find_names(lost, holder);
		lost_tell(lost);
	}
	if (plan == PLAN_BACKUP && !options.allow_backup)
		refuse(REJOIN_NEEDS_BACKUP, "only a new copy of the holder's data helps",
			   psprintf("It cannot be rewound: %s.", plan_reason_text(reason)),
			   "Run it with --allow-basebackup, or take a base backup by hand.");
	if (keep)
		work->kept = lost_directory(node, lost);
	check_places(node, work, plan);
	if (keep)
	{
		if (options.dry_run)
			say("That log would be kept in \"%s\".", work->kept);
		else
		{
			lost_keep(node, local, lost, work->kept, true);
			if (lost_matters(lost))
				say("That log is kept in \"%s\".", work->kept);
		}
	}
	if (options.dry_run)
	{
		say(plan == PLAN_REWIND ? "It would be rewound." : "A base backup would take its place.");
		return REJOIN_READY;
	}
	if (plan == PLAN_REWIND)
		return rewind_(work, node, local, fork, holder, lost);
	restore_backup(work, node, holder);
	say("This node starts as a standby of %s (%s), timeline %u.",
		holder->name, holder->label, holder->timeline);
	return REJOIN_READY;
}

/* ------------------------------------------------------------------------
 * All of it
 * ------------------------------------------------------------------------
 */

/* Where an earlier run was interrupted. */
static void
resume(Work *work, Node *node)
{
	WorkProgress progress;
	char	   *saved = psprintf("%s/own/postgresql.conf", work->directory);

	if (work->phase == WORK_NONE)
		return;
	say("An earlier run was interrupted; going on from there.");
	if (work->phase == WORK_SWAPPING)
	{
		if (!options.dry_run)
			restore_swap(work, node);
		return;
	}
	progress = work->phase == WORK_REWOUND ? WORK_FINISHED : work_progress(work, node);
	if (progress == WORK_OVERTAKEN)
	{
		char	   *aside = psprintf("%s-" INT64_FORMAT, work->directory, (int64) time(NULL));

		say("The data directory has been changed since: what the earlier run had saved is left in \"%s\".", aside);
		if (!options.dry_run && rename(work->directory, aside) != 0)
			refuse(REJOIN_FAILED, psprintf("could not rename \"%s\": %m", work->directory), NULL, NULL);
		work->phase = WORK_NONE;
	}
	else if (options.dry_run)
	{
		/* the one in the data directory may be the holder's */
		if (node->config_file == NULL && file_exists(saved))
			node->config_file = saved;
	}
	else if (progress == WORK_FINISHED)
		restore_finish(work, node);
	else
		work_restore_own(work, node, node->datadir);
}

static bool
is_governed(const Node *node)
{
	if (strcmp(node->store, "embedded") == 0)
		refuse(REJOIN_CONFIG, "the store is embedded",
			   "Its only member is this instance itself: there is nobody to join.", NULL);
	if (node->lease[0] == '\0')
		return false;
	if (node->store[0] == '\0')
		refuse(REJOIN_CONFIG, "leasehold.store is empty",
			   psprintf("Nobody can tell who holds lease \"%s\".", node->lease), NULL);
	return true;
}

ExitCode
rejoin(void)
{
	Node		node;
	Local		local;
	Work		work;
	Holder		holder;
	PlanFork	fork;
	Lost		lost;
	PlanReason	reason;
	PlanKind	plan;

	node_find_datadir(&node);
	work_open(&work, &node);
	/* between the two renamings there is no data directory */
	if (work.phase == WORK_SWAPPING && !is_directory(node.datadir))
		resume(&work, &node);
	node_locate(&node, program_path);
	if (!options.ahead)
	{
		node_lock(&node);
		node_refuse_running(&node);
	}
	work_open(&work, &node);
	resume(&work, &node);

	node_read_settings(&node);
	if (!is_governed(&node))
	{
		say("No lease governs this instance (leasehold.lease is empty): nothing to do.");
		return ready_as_it_is();
	}
	node_read_local(&node, &local);
	find_holder(&node, &local, &work, &holder);
	if (holder.sysid != local.control->system_identifier)
		refuse(REJOIN_FOREIGN, "this data directory is of another cluster than the holder's",
			   psprintf("The system identifier of %s is " UINT64_FORMAT ", that of \"%s\" is " UINT64_FORMAT ".",
						holder.name, holder.sysid, node.datadir, local.control->system_identifier), NULL);
	if (!holder.slot_exists)
		say("The replication slot \"%s\" does not exist at %s yet; streaming begins when that node has made it.",
			holder_slot_name(&node), holder.name);
	plan = decide(&node, &local, &work, &holder, &fork, &lost, &reason);
	if (plan == PLAN_FOLLOW)
		return follow(&work, &node, &local, &holder, &lost);
	return restore(&work, &node, &local, &fork, &holder, &lost, plan, reason);
}
