# What the prober must live through: its own end, what stands in the store, and
# servers that say what no server says.

use strict;
use warnings;

use LeaseholdTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $group = LeaseholdTest->new(
	nodes => [ 'a', 'b' ],
	conf  => "leasehold.probe_interval = '500ms'\nleasehold.probe_timeout = '700ms'\n");
my ($a, $b) = $group->nodes;

sub status_of
{
	my ($node, $peer) = @_;
	return $node->ask("SELECT concat_ws(' ', status, cause) FROM leasehold.peers WHERE peer = '$peer'");
}

# Is what b says of itself news to a?
sub hears
{
	my ($node, $of) = @_;
	return $node->ask("SELECT coalesce(min(reported) < '1500ms', false) FROM leasehold.connectivity WHERE source = '$of'") eq 't';
}

# Returns when there is another one.
sub end_prober
{
	my ($node, $meanwhile) = @_;
	my $old = $node->worker('prober');
	kill 'TERM', $old;
	$meanwhile->() if $meanwhile;
	wait_until('another prober', sub { $node->worker('prober') != $old });
	return;
}

# A new session with the member, which reads everything.
sub read_anew
{
	$group->store_query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'leasehold_store' AND application_name = 'leasehold prober'");
	return;
}

sub store
{
	my ($statement) = @_;
	return $group->store_query("WITH x AS ($statement RETURNING 1) SELECT count(*) FROM x");
}

sub is_quiet
{
	my ($node, $since, $what) = @_;
	unlike($node->log_since($since), qr/^(?:FATAL|WARNING|NOTICE|ERROR):/m, $what);
	return;
}

wait_until('a reaches b', sub { status_of($a, 'b') eq 'ok' });
wait_until('b reaches a', sub { status_of($b, 'a') eq 'ok' });

# ---------------------------------------------------------------------------
# A prober started anew
# ---------------------------------------------------------------------------

# What it reports counts, though its predecessor had reported much more often.
wait_until('a hears of b', sub { hears($a, 'b') });
my $seq = $group->store_query("SELECT seq + 3000 FROM leasehold_store.report WHERE node = 'b'");
end_prober($b, sub {
	wait_until('the reports of b end', sub {
		store("UPDATE leasehold_store.report SET seq = $seq WHERE node = 'b'");
		return !hears($a, 'b') }) });
wait_until('a hears of b again', sub { hears($a, 'b') });

# An outage outlasts it, and ends.
$b->stop('fast');
wait_until('a sees that b is gone', sub { status_of($a, 'b') =~ /^unreachable/ });
end_prober($a);
wait_until('the new one sees it, too',
	sub { $a->ask("SELECT age < '1s' FROM leasehold.peers WHERE peer = 'b' AND status = 'unreachable'") eq 't' });
is($a->ask("SELECT count(*) FROM leasehold.outages WHERE source = 'a' AND target = 'b' AND ended IS NULL"),
	1, 'the outage lasts');
$b->start;
wait_until('a reaches b again', sub { status_of($a, 'b') eq 'ok' });
is($a->ask("SELECT count(*) FROM leasehold.outages WHERE source = 'a' AND target = 'b' AND ended IS NULL"),
	0, 'the outage has ended');

# ---------------------------------------------------------------------------
# What stands in the store
# ---------------------------------------------------------------------------

# An outage that a run of this node began which is gone; times that are none; mail of
# a run that is gone.
store("INSERT INTO leasehold_store.outage VALUES ('a', 'b', 1700000000000000, 0, 'connect', 'refused', 'x'),
	('b', 'c', 9223372036854775807, -9223372036854775808, 'no phase', 'no cause', 'x')");
store("INSERT INTO leasehold_store.mail VALUES ('m', 'b', 'a', 1, 'walk', 'a', false, '')");
read_anew();
wait_until('it has ended', sub {
	$group->store_query("SELECT ended > began FROM leasehold_store.outage WHERE source = 'a' AND began = 1700000000000000") eq 't' });
wait_until('mail of another run is gone', sub { $group->store_query('SELECT count(*) FROM leasehold_store.mail') eq '0' });
wait_until('it is read', sub {
	$a->ask("SELECT count(*) FROM leasehold.outages WHERE source = 'b' AND target = 'c'") eq '1' });
like($a->ask("SELECT began::text FROM leasehold.outages WHERE source = 'b' AND target = 'c'"),
	qr/^\d/, 'what is no time can be shown');

# Nodes that nobody knows do not take the places of those that are known.
store("INSERT INTO leasehold_store.report SELECT '0' || n, 1, 1, '' FROM generate_series(1, 200) AS n");
end_prober($a);
wait_until('it hears of b', sub { hears($a, 'b') });

# ---------------------------------------------------------------------------
# A server that says what no server says
# ---------------------------------------------------------------------------

# Sessions begin with a warning; every question is answered with COPY ... FROM STDIN.
my $port = LeaseholdTest::free_port();
my $fake = LeaseholdTest::spawn('/dev/null', $^X, '-MIO::Socket::INET', '-e', <<'EOF', $port);
	my $listener = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1',
		LocalPort => $ARGV[0], ReuseAddr => 1) or die $!;
	$SIG{PIPE} = 'IGNORE';
	while (my $client = $listener->accept)
	{
		my ($length, $rest);

		while (sysread($client, $length, 4) == 4)
		{
			sysread($client, $rest, unpack('N', $length) - 4);
			last if unpack('N', $rest) == 196608;
			syswrite($client, 'N');
		}
		syswrite($client, pack('a N N', 'R', 8, 0)
			  . pack('a N a*', 'N', 4 + 20, "SWARNING\0C01000\0Mx\0\0")
			  . pack('a N a', 'Z', 5, 'I'));
		sysread($client, $rest, 1000);
		syswrite($client, pack('a N C n', 'G', 7, 0, 0));
		sysread($client, $rest, 1000);
	}
EOF
my $offset = $a->log_offset;
store("INSERT INTO leasehold_store.node VALUES ('fake', 1, 1, 'host=127.0.0.1 port=$port', '', '', 0, 0, '')");
wait_until('a does not take it for a node',
	sub { status_of($a, 'fake') =~ /^unreachable (?!refused)/ });
is($a->ask("SELECT error FROM leasehold.peers WHERE peer = 'fake'"),
	'an answer that no PostgreSQL gives', 'and says why');
# ... and goes on
$b->stop('fast');
wait_until('a sees that b is gone', sub { status_of($a, 'b') =~ /^unreachable/ });
is_quiet($a, $offset, 'nothing in the log but what the server says');
$a->stop('fast');
pass('a stops');
LeaseholdTest::end_child($fake);
done_testing();
