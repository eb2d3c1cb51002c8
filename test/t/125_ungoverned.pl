# A server that reaches the store and takes part in nothing.
#
# It is known to the group nevertheless: whoever protects a table waits for it.
# It has no say in who gets the lease of the others, and they keep no WAL for it.
# Who was told to leave is forgotten.

use strict;
use warnings;

use LeaseholdTest;
use Test::More;

sub node_row
{
	my ($group, $name) = @_;
	return $group->store_query("SELECT role FROM leasehold_store.node WHERE name = '$name'");
}

# ---------------------------------------------------------------------------
# Beside leases of tables
# ---------------------------------------------------------------------------

my $group = LeaseholdTest->new(nodes => [ 'a', 'b' ], ttl => '1s', governed => 0);
my ($a, $b) = $group->nodes;

wait_until("$_ is listed", sub { node_row($group, $_) eq 'ungoverned' }) foreach qw(a b);
wait_until('a sees b', sub { $a->ask("SELECT count(*) FROM leasehold.nodes WHERE node = 'b' AND alive") eq '1' });
pass('servers that no lease governs are listed');
is($b->ask("INSERT INTO writes VALUES (1, 1, 0) RETURNING 1"), '1', 'they are ordinary servers');

# It leaves, and is not listed again in this run.
is(($b->try('SELECT leasehold.leave()'))[0], '', 'one leaves');
is(node_row($group, 'b'), '', 'it is listed no more');
my $beat = "SELECT beat FROM leasehold_store.node WHERE name = 'a'";
my $before = $group->store_query($beat);
wait_until('the other beats on', sub { $group->store_query($beat) > $before + 5 });
is(node_row($group, 'b'), '', 'nor does it come back');
$b->restart;
wait_until('b is listed', sub { node_row($group, 'b') eq 'ungoverned' });
pass('when it starts with a store named, it is');

# The first table ever is protected, at once, and b fences it when that is done.
$_->safe_psql('postgres', 'CREATE TABLE t (i int)') foreach $a, $b;
$a->safe_psql('postgres', "SELECT leasehold.create_lease('one', ttl => '1s', kind => 'independent')");
my @stopped = $b->freeze('keeper');
$a->safe_psql('postgres', "SELECT leasehold.join_lease('one')");
my ($state, $text) = $a->try("SELECT leasehold.protect('t', 'one', '2s')");
is($state, '55000', 'a node that does not answer is waited for');
like($text, qr/Not confirmed by: "b"/, '... and named');
is(($b->try('INSERT INTO t VALUES (1)'))[0], '', 'it knows nothing, indeed');
$b->thaw(@stopped);
is(($a->try("SELECT leasehold.protect('t', 'one')"))[0], '', 'once it answers, the table is protected');
is(($b->try('INSERT INTO t VALUES (1)'))[0], '25006', '... on the node that takes part in nothing, too');
wait_until('a holds the lease', sub { $a->holds('one') });
is(($a->try('INSERT INTO t VALUES (1)'))[0], '', '... and written where its lease is held');

# While tables are protected, one that is connected is one to wait for.
is(($b->try('SELECT leasehold.leave()'))[0], '', 'it leaves');
wait_until('b is listed', sub { node_row($group, 'b') ne '' });
is(($b->try('INSERT INTO t VALUES (1)'))[0], '25006', 'and fences what is protected, as before');
$_->stop foreach $a, $b, $group->members;

# ---------------------------------------------------------------------------
# Beside a primary and its standby
# ---------------------------------------------------------------------------

$group = LeaseholdTest->new(kind => 'physical', nodes => [ 'p', 's' ], ttl => '1s');
my ($p, $s) = $group->nodes;
my $other = LeaseholdTest::Node->node('other', store => $group->store_connstr, conf => 'leasehold.priority = 1000');

$other->start;
foreach my $node ($p, $s)
{
	wait_until('it is seen', sub {
			$node->ask("SELECT count(*) FROM leasehold.nodes WHERE node = 'other' AND role = 'ungoverned'") eq '1' });
}

# The slots of all nodes are seen to together.
sub made_anew
{
	my ($on, $slot) = @_;
	$on->safe_psql('postgres', "SELECT pg_drop_replication_slot('$slot')");
	wait_until("$slot is there", sub {
			$on->ask("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '$slot' AND restart_lsn IS NOT NULL") eq '1' });
	return;
}

made_anew($s, 'leasehold_p') foreach 1 .. 2;
is($_->ask("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'leasehold_other'"), '0',
	"$_->{leasehold_name} keeps no WAL for it") foreach $p, $s;

# The lease is free, and its priority would be higher.
$p->stop('fast');
wait_until('the standby takes over', sub { $s->holds });
is($group->holder->{leasehold_name}, 's', 'it is no candidate');
is(node_row($group, 'other'), 'ungoverned', '... and still what it was');

done_testing();
