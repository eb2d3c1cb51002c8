# A hand-over of a table's lease that is cut short, in each of its states.
#
# What this guards: between the request and the first row that the new holder
# writes, a hand-over passes through several hands: the row in the store, two
# keepers, the target's opener.  If one of them dies or stands still half-way, the
# lease must neither stay with nobody, nor come to somebody who has not applied what
# its last writer wrote; and whoever took it and never opened it has written nothing,
# so that the one before still counts.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use LeaseholdTest;
use TablesTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $ttl = 1;
my $group = TablesTest->new(nodes => [ 'a', 'b', 'c' ], tables => ['t'], ttl => "${ttl}s");
my @nodes = $group->nodes;
my ($a, $b, $c) = @nodes;

# What a dead node had written is late, and must not meet a number given out again.
foreach my $k (1 .. @nodes)
{
	$nodes[ $k - 1 ]->safe_psql('postgres', "ALTER TABLE t ALTER id SET INCREMENT BY 3 RESTART WITH $k");
}
$group->lease('l', 't');
$group->wait_writer('t', $a);

sub name { return $_[0]{leasehold_name}; }

sub other { my ($x, $y) = @_; return (grep { $_ != $x && $_ != $y } @nodes)[0]; }

# The lease's row in the store.
sub row
{
	my ($what) = @_;
	return $group->store_query("SELECT $what FROM leasehold_store.lease WHERE name = 'l'");
}

sub wait_row
{
	my ($condition, $seconds) = @_;
	return wait_until("the row says $condition", sub { row($condition) eq 't' }, $seconds);
}

# Time passes for whoever holds it.
sub wait_renewals
{
	my ($n) = @_;
	my $version = row('version');
	return wait_row("version >= $version + $n");
}

sub opener { return $_[0]->pids(qr/leasehold opener/); }

# Rows that were acknowledged by now, and who told so.
my %on = map { name($_) => $group->write('t', $_, connections => 1, rate => 100, retry => 20, reply_timeout => 4000) } @nodes;

sub move_to
{
	my ($to) = @_;
	return wait_until('t can be moved to ' . name($to), sub {
			my ($state, $message) = $group->move('l', $to, timeout => '5s');
			note("move to " . name($to) . ": $message") if $state ne '';
			$state eq '' });
}

# A request in the background, from a node that has no part in it.
my %asked;
sub ask_move
{
	my ($from, $to, $timeout) = @_;
	my $pid = LeaseholdTest::spawn('/dev/null', 'psql', '-X', '-q', '-d', other($from, $to)->connstr('postgres'), '-c',
		"SELECT leasehold.switchover('" . name($to) . "', 'l', timeout => '$timeout')");
	$asked{$pid} = 1;
	return $pid;
}

sub wait_asked
{
	foreach my $pid (keys %asked)
	{
		waitpid $pid, 0;
		delete $LeaseholdTest::children{$pid};
		delete $asked{$pid};
	}
	return;
}

# ---------------------------------------------------------------------------
# Holding a hand-over where it is
# ---------------------------------------------------------------------------

# One of them after the other: the request stands and its target is getting ready;
# it is; the old holder has closed its fence; it has let go, for the target; the
# target has it, and has not opened it.  False if it was over before it was seen.
# "before" is done just before it is asked for.
sub hold_at
{
	my ($state, $from, $to, $before) = @_;
	my $target = name($to);

	# both have an opener then, for some seconds
	move_to($_) foreach $to, $from;
	$before->() if $before;
	my @opener = opener($to);
	$to->freeze(@opener);
	ask_move($from, $to, '4s');
	eval { wait_row("handover_to = '$target'", 4) } || return 0;
	return 1 if $state eq 'requested';

	# nothing is written out without the steward
	$from->freeze($state eq 'draining' ? 'steward' : 'keeper');
	$to->thaw(@opener);
	return eval { wait_until('its fence is closed', sub { $from->status('l')->{state} eq 'draining' }, $ttl) }
	  if $state eq 'draining';
	eval { wait_row('ready_seq = request_seq', $ttl) } || return 0;
	return $from->holds('l') if $state eq 'ready';

	$to->freeze($state eq 'released' ? 'keeper' : opener($to));
	$from->thaw('keeper');
	return eval { wait_row("holder = '' AND reserved_for = '$target'", $ttl) } if $state eq 'released';
	return eval { wait_row("holder = '$target'", $ttl) } && !$to->holds('l');
}

sub hold_surely
{
	my ($state, @who) = @_;
	foreach my $try (1 .. 5)
	{
		return if hold_at($state, @who);
		note("not seen $state, again");
		$_->thaw foreach @nodes;
		wait_asked();
	}
	die "a hand-over was never seen $state";
}

# ---------------------------------------------------------------------------
# One of the two is left alone
# ---------------------------------------------------------------------------

# The longest time without an acknowledgement since then, up to now.
sub longest_gap
{
	my ($since) = @_;
	my @at = ($since);
	foreach my $writer (values %on)
	{
		open my $fh, '<', $writer->log or next;
		while (my $line = <$fh>)
		{
			my @field = split ' ', $line;
			push @at, $field[1] if @field > 6 && $field[6] eq 'ack' && $field[1] > $since;
		}
		close $fh;
	}
	@at = sort { $main::a <=> $main::b } @at, clock_now();
	my $gap = 0;
	foreach my $i (1 .. $#at)
	{
		$gap = $at[$i] - $at[ $i - 1 ] if $at[$i] - $at[ $i - 1 ] > $gap;
	}
	return $gap / 1e9;
}

sub holders { return join ' ', map { name($_) } grep { $_->alive && $_->holds('l') } @nodes; }

my %harm = (
	'the old holder is killed' => sub { $_[0]->kill_all; $_[1]->thaw; },
	'the target is killed'     => sub { $_[1]->kill_all; $_[0]->thaw; },
	'the old holder\'s keeper stands still' => sub { $_[0]->freeze('keeper'); $_[0]->thaw($_[0]->worker('steward')); $_[1]->thaw; },
	'the target\'s keeper stands still' => sub { $_[1]->freeze('keeper'); $_[1]->thaw(opener($_[1])); $_[0]->thaw; },
	'the target\'s keeper ends' => sub { kill 'TERM', $_[1]->worker('keeper'); $_[1]->thaw; $_[0]->thaw; },
	# with that a server starts anew by itself
	'the old holder\'s keeper is killed' => sub { kill 'KILL', $_[0]->worker('keeper'); $_->thaw foreach @_; },
	'the target\'s keeper is killed' => sub { kill 'KILL', $_[1]->worker('keeper'); $_->thaw foreach @_; });

sub left_alone
{
	my ($state, $harm, $from, $to) = @_;
	my $what = "$state, $harm";

	hold_surely($state, $from, $to);
	my $since = clock_now();
	$harm{$harm}->($from, $to);
	# until the request is done, or void, and whoever has the lease writes
	wait_row("holder <> '' AND (handover_to = '' OR holder <> '" . name($from) . "')") if $state ne 'requested';
	my $writer = $group->wait_writer('t');
	$on{ name($writer) }->wait_acks(10);
	my $gap = longest_gap($since);
	# whoever has let go with the last of it not sent is waited for: for a second,
	# before the lease is given back to it, and again when its time for that is over
	my $most = 3 * $ttl + ($what =~ /^(?:released|unopened), the old holder is killed/ ? 2 : 0);
	cmp_ok($gap, '<=', $most, sprintf '%s: %s writes, after %.2f s', $what, name($writer), $gap);
	$_->thaw foreach @nodes;
	foreach my $node (grep { $_->alive } @nodes)
	{
		wait_until(name($node) . ' answers', sub { ($node->try('SELECT 1'))[0] eq '' });
	}
	is(split(/ /, holders()) + 0, 1, "$what: it has one holder");
	$_->start_again foreach grep { !$_->alive } @nodes;
	wait_asked();
	return;
}

my @cases = (
	[ 'requested', 'the old holder is killed' ],
	[ 'requested', 'the target is killed' ],
	[ 'ready', 'the old holder is killed' ],
	[ 'ready', 'the target is killed' ],
	[ 'draining', 'the old holder is killed' ],
	[ 'draining', 'the target is killed' ],
	[ 'draining', 'the old holder\'s keeper stands still' ],
	[ 'draining', 'the old holder\'s keeper is killed' ],
	[ 'released', 'the old holder is killed' ],
	[ 'released', 'the target\'s keeper stands still' ],
	[ 'unopened', 'the old holder is killed' ],
	[ 'unopened', 'the target is killed' ],
	[ 'unopened', 'the target\'s keeper stands still' ],
	[ 'unopened', 'the target\'s keeper ends' ],
	[ 'unopened', 'the target\'s keeper is killed' ]);
my $started = clock_now();
foreach my $case (@cases)
{
	my $began = clock_now();
	left_alone(@$case, $a, $b);
	diag(sprintf '%s: %.1f s', "@$case", (clock_now() - $began) / 1e9);
}

# ---------------------------------------------------------------------------
# Who wrote last, and how far that came
# ---------------------------------------------------------------------------

# All that was written so far is there; from now on nothing can be applied.
my $lock;
sub lock_apply
{
	my ($node) = @_;

	unlock_apply() if $lock;
	$group->caught_up($node);
	$lock = $node->background_psql('postgres');
	$lock->query_safe('BEGIN; LOCK TABLE t IN SHARE MODE');
	return;
}

sub unlock_apply
{
	$lock->query_safe('COMMIT');
	$lock->quit;
	undef $lock;
	return;
}

# This node has taken the lease, and has a second for opening it too early.
sub waits_for_rows
{
	my ($node, $what, $renewals) = @_;

	ok(eval { wait_row("holder = '" . name($node) . "'", 10 * $ttl) }, "$what: " . name($node) . ' has taken it') or die;
	is(row("sync_set || ',' || (holder_lsn <> '') || ',' || (timeline_epoch < epoch)"), 'a,true,true',
		"$what: a wrote last, says the row, and how far it came");
	wait_renewals($renewals);
	is($node->holds('l'), 0, "$what: " . name($node) . ' does not open it before that is applied');
	return;
}

sub has_rows
{
	my ($node, $what, $offset) = @_;
	my $told = $on{a}->acks;
	my $client = (split ' ', (split /\n/, slurp_file($on{a}->log))[0])[3];

	unlock_apply();
	$group->wait_writer('t', $node);
	cmp_ok($node->ask("SELECT count(*) FROM t WHERE client = $client"), '>=', $told, "$what: when it does, all that a has acknowledged is there");
	unlike($node->log_since($offset), qr/opened without the node that wrote them last/, "$what: nobody was missed");
	$on{ name($node) }->wait_acks(10);
	is(row("sync_set || ',' || holder_lsn || ',' || (timeline_epoch = epoch)"), name($node) . ',,true', "$what: now it has written last");
	return;
}

# b takes it over from a, and dies before it has opened it.
{
	my $what = 'an epoch that was never opened';
	my $offset = $c->log_offset;

	# which will not take it by itself
	$a->safe_psql('postgres', q{SELECT leasehold.join_lease('l', 'a', 0)});
	hold_surely('unopened', $a, $b, sub { lock_apply($c); $on{a}->wait_acks(20); });
	$b->kill_all;
	waits_for_rows($c, $what, 5);
	has_rows($c, $what, $offset);
	$b->start_again;
	wait_asked();
	$a->safe_psql('postgres', q{SELECT leasehold.join_lease('l', 'a', 200)});
}

# b hands it to a; what it wrote comes to c on a way of its own.
{
	my $what = 'an earlier writer';

	move_to($b);
	$c->safe_psql('postgres', 'ALTER SUBSCRIPTION from_b DISABLE');
	$on{b}->wait_acks(10);
	move_to($a);
	my $told = $on{b}->acks;
	$on{a}->wait_acks(10);
	my ($state, $message) = $group->move('l', $c);
	is($state, '55000', "$what: c, which has not all that b wrote before a, is not handed it");
	like($message, qr{subscription "from_b" does not run, and has applied up to \S+ of \S+}, "$what: ... and says so");
	is($a->holds('l'), 1, "$what: a goes on");
	$c->safe_psql('postgres', 'ALTER SUBSCRIPTION from_b ENABLE');
	move_to($c);
	my $client = (split ' ', (split /\n/, slurp_file($on{b}->log))[0])[3];
	cmp_ok($c->ask("SELECT count(*) FROM t WHERE client = $client"), '>=', $told, "$what: when it is, all that b has acknowledged is there");
	# who is dead cannot be asked, and keeps nobody
	$b->kill_all;
	move_to($a);
	$b->start_again;
}

# A keeper that ends alone while a hand-over is being drained: true if it was in time,
# or if the lease has moved all the same.
sub end_keeper_in_drain
{
	my $keeper = $a->worker('keeper');

	# commits on a do not end; when the server is told to read its settings, they do
	$a->set_conf(synchronous_standby_names => 'nobody');
	$a->adjust_conf('postgresql.conf', 'synchronous_standby_names', undef);
	wait_until('a commit is under way', sub { $a->ask("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") > 0 });
	my $offset = $a->log_offset;
	ask_move($a, $b, '20s');
	wait_until('its fence is closed', sub { $a->status('l')->{state} eq 'draining' });
	kill 'TERM', $keeper;
	wait_until('another keeper', sub { $a->worker('keeper') != $keeper });
	my $late = $a->log_since($offset) =~ /running commits did not end in time.*the keeper was told to end/s;
	$a->reload;
	wait_asked() if $late;
	return !$late;
}

{
	my $what = 'a keeper that ends';
	my $offset = $b->log_offset;

	# commits under way are waited for for half of that
	$a->safe_psql('postgres', q{SELECT leasehold.alter_lease('l', '4s')});
	move_to($_) foreach $b, $a;
	lock_apply($b);
	$on{a}->wait_acks(20);
	my $epoch = $a->epoch('l');
	foreach my $try (1 .. 5)
	{
		last if end_keeper_in_drain();
		note('not seen draining, again');
	}
	waits_for_rows($b, $what, 2);
	is($group->store_query("SELECT string_agg(from_node || '>' || to_node || ':' || reason, ' ' ORDER BY epoch) FROM leasehold_store.history WHERE lease = 'l' AND epoch > $epoch AND to_node <> ''"),
		'>b:handed over', "$what: its successor has handed it over");
	has_rows($b, $what, $offset);
	wait_asked();
	$a->safe_psql('postgres', q{SELECT leasehold.alter_lease('l', '1s')});
}

# ---------------------------------------------------------------------------
# A request that was withdrawn is nobody's business any more
# ---------------------------------------------------------------------------
{
	# how often it wakes up, in a second
	my $pace = sub {
		my ($node) = @_;
		my $pid = $node->worker('keeper');
		my $count = sub { slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m ? $1 : die; };
		my ($began, $before) = (clock_now(), $count->());
		wait_renewals(6);
		return ($count->() - $before) / (clock_now() - $began) * 1e9;
	};

	my @opener;
	hold_surely('requested', $a, $b);
	my $waiting = $pace->($b);
	wait_row("handover_to = ''");
	wait_asked();
	my $after = $pace->($b);
	note(sprintf 'the keeper of b wakes up %.0f times a second while it waits, %.0f after that', $waiting, $after);
	cmp_ok($after, '<', 300, 'a target does not wait for what was withdrawn');
	$_->thaw foreach @nodes;
}

# ---------------------------------------------------------------------------
# What it came to
# ---------------------------------------------------------------------------
move_to($_) foreach @nodes;
$_->stop foreach values %on;
$group->caught_up;
is($group->differences, '', 'all copies are the same');
my $verdict = $group->judge_table('t', values %on);
is($verdict->{late}, 0, 'no acknowledgement after the next holder had one');
is($verdict->{conflicts}, 0, 'each under the epoch of its node');
is($verdict->{missing}, 0, 'every acknowledged row exists');
is($verdict->{duplicates}, 0, 'once');

$_->stop foreach $group->nodes, $group->members;
done_testing();
