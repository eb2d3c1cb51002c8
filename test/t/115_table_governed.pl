# Leases of the instance and of single tables side by side: a protected table asks
# for its own lease alone, every other one for that of the instance; and what
# replication applies, or maintenance does, passes both.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use FenceTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $publisher = PostgreSQL::Test::Cluster->new('publisher');
$publisher->init(allows_streaming => 'logical');
$publisher->start;
$publisher->safe_psql('postgres', <<'SQL');
CREATE TABLE a (id integer PRIMARY KEY, v text);
INSERT INTO a SELECT i, 'copied' FROM generate_series(1, 100) i;
CREATE TABLE p (id integer PRIMARY KEY);
INSERT INTO p VALUES (1), (101);
CREATE PUBLICATION p FOR TABLE a, p;
SELECT pg_create_logical_replication_slot('s', 'pgoutput');
SQL

my $fence = FenceTest->new('a', init => [ allows_streaming => 'logical' ]);
my $node  = $fence->node;

$fence->open;
$node->safe_psql('postgres', <<'SQL');
CREATE SEQUENCE numbers;
CREATE TABLE a (id integer PRIMARY KEY, v text, number bigint DEFAULT nextval('numbers'));
CREATE TABLE audit (id integer, what text);
CREATE TABLE b (id integer PRIMARY KEY);
INSERT INTO b SELECT generate_series(1, 10);
CREATE TABLE plain (id integer PRIMARY KEY, v integer);
CREATE TABLE other (id integer PRIMARY KEY);
CREATE TABLE child (id integer REFERENCES b ON DELETE CASCADE);
CREATE TABLE numbered (id serial PRIMARY KEY, v integer);
CREATE TABLE numbered_child () INHERITS (numbered);
CREATE TABLE identified (id integer GENERATED ALWAYS AS IDENTITY, v integer);
CREATE TABLE mixed (id serial, v bigint DEFAULT nextval('numbers'));
CREATE TABLE open_numbered (id serial, v integer);
CREATE TABLE borrowing (id integer DEFAULT nextval('open_numbered_id_seq'), v integer);
CREATE FUNCTION numbering() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.v := nextval('numbered_id_seq'); RETURN NEW; END $$;
CREATE TABLE trigger_numbered (id serial, v integer);
CREATE TRIGGER t BEFORE INSERT ON trigger_numbered FOR EACH ROW EXECUTE FUNCTION numbering();
CREATE TABLE open_child (id integer REFERENCES plain);
CREATE TABLE p (id integer PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100);
CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (100) TO (200);
CREATE VIEW v AS SELECT * FROM plain;
CREATE MATERIALIZED VIEW mv AS SELECT 1 AS x;
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.audit VALUES (NEW.id, TG_OP || ' ' || nextval('public.numbers'));
	RETURN NEW;
END $$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON a FOR EACH ROW EXECUTE FUNCTION audit();
ALTER TABLE a ENABLE ALWAYS TRIGGER audit;
CREATE FUNCTION to_b() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO b VALUES (NEW.id); RETURN NEW; END $$;
CREATE TABLE with_trigger (id integer);
CREATE TRIGGER t AFTER INSERT ON with_trigger FOR EACH ROW EXECUTE FUNCTION to_b();
CREATE FUNCTION from_read() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN INSERT INTO plain VALUES (500); RETURN 1; END $$;
SQL
my $file = $node->basedir . '/copied';
append_to_file($file, "7000\t1\n");

sub take { $fence->call("open_table('$_[0]')"); return; }
sub lose { $fence->call("close_table('$_[0]')"); return; }
$fence->call("slot('$_')") foreach 'x', 'y';
$fence->call("protect('postgres', 'public', '$_', 'x')") foreach qw(a audit p plain child mv with_trigger numbered identified mixed borrowing trigger_numbered);
$fence->call(q{protect('postgres', 'public', 'other', 'y')});

# ---------------------------------------------------------------------------
# The instance is held, the table is not
# ---------------------------------------------------------------------------

$fence->refused($_, qr/on table "public\.\w+": this node does not hold lease "x"/, "instance held: $_")
  foreach 'INSERT INTO plain VALUES (1)', 'TRUNCATE plain', 'ALTER TABLE plain ADD w integer', "COPY plain FROM '$file'", 'INSERT INTO v VALUES (1)',
  'WITH w AS (INSERT INTO plain VALUES (1)) INSERT INTO b VALUES (100)', 'DELETE FROM b WHERE id = 1', 'REFRESH MATERIALIZED VIEW mv', 'DROP TABLE plain CASCADE';
$fence->allowed($_, "instance held: $_") foreach 'INSERT INTO b VALUES (100)', 'SELECT * FROM plain FOR KEY SHARE', q{SELECT nextval('numbers')}, 'NOTIFY x';

# ---------------------------------------------------------------------------
# The table is held, the instance is not
# ---------------------------------------------------------------------------

take('x');
$fence->close;
is($node->safe_psql('postgres', 'SHOW default_transaction_read_only'), 'on', 'the signal is the instance\'s');
foreach my $sql (
	'INSERT INTO plain VALUES (1)', 'UPDATE plain SET v = 1', 'INSERT INTO v VALUES (2)', 'DELETE FROM plain WHERE id = 2', "COPY plain FROM '$file'",
	'WITH w AS (DELETE FROM plain WHERE id = 7000 RETURNING *) INSERT INTO plain SELECT id + 1 FROM w',
	'MERGE INTO plain USING b ON plain.id = b.id WHEN MATCHED THEN UPDATE SET v = 1', 'SELECT * FROM plain FOR UPDATE',
	'BEGIN; SELECT 1; SELECT count(*) FROM b; INSERT INTO plain VALUES (3); SELECT 1; UPDATE plain SET v = 2; COMMIT',
	'BEGIN READ WRITE; INSERT INTO plain VALUES (4); COMMIT', 'INSERT INTO child VALUES (1)', 'BEGIN; INSERT INTO child VALUES (2); SET CONSTRAINTS ALL IMMEDIATE; COMMIT',
	'BEGIN; DECLARE c CURSOR FOR SELECT * FROM plain FOR UPDATE; SELECT 1; FETCH 1 FROM c; UPDATE plain SET v = 5 WHERE CURRENT OF c; COMMIT',
	'DO $$ BEGIN PERFORM 1; INSERT INTO plain VALUES (5); END $$', 'BEGIN; SAVEPOINT q; INSERT INTO plain VALUES (6); ROLLBACK TO q; INSERT INTO plain VALUES (6); COMMIT',
	'PREPARE q AS UPDATE plain SET v = 3; SELECT 1; EXECUTE q', 'INSERT INTO p VALUES (5), (105)', 'TRUNCATE p', 'TRUNCATE child',
	'ALTER TABLE plain ADD w integer DEFAULT 3', 'CREATE INDEX w ON plain (w)', 'DROP INDEX w', 'ALTER TABLE plain DROP w', 'REFRESH MATERIALIZED VIEW mv',
	'INSERT INTO numbered (v) VALUES (1)', 'INSERT INTO numbered DEFAULT VALUES', 'INSERT INTO numbered (v) VALUES (2), (3)', 'INSERT INTO numbered (v) SELECT v FROM numbered ORDER BY v',
	'INSERT INTO numbered (v) SELECT 1 UNION ALL SELECT 2', 'PREPARE q AS INSERT INTO numbered (v) VALUES ($1); EXECUTE q (1); EXECUTE q (2)', 'INSERT INTO numbered_child (v) VALUES (1)',
	'INSERT INTO identified (v) VALUES (1)', 'DO $$ BEGIN INSERT INTO numbered (v) VALUES (4); END $$',
	'ALTER TABLE audit ALTER id TYPE bigint', 'EXPLAIN ANALYZE UPDATE plain SET v = 4')
{
	$fence->allowed($sql, "table held: $sql");
}
my $instance = qr/cannot execute \w.*: this node does not hold lease "main"/;
$fence->refused($_, $instance, "table held: $_")
  foreach 'INSERT INTO b VALUES (200)', 'WITH w AS (INSERT INTO plain VALUES (300)) INSERT INTO b VALUES (200)',
  'BEGIN; INSERT INTO plain VALUES (300); INSERT INTO b VALUES (200); COMMIT', 'TRUNCATE plain, b', 'CREATE TABLE made (id integer)',
  q{SELECT nextval('numbers')}, q{SELECT nextval('numbered_id_seq')}, 'INSERT INTO mixed DEFAULT VALUES', 'INSERT INTO borrowing (v) VALUES (1)',
  q{INSERT INTO numbered (v) VALUES (nextval('numbers'))}, q{INSERT INTO numbered (v) SELECT 1 WHERE nextval('numbers') > 0}, q{INSERT INTO numbered (v) VALUES (1) RETURNING nextval('numbers')},
  'INSERT INTO trigger_numbered (v) VALUES (1)', 'INSERT INTO a VALUES (1)', 'NOTIFY x', 'SELECT lo_create(0)', 'INSERT INTO with_trigger VALUES (200)',
  'DELETE FROM b WHERE id = 1', 'SELECT * FROM b FOR KEY SHARE', 'DROP TABLE b CASCADE', 'CREATE ROLE x',
  q{BEGIN; SELECT 1; PREPARE TRANSACTION 'x'};
$fence->refused('TRUNCATE plain CASCADE', qr/cannot execute TRUNCATE: this node does not hold lease "main"/, 'table held: a cascade to a table that has no lease');
$fence->refused(q{BEGIN; INSERT INTO plain VALUES (301); SELECT fencetest.heap_insert('b', 300); COMMIT}, qr/cannot commit: .*lease "main"/, 'table held: C code that writes another one');
$fence->refused('BEGIN READ ONLY; INSERT INTO plain VALUES (302)', qr/cannot execute INSERT in a read-only transaction/, 'table held: a transaction that is read-only by choice');
$fence->refused('INSERT INTO other VALUES (1)', qr/does not hold lease "y"/, 'table held: a table of another lease');
is($node->safe_psql('postgres', 'SELECT count(*) FROM plain WHERE id > 200 AND id < 1000'), '0', 'table held: nothing is left of it');

# the instance's lease is lost under a transaction that wrote only protected tables
{
	$fence->open;
	my $session = $fence->session;
	$session->query($_) foreach 'BEGIN', 'INSERT INTO plain VALUES (400)';
	is($fence->call('flags(' . $session->pid . ')'), '(0,1)', 'writing, but not under the lease of the instance');
	$fence->close;
	is($session->query('COMMIT'), 'C:COMMIT Z', 'it commits');
	$session->query($_) foreach 'BEGIN', 'SELECT 1', 'INSERT INTO plain VALUES (401)';
	$fence->open;
	is($session->query('COMMIT'), 'C:COMMIT Z', 'also where that is taken meanwhile');
	$session->query($_) foreach 'BEGIN', 'INSERT INTO plain VALUES (402)', 'INSERT INTO b VALUES (402)';
	is($fence->call('flags(' . $session->pid . ')'), '(0,' . ((1 << 31) | 1) . ')', 'writing under both');
	$fence->close;
	is($session->query('COMMIT'), 'E:25006 Z', 'not if it wrote under both, and the instance\'s is lost');
	like($session->error, qr/cannot commit: lease "main" was lost/, 'of which it is told');
	$fence->open;
	$session->query($_) foreach 'BEGIN', 'INSERT INTO plain VALUES (403)', 'INSERT INTO b VALUES (403)';
	lose('x');
	is($session->query('COMMIT'), 'E:25006 Z', 'nor if the table\'s is');
	like($session->error, qr/cannot commit: lease "x" of table "public\.plain" was lost/, 'of which it is told');
	$session->disconnect;
}

# the answer, with both leases
foreach my $lost ('main', 'x')
{
	take('x');
	$fence->open;
	my $session = $fence->session;
	$session->query(q{SELECT fencetest.stall(1, '} . ($lost eq 'x' ? 'x' : '') . q{')});
	my $offset = -s $node->logfile;
	my $id = $lost eq 'x' ? 410 : 411;
	$session->send(Q => "BEGIN; INSERT INTO plain VALUES ($id); INSERT INTO b VALUES ($id); COMMIT\0");
	$node->wait_for_log(qr/stalled after a commit/, $offset);
	$lost eq 'x' ? lose('x') : $fence->close;
	is($session->until_ready, 'EOF', "wrote under both, \"$lost\" is lost: the client is told nothing");
	like(slurp_file($node->logfile, $offset), qr/not acknowledging a commit: lease "$lost" was lost/, 'for the right reason');
}

# ---------------------------------------------------------------------------
# Neither is held: replication and maintenance go on
# ---------------------------------------------------------------------------

$fence->close;
lose('x');
$fence->refused('INSERT INTO plain VALUES (600)', qr/on table "public\.plain": this node does not hold lease "x"/, 'neither held: the table\'s lease is named');
my $from = 'host=' . $publisher->host . ' port=' . $publisher->port . ' dbname=postgres';
$fence->allowed("SET leasehold.local_ddl = on; CREATE SUBSCRIPTION s CONNECTION '$from' PUBLICATION p WITH (create_slot = false, slot_name = 's')");
$node->wait_for_subscription_sync($publisher, 's');
is($node->safe_psql('postgres', 'SELECT count(*), count(number) FROM a'), '100|100', 'the first copy of a protected table, with defaults');
is($node->safe_psql('postgres', 'SELECT count(*) FROM audit'), '100', 'and triggers that write another');
is($node->safe_psql('postgres', 'SELECT count(*) FROM p'), '2', 'and a partitioned one');
$publisher->safe_psql('postgres', q{INSERT INTO a VALUES (101, 'applied'); UPDATE a SET v = 'changed' WHERE id = 1; DELETE FROM a WHERE id = 2; UPDATE p SET id = 2 WHERE id = 101});
$publisher->wait_for_catchup('s');
is($node->safe_psql('postgres', 'SELECT count(*), count(number), max(v) FILTER (WHERE id = 101) FROM a'), '100|100|applied', 'apply, with defaults');
is($node->safe_psql('postgres', q{SELECT count(*) FROM audit WHERE what ~ 'UPDATE'}), '1', 'and triggers');
is($node->safe_psql('postgres', 'SELECT count(*) FROM p1'), '2', 'and a row that moves to another partition');
$publisher->safe_psql('postgres', 'TRUNCATE a');
$publisher->wait_for_catchup('s');
is($node->safe_psql('postgres', 'SELECT count(*) FROM a'), '0', 'TRUNCATE is applied');
$fence->allowed($_, "neither held: $_") foreach 'VACUUM FULL plain', 'ANALYZE plain', 'REINDEX TABLE CONCURRENTLY plain', 'VACUUM';

# autovacuum
$fence->open;
take('x');
$node->safe_psql('postgres', 'INSERT INTO plain SELECT generate_series(10000, 20000)');
$fence->close;
lose('x');
$node->append_conf('postgresql.conf', "autovacuum = on\nautovacuum_naptime = 1s\nautovacuum_vacuum_insert_threshold = 100\nautovacuum_analyze_threshold = 100");
$node->reload;
ok($node->poll_query_until('postgres', q{SELECT last_autovacuum IS NOT NULL AND last_autoanalyze IS NOT NULL FROM pg_stat_user_tables WHERE relname = 'plain'}),
	'autovacuum goes on');

$fence->stop;
$publisher->stop('fast');
done_testing();
