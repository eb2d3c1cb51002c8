# A standby that replays more of a dead timeline than its new primary had, without
# the server noticing: it begins with such WAL in the very segment in which the new
# timeline branched off, and touches no page with it.  It is noticed, nothing is
# replayed on top of it, and it never takes over.

use strict;
use warnings;

use File::Copy;
use LeaseholdTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $group = LeaseholdTest->new(
	kind  => 'physical',
	nodes => [ 'a', 'b', 'c' ],
	ttl   => '1s',
	conf  => "leasehold.max_lag = -1\n");
my ($a, $b, $c) = $group->nodes;

# c gets what b does not, and has not replayed it yet: so nothing on its disk but the
# WAL itself tells that it has it.
$c->set_conf('leasehold.priority' => 0);
$c->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
my ($receiver) = $b->pids(qr/walreceiver/);
kill 'STOP', $receiver;
$a->safe_psql('postgres',
	"SELECT count(pg_logical_emit_message(false, 'x', repeat('y', 1000))) FROM generate_series(1, 3000)");
my $ahead = $a->ask('SELECT pg_current_wal_flush_lsn()');
wait_until('c has received it', sub { $c->ask("SELECT pg_last_wal_receive_lsn() >= '$ahead'") eq 't' });
$a->kill_all;
# (a writes a little by itself, too)
wait_until('c receives no more', sub { !$c->pids(qr/walreceiver/) });
$ahead = $c->ask('SELECT pg_last_wal_receive_lsn()');
kill 'CONT', $receiver;
$group->wait_holder($b);

# The server itself does not see it, if it starts with the new timeline's history: it
# replays all that is there.  (Usually the walreceiver has got that file; this one
# does not run while replay is paused.)
my $offset = $c->log_offset;
$c->stop('fast');
copy($b->data_dir . '/pg_wal/00000002.history', $c->data_dir . '/pg_wal/') or die $!;
$c->start;
$c->wait_log(qr/this standby has replayed WAL that node "b" never had/, $offset);
is($c->ask('SELECT pg_is_wal_replay_paused()'), 't', 'replay is paused');
cmp_ok($c->ask("SELECT pg_wal_lsn_diff('$ahead', pg_last_wal_replay_lsn())"), '<=', 8192,
	'it went to the end of what it had (else nothing is proven)');

# What b writes from now on passes that position.
$b->safe_psql('postgres',
	"SELECT count(pg_logical_emit_message(false, 'x', repeat('z', 1000))) FROM generate_series(1, 5000)");
$b->safe_psql('postgres', "INSERT INTO writes VALUES (-1, 1)");
# (whether c receives it depends on how soon replay was paused)
wait_until('c has heard how far b is',
	sub { $c->ask("SELECT pg_wal_lsn_diff(lsn, '$ahead') > 1000000 FROM leasehold.nodes WHERE node = 'b'") eq 't' });
is($c->ask("SELECT pg_wal_lsn_diff('$ahead', pg_last_wal_replay_lsn()) >= 0"), 't',
	'and replays nothing on top of what it has');
is($c->ask('SELECT count(*) FROM writes WHERE client = -1'), '0', '... no row');
$c->set_conf('leasehold.priority' => undef);
my ($state, $answer) = $c->try("SELECT leasehold.acquire(timeout => '300ms', force => true)");
isnt($state, '', 'it does not take the lease, by force neither') or diag $answer;
$b->kill_all;
wait_until('it says why it does not take over',
	sub { $c->status->{reason} =~ /which is not in the history/ });
is($c->holds ? 1 : 0, 0, 'nor when it is the last one');

done_testing();
