/*
 * test_remedy.c
 *		From the cause of a failure to the operations that mend it.
 *
 * Node a (10.0.0.1) does not reach node b (10.0.0.2), whose data directory is
 * /srv/pg.  Every operation is compared as a whole: it is to be performed as it
 * stands.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "remedy.h"
#include "remedy_text.h"

/* cmocka hands every test a state; these keep theirs below */
#pragma GCC diagnostic ignored "-Wunused-parameter"

#define SET(field, value)	snprintf(field, sizeof(field), "%s", value)

#define PG_CTL(what)	"D=/srv/pg && \"$(dirname \"$(cut -d ' ' -f 1 " \
	"\"$D/postmaster.opts\")\")/pg_ctl\" " what " -D \"$D\" -l \"$D/start.log\""
#define RELOAD	"SELECT pg_reload_conf();"
#define GRANT_TABLES \
	"GRANT SELECT ON ALL TABLES IN SCHEMA leasehold_store TO \"leasehold\";\n" \
	"GRANT INSERT, UPDATE ON leasehold_store.store, leasehold_store.lease TO " \
	"\"leasehold\";\n" \
	"GRANT INSERT, UPDATE, DELETE ON leasehold_store.node, leasehold_store.history, " \
	"leasehold_store.report, leasehold_store.outage, leasehold_store.mail TO " \
	"\"leasehold\";"
#define ADVERTISE(value)	"ALTER SYSTEM SET leasehold.advertise = '" value "';\n" RELOAD

static RemedyFacts facts;
static Remedy remedy[REMEDY_MAX];
static int	count;
static int	next;

static void
start(Cause cause)
{
	memset(&facts, 0, sizeof(facts));
	facts.cause = cause;
	SET(facts.source, "a");
	SET(facts.target, "b");
	SET(facts.host, "b.example");
	SET(facts.address, "10.0.0.2");
	SET(facts.port, "5432");
	SET(facts.from, "10.0.0.1");
	SET(facts.user, "leasehold");
	SET(facts.database, "app");
	facts.target_known = true;
	facts.of_target.port = 5432;
	facts.of_target.slots = 100;
	SET(facts.of_target.listen, "*");
	SET(facts.of_target.data_directory, "/srv/pg");
	SET(facts.of_target.config_file, "/srv/pg/postgresql.conf");
	SET(facts.of_target.hba_file, "/srv/pg/pg_hba.conf");
}

/* ... of whom nothing is known but the address. */
static void
start_unknown(Cause cause)
{
	start(cause);
	facts.target_known = false;
	memset(&facts.of_target, 0, sizeof(facts.of_target));
}

/* ... and who is a member, not a node. */
static void
start_member(Cause cause)
{
	start_unknown(cause);
	facts.member = true;
	SET(facts.target, "m:5432/leasehold_store");
	SET(facts.host, "m");
	SET(facts.database, "leasehold_store");
}

static void
list(int expected)
{
	memset(remedy, 0x55, sizeof(remedy));
	count = remedy_list(&facts, remedy);
	assert_int_equal(count, expected);
	next = 0;
}

/* The next operation is this one. */
static void
expect(const char *run_on, RemedyKind kind, RemedyAction action,
	   const char *operation)
{
	assert_true(next < count);
	assert_string_equal(remedy[next].operation, operation);
	assert_string_equal(remedy[next].run_on, run_on);
	assert_string_equal(remedy_kind_name(remedy[next].kind),
						remedy_kind_name(kind));
	assert_string_equal(remedy_action_name(remedy[next].action),
						remedy_action_name(action));
	assert_int_equal(remedy[next].safe, action != ACTION_NONE);
	next++;
}

static void
expect_sql(const char *run_on, const char *operation)
{
	expect(run_on, REMEDY_SQL, ACTION_NONE, operation);
}

static void
expect_shell(const char *run_on, const char *operation)
{
	expect(run_on, REMEDY_SHELL, ACTION_NONE, operation);
}

static void
list_with_source(int expected, int port, const char *passfile)
{
	facts.source_known = true;
	facts.of_source.port = port;
	SET(facts.of_source.passfile, passfile);
	list(expected);
}

/* ------------------------------------------------------------------------
 * All of them
 * ------------------------------------------------------------------------
 */

static void
check_list(const char *what)
{
	int			n = remedy_list(&facts, remedy);

	if (n < 1 || n > REMEDY_MAX)
		fail_msg("%s: %d operations for %s", what, n, cause_name(facts.cause));
	for (int i = 0; i < n; i++)
	{
		const Remedy *r = &remedy[i];
		size_t		why = strlen(r->why);

		/* what is cut off fills its place */
		if (strlen(r->operation) >= REMEDY_TEXT_LEN - 1 ||
			why >= sizeof(r->why) - 1 ||
			strlen(r->run_on) >= sizeof(r->run_on) - 1)
			fail_msg("%s: %s, %d: cut off", what, cause_name(facts.cause), i);
		if (r->operation[0] == '\0' || r->run_on[0] == '\0' || why == 0 ||
			r->why[why - 1] != '.')
			fail_msg("%s: %s, %d: incomplete", what, cause_name(facts.cause), i);
		if (r->safe != (r->action != ACTION_NONE))
			fail_msg("%s: %s, %d: safe, or not?", what, cause_name(facts.cause), i);
		/* nobody is ever let in without being asked who he is */
		if (r->kind != REMEDY_CONFIGURATION)
			assert_null(strstr(r->operation, "trust"));
		assert_null(strstr(r->operation, "(null)"));
	}
}

static void
check_all(const char *what, void (*begin) (Cause cause))
{
	for (int i = 0; i < CAUSE_COUNT; i++)
	{
		if (i == CAUSE_NONE)
			continue;
		begin(i);
		check_list(what);
		memset(&facts, 0, sizeof(facts));
		facts.cause = i;
		SET(facts.source, "a");
		SET(facts.target, "b");
		check_list("nothing known");
		start(i);
		memset(facts.user, '\'', sizeof(facts.user) - 1);
		memset(facts.database, '"', sizeof(facts.database) - 1);
		memset(facts.of_target.data_directory, '\'', 255);
		memset(facts.of_target.hba_file, '\'', 255);
		memset(facts.of_target.listen, 'x', 255);
		memset(facts.host, 'h', 255);
		check_list("long names");
	}
}

static void
test_every_cause(void **state)
{
	check_all("known", start);
	check_all("unknown", start_unknown);
	check_all("member", start_member);
	start(CAUSE_NONE);
	list(0);
	/* of another version */
	start((Cause) 9999);
	list(1);
}

/* Nothing is done by machines but this, and never on a member. */
static void
test_what_is_safe(void **state)
{
	for (int i = 0; i < CAUSE_COUNT; i++)
	{
		bool		may_be = i == CAUSE_NO_HBA || i == CAUSE_NO_ROLE ||
			i == CAUSE_NO_LOGIN || i == CAUSE_NO_CONNECT ||
			i == CAUSE_NO_EXTENSION || i == CAUSE_NO_PRIVILEGE;
		bool		safe = false;

		start(i);
		count = remedy_list(&facts, remedy);
		for (int j = 0; j < count; j++)
			safe = safe || remedy[j].safe;
		if (safe != may_be)
			fail_msg("%s is %s", cause_name(i), safe ? "safe" : "not safe");
		start_member(i);
		count = remedy_list(&facts, remedy);
		for (int j = 0; j < count; j++)
			assert_false(remedy[j].safe);
	}
}

/* ------------------------------------------------------------------------
 * Resolve, connect
 * ------------------------------------------------------------------------
 */

#define ASK_HOSTNAME "psql -p 5432 -d postgres -X -c \"ALTER SYSTEM SET " \
	"leasehold.advertise = 'host=$(hostname -f) port=5432'\" " \
	"-c 'SELECT pg_reload_conf()'"

static void
test_bad_address(void **state)
{
	start(CAUSE_BAD_ADDRESS);
	SET(facts.host, "");
	list(1);
	expect_shell("b", ASK_HOSTNAME);
	start_member(CAUSE_BAD_ADDRESS);
	list(1);
	expect_sql("a", "SHOW leasehold.store;");
}

static void
test_no_address(void **state)
{
	start(CAUSE_NO_ADDRESS);
	list(3);
	expect_shell("a", "getent hosts b.example");
	expect_shell("a", "printf '%s %s\\n' 10.0.0.2 b.example >> /etc/hosts");
	expect_shell("b", "psql -p 5432 -d postgres -X -c \"ALTER SYSTEM SET "
				 "leasehold.advertise = 'host=$(hostname -I | cut -d ' ' -f 1) "
				 "port=5432'\" -c 'SELECT pg_reload_conf()'");
	/* nobody knows an address */
	SET(facts.address, "");
	list(2);
	start_member(CAUSE_NO_ADDRESS);
	SET(facts.address, "");
	list(2);
	expect_shell("a", "getent hosts m");
	expect_sql("a", "SHOW leasehold.store;");
}

static void
test_refused_as_it_is_down(void **state)
{
	start(CAUSE_REFUSED);
	list(1);
	expect_shell("b", PG_CTL("start"));
	/* Debian */
	SET(facts.of_target.config_file, "/etc/postgresql/15/main/postgresql.conf");
	SET(facts.of_target.data_directory, "/var/lib/postgresql/15/main");
	list(1);
	expect_shell("b", "pg_ctlcluster 15 main start");
	/* PGDG, and Red Hat's own */
	SET(facts.of_target.config_file, "/var/lib/pgsql/16/data/postgresql.conf");
	SET(facts.of_target.data_directory, "/var/lib/pgsql/16/data");
	list(1);
	expect_shell("b", "systemctl start postgresql-16");
	SET(facts.of_target.data_directory, "/var/lib/pgsql/data");
	list(1);
	expect_shell("b", "systemctl start postgresql");
	/* looks like PGDG's, but is somebody's own */
	SET(facts.of_target.data_directory, "/var/lib/pgsql/16/data2");
	list(1);
	assert_non_null(strstr(remedy[0].operation, "pg_ctl\" start"));
	/* only the files are known */
	SET(facts.of_target.data_directory, "");
	SET(facts.of_target.config_file, "/srv/pg/postgresql.conf");
	list(1);
	expect_shell("b", PG_CTL("start"));
}

static void
test_refused_as_it_listens_elsewhere(void **state)
{
	start(CAUSE_REFUSED);
	facts.of_target.accepts = true;
	SET(facts.of_target.listen, "localhost");
	list(2);
	expect_sql("b", "ALTER SYSTEM SET listen_addresses = 'localhost, 10.0.0.2';");
	expect_shell("b", PG_CTL("restart"));
	SET(facts.of_target.listen, "");
	list(2);
	expect_sql("b", "ALTER SYSTEM SET listen_addresses = '10.0.0.2';");
	SET(facts.of_target.listen, "10.0.0.22");
	list(2);
	expect_sql("b", "ALTER SYSTEM SET listen_addresses = '10.0.0.22, 10.0.0.2';");
	SET(facts.of_target.listen, "::");
	list(2);
	SET(facts.address, "fd00::2");
	list(2);
	assert_string_equal(remedy[0].operation, PG_CTL("start"));
	/* not even an address is known */
	SET(facts.address, "");
	SET(facts.of_target.listen, "localhost");
	list(2);
	expect_sql("b", "ALTER SYSTEM SET listen_addresses = '*';");
	/* another port */
	start(CAUSE_REFUSED);
	facts.of_target.accepts = true;
	facts.of_target.port = 5433;
	list(1);
	expect_sql("b", ADVERTISE("host=b.example port=5433"));
}

static void
test_refused_though_it_listens(void **state)
{
	static const char *const lists[] = {
		"*", "0.0.0.0", "localhost, 10.0.0.2", "b.example,localhost", NULL
	};

	for (int i = 0; lists[i] != NULL; i++)
	{
		start(CAUSE_REFUSED);
		facts.of_target.accepts = true;
		SET(facts.of_target.listen, lists[i]);
		list(2);
		expect_shell("b", PG_CTL("start"));
		assert_non_null(strstr(remedy[1].operation, "firewall-cmd"));
	}
	start(CAUSE_REFUSED);
	facts.of_target.accepts = true;
	SET(facts.address, "127.0.0.1");
	SET(facts.of_target.listen, "localhost");
	list(2);
	expect_shell("b", PG_CTL("start"));
}

static void
test_refused_by_whom_nobody_knows(void **state)
{
	start_unknown(CAUSE_REFUSED);
	list(3);
	expect_shell("b", "systemctl start postgresql");
	expect_sql("b", "ALTER SYSTEM SET listen_addresses = '*';");
	expect_shell("b", "D=$(psql -p 5432 -d postgres -XAtc 'SHOW data_directory') && "
				 "\"$(dirname \"$(cut -d ' ' -f 1 \"$D/postmaster.opts\")\")/pg_ctl\" "
				 "restart -D \"$D\" -l \"$D/start.log\"");
	/* a socket that a dead server has left */
	SET(facts.host, "/tmp");
	list(1);
}

static void
test_firewall(void **state)
{
	start(CAUSE_TIMEOUT);
	list(2);
	expect_shell("b", "if firewall-cmd -q --state 2>/dev/null; then "
				 "firewall-cmd -q --permanent --add-rich-rule='rule family=\"ipv4\" "
				 "source address=\"10.0.0.1\" port port=\"5432\" protocol=\"tcp\" "
				 "accept' && firewall-cmd -q --reload; "
				 "elif LC_ALL=C ufw status 2>/dev/null | grep -q '^Status: active'; "
				 "then ufw prepend allow proto tcp from 10.0.0.1 to any port 5432; "
				 "elif nft list chain inet filter input >/dev/null 2>&1; then "
				 "nft insert rule inet filter input ip saddr 10.0.0.1 tcp dport 5432 "
				 "accept; "
				 "else iptables -I INPUT -p tcp -s 10.0.0.1 --dport 5432 -j ACCEPT; fi");
	expect_shell("a", "ping -c 3 10.0.0.2");

	start(CAUSE_NO_ROUTE);
	SET(facts.address, "fd00::2");
	SET(facts.from, "fd00::1");
	SET(facts.port, "6543");
	list(2);
	expect_shell("b", "if firewall-cmd -q --state 2>/dev/null; then "
				 "firewall-cmd -q --permanent --add-rich-rule='rule family=\"ipv6\" "
				 "source address=\"fd00::1\" port port=\"6543\" protocol=\"tcp\" "
				 "accept' && firewall-cmd -q --reload; "
				 "elif LC_ALL=C ufw status 2>/dev/null | grep -q '^Status: active'; "
				 "then ufw prepend allow proto tcp from fd00::1 to any port 6543; "
				 "elif nft list chain inet filter input >/dev/null 2>&1; then "
				 "nft insert rule inet filter input ip6 saddr fd00::1 tcp dport 6543 "
				 "accept; "
				 "else ip6tables -I INPUT -p tcp -s fd00::1 --dport 6543 -j ACCEPT; fi");
	expect_shell("a", "ip route get fd00::2");
}

/* What others report may be anything. */
static void
test_firewall_takes_nothing_but_addresses(void **state)
{
	start(CAUSE_TIMEOUT);
	SET(facts.from, "$(reboot)");
	SET(facts.port, "1;init6");
	list(2);
	assert_null(strstr(remedy[0].operation, "reboot"));
	assert_null(strstr(remedy[0].operation, "init6"));
	assert_non_null(strstr(remedy[0].operation, "input tcp dport 5432 accept"));
	assert_non_null(strstr(remedy[0].operation, "from any to any port 5432"));
}

static void
test_no_socket(void **state)
{
	static const char *const tell =
		"SELECT format('ALTER SYSTEM SET leasehold.advertise = %L', "
		"format('host=''%s'' port=%s', btrim(split_part(d, ',', 1)), "
		"current_setting('port'))) FROM current_setting('unix_socket_directories') d "
		"WHERE d <> '' \\gexec\n" RELOAD;

	start(CAUSE_NO_SOCKET);
	SET(facts.host, "/run/it's");
	list(2);
	expect_shell("b", PG_CTL("start"));
	expect_sql("b", tell);
	/* it runs, by what it says */
	facts.of_target.accepts = true;
	list(1);
	expect_sql("b", tell);
	start_member(CAUSE_NO_SOCKET);
	SET(facts.host, "/run/it's");
	list(2);
	expect_shell("m:5432/leasehold_store", "systemctl start postgresql");
	expect_sql("a", "SHOW leasehold.store;");
}

static void
test_closed(void **state)
{
	start(CAUSE_CLOSED);
	facts.of_target.port = 5433;
	list(3);
	expect_shell("b", "ss -ltnp 'sport = :5432'");
	expect_shell("b", "psql -p 5433 -d postgres -X -c 'SELECT 1'");
	expect_shell("b", PG_CTL("restart"));
}

static void
test_silent(void **state)
{
	start(CAUSE_SILENT);
	list(2);
	expect_shell("b", "D=/srv/pg && kill -s CONT $(head -n 1 \"$D/postmaster.pid\") "
				 "$(pgrep -P \"$(head -n 1 \"$D/postmaster.pid\")\")");
	expect_shell("b", PG_CTL("restart"));
	/* it would not tell psql, either, where its directory is */
	start_unknown(CAUSE_SILENT);
	list(1);
	expect_shell("b", "systemctl restart postgresql");
}

static void
test_not_postgres(void **state)
{
	start(CAUSE_NOT_POSTGRES);
	list(1);
	expect_shell("b", ASK_HOSTNAME);
	facts.of_target.port = 5433;
	SET(facts.host, "it's");
	list(1);
	expect_sql("b", "ALTER SYSTEM SET leasehold.advertise = "
			   "E'host=''it\\\\''s'' port=5433';\n" RELOAD);
}

static void
test_wrong_server(void **state)
{
	start(CAUSE_WRONG_SERVER);
	facts.of_target.port = 5433;
	list(2);
	expect_sql("b", ADVERTISE("host=b.example port=5433"));
	expect_shell("a", "getent hosts b.example");
	SET(facts.host, "10.0.0.2");
	list(1);
	start_member(CAUSE_WRONG_SERVER);
	list(2);
	expect_sql("a", "SHOW leasehold.store;");
	expect_shell("a", "getent hosts m");
}

/* ------------------------------------------------------------------------
 * TLS
 * ------------------------------------------------------------------------
 */

static void
test_tls_missing(void **state)
{
	start(CAUSE_TLS_MISSING);
	list(2);
	expect_shell("b", "D=/srv/pg && ( cd \"$D\" && { [ -e server.key ] || { openssl req "
				 "-new -x509 -days 3650 -nodes -subj /CN=leasehold -addext "
				 "subjectAltName=DNS:b.example -keyout server.key -out server.crt && "
				 "chmod 600 server.key && chown --reference=. server.key server.crt; "
				 "}; } )");
	expect_sql("b", "ALTER SYSTEM SET ssl_cert_file = 'server.crt';\n"
			   "ALTER SYSTEM SET ssl_key_file = 'server.key';\n"
			   "ALTER SYSTEM SET ssl = on;\n" RELOAD);
	SET(facts.host, "fd00::2");
	list(2);
	assert_non_null(strstr(remedy[0].operation, "subjectAltName=IP:fd00::2"));
}

static void
test_tls_required(void **state)
{
	start(CAUSE_TLS_REQUIRED);
	list(1);
	expect_sql("a", "SELECT format('ALTER SYSTEM SET leasehold.peer_options = %L', "
			   "btrim(regexp_replace(current_setting('leasehold.peer_options'), "
			   "'\\msslmode\\s*=\\s*\\S+', '', 'g') || ' sslmode=require')) \\gexec\n"
			   RELOAD);
	start_member(CAUSE_TLS_REQUIRED);
	list(1);
	expect_sql("a", "SHOW leasehold.store;");
}

static void
test_tls_certificate(void **state)
{
	start(CAUSE_TLS_CERTIFICATE);
	SET(facts.message, "SSL error: certificate verify failed");
	list(2);
	expect_shell("b", "D=/srv/pg && ( cd \"$D\" && cat \"$(psql -p 5432 -d postgres "
				 "-XAtc 'SHOW ssl_cert_file')\" )");
	expect_shell("a", "F=~/.postgresql/root.crt; mkdir -p \"$(dirname \"$F\")\" && "
				 "cat >> \"$F\"");
	SET(facts.message, "root certificate file \"/x y/root.crt\" does not exist");
	list(2);
	next = 1;
	expect_shell("a", "F='/x y/root.crt'; mkdir -p \"$(dirname \"$F\")\" && "
				 "cat >> \"$F\"");
}

#define CSR "D=/srv/pg && ( cd \"$D\" && openssl req -new -subj /CN=leasehold -addext " \
	"subjectAltName=DNS:b.example -key \"$(psql -p 5432 -d postgres -XAtc " \
	"'SHOW ssl_key_file')\" )"

static void
test_tls_name(void **state)
{
	start(CAUSE_TLS_NAME);
	SET(facts.message, "server certificate for \"db.example\" does not match host "
		"name \"b.example\"");
	list(2);
	expect_sql("b", ADVERTISE("host=db.example hostaddr=10.0.0.2 port=5432"));
	expect_shell("b", CSR);
	/* a name that no machine has */
	SET(facts.message, "server certificate for \"*.example\" does not match host "
		"name \"b\"");
	list(1);
	expect_shell("b", CSR);
	SET(facts.message, "server certificate for \"db");
	list(1);
}

static void
test_tls_client(void **state)
{
	start(CAUSE_TLS_CLIENT);
	SET(facts.user, "o'neil");
	list(3);
	expect_shell("a", "( umask 077 && mkdir -p ~/.postgresql && cd ~/.postgresql && "
				 "{ [ -e postgresql.key ] || openssl genrsa -out postgresql.key; } && "
				 "openssl req -new -subj '/CN=o'\\''neil' -key postgresql.key )");
	expect_shell("b", "D=/srv/pg && ( cd \"$D\" && openssl x509 -req -days 825 -CA "
				 "root.crt -CAkey root.key -CAcreateserial )");
	expect_shell("a", "cat > ~/.postgresql/postgresql.crt");
}

static void
test_tls(void **state)
{
	start(CAUSE_TLS);
	SET(facts.address, "fd00::2");
	list(3);
	expect_sql("b", "ALTER SYSTEM SET ssl_min_protocol_version = 'TLSv1.2';\n"
			   "ALTER SYSTEM SET ssl_max_protocol_version = '';\n" RELOAD);
	expect_shell("a", "openssl s_client -starttls postgres -connect [fd00::2]:5432 "
				 "</dev/null");
	expect_shell("a", "ping -c 3 -M do -s 1400 fd00::2");
	SET(facts.address, "");
	list(1);
}

/* ------------------------------------------------------------------------
 * pg_hba.conf
 * ------------------------------------------------------------------------
 */

static void
expect_line(const char *expected)
{
	char		line[512];

	assert_int_equal(remedy_hba_line(&facts, line, sizeof(line)),
					 expected[0] != '\0');
	assert_string_equal(line, expected);
}

static void
test_hba_line(void **state)
{
	start(CAUSE_NO_HBA);
	expect_line("host app leasehold 10.0.0.1/32 scram-sha-256");
	facts.encrypted = true;
	expect_line("hostssl app leasehold 10.0.0.1/32 scram-sha-256");
	SET(facts.from, "fd00::1");
	expect_line("hostssl app leasehold fd00::1/128 scram-sha-256");
	SET(facts.from, "::ffff:10.0.0.1");
	expect_line("hostssl app leasehold ::ffff:10.0.0.1/128 scram-sha-256");
	SET(facts.host, "/run/postgresql");
	expect_line("local app leasehold scram-sha-256");
	SET(facts.host, "@abstract");
	expect_line("local app leasehold scram-sha-256");
}

/* The source's own end is not known: then the best of what is. */
static void
test_hba_line_without_own_end(void **state)
{
	start(CAUSE_NO_HBA);
	SET(facts.from, "");
	SET(facts.source_host, "a.example");
	SET(facts.hba.address, "10.0.0.9");
	expect_line("host app leasehold a.example scram-sha-256");
	facts.hba_known = true;
	expect_line("host app leasehold 10.0.0.9/32 scram-sha-256");
	facts.hba_known = false;
	SET(facts.source_host, "10.0.0.8");
	expect_line("host app leasehold 10.0.0.8/32 scram-sha-256");
	SET(facts.source_host, "/run/postgresql");
	expect_line("host app leasehold samenet scram-sha-256");
	SET(facts.source_host, "");
	expect_line("host app leasehold samenet scram-sha-256");
	/* a network is more than one address, and then people judge */
	list(2);
	assert_false(remedy[0].safe);
	assert_false(remedy[1].safe);
}

static void
test_hba_line_names_itself_only(void **state)
{
	start(CAUSE_NO_HBA);
	SET(facts.user, "all");
	SET(facts.database, "replication");
	expect_line("host \"replication\" \"all\" 10.0.0.1/32 scram-sha-256");
	SET(facts.user, "+admins");
	SET(facts.database, "@file");
	expect_line("host \"@file\" \"+admins\" 10.0.0.1/32 scram-sha-256");
	SET(facts.user, "a \"b\"#,c");
	SET(facts.database, "Samerole");
	expect_line("host Samerole \"a \"\"b\"\"#,c\" 10.0.0.1/32 scram-sha-256");
	SET(facts.user, "ä");
	expect_line("host Samerole \"ä\" 10.0.0.1/32 scram-sha-256");
	/* a regular expression from 16 on, even in quotes */
	SET(facts.user, "/.*");
	expect_line("");
	/* a line of its own */
	SET(facts.user, "x\nhost all all 0.0.0.0/0 scram-sha-256");
	expect_line("");
	/* everybody */
	SET(facts.user, "public");
	expect_line("");
	SET(facts.user, "u");
	SET(facts.from, "0.0.0.0/0");
	expect_line("host Samerole u samenet scram-sha-256");
	SET(facts.from, "10.0.0.1 ");
	expect_line("host Samerole u samenet scram-sha-256");
	SET(facts.from, "10.0.0.256");
	expect_line("host Samerole u samenet scram-sha-256");
	SET(facts.from, "10.0.1");
	expect_line("host Samerole u samenet scram-sha-256");
	SET(facts.from, "1::2/0");
	expect_line("host Samerole u samenet scram-sha-256");
	SET(facts.source_host, "all");
	expect_line("host Samerole u \"all\" scram-sha-256");
}

#define LINE "'host app leasehold 10.0.0.1/32 scram-sha-256'"
#define BEFORE(n) "F=/srv/pg/pg_hba.conf && cp -p \"$F\" \"$F.new\" && L=" LINE \
	" awk 'NR == " n " { print ENVIRON[\"L\"] } { print }' \"$F\" > \"$F.new\" && " \
	"mv \"$F.new\" \"$F\""

static void
test_no_hba(void **state)
{
	start(CAUSE_NO_HBA);
	list(2);
	expect("b", REMEDY_SHELL, ACTION_HBA_LINE,
		   "F=/srv/pg/pg_hba.conf && printf '\\n%s\\n' " LINE " >> \"$F\"");
	expect("b", REMEDY_SQL, ACTION_RELOAD, RELOAD);
	/* no line is met: the report says so, too */
	facts.hba_known = true;
	list(2);
	assert_non_null(strstr(remedy[0].operation, ">> \"$F\""));
	/* before the one that is met */
	facts.hba.line = 7;
	list(2);
	expect("b", REMEDY_SHELL, ACTION_HBA_LINE, BEFORE("7"));
	expect("b", REMEDY_SQL, ACTION_RELOAD, RELOAD);
}

static void
test_no_hba_where_the_file_is_not_known(void **state)
{
	start_unknown(CAUSE_NO_HBA);
	list(2);
	expect("b", REMEDY_SHELL, ACTION_HBA_LINE,
		   "F=$(psql -p 5432 -d postgres -XAtc 'SHOW hba_file') && "
		   "printf '\\n%s\\n' " LINE " >> \"$F\"");
	start(CAUSE_NO_HBA);
	SET(facts.of_target.hba_file, "/it's/hba");
	list(2);
	expect("b", REMEDY_SHELL, ACTION_HBA_LINE,
		   "F='/it'\\''s/hba' && printf '\\n%s\\n' " LINE " >> \"$F\"");
	/* in a group of standbys it is still the target's file */
	start(CAUSE_NO_HBA);
	facts.of_target.physical = true;
	SET(facts.holder, "c");
	list(2);
	assert_string_equal(remedy[0].run_on, "b");
	assert_string_equal(remedy[1].run_on, "b");
}

static void
test_hba_rejects(void **state)
{
	start(CAUSE_HBA_REJECTS);
	facts.hba_known = true;
	facts.hba.line = 3;
	list(2);
	expect_shell("b", BEFORE("3"));
	expect_sql("b", RELOAD);
	/* which line is not known: before all */
	facts.hba_known = false;
	list(2);
	expect_shell("b", BEFORE("1"));
}

#define PASSWORD(file, line) "( F=" file "; umask 077; touch \"$F\" && " \
	"{ printf '%s\\n' " line "; cat \"$F\"; } > \"$F.new\" && chmod 600 \"$F.new\" && " \
	"mv \"$F.new\" \"$F\" )"

static void
test_authentication(void **state)
{
	start(CAUSE_AUTHENTICATION);
	facts.hba_known = true;
	facts.hba.line = 3;
	list(3);
	expect_shell("b", BEFORE("3"));
	expect_sql("b", RELOAD);
	expect_shell("a", PASSWORD("~/.pgpass",
							   "'b.example:5432:app:leasehold:<password>'"));
}

/* ------------------------------------------------------------------------
 * Passwords
 * ------------------------------------------------------------------------
 */

static void
test_no_password(void **state)
{
	start(CAUSE_NO_PASSWORD);
	list_with_source(2, 5432, "/var/lib/my pass");
	expect_shell("a", PASSWORD("'/var/lib/my pass'",
							   "'b.example:5432:app:leasehold:<password>'"));
	expect_sql("b", "\\password \"leasehold\"");
	SET(facts.host, "fd00::2");
	SET(facts.user, "a:b\\c'd");
	list_with_source(2, 5432, "");
	expect_shell("a", PASSWORD("~/.pgpass", "'fd00\\:\\:2:5432:app:"
							   "a\\:b\\\\c'\\''d:<password>'"));
	SET(facts.host, "/tmp");
	SET(facts.user, "u");
	list(2);
	expect_shell("a", PASSWORD("~/.pgpass", "'*:5432:app:u:<password>'"));
	/* that of the options is for peers */
	start_member(CAUSE_NO_PASSWORD);
	list_with_source(2, 5432, "/var/lib/my pass");
	assert_non_null(strstr(remedy[0].operation, "F=~/.pgpass;"));
}

static void
test_wrong_password(void **state)
{
	start(CAUSE_WRONG_PASSWORD);
	SET(facts.user, "o'n\"x");
	list(2);
	expect_sql("b", "SELECT format('CREATE ROLE %I LOGIN', 'o''n\"x') WHERE NOT EXISTS "
			   "(SELECT FROM pg_roles WHERE rolname = 'o''n\"x') \\gexec\n"
			   "\\password \"o'n\"\"x\"");
	expect_shell("a", PASSWORD("~/.pgpass",
							   "'b.example:5432:app:o'\\''n\"x:<password>'"));
}

/* ------------------------------------------------------------------------
 * What is written: roles, grants, databases, the extension
 * ------------------------------------------------------------------------
 */

static void
test_no_role(void **state)
{
	start(CAUSE_NO_ROLE);
	list(2);
	expect("b", REMEDY_SQL, ACTION_CREATE_ROLE, "CREATE ROLE \"leasehold\" LOGIN;");
	expect("b", REMEDY_SQL, ACTION_GRANT_MONITOR, "GRANT pg_monitor TO \"leasehold\";");
	SET(facts.user, "We \"ird");
	list(2);
	expect("b", REMEDY_SQL, ACTION_CREATE_ROLE, "CREATE ROLE \"We \"\"ird\" LOGIN;");

	start_member(CAUSE_NO_ROLE);
	list(2);
	expect_sql("m:5432/leasehold_store", "CREATE ROLE \"leasehold\" LOGIN;");
	expect_sql("m:5432/leasehold_store", "\\connect \"leasehold_store\"\n"
			   "GRANT USAGE ON SCHEMA leasehold_store TO \"leasehold\";\n"
			   GRANT_TABLES);
}

static void
test_no_login(void **state)
{
	start(CAUSE_NO_LOGIN);
	list(1);
	expect("b", REMEDY_SQL, ACTION_ALLOW_LOGIN, "ALTER ROLE \"leasehold\" LOGIN;");
}

/* Streaming standbys: the holder writes for all of them. */
static void
test_written_by_the_holder(void **state)
{
	start(CAUSE_NO_LOGIN);
	facts.of_target.physical = true;
	facts.of_target.fenced = true;
	SET(facts.holder, "c");
	list(1);
	expect("c", REMEDY_SQL, ACTION_ALLOW_LOGIN, "ALTER ROLE \"leasehold\" LOGIN;");
	/* nobody holds it: whoever will, is not known */
	SET(facts.holder, "");
	list(1);
	expect("b", REMEDY_SQL, ACTION_ALLOW_LOGIN, "ALTER ROLE \"leasehold\" LOGIN;");
	/* clusters of their own: everybody for himself, whoever holds the lease */
	facts.of_target.physical = false;
	facts.of_target.fenced = false;
	SET(facts.holder, "c");
	list(1);
	expect("b", REMEDY_SQL, ACTION_ALLOW_LOGIN, "ALTER ROLE \"leasehold\" LOGIN;");
	/* a member belongs to no group */
	start_member(CAUSE_NO_LOGIN);
	SET(facts.holder, "c");
	facts.target_known = true;
	facts.of_target.physical = true;
	list(1);
	expect_sql("m:5432/leasehold_store", "ALTER ROLE \"leasehold\" LOGIN;");
}

static void
test_written_on_a_fenced_node(void **state)
{
	start(CAUSE_NO_CONNECT);
	facts.of_target.fenced = true;
	SET(facts.holder, "c");
	list(1);
	expect("b", REMEDY_SQL, ACTION_GRANT_CONNECT,
		   "SET leasehold.local_ddl = on;\n"
		   "GRANT CONNECT ON DATABASE \"app\" TO \"leasehold\";");
	/* the setting is the session's, so it comes after the connection */
	facts.cause = CAUSE_NO_EXTENSION;
	list(1);
	expect("b", REMEDY_SQL, ACTION_CREATE_EXTENSION,
		   "\\connect \"app\"\n"
		   "SET leasehold.local_ddl = on;\n"
		   "CREATE EXTENSION IF NOT EXISTS leasehold;\n"
		   "ALTER EXTENSION leasehold UPDATE;");
	/* configuration is not fenced */
	facts.cause = CAUSE_NOT_PRELOADED;
	list(2);
	assert_null(strstr(remedy[0].operation, "local_ddl"));
}

static void
test_no_database(void **state)
{
	start(CAUSE_NO_DATABASE);
	list(2);
	expect_sql("b", "CREATE DATABASE \"app\";");
	expect_sql("b", "\\connect \"app\"\nCREATE EXTENSION IF NOT EXISTS leasehold;\n"
			   "ALTER EXTENSION leasehold UPDATE;");
	start_member(CAUSE_NO_DATABASE);
	list(2);
	expect_sql("m:5432/leasehold_store", "CREATE DATABASE \"leasehold_store\" "
			   "OWNER \"leasehold\";");
	assert_non_null(strstr(remedy[1].operation, "leasehold-store.sql"));
}

static void
test_no_connect(void **state)
{
	start(CAUSE_NO_CONNECT);
	list(1);
	expect("b", REMEDY_SQL, ACTION_GRANT_CONNECT,
		   "GRANT CONNECT ON DATABASE \"app\" TO \"leasehold\";");
}

static void
test_database_closed(void **state)
{
	start(CAUSE_DATABASE_CLOSED);
	list(1);
	expect_sql("b", "ALTER DATABASE \"app\" ALLOW_CONNECTIONS true;");
}

static void
test_too_many(void **state)
{
	start(CAUSE_TOO_MANY);
	list(3);
	next = 1;
	expect_sql("b", "ALTER SYSTEM SET max_connections = 150;");
	expect_shell("b", PG_CTL("restart"));
	start_unknown(CAUSE_TOO_MANY);
	list(3);
	next = 1;
	expect_sql("b", "ALTER SYSTEM SET max_connections = 150;");
}

static void
test_too_many_of_role(void **state)
{
	start(CAUSE_TOO_MANY_OF_ROLE);
	list(2);
	expect_sql("b", "ALTER ROLE \"leasehold\" CONNECTION LIMIT -1;");
	expect_sql("b", "ALTER DATABASE \"app\" CONNECTION LIMIT -1;");
}

/* ------------------------------------------------------------------------
 * Servers that take no connections; and what has to be behind the door
 * ------------------------------------------------------------------------
 */

static void
test_starting(void **state)
{
	start(CAUSE_STARTING);
	list(1);
	expect_shell("a", "until pg_isready -q -h b.example -p 5432; do sleep 1; done");
}

static void
test_stopping(void **state)
{
	start(CAUSE_STOPPING);
	list(2);
	expect_shell("b", "D=/srv/pg && while kill -s 0 \"$(head -n 1 "
				 "\"$D/postmaster.pid\")\"; do sleep 1; done 2>/dev/null");
	expect_shell("b", PG_CTL("start"));
	start_unknown(CAUSE_STOPPING);
	list(1);
	expect_shell("b", "systemctl start postgresql");
}

static void
test_no_standby_sessions(void **state)
{
	start(CAUSE_NO_STANDBY_SESSIONS);
	list(2);
	expect("b", REMEDY_CONFIGURATION, ACTION_NONE,
		   "# /srv/pg/postgresql.conf\nhot_standby = on");
	expect_shell("b", PG_CTL("restart"));
}

static void
test_not_preloaded(void **state)
{
	start(CAUSE_NOT_PRELOADED);
	list(2);
	expect_sql("b", "SELECT 'ALTER SYSTEM SET shared_preload_libraries = ' || "
			   "string_agg(quote_literal(btrim(l, ' \"')), ', ') FROM "
			   "unnest(string_to_array(concat_ws(',', "
			   "nullif(current_setting('shared_preload_libraries'), ''), "
			   "'leasehold'), ',')) l \\gexec");
	expect_shell("b", PG_CTL("restart"));
	/* a plain server at the address, beside the node */
	facts.of_target.port = 5433;
	list(1);
	expect_sql("b", ADVERTISE("host=b.example port=5433"));
}

static void
test_no_extension(void **state)
{
	start(CAUSE_NO_EXTENSION);
	list(1);
	expect("b", REMEDY_SQL, ACTION_CREATE_EXTENSION,
		   "\\connect \"app\"\nCREATE EXTENSION IF NOT EXISTS leasehold;\n"
		   "ALTER EXTENSION leasehold UPDATE;");
}

static void
test_no_privilege(void **state)
{
	start(CAUSE_NO_PRIVILEGE);
	list(2);
	expect("b", REMEDY_SQL, ACTION_GRANT_MONITOR, "GRANT pg_monitor TO \"leasehold\";");
	expect_sql("b", "\\connect \"app\"\n"
			   "GRANT USAGE ON SCHEMA leasehold TO \"leasehold\";\n"
			   "GRANT EXECUTE ON FUNCTION leasehold.identity() TO \"leasehold\";");
}

static void
test_no_store(void **state)
{
	start_member(CAUSE_NO_STORE);
	SET(facts.user, "o'neil");
	list_with_source(1, 5433, "");
	expect_shell("a", "psql -X -v ON_ERROR_STOP=1 -1 -d 'host=m port=5432 "
				 "dbname=leasehold_store user='\\''o\\'\\''neil'\\''' -f "
				 "\"$(psql -p 5433 -d postgres -XAtc \"SELECT setting || "
				 "'/extension/leasehold-store.sql' FROM pg_config WHERE name = "
				 "'SHAREDIR'\")\"");
}

static void
test_no_store_privilege(void **state)
{
	start_member(CAUSE_NO_STORE_PRIVILEGE);
	list(1);
	expect_sql("m:5432/leasehold_store", "\\connect \"leasehold_store\"\n"
			   "GRANT USAGE ON SCHEMA leasehold_store TO \"leasehold\";\n"
			   GRANT_TABLES);
}

static void
test_other(void **state)
{
	start(CAUSE_OTHER);
	SET(facts.database, "a b");
	list(1);
	expect_shell("a", "psql -X -d 'host=b.example port=5432 dbname='\\''a b'\\'' "
				 "user=leasehold' -c 'SELECT 1'");
}

/* ------------------------------------------------------------------------
 * What does not fit, or cannot be said
 * ------------------------------------------------------------------------
 */

static void
expect_explained(void)
{
	char		text[256];

	list(1);
	snprintf(text, sizeof(text), "# %s", cause_text(facts.cause));
	expect("b", REMEDY_CONFIGURATION, ACTION_NONE, text);
}

static void
test_what_cannot_be_said(void **state)
{
	/* not half of the list: the reload alone would mend nothing */
	start(CAUSE_NO_HBA);
	SET(facts.user, "a\nb");
	expect_explained();
	/* a grant to everybody */
	start(CAUSE_NO_CONNECT);
	SET(facts.user, "public");
	expect_explained();
	start(CAUSE_NO_PRIVILEGE);
	SET(facts.user, "none");
	expect_explained();
	/* an option in the place of a name */
	start(CAUSE_NO_ADDRESS);
	SET(facts.host, "-s");
	expect_explained();
	/* too long: quoted for sh, every quote is four characters */
	start(CAUSE_NO_HBA);
	facts.hba_known = true;
	facts.hba.line = 1;
	memset(facts.of_target.hba_file, '\'', 255);
	expect_explained();
}

static void
test_defaults(void **state)
{
	start(CAUSE_NO_CONNECT);
	SET(facts.user, "");
	SET(facts.database, "");
	list(1);
	expect("b", REMEDY_SQL, ACTION_GRANT_CONNECT,
		   "GRANT CONNECT ON DATABASE \"postgres\" TO \"leasehold\";");
	facts.source_known = true;
	SET(facts.of_source.peer_user, "peer");
	SET(facts.of_source.peer_database, "pd");
	list(1);
	expect("b", REMEDY_SQL, ACTION_GRANT_CONNECT,
		   "GRANT CONNECT ON DATABASE \"pd\" TO \"peer\";");
}

static void
test_text(void **state)
{
	char		buffer[8];
	Text		text;

	text_begin(&text, buffer, sizeof(buffer));
	text_add(&text, "%s%d", "abcd", 123);
	assert_false(text.failed);
	assert_string_equal(buffer, "abcd123");
	text_add(&text, "%s", "x");
	assert_true(text.failed);
	assert_string_equal(buffer, "abcd123");
	text_begin(&text, buffer, sizeof(buffer));
	text_add(&text, "%I", "");
	assert_true(text.failed);
	text_begin(&text, buffer, sizeof(buffer));
	text_add(&text, "%S%%", "");
	assert_false(text.failed);
	assert_string_equal(buffer, "''%");

	assert_int_equal(text_address_family("10.0.0.1"), 4);
	assert_int_equal(text_address_family("255.255.255.255"), 4);
	assert_int_equal(text_address_family("::1"), 6);
	assert_int_equal(text_address_family("fe80::1%eth0"), 0);
	assert_int_equal(text_address_family(""), 0);
	assert_int_equal(text_address_family("1.2.3.4.5"), 0);
	assert_int_equal(text_address_family("1.2.3."), 0);
	assert_int_equal(text_address_family("0000001.2.3.4"), 0);
	assert_int_equal(text_address_family("host"), 0);
	assert_int_equal(text_address_family("a:b"), 0);
}

/* ------------------------------------------------------------------------
 * What only the target knows
 * ------------------------------------------------------------------------
 */

static ReportHba plain;
static ReportHba encrypted;

static Cause
refine(Cause cause, bool with_tls)
{
	Fault		fault = {0};

	fault.encrypted = with_tls;
	return cause_with_hba(cause, &fault, &plain, &encrypted);
}

static void
meets(int plain_line, const char *plain_method, int encrypted_line,
	  const char *encrypted_method)
{
	memset(&plain, 0, sizeof(plain));
	memset(&encrypted, 0, sizeof(encrypted));
	plain.line = plain_line;
	SET(plain.method, plain_method);
	encrypted.line = encrypted_line;
	encrypted.encrypted = true;
	SET(encrypted.method, encrypted_method);
}

static void
test_cause_with_hba(void **state)
{
	Fault		fault = {0};

	meets(0, "", 0, "");
	assert_int_equal(refine(CAUSE_NO_HBA, false), CAUSE_NO_HBA);
	assert_int_equal(refine(CAUSE_HBA_REJECTS, false), CAUSE_HBA_REJECTS);
	/* hostssl only */
	meets(0, "", 5, "scram-sha-256");
	assert_int_equal(refine(CAUSE_NO_HBA, false), CAUSE_TLS_REQUIRED);
	assert_int_equal(refine(CAUSE_NO_HBA, true), CAUSE_NO_HBA);
	/* hostnossl ... reject, and hostssl */
	meets(3, "reject", 5, "cert");
	assert_int_equal(refine(CAUSE_HBA_REJECTS, false), CAUSE_TLS_REQUIRED);
	assert_int_equal(refine(CAUSE_NO_HBA, true), CAUSE_NO_HBA);
	/* reject, and its words were not understood */
	meets(3, "reject", 3, "reject");
	assert_int_equal(refine(CAUSE_NO_HBA, false), CAUSE_HBA_REJECTS);
	assert_int_equal(refine(CAUSE_NO_HBA, true), CAUSE_HBA_REJECTS);
	meets(0, "", 3, "reject");
	assert_int_equal(refine(CAUSE_NO_HBA, false), CAUSE_NO_HBA);
	assert_int_equal(refine(CAUSE_NO_HBA, true), CAUSE_HBA_REJECTS);
	/* let in by both: the report is newer than the failure */
	meets(3, "scram-sha-256", 3, "scram-sha-256");
	assert_int_equal(refine(CAUSE_NO_HBA, false), CAUSE_NO_HBA);
	/* nothing else is touched */
	meets(0, "", 5, "scram-sha-256");
	assert_int_equal(refine(CAUSE_WRONG_PASSWORD, false), CAUSE_WRONG_PASSWORD);
	/* nothing known */
	assert_int_equal(cause_with_hba(CAUSE_NO_HBA, &fault, NULL, NULL), CAUSE_NO_HBA);
	assert_int_equal(cause_with_hba(CAUSE_NO_HBA, &fault, NULL, &encrypted),
					 CAUSE_TLS_REQUIRED);
	/* no TLS on a local socket */
	fault.local = true;
	assert_int_equal(cause_with_hba(CAUSE_NO_HBA, &fault, &plain, &encrypted),
					 CAUSE_NO_HBA);
}

static void
test_names(void **state)
{
	for (int i = ACTION_NONE; i <= ACTION_GRANT_MONITOR; i++)
		assert_int_equal(remedy_action_of(remedy_action_name(i)), i);
	assert_string_equal(remedy_action_name(ACTION_HBA_LINE), "hba_line");
	assert_int_equal(remedy_action_of("rm"), -1);
	assert_string_equal(remedy_action_name((RemedyAction) 99), "none");
	assert_string_equal(remedy_kind_name(REMEDY_SQL), "sql");
	assert_string_equal(remedy_kind_name(REMEDY_CONFIGURATION), "configuration");
	assert_string_equal(remedy_kind_name(REMEDY_SHELL), "shell");
	assert_string_equal(remedy_kind_name((RemedyKind) 99), "");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_cause),
		cmocka_unit_test(test_what_is_safe),
		cmocka_unit_test(test_bad_address),
		cmocka_unit_test(test_no_address),
		cmocka_unit_test(test_refused_as_it_is_down),
		cmocka_unit_test(test_refused_as_it_listens_elsewhere),
		cmocka_unit_test(test_refused_though_it_listens),
		cmocka_unit_test(test_refused_by_whom_nobody_knows),
		cmocka_unit_test(test_firewall),
		cmocka_unit_test(test_firewall_takes_nothing_but_addresses),
		cmocka_unit_test(test_no_socket),
		cmocka_unit_test(test_closed),
		cmocka_unit_test(test_silent),
		cmocka_unit_test(test_not_postgres),
		cmocka_unit_test(test_wrong_server),
		cmocka_unit_test(test_tls_missing),
		cmocka_unit_test(test_tls_required),
		cmocka_unit_test(test_tls_certificate),
		cmocka_unit_test(test_tls_name),
		cmocka_unit_test(test_tls_client),
		cmocka_unit_test(test_tls),
		cmocka_unit_test(test_hba_line),
		cmocka_unit_test(test_hba_line_without_own_end),
		cmocka_unit_test(test_hba_line_names_itself_only),
		cmocka_unit_test(test_no_hba),
		cmocka_unit_test(test_no_hba_where_the_file_is_not_known),
		cmocka_unit_test(test_hba_rejects),
		cmocka_unit_test(test_authentication),
		cmocka_unit_test(test_no_password),
		cmocka_unit_test(test_wrong_password),
		cmocka_unit_test(test_no_role),
		cmocka_unit_test(test_no_login),
		cmocka_unit_test(test_written_by_the_holder),
		cmocka_unit_test(test_written_on_a_fenced_node),
		cmocka_unit_test(test_no_database),
		cmocka_unit_test(test_no_connect),
		cmocka_unit_test(test_database_closed),
		cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_too_many_of_role),
		cmocka_unit_test(test_starting),
		cmocka_unit_test(test_stopping),
		cmocka_unit_test(test_no_standby_sessions),
		cmocka_unit_test(test_not_preloaded),
		cmocka_unit_test(test_no_extension),
		cmocka_unit_test(test_no_privilege),
		cmocka_unit_test(test_no_store),
		cmocka_unit_test(test_no_store_privilege),
		cmocka_unit_test(test_other),
		cmocka_unit_test(test_what_cannot_be_said),
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_cause_with_hba),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests_name("remedy", tests, NULL, NULL);
}
