# Clients find the one writable node by themselves.
#
# The fence keeps two nodes from writing; that alone leaves clients that are
# connected to the wrong one with nothing but errors.  What leads them to the
# right one is a signal, default_transaction_read_only, in the startup reply and
# in reports that follow a change, and the end of sessions that were opened to
# write.  So: libpq's multi-host strings, what JDBC and a TCP balancer look at,
# poolers; and clients who do not heed the signal but insist on writing, with a
# transaction, a cursor, a portal or a prepared transaction that began while
# they were allowed to.

use strict;
use warnings;

use LeaseholdTest;
use LeaseholdWire;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $group = LeaseholdTest->new(nodes => [ 'a', 'b' ], ttl => '2s',
	conf => "leasehold.health_timeout = '10s'");
my ($a, $b) = $group->nodes;

sub node_of { return $_[0] == $a ? $b : $a; }

# Have the lease where a part of this test wants it.
sub hold
{
	my ($node) = @_;

	# refused while the others have not seen a sign of life of it
	wait_until(
		$node->name . ' takes the lease over',
		sub {
			return 1 if $node->holds;
			$group->wait_holder;
			$node->try("SELECT leasehold.switchover('$node->{leasehold_name}')");
			return 0;
		});
	$group->wait_holder($node);
	return;
}

# The deadline of the holder passes: nobody renews.
sub lose
{
	my ($node) = @_;
	my $other = node_of($node);

	$node->freeze('keeper');
	$group->wait_holder($other);
	return $other;
}

# ---------------------------------------------------------------------------
# libpq: several hosts, target_session_attrs
# ---------------------------------------------------------------------------
sub found
{
	my ($attrs) = @_;
	my ($state, $answer) = $a->try('SHOW leasehold.node_name', connstr => $group->multi_connstr($attrs));
	return $state eq '' ? $answer : $state;
}

is(found('read-write'), 'a', 'read-write finds the holder');
is(found('read-only'), 'b', 'read-only finds another');

my $multi = $group->start_writer('multi', epoch => 1);
my ($direct_a, $direct_b) = map { $group->start_writer($_, epoch => 1, connections => 2) } $a, $b;
$multi->wait_acks(50, 'a');

lose($a);
$multi->wait_acks(50, 'b');
pass('the holder\'s keeper stops: a multi-host client writes to the other');
$a->thaw;

hold($a);
$multi->wait_acks(50, 'a');
pass('after a switchover, too');

$a->kill_all;
$multi->wait_acks(50, 'b');
pass('and after the holder is killed');
is(found('read-write'), 'b', 'a new client finds it, past a dead host');
$a->start_again;
hold($a);
$multi->wait_acks(50, 'a');
is(found('read-write'), 'a', 'back to the first');

$_->stop foreach $multi, $direct_a, $direct_b;
my $verdict = $group->judge($multi, $direct_a, $direct_b, history => $group->history_file);
is($verdict->{late}, 0, 'no acknowledgement after the next holder had one');
is($verdict->{conflicts}, 0, 'none under an epoch of another');
is($verdict->{missing}, 0, 'every acknowledged row exists');
is($verdict->{duplicates}, 0, 'once');

# ---------------------------------------------------------------------------
# What drivers and balancers read from the protocol
# ---------------------------------------------------------------------------

# A balancer's check: connect, read the startup reply, hang up.
sub balancer
{
	my $client = LeaseholdWire->connect($_[0]);
	my $answer = join ' ', map { $client->parameter($_) // '?' }
	  qw(in_hot_standby default_transaction_read_only);
	$client->close;
	return $answer;
}

# JDBC, targetServerType=primary: the same, then a question.
sub jdbc_primary
{
	my ($node) = @_;
	my $client = LeaseholdWire->connect($node);
	my $writable = ($client->parameter('in_hot_standby') // 'off') eq 'off'
	  && $client->query('show transaction_read_only')->{value} eq 'off';

	$client->close;
	return $writable ? 1 : 0;
}

is(balancer($a), 'off off', 'startup reply of the holder');
is(balancer($b), 'off on', 'startup reply of the other: read-only');
is(jdbc_primary($a), 1, 'a driver takes the holder for the primary');
is(jdbc_primary($b), 0, 'and not the other');

# An old session learns with its next question, in both directions.
my $watcher = LeaseholdWire->connect($b);
is($watcher->parameter('default_transaction_read_only'), 'on', 'opened while fenced');
hold($b);
is($watcher->query('SELECT 1')->{value}, '1', 'the session goes on');
is($watcher->parameter('default_transaction_read_only'), 'off', 'and is told that it may write');
is($watcher->query('INSERT INTO writes VALUES (-1, 1)')->{error}, '', 'it may');
is(balancer($b), 'off off', 'startup reply of the new holder');
is(balancer($a), 'off on', 'startup reply of the old one');
is(jdbc_primary($b) - jdbc_primary($a), 1, 'a driver goes to the new one');

# What users set themselves is theirs again once the lease returns.
hold($a);
is($watcher->query('SHOW default_transaction_read_only')->{value}, 'on', 'read-only again');
is($watcher->ended, '', 'a session opened while fenced is not ended');
is($watcher->query('SET default_transaction_read_only = on')->{error}, '', 'a user sets it while fenced');
my $insists = LeaseholdWire->connect($b, options => '-c default_transaction_read_only=off');
is($insists->parameter('default_transaction_read_only'), 'on', 'asking for "off" at connection does not hide the signal');
hold($b);
$insists->query('SELECT 1');
is($insists->parameter('default_transaction_read_only'), 'off', 'with the lease, it is what was asked for');
is($watcher->query('INSERT INTO writes VALUES (-1, 2)')->{error}, '25006', 'with the lease, the user\'s own "on" counts');
is($watcher->query('SHOW default_transaction_read_only')->{value}, 'on', 'and shows');
is($watcher->query('RESET default_transaction_read_only')->{error}, '', 'until it is reset');
is($watcher->query('INSERT INTO writes VALUES (-1, 2)')->{error}, '', 'then the session writes');
$_->close foreach $watcher, $insists;
hold($a);

# ---------------------------------------------------------------------------
# Pools: idle sessions
# ---------------------------------------------------------------------------

# A pool in session mode keeps sessions open that nobody uses.  One that was
# opened to write and does not notice the loss would be handed out for ever.
my @pool = map { LeaseholdWire->connect($a) } 1 .. 5;
my @readers = map { LeaseholdWire->connect($b) } 1 .. 3;
$_->query('SELECT 1') foreach @pool, @readers;
lose($a);
is($_->wait_end, '57P01', 'an idle session of the old holder is ended') foreach @pool;
is($_->ended, '', 'one of the new holder, opened while it was fenced, is not') foreach @readers;
is($_->query('INSERT INTO writes SELECT -2, coalesce(max(seq), 0) + 1 FROM writes')->{error},
	'', 'and writes now')
  foreach @readers;
my $late = LeaseholdWire->connect($a);
is($late->parameter('default_transaction_read_only'), 'on', 'what connects to the old holder now is told');
$a->thaw;
hold($a);
is($late->ended, '', 'and is not ended when the lease comes back');
is($_->query('SELECT 1')->{value}, '1', 'sessions of a node that was fenced when they began stay')
  foreach @readers;
$_->close foreach @pool, @readers, $late;

# A switchover ends them as well, but not the session that asked for it.
{
	my ($caller, $idle, $busy) = map { LeaseholdWire->connect($a) } 1 .. 3;

	$busy->query('BEGIN');
	is($busy->query('INSERT INTO writes VALUES (-3, 1)')->{error}, '', 'a transaction has written');
	my $answer = $caller->query("SELECT leasehold.switchover('b')");
	is($answer->{error}, '', 'a switchover called on the old holder');
	is($answer->{value}, $b->epoch, 'returns the new epoch');
	is($idle->wait_end, '57P01', 'an idle session is ended');
	is($busy->wait_end, '57P01', 'one in a transaction, too');
	is($caller->query('SELECT 1')->{value}, '1', 'the caller is spared');
	is($caller->query('INSERT INTO writes VALUES (-3, 2)')->{error}, '25006', 'and may write no more');
	is($a->safe_psql('postgres', 'SELECT count(*) FROM writes WHERE client = -3'), 0, 'nothing of it is left');
	$caller->close;
	hold($a);
}

# ---------------------------------------------------------------------------
# pgbouncer, where it is installed
# ---------------------------------------------------------------------------
SKIP:
{
	my $pgbouncer = $ENV{LEASEHOLD_PGBOUNCER}
	  // (grep { -x } map { "$_/pgbouncer" } split(/:/, $ENV{PATH}), '/usr/sbin')[0];

	skip 'pgbouncer is not installed', 8 unless $pgbouncer;
	foreach my $mode (qw(session transaction))
	{
		my $dir = PostgreSQL::Test::Utils::tempdir_short();
		my $port = free_port();
		my $conf = "$dir/pgbouncer.ini";

		append_to_file("$dir/users", '"' . (getpwuid $<)[0] . "\" \"\"\n");
		append_to_file($conf, join "\n",
			'[databases]',
			(map { "$_->{leasehold_name} = host=" . $_->host . ' port=' . $_->port . ' dbname=postgres' } $a, $b),
			'[pgbouncer]', "listen_port = $port", 'listen_addr =',
			"unix_socket_dir = $dir", 'auth_type = trust', "auth_file = $dir/users",
			"pool_mode = $mode", 'server_login_retry = 0.1', 'default_pool_size = 2', '');
		my $pid = LeaseholdTest::spawn("$PostgreSQL::Test::Utils::log_path/050_pgbouncer_$mode.log", $pgbouncer, $conf);
		# its clients go from one node's pool to the other's when they are refused
		my $through = sub {
			my ($name, $sql) = @_;
			return ($a->try($sql, connstr => "host=$dir port=$port dbname=$name"))[0];
		};

		wait_until('pgbouncer answers', sub { $through->('a', 'SELECT 1') eq '' });
		is($through->('a', 'INSERT INTO writes SELECT -4, coalesce(max(seq), 0) + 1 FROM writes WHERE client = -4'),
			'', "pgbouncer, $mode mode: writes through the holder's pool");
		my $pooled = LeaseholdWire->connect(undef, host => $dir, port => $port, dbname => 'a',
			user => (getpwuid $<)[0]);
		my $server = $pooled->query('SELECT pg_backend_pid()')->{value};
		lose($a);
		wait_until('the pooled session is ended', sub { !grep { $_ == $server } $a->pids });
		pass("pgbouncer, $mode mode: its idle server session is ended when the lease is lost");
		is($through->('a', 'INSERT INTO writes VALUES (-4, 1000)'), '25006',
			"pgbouncer, $mode mode: a new one is opened, and refuses");
		is($through->('b', 'INSERT INTO writes SELECT -4, coalesce(max(seq), 0) + 1 FROM writes WHERE client = -4'),
			'', "pgbouncer, $mode mode: the other node's pool writes");
		$a->thaw;
		LeaseholdTest::end_child($pid);
		hold($a);
	}
}

# ---------------------------------------------------------------------------
# Clients who insist
# ---------------------------------------------------------------------------
# Nobody ends their sessions here: the fence alone stops them.
$a->set_conf('leasehold.on_expiry' => 'none');
$a->safe_psql('postgres', q{
	CREATE TABLE t (id int PRIMARY KEY, v text);
	INSERT INTO t SELECT g, 'old' FROM generate_series(1, 100) g});

my %insist;
$insist{$_} = LeaseholdWire->connect($a)
  foreach qw(setting characteristics block read_only_block open unused cursor hold portal prepared statement savepoint function);
sub ok_query
{
	my ($who, $sql) = @_;
	my $answer = $insist{$who}->query($sql);
	die "$who: $sql: $answer->{message}" if $answer->{error};
	return $answer;
}

ok_query(setting => 'SET default_transaction_read_only = off');
ok_query(characteristics => 'SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE');
ok_query(open => "BEGIN; UPDATE t SET v = 'new' WHERE id = 1");
ok_query(unused => 'BEGIN; SELECT 1');
ok_query(savepoint => 'BEGIN READ WRITE; SELECT 1; SAVEPOINT s');
ok_query(cursor => 'BEGIN; DECLARE c CURSOR FOR SELECT * FROM t WHERE id BETWEEN 10 AND 20 FOR UPDATE; FETCH 1 FROM c');
ok_query(hold => 'DECLARE c CURSOR WITH HOLD FOR SELECT id FROM t ORDER BY id; FETCH 1 FROM c');
ok_query(statement => "PREPARE p AS UPDATE t SET v = 'new' WHERE id = \$1; EXECUTE p(30)");
ok_query(prepared => "BEGIN; UPDATE t SET v = 'new' WHERE id = 40; PREPARE TRANSACTION 'before'");
ok_query(function => q{CREATE FUNCTION write_it(i int) RETURNS void LANGUAGE plpgsql AS
	'BEGIN UPDATE t SET v = ''new'' WHERE id = i; EXCEPTION WHEN division_by_zero THEN NULL; END'});
# a portal of the extended protocol, a few rows taken
$insist{portal}->send_messages(
	Q => "BEGIN\0");
$insist{portal}->collect;
$insist{portal}->send_messages(
	P => "\0SELECT * FROM t WHERE id BETWEEN 50 AND 60 FOR UPDATE\0" . pack('n', 0),
	B => LeaseholdWire::bind_message('half', ''),
	E => "half\0" . pack('N', 2),
	S => '');
is(scalar @{ $insist{portal}->collect->{rows} }, 2, 'a portal is half executed');
my $before = $a->safe_psql('postgres', 'SELECT * FROM t ORDER BY id');

lose($a);
sub refused
{
	my ($who, $sql, $what) = @_;
	my $answer = $insist{$who}->query($sql);
	is($answer->{error}, '25006', "refused: $what");
	return $answer;
}

refused(setting => "UPDATE t SET v = 'late' WHERE id = 2", 'after SET default_transaction_read_only = off');
refused(characteristics => "UPDATE t SET v = 'late' WHERE id = 3", 'after SET SESSION CHARACTERISTICS');
refused(block => "BEGIN READ WRITE; UPDATE t SET v = 'late' WHERE id = 4", 'BEGIN READ WRITE');
refused(read_only_block => "BEGIN; SET TRANSACTION READ WRITE; SET LOCAL transaction_read_only = off; UPDATE t SET v = 'late' WHERE id = 5",
	'SET TRANSACTION READ WRITE');
refused(open => 'COMMIT', 'COMMIT of a transaction that wrote before');
refused(unused => "UPDATE t SET v = 'late' WHERE id = 6", 'a first write in a transaction that began before');
refused(savepoint => "ROLLBACK TO s; UPDATE t SET v = 'late' WHERE id = 7", 'after ROLLBACK TO');
refused(cursor => 'FETCH 5 FROM c', 'FETCH from a FOR UPDATE cursor');
is(ok_query(hold => 'FETCH 1 FROM c')->{value}, 2, 'a held cursor that only reads goes on');
refused(statement => 'EXECUTE p(31)', 'EXECUTE of what was prepared before');
refused(prepared => "COMMIT PREPARED 'before'", 'COMMIT PREPARED');
refused(function => 'SELECT write_it(70)', 'a function with an exception block');
$insist{portal}->send_messages(E => "half\0" . pack('N', 0), S => '');
is($insist{portal}->collect->{error}, '25006', 'refused: the rest of the portal');
is($_->query('ROLLBACK')->{error}, '', 'all of them may roll back') foreach map { $insist{$_} } qw(block cursor portal unused);
is($a->safe_psql('postgres', 'SELECT * FROM t ORDER BY id'), $before, 'nothing has changed');

# Once the node knows who holds the lease, it says where to go.
ok_query(unused => 'BEGIN; SELECT 1');
$a->thaw;
$a->wait_state('follower');
my $answer = refused(setting => "UPDATE t SET v = 'late' WHERE id = 2", 'with the keeper at work again');
like($answer->{message}, qr/UPDATE.*lease "main"/, 'the message names statement and lease');
like($answer->{detail}, qr/node "b" under epoch \d+/, 'the detail names holder and epoch');
like($answer->{hint}, qr/port=\d+/, 'the hint says where to connect');

# The lease comes back: what was begun under the old epoch is lost for good.
hold($a);
refused(unused => "UPDATE t SET v = 'late' WHERE id = 6", 'a transaction that saw the node without its lease');
ok_query(unused => 'ROLLBACK');
ok_query(unused => "UPDATE t SET v = 'new' WHERE id = 6");
refused(prepared => "COMMIT PREPARED 'before'", 'COMMIT PREPARED under another epoch');
ok_query(prepared => "ROLLBACK PREPARED 'before'");
is($a->safe_psql('postgres', "SELECT string_agg(id::text, ',' ORDER BY id) FROM t WHERE v <> 'old'"),
	'6,30', 'a new transaction of the same session writes, and only that one did');

# A transaction that spans loss and return must fail though it never noticed.
ok_query(open => "BEGIN; UPDATE t SET v = 'spans' WHERE id = 80");
lose($a);
$a->thaw;
hold($a);
refused(open => 'COMMIT', 'COMMIT of a transaction that spans loss and return');
is($a->safe_psql('postgres', "SELECT count(*) FROM t WHERE v IN ('spans', 'late')"), 0, 'and leaves nothing');

$_->close foreach values %insist;
$_->stop foreach $a, $b, $group->members;
done_testing();
