/*
 * settings.h
 *		The configuration parameters of leasehold, and what follows from them.
 *
 * Layer 1.  The variables are the raw settings of this process; what several
 * settings say together (intervals that follow from the ttl, the parsed list
 * of members) is computed by the keeper after each reload, in one go, so that
 * an inconsistent set never takes effect in part.
 */
#ifndef LEASEHOLD_SETTINGS_H
#define LEASEHOLD_SETTINGS_H

#include "postgres.h"

#define LEASEHOLD_NAME_LEN	64	/* node and lease names, with the final NUL */

typedef enum FenceMode
{
	FENCE_OFF,
	FENCE_WARN,
	FENCE_ENFORCE
} FenceMode;

typedef enum OnExpiry
{
	ON_EXPIRY_NONE,
	ON_EXPIRY_CANCEL,
	ON_EXPIRY_TERMINATE
} OnExpiry;

typedef enum OnShutdown
{
	ON_SHUTDOWN_RELEASE,
	ON_SHUTDOWN_KEEP
} OnShutdown;

typedef enum OnSuperseded
{
	ON_SUPERSEDED_STAY,
	ON_SUPERSEDED_SHUTDOWN,
	ON_SUPERSEDED_REJOIN
} OnSuperseded;

/* Not for other libraries, and one of them read in every statement: see fence.h. */
#pragma GCC visibility push(hidden)
extern char *setting_node_name; /* as written; see settings_node_name() */
extern char *setting_store;
extern char *setting_lease;		/* as written; see settings_lease() */
extern int	setting_renew_interval; /* ms, 0: ttl / 5 */
extern int	setting_look_interval;	/* ms, 0: ttl / 20 within 20..500 */
extern int	setting_safety_margin;	/* ms, 0: max(ttl / 20, 20) */
extern int	setting_fence;		/* FenceMode */
extern int	setting_on_expiry;	/* OnExpiry */
extern int	setting_on_shutdown;	/* OnShutdown */
extern int	setting_priority;
extern int	setting_health_timeout; /* ms, 0: ttl */
extern char *setting_role_command;
extern char *setting_advertise; /* as written; see settings_advertise() */
extern bool setting_local_ddl;
extern int	setting_zero_loss;	/* SyncMode of syncset.h */
extern int	setting_on_superseded;	/* OnSuperseded */
extern char *setting_rejoin_command;
extern bool setting_promote;
extern bool setting_follow;
extern bool setting_failback;
extern int	setting_max_lag;	/* kB, -1: no limit */
extern char *setting_peer_options;
extern int	setting_probe_interval; /* ms */
extern int	setting_probe_timeout;	/* ms */
extern bool setting_allow_repair;
extern int	setting_leases_max;
extern int	setting_peers_max;
extern int	setting_tables_max;
#pragma GCC visibility pop

/*
 * Judges a connection string or a list of them (leasehold.store): NULL, or a
 * palloc'd sentence that says what is wrong and never repeats a value.  Set by
 * _PG_init() before settings_define(), since only a higher layer knows libpq.
 */
extern char *(*settings_judge_conninfo) (const char *list);

/*
 * settings_define
 *		Define all parameters.  Called once from _PG_init(); "preloaded" says
 *		whether the postmaster loads the library (else the parameters that size
 *		shared memory, which nothing would read, are left out).
 */
extern void settings_define(bool preloaded);

/* This node's name: as set, or host name and port. Never NULL or empty. */
extern const char *settings_node_name(void);

/* The instance's lease: as set, "main" for an embedded store, or "". */
extern PGDLLEXPORT const char *settings_lease(void);

/* How peers and clients reach this node: as set, or host name and port. */
extern const char *settings_advertise(void);

/* Is the store this instance itself? */
extern bool settings_store_embedded(void);

#endif							/* LEASEHOLD_SETTINGS_H */
