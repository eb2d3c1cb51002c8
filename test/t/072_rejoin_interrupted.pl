# leasehold-rejoin interrupted at every place where the data directory is in
# between, and gone on with by the next run; and run by the server itself.

use strict;
use warnings;

use FindBin;
use IPC::Run ();
use lib "$FindBin::RealBin/../perl";
use LeaseholdTest;
use PostgreSQL::Test::Utils;
use RejoinTest;
use Test::More;

start_store();

my $bindir = qx{pg_config --bindir};
chomp $bindir;
$bindir = qx{"$ENV{PG_CONFIG}" --bindir} if $ENV{PG_CONFIG};
chomp $bindir;

# The server's programs, one of them replaced by a script that ends its caller,
# leasehold-rejoin, the hard way.
sub bindir_with
{
	my ($name, $script) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir();

	symlink $_, "$dir/" . ($_ =~ s{.*/}{}r) foreach glob("$bindir/*");
	unlink "$dir/$name";
	append_to_file("$dir/$name", "#!/bin/sh\n$script\n");
	chmod 0755, "$dir/$name";
	return $dir;
}

# a has diverged from b, which holds; both have files of their own.
sub diverged
{
	my (%options) = @_;
	my $pair = new_pair(%options);
	my ($a, $b) = @$pair{ 'a', 'b' };

	make_own($_, $_->name) foreach $a, $b;
	$b->stop('fast');
	write_alone($a);
	$a->kill_all;
	govern($pair, $a);
	$b->start;
	promote($b, slot_of($a));
	$b->safe_psql('postgres', "INSERT INTO t SELECT 'b', i FROM generate_series(1, 1000) i");
	held_by($pair, $b);
	return ($pair, $a, $b, own_files($a));
}

# What pg_rewind may have done by the time it dies: the source's files are in
# place, the target's log beyond the fork is gone, pages are of both.
sub half_a_rewind
{
	my ($a, $b) = @_;
	my ($from, $to) = (data($b), data($a));
	my $file = $b->safe_psql('postgres', "SELECT pg_relation_filepath('t')");

	return <<SH;
cp $from/postgresql.conf $from/pg_hba.conf $from/leasehold.state $from/server.key $to/
rm -r $to/conf.d
cp -r $from/conf.d $to/
cp $from/log/old.log $to/log/ 2>/dev/null
dd if=$from/$file of=$to/$file bs=8192 count=1 conv=notrunc 2>/dev/null
dd if=/dev/urandom of=$to/$file bs=4096 count=1 seek=5 conv=notrunc 2>/dev/null
rm -f $to/pg_wal/00000001*
cp $from/pg_wal/00000001* $to/pg_wal/ 2>/dev/null
kill -KILL \$PPID
SH
}

# ---------------------------------------------------------------------------
# In the middle of the rewind
# ---------------------------------------------------------------------------
{
	my ($pair, $a, $b, $own) = diverged();

	$b->safe_psql('postgres', 'CHECKPOINT');
	my $killed = rejoin($a, '--bindir', bindir_with('pg_rewind', half_a_rewind($a, $b)));
	is($killed->{code}, 128 + 9, 'killed in the middle of the rewind');
	isnt(slurp_file(data($a) . '/postgresql.conf'), $own->{'postgresql.conf'}, '... the configuration is the holder\'s');

	my $between = digest_of(place($a));
	my $dry = rejoin_again($a, '--dry-run');
	is($dry->{code}, 0, '... a dry run goes by its own configuration all the same');
	like($dry->{out}, qr/would be rewound/, '... says what it would do');
	is(digest_of(place($a)), $between, '... and changes nothing');

	# as it is it must not start: not even when nobody else has the lease
	held_by($pair, '', timeline => 1);
	is(rejoin_again($a, '--wait=0')->{code}, 5, '... half rewound, it is not a free lease\'s primary');
	held_by($pair, $a->{leasehold_name}, timeline => 1);
	my $self = rejoin($a, '--wait=0');
	is($self->{code}, 9, '... nor the holder');
	like($self->{err}, qr/half rewound/, '... and it is told why');
	is_deeply(own_files($a), $own, '... its own files are back already');

	held_by($pair, $b);
	my $run = rejoin($a);
	is($run->{code}, 0, 'the next run goes on');
	like($run->{out}, qr/An earlier run was interrupted/, '... says so');
	like($run->{out}, qr/pg_rewind: Done/, '... and rewinds');
	is_deeply(own_files($a), $own, '... its own files are kept');
	is(slurp_file(data($a) . '/log/old.log'), 'log of ' . $a->name . "\n", '... its log, too');
	ok(!-e data($a) . '.rejoin', '... and nothing is left of the work');
	is(scalar(@{ [ glob(place($a) . '/leasehold_lost/*/report.txt') ] }), 1, '... the lost log is kept');
	is_standby_of($a, $b, 'interrupted');
	$_->stop foreach $a, $b;
}

# ---------------------------------------------------------------------------
# The same, but then another timeline has the lease
# ---------------------------------------------------------------------------
{
	my ($pair, $a, $b, $own) = diverged();

	is(rejoin($a, '--bindir', bindir_with('pg_rewind', half_a_rewind($a, $b)))->{code}, 128 + 9, 'killed in the middle of the rewind');
	$b->stop('fast');
	append_to_file(data($b) . '/standby.signal', '');
	$b->adjust_conf('postgresql.auto.conf', 'primary_conninfo', "''");
	$b->start;
	promote($b);
	held_by($pair, $b);
	my $run = rejoin_again($a);
	is($run->{code}, 7, 'another timeline than the one rewound to: only a base backup helps');
	like($run->{err}, qr/interrupted half-way/, '... and it is told why');
	is(rejoin($a, '--allow-basebackup')->{code}, 0, '... if allowed');
	is_deeply(own_files($a), $own, '... its own files are kept through both');
	is_standby_of($a, $b, 'interrupted, then a base backup');
	$_->stop foreach $a, $b;
}

# ---------------------------------------------------------------------------
# After the rewind, before anything else
# ---------------------------------------------------------------------------
{
	my ($pair, $a, $b, $own) = diverged(hints => 0, checksums => 1);

	my $killed = rejoin($a, '--bindir', bindir_with('pg_rewind', "\"$bindir/pg_rewind\" \"\$@\"\nkill -KILL \$PPID"));
	is($killed->{code}, 128 + 9, 'killed right after the rewind');
	ok(!-f data($a) . '/standby.signal', '... it would start as a primary');
	my $run = rejoin_again($a);
	is($run->{code}, 0, 'the next run goes on');
	unlike($run->{out}, qr/pg_rewind/, '... without another rewind');
	is_deeply(own_files($a), $own, '... its own files are kept');
	is_standby_of($a, $b, 'interrupted after the rewind');
	$_->stop foreach $a, $b;
}

# ---------------------------------------------------------------------------
# pg_rewind fails before it has changed anything
# ---------------------------------------------------------------------------
{
	my ($pair, $a, $b, $own) = diverged();

	my $failed = rejoin($a, '--bindir', bindir_with('pg_rewind', "echo 'pg_rewind: error: no such luck' >&2\nexit 1"));
	is($failed->{code}, 8, 'pg_rewind fails');
	like($failed->{out} . $failed->{err}, qr/no such luck/, '... its own words are passed on');
	is_deeply(own_files($a), $own, '... its own files are kept');
	held_by($pair, $a->{leasehold_name}, timeline => 1);
	is(rejoin($a)->{code}, 0, '... it has changed nothing: as the holder it might still start');
	held_by($pair, $b);
	my $backup = rejoin($a, '--allow-basebackup', '--bindir', bindir_with('pg_rewind', 'exit 1'));
	is($backup->{code}, 0, 'a base backup comes to help, if allowed');
	is_deeply(own_files($a), $own, '... its own files are kept');
	is_standby_of($a, $b, 'pg_rewind failed');
	$_->stop foreach $a, $b;
}

# ---------------------------------------------------------------------------
# A base backup that is interrupted: in it, and between the two renamings
# ---------------------------------------------------------------------------
{
	my ($pair, $a, $b, $own) = diverged(hints => 0);
	my $data = data($a);

	my $killed = rejoin($a, '--allow-basebackup', '--bindir',
		bindir_with('pg_basebackup', "mkdir $data.new\necho 15 >$data.new/PG_VERSION\nkill -KILL \$PPID"));
	is($killed->{code}, 128 + 9, 'killed in the middle of the base backup');
	is_deeply(own_files($a), $own, '... nothing has happened to the directory');

	my $run = rejoin_again($a, '--allow-basebackup');
	is($run->{code}, 0, 'the next run begins it anew');
	my ($old) = $run->{out} =~ /The old data directory is kept as "(.*)"/;

	# as it stands between the renamings
	rename $data, "$data.new";
	mkdir "$data.rejoin";
	append_to_file("$data.rejoin/state", "phase swapping\ntimeline 2\nkept \nfresh $data.new\nold $old\n");
	is(rejoin($a)->{code}, 0, 'killed between the two renamings: the next run ends them');
	ok(-f "$data/PG_VERSION" && !-e "$data.new", '... the new directory is in place');
	is_deeply(own_files($a), $own, '... its own files are kept');
	is_standby_of($a, $b, 'interrupted base backup');
	$_->stop foreach $a, $b;
}

# ---------------------------------------------------------------------------
# Two runs at once, and a server whose children live on
# ---------------------------------------------------------------------------
{
	my ($pair, $a, $b, $own) = diverged();
	my $data = data($a);
	my $flag = PostgreSQL::Test::Utils::tempdir() . '/flag';

	my $slow = bindir_with('pg_rewind', "touch $flag\nwhile [ -e $flag ]; do sleep 0.1; done\nexec \"$bindir/pg_rewind\" \"\$@\"");
	my ($out, $err) = ('', '');
	my $first = IPC::Run::start([ 'leasehold-rejoin', '-D', $data, '--bindir', $slow ], '>', \$out, '2>', \$err);
	wait_until('the first is at work', sub { -e $flag });
	my $second = rejoin($a);
	is($second->{code}, 3, 'a second run leaves it to the first');
	like($second->{err}, qr/another leasehold-rejoin is at work/, '... and says so');
	unlink $flag;
	$first->finish;
	is($first->result(0), 0, 'the first ends well');
	is_standby_of($a, $b, 'two runs');

	# one that does not notice that its postmaster is gone
	my $busy = IPC::Run::start([ 'psql', '-Xq', '-d', $a->connstr('postgres'), '-c', 'DO $$ BEGIN LOOP PERFORM 1; END LOOP; END $$' ],
		'>', \$out, '2>', \$err);
	wait_until('a session is busy',
		sub { $a->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO%'") == 1 });
	$a->kill_postmaster;
	my $lingering = rejoin($a);
	is($lingering->{code}, 3, 'children of a killed postmaster count as a running server');
	like($lingering->{err}, qr/processes of a server still use/, '... and it is told so');
	$a->remove_leftovers;
	$busy->finish;
	$a->wait_gone;
	is(rejoin($a)->{code}, 0, 'once they are gone it may start');
	$b->stop;
}

# ---------------------------------------------------------------------------
# --restart: run by the server that has lost its lease
# ---------------------------------------------------------------------------
{
	my $pair = new_pair();
	my ($a, $b) = @$pair{ 'a', 'b' };
	my $log = place($a) . '/leasehold-rejoin.log';
	my $program = "$bindir/leasehold-rejoin -D " . data($a);

	$b->stop('fast');
	write_alone($a);
	# it must not catch up
	$b->adjust_conf('postgresql.auto.conf', 'primary_conninfo', "''");
	$b->start;
	# nobody to follow yet: the server goes on
	set_lease($pair, $a);
	held_by($pair, $b->{leasehold_name}, timeline => 2);
	my $postmaster = $a->postmaster_pid;
	$a->safe_psql('postgres', "COPY (SELECT) TO PROGRAM '$program --restart --wait=1 --timeout=2'");
	wait_until('it has given up', sub { -f $log && slurp_file($log) =~ /cannot be followed/ });
	is($a->postmaster_pid, $postmaster, '--restart: with nobody to follow the server is left running');

	$b->promote;
	$b->safe_psql('postgres', "SELECT pg_create_physical_replication_slot('@{[ slot_of($a) ]}') WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '@{[ slot_of($a) ]}')");
	held_by($pair, $b);
	# (the server may stop before the session has its answer)
	$a->try("COPY (SELECT) TO PROGRAM '$program --restart'");
	wait_until('it has come back',
		sub { my $pid = $a->postmaster_pid; $pid && $pid != $postmaster && ($a->try('SELECT pg_is_in_recovery()'))[1] eq 't' });
	pass('--restart: the server has come back as a standby');
	$a->{_pid} = $a->postmaster_pid;
	$b->safe_psql('postgres', "INSERT INTO t VALUES ('after', 1)");
	$b->wait_for_catchup($a->{leasehold_name});
	is($a->safe_psql('postgres', "SELECT count(*) FROM t WHERE who = 'alone'"), 0, '... of the holder');
	like(slurp_file($log), qr/5 committed transactions/, '... and its log tells what was lost');
	$postmaster = $a->postmaster_pid;
	$a->safe_psql('postgres', 'SHOW port');
	system_or_bail(split(/ /, $program), '--restart');
	wait_until('it has looked', sub { slurp_file($log) =~ /Nothing to do: this is a standby/ });
	is($a->postmaster_pid, $postmaster, '--restart: with nothing to do the server is left running');
	$_->stop foreach $a, $b;
}

# The server reads it at its next start only; the program reads it now.
sub set_lease
{
	my ($pair, $node) = @_;
	$node->append_conf('postgresql.conf', "leasehold.lease = '$pair->{lease}'");
	return;
}

done_testing();
