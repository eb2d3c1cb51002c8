/*
 * store_paths.c
 *		What is said to a member about paths.
 *
 * Nothing is decided by any of it.  All but the notifications keep to the subset that
 * any PostgreSQL-wire database runs.
 */
#include "postgres.h"

#include "store_paths.h"

#define CHANNEL			"leasehold_paths"	/* from prober to prober */
#define EVENTS_CHANNEL	"leasehold"			/* for people */

const char store_member_sql[] =
"SELECT schema_version FROM leasehold_store.store WHERE id = 1";

const char store_listen_paths_sql[] =
"LISTEN " CHANNEL;

const char store_exchange_sql[] =
"WITH w AS (INSERT INTO leasehold_store.report AS r"
" (node, incarnation, seq, body) VALUES ($1, $2, $3, $4)"
" ON CONFLICT (node) DO UPDATE SET incarnation = excluded.incarnation,"
" seq = excluded.seq, body = excluded.body)"
" SELECT node, incarnation, seq, body FROM leasehold_store.report"
" WHERE node <> $1 ORDER BY node";

const char store_mail_sql[] =
"SELECT m.id, m.from_node, m.from_incarnation, m.operation, m.arguments,"
" EXISTS (SELECT 1 FROM leasehold_store.repair r WHERE r.id = m.id"
" AND r.to_node = m.to_node AND r.from_node = m.from_node"
" AND r.arguments = m.arguments)"
" FROM leasehold_store.mail m JOIN leasehold_store.node n"
" ON n.name = m.from_node AND n.incarnation = m.from_incarnation"
" WHERE m.to_node = $1 AND NOT m.answered ORDER BY m.id LIMIT 4";

const char store_sweep_mail_sql[] =
"DELETE FROM leasehold_store.mail WHERE from_node = $1 AND from_incarnation <> $2";

const char store_mail_answer_sql[] =
"UPDATE leasehold_store.mail SET answered = true, answer = $2"
" WHERE id = $1 AND NOT answered";

const char store_outage_sql[] =
"INSERT INTO leasehold_store.outage AS o"
" (source, target, began, ended, phase, cause, error)"
" VALUES ($1, $2, $3, $4, $5, $6, $7)"
" ON CONFLICT (source, target, began) DO UPDATE SET ended ="
" CASE WHEN o.ended = 0 THEN excluded.ended ELSE o.ended END,"
" phase = excluded.phase, cause = excluded.cause, error = excluded.error";

const char store_outages_sql[] =
"SELECT source, target, began, ended, phase, cause, error"
" FROM leasehold_store.outage ORDER BY began DESC, source, target LIMIT $1";

const char store_event_sql[] =
"SELECT pg_catalog.pg_notify('" EVENTS_CHANNEL "', $1)";

const char store_hasten_sql[] =
"SELECT pg_catalog.pg_notify('" CHANNEL "', '')";

const char store_post_sql[] =
"INSERT INTO leasehold_store.mail (id, to_node, from_node, from_incarnation,"
" operation, arguments, answered, answer)"
" VALUES ($1, $2, $3, $4, $5, $6, false, '')"
" ON CONFLICT (id) DO NOTHING RETURNING id";

/* Fails where the role may not ask for repairs. */
const char store_post_repair_sql[] =
"WITH r AS (INSERT INTO leasehold_store.repair (id, to_node, from_node, arguments)"
" VALUES ($1, $2, $3, $6) ON CONFLICT (id) DO NOTHING)"
" INSERT INTO leasehold_store.mail (id, to_node, from_node, from_incarnation,"
" operation, arguments, answered, answer)"
" VALUES ($1, $2, $3, $4, $5, $6, false, '')"
" ON CONFLICT (id) DO NOTHING RETURNING id";

const char store_read_answer_sql[] =
"SELECT answer FROM leasehold_store.mail WHERE id = $1 AND answered";

const char store_clear_mail_sql[] =
"DELETE FROM leasehold_store.mail WHERE id = $1";

const char store_clear_repair_sql[] =
"WITH r AS (DELETE FROM leasehold_store.repair WHERE id = $1 OR NOT EXISTS"
" (SELECT 1 FROM leasehold_store.mail m WHERE m.id = repair.id))"
" DELETE FROM leasehold_store.mail WHERE id = $1";
