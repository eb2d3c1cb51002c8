# The measuring tools themselves: a judge that cannot see a late acknowledgement,
# or a proxy whose faults do not happen, would let every other test pass.

use strict;
use warnings;

use LeaseholdTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $logs = PostgreSQL::Test::Utils::tempdir();
my $number = 0;

# ---------------------------------------------------------------------------
# judge
# ---------------------------------------------------------------------------

# Lines "send ack node client seq epoch outcome", times in milliseconds.
sub write_log
{
	my (@lines) = @_;
	my $file = "$logs/log" . ++$number;
	my $text = '';

	foreach my $line (@lines)
	{
		my @field = split ' ', $line;
		$field[$_] = sprintf '%.0f', $field[$_] * 1e6 foreach 0, 1;
		$text .= "@field\n";
	}
	append_to_file($file, $text);
	return $file;
}

sub write_file
{
	my ($text) = @_;
	my $file = "$logs/file" . ++$number;
	append_to_file($file, $text);
	return $file;
}

sub verdict { return LeaseholdTest::judge_logs(@_); }

{
	my $a = write_log('1 2 a 0 1 - ack', '2 3 a 0 2 - ack', '3 50 a 0 3 - lost');
	my $b = write_log('10 11 b 9 1 - refused', '59 60 b 9 2 - ack', '60 61 b 9 3 - ack');
	my $v = verdict([ $a, $b ]);

	is($v->{ok}, 1, 'a clean takeover is clean');
	is($v->{late}, 0, 'nothing late');
	is($v->{acks}, 4, 'acknowledgements are counted');
	is($v->{'acks.a'}, 2, 'per node');
	is($v->{refused}, 1, 'refusals are counted');
	is($v->{lost}, 1, 'and lost ones');
	is($v->{gap_ms} + 0, 57, 'the gap is the time without an acknowledgement');
	is_deeply(
		[ @{ $v->{takeovers}[0] }[ 0, 1 ] ],
		[ 'a', 'b' ],
		'the takeover is seen');
}
{
	my $a = write_log('1 2 a 0 1 - ack', '40 70 a 0 2 - ack');
	my $b = write_log('59 60 b 9 2 - ack', '70 80 b 9 3 - ack');
	my $v = verdict([ $a, $b ]);

	is($v->{ok}, 0, 'one late acknowledgement is found');
	is($v->{late}, 1, 'and counted');
	is($v->{late_sent}, 0, 'its request was sent before the takeover');
	is(verdict([ write_log('1 2 a 0 1 - ack', '40 70 a 0 2 - ack 9000000'), $b ])->{late},
		1, 'a reader who waited 9 ms for a processor does not excuse 10');
	is(verdict([ write_log('1 2 a 0 1 - ack', '40 70 a 0 2 - ack 11000000'), $b ])->{late},
		0, 'one who waited 11 ms does');
	is(@{ verdict([ write_log('1 2 a 0 1 - ack', '40 70 a 0 2 - ack 11000000'), $b ])->{takeovers} },
		1, 'and does not count as a turn of its own');
	is(verdict([ write_log('1 2 a 0 1 - ack', '61 70 a 0 2 - ack 11000000'), $b ])->{late},
		1, 'unless the request itself was sent after the takeover');
	is(verdict([ $a, $b ], '--slack=15')->{late}, 0, 'slack forgives it');
	is(verdict([ $a, $b ], '--slack=5')->{late}, 1, 'a smaller slack does not');
}
{
	my $a = write_log('1 2 a 0 1 - ack', '61 62 a 0 2 - ack', '62 63 a 0 3 - ack');
	my $b = write_log('59 60 b 9 2 - ack', '70 80 b 9 3 - ack');
	my $v = verdict([ $a, $b ], '--slack=1000');

	is($v->{late}, 2, 'slack does not forgive what was sent after the takeover');
	is($v->{late_sent}, 2, 'sent after it');
}
{
	my $a = write_log('1 2 a 0 1 - ack', '61 62 a 0 2 - tag');
	my $b = write_log('59 60 b 9 2 - ack');

	is(verdict([ $a, $b ])->{late}, 1,
		'success seen before the connection broke is an acknowledgement');
}
{
	# back and forth: epochs tell a turn from a late one
	my $a = write_log('1 2 a 0 1 1 ack', '50 51 a 0 2 3 ack');
	my $b = write_log('20 21 b 9 1 2 ack', '80 81 b 9 2 4 ack');
	my $late = write_log('60 61 b 9 3 2 ack');
	my $v = verdict([ $a, $b ]);

	is($v->{method}, 'epoch', 'epochs decide where they are noted');
	is($v->{late}, 0, 'back and forth is no fault');
	is(@{ $v->{takeovers} }, 3, 'three takeovers');
	is(verdict([ $a, $b, $late ])->{late}, 1, 'an old epoch after a newer one is');

	my $history = write_file("1 a\n2 b\n3 a\n4 b\n");
	is(verdict([ $a, $b ], "--history=$history")->{conflicts}, 0, 'everyone within his epoch');
	my $other = write_file("1 a\n2 b\n3 b\n4 b\n");
	is(verdict([ $a, $b ], "--history=$other")->{conflicts}, 1, 'an epoch of another is seen');
	my $short = write_file("1 a\n2 b\n3 a\n");
	is(verdict([ $a, $b ], "--history=$short")->{conflicts}, 1, 'and one that nobody was given');
	is(verdict([ write_log('1 2 a 0 1 1 ack'), write_log('1 3 b 1 1 1 ack') ])->{conflicts},
		1, 'two nodes under one epoch');
}
{
	my $a = write_log('1 2 a 0 1 - ack', '50 51 a 0 2 - ack');
	my $b = write_log('20 21 b 9 1 - ack', '80 81 b 9 2 - ack');

	is(verdict([ $a, $b ])->{late}, 1, 'without epochs each node has one turn');
	is(verdict([ $a, $b ], '--expect=a,b,a,b')->{late}, 0, 'unless told otherwise');
	is(verdict([ $a, $b ], '--expect=a,b,a')->{late}, 1, 'exactly as told');
	is(verdict([ $a, $b ], '--expect=b,a')->{late}, 2, 'from the first');
}
{
	my $a = write_log('1 2 a 0 1 - ack', '2 3 a 0 2 - ack', '3 4 a 0 3 - lost',
		'4 5 a 0 4 - tag');
	my $rows = write_file("0 1\n0 2\n");

	is(verdict([$a], "--rows=a=$rows")->{missing}, 0, 'acknowledged rows are there');
	$rows = write_file("0 2\n0 3\n");
	is(verdict([$a], "--rows=a=$rows")->{missing}, 1, 'one is missing');
	is(verdict([$a], "--rows=$rows")->{missing}, 1, 'from everywhere');
	is(verdict([$a], "--rows=b=$rows")->{missing}, 0, 'another node\'s rows say nothing');
	is(verdict([ $a, $a ])->{duplicates}, 2, 'a row acknowledged twice');
}
{
	# Random histories with a known number of late acknowledgements.
	srand(20240229);
	my $wrong = 0;
	foreach my $round (1 .. 50)
	{
		my ($takeover, $expected, @a, @b) = (500 + rand 1000, 0);

		foreach my $seq (1 .. 100)
		{
			my $at = 1 + rand $takeover - 1;
			push @a, sprintf('%f %f a 0 %d - ack', $at - 1, $at, $seq);
		}
		foreach my $seq (1 .. 100)
		{
			my $at = $takeover + rand 1000;
			push @b, sprintf('%f %f b 1 %d - ack', $at - 1, $at, $seq);
		}
		push @b, sprintf('%f %f b 1 101 - ack', $takeover - 1, $takeover);
		for (1 .. int rand 5)
		{
			my $at = $takeover + 0.001 + rand 2000;
			push @a, sprintf('%f %f a 0 %d - ack', $at - 1, $at, 1000 + ++$expected);
		}
		$wrong++ if verdict([ write_log(@a), write_log(@b) ])->{late} != $expected;
	}
	is($wrong, 0, 'judge counts the late ones of 50 random histories');
}
command_exit_is([ tool('judge'), "$logs/none" ], 2, 'no log, no verdict');
command_exit_is([ tool('judge'), write_file("1 2 3\n") ], 2, 'a broken log, no verdict');

# ---------------------------------------------------------------------------
# writer
# ---------------------------------------------------------------------------
my $node = LeaseholdTest::Node->member('plain', empty => 1);
$node->make_table;

# all of its ways to write, on a server without leasehold
foreach my $mode (qw(simple txn extended pipeline))
{
	my $writer = LeaseholdTest::Writer->start(
		$node->connstr('postgres'),
		name => $mode, mode => $mode, client => 100 * ++$number, connections => 2,
		label => 'plain');

	$writer->wait_acks(200);
	# a session that turns read-only
	$node->safe_psql('postgres', 'ALTER SYSTEM SET default_transaction_read_only = on; SELECT pg_reload_conf()');
	wait_until("$mode is refused", sub { $writer->outcomes->{refused} });
	my $refused = $writer->outcomes->{refused};
	wait_until("$mode is refused again", sub { $writer->outcomes->{refused} > $refused });
	$node->safe_psql('postgres', 'SET default_transaction_read_only = off; ALTER SYSTEM RESET default_transaction_read_only; SELECT pg_reload_conf()');
	$writer->wait_acks(50);
	# a session that ends
	$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'writer'");
	wait_until("$mode notices", sub { grep { /^(?:lost|error:57P01)$/ } keys %{ $writer->outcomes } });
	$writer->wait_acks(50);
	$writer->stop;

	my $v = LeaseholdTest::judge_logs([ $writer->log ], '--rows=plain=' . $node->rows_file);
	is($v->{missing}, 0, "$mode: what was acknowledged is there");
	is($v->{duplicates}, 0, "$mode: no row is acknowledged twice");
	cmp_ok($v->{acks}, '>=', 300, "$mode: acknowledgements are noted");
}

# a multi-host string of which the first host does not take writes
{
	my $standby = LeaseholdTest::Node->member('readonly', empty => 1,
		conf => 'default_transaction_read_only = on');
	my $writer = LeaseholdTest::Writer->start(
		'host=' . $standby->host . ',' . $node->host . ' port=' . $standby->port . ',' . $node->port
		  . ' dbname=postgres target_session_attrs=read-write',
		name => 'multi', client => 5000);

	$writer->wait_acks(20);
	is($writer->acks($node->port), $writer->acks, 'finds the host that takes writes, and names it');
	# the first host hangs: one deadline covers both, and yet the other is found
	$standby->freeze('postmaster');
	$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'writer'");
	$writer->wait_acks(200);
	pass('finds it also when the first host hangs');
	$standby->thaw;
	$writer->stop;
	$standby->stop;
}

# ---------------------------------------------------------------------------
# pgproxy
# ---------------------------------------------------------------------------
my $proxy = LeaseholdTest::Proxy->start($node, seed => 42);
my $row = 0;

# Through the proxy; the answer is (SQLSTATE or '', output).
sub through
{
	my ($sql, %options) = @_;
	return $node->try($sql, connstr => $proxy->connstr('postgres'), %options);
}

sub count_row
{
	my ($seq) = @_;
	return $node->safe_psql('postgres', "SELECT count(*) FROM writes WHERE client = -1 AND seq = $seq");
}

is((through('SELECT 41 + 1'))[1], '42', 'the proxy passes');
is((through('SELECT 1/0'))[0], '22012', 'errors of the server, too');
is((through('COPY (SELECT generate_series(1, 3)) TO STDOUT'))[1], "1\n2\n3", 'and COPY');

foreach my $case (
	[ 'e40001_before',  '40001',   0 ],
	[ 'e40001_after',   '40001',   1 ],
	[ 'e40003_after',   '40003',   1 ],
	[ 'lost_before',    '08006',   0 ],
	[ 'lost_after',     '08006',   1 ],
	[ 'silence_before', 'timeout', 0 ],
	[ 'silence_after',  'timeout', 1 ])
{
	my ($kind, $sqlstate, $effect) = @$case;

	$proxy->do('only INSERT');
	$proxy->do("next $kind");
	$row++;
	my ($got) = through("INSERT INTO writes VALUES (-1, $row)",
		timeout => $sqlstate eq 'timeout' ? 1 : 60);
	is($got, $sqlstate, "$kind: what the client is told");
	is(count_row($row), $effect, "$kind: what has become of it");
	is($proxy->stats->{$kind}, 1, "$kind: is counted");
	$proxy->do('pass');
	is((through("SELECT 'on'"))[1], 'on', "$kind: and afterwards all is well");
}

# the connection itself survives an error
$proxy->do('only INSERT');
$proxy->do('next e40001_after');
{
	my ($stdout, $stderr) = ('', '');
	$node->psql(
		'postgres',
		"INSERT INTO writes VALUES (-1, 100);\nSELECT 'same session'",
		connstr => $proxy->connstr('postgres'),
		stdout => \$stdout, stderr => \$stderr, on_error_stop => 0);
	is($stdout, 'same session', 'a session goes on after an error of the proxy');
}

# in a transaction block the server's transaction fails for real
$proxy->do('next e40001_before');
{
	my ($stdout, $stderr) = ('', '');
	$node->psql(
		'postgres',
		"BEGIN;\nCREATE TABLE never ();\nINSERT INTO writes VALUES (-1, 101);\nCOMMIT;\nSELECT to_regclass('never') IS NULL",
		connstr => $proxy->connstr('postgres'),
		stdout => \$stdout, stderr => \$stderr, on_error_stop => 0);
	is($stdout, 't', 'a transaction block that met 40001 is rolled back');
	like($stderr, qr/could not serialize access/, 'and the client has the error');
}

# an "after" fault waits for the end of the transaction
$proxy->do('next lost_after 9');
is( (   through(
			"BEGIN;\nINSERT INTO writes VALUES (-1, 102);\nSELECT 'INSERT';\nCOMMIT -- INSERT"))
	[0],
	'08006', 'lost after COMMIT');
is(count_row(102), 1, 'which took effect');
$proxy->do('pass');

# late requests reach the server though the client has gone
$proxy->do('late 4000');
$proxy->do('only INSERT');
$proxy->do('next late_request');
is((through('INSERT INTO writes VALUES (-1, 103)', timeout => 1))[0],
	'timeout', 'the client has given up');
is(count_row(103), 0, 'its request is still under way');
wait_until('a late request arrives', sub { count_row(103) });
pass('and arrives when nobody waits for it any more');

$proxy->do('late 1500');
$proxy->do('next late_reply');
my $start = clock_now();
is((through('INSERT INTO writes VALUES (-1, 104)'))[0], '', 'a late answer is an answer');
cmp_ok(clock_now() - $start, '>=', 1.5e9, 'and late');

$proxy->do('pass');
$proxy->do('delay 200 100');
$start = clock_now();
is((through('SELECT 1'))[1], '1', 'delayed');
cmp_ok(clock_now() - $start, '>=', 0.6e9, 'startup and query take both ways twice');

$proxy->do('pass');
$proxy->do('hang');
is((through('SELECT 1', timeout => 1))[0], 'timeout', 'hang: no answer');
$proxy->do('hang from');
is((through('INSERT INTO writes VALUES (-1, 105)', timeout => 1))[0], 'timeout', 'hang from: no answer either');
$proxy->do('pass');
is((through('SELECT 1'))[0], '', 'pass: answers again');
$proxy->do('refuse');
is((through('SELECT 1'))[0], '08006', 'refuse: no connection');
$proxy->do('pass');
is((through('SELECT 1'))[0], '', 'pass: the same port again');
ok(!eval { $proxy->do('next nonsense'); 1 }, 'an unknown fault is refused');

# at random, under load, in each protocol: the acknowledged rows and no others
# must be what the proxy did not touch
foreach my $mode (qw(simple extended pipeline))
{
	my $before = $proxy->stats;

	# the other statements (connecting, preparing) stay whole
	$proxy->do($mode eq 'simple' ? 'only INSERT' : 'only w');
	$proxy->do('only INSERT') if $mode eq 'simple';
	$proxy->do('prob e40001_before=0.05 e40001_after=0.05 e40003_after=0.05 lost_before=0.02 lost_after=0.02 silence_after=0.005 silence_before=0.005');
	my $writer = LeaseholdTest::Writer->start($proxy->connstr('postgres'),
		name => "random_$mode", mode => $mode, client => 10_000 + 100 * ++$number,
		connections => 4, label => 'plain', reply_timeout => 200, connect_timeout => 500);
	$writer->wait_acks(500);
	my @wanted = qw(e40001_before e40001_after e40003_after lost_before lost_after);
	wait_until(
		'every fault has been seen',
		sub {
			my $now = $proxy->stats;
			!grep { $now->{$_} == $before->{$_} } @wanted;
		});
	$writer->stop;
	$proxy->do('pass');

	my $v = LeaseholdTest::judge_logs([ $writer->log ], '--rows=plain=' . $node->rows_file);
	is($v->{missing}, 0, "random faults, $mode: what was acknowledged is there");
	ok($writer->outcomes->{'error:40001'} && $writer->outcomes->{'error:40003'}
		  && $writer->outcomes->{lost}, "random faults, $mode: the client met them");
}

# the same seed does the same
{
	my @runs;
	foreach my $run (1, 2)
	{
		my $twin = LeaseholdTest::Proxy->start($node, seed => 7);
		my ($stdout, $stderr) = ('', '');

		$twin->do('prob e40001_before=0.3');
		$node->psql(
			'postgres',
			join("\n", map { "SELECT $_;" } 1 .. 60),
			connstr => $twin->connstr('postgres'),
			stdout => \$stdout, stderr => \$stderr, on_error_stop => 0);
		push @runs, $stdout;
		$twin->stop;
	}
	is($runs[0], $runs[1], 'the same seed hits the same requests');
	isnt($runs[0], join("\n", 1 .. 60), 'some of them');
}
$proxy->stop;

# ---------------------------------------------------------------------------
# Processes
# ---------------------------------------------------------------------------
my $pid = $node->postmaster_pid;
ok($node->alive, 'a server is alive');
ok(grep({ $_ == $pid } $node->pids), 'its postmaster is one of its processes');
is(scalar($node->pids(qr/checkpointer/)), 1, 'processes are found by their title');
$node->freeze('all');
ok(!$node->alive, 'stopped is not alive');
$node->thaw;
is($node->safe_psql('postgres', 'SELECT 1'), '1', 'resumed');

my $session = $node->background_psql('postgres');
$session->query_safe('SELECT 1');
# (a session whose client has gone ends a moment later)
wait_until('only one session is left', sub { $node->backends <= 1 });
is(scalar($node->backends), 1, 'client sessions are found');
$node->freeze('all');
$node->kill_all;
is(scalar($node->pids), 0, 'killed, all of it, though stopped');
eval { $session->quit };
$node->start_again;
is($node->safe_psql('postgres', 'SELECT 1'), '1', 'started again');
$node->kill_postmaster;
$node->start_again;
is($node->safe_psql('postgres', 'SELECT 1'), '1', 'also after the postmaster alone was killed');
$node->kill_all;

# ---------------------------------------------------------------------------
# Clocks
# ---------------------------------------------------------------------------
my $timed = LeaseholdTest::Node->member('timed', empty => 1, clock => 1);
my $age = sub { return time - $timed->safe_psql('postgres', 'SELECT extract(epoch FROM clock_timestamp())'); };
cmp_ok(abs($age->()), '<', 60, 'an instance with a clock of its own has the right time');
$timed->step_clock(3600);
cmp_ok(abs($age->() + 3600), '<', 60, 'an hour forward');
$timed->step_clock(-7200);
cmp_ok(abs($age->() - 3600), '<', 60, 'two hours back');
$timed->stop;

done_testing();
