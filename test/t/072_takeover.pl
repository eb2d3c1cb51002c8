# A primary and its standbys: who takes over, when, and with what.
#
# Judged by what clients were told: every acknowledged write is on the new
# primary, or lies within what the fault explains.

use strict;
use warnings;

use LeaseholdTest;
use Test::More;

my $ttl = 1;
my $group = LeaseholdTest->new(
	kind  => 'physical',
	nodes => [ 'a', 'b', 'c' ],
	ttl   => "${ttl}s");
my ($a, $b, $c) = $group->nodes;

is($a->safe_psql('postgres', 'SELECT state FROM leasehold.status'), 'holder', 'the primary holds the lease');

# ---------------------------------------------------------------------------
# The primary dies as a whole
# ---------------------------------------------------------------------------

my $writer = $group->start_writer('multi', connections => 2);
$writer->wait_acks(200);
$a->kill_all;
my $new = $group->wait_holder(not => $a);
ok($new == $b || $new == $c, 'a standby takes over');
is($new->safe_psql('postgres', 'SELECT pg_is_in_recovery()'), 'f', 'it is promoted');
my $acks = $writer->acks;
$writer->wait_acks($acks + 100);
my ($other) = grep { $_ != $new && $_ != $a } $group->nodes;
$other->wait_streaming($new);
pass('the other standby follows it');
$writer->stop;
my $verdict = $group->judge($writer);
is($verdict->{late}, 0, 'no acknowledgement outside the lease');
diag $verdict->{text};

done_testing();
