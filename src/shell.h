/*
 * shell.h
 *		Run a shell command beside the server, without waiting for it.
 *
 * Layer 3.
 */
#ifndef LEASEHOLD_SHELL_H
#define LEASEHOLD_SHELL_H

#include "postgres.h"

/*
 * spawn_shell
 *		Start "command" with this environment.  Returns 0 and its process id, or
 *		an error number.  It goes on when the server ends.
 */
extern int	spawn_shell(char *command, char **env, pid_t *pid);

#endif							/* LEASEHOLD_SHELL_H */
