# Logical replication into a fenced node: apply and the first copy of a table
# write no user data on their own account, and go on, with triggers, defaults
# and all; but never into the tables in which leases live.

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
CREATE TABLE t (id integer PRIMARY KEY, v text);
INSERT INTO t SELECT i, 'copied' FROM generate_series(1, 100) i;
CREATE PUBLICATION p FOR TABLE t;
SQL

my $fence = FenceTest->new('subscriber', init => [ allows_streaming => 'logical' ]);
my $node  = $fence->node;
my $from  = 'host=' . $publisher->host . ' port=' . $publisher->port . ' dbname=postgres';

$fence->open;
$node->safe_psql('postgres', <<'SQL');
CREATE SEQUENCE numbers;
CREATE TABLE t (id integer PRIMARY KEY, v text, number bigint DEFAULT nextval('numbers'));
CREATE TABLE audit (id integer, what text);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.audit VALUES (NEW.id, TG_OP || ' ' || nextval('public.numbers'));
	RETURN NEW;
END $$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION audit();
ALTER TABLE t ENABLE ALWAYS TRIGGER audit;
CREATE SCHEMA leasehold_store;
CREATE TABLE leasehold_store.lease (name text PRIMARY KEY, version bigint);
SQL
$fence->close;

$fence->refused("CREATE SUBSCRIPTION s CONNECTION '$from' PUBLICATION p", qr/cannot execute CREATE SUBSCRIPTION/, 'CREATE SUBSCRIPTION');
$fence->allowed("SET leasehold.local_ddl = on; CREATE SUBSCRIPTION s CONNECTION '$from' PUBLICATION p WITH (create_slot = false, enabled = false, slot_name = 's')",
	'CREATE SUBSCRIPTION with local_ddl');
$publisher->safe_psql('postgres', q{SELECT pg_create_logical_replication_slot('s', 'pgoutput')});
$fence->allowed('SET leasehold.local_ddl = on; ALTER SUBSCRIPTION s ENABLE', 'ALTER SUBSCRIPTION with local_ddl');

$node->wait_for_subscription_sync($publisher, 's');
is($node->safe_psql('postgres', 'SELECT count(*), count(number) FROM t'), '100|100', 'the first copy, with defaults');
is($node->safe_psql('postgres', 'SELECT count(*) FROM audit'), '100', 'and triggers');

$publisher->safe_psql('postgres', q{INSERT INTO t VALUES (101, 'applied'); UPDATE t SET v = 'changed' WHERE id = 1; DELETE FROM t WHERE id = 2});
$publisher->wait_for_catchup('s');
is($node->safe_psql('postgres', 'SELECT count(*), count(number), max(v) FILTER (WHERE id = 101) FROM t'), '100|100|applied', 'apply, with defaults');
is($node->safe_psql('postgres', q{SELECT count(*) FROM audit WHERE what ~ 'UPDATE'}), '1', 'and triggers');
$publisher->safe_psql('postgres', 'TRUNCATE t');
$publisher->wait_for_catchup('s');
is($node->safe_psql('postgres', 'SELECT count(*) FROM t'), '0', 'TRUNCATE is applied');

$fence->refused(q{INSERT INTO t VALUES (7)}, qr/cannot execute INSERT/, 'a session of the same node');

# the store's tables
$publisher->safe_psql('postgres', <<'SQL');
CREATE SCHEMA leasehold_store;
CREATE TABLE leasehold_store.lease (name text PRIMARY KEY, version bigint);
INSERT INTO leasehold_store.lease VALUES ('copied', 1);
CREATE PUBLICATION q FOR TABLE leasehold_store.lease;
SELECT pg_create_logical_replication_slot('q', 'pgoutput');
SQL
my $offset = -s $node->logfile;
$fence->allowed("SET leasehold.local_ddl = on; CREATE SUBSCRIPTION q CONNECTION '$from' PUBLICATION q WITH (create_slot = false, slot_name = 'q', copy_data = false)");
$publisher->safe_psql('postgres', q{INSERT INTO leasehold_store.lease VALUES ('applied', 1)});
ok($node->wait_for_log(qr/ERROR:  logical replication must not touch schema "leasehold_store"/, $offset), 'apply into the store is refused');
is($node->safe_psql('postgres', 'SELECT count(*) FROM leasehold_store.lease'), '0', 'nothing is applied');
$node->safe_psql('postgres', 'SET leasehold.local_ddl = on; ALTER SUBSCRIPTION q DISABLE; ALTER SUBSCRIPTION q SET (slot_name = NONE); DROP SUBSCRIPTION q');

$offset = -s $node->logfile;
$fence->open;
$node->safe_psql('postgres', "CREATE SUBSCRIPTION r CONNECTION '$from' PUBLICATION q");
ok($node->wait_for_log(qr/ERROR:  logical replication must not touch schema "leasehold_store"/, $offset), 'so is the first copy, with the lease too');
is($node->safe_psql('postgres', 'SELECT count(*) FROM leasehold_store.lease'), '0', 'nothing is copied');
$node->safe_psql('postgres', 'ALTER SUBSCRIPTION r DISABLE; ALTER SUBSCRIPTION r SET (slot_name = NONE); DROP SUBSCRIPTION r');

$fence->stop;
$publisher->stop('fast');
done_testing();
