# Leases of tables: many of them beside the instance's, in batches, each with a
# life of its own.

use strict;
use warnings;

use LeaseholdTest;
use Test::More;

my $group = LeaseholdTest->new(nodes => [ 'a', 'b' ], ttl => '1s', governed => 0);
my ($a, $b) = $group->nodes;

my $n = 20;
my @leases = map { sprintf 'l%02d', $_ } 1 .. $n;
$a->safe_psql('postgres', "SELECT leasehold.create_lease('$_', ttl => '1s', kind => 'independent')") foreach @leases;

# Who takes part, by hand: a is the first choice of the first half, b of the other.
sub join_all
{
	my ($where) = @_;
	$group->store_query(
		"WITH s AS (UPDATE leasehold_store.store SET memberships = memberships + 1)
		INSERT INTO leasehold_store.membership
		SELECT l.name, n.name, CASE WHEN (n.name = 'a') = (l.name <= 'l10') THEN 200 ELSE 100 END
		FROM leasehold_store.lease l, (VALUES ('a'), ('b')) n (name) WHERE l.name LIKE 'l%' AND $where");
}

sub holders
{
	return $group->store_query("SELECT string_agg(DISTINCT holder, ',') || ' ' || count(*) FROM leasehold_store.lease WHERE name LIKE 'l%' AND $_[0]");
}

# Which epochs are held, and by whom; of these leases.
sub epochs
{
	my ($where) = @_;
	return $group->store_query("SELECT string_agg(name || holder || epoch, ' ' ORDER BY name) FROM leasehold_store.lease WHERE name LIKE 'l%' AND $where");
}

sub renewed
{
	return $group->store_query("SELECT min(version) FROM leasehold_store.lease WHERE name LIKE 'l%'");
}

join_all('true');
LeaseholdTest::wait_until('every lease is held', sub {
		$group->store_query("SELECT count(*) FROM leasehold_store.lease WHERE name LIKE 'l%' AND holder <> ''") == $n });
pass('every lease is held');
my $before = epochs('true');
my $version = renewed();
LeaseholdTest::wait_until('all of them are renewed', sub { renewed() > $version + 20 });
is(epochs('true'), $before, 'none changes hands while all is well');

# ---------------------------------------------------------------------------
# One of them moves, and no other
# ---------------------------------------------------------------------------

sub hand
{
	my ($lease, $to) = @_;
	$group->store_query("UPDATE leasehold_store.lease SET request_seq = request_seq + 1, handover_to = '$to', answer = '' WHERE name = '$lease'");
	LeaseholdTest::wait_until("$lease is held by $to", sub {
			$group->store_query("SELECT holder FROM leasehold_store.lease WHERE name = '$lease'") eq $to });
	return;
}

foreach my $lease (qw(l01 l11 l20))
{
	my $others = epochs("name <> '$lease'");
	my $old = $group->store_query("SELECT holder FROM leasehold_store.lease WHERE name = '$lease'");
	my $new = $old eq 'a' ? 'b' : 'a';

	hand($lease, $new);
	hand($lease, $old);
	hand($lease, $new);
	is(epochs("name <> '$lease'"), $others, "$lease has moved three times, and no other has");
	is($group->store_query("SELECT ready_seq = request_seq AND handover_to = '' AND answer = '' FROM leasehold_store.lease WHERE name = '$lease'"),
		't', 'its target had got ready first');
}

# ---------------------------------------------------------------------------
# A node dies: the other takes all of its leases, and keeps its own
# ---------------------------------------------------------------------------

my $of_b = epochs("holder = 'b'");
my @of_b = map { /^(l\d+)/ } split / /, $of_b;
my $names = join ',', map { "'$_'" } @of_b;
my $died = LeaseholdTest::clock_now();
$a->kill_all;
LeaseholdTest::wait_until('b has them all', sub { holders('true') eq "b $n" });
my $took = (LeaseholdTest::clock_now() - $died) / 1e9;
cmp_ok($took, '<', 1.1 + 0.5, sprintf 'b has taken all of them within their ttl (%.2f s)', $took);
is(epochs("name IN ($names)"), $of_b, 'and kept what it had');

# A node that returns takes part again, and takes nothing by itself.
my $all = epochs('true');
$a->start_again;
LeaseholdTest::wait_until('a is back', sub { $a->status('l05')->{state} eq 'follower' });
$version = renewed();
LeaseholdTest::wait_until('all of them are renewed', sub { renewed() > $version + 10 });
is(epochs('true'), $all, 'the node that returns takes nothing away');
hand('l05', 'a');
pass('and can be handed one');

# ---------------------------------------------------------------------------
# A clean end releases all of them
# ---------------------------------------------------------------------------

$died = LeaseholdTest::clock_now();
$b->stop('fast');
LeaseholdTest::wait_until('a has them all', sub { holders('true') eq "a $n" });
pass('a node that ends leaves its leases to the other');
is($group->store_query("SELECT count(*) FROM leasehold_store.history WHERE from_node = 'b' AND reason = 'clean shutdown'"), $n - 1,
	'having released each of them');

# What an epoch came to is told with its release, for the next holder to wait for.
$a->stop('fast');
is($group->store_query("SELECT count(*) FROM leasehold_store.lease WHERE name LIKE 'l%' AND holder = '' AND timeline_epoch = epoch AND holder_lsn > '0/0'"), $n,
	'and how far each had come');

done_testing();
