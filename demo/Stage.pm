package Stage;

# What the acts of the demo share: servers, clients, and the telling of what was
# seen.  Used by demo/demo, demo/standbys and demo/tables.

use strict;
use warnings;

use Cwd qw(abs_path);
use Exporter qw(import);
use File::Basename qw(dirname);
use File::Path qw(make_path);
use POSIX qw(:sys_wait_h);
use Time::HiRes qw(sleep clock_gettime CLOCK_MONOTONIC);

our @EXPORT = qw(bold say_event fail run connstr sql must show wait_for start_server
  make_server make_store node_settings make_table backup_server kill_server log_of processes
  worker holds state_of watch watch_as open_stage start_client start_writer stop_writer acks_of new_acks
  freeze thaw report);

my $top = abs_path(dirname(__FILE__) . '/..');
my $wide = -t STDOUT;
my ($dir, $sockets, $begin);
my @nodes;            # their names, in the order of the columns
my %port;             # names of sockets only
my %pid;              # running servers, by name
my %client;           # running clients, by name
my %position;         # how far their logs have been looked at
my %stopped;
my $main = $$;

$| = 1;
$SIG{INT} = $SIG{TERM} = $SIG{HUP} = sub { exit 1 };

END
{
	my $status = $?;

	if ($$ == $main)
	{
		kill 'CONT', keys %stopped;
		kill 'TERM', values %client;
		# one that was started again by others is no child: its file tells
		foreach my $name (keys %port)
		{
			my ($postmaster) = slurp("$dir/$name/postmaster.pid") =~ /^(\d+)/;
			kill 'QUIT', grep { $_ } $pid{$name}, $postmaster;
		}
		waitpid $_, 0 foreach values %client, values %pid;
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

# What a person types and sees: on that node, as psql shows it.  "expected" is what
# has to be in the answer.
sub show
{
	my ($name, $sql, $expected) = @_;
	my ($output) = run('psql', '-X', '-P', 'footer=off', '-d', connstr($name), '-c', $sql);

	$output =~ s/\Q$sockets\E/.../g;
	fail("on $name: $sql\n$output\nexpected $expected") unless $output =~ $expected;
	$output =~ s/^/          /mg;
	print bold("       $name=# $sql;"), "\n$output\n";
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

# What was acknowledged to these clients, in this order: time in ns, node, client's
# number, sequence number, epoch.
sub acks_of
{
	my @acks = map { @{ (read_acks($_, 0))[0] } } @_;

	@acks = sort { $a->[0] <=> $b->[0] } @acks;
	return @acks;
}

# The same of one client, from a position of its log on; and the next position.
sub read_acks
{
	my ($client, $from) = @_;
	my @acks;

	open my $fh, '<', "$dir/$client.acks" or return ([], $from);
	seek $fh, $from, 0;
	while (my $line = <$fh>)
	{
		last unless $line =~ /\n\z/;
		$from = tell $fh;
		my (undef, $at, $node, $number, $seq, $epoch, $outcome) = split ' ', $line;
		push @acks, [ $at, $node, $number, $seq, $epoch ] if $outcome eq 'ack';
	}
	close $fh;
	return (\@acks, $from);
}

# Acknowledgements since the last call, by node.
sub new_acks
{
	my %acks = map { $_ => 0 } @nodes;

	foreach my $client (@_)
	{
		(my $new, $position{$client}) = read_acks($client, $position{$client} // 0);
		$acks{ $_->[1] }++ foreach @$new;
	}
	return \%acks;
}

# How each node stands to the lease, and what each has acknowledged.
sub columns
{
	my @states = map { state_of($_) } @nodes;
	my $acks = new_acks('client');

	return (\@states, [ map { $acks->{$_} } @nodes ]);
}

my $columns = \&columns;

# The head of what watch() shows; "code" says what each node is, and the numbers.
sub watch_as
{
	my ($head, $code) = @_;

	$columns = $code;
	$begin = clock_gettime(CLOCK_MONOTONIC);
	new_acks($_) foreach keys %client;
	printf '%8s  ' . '%-22s ' x @nodes . "%s\n", 'time', @nodes, $head;
	return;
}

# Show the state of things until it is time, or until something has come true.
sub watch
{
	my ($seconds, $condition) = @_;
	my $until = now() + $seconds;

	while (now() < $until)
	{
		my ($states, $numbers) = $columns->();
		printf '%6.1f s  ' . '%-22s ' x @nodes . '%7d ' x @$numbers . "\n", now(), @$states, @$numbers;
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

sub log_of { my ($name) = @_; return slurp("$dir/$name.log"); }

# A client of some connections, which goes on whatever it is told.
sub start_writer
{
	my ($name, $string, @arguments) = @_;

	$client{$name} = fork // die;
	if (!$client{$name})
	{
		setpgrp;
		exec "$top/test/tools/writer", "--conninfo=$string", "--log=$dir/$name.acks", '--epoch',
		  '--mode=extended', @arguments or POSIX::_exit(127);
	}
	wait_for('the client writes', sub { -s "$dir/$name.acks" });
	return;
}

sub stop_writer
{
	my ($name) = @_;

	kill 'TERM', $client{$name};
	waitpid delete $client{$name}, 0;
	return;
}

# One client, four connections, one connection string.
sub start_client
{
	my $string = 'host=' . join(',', ($sockets) x @nodes) . ' port=' . join(',', @port{@nodes})
	  . ' dbname=postgres user=postgres target_session_attrs=read-write';

	start_writer('client', $string, '--connections=4', '--rate=100');
	print bold('A client writes'), ' through "', $string =~ s/\Q$sockets\E/.../gr, "\".\n\n";
	watch_as('acknowledged by ' . join(', by ', @nodes), $columns);
	return;
}

# ---------------------------------------------------------------------------
# What became of it
# ---------------------------------------------------------------------------

# The rows of a table, for test/tools/judge.
sub rows_file
{
	my ($name, $table) = @_;

	run('psql', '-XAtq', '-F', ' ', '-d', connstr($name), '-o', "$dir/$name.$table.rows",
		'-c', "SELECT client, seq FROM $table");
	return "$dir/$name.$table.rows";
}

# Who was given the lease, and why.
sub history_of
{
	my ($lease) = @_;
	my @history = map { [ split /\|/ ] } split /\n/,
	  must('store', "SELECT epoch, to_node, reason FROM leasehold_store.history WHERE lease = '$lease' AND to_node <> '' ORDER BY epoch, at",
		'leasehold_store');

	open my $fh, '>', "$dir/history" or die;
	print $fh "$_->[0] $_->[1]\n" foreach @history;
	close $fh;
	return @history;
}

# First and last acknowledgement under each epoch.
sub by_epoch
{
	my (@acks) = @_;
	my %epoch;

	foreach (@acks)
	{
		my ($at, undef, undef, undef, $number) = @$_;
		my $e = $epoch{$number} //= { first => $at, acks => 0 };
		$e->{acks}++;
		$e->{last} = $at;
	}
	return %epoch;
}

sub print_history
{
	my ($history, @acks) = @_;
	my %epoch = by_epoch(@acks);
	my $first = @acks ? $acks[0][0] : 0;
	my $previous;

	printf "%7s  %-5s %-28s %12s  %-19s %s\n", 'epoch', 'node', 'why', 'acknowledged',
	  'first to last', 'nobody could write before';
	foreach my $given (@$history)
	{
		my ($number, $node, $reason) = @$given;
		my $e = $epoch{$number};

		printf "%7d  %-5s %-28s %12s  ", $number, $node, $reason, $e ? $e->{acks} : 0;
		printf '%6.2f s to %6.2f s', ($e->{first} - $first) / 1e9, ($e->{last} - $first) / 1e9 if $e;
		printf '  %.*f s', $e->{first} - $previous < 1e8 ? 3 : 2, ($e->{first} - $previous) / 1e9
		  if $e && defined $previous;
		print "\n";
		$previous = $e->{last} if $e;
	}
	print "\n";
	return;
}

# End the clients, and hold what they were told against the history of the lease and
# against the table as these nodes have it, each its own writes; or all against the
# table of the one node "copy".  Returns who took over from whom, and not 0 if
# something was wrong.
sub report
{
	my ($holders, %what) = @_;
	my $lease = $what{lease} // 'main';
	my $table = $what{table} // 'writes';
	my @clients = @{ $what{clients} // ['client'] };

	stop_writer($_) foreach grep { $client{$_} } @clients;
	my @history = history_of($lease);
	my @rows =
	  $what{copy}
	  ? '--rows=' . rows_file($what{copy}, $table)
	  : map { "--rows=$_=" . rows_file($_, $table) } @$holders;
	my ($verdict, $status) =
	  run("$top/test/tools/judge", "--history=$dir/history", @rows, map { "$dir/$_.acks" } @clients);
	fail("no verdict: $verdict") if ($status >> 8) > 1;

	print "\n", bold('Who held the lease' . ($what{lease} ? " \"$lease\"" : '') . ', and what was acknowledged'), "\n";
	print_history(\@history, acks_of(@clients));
	my %found = $verdict =~ /^(\w+) (\d+)$/mg;
	printf "%7d  acknowledged in all\n", $found{acks};
	printf "%7d  acknowledged under an epoch that its node did not hold\n", $found{conflicts};
	printf "%7d  acknowledged by one node after the next had begun\n", $found{late};
	printf "%7d  acknowledged and not found in the table\n", $found{missing};
	print "\n$verdict\n" if $status;
	return join(' ', $verdict =~ /^takeover (\w) (\w) /mg), $status;
}

1;
