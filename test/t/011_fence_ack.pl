# The race: a backend checks its lease, is stopped, commits after the lease was
# lost, and tells its client.  By then another node may have acknowledged
# something else.  So the client must learn nothing: the connection ends, no
# success is told, and the log says that the outcome is unknown to the client.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use FenceTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $fence = FenceTest->new('a', conf => "wal_level = replica\nmax_wal_senders = 5\n");
my $node  = $fence->node;

$fence->open;
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE t (id integer PRIMARY KEY);
CREATE TABLE raw (id integer);
CREATE PROCEDURE committing(first integer, second integer) LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO t VALUES (first);
	COMMIT;
	INSERT INTO t VALUES (second);
END $$;
SQL

my $next = 0;

# A session in which one commit stalls until the lease is lost.  "run" sends
# something; what the client is told must be as expected, and then the end.
# With "answer" it stalls later: the fence has let the commit pass, and all of
# the answer is about to be sent.
sub stalled
{
	my ($name, %how) = @_;
	my $id = ++$next;
	$fence->open;
	my $withheld = $fence->call('counters()') =~ /\((\d+),/ ? $1 : die;
	my $session  = $fence->session;
	$session->query($_ =~ s/%d/$id/r) foreach @{ $how{before} || [] };
	my $stall = $how{answer} ? 'stall_answer' : 'stall';
	$session->query("SELECT fencetest.$stall(" . ($how{pass} // 1) . ')') unless $how{inside};
	my $offset = -s $node->logfile;
	$how{run}->($session, $id);
	$node->wait_for_log($how{answer} ? qr/stalled before an answer/ : qr/stalled after a commit/, $offset);
	$fence->close;
	my $said = $session->until_ready;
	is($said, $how{told} // 'EOF', "$name: the client is told nothing");
	my $log = slurp_file($node->logfile, $offset);
	my $when = $how{answer} ? 'before the answer had left' : 'while it became durable';
	my $lines = () = $log =~ /LOG:  not acknowledging a commit: lease "main" was lost $when/g;
	is($lines, 1, "$name: logged");
	like($log, qr/DETAIL:  .*outcome is unknown to the client/, "$name: as unknown to the client");
	is($fence->call('counters()') =~ /\((\d+),/ ? $1 : -1, $withheld + 1, "$name: counted");
	my $check = $how{check} || 'SELECT count(*) FROM t WHERE id = %d';
	is($node->safe_psql('postgres', $check =~ s/%d/$id/r), 1, "$name: it is durable indeed");
	return;
}

stalled('autocommit', run => sub { $_[0]->send(Q => "INSERT INTO t VALUES ($_[1])\0") });
stalled('BEGIN, COMMIT', run => sub {
	my ($session, $id) = @_;
	is($session->query('BEGIN'), 'C:BEGIN Z', 'in a block');
	is($session->query("INSERT INTO t VALUES ($id)"), 'C:INSERT 0 1 Z', 'the write itself');
	$session->send(Q => "COMMIT\0");
});
stalled('several statements in one string', run => sub { $_[0]->send(Q => "SELECT 7; INSERT INTO t VALUES ($_[1]); SELECT 8\0") });
stalled('several transactions in one string', run => sub {
	$_[0]->send(Q => "BEGIN; INSERT INTO t VALUES ($_[1]); COMMIT; SELECT 9\0");
});
stalled('COMMIT AND CHAIN', run => sub { $_[0]->send(Q => "BEGIN; INSERT INTO t VALUES ($_[1]); COMMIT AND CHAIN; SELECT 9\0") });
stalled('extended protocol', run => sub { $_[0]->send($_[0]->extended("INSERT INTO t VALUES ($_[1])"), S => '') });
stalled('extended protocol, COMMIT', before => ['SELECT 1'], run => sub {
	my ($session, $id) = @_;
	$session->query('BEGIN');
	$session->query("INSERT INTO t VALUES ($id)");
	$session->send($session->extended('COMMIT'), S => '');
});
stalled('a pipeline with one Sync', run => sub {
	my ($session, $id) = @_;
	$session->send($session->extended('SELECT 1'), $session->extended("INSERT INTO t VALUES ($id)"), $session->extended('SELECT 2'), S => '');
});
stalled('a pipeline with many', run => sub {
	my ($session, $id) = @_;
	my @messages = ($session->extended("INSERT INTO t VALUES ($id)"), S => '');
	push @messages, $session->extended('SELECT 1'), S => '' foreach 1 .. 50;
	$session->send(@messages);
});
stalled('a pipeline whose output fills the buffer', run => sub {
	my ($session, $id) = @_;
	my @messages = ($session->extended('BEGIN'), $session->extended("INSERT INTO t VALUES ($id)"), $session->extended('COMMIT'));
	push @messages, $session->extended(q{SELECT repeat('x', 3000)}) foreach 1 .. 20;
	$session->send(@messages, S => '');
});
# the line in the log must not take the success with it ("1 2": it was parsed
# and bound, which went out with the line that log_statement writes)
stalled('a client that asked for the messages of the log', told => '1 2 EOF', before => ['SET client_min_messages = log'],
	run => sub { $_[0]->send($_[0]->extended("INSERT INTO t VALUES ($_[1])"), S => '') });
stalled('asynchronous commit', before => ['SET synchronous_commit = off'],
	run => sub { $_[0]->send(Q => "INSERT INTO t VALUES ($_[1])\0") });
stalled('PREPARE TRANSACTION', run => sub {
		my ($session, $id) = @_;
		$session->query('BEGIN');
		$session->query("INSERT INTO t VALUES ($id)");
		$session->send(Q => "PREPARE TRANSACTION 'p$id'\0");
	},
	check => q{SELECT count(*) FROM pg_prepared_xacts WHERE gid = 'p%d'});
stalled('COMMIT PREPARED', before => [ 'BEGIN', 'INSERT INTO t VALUES (%d)', q{PREPARE TRANSACTION 'c%d'} ],
	run => sub { $_[0]->send(Q => "COMMIT PREPARED 'c$_[1]'\0") });
stalled('ROLLBACK PREPARED', before => [ 'BEGIN', 'INSERT INTO t VALUES (%d)', q{PREPARE TRANSACTION 'c%d'} ],
	run => sub { $_[0]->send(Q => "ROLLBACK PREPARED 'c$_[1]'\0") },
	check => q{SELECT count(*) FROM (SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_prepared_xacts WHERE gid = 'c%d')) x});
stalled('CALL with COMMIT inside', run => sub { $_[0]->send(Q => "CALL committing($_[1], " . ($_[1] + 10000) . ")\0") });
stalled('DO with COMMIT inside', run => sub {
	$_[0]->send(Q => "DO \$\$ BEGIN INSERT INTO t VALUES ($_[1]); COMMIT; PERFORM 1; END \$\$\0");
});
stalled('NOTIFY', run => sub { $_[0]->send(Q => "NOTIFY a; INSERT INTO t VALUES ($_[1])\0") });
stalled('C code', run => sub { $_[0]->send(Q => "SELECT fencetest.heap_insert('raw', $_[1])\0") },
	check => 'SELECT count(*) FROM raw WHERE id = %d');

stalled('the answer to a simple query', answer => 1,
	run => sub { $_[0]->send(Q => "INSERT INTO t VALUES ($_[1])\0") });
stalled('the answer in the extended protocol', answer => 1,
	run => sub { $_[0]->send($_[0]->extended("INSERT INTO t VALUES ($_[1])"), S => '') });
stalled('the answer to a pipeline', answer => 1, run => sub {
	my ($session, $id) = @_;
	$session->send($session->extended("INSERT INTO t VALUES ($id)"), S => '', $session->extended('SELECT 1'), S => '');
});
stalled('the answer to COMMIT PREPARED', answer => 1,
	before => [ 'BEGIN', 'INSERT INTO t VALUES (%d)', q{PREPARE TRANSACTION 'c%d'} ],
	run => sub { $_[0]->send(Q => "COMMIT PREPARED 'c$_[1]'\0") });

# An answer that is long in the making: what was put into the buffer while the
# lease was held must not leave because something fills the buffer later.
{
	$fence->open;
	my $other = $fence->session;
	$other->query('SELECT pg_advisory_lock(1)');
	my $session = $fence->session;
	my @messages = map { $session->extended($_) } 'BEGIN', 'INSERT INTO t VALUES (30000)', 'COMMIT', 'SELECT pg_advisory_lock_shared(1)';
	push @messages, $session->extended(q{SELECT repeat('x', 3000)}) foreach 1 .. 20;
	$session->send(@messages, S => '');
	$node->poll_query_until('postgres',
		q{SELECT wait_event = 'advisory' FROM pg_stat_activity WHERE pid = } . $session->pid) or die;
	$fence->close;
	$other->query('SELECT pg_advisory_unlock(1)');
	is($session->until_ready, 'EOF', 'a buffer that overflows: the client is told nothing');
	is($node->safe_psql('postgres', 'SELECT count(*) FROM t WHERE id = 30000'), 1, 'a buffer that overflows: it is durable indeed');
	$other->disconnect;
}

# ---------------------------------------------------------------------------
# A wait for a synchronous standby that outlives the lease
# ---------------------------------------------------------------------------

sub wait_for_standby
{
	my ($on) = @_;
	$node->append_conf('postgresql.conf', q{synchronous_standby_names = '} . ($on ? 'nobody' : '') . q{'});
	$node->reload;
	$node->poll_query_until('postgres',
		q{SELECT current_setting('synchronous_standby_names') = '} . ($on ? 'nobody' : '') . q{'}) or die;
	# commits go by what the checkpointer has made of it
	$node->safe_psql('postgres', 'CHECKPOINT');
	return;
}

sub waiting
{
	my ($name, $send, $end) = @_;
	my $id = ++$next;
	$fence->open;
	wait_for_standby(1);
	my $session = $fence->session;
	my $offset = -s $node->logfile;
	$send->($session, $id);
	$node->poll_query_until('postgres',
		'SELECT wait_event = \'SyncRep\' FROM pg_stat_activity WHERE pid = ' . $session->pid) or die;
	$fence->close;
	$end->($session);
	is($session->until_ready, 'EOF', "$name: the client is told nothing");
	wait_for_standby(0);
	is($node->safe_psql('postgres', "SELECT count(*) FROM t WHERE id = $id"), 1, "$name: it is durable indeed");
	return;
}

foreach my $protocol ('simple', 'extended')
{
	my $send = sub {
		my ($session, $id) = @_;
		my $sql = "INSERT INTO t VALUES ($id)";
		$protocol eq 'simple' ? $session->send(Q => "$sql\0") : $session->send($session->extended($sql), S => '');
	};
	waiting("$protocol, the standby answers too late", $send, sub { wait_for_standby(0) });
	# the server warns of a cancelled wait, and would flush what is buffered
	waiting("$protocol, the wait is cancelled", $send, sub {
		$node->safe_psql('postgres', 'SELECT pg_cancel_backend(' . $_[0]->pid . ')');
	});
	waiting("$protocol, the session is terminated", $send, sub {
		$node->safe_psql('postgres', 'SELECT pg_terminate_backend(' . $_[0]->pid . ')');
	});
}

# ---------------------------------------------------------------------------
# What is still told
# ---------------------------------------------------------------------------

{
	$fence->open;
	my $session = $fence->session;
	is($session->query('BEGIN'), 'C:BEGIN Z', 'a transaction that only reads');
	$session->query('SELECT 1');
	$session->query('SELECT fencetest.stall(0)');
	my $offset = -s $node->logfile;
	$session->send(Q => "COMMIT\0");
	$node->wait_for_log(qr/stalled after a commit/, $offset);
	$fence->close;
	is($session->until_ready, 'C:COMMIT Z', 'is acknowledged, whatever happens to the lease');
	is($session->query('SELECT 1'), 'T D:1 C:SELECT 1 Z', 'and its session goes on');
	$session->disconnect;
}
{
	$fence->open;
	my $session = $fence->session;
	$session->query('CREATE TEMP TABLE tmp (id integer)');
	$session->query('SELECT fencetest.stall(1)');
	my $offset = -s $node->logfile;
	$session->send(Q => "INSERT INTO tmp VALUES (1)\0");
	$node->wait_for_log(qr/stalled after a commit/, $offset);
	$fence->close;
	is($session->until_ready, 'C:INSERT 0 1 Z', 'so is one that wrote to temporary tables only');
	$session->disconnect;
}

# the flags that a hand-over waits for
{
	$fence->open;
	my $session = $fence->session;
	my $flags = 'session(' . $session->pid . ')';
	like($fence->call($flags), qr/^\(f,f,f,\d+\)$/, 'no flag is raised by a session at rest');
	$session->query('BEGIN; INSERT INTO t VALUES (20000)');
	like($fence->call($flags), qr/^\(f,t,f,\d+\)$/, 'one says that a transaction has written');
	$session->query('SELECT fencetest.stall(0)');
	my $offset = -s $node->logfile;
	$session->send(Q => "COMMIT\0");
	$node->wait_for_log(qr/stalled after a commit/, $offset);
	like($fence->call($flags), qr/^\(t,t,f,\d+\)$/, 'one that a commit is under way');
	$fence->close;
	is($session->until_ready, 'EOF', 'the session is gone');
	ok($node->poll_query_until('postgres', "SELECT fencetest.$flags IS NULL"), 'and so are its flags');

	$fence->open;
	$session = $fence->session;
	$flags = 'session(' . $session->pid . ')';
	$session->query('BEGIN; INSERT INTO t VALUES (20000)');
	$session->query('ROLLBACK');
	like($fence->call($flags), qr/^\(f,f,f,\d+\)$/, 'a rollback lowers them');
	$session->query('BEGIN; INSERT INTO t VALUES (20001)');
	$fence->close;
	is($session->query('COMMIT'), 'E:25006 Z', 'a refused commit');
	like($fence->call($flags), qr/^\(f,f,f,\d+\)$/, 'lowers them, too');
	$session->disconnect;
}

$fence->stop;
done_testing();
