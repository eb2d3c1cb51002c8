# leasehold.on_superseded = 'rejoin': a former primary comes back as a standby by
# itself, after a switchover and after a crash, again and again.

use strict;
use warnings;

use LeaseholdTest;
use Test::More;

my $bindir = qx{"$ENV{PG_CONFIG}" --bindir};
chomp $bindir;
my $group = LeaseholdTest->new(
	kind  => 'physical',
	nodes => [ 'a', 'b', 'c' ],
	ttl   => '2s',
	conf  => "leasehold.on_superseded = rejoin\n"
	  . "leasehold.rejoin_command = '\"$bindir/leasehold-rejoin\" --restart -D \"\$LEASEHOLD_DATA\" --log=\"$PostgreSQL::Test::Utils::log_path/rejoin_\$LEASEHOLD_NODE.log\"'\n");
my ($a, $b, $c) = $group->nodes;

# Until it runs again, as a standby of that node.  The server was started by the
# program: the test has to learn of its new postmaster.
sub wait_rejoined
{
	my ($node, $holder) = @_;
	LeaseholdTest::wait_until($node->name . ' is a standby again', sub {
			my ($state, $out) = $node->try('SELECT pg_is_in_recovery()', timeout => 10);
			$state eq '' && $out eq 't';
		});
	$node->_update_pid(1);
	$node->wait_streaming($holder);
	return;
}

my $writer = $group->start_writer('multi', connections => 2, epoch => 1);
my $holder = $a;
foreach my $next ($b, $a, $b)
{
	$writer->wait_acks($writer->acks + 200);
	my ($state, $out) = $c->try("SELECT leasehold.switchover('$next->{leasehold_name}')");
	is($state, '', "switchover to $next->{leasehold_name}") or diag $out;
	$group->wait_holder($next);
	wait_rejoined($holder, $next);
	pass("$holder->{leasehold_name} follows it");
	$holder = $next;
}
$writer->stop;
my $verdict = $group->judge($writer, history => $group->history_file);
is($verdict->{late}, 0, 'no acknowledgement outside the lease') or diag $verdict->{text};
is($verdict->{missing}, 0, 'no acknowledged write is missing');

# After a crash a supervisor starts it as it was.
$writer = $group->start_writer('multi', connections => 2, epoch => 1);
$writer->wait_acks(200);
$holder->kill_all;
my $new = $group->wait_holder(not => $holder);
$writer->wait_acks($writer->acks + 200);
$holder->start_again;
wait_rejoined($holder, $new);
pass('a primary that was killed comes back as a standby');
$writer->stop;
$verdict = $group->judge($writer, history => $group->history_file);
is($verdict->{late}, 0, 'no acknowledgement outside the lease') or diag $verdict->{text};
done_testing();
