# A primary and its standbys: planned hand-overs, and a clean shutdown.

use strict;
use warnings;

use LeaseholdTest;
use Test::More;

my $group = LeaseholdTest->new(
	kind  => 'physical',
	nodes => [ 'a', 'b', 'c' ],
	ttl   => '2s');
my ($a, $b, $c) = $group->nodes;
my $writer = $group->start_writer('multi', connections => 4);
$writer->wait_acks(500);
my ($state, $answer) = $c->try(q{SELECT leasehold.switchover('b')});
is($state, '', 'a switchover is asked for on the third node') or diag $answer;
$group->wait_holder($b);
$writer->wait_acks($writer->acks + 500);
$c->wait_streaming($b);
pass('the third node follows');
$writer->stop;
my $verdict = $group->judge($writer);
is($verdict->{late}, 0, 'no acknowledgement outside the lease');
is($verdict->{missing}, 0, 'no acknowledged write is missing');
diag $verdict->{text};

done_testing();
