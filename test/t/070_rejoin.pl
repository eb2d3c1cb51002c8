# leasehold-rejoin: a returning ex-primary becomes a standby of the present
# holder, keeps what is its own, and tells what the group never received.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use LeaseholdTest;
use PostgreSQL::Test::Utils;
use RejoinTest;
use Test::More;

start_store();

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
	ok(!-f data($a) . '/standby.signal', '... as it is');

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
	store()->stop('fast');
	my $down = rejoin($a, '--wait=0');
	is($down->{code}, 0, 'the store is down: a standby may start');
	like($down->{out}, qr/too few members of the store answer/, '... and is told');
	unlink data($a) . '/standby.signal';
	my $primary = rejoin($a, '--wait=0');
	is($primary->{code}, 4, 'the store is down: what may be an ex-primary waits');
	store()->start;
	$b->stop('fast');
	held_by($pair, $b->{leasehold_name}, timeline => 2);
	my $unreachable = rejoin($a, '--wait=0');
	is($unreachable->{code}, 6, 'the holder is down');
	like($unreachable->{err}, qr/"p1-b" holds lease "lease1" and cannot be followed/, '... and is named');
	$b->start;

	# its address has changed: primary_conninfo follows, the rest stays
	append_to_file(data($a) . '/postgresql.auto.conf', "work_mem = '5MB'\n");
	append_to_file(data($a) . '/standby.signal', '');
	in_store("UPDATE leasehold_store.node SET advertise = advertise || ' connect_timeout=7' WHERE name = 'p1-b'");
	is(rejoin($a)->{code}, 0, 'the address of the holder has changed');
	like(slurp_file(data($a) . '/postgresql.auto.conf'), qr/^primary_conninfo = '.*connect_timeout=7.*'$/m, '... primary_conninfo says so');
	like(slurp_file(data($a) . '/postgresql.auto.conf'), qr/^work_mem = '5MB'$/m, '... and other settings stay');
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
	is(slurp_file(data($a) . '/log/old.log'), "log of " . $a->name . "\n", '... its log, too');
	ok(!-e data($a) . '.rejoin', '... and nothing is left of the work');

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
