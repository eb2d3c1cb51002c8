# Prepared transactions outlive sessions, leases and servers.  In a group of
# independent nodes only the epoch that prepared one commits it; in a physical
# group any epoch does, as long as the lease is held.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use FenceTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $fence = FenceTest->new('a');
my $node  = $fence->node;

$fence->open;
$node->safe_psql('postgres', 'CREATE TABLE t (id integer)');

my $next = 0;

sub prepare
{
	my $id = ++$next;
	$node->safe_psql('postgres', "BEGIN; INSERT INTO t VALUES ($id); PREPARE TRANSACTION 'x$id'");
	return $id;
}

sub is_there
{
	my ($id, $expected, $name) = @_;
	is($node->safe_psql('postgres', "SELECT count(*) FROM t WHERE id = $id"), $expected, $name);
	return;
}

my $id = prepare();
$fence->allowed("COMMIT PREPARED 'x$id'", 'independent: COMMIT PREPARED under the epoch that prepared it');
is_there($id, 1, 'it is committed');

$id = prepare();
$fence->allowed("ROLLBACK PREPARED 'x$id'", 'independent: ROLLBACK PREPARED under the epoch that prepared it');

$id = prepare();
$fence->close;
$fence->refused("COMMIT PREPARED 'x$id'", qr/cannot execute COMMIT PREPARED: this node does not hold lease "main"/, 'without the lease: COMMIT PREPARED');
$fence->refused("ROLLBACK PREPARED 'x$id'", qr/cannot execute ROLLBACK PREPARED: this node does not hold lease "main"/, 'without the lease: ROLLBACK PREPARED');
$fence->reopen;
$fence->allowed("COMMIT PREPARED 'x$id'", 'independent: the same epoch, held on');

$id = prepare();
$fence->open;
$fence->refused("COMMIT PREPARED 'x$id'", qr/cannot execute COMMIT PREPARED: transaction "x$id" was prepared under another epoch of lease "main"/,
	'independent: another epoch');
is_there($id, 0, 'it is not committed');
$fence->allowed("ROLLBACK PREPARED 'x$id'", 'independent: it can be rolled back');

# the same name again, under the epoch of now
$node->safe_psql('postgres', "BEGIN; INSERT INTO t VALUES ($id); PREPARE TRANSACTION 'x$id'");
$fence->allowed("COMMIT PREPARED 'x$id'", 'a name used again');

# a table full of names, some of them given back
my @ids = map { prepare() } 1 .. 10;
$fence->allowed("COMMIT PREPARED 'x$_'", 'one of as many as there can be') foreach @ids[ 0 .. 4 ];
push @ids, map { prepare() } 1 .. 5;
$fence->allowed("COMMIT PREPARED 'x$_'", 'and another') foreach @ids[ 5 .. 14 ];

# a restart: the epoch that the new run acquires is another one
$id = prepare();
$fence->restart;
$fence->open;
$fence->refused("COMMIT PREPARED 'x$id'", qr/was prepared under another epoch/, 'independent: after a restart');
$fence->allowed("ROLLBACK PREPARED 'x$id'", 'independent: after a restart it can be rolled back');
$id = prepare();
$fence->restart('immediate');
$fence->open;
$fence->refused("COMMIT PREPARED 'x$id'", qr/was prepared under another epoch/, 'independent: after a crash');
$fence->call('physical(true)');
$fence->allowed("COMMIT PREPARED 'x$id'", 'physical: any epoch');
is_there($id, 1, 'it is committed');

$id = prepare();
$fence->open;
$fence->allowed("COMMIT PREPARED 'x$id'", 'physical: another epoch');
$id = prepare();
$fence->close;
$fence->refused("COMMIT PREPARED 'x$id'", qr/does not hold lease "main"/, 'physical: not without the lease');
$fence->refused("ROLLBACK PREPARED 'x$id'", qr/does not hold lease "main"/, 'physical: nor back');
$fence->open;
$fence->allowed("ROLLBACK PREPARED 'x$id'", 'physical: back, with the lease');

# what fails leaves no flag raised
{
	my $session = $fence->session;
	is($session->query(q{COMMIT PREPARED 'nothing'}), 'E:42704 Z', 'COMMIT PREPARED of what is not there');
	like($fence->call('session(' . $session->pid . ')'), qr/^\(f,f,f,\d+\)$/, 'leaves no flag raised');
	$session->disconnect;
}

$fence->stop;
done_testing();
