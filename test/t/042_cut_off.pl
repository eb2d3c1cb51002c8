# A holder that cannot reach the store any more, while its clients reach it well.
#
# The way between one node and the store breaks in each way a network knows:
# refused, silent, silent in one direction only.  The worst of them is the one in
# which requests still arrive and take effect, and only the answers are lost: the
# store sees a living holder, the holder must not take that for granted.  A
# deadline may be moved only by an answer.

use strict;
use warnings;

use LeaseholdTest;
use Test::More;

my $slack = 100;
my $group = LeaseholdTest->new(ttl => '1s', proxy => 'nodes');
my ($a, $b) = $group->nodes;
my %writer = map {
	$_->{leasehold_name} => $group->start_writer($_, connections => 2, rate => 100,
		epoch => 1)
} $a, $b;

sub other     { return $_[0] == $a ? $b : $a; }
sub writer_of { return $writer{ $_[0]{leasehold_name} }; }
sub store_epoch { return $group->store_query('SELECT epoch FROM leasehold_store.lease'); }

sub proxy_of
{
	my ($node) = @_;
	return ($node->proxies)[0];
}

# The ttl and then some is over.
sub outlast
{
	my ($since) = @_;
	wait_until('as long as a lease lasts', sub { clock_now() > $since + 1.3e9 });
	return;
}

# What befalls the way from the holder to the store; and what its status says.
my @cuts = (
	[ 'refused', 'refuse', qr/[Cc]onnection|server closed/ ],
	[ 'silent', 'hang', qr/no answer|tim/i ],
	[ 'requests are lost', 'hang to', qr/no answer|tim/i ],
	[ 'answers are lost', 'hang from', qr/no answer|tim/i ],
	[ 'every answer is lost, every request arrives', 'prob silence_after=1', qr/no answer|tim/i ],
	[ 'every write takes effect and is not answered', 'only UPDATE' ],
	[ 'every write takes effect and breaks the connection', 'only UPDATE lost' ]);

foreach my $cut (@cuts)
{
	my ($what, $command, $reason) = @$cut;
	my $old = $group->wait_holder;
	my $new = other($old);

	writer_of($old)->wait_acks(20);
	my $since = clock_now();
	if ($command =~ /^only UPDATE/)
	{
		proxy_of($old)->do('only UPDATE');
		proxy_of($old)->do($command =~ /lost/ ? 'prob lost_after=1' : 'prob silence_after=1');
	}
	else
	{
		proxy_of($old)->do($command);
	}
	writer_of($new)->wait_acks(20);
	pass("holder cut off, $what: the other node writes");

	my $cut_off = clock_now();
	writer_of($old)->wait_answered($cut_off);
	# one that still reads the store may know the new holder, and try again
	if ($command !~ /^only UPDATE/)
	{
		$old->wait_state('fenced');
		wait_until("holder cut off, $what: its status names the cause",
			sub { $old->status->{reason} =~ $reason });
		note $old->status->{reason};
	}
	is($old->status->{expires_in}, '', "holder cut off, $what: it does not hold the lease");

	proxy_of($old)->do('only');
	proxy_of($old)->do('prob');
	proxy_of($old)->do('pass');
	my $back = clock_now();
	$old->wait_state('follower') if $group->holder == $new;
	writer_of($old)->wait_answered($back);
	writer_of($new)->wait_acks(20);
	my $v = $group->judge(values %writer, from => $since, slack => $slack, rows => 0);
	is("$v->{late} $v->{conflicts}", '0 0', "holder cut off, $what: none late");
}

# Answers come late, by nearly as much as the keeper waits for them, and then no
# request arrives any more.  What was promised counts from when it was asked for,
# not from when the answer came: the other node has counted, too.
{
	my $since = clock_now();
	my ($late, $old) = (850);

	# a longer ttl, so that the difference is long
	$a->safe_psql('postgres', q{SELECT leasehold.alter_lease('main', '3s')});
	wait_until('the ttl is another one', sub { $group->wait_holder->status->{ttl} eq '00:00:03' });
	wait_until(
		'the holder holds on to it for a while though answers come late',
		sub {
			$old = $group->wait_holder;
			proxy_of(other($old))->do('pass');
			proxy_of($old)->do("delay 0 $late");
			my $delayed = clock_now();
			wait_until('some renewals', sub { clock_now() > $delayed + 4e9 });
			$old->holds;
		});
	my $new = other($old);
	writer_of($old)->wait_acks(20);
	proxy_of($old)->do('hang to');
	writer_of($new)->wait_acks(20);
	my $taken = clock_now();
	writer_of($old)->wait_answered($taken);
	my $v = $group->judge(values %writer, from => $since, slack => $slack, rows => 0);
	is("$v->{late} $v->{conflicts}", '0 0', "answers $late ms late, then none: none late");
	proxy_of($old)->do('pass');
	$old->wait_state('follower');
	$a->safe_psql('postgres', q{SELECT leasehold.alter_lease('main', '1s')});
	wait_until('the ttl is the old one', sub { $group->wait_holder->status->{ttl} eq '00:00:01' });
}

# Connections that break once, and can be made again, cost nothing.
{
	my $holder = $group->wait_holder;
	my $epoch = store_epoch();
	my $since = clock_now();

	foreach (1 .. 5)
	{
		proxy_of($holder)->do('kill');
		writer_of($holder)->wait_acks(20);
	}
	outlast($since);
	writer_of($holder)->wait_acks(20);
	is(store_epoch(), $epoch, 'broken connections to the store: the lease stays');
}

# A follower that is cut off does no harm.
foreach my $command ('hang', 'refuse', 'hang from')
{
	my $holder = $group->wait_holder;
	my $follower = other($holder);
	my $epoch = store_epoch();
	my $since = clock_now();

	proxy_of($follower)->do($command);
	outlast($since);
	writer_of($holder)->wait_acks(20);
	$follower->wait_state('fenced');
	is(store_epoch(), $epoch, "a follower cut off ($command): the lease stays");
	proxy_of($follower)->do('pass');
	$follower->wait_state('follower');
}

# Both are cut off: nobody writes; the first to come back does.
foreach my $command ('hang', 'refuse')
{
	my $holder = $group->wait_holder;
	my $first = rand() < 0.5 ? $a : $b;
	my $since = clock_now();

	proxy_of($_)->do($command) foreach $a, $b;
	$_->wait_state('fenced') foreach $a, $b;
	my $fenced = clock_now();
	writer_of($_)->wait_answered($fenced) foreach $a, $b;
	my $v = $group->judge(values %writer, from => clock_now(), rows => 0);
	is($v->{acks}, 0, "both cut off ($command): nobody writes");
	proxy_of($first)->do('pass');
	writer_of($first)->wait_acks(10);
	pass("both cut off ($command): the first to come back writes");
	proxy_of(other($first))->do('pass');
	other($first)->wait_state('follower');
	$v = $group->judge(values %writer, from => $since, slack => $slack, rows => 0);
	is("$v->{late} $v->{conflicts}", '0 0', "both cut off ($command): none late");
}

# The way flaps in a rhythm that is near to the ttl's.
{
	my $since = clock_now();
	my $node = $group->wait_holder;

	foreach my $i (1 .. 6)
	{
		proxy_of($node)->do($i % 2 ? 'hang from' : 'hang');
		my $cut = clock_now();
		wait_until('a while', sub { clock_now() > $cut + (0.6 + 0.15 * $i) * 1e9 });
		proxy_of($node)->do('pass');
	}
	my $before = { map { $_ => $writer{$_}->acks } 'a', 'b' };
	wait_until('somebody writes', sub { grep { $writer{$_}->acks > $before->{$_} + 20 } 'a', 'b' });
	my $v = $group->judge(values %writer, from => $since, slack => $slack, rows => 0);
	is("$v->{late} $v->{conflicts}", '0 0', 'a way that flaps: none late');
}

$group->wait_holder;
$_->stop foreach values %writer;
my $v = $group->judge(values %writer, slack => $slack, history => $group->history_file);
is("$v->{late} $v->{conflicts} $v->{missing} $v->{duplicates}", '0 0 0 0',
	'over all: none late, no epoch given twice, none lost, none double');

done_testing();
