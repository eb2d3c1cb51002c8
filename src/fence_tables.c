/*
 * fence_tables.c
 *		Which leases a table needs: the list of protected tables, as one backend
 *		knows it for its own database.
 *
 * The list goes by names, the server by OIDs.  Every backend keeps the names of
 * its own database, and by OID what it has found out about relations: what the
 * list says of the relation itself and of every table that it is a partition of
 * or inherits from, and what it says of the tables below it.  All of that is
 * forgotten as soon as anything at all changes in the catalogs about relations
 * or schemas: that a table got a new parent is not told to those that look at
 * its children.
 *
 * Called from fence_statement.c and the files of the fence that know table
 * leases.  Must never look at a lease, nor wait for anything but the catalogs.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_namespace.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "fence_statement.h"
#include "fence_tables.h"

/* A protected table of this database. */
typedef struct KnownTable
{
	char		schema[NAMEDATALEN];
	char		name[NAMEDATALEN];
	const FenceTableLease *lease;
} KnownTable;

/* What was found out about a relation. */
typedef struct KnownNeed
{
	Oid			relid;			/* the key */
	const FenceNeed *need;		/* or NULL */
} KnownNeed;

static pg_atomic_uint32 not_joined = {0};
pg_atomic_uint32 *fence_tables_published = &not_joined;

uint32		fence_tables_generation = 0;
bool		fence_tables_here = false;
bool		fence_tables_unknown = false;

/* All of one generation lies in one memory context. */
static MemoryContext context = NULL;
static KnownTable *known = NULL;	/* sorted by name */
static int	nknown = 0;
static FenceTableLease *lease = NULL;
static int	nleases = 0;
static List *needs = NIL;		/* each different FenceNeed once */
static HTAB *found_out = NULL;	/* of KnownNeed */
static uint64 found_out_at = 0; /* "changes" when it was empty */

static bool callbacks_registered = false;
static uint64 changes = 0;		/* counts the invalidations */

/* Stands for the lease of any table, while the list cannot be read. */
static FenceTableLease unknown_lease = {.slot = TABLES_NO_SLOT};
static FenceNeed *unknown_need = NULL;

void
fence_tables_join(void)
{
	if (leasehold_tables != NULL)
		fence_tables_published = &leasehold_tables->generation;
}

/* ------------------------------------------------------------------------
 * The list
 * ------------------------------------------------------------------------
 */

static int
compare_tables(const void *a, const void *b)
{
	const KnownTable *left = a;
	const KnownTable *right = b;
	int			by_name = strcmp(left->name, right->name);

	return by_name != 0 ? by_name : strcmp(left->schema, right->schema);
}

static const FenceTableLease *
know_lease(const TableEntry *entry)
{
	FenceTableLease *new;

	for (int i = 0; i < nleases; i++)
		if (strcmp(lease[i].name, entry->lease) == 0)
			return &lease[i];
	new = &lease[nleases++];
	new->slot = entry->slot;
	new->bit = entry->slot == TABLES_NO_SLOT ? 0 : FENCE_BIT_SLOT(entry->slot);
	new->shared = entry->slot == TABLES_NO_SLOT ? NULL :
		&leasehold_tables->slot[entry->slot].lease;
	strlcpy(new->name, entry->lease, sizeof(new->name));
	return new;
}

static bool
is_protected_in(const TableEntry *entry, const char *database)
{
	return entry->lease[0] != '\0' && strcmp(entry->database, database) == 0;
}

/* Keep of the list what this database has. */
static void
keep(const TableList *list, const char *database)
{
	int			n = 0;

	for (int i = 0; i < list->n; i++)
		n += is_protected_in(&list->entry[i], database);
	nknown = nleases = 0;
	if (n == 0)
		return;
	known = MemoryContextAlloc(context, sizeof(KnownTable) * n);
	lease = MemoryContextAlloc(context, sizeof(FenceTableLease) * n);
	for (int i = 0; i < list->n; i++)
	{
		const TableEntry *entry = &list->entry[i];

		if (!is_protected_in(entry, database))
			continue;
		strlcpy(known[nknown].schema, entry->schema, NAMEDATALEN);
		strlcpy(known[nknown].name, entry->name, NAMEDATALEN);
		known[nknown++].lease = know_lease(entry);
	}
	qsort(known, nknown, sizeof(KnownTable), compare_tables);
}

static void
count_change(Datum arg, Oid relid)
{
	changes++;
}

static void
count_schema_change(Datum arg, int cacheid, uint32 hashvalue)
{
	changes++;
}

/* Forget everything; what is left says that any table may be protected. */
static void
start_anew(void)
{
	if (!callbacks_registered)
	{
		CacheRegisterRelcacheCallback(count_change, (Datum) 0);
		CacheRegisterSyscacheCallback(NAMESPACEOID, count_schema_change, (Datum) 0);
		callbacks_registered = true;
	}
	if (unknown_need == NULL)
	{
		FenceNeed  *need = MemoryContextAllocZero(TopMemoryContext,
												  offsetof(FenceNeed, lease) +
												  sizeof(FenceTableLease *));

		need->nown = 1;
		need->lease[0] = &unknown_lease;
		unknown_need = need;
	}
	if (context == NULL)
		context = AllocSetContextCreate(TopMemoryContext,
										"leasehold protected tables",
										ALLOCSET_DEFAULT_SIZES);
	fence_tables_here = fence_tables_unknown = true;
	fence_forget_tables();
	nknown = nleases = 0;
	needs = NIL;
	found_out = NULL;
	MemoryContextReset(context);
}

void
fence_tables_refresh(void)
{
	TableList  *list;
	char	   *database;
	uint32		generation;

	if (!IsTransactionState() || !OidIsValid(MyDatabaseId))
		return;
	start_anew();
	list = palloc_extended(tables_list_size(), MCXT_ALLOC_HUGE);
	database = get_database_name(MyDatabaseId);
	if (database != NULL && tables_read(list))
	{
		generation = list->generation;
		/* nothing was ever published: the page is as it was made */
		keep(list, database);
		fence_tables_unknown = list->unknown;
		fence_tables_here = list->unknown || nknown > 0;
		fence_tables_generation = generation;
	}
	pfree(list);
}

/* ------------------------------------------------------------------------
 * Names
 * ------------------------------------------------------------------------
 */

static const KnownTable *
find_name(const char *schema, const char *name)
{
	KnownTable	key;

	if (nknown == 0 || schema == NULL)
		return NULL;
	strlcpy(key.schema, schema, sizeof(key.schema));
	strlcpy(key.name, name, sizeof(key.name));
	return bsearch(&key, known, nknown, sizeof(KnownTable), compare_tables);
}

/* What the list says of this very relation. */
static const KnownTable *
find_relation(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	const KnownTable *table = NULL;
	Form_pg_class class;
	char	   *schema;

	if (!HeapTupleIsValid(tuple))
		return NULL;
	class = (Form_pg_class) GETSTRUCT(tuple);
	schema = get_namespace_name(class->relnamespace);
	if (schema != NULL)
	{
		table = find_name(schema, NameStr(class->relname));
		pfree(schema);
	}
	ReleaseSysCache(tuple);
	return table;
}

bool
fence_tables_list_relation(Oid relid)
{
	return find_relation(relid) != NULL;
}

bool
fence_tables_list_schema(const char *schema)
{
	for (int i = 0; i < nknown; i++)
		if (strcmp(known[i].schema, schema) == 0)
			return true;
	return fence_tables_unknown;
}

/* Other databases are seldom asked for: nothing is kept of them. */
bool
fence_tables_list_database(const char *database)
{
	TableList  *list = palloc_extended(tables_list_size(), MCXT_ALLOC_HUGE);
	bool		listed = true;

	if (tables_read(list) && !list->unknown)
	{
		listed = false;
		for (int i = 0; i < list->n; i++)
			listed = listed || is_protected_in(&list->entry[i], database);
	}
	pfree(list);
	return listed;
}

/* ------------------------------------------------------------------------
 * Needs
 * ------------------------------------------------------------------------
 */

List *
fence_tables_parents(Oid relid)
{
	List	   *parents = NIL;
	Relation	inherits = table_open(InheritsRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_inherits_inhrelid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(inherits, InheritsRelidSeqnoIndexId, true, NULL,
							  1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		parents = lappend_oid(parents,
							  ((Form_pg_inherits) GETSTRUCT(tuple))->inhparent);
	systable_endscan(scan);
	table_close(inherits, AccessShareLock);
	return parents;
}

/* The leases of a relation, and of all that it is a part of. */
static List *
add_own(List *own, Oid relid)
{
	const KnownTable *table;
	List	   *parents;
	ListCell   *cell;

	check_stack_depth();
	table = find_relation(relid);
	if (table != NULL)
		own = list_append_unique_ptr(own, (void *) table->lease);
	parents = fence_tables_parents(relid);
	foreach(cell, parents)
		own = add_own(own, lfirst_oid(cell));
	list_free(parents);
	return own;
}

/* The relation that the list means; InvalidOid if there is none yet. */
static Oid
relation_of(const KnownTable *table)
{
	Oid			schema = get_namespace_oid(table->schema, true);

	return OidIsValid(schema) ? get_relname_relid(table->name, schema) : InvalidOid;
}

/* Does this relation lie below that one?  For partitions, which have one parent. */
static bool
is_partition_below(Oid relid, Oid above)
{
	List	   *parents;

	if (!OidIsValid(relid) || !get_rel_relispartition(relid))
		return false;
	check_stack_depth();
	parents = fence_tables_parents(relid);
	relid = parents == NIL ? InvalidOid : linitial_oid(parents);
	list_free(parents);
	return relid == above || is_partition_below(relid, above);
}

/*
 * The leases of all relations below this one.  There may be very many partitions,
 * but seldom many that are protected by themselves; they know where they belong.
 */
static List *
add_below(List *below, Oid relid)
{
	List	   *tree;
	ListCell   *cell;

	if (!has_subclass(relid))
		return below;
	if (get_rel_relkind(relid) == RELKIND_PARTITIONED_TABLE)
	{
		for (int i = 0; i < nknown; i++)
			if (is_partition_below(relation_of(&known[i]), relid))
				below = list_append_unique_ptr(below, (void *) known[i].lease);
		return below;
	}
	tree = find_all_inheritors(relid, NoLock, NULL);
	foreach(cell, tree)
		if (lfirst_oid(cell) != relid)
			below = add_own(below, lfirst_oid(cell));
	list_free(tree);
	return below;
}

static bool
is_need(const FenceNeed *need, List *own, List *below, bool fixed)
{
	int			i = 0;
	ListCell   *cell;

	if (need->nown != list_length(own) || need->nbelow != list_length(below) ||
		need->fixed != fixed)
		return false;
	foreach(cell, own)
		if (need->lease[i++] != lfirst(cell))
			return false;
	foreach(cell, below)
		if (need->lease[i++] != lfirst(cell))
			return false;
	return true;
}

/* Different tables mostly need the same: each need is kept once. */
static const FenceNeed *
keep_need(List *own, List *below, bool fixed)
{
	FenceNeed  *need;
	MemoryContext caller;
	ListCell   *cell;
	int			n = list_length(own) + list_length(below);

	if (n == 0)
		return NULL;
	foreach(cell, needs)
		if (is_need(lfirst(cell), own, below, fixed))
			return lfirst(cell);
	caller = MemoryContextSwitchTo(context);
	need = palloc(offsetof(FenceNeed, lease) + sizeof(FenceTableLease *) * n);
	need->nown = list_length(own);
	need->nbelow = list_length(below);
	need->fixed = fixed;
	n = 0;
	foreach(cell, own)
		need->lease[n++] = lfirst(cell);
	foreach(cell, below)
		need->lease[n++] = lfirst(cell);
	need->only = n == 1 && need->nown == 1 && need->lease[0]->shared != NULL ?
		need->lease[0] : NULL;
	needs = lappend(needs, need);
	MemoryContextSwitchTo(caller);
	return need;
}

static const FenceNeed *
find_out(Oid relid)
{
	List	   *own;
	List	   *below;
	List	   *parents;
	const FenceNeed *need;

	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)))
		return NULL;
	own = add_own(NIL, relid);
	below = list_difference_ptr(add_below(NIL, relid), own);
	parents = fence_tables_parents(relid);
	/* without parents, what is its own can only come from the list */
	need = keep_need(own, below, own != NIL && parents == NIL);
	list_free(parents);
	list_free(own);
	list_free(below);
	return need;
}

/* The table of what was found out, empty if anything has changed since. */
static HTAB *
still_true(void)
{
	HASHCTL		control = {0};

	if (found_out != NULL && found_out_at == changes)
		return found_out;
	if (found_out != NULL)
		hash_destroy(found_out);
	found_out = NULL;
	control.keysize = sizeof(Oid);
	control.entrysize = sizeof(KnownNeed);
	control.hcxt = context;
	found_out = hash_create("leasehold needs of tables", 64, &control,
							HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	found_out_at = changes;
	return found_out;
}

/* The catalogs themselves and what is no more have no lease. */
const FenceNeed *
fence_tables_need(Oid relid, bool *settled)
{
	KnownNeed  *entry;
	const FenceNeed *need;
	uint64		before = changes;

	*settled = true;
	if (!fence_tables_here || relid < FirstNormalObjectId)
		return NULL;
	if (fence_tables_unknown)
	{
		Oid			schema = get_rel_namespace(relid);

		return OidIsValid(schema) && schema != PG_TOAST_NAMESPACE ?
			unknown_need : NULL;
	}
	entry = hash_search(still_true(), &relid, HASH_FIND, NULL);
	if (entry != NULL)
		return entry->need;
	need = find_out(relid);
	/* what was invalidated while we looked may be old already */
	*settled = before == changes;
	if (*settled)
	{
		entry = hash_search(still_true(), &relid, HASH_ENTER, NULL);
		entry->need = need;
	}
	return need;
}

const FenceNeed *
fence_tables_need_of_name(const char *schema, const char *name)
{
	const KnownTable *table = find_name(schema, name);
	List	   *own;
	const FenceNeed *need;

	if (fence_tables_unknown)
		return unknown_need;
	if (table == NULL)
		return NULL;
	own = list_make1((void *) table->lease);
	need = keep_need(own, NIL, false);
	list_free(own);
	return need;
}
