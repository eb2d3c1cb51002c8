# The main promise: whatever stops, and whenever it goes on again, once a second
# node has acknowledged a write the first one acknowledges nothing more.
#
# Clients write to both nodes without a pause, in every protocol that there is.
# In each round something at the holder stops at a moment of its own choosing:
# its keeper, some of its sessions, its postmaster, all of it; for about as long
# as a lease lasts, so that it often goes on just before, at, or just after its
# deadline.  Some rounds kill everything and start it again.  Some also stop the
# keeper of the other node, so that both wake up late.  A session that was
# stopped between its check and its answer, and goes on after the other node has
# written, must not give that answer.
#
# LEASEHOLD_SEED=N repeats the choices of a run (not its timing).

use strict;
use warnings;

use LeaseholdTest;
use Test::More;
use Time::HiRes qw(usleep);

my $ttl = 0.6;
my $rounds = soak(20, 200);
my $seed = $ENV{LEASEHOLD_SEED} || time ^ $$;
srand $seed;
note "LEASEHOLD_SEED=$seed";

# An answer that is there may have to wait for a processor to be read.  What was
# stopped is stopped for longer than this, as a rule.
my $slack = 100;

# test/t/117 does all this with a lease of the table instead of the instance's.
our $of_table;
my $group = LeaseholdTest->new(ttl => $ttl * 1000 . 'ms',
	$of_table ? (lease => 'of_table', governed => 0) : (),
	# A session that is stopped must be stopped by the fence, not by its end; and
	# it shall spend its time in commits, so that it is often stopped in one.
	conf => "leasehold.on_expiry = none\nfsync = on\ncommit_delay = 5000\ncommit_siblings = 1");
my ($a, $b) = $group->nodes;
if ($of_table)
{
	foreach my $node ($a, $b)
	{
		$node->safe_psql('postgres', "SELECT leasehold.join_lease('of_table')");
		$group->wait_holder;
	}
	$a->safe_psql('postgres', "SELECT leasehold.protect('writes', 'of_table')");
}
my @writers;
foreach my $node ($a, $b)
{
	push @writers, map {
		$group->start_writer($node, mode => $_, connections => 2, epoch => 1,
			rate => 150, depth => 4, retry => 20, $of_table ? (lease => 'of_table') : ())
	} qw(simple txn extended pipeline);
}

sub writers_of { my ($node) = @_; return grep { $_->{log} =~ /_$node->{leasehold_name}\.acks$/ } @writers; }
sub acks { my $n = 0; $n += $_->acks foreach @_; return $n; }

# What the logs have grown by since they were this long, for judge.
sub log_tails
{
	my (@lengths) = @_;
	my @tails;

	foreach my $writer (@writers)
	{
		my $tail = "$writer->{log}.round";

		open my $from, '<', $writer->log or die $!;
		seek $from, shift @lengths, 0;
		open my $to, '>', $tail or die $!;
		print $to $_ while <$from>;
		close $to;
		push @tails, $tail;
	}
	return \@tails;
}

# How long things stay stopped: mostly about as long as the lease lasts.
sub some_time
{
	return $ttl * (rand() < 0.7 ? 0.8 + rand(0.6) : 0.1 + rand(2.5));
}

my %count;
my $began = clock_now();

foreach my $round (1 .. $rounds)
{
	my $holder = $group->wait_holder;
	my ($other) = grep { $_ != $holder } $a, $b;

	wait_until('the holder writes', sub { acks(writers_of($holder)) }) if $round == 1;
	acks(@writers);
	my @lengths = map { $_->{position} } @writers;

	my $what = (qw(keeper backends backends+keeper postmaster all kill))[int rand 6];
	my $time = some_time();
	my $also = rand() < 0.2;

	usleep(int rand 200_000);
	$other->freeze('keeper') if $also;
	if ($what eq 'kill')
	{
		$holder->kill_all;
	}
	elsif ($what =~ /backends/)
	{
		my @backends = $holder->backends;

		# some of them, at least one
		my $n = 1 + int rand @backends;
		@backends = grep { defined } map { splice @backends, int rand @backends, 1 } 1 .. $n;
		$holder->freeze(@backends, $what =~ /keeper/ ? 'keeper' : ());
		# else the lease would not be lost
		$holder->freeze('keeper') if $what eq 'backends' && rand() < 0.5;
	}
	else
	{
		$holder->freeze($what);
	}
	usleep(int($time * 1e6));
	if ($also)
	{
		$other->thaw;
		usleep(int rand 300_000) if rand() < 0.5;
	}
	my $resumed = clock_now();
	if ($what eq 'kill') { $holder->start_again; }
	else                 { $holder->thaw; }

	# Whatever was under way has been answered, and somebody writes again.
	$_->wait_answered($resumed) foreach @writers;
	my $before = acks(@writers);
	wait_until("round $round, $what: somebody writes", sub { acks(@writers) > $before + 20 });

	my $v = LeaseholdTest::judge_logs(log_tails(@lengths), "--slack=$slack");
	$count{$what}++;
	is("$v->{late} $v->{conflicts}", '0 0',
		sprintf("round %d, %s of %s for %.2f s%s: nothing late",
			$round, $what, $holder->{leasehold_name}, $time,
			$also ? ', the other keeper stopped, too' : ''));
}

$group->wait_holder;
$_->stop foreach @writers;
unlink map { "$_->{log}.round" } @writers;
my $v = $group->judge(@writers, slack => $slack, history => $group->history_file);
is("$v->{late} $v->{conflicts} $v->{missing} $v->{duplicates}", '0 0 0 0',
	'over all rounds: none late, no epoch given twice, none lost, none double');
my $withheld = () = map { $_->log_since(0) =~ /not acknowledging a commit/g } $a, $b;
note sprintf("%d rounds in %.0f s: %d acknowledged, %d refused, %d lost, %d takeovers, %d answers withheld; %s",
	$rounds, (clock_now() - $began) / 1e9, $v->{acks}, $v->{refused}, $v->{lost},
	scalar @{ $v->{takeovers} }, $withheld, join(', ', map { "$_ $count{$_}" } sort keys %count));
cmp_ok(scalar @{ $v->{takeovers} }, '>=', $rounds / 5, 'the lease did change hands');

done_testing();
