# At any moment at most one of two nodes acknowledges writes.
#
# The races here have one pattern.  A node that holds the lease is kept from
# noticing that time passes: its keeper is stopped, or one session in the middle
# of a commit, or the postmaster, or everything; or it crashes and comes back.
# Meanwhile the other node takes the lease and writes.  Then what was stopped
# goes on, in the belief that nothing has happened.  Clients of both nodes write
# all the time and note each acknowledgement with the epoch under which it was
# given: after the first one of a higher epoch there must be none of a lower.

use strict;
use warnings;

use LeaseholdTest;
use Test::More;
use Time::HiRes qw(usleep);

my $seed = $ENV{LEASEHOLD_SEED} || time ^ $$;
srand $seed;
note "LEASEHOLD_SEED=$seed";

# An answer that is there may have to wait for a processor to be read.
my $slack = 100;

# One group at a time; its nodes, and a writer for each.
my ($group, $a, $b, %writer);

sub new_group
{
	my (%options) = @_;
	my $writer = delete $options{writer} // {};

	$group = LeaseholdTest->new(%options);
	($a, $b) = $group->nodes;
	%writer = map {
		$_->{leasehold_name} => $group->start_writer($_, connections => 2,
			rate => 100, epoch => 1, %$writer)
	} $a, $b;
	return;
}

sub end_group
{
	my $v;

	$group->wait_holder;
	$_->stop foreach values %writer;
	$v = $group->judge(values %writer, slack => $slack,
		history => $group->history_file);
	is("$v->{late} $v->{conflicts} $v->{missing} $v->{duplicates}", '0 0 0 0',
		'over all: none late, no epoch given twice, none lost, none double');
	$_->stop foreach $group->nodes, $group->members;
	return;
}

sub other     { return $_[0] == $a ? $b : $a; }
sub writer_of { return $writer{ $_[0]{leasehold_name} }; }
sub store_epoch { return $group->store_query('SELECT epoch FROM leasehold_store.lease'); }

# Enough of the ttl of this group is over for any lease to have run out.
sub outlast
{
	my ($since, $ttl) = @_;
	wait_until('time passes', sub { clock_now() > $since + 1.4e9 * $ttl });
	return;
}

sub none_late
{
	my ($what, $since) = @_;
	my $v = $group->judge(values %writer, from => $since, slack => $slack, rows => 0);

	is($v->{late}, 0, "$what: none acknowledged late");
	is($v->{conflicts}, 0, "$what: no epoch acknowledged by both");
	return $v;
}

# Something befalls the holder; the other one writes; what was stopped goes on.
sub takeover
{
	my ($what, $befall, $resume) = @_;
	my $old = $group->wait_holder;
	my $new = other($old);

	writer_of($old)->wait_acks(20);
	my $since = clock_now();
	$befall->($old, $new);
	writer_of($new)->wait_acks(20);
	pass("$what: the other node takes over");

	my $resumed = clock_now();
	my $refused = writer_of($old)->outcomes->{refused} // 0;
	$resume->($old, $new);
	# what the old one still owed its clients, it has said then
	writer_of($old)->wait_answered($resumed);
	wait_until("$what: resumed, it refuses",
		sub { (writer_of($old)->outcomes->{refused} // 0) > $refused });
	writer_of($new)->wait_acks(20);
	none_late($what, $since);
	return;
}

# ---------------------------------------------------------------------------
# Two nodes reach for a free lease at the same moment.  If both could have it,
# or one under an epoch that had been given before, both would acknowledge.
# ---------------------------------------------------------------------------
{
	my $ttl = 0.3;
	my %won = (a => 0, b => 0);

	new_group(ttl => '300ms');
	my $since = clock_now();
	my $rounds = soak(20, 100);

	# both slept until the lease had run out for either of them
	foreach my $round (1 .. $rounds)
	{
		my $frozen = clock_now();

		$_->freeze('keeper') foreach $a, $b;
		outlast($frozen, $ttl);
		my $before = { map { $_ => $writer{$_}->acks } 'a', 'b' };
		foreach my $node (rand() < 0.5 ? ($a, $b) : ($b, $a))
		{
			$node->thaw;
			usleep(int rand 5_000);
		}
		wait_until(
			"round $round: one wins",
			sub {
				my ($winner) = grep { $writer{$_}->acks > $before->{$_} + 5 } 'a', 'b';
				$won{$winner}++ if $winner;
				$winner;
			});
	}
	pass("$rounds times both reached for it: a won $won{a}, b won $won{b}");

	# both start, and the store answers when both are up
	$rounds = soak(3, 25);
	foreach my $round (1 .. $rounds)
	{
		$_->stop foreach $a, $b;
		my ($member) = $group->members;
		$member->freeze('all');
		$_->start foreach $a, $b;
		my $thawed = clock_now();
		$member->thaw;
		wait_until("round $round: one wins",
			sub { grep { $_->acks && $_->answered($thawed) } values %writer });
		$group->wait_holder;
	}
	none_late("$rounds times both started", $since);

	my $history = $group->store_query(
		"SELECT count(*), count(DISTINCT epoch), count(*) FILTER (WHERE epoch <= 0)"
		  . " FROM leasehold_store.history WHERE to_node <> ''");
	like($history, qr/^(\d+)\|\1\|0$/, "no epoch was given twice ($history)");
	end_group();
}

# ---------------------------------------------------------------------------
# Parts of the holder stop
# ---------------------------------------------------------------------------
{
	new_group(ttl => '1s');

	# The keeper stops: nobody renews, and nobody closes the fence either.  Each
	# session must see by itself that the time is up.
	takeover('keeper stopped',
		sub { $_[0]->freeze('keeper') }, sub { $_[0]->thaw });

	# The postmaster stops: sessions, keeper and store are all well.
	takeover('postmaster stopped',
		sub { $_[0]->freeze('postmaster') }, sub { $_[0]->thaw });

	# Everything stops: whoever goes on first knows nothing.
	takeover('everything stopped',
		sub { $_[0]->freeze('all') }, sub { $_[0]->thaw });

	# Sessions go on first, the keeper last: they find the deadline of old.
	takeover('everything stopped, sessions resumed first',
		sub { $_[0]->freeze('all') },
		sub {
			my ($old) = @_;
			my $keeper = $old->worker('keeper');

			my $resumed = clock_now();
			$old->thaw(grep { $_ != $keeper } $old->pids);
			writer_of($old)->wait_answered($resumed);
			$old->thaw;
		});

	# All sessions stop, some of them in a commit, and the lease is lost
	# meanwhile; on_expiry must not be what saves us.
	$_->set_conf('leasehold.on_expiry' => 'none') foreach $a, $b;
	takeover('sessions and keeper stopped',
		sub { $_[0]->freeze('backends', 'keeper') }, sub { $_[0]->thaw });

	# The keeper goes on before the sessions.
	takeover('sessions and keeper stopped, keeper resumed first',
		sub { $_[0]->freeze('backends', 'keeper') },
		sub { $_[0]->thaw('keeper'); $_[0]->wait_state('follower'); $_[0]->thaw });

	# One session is stopped in the middle of a commit: the record is on disk,
	# the check before it was passed, only the answer is missing.
	foreach my $mode (qw(simple txn extended))
	{
		my $old = $group->wait_holder;
		my $new = other($old);
		my $id  = 90_000 + ord $mode;

		$writer{$_}->stop foreach 'a', 'b';
		$old->set_conf('synchronous_standby_names' => 'nobody');
		my $since = clock_now();
		my $stuck = LeaseholdTest::Writer->start($old->connstr('postgres'),
			name => "stuck_$mode", mode => $mode, client => $id,
			connections => 1, label => $old->{leasehold_name}, epoch => 1);
		my $pid = wait_until(
			"$mode: a commit waits",
			sub { $old->ask("SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'") });
		$old->freeze($pid, 'keeper');
		%writer = map {
			$_->{leasehold_name} => $group->start_writer($_, connections => 2,
				rate => 100, epoch => 1)
		} $new;
		$writer{ $new->{leasehold_name} }->wait_acks(20);
		# nothing keeps the commit from being done now
		$old->set_conf('synchronous_standby_names' => undef);
		$old->thaw($pid);
		# it ends, or says what it must not
		wait_until("$mode: the stopped session goes on",
			sub { my $o = $stuck->outcomes; $o->{lost} || $o->{ack} || $o->{tag} });
		$old->thaw;
		$stuck->stop;
		is($stuck->acks, 0, "stopped in the middle of a commit, $mode: no acknowledgement");
		is($stuck->outcomes->{tag} // 0, 0, "stopped in the middle of a commit, $mode: nor half of one");
		is($old->safe_psql('postgres', "SELECT count(*) FROM writes WHERE client = $id"),
			1, "stopped in the middle of a commit, $mode: it was durable, so the outcome is unknown to the client");
		like($old->log_since(0), qr/not acknowledging a commit/, 'the log says so');
		$_->stop foreach values %writer;
		%writer = map {
			$_->{leasehold_name} => $group->start_writer($_, connections => 2,
				rate => 100, epoch => 1)
		} $a, $b;
	}

	# A transaction writes, its node loses the lease and gets it back.  To the
	# session nothing has happened; but others may have written in between.
	foreach my $between ('nobody', 'the other node')
	{
		my $node = $group->wait_holder;
		my $session = $node->background_psql('postgres', on_error_stop => 0);
		my $seq = $between eq 'nobody' ? 1 : 2;

		$session->query_safe("BEGIN; INSERT INTO writes VALUES (-7, $seq)");
		my $epoch = store_epoch();
		my $frozen = clock_now();
		other($node)->freeze('keeper') if $between eq 'nobody';
		$node->freeze('keeper');
		if ($between eq 'nobody')
		{
			wait_until('the lease runs out', sub { !$node->holds });
		}
		else
		{
			$group->wait_holder(other($node));
			writer_of(other($node))->wait_acks(5);
			other($node)->freeze('keeper');
		}
		$node->thaw;
		$group->wait_holder($node);
		cmp_ok(store_epoch(), '>', $epoch, "lost to $between, got back: another epoch");
		# one that ends instead would have committed
		eval { $session->query('COMMIT') };
		like($session->{stderr}, qr/lease/,
			"lost to $between, got back: a transaction from before fails");
		is($node->safe_psql('postgres', "SELECT count(*) FROM writes WHERE client = -7 AND seq = $seq"),
			0, 'and has left nothing behind');
		eval { $session->quit };
		other($node)->thaw;
		none_late("lost to $between, got back", $frozen);
	}
	end_group();
}

# ---------------------------------------------------------------------------
# Parts of a node crash.  Shared memory is made anew, or a worker begins anew in
# the old one; either way nobody may go on with what he believed.
# ---------------------------------------------------------------------------
{
	new_group(ttl => '1s');

	foreach my $victim ('keeper', 'steward', 'a session')
	{
		my $node = $group->wait_holder;
		my $log  = $node->log_offset;
		my $since = clock_now();

		writer_of($node)->wait_acks(10);
		my $pid = $victim eq 'a session' ? ($node->backends)[0] : $node->worker($victim);
		kill 'KILL', $pid;
		$node->wait_log(qr/database system is ready to accept/, $log);
		my $restarted = clock_now();
		wait_until("$victim killed: somebody writes again",
			sub { grep { $_->answered($restarted) } values %writer });
		$group->wait_holder;
		my $holder = $group->holder // $group->wait_holder;
		writer_of($holder)->wait_acks(10);
		none_late("$victim killed, the server restarts itself", $since);
	}

	foreach my $victim ('keeper', 'steward')
	{
		my $node = $group->wait_holder;
		my $since = clock_now();
		my $pid = $node->worker($victim);
		my $postmaster = $node->postmaster_pid;

		writer_of($node)->wait_acks(10);
		kill 'TERM', $pid;
		wait_until("a new $victim",
			sub { my ($new) = $node->pids(qr/leasehold $victim/); $new && $new != $pid });
		is($node->postmaster_pid, $postmaster, "$victim ended: the server goes on");
		my $acks = { map { $_ => $writer{$_}->acks } 'a', 'b' };
		wait_until("$victim ended: somebody writes",
			sub { grep { $writer{$_}->acks > $acks->{$_} + 10 } 'a', 'b' });
		none_late("$victim ended", $since);
	}
	end_group();
}

# ---------------------------------------------------------------------------
# What must not cost the lease at all
# ---------------------------------------------------------------------------
{
	new_group(ttl => '5s', clock => 1);
	my $node = $group->wait_holder;
	my $writer = writer_of($node);
	my $since = clock_now();
	my $epoch = store_epoch();

	foreach my $hours (1, -2, 1)
	{
		foreach my $who ($node, other($node))
		{
			$who->step_clock($hours * 3600);
		}
		$writer->wait_acks(50);
	}
	$node->step_clock(86_400);
	my $stepped = clock_now();
	wait_until('as long as a lease lasts', sub { clock_now() > $stepped + 5.5e9 });
	$writer->wait_acks(10);
	is(store_epoch(), $epoch, 'wall clocks step by hours: the lease stays where it is');

	# no place for another session: the holder needs none
	my $crowd = LeaseholdTest::Writer->start($node->connstr('postgres'),
		name => 'crowd', table => 'no_such_table', connections => 70, client => 70_000,
		rate => 0.2, retry => 500, connect_timeout => 30_000, label => 'crowd');
	wait_until('no more connections', sub { ($node->try('SELECT 1'))[1] =~ /too many clients|connection slots/ });
	my $full = clock_now();
	wait_until('as long as a lease lasts', sub { clock_now() > $full + 5.5e9 });
	like(($node->try('SELECT 1'))[1], qr/too many clients|connection slots/, 'max_connections is exhausted');
	$writer->wait_acks(20);
	is(store_epoch(), $epoch, 'and the lease stays where it is');
	$crowd->stop;

	# the deadline counts the time of a suspend
	$node->suspend(60);
	wait_until('suspended for longer than the lease: it has to be had anew',
		sub { store_epoch() > $epoch });
	wait_until('somebody writes', sub { $group->holder });
	none_late('clocks', $since);
	end_group();
}

done_testing();
