# leasehold.repair(apply => true): what a machine may mend, it mends, on the node
# where it has to be done, and only if that node allows it.

use strict;
use warnings;

use CausesTest;
use LeaseholdTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $pair = CausesTest->new;
my ($a, $b) = ($pair->a, $pair->b);
my $line = 'host app probe 127.0.0.1/32';

# What was done, a line for each operation, and the verdict in the end.
sub repair
{
	my ($node, $arguments) = @_;
	my $rows = $node->ask("SELECT string_agg(concat_ws('|', run_on, safe, done), E'\\n' ORDER BY seq)
		FROM leasehold.repair($arguments)");
	note $rows;
	return $rows;
}

sub allow { return $b->set_conf('leasehold.allow_repair' => $_[0]); }

# Each of the causes; what must be performed; and how all is as it was.
my @cases = (
	{   name => 'pg_hba.conf says nothing of it',
		make => sub { $pair->set_hba },
		seen => 'authenticate no_hba',
	},
	{   name => 'no such role',
		make => sub { $pair->set_hba("$line trust"); $pair->on_b('DROP ROLE probe') },
		seen => 'authenticate no_role',
		undo => sub { $pair->on_b("\\password probe\nREVOKE pg_monitor FROM probe") },
	},
	{   name => 'the role may not log in',
		make => sub { $pair->on_b('ALTER ROLE probe NOLOGIN') },
		seen => 'authenticate no_login',
	},
	{   name => 'no right to connect',
		make => sub { $pair->on_b('REVOKE CONNECT ON DATABASE app FROM PUBLIC') },
		seen => 'session no_connect',
		undo => sub { $pair->on_b("GRANT CONNECT ON DATABASE app TO PUBLIC;\nREVOKE CONNECT ON DATABASE app FROM probe") },
	},
	{   name => 'no extension in the database',
		make => sub {
			$pair->set_hba("$line scram-sha-256", 'host bare probe 127.0.0.1/32 trust');
			$pair->on_b('CREATE DATABASE bare');
			$a->set_conf('leasehold.peer_options' => $pair->peer_options('dbname=bare'));
		},
		seen => 'ready no_extension',
		undo => sub { $pair->on_b('DROP DATABASE bare WITH (FORCE)') },
	},
	{   name => 'no right to use the function',
		make => sub { $pair->on_b('REVOKE EXECUTE ON FUNCTION leasehold.identity() FROM PUBLIC', 'app') },
		seen => 'ready no_privilege',
		undo => sub {
			$pair->on_b("GRANT EXECUTE ON FUNCTION leasehold.identity() TO PUBLIC;\n"
				  . 'REVOKE pg_monitor FROM probe', 'app');
		},
	},
	# one beneath the other
	{   name => 'all at once',
		make => sub {
			$pair->on_b('REVOKE CONNECT ON DATABASE app FROM PUBLIC');
			$pair->on_b('ALTER ROLE probe NOLOGIN');
			$pair->set_hba;
		},
		seen => 'authenticate no_hba',
		done => 3,
		undo => sub { $pair->on_b("GRANT CONNECT ON DATABASE app TO PUBLIC;\nREVOKE CONNECT ON DATABASE app FROM probe") },
	},
);

foreach my $case (@cases)
{
	allow('off');
	$case->{make}->();
	$pair->end_sessions;
	$pair->wait_state_of("$case->{name}: it is seen", qr/^unreachable $case->{seen}$/);
	my $refused = repair($a, "'b', apply => true");
	like($refused, qr/^b\|t\|not performed: leasehold.allow_repair is off there$/m, '... refused where it is not allowed');
	unlike($refused, qr/\|performed/, '... and nothing is done');
	like(repair($a, "'b'"), qr/^b\|t$/m, '... without apply it is a list');
	allow('on');
	my $done = repair($a, "'b', apply => true");
	my @performed = $done =~ /^b\|t\|performed: /mg;
	cmp_ok(scalar(@performed), '>=', $case->{done} // 1, '... performed');
	like($done, qr/^a\|t\|stands: [^\n]*\z/m, '... and it stands');
	$pair->stands('afterwards');
	$pair->restore($case);
	$pair->stands_as_before("$case->{name}: as it was");
}

# What is for people is left to them.
allow('on');
$pair->set_hba("$line reject", "$line scram-sha-256");
$pair->end_sessions;
$pair->wait_state_of('it is rejected', qr/^unreachable authenticate hba_rejects$/);
my $hba = slurp_file($b->data_dir . '/pg_hba.conf');
my $left = repair($a, "'b', apply => true");
like($left, qr/not performed: it is left to people/, 'a line that rejects is not overruled');
unlike($left, qr/\|performed/, '... nothing is done');
is(slurp_file($b->data_dir . '/pg_hba.conf'), $hba, '... and the file is as it was');
$pair->restore({});
$pair->stands_as_before('it is let in again');

# The asked node mends itself at the wish of its own session, whatever it lets others do.
allow('off');
$pair->set_hba;
$pair->end_sessions;
$pair->wait_state_of('not let in', qr/^unreachable authenticate no_hba$/);
wait_until('b knows what a meets',
	sub { $b->ask("SELECT count(*) FROM leasehold.connectivity WHERE source = 'a' AND target = 'b' AND cause = 'no_hba'") eq '1' });
my $own = repair($b, "'b', source => 'a', apply => true");
like($own, qr/^b\|t\|performed: /m, 'b mends itself');
like($own, qr/stands: /, '... and asks a, which says that it stands');
$pair->stands('in the end');

done_testing();
