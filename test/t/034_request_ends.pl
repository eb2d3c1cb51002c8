# How a request of people ends: done, refused, or taken back.
#
# What this guards: a switchover whose caller was cancelled, timed out or was
# terminated must not move the lease afterwards, and must not take somebody
# else's later request with it.

use strict;
use warnings;

use LeaseholdTest;
use LeaseholdWire;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# A ttl that nobody waits for: what moves the lease here is a request.
my $group = LeaseholdTest->new(nodes => [ 'a', 'b', 'c' ], members => 3, ttl => '20s',
	conf => "leasehold.renew_interval = '1s'\nleasehold.health_timeout = '60s'");
my ($a, $b, $c) = $group->nodes;
my @members = $group->members;

# What each member has in this column of the lease's row.
sub rows
{
	my ($column) = @_;
	return join ' ', map { '<' . $_->safe_psql('leasehold_store',
		"SELECT $column FROM leasehold_store.lease WHERE name = 'main'") . '>' } @members;
}

sub wait_asked
{
	my ($target) = @_;

	wait_until("every member has the request for '$target'",
		sub { rows('handover_to') eq "<$target> <$target> <$target>" });
	return;
}

# The holder has looked at the store, and acted on what it found.
sub wait_renewed
{
	my ($node) = @_;
	my $version = $group->store_query('SELECT version FROM leasehold_store.lease');

	wait_until('the holder renews',
		sub { $group->store_query('SELECT version FROM leasehold_store.lease') > $version + 5 });
	return;
}

sub wait_seen
{
	foreach my $by ($a, $b, $c)
	{
		wait_until($by->name . ' sees that all are alive', sub {
			$by->ask('SELECT count(*) FROM leasehold.nodes WHERE alive') == 3 });
	}
	return;
}

# Dies without a last word: a keeper that sees the others die lets go of the lease.
sub kill_at_once
{
	my ($node) = @_;

	$node->freeze('keeper');
	$node->kill_all;
	return;
}

sub begin_switchover
{
	my ($from, $target) = @_;
	my $caller = LeaseholdWire->connect($from);

	$caller->send("SELECT leasehold.switchover('$target', timeout => '60s')");
	wait_asked($target);
	return $caller;
}

# ---------------------------------------------------------------------------
# A caller that goes takes its request along
# ---------------------------------------------------------------------------
my $epoch = $a->epoch;
wait_seen();

# The holder's keeper is stopped, so that the request stands; awake again, it acts
# on whatever it finds.
sub ends
{
	my ($how, $state, $prepare, $befall) = @_;

	$a->freeze('keeper');
	my $caller = LeaseholdWire->connect($c);
	$caller->query($prepare) if $prepare;
	$caller->send("SELECT leasehold.switchover('b', timeout => '60s')");
	wait_asked('b');
	$befall->($caller);
	is($caller->collect->{error}, $state, "$how: the call ends");
	wait_until("$how: the request is withdrawn", sub { rows('handover_to') eq '<> <> <>' });
	pass("$how: its request is withdrawn");
	$a->thaw;
	wait_renewed($a);
	is($a->epoch, $epoch, '... and the lease has not moved');
	$caller->close;
	return;
}
ends('cancelled', '57014', undef,
	sub { $c->safe_psql('postgres', 'SELECT pg_cancel_backend(' . $_[0]->pid . ')') });
ends('statement_timeout', '57014', "SET statement_timeout = '6s'", sub { });
ends('terminated', '57P01', undef,
	sub { $c->safe_psql('postgres', 'SELECT pg_terminate_backend(' . $_[0]->pid . ')') });

# Somebody else's request, posted since, stays.
{
	$a->freeze('keeper');
	my $first = begin_switchover($c, 'b');
	$c->freeze($first->pid);
	my $second = begin_switchover($b, 'c');
	$b->safe_psql('postgres', 'SELECT 1');
	$c->safe_psql('postgres', 'SELECT pg_cancel_backend(' . $first->pid . ')');
	$c->thaw;
	isnt($first->collect->{error}, '', 'cancelled after another has asked');
	is(rows('handover_to'), '<c> <c> <c>', "... and the other's request stands");
	$a->thaw;
	my $answer = $second->collect;
	is($answer->{error}, '', '... and is done') or diag(explain($answer));
	$group->wait_holder($c);
	$_->close foreach $first, $second;
	is(($b->try("SELECT leasehold.switchover('a')"))[0], '', 'back to where it was');
	$group->wait_holder($a);
	$epoch = $a->epoch;
}

# The store does not answer: the caller is not kept waiting for long.
{
	$a->freeze('keeper');
	my $caller = begin_switchover($c, 'b');
	$_->freeze('all') foreach @members;
	my $log = $c->log_offset;
	my $start = clock_now();
	$c->safe_psql('postgres', 'SELECT pg_cancel_backend(' . $caller->pid . ')');
	is($caller->collect->{error}, '57014', 'cancelled while the store is silent');
	cmp_ok((clock_now() - $start) / 1e9, '<', 5, '... ends in spite of that');
	$c->wait_log(qr/could not withdraw the request/, $log);
	pass('... and the log says what may come of it');
	$_->thaw foreach @members;
	# asking for the ttl that it has takes the place of whatever stands there
	is(($b->try("SELECT leasehold.alter_lease('main', '20s')"))[0], '', 'another request');
	$a->thaw;
	wait_renewed($a);
	is($a->epoch, $epoch, '... takes its place');
	$caller->close;
}

# The holder has closed its fence already, and waits for a commit.
{
	wait_seen();
	$a->set_conf('synchronous_standby_names' => 'nobody');
	my $writer = LeaseholdWire->connect($a);
	$writer->send('CREATE TABLE waits ()');
	wait_until('a commit waits', sub {
		$a->safe_psql('postgres', "SELECT wait_event FROM pg_stat_activity WHERE pid = " . $writer->pid) eq 'SyncRep' });
	my $log = $a->log_offset;
	my $caller = LeaseholdWire->connect($c);
	$caller->send("SELECT leasehold.switchover('b', timeout => '60s')");
	$a->wait_state('draining');
	$c->safe_psql('postgres', 'SELECT pg_cancel_backend(' . $caller->pid . ')');
	is($caller->collect->{error}, '57014', 'cancelled while the holder waits for a commit');
	$a->wait_log(qr/the lease is kept, because the hand-over was withdrawn/, $log);
	$a->set_conf('synchronous_standby_names' => undef);
	is($writer->collect->{error}, '', '... the commit ends well');
	wait_renewed($a);
	is($a->epoch, $epoch, '... and the lease has not moved');
	$_->close foreach $writer, $caller;
}

$_->stop foreach $group->nodes, $group->members;

# ---------------------------------------------------------------------------
# It goes to somebody else
# ---------------------------------------------------------------------------
# Long enough for the target to be taken for alive when it is stopped; and what is
# reserved stays so for a third of it.
$group = LeaseholdTest->new(nodes => [ 'a', 'b', 'c' ], ttl => '6s',
	conf => "leasehold.health_timeout = '60s'");
($a, $b, $c) = $group->nodes;
@members = $group->members;

# The caller's answer, and how long after this moment it came.
sub answer_of
{
	my ($caller) = @_;
	my $start = clock_now();
	my $answer = $caller->collect;

	$answer->{text} = join "\n", map { $_ // '' } @$answer{qw(message detail hint)};
	return ($answer, (clock_now() - $start) / 1e9);
}

sub wait_reserved
{
	wait_until('the lease is reserved',
		sub { $group->store_query('SELECT reserved_for FROM leasehold_store.lease') eq 'b' });
	return;
}

# The target does not take it, and the old holder takes it back.
{
	wait_seen();
	$b->freeze('keeper');
	my $caller = LeaseholdWire->connect($c);
	$caller->send("SELECT leasehold.switchover('b', timeout => '60s')");
	wait_reserved();
	$group->wait_holder($a);
	my ($answer, $took) = answer_of($caller);
	is($answer->{error}, '55000', 'the old holder has taken it back: the call fails');
	cmp_ok($took, '<', 10, '... at once');
	like($answer->{text}, qr/Node "a" has taken it back/, '... and says so');
	$b->thaw;
	$caller->close;
}

# Old holder and target are gone: the third takes it.
{
	wait_seen();
	$b->freeze('keeper');
	my $caller = LeaseholdWire->connect($c);
	$caller->send("SELECT leasehold.switchover('b', timeout => '60s')");
	wait_reserved();
	kill_at_once($a);
	$group->wait_holder($c);
	my ($answer, $took) = answer_of($caller);
	is($answer->{error}, '55000', 'a third node has taken it: the call fails');
	cmp_ok($took, '<', 10, '... at once');
	like($answer->{text}, qr/Node "c" has taken it/, '... and says which');
	$b->thaw;
	$a->start_again;
	$caller->close;
}

# ---------------------------------------------------------------------------
# The target has it already, or had when it died
# ---------------------------------------------------------------------------
# Nobody takes it from a dead holder here.
$_->set_conf('leasehold.priority' => 0) foreach $a, $b;
set_ttl(2000);

sub set_ttl
{
	my ($ms) = @_;

	$a->safe_psql('postgres', "SELECT leasehold.alter_lease('main', '$ms ms')");
	wait_until('the new ttl holds',
		sub { $group->store_query('SELECT ttl_ms FROM leasehold_store.lease') == $ms });
	return;
}

wait_seen();
$epoch = $c->epoch;
foreach my $from ($a, $c)
{
	my $start = clock_now();
	my ($state, $text) = $from->try("SELECT leasehold.switchover('c')");
	is($text, $epoch, 'to the holder, called on ' . $from->name . ': its epoch');
	cmp_ok((clock_now() - $start) / 1e9, '<', 5, '... at once');
}
$a->safe_psql('postgres', 'SELECT leasehold.pause()');
is(($a->try("SELECT leasehold.switchover('c')"))[1], $epoch, '... in a pause, too');
$a->safe_psql('postgres', 'SELECT leasehold.resume()');

kill_at_once($c);
foreach my $when ('just died', 'has been dead for a while')
{
	my $start = clock_now();
	my ($state, $text) = $a->try("SELECT leasehold.switchover('c', timeout => '60s')");
	is($state, '55000', "the holder $when: the call fails");
	like($text, qr/node "c" is not alive/i, '... and says why');
	cmp_ok((clock_now() - $start) / 1e9, '<', 15, '... soon');
	is($group->store_query('SELECT holder FROM leasehold_store.lease'), 'c', '... though the row names it');
	is(rows('handover_to'), '<>', '... and no request stays');
}

# Its next run takes the lease: then it has it.
$c->start_again;
$group->wait_holder($c);
set_ttl(20000);
$epoch = $c->epoch;
kill_at_once($c);
{
	my $caller = LeaseholdWire->connect($a);
	$caller->send("SELECT leasehold.switchover('c', timeout => '60s')");
	wait_until('it is asked for', sub { rows('handover_to') eq '<c>' });
	is(LeaseholdWire::read_more($caller, 0.2), 0, 'the run that holds it is dead: the call waits');
	$c->start_again;
	my ($answer, $took) = answer_of($caller);
	is($answer->{error}, '', 'the next run has it: the call is done') or diag($answer->{text});
	cmp_ok($answer->{value}, '>', $epoch, '... under a new epoch');
	is($c->epoch, $answer->{value}, '... that of the holder');
	$caller->close;
}

# ---------------------------------------------------------------------------
# A pause whose holder is dead, or only slow
# ---------------------------------------------------------------------------
set_ttl(4000);
$a->safe_psql('postgres', 'SELECT leasehold.pause()');
{
	$c->freeze('keeper');
	my $caller = LeaseholdWire->connect($a);
	$caller->send('SELECT leasehold.resume()');
	is(LeaseholdWire::read_more($caller, 1), 0, 'resume() waits for a holder that is slow');
	$c->thaw;
	is(($caller->collect)->{error}, '', '... and is done when it answers');
	$caller->close;
}

# A caller that goes takes its pause along, or the end of one.
sub pause_ends
{
	my ($function, $how, $state, $wanted, $befall) = @_;
	my $before = rows('pause_wanted');

	$c->freeze('keeper');
	my $caller = LeaseholdWire->connect($a);
	$caller->send("SELECT leasehold.$function()");
	wait_until("$function() is asked for", sub { rows('pause_wanted') eq "<$wanted>" });
	$befall->($caller);
	is($caller->collect->{error}, $state, "$function(), $how: the call ends");
	wait_until("$function(), $how: the request is withdrawn", sub { rows('pause_wanted') eq $before });
	$c->thaw;
	$group->wait_holder($c);
	wait_renewed($c);
	is(rows('frozen'), $before, '... and nothing comes of it');
	$caller->close;
	return;
}
my @ways = (
	[ 'cancelled', '57014', sub { $a->safe_psql('postgres', 'SELECT pg_cancel_backend(' . $_[0]->pid . ')') } ],
	[ 'terminated', '57P01', sub { $a->safe_psql('postgres', 'SELECT pg_terminate_backend(' . $_[0]->pid . ')') } ]);
pause_ends('pause', @$_[0, 1], 't', $_->[2]) foreach @ways;
$a->safe_psql('postgres', 'SELECT leasehold.pause()');
pause_ends('resume', @$_[0, 1], 'f', $_->[2]) foreach @ways;
$epoch = $group->store_query('SELECT epoch FROM leasehold_store.lease');
kill_at_once($c);
# whoever did not know that it is silent would have to see it so for a ttl
foreach my $try ([ 'has just died', 9 ], [ 'is known to be silent', 4 ])
{
	my ($when, $limit) = @$try;
	my $start = clock_now();
	my ($state, $text) = $a->try('SELECT leasehold.resume()');
	is($state, '55000', "resume(), the holder $when: refused");
	cmp_ok((clock_now() - $start) / 1e9, '<', $limit, '... soon');
	like($text, qr/node "c", does not answer: its heartbeat has stood still/, '... says why');
	like($text, qr/force => true/, '... and what it takes');
}
is($group->store_query('SELECT holder, epoch, frozen FROM leasehold_store.lease'),
	"c|$epoch|t", 'the pause stands: nothing was forced');
is(rows('pause_wanted'), '<t>', '... and is still asked for');
$c->start_again;
$group->wait_holder($c);
wait_renewed($c);
is(rows('frozen'), '<t>', '... by the next run of its holder, too');
$a->safe_psql('postgres', 'SELECT leasehold.resume()');

# Nobody holds it: what has been frozen so far does not stay so.
{
	$_->set_conf('leasehold.priority' => 0) foreach $group->nodes;
	$c->safe_psql('postgres', 'SELECT leasehold.release()');
	wait_until('nobody holds it', sub { rows('holder') eq '<>' });
	my $store = $members[0];
	$store->safe_psql('leasehold_store', q{CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(2); RETURN new; END'; CREATE TRIGGER wait AFTER UPDATE OF frozen ON leasehold_store.lease FOR EACH ROW WHEN (new.frozen AND NOT old.frozen) EXECUTE FUNCTION wait()});
	my $caller = LeaseholdWire->connect($a);
	$caller->send('SELECT leasehold.pause()');
	wait_until('pause() is asked for', sub { rows('pause_wanted') eq '<t>' });
	$a->safe_psql('postgres', 'SELECT pg_cancel_backend(' . $caller->pid . ')');
	is($caller->collect->{error}, '57014', 'pause() of a free lease, cancelled');
	wait_until('the request is withdrawn', sub { rows('pause_wanted') eq '<f>' });
	wait_until('its row is not frozen', sub { rows('frozen') eq '<f>' });
	is($c->try('SELECT leasehold.acquire()') && $c->holds, 1, '... and it can be taken');
	$caller->close;
}

$_->stop foreach $group->nodes, $group->members;

# ---------------------------------------------------------------------------
# A target that has just been started
# ---------------------------------------------------------------------------
# Nodes are read so seldom here that what a node knows of another is seconds old.
$group = LeaseholdTest->new(nodes => [ 'a', 'b', 'c' ], ttl => '14s',
	conf => "leasehold.renew_interval = '6s'\nleasehold.health_timeout = '60s'");
($a, $b, $c) = $group->nodes;
@members = $group->members;
{
	my $run = "SELECT incarnation FROM leasehold_store.node WHERE name = 'b'";
	my $before = $group->store_query($run);

	wait_seen();
	$b->stop;
	foreach my $by ($a, $c)
	{
		wait_until($by->name . ' knows that b is down',
			sub { $by->ask("SELECT alive FROM leasehold.nodes WHERE node = 'b'") eq 'f' });
		my ($state, $text) = $by->try("SELECT leasehold.switchover('b')");
		is($state, '55000', 'the target is down: refused on ' . $by->name);
		like($text, qr/node "b" is not alive/, '... which says so');
	}
	$b->start;
	wait_until('the store knows of the new run', sub { $group->store_query($run) ne $before });
	my $start = clock_now();
	my ($state, $text) = $c->try("SELECT leasehold.switchover('b')");
	is($state, '', 'the target has just been started: it gets the lease') or diag($text);
	cmp_ok((clock_now() - $start) / 1e9, '<', 3, '... at once');
	is($b->epoch, $text, '... under the epoch that the call returned');

	# and called on a node that has just been started
	$before = $group->store_query($run =~ s/'b'/'c'/r);
	$c->restart;
	wait_until('the store knows of the new run', sub { $group->store_query($run =~ s/'b'/'c'/r) ne $before });
	$start = clock_now();
	($state, $text) = $c->try("SELECT leasehold.switchover('c')");
	is($state, '', 'to a node just started, called there') or diag($text);
	cmp_ok((clock_now() - $start) / 1e9, '<', 3, '... at once');
}

done_testing();
