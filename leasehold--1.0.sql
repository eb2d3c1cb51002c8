/* leasehold--1.0.sql */

-- complain if the script is sourced in psql, rather than by CREATE EXTENSION
\echo Use "CREATE EXTENSION leasehold" to load this file. \quit

-- pg_monitor by name, too: where PUBLIC is denied all, probers still need this
GRANT USAGE ON SCHEMA leasehold TO PUBLIC, pg_monitor;

-- ---------------------------------------------------------------------------
-- What this node knows: from shared memory, at once, on any node
-- ---------------------------------------------------------------------------

CREATE FUNCTION leasehold.holds(lease text DEFAULT NULL)
RETURNS boolean
AS 'MODULE_PATHNAME', 'leasehold_holds'
LANGUAGE C VOLATILE PARALLEL SAFE;

COMMENT ON FUNCTION leasehold.holds(text) IS
'does this node hold the lease at this moment';

CREATE FUNCTION leasehold.epoch(lease text DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'leasehold_epoch'
LANGUAGE C VOLATILE PARALLEL SAFE;

COMMENT ON FUNCTION leasehold.epoch(text) IS
'the fencing token while this node holds the lease, else null';

CREATE FUNCTION leasehold.status(
	OUT lease text, OUT node text, OUT state text, OUT holder text,
	OUT epoch bigint, OUT expires_in interval, OUT ttl interval,
	OUT kind text, OUT scope text, OUT members_reachable integer,
	OUT members integer, OUT last_renewal interval,
	OUT renewal_latency interval, OUT reason text,
	OUT withheld bigint, OUT refused bigint, OUT zero_loss text,
	OUT unprotected bigint, OUT age interval)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'leasehold_status'
LANGUAGE C VOLATILE STRICT PARALLEL SAFE ROWS 1;

CREATE VIEW leasehold.status AS SELECT * FROM leasehold.status();

COMMENT ON VIEW leasehold.status IS
'one row per lease of this node: how the node stands to it, and why';

CREATE FUNCTION leasehold.leases(
	OUT lease text, OUT holder text, OUT epoch bigint, OUT version bigint,
	OUT ttl interval, OUT kind text, OUT scope text, OUT paused boolean,
	OUT reserved_for text, OUT ttl_wanted interval, OUT pause_wanted boolean,
	OUT handover_to text, OUT age interval, OUT tables text[])
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'leasehold_leases'
LANGUAGE C VOLATILE STRICT PARALLEL SAFE ROWS 10;

CREATE VIEW leasehold.leases AS SELECT * FROM leasehold.leases();

COMMENT ON VIEW leasehold.leases IS
'every lease, as the store said when it was last read';

CREATE FUNCTION leasehold.nodes(
	OUT node text, OUT advertise text, OUT role text, OUT lsn pg_lsn,
	OUT timeline integer, OUT lag bigint, OUT last_seen interval,
	OUT version text, OUT alive boolean, OUT priority integer,
	OUT incarnation bigint, OUT age interval)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'leasehold_nodes'
LANGUAGE C VOLATILE STRICT PARALLEL SAFE ROWS 10;

CREATE VIEW leasehold.nodes AS SELECT * FROM leasehold.nodes();

COMMENT ON VIEW leasehold.nodes IS
'every node of the group, as the store said when it was last read';

CREATE FUNCTION leasehold.history(
	OUT lease text, OUT epoch bigint, OUT from_node text, OUT to_node text,
	OUT reason text, OUT at timestamptz, OUT age interval)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'leasehold_history'
LANGUAGE C VOLATILE STRICT PARALLEL SAFE ROWS 100;

CREATE VIEW leasehold.history AS SELECT * FROM leasehold.history();

COMMENT ON VIEW leasehold.history IS
'every change of hands, as the store said when it was last read';

-- ---------------------------------------------------------------------------
-- Paths between the nodes: from shared memory, at once, on any node
-- ---------------------------------------------------------------------------

CREATE FUNCTION leasehold.identity(
	OUT node text, OUT system_identifier text, OUT role text, OUT state text,
	OUT timeline integer)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'leasehold_identity'
LANGUAGE C VOLATILE STRICT PARALLEL SAFE ROWS 1;

COMMENT ON FUNCTION leasehold.identity() IS
'which node this is: what the probers of the others ask';

CREATE FUNCTION leasehold.peers(
	OUT peer text, OUT kind text, OUT status text, OUT phase text,
	OUT since interval, OUT last_ok interval, OUT latency interval,
	OUT latency_p50 interval, OUT latency_p99 interval, OUT failures integer,
	OUT sqlstate text, OUT error text, OUT cause text, OUT address text,
	OUT age interval)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'leasehold_peers'
LANGUAGE C VOLATILE STRICT PARALLEL SAFE ROWS 10;

CREATE VIEW leasehold.peers AS SELECT * FROM leasehold.peers();

COMMENT ON VIEW leasehold.peers IS
'every node and member that this node should reach, and whether it does';

CREATE FUNCTION leasehold.connectivity(
	OUT source text, OUT target text, OUT status text, OUT phase text,
	OUT latency interval, OUT since interval, OUT reported interval,
	OUT error text, OUT kind text, OUT cause text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'leasehold_connectivity'
LANGUAGE C VOLATILE STRICT PARALLEL SAFE ROWS 30;

CREATE VIEW leasehold.connectivity AS SELECT * FROM leasehold.connectivity();

COMMENT ON VIEW leasehold.connectivity IS
'every path of every node, as that node said when it was last heard';

CREATE FUNCTION leasehold.outages(
	OUT source text, OUT target text, OUT began timestamptz,
	OUT ended timestamptz, OUT phase text, OUT error text, OUT cause text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'leasehold_outages'
LANGUAGE C VOLATILE STRICT PARALLEL SAFE ROWS 100;

CREATE VIEW leasehold.outages AS SELECT * FROM leasehold.outages();

COMMENT ON VIEW leasehold.outages IS
'every loss of a path that once stood';

CREATE FUNCTION leasehold.connectivity_svg()
RETURNS text
AS 'MODULE_PATHNAME', 'leasehold_connectivity_svg'
LANGUAGE C VOLATILE STRICT PARALLEL SAFE;

COMMENT ON FUNCTION leasehold.connectivity_svg() IS
'who holds the lease and who reaches whom, as one picture';

CREATE FUNCTION leasehold.diagnose(
	target text, source text DEFAULT NULL,
	OUT step integer, OUT phase text, OUT status text, OUT detail text,
	OUT evidence text, OUT remedy text, OUT run_on text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'leasehold_diagnose'
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 10;

COMMENT ON FUNCTION leasehold.diagnose(text, text) IS
'try one path anew, layer by layer, and hear the witnesses';

CREATE FUNCTION leasehold.remedies(
	target text, source text DEFAULT NULL,
	OUT seq integer, OUT run_on text, OUT kind text, OUT operation text,
	OUT why text, OUT safe boolean)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'leasehold_remedies'
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 4;

COMMENT ON FUNCTION leasehold.remedies(text, text) IS
'the operations that, when performed, establish the path';

CREATE FUNCTION leasehold.repair(
	target text, source text DEFAULT NULL, apply boolean DEFAULT false,
	OUT seq integer, OUT run_on text, OUT kind text, OUT operation text,
	OUT why text, OUT safe boolean, OUT done text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'leasehold_repair'
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 4;

COMMENT ON FUNCTION leasehold.repair(text, text, boolean) IS
'the same operations; with apply, those that are safe and allowed are performed';

-- ---------------------------------------------------------------------------
-- Leases
-- ---------------------------------------------------------------------------

CREATE FUNCTION leasehold.create_lease(
	lease text, ttl interval DEFAULT '10s', kind text DEFAULT 'physical')
RETURNS void
AS 'MODULE_PATHNAME', 'leasehold_create_lease'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

COMMENT ON FUNCTION leasehold.create_lease(text, interval, text) IS
'make a lease in the store; the first one also forms the list of members';

CREATE FUNCTION leasehold.alter_lease(lease text, ttl interval)
RETURNS void
AS 'MODULE_PATHNAME', 'leasehold_alter_lease'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

COMMENT ON FUNCTION leasehold.alter_lease(text, interval) IS
'change the ttl, from the holder''s next renewal on';

CREATE FUNCTION leasehold.drop_lease(lease text)
RETURNS void
AS 'MODULE_PATHNAME', 'leasehold_drop_lease'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

COMMENT ON FUNCTION leasehold.drop_lease(text) IS
'drop a lease that nobody holds';

CREATE FUNCTION leasehold.acquire(
	lease text DEFAULT NULL, timeout interval DEFAULT '10s',
	force boolean DEFAULT false)
RETURNS bigint
AS 'MODULE_PATHNAME', 'leasehold_acquire'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION leasehold.acquire(text, interval, boolean) IS
'have this node take the lease as soon as it is free; returns the epoch';

CREATE FUNCTION leasehold.release(lease text DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'leasehold_release'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION leasehold.release(text) IS
'have this node drain and give up the lease';

CREATE FUNCTION leasehold.switchover(
	target text, lease text DEFAULT NULL, timeout interval DEFAULT '30s')
RETURNS bigint
AS 'MODULE_PATHNAME', 'leasehold_switchover'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION leasehold.switchover(text, text, interval) IS
'hand the lease to another node; returns its epoch';

CREATE FUNCTION leasehold.pause(lease text DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'leasehold_pause'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION leasehold.pause(text) IS
'freeze the lease: it neither expires nor changes hands';

CREATE FUNCTION leasehold.resume(
	lease text DEFAULT NULL, force boolean DEFAULT false)
RETURNS void
AS 'MODULE_PATHNAME', 'leasehold_resume'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION leasehold.resume(text, boolean) IS
'end a pause; force it only when the paused holder is known to be dead';

CREATE FUNCTION leasehold.leave()
RETURNS void
AS 'MODULE_PATHNAME', 'leasehold_leave'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

COMMENT ON FUNCTION leasehold.leave() IS
'this node leaves the group for good and is governed no more';

-- ---------------------------------------------------------------------------
-- Leases of tables
-- ---------------------------------------------------------------------------

CREATE FUNCTION leasehold.join_lease(
	lease text, node text DEFAULT NULL, priority integer DEFAULT 100)
RETURNS void
AS 'MODULE_PATHNAME', 'leasehold_join_lease'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION leasehold.join_lease(text, text, integer) IS
'have a node take part in a lease of tables; with priority 0 it never takes it by itself';

CREATE FUNCTION leasehold.leave_lease(lease text, node text DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'leasehold_leave_lease'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION leasehold.leave_lease(text, text) IS
'a node takes part in a lease of tables no more';

CREATE FUNCTION leasehold.protect(
	relation regclass, lease text, timeout interval DEFAULT '30s')
RETURNS void
AS 'MODULE_PATHNAME', 'leasehold_protect'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

COMMENT ON FUNCTION leasehold.protect(regclass, text, interval) IS
'have a table written only where its lease is held; returns when every node sees to that';

CREATE FUNCTION leasehold.unprotect(relation regclass)
RETURNS void
AS 'MODULE_PATHNAME', 'leasehold_unprotect'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

COMMENT ON FUNCTION leasehold.unprotect(regclass) IS
'have a table protected by its lease no more';

CREATE FUNCTION leasehold.unprotect(
	database text, schema_name text, table_name text)
RETURNS void
AS 'MODULE_PATHNAME', 'leasehold_unprotect_named'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

COMMENT ON FUNCTION leasehold.unprotect(text, text, text) IS
'the same for a table that need not exist here any more';

CREATE FUNCTION leasehold.protected(
	OUT database text, OUT schema_name text, OUT table_name text,
	OUT lease text, OUT seq bigint, OUT holder text, OUT address text,
	OUT held boolean, OUT confirmed boolean)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'leasehold_protected'
LANGUAGE C VOLATILE STRICT PARALLEL SAFE ROWS 10;

CREATE VIEW leasehold.protected AS SELECT * FROM leasehold.protected();

COMMENT ON VIEW leasehold.protected IS
'every protected table, who holds its lease, and whether this node has the protection on its disk';

CREATE FUNCTION leasehold.writer(relation regclass)
RETURNS text
AS 'MODULE_PATHNAME', 'leasehold_writer'
LANGUAGE C VOLATILE STRICT PARALLEL SAFE;

COMMENT ON FUNCTION leasehold.writer(regclass) IS
'the connection string of the node that writes the table';

CREATE FUNCTION leasehold.spread(
	apply boolean DEFAULT false,
	OUT lease text, OUT from_node text, OUT to_node text, OUT why text,
	OUT done text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'leasehold_spread'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE ROWS 10;

COMMENT ON FUNCTION leasehold.spread(boolean) IS
'leases of tables that belong on other nodes; with apply, each is handed over';

-- ---------------------------------------------------------------------------
-- Care of the store and of the group
-- ---------------------------------------------------------------------------

CREATE FUNCTION leasehold.init_store(conninfo text)
RETURNS void
AS 'MODULE_PATHNAME', 'leasehold_init_store'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

COMMENT ON FUNCTION leasehold.init_store(text) IS
'make the schema of the store in a member''s database';

CREATE FUNCTION leasehold.set_store(members text)
RETURNS void
AS 'MODULE_PATHNAME', 'leasehold_set_store'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

COMMENT ON FUNCTION leasehold.set_store(text) IS
'change the agreed list of members';

CREATE FUNCTION leasehold.reseed_member(member text)
RETURNS void
AS 'MODULE_PATHNAME', 'leasehold_reseed_member'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

COMMENT ON FUNCTION leasehold.reseed_member(text) IS
'give a member that lost its memory its content back, under a new identity';

CREATE FUNCTION leasehold.drop_node(node text)
RETURNS void
AS 'MODULE_PATHNAME', 'leasehold_drop_node'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

COMMENT ON FUNCTION leasehold.drop_node(text) IS
'forget a node that is gone';

CREATE FUNCTION leasehold.rename_node(node text, new_name text)
RETURNS void
AS 'MODULE_PATHNAME', 'leasehold_rename_node'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

COMMENT ON FUNCTION leasehold.rename_node(text, text) IS
'rename a node that is not running';

CREATE FUNCTION leasehold.check(
	OUT item text, OUT ok boolean, OUT detail text, OUT remedy text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'leasehold_check'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE ROWS 30;

COMMENT ON FUNCTION leasehold.check() IS
'everything about this node, its settings and its members that would make the promise untrue';

-- ---------------------------------------------------------------------------
-- Privileges: holds, epoch, writer and identity are for everyone
-- ---------------------------------------------------------------------------

REVOKE ALL ON FUNCTION
	leasehold.status(), leasehold.leases(), leasehold.nodes(),
	leasehold.history(), leasehold.check(), leasehold.peers(),
	leasehold.connectivity(), leasehold.outages(), leasehold.connectivity_svg(),
	leasehold.diagnose(text, text), leasehold.remedies(text, text),
	leasehold.repair(text, text, boolean),
	leasehold.create_lease(text, interval, text),
	leasehold.alter_lease(text, interval), leasehold.drop_lease(text),
	leasehold.acquire(text, interval, boolean), leasehold.release(text),
	leasehold.switchover(text, text, interval),
	leasehold.pause(text), leasehold.resume(text, boolean),
	leasehold.leave(), leasehold.init_store(text), leasehold.set_store(text),
	leasehold.reseed_member(text), leasehold.drop_node(text),
	leasehold.rename_node(text, text), leasehold.protected(),
	leasehold.join_lease(text, text, integer), leasehold.leave_lease(text, text),
	leasehold.protect(regclass, text, interval), leasehold.unprotect(regclass),
	leasehold.unprotect(text, text, text), leasehold.spread(boolean)
FROM PUBLIC;

GRANT EXECUTE ON FUNCTION
	leasehold.identity(), leasehold.status(), leasehold.leases(), leasehold.nodes(),
	leasehold.history(), leasehold.check(), leasehold.peers(),
	leasehold.connectivity(), leasehold.outages(), leasehold.connectivity_svg(),
	leasehold.diagnose(text, text), leasehold.remedies(text, text),
	leasehold.protected()
TO pg_monitor;

GRANT SELECT ON
	leasehold.status, leasehold.leases, leasehold.nodes, leasehold.history,
	leasehold.peers, leasehold.connectivity, leasehold.outages,
	leasehold.protected
TO pg_monitor;
