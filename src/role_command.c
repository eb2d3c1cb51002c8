/*
 * role_command.c
 *		Telling leasehold.role_command of every change of role.
 *
 * The command is run by /bin/sh, one at a time, with the lease, the old state,
 * the new state, the epoch and the lease's scope as arguments and in the
 * environment.  It is not waited for: one that hangs keeps only the later ones
 * from being run.
 *
 * Changes of the instance's role are told in their order; "acquiring" lasts
 * milliseconds and is not told.  Leases of tables may be very many, and change
 * all together: of these only gain and loss are told, and nothing is queued.
 * Whichever was last told otherwise than it stands now is told when there is
 * time for it, so that none is left out and a lease that changes often is told
 * as it stands in the end.
 *
 * Two changes that follow each other faster than the steward wakes up are told
 * as one.  What was told last stands in shared memory, so that a steward started
 * anew goes on from there.
 *
 * Called by the steward.  Must never wait for a command, nor for whoever has the
 * lock of the status.  Never logs the command, which may contain what others
 * should not read.
 */
#include "postgres.h"

#include <sys/wait.h>
#include <unistd.h>

#include "lib/stringinfo.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "storage/latch.h"

#include "role_command.h"
#include "shell.h"
#include "tables.h"

#define QUEUE_MAX	8
#define LOOK_AGAIN	(100 * CLOCK_MS)

extern char **environ;

typedef struct Change
{
	char		lease[LEASEHOLD_NAME_LEN];
	char		node[LEASEHOLD_NAME_LEN];
	NodeState	old_state;
	NodeState	new_state;
	int64		epoch;
	const char *scope;
} Change;

static const char *const state_name[] = {
	"ungoverned", "fenced", "follower", "acquiring", "holder", "draining",
	"paused", "excluded"
};

static Change queue[QUEUE_MAX];
static int	queued = 0;
static Change running;
static pid_t running_pid = 0;
static char last_lease[LEASEHOLD_NAME_LEN];
static uint32 changes_told = 0; /* of leases of tables: all up to this one */
static int	next_slot = 0;		/* where to look for more of them */

static void
child_ended(SIGNAL_ARGS)
{
	int			save_errno = errno;

	SetLatch(MyLatch);
	errno = save_errno;
}

void
role_command_init(void)
{
	/* a governed instance starts fenced, whatever it was before */
	uint32		ungoverned = NODE_UNGOVERNED;
	DurableState persisted;

	shared_read(&leasehold_shared->persisted, &persisted);
	strlcpy(last_lease, persisted.lease, sizeof(last_lease));
	if (shared_is_governed(fence_shared))
		pg_atomic_compare_exchange_u32(&leasehold_shared->role_told,
									   &ungoverned, NODE_FENCED);
	pqsignal(SIGCHLD, child_ended);
}

static bool
is_set(void)
{
	return setting_role_command != NULL && setting_role_command[0] != '\0';
}

static bool
tables_have_changed(void)
{
	return pg_atomic_read_u32(&leasehold_tables->changes) != changes_told;
}

bool
role_command_busy(void)
{
	return running_pid != 0 || queued > 0 || tables_have_changed();
}

ClockTime
role_command_due(ClockTime now)
{
	/* the end of a command wakes the process */
	return running_pid == 0 && tables_have_changed() ? now + LOOK_AGAIN : CLOCK_NEVER;
}

/* ------------------------------------------------------------------------
 * The queue
 * ------------------------------------------------------------------------
 */

static void
drop_oldest(void)
{
	ereport(LOG,
			(errmsg("leasehold: the role command is not told of the change from %s to %s of lease \"%s\"",
					state_name[queue[0].old_state],
					state_name[queue[0].new_state], queue[0].lease),
			 errdetail("An earlier command is still running.")));
	queued--;
	memmove(&queue[0], &queue[1], queued * sizeof(Change));
}

void
role_command_watch(const KeeperStatus *status)
{
	NodeState	told = (NodeState) pg_atomic_read_u32(&leasehold_shared->role_told);
	Change	   *change;

	if (status->published_at == 0 || status->state == NODE_ACQUIRING ||
		status->state == told)
		return;
	pg_atomic_write_u32(&leasehold_shared->role_told, status->state);
	if (status->lease[0] != '\0')
		strlcpy(last_lease, status->lease, sizeof(last_lease));
	if (!is_set())
		return;
	if (queued == QUEUE_MAX)
		drop_oldest();
	change = &queue[queued++];
	strlcpy(change->lease, last_lease, sizeof(change->lease));
	strlcpy(change->node, status->node, sizeof(change->node));
	change->old_state = told;
	change->new_state = status->state;
	change->epoch = status->epoch;
	change->scope = "instance";
}

/* ------------------------------------------------------------------------
 * Leases of tables
 * ------------------------------------------------------------------------
 */

static bool
has_it(NodeState state)
{
	return state == NODE_HOLDER || state == NODE_DRAINING || state == NODE_PAUSED;
}

/*
 * Is it to be told?  One that is being acquired may have yet to apply what was
 * written before: until then it is not held to any purpose.
 */
static bool
judge_slot(int at, Change *change)
{
	TableSlot  *slot = &leasehold_tables->slot[at];
	const TableStatus *status = &leasehold_tables->status[at];
	NodeState	told = slot->role_told == NODE_UNGOVERNED ? NODE_FENCED : slot->role_told;
	NodeState	now = status->state == NODE_ACQUIRING ? NODE_FOLLOWER : status->state;

	if ((!has_it(told) && !has_it(now)) ||
		(told == now && slot->role_epoch == status->epoch))
		return false;
	strlcpy(change->lease, slot->name, sizeof(change->lease));
	strlcpy(change->node, settings_node_name(), sizeof(change->node));
	change->old_state = told;
	change->new_state = now;
	change->epoch = status->epoch;
	change->scope = "tables";
	slot->role_told = now;
	slot->role_epoch = status->epoch;
	return true;
}

/* The next one that is to be told, which counts as told then. */
static bool
take_from_tables(Change *change)
{
	uint32		changes = pg_atomic_read_u32(&leasehold_tables->changes);
	bool		found = false;
	int			n;

	/* whoever has the lock may have been stopped */
	if (changes == changes_told ||
		!LWLockConditionalAcquire(leasehold_tables->status_lock, LW_SHARED))
		return false;
	n = (int) pg_atomic_read_u32(&leasehold_tables->nslots);
	for (int i = 0; i < n && !found; i++)
	{
		int			at = (next_slot + i) % n;

		found = judge_slot(at, change);
		if (found)
			next_slot = at + 1;
	}
	LWLockRelease(leasehold_tables->status_lock);
	if (!found)
		changes_told = changes;
	return found;
}

void
role_command_give_up(void)
{
	Change		change;
	int			n = 0;

	while (queued > 0)
		drop_oldest();
	while (is_set() && take_from_tables(&change))
		n++;
	if (n > 0)
		ereport(LOG,
				(errmsg_plural("leasehold: the role command is not told of the change of %d lease of tables",
							   "leasehold: the role command is not told of the changes of %d leases of tables",
							   n, n),
				 errdetail("An earlier command is still running.")));
}

/* ------------------------------------------------------------------------
 * The command line and its surroundings
 * ------------------------------------------------------------------------
 */

static void
append_quoted(StringInfo out, const char *text)
{
	appendStringInfoString(out, " '");
	for (; *text != '\0'; text++)
	{
		if (*text == '\'')
			appendStringInfoString(out, "'\\''");
		else
			appendStringInfoChar(out, *text);
	}
	appendStringInfoChar(out, '\'');
}

static char *
command_line(const Change *change)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoString(&out, setting_role_command);
	append_quoted(&out, change->lease);
	append_quoted(&out, state_name[change->old_state]);
	append_quoted(&out, state_name[change->new_state]);
	appendStringInfo(&out, " " INT64_FORMAT " %s", change->epoch, change->scope);
	return out.data;
}

static char **
environment(const Change *change)
{
	int			n = 0;
	int			to = 0;
	char	  **env;

	while (environ[n] != NULL)
		n++;
	env = palloc(sizeof(char *) * (n + 7));
	for (int i = 0; i < n; i++)
		if (strncmp(environ[i], "LEASEHOLD_", 10) != 0)
			env[to++] = environ[i];
	env[to++] = psprintf("LEASEHOLD_LEASE=%s", change->lease);
	env[to++] = psprintf("LEASEHOLD_NODE=%s", change->node);
	env[to++] = psprintf("LEASEHOLD_OLD=%s", state_name[change->old_state]);
	env[to++] = psprintf("LEASEHOLD_NEW=%s", state_name[change->new_state]);
	env[to++] = psprintf("LEASEHOLD_EPOCH=" INT64_FORMAT, change->epoch);
	env[to++] = psprintf("LEASEHOLD_SCOPE=%s", change->scope);
	env[to] = NULL;
	return env;
}

/* ------------------------------------------------------------------------
 * One at a time
 * ------------------------------------------------------------------------
 */

static void
start_next(void)
{
	int			error;

	running = queue[0];
	queued--;
	memmove(&queue[0], &queue[1], queued * sizeof(Change));
	/* the setting may have been emptied meanwhile */
	if (!is_set())
		return;
	error = spawn_shell(command_line(&running), environment(&running),
						  &running_pid);
	if (error == 0)
		return;
	running_pid = 0;
	errno = error;
	ereport(LOG, (errmsg("leasehold: could not run the role command: %m")));
}

static void
reap(void)
{
	int			status;
	pid_t		pid = waitpid(running_pid, &status, WNOHANG);

	if (pid == 0 || (pid < 0 && errno == EINTR))
		return;
	running_pid = 0;
	if (pid > 0 && status != 0)
		ereport(LOG,
				(errmsg("leasehold: the role command failed for the change from %s to %s of lease \"%s\"",
						state_name[running.old_state],
						state_name[running.new_state], running.lease),
				 errdetail_internal("%s", wait_result_to_str(status))));
}

void
role_command_step(void)
{
	Change		unheard;

	if (running_pid != 0)
		reap();
	while (running_pid == 0 && queued > 0)
		start_next();
	if (running_pid == 0 && is_set() && take_from_tables(&queue[0]))
	{
		queued = 1;
		start_next();
	}
	/* what changes while nobody is to be told is not told later */
	if (!is_set())
		while (take_from_tables(&unheard))
			 /* none is kept */ ;
}
