=pod

=head1 NAME

TestModule - C functions that a test calls by SQL

=head1 SYNOPSIS

  use TestModule;

  $node->safe_psql('postgres', 'CREATE SCHEMA x; SET search_path = x; ' . module_sql('fencetest'));

=head1 DESCRIPTION

module_sql($name) builds the module of the folder test/$name, once, in a folder of
its own, and returns the SQL that makes its functions.

=cut

package TestModule;

use strict;
use warnings;

use Cwd qw(abs_path);
use Exporter qw(import);
use File::Basename qw(dirname);
use File::Copy qw(copy);
use IPC::Run ();
use PostgreSQL::Test::Utils;

our @EXPORT = qw(module_sql);

my $top = abs_path(dirname(__FILE__) . '/../..');
my %built;

sub build
{
	my ($name) = @_;
	my $dir = abs_path(PostgreSQL::Test::Utils::tempdir());
	my $pg_config = $ENV{PG_CONFIG} || 'pg_config';
	my $out = '';

	copy($_, $dir) foreach glob("$top/test/$name/*");
	IPC::Run::run(
		[ 'make', '-C', $dir, "PG_CONFIG=$pg_config", "PG_CPPFLAGS=-I$top/src" ],
		'>', \$out, '2>&1')
	  or die "cannot build the test module:\n$out";
	return "$dir/leasehold_$name";
}

sub module_sql
{
	my ($name) = @_;
	my $path = $built{$name} //= build($name);
	my $sql = slurp_file("$top/test/$name/leasehold_$name--1.0.sql");

	$sql =~ s/^\\echo.*$//m;
	$sql =~ s/MODULE_PATHNAME/$path/g;
	return $sql;
}

1;
