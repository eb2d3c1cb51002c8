# leasehold.zero_loss: whoever takes over has every acknowledged write.

use strict;
use warnings;

use LeaseholdTest;
use Test::More;

my $group = LeaseholdTest->new(
	kind  => 'physical',
	nodes => [ 'a', 'b', 'c' ],
	ttl   => '1s',
	conf  => "leasehold.zero_loss = on\nleasehold.max_lag = -1\n");
my ($a, $b, $c) = $group->nodes;
my %node = map { $_->{leasehold_name} => $_ } $group->nodes;

# Who has every acknowledged write, as the holder's row says.
sub synchronous
{
	my ($holder) = @_;
	return LeaseholdTest::wait_until('a standby has every acknowledged write', sub {
			my $name = $holder->ask('SELECT zero_loss FROM leasehold.status');
			$name =~ /^(?:off|alone)$/ ? undef : $name;
		});
}

my $first = synchronous($a);
like($first, qr/^[bc]$/, 'a standby is waited for');
is($a->safe_psql('postgres', 'SHOW synchronous_standby_names'), qq{FIRST 1 ("$first")}, 'by the server itself');

# ---------------------------------------------------------------------------
# The other standby is never ahead: it does not take over, the synchronous does
# ---------------------------------------------------------------------------

my $writer = $group->start_writer('multi', connections => 4);
$writer->wait_acks(300);

# The synchronous one is held back, so that the other gets what nobody was told
# of: it is more advanced then, and must not take over all the same.
$a->freeze($a->ask("SELECT pid FROM pg_stat_replication WHERE application_name = '$first'"));
# Ahead by more than a walsender sends at a time: what is under way to the one
# that is held back still arrives there, and its flush_lsn here is old.
LeaseholdTest::wait_until('the other standby is ahead', sub {
		$a->safe_psql('postgres', q{SET synchronous_commit = local;
			SELECT pg_logical_emit_message(true, 'ahead', repeat('x', 400000))});
		$a->ask("SELECT max(flush_lsn) FILTER (WHERE application_name <> '$first')
			> max(sent_lsn) FILTER (WHERE application_name = '$first') + 262144 FROM pg_stat_replication") eq 't' });
$a->kill_all;
my $new = $group->wait_holder(not => $a);
is($new->{leasehold_name}, $first, 'the synchronous standby takes over');
$writer->wait_acks($writer->acks + 300);

# The third node was not waited for.  It may have got what the synchronous one had
# not yet, and nobody was told of: then it cannot follow, and has to be rewound.
my ($third) = grep { $_ != $a && $_ != $new } $group->nodes;
my $began = $third->log_offset;
LeaseholdTest::wait_until('the third node follows, or cannot', sub {
		$new->ask('SELECT zero_loss FROM leasehold.status') eq $third->{leasehold_name}
		  || $third->log_since($began) =~ /forked off current database system timeline/ });
if (ok($third->log_since($began) =~ /forked off current database system timeline/, 'the third node cannot follow'))
{
	$third->stop('fast');
	$third->rejoin($new);
}
my $second = synchronous($new);
is($second, $third->{leasehold_name}, 'the third node is synchronous next');
$writer->stop;
my $verdict = $group->judge($writer);
is($verdict->{late}, 0, 'no acknowledgement outside the lease') or diag $verdict->{text};
is($verdict->{missing}, 0, 'no acknowledged write is missing');

# ---------------------------------------------------------------------------
# No standby is left: writes go on alone, and status says so
# ---------------------------------------------------------------------------

$writer = $group->start_writer($new, connections => 2);
$writer->wait_acks(100);
my $withheld = $new->ask('SELECT withheld FROM leasehold.status');
$node{$second}->kill_all;
LeaseholdTest::wait_until('the holder is alone', sub {
		$new->ask('SELECT zero_loss FROM leasehold.status') eq 'alone' });
$writer->wait_acks($writer->acks + 100);
pass('writes go on');
is($new->ask('SELECT withheld FROM leasehold.status'), $withheld,
	'and those that waited for the standby are acknowledged');
$node{$second}->start_again;
is(synchronous($new), $second, 'the standby that returns is waited for again');
$writer->stop;

# ---------------------------------------------------------------------------
# A commit whose wait is cancelled is not acknowledged
# ---------------------------------------------------------------------------

# The standby's walreceiver is stopped: it is connected, and confirms nothing.
sub hold_back
{
	my ($standby) = @_;
	my ($receiver) = $standby->pids(qr/walreceiver/);
	$standby->freeze($receiver);
	return $receiver;
}

$group->store_query("UPDATE leasehold_store.lease SET request_seq = request_seq + 1, ttl_wanted_ms = 8000");
LeaseholdTest::wait_until('the ttl is long', sub {
		$new->ask("SELECT ttl FROM leasehold.status") eq '00:00:08' });
hold_back($node{$second});
my $before = $new->ask('SELECT withheld FROM leasehold.status');
# Cancels the first session that waits for a standby.
my $canceller = q{DO $$ BEGIN
	FOR i IN 1 .. 3000 LOOP
		PERFORM pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep';
		EXIT WHEN FOUND;
		PERFORM pg_stat_clear_snapshot(), pg_sleep(0.01);
	END LOOP; END $$};
foreach my $case (
	[ 'a commit',             'INSERT INTO writes VALUES (-1, 1, 0)' ],
	[ 'the end of a block',   'BEGIN; INSERT INTO writes VALUES (-1, 2, 0); COMMIT' ],
	[ 'PREPARE TRANSACTION',  q{BEGIN; INSERT INTO writes VALUES (-1, 3, 0); PREPARE TRANSACTION 'p'} ])
{
	my ($what, $sql) = @$case;
	my $pid = LeaseholdTest::spawn("$PostgreSQL::Test::Utils::log_path/canceller",
		'psql', '-X', '-d', $new->connstr('postgres'), '-c', $canceller);
	my ($state, $out) = $new->try("$sql; SELECT 'told'", timeout => 60);
	isnt($state, '', "$what whose wait is cancelled is not acknowledged");
	unlike($out, qr/told/, 'and nothing after it is answered');
	LeaseholdTest::end_child($pid);
}
is($new->ask('SELECT withheld FROM leasehold.status'), $before + 3, 'they are counted');
my ($state, $out) = $new->try(
	q{SET synchronous_commit = local; INSERT INTO writes VALUES (-1, 4, 0); SET synchronous_commit = on; UPDATE writes SET epoch = 0 WHERE client = -99; SELECT 'told'});
is($state, '', 'who does not want to wait is told');
cmp_ok($new->ask('SELECT unprotected FROM leasehold.status'), '>=', 1, 'and counted');
($state, $out) = $new->try(q{SET statement_timeout = '300ms'; SELECT count(*) FROM writes; CREATE TEMP TABLE x AS SELECT 1});
is($state, '', 'a session that writes nothing that lasts does not wait') or diag $out;
$node{$second}->thaw;
$new->safe_psql('postgres', q{ROLLBACK PREPARED 'p'});

# ---------------------------------------------------------------------------
# strict: writes wait for a standby
# ---------------------------------------------------------------------------

$new->set_conf('leasehold.zero_loss' => 'strict');
is(synchronous($new), $second, 'the standby stays synchronous');
$node{$second}->kill_all;
($state) = $new->try('INSERT INTO writes VALUES (-2, 1, 0)', timeout => 3);
isnt($state, '', 'strict: no standby, no acknowledgement');
is($new->ask('SELECT zero_loss FROM leasehold.status'), $second, 'nobody else may take over');
$node{$second}->start_again;
$node{$second}->wait_streaming($new);
$new->safe_psql('postgres', 'INSERT INTO writes VALUES (-2, 2, 0)');
pass('the standby returns, and writes go on');

# ---------------------------------------------------------------------------
# A hand-over: the row that is released names the target
# ---------------------------------------------------------------------------

# The way to the store is slow, so that a release often has to wait for its turn.
$_->stop foreach $group->nodes, $group->members;
$group = LeaseholdTest->new(
	kind  => 'physical',
	nodes => [ 'a', 'b' ],
	ttl   => '2s',
	proxy => 1,
	conf  => "leasehold.zero_loss = on\n");
$_->do('delay 15 15') foreach $group->proxies;
my ($from, $to) = $group->nodes;
foreach my $round (1 .. 5)
{
	is(synchronous($from), $to->{leasehold_name}, "round $round: the standby is synchronous");
	my ($sqlstate, $text) = $to->try("SELECT leasehold.switchover('$to->{leasehold_name}')");
	is($sqlstate, '', 'it is handed the lease') or diag $text;
	$group->wait_holder($to);
	$from->stop('fast');
	$from->rejoin($to);
	($from, $to) = ($to, $from);
}

done_testing();
