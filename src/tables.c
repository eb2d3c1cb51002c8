/*
 * tables.c
 *		Table leases in shared memory.
 *
 * See tables.h.  Made by the postmaster with the rest of shared memory.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "storage/shmem.h"

#include "tables.h"
#include "tables_file.h"

TablesShared *leasehold_tables = NULL;

Size
tables_list_size(void)
{
	return offsetof(TableList, entry) +
		mul_size(sizeof(TableEntry), setting_tables_max);
}

/* Places to find a slot by its name: at least half of them stay empty. */
static uint32
count_places(void)
{
	return pg_nextpower2_32(2 * (uint32) Max(setting_leases_max, 1));
}

Size
tables_size(void)
{
	Size		slots = mul_size(MAXALIGN(sizeof(TableSlot)) +
								 MAXALIGN(sizeof(TableStatus)),
								 setting_leases_max);
	Size		places = mul_size(sizeof(pg_atomic_uint32), count_places());

	return add_size(MAXALIGN(sizeof(TablesShared)) + 2 * MAXALIGN(tables_list_size()),
					add_size(slots, MAXALIGN(places)));
}

static void
init_slot(TableSlot *slot)
{
	pg_atomic_init_u64(&slot->lease.deadline, 0);
	pg_atomic_init_u64(&slot->lease.epoch, 0);
	pg_atomic_init_u64(&slot->version, 0);
	pg_atomic_init_u64(&slot->closed_epoch, 0);
	pg_atomic_init_u64(&slot->highest_epoch, 0);
}

static void
init_tables(TablesShared *tables)
{
	char	   *at = (char *) tables + MAXALIGN(sizeof(TablesShared));

	memset(tables, 0, tables_size());
	tables->slot = (TableSlot *) at;
	at += MAXALIGN(sizeof(TableSlot) * setting_leases_max);
	for (int i = 0; i < 2; i++)
	{
		tables->page[i] = (TableList *) at;
		at += MAXALIGN(tables_list_size());
	}
	tables->status = (TableStatus *) at;
	at += MAXALIGN(sizeof(TableStatus) * setting_leases_max);
	tables->place = (pg_atomic_uint32 *) at;
	tables->nplaces = count_places();
	for (uint32 i = 0; i < tables->nplaces; i++)
		pg_atomic_init_u32(&tables->place[i], 0);
	for (int i = 0; i < setting_leases_max; i++)
		init_slot(&tables->slot[i]);
	pg_atomic_init_u32(&tables->generation, 0);
	pg_atomic_init_u32(&tables->current, 0);
	pg_atomic_init_u32(&tables->nslots, 0);
	pg_atomic_init_u32(&tables->on_disk, 0);
	pg_atomic_init_u32(&tables->changes, 0);
	tables->status_lock = &GetNamedLWLockTranche("leasehold")[3].lock;
}

/* What the last run fenced is fenced from the first moment of this one. */
static void
recall(void)
{
	TableList  *list = palloc(tables_list_size());

	if (tables_file_read(list) == TABLES_FILE_BROKEN)
	{
		ereport(LOG,
				(errmsg("leasehold: file \"%s\" cannot be read", TABLES_FILE),
				 errdetail("Any table may be protected: none is written until the store has been read.")));
		list->unknown = true;
	}
	tables_publish(list);
	pfree(list);
}

/* The caller holds AddinShmemInitLock. */
void
tables_attach(void)
{
	bool		found;

	leasehold_tables = ShmemInitStruct("leasehold tables", tables_size(), &found);
	if (!found)
	{
		init_tables(leasehold_tables);
		recall();
	}
}

/* ------------------------------------------------------------------------
 * The list
 * ------------------------------------------------------------------------
 */

void
tables_publish(const TableList *list)
{
	TablesShared *tables = leasehold_tables;
	uint32		generation = pg_atomic_read_u32(&tables->generation);
	uint32		other = 1 - pg_atomic_read_u32(&tables->current);
	TableList  *page = tables->page[other];

	if (generation == 0 && list->n == 0 && !list->unknown)
		return;
	memcpy(page, list, offsetof(TableList, entry) + sizeof(TableEntry) * list->n);
	page->generation = generation + 1;
	pg_write_barrier();
	pg_atomic_write_u32(&tables->current, other);
	pg_write_barrier();
	pg_atomic_write_u32(&tables->generation, generation + 1);
	pg_memory_barrier();
}

/*
 * The page that was current is written again only by the change after the next,
 * and bears another generation then.
 */
bool
tables_read(TableList *list)
{
	TablesShared *tables = leasehold_tables;

	for (int i = 0; i < 1000; i++)
	{
		uint32		before = pg_atomic_read_u32(&tables->generation);
		TableList  *page;

		pg_read_barrier();
		page = tables->page[pg_atomic_read_u32(&tables->current)];
		memcpy(list, page, offsetof(TableList, entry));
		if (list->n < 0 || list->n > setting_tables_max)
			continue;
		memcpy(list->entry, page->entry, sizeof(TableEntry) * list->n);
		pg_read_barrier();
		if (list->generation == before &&
			pg_atomic_read_u32(&tables->generation) == before)
			return true;
	}
	return false;
}

/* ------------------------------------------------------------------------
 * Slots
 * ------------------------------------------------------------------------
 */

/*
 * Where this name stands among the places, or would: at the first that has it or
 * is empty, from where its hash says.  There is always an empty one to end at.
 */
static pg_atomic_uint32 *
find_place(const char *lease)
{
	TablesShared *tables = leasehold_tables;
	uint32		mask = tables->nplaces - 1;
	uint32		at = hash_bytes((const unsigned char *) lease, (int) strlen(lease)) & mask;

	for (;; at = (at + 1) & mask)
	{
		uint32		slot = pg_atomic_read_u32(&tables->place[at]);

		if (slot == 0)
			return &tables->place[at];
		pg_read_barrier();
		if (strcmp(tables->slot[slot - 1].name, lease) == 0)
			return &tables->place[at];
	}
}

int
tables_find_slot(const char *lease)
{
	return (int) pg_atomic_read_u32(find_place(lease)) - 1;
}

int
tables_give_slot(const char *lease)
{
	TablesShared *tables = leasehold_tables;
	pg_atomic_uint32 *place = find_place(lease);
	int			slot = (int) pg_atomic_read_u32(place) - 1;
	int			n = (int) pg_atomic_read_u32(&tables->nslots);

	if (slot != TABLES_NO_SLOT || n == setting_leases_max)
		return slot;
	strlcpy(tables->slot[n].name, lease, sizeof(tables->slot[n].name));
	pg_write_barrier();
	pg_atomic_write_u32(&tables->nslots, (uint32) n + 1);
	pg_atomic_write_u32(place, (uint32) n + 1);
	return n;
}
