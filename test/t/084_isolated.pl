# A primary and its standbys: a holder that cannot renew, one that is paused, one
# that is restarted.
#
# The old side gives no acknowledgement after the new side's first, and feeds
# nobody what may be a dead timeline.

use strict;
use warnings;

use LeaseholdTest;
use Test::More;

my $ttl = 1;

# An answer that is there may have to wait for a processor to be read.
my $slack = 100;

my $group = LeaseholdTest->new(
	kind  => 'physical',
	nodes => [ 'a', 'b', 'c' ],
	proxy => 'nodes',
	ttl   => "${ttl}s",
	# pg_rewind needs WAL from before the fork
	conf => 'wal_keep_size = 128MB');
my ($a, $b, $c) = $group->nodes;

sub others { my ($not) = @_; return grep { $_ != $not } $group->nodes; }

sub start_writers
{
	return map { $group->start_writer($_, connections => 2, rate => 200, epoch => 1) } $group->nodes;
}

sub writer_of
{
	my ($node, @writers) = @_;
	return (grep { $_->{log} =~ /_$node->{leasehold_name}\.acks$/ } @writers)[0];
}

sub none_late
{
	my ($what, $new, $since, @writers) = @_;
	$_->stop foreach @writers;
	my $v = $group->judge(@writers, on => $new, slack => $slack, history => $group->history_file);
	is("$v->{late} $v->{conflicts}", '0 0', "$what: no acknowledgement outside the lease");
	# the old side goes on until its deadline, and may be heard by nobody
	cmp_ok($v->{missing_since} // $since, '>=', $since - 0.5e9,
		"$what: acknowledged and missing are $v->{missing}, of the time since the fault");
	return;
}

# A connection for replication, as a standby makes one.
sub replicates
{
	my ($node) = @_;
	my ($state, $text) = $node->try('IDENTIFY_SYSTEM',
		connstr => $node->connstr('postgres') . ' replication=1');
	return $state eq '' ? 1 : $text;
}

sub epoch { return $group->store_query('SELECT epoch FROM leasehold_store.lease'); }

# As long as a lease lasts that nobody renews, and then some.
sub outlast_ttl
{
	my $since = clock_now();
	wait_until('as long as a lease lasts', sub { clock_now() > $since + 1.5e9 * $ttl });
	return;
}

# ---------------------------------------------------------------------------
# The keeper is stopped, and goes on when another node is the primary
# ---------------------------------------------------------------------------
{
	my @writers = start_writers();
	writer_of($a, @writers)->wait_acks(50);
	my $since = clock_now();
	$a->freeze('keeper');
	# what it still writes is to reach nobody, or the standbys could differ
	wait_until('it is fenced', sub { ($a->try('INSERT INTO writes VALUES (-1, 0)'))[0] eq '25006' });
	like(replicates($a), qr/this primary (?:does not hold its lease|is superseded)/,
		'keeper stopped: past its deadline it feeds nobody');
	$a->safe_psql('postgres', 'CHECKPOINT');
	my $new = $group->wait_holder(not => $a);
	writer_of($new, @writers)->wait_acks(50);
	my ($third) = grep { $_ != $a } others($new);
	$third->wait_streaming($new);
	pass('keeper stopped: the other standby follows the new primary');

	my $log = $a->log_offset;
	$a->thaw;
	$a->wait_log(qr/this primary is superseded: node "$new->{leasehold_name}" took the lease/, $log);
	wait_until('its walsenders are ended', sub { !$a->pids(qr/walsender/) });
	like(replicates($a), qr/this primary is superseded/, 'keeper resumed: no walsender is admitted');
	is(replicates($new), 1, 'but at the new primary');
	is($a->safe_psql('postgres', 'SELECT 1'), '1', 'it answers readers');
	none_late('keeper stopped', $new, $since, @writers);

	# for a supervisor that restarts it through leasehold-rejoin
	$a->append_conf('postgresql.conf', 'leasehold.on_superseded = shutdown');
	$a->reload;
	$a->wait_gone;
	like($a->log_since($log), qr/shutting the server down, since node "$new->{leasehold_name}" is the primary now/,
		'on_superseded = shutdown: it shuts down');
	$a->{_pid} = undef;
	$a->adjust_conf('postgresql.conf', 'leasehold.on_superseded', undef);
	$a->rejoin($new);
}

# ---------------------------------------------------------------------------
# The holder is cut off from the store only: its standbys still follow it
# ---------------------------------------------------------------------------
{
	my $old = $group->wait_holder;
	my @writers = start_writers();

	writer_of($old, @writers)->wait_acks(50);
	my $since = clock_now();
	($old->proxies)[0]->do('hang');
	my $new = $group->wait_holder(not => $old);
	writer_of($new, @writers)->wait_acks(50);
	is(($old->try('INSERT INTO writes VALUES (-1, 1)'))[0], '25006', 'cut off from the store: it is fenced');
	my ($third) = grep { $_ != $old } others($new);
	$third->wait_streaming($new);
	pass('the other standby follows the new primary');
	($old->proxies)[0]->do('pass');
	wait_until('it learns what became of it', sub { $old->log_since(0) =~ /this primary is superseded/ });
	none_late('cut off from the store', $new, $since, @writers);
	$old->stop('fast');
	is($group->holder, $new, 'its end does not disturb the new one');
	$old->rejoin($new);
}

# ---------------------------------------------------------------------------
# Pause: the holder can be restarted, and nobody takes over
# ---------------------------------------------------------------------------
{
	my $holder = $group->wait_holder;
	my ($standby) = others($holder);
	my $epoch = epoch();

	is(($standby->try('SELECT leasehold.pause()'))[0], '', 'paused, from a standby');
	$holder->wait_state('paused');
	my $writer = $group->start_writer($holder, connections => 1, epoch => 1);
	$writer->wait_acks(20);
	$holder->stop('fast');
	outlast_ttl();
	is($group->holder, undef, 'the holder is stopped in pause: nobody takes over');
	$holder->start;
	$group->wait_holder($holder);
	pass('it starts again, and holds it');
	$writer->wait_acks(20);
	$_->wait_streaming($holder) foreach others($holder);
	pass('the standbys follow it as before');
	is(($standby->try('SELECT leasehold.resume()'))[0], '', 'resumed');
	$holder->wait_state('holder');
	$writer->stop;
	my $v = $group->judge($writer, on => $holder);
	is("$v->{late} $v->{missing}", '0 0', 'nothing acknowledged is missing');

	# it dies in pause, and does not come back
	is(($standby->try('SELECT leasehold.pause()'))[0], '', 'paused again');
	$holder->wait_state('paused');
	$holder->kill_all;
	outlast_ttl();
	is($group->holder, undef, 'the holder dies in pause: nobody takes over');
	is(($standby->try('SELECT leasehold.resume()'))[0], '55000', 'only force ends this pause');
	is(($standby->try('SELECT leasehold.resume(force => true)'))[0], '', 'resumed by force');
	my $new = $group->wait_holder(not => $holder);
	is(($new->try('INSERT INTO writes VALUES (-2, 1)'))[0], '', 'a standby takes over and is writable');
	cmp_ok(epoch(), '>', $epoch, 'under a new epoch');
	$holder->rejoin($new);
}

# ---------------------------------------------------------------------------
# A restart inside the ttl
# ---------------------------------------------------------------------------
{
	my $holder = $group->wait_holder;
	$holder->safe_psql('postgres', q{SELECT leasehold.alter_lease('main', ttl => '30s')});
	wait_until('all know of the longer ttl',
		sub { !grep { $_->status->{ttl} ne '00:00:30' } $group->nodes });
	$holder->set_conf('leasehold.on_shutdown' => 'keep');
	my $writer = $group->start_writer('multi', connections => 2, epoch => 1);
	$writer->wait_acks(50);
	my $before = $group->store_query(q{SELECT count(*) FROM leasehold_store.history});
	my $began = clock_now();
	$holder->stop('fast');
	$holder->start;
	$group->wait_holder($holder);
	cmp_ok(clock_now() - $began, '<', 20e9, 'on_shutdown = keep: a restart inside the ttl has it back, before it runs out');
	$writer->wait_acks(50);
	$writer->stop;
	is($group->store_query(q{SELECT string_agg(DISTINCT to_node, ' ') FROM (SELECT to_node FROM leasehold_store.history ORDER BY epoch DESC, at DESC LIMIT }
			. "(SELECT greatest(count(*) - $before, 1) FROM leasehold_store.history)) h"),
		$holder->{leasehold_name}, 'nobody else had it in between');
	my $v = $group->judge($writer, on => $holder, history => $group->history_file);
	is("$v->{late} $v->{conflicts} $v->{missing}", '0 0 0', 'nothing acknowledged is missing');
	$_->wait_streaming($holder) foreach others($holder);
	pass('the standbys follow it as before');
}

done_testing();
