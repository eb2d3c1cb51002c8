/*
 * group_rows.c
 *		What the members of a group say of leases and nodes, taken together, and
 *		the posting of people's requests.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "group.h"
#include "store_care.h"

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

char *
group_lease_names(StoreGroup *group)
{
	StringInfoData names;
	StoreLease *lease = palloc(sizeof(StoreLease) * 64);

	group_begin(group);
	for (int i = 0; i < group->n; i++)
		if (group_counted(group, i))
			store_send_leases(&group->member[i].link,
							  group_deadline(group));
	group_wait(group);
	initStringInfo(&names);
	for (int i = 0; i < group->n; i++)
	{
		int			n;

		if (group->member[i].result == NULL)
			continue;
		n = store_read_leases(group->member[i].result, lease, 64);
		for (int k = 0; k < n; k++)
		{
			char	   *quoted = psprintf("\"%s\"", lease[k].name);

			if (strstr(names.data, quoted) == NULL)
				appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "",
								 quoted);
		}
	}
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

	group_begin(group);
	for (int i = 0; i < group->n; i++)
		if (group_counted(group, i))
			store_send_nodes(&group->member[i].link,
							 group_deadline(group));
	group_wait(group);
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

int64
group_request(StoreGroup *group, int32 ttl_ms, int pause, const char *handover_to)
{
	int			took = 0;

	/* somebody else may take the same number: then read again */
	for (int attempt = 0; attempt < 5; attempt++)
	{
		const StoreLease *last = group_last_request(group);
		int64		seq;
		const char *values[5];

		if (last == NULL)
			break;
		seq = last->row.request_seq + 1;
		values[0] = group->lease;
		values[1] = psprintf(INT64_FORMAT, seq);
		values[2] = psprintf("%d", ttl_ms > 0 ? ttl_ms : last->row.ttl_wanted_ms);
		values[3] = (pause >= 0 ? pause : last->row.pause_wanted) ? "true" : "false";
		values[4] = handover_to;
		took = group_send(group, group_counted, store_request_sql, 5, values);
		if (took >= group_majority(group))
		{
			group_notify(group);
			return seq;
		}
		group_look(group);
		group_require_majority(group);
	}
	group_refused(group, "post the request", took);
}
