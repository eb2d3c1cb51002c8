# Two servers, then three, each with a copy of twenty tables, each table with a lease
# of its own and a writer on every node that tries without a pause.  Tables are moved
# at random, processes are ended and stopped, and whole servers die and come back.
#
# When a server dies another one takes its tables, without the rows that were not on
# their way yet.  They are late, not lost: the server comes back with its disk and
# sends them.  By then its successor has written rows of its own, and not one of those
# may bear the number of a late one, or the subscriptions stop in both directions.  So
# in the end nothing that was acknowledged is missing, whoever died when; no number
# was given out twice, no two nodes acknowledged writes of one table in each other's
# time, and all copies are the same.
#
# LEASEHOLD_SEED=N repeats the choices of a run (not its timing); LEASEHOLD_NODES=3
# runs one size alone.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use LeaseholdTest;
use TablesRounds;
use TablesTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{LEASEHOLD_SEED} // int(rand(1 << 30));
srand($seed);
note("LEASEHOLD_SEED=$seed");

my @tables = map { "t$_" } 1 .. 20;
my $seconds = soak(12, 600);

foreach my $n (split /,/, $ENV{LEASEHOLD_NODES} // '2,3')
{
	my $group = TablesTest->new(
		nodes => [ ('a' .. 'c')[ 0 .. $n - 1 ] ], tables => \@tables, ttl => '2s',
		# the refusals fill the log without that
		conf => 'log_min_error_statement = panic');

	$group->leases(@tables);
	my $rounds = TablesRounds->new($group, rate => 12, retry => 50, moves => 0.08, servers => 1);
	$rounds->begin;
	do { $rounds->round } until clock_now() > $rounds->{began} + $seconds * 1e9 && $rounds->{ended} > 1;
	$rounds->rest;
	my $figures = $rounds->judge;
	cmp_ok($figures->{takeovers}, '>=', soak(10, 300), "$n nodes: the tables did change hands");
	cmp_ok($rounds->{ended}, '>=', soak(2, 50), "$n nodes: servers did die");
	$rounds->can_go_anywhere(@tables[ 0 .. soak(1, 19) ]);
	$_->stop foreach $group->nodes, $group->members;
}
done_testing();
