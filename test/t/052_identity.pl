# Who is who: one name, one data directory, one node.
#
# Two instances under one name would each take the other's lease row for their
# own.  Whoever comes second has to stand back and say so, whether it was given
# the name by mistake or was cloned with the data directory; and if it gets the
# name in the end, because the first has fallen silent, the first stands back when
# it returns.  Only the very same directory's next run may have its lease back at
# once; a copy, or one whose memory is damaged, waits like a stranger.

use strict;
use warnings;

use LeaseholdTest;
use LeaseholdWire;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::RecursiveCopy;
use PostgreSQL::Test::Utils;
use Test::More;

my $ttl_ms = 1500;
my $group = LeaseholdTest->new(nodes => [ 'a', 'b' ], ttl => "$ttl_ms ms",
	conf => "leasehold.health_timeout = '20s'");
my ($a, $b) = $group->nodes;

# Wait until so many ttls have passed.
sub outlast
{
	my ($ttls) = @_;
	my $until = clock_now() + $ttls * $ttl_ms * 1e6;

	wait_until('the time to pass', sub { clock_now() > $until });
	return;
}

# The end of a node that nobody in it notices: a keeper that outlived the
# postmaster by a moment would release the lease.
sub vanish
{
	my ($node) = @_;
	$node->freeze('all');
	$node->kill_all;
	return;
}

# Another instance under a name that is taken.
sub namesake
{
	my ($directory, $name) = @_;
	my $node = LeaseholdTest::Node->node($directory, node_name => $name,
		store => $group->store_connstr, conf => "leasehold.health_timeout = '20s'");

	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION leasehold');
	$node->make_table;
	$node->set_conf('leasehold.lease' => 'main');
	return $node;
}

# It says that it is excluded, and does not write, for several ttls; the other
# goes on.
sub stands_back
{
	my ($node, $writer, $who) = @_;

	$node->wait_state('excluded');
	like($node->status->{reason}, qr/Another live instance uses the node name "a"/, "$who: says why it is excluded");
	my ($state, $message) = $node->try('CREATE TABLE refused ()');
	is($state, '25006', "$who: does not write");
	like($message, qr/Another live instance|held by node "a"/, "$who: and says why");
	outlast(2.5);
	is($node->holds, 0, "$who: never holds the lease");
	is($node->status->{state}, 'excluded', "$who: stays excluded");
	$writer->wait_acks(20);
	pass("$who: the original writes on");
	return;
}

# ---------------------------------------------------------------------------
# The same name by mistake
# ---------------------------------------------------------------------------
my $writer = $group->start_writer($a, connections => 2, rate => 100, epoch => 1);
$writer->wait_acks(20);
my $second = namesake('second', 'a');
stands_back($second, $writer, 'a second node of the same name');
like($second->log_since(0), qr/node "a" is now excluded/, 'it is in its log');
my $second_writer = $group->start_writer($second, connections => 2, rate => 100, label => 'second');
is(($second->try('SELECT leasehold.acquire(timeout => \'0.5s\')'))[0] eq '' ? 'taken' : 'refused', 'refused',
	'not even when told to acquire');
is((split /\n/, $group->store_query("SELECT incarnation FROM leasehold_store.node WHERE name = 'a'")),
	1, 'the store knows one');

# The first is stopped, all of it, for so long that the second gets the name, and
# perhaps the lease; resumed, it is the one who stands back.  (b would be faster
# to take the lease: it does not by itself.)
$b->set_conf('leasehold.priority' => 0);
$a->freeze('all');
$second_writer->wait_acks(20);
pass('the first falls silent: the second gets name and lease');
$a->thaw;
$a->wait_state('excluded');
pass('the first, resumed, stands back');
outlast(2);
is($second->holds, 1, 'the second goes on');
$_->stop foreach $writer, $second_writer;
my $verdict = $group->judge($writer, $second_writer, rows => 0);
is($verdict->{late}, 0, 'no acknowledgement of the first after one of the second');

# The second leaves: the first has its name again.
$second->stop;
$a->wait_state('holder');
pass('once the second is gone, the first comes back');
$b->set_conf('leasehold.priority' => undef);

# ---------------------------------------------------------------------------
# Clones
# ---------------------------------------------------------------------------
# The configuration of a clone is the original's but for its port.
sub clone_conf
{
	my ($node) = @_;
	$node->append_conf('postgresql.conf', 'port = ' . $node->port);
	return;
}

# of a running node
$writer = $group->start_writer($a, connections => 2, rate => 100, epoch => 1);
$a->backup('running');
my $clone = LeaseholdTest::Node->new('clone');
$clone->init_from_backup($a, 'running');
@{$clone}{qw(leasehold_name leasehold_lease)} = ('a', 'main');
ok(-f $clone->data_dir . '/leasehold.state', 'a base backup carries the node\'s memory');
$clone->start;
stands_back($clone, $writer, 'a clone of the running node');
$clone->stop;

# of a stopped one; the original starts first
$writer->stop;
$a->stop;
my $copy = LeaseholdTest::Node->new('copy');
PostgreSQL::Test::RecursiveCopy::copypath($a->data_dir, $copy->data_dir);
chmod 0700, $copy->data_dir;
clone_conf($copy);
@{$copy}{qw(leasehold_name leasehold_lease)} = ('a', 'main');
$a->start;
$group->wait_holder;
wait_until('a leads', sub {
	return 1 if $a->holds;
	$a->try("SELECT leasehold.switchover('a', timeout => '5s')");
	return 0;
});
$writer = $group->start_writer($a, connections => 2, rate => 100, epoch => 1);
$copy->start;
stands_back($copy, $writer, 'a copy of the stopped node');
$copy->stop('immediate');
$writer->stop;

# The original has died; its copy, made while it ran, is not taken for it: it
# waits until the time has run out.
$b->set_conf('leasehold.priority' => 0);
my $epoch = $a->epoch;
$a->backup('before_death');
my $heir = LeaseholdTest::Node->new('heir');
$heir->init_from_backup($a, 'before_death');
@{$heir}{qw(leasehold_name leasehold_lease)} = ('a', 'main');
$b->safe_psql('postgres', "SELECT leasehold.alter_lease('main', '4s')");
wait_until('the new ttl holds', sub { $group->store_query('SELECT ttl_ms FROM leasehold_store.lease') == 4000 });
vanish($a);
my $died = clock_now();
$heir->start;
$heir->wait_state('holder');
# the last renewal was at most a fifth of the ttl before the death
cmp_ok(clock_now() - $died, '>', 4e9 * 0.75, 'a copy of a node that died waits like a stranger');
cmp_ok($heir->epoch, '>', $epoch, 'and holds under a higher epoch');
$heir->kill_all;

# ---------------------------------------------------------------------------
# The same directory's next run
# ---------------------------------------------------------------------------
$b->set_conf('leasehold.priority' => undef);
$a->start_again;
wait_until('a leads', sub {
	return 1 if $a->holds;
	$a->try("SELECT leasehold.switchover('a', timeout => '5s')");
	return 0;
});
# a ttl that nobody could sit out within the bounds below
$b->safe_psql('postgres', "SELECT leasehold.alter_lease('main', '20s')");
wait_until('the new ttl holds', sub { $group->store_query('SELECT ttl_ms FROM leasehold_store.lease') == 20000 });
foreach my $death (
	[ 'all processes killed', sub { vanish($a); $a->start_again; } ],
	[ 'immediate shutdown',   sub { $a->stop('immediate'); $a->start; } ],
	[ 'a backend crashed, and the server restarted itself', sub {
		my $session = LeaseholdWire->connect($a);
		my $offset = $a->log_offset;
		kill 'KILL', $session->pid;
		$a->wait_log(qr/all server processes terminated; reinitializing/, $offset);
		wait_until('it answers', sub { ($a->try('SELECT 1'))[0] eq '' });
	} ])
{
	my ($what, $die) = @$death;
	my $start = clock_now();

	$epoch = $a->epoch;
	$die->();
	$group->wait_holder($a);
	cmp_ok(clock_now() - $start, '<', 10e9, "$what: it has its lease back, half a ttl before anybody else could");
	cmp_ok($a->epoch, '>', $epoch, "$what: under a higher epoch");
	is($group->store_query('SELECT reason FROM leasehold_store.history WHERE to_node = \'a\' AND epoch = ' . $a->epoch),
		'reclaimed by the same node', "$what: on record");
}

# A damaged memory proves nothing.
$b->set_conf('leasehold.priority' => 0);
$a->safe_psql('postgres', "SELECT leasehold.alter_lease('main', '4s')");
wait_until('the new ttl holds', sub { $group->store_query('SELECT ttl_ms FROM leasehold_store.lease') == 4000 });
vanish($a);
$died = clock_now();
my $state = $a->data_dir . '/leasehold.state';
my $text = slurp_file($state);
$text =~ s/^(epoch )\d+$/${1}1/m or die "no epoch in $state";
unlink $state;
append_to_file($state, $text);
my $offset = $a->log_offset;
$a->start_again;
is(($a->try('CREATE TABLE refused ()'))[0], '25006', 'with a damaged memory: starts fenced');
like($a->log_since($offset), qr/leasehold\.state" cannot be read/, 'and says so');
$group->wait_holder($a);
cmp_ok(clock_now() - $died, '>', 4e9 * 0.75, 'waits like a stranger');
is($group->store_query("SELECT count(*) FROM (SELECT epoch FROM leasehold_store.history WHERE to_node <> '' GROUP BY epoch HAVING count(*) > 1) x"),
	0, 'and no epoch was ever given twice');

# ---------------------------------------------------------------------------
# The default name
# ---------------------------------------------------------------------------
# Debian gives every machine's cluster the same cluster_name.
my @nameless;
foreach my $i (1, 2)
{
	my $node = LeaseholdTest::Node->member("nameless$i", empty => 1,
		conf => "shared_preload_libraries = 'leasehold'\ncluster_name = '15/main'\nleasehold.store = '"
		  . $group->store_connstr =~ s/'/''/gr . "'\nleasehold.lease = 'main'\n");
	my $port = $node->port;

	$node->safe_psql('postgres', 'SELECT 1');
	$group->store_query('SELECT 1');
	wait_until('it is registered', sub {
		$group->store_query("SELECT count(*) FROM leasehold_store.node WHERE name LIKE '%:$port'") == 1;
	});
	push @nameless, $node;
}
my @names = split /\n/, $group->store_query('SELECT name FROM leasehold_store.node ORDER BY name');
is(scalar @names, 4, 'two nodes without a name of their own and the same cluster_name are two nodes')
  or diag("@names");
unlike("@names", qr{15/main}, 'named by host and port');
$_->stop foreach @nameless, $a, $b, $group->members;
done_testing();
