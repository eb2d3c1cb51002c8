# leasehold-rejoin: a returning ex-primary becomes a standby of the present
# holder, keeps what is its own, and tells what the group never received.
#
# Takeovers are done by hand here: the standby is promoted, and the lease's row
# is written, by the test.  What the program promises does not depend on how
# the holder came to be.

use strict;
use warnings;

use Cwd qw(abs_path);
use Digest::SHA;
use File::Copy qw(copy);
use File::Find qw(find);
use File::Path qw(make_path remove_tree);
use IPC::Run ();
use LeaseholdTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

$ENV{PGDATABASE} = 'postgres';
delete $ENV{PGDATA};

# ---------------------------------------------------------------------------
# The store: three members, which are databases of one server
# ---------------------------------------------------------------------------

my @members = map { "leasehold_store$_" } '', 2, 3;
my $store = LeaseholdTest::Node->member('store');
$store->init_store($_) foreach @members[ 1, 2 ];

sub in_store
{
	my ($sql, @databases) = @_;
	my $answer;
	$answer = $store->safe_psql($_, $sql) foreach @databases ? @databases : @members;
	return $answer;
}

my $id = $store->safe_psql('postgres',
	"SELECT system_identifier || '/1' FROM pg_control_system()");
my $list = 'lineage;' . join(',', map { in_store('SELECT store_id FROM leasehold_store.store', $_) . "/$id" } @members);
in_store("UPDATE leasehold_store.store SET generation = 1, settled = true, members = '$list'");
my $store_connstr = join('; ', map { $store->connstr($_) } @members);

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
	INSERT INTO leasehold_store.lease VALUES ('$pair->{lease}', '$name', 1, $epoch, 1, 1, 3600000,
		false, '', 0, 3600000, false, '', '', '$kind', 'instance', '$sysid', $timeline, '', '', false)
	ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, epoch = excluded.epoch,
		version = lease.version + 1, kind = excluded.kind,
		system_identifier = excluded.system_identifier, timeline = excluded.timeline;
SQL
	in_store(<<SQL, @databases) if ref $holder;
	INSERT INTO leasehold_store.node VALUES ('$name', 1, 1, '@{[ $holder->connstr ]}', 'primary', '', 1, 100, '')
	ON CONFLICT (name) DO UPDATE SET advertise = excluded.advertise;
SQL
	return;
}

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
		init      => { allows_streaming => 1, extra => $options{checksums} ? ['-k'] : [] },
		conf      => <<CONF . ($options{conf} // ''));
wal_log_hints = $hints
autovacuum = off
wal_keep_size = 256MB
leasehold.peer_options = 'user=rejoiner'
# who writes is decided by this test
leasehold.fence = off
CONF
	$pair->{a} = $a;
	$a->start;
	$a->safe_psql('postgres', <<SQL);
	CREATE TABLE t (who text, i int);
	INSERT INTO t SELECT 'before', i FROM generate_series(1, 1000) i;
	-- what docs/rejoin.md says that the role needs
	CREATE ROLE rejoiner LOGIN REPLICATION;
	GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_dir(text, boolean, boolean) TO rejoiner;
	GRANT EXECUTE ON FUNCTION pg_catalog.pg_stat_file(text, boolean) TO rejoiner;
	GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_binary_file(text) TO rejoiner;
	GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean) TO rejoiner;
	GRANT pg_checkpoint TO rejoiner;
SQL
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
	$node->safe_psql('postgres', "SELECT pg_create_physical_replication_slot('$_')") foreach @_[ 1 .. $#_ ];
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
my $alone = qr/27 rows inserted, 3 updated, 2 deleted/;

# ---------------------------------------------------------------------------
# Running the program, and looking at a directory
# ---------------------------------------------------------------------------

sub rejoin
{
	my ($node, @options) = @_;
	my ($out, $err) = ('', '');

	unshift @options, '-D', $node->data_dir unless grep { $_ eq '-D' } @options;
	IPC::Run::run([ 'leasehold-rejoin', '--timeout=10', @options ], '>', \$out, '2>', \$err);
	my $code = $? & 127 ? 128 + ($? & 127) : $? >> 8;
	note("leasehold-rejoin @options: $code\n$out$err");
	return { code => $code, out => $out, err => $err };
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
sub place { return dirname_of($_[0]->data_dir); }
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

# ---------------------------------------------------------------------------
# Shut down in order: nothing to rewind
# ---------------------------------------------------------------------------
{
	my $pair = new_pair();
	my ($a, $b) = @$pair{ 'a', 'b' };

	$a->stop('fast');
	promote($b, slot_of($a));
	$b->safe_psql('postgres', "INSERT INTO t VALUES ('b', 1)");

	my $ungoverned = rejoin($a);
	is($ungoverned->{code}, 0, 'an instance that no lease governs may start');
	like($ungoverned->{out}, qr/No lease governs/, '... and is told why');
	ok(!-f $a->data_dir . '/standby.signal', '... as it is');

	govern($pair, $a);
	held_by($pair, $b);
	my $before = digest_of(place($a));
	my $dry = rejoin($a, '--dry-run');
	is($dry->{code}, 0, 'a dry run');
	like($dry->{out}, qr/would be made a standby of p1-b/, '... says what it would do');
	is(digest_of(place($a)), $before, '... and changes nothing');

	my $run = rejoin($a);
	is($run->{code}, 0, 'shut down in order: it may start');
	like($run->{out}, qr/starts as a standby of p1-b/, '... as a standby of the holder');
	unlike($run->{out} . $run->{err}, qr/rewind|never received/, '... without a rewind, and nothing is lost');
	is_standby_of($a, $b, 'shut down in order');
	is($b->safe_psql('postgres', 'SELECT slot_name FROM pg_replication_slots WHERE active'), slot_of($a), 'it streams from the slot of its name');
	my $running = rejoin($a);
	is($running->{code}, 3, 'a server that runs is left alone');
	like($running->{err}, qr/a server is running/, '... and it is said');

	$a->stop('fast');
	$before = digest_of(place($a));
	my $again = rejoin($a);
	is($again->{code}, 0, 'a standby of the holder may start');
	like($again->{out}, qr/Nothing to do: this is a standby of p1-b/, '... there is nothing to do');
	is(digest_of(place($a)), $before, '... and nothing is done');

	# nobody to follow: a standby starts all the same, a primary only its own timeline
	held_by($pair, '', timeline => 2);
	is(rejoin($a, '--wait=0')->{code}, 0, 'nobody holds: a standby may start');
	$store->stop('fast');
	my $down = rejoin($a, '--wait=0');
	is($down->{code}, 0, 'the store is down: a standby may start');
	like($down->{out}, qr/too few members of the store answer/, '... and is told');
	unlink $a->data_dir . '/standby.signal';
	my $primary = rejoin($a, '--wait=0');
	is($primary->{code}, 4, 'the store is down: what may be an ex-primary waits');
	$store->start;
	$b->stop('fast');
	held_by($pair, $b->{leasehold_name}, timeline => 2);
	my $unreachable = rejoin($a, '--wait=0');
	is($unreachable->{code}, 6, 'the holder is down');
	like($unreachable->{err}, qr/"p1-b" holds lease "lease1" and cannot be followed/, '... and is named');
	$b->start;

	# its address has changed: primary_conninfo follows, the rest stays
	append_to_file($a->data_dir . '/postgresql.auto.conf', "work_mem = '5MB'\n");
	append_to_file($a->data_dir . '/standby.signal', '');
	in_store("UPDATE leasehold_store.node SET advertise = advertise || ' connect_timeout=7' WHERE name = 'p1-b'");
	is(rejoin($a)->{code}, 0, 'the address of the holder has changed');
	like(slurp_file($a->data_dir . '/postgresql.auto.conf'), qr/^primary_conninfo = '.*connect_timeout=7.*'$/m, '... primary_conninfo says so');
	like(slurp_file($a->data_dir . '/postgresql.auto.conf'), qr/^work_mem = '5MB'$/m, '... and other settings stay');
	is_standby_of($a, $b, 'new address');
	$_->stop foreach $a, $b;
}

# ---------------------------------------------------------------------------
# Diverged: rewound, and what was lost is told and kept
# ---------------------------------------------------------------------------
{
	my $pair = new_pair();
	my ($a, $b) = @$pair{ 'a', 'b' };

	make_own($_, $_->name) foreach $a, $b;
	$b->stop('fast');
	write_alone($a);
	$a->kill_all;
	govern($pair, $a);
	$b->start;
	promote($b, slot_of($a));
	$b->safe_psql('postgres', "INSERT INTO t SELECT 'b', i FROM generate_series(1, 100) i");
	held_by($pair, $b);

	my $own    = own_files($a);
	my $before = digest_of(place($a));
	my $dry    = rejoin($a, '--dry-run');
	is($dry->{code}, 0, 'diverged: a dry run');
	like($dry->{out}, qr/5 committed transactions/, '... counts what would be lost');
	like($dry->{out}, qr/would be rewound/, '... says what it would do');
	is(digest_of(place($a)), $before, '... and changes nothing');

	my $run = rejoin($a);
	is($run->{code}, 0, 'diverged: it may start');
	like($run->{out}, qr/The group never received .* 5 committed transactions/, '... the transactions lost are counted');
	like($run->{out}, qr/public\.t of database postgres \(\d+\/\d+\/\d+\): $alone/, '... with their rows, by table');
	is_deeply(own_files($a), $own, '... its own files are kept');
	is(slurp_file($a->data_dir . '/log/old.log'), "log of " . $a->name . "\n", '... its log, too');
	ok(!-e $a->data_dir . '.rejoin', '... and nothing is left of the work');

	my ($kept) = $run->{out} =~ /That log is kept in "(.*)"/;
	is(dirname_of($kept // ''), place($a) . '/leasehold_lost', 'the lost log is kept beside the data directory');
	my ($segment) = grep { /\/[0-9A-F]{24}$/ } glob("$kept/*");
	my ($from) = $kept =~ /-([0-9A-F]+_[0-9A-F]+)$/;
	my ($dump) = run_command([ 'pg_waldump', '-p', $kept, '-s', $from =~ s/_/\//r, $segment ]);
	is(scalar(() = $dump =~ /desc: COMMIT/g), 5, '... and can be read: the commits are in there');
	my $report = slurp_file("$kept/report.txt");
	like($report, qr/^committed transactions: 5$/m, '... beside a report');
	like($report, $alone, '... of the rows');
	is_standby_of($a, $b, 'rewound');

	# and the other way round: each in its turn
	$a->stop('fast');
	$b->safe_psql('postgres', "INSERT INTO t VALUES ('alone', 99)");
	$b->kill_all;
	$b->append_conf('postgresql.conf', $pair->{governed});
	# the old timeline's slot is of no use any more
	$a->adjust_conf('postgresql.auto.conf', 'primary_conninfo', "''");
	$a->start;
	promote($a, slot_of($b));
	held_by($pair, $a);
	my $back = rejoin($b);
	is($back->{code}, 0, 'the failover of a failover');
	like($back->{out}, qr/1 committed transactions/, '... reports again');
	like($back->{out}, qr/timeline 3/, '... on the next timeline');
	is_standby_of($b, $a, 'failover of a failover');
	$_->stop foreach $a, $b;
}

# ---------------------------------------------------------------------------
# Neither checksums nor hints: only a base backup helps, and only if allowed
# ---------------------------------------------------------------------------
{
	my $pair = new_pair(hints => 0);
	my ($a, $b) = @$pair{ 'a', 'b' };

	make_own($_, $_->name) foreach $a, $b;
	$b->stop('fast');
	write_alone($a);
	$a->kill_all;
	govern($pair, $a);
	$b->start;
	promote($b, slot_of($a));
	held_by($pair, $b);

	my $own    = own_files($a);
	my $before = digest_of(place($a));
	my $run    = rejoin($a);
	is($run->{code}, 7, 'neither checksums nor wal_log_hints: refused');
	like($run->{err}, qr/neither data checksums nor wal_log_hints/, '... both are named');
	like($run->{err}, qr/--allow-basebackup/, '... and so is the way out');
	is(digest_of(place($a)), $before, '... nothing is changed');

	$run = rejoin($a, '--allow-basebackup');
	is($run->{code}, 0, 'a base backup, if allowed');
	like($run->{out}, qr/5 committed transactions/, '... what is lost is told all the same');
	is_deeply(own_files($a), $own, '... its own files are kept');
	my ($old) = $run->{out} =~ /The old data directory is kept as "(.*)"/;
	ok($old && -f "$old/PG_VERSION", '... the old directory is kept');
	is_standby_of($a, $b, 'base backup');
	$_->stop foreach $a, $b;
}

done_testing();
