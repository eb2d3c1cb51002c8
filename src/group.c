/*
 * group.c
 *		SQL functions talk to all members of the store at once.
 *
 * See group.h.  What one member fails to do is noted in its link and told in
 * the end; only the lack of a majority is an error.  No message repeats a
 * connection string: members are named by their labels.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#include "compat.h"
#include "group.h"
#include "shared.h"

/* What slow members are allowed beyond a majority's answer. */
#define GROUP_GRACE_MS	300

/* ------------------------------------------------------------------------
 * Making and closing
 * ------------------------------------------------------------------------
 */

static void
close_all(void *arg)
{
	StoreGroup	   *group = arg;

	for (int i = 0; i < group->n; i++)
	{
		PQclear(group->member[i].result);
		group->member[i].result = NULL;
		link_close(&group->member[i].link);
	}
}

StoreGroup *
group_make(const char *lease, ClockTime deadline)
{
	StoreGroup	   *group = palloc0(sizeof(StoreGroup));

	strlcpy(group->lease, lease, sizeof(group->lease));
	group->deadline = deadline;
	group->request_ms = GROUP_REQUEST_MS;
	group->context = CurrentMemoryContext;
	group->at_end.func = close_all;
	group->at_end.arg = group;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &group->at_end);
	return group;
}

void
group_close(StoreGroup *group)
{
	close_all(group);
}

void
group_add(StoreGroup *group, const char *list, bool in_new_list)
{
	Conninfo   *parsed = palloc0(sizeof(Conninfo) * LEASE_MEMBERS_MAX);
	int			n = conninfo_split(list, parsed, LEASE_MEMBERS_MAX);

	for (int k = 0; k < n; k++)
	{
		int			i = 0;

		while (i < group->n &&
			   strcmp(group->member[i].conninfo.text, parsed[k].text) != 0)
			i++;
		if (i == group->n)
		{
			if (group->n >= GROUP_MEMBERS_MAX)
				break;
			group->member[i].conninfo = parsed[k];
			link_close(&group->member[i].link);
			group->n++;
		}
		group->member[i].in_new_list |= in_new_list;
	}
}

/* ------------------------------------------------------------------------
 * Waiting
 * ------------------------------------------------------------------------
 */

static bool
is_active(const Link *link)
{
	return link->state == LINK_CONNECTING || link->state == LINK_BUSY;
}

/* Keep a good result; turn a bad one into the link's fault. */
static void
keep_result(GroupMember *member, PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);

	PQclear(member->result);
	member->result = NULL;
	if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK)
		member->result = result;
	else
	{
		if (result != NULL)
			link_note_error(&member->link, result);
		PQclear(result);
	}
}

/* Poll all links once; returns when the first of their deadlines is. */
static ClockTime
poll_all(StoreGroup *group, int *active)
{
	ClockTime	until = CLOCK_NEVER;
	ClockTime	now = clock_now();

	*active = 0;
	for (int i = 0; i < group->n; i++)
	{
		GroupMember *member = &group->member[i];
		PGresult   *result = NULL;

		if (!is_active(&member->link))
			continue;
		if (link_poll(&member->link, now, &result) == LINK_RESULT)
			keep_result(member, result);
		if (is_active(&member->link))
		{
			(*active)++;
			until = clock_min(until, member->link.deadline);
		}
	}
	return until;
}

static void
sleep_for_any(StoreGroup *group, ClockTime until)
{
	WaitEventSet *set = compat_create_wait_set(GROUP_MEMBERS_MAX + 2);
	WaitEvent	event;

	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	for (int i = 0; i < group->n; i++)
	{
		Link	   *link = &group->member[i].link;

		if (is_active(link) && link->socket != PGINVALID_SOCKET)
			AddWaitEventToSet(set, link->wants, link->socket, NULL, NULL);
	}
	WaitEventSetWait(set, clock_wait_ms(clock_now(), until), &event, 1,
					 PG_WAIT_EXTENSION);
	FreeWaitEventSet(set);
	if (MyLatch->is_set)
		ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/*
 * How many of the members whose answer is not awaited any more are well?
 * Enough of them, and the others need not be waited for.
 */
static bool
majority_is_done(const StoreGroup *group)
{
	int			size = group->roster.n > 0 ? group->roster.n : group->n;
	int			done = 0;

	for (int i = 0; i < group->n; i++)
		done += group->member[i].link.state == LINK_IDLE;
	return done >= size / 2 + 1;
}

static void
drop_laggards(StoreGroup *group)
{
	for (int i = 0; i < group->n; i++)
	{
		Link	   *link = &group->member[i].link;

		if (!is_active(link))
			continue;
		link_close(link);
		strlcpy(link->fault, "no answer long after the others", sizeof(link->fault));
		strlcpy(link->sqlstate, "08006", sizeof(link->sqlstate));
	}
}

/* Until nothing is under way any more. */
void
group_wait(StoreGroup *group)
{
	ClockTime	began = clock_now();
	ClockTime	patient_until = CLOCK_NEVER;

	for (;;)
	{
		int			active;
		ClockTime	until = poll_all(group, &active);
		ClockTime	now = clock_now();

		if (active == 0)
			return;
		if (group->hurry && patient_until == CLOCK_NEVER && majority_is_done(group))
			patient_until = now + clock_max(now - began, clock_ms(GROUP_GRACE_MS));
		if (now >= patient_until)
		{
			drop_laggards(group);
			return;
		}
		sleep_for_any(group, clock_min(until, patient_until));
	}
}

ClockTime
group_deadline(const StoreGroup *group)
{
	return clock_min(group->deadline, clock_now() + clock_ms(group->request_ms));
}

void
group_settle(StoreGroup *group)
{
	for (int i = 0; i < group->n; i++)
	{
		Link	   *link = &group->member[i].link;

		if (is_active(link))
			link->deadline = clock_min(link->deadline, group_deadline(group));
	}
	group_wait(group);
	for (int i = 0; i < group->n; i++)
		if (!group->member[i].is_store)
			link_close(&group->member[i].link);
}

/* Forget the last results; the next request begins. */
void
group_begin(StoreGroup *group)
{
	for (int i = 0; i < group->n; i++)
	{
		PQclear(group->member[i].result);
		group->member[i].result = NULL;
		group->member[i].asked = false;
	}
}

/* ------------------------------------------------------------------------
 * Connecting
 * ------------------------------------------------------------------------
 */

/*
 * By the addresses that the steward has resolved, where it has; else libpq
 * resolves the name itself, which a session may wait for.
 */
static void
start_connect(StoreGroup *group, GroupMember *member, const Addresses *addresses)
{
	const char *keyword[CONNINFO_KEYWORDS_MAX + 2];
	const char *value[CONNINFO_KEYWORDS_MAX + 2];
	const char *const *known_keyword;
	const char *const *known_value;
	const char *unresolved;
	int			n = 0;

	keyword[n] = "fallback_application_name";
	value[n++] = "leasehold";
	if (conninfo_start_values(&member->conninfo, addresses, &known_keyword,
							  &known_value, &unresolved))
	{
		for (int i = 0; known_keyword[i] != NULL; i++)
			if (strcmp(known_keyword[i], keyword[0]) != 0)
			{
				keyword[n] = known_keyword[i];
				value[n++] = known_value[i];
			}
	}
	else
		for (int i = 0; i < member->conninfo.n; i++)
		{
			keyword[n] = member->conninfo.keyword[i];
			value[n++] = member->conninfo.value[i];
		}
	keyword[n] = NULL;
	value[n] = NULL;
	link_start(&member->link, keyword, value,
			   group_deadline(group));
}

/* What server is it?  One that does not know the question is taken as it is. */
static void
identify_all(StoreGroup *group, const bool *fresh)
{
	group_begin(group);
	for (int i = 0; i < group->n; i++)
		if (fresh[i] && group->member[i].link.state == LINK_IDLE)
			store_send_identify(&group->member[i].link,
								group_deadline(group));
	group_wait(group);
	for (int i = 0; i < group->n; i++)
	{
		GroupMember *member = &group->member[i];

		if (!fresh[i])
			continue;
		memset(&member->server, 0, sizeof(member->server));
		if (member->result != NULL)
			store_read_identify(member->result, &member->server);
		else if (member->link.state == LINK_IDLE)
		{
			/* a server that does not know the question is taken as it is */
			if (store_is_unknown_there(member->link.sqlstate))
				member->link.fault[0] = '\0';
			else
				link_close(&member->link);
		}
	}
	/* what we write is to be on disk when it is answered */
	group_begin(group);
	for (int i = 0; i < group->n; i++)
		if (fresh[i] && group->member[i].server.lax_commit &&
			group->member[i].link.state == LINK_IDLE)
			link_send(&group->member[i].link, "SET synchronous_commit = on", 0,
					  NULL, group_deadline(group));
	group_wait(group);
}

void
group_open(StoreGroup *group)
{
	Addresses	addresses = {0};
	bool		fresh[GROUP_MEMBERS_MAX] = {false};

	if (leasehold_shared != NULL)
		shared_read(&leasehold_shared->addresses, &addresses);
	for (int i = 0; i < group->n; i++)
	{
		if (group->member[i].link.state != LINK_DOWN)
			continue;
		fresh[i] = true;
		start_connect(group, &group->member[i], &addresses);
	}
	group_wait(group);
	identify_all(group, fresh);
	group_look(group);
}

/* ------------------------------------------------------------------------
 * Looking
 * ------------------------------------------------------------------------
 */

/* The list that this node goes by: adopted in this run or an earlier one. */
static void
known_roster(Roster *roster)
{
	KeeperStatus *status = palloc(sizeof(KeeperStatus));
	DurableState state;

	memset(roster, 0, sizeof(*roster));
	if (leasehold_shared == NULL)
		return;
	shared_read(&leasehold_shared->status, status);
	shared_read(&leasehold_shared->persisted, &state);
	*roster = status->roster.generation >= state.roster.generation ?
		status->roster : state.roster;
	pfree(status);
}

static void
read_looks(StoreGroup *group)
{
	for (int i = 0; i < group->n; i++)
	{
		GroupMember *member = &group->member[i];
		StoreAnswer *answer = &member->answer;

		memset(answer, 0, sizeof(*answer));
		memset(&group->report[i], 0, sizeof(group->report[i]));
		if (member->result != NULL)
			store_read_answer(member->result, answer);
		member->is_store = answer->ok;
		if (answer->ok)
			store_report(&member->server, &answer->head, &group->report[i]);
	}
}

void
group_look(StoreGroup *group)
{
	group_begin(group);
	for (int i = 0; i < group->n; i++)
	{
		GroupMember *member = &group->member[i];

		if (member->link.state != LINK_IDLE)
			continue;
		member->link.fault[0] = '\0';
		store_send_look(&member->link, group->lease, "",
						group_deadline(group));
	}
	group_wait(group);
	read_looks(group);
	if (group->roster.generation == 0)
		known_roster(&group->roster);
	roster_adopt(&group->roster, group->report, group->n);
	for (int i = 0; i < group->n; i++)
		group->member[i].standing =
			roster_standing(&group->roster, group->report, i);
}

bool
group_connected(const StoreGroup *group, int i)
{
	const GroupMember *member = &group->member[i];

	return member->link.state == LINK_IDLE && member->is_store &&
		member->answer.head.schema_version == STORE_SCHEMA_VERSION &&
		!member->server.in_recovery;
}

bool
group_counted(const StoreGroup *group, int i)
{
	return group_connected(group, i) &&
		group->member[i].standing == ROSTER_COUNTED;
}

int
group_count(const StoreGroup *group, GroupFilter filter)
{
	int			n = 0;

	for (int i = 0; i < group->n; i++)
		n += filter(group, i);
	return n;
}

int
group_majority(const StoreGroup *group)
{
	return group->roster.n / 2 + 1;
}

/* ------------------------------------------------------------------------
 * Writing
 * ------------------------------------------------------------------------
 */

bool
group_took(const StoreGroup *group, int i)
{
	return group->member[i].result != NULL &&
		PQntuples(group->member[i].result) > 0;
}

int
group_send(StoreGroup *group, GroupFilter filter, const char *sql, int nparams,
		   const char *const *values)
{
	int			took = 0;

	group_begin(group);
	for (int i = 0; i < group->n; i++)
	{
		GroupMember *member = &group->member[i];

		if (!filter(group, i))
			continue;
		member->link.fault[0] = '\0';
		member->asked = link_send(&member->link, sql, nparams, values,
								  group_deadline(group));
	}
	group_wait(group);
	for (int i = 0; i < group->n; i++)
		took += group_took(group, i);
	return took;
}

void
group_notify(StoreGroup *group)
{
	group_begin(group);
	for (int i = 0; i < group->n; i++)
		if (group_counted(group, i) && group->member[i].server.notifies)
			store_send_notify(&group->member[i].link,
							  group_deadline(group));
	group_wait(group);
}

/* ------------------------------------------------------------------------
 * Faults
 * ------------------------------------------------------------------------
 */

int
group_sqlstate(const Link *link)
{
	const char *s = link->sqlstate;

	if (strlen(s) != 5)
		return ERRCODE_CONNECTION_FAILURE;
	return MAKE_SQLSTATE(s[0], s[1], s[2], s[3], s[4]);
}

const char *
group_fault(const StoreGroup *group, int i)
{
	const GroupMember *member = &group->member[i];
	int			version = member->answer.head.schema_version;

	if (link_error_is(&member->link, "42P01") ||
		link_error_is(&member->link, "3F000"))
		return "the database is not a store: leasehold.init_store() makes one there";
	if (member->link.fault[0] != '\0')
		return member->link.fault;
	if (member->link.state != LINK_IDLE)
		return "not connected";
	if (!member->is_store)
		return "it does not answer as a store does";
	if (version != STORE_SCHEMA_VERSION)
		return psprintf("its schema has version %d, this library needs %d",
						version, STORE_SCHEMA_VERSION);
	if (member->server.in_recovery)
		return "it is a physical standby";
	if (member->standing != ROSTER_COUNTED)
		return roster_standing_text(member->standing);
	return NULL;
}

char *
group_faults(const StoreGroup *group)
{
	StringInfoData out;

	initStringInfo(&out);
	for (int i = 0; i < group->n; i++)
	{
		const char *fault = group_fault(group, i);

		if (fault != NULL)
			appendStringInfo(&out, "%sMember %s: %s.", out.len > 0 ? " " : "",
							 group->member[i].conninfo.label, fault);
	}
	return out.data;
}

/* The code of the first member that failed with one. */
static int
first_sqlstate(const StoreGroup *group)
{
	for (int i = 0; i < group->n; i++)
		if (group->member[i].link.fault[0] != '\0')
			return group_sqlstate(&group->member[i].link);
	return ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
}

void
group_require_majority(const StoreGroup *group)
{
	char	   *faults;
	int			counted = group_count(group, group_counted);

	if (group->roster.generation > 0 && counted >= group_majority(group))
		return;
	faults = group_faults(group);
	if (group->roster.generation == 0)
		ereport(ERROR,
				(errcode(first_sqlstate(group)),
				 errmsg("the store has no agreed list of members"),
				 faults[0] ? errdetail("%s", faults) : 0,
				 errhint("leasehold.create_lease() or leasehold.set_store() forms the list.")));
	ereport(ERROR,
			(errcode(first_sqlstate(group)),
			 errmsg("too few members of the store can be counted: %d of %d, %d are needed",
					counted, group->roster.n, group_majority(group)),
			 faults[0] ? errdetail("%s", faults) : 0,
			 errhint("leasehold.check() says what is wrong with each.")));
}

void
group_refused(const StoreGroup *group, const char *what, int took)
{
	char	   *faults = group_faults(group);

	ereport(ERROR,
			(errcode(first_sqlstate(group)),
			 errmsg("could not %s: %d of %d members of the store took it, %d are needed",
					what, took, group->roster.n, group_majority(group)),
			 faults[0] ? errdetail("%s", faults) : 0));
	pg_unreachable();
}

void
group_raise(const GroupMember *member, const char *what)
{
	ereport(ERROR,
			(errcode(group_sqlstate(&member->link)),
			 errmsg("could not %s at member %s", what, member->conninfo.label),
			 errdetail("%s.", member->link.fault)));
	pg_unreachable();
}

/* ------------------------------------------------------------------------
 * The group of leasehold.store
 * ------------------------------------------------------------------------
 */

static StoreGroup *
make_configured(const char *lease, ClockTime deadline)
{
	StoreGroup	   *group = group_make(lease, deadline);

	if (setting_store == NULL || setting_store[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no store is configured on this node"),
				 errhint("Set leasehold.store to the connection strings of its members and reload.")));
	group_add(group, setting_store, false);
	return group;
}

StoreGroup *
group_configured(const char *lease, ClockTime deadline)
{
	StoreGroup *group = make_configured(lease, deadline);

	group_open(group);
	return group;
}

StoreGroup *
group_of_settings(const char *lease, ClockTime deadline)
{
	StoreGroup *group = make_configured(lease, deadline);

	group->hurry = true;
	group_open(group);
	group_require_majority(group);
	return group;
}
