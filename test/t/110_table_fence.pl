# Single tables that have leases of their own, on a server that no lease governs:
# every way to write such a table without its lease is refused, or leaves nothing
# behind; every other table, and whatever is no write, is left alone.  And every
# way to carry a write across the loss of the lease, or across the moment in
# which the table comes under it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use FenceTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $fence = FenceTest->new('a', conf => "leasehold.lease = ''\nwal_level = logical\nmax_wal_senders = 5\nmax_replication_slots = 5\n");
my $node  = $fence->node;

$node->safe_psql('postgres', <<'SQL');
CREATE TABLE a (id integer PRIMARY KEY, v integer);
CREATE TABLE a2 (id integer PRIMARY KEY, v integer);
CREATE TABLE b (id integer PRIMARY KEY, v integer);
CREATE TABLE gone (id integer);
CREATE TABLE raw (id integer);
INSERT INTO a SELECT i, 0 FROM generate_series(1, 100) i;
INSERT INTO b SELECT i, 0 FROM generate_series(1, 100) i;
CREATE SCHEMA other;
CREATE TABLE other.a (id integer);
CREATE SEQUENCE s;
CREATE ROLE writer;
GRANT ALL ON a, b TO writer;
ALTER TABLE gone OWNER TO writer;
CLUSTER a USING a_pkey;

-- a partitioned table that is protected as a whole
CREATE TABLE p (id integer, v integer) PARTITION BY RANGE (id);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100);
CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (100) TO (200) PARTITION BY RANGE (id);
CREATE TABLE p21 PARTITION OF p2 FOR VALUES FROM (100) TO (150);
CREATE TABLE outside (id integer, v integer);
CREATE TABLE apart (id integer, v integer);
CREATE TABLE unfenced (id integer, v integer) PARTITION BY RANGE (id);
-- one that is not, with a partition that is
CREATE TABLE m (id integer, v integer) PARTITION BY RANGE (id);
CREATE TABLE m1 PARTITION OF m FOR VALUES FROM (0) TO (100);
CREATE TABLE m2 PARTITION OF m FOR VALUES FROM (100) TO (200);
-- and one below another one
CREATE TABLE d (id integer) PARTITION BY RANGE (id);
CREATE TABLE d1 PARTITION OF d FOR VALUES FROM (0) TO (100) PARTITION BY RANGE (id);
CREATE TABLE d11 PARTITION OF d1 FOR VALUES FROM (0) TO (50);
CREATE TABLE d12 PARTITION OF d1 FOR VALUES FROM (50) TO (100);
INSERT INTO m VALUES (1, 0), (101, 0);
-- inheritance
CREATE TABLE i (id integer);
CREATE TABLE i1 () INHERITS (i);
CREATE TABLE i11 () INHERITS (i1);

-- foreign keys both ways: a protected table referred to, and one that refers
CREATE TABLE fp (id integer PRIMARY KEY);
INSERT INTO fp SELECT generate_series(1, 100);
CREATE TABLE fo (id integer REFERENCES fp ON DELETE CASCADE ON UPDATE CASCADE);
INSERT INTO fo VALUES (1);
CREATE TABLE op (id integer PRIMARY KEY);
INSERT INTO op SELECT generate_series(1, 100);
CREATE TABLE fc (id integer REFERENCES op ON DELETE CASCADE ON UPDATE CASCADE);
INSERT INTO fc VALUES (1);

CREATE VIEW va AS SELECT * FROM a;
CREATE VIEW vr AS SELECT * FROM b;
CREATE RULE r AS ON INSERT TO vr DO INSTEAD INSERT INTO a VALUES (NEW.*);
CREATE VIEW vt AS SELECT * FROM b;
CREATE FUNCTION to_a() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO a VALUES (NEW.id, NEW.v); RETURN NEW; END';
CREATE TRIGGER t INSTEAD OF INSERT ON vt FOR EACH ROW EXECUTE FUNCTION to_a();
CREATE TABLE triggered (id integer, v integer);
CREATE TRIGGER t AFTER INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION to_a();
CREATE TABLE deferred (id integer, v integer);
CREATE CONSTRAINT TRIGGER t AFTER INSERT ON deferred INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION to_a();
CREATE TRIGGER mine BEFORE INSERT ON a2 FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
DROP TRIGGER mine ON a2;
CREATE FUNCTION checked() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER mine BEFORE INSERT ON a2 FOR EACH ROW EXECUTE FUNCTION checked();
CREATE RULE mine AS ON UPDATE TO a2 DO ALSO NOTIFY x;
CREATE POLICY mine ON a2;
CREATE MATERIALIZED VIEW mv AS SELECT count(*) FROM b;
CREATE FUNCTION definer() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'INSERT INTO a VALUES (5000)';
CREATE FUNCTION caught() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO a VALUES (5002);
	RETURN 'inserted';
EXCEPTION WHEN OTHERS THEN
	RETURN 'caught';
END $$;
CREATE PROCEDURE committing() LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO b VALUES (5001) ON CONFLICT DO NOTHING;
	COMMIT;
	INSERT INTO a VALUES (5004) ON CONFLICT DO NOTHING;
END $$;
CREATE FUNCTION slow_loop(pause float) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO a VALUES (5005);
	PERFORM pg_sleep(pause);
END $$;
SQL
$node->safe_psql('postgres', 'CREATE DATABASE second');
$node->safe_psql('second', 'CREATE TABLE a (id integer); CREATE TABLE far (id integer)');
$node->safe_psql('postgres', 'CREATE DATABASE empty');
my $file = $node->basedir . '/copied';
append_to_file($file, "7000\t1\n");
my $version = int($node->safe_psql('postgres', 'SHOW server_version_num') / 10000);
$node->safe_psql('postgres', <<'SQL') if $version >= 18;
-- keys with a time in them, and columns that are worked out when they are read
CREATE TABLE tp (id int4range, during daterange, PRIMARY KEY (id, during WITHOUT OVERLAPS));
CREATE TABLE tc (id int4range, during daterange, FOREIGN KEY (id, PERIOD during) REFERENCES tp (id, PERIOD during));
INSERT INTO tp VALUES ('[1,2)', '[2020-01-01,2030-01-01)'), ('[2,3)', '[2020-01-01,2030-01-01)');
CREATE TABLE g (id integer PRIMARY KEY, v integer, twice integer GENERATED ALWAYS AS (v * 2) VIRTUAL);
INSERT INTO g VALUES (1, 1);
SQL

sub protect
{
	my ($table, $lease, $database) = @_;
	my ($schema, $name) = $table =~ /^(.*)\.(.*)$/ ? ($1, $2) : ('public', $table);
	$fence->call("protect('" . ($database // 'postgres') . "', '$schema', '$name', '$lease')");
	return;
}
sub unprotect  { protect($_[0], '', $_[1]); return; }
sub take       { $fence->call("open_table('$_[0]', " . ($_[1] // -1) . ')'); return; }
sub lose       { $fence->call("close_table('$_[0]')"); return; }
sub take_again { lose($_[0]); take($_[0]); return; }

# An error that is not the fence's usual one.
sub fails
{
	my ($sql, $like, $name) = @_;
	my ($code, $out, $err) = $fence->try($sql);
	return like($err, $like, $name // $sql);
}

# nothing is protected: nothing is refused, and nothing is a signal
$fence->allowed('INSERT INTO a VALUES (200, 0); DELETE FROM a WHERE id = 200', 'while nothing is protected');
is($node->safe_psql('postgres', 'SHOW default_transaction_read_only'), 'off', 'no signal');

is($fence->call("slot('x')"), '0', 'a slot for lease x');
is($fence->call("slot('y')"), '1', 'a slot for lease y');
protect($_, 'x') foreach qw(a p i fp mv gone);
protect($_, 'y') foreach qw(a2 m2 fc d12 apart);
protect($_, 'x') foreach $version >= 18 ? qw(tp g) : ();
protect('elsewhere', 'z');
protect('far', 'x', 'second');

# ---------------------------------------------------------------------------
# Without the leases
# ---------------------------------------------------------------------------

my $before = $fence->dump_all;
my $without_x = qr/this node does not hold lease "x"/;
my $without_y = qr/this node does not hold lease "y"/;

$fence->call(q{status_table('x', 'b', 7, 'host=b.example port=5433', '')});
my ($code, $out, $err) = $fence->try('INSERT INTO a VALUES (6000)');
like($err, qr/^psql:<stdin>:1: ERROR:  25006: cannot execute INSERT on table "public\.a": this node does not hold lease "x"$/m,
	'the message names statement, table and lease');
like($err, qr/^DETAIL:  Lease "x" is held by node "b" under epoch 7\.$/m, 'the detail: holder and epoch');
like($err, qr/^HINT:  Connect to node "b" at host=b\.example port=5433\.$/m, 'the hint: where to connect');
($code, $out, $err) = $fence->try('INSERT INTO a2 VALUES (6000)');
like($err, qr/^HINT:  Function leasehold\.writer\(\) says which node/m, 'the hint, when the holder is not known');

foreach (
	[ 'INSERT INTO a VALUES (6000)',  'INSERT on table "public.a"' ],
	[ 'UPDATE a SET v = 1',           'UPDATE on table "public.a"' ],
	[ 'UPDATE a SET v = 1 WHERE false', 'UPDATE on table "public.a"' ],
	[ 'DELETE FROM a WHERE id = 1',   'DELETE on table "public.a"' ],
	[ 'MERGE INTO a USING b ON a.id = b.id WHEN MATCHED THEN UPDATE SET v = 1', 'MERGE on table "public.a"' ],
	[ 'INSERT INTO a VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET v = 2', 'INSERT on table "public.a"' ],
	[ 'WITH w AS (DELETE FROM a RETURNING *) SELECT * FROM w', 'SELECT on table "public.a"' ],
	[ 'WITH w AS (UPDATE a SET v = 1 RETURNING *) UPDATE b SET v = w.v FROM w WHERE b.id = w.id', 'UPDATE on table "public.a"' ],
	[ 'INSERT INTO va VALUES (6000)', 'INSERT on table "public.a"' ],
	[ 'DELETE FROM va',               'DELETE on table "public.a"' ],
	[ 'INSERT INTO vr VALUES (6000)', 'INSERT on table "public.a"' ],
	[ 'INSERT INTO vt VALUES (6000)', 'INSERT on table "public.a"' ],
	[ 'INSERT INTO triggered VALUES (6000)', 'INSERT on table "public.a"' ],
	[ 'INSERT INTO deferred VALUES (6000)', 'INSERT on table "public.a"' ],
	[ 'EXPLAIN ANALYZE INSERT INTO a VALUES (6000)', 'INSERT on table "public.a"' ],
	[ 'PREPARE q AS INSERT INTO a VALUES (6000); EXECUTE q', 'INSERT on table "public.a"' ],
	[ "COPY a FROM '$file'",          'COPY on table "public.a"' ],
	[ 'COPY (DELETE FROM a RETURNING id) TO STDOUT', 'DELETE on table "public.a"' ],
	[ 'SELECT * FROM a FOR UPDATE',   'SELECT FOR UPDATE on table "public.a"' ],
	[ 'SELECT * FROM a FOR NO KEY UPDATE', 'SELECT FOR NO KEY UPDATE on table "public.a"' ],
	[ 'SELECT * FROM a FOR SHARE',    'SELECT FOR SHARE on table "public.a"' ],
	[ 'SELECT * FROM b, va FOR UPDATE OF va', 'SELECT FOR UPDATE on table "public.a"' ],
	[ 'BEGIN; DECLARE c CURSOR FOR SELECT * FROM a FOR UPDATE', 'SELECT FOR UPDATE on table "public.a"' ],
	[ 'SELECT definer()',             'INSERT on table "public.a"' ],
	[ 'SET ROLE writer; INSERT INTO a VALUES (6000)', 'INSERT on table "public.a"' ],
	[ 'BEGIN READ WRITE; INSERT INTO a VALUES (6000)', 'INSERT on table "public.a"' ],
	[ 'DO $$ BEGIN COMMIT; INSERT INTO a VALUES (6000); END $$', 'INSERT on table "public.a"' ],
	[ 'TRUNCATE gone',                'TRUNCATE TABLE on table "public.gone"' ],
	[ 'TRUNCATE b, gone',             'TRUNCATE TABLE on table "public.gone"' ],
	[ 'TRUNCATE op CASCADE',          'TRUNCATE on table "public.fc"' ],
	[ 'TRUNCATE m',                   'TRUNCATE on table "public.m2"' ],
	[ 'DROP TABLE gone',              'DROP TABLE on table "public.gone"' ],
	[ 'DROP TABLE b, gone',           'DROP TABLE on table "public.gone"' ],
	[ 'DROP TABLE m',                 'DROP on table "public.m2"' ],
	[ 'DROP SCHEMA public CASCADE',   'DROP on table "public.\w+"' ],
	[ 'DROP OWNED BY writer CASCADE', 'DROP on table "public.\w+"' ],
	[ 'ALTER TABLE a ADD COLUMN w integer', 'ALTER TABLE on table "public.a"' ],
	[ 'ALTER TABLE a ALTER v TYPE bigint', 'ALTER TABLE on table "public.a"' ],
	[ 'ALTER TABLE a ENABLE ROW LEVEL SECURITY', 'ALTER TABLE on table "public.a"' ],
	[ 'ALTER TABLE a SET (fillfactor = 50)', 'ALTER TABLE on table "public.a"' ],
	[ 'ALTER TABLE a RENAME v TO w',  'ALTER TABLE on table "public.a"' ],
	[ 'ALTER TABLE m ADD COLUMN w integer', 'ALTER TABLE on table "public.m"' ],
	[ 'ALTER INDEX a_pkey SET (fillfactor = 50)', 'ALTER INDEX on table "public.a"' ],
	[ 'DROP INDEX a_pkey',            'DROP INDEX on table "public.a"' ],
	[ 'CREATE INDEX ON a (v)',        'CREATE INDEX on table "public.a"' ],
	[ 'CREATE INDEX CONCURRENTLY ON a (v)', 'CREATE INDEX on table "public.a"' ],
	[ 'CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW EXECUTE FUNCTION checked()', 'CREATE TRIGGER on table "public.a"' ],
	[ 'DROP TRIGGER mine ON a2',      'DROP TRIGGER on table "public.a2"' ],
	[ 'DROP FUNCTION checked() CASCADE', 'DROP on table "public.a2"' ],
	[ 'CREATE RULE t AS ON INSERT TO a DO ALSO NOTIFY x', 'CREATE RULE on table "public.a"' ],
	[ 'DROP RULE mine ON a2',         'DROP RULE on table "public.a2"' ],
	[ 'CREATE POLICY t ON a',         'CREATE POLICY on table "public.a"' ],
	[ 'ALTER POLICY mine ON a2 TO writer', 'ALTER POLICY on table "public.a2"' ],
	[ 'DROP POLICY mine ON a2',       'DROP POLICY on table "public.a2"' ],
	[ 'REFRESH MATERIALIZED VIEW mv', 'REFRESH MATERIALIZED VIEW on table "public.mv"' ],
	# partitions and children
	[ 'INSERT INTO p VALUES (1, 1)',  'INSERT on table "public.p"' ],
	[ 'INSERT INTO p1 VALUES (1, 1)', 'INSERT on table "public.p1"' ],
	[ 'INSERT INTO p21 VALUES (101, 1)', 'INSERT on table "public.p21"' ],
	[ 'UPDATE p SET v = 1',           'UPDATE on table "public.p"' ],
	[ "COPY p FROM '$file'",          'COPY on table "public.p"' ],
	[ 'TRUNCATE p21',                 'TRUNCATE TABLE on table "public.p21"' ],
	[ 'INSERT INTO m2 VALUES (101, 1)', 'INSERT on table "public.m2"' ],
	[ 'INSERT INTO d12 VALUES (60)',  'INSERT on table "public.d12"' ],
	[ 'INSERT INTO i11 VALUES (1)',   'INSERT on table "public.i11"' ],
	[ 'DELETE FROM ONLY i1',          'DELETE on table "public.i1"' ],
	[ 'ALTER TABLE p ATTACH PARTITION outside FOR VALUES FROM (200) TO (300)', 'ALTER TABLE on table "public.p"' ],
	[ 'ALTER TABLE p DETACH PARTITION p1', 'ALTER TABLE on table "public.p"' ],
	[ 'ALTER TABLE p2 DETACH PARTITION p21', 'ALTER TABLE on table "public.p2"' ],
	[ 'ALTER TABLE unfenced ATTACH PARTITION apart FOR VALUES FROM (200) TO (300)', 'ALTER TABLE on table "public.apart"' ],
	[ 'ALTER TABLE m DETACH PARTITION m2', 'ALTER TABLE on table "public.m"' ],
	[ 'ALTER TABLE raw INHERIT i1',   'ALTER TABLE on table "public.i1"' ],
	[ 'ALTER TABLE i1 NO INHERIT i',  'ALTER TABLE on table "public.i1"' ],
	[ 'CREATE TABLE made PARTITION OF p FOR VALUES FROM (200) TO (300)', 'CREATE TABLE on table "public.p"' ],
	[ 'CREATE TABLE made () INHERITS (i)', 'CREATE TABLE on table "public.i"' ],
	# foreign keys
	[ 'INSERT INTO fc VALUES (2)',    'INSERT on table "public.fc"' ],
	[ 'DELETE FROM fp WHERE id = 1',  'DELETE on table "public.fp"' ],
	[ 'DELETE FROM op WHERE id = 1',  'DELETE on table "public.fc"' ],
	[ 'UPDATE op SET id = 1000 WHERE id = 1', 'UPDATE on table "public.fc"' ],
	[ 'DELETE FROM op WHERE id = 99', 'DELETE on table "public.fc"' ],
	# a table of a protected name that is filled as it is made
	[ 'CREATE TABLE elsewhere AS SELECT 1', 'CREATE TABLE AS on a new table' ],
	[ 'SELECT 1 AS x INTO elsewhere', 'SELECT INTO on a new table' ],
	# what 17 and 18 brought
	$version < 17 ? () : (
	[ 'MERGE INTO a USING b ON a.id = b.id WHEN MATCHED THEN DELETE RETURNING merge_action(), a.id', 'MERGE on table "public.a"' ],
	[ 'MERGE INTO a USING b ON a.id = b.id WHEN NOT MATCHED BY SOURCE THEN DELETE', 'MERGE on table "public.a"' ],
	[ 'WITH w AS (MERGE INTO a USING b ON a.id = b.id WHEN MATCHED THEN DELETE RETURNING a.id) SELECT * FROM w', 'SELECT on table "public.a"' ],
	[ 'WITH w AS (MERGE INTO a USING b ON a.id = b.id WHEN MATCHED THEN DELETE RETURNING a.id) INSERT INTO raw SELECT * FROM w', 'INSERT on table "public.a"' ],
	[ 'COPY (MERGE INTO a USING b ON a.id = b.id WHEN MATCHED THEN DELETE RETURNING a.id) TO STDOUT', 'MERGE on table "public.a"' ],
	[ 'MERGE INTO va USING b ON va.id = b.id WHEN MATCHED THEN DELETE', 'MERGE on table "public.a"' ],
	[ 'MERGE INTO vt USING b ON false WHEN NOT MATCHED THEN INSERT VALUES (6000 + b.id, 1)', 'INSERT on table "public.a"' ],
	[ 'MERGE INTO p USING b ON p.id = b.id WHEN NOT MATCHED BY SOURCE THEN DELETE', 'MERGE on table "public.p"' ],
	[ "COPY a FROM '$file' (ON_ERROR ignore)", 'COPY on table "public.a"' ],
	[ 'ALTER TABLE a SET ACCESS METHOD DEFAULT', 'ALTER TABLE on table "public.a"' ]),
	$version < 18 ? () : (
	[ 'UPDATE a SET v = 1 RETURNING old.v, new.v', 'UPDATE on table "public.a"' ],
	[ 'INSERT INTO a VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET v = 2 RETURNING old.v', 'INSERT on table "public.a"' ],
	[ 'DELETE FROM va RETURNING old.*, new.*', 'DELETE on table "public.a"' ],
	[ 'UPDATE g SET v = 2', 'UPDATE on table "public.g"' ],
	[ 'ALTER TABLE a ADD COLUMN w integer GENERATED ALWAYS AS (v * 2) VIRTUAL', 'ALTER TABLE on table "public.a"' ],
	[ 'ALTER TABLE g ALTER twice SET EXPRESSION AS (v * 3)', 'ALTER TABLE on table "public.g"' ],
	[ 'ALTER TABLE a ADD CONSTRAINT n NOT NULL v NOT VALID', 'ALTER TABLE on table "public.a"' ],
	[ 'ALTER TABLE a ADD CONSTRAINT n CHECK (v > 0) NOT ENFORCED', 'ALTER TABLE on table "public.a"' ],
	[ 'ALTER TABLE fc ALTER CONSTRAINT fc_id_fkey NOT ENFORCED', 'ALTER TABLE on table "public.fc"' ],
	[ q{INSERT INTO tp VALUES ('[9,10)', '[2020-01-01,2030-01-01)')}, 'INSERT on table "public.tp"' ],
	[ q{DELETE FROM tp WHERE id = '[1,2)'}, 'DELETE on table "public.tp"' ],
	[ "COPY a FROM '$file' (ON_ERROR ignore, REJECT_LIMIT 1)", 'COPY on table "public.a"' ]),
) {
	my ($sql, $what) = @$_;
	$fence->refused($sql, qr/cannot execute $what: this node does not hold lease "[xyz]"/);
}
like(($fence->try('CREATE TABLE elsewhere AS SELECT 1'))[2], qr/^DETAIL:  This node takes no part in lease "z"\.$/m, 'a lease that this node takes no part in');
$fence->refused(q{SELECT fencetest.heap_insert('gone', 1)}, qr/cannot commit: this transaction wrote table "public\.gone" without lease "x"/,
	'C code that bypasses the executor');
is($node->safe_psql('postgres', 'SELECT caught()'), 'caught', 'an exception block does not help');
$fence->refused('BEGIN; SELECT caught(); SAVEPOINT q; ROLLBACK TO q; INSERT INTO a VALUES (6000)', qr/cannot execute INSERT/, 'nor does a savepoint');
my $unheld = sub { qr/cannot commit: this transaction wrote table "public\.$_[0]" while this node did not hold lease "y"/ };
$fence->refused('INSERT INTO m VALUES (102, 1)', $unheld->('m2'), 'a row that is routed into a protected partition');
$fence->refused('INSERT INTO d VALUES (1), (60)', $unheld->('d12'), 'one that is routed two levels down');
$fence->refused('UPDATE m SET id = 150 WHERE id = 1', $unheld->('m2'), 'a row that is moved there');
$fence->refused('UPDATE m SET v = 1', $unheld->('m2'), 'rows changed there by way of the parent');
$fence->refused("MERGE INTO m USING b ON m.id = b.id WHEN NOT MATCHED BY SOURCE THEN UPDATE SET v = 1 $_", $unheld->('m2'), "MERGE, the same $_")
  foreach $version >= 17 ? ('', 'RETURNING merge_action()') : ();
{
	my ($ret, $wout, $werr) = $node->psql('postgres', 'INSERT INTO a VALUES (6000)', replication => 'database');
	like($werr, qr/cannot execute INSERT on table "public\.a"/, 'refused: SQL in a walsender');
}
($code, $out, $err) = $fence->try('INSERT INTO far VALUES (1)', dbname => 'second');
like($err, qr/25006: cannot execute INSERT on table "public\.far"/, 'in another database');

# names: an error of their own
my $in_use = qr/ERROR:  55006: cannot rename, move or drop/;
fails('ALTER TABLE a RENAME TO c', $in_use);
fails('ALTER TABLE a SET SCHEMA other', $in_use);
fails('ALTER VIEW a RENAME TO c', $in_use);
fails('ALTER MATERIALIZED VIEW mv RENAME TO c', $in_use);
fails('ALTER SCHEMA public RENAME TO c', $in_use);
fails('ALTER DATABASE second RENAME TO c', $in_use);
fails('DROP DATABASE second', $in_use);
fails('SET leasehold.local_ddl = on; ALTER TABLE a RENAME TO c', $in_use);
like(($fence->try('ALTER TABLE a RENAME TO c'))[2], qr/HINT:  Call leasehold\.unprotect\(\) first/, 'with a hint');

ok($fence->dump_all eq $before, 'a dump shows no change') or diag_difference($before, $fence->dump_all);

sub diag_difference
{
	my %before = map { $_ => 1 } split /\n/, $_[0];
	diag(join "\n", grep { !$before{$_} } split /\n/, $_[1]);
	return;
}

# what must pass
foreach my $sql (
	'SELECT count(*) FROM a', 'INSERT INTO b VALUES (6000)', 'UPDATE b SET v = 2', 'UPDATE b SET v = 1 FROM a WHERE a.id = b.id',
	'MERGE INTO b USING a ON a.id = b.id WHEN MATCHED THEN UPDATE SET v = 3', 'DELETE FROM b WHERE id = 6000',
	'SELECT * FROM a FOR KEY SHARE', 'SELECT * FROM b FOR UPDATE', 'SELECT * FROM a, b FOR UPDATE OF b',
	'INSERT INTO fo VALUES (2)', 'BEGIN; LOCK TABLE a; COMMIT', 'EXPLAIN INSERT INTO a VALUES (6000)',
	'INSERT INTO m VALUES (2, 1)', 'INSERT INTO d VALUES (1)', 'INSERT INTO m1 VALUES (3, 1)', 'UPDATE m SET v = 1 WHERE id < 50', 'DELETE FROM m WHERE id = 3',
	'INSERT INTO op VALUES (200)',
	'INSERT INTO other.a VALUES (1)', 'COPY a TO STDOUT', "COPY b FROM '$file'", 'TRUNCATE raw',
	'VACUUM', 'VACUUM FULL a', 'ANALYZE', 'ANALYZE a', 'REINDEX TABLE a', 'REINDEX TABLE CONCURRENTLY a', 'CLUSTER a', 'CLUSTER', 'CHECKPOINT',
	'BEGIN; ANALYZE a; COMMIT', 'LISTEN x', 'NOTIFY x', q{SELECT nextval('s')}, q{SELECT setval('s', 10)}, 'SELECT lo_unlink(lo_create(0))',
	q{SELECT pg_notify('x', 'y')}, 'CREATE TABLE made (id integer); INSERT INTO made VALUES (1); ALTER TABLE made ADD v integer; CREATE INDEX ON made (v); DROP TABLE made',
	'CREATE TABLE made AS SELECT * FROM a; DROP TABLE made', 'CREATE TABLE made (id integer); ALTER TABLE made RENAME TO made2; DROP TABLE made2',
	'CREATE TABLE made (id integer REFERENCES fp); INSERT INTO made VALUES (1); DROP TABLE made',
	'CREATE TEMP TABLE a (id integer, v integer); INSERT INTO a VALUES (1); UPDATE a SET v = 2; TRUNCATE a; ALTER TABLE a ADD w integer; DROP TABLE a',
	'CREATE TEMP TABLE tmp (id integer) ON COMMIT DROP', 'CREATE TEMP TABLE a AS SELECT 1',
	'GRANT SELECT ON a TO writer', q{COMMENT ON TABLE a IS 'x'; COMMENT ON TABLE a IS NULL}, 'CREATE PUBLICATION pub FOR TABLE a; DROP PUBLICATION pub',
	q{BEGIN; INSERT INTO b VALUES (6001); PREPARE TRANSACTION 'x'}, q{COMMIT PREPARED 'x'},
	q{BEGIN; INSERT INTO b VALUES (6002); PREPARE TRANSACTION 'x'}, q{ROLLBACK PREPARED 'x'},
	'CREATE DATABASE third', 'DROP DATABASE third', 'CREATE ROLE third; DROP ROLE third', 'DISCARD ALL',
	'BEGIN; DECLARE c CURSOR FOR SELECT * FROM a; FETCH 10 FROM c; COMMIT', 'CREATE SUBSCRIPTION sub CONNECTION \'\' PUBLICATION p WITH (connect = false)',
	'ALTER SUBSCRIPTION sub SET (slot_name = NONE); DROP SUBSCRIPTION sub',
	$version < 17 ? () : (
	'MERGE INTO b USING a ON a.id = b.id WHEN MATCHED THEN UPDATE SET v = 3 WHEN NOT MATCHED BY SOURCE THEN DELETE RETURNING merge_action(), a.v',
	'WITH w AS (MERGE INTO b USING a ON a.id = b.id WHEN MATCHED THEN UPDATE SET v = a.v RETURNING b.id) SELECT * FROM w, a WHERE a.id = w.id',
	'MERGE INTO m USING b ON m.id = b.id WHEN MATCHED THEN UPDATE SET v = 1',
	"COPY b FROM '$file' (ON_ERROR ignore)", 'SET transaction_timeout = 10000; INSERT INTO b VALUES (6003)',
	q{CREATE SUBSCRIPTION sub CONNECTION '' PUBLICATION p WITH (connect = false, origin = none, run_as_owner = true, failover = true, two_phase = true)},
	'ALTER SUBSCRIPTION sub SET (slot_name = NONE); DROP SUBSCRIPTION sub'),
	$version < 18 ? () : (
	'UPDATE b SET v = 4 RETURNING old.v, new.v', 'SELECT twice FROM g', 'ANALYZE ONLY p', 'VACUUM ONLY p', 'COPY mv TO STDOUT',
	q{INSERT INTO tc VALUES ('[1,2)', '[2021-01-01,2022-01-01)')},
	q{SELECT pg_restore_relation_stats('schemaname', 'public', 'relname', 'a', 'relpages', 1)}, q{SELECT pg_clear_attribute_stats('public', 'a', 'v', false)}))
{
	$fence->allowed($sql);
}
is($node->safe_psql('second', 'INSERT INTO a VALUES (1) RETURNING id'), "1", 'the same name in another database');
is($node->safe_psql('empty', 'CREATE TABLE a (id integer); INSERT INTO a VALUES (1) RETURNING id'), "1", 'a database without protected tables');
is($node->safe_psql('postgres', 'SHOW default_transaction_read_only'), 'off', 'still no signal');
is($node->safe_psql('postgres', 'BEGIN; SELECT 1; SHOW transaction_read_only; COMMIT'), "1\noff", 'and transactions are not read-only');

# local_ddl: schema, and nothing else
$fence->allowed('SET leasehold.local_ddl = on; ALTER TABLE a ADD COLUMN w integer; CREATE INDEX w ON a (w); ALTER TABLE a DROP COLUMN w', 'local_ddl: schema changes');
$fence->refused('SET leasehold.local_ddl = on; INSERT INTO a VALUES (6000)', qr/cannot execute INSERT/, 'local_ddl: no rows');
$fence->refused('SET leasehold.local_ddl = on; TRUNCATE a', qr/cannot execute TRUNCATE/, 'local_ddl: no TRUNCATE');
like(slurp_file($node->logfile), qr/letting ALTER TABLE through on a node without its lease/, 'local_ddl is logged');

# ---------------------------------------------------------------------------
# With the leases
# ---------------------------------------------------------------------------

take('x');
foreach my $sql (
	'INSERT INTO a VALUES (6000)', 'UPDATE a SET v = 1', 'MERGE INTO a USING b ON a.id = b.id WHEN MATCHED THEN UPDATE SET v = 1',
	'INSERT INTO va VALUES (6001)', 'INSERT INTO vr VALUES (6002)', 'INSERT INTO vt VALUES (6003)', 'INSERT INTO triggered VALUES (6004)',
	'INSERT INTO deferred VALUES (6005)', 'WITH w AS (UPDATE a SET v = 2 RETURNING *) UPDATE b SET v = w.v FROM w WHERE b.id = w.id',
	"COPY a FROM '$file'", 'SELECT * FROM a FOR UPDATE', 'TRUNCATE gone', 'INSERT INTO p VALUES (1, 1), (101, 1)', 'UPDATE p SET id = 102 WHERE id = 1',
	'INSERT INTO p21 VALUES (103, 1)', 'INSERT INTO i11 VALUES (1)', 'UPDATE i SET id = 2', 'DELETE FROM fp WHERE id = 2', 'INSERT INTO fo VALUES (3)',
	'ALTER TABLE a ADD COLUMN w integer DEFAULT 7', 'ALTER TABLE a ALTER w TYPE bigint', 'CREATE INDEX CONCURRENTLY w ON a (w)', 'ALTER TABLE a DROP COLUMN w',
	'REFRESH MATERIALIZED VIEW mv', 'ALTER TABLE p ATTACH PARTITION outside FOR VALUES FROM (200) TO (300)', 'INSERT INTO outside VALUES (201)',
	'ALTER TABLE p DETACH PARTITION outside', 'BEGIN; INSERT INTO a VALUES (6006); SAVEPOINT q; DELETE FROM a WHERE id > 6000; ROLLBACK TO q; COMMIT',
	'CALL committing()', 'SELECT slow_loop(0)', 'BEGIN; INSERT INTO a VALUES (6007); INSERT INTO b VALUES (6007); COMMIT', 'DELETE FROM a WHERE id > 100',
	$version < 17 ? () : (
	'MERGE INTO a USING b ON a.id = b.id WHEN MATCHED THEN UPDATE SET v = 1 WHEN NOT MATCHED BY SOURCE THEN UPDATE SET v = 2 RETURNING merge_action(), a.id',
	'WITH w AS (MERGE INTO va USING b ON va.id = b.id WHEN MATCHED THEN UPDATE SET v = 3 RETURNING va.id) SELECT * FROM w'),
	$version < 18 ? () : (
	'UPDATE a SET v = 1 RETURNING old.v, new.v', 'UPDATE g SET v = 2 RETURNING old.twice, new.twice', 'ALTER TABLE g ALTER twice SET EXPRESSION AS (v * 3)',
	q{DELETE FROM tp WHERE id = '[2,3)'}))
{
	$fence->allowed($sql, "held: $sql");
}
$fence->refused('WITH w AS (INSERT INTO a VALUES (6100)) INSERT INTO a2 VALUES (6100)', qr/on table "public\.a2": $without_y/, 'one lease is not enough for two');
$fence->refused('ALTER TABLE m2 INHERIT i', qr/this node does not hold lease "y"/, 'nor for the two sides of INHERIT');
fails(q{BEGIN; INSERT INTO a VALUES (6100); PREPARE TRANSACTION 'x'}, qr/ERROR:  0A000: cannot PREPARE a transaction that has written table "public\.a"/);
fails(q{BEGIN; INSERT INTO deferred VALUES (6100); PREPARE TRANSACTION 'x'}, qr/ERROR:  0A000: cannot PREPARE a transaction that has written table "public\.a"/);
fails(q{SELECT fencetest.heap_insert('gone', 1)}, qr/cannot commit: this transaction wrote table "public\.gone" without lease "x".*was not written by a statement/s,
	'C code is refused with the lease, too');
is($node->safe_psql('postgres', 'SELECT count(*), max(id) FROM a'), '100|100', 'nothing else is left of it');

take('y');
foreach my $sql (
	'INSERT INTO m VALUES (102, 1)', 'UPDATE m SET id = 151 WHERE id = 2', 'DELETE FROM op WHERE id = 1', 'INSERT INTO fc VALUES (5)',
	'INSERT INTO m1 VALUES (5, 1)', 'INSERT INTO d VALUES (1), (60)', 'WITH w AS (INSERT INTO a VALUES (6100)) INSERT INTO a2 VALUES (6100)')
{
	$fence->allowed($sql, "both held: $sql");
}

# ---------------------------------------------------------------------------
# Names that come and go
# ---------------------------------------------------------------------------

lose('y');
$fence->allowed('CREATE TABLE c (id integer); CREATE TABLE c1 () INHERITS (c); CREATE TABLE c11 () INHERITS (c1)');
{
	my $session = $fence->session;
	is($session->query('INSERT INTO c11 VALUES (1)'), 'C:INSERT 0 1 Z', 'a session writes a grandchild');
	$fence->allowed('ALTER TABLE c INHERIT i');
	lose('x');
	is($session->query('INSERT INTO c11 VALUES (2)'), 'E:25006 Z', 'which has a protected ancestor since');
	is($session->error, 'cannot execute INSERT on table "public.c11": this node does not hold lease "x"', 'and says so');
	take('x');
	$fence->allowed('ALTER TABLE c NO INHERIT i');
	lose('x');
	is($session->query('INSERT INTO c11 VALUES (3)'), 'C:INSERT 0 1 Z', 'and no more');
	take('x');
	$session->query($_) foreach 'BEGIN', 'INSERT INTO c11 VALUES (4)';
	$fence->allowed('ALTER TABLE c INHERIT i', 'its parent gets one while it is being written');
	is($session->query('COMMIT'), 'E:25006 Z', 'which is found out at its commit');
	is($session->error, 'cannot commit: this transaction wrote table "public.c11" without lease "x"', 'and said');
	$fence->allowed('ALTER TABLE c NO INHERIT i');
	# a table that is part of another one may come to need more than its own lease
	protect('c11', 'y');
	take('y');
	$session->query($_) foreach 'BEGIN', 'INSERT INTO c11 VALUES (5)';
	$fence->allowed('ALTER TABLE c INHERIT i', 'the same with a lease of its own');
	is($session->query('COMMIT'), 'E:25006 Z', 'which does not do');
	is($session->error, 'cannot commit: this transaction wrote table "public.c11" without lease "x"', 'as is said');
	$fence->allowed('ALTER TABLE c NO INHERIT i');
	lose('y');
	unprotect('c11');
	$session->disconnect;
}
{
	my $session = $fence->session;
	is($session->query('INSERT INTO outside VALUES (1)'), 'C:INSERT 0 1 Z', 'a table of another name');
	$fence->allowed('ALTER TABLE outside RENAME TO elsewhere');
	is($session->query('INSERT INTO elsewhere VALUES (1)'), 'E:25006 Z', 'is protected under the new one');
	unprotect('elsewhere');
	is($session->query('INSERT INTO elsewhere VALUES (1)'), 'C:INSERT 0 1 Z', 'until that is not');
	take('x');
	is($session->query('DROP TABLE gone'), 'C:DROP TABLE Z', 'a protected table is dropped');
	lose('x');
	is($session->query('CREATE TABLE gone (id integer)'), 'C:CREATE TABLE Z', 'made again');
	is($session->query('INSERT INTO gone VALUES (1)'), 'E:25006 Z', 'and protected again');
	$session->disconnect;
}

# ---------------------------------------------------------------------------
# Across the loss of a lease
# ---------------------------------------------------------------------------

# How a transaction goes on: SQL before the loss, what happens, SQL after it.
sub across
{
	my ($name, $first, $event, $then, $expected, $error) = @_;
	take('x');
	take('y');
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

my $write   = 'UPDATE a SET v = v + 1 WHERE id = 1';
my $refused = qr/E:25006 Z$/;
my $lost    = qr/cannot commit: lease "x" of table "public\.a" was lost during this transaction/;
my $lose    = sub { lose('x') };
my $retake  = sub { take_again('x') };
my $expire  = sub { $fence->call(q{reopen_table('x', 1)}); usleep(50_000) };
my $lose_y  = sub { lose('y') };

across('COMMIT of an earlier write', [ 'BEGIN', $write ], $lose, 'COMMIT', $refused, $lost);
across('... with nobody to close the fence', [ 'BEGIN', $write ], $expire, 'COMMIT', $refused, $lost);
across('lost and taken again', [ 'BEGIN', $write ], $retake, 'COMMIT', $refused, $lost);
across('... and another statement', [ 'BEGIN', $write ], $retake, 'UPDATE a SET v = 1', $refused, qr/cannot execute UPDATE on table "public\.a": this transaction has seen this node without lease "x"/);
across('another lease is lost', [ 'BEGIN', $write ], $lose_y, 'COMMIT', qr/^C:COMMIT Z$/);
across('one of two is lost', [ 'BEGIN', $write, 'INSERT INTO a2 VALUES (8000)' ], $lose_y, 'COMMIT', $refused, qr/cannot commit: lease "y" of table "public\.a2"/);
across('FOR UPDATE cursor opened earlier', [ 'BEGIN', 'DECLARE c CURSOR FOR SELECT id FROM a FOR UPDATE', 'FETCH 1 FROM c' ], $lose, 'FETCH 1 FROM c', $refused);
across('a cursor, WHERE CURRENT OF', [ 'BEGIN', 'DECLARE c CURSOR FOR SELECT id FROM a', 'FETCH 1 FROM c' ], $lose, 'DELETE FROM a WHERE CURRENT OF c', $refused);
across('EXECUTE of a plan prepared earlier', [ "PREPARE q AS $write", 'PREPARE g AS UPDATE a SET v = 1 WHERE id = 1', ('EXECUTE g') x 7 ], $lose, 'EXECUTE g', $refused);
across('a deferred trigger', [ 'BEGIN', 'INSERT INTO deferred VALUES (8000, 1)' ], $lose, 'COMMIT', $refused, qr/cannot execute INSERT on table "public\.a"/);
across('a row routed while it was held', [ 'BEGIN', 'INSERT INTO m VALUES (170, 1)' ], $lose_y, 'COMMIT', $refused, qr/cannot commit: lease "y" of table "public\.m2" was lost/);
across('a row that went elsewhere', [ 'BEGIN', 'INSERT INTO m VALUES (70, 1)' ], $lose_y, 'COMMIT', qr/^C:COMMIT Z$/);
across('a cascade', [ 'BEGIN', 'DELETE FROM op WHERE id = 5' ], $lose_y, 'COMMIT', $refused, qr/lease "y" of table "public\.fc" was lost/);
across('TRUNCATE', [ 'BEGIN', 'TRUNCATE gone' ], $lose, 'COMMIT', $refused, qr/lease "x" of table "public\.gone" was lost/);
across('DROP TABLE', [ 'BEGIN', 'DROP TABLE gone' ], $lose, 'COMMIT', $refused, qr/lease "x" of a table that has been dropped was lost/);
across('ALTER TABLE', [ 'BEGIN', 'ALTER TABLE a ADD w integer' ], $lose, 'COMMIT', $refused, $lost);
across('a write rolled back to a savepoint', [ 'BEGIN', 'SAVEPOINT q', $write, 'ROLLBACK TO q' ], $lose, 'COMMIT', $refused, $lost);
across('only read', [ 'BEGIN', 'SELECT * FROM a' ], $lose, 'COMMIT', qr/^C:COMMIT Z$/);
across('only another table written', [ 'BEGIN', 'UPDATE b SET v = 9 WHERE id = 1', 'SELECT * FROM a FOR KEY SHARE' ], $lose, 'COMMIT', qr/^C:COMMIT Z$/);
if ($version >= 17)
{
	my $merge = 'MERGE INTO a USING (VALUES (1)) AS s (id) ON a.id = s.id WHEN MATCHED THEN UPDATE SET v = a.v + 1 RETURNING a.id';
	across('MERGE RETURNING', [ 'BEGIN', $merge ], $lose, 'COMMIT', $refused, $lost);
	across('... read by a cursor opened earlier', [ 'BEGIN', "CREATE FUNCTION pg_temp.f() RETURNS SETOF integer LANGUAGE sql AS '$merge'", 'DECLARE c CURSOR FOR SELECT * FROM pg_temp.f()' ],
		$lose, 'FETCH 1 FROM c', $refused, qr/cannot execute MERGE on table "public\.a"/);
	across('a row merged where it was held', [ 'BEGIN', 'MERGE INTO m USING (VALUES (171)) AS s (id) ON m.id = s.id WHEN NOT MATCHED THEN INSERT VALUES (s.id, 1)' ],
		$lose_y, 'COMMIT', $refused, qr/cannot commit: lease "y" of table "public\.m2" was lost/);
}
across('COPY', [ 'BEGIN', "COPY a FROM '$file'" ], $lose, 'COMMIT', $refused, $lost);
{
	take('x', 700);
	my $session = $fence->session;
	is($session->query('SELECT slow_loop(1)'), 'T D: E:25006 Z', 'a function that outlives the deadline') or diag($session->error);
	$session->disconnect;
}
# a portal of the extended protocol, half executed
{
	take('x');
	my $session = $fence->session;
	$session->query('BEGIN');
	$session->send(P => "\0SELECT id FROM a FOR UPDATE\0" . pack('n', 0), B => "p\0\0" . pack('n n n', 0, 0, 0),
		E => "p\0" . pack('N', 1), S => '');
	like($session->until_ready, qr/^1 2 D:\d+ s Z$/, 'a portal is suspended');
	lose('x');
	$session->send(E => "p\0" . pack('N', 1), S => '');
	is($session->until_ready, 'E:25006 Z', 'a portal half executed');
	$session->disconnect;
}

# ---------------------------------------------------------------------------
# Across the moment in which a table comes under a lease
# ---------------------------------------------------------------------------

my $cover = sub { protect('b', 'y') };
my $came  = qr/cannot commit: this transaction wrote table "public\.b" without lease "y"/;

# Like across(); the lease is held or not, the table was written without it.
sub covered
{
	my ($name, $held, @how) = @_;
	unprotect('b');
	my $event = sub { lose('y') unless $held; $cover->() };
	across("$name, lease " . ($held ? 'held' : 'not held'), shift @how, $event, @how);
	return;
}
foreach my $held (0, 1)
{
	covered('written before', $held, [ 'BEGIN', 'UPDATE b SET v = 10 WHERE id = 1' ], 'COMMIT', $refused, $came);
	covered('written before, by a subtransaction', $held, [ 'BEGIN', 'SAVEPOINT q', 'UPDATE b SET v = 10 WHERE id = 1', 'RELEASE q' ], 'COMMIT', $refused, $came);
	covered('written before, rolled back', $held, [ 'BEGIN', 'SAVEPOINT q', 'UPDATE b SET v = 10 WHERE id = 1', 'ROLLBACK TO q' ], 'COMMIT', qr/^C:COMMIT Z$/);
	covered('TRUNCATE before', $held, [ 'BEGIN', 'TRUNCATE b' ], 'COMMIT', $refused, $came);
	covered('a FOR UPDATE cursor opened before', $held, [ 'BEGIN', 'DECLARE c CURSOR FOR SELECT id FROM b FOR UPDATE', 'FETCH 1 FROM c' ], 'FETCH 1 FROM c',
		$held ? qr/^T D:\d+ C:FETCH 1 Z$/ : $refused);
	covered('a generic plan cached before', $held, [ 'PREPARE g AS UPDATE b SET v = 1 WHERE id = 1', ('EXECUTE g') x 7 ], 'EXECUTE g',
		$held ? qr/^C:UPDATE 1 Z$/ : $refused);
	covered('PREPARE TRANSACTION', $held, [ 'BEGIN', 'UPDATE b SET v = 10 WHERE id = 1' ], q{PREPARE TRANSACTION 'x'}, $refused, $came);
	covered('read before', $held, [ 'BEGIN', 'SELECT * FROM b' ], 'COMMIT', qr/^C:COMMIT Z$/);
	covered('another written before', $held, [ 'BEGIN', 'INSERT INTO raw VALUES (1)' ], 'COMMIT', qr/^C:COMMIT Z$/);
	covered('COMMIT PREPARED', $held, [ 'BEGIN', 'UPDATE b SET v = 10 WHERE id = 1', q{PREPARE TRANSACTION 'x'} ], q{COMMIT PREPARED 'x'}, $refused,
		qr/transaction "x" may have written table "public\.b" before it was protected/);
	$fence->allowed(q{ROLLBACK PREPARED 'x'});
	covered('COMMIT PREPARED of another table', $held, [ 'BEGIN', 'INSERT INTO raw VALUES (1)', q{PREPARE TRANSACTION 'x'} ], q{COMMIT PREPARED 'x'}, qr/^C:COMMIT PREPARED Z$/);
}

# The schema of a table, changed by a transaction that began before that came under
# the lease: nothing is counted then.  Who holds the lease may go on.
my $altered = qr/cannot commit: this transaction has altered or dropped table "public\.b" without lease "y"/;
my $passes  = qr/^C:COMMIT Z$/;
foreach my $held (0, 1)
{
	my @told = $held ? $passes : ($refused, $altered);
	covered('ALTER TABLE before', $held, [ 'BEGIN', "ALTER TABLE b SET (fillfactor = 9$held)" ], 'COMMIT', @told);
	covered('ADD COLUMN before, by a subtransaction', $held, [ 'BEGIN', 'SAVEPOINT q', "ALTER TABLE b ADD w$held integer", 'RELEASE q' ], 'COMMIT', @told);
	covered('CREATE INDEX before', $held, [ 'BEGIN', 'CREATE INDEX ON b (v)' ], 'COMMIT', @told);
	covered('CREATE TRIGGER before', $held, [ 'BEGIN', "CREATE TRIGGER t$held BEFORE INSERT ON b FOR EACH ROW EXECUTE FUNCTION checked()" ], 'COMMIT', @told);
	covered('ALTER TABLE before, rolled back', $held, [ 'BEGIN', 'SAVEPOINT q', 'ALTER TABLE b ADD w integer', 'ROLLBACK TO q' ], 'COMMIT', $passes);
	covered('ALTER of another table before', $held, [ 'BEGIN', "ALTER TABLE raw SET (fillfactor = 9$held)" ], 'COMMIT', $passes);
	covered('REINDEX before', $held, [ 'BEGIN', 'REINDEX TABLE b' ], 'COMMIT', $passes);
	covered('LOCK TABLE before', $held, [ 'BEGIN', 'LOCK TABLE b' ], 'COMMIT', $passes);
	covered('ALTER TABLE before, with local_ddl', $held, [ 'SET leasehold.local_ddl = on', 'BEGIN', "ALTER TABLE b SET (fillfactor = 8$held)" ], 'COMMIT', $passes);
	covered('ALTER TABLE before, to be prepared', $held, [ 'BEGIN', 'ALTER TABLE b SET (fillfactor = 70)' ], q{PREPARE TRANSACTION 'x'},
		$held ? (qr/E:0A000 Z$/, qr/cannot PREPARE a transaction that has written table "public\.b"/) : ($refused, $altered));
}
covered('ALTER TABLE before, the lease is lost in between', 1, [ 'BEGIN', 'ALTER TABLE b SET (fillfactor = 70)' ],
	[ 'SELECT * FROM b FOR UPDATE', q{SELECT fencetest.close_table('y')}, 'COMMIT' ], $refused, qr/cannot commit: lease "y" of table "public\.b" was lost/);
covered('RENAME before', 0, [ 'BEGIN', 'ALTER TABLE b RENAME TO renamed' ], 'COMMIT', $refused, $altered);
covered('DROP TABLE before', 0, [ 'BEGIN', 'DROP TABLE b CASCADE' ], 'COMMIT', $refused, $altered);
$node->safe_psql('postgres', <<'SQL');
CREATE SCHEMA short;
CREATE TABLE short.lived (id integer) PARTITION BY RANGE (id);
CREATE TABLE short.part PARTITION OF short.lived FOR VALUES FROM (0) TO (100);
SQL
foreach my $held (0, 1)
{
	my $cover_short = sub { lose('y') unless $held; protect('short.lived', 'y') };
	foreach (
		[ 'ALTER TABLE short.part SET (fillfactor = 50)',   'part' ],
		[ 'ALTER TABLE short.lived ADD w integer',          'lived' ],
		[ 'ALTER TABLE short.lived DETACH PARTITION short.part', 'lived' ],
		[ 'DROP TABLE short.part',                          'part' ],
		[ 'DROP SCHEMA short CASCADE',                      '\w+' ])
	{
		my ($sql, $table) = @$_;
		unprotect('short.lived');
		# what commits is made only once
		next if $held && $sql !~ /SCHEMA/;
		across("$sql, lease " . ($held ? 'held' : 'not held'), [ 'BEGIN', $sql ], $cover_short, 'COMMIT',
			$held ? $passes : ($refused, qr/has altered or dropped table "short\.$table" without lease "y"/));
	}
}
unprotect('short.lived');
unprotect('b');

# writers at work while a table comes under a lease that is not held
{
	my @sessions = map { $fence->session } 1 .. 4;
	lose('y');
	foreach my $i (0 .. $#sessions)
	{
		$sessions[$i]->query($_) foreach 'BEGIN', "INSERT INTO b VALUES (@{[ 9000 + $i ]}, 1)";
	}
	$cover->();
	my $count = $node->safe_psql('postgres', 'SELECT count(*) FROM b');
	is($_->query('COMMIT'), 'E:25006 Z', 'a writer that was at work') foreach @sessions;
	is($_->query('INSERT INTO b VALUES (9100, 1)'), 'E:25006 Z', 'does not write again') foreach @sessions;
	is($node->safe_psql('postgres', 'SELECT count(*) FROM b'), $count, 'not a row has come since');
	$_->disconnect foreach @sessions;
	unprotect('b');
}

# ---------------------------------------------------------------------------
# The list cannot be read
# ---------------------------------------------------------------------------

$fence->call('unknown(true)');
foreach my $sql ('INSERT INTO b VALUES (9200)', 'UPDATE a SET v = 1', 'TRUNCATE raw', 'ALTER TABLE b ADD w integer', "COPY b FROM '$file'")
{
	$fence->refused($sql, qr/cannot execute .* on table "public\.\w+": the list of protected tables could not be read/, "list unknown: $sql");
}
like(($fence->try('INSERT INTO b VALUES (9200)'))[2], qr/DETAIL:  File "leasehold\.tables" of the data directory cannot be read/, 'the file is named');
$fence->refused(q{SELECT fencetest.heap_insert('raw', 1)}, qr/cannot commit: .*the list of protected tables could not be read/, 'list unknown: C code');
$fence->allowed($_, "list unknown: $_") foreach 'SELECT count(*) FROM a', 'CREATE TEMP TABLE tmp AS SELECT 1; INSERT INTO tmp VALUES (2)', 'VACUUM FULL b', 'ANALYZE', 'REINDEX TABLE b', q{SELECT nextval('s')};
$fence->call('unknown(false)');
$fence->allowed('INSERT INTO b VALUES (9200)', 'and once it can be read');

# ---------------------------------------------------------------------------
# Without the server's counts
# ---------------------------------------------------------------------------

$node->append_conf('postgresql.conf', 'track_counts = off');
$node->reload;
ok($node->poll_query_until('postgres', q{SELECT current_setting('track_counts') = 'off'}), 'track_counts = off');
across('no counts: COMMIT of an earlier write', [ 'BEGIN', $write ], $lose, 'COMMIT', $refused, $lost);
across('no counts: a parent of a protected partition', [ 'BEGIN', 'INSERT INTO m VALUES (71, 1)' ], $lose_y, 'COMMIT', $refused, qr/cannot commit: lease "y"/);
across('no counts: another table', [ 'BEGIN', 'INSERT INTO raw VALUES (1)' ], $lose, 'COMMIT', qr/^C:COMMIT Z$/);
covered('no counts: written before', 1, [ 'BEGIN', 'UPDATE b SET v = 10 WHERE id = 1' ], 'COMMIT', $refused, qr/cannot commit: the list of protected tables has changed during this transaction/);
covered('no counts: read before', 1, [ 'BEGIN', 'SELECT * FROM b' ], 'COMMIT', qr/^C:COMMIT Z$/);
unprotect('b');
take('x');
$fence->allowed($_, "no counts: $_") foreach 'INSERT INTO b VALUES (9201)', 'UPDATE a SET v = 1', 'VACUUM FULL b', 'ANALYZE', 'SELECT txid_current()',
	'CREATE INDEX CONCURRENTLY cic ON b (v)', 'CALL committing()', 'CREATE TEMP TABLE tmp AS SELECT 1; INSERT INTO tmp VALUES (2)';
$node->append_conf('postgresql.conf', 'track_counts = on');
$node->reload;
ok($node->poll_query_until('postgres', q{SELECT current_setting('track_counts') = 'on'}), 'track_counts = on');

# ---------------------------------------------------------------------------
# Modes
# ---------------------------------------------------------------------------

lose('x');
lose('y');
$node->append_conf('postgresql.conf', "leasehold.fence = 'warn'");
$node->reload;
ok($node->poll_query_until('postgres', q{SELECT current_setting('leasehold.fence') = 'warn'}), 'warn mode');
my $offset = -s $node->logfile;
$fence->allowed('INSERT INTO a VALUES (9001)', 'warn: a write passes');
my $log = slurp_file($node->logfile, $offset);
is(scalar(() = $log =~ /would have/g), 1, 'warn: logged once') or diag($log);
like($log, qr/would have refused INSERT on table "public\.a": this node does not hold lease "x"/, 'warn: what would have been refused');
$offset = -s $node->logfile;
$fence->allowed('INSERT INTO m VALUES (180, 1)', 'warn: a row that is routed');
like(slurp_file($node->logfile, $offset), qr/would have refused to commit: table "public\.m2" was written without lease "y"/, 'warn: that, too');
$node->append_conf('postgresql.conf', "leasehold.fence = 'off'");
$node->reload;
ok($node->poll_query_until('postgres', q{SELECT current_setting('leasehold.fence') = 'off'}), 'off mode');
$offset = -s $node->logfile;
$fence->allowed('INSERT INTO a VALUES (9002)', 'off: a write passes');
unlike(slurp_file($node->logfile, $offset), qr/would have/, 'off: silently');

# ---------------------------------------------------------------------------
# Slots: a lease keeps the one that it was given
# ---------------------------------------------------------------------------

my $slots = q{SELECT string_agg(slot::text, ' ') FROM (SELECT fencetest.slot('lease ' || i) AS slot FROM generate_series(3, 66) i) s};
is($node->safe_psql('postgres', $slots), join(' ', (2 .. 63), -1, -1), 'each lease has one of its own, as long as there are any');
is($node->safe_psql('postgres', $slots), join(' ', (2 .. 63), -1, -1), '... and finds it again');
is($fence->call("slot('x')") . $fence->call("slot('y')"), '01', '... and so do the first ones');

$fence->stop;
done_testing();
