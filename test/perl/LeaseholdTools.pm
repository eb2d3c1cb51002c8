=pod

=head1 NAME

LeaseholdTools - the programs that a test runs beside the instances

=head1 DESCRIPTION

The classes LeaseholdTest::Writer and LeaseholdTest::Proxy, and what writers' logs
are judged by; see LeaseholdTest, which loads this and whose functions it uses.

=cut

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

# What the logs of writers amount to; see judge() in LeaseholdTest.
sub judge_logs
{
	my ($logs, @arguments) = @_;
	my @command = (LeaseholdTest::tool('judge'), '--all', @arguments, @$logs);
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
