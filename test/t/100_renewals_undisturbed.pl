# Nothing that befalls the paths to the peers delays a renewal.
#
# A holder that knows twenty peers, none of which answers: ten on an address that
# nobody has, ten by names about which the name servers say nothing either.  And one of
# three members of the store falls silent.  Each connect, and each name, would block a
# process that asked for it naively, for minutes; the keeper renews ten times a second
# all the while, as fast as when all is quiet.

use strict;
use warnings;

use HostsTest;
use LeaseholdTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $rounds  = soak(3, 20);
my $samples = soak(30, 100);
my $net     = HostsTest->new;
my $silent  = $net->silent_address;

# The name servers: nobody.
my $resolv = PostgreSQL::Test::Utils::tempdir_short() . '/resolv.conf';
PostgreSQL::Test::Utils::append_to_file($resolv, "nameserver $silent\noptions timeout:2 attempts:2\n");
PostgreSQL::Test::Utils::system_or_bail('mount', '--bind', $resolv, '/etc/resolv.conf');

my $group = $net->group(
	nodes   => ['a'],
	members => 3,
	ttl     => '2s',
	table   => 0,
	conf    => "leasehold.renew_interval = '100ms'\nleasehold.probe_interval = '500ms'\nleasehold.probe_timeout = '300ms'\n");
my ($node) = $group->nodes;
my $epoch  = $node->epoch;
my $offset = $node->log_offset;

# Twenty peers that never were; and none any more.
my $register = 'INSERT INTO leasehold_store.node
	(name, incarnation, beat, advertise, role, lsn, timeline, priority, version) VALUES ';
my $peers = $register . join ', ', map {
	my $host = $_ % 2 ? $silent : "host$_.example";
	"('p$_', $_, 1, 'host=$host port=5432', 'primary', '0/0', 1, 100, '')"
} 1 .. 20;

sub at_members
{
	my ($sql) = @_;
	ask_fast($_, $sql, 'leasehold_store') foreach $group->members;
	return;
}

sub disturb
{
	at_members($peers);
	wait_until('all peers are known, and not reached', sub {
		ask_fast($node, "SELECT count(*) FROM leasehold.peers WHERE kind = 'node' AND status = 'unreachable'") eq '20' });
	return;
}

sub calm
{
	at_members("DELETE FROM leasehold_store.node WHERE name LIKE 'p%'");
	wait_until('no peer is known', sub {
		ask_fast($node, "SELECT count(*) FROM leasehold.peers WHERE kind = 'node'") eq '0' });
	return;
}

# Each renewal once: how long it took; and how long after the one before it came.
sub sample
{
	my ($n) = @_;
	my (@latency, @gap, $last);

	wait_until("$n renewals", sub {
		my ($age, $latency, $holds) = split /\n/, ask_fast($node,
			'SELECT unnest(ARRAY[extract(epoch FROM last_renewal), extract(epoch FROM renewal_latency),
			 leasehold.holds()::int]) FROM leasehold.status');
		die 'the lease was lost' unless $holds;
		# it has just begun to hold
		return 0 if $latency eq '';
		my $at = clock_now() / 1e9 - $age;
		return 0 if defined $last && $at - $last < 0.04;
		push @latency, $latency if defined $last;
		push @gap, $at - $last if defined $last;
		$last = $at;
		@latency >= $n;
	});
	return (\@latency, \@gap);
}

sub quantile
{
	my ($share, @values) = @_;
	@values = sort { $a <=> $b } @values;
	return $values[ int($share * $#values + 0.5) ];
}

my %latency = (quiet => [], disturbed => [], silent => []);
my %gap     = (quiet => [], disturbed => [], silent => []);

sub take
{
	my ($which) = @_;
	my ($latency, $gap) = sample($samples);
	push @{ $latency{$which} }, @$latency;
	push @{ $gap{$which} }, @$gap;
	return;
}

foreach my $round (1 .. $rounds)
{
	take('quiet');
	disturb();
	take('disturbed');
	$net->cut_off('store3');
	wait_until('a member is silent', sub {
		ask_fast($node, "SELECT count(*) FROM leasehold.peers WHERE kind = 'member' AND status = 'unreachable'") eq '1' });
	take('silent');
	$net->reconnect('store3');
	wait_until('all members are reached', sub {
		ask_fast($node, "SELECT count(*) FROM leasehold.peers WHERE kind = 'member' AND failures = 0") eq '3' });
	calm();
}

foreach my $which ('quiet', 'disturbed', 'silent')
{
	note sprintf '%-9s %3d renewals: latency p50 %5.2f ms, p99 %6.2f ms, max %6.2f ms; interval p50 %4.0f ms, max %4.0f ms',
	  $which, scalar @{ $latency{$which} },
	  (map { $_ * 1e3 } quantile(0.5, @{ $latency{$which} }), quantile(0.99, @{ $latency{$which} }),
		quantile(1, @{ $latency{$which} }), quantile(0.5, @{ $gap{$which} }), quantile(1, @{ $gap{$which} }));
}
foreach my $which ('disturbed', 'silent')
{
	my $of = $which eq 'silent' ? 'a member that is silent, too' : 'twenty peers that do not answer';

	note sprintf '%s to quiet: p50 * %.2f, p99 * %.2f', $which,
	  map { quantile($_, @{ $latency{$which} }) / quantile($_, @{ $latency{quiet} }) } 0.5, 0.99;
	# a millisecond more or less is the machine's
	cmp_ok(quantile(0.5, @{ $latency{$which} }), '<', 2 * quantile(0.5, @{ $latency{quiet} }) + 0.001,
		"$of: half of all renewals are as fast as ever");
	cmp_ok(quantile(0.99, @{ $latency{$which} }), '<', 3 * quantile(0.99, @{ $latency{quiet} }) + 0.05,
		"$of: nearly all renewals are nearly as fast as ever");
	cmp_ok(quantile(1, @{ $gap{$which} }), '<', 0.1 + 0.4, "$of: none comes late");
}
is($node->epoch, $epoch, 'the lease was never lost');
unlike($node->log_since($offset), qr/ran out|is now fenced|is now follower/, 'not for a moment');
done_testing();
