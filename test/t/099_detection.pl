# How soon a loss is seen, and how often it is told.
#
# A server that dies closes its sockets, or its host refuses: seen at once.  A host
# that falls silent tells nothing: seen when the next probe has run out of time, an
# interval and a timeout at the latest.  A path that comes and goes is said to flap,
# once; one that gets slow is degraded, and stands.

use strict;
use warnings;

use HostsTest;
use LeaseholdTest;
use PostgreSQL::Test::Utils;
use Test::More;

# The default settings' relation.
my ($interval, $timeout) = (0.5, 0.3);
my $slack = 0.5;
my $net   = HostsTest->new;
my $group = $net->group(
	nodes => [ 'a', 'b', 'c' ],
	slow  => ['c'],
	ttl   => '3s',
	table => 0,
	conf  => "leasehold.probe_interval = '500ms'\nleasehold.probe_timeout = '300ms'\n");
my ($a, $b, $c) = $group->nodes;

sub status_of
{
	my ($node, $peer) = @_;
	return ask_fast($node, "SELECT concat_ws(' ', status, phase, cause) FROM leasehold.peers WHERE peer = '$peer'") // '';
}

# When it became what it is, in seconds after that moment.
sub changed_after
{
	my ($node, $peer, $moment) = @_;
	my $age = ask_fast($node, "SELECT extract(epoch FROM since) FROM leasehold.peers WHERE peer = '$peer'");
	return seconds_since($moment) - $age;
}

sub count_lines
{
	my ($node, $offset, $pattern) = @_;
	my @lines = $node->log_since($offset) =~ /$pattern/g;
	return scalar @lines;
}

sub outages
{
	my ($which) = @_;
	return $group->store_query("SELECT count(*) FROM leasehold_store.outage WHERE $which");
}

foreach my $pair ([ $a, 'b' ], [ $a, 'c' ], [ $b, 'a' ], [ $b, 'c' ], [ $c, 'a' ], [ $c, 'b' ])
{
	wait_until("$pair->[0]{leasehold_name} reaches $pair->[1]",
		sub { status_of(@$pair) eq 'ok ready' });
}

# ---- a server that dies ----

foreach my $way ('immediate', 'kill')
{
	# one that ends as soon as it has begun is not begun again at once
	wait_until('the sessions have stood for a while', sub {
		ask_fast($b, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'leasehold prober'
			AND datname = 'postgres' AND backend_start < clock_timestamp() - interval '1.2 s'") eq '2' });
	my $offset = $a->log_offset;
	# (the signal; all processes are gone a little later)
	my $began = clock_now();

	if   ($way eq 'kill') { $b->kill_all; }
	else                  { $b->stop('immediate'); }
	wait_until("a sees that b is gone ($way)",
		sub { status_of($a, 'b') =~ /^unreachable connect refused/ });
	my $seen = changed_after($a, 'b', $began);
	note sprintf 'a server that dies (%s) is seen after %.3f s', $way, $seen;
	cmp_ok($seen, '<', 1, "a server that dies ($way) is seen within a second");
	if   ($way eq 'kill') { $b->start_again; }
	else                  { $b->start; }
	wait_until('b is reached again', sub { status_of($a, 'b') =~ /^ok|^flapping/ && status_of($c, 'b') =~ /^ok|^flapping/ });
	# (that it is starting is another reason)
	is(count_lines($a, $offset, qr/node "b" cannot be reached$/m), 1, "logged once ($way)");
}
# what has come and gone twice flaps for a while
wait_until('b is reached as it should be', sub { status_of($a, 'b') eq 'ok ready' && status_of($c, 'b') eq 'ok ready' });

# ---- a host that falls silent ----

{
	my $offset = $a->log_offset;
	my $began  = clock_now();

	$net->cut_off('b');
	wait_until('a sees that b is silent', sub { status_of($a, 'b') =~ /^unreachable/ });
	wait_until('c sees it, too', sub { status_of($c, 'b') =~ /^unreachable/ });
	foreach my $node ($a, $c)
	{
		my $name = $node->{leasehold_name};
		my $seen = changed_after($node, 'b', $began);

		note sprintf 'a host that falls silent is seen by %s after %.3f s', $name, $seen;
		cmp_ok($seen, '<', $interval + $timeout + $slack,
			"$name sees within an interval and a timeout that a host is silent");
	}
	wait_until('no connect comes through either', sub { status_of($a, 'b') eq 'unreachable connect timeout' });
	$net->reconnect('b');
	wait_until('b is reached again', sub { status_of($a, 'b') eq 'ok ready' });
	is(count_lines($a, $offset, 'node "b" cannot be reached'), 1, 'a silent host is logged once');
	is(count_lines($a, $offset, 'node "b" is reached as it should be'), 1, 'and that it is back');
}

# ---- a path that comes and goes ----

{
	wait_until('what was is forgotten', sub {
		ask_fast($a, "SELECT since > interval '6 s' FROM leasehold.peers WHERE peer = 'b'") eq 't' });
	my $offset = $a->log_offset;
	my $began  = Time::HiRes::time() * 1e6;

	foreach my $round (1 .. 4)
	{
		my $fault = $net->drop(from => 'a', to => $b);
		my $failures = "SELECT failures FROM leasehold.peers WHERE peer = 'b'";
		wait_until('it is lost', sub { ask_fast($a, $failures) > 0 });
		$net->undo($fault);
		wait_until('it is back', sub { ask_fast($a, $failures) eq '0' });
	}
	like(status_of($a, 'b'), qr/^flapping/, 'a path that comes and goes flaps');
	wait_until('it is said to flap no more', sub { status_of($a, 'b') eq 'ok ready' });
	is(count_lines($a, $offset, 'the path to node "b" comes and goes'), 1, 'that is logged once');
	is(count_lines($a, $offset, 'node "b" cannot be reached'), 2, 'and what was before it flapped');
	is(count_lines($a, $offset, 'node "b" is reached as it should be'), 2, 'and that it stays');
	cmp_ok(count_lines($a, $offset, 'LOG: '), '<', 10, 'no storm in the log');
	wait_until('the store knows the outage that ended', sub {
		outages("source = 'a' AND target = 'b' AND began > $began AND ended > 0") eq '2' });
	is(outages("source = 'a' AND target = 'b' AND began > $began"), 2,
		'while it flaps, that is one outage');
	is(outages("source = 'c' AND target = 'b' AND began > $began"), 0, 'others lost nothing');
}

# ---- a path that gets slow ----

{
	my $offset = $a->log_offset;
	my $began  = Time::HiRes::time() * 1e6;

	$net->slow($c, 100);
	wait_until('a slow path is degraded', sub { status_of($a, 'c') eq 'degraded ready' });
	my ($latency, $before) = split /\n/, ask_fast($a,
		"SELECT unnest(ARRAY[extract(epoch FROM latency), extract(epoch FROM latency_p50)]) FROM leasehold.peers WHERE peer = 'c'");
	note sprintf 'it takes %.1f ms, half of all took %.1f ms', $latency * 1e3, $before * 1e3;
	cmp_ok($latency, '>', 0.1, 'its latency is shown');
	like(status_of($b, 'c'), qr/ready$/, 'others still reach it');
	is(outages("target = 'c' AND began > $began"), 0, 'a slow path is no outage');
	$net->slow($c, 0);
	wait_until('it is as fast as before', sub { status_of($a, 'c') eq 'ok ready' });
	is(count_lines($a, $offset, 'the path to node "c" has become slow'), 1, 'logged once');
	is(count_lines($a, $offset, 'node "c" is reached as it should be'), 1, 'and that it is over');
}
done_testing();
