# What becomes of transactions when a table's lease is lost, who is told of it, and
# what becomes of the lease when its first choice is back.

use strict;
use warnings;

use LeaseholdTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();

# Tells its arguments and its environment; hangs while the file "hang" exists.
my $script = "$dir/role_command";
append_to_file($script, <<"EOF");
#!/bin/sh
echo "\$* \$LEASEHOLD_LEASE \$LEASEHOLD_OLD \$LEASEHOLD_NEW \$LEASEHOLD_EPOCH \$LEASEHOLD_SCOPE" >> "$dir/told.\$LEASEHOLD_NODE"
while [ -e "$dir/hang.\$LEASEHOLD_NODE" ]; do sleep 0.05; done
EOF
chmod 0755, $script;

my $group = LeaseholdTest->new(nodes => [ 'a', 'b' ], ttl => '1s', governed => 0,
	conf => "leasehold.role_command = '$script'\n");
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
# role_command
# ---------------------------------------------------------------------------

# What a node's command was told of this lease, or of all: [lease, old, new, epoch].
sub told
{
	my ($node, $lease) = @_;
	my $file = "$dir/told." . $node->{leasehold_name};
	return () unless -e $file;
	return grep { !defined $lease || $_->[0] eq $lease }
	  map { [ (split ' ')[ 0 .. 3 ] ] } split /\n/, slurp_file($file);
}

sub last_told
{
	my ($node, $lease) = @_;
	my @told = told($node, $lease);
	return @told ? $told[-1][2] : '';
}

# Lost, as far as told: whether the store was silent then, or named another holder.
sub lost_told
{
	my ($node, $lease) = @_;
	return last_told($node, $lease) =~ /^(?:follower|fenced)$/;
}

LeaseholdTest::wait_until('a is told that it holds neither', sub {
		lost_told($a, 'one') && lost_told($a, 'two') });
LeaseholdTest::wait_until('b is told that it holds both', sub {
		last_told($b, 'one') eq 'holder' && last_told($b, 'two') eq 'holder' });
my $epoch = $b->epoch('one');
is((split /\n/, slurp_file("$dir/told.b"))[0],
	"one fenced holder $epoch tables one fenced holder $epoch tables",
	'the command has its arguments and its environment');
is(join(' ', map { $_->[0] } told($b)), 'one two', 'what b had not held it was not told of');
foreach my $lease (qw(one two))
{
	my @told = told($a, $lease);

	is((grep { $told[$_][1] ne $told[ $_ - 1 ][2] } 1 .. $#told) + ($told[0][1] ne 'fenced'), 0,
		"a is told of each change of $lease once and in order")
	  or diag(explain(\@told));
	is($told[0][2], 'holder', '... from the first time that it held it');
}
cmp_ok((told($a, 'one'))[0][3], '<', $epoch, '... with the epoch of that time');

# Many at once, and a command that hangs: none is left out.
sub give_b
{
	my ($lease) = @_;

	$b->safe_psql('postgres', "SELECT leasehold.create_lease('$lease', ttl => '1s', kind => 'independent'); SELECT leasehold.join_lease('$lease')");
	return;
}

give_b('n20');
LeaseholdTest::wait_until('b is told of n20', sub { last_told($b, 'n20') eq 'holder' });
append_to_file("$dir/hang.b", '');
my $ntold = told($b);
give_b("n$_") foreach 1 .. 19;
LeaseholdTest::wait_until('b holds them', sub { $b->ask(q{SELECT count(*) FROM leasehold.status WHERE lease LIKE 'n%' AND state = 'holder'}) == 20 });
$b->safe_psql('postgres', q{SELECT leasehold.release('n20')});
LeaseholdTest::wait_until('b has n20 again', sub { $b->holds('n20') });
is(scalar(told($b)), $ntold + 1, 'one command at a time');
$epoch = $b->epoch('n20');
unlink "$dir/hang.b";
my %first;
LeaseholdTest::wait_until('b is told of all', sub {
		my @told = told($b);
		$first{ $_->[0] } //= $_ foreach @told[ $ntold .. $#told ];
		keys %first == 20 });
is(join(' ', sort map { join(' ', @$_[ 0 .. 2 ]) } values %first),
	join(' ', sort(map({ "n$_ fenced holder" } 1 .. 19), 'n20 holder holder')), 'of each as it stands in the end');
cmp_ok($first{n20}[3], '>=', $epoch, 'with the epoch of that');

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

# ---------------------------------------------------------------------------
# The end
# ---------------------------------------------------------------------------

LeaseholdTest::wait_until('a is told that it holds both', sub {
		last_told($a, 'one') eq 'holder' && last_told($a, 'two') eq 'holder' });
$a->stop;
is(join(' ', map { last_told($a, $_) =~ /^(?:draining|follower|fenced)$/ } qw(one two)), '1 1',
	'a server that is stopped has told that it holds none');

done_testing();
