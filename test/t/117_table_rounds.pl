# The main promise for a lease of a table: see test/t/041, which this is, with the
# table under a lease of its own on two instances that no lease governs.

use strict;
use warnings;

use FindBin;
use LeaseholdTest;			# now: it has a block that runs before the test

our $of_table = 1;
my $failed = !defined do "$FindBin::RealBin/041_rounds.pl";
die $@ if $failed && $@;
