# The prober: names in leasehold.store are resolved apart from the keeper.
#
# A keeper that resolved a name itself would stand still for as long as the name
# servers do, while its lease runs out.

use strict;
use warnings;

use LeaseholdTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# A member that is reached over TCP, by name.
my $store = LeaseholdTest->new(nodes => [], proxy => 1);
my ($proxy) = $store->proxies;
my $by_name = 'host=localhost port=' . $proxy->port . ' dbname=leasehold_store';

my $group = LeaseholdTest->new(
	nodes   => ['a'],
	members => 0,
	store   => $by_name,
	ttl     => '2s');
my ($a) = $group->nodes;
ok($a->holds, 'a member is reached by its name');

# One name that nobody knows does not keep the others from being resolved.
my $offset = $a->log_offset;
my $epoch  = $a->epoch;
$a->set_conf('leasehold.store' =>
	  "$by_name; host=no-such-host.invalid dbname=leasehold_store");
$a->wait_log(qr/could not resolve host name "no-such-host.invalid"/, $offset);
my $asked = $proxy->stats->{requests};
wait_until('the known member is still asked',
	sub { $proxy->stats->{requests} > $asked + 5 });
$group->wait_holder($a);
pass('the lease is held');
my @lines = ($a->log_since($offset) =~ /could not resolve host name/g);
is(scalar(@lines), 1, 'the trouble is logged once');
$a->set_conf('leasehold.store' => $by_name);
$group->wait_holder($a);

# The prober is not needed for what is resolved already.
$a->freeze('prober');
$asked = $proxy->stats->{requests};
wait_until('renewals go on without a prober',
	sub { $proxy->stats->{requests} > $asked + 5 });
ok($a->holds, 'and so does the lease');
$a->thaw;

# It ends at once when it is told to.
$a->stop('fast');
pass('the server stops');

done_testing();
