# The steward: what an instance does about its lease beyond fencing.
#
# An instance that is not well must not hold its lease for ever: a keeper that
# goes on renewing in front of a postmaster that is stopped, or of a disk that
# hangs, would keep the whole group from writing.  And clients must learn soon
# that their session will not write any more, even when the keeper is stopped.

use strict;
use warnings;

use IPC::Run;
use LeaseholdTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();

# Tells its arguments and its environment; hangs while the file "hang" exists.
my $script = "$dir/role_command";
append_to_file($script, <<"EOF");
#!/bin/sh
echo "\$* \$LEASEHOLD_LEASE \$LEASEHOLD_OLD \$LEASEHOLD_NEW \$LEASEHOLD_EPOCH \$LEASEHOLD_SCOPE" >> "$dir/told.\$LEASEHOLD_NODE"
ls -l /proc/self/fd > "$dir/fds.\$LEASEHOLD_NODE"
while [ -e "$dir/hang.\$LEASEHOLD_NODE" ]; do sleep 0.05; done
[ ! -e "$dir/fail.\$LEASEHOLD_NODE" ]
EOF
chmod 0755, $script;

# The changes that a node's command was told of, as [old, new, epoch].
sub told
{
	my ($node) = @_;
	my $file = "$dir/told." . $node->{leasehold_name};
	return () unless -e $file;
	return map { [ (split ' ')[ 1, 2, 3 ] ] } split /\n/, slurp_file($file);
}

sub last_told
{
	my ($node) = @_;
	my @told = told($node);
	return @told ? $told[-1][1] : '';
}

sub state_file
{
	my ($node) = @_;
	my $file = $node->data_dir . '/leasehold.state';
	return {} unless -e $file;
	return { map { /^(\S+) ?(.*)$/ ? ($1 => $2) : () } split /\n/, slurp_file($file) };
}

my $group = LeaseholdTest->new(
	nodes => [ 'a', 'b' ],
	ttl   => '2s',
	conf  => "leasehold.role_command = '$script'\n");
my ($a, $b) = $group->nodes;

# Hand the lease over and wait until all is quiet again.
sub settle_on
{
	my ($node) = @_;
	my ($other) = grep { $_ != $node } $a, $b;

	# a node that has just come is not known to be alive yet
	wait_until(
		$node->name . ' is handed the lease',
		sub {
			return 1 if $node->holds;
			my ($sqlstate) = $node->try(
				"SELECT leasehold.switchover('$node->{leasehold_name}')");
			$sqlstate eq '';
		});
	$group->wait_holder($node);
	$other->wait_state('follower');
	return;
}

# ---------------------------------------------------------------------------
# The state file
# ---------------------------------------------------------------------------

$group->wait_holder($a);
$b->wait_state('follower');
my $state = state_file($a);
is($state->{node},  'a',    'the state file names the node');
is($state->{lease}, 'main', 'and the lease that governs it');
is($state->{ended}, 'no',   'this run has not ended');
cmp_ok($state->{epoch}, '>=', $a->epoch, 'and an epoch no lower than the one held');

# ---------------------------------------------------------------------------
# role_command
# ---------------------------------------------------------------------------

wait_until('a is told that it holds', sub { last_told($a) eq 'holder' });
my @lines = split /\n/, slurp_file("$dir/told.a");
my $epoch = $a->epoch;
like($lines[-1], qr/^main (\w+) holder $epoch instance main \1 holder $epoch instance$/,
	'the command has its arguments and its environment');
is((grep { $_ =~ /acquiring/ } @lines), 0, 'acquiring is not told');
unlike(slurp_file("$dir/fds.a"), qr/pg_wal|postgresql|eventpoll|socket:.*\b[4-9] ->/,
	'the command inherits no file of the server');

settle_on($b);
wait_until('a is told that it follows', sub { last_told($a) eq 'follower' });
wait_until('b is told that it holds',   sub { last_told($b) eq 'holder' });
foreach my $node ($a, $b)
{
	my @told   = told($node);
	my $broken = grep { $told[$_][0] ne $told[ $_ - 1 ][1] } 1 .. $#told;

	is($broken, 0, $node->name . ' is told of each change once and in order')
	  or diag(explain(\@told));
	is((grep { $_->[0] eq $_->[1] } @told), 0, 'and only of changes');
}

# A command that hangs keeps only later commands waiting.
append_to_file("$dir/hang.b", '');
my $count = told($b);
settle_on($a);
wait_until('b has begun to tell', sub { told($b) > $count });
$count = told($b);
settle_on($b);
ok($b->holds, 'the lease came back while the command hangs');
is(scalar(told($b)), $count, 'one command at a time');
my $offset = $b->log_offset;
append_to_file("$dir/fail.b", '');
unlink "$dir/hang.b";
wait_until('b catches up', sub { last_told($b) eq 'holder' });
$b->wait_log(qr/the role command failed for the change from \w+ to \w+ of lease "main"\n.*exited with exit code 1/,
	$offset);
unlink "$dir/fail.b";
{
	my @told = told($b);
	is((grep { $told[$_][0] ne $told[ $_ - 1 ][1] } 1 .. $#told), 0,
		'the order is kept');
}

# ---------------------------------------------------------------------------
# Health
# ---------------------------------------------------------------------------

# The postmaster is stopped: nobody can connect to the holder any more, while
# its keeper could renew for ever.
settle_on($a);
$offset = $a->log_offset;
$a->freeze('postmaster');
$group->wait_holder($b);
pass('a stopped postmaster costs the instance its lease');
$a->wait_log(qr/the instance fails its own health check/, $offset);
$a->thaw;
$a->wait_state('follower');
$a->wait_log(qr/the instance passes its health check again/, $offset);

# The steward hangs, as it does when the disk hangs.
settle_on($a);
$a->freeze('steward');
$group->wait_holder($b);
pass('a hanging steward costs the instance its lease');
$a->thaw;

# Checks become as frequent as the setting asks for; each flushes a record.  The
# last one is older by then than the new setting allows, and the next one comes
# when the keeper has long read that setting.
settle_on($a);
$a->set_conf('leasehold.health_timeout' => '20s');
$epoch = $a->epoch;
$a->freeze('steward');
my $frozen = clock_now();
wait_until('the last check is old', sub { clock_now() > $frozen + 1.5e9 });
$a->set_conf('leasehold.health_timeout' => '1s');
$frozen = clock_now();
wait_until('the keeper has had the time to act on that', sub { clock_now() > $frozen + 0.5e9 });
$a->thaw;
my $flushed = $a->ask('SELECT pg_current_wal_flush_lsn()');
wait_until('health checks flush', sub {
		$a->ask("SELECT pg_current_wal_flush_lsn() >= '$flushed'::pg_lsn + 240") eq 't';
	});
# (whoever lets go may have it back by now)
is($a->epoch, $epoch, 'a shorter health_timeout does no harm');
$a->set_conf('leasehold.health_timeout' => '0');

# ---------------------------------------------------------------------------
# on_expiry
# ---------------------------------------------------------------------------

# A psql that stays open.
sub open_session
{
	my ($node, @statements) = @_;
	my $self = { in => '', out => '', err => '' };
	my $timer = IPC::Run::timer($PostgreSQL::Test::Utils::timeout_default);

	$self->{run} = IPC::Run::start(
		[
			'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d',
			$node->connstr('postgres') ],
		'<' => \$self->{in}, '>' => \$self->{out}, '2>' => \$self->{err}, $timer);
	$self->{in} .= "$_;\n" foreach 'SELECT pg_backend_pid()', @statements;
	IPC::Run::pump($self->{run}) until $self->{out} =~ /^(\d+)\n/;
	$self->{pid} = $1;
	return $self;
}

# Send a statement and wait for what it leads to.
sub say_to
{
	my ($session, $statement, $expected) = @_;

	$session->{in} .= "$statement;\n";
	IPC::Run::pump($session->{run})
	  until $session->{out} . $session->{err} =~ $expected;
	return 1;
}

sub close_session
{
	my ($session) = @_;
	$session->{in} .= "\\q\n";
	eval { IPC::Run::finish($session->{run}); };
	return;
}

# (asked by a session that may itself be one of those that are ended)
sub is_there
{
	my ($node, $session) = @_;
	return $node->ask(
		"SELECT count(*) FROM pg_stat_activity WHERE pid = $session->{pid}") eq '1';
}

sub wait_sleeping
{
	my ($node, $session) = @_;
	wait_until('the session sleeps in its transaction', sub {
			$node->ask(
				"SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = $session->{pid}"
			) eq 't';
		});
	return;
}

my @writing = (
	'BEGIN',
	'INSERT INTO writes VALUES (-1, nextval(\'keys\'), 0)',
	'SELECT pg_sleep(1000)');

# terminate: idle and busy ones that were opened while the node was writable.
# The keeper is stopped, so nobody but the clock says that the lease is lost.
settle_on($a);
$_->safe_psql('postgres', 'SELECT 1') foreach $a, $b;
$a->safe_psql('postgres', 'CREATE SEQUENCE keys CACHE 1');
my $old = open_session($a);
settle_on($b);
wait_until('the idle session is gone after a hand-over', sub { !is_there($a, $old) });
my $reader = open_session($a);
settle_on($a);
my $idle   = open_session($a);
my $writer = open_session($a, @writing);
wait_sleeping($a, $writer);
ok(is_there($a, $idle), 'sessions stay while the lease is held');
$offset = $a->log_offset;
$a->freeze('keeper');
# in the log: whoever asks meanwhile is a session more that is ended
$a->wait_log(qr/\d+ sessions? ended, since the lease is lost/, $offset);
like($a->log_since($offset), qr/ 2 sessions ended, since the lease is lost/,
	'those from while the node was writable are ended');
wait_until('the sessions are gone',
	sub { !is_there($a, $idle) && !is_there($a, $writer) });
ok(is_there($a, $reader), 'a session from before the node was writable stays');
say_to($idle, 'SELECT 1', qr/FATAL:  57P01/);
pass('the idle client reads 57P01');
say_to($writer, 'SELECT 1', qr/FATAL:  57P01/);
pass('the writing client reads 57P01');
$group->wait_holder($b);
$a->thaw;
$a->wait_state('follower');
ok(is_there($a, $reader), 'and stays');
close_session($_) foreach $old, $idle, $writer, $reader;

# cancel: the writing transaction alone.
$a->set_conf('leasehold.on_expiry' => 'cancel');
settle_on($a);
$idle   = open_session($a);
$reader = open_session($a, 'SELECT pg_sleep(1000)');
$writer = open_session($a, @writing);
wait_sleeping($a, $_) foreach $reader, $writer;
$a->freeze('keeper');
say_to($writer, 'SELECT 1', qr/ERROR:  57014/);
pass('the writing transaction is cancelled');
ok(is_there($a, $_), 'no session ends') foreach $idle, $reader, $writer;
wait_sleeping($a, $reader);
$group->wait_holder($b);
$a->thaw;
$a->wait_state('follower');
$a->safe_psql('postgres', "SELECT pg_terminate_backend($reader->{pid})");
close_session($_) foreach $idle, $writer;
eval { IPC::Run::finish($reader->{run}) };

# none: the fence alone.
$a->set_conf('leasehold.on_expiry' => 'none');
settle_on($a);
$idle   = open_session($a);
$writer = open_session($a, 'BEGIN',
	'INSERT INTO writes VALUES (-2, 1, 0)', 'SELECT 4711');
say_to($writer, 'SELECT 4712', qr/4712/);
$a->freeze('keeper');
$group->wait_holder($b);
say_to($idle, 'SELECT 4713', qr/4713/);
pass('an idle session lives on');
say_to($writer, 'SELECT 4713', qr/4713|25006/);
say_to($writer, 'COMMIT; SELECT 4714', qr/4714/);
pass('a session with a transaction lives on');
is($a->safe_psql('postgres', 'SELECT count(*) FROM writes WHERE client = -2'),
	'0', 'its transaction did not commit');
$a->thaw;
$a->wait_state('follower');
close_session($_) foreach $idle, $writer;
$a->set_conf('leasehold.on_expiry' => 'terminate');

# ---------------------------------------------------------------------------
# The end of a run
# ---------------------------------------------------------------------------

settle_on($a);
my $incarnation = state_file($a)->{incarnation};
$a->stop('fast');
is(state_file($a)->{ended}, 'yes', 'a clean shutdown is noted');
is(state_file($a)->{incarnation}, $incarnation, 'as the end of this run');
is(last_told($a), 'follower', 'the command is told of the end of the lease')
  or diag(explain([ told($a) ]));
$group->wait_holder($b);
$a->start;
$a->wait_state('follower');
wait_until('the next run is noted', sub { state_file($a)->{ended} eq 'no' });
isnt(state_file($a)->{incarnation}, $incarnation, 'under its own incarnation');
$a->kill_all;
is(state_file($a)->{ended}, 'no', 'a killed instance has not ended');
$a->start_again;
$a->wait_state('follower');

# Workers that are told to end while the server goes on: others take their places
# at once, and the lease stays.  A session that was open all the time stays, too:
# it would be ended if the lease were lost for a moment.
settle_on($a);
$epoch = $a->epoch;
my $witness = open_session($a);

sub told_to_end
{
	my (@which) = @_;
	my $what = join ' and ', @which;
	my %old = map { $_ => $a->worker($_) } @which;
	my $since = clock_now();

	# (pg_terminate_backend() does not know processes without a database)
	kill 'TERM', values %old;
	foreach my $worker (@which)
	{
		wait_until("another $worker", sub {
				my ($now) = $a->pids(qr/leasehold $worker/);
				defined $now && $now != $old{$worker};
			});
		cmp_ok(clock_now() - $since, '<', 5e9, "$what told to end: soon there is another $worker")
		  if $worker ne 'prober';
	}
	# longer than the lease lasts, and than a health stamp
	wait_until('a while', sub { clock_now() > $since + 5e9 });
	is($a->epoch, $epoch, "$what told to end: the lease stays");
	ok(is_there($a, $witness), "$what told to end: not for a moment was it lost");
	is(state_file($a)->{ended}, 'no', "$what told to end: the run has not ended");
	return;
}

told_to_end('steward');
told_to_end('keeper');
told_to_end('prober');
told_to_end('keeper', 'steward', 'prober');
# twice in a row is once too often, but nothing breaks
kill 'TERM', $a->worker('steward');
told_to_end('steward');
close_session($witness);

# ---------------------------------------------------------------------------
# Leaving
# ---------------------------------------------------------------------------

# Emptying the setting is not enough, nor is a restart; leave() is, for good.
$b->set_conf('leasehold.lease' => '');
$b->wait_log(qr/parameter "leasehold.lease" changed to ""/, 0);
$b->restart;
my ($sqlstate) = $b->try("INSERT INTO writes VALUES (-3, 1, 0)");
is($sqlstate, '25006', 'a node that was governed stays fenced');
$b->safe_psql('postgres', 'SELECT leasehold.leave()');
is(state_file($b)->{lease}, '', 'the state file names no lease any more');
$b->safe_psql('postgres', 'INSERT INTO writes VALUES (-3, 1, 0)');
pass('the node is writable');
wait_until('b is told', sub { last_told($b) eq 'ungoverned' });
$b->restart;
$b->safe_psql('postgres', 'INSERT INTO writes VALUES (-3, 2, 0)');
pass('after a restart, too');
is(state_file($b)->{lease}, '', 'the lease does not come back');
ok($a->holds, 'the other node goes on');

done_testing();
