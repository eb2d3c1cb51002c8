# No state of a hand-over wedges when one party is left alone in it.
#
# In each the lease is being handed from the primary to a standby, one of them, or
# the store, stops or dies at that very point, and in the end there is exactly one
# holder that writes: the old one if the target could not.

use strict;
use warnings;

use LeaseholdTest;
use Test::More;

# States that end by themselves last for a part of this: long enough to be seen.
my $ttl = 4;
my $group = LeaseholdTest->new(
	kind  => 'physical',
	nodes => [ 'a', 'b' ],
	ttl   => "${ttl}s",
	conf  => "wal_keep_size = 256MB\nwal_sender_timeout = 0");
my ($store) = $group->members;
my @writers;

sub other { my ($not) = @_; return (grep { $_ != $not } $group->nodes)[0]; }

sub pid_of
{
	my ($node, $title) = @_;
	my ($pid) = wait_until("$node->{leasehold_name} has a process $title",
		sub { ($node->pids($title))[0] });
	return $pid;
}

# One that has just been started is known to live.
sub wait_known
{
	my ($by, $node) = @_;
	my $name = $node->{leasehold_name};

	wait_until("$by->{leasehold_name} knows that $name lives", sub {
			my $run = $group->store_query("SELECT incarnation FROM leasehold_store.node WHERE name = '$name'");
			$by->ask("SELECT alive AND incarnation = $run FROM leasehold.nodes WHERE node = '$name'") eq 't' });
	return;
}

# The request stands in the store; nobody waits for the answer.
sub ask_for
{
	my ($target) = @_;
	$group->store_query(
		"UPDATE leasehold_store.lease SET handover_to = '$target->{leasehold_name}', request_seq = request_seq + 1");
	return;
}

sub wait_row
{
	my ($what, $condition) = @_;
	wait_until($what, sub { $group->store_query("SELECT $condition FROM leasehold_store.lease") eq 't' });
	return;
}

# One scenario: what befalls whom, and who has to hold it in the end.
sub scenario
{
	my ($what, $befall, $expected, %options) = @_;
	my $old = $group->wait_holder;
	my $target = other($old);

	$target->wait_streaming($old);
	wait_known($old, $target);
	# it may have begun to stream before it was told by which slot
	wait_until('the target has its slot', sub {
			$old->ask("SELECT active FROM pg_replication_slots WHERE slot_name = 'leasehold_$target->{leasehold_name}'") eq 't' });
	my $writer = $group->start_writer('multi', connections => 2, epoch => 1, rate => 100, retry => 20);
	$writer->wait_acks(20);
	my $fault = clock_now();
	$befall->($old, $target);
	my $end = $group->wait_holder($expected eq 'old' ? $old : $expected eq 'target' ? $target : ());
	$writer->wait_acks(20);
	my @holders = grep { $_->alive && $_->holds } $group->nodes;
	is(scalar @holders, 1, "$what: there is one holder, and it writes ($end->{leasehold_name})");
	$_->thaw foreach $old, $target, $store;
	$writer->wait_acks(20);
	$writer->stop;
	push @writers, $writer;
	my $holder = $group->wait_holder;
	my $v = $group->judge($writer, on => $holder, slack => 100, history => $group->history_file);
	is("$v->{late} $v->{conflicts}", '0 0', "$what: no acknowledgement outside the lease");
	if ($options{may_lose})
	{
		cmp_ok($v->{missing_since} // $fault, '>=', $fault - 0.5e9,
			"$what: missing are $v->{missing}, of the moment before the fault");
	}
	else
	{
		is($v->{missing}, 0, "$what: nothing acknowledged is missing");
	}

	# the other one is a standby again
	my $other = other($holder);
	$other->start_again if !$other->alive && -f $other->data_dir . '/standby.signal';
	if (!$other->alive || $other->ask('SELECT pg_is_in_recovery()') ne 't')
	{
		$other->stop('fast') if $other->alive;
		$other->rejoin($holder);
	}
	return;
}

scenario('the target is dead when it is asked for',
	sub {
		my ($old, $target) = @_;
		$target->kill_all;
		ask_for($target);
		# or it would be alive again when the holder comes to look
		wait_row('the request is dealt with',
			"handover_to = '' AND holder = '$old->{leasehold_name}'");
	},
	'old');

scenario('the target receives nothing, so the holder drains in vain',
	sub {
		my ($old, $target) = @_;
		$target->freeze(pid_of($target, qr/walreceiver/));
		$old->safe_psql('postgres', q{INSERT INTO writes VALUES (-1, (SELECT count(*) FROM writes))});
		my $log = $old->log_offset;
		ask_for($target);
		$old->wait_log(qr/the lease is kept, because running commits did not end in time/, $log);
	},
	'old');

scenario('the holder dies while it drains',
	sub {
		my ($old, $target) = @_;
		my $receiver = pid_of($target, qr/walreceiver/);
		$target->freeze($receiver);
		ask_for($target);
		$old->wait_state('draining');
		$old->kill_all;
		$target->thaw($receiver);
	},
	'target', may_lose => 1);

scenario('it is released, and the target does not come',
	sub {
		my ($old, $target) = @_;
		$target->freeze('keeper');
		my $epoch = $group->store_query('SELECT epoch FROM leasehold_store.lease');
		ask_for($target);
		wait_row('the lease is released, and taken back',
			"epoch > $epoch AND holder = '$old->{leasehold_name}'");
	},
	'old');

scenario('it is released, the target does not come, and the old holder dies',
	sub {
		my ($old, $target) = @_;
		$target->freeze('keeper');
		ask_for($target);
		wait_row('the lease is released', q{holder = ''});
		$old->kill_all;
		$target->thaw;
	},
	'target');

scenario('the target has acquired, is not promoted, and dies',
	sub {
		my ($old, $target) = @_;
		$target->freeze('steward');
		ask_for($target);
		wait_row('the target has it', "holder = '$target->{leasehold_name}'");
		$target->kill_all;
	},
	'old');

scenario('the target has acquired, and cannot be promoted',
	sub {
		my ($old, $target) = @_;
		$target->freeze(pid_of($target, qr/startup/));
		ask_for($target);
		wait_row('the target has it', "holder = '$target->{leasehold_name}'");
		wait_row('it lets go', "holder = '$old->{leasehold_name}'");
	},
	'old');

scenario('the old holder dies while the target is promoted',
	sub {
		my ($old, $target) = @_;
		my $startup = pid_of($target, qr/startup/);
		$target->freeze($startup);
		ask_for($target);
		wait_row('the target has it', "holder = '$target->{leasehold_name}'");
		$old->kill_all;
		$target->thaw($startup);
	},
	'target');

scenario('the store stops when it has been asked, and goes on later',
	sub {
		my ($old, $target) = @_;
		ask_for($target);
		$store->freeze('all');
		my $since = clock_now();
		wait_until('as long as a lease lasts', sub { clock_now() > $since + 1.5e9 * $ttl });
		is(scalar(grep { $_->holds } $group->nodes), 0, 'without the store nobody holds it');
		$store->thaw;
	},
	'any');

scenario('the store dies while the target is promoted, and comes back',
	sub {
		my ($old, $target) = @_;
		my $startup = pid_of($target, qr/startup/);
		$target->freeze($startup);
		ask_for($target);
		wait_row('the target has it', "holder = '$target->{leasehold_name}'");
		$store->kill_all;
		$target->thaw($startup);
		my $since = clock_now();
		wait_until('as long as a lease lasts', sub { clock_now() > $since + 1.5e9 * $ttl });
		$store->start_again;
	},
	'any');

my $v = $group->judge(@writers, rows => 0, slack => 100, history => $group->history_file);
is("$v->{late} $v->{conflicts} $v->{duplicates}", '0 0 0',
	'over all: none late, no epoch given twice, none acknowledged double');

done_testing();
