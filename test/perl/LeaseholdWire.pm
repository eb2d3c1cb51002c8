=pod

=head1 NAME

LeaseholdWire - a client that sees every message

=head1 SYNOPSIS

  use LeaseholdWire;

  my $client = LeaseholdWire->connect($node);
  $client->parameter('default_transaction_read_only');    # as reported so far
  my $answer = $client->query('INSERT INTO t VALUES (1)');
  $answer->{error};                                       # SQLSTATE, or ''
  $client->extended('INSERT INTO t VALUES ($1)', 2);
  $client->fastpath(1574, pack('N', $sequence));
  $client->wait_end;                                      # SQLSTATE of the last word

=head1 DESCRIPTION

Speaks the frontend protocol over the node's Unix socket, without a library, so
that a test can look at what a driver or a balancer looks at: the parameters in
the startup reply, reports that follow a change, a connection that ends while
nothing was asked.

=over

=item LeaseholdWire->connect($node, %options)

Options: dbname, user, options (as in the startup message), host and port
instead of $node => undef, timeout.  Dies unless a session stands; see
try_connect().

=item LeaseholdWire->try_connect($node, %options)

The same, but returns (undef, SQLSTATE) when refused.

=item $client->query($sql), $client->extended($sql, @values), $client->fastpath($oid, @values)

Simple protocol (several statements in one string allowed), extended protocol
(Parse, Bind, Describe, Execute, Sync; values as text), function call (values in
binary).  Each waits for ReadyForQuery and returns a hash: error (SQLSTATE of
the first error, '' for none, 'closed' when the connection ended without one),
message, detail, hint, tags (command tags, in order), rows (arrays of text,
undef for null), value (the first column of the first row), status ('I', 'T',
'E'), closed.

=item $client->send($sql), $client->collect

The same as query() in two steps: send, and later read to the end.

=item $client->send_messages($type => $body, ...)

Raw messages, for portals and the like; collect() reads up to ReadyForQuery.

=item $client->parameter($name)

The value last reported.  Reads what has arrived, without waiting.

=item $client->ended

Has the connection ended?  '' while it stands, else the SQLSTATE of the last
error, or 'closed'.  Reads what has arrived, without waiting.

=item $client->notifications

What was notified since the last call, as arrays of channel and payload.  Reads
what has arrived, without waiting.

=item $client->wait_end([$seconds])

Waits for that.

=item $client->pid

Process id of the session.

=back

=cut

package LeaseholdWire;

use strict;
use warnings;

use Carp;
use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use LeaseholdTest;
use PostgreSQL::Test::Utils;
use Socket qw(SOCK_STREAM);

sub connect
{
	my ($class, $node, %options) = @_;
	my ($self, $state) = $class->try_connect($node, %options);

	croak 'no session: ' . ($state // '') unless $self;
	return $self;
}

sub try_connect
{
	my ($class, $node, %options) = @_;
	my $host = $options{host} // $node->host;
	my $port = $options{port} // $node->port;
	my $self = bless {
		buffer => '', parameters => {}, last_error => '', ended => 0,
		timeout => $options{timeout} // $PostgreSQL::Test::Utils::timeout_default }, $class;
	my %startup = (
		user     => $options{user} // $ENV{PGUSER} // scalar getpwuid($<),
		database => $options{dbname} // 'postgres',
		application_name => 'wire',
		(defined $options{options} ? (options => $options{options}) : ()));

	$self->{socket} =
	  $host =~ m{^/}
	  ? IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => "$host/.s.PGSQL.$port")
	  : IO::Socket::INET->new(PeerAddr => $host, PeerPort => $port);
	return (undef, 'refused') unless $self->{socket};
	$self->{socket}->blocking(1);
	my $body = pack('N', 196608)
	  . join('', map { "$_\0$startup{$_}\0" } sort keys %startup) . "\0";
	$self->write_all(pack('N', length($body) + 4) . $body);

	my $answer = $self->collect;
	return (undef, $answer->{error} || 'closed') if $answer->{error} || $answer->{closed};
	return $self;
}

sub pid { return $_[0]{pid}; }

# ---- out ----

sub write_all
{
	my ($self, $bytes) = @_;
	local $SIG{PIPE} = 'IGNORE';

	while (length $bytes)
	{
		my $n = syswrite $self->{socket}, $bytes;

		# the other end is gone: reading will tell what it said last
		return unless defined $n;
		substr($bytes, 0, $n) = '';
	}
	return;
}

sub send_messages
{
	my ($self, @messages) = @_;
	my $bytes = '';

	while (@messages)
	{
		my ($type, $body) = splice @messages, 0, 2;
		$bytes .= $type . pack('N', length($body) + 4) . $body;
	}
	$self->write_all($bytes);
	return;
}

sub send
{
	my ($self, $sql) = @_;
	return $self->send_messages(Q => "$sql\0");
}

sub query
{
	my ($self, $sql) = @_;
	$self->send($sql);
	return $self->collect;
}

sub bind_message
{
	my ($portal, $statement, @values) = @_;
	return "$portal\0$statement\0" . pack('n n', 0, scalar @values)
	  . join('', map { defined $_ ? pack('N', length) . $_ : pack('N', 0xFFFFFFFF) } @values)
	  . pack('n', 0);
}

sub extended
{
	my ($self, $sql, @values) = @_;

	$self->send_messages(
		P => "\0$sql\0" . pack('n', 0),
		B => bind_message('', '', @values),
		D => "P\0",
		E => "\0" . pack('N', 0),
		S => '');
	return $self->collect;
}

sub fastpath
{
	my ($self, $oid, @values) = @_;

	$self->send_messages(
		F => pack('N n n n', $oid, 1, 1, scalar @values)
		  . join('', map { pack('N', length) . $_ } @values)
		  . pack('n', 1));
	return $self->collect;
}

# ---- in ----

# Read once, waiting for at most so many seconds; false if nothing came.
sub read_more
{
	my ($self, $seconds) = @_;

	return 0 if $self->{ended};
	return 0 unless IO::Select->new($self->{socket})->can_read($seconds);
	my $n = sysread $self->{socket}, $self->{buffer}, 65536, length $self->{buffer};
	if (!$n)
	{
		$self->{ended} = 1;
		return 0;
	}
	return 1;
}

# The next whole message, as (type, body); () if none is there in time.
sub next_message
{
	my ($self, $deadline) = @_;

	while (1)
	{
		if (length $self->{buffer} >= 5)
		{
			my ($type, $length) = unpack 'a N', $self->{buffer};
			if (length $self->{buffer} >= $length + 1)
			{
				my $body = substr $self->{buffer}, 5, $length - 4;
				substr($self->{buffer}, 0, $length + 1) = '';
				return ($type, $body);
			}
		}
		return () if $self->{ended};
		my $left = ($deadline - clock_now()) / 1e9;
		return () if !$self->read_more($left > 0 ? $left : 0) && $left <= 0;
	}
}

sub error_fields
{
	my ($body) = @_;
	my %field;

	foreach my $part (split /\0/, $body)
	{
		$field{ substr $part, 0, 1 } = substr $part, 1 if length $part;
	}
	return \%field;
}

sub take_message
{
	my ($self, $type, $body, $answer) = @_;

	if ($type eq 'S')
	{
		my ($name, $value) = split /\0/, $body, -1;
		$self->{parameters}{$name} = $value;
	}
	elsif ($type eq 'K') { $self->{pid} = unpack 'N', $body; }
	elsif ($type eq 'A')
	{
		push @{ $self->{notifications} }, [ (split /\0/, substr($body, 4), -1)[ 0, 1 ] ];
	}
	elsif ($type eq 'E')
	{
		my $field = error_fields($body);
		$self->{last_error} = $field->{C};
		return if !$answer || $answer->{error};
		@$answer{qw(error message detail hint)} =
		  ($field->{C}, map { $field->{$_} // '' } qw(M D H));
	}
	return unless $answer;
	if ($type eq 'C') { push @{ $answer->{tags} }, $body =~ s/\0\z//r; }
	elsif ($type eq 'D')
	{
		my ($n, @row) = (unpack 'n', $body);
		my $at = 2;
		foreach (1 .. $n)
		{
			my $length = unpack 'N', substr $body, $at, 4;
			$at += 4;
			if ($length == 0xFFFFFFFF) { push @row, undef; next; }
			push @row, substr $body, $at, $length;
			$at += $length;
		}
		push @{ $answer->{rows} }, \@row;
	}
	elsif ($type eq 'V')
	{
		my $length = unpack 'N', $body;
		push @{ $answer->{rows} },
		  [ $length == 0xFFFFFFFF ? undef : substr $body, 4 ];
	}
	# COPY ... FROM STDIN: nothing to send
	elsif ($type eq 'G') { $self->send_messages(c => ''); }
	elsif ($type eq 'R' && unpack('N', $body) != 0)
	{
		croak 'the server wants a password';
	}
	return;
}

sub collect
{
	my ($self) = @_;
	my $deadline = clock_now() + $self->{timeout} * 1e9;
	my %answer = (
		error => '', message => '', detail => '', hint => '', tags => [],
		rows => [], status => '', closed => 0);

	while (my ($type, $body) = $self->next_message($deadline))
	{
		if ($type eq 'Z')
		{
			$answer{status} = $body;
			last;
		}
		$self->take_message($type, $body, \%answer);
	}
	if ($answer{status} eq '')
	{
		croak "no answer within $self->{timeout} s" unless $self->{ended};
		$answer{closed} = 1;
		$answer{error} ||= 'closed';
	}
	$answer{value} = @{ $answer{rows} } ? $answer{rows}[0][0] : undef;
	return \%answer;
}

# Whatever has arrived while nothing was asked.
sub catch_up
{
	my ($self) = @_;

	1 while $self->read_more(0);
	while (my ($type, $body) = $self->next_message(0))
	{
		$self->take_message($type, $body);
	}
	return;
}

sub parameter
{
	my ($self, $name) = @_;
	$self->catch_up;
	return $self->{parameters}{$name};
}

sub notifications
{
	my ($self) = @_;
	$self->catch_up;
	return @{ delete $self->{notifications} // [] };
}

sub ended
{
	my ($self) = @_;
	$self->catch_up;
	return '' unless $self->{ended};
	return $self->{last_error} || 'closed';
}

sub wait_end
{
	my ($self, $seconds) = @_;
	return wait_until('the connection ends', sub { $self->ended }, $seconds);
}

sub close
{
	my ($self) = @_;
	return if $self->{closed}++;
	$self->send_messages(X => '') unless $self->{ended};
	CORE::close($self->{socket});
	$self->{ended} = 1;
	return;
}

1;
