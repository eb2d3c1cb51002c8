/*
 * fence_notes.c
 *		Table leases: the decision for one transaction.
 *
 * The same three points as with the lease of the instance (see fence.c), but a
 * transaction may meet many leases, and not every one with a statement that
 * names its table: rows find their way into partitions.  So a statement needs
 * the leases of the tables that it names, and only notes those of the tables
 * below them; at the end, the server's own counts tell which tables have really
 * changed, and for each the noted epoch must still be held.  Whatever was not
 * noted then came under its lease too late, or was written by no statement.
 *
 * Called from fence.c.  Decides from shared memory and the clock alone.
 */
#include "postgres.h"

#include "access/xact.h"
#include "pgstat.h"
#include "utils/inval.h"
#include "utils/memutils.h"

#include "fence.h"
#include "fence_ddl.h"
#include "fence_notes.h"
#include "fence_refuse_table.h"

FenceNote  *fence_notes = NULL;
static int	room = 0;

/* ------------------------------------------------------------------------
 * Notes
 * ------------------------------------------------------------------------
 */

static inline FenceNote *
find_note(int slot)
{
	FenceNote  *end = fence_notes + fence_transaction.nnotes;

	for (FenceNote *noted = fence_notes; noted < end; noted++)
		if (noted->slot == slot)
			return noted;
	return NULL;
}

static pg_noinline void
make_room(void)
{
	int			wanted = room == 0 ? 8 : 2 * room;

	fence_notes = room == 0 ?
		MemoryContextAlloc(TopMemoryContext, sizeof(FenceNote) * wanted) :
		repalloc(fence_notes, sizeof(FenceNote) * wanted);
	room = wanted;
}

static inline FenceNote *
add_note(const FenceTableLease *lease, Oid relid, uint64 held)
{
	FenceNote  *added;

	if (unlikely(fence_transaction.nnotes == room))
		make_room();
	added = &fence_notes[fence_transaction.nnotes++];
	added->lease = lease->shared;
	added->slot = lease->slot;
	added->wrote = false;
	added->unheld = held == 0;
	added->relid = relid;
	added->epoch = held;
	fence_transaction.bits |= lease->bit;
	return added;
}

/* Note under which epoch this lease is held now. */
static inline FenceNote *
note(const FenceTableLease *lease, Oid relid, uint64 held)
{
	FenceNote  *found = find_note(lease->slot);

	if (found == NULL)
		return add_note(lease, relid, held);
	if (found->epoch != held)
		found->epoch = 0;
	return found;
}

static inline void
note_write(FenceNote *noted, Oid relid, uint32 bit)
{
	noted->wrote = true;
	noted->relid = relid;
	fence_transaction.wrote |= FENCE_WROTE_TABLES;
	fence_show_slot(noted->slot, bit);
}

static void
see_write(FenceNote *noted, Oid relid)
{
	if (!noted->wrote)
		note_write(noted, relid, FENCE_BIT_SLOT(noted->slot));
}

/*
 * Where nothing is counted, it cannot be told at the end what was written: what
 * may be counts as written, and the list must not change.  So it is remembered
 * which one it was before the transaction could write anything.  Of transactions
 * that a utility statement runs within, nothing is remembered; nor of one that
 * wrote before there was any list, which is the first one that meets it.
 */
static bool list_was_met = false;

static bool
list_has_changed(void)
{
	if (!TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return false;
	if (fence_transaction.generation == 0)
		return !list_was_met;
	return fence_transaction.generation != fence_tables_generation;
}

void
fence_notes_list(void)
{
	if (unlikely(!pgstat_track_counts) &&
		!TransactionIdIsValid(GetTopTransactionIdIfAny()))
	{
		fence_transaction.generation = fence_tables_generation;
		list_was_met = true;
	}
}

/* ------------------------------------------------------------------------
 * Before a statement
 * ------------------------------------------------------------------------
 */

void
fence_notes_require(Oid relid, const FenceNeed *need, bool whole,
					const char *command, const void *statement)
{
	int			needed = need->nown + (whole ? need->nbelow : 0);

	for (int i = 0; i < needed; i++)
	{
		const FenceTableLease *lease = need->lease[i];
		uint64		held = tables_held_epoch(lease->slot);
		FenceNote  *noted = NULL;

		if (lease->slot != TABLES_NO_SLOT)
			noted = note(lease, relid, held);
		if (unlikely(held == 0 || noted->epoch != held))
			fence_refuse_table(command, statement, relid, lease, held);
		else
			see_write(noted, relid);
	}
	for (int i = needed; i < need->nown + need->nbelow; i++)
	{
		const FenceTableLease *lease = need->lease[i];
		FenceNote  *noted;

		if (lease->slot == TABLES_NO_SLOT)
			continue;
		noted = note(lease, relid, tables_held_epoch(lease->slot));
		if (!pgstat_track_counts)
			see_write(noted, relid);
	}
}

COMPAT_NO_STACK_PROTECTOR bool
fence_notes_settle(const FenceTable *table)
{
	const FenceTableLease *lease = table->need->only;
	uint64		held;
	FenceNote  *noted;

	if (unlikely(lease == NULL || fence_process != FENCE_PROCESS_FENCED ||
				 setting_fence != FENCE_ENFORCE || fence_instance_is_governed()))
		return false;
	held = shared_lease_epoch(lease->shared);
	if (unlikely(held == 0))
		return false;
	noted = find_note(lease->slot);
	if (noted == NULL)
		noted = add_note(lease, table->relid, held);
	else if (noted->epoch != held)
		return false;
	if (!noted->wrote)
		note_write(noted, table->relid, lease->bit);
	return true;
}

bool
fence_notes_cover(const FenceNeed *need)
{
	if (need == NULL || need->nown == 0)
		return false;
	for (int i = 0; i < need->nown; i++)
	{
		FenceNote  *noted = find_note(need->lease[i]->slot);

		if (noted == NULL || !noted->wrote || noted->epoch == 0)
			return false;
	}
	return true;
}

static void
see_written(Oid relid, const FenceNeed *need, void *arg)
{
	fence_notes_require(relid, need, false, NULL, arg);
}

void
fence_notes_before_plan(const PlannedStmt *stmt)
{
	fence_notes_list();
	fence_each_written(stmt, see_written, (void *) stmt);
}

/* ---- utility statements ---- */

static bool
is_held(const FenceNeed *need, bool whole)
{
	int			n = need->nown + (whole ? need->nbelow : 0);

	for (int i = 0; i < n; i++)
		if (tables_held_epoch(need->lease[i]->slot) == 0)
			return false;
	return true;
}

static bool
all_held(const FenceNamed *named)
{
	ListCell   *cell;

	foreach(cell, named->relids)
	{
		FenceTable	table = fence_table(lfirst_oid(cell));

		if (table.need != NULL && !is_held(table.need, named->whole))
			return false;
	}
	return true;
}

FenceWrite
fence_notes_before_utility(const PlannedStmt *pstmt, FenceWrite what, bool *local)
{
	FenceNamed	named;
	bool		protected = true;
	ListCell   *cell;

	*local = false;
	if (what < FENCE_PROTECTED || what > FENCE_WRITES)
		return what;
	fence_named_tables(pstmt->utilityStmt, &named);
	/* first: to look at other tables may be to read the list anew */
	if (named.made != NULL)
		fence_notes_require(InvalidOid, named.made, true, NULL, pstmt);
	if (what == FENCE_DDL && setting_local_ddl && !all_held(&named))
	{
		*local = true;
		return what;
	}
	foreach(cell, named.relids)
	{
		FenceTable	table = fence_table(lfirst_oid(cell));

		if (table.need != NULL)
			fence_notes_require(table.relid, table.need, named.whole, NULL, pstmt);
		protected = protected && table.what == FENCE_PROTECTED;
	}
	return protected && !named.partly && named.relids != NIL ?
		FENCE_PROTECTED : what;
}

/* ------------------------------------------------------------------------
 * The end of a transaction
 * ------------------------------------------------------------------------
 */

/* Rows of this table have changed: were its leases noted? */
static void
see_changed(Oid relid, const FenceNeed *need, void *arg)
{
	for (int i = 0; i < need->nown; i++)
	{
		const FenceTableLease *lease = need->lease[i];
		FenceNote  *noted = lease->slot == TABLES_NO_SLOT ? NULL :
			find_note(lease->slot);

		if (noted == NULL)
			fence_refuse_table_commit(relid, lease, TABLE_UNNOTED);
		else
			see_write(noted, relid);
	}
}

/*
 * The short way: did the transaction change no table but those whose lease is
 * noted, and that need that one whatever has happened in the catalogs since?
 */
static inline bool
changed_as_noted(void)
{
	if (!pgstat_track_counts)
		return false;
	for (const PgStat_TableXactStatus *counts = fence_first_changed();
		 counts != NULL; counts = counts->next)
	{
		Oid			relid = compat_counted_table(counts);
		const FenceTable *known = &fence_tables[relid % FENCE_TABLES];
		const FenceNote *noted;

		if (known->relid != relid || known->need == NULL || !known->need->fixed)
			return false;
		noted = find_note(known->need->lease[0]->slot);
		if (noted == NULL || !noted->wrote)
			return false;
	}
	return true;
}

/* Which tables has it changed, and were their leases noted? */
static pg_noinline void
look_at_changes(void)
{
	/* what became part of a protected table since it was looked at */
	AcceptInvalidationMessages();
	if (fence_each_changed(see_changed, NULL))
		return;
	for (int i = 0; i < fence_transaction.nnotes; i++)
		see_write(&fence_notes[i], fence_notes[i].relid);
	if (list_has_changed())
		fence_refuse_changed_list();
}

/* Is what such a table needs held now, if it was not noted before? */
static void
see_altered(const FenceAltered *altered, const FenceNeed *need)
{
	for (int i = 0; need != NULL && i < need->nown; i++)
	{
		const FenceTableLease *lease = need->lease[i];
		FenceNote  *noted = lease->shared == NULL ? NULL : find_note(lease->slot);
		uint64		held = tables_held_epoch(lease->slot);

		if (noted == NULL && held != 0)
			noted = add_note(lease, altered->relid, held);
		if (noted == NULL)
			fence_refuse_altered(altered, lease);
		else
			see_write(noted, altered->relid);
	}
}

static void
see_parents(const FenceAltered *altered, const List *parents)
{
	ListCell   *cell;

	foreach(cell, parents)
		see_altered(altered, fence_table(lfirst_oid(cell)).need);
}

/*
 * Changes of the schema are not counted.  Who had the lock that they take kept
 * everybody else from the table since: it does, if the leases are held at the
 * end, whoever had them when it began.
 */
static pg_noinline void
look_at_altered(void)
{
	ListCell   *cell;

	foreach(cell, fence_transaction.altered)
	{
		const FenceAltered *altered = lfirst(cell);

		/* one that was rolled back to a savepoint has not happened */
		if (!TransactionIdIsCurrentTransactionId(altered->xid))
			continue;
		/* not by a name that it has got since: to take one needs no lease */
		see_altered(altered, fence_tables_need_of_name(altered->schema, altered->name));
		see_parents(altered, altered->parents);
		see_parents(altered, fence_tables_parents(altered->relid));
	}
	/* of leases that were noted just now, too, before their deadlines are read */
	fence_raise_flag();
}

/* In the order of shared_lease_epoch(). */
static inline bool
is_lost(const FenceNote *noted, uint64 now)
{
	uint64		deadline = pg_atomic_read_u64(&noted->lease->deadline);

	pg_read_barrier();
	return now >= deadline || noted->epoch == 0 ||
		pg_atomic_read_u64(&noted->lease->epoch) != noted->epoch;
}

const FenceNote *
fence_notes_lost_of(const FenceNote *notes, int n)
{
	uint64		now = (uint64) clock_now();

	for (const FenceNote *noted = notes; noted < notes + n; noted++)
		if (noted->wrote && unlikely(is_lost(noted, now)))
			return noted;
	return NULL;
}

static void
refuse_lost(const FenceNote *lost)
{
	FenceTableLease lease = {.slot = lost->slot};

	strlcpy(lease.name, leasehold_tables->slot[lost->slot].name,
			sizeof(lease.name));
	fence_refuse_table_commit(lost->relid, &lease,
							  lost->unheld ? TABLE_UNHELD : TABLE_LOST);
}

/*
 * The list is read when our flag is up for all to see: if whoever published
 * another one finds the flag down, we find that list.
 */
COMPAT_NO_STACK_PROTECTOR void
fence_notes_before_commit(bool prepare)
{
	const FenceNote *lost;

	if (!fence_tables_look() && fence_transaction.nnotes == 0)
		return;
	if (!changed_as_noted())
		look_at_changes();
	if (unlikely(fence_transaction.altered != NIL))
		look_at_altered();
	if (!(fence_transaction.wrote & FENCE_WROTE_TABLES))
		return;
	lost = fence_notes_lost(fence_notes, fence_transaction.nnotes);
	if (unlikely(lost != NULL))
		refuse_lost(lost);
	else if (prepare)
		fence_refuse_table_prepare(fence_notes, fence_transaction.nnotes);
}
