# A group of five that breaks into two and three, and what each of them knows.
#
# Nobody is told of it: packets are dropped.  Whoever is cut off from the store can
# neither tell the others nor hear of them; he still knows what he reaches himself,
# and must not show as fresh what he heard long ago.  What befell him is told when he
# is back, and nothing of it is lost.

use strict;
use warnings;

use HostsTest;
use JSON::PP qw(decode_json);
use LeaseholdTest;
use LeaseholdWire;
use PostgreSQL::Test::Utils;
use Test::More;

my ($interval, $timeout) = (1.0, 0.7);
my $slack = 0.5;
my $net   = HostsTest->new;
my $group = $net->group(
	nodes        => [ 'a' .. 'e' ],
	members      => 3,
	member_hosts => [ 'c', 'd', 'e' ],
	ttl          => '2s',
	table        => 0,
	conf         => "leasehold.probe_interval = '1s'\nleasehold.probe_timeout = '700ms'\n");
my @nodes   = $group->nodes;
my @names   = map { $_->{leasehold_name} } @nodes;
my @two     = @nodes[ 0, 1 ];
my @three   = @nodes[ 2 .. 4 ];
my %is_of_two = (a => 1, b => 1);
my @members = map { $_->{leasehold_host}->address . ':' . $_->port } $group->members;

sub split_pair { my ($x, $y) = @_; return !$is_of_two{$x} != !$is_of_two{$y}; }

# "ab:ok ac:ok ..." for these sources, as a node sees it; nothing older than $age.
sub matrix
{
	my ($node, $sources, $age) = @_;
	my $list = join ',', map { "'$_'" } @$sources;
	my $fresh = $age ? "AND reported < interval '$age s'" : '';
	return ask_fast($node,
		"SELECT coalesce(string_agg(source || target || ':' || status, ' ' ORDER BY source, target), '')
		 FROM leasehold.connectivity WHERE kind = 'node' AND source IN ($list) $fresh") // '';
}

sub expected
{
	my ($sources, $status) = @_;
	my @paths;

	foreach my $x (@$sources)
	{
		push @paths, map { "$x$_:" . $status->($x, $_) } grep { $_ ne $x } @names;
	}
	return join ' ', @paths;
}

sub whole { return expected(\@names, sub { 'ok' }); }
sub broken { return split_pair(@_) ? 'unreachable' : 'ok'; }

# Own paths, members too, that are as they should be; and the youngest change of
# those that are not ok, as a moment of clock_now().
sub own_paths
{
	my ($node) = @_;
	my $row = ask_fast($node,
		"SELECT string_agg(peer || '=' || status, ' ' ORDER BY peer) || ' ' ||
		 coalesce(min(extract(epoch FROM since)) FILTER (WHERE status = 'unreachable'), -1)
		 FROM leasehold.peers") // '';
	my $now = clock_now();
	my $age = $row =~ s/ (\S+)$// ? $1 : -1;
	return ($row, $now - $age * 1e9);
}

sub expected_own
{
	my ($node) = @_;
	my $name = $node->{leasehold_name};
	my %status = map { $_ => broken($name, $_) } grep { $_ ne $name } @names;

	$status{ label($_) } = $is_of_two{$name} ? 'unreachable' : 'ok' foreach $group->members;
	return join ' ', map { "$_=$status{$_}" } sort keys %status;
}

# A member's name in the views.
my %label;
sub label
{
	my ($member) = @_;
	my $port = $member->port;
	return $label{$port} //= ask_fast($nodes[0],
		"SELECT peer FROM leasehold.peers WHERE kind = 'member' AND peer LIKE '%$port%'");
}

sub ages
{
	my ($node) = @_;
	my %age = map { split /=/ } split /\n/, ask_fast($node,
		"SELECT source || '=' || max(extract(epoch FROM reported))
		 FROM leasehold.connectivity GROUP BY source");
	return \%age;
}

# ---- whole ----

foreach my $node (@nodes)
{
	wait_until("$node->{leasehold_name} knows the whole matrix",
		sub { matrix($node, \@names) eq whole() });
}
is(scalar(grep { matrix($_, \@names) eq whole() } @nodes), 5, 'the matrix is right from each of five nodes');
foreach my $member ($group->members)
{
	wait_until('all members are reached', sub {
		ask_fast($nodes[0], "SELECT count(*) FROM leasehold.peers WHERE kind = 'member' AND status = 'ok'") eq '3' });
	like(label($member), qr/\S/, 'a member has a name in the views: ' . label($member));
}

my @listeners = map {
	my $listener = LeaseholdWire->connect($_, dbname => 'leasehold_store');
	is($listener->query('LISTEN leasehold')->{error}, '', 'somebody listens at a member');
	$listener;
} $group->members;
my @heard;

sub hear
{
	foreach my $i (0 .. $#listeners)
	{
		foreach my $notification ($listeners[$i]->notifications)
		{
			push @{ $heard[$i] }, $notification->[1];
		}
	}
	return;
}

# ---- two against three ----

my %offset = map { $_->{leasehold_name} => $_->log_offset } @nodes;
my $wall   = Time::HiRes::time();
my $fault  = $net->partition(\@two, \@three);
my $cut    = clock_now();
my %seen;
note sprintf 'the cut took %.0f ms', (Time::HiRes::time() - $wall) * 1e3;

wait_until('each node knows its own paths', sub {
	foreach my $node (grep { !$seen{ $_->{leasehold_name} } } @nodes)
	{
		my ($paths, $since) = own_paths($node);
		$seen{ $node->{leasehold_name} } = ($since - $cut) / 1e9
		  if $paths eq expected_own($node);
	}
	keys %seen == 5;
});
my %shared;
my $those = [ 'c', 'd', 'e' ];
wait_until('those who are connected share their rows', sub {
	foreach my $node (grep { !$shared{ $_->{leasehold_name} } } @three)
	{
		$shared{ $node->{leasehold_name} } = seconds_since($cut)
		  if matrix($node, $those, 2) eq expected($those, \&broken);
	}
	keys %shared == 3;
});
note 'own rows right after ' . join ' ', map { sprintf '%s %.2f s', $_, $seen{$_} } sort keys %seen;
note 'shared rows right after ' . join ' ', map { sprintf '%s %.2f s', $_, $shared{$_} } sort keys %shared;
cmp_ok($seen{$_}, '<', $interval + $timeout + $slack, "$_ sees each loss within an interval and a timeout")
  foreach sort keys %seen;
cmp_ok($shared{$_}, '<', 2 * $interval + $slack, "$_ knows it of the others within two intervals")
  foreach sort keys %shared;

# Those who are cut off: their own rows are fresh, all others are shown as old.
# Those who are not hear of each other, and not of them.
my @before = map { ages($_) } @nodes;
wait_until('as much time as makes an old report', sub { seconds_since($cut) > 5.5 });
my @after = map { ages($_) } @nodes;
foreach my $i (0 .. 4)
{
	my $node = $nodes[$i];
	my $name = $names[$i];
	my @silent = grep { $is_of_two{$name} ? $_ ne $name : $is_of_two{$_} } @names;
	my %silent = map { $_ => 1 } @silent;

	is(join(' ', sort keys %{ $after[$i] }), 'a b c d e', "$name shows rows of all");
	ok(!(grep { $after[$i]{$_} > 2 * $interval + $timeout } grep { !$silent{$_} } @names),
		"$name: the rows of those it hears are fresh");
	ok(!(grep { $after[$i]{$_} < 2 * $interval + $timeout + $slack } @silent),
		"$name: the rows of those it does not hear are old");
	ok(!(grep { $after[$i]{$_} < $before[$i]{$_} + 1 } @silent), "$name: and grow older");
	note "$name: " . join ' ', map { sprintf '%s %.2f', $_, $after[$i]{$_} } @names;
}
foreach my $node (@two)
{
	my $name = $node->{leasehold_name};
	is(matrix($node, [$name], 2), expected([$name], \&broken), "$name, cut off, knows its own row");
	is(matrix($node, $those), expected($those, sub { 'ok' }),
		"$name still shows what it heard last of the others");
}
my $wall_before_mend = Time::HiRes::time();

# ---- whole again ----

$net->undo($fault);
my $mended = clock_now();
foreach my $node (@nodes)
{
	wait_until("$node->{leasehold_name} knows the whole matrix again",
		sub { hear(); matrix($node, \@names, 2) eq whole() });
}
my $took = seconds_since($mended);
note sprintf 'all matrices are right %.2f s after the mend', $took;
cmp_ok($took, '<', 2 * $interval + 2 * $timeout + 2 * $slack,
	'from each node the whole matrix is right, soon after the mend');

# What was lost, and when, each loss once, at each member.
my @lost = sort map { my $x = $_; map { "$x$_" } grep { split_pair($x, $_) } @names } @names;
my $outages = q{SELECT source || target FROM leasehold_store.outage
	WHERE target IN ('a', 'b', 'c', 'd', 'e') AND ended > 0 ORDER BY source, target};
foreach my $member ($group->members)
{
	my $name = $member->{leasehold_name};
	wait_until("$name knows all outages, and that they have ended",
		sub { hear(); $member->safe_psql('leasehold_store', $outages) eq join "\n", @lost }, 30);
	is($member->safe_psql('leasehold_store', $outages), join("\n", @lost),
		"$name has each outage once, with its end");
	my ($early, $late, $end_early, $end_late) = split /\|/, $member->safe_psql('leasehold_store',
		"SELECT min(began), max(began), min(ended), max(ended) FROM leasehold_store.outage
		 WHERE target IN ('a', 'b', 'c', 'd', 'e')");
	ok($early / 1e6 > $wall && $late / 1e6 < $wall + $interval + $timeout + 1,
		"$name: they began when they began");
	ok($end_early / 1e6 > $wall_before_mend && $end_late / 1e6 < $wall_before_mend + $took + 1,
		"$name: they ended when they ended");
	is($member->safe_psql('leasehold_store',
			"SELECT string_agg(source, ' ' ORDER BY source) FROM leasehold_store.outage
			 WHERE target = '" . label($member) . "' AND ended > began"), 'a b',
		"$name: the cut-off ones lost it, too");
}
wait_until('the view of a node shows them', sub {
	ask_fast($nodes[3], "SELECT count(*) FROM leasehold.outages
		WHERE source = 'a' AND target = 'e' AND ended > began") eq '1' });

# Said once, in the log and to whoever listens.
foreach my $node (@nodes)
{
	my $name = $node->{leasehold_name};
	my $log  = $node->log_since($offset{$name});
	foreach my $other (grep { split_pair($name, $_) } @names)
	{
		my @gone = $log =~ /node "$other" cannot be reached/g;
		my @back = $log =~ /node "$other" is reached as it should be/g;
		is(@gone . ' ' . @back, '1 1', "$name logs once that $other is gone, once that it is back");
	}
}
my @told = sort map { my $p = $_; map { "$p $_" } 'ok', 'unreachable' } @lost;
foreach my $i (0 .. $#listeners)
{
	my $name = ($group->members)[$i]{leasehold_name};
	my (%times, @others);
	wait_until("$name tells of it all", sub { hear(); @{ $heard[$i] // [] } >= 24 + 6; }, 30);
	foreach my $payload (@{ $heard[$i] })
	{
		my $event = eval { decode_json($payload) };
		push @others, $payload
		  unless $event && $event->{event} eq 'path' && $event->{at_us} / 1e6 > $wall;
		$times{"$event->{source}$event->{target} $event->{status}"}++
		  if $event && $event->{kind} eq 'node';
	}
	is(join("\n", @others), '', "$name: all that is told is JSON, and says when");
	is(join(', ', map { "$_: $times{$_}" } sort keys %times), join(', ', map { "$_: 1" } @told),
		"$name tells of each change once");
}
# Whoever was cut off left no session behind that nobody uses.
wait_until('one session with each peer, no more', sub {
	ask_fast($nodes[2], "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'leasehold prober'
		AND datname = 'postgres'") eq '4' }, 30);
done_testing();
