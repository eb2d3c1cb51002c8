# Bad input: each gets a clear error where the setting is made, or a row of
# check(), never an open fence, never a crash loop.
#
# What this guards: an operator's mistake must not become a second writer, and
# must not take the lease from a node that holds it rightly when it could as
# well be refused.

use strict;
use warnings;

use LeaseholdTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $group = LeaseholdTest->new(nodes => [ 'a', 'b' ], ttl => '1s');
my ($a, $b) = $group->nodes;
my ($store) = $group->members;
my $good = $store->connstr('leasehold_store');
my $secret = 'Xk9-hush';

# Everything that check() complains of, but for fsync, which tests turn off.
sub complaints
{
	my ($node) = @_;
	return $node->safe_psql('postgres',
		"SELECT item || ': ' || detail || ' -> ' || remedy FROM leasehold.check()"
		  . " WHERE NOT ok AND item <> 'fsync' AND detail NOT LIKE 'fsync%'");
}

# A node refuses writes, and says why.
sub is_fenced
{
	my ($node, $why) = @_;
	my ($state, $text) = $node->try('CREATE TABLE must_not_be ()');
	is($state, '25006', "$why: the fence is closed");
	is(($node->try('SELECT leasehold.holds()'))[1], 'f', "$why: it is not held");
	return;
}

# Put lines into the configuration and reload, without a look at what comes of it.
sub reload_with
{
	my ($node, %settings) = @_;
	my $offset = $node->log_offset;

	foreach my $name (keys %settings)
	{
		(my $quoted = $settings{$name}) =~ s/'/''/g;
		$node->adjust_conf('postgresql.conf', $name, undef);
		$node->append_conf('postgresql.conf', "$name = '$quoted'");
	}
	$node->reload;
	return $offset;
}

is($group->holder, $a, 'a holds the lease');
my $epoch = $a->epoch;
is(complaints($a), '', 'check() is content at first');

# ---------------------------------------------------------------------------
# Connection strings
# ---------------------------------------------------------------------------

foreach my $case (
	[ 'malformed',    "host=x $secret port",                  qr/string 1 is malformed/ ],
	[ 'a bad option', "host=x nonsense=$secret",              qr/string 1 is malformed/ ],
	[ 'a password',   "host=x; host=y password=$secret",      qr/string 2 contains a password/ ],
	[ 'one in a URI', "postgresql://me:$secret\@host/store",  qr/string 1 contains a password/ ],
	[ 'a duplicate',  "host=x; host=x",                       qr/string 2 is given twice/ ])
{
	my ($what, $value, $expected) = @$case;
	my $offset = reload_with($a, 'leasehold.store' => $value);

	$a->wait_log($expected, $offset);
	my $log = $a->log_since($offset);
	like($log, qr/invalid value for parameter "leasehold\.store"\n/, "$what: the log names the setting");
	unlike($log, qr/\Q$secret\E/, "$what: and does not repeat the value");
	is($a->epoch, $epoch, "$what: the last good value stays in force");

	foreach my $function ('init_store', 'set_store')
	{
		next if $function eq 'init_store' && $what eq 'a duplicate';
		$offset = $a->log_offset;
		my ($state, $text) = $a->try("SELECT leasehold.$function(\$\$$value\$\$)");
		is($state, '22023', "$what: $function() refuses it");
		unlike($text, qr/\Q$secret\E.*\n.*DETAIL|DETAIL.*\Q$secret\E/, "$what: without repeating it");
		unlike($a->log_since($offset), qr/\Q$secret\E/, "$what: nor does the log");
	}
}
$a->set_conf('leasehold.store' => $good);
my $offset = reload_with($a, 'leasehold.advertise' => "host=x password=$secret");
$a->wait_log(qr/invalid value for parameter "leasehold\.advertise"\n/, $offset);
unlike($a->log_since($offset), qr/\Q$secret\E/, 'advertise: no password in the log');
$a->set_conf('leasehold.advertise' => $a->connstr);

# ---------------------------------------------------------------------------
# Intervals
# ---------------------------------------------------------------------------

$offset = reload_with($a, 'leasehold.safety_margin' => '600ms');
$a->wait_log(qr/intervals are inconsistent/, $offset);
is($a->epoch, $epoch, 'a margin that eats the ttl: the holder keeps the last good one');
like(complaints($a), qr/safety_margin: The margin is 600 ms of a ttl of 1000 ms/, '... and check() says so');
$b->append_conf('postgresql.conf', "leasehold.safety_margin = '600ms'");
$b->restart;
is_fenced($b, 'a margin that eats the ttl, from the start');
$_->set_conf('leasehold.safety_margin' => '0') foreach $a, $b;
is(($a->try("ALTER SYSTEM SET leasehold.safety_margin = '-1s'"))[0], '22023', 'a negative margin');
is(($a->try("SELECT leasehold.alter_lease('main', '100ms')"))[0], '22023', 'a ttl that is too short');
is(($a->try("SELECT leasehold.alter_lease('main', '1 month')"))[0], '22023', 'a ttl that is too long');
is(($a->try("SELECT leasehold.create_lease('a b')"))[0], '42602', 'a name with a blank');

# ---------------------------------------------------------------------------
# Unknown lease, unknown node
# ---------------------------------------------------------------------------

my ($state, $text) = $a->try("SELECT leasehold.holds('nix')");
is($state, '42704', 'an unknown lease');
like($text, qr/Known: "main"/, '... with the known ones');
($state, $text) = $a->try("SELECT leasehold.switchover('nix')");
is($state, '42704', 'an unknown node');
like($text, qr/Known: "a", "b"/, '... with the known ones');
$b->set_conf('leasehold.lease' => 'nix');
$b->{leasehold_lease} = 'nix';
$b->wait_state('fenced');
is_fenced($b, 'an unknown lease in leasehold.lease');
like(complaints($b), qr/lease: The store knows no lease "nix".*create_lease/, '... and check() says so');
$b->set_conf('leasehold.lease' => 'main');
$b->{leasehold_lease} = 'main';
$b->wait_state('follower');

# ---------------------------------------------------------------------------
# Two of one name
# ---------------------------------------------------------------------------

my $twin = LeaseholdTest::Node->node('twin', node_name => 'a', store => $good,
	conf => "leasehold.lease = 'main'");
$twin->start;
wait_until('the twin takes no part', sub {
	$twin->log_since(0) =~ /is now excluded/ });
is(($twin->try('CREATE EXTENSION leasehold'))[0], '25006', 'a second node "a": the fence is closed');
is($a->epoch, $epoch, '... and the first goes on');
$twin->stop;

# The copy of a data directory, with all that it remembers.
$b->stop;
$b->backup_fs_cold('copy');
my $clone = LeaseholdTest::Node->new('clone');
$clone->init_from_backup($b, 'copy');
$clone->{leasehold_name} = 'b';
$clone->{leasehold_lease} = 'main';
$b->start;
$b->wait_state('follower');
$clone->start;
$clone->wait_state('excluded');
is_fenced($clone, 'a cloned data directory');
like(complaints($clone), qr/node_name: Another live instance uses the node name "b"/, '... and check() says so');
$a->stop;
$group->wait_holder($b);
is_fenced($clone, 'a cloned data directory, while its original holds');
$clone->stop;
$a->start;
$a->wait_state('follower');

# ---------------------------------------------------------------------------
# Members
# ---------------------------------------------------------------------------

my $other = LeaseholdTest::Node->member('other');
my $held = $b->epoch;

# from here on the follower is misconfigured, and the holder must not notice
foreach my $case (
	[ 'no store at all', $other->connstr('postgres'), qr/not a store.*init_store/ ],
	[ 'a fresh store', $other->connstr('leasehold_store'), qr/fresh store that belongs to no list/ ],
	[ 'nobody there', 'host=' . $other->host . ' port=1 dbname=x', qr/SQLSTATE 08/ ],
	[ 'no such database', $other->connstr('nix'), qr/member .*nix.*SQLSTATE/ ],
	[ 'nothing', '', qr/leasehold\.store is empty/ ])
{
	my ($what, $value, $expected) = @$case;

	$a->set_conf('leasehold.store' => $value);
	$a->wait_state('fenced');
	is_fenced($a, $what);
	like(complaints($a), $expected, "$what: check() says so");
}

# another store altogether, with a list and a lease of its own
$other->safe_psql('leasehold_store',
	"UPDATE leasehold_store.store SET generation = 7, settled = true, members ="
	  . " 'ffffffff-0000-4000-8000-000000000000;' || store_id || '/' ||"
	  . " (SELECT system_identifier FROM pg_control_system()) || '/1'");
$other->safe_psql('leasehold_store',
	"INSERT INTO leasehold_store.lease VALUES ('main', '', 0, 3, 9, 0, 1000, false, '',"
	  . " 0, 1000, false, '', '', 'independent', 'instance', '', 0, '', 0, '', '', 0, false)");
$a->set_conf('leasehold.store' => $other->connstr('leasehold_store'));
$a->wait_state('fenced');
is_fenced($a, "another store's member");
like(complaints($a), qr/member of another store/, '... and check() says so');
is(($a->try('SELECT leasehold.set_store($$' . $other->connstr('leasehold_store') . '$$)'))[0],
	'55000', '... which set_store() refuses');
$a->set_conf('leasehold.store' => $good);
$a->wait_state('follower');

is($b->epoch, $held, 'the holder has noticed nothing of it');

# another schema version, at the only member: everybody fenced
$store->safe_psql('leasehold_store', 'UPDATE leasehold_store.store SET schema_version = 3');
wait_until('nobody holds the lease', sub { !$group->holder });
is_fenced($_, 'another schema version') foreach $a, $b;
like(complaints($a), qr/schema has version 3, this library needs 2/, '... and check() says so');
$store->safe_psql('leasehold_store', 'UPDATE leasehold_store.store SET schema_version = 2');
my $holder = $group->wait_holder;
$held = $holder->epoch;

# ---------------------------------------------------------------------------
# An absurd clock
# ---------------------------------------------------------------------------

SKIP:
{
	skip 'no clock to step', 3 unless -e 'test/fake/wallclock.so';
	my $mad = LeaseholdTest::Node->member('mad', clock => 1);

	$mad->step_clock(-20 * 365 * 86400);
	$_->set_conf('leasehold.store' => "$good; " . $mad->connstr('leasehold_store')) foreach $a, $b;
	is(($holder->try("SELECT leasehold.set_store(\$\$$good; " . $mad->connstr('leasehold_store') . '$$)'))[0],
		'', 'a member whose clock is twenty years behind joins the list');
	wait_until('it is counted', sub { $holder->status->{members_reachable} eq '2' });
	like($holder->safe_psql('postgres', 'SELECT detail FROM leasehold.check() WHERE ok'),
		qr/wall clock is 6307\d+ s behind.*harmless/, 'check() says that it is harmless');
	$mad->step_clock(40 * 365 * 86400);
	$offset = $holder->log_offset;
	my $writer = $group->start_writer($holder);
	$writer->wait_acks(100);
	is($holder->epoch, $held, '... and it is, when it steps as well');
	$writer->stop;
}

# ---------------------------------------------------------------------------
# Not preloaded
# ---------------------------------------------------------------------------

is(($other->try('CREATE EXTENSION leasehold'))[0], '', 'the extension can be created without the library');
foreach my $call ('leasehold.holds()', 'leasehold.epoch()', '* FROM leasehold.status',
	'* FROM leasehold.leases', '* FROM leasehold.nodes', '* FROM leasehold.history',
	"leasehold.create_lease('x')", "leasehold.alter_lease('x', '1s')",
	"leasehold.drop_lease('x')", 'leasehold.acquire()', 'leasehold.release()',
	"leasehold.switchover('x')", 'leasehold.pause()', 'leasehold.resume()',
	'leasehold.leave()', "leasehold.join_lease('x')", "leasehold.leave_lease('x')",
	"leasehold.protect('pg_class', 'x')", "leasehold.unprotect('pg_class')",
	"leasehold.unprotect('x', 'y', 'z')", '* FROM leasehold.protected',
	"leasehold.writer('pg_class')", '* FROM leasehold.spread()', "leasehold.set_store('')", "leasehold.reseed_member('')",
	"leasehold.drop_node('x')", "leasehold.rename_node('x', 'y')")
{
	my ($s, $t) = $other->try("SELECT $call");
	is("$s " . ($t =~ /HINT: .*shared_preload_libraries = 'leasehold'/ ? 'hint' : $t),
		'55000 hint', "$call says what to do");
}
like($other->safe_psql('postgres', "SELECT detail FROM leasehold.check() WHERE item = 'library'"),
	qr/nothing is fenced/, 'check() says so');

# ---------------------------------------------------------------------------
# Nothing of all this was a crash
# ---------------------------------------------------------------------------

unlike($_->log_since(0), qr/terminated by signal|exited with exit code [^01]|PANIC|TRAP/,
	$_->name . ': no process crashed') foreach $a, $b, $twin, $clone, $store;

done_testing();
