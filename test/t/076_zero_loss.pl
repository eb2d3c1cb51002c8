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
$a->kill_all;
my $new = $group->wait_holder(not => $a);
is($new->{leasehold_name}, $first, 'the synchronous standby takes over');
$writer->wait_acks($writer->acks + 300);
my $second = synchronous($new);
is($second, ($first eq 'b' ? 'c' : 'b'), 'the third node is synchronous next');
$writer->stop;
my $verdict = $group->judge($writer);
is($verdict->{late}, 0, 'no acknowledgement outside the lease') or diag $verdict->{text};
is($verdict->{missing}, 0, 'no acknowledged write is missing');

# ---------------------------------------------------------------------------
# No standby is left: writes go on alone, and status says so
# ---------------------------------------------------------------------------

$writer = $group->start_writer($new, connections => 2);
$writer->wait_acks(100);
$node{$second}->kill_all;
LeaseholdTest::wait_until('the holder is alone', sub {
		$new->ask('SELECT zero_loss FROM leasehold.status') eq 'alone' });
$writer->wait_acks($writer->acks + 100);
pass('writes go on');
$node{$second}->start_again;
is(synchronous($new), $second, 'the standby that returns is waited for again');
$writer->stop;

done_testing();
