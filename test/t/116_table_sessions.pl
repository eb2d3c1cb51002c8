# What becomes of transactions when a table's lease is lost, and of the lease when
# its first choice is back.

use strict;
use warnings;

use LeaseholdTest;
use Test::More;

my $group = LeaseholdTest->new(nodes => [ 'a', 'b' ], ttl => '1s', governed => 0);
my ($a, $b) = $group->nodes;

$_->safe_psql('postgres', 'CREATE TABLE t (id int); CREATE TABLE u (id int); CREATE TABLE v (id int)') foreach $a, $b;
foreach my $lease (qw(one two))
{
	$a->safe_psql('postgres', "SELECT leasehold.create_lease('$lease', ttl => '1s', kind => 'independent')");
	$a->safe_psql('postgres', "SELECT leasehold.join_lease('$lease', priority => 200)");
	LeaseholdTest::wait_until("a holds $lease", sub { $a->holds($lease) });
	$b->safe_psql('postgres', "SELECT leasehold.join_lease('$lease', priority => 100)");
}
$a->safe_psql('postgres', "SELECT leasehold.protect('t', 'one'), leasehold.protect('u', 'two')");

# ---------------------------------------------------------------------------
# Transactions that can only fail do not keep their locks
# ---------------------------------------------------------------------------

# A session with a transaction that has written this table, and is idle.
sub idle_writer
{
	my ($table) = @_;
	my $session = $a->background_psql('postgres', on_error_stop => 0);

	$session->query_safe("BEGIN; INSERT INTO $table VALUES (1)");
	return $session;
}

sub pid_of
{
	my ($session) = @_;
	return $session->query_safe('SELECT pg_backend_pid()');
}

my %session = map { $_ => idle_writer($_) } qw(t u v);
my %pid = map { $_ => pid_of($session{$_}) } keys %session;
my $idle = $a->background_psql('postgres', on_error_stop => 0);
my $idle_pid = pid_of($idle);
my $offset = $a->log_offset;

$a->safe_psql('postgres', "SELECT leasehold.release('one')");
LeaseholdTest::wait_until('the transaction on t is ended', sub {
		$a->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid{t}") == 0 });
$a->wait_log(qr/1 transaction ended, since the lease of a table that it wrote is lost/, $offset);
pass('the log says so');
is($a->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE pid IN ($pid{u}, $pid{v}, $idle_pid)"), 3,
	'transactions on other tables, and sessions without one, go on');
$session{$_}->query_safe('COMMIT') foreach qw(u v);
is($a->safe_psql('postgres', 'SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM u), (SELECT count(*) FROM v)'), '0|1|1',
	'and commit');
eval { $session{$_}->quit } foreach keys %session;
$idle->quit;

# The same when nobody is left to say so: the deadline passes.
LeaseholdTest::wait_until('b holds one', sub { $b->holds('one') });
my $session = idle_writer('u');
my $pid = pid_of($session);
$a->freeze('keeper');
LeaseholdTest::wait_until('b holds two', sub { $b->holds('two') });
LeaseholdTest::wait_until('the transaction on u is ended', sub {
		$a->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid") == 0 });
pass('a transaction is ended although the keeper is stopped');
eval { $session->quit };
$a->thaw;

# ---------------------------------------------------------------------------
# The history follows, the extension stays
# ---------------------------------------------------------------------------

LeaseholdTest::wait_until('a shows who took two', sub {
		$a->safe_psql('postgres', "SELECT string_agg(to_node, ',' ORDER BY epoch) FROM leasehold.history WHERE lease = 'two' AND to_node <> ''") eq 'a,b' }, 20);
pass('the view of the history follows the leases of tables');
my ($state, $message) = $a->try('DROP EXTENSION leasehold');
is($state, '55006', 'the extension is not dropped while tables of the database are protected');
like($message, qr/while tables of this database are protected/, '... and says why');

# ---------------------------------------------------------------------------
# Fail-back
# ---------------------------------------------------------------------------

$a->safe_psql('postgres', "SELECT leasehold.unprotect('t'), leasehold.unprotect('u')");
is($a->safe_psql('postgres', 'SHOW leasehold.failback'), 'off', 'fail-back is off by default');
is($group->store_query("SELECT string_agg(holder, ',') FROM leasehold_store.lease WHERE name IN ('one', 'two')"), 'b,b',
	'so b keeps both');
$b->set_conf('leasehold.failback' => 'on');
my $since = LeaseholdTest::clock_now();
$a->set_conf('leasehold.failback' => 'on');
LeaseholdTest::wait_until('a has its leases back', sub { $a->holds('one') && $a->holds('two') });
cmp_ok((LeaseholdTest::clock_now() - $since) / 1e9, '>', 9, 'once all has been well for 10 s');
is($group->store_query("SELECT count(*) FROM leasehold_store.history WHERE lease IN ('one', 'two') AND to_node = 'a' AND reason = 'handed over'"), 2,
	'they were handed over');

done_testing();
