/*
 * workers.h
 *		The background workers: registration and what their loops share.
 *
 * Layer 4.  All workers have access to shared memory only, no database
 * connection, and start with the postmaster, also on a standby.
 */
#ifndef LEASEHOLD_WORKERS_H
#define LEASEHOLD_WORKERS_H

#include "postgres.h"

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

/* The workers' main functions, found by name by the server. */
extern PGDLLEXPORT void leasehold_keeper_main(Datum arg);
extern PGDLLEXPORT void leasehold_steward_main(Datum arg);
extern PGDLLEXPORT void leasehold_prober_main(Datum arg);

#endif							/* LEASEHOLD_WORKERS_H */
