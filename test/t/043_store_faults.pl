# The store fails, in every way in which a database fails.
#
# The nodes and their clients are well; the members of the store die, freeze, come
# back, answer late or not at all, refuse logins or writes, or come back as
# something else than they were.  A holder that cannot renew stops in time,
# whatever the reason; a store that has forgotten what it had promised must not be
# believed, or it would give the lease to a second node while the first still
# writes.  While a majority of the members lives, somebody writes.
#
# leasehold.status names the cause in words.

use strict;
use warnings;

use LeaseholdTest;
use PostgreSQL::Test::RecursiveCopy;
use Test::More;

my $slack = 100;
my $ttl = 1;
my ($group, $a, $b, %writer);

sub new_group
{
	$group = LeaseholdTest->new(ttl => "${ttl}s", @_);
	($a, $b) = $group->nodes;
	%writer = map {
		$_->{leasehold_name} => $group->start_writer($_, connections => 2,
			rate => 100, epoch => 1)
	} $a, $b;
	return;
}

sub end_group
{
	$_->stop foreach values %writer;
	my $v = $group->judge(values %writer, slack => $slack);
	is("$v->{late} $v->{conflicts} $v->{missing} $v->{duplicates}", '0 0 0 0',
		'over all: none late, no epoch given twice, none lost, none double');
	foreach my $server ($group->nodes, $group->members)
	{
		$server->stop('immediate') if defined $server->postmaster_pid;
	}
	$_->stop foreach $group->proxies;
	return;
}

# The first member that lives says.
sub store_epoch
{
	foreach my $member ($group->members)
	{
		my ($state, $epoch) = $member->try(
			'SELECT epoch FROM leasehold_store.lease', dbname => 'leasehold_store', timeout => 5)
		  if $member->alive;
		return $epoch if defined $state && $state eq '' && $epoch =~ /\d/;
	}
	return undef;
}

sub acks { return $writer{a}->acks + $writer{b}->acks; }

sub somebody_writes
{
	my ($what) = @_;
	my $before = acks();

	wait_until("$what: somebody writes", sub { acks() > $before + 20 });
	pass("$what: somebody writes");
	return;
}

# Nobody writes, and each node says why.
sub nobody_writes
{
	my ($what, $reason) = @_;

	wait_until("$what: nobody holds the lease", sub { !$a->holds && !$b->holds });
	my $fenced = clock_now();
	$_->wait_answered($fenced) foreach values %writer;
	my $v = $group->judge(values %writer, from => clock_now(), rows => 0);
	is($v->{acks}, 0, "$what: nobody writes");
	foreach my $node ($a, $b)
	{
		my $said = '';
		eval {
			wait_until("$what: a reason like $reason",
				sub { $said = $node->status->{reason}; $said =~ $reason }, 20);
		};
		like($said, $reason, "$what: $node->{leasehold_name} says why");
	}
	return;
}

sub none_late
{
	my ($what, $since) = @_;
	my $v = $group->judge(values %writer, from => $since, slack => $slack, rows => 0);

	is("$v->{late} $v->{conflicts}", '0 0', "$what: none late");
	return;
}

sub copy_directory
{
	my ($from, $to) = @_;
	PostgreSQL::Test::RecursiveCopy::copypath($from, $to);
	chmod 0700, $to or die "$to: $!";
	return;
}

# The highest epochs that the nodes have noted on their disks.
sub noted_epochs
{
	return map {
		PostgreSQL::Test::Utils::slurp_file($_->data_dir . '/leasehold.state') =~ /^epoch (\d+)$/m;
		$1
	} $a, $b;
}

# Each attempt to take the lease costs an epoch and a file on the disk.  A store
# that can be read, but not written, must not keep the nodes busy with that.
sub no_epoch_is_wasted
{
	my ($what) = @_;

	outlast(clock_now());
	my @before = noted_epochs();
	outlast(clock_now()) foreach 1 .. 4;
	my @after = noted_epochs();
	cmp_ok($after[$_] - $before[$_], '<=', 1, "$what: node $_ wastes no epochs") foreach 0, 1;
	return;
}

sub outlast
{
	my ($since) = @_;
	wait_until('as long as a lease lasts', sub { clock_now() > $since + 1.4e9 * $ttl });
	return;
}

# It goes on; in the same epoch if the machine gave it the time.
sub goes_on
{
	my ($what, $since) = @_;

	outlast($since);
	somebody_writes($what);
	return;
}

# ---------------------------------------------------------------------------
# One member
# ---------------------------------------------------------------------------
new_group(proxy => 1, member_conf => 'max_connections = 20');
my ($member) = $group->members;
my ($proxy) = $group->proxies;

sub on_member
{
	my ($sql) = @_;
	return $member->safe_psql('leasehold_store', $sql);
}

sub drop_sessions
{
	$proxy->do('kill');
	return;
}

# What befalls the only member, how it is mended, and what status says meanwhile.
my @faults = (
	[ 'killed', qr/onnect|server closed/,
		sub { $member->kill_all }, sub { $member->start_again } ],
	[ 'frozen', qr/no (?:answer|connection)/,
		sub { $member->freeze('all') }, sub { $member->thaw } ],
	[ 'accepts connections and never answers', qr/no (?:answer|connection)/,
		sub { $proxy->do('hang') }, sub { $proxy->do('pass') } ],
	[ 'answers after 5 s', qr/no (?:answer|connection)/,
		sub { $proxy->do('delay 2500 2500') }, sub { $proxy->do('pass') } ],
	[ 'refuses connections', qr/onnect/,
		sub { $proxy->do('refuse') }, sub { $proxy->do('pass') } ],
	[ 'refuses logins', qr/pg_hba\.conf/,
		sub {
			$member->{hba} = PostgreSQL::Test::Utils::slurp_file($member->data_dir . '/pg_hba.conf');
			set_hba($member, "local leasehold_store all reject\n$member->{hba}");
			drop_sessions();
		},
		sub { set_hba($member, $member->{hba}) } ],
	[ 'is read-only', qr/read-only/,
		sub { $member->set_conf(default_transaction_read_only => 'on') },
		sub { $member->set_conf(default_transaction_read_only => undef) } ],
	[ 'has no place on its disk', qr/No space left/,
		sub {
			on_member(q{
				CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
				$$BEGIN RAISE 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END$$;
				CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON leasehold_store.lease EXECUTE FUNCTION full_disk();
				CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON leasehold_store.node EXECUTE FUNCTION full_disk()});
		},
		sub { on_member('DROP FUNCTION full_disk() CASCADE') } ],
	[ 'refuses to be written by the role', qr/permission denied/,
		sub {
			on_member(q{
				CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
				$$BEGIN RAISE 'permission denied for table lease' USING ERRCODE = 'insufficient_privilege'; END$$;
				CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON leasehold_store.lease EXECUTE FUNCTION refuse()});
		},
		sub { on_member('DROP FUNCTION refuse() CASCADE') } ],
	[ 'has lost its tables', qr/no lease store/,
		sub { on_member('ALTER SCHEMA leasehold_store RENAME TO gone') },
		sub { on_member('ALTER SCHEMA gone RENAME TO leasehold_store') } ],
	[ 'has lost its database', qr/database "leasehold_store" does not exist/,
		sub {
			drop_sessions();
			wait_until('the database is renamed',
				sub {
					drop_sessions();
					($member->try(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'leasehold_store';
						ALTER DATABASE leasehold_store RENAME TO gone}))[0] eq '';
				});
		},
		sub { $member->safe_psql('postgres', 'ALTER DATABASE gone RENAME TO leasehold_store') } ]);

sub set_hba
{
	my ($node, $text) = @_;
	open my $fh, '>', $node->data_dir . '/pg_hba.conf' or die $!;
	print $fh $text;
	close $fh;
	my $before = $node->safe_psql('postgres', 'SELECT pg_conf_load_time()');
	$node->reload;
	wait_until('the member has reloaded',
		sub { $node->safe_psql('postgres', 'SELECT pg_conf_load_time()') ne $before });
	return;
}

foreach my $fault (@faults)
{
	my ($what, $reason, $break, $mend) = @$fault;

	$what = "the member $what";
	somebody_writes("before: $what");
	my $since = clock_now();
	$break->();
	nobody_writes($what, $reason);
	no_epoch_is_wasted($what) if $what =~ /read-only|no place/;
	$mend->();
	my $mended = clock_now();
	$group->wait_holder;
	cmp_ok(clock_now() - $mended, '<', 5e9 * $ttl, "$what, and is mended: the lease is taken soon")
	  if $what =~ /read-only|no place/;
	somebody_writes("$what, and is mended");
	none_late($what, $since);
}

# Out of connections: the sessions that stand need none; one that breaks is not
# made again.
{
	my $since = clock_now();
	my $crowd = LeaseholdTest::Writer->start($member->connstr('postgres'),
		name => 'crowd', table => 'no_such_table', connections => 40, client => 70_000,
		rate => 0.5, retry => 300, connect_timeout => 30_000, label => 'crowd');

	wait_until('the member is full', sub { ($member->try('SELECT 1'))[1] =~ /too many clients|connection slots/ });
	outlast(clock_now());
	somebody_writes('the member takes no more connections');
	wait_until('the nodes lose their sessions',
		sub { drop_sessions(); $a->status->{state} eq 'fenced' && $b->status->{state} eq 'fenced' });
	nobody_writes('the member is out of connections', qr/too many clients|connection slots/);
	$crowd->stop;
	somebody_writes('the member has connections again');
	none_late('the member out of connections', $since);
}

# A quick restart costs nothing, or the lease at most.
{
	my $since = clock_now();

	$member->restart;
	somebody_writes('the member is restarted');
	none_late('the member is restarted', $since);
}

# It comes back with an older copy of its data: the epoch that it confirmed is not
# there any more.  Whoever believed it could be given an epoch a second time, or
# the lease while somebody holds it.
{
	my $since = clock_now();
	my $copy = $member->basedir . '/older';

	$member->stop;
	copy_directory($member->data_dir, $copy);
	$member->start;
	somebody_writes('the member runs on after it was copied');
	# until epochs are given that the copy knows nothing of
	my $epoch = store_epoch();
	my $old = $group->wait_holder;
	$old->freeze('keeper');
	$group->wait_holder(not => $old);
	$old->thaw;
	cmp_ok(store_epoch(), '>', $epoch, 'epochs are given after the copy was made');

	$member->kill_all;
	rename $member->data_dir, $member->data_dir . '.newer' or die "rename: $!";
	rename $copy, $member->data_dir or die "rename: $!";
	$member->start_again;
	nobody_writes('an older copy', qr/lost its memory/);
	# and it stays like that
	outlast(clock_now());
	nobody_writes('an older copy, a while later', qr/lost its memory/);
	none_late('an older copy', $since);

	# its newer data make it what it was
	$member->kill_all;
	rename $member->data_dir, $copy or die "rename: $!";
	rename $member->data_dir . '.newer', $member->data_dir or die "rename: $!";
	$member->start_again;
}
end_group();

# The only member is emptied, or another database answers in its place.
foreach my $case (
	[ 'an empty table', qr/lost its memory|knows no lease/,
		sub { $member->safe_psql('leasehold_store', 'DELETE FROM leasehold_store.lease') } ],
	[ 'an older epoch', qr/lost its memory/,
		sub { $member->safe_psql('leasehold_store', "UPDATE leasehold_store.lease SET epoch = epoch - 1, holder = ''") } ],
	[ 'a fresh store under the same address', qr/belongs to no list|lost its memory/,
		sub {
			my $other = LeaseholdTest::Node->member('other');
			push @{ $group->{members} }, $other;
			$proxy->do('kill');
			my $port = $proxy->port;
			$proxy->stop;
			$group->{proxies} = [ $proxy = LeaseholdTest::Proxy->start($other, port => $port) ];
		} ],
	[ 'another group\'s store under the same address', qr/member of another store|not on the agreed list|lost its memory/,
		sub {
			my $other = LeaseholdTest->new(nodes => ['z'], ttl => '1s', table => 0, lease => 'main');
			push @{ $group->{members} }, $other->members, $other->nodes;
			$other->wait_holder;
			my $port = $proxy->port;
			$proxy->stop;
			$group->{proxies} = [ $proxy = LeaseholdTest::Proxy->start(($other->members)[0], port => $port) ];
		} ],
	[ 'a copy of the store on another server under the same address', qr/another server|lost its memory/,
		sub {
			my $other = LeaseholdTest::Node->member('twin', empty => 1);
			push @{ $group->{members} }, $other;
			$other->safe_psql('postgres', 'CREATE DATABASE leasehold_store');
			my $dump = $member->basedir . '/dump.sql';
			PostgreSQL::Test::Utils::system_or_bail('pg_dump', '-f', $dump, '-d', $member->connstr('leasehold_store'));
			PostgreSQL::Test::Utils::system_or_bail('psql', '-X', '-q', '-f', $dump, '-d', $other->connstr('leasehold_store'));
			my $port = $proxy->port;
			$proxy->stop;
			$group->{proxies} = [ $proxy = LeaseholdTest::Proxy->start($other, port => $port) ];
		} ])
{
	my ($what, $reason, $break) = @$case;

	new_group(proxy => 1);
	($member) = $group->members;
	($proxy) = $group->proxies;
	somebody_writes("before: $what");
	my $since = clock_now();
	$break->();
	nobody_writes($what, $reason);
	outlast(clock_now());
	nobody_writes("$what, a while later", $reason);
	none_late($what, $since);
	end_group();
}

# ---------------------------------------------------------------------------
# Three members
# ---------------------------------------------------------------------------
new_group(members => 3, proxy => 1);
my @members = $group->members;
my @proxies = $group->proxies;

# What can befall some of the members, by number, and how it is mended.
my @some = (
	[ 'killed', sub { $_->kill_all foreach @members[@_] },
		sub { $_->start_again foreach @members[@_] } ],
	[ 'frozen', sub { $_->freeze('all') foreach @members[@_] },
		sub { $_->thaw foreach @members[@_] } ],
	[ 'cut off', sub { $_->do('hang') foreach @proxies[@_] },
		sub { $_->do('pass') foreach @proxies[@_] } ],
	[ 'answering after 5 s', sub { $_->do('delay 2500 2500') foreach @proxies[@_] },
		sub { $_->do('pass') foreach @proxies[@_] } ],
	[ 'read-only', sub { $_->set_conf(default_transaction_read_only => 'on') foreach @members[@_] },
		sub { $_->set_conf(default_transaction_read_only => undef) foreach @members[@_] } ]);

foreach my $case (@some)
{
	my ($what, $break, $mend) = @$case;
	my $since = clock_now();
	my $one = int rand 3;
	my @two = grep { $_ != $one } 0 .. 2;

	# one of three: the lease goes on, and can change hands
	$break->($one);
	goes_on("one of three members $what", $since);
	my $old = $group->wait_holder;
	$old->freeze('keeper');
	my $new = $old == $a ? $b : $a;
	$writer{ $new->{leasehold_name} }->wait_acks(10);
	pass("one of three members $what: the other node takes over");
	$old->thaw;
	$mend->($one);
	somebody_writes("one of three members $what, and mended");
	none_late("one of three members $what", $since);

	# two of three: nobody
	$since = clock_now();
	$break->(@two);
	nobody_writes("two of three members $what", qr/[01] of 3 members|cannot be written/);
	no_epoch_is_wasted("two of three members $what") if $what eq 'read-only';
	$mend->($two[0]);
	somebody_writes("two of three members $what, one of them mended");
	$mend->($two[1]);
	none_late("two of three members $what", $since);
}

# One after the other restarts, as in an upgrade: the lease stays.
{
	my $since = clock_now();

	foreach my $i (0 .. 2)
	{
		$members[$i]->restart;
		somebody_writes("member " . ($i + 1) . " of three is restarted");
		# as long as it takes until it is counted again
		wait_until('all members are counted',
			sub { $a->status->{members_reachable} == 3 && $b->status->{members_reachable} == 3 });
	}
	none_late('restarting the members in turn', $since);
}

# One comes back with older data, and is left alone; the other two go on.  If it
# were believed it would make a majority with one that is a little behind.
{
	my $since = clock_now();
	my $copy = $members[1]->basedir . '/older';

	$members[1]->stop;
	copy_directory($members[1]->data_dir, $copy);
	$members[1]->start;
	foreach (1, 2)
	{
		my $old = $group->wait_holder;
		$old->freeze('keeper');
		$group->wait_holder(not => $old);
		$old->thaw;
	}
	wait_until('all members are counted',
		sub { $a->status->{members_reachable} == 3 && $b->status->{members_reachable} == 3 });
	my $epoch = store_epoch();
	wait_until('the member is up to date', sub {
		$members[1]->safe_psql('leasehold_store', 'SELECT epoch FROM leasehold_store.lease') >= $epoch });
	$members[1]->kill_all;
	PostgreSQL::Test::Utils::system_or_bail('rm', '-rf', $members[1]->data_dir);
	rename $copy, $members[1]->data_dir or die "rename: $!";
	$members[1]->start_again;
	goes_on('one of three members with older data', clock_now());
	foreach my $node ($a, $b)
	{
		wait_until("$node->{leasehold_name} leaves it alone",
			sub { $node->log_since(0) =~ /lost its memory/ });
		is($node->status->{members_reachable}, 2, 'one of three members with older data is not counted');
	}
	my $old = $group->wait_holder;
	$old->freeze('keeper');
	$group->wait_holder(not => $old);
	$old->thaw;
	pass('one of three members with older data: the lease changes hands');

	# without it, one more is too many
	$members[2]->freeze('all');
	nobody_writes('one with older data, one frozen', qr/1 of 3 members/);
	$members[2]->thaw;
	somebody_writes('one with older data, the frozen one resumed');
	none_late('one of three members with older data', $since);
}
end_group();

done_testing();
