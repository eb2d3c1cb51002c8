# leasehold-rejoin of a standby whose log has gone on where the holder's history
# left it, though its control file says that it has not: what lies beyond the
# fork has touched no page.  The server would replay it at its start, and go on
# from there with the holder's log without noticing.

use strict;
use warnings;

use FindBin;
use File::Copy ();
use lib "$FindBin::RealBin/../perl";
use LeaseholdTest;
use PostgreSQL::Test::Utils;
use RejoinTest;
use Test::More;

sub walreceiver
{
	my ($node) = @_;
	my ($pid) = wait_until("$node->{leasehold_name} has a walreceiver", sub { ($node->pids(qr/walreceiver/))[0] });
	return $pid;
}

sub control
{
	my ($node) = @_;
	my ($out, $err) = run_command([ 'pg_controldata', data($node) ]);
	my %of = $out =~ /^(.*?): +(.*)$/mg;
	return \%of;
}

sub number { my ($high, $low) = split m{/}, $_[0]; return (hex($high) << 32) + hex $low; }

sub where_it_parts
{
	my ($holder, $timeline) = @_;
	my ($lsn) = slurp_file(data($holder) . sprintf('/pg_wal/%08X.history', timeline($holder))) =~ m{^$timeline\t(\S+)}m;
	return $lsn;
}

# Records that touch no page.
sub touch_nothing
{
	my ($node, $size) = (@_, 1000);
	$node->safe_psql('postgres', "SELECT pg_logical_emit_message(false, 'x', repeat('y', $size)) FROM generate_series(1, 500)");
	return $node->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
}

# Not a restartpoint, and not a page, from beyond the fork.
sub is_before
{
	my ($node, $fork, $timeline, $what, $state) = @_;
	my $control = control($node);

	is($control->{'Database cluster state'}, $state, "$what: $state");
	cmp_ok(number($control->{'Minimum recovery ending location'}), '<=', number($fork), "$what: its pages are not beyond the fork");
	cmp_ok(number($control->{'Latest checkpoint location'}), '<', number($fork), "$what: nor its restartpoint");
	is($control->{"Latest checkpoint's TimeLineID"}, $timeline, "$what: which is of timeline $timeline");
	return;
}

# It runs, and has never been where the holder was not.
sub is_sound
{
	my ($node, $holder, $what) = @_;

	$node->start_again;
	$node->wait_streaming($holder);
	is($node->safe_psql('postgres', 'SELECT received_tli FROM pg_stat_wal_receiver'), timeline($holder), "$what: it is on the holder's timeline");
	my $replayed = $node->safe_psql('postgres', 'SELECT pg_last_wal_replay_lsn()');
	cmp_ok(number($replayed), '<=', number($holder->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()')), "$what: it has not replayed what the holder does not have");
	$holder->safe_psql('postgres', "CREATE TABLE IF NOT EXISTS t (who text, i int); INSERT INTO t SELECT 'after', i FROM generate_series(1, 1000) i");
	$node->wait_streaming($holder);
	my $rows = 'SELECT count(*), sum(hashtext(t::text)::bigint) FROM t';
	is($node->safe_psql('postgres', $rows), $holder->safe_psql('postgres', $rows), "$what: it has the holder's rows");
	return;
}

# ---------------------------------------------------------------------------
# A group
# ---------------------------------------------------------------------------
{
	my $group = LeaseholdTest->new(
		kind  => 'physical',
		nodes => [ 'a', 'b', 'c' ],
		ttl   => '1500ms',
		conf  => "wal_sender_timeout = 0\nwal_keep_size = 128MB\nautovacuum = off\nbgwriter_lru_maxpages = 0\nleasehold.max_lag = '1GB'");
	my ($a, $b, $c) = $group->nodes;

	$c->set_conf('leasehold.priority' => 0);
	$_->wait_streaming($a) foreach $b, $c;
	# nor does anybody who reads the catalogs touch them: all hints are set
	$a->safe_psql('postgres', 'VACUUM');
	$a->safe_psql('postgres', 'SELECT pg_switch_wal(); CHECKPOINT');
	$_->wait_streaming($a) foreach $b, $c;
	# pages from before the fork are written out, and there are no others; its
	# shutdown finds one more checkpoint, and does not look farther than that
	$c->safe_psql('postgres', 'CHECKPOINT');
	$a->safe_psql('postgres', 'CHECKPOINT');
	$_->wait_streaming($a) foreach $b, $c;
	$b->freeze(walreceiver($b));
	# more than one file
	my $end = touch_nothing($a, 50000);
	$c->wait_streaming($a);
	$a->kill_all;
	$b->thaw;
	is($group->wait_holder(not => $a), $b, 'group: the one that has less takes over');
	wait_until('b is writable', sub { ($b->try('SELECT pg_is_in_recovery()'))[1] eq 'f' });
	my $fork = where_it_parts($b, 1);
	# it has come to know of the new timeline, which it cannot follow
	$c->wait_log(qr/forked off current database system timeline|new timeline 2 forked/);
	$c->stop('fast');
	cmp_ok(number($end), '>', number($fork), 'group: c has more than b went on from');
	is_before($c, $fork, 1, 'group', 'shut down in recovery');

	my ($segment) = map { sprintf '00000001%08X%08X', $_ >> 32, ($_ & 0xffffffff) >> 24 } number($fork);
	my $before = digest_of(data($c));
	my $dry = rejoin($c, '--dry-run');
	is($dry->{code}, 0, 'group: a dry run');
	like($dry->{out}, qr/received but not applied, would be moved to/, '... says what would be done');
	is(digest_of(data($c)), $before, '... and changes nothing');

	my $run = rejoin($c);
	is($run->{code}, 0, 'group: it may start');
	like($run->{out}, qr{never received the log of this node from \Q$fork\E on timeline 1 to}, '... the lost log is told of');
	my ($kept) = $run->{out} =~ /received but not applied, now stands in "(.*)"/;
	$kept //= '';
	ok(-f "$kept/$segment", '... its file is kept');
	ok(-f "$kept/report.txt" && slurp_file("$kept/report.txt") =~ /^from: \Q$fork\E$/m, '... with a report');
	is_deeply([ grep { -f data($c) . '/pg_wal/' . s{.*/}{}r } glob "$kept/0*" ], [], '... and none of them is in pg_wal');

	# as an interruption leaves it: the later files have been moved, the first
	# has not, and nobody is followed yet
	my $report = slurp_file("$kept/report.txt");
	cmp_ok(scalar(@{ [ glob "$kept/0*" ] }), '>', 1, '... of several');
	File::Copy::copy("$kept/$segment", data($c) . "/pg_wal/$segment");
	$run = rejoin($c);
	is($run->{code}, 0, 'group, interrupted while the files are moved: the next run goes on');
	ok(!-f data($c) . "/pg_wal/$segment", '... and the first file is not in pg_wal');
	is(slurp_file("$kept/report.txt"), $report, '... the report is still of all of it');
	like(rejoin($c)->{out}, qr/Nothing to do/, '... and then nothing is left to do');
	is_sound($c, $b, 'group');

	$c->set_conf('leasehold.priority' => undef);
	$c->wait_streaming($b);
	wait_until('c is taken for a successor',
		sub { (($b->try("SELECT leasehold.switchover('c')"))[0] // 'x') eq '' || $group->holder == $c });
	is($group->wait_holder(not => $b), $c, 'group: it can be handed over to');
	wait_until('c is writable', sub { ($c->try("INSERT INTO t VALUES ('c', 1)"))[0] eq '' });
	pass('group: and is writable');
	$_->stop('fast') foreach $b, $c;
}

# ---------------------------------------------------------------------------
# The log goes on over a promotion that no restartpoint has seen: the timeline
# that was left is a later one than the control file's
# ---------------------------------------------------------------------------
start_store();

# a is promoted away to timeline 2 by b, c follows b; d, a copy of c as it was
# at some moment, is promoted to timeline 3, and c has more of timeline 2.
sub two_promotions
{
	my (%options) = @_;
	my $pair = new_pair(standbys => 2, conf => "bgwriter_lru_maxpages = 0\ncheckpoint_timeout = 1h\n");
	my ($a, $b, $c) = @$pair{ 'a', 'b', 'c' };

	$a->safe_psql('postgres', 'SELECT pg_switch_wal(); CHECKPOINT');
	$a->wait_for_catchup($_->{leasehold_name}) foreach $b, $c;
	$_->safe_psql('postgres', 'CHECKPOINT') foreach $b, $c;
	$a->stop('fast');
	# its restartpoint is a's last checkpoint at the latest
	my ($checkpointer) = $b->pids(qr/checkpointer/);
	$b->freeze($checkpointer);
	promote($b);
	$c->adjust_conf('postgresql.auto.conf', 'primary_conninfo', "'" . $b->connstr . " application_name=$c->{leasehold_name}'");
	$c->reload;
	$c->wait_streaming($b);
	return ($pair, $a, $b, $c);
}

{
	my ($pair, $a, $b, $c) = two_promotions();

	# the next holder was a's standby, and has timeline 2 up to here
	$a->append_conf('postgresql.auto.conf', "primary_conninfo = '" . $b->connstr . " application_name=$a->{leasehold_name}'");
	$a->set_standby_mode;
	$a->start;
	$a->wait_streaming($b);
	$a->freeze(walreceiver($a));
	touch_nothing($b);
	$c->wait_streaming($b);
	$_->kill_all foreach $c, $b;
	$a->thaw;
	$a->stop('fast');
	$a->start;
	promote($a, slot_of($c));
	is(timeline($a), 3, 'two promotions: the holder is on timeline 3');
	my $fork = where_it_parts($a, 2);
	is_before($c, $fork, 1, 'two promotions', 'in archive recovery');
	govern($pair, $c);
	held_by($pair, $a);

	my $run = rejoin($c);
	is($run->{code}, 0, 'two promotions: it may start');
	like($run->{out}, qr{never received the log of this node from \Q$fork\E on timeline 2 to}, '... the lost log is told of');
	is_sound($c, $a, 'two promotions');
	$_->stop('fast') foreach $a, $c;
}

# ---------------------------------------------------------------------------
# The same, but the holder never was on that later timeline; and interrupted
# ---------------------------------------------------------------------------
{
	my ($pair, $a, $b, $c) = two_promotions();

	touch_nothing($b);
	$c->wait_streaming($b);
	$_->kill_all foreach $c, $b;
	$a->set_standby_mode;
	$a->start;
	# it was never on timeline 2, but does not take its number
	append_to_file(data($a) . '/pg_wal/00000002.history', "1\t0/1000000\tanother\n");
	promote($a, slot_of($c));
	is(timeline($a), 3, 'a stranger: the holder is on timeline 3');
	is_before($c, where_it_parts($a, 1), 1, 'a stranger', 'in archive recovery');
	govern($pair, $c);
	held_by($pair, $a);

	my $run = rejoin($c);
	is($run->{code}, 0, 'a stranger: it may start');
	like($run->{out}, qr{on timeline 2 to}, '... the lost log is told of');
	my ($kept) = $run->{out} =~ /now stands in "(.*)"/;
	ok(defined $kept && -f "$kept/00000002.history", '... the history is kept aside');
	ok(!-f data($c) . '/pg_wal/00000002.history', '... and not taken by the server');
	is_sound($c, $a, 'a stranger');
	$_->stop('fast') foreach $a, $c;
}

done_testing();
