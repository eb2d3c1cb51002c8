/*
 * relist.c
 *		Changes of the agreed list of members (R10).
 *
 * The steps, and why nothing is lost between them:
 *
 * 1. The members that are new get the next generation.  Nobody counts them.
 * 2. The old members get it.  From then on a member of the old list refuses
 *    what is sent under the old generation: at a majority of them, nobody can
 *    acquire or renew by the old list any more.
 * 3. Their rows are sealed: a version far above the present one makes a write
 *    fail that had begun before step 2, or shows its effect.  So what is read
 *    now is final.
 * 4. What a majority of the old list knows is copied to the next list.
 * 5. The next list is settled at a majority of its members.  Only now do nodes
 *    go over to it; they watch its rows anew (R14), for a whole ttl.
 *
 * A copied row promises as much as any of the rows that it was made of: the
 * highest epoch, the longest ttl, a pause if there is one.  Who holds it is
 * taken over as it stands only if a majority agrees; a row that a minority
 * knows (a race that was lost or given back) might else be taken at once,
 * while the real holder's deadline still runs.  Such a row is copied so that
 * everybody has to wait: without an incarnation, and reserved for nobody.
 *
 * The list of protected tables is changed under the lock of the store row, by
 * its generation.  So after step 2 a majority of the old list has every change
 * that counts, and it goes along as it stands, with its numbers.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "group_tables.h"
#include "relist.h"
#include "store_care.h"

#define NAMES_MAX			1024
#define CHANGE_REQUEST_MS	1000

/* No node can have this name. */
#define RESERVED_FOR_NOBODY "*"

/* ------------------------------------------------------------------------
 * Lists
 * ------------------------------------------------------------------------
 */

bool
relist_contains(const Roster *roster, const RosterId *id)
{
	for (int i = 0; i < roster->n; i++)
		if (roster_same_id(&roster->id[i], id))
			return true;
	return false;
}

static char *
list_text(const Roster *roster)
{
	char	   *text = palloc(ROSTER_TEXT_LEN);

	if (!roster_format(roster, text, ROSTER_TEXT_LEN))
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the list of members is too long")));
	return text;
}

static const char *
generation_text(int64 generation)
{
	return psprintf(INT64_FORMAT, generation);
}

/* ------------------------------------------------------------------------
 * The first list
 * ------------------------------------------------------------------------
 */

static bool
is_fresh(const StoreGroup *group, int i)
{
	return group_connected(group, i) &&
		group->member[i].answer.head.generation == 0;
}

/* A list that an earlier attempt has begun to form, of the same members. */
static bool
begun_list(const StoreGroup *group, const Roster *wanted, Roster *list)
{
	for (int i = 0; i < group->n; i++)
	{
		const Roster *found = &group->report[i].roster;
		int			same = 0;

		if (found->generation == 0)
			continue;
		for (int k = 0; k < wanted->n; k++)
			same += relist_contains(found, &wanted->id[k]);
		if (found->generation != 1 || found->n != wanted->n || same != wanted->n)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("member %s belongs to another list of members",
							group->member[i].conninfo.label),
					 errhint("Name all members of that list in leasehold.store, or a fresh database in its place.")));
		*list = *found;
		return true;
	}
	return false;
}

void
relist_form(StoreGroup *group, const char *lineage)
{
	Roster		list = {0};
	const char *values[1];
	int			formed;

	for (int i = 0; i < group->n; i++)
	{
		if (!group_connected(group, i))
			ereport(ERROR,
					(errcode(group->member[i].link.fault[0] ?
							 group_sqlstate(&group->member[i].link) :
							 ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the store's first list of members cannot be formed"),
					 errdetail("%s", group_faults(group)),
					 errhint("Every member has to answer when the list is formed.")));
		if (relist_contains(&list, &group->report[i].id))
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_OBJECT),
					 errmsg("member %s is the same as one named before it",
							group->member[i].conninfo.label)));
		list.id[list.n++] = group->report[i].id;
	}
	list.generation = 1;
	strlcpy(list.lineage, lineage, sizeof(list.lineage));
	(void) begun_list(group, &list, &list);
	values[0] = list_text(&list);
	(void) group_send(group, is_fresh, store_form_sql, 1, values);
	group_look(group);
	formed = group_count(group, group_counted);
	if (group->roster.generation == 0 || formed < group_majority(group))
		group_refused(group, "form the list of members", formed);
	if (list.n % 2 == 0)
		ereport(NOTICE,
				(errmsg("the store has an even number of members"),
				 errdetail("%d members tolerate the loss of %d, no more than %d do.",
						   list.n, (list.n - 1) / 2, list.n - 1)));
}

/* ------------------------------------------------------------------------
 * Rows
 * ------------------------------------------------------------------------
 */

void
relist_read_row(const PGresult *result, int r, RelistRow *to)
{
	for (int c = 0; c < ROW_COUNT; c++)
		to->value[c] = pstrdup(PQgetvalue(result, r, c));
}

static int64
number(const RelistRow *row, int column)
{
	return strtoll(row->value[column], NULL, 10);
}

static bool
truth(const RelistRow *row, int column)
{
	return row->value[column][0] == 't';
}

static const RelistRow *
best_row(const RelistRow *row, int n)
{
	const RelistRow *best = &row[0];

	for (int i = 1; i < n; i++)
	{
		int64		epoch = number(&row[i], ROW_EPOCH);
		int64		best_epoch = number(best, ROW_EPOCH);
		bool		held = row[i].value[ROW_HOLDER][0] != '\0';
		bool		best_held = best->value[ROW_HOLDER][0] != '\0';

		/* under one epoch, a holder before a release: the safer of the two */
		if (epoch > best_epoch ||
			(epoch == best_epoch && held && !best_held) ||
			(epoch == best_epoch && held == best_held &&
			 number(&row[i], ROW_VERSION) > number(best, ROW_VERSION)))
			best = &row[i];
	}
	return best;
}

/* How many say the same of who holds it? */
static int
count_agreeing(const RelistRow *row, int n, const RelistRow *best)
{
	int			agreeing = 0;

	for (int i = 0; i < n; i++)
		agreeing += number(&row[i], ROW_EPOCH) == number(best, ROW_EPOCH) &&
			strcmp(row[i].value[ROW_HOLDER], best->value[ROW_HOLDER]) == 0 &&
			strcmp(row[i].value[ROW_INCARNATION],
				   best->value[ROW_INCARNATION]) == 0;
	return agreeing;
}

/* What people last asked for. */
static void
merge_request(const RelistRow *row, int n, RelistRow *to)
{
	const RelistRow *last = &row[0];

	for (int i = 1; i < n; i++)
		if (number(&row[i], ROW_SEQ) > number(last, ROW_SEQ))
			last = &row[i];
	to->value[ROW_SEQ] = last->value[ROW_SEQ];
	to->value[ROW_TTL_WANTED] = last->value[ROW_TTL_WANTED];
	to->value[ROW_PAUSE_WANTED] = last->value[ROW_PAUSE_WANTED];
	to->value[ROW_HANDOVER] = "";
	to->value[ROW_READY] = "0";
	to->value[ROW_ANSWER] = "";
}

void
relist_merge(const RelistRow *row, int n, int majority, RelistRow *to)
{
	const RelistRow *best = best_row(row, n);
	int64		version = 0;
	int64		ttl = 0;
	bool		frozen = false;

	*to = *best;
	for (int i = 0; i < n; i++)
	{
		version = Max(version, number(&row[i], ROW_VERSION));
		ttl = Max(ttl, number(&row[i], ROW_TTL));
		ttl = Max(ttl, number(&row[i], ROW_TTL_WANTED));
		frozen |= truth(&row[i], ROW_FROZEN);
	}
	to->value[ROW_VERSION] = psprintf(INT64_FORMAT, version + 1);
	to->value[ROW_TTL] = psprintf(INT64_FORMAT, ttl);
	to->value[ROW_FROZEN] = frozen ? "true" : "false";
	merge_request(row, n, to);
	if (count_agreeing(row, n, best) < majority)
	{
		to->value[ROW_INCARNATION] = "0";
		if (best->value[ROW_HOLDER][0] == '\0')
			to->value[ROW_RESERVED] = RESERVED_FOR_NOBODY;
	}
	/* an attempt that was stopped may have copied such a row already */
	for (int i = 0; i < n; i++)
		if (to->value[ROW_HOLDER][0] == '\0' &&
			strcmp(row[i].value[ROW_RESERVED], RESERVED_FOR_NOBODY) == 0)
			to->value[ROW_RESERVED] = RESERVED_FOR_NOBODY;
}

/* ------------------------------------------------------------------------
 * The change
 * ------------------------------------------------------------------------
 */

typedef struct Change
{
	StoreGroup *group;
	const Roster *next;
	char	   *text;			/* of the next list */
	int64		generation;		/* that it gets */
	bool		settled;		/* an earlier attempt got as far as settling */
	/* per member of the group */
	bool		old[GROUP_MEMBERS_MAX];
	bool		new[GROUP_MEMBERS_MAX];
	bool		committed[GROUP_MEMBERS_MAX];
} Change;

/* What group_send()'s filters have to know; only during a change. */
static const Change *changing = NULL;

static bool
filter_old_uncommitted(const StoreGroup *group, int i)
{
	return changing->old[i] && !changing->committed[i] &&
		group_connected(group, i);
}

static bool
filter_old_committed(const StoreGroup *group, int i)
{
	return changing->old[i] && changing->committed[i] &&
		group_connected(group, i);
}

static bool
filter_new_committed(const StoreGroup *group, int i)
{
	return changing->new[i] && changing->committed[i] &&
		group_connected(group, i);
}

static bool
filter_committed(const StoreGroup *group, int i)
{
	return changing->committed[i] && group_connected(group, i);
}

static int only;				/* filter_only's member */

static bool
filter_only(const StoreGroup *group, int i)
{
	return i == only && group_connected(group, i);
}

static void
stopped(const Change *change, const char *what, int took, int needed)
{
	char	   *faults = group_faults(change->group);

	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the change of the list of members stopped half-way"),
			 errdetail("%d members %s, %d are needed. %s", took, what, needed,
					   faults),
			 errhint("The same call completes it, once they can be reached.")));
}

static void
raise_unfinished(const GroupMember *member)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("another change of the list of members has not been completed"),
			 errdetail("Member %s has a list of generation " INT64_FORMAT " that is not settled.",
					   member->conninfo.label, member->answer.head.generation),
			 errhint("Repeat that change first: call leasehold.set_store() with its members.")));
}

/* Sort the members, and find what an earlier attempt has left. */
static void
survey_change(Change *change)
{
	StoreGroup *group = change->group;
	int64		highest = group->roster.generation;
	int64		begun = 0;

	for (int i = 0; i < group->n; i++)
	{
		const StoreHead *head = &group->member[i].answer.head;

		if (!group_connected(group, i))
			continue;
		change->old[i] = relist_contains(&group->roster, &group->report[i].id);
		change->new[i] = relist_contains(change->next, &group->report[i].id);
		highest = Max(highest, head->generation);
		if (head->generation <= group->roster.generation)
			continue;
		if (strcmp(head->members, change->text) == 0)
			begun = Max(begun, head->generation);
		else if (change->old[i])
			raise_unfinished(&group->member[i]);
	}
	change->generation = begun > 0 ? begun : highest + 1;
	for (int i = 0; i < group->n; i++)
	{
		const StoreHead *head = &group->member[i].answer.head;

		change->committed[i] = group_connected(group, i) &&
			head->generation == change->generation &&
			strcmp(head->members, change->text) == 0;
		change->settled |= change->committed[i] && head->settled;
	}
}

static int
count_flags(const StoreGroup *group, const bool *flag, const bool *also)
{
	int			n = 0;

	for (int i = 0; i < group->n; i++)
		n += flag[i] && also[i];
	return n;
}

static void
require_reach(const Change *change)
{
	const StoreGroup *group = change->group;
	int			old = count_flags(group, change->old, change->old);
	int			new = count_flags(group, change->new, change->new);

	if (old >= group_majority(group) && new >= change->next->n / 2 + 1)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the list of members cannot be changed"),
			 errdetail("%d of %d present members can be reached, %d are needed; %d of %d new ones, %d are needed. %s",
					   old, group->roster.n, group_majority(group),
					   new, change->next->n, change->next->n / 2 + 1,
					   group_faults(group)),
			 errhint("A list that shares no majority with the last one needs the last one's members: name them in leasehold.store as well.")));
}

/*
 * A paused holder writes without a deadline, and stops only when it is asked to
 * at rows that it still holds.  If the change took those from it, nobody could
 * ask.  So a pause has to end first.
 */
static void
refuse_paused(const Change *change)
{
	StoreGroup *group = change->group;

	if (count_flags(group, change->old, change->committed) > 0)
		return;					/* begun already: move_lease() looks closer */
	(void) group_send(group, filter_old_uncommitted, store_rows_sql, 0, NULL);
	for (int i = 0; i < group->n; i++)
	{
		PGresult   *result = group->member[i].result;

		for (int r = 0; result != NULL && r < PQntuples(result); r++)
		{
			RelistRow	row;

			relist_read_row(result, r, &row);
			if (!truth(&row, ROW_DROPPED) &&
				(truth(&row, ROW_FROZEN) || truth(&row, ROW_PAUSE_WANTED)))
				ereport(ERROR,
						(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						 errmsg("lease \"%s\" is paused", row.value[ROW_NAME]),
						 errdetail("The list of members cannot be changed during a pause."),
						 errhint("leasehold.resume() ends the pause.")));
		}
	}
}

/* Step 1: members that only the next list has; each from what it has now. */
static void
commit_new(Change *change)
{
	StoreGroup *group = change->group;
	const char *values[3] = {generation_text(change->generation), change->text};
	int			n = 0;

	for (int i = 0; i < group->n; i++)
	{
		if (!change->new[i] || change->old[i] || change->committed[i])
			continue;
		only = i;
		values[2] = generation_text(group->member[i].answer.head.generation);
		change->committed[i] =
			group_send(group, filter_only, store_commit_sql, 3, values) == 1;
	}
	for (int i = 0; i < group->n; i++)
		n += change->new[i] && (change->committed[i] || change->old[i]);
	if (n < change->next->n / 2 + 1)
		stopped(change, "of the new list took it", n, change->next->n / 2 + 1);
}

/* Step 2. */
static void
commit_old(Change *change)
{
	StoreGroup *group = change->group;
	const char *values[3] = {generation_text(change->generation), change->text,
	generation_text(group->roster.generation)};
	bool		asked[GROUP_MEMBERS_MAX];
	int			n;

	for (int i = 0; i < group->n; i++)
		asked[i] = filter_old_uncommitted(group, i);
	(void) group_send(group, filter_old_uncommitted, store_commit_sql, 3, values);
	for (int i = 0; i < group->n; i++)
		if (asked[i] && group_took(group, i))
			change->committed[i] = true;
	n = count_flags(group, change->old, change->committed);
	if (n < group_majority(group))
		stopped(change, "of the present list took the next one", n,
				group_majority(group));
}

/* The names of all leases that a member of the old list knows. */
static int
lease_names(Change *change, char **name)
{
	StoreGroup *group = change->group;
	int			n = 0;

	(void) group_send(group, filter_old_committed, store_names_sql, 0, NULL);
	for (int i = 0; i < group->n; i++)
	{
		PGresult   *result = group->member[i].result;

		for (int r = 0; result != NULL && r < PQntuples(result); r++)
		{
			int			k = 0;

			while (k < n && strcmp(name[k], PQgetvalue(result, r, 0)) != 0)
				k++;
			if (k == n && n < NAMES_MAX)
				name[n++] = pstrdup(PQgetvalue(result, r, 0));
		}
	}
	return n;
}

/* Steps 3 and 4 for one lease. */
static void
move_lease(Change *change, const char *name)
{
	StoreGroup *group = change->group;
	RelistRow	row[GROUP_MEMBERS_MAX];
	RelistRow	merged;
	const char *generation = generation_text(change->generation);
	const char *values[ROW_COUNT + 1] = {name, generation};
	int			answered = 0;
	int			n = 0;
	int			took;

	(void) group_send(group, filter_old_committed, store_seal_sql, 2, values);
	for (int i = 0; i < group->n; i++)
	{
		PGresult   *result = group->member[i].result;

		if (result == NULL)
			continue;
		answered++;
		if (PQntuples(result) == 1 && PQnfields(result) == ROW_COUNT)
			relist_read_row(result, 0, &row[n++]);
	}
	if (answered < group_majority(group))
		stopped(change, "of the present list told their rows", answered,
				group_majority(group));
	if (n == 0)
		return;
	relist_merge(row, n, group_majority(group), &merged);
	/* a pause that came in between, and that no majority confirms */
	if (truth(&merged, ROW_FROZEN) &&
		count_agreeing(row, n, best_row(row, n)) < group_majority(group))
		stopped(change, "agree on a lease that is paused",
				count_agreeing(row, n, best_row(row, n)), group_majority(group));
	for (int c = 0; c < ROW_COUNT; c++)
		values[c] = merged.value[c];
	values[ROW_COUNT] = generation;
	took = group_send(group, filter_new_committed, store_copy_sql,
					  ROW_COUNT + 1, values);
	if (took < change->next->n / 2 + 1)
		stopped(change, "of the new list took the rows", took,
				change->next->n / 2 + 1);
}

/*
 * The same for protected tables, and for who takes part in which lease.  What a
 * majority of the new list has is in any majority of it that a node reads.
 */
static void
move_tables(Change *change)
{
	StoreGroup *group = change->group;
	int			needed = change->next->n / 2 + 1;
	GroupTables tables;
	GroupMemberships rows;
	const char *values[7];
	int			n;

	n = group_read_tables(group, filter_old_committed, &tables);
	if (n >= group_majority(group))
		n = group_read_memberships(group, filter_old_committed,
								   group_majority(group), &rows);
	if (n < group_majority(group))
		stopped(change, "of the present list told which tables are protected",
				n, group_majority(group));
	values[0] = generation_text(tables.highest);
	values[1] = generation_text(change->generation);
	group_tables_values(&tables, values + 2);
	n = group_send(group, filter_new_committed, store_copy_protections_sql, 7,
				   values);
	if (n >= needed)
	{
		values[0] = generation_text(rows.highest);
		group_memberships_values(&rows, values + 2);
		n = group_send(group, filter_new_committed, store_copy_memberships_sql,
					   5, values);
	}
	if (n < needed)
		stopped(change, "of the new list took the list of protected tables", n,
				needed);
}

/* Heartbeats: best effort, since every node registers by itself. */
static void
move_nodes(Change *change)
{
	StoreGroup *group = change->group;
	StoreNode  *node = palloc(sizeof(StoreNode) * 256);
	int			n = group_nodes(group, node, 256);

	for (int k = 0; k < n; k++)
	{
		const char *values[9] = {
			node[k].name, psprintf(INT64_FORMAT, (int64) node[k].incarnation),
			psprintf(INT64_FORMAT, node[k].beat), node[k].advertise,
			node[k].role, node[k].lsn, psprintf("%d", node[k].timeline),
			psprintf("%d", node[k].priority), node[k].version
		};

		(void) group_send(group, filter_new_committed, store_copy_node_sql, 9,
						  values);
	}
	pfree(node);
}

/* Step 5. */
static void
settle(Change *change)
{
	StoreGroup *group = change->group;
	const char *values[2] = {generation_text(change->generation), change->text};
	int			took = group_send(group, filter_new_committed,
								  store_settle_sql, 2, values);

	if (took < change->next->n / 2 + 1)
		stopped(change, "of the new list settled it", took,
				change->next->n / 2 + 1);
	(void) group_send(group, filter_committed, "NOTIFY " STORE_CHANNEL, 0, NULL);
}

void
relist_change(StoreGroup *group, const Roster *next)
{
	Change		change = {0};
	char	  **name = palloc(sizeof(char *) * NAMES_MAX);
	int			nnames;

	change.group = group;
	change.next = next;
	change.text = list_text(next);
	changing = &change;
	survey_change(&change);
	require_reach(&change);
	refuse_paused(&change);
	commit_new(&change);
	move_nodes(&change);
	/* from here until it is settled nobody can renew: no dawdling */
	HOLD_INTERRUPTS();
	group->request_ms = CHANGE_REQUEST_MS;
	commit_old(&change);
	if (!change.settled)
	{
		nnames = lease_names(&change, name);
		for (int i = 0; i < nnames; i++)
			move_lease(&change, name[i]);
		move_tables(&change);
	}
	settle(&change);
	RESUME_INTERRUPTS();
	changing = NULL;
	group_look(group);
}
