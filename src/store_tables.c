/*
 * store_tables.c
 *		What is said to a member about leases of tables.
 *
 * Each statement is the one of store.c for a single lease, done for each row of
 * its arrays: the same guards, the same order of locks (the store row, then
 * leases in the order of their names, then others).
 *
 * Must never log or raise an error: what a member answers is data.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "store_care.h"
#include "store_params.h"
#include "store_rows.h"
#include "store_tables.h"

#define PREFIX_COLUMNS(node) \
	"s.generation, s.settled, s.protections, s.memberships, " node
#define NO_NODE		"NULL, NULL"

enum
{
	AT_GENERATION, AT_SETTLED, AT_PROTECTIONS, AT_MEMBERSHIPS,
	AT_NODE_INCARNATION, AT_NODE_BEAT, AT_LEASE
};

const char store_look_batch_sql[] =
"SELECT " PREFIX_COLUMNS(NO_NODE) ", " STORE_LEASE("l")
" FROM leasehold_store.store s LEFT JOIN leasehold_store.lease l"
" ON l.name = ANY (CAST($1 AS text[])) WHERE s.id = 1";

const char store_acquire_batch_sql[] =
"WITH c AS (UPDATE leasehold_store.store SET changes = changes + 1"
" WHERE id = 1 AND generation = $1 AND settled RETURNING id),"
" q AS (SELECT * FROM unnest(CAST($4 AS text[]), CAST($5 AS bigint[]),"
" CAST($6 AS bigint[]), CAST($7 AS bigint[]), CAST($8 AS integer[]),"
" CAST($9 AS boolean[]), CAST($10 AS bigint[]), CAST($11 AS bigint[]),"
" CAST($12 AS text[]), CAST($13 AS text[])) AS q (name, epoch, version, nonce,"
" ttl_ms, frozen, guard_epoch, guard_version, from_node, reason)),"
" a AS (UPDATE leasehold_store.lease SET holder = $2, incarnation = $3,"
" epoch = q.epoch, version = q.version, nonce = q.nonce, ttl_ms = q.ttl_ms,"
" frozen = q.frozen, reserved_for = '', handover_to = '', answer = ''"
" FROM c, q WHERE lease.name = q.name AND lease.epoch = q.guard_epoch"
" AND lease.version = q.guard_version AND lease.epoch < q.epoch"
" AND NOT lease.dropped AND (NOT lease.frozen OR q.frozen)"
" RETURNING " STORE_LEASE("lease") "),"
" h AS (INSERT INTO leasehold_store.history"
" (lease, epoch, to_node, from_node, reason, at)"
" SELECT a.name, a.epoch, a.holder, q.from_node, q.reason, current_timestamp"
" FROM a JOIN q ON q.name = a.name"
" ON CONFLICT (lease, epoch, to_node) DO NOTHING)"
" SELECT " PREFIX_COLUMNS(NO_NODE) ", " STORE_LEASE("a")
" FROM leasehold_store.store s LEFT JOIN a ON true WHERE s.id = 1";

const char store_renew_batch_sql[] =
"WITH b AS (UPDATE leasehold_store.node SET beat = beat + 1, role = $3,"
" lsn = $4, timeline = $5, priority = $6, advertise = $7"
" WHERE name = $1 AND incarnation = $2 RETURNING incarnation, beat),"
" r AS (UPDATE leasehold_store.lease SET version = q.version, nonce = q.nonce,"
" ttl_ms = q.ttl_ms, frozen = q.frozen, timeline_epoch = q.wrote_epoch,"
" holder_lsn = q.lsn, sync_set = q.writer FROM unnest(CAST($9 AS text[]),"
" CAST($10 AS bigint[]), CAST($11 AS bigint[]), CAST($12 AS bigint[]),"
" CAST($13 AS integer[]), CAST($14 AS boolean[]), CAST($15 AS bigint[]),"
" CAST($16 AS text[]), CAST($17 AS text[])) AS q (name, epoch, version, nonce,"
" ttl_ms, frozen, wrote_epoch, lsn, writer)"
" WHERE lease.name = q.name AND lease.holder = $1 AND lease.incarnation = $2"
" AND lease.epoch = q.epoch AND lease.version < q.version"
" AND EXISTS (SELECT 1 FROM leasehold_store.store"
" WHERE id = 1 AND generation = $8 AND settled)"
" RETURNING " STORE_LEASE("lease") ")"
" SELECT " PREFIX_COLUMNS("b.incarnation, b.beat") ", " STORE_LEASE("r")
" FROM leasehold_store.store s LEFT JOIN b ON true LEFT JOIN r ON true"
" WHERE s.id = 1";

const char store_release_batch_sql[] =
"WITH q AS (SELECT * FROM unnest(CAST($3 AS text[]), CAST($4 AS bigint[]),"
" CAST($5 AS bigint[]), CAST($6 AS bigint[]), CAST($7 AS text[]),"
" CAST($8 AS boolean[]), CAST($9 AS bigint[]), CAST($10 AS text[]),"
" CAST($11 AS text[]), CAST($12 AS text[])) AS q (name, epoch, version, nonce,"
" reserved_for, frozen, wrote_epoch, lsn, writer, reason)),"
" r AS (UPDATE leasehold_store.lease SET holder = '', version = q.version,"
" nonce = q.nonce, reserved_for = q.reserved_for, frozen = false,"
" handover_to = '', timeline_epoch = q.wrote_epoch, holder_lsn = q.lsn,"
" sync_set = q.writer FROM q WHERE lease.name = q.name AND lease.holder = $1"
" AND lease.incarnation = $2 AND lease.epoch = q.epoch"
" AND lease.version < q.version AND (NOT lease.frozen OR q.frozen)"
" RETURNING " STORE_LEASE("lease") "),"
" h AS (INSERT INTO leasehold_store.history"
" (lease, epoch, to_node, from_node, reason, at)"
" SELECT r.name, r.epoch, '', $1, q.reason, current_timestamp"
" FROM r JOIN q ON q.name = r.name"
" ON CONFLICT (lease, epoch, to_node) DO NOTHING)"
" SELECT " PREFIX_COLUMNS(NO_NODE) ", " STORE_LEASE("r")
" FROM leasehold_store.store s LEFT JOIN r ON true WHERE s.id = 1";

const char store_memberships_sql[] =
"SELECT s.memberships, o.lease, o.node, o.priority"
" FROM leasehold_store.store s LEFT JOIN (leasehold_store.membership m"
" JOIN leasehold_store.membership o ON o.lease = m.lease)"
" ON m.node = $1 WHERE s.id = 1 ORDER BY o.lease, o.node";

const char store_protections_sql[] =
"SELECT s.protections, p.database, p.schema_name, p.table_name, p.lease, p.seq"
" FROM leasehold_store.store s LEFT JOIN leasehold_store.protection p ON true"
" WHERE s.id = 1";

const char store_known_sql[] =
"INSERT INTO leasehold_store.known AS k (node, incarnation, protections)"
" VALUES ($1, $2, $3) ON CONFLICT (node) DO UPDATE"
" SET incarnation = excluded.incarnation, protections = excluded.protections"
" WHERE k.incarnation <> excluded.incarnation"
" OR k.protections < excluded.protections";

const char store_ready_sql[] =
"UPDATE leasehold_store.lease SET ready_seq = $2"
" WHERE name = $1 AND request_seq = $2 AND ready_seq < $2";

/* ------------------------------------------------------------------------
 * Sending
 * ------------------------------------------------------------------------
 */

/* An array is text in the server's own notation. */
static void
begin_array(StringInfo array)
{
	initStringInfo(array);
	appendStringInfoChar(array, '{');
}

static void
end_array(StoreParams *params, StringInfo array)
{
	/* over the last comma */
	if (array->len > 1)
		array->data[array->len - 1] = '}';
	else
		appendStringInfoChar(array, '}');
	param_text(params, array->data);
}

static void
append_text(StringInfo array, const char *text)
{
	appendStringInfoChar(array, '"');
	for (; *text != '\0'; text++)
	{
		if (*text == '"' || *text == '\\')
			appendStringInfoChar(array, '\\');
		appendStringInfoChar(array, *text);
	}
	appendStringInfoString(array, "\",");
}

static void
append_int(StringInfo array, int64 value)
{
	appendStringInfo(array, INT64_FORMAT ",", value);
}

/* One array for each column, an element for each lease. */
#define ADD_ARRAY(params, batch, what) \
	do { \
		StringInfoData array; \
		begin_array(&array); \
		for (int i = 0; i < (batch)->n; i++) \
		{ \
			const LeaseRequest *request pg_attribute_unused() = \
				(batch)->request ? (batch)->request[i] : NULL; \
			what; \
		} \
		end_array(params, &array); \
	} while (0)

static void
append_lsn(StringInfo array, uint64 lsn)
{
	char		text[24];

	lsn_format(lsn, text, sizeof(text));
	append_text(array, text);
}

static const char *
fill_acquire(StoreParams *params, const StoreNode *self, int64 generation,
			 const StoreBatch *batch)
{
	param_int(params, generation);
	param_text(params, self->name);
	param_int(params, (int64) self->incarnation);
	ADD_ARRAY(params, batch, append_text(&array, batch->name[i]));
	ADD_ARRAY(params, batch, append_int(&array, request->epoch));
	ADD_ARRAY(params, batch, append_int(&array, request->version));
	ADD_ARRAY(params, batch, append_int(&array, store_nonce()));
	ADD_ARRAY(params, batch, append_int(&array, request->ttl_ms));
	ADD_ARRAY(params, batch, append_text(&array, request->frozen ? "t" : "f"));
	ADD_ARRAY(params, batch, append_int(&array, request->guard_epoch));
	ADD_ARRAY(params, batch, append_int(&array, request->guard_version));
	ADD_ARRAY(params, batch, append_text(&array, request->from));
	ADD_ARRAY(params, batch, append_text(&array, batch->reason[i]));
	return store_acquire_batch_sql;
}

static const char *
fill_renew(StoreParams *params, const StoreNode *self, int64 generation,
		   const StoreBatch *batch)
{
	param_text(params, self->name);
	param_int(params, (int64) self->incarnation);
	param_text(params, self->role);
	param_text(params, self->lsn);
	param_int(params, self->timeline);
	param_int(params, self->priority);
	param_text(params, self->advertise);
	param_int(params, generation);
	ADD_ARRAY(params, batch, append_text(&array, batch->name[i]));
	ADD_ARRAY(params, batch, append_int(&array, request->epoch));
	ADD_ARRAY(params, batch, append_int(&array, request->version));
	ADD_ARRAY(params, batch, append_int(&array, store_nonce()));
	ADD_ARRAY(params, batch, append_int(&array, request->ttl_ms));
	ADD_ARRAY(params, batch, append_text(&array, request->frozen ? "t" : "f"));
	ADD_ARRAY(params, batch, append_int(&array, request->wrote.epoch));
	ADD_ARRAY(params, batch, append_lsn(&array, request->wrote.lsn));
	ADD_ARRAY(params, batch, append_text(&array, request->wrote.sync_set));
	return store_renew_batch_sql;
}

static const char *
fill_release(StoreParams *params, const StoreNode *self,
			 const StoreBatch *batch)
{
	param_text(params, self->name);
	param_int(params, (int64) self->incarnation);
	ADD_ARRAY(params, batch, append_text(&array, batch->name[i]));
	ADD_ARRAY(params, batch, append_int(&array, request->epoch));
	ADD_ARRAY(params, batch, append_int(&array, request->version));
	ADD_ARRAY(params, batch, append_int(&array, store_nonce()));
	ADD_ARRAY(params, batch, append_text(&array, request->reserved_for));
	ADD_ARRAY(params, batch, append_text(&array, request->frozen ? "t" : "f"));
	ADD_ARRAY(params, batch, append_int(&array, request->wrote.epoch));
	ADD_ARRAY(params, batch, append_lsn(&array, request->wrote.lsn));
	ADD_ARRAY(params, batch, append_text(&array, request->wrote.sync_set));
	ADD_ARRAY(params, batch, append_text(&array, batch->reason[i]));
	return store_release_batch_sql;
}

bool
store_send_batch(Link *link, const StoreNode *self, int64 generation,
				 const StoreBatch *batch, ClockTime deadline)
{
	StoreParams params = {0};
	const char *sql = store_look_batch_sql;

	switch (batch->op)
	{
		case LEASE_OP_ACQUIRE:
			sql = fill_acquire(&params, self, generation, batch);
			break;
		case LEASE_OP_RENEW:
			sql = fill_renew(&params, self, generation, batch);
			break;
		case LEASE_OP_RELEASE:
			sql = fill_release(&params, self, batch);
			break;
		default:
			ADD_ARRAY(&params, batch, append_text(&array, batch->name[i]));
			break;
	}
	return params_send(link, sql, &params, deadline);
}

bool
store_send_memberships(Link *link, const char *node, ClockTime deadline)
{
	return link_send(link, store_memberships_sql, 1, &node, deadline);
}

bool
store_send_protections(Link *link, ClockTime deadline)
{
	return link_send(link, store_protections_sql, 0, NULL, deadline);
}

bool
store_send_known(Link *link, const StoreNode *self, int64 protections,
				 ClockTime deadline)
{
	StoreParams params = {0};

	param_text(&params, self->name);
	param_int(&params, (int64) self->incarnation);
	param_int(&params, protections);
	return params_send(link, store_known_sql, &params, deadline);
}

bool
store_send_ready(Link *link, const char *lease, int64 request_seq,
				 ClockTime deadline)
{
	StoreParams params = {0};

	param_text(&params, lease);
	param_int(&params, request_seq);
	return params_send(link, store_ready_sql, &params, deadline);
}

bool
store_send_failback(Link *link, const char *lease, int64 request_seq,
					int32 ttl_ms, const char *node, ClockTime deadline)
{
	StoreParams params = {0};

	param_text(&params, lease);
	param_int(&params, request_seq);
	param_int(&params, ttl_ms);
	param_bool(&params, false);
	param_text(&params, node);
	return params_send(link, store_request_sql, &params, deadline);
}

/* ------------------------------------------------------------------------
 * Reading
 * ------------------------------------------------------------------------
 */

bool
store_read_batch(const PGresult *result, StoreBatchHead *head)
{
	memset(head, 0, sizeof(*head));
	if (PQntuples(result) < 1 ||
		PQnfields(result) != AT_LEASE + STORE_LEASE_COLUMNS)
		return false;
	head->generation = store_get_int(result, 0, AT_GENERATION);
	head->settled = store_get_bool(result, 0, AT_SETTLED);
	head->protections = store_get_int(result, 0, AT_PROTECTIONS);
	head->memberships = store_get_int(result, 0, AT_MEMBERSHIPS);
	head->node_present = !PQgetisnull(result, 0, AT_NODE_INCARNATION);
	head->node_incarnation = (uint64) store_get_int(result, 0, AT_NODE_INCARNATION);
	head->node_beat = store_get_int(result, 0, AT_NODE_BEAT);
	head->ok = true;
	return true;
}

bool
store_read_batch_lease(const PGresult *result, int i, StoreLease *lease)
{
	if (PQgetisnull(result, i, AT_LEASE + STORE_COL_NAME))
		return false;
	store_read_lease(result, i, AT_LEASE, lease);
	return true;
}

/* One row of nulls says that there are none. */
static int
count_rows(const PGresult *result, int columns, int64 *number)
{
	*number = 0;
	if (PQntuples(result) < 1 || PQnfields(result) != columns)
		return -1;
	*number = store_get_int(result, 0, 0);
	return PQgetisnull(result, 0, 1) ? 0 : PQntuples(result);
}

int
store_read_memberships(const PGresult *result, int64 *memberships)
{
	return count_rows(result, 4, memberships);
}

void
store_read_membership(const PGresult *result, int i,
					  StoreMembership *membership)
{
	strlcpy(membership->lease, PQgetvalue(result, i, 1), LEASE_NAME_LEN);
	strlcpy(membership->node, PQgetvalue(result, i, 2), LEASE_NAME_LEN);
	membership->priority = (int32) store_get_int(result, i, 3);
}

int
store_read_protections(const PGresult *result, int64 *protections)
{
	return count_rows(result, 6, protections);
}

void
store_read_protection(const PGresult *result, int i, TableEntry *entry)
{
	memset(entry, 0, sizeof(*entry));
	strlcpy(entry->database, PQgetvalue(result, i, 1), NAMEDATALEN);
	strlcpy(entry->schema, PQgetvalue(result, i, 2), NAMEDATALEN);
	strlcpy(entry->name, PQgetvalue(result, i, 3), NAMEDATALEN);
	strlcpy(entry->lease, PQgetvalue(result, i, 4), sizeof(entry->lease));
	entry->seq = store_get_int(result, i, 5);
	entry->slot = TABLES_NO_SLOT;
}
