# A change of the member list meets what a lost race has left at a minority.
#
# The story: a candidate that was cut off from most of the store has taken one
# member's row under a higher epoch, and has given it back, or died.  The
# holder goes on with the other two.  Now the list of members is changed, and
# the row of the highest epoch is what gets copied to all.  If it were taken
# for what it says ("released", or "held by your own last run"), another node
# could take the lease at once, while the deadline of the real holder runs.
# So nobody may take it before a whole ttl has passed.

use strict;
use warnings;

use LeaseholdTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $group = LeaseholdTest->new(nodes => [ 'a', 'b' ], members => 3, ttl => '2s');
my ($a, $b) = $group->nodes;
my @members = $group->members;
my $list = $group->store_connstr;

foreach my $case (
	[ 'released', "holder = '', incarnation = 0" ],
	[ 'claimed by a run that is over', "holder = '%s', incarnation = 4711" ])
{
	my ($what, $set) = @$case;
	my $holder = $group->wait_holder;
	my $other = $holder == $a ? $b : $a;
	my $epoch = $holder->epoch;
	my @writers = map { $group->start_writer($_) } $a, $b;

	$writers[ $holder == $a ? 0 : 1 ]->wait_acks(50);
	$members[2]->safe_psql('leasehold_store',
		"UPDATE leasehold_store.lease SET epoch = epoch + 1, version = version + 1, "
		  . sprintf($set =~ /%s/ ? $set : "$set%s",
			$set =~ /%s/ ? $other->{leasehold_name} : '')
		  . " WHERE name = 'main'");
	is($holder->epoch, $epoch, "$what at a minority: the holder goes on");
	my $begun = clock_now();
	my ($state, $text) = $holder->try("SELECT leasehold.set_store(\$\$$list\$\$)");
	my $changed = clock_now();
	is($state, '', "$what: the list is changed") or diag($text);

	# whoever it is, it has waited for a whole ttl
	my $row = $members[0]->safe_psql('leasehold_store',
		"SELECT epoch || '/' || incarnation || '/' || reserved_for FROM leasehold_store.lease WHERE name = 'main'");
	like($row, $what eq 'released' ? qr{/0/\*$} : qr{/0/$}, "$what: copied so that nobody takes it at once")
	  if (clock_now() - $changed) / 1e9 < 1.5;
	my $next = wait_until("$what: somebody holds it under a higher epoch", sub {
		my $now = $group->holder;
		return $now && ($now->epoch // 0) > $epoch + 1 ? $now : undef });
	# (from before the change: how soon this test learns of it depends on the machine)
	cmp_ok((clock_now() - $begun) / 1e9, '>', 2, "$what: not before the ttl was over");
	$writers[ $next == $a ? 0 : 1 ]->wait_acks(50);
	$_->stop foreach @writers;
	my $verdict = $group->judge(@writers);
	is($verdict->{late}, 0, "$what: no acknowledgement after the other node had one");
	is($verdict->{missing} // 0, 0, "$what: no acknowledged write is missing");
}

done_testing();
