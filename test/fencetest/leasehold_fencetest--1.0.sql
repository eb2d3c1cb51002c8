/* The fence of leasehold, worked by hand: for tests only. */
\echo Use "CREATE EXTENSION leasehold_fencetest" to load this file. \quit

-- Hold the lease for so many milliseconds (-1: without end), under a new epoch.
CREATE FUNCTION open(ms integer DEFAULT -1) RETURNS bigint
LANGUAGE C STRICT VOLATILE AS 'MODULE_PATHNAME', 'fencetest_open';

-- The same, under the epoch that was held before.
CREATE FUNCTION reopen(ms integer DEFAULT -1) RETURNS bigint
LANGUAGE C STRICT VOLATILE AS 'MODULE_PATHNAME', 'fencetest_reopen';

-- Lose it now.
CREATE FUNCTION close() RETURNS void
LANGUAGE C STRICT VOLATILE AS 'MODULE_PATHNAME', 'fencetest_close';

-- What refused clients are told.
CREATE FUNCTION notice(node text, holder text, epoch bigint, address text, reason text) RETURNS void
LANGUAGE C STRICT VOLATILE AS 'MODULE_PATHNAME', 'fencetest_notice';

CREATE FUNCTION govern(governed boolean) RETURNS void
LANGUAGE C STRICT VOLATILE AS 'MODULE_PATHNAME', 'fencetest_govern';

CREATE FUNCTION physical(physical boolean) RETURNS void
LANGUAGE C STRICT VOLATILE AS 'MODULE_PATHNAME', 'fencetest_physical';

CREATE FUNCTION counters(OUT withheld bigint, OUT refused bigint) RETURNS record
LANGUAGE C STRICT VOLATILE AS 'MODULE_PATHNAME', 'fencetest_counters';

-- What a session says of itself in shared memory; no row if it says nothing.
CREATE FUNCTION session(pid integer, OUT in_commit boolean, OUT writing boolean,
	OUT spared boolean, OUT opened_epoch bigint) RETURNS record
LANGUAGE C STRICT VOLATILE AS 'MODULE_PATHNAME', 'fencetest_session';

-- The same session's flags as they are: the instance and each lease have a bit.
CREATE FUNCTION flags(pid integer, OUT in_commit bigint, OUT writing bigint) RETURNS record
LANGUAGE C STRICT VOLATILE AS 'MODULE_PATHNAME', 'fencetest_flags';

-- The list of protected tables: the lease of one ("": not protected any more).
CREATE FUNCTION protect(database text, schema text, name text, lease text) RETURNS void
LANGUAGE C STRICT VOLATILE AS 'MODULE_PATHNAME', 'fencetest_protect';

-- As if the list could not be read.
CREATE FUNCTION unknown(unknown boolean) RETURNS void
LANGUAGE C STRICT VOLATILE AS 'MODULE_PATHNAME', 'fencetest_unknown';

-- This node takes part in a table lease from here on; its slot.
CREATE FUNCTION slot(lease text) RETURNS integer
LANGUAGE C STRICT VOLATILE AS 'MODULE_PATHNAME', 'fencetest_slot';

-- As open(), reopen() and close(), for a table lease.
CREATE FUNCTION open_table(lease text, ms integer DEFAULT -1) RETURNS bigint
LANGUAGE C STRICT VOLATILE AS 'MODULE_PATHNAME', 'fencetest_open_table';
CREATE FUNCTION reopen_table(lease text, ms integer DEFAULT -1) RETURNS bigint
LANGUAGE C STRICT VOLATILE AS 'MODULE_PATHNAME', 'fencetest_reopen_table';
CREATE FUNCTION close_table(lease text) RETURNS void
LANGUAGE C STRICT VOLATILE AS 'MODULE_PATHNAME', 'fencetest_close_table';

-- What refused clients are told of it.
CREATE FUNCTION status_table(lease text, holder text, epoch bigint, address text, reason text) RETURNS void
LANGUAGE C STRICT VOLATILE AS 'MODULE_PATHNAME', 'fencetest_status_table';

-- Whom to stop, so that nobody but us works the fence; 0: nobody.
CREATE FUNCTION keeper() RETURNS integer
LANGUAGE C STRICT VOLATILE AS 'MODULE_PATHNAME', 'fencetest_keeper';

-- Put a row into a table (id integer) behind the executor's back.
CREATE FUNCTION heap_insert(relation regclass, id integer) RETURNS void
LANGUAGE C STRICT VOLATILE AS 'MODULE_PATHNAME', 'fencetest_heap_insert';

-- Stall this session's commit after so many others (the one of this very call
-- is the first), as if it were stopped, until the lease is gone.
-- (With "lease": that table lease; without: the instance's.)
CREATE FUNCTION stall(commits integer DEFAULT 1, lease text DEFAULT '') RETURNS void
LANGUAGE C STRICT VOLATILE AS 'MODULE_PATHNAME', 'fencetest_stall';

-- The same, but stall when the answer to that commit is about to be sent.
CREATE FUNCTION stall_answer(commits integer DEFAULT 1, lease text DEFAULT '') RETURNS void
LANGUAGE C STRICT VOLATILE AS 'MODULE_PATHNAME', 'fencetest_stall_answer';
