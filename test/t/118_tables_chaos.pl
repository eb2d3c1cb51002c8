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
use TablesRounds;
use TablesTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{LEASEHOLD_SEED} // int(rand(1 << 30));
srand($seed);
note("LEASEHOLD_SEED=$seed");

my @tables = qw(t1 t2 t3);
my $group = TablesTest->new(nodes => [ 'a', 'b', 'c' ], tables => \@tables, ttl => '2s');

$group->leases(@tables);
my $rounds = TablesRounds->new($group, rate => 100, moves => 0.6);
$rounds->begin;
$rounds->round foreach 1 .. soak(25, 250);
$rounds->rest;
$rounds->judge;
$rounds->can_go_anywhere(@tables);

$_->stop foreach $group->nodes, $group->members;
done_testing();
