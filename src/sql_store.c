/*
 * sql_store.c
 *		Leases and nodes in the store: making, changing and dropping them.
 *
 * All of it is done over libpq, at a majority of the members, and so works on
 * any node, a read-only one too.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "fmgr.h"

#include "group_tables.h"
#include "relist.h"
#include "settings.h"
#include "sql.h"
#include "store_care.h"

PG_FUNCTION_INFO_V1(leasehold_create_lease);
PG_FUNCTION_INFO_V1(leasehold_alter_lease);
PG_FUNCTION_INFO_V1(leasehold_drop_lease);
PG_FUNCTION_INFO_V1(leasehold_drop_node);
PG_FUNCTION_INFO_V1(leasehold_rename_node);
PG_FUNCTION_INFO_V1(leasehold_leave);

#define CALL_MS		30000
#define NODES_MAX	GROUP_NODES_MAX

/* ------------------------------------------------------------------------
 * Leases
 * ------------------------------------------------------------------------
 */

static void
require_kind(const char *kind)
{
	if (strcmp(kind, "physical") == 0 || strcmp(kind, "independent") == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid kind of lease: \"%s\"", kind),
			 errhint("Kinds are \"physical\" and \"independent\".")));
}

/* What a lease of kind "physical" is pinned to. */
static void
identify_instance(const char *kind, const char **sysid, const char **timeline)
{
	TimeLineID	tli;

	*sysid = "";
	*timeline = "0";
	if (strcmp(kind, "physical") != 0)
		return;
	if (RecoveryInProgress())
		(void) GetXLogReplayRecPtr(&tli);
	else
		tli = GetWALInsertionTimeLine();
	*sysid = psprintf(UINT64_FORMAT, GetSystemIdentifier());
	*timeline = psprintf("%u", tli);
}

/* How many members have the row, in force or dropped? */
static int
count_rows(const StoreGroup *group, bool in_force)
{
	int			n = 0;

	for (int i = 0; i < group->n; i++)
		n += group_counted(group, i) &&
			group->member[i].answer.lease.name[0] != '\0' &&
			group->member[i].answer.lease.row.present == in_force;
	return n;
}

/*
 * leasehold_create_lease
 *		Make a lease, or bring a dropped one back.  The first one in a fresh
 *		store also forms the list of members.
 */
Datum
leasehold_create_lease(PG_FUNCTION_ARGS)
{
	char	   *lease = sql_text(fcinfo, 0);
	char	   *kind = sql_text(fcinfo, 2);
	int64		ttl = sql_milliseconds(fcinfo, 1, "ttl", LEASE_TTL_MIN_MS,
									   LEASE_TTL_MAX_MS);
	StoreGroup *group;
	const char *values[6];
	int			took;

	sql_require_preloaded();
	sql_check_name("lease", lease);
	require_kind(kind);
	group = group_configured(lease, clock_now() + clock_ms(CALL_MS));
	if (group->roster.generation == 0)
		relist_form(group, sql_uuid());
	group_require_majority(group);
	if (count_rows(group, true) >= group_majority(group))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("lease \"%s\" already exists", lease),
				 errhint("leasehold.alter_lease() changes its ttl.")));
	values[0] = lease;
	values[1] = psprintf(INT64_FORMAT, ttl);
	values[2] = kind;
	identify_instance(kind, &values[3], &values[4]);
	values[5] = psprintf(INT64_FORMAT, group->roster.generation);
	if (count_rows(group, false) > 0)
		(void) group_send(group, group_counted, store_undrop_sql, 5, values);
	took = group_send(group, group_counted, store_create_sql, 6, values);
	group_look(group);
	took = Max(took, count_rows(group, true));
	if (took < group_majority(group))
		group_refused(group, "create the lease", took);
	group_notify(group);
	group_close(group);
	PG_RETURN_VOID();
}

/*
 * leasehold_alter_lease
 *		Ask for another ttl.  The holder takes it up with its next renewal; if
 *		nobody holds the lease, whoever acquires it does.
 */
Datum
leasehold_alter_lease(PG_FUNCTION_ARGS)
{
	char	   *lease = sql_text(fcinfo, 0);
	int64		ttl = sql_milliseconds(fcinfo, 1, "ttl", LEASE_TTL_MIN_MS,
									   LEASE_TTL_MAX_MS);
	StoreGroup *group;

	sql_require_preloaded();
	group = group_of_settings(lease, clock_now() + clock_ms(CALL_MS));
	sql_require_lease(group);
	group_request(group, (int32) ttl, -1, "", NULL);
	group_close(group);
	PG_RETURN_VOID();
}

/* Nothing may be left that needs the lease: it would be writable nowhere. */
static void
require_unused(StoreGroup *group)
{
	GroupTables tables;
	GroupMemberships rows;
	StringInfoData users;

	initStringInfo(&users);
	group_tables(group, &tables);
	for (int i = 0; i < tables.n; i++)
		if (strcmp(tables.entry[i].lease, group->lease) == 0)
			appendStringInfo(&users, "%s%s.%s.%s", users.len > 0 ? ", " : "",
							 tables.entry[i].database, tables.entry[i].schema,
							 tables.entry[i].name);
	if (users.len > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("lease \"%s\" protects tables", group->lease),
				 errdetail("Protected by it: %s.", users.data),
				 errhint("leasehold.unprotect() takes a table out.")));
	group_memberships(group, &rows);
	for (int i = 0; i < rows.n; i++)
		if (strcmp(rows.row[i].lease, group->lease) == 0)
			appendStringInfo(&users, "%s\"%s\"", users.len > 0 ? ", " : "",
							 rows.row[i].node);
	if (users.len > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("nodes take part in lease \"%s\"", group->lease),
				 errdetail("Its nodes: %s.", users.data),
				 errhint("leasehold.leave_lease() takes a node out.")));
}

/*
 * leasehold_drop_lease
 *		Drop a lease that nobody holds.  Its row stays, with its epoch.
 */
Datum
leasehold_drop_lease(PG_FUNCTION_ARGS)
{
	char	   *lease = sql_text(fcinfo, 0);
	const StoreLease *best;
	StoreGroup *group;
	const char *values[1];
	int			took;

	sql_require_preloaded();
	group = group_of_settings(lease, clock_now() + clock_ms(CALL_MS));
	best = sql_require_lease(group);
	require_unused(group);
	best = group_best(group);
	values[0] = lease;
	took = best->row.holder[0] != '\0' ? 0 :
		group_send(group, group_counted, store_drop_sql, 1, values);
	if (took < group_majority(group))
	{
		if (took > 0)
			(void) group_send(group, group_counted, store_take_back_drop_sql,
							  1, values);
		group_look(group);
		best = group_best(group);
		if (best != NULL && best->row.holder[0] != '\0')
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("lease \"%s\" is held by node \"%s\"", lease,
							best->row.holder),
					 errhint("It can be dropped once it is released.")));
		group_refused(group, "drop the lease", took);
	}
	group_notify(group);
	group_close(group);
	PG_RETURN_VOID();
}

/* ------------------------------------------------------------------------
 * Nodes
 * ------------------------------------------------------------------------
 */

/* Does the node hold any lease, as some member says? */
static void
require_no_lease(StoreGroup *group, const char *node)
{
	(void) group_send(group, group_counted, store_rows_sql, 0, NULL);
	for (int i = 0; i < group->n; i++)
	{
		PGresult   *result = group->member[i].result;

		for (int r = 0; result != NULL && r < PQntuples(result); r++)
			if (strcmp(PQgetvalue(result, r, ROW_HOLDER), node) == 0 &&
				PQgetvalue(result, r, ROW_DROPPED)[0] != 't')
				ereport(ERROR,
						(errcode(ERRCODE_OBJECT_IN_USE),
						 errmsg("node \"%s\" holds lease \"%s\"", node,
								PQgetvalue(result, r, ROW_NAME))));
	}
}

/*
 * Two readings of the heartbeat, for a node that this one does not watch.
 * Long enough for the default intervals; the guards of what follows name the
 * run that was seen.
 */
static bool
beat_moves(StoreGroup *group, const StoreNode *before)
{
	StoreNode  *node = palloc(sizeof(StoreNode) * NODES_MAX);
	ClockTime	until = clock_now() + clock_ms(2500);

	do
	{
		int			n;

		sql_sleep(100);
		n = group_nodes(group, node, NODES_MAX);
		for (int i = 0; i < n; i++)
			if (strcmp(node[i].name, before->name) == 0 &&
				(node[i].beat != before->beat ||
				 node[i].incarnation != before->incarnation))
				return true;
	} while (clock_now() < until);
	return false;
}

/* The node's row; an error unless it is known, silent and holds nothing. */
static StoreNode *
require_gone(StoreGroup *group, const char *name)
{
	StoreNode  *node = palloc(sizeof(StoreNode) * NODES_MAX);
	int			n = group_nodes(group, node, NODES_MAX);
	StoreNode  *found = NULL;
	Survey	   *survey = sql_survey();
	const SurveyNode *seen = sql_find_node(survey, name);

	for (int i = 0; i < n; i++)
		if (strcmp(node[i].name, name) == 0)
			found = &node[i];
	if (found == NULL)
		sql_unknown("node", name, group_node_names(node, n));
	require_no_lease(group, name);
	if ((seen != NULL && seen->alive) || beat_moves(group, found))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("node \"%s\" is alive", name),
				 errhint("Stop it, or call leasehold.leave() on it.")));
	return found;
}

/*
 * leasehold_drop_node
 *		Forget a node that is gone.
 */
Datum
leasehold_drop_node(PG_FUNCTION_ARGS)
{
	char	   *name = sql_text(fcinfo, 0);
	StoreGroup *group;
	StoreNode  *node;
	const char *values[2];
	int			took;

	sql_require_preloaded();
	group = group_of_settings("", clock_now() + clock_ms(CALL_MS));
	node = require_gone(group, name);
	(void) group_part(group, NULL, name);
	values[0] = name;
	values[1] = psprintf(INT64_FORMAT, (int64) node->incarnation);
	took = group_send(group, group_counted, store_drop_node_sql, 2, values);
	if (took == 0)
		group_refused(group, "drop the node", took);
	group_notify(group);
	group_close(group);
	PG_RETURN_VOID();
}

/*
 * leasehold_rename_node
 *		Give the row of a node that is not running another name.  The node
 *		itself has to be started under it.
 */
Datum
leasehold_rename_node(PG_FUNCTION_ARGS)
{
	char	   *name = sql_text(fcinfo, 0);
	char	   *new_name = sql_text(fcinfo, 1);
	StoreNode  *others = palloc(sizeof(StoreNode) * NODES_MAX);
	StoreGroup *group;
	StoreNode  *node;
	const char *values[3];
	int			n;
	int			took;

	sql_require_preloaded();
	sql_check_name("node", new_name);
	group = group_of_settings("", clock_now() + clock_ms(CALL_MS));
	node = require_gone(group, name);
	n = group_nodes(group, others, NODES_MAX);
	for (int i = 0; i < n; i++)
		if (strcmp(others[i].name, new_name) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_OBJECT),
					 errmsg("node \"%s\" already exists", new_name)));
	values[0] = name;
	values[1] = new_name;
	values[2] = psprintf(INT64_FORMAT, (int64) node->incarnation);
	took = group_send(group, group_counted, store_rename_node_sql, 3, values);
	if (took == 0)
		group_refused(group, "rename the node", took);
	group_notify(group);
	group_close(group);
	ereport(NOTICE,
			(errmsg("node \"%s\" is called \"%s\" from now on", name, new_name),
			 errhint("Set leasehold.node_name to it before the node is started.")));
	PG_RETURN_VOID();
}

/* ------------------------------------------------------------------------
 * leave
 * ------------------------------------------------------------------------
 */

static bool
is_listed(StoreGroup *group, const char *name)
{
	StoreNode  *node = palloc(sizeof(StoreNode) * setting_peers_max);
	int			n = group_nodes(group, node, setting_peers_max);

	for (int i = 0; i < n; i++)
		if (strcmp(node[i].name, name) == 0)
			return true;
	return false;
}

/*
 * The node's own row, best effort: the node leaves whether or not it goes.  It
 * is this run's, or that of the run before if this one was never governed.
 */
static void
forget_self(const char *name)
{
	StoreGroup *group;
	uint64		run[2] = {leasehold_shared->incarnation,
	leasehold_shared->previous};
	const char *values[2] = {name};

	if (setting_store == NULL || setting_store[0] == '\0')
		return;
	pg_atomic_write_u32(&leasehold_shared->left, 1);
	group = group_make("", clock_now() + clock_ms(5000));
	group_add(group, setting_store, false);
	group_open(group);
	for (int i = 0; i < lengthof(run); i++)
	{
		values[1] = psprintf(INT64_FORMAT, (int64) run[i]);
		if (run[i] != 0)
			group_send(group, group_connected, store_drop_node_sql, 2, values);
	}
	if (group_faults(group)[0] != '\0' || is_listed(group, name))
		ereport(WARNING,
				(errmsg("the store may still list node \"%s\"", name),
				 group_faults(group)[0] ? errdetail("%s", group_faults(group)) : 0,
				 errhint("leasehold.drop_node() on another node removes it.")));
	group_close(group);
}

/*
 * Take part in no lease of tables any more.  Returns whether it did; an error
 * while it holds one.  What is protected stays fenced here.
 */
static bool
leave_tables(ClockTime until)
{
	int			slots = (int) pg_atomic_read_u32(&leasehold_tables->nslots);
	bool		member = false;
	StoreGroup *group;

	for (int i = 0; i < slots; i++)
	{
		const char *lease = leasehold_tables->slot[i].name;

		if (tables_held_epoch(i) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("this node holds lease \"%s\"", lease),
					 errhint("leasehold.switchover() hands it to another node.")));
		member |= sql_table_slot(lease, NULL) != TABLES_NO_SLOT;
	}
	if (!member)
		return false;
	group = group_of_settings("", until);
	(void) group_part(group, NULL, settings_node_name());
	group_close(group);
	return true;
}

/*
 * leasehold_leave
 *		This node is governed no more.
 */
Datum
leasehold_leave(PG_FUNCTION_ARGS)
{
	ClockTime	until = clock_now() + clock_ms(10000);
	bool		left;

	sql_require_preloaded();
	if (settings_lease()[0] != '\0')
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("lease \"%s\" governs this node", settings_lease()),
				 errhint(settings_store_embedded() ?
						 "Empty leasehold.lease and leasehold.store in the configuration, and reload." :
						 "Empty leasehold.lease in the configuration, and reload.")));
	left = leave_tables(until);
	/* the keeper gives it up by itself after the reload */
	while (shared_lease_epoch(&fence_shared->instance) != 0)
	{
		sql_sleep(20);
		if (clock_now() >= until)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("this node still holds its lease")));
	}
	if (!shared_is_governed(fence_shared))
	{
		if (!left)
			ereport(NOTICE, (errmsg("no lease governs this node")));
		forget_self(settings_node_name());
		PG_RETURN_VOID();
	}
	pg_atomic_write_u32(&leasehold_shared->leave_asked, 1);
	while (shared_is_governed(fence_shared))
	{
		shared_wake_steward();
		sql_sleep(20);
		if (clock_now() >= until)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the steward has not removed the note that this node is governed"),
					 errhint("See the server's log.")));
	}
	/* so that the views say so, too, when this returns */
	until = clock_now() + 2 * CLOCK_S;
	while (sql_status()->lease[0] != '\0' && clock_now() < until)
		sql_sleep(10);
	forget_self(settings_node_name());
	PG_RETURN_VOID();
}
