# Each cause for which a path between two nodes can fail, made on a real server: it
# is named, and the remedy, performed as its text stands, mends it.  TLS is in 097,
# packets that vanish have a test of their own.

use strict;
use warnings;

use CausesTest;
use LeaseholdTest;
use LeaseholdWire;
use PostgreSQL::Test::Utils;
use Test::More;

my $pair = CausesTest->new;
my ($a, $b) = ($pair->a, $pair->b);
my ($store) = $pair->{group}->members;
my $line = 'host app probe 127.0.0.1/32';
# b lives, and nobody else can tell more: whether it reaches a may have been tried yet
my $alive = 'one_direction|path_blocked|target_hidden';

sub advertise { return $b->set_conf('leasehold.advertise' => $_[0]); }
sub is_setting
{
	my ($name, $wanted) = @_;
	return is($b->ask("SHOW $name"), $wanted, "... $name");
}

# Sessions that take the slots, until they are let go of.
my @crowd;

sub crowd
{
	my ($n, %options) = @_;

	wait_until("$n more sessions",
		sub {
			my ($client) = LeaseholdWire->try_connect($b, %options);
			push @crowd, $client // ();
			$pair->end_sessions unless $client;
			@crowd >= $n;
		});
	return;
}

# What lets a server wait in recovery, until there is a file.
sub start_slowly
{
	$b->stop('fast');
	$b->append_conf('postgresql.conf',
		"restore_command = 'while ! [ -e go ]; do sleep 0.1; done; false'");
	append_to_file($b->data_dir . '/recovery.signal', '');
	system_or_bail('pg_ctl', '-W', '-D', $b->data_dir, '-l', $b->logfile, '-o', '--cluster-name=b', 'start');
	wait_until('it begins', sub { $b->postmaster_pid });
	$b->_update_pid(1);
	return;
}

my @cases = (
	# --- the way ---
	{   name    => 'the server is down',
		make    => sub { $b->stop('immediate') },
		seen    => 'connect refused',
		verdict => 'target_down',
		first   => qr{/pg_ctl" start -D "\$D"},
	},
	{   name    => 'it listens elsewhere',
		make    => sub { $b->set_conf('listen_addresses' => '127.0.0.2'); $b->restart },
		seen    => 'connect refused',
		verdict => $alive,
		first   => qr/^ALTER SYSTEM SET listen_addresses = '127.0.0.2, 127.0.0.1';$/,
		restart => 1,
	},
	{   name    => 'another port than it has',
		make    => sub { advertise('host=127.0.0.1 port=' . free_port()) },
		seen    => 'connect refused',
		verdict => $alive,
		first   => qr/^ALTER SYSTEM SET leasehold.advertise = 'host=127.0.0.1 port=@{[$b->port]}';/,
	},
	{   name    => 'no such socket',
		make    => sub { advertise('host=' . $a->basedir . ' port=' . $b->port) },
		seen    => 'connect no_socket',
		verdict => $alive,
		first   => qr/current_setting\('unix_socket_directories'\)/,
		mended  => sub { is_setting('leasehold.advertise', "host='" . $b->host . "' port=" . $b->port) },
	},
	{   name     => 'the host name does not resolve',
		make     => sub { advertise('host=nonesuch.invalid port=' . $b->port) },
		seen     => 'resolve no_address',
		verdict  => 'no_address',
		first    => qr/^getent hosts nonesuch.invalid$/,
		run_on   => 'a',
		may_fail => qr/^getent/,
		# its machine's address, where it does not listen, and by which nobody is let in
		then     => [ 'connect refused', 'authenticate no_hba' ],
		restart  => 1,
		skip     => qx{hostname -I} =~ /^\d/ ? 0 : 'this machine has no address',
	},
	{   name  => 'another node answers there',
		make  => sub { advertise('host=127.0.0.1 port=' . $a->port) },
		seen  => 'ready wrong_server',
		first => qr/^ALTER SYSTEM SET leasehold.advertise = 'host=127.0.0.1 port=@{[$b->port]}';/,
	},

	# --- the door ---
	{   name  => 'pg_hba.conf says nothing of it',
		make  => sub { $pair->set_hba },
		seen  => 'authenticate no_hba',
		first => qr/'host app probe 127.0.0.1\/32 scram-sha-256'/,
	},
	{   name  => 'pg_hba.conf rejects it',
		make  => sub { $pair->set_hba("$line reject", "$line scram-sha-256") },
		seen  => 'authenticate hba_rejects',
		first => qr/'host app probe 127.0.0.1\/32 scram-sha-256'/,
	},
	{   name  => 'no password is known',
		make  => sub { $pair->write_passfile(undef) },
		seen  => 'authenticate no_password',
		first => qr/127.0.0.1:@{[$b->port]}:app:probe:<password>/,
		run_on => 'a',
	},
	{   name  => 'the password is wrong',
		make  => sub { $pair->write_passfile($CausesTest::wrong) },
		seen  => 'authenticate wrong_password',
		first => qr/^SET leasehold.local_ddl = on;\n.*\\password "probe"$/s,
	},
	{   name  => 'no such role, and a password is asked for',
		make  => sub { $pair->on_b('DROP ROLE probe') },
		seen  => 'authenticate wrong_password',
		first => qr/^SET leasehold.local_ddl = on;\n.*CREATE ROLE/s,
	},
	{   name  => 'no such role',
		make  => sub { $pair->set_hba("$line trust"); $pair->on_b('DROP ROLE probe') },
		seen  => 'authenticate no_role',
		first => qr/^SET leasehold.local_ddl = on;\nCREATE ROLE "probe" LOGIN;$/,
		undo  => sub { $pair->on_b("\\password probe\nREVOKE pg_monitor FROM probe") },
	},
	{   name  => 'the role may not log in',
		make  => sub { $pair->on_b('ALTER ROLE probe NOLOGIN') },
		seen  => 'authenticate no_login',
		first => qr/^SET leasehold.local_ddl = on;\nALTER ROLE "probe" LOGIN;$/,
	},
	{   name  => 'a method that does not know it',
		make  => sub { $pair->set_hba("$line ident") },
		seen  => 'authenticate authentication',
		first => qr/'host app probe 127.0.0.1\/32 scram-sha-256'/,
	},

	# --- the session ---
	{   name  => 'no such database',
		make  => sub { $pair->on_b('DROP DATABASE app WITH (FORCE)') },
		seen  => 'session no_database',
		first => qr/^SET leasehold.local_ddl = on;\nCREATE DATABASE "app";$/,
	},
	{   name  => 'no right to connect',
		make  => sub { $pair->on_b('REVOKE CONNECT ON DATABASE app FROM PUBLIC') },
		seen  => 'session no_connect',
		first => qr/^SET leasehold.local_ddl = on;\nGRANT CONNECT ON DATABASE "app" TO "probe";$/,
		undo  => sub { $pair->on_b("GRANT CONNECT ON DATABASE app TO PUBLIC;\nREVOKE CONNECT ON DATABASE app FROM probe") },
	},
	{   name  => 'the database is closed',
		make  => sub { $pair->on_b('ALTER DATABASE app ALLOW_CONNECTIONS false') },
		seen  => 'session database_closed',
		first => qr/^SET leasehold.local_ddl = on;\nALTER DATABASE "app" ALLOW_CONNECTIONS true;$/,
	},
	{   name   => 'too many connections',
		make   => sub { $pair->on_b('CREATE ROLE crowd LOGIN'); $pair->end_sessions; crowd(13, user => 'crowd') },
		seen   => 'session too_many',
		first  => qr/pg_stat_activity/,
		mended => sub {
			is_setting('max_connections', 24);
			@crowd = ();
			crowd(13, user => 'crowd');
			$pair->stands('with as many others there');
		},
		undo    => sub { @crowd = (); $pair->on_b('DROP ROLE crowd') },
		restart => 1,
	},
	{   name  => 'too many connections of the role',
		make  => sub {
			$pair->on_b('ALTER ROLE probe CONNECTION LIMIT 1');
			$pair->end_sessions;
			crowd(1, user => 'probe', dbname => 'app');
		},
		seen  => 'session too_many_of_role',
		first => qr/^SET leasehold.local_ddl = on;\nALTER ROLE "probe" CONNECTION LIMIT -1;$/,
		undo  => sub { @crowd = () },
	},
	{   name  => 'too many connections to the database',
		make  => sub {
			$pair->on_b('ALTER DATABASE app CONNECTION LIMIT 1');
			$pair->end_sessions;
			crowd(1, dbname => 'app');
		},
		seen  => 'session too_many_of_role',
		first => qr/CONNECTION LIMIT -1;$/,
		undo  => sub { @crowd = () },
	},
	{   name   => 'the server is starting',
		make   => \&start_slowly,
		seen   => 'session starting',
		first  => qr/^until pg_isready/,
		run_on => 'a',
		during => sub {
			my ($run) = @_;
			ok($run->{handle}->pumpable, '... the remedy waits');
			append_to_file($b->data_dir . '/go', '');
		},
		undo => sub { unlink $b->data_dir . '/go' },
	},
	{   name   => 'the server is stopping',
		make   => sub {
			crowd(1);
			system_or_bail('pg_ctl', '-W', '-m', 'smart', '-D', $b->data_dir, 'stop');
		},
		seen   => 'session stopping',
		first  => qr/^D=.*kill -s 0/,
		during => sub { @crowd = () },
	},

	# --- behind the door ---
	{   name => 'the library is not preloaded',
		make => sub { $b->adjust_conf('postgresql.conf', 'shared_preload_libraries', undef); $b->restart },
		seen  => 'ready not_preloaded',
		first => qr/shared_preload_libraries/,
		restart => 1,
	},
	{   name  => 'a server without the library at the address',
		make  => sub { advertise('host=127.0.0.1 port=' . $store->port) },
		seen  => 'ready not_preloaded',
		first => qr/^ALTER SYSTEM SET leasehold.advertise = 'host=127.0.0.1 port=@{[$b->port]}';/,
	},
	{   name  => 'no extension',
		make  => sub {
			$pair->on_b('CREATE DATABASE bare');
			$pair->set_hba("$line scram-sha-256", $line =~ s/app/bare/r . ' scram-sha-256');
			append_to_file($pair->{passfile}, "*:*:bare:probe:$CausesTest::secret\n");
			$a->set_conf('leasehold.peer_options' => $pair->peer_options('dbname=bare'));
		},
		undo  => sub { $pair->on_b('DROP DATABASE bare WITH (FORCE)') },
		seen  => 'ready no_extension',
		first => qr/^\\connect "bare"\nSET leasehold.local_ddl = on;\nCREATE EXTENSION IF NOT EXISTS leasehold;/,
	},
	{   name  => 'no right to use the function',
		make  => sub { $pair->on_b('REVOKE EXECUTE ON FUNCTION leasehold.identity() FROM PUBLIC', 'app') },
		seen  => 'ready no_privilege',
		first => qr/^SET leasehold.local_ddl = on;\nGRANT pg_monitor TO "probe";$/,
		undo  => sub {
			$pair->on_b("GRANT EXECUTE ON FUNCTION leasehold.identity() TO PUBLIC;\n"
				  . "REVOKE EXECUTE ON FUNCTION leasehold.identity() FROM probe;\n"
				  . "REVOKE USAGE ON SCHEMA leasehold FROM probe;\nREVOKE pg_monitor FROM probe", 'app');
		},
	},
	{   name  => 'no right to use the schema',
		make  => sub { $pair->on_b('REVOKE USAGE ON SCHEMA leasehold FROM PUBLIC', 'app') },
		seen  => 'ready no_privilege',
		first => qr/^SET leasehold.local_ddl = on;\nGRANT pg_monitor TO "probe";$/,
		undo  => sub { $pair->on_b('GRANT USAGE ON SCHEMA leasehold TO PUBLIC', 'app') },
	},
);

# What a plain server has, beside the node.
$store->safe_psql('postgres', $_) foreach 'CREATE ROLE probe LOGIN', 'CREATE DATABASE app';

$pair->cases(@cases);
$pair->find_no_secret;

done_testing();
