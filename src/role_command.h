/*
 * role_command.h
 *		Telling leasehold.role_command of every change of role.
 *
 * Layer 3.  Used by the steward.
 */
#ifndef LEASEHOLD_ROLE_COMMAND_H
#define LEASEHOLD_ROLE_COMMAND_H

#include "postgres.h"

#include "shared.h"

/* Before the first use in a process: the end of a command sets its latch. */
extern void role_command_init(void);

/* If the instance's role has changed since the last call, queue a command. */
extern void role_command_watch(const KeeperStatus *status);

/*
 * Reap the command that runs, start the next one: what is queued first, then
 * what is new of leases of tables.  Never waits.
 */
extern void role_command_step(void);

/* When to call it again, if nothing wakes the process until then. */
extern ClockTime role_command_due(ClockTime now);

/* Is a command running, or one waiting for its end? */
extern bool role_command_busy(void);

/* The process ends: say which changes were not told. */
extern void role_command_give_up(void);

#endif							/* LEASEHOLD_ROLE_COMMAND_H */
