# Every way to write, on a node that does not hold its lease: each is refused,
# or leaves nothing behind; what is no user data is still allowed.  And every
# way to carry a write across the loss of the lease.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use FenceTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $fence = FenceTest->new('a', conf => "wal_level = logical\nmax_wal_senders = 5\nmax_replication_slots = 5\n");
my $node  = $fence->node;

like(($fence->try('CREATE TABLE early (id integer)'))[2],
	qr/ERROR:  25006: cannot execute CREATE TABLE: this node does not hold lease "main"/,
	'a governed server starts fenced');

$fence->open;
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE t (id integer PRIMARY KEY, v integer);
CREATE TABLE child (id integer REFERENCES t ON DELETE CASCADE);
CREATE TABLE raw (id integer);
CREATE TABLE gone (id integer);
INSERT INTO t SELECT i, 0 FROM generate_series(1, 1000) i;
INSERT INTO child VALUES (1);
CREATE SEQUENCE s;
SELECT nextval('s');
CREATE MATERIALIZED VIEW mv AS SELECT count(*) FROM t;
CREATE VIEW v AS SELECT * FROM t;
CREATE ROLE writer;
GRANT ALL ON t TO writer;
CLUSTER t USING t_pkey;
CREATE FUNCTION definer() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'INSERT INTO t VALUES (5000)';
CREATE FUNCTION by_plpgsql() RETURNS void LANGUAGE plpgsql AS 'BEGIN INSERT INTO t VALUES (5001); END';
CREATE FUNCTION caught() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('transaction_read_only', 'off', false);
	INSERT INTO t VALUES (5002);
	RETURN 'inserted';
EXCEPTION WHEN OTHERS THEN
	BEGIN
		PERFORM set_config('transaction_read_only', 'off', false);
		INSERT INTO t VALUES (5003);
		RETURN 'inserted';
	EXCEPTION WHEN OTHERS THEN
		RETURN 'caught';
	END;
END $$;
CREATE PROCEDURE committing() LANGUAGE plpgsql AS $$
BEGIN
	COMMIT;
	INSERT INTO t VALUES (5004);
END $$;
CREATE FUNCTION slow_loop(pause float) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	x oid;
BEGIN
	FOR i IN 1..3 LOOP
		x := lo_create(0);
		PERFORM pg_sleep(pause);
	END LOOP;
END $$;
CREATE SCHEMA leasehold_store;
CREATE TABLE leasehold_store.lease (name text PRIMARY KEY, version bigint DEFAULT 0);
CREATE TABLE leasehold_store.parent (id integer) PARTITION BY RANGE (id);
CREATE TABLE part PARTITION OF leasehold_store.parent DEFAULT;
INSERT INTO leasehold_store.lease VALUES ('main');
SQL
my $lob = $node->safe_psql('postgres', q{SELECT lo_from_bytea(0, 'abc')});
my $file = $node->basedir . '/copied';
append_to_file($file, "7000\t1\n");

# ---------------------------------------------------------------------------
# A fenced node
# ---------------------------------------------------------------------------

$fence->call(q{notice('a', 'b', 7, 'host=b.example port=5433', '')});
$fence->close;
my $before = $fence->dump_all;

my ($code, $out, $err) = $fence->try('INSERT INTO t VALUES (6000)');
like($err, qr/^psql:<stdin>:1: ERROR:  25006: cannot execute INSERT: this node does not hold lease "main"$/m,
	'the message names the statement and the lease');
like($err, qr/^DETAIL:  Lease "main" is held by node "b" under epoch 7\.$/m, 'the detail: holder and epoch');
like($err, qr/^HINT:  Connect to node "b" at host=b\.example port=5433\.$/m, 'the hint: where to connect');

foreach (
	[ 'INSERT INTO t VALUES (6000)', 'INSERT' ],
	[ 'UPDATE t SET v = 1',          'UPDATE' ],
	[ 'DELETE FROM t WHERE id = 1',  'DELETE' ],
	[ 'MERGE INTO t USING (VALUES (1)) n (id) ON t.id = n.id WHEN MATCHED THEN UPDATE SET v = 1', 'MERGE' ],
	[ 'INSERT INTO v VALUES (6000)', 'INSERT' ],
	[ 'WITH w AS (INSERT INTO t VALUES (6000) RETURNING *) SELECT * FROM w', 'SELECT' ],
	[ 'EXPLAIN ANALYZE INSERT INTO t VALUES (6000)', 'INSERT' ],
	[ 'EXPLAIN ANALYZE CREATE TABLE made AS SELECT 1', 'EXPLAIN' ],
	[ 'PREPARE p AS INSERT INTO t VALUES (6000); EXECUTE p', 'INSERT' ],
	[ "COPY t FROM '$file'", 'COPY' ],
	[ 'COPY (INSERT INTO t VALUES (6000) RETURNING id) TO STDOUT', 'INSERT' ],
	[ 'SELECT * FROM t FOR UPDATE',    'SELECT FOR UPDATE' ],
	[ 'SELECT * FROM t FOR KEY SHARE', 'SELECT FOR KEY SHARE' ],
	[ 'TRUNCATE gone',                 'TRUNCATE TABLE' ],
	[ 'CREATE TABLE made (id integer)', 'CREATE TABLE' ],
	[ 'CREATE TEMP TABLE made (id integer)', 'CREATE TABLE' ],
	[ 'CREATE TABLE made AS SELECT 1', 'CREATE TABLE AS' ],
	[ 'SELECT 1 AS a INTO made',       'SELECT INTO' ],
	[ 'DROP TABLE gone',               'DROP TABLE' ],
	[ 'ALTER TABLE t ADD COLUMN w integer', 'ALTER TABLE' ],
	[ 'CREATE INDEX ON t (v)',         'CREATE INDEX' ],
	[ 'CREATE INDEX CONCURRENTLY ON t (v)', 'CREATE INDEX' ],
	[ 'REFRESH MATERIALIZED VIEW mv',  'REFRESH MATERIALIZED VIEW' ],
	[ 'CREATE ROLE other',             'CREATE ROLE' ],
	[ 'GRANT ALL ON t TO PUBLIC',      'GRANT' ],
	[ 'CREATE DATABASE other',         'CREATE DATABASE' ],
	[ q{COMMENT ON TABLE t IS 'x'},    'COMMENT' ],
	[ q{ALTER ROLE writer SET work_mem = '1MB'}, 'ALTER ROLE' ],
	[ 'CREATE PUBLICATION p FOR TABLE t', 'CREATE PUBLICATION' ],
	[ q{CREATE SUBSCRIPTION s CONNECTION '' PUBLICATION p WITH (connect = false)}, 'CREATE SUBSCRIPTION' ],
	[ 'SELECT definer()',              'INSERT' ],
	[ 'SELECT by_plpgsql()',           'INSERT' ],
	[ 'SET ROLE writer; INSERT INTO t VALUES (6000)', 'INSERT' ],
	[ 'BEGIN READ WRITE; INSERT INTO t VALUES (6000)', 'INSERT' ],
	[ 'BEGIN; SET transaction_read_only = off; INSERT INTO t VALUES (6000)', 'INSERT' ],
	[ 'SET default_transaction_read_only = off; INSERT INTO t VALUES (6000)', 'INSERT' ],
	[ 'SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE; INSERT INTO t VALUES (6000)', 'INSERT' ],
	[ 'CALL committing()',             'INSERT' ],
	[ 'DO $$ BEGIN COMMIT; INSERT INTO t VALUES (6000); END $$', 'INSERT' ],
	[ 'DO $$ DECLARE x oid; BEGIN x := lo_create(0); END $$', 'lo_create\(\)' ],
	[ q{DO $$ DECLARE x bigint; BEGIN x := nextval('s'); END $$}, 'nextval\(\)' ],
	[ q{SELECT nextval('s')},          'nextval\(\)' ],
	[ q{SELECT setval('s', 100)},      'setval\(\)' ],
	[ q{SELECT setval('s', 100, false)}, 'setval\(\)' ],
	[ 'SELECT lo_create(0)',           'lo_create\(\)' ],
	[ 'SELECT lo_creat(-1)',           'lo_creat\(\)' ],
	[ "SELECT lo_unlink($lob)",        'lo_unlink\(\)' ],
	[ "SELECT lo_put($lob, 0, 'xyz')", 'lo_put\(\)' ],
	[ q{SELECT lo_from_bytea(0, 'xyz')}, 'lo_from_bytea\(\)' ],
	[ "SELECT lo_import('$file')",     'lo_import\(\)' ],
	[ "BEGIN; SELECT lowrite(lo_open($lob, 131072), 'xyz')", 'lowrite\(\)|lo_open\(\)' ],
	[ "BEGIN; SELECT lo_truncate(lo_open($lob, 131072), 1)", 'lo_truncate\(\)|lo_open\(\)' ],
	[ 'NOTIFY anything',               'NOTIFY' ],
	[ q{SELECT pg_notify('anything', 'x')}, 'pg_notify\(\)' ],
	[ q{SELECT pg_logical_emit_message(false, 'a', 'b')}, 'pg_logical_emit_message\(\)' ],
	[ q{SELECT pg_logical_emit_message(true, 'a', 'b')}, 'pg_logical_emit_message\(\)' ],
	[ q{SELECT pg_replication_origin_create('o')}, 'pg_replication_origin_create\(\)' ],
	[ q{BEGIN; SELECT 1; PREPARE TRANSACTION 'x'}, 'PREPARE TRANSACTION' ],
	[ q{COMMIT PREPARED 'nothing'},    'COMMIT PREPARED' ],
	[ q{ROLLBACK PREPARED 'nothing'},  'ROLLBACK PREPARED' ],
	[ 'INSERT INTO leasehold_store.parent VALUES (1)', 'INSERT' ],
	[ 'WITH w AS (INSERT INTO t VALUES (6000)) UPDATE leasehold_store.lease SET version = 1', 'UPDATE' ],
	[ 'ALTER TABLE leasehold_store.lease ADD COLUMN x integer', 'ALTER TABLE' ],
) {
	my ($sql, $command) = @$_;
	$fence->refused($sql, qr/cannot execute (?:$command): this node does not hold lease "main"/);
}
$fence->refused(q{SELECT fencetest.heap_insert('raw', 1)}, qr/cannot commit: .*does not hold lease "main"/,
	'C code that bypasses the executor');
is($node->safe_psql('postgres', 'SELECT caught()'), 'caught', 'an exception block does not help');
$fence->refused('BEGIN; SELECT caught(); SAVEPOINT a; SELECT 1; ROLLBACK TO a; INSERT INTO t VALUES (6000)',
	qr/cannot execute INSERT/, 'nor does rolling back to a savepoint');
like(($fence->try('DROP EXTENSION leasehold'))[2], qr/ERROR:  55006: cannot drop extension "leasehold" while lease "main" governs/,
	'the extension stays while a lease governs');

# by the fastpath protocol: function call messages
{
	my $session = $fence->session;
	my $call = sub {
		my ($function, @arguments) = @_;
		my $body = pack('N n n n', $function, 1, 0, scalar @arguments);
		$body .= pack('N', length $_) . $_ foreach @arguments;
		$session->send(F => $body . pack('n', 0));
		return $session->until_ready;
	};
	is($call->(715, '0'), 'E:25006 Z', 'fastpath lo_create');
	is($call->(1574, 's'), 'E:25006 Z', 'fastpath nextval, of values that are logged already');
	like($call->(1598), qr/^V Z$/, 'fastpath: a function that reads') ;
	$session->disconnect;
}

# a walsender that runs SQL
{
	my ($ret, $wout, $werr) = $node->psql('postgres', 'INSERT INTO t VALUES (6000)', replication => 'database');
	like($werr, qr/cannot execute INSERT: this node does not hold lease/, 'refused: SQL in a walsender');
}

# what is no user data
foreach my $sql (
	'SELECT count(*) FROM t', 'VACUUM', 'VACUUM FULL t', 'ANALYZE', 'REINDEX TABLE t',
	'REINDEX TABLE CONCURRENTLY t', 'CLUSTER t', 'CHECKPOINT', q{ALTER SYSTEM SET work_mem = '5MB'},
	'ALTER SYSTEM RESET work_mem', 'BEGIN; ANALYZE t; COMMIT', 'LISTEN anything', 'BEGIN; LOCK TABLE t; COMMIT',
	'SELECT pg_advisory_lock(1)', 'SELECT txid_current()', 'SELECT pg_switch_wal()',
	q{SELECT pg_create_physical_replication_slot('one')}, q{SELECT pg_drop_replication_slot('one')},
	q{SELECT pg_create_logical_replication_slot('two', 'test_decoding')}, q{SELECT pg_drop_replication_slot('two')},
	'EXPLAIN INSERT INTO t VALUES (1)', q{EXPLAIN SELECT nextval('s')}, 'COPY t TO STDOUT', 'DISCARD ALL',
	'BEGIN; DECLARE c CURSOR FOR SELECT * FROM t; FETCH 10 FROM c; COMMIT', 'NOTIFY leasehold_store',
	q{SELECT set_config('work_mem', '1MB', false)}, "SELECT lo_get($lob)", 'PREPARE q AS SELECT 1; EXECUTE q')
{
	$fence->allowed($sql);
}

ok($fence->dump_all eq $before, 'a dump shows no change');

# the store's own tables
$fence->allowed(q{UPDATE leasehold_store.lease SET version = version + 1}, 'the store: UPDATE');
$fence->allowed(q{BEGIN; INSERT INTO leasehold_store.lease VALUES ('x'); SELECT * FROM leasehold_store.lease FOR UPDATE; DELETE FROM leasehold_store.lease WHERE name = 'x'; COMMIT},
	'the store: a transaction');
$fence->allowed(q{WITH u AS (UPDATE leasehold_store.lease SET version = version + 1 RETURNING name) SELECT name, pg_notify('leasehold_store', name) FROM u},
	'the store: a CTE that notifies');
$fence->refused(q{BEGIN; UPDATE leasehold_store.lease SET version = 100; INSERT INTO t VALUES (6000); COMMIT},
	qr/cannot execute INSERT/, 'the store and user data in one transaction');
$fence->refused(q{BEGIN; UPDATE leasehold_store.lease SET version = 100; SELECT fencetest.heap_insert('raw', 1); COMMIT},
	qr/cannot commit/, 'the store, and C code that writes elsewhere');
$fence->refused(q{BEGIN; ANALYZE t; SELECT fencetest.heap_insert('raw', 1); COMMIT},
	qr/cannot commit/, 'maintenance, and C code that writes');
is($node->safe_psql('postgres', 'SELECT version FROM leasehold_store.lease'), 2, 'the store has what was meant for it');
{
	my $session = $fence->session;
	is($session->query('SELECT version FROM leasehold_store.lease'), 'T D:2 C:SELECT 1 Z', 'a session of the store');
	is($fence->call('session(' . $session->pid . ')'), '(f,f,t,0)', 'is spared when the lease is lost');
	is($session->query('BEGIN READ ONLY; UPDATE leasehold_store.lease SET version = 9'), 'C:BEGIN E:25006 Z',
		'its own read-only transactions stay what they are');
	$session->disconnect;
}

# local_ddl: schema, and nothing else
$fence->allowed(q{SET leasehold.local_ddl = on; CREATE TABLE ddl (id integer); CREATE INDEX ON ddl (id); ALTER TABLE ddl ADD COLUMN v integer; DROP TABLE ddl},
	'local_ddl: schema changes');
$fence->refused(q{SET leasehold.local_ddl = on; INSERT INTO t VALUES (6000)}, qr/cannot execute INSERT/, 'local_ddl: no rows');
$fence->refused(q{SET leasehold.local_ddl = on; CREATE TABLE made AS SELECT 1}, qr/cannot execute CREATE TABLE AS/, 'local_ddl: no rows by CREATE TABLE AS');
$fence->refused(q{SET leasehold.local_ddl = on; TRUNCATE t}, qr/cannot execute TRUNCATE/, 'local_ddl: no TRUNCATE');
like(slurp_file($node->logfile), qr/letting CREATE TABLE through on a node without its lease/, 'local_ddl is logged');
like(($node->psql('postgres', 'SET ROLE writer; SET leasehold.local_ddl = on'))[2], qr/permission denied/, 'local_ddl is for superusers');

# ---------------------------------------------------------------------------
# Across the loss of a lease
# ---------------------------------------------------------------------------

# How a transaction goes on: SQL before the loss, what happens, SQL after it.
sub across
{
	my ($name, $first, $event, $then, $expected, $error) = @_;
	$fence->open;
	my $session = $fence->session;
	$session->query($_) foreach ref $first ? @$first : $first;
	$event->();
	my $said = '';
	$said = $session->query($_) foreach ref $then ? @$then : $then;
	like($said, $expected, $name) or diag($session->error // '');
	like($session->error, $error, "$name: the message") if $error;
	$session->disconnect;
	return;
}

my $lose   = sub { $fence->close };
my $retake = sub { $fence->close; $fence->open };
my $lost   = qr/cannot commit: lease "main" was lost during this transaction/;

across('COMMIT of an earlier write', [ 'BEGIN', 'INSERT INTO t VALUES (8000)' ], $lose, 'COMMIT', qr/^E:25006 Z$/, $lost);
across('lost and taken again', [ 'BEGIN', 'INSERT INTO t VALUES (8000)' ], $retake, 'COMMIT', qr/^E:25006 Z$/, $lost);
across('read before, write after another acquisition', [ 'BEGIN', 'SELECT 1' ], $retake, 'INSERT INTO t VALUES (8000)', qr/^E:25006 Z$/,
	qr/cannot execute INSERT: this transaction has seen this node without lease/);
across('begun without the lease, written with it', 'SELECT 1',
	sub { }, 'SELECT 1', qr/^T D:1 C:SELECT 1 Z$/);
across('FOR UPDATE cursor opened earlier', [ 'BEGIN', 'DECLARE c CURSOR FOR SELECT id FROM t FOR UPDATE', 'FETCH 1 FROM c' ], $lose,
	'FETCH 1 FROM c', qr/^E:25006 Z$/);
across('EXECUTE of a plan prepared earlier', 'PREPARE p AS INSERT INTO t VALUES (8000)', $lose, 'EXECUTE p', qr/^E:25006 Z$/);
# what a session has done before, it does by a shorter way
my @before = ('DELETE FROM t WHERE id < 0') x 2;
my $expire = sub { $fence->reopen(1); usleep(50_000) };
across('a statement that ran before', \@before, $lose, $before[0], qr/^E:25006 Z$/, qr/cannot execute DELETE: this node does not hold lease/);
across('... and nobody to close the fence', \@before, $expire, $before[0], qr/^E:25006 Z$/, qr/cannot execute DELETE: this node does not hold lease/);
across('... in a transaction', [ @before, 'BEGIN', $before[0] ], $expire, $before[0], qr/^E:25006 Z$/, qr/cannot execute DELETE: this node does not hold lease/);
across('... after another acquisition', [ @before, 'BEGIN', 'SELECT 1' ], $retake, $before[0], qr/^E:25006 Z$/,
	qr/cannot execute DELETE: this transaction has seen this node without lease/);
across('several statements in one string', 'SELECT 1', $lose, 'SELECT 1; INSERT INTO t VALUES (8000)', qr/^T D:1 C:SELECT 1 E:25006 Z$/);
across('a deferred constraint trigger', [ 'BEGIN', 'INSERT INTO t VALUES (8000)', 'SAVEPOINT a', 'ROLLBACK TO a' ], $lose, 'COMMIT', qr/^E:25006 Z$/);
across('read only', [ 'BEGIN', 'SELECT 1' ], $lose, 'COMMIT', qr/^C:COMMIT Z$/);
across('a temporary table', [ 'CREATE TEMP TABLE tmp (id serial, v text)', 'BEGIN', 'INSERT INTO tmp (v) VALUES (1)' ], $lose,
	[ 'INSERT INTO tmp (v) SELECT 2', 'UPDATE tmp SET v = 3', 'COPY tmp TO STDOUT', 'COMMIT' ], qr/^C:COMMIT Z$/);
across('a temporary table, and nextval() of another sequence', 'CREATE TEMP TABLE tmp (id serial)', $lose, q{SELECT nextval('s')}, qr/E:25006 Z$/);
across('NOTIFY', [ 'BEGIN', 'NOTIFY a' ], $lose, 'COMMIT', qr/^E:25006 Z$/, $lost);
across('a sequence', [ 'BEGIN', q{SELECT nextval('s')} ], $lose, 'COMMIT', qr/^E:25006 Z$/, $lost);
across('C code', [ 'BEGIN', q{SELECT fencetest.heap_insert('raw', 1)} ], $lose, 'COMMIT', qr/^E:25006 Z$/);
across('PREPARE TRANSACTION', [ 'BEGIN', 'INSERT INTO t VALUES (8000)' ], $lose, q{PREPARE TRANSACTION 'x'}, qr/^E:25006 Z$/);

# a portal of the extended protocol, half executed
{
	$fence->open;
	my $session = $fence->session;
	$session->query('BEGIN');
	$session->send(P => "\0SELECT id FROM t FOR UPDATE\0" . pack('n', 0), B => "p\0\0" . pack('n n n', 0, 0, 0),
		E => "p\0" . pack('N', 1), S => '');
	like($session->until_ready, qr/^1 2 D:\d+ s Z$/, 'a portal is suspended');
	$fence->close;
	$session->send(E => "p\0" . pack('N', 1), S => '');
	is($session->until_ready, 'E:25006 Z', 'a portal half executed');
	$session->disconnect;
}

# a portal bound while the lease was held, executed after
{
	$fence->open;
	my $session = $fence->session;
	$session->query('BEGIN');
	$session->send(P => "\0INSERT INTO t VALUES (8000)\0" . pack('n', 0), B => "p\0\0" . pack('n n n', 0, 0, 0), S => '');
	$session->until_ready;
	$fence->close;
	$session->send(E => "p\0" . pack('N', 0), S => '');
	is($session->until_ready, 'E:25006 Z', 'a portal bound before, executed after');
	$session->disconnect;
}

# a loop that runs while the deadline passes, with nobody there to close the
# fence: the expression is initialised already, only the commit is left
{
	my $session = $fence->session;
	$fence->open(2000);
	is($session->query('SELECT slow_loop(1)'), 'T D: E:25006 Z', 'a loop over lo_create() that outlives the deadline')
	  or diag($session->error);
	$session->disconnect;
}

$fence->open;
is($node->safe_psql('postgres', 'SELECT count(*), max(id) FROM t'), '1000|1000', 'no row of all this is there');
is($node->safe_psql('postgres', 'SELECT count(*) FROM raw'), '0', 'nor one of the C code');
is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_largeobject_metadata'), '1', 'nor a large object');
$fence->allowed('INSERT INTO t VALUES (9000)', 'writes, once the lease is back');

# ---------------------------------------------------------------------------
# Modes
# ---------------------------------------------------------------------------

$fence->close;
$node->append_conf('postgresql.conf', "leasehold.fence = 'warn'");
$node->reload;
ok($node->poll_query_until('postgres', q{SELECT current_setting('leasehold.fence') = 'warn'}), 'warn mode');
my $offset = -s $node->logfile;
$fence->allowed('INSERT INTO t VALUES (9001)', 'warn: a write passes');
my $log = slurp_file($node->logfile, $offset);
is(scalar(() = $log =~ /would have/g), 1, 'warn: logged once') or diag($log);
like($log, qr/would have refused INSERT: this node does not hold lease "main"/, 'warn: what would have been refused');
is($node->safe_psql('postgres', 'SHOW default_transaction_read_only'), 'off', 'warn: no signal');

$node->append_conf('postgresql.conf', "leasehold.fence = 'off'");
$node->reload;
ok($node->poll_query_until('postgres', q{SELECT current_setting('leasehold.fence') = 'off'}), 'off mode');
$offset = -s $node->logfile;
$fence->allowed('INSERT INTO t VALUES (9002)', 'off: a write passes');
unlike(slurp_file($node->logfile, $offset), qr/would have/, 'off: silently');

$fence->stop;
done_testing();
