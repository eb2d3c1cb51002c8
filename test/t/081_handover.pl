# A primary and its standbys: planned hand-overs, and a clean shutdown.
#
# Judged by what clients were told: nothing acknowledged is missing.

use strict;
use warnings;

use LeaseholdTest;
use Test::More;

my $group = LeaseholdTest->new(
	kind  => 'physical',
	nodes => [ 'a', 'b', 'c' ],
	ttl   => '10s');
my ($a, $b, $c) = $group->nodes;

sub timeline
{
	my ($node) = @_;
	return $node->safe_psql('postgres',
		'SELECT timeline_id FROM pg_control_checkpoint()');
}

# ---------------------------------------------------------------------------
# Switchover, asked for on a node that is not concerned
# ---------------------------------------------------------------------------

my $writer = $group->start_writer('multi', connections => 4);
$writer->wait_acks(500);
my ($state, $answer) = $c->try(q{SELECT leasehold.switchover('b')});
is($state, '', 'a switchover is asked for on the third node') or diag $answer;
$group->wait_holder($b);
$writer->wait_acks($writer->acks + 500);
$c->wait_streaming($b);
pass('the third node follows');
$writer->stop;
my $verdict = $group->judge($writer, on => $b);
is($verdict->{late}, 0, 'no acknowledgement outside the lease') or diag $verdict->{text};
is($verdict->{missing}, 0, 'no acknowledged write is missing');

# ---------------------------------------------------------------------------
# A clean shutdown hands over, too; and the old primary follows as it is
# ---------------------------------------------------------------------------

$writer = $group->start_writer('multi', connections => 4);
$writer->wait_acks(500);
my $began = LeaseholdTest::clock_now();
$b->stop('fast');
$group->wait_holder($c);
cmp_ok(LeaseholdTest::clock_now() - $began, '<', 8e9, 'it does not wait for the ttl');
$writer->wait_acks($writer->acks + 500);
$b->set_standby_mode;
$b->start;
$b->wait_streaming($c);
pass('the old primary comes back as a standby, without pg_rewind');
$writer->stop;
$verdict = $group->judge($writer, on => $c);
is($verdict->{late}, 0, 'no acknowledgement outside the lease') or diag $verdict->{text};
is($verdict->{missing}, 0, 'no acknowledged write is missing');

done_testing();
