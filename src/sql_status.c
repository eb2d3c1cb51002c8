/*
 * sql_status.c
 *		The views' functions, holds() and epoch().
 *
 * They read what the keeper has left in shared memory, each with its age, and
 * the clock: they answer at once on any node, a hot standby and one that is
 * cut off included.  Must never talk to anybody.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "datatype/timestamp.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"

#include "settings.h"
#include "sql.h"
#include "sql_row.h"
#include "syncset.h"

PG_FUNCTION_INFO_V1(leasehold_holds);
PG_FUNCTION_INFO_V1(leasehold_epoch);
PG_FUNCTION_INFO_V1(leasehold_status);
PG_FUNCTION_INFO_V1(leasehold_leases);
PG_FUNCTION_INFO_V1(leasehold_nodes);
PG_FUNCTION_INFO_V1(leasehold_history);

/* ------------------------------------------------------------------------
 * Do we hold it?
 * ------------------------------------------------------------------------
 */

/* The epoch of the lease named by the argument, 0 if it is not held here. */
static uint64
epoch_held(FunctionCallInfo fcinfo)
{
	char	   *lease = sql_text(fcinfo, 0);
	Survey	   *survey;

	sql_require_preloaded();
	if (lease == NULL)
		return shared_lease_epoch(&fence_shared->instance);
	if (strcmp(lease, settings_lease()) == 0 ||
		tables_find_slot(lease) != TABLES_NO_SLOT)
		return sql_held_epoch(lease);
	survey = sql_survey();
	for (int i = 0; i < survey->nleases; i++)
		if (strcmp(survey->lease[i].name, lease) == 0)
			return 0;
	(void) sql_own_lease(fcinfo, 0);	/* says that there is none */
	return 0;
}

/*
 * leasehold_holds
 *		Does this node hold the lease at this moment?
 */
Datum
leasehold_holds(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(epoch_held(fcinfo) != 0);
}

/*
 * leasehold_epoch
 *		The fencing token while the lease is held here, else null.
 */
Datum
leasehold_epoch(PG_FUNCTION_ARGS)
{
	uint64		epoch = epoch_held(fcinfo);

	if (epoch == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64((int64) epoch);
}

/* ------------------------------------------------------------------------
 * status
 * ------------------------------------------------------------------------
 */

static int
members_reachable(const KeeperStatus *status)
{
	int			n = 0;

	for (int i = 0; i < status->nmembers; i++)
		n += status->member[i].reachable && !status->member[i].forgot &&
			status->member[i].standing == ROSTER_COUNTED;
	return n;
}

/* Until when it is held here; null if it is not, or if it is paused. */
static void
add_expiry(Row *row, FenceLease *lease, ClockTime now)
{
	ClockTime	deadline = (ClockTime) pg_atomic_read_u64(&lease->deadline);

	if (deadline <= now || deadline == CLOCK_NEVER)
		row_add(row, (Datum) 0, true);
	else
		row_add(row, sql_interval(deadline - now), false);
}

/* Who has every acknowledged write, as the lease row says; see syncset.h. */
static const char *
zero_loss_text(const char *sync_set)
{
	const char *node = syncset_node(sync_set);

	return node == NULL ? "off" : node[0] == '\0' ? "alone" : node;
}

/* What the rows of all leases of this node have in common, up to "reason". */
static void
add_standing(Row *row, const char *lease, const KeeperStatus *status,
			 FenceLease *held, ClockTime now)
{
	int			size = status->roster.n > 0 ? status->roster.n : status->nmembers;

	row_text(row, lease);
	row_text(row, status->node);
	row_text(row, sql_state_name(status->state));
	row_text(row, status->holder);
	row_add(row, Int64GetDatum(status->epoch), status->epoch == 0);
	add_expiry(row, held, now);
	row_ms(row, status->ttl_ms);
	row_text(row, status->kind);
	row_text(row, status->scope);
	row_add(row, Int32GetDatum(members_reachable(status)), false);
	row_add(row, Int32GetDatum(size), false);
	row_age(row, status->last_renewal, now);
	row_add(row, sql_interval(status->renewal_latency), status->renewal_latency == 0);
	row_text(row, status->reason);
}

/* The lease that governs the instance. */
static void
put_instance(FunctionCallInfo fcinfo, const KeeperStatus *status, ClockTime now)
{
	const char *lease = status->lease;
	DurableState state;
	Row			row = {0};

	if (lease[0] == '\0')
	{
		/* governed by what the data directory remembers */
		shared_read(&leasehold_shared->persisted, &state);
		lease = state.lease;
	}
	add_standing(&row, lease, status, &fence_shared->instance, now);
	row_add(&row, Int64GetDatum((int64) pg_atomic_read_u64(&fence_shared->withheld)), false);
	row_add(&row, Int64GetDatum((int64) pg_atomic_read_u64(&fence_shared->refused)), false);
	row_text(&row, zero_loss_text(status->sync_set));
	row_add(&row, Int64GetDatum((int64) pg_atomic_read_u64(&fence_shared->unprotected)), false);
	row_age(&row, status->published_at, now);
	row_put(fcinfo, &row);
}

/* The leases of tables that it takes part in; what is counted is not by lease. */
static void
put_tables(FunctionCallInfo fcinfo, ClockTime now)
{
	int			slots = (int) pg_atomic_read_u32(&leasehold_tables->nslots);
	ClockTime	published_at;

	LWLockAcquire(leasehold_tables->status_lock, LW_SHARED);
	published_at = leasehold_tables->status_at;
	LWLockRelease(leasehold_tables->status_lock);
	for (int i = 0; i < slots; i++)
	{
		TableSlot  *slot = &leasehold_tables->slot[i];
		Row			row = {0};

		if (sql_table_slot(slot->name, NULL) == TABLES_NO_SLOT)
			continue;
		add_standing(&row, slot->name, sql_lease_status(slot->name),
					 &slot->lease, now);
		row_add(&row, (Datum) 0, true);
		row_add(&row, (Datum) 0, true);
		row_text(&row, "off");
		row_add(&row, (Datum) 0, true);
		row_age(&row, published_at, now);
		row_put(fcinfo, &row);
	}
}

/*
 * leasehold_status
 *		How this node stands to its leases: a row for each, none if it has none.
 */
Datum
leasehold_status(PG_FUNCTION_ARGS)
{
	KeeperStatus *status;
	ClockTime	now = clock_now();

	sql_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	status = sql_status();
	if (status->state != NODE_UNGOVERNED)
		put_instance(fcinfo, status, now);
	put_tables(fcinfo, now);
	return (Datum) 0;
}

/* ------------------------------------------------------------------------
 * leases, nodes, history
 * ------------------------------------------------------------------------
 */

/* What it protects, as this node knows; null for a lease of an instance. */
static void
add_tables(Row *row, const TableList *list, const char *lease)
{
	Datum	   *name = palloc(sizeof(Datum) * (list->n + 1));
	int			n = 0;

	for (int i = 0; i < list->n; i++)
		if (strcmp(list->entry[i].lease, lease) == 0)
			name[n++] = CStringGetTextDatum(psprintf("%s.%s.%s",
													 list->entry[i].database,
													 list->entry[i].schema,
													 list->entry[i].name));
	if (n == 0)
		row_add(row, (Datum) 0, true);
	else
		row_add(row, PointerGetDatum(construct_array(name, n, TEXTOID, -1, false,
													 TYPALIGN_INT)), false);
}

/*
 * leasehold_leases
 *		Every lease, as the store said when it was last read.
 */
Datum
leasehold_leases(PG_FUNCTION_ARGS)
{
	Survey	   *survey;
	TableList  *list;
	ClockTime	now = clock_now();

	sql_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	survey = sql_survey();
	list = sql_tables();
	for (int i = 0; i < survey->nleases; i++)
	{
		const SurveyLease *lease = &survey->lease[i];
		Row			row = {0};

		row_text(&row, lease->name);
		row_text(&row, lease->row.holder);
		row_add(&row, Int64GetDatum(lease->row.epoch), false);
		row_add(&row, Int64GetDatum(lease->row.version), false);
		row_ms(&row, lease->row.ttl_ms);
		row_text(&row, lease->kind);
		row_text(&row, lease->scope);
		row_add(&row, BoolGetDatum(lease->row.frozen), false);
		row_text(&row, lease->row.reserved_for);
		row_ms(&row, lease->row.ttl_wanted_ms);
		row_add(&row, BoolGetDatum(lease->row.pause_wanted), false);
		row_text(&row, lease->row.handover_to);
		row_age(&row, survey->leases_at, now);
		add_tables(&row, list, lease->name);
		row_put(fcinfo, &row);
	}
	return (Datum) 0;
}

/* A position in the log as text; false if it is none. */
static bool
parse_lsn(const char *text, XLogRecPtr *lsn)
{
	uint32		high;
	uint32		low;

	if (sscanf(text, "%X/%X", &high, &low) != 2)
		return false;
	*lsn = ((uint64) high << 32) | low;
	return true;
}

/*
 * In a physical group all nodes write one log, and the lag is what a node
 * lacks of what the holder had written when both last said so.
 */
static bool
holder_lsn(const Survey *survey, const KeeperStatus *status, XLogRecPtr *lsn)
{
	const SurveyNode *holder = sql_find_node(survey, status->holder);

	return strcmp(status->kind, "physical") == 0 && holder != NULL &&
		parse_lsn(holder->lsn, lsn);
}

/*
 * leasehold_nodes
 *		Every node, as the store said when it was last read.
 */
Datum
leasehold_nodes(PG_FUNCTION_ARGS)
{
	Survey	   *survey;
	ClockTime	now = clock_now();
	XLogRecPtr	front = InvalidXLogRecPtr;
	bool		comparable;

	sql_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	survey = sql_survey();
	comparable = holder_lsn(survey, sql_status(), &front);
	for (int i = 0; i < survey->nnodes; i++)
	{
		const SurveyNode *node = &survey->node[i];
		XLogRecPtr	lsn = InvalidXLogRecPtr;
		bool		known = parse_lsn(node->lsn, &lsn);
		Row			row = {0};

		row_text(&row, node->name);
		row_text(&row, node->advertise);
		row_text(&row, node->role);
		row_add(&row, LSNGetDatum(lsn), !known);
		row_add(&row, Int32GetDatum(node->timeline), node->timeline == 0);
		row_add(&row, Int64GetDatum(front > lsn ? (int64) (front - lsn) : 0),
			!known || !comparable);
		row_age(&row, node->beat_seen, now);
		row_text(&row, node->version);
		row_add(&row, BoolGetDatum(node->alive), false);
		row_add(&row, Int32GetDatum(node->priority), false);
		row_add(&row, Int64GetDatum((int64) node->incarnation), false);
		row_age(&row, survey->nodes_at, now);
		row_put(fcinfo, &row);
	}
	return (Datum) 0;
}

/*
 * leasehold_history
 *		Every change of hands, as the store said when it was last read.  "at" is
 *		by the store's clock, and for people only.
 */
Datum
leasehold_history(PG_FUNCTION_ARGS)
{
	Survey	   *survey;
	ClockTime	now = clock_now();
	int64		since_1970 = ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE)) *
		USECS_PER_DAY;

	sql_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	survey = sql_survey();
	for (int i = 0; i < survey->nhistory; i++)
	{
		const SurveyHistory *change = &survey->history[i];
		Row			row = {0};

		row_text(&row, change->lease);
		row_add(&row, Int64GetDatum(change->epoch), false);
		row_text(&row, change->from_node);
		row_text(&row, change->to_node);
		row_text(&row, change->reason);
		row_add(&row, TimestampTzGetDatum(change->at_us - since_1970), false);
		row_age(&row, survey->history_at, now);
		row_put(fcinfo, &row);
	}
	return (Datum) 0;
}
