# What would keep a node of a group with standbys from taking over, from following
# or from coming back: leasehold.check() names it, with what to do.

use strict;
use warnings;

use LeaseholdTest;
use Test::More;

# (from 18 on, initdb gives a cluster checksums unless told not to)
my ($version) = qx("@{[ $ENV{PG_CONFIG} || 'pg_config' ]}" --version) =~ /PostgreSQL (\d+)/;
my $group = LeaseholdTest->new(
	kind  => 'physical',
	init  => { extra => $version >= 18 ? ['--no-data-checksums'] : [] },
	nodes => [ 'a', 'b' ],
	ttl   => '2s',
	conf  => "max_slot_wal_keep_size = '1GB'\n");
my ($a, $b) = $group->nodes;

# The items that are not in order, with detail and remedy.
sub faults
{
	my ($node) = @_;
	my %fault;

	foreach my $line (split /\n/, $node->ask(
			"SELECT item, detail, remedy FROM leasehold.check() WHERE NOT ok"))
	{
		my ($item, $detail, $remedy) = split /\|/, $line;
		$fault{$item} = { detail => $detail, remedy => $remedy };
	}
	return \%fault;
}

my @items = qw(candidacy hot_standby wal_log_hints max_worker_processes max_wal_senders
  max_replication_slots max_slot_wal_keep_size allow_alter_system on_superseded streaming
  zero_loss);

foreach my $node ($a, $b)
{
	my $fault = faults($node);
	is(join(' ', grep { $fault->{$_} } @items), '', $node->name . ': all is well');
}

# One setting at a time: what it makes check() say.
sub complains
{
	my ($node, $what, $settings, $item, $detail, $remedy) = @_;

	$node->append_conf('postgresql.conf', join('', map { "$_\n" } @$settings));
	$node->restart;
	my $fault = LeaseholdTest::wait_until("check() finds: $what", sub { faults($node)->{$item} });
	like($fault->{detail}, $detail, "$what: said");
	like($fault->{remedy}, $remedy, '... and what to do');
	return;
}

complains($b, 'no way to be rewound', ['wal_log_hints = off'], 'wal_log_hints',
	qr/both off/, qr/Set wal_log_hints to on/);
complains($b, 'slots without bound', [ 'wal_log_hints = on', 'max_slot_wal_keep_size = -1' ],
	'max_slot_wal_keep_size', qr/until the disk is full/, qr/Set max_slot_wal_keep_size/);
complains($b, 'nobody to run the rejoin', [ "max_slot_wal_keep_size = '1GB'", 'leasehold.on_superseded = rejoin' ],
	'on_superseded', qr/rejoin_command is empty/, qr/Set leasehold.rejoin_command/);

SKIP:
{
	skip 'allow_alter_system came with 17', 2
	  if $b->safe_psql('postgres', "SELECT count(*) FROM pg_settings WHERE name = 'allow_alter_system'") eq '0';
	complains($b, 'no ALTER SYSTEM', [ 'leasehold.on_superseded = stay', 'allow_alter_system = off' ],
		'allow_alter_system', qr/cannot be kept right/, qr/Set allow_alter_system to on/);
}

# A standby that cannot connect to its primary.
$b->append_conf('postgresql.conf', "allow_alter_system = on\n") if $version >= 17;
$b->append_conf('postgresql.conf', "leasehold.on_superseded = stay\nleasehold.peer_options = 'user=nobody'\n");
$b->restart;
my $silent = LeaseholdTest::wait_until('check() sees that nothing comes in', sub { faults($b)->{streaming} });
like($silent->{remedy}, qr/leasehold.peer_options/, 'a standby that does not stream: what to do');
$b->append_conf('postgresql.conf', "leasehold.peer_options = ''\n");
$b->restart;
$b->wait_streaming($a);

# Lag and promotion, as the node itself says.
$b->set_conf('leasehold.promote' => 'off');
LeaseholdTest::wait_until('check() says why it would not take over', sub {
		(faults($b)->{candidacy}{detail} // '') =~ /leasehold.promote is off/ });
pass('a standby that may not be promoted');
$b->set_conf('leasehold.promote' => 'on');

# A password is refused where the setting is made.
my ($state, $out) = $b->try(q{ALTER SYSTEM SET leasehold.peer_options = 'user=x password=secret'});
is($state, '22023', 'a password in peer_options is refused');
unlike($out, qr/secret.*DETAIL|DETAIL.*secret/s, 'and the reason does not repeat it');

# hot_standby off: the standby runs, follows nobody new, and says so in the log of
# its own; as a primary check() names it.
$a->append_conf('postgresql.conf', "hot_standby = off\nleasehold.on_shutdown = keep\nmax_wal_senders = 2\nmax_worker_processes = 4\n");
$b->stop;	# (it would not start with fewer workers than these)
$a->restart;
$group->wait_holder($a);
my $fault = faults($a);
like($fault->{hot_standby}{detail} // '', qr/hot_standby is off/, 'hot_standby = off is named');
like($fault->{max_wal_senders}{detail} // '', qr/is 2; 3 are needed/, 'too few walsenders are named');
like($fault->{max_worker_processes}{detail} // '', qr/is 4; 5 are needed/, 'too few worker processes are named');

# Another cluster under the same lease.
my $stranger = LeaseholdTest::Node->node('stranger', node_name => 's', store => $group->store_connstr);
$stranger->start;
$stranger->safe_psql('postgres', 'CREATE EXTENSION leasehold');
$stranger->set_conf('leasehold.lease' => 'main');
LeaseholdTest::wait_until('check() names another system', sub {
		(faults($stranger)->{candidacy}{detail} // '') =~ /database system/ });
pass('a server of another cluster is told so');

done_testing();
