# Requests of people over a store of three members: switchover, pause, resume,
# acquire, with everything in order and with members, keepers and holders gone.
#
# What this guards: a request is a word in the store, not a lock.  It must be
# done or taken back: a caller who was told that a switchover failed must not
# see the lease move afterwards, and a pause that the holder never confirmed
# must not freeze the group.

use strict;
use warnings;

use LeaseholdTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $group = LeaseholdTest->new(nodes => [ 'a', 'b' ], members => 3, ttl => '2s');
my ($a, $b) = $group->nodes;
my @members = $group->members;

sub other { my ($node) = @_; return $node == $a ? $b : $a; }

# Run it; returns SQLSTATE, text and the seconds that it took.
sub timed
{
	my ($node, $sql) = @_;
	my $start = clock_now();
	my ($state, $text) = $node->try($sql);
	return ($state, $text, (clock_now() - $start) / 1e9);
}

sub switchover
{
	my ($from, $to, $timeout) = @_;
	return timed($from,
		"SELECT leasehold.switchover('$to->{leasehold_name}', timeout => '"
		  . ($timeout // '10s') . "')");
}

# ---------------------------------------------------------------------------
# From either side, also right after the nodes have come up
# ---------------------------------------------------------------------------

foreach my $round (1 .. 4)
{
	my $holder = $group->holder;
	my $target = other($holder);
	my $caller = $round % 2 ? $holder : $target;
	my $before = $holder->epoch;
	my ($state, $text) = switchover($caller, $target);

	is($state, '', "switchover $round, called on " . $caller->name) or diag($text);
	cmp_ok($text, '>', $before, '... returns a higher epoch');
	is($group->wait_holder($target)->epoch, $text, '... under which the target holds it');
}
my $holder = $group->holder;
my $target = other($holder);
my ($state, $text, $took) = switchover($target, $holder);
is($text, $holder->epoch, 'to the holder itself: its epoch');

# ---------------------------------------------------------------------------
# A member that does not answer
# ---------------------------------------------------------------------------

$members[1]->freeze('all');
foreach my $call (
	"leasehold.pause()", "leasehold.resume()",
	"leasehold.alter_lease('main', '3s')", "leasehold.alter_lease('main', '2s')",
	"leasehold.create_lease('more')")
{
	($state, $text, $took) = timed($target, "SELECT $call");
	is($state, '', "$call with a member that is stopped") or diag($text);
}
($state, $text, $took) = timed($target, 'SELECT count(*) FROM leasehold.check()');
is($state, '', 'check() does not hang with it');
cmp_ok($took, '<', 15, '... but ends');
($state, $text) = switchover($holder, $target);
is($state, '', 'a switchover with it') or diag($text);
$members[1]->thaw;
($holder, $target) = ($group->wait_holder($target), $holder);

# ---------------------------------------------------------------------------
# A target that does not take it
# ---------------------------------------------------------------------------

$target->freeze('keeper');
($state, $text, $took) = switchover($holder, $target, '1s');
is($state, '55000', 'a target whose keeper is stopped');
is($group->wait_holder, $holder, '... the old holder is the holder');
wait_until('the target is known not to be alive', sub {
	(switchover($holder, $target, '1s'))[1] =~ /is not alive/ });
($state, $text) = $target->try("SELECT leasehold.acquire(timeout => '100ms')");
like($state, qr/^55/, 'acquire() on it does not hang');
like($holder->safe_psql('postgres', "SELECT alive FROM leasehold.nodes WHERE node = '$target->{leasehold_name}'"),
	qr/^f$/, 'the nodes view shows it');
$target->thaw;
my $epoch = $holder->epoch;
$target->wait_state('follower');
is($group->holder, $holder, 'nothing of it is left when it wakes up');
is($holder->epoch, $epoch, '... the lease has not moved');
is(($target->try("SELECT leasehold.acquire(timeout => '100ms')"))[0], '55P03',
	'acquire() says that another holds it');

# ---------------------------------------------------------------------------
# No majority
# ---------------------------------------------------------------------------

$_->stop('immediate') foreach @members[ 0, 1 ];
foreach my $call ('leasehold.pause()', 'leasehold.resume()',
	"leasehold.switchover('a')", "leasehold.alter_lease('main', '2s')",
	"leasehold.create_lease('z')", "leasehold.drop_lease('more')")
{
	# (on the node whose sessions nobody ends when the holder loses its lease)
	($state, $text) = timed($target, "SELECT $call");
	is($state, '08001', "$call without a majority");
	like($text, qr/1 of 3, 2 are needed/, '... says so');
}
wait_until('the holder has lost it', sub { !$holder->holds });
is(($holder->try('SELECT count(*) FROM leasehold.check()'))[0], '', 'check() answers');
is(($holder->try('SELECT state FROM leasehold.status'))[0], '', '... and the views do');
$_->start foreach @members[ 0, 1 ];
$holder = $group->wait_holder;
$target = other($holder);

# ---------------------------------------------------------------------------
# A pause that outlives its holder
# ---------------------------------------------------------------------------

$epoch = $holder->epoch;
is(($target->try('SELECT leasehold.pause()'))[0], '', 'paused from the other node');
$holder->wait_state('paused');
is(($target->try("SELECT leasehold.switchover('$target->{leasehold_name}')"))[0], '55000',
	'no switchover while it is paused');
$holder->kill_all;
($state, $text, $took) = timed($target, 'SELECT leasehold.resume()');
is($state, '55000', 'the end of the pause waits for the holder');
like($text, qr/force => true/, '... and says what to do when that is dead');
is($target->safe_psql('postgres', 'SELECT leasehold.holds()'), 'f', 'nobody has taken it');
is(($target->try('SELECT leasehold.resume(force => true)'))[0], '', 'ended by force');
$group->wait_holder($target);
cmp_ok($target->epoch, '>', $epoch, 'the other node takes it');
$holder->start_again;
$holder->wait_state('follower');

# a pause of a lease whose holder is silent is taken back
$target->freeze('keeper');
($state, $text) = $holder->try("SELECT leasehold.pause('more')");
is($state, '', 'a lease that nobody holds is paused at once');
is(($holder->try("SELECT leasehold.resume('more')"))[0], '', '... and resumed');
$target->thaw;
$group->wait_holder;

done_testing();
