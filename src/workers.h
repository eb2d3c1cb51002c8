/*
 * workers.h
 *		The background workers: registration and what their loops share.
 *
 * Layer 3.  Keeper, steward and prober have access to shared memory only, no
 * database connection, and start with the postmaster, also on a standby.  What
 * needs a session is done by short-lived workers that they start.
 */
#ifndef LEASEHOLD_WORKERS_H
#define LEASEHOLD_WORKERS_H

#include "postgres.h"

#include "postmaster/bgworker.h"

#include "shared.h"

/* Register keeper, steward and prober.  Called while preloading. */
extern void workers_register(void);

/*
 * workers_start
 *		What every worker does first: signal handlers, unblocking, one reload
 *		(a SIGHUP before the handlers stood is lost).
 */
extern void workers_start(void);

/*
 * workers_take_seat
 *		Take the seat of a worker that is started again at once when it has
 *		ended; one whose predecessor had hardly begun waits here first.
 */
extern void workers_take_seat(WorkerSeat *seat);

/* Reload the configuration if a SIGHUP has come in; true if so. */
extern bool workers_reload(void);

/* Has the postmaster been told to end?  Reads a file. */
extern bool workers_server_is_ending(void);

/*
 * workers_begin
 *		Start a short-lived worker that has a session: at most one for each
 *		call, and never again.  NULL if the server has no free worker process.
 *		The handle lives until it is pfree'd.
 */
extern BackgroundWorkerHandle *workers_begin(const char *what, const char *function,
											 BgWorkerStartTime when, Datum arg,
											 const char *extra);

/*
 * workers_open_session
 *		What such a worker does first: signal handlers, and a session as the
 *		bootstrap superuser in this database, or in none (NULL).
 */
extern void workers_open_session(const char *database);

/* The workers' main functions, found by name by the server. */
extern PGDLLEXPORT void leasehold_keeper_main(Datum arg);
extern PGDLLEXPORT void leasehold_steward_main(Datum arg);
extern PGDLLEXPORT void leasehold_prober_main(Datum arg);

#endif							/* LEASEHOLD_WORKERS_H */
