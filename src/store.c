/*
 * store.c
 *		What is said to a member of the store, and what it answers.
 *
 * Each statement is one implicit transaction.  Where one takes locks on more
 * than one row, it takes the store row first, then lease rows, then others.
 * None decides anything by the store's clock; "at" in the history is for
 * people.  See docs/protocol.md for the guards.
 *
 * Must never log or raise an error: what a member answers is data.
 */
#include "postgres.h"

#include <inttypes.h>

#include "store.h"
#include "store_care.h"
#include "store_params.h"
#include "store_paths.h"
#include "store_rows.h"
#include "store_tables.h"
#include "timeline.h"

#define HEAD_COLUMNS \
	"s.schema_version, s.store_id, s.generation, s.members, s.settled, s.changes," \
	" s.protections, s.memberships"
/* Their places in an answer. */
enum
{
	AT_SCHEMA_VERSION, AT_STORE_ID, AT_GENERATION, AT_MEMBERS, AT_SETTLED,
	AT_CHANGES, AT_PROTECTIONS, AT_MEMBERSHIPS,
	AT_LEASE
};
#define AT_NODE_INCARNATION (AT_LEASE + STORE_LEASE_COLUMNS)
#define AT_NODE_BEAT		(AT_NODE_INCARNATION + 1)

/*
 * PostgreSQL itself says more than other servers do; one that does not know
 * these functions answers with an error, and is taken as it is.
 */
static const char identify_sql[] =
"SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system()),"
" pg_catalog.pg_is_in_recovery(),"
" CASE WHEN pg_catalog.pg_is_in_recovery() THEN NULL ELSE"
" pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8) END,"
" pg_catalog.current_setting('synchronous_commit')";

static const char look_sql[] =
"SELECT " HEAD_COLUMNS ", " STORE_LEASE("l") ", n.incarnation, n.beat"
" FROM leasehold_store.store s"
" LEFT JOIN leasehold_store.lease l ON l.name = $1"
" LEFT JOIN leasehold_store.node n ON n.name = $2"
" WHERE s.id = 1";

/* The store row first: its list must not change under an acquire (R10). */
static const char acquire_sql[] =
"WITH c AS (UPDATE leasehold_store.store SET changes = changes + 1"
" WHERE id = 1 AND generation = $1 AND settled RETURNING id),"
" a AS (UPDATE leasehold_store.lease SET holder = $2, incarnation = $3,"
" epoch = $4, version = $5, nonce = $6, ttl_ms = $7, frozen = $8,"
" reserved_for = '', handover_to = '', answer = ''"
" FROM c WHERE lease.name = $9 AND lease.epoch = $10 AND lease.version = $11"
" AND lease.epoch < $4 AND NOT lease.dropped AND (NOT lease.frozen OR $8)"
" RETURNING " STORE_LEASE("lease") "),"
" h AS (INSERT INTO leasehold_store.history"
" (lease, epoch, to_node, from_node, reason, at)"
" SELECT name, epoch, holder, $12, $13, current_timestamp FROM a"
" ON CONFLICT (lease, epoch, to_node) DO NOTHING)"
" SELECT " HEAD_COLUMNS ", " STORE_LEASE("a") ", NULL, NULL"
" FROM leasehold_store.store s LEFT JOIN a ON true WHERE s.id = 1";

/* With the heartbeat: one round trip per member and tick. */
static const char renew_sql[] =
"WITH b AS (UPDATE leasehold_store.node SET beat = beat + 1, role = $8,"
" lsn = $9, timeline = $10, priority = $11"
" WHERE name = $1 AND incarnation = $2 RETURNING incarnation, beat),"
" r AS (UPDATE leasehold_store.lease SET version = $3, nonce = $4,"
" ttl_ms = $5, frozen = $6, timeline = $14, timeline_begin = $15,"
" timeline_epoch = $16, holder_lsn = $17, sync_set = $18"
" WHERE name = $7 AND holder = $1 AND incarnation = $2 AND epoch = $12"
" AND version < $3 AND EXISTS (SELECT 1 FROM leasehold_store.store"
" WHERE id = 1 AND generation = $13 AND settled)"
" RETURNING " STORE_LEASE("lease") ")"
" SELECT " HEAD_COLUMNS ", " STORE_LEASE("r") ", b.incarnation, b.beat"
" FROM leasehold_store.store s LEFT JOIN r ON true LEFT JOIN b ON true"
" WHERE s.id = 1";

static const char release_sql[] =
"WITH r AS (UPDATE leasehold_store.lease SET holder = '', version = $3,"
" nonce = $4, reserved_for = $5, frozen = false, handover_to = '',"
" timeline = $10, timeline_begin = $11, timeline_epoch = $12,"
" holder_lsn = $13, sync_set = $14"
" WHERE name = $6 AND holder = $1 AND incarnation = $2 AND epoch = $7"
" AND version < $3 AND (NOT frozen OR $9) RETURNING " STORE_LEASE("lease") "),"
" h AS (INSERT INTO leasehold_store.history"
" (lease, epoch, to_node, from_node, reason, at)"
" SELECT name, epoch, '', $1, $8, current_timestamp FROM r"
" ON CONFLICT (lease, epoch, to_node) DO NOTHING)"
" SELECT " HEAD_COLUMNS ", " STORE_LEASE("r") ", NULL, NULL"
" FROM leasehold_store.store s LEFT JOIN r ON true WHERE s.id = 1";

static const char beat_sql[] =
"UPDATE leasehold_store.node SET beat = beat + 1, role = $3, lsn = $4,"
" timeline = $5, priority = $6, advertise = $7"
" WHERE name = $1 AND incarnation = $2 RETURNING incarnation, beat";

static const char join_sql[] =
"INSERT INTO leasehold_store.node AS n (name, incarnation, beat, role, lsn,"
" timeline, priority, advertise, version)"
" VALUES ($1, $2, 1, $3, $4, $5, $6, $7, $8)"
" ON CONFLICT (name) DO UPDATE SET incarnation = excluded.incarnation,"
" beat = n.beat + 1, role = excluded.role, lsn = excluded.lsn,"
" timeline = excluded.timeline, priority = excluded.priority,"
" advertise = excluded.advertise, version = excluded.version"
" WHERE n.incarnation = $9 AND n.beat = $10 RETURNING n.incarnation, n.beat";

static const char nodes_sql[] =
"SELECT name, incarnation, beat, advertise, role, lsn, timeline, priority,"
" version FROM leasehold_store.node ORDER BY name";

static const char leases_sql[] =
"SELECT " STORE_LEASE("l") " FROM leasehold_store.lease l"
" WHERE NOT l.dropped ORDER BY l.name";

static const char history_sql[] =
"SELECT lease, epoch, from_node, to_node, reason,"
" CAST(extract(epoch FROM at) * 1000000 AS bigint)"
" FROM leasehold_store.history ORDER BY at DESC, lease, epoch DESC, to_node"
" LIMIT $1";

static const char answer_sql[] =
"UPDATE leasehold_store.lease SET handover_to = '', answer = $3"
" WHERE name = $1 AND request_seq = $2";

static const char notify_sql[] = "NOTIFY " STORE_CHANNEL;
static const char session_sql[] =
"SET idle_session_timeout = 0; LISTEN " STORE_CHANNEL;
static const char session_sync_sql[] =
"SET synchronous_commit = on; SET idle_session_timeout = 0; LISTEN "
STORE_CHANNEL;

const char *const store_statements[] = {
	look_sql, acquire_sql, renew_sql, release_sql, beat_sql, join_sql,
	nodes_sql, leases_sql, history_sql, answer_sql,
	store_request_sql, store_withdraw_sql, store_watch_sql, store_create_sql, store_undrop_sql,
	store_drop_sql, store_take_back_drop_sql, store_freeze_sql,
	store_thaw_sql, store_unfreeze_sql, store_drop_node_sql, store_rename_node_sql,
	store_copy_node_sql, store_form_sql, store_commit_sql, store_seal_sql,
	store_names_sql, store_rows_sql, store_copy_sql, store_settle_sql,
	store_anew_sql, store_blank_sql, store_member_sql, store_exchange_sql,
	store_mail_sql, store_mail_answer_sql, store_outage_sql,
	store_outages_sql, store_post_sql, store_read_answer_sql,
	store_clear_mail_sql, store_post_repair_sql, store_clear_repair_sql,
	store_sweep_mail_sql, store_look_batch_sql, store_acquire_batch_sql,
	store_renew_batch_sql, store_release_batch_sql, store_memberships_sql,
	store_protections_sql, store_known_sql, store_ready_sql,
	store_for_tables_sql, store_all_memberships_sql,
	store_memberships_anew_sql, store_reserve_sql, store_protect_sql,
	store_all_known_sql, store_copy_protections_sql,
	store_copy_memberships_sql, NULL
};

/* ------------------------------------------------------------------------
 * Sending
 * ------------------------------------------------------------------------
 */

static void
add_wrote(StoreParams *params, const LeaseWrote *wrote)
{
	param_int(params, wrote->timeline);
	param_lsn(params, wrote->begin);
	param_int(params, wrote->epoch);
	param_lsn(params, wrote->lsn);
	param_text(params, wrote->sync_set);
}

bool
store_send_identify(Link *link, ClockTime deadline)
{
	return link_send(link, identify_sql, 0, NULL, deadline);
}

bool
store_send_prepare_session(Link *link, const StoreServer *server,
						   ClockTime deadline)
{
	return link_send(link, server->lax_commit ? session_sync_sql : session_sql,
					 0, NULL, deadline);
}

bool
store_send_look(Link *link, const char *lease, const char *node,
				ClockTime deadline)
{
	StoreParams params = {0};

	param_text(&params, lease);
	param_text(&params, node);
	return params_send(link, look_sql, &params, deadline);
}

bool
store_send_acquire(Link *link, const char *lease, const StoreNode *self,
				   int64 generation, const LeaseRequest *request,
				   const char *reason, ClockTime deadline)
{
	StoreParams params = {0};

	param_int(&params, generation);
	param_text(&params, self->name);
	param_int(&params, (int64) self->incarnation);
	param_int(&params, request->epoch);
	param_int(&params, request->version);
	param_int(&params, store_nonce());
	param_int(&params, request->ttl_ms);
	param_bool(&params, request->frozen);
	param_text(&params, lease);
	param_int(&params, request->guard_epoch);
	param_int(&params, request->guard_version);
	param_text(&params, request->from);
	param_text(&params, reason);
	return params_send(link, acquire_sql, &params, deadline);
}

bool
store_send_renew(Link *link, const char *lease, const StoreNode *self,
				 int64 generation, const LeaseRequest *request,
				 ClockTime deadline)
{
	StoreParams params = {0};

	param_text(&params, self->name);
	param_int(&params, (int64) self->incarnation);
	param_int(&params, request->version);
	param_int(&params, store_nonce());
	param_int(&params, request->ttl_ms);
	param_bool(&params, request->frozen);
	param_text(&params, lease);
	param_text(&params, self->role);
	param_text(&params, self->lsn);
	param_int(&params, self->timeline);
	param_int(&params, self->priority);
	param_int(&params, request->epoch);
	param_int(&params, generation);
	add_wrote(&params, &request->wrote);
	return params_send(link, renew_sql, &params, deadline);
}

bool
store_send_release(Link *link, const char *lease, const StoreNode *self,
				   const LeaseRequest *request, const char *reason,
				   ClockTime deadline)
{
	StoreParams params = {0};

	param_text(&params, self->name);
	param_int(&params, (int64) self->incarnation);
	param_int(&params, request->version);
	param_int(&params, store_nonce());
	param_text(&params, request->reserved_for);
	param_text(&params, lease);
	param_int(&params, request->epoch);
	param_text(&params, reason);
	param_bool(&params, request->frozen);
	add_wrote(&params, &request->wrote);
	return params_send(link, release_sql, &params, deadline);
}

/* What a node says of itself, in the order of beat_sql and join_sql. */
static void
add_self(StoreParams *params, const StoreNode *self)
{
	param_text(params, self->name);
	param_int(params, (int64) self->incarnation);
	param_text(params, self->role);
	param_text(params, self->lsn);
	param_int(params, self->timeline);
	param_int(params, self->priority);
	param_text(params, self->advertise);
}

bool
store_send_beat(Link *link, const StoreNode *self, ClockTime deadline)
{
	StoreParams params = {0};

	add_self(&params, self);
	return params_send(link, beat_sql, &params, deadline);
}

bool
store_send_join(Link *link, const StoreNode *self, uint64 incarnation,
				int64 beat, ClockTime deadline)
{
	StoreParams params = {0};

	add_self(&params, self);
	param_text(&params, self->version);
	param_int(&params, (int64) incarnation);
	param_int(&params, beat);
	return params_send(link, join_sql, &params, deadline);
}

bool
store_send_nodes(Link *link, ClockTime deadline)
{
	return link_send(link, nodes_sql, 0, NULL, deadline);
}

bool
store_send_leases(Link *link, ClockTime deadline)
{
	return link_send(link, leases_sql, 0, NULL, deadline);
}

bool
store_send_history(Link *link, int limit, ClockTime deadline)
{
	StoreParams params = {0};

	param_int(&params, limit);
	return params_send(link, history_sql, &params, deadline);
}

bool
store_send_notify(Link *link, ClockTime deadline)
{
	return link_send(link, notify_sql, 0, NULL, deadline);
}

bool
store_send_settle(Link *link, int64 generation, const char *members,
				  ClockTime deadline)
{
	StoreParams params = {0};

	param_int(&params, generation);
	param_text(&params, members);
	return params_send(link, store_settle_sql, &params, deadline);
}

bool
store_send_answer(Link *link, const char *lease, int64 request_seq,
				  const char *answer, ClockTime deadline)
{
	StoreParams params = {0};

	param_text(&params, lease);
	param_int(&params, request_seq);
	param_text(&params, answer);
	return params_send(link, answer_sql, &params, deadline);
}

/* ------------------------------------------------------------------------
 * Reading
 * ------------------------------------------------------------------------
 */

static void
get_text(const PGresult *result, int row, int column, char *to, size_t size)
{
	strlcpy(to, PQgetvalue(result, row, column), size);
}

bool
store_is_unknown_there(const char *sqlstate)
{
	return strncmp(sqlstate, "42", 2) == 0 ||	/* no such function, denied */
		strncmp(sqlstate, "0A", 2) == 0 ||	/* not supported */
		strncmp(sqlstate, "3F", 2) == 0;	/* no such schema */
}

bool
store_read_identify(const PGresult *result, StoreServer *server)
{
	const char *commit;

	memset(server, 0, sizeof(*server));
	if (PQntuples(result) != 1 || PQnfields(result) != 4)
		return false;
	get_text(result, 0, 0, server->sysid, sizeof(server->sysid));
	server->in_recovery = store_get_bool(result, 0, 1);
	server->timeline = (int32) strtol(PQgetvalue(result, 0, 2), NULL, 16);
	commit = PQgetvalue(result, 0, 3);
	server->lax_commit = strcmp(commit, "off") == 0 ||
		strcmp(commit, "local") == 0;
	server->notifies = true;
	return true;
}

void
store_read_lease(const PGresult *result, int row, int at, StoreLease *lease)
{
	LeaseRow   *r = &lease->row;

	memset(lease, 0, sizeof(*lease));
	if (PQgetisnull(result, row, at + STORE_COL_NAME))
		return;
	get_text(result, row, at + STORE_COL_NAME, lease->name, sizeof(lease->name));
	get_text(result, row, at + COL_HOLDER, r->holder, sizeof(r->holder));
	r->incarnation = (uint64) store_get_int(result, row, at + COL_INCARNATION);
	r->epoch = store_get_int(result, row, at + COL_EPOCH);
	r->version = store_get_int(result, row, at + COL_VERSION);
	r->ttl_ms = (int32) store_get_int(result, row, at + COL_TTL);
	r->frozen = store_get_bool(result, row, at + COL_FROZEN);
	get_text(result, row, at + COL_RESERVED, r->reserved_for,
			 sizeof(r->reserved_for));
	r->request_seq = store_get_int(result, row, at + COL_SEQ);
	r->ttl_wanted_ms = (int32) store_get_int(result, row, at + COL_TTL_WANTED);
	r->pause_wanted = store_get_bool(result, row, at + COL_PAUSE_WANTED);
	get_text(result, row, at + COL_HANDOVER, r->handover_to,
			 sizeof(r->handover_to));
	get_text(result, row, at + COL_KIND, lease->kind, sizeof(lease->kind));
	get_text(result, row, at + COL_SCOPE, lease->scope, sizeof(lease->scope));
	r->present = !store_get_bool(result, row, at + COL_DROPPED);
	r->pinned = strcmp(lease->kind, "physical") == 0;
	get_text(result, row, at + COL_SYSID, r->sysid, sizeof(r->sysid));
	r->wrote.timeline = (int32) store_get_int(result, row, at + COL_TIMELINE);
	(void) lsn_parse(PQgetvalue(result, row, at + COL_TIMELINE_BEGIN),
					 &r->wrote.begin);
	r->wrote.epoch = store_get_int(result, row, at + COL_TIMELINE_EPOCH);
	(void) lsn_parse(PQgetvalue(result, row, at + COL_HOLDER_LSN),
					 &r->wrote.lsn);
	get_text(result, row, at + COL_SYNC_SET, r->wrote.sync_set,
			 sizeof(r->wrote.sync_set));
	r->ready_seq = store_get_int(result, row, at + COL_READY);
}

void
store_read_answer(const PGresult *result, StoreAnswer *answer)
{
	StoreHead  *head = &answer->head;

	memset(answer, 0, sizeof(*answer));
	if (PQntuples(result) != 1 || PQnfields(result) != AT_NODE_BEAT + 1)
		return;
	head->schema_version = (int) store_get_int(result, 0, AT_SCHEMA_VERSION);
	get_text(result, 0, AT_STORE_ID, head->store_id, sizeof(head->store_id));
	head->generation = store_get_int(result, 0, AT_GENERATION);
	get_text(result, 0, AT_MEMBERS, head->members, sizeof(head->members));
	head->settled = store_get_bool(result, 0, AT_SETTLED);
	head->changes = store_get_int(result, 0, AT_CHANGES);
	head->protections = store_get_int(result, 0, AT_PROTECTIONS);
	head->memberships = store_get_int(result, 0, AT_MEMBERSHIPS);
	answer->effective = !PQgetisnull(result, 0, AT_LEASE + STORE_COL_NAME);
	store_read_lease(result, 0, AT_LEASE, &answer->lease);
	answer->node_present = !PQgetisnull(result, 0, AT_NODE_INCARNATION);
	answer->node_incarnation = (uint64) store_get_int(result, 0, AT_NODE_INCARNATION);
	answer->node_beat = store_get_int(result, 0, AT_NODE_BEAT);
	answer->ok = true;
}

int
store_read_nodes(const PGresult *result, StoreNode *node, int max)
{
	int			n = Min(PQntuples(result), max);

	if (PQnfields(result) != 9)
		return 0;
	for (int i = 0; i < n; i++, node++)
	{
		memset(node, 0, sizeof(*node));
		get_text(result, i, 0, node->name, sizeof(node->name));
		node->incarnation = (uint64) store_get_int(result, i, 1);
		node->beat = store_get_int(result, i, 2);
		get_text(result, i, 3, node->advertise, sizeof(node->advertise));
		get_text(result, i, 4, node->role, sizeof(node->role));
		get_text(result, i, 5, node->lsn, sizeof(node->lsn));
		node->timeline = (int32) store_get_int(result, i, 6);
		node->priority = (int32) store_get_int(result, i, 7);
		get_text(result, i, 8, node->version, sizeof(node->version));
	}
	return n;
}

int
store_read_leases(const PGresult *result, StoreLease *lease, int max)
{
	int			n = Min(PQntuples(result), max);

	if (PQnfields(result) != STORE_LEASE_COLUMNS)
		return 0;
	for (int i = 0; i < n; i++)
		store_read_lease(result, i, 0, &lease[i]);
	return n;
}

int
store_read_history(const PGresult *result, StoreHistory *history, int max)
{
	int			n = Min(PQntuples(result), max);

	if (PQnfields(result) != 6)
		return 0;
	for (int i = 0; i < n; i++, history++)
	{
		memset(history, 0, sizeof(*history));
		get_text(result, i, 0, history->lease, sizeof(history->lease));
		history->epoch = store_get_int(result, i, 1);
		get_text(result, i, 2, history->from_node, sizeof(history->from_node));
		get_text(result, i, 3, history->to_node, sizeof(history->to_node));
		get_text(result, i, 4, history->reason, sizeof(history->reason));
		history->at_us = store_get_int(result, i, 5);
	}
	return n;
}

void
store_report(const StoreServer *server, const StoreHead *head,
			 RosterReport *report)
{
	memset(report, 0, sizeof(*report));
	report->known = true;
	report->settled = head->settled;
	strlcpy(report->id.store_id, head->store_id, ROSTER_ID_LEN);
	strlcpy(report->id.sysid, server->sysid, ROSTER_SYSID_LEN);
	report->id.timeline = server->timeline;
	if (!roster_parse(&report->roster, head->generation, head->members))
		memset(&report->roster, 0, sizeof(report->roster));
}
