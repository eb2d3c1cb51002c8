/*
 * group.h
 *		SQL functions talk to all members of the store at once.
 *
 * Layer 3.  A StoreGroup is a set of connections that lives for one function call;
 * what is sent goes to all members in parallel, and every wait serves
 * interrupts and has a deadline.  Its connections and results are closed with
 * the memory context that it was made in, so that an error anywhere leaks
 * nothing.
 */
#ifndef LEASEHOLD_GROUP_H
#define LEASEHOLD_GROUP_H

#include "postgres.h"

#include "compat.h"

#include "conninfo.h"
#include "link.h"
#include "roster.h"
#include "store.h"

#define GROUP_MEMBERS_MAX	(2 * LEASE_MEMBERS_MAX)
#define GROUP_REQUEST_MS	5000	/* of a connect or a request */
#define GROUP_NODES_MAX		1000	/* that are read */

typedef struct GroupMember
{
	Conninfo	conninfo;
	bool		in_new_list;	/* for changes of the list */
	Link		link;
	PGresult   *result;			/* of the last request; NULL if it failed */
	bool		asked;			/* took part in the last request */
	StoreServer server;
	bool		is_store;		/* answered a look as a store does */
	StoreAnswer answer;
	RosterStanding standing;
} GroupMember;

typedef struct StoreGroup
{
	char		lease[LEASE_NAME_LEN];	/* whose row a look reads */
	ClockTime	deadline;		/* of the whole call */
	int			request_ms;		/* no single request may take longer */
	bool		hurry;			/* a majority is enough: drop who is far slower */
	Roster		roster;			/* the agreed list; generation 0: none */
	int			n;
	GroupMember member[GROUP_MEMBERS_MAX];
	RosterReport report[GROUP_MEMBERS_MAX];
	MemoryContext context;		/* that it lives in */
	MemoryContextCallback at_end;
} StoreGroup;

/* A request of people as it was posted. */
typedef struct GroupRequest
{
	int64		seq;			/* 0: none was posted */
	int32		ttl_ms;
	bool		pause;
} GroupRequest;

/* Which members a request goes to. */
typedef bool (*GroupFilter) (const StoreGroup *group, int i);
extern bool group_counted(const StoreGroup *group, int i);
extern bool group_connected(const StoreGroup *group, int i);

/*
 * group_make, group_add, group_open
 *		A group of the members in a list of connection strings (judged before);
 *		nothing is sent until group_open() connects, identifies and looks.  The
 *		agreed list is the one that this node goes by, or a newer settled one.
 *		group_open() may be repeated: it connects those that are down.
 */
extern StoreGroup *group_make(const char *lease, ClockTime deadline);
extern void group_add(StoreGroup *group, const char *list, bool in_new_list);
extern void group_open(StoreGroup *group);
extern void group_close(StoreGroup *group);

/*
 * group_of_settings
 *		The opened group of leasehold.store; an error unless a majority of its
 *		agreed list can be counted.
 */
extern StoreGroup *group_of_settings(const char *lease, ClockTime deadline);

/* The same with whoever answers; an error only if no store is configured. */
extern StoreGroup *group_configured(const char *lease, ClockTime deadline);

/* Look again at the members that are connected. */
extern void group_look(StoreGroup *group);

/*
 * group_begin, group_deadline, group_wait
 *		What a request of all members is made of: forget the last results, send
 *		over the links with this deadline, wait until nothing is under way.
 */
extern void group_begin(StoreGroup *group);
extern ClockTime group_deadline(const StoreGroup *group);
extern void group_wait(StoreGroup *group);

/*
 * group_send
 *		Send one statement to all members that pass the filter, wait, and
 *		return how many answered with at least one row.
 */
extern int	group_send(StoreGroup *group, GroupFilter filter, const char *sql,
					   int nparams, const char *const *values);

/*
 * group_settle
 *		After an error: what is under way ends by the group's deadline, and members
 *		that were in the middle of connecting are dropped.
 */
extern void group_settle(StoreGroup *group);

/* Did the last request get at least one row from this member? */
extern bool group_took(const StoreGroup *group, int i);

/* Wake all keepers. */
extern void group_notify(StoreGroup *group);

extern int	group_majority(const StoreGroup *group);
extern int	group_count(const StoreGroup *group, GroupFilter filter);

/* Raise an error unless a majority of the agreed list can be counted. */
extern void group_require_majority(const StoreGroup *group);

/* Raise an error that a write found no majority. */
COMPAT_NORETURN extern void group_refused(const StoreGroup *group, const char *what, int took);

/* What keeps this member from being counted; NULL if nothing does. */
extern const char *group_fault(const StoreGroup *group, int i);

/* One sentence for each member that fails, for a detail. */
extern char *group_faults(const StoreGroup *group);

/* Raise the last fault of this member, with its SQLSTATE and label. */
COMPAT_NORETURN extern void group_raise(const GroupMember *member, const char *what);

/* The SQLSTATE of a link's fault as an error code. */
extern int	group_sqlstate(const Link *link);

/* The row of the highest (epoch, version) at a counted member; NULL if none. */
extern const StoreLease *group_best(const StoreGroup *group);

/* The row with the latest request. */
extern const StoreLease *group_last_request(const StoreGroup *group);

/* Names of all leases, or nodes, for a hint; read from the members. */
extern char *group_lease_names(StoreGroup *group);
extern char *group_node_names(const StoreNode *node, int n);

/*
 * group_leases
 *		All leases that are not dropped, each once, as the row of its highest epoch
 *		and version says; at most "max".  Returns how many.
 */
extern int	group_leases(StoreGroup *group, StoreLease *lease, int max);

/* All node rows, each name once, with the highest beat. */
extern int	group_nodes(StoreGroup *group, StoreNode *node, int max);

/*
 * group_request
 *		Post a request of people for the group's lease at a majority: what is
 *		not given (ttl_ms 0, pause -1) stays as the last request said.  Fills
 *		"posted", if it is not NULL, before anything is sent, so that the request
 *		can be withdrawn whatever interrupts the call.
 */
extern void group_request(StoreGroup *group, int32 ttl_ms, int pause,
						  const char *handover_to, GroupRequest *posted);

/*
 * group_withdraw
 *		Withdraw a request, wherever it may have got to; a later one stays.  What
 *		stands there then is what "request" says, without a hand-over; a row that
 *		nobody holds does not stay frozen without a pause.
 *		For the way out of an error, too: raises none, serves no interrupts, and
 *		takes no longer than "deadline".  Returns whether a majority answered.
 */
extern bool group_withdraw(StoreGroup *group, const GroupRequest *request,
						   ClockTime deadline);

#endif							/* LEASEHOLD_GROUP_H */
