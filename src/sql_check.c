/*
 * sql_check.c
 *		leasehold.check(): everything about this node, its settings and its
 *		members that would make the promise untrue.
 *
 * One row per item, with what was found and what to do about it.  It asks the
 * members itself, with deadlines, and works on a node that is fenced, cut off
 * or not preloaded.  Must never raise an error for what it finds.
 */
#include "postgres.h"

#include <unistd.h>

#include "access/xlog.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "durable.h"
#include "settings.h"
#include "sql.h"
#include "sql_check.h"
#include "store_care.h"

PG_FUNCTION_INFO_V1(leasehold_check);

#define MEMBER_MS	3000
#define CALL_MS		9000

void
check_put(Check *check, const char *item, bool ok, const char *detail,
		  const char *remedy)
{
	ReturnSetInfo *to = (ReturnSetInfo *) check->fcinfo->resultinfo;
	Datum		value[4] = {0};
	bool		null[4] = {false};

	value[0] = CStringGetTextDatum(item);
	value[1] = BoolGetDatum(ok);
	value[2] = CStringGetTextDatum(detail);
	if (ok || remedy == NULL)
		null[3] = true;
	else
		value[3] = CStringGetTextDatum(remedy);
	tuplestore_putvalues(to->setResult, to->setDesc, value, null);
}

/* ------------------------------------------------------------------------
 * This node
 * ------------------------------------------------------------------------
 */

static void
check_library(Check *check)
{
	const char *others = shared_preload_libraries_string;

	check_put(check, "library", check->status != NULL,
		check->status != NULL ? "leasehold is preloaded." :
		"leasehold is not preloaded: nothing is fenced.",
		psprintf("Add the line shared_preload_libraries = '%s%sleasehold' to postgresql.conf and restart the server.",
				 others ? others : "", others && others[0] ? "," : ""));
}

/* Without a seat in max_worker_processes a worker does not start. */
static void
check_workers(Check *check)
{
	ClockTime	age = clock_now() - check->status->published_at;
	bool		keeper = pg_atomic_read_u32(&leasehold_shared->keeper.pid) != 0;
	bool		steward = pg_atomic_read_u32(&leasehold_shared->steward.pid) != 0;
	bool		prober = pg_atomic_read_u32(&leasehold_shared->prober.pid) != 0;
	bool		reports = check->status->published_at != 0 && age < 5 * CLOCK_S;

	if (keeper && steward && prober && reports)
		check_put(check, "workers", true, "Keeper, steward and prober are running.", NULL);
	else if (keeper && steward && prober)
		check_put(check, "workers", false,
			"The keeper is running but has not reported for more than 5 s.",
			"See whether the process \"leasehold keeper\" is stopped.");
	else
		check_put(check, "workers", false,
			psprintf("The %s is not running.",
					 keeper && steward ? "prober" : keeper ? "steward" :
					 steward ? "keeper" : "keeper and the steward"),
			"Raise max_worker_processes and restart the server; the log says why a worker did not start.");
}

static void
check_node_name(Check *check)
{
	bool		set = setting_node_name != NULL && setting_node_name[0] != '\0';

	if (check->status->state == NODE_EXCLUDED)
		check_put(check, "node_name", false,
			psprintf("Another live instance uses the node name \"%s\"; this one takes no part.",
					 settings_node_name()),
			"Give this instance another leasehold.node_name and restart it, or stop the other one.");
	else
		check_put(check, "node_name", set || settings_store_embedded(),
			set ? psprintf("This node is \"%s\".", settings_node_name()) :
			psprintf("leasehold.node_name is not set; \"%s\" is taken from host name and port.",
					 settings_node_name()),
			"Set leasehold.node_name to a name that no other node has, and restart the server.");
}

static void
check_fence(Check *check)
{
	bool		ok = setting_fence == FENCE_ENFORCE;

	check_put(check, "fence", ok,
		ok ? "leasehold.fence is enforce." :
		setting_fence == FENCE_WARN ?
		"leasehold.fence is warn: writes without the lease are logged, not refused." :
		"leasehold.fence is off: nothing keeps this node from writing without the lease.",
		"Set leasehold.fence to enforce and reload.");
}

/* What has to survive a crash is on disk only if the server sees to that. */
static void
check_durability(Check *check)
{
	check_put(check, "fsync", enableFsync,
		enableFsync ? "fsync is on." :
		"fsync is off: an operating system crash may take acknowledged writes back.",
		"Set fsync to on and reload.");
	check_put(check, "full_page_writes", fullPageWrites,
		fullPageWrites ? "full_page_writes is on." :
		"full_page_writes is off: an operating system crash may corrupt data.",
		"Set full_page_writes to on and reload.");
}

/* The note in the data directory (R11). */
static void
check_state_file(Check *check)
{
	DurableState *state = palloc(sizeof(DurableState));
	DurableState persisted;
	DurableProof proof = durable_read(state);
	bool		governed = shared_is_governed(fence_shared);

	shared_read(&leasehold_shared->persisted, &persisted);
	if (proof == DURABLE_BROKEN)
		check_put(check, "state file", false,
			psprintf("File \"%s\" in the data directory cannot be read.", DURABLE_FILE),
			"It is written anew once the store answers; see that the data directory is readable by the server.");
	else if (proof == DURABLE_COPY)
		check_put(check, "state file", false,
			psprintf("File \"%s\" was written in another directory or machine: this data directory is a copy.",
					 DURABLE_FILE),
			"Give the copy a leasehold.node_name of its own before the original runs again.");
	else if (governed && persisted.incarnation != leasehold_shared->incarnation)
		check_put(check, "state file", false,
			psprintf("This run could not write file \"%s\" yet; until then the node acquires nothing.",
					 DURABLE_FILE),
			"See the server's log: the data directory has to be writable and have space.");
	else
		check_put(check, "state file", true,
			governed ? "What must outlive this run is on disk." :
			"Nothing has to outlive this run.", NULL);
}

static void
check_health(Check *check)
{
	ClockTime	healthy_at = (ClockTime)
		pg_atomic_read_u64(&leasehold_shared->healthy_at);
	ClockTime	age = clock_now() - healthy_at;
	int			ttl = check->status->ttl_ms > 0 ? check->status->ttl_ms : 10000;
	ClockTime	limit = clock_ms(setting_health_timeout > 0 ?
								 setting_health_timeout : ttl);

	if (!shared_is_governed(fence_shared))
		return;
	if (healthy_at == 0)
		check_put(check, "health", false,
			"The instance has not passed its own health check in this run.",
			"See the server's log for what the steward found.");
	else
		check_put(check, "health", age < limit,
			psprintf("The instance last passed its own health check %d ms ago; the limit is %d ms.",
					 (int) (age / CLOCK_MS), (int) (limit / CLOCK_MS)),
			"See the server's log for what the steward found; a disk that hangs, or a raised leasehold.health_timeout.");
}

/* ------------------------------------------------------------------------
 * The lease and the intervals
 * ------------------------------------------------------------------------
 */

/* In how many leases of tables does this node take part? */
static int
count_table_leases(const Check *check)
{
	int			n = 0;

	if (check->status == NULL)
		return 0;
	for (int i = 0; i < (int) pg_atomic_read_u32(&leasehold_tables->nslots); i++)
		n += sql_table_slot(leasehold_tables->slot[i].name, NULL) != TABLES_NO_SLOT;
	return n;
}

static void
check_lease(Check *check)
{
	const char *lease = settings_lease();
	bool		governed = check->status != NULL &&
		shared_is_governed(fence_shared);

	if (lease[0] == '\0' && !governed && count_table_leases(check) > 0)
		check_put(check, "lease", true,
			psprintf("No lease governs this whole instance; it takes part in %d leases of tables.",
					 count_table_leases(check)), NULL);
	else if (lease[0] == '\0')
		check_put(check, "lease", false,
			governed ? "leasehold.lease is empty, but this node was governed by a lease: it stays fenced." :
			"leasehold.lease is empty: nothing is fenced.",
			governed ? "Name the lease, or call leasehold.leave()." :
			"Set leasehold.lease to the name of a lease and reload.");
	else if (check->lease != NULL && check->lease->row.present)
		check_put(check, "lease", true,
			psprintf("Lease \"%s\": kind %s, ttl %d ms, epoch " INT64_FORMAT ", %s%s.",
					 lease, check->lease->kind, check->lease->row.ttl_ms,
					 check->lease->row.epoch,
					 check->lease->row.holder[0] ? "held by " : "held by nobody",
					 check->lease->row.holder), NULL);
	else if (check->group != NULL &&
			 group_count(check->group, group_counted) >= group_majority(check->group) &&
			 check->group->roster.n > 0)
		check_put(check, "lease", false,
			psprintf("The store knows no lease \"%s\".", lease),
			psprintf("SELECT leasehold.create_lease('%s', kind => ...), or correct leasehold.lease.", lease));
	else
		check_put(check, "lease", false,
			psprintf("Whether lease \"%s\" exists cannot be read.", lease),
			"Mend the members first, see below.");
}

static void
check_state(Check *check)
{
	const KeeperStatus *status = check->status;
	bool		ok = status->state != NODE_FENCED &&
		status->state != NODE_EXCLUDED;

	check_put(check, "state", ok,
		psprintf("This node is %s.%s%s", sql_state_name(status->state),
				 status->reason[0] ? " " : "", status->reason),
		"The rows of this table that are not ok say what to do.");
	if (status->settings_fault[0] != '\0')
		check_put(check, "settings", false,
			psprintf("The last reload was not taken: %s", status->settings_fault),
			"Correct the settings and reload.");
}

static void
check_intervals(Check *check)
{
	int			ttl = check->lease != NULL ? check->lease->row.ttl_ms :
		check->status != NULL ? check->status->ttl_ms : 0;
	int			margin = setting_safety_margin;
	int			renew = setting_renew_interval;
	int			look = setting_look_interval;

	if (ttl <= 0)
		return;
	if (margin == 0)
		margin = Max(ttl / 20, 20);
	if (renew == 0)
		renew = ttl / 5;
	if (look == 0)
		look = Min(Max(ttl / 20, 20), 500);
	check_put(check, "safety_margin", margin <= ttl / 2,
		psprintf("The margin is %d ms of a ttl of %d ms.", margin, ttl),
		"Lower leasehold.safety_margin to at most half of the ttl, or raise the ttl with leasehold.alter_lease().");
	check_put(check, "renew_interval", renew <= (ttl - margin) / 2,
		psprintf("The lease is renewed every %d ms, of a ttl of %d ms.", renew, ttl),
		"Lower leasehold.renew_interval to less than half of what the margin leaves of the ttl, so that a second attempt fits in.");
	check_put(check, "look_interval", look <= ttl / 4,
		psprintf("A follower looks every %d ms, at a ttl of %d ms.", look, ttl),
		"Lower leasehold.look_interval: it delays every takeover.");
}

/* ------------------------------------------------------------------------
 * Members
 * ------------------------------------------------------------------------
 */

static const char *
item_of(const Check *check, int i)
{
	return psprintf("member %s", check->group->member[i].conninfo.label);
}

/* What to do about a member that cannot be used. */
static const char *
member_remedy(const Check *check, int i)
{
	const GroupMember *member = &check->group->member[i];
	const Link *link = &member->link;

	if (link_error_is(link, "42P01") || link_error_is(link, "3F000"))
		return "SELECT leasehold.init_store() with its connection string, then leasehold.set_store() or leasehold.reseed_member().";
	if (link->fault[0] != '\0' && strncmp(link->sqlstate, "28", 2) == 0)
		return "See the role, the password file or certificate, and the member's pg_hba.conf.";
	if (link->fault[0] != '\0' && strncmp(link->sqlstate, "42501", 5) == 0)
		return "Grant the role what leasehold-store.sql lists at its end.";
	if (link->fault[0] != '\0')
		return "See that the server runs and that host, port and database in leasehold.store are right.";
	if (!member->is_store)
		return "Name a database that leasehold-store.sql has been run in; leasehold.reseed_member() mends one that lost its content.";
	if (member->answer.head.schema_version != STORE_SCHEMA_VERSION)
		return "Run all nodes and members with the same release, or name another member.";
	if (member->server.in_recovery)
		return "Name the primary: a physical standby is never a member.";
	switch (member->standing)
	{
		case ROSTER_NO_LIST:
			return "leasehold.create_lease() or leasehold.set_store() puts it on the list; leasehold.reseed_member() if it was a member before.";
		case ROSTER_OTHER_LINEAGE:
			return "Use a database of its own for each store.";
		case ROSTER_OTHER_SYSTEM:
			return "leasehold.reseed_member(), once it is certain that it is the only one of its kind.";
		case ROSTER_DOUBLE:
			return "Remove one of the two addresses from leasehold.store.";
		case ROSTER_NOT_LISTED:
		case ROSTER_OLD_GENERATION:
		case ROSTER_NOT_SETTLED:
			return "leasehold.set_store() with all members brings the list up to date.";
		case ROSTER_COUNTED:
		case ROSTER_NOT_ASKED:
			break;
	}
	return NULL;
}

/* R6: what the keeper has found out about this member while it watched it. */
static bool
has_forgotten(const Check *check, int i)
{
	const GroupMember *member = &check->group->member[i];

	if (check->status == NULL || i >= check->status->nmembers)
		return false;
	return check->status->member[i].forgot &&
		strcmp(check->status->member[i].label, member->conninfo.label) == 0;
}

static void
check_member(Check *check, int i)
{
	const GroupMember *member = &check->group->member[i];
	const char *fault = group_fault(check->group, i);
	const char *item = item_of(check, i);

	if (fault != NULL)
		check_put(check, item, false,
			member->link.fault[0] && member->link.sqlstate[0] ?
			psprintf("%s (SQLSTATE %s).", fault, member->link.sqlstate) :
			psprintf("It cannot be counted: %s.", fault),
			member_remedy(check, i));
	else if (has_forgotten(check, i))
		check_put(check, item, false,
			"It has lost its memory: an epoch or a version there is lower than it was.",
			"SELECT leasehold.reseed_member() with its connection string.");
	else if (settings_lease()[0] != '\0' && check->lease != NULL &&
			 member->answer.lease.name[0] == '\0')
		check_put(check, item, false,
			psprintf("It has no row of lease \"%s\", which others have.", settings_lease()),
			"leasehold.set_store() with the same members brings it up to date.");
	else
		check_put(check, item, true,
			psprintf("It is counted; generation " INT64_FORMAT " of the list.",
					 member->answer.head.generation), NULL);
}

/* Settings and clock of a member that is PostgreSQL. */
static void
check_member_server(Check *check, int i)
{
	const GroupMember *member = &check->group->member[i];
	const PGresult *result = member->result;
	const char *item = item_of(check, i);
	int64		since_1970;
	double		ahead;

	if (result == NULL || PQntuples(result) != 1 || PQnfields(result) != 5)
		return;
	if (strcmp(PQgetvalue(result, 0, 0), "off") == 0)
		check_put(check, item, false,
			"fsync is off there: an operating system crash makes it forget what it promised.",
			"Set fsync to on at the member.");
	if (strcmp(PQgetvalue(result, 0, 1), "off") == 0)
		check_put(check, item, false,
			"full_page_writes is off there: an operating system crash may corrupt its data.",
			"Set full_page_writes to on at the member.");
	if (member->server.lax_commit)
		check_put(check, item, true,
			"synchronous_commit is off there; nodes turn it on for their own sessions.",
			NULL);
	since_1970 = strtoll(PQgetvalue(result, 0, 4), NULL, 10);
	ahead = (double) (since_1970 - (GetCurrentTimestamp() +
									((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE)) * USECS_PER_DAY)) / 1e6;
	if (ahead > 5.0 || ahead < -5.0)
		check_put(check, item, true,
			psprintf("Its wall clock is %.0f s %s this node's. That is harmless: no decision depends on it.",
					 ahead > 0 ? ahead : -ahead, ahead > 0 ? "ahead of" : "behind"),
			NULL);
}

/* Members that would fail together. */
static void
check_failure_domains(Check *check)
{
	const StoreGroup *group = check->group;
	char		own[ROSTER_SYSID_LEN] = "";

	snprintf(own, sizeof(own), UINT64_FORMAT, GetSystemIdentifier());
	for (int i = 0; i < group->n; i++)
	{
		const char *sysid = group->member[i].server.sysid;

		if (!group_connected(group, i) || sysid[0] == '\0')
			continue;
		if (strcmp(sysid, own) == 0 && !settings_store_embedded())
			check_put(check, item_of(check, i), true,
				"It is in this very instance: it fails together with this node.",
				NULL);
		for (int k = 0; k < i; k++)
			if (group_connected(group, k) &&
				strcmp(group->member[k].server.sysid, sysid) == 0)
			{
				check_put(check, item_of(check, i), false,
					psprintf("It is in the same server as member %s: they fail together.",
							 group->member[k].conninfo.label),
					"Put each member into a server of its own, on a machine of its own.");
				break;
			}
	}
}

static void
check_list(Check *check)
{
	const StoreGroup *group = check->group;
	int			size = group->roster.n;
	int			counted = group_count(group, group_counted);

	if (size == 0)
	{
		check_put(check, "members", false, "No list of members is agreed on.",
			"leasehold.create_lease() forms the first list of a fresh store.");
		return;
	}
	check_put(check, "members", counted >= group_majority(group),
		psprintf("%d of %d members can be counted, %d are needed.", counted, size,
				 group_majority(group)),
		"Mend the members above.");
	if (group->n < size)
		check_put(check, "members", false,
			psprintf("leasehold.store names %d members, the agreed list has %d.",
					 group->n, size),
			"Name all members in leasehold.store, or take the others off the list with leasehold.set_store().");
	if (size % 2 == 0)
		check_put(check, "members", false,
			psprintf("The list has an even number of members: %d tolerate the loss of %d, as %d do.",
					 size, (size - 1) / 2, size - 1),
			"Add a member or take one off with leasehold.set_store().");
}

/* ------------------------------------------------------------------------
 * All together
 * ------------------------------------------------------------------------
 */

static void
open_store(Check *check)
{
	if (setting_store == NULL || setting_store[0] == '\0')
		return;
	check->group = group_make(settings_lease(), clock_now() + clock_ms(CALL_MS));
	check->group->request_ms = MEMBER_MS;
	group_add(check->group, setting_store, false);
	group_open(check->group);
	check->lease = group_best(check->group);
}

static void
check_store(Check *check)
{
	if (check->group == NULL)
	{
		check_put(check, "store", false, "leasehold.store is empty.",
			"Set leasehold.store to the connection strings of its members, or to embedded, and reload.");
		return;
	}
	check_put(check, "store", true,
		settings_store_embedded() ?
		"This instance is its own store: nobody else can take over." :
		psprintf("leasehold.store names %d member(s).", check->group->n), NULL);
	for (int i = 0; i < check->group->n; i++)
		check_member(check, i);
	/* may fail on a member that is no PostgreSQL: then nothing is said of it */
	(void) group_send(check->group, group_connected, store_durability_sql, 0, NULL);
	for (int i = 0; i < check->group->n; i++)
		check_member_server(check, i);
	check_failure_domains(check);
	group_look(check->group);
	check_list(check);
}

/*
 * leasehold_check
 *		Preflight: rows of item, ok, detail, remedy.
 */
Datum
leasehold_check(PG_FUNCTION_ARGS)
{
	Check		check = {fcinfo};

	InitMaterializedSRF(fcinfo, 0);
	if (leasehold_shared != NULL)
		check.status = sql_status();
	open_store(&check);
	check_library(&check);
	if (check.status != NULL)
	{
		check_workers(&check);
		check_node_name(&check);
	}
	check_lease(&check);
	if (check.status != NULL)
		check_state(&check);
	check_fence(&check);
	check_intervals(&check);
	check_durability(&check);
	if (check.status != NULL)
	{
		check_state_file(&check);
		check_health(&check);
	}
	check_store(&check);
	if (check.status != NULL && strcmp(check.status->kind, "physical") == 0)
		check_replication(&check);
	if (check.status != NULL)
		check_tables(&check);
	if (check.group != NULL)
		group_close(check.group);
	return (Datum) 0;
}
