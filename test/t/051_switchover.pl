# The lease is moved on purpose.
#
# A switchover must lose nothing, cost clients no more than a moment, and never
# leave the group without anybody who can write: whatever dies half-way, either
# the old holder stays holder or the target has it.  A pause must outlast a store
# that cannot be reached, a restart of the holder, and end only by the holder's
# own doing or by force.  A clean shutdown passes the lease on at once, or keeps
# it for the next run.

use strict;
use warnings;

use LeaseholdTest;
use LeaseholdWire;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# What is reserved stays so for a third of it: time to let something befall others.
my $ttl_ms = 6000;
my $group = LeaseholdTest->new(nodes => [ 'a', 'b', 'c' ], ttl => "$ttl_ms ms",
	conf => "leasehold.health_timeout = '20s'");
my ($a, $b, $c) = $group->nodes;

sub name { return $_[0]{leasehold_name}; }

sub by_size { return $main::a <=> $main::b; }

# Every other node has seen that this one lives.
sub wait_seen
{
	my ($node, @by) = @_;
	my $name = name($node);

	foreach my $other (@by)
	{
		wait_until("$name is seen to live", sub {
			$other->safe_psql('postgres', "SELECT alive FROM leasehold.nodes WHERE node = '$name'") eq 't';
		});
	}
	return;
}

sub switchover
{
	my ($caller, $target, %options) = @_;
	my $timeout = defined $options{timeout} ? ", timeout => '$options{timeout}'" : '';
	return $caller->try("SELECT leasehold.switchover('$target'$timeout)");
}

# Have the lease where a part of this test wants it.
sub hold
{
	my ($node) = @_;

	wait_until(
		name($node) . ' holds the lease',
		sub {
			return 1 if $node->holds;
			$group->wait_holder;
			switchover($node, name($node));
			return 0;
		});
	return;
}

# ---------------------------------------------------------------------------
# Back and forth, ten times, under load
# ---------------------------------------------------------------------------
my %writer = map {
	name($_) => $group->start_writer($_, connections => 2, epoch => 1)
} $a, $b;
$writer{a}->wait_acks(100);
wait_seen($_, $a, $b, $c) foreach $a, $b;

my @moves;
my $failed = 0;
foreach my $round (1 .. 10)
{
	my ($from, $to) = $round % 2 ? ($a, $b) : ($b, $a);
	my $caller = ($from, $to, $c)[ $round % 3 ];
	my ($state, $answer) = switchover($caller, name($to));

	$failed++, diag("round $round: $state $answer") if $state ne '';
	$failed++, diag("round $round: epoch $answer") if $state eq '' && $answer ne ($to->epoch // 'none');
	$writer{ name($to) }->wait_acks(50);
}
is($failed, 0, 'ten switchovers, called on the holder, the target and a third node, each returned the new epoch');

my $outcomes = { map { $_ => $writer{$_}->outcomes } keys %writer };
my @odd = grep { !/^(?:ack|refused|lost|error:57P01|error:08...)$/ } map { keys %$_ } values %$outcomes;
is("@odd", '', 'writers saw acknowledgements, refusals and the end of sessions, and no other error');

my $verdict = $group->judge(values %writer, history => $group->history_file, to => clock_now());
is($verdict->{late}, 0, 'no acknowledgement after the next holder had one');
is($verdict->{conflicts}, 0, 'each under the epoch of its node');
is($verdict->{missing}, 0, 'every acknowledged row exists');
is($verdict->{duplicates}, 0, 'once');
my @gaps = sort by_size map { $_->[2] } @{ $verdict->{takeovers} };
is(scalar @gaps, 10, 'ten takeovers');
diag(sprintf 'write gap of a switchover: median %.1f ms, longest %.1f ms', $gaps[ @gaps / 2 ], $gaps[-1]);
cmp_ok($gaps[-1], '<', $ttl_ms, 'nobody had to wait for a ttl');

# The reasons are on record.
is($group->store_query("SELECT count(*) FROM leasehold_store.history WHERE reason = 'handed over'"),
	10, 'the history says that it was handed over');

# ---------------------------------------------------------------------------
# Targets that will not do
# ---------------------------------------------------------------------------
hold($a);
my $epoch = $a->epoch;
{
	my ($state, $message) = switchover($b, 'nobody');
	is($state, '42704', 'an unknown target');
	like($message, qr/HINT:.*"a".*"b".*"c"/, 'the hint names those that exist');
	($state) = switchover($a, 'a');
	is($state, '', 'to the holder itself: nothing to do');
	is($a->epoch, $epoch, 'and nothing done');
}
# down, and everybody knows
$b->stop;
wait_until('b is known to be silent',
	sub { $a->safe_psql('postgres', "SELECT alive FROM leasehold.nodes WHERE node = 'b'") eq 'f' });
foreach my $caller ($a, $c)
{
	my ($state, $message) = switchover($caller, 'b');
	is($state, '55000', 'the target is down: refused, called on ' . name($caller));
	like($message, qr/"b"/, 'by its name');
}
is($a->epoch, $epoch, 'the holder held on all the time');
$b->start;
wait_seen($b, $a, $c);

# dead half-way: it was alive a moment ago, gets the lease reserved, and takes it
# not; the old holder takes it back
foreach my $death (qw(keeper all))
{
	hold($a);
	wait_seen($b, $a);
	$writer{a}->wait_acks(20);
	$epoch = $a->epoch;
	$b->freeze($death);
	my $caller = LeaseholdWire->connect($a);
	$caller->send("SELECT leasehold.switchover('b', timeout => '4s')");
	my $answer = $caller->collect;
	is($answer->{error}, '55000', "the target stops half-way ($death): the call fails");
	$group->wait_holder($a);
	$writer{a}->wait_acks(20);
	cmp_ok($a->epoch, '>', $epoch, 'the old holder has it back, under a new epoch');
	$b->thaw;
	wait_seen($b, $a);
	is($b->holds, 0, 'the target, awake again, has not');
	$caller->close;
}

# The old holder dies half-way: the lease is reserved for the target, which gets
# it, though nobody is left who could confirm anything.
{
	hold($a);
	wait_seen($b, $a, $c);
	my $caller = LeaseholdWire->connect($c);
	$b->freeze('keeper');
	$caller->send("SELECT leasehold.switchover('b', timeout => '20s')");
	wait_until('the lease is reserved',
		sub { $group->store_query('SELECT reserved_for FROM leasehold_store.lease') eq 'b' });
	$a->kill_all;
	$b->thaw;
	my $answer = $caller->collect;
	$group->wait_holder(not => $a);
	is($answer->{error} eq '' ? $b->epoch : 'fails', $answer->{error} eq '' ? $answer->{value} : 'fails',
		'the old holder dies half-way: the call says what has come of it');
	$a->start_again;
	wait_seen($a, $b, $c);
	is($a->holds, 0, 'the old holder returns as a follower');
	$caller->close;
}

# The old holder dies, and the target, too: the third is left alone, and takes it
# once the time has run out.
{
	hold($a);
	wait_seen($b, $a);
	$b->freeze('all');
	my $caller = LeaseholdWire->connect($c);
	$caller->send("SELECT leasehold.switchover('b', timeout => '5s')");
	wait_until('the lease is reserved',
		sub { $group->store_query('SELECT reserved_for FROM leasehold_store.lease') eq 'b' });
	$a->kill_all;
	$group->wait_holder($c);
	pass('old holder and target are gone: the third takes it');
	isnt($caller->collect->{error}, '', 'and the call fails');
	$b->thaw;
	$a->start_again;
	$caller->close;
}
$_->stop foreach values %writer;
$verdict = $group->judge(values %writer, history => $group->history_file);
is($verdict->{late}, 0, 'in all of this no late acknowledgement');
is($verdict->{conflicts}, 0, 'none under an epoch of another');
is($verdict->{missing}, 0, 'and every acknowledged row exists');

# ---------------------------------------------------------------------------
# release() and acquire()
# ---------------------------------------------------------------------------
$group->wait_holder;
hold($a);
# (awake again, it had set out to take what it had last seen)
$b->wait_state('follower');
$epoch = $a->epoch;
is($a->safe_psql('postgres', 'SELECT leasehold.acquire()'), $epoch, 'acquire() by the holder returns its epoch');
{
	my ($state, $message) = $b->try("SELECT leasehold.acquire(timeout => '0.2s')");
	is($state, '55P03', 'acquire() of a lease that is held');
	like($message, qr/held by node "a" under epoch $epoch/, 'says by whom');
	($state) = $b->try('SELECT leasehold.release()');
	is($state, '55000', 'release() of a lease that is not held');
}
$a->safe_psql('postgres', 'SELECT leasehold.release()');
is($a->holds, 0, 'release(): not held when it returns');
my $next = $group->wait_holder;
isnt(name($next), 'a', 'another node takes what was released');

# nobody takes it by itself: it is free until somebody is told to
hold($a);
$_->set_conf('leasehold.priority' => 0) foreach $a, $b, $c;
$a->safe_psql('postgres', 'SELECT leasehold.release()');
wait_until('b sees it free', sub { $b->status->{holder} eq '' });
like($b->status->{reason}, qr/priority/, 'and says why it does not take it');
is(($b->try('CREATE TABLE refused ()'))[0], '25006', 'with nobody holding it, nobody writes');
$epoch = $b->safe_psql('postgres', 'SELECT leasehold.acquire()');
is($b->epoch, $epoch, 'acquire() takes it, priority or not');
is($group->store_query("SELECT reason FROM leasehold_store.history WHERE epoch = $epoch AND to_node = 'b'"),
	'acquired by request', 'on record');
$_->set_conf('leasehold.priority' => undef) foreach $a, $b, $c;

# ---------------------------------------------------------------------------
# Clean shutdown
# ---------------------------------------------------------------------------
# A long ttl, so that nobody can have waited for its end.
$b->safe_psql('postgres', "SELECT leasehold.alter_lease('main', '20s')");
wait_until('the new ttl holds', sub { $group->store_query('SELECT ttl_ms FROM leasehold_store.lease') == 20000 });
hold($a);
my $start = clock_now();
$a->stop('fast');
$next = $group->wait_holder;
cmp_ok(clock_now() - $start, '<', 10e9, 'on_shutdown = release: another node takes it at once');
$a->start;
$group->wait_holder;
hold($a);
$epoch = $a->epoch;
$a->set_conf('leasehold.on_shutdown' => 'keep');
$start = clock_now();
$a->restart;
$group->wait_holder($a);
cmp_ok(clock_now() - $start, '<', 10e9, 'on_shutdown = keep: after a restart within the ttl it has it back');
cmp_ok($a->epoch, '>', $epoch, 'under a higher epoch');
is($group->store_query('SELECT reason FROM leasehold_store.history WHERE epoch = ' . $a->epoch . " AND to_node = 'a'"),
	'reclaimed by the same node', 'on record');
is($group->store_query("SELECT count(*) FROM leasehold_store.history WHERE epoch > $epoch AND to_node NOT IN ('a', '')"),
	0, 'and nobody had it meanwhile');
$_->stop foreach $group->nodes, $group->members;

# ---------------------------------------------------------------------------
# Pause
# ---------------------------------------------------------------------------
# Here each node has its own way to the store, so that the holder can be cut off
# alone.
$ttl_ms = 1500;
$group = LeaseholdTest->new(nodes => [ 'a', 'b' ], ttl => "$ttl_ms ms", proxy => 'nodes',
	conf => "leasehold.health_timeout = '20s'");
($a, $b) = $group->nodes;
%writer = map { name($_) => $group->start_writer($_, connections => 2, rate => 100, epoch => 1) } $a, $b;
$writer{a}->wait_acks(20);

# $node has acknowledged something later than so many ttls from now
sub writes_beyond
{
	my ($node, $ttls) = @_;
	my $until = clock_now() + $ttls * $ttl_ms * 1e6;

	wait_until('the time to pass', sub { clock_now() > $until });
	$writer{ name($node) }->wait_acks(20);
	return;
}

$b->safe_psql('postgres', 'SELECT leasehold.pause()');
# (the caller may learn of it from the store a moment before)
$a->wait_state('paused');
pass('pause(), called on the other node: the holder is paused');
is($a->status->{expires_in}, '', 'and has no deadline') or diag(explain($a->status));
$epoch = $a->epoch;
$writer{a}->wait_acks(20);
is((switchover($b, 'b'))[0], '55000', 'no switchover in a pause');
is(($a->try('SELECT leasehold.release()'))[0], '55000', 'and no release');

($a->proxies)[0]->do('refuse');
wait_until('the holder is cut off', sub { $a->status->{members_reachable} eq '0' });
writes_beyond($a, 3);
pass('a paused holder that cannot reach the store writes on, for three ttls');
is($b->holds, 0, 'nobody else takes it');
like($b->status->{reason}, qr/paused/, 'who says why');
is($writer{b}->acks, 0, 'and acknowledges nothing');
($a->proxies)[0]->do('pass');
wait_until('it reaches the store again', sub { $a->status->{members_reachable} eq '1' });
is($a->epoch, $epoch, 'still the same epoch');

# the holder is restarted in the pause
$a->restart;
$group->wait_holder($a);
cmp_ok($a->epoch, '>', $epoch, 'a restart of the paused holder: it has it back, under a new epoch');
$a->wait_state('paused');
pass('and is paused as before');
$epoch = $a->epoch;
$writer{a}->wait_acks(20);
is($group->store_query("SELECT count(*) FROM leasehold_store.history WHERE to_node = 'b'"), 0, 'nobody else had it');

$b->safe_psql('postgres', 'SELECT leasehold.resume()');
$a->wait_state('holder');
is($a->epoch, $epoch, 'resume(): a holder like any other, of the same epoch');
isnt($a->status->{expires_in}, '', 'with a deadline');
writes_beyond($a, 1.5);
pass('that renews');

# It dies in a pause.  Whether it is dead, only people can know.
$a->safe_psql('postgres', 'SELECT leasehold.pause()');
$a->kill_all;
my $until = clock_now() + 3 * $ttl_ms * 1e6;
wait_until('the time to pass', sub { clock_now() > $until });
is($b->holds, 0, 'the paused holder is dead: nobody takes the lease');
{
	my ($state, $message) = $b->try('SELECT leasehold.resume()');
	is($state, '55000', 'resume() waits for the dead in vain');
	like($message, qr/force/, 'and hints at force');
}
is($b->holds, 0, 'still nobody');
$b->safe_psql('postgres', 'SELECT leasehold.resume(force => true)');
$group->wait_holder($b);
pass('resume() by force: the other node takes it');
$writer{b}->wait_acks(20);
$a->start_again;
$a->wait_state('follower');
is(($a->try('CREATE TABLE refused ()'))[0], '25006', 'the dead returns as a follower');

# By force though it lives: the promise ends like any other, and nobody writes
# beside anybody.
$b->safe_psql('postgres', 'SELECT leasehold.pause()');
$b->safe_psql('postgres', 'SELECT leasehold.resume(force => true)');
$group->wait_holder;
$_->stop foreach values %writer;
$verdict = $group->judge(values %writer, history => $group->history_file);
is($verdict->{late}, 0, 'in all of this no late acknowledgement');
is($verdict->{conflicts}, 0, 'none under an epoch of another');
is($verdict->{missing}, 0, 'and every acknowledged row exists');

$_->stop foreach $group->nodes, $group->members;
done_testing();
