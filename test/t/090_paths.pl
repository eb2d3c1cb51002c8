# Paths between the nodes: each node says whom it reaches, and all know it.

use strict;
use warnings;

use LeaseholdTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $group = LeaseholdTest->new(
	nodes => [ 'a', 'b', 'c' ],
	conf  => "leasehold.probe_interval = '1s'\nleasehold.probe_timeout = '700ms'\n");
my ($a, $b, $c) = $group->nodes;

sub status_of
{
	my ($node, $peer) = @_;
	return $node->ask("SELECT concat_ws(' ', status, phase, cause) FROM leasehold.peers WHERE peer = '$peer'");
}

sub matrix
{
	my ($node) = @_;
	return $node->ask(
		"SELECT coalesce(string_agg(source || target || ':' || status, ' ' ORDER BY source, target), '')
		 FROM leasehold.connectivity WHERE kind = 'node'");
}

sub verdict
{
	my ($node, $target, $source) = @_;
	my $from = defined $source ? "'$source'" : 'NULL';
	return $node->ask("SELECT evidence FROM leasehold.diagnose('$target', $from) WHERE phase = 'verdict'");
}

foreach my $node ($a, $b, $c)
{
	foreach my $peer (grep { $_ ne $node } $a, $b, $c)
	{
		my $name = $peer->{leasehold_name};
		wait_until($node->{leasehold_name} . " reaches $name",
			sub { status_of($node, $name) eq 'ok ready' });
	}
}
wait_until('a reaches the member of the store', sub {
	$a->ask("SELECT status || ' ' || phase FROM leasehold.peers WHERE kind = 'member'") eq 'ok ready' });
pass('and the member of the store');
foreach my $node ($a, $b, $c)
{
	wait_until($node->{leasehold_name} . ' knows the whole matrix',
		sub { matrix($node) eq 'ab:ok ac:ok ba:ok bc:ok ca:ok cb:ok' });
}

# One session with each peer, no more.
is($b->ask("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'leasehold prober'"),
	2, 'each of the others holds one session');

# A peer that dies is seen at once.
my $offset = $a->log_offset;
my $began  = LeaseholdTest::clock_now();
$b->stop('immediate');
wait_until('a sees that b is gone',
	sub { status_of($a, 'b') =~ /^unreachable/ });
note sprintf('seen after %.0f ms', (LeaseholdTest::clock_now() - $began) / 1e6);
wait_until('c knows that a sees it',
	sub { matrix($c) =~ /ab:unreachable/ && matrix($c) =~ /cb:unreachable/ });
is(verdict($a, 'b'), 'target_down: no_socket', 'a says that b is down');
is(verdict($a, 'b', 'c'), 'target_down: no_socket', 'a asks c, which says so, too');
is(verdict($a, 'c', 'a'), 'stands', 'the path to c stands');
is(verdict($a, 'a', 'c'), 'stands', 'and the one back');
wait_until('the outage is in the store',
	sub { $group->store_query("SELECT count(*) FROM leasehold_store.outage WHERE ended = 0 AND target = 'b'") eq '2' });
$b->start;
wait_until('b is reached again', sub { status_of($a, 'b') eq 'ok ready' });
wait_until('the outage has ended',
	sub { $group->store_query("SELECT count(*) FROM leasehold_store.outage WHERE ended <> 0 AND source = 'a' AND target = 'b'") eq '1' });
wait_until('a shows it',
	sub { $a->ask("SELECT count(*) FROM leasehold.outages WHERE source = 'a' AND target = 'b' AND ended > began") eq '1' });
pass('a shows it');
my @lines = $a->log_since($offset) =~ /node "b" cannot be reached\n/g;
is(scalar(@lines), 1, 'logged once');

# Whoever goes says goodbye: nothing in the logs of the others about its sessions.
my %end = map { $_ => $_->log_offset } $b, $c;
$a->stop('fast');
wait_until('c sees that a is gone', sub { status_of($c, 'a') =~ /^unreachable/ });
unlike($_->log_since($end{$_}), qr/reset by peer|unexpected EOF|could not (?:receive|send)/,
	'no broken connection in the log of ' . $_->{leasehold_name})
  foreach $b, $c;
done_testing();
