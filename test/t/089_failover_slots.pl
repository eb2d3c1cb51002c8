# A logical consumer of a primary that fails over (17+).
#
# A consumer's slot lives on the primary.  If the primary dies, the consumer must
# find its slot on the next one, and there has to be everything in it that it has
# not had yet; and it must not have had what the next primary does not know.  So
# the standbys copy the slot, and the consumer gets nothing before they have it.
# But a standby that is gone must not hold it up for ever.

use strict;
use warnings;

use LeaseholdTest;
use Test::More;

plan skip_all => 'standbys have copies of logical slots from PostgreSQL 17 on'
  if PostgreSQL::Test::Cluster->new('any')->pg_version < 17;

my $group = LeaseholdTest->new(
	kind  => 'physical',
	nodes => [ 'a', 'b', 'c' ],
	ttl   => '3s',
	conf  => join("\n", 'wal_level = logical', 'hot_standby_feedback = on',
		'wal_receiver_status_interval = 1s', 'sync_replication_slots = on',
		'leasehold.zero_loss = on', ''));
my ($a, $b, $c) = $group->nodes;
my $consumer = LeaseholdTest::Node->member('consumer', empty => 1);

sub others { my ($not) = @_; return grep { $_ != $not } $group->nodes; }

# Whom the consumer waits for.
sub wait_waited_for
{
	my ($holder, @standbys) = @_;
	my $expected = join ',', sort map { "leasehold_$_->{leasehold_name}" } @standbys;

	wait_until("$holder->{leasehold_name} has the consumer wait for $expected", sub {
			$holder->ask(q{SELECT string_agg(name, ',' ORDER BY name) FROM unnest(string_to_array(current_setting('synchronized_standby_slots'), ',')) AS name}) eq $expected });
	return;
}

# There is a copy, and it would outlive a promotion.
sub wait_copy
{
	foreach my $standby (@_)
	{
		wait_until("$standby->{leasehold_name} has a copy of the slot", sub {
				$standby->ask(q{SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'consumer' AND synced AND failover AND NOT temporary AND invalidation_reason IS NULL}) eq '1' });
	}
	return;
}

sub consumed
{
	my ($client) = @_;
	return $consumer->safe_psql('postgres', "SELECT count(*) FROM writes WHERE client = $client");
}

# A row written now comes to the consumer.
my $rows = 0;
sub wait_consumed
{
	my ($holder, $what) = @_;
	my $seq = ++$rows;

	$holder->safe_psql('postgres', "INSERT INTO writes VALUES (-1, $seq, 0)");
	wait_until("the consumer gets what is written: $what", sub { consumed(-1) == $seq });
	pass("$what: the consumer goes on");
	return;
}

sub made_to_wait
{
	my ($holder) = @_;
	return $holder->ask(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'WaitForStandbyConfirmation'}) eq '1';
}

# The synchronous standby, and the other one.
sub by_synchronous
{
	my ($holder) = @_;
	my $name = wait_until('a standby is synchronous', sub {
			my $answer = $holder->ask('SELECT zero_loss FROM leasehold.status');
			$answer =~ /^[abc]$/ ? $answer : undef });
	return ($group->node($name), grep { $_->{leasehold_name} ne $name } others($holder));
}

# Both have the very same rows.
sub same_rows
{
	my ($holder, $what) = @_;
	my $sum = q{SELECT count(*), md5(string_agg(client || ' ' || seq, ',' ORDER BY client, seq)) FROM writes};

	is($consumer->safe_psql('postgres', $sum), $holder->safe_psql('postgres', $sum),
		"$what: the consumer has what the primary has");
	return;
}

# ---------------------------------------------------------------------------
# Standbys have copies
# ---------------------------------------------------------------------------

foreach my $standby ($b, $c)
{
	like($standby->ask('SHOW primary_conninfo'), qr/dbname='postgres'/,
		"$standby->{leasehold_name}: primary_conninfo names a database");
}
my $check = q{SELECT ok, detail FROM leasehold.check() WHERE item = 'sync_replication_slots'};
like($b->ask($check), qr/^t/, 'check() finds all in order');
$b->set_conf('hot_standby_feedback' => 'off');
like($b->ask($check), qr/^f\|.*hot_standby_feedback is off/, 'or says what is not');
$b->set_conf('hot_standby_feedback' => 'on');
is($a->ask('SHOW synchronized_standby_slots'), '', 'nobody is waited for without a consumer');

$a->safe_psql('postgres', 'CREATE PUBLICATION all_writes FOR TABLE writes');
$consumer->make_table;
$consumer->safe_psql('postgres', q{CREATE SUBSCRIPTION consumer CONNECTION '} . $group->multi_connstr
	  . q{' PUBLICATION all_writes WITH (failover = true)});
my $writer = $group->start_writer('multi', connections => 2, epoch => 1, rate => 100);
wait_waited_for($a, $b, $c);
wait_copy($b, $c);
pass('both standbys have a copy, and the consumer waits for them');

# ---------------------------------------------------------------------------
# A standby that is gone
# ---------------------------------------------------------------------------

my ($synchronous, $other) = by_synchronous($a);
$other->kill_all;
wait_consumed($a, 'one standby is gone');
wait_waited_for($a, $synchronous);
$synchronous->kill_all;
wait_consumed($a, 'both are gone');
wait_waited_for($a);
foreach my $standby ($synchronous, $other)
{
	$standby->start_again;
	$standby->wait_streaming($a);
}
wait_waited_for($a, $b, $c);
wait_copy($b, $c);
pass('they are back, and waited for again');

# With strict, whoever is synchronous may take over though it is gone: the consumer
# must not have more than it.
$a->set_conf('leasehold.zero_loss' => 'strict');
($synchronous, $other) = by_synchronous($a);
$other->kill_all;
wait_waited_for($a, $synchronous);
$synchronous->kill_all;
wait_until('its slot is free', sub {
		$a->ask("SELECT active FROM pg_replication_slots WHERE slot_name = 'leasehold_$synchronous->{leasehold_name}'") eq 'f' });
# (the other slot is made again by whoever sees to synchronized_standby_slots, too)
$a->safe_psql('postgres', "SELECT pg_drop_replication_slot('leasehold_$other->{leasehold_name}')");
wait_until('slots have been seen to', sub {
		$a->ask("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'leasehold_$other->{leasehold_name}'") eq '1' });
is($a->ask('SHOW synchronized_standby_slots'), "leasehold_$synchronous->{leasehold_name}",
	'the one that may take over is waited for though it is gone');
$a->safe_psql('postgres', q{SET synchronous_commit = local; INSERT INTO writes VALUES (-3, 1, 0)});
wait_until('the consumer is made to wait', sub { made_to_wait($a) });
is(consumed(-3), 0, 'the consumer gets nothing that it does not have');
foreach my $standby ($synchronous, $other)
{
	$standby->start_again;
	$standby->wait_streaming($a);
}
wait_until('the consumer gets it', sub { consumed(-3) == 1 });
$a->set_conf('leasehold.zero_loss' => 'on');
wait_waited_for($a, $b, $c);
wait_copy($b, $c);

# ---------------------------------------------------------------------------
# A hand-over
# ---------------------------------------------------------------------------

# The primary on which the slot was made is shut down in order, and comes back as
# it is: with the slot that once was the consumer's.
$writer->wait_acks(100);
$a->stop('fast');
my $holder = $group->wait_holder(not => $a);
$writer->wait_acks(100);
wait_consumed($holder, "a is shut down, $holder->{leasehold_name} takes over");
$a->set_standby_mode;
$a->start;
$a->wait_streaming($holder);
wait_copy($a);
wait_waited_for($holder, others($holder));
like($a->log_since(0), qr/logical replication slot "consumer" of the former primary is dropped here/,
	'a comes back as a standby, and its slot is a copy from now on');

# ---------------------------------------------------------------------------
# The primary dies
# ---------------------------------------------------------------------------

# What the standbys do not have yet, the consumer does not get either.
wait_copy(others($holder));
$writer->wait_acks(100);
foreach my $standby (others($holder))
{
	my ($receiver) = $standby->pids(qr/walreceiver/);
	$standby->freeze($receiver);
}
$holder->safe_psql('postgres', q{SET synchronous_commit = local; INSERT INTO writes VALUES (-2, 1, 0)});
wait_until('the consumer is made to wait', sub { made_to_wait($holder) });
is(consumed(-2), 0, 'the consumer is not ahead of the standbys');
$holder->kill_all;
$_->thaw foreach others($holder);
my $next = $group->wait_holder(not => $holder);
$writer->wait_acks(100);
wait_consumed($next, "$holder->{leasehold_name} dies, $next->{leasehold_name} takes over");
$holder->rejoin($next);
wait_copy($holder);
pass("$holder->{leasehold_name} comes back, with a copy of the slot");

$writer->stop;
wait_consumed($next, 'at the end');
same_rows($next, 'at the end');
my $v = $group->judge($writer, on => $next, history => $group->history_file);
is("$v->{late} $v->{conflicts} $v->{missing}", '0 0 0',
	'no acknowledgement outside the lease, and none is missing') or diag $v->{text};

done_testing();
