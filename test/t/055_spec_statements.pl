# The isolation specs show what becomes of the store's statements when two of them
# meet.  They have to be the statements that the library sends: one that changed
# in the library only would go on being tested as it was.

use strict;
use warnings;

use File::Basename qw(basename);
use PostgreSQL::Test::Utils;
use Test::More;

my $library = qx{"$ENV{PG_CONFIG}" --pkglibdir};
chomp $library;
my $text = slurp_file("$library/leasehold.so");

sub squeezed
{
	my ($sql) = @_;
	$sql =~ s/\s+/ /g;
	$sql =~ s/^ | $//g;
	return $sql;
}

foreach my $spec (sort glob('test/isolation/specs/*.spec'))
{
	my %statement = slurp_file($spec) =~ /PREPARE (\w+) AS\s+(.*?);/gs;

	isnt(scalar keys %statement, 0, basename($spec) . ' prepares statements');
	foreach my $name (sort keys %statement)
	{
		# a whole string of the library, not a part of one
		my $sql = squeezed($statement{$name});
		ok(index($text, "\0$sql\0") >= 0, basename($spec) . ": $name is what the library sends") or diag($sql);
	}
}

# and their tables those of the store
my $schema = slurp_file('leasehold-store.sql') =~ s/^--.*\n//mgr;
my @tables = map { squeezed($_) } $schema =~ /(CREATE TABLE .*?;)/gs;
# those of reports, outages and mail have no part in the protocol
@tables = grep { /^CREATE TABLE leasehold_store\.(?:store|lease|node|history) / } @tables;
is(scalar @tables, 4, 'the protocol has four tables');
foreach my $spec (sort glob('test/isolation/specs/*.spec'))
{
	my $specified = squeezed(slurp_file($spec));

	ok(!(grep { index($specified, $_) < 0 } @tables), basename($spec) . ': its tables are those of the store');
}
done_testing();
