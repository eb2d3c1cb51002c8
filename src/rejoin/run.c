/*
 * run.c
 *		Running the server's programs.
 *
 * No shell stands between: nothing has to be quoted.  A program that we have
 * started dies with us, as far as the system offers that; where it does not,
 * it goes on holding the lock that it inherits, so that no second run meets it.
 */
#include "rejoin.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

char *
program(const Node *node, const char *name)
{
	return psprintf("%s/%s", node->bindir, name);
}

static void
become(char *const argv[], pid_t parent, int out, int err)
{
	int			null = open("/dev/null", O_RDONLY);

#ifdef PR_SET_PDEATHSIG
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(127);
#endif
	dup2(null, STDIN_FILENO);
	if (out >= 0)
		dup2(out, STDOUT_FILENO);
	if (err >= 0)
		dup2(err, STDERR_FILENO);
	execv(argv[0], argv);
	/* to wherever its messages go */
	dprintf(STDERR_FILENO, "could not execute \"%s\": %s\n", argv[0],
			strerror(errno));
	_exit(127);
}

/* Hand over the whole lines; keep what is left. */
static void
take_lines(PQExpBuffer buffer, LineHandler line, void *arg, bool last)
{
	char	   *at = buffer->data;
	char	   *end;

	while ((end = strchr(at, '\n')) != NULL)
	{
		*end = '\0';
		line(at, arg);
		at = end + 1;
	}
	if (last && *at != '\0')
	{
		line(at, arg);
		at += strlen(at);
	}
	if (at != buffer->data)
	{
		size_t		left = buffer->len - (at - buffer->data);

		memmove(buffer->data, at, left + 1);
		buffer->len = left;
	}
}

/* One turn of reading; false at the end of that stream. */
static bool
take(int fd, PQExpBuffer to)
{
	char		chunk[8192];
	ssize_t		n = read(fd, chunk, sizeof(chunk));

	if (n < 0 && errno == EINTR)
		return true;
	if (n <= 0)
		return false;
	appendBinaryPQExpBuffer(to, chunk, n);
	return true;
}

static void
listen_to(int out, int err, LineHandler line, void *arg, PQExpBuffer errors)
{
	struct pollfd fds[2] = {{out, POLLIN, 0}, {err, POLLIN, 0}};
	PQExpBufferData pending;

	initPQExpBuffer(&pending);
	while (fds[0].fd >= 0 || fds[1].fd >= 0)
	{
		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[0].fd >= 0 && fds[0].revents != 0)
		{
			if (!take(out, &pending))
				fds[0].fd = -1;
			take_lines(&pending, line, arg, fds[0].fd < 0);
		}
		if (fds[1].fd >= 0 && fds[1].revents != 0 && !take(err, errors))
			fds[1].fd = -1;
	}
	termPQExpBuffer(&pending);
}

int
run_program(char *const argv[], LineHandler line, void *arg, PQExpBuffer errors)
{
	int			out[2] = {-1, -1};
	int			err[2] = {-1, -1};
	bool		merge = errors == RUN_MERGE;
	pid_t		self = getpid();
	pid_t		child;
	int			status = 0;

	if (merge)
		errors = NULL;
	if ((line != NULL && pipe(out) != 0) || (errors != NULL && pipe(err) != 0))
		refuse(REJOIN_INTERNAL, psprintf("could not create pipe: %m"), NULL, NULL);
	fflush(NULL);
	child = fork();
	if (child < 0)
		refuse(REJOIN_INTERNAL, psprintf("could not fork: %m"), NULL, NULL);
	if (child == 0)
	{
		for (int i = 0; i < 2; i++)
		{
			/* our ends would keep the pipes open */
			if (out[i] >= 0)
				fcntl(out[i], F_SETFD, FD_CLOEXEC);
			if (err[i] >= 0)
				fcntl(err[i], F_SETFD, FD_CLOEXEC);
		}
		become(argv, self, out[1], merge ? out[1] : err[1]);
	}
	if (out[1] >= 0)
		close(out[1]);
	if (err[1] >= 0)
		close(err[1]);
	listen_to(out[0], err[0], line, arg, errors);
	if (out[0] >= 0)
		close(out[0]);
	if (err[0] >= 0)
		close(err[0]);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}
