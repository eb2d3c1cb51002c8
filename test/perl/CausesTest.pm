=pod

=head1 NAME

CausesTest - a path that is broken on purpose, and mended by what leasehold says

=head1 SYNOPSIS

  use CausesTest;

  my $pair = CausesTest->new;
  my ($a, $b) = ($pair->a, $pair->b);
  $pair->case(
	  name  => 'the role may not log in',
	  make  => sub { $pair->on_b('ALTER ROLE probe NOLOGIN') },
	  seen  => 'authenticate no_login',
	  first => qr/^ALTER ROLE "probe" LOGIN;/m);
  $pair->find_no_secret;

=head1 DESCRIPTION

A group of kind "independent": a, which holds the lease, and b, which a reaches as
users have it: over TCP, as role "probe" with a password from a file, in database
"app".  Local sockets of both let everybody in, as an administrator has it.

=over

=item CausesTest->new(%options)

Options: b (more lines for both postgresql.conf), user and database in place of
"probe" and "app", ssl => 1 (b has a certificate for localhost that nobody has signed, and in its
data directory root.crt and root.key of an authority for clients), group (a LeaseholdTest of two
nodes that is used in place of one of its own; then nothing is set up but what a
needs to connect).

=item CausesTest->member($group, $node, $member, user => 'storer', database => 'its')

The path from a node to its member, in place of a and b.

=item $pair->case(%case)

Makes the cause, waits until leasehold.peers of a shows it, asks
leasehold.diagnose('b') and leasehold.remedies('b'), performs every operation's text
as it stands, waits until the path stands, restores, and waits again.

  name     what is made
  make     sub that makes it; sessions of the prober are ended after it
  seen     'phase cause', as leasehold.peers shows it
  told     the cause that diagnose() tells, if the target's own word changes it
  verdict  a pattern; default 'target_refuses'
  first    what the first operation must match
  run_on   where the first operation is run; default 'b'
  then     [ 'phase cause', ... ]: what lies beneath; each is mended in its turn
  may_fail operations that match this may fail, as those that only tell something
  during   sub that is called while the first operation, which waits, is under way
  answers  lines of input for those that read what people type: see below
  mended   sub, once the path stands: is it mended as it should be?
  undo     sub that restores what the files do not hold
  restart  1: b has to be restarted for that

HOME is a directory of the test's own, for the servers too.

Files (postgresql.conf, postgresql.auto.conf, pg_hba.conf, the password file,
~/.postgresql, ~/.pgpass) are restored in any case.

How an operation is performed, from its kind:

  sql            psql -X -v ON_ERROR_STOP=1 -d postgres -f FILE, over the local socket
                 of the node named in run_on.  The password that \password asks for is
                 given by this module.
  shell          sh -c TEXT, as the server's user, in "/", with PGHOST set to the socket
                 directory of the node named in run_on (a test's is an unusual one) and
                 the last line's output, if any, as input: some say "give it what the
                 line before has printed".  <password>, which no remedy knows, is filled
                 in.
  configuration  the lines are appended to the file that the comment before names

An operation whose reason begins with "If" or "Or" is for the case that those before
it did not do: it is passed over if the path stands by then.

=item $pair->cases(@cases)

One after the other.  "skip" of a case says why it is left out.  CAUSES_ONLY=WORDS makes
only those whose names have these words.

=item $pair->on_b($sql, [$database]), $pair->end_sessions

SQL on b by its administrator, schema changes let through; ends the prober's sessions.

=item $pair->find_no_secret

Looks for the passwords in all logs, in the store, and in all that was said.

=back

=cut

package CausesTest;

use strict;
use warnings;

use Carp;
use Cwd qw(abs_path);
use File::Path qw(rmtree);
use IPC::Run;
use JSON::PP;
use LeaseholdTest;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

# Both hold what is looked for.
our $secret = 'plugh-Xyzzy-1';
our $wrong  = 'plover-Xyzzy-2';

my $conf = q{
leasehold.probe_interval = '100ms'
leasehold.probe_timeout = '700ms'
listen_addresses = '127.0.0.1'
max_connections = 16
};

# libpq and the remedies look for files at home: a home of this test's own, which the
# servers that it starts have, too.
my $home = abs_path(PostgreSQL::Test::Utils::tempdir());
$ENV{HOME} = $home;

sub a { return $_[0]{a}; }
sub b { return $_[0]{b}; }
sub user { return $_[0]{user}; }
sub database { return $_[0]{database}; }

sub new
{
	my ($class, %options) = @_;
	my $self = bless {
		user => $options{user} // 'probe',
		database => $options{database} // 'app',
		target => 'b',
		said => '' }, $class;

	$self->{group} = $options{group} // LeaseholdTest->new(
		conf        => $conf . ($options{conf} // ''),
		member_conf => "listen_addresses = '127.0.0.1'\n",
		governed    => 0);
	@$self{ 'a', 'b' } = $self->{group}->nodes;
	# a blank in it, as in some
	$self->{passfile} = $self->a->basedir . '/pass file';
	$self->set_up(%options) unless $options{group};
	$self->write_passfile($secret);
	# a backslash means something in postgresql.conf, too
	my %a = ('leasehold.peer_options' => $self->peer_options =~ s/\\/\\\\/gr);
	my %b = ('leasehold.advertise' => 'host=127.0.0.1 port=' . $self->b->port);
	$self->a->set_conf(%a);
	$self->b->set_conf(%b);
	$self->keep_files;
	$self->stands_as_before('at first');
	return $self;
}

# A node's path to its member, in the same way; it need not stand yet.
sub member
{
	my ($class, $group, $node, $member, %options) = @_;
	my $self = bless {
		user => $options{user},
		database => $options{database},
		target => '127.0.0.1:' . $member->port . "/$options{database}",
		group => $group,
		a => $node,
		b => $member,
		passfile => $node->basedir . '/pass file',
		said => '' }, $class;

	$self->keep_files;
	return $self;
}

sub set_up
{
	my ($self, %options) = @_;
	my ($user, $database) = map { s/"/""/gr } $self->user, $self->database;

	foreach my $node ($self->a, $self->b)
	{
		$self->psql($node, "CREATE ROLE \"$user\" LOGIN;\n\\password \"$user\"\n"
			  . "CREATE DATABASE \"$database\";\n\\connect \"$database\"\nCREATE EXTENSION leasehold;\n");
		$self->write_hba($node, 'host ' . $self->hba_names . ' 127.0.0.1/32 scram-sha-256');
		$node->set_conf;
	}
	$self->make_certificates if $options{ssl};
	$self->{group}->govern;
	$self->b->wait_state('follower');
	return;
}

# "app" and "probe" as pg_hba.conf has them.
sub hba_names
{
	my ($self) = @_;
	return join ' ', map { '"' . s/"/""/gr . '"' } $self->database, $self->user;
}

sub peer_options
{
	my ($self, $more) = @_;
	my @pairs = (
		user     => $self->user,
		dbname   => $self->database,
		passfile => $self->{passfile});
	my @options;

	while (my ($keyword, $value) = splice @pairs, 0, 2)
	{
		$value =~ s/([\\'])/\\$1/g;
		push @options, "$keyword='$value'";
	}
	return join ' ', @options, $more // ();
}

# ---------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------

# Those of a server that a case may change.
my @files = qw(postgresql.conf postgresql.auto.conf pg_hba.conf);

sub write_file
{
	my ($file, $text) = @_;

	open my $fh, '>', $file or croak "$file: $!";
	print $fh $text;
	close $fh;
	chmod 0600, $file;
	return;
}

sub write_hba
{
	my ($self, $node, @lines) = @_;

	write_file($node->data_dir . '/pg_hba.conf',
		join '', map { "$_\n" } '# TYPE  DATABASE  USER  ADDRESS  METHOD', 'local all all trust',
		'local replication all trust', @lines);
	return;
}

# The lines for the peer, loaded.
sub set_hba
{
	my ($self, @lines) = @_;

	$self->write_hba($self->b, @lines);
	$self->b->set_conf;
	return;
}

sub write_passfile
{
	my ($self, $password) = @_;
	my ($user, $database) = map { s/([\\:])/\\$1/gr } $self->user, $self->database;

	write_file($self->{passfile}, defined $password ? "*:*:$database:$user:$password\n" : '');
	return;
}

sub keep_files
{
	my ($self) = @_;

	foreach my $node ($self->a, $self->b)
	{
		$self->{files}{$_} = slurp_file($_) foreach grep { -f } map { $node->data_dir . "/$_" } @files;
	}
	return;
}

sub restore
{
	my ($self, $case) = @_;
	my $b = $self->b;

	# before: it may need what a remedy has set
	$case->{undo}->() if $case->{undo};
	write_file($_, $self->{files}{$_}) foreach keys %{ $self->{files} };
	$self->write_passfile($secret);
	rmtree("$home/.postgresql");
	unlink "$home/.pgpass";
	$_->set_conf foreach grep { $_->alive } $self->a, $b;
	$b->restart if $case->{restart};
	return;
}

# A certificate for b that nobody has signed, and an authority for clients.
sub make_certificates
{
	my ($self) = @_;
	my $data = $self->b->data_dir;
	my @new  = qw(openssl req -new -x509 -days 30 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1);

	run_quietly(@new, '-subj', '/CN=authority', '-keyout', "$data/root.key", '-out', "$data/root.crt");
	run_quietly(@new, '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost', '-keyout', "$data/server.key",
		'-out', "$data/server.crt");
	chmod 0600, "$data/server.key";
	$self->b->set_conf(ssl => 'on', ssl_ca_file => 'root.crt');
	push @files, 'server.key', 'server.crt';
	return;
}

sub run_quietly
{
	my @command = @_;
	my $output  = '';

	IPC::Run::run(\@command, '<', \undef, '>&', \$output) or croak "@command: $output";
	return;
}

# ---------------------------------------------------------------------------
# Doing things
# ---------------------------------------------------------------------------

# Without a terminal psql reads the password from its input.
sub start_command
{
	my ($node, $command, $input) = @_;
	my $run = { out => '', err => '' };
	# a file: whoever does not read it is gone before a pipe is written
	my $file = $node->basedir . '/operation.input';

	write_file($file, $input // '');
	local $ENV{PGHOST} = $node->host;
	local @ENV{qw(PGPORT PGDATABASE PGAPPNAME)};
	delete @ENV{qw(PGPORT PGDATABASE PGAPPNAME)};
	$run->{handle} = IPC::Run::start(
		$command, '<', $file, '>', \$run->{out}, '2>', \$run->{err},
		init => sub { POSIX::setsid(); chdir '/'; },
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	return $run;
}

sub psql_command
{
	my ($node, $sql) = @_;
	my $file = $node->basedir . '/operation.sql';

	write_file($file, "$sql\n");
	return [ qw(psql -X -v ON_ERROR_STOP=1 -d postgres), '-p', $node->port, '-f', $file ];
}

# What an administrator types.
sub psql
{
	my ($self, $node, $sql) = @_;
	my $run = start_command($node, psql_command($node, $sql), "$secret\n$secret\n");

	IPC::Run::finish($run->{handle}) or croak $node->name . ": $sql: $run->{err}";
	$self->{said} .= $run->{out} . $run->{err};
	return;
}

sub on_b
{
	my ($self, $sql, $database) = @_;
	my $connect = defined $database ? '\connect "' . $database =~ s/"/""/gr . "\"\n" : '';

	$self->psql($self->b, "${connect}SET leasehold.local_ddl = on;\n$sql;\n");
	return;
}

sub end_sessions
{
	my ($self) = @_;

	return unless $self->b->alive;
	$self->b->try("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
		WHERE backend_type = 'client backend' AND application_name = 'leasehold prober' AND pid <> pg_backend_pid()");
	return;
}

sub node_called
{
	my ($self, $name) = @_;

	return $self->b if $name eq $self->{target};
	my ($node) = grep { $_->{leasehold_name} eq $name } $self->{group}->nodes;
	return $node // croak "no node \"$name\"";
}

# Perform one operation as it stands; returns whether that went well.
sub perform
{
	my ($self, $row, $during) = @_;
	my $node = $self->node_called($row->{run_on});
	my $text = $row->{operation};
	my $run;

	if ($row->{kind} eq 'configuration')
	{
		my ($file, $lines) = $text =~ /^# (\S.*)\n(.*)\z/s or return 0;
		$file = $node->data_dir . "/$file" unless $file =~ m{^/};
		return 0 unless -f $file;
		append_to_file($file, "$lines\n");
		return 1;
	}
	if ($row->{kind} eq 'sql')
	{
		$run = start_command($node, psql_command($node, $text), "$secret\n$secret\n");
	}
	else
	{
		$text =~ s/<password>/$secret/g;
		$run = start_command($node, [ 'sh', '-c', $text ], $self->{printed} // '');
	}
	$during->($run) if $during;
	my $ok = eval { IPC::Run::finish($run->{handle}) };
	$self->{said} .= $run->{out} . $run->{err};
	$self->{printed} = $run->{out} if $row->{kind} eq 'shell';
	note "$row->{kind} on $row->{run_on}: $row->{operation}\n", $ok ? '' : 'FAILED: ', $run->{err};
	# a restart gives it another process
	$node->_update_pid(-1);
	return $ok;
}

# ---------------------------------------------------------------------------
# What a says
# ---------------------------------------------------------------------------

sub rows
{
	my ($self, $sql) = @_;
	my $text = $self->a->ask("SELECT coalesce(json_agg(row_to_json(r)), '[]') FROM ($sql) r");

	$self->{said} .= $text;
	return @{ decode_json($text) };
}

sub state_of
{
	my ($self) = @_;
	my ($row) = $self->rows("SELECT * FROM leasehold.peers WHERE peer = '$self->{target}'");

	return '' unless $row;
	return join ' ', grep { ($_ // '') ne '' } @$row{ 'status', 'phase', 'cause' };
}

sub wait_state_of
{
	my ($self, $what, $wanted) = @_;
	my $state = '';
	my $ended = clock_now();
	my $seen  = eval {
		wait_until(
			$what,
			sub {
				# the prober may have begun before it had read its settings
				if ($state =~ /^ok/ && clock_now() > $ended + 1e9)
				{
					$self->end_sessions;
					$ended = clock_now();
				}
				return ($state = $self->state_of) =~ $wanted;
			},
			30);
	};

	is($state, $wanted, $what) unless $seen;
	ok(1, $what) if $seen;
	return $seen;
}

sub stands
{
	my ($self, $when) = @_;
	return $self->wait_state_of("$when: the path stands", qr/^ok ready/);
}

# ... and by the address that it should have.
sub stands_as_before
{
	my ($self, $when) = @_;

	wait_until("$when: it is tried at its address",
		sub { $self->a->ask("SELECT address FROM leasehold.peers WHERE peer = '$self->{target}'") eq '127.0.0.1' });
	$self->stands($when);
	# tried anew: a session that is held says little of the way
	ok($self->stands_by_now, '... tried once more');
	return;
}

# Tries it.
sub stands_by_now
{
	my ($self) = @_;
	my ($verdict) = grep { $_->{phase} eq 'verdict' } $self->diagnosis;

	return $verdict->{status} eq 'ok';
}

sub diagnosis
{
	my ($self) = @_;

	return $self->rows("SELECT * FROM leasehold.diagnose('$self->{target}') ORDER BY step");
}

my @phases = qw(resolve connect tls authenticate session ready);

sub check_diagnosis
{
	my ($self, $case, $phase, $cause) = @_;
	my %step = map { $_->{phase} => $_ } $self->diagnosis;
	my $name = $case->{name};
	my (@wanted, $failed);

	foreach (@phases)
	{
		$failed = 1 if $_ eq $phase;
		push @wanted, "$_: " . ($_ eq $phase ? 'failed' : $failed ? 'not reached' : 'ok');
	}
	is_deeply([ map { "$_: $step{$_}{status}" } @phases ], \@wanted, "$name: diagnose: $phase fails, what follows is not reached");
	my $verdict = $case->{verdict} // 'target_refuses';
	like($step{verdict}{evidence}, qr/^(?:$verdict): $cause$/, '... the verdict');
	return $step{$phase};
}

# ---------------------------------------------------------------------------
# One cause
# ---------------------------------------------------------------------------

sub remedies
{
	my ($self) = @_;

	return $self->rows("SELECT * FROM leasehold.remedies('$self->{target}') ORDER BY seq");
}

sub mend
{
	my ($self, $case, $what, $failed) = @_;
	my @remedies = $self->remedies;
	my $n = 0;

	cmp_ok(scalar @remedies, '>=', 1, "$what: there is a remedy") or return;
	is($failed->{remedy}, $remedies[0]{operation}, '... diagnose names its first operation') if $failed;
	if ($case && $case->{first})
	{
		like($remedies[0]{operation}, $case->{first}, '... the first operation');
		is($remedies[0]{run_on}, $case->{run_on} // 'b', '... and where it is run');
	}
	delete $self->{printed};
	foreach my $row (@remedies)
	{
		$n++;
		last if $n > 1 && $row->{why} =~ /^(?:If|Or)\b/ && $self->stands_by_now;
		my $ok = $self->perform($row, $n == 1 && $case ? $case->{during} : undef);
		next if !$ok && $case && $case->{may_fail} && $row->{operation} =~ $case->{may_fail};
		ok($ok, "... operation $n, $row->{kind} on $row->{run_on}, can be performed as it stands");
	}
	return;
}

sub case
{
	my ($self, %case) = @_;
	my ($phase, $cause) = split ' ', $case{seen};
	my $began = clock_now();

	$case{make}->();
	$self->end_sessions;
	$self->wait_state_of("$case{name}: $case{seen}", qr/^unreachable \Q$case{seen}\E$/);
	my $failed = $self->check_diagnosis(\%case, $phase, $case{told} // $cause);
	$self->mend(\%case, $case{name}, $failed);
	foreach my $next (@{ $case{then} // [] })
	{
		$self->wait_state_of("$case{name}: then $next", qr/^unreachable \Q$next\E$/);
		$self->mend(undef, $next);
	}
	$self->stands("$case{name}: mended");
	$case{mended}->() if $case{mended};
	$self->restore(\%case);
	$self->end_sessions;
	$self->stands_as_before('... restored');
	note sprintf('%s: %.1f s', $case{name}, (clock_now() - $began) / 1e9);
	return;
}

sub cases
{
	my ($self, @cases) = @_;
	my $only = $ENV{CAUSES_ONLY};

	foreach my $case (@cases)
	{
		next if defined $only && $case->{name} !~ /$only/;
	  SKIP:
		{
			skip "$case->{name}: $case->{skip}", 1 if $case->{skip};
			$self->case(%$case);
		}
	}
	return;
}

# ---------------------------------------------------------------------------
# Secrets
# ---------------------------------------------------------------------------

sub find_no_secret
{
	my ($self) = @_;
	my @nodes = ($self->{group}->nodes, $self->{group}->members);
	my @logs = grep { -f } map { $_->logfile, $_->data_dir . '/start.log' } @nodes;
	my @tell = grep { slurp_file($_) =~ /Xyzzy/ } @logs;
	my $kept = join '', map { $self->{group}->store_query("SELECT * FROM leasehold_store.$_") }
	  qw(report mail outage node history);

	cmp_ok(scalar @logs, '>=', scalar @nodes, 'there are logs');
	is("@tell", '', 'no log tells a password');
	cmp_ok(length $kept, '>', 100, 'the store knows something');
	unlike($kept, qr/Xyzzy/, 'the store does not tell a password');
	cmp_ok(length $self->{said}, '>', 100, 'much was said');
	unlike($self->{said}, qr/Xyzzy/, 'nothing that was said tells a password');
	return;
}

1;
