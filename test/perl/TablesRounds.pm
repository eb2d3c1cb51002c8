=pod

=head1 NAME

TablesRounds - tables that wander at random under load, and what befalls their servers

=head1 SYNOPSIS

  use TablesRounds;

  my $rounds = TablesRounds->new($group, rate => 100, moves => 0.6);
  $rounds->begin;
  $rounds->round foreach 1 .. 25;
  $rounds->rest;
  $rounds->judge;

=head1 DESCRIPTION

For a TablesTest group whose tables each have a lease (TablesTest's leases()).
Each table has a writer on every node, which tries without a pause.  In each round
some tables are asked to move, and something befalls a process; with C<servers>,
from time to time a whole server dies, and is started again after a while.  The
choices come from Perl's generator: srand() before repeats them.

=over

=item TablesRounds->new($group, %options)

C<rate> of each writer, rows a second; C<moves>, the probability for each table to
be asked to move in a round; C<servers> => 1.

=item $rounds->begin, round, rest

Starts the writers; one round; everything runs again, is written everywhere and has
come everywhere, and the writers are ended.

=item $rounds->judge

The assertions: no acknowledgement after that of the next holder, no acknowledged
row missing or twice, no number given out twice, all copies the same row by row, no
subscription met a conflict.  Prints the figures and returns them as a hash.

=item $rounds->can_go_anywhere(@tables)

Each of these tables is moved to each node.

=back

=cut

package TablesRounds;

use strict;
use warnings;

use LeaseholdTest;
use List::Util qw(sum0);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

sub pick { return $_[ int rand @_ ]; }

sub new
{
	my ($class, $group, %options) = @_;
	return bless {
		group => $group, tables => $group->{tables},
		retry => 2, %options,
		asking => {}, stopped => [], down => {}, done => {}, round => 0 }, $class;
}

sub nodes { return $_[0]{group}->nodes; }

sub up { my ($self) = @_; return grep { !$self->{down}{ $_->name } } $self->nodes; }

sub begin
{
	my ($self) = @_;
	my $group = $self->{group};

	foreach my $table (@{ $self->{tables} })
	{
		$self->{on}{$table} = [
			map {
				$group->write($table, $_, connections => 1, rate => $self->{rate},
					retry => $self->{retry}, reply_timeout => 5000)
			} $self->nodes ];
	}
	$self->{on}{$_}[0]->wait_acks(3) foreach @{ $self->{tables} };
	$self->{began} = clock_now();
	$self->{since} = $group->store_query('SELECT current_timestamp');
	$self->{server_at} = $self->{began} + 3e9;
	return;
}

# --- moves --------------------------------------------------------------------

# In the background: the answer does not matter, only what is written.
sub ask_move
{
	my ($self, $table, $to) = @_;
	my $by = pick($self->up);
	my $lease = $self->{group}{lease_of}{$table};

	return if grep { $_ eq $table } values %{ $self->{asking} };
	my $out = "$PostgreSQL::Test::Utils::log_path/" . LeaseholdTest::test_name() . '_moves.out';
	my $pid = LeaseholdTest::spawn($out, 'psql', '-X', '-q', '-d', $by->connstr('postgres'), '-c',
		"SELECT leasehold.switchover('$to->{leasehold_name}', '$lease', timeout => '10s')");
	$self->{asking}{$pid} = $table;
	return;
}

# Those that have their answer.  Whoever asks through a server that dies is told so.
sub reap_moves
{
	my ($self) = @_;

	foreach my $pid (keys %{ $self->{asking} })
	{
		next if waitpid($pid, 1) == 0;
		delete $LeaseholdTest::children{$pid};
		delete $self->{asking}{$pid};
	}
	return;
}

sub wait_moves
{
	my ($self) = @_;

	wait_until('all moves are answered', sub {
			$self->resume;
			$self->reap_moves;
			!%{ $self->{asking} } });
	return;
}

# --- what befalls a process ---------------------------------------------------

my %harm = (
	opener  => sub { kill 'TERM', $_[1]->pids(qr/leasehold opener/); },
	steward => sub { kill 'TERM', $_[1]->pids(qr/leasehold steward/); },
	keeper  => sub { kill 'TERM', $_[1]->pids(qr/leasehold keeper/); },
	apply   => sub { kill 'TERM', $_[1]->pids(qr/logical replication worker/); },
	sender  => sub { kill 'TERM', $_[1]->pids(qr/walsender/); },
	pause   => sub {
		my ($self, $node) = @_;
		$self->stop_processes($node, pick(qr/leasehold keeper/, qr/leasehold opener/, qr/logical replication worker/));
	},
	nothing => sub { },
);

sub stop_processes
{
	my ($self, $node, $which) = @_;
	my @pids = $node->pids($which);

	kill 'STOP', @pids;
	push @{ $self->{stopped} }, [ clock_now() + 1e8 * (1 + int rand 30), $node, @pids ];
	return;
}

# Those whose time has come, those of one node, or all.
sub resume
{
	my ($self, $which) = @_;
	my $now = clock_now();
	my @left;

	foreach my $stopped (@{ $self->{stopped} })
	{
		my ($until, $node, @pids) = @$stopped;

		if ($which ? $which eq 'all' || $which == $node : $now >= $until) { kill 'CONT', @pids; }
		else { push @left, $stopped; }
	}
	$self->{stopped} = \@left;
	return;
}

# --- what befalls a server ----------------------------------------------------

my %end = (
	kill => sub { $_[0]->kill_all },
	# its children see it, and end
	postmaster => sub { $_[0]->kill_postmaster },
	immediate => sub { $_[0]->stop('immediate') },
	shutdown => sub { $_[0]->stop('fast') },
);

# What it writes last is not applied by the others before it ends.
sub let_rows_be_late
{
	my ($self, $node) = @_;

	$self->stop_processes($_, qr/logical replication worker/) foreach grep { $_ != $node } $self->up;
	usleep(1000 * int rand 400);
	return;
}

# One stays, at least.  Some are back before their leases are over, the first is not.
sub end_server
{
	my ($self) = @_;
	my @up = $self->up;
	my $now = clock_now();

	return if !$self->{servers} || $now < $self->{server_at} || @up < 2;
	my $node = pick(@up);
	my $what = pick('kill', 'kill', sort keys %end);
	note("$what of server " . $node->name);
	# what is stopped would hold up all but a kill
	$self->resume($node) if $what ne 'kill';
	$self->let_rows_be_late($node) if $what ne 'shutdown' && rand() < 0.6;
	$end{$what}->($node);
	$self->{done}{"server $what"}++;
	$self->{down}{ $node->name } = clock_now() + 1e9 * ($self->{ended}++ ? rand(rand() < 0.3 ? 1.5 : 8) : 5);
	$self->{server_at} = $now + 1e9 * (1 + rand 8);
	return;
}

sub start_servers
{
	my ($self, $all) = @_;

	foreach my $node ($self->nodes)
	{
		my $at = $self->{down}{ $node->name };

		next if !defined $at || !$all && clock_now() < $at;
		note('server ' . $node->name . ' comes back');
		$self->resume($node);
		$node->start_again;
		delete $self->{down}{ $node->name };
	}
	return;
}

# --- rounds -------------------------------------------------------------------

sub round
{
	my ($self) = @_;
	# a keeper that is begun anew has to watch for a ttl before it takes anything:
	# whoever is left has to have the time for it, now and then
	my $calm = %{ $self->{down} } ? 0.8 : $self->{servers} ? 0.5 : 0;
	my $what = rand() < $calm ? 'nothing' : pick(sort keys %harm);
	my $where = pick($self->up);

	$self->{round}++;
	$self->ask_move($_, pick($self->up)) foreach grep { rand() < $self->{moves} } @{ $self->{tables} };
	usleep(1000 * int rand 60);
	note("round $self->{round}: $what on " . $where->name);
	$harm{$what}->($self, $where);
	$self->{done}{$what}++;
	$self->end_server;
	usleep(1000 * int rand 400);
	# with servers that die, an answer may be long in coming
	if ($self->{servers}) { $self->reap_moves; }
	else                  { $self->wait_moves; }
	$self->resume;
	$self->start_servers;
	return;
}

sub acks
{
	my ($self, $table) = @_;
	return sum0(map { $_->acks } @{ $self->{on}{$table} });
}

sub rest
{
	my ($self) = @_;

	$self->resume('all');
	$self->start_servers('all');
	$self->wait_moves;
	$self->{took} = (clock_now() - $self->{began}) / 1e9;
	my %acks = map { $_ => $self->acks($_) } @{ $self->{tables} };
	foreach my $table (sort keys %acks)
	{
		wait_until("$table is written", sub { $self->acks($table) >= $acks{$table} + 5 });
	}
	my @writers = map { @$_ } values %{ $self->{on} };
	kill 'TERM', map { $_->{pid} } @writers;
	$_->stop foreach @writers;
	return;
}

# --- the verdict --------------------------------------------------------------

# How the leases have changed hands, as the store has written it down.
sub changes
{
	my ($self) = @_;
	my %changes;

	foreach my $line (split /\n/, $self->{group}->store_query(
			"SELECT reason || '=' || count(*) FROM leasehold_store.history"
			  . " WHERE to_node <> '' AND at > '$self->{since}' GROUP BY reason"))
	{
		my ($reason, $n) = split /=/, $line;
		$changes{$reason} = $n;
	}
	return %changes;
}

# The bad things that clients were told of.
sub odd
{
	my (@writers) = @_;
	my %told = map { %{ $_->outcomes } } @writers;
	return join ' ', grep { !/^(?:ack|tag|refused|lost|error:08...|error:57...)$/ } sort keys %told;
}

sub judge
{
	my ($self) = @_;
	my $group = $self->{group};
	my %sum;
	my @odd;

	my $arrived = eval { $group->caught_up; 1 };
	ok($arrived, 'all that was written has come everywhere') or diag($@);
	is($group->differences, '', 'all copies of all tables are the same, row by row');
	foreach my $table (@{ $self->{tables} })
	{
		my @writers = @{ $self->{on}{$table} };
		my $verdict = $group->judge_table($table, @writers);
		my $odd = odd(@writers);

		$sum{$_} += $verdict->{$_} foreach qw(acks late excused conflicts missing duplicates);
		$sum{takeovers} += @{ $verdict->{takeovers} };
		push @odd, "$table: $odd" if $odd ne '';
	}
	$sum{numbers} = $group->doubled($self->{tables}, 'id');
	$sum{doubled} = $group->doubled($self->{tables}, 'client, seq');
	is($sum{late}, 0, 'no acknowledgement after the next holder had one');
	is($sum{conflicts}, 0, 'each under the epoch of its node');
	is($sum{missing}, 0, 'every acknowledged row exists');
	is($sum{duplicates} + $sum{doubled}, 0, 'once');
	is($sum{numbers}, 0, 'no number was given out twice');
	is("@odd", '', 'clients were told of nothing worse than another writer or a lost connection');
	foreach my $node ($self->nodes)
	{
		my @bad = $node->log_since(0) =~ /^(.*(?:duplicate key|TRAP|PANIC).*)$/mg;

		$sum{clashes} += @bad;
		is("@bad[0 .. ($#bad > 2 ? 2 : $#bad)]", '', 'no conflict, no crash on ' . $node->name);
	}
	$self->tell(\%sum);
	return \%sum;
}

sub tell
{
	my ($self, $sum) = @_;
	my %changes = $self->changes;
	my %done = %{ $self->{done} };
	my $moves = delete $changes{'handed over'} // 0;

	note('befell: ' . join ', ', map { "$_ $done{$_}" } sort keys %done);
	note('changes of hands: ' . join ', ', "handed over $moves", map { "$_ $changes{$_}" } sort keys %changes);
	diag(sprintf '%d nodes, %d tables, %.0f s, %d rounds: %d planned moves, %d servers ended (%d by SIGKILL), %d leases taken otherwise, %d changes of the writing node; %d rows acknowledged, %d late, %d lost, %d doubled, %d numbers given twice, %d conflicts',
		scalar(my @n = $self->nodes), scalar @{ $self->{tables} }, $self->{took}, $self->{round}, $moves,
		$self->{ended} // 0, ($done{'server kill'} // 0) + ($done{'server postmaster'} // 0),
		sum0(values %changes), $sum->{takeovers}, $sum->{acks}, $sum->{late}, $sum->{missing},
		$sum->{duplicates} + $sum->{doubled}, $sum->{numbers}, $sum->{clashes});
	return;
}

sub can_go_anywhere
{
	my ($self, @tables) = @_;
	my $group = $self->{group};

	foreach my $to ($self->nodes)
	{
		my @cannot;

		foreach my $table (@tables)
		{
			my ($state, $message) = $group->move($group->{lease_of}{$table}, $to);
			push @cannot, "$table: $message" if $state ne '';
		}
		is("@cannot", '', "@tables can go to " . $to->name);
	}
	return;
}

1;
