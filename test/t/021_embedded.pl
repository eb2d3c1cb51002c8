# leasehold.store = 'embedded': one instance, two lines of configuration.
#
# The instance has to make its own store while it is fenced, and must never be
# writable without the lease in it: not before it is made, not after a restart,
# not after a crash of a backend made all shared memory anew.

use strict;
use warnings;

use LeaseholdTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $lines = "shared_preload_libraries = 'leasehold'\nleasehold.store = 'embedded'\n";

sub instance
{
	my ($name) = @_;
	my $node = LeaseholdTest::Node->new($name);

	$node->init;
	# what the server does by itself, and tests of the server switch off
	$node->append_conf('postgresql.conf',
		"restart_after_crash = on\nlog_statement = none\n");
	return $node;
}

sub wait_writable
{
	my ($node, $dbname) = @_;
	wait_until(
		$node->name . ' is writable',
		sub {
			my ($sqlstate) = $node->try('CREATE TABLE IF NOT EXISTS t (a int)',
				dbname => $dbname // 'postgres');
			$sqlstate eq '';
		});
	return;
}

sub in_store
{
	my ($node, $sql) = @_;
	return $node->safe_psql('leasehold_store', $sql);
}

# ---------------------------------------------------------------------------
# Two lines
# ---------------------------------------------------------------------------

my $one = instance('one');
$one->append_conf('postgresql.conf', $lines);
# so that it is seen to be fenced: it takes no lease by itself yet
$one->append_conf('postgresql.conf', "leasehold.priority = 0\n");
$one->start;
$one->wait_log(qr/database "leasehold_store" is made/, 0);
wait_until('the store is made', sub {
		my ($sqlstate, $answer) = $one->try(
			'SELECT count(*) FROM leasehold_store.lease', dbname => 'leasehold_store');
		$sqlstate eq '' && $answer eq '1';
	});
my ($sqlstate, $message) = $one->try('CREATE TABLE t (a int)');
is($sqlstate, '25006', 'nothing can be written without the lease');
like($message, qr/lease "main"/, 'and the message names it');

$one->set_conf('leasehold.priority' => '100');
wait_writable($one);
pass('the instance is writable');

is(in_store($one,
		'SELECT generation, settled, array_length(string_to_array(members, \',\'), 1) FROM leasehold_store.store'),
	'1|t|1', 'it is the one member of its store');
is(in_store($one,
		q{SELECT members LIKE '%;' || store_id || '/' || system_identifier || '/1' FROM leasehold_store.store, pg_control_system()}),
	't', 'with its own identity');
is(in_store($one, 'SELECT name, ttl_ms, kind, scope, epoch FROM leasehold_store.lease'),
	'main|10000|independent|instance|1', 'the lease is there');
my $identity = in_store($one, 'SELECT store_id, members FROM leasehold_store.store');

# Renewals go on through the fence's exemption for the store's tables.
my $version = in_store($one, 'SELECT version FROM leasehold_store.lease');
wait_until('renewals go on',
	sub { in_store($one, 'SELECT version FROM leasehold_store.lease') > $version });

# ---------------------------------------------------------------------------
# Restarts
# ---------------------------------------------------------------------------

my $offset = $one->log_offset;
$one->restart;
wait_writable($one);
pass('it is writable again after a restart');
is(in_store($one, 'SELECT store_id, members FROM leasehold_store.store'),
	$identity, 'with the store as it was');
unlike($one->log_since($offset), qr/is made/, 'nothing is made twice');
cmp_ok(in_store($one, 'SELECT epoch FROM leasehold_store.lease'), '>', 1,
	'under another epoch');

# A process is killed: the server makes shared memory anew.
$offset = $one->log_offset;
my $epoch = in_store($one, 'SELECT epoch FROM leasehold_store.lease');
my ($process) = $one->pids(qr/checkpointer/);
kill 'KILL', $process;
$one->wait_log(qr/all server processes terminated; reinitializing/, $offset);
$one->wait_log(qr/is now holder of lease "main"/, $offset);
wait_writable($one);
cmp_ok(in_store($one, 'SELECT epoch FROM leasehold_store.lease'), '>', $epoch,
	'after a crash it is writable under a new epoch only');

# Everything is killed: the ttl is ten seconds, yet it need not wait for itself.
$one->kill_all;
$one->start_again;
wait_writable($one);
pass('it is writable again after everything was killed');

# ---------------------------------------------------------------------------
# Another name for the lease
# ---------------------------------------------------------------------------

$one->set_conf('leasehold.lease' => 'other');
# Giving up "main" ends the sessions that were opened while it was held, the
# one that asks here among them: an error is no answer yet.
wait_until('the other lease is made and held', sub {
		my ($state, $answer) = $one->try(
			"SELECT count(*) FROM leasehold_store.lease WHERE name = 'other' AND holder <> ''",
			dbname => 'leasehold_store');
		$state eq '' && $answer eq '1';
	});
wait_writable($one);
pass('another lease is made when it is named');
$one->stop;

# ---------------------------------------------------------------------------
# An instance that was used before: "postgres" is gone, read-only is the default
# ---------------------------------------------------------------------------

my $two = instance('two');
$two->start;
$two->safe_psql('postgres', 'CREATE DATABASE mine');
$two->safe_psql('mine', 'DROP DATABASE postgres');
$two->safe_psql('mine', 'ALTER SYSTEM SET default_transaction_read_only = on');
$two->stop;
$two->append_conf('postgresql.conf', $lines);
$two->start;
wait_until('the store is made without "postgres"', sub {
		my ($state, $answer) = $two->try(
			'SELECT generation FROM leasehold_store.store, leasehold_store.lease',
			dbname => 'leasehold_store');
		$state eq '' && $answer eq '1';
	});
pass('the store is made by way of another database, and read-write');
$two->stop;

done_testing();
