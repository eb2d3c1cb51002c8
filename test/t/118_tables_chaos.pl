# Three servers, a mesh of subscriptions, tables that wander at random under load,
# several at a time, while processes are killed and stopped.
#
# Whatever happens short of the death of a server, no acknowledged row is lost, none
# exists twice, no number is given out twice, no two nodes acknowledge writes of one
# table in each other's time; and in the end all copies are the same, and every table
# can be moved.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use LeaseholdTest;
use TablesTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $seed = $ENV{LEASEHOLD_SEED} // int(rand(1 << 30));
srand($seed);
note("LEASEHOLD_SEED=$seed");

my @tables = qw(t1 t2 t3);
my $group = TablesTest->new(nodes => [ 'a', 'b', 'c' ], tables => \@tables, ttl => '2s');
my @nodes = $group->nodes;
my %lease = map { $_ => "l_$_" } @tables;

$group->lease($lease{$_}, $_) foreach @tables;
$group->wait_writer($_) foreach @tables;

sub pick { return $_[ int rand @_ ]; }

my %on;
foreach my $table (@tables)
{
	$on{$table} = [ map { $group->write($table, $_, connections => 1, rate => 100, reply_timeout => 5000) } @nodes ];
}

# One move, in the background: the answer does not matter, only what is written.
my @asking;
sub ask_move
{
	my ($table, $to) = @_;
	my $by = pick(@nodes);
	push @asking, LeaseholdTest::spawn('/dev/null', 'psql', '-X', '-q', '-d', $by->connstr('postgres'), '-c',
		"SELECT leasehold.switchover('$to->{leasehold_name}', '$lease{$table}', timeout => '10s')");
	return;
}

# What may befall a node: a process that ends, or stands still for a while.
my %harm = (
	opener => sub {
		kill 'TERM', $_ foreach $_[0]->pids(qr/leasehold opener/);
	},
	steward => sub { kill 'TERM', $_ foreach $_[0]->pids(qr/leasehold steward/); },
	keeper  => sub { kill 'TERM', $_ foreach $_[0]->pids(qr/leasehold keeper/); },
	apply   => sub { kill 'TERM', $_ foreach $_[0]->pids(qr/logical replication worker/); },
	sender  => sub { kill 'TERM', $_ foreach $_[0]->pids(qr/walsender/); },
	pause   => sub {
		my @pids = $_[0]->pids(pick(qr/leasehold keeper/, qr/leasehold opener/, qr/logical replication worker/));
		kill 'STOP', @pids;
		usleep(100_000 * (1 + int rand 30));
		kill 'CONT', @pids;
	},
	nothing => sub { },
);

my %done;
my $rounds = soak(25, 250);
foreach my $round (1 .. $rounds)
{
	my $what = pick(sort keys %harm);
	my $where = pick(@nodes);

	ask_move($_, pick(@nodes)) foreach grep { rand() < 0.6 } @tables;
	usleep(1000 * int rand 60);
	note("round $round: $what on " . $where->name);
	$harm{$what}->($where);
	$done{$what}++;
	usleep(1000 * int rand 400);
	waitpid($_, 0) foreach @asking;
	delete $LeaseholdTest::children{$_} foreach @asking;
	@asking = ();
}
note(join ', ', map { "$_ $done{$_}" } sort keys %done);

# It all comes to rest.
$group->wait_writer($_) foreach @tables;
foreach my $table (@tables)
{
	my $writer = $group->wait_writer($table);
	my ($k) = grep { $nodes[$_] == $writer } 0 .. $#nodes;
	$on{$table}[$k]->wait_acks(20);
}
$_->stop foreach map { @$_ } values %on;
$group->caught_up;
is($group->differences, '', 'all copies of all tables are the same');
is($group->doubled($_, 'id'), 0, "$_: no number was given out twice") foreach @tables;
foreach my $table (@tables)
{
	my $verdict = $group->judge_table($table, @{ $on{$table} });
	my %told;

	is($verdict->{late}, 0, "$table: no acknowledgement after the next holder had one");
	is($verdict->{conflicts}, 0, "$table: each under the epoch of its node");
	is($verdict->{missing}, 0, "$table: every acknowledged row exists");
	is($verdict->{duplicates}, 0, "$table: once");
	$told{$_}++ foreach map { keys %{ $_->outcomes } } @{ $on{$table} };
	is(join(' ', grep { !/^(?:ack|refused|lost|error:08...|error:57...)$/ } sort keys %told), '',
		"$table: clients were told of nothing worse than another writer or a lost connection");
	note(sprintf '%s: %d rows, %d takeovers', $table, $verdict->{acks}, scalar @{ $verdict->{takeovers} });
}
foreach my $node (@nodes)
{
	my @bad = $node->log_since(0) =~ /^(.*(?:duplicate key|TRAP|PANIC).*)$/mg;
	is("@bad[0 .. ($#bad > 2 ? 2 : $#bad)]", '', 'no conflict, no crash on ' . $node->name);
}

# Each table can still go anywhere.
foreach my $table (@tables)
{
	foreach my $to (@nodes)
	{
		my ($state, $message) = $group->move($lease{$table}, $to);
		is($state, '', "$table goes to " . $to->name) or diag($message);
	}
}

$_->stop foreach $group->nodes, $group->members;
done_testing();
