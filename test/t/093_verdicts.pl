# What diagnose() says of a path that is broken, by what is broken.
#
# A source that gets no answer cannot tell a server that is down from a path that is
# blocked, or from being cut off itself: the others bear witness, through the store.
# Each kind of fault is asked about from each side, from a third node on another's
# behalf, and on the node that is cut off.

use strict;
use warnings;

use HostsTest;
use LeaseholdTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $net   = HostsTest->new;
my $group = $net->group(
	nodes => [ 'a', 'b', 'c' ],
	ttl   => '3s',
	table => 0,
	conf  => "leasehold.probe_interval = '500ms'\nleasehold.probe_timeout = '400ms'\n");
my %node = map { $_->{leasehold_name} => $_ } $group->nodes;

# "ab:ok ac:lost ...", as each node says of its last try of each path to the others:
# those that were broken a moment ago may count as flapping, whatever they are now.
sub own_paths
{
	return join ' ', map { ask_fast($node{$_},
		"SELECT string_agg('$_' || peer || CASE failures WHEN 0 THEN ':ok' ELSE ':lost' END, ' ' ORDER BY peer)
		 FROM leasehold.peers WHERE kind = 'node'") // "$_ is down" } sort keys %node;
}

sub wait_broken
{
	my (@broken) = @_;
	my %broken = map { $_ => 1 } @broken;

	wait_until("each node knows its own paths: (@broken)", sub {
		my $paths = own_paths();
		my $right = grep({ $_->alive } values %node) * 2 == (() = $paths =~ /\w\w:/g);
		while ($paths =~ /(\w\w):(\w+)/g)
		{
			$right &&= $broken{$1} ? $2 eq 'lost' : $2 eq 'ok';
		}
		$right;
	});
	return;
}

sub diagnose
{
	my ($asker, $target, $source) = @_;
	my $from = defined $source ? ", source => '$source'" : '';
	return ask_fast($node{$asker},
		"SELECT step || ' ' || phase || ' | ' || status || ' | ' || detail || ' | ' || coalesce(evidence, '')
		 FROM leasehold.diagnose('$target'$from) ORDER BY step");
}

# [ asker, target, source or undef, what the evidence begins with ]
sub check
{
	my ($what, @questions) = @_;

	foreach my $question (@questions)
	{
		my ($asker, $target, $source, $expected) = @$question;
		my $began = clock_now();
		my $steps = diagnose($asker, $target, $source) // '';
		my ($verdict) = $steps =~ /^10 verdict \| \w+ \| [^|]*\| (.*)$/m;

		like($verdict // '', qr/^$expected\b/,
			"$what: $asker says of the path from " . ($source // $asker) . " to $target: $expected")
		  or diag $steps;
		note sprintf '%s (%.1f s)', $verdict // '', seconds_since($began);
	}
	return;
}

# ---- as it should be ----

wait_broken();
check('whole', [ 'a', 'b', undef, 'stands' ], [ 'a', 'b', 'c', 'stands' ]);

# ---- one direction ----

my $fault = $net->drop(from => 'a', to => $node{b});
wait_broken('ab');
check('one direction',
	[ 'a', 'b', undef, 'one_direction' ],
	[ 'c', 'b', 'a', 'one_direction' ],
	[ 'b', 'b', 'a', 'one_direction' ],
	[ 'b', 'a', undef, 'stands' ],
	[ 'a', 'b', 'c', 'stands' ]);

# ---- the path between two ----

$net->undo($fault);
$fault = $net->partition([ 'a' ], [ 'b' ]);
wait_broken('ab', 'ba');
check('a path',
	[ 'a', 'b', undef, 'path_blocked' ],
	[ 'b', 'a', undef, 'path_blocked' ],
	[ 'c', 'b', 'a', 'path_blocked' ],
	[ 'a', 'b', 'c', 'stands' ]);
$net->undo($fault);
wait_broken();

# a firewall that says so
$fault = $net->refuse(from => 'a', to => $node{b});
wait_broken('ab');
check('refused', [ 'a', 'b', undef, 'one_direction: refused' ], [ 'c', 'b', 'a', 'one_direction: refused' ]);
$net->undo($fault);

# ---- nobody reaches it, though it lives ----

$fault = $net->drop(to => $node{b});
wait_broken('ab', 'cb');
check('hidden',
	[ 'a', 'b', undef, 'target_hidden' ],
	[ 'a', 'b', 'c', 'target_hidden' ],
	[ 'b', 'a', undef, 'stands' ]);
$net->undo($fault);
wait_broken();

# ---- cut off from all nodes, not from the store ----

$fault = $net->partition([ 'b' ], [ 'a', 'c' ]);
wait_broken('ab', 'ba', 'bc', 'cb');
check('cut off from the nodes',
	[ 'a', 'b', undef, 'target_cut_off' ],
	[ 'a', 'b', 'c', 'target_cut_off' ],
	[ 'b', 'a', undef, 'source_cut_off' ],
	[ 'a', 'c', 'b', 'source_cut_off' ],
	[ 'a', 'c', undef, 'stands' ]);
$net->undo($fault);
wait_broken();

# ---- cut off from everybody ----

$net->cut_off('b');
# at once, before anybody has noticed
check('cut off', [ 'a', 'b', undef, 'target_down' ]);
wait_broken('ab', 'ba', 'bc', 'cb');
wait_until('b knows that it reaches no member', sub {
	ask_fast($node{b}, "SELECT status FROM leasehold.peers WHERE kind = 'member'") eq 'unreachable' });
check('cut off',
	[ 'a', 'b', undef, 'target_down' ],
	[ 'a', 'b', 'c', 'target_down' ],
	[ 'b', 'a', undef, 'source_cut_off' ],
	[ 'b', 'c', undef, 'source_cut_off' ],
	[ 'a', 'c', 'b', 'source_silent' ],
	[ 'a', 'c', undef, 'stands' ]);
$net->reconnect('b');
wait_broken();

# ---- the server is down ----

$node{b}->stop('immediate');
# at once, before anybody has noticed
check('down', [ 'a', 'b', undef, 'target_down: refused' ]);
wait_broken('ab', 'cb');
check('down',
	[ 'a', 'b', undef, 'target_down: refused' ],
	[ 'a', 'b', 'c', 'target_down: refused' ],
	[ 'c', 'a', 'b', 'source_silent' ]);
$node{b}->start;
wait_broken();
check('up', [ 'a', 'b', undef, 'stands' ], [ 'a', 'b', 'c', 'stands' ], [ 'c', 'a', 'b', 'stands' ]);

done_testing();
