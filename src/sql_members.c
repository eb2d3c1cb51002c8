/*
 * sql_members.c
 *		Care of the store's members: init_store, set_store, reseed_member.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

#include "group_tables.h"
#include "relist.h"
#include "settings.h"
#include "sql.h"
#include "store_care.h"
#include "tables.h"
#include "timeline.h"

PG_FUNCTION_INFO_V1(leasehold_init_store);
PG_FUNCTION_INFO_V1(leasehold_set_store);
PG_FUNCTION_INFO_V1(leasehold_reseed_member);

#define CALL_MS			120000

/* ------------------------------------------------------------------------
 * init_store
 * ------------------------------------------------------------------------
 */

void
sql_init_member(GroupMember *member, ClockTime deadline)
{
	PGresult   *result = link_run(&member->link, store_read_script(), 0, NULL, deadline);
	bool		done = result != NULL &&
		PQresultStatus(result) != PGRES_FATAL_ERROR;

	PQclear(result);
	if (done)
		return;
	if (link_error_is(&member->link, "42P06"))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("member %s is initialised already", member->conninfo.label)));
	group_raise(member, "make the store");
}

/* Parse one connection string, and connect to what it names. */
static StoreGroup *
open_one(const char *conninfo)
{
	StoreGroup *group;

	if (strcmp(conninfo, "embedded") != 0)
		sql_judge_conninfo(conninfo);
	group = group_make("", clock_now() + clock_ms(CALL_MS));
	group_add(group, conninfo, false);
	if (group->n != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("one connection string is expected")));
	group_open(group);
	if (group->member[0].link.state != LINK_IDLE)
		group_raise(&group->member[0], "connect");
	return group;
}

/*
 * leasehold_init_store
 *		Make the store's schema in a member's database.
 */
Datum
leasehold_init_store(PG_FUNCTION_ARGS)
{
	StoreGroup *group = open_one(sql_text(fcinfo, 0));

	sql_init_member(&group->member[0], group->deadline);
	group_close(group);
	PG_RETURN_VOID();
}

/* ------------------------------------------------------------------------
 * set_store
 * ------------------------------------------------------------------------
 */

/* Each member of the new list has to answer, as a store, and only once. */
static void
list_of_new(const StoreGroup *group, Roster *next)
{
	next->n = 0;
	for (int i = 0; i < group->n; i++)
	{
		const GroupMember *member = &group->member[i];
		const Roster *its = &group->report[i].roster;

		if (!member->in_new_list)
			continue;
		if (!group_connected(group, i))
			ereport(ERROR,
					(errcode(member->link.fault[0] ?
							 group_sqlstate(&member->link) :
							 ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("member %s cannot be used: %s",
							member->conninfo.label, group_fault(group, i)),
					 errhint("Every member of the new list has to answer.")));
		if (its->generation > 0 && group->roster.generation > 0 &&
			strcmp(its->lineage, group->roster.lineage) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("member %s belongs to another store",
							member->conninfo.label),
					 errhint("Use a database of its own for each store.")));
		if (relist_contains(next, &group->report[i].id))
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_OBJECT),
					 errmsg("member %s is the same as one named before it",
							member->conninfo.label)));
		if (next->n >= LEASE_MEMBERS_MAX)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("at most %d members are supported", LEASE_MEMBERS_MAX)));
		next->id[next->n++] = group->report[i].id;
	}
	if (next->n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the new list has no member")));
}

/*
 * What a node has no address of, it cannot count: with less than a majority of
 * the new list named, this node would be fenced by the change.
 */
static void
judge_settings(const StoreGroup *group, int nsettings, int size)
{
	int			named = 0;

	for (int i = 0; i < nsettings; i++)
		named += group->member[i].in_new_list;
	if (named < size / 2 + 1 && shared_is_governed(fence_shared))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("leasehold.store of this node names %d of the new list's %d members",
						named, size),
				 errdetail("It could not count a majority of them any more."),
				 errhint("Name all members, old and new, in leasehold.store of every node before the list is changed.")));
	if (named < size)
		ereport(WARNING,
				(errmsg("leasehold.store of this node names %d of the new list's %d members",
						named, size),
				 errhint("Name all members, old and new, in leasehold.store of every node before the list is changed.")));
}

/*
 * leasehold_set_store
 *		Change the agreed list of members.
 */
Datum
leasehold_set_store(PG_FUNCTION_ARGS)
{
	char	   *members = sql_text(fcinfo, 0);
	StoreGroup *group;
	Roster		next = {0};
	int			nsettings;

	sql_require_preloaded();
	sql_spare_session();
	if (strcmp(members, "embedded") != 0)
		sql_judge_conninfo(members);
	group = group_make("", clock_now() + clock_ms(CALL_MS));
	if (setting_store != NULL)
		group_add(group, setting_store, false);
	nsettings = group->n;
	group_add(group, members, true);
	group_open(group);
	next.generation = group->roster.generation + 1;
	strlcpy(next.lineage, group->roster.lineage, sizeof(next.lineage));
	list_of_new(group, &next);
	judge_settings(group, nsettings, next.n);
	if (group->roster.generation == 0)
	{
		/* nothing was ever agreed on: as create_lease() does it */
		StoreGroup *fresh = group_make("", group->deadline);

		group_add(fresh, members, true);
		group_open(fresh);
		relist_form(fresh, sql_uuid());
		group_close(fresh);
	}
	else
		relist_change(group, &next);
	if (next.n % 2 == 0)
		ereport(NOTICE,
				(errmsg("the store has an even number of members"),
				 errdetail("%d members tolerate the loss of %d, no more than %d do.",
						   next.n, (next.n - 1) / 2, next.n - 1)));
	group_close(group);
	PG_RETURN_VOID();
}

/* ------------------------------------------------------------------------
 * reseed_member
 * ------------------------------------------------------------------------
 */

static GroupMember *
find_member(StoreGroup *group, const char *name)
{
	StringInfoData labels;

	initStringInfo(&labels);
	for (int i = 0; i < group->n; i++)
	{
		const Conninfo *conninfo = &group->member[i].conninfo;

		if (strcmp(conninfo->text, name) == 0 || strcmp(conninfo->label, name) == 0)
			return &group->member[i];
		appendStringInfo(&labels, "%s\"%s\"", i > 0 ? ", " : "", conninfo->label);
	}
	/* the argument is not repeated: it may have a secret in it */
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("leasehold.store names no such member"),
			 errhint("Members: %s.", labels.data),
			 errhidestmt(true)));
	return NULL;
}

/* Is the id that of a connected member other than this one? */
static bool
is_present(const StoreGroup *group, const RosterId *id, int except)
{
	for (int i = 0; i < group->n; i++)
		if (i != except && group_connected(group, i) &&
			strcmp(group->report[i].id.store_id, id->store_id) == 0)
			return true;
	return false;
}

/* Which member of the agreed list was it?  Its place in the list. */
static int
place_in_list(const StoreGroup *group, int i)
{
	const Roster *roster = &group->roster;
	int			missing = -1;

	for (int k = 0; k < roster->n; k++)
		if (group_connected(group, i) &&
			strcmp(roster->id[k].store_id, group->report[i].id.store_id) == 0)
			return k;
	for (int k = 0; k < roster->n; k++)
	{
		if (is_present(group, &roster->id[k], i))
			continue;
		if (missing >= 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("it cannot be told which member of the list this one was"),
					 errdetail("More than one of the list's members is missing. %s",
							   group_faults(group)),
					 errhint("leasehold.set_store() replaces them.")));
		missing = k;
	}
	if (missing < 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("member %s is not on the agreed list, and no other is missing",
						group->member[i].conninfo.label),
				 errhint("leasehold.set_store() adds members.")));
	return missing;
}

/* Give the member a schema if it has none, and a new identity in any case. */
static void
make_anew(StoreGroup *group, GroupMember *member)
{
	const char *values[1] = {sql_uuid()};
	PGresult   *result;
	bool		done;

	if (link_error_is(&member->link, "42P01") ||
		link_error_is(&member->link, "3F000"))
		sql_init_member(member, group->deadline);
	else if (!member->is_store && member->link.fault[0] != '\0')
		group_raise(member, "read the store");
	result = link_run(&member->link, store_anew_sql, 1, values, group->deadline);
	done = result != NULL && PQntuples(result) == 1;
	PQclear(result);
	if (done)
	{
		result = link_run(&member->link, store_blank_sql, 0, NULL, group->deadline);
		done = result != NULL && PQresultStatus(result) == PGRES_COMMAND_OK;
		PQclear(result);
	}
	if (!done)
		group_raise(member, "give a new identity");
	group_look(group);
}

/* Has a reseeding been stopped after the new list was written there? */
static bool
begun_here(const StoreGroup *group, int i)
{
	const Roster *its = &group->report[i].roster;
	int			known = 0;

	if (!group_connected(group, i) ||
		its->generation <= group->roster.generation ||
		strcmp(its->lineage, group->roster.lineage) != 0 ||
		its->n != group->roster.n ||
		!relist_contains(its, &group->report[i].id))
		return false;
	for (int k = 0; k < its->n; k++)
		known += relist_contains(&group->roster, &its->id[k]);
	return known == its->n - 1;
}

/* ---- a store of one member: what this node knows has to do ---- */

static char *
number_text(int64 value)
{
	return psprintf(INT64_FORMAT, value);
}

static char *
truth_text(bool value)
{
	return value ? "true" : "false";
}

static char *
lsn_text(uint64 lsn)
{
	char		text[LSN_TEXT_LEN];

	lsn_format(lsn, text, sizeof(text));
	return pstrdup(text);
}

/* A row as the keeper last read it. */
static void
row_of_survey(const SurveyLease *from, RelistRow *to)
{
	const LeaseRow *row = &from->row;

	for (int c = 0; c < ROW_COUNT; c++)
		to->value[c] = "";
	to->value[ROW_NAME] = pstrdup(from->name);
	to->value[ROW_HOLDER] = pstrdup(row->holder);
	to->value[ROW_INCARNATION] = number_text((int64) row->incarnation);
	to->value[ROW_EPOCH] = number_text(row->epoch);
	to->value[ROW_VERSION] = number_text(row->version);
	to->value[ROW_NONCE] = "0";
	to->value[ROW_TTL] = number_text(row->ttl_ms);
	to->value[ROW_FROZEN] = truth_text(row->frozen);
	to->value[ROW_SEQ] = number_text(row->request_seq);
	to->value[ROW_TTL_WANTED] = number_text(row->ttl_wanted_ms);
	to->value[ROW_PAUSE_WANTED] = truth_text(row->pause_wanted);
	to->value[ROW_KIND] = pstrdup(from->kind);
	to->value[ROW_SCOPE] = pstrdup(from->scope);
	to->value[ROW_SYSID] = pstrdup(row->sysid);
	to->value[ROW_TIMELINE] = number_text(row->wrote.timeline);
	to->value[ROW_TIMELINE_BEGIN] = lsn_text(row->wrote.begin);
	to->value[ROW_TIMELINE_EPOCH] = number_text(row->wrote.epoch);
	to->value[ROW_HOLDER_LSN] = lsn_text(row->wrote.lsn);
	to->value[ROW_SYNC_SET] = pstrdup(row->wrote.sync_set);
	to->value[ROW_READY] = "0";
	to->value[ROW_DROPPED] = "false";
}

/* All versions of all rows that can be had: the member's and this node's. */
static int
gather_rows(StoreGroup *group, RelistRow *row, int max)
{
	Survey	   *survey = sql_survey();
	PGresult   *result;
	int			n = 0;

	if (group->member[0].is_store)
	{
		(void) group_send(group, group_connected, store_rows_sql, 0, NULL);
		result = group->member[0].result;
		for (int r = 0; result != NULL && r < PQntuples(result) && n < max; r++)
			relist_read_row(result, r, &row[n++]);
	}
	for (int i = 0; i < survey->nleases && n < max; i++)
		row_of_survey(&survey->lease[i], &row[n++]);
	return n;
}

/*
 * Does this node hold the lease right now, as the row says?  Then nobody else
 * does.  Of anybody else that cannot be known: the member may have let another
 * node take it before it lost its memory.
 */
static bool
is_held_here(const RelistRow *row)
{
	uint64		epoch = sql_held_epoch(row->value[ROW_NAME]);

	return epoch != 0 &&
		epoch == strtoull(row->value[ROW_EPOCH], NULL, 10) &&
		strcmp(row->value[ROW_HOLDER], settings_node_name()) == 0;
}

/*
 * The row to begin anew with.  Nobody may take it before a whole ttl is over,
 * and its epoch is above all that this node ever saw.
 */
static void
raise_row(const RelistRow *row, int n, const char *name, int64 floor,
		  RelistRow *to)
{
	RelistRow  *same = palloc(sizeof(RelistRow) * n);
	int			nsame = 0;

	for (int i = 0; i < n; i++)
		if (strcmp(row[i].value[ROW_NAME], name) == 0)
		{
			same[nsame] = row[i];
			/* the survey does not know these: take them from the member's */
			if (nsame > 0 && same[nsame].value[ROW_SYSID][0] == '\0')
			{
				same[nsame].value[ROW_SYSID] = same[0].value[ROW_SYSID];
				same[nsame].value[ROW_TIMELINE] = same[0].value[ROW_TIMELINE];
			}
			nsame++;
		}
	/* the holder's own row goes on if it is the latest; else all have to wait */
	relist_merge(same, nsame, 1, to);
	if (to->value[ROW_HOLDER][0] == '\0')
		relist_merge(same, nsame, nsame + 1, to);
	if (strtoll(to->value[ROW_EPOCH], NULL, 10) < floor)
		to->value[ROW_EPOCH] = number_text(floor);
	if (!is_held_here(to))
		to->value[ROW_INCARNATION] = "0";
	to->value[ROW_VERSION] =
		number_text(strtoll(to->value[ROW_VERSION], NULL, 10) + 1000000);
}

static void
run_at(StoreGroup *group, const char *what, const char *sql, int n,
	   const char *const *values)
{
	if (group_send(group, group_connected, sql, n, values) == 0)
		group_raise(&group->member[0], what);
}

/*
 * The list of protected tables, as the member has it and as this node knows it,
 * whatever is later.  All of it gets a number above all that any node may have
 * confirmed: what they know beyond it is lost, and must not go on counting.
 */
static void
gather_tables(StoreGroup *group, GroupTables *tables)
{
	TableList  *list = palloc(tables_list_size());
	GroupTables there = {0};

	if (group->member[0].is_store)
		(void) group_read_tables(group, group_connected, &there);
	if (!tables_read(list) || list->unknown)
		list->n = 0, list->seq = 0;
	tables->n = 0;
	tables->entry = palloc(sizeof(TableEntry) * (there.n + list->n + 1));
	for (int i = 0; i < list->n; i++)
		tables->entry[tables->n++] = list->entry[i];
	tables->highest = Max(there.highest, list->seq);
	for (int i = 0; i < there.n; i++)
	{
		TableEntry *known = group_find_table(tables, &there.entry[i]);

		if (known == NULL)
			tables->entry[tables->n++] = there.entry[i];
		else if (known->seq < there.entry[i].seq)
			*known = there.entry[i];
	}
	if (tables->n == 0 && tables->highest == 0)
		return;
	tables->highest += 1000000;
	for (int i = 0; i < tables->n; i++)
		tables->entry[i].seq = tables->highest;
}

/* Who takes part: what the member still knows, and this node's own part. */
static void
gather_memberships(StoreGroup *group, GroupMemberships *rows)
{
	int			slots = (int) pg_atomic_read_u32(&leasehold_tables->nslots);
	GroupMemberships there = {0};

	if (group->member[0].is_store)
		(void) group_read_memberships(group, group_connected, 1, &there);
	*rows = there;
	rows->row = palloc(sizeof(StoreMembership) * (there.n + slots + 1));
	if (there.n > 0)
		memcpy(rows->row, there.row, sizeof(StoreMembership) * there.n);
	LWLockAcquire(leasehold_tables->status_lock, LW_SHARED);
	for (int i = 0; i < slots; i++)
	{
		StoreMembership *row = &rows->row[rows->n];

		if (!leasehold_tables->status[i].takes_part ||
			group_find_membership(rows, leasehold_tables->slot[i].name,
								  settings_node_name()) != NULL)
			continue;
		strlcpy(row->lease, leasehold_tables->slot[i].name, sizeof(row->lease));
		strlcpy(row->node, settings_node_name(), sizeof(row->node));
		row->priority = leasehold_tables->status[i].priority;
		rows->n++;
	}
	LWLockRelease(leasehold_tables->status_lock);
	if (rows->n > 0)
		rows->highest += 1000000;
}

/* After the leases, before the list is settled. */
static void
write_tables(StoreGroup *group, int64 generation, const GroupTables *tables,
			 const GroupMemberships *rows)
{
	const char *values[7] = {number_text(tables->highest), number_text(generation)};

	group_tables_values(tables, values + 2);
	run_at(group, "write the list of protected tables",
		   store_copy_protections_sql, 7, values);
	values[0] = number_text(rows->highest);
	group_memberships_values(rows, values + 2);
	run_at(group, "write who takes part in which lease",
		   store_copy_memberships_sql, 5, values);
}

static void
reseed_single(StoreGroup *group)
{
	RelistRow  *row = palloc(sizeof(RelistRow) * 2048);
	int			n = gather_rows(group, row, 2048);
	GroupTables tables;
	GroupMemberships memberships;
	int64		floor = (int64) pg_atomic_read_u64(&leasehold_shared->highest_epoch);
	Roster		next = group->roster;
	char		text[ROSTER_TEXT_LEN];
	const char *values[ROW_COUNT + 1];

	if (n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this node does not remember any lease either"),
				 errhint("Call it on the node that held the lease last.")));
	gather_tables(group, &tables);
	gather_memberships(group, &memberships);
	make_anew(group, &group->member[0]);
	next.generation = Max(next.generation, group->report[0].roster.generation) + 1;
	next.id[0] = group->report[0].id;
	(void) roster_format(&next, text, sizeof(text));
	values[0] = number_text(next.generation);
	values[1] = text;
	values[2] = "0";
	run_at(group, "write the list of members", store_commit_sql, 3, values);
	for (int i = 0; i < n; i++)
	{
		RelistRow	raised;

		raise_row(row, n, row[i].value[ROW_NAME], floor, &raised);
		for (int c = 0; c < ROW_COUNT; c++)
			values[c] = raised.value[c];
		values[ROW_COUNT] = number_text(next.generation);
		/* the second time that a name comes up it is there already */
		(void) group_send(group, group_connected, store_copy_sql, ROW_COUNT + 1,
						  values);
		if (group->member[0].result == NULL)
			group_raise(&group->member[0], "write the rows of leases");
	}
	write_tables(group, next.generation, &tables, &memberships);
	values[0] = number_text(next.generation);
	values[1] = text;
	run_at(group, "settle the list of members", store_settle_sql, 2, values);
	ereport(NOTICE,
			(errmsg("the store's only member begins anew at epoch " INT64_FORMAT, floor),
			 errdetail("What only the member knew is lost: leases and requests that this node had not read.")));
}

/*
 * leasehold_reseed_member
 *		A member that lost its memory gets its content back from the others,
 *		under a new identity.
 */
Datum
leasehold_reseed_member(PG_FUNCTION_ARGS)
{
	StoreGroup *group;
	GroupMember *member;
	Roster		next;
	int			i;
	int			place;

	sql_require_preloaded();
	sql_spare_session();
	group = group_configured("", clock_now() + clock_ms(CALL_MS));
	member = find_member(group, sql_text(fcinfo, 0));
	i = member - group->member;
	if (member->link.state != LINK_IDLE)
		group_raise(member, "connect");
	if (member->server.in_recovery)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("member %s is a physical standby", member->conninfo.label)));
	if (member->is_store &&
		member->answer.head.schema_version != STORE_SCHEMA_VERSION)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("member %s has a schema of version %d, this library needs %d",
						member->conninfo.label,
						member->answer.head.schema_version,
						STORE_SCHEMA_VERSION)));
	if (group->roster.generation == 0)
		group_require_majority(group);
	if (group->roster.n == 1 && group->n == 1)
		reseed_single(group);
	else if (begun_here(group, i))
	{
		next = group->report[i].roster;
		relist_change(group, &next);
	}
	else
	{
		int			others = group_count(group, group_counted) -
			group_counted(group, i);

		if (others < group_majority(group))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("too few other members of the store can be counted: %d of %d, %d are needed",
							others, group->roster.n, group_majority(group)),
					 errdetail("%s", group_faults(group))));
		place = place_in_list(group, i);
		make_anew(group, member);
		next = group->roster;
		next.generation++;
		next.id[place] = group->report[i].id;
		relist_change(group, &next);
	}
	group_close(group);
	PG_RETURN_VOID();
}
