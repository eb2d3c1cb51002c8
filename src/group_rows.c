/*
 * group_rows.c
 *		What the members of a group say of leases and nodes, taken together, and
 *		the posting of people's requests.
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"

#include "group.h"
#include "store_care.h"

#define SEQ_STEP_MAX	1000000

/* ------------------------------------------------------------------------
 * Reading rows
 * ------------------------------------------------------------------------
 */

const StoreLease *
group_best(const StoreGroup *group)
{
	const StoreLease *best = NULL;

	for (int i = 0; i < group->n; i++)
	{
		const StoreLease *lease = &group->member[i].answer.lease;

		if (!group_counted(group, i) || lease->name[0] == '\0')
			continue;
		if (best == NULL || lease->row.epoch > best->row.epoch ||
			(lease->row.epoch == best->row.epoch &&
			 lease->row.version > best->row.version))
			best = lease;
	}
	return best;
}

const StoreLease *
group_last_request(const StoreGroup *group)
{
	const StoreLease *last = NULL;

	for (int i = 0; i < group->n; i++)
	{
		const StoreLease *lease = &group->member[i].answer.lease;

		if (!group_counted(group, i) || lease->name[0] == '\0')
			continue;
		if (last == NULL || lease->row.request_seq > last->row.request_seq)
			last = lease;
	}
	return last;
}

/* Keep each name once, as its latest row says. */
static int
merge_lease(StoreLease *lease, int n, int max, const StoreLease *row)
{
	for (int i = 0; i < n; i++)
		if (strcmp(lease[i].name, row->name) == 0)
		{
			if (row->row.epoch > lease[i].row.epoch ||
				(row->row.epoch == lease[i].row.epoch &&
				 row->row.version > lease[i].row.version))
				lease[i] = *row;
			return n;
		}
	if (n < max)
		lease[n++] = *row;
	return n;
}

/* Ask every member that counts; what it answers is its result. */
static void
ask_all(StoreGroup *group, bool (*send) (Link *link, ClockTime deadline))
{
	group_begin(group);
	for (int i = 0; i < group->n; i++)
		if (group_counted(group, i))
			(void) send(&group->member[i].link, group_deadline(group));
	group_wait(group);
}

int
group_leases(StoreGroup *group, StoreLease *lease, int max)
{
	StoreLease *row = palloc(sizeof(StoreLease) * max);
	int			n = 0;

	ask_all(group, store_send_leases);
	for (int i = 0; i < group->n; i++)
	{
		int			rows;

		if (group->member[i].result == NULL)
			continue;
		rows = store_read_leases(group->member[i].result, row, max);
		for (int k = 0; k < rows; k++)
			n = merge_lease(lease, n, max, &row[k]);
	}
	pfree(row);
	return n;
}

char *
group_lease_names(StoreGroup *group)
{
	StringInfoData names;
	StoreLease *lease = palloc(sizeof(StoreLease) * 64);
	int			n = group_leases(group, lease, 64);

	initStringInfo(&names);
	for (int i = 0; i < n; i++)
		appendStringInfo(&names, "%s\"%s\"", i > 0 ? ", " : "", lease[i].name);
	return names.data;
}

/* Keep each name once, as its latest beat says. */
static int
merge_node(StoreNode *node, int n, int max, const StoreNode *row)
{
	for (int i = 0; i < n; i++)
		if (strcmp(node[i].name, row->name) == 0)
		{
			if (row->beat > node[i].beat)
				node[i] = *row;
			return n;
		}
	if (n < max)
		node[n++] = *row;
	return n;
}

int
group_nodes(StoreGroup *group, StoreNode *node, int max)
{
	StoreNode  *row = palloc(sizeof(StoreNode) * max);
	int			n = 0;

	ask_all(group, store_send_nodes);
	for (int i = 0; i < group->n; i++)
	{
		int			rows;

		if (group->member[i].result == NULL)
			continue;
		rows = store_read_nodes(group->member[i].result, row, max);
		for (int k = 0; k < rows; k++)
			n = merge_node(node, n, max, &row[k]);
	}
	pfree(row);
	return n;
}

char *
group_node_names(const StoreNode *node, int n)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < n; i++)
		appendStringInfo(&names, "%s\"%s\"", i > 0 ? ", " : "", node[i].name);
	return names.data;
}

/* ------------------------------------------------------------------------
 * Requests
 * ------------------------------------------------------------------------
 */

/* The parameters that all requests begin with. */
static void
request_values(const StoreGroup *group, const GroupRequest *request,
			   const char **values)
{
	values[0] = group->lease;
	values[1] = psprintf(INT64_FORMAT, request->seq);
	values[2] = psprintf("%d", request->ttl_ms);
	values[3] = request->pause ? "true" : "false";
}

/*
 * The number of the next request: above the last, and by chance so that two who
 * ask at the same moment do not take the same.
 */
static int64
next_seq(const StoreLease *last)
{
	return last->row.request_seq + 1 +
		(int64) (pg_prng_uint64(&pg_global_prng_state) % SEQ_STEP_MAX);
}

void
group_request(StoreGroup *group, int32 ttl_ms, int pause,
			  const char *handover_to, GroupRequest *posted)
{
	GroupRequest unused;
	int			took = 0;

	if (posted == NULL)
		posted = &unused;
	/* somebody else may have asked meanwhile: then read again */
	for (int attempt = 0; attempt < 5; attempt++)
	{
		const StoreLease *last = group_last_request(group);
		const char *values[5];

		if (last == NULL)
			break;
		posted->ttl_ms = ttl_ms > 0 ? ttl_ms : last->row.ttl_wanted_ms;
		posted->pause = pause >= 0 ? pause : last->row.pause_wanted;
		posted->seq = next_seq(last);
		request_values(group, posted, values);
		values[4] = handover_to;
		took = group_send(group, group_counted, store_request_sql, 5, values);
		if (took >= group_majority(group))
		{
			group_notify(group);
			return;
		}
		group_look(group);
		group_require_majority(group);
	}
	group_refused(group, "post the request", took);
}

/* How many members answered the last request, whatever they said? */
static int
count_answers(const StoreGroup *group)
{
	int			n = 0;

	for (int i = 0; i < group->n; i++)
		n += group->member[i].asked && group->member[i].result != NULL;
	return n;
}

bool
group_withdraw(StoreGroup *group, const GroupRequest *request,
			   ClockTime deadline)
{
	MemoryContext old = MemoryContextSwitchTo(group->context);
	const char *values[4];
	bool		done;

	HOLD_INTERRUPTS();
	group->deadline = deadline;
	group_settle(group);
	request_values(group, request, values);
	for (;;)
	{
		if (group_count(group, group_counted) < group_majority(group))
			group_open(group);
		(void) group_send(group, group_counted, store_withdraw_sql, 4, values);
		done = count_answers(group) >= group_majority(group);
		if (done || clock_now() >= deadline)
			break;
		pg_usleep(20000L);
	}
	if (!request->pause)
		(void) group_send(group, group_counted, store_unfreeze_sql, 2, values);
	if (done)
		group_notify(group);
	RESUME_INTERRUPTS();
	MemoryContextSwitchTo(old);
	return done;
}
