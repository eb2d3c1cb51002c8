=pod

=head1 NAME

FenceTest - one server whose fence the test opens and closes by hand

=head1 SYNOPSIS

  use FenceTest;

  my $fence = FenceTest->new('a');       # fenced; lease "main", no store
  $fence->open;                          # holds the lease, without end
  $fence->open(500);                     # for 500 ms, under a new epoch
  $fence->close;
  my ($code, $out, $err) = $fence->try('INSERT INTO t VALUES (1)');

=head1 DESCRIPTION

A server with the library and the test module leasehold_fencetest, which plays
the keeper's part: the keeper itself is stopped (SIGSTOP) as long as the server
runs.  C<LEASEHOLD_LIBRARY> names another library than the installed one,
C<LEASEHOLD_NO_KEEPER> says that it has no keeper.

=cut

package FenceTest;

use strict;
use warnings;

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TestModule;
use Time::HiRes qw(usleep);

our @running;

# FenceTest->new(NAME, conf => TEXT, init => [ARGUMENT...], setup => SQL)
sub new
{
	my ($class, $name, %options) = @_;
	# a library in a folder of its own is found by the workers by its name
	my $library = $ENV{LEASEHOLD_LIBRARY} || 'leasehold';
	my ($folder, $file) = $library =~ m{^(.*)/([^/]+?)(?:\.so)?$};
	$library = $file if defined $file;
	my $node    = PostgreSQL::Test::Cluster->new($name);
	$node->init(@{ $options{init} || [] });
	$node->append_conf('postgresql.conf', <<CONF);
shared_preload_libraries = '$library'
leasehold.lease = 'main'
leasehold.on_expiry = 'none'
max_prepared_transactions = 10
log_line_prefix = '%m [%p] %a '
CONF
	$node->append_conf('postgresql.conf', "dynamic_library_path = '$folder:\$libdir'")
	  if defined $folder;
	$node->append_conf('postgresql.conf', $options{conf}) if $options{conf};
	my $self = bless { node => $node }, $class;
	$self->start;
	$self->install;
	$self->{node}->safe_psql('postgres', "SET leasehold.local_ddl = on; $options{setup}")
	  if $options{setup};
	return $self;
}

sub node { return $_[0]->{node}; }

sub start
{
	my ($self) = @_;
	$self->{node}->start;
	push @running, $self;
	$self->take_over if $self->{installed};
	return;
}

# The functions of the module, in a schema of their own, past the fence.
sub install
{
	my ($self) = @_;
	my $sql = module_sql('fencetest');
	$self->{node}->safe_psql('postgres',
		"SET leasehold.local_ddl = on; CREATE SCHEMA fencetest; SET search_path = fencetest; $sql");
	$self->{installed} = 1;
	$self->take_over;
	return;
}

# From here on nobody but the test works the fence.
sub take_over
{
	my ($self) = @_;
	$self->{node}->poll_query_until('postgres', 'SELECT fencetest.keeper() <> 0')
	  unless $ENV{LEASEHOLD_NO_KEEPER};
	my $pid = $self->call('keeper()');
	return unless $pid;
	kill 'STOP', $pid;
	$self->{keeper} = $pid;
	$self->call('close()');
	return;
}

sub stop
{
	my ($self, $mode) = @_;
	kill 'CONT', delete $self->{keeper} if $self->{keeper};
	@running = grep { $_ != $self } @running;
	$self->{node}->stop($mode || 'fast');
	return;
}

sub restart
{
	my ($self, $mode) = @_;
	$self->stop($mode);
	$self->start;
	return;
}

END
{
	my $status = $?;
	foreach my $self (@running)
	{
		kill 'CONT', $self->{keeper} if $self->{keeper};
	}
	$? = $status;
}

# A function of the module.
sub call
{
	my ($self, $call) = @_;
	return $self->{node}->safe_psql('postgres', "SELECT fencetest.$call");
}

sub open
{
	my ($self, $ms) = @_;
	return $self->call('open(' . ($ms // -1) . ')');
}

sub reopen
{
	my ($self, $ms) = @_;
	return $self->call('reopen(' . ($ms // -1) . ')');
}

sub close
{
	my ($self) = @_;
	$self->call('close()');
	return;
}

# Run SQL with psql, errors and all: (exit code, output, messages).
sub try
{
	my ($self, $sql, %options) = @_;
	my ($out, $err) = ('', '');
	my $code = $self->{node}->psql($options{dbname} || 'postgres', $sql,
		stdout => \$out, stderr => \$err, on_error_die => 0, on_error_stop => 1,
		extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	return ($code, $out, $err);
}

# It fails, with the SQLSTATE of the fence, and a message like that.
sub refused
{
	my ($self, $sql, $like, $name) = @_;
	my ($code, $out, $err) = $self->try($sql);
	$name = $sql unless defined $name;
	return ok($err =~ /ERROR:  25006: / && $err =~ $like, "refused: $name")
	  || diag("exit $code\n$out\n$err");
}

sub allowed
{
	my ($self, $sql, $name) = @_;
	my ($code, $out, $err) = $self->try($sql);
	$name = $sql unless defined $name;
	return ok($code == 0 && $err !~ /ERROR|FATAL/, "allowed: $name")
	  || diag("exit $code\n$out\n$err");
}

# A session that stays open, by the server's own protocol.
sub session
{
	my ($self, %options) = @_;
	return FenceTest::Session->new($self, %options);
}

# Everything that a dump shows, of all databases.
sub dump_all
{
	my ($self) = @_;
	my ($out, $err) = ('', '');
	IPC::Run::run(
		[ 'pg_dumpall', '-h', $self->{node}->host, '-p', $self->{node}->port, '--no-sync' ],
		'>', \$out, '2>', \$err)
	  or die "pg_dumpall failed: $err";
	# newer servers put a key of the session into the dump
	$out =~ s/^\\(un)?restrict .*$//mg;
	return $out;
}

# ---------------------------------------------------------------------------
# The protocol, spoken by hand: what a client is told, message by message.
# ---------------------------------------------------------------------------

package FenceTest::Session;

use strict;
use warnings;

use IO::Select;
use IO::Socket::UNIX;
use Time::HiRes qw(time);

sub new
{
	my ($class, $fence, %options) = @_;
	my $node = $fence->node;
	my $path = $node->host . '/.s.PGSQL.' . $node->port;
	my $socket = IO::Socket::UNIX->new(Peer => $path)
	  or die "cannot connect to $path: $!";
	my $self = bless { socket => $socket, buffer => '', parameters => {}, eof => 0 }, $class;
	my $user = $options{user} || getpwuid($<);
	my $startup = pack('N', 196608);
	$startup .= "$_\0" foreach 'user', $user, 'database', $options{dbname} || 'postgres',
	  'application_name', $options{name} || 'session';
	$startup .= "$_\0" foreach %{ $options{startup} || {} };
	$startup .= "\0";
	$self->raw(pack('N', 4 + length $startup) . $startup);
	$self->until_ready;
	return $self;
}

sub raw
{
	my ($self, $bytes) = @_;
	local $SIG{PIPE} = 'IGNORE';
	syswrite($self->{socket}, $bytes);
	return;
}

# Send messages: (type, body) pairs, in one piece.
sub send
{
	my ($self, @messages) = @_;
	my $bytes = '';
	while (my ($type, $body) = splice(@messages, 0, 2))
	{
		$bytes .= $type . pack('N', 4 + length $body) . $body;
	}
	$self->raw($bytes);
	return;
}

# The next message, or nothing at the end of the connection; undef in time.
sub next_message
{
	my ($self, $timeout) = @_;
	my $until = time + ($timeout // $PostgreSQL::Test::Utils::timeout_default);
	while (1)
	{
		if (length $self->{buffer} >= 5)
		{
			my ($type, $length) = unpack('a N', $self->{buffer});
			if (length $self->{buffer} >= 1 + $length)
			{
				my $body = substr($self->{buffer}, 5, $length - 4);
				substr($self->{buffer}, 0, 1 + $length) = '';
				if ($type eq 'S')
				{
					my ($name, $value) = split /\0/, $body;
					$self->{parameters}{$name} = $value;
				}
				if ($type eq 'K')
				{
					($self->{pid}, $self->{key}) = unpack('N N', $body);
				}
				return { type => $type, body => $body };
			}
		}
		return { type => 'EOF', body => '' } if $self->{eof};
		my $left = $until - time;
		die 'timed out waiting for the server' if $left <= 0;
		next unless IO::Select->new($self->{socket})->can_read($left);
		my $got = sysread($self->{socket}, $self->{buffer}, 65536, length $self->{buffer});
		$self->{eof} = 1 unless $got;
	}
}

# All messages up to ReadyForQuery or the end; as text: "T D C:INSERT 0 1 Z".
sub until_ready
{
	my ($self) = @_;
	my @said;
	while (1)
	{
		my $message = $self->next_message;
		my ($type, $body) = @{$message}{qw(type body)};
		if ($type eq 'E')
		{
			my ($state) = $body =~ /C(.....)\0/;
			my ($text)  = $body =~ /\0M([^\0]*)/;
			push @said, "E:$state";
			$self->{error} = $text;
		}
		elsif ($type eq 'C')
		{
			push @said, 'C:' . ($body =~ s/\0$//r);
		}
		elsif ($type eq 'D')
		{
			my ($n, $length) = unpack('n N', $body);
			push @said, 'D:' . ($length == 0xffffffff ? '' : substr($body, 6, $length));
		}
		elsif ($type ne 'S' && $type ne 'N' && $type ne 'R' && $type ne 'K')
		{
			push @said, $type;
		}
		last if $type eq 'Z' || $type eq 'EOF';
	}
	return join ' ', @said;
}

sub query
{
	my ($self, $sql) = @_;
	$self->send(Q => "$sql\0");
	return $self->until_ready;
}

# The messages of one statement in the extended protocol, Sync left out.
sub extended
{
	my ($self, $sql) = @_;
	return (P => "\0$sql\0" . pack('n', 0), B => "\0\0" . pack('n n n', 0, 0, 0),
		E => "\0" . pack('N', 0));
}

sub parameter { return $_[0]->{parameters}{ $_[1] }; }
sub pid       { return $_[0]->{pid}; }
sub error     { return $_[0]->{error}; }

sub disconnect
{
	my ($self) = @_;
	$self->send(X => '');
	CORE::close($self->{socket});
	return;
}

1;
