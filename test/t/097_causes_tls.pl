# Causes for which TLS breaks a path, each made on a real server and mended by the
# remedy as its text stands.  See 095.

use strict;
use warnings;

use CausesTest;
use LeaseholdTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $pair = CausesTest->new(ssl => 1);
my ($a, $b) = ($pair->a, $pair->b);
my $home = $b->data_dir;
my $own  = "$ENV{HOME}/.postgresql";
my $from = 'app probe 127.0.0.1/32';

sub peer_options { return $a->set_conf('leasehold.peer_options' => $pair->peer_options($_[0])); }

# What the source trusts.
sub trust
{
	my ($file) = @_;

	mkdir $own;
	CausesTest::write_file("$own/root.crt", slurp_file($file));
	return;
}

sub is_encrypted
{
	is($b->ask("SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'probe'"),
		't', '... encrypted');
	return;
}

# A refusal does not say that TLS would help: the target's own report does, once a
# worker reads its pg_hba.conf.
my $reads_hba = grep { slurp_file($_) =~ /FROM [a-z._]*pg_hba_file_rules/ } glob('src/*.c');

my @cases = (
	{   name   => 'TLS is required there',
		make   => sub { $pair->set_hba("hostssl $from scram-sha-256"); peer_options('sslmode=disable') },
		seen   => 'authenticate no_hba',
		told   => 'tls_required',
		first  => qr/sslmode=require/,
		run_on => 'a',
		mended => \&is_encrypted,
		skip   => $reads_hba ? 0 : 'no worker reads pg_hba.conf yet',
	},
	{   name => 'TLS is required here',
		make => sub { $b->set_conf(ssl => 'off'); peer_options('sslmode=require') },
		seen => 'tls tls_missing',
		first => qr/openssl req/,
		mended => sub {
			is_encrypted();
			is(slurp_file("$home/server.crt"), $pair->{files}{"$home/server.crt"}, '... the certificate stays');
		},
	},
	{   name => 'TLS is required here, and there is no certificate',
		make => sub {
			$b->set_conf(ssl => 'off');
			unlink map { "$home/server.$_" } qw(key crt);
			peer_options('sslmode=require');
		},
		seen   => 'tls tls_missing',
		first  => qr/subjectAltName=IP:127.0.0.1/,
		mended => \&is_encrypted,
	},
	{   name   => 'nothing says whom to trust',
		make   => sub { peer_options('sslmode=verify-ca') },
		seen   => 'tls tls_certificate',
		first  => qr/SHOW ssl_cert_file/,
		mended => \&is_encrypted,
	},
	{   name   => 'somebody else is trusted',
		make   => sub { trust("$home/root.crt"); peer_options('sslmode=verify-ca') },
		seen   => 'tls tls_certificate',
		first  => qr/SHOW ssl_cert_file/,
		mended => sub {
			is_encrypted();
			is(slurp_file("$own/root.crt"), slurp_file("$home/root.crt") . slurp_file("$home/server.crt"),
				'... and stays so');
		},
	},
	{   name   => 'a file named in the options says whom to trust',
		make   => sub { peer_options("sslmode=verify-ca sslrootcert='$own/of peers.crt'") },
		seen   => 'tls tls_certificate',
		first  => qr/SHOW ssl_cert_file/,
		mended => \&is_encrypted,
	},
	{   name   => 'the certificate is for another name',
		make   => sub { trust("$home/server.crt"); peer_options('sslmode=verify-full') },
		seen   => 'tls tls_name',
		first  => qr/^ALTER SYSTEM SET leasehold.advertise = 'host=localhost hostaddr=127.0.0.1 port=@{[$b->port]}';/,
		mended => \&is_encrypted,
	},
	{   name   => 'a certificate of the client is wanted',
		make   => sub { $pair->set_hba("hostssl $from scram-sha-256 clientcert=verify-ca") },
		seen   => 'tls tls_client',
		first  => qr/-subj \/CN=probe/,
		run_on => 'a',
		mended => \&is_encrypted,
	},
	{   name   => 'a certificate in the place of a password',
		make   => sub { $pair->set_hba("hostssl $from cert"); $pair->write_passfile(undef) },
		seen   => 'tls tls_client',
		first  => qr/-subj \/CN=probe/,
		run_on => 'a',
		mended => sub { is_encrypted(); is(slurp_file($pair->{passfile}), '', '... there is no password') },
	},
	{   name   => 'no version in common',
		make   => sub {
			$b->set_conf(ssl_min_protocol_version => 'TLSv1.3');
			peer_options('sslmode=require ssl_max_protocol_version=TLSv1.2');
		},
		seen   => 'tls tls',
		first  => qr/^ALTER SYSTEM SET ssl_min_protocol_version/,
		mended => \&is_encrypted,
	},
);

$pair->cases(@cases);
$pair->find_no_secret;
like(slurp_file("$home/root.key"), qr/PRIVATE KEY/, 'there is a key');
unlike($pair->{said}, qr/PRIVATE KEY/, 'no key was printed');

done_testing();
