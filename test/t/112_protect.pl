# Protecting tables: protect() returns when every node fences the table, and not
# before.
#
# What this guards: a node that has not heard of a protection, or that has a
# transaction under way which passed its last check before it heard, writes the
# table beside the holder of its lease.  So protect() waits for every registered
# node, and names those that it waits for in vain.  And the list of protections is
# changed by several people at once, at members that come and go: what was once
# confirmed must never be missing where a majority is read.

use strict;
use warnings;

use IPC::Run;
use LeaseholdTest;
use PostgreSQL::Test::Utils;
use Test::More;

# Several statements at the same moment, each in a session of its own; their
# SQLSTATEs in this order.
sub at_once
{
	my (@jobs) = @_;
	my @runs;

	foreach my $job (@jobs)
	{
		my ($node, $sql) = @$job;
		my $run = { out => '', err => '' };
		$run->{run} = IPC::Run::start(
			[ 'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d', $node->connstr('postgres'), '-c', $sql ],
			'>', \$run->{out}, '2>', \$run->{err});
		push @runs, $run;
	}
	foreach my $run (@runs)
	{
		eval { IPC::Run::finish($run->{run}); };
		$run->{state} = $run->{err} =~ /ERROR:  (\w{5}):/ ? $1 :
		  $run->{err} =~ s/^(?:NOTICE|DETAIL|HINT|LOCATION):.*\n//mgr;
	}
	return map { $_->{state} } @runs;
}

# What this member has of the list.
sub list_at
{
	my ($member) = @_;
	return $member->safe_psql('leasehold_store',
		"SELECT string_agg(table_name || ':' || lease || ':' || seq, ' ' ORDER BY table_name) FROM leasehold_store.protection");
}

sub lease_of
{
	my ($node, $table) = @_;
	return ($node->try("SELECT lease FROM leasehold.protected WHERE table_name = '$table'"))[1];
}

# The members that are on the list in the end.
sub store_of
{
	my ($group) = @_;
	my @fresh = grep { $_->name =~ /fresh/ } $group->members;
	return @fresh ? @fresh : $group->members;
}

# What is left to do with each group when its node b has gone.
my @left;

foreach my $members (1, 3)
{
	my $what = "$members member" . ($members > 1 ? 's' : '');
	my $group = LeaseholdTest->new(nodes => [ 'a', 'b' ], members => $members,
		ttl => '1s', lease => 'one', governed => 0, table => 0);
	my ($a, $b) = $group->nodes;
	my @members = $group->members;
	my ($state, $text);

	foreach my $node ($a, $b)
	{
		$node->safe_psql('postgres', "CREATE TABLE t$_ (i int)") foreach 1 .. 6;
	}
	$a->safe_psql('postgres', "SELECT leasehold.create_lease('two', ttl => '1s', kind => 'independent')");
	$a->safe_psql('postgres', "SELECT leasehold.join_lease('one')");
	$group->wait_holder($a);
	is($b->safe_psql('postgres', "SELECT leasehold.join_lease('two')"), '', "$what: b takes part in another lease");
	wait_until("$what: b is registered", sub {
		$group->store_query("SELECT count(*) FROM leasehold_store.node WHERE name = 'b'") });
	is($a->safe_psql('postgres', "SELECT leasehold.join_lease('one', 'b', 50)"), '', "$what: b takes part in that of a, as a says");
	wait_until("$what: b holds that", sub { $b->holds('two') });
	is(join(' ', map { $_->safe_psql('leasehold_store', "SELECT string_agg(lease || '/' || node || '/' || priority, ' ' ORDER BY lease, node) FROM leasehold_store.membership") } @members),
		join(' ', ('one/a/100 one/b/50 two/b/100') x $members), "$what: every member knows who takes part");

	# --- it returns when all have confirmed ---------------------------------

	is(($b->try("SELECT leasehold.protect('t1', 'one')"))[0], '', "$what: a table is protected, as b says");
	foreach my $node ($a, $b)
	{
		is($node->safe_psql('postgres', "SELECT lease, holder, held, confirmed FROM leasehold.protected WHERE table_name = 't1'"),
			'one|a|' . ($node == $a ? 't' : 'f') . '|t', "$what: " . $node->name . ' knows it at once');
	}
	is($b->safe_psql('postgres', "SELECT leasehold.writer('t2') IS NULL"), 't', "$what: the others are governed by nothing");
	is(($a->try('INSERT INTO t1 VALUES (1)'))[0], '', "$what: a writes the table");
	is(($b->try('INSERT INTO t1 VALUES (1)'))[0], '25006', "$what: b does not");
	is(($b->try('INSERT INTO t2 VALUES (1)'))[0], '', "$what: b writes another one");

	# --- a commit that is under way -----------------------------------------

	my $session = $b->background_psql('postgres');
	$session->query_safe('BEGIN');
	$session->query_safe('INSERT INTO t2 VALUES (2)');
	($state, $text) = $a->try("SELECT leasehold.protect('t2', 'one', '1s')");
	is($state, '55000', "$what: a transaction under way on b is waited for");
	like($text, qr/Not confirmed by: "b"\./, "$what: ... and b is named");
	eval { $session->query('COMMIT') };
	eval { $session->quit };
	is(($a->try("SELECT leasehold.protect('t2', 'one')"))[0], '', "$what: the same call completes it");

	# each reads what the others say of themselves every few seconds
	foreach my $node ($a, $b)
	{
		wait_until("$what: " . $node->name . ' knows a', sub {
			$node->safe_psql('postgres', "SELECT count(*) FROM leasehold.nodes WHERE node = 'a'") });
		is($node->safe_psql('postgres', "SELECT leasehold.writer('t1') = (SELECT advertise FROM leasehold.nodes WHERE node = 'a')"),
			't', "$what: " . $node->name . ' says where to write it');
	}

	# --- a node that does not answer ----------------------------------------

	$b->freeze('keeper');
	($state, $text) = $a->try("SELECT leasehold.protect('t3', 'one', '1500ms')");
	is($state, '55000', "$what: b's keeper is stopped: not confirmed");
	like($text, qr/Not confirmed by: "b"\..*drop_node/s, "$what: ... and b is named, and what to do");
	is(lease_of($a, 't3'), 'one', "$what: on a it stands already");
	is(lease_of($b, 't3'), '', "$what: on b it does not");
	$b->thaw;
	is(($a->try("SELECT leasehold.protect('t3', 'one')"))[0], '', "$what: it goes on, and the same call completes it");
	is(lease_of($b, 't3'), 'one', "$what: now it stands on b");

	# a run that is over has confirmed nothing for the next one
	$b->stop;
	($state, $text) = $a->try("SELECT leasehold.protect('t4', 'one', '1500ms')");
	is($state, '55000', "$what: b is down: not confirmed");
	like($text, qr/Not confirmed by: "b"\./, "$what: ... and b is named");
	$b->start;
	is(($a->try("SELECT leasehold.protect('t4', 'one')"))[0], '', "$what: it is started, and the same call completes it");
	is(lease_of($b, 't4'), 'one', "$what: ... and it knows the table");
	is(($b->try('INSERT INTO t4 VALUES (1)'))[0], '25006', "$what: ... and fences it");

	# --- from one lease to another ------------------------------------------

	($state, $text) = $a->try("SELECT leasehold.protect('t1', 'two')");
	is($state, '55000', "$what: not from one lease to another directly");
	like($text, qr/unprotect\(\) first/, "$what: ... and the hint says how");
	is(($a->try("SELECT leasehold.unprotect('t1')"))[0], '', "$what: it is not protected any more");
	is(lease_of($a, 't1'), '', "$what: ... and a knows it");
	is(($a->try("SELECT leasehold.protect('t1', 'two')"))[0], '', "$what: protected by the other lease");
	is(($b->try('INSERT INTO t1 VALUES (1)'))[0], '', "$what: b writes it");
	is(($a->try('INSERT INTO t1 VALUES (1)'))[0], '25006', "$what: a does not");

	# --- several at once ----------------------------------------------------

	wait_until("$what: b holds it", sub { $b->holds('two') });
	foreach my $round (1 .. soak(4, 40))
	{
		my @states = at_once(
			[ $a, "SELECT leasehold.protect('t5', 'one')" ],
			[ $b, "SELECT leasehold.protect('t5', 'two')" ],
			[ $a, "SELECT leasehold.protect('t6', 'one')" ]);

		is(join(' ', sort @states[ 0, 1 ]), ' 55000', "$what, $round: of two leases for one table one wins");
		is($states[2], '', "$what, $round: another table is protected at the same time");
		my $winner = $states[0] eq '' ? 'one' : 'two';
		is(join(' ', map { lease_of($_, 't5') } $a, $b), "$winner $winner", "$what, $round: both nodes know which");
		is(join(' ', map { lease_of($_, 't6') } $a, $b), 'one one', "$what, $round: ... and the other table");
		is(join(' ', at_once(map { [ $_, "SELECT leasehold.unprotect('t5')" ] } $a)), '', "$what, $round: it is taken out");
		is(($b->try("SELECT leasehold.unprotect('t6')"))[0], '', "$what, $round: and the other one");
		wait_until("$what, $round: both know that", sub {
			join('', map { lease_of($_, 't5') . lease_of($_, 't6') } $a, $b) eq '' });
	}

	# --- members that miss a change, and a change of the list ----------------

	if ($members == 3)
	{
		$members[2]->stop;
		is(($a->try("SELECT leasehold.protect('t5', 'one')"))[0], '', "$what: one is down: a majority does");
		$members[2]->start;
		$members[0]->stop;
		is(($a->try("SELECT leasehold.protect('t6', 'one')"))[0], '', "$what: another one is down");
		$members[0]->start;
		my @fresh = map { LeaseholdTest::Node->member("fresh$_") } 1 .. 3;
		my $store = LeaseholdTest::store_string(@fresh);
		$_->set_conf('leasehold.store' => $group->store_connstr . "; $store") foreach $a, $b;
		($state, $text) = $b->try("SELECT leasehold.set_store(\$\$$store\$\$)");
		is($state, '', "$what: the list is changed") or diag($text);
		my $expected = qr/^t1:two:\d+ t2:one:\d+ t3:one:\d+ t4:one:\d+ t5:one:\d+ t6:one:\d+$/;
		like(list_at($_), $expected, "$what: " . $_->name . ' has all that was protected') foreach @fresh;
		is($fresh[0]->safe_psql('leasehold_store',
				'SELECT protections >= (SELECT max(seq) FROM leasehold_store.protection) FROM leasehold_store.store'),
			't', "$what: ... and its number");
		is(($a->try("SELECT leasehold.unprotect('t6')"))[0], '', "$what: it goes on with the new list");
		is(($a->try("SELECT leasehold.protect('t6', 'two')"))[0], '', "$what: and all nodes confirm there");
		is(join(' ', map { $_->safe_psql('leasehold_store', "SELECT count(*) FROM leasehold_store.membership") } @fresh),
			'3 3 3', "$what: who takes part went along");

		# one of them loses its memory and gets it back
		$fresh[1]->safe_psql('leasehold_store', 'DROP SCHEMA leasehold_store CASCADE');
		PostgreSQL::Test::Utils::system_or_bail('psql', '-Xq', '-d', $fresh[1]->connstr('leasehold_store'), '-f',
			$fresh[1]->config_data('--sharedir') . '/extension/leasehold-store.sql');
		($state, $text) = $a->try('SELECT leasehold.reseed_member($$' . LeaseholdTest::remote_connstr($fresh[1], 'leasehold_store') . '$$)');
		is($state, '', "$what: a member is seeded anew") or diag($text);
		is(list_at($fresh[1]), list_at($fresh[0]), "$what: ... with the list");
		$group->{members} = [ @members, @fresh ];
	}
	else
	{
		# the only one: what the node knows has to do
		my $before = list_at($members[0]) =~ s/:\d+//gr;
		$members[0]->safe_psql('leasehold_store',
			'DELETE FROM leasehold_store.protection; DELETE FROM leasehold_store.membership;'
			  . " UPDATE leasehold_store.lease SET epoch = 0, version = 1, holder = '';"
			  . ' UPDATE leasehold_store.store SET protections = 0, memberships = 0');
		($state, $text) = $a->try('SELECT leasehold.reseed_member($$' . $group->store_connstr . '$$)');
		is($state, '', "$what: it is seeded anew") or diag($text);
		is(list_at($members[0]) =~ s/:\d+//gr, $before =~ s/ ?\bt[56]://gr, "$what: with the tables that this node knows");
		# a node that has seen the empty store takes part in nothing any more
		is(join('', at_once([ $a, "SELECT leasehold.join_lease('one')" ], [ $b, "SELECT leasehold.join_lease('two')" ])),
			'', "$what: both take part again");
		wait_until("$what: each lease is held", sub { $a->holds('one') && $b->holds('two') });
		is(($b->try("SELECT leasehold.join_lease('one', priority => 50)"))[0], '', "$what: b in both");
		is(($a->try("SELECT leasehold.protect('t6', 'one')"))[0], '', "$what: and it goes on");
		is(($a->try('INSERT INTO t1 VALUES (1)'))[0], '25006', "$what: a fences what it fenced");
	}

	# --- nodes that go -------------------------------------------------------

	wait_until("$what: a holds it", sub { $a->holds('one') });
	is(($a->try("SELECT leasehold.leave_lease('one')"))[0], '55006', "$what: the holder does not leave");
	($state, $text) = $a->try("SELECT leasehold.switchover('a', 'two')");
	is($state, '55000', "$what: a lease is not handed to a node that takes no part");
	like($text, qr/join_lease\('two', 'a'\)/, "$what: ... and the hint says how");
	# one that protects nothing moves at once
	$a->safe_psql('postgres', "SELECT leasehold.create_lease('three', ttl => '1s', kind => 'independent')");
	$a->safe_psql('postgres', "SELECT leasehold.join_lease('three')");
	wait_until("$what: a holds a third one", sub { $a->holds('three') });
	$a->safe_psql('postgres', "SELECT leasehold.join_lease('three', 'b', 50)");
	wait_until("$what: b follows there", sub { $b->status('three')->{state} eq 'follower' });
	is(($a->try("SELECT leasehold.switchover('b', 'three')"))[0], '', "$what: b gets it");
	is($b->holds('three'), 1, "$what: ... and holds it");
	is($a->safe_psql('postgres', 'SELECT lease, from_node, to_node, why, done FROM leasehold.spread()'),
		'three|b|a|node "a" has priority 100, node "b" only 50|', "$what: spread() says where it belongs");
	like($a->safe_psql('postgres', 'SELECT lease, to_node, done FROM leasehold.spread(true)'),
		qr/^three\|a\|done, epoch \d+$/, "$what: ... and does it");
	is($a->holds('three'), 1, "$what: a holds it again");
	is($a->safe_psql('postgres', 'SELECT count(*) FROM leasehold.spread()'), '0', "$what: and that is where it belongs");

	# a name that no table has on the other node
	$a->safe_psql('postgres', 'CREATE TABLE here ()');
	is(($a->try("SELECT leasehold.protect('here', 'one')"))[0], '', "$what: a table that only a has");
	like($b->safe_psql('postgres', "SELECT detail, remedy FROM leasehold.check() WHERE NOT ok AND item = 'protected table public.here'"),
		qr/^Lease "one" protects this name, and no table has it.*unprotect\('postgres', 'public', 'here'\)/, "$what: check() on b says so");
	is($a->safe_psql('postgres', "SELECT count(*) FROM leasehold.check() WHERE NOT ok AND item LIKE '%table%'"), '0', "$what: on a it is content");
	is(($b->try("SELECT leasehold.unprotect('postgres', 'public', 'here')"))[0], '', "$what: b takes it out by its name");
	is(($a->try("SELECT leasehold.drop_lease('one')"))[0], '2BP01', "$what: a lease that protects is not dropped");

	$b->stop('immediate');
	push @left, { what => $what, group => $group, a => $a, members => $members };
}

# A node without a lease of the instance is known to be gone after some ten seconds:
# for both groups at the same time.
foreach (@left)
{
	my ($what, $a) = @{$_}{qw(what a)};
	my ($state, $text);

	wait_until("$what: b is known to be gone", sub {
		$a->safe_psql('postgres', "SELECT alive FROM leasehold.nodes WHERE node = 'b'") eq 'f' });
	wait_until("$what: b's lease is over: it can be dropped", sub {
		($state, $text) = $a->try("SELECT leasehold.drop_node('b')");
		$state eq '' || ($state eq '55006' && $text =~ /holds lease "two"/) });
	is($state, '55006', "$what: a node that holds a lease is not dropped");
	$a->safe_psql('postgres', "SELECT leasehold.join_lease('two')");
	wait_until("$what: a has taken over", sub { $a->holds('two') });
}

# (either takes a while, to see that the node's heart has stopped)
my @renamed = at_once(map { [ $_->{a}, "SELECT leasehold.rename_node('b', 'c')" ] } @left);
foreach (@left)
{
	my ($what, $group, $a, $members) = @{$_}{qw(what group a members)};

	is(shift @renamed, '', "$what: now it can be renamed");
	is($a->safe_psql('postgres', "SELECT count(*) FROM leasehold.spread() WHERE to_node = 'c'"), '0', "$what: it is not alive");
	is(join(' ', map { $_->safe_psql('leasehold_store', "SELECT count(*) FROM leasehold_store.membership WHERE node = 'c'") } store_of($group)),
		join(' ', ('3') x $members), "$what: it takes part under its new name");
}

my @dropped = at_once(map { [ $_->{a}, "SELECT leasehold.drop_node('c')" ] } @left);
foreach (@left)
{
	my ($what, $group, $a, $members) = @{$_}{qw(what group a members)};

	is(shift @dropped, '', "$what: and dropped");
	is(($a->try("SELECT leasehold.protect('t6', '" . lease_of($a, 't6') . "')"))[0], '', "$what: nobody waits for it");
	is(($a->try("SELECT leasehold.switchover('b', 'one')"))[0], '42704', "$what: it is known no more");
	is(join(' ', map { $_->safe_psql('leasehold_store', "SELECT count(*) FROM leasehold_store.membership WHERE node <> 'a'")
			  . $_->safe_psql('leasehold_store', "SELECT count(*) FROM leasehold_store.known WHERE node <> 'a'") } store_of($group)),
		join(' ', ('00') x $members), "$what: ... nor does it take part in anything");
	is(($a->try('SELECT leasehold.leave()'))[0], '55006', "$what: a does not leave while it holds leases");
	$_->stop foreach $a, $group->members;
}

done_testing();
