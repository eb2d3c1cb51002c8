# What docs/operations.md tells operators to do, done: a new library and a new
# server one node at a time, pg_upgrade, leaving, uninstalling.  All the time a
# client writes through a multi-host string; afterwards none of its
# acknowledgements may have come from a node that did not hold the lease.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use LeaseholdTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $group = LeaseholdTest->new(nodes => [ 'a', 'b' ], ttl => '2s');
my ($a, $b) = $group->nodes;
my %node = (a => $a, b => $b);

sub other { return $_[0] == $a ? $b : $a; }

wait_until('both nodes see each other alive',
	sub { $a->safe_psql('postgres', 'SELECT count(*) FROM leasehold.nodes WHERE alive') == 2 });

my $writer = $group->start_writer('multi', epoch => 1, connections => 2);
$writer->wait_acks(50);

# ---------------------------------------------------------------------------
# A new version of the library, or of the server: one node at a time
# ---------------------------------------------------------------------------

foreach my $name ('b', 'a')
{
	my $node = $node{$name};

	# the holder lets go by itself when it is shut down
	$node->stop('fast');
	$group->wait_holder(other($node));
	$writer->wait_acks(50);
	$node->start;
	$node->wait_state('follower');
	pass("node $name was restarted, the other one wrote meanwhile");
}
my $holder = $group->wait_holder;
$holder->safe_psql('postgres', 'ALTER EXTENSION leasehold UPDATE');
other($holder)->safe_psql('postgres',
	'SET leasehold.local_ddl = on; ALTER EXTENSION leasehold UPDATE');
pass('the extension is updated on a node with the lease, and on one without');

# ---------------------------------------------------------------------------
# A major version of the server: pg_upgrade arms nothing and needs nothing
# ---------------------------------------------------------------------------

my $old = other($group->wait_holder);
my $new = PostgreSQL::Test::Cluster->new('upgraded');
my $bindir = $new->config_data('--bindir');

$new->init;
my $settings = slurp_file($old->data_dir . '/postgresql.conf');
$old->stop('fast');
# the settings go into the new directory, the port stays the node's
$settings =~ s/^port = .*$/'port = ' . $old->port/me;
my ($where) = $settings =~ /^(unix_socket_directories = .*|listen_addresses = .*)$/m;
ok($where, 'the settings of the old directory were read');
append_to_file($new->data_dir . '/postgresql.conf', "\nmax_prepared_transactions = 10\n");
chdir $PostgreSQL::Test::Utils::tmp_check;
command_ok(
	[   'pg_upgrade', '-N',
		'-b' => $bindir, '-B' => $bindir,
		'-d' => $old->data_dir, '-D' => $new->data_dir,
		'-s' => $new->host, '-p' => $old->port, '-P' => $new->port,
		'-o' => '-c shared_preload_libraries=',
		'-O' => '-c shared_preload_libraries=' ],
	'pg_upgrade of a node that was governed');
PostgreSQL::Test::Utils::append_to_file($new->data_dir . '/postgresql.conf', $settings);
$new->adjust_conf('postgresql.conf', 'port', $new->port);
$new->start;
wait_until('the upgraded node follows',
	sub { $new->safe_psql('postgres', 'SELECT state FROM leasehold.status') eq 'follower' });
is($new->safe_psql('postgres', 'SELECT count(*) FROM leasehold.status'), 1,
	'the upgraded node starts with the extension');
my ($rc, $out, $err) = $new->psql('postgres', 'CREATE TABLE not_here (i int)');
like($err, qr/does not hold lease "main"/, '... and does not write');

# The old directory must not be started beside it.  Were it, it would be a
# second run with the same name, which refuses to take part.
$new->stop('fast');
$old->start;
$old->wait_state('follower');

$writer->stop;
my $verdict = $group->judge($writer, rows => 0, history => $group->history_file);
is($verdict->{late}, 0, 'no acknowledgement from a node without the lease');
is($verdict->{conflicts}, 0, '... or under an epoch of another');

# ---------------------------------------------------------------------------
# Leaving and uninstalling
# ---------------------------------------------------------------------------

my $stayer = $group->wait_holder;
my $leaver = other($stayer);
my ($state, $message) = $leaver->try('SELECT leasehold.leave()');
is($state, '55000', 'a node cannot leave while leasehold.lease names a lease');
$leaver->set_conf('leasehold.lease' => undef);
($state) = $leaver->try('CREATE TABLE still_fenced (i int)');
is($state, '25006', 'emptying leasehold.lease does not open the fence');
($state, $message) = $leaver->try('DROP EXTENSION leasehold');
is($state, '55006', 'DROP EXTENSION is refused while the node is governed');
$leaver->safe_psql('postgres', 'SELECT leasehold.leave()');
($state) = $leaver->try('CREATE TABLE free_again (i int)');
is($state, '', 'after leave() the node is an ordinary server');
is($stayer->holds, 1, '... and the other one still holds the lease');
is($group->store_query("SELECT count(*) FROM leasehold_store.node WHERE name = '$leaver->{leasehold_name}'"),
	0, '... and the node is gone from the store');
$leaver->safe_psql('postgres', 'DROP EXTENSION leasehold');
$leaver->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''");
$leaver->restart;
is($leaver->safe_psql('postgres', 'CREATE TABLE without_library (i int); SELECT 1'), 1,
	'the server runs and writes without the library');

done_testing();
