# Every SQL command of README.md and docs/ is run, in an order in which it
# makes sense; a command that this test does not know makes it fail.  So do
# shell commands that no test covers.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use LeaseholdTest;
use TablesTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/../..";
my (%sql, %shell);

# ---------------------------------------------------------------------------
# What the pages say
# ---------------------------------------------------------------------------

foreach my $page ("$top/README.md", glob("$top/docs/*.md"))
{
	my $text = slurp_file($page);

	while ($text =~ /^```(sql|sh)\n(.*?)^```$/msg)
	{
		my ($kind, $block) = ($1, $2);

		$block =~ s/\s*--\s.*$//mg if $kind eq 'sql';
		$block =~ s/\s+#\s.*$//mg if $kind eq 'sh';
		foreach my $command (split($kind eq 'sql' ? qr/;\s*$/m : qr/\n/, $block))
		{
			$command =~ s/^\s+|\s+$//g;
			next if $command eq '';
			($kind eq 'sql' ? \%sql : \%shell)->{$command} = 1;
		}
	}
}
cmp_ok(scalar(keys %sql), '>', 10, 'there are SQL commands to run');

# ---------------------------------------------------------------------------
# Where they are run
# ---------------------------------------------------------------------------

my $group = LeaseholdTest->new(
	nodes     => [ 'a', 'b' ],
	members   => 3,
	ttl       => '2s',
	extension => 0);
my ($a, $b) = $group->nodes;
my @members = $group->members;
my %run;

# One of the documented commands, with the hosts that are here.
sub documented
{
	my ($node, $command, $expected) = @_;
	my $here = $command;
	my $i = 0;

	ok($sql{$command}, "documented: $command");
	$run{$command} = 1;
	$here =~ s/host=(m[123]|store)\.example dbname=(\w+)( user=\w+)?/$members[$1 eq 'store' ? 0 : substr($1, 1) - 1]->connstr($2)/ge;
	# a string in a string
	$here =~ s/(set_store|reseed_member|init_store)\('(.*)'\)/"$1(\$conn\$$2\$conn\$)"/e;
	my ($state, $out) = $node->try($here, timeout => 60);
	is($state, $expected // '', "... runs: $out");
	return $out;
}

sub find
{
	my ($pattern) = @_;
	my @found = grep { /$pattern/ } sort keys %sql;
	is(scalar(@found), 1, "one documented command matches $pattern") or diag(join "\n", @found);
	return $found[0];
}

documented($a, 'CREATE EXTENSION leasehold');
$b->safe_psql('postgres', 'CREATE EXTENSION leasehold');
documented($a, find(qr/^SELECT leasehold.init_store/), '42710');	# it is one already
documented($a, find(qr/^SELECT leasehold.create_lease\('main'.*independent/));
foreach my $node ($a, $b)
{
	documented($node, find(qr/^ALTER SYSTEM SET leasehold.lease/));
	documented($node, 'SELECT pg_reload_conf()');
	$group->wait_holder($a);
}
$b->wait_state('follower');
documented($_, find(qr/^SELECT state, reason FROM leasehold.status/)) foreach $a, $b;
documented($_, 'SELECT * FROM leasehold.check() WHERE NOT ok') foreach $a, $b;
documented($b, 'SELECT * FROM leasehold.check()');
documented($b, find(qr/^SELECT lease, node, state/));
documented($b, 'SELECT * FROM leasehold.nodes');
documented($b, 'SELECT * FROM leasehold.history');
documented($a, 'SELECT leasehold.epoch()');

# the paths between them
foreach my $way ([ $a, 'b' ], [ $b, 'a' ])
{
	my ($from, $to) = @$way;
	wait_until("$to is reached",
		sub { $from->ask("SELECT status FROM leasehold.peers WHERE peer = '$to'") eq 'ok' });
}
documented($b, find(qr/^SELECT peer, kind, status/));
documented($b, find(qr/^SELECT source, target, status/));
like(documented($a, "SELECT * FROM leasehold.diagnose('b')"), qr/verdict\|ok/, 'the path stands');
like(documented($b, "SELECT * FROM leasehold.diagnose('b', source => 'a')"),
	qr/verdict\|ok/, 'from the other side, too');
is(documented($a, find(qr/leasehold.remedies/)), '', 'and there is nothing to mend');
like(documented($a, find(qr/leasehold.repair/)), qr/stands/, 'nor to repair');
documented($a, find(qr/leasehold.outages/));
like(documented($b, 'SELECT leasehold.connectivity_svg()'), qr/^<svg/, 'a picture');
documented($a, 'CREATE ROLE leasehold_peer LOGIN');
documented($a, "SELECT leasehold.switchover('b')");
documented($b, 'SELECT leasehold.pause()');
$b->wait_state('paused');
pass('paused it is');
documented($a, 'SELECT leasehold.resume()');
documented($a, 'SELECT leasehold.pause()');
documented($a, 'SELECT leasehold.resume(force => true)');
$group->wait_holder;
documented($a, find(qr/^SELECT leasehold.set_store/));
documented($a, find(qr/^SELECT leasehold.reseed_member/));
is($group->holder // '', $b, 'the holder stayed holder');
documented($b, "SELECT leasehold.drop_node('c')", '42704');			# there is none
documented($a, 'SELECT leasehold.leave()', '55000');					# still named
documented($a, 'DROP EXTENSION leasehold', '55006');					# still governed

# a primary and its standbys
my $physical = LeaseholdTest->new(kind => 'physical', nodes => [ 'p', 'q' ], ttl => '2s');
my ($p, $q) = $physical->nodes;
documented($p, find(qr/^SELECT leasehold.create_lease.*physical/), '42710');	# it is there
documented($_, find(qr/^SELECT node, role/)) foreach $p, $q;
documented($_, find(qr/^SELECT item, detail, remedy/)) foreach $p, $q;
documented($p, $_) foreach grep { /rewinder|pg_read_binary_file|pg_ls_dir|pg_stat_file/ } sort keys %sql;

# leases of tables, from nothing
my $pair = TablesTest->new(nodes => [ 'a', 'b' ], tables => [ 'orders', 'stock' ], ttl => '2s');
my ($c, $d) = $pair->nodes;
documented($c, find(qr/create_lease\('orders'/));
documented($c, find(qr/join_lease\('orders', priority/));
wait_until('the first has the lease', sub { $c->holds('orders') });
documented($d, "SELECT leasehold.join_lease('orders')");
documented($_, find(qr/^SELECT lease, state, holder/)) foreach $c, $d;
documented($d, "SELECT leasehold.protect('orders', 'orders')");
is(documented($d, find(qr/^SELECT table_name, lease/)), 'orders|orders|a|f|t', 'who writes it');
is(($d->try('INSERT INTO orders (client) VALUES (0)'))[0], '25006', 'the other does not write it');
wait_until('it is known where the first one is', sub { $d->ask("SELECT count(*) FROM leasehold.nodes WHERE node = 'a'") });
is(documented($d, "SELECT leasehold.writer('orders')"), $c->ask("SELECT advertise FROM leasehold.nodes WHERE node = 'a'"), 'where to write');
documented($d, 'SET leasehold.local_ddl = on');
like(documented($c, find(qr/holds\('orders'\)/)), qr/^t\|\d+$/, 'it is held, under an epoch');
documented($c, "SELECT leasehold.switchover('b', 'orders')");
is($d->holds('orders'), 1, 'it is handed over');
like(documented($d, 'SELECT lease, from_node, to_node, why FROM leasehold.spread()'), qr/^orders\|b\|a\|node "a" has priority 200/, 'it belongs on the first');
like(documented($d, 'SELECT * FROM leasehold.spread(apply => true)'), qr/done, epoch/, 'and is there again');
wait_until('the first has the lease again', sub { $c->holds('orders') });

# every setting, function and view has its place
my ($settings, $reference) = map { slurp_file("$top/docs/$_.md") } 'settings', 'sql';
ok($settings =~ /^\| [^|]*`\Q$_\E`/m, "docs/settings.md has $_")
  foreach split /\n/, $d->ask(q{SELECT name FROM pg_settings WHERE name LIKE 'leasehold.%'});
ok($reference =~ /\b$_\b/, "docs/sql.md has $_")
  foreach split /\n/, $d->ask(q{SELECT proname FROM pg_proc WHERE pronamespace = 'leasehold'::regnamespace UNION SELECT relname FROM pg_class WHERE relnamespace = 'leasehold'::regnamespace AND relkind = 'v' ORDER BY 1});

documented($d, "SELECT leasehold.unprotect('orders')");
documented($d, find(qr/unprotect\('app'/), '42704');					# no such table
documented($c, "SELECT leasehold.leave_lease('orders', 'b')");
documented($c, "SELECT leasehold.leave_lease('orders', 'a')", '55006');	# it holds it
documented($d, find(qr/join_lease\('orders', 'a', 0\)/));
documented($c, "SELECT leasehold.release('orders')");
documented($c, "SELECT leasehold.leave_lease('orders', 'a')");
documented($c, "SELECT leasehold.drop_lease('orders')");
$_->stop foreach $pair->nodes, $pair->members;

$run{$_} or fail("not run: $_") foreach sort keys %sql;

# ---------------------------------------------------------------------------
# Shell commands: which test covers each
# ---------------------------------------------------------------------------

my %covered = (
	'make demo'  => 'demo/demo',
	'make check' => 'the suite itself',
	'make soak'  => 'the suite itself',
	'make unit'  => 'the suite itself',
	'make model' => 'the suite itself',
	'make regress' => 'the suite itself',
	'make install' => 'the suite itself',
	'make && sudo make install' => 'the suite itself',
	'createdb leasehold_store' => 'below');
my @patterns = (
	qr/^make tap T=test\/t\/\w+\.pl$/,
	qr/^psql -d leasehold_store (-v leasehold_role=\w+ )?-f "\$\(pg_config --sharedir\)\/extension\/leasehold-store\.sql"$/,	# below
	qr/^pg_ctl -D "\$(PGDATA|OLD|NEW)" /,						# 060_operations.pl
	qr/^pg_upgrade /, qr/^pg_basebackup -D "\$PGDATA" /, qr/^psql -c ["'](ALTER EXTENSION|SELECT leasehold.switchover)/);

foreach my $command (sort keys %shell)
{
	ok($covered{$command} || grep({ $command =~ $_ } @patterns),
		"covered: $command");
}
foreach my $test (map { /make tap T=(\S+)/ ? $1 : () } sort keys %shell)
{
	ok(-f "$top/$test", "$test exists");
}

# The role of least rights does: a node that logs in with it holds the lease.
my $store = LeaseholdTest::Node->member('least');
$store->safe_psql('postgres', 'DROP DATABASE leasehold_store');
$ENV{PGHOST} = $store->host;
$ENV{PGPORT} = $store->port;
foreach my $command ('createdb leasehold_store',
	grep { /leasehold_role/ } sort keys %shell)
{
	is(system('sh', '-c', "PATH=\"\$(pg_config --bindir):\$PATH\"; $command >/dev/null"), 0,
		"runs: $command");
}
my $least = LeaseholdTest->new(
	nodes   => ['c'],
	members => 0,
	store   => $store->connstr('leasehold_store') . ' user=leasehold',
	ttl     => '2s');
ok($least->wait_holder, 'a node with the role of least rights holds its lease');

done_testing();
