# Two ordinary servers, each a full copy of the same tables by logical replication
# in both directions; each table has one writer, given by its lease.
#
# A table that is moved loses no row, and gets none twice; its clients wait for
# milliseconds, those of other tables not at all; its sequence goes on where the
# other ended.  A move that cannot be is refused with its reason, and nobody notices;
# one that turns out not to be possible half-way is undone.  When a node dies the
# other takes its tables, and says how much of them it has.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use LeaseholdTest;
use TablesTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my @tables = qw(t1 t2 t3);
my $group = TablesTest->new(nodes => [ 'a', 'b' ], tables => \@tables, ttl => '2s');
my ($a, $b) = $group->nodes;

$group->lease("l_$_", $_) foreach @tables;
$group->wait_writer($_, $a) foreach @tables;

sub by_size { return $main::a <=> $main::b; }

sub name { return $_[0]{leasehold_name}; }

# The bad things that a writer was told.  Not to be told of a commit that was
# under way when the fence closed is no such thing.
sub odd
{
	my @odd;
	foreach my $writer (@_)
	{
		push @odd, grep { !/^(?:ack|refused|lost)$/ } keys %{ $writer->outcomes };
	}
	return "@odd";
}

sub clean
{
	my ($verdict, $what) = @_;
	is($verdict->{late}, 0, "$what: no acknowledgement after the next holder had one");
	is($verdict->{conflicts}, 0, "$what: each under the epoch of its node");
	is($verdict->{missing}, 0, "$what: every acknowledged row exists");
	is($verdict->{duplicates}, 0, "$what: once");
	return;
}

# ---------------------------------------------------------------------------
# Who may write
# ---------------------------------------------------------------------------
is(($b->try('INSERT INTO t1 (client) VALUES (0)'))[0], '25006', 'b may not write what a holds');
is(($b->try('CREATE TABLE own (id int)'))[0], '', 'but what nobody protects');

# ---------------------------------------------------------------------------
# Moved under load
# ---------------------------------------------------------------------------
my %on = map { my $table = $_; ($table => [ map { $group->write($table, $_) } $a, $b ]) } @tables;
$on{$_}[0]->wait_acks(100) foreach @tables;
my $rounds = soak(12, 60);
my $failed = 0;
my $started = clock_now();
foreach my $round (1 .. $rounds)
{
	my ($from, $to) = $round % 2 ? ($a, $b) : ($b, $a);
	my ($state, $answer) = $group->move('l_t1', $to, by => $round % 3 ? $to : $from);

	$failed++, diag("round $round: $state $answer") if $state ne '';
	$on{t1}[ $to == $b ? 1 : 0 ]->wait_acks(50);
}
my $ended = clock_now();
is($failed, 0, "t1 has moved $rounds times");
is($group->store_query(q{SELECT count(*) FROM leasehold_store.history WHERE lease IN ('l_t2', 'l_t3')}), 2, 'and no other table');
$_->stop foreach map { @$_ } values %on;
$group->caught_up;
is($group->differences, '', 'both copies of all tables are the same');
my %verdict = map { $_ => $group->judge_table($_, @{ $on{$_} }) } @tables;
clean($verdict{$_}, $_) foreach @tables;
is(odd(map { @$_ } values %on), '', 'no writer met an error of another kind: no number was given out twice');
is($on{$_}[0]->outcomes->{refused} // 0, 0, "none of those of $_ was refused") foreach qw(t2 t3);
my @gaps = sort by_size map { $_->[2] } @{ $verdict{t1}{takeovers} };
is(scalar @gaps, $rounds, 'as many takeovers as moves');
diag(sprintf 'write gap of a table that is moved: median %.1f ms, longest %.1f ms; of others: %.1f ms at most',
	$gaps[ @gaps / 2 ], $gaps[-1], (sort by_size map { $verdict{$_}{gap_ms} } qw(t2 t3))[-1]);
# (a processor may be busy elsewhere)
cmp_ok($gaps[ @gaps / 4 ], '<=', 20, 'its clients wait for 20 ms');
ok($_->log_since(0) !~ /duplicate key|violates/, 'no change came back to ' . name($_)) foreach $a, $b;

# ---------------------------------------------------------------------------
# Refused, and the old holder goes on
# ---------------------------------------------------------------------------
%on = (t2 => [ map { $group->write('t2', $_) } $a, $b ]);
$on{t2}[0]->wait_acks(50);
my $epoch = $a->epoch('l_t2');
$b->safe_psql('postgres', 'ALTER SUBSCRIPTION from_a DISABLE');
wait_until('the apply worker is gone', sub { $b->ask('SELECT count(*) FROM pg_stat_subscription WHERE pid IS NOT NULL') eq '0' });
my ($state, $message) = $group->move('l_t2', $b);
is($state, '55000', 'a target whose subscription is disabled');
like($message, qr/subscription "from_a", which brings table public\.t2, is disabled/, 'is refused with its reason');
is($a->epoch('l_t2'), $epoch, 'the old holder goes on');
$b->safe_psql('postgres', 'ALTER SUBSCRIPTION from_a ENABLE');
$group->caught_up($b);

# half-way: what was written last cannot be applied there
{
	my $lock = $b->background_psql('postgres');
	$lock->query_safe('BEGIN; LOCK TABLE t2 IN SHARE MODE');
	$on{t2}[0]->wait_acks(5);
	my $began = clock_now();
	($state, $message) = $group->move('l_t2', $b, by => $a);
	is($state, '55000', 'a target that does not come to apply what was written last');
	diag("it says: $message");
	$group->wait_writer('t2', $a);
	my $took = (clock_now() - $began) / 1e9;
	$on{t2}[0]->wait_acks(20);
	cmp_ok($took, '<', 9, sprintf 'the old holder has it back (%.1f s)', $took);
	$lock->query_safe('COMMIT');
	$lock->quit;
}
($state, $message) = $group->move('l_t2', $b);
is($state, '', 'later it works') or diag($message);
$on{t2}[1]->wait_acks(50);
$_->stop foreach map { @$_ } values %on;
$group->caught_up;
is($group->differences('t2'), '', 'the copies are the same');
clean($group->judge_table('t2', @{ $on{t2} }), 't2');
is(odd(@{ $on{t2} }), '', 'no number was given out twice');

# ---------------------------------------------------------------------------
# A node dies
# ---------------------------------------------------------------------------
$group->wait_writer('t1');
$group->move("l_$_", $a) foreach @tables;
%on = map { $_ => [ $group->write($_, $a) ] } @tables;
$on{$_}[0]->wait_acks(20) foreach @tables;
$_->stop foreach map { @$_ } values %on;
$group->caught_up;
my $offset = $b->log_offset;
$a->kill_all;
$group->wait_writer($_, $b) foreach @tables;
my $log = $b->log_since($offset);
foreach my $table (@tables)
{
	like($log, qr/tables of lease "l_$table" in database "postgres" are opened without the node that wrote them last\n[^\n]*Node "a" last told position [0-9A-F]+\/[0-9A-F]+\. Subscription "from_a" has applied up to [0-9A-F]+\/[0-9A-F]+/,
		"$table: the log says what it had told, and how far the other has come");
}
my %then = map { $_ => $group->write($_, $b) } @tables;
$then{$_}->wait_acks(50) foreach @tables;
is(odd(values %then), '', 'b writes them, with numbers of its own');
$a->start_again;
$group->caught_up;
is($a->holds("l_$_"), 0, "a, come back, does not hold l_$_") foreach @tables;
is(($a->try('INSERT INTO t1 (client) VALUES (0)'))[0], '25006', 'nor may it write');
($state, $message) = $group->move('l_t1', $a);
is($state, '', 'it can be handed one') or diag($message);
$_->stop foreach values %then;
$group->caught_up;
is($group->differences, '', 'all copies are the same');

$_->stop foreach $group->nodes, $group->members;
done_testing();
