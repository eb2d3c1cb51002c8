# default_transaction_read_only as clients see it: "on" while the node is
# fenced, told at session start and with the next query after a change, in both
# directions; and the session's own value, wherever it came from and whatever
# was done to it meanwhile, is in force again once the lease is back.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use FenceTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $fence  = FenceTest->new('a');
my $node   = $fence->node;
my $signal = 'default_transaction_read_only';

# What the session was told last.
sub told { return $_[0]->parameter($signal); }

# What SHOW says, and whether a write is possible.
sub own
{
	my ($session) = @_;
	my ($shown) = $session->query("SHOW $signal") =~ /D:(\w+)/;
	my $wrote = $session->query('INSERT INTO t VALUES (1)') =~ /^C:INSERT/ ? 'writes' : 'reads';
	return "$shown, $wrote";
}

$fence->open;
$node->safe_psql('postgres', <<SQL);
CREATE TABLE t (id integer);
CREATE ROLE reader SUPERUSER LOGIN;
ALTER ROLE reader SET $signal = on;
CREATE DATABASE readonly;
ALTER DATABASE readonly SET $signal = on;
SQL

# at session start
$fence->close;
my $started = $fence->session;
is(told($started), 'on', 'fenced: told at session start');
is($node->safe_psql('postgres', 'SHOW transaction_read_only'), 'on', 'fenced: SHOW transaction_read_only says so');
is($node->safe_psql('postgres', "SELECT setting FROM pg_settings WHERE name = '$signal'"), 'on', 'fenced: so does pg_settings');
$fence->open;
my $session = $fence->session;
is(told($session), 'off', 'holder: told at session start');
is($node->safe_psql('postgres', 'SHOW transaction_read_only'), 'off', 'holder: SHOW transaction_read_only says so');

# with the next query, both ways
$started->query('SELECT 1');
is(told($started), 'off', 'taken: told with the next query');
$fence->close;
$session->query('SELECT 1');
is(told($session), 'on', 'lost: told with the next query');
$fence->open;
$session->query('BEGIN');
is(told($session), 'off', 'taken: told with the next query, here BEGIN');
$session->query('COMMIT');

# when nobody closes the fence, the deadline does
$fence->open(3000);
$session->query('SELECT 1');
is(told($session), 'off', 'before the deadline');
$node->safe_psql('postgres', 'SELECT pg_sleep(3.1)');
$session->query('SELECT 1');
is(told($session), 'on', 'after it');

# by the extended protocol
$fence->open;
$session->send($session->extended('SELECT 1'), S => '');
$session->until_ready;
is(told($session), 'off', 'told in the extended protocol');

# target_session_attrs of libpq
foreach ([ 'read-write', 'close', 0 ], [ 'read-only', 'close', 1 ], [ 'read-write', 'open', 1 ], [ 'read-only', 'open', 0 ])
{
	my ($attrs, $do, $expected) = @$_;
	$do eq 'open' ? $fence->open : $fence->close;
	my $code = $node->psql('postgres', 'SELECT 1', connstr => $node->connstr('postgres') . " target_session_attrs=$attrs");
	is($code == 0 ? 1 : 0, $expected, "libpq: $attrs, fence $do");
}

# The session's own value comes back, whatever it was and whatever happened.
sub comes_back
{
	my ($name, $expected, %how) = @_;
	$fence->open;
	my $session = $fence->session(%{ $how{session} || {} });
	$session->query($_) foreach @{ $how{before} || [] };
	$fence->close;
	$session->query('SELECT 1');
	is(told($session), 'on', "$name: fenced");
	foreach my $sql (@{ $how{fenced} || [] })
	{
		$session->query($sql);
		is(told($session), 'on', "$name: still told so after $sql");
	}
	$fence->open;
	$session->query($_) foreach @{ $how{after} || ['SELECT 1'] };
	is(own($session), $expected, "$name: own value again");
	is(told($session), $expected =~ /^on/ ? 'on' : 'off', "$name: told so");
	$session->disconnect;
	return;
}

comes_back('nothing set',  'off, writes');
comes_back('role',         'on, reads', session => { user => 'reader' });
comes_back('database',     'on, reads', session => { dbname => 'readonly' });
comes_back('startup',      'on, reads', session => { startup => { options => "-c $signal=on" } });
comes_back('startup, off against the role', 'off, writes', session => { user => 'reader', startup => { options => "-c $signal=off" } });
comes_back('SET before',   'on, reads', before => ["SET $signal = on"]);
comes_back('SET off before, against the role', 'off, writes', session => { user => 'reader' }, before => ["SET $signal = off"]);
comes_back('SET on while fenced', 'on, reads', fenced => ["SET $signal = on"]);
comes_back('SET off while fenced', 'off, writes', fenced => ["SET $signal = off"]);
comes_back('SET off while fenced, against the role', 'off, writes', session => { user => 'reader' }, fenced => ["SET $signal = off"]);
comes_back('RESET while fenced', 'on, reads', session => { user => 'reader' }, before => ["SET $signal = off"], fenced => ["RESET $signal"]);
comes_back('DISCARD ALL while fenced', 'off, writes', before => ["SET $signal = on"], fenced => ['DISCARD ALL']);
comes_back('SET rolled back while fenced', 'off, writes', fenced => [ 'BEGIN', "SET $signal = on", 'ROLLBACK' ]);
comes_back('SET off rolled back while fenced', 'on, reads', before => ["SET $signal = on"], fenced => [ 'BEGIN', "SET $signal = off", 'ROLLBACK' ]);
comes_back('SET LOCAL while fenced', 'off, writes', fenced => [ 'BEGIN', "SET LOCAL $signal = on", 'COMMIT' ]);
comes_back('SET LOCAL, then SET, in one transaction', 'on, reads', fenced => [ 'BEGIN', "SET LOCAL $signal = off", "SET $signal = on", 'COMMIT' ]);
comes_back('transaction across the loss, with SET, rolled back', 'off, writes', before => [ 'BEGIN', "SET $signal = on" ], fenced => ['ROLLBACK']);
comes_back('transaction across the loss, with SET LOCAL', 'off, writes', before => [ 'BEGIN', "SET LOCAL $signal = on" ], fenced => ['COMMIT']);
comes_back('a savepoint rolled back', 'off, writes', fenced => [ 'BEGIN', 'SAVEPOINT a', "SET $signal = on", 'ROLLBACK TO a', 'COMMIT' ]);

# a reload while fenced
{
	$fence->open;
	my $session = $fence->session;
	$fence->close;
	$session->query('SELECT 1');
	$node->append_conf('postgresql.conf', "$signal = on");
	$node->reload;
	$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_file_settings WHERE name = 'default_transaction_read_only' AND setting = 'on'});
	$session->query('SELECT 1');
	$fence->open;
	ok($node->poll_query_until('postgres', "SELECT boot_val = 'off' AND reset_val = 'on' FROM pg_settings WHERE name = '$signal'"), 'a reload changes the default');
	$session->query('SELECT 1') foreach 1 .. 2;
	is(own($session), 'on, reads', 'reload while fenced: the new default is in force');
	$session->disconnect;
}

# the source and the reset value are never ours
$fence->close;
is($node->safe_psql('postgres', "SELECT 1; SELECT source FROM pg_settings WHERE name = '$signal'"), "1\nconfiguration file", 'the source stays');
unlike(slurp_file($node->data_dir . '/postgresql.auto.conf'), qr/read_only/, 'nothing is written to a configuration file');

$fence->stop;
done_testing();
