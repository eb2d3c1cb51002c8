# Before the tables of a lease are opened on a node, it has to have applied what
# the node that wrote them wrote, and its sequences have to be past all that was
# given out there.
#
# The test plays the keeper of b (which is stopped), towards the workers that see
# to this.  Nothing may wedge them: what cannot be had fails with its reason within
# a few seconds, and the next request is served as if nothing had been.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use LeaseholdTest;
use TablesTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $group = TablesTest->new(
	nodes  => [ 'a', 'b' ],
	store  => 0,
	tables => [ 't', 'u', 'lonely' ],
	setup  => <<'SQL');
CREATE SEQUENCE odd INCREMENT 2;
CREATE SEQUENCE down INCREMENT -1;
CREATE TABLE many (id serial, odd bigint DEFAULT nextval('odd'), down bigint DEFAULT nextval('down'), k int, PRIMARY KEY (k, id)) PARTITION BY LIST (k);
CREATE TABLE many_1 PARTITION OF many FOR VALUES IN (1);
CREATE TABLE many_2 PARTITION OF many FOR VALUES IN (2);
SQL
my ($a, $b) = $group->nodes;
my $epoch = 0;
my $seq = 0;

$group->install_asker($b);

sub prepare
{
	my ($lease, $from) = @_;
	$seq++;
	return $group->ask($b, "prepare('$lease', $seq, '$from')");
}

sub begin
{
	my ($lease, $from, $lsn, $wait, $address) = @_;
	$epoch++;
	$wait //= 10000;
	$address //= '';
	return $group->ask($b, "begin('$lease', $epoch, '$from', '$lsn', $wait, '$address')");
}

sub again { my ($lease, $from, $lsn) = @_; $epoch--; return begin($lease, $from, $lsn); }

# Where a would be when it has closed its fence.
sub flushed { return $group->flushed($a); }

sub next_value { my ($node, $name) = @_; return $node->safe_psql('postgres', "SELECT nextval('$name')"); }

sub by_size { return $main::a <=> $main::b; }

# ---------------------------------------------------------------------------
# No change comes back to where it was made
# ---------------------------------------------------------------------------
$a->safe_psql('postgres', 'INSERT INTO t (client, seq) SELECT 1, i FROM generate_series(1, 100) i; INSERT INTO many (k) SELECT 1 + i % 2 FROM generate_series(1, 10) i');
$group->caught_up;
$b->safe_psql('postgres', 'INSERT INTO u (client, seq) SELECT 2, i FROM generate_series(1, 100) i; UPDATE u SET seq = -seq');
$group->caught_up;
is($group->differences('t', 'u', 'many'), '', 'both directions: the copies are the same');
is($a->safe_psql('postgres', 'SELECT count(*) FROM t') . $b->safe_psql('postgres', 'SELECT count(*) FROM u'), '100100', 'with all rows, once');
ok($_->log_since(0) !~ /duplicate key|violates/, 'nothing came back to ' . $_->name) foreach $a, $b;

$b->safe_psql('postgres', q{SELECT openertest.protect('{postgres.public.t,postgres.public.u,postgres.public.many,absent.public.t}', '{one,two,many,absent}')});

my $page = slurp_file("$FindBin::RealBin/../../docs/tables.md");
like($page, qr/\Q$_\E/, "docs/tables.md says how: $_") foreach TablesTest::documented();

# ---------------------------------------------------------------------------
# Handed over
# ---------------------------------------------------------------------------
my ($state, $why, $ms) = prepare('one', 'a');
is("$state $why", 'ready ', 'a hand-over is prepared');
diag(sprintf 'prepared in %.1f ms by a new worker', $ms);
($state, $why, $ms) = begin('one', 'a', flushed());
is("$state $why", 'ready ', 'and the tables may be opened');
is(next_value($b, 't_id_seq'), 101, 'the sequence goes on where the other ended');

my @took;
foreach my $round (1 .. 21)
{
	prepare('one', 'a');
	$a->safe_psql('postgres', "SELECT setval('t_id_seq', 1000 * $round); INSERT INTO t (client, seq) VALUES (3, $round)");
	$group->caught_up($b);
	($state, $why, $ms) = begin('one', 'a', flushed());
	is($state, 'ready', "round $round: ready") or diag($why);
	is(next_value($b, 't_id_seq'), 1000 * $round + 2, 'the sequence too');
	push @took, $ms;
}
@took = sort by_size @took;
diag(sprintf 'opened in %.2f ms at the median, %.2f at most', $took[10], $took[-1]);
# (a processor may be busy elsewhere)
cmp_ok($took[5], '<=', 3, 'opened within 3 ms when all is applied');

# the keeper has lost the name meanwhile, of one that is new
prepare('one', 'a');
$a->safe_psql('postgres', q{SELECT setval('t_id_seq', 30000)});
($state, $why) = begin('one', '', flushed());
is("$state $why", 'ready ', 'handed over by one whose name is not known any more: ready');
is(next_value($b, 't_id_seq'), 30001, 'with the sequence that it was prepared with');

# never back, its own row of numbers, downward, and all partitions
$b->safe_psql('postgres', q{SELECT setval('many_id_seq', 5000), setval('odd', 2)});
$a->safe_psql('postgres', q{SELECT setval('odd', 777), setval('down', -55)});
($state, $why) = prepare('many', 'a');
is("$state $why", 'ready ', 'a partitioned table');
($state, $why) = begin('many', 'a', flushed());
is("$state $why", 'ready ', 'is opened');
is(next_value($b, 'many_id_seq'), 5001, 'a sequence that is further on stays');
is(next_value($b, 'odd'), 780, 'one of numbers of its own keeps to them');
is(next_value($b, 'down'), -56, 'one goes down');

# one that nobody has drawn from, and one at its end
$b->safe_psql('postgres', 'ALTER SEQUENCE many_id_seq RESTART; ALTER SEQUENCE odd MAXVALUE 900 RESTART');
$a->safe_psql('postgres', q{ALTER SEQUENCE many_id_seq RESTART; SELECT setval('odd', 1001)});
prepare('many', 'a');
($state, $why) = begin('many', 'a', flushed());
is("$state $why", 'ready ', 'again');
is(next_value($b, 'many_id_seq'), 1, 'one that nobody has drawn from begins at its beginning');
is(($b->try(q{SELECT nextval('odd')}))[0], '2200H', 'one that has no number left says so');
$b->safe_psql('postgres', 'ALTER SEQUENCE odd MAXVALUE 90000');

# ---------------------------------------------------------------------------
# What is not applied yet is waited for
# ---------------------------------------------------------------------------
{
	my $lock = $b->background_psql('postgres');
	prepare('one', 'a');
	$lock->query_safe('BEGIN; LOCK TABLE t');
	$a->safe_psql('postgres', 'INSERT INTO t (client, seq) VALUES (4, 1)');
	my $lsn = flushed();
	($state, $why) = begin('one', 'a', $lsn, 300);
	is($state, 'pending', 'the last row is not applied: not ready');
	# another lease does not wait for it
	prepare('many', 'a');
	($state, $why) = begin('many', 'a', '0/1');
	is($state, 'ready', 'another lease is, meanwhile');
	$epoch = 1000;
	begin('one', 'a', $lsn, 0);
	$lock->query_safe('COMMIT');
	($state, $why) = again('one', 'a', $lsn);
	is("$state $why", 'ready ', 'now it is applied, and it is ready');
	is($b->safe_psql('postgres', 'SELECT count(*) FROM t WHERE client = 4'), 1, 'with the row');

	$lock->query_safe('BEGIN; LOCK TABLE t');
	$a->safe_psql('postgres', 'INSERT INTO t (client, seq) VALUES (4, 2)');
	$lsn = flushed();
	($state, $why, $ms) = begin('one', 'a', $lsn);
	is($state, 'failed', 'it is not waited for without end');
	like($why, qr{^subscription "from_a" has applied up to \S+ of \Q$lsn\E$}, 'the reason says how far it has come');
	cmp_ok($ms, '<', 8000, 'some seconds');
	$lock->query_safe('COMMIT');
	$lock->quit;
}

# ---------------------------------------------------------------------------
# What does not do
# ---------------------------------------------------------------------------
($state, $why) = prepare('two', 'c');
is("$state: $why", 'failed: no subscription here brings table public.u from node "c"', 'from a node that brings nothing');
($state, $why) = prepare('two', 'a');
is($state, 'ready', 'asked again, from the right one');

$b->safe_psql('postgres', 'ALTER SUBSCRIPTION from_a DISABLE');
wait_until('the apply worker is gone', sub { $b->ask('SELECT count(*) FROM pg_stat_subscription WHERE pid IS NOT NULL') eq '0' });
($state, $why) = prepare('two', 'a');
is("$state: $why", 'failed: subscription "from_a", which brings table public.u, is disabled', 'a disabled subscription');
($state, $why, $ms) = begin('two', 'a', flushed());
is($state, 'failed', 'nor are tables opened by it');
$b->safe_psql('postgres', 'ALTER SUBSCRIPTION from_a ENABLE');
$group->caught_up($b);
is((prepare('two', 'a'))[0], 'ready', 'enabled again');

# a table that came later, and is not part of any subscription
$_->safe_psql('postgres', 'CREATE TABLE late (id serial PRIMARY KEY)') foreach $a, $b;
$b->safe_psql('postgres', q{SELECT openertest.protect('{postgres.public.t,postgres.public.u,postgres.public.many,absent.public.t,postgres.public.late,postgres.public.none}', '{one,two,many,absent,late,none}')});
($state, $why) = prepare('late', 'a');
is("$state: $why", 'failed: no subscription here brings table public.late from node "a"', 'a table without a subscription');
is((prepare('none', 'a'))[0], 'ready', 'a table that is not here needs nothing');
is((prepare('empty', 'a'))[0], 'ready', 'nor does a lease without tables');
($state, $why, $ms) = begin('late', 'b', flushed());
is($state, 'ready', 'who wrote them itself need not be brought anything');
($state, $why, $ms) = prepare('absent', 'a');
is("$state: $why", "failed: the worker that was to see to it ended before its time: see the server's log", 'a database that is not here');
cmp_ok($ms, '<', 3000, 'is found out soon');

# a worker that ends half-way
{
	my $lock = $b->background_psql('postgres');
	prepare('one', 'a');
	$lock->query_safe('BEGIN; LOCK TABLE t');
	$a->safe_psql('postgres', 'INSERT INTO t (client, seq) VALUES (5, 1)');
	my $lsn = flushed();
	begin('one', 'a', $lsn, 0);
	$b->safe_psql('postgres', q{SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE backend_type = 'leasehold opener'});
	($state, $why, $ms) = again('one', 'a', $lsn);
	is($state, 'failed', 'its worker ends half-way: failed');
	cmp_ok($ms, '<', 3000, 'soon');
	$lock->query_safe('COMMIT');
	$lock->quit;
	($state, $why, $ms) = begin('one', 'a', $lsn);
	is("$state $why", 'ready ', 'asked again, without having been prepared: ready');
	diag(sprintf 'opened in %.1f ms by a new worker', $ms);
}

# the steward starts anew and finds a worker that it has not started
{
	prepare('one', 'a');
	my $steward = $b->worker('steward');
	kill 'TERM', $steward;
	wait_until('another steward', sub { $b->worker('steward') != $steward });
	is((begin('one', 'a', flushed()))[0], 'ready', 'after a restart of the steward');
	is($b->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'leasehold opener'}), 1, 'with one worker');
}

# ---------------------------------------------------------------------------
# What is committed here, and nobody can see yet
# ---------------------------------------------------------------------------
# The commit of an apply worker notes how far it has come before its rows are seen.
# From 16 on (as a rule from 18 on), a large transaction has a worker of its own,
# which notes it in the name of the one that receives the changes.
$_->safe_psql('postgres', 'CREATE TABLE plain (id int PRIMARY KEY, filler text)') foreach $a, $b;
$b->safe_psql('postgres', 'ALTER SUBSCRIPTION from_a REFRESH PUBLICATION WITH (copy_data = false)');
$b->safe_psql('postgres', q{SELECT openertest.protect('{postgres.public.t,postgres.public.u,postgres.public.many,absent.public.t,postgres.public.late,postgres.public.none,postgres.public.plain}', '{one,two,many,absent,late,none,plain}')});
$a->safe_psql('postgres', q{ALTER SYSTEM SET logical_decoding_work_mem = '64kB'; SELECT pg_reload_conf()});

# Large enough to be sent before it is over.
sub large { return "INSERT INTO plain SELECT i, repeat('x', 100) FROM generate_series($_[0], $_[0] + 4999) i"; }

foreach my $streaming ('off', $b->safe_psql('postgres', 'SHOW server_version_num') < 160000 ? () : 'parallel')
{
	my $worker = $streaming eq 'off' ? '<>' : '=';
	$b->safe_psql('postgres', "ALTER SUBSCRIPTION from_a SET (streaming = $streaming, synchronous_commit = on)");
	$a->safe_psql('postgres', 'TRUNCATE plain');
	$group->caught_up($b);
	is((prepare('plain', 'a'))[0], 'ready', "streaming = $streaming: prepared");
	# the commit is in the WAL, and waits for a standby that is not there
	$b->safe_psql('postgres', q{ALTER SYSTEM SET synchronous_standby_names = 'nobody'});
	$b->reload;
	my ($lsn) = $a->safe_psql('postgres', large(1) . '; SELECT pg_current_wal_insert_lsn()');
	wait_until('the apply worker is in its commit',
		sub { $b->ask("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'logical replication%' AND wait_event = 'SyncRep' AND backend_type $worker 'logical replication parallel worker'") eq '1' });
	is($b->ask(q{SELECT bool_or(pg_replication_origin_progress('pg_' || oid, false) >= '} . $lsn . q{') FROM pg_subscription WHERE subname = 'from_a'}), 't', 'applied, by what the server says');
	($state, $why) = begin('plain', 'a', $lsn, 300);
	is("$state: $why", 'pending: ', 'but nobody sees it: not ready');
	is($b->ask('SELECT count(*) FROM plain'), 0, 'not a row');
	$b->safe_psql('postgres', 'ALTER SYSTEM RESET synchronous_standby_names');
	$b->reload;
	($state, $why) = again('plain', 'a', $lsn);
	is("$state $why", 'ready ', 'ready');
	is($b->ask('SELECT count(*) FROM plain'), 5000, 'with all rows');
}
{
	# one that goes on for long is nobody's concern
	my $long = $a->background_psql('postgres');
	$long->query_safe('BEGIN; ' . large(10001));
	my $counts = $a->ask("SELECT spill_count + stream_count FROM pg_stat_replication_slots WHERE slot_name = 'to_b'");
	$long->query_safe(large(20001));
	wait_until('a part of it has been decoded', sub { $a->ask(qq{SELECT spill_count + stream_count > $counts FROM pg_stat_replication_slots WHERE slot_name = 'to_b'}) eq 't' });
	wait_until('and is being applied', sub { $b->ask(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'logical replication parallel worker' AND backend_xid IS NOT NULL}) eq '1' })
	  if $b->safe_psql('postgres', 'SHOW server_version_num') >= 160000;
	prepare('one', 'a');
	$a->safe_psql('postgres', 'INSERT INTO t (client, seq) VALUES (7, 1)');
	($state, $why, $ms) = begin('one', 'a', flushed());
	is("$state $why", 'ready ', 'a large transaction that is not over keeps nobody');
	is($b->ask('SELECT count(*) FROM t WHERE client = 7'), 1, 'what was committed meanwhile is here');
	$long->query_safe('COMMIT');
	$long->quit;
	$group->caught_up($b);
	is($group->differences('plain'), '', 'nor is it lost');
}
$b->safe_psql('postgres', 'ALTER SUBSCRIPTION from_a SET (streaming = off, synchronous_commit = off)');
$a->safe_psql('postgres', 'ALTER SYSTEM RESET logical_decoding_work_mem; SELECT pg_reload_conf()');
$group->caught_up($b);

# ---------------------------------------------------------------------------
# Sequences that cannot be read there
# ---------------------------------------------------------------------------
$a->safe_psql('postgres', 'CREATE ROLE weak LOGIN REPLICATION; GRANT SELECT ON ALL TABLES IN SCHEMA public TO weak');
my $connstr = $a->connstr . ' dbname=postgres';
$b->safe_psql('postgres', "ALTER SUBSCRIPTION from_a CONNECTION '$connstr user=weak password=sesame'");
$a->safe_psql('postgres', q{SELECT setval('t_id_seq', 60000); INSERT INTO t (client, seq) VALUES (6, 1)});
$group->caught_up($b);
my $offset = $b->log_offset;
is((prepare('one', 'a'))[0], 'ready', 'by a role that may not read sequences');
($state, $why) = begin('one', 'a', flushed());
is("$state $why", 'ready ', 'they are opened all the same');
is(next_value($b, 't_id_seq'), 60002, 'past what is stored');
like($b->log_since($offset), qr/sequences of lease "one" \(1\) are set by what is stored in their columns here.*\n.*permission denied for sequence t_id_seq/, 'which the log says, and why');

# ---------------------------------------------------------------------------
# Its holder released it, and ended
# ---------------------------------------------------------------------------
$a->safe_psql('postgres', q{SELECT setval('t_id_seq', 65000); INSERT INTO t (client, seq) VALUES (6, 2)});
$group->caught_up($b);
my $beyond = flushed();
$a->stop('fast');
my $last = $b->ask(q{SELECT pg_replication_origin_progress('pg_' || oid, false) FROM pg_subscription WHERE subname = 'from_a'});
wait_until('the opener has gone', sub { $b->ask(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'leasehold opener'}) eq '0' }, 30);
($state, $why) = begin('one', 'a', $last, 10000, 'host=' . $a->host . ' port=1');
like("$state: $why", qr/^failed: subscription "from_a" does not reach its publisher: /, 'nobody knows that this is the one');
($state, $why) = begin('one', 'a', $last, 10000, 'host=' . $a->host . ' port=' . $a->port);
is("$state $why", 'ready ', 'by its address it is known: what it wrote is here');
is(next_value($b, 't_id_seq'), 65002, 'and its numbers');
($state, $why, $ms) = begin('one', 'a', $beyond, 10000, 'host=' . $a->host . ' port=' . $a->port);
like("$state: $why", qr{^failed: subscription "from_a" does not run, and has applied up to \Q$last\E of \Q$beyond\E$}, 'what was written beyond that will not come any more');
cmp_ok($ms, '<', 3000, 'and is not waited for');
$a->start;
$group->caught_up($b);

# ---------------------------------------------------------------------------
# Its holder fell silent
# ---------------------------------------------------------------------------
$a->safe_psql('postgres', q{SELECT setval('t_id_seq', 70000); INSERT INTO t (client, seq) VALUES (6, 3)});
$group->caught_up($b);
$a->stop('immediate');
$offset = $b->log_offset;
($state, $why, $ms) = begin('one', 'a', '0/0');
is("$state $why", 'ready ', 'nobody is there to hand it over: opened');
cmp_ok($ms, '<', 1000, 'without delay');
is(next_value($b, 't_id_seq'), (1 << 22) + 2, 'sequences far past what is stored: what is late does not meet what is written now');
like($b->log_since($offset), qr/tables of lease "one" in database "postgres" are opened without the node that wrote them last\n.*DETAIL:  Node "a" last told position unknown. Subscription "from_a" has applied up to [0-9A-F]+\/[0-9A-F]+/,
	'the log says how far this node had come');
my $odd = next_value($b, 'odd');
($state, $why) = begin('many', '', '0/0');
is("$state $why", 'ready ', 'nobody ever held it: opened');
is(next_value($b, 'many_id_seq'), $b->safe_psql('postgres', 'SELECT max(id) + 1 FROM many'), 'just past what is stored: nothing can be late');
($state, $why) = begin('many', 'a', '0/0');
is("$state $why", 'ready ', 'the same of several sequences');
is(next_value($b, 'many_id_seq'), (1 << 19) - 64 + 2, 'the smaller the range, the smaller the margin');
is(next_value($b, 'down'), -(1 << 22) - 2, 'one goes down');
is(next_value($b, 'odd'), $odd + 2, 'one of a range too small for a margin goes on where it was');
($state, $why, $ms) = begin('absent', 'a', '0/0');
is("$state $why", 'ready ', 'a database that is not here keeps nobody');
($state, $why) = prepare('one', 'a');
is($state, 'failed', 'a hand-over from a node that is not there');
like($why, qr/^subscription "from_a" does not reach its publisher: /, 'says why');
unlike($b->log_since(0), qr/sesame/, 'no password in the log');
unlike($why, qr/sesame/, 'nor in the reason');

# none is left after a while
wait_until('the workers have gone',
	sub { $b->ask(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'leasehold opener'}) eq '0' }, 30);
$a->start;
$group->caught_up($b);
($state, $why) = prepare('one', 'a');
is("$state $why", 'ready ', 'a new worker comes when it is asked for');

$b->thaw;
$_->stop foreach $group->nodes;
done_testing();
