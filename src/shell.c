/*
 * shell.c
 *		Run a shell command beside the server, without waiting for it.
 *
 * Called by the steward, which runs no other programs.
 */
#include "postgres.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <unistd.h>

#include "shell.h"

/*
 * Not every server version opens its files so that a program does not inherit
 * them.  This process runs no other programs, so they can all be marked.
 */
static void
close_files_on_exec(void)
{
	DIR		   *dir = opendir("/proc/self/fd");
	struct dirent *entry;

	if (dir == NULL)
	{
		for (int fd = 3; fd < 1024; fd++)
			(void) fcntl(fd, F_SETFD, FD_CLOEXEC);
		return;
	}
	while ((entry = readdir(dir)) != NULL)
		if (atoi(entry->d_name) > STDERR_FILENO)
			(void) fcntl(atoi(entry->d_name), F_SETFD, FD_CLOEXEC);
	closedir(dir);
}

/*
 * A program of its own: no signal of the server blocked or ignored, its own
 * process group, nothing to read, output where the server's messages go.
 */
int
spawn_shell(char *command, char **env, pid_t *pid)
{
	char	   *argv[] = {"/bin/sh", "-c", command, NULL};
	posix_spawnattr_t attr;
	posix_spawn_file_actions_t files;
	sigset_t	none;
	sigset_t	all;
	int			error;

	close_files_on_exec();
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setpgroup(&attr, 0);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK |
							 POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null",
									 O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&files, STDERR_FILENO, STDOUT_FILENO);
	error = posix_spawn(pid, argv[0], &files, &attr, argv, env);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attr);
	return error;
}
