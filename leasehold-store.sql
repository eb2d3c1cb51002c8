-- leasehold-store.sql: the lease store, for one member.
--
-- Run it once in a database of its own, on each member:
--
--     createdb leasehold_store
--     psql -d leasehold_store -f leasehold-store.sql
--
-- or, from a node, SELECT leasehold.init_store('host=... dbname=leasehold_store').
-- No library is needed there.  The file keeps to what any PostgreSQL-wire
-- database with serialisable single-row updates understands: tables with
-- primary keys, plain types, no functions, no triggers.
--
-- A role with no more rights than a node needs: see the end of this file.
--
-- Nothing in here is ever published or replicated logically, and a physical
-- standby is never a member.

CREATE SCHEMA leasehold_store;

-- Who this member is, and the list of members that it belongs to.  One row.
--   schema_version  of this file
--   store_id        made once; another one means another store
--   generation      of the list of members; 0: no list yet
--   members         the list: store_id/system identifier/timeline, by comma
--   settled         the list is committed at a majority of old and new
--   changes         rises whenever a lease here changes hands
--   protections     number of the last change of the list of protected tables
--   memberships     rises whenever it changes who takes part in which lease
CREATE TABLE leasehold_store.store (
    id              integer PRIMARY KEY,
    schema_version  integer NOT NULL,
    store_id        text NOT NULL,
    generation      bigint NOT NULL,
    members         text NOT NULL,
    settled         boolean NOT NULL,
    changes         bigint NOT NULL,
    protections     bigint NOT NULL,
    memberships     bigint NOT NULL
);

INSERT INTO leasehold_store.store
    (id, schema_version, store_id, generation, members, settled, changes,
    protections, memberships)
    VALUES (1, 2, CAST(gen_random_uuid() AS text), 0, '', false, 0, 0, 0);

-- One row per lease.  The primary key never changes and no other column is
-- indexed, so renewals stay in their page.
--   holder .. reserved_for    the register: every write raises the version
--   request_seq .. handover_to   what people ask for: raises request_seq only
--   ready_seq   the request for whose hand-over its target has got ready
--   system_identifier .. holder_lsn   of kind physical: whose it is, on which
--       timeline somebody wrote last, under which epoch, and how far
CREATE TABLE leasehold_store.lease (
    name            text PRIMARY KEY,
    holder          text NOT NULL,
    incarnation     bigint NOT NULL,
    epoch           bigint NOT NULL,
    version         bigint NOT NULL,
    nonce           bigint NOT NULL,
    ttl_ms          integer NOT NULL,
    frozen          boolean NOT NULL,
    reserved_for    text NOT NULL,
    request_seq     bigint NOT NULL,
    ttl_wanted_ms   integer NOT NULL,
    pause_wanted    boolean NOT NULL,
    handover_to     text NOT NULL,
    answer          text NOT NULL,
    kind            text NOT NULL,
    scope           text NOT NULL,
    system_identifier text NOT NULL,
    timeline        integer NOT NULL,
    timeline_begin  text NOT NULL,
    timeline_epoch  bigint NOT NULL,
    holder_lsn      text NOT NULL,
    sync_set        text NOT NULL,
    ready_seq       bigint NOT NULL,
    dropped         boolean NOT NULL
) WITH (fillfactor = 50);

-- Which tables are protected by which lease.  A table that is not any more keeps
-- its row, with an empty lease: who reads the list has to see that, too.
--   seq   of the change; each is above store.protections as it was before
CREATE TABLE leasehold_store.protection (
    database        text NOT NULL,
    schema_name     text NOT NULL,
    table_name      text NOT NULL,
    lease           text NOT NULL,
    seq             bigint NOT NULL,
    PRIMARY KEY (database, schema_name, table_name)
);

-- Which nodes take part in which leases of tables; priority 0: never by itself.
CREATE TABLE leasehold_store.membership (
    lease           text NOT NULL,
    node            text NOT NULL,
    priority        integer NOT NULL,
    PRIMARY KEY (lease, node)
);

-- How much of the list of protected tables each node is known to fence: it has
-- every change up to this one on its disk, and no older commit is under way.
CREATE TABLE leasehold_store.known (
    node            text PRIMARY KEY,
    incarnation     bigint NOT NULL,
    protections     bigint NOT NULL
);

-- One row per node: its heartbeat, and what it says of itself.
CREATE TABLE leasehold_store.node (
    name            text PRIMARY KEY,
    incarnation     bigint NOT NULL,
    beat            bigint NOT NULL,
    advertise       text NOT NULL,
    role            text NOT NULL,
    lsn             text NOT NULL,
    timeline        integer NOT NULL,
    priority        integer NOT NULL,
    version         text NOT NULL
) WITH (fillfactor = 50);

-- Every change of hands, written in the same statement as the change.
CREATE TABLE leasehold_store.history (
    lease           text NOT NULL,
    epoch           bigint NOT NULL,
    to_node         text NOT NULL,
    from_node       text NOT NULL,
    reason          text NOT NULL,
    at              timestamp with time zone NOT NULL,
    PRIMARY KEY (lease, epoch, to_node)
);

-- What each node says of itself and of its paths to the others; for people and
-- for other nodes to read, nothing is decided by it.
CREATE TABLE leasehold_store.report (
    node            text PRIMARY KEY,
    incarnation     bigint NOT NULL,
    seq             bigint NOT NULL,
    body            text NOT NULL
) WITH (fillfactor = 50);

-- Every loss of a path that once stood.  Microseconds since 1970 by the clock of
-- the node that lost it; ended is 0 while it lasts.
CREATE TABLE leasehold_store.outage (
    source          text NOT NULL,
    target          text NOT NULL,
    began           bigint NOT NULL,
    ended           bigint NOT NULL,
    phase           text NOT NULL,
    cause           text NOT NULL,
    error           text NOT NULL,
    PRIMARY KEY (source, target, began)
);

-- One node asks another for something: to try a path, to repair itself.
CREATE TABLE leasehold_store.mail (
    id              text PRIMARY KEY,
    to_node         text NOT NULL,
    from_node       text NOT NULL,
    from_incarnation bigint NOT NULL,
    operation       text NOT NULL,
    arguments       text NOT NULL,
    answered        boolean NOT NULL,
    answer          text NOT NULL
);

-- The right to ask for a repair is the right to INSERT here: such a letter counts
-- only if what it asks stands here too.  Written together with the letter, never
-- changed, taken away with it.
CREATE TABLE leasehold_store.repair (
    id              text PRIMARY KEY,
    to_node         text NOT NULL,
    from_node       text NOT NULL,
    arguments       text NOT NULL
);

-- A role for the nodes, with the least rights that do:
--
--     CREATE ROLE leasehold LOGIN;
--     GRANT CONNECT ON DATABASE leasehold_store TO leasehold;
--     GRANT USAGE ON SCHEMA leasehold_store TO leasehold;
--     GRANT SELECT ON ALL TABLES IN SCHEMA leasehold_store TO leasehold;
--     GRANT INSERT, UPDATE ON leasehold_store.store, leasehold_store.lease TO leasehold;
--     GRANT INSERT, UPDATE, DELETE ON leasehold_store.node, leasehold_store.history,
--         leasehold_store.report, leasehold_store.outage, leasehold_store.mail,
--         leasehold_store.protection, leasehold_store.membership,
--         leasehold_store.known TO leasehold;
--
-- To ask other nodes for repairs is a right of its own:
--
--     GRANT INSERT, DELETE ON leasehold_store.repair TO leasehold;
--
-- psql makes the role when asked by -v leasehold_role=NAME, and gives it that right
-- too with -v leasehold_repair=on:
\if :{?leasehold_role}
CREATE ROLE :"leasehold_role" LOGIN;
GRANT USAGE ON SCHEMA leasehold_store TO :"leasehold_role";
GRANT SELECT ON ALL TABLES IN SCHEMA leasehold_store TO :"leasehold_role";
GRANT INSERT, UPDATE ON leasehold_store.store, leasehold_store.lease TO :"leasehold_role";
GRANT INSERT, UPDATE, DELETE ON leasehold_store.node, leasehold_store.history,
    leasehold_store.report, leasehold_store.outage, leasehold_store.mail,
    leasehold_store.protection, leasehold_store.membership, leasehold_store.known TO :"leasehold_role";
\if :{?leasehold_repair}
\if :leasehold_repair
GRANT INSERT, DELETE ON leasehold_store.repair TO :"leasehold_role";
\endif
\endif
\endif
