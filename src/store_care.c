/*
 * store_care.c
 *		The statements of people: requests, making and dropping leases, the
 *		list of members, copies of rows.
 *
 * The same subset as in store.c: each statement is one implicit transaction
 * over rows found by their primary key, and takes the store row first.
 */
#include "postgres.h"

#include <sys/stat.h>

#include "miscadmin.h"
#include "storage/fd.h"

#include "store_care.h"

#define ROW_COLUMNS(t) \
	t "name, " t "holder, " t "incarnation, " t "epoch, " t "version, " \
	t "nonce, " t "ttl_ms, " t "frozen, " t "reserved_for, " \
	t "request_seq, " t "ttl_wanted_ms, " t "pause_wanted, " \
	t "handover_to, " t "answer, " t "kind, " t "scope, " \
	t "system_identifier, " t "timeline, " t "timeline_begin, " \
	t "timeline_epoch, " \
	t "holder_lsn, " t "sync_set, " t "ready_seq, " t "dropped"

/*
 * All memberships, as given in $3 to $5: what is not among them goes.  The
 * store row was taken as "c".
 */
#define MEMBERSHIPS_ANEW \
	" q AS (SELECT * FROM unnest(CAST($3 AS text[]), CAST($4 AS text[])," \
	" CAST($5 AS integer[])) AS q (lease, node, priority))," \
	" d AS (DELETE FROM leasehold_store.membership WHERE EXISTS" \
	" (SELECT 1 FROM c) AND NOT EXISTS (SELECT 1 FROM q" \
	" WHERE q.lease = membership.lease AND q.node = membership.node))," \
	" i AS (INSERT INTO leasehold_store.membership AS m" \
	" (lease, node, priority)" \
	" SELECT q.lease, q.node, q.priority FROM c, q" \
	" ON CONFLICT (lease, node) DO UPDATE SET priority = excluded.priority)" \
	" SELECT id FROM c"

/* ------------------------------------------------------------------------
 * Requests
 * ------------------------------------------------------------------------
 */

const char store_request_sql[] =
"UPDATE leasehold_store.lease SET request_seq = $2, ttl_wanted_ms = $3,"
" pause_wanted = $4, handover_to = $5, answer = ''"
" WHERE name = $1 AND request_seq < $2 AND NOT dropped RETURNING request_seq";

/*
 * A withdrawal takes the number of the request that it withdraws: one that was
 * posted later stays, and one that is still on its way comes too late.
 */
const char store_withdraw_sql[] =
"UPDATE leasehold_store.lease SET request_seq = $2, ttl_wanted_ms = $3,"
" pause_wanted = $4, handover_to = '', answer = ''"
" WHERE name = $1 AND request_seq <= $2 AND NOT dropped RETURNING request_seq";

const char store_watch_sql[] =
"SELECT l.holder, l.epoch, l.frozen, l.request_seq, l.answer, l.incarnation,"
" n.incarnation, n.beat, l.scope <> 'tables' OR l.timeline_epoch = l.epoch FROM leasehold_store.lease l"
" LEFT JOIN leasehold_store.node n ON n.name = $2 WHERE l.name = $1";

/* ------------------------------------------------------------------------
 * Leases
 * ------------------------------------------------------------------------
 */

/* A row that was left at a few members by a creation that failed is reused. */
const char store_create_sql[] =
"INSERT INTO leasehold_store.lease AS l (" ROW_COLUMNS("") ")"
" SELECT CAST($1 AS text), '', 0, 0, 1, 0, CAST($2 AS integer), false, '', 0,"
" CAST($2 AS integer), false, '', '', CAST($3 AS text), 'instance',"
" CAST($4 AS text), CAST($5 AS integer), '', 0, '', '', 0, false"
" FROM leasehold_store.store s WHERE s.id = 1 AND s.generation = $6"
" ON CONFLICT (name) DO UPDATE SET version = l.version + 1,"
" ttl_ms = excluded.ttl_ms, ttl_wanted_ms = excluded.ttl_wanted_ms,"
" kind = excluded.kind, system_identifier = excluded.system_identifier,"
" timeline = excluded.timeline"
" WHERE l.epoch = 0 AND l.holder = '' RETURNING l.name";

/* Its epoch goes on: it never falls (R1). */
const char store_undrop_sql[] =
"UPDATE leasehold_store.lease SET dropped = false, version = version + 1,"
" ttl_ms = $2, ttl_wanted_ms = $2, kind = $3, scope = CASE WHEN"
" CAST($3 AS text) = 'independent' THEN scope ELSE 'instance' END,"
" system_identifier = $4,"
" timeline = $5, frozen = false, pause_wanted = false, handover_to = '',"
" answer = '', reserved_for = ''"
" WHERE name = $1 AND dropped AND holder = '' RETURNING name";

const char store_drop_sql[] =
"UPDATE leasehold_store.lease SET dropped = true, version = version + 1"
" WHERE name = $1 AND holder = '' AND NOT dropped RETURNING name";

const char store_take_back_drop_sql[] =
"UPDATE leasehold_store.lease SET dropped = false, version = version + 1"
" WHERE name = $1 AND dropped RETURNING name";

const char store_freeze_sql[] =
"UPDATE leasehold_store.lease SET frozen = true, version = version + 1"
" WHERE name = $1 AND holder = '' AND NOT frozen AND NOT dropped"
" RETURNING name";

const char store_thaw_sql[] =
"UPDATE leasehold_store.lease SET frozen = false, version = version + 1"
" WHERE name = $1 AND frozen AND (holder = '' OR epoch < $2)"
" RETURNING name";

/* After a pause was withdrawn: nobody holds the row, who would thaw it? */
const char store_unfreeze_sql[] =
"UPDATE leasehold_store.lease SET frozen = false, version = version + 1"
" WHERE name = $1 AND frozen AND holder = '' AND request_seq = $2"
" AND NOT pause_wanted RETURNING name";

/* ------------------------------------------------------------------------
 * Nodes
 * ------------------------------------------------------------------------
 */

/* With it go what it has confirmed and its part in leases of tables. */
const char store_drop_node_sql[] =
"WITH s AS (UPDATE leasehold_store.store SET memberships = memberships + 1"
" WHERE id = 1 RETURNING id),"
" d AS (DELETE FROM leasehold_store.node WHERE name = $1"
" AND incarnation = $2 AND EXISTS (SELECT 1 FROM s) RETURNING name),"
" r AS (DELETE FROM"
" leasehold_store.report WHERE node IN (SELECT name FROM d)),"
" k AS (DELETE FROM leasehold_store.known WHERE node IN (SELECT name FROM d)),"
" m AS (DELETE FROM leasehold_store.membership"
" WHERE node IN (SELECT name FROM d))"
" SELECT name FROM d";

/* It confirms under its new name once it runs under that. */
const char store_rename_node_sql[] =
"WITH s AS (UPDATE leasehold_store.store SET memberships = memberships + 1"
" WHERE id = 1 RETURNING id),"
" u AS (UPDATE leasehold_store.node SET name = $2"
" WHERE name = $1 AND incarnation = $3 AND EXISTS (SELECT 1 FROM s)"
" RETURNING name), r AS (DELETE FROM"
" leasehold_store.report WHERE node = $1 AND EXISTS (SELECT 1 FROM u)),"
" k AS (DELETE FROM leasehold_store.known"
" WHERE node = $1 AND EXISTS (SELECT 1 FROM u)),"
" m AS (UPDATE leasehold_store.membership SET node = $2"
" WHERE node = $1 AND EXISTS (SELECT 1 FROM u))"
" SELECT name FROM u";

const char store_copy_node_sql[] =
"INSERT INTO leasehold_store.node AS n (name, incarnation, beat, advertise,"
" role, lsn, timeline, priority, version)"
" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
" ON CONFLICT (name) DO NOTHING RETURNING n.name";

/* ------------------------------------------------------------------------
 * Leases of tables
 * ------------------------------------------------------------------------
 */

/*
 * From now on it governs tables.  Not while anybody holds it, who would not
 * expect another version; and not once it has governed an instance.
 */
const char store_for_tables_sql[] =
"UPDATE leasehold_store.lease SET scope = 'tables', version = version + 1"
" WHERE name = $1 AND kind = 'independent' AND scope <> 'tables'"
" AND holder = '' AND epoch = 0 AND NOT dropped RETURNING name";

const char store_all_memberships_sql[] =
"SELECT s.memberships, m.lease, m.node, m.priority"
" FROM leasehold_store.store s LEFT JOIN leasehold_store.membership m ON true"
" WHERE s.id = 1 ORDER BY m.lease, m.node";

/*
 * All of it anew, so that a member that has missed a change is whole again with
 * the next one.  It was made of what stood under numbers up to $6.
 */
const char store_memberships_anew_sql[] =
"WITH c AS (UPDATE leasehold_store.store SET memberships = $1"
" WHERE id = 1 AND generation = $2 AND settled AND memberships <= $6"
" AND memberships < $1 RETURNING id)," MEMBERSHIPS_ANEW;

/*
 * A change of the list of protected tables, first step: nothing with a lower
 * number comes after this.  What stands there is read in a statement of its
 * own, which sees what this one had to wait for.
 */
const char store_reserve_sql[] =
"UPDATE leasehold_store.store SET protections = $1"
" WHERE id = 1 AND generation = $2 AND settled AND protections < $1"
" RETURNING id";

/* Second step.  Once more changes nothing. */
const char store_protect_sql[] =
"WITH c AS (UPDATE leasehold_store.store SET protections = $1"
" WHERE id = 1 AND generation = $2 AND settled AND protections < $1"
" RETURNING protections)"
" INSERT INTO leasehold_store.protection AS p"
" (database, schema_name, table_name, lease, seq)"
" SELECT CAST($3 AS text), CAST($4 AS text), CAST($5 AS text),"
" CAST($6 AS text), c.protections FROM c"
" ON CONFLICT (database, schema_name, table_name) DO UPDATE"
" SET lease = excluded.lease, seq = excluded.seq RETURNING p.seq";

const char store_all_known_sql[] =
"SELECT node, incarnation, protections FROM leasehold_store.known";

/* ------------------------------------------------------------------------
 * The list of members
 * ------------------------------------------------------------------------
 */

const char store_form_sql[] =
"UPDATE leasehold_store.store SET generation = 1, members = $1, settled = true"
" WHERE id = 1 AND generation = 0 RETURNING generation";

const char store_commit_sql[] =
"UPDATE leasehold_store.store SET generation = $1, members = $2,"
" settled = false, changes = changes + 1"
" WHERE id = 1 AND generation = $3 RETURNING generation";

/*
 * After the commit.  A renewal or release that began before it may still be
 * under way in another transaction; the step in the version makes its guard
 * fail, unless it came first, and then the answer shows it.
 */
const char store_seal_sql[] =
"UPDATE leasehold_store.lease SET version = version + 1000000"
" WHERE name = $1 AND EXISTS (SELECT 1 FROM leasehold_store.store"
" WHERE id = 1 AND generation = $2 AND NOT settled)"
" RETURNING " ROW_COLUMNS("");

const char store_names_sql[] =
"SELECT name FROM leasehold_store.lease ORDER BY name";

const char store_rows_sql[] =
"SELECT " ROW_COLUMNS("") " FROM leasehold_store.lease ORDER BY name";

/*
 * Under the lock of the store row: a copy that is late finds the list settled,
 * and what has been written since stays.
 */
const char store_copy_sql[] =
"WITH c AS (UPDATE leasehold_store.store SET changes = changes + 1"
" WHERE id = 1 AND generation = $25 AND NOT settled RETURNING id)"
" INSERT INTO leasehold_store.lease AS l (" ROW_COLUMNS("") ")"
" SELECT CAST($1 AS text), CAST($2 AS text), CAST($3 AS bigint),"
" CAST($4 AS bigint), CAST($5 AS bigint), CAST($6 AS bigint),"
" CAST($7 AS integer), CAST($8 AS boolean), CAST($9 AS text),"
" CAST($10 AS bigint), CAST($11 AS integer), CAST($12 AS boolean),"
" CAST($13 AS text), CAST($14 AS text), CAST($15 AS text), CAST($16 AS text),"
" CAST($17 AS text), CAST($18 AS integer), CAST($19 AS text),"
" CAST($20 AS bigint), CAST($21 AS text), CAST($22 AS text),"
" CAST($23 AS bigint), CAST($24 AS boolean)"
" FROM c"
" ON CONFLICT (name) DO UPDATE SET holder = excluded.holder,"
" incarnation = excluded.incarnation, epoch = excluded.epoch,"
" version = excluded.version, nonce = excluded.nonce,"
" ttl_ms = excluded.ttl_ms, frozen = excluded.frozen,"
" reserved_for = excluded.reserved_for, request_seq = excluded.request_seq,"
" ttl_wanted_ms = excluded.ttl_wanted_ms,"
" pause_wanted = excluded.pause_wanted, handover_to = excluded.handover_to,"
" answer = excluded.answer, kind = excluded.kind, scope = excluded.scope,"
" system_identifier = excluded.system_identifier,"
" timeline = excluded.timeline, timeline_begin = excluded.timeline_begin,"
" timeline_epoch = excluded.timeline_epoch,"
" holder_lsn = excluded.holder_lsn,"
" sync_set = excluded.sync_set, ready_seq = excluded.ready_seq, dropped = excluded.dropped"
" WHERE l.version < excluded.version AND l.epoch <= excluded.epoch"
" RETURNING l.name";

/* The same for what belongs to leases of tables, all rows at once. */
const char store_copy_protections_sql[] =
"WITH c AS (UPDATE leasehold_store.store SET protections = CASE"
" WHEN protections < $1 THEN CAST($1 AS bigint) ELSE protections END"
" WHERE id = 1 AND generation = $2 AND NOT settled RETURNING id),"
" i AS (INSERT INTO leasehold_store.protection AS p"
" (database, schema_name, table_name, lease, seq)"
" SELECT q.database, q.schema_name, q.table_name, q.lease, q.seq"
" FROM c, unnest(CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS text[]),"
" CAST($6 AS text[]), CAST($7 AS bigint[]))"
" AS q (database, schema_name, table_name, lease, seq)"
" ON CONFLICT (database, schema_name, table_name) DO UPDATE"
" SET lease = excluded.lease, seq = excluded.seq WHERE p.seq < excluded.seq)"
" SELECT id FROM c";

const char store_copy_memberships_sql[] =
"WITH c AS (UPDATE leasehold_store.store SET memberships = $1"
" WHERE id = 1 AND generation = $2 AND NOT settled RETURNING id),"
MEMBERSHIPS_ANEW;

const char store_settle_sql[] =
"UPDATE leasehold_store.store SET settled = true"
" WHERE id = 1 AND generation = $1 AND members = $2 RETURNING generation";

/* A member that lost its memory: another store, on no list, all rows void. */
const char store_anew_sql[] =
"INSERT INTO leasehold_store.store AS s"
" (id, schema_version, store_id, generation, members, settled, changes,"
" protections, memberships)"
" VALUES (1, 2, $1, 0, '', false, 0, 0, 0)"
" ON CONFLICT (id) DO UPDATE SET store_id = excluded.store_id,"
" generation = 0, members = '', settled = false, protections = 0,"
" memberships = 0 RETURNING s.store_id";

const char store_blank_sql[] =
"WITH p AS (DELETE FROM leasehold_store.protection),"
" m AS (DELETE FROM leasehold_store.membership),"
" k AS (DELETE FROM leasehold_store.known)"
" UPDATE leasehold_store.lease SET holder = '', incarnation = 0, epoch = 0,"
" version = 0, dropped = true";

/* ------------------------------------------------------------------------
 * For check()
 * ------------------------------------------------------------------------
 */

const char store_durability_sql[] =
"SELECT pg_catalog.current_setting('fsync'),"
" pg_catalog.current_setting('full_page_writes'),"
" pg_catalog.current_setting('synchronous_commit'),"
" pg_catalog.current_setting('server_version'),"
" CAST(extract(epoch FROM current_timestamp) * 1000000 AS bigint)";

/* ------------------------------------------------------------------------
 * The script
 * ------------------------------------------------------------------------
 */

char *
store_read_script(void)
{
	char		share[MAXPGPATH];
	char		path[MAXPGPATH * 2];
	struct stat st;
	FILE	   *file;
	char	   *text;
	char	   *tail;
	size_t		n;

	get_share_path(my_exec_path, share);
	snprintf(path, sizeof(path), "%s/extension/%s", share, STORE_SCRIPT);
	file = AllocateFile(path, PG_BINARY_R);
	if (file == NULL || fstat(fileno(file), &st) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", path)));
	text = palloc(st.st_size + 1);
	n = fread(text, 1, st.st_size, file);
	text[n] = '\0';
	if (n != (size_t) st.st_size)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read file \"%s\": %m", path)));
	FreeFile(file);
	tail = strstr(text, "\n\\");
	if (tail != NULL)
		tail[1] = '\0';
	return text;
}
