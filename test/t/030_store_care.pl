# Care of the store: the list of members grows, shrinks, moves, and is mended.
#
# The race that this guards: while the list changes, some nodes count by the
# old list and some by the new one.  If the two lists could be counted side by
# side, two nodes could each find a majority; if they could not be counted at
# all for longer than the ttl, the holder would lose its lease.  So the holder
# keeps its lease, under the same epoch, through every change, and a change
# that stops half-way is completed by the same call.

use strict;
use warnings;

use LeaseholdTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $group = LeaseholdTest->new(nodes => [ 'a', 'b' ], ttl => '3s');
my ($a, $b) = $group->nodes;
my ($store1) = $group->members;
my ($store2, $store3) =
  map { LeaseholdTest::Node->member($_) } 'more2', 'more3';

sub name_members
{
	my (@members) = @_;
	return join('; ', map { $_->connstr('leasehold_store') } @members);
}

# leasehold.store of all nodes.
sub configure
{
	my (@members) = @_;
	$_->set_conf('leasehold.store' => name_members(@members)) foreach $a, $b;
	return;
}

# Call a function of one argument.
sub ask
{
	my ($node, $function, $argument) = @_;
	return $node->try("SELECT leasehold.$function(\$\$$argument\$\$)");
}

sub set_store
{
	my (@members) = @_;
	return ask($a, 'set_store', name_members(@members));
}

sub wait_members
{
	my ($node, $reachable, $size) = @_;
	wait_until(
		$node->name . " counts $reachable of $size members",
		sub {
			my $status = $node->status;
			return $status->{members_reachable} eq $reachable
			  && $status->{members} eq $size;
		});
	return;
}

# What check() says that is not ok, one line per row.
sub complaints
{
	my ($node) = @_;
	return $node->safe_psql('postgres',
		"SELECT item || ': ' || detail || ' -> ' || remedy FROM leasehold.check()"
		  . " WHERE NOT ok AND item NOT LIKE '%fsync' AND detail NOT LIKE '%fsync%'");
}

sub store_row
{
	my ($member, $what) = @_;
	return $member->safe_psql('leasehold_store',
		"SELECT $what FROM leasehold_store.store");
}

is($group->holder, $a, 'a holds the lease');
my $epoch = $a->epoch;
my $writer = $group->start_writer($a);
my $other  = $group->start_writer($b);
$writer->wait_acks(50);

# ---------------------------------------------------------------------------
# From one member to three
# ---------------------------------------------------------------------------

my ($state, $text) = set_store($store1, $store2, $store3);
is($state, '55000', 'a list that this node could not count is refused');
like($text, qr/before the list is changed/, '... with the way to do it');
configure($store1, $store2, $store3);
is($a->epoch, $epoch, 'addresses that are not on the list do no harm');
($state, $text) = set_store($store1, $store2, $store3);
is($state, '', 'the list grows') or diag($text);
wait_members($_, 3, 3) foreach $a, $b;
is($a->epoch, $epoch, 'the holder kept it');
$writer->wait_acks(50);
is(complaints($a), '', 'check() is content with the three members');
is(store_row($_, 'settled'), 't', $_->name . ' says that the list is settled')
  foreach $store1, $store2, $store3;

$store1->stop('immediate');
wait_members($a, 2, 3);
$writer->wait_acks(50);
is($a->epoch, $epoch, 'any one member may be down');
like(complaints($a), qr/member \S+ ?\S*: .*SQLSTATE 08/, 'check() names it');
$store1->start;
wait_members($a, 3, 3);

# ---------------------------------------------------------------------------
# A member that lost its memory
# ---------------------------------------------------------------------------

$store3->safe_psql('leasehold_store', 'DROP SCHEMA leasehold_store CASCADE');
wait_members($a, 2, 3);
like(complaints($a), qr/not a store.*init_store/, 'a member without a schema is named');
($state, $text) = ask($a, 'reseed_member', $store3->connstr('leasehold_store'));
is($state, '', 'it is seeded anew') or diag($text);
wait_members($_, 3, 3) foreach $a, $b;
is($a->epoch, $epoch, 'the holder kept the lease');
is( $store3->safe_psql('leasehold_store',
		"SELECT holder || ' ' || epoch FROM leasehold_store.lease WHERE name = 'main'"),
	"a $epoch",
	'the new row is like the others');

# with its tables, but empty: as after a restore of the schema alone
$store2->safe_psql('leasehold_store',
	'DELETE FROM leasehold_store.lease; DELETE FROM leasehold_store.store;'
	  . ' DELETE FROM leasehold_store.node');
wait_members($b, 2, 3);
($state, $text) = ask($b, 'reseed_member', $store2->connstr('leasehold_store'));
is($state, '', 'an empty one is seeded anew, by another node') or diag($text);
wait_members($_, 3, 3) foreach $a, $b;
is($a->epoch, $epoch, 'the holder kept the lease');
is(complaints($b), '', 'check() is content again');

# ---------------------------------------------------------------------------
# A change that stopped half-way
# ---------------------------------------------------------------------------

# What a coordinator that died after the new member took the list has left.
sub member_id
{
	my ($member) = @_;
	return $member->safe_psql('leasehold_store',
		"SELECT store_id || '/' || (SELECT system_identifier FROM pg_control_system())"
		  . " || '/' || 1 FROM leasehold_store.store");
}

my $spare = LeaseholdTest::Node->member('spare');
my $lineage = store_row($store1, "split_part(members, ';', 1)");
my $next = store_row($store1, 'generation + 1');
my $list = "$lineage;" . join(',', map { member_id($_) } $store1, $store2, $spare);

$_->safe_psql('leasehold_store',
	"UPDATE leasehold_store.store SET generation = $next, members = '$list', settled = false")
  foreach $spare, $store1;
($state, $text) = set_store($store1, $store3);
is($state, '55000', 'another change is refused meanwhile');
like($text, qr/has not been completed/, '... and says why');
$writer->wait_acks(50);
is($a->epoch, $epoch, 'the holder goes on with the majority that is left');
configure($store1, $store2, $store3, $spare);
($state, $text) = set_store($store1, $store2, $spare);
is($state, '', 'the same change is completed') or diag($text);
configure($store1, $store2, $spare);
wait_members($_, 3, 3) foreach $a, $b;
is($a->epoch, $epoch, 'the holder kept the lease');
is(store_row($spare, 'generation'), $next, 'under the generation that was begun');

# ---------------------------------------------------------------------------
# To a list that shares no member with the last one
# ---------------------------------------------------------------------------

$store3->safe_psql('leasehold_store', 'DROP SCHEMA leasehold_store CASCADE');
is( (ask($a, 'init_store', $store3->connstr('leasehold_store')))[0],
	'', 'a fresh member');
configure($store3);
($state, $text) = set_store($store3);
is($state, '55000', 'a list that shares no majority with the last is refused');
like($text, qr/name them in leasehold\.store/, '... with the way to do it');
wait_until('the fence is closed', sub { !$a->holds }, 30);
configure($store1, $store2, $spare, $store3);
$epoch = $group->wait_holder->epoch;
($state, $text) = ask($group->holder, 'set_store', name_members($store3));
is($state, '', 'with both lists named it is done') or diag($text);
configure($store3);
wait_members($_, 1, 1) foreach $a, $b;
is($group->wait_holder->epoch, $epoch, 'the holder kept the lease');
is(complaints($a), '', 'check() is content');
$_->stop foreach $store1, $store2, $spare;

# ---------------------------------------------------------------------------
# The only member was restored from an older copy
# ---------------------------------------------------------------------------

$store3->safe_psql('leasehold_store',
	'UPDATE leasehold_store.lease SET epoch = epoch - 1, version = 1');
wait_until('nobody counts it any more',
	sub { $a->status->{members_reachable} eq '0' && !$group->holder });
like(complaints($a), qr/lost its memory.*reseed_member/, 'check() says so');
($state, $text) = ask($a, 'reseed_member', $store3->connstr('leasehold_store'));
is($state, '', 'it begins anew') or diag($text);
my $holder = $group->wait_holder;
cmp_ok($holder->epoch, '>', $epoch, 'the epoch has not fallen');
$epoch = $holder->epoch;

# ---------------------------------------------------------------------------
# Nodes
# ---------------------------------------------------------------------------

my ($gone) = grep { $_ != $holder } $a, $b;
my $name = $gone->{leasehold_name};

($state, $text) = $holder->try("SELECT leasehold.drop_node('$name')");
is($state, '55006', 'a node that is alive cannot be dropped');
($state, $text) = $holder->try("SELECT leasehold.rename_node('$holder->{leasehold_name}', 'z')");
is($state, '55006', 'nor one that holds a lease be renamed');
($state, $text) = $holder->try("SELECT leasehold.drop_node('nobody')");
is($state, '42704', 'nor an unknown one');
like($text, qr/Known: "a", "b"/, '... which names those that are known');
$_->stop foreach $writer, $other;
$gone->stop;
wait_until(
	"$name is known to be gone",
	sub {
		$holder->safe_psql('postgres',
			"SELECT NOT alive FROM leasehold.nodes WHERE node = '$name'") eq 't';
	});
is(($holder->try("SELECT leasehold.rename_node('$name', 'c')"))[0], '', 'it can be renamed');
is( $store3->safe_psql('leasehold_store', 'SELECT string_agg(name, \' \' ORDER BY name) FROM leasehold_store.node'),
	"$holder->{leasehold_name} c", '... in the store');
is(($holder->try("SELECT leasehold.drop_node('c')"))[0], '', 'and dropped');
is( $store3->safe_psql('leasehold_store', 'SELECT string_agg(name, \' \') FROM leasehold_store.node'),
	$holder->{leasehold_name}, '... from the store');
$gone->start;
$gone->wait_state('follower');
pass('and comes back under its own name');

# ---------------------------------------------------------------------------
# Leaving
# ---------------------------------------------------------------------------

is(($gone->try('SELECT leasehold.leave()'))[0], '55000', 'a node whose settings name a lease cannot leave');
$gone->set_conf('leasehold.lease' => '');
is(($gone->try('CREATE TABLE must_not_be ()'))[0], '25006',
	'a node that was governed stays fenced when the setting is emptied');
is(($gone->try('SELECT leasehold.leave()'))[0], '', 'then it can');
is(($gone->try('CREATE TABLE may_be ()'))[0], '', '... and writes as it likes');
is($gone->safe_psql('postgres', 'SELECT count(*) FROM leasehold.status'), '0', '... under no lease');
wait_until(
	'the store lists it no more',
	sub {
		$store3->safe_psql('leasehold_store', 'SELECT count(*) FROM leasehold_store.node') eq '1';
	});
is(($gone->try('DROP EXTENSION leasehold'))[0], '', 'and the extension can be dropped there');
$gone->restart;
is(($gone->try('DROP TABLE may_be'))[0], '', 'a restart does not bring the lease back');
is(($gone->try('CREATE EXTENSION leasehold'))[0], '', 'nor does the extension');
$gone->set_conf('leasehold.lease' => 'main');
$gone->wait_state('follower');
is(($gone->try('CREATE TABLE must_not_be ()'))[0], '25006', 'until the node is put under it again');

my $verdict = $group->judge($writer, $other);
is($verdict->{late}, 0, 'no acknowledgement after the other node had one');

done_testing();
