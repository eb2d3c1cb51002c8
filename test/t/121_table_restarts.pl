# Leases of tables that stay where they are, and hand-overs that go on, while
# processes around them come and go: the keeper, members of the store, the server.
#
# What this guards: a keeper that begins anew believes the first member of the store
# that has not told it yet that it takes part in anything; a target says that it is
# ready to members that lose it, or that the holder does not look at first; a server
# that keeps its leases over a restart lets go of them all the same; a transaction
# that was prepared before a table was protected commits when protect() has returned.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use LeaseholdTest;
use TablesTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $group = TablesTest->new(nodes => [ 'a', 'b' ], tables => [qw(t u v)], members => 3,
	proxy => 'nodes', ttl => '1s');
my ($a, $b) = $group->nodes;
my @members = $group->members;

$group->lease('short', 't');
$group->{ttl} = '10s';
$group->lease('long', 'u');

sub name { return $_[0]{leasehold_name}; }

# Of the row of lease "long" at one member.
sub row_at
{
	my ($member, $what) = @_;
	return $member->safe_psql('leasehold_store', "SELECT $what FROM leasehold_store.lease WHERE name = 'long'");
}

# Who was given a lease after this epoch, and why.
sub history
{
	my ($lease, $epoch) = @_;
	return $group->store_query("SELECT coalesce(string_agg(to_node || ': ' || reason, ', ' ORDER BY epoch), '')"
		  . " FROM leasehold_store.history WHERE lease = '$lease' AND epoch > $epoch AND to_node <> ''");
}

sub seconds_since { return (clock_now() - $_[0]) / 1e9; }

# Every member has heard who has them: no move is under way, no member left out.
sub all_members
{
	foreach my $lease (qw(short long))
	{
		wait_until("all members say who holds $lease", sub {
				my %said = map { $_ => 1 } map { $_->safe_psql('leasehold_store',
						"SELECT holder || epoch FROM leasehold_store.lease WHERE name = '$lease' AND holder <> ''") } @members;
				keys %said == 1 && !$said{''} });
	}
	return;
}

# ---------------------------------------------------------------------------
# A keeper begins anew
# ---------------------------------------------------------------------------
{
	my $writer = $group->write('t', $a);
	my %epoch = map { $_ => $a->epoch($_) } qw(short long);

	$writer->wait_acks(50);
	foreach my $round (1 .. 2)
	{
		my $keeper = $a->worker('keeper');
		kill 'TERM', $keeper;
		wait_until('another keeper', sub { $a->worker('keeper') != $keeper });
		all_members();
		# it has looked, and renewed, everywhere
		foreach my $member (@members)
		{
			my $version = $member->safe_psql('leasehold_store', q{SELECT version FROM leasehold_store.lease WHERE name = 'short'});
			wait_until('it is renewed at ' . $member->name, sub {
					$member->safe_psql('leasehold_store', q{SELECT version FROM leasehold_store.lease WHERE name = 'short'}) > $version + 6 });
		}
	}
	$writer->wait_acks(50);
	$writer->stop;
	is(join(' ', map { $a->epoch($_) // 'none' } sort keys %epoch), join(' ', map { $epoch{$_} } sort keys %epoch),
		'a keeper that begins anew keeps its leases, under the same epochs');
	is(join(' ', sort keys %{ $writer->outcomes }), 'ack', 'no client notices');
}

# ---------------------------------------------------------------------------
# The target is ready, and who hears of it
# ---------------------------------------------------------------------------

# Move "long" to the node that does not have it; how long that took.
sub move_on
{
	my ($to, $what) = @_;
	my $from = $to == $a ? $b : $a;
	my $began = clock_now();
	my ($state, $message) = $group->move('long', $to, by => $from);
	my $took = seconds_since($began);

	is($state, '', "$what: it is handed to " . name($to)) or die $message;
	# the holder waits for 10 s for a target that does not get ready
	cmp_ok($took, '<', 6, sprintf '%s: at once (%.1f s)', $what, $took);
	return;
}

# The target does not reach one of the members, each in its turn.
foreach my $i (0 .. 2)
{
	my $to = $i % 2 ? $a : $b;
	my $way = ($to->proxies)[$i];

	$way->do('refuse');
	move_on($to, 'told to the members but for the ' . qw(first second third)[$i]);
	$way->do('pass');
	all_members();
}

# What it says is lost on its way to each of them.
foreach my $to ($a, $b)
{
	foreach my $way ($to->proxies)
	{
		$way->do('only ready_seq = $2');
		$way->do('next lost_before');
	}
	move_on($to, 'the word is lost everywhere');
	is(join(' ', map { $_->stats->{lost_before} } $to->proxies), '1 1 1', '... which it was');
	$_->do('only'), $_->do('pass') foreach $to->proxies;
	all_members();
}

# Only one of them has heard the word, and is gone before the holder looks there: the
# other two have got the request itself after the target was ready.
{
	my $ask = sub { $_->safe_psql('leasehold_store',
			q{UPDATE leasehold_store.lease SET request_seq = request_seq + 1, handover_to = 'b', answer = '' WHERE name = 'long'}) foreach @_; };

	$group->move('long', $a);
	$a->freeze('keeper');
	$ask->($members[0]);
	wait_until('one member has heard that b is ready', sub { row_at($members[0], 'ready_seq = request_seq') eq 't' });
	$ask->(@members[ 1, 2 ]);
	is(join(' ', map { row_at($_, 'request_seq') } @members), join(' ', (row_at($members[0], 'request_seq')) x 3), 'the others get the same request later');
	$members[0]->stop('immediate');
	my $began = clock_now();
	$a->thaw;
	eval { wait_until('b holds it', sub { $b->holds('long') }, 10); };
	cmp_ok(seconds_since($began), '<', 6, sprintf '... and are told again that b is ready (%.1f s)', seconds_since($began));
	# and one is down
	move_on($a, 'a member is down');
	$members[0]->start;
	all_members();
}

# ---------------------------------------------------------------------------
# A server begins anew
# ---------------------------------------------------------------------------
{
	my $epoch = $a->epoch('long');

	$a->set_conf('leasehold.on_shutdown' => 'keep');
	$a->restart;
	$group->wait_writer('u', $a);
	is(history('long', $epoch), 'a: reclaimed by the same node', 'on_shutdown = keep: the next run has it again, and nobody had it between');
	is(($a->try('INSERT INTO u (client) VALUES (1)'))[0], '', '... and writes its table');
	$epoch = $a->epoch('long');
	$a->set_conf('leasehold.on_shutdown' => undef);
	my $began = clock_now();
	$a->stop;
	$group->wait_writer('u', $b);
	my $took = seconds_since($began);
	cmp_ok($took, '<', 6, sprintf 'on_shutdown = release: the other has it long before its time is over (%.1f s)', $took);
	is($b->ask('SELECT count(*) FROM u WHERE client = 1'), 1, '... with what was written');
	$a->start;
	$group->caught_up;
}

# ---------------------------------------------------------------------------
# Prepared before it was protected
# ---------------------------------------------------------------------------
{
	my $out = "$PostgreSQL::Test::Utils::log_path/commit_prepared.out";

	unlink $out;
	$b->safe_psql('postgres', "BEGIN; INSERT INTO v (client) VALUES ($_); PREPARE TRANSACTION 'x$_'") foreach 1, 2;
	# a commit that has passed its check, and takes its time
	$b->set_conf(synchronous_standby_names => 'nobody');
	my $pid = LeaseholdTest::spawn($out, 'psql', '-XAt', '-d', $b->connstr('postgres'), '-c', q{COMMIT PREPARED 'x1'});
	wait_until('it is being committed', sub { $b->ask(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE 'COMMIT PREPARED%'}) == 1 });
	my ($state, $message) = $a->try(q{SELECT leasehold.protect('v', 'short', '1500ms')});
	is($state, '55000', 'COMMIT PREPARED under way: protect() does not return before it is over');
	like($message, qr/Not confirmed by: "b"\./, '... and says where');
	is(slurp_file($out), '', '... and it was not');
	$b->set_conf(synchronous_standby_names => undef);
	waitpid $pid, 0;
	delete $LeaseholdTest::children{$pid};
	is(slurp_file($out), "COMMIT PREPARED\n", 'it ends');
	is(($a->try(q{SELECT leasehold.protect('v', 'short')}))[0], '', '... and protect() does');
	is($b->ask('SELECT string_agg(client::text, $$ $$) FROM v'), '1', 'its row is there when protect() has returned');
	$group->{lease_of}{v} = 'short';
	my $holder = $group->wait_writer('v');
	($state, $message) = $b->try(q{COMMIT PREPARED 'x2'});
	is($state, '25006', 'prepared before, committed after: refused') or diag($message);
	is(($b->try(q{ROLLBACK PREPARED 'x2'}))[0], '', '... and rolled back');
}

$_->stop foreach $group->nodes, @members;
done_testing();
