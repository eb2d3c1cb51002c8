# A primary and its standbys: who takes over when the primary is gone, when, and
# with what.
#
# Judged by what clients were told.  Nobody acknowledges anything after the next
# one has begun.  What was acknowledged is on the new primary, or was acknowledged
# within the moment before the fault that asynchronous replication may lag.

use strict;
use warnings;

use LeaseholdTest;
use Test::More;

my $ttl = 1;

# How far the standbys of this machine may be behind, if nothing holds them up.
my $lag = 0.5e9;

my $group = LeaseholdTest->new(
	kind  => 'physical',
	nodes => [ 'a', 'b', 'c' ],
	ttl   => "${ttl}s",
	# nobody keeps WAL for anybody, but by slots
	conf => "wal_keep_size = 0\nmin_wal_size = 32MB\nmax_wal_size = 32MB");
my ($a, $b, $c) = $group->nodes;
my @writers;

sub others { my ($not) = @_; return grep { $_ != $not } $group->nodes; }

sub slots
{
	my ($node) = @_;
	return $node->ask(
		"SELECT string_agg(slot_name, ' ' ORDER BY slot_name) FROM pg_replication_slots WHERE slot_name LIKE 'leasehold%' AND slot_name <> 'leasehold_$node->{leasehold_name}' AND restart_lsn IS NOT NULL"
	);
}

sub slots_of_others
{
	my ($node) = @_;
	return join ' ', sort map { "leasehold_$_->{leasehold_name}" } others($node);
}

sub wait_slots
{
	my ($node, $expected) = @_;
	wait_until("$node->{leasehold_name} has the slots $expected", sub { slots($node) eq $expected });
	return;
}

# Several segments of WAL, of which nothing needless is kept.
sub use_up_wal
{
	my ($node) = @_;
	foreach (1 .. 3)
	{
		$node->safe_psql('postgres',
			q{SELECT pg_logical_emit_message(false, 'filler', repeat('x', 100000)); SELECT pg_switch_wal(); CHECKPOINT});
	}
	return;
}

# The moment of the fault is when nothing of the old primary is left.
sub none_late_none_lost
{
	my ($what, $writer, $new, $fault) = @_;
	$writer->stop;
	push @writers, $writer;
	my $v = $group->judge($writer, on => $new, history => $group->history_file);

	is("$v->{late} $v->{conflicts}", '0 0', "$what: no acknowledgement outside the lease");
	cmp_ok($v->{missing_since} // $fault, '>=', $fault - $lag,
		"$what: acknowledged and missing are $v->{missing}, of the moment before the fault");
	return $v;
}

# ---------------------------------------------------------------------------
# Each of the three fails in turn, as a whole, and comes back as a standby
# ---------------------------------------------------------------------------

wait_slots($_, slots_of_others($_)) foreach $group->nodes;
pass('every node keeps a slot for every other');

my %has_failed;
foreach my $round (1 .. 3)
{
	my $old = $group->wait_holder;
	if ($has_failed{ $old->{leasehold_name} })
	{
		my ($next) = grep { !$has_failed{ $_->{leasehold_name} } } $group->nodes;
		$old->try("SELECT leasehold.switchover('$next->{leasehold_name}')");
		$group->wait_holder($next);
		$old->stop('fast');
		$old->rejoin($next);
		$_->wait_streaming($next) foreach others($next);
		$old = $next;
	}
	my $name = $old->{leasehold_name};
	my $writer = $group->start_writer('multi', connections => 2, epoch => 1);

	# pg_rewind needs WAL from the last checkpoint before the fork: the node's own
	# slot keeps it
	$writer->wait_acks(200);
	$old->kill_all;
	my $fault = clock_now();
	my $new = $group->wait_holder(not => $old);
	is($new->safe_psql('postgres', 'SELECT pg_is_in_recovery()'), 'f',
		"$name dies: $new->{leasehold_name} takes over and is promoted");
	# the one that was not chosen has not been waited for yet
	use_up_wal($new);
	$writer->wait_acks(100);
	my ($third) = grep { $_ != $old } others($new);
	$third->wait_streaming($new);
	pass("$third->{leasehold_name} follows it");

	my $v = none_late_none_lost("$name dies", $writer, $new, $fault);
	my ($takeover) = grep { $_->[0] eq $name } @{ $v->{takeovers} };
	cmp_ok($takeover->[2], '<', 3000 * $ttl, "$name dies: written again within three times the ttl");
	$has_failed{$name} = 1;
	last if $round == 3;
	$old->rejoin($new);
	wait_slots($_, slots_of_others($_)) foreach $group->nodes;
	pass("$name is rewound, and follows; again there is a slot for everybody");
}
is(join(' ', sort keys %has_failed), 'a b c', 'each of them was the primary once, and failed');

# ---------------------------------------------------------------------------
# Slots advance; those of dropped nodes go
# ---------------------------------------------------------------------------

# (the third one to fail does not come back)
my ($gone) = grep { !$_->alive } $group->nodes;
my $holder = $group->wait_holder;
my ($standby) = grep { $_ != $gone } others($holder);
wait_until("$gone->{leasehold_name} can be dropped",
	sub { ($holder->try("SELECT leasehold.drop_node('$gone->{leasehold_name}')"))[0] eq '' });
wait_slots($holder,  "leasehold_$standby->{leasehold_name}");
wait_slots($standby, "leasehold_$holder->{leasehold_name}");
pass('a node is dropped: its slots go');

my $far = $holder->safe_psql('postgres', 'SELECT pg_current_wal_lsn()');
use_up_wal($holder);
foreach my $node ($holder, $standby)
{
	wait_until(
		"the slot of $node->{leasehold_name} advances",
		sub { $node->ask("SELECT bool_and(restart_lsn > '$far') FROM pg_replication_slots") eq 't' });
}
pass('the slots advance, also those that nobody streams from');

# ---------------------------------------------------------------------------
# The postmaster dies alone: the keeper outlives it, and lets go
# ---------------------------------------------------------------------------

{
	$holder->safe_psql('postgres', q{SELECT leasehold.alter_lease('main', ttl => '30s')});
	wait_until('all know of the longer ttl',
		sub { !grep { $_->status->{ttl} ne '00:00:30' } $holder, $standby });
	my $name = $holder->{leasehold_name};
	my $writer = $group->start_writer('multi', connections => 2, epoch => 1);
	$writer->wait_acks(200);
	$holder->kill_postmaster;
	my $fault = clock_now();
	my $new = $group->wait_holder(not => $holder);
	$writer->wait_acks(100);
	my $v = none_late_none_lost('the postmaster dies', $writer, $new, $fault);
	my ($takeover) = grep { $_->[0] eq $name } @{ $v->{takeovers} };
	cmp_ok($takeover->[2], '<', 10_000, 'the postmaster dies: written again within a third of the ttl');
	like(
		$group->store_query("SELECT reason FROM leasehold_store.history WHERE to_node = '' ORDER BY epoch DESC LIMIT 1"),
		qr/postmaster/, 'the history says why');
}

my $v = $group->judge(@writers, rows => 0, history => $group->history_file);
is("$v->{late} $v->{conflicts} $v->{duplicates}", '0 0 0',
	'over all: none late, no epoch given twice, none acknowledged double');

done_testing();
