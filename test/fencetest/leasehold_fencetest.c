/*
 * leasehold_fencetest.c
 *		The fence, worked by hand: for tests only.
 *
 * Plays the keeper's part in shared memory, with no store and no network, so
 * that every row of what the fence promises can be tested by itself.  Must
 * never be installed where anybody's data is.
 */
#include "postgres.h"

#include "compat.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "libpq/libpq.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "shared.h"
#include "tables.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(fencetest_open);
PG_FUNCTION_INFO_V1(fencetest_reopen);
PG_FUNCTION_INFO_V1(fencetest_close);
PG_FUNCTION_INFO_V1(fencetest_notice);
PG_FUNCTION_INFO_V1(fencetest_govern);
PG_FUNCTION_INFO_V1(fencetest_physical);
PG_FUNCTION_INFO_V1(fencetest_counters);
PG_FUNCTION_INFO_V1(fencetest_session);
PG_FUNCTION_INFO_V1(fencetest_flags);
PG_FUNCTION_INFO_V1(fencetest_protect);
PG_FUNCTION_INFO_V1(fencetest_unknown);
PG_FUNCTION_INFO_V1(fencetest_slot);
PG_FUNCTION_INFO_V1(fencetest_open_table);
PG_FUNCTION_INFO_V1(fencetest_reopen_table);
PG_FUNCTION_INFO_V1(fencetest_close_table);
PG_FUNCTION_INFO_V1(fencetest_status_table);
PG_FUNCTION_INFO_V1(fencetest_keeper);
PG_FUNCTION_INFO_V1(fencetest_heap_insert);
PG_FUNCTION_INFO_V1(fencetest_stall);
PG_FUNCTION_INFO_V1(fencetest_stall_answer);

/* The keeper's order: close, then the epoch, then the deadline. */
static void
publish_lease(FenceLease *lease, uint64 epoch, int32 ms)
{
	ClockTime	deadline = ms < 0 ? CLOCK_NEVER : clock_now() + ms * CLOCK_MS;

	pg_atomic_write_u64(&lease->deadline, 0);
	pg_memory_barrier();
	pg_atomic_write_u64(&lease->epoch, epoch);
	pg_memory_barrier();
	pg_atomic_write_u64(&lease->deadline, (uint64) deadline);
}

Datum
fencetest_open(PG_FUNCTION_ARGS)
{
	uint64		epoch = pg_atomic_read_u64(&fence_shared->instance.epoch) + 1;

	publish_lease(&fence_shared->instance, epoch, PG_GETARG_INT32(0));
	PG_RETURN_INT64((int64) epoch);
}

Datum
fencetest_reopen(PG_FUNCTION_ARGS)
{
	uint64		epoch = pg_atomic_read_u64(&fence_shared->instance.epoch);

	publish_lease(&fence_shared->instance, epoch, PG_GETARG_INT32(0));
	PG_RETURN_INT64((int64) epoch);
}

Datum
fencetest_close(PG_FUNCTION_ARGS)
{
	pg_atomic_write_u64(&fence_shared->instance.deadline, 0);
	pg_memory_barrier();
	PG_RETURN_VOID();
}

Datum
fencetest_notice(PG_FUNCTION_ARGS)
{
	FenceNotice notice;

	memset(&notice, 0, sizeof(notice));
	strlcpy(notice.lease, settings_lease(), sizeof(notice.lease));
	strlcpy(notice.node, text_to_cstring(PG_GETARG_TEXT_PP(0)), sizeof(notice.node));
	strlcpy(notice.holder, text_to_cstring(PG_GETARG_TEXT_PP(1)), sizeof(notice.holder));
	notice.epoch = PG_GETARG_INT64(2);
	strlcpy(notice.address, text_to_cstring(PG_GETARG_TEXT_PP(3)), sizeof(notice.address));
	strlcpy(notice.reason, text_to_cstring(PG_GETARG_TEXT_PP(4)), sizeof(notice.reason));
	shared_publish(&leasehold_shared->notice, &notice);
	PG_RETURN_VOID();
}

Datum
fencetest_govern(PG_FUNCTION_ARGS)
{
	pg_atomic_write_u32(&fence_shared->governed, PG_GETARG_BOOL(0));
	PG_RETURN_VOID();
}

Datum
fencetest_physical(PG_FUNCTION_ARGS)
{
	pg_atomic_write_u32(&fence_shared->physical, PG_GETARG_BOOL(0));
	PG_RETURN_VOID();
}

/* One row of the function's result type. */
static Datum
make_row(FunctionCallInfo fcinfo, Datum *values)
{
	TupleDesc	desc;
	bool		nulls[8] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "a row type was expected");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

Datum
fencetest_counters(PG_FUNCTION_ARGS)
{
	Datum		values[2];

	values[0] = Int64GetDatum((int64) pg_atomic_read_u64(&fence_shared->withheld));
	values[1] = Int64GetDatum((int64) pg_atomic_read_u64(&fence_shared->refused));
	PG_RETURN_DATUM(make_row(fcinfo, values));
}

Datum
fencetest_session(PG_FUNCTION_ARGS)
{
	for (int i = 0; i < fence_shared->nbackends; i++)
	{
		FenceBackend *backend = &fence_shared->backends[i].backend;
		Datum		values[4];

		if (pg_atomic_read_u32(&backend->pid) != (uint32) PG_GETARG_INT32(0))
			continue;
		values[0] = BoolGetDatum(pg_atomic_read_u32(&backend->in_commit) != 0);
		values[1] = BoolGetDatum(pg_atomic_read_u32(&backend->writing) != 0);
		values[2] = BoolGetDatum(pg_atomic_read_u32(&backend->spared) != 0);
		values[3] = Int64GetDatum((int64) pg_atomic_read_u64(&backend->opened_epoch));
		PG_RETURN_DATUM(make_row(fcinfo, values));
	}
	PG_RETURN_NULL();
}

Datum
fencetest_flags(PG_FUNCTION_ARGS)
{
	for (int i = 0; i < fence_shared->nbackends; i++)
	{
		FenceBackend *backend = &fence_shared->backends[i].backend;
		Datum		values[2];

		if (pg_atomic_read_u32(&backend->pid) != (uint32) PG_GETARG_INT32(0))
			continue;
		values[0] = Int64GetDatum((int64) pg_atomic_read_u32(&backend->in_commit));
		values[1] = Int64GetDatum((int64) pg_atomic_read_u32(&backend->writing));
		PG_RETURN_DATUM(make_row(fcinfo, values));
	}
	PG_RETURN_NULL();
}

/* ------------------------------------------------------------------------
 * Table leases
 * ------------------------------------------------------------------------
 */

#define LIST_MAX	1024		/* the default of leasehold.tables_max */

static char *
string_arg(FunctionCallInfo fcinfo, int n)
{
	return text_to_cstring(PG_GETARG_TEXT_PP(n));
}

/* The list as it is, with room for more. */
static TableList *
read_list(void)
{
	TableList  *list = palloc0(offsetof(TableList, entry) +
							   sizeof(TableEntry) * LIST_MAX);

	if (!tables_read(list))
		elog(ERROR, "the list changes again and again");
	return list;
}

static TableEntry *
find_entry(TableList *list, const char *database, const char *schema,
		   const char *name)
{
	TableEntry *entry;

	for (int i = 0; i < list->n; i++)
	{
		entry = &list->entry[i];
		if (strcmp(entry->database, database) == 0 &&
			strcmp(entry->schema, schema) == 0 && strcmp(entry->name, name) == 0)
			return entry;
	}
	if (list->n == LIST_MAX)
		elog(ERROR, "too many tables");
	entry = &list->entry[list->n++];
	strlcpy(entry->database, database, sizeof(entry->database));
	strlcpy(entry->schema, schema, sizeof(entry->schema));
	strlcpy(entry->name, name, sizeof(entry->name));
	return entry;
}

Datum
fencetest_protect(PG_FUNCTION_ARGS)
{
	TableList  *list = read_list();
	char	   *lease = string_arg(fcinfo, 3);
	TableEntry *entry = find_entry(list, string_arg(fcinfo, 0),
								   string_arg(fcinfo, 1), string_arg(fcinfo, 2));

	strlcpy(entry->lease, lease, sizeof(entry->lease));
	entry->slot = lease[0] == '\0' ? TABLES_NO_SLOT : tables_find_slot(lease);
	entry->seq = ++list->seq;
	tables_publish(list);
	PG_RETURN_VOID();
}

Datum
fencetest_unknown(PG_FUNCTION_ARGS)
{
	TableList  *list = read_list();

	list->unknown = PG_GETARG_BOOL(0);
	tables_publish(list);
	PG_RETURN_VOID();
}

Datum
fencetest_slot(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(tables_give_slot(string_arg(fcinfo, 0)));
}

static FenceLease *
table_lease(const char *name)
{
	int			slot = tables_find_slot(name);

	if (slot == TABLES_NO_SLOT)
		elog(ERROR, "lease \"%s\" has no slot", name);
	return &leasehold_tables->slot[slot].lease;
}

static Datum
publish_table_lease(FunctionCallInfo fcinfo, int rise)
{
	FenceLease *lease = table_lease(string_arg(fcinfo, 0));
	uint64		epoch = pg_atomic_read_u64(&lease->epoch) + rise;

	publish_lease(lease, epoch, PG_GETARG_INT32(1));
	PG_RETURN_INT64((int64) epoch);
}

Datum
fencetest_open_table(PG_FUNCTION_ARGS)
{
	return publish_table_lease(fcinfo, 1);
}

Datum
fencetest_reopen_table(PG_FUNCTION_ARGS)
{
	return publish_table_lease(fcinfo, 0);
}

Datum
fencetest_close_table(PG_FUNCTION_ARGS)
{
	pg_atomic_write_u64(&table_lease(string_arg(fcinfo, 0))->deadline, 0);
	pg_memory_barrier();
	PG_RETURN_VOID();
}

/* The holder is told of as the only node of the survey. */
Datum
fencetest_status_table(PG_FUNCTION_ARGS)
{
	TableStatus *status = &leasehold_tables->status[tables_find_slot(string_arg(fcinfo, 0))];
	Survey	   *survey = leasehold_shared->survey;
	SurveyNode *node = &survey->node[0];

	LWLockAcquire(leasehold_tables->status_lock, LW_EXCLUSIVE);
	strlcpy(status->holder, string_arg(fcinfo, 1), sizeof(status->holder));
	status->epoch = PG_GETARG_INT64(2);
	strlcpy(status->reason, string_arg(fcinfo, 4), sizeof(status->reason));
	LWLockRelease(leasehold_tables->status_lock);
	LWLockAcquire(leasehold_shared->survey_lock, LW_EXCLUSIVE);
	survey->nnodes = 1;
	strlcpy(node->name, status->holder, sizeof(node->name));
	strlcpy(node->advertise, string_arg(fcinfo, 3), sizeof(node->advertise));
	LWLockRelease(leasehold_shared->survey_lock);
	PG_RETURN_VOID();
}

Datum
fencetest_keeper(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32((int32) pg_atomic_read_u32(&leasehold_shared->keeper.pid));
}

Datum
fencetest_heap_insert(PG_FUNCTION_ARGS)
{
	Relation	relation = table_open(PG_GETARG_OID(0), RowExclusiveLock);
	Datum		value = PG_GETARG_DATUM(1);
	bool		isnull = false;
	HeapTuple	tuple = heap_form_tuple(RelationGetDescr(relation), &value, &isnull);

	simple_heap_insert(relation, tuple);
	table_close(relation, NoLock);
	PG_RETURN_VOID();
}

/* How many commits to let pass, then stall the next; -1: stall none. */
static int	commits_to_pass = -1;
static FenceLease *stalled_for = NULL;

static void
stall(const char *what)
{
	ereport(LOG_SERVER_ONLY, (errmsg("stalled %s", what)));
	while (shared_lease_epoch(stalled_for) != 0)
		pg_usleep(1000);
}

/*
 * A backend stopped later still: the fence let the commit pass, the answer is
 * complete, and about to be sent.  We stand before whatever it is sent by then.
 */
static bool before_answer = false;
static const PQcommMethods *passed_methods;
static PQcommMethods stalling_methods;

static int
stall_flush(void)
{
	PqCommMethods = passed_methods;
	stall("before an answer");
	return PqCommMethods->flush();
}

static void
stand_before_answer(void)
{
	passed_methods = PqCommMethods;
	stalling_methods = *passed_methods;
	stalling_methods.flush = stall_flush;
	PqCommMethods = &stalling_methods;
}

/*
 * A backend stopped after its transaction became durable and before the fence
 * looks at the lease again: registered later, this callback is called earlier.
 * It goes on when the lease is gone.
 */
static void
stall_commit(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_PREPARE)
		return;
	if (commits_to_pass < 0 || commits_to_pass-- > 0)
		return;
	if (before_answer)
		stand_before_answer();
	else
		stall("after a commit");
}

static void
stall_later(int pass, bool at_answer, const char *lease)
{
	static bool registered = false;

	stalled_for = lease[0] == '\0' ? &fence_shared->instance : table_lease(lease);

	if (!registered)
		RegisterXactCallback(stall_commit, NULL);
	registered = true;
	commits_to_pass = pass;
	before_answer = at_answer;
}

Datum
fencetest_stall(PG_FUNCTION_ARGS)
{
	stall_later(PG_GETARG_INT32(0), false, string_arg(fcinfo, 1));
	PG_RETURN_VOID();
}

Datum
fencetest_stall_answer(PG_FUNCTION_ARGS)
{
	stall_later(PG_GETARG_INT32(0), true, string_arg(fcinfo, 1));
	PG_RETURN_VOID();
}
