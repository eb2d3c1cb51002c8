/*
 * sql.h
 *		What the SQL-callable functions share.
 *
 * Layer 4.
 */
#ifndef LEASEHOLD_SQL_H
#define LEASEHOLD_SQL_H

#include "postgres.h"

#include "compat.h"

#include "fmgr.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "group.h"
#include "shared.h"
#include "tables.h"

/* Raise an error if the library is not preloaded. */
extern void sql_require_preloaded(void);

/* The text argument, NULL if it is null. */
extern char *sql_text(FunctionCallInfo fcinfo, int arg);

/* The lease named by the argument; if null, the instance's. */
extern char *sql_lease(FunctionCallInfo fcinfo, int arg);

/*
 * The same for functions about this node's own part: a lease that is neither
 * the instance's nor one of tables that this node takes part in is an error.
 */
extern char *sql_own_lease(FunctionCallInfo fcinfo, int arg);

/* The epoch under which this node holds the lease, its own or of tables; or 0. */
extern uint64 sql_held_epoch(const char *lease);

/*
 * sql_table_slot
 *		The slot of the lease, if this node takes part in it as a lease of tables;
 *		else TABLES_NO_SLOT.  "status" may be NULL.
 */
extern int	sql_table_slot(const char *lease, TableStatus *status);

/*
 * sql_lease_status
 *		How this node stands to this lease: its own, or one of tables that it takes
 *		part in.  palloc'd.
 */
extern KeeperStatus *sql_lease_status(const char *lease);

/* A private copy of the list of protected tables; an error if it is not to be had. */
extern TableList *sql_tables(void);

/* How the keeper is asked for this lease: see shared_ask_keeper(). */
extern const char *sql_box_name(const char *lease);

/*
 * sql_patience
 *		For how long a heartbeat may stand still before its node counts as silent,
 *		by the ttl of the lease concerned.
 */
extern ClockTime sql_patience(int32 ttl_ms);

/* Raise an error unless the text may name a lease or a node. */
extern void sql_check_name(const char *what, const char *name);

/* Raise an error for a name that the store does not know. */
COMPAT_NORETURN extern void sql_unknown(const char *what, const char *name, const char *known);

/* The best row of the group's lease; an error if the store knows none. */
extern const StoreLease *sql_require_lease(StoreGroup *group);

/* The lease may go while this session waits: on_expiry must not end it. */
extern void sql_spare_session(void);

#define SQL_TIMEOUT_MAX_MS	(24 * 3600 * 1000)

/* A duration between two limits, in milliseconds. */
extern int64 sql_milliseconds(FunctionCallInfo fcinfo, int arg, const char *what,
							  int64 min, int64 max);

/* A duration as an interval. */
extern Datum sql_interval(ClockTime duration);

/* Sleep in a way that serves interrupts. */
extern void sql_sleep(long ms);

/* The status page, and what it says of this moment. */
extern KeeperStatus *sql_status(void);
extern const char *sql_state_name(NodeState state);

/* A private copy of the survey; palloc'd. */
extern Survey *sql_survey(void);

/*
 * sql_fresh_survey
 *		The same, with nodes that are read now; NULL if the keeper does not do it
 *		soon, or by "until".
 */
extern Survey *sql_fresh_survey(ClockTime until);
extern void sql_free_survey(Survey *survey);

/* How the node is known: when its heartbeat was last seen; NULL if unknown. */
extern const SurveyNode *sql_find_node(const Survey *survey, const char *name);

/*
 * sql_switchover
 *		What leasehold.switchover() does; returns the new epoch, or raises an error.
 */
extern int64 sql_switchover(const char *target, const char *lease,
							ClockTime until);

/* Raise an error if the connection string is malformed or has a password. */
extern void sql_judge_conninfo(const char *list);

/* Make the store's schema at a connected member. */
extern void sql_init_member(GroupMember *member, ClockTime deadline);

/* A random uuid as text. */
extern char *sql_uuid(void);

#endif							/* LEASEHOLD_SQL_H */
