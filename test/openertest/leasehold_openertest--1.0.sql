/* The openers of leasehold, asked by hand: for tests only. */
\echo Use "CREATE EXTENSION leasehold_openertest" to load this file. \quit

-- Publish the list of protected tables: these (database.schema.name), each by the
-- lease beside it.
CREATE FUNCTION protect(tables text[], leases text[]) RETURNS void
LANGUAGE C STRICT VOLATILE AS 'MODULE_PATHNAME', 'openertest_protect';

-- Ask, and wait for what comes of it, so many milliseconds at most: the state
-- (none, pending, ready, failed), why, and how long it took.
CREATE FUNCTION prepare(lease text, seq bigint, from_node text, wait integer DEFAULT 10000,
	OUT state text, OUT why text, OUT ms double precision) RETURNS record
LANGUAGE C STRICT VOLATILE AS 'MODULE_PATHNAME', 'openertest_prepare';

CREATE FUNCTION begin(lease text, epoch bigint, from_node text, lsn pg_lsn, wait integer DEFAULT 10000,
	address text DEFAULT '',
	OUT state text, OUT why text, OUT ms double precision) RETURNS record
LANGUAGE C STRICT VOLATILE AS 'MODULE_PATHNAME', 'openertest_begin';

CREATE FUNCTION forget(lease text) RETURNS void
LANGUAGE C STRICT VOLATILE AS 'MODULE_PATHNAME', 'openertest_forget';
