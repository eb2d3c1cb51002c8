# Causes of broken paths that lie in what kind of group it is: standbys, members of the
# store, names that have to be quoted.  And whoever asks for what there is not.

use strict;
use warnings;

use CausesTest;
use LeaseholdTest;
use PostgreSQL::Test::Utils;
use Test::More;

# ---------------------------------------------------------------------------
# Names that mean something else where they are not quoted
# ---------------------------------------------------------------------------

my $pair = CausesTest->new(user => q{all "O'Hara", \\x}, database => q{my db's: $HOME});
my ($a, $b) = ($pair->a, $pair->b);
my ($store) = $pair->{group}->members;
my ($role, $database) = map { '"' . s/"/""/gr . '"' } $pair->user, $pair->database;
my $line = 'host ' . $pair->hba_names . ' 127.0.0.1/32';

$pair->cases(
	{   name => 'names to be quoted: pg_hba.conf says nothing of it',
		make => sub { $pair->set_hba('host all nobody 127.0.0.1/32 trust') },
		seen => 'authenticate no_hba',
	},
	{   name => 'names to be quoted: pg_hba.conf rejects it',
		make => sub { $pair->set_hba('host all all all reject') },
		seen => 'authenticate hba_rejects',
	},
	{   name => 'names to be quoted: no password is known',
		make => sub { $pair->write_passfile(undef) },
		seen => 'authenticate no_password',
		run_on => 'a',
	},
	{   name => 'names to be quoted: no such role',
		make => sub { $pair->on_b("DROP ROLE $role") },
		seen => 'authenticate wrong_password',
	},
	{   name => 'names to be quoted: the role may not log in',
		make => sub { $pair->on_b("ALTER ROLE $role NOLOGIN") },
		seen => 'authenticate no_login',
	},
	{   name => 'names to be quoted: no such database',
		make => sub { $pair->on_b("DROP DATABASE $database WITH (FORCE)") },
		seen => 'session no_database',
	},
	{   name => 'names to be quoted: no right to connect',
		make => sub { $pair->on_b("REVOKE CONNECT ON DATABASE $database FROM PUBLIC") },
		seen => 'session no_connect',
	},
	{   name => 'names to be quoted: no right to use the function',
		make => sub { $pair->on_b('REVOKE EXECUTE ON FUNCTION leasehold.identity() FROM PUBLIC', $pair->database) },
		seen => 'ready no_privilege',
	});

# ---------------------------------------------------------------------------
# A node that holds the lease takes what is written as it is
# ---------------------------------------------------------------------------

$a->safe_psql('postgres', "SELECT leasehold.switchover('b')");
$pair->{group}->wait_holder($b);
$pair->case(
	name  => 'a holder: the role may not log in',
	make  => sub { $pair->psql($b, "ALTER ROLE $role NOLOGIN") },
	seen  => 'authenticate no_login',
	first => qr/^ALTER ROLE/);

# ---------------------------------------------------------------------------
# Who may ask, and for what
# ---------------------------------------------------------------------------

my @functions = qw(diagnose remedies repair);

foreach my $function (@functions)
{
	my @wrong = (
		[ "'nope'", '42704', qr/node or member "nope" does not exist.*Known are .*"a".*"b"/s ],
		[ "'b', 'nope'", '42704', qr/node "nope" does not exist.*Known are .*"a".*"b"/s ],
		[ "''", '42704', qr/Known are/ ],
		[ "repeat(U&'\\00e9', 300)", '42704', qr/Known are/ ],
		[ "'b', repeat(U&'\\00e9', 300)", '42704', qr/Known are/ ],
		[ "'b', '127.0.0.1'", '42704', qr/Known are/ ],
		[ "'b', 'b'", '22023', qr/Source and target are both "b"/ ],
		[ "'a', 'a'", '22023', qr/Source and target are both "a"/ ],
		[ "'a'", '22023', qr/Source and target are both "a"/ ],
		[ 'NULL', '22004', qr/must not be null/ ],
		[ 'NULL, NULL', '22004', qr/must not be null/ ]);

	foreach my $case (@wrong)
	{
		my ($arguments, $wanted, $words) = @$case;
		foreach my $encoding ('UTF8', 'LATIN1')
		{
			my ($state, $text) = $a->try(
				"SET client_encoding = '$encoding'; SELECT * FROM leasehold.$function($arguments)");
			is($state, $wanted, "$function($arguments) in $encoding: SQLSTATE");
			like($text, $words, '... and what it says');
		}
	}
	is(($a->try("SELECT * FROM leasehold.$function('b', NULL)"))[0], '', "$function('b', NULL): from here");
	is(($a->try("SELECT * FROM leasehold.$function('a', 'b')"))[0], '', "$function('a', 'b'): from there");
}
is($a->ask("SELECT count(*) FROM leasehold.remedies('b')"), 0, 'a path that stands needs no remedy');
is($a->ask("SELECT count(*) FROM leasehold.repair('b')"), 0, 'nor a repair');

$b->safe_psql('postgres', "CREATE ROLE watcher LOGIN IN ROLE pg_monitor");
$b->safe_psql('postgres', "CREATE ROLE anybody LOGIN");
foreach (
	[ watcher => 'diagnose', '' ], [ watcher => 'remedies', '' ], [ watcher => 'repair', '42501' ],
	map { [ anybody => $_, '42501' ] } @functions)
{
	my ($who, $function, $wanted) = @$_;
	is(($b->try("SET ROLE $who; SELECT * FROM leasehold.$function('a')"))[0], $wanted,
		"$who calls $function(): " . ($wanted || 'may'));
}

$store->safe_psql('postgres', 'CREATE EXTENSION leasehold');
foreach my $function (@functions, 'identity')
{
	foreach my $arguments ($function eq 'identity' ? '' : ("'b'", 'NULL', "'b', 'b'"))
	{
		my ($state, $text) = $store->try("SELECT * FROM leasehold.$function($arguments)");
		is($state, '55000', "$function($arguments) without the library");
		like($text, qr/HINT: .*shared_preload_libraries = 'leasehold'/, '... says what to add');
	}
}
$pair->find_no_secret;
unlike($_->log_since(0), qr/terminated by signal|PANIC|TRAP/, $_->name . ': no process crashed') foreach $a, $b, $store;
$_->stop foreach $a, $b;

# ---------------------------------------------------------------------------
# A member of the store
# ---------------------------------------------------------------------------

my $lone = LeaseholdTest->new(
	nodes     => ['m'],
	members   => 0,
	store     => 'host=127.0.0.1 port=' . $store->port . ' dbname=its user=storer',
	extension => 0,
	conf      => "leasehold.probe_interval = '100ms'\nleasehold.probe_timeout = '700ms'\n"
	  # for peers, of which there are none
	  . "leasehold.peer_options = 'passfile=/nonexistent/file'\n");
my ($m) = $lone->nodes;
$m->safe_psql('postgres', 'CREATE EXTENSION leasehold');
my $member = CausesTest->member($lone, $m, $store, user => 'storer', database => 'its');
my $label  = $member->{target};

# What a node does with its store works.
sub serves
{
	my ($state, $text) = $m->try("SELECT leasehold.create_lease('some'); SELECT leasehold.drop_lease('some')");
	is($state, '', '... and serves') or diag $text;
	is($store->safe_psql('its', "SELECT count(*) FROM (VALUES ('node'), ('history'), ('report'), ('outage'), ('mail')) t (t)
		WHERE NOT has_table_privilege('storer', 'leasehold_store.' || t, 'DELETE')"),
		0, '... and can be kept tidy');
	return;
}

$member->cases(
	{   name   => 'a member: no such role',
		make   => sub { },
		seen   => 'authenticate no_role',
		first  => qr/^CREATE ROLE "storer" LOGIN;$/,
		run_on => $label,
		# the second operation is for a store that is not there yet
		may_fail => qr/^\\connect "its"/,
		then   => ['session no_database'],
		mended => \&serves,
	},
	{   name   => 'a member: no right in the store',
		make   => sub { $store->safe_psql('its', 'REASSIGN OWNED BY storer TO CURRENT_USER') },
		seen   => 'ready no_store_privilege',
		first  => qr/^\\connect "its"\nGRANT USAGE/,
		run_on => $label,
		mended => \&serves,
	},
	{   name   => 'a member: no store',
		make   => sub {
			$store->safe_psql('its', 'DROP SCHEMA leasehold_store CASCADE; GRANT CREATE ON DATABASE its TO storer');
		},
		seen   => 'ready no_store',
		first  => qr/leasehold-store\.sql/,
		run_on => 'm',
		mended => \&serves,
	},
	{   name   => 'a member: pg_hba.conf says nothing of it',
		make   => sub { $member->set_hba },
		seen   => 'authenticate no_hba',
		first  => qr/SHOW hba_file/,
		run_on => $label,
		# it asks for a password now, of which there is none
		then   => ['authenticate no_password'],
		mended => sub { like(slurp_file("$ENV{HOME}/.pgpass"), qr/:storer:/, '... by a file of its own') },
	});
$_->stop foreach $m, $store;

# ---------------------------------------------------------------------------
# Streaming standbys: what has to be written is written on the holder
# ---------------------------------------------------------------------------

my $group = LeaseholdTest->new(
	kind  => 'physical',
	nodes => [ 'a', 'b' ],
	ttl   => '2s',
	conf  => "leasehold.probe_interval = '100ms'\nleasehold.probe_timeout = '700ms'\nlisten_addresses = '127.0.0.1'\n");
my ($primary, $standby) = $group->nodes;

$primary->safe_psql('postgres', 'CREATE ROLE probe LOGIN');
$primary->safe_psql('postgres', 'CREATE DATABASE app');
$primary->safe_psql('app', 'CREATE EXTENSION leasehold');
$standby->wait_streaming($primary);
my $stream = CausesTest->new(group => $group);
$stream->psql($primary, '\password probe');

$stream->cases(
	{   name  => 'a standby: pg_hba.conf says nothing of it',
		make  => sub { $stream->set_hba },
		seen  => 'authenticate no_hba',
		first => qr/'host app probe 127.0.0.1\/32 scram-sha-256'/,
	},
	{   name   => 'a standby: no such role',
		make   => sub {
			$stream->set_hba('host app probe 127.0.0.1/32 trust');
			$stream->psql($primary, 'DROP ROLE probe');
		},
		seen   => 'authenticate no_role',
		first  => qr/^CREATE ROLE "probe" LOGIN;$/,
		run_on => 'a',
	},
	{   name   => 'a standby: no right to connect',
		make   => sub { $stream->psql($primary, 'REVOKE CONNECT ON DATABASE app FROM PUBLIC') },
		seen   => 'session no_connect',
		first  => qr/^GRANT CONNECT/,
		run_on => 'a',
	},
	{   name    => 'a standby that takes no sessions',
		make    => sub {
			$standby->append_conf('postgresql.conf', 'hot_standby = off');
			$standby->restart;
		},
		seen    => 'session no_standby_sessions',
		first   => qr/\nhot_standby = on$/,
		restart => 1,
	},
	{   name    => 'a standby: the server is down',
		make    => sub { $standby->stop('immediate') },
		seen    => 'connect refused',
		verdict => 'target_down',
		first   => qr{/pg_ctl" start -D "\$D"},
	});
$stream->find_no_secret;

done_testing();
