# What a node tells the others of its pg_hba.conf, and what it repairs on itself when
# they ask.  Node a is real and comes over TCP; the others exist in the store only, and
# say of themselves whatever is needed: names, addresses, and what an attacker would.

use strict;
use warnings;

use LeaseholdTest;
use LeaseholdWire;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $group = LeaseholdTest->new(
	nodes => [ 'a', 'b' ],
	conf  => "listen_addresses = '127.0.0.1'\nleasehold.probe_interval = '300ms'\n");
my ($a, $b) = $group->nodes;
my $hba     = $b->data_dir . '/pg_hba.conf';
my $backup  = "$hba.leasehold";
my $local   = 'local all all trust';

$_->set_conf('leasehold.advertise' => 'host=127.0.0.1 port=' . $_->port) foreach $a, $b;

# --- tools -------------------------------------------------------------------

sub literal { return "'" . ($_[0] =~ s/'/''/gr) . "'"; }

# A field of a report.
sub field { return $_[0] =~ s/\\/\\\\/gr =~ s/\t/\\t/gr =~ s/\n/\\n/gr; }

my $seq = 0;

# What a node that is not there says of itself, and of its path to b.
sub imagine
{
	my ($name, %is) = @_;
	my $body = join("\t", 'self', 'peer_user=' . field($is{user} // 'visitor'),
		'peer_database=' . field($is{database} // 'postgres'),
		'sslmode=' . ($is{sslmode} // 'prefer')) . "\n";

	$body .= join("\t", 'path', 'b', 'node', 'unreachable', 'authenticate', 'other',
		(0) x 6, '28000', '127.0.0.1', $is{from} // '127.0.0.1', '') . "\n"
	  unless $is{pathless};
	$seq++;
	$group->store_query(
		"INSERT INTO leasehold_store.node VALUES ('$name', 77, 1, 'host=127.0.0.1 port=1', 'primary', '', 0, 100, '')
		 ON CONFLICT (name) DO NOTHING;
		 INSERT INTO leasehold_store.report VALUES ('$name', 77, $seq, " . literal($body) . ")
		 ON CONFLICT (node) DO UPDATE SET seq = excluded.seq, body = excluded.body");
	return;
}

# Until b has read what stands in the store now: the nodes first, for it keeps no
# report of a node that it does not know.
sub b_has_read
{
	my $read  = "SELECT seq FROM leasehold_store.report WHERE node = 'b'";
	my $peers = $group->store_query("SELECT count(*) FROM leasehold_store.node WHERE name <> 'b'");
	my $last;

	wait_until('b knows the nodes', sub {
		$b->ask("SELECT count(*) FROM leasehold.peers WHERE kind = 'node'") eq $peers;
	});
	$last = $group->store_query($read) + 3;
	wait_until('b has read the reports', sub { $group->store_query($read) >= $last });
	return;
}

# What b says of the line that a node meets, with TLS or without:
# "LINE METHOD RULE", and what could not be decided.
sub meets
{
	my ($node, $encrypted) = @_;
	my $body = $group->store_query("SELECT body FROM leasehold_store.report WHERE node = 'b'");
	my ($line) = grep { /^hba\t\Q$node\E\t[^\t]*\t$encrypted\t/ } split /\n/, $body;
	return 'nothing' unless defined $line;
	my (undef, undef, $from, undef, $number, $method, $rule, $file, $doubt) = split /\t/, $line, -1;
	return join(' ', $from, $number, $method, $rule) =~ s/ +$//r
	  . ($file ? " in $file" : '') . ($doubt ? ", doubt $doubt" : '');
}

sub is_met
{
	my ($node, $plain, $encrypted, $name) = @_;
	my ($have_plain, $have_encrypted);

	eval {
		wait_until($name, sub {
			($have_plain, $have_encrypted) = (meets($node, 0), meets($node, 1));
			$have_plain eq $plain && $have_encrypted eq $encrypted;
		}, 20);
	};
	is("$have_plain | $have_encrypted", "$plain | $encrypted", $name);
	return;
}

sub write_hba
{
	my (@lines) = @_;
	open my $fh, '>', $hba or die "$hba: $!";
	print $fh map { "$_\n" } @lines;
	close $fh;
	$b->reload;
	return;
}

# The lines of the file; names that need no quotes are shown without.
sub hba_lines
{
	my ($file) = @_;
	my @lines = split /\n/, slurp_file($file // $hba), -1;
	pop @lines if @lines && $lines[-1] eq '';
	return [ map { s/\s+/ /gr =~ s/"([a-z_0-9]+)"(?= )/$1/gr } @lines ];
}

my $letters = 0;

sub post
{
	my ($operation, $arguments, %options) = @_;
	my $from = $options{from} // 'a';
	my $incarnation = $options{incarnation}
	  // $group->store_query("SELECT incarnation FROM leasehold_store.node WHERE name = '$from'");
	my $id = 'test' . ++$letters;
	my $permit = $options{permit} // $arguments;

	$group->store_query(
		"INSERT INTO leasehold_store.repair VALUES ('$id', 'b', '$from', " . literal($permit) . ')')
	  if $operation eq 'repair' && $permit ne '';
	$group->store_query(
		"INSERT INTO leasehold_store.mail VALUES ('$id', 'b', '$from', $incarnation, "
		  . literal($operation) . ', ' . literal($arguments) . ", false, '');
		 NOTIFY leasehold_paths");
	return $id;
}

sub answer_to
{
	my ($id) = @_;
	my $answered = "SELECT answer FROM leasehold_store.mail WHERE answered AND id = '$id'";

	wait_until("an answer to $id", sub { $group->store_query($answered) ne '' });
	return $group->store_query($answered);
}

sub ask_repair
{
	my ($action, $source) = @_;
	return answer_to(post('repair', "$action\t$source"));
}

# Everything that a repair could have changed.
sub state_of_b
{
	return join("\n", slurp_file($hba),
		$b->ask('SELECT string_agg(rolname || rolcanlogin, chr(44) ORDER BY rolname) FROM pg_roles'),
		$b->ask('SELECT string_agg(roleid::regrole || chr(58) || member::regrole, chr(44) ORDER BY 1) FROM pg_auth_members'),
		$b->ask('SELECT string_agg(datname || coalesce(datacl::text, chr(45)), chr(44) ORDER BY datname) FROM pg_database'));
}

sub on_b
{
	my ($sql, $database) = @_;
	$b->safe_psql($database // 'postgres', "SET leasehold.local_ddl = on; $sql");
	return;
}

# --- which line is met -------------------------------------------------------

on_b('CREATE ROLE team; CREATE ROLE visitor LOGIN IN ROLE team; CREATE ROLE boss SUPERUSER LOGIN');
imagine('v');
imagine('boss', user => 'boss');
imagine('nobody', user => 'nobody_here', database => 'team');
imagine('far', from => '10.20.30.40');
imagine('six', from => '2001:db8::7');
imagine('zone', from => 'fe80::1%eth0');
imagine('twin', user => 'visitor', database => 'visitor');
imagine('club', user => 'visitor', database => 'team');
imagine('quiet', pathless => 1);
b_has_read();

write_hba($local);
is_met('v', '127.0.0.1 0', '127.0.0.1 0', 'no line');
is_met('a', '127.0.0.1 0', '127.0.0.1 0', 'no line for a node that is there');
is_met('quiet', '127.0.0.1 0', '127.0.0.1 0',
	'one that does not say from where it comes, comes from where it is reached');

write_hba($local, '# nothing', 'host all visitor 127.0.0.1/32 reject', 'host all all all trust');
is_met('v', '127.0.0.1 3 reject host all visitor 127.0.0.1/32 reject',
	'127.0.0.1 3 reject host all visitor 127.0.0.1/32 reject', 'a line that rejects, first');
is_met('boss', '127.0.0.1 4 trust host all all all trust', '127.0.0.1 4 trust host all all all trust',
	'... is about another one');

write_hba($local, 'hostssl all all 127.0.0.1/32 scram-sha-256', 'hostgssenc all all all trust');
is_met('v', '127.0.0.1 0', '127.0.0.1 2 scram-sha-256 hostssl all all 127.0.0.1/32 scram-sha-256',
	'with TLS only');
write_hba($local, 'hostnossl all all 127.0.0.1/32 md5');
is_met('v', '127.0.0.1 2 md5 hostnossl all all 127.0.0.1/32 md5', '127.0.0.1 0', 'without TLS only');

my $eight = 'trust host all all 127.0.0.0/8 trust';
write_hba($local, 'host all all 10.20.0.0/16 md5', 'host all all 127.0.0.0 255.0.0.0 trust',
	'host all all fe80::/10 reject', 'host all all 2001:db8::/32 md5 ', 'host all all 10.0.0.9 255.0.0.255 trust');
is_met('v', "127.0.0.1 3 $eight", "127.0.0.1 3 $eight", 'a network');
is_met('far', ('10.20.30.40 2 md5 host all all 10.20.0.0/16 md5') x 2, 'another network');
is_met('six', ('2001:db8::7 5 md5 host all all 2001:db8::/32 md5') x 2, 'a network of IPv6');
is_met('zone', ('fe80::1 4 reject host all all fe80::/10 reject') x 2, 'an address with a zone');

write_hba($local, 'host all all samehost md5', 'host all all samenet trust', 'host all all 10.20.30.40/32 reject');
is_met('v', ('127.0.0.1 2 md5 host all all samehost md5') x 2, 'this host');
is_met('far', ('10.20.30.40 4 reject host all all 10.20.30.40/32 reject') x 2, 'not of this host or net');
write_hba($local, 'host all all samenet trust');
is_met('v', ('127.0.0.1 2 trust host all all samenet trust') x 2, 'the same network');

write_hba($local, 'host all other,nobody 127.0.0.1/32 md5', 'host all other,+team,x 127.0.0.1/32 trust',
	'host all boss,nobody_here all reject');
is_met('v', ('127.0.0.1 3 trust host all other,+team,x 127.0.0.1/32 trust') x 2, 'a member of a group');
is_met('boss', ('127.0.0.1 4 reject host all boss,nobody_here all reject') x 2,
	'a superuser is no member of all groups');
is_met('nobody', ('127.0.0.1 4 reject host all boss,nobody_here all reject') x 2,
	'a role that does not exist');

write_hba($local, 'host peers,replication all all md5', 'host sameuser all all reject',
	'host samerole all all trust', 'host peers,postgres all all password');
is_met('v', ('127.0.0.1 5 password host peers,postgres all all password') x 2, 'a list of databases');
is_met('twin', ('127.0.0.1 3 reject host sameuser all all reject') x 2, 'the database of the same name');
is_met('club', ('127.0.0.1 4 trust host samerole all all trust') x 2, 'the database of a group');
is_met('nobody', ('127.0.0.1 0') x 2, 'not that of a group that it is no member of');

write_hba($local, 'host all boss node.example.com reject', 'host all all .example.com reject',
	'host all all all trust');
is_met('v', ('127.0.0.1 4 trust host all all all trust, doubt 3') x 2,
	'a line with a host name is passed over, and told of');

write_hba($local, 'host all all all ldap ldapserver=x ldapbinddn=y ldapbindpasswd=geheim ldapbasedn=z');
is_met('v', ('127.0.0.1 2 ldap host all all all ldap') x 2, 'without what is secret');
unlike($group->store_query("SELECT string_agg(body, '') FROM leasehold_store.report"), qr/geheim/,
	'no password in the store');

write_hba($local, 'host all visitor 127.0.0.1/32 wrong', 'host all all all trust');
is_met('v', ('127.0.0.1 3 trust host all all all trust') x 2, 'a line with an error is passed over');

$b->set_conf('leasehold.advertise' => 'host=' . $b->host . ' port=' . $b->port);
imagine('v', from => '');
is_met('v', ' 1 trust local all all trust', 'nothing', 'over a local socket');
$b->set_conf('leasehold.advertise' => 'host=127.0.0.1 port=' . $b->port);
imagine('v');
write_hba($local);
is_met('v', '127.0.0.1 0', '127.0.0.1 0', 'and over the network again');


# --- what is refused ---------------------------------------------------------

on_b('CREATE DATABASE peers');
on_b('CREATE ROLE team2; ALTER ROLE visitor NOLOGIN; REVOKE CONNECT ON DATABASE peers FROM public');
write_hba($local, 'host all visitor all reject');

my $offset = $b->log_offset;
my $before = state_of_b();
my @actions = qw(reload hba_line create_role allow_login grant_connect create_extension grant_monitor);

imagine('v', database => 'peers');
imagine('new', user => 'newcomer', database => 'peers');
b_has_read();
foreach my $action (@actions)
{
	is(ask_repair($action, 'new'), "error\tleasehold.allow_repair is off there",
		"$action: not where it is not allowed");
}
is(state_of_b(), $before, 'and nothing happened');
like($b->log_since($offset), qr/refused to repair what node "a" asked for/, 'but it was logged');

$b->set_conf('leasehold.allow_repair' => 'on');
is(ask_repair('drop_role', 'new'), "error\tthis node does not know that operation", 'an unknown action');
is(ask_repair('none', 'new'), "error\tthis node does not know that operation", 'no action');
is(ask_repair("create_role\tnew", 'x'), "error\tthe request is not one that this node understands",
	'more arguments than there are');
is(answer_to(post('repair', 'create_role')),
	"error\tthe request is not one that this node understands", 'fewer');
is(answer_to(post('repair', 'create_role new')),
	"error\tthe request is not one that this node understands", 'not separated');
is(answer_to(post('execute', 'CREATE ROLE x')), "error\tthis node does not know that operation",
	'an unknown operation');
foreach my $action (@actions)
{
	is(ask_repair($action, 'stranger'), "error\tno report of node \"stranger\" has come here",
		"$action: for a node that nobody knows");
	next if $action eq 'reload';
	is(ask_repair($action, 'b'), "error\tnode \"b\" is the one that is asked",
		"$action: not for itself");
}

# One that is not who it says is not even answered.
my @forged = (
	post('repair', "create_role\tnew", incarnation => 4711),
	post('repair', "create_role\tnew", from => 'stranger', incarnation => 77));
is(ask_repair('drop_role', 'new'), "error\tthis node does not know that operation", 'a later letter');
is($group->store_query("SELECT count(*) FROM leasehold_store.mail WHERE answered AND id IN ("
	  . join(',', map { literal($_) } @forged) . ')'), 0,
	'letters of another incarnation or of no node are not answered');

# The right to ask is a row of its own, which says the same.
foreach my $permit ('', "reload\tnew", "create_role\tv")
{
	is(answer_to(post('repair', "create_role\tnew", permit => $permit)),
		"error\twhoever wrote the request has no right to ask for repairs", "permit: $permit");
}

# Roles with privileges, by themselves or by their groups, and databases that are not
# for peers.
on_b('CREATE ROLE rich CREATEROLE; CREATE ROLE heir LOGIN IN ROLE rich; CREATE ROLE writer LOGIN IN ROLE pg_write_server_files');
on_b('CREATE ROLE locked NOLOGIN; CREATE ROLE locked_heir NOLOGIN IN ROLE locked; CREATE TABLE of_locked (); ALTER TABLE of_locked OWNER TO locked');
on_b('CREATE ROLE streamer NOLOGIN REPLICATION');
on_b('CREATE DATABASE crowded');
on_b('CREATE SCHEMA leasehold', 'crowded');
imagine($_, user => $_) foreach qw(heir writer locked locked_heir streamer);
imagine('in_template0', user => 'team', database => 'template0');
imagine('in_template1', user => 'team', database => 'template1');
imagine('in_crowded', database => 'crowded');
b_has_read();
$before = state_of_b();
foreach my $role (qw(boss heir writer))
{
	like(ask_repair($_, $role), qr/^error\trole "$role" has privileges by /, "$_: not for $role")
	  foreach qw(hba_line allow_login grant_connect grant_monitor);
}
like(ask_repair('allow_login', $_), qr/^error\trole "$_" has rights or belongings by /,
	"allow_login: not for $_") foreach qw(locked locked_heir streamer);
foreach my $database (qw(template0 template1))
{
	like(ask_repair($_, "in_$database"), qr/^error\tdatabase "$database" is a template, or closed/,
		"$_: not in $database") foreach qw(grant_connect create_extension);
}
like(ask_repair('create_extension', 'in_crowded'), qr/^error\tdatabase "crowded" has a schema "leasehold" of its own/,
	'no extension among what others have made');
is(state_of_b(), $before, 'nothing happened by all that');

# Names that want to be more than names.
my %hostile = (
	newline   => "x\nhost all all all trust",
	tab       => "x\tall",
	escape    => "x\e[2J",
	delete    => "x\x7f",
	long      => 'x' x 200,
	empty     => '');
foreach my $kind (sort keys %hostile)
{
	imagine("user_$kind", user => $hostile{$kind}, database => 'peers');
	imagine("db_$kind", database => $hostile{$kind});
}
imagine('public', user => 'public', database => 'peers');
imagine('regex', user => '/.*', database => 'peers');
imagine('db_regex', database => '/.*');
b_has_read();
foreach my $kind (sort keys %hostile)
{
	my $what = $kind eq 'empty' ? 'is missing' : $kind eq 'long' ? 'too long' : 'control character';

	like(ask_repair($_, "user_$kind"), qr/^error\t.*$what/, "$_: the role's name: $kind")
	  foreach qw(hba_line create_role allow_login grant_connect grant_monitor);
	like(ask_repair($_, "db_$kind"), qr/^error\t.*$what/, "$_: the database's name: $kind")
	  foreach qw(hba_line grant_connect create_extension);
}
like(ask_repair($_, 'public'), qr/^error\t"public" is no name of a role/, "$_: not for all")
  foreach qw(hba_line create_role allow_login grant_connect grant_monitor);
like(ask_repair('hba_line', $_), qr/^error\t.*begins with a slash/, "$_: no regular expression")
  foreach qw(regex db_regex);
like(ask_repair('create_extension', 'twin'), qr/^error\tit could not be done/,
	'a database that is not there');
like(ask_repair('allow_login', 'new'), qr/^error\trole "newcomer" does not exist/,
	'a role that is not there');
is(state_of_b(), $before, 'nothing happened by all that');

# --- what is done: statements ------------------------------------------------

sub logged
{
	my ($action, $done, $name) = @_;
	my $log = $b->log_since($offset);

	like($log, qr/LOG:  leasehold: repaired the path of node "new" to this one: $action\n.*DETAIL:  Asked by node "a"\.  Done: \Q$done\E/,
		$name);
	$offset = $b->log_offset;
	return;
}

$offset = $b->log_offset;
is(ask_repair('create_role', 'new'), "ok\tCREATE ROLE newcomer LOGIN", 'a role is made');
is($b->ask("SELECT rolcanlogin, rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls, rolpassword IS NULL FROM pg_authid WHERE rolname = 'newcomer'"),
	't|f|f|f|f|f|t', 'with no more rights than it needs');
is($b->ask("SELECT count(*) FROM pg_auth_members WHERE member = 'newcomer'::regrole"), 0, 'in no group');
logged('create_role', 'CREATE ROLE newcomer LOGIN', 'that is logged');
is(ask_repair('create_role', 'new'), "ok\trole \"newcomer\" is there already", 'not twice');

on_b('ALTER ROLE newcomer NOLOGIN');
is(ask_repair('allow_login', 'new'), "ok\tALTER ROLE newcomer LOGIN", 'a role may log in');
is($b->ask("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'newcomer'"), 't', 'it may');

is($b->ask("SELECT has_database_privilege('newcomer', 'peers', 'CONNECT')"), 'f', 'it may not connect');
is(ask_repair('grant_connect', 'new'), "ok\tGRANT CONNECT ON DATABASE peers TO newcomer", 'it is allowed');
is($b->ask("SELECT has_database_privilege('newcomer', 'peers', 'CONNECT')"), 't', 'it may connect');
is($b->ask("SELECT has_database_privilege('newcomer', 'peers', 'TEMP') AND NOT has_database_privilege('visitor', 'peers', 'CONNECT')"),
	't', 'and no more, and nobody else');

is(ask_repair('create_extension', 'new'), "ok\tCREATE EXTENSION IF NOT EXISTS leasehold", 'the extension is made');
is($b->safe_psql('peers', "SELECT count(*) FROM pg_extension WHERE extname = 'leasehold'"), 1, 'it is there');
like(ask_repair('create_extension', 'new'), qr/^ok\t/, 'twice does no harm');

is(ask_repair('grant_monitor', 'new'), "ok\tGRANT pg_monitor TO newcomer", 'the right to monitor');
is($b->ask("SELECT pg_has_role('newcomer', 'pg_monitor', 'MEMBER')"), 't', 'it has it');

$b->append_conf('postgresql.conf', "work_mem = '7MB'");
is(ask_repair('reload', 'new'), "ok\tthe configuration is read anew", 'a reload');
wait_until('b has read its configuration', sub { $b->ask('SHOW work_mem') eq '7MB' });
is($b->ask('SHOW leasehold.local_ddl'), 'off', 'nothing stays switched on');

# Quotes in names stay within the names.
my $nasty = 'x"; DROP ROLE visitor; --';
imagine('nasty', user => $nasty, database => 'peers');
imagine('all', user => 'all', database => 'peers');
b_has_read();
is(ask_repair('create_role', 'nasty'), "ok\tCREATE ROLE \"x\"\"; DROP ROLE visitor; --\" LOGIN",
	'a name with quotes');
is($b->ask('SELECT count(*) FROM pg_roles WHERE rolname = ' . literal($nasty)), 1, 'is a name');
is($b->ask("SELECT count(*) FROM pg_roles WHERE rolname = 'visitor'"), 1, 'and nothing else');
like(ask_repair('grant_monitor', 'nasty'), qr/^ok/, 'in a grant, too');
like(ask_repair('grant_connect', 'nasty'), qr/^ok/, 'and in another');

# --- what is done: lines of pg_hba.conf --------------------------------------

my $newline = 'host peers newcomer 127.0.0.1/32 scram-sha-256';

sub is_hba
{
	my ($lines, $name) = @_;
	is_deeply(hba_lines(), $lines, $name);
	return;
}

# Behind all others: no line is overruled.
my @lines = ($local, '# who may come', 'host all boss 10.0.0.0/8 reject', "host\tall all 10.0.0.0/8 reject");
my $last = @lines + 1;
write_hba(@lines);
chmod 0640, $hba;
is(ask_repair('hba_line', 'new') =~ s/"//gr =~ s/file \S*/file/r, "ok\tline $last of file is now: $newline",
	'a line is added');
is_hba([ (map { s/\t/ /r } @lines), $newline ], 'at the end');
is_deeply([ split /\n/, slurp_file($backup) ], \@lines, 'the file as it was is kept');
is(sprintf('%o', (stat $hba)[2] & 07777), '640', 'its mode is kept');
ok(!-e "$hba.leasehold.tmp" && !-e "$backup.leasehold.tmp", 'no draft is left');
is_met('new', "127.0.0.1 $last scram-sha-256 host peers newcomer 127.0.0.1/32 scram-sha-256",
	"127.0.0.1 $last scram-sha-256 host peers newcomer 127.0.0.1/32 scram-sha-256", 'b tells of it');
my $inserted = slurp_file($hba);
is(ask_repair('hba_line', 'new'),
	"ok\tline $last of pg_hba.conf lets it in already, by method scram-sha-256; the configuration is read anew",
	'not twice');
is(slurp_file($hba), $inserted, 'it is not');

foreach my $method ('reject', 'ident')
{
	write_hba($local, "host all all all $method");
	like(ask_repair('hba_line', 'new'), qr/^error\tline 2 of pg_hba\.conf decides by method $method, which is left to people/,
		"one that says $method has the last word");
	is_hba([ $local, "host all all all $method" ], 'nothing is added');
}

# Files that end in unusual ways.
foreach my $end ('host all boss 10.0.0.0/8 reject', "# a comment \\\n", "# a comment \\", "# a comment \\\r\n",
	"host all boss 10.0.0.0/8 \\\r\nreject\r\n", "host all boss \\\n10.0.0.0/8 reject\n\n\n")
{
	open my $fh, '>', $hba or die $!;
	binmode $fh;
	print $fh "$local\n$end";
	close $fh;
	like(ask_repair('hba_line', 'new'), qr/^ok/, 'a file with an odd end');
	is(hba_lines()->[-1], $newline, 'the new line is one of its own');
	like(slurp_file($hba), qr/^\Q$local\E\n\Q$end\E/, 'the others stay as they are');
	is($b->ask('SELECT count(*) FROM pg_hba_file_rules WHERE type IS NULL'), 0, 'without an error');
}

# A line with a host name might be met; then it decides.
write_hba($local, 'host all all .example.com reject');
like(ask_repair('hba_line', 'new'), qr/^ok\tline 3 /, 'a line with a host name');
is_hba([ $local, 'host all all .example.com reject', $newline ], 'the new one stands behind it');

write_hba($local, 'hostssl all all all reject');
like(ask_repair('hba_line', 'new'), qr/^ok\tline 3 /, 'a line for TLS without TLS is no error');

# Quotes: the rules of the file are not those of SQL.
write_hba($local);
like(ask_repair('hba_line', 'nasty'), qr/^ok/, 'a name with quotes and blanks');
is($b->ask('SELECT user_name = ARRAY[' . literal($nasty) . "] AND database = ARRAY['peers'] AND auth_method = 'scram-sha-256' FROM pg_hba_file_rules WHERE line_number = 2"),
	't', 'is one name');
write_hba($local);
like(ask_repair('hba_line', 'all'), qr/^ok/, 'a role that is called like a word of the file');
like(slurp_file($hba), qr/^host\s+"?peers"?\s+"all"\s/m, 'its name is quoted');

# Through a link; the link stays one.
my $elsewhere = $b->basedir . '/elsewhere.conf';
write_hba(@lines);
# (the file is never missing: somebody may read it just now)
link $hba, $elsewhere or die $!;
symlink $elsewhere, "$hba.link" or die $!;
rename "$hba.link", $hba or die $!;
like(ask_repair('hba_line', 'new'), qr/^ok\tline $last of file "\Q$elsewhere\E"/, 'a link is followed');
ok(-l $hba, 'it is still one');
is(hba_lines($elsewhere)->[-1], $newline, 'the file behind it has the line');
ok(-e "$elsewhere.leasehold", 'the backup stands beside that');
rename $elsewhere, $hba or die $!;

# A file that has an error is people's business.
write_hba(@lines, 'host all all all nonsense');
$before = slurp_file($hba);
like(ask_repair('hba_line', 'new'), qr/^error\tline $last of file .* has an error/, 'a file with an error');
is(slurp_file($hba), $before, 'it is left as it is');
write_hba(@lines);

# One that does not say how it comes, and cannot be reached.
imagine('new', user => 'newcomer', database => 'peers', from => 'not an address');
$group->store_query("UPDATE leasehold_store.node SET advertise = 'host=/nowhere port=1' WHERE name = 'new'");
wait_until('b does not know from where it comes', sub { b_has_read(); meets('new', 0) eq 'nothing' });
like(ask_repair('hba_line', 'new'), qr/^error\tit is not known from which address/, 'an unknown address');
is_deeply([ split /\n/, slurp_file($hba) ], \@lines, 'no line without an address');

# With TLS.
SKIP:
{
	my $dir = $b->data_dir;

	skip 'no openssl', 5
	  if system("openssl req -new -x509 -days 2 -nodes -subj /CN=localhost -out '$dir/server.crt' -keyout '$dir/server.key' 2>/dev/null") != 0;
	chmod 0600, "$dir/server.key";
	$b->set_conf('ssl' => 'on');
	write_hba($local, 'hostssl all all all cert');
	like(ask_repair('hba_line', 'v'), qr/^error\tline 2 of pg_hba\.conf decides by method cert/,
		'a password does not take the place of a certificate');
	write_hba($local, 'hostnossl all all all trust');
	like(ask_repair('hba_line', 'v'), qr/^ok\tline 3 /, 'for one that uses TLS');
	is_hba([ $local, 'hostnossl all all all trust', 'hostssl peers visitor 127.0.0.1/32 scram-sha-256' ],
		'a line for TLS');
	imagine('v', database => 'peers', sslmode => 'disable');
	b_has_read();
	write_hba($local);
	is((like(ask_repair('hba_line', 'v'), qr/^ok/, 'for one that does not'), hba_lines()->[1])[-1],
		'host peers visitor 127.0.0.1/32 scram-sha-256', 'a line for both');
	$b->set_conf('ssl' => 'off');
}

# --- a real one, from nothing to a path that stands ---------------------------

my $passfile = $a->basedir . '/passfile';

write_hba($local);
open my $fh, '>', $passfile or die $!;
print $fh "127.0.0.1:*:*:joiner:secret of joiner\n";
close $fh;
chmod 0600, $passfile;
$a->set_conf('leasehold.peer_options' => "user=joiner dbname=peers passfile=$passfile");
wait_until('a has said as whom it comes', sub {
	b_has_read();
	$group->store_query("SELECT body FROM leasehold_store.report WHERE node = 'a'") =~ /peer_user=joiner/;
});
b_has_read();
is(ask_repair('create_role', 'a'), "ok\tCREATE ROLE joiner LOGIN", 'a role for a');
on_b("ALTER ROLE joiner PASSWORD 'secret of joiner'");
like(ask_repair($_, 'a'), qr/^ok/, "$_ for a") foreach qw(grant_connect grant_monitor hba_line);
$b->ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'leasehold prober'");
wait_until('a reaches b by what was repaired',
	sub { $b->ask("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'leasehold prober' AND usename = 'joiner' AND datname = 'peers'") eq '1'
		  && $a->ask("SELECT status FROM leasehold.peers WHERE peer = 'b'") eq 'ok' });
is(hba_lines()->[1], 'host peers joiner 127.0.0.1/32 scram-sha-256', 'a reaches b');

# --- at the wish of a session ---------------------------------------------------

my $call = "SELECT done FROM leasehold.repair('b', 'a', true) WHERE operation LIKE '%CREATE ROLE%'";
my $refused = 'not performed: leasehold.allow_repair is off here, and only superusers may do without it';

write_hba($local, 'host all all all trust');
$a->set_conf('leasehold.peer_options' => 'user=absentee dbname=peers');
$b->set_conf('leasehold.allow_repair' => 'off');
wait_until('b knows that a comes as somebody else', sub {
	b_has_read();
	$group->store_query("SELECT body FROM leasehold_store.report WHERE node = 'a'") =~ /peer_user=absentee/;
});
on_b('CREATE ROLE helper; GRANT EXECUTE ON FUNCTION leasehold.repair(text, text, boolean) TO helper');
wait_until('a session of no superuser does nothing where it is off',
	sub { ($b->ask("SET ROLE helper; $call") // '') eq $refused });
is($b->ask("SELECT count(*) FROM pg_roles WHERE rolname = 'absentee'"), 0, 'nothing is done');
$b->set_conf('leasehold.allow_repair' => 'on');

# A session that gives up leaves nothing behind that others would have to wait for.
{
	my $holds_up = LeaseholdWire->connect($b);
	my ($state, $began);

	$holds_up->query($_) foreach 'SET leasehold.local_ddl = on', 'BEGIN', 'CREATE ROLE absentee';
	($state) = $b->try("SET statement_timeout = '5s'; $call");
	is($state, '57014', 'a session is cancelled while the repair is held up');
	is($group->store_query("SELECT count(*) FROM leasehold_store.mail WHERE id NOT LIKE 'test%'"), 0,
		'it leaves no letter');
	$holds_up->query('ROLLBACK');
	$began = LeaseholdTest::clock_now();
	is(ask_repair('reload', 'new'), "ok\tthe configuration is read anew", 'the next one has its turn');
	cmp_ok((LeaseholdTest::clock_now() - $began) / 1e9, '<', 15, '... before anything has run out');
	is($b->ask("SELECT count(*) FROM pg_roles WHERE rolname = 'absentee'"), 1, 'what had begun went on');
}

# The right to ask is not one that every node has.
{
	my ($member) = $group->members;
	my $script = $member->config_data('--sharedir') . '/extension/leasehold-store.sql';

	foreach my $role ([ 'asks_not' ], [ 'asks', '-v', 'leasehold_repair=on' ])
	{
		my ($name, @options) = @$role;

		$member->safe_psql('postgres', "CREATE DATABASE $name");
		run_log([ 'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-d', $member->connstr($name), '-v',
			"leasehold_role=$name", @options, '-f', $script ]);
		is($member->safe_psql($name, "SELECT has_table_privilege('$name', 'leasehold_store.repair', 'INSERT'), has_table_privilege('$name', 'leasehold_store.repair', 'SELECT'), has_table_privilege('$name', 'leasehold_store.mail', 'INSERT')"),
			@options ? 't|t|t' : 'f|t|t', "$name: the right to ask");
	}
}

# What an earlier run has left behind is taken away.
$group->store_query("INSERT INTO leasehold_store.mail VALUES ('left', 'v', 'b', 1, 'walk', 'a', false, '')");

wait_until('no worker stays',
	sub { $b->ask("SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('leasehold repairer', 'leasehold reporter')") eq '0' });
unlike($b->log_since(0), qr/WARNING|PANIC|leasehold.*could not be read for the other nodes/,
	'nothing went wrong by the way');

# --- a server without a free worker process ------------------------------------

$b->append_conf('postgresql.conf', 'max_worker_processes = 4');
$offset = $b->log_offset;
$b->restart;
my $complaint = qr/leasehold: pg_hba\.conf could not be read for the other nodes/;
$b->wait_log($complaint, $offset);
is(ask_repair('reload', 'new'),
	"error\tthe server has no free worker process: max_worker_processes is too low",
	'no repair without a worker process');
$b->reload;
b_has_read();
wait_until('a letter of an earlier run is gone',
	sub { $group->store_query("SELECT count(*) FROM leasehold_store.mail WHERE id = 'left'") eq '0' });
is(scalar(my @complaints = $b->log_since($offset) =~ /$complaint/g), 1, 'it is said once');
$_->stop foreach $a, $b;

# --- a primary and its standby -------------------------------------------------

$group = LeaseholdTest->new(
	nodes => [ 'a', 'b' ], kind => 'physical',
	conf  => "leasehold.probe_interval = '300ms'\nleasehold.allow_repair = on\n");
my ($primary, $standby) = $group->nodes;
imagine('new', user => 'newcomer', from => '10.1.2.3');
wait_until('the standby knows them all', sub { meets('new', 0) ne 'nothing' });
is(meets('new', 0), '10.1.2.3 0', 'a standby reads its file, too');
foreach my $action (qw(create_role allow_login grant_connect create_extension grant_monitor))
{
	is(ask_repair($action, 'new'), "error\tit has to be run on the holder", "$action: not on a standby");
}
like(ask_repair('hba_line', 'new'), qr/^ok/, 'a line in its file');
like(slurp_file($standby->data_dir . '/pg_hba.conf'), qr/newcomer.*10\.1\.2\.3/, 'is there');
is(ask_repair('reload', 'new'), "ok\tthe configuration is read anew", 'a reload');
done_testing();
