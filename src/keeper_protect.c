/*
 * keeper_protect.c
 *		Which tables are protected: from the store to every backend, and back to
 *		the store that this node fences them.
 *
 * A change of the list is complete here when it stands in shared memory and on
 * the disk, and when every transaction that ran before it was published is over:
 * such a one may have passed its last check already.  Only then the store is
 * told, and only when all nodes have told it, protect() says that it is done.
 *
 * A change of number s was written at a majority, each time only where the last
 * number was below s.  So whoever has read the lists of a majority of members,
 * each with a number of at least s, has seen it.
 */
#include "postgres.h"

#include "access/transam.h"
#include "storage/proc.h"

#include "compat.h"
#include "keeper_tables.h"

/* ------------------------------------------------------------------------
 * The list
 * ------------------------------------------------------------------------
 */

static int
compare_names(const TableEntry *a, const TableEntry *b)
{
	int			order = strcmp(a->database, b->database);

	if (order == 0)
		order = strcmp(a->schema, b->schema);
	if (order == 0)
		order = strcmp(a->name, b->name);
	return order;
}

static void
make_room(KeeperTables *tables)
{
	if (tables->nentries < tables->entries_room)
		return;
	tables->entries_room = Max(64, 2 * tables->entries_room);
	tables->entry = tables->entry == NULL ?
		MemoryContextAlloc(tables->context,
						   sizeof(TableEntry) * tables->entries_room) :
		repalloc(tables->entry, sizeof(TableEntry) * tables->entries_room);
}

/* Each change takes the place of an older one.  True if it did. */
static bool
merge(KeeperTables *tables, const TableEntry *fresh)
{
	int			low = 0;
	int			high = tables->nentries;

	while (low < high)
	{
		int			middle = (low + high) / 2;
		int			order = compare_names(&tables->entry[middle], fresh);

		if (order == 0)
		{
			if (tables->entry[middle].seq >= fresh->seq)
				return false;
			tables->entry[middle] = *fresh;
			return true;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	make_room(tables);
	memmove(&tables->entry[low + 1], &tables->entry[low],
			sizeof(TableEntry) * (tables->nentries - low));
	tables->entry[low] = *fresh;
	tables->nentries++;
	return true;
}

/* Up to which change is the list complete? */
static int64
complete_up_to(const Keeper *keeper)
{
	const KeeperTables *tables = keeper->tables;
	int64		latest[LEASE_MEMBERS_MAX];
	int			n = 0;
	int			majority = lease_majority(&keeper->lease);

	for (int i = 0; i < keeper->n; i++)
	{
		int			at;

		if (tables->protections[i] < 0 ||
			keeper->member[i].standing != ROSTER_COUNTED)
			continue;
		for (at = n++; at > 0 && latest[at - 1] < tables->protections[i]; at--)
			latest[at] = latest[at - 1];
		latest[at] = tables->protections[i];
	}
	return keeper->roster.n > 0 && n >= majority ? latest[majority - 1] : -1;
}

bool
keeper_protect_is_current(const Keeper *keeper)
{
	const KeeperTables *tables = keeper->tables;
	int			n = 0;

	for (int i = 0; i < keeper->n; i++)
	{
		if (keeper->member[i].standing != ROSTER_COUNTED)
			continue;
		if (tables->protections[i] < tables->protections_wanted[i])
			return false;
		n += tables->protections[i] >= 0;
	}
	return keeper->roster.n > 0 && n >= lease_majority(&keeper->lease);
}

/* ------------------------------------------------------------------------
 * To every backend
 * ------------------------------------------------------------------------
 */

/* COMMIT PREPARED has no xid of its own. */
static bool
is_in_commit(int place)
{
	return pg_atomic_read_u32(&fence_shared->backends[place].backend.in_commit) != 0;
}

/* Transactions that may have written before they could know of the list. */
static void
note_running(KeeperTables *tables)
{
	tables->nplaces = compat_proc_count();
	if (tables->running == NULL)
		tables->running = MemoryContextAlloc(tables->context,
											 sizeof(TransactionId) * tables->nplaces);
	for (int p = 0; p < tables->nplaces; p++)
		tables->running[p] = compat_proc(p)->xid;
	if (tables->in_commit == NULL)
		tables->in_commit = MemoryContextAlloc(tables->context,
											   sizeof(bool) * fence_shared->nbackends);
	for (int p = 0; p < fence_shared->nbackends; p++)
		tables->in_commit[p] = is_in_commit(p);
	tables->waiting = true;
}

/* Are they all over? */
static bool
have_ended(KeeperTables *tables)
{
	for (int p = 0; p < tables->nplaces; p++)
		if (TransactionIdIsValid(tables->running[p]) &&
			compat_proc(p)->xid == tables->running[p])
			return false;
	for (int p = 0; p < fence_shared->nbackends; p++)
	{
		tables->in_commit[p] = tables->in_commit[p] && is_in_commit(p);
		if (tables->in_commit[p])
			return false;
	}
	return true;
}

/* A lease that is not known yet may have got its slot from a keeper before. */
static int
slot_of(const KeeperTables *tables, const char *lease)
{
	int			k = keeper_tables_find(tables, lease);

	return k >= 0 ? tables->lease[k]->slot : tables_find_slot(lease);
}

static void
publish(Keeper *keeper)
{
	KeeperTables *tables = keeper->tables;
	TableList  *list = palloc(tables_list_size());

	list->n = 0;
	list->unknown = tables->unknown;
	list->seq = Max(tables->seq, 0);
	for (int e = 0; e < tables->nentries; e++)
	{
		TableEntry *entry = &tables->entry[e];

		if (entry->lease[0] == '\0')
			continue;
		if (list->n == setting_tables_max)
		{
			if (!list->unknown)
				ereport(LOG,
						(errmsg("leasehold: more tables are protected than there is room for, and all are treated as if they were"),
						 errhint("Raise leasehold.tables_max.")));
			list->unknown = true;
			break;
		}
		list->entry[list->n] = *entry;
		list->entry[list->n++].slot = slot_of(tables, entry->lease);
	}
	tables_publish(list);		/* ends with a full barrier */
	tables->generation = pg_atomic_read_u32(&leasehold_tables->generation);
	tables->list_due = false;
	note_running(tables);
	shared_wake_steward();		/* to the disk */
	pfree(list);
}

void
keeper_protect_turn(Keeper *keeper)
{
	KeeperTables *tables = keeper->tables;

	if (tables->list_due)
		publish(keeper);
	if (tables->waiting && have_ended(tables) &&
		pg_atomic_read_u32(&leasehold_tables->on_disk) == tables->generation)
	{
		tables->waiting = false;
		tables->confirmed = Max(tables->seq, 0);
	}
}

/* ------------------------------------------------------------------------
 * From the store, and from the last run
 * ------------------------------------------------------------------------
 */

void
keeper_protect_take(Keeper *keeper, int i, const PGresult *result)
{
	KeeperTables *tables = keeper->tables;
	int64		number;
	int			n = store_read_protections(result, &number);
	int64		seq;
	bool		changed = false;

	if (n < 0 || keeper->member[i].standing != ROSTER_COUNTED)
		return;
	for (int r = 0; r < n; r++)
	{
		TableEntry	entry;

		store_read_protection(result, r, &entry);
		changed |= merge(tables, &entry);
	}
	tables->protections[i] = number;
	tables->protections_wanted[i] = Max(tables->protections_wanted[i], number);
	seq = complete_up_to(keeper);
	if (seq >= 0 && tables->unknown)
	{
		tables->unknown = false;
		changed = true;
	}
	/* nothing to publish where nothing is protected, and nothing was */
	if (seq > tables->seq)
	{
		tables->seq = seq;
		changed |= seq > 0;
	}
	tables->list_due |= changed;
}

/* What the last run left, or this one's last keeper: it is fenced already. */
void
keeper_protect_start(Keeper *keeper)
{
	KeeperTables *tables = keeper->tables;
	TableList  *list = palloc(tables_list_size());

	if (!tables_read(list))
	{
		list->n = 0;
		list->unknown = true;
		list->seq = 0;
	}
	for (int e = 0; e < list->n; e++)
		(void) merge(tables, &list->entry[e]);
	tables->unknown = list->unknown;
	tables->seq = list->seq;
	tables->generation = pg_atomic_read_u32(&leasehold_tables->generation);
	/* a keeper before this one may have published it just now */
	if (tables->generation != 0)
		note_running(tables);
	pfree(list);
}
