package Stage;

# What the acts of the demo share: servers, one client, and the telling of what
# was seen.  Used by demo/demo and demo/standbys.

use strict;
use warnings;

use Cwd qw(abs_path);
use Exporter qw(import);
use File::Basename qw(dirname);
use File::Path qw(make_path);
use POSIX qw(:sys_wait_h);
use Time::HiRes qw(sleep clock_gettime CLOCK_MONOTONIC);

our @EXPORT = qw(bold say_event fail run connstr sql must wait_for start_server
  make_server make_store node_settings make_table backup_server kill_server forget_server processes
  worker holds state_of watch open_stage start_client freeze thaw report);

my $top = abs_path(dirname(__FILE__) . '/..');
my $wide = -t STDOUT;
my ($dir, $sockets, $log, $begin);
my @nodes;            # their names, in the order of the columns
my %port;             # names of sockets only
my %pid;              # running servers and the client, by name
my %stopped;
my %seen = (position => 0);
my $main = $$;

$| = 1;
$SIG{INT} = $SIG{TERM} = $SIG{HUP} = sub { exit 1 };

END
{
	my $status = $?;

	if ($$ == $main)
	{
		kill 'CONT', keys %stopped;
		kill 'TERM', $pid{client} if $pid{client};
		# one that was started again by others is no child: its file tells
		foreach my $name (keys %port)
		{
			my ($postmaster) = slurp("$dir/$name/postmaster.pid") =~ /^(\d+)/;
			kill 'QUIT', grep { $_ } $pid{$name}, $postmaster;
		}
		waitpid $_, 0 foreach values %pid;
	}
	$? = $status;
}

# The folder and the servers of one act.
sub open_stage
{
	my ($act, @names) = @_;

	@nodes = @names;
	$dir = ($ENV{TESTDIR} || die "run this through \"make demo\"\n") . "/$act";
	$sockets = "$dir/s";
	$log = "$dir/acks.log";
	@port{ 'store', @nodes } = (6001 .. 6001 + @nodes);
	make_path($sockets);
	$begin = clock_gettime(CLOCK_MONOTONIC);
	return;
}

sub bold { return $wide ? "\e[1m@_\e[0m" : "@_"; }
sub now  { return clock_gettime(CLOCK_MONOTONIC) - $begin; }
sub say_event { printf "%6.1f s  %s\n", now(), bold(@_); return; }

sub slurp
{
	my ($file) = @_;
	open my $fh, '<', $file or return '';
	local $/;
	return scalar(<$fh>) // '';
}

sub fail
{
	my ($what) = @_;

	print "\n$what\n";
	foreach my $name ('store', @nodes)
	{
		my @lines = split /\n/, slurp("$dir/$name.log");
		splice @lines, 0, @lines - 15 if @lines > 15;
		print "\nlast lines of the log of $name:\n", map { "  $_\n" } @lines;
	}
	exit 1;
}

sub run
{
	my (@command) = @_;
	my $output = '';
	my $pid = open(my $fh, '-|') // die "cannot fork: $!\n";

	if (!$pid)
	{
		open STDERR, '>&', \*STDOUT;
		exec @command or POSIX::_exit(127);
	}
	while (my $line = <$fh>) { $output .= $line; }
	close $fh;
	chomp $output;
	return wantarray ? ($output, $?) : $output;
}

sub connstr
{
	my ($name, $dbname) = @_;
	return "host=$sockets port=$port{$name} dbname=" . ($dbname // 'postgres')
	  . ' user=postgres connect_timeout=2';
}

sub sql
{
	my ($name, $sql, $dbname) = @_;
	my ($output, $status) =
	  run('psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', connstr($name, $dbname), '-c', $sql);
	return $status ? undef : $output;
}

sub must
{
	my ($name, $sql, $dbname) = @_;
	my ($output, $status) =
	  run('psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', connstr($name, $dbname), '-c', $sql);
	fail("on $name: $sql\n$output") if $status;
	return $output;
}

sub wait_for
{
	my ($what, $condition, $seconds) = @_;
	my $until = clock_gettime(CLOCK_MONOTONIC) + ($seconds // 30);

	while (clock_gettime(CLOCK_MONOTONIC) < $until)
	{
		return 1 if $condition->();
		sleep 0.02;
	}
	fail("waited in vain: $what");
	return;
}

# Servers are children of this process, so that a killed one is gone at once.
sub start_server
{
	my ($name) = @_;

	$pid{$name} = fork // die "cannot fork: $!\n";
	if (!$pid{$name})
	{
		open STDIN,  '<',  '/dev/null';
		open STDOUT, '>>', "$dir/$name.log";
		open STDERR, '>&', \*STDOUT;
		chdir "$dir/$name";
		# a group of its own: Ctrl-C is for the demo to deal with
		setpgrp;
		exec 'postgres', '-D', "$dir/$name" or POSIX::_exit(127);
	}
	wait_for("$name accepts connections", sub {
		fail("$name ended") if waitpid($pid{$name}, WNOHANG) > 0;
		(run('pg_isready', '-q', '-h', $sockets, '-p', $port{$name}))[1] == 0;
	});
	return;
}

sub make_server
{
	my ($name, @settings) = @_;
	my ($output, $status) =
	  run('initdb', '-D', "$dir/$name", '-A', 'trust', '-U', 'postgres', '-N');

	fail("initdb: $output") if $status;
	open my $conf, '>>', "$dir/$name/postgresql.conf" or die;
	print $conf map { "$_\n" } "port = $port{$name}", "listen_addresses = ''",
	  "unix_socket_directories = '$sockets'", 'shared_buffers = 16MB',
	  'dynamic_shared_memory_type = mmap', @settings;
	close $conf;
	start_server($name);
	return;
}

# All processes of a server: they sit in its data directory.
sub processes
{
	my ($name) = @_;
	my $home = abs_path("$dir/$name");
	return grep { (readlink("/proc/$_/cwd") // '') eq $home }
	  map { /(\d+)$/ } glob '/proc/[0-9]*';
}

sub worker
{
	my ($name, $which) = @_;
	my ($pid) = grep { slurp("/proc/$_/cmdline") =~ /leasehold \Q$which\E/ } processes($name);
	return $pid // fail("$name has no $which");
}

sub holds
{
	my ($name) = @_;
	return (sql($name, "SELECT leasehold.holds('main')") // '') eq 't';
}

sub state_of
{
	my ($name) = @_;
	return 'dead' unless processes($name);
	my $answer = sql($name,
		"SELECT CASE WHEN leasehold.holds(lease) THEN 'writes, epoch ' || leasehold.epoch(lease) WHEN state = 'holder' THEN 'fenced' ELSE state END FROM leasehold.status WHERE lease = 'main'"
	);
	return defined $answer && $answer ne '' ? $answer : 'no answer';
}

# Acknowledgements since the last call, by node.
sub new_acks
{
	my %acks = map { $_ => 0 } @nodes;

	open my $fh, '<', $log or return \%acks;
	seek $fh, $seen{position}, 0;
	while (my $line = <$fh>)
	{
		last unless $line =~ /\n\z/;
		$seen{position} = tell $fh;
		my @field = split ' ', $line;
		next unless $field[6] eq 'ack';
		$acks{ $field[2] }++;
		$seen{last} = $field[1];
	}
	return \%acks;
}

# Show the state of things until it is time, or until something has come true.
sub watch
{
	my ($seconds, $condition) = @_;
	my $until = now() + $seconds;

	while (now() < $until)
	{
		my @states = map { state_of($_) } @nodes;
		my $acks = new_acks();
		printf '%6.1f s  ' . '%-22s ' x @nodes . '%7d ' x @nodes . "\n", now(), @states,
		  map { $acks->{$_} } @nodes;
		return if $condition && $condition->();
		my $rest = 1 - (now() - int now());
		sleep($rest > $until - now() ? ($until > now() ? $until - now() : 0) : $rest);
	}
	return;
}

# The store, and its tables.
sub make_store
{
	my $share = run('pg_config', '--sharedir');

	make_server('store');
	must('store', 'CREATE DATABASE leasehold_store');
	my ($output, $status) = run('psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d',
		connstr('store', 'leasehold_store'),
		'-f', "$share/extension/leasehold-store.sql");
	fail($output) if $status;
	return;
}

# What makes an instance a node.
sub node_settings
{
	my ($name) = @_;
	my $store = connstr('store', 'leasehold_store') =~ s/ connect_timeout=\d+//r;

	return ("shared_preload_libraries = 'leasehold'",
		"leasehold.node_name = '$name'",
		"leasehold.store = '$store'",
		"leasehold.advertise = 'host=$sockets port=$port{$name}'",
		"leasehold.probe_interval = '500ms'", "leasehold.probe_timeout = '400ms'");
}

sub make_table
{
	my ($name) = @_;
	must($name, 'CREATE TABLE writes (client int, seq bigint, epoch bigint, PRIMARY KEY (client, seq))');
	return;
}

# A standby: a copy of another instance, with a name of its own.
sub backup_server
{
	my ($name, $from, @settings) = @_;
	my ($output, $status) = run('pg_basebackup', '-D', "$dir/$name", '-d', connstr($from),
		'-c', 'fast', '-N', '-C', '-S', "leasehold_$name");

	fail("pg_basebackup: $output") if $status;
	open my $signal, '>', "$dir/$name/standby.signal" or die;
	open my $conf, '>>', "$dir/$name/postgresql.conf" or die;
	print $conf map { "$_\n" } "port = $port{$name}", @settings;
	close $conf;
	start_server($name);
	return;
}

# All at once: the keeper outlives the postmaster if it is let, and releases.
sub kill_server
{
	my ($name) = @_;
	my ($postmaster) = slurp("$dir/$name/postmaster.pid") =~ /^(\d+)/;

	kill 'KILL', (grep { $_ != $postmaster } processes($name)), $postmaster;
	kill 'KILL', $_ foreach processes($name);
	waitpid delete $pid{$name}, 0 if $pid{$name};
	wait_for("$name is dead", sub { !grep { slurp("/proc/$_/stat") !~ /\) [ZX]/ } processes($name) });
	return;
}

sub freeze { my ($process) = @_; $stopped{$process} = 1; kill 'STOP', $process; return; }
sub thaw   { my ($process) = @_; kill 'CONT', $process; delete $stopped{$process}; return; }

# One client, four connections, one connection string.
sub start_client
{
	my $string = 'host=' . join(',', ($sockets) x @nodes) . ' port=' . join(',', @port{@nodes})
	  . ' dbname=postgres user=postgres target_session_attrs=read-write';

	$pid{client} = fork // die;
	if (!$pid{client})
	{
		setpgrp;
		exec "$top/test/tools/writer", "--conninfo=$string", "--log=$log", '--epoch',
		  '--connections=4', '--rate=100', '--mode=extended' or POSIX::_exit(127);
	}
	wait_for('the client writes', sub { -s $log });
	print bold('A client writes'), ' through "', $string =~ s/\Q$sockets\E/.../gr, "\".\n\n";
	$begin = clock_gettime(CLOCK_MONOTONIC);
	new_acks();
	printf '%8s  ' . '%-22s ' x @nodes . "acknowledged by %s\n", 'time', @nodes, join(', by ', @nodes);
	return;
}

# ---------------------------------------------------------------------------
# What became of it
# ---------------------------------------------------------------------------

# End the client, and hold what it was told against the history of the lease and
# against the tables of these nodes.  Returns who took over from whom, and not 0
# if something was wrong.
sub report
{
	my (@holders) = @_;

	kill 'TERM', $pid{client};
	waitpid delete $pid{client}, 0;
	my @history = map { [ split /\|/ ] } split /\n/,
	  must($holders[0], "SELECT DISTINCT ON (epoch) epoch, to_node, reason FROM leasehold.history WHERE lease = 'main' AND to_node <> '' ORDER BY epoch, at");
	{
		open my $fh, '>', "$dir/history" or die;
		print $fh "$_->[0] $_->[1]\n" foreach @history;
	}
	my @rows;
	foreach my $name (@holders)
	{
		run('psql', '-XAtq', '-F', ' ', '-d', connstr($name), '-o', "$dir/$name.rows",
			'-c', 'SELECT client, seq FROM writes');
		push @rows, "--rows=$name=$dir/$name.rows";
	}
	my ($verdict, $status) =
	  run("$top/test/tools/judge", "--history=$dir/history", @rows, $log);
	fail("no verdict: $verdict") if ($status >> 8) > 1;

	my (%epoch, $first);
	open my $fh, '<', $log or die;
	while (<$fh>)
	{
		my (undef, $at, $node, undef, undef, $number, $outcome) = split;
		next unless $outcome eq 'ack';
		$first //= $at;
		my $e = $epoch{$number} //= { node => $node, first => $at, last => $at, acks => 0 };
		$e->{acks}++;
		$e->{first} = $at if $at < $e->{first};
		$e->{last}  = $at if $at > $e->{last};
		$first = $at if $at < $first;
	}
	close $fh;

	print "\n", bold('Who held the lease, and what was acknowledged'), "\n";
	printf "%7s  %-5s %-28s %12s  %-19s %s\n", 'epoch', 'node', 'why', 'acknowledged',
	  'first to last', 'nobody could write before';
	my $previous;
	foreach my $given (@history)
	{
		my ($number, $node, $reason) = @$given;
		my $e = $epoch{$number};

		printf "%7d  %-5s %-28s %12s  ", $number, $node, $reason, $e ? $e->{acks} : 0;
		printf '%6.2f s to %6.2f s', ($e->{first} - $first) / 1e9, ($e->{last} - $first) / 1e9 if $e;
		printf '  %.2f s', ($e->{first} - $previous) / 1e9 if $e && defined $previous;
		print "\n";
		$previous = $e->{last} if $e;
	}

	my %found = $verdict =~ /^(\w+) (\d+)$/mg;
	print "\n";
	printf "%7d  acknowledged in all\n", $found{acks};
	printf "%7d  acknowledged under an epoch that its node did not hold\n", $found{conflicts};
	printf "%7d  acknowledged by one node after the next had begun\n", $found{late};
	printf "%7d  acknowledged and not found in the table\n", $found{missing};
	print "\n$verdict\n" if $status;
	return join(' ', $verdict =~ /^takeover (\w) (\w) /mg), $status;
}

1;
