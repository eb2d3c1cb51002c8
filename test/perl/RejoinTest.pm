# Pairs of a primary and its standbys, with a store, for the tests of
# leasehold-rejoin.
#
# Takeovers are done by hand: the standby is promoted, and the lease's row is
# written, by the test.  What the program promises does not depend on how the
# holder came to be.

package RejoinTest;

use strict;
use warnings;

use Cwd qw(abs_path);
use Exporter qw(import);
use Digest::SHA;
use FindBin;
use File::Find qw(find);
use IPC::Run ();
use LeaseholdTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(start_store store in_store held_by timeline new_pair govern
  promote write_alone $alone rejoin rejoin_again digest_of place data dirname_of make_own own_files
  is_standby_of slot_of);

# ---------------------------------------------------------------------------
# The store: three members, which are databases of one server
# ---------------------------------------------------------------------------

my @members = map { "leasehold_store$_" } '', 2, 3;
my ($store, $store_connstr);

sub store { return $store; }

sub start_store
{
	delete $ENV{PGDATA};
	$ENV{PGDATABASE} = 'postgres';
	$store = LeaseholdTest::Node->member('store');
	$store->init_store($_) foreach @members[ 1, 2 ];

	my $id = $store->safe_psql('postgres',
		"SELECT system_identifier || '/1' FROM pg_control_system()");
	my $list = 'lineage;' . join(',',
		map { in_store('SELECT store_id FROM leasehold_store.store', $_) . "/$id" } @members);
	in_store("UPDATE leasehold_store.store SET generation = 1, settled = true, members = '$list'");
	$store_connstr = join('; ', map { $store->connstr($_) } @members);
	return;
}

sub in_store
{
	my ($sql, @databases) = @_;
	my $answer;
	$answer = $store->safe_psql($_, $sql) foreach @databases ? @databases : @members;
	return $answer;
}

# The lease's row, as a holder would have written it.
my $epoch = 0;
sub held_by
{
	my ($pair, $holder, %options) = @_;
	my $name     = ref $holder ? $holder->{leasehold_name} : $holder;
	my $timeline = $options{timeline} // (ref $holder ? timeline($holder) : 1);
	my $kind     = $options{kind} // 'physical';
	my $sysid    = $options{sysid} // '';
	my @databases = @{ $options{members} // \@members };

	$epoch++;
	in_store(<<SQL, @databases);
	INSERT INTO leasehold_store.lease (name, holder, incarnation, epoch, version, nonce, ttl_ms,
		frozen, reserved_for, request_seq, ttl_wanted_ms, pause_wanted, handover_to, answer, kind,
		scope, system_identifier, timeline, timeline_begin, timeline_epoch, holder_lsn, sync_set, ready_seq, dropped)
	VALUES ('$pair->{lease}', '$name', 1, $epoch, 1, 1, 3600000,
		false, '', 0, 3600000, false, '', '', '$kind',
		'instance', '$sysid', $timeline, '', 0, '', '', 0, false)
	ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, epoch = excluded.epoch,
		version = lease.version + 1, kind = excluded.kind,
		system_identifier = excluded.system_identifier, timeline = excluded.timeline;
SQL
	in_store(<<SQL, @databases) if ref $holder;
	INSERT INTO leasehold_store.node (name, incarnation, beat, advertise, role, lsn, timeline, priority, version)
	VALUES ('$name', 1, 1, '@{[ $holder->connstr ]}', 'primary', '', 1, 100, '')
	ON CONFLICT (name) DO UPDATE SET advertise = excluded.advertise;
SQL
	return;
}

# That of a primary.
sub timeline
{
	my ($node) = @_;
	return hex $node->safe_psql('postgres',
		'SELECT substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)');
}

# ---------------------------------------------------------------------------
# Pairs of a primary and its standbys
# ---------------------------------------------------------------------------

my $pairs = 0;

# The role for peers, with the rights that the documentation gives it.
sub documented_role
{
	my $page = slurp_file("$FindBin::RealBin/../../docs/rejoin.md");
	my ($sql) = $page =~ /^```\n(CREATE ROLE leasehold_peer .*?)^```/ms or die 'docs/rejoin.md has no role';
	return $sql;
}

# 18 has them on unless told otherwise, and others do not know that option.
sub checksums
{
	my ($wanted) = @_;
	my ($version) = qx{pg_config --version} =~ /(\d+)/;

	return $wanted ? ['--data-checksums'] : $version >= 18 ? ['--no-data-checksums'] : [];
}

# Options: hints => 0, checksums => 1, standbys => 2, conf => TEXT
sub new_pair
{
	my (%options) = @_;
	my $n     = ++$pairs;
	my $pair  = { lease => "lease$n" };
	my $hints = ($options{hints} // 1) ? 'on' : 'off';
	my $a     = LeaseholdTest::Node->node(
		"p${n}a",
		node_name => "p$n-a",
		store     => $store_connstr,
		lease     => $pair->{lease},
		init      => { allows_streaming => 1, extra => checksums($options{checksums}) },
		conf      => <<CONF . ($options{conf} // ''));
wal_log_hints = $hints
autovacuum = off
wal_keep_size = 256MB
leasehold.peer_options = 'user=leasehold_peer'
# who writes is decided by this test
leasehold.fence = off
CONF
	$pair->{a} = $a;
	$a->start;
	$a->safe_psql('postgres', <<SQL);
	CREATE TABLE t (who text, i int);
	INSERT INTO t SELECT 'before', i FROM generate_series(1, 1000) i;
SQL
	$a->safe_psql('postgres', documented_role());
	$a->backup('copy');
	foreach my $which ('b', $options{standbys} ? 'c' : ())
	{
		my $s = LeaseholdTest::Node->new("p$n$which");
		$s->init_from_backup($a, 'copy', has_streaming => 1);
		$s->{leasehold_name} = "p$n-$which";
		# no leasehold in here: it would ask for the lease
		$s->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''") unless $which eq 'c';
		$s->adjust_conf('postgresql.conf', 'leasehold.node_name', "'p$n-$which'");
		$s->append_conf('postgresql.conf', "cluster_name = 'p$n-$which'");
		$s->append_conf('postgresql.auto.conf', "primary_conninfo = '" . $a->connstr . " application_name=p$n-$which'");
		$s->start;
		$pair->{$which} = $s;
		$a->wait_for_catchup("p$n-$which");
	}
	# nothing governs it while it is primary by hand
	$pair->{governed} = "leasehold.lease = '$pair->{lease}'\n";
	return $pair;
}

# The lease is named once the server is down.
sub govern
{
	my ($pair, $node) = @_;
	$node->append_conf('postgresql.conf', $pair->{governed});
	return;
}

sub promote
{
	my ($node) = @_;
	$node->promote;
	# as if a slot was kept for each member
	$node->safe_psql('postgres', "SELECT pg_create_physical_replication_slot('$_') WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '$_')") foreach @_[ 1 .. $#_ ];
	return;
}

# Writes that the group will never see: transactions of the kinds that there are.
# 5 commit, with 27 rows in, 3 changed, 2 out.
sub write_alone
{
	my ($node) = @_;
	$node->safe_psql('postgres', $_) foreach
	  "INSERT INTO t SELECT 'alone', i FROM generate_series(1, 10) i",
	  "BEGIN; INSERT INTO t VALUES ('alone', 11); SAVEPOINT s; INSERT INTO t VALUES ('alone', 12);
	   RELEASE s; SAVEPOINT s2; INSERT INTO t VALUES ('alone', 13); ROLLBACK TO s2; COMMIT",
	  "BEGIN; INSERT INTO t SELECT 'never', i FROM generate_series(1, 5) i; ROLLBACK",
	  "UPDATE t SET i = -i WHERE who = 'before' AND i IN (1, 2, 3)",
	  "DELETE FROM t WHERE who = 'before' AND i IN (4, 5)",
	  "COPY t FROM PROGRAM 'seq -f \"alone %.0f\" 15' WITH (DELIMITER ' ')";
	return;
}
our $alone = qr/27 rows inserted, 3 updated, 2 deleted/;

# ---------------------------------------------------------------------------
# Running the program, and looking at a directory
# ---------------------------------------------------------------------------

sub rejoin
{
	my ($node, @options) = @_;
	my ($out, $err) = ('', '');

	unshift @options, '-D', data($node) unless grep { $_ eq '-D' } @options;
	IPC::Run::run([ 'leasehold-rejoin', '--timeout=10', @options ], '>', \$out, '2>', \$err);
	my $code = $? & 127 ? 128 + ($? & 127) : $? >> 8;
	note("leasehold-rejoin @options: $code\n$out$err");
	return { code => $code, out => $out, err => $err };
}

# After a run that was killed: what it had started holds its lock a moment longer.
sub rejoin_again
{
	my (@arguments) = @_;
	my $run;

	wait_until('the killed run is gone',
		sub { $run = rejoin(@arguments); $run->{err} !~ /another leasehold-rejoin is at work/ });
	return $run;
}

sub digest_of
{
	my (@paths) = @_;
	my $sha = Digest::SHA->new(256);

	find({
			no_chdir => 1,
			preprocess => sub { sort @_ },
			wanted => sub {
				$sha->add($_, "\0", join(' ', (lstat $_)[ 2, 7, 9 ]), "\0");
				$sha->add(slurp_file($_)) if -f $_;
			} }, @paths);
	return $sha->hexdigest;
}

# The whole place: data directory and what may be put beside it.
sub data  { return abs_path($_[0]->data_dir) // $_[0]->data_dir; }
sub place { return dirname_of(abs_path($_[0]->basedir) . '/x'); }
sub dirname_of { my ($path) = @_; $path =~ s{/[^/]+$}{}; return $path; }

my @own = ('postgresql.conf', 'pg_hba.conf', 'pg_ident.conf', 'conf.d/own.conf', 'server.key', 'leasehold.state');

# Files of its own that the holder does not have, or has in its own way.
sub make_own
{
	my ($node, $text) = @_;
	my $dir = $node->data_dir;

	mkdir "$dir/conf.d";
	append_to_file("$dir/conf.d/own.conf", "# of $text\n");
	append_to_file("$dir/server.key", "key of $text\n");
	append_to_file("$dir/leasehold.state", "state of $text\n") unless -f "$dir/leasehold.state";
	append_to_file("$dir/pg_hba.conf", "# of $text\n");
	mkdir "$dir/log";
	append_to_file("$dir/log/old.log", "log of $text\n");
	return;
}

sub own_files
{
	my ($node) = @_;
	return { map { $_ => slurp_file($node->data_dir . "/$_") } @own };
}

# It runs, follows, and has what the holder has.
sub is_standby_of
{
	my ($node, $holder, $what) = @_;

	$node->start_again;
	is($node->safe_psql('postgres', 'SELECT pg_is_in_recovery()'), 't', "$what: it is a standby");
	$holder->safe_psql('postgres', "INSERT INTO t VALUES ('after', 1)");
	$holder->wait_for_catchup($node->{leasehold_name});
	my $rows = 'SELECT count(*), sum(hashtext(t::text)::bigint) FROM t';
	is($node->safe_psql('postgres', $rows), $holder->safe_psql('postgres', $rows), "$what: it has the holder's rows");
	is($node->safe_psql('postgres', "SELECT count(*) FROM t WHERE who IN ('alone', 'never')"),
		0, "$what: and none that the holder never had");
	return;
}

sub slot_of
{
	my ($node) = @_;
	# the same as test/unit/test_names.c guards
	my $name = $node->{leasehold_name};
	my $hash = 2166136261;
	$hash = (($hash ^ ord) * 16777619) & 0xffffffff foreach split //, $name;
	(my $plain = $name) =~ tr/a-z0-9_/_/c;
	return sprintf('leasehold_%s_%08x', $plain, $hash);
}

1;
