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
		init      => { allows_streaming => 1 },
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

sub judge_logs
{
	my ($logs, @arguments) = @_;
	my @command = (tool('judge'), '--all', @arguments, @$logs);
	my %verdict = (takeovers => [], lost_writes => [], text => '');

	open my $fh, '-|', @command or croak "judge: $!";
	while (my $line = <$fh>)
	{
		$verdict{text} .= $line;
		if ($line =~ /^takeover (\S+) (\S+) (\S+) (\S+)$/)
		{
			push @{ $verdict{takeovers} }, [ $1, $2, $3, $4 ];
		}
		elsif ($line =~ /^missing: \S+ client=(\d+) seq=(\d+) .*at=(\d+)$/)
		{
			push @{ $verdict{lost_writes} }, [ $3, $1, $2 ];
		}
		elsif ($line =~ /^(\S+) (\S+)$/ && $1 ne 'takeovers')
		{
			$verdict{$1} = $2;
		}
	}
	close $fh;
	croak "judge could not judge:\n$verdict{text}" if $? >> 8 > 1 || $? & 127;
	$verdict{ok} = $? == 0 ? 1 : 0;
	print "# judge:\n$verdict{text}";
	return \%verdict;
}

# ---------------------------------------------------------------------------
# Instances
# ---------------------------------------------------------------------------

package LeaseholdTest::Node;

use strict;
use warnings;

use Carp;
use Time::HiRes qw(usleep);

our @ISA = ('PostgreSQL::Test::Cluster');

sub quote
{
	my ($value) = @_;
	$value =~ s/'/''/g;
	return "'$value'";
}

# Settings that every instance here has.  Cluster.pm's are for tests of the
# server: it would not restart after a crash, and logs every statement.
my $common = q{
restart_after_crash = on
log_statement = none
max_connections = 60
max_prepared_transactions = 10
# files, so that a killed server leaves no shared memory behind
dynamic_shared_memory_type = mmap
};

# A member of a store: an instance with a database leasehold_store, started.
sub member
{
	my ($class, $name, %options) = @_;
	my $node = $class->new($name);

	$node->init(%{ $options{init} // {} });
	$node->append_conf('postgresql.conf', $common);
	$node->append_conf('postgresql.conf', $options{conf}) if defined $options{conf};
	$node->{leasehold_name} = $name;
	$node->live_on($options{host}) if $options{host};
	$node->set_up_clock if $options{clock};
	$node->start;
	$node->init_store unless $options{empty};
	return $node;
}

# Make the database of a member and its schema.
sub init_store
{
	my ($self, $dbname) = @_;
	$dbname //= 'leasehold_store';
	my $file = $self->config_data('--sharedir') . '/extension/leasehold-store.sql';

	$self->safe_psql('postgres', "CREATE DATABASE $dbname");
	PostgreSQL::Test::Utils::system_or_bail('psql', '-X', '-q', '-v',
		'ON_ERROR_STOP=1', '-d', $self->connstr($dbname), '-f', $file);
	return;
}

# A node, not yet started: node_name, store, conf, init.
sub node
{
	my ($class, $name, %options) = @_;
	my $node = $class->new($name);

	$node->init(%{ $options{init} // { allows_streaming => 'logical' } });
	$node->{leasehold_name} = $options{node_name} // $name;
	$node->{leasehold_lease} = $options{lease} // 'main';
	$node->append_conf('postgresql.conf', $common);
	$node->live_on($options{host}, $options{slow}) if $options{host};
	$node->append_conf('postgresql.conf', join("\n",
		"shared_preload_libraries = 'leasehold'",
		'leasehold.node_name = ' . quote($node->{leasehold_name}),
		'leasehold.store = ' . quote($options{store} // ''),
		'leasehold.advertise = ' . quote(LeaseholdTest::remote_connstr($node))));
	$node->append_conf('postgresql.conf', $options{conf}) if defined $options{conf};
	$node->set_up_clock if $options{clock};
	return $node;
}

# A standby of another node, not yet started.
sub standby
{
	my ($class, $name, $from, %options) = @_;
	my $node = $class->new($name);
	my $backup = "for_$name";

	# the slot is made ahead, as docs/replication.md says
	my $slot = 'leasehold_' . ($options{node_name} // $name);
	my $there = $from->ask(
		"SELECT count(*) FROM pg_replication_slots WHERE slot_name = '$slot'");
	$from->backup($backup, backup_options => $there ? [] : [ '-C', '-S', $slot ]);
	$node->init_from_backup($from, $backup);
	$node->set_standby_mode;
	$node->{leasehold_name} = $options{node_name} // $name;
	$node->append_conf('postgresql.conf', join("\n",
		'leasehold.node_name = ' . quote($node->{leasehold_name}),
		'leasehold.advertise = ' . quote($node->connstr)));
	$node->append_conf('postgresql.conf', $options{conf}) if defined $options{conf};
	return $node;
}

# Until this standby streams from that node, and has all that is there by now.
# (One that cannot follow says that it streams, too, and breaks off.)
sub wait_streaming
{
	my ($self, $from) = @_;
	my $lsn = $from->ask('SELECT pg_current_wal_flush_lsn()');

	LeaseholdTest::wait_until(
		$self->name . ' streams from ' . $from->name,
		sub {
			my ($state, $answer) = $from->try(
				"SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND replay_lsn >= '$lsn' AND application_name = "
				  . quote($self->{leasehold_name}));
			$state eq '' && $answer eq '1';
		});
	return;
}

sub set_up_clock
{
	my ($self) = @_;

	$self->{leasehold_clock} = $self->basedir . '/clock';
	$self->{leasehold_offsets} = [ 0, 0 ];
	PostgreSQL::Test::Utils::append_to_file($self->{leasehold_clock}, pack('q2', 0, 0));
	return;
}

# On a host of its own, which is where the others find it; through a proxy there,
# if it is to become slow.
sub live_on
{
	my ($self, $host, $slow) = @_;

	$self->{leasehold_host} = $host;
	$self->append_conf('postgresql.conf', "listen_addresses = '*'");
	$self->append_conf('pg_hba.conf', $host->hba);
	$self->{leasehold_slow} = LeaseholdTest::Proxy->start($self, host => $host) if $slow;
	return;
}

# The port by which other instances reach it.
sub remote_port
{
	my ($self) = @_;
	return $self->{leasehold_slow} ? $self->{leasehold_slow}->port : $self->port;
}

# Where it lives, and under a clock that can be stepped, if asked for.
sub surroundings
{
	my ($self) = @_;
	my %own;

	$own{HOSTS_ENTER} = join ' ', $self->{leasehold_host}->enter if $self->{leasehold_host};
	@own{qw(LD_PRELOAD WALLCLOCK_FILE)} =
	  (LeaseholdTest::tool('../fake/wallclock.so'), $self->{leasehold_clock})
	  if $self->{leasehold_clock};
	return (%ENV, %own);
}

sub start
{
	my ($self, @arguments) = @_;

	local %ENV = $self->surroundings;
	return $self->SUPER::start(@arguments);
}

sub restart
{
	my ($self, @arguments) = @_;

	local %ENV = $self->surroundings;
	return $self->SUPER::restart(@arguments);
}

sub step_clock { my ($self, $seconds) = @_; return $self->add_to_clock(0, $seconds); }
sub suspend    { my ($self, $seconds) = @_; return $self->add_to_clock(1, $seconds); }

sub add_to_clock
{
	my ($self, $which, $seconds) = @_;

	croak $self->name . ' was made without clock => 1' unless $self->{leasehold_clock};
	$self->{leasehold_offsets}[$which] += int($seconds * 1e9);
	# in place: the servers have it mapped
	open my $fh, '+<', $self->{leasehold_clock} or croak "$self->{leasehold_clock}: $!";
	binmode $fh;
	syswrite $fh, pack('q2', @{ $self->{leasehold_offsets} });
	close $fh;
	return;
}

sub make_table
{
	my ($self, $table) = @_;
	$table //= 'writes';
	$self->safe_psql('postgres',
		"CREATE TABLE $table (client int, seq bigint, epoch bigint, PRIMARY KEY (client, seq))");
	return;
}

sub proxies { return @{ $_[0]{leasehold_proxies} // [] }; }

# --- processes ---------------------------------------------------------------

# Every process of a server sits in its data directory.
sub pids
{
	my ($self, $pattern) = @_;
	my $home = Cwd::abs_path($self->data_dir) // return ();
	my @pids;

	opendir my $proc, '/proc' or croak "/proc: $!";
	foreach my $pid (grep { /^\d+$/ } readdir $proc)
	{
		my $cwd = readlink "/proc/$pid/cwd";
		next unless defined $cwd && $cwd eq $home;
		# gone, but not yet waited for
		my $state = process_state($pid);
		next if !defined $state || $state eq 'Z' || $state eq 'X';
		next if defined $pattern && title($pid) !~ $pattern;
		push @pids, $pid;
	}
	closedir $proc;
	# an array, not sort(): callers count, too
	@pids = sort { $a <=> $b } @pids;
	return @pids;
}

sub title
{
	my ($pid) = @_;
	open my $fh, '<', "/proc/$pid/cmdline" or return '';
	my $title = do { local $/; <$fh> } // '';
	$title =~ s/\0+/ /g;
	return $title;
}

sub process_state
{
	my ($pid) = @_;
	open my $fh, '<', "/proc/$pid/stat" or return undef;
	my $stat = <$fh> // return undef;
	return $stat =~ /\) (\S)/ ? $1 : undef;
}

sub postmaster_pid
{
	my ($self) = @_;
	open my $fh, '<', $self->data_dir . '/postmaster.pid' or return undef;
	my $pid = <$fh>;
	chomp $pid if defined $pid;
	return defined $pid && $pid =~ /^\d+$/
	  && grep({ $_ == $pid } $self->pids) ? $pid : undef;
}

sub worker
{
	my ($self, $which) = @_;
	my ($pid) = LeaseholdTest::wait_until(
		$self->name . " has a $which",
		sub { ($self->pids(qr/leasehold \Q$which\E/))[0] });
	return $pid;
}

# Client sessions, walsenders left out.
sub backends
{
	my ($self) = @_;
	return grep { title($_) !~ /walsender/ }
	  $self->pids(qr/^postgres: (?:\S+: )?\S+ \S+ (?:\[local\]|[\d.]+\(\d+\))/);
}

sub resolve_pids
{
	my ($self, @what) = @_;
	my @pids;

	foreach my $what (@what)
	{
		if    ($what =~ /^\d+$/)      { push @pids, $what; }
		elsif ($what eq 'postmaster') { push @pids, $self->postmaster_pid // (); }
		elsif ($what eq 'backends')   { push @pids, $self->backends; }
		elsif ($what eq 'all')
		{
			my $first = $self->postmaster_pid;
			push @pids, $first if $first;
			push @pids, grep { !$first || $_ != $first } $self->pids;
		}
		else { push @pids, $self->worker($what); }
	}
	return @pids;
}

sub freeze
{
	my ($self, @what) = @_;
	my @done;

	# 'all' is a moving target until the postmaster has stopped
	foreach my $round (1 .. (grep({ $_ eq 'all' } @what) ? 2 : 1))
	{
		foreach my $pid ($self->resolve_pids(@what))
		{
			next if $LeaseholdTest::stopped{$pid};
			$LeaseholdTest::stopped{$pid} = 1;
			$self->{leasehold_stopped}{$pid} = 1;
			kill 'STOP', $pid or next;
			LeaseholdTest::wait_until(
				"process $pid stops",
				sub { my $s = process_state($pid); !defined $s || $s =~ /[TtZX]/ });
			push @done, $pid;
		}
	}
	return @done;
}

sub thaw
{
	my ($self, @what) = @_;
	my @pids =
	  @what ? $self->resolve_pids(@what) : keys %{ $self->{leasehold_stopped} };

	foreach my $pid (@pids)
	{
		kill 'CONT', $pid;
		delete $LeaseholdTest::stopped{$pid};
		delete $self->{leasehold_stopped}{$pid};
	}
	return;
}

sub alive
{
	my ($self) = @_;
	my $pid = $self->postmaster_pid // return 0;
	return $self->{leasehold_stopped}{$pid} ? 0 : 1;
}

sub kill_all
{
	my ($self) = @_;
	my $postmaster = $self->postmaster_pid;
	my %killed;

	# it is not to see the postmaster die before itself
	kill 'STOP', $self->pids(qr/leasehold keeper/);
	LeaseholdTest::wait_until(
		$self->name . ' is killed',
		sub {
			my @pids = $self->pids;
			@killed{@pids} = ();
			# in one call; the postmaster starts no more children
			my $first = $self->postmaster_pid;
			kill 'KILL', ($first // ()), grep { !$first || $_ != $first } @pids if @pids;
			return !@pids && (!$postmaster || LeaseholdTest::process_gone($postmaster));
		});
	# zombies are this process's to bury
	LeaseholdTest::process_gone($_) foreach keys %killed;
	delete $LeaseholdTest::stopped{$_} foreach keys %{ $self->{leasehold_stopped} };
	$self->{leasehold_stopped} = {};
	$self->{_pid} = undef;
	push @LeaseholdTest::killed, $self;
	return;
}

sub kill_postmaster
{
	my ($self) = @_;
	my $pid = $self->postmaster_pid // croak 'no postmaster';

	kill 'KILL', $pid;
	LeaseholdTest::wait_until("postmaster $pid is gone",
		sub { LeaseholdTest::process_gone($pid) });
	$self->{_pid} = undef;
	push @LeaseholdTest::killed, $self;
	return $pid;
}

sub wait_gone
{
	my ($self, $seconds) = @_;
	LeaseholdTest::wait_until($self->name . ' has no process left',
		sub { !$self->pids }, $seconds);
	return;
}

sub start_again
{
	my ($self, %options) = @_;

	$self->wait_gone;
	@LeaseholdTest::killed = grep { $_ != $self } @LeaseholdTest::killed;
	return $self->start(%options);
}

# What pg_rewind would overwrite with the other node's.
my @own_files = qw(postgresql.conf postgresql.auto.conf pg_hba.conf leasehold.state);

sub rewind
{
	my ($self, $from) = @_;
	my $home = $self->data_dir;
	my %own;

	$self->wait_gone;
	foreach my $file (grep { -f "$home/$_" } @own_files)
	{
		$own{$file} = PostgreSQL::Test::Utils::slurp_file("$home/$file");
	}
	# or it would not tell its new timeline yet
	$from->ask('CHECKPOINT');
	my ($out, $err) = PostgreSQL::Test::Utils::run_command([ 'pg_rewind', '--target-pgdata', $home,
		'--source-server', $from->connstr('postgres') ]);
	my $said = "$out\n$err\n";
	$said =~ /no rewind required|Done!/ or croak "pg_rewind of $self->{leasehold_name}: $said";
	# it goes by the control file; what pg_wal has beyond the fork, and no page
	# knows of, would be replayed by the server
	if ($said =~ m{no rewind required} && $said =~ m{diverged at WAL location ([0-9A-F]+)/([0-9A-F]+) on timeline (\d+)})
	{
		my $first = sprintf '%08X%08X%08X', $3, hex $1, hex($2) >> 24;
		my $timeline = substr $first, 0, 8;
		unlink grep { m{/($timeline[0-9A-F]{16})$} && $1 ge $first } glob "$home/pg_wal/$timeline*";
	}
	foreach my $file (keys %own)
	{
		open my $fh, '>', "$home/$file" or croak "$home/$file: $!";
		print $fh $own{$file};
		close $fh;
	}
	# where it gets the WAL that makes it consistent; before that it cannot be
	# told anything
	$self->append_conf('postgresql.auto.conf', 'primary_conninfo = '
		  . quote($from->connstr . " application_name=$self->{leasehold_name}"));
	$self->set_standby_mode;
	@LeaseholdTest::killed = grep { $_ != $self } @LeaseholdTest::killed;
	return;
}

sub rejoin
{
	my ($self, $from) = @_;

	$self->rewind($from);
	$self->start;
	$self->wait_streaming($from);
	return;
}

# What a killed server leaves: processes that outlive it, and the small System V
# segment by which it guards its data directory.
sub remove_leftovers
{
	my ($self) = @_;

	kill 'KILL', $_ foreach $self->pids;
	return if defined $self->{_pid};
	if (open my $fh, '<', $self->data_dir . '/postmaster.pid')
	{
		my @lines = <$fh>;
		# IPC_RMID
		shmctl($1, 0, 0) if defined $lines[6] && $lines[6] =~ /^\s*\d+\s+(\d+)/;
	}
	return;
}

# --- SQL ---------------------------------------------------------------------

sub try
{
	my ($self, $sql, %options) = @_;
	my ($out, $err, $timed_out) = ('', '', 0);
	my $seconds = $options{timeout} // $PostgreSQL::Test::Utils::timeout_default;
	# psql may be gone, unable to connect, before it is given its input
	my $rc = eval {
		$self->psql(
			$options{dbname} // 'postgres', $sql,
			stdout        => \$out,
			stderr        => \$err,
			timeout       => $seconds,
			timed_out     => \$timed_out,
			(defined $options{connstr} ? (connstr => $options{connstr}) : ()),
			extra_params  => [ '-v', 'VERBOSITY=verbose' ],
			on_error_die  => 0,
			on_error_stop => 1);
	};
	croak $@ if $@ && $@ !~ /Broken pipe/;

	return ('timeout', $err) if $timed_out;
	return ('', $out) if defined $rc && $rc == 0;
	return ($1, $err) if $err =~ /(?:ERROR|FATAL|PANIC):  (\w{5}):/;
	return ('08006', $err);
}

# The answer to a question, though the session that asks is ended because the
# lease was lost at that very moment.
sub ask
{
	my ($self, $sql) = @_;

	while (1)
	{
		my ($state, $answer) = $self->try($sql);
		return $answer if $state eq '';
		# one that was still being opened shows no SQLSTATE
		croak $self->name . ": $sql: $answer"
		  if $state ne '57P01' && $answer !~ /FATAL:  terminating connection due to administrator command/;
	}
}

sub holds
{
	my ($self, $lease) = @_;
	my $argument = defined $lease ? quote($lease) : '';
	return $self->ask("SELECT leasehold.holds($argument)") eq 't'
	  ? 1 : 0;
}

sub epoch
{
	my ($self, $lease) = @_;
	my $argument = defined $lease ? quote($lease) : '';
	my $epoch = $self->ask("SELECT leasehold.epoch($argument)");
	return $epoch eq '' ? undef : $epoch;
}

sub status
{
	my ($self, $lease) = @_;
	my @columns =
	  qw(lease node state holder epoch expires_in ttl kind scope members_reachable members last_renewal renewal_latency reason);
	my $where = quote($lease // $self->{leasehold_lease});
	my $row = $self->ask("SELECT concat_ws(E'\\x1f', "
		  . join(', ', map { "coalesce($_\::text, '')" } @columns)
		  . ") FROM leasehold.status WHERE lease = $where");
	my %status;
	@status{@columns} = split /\x1f/, $row, -1;
	return \%status;
}

sub wait_state
{
	my ($self, $state, $lease) = @_;
	my $where = quote($lease // $self->{leasehold_lease});

	LeaseholdTest::wait_until(
		$self->name . " is $state",
		sub {
			my ($sqlstate, $answer) = $self->try(
				"SELECT state FROM leasehold.status WHERE lease = $where");
			$sqlstate eq '' && $answer eq $state;
		});
	return;
}

sub set_conf
{
	my ($self, %settings) = @_;
	my $loaded = 'SELECT extract(epoch FROM pg_conf_load_time())';
	my $before = $self->ask($loaded);

	foreach my $name (sort keys %settings)
	{
		$self->adjust_conf('postgresql.conf', $name, undef);
		$self->append_conf('postgresql.conf', "$name = " . quote($settings{$name}))
		  if defined $settings{$name};
	}
	$self->reload;
	# a new session has what the postmaster has
	LeaseholdTest::wait_until(
		$self->name . ' has reloaded its configuration',
		sub { $self->ask($loaded) ne $before });
	# whether commits wait, they are told by the checkpointer, when it has read it
	$self->ask('CHECKPOINT') if $settings{synchronous_standby_names};
	return;
}

# --- log ---------------------------------------------------------------------

sub log_offset
{
	my ($self) = @_;
	return -s $self->logfile // 0;
}

sub log_since
{
	my ($self, $offset) = @_;
	return PostgreSQL::Test::Utils::slurp_file($self->logfile, $offset // 0);
}

sub wait_log
{
	my ($self, $regexp, $offset, $seconds) = @_;
	LeaseholdTest::wait_until($self->name . " logs $regexp",
		sub { $self->log_since($offset) =~ $regexp }, $seconds);
	return;
}

my $dumps = 0;

sub rows_file
{
	my ($self, $table) = @_;
	my $file = "$PostgreSQL::Test::Utils::log_path/"
	  . LeaseholdTest::test_name() . '_'
	  . $self->name . '_' . ++$dumps . '.rows';
	$table //= 'writes';

	my $rows = $self->ask("SELECT client || ' ' || seq FROM $table");
	unlink $file;
	PostgreSQL::Test::Utils::append_to_file($file, $rows eq '' ? '' : "$rows\n");
	return $file;
}

# ---------------------------------------------------------------------------
# Writers
# ---------------------------------------------------------------------------

package LeaseholdTest::Writer;

use strict;
use warnings;

use Carp;

sub start
{
	my ($class, $conninfo, %options) = @_;
	my $name = delete $options{name} // 'writer';
	my $log  = "$PostgreSQL::Test::Utils::log_path/"
	  . LeaseholdTest::test_name() . "_$name.acks";
	my @arguments;

	unlink $log;
	$options{rate} //= 400;
	foreach my $key (sort keys %options)
	{
		my $option = '--' . $key =~ tr/_/-/r;
		if   ($key eq 'epoch') { push @arguments, $option if $options{$key}; }
		else                   { push @arguments, "$option=$options{$key}"; }
	}
	my $self = bless {
		log => $log, position => 0, counts => {}, per_node => {}, last_sent => {},
		connections => $options{connections} // 4 }, $class;
	$self->{pid} = LeaseholdTest::spawn("$log.err", LeaseholdTest::tool('writer'),
		"--conninfo=$conninfo", "--log=$log", @arguments);
	return $self;
}

sub log { return $_[0]{log}; }

# Read what the log has grown by.
sub catch_up
{
	my ($self) = @_;

	open my $fh, '<', $self->{log} or return;
	seek $fh, $self->{position}, 0;
	while (my $line = <$fh>)
	{
		last unless $line =~ /\n\z/;
		$self->{position} = tell $fh;
		my ($sent, undef, $node, $client, undef, undef, $outcome) = split ' ', $line;
		$self->{counts}{$outcome}++;
		$self->{last_sent}{$client} = $sent;
		$self->{per_node}{$node}++ if $outcome eq 'ack';
	}
	close $fh;
	return;
}

sub acks
{
	my ($self, $node) = @_;
	$self->catch_up;
	return (defined $node ? $self->{per_node}{$node} : $self->{counts}{ack}) // 0;
}

sub outcomes
{
	my ($self) = @_;
	$self->catch_up;
	return { %{ $self->{counts} } };
}

sub wait_acks
{
	my ($self, $n, $node, $seconds) = @_;
	my $start = $self->acks($node);

	LeaseholdTest::wait_until(
		"$n more acknowledgements in $self->{log}" . ($node ? " by $node" : ''),
		sub { $self->acks($node) >= $start + $n }, $seconds);
	return;
}

sub answered
{
	my ($self, $since) = @_;
	$self->catch_up;
	my @clients = grep { $_ >= $since } values %{ $self->{last_sent} };
	return scalar @clients;
}

sub wait_answered
{
	my ($self, $since, $seconds) = @_;
	$since //= LeaseholdTest::clock_now();

	LeaseholdTest::wait_until(
		"every connection in $self->{log} has an answer",
		sub { $self->answered($since) >= $self->{connections} }, $seconds);
	return;
}

sub stop
{
	my ($self) = @_;
	return unless $self->{pid};
	my $status = LeaseholdTest::end_child($self->{pid});
	$self->{pid} = undef;
	croak 'the writer failed: '
	  . PostgreSQL::Test::Utils::slurp_file("$self->{log}.err")
	  if $status;
	$self->catch_up;
	return $self;
}

# ---------------------------------------------------------------------------
# Proxies
# ---------------------------------------------------------------------------

package LeaseholdTest::Proxy;

use strict;
use warnings;

use Carp;
use IO::Socket::UNIX;
use Socket qw(SOCK_STREAM);

my $proxies = 0;

sub start
{
	my ($class, $target, %options) = @_;
	my $number = ++$proxies;
	my $dir    = PostgreSQL::Test::Utils::tempdir_short();
	my $base   = "$PostgreSQL::Test::Utils::log_path/"
	  . LeaseholdTest::test_name() . "_proxy$number";
	my $where = ref $target ? $target->host . '/.s.PGSQL.' . $target->port : $target;
	my $place = $options{host};
	my $self = bless {
		dir => $dir, target => $target, control => "$dir/control",
		address => $place ? $place->address : '127.0.0.1', faults => "$base.faults" }, $class;

	unlink "$base.out";
	$self->{pid} = LeaseholdTest::spawn("$base.out", ($place ? $place->enter : ()),
		LeaseholdTest::tool('pgproxy'),
		"--listen=$self->{address}:" . ($options{port} // 0), "--target=$where",
		"--control=$self->{control}", '--seed=' . ($options{seed} // 1),
		"--log=$self->{faults}");
	LeaseholdTest::wait_until(
		'the proxy listens',
		sub {
			my $out = -f "$base.out" ? PostgreSQL::Test::Utils::slurp_file("$base.out") : '';
			$self->{port} = $1 if $out =~ /listening on (\d+)/;
		});
	return $self;
}

sub port { return $_[0]{port}; }
sub host { return $_[0]{address}; }

sub connstr
{
	my ($self, $dbname) = @_;
	return "host=$self->{address} port=$self->{port}"
	  . (defined $dbname ? " dbname=$dbname" : '');
}

sub do
{
	my ($self, $command) = @_;

	$self->{socket} //= IO::Socket::UNIX->new(
		Type => SOCK_STREAM,
		Peer => $self->{control}) // croak "the proxy does not answer: $!";
	$self->{socket}->print("$command\n");
	$self->{socket}->flush;
	my $answer = $self->{socket}->getline // croak 'the proxy has ended';
	chomp $answer;
	croak "pgproxy: $answer" if $answer !~ /^ok/;
	return $answer;
}

sub stats
{
	my ($self) = @_;
	my $answer = $self->do('stats');
	return { $answer =~ /(\w+)=(\d+)/g };
}

# What was done to whom, line by line.
sub faults { return PostgreSQL::Test::Utils::slurp_file($_[0]{faults}); }

sub stop
{
	my ($self) = @_;
	LeaseholdTest::end_child($self->{pid}) if $self->{pid};
	$self->{pid} = undef;
	return;
}

1;
