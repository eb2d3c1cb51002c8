# A primary and two standbys under load: it is killed, its postmaster is killed,
# its keeper stops, it is shut down, it hands over; at random, again and again.
# Whoever was the primary comes back as a standby, after pg_rewind.
#
# Over all: no acknowledgement after the next one's first, and nothing that was
# acknowledged is missing but what the faults explain.  With zero_loss, nothing.
#
# LEASEHOLD_SEED=N repeats the choices of a run (not its timing).
# LEASEHOLD_ZERO_LOSS=off|on picks what leasehold.zero_loss is; a soak does both.

use strict;
use warnings;

use LeaseholdTest;
use List::Util qw(shuffle);
use Test::More;
use Time::HiRes qw(usleep);

my $ttl = 1;
my $rounds = soak(8, 50);
my $seed = $ENV{LEASEHOLD_SEED} || time ^ $$;
srand $seed;
note "LEASEHOLD_SEED=$seed";

# An answer that is there may have to wait for a processor to be read.
my $slack = 100;

# How far the standbys of this machine may be behind.
my $lag = 0.5e9;

my $group;

sub others { my ($not) = @_; return grep { $_ != $not } $group->nodes; }

my %count;

my %befall = (
	kill => sub { $_[0]->kill_all },
	postmaster => sub { $_[0]->kill_postmaster },
	# it writes on until its deadline, and may be heard by nobody
	keeper => sub { $_[0]->freeze('keeper') },
	shutdown => sub { $_[0]->stop('fast') },
	switchover => sub {
		my ($old, $target) = @_;
		# (a target that gets no processor in time does not take it)
		wait_until("$target->{leasehold_name} is handed the lease", sub {
				my ($state) = $target->try("SELECT leasehold.switchover('$target->{leasehold_name}')");
				$count{'switchover in vain'}++ if $state ne '';
				$state eq '' });
	});

# Of these nothing may be missing.
my %planned = (shutdown => 1, switchover => 1);

# A standby has every acknowledged write: who takes over is settled.
sub wait_covered
{
	my ($holder) = @_;
	wait_until("$holder->{leasehold_name} knows who has every acknowledged write", sub {
			$holder->ask('SELECT zero_loss FROM leasehold.status') =~ /^[abc]$/ });
	return;
}

# The standby that was not chosen may have got what the chosen one had not, and
# nobody was told of: then it is rewound.
sub follow
{
	my ($standby, $new, $began) = @_;
	my $cannot = qr/forked off current database system timeline/;
	my $lsn = $new->ask('SELECT pg_current_wal_flush_lsn()');

	wait_until("$standby->{leasehold_name} follows, or cannot", sub {
			$standby->log_since($began) =~ $cannot
			  || $new->ask("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND replay_lsn >= '$lsn' AND application_name = '$standby->{leasehold_name}'") eq '1' });
	if ($standby->log_since($began) =~ $cannot)
	{
		$standby->stop('fast');
		$standby->rejoin($new);
	}
	return;
}

sub run_rounds
{
	my ($zero_loss) = @_;

	$group = LeaseholdTest->new(
		kind  => 'physical',
		nodes => [ 'a', 'b', 'c' ],
		ttl   => "${ttl}s",
		conf  => "wal_keep_size = 512MB\nleasehold.zero_loss = $zero_loss");
	my $writer = $group->start_writer('multi', connections => 4, epoch => 1, rate => 100, retry => 20);

	# When something befell the holder, and when the next one held the lease.
	my @faults;
	%count = ();
	my $began = clock_now();

	# each of them once, then by chance
	my @what = shuffle(sort keys %befall);
	foreach my $round (1 .. $rounds)
	{
		my $old = $group->wait_holder;
		wait_covered($old) if $zero_loss eq 'on';
		my ($target) = (others($old))[int rand 2];
		my $what = shift @what // (sort keys %befall)[int rand keys %befall];

		$writer->wait_acks(100);
		usleep(int rand 300_000);
		my $since = clock_now();
		my %began = map { $_->{leasehold_name} => $_->log_offset } others($old);
		$befall{$what}->($old, $target);
		my $new = $group->wait_holder(not => $old);
		$writer->wait_acks(50);
		push @faults, [ $since - $lag, clock_now() ] unless $planned{$what} || $zero_loss eq 'on';
		$count{$what}++;

		my ($third) = grep { $_ != $old } others($new);
		follow($third, $new, $began{ $third->{leasehold_name} }) if $zero_loss eq 'on';
		$third->wait_streaming($new);
		$old->thaw;
		$old->stop('fast') if $old->alive;
		$old->rejoin($new);
		pass(sprintf "zero_loss $zero_loss, round %d, %s of %s: %s took over", $round, $what,
			$old->{leasehold_name}, $new->{leasehold_name});
	}

	my $holder = $group->wait_holder;
	$writer->stop;
	my $v = $group->judge($writer, on => $holder, slack => $slack, history => $group->history_file);
	is("$v->{late} $v->{conflicts} $v->{duplicates}", '0 0 0',
		"zero_loss $zero_loss, over all rounds: none late, no epoch given twice, none acknowledged double");

	# each one missing was acknowledged while a fault was at work
	my @unexplained = grep {
		my ($at) = @$_;
		!grep { $at >= $_->[0] && $at <= $_->[1] } @faults
	} @{ $v->{lost_writes} };
	is(scalar @unexplained, 0, "acknowledged and missing: $v->{missing}, all of them explained")
	  or diag map { "client $_->[1] seq $_->[2] at $_->[0]\n" } @unexplained;

	my $epochs = $group->store_query(
		q{SELECT count(*), count(DISTINCT epoch) FROM leasehold_store.history WHERE to_node <> ''});
	like($epochs, qr/^(\d+)\|\1$/, "the history is consistent: no epoch was given twice ($epochs)");
	my @rows = map { $_->ask('SELECT count(*), sum(seq) FROM writes') } $group->wait_holder;
	foreach my $standby (others($holder))
	{
		$standby->wait_streaming($holder);
		is($standby->ask('SELECT count(*), sum(seq) FROM writes'), $rows[0],
			"$standby->{leasehold_name} has what the primary has");
	}
	note sprintf('zero_loss %s, %d rounds in %.0f s: %d acknowledged, %d missing, longest gap %.0f ms; %s',
		$zero_loss, $rounds, (clock_now() - $began) / 1e9, $v->{acks}, $v->{missing}, $v->{gap_ms},
		join(', ', map { "$_ $count{$_}" } sort keys %count));
	$_->stop foreach $group->nodes, $group->members;
	return;
}

run_rounds($_) foreach $ENV{LEASEHOLD_ZERO_LOSS} || soak('off', 'off on') =~ /\w+/g;

done_testing();
