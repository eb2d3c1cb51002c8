# A server dies with rows that it has acknowledged and not sent.  Another one takes its
# table and writes; then the first one comes back and sends what it had.
#
# Both wrote rows that the other had not seen, with numbers from sequences that knew
# nothing of each other.  If the new writer goes on right behind what it has, it gives
# out the numbers of the late rows: each of them meets a row that is there, and the
# subscriptions stop in both directions.  So it leaves a margin; however the first
# server ended, and whatever befell the one that has to see to it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use LeaseholdTest;
use TablesTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $group = TablesTest->new(nodes => [ 'a', 'b' ], tables => [ 't', 'u' ], ttl => '2s');
my ($a, $b) = $group->nodes;
my $row = 0;

$group->leases('t', 'u');
$group->wait_writer('t', $a);

sub insert
{
	my ($node, $n) = @_;
	my $first = $row + 1;

	$row += $n;
	my ($state, $message) = $node->try("INSERT INTO t (client, seq) SELECT 1, generate_series($first, $row)");
	$state eq '' or fail('rows can be written on ' . $node->name) or diag($message);
	return;
}

# What a writes from here on does not reach b before it is let.
sub hold_back
{
	$b->safe_psql('postgres', 'ALTER SUBSCRIPTION from_a DISABLE');
	wait_until('nothing is sent any more', sub {
			$a->ask('SELECT count(*) FROM pg_stat_replication') eq '0' });
	return;
}

sub send_on { $b->safe_psql('postgres', 'ALTER SUBSCRIPTION from_a ENABLE'); return; }

sub holder { return $group->store_query(q{SELECT holder FROM leasehold_store.lease WHERE name = 'l_t'}); }

sub writer { return $group->store_query(q{SELECT sync_set FROM leasehold_store.lease WHERE name = 'l_t'}); }

# It has said something of its own when this returns.
sub begin_keeper_anew
{
	my $version = q{SELECT version FROM leasehold_store.lease WHERE name = 'l_t'};
	my $offset = $a->log_offset;

	kill 'TERM', $a->worker('keeper');
	$a->wait_log(qr/its successor goes on/, $offset);
	my $before = $group->store_query($version);
	wait_until('the new keeper renews the lease', sub { $group->store_query($version) > $before + 2 });
	return;
}

# All is there, once, on both; and the table goes back to a for the next one.
sub all_there
{
	my ($what, @offset) = @_;
	my $late = eval { $group->caught_up; 1 };

	ok($late, "$what: what was late arrives") or diag($@);
	is($group->differences, '', "$what: the copies are the same");
	is($b->ask('SELECT count(*), count(DISTINCT seq) FROM t'), "$row|$row", "$what: every row is there, once");
	foreach my $node ($a, $b)
	{
		my $offset = shift @offset;
		unlike($node->log_since($offset), qr/duplicate key/, "$what: no conflict on " . $node->name);
	}
	my ($state, $message) = writer() eq 'a' ? ('') : $group->move('l_t', $a);
	is($state, '', "$what: the table can go back") or BAIL_OUT($message);
	return;
}

# ---------------------------------------------------------------------------
# Whichever way it ends
# ---------------------------------------------------------------------------
my %end = (
	'killed' => sub { $a->kill_all },
	'its postmaster killed' => sub { $a->kill_postmaster },
	'shut down' => sub { $a->stop('fast') },
	'killed with a keeper of its second run' => sub {
		begin_keeper_anew();
		is(writer(), 'a', 'a keeper that is begun anew says who writes');
		$a->kill_all;
	});

foreach my $how (sort keys %end)
{
	my @offset = map { $_->log_offset } $a, $b;

	insert($a, 10);
	$group->caught_up;
	hold_back();
	insert($a, 10);
	$end{$how}->();
	$group->wait_writer('t', $b);
	my ($first) = $b->safe_psql('postgres', 'SELECT max(id) FROM t');
	insert($b, 30);
	cmp_ok($b->safe_psql('postgres', "SELECT min(id) FROM t WHERE id > $first"), '>', $first + 65536,
		"$how: b leaves a margin");
	$a->start_again;
	send_on();
	all_there($how, @offset);
}

# ---------------------------------------------------------------------------
# The one that has to see to it ends, too
# ---------------------------------------------------------------------------
{
	my @offset = map { $_->log_offset } $a, $b;

	# it stays for a while after these
	$group->move('l_t', $_) foreach $b, $a;
	hold_back();
	insert($a, 10);
	my ($opener) = $b->freeze('opener');
	$a->kill_all;
	wait_until('b has the lease, and waits for its worker', sub { holder() eq 'b' });
	kill 'TERM', $opener;
	$b->thaw;
	$group->wait_writer('t', $b);
	like($b->log_since($offset[1]), qr/terminating background worker "leasehold opener"/, 'the opener has ended');
	insert($b, 30);
	$a->start_again;
	send_on();
	all_there('opener ended', @offset);
}

# ---------------------------------------------------------------------------
# The one that takes it has slept, and begins to race for it by what it knew before
# ---------------------------------------------------------------------------
{
	my @offset = map { $_->log_offset } $a, $b;

	# it begins above the epochs of all its leases, and of that under which b takes this
	foreach my $round (1 .. 3)
	{
		$group->move('l_u', $_) foreach $b, $a;
	}
	begin_keeper_anew();
	insert($a, 10);
	$a->freeze('keeper');
	$group->wait_writer('t', $b);
	wait_until('the row says that b writes', sub { writer() eq 'b' });
	$a->freeze($a->pids(qr/logical replication worker/));
	insert($b, 30);
	# it believes that it was the last to write; and while it tries, b lets go
	my $session = $b->background_psql('postgres');
	$session->query_safe('SELECT 1');
	$a->thaw('keeper');
	$session->query_safe(q{SELECT leasehold.release('l_t')});
	$session->quit;
	wait_until('a has the lease', sub { holder() eq 'a' });
	is(($a->try('INSERT INTO t (client, seq) VALUES (1, 0)'))[0], '25006', 'a does not write before it has what b wrote');
	$a->thaw;
	$group->wait_writer('t', $a);
	is($a->safe_psql('postgres', 'SELECT count(*) FROM t'), $row, 'all of it');
	insert($a, 30);
	all_there('keeper stopped', @offset);
}

# ---------------------------------------------------------------------------
# Its writer loses the store before it could say that it writes
# ---------------------------------------------------------------------------
{
	my @offset = map { $_->log_offset } $a, $b;
	my $columns = 'timeline_epoch, holder_lsn, sync_set';

	$group->caught_up;
	my $said = join "', '", split /\|/, $group->store_query("SELECT $columns FROM leasehold_store.lease WHERE name = 'l_t'");
	is(($group->move('l_t', $b))[0], '', 'the table goes to b');
	$a->safe_psql('postgres', 'ALTER SUBSCRIPTION from_b DISABLE');
	insert($b, 30);
	$b->kill_all;
	# what b has told since then did not arrive
	$group->store_query("UPDATE leasehold_store.lease SET ($columns) = ('$said'), version = version + 1 WHERE name = 'l_t'");
	is(writer(), 'a', 'by what the store says a was the last to write');
	$group->wait_writer('t', $a);
	insert($a, 30);
	$b->start_again;
	$a->safe_psql('postgres', 'ALTER SUBSCRIPTION from_b ENABLE');
	all_there('not told', @offset);
}

# ---------------------------------------------------------------------------
# One after the other, neither having heard of the other
# ---------------------------------------------------------------------------
{
	my @offset = map { $_->log_offset } $a, $b;

	hold_back();
	insert($a, 10);
	$a->kill_all;
	$group->wait_writer('t', $b);
	insert($b, 30);
	$b->kill_all;
	$a->start_again;
	$group->wait_writer('t', $a);
	insert($a, 30);
	$b->start_again;
	send_on();
	all_there('both ended', @offset);
}

$_->stop foreach $group->nodes, $group->members;
done_testing();
