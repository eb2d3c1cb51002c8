# A fenced node keeps no trace of what users send; one that holds its lease
# behaves as if the library were not there.
#
# The first: everything a user can think of is sent to a fenced node, through
# each way that the protocol offers.  Before and after, a dump must be the same,
# and the WAL in between may contain only what a server writes on its own account
# (checkpoints, running transactions, pruning, hint bits) or what maintenance is
# allowed to: no row of a user's table, no commit of a user's transaction.  A dump
# alone would not do: it does not show a rolled back write, a message in the WAL,
# or a sequence that was put back.
#
# The second: one script, run on a plain server and on one that is governed and
# holds its lease, must print the same, errors and all.

use strict;
use warnings;

use LeaseholdTest;
use LeaseholdWire;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# ---------------------------------------------------------------------------
# A node that will never hold its lease: another one does
# ---------------------------------------------------------------------------
my $group = LeaseholdTest->new(
	nodes => [ 'a', 'b' ], ttl => '3s', governed => 0,
	conf => "leasehold.health_timeout = '20s'\nautovacuum = off\ntrack_commit_timestamp = off\n"
	  # every full_page_image names a block that something has changed: not of interest here
	  . "full_page_writes = off\nwal_keep_size = '1GB'");
my ($a, $b) = $group->nodes;

my $setup = q{
	CREATE TABLE t (id int PRIMARY KEY, v text, n int DEFAULT 0);
	INSERT INTO t SELECT g, 'old', g FROM generate_series(1, 200) g;
	CREATE TABLE child (id int REFERENCES t ON DELETE CASCADE ON UPDATE CASCADE);
	INSERT INTO child SELECT g FROM generate_series(1, 50) g;
	CREATE TABLE part (k int) PARTITION BY RANGE (k);
	CREATE TABLE part1 PARTITION OF part FOR VALUES FROM (0) TO (100);
	INSERT INTO part SELECT generate_series(1, 10);
	CREATE UNLOGGED TABLE unlogged (i int);
	INSERT INTO unlogged VALUES (1);
	CREATE SEQUENCE s;
	SELECT nextval('s');
	CREATE SEQUENCE cached CACHE 100;
	CREATE VIEW updatable AS SELECT * FROM t;
	CREATE MATERIALIZED VIEW m AS SELECT count(*) FROM t;
	CREATE TABLE ser (id serial, v text);
	CREATE TYPE mood AS ENUM ('sad', 'ok');
	CREATE FUNCTION writes(i int) RETURNS int LANGUAGE sql AS
		'INSERT INTO t VALUES ($1, ''f''); SELECT 1';
	CREATE FUNCTION writes_plpgsql(i int) RETURNS int LANGUAGE plpgsql SECURITY DEFINER AS
		'BEGIN UPDATE t SET v = ''f'' WHERE id = i; RETURN 1; END';
	CREATE FUNCTION hides(i int) RETURNS int LANGUAGE plpgsql AS
		'BEGIN BEGIN PERFORM set_config(''transaction_read_only'', ''off'', true);
		 UPDATE t SET v = ''f'' WHERE id = i; EXCEPTION WHEN OTHERS THEN NULL; END; RETURN 1; END';
	CREATE FUNCTION assigns() RETURNS int LANGUAGE plpgsql AS
		'DECLARE x oid; BEGIN x := lo_create(0); RETURN 1; END';
	CREATE FUNCTION next_assigns() RETURNS int LANGUAGE plpgsql AS
		'DECLARE x bigint; BEGIN x := nextval(''s''); RETURN 1; END';
	CREATE PROCEDURE proc() LANGUAGE plpgsql AS
		'BEGIN INSERT INTO t VALUES (5000, ''p''); COMMIT; INSERT INTO t VALUES (5001, ''p''); COMMIT; END';
	CREATE FUNCTION on_write() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
	CREATE TRIGGER trg BEFORE INSERT ON ser FOR EACH ROW EXECUTE FUNCTION on_write();
	CREATE RULE rewrite AS ON INSERT TO unlogged DO ALSO INSERT INTO ser (v) VALUES ('r');
	CREATE ROLE some_role;
	CREATE PUBLICATION pub FOR TABLE t;
	SELECT lo_from_bytea(4711, 'large object');
	CREATE INDEX ON t (v);
	CREATE TABLE clustered (i int PRIMARY KEY);
	INSERT INTO clustered VALUES (2), (1);
	CLUSTER clustered USING clustered_pkey;
	CREATE EXTENSION dblink;
	CREATE EXTENSION pgstattuple;
};
$b->safe_psql('postgres', $setup);
# in a table of its own, since it keeps its locks
$b->safe_psql('postgres', "CREATE TABLE held (i int); BEGIN; INSERT INTO held VALUES (1); PREPARE TRANSACTION 'stays'");
# not even if the other one stands still for a while
$b->set_conf('leasehold.priority' => 0);
$group->govern;
is($b->holds, 0, 'node b does not hold the lease');

# One session each, opened before anything; temporary objects made in advance,
# as on a fenced node they cannot be made.
my $session = LeaseholdWire->connect($b);
my $loopback = $b->connstr . ' dbname=postgres';

# --- what is refused ---------------------------------------------------------
my @refused = (
	q{INSERT INTO t VALUES (1000, 'x')},
	q{INSERT INTO t VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET v = 'x'},
	q{INSERT INTO t VALUES (1, 'x') ON CONFLICT DO NOTHING},
	q{UPDATE t SET v = 'x' WHERE id = 1},
	q{UPDATE t SET v = 'x' WHERE false},
	q{DELETE FROM t WHERE id = 1},
	q{MERGE INTO t USING (VALUES (1)) x(id) ON t.id = x.id WHEN MATCHED THEN UPDATE SET v = 'x'},
	q{WITH w AS (DELETE FROM t RETURNING *) SELECT count(*) FROM w},
	q{WITH w AS (INSERT INTO t VALUES (1001, 'x') RETURNING *) SELECT * FROM w},
	q{UPDATE updatable SET v = 'x' WHERE id = 2},
	q{UPDATE t SET id = id + 10000 WHERE id = 3},
	q{SELECT * FROM t WHERE id = 4 FOR UPDATE},
	q{SELECT * FROM t WHERE id = 4 FOR NO KEY UPDATE},
	q{SELECT * FROM t WHERE id = 4 FOR SHARE},
	q{SELECT * FROM t WHERE id = 4 FOR KEY SHARE},
	q{SELECT * FROM (SELECT * FROM t WHERE id = 4 FOR UPDATE) x},
	q{TRUNCATE t CASCADE},
	q{INSERT INTO part VALUES (50)},
	q{INSERT INTO part1 VALUES (51)},
	q{INSERT INTO unlogged VALUES (2)},
	q{INSERT INTO ser (v) VALUES ('x')},
	q{COPY t FROM STDIN},
	q{COPY t FROM '/dev/null'},
	q{COPY (DELETE FROM t RETURNING *) TO STDOUT},
	q{EXPLAIN ANALYZE DELETE FROM t},
	q{EXPLAIN ANALYZE CREATE TABLE made AS SELECT 1},
	q{PREPARE p1 AS UPDATE t SET v = 'x'; EXECUTE p1},
	q{DO $$ BEGIN INSERT INTO t VALUES (1002, 'do'); END $$},
	q{DO $$ BEGIN EXECUTE 'DELETE FROM t'; END $$},
	q{SELECT writes(1003)},
	q{SELECT writes_plpgsql(5)},
	q{CALL proc()},
	q{SELECT assigns()},
	q{SELECT next_assigns()},
	q{SELECT nextval('s')},
	q{SELECT nextval('cached')},
	q{SELECT setval('s', 100)},
	q{SELECT setval('s', 100, false)},
	q{SELECT id, nextval('s') FROM t LIMIT 3},
	q{SELECT * FROM t WHERE id = nextval('s')},
	q{SELECT lo_create(0)},
	q{SELECT lo_creat(-1)},
	q{SELECT lo_unlink(4711)},
	q{SELECT lo_put(4711, 0, 'xx')},
	q{SELECT lo_from_bytea(0, 'xx')},
	q{SELECT lo_import('/etc/hostname')},
	q{BEGIN; SELECT lowrite(lo_open(4711, 131072), 'xx'); COMMIT},
	q{BEGIN; SELECT lo_truncate(lo_open(4711, 131072), 1); COMMIT},
	q{BEGIN; SELECT lo_truncate64(lo_open(4711, 131072), 1); COMMIT},
	q{NOTIFY somebody, 'x'},
	q{SELECT pg_notify('somebody', 'x')},
	q{SELECT pg_logical_emit_message(false, 'x', 'y')},
	q{SELECT pg_logical_emit_message(true, 'x', 'y')},
	q{SELECT pg_replication_origin_create('o')},
	q{BEGIN READ WRITE; INSERT INTO t VALUES (1004, 'x'); COMMIT},
	q{BEGIN; SET TRANSACTION READ WRITE; INSERT INTO t VALUES (1005, 'x'); COMMIT},
	q{SET default_transaction_read_only = off; INSERT INTO t VALUES (1006, 'x')},
	q{SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE; INSERT INTO t VALUES (1007, 'x')},
	q{BEGIN; SET LOCAL transaction_read_only = off; INSERT INTO t VALUES (1008, 'x'); COMMIT},
	q{BEGIN; SAVEPOINT x; ROLLBACK TO x; INSERT INTO t VALUES (1009, 'x'); COMMIT},
	q{BEGIN ISOLATION LEVEL SERIALIZABLE; INSERT INTO t VALUES (1010, 'x'); COMMIT},
	q{BEGIN; DECLARE c CURSOR FOR SELECT * FROM t FOR UPDATE; FETCH c; COMMIT},
	q{BEGIN; PREPARE TRANSACTION 'empty'},
	q{COMMIT PREPARED 'stays'},
	q{ROLLBACK PREPARED 'stays'},
	q{REFRESH MATERIALIZED VIEW m},
	q{CLUSTER t USING t_pkey},
	q{ALTER TABLE t CLUSTER ON t_pkey},
	q{CREATE TABLE made (i int)},
	q{CREATE TABLE made AS SELECT 1},
	q{CREATE TABLE made AS SELECT 1 WITH NO DATA},
	q{SELECT 1 AS i INTO made},
	q{CREATE TEMP TABLE made (i int)},
	q{CREATE UNLOGGED TABLE made (i int)},
	q{CREATE VIEW made AS SELECT 1},
	q{CREATE MATERIALIZED VIEW made AS SELECT 1},
	q{CREATE SEQUENCE made},
	q{CREATE INDEX made ON t (n)},
	q{CREATE INDEX CONCURRENTLY made ON t (n)},
	q{CREATE FUNCTION made() RETURNS int LANGUAGE sql AS 'SELECT 1'},
	q{CREATE TYPE made AS (i int)},
	q{CREATE DOMAIN made AS int},
	q{CREATE SCHEMA made CREATE TABLE made.x (i int)},
	q{CREATE ROLE made},
	q{CREATE DATABASE made},
	q{CREATE EXTENSION hstore},
	q{CREATE TRIGGER made BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION on_write()},
	q{CREATE RULE made AS ON INSERT TO t DO NOTHING},
	q{CREATE POLICY made ON t},
	q{CREATE PUBLICATION made},
	q{CREATE SUBSCRIPTION made CONNECTION 'dbname=x' PUBLICATION y WITH (connect = false)},
	q{CREATE STATISTICS made ON id, n FROM t},
	q{CREATE EVENT TRIGGER made ON ddl_command_start EXECUTE FUNCTION on_write()},
	q{CREATE CAST (text AS mood) WITH INOUT},
	q{CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq)},
	q{CREATE AGGREGATE made (int) (SFUNC = int4pl, STYPE = int)},
	q{CREATE COLLATION made FROM "C"},
	q{CREATE TABLESPACE made LOCATION '/nowhere'},
	q{CREATE FOREIGN DATA WRAPPER made},
	q{ALTER TABLE t ADD COLUMN x int},
	q{ALTER TABLE t SET (fillfactor = 50)},
	q{ALTER TABLE t SET UNLOGGED},
	q{ALTER TABLE t RENAME TO t2},
	q{ALTER TABLE t DISABLE TRIGGER ALL},
	q{ALTER TABLE part DETACH PARTITION part1},
	q{ALTER SEQUENCE s RESTART},
	q{ALTER TYPE mood ADD VALUE 'happy'},
	q{ALTER FUNCTION writes(int) IMMUTABLE},
	q{ALTER ROLE some_role SET work_mem = '1MB'},
	q{ALTER ROLE some_role LOGIN},
	q{ALTER DATABASE postgres SET work_mem = '1MB'},
	q{ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO some_role},
	q{ALTER INDEX t_pkey RENAME TO x},
	q{ALTER PUBLICATION pub DROP TABLE t},
	q{ALTER EXTENSION dblink UPDATE},
	q{DROP TABLE child},
	q{DROP VIEW updatable},
	q{DROP INDEX t_v_idx},
	q{DROP INDEX CONCURRENTLY t_v_idx},
	q{DROP FUNCTION assigns()},
	q{DROP ROLE some_role},
	q{DROP DATABASE template1},
	q{DROP OWNED BY some_role},
	q{REASSIGN OWNED BY some_role TO CURRENT_USER},
	q{DROP PUBLICATION pub},
	q{GRANT SELECT ON t TO some_role},
	q{REVOKE ALL ON t FROM PUBLIC},
	q{GRANT some_role TO CURRENT_USER},
	q{COMMENT ON TABLE t IS 'x'},
	q{SECURITY LABEL FOR x ON TABLE t IS 'x'},
	q{IMPORT FOREIGN SCHEMA x FROM SERVER y INTO public},
	qq{SELECT dblink_exec('$loopback', 'INSERT INTO t VALUES (1011, ''x'')')},
	q{UPDATE pg_class SET reltuples = 1 WHERE relname = 't'},
	q{DELETE FROM pg_description},
	q{SELECT 1; INSERT INTO t VALUES (1012, 'x'); SELECT 2},
	q{DROP EXTENSION dblink},
);

# --- what is allowed: it leaves no trace of the user's -----------------------
my @allowed = (
	q{SELECT count(*) FROM t},
	q{BEGIN; SELECT * FROM t ORDER BY id LIMIT 1; COMMIT},
	q{BEGIN READ ONLY; SELECT count(*) FROM t; COMMIT},
	q{SELECT hides(7)},
	q{EXPLAIN DELETE FROM t},
	q{EXPLAIN ANALYZE SELECT count(*) FROM t},
	q{PREPARE p2 AS INSERT INTO t VALUES (1013, 'x')},
	q{DEALLOCATE ALL},
	q{BEGIN; DECLARE c CURSOR FOR SELECT * FROM t; FETCH 3 FROM c; COMMIT},
	q{DECLARE h CURSOR WITH HOLD FOR SELECT * FROM t; FETCH 3 FROM h; CLOSE h},
	q{COPY t TO STDOUT},
	q{COPY (SELECT 1) TO STDOUT},
	q{LISTEN somebody},
	q{UNLISTEN *},
	q{BEGIN; LOCK TABLE t IN ACCESS SHARE MODE; COMMIT},
	q{SELECT pg_advisory_lock(1); SELECT pg_advisory_unlock(1)},
	q{SET work_mem = '2MB'},
	q{RESET ALL},
	q{SHOW ALL},
	q{DISCARD ALL},
	q{SELECT lo_get(4711)},
	q{BEGIN; SELECT loread(lo_open(4711, 262144), 10); COMMIT},
	q{SELECT pg_current_wal_lsn()},
	q{SELECT pg_switch_wal()},
	q{SELECT txid_current()},
	q{SELECT pg_create_restore_point('x')},
	q{SELECT pg_stat_reset()},
	q{SELECT leasehold.holds(), leasehold.epoch()},
	q{SELECT * FROM leasehold.status},
	q{CHECKPOINT},
	q{VACUUM t},
	q{VACUUM (ANALYZE) t},
	q{VACUUM FULL child},
	q{VACUUM FREEZE},
	q{ANALYZE},
	q{REINDEX TABLE t},
	q{REINDEX TABLE CONCURRENTLY part1},
	q{CLUSTER clustered},
	q{CLUSTER},
	q{ALTER SYSTEM SET log_min_duration_statement = '1h'},
	q{ALTER SYSTEM RESET ALL},
	q{LOAD 'plpgsql'},
);

# --- before ------------------------------------------------------------------
sub dump_of
{
	my ($node) = @_;
	my ($out, $err) = ('', '');

	IPC::Run::run([ 'pg_dumpall', '--no-sync', '-d', $node->connstr('postgres') ], '>', \$out, '2>', \$err)
	  or die "pg_dumpall: $err";
	# a dump can carry a random key
	$out =~ s/^\\(?:un)?restrict .*$//mg;
	# pg_dump shows nothing of what is neither committed nor gone
	return $out . $node->safe_psql('postgres', 'SELECT gid FROM pg_prepared_xacts');
}

# Texts of many lines: only where they differ is of interest.
sub is_same_text
{
	my ($got, $expected, $what) = @_;
	my ($file, @names, $diff) = ("$PostgreSQL::Test::Utils::log_path/054_text");

	return pass($what) if $got eq $expected;
	foreach my $part ([ 'expected', $expected ], [ 'got', $got ])
	{
		push @names, "$file.$part->[0]";
		unlink $names[-1];
		append_to_file($names[-1], $part->[1]);
	}
	IPC::Run::run([ 'diff', '-U3', @names ], '>', \$diff);
	fail($what);
	diag(substr $diff, 0, 4000);
	return;
}

# xids are assigned by LOCK and txid_current() as well; that they end in nothing
# is to be seen in the WAL.
sub wal_between
{
	my ($node, $from, $to) = @_;
	my ($out, $err) = ('', '');

	IPC::Run::run(
		[ 'pg_waldump', '-p', $node->data_dir . '/pg_wal', '-s', $from, '-e', $to ],
		'>', \$out, '2>', \$err)
	  or die "pg_waldump: $err";
	return split /\n/, $out;
}

# A checkpoint is there to be read by pg_waldump, and flushes all before it.
sub wal_position
{
	my ($node) = @_;
	my $lsn = $node->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
	$node->safe_psql('postgres', 'CHECKPOINT');
	return $lsn;
}

# Tables (and toast tables and indexes) of users, by file name.
sub user_files
{
	my ($node) = @_;
	return map { $_ => 1 } split /\n/, $node->safe_psql('postgres', q{
		SELECT pg_relation_filepath(oid) FROM pg_class
		WHERE oid >= 16384 AND relkind IN ('r', 't', 'm', 'S') AND relpersistence <> 't'});
}

my $dump = dump_of($b);
my %user_file = user_files($b);
my $from = wal_position($b);
my $counts = 'SELECT last_value, is_called FROM s';
my $sequence = $b->safe_psql('postgres', $counts);

# --- everything is sent ------------------------------------------------------
my (@let_through, @wrong_code);
foreach my $sql (@refused)
{
	foreach my $way (qw(simple extended fresh))
	{
		# the extended protocol takes one statement at a time
		next if $way eq 'extended' && $sql =~ /;/ && $sql !~ /^(?:DO|CREATE)/;
		my $client = $way eq 'fresh' ? LeaseholdWire->connect($b) : $session;
		my $answer = $way eq 'extended' ? $client->extended($sql) : $client->query($sql);

		push @let_through, "$way: $sql" if $answer->{error} eq '';
		# some are wrong for another reason first, and that may be said instead
		push @wrong_code, "$way: $sql: $answer->{error} $answer->{message}"
		  if $answer->{error} ne '' && $answer->{error} ne '25006';
		$client->query('ROLLBACK') if $answer->{status} ne 'I';
		$client->query('DEALLOCATE ALL');
		$client->close if $way eq 'fresh';
	}
}
is(join("\n", @let_through), '', scalar(@refused) . ' statements are refused, in the simple and the extended protocol');
is(join("\n", @wrong_code), '', 'as read-only, all of them');

# the function call message of the protocol
my %oid = split /[|\n]/, $b->safe_psql('postgres', q{
	SELECT s, s::regprocedure::oid FROM unnest(ARRAY['nextval(regclass)', 'lo_create(oid)', 'lo_creat(integer)',
		'lo_unlink(oid)', 'setval(regclass,bigint)', 'pg_notify(text,text)', 'writes(integer)',
		'lowrite(integer,bytea)', 'lo_open(oid,integer)', 'lo_put(oid,bigint,bytea)',
		'writes_plpgsql(integer)', 'assigns()']) s});
my $s = $b->safe_psql('postgres', "SELECT 's'::regclass::oid");
@let_through = ();
foreach my $call (
	[ 'nextval(regclass)', pack('N', $s) ],
	[ 'setval(regclass,bigint)', pack('N', $s), pack('q>', 77) ],
	[ 'lo_create(oid)', pack('N', 0) ],
	[ 'lo_creat(integer)', pack('N', 0xFFFFFFFF) ],
	[ 'lo_unlink(oid)', pack('N', 4711) ],
	[ 'lo_put(oid,bigint,bytea)', pack('N', 4711), pack('q>', 0), 'xx' ],
	[ 'pg_notify(text,text)', 'somebody', 'x' ],
	[ 'writes(integer)', pack('N', 1020) ],
	[ 'writes_plpgsql(integer)', pack('N', 8) ],
	[ 'assigns()' ])
{
	my ($function, @values) = @$call;

	foreach my $block (0, 1)
	{
		my $client = LeaseholdWire->connect($b);

		$client->query('BEGIN READ WRITE') if $block;
		my $answer = $client->fastpath($oid{$function}, @values);
		my $end = $block ? $client->query('COMMIT') : undef;
		push @let_through, "$function: $answer->{error} $answer->{message}"
		  if $answer->{error} ne '25006' && (!$end || $end->{error} ne '25006');
		$client->close;
	}
}
{
	my $client = LeaseholdWire->connect($b);

	$client->query('BEGIN');
	my $fd = $client->fastpath($oid{'lo_open(oid,integer)'}, pack('N', 4711), pack('N', 131072));
	my $answer = $client->fastpath($oid{'lowrite(integer,bytea)'}, $fd->{value} // pack('N', 0), 'xx');
	my $end = $client->query('COMMIT');
	push @let_through, "lowrite: $answer->{error} $end->{error}"
	  if $answer->{error} eq '' && $end->{error} eq '';
	$client->close;
}
is(join("\n", @let_through), '', 'functions that write are refused through the function call message');

# pipelined behind a read, in one implicit transaction
$session->send_messages(
	P => "\0SELECT 1\0" . pack('n', 0), B => LeaseholdWire::bind_message('', ''), E => "\0" . pack('N', 0),
	P => "\0INSERT INTO t VALUES (1030, 'x')\0" . pack('n', 0), B => LeaseholdWire::bind_message('', ''),
	E => "\0" . pack('N', 0), S => '');
is($session->collect->{error}, '25006', 'a write pipelined behind a read is refused');

# a walsender that is connected to a database runs SQL, too
{
	my ($state) = $b->try(q{INSERT INTO t VALUES (1031, 'x')}, connstr => $b->connstr('postgres') . ' replication=database');
	is($state, '25006', 'a write through a replication connection is refused');
}

# statements that may be run
my @denied;
foreach my $sql (@allowed)
{
	foreach my $way (qw(simple extended))
	{
		next if $way eq 'extended' && $sql =~ /;/;
		my $answer = $way eq 'extended' ? $session->extended($sql) : $session->query($sql);

		push @denied, "$way: $sql: $answer->{error} $answer->{message}" if $answer->{error} ne '';
		$session->query('ROLLBACK') if $answer->{status} ne 'I';
		$session->query('DEALLOCATE ALL');
	}
}
is(join("\n", @denied), '', scalar(@allowed) . ' statements that only read or maintain are allowed');

my $to = wal_position($b);

# --- after -------------------------------------------------------------------
is_same_text(dump_of($b), $dump, 'a dump is the same as before');
is($b->safe_psql('postgres', $counts), $sequence, 'so is a sequence');
is($b->safe_psql('postgres', "SELECT string_agg(gid, ',') FROM pg_prepared_xacts"), 'stays', 'and what was prepared');

# The WAL.  REINDEX, CLUSTER and VACUUM FULL commit, write catalogs and new files;
# what is left of them is asked for below.  In a first part, nothing of the kind.
my @records = wal_between($b, $from, $to);
cmp_ok(scalar @records, '>', 0, 'the WAL has something to look at');
{
	my (%seen, @bad);

	foreach my $record (@records)
	{
		my ($rmgr, $desc) = $record =~ /^rmgr: (\S+) .*desc: (.*)$/ or next;
		my ($kind) = $desc =~ /^(\S+)/;

		$seen{"$rmgr $kind"}++;
		push @bad, $record if $rmgr =~ /^(?:LogicalMessage|Sequence|ReplicationOrigin|CommitTs)$/;
		# rows in tables of users, where they were: a copy made by CLUSTER or
		# VACUUM FULL goes into another file, and as whole pages
		if ($rmgr eq 'Heap' && $desc =~ /^(?:INSERT|UPDATE|HOT_UPDATE|DELETE|LOCK|TRUNCATE|INPLACE)/)
		{
			my ($file) = $record =~ m{rel \d+/(\d+/\d+)};
			push @bad, $record if $file && $user_file{"base/$file"};
		}
	}
	is(join("\n", @bad), '', 'the WAL shows no row of a user\'s table, no message, no sequence, no origin')
	  or diag(explain(\%seen));
}

# Without maintenance nothing commits at all: the same again, and every record
# must be one that the server writes by itself.
{
	my $start = wal_position($b);

	foreach my $sql (@refused, grep { !/^(?:VACUUM|ANALYZE|REINDEX|CLUSTER|CHECKPOINT|DISCARD|SELECT pg_(?:switch|create)|SELECT txid_current|BEGIN; LOCK)/ } @allowed)
	{
		my $answer = $session->query($sql);
		$session->query('ROLLBACK') if $answer->{status} ne 'I';
		$session->query('DEALLOCATE ALL');
	}
	my $end = wal_position($b);
	my @bad = grep {
		!/^rmgr: (?:XLOG .*desc: (?:CHECKPOINT|NOOP|NEXTOID|FPI|SWITCH|PARAMETER)|Standby .*desc: RUNNING_XACTS|Heap2 .*desc: (?:PRUNE|VACUUM|VISIBLE|FREEZE)|Transaction .*desc: ABORT)/
	} wal_between($b, $start, $end);
	is(join("\n", @bad), '', 'without maintenance the WAL shows no commit and no change of any table');
}

# Temporary tables that exist, and statistics.
{
	$a->safe_psql('postgres', 'CREATE TABLE stat (i int)');
	my $client = LeaseholdWire->connect($a);
	is($client->query('CREATE TEMP TABLE tmp (i int); CREATE TEMP SEQUENCE ts')->{error}, '', 'on the holder: temporary objects');
	$a->set_conf('leasehold.on_expiry' => 'none');
	$a->freeze('keeper');
	wait_until('a has lost the lease', sub { $a->holds == 0 });
	is($client->query($_)->{error}, '', "fenced: $_")
	  foreach 'INSERT INTO tmp VALUES (1)', 'UPDATE tmp SET i = 2', "SELECT nextval('ts')",
	  'BEGIN; INSERT INTO tmp VALUES (3); COMMIT';
	is($client->query('SELECT max(i) FROM tmp')->{value}, 3, 'fenced: temporary tables that exist are written');
	is($client->query('INSERT INTO stat SELECT i FROM tmp')->{error}, '25006', 'others are not');
	is($client->query('SELECT pg_stat_force_next_flush(); SELECT 1')->{error}, '', 'statistics go on');
	$client->close;
	$a->thaw;
}
$_->stop foreach $group->nodes, $group->members;

# ---------------------------------------------------------------------------
# Under a held lease the server is as ever
# ---------------------------------------------------------------------------
my $battery = <<'SQL';
\set VERBOSITY verbose
\set ECHO queries
SELECT current_setting('default_transaction_read_only'), current_setting('transaction_read_only');
CREATE TABLE t (id int PRIMARY KEY, v text CHECK (v <> 'bad'), n numeric DEFAULT 1.5);
INSERT INTO t SELECT g, 'v' || g FROM generate_series(1, 1000) g;
INSERT INTO t VALUES (1, 'dup');
INSERT INTO t VALUES (5000, 'bad');
INSERT INTO t VALUES (1, 'up') ON CONFLICT (id) DO UPDATE SET v = excluded.v RETURNING *;
UPDATE t SET n = n * 2 WHERE id % 10 = 0;
DELETE FROM t WHERE id > 990 RETURNING id;
MERGE INTO t USING (VALUES (1), (2000)) x(id) ON t.id = x.id
	WHEN MATCHED THEN UPDATE SET v = 'merged' WHEN NOT MATCHED THEN INSERT VALUES (x.id, 'new');
WITH w AS (DELETE FROM t WHERE id BETWEEN 900 AND 905 RETURNING *) SELECT count(*), sum(n) FROM w;
SELECT * FROM t WHERE id < 4 ORDER BY id FOR UPDATE;
TABLE nothing;
SELECT 1/0;
BEGIN;
INSERT INTO t VALUES (6000, 'in txn');
SAVEPOINT a;
INSERT INTO t VALUES (6000, 'dup');
ROLLBACK TO a;
SELECT count(*) FROM t WHERE id = 6000;
RELEASE a;
COMMIT;
BEGIN READ ONLY;
INSERT INTO t VALUES (6001, 'read only');
ROLLBACK;
BEGIN; SET TRANSACTION READ ONLY; SAVEPOINT x; SET TRANSACTION READ WRITE; ROLLBACK;
SET default_transaction_read_only = on;
SHOW default_transaction_read_only;
INSERT INTO t VALUES (6002, 'read only');
BEGIN READ WRITE; INSERT INTO t VALUES (6003, 'read write'); COMMIT;
RESET default_transaction_read_only;
SELECT name, setting, source FROM pg_settings WHERE name = 'default_transaction_read_only';
BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM t; UPDATE t SET v = 's' WHERE id = 2; COMMIT;
BEGIN; DECLARE c SCROLL CURSOR FOR SELECT id FROM t ORDER BY id; FETCH 2 FROM c; FETCH BACKWARD 1 FROM c; MOVE 10 IN c; FETCH c; COMMIT;
DECLARE h CURSOR WITH HOLD FOR SELECT id FROM t ORDER BY id; FETCH 2 FROM h; CLOSE h;
BEGIN; DECLARE u CURSOR FOR SELECT id FROM t WHERE id = 3 FOR UPDATE; FETCH u; UPDATE t SET v = 'current of' WHERE CURRENT OF u; COMMIT;
BEGIN; INSERT INTO t VALUES (7000, '2pc'); PREPARE TRANSACTION 'p1';
SELECT gid FROM pg_prepared_xacts; COMMIT PREPARED 'p1';
BEGIN; INSERT INTO t VALUES (7001, '2pc'); PREPARE TRANSACTION 'p2'; ROLLBACK PREPARED 'p2';
COMMIT PREPARED 'p3';
SELECT id FROM t WHERE id >= 7000;
CREATE FUNCTION f(i int) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		INSERT INTO t VALUES (i, 'f');
	EXCEPTION WHEN unique_violation THEN
		UPDATE t SET v = 'f again' WHERE id = i; RETURN 'again';
	END;
	RETURN 'new';
END $$;
SELECT f(8000), f(8000), f(8001);
CREATE PROCEDURE p() LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..5 LOOP
		INSERT INTO t VALUES (9000 + i, 'p');
		IF i % 2 = 0 THEN COMMIT; ELSE ROLLBACK; END IF;
	END LOOP;
END $$;
CALL p();
SELECT id FROM t WHERE id > 9000 ORDER BY 1;
BEGIN; CALL p(); COMMIT;
DO $$ BEGIN RAISE NOTICE 'done %', (SELECT count(*) FROM t); END $$;
COPY t FROM STDIN;
10000	copied	1
10001	copied	2
\.
COPY t (id) FROM STDIN;
1
\.
COPY (SELECT * FROM t WHERE id >= 10000 ORDER BY id) TO STDOUT;
LISTEN ch;
NOTIFY ch, 'unseen pid';
UNLISTEN ch;
SELECT pg_notify('ch2', 'x');
CREATE SEQUENCE s; SELECT nextval('s'), nextval('s'); SELECT setval('s', 10); SELECT currval('s');
CREATE TABLE par (id int PRIMARY KEY); CREATE TABLE chi (id int REFERENCES par ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED);
INSERT INTO par VALUES (1); INSERT INTO chi VALUES (1);
BEGIN; INSERT INTO chi VALUES (2); COMMIT;
DELETE FROM par; SELECT count(*) FROM chi;
CREATE TABLE pt (k int, v text) PARTITION BY LIST (k); CREATE TABLE pt1 PARTITION OF pt FOR VALUES IN (1); CREATE TABLE ptd PARTITION OF pt DEFAULT;
INSERT INTO pt VALUES (1, 'a'), (2, 'b'); UPDATE pt SET k = 3 WHERE k = 1; SELECT tableoid::regclass, * FROM pt ORDER BY 2;
CREATE FUNCTION tr() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.v := NEW.v || '!'; RETURN NEW; END $$;
CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION tr();
INSERT INTO t VALUES (11000, 'trigger') RETURNING v;
CREATE VIEW v AS SELECT id, v FROM t WHERE id > 10000; UPDATE v SET v = 'through view' WHERE id = 11000; SELECT * FROM v ORDER BY id;
CREATE RULE r AS ON DELETE TO v DO INSTEAD UPDATE t SET v = 'deleted' WHERE id = OLD.id; DELETE FROM v WHERE id = 11000; SELECT v FROM v WHERE id = 11000;
CREATE MATERIALIZED VIEW mv AS SELECT count(*) AS n FROM t; REFRESH MATERIALIZED VIEW mv; SELECT * FROM mv;
CREATE TEMP TABLE tmp (i int) ON COMMIT DELETE ROWS; BEGIN; INSERT INTO tmp VALUES (1); SELECT * FROM tmp; COMMIT; SELECT * FROM tmp;
CREATE TABLE ctas AS SELECT id FROM t WHERE id < 4; SELECT id INTO into1 FROM ctas; TABLE into1;
CREATE UNLOGGED TABLE un (i int); INSERT INTO un VALUES (1); ALTER TABLE un SET LOGGED;
ALTER TABLE t ADD COLUMN x int DEFAULT 7; ALTER TABLE t DROP COLUMN x; ALTER TABLE t ALTER n TYPE int USING n::int;
CREATE INDEX ti ON t (v); CREATE INDEX CONCURRENTLY ti2 ON t (n); REINDEX TABLE t; DROP INDEX CONCURRENTLY ti2;
BEGIN; CREATE INDEX CONCURRENTLY ti3 ON t (n); ROLLBACK;
VACUUM (ANALYZE) t; VACUUM FULL ctas; CLUSTER t USING t_pkey; ANALYZE;
BEGIN; VACUUM t; ROLLBACK;
TRUNCATE ctas, into1; TABLE ctas;
EXPLAIN (COSTS OFF) UPDATE t SET v = 'x' WHERE id = 1;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) INSERT INTO ctas VALUES (1);
PREPARE ps AS INSERT INTO ctas VALUES ($1) RETURNING id; EXECUTE ps(5); EXECUTE ps('x'); DEALLOCATE ps;
SELECT lo_create(815); SELECT lo_put(815, 0, 'abc'); SELECT lo_get(815); SELECT lo_unlink(815);
CREATE ROLE reader; GRANT SELECT ON t TO reader; SET ROLE reader; SELECT count(*) FROM t; INSERT INTO t VALUES (1); RESET ROLE;
ALTER TABLE t ENABLE ROW LEVEL SECURITY; SET ROLE reader; SELECT count(*) FROM t; RESET ROLE;
CREATE TYPE e AS ENUM ('a', 'b'); ALTER TYPE e ADD VALUE 'c'; SELECT enum_range(NULL::e);
CREATE DOMAIN d AS int CHECK (VALUE > 0); SELECT 0::d;
BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE; COMMIT;
SET statement_timeout = '20ms'; SELECT pg_sleep(5); RESET statement_timeout;
SELECT pg_logical_emit_message(true, 'x', 'y') IS NOT NULL;
BEGIN; SELECT pg_current_xact_id_if_assigned() IS NULL; INSERT INTO ctas VALUES (9); SELECT pg_current_xact_id_if_assigned() IS NULL; ROLLBACK AND CHAIN; SELECT 1; COMMIT;
SELECT * FROM t WHERE id = 1 \gdesc
SELECT 1 \; INSERT INTO ctas VALUES (77) \; SELECT 1/0;
SELECT count(*) FROM ctas WHERE id = 77;
DISCARD ALL;
DROP OWNED BY reader; DROP ROLE reader; DROP TABLE t, par, chi, pt, ctas, into1, un CASCADE;
SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1;
SQL

sub run_battery
{
	my ($node) = @_;
	my $out = '';

	$node->safe_psql('postgres', 'CREATE DATABASE battery');
	# both streams in one, as they come
	IPC::Run::run([ 'psql', '-X', '-a', '-d', $node->connstr('battery') ], '<', \$battery, '>&', \$out);
	# what differs anyway, and where in the source an error was raised
	$out =~ s/^LOCATION: .*\n//mg;
	$out =~ s/process (?:with )?PID \d+/process PID/g;
	return $out;
}

my $plain = LeaseholdTest::Node->member('plain', empty => 1, conf => 'wal_level = logical');
my $governed = LeaseholdTest->new(nodes => ['solo'], ttl => '20s', conf => 'wal_level = logical');
my ($solo) = $governed->nodes;
is($solo->holds, 1, 'an instance that holds its lease');
my ($expected, $got) = map { run_battery($_) } $plain, $solo;
cmp_ok($expected =~ tr/\n//, '>', 400, 'the script has printed something');
unlike($expected, qr/ERROR:  25006.*lease/, 'on a plain server, nothing of a lease');
is_same_text($got, $expected, 'under a held lease the server prints the same');
is($solo->holds, 1, 'and holds it still');
$_->stop foreach $plain, $solo, $governed->members;
done_testing();
