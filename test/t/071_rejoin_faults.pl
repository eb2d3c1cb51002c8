# leasehold-rejoin where it must not act, where it is interrupted, and where the
# obvious would be wrong.

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

sub set
{
	my ($node, $name, $value) = @_;
	$node->adjust_conf('postgresql.conf', $name, defined $value ? "'" . $value =~ s/'/''/gr . "'" : undef);
	return;
}

# ---------------------------------------------------------------------------
# Killed, but nobody took over: it starts as it is.  And what stands against it.
# ---------------------------------------------------------------------------
{
	my $pair = new_pair();
	my ($a, $b) = @$pair{ 'a', 'b' };
	my $sysid = $a->safe_psql('postgres', 'SELECT system_identifier FROM pg_control_system()');
	my $before;

	$a->safe_psql('postgres', "INSERT INTO t VALUES ('last', 1)");
	$a->wait_for_catchup($b->{leasehold_name});
	$a->kill_all;
	govern($pair, $a);
	$before = digest_of(place($a));

	my $unknown = rejoin($a, '--wait=0');
	is($unknown->{code}, 2, 'a lease that the store does not know');
	like($unknown->{err}, qr/the store does not know lease "lease1"/, '... is named');

	held_by($pair, $a->{leasehold_name}, sysid => $sysid);
	my $self = rejoin($a);
	is($self->{code}, 0, 'the holder itself may start');
	like($self->{out}, qr/This node holds lease "lease1": it may start as it is/, '... as it is');

	held_by($pair, '', timeline => 1);
	my $free = rejoin($a);
	is($free->{code}, 0, 'the lease is free, and nobody took it since: it may start');
	like($free->{out}, qr/Nobody holds lease "lease1", and nobody has taken it/, '... as it is');

	held_by($pair, '', timeline => 2);
	my $other = rejoin($a, '--wait=1');
	is($other->{code}, 5, 'the lease is free, and another timeline had it: it waits');
	like($other->{err}, qr/nobody holds lease "lease1"/, '... and says for what');

	held_by($pair, $a->{leasehold_name}, timeline => 7);
	my $impostor = rejoin($a);
	is($impostor->{code}, 9, 'the lease is held in its name on a timeline that it does not know');
	like($impostor->{err}, qr/timeline 7, which is not in the history/, '... and it is told');

	held_by($pair, $b, timeline => 1, sysid => '12345');
	my $foreign = rejoin($a);
	is($foreign->{code}, 9, 'the lease belongs to another cluster');
	like($foreign->{err}, qr/system identifier 12345; that of .* is $sysid/, '... both are named');

	held_by($pair, $b, timeline => 1, kind => 'independent');
	is(rejoin($a)->{code}, 2, 'a lease of another kind');

	held_by($pair, $b, timeline => 1);
	my $recovering = rejoin($a, '--wait=1');
	is($recovering->{code}, 6, 'the holder has not been promoted yet: it waits');
	like($recovering->{err}, qr/still in recovery/, '... and says for what');

	# of three members, one may say what it likes
	held_by($pair, $a->{leasehold_name});
	held_by($pair, 'somebody', members => ['leasehold_store2']);
	is(rejoin($a)->{code}, 0, 'two of three members agree');
	store()->safe_psql('postgres', 'ALTER DATABASE leasehold_store2 ALLOW_CONNECTIONS false');
	is(rejoin($a)->{code}, 0, '... and are enough');
	held_by($pair, 'somebody', members => ['leasehold_store3']);
	my $torn = rejoin($a, '--wait=0');
	is($torn->{code}, 5, 'no two members agree');
	like($torn->{err}, qr/is changing hands/, '... it is changing hands');
	store()->safe_psql('postgres', 'ALTER DATABASE leasehold_store3 ALLOW_CONNECTIONS false');
	my $few = rejoin($a, '--wait=0');
	is($few->{code}, 4, 'one member of three answers');
	like($few->{err}, qr/too few members of the store answer/, '... which is too few');
	store()->safe_psql('postgres', "ALTER DATABASE leasehold_store$_ ALLOW_CONNECTIONS true") foreach 2, 3;
	# a member that is not the one that it was
	in_store("UPDATE leasehold_store.store SET store_id = 'x'", 'leasehold_store2');
	held_by($pair, $a->{leasehold_name}, members => [ 'leasehold_store', 'leasehold_store2' ]);
	is(rejoin($a, '--wait=0')->{code}, 5, 'a member with another identity does not count');
	in_store("UPDATE leasehold_store.store SET store_id = split_part(split_part(members, ',', 2), '/', 1)", 'leasehold_store2');
	is(digest_of(place($a)), $before, 'in all of this nothing was changed');

	# settings and options
	my $store = slurp_file(data($a) . '/postgresql.conf') =~ /^leasehold.store = '(.*)'$/m ? $1 : die;
	set($a, 'leasehold.store', 'embedded');
	like(rejoin($a)->{err}, qr/the store is embedded/, 'an embedded store has nobody to join');
	set($a, 'leasehold.store', '');
	is(rejoin($a)->{code}, 2, 'no store at all');
	$store =~ s/''/'/g;
	set($a, 'leasehold.store', $store);
	is(rejoin($a, '--no-such-option')->{code}, 2, 'an option that does not exist');
	is(rejoin($a, '-D', place($a))->{code}, 2, 'a directory that is no data directory');
	is(rejoin($a, '--wait=soon')->{code}, 2, 'a number that is none');
	append_to_file(data($a) . '/postgresql.conf', "broken\n");
	my $broken = rejoin($a);
	is($broken->{code}, 2, 'a configuration that the server cannot read');
	like($broken->{err}, qr/syntax error/, '... what it says is passed on');
	my $conf = slurp_file(data($a) . '/postgresql.conf');
	$conf =~ s/^broken\n//m;
	unlink data($a) . '/postgresql.conf';
	append_to_file(data($a) . '/postgresql.conf', $conf);

	# now b takes it: it has all that a had, so nothing needs to be rewound
	promote($b, slot_of($a));
	held_by($pair, $b);
	my $run = rejoin($a);
	is($run->{code}, 0, 'killed, and the holder had received everything: it may start');
	unlike($run->{out}, qr/rewind|never received/, '... without a rewind');
	is_standby_of($a, $b, 'killed, nothing lost');
	$_->stop foreach $a, $b;
}

# ---------------------------------------------------------------------------
# A second standby that had received more than the one that took over
# ---------------------------------------------------------------------------
{
	my $pair = new_pair(standbys => 2);
	my ($a, $b, $c) = @$pair{ 'a', 'b', 'c' };

	$b->stop('fast');
	write_alone($a);
	$a->wait_for_catchup($c->{leasehold_name});
	# so that it stands in its pages, too
	$c->safe_psql('postgres', 'CHECKPOINT');
	$a->safe_psql('postgres', 'CHECKPOINT');
	$a->wait_for_catchup($c->{leasehold_name});
	$c->safe_psql('postgres', 'CHECKPOINT');
	$_->kill_all foreach $a, $c;
	govern($pair, $_) foreach $a, $c;
	$b->start;
	promote($b, slot_of($a), slot_of($c));
	held_by($pair, $b);

	my $run = rejoin($c);
	is($run->{code}, 0, 'a standby that had applied more: it may start');
	like($run->{out}, qr/5 committed transactions/, '... what was lost is told');
	like($run->{out}, qr/pg_rewind: Done/, '... after a rewind');
	is_standby_of($c, $b, 'standby ahead');
	is(rejoin($a)->{code}, 0, 'and the primary, too');
	is_standby_of($a, $b, 'primary of a standby ahead');
	$_->stop foreach $a, $b, $c;
}
{
	my $pair = new_pair(standbys => 2);
	my ($a, $b, $c) = @$pair{ 'a', 'b', 'c' };

	$b->stop('fast');
	$c->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
	wait_until('replay is paused',
		sub { $c->safe_psql('postgres', 'SELECT pg_get_wal_replay_pause_state()') eq 'paused' || $a->safe_psql('postgres', "SELECT pg_logical_emit_message(true, 'x', 'x')") && 0 });
	write_alone($a);
	$a->wait_for_catchup($c->{leasehold_name}, 'flush');
	$_->kill_all foreach $a, $c;
	govern($pair, $c);
	$b->start;
	promote($b, slot_of($c));
	held_by($pair, $b);

	my $run = rejoin($c);
	is($run->{code}, 0, 'a standby that had received more, and not applied it: it may start');
	like($run->{out}, qr/received but not applied, now stands in/, '... that log is put aside');
	unlike($run->{out}, qr/pg_rewind/, '... without a rewind');
	is_standby_of($c, $b, 'received, not applied');
	$_->stop foreach $b, $c;
}

# ---------------------------------------------------------------------------
# A holder whose control file still shows the old timeline: pg_rewind of 15
# takes it for being on the same one, and does nothing
# ---------------------------------------------------------------------------
{
	my $pair = new_pair();
	my ($a, $b) = @$pair{ 'a', 'b' };
	my ($out, $err) = ('', '');

	$b->stop('fast');
	write_alone($a);
	$a->kill_all;
	govern($pair, $a);
	$b->start;
	my ($checkpointer) = $b->pids(qr/checkpointer/);
	$b->freeze($checkpointer);
	promote($b, slot_of($a));
	held_by($pair, $b);

	my $run = IPC::Run::start([ 'leasehold-rejoin', '-D', data($a) ], '>', \$out, '2>', \$err);
	wait_until('it asks the holder for a checkpoint',
		sub { $b->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE query = 'CHECKPOINT'") == 1 });
	$run->pump_nb;
	unlike($out, qr/pg_rewind/, 'before the holder\'s first checkpoint nothing is rewound');
	$b->thaw;
	$run->finish;
	is($run->result(0), 0, '... after it, it may start');
	like($out, qr/pg_rewind: Done/, '... and was rewound');
	is_standby_of($a, $b, 'early');
	$_->stop foreach $a, $b;
}

# ---------------------------------------------------------------------------
# Two promoted at the same place, without knowing of each other
# ---------------------------------------------------------------------------
{
	my $pair = new_pair(standbys => 2);
	my ($a, $b, $c) = @$pair{ 'a', 'b', 'c' };

	$a->stop('fast');
	promote($c);
	$c->safe_psql('postgres', "INSERT INTO t SELECT 'alone', i FROM generate_series(1, 10) i");
	$c->stop('fast');
	promote($b, slot_of($c));
	$b->safe_psql('postgres', "INSERT INTO t SELECT 'b', i FROM generate_series(1, 5000) i");
	govern($pair, $c);
	held_by($pair, $b);
	is(timeline($b), 2, 'both are on timeline 2');

	my $run = rejoin($c);
	is($run->{code}, 7, 'two primaries of one timeline: only a base backup helps');
	like($run->{err}, qr/the same number in both/, '... and why is told');

	# the holder goes on to timeline 3: the histories look like those of a descendant
	$b->stop('fast');
	append_to_file(data($b) . '/standby.signal', '');
	$b->adjust_conf('postgresql.auto.conf', 'primary_conninfo', "''");
	$b->start;
	promote($b);
	held_by($pair, $b);
	is(timeline($b), 3, 'the holder is on timeline 3');
	$run = rejoin($c);
	is($run->{code}, 7, '... and it is still seen');
	like($run->{err}, qr/the same number in both/, '... by what stands in the log');
	is(rejoin($c, '--allow-basebackup', '--remove-old')->{code}, 0, '... a base backup helps');
	is_deeply([ glob(place($c) . '/pgdata.old*') ], [], '... and the old directory is removed if wanted');
	is_standby_of($c, $b, 'collision');
	$_->stop foreach $b, $c;
}

# ---------------------------------------------------------------------------
# Debian's layout
# ---------------------------------------------------------------------------
{
	my $pair = new_pair();
	my ($a, $b) = @$pair{ 'a', 'b' };
	my $root = PostgreSQL::Test::Utils::tempdir();
	my $etc  = "$root/15/main";
	my $data = data($a);

	$b->stop('fast');
	write_alone($a);
	$a->kill_all;
	govern($pair, $a);
	$b->start;
	promote($b, slot_of($a));
	held_by($pair, $b);
	mkdir $_ foreach "$root/15", $etc;
	rename "$data/$_", "$etc/$_" foreach 'postgresql.conf', 'pg_hba.conf', 'pg_ident.conf';
	append_to_file("$etc/postgresql.conf", "data_directory = '$data'\nhba_file = '$etc/pg_hba.conf'\nident_file = '$etc/pg_ident.conf'\n");
	unlink "$data/postmaster.opts";
	my $conf = slurp_file("$etc/postgresql.conf");

	like(rejoin($a, '--dry-run')->{err}, qr/the configuration file was not found/, 'no configuration in the data directory');
	{
		local $ENV{PG_CLUSTER_CONF_ROOT} = $root;
		my $dry = rejoin($a, '--dry-run');
		is($dry->{code}, 0, '... found where Debian has it');
		like($dry->{out}, qr/would be rewound/, '... and read');
	}
	is(rejoin($a, '--config-file', "$etc/postgresql.conf", '--dry-run')->{code}, 0, '... or where it is said to be');
	is(rejoin($a, '-D', $etc, '--dry-run')->{code}, 0, '... or with -D naming its directory, as for the server');
	append_to_file("$data/postmaster.opts", qq(/x/postgres "-D" "$data" "-c" "config_file=$etc/postgresql.conf"\n));
	my $run = rejoin($a);
	is($run->{code}, 0, '... or where the last start had it');
	like($run->{out}, qr/pg_rewind: Done/, '... it is rewound');
	ok(!-e "$data/$_", "... the holder's $_ does not stay") foreach 'postgresql.conf', 'pg_hba.conf', 'pg_ident.conf';
	is(slurp_file("$etc/postgresql.conf"), $conf, '... its own configuration is as it was');
	system_or_bail('pg_ctl', '-w', '-D', $data, '-l', $a->logfile, '-o', "-c config_file=$etc/postgresql.conf", 'start');
	$b->safe_psql('postgres', "INSERT INTO t VALUES ('after', 1)");
	$b->wait_for_catchup($a->{leasehold_name});
	is($a->safe_psql('postgres', "SELECT count(*) FROM t WHERE who = 'after'"), 1, '... and follows');
	system_or_bail('pg_ctl', '-w', '-D', $data, '-m', 'fast', 'stop');
	$b->stop;
}

done_testing();
