/*
 * restart.c
 *		--restart: from inside a running server that has lost its lease for good,
 *		stop it, rejoin, and start it again.
 *
 * The server that asked for this ends on the way, so this runs on its own: a
 * session of its own, and none of the server's files open.  The work is done
 * by further runs of this program, so that one that ends with an error does
 * not leave the server stopped for nothing.
 */
#include "rejoin.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "node.h"
#include "work.h"

static void
detach(const char *log)
{
	int			fd;
	pid_t		child = fork();

	if (child < 0)
		refuse(REJOIN_INTERNAL, psprintf("could not fork: %m"), NULL, NULL);
	if (child > 0)
		_exit(0);
	setsid();
	/* sockets, and the pipes by which a server knows that it lives */
	for (fd = 3; fd < 1024; fd++)
		close(fd);
	if (chdir("/") != 0)
		_exit(REJOIN_INTERNAL);
	fd = open("/dev/null", O_RDONLY);
	dup2(fd, STDIN_FILENO);
	fd = open(log, O_CREAT | O_WRONLY | O_APPEND, S_IRUSR | S_IWUSR);
	if (fd < 0)
		fd = open("/dev/null", O_WRONLY);
	dup2(fd, STDOUT_FILENO);
	dup2(fd, STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
}

/* Run this program once more, by what was found out: our directory is "/". */
static int
run_self(const Node *node, const char *extra)
{
	char	   *argv[32];
	char		self[MAXPGPATH];
	int			n = 0;

	if (find_my_exec(program_path, self) < 0)
		refuse(REJOIN_INTERNAL, "could not find the own executable", NULL, NULL);
	argv[n++] = self;
	argv[n++] = psprintf("--pgdata=%s", node->datadir);
	argv[n++] = psprintf("--bindir=%s", node->bindir);
	argv[n++] = psprintf("--timeout=%d", options.timeout);
	argv[n++] = psprintf("--wait=%d", options.wait);
	if (node->config_file != NULL)
		argv[n++] = psprintf("--config-file=%s", node->config_file);
	if (options.keep_wal != NULL)
		argv[n++] = psprintf("--keep-wal=%s", options.keep_wal);
	if (options.work_dir != NULL)
		argv[n++] = psprintf("--work-dir=%s", options.work_dir);
	if (options.allow_backup)
		argv[n++] = "--allow-basebackup";
	if (options.remove_old)
		argv[n++] = "--remove-old";
	if (extra != NULL)
		argv[n++] = unconstify(char *, extra);
	argv[n] = NULL;
	return run_program(argv, NULL, NULL, NULL);
}

/* Where the running server writes what does not go to its log collector. */
static char *
server_output(const Node *node, const char *otherwise)
{
	char		target[MAXPGPATH];
	struct stat st;
	ssize_t		n = readlink(psprintf("/proc/%d/fd/2", (int) node_postmaster(node)),
							 target, sizeof(target) - 1);

	if (n > 0)
	{
		target[n] = '\0';
		if (stat(target, &st) == 0 && S_ISREG(st.st_mode))
			return pg_strdup(target);
	}
	return pg_strdup(otherwise);
}

/* For the shell by which pg_ctl starts the server. */
static void
append_quoted(PQExpBuffer out, const char *text)
{
	appendPQExpBufferChar(out, '\'');
	for (; *text != '\0'; text++)
	{
		if (*text == '\'')
			appendPQExpBufferStr(out, "'\\'");
		appendPQExpBufferChar(out, *text);
	}
	appendPQExpBufferChar(out, '\'');
}

/*
 * What the server was started with, as "pg_ctl restart" reads it.  The paths
 * in there may be relative to wherever that was; the last ones are taken.
 */
static char *
start_options(const Node *node)
{
	char	   *text = read_whole_file(psprintf("%s/postmaster.opts", node->datadir), NULL);
	char	   *at = text ? strstr(text, " \"") : NULL;
	PQExpBufferData out;

	initPQExpBuffer(&out);
	if (at != NULL)
	{
		at[strcspn(at, "\r\n")] = '\0';
		appendPQExpBufferStr(&out, at + 1);
	}
	appendPQExpBufferStr(&out, " -D ");
	append_quoted(&out, node->datadir);
	if (node->config_file != NULL)
	{
		appendPQExpBufferStr(&out, " -c ");
		append_quoted(&out, psprintf("config_file=%s", node->config_file));
	}
	return out.data;
}

static int
control_server(const Node *node, const char *action, const char *log,
			   const char *start)
{
	char	   *argv[16];
	int			n = 0;

	argv[n++] = program(node, "pg_ctl");
	argv[n++] = "-D";
	argv[n++] = node->datadir;
	argv[n++] = "-w";
	argv[n++] = "-t";
	argv[n++] = "3600";
	argv[n++] = "-s";
	if (log != NULL)
	{
		argv[n++] = "-l";
		argv[n++] = unconstify(char *, log);
		argv[n++] = "-o";
		argv[n++] = unconstify(char *, start);
	}
	else
	{
		argv[n++] = "-m";
		argv[n++] = "fast";
	}
	argv[n++] = unconstify(char *, action);
	argv[n] = NULL;
	return run_program(argv, NULL, NULL, NULL);
}

ExitCode
restart(void)
{
	Node		node;
	Work		work;
	const char *log = options.log;
	char	   *output;
	char	   *start;
	int			status;

	node_find_datadir(&node);
	node_locate(&node, program_path);
	if (log == NULL)
		log = psprintf("%s/leasehold-rejoin.log", parent_of(node.datadir));
	program_path = make_absolute_path(program_path);
	detach(log);

	status = run_self(&node, "--ahead");
	if (status != 0)
		return status == REJOIN_NOTHING ? REJOIN_READY : status;
	output = server_output(&node, log);
	start = start_options(&node);
	say("Stopping the server.");
	if (node_postmaster(&node) != 0 && control_server(&node, "stop", NULL, NULL) != 0)
		refuse(REJOIN_FAILED, "the server could not be stopped", NULL, NULL);
	status = run_self(&node, NULL);
	work_open(&work, &node);
	if (status != 0 && work.phase != WORK_NONE)
		refuse(status, "the server stays stopped", "Its data directory is half restored.",
			   "Run leasehold-rejoin again once the cause is mended.");
	say("Starting the server.");
	if (control_server(&node, "start", output, start) != 0)
		refuse(REJOIN_FAILED, "the server could not be started", NULL, NULL);
	return status;
}
