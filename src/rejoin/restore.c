/*
 * restore.c
 *		Bringing a data directory that has diverged to the holder's history.
 */
#include "restore.h"

#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/file_utils.h"
#include "follow.h"

/* ------------------------------------------------------------------------
 * Crash recovery
 * ------------------------------------------------------------------------
 */

/* The prompt of single-user mode. */
static void
ignore_line(char *line, void *arg)
{
}

bool
restore_recover(const Node *node)
{
	char	   *argv[20];
	int			n = 0;

	/* in single-user mode the server refuses to be a standby */
	remove_tree(psprintf("%s/standby.signal", node->datadir));
	remove_tree(psprintf("%s/recovery.signal", node->datadir));

	argv[n++] = program(node, "postgres");
	argv[n++] = "--single";
	argv[n++] = "-F";
	argv[n++] = "-D";
	argv[n++] = node->datadir;
	/* the checkpoint at its end would remove what pg_rewind has to read */
	argv[n++] = "-c";
	argv[n++] = "wal_keep_size=2147483647MB";
	argv[n++] = "-c";
	argv[n++] = "max_slot_wal_keep_size=-1";
	if (node->config_file != NULL)
	{
		argv[n++] = "-c";
		argv[n++] = psprintf("config_file=%s", node->config_file);
	}
	argv[n++] = "template1";
	argv[n] = NULL;
	say("Running crash recovery.");
	return run_program(argv, ignore_line, NULL, NULL) == 0;
}

/* ------------------------------------------------------------------------
 * Rewinding
 * ------------------------------------------------------------------------
 */

/* Where the settings are, though a link to them has been taken away. */
static char *
reachable_configuration(const Node *node)
{
	struct stat st;
	char	   *conf = psprintf("%s/postgresql.conf", node->datadir);

	if (node->config_file != NULL)
		return node->config_file;
	if (lstat(conf, &st) == 0 && S_ISLNK(st.st_mode))
		return realpath(conf, NULL);
	return NULL;
}

/*
 * Told of its progress, pg_rewind says this before it changes the first file;
 * what fails earlier has changed nothing.
 */
static void
take_rewind_line(char *line, void *arg)
{
	bool	   *begun = arg;

	if (strncmp(line, "pg_rewind: need to copy ", 24) == 0)
		*begun = true;
	/* every second, with the end of the line only at the end */
	if (strstr(line, " kB (") == NULL)
		say("%s", line);
}

static bool
run_rewind(const Node *node, const Holder *holder, bool *begun)
{
	char	   *config = reachable_configuration(node);
	char	   *argv[12];
	int			n = 0;

	*begun = false;

	argv[n++] = program(node, "pg_rewind");
	argv[n++] = "--progress";
	argv[n++] = psprintf("--target-pgdata=%s", node->datadir);
	argv[n++] = psprintf("--source-server=%s", holder_source(holder, true));
	if (node->restore_command[0] != '\0')
		argv[n++] = "--restore-target-wal";
	if (config != NULL)
		argv[n++] = psprintf("--config-file=%s", config);
	argv[n] = NULL;
	work_remove_links(node);
	return run_program(argv, take_rewind_line, begun, RUN_MERGE) == 0;
}

void
restore_finish(Work *work, const Node *node)
{
	if (work->phase != WORK_REWOUND)
		work_note(work, WORK_REWOUND);
	work_restore_own(work, node, node->datadir);
}

bool
restore_rewind(Work *work, const Node *node, const Holder *holder)
{
	bool		again = work->phase == WORK_REWINDING;
	bool		begun;

	work->timeline = holder->timeline;
	if (!again)
	{
		work_save_own(work, node);
		work_note(work, WORK_REWINDING);
	}
	work_save_log(work, node);
	if (run_rewind(node, holder, &begun))
	{
		restore_finish(work, node);
		return true;
	}
	/* whatever it has come to: the configuration stays this node's */
	work_restore_own(work, node, node->datadir);
	if (!begun && !again)
		work_close(work);
	return false;
}

/* ------------------------------------------------------------------------
 * A fresh copy
 * ------------------------------------------------------------------------
 */

static void
find_tablespace(const char *name, void *arg)
{
	*(bool *) arg = true;
}

void
restore_check_backup(const Node *node)
{
	struct stat here;
	struct stat above;
	bool		tablespaces = false;

	each_entry(psprintf("%s/pg_tblspc", node->datadir), find_tablespace, &tablespaces);
	if (tablespaces)
		refuse(REJOIN_NEEDS_BACKUP, "a base backup with tablespaces has to be taken by hand",
			   "Their directories cannot be exchanged together with the data directory.", NULL);
	if (stat(node->datadir, &here) == 0 &&
		stat(parent_of(node->datadir), &above) == 0 && here.st_dev != above.st_dev)
		refuse(REJOIN_NEEDS_BACKUP, "a base backup into a mount point has to be taken by hand",
			   psprintf("\"%s\" is a mount point and cannot be renamed.", node->datadir), NULL);
}

static bool
run_backup(const Node *node, const Holder *holder, const char *target,
		   const char *stamp)
{
	char	   *argv[12];
	int			n = 0;
	char		link[MAXPGPATH];
	ssize_t		length = readlink(psprintf("%s/pg_wal", node->datadir), link, sizeof(link) - 1);

	argv[n++] = program(node, "pg_basebackup");
	argv[n++] = "-D";
	argv[n++] = unconstify(char *, target);
	argv[n++] = "-d";
	argv[n++] = holder_source(holder, false);
	argv[n++] = "-X";
	argv[n++] = "stream";
	argv[n++] = "-c";
	argv[n++] = "fast";
	argv[n++] = "--no-password";
	/* the log stays on the volume that it is on */
	if (length > 0)
	{
		link[length] = '\0';
		argv[n++] = psprintf("--waldir=%s-%s", link, stamp);
	}
	argv[n] = NULL;
	return run_program(argv, NULL, NULL, NULL) == 0;
}

static void
rename_or_end(const char *from, const char *to)
{
	if (rename(from, to) != 0)
		refuse(REJOIN_FAILED, psprintf("could not rename \"%s\" to \"%s\": %m", from, to), NULL, NULL);
	fsync_parent_path(to);
}

void
restore_swap(Work *work, const Node *node)
{
	if (is_directory(work->fresh))
	{
		if (is_directory(node->datadir))
			rename_or_end(node->datadir, work->old);
		rename_or_end(work->fresh, node->datadir);
	}
	if (options.remove_old)
		remove_tree(work->old);
	else
		say("The old data directory is kept as \"%s\".", work->old);
	work_close(work);
}

void
restore_backup(Work *work, const Node *node, const Holder *holder)
{
	char		stamp[32];
	time_t		now = time(NULL);
	bool		again = work->phase == WORK_REWINDING;

	restore_check_backup(node);
	strftime(stamp, sizeof(stamp), "%Y%m%d%H%M%S", localtime(&now));
	work->fresh = psprintf("%s.new", node->datadir);
	work->old = psprintf("%s.old-%s", node->datadir, stamp);
	/* of an interrupted run */
	remove_tree(work->fresh);
	if (!again)
		work_save_own(work, node);
	say("Taking a base backup of %s.", holder->name);
	if (!run_backup(node, holder, work->fresh, stamp))
	{
		work_restore_own(work, node, node->datadir);
		refuse(REJOIN_FAILED, "pg_basebackup failed", NULL,
			   "Its own messages stand above.");
	}
	work_save_log(work, node);
	work_restore_own(work, node, work->fresh);
	follow_set(node, holder, work->fresh);
	work_note(work, WORK_SWAPPING);
	restore_swap(work, node);
}
