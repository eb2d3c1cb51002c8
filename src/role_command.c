/*
 * role_command.c
 *		Telling leasehold.role_command of every change of role.
 *
 * The command is run by /bin/sh, one at a time, in the order of the changes,
 * with the lease, the old state, the new state and the epoch as arguments and
 * in the environment.  It is not waited for: one that hangs keeps only the
 * later ones from being run.
 *
 * "acquiring" lasts milliseconds and is not told.  Two changes that follow each
 * other faster than the steward wakes up are told as one.  What was told last
 * stands in shared memory, so that a steward started anew goes on from there.
 *
 * Called by the steward.  Must never wait for a command.  Never logs the
 * command, which may contain what others should not read.
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

#define QUEUE_MAX	8

extern char **environ;

typedef struct Change
{
	char		lease[LEASEHOLD_NAME_LEN];
	char		node[LEASEHOLD_NAME_LEN];
	NodeState	old_state;
	NodeState	new_state;
	int64		epoch;
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

bool
role_command_busy(void)
{
	return running_pid != 0 || queued > 0;
}

/* ------------------------------------------------------------------------
 * The queue
 * ------------------------------------------------------------------------
 */

static void
drop_oldest(void)
{
	ereport(LOG,
			(errmsg("leasehold: the role command is not told of the change from %s to %s",
					state_name[queue[0].old_state],
					state_name[queue[0].new_state]),
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
	if (setting_role_command == NULL || setting_role_command[0] == '\0')
		return;
	if (queued == QUEUE_MAX)
		drop_oldest();
	change = &queue[queued++];
	strlcpy(change->lease, last_lease, sizeof(change->lease));
	strlcpy(change->node, status->node, sizeof(change->node));
	change->old_state = told;
	change->new_state = status->state;
	change->epoch = status->epoch;
}

void
role_command_give_up(void)
{
	while (queued > 0)
		drop_oldest();
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
	appendStringInfo(&out, " " INT64_FORMAT, change->epoch);
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
	env = palloc(sizeof(char *) * (n + 6));
	for (int i = 0; i < n; i++)
		if (strncmp(environ[i], "LEASEHOLD_", 10) != 0)
			env[to++] = environ[i];
	env[to++] = psprintf("LEASEHOLD_LEASE=%s", change->lease);
	env[to++] = psprintf("LEASEHOLD_NODE=%s", change->node);
	env[to++] = psprintf("LEASEHOLD_OLD=%s", state_name[change->old_state]);
	env[to++] = psprintf("LEASEHOLD_NEW=%s", state_name[change->new_state]);
	env[to++] = psprintf("LEASEHOLD_EPOCH=" INT64_FORMAT, change->epoch);
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
	if (setting_role_command == NULL || setting_role_command[0] == '\0')
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
				(errmsg("leasehold: the role command failed for the change from %s to %s",
						state_name[running.old_state],
						state_name[running.new_state]),
				 errdetail_internal("%s", wait_result_to_str(status))));
}

void
role_command_step(void)
{
	if (running_pid != 0)
		reap();
	while (running_pid == 0 && queued > 0)
		start_next();
}
