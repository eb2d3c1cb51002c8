=pod

=head1 NAME

HostsTest - a host for each server, and a network between them that breaks

=head1 SYNOPSIS

  use HostsTest;        # the first: the test may begin again, or be skipped
  use LeaseholdTest;
  use Test::More;

  my $net = HostsTest->new;
  my $group = $net->group(nodes => [ 'a', 'b', 'c' ], members => 1);
  my ($a, $b, $c) = $group->nodes;

  $net->cut_off('a');                     # silence; nobody is told
  $net->reconnect('a');
  $net->partition([ 'a', 'b' ], [ 'c' ]); # silence between the two sides
  $net->drop(from => 'a', to => $b);      # in one direction, to one server
  $net->undo;

=head1 DESCRIPTION

Needs namespaces of an unprivileged user, ip and nft: the test begins again as
one who may do in them what he likes; where there are none, it is skipped, and
says why.  Each host is a network namespace of its own on a bridge, with the
address 10.0.0.N.  The test itself reaches every server by its socket, which is a
file, whatever becomes of the network; nodes and members reach each other by
their addresses only.  All vanishes with the processes in it.

=over

=item HostsTest->new

The network.  One for each test.

=item $net->group(%options)

A group whose nodes and members live on hosts of their names (a, b, store1).
Options are those of LeaseholdTest->new (without proxies, standbys and clocks),
and

  member_hosts => [ 'c', 'd' ]   where the members live, in their order
  slow  => [ 'b' ]               before these nodes is a pgproxy, on their hosts;
                                 the others reach them through it: see slow()

=item $net->host($name)

The host of this name, made if there is none: a HostsTest::Host with address(),
pid() and enter(), the words before a command that is to run there.

=item $net->address($name)

Its address.  Names of hosts may be nodes and members, too, here and below.

=item $net->silent_address

An address that nobody has: who talks to it is not told so.

=item $net->cut_off(@hosts), $net->reconnect(@hosts)

Whatever it sends, and is sent, is dropped.  Its link stays up.

=item $net->partition([ @hosts ], [ @hosts ])

Whatever one side sends to the other is dropped.

=item $net->drop(from => HOST, to => HOST, port => PORT)

Packets of connections from one host to a server on another are dropped as they
arrive, those of connections that stand, too.  "to" may be a node or member: then
the port is its own.  Without "from": from all others, without port: all ports.

=item $net->refuse(from => HOST, to => HOST, port => PORT)

The same, and whoever sent them is told.

=item $net->undo(@faults)

What partition(), drop() and refuse() returned is no more; without arguments, all
of it, and what was cut off is reconnected.

=item $net->slow($node, $ms)

What a node that was made "slow" answers takes so long; 0: as fast as ever.

=item ask_fast($node, $sql, [$dbname])

The first column of the answer, one line for each row, over a session that is held
from one call to the next.  Undef if the server takes none.

=item seconds_since($moment)

Seconds since clock_now() was that.

=back

=cut

package HostsTest;

use strict;
use warnings;

use Carp;
use Test::More;

our $net;

# Where ip and nft are, for users who are not expected to need them.
BEGIN { $ENV{PATH} .= ':/usr/sbin:/sbin'; }

# What is tried is all that new() and the others do later.
sub why_not
{
	my @as_owner = @_;
	my $trial = join ' && ',
	  (map { "command -v $_ >/dev/null || { echo no $_ here; exit 1; }" } qw(unshare nsenter ip nft)),
	  'exec "$@" sh -c "ip link add trial type bridge && unshare --net true && nft add table inet trial && nft add table bridge trial"';

	open my $fh, '-|', '/bin/sh', '-c', "{ $trial; } 2>&1", 'sh', @as_owner
	  or return "cannot run sh: $!";
	my $said = do { local $/; <$fh> } // '';
	close $fh;
	return '' if $? == 0;
	$said =~ s/\s+/ /g;
	return $said =~ /\S/ ? $said : 'no namespaces here';
}

# Before the modules of the server's tests come to life.
BEGIN
{
	if (!delete $ENV{LEASEHOLD_HOSTS})
	{
		my @as_owner = qw(unshare --user --map-current-user --keep-caps --net --mount);
		my $fault = why_not(@as_owner);

		plan skip_all => "hosts need namespaces of an unprivileged user: $fault" if $fault;
		$ENV{LEASEHOLD_HOSTS} = 1;
		exec @as_owner, $^X, (map { "-I$_" } grep { !ref } @INC), $0, @ARGV
		  or die "unshare: $!";
	}
}

use Exporter qw(import);
use LeaseholdTest;
use LeaseholdWire;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(ask_fast seconds_since);

# Neighbours that are known from the start: that somebody does not answer the
# question for it would be told to whoever wants to connect.
my @neighbours = (1 .. 20, 99);

sub run
{
	my ($input, @command) = @_;

	open my $fh, '|-', @command or croak "@command: $!";
	print $fh $input;
	close $fh;
	croak "failed: @command\n$input" if $?;
	return;
}

sub new
{
	my ($class) = @_;

	croak 'one network is enough' if $net;
	$net = bless { hosts => {}, rules => {}, faults => 0, cut_off => {} }, $class;
	run("link set lo up\nlink add bridge type bridge\nlink set bridge up\n",
		'ip', '-batch', '-');
	$net->make_pg_ctl;
	return $net;
}

# A pg_ctl that starts the server where HOSTS_ENTER says.
sub make_pg_ctl
{
	my ($self) = @_;
	my ($real) = grep { -x } map { "$_/pg_ctl" } split /:/, $ENV{PATH};
	my $dir = PostgreSQL::Test::Utils::tempdir_short();

	PostgreSQL::Test::Utils::append_to_file("$dir/pg_ctl",
		"#!/bin/sh\nexec \$HOSTS_ENTER '$real' \"\$@\"\n");
	chmod 0755, "$dir/pg_ctl";
	$ENV{PATH} = "$dir:$ENV{PATH}";
	return;
}

sub silent_address { return '10.0.0.99'; }

sub host
{
	my ($self, $name) = @_;

	return $name if ref $name && $name->isa('HostsTest::Host');
	return $name->{leasehold_host} // croak 'that server has no host' if ref $name;
	return $self->{hosts}{$name} //=
	  HostsTest::Host->make($name, 1 + keys %{ $self->{hosts} });
}

sub address { my ($self, $name) = @_; return $self->host($name)->address; }

sub group
{
	my ($self, %options) = @_;

	return LeaseholdTest->new(%options, hosts => $self);
}

# ---------------------------------------------------------------------------
# What befalls it
# ---------------------------------------------------------------------------

sub cut_off
{
	my ($self, @hosts) = @_;

	@hosts = map { $self->host($_) } @hosts;
	run(join('', map { 'link set ' . $_->port . " nomaster\n" } @hosts), 'ip', '-batch', '-');
	$self->{cut_off}{ $_->name } = $_ foreach @hosts;
	return;
}

sub reconnect
{
	my ($self, @hosts) = @_;

	@hosts = map { $self->host($_) } @hosts;
	run(join('', map { 'link set ' . $_->port . " master bridge\n" } @hosts), 'ip', '-batch', '-');
	delete $self->{cut_off}{ $_->name } foreach @hosts;
	return;
}

sub partition
{
	my ($self, $these, $those) = @_;
	my ($here, $there) = map {
		'{ ' . join(', ', map { $self->address($_) } @$_) . ' }'
	} $these, $those;

	return $self->add_rules("ip saddr $here ip daddr $there drop",
		"ip saddr $there ip daddr $here drop");
}

# To which packets a fault applies: of connections to this server, or host.
sub packets
{
	my ($self, %options) = @_;
	my $to = $options{to};
	my $port = $options{port} // (ref $to && $to->can('remote_port') ? $to->remote_port : undef);

	return (defined $options{from} ? 'ip saddr ' . $self->address($options{from}) . ' ' : '')
	  . 'ip daddr ' . $self->address($to) . ' '
	  . (defined $port ? "tcp dport $port " : 'meta l4proto tcp ');
}

sub drop
{
	my ($self, %options) = @_;
	return $self->add_rules($self->packets(%options) . 'drop');
}

# (a bridge cannot answer in the place of a host)
sub refuse
{
	my ($self, %options) = @_;
	my $host = $self->host($options{to});
	my $fault = ++$self->{faults};

	$host->{rules}{$fault} = [ $self->packets(%options) . 'reject with tcp reset' ];
	apply('inet', 'input', $host->{rules}, $host->enter);
	return $fault;
}

sub add_rules
{
	my ($self, @rules) = @_;
	my $fault = ++$self->{faults};

	$self->{rules}{$fault} = \@rules;
	apply('bridge', 'forward', $self->{rules});
	return $fault;
}

# All that is to be dropped, in place of what was, at once.
sub apply
{
	my ($family, $hook, $rules, @enter) = @_;

	run(join("\n",
			"add table $family hosts", "delete table $family hosts", "add table $family hosts",
			"add chain $family hosts faults { type filter hook $hook priority 0; policy accept; }",
			map { "add rule $family hosts faults $_" }
			  map { @{ $rules->{$_} } } sort { $a <=> $b } keys %$rules) . "\n",
		@enter, 'nft', '-f', '-');
	return;
}

# Takes these faults out of the rules, or all; false if there was none of them.
sub forget
{
	my ($rules, @faults) = @_;
	my $before = keys %$rules;

	delete @$rules{ @faults ? @faults : keys %$rules };
	return keys %$rules != $before;
}

sub undo
{
	my ($self, @faults) = @_;

	apply('bridge', 'forward', $self->{rules}) if forget($self->{rules}, @faults);
	foreach my $host (values %{ $self->{hosts} })
	{
		apply('inet', 'input', $host->{rules}, $host->enter) if forget($host->{rules}, @faults);
	}
	$self->reconnect(values %{ $self->{cut_off} }) if !@faults && %{ $self->{cut_off} };
	return;
}

sub slow
{
	my ($self, $node, $ms) = @_;
	my $proxy = $node->{leasehold_slow} // croak 'that node was not made slow';

	$proxy->do($ms ? "delay 0 $ms" : 'pass');
	return;
}

# ---------------------------------------------------------------------------
# Asking, again and again
# ---------------------------------------------------------------------------

my %session;

sub ask_fast
{
	my ($node, $sql, $dbname) = @_;
	my $key = $node->name . ' ' . ($dbname // '');

	# one that had ended meanwhile is none
	foreach (1 .. 2)
	{
		my ($session) = $session{$key}
		  // LeaseholdWire->try_connect($node, dbname => $dbname // 'postgres');

		return undef unless $session;
		$session{$key} = $session;
		my $answer = $session->query($sql);
		return join "\n", map { $_->[0] // '' } @{ $answer->{rows} } unless $answer->{error};
		delete $session{$key};
		croak $node->name . ": $sql: $answer->{error} $answer->{message}"
		  unless $answer->{closed} || $answer->{error} =~ /^57P0|^25006/;
	}
	return undef;
}

sub seconds_since
{
	my ($moment) = @_;
	return (clock_now() - $moment) / 1e9;
}

# ---------------------------------------------------------------------------
# Hosts
# ---------------------------------------------------------------------------

package HostsTest::Host;

use strict;
use warnings;

use Carp;
use LeaseholdTest;

sub hardware { return sprintf '02:00:00:00:00:%02x', $_[0]; }

sub make
{
	my ($class, $name, $number) = @_;
	my $self = bless { name => $name, number => $number, rules => {} }, $class;
	my $address = $self->address;

	$self->{pid} = LeaseholdTest::spawn('/dev/null', qw(unshare --net sleep infinity));
	wait_until("there is a host $name", sub {
			my $there = readlink "/proc/$self->{pid}/ns/net";
			defined $there && $there ne readlink '/proc/self/ns/net';
		});
	HostsTest::run(
		'link add ' . $self->port . ' type veth peer name eth0 address ' . hardware($number)
		  . " netns $self->{pid}\nlink set " . $self->port . " master bridge up\n",
		'ip', '-batch', '-');
	HostsTest::run(
		"link set lo up\naddress add $address/24 dev eth0\nlink set eth0 up\n"
		  . join('', map { "neighbour add 10.0.0.$_ lladdr " . hardware($_) . " dev eth0\n" }
			  grep { $_ != $number } @neighbours),
		$self->enter, 'ip', '-batch', '-');
	return $self;
}

sub name    { return $_[0]{name}; }
sub pid     { return $_[0]{pid}; }
sub port    { return "port$_[0]{number}"; }
sub address { return "10.0.0.$_[0]{number}"; }
sub enter   { return ('nsenter', "--net=/proc/$_[0]{pid}/ns/net"); }

# What lets the others in.
sub hba { return "host all all 10.0.0.0/24 trust\nhost replication all 10.0.0.0/24 trust\n"; }

1;
