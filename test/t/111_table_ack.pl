# The race of test 011, for the lease of a table: a backend checks it, is stopped,
# commits after it was lost, and tells its client.  By then another node may have
# acknowledged another write of the same row.  So the client must learn nothing:
# whatever else the transaction wrote, under whichever lease that is still held.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use FenceTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $fence = FenceTest->new('a', conf => "leasehold.lease = ''\n");
my $node  = $fence->node;

$node->safe_psql('postgres', <<'SQL');
CREATE TABLE t (id integer PRIMARY KEY);
CREATE TABLE u (id integer PRIMARY KEY);
CREATE TABLE free (id integer PRIMARY KEY);
CREATE TABLE m (id integer) PARTITION BY RANGE (id);
CREATE TABLE m1 PARTITION OF m FOR VALUES FROM (0) TO (1000);
CREATE TABLE parent (id integer PRIMARY KEY);
INSERT INTO parent SELECT generate_series(1, 1000);
CREATE TABLE child (id integer REFERENCES parent ON DELETE CASCADE);
INSERT INTO child SELECT generate_series(1, 1000);
CREATE PROCEDURE committing(first integer, second integer) LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO t VALUES (first);
	COMMIT;
	INSERT INTO u VALUES (second);
END $$;
SQL
$fence->call("slot('$_')") foreach 'x', 'y';
$fence->call("protect('postgres', 'public', '$_->[0]', '$_->[1]')") foreach [ 't', 'x' ], [ 'm1', 'x' ], [ 'child', 'x' ], [ 'u', 'y' ];

sub take { $fence->call("open_table('$_[0]')"); return; }
sub lose { $fence->call("close_table('$_[0]')"); return; }

my $next = 0;

# As in test 011; "lease" is the one that is lost, x by default.
sub stalled
{
	my ($name, %how) = @_;
	my $id = ++$next;
	my $lease = $how{lease} // 'x';
	take($_) foreach 'x', 'y';
	my $withheld = $fence->call('counters()') =~ /\((\d+),/ ? $1 : die;
	my $session  = $fence->session;
	$session->query($_ =~ s/%d/$id/r) foreach @{ $how{before} || [] };
	my $stall = $how{answer} ? 'stall_answer' : 'stall';
	$session->query("SELECT fencetest.$stall(" . ($how{pass} // 1) . ", '$lease')");
	my $offset = -s $node->logfile;
	$how{run}->($session, $id);
	$node->wait_for_log($how{answer} ? qr/stalled before an answer/ : qr/stalled after a commit/, $offset);
	lose($lease);
	my $said = $session->until_ready;
	is($said, $how{told} // 'EOF', "$name: the client is told nothing");
	my $log = slurp_file($node->logfile, $offset);
	my $when = $how{answer} ? 'before the answer had left' : 'while it became durable';
	my $lines = () = $log =~ /LOG:  not acknowledging a commit: lease "$lease" was lost $when/g;
	is($lines, 1, "$name: logged") or diag($log);
	is($fence->call('counters()') =~ /\((\d+),/ ? $1 : -1, $withheld + 1, "$name: counted");
	my $check = $how{check} || 'SELECT count(*) FROM t WHERE id = %d';
	is($node->safe_psql('postgres', $check =~ s/%d/$id/r), 1, "$name: it is durable indeed");
	return;
}

my $insert = sub { "INSERT INTO t VALUES ($_[0])" };

stalled('autocommit', run => sub { $_[0]->send(Q => $insert->($_[1]) . "\0") });
stalled('BEGIN, COMMIT', run => sub {
	my ($session, $id) = @_;
	$session->query('BEGIN');
	is($session->query($insert->($id)), 'C:INSERT 0 1 Z', 'the write itself');
	$session->send(Q => "COMMIT\0");
});
stalled('several transactions in one string', run => sub { $_[0]->send(Q => "BEGIN; INSERT INTO t VALUES ($_[1]); COMMIT; SELECT 9\0") });
stalled('extended protocol', run => sub { $_[0]->send($_[0]->extended($insert->($_[1])), S => '') });
stalled('a pipeline whose output fills the buffer', run => sub {
	my ($session, $id) = @_;
	my @messages = ($session->extended('BEGIN'), $session->extended($insert->($id)), $session->extended('COMMIT'));
	push @messages, $session->extended(q{SELECT repeat('x', 3000)}) foreach 1 .. 20;
	$session->send(@messages, S => '');
});
stalled('asynchronous commit', before => ['SET synchronous_commit = off'], run => sub { $_[0]->send(Q => $insert->($_[1]) . "\0") });
stalled('with a table that has no lease', run => sub { $_[0]->send(Q => "INSERT INTO free VALUES ($_[1]); INSERT INTO t VALUES ($_[1])\0") });
stalled('two leases, the first is lost', run => sub { $_[0]->send(Q => "INSERT INTO t VALUES ($_[1]); INSERT INTO u VALUES ($_[1])\0") });
stalled('two leases, the second is lost', lease => 'y', run => sub { $_[0]->send(Q => "INSERT INTO t VALUES ($_[1]); INSERT INTO u VALUES ($_[1])\0") });
stalled('a row routed into a partition', run => sub { $_[0]->send(Q => "INSERT INTO m VALUES ($_[1])\0") }, check => 'SELECT count(*) FROM m1 WHERE id = %d');
stalled('a cascade', run => sub { $_[0]->send(Q => "DELETE FROM parent WHERE id = $_[1]\0") },
	check => 'SELECT count(*) FROM (SELECT 1 WHERE NOT EXISTS (SELECT FROM child WHERE id = %d)) x');
stalled('TRUNCATE', run => sub { $_[0]->send(Q => "TRUNCATE t; INSERT INTO free VALUES ($_[1])\0") }, check => 'SELECT count(*) FROM free WHERE id = %d');
stalled('ALTER TABLE', run => sub { $_[0]->send(Q => "ALTER TABLE t ADD c$_[1] integer\0") },
	check => q{SELECT count(*) FROM pg_attribute WHERE attrelid = 't'::regclass AND attname = 'c%d'});
stalled('CALL, the first commit', run => sub { $_[0]->send(Q => "CALL committing($_[1], " . ($_[1] + 10000) . ")\0") });
stalled('CALL, the second commit', lease => 'y', pass => 2, run => sub { $_[0]->send(Q => "CALL committing($_[1], " . ($_[1] + 10000) . ")\0") });
# lost after the first of its two commits: the answer is about that one, too
stalled('the answer to CALL', answer => 1, pass => 2, run => sub { $_[0]->send(Q => "CALL committing($_[1], " . ($_[1] + 10000) . ")\0") });
stalled('the answer to a simple query', answer => 1, run => sub { $_[0]->send(Q => $insert->($_[1]) . "\0") });
stalled('the answer in the extended protocol', answer => 1, run => sub { $_[0]->send($_[0]->extended($insert->($_[1])), S => '') });
stalled('the answer, with two leases', lease => 'y', answer => 1,
	run => sub { $_[0]->send(Q => "BEGIN; INSERT INTO t VALUES ($_[1]); INSERT INTO u VALUES ($_[1]); COMMIT\0") });

# ---------------------------------------------------------------------------
# What is still told
# ---------------------------------------------------------------------------

sub told
{
	my ($name, $sql, $expected, %how) = @_;
	take($_) foreach 'x', 'y';
	my $session = $fence->session;
	$session->query("SELECT fencetest.stall(1, 'x')");
	my $offset = -s $node->logfile;
	$session->send(Q => "$sql\0");
	$node->wait_for_log(qr/stalled after a commit/, $offset);
	lose('x');
	is($session->until_ready, $expected, $name);
	is($session->query('SELECT 1'), 'T D:1 C:SELECT 1 Z', "$name: and the session goes on");
	$session->disconnect;
	return;
}
told('a write of a table that has no lease', 'INSERT INTO free VALUES (20000)', 'C:INSERT 0 1 Z');
told('a write under another lease', 'INSERT INTO u VALUES (20000)', 'C:INSERT 0 1 Z');
told('a transaction that only read it', 'SELECT count(*) FROM m', 'T D:1 C:SELECT 1 Z');

# ---------------------------------------------------------------------------
# The flags that a hand-over waits for
# ---------------------------------------------------------------------------

use constant { INSTANCE => 1 << 31, X => 1, Y => 2 };

sub flags
{
	my ($name, $sql, $in_commit, $writing) = @_;
	take($_) foreach 'x', 'y';
	my $session = $fence->session;
	my $flags   = 'flags(' . $session->pid . ')';
	$session->query("SELECT fencetest.stall(1, 'x')");
	my $offset = -s $node->logfile;
	$session->send(Q => "$sql\0");
	$node->wait_for_log(qr/stalled after a commit/, $offset);
	is($fence->call($flags), "($in_commit,$writing)", "$name: raised during the commit");
	lose('x');
	$session->until_ready;
	$session->disconnect;
	return;
}
flags('one lease', 'INSERT INTO t VALUES (30001)', INSTANCE | X, X);
flags('two', 'INSERT INTO t VALUES (30002); INSERT INTO u VALUES (30002)', INSTANCE | X | Y, X | Y);
flags('none', 'INSERT INTO free VALUES (30003)', INSTANCE, 0);
{
	take($_) foreach 'x', 'y';
	my $session = $fence->session;
	my $flags   = 'flags(' . $session->pid . ')';
	$session->query($_) foreach 'BEGIN', 'INSERT INTO t VALUES (30004)';
	is($fence->call($flags), '(0,' . X . ')', 'not before it');
	$session->query('COMMIT');
	is($fence->call($flags), '(0,0)', 'nor after it');
	$session->query($_) foreach 'BEGIN', 'INSERT INTO t VALUES (30005)';
	lose('x');
	is($session->query('COMMIT'), 'E:25006 Z', 'a refused commit');
	is($fence->call($flags), '(0,0)', 'lowers them, too');
	take('x');
	$session->query($_) foreach 'BEGIN', 'INSERT INTO t VALUES (30006)', 'ROLLBACK';
	is($fence->call($flags), '(0,0)', 'so does a rollback');
	$session->disconnect;
}
$fence->stop;

# Where nothing is protected yet, a commit raises its flag all the same: the first
# table is protected only when those that knew of none are over.
{
	my $first = FenceTest->new('b', conf => "leasehold.lease = ''\nmax_prepared_transactions = 5\n");
	my $server = $first->node;
	$server->safe_psql('postgres', 'CREATE TABLE t (id integer)');
	$first->call("slot('x')");
	$first->call(q{open_table('x')});
	my $session = $first->session;
	my $flags   = 'flags(' . $session->pid . ')';
	foreach my $sql ('INSERT INTO t VALUES (1)', q{COMMIT PREPARED 'p'})
	{
		$first->call(q{open_table('x')});
		$session->query($_) foreach 'BEGIN', 'INSERT INTO t VALUES (2)', q{PREPARE TRANSACTION 'p'}, q{SELECT fencetest.stall(1, 'x')};
		my $offset = -s $server->logfile;
		$session->send(Q => "$sql\0");
		$server->wait_for_log(qr/stalled after a commit/, $offset);
		is($first->call($flags), '(' . INSTANCE . ',0)', "raised where nothing is protected: $sql");
		$first->call(q{close_table('x')});
		like($session->until_ready, qr/^C:.* Z$/, 'and the client is told');
		is($first->call($flags), '(0,0)', 'lowered');
		$session->query(q{ROLLBACK PREPARED 'p'});
	}
	# one that wrote before the first table was protected
	$session->query($_) foreach 'BEGIN', 'INSERT INTO t VALUES (3)';
	$first->call(q{open_table('x')});
	$first->call(q{protect('postgres', 'public', 't', 'x')});
	is($session->query('COMMIT'), 'E:25006 Z', 'written before the first table was protected');
	like($session->error, qr/cannot commit: this transaction wrote table "public\.t" without lease "x"/, 'and told so');
	$session->disconnect;
	$first->stop;
}

done_testing();
