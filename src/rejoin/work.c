/*
 * work.c
 *		What a run notes beside the data directory.
 *
 * pg_rewind makes the data directory like the source's: it replaces files of
 * the same name, and removes those that the source does not have.  So what has
 * to outlive it cannot stay in there.
 */
#include "work.h"

#include <sys/stat.h>
#include <unistd.h>

/* ------------------------------------------------------------------------
 * The note
 * ------------------------------------------------------------------------
 */

static const char *const phase_names[] = {
	[WORK_NONE] = "none",
	[WORK_REWINDING] = "rewinding",
	[WORK_REWOUND] = "rewound",
	[WORK_SWAPPING] = "swapping"
};

static char *
in_work(const Work *work, const char *name)
{
	return psprintf("%s/%s", work->directory, name);
}

static char *
in_data(const Node *node, const char *name)
{
	return psprintf("%s/%s", node->datadir, name);
}

static void
parse_note(Work *work, char *text)
{
	char	   *line;

	for (line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n"))
	{
		char	   *value = strchr(line, ' ');

		if (value == NULL)
			continue;
		*value++ = '\0';
		for (int i = 0; strcmp(line, "phase") == 0 && i < lengthof(phase_names); i++)
			if (strcmp(value, phase_names[i]) == 0)
				work->phase = (WorkPhase) i;
		if (strcmp(line, "timeline") == 0)
			work->timeline = strtoul(value, NULL, 10);
		else if (strcmp(line, "kept") == 0)
			work->kept = pg_strdup(value);
		else if (strcmp(line, "fresh") == 0)
			work->fresh = pg_strdup(value);
		else if (strcmp(line, "old") == 0)
			work->old = pg_strdup(value);
	}
}

void
work_open(Work *work, const Node *node)
{
	char	   *text;

	memset(work, 0, sizeof(*work));
	work->directory = options.work_dir ? pg_strdup(options.work_dir) :
		psprintf("%s.rejoin", node->datadir);
	work->kept = work->fresh = work->old = "";
	text = read_whole_file(in_work(work, "state"), NULL);
	if (text != NULL)
		parse_note(work, text);
}

void
work_note(Work *work, WorkPhase phase)
{
	char	   *text;

	work->phase = phase;
	text = psprintf("phase %s\ntimeline %u\nkept %s\nfresh %s\nold %s\n",
					phase_names[phase], work->timeline, work->kept,
					work->fresh, work->old);
	make_directories(work->directory);
	write_whole_file(in_work(work, "state"), text, strlen(text));
	pg_free(text);
}

void
work_close(Work *work)
{
	/* the note first: without it the rest means nothing */
	remove_tree(in_work(work, "state"));
	if (!file_exists(in_work(work, "log")))
		remove_tree(work->directory);
	work->phase = WORK_NONE;
}

static bool
same_content(const char *a, const char *b)
{
	size_t		na = 0;
	size_t		nb = 0;
	char	   *x = read_whole_file(a, &na);
	char	   *y = read_whole_file(b, &nb);
	bool		same = x != NULL && y != NULL && na == nb && memcmp(x, y, na) == 0;

	pg_free(x);
	pg_free(y);
	return same;
}

/*
 * The control file is what pg_rewind writes last.  If it is neither what it
 * was before nor what pg_rewind leaves, the directory has been started, or
 * made anew, since.
 */
WorkProgress
work_progress(const Work *work, const Node *node)
{
	Local		local;
	char	   *label;

	if (same_content(in_work(work, "pg_control"), in_data(node, "global/pg_control")))
		return WORK_UNFINISHED;
	node_read_local(node, &local);
	label = read_whole_file(in_data(node, "backup_label"), NULL);
	if (local.control->state == DB_IN_ARCHIVE_RECOVERY && label != NULL &&
		strstr(label, "BACKUP METHOD: pg_rewind") != NULL)
		return WORK_FINISHED;
	return WORK_OVERTAKEN;
}

/* ------------------------------------------------------------------------
 * The node's own files
 * ------------------------------------------------------------------------
 */

/* What is the cluster's; all else in the data directory is the node's own. */
static const char *const cluster_entries[] = {
	"PG_VERSION", "backup_label", "backup_label.old", "backup_manifest", "base",
	"current_logfiles", "global", "pg_commit_ts", "pg_dynshmem", "pg_logical",
	"pg_multixact", "pg_notify", "pg_replslot", "pg_serial", "pg_snapshots",
	"pg_stat", "pg_stat_tmp", "pg_subtrans", "pg_tblspc", "pg_twophase",
	"pg_wal", "pg_xact", "postmaster.opts", "postmaster.pid", "recovery.done",
	"recovery.signal", "standby.signal", "tablespace_map", "tablespace_map.old",
	NULL
};

static bool
is_own(const char *name)
{
	for (int i = 0; cluster_entries[i] != NULL; i++)
		if (strcmp(cluster_entries[i], name) == 0)
			return false;
	/* a server that crashed leaves these */
	return strncmp(name, "core", 4) != 0 && strncmp(name, "pgsql_tmp", 9) != 0 &&
		strstr(name, ".rejoin.tmp") == NULL;
}

/* The directory of the server's log, if it is in the data directory. */
static char *
log_entry(const Node *node)
{
	char	   *name;

	if (node->log_directory == NULL || node->log_directory[0] == '\0' ||
		is_absolute_path(node->log_directory))
		return NULL;
	name = pg_strdup(node->log_directory);
	name[strcspn(name, "/")] = '\0';
	if (!is_own(name) || strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
		!is_directory(in_data(node, name)))
		return NULL;
	return name;
}

typedef struct Own
{
	const Work *work;
	const Node *node;
	const char *datadir;
	const char *log;
} Own;

static void
save_entry(const char *name, void *arg)
{
	const Own  *own = arg;
	char	   *from = in_data(own->node, name);

	if (!is_own(name) || (own->log != NULL && strcmp(own->log, name) == 0))
		return;
	copy_tree(from, psprintf("%s/own/%s", own->work->directory, name));
	pg_free(from);
}

/* Copied, since the server's programs need them where they are. */
void
work_save_own(Work *work, const Node *node)
{
	Own			own = {work, node, node->datadir, log_entry(node)};

	make_directories(work->directory);
	remove_tree(in_work(work, "own"));
	make_directory(in_work(work, "own"));
	each_entry(node->datadir, save_entry, &own);
	copy_tree(in_data(node, "global/pg_control"), in_work(work, "pg_control"));
	remove_tree(in_work(work, "log_name"));
	if (own.log != NULL)
		write_whole_file(in_work(work, "log_name"), own.log, strlen(own.log));
}

/* It may be large, so it is moved; between file systems it stays. */
void
work_save_log(const Work *work, const Node *node)
{
	char	   *log = read_whole_file(in_work(work, "log_name"), NULL);

	if (log != NULL && !file_exists(in_work(work, "log")))
		(void) rename(in_data(node, log), in_work(work, "log"));
}

static void
remove_link(const char *name, void *arg)
{
	const Node *node = arg;
	struct stat st;

	if (is_own(name) && lstat(in_data(node, name), &st) == 0 && S_ISLNK(st.st_mode))
		remove_tree(in_data(node, name));
}

void
work_remove_links(const Node *node)
{
	each_entry(node->datadir, remove_link, unconstify(Node *, node));
}

static void
remove_foreign(const char *name, void *arg)
{
	const Own  *own = arg;

	if (is_own(name) && (own->log == NULL || strcmp(own->log, name) != 0) &&
		!file_exists(psprintf("%s/own/%s", own->work->directory, name)))
		remove_tree(psprintf("%s/%s", own->datadir, name));
}

static void
restore_entry(const char *name, void *arg)
{
	const Own  *own = arg;
	char	   *from = psprintf("%s/own/%s", own->work->directory, name);
	char	   *to = psprintf("%s/%s", own->datadir, name);

	/* what the source has of this directory is not ours */
	if (is_directory(to))
		remove_tree(to);
	copy_tree(from, to);
	pg_free(from);
	pg_free(to);
}

void
work_restore_own(const Work *work, const Node *node, const char *datadir)
{
	char	   *log = read_whole_file(in_work(work, "log_name"), NULL);
	Own			own = {work, node, datadir, log};

	if (!is_directory(in_work(work, "own")))
		return;
	each_entry(in_work(work, "own"), restore_entry, &own);
	each_entry(datadir, remove_foreign, &own);
	if (log != NULL && file_exists(in_work(work, "log")))
	{
		remove_tree(psprintf("%s/%s", datadir, log));
		if (rename(in_work(work, "log"), psprintf("%s/%s", datadir, log)) != 0)
			say("The server's old log stays in \"%s\": %s.", in_work(work, "log"), strerror(errno));
	}
}
