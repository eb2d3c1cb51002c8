=pod

=head1 NAME

LeaseholdTest - groups of instances, their store, and what can befall them

=head1 SYNOPSIS

  use LeaseholdTest;
  use Test::More;

  # a store of one member, nodes a and b, lease "main" held by a
  my $group = LeaseholdTest->new(nodes => [ 'a', 'b' ], ttl => '1s');
  my ($a, $b) = $group->nodes;

  my $writer = $group->start_writer($a);      # writes to a, whatever happens
  my $other  = $group->start_writer($b);
  $writer->wait_acks(100);
  $a->freeze('keeper');                       # SIGSTOP
  $group->wait_holder($b);
  $other->wait_acks(100);
  $a->thaw;
  $_->stop foreach $writer, $other;
  my $verdict = $group->judge($writer, $other);
  is($verdict->{late}, 0, 'no acknowledgement after the other had one');

=head1 DESCRIPTION

One helper over PostgreSQL::Test::Cluster.  Everything waits for a condition
until a deadline (PG_TEST_TIMEOUT_DEFAULT seconds); nothing sleeps and hopes.
At the end of the test, however it ends, stopped processes are resumed, tools
are ended, servers are stopped, and shared memory of killed servers is removed.

Here are groups, and what all of this needs; instances are in LeaseholdNode, writers and
proxies in LeaseholdTools.

=head2 Groups

=over

=item LeaseholdTest->new(%options)

Makes and starts a group.  Options:

  nodes    => [ 'a', 'b' ]   names of the nodes; [] makes only the members
  members  => 1              number of members, each an instance of its own
  store    => STRING         leasehold.store of all nodes; default: the members
  lease    => 'main'         name of the lease
  kind     => 'independent'  'physical': the first node is the primary, the others
                             are made from a backup of it, and follow it
  ttl      => '1s'
  conf     => TEXT           more lines for each node's postgresql.conf
  member_conf => TEXT        the same for each member
  proxy    => 0              1: put a pgproxy before each member; see proxies()
                             'nodes': one before each member for each node, so that
                             a single node can be cut off; see $node->proxies
  governed => 1              0: stop before leasehold.lease is set; the nodes run,
                             the extension and the lease exist.  Later: govern()
  extension => 1             0: do not even create extension and lease
  table    => 1              make the table "writes" of writer on every node
  seed     => N              of the proxies
  clock    => 0              1: the nodes' clocks can be stepped, see step_clock()
  hosts    => HOSTSTEST      each instance on a host of its own: say it by
                             HostsTest's group()

=item $group->nodes, $group->members, $group->proxies, $group->node('a')

With proxy => 'nodes', the group's proxies are those of all nodes.

=item $group->history_file

Who was given which epoch, as the first member says, for judge's "history".

=item $group->govern(@nodes)

Sets leasehold.lease on these nodes (default: all), one after the other: the
first becomes holder, and is waited for.

=item $group->store_connstr

What leasehold.store is set to.

=item $group->holder

The node that says it holds the lease now, or undef.  Asks no node whose
postmaster is stopped or dead.

=item $group->wait_holder($node, %options)

Waits until $node (default: any) holds the lease and returns it.  Options:
not => $node (any but this one), timeout => seconds.

=item $group->store_query($sql)

The answer of the first member's store database.

=item $group->start_writer($node | STRING, %options)

Starts test/tools/writer against a node, or a connection string, or with
'multi' against all nodes with target_session_attrs=read-write.  Options are
those of the program with "_" for "-" (connections => 4, mode => 'txn',
rate => 100, epoch => 1, ...); clients are numbered apart by itself.  The rate is
400 rows a second and connection unless said otherwise (0: as fast as it goes).
Returns a LeaseholdTest::Writer.

=item $group->judge(@writers, %options)

Runs test/tools/judge over the logs and returns a hash of its findings: late,
late_sent, conflicts, missing, gap_ms, acks, "acks.a", takeovers (an array of
[from, to, gap_ms, at_ns]), lost_writes (of [acknowledged_at_ns, client, seq]), ok
(1 or 0), text.  Checks the rows of each node that
answers, too, unless rows => 0; with on => $node the rows of that one, for all
that anybody acknowledged: of a primary and its standbys, it has to have what the
others had.  Options: slack, expect, from, to, history.

=back

=head2 Nodes and members: LeaseholdTest::Node

A PostgreSQL::Test::Cluster with more methods:

=over

=item $node->pids([$pattern])

Processes of this instance, alive or stopped, the postmaster too, whose title
matches.  Works on a dead or fenced instance: reads /proc, not SQL.

=item $node->worker('keeper' | 'steward' | 'prober')

Process id of a worker, waited for.

=item $node->freeze($what...), $node->thaw([$what...])

SIGSTOP and SIGCONT: a process id, 'keeper', 'steward', 'prober', 'postmaster',
'backends' (client sessions) or 'all' (the postmaster first).  freeze() returns
when the processes are stopped for sure.  thaw() without arguments resumes all
that was stopped here.

=item $node->kill_all

SIGKILL to the postmaster and all its children; returns when none is left.

=item $node->kill_postmaster

SIGKILL to the postmaster alone; the children stay for as long as they like.
$node->wait_gone waits for them.

=item $node->start_again(%options)

Starts it after kill_all or kill_postmaster.

=item $node->rewind($from), $node->rejoin($from)

A stopped or killed ex-primary becomes a standby again: pg_rewind by hand, the
node's own files kept.  The second one also starts it, and waits until it streams.

=item $node->alive

Is there a postmaster that is neither dead nor stopped?

=item $node->holds([$lease]), $node->epoch([$lease]), $node->status([$lease])

leasehold.holds() as 1 or 0, leasehold.epoch() or undef, and the row of
leasehold.status as a hash.

=item $node->ask($sql)

The answer; asks again if the lease was lost meanwhile, because that ends
sessions.  Dies of any other error.

=item $node->wait_state($state, [$lease])

Waits until leasehold.status shows this state.

=item $node->set_conf(name => value, ...)

Changes settings (undef: takes them out) and waits until a reload has brought
them into effect.

=item $node->step_clock($seconds), $node->suspend($seconds)

Steps this node's wall clock by so many seconds (negative: back), or lets its
CLOCK_BOOTTIME jump forward as after a suspend.  At once, in all its processes,
and added to what was stepped before.  Only for instances made with clock => 1
(LeaseholdTest->new(clock => 1) makes all nodes so).

=item $node->proxies

With proxy => 'nodes': the proxies through which this node reaches the members.

=item $node->log_offset, $node->log_since($offset), $node->wait_log($regexp, $offset)

Position at the end of the server log; what came since; wait for a line.

=item $node->try($sql, %options)

Runs SQL and returns (SQLSTATE or '' , output or message): never dies, and gives
up after timeout => seconds.

=item $node->rows_file([$table])

Writes what stands in the table, "client seq" per line, to a file for judge.

=back

=head2 LeaseholdTest::Writer

  $writer->acks([$node])          number of acknowledgements so far
  $writer->outcomes               hash: outcome => number
  $writer->wait_acks($n, [$node]) wait for $n more acknowledgements from now on
  $writer->answered($since)       how many connections know the outcome of a row
                                  that they sent at or after $since (clock_now())
  $writer->wait_answered([$since]) wait for all of them: a stopped server may still
                                  owe them an answer to something older
  $writer->stop                   ends it; its log is complete then
  $writer->log                    path of the log

=head2 LeaseholdTest::Proxy

  my $proxy = LeaseholdTest::Proxy->start($target_node, seed => 1);
  $proxy->connstr($dbname)        reach the target through the proxy
  $proxy->do('next lost_after')   a command of pgproxy; dies if refused
  $proxy->stats                   hash: requests and faults done so far
  $proxy->stop

=head2 Functions

  wait_until($what, sub { ... }, [$seconds])   poll until true; dies, naming $what
  clock_now()                     nanoseconds on the clock of the tools' logs
  tool('writer')                  path of a tool
  free_port()
  soak($n, $many)                 $n, or $many in "make soak"

=cut

package LeaseholdTest;

use strict;
use warnings;

use Carp;
use Cwd qw(abs_path);
use Exporter qw(import);
use File::Basename qw(basename dirname);
use LeaseholdNode;
use LeaseholdTools;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

our @EXPORT = qw(wait_until clock_now tool free_port soak);

my $tools = abs_path(dirname(__FILE__) . '/../tools');

# What END has to undo.
our (%stopped, %children, @killed);
our $owner = $$;

# A test that is told to end still cleans up.
$SIG{TERM} = $SIG{INT} = $SIG{HUP} = sub { exit 1 };

sub tool
{
	my ($name) = @_;
	my $path = "$tools/$name";

	croak "$path is missing: make tools" unless -x $path;
	return $path;
}

# A server that was killed stays a zombie until its parent has asked for it, and
# a zombie's data directory counts as in use.  Its parent is process 1 once
# pg_ctl has ended, and in a container that one may not care: so this process
# takes its place, where it knows how to say so.
{
	require POSIX;
	my %prctl = (x86_64 => 157, aarch64 => 167, riscv64 => 167, ppc64le => 171, s390x => 172);
	my $call = $prctl{ (POSIX::uname())[4] };
	my $set_child_subreaper = 36;

	syscall($call, $set_child_subreaper, 1, 0, 0, 0) if $call;
}

# Is there no such process any more, not even a zombie?
sub process_gone
{
	my ($pid) = @_;
	# a child of ours: ask for it
	waitpid $pid, 1 unless $children{$pid};
	return !kill 0, $pid;
}

# The clock of src/clock.h.  Perl knows BOOTTIME only by its number.
sub clock_now
{
	my $now = eval { Time::HiRes::clock_gettime(7) };
	$now = Time::HiRes::clock_gettime(Time::HiRes::CLOCK_MONOTONIC())
	  if !defined $now || $now <= 0;
	return int($now * 1e9);
}

# The name of the running test, for files beside its logs.
sub test_name
{
	return basename($0) =~ s/\.[^.]+$//r;
}

sub soak
{
	my ($n, $many) = @_;
	return $ENV{LEASEHOLD_SOAK} ? $many : $n;
}

sub free_port
{
	return PostgreSQL::Test::Cluster::get_free_port();
}

sub wait_until
{
	my ($what, $condition, $seconds) = @_;
	$seconds //= $PostgreSQL::Test::Utils::timeout_default;
	my $deadline = clock_now() + $seconds * 1e9;

	while (1)
	{
		my $value = $condition->();
		return $value if $value;
		last if clock_now() > $deadline;
		usleep(10_000);
	}
	croak "timed out after $seconds s, waiting: $what";
}

# Start a program in the background; END ends it.
sub spawn
{
	my ($output, @command) = @_;
	my $pid = fork;

	croak "cannot fork: $!" unless defined $pid;
	if ($pid == 0)
	{
		$SIG{TERM} = $SIG{INT} = $SIG{HUP} = 'DEFAULT';
		delete $ENV{PGAPPNAME};
		open STDIN, '<', '/dev/null';
		open STDOUT, '>>', $output;
		open STDERR, '>&', \*STDOUT;
		{ no warnings; exec @command; }
		# no END block of the test in this process
		require POSIX;
		POSIX::_exit(127);
	}
	$children{$pid} = $command[0];
	return $pid;
}

sub end_child
{
	my ($pid, $signal) = @_;

	return unless delete $children{$pid};
	kill 'CONT', $pid;
	kill $signal || 'TERM', $pid;
	my $deadline = clock_now() + 20e9;
	while (waitpid($pid, 1) == 0)
	{
		kill 'KILL', $pid if clock_now() > $deadline;
		usleep(5_000);
	}
	return $?;
}

END
{
	my $exit_code = $?;

	if ($$ == $owner)
	{
		kill 'CONT', $_ foreach keys %stopped;
		end_child($_, 'KILL') foreach keys %children;
		$_->remove_leftovers foreach @killed;
	}
	$? = $exit_code;
}

# ---------------------------------------------------------------------------
# Groups
# ---------------------------------------------------------------------------

my $groups = 0;

sub new
{
	my ($class, %options) = @_;
	my $self = bless {
		lease => $options{lease} // 'main',
		kind => $options{kind} // 'independent',
		ttl => $options{ttl} // '1s',
		clients => 0,
		writers => 0,
		number => ++$groups,
		options => \%options }, $class;
	my $prefix = $groups > 1 ? "g${groups}_" : '';

	my @places = @{ $options{member_hosts} // [] };
	foreach my $i (1 .. $options{members} // 1)
	{
		push @{ $self->{members} },
		  LeaseholdTest::Node->member("${prefix}store$i",
			host => host_of(\%options, shift(@places) // "${prefix}store$i"),
			conf => $options{member_conf});
	}
	my $seed = $options{seed} || 1;
	if ($options{proxy} && $options{proxy} ne 'nodes')
	{
		push @{ $self->{proxies} },
		  LeaseholdTest::Proxy->start($_, seed => $seed++)
		  foreach $self->members;
	}
	$self->{store} = $options{store}
	  // store_string($self->{proxies} ? $self->proxies : $self->members);

	return $self->make_physical(%options) if $self->{kind} eq 'physical';
	foreach my $name (@{ $options{nodes} // [ 'a', 'b' ] })
	{
		my @own = ($options{proxy} // '') eq 'nodes'
		  ? map { LeaseholdTest::Proxy->start($_, seed => $seed++) } $self->members
		  : ();
		my $node = LeaseholdTest::Node->node(
			$prefix . $name,
			node_name => $name,
			store     => @own ? store_string(@own) : $self->{store},
			clock     => $options{clock},
			host      => host_of(\%options, $name),
			slow      => scalar(grep { $_ eq $name } @{ $options{slow} // [] }),
			conf      => $options{conf});

		$node->{leasehold_proxies} = \@own;
		push @{ $self->{proxies} }, @own;
		$node->{leasehold_lease} = $self->{lease};
		push @{ $self->{nodes} }, $node;
		$node->start;
	}

	my @nodes = $self->nodes;
	if (@nodes && ($options{extension} // 1))
	{
		$_->safe_psql('postgres', 'CREATE EXTENSION leasehold') foreach @nodes;
		$nodes[0]->safe_psql('postgres',
			"SELECT leasehold.create_lease('$self->{lease}', ttl => '$self->{ttl}', kind => '$self->{kind}')"
		);
		if ($options{table} // 1)
		{
			$_->make_table foreach @nodes;
		}
		$self->govern if $options{governed} // 1;
	}
	return $self;
}

sub host_of
{
	my ($options, $name) = @_;
	return $options->{hosts} ? $options->{hosts}->host($name) : undef;
}

# A primary, and standbys that learn from the store whom to follow.
sub make_physical
{
	my ($self, %options) = @_;
	my ($first, @others) = @{ $options{nodes} // [ 'a', 'b' ] };
	my $prefix = $self->{number} > 1 ? "g$self->{number}_" : '';
	my %common = (
		store => $self->{store},
		lease => $self->{lease},
		conf  => $options{conf});
	my $own = ($options{proxy} // '') eq 'nodes';
	my $primary = LeaseholdTest::Node->node(
		$prefix . $first,
		node_name => $first,
		init      => { allows_streaming => 1, %{ $options{init} // {} } },
		%common);

	push @{ $self->{nodes} }, $primary;
	$self->give_proxies($primary) if $own;
	$primary->append_conf('postgresql.conf',
		"wal_log_hints = on\nmax_worker_processes = 16\n");
	$primary->start;
	$primary->safe_psql('postgres', 'CREATE EXTENSION leasehold');
	$primary->safe_psql('postgres',
		"SELECT leasehold.create_lease('$self->{lease}', ttl => '$self->{ttl}', kind => 'physical')");
	$primary->make_table if $options{table} // 1;
	$self->govern($primary);
	$self->add_standby($_, proxy => $own) foreach @others;
	return $self;
}

# Ways to the members for this node alone.
sub give_proxies
{
	my ($self, $node) = @_;
	my @own = map {
		LeaseholdTest::Proxy->start($_, seed => 1 + @{ $self->{proxies} // [] })
	} $self->members;

	$node->{leasehold_proxies} = \@own;
	push @{ $self->{proxies} }, @own;
	$node->append_conf('postgresql.conf',
		'leasehold.store = ' . LeaseholdTest::Node::quote(store_string(@own)));
	return;
}

sub add_standby
{
	my ($self, $name, %options) = @_;
	my $from = $options{from} // $self->wait_holder;
	my $prefix = $self->{number} > 1 ? "g$self->{number}_" : '';
	my $standby = LeaseholdTest::Node->standby($prefix . $name, $from,
		node_name => $name, conf => $options{conf});

	$standby->{leasehold_lease} = $self->{lease};
	$self->give_proxies($standby) if $options{proxy};
	push @{ $self->{nodes} }, $standby;
	$standby->start;
	$standby->wait_streaming($from) unless $options{alone};
	return $standby;
}

sub store_string { return join('; ', map { remote_connstr($_, 'leasehold_store') } @_); }

# How other instances reach it.
sub remote_connstr
{
	my ($to, $dbname) = @_;
	return $to->connstr($dbname) unless $to->{leasehold_host};
	return 'host=' . $to->{leasehold_host}->address . ' port=' . $to->remote_port
	  . (defined $dbname ? " dbname=$dbname" : '');
}

sub nodes   { return @{ $_[0]{nodes}   // [] }; }
sub members { return @{ $_[0]{members} // [] }; }
sub proxies { return @{ $_[0]{proxies} // [] }; }

sub node
{
	my ($self, $name) = @_;
	my ($node) = grep { $_->name eq $name || $_->{leasehold_name} eq $name } $self->nodes;
	return $node // croak "no node \"$name\"";
}

sub store_connstr { return $_[0]{store}; }

sub govern
{
	my ($self, @nodes) = @_;
	my $first = 1;

	@nodes = $self->nodes unless @nodes;
	foreach my $node (@nodes)
	{
		$node->set_conf('leasehold.lease' => $self->{lease});
		$self->wait_holder if $first;
		$first = 0;
	}
	return;
}

sub holder
{
	my ($self, $not) = @_;

	foreach my $node ($self->nodes)
	{
		next if $not && $node == $not || !$node->alive;
		my ($state, $answer) = $node->try(
			"SELECT leasehold.holds('$self->{lease}')", timeout => 5);
		return $node if $state eq '' && $answer eq 't';
	}
	return undef;
}

sub wait_holder
{
	my $self = shift;
	my $node = @_ % 2 ? shift : undef;
	my %options = @_;

	return wait_until(
		($node ? $node->name : 'some node') . " holds $self->{lease}",
		sub {
			if ($node)
			{
				return undef unless $node->alive;
				my ($state, $answer) = $node->try(
					"SELECT leasehold.holds('$self->{lease}')", timeout => 5);
				return $state eq '' && $answer eq 't' ? $node : undef;
			}
			return $self->holder($options{not});
		},
		$options{timeout});
}

sub store_query
{
	my ($self, $sql) = @_;
	return ($self->members)[0]->safe_psql('leasehold_store', $sql);
}

sub history_file
{
	my ($self) = @_;
	my $file = "$PostgreSQL::Test::Utils::log_path/"
	  . test_name() . "_g$self->{number}.history";

	open my $fh, '>', $file or croak "$file: $!";
	print $fh $self->store_query("SELECT epoch || ' ' || to_node"
		  . " FROM leasehold_store.history WHERE lease = '$self->{lease}'"
		  . " AND to_node <> '' ORDER BY epoch"), "\n";
	close $fh;
	return $file;
}

sub start_writer
{
	my ($self, $where, %options) = @_;
	my $conninfo =
	    ref $where        ? $where->connstr('postgres')
	  : $where eq 'multi' ? $self->multi_connstr
	  :                     $where;
	my $label = ref $where ? $where->{leasehold_name} : 'multi';
	my $writer = LeaseholdTest::Writer->start(
		$conninfo,
		name   => "g$self->{number}_" . ++$self->{writers} . "_$label",
		client => $self->{clients},
		(ref $where ? (label => $label) : ()),
		%options);

	$self->{clients} += $options{connections} // 4;
	return $writer;
}

# How clients find the one writable node.
sub multi_connstr
{
	my ($self, $attrs) = @_;
	my @nodes = $self->nodes;

	return
	    'host=' . join(',', map { $_->host } @nodes)
	  . ' port=' . join(',', map { $_->port } @nodes)
	  . ' dbname=postgres target_session_attrs=' . ($attrs // 'read-write');
}

sub judge
{
	my ($self, @arguments) = @_;
	my @writers;
	push @writers, shift @arguments while @arguments && ref $arguments[0];
	my %options = @arguments;
	my @rows;

	if (my $node = delete $options{on})
	{
		@rows = ('--rows=' . $node->rows_file);
	}
	elsif ($options{rows} // 1)
	{
		@rows = map { '--rows=' . $_->{leasehold_name} . '=' . $_->rows_file }
		  grep { $_->alive } $self->nodes;
	}
	delete $options{rows};
	return judge_logs(
		[ map { $_->log } @writers ],
		@rows, map { "--$_=$options{$_}" } sort keys %options);
}

sub judge_logs { return LeaseholdTest::Writer::judge_logs(@_); }

1;
