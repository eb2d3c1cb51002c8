=pod

=head1 NAME

LeaseholdNode - one instance: a node, a member of the store, a standby

=head1 DESCRIPTION

The class LeaseholdTest::Node; see LeaseholdTest, which loads this and whose
functions it uses.

=cut

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

1;
