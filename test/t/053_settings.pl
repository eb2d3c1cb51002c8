# Settings are changed while everything runs.
#
# Each change must take effect, or be refused with a reason, without a moment in
# which two nodes may write: a shorter ttl above all, because the holder still
# relies on the longer one while others already count by the shorter.  A bad
# setting may close the fence; it must never open one.

use strict;
use warnings;

use LeaseholdTest;
use LeaseholdWire;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $group = LeaseholdTest->new(nodes => [ 'a', 'b' ], ttl => '4s', proxy => 'nodes',
	conf => "leasehold.health_timeout = '20s'");
my ($a, $b) = $group->nodes;
my ($member) = $group->members;

sub hold
{
	my ($node) = @_;

	wait_until(
		$node->name . ' holds the lease',
		sub {
			return 1 if $node->holds;
			$group->wait_holder;
			$node->try("SELECT leasehold.switchover('$node->{leasehold_name}')");
			return 0;
		});
	return;
}

sub history_since
{
	my ($epoch) = @_;
	return $group->store_query("SELECT string_agg(to_node, ',' ORDER BY epoch) FROM leasehold_store.history WHERE epoch > $epoch AND to_node <> ''");
}

my %writer = map {
	$_->{leasehold_name} => $group->start_writer($_, connections => 2, rate => 200, epoch => 1)
} $a, $b;
$writer{a}->wait_acks(20);

# ---------------------------------------------------------------------------
# The ttl, up and down
# ---------------------------------------------------------------------------
# Down, and at once the holder stops renewing: the other counts by the short ttl
# from then on, and the holder has promised no more.
foreach my $round (1, 2)
{
	hold($a);
	my $epoch = $a->epoch;

	$writer{a}->wait_acks(20);
	$b->safe_psql('postgres', "SELECT leasehold.alter_lease('main', '800ms')");
	wait_until('the short ttl is in force', sub { $group->store_query('SELECT ttl_ms FROM leasehold_store.lease') == 800 });
	$a->freeze('keeper');
	$group->wait_holder($b);
	$writer{b}->wait_acks(20);
	is(history_since($epoch), 'b', "ttl cut, round $round: the other takes over");
	$a->thaw;
	$b->safe_psql('postgres', "SELECT leasehold.alter_lease('main', '4s')");
	wait_until('the long ttl is in force', sub { $group->store_query('SELECT ttl_ms FROM leasehold_store.lease') == 4000 });
	is($b->status->{ttl}, '00:00:04', "ttl raised, round $round: in force with the next renewal");
}
# while the holder does not renew, its old promise stands, whatever is asked for
{
	hold($a);
	my $epoch = $a->epoch;
	$a->freeze('keeper');
	my $start = clock_now();
	$b->safe_psql('postgres', "SELECT leasehold.alter_lease('main', '800ms')");
	$writer{b}->wait_acks(1);
	# its last renewal was a fifth of a ttl ago at most
	cmp_ok(clock_now() - $start, '>', 4e9 * 0.7, 'a ttl that the holder has not taken up shortens nothing');
	$a->thaw;
	$b->safe_psql('postgres', "SELECT leasehold.alter_lease('main', '2s')");
}
foreach my $bad ('100ms', '2h', '0', '-1s')
{
	is(($b->try("SELECT leasehold.alter_lease('main', '$bad')"))[0], '22023', "a ttl of $bad is refused");
}
is(($b->try("SELECT leasehold.alter_lease('nothing', '3s')"))[0], '42704', 'and so is an unknown lease');
$_->stop foreach values %writer;
my $verdict = $group->judge(values %writer, history => $group->history_file);
is($verdict->{late}, 0, 'in all of this no late acknowledgement');
is($verdict->{conflicts}, 0, 'none under an epoch of another');
is($verdict->{missing}, 0, 'and every acknowledged row exists');

# ---------------------------------------------------------------------------
# The store's addresses
# ---------------------------------------------------------------------------
%writer = map {
	$_->{leasehold_name} => $group->start_writer($_, connections => 1, rate => 100, epoch => 1)
} $a, $b;
hold($a);
my $epoch = $a->epoch;
my $direct = $member->connstr('leasehold_store');
my $through = ($a->proxies)[0]->connstr('leasehold_store');

# the same store by another address: the holder stays holder, and needs the old
# address no more
$a->set_conf('leasehold.store' => $direct);
($a->proxies)[0]->do('refuse');
my $later = clock_now() + 2 * 2e9;
wait_until('two ttls to pass', sub { clock_now() > $later });
$writer{a}->wait_acks(20);
is($a->epoch, $epoch, 'the same store by another address: the holder stays holder');
($a->proxies)[0]->do('pass');
$a->set_conf('leasehold.store' => $through);
$writer{a}->wait_acks(20);
is($a->epoch, $epoch, 'and back again');

# an address that leads to no store, added: it does not count
my $stray = LeaseholdTest::Node->member('stray');
$a->set_conf('leasehold.store' => "$through; " . $stray->connstr('leasehold_store'));
wait_until('the stray member is seen', sub { $a->status->{members} eq '2' || $a->status->{members_reachable} eq '1' });
$writer{a}->wait_acks(20);
is($a->epoch, $epoch, 'another store beside it does not count, and does no harm');
is($stray->safe_psql('leasehold_store', 'SELECT count(*) FROM leasehold_store.lease'), 0, 'nothing is written there');

# only addresses that lead elsewhere: fenced, with the reason
my $offset = $a->log_offset;
foreach my $wrong (
	[ 'another store',         $stray->connstr('leasehold_store'), qr/list|counted/i ],
	[ 'a database that is no store', $stray->connstr('postgres'), qr/lease store/i ],
	[ 'nobody there',          'host=127.0.0.1 port=1 dbname=x', qr/refused|failed/i ],
	[ 'none',                  '', qr/empty/ ])
{
	my ($what, $store, $reason) = @$wrong;

	$a->set_conf('leasehold.store' => $store);
	wait_until("$what: a is fenced", sub { $a->holds == 0 });
	wait_until("$what: the status says why", sub { $a->status->{reason} =~ $reason });
	is($a->status->{state}, 'fenced', "the store's addresses lead to $what: fenced");
	is(($a->try('CREATE TABLE refused ()'))[0], '25006', "$what: nothing is written");
	$group->wait_holder($b);
	$writer{b}->wait_acks(10);
	$a->set_conf('leasehold.store' => $through);
	hold($a);
	$writer{a}->wait_acks(10);
	pass("$what: with the right address it takes part again");
}
# what cannot even be read is not taken
foreach my $bad ('host=x password=secret', 'port=1 nonsense=2', 'nonsense')
{
	$offset = $a->log_offset;
	$a->append_conf('postgresql.conf', "leasehold.store = '$bad'");
	$a->reload;
	$a->wait_log(qr/invalid value for parameter "leasehold\.store"/, $offset);
	unlike($a->log_since($offset), qr/secret/, "\"$bad\" is refused at reload" =~ s/secret/.../r);
	$a->adjust_conf('postgresql.conf', 'leasehold.store', undef);
	$a->append_conf('postgresql.conf', "leasehold.store = '$through'");
	is($a->safe_psql('postgres', 'SHOW leasehold.store'), $through, 'the last good one stays');
}
$a->reload;
is($a->holds, 1, 'and the holder holder');

# ---------------------------------------------------------------------------
# Margin and intervals
# ---------------------------------------------------------------------------
# A margin that eats the ttl keeps the last good set, and is logged once.
$epoch = $a->epoch;
$offset = $a->log_offset;
$a->set_conf('leasehold.safety_margin' => '1900ms');
$a->wait_log(qr/intervals are inconsistent/, $offset);
$a->reload foreach 1 .. 3;
$a->set_conf('leasehold.look_interval' => '100ms');
$writer{a}->wait_acks(100);
is(() = $a->log_since($offset) =~ /intervals are inconsistent/g, 1, 'a margin that eats the ttl is logged once');
is($a->epoch, $epoch, 'the last good one stays in force, the holder holder');
$a->set_conf('leasehold.safety_margin' => '200ms');
$a->set_conf('leasehold.renew_interval' => '1900ms');
wait_until('it is logged', sub { (() = $a->log_since($offset) =~ /intervals are inconsistent/g) == 2 });
$writer{a}->wait_acks(100);
is($a->epoch, $epoch, 'so does a renewal interval that leaves no room for another try');
$a->set_conf(map { $_ => undef } qw(leasehold.safety_margin leasehold.renew_interval leasehold.look_interval));
# at the start there is no last good one: the node does not take the lease
$b->set_conf('leasehold.safety_margin' => '1900ms');
$b->restart;
$a->safe_psql('postgres', 'SELECT leasehold.release()');
wait_until('b says why it does not take it', sub { $b->status->{reason} =~ /margin/ });
is($b->holds, 0, 'started with such a margin, a node does not take the lease');
$b->set_conf('leasehold.safety_margin' => undef);
$group->wait_holder;
pass('corrected, the group has a holder');
$_->stop foreach values %writer;
$verdict = $group->judge(values %writer, history => $group->history_file);
is($verdict->{late}, 0, 'in all of this no late acknowledgement');
is($verdict->{conflicts}, 0, 'none under an epoch of another');

# ---------------------------------------------------------------------------
# Fence mode and on_expiry
# ---------------------------------------------------------------------------
hold($b);
$a->safe_psql('postgres', 'SELECT 1');
my $session = LeaseholdWire->connect($a);
sub write_there { return $session->query('INSERT INTO writes SELECT -1, coalesce(max(seq), 0) + 1 FROM writes')->{error}; }
is(write_there(), '25006', 'fence = enforce: refused');
$offset = $a->log_offset;
$a->set_conf('leasehold.fence' => 'warn');
wait_until('the session follows', sub { write_there() eq '' });
like($a->log_since($offset), qr/would have refused INSERT/, 'fence = warn: allowed, and logged');
is(LeaseholdWire->connect($a)->parameter('default_transaction_read_only'), 'off', 'without the signal');
$offset = $a->log_offset;
$a->set_conf('leasehold.fence' => 'off');
wait_until('the session follows', sub { my $at = $a->log_offset; write_there() eq '' && $a->log_since($at) !~ /would have/ });
pass('fence = off: allowed');
$a->set_conf('leasehold.fence' => undef);
wait_until('the session follows', sub { write_there() eq '25006' });
is($session->query('SELECT 1')->{error}, '', 'fence = enforce again: refused, in the same session');
is($session->parameter('default_transaction_read_only'), 'on', 'with the signal');
# a session cannot do so for itself
is($session->query("SET leasehold.fence = 'off'")->{error}, '55P02', 'no session sets it for itself');
is($session->query("SET leasehold.lease = ''")->{error}, '55P02', 'nor the lease');
$session->close;

foreach my $mode (
	[ none      => '',      '',      '25006' ],
	[ cancel    => '',      '57014', '' ],
	[ terminate => '57P01', '57P01', '' ])
{
	my ($name, $idle_end, $busy_error, $busy_commit) = @$mode;

	$a->set_conf('leasehold.on_expiry' => $name);
	hold($a);
	my ($idle, $busy, $reading) = map { LeaseholdWire->connect($a) } 1 .. 3;
	$idle->query('SELECT 1');
	$busy->query('BEGIN; INSERT INTO writes SELECT -2, coalesce(max(seq), 0) + 1 FROM writes');
	# both are at work when the lease is lost
	$busy->send('SELECT pg_sleep(600)') if $name ne 'none';
	$reading->send('SELECT pg_sleep(4)') if $name eq 'cancel';
	$a->freeze('keeper');
	$group->wait_holder($b);
	if ($name eq 'terminate')
	{
		is($idle->wait_end, $idle_end, "on_expiry = $name: an idle session is ended");
		is($busy->wait_end, $busy_error, "on_expiry = $name: so is one that writes");
	}
	else
	{
		is($busy->collect->{error}, $busy_error, "on_expiry = $name: a transaction that wrote is cancelled")
		  if $name eq 'cancel';
		is($reading->collect->{error}, '', "on_expiry = $name: one that reads is not") if $name eq 'cancel';
		is($idle->query('SELECT 1')->{error}, '', "on_expiry = $name: an idle session stays");
		my $answer = $busy->query('COMMIT');
		is($answer->{error}, $busy_commit, "on_expiry = $name: the end of the transaction");
		is($answer->{tags}[0] // '', $busy_commit ? '' : 'ROLLBACK', "on_expiry = $name: nothing is committed");
	}
	$a->thaw;
	is($a->safe_psql('postgres', 'SELECT count(*) FROM writes WHERE client = -2'), 0, "on_expiry = $name: nothing is left of it");
	$_->close foreach $idle, $busy, $reading;
}

# ---------------------------------------------------------------------------
# Another lease, no lease, leaving
# ---------------------------------------------------------------------------
hold($a);
$a->safe_psql('postgres', "SELECT leasehold.create_lease('other', ttl => '2s', kind => 'independent')");
$epoch = $a->epoch;
$a->set_conf('leasehold.lease' => 'unknown');
wait_until('a lets go', sub { ($a->status('unknown')->{reason} // '') =~ /knows no lease "unknown"/ });
is(($a->try('CREATE TABLE refused ()'))[0], '25006', 'renamed to a lease that the store does not know: fenced');
$group->wait_holder($b);
pass('the lease it held is released: another takes it');
$a->set_conf('leasehold.lease' => 'other');
wait_until('a holds the other lease', sub { $a->holds('other') });
is($a->holds, 1, 'renamed to one that exists and is free: held');
is($b->holds, 1, 'each node holds its own');
# emptied: governed all the same
$a->set_conf('leasehold.lease' => undef);
wait_until('a is fenced', sub { ($a->try('CREATE TABLE refused ()'))[0] eq '25006' });
my ($state, $message) = $a->try('CREATE TABLE refused ()');
like($message, qr/lease "other"/, 'emptied: fenced still, by the lease that governed last');
$a->restart;
($state, $message) = $a->try('CREATE TABLE refused ()');
is($state, '25006', 'after a restart, too');
is(($a->try('DROP EXTENSION leasehold'))[0], '55006', 'the extension cannot be dropped');
is(($b->try('SELECT leasehold.leave()'))[0], '55000', 'leave() is refused while leasehold.lease is set');
$a->safe_psql('postgres', 'SELECT leasehold.leave()');
is(($a->try('CREATE TABLE allowed (); DROP TABLE allowed'))[0], '', 'after leave() it writes, ungoverned');
is(LeaseholdWire->connect($a)->parameter('default_transaction_read_only'), 'off', 'and says so');
is($group->store_query("SELECT count(*) FROM leasehold_store.node WHERE name = 'a'"), '0', 'the store knows it no more');
$a->restart;
is(($a->try('CREATE TABLE allowed (); DROP TABLE allowed'))[0], '', 'after a restart, too');
wait_until('a is listed', sub { $group->store_query("SELECT role FROM leasehold_store.node WHERE name = 'a'") eq 'ungoverned' });
is(($a->try('CREATE TABLE allowed (); DROP TABLE allowed'))[0], '', 'as one that no lease governs: it still names the store');
# and comes back
$a->set_conf('leasehold.lease' => 'main');
wait_until('a follows', sub { $a->status->{state} eq 'follower' });
is(($a->try('CREATE TABLE refused ()'))[0], '25006', 'joined again: a follower, fenced');
hold($a);
is(($a->try('CREATE TABLE allowed (); DROP TABLE allowed'))[0], '', 'and a holder');

$_->stop foreach $a, $b, $stray, $member;
done_testing();
