# A group of two nodes and its store, as LeaseholdTest makes them: the first
# thing to run when something else fails.  Each part is one way in which other
# tests break things.

use strict;
use warnings;

use LeaseholdTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $group = LeaseholdTest->new(ttl => '1s', proxy => 1, clock => 1);
my ($a, $b) = $group->nodes;
my ($proxy) = $group->proxies;

is($group->holder, $a, 'the first node holds the lease');
is($a->holds, 1, 'and says so');
is($a->epoch, 1, 'its first epoch is 1');
is($b->holds, 0, 'the other does not');
is($b->epoch, undef, 'and has no epoch');
$b->wait_state('follower');
is($b->status->{holder}, 'a', 'it knows who does');
is(($b->try("INSERT INTO writes VALUES (-1, 1)"))[0], '25006', 'it refuses writes');

my $multi = $group->start_writer('multi', epoch => 1);
my $on_a = $group->start_writer($a);
my $on_b = $group->start_writer($b, mode => 'extended');
$multi->wait_acks(50);
is($multi->acks('b'), 0, 'a multi-host string finds the holder');
wait_until('b refuses', sub { $on_b->outcomes->{refused} });

# the keeper stops
$a->freeze('keeper');
$group->wait_holder($b);
$on_b->wait_acks(50);
$multi->wait_acks(50, 'b');
ok($b->epoch > 1, 'the epoch has risen');
is($a->holds, 0, 'a node with a stopped keeper holds nothing');
$a->thaw;
$a->wait_state('follower');

# everything dies
$b->kill_all;
$group->wait_holder($a);
$on_a->wait_acks(50);
$multi->wait_acks(50, 'a');
$b->start_again;
$b->wait_state('follower');

# the store answers nobody
$proxy->do('hang');
wait_until('a lets go', sub { !$a->holds });
$proxy->do('pass');
my $holder = $group->wait_holder;
$multi->wait_acks(50);

# clocks step
$holder->step_clock(3600);
$multi->wait_acks(20);
$holder->step_clock(-7200);
$multi->wait_acks(20);
is($group->holder, $holder, 'a wall clock that steps changes nothing');
my $before = $holder->epoch;
$holder->suspend(60);
wait_until('a suspend ends the lease', sub {
	my $now = $group->holder;
	$now && $now->epoch > $before;
});

$_->stop foreach $multi, $on_a, $on_b;
my $verdict = $group->judge($multi);
is($verdict->{late}, 0, 'no acknowledgement came late');
is($verdict->{conflicts}, 0, 'each epoch has one node');
is($verdict->{missing}, 0, 'nothing acknowledged is missing');
cmp_ok(@{ $verdict->{takeovers} }, '>=', 2, 'the writes moved with the lease');

is($_->safe_psql('postgres',
		"SELECT string_agg(backend_type, ', ' ORDER BY backend_type) FROM pg_stat_activity WHERE backend_type LIKE 'leasehold %'"),
	'leasehold keeper, leasehold prober, leasehold steward',
	$_->name . ': its workers show in pg_stat_activity') foreach grep { $_->alive } $group->nodes;

done_testing();
