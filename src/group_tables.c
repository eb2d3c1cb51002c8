/*
 * group_tables.c
 *		What the members of a group say of table leases, taken together, and the
 *		changes of that.
 *
 * See group_tables.h for why the changes are made as they are.
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"

#include "group_tables.h"
#include "store_care.h"

#define ATTEMPTS	10
/* Between two attempts, so that others get through. */
#define PAUSE_MAX_MS	100

static void
pause_a_moment(void)
{
	CHECK_FOR_INTERRUPTS();
	pg_usleep((long) (pg_prng_uint64(&pg_global_prng_state) %
					  (PAUSE_MAX_MS * 1000)));
}

static const char *
number_text(int64 number)
{
	return psprintf(INT64_FORMAT, number);
}

/* ------------------------------------------------------------------------
 * Lists as parameters
 * ------------------------------------------------------------------------
 */

static void
append_element(StringInfo array, const char *text)
{
	appendStringInfoString(array, array->len > 1 ? ",\"" : "\"");
	for (; *text != '\0'; text++)
	{
		if (*text == '"' || *text == '\\')
			appendStringInfoChar(array, '\\');
		appendStringInfoChar(array, *text);
	}
	appendStringInfoChar(array, '"');
}

static void
begin_arrays(StringInfo array, int n)
{
	for (int c = 0; c < n; c++)
	{
		initStringInfo(&array[c]);
		appendStringInfoChar(&array[c], '{');
	}
}

static void
end_arrays(StringInfo array, int n, const char **values)
{
	for (int c = 0; c < n; c++)
	{
		appendStringInfoChar(&array[c], '}');
		values[c] = array[c].data;
	}
}

void
group_tables_values(const GroupTables *tables, const char **values)
{
	StringInfoData array[5];

	begin_arrays(array, 5);
	for (int i = 0; i < tables->n; i++)
	{
		const TableEntry *entry = &tables->entry[i];

		append_element(&array[0], entry->database);
		append_element(&array[1], entry->schema);
		append_element(&array[2], entry->name);
		append_element(&array[3], entry->lease);
		append_element(&array[4], number_text(entry->seq));
	}
	end_arrays(array, 5, values);
}

void
group_memberships_values(const GroupMemberships *rows, const char **values)
{
	StringInfoData array[3];

	begin_arrays(array, 3);
	for (int i = 0; i < rows->n; i++)
	{
		append_element(&array[0], rows->row[i].lease);
		append_element(&array[1], rows->row[i].node);
		append_element(&array[2], psprintf("%d", rows->row[i].priority));
	}
	end_arrays(array, 3, values);
}

/* ------------------------------------------------------------------------
 * Protected tables
 * ------------------------------------------------------------------------
 */

static bool
same_table(const TableEntry *a, const TableEntry *b)
{
	return strcmp(a->name, b->name) == 0 && strcmp(a->schema, b->schema) == 0 &&
		strcmp(a->database, b->database) == 0;
}

TableEntry *
group_find_table(const GroupTables *tables, const TableEntry *names)
{
	for (int i = 0; i < tables->n; i++)
		if (same_table(&tables->entry[i], names))
			return &tables->entry[i];
	return NULL;
}

static int
compare_tables(const void *a, const void *b)
{
	const TableEntry *x = a;
	const TableEntry *y = b;
	int			order = strcmp(x->database, y->database);

	if (order == 0)
		order = strcmp(x->schema, y->schema);
	if (order == 0)
		order = strcmp(x->name, y->name);
	/* the latest change first */
	if (order == 0)
		order = x->seq > y->seq ? -1 : x->seq < y->seq;
	return order;
}

/* Of each table the first row, in order. */
static void
keep_latest(GroupTables *tables)
{
	int			n = 0;

	qsort(tables->entry, tables->n, sizeof(TableEntry), compare_tables);
	for (int i = 0; i < tables->n; i++)
		if (n == 0 || !same_table(&tables->entry[n - 1], &tables->entry[i]))
			tables->entry[n++] = tables->entry[i];
	tables->n = n;
}

static int
compare_numbers(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = *(const int64 *) b;

	return x > y ? -1 : x < y;
}

void
group_merge_tables(const StoreGroup *group, GroupTables *tables)
{
	int64		number[GROUP_MEMBERS_MAX];
	int			answered = 0;
	int			rows = 0;

	memset(tables, 0, sizeof(*tables));
	for (int i = 0; i < group->n; i++)
		if (group->member[i].result != NULL)
			rows += PQntuples(group->member[i].result);
	tables->entry = palloc(sizeof(TableEntry) * (rows + 1));
	for (int i = 0; i < group->n; i++)
	{
		const PGresult *result = group->member[i].result;
		int			n = result == NULL ? -1 :
			store_read_protections(result, &number[answered]);

		if (n < 0)
			continue;
		answered++;
		for (int k = 0; k < n; k++)
			store_read_protection(result, k, &tables->entry[tables->n++]);
	}
	keep_latest(tables);
	qsort(number, answered, sizeof(int64), compare_numbers);
	if (answered > 0)
		tables->highest = number[0];
	if (answered >= group_majority(group))
		tables->known = number[group_majority(group) - 1];
}

int
group_read_tables(StoreGroup *group, GroupFilter filter, GroupTables *tables)
{
	int			answered = group_send(group, filter, store_protections_sql, 0, NULL);

	group_merge_tables(group, tables);
	return answered;
}

void
group_tables(StoreGroup *group, GroupTables *tables)
{
	if (group_read_tables(group, group_counted, tables) < group_majority(group))
		group_refused(group, "read the list of protected tables",
					  group_count(group, group_counted));
}

/* Members that gave the number; what group_send()'s filter has to know. */
static bool reserved[GROUP_MEMBERS_MAX];

static bool
filter_reserved(const StoreGroup *group, int i)
{
	return reserved[i] && group_counted(group, i);
}

/* A majority gave the number, and "tables" is what stood there then. */
static bool
reserve(StoreGroup *group, int64 number, GroupTables *tables)
{
	const char *values[2] = {number_text(number),
	number_text(group->roster.generation)};

	(void) group_send(group, group_counted, store_reserve_sql, 2, values);
	for (int i = 0; i < group->n; i++)
		reserved[i] = group_took(group, i);
	return group_read_tables(group, filter_reserved, tables) >=
		group_majority(group);
}

static int
write_table(StoreGroup *group, const TableEntry *change)
{
	const char *values[6] = {
		number_text(change->seq), number_text(group->roster.generation),
		change->database, change->schema, change->name, change->lease
	};

	return group_send(group, group_counted, store_protect_sql, 6, values);
}

/* Does a majority of the last results have this very row? */
static bool
stands_at_majority(const StoreGroup *group, const TableEntry *row)
{
	int			having = 0;

	for (int i = 0; i < group->n; i++)
	{
		const PGresult *result = group->member[i].result;
		int64		number;
		int			n = result == NULL ? 0 : store_read_protections(result, &number);

		for (int k = 0; k < n; k++)
		{
			TableEntry	entry;

			store_read_protection(result, k, &entry);
			having += entry.seq == row->seq && same_table(&entry, row);
		}
	}
	return having >= group_majority(group);
}

void
group_change_table(StoreGroup *group, TableEntry *change, GroupTableJudge judge)
{
	int			took = 0;

	for (int attempt = 0; attempt < ATTEMPTS; attempt++)
	{
		GroupTables tables;
		const TableEntry *before;

		if (attempt > 0)
		{
			pause_a_moment();
			group_look(group);
			group_require_majority(group);
		}
		group_tables(group, &tables);
		before = group_find_table(&tables, change);
		judge(before, change);
		if (before != NULL && strcmp(before->lease, change->lease) == 0 &&
			stands_at_majority(group, before))
		{
			change->seq = before->seq;
			return;
		}
		change->seq = tables.highest + 2;
		if (!reserve(group, change->seq - 1, &tables))
			continue;
		judge(group_find_table(&tables, change), change);
		took = write_table(group, change);
		if (took >= group_majority(group))
		{
			group_notify(group);
			return;
		}
	}
	group_refused(group, "change the list of protected tables", took);
}

void
group_spread_table(StoreGroup *group, const TableEntry *change)
{
	if (write_table(group, change) > 0)
		group_notify(group);
}

/* ------------------------------------------------------------------------
 * What nodes have confirmed
 * ------------------------------------------------------------------------
 */

/* Does some member of the last results say that this run has it all? */
static bool
has_confirmed(const StoreGroup *group, const StoreNode *node, int64 number)
{
	for (int i = 0; i < group->n; i++)
	{
		const PGresult *result = group->member[i].result;

		for (int k = 0; result != NULL && k < PQntuples(result); k++)
			if (strcmp(PQgetvalue(result, k, 0), node->name) == 0 &&
				strtoll(PQgetvalue(result, k, 1), NULL, 10) == (int64) node->incarnation &&
				strtoll(PQgetvalue(result, k, 2), NULL, 10) >= number)
				return true;
	}
	return false;
}

static int
count_answers(const StoreGroup *group)
{
	int			n = 0;

	for (int i = 0; i < group->n; i++)
		n += group->member[i].result != NULL;
	return n;
}

bool
group_unconfirmed(StoreGroup *group, int64 number, char ***name, int *n)
{
	StoreNode  *node = palloc(sizeof(StoreNode) * GROUP_NODES_MAX);
	int			nodes = group_nodes(group, node, GROUP_NODES_MAX);
	bool		heard = count_answers(group) >= group_majority(group);

	(void) group_send(group, group_counted, store_all_known_sql, 0, NULL);
	*name = palloc(sizeof(char *) * (nodes + 1));
	*n = 0;
	for (int i = 0; i < nodes; i++)
		if (!has_confirmed(group, &node[i], number))
			(*name)[(*n)++] = pstrdup(node[i].name);
	pfree(node);
	return heard && count_answers(group) >= group_majority(group);
}

/* ------------------------------------------------------------------------
 * Memberships
 * ------------------------------------------------------------------------
 */

/* Whose rows are to be believed?  -1 if nobody answered. */
static int
best_member(const StoreGroup *group, int majority, int64 *highest)
{
	int64		number[GROUP_MEMBERS_MAX];
	int			best = -1;

	*highest = 0;
	for (int i = 0; i < group->n; i++)
	{
		const PGresult *result = group->member[i].result;

		if (result == NULL || store_read_memberships(result, &number[i]) < 0)
		{
			number[i] = -1;
			continue;
		}
		*highest = Max(*highest, number[i]);
		if (best < 0 || number[i] > number[best])
			best = i;
	}
	for (int i = 0; i < group->n; i++)
	{
		int			same = 0;

		for (int k = 0; number[i] >= 0 && k < group->n; k++)
			same += number[k] == number[i];
		if (same >= majority)
			return i;
	}
	return best;
}

int
group_read_memberships(StoreGroup *group, GroupFilter filter, int majority,
					   GroupMemberships *to)
{
	int			answered = group_send(group, filter, store_all_memberships_sql,
									  0, NULL);
	const PGresult *result;
	int64		number;
	int			best = best_member(group, majority, &to->highest);

	to->n = 0;
	to->row = NULL;
	if (best < 0)
		return 0;
	result = group->member[best].result;
	to->n = store_read_memberships(result, &number);
	to->row = palloc(sizeof(StoreMembership) * (to->n + 1));
	for (int i = 0; i < to->n; i++)
		store_read_membership(result, i, &to->row[i]);
	return answered;
}

void
group_memberships(StoreGroup *group, GroupMemberships *to)
{
	int			answered = group_read_memberships(group, group_counted,
												  group_majority(group), to);

	if (answered < group_majority(group))
		group_refused(group, "read who takes part in which lease", answered);
}

StoreMembership *
group_find_membership(const GroupMemberships *from, const char *lease,
					  const char *node)
{
	for (int i = 0; i < from->n; i++)
		if (strcmp(from->row[i].lease, lease) == 0 &&
			strcmp(from->row[i].node, node) == 0)
			return &from->row[i];
	return NULL;
}

/*
 * Above what was read, and by chance, so that two at once do not write different
 * rows under one number.
 */
static int
write_memberships(StoreGroup *group, const GroupMemberships *rows)
{
	const char *values[6];
	int64		step = 1 + (int64) (pg_prng_uint64(&pg_global_prng_state) % 1000);

	values[0] = number_text(rows->highest + step);
	values[1] = number_text(group->roster.generation);
	group_memberships_values(rows, values + 2);
	values[5] = number_text(rows->highest);
	return group_send(group, group_counted, store_memberships_anew_sql, 6, values);
}

/* Some change of the rows; false if it is none. */
typedef struct MembershipEdit
{
	const char *lease;			/* NULL: all */
	const char *node;
	int32		priority;
	bool		join;
} MembershipEdit;

static bool
edit_rows(GroupMemberships *rows, const MembershipEdit *edit)
{
	StoreMembership *row;
	int			n = 0;

	if (edit->join)
	{
		row = group_find_membership(rows, edit->lease, edit->node);
		if (row != NULL && row->priority == edit->priority)
			return false;
		if (row == NULL)
			row = &rows->row[rows->n++];
		strlcpy(row->lease, edit->lease, sizeof(row->lease));
		strlcpy(row->node, edit->node, sizeof(row->node));
		row->priority = edit->priority;
		return true;
	}
	for (int i = 0; i < rows->n; i++)
		if (strcmp(rows->row[i].node, edit->node) != 0 ||
			(edit->lease != NULL && strcmp(rows->row[i].lease, edit->lease) != 0))
			rows->row[n++] = rows->row[i];
	if (n == rows->n)
		return false;
	rows->n = n;
	return true;
}

static bool
change_memberships(StoreGroup *group, const MembershipEdit *edit)
{
	int			took = 0;

	for (int attempt = 0; attempt < ATTEMPTS; attempt++)
	{
		GroupMemberships rows;

		if (attempt > 0)
		{
			pause_a_moment();
			group_look(group);
			group_require_majority(group);
		}
		group_memberships(group, &rows);
		/* after an attempt that only a minority took, it is written all the same */
		if (!edit_rows(&rows, edit) && attempt == 0)
			return false;
		took = write_memberships(group, &rows);
		if (took >= group_majority(group))
		{
			group_notify(group);
			return true;
		}
	}
	group_refused(group, "change who takes part in the lease", took);
}

bool
group_join(StoreGroup *group, const char *lease, const char *node,
		   int32 priority)
{
	MembershipEdit edit = {lease, node, priority, true};

	return change_memberships(group, &edit);
}

bool
group_part(StoreGroup *group, const char *lease, const char *node)
{
	MembershipEdit edit = {lease, node, 0, false};

	return change_memberships(group, &edit);
}
