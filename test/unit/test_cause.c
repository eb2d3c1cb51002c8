/*
 * test_cause.c
 *		Why a connection attempt failed, from what libpq really leaves behind.
 *
 * The messages are those of PostgreSQL 15 to 18, as seen with PQERRORS_VERBOSE:
 * some of them in German, which must not matter.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cause.h"

/* cmocka hands every test a state; these keep theirs below */
#pragma GCC diagnostic ignored "-Wunused-parameter"

#define AT		"connection to server at \"127.0.0.1\", port 5432 failed: "
#define AT_DE	"Verbindung zum Server auf »127.0.0.1«, Port 5432 fehlgeschlagen: "
#define HINT	"\tIs the server running on that host and accepting TCP/IP connections?\n"
#define CLOSED	"server closed the connection unexpectedly\n" \
	"\tThis probably means the server terminated abnormally\n" \
	"\tbefore or while processing the request.\n"

static Fault fault;
static bool seen[CAUSE_COUNT];

static void
start(PathPhase phase)
{
	memset(&fault, 0, sizeof(fault));
	fault.phase = phase;
}

/* What "fault" amounts to. */
static void
expect(Cause cause, PathPhase phase)
{
	PathPhase	found = PHASE_COUNT;

	assert_string_equal(cause_name(cause_of(&fault, &found)), cause_name(cause));
	assert_int_equal(found, phase);
	seen[cause] = true;
}

/* This text, left behind in this phase, amounts to that. */
static void
expect_text(PathPhase at, const char *text, Cause cause, PathPhase phase)
{
	start(at);
	fault_of_message(&fault, text);
	expect(cause, phase);
}

/* The common case: while the connection is being made, at the server's door. */
static void
expect_at_door(const char *text, Cause cause, PathPhase phase)
{
	expect_text(PHASE_AUTHENTICATE, text, cause, phase);
}

static void
expect_fault(bool by_server, const char *sqlstate, const char *routine,
			 const char *message)
{
	assert_int_equal(fault.by_server, by_server);
	assert_string_equal(fault.sqlstate, sqlstate);
	assert_string_equal(fault.routine, routine);
	assert_string_equal(fault.message, message);
}

/* ------------------------------------------------------------------------
 * Resolve, connect
 * ------------------------------------------------------------------------
 */

static void
test_bad_address(void **state)
{
	static const char *const texts[] = {
		"invalid port number: \"99999\"\n",
		"invalid connection option \"nosuch\"\n",
		"invalid sslmode value: \"nosuch\"\n",
		"invalid \"ssl_min_protocol_version\" value: \"x\"\n",
		"invalid integer value \"x y\" for connection option \"port\"\n",
		"unexpected spaces found in \"x y\", use percent-encoded spaces (%20) instead\n",
		"could not parse network address \"nosuch\": Name or service not known\n",
		"missing \"=\" after \"nosuch\" in connection info string\n",
		"could not match 2 port numbers to 3 hosts\n",
		NULL
	};

	for (int i = 0; texts[i] != NULL; i++)
		expect_text(PHASE_RESOLVE, texts[i], CAUSE_BAD_ADDRESS, PHASE_RESOLVE);
}

static void
test_no_address(void **state)
{
	expect_text(PHASE_RESOLVE, "could not translate host name \"nosuch.invalid\" "
				"to address: Name or service not known\n",
				CAUSE_NO_ADDRESS, PHASE_RESOLVE);
	expect_text(PHASE_CONNECT, "could not translate host name \"nosuch.invalid\" "
				"to address: Name or service not known\n",
				CAUSE_NO_ADDRESS, PHASE_RESOLVE);
	/* the prober's own resolver says only this */
	expect_text(PHASE_RESOLVE, "Temporary failure in name resolution",
				CAUSE_NO_ADDRESS, PHASE_RESOLVE);
	start(PHASE_RESOLVE);
	fault.timed_out = true;
	expect(CAUSE_NO_ADDRESS, PHASE_RESOLVE);
}

static void
test_refused(void **state)
{
	expect_text(PHASE_CONNECT, AT "Connection refused\n" HINT, CAUSE_REFUSED,
				PHASE_CONNECT);
	expect_fault(false, "", "", "Connection refused");
	assert_int_equal(fault.error, ECONNREFUSED);
	/* libpq's state does not yet tell it from a name that does not resolve */
	expect_text(PHASE_RESOLVE, AT "Connection refused\n" HINT, CAUSE_REFUSED,
				PHASE_CONNECT);
	/* the caller may know better than libpq tells */
	start(PHASE_CONNECT);
	fault.error = ECONNREFUSED;
	expect(CAUSE_REFUSED, PHASE_CONNECT);
	/* a socket whose server died */
	fault.local = true;
	expect(CAUSE_REFUSED, PHASE_CONNECT);
}

static void
test_timeout(void **state)
{
	start(PHASE_CONNECT);
	fault.timed_out = true;
	fault_of_message(&fault, AT);
	expect(CAUSE_TIMEOUT, PHASE_CONNECT);
	expect_fault(false, "", "", "");
	expect_text(PHASE_CONNECT, AT "Connection timed out\n" HINT, CAUSE_TIMEOUT,
				PHASE_CONNECT);
}

static void
test_no_route(void **state)
{
	expect_text(PHASE_CONNECT, AT "No route to host\n" HINT, CAUSE_NO_ROUTE,
				PHASE_CONNECT);
	expect_text(PHASE_CONNECT, AT "Network is unreachable\n" HINT,
				CAUSE_NO_ROUTE, PHASE_CONNECT);
	/* routes that say prohibit and blackhole */
	expect_text(PHASE_CONNECT, AT "Permission denied\n" HINT, CAUSE_NO_ROUTE,
				PHASE_CONNECT);
	expect_text(PHASE_CONNECT, AT "Invalid argument\n" HINT, CAUSE_NO_ROUTE,
				PHASE_CONNECT);
}

static void
test_no_socket(void **state)
{
	static const char *const texts[] = {
		"connection to server on socket \"/tmp/x/.s.PGSQL.5432\" failed: "
		"No such file or directory\n"
		"\tIs the server running locally and accepting connections on that socket?\n",
		"connection to server on socket \"/tmp/x/.s.PGSQL.5432\" failed: "
		"Permission denied\n"
		"\tIs the server running locally and accepting connections on that socket?\n",
	};

	for (int i = 0; i < 2; i++)
	{
		start(PHASE_RESOLVE);
		fault.local = true;
		fault_of_message(&fault, texts[i]);
		expect(CAUSE_NO_SOCKET, PHASE_CONNECT);
	}
	expect_text(PHASE_RESOLVE, texts[0], CAUSE_NO_SOCKET, PHASE_CONNECT);
}

static void
test_closed(void **state)
{
	expect_text(PHASE_TLS, AT CLOSED, CAUSE_CLOSED, PHASE_CONNECT);
	expect_at_door(AT CLOSED, CAUSE_CLOSED, PHASE_CONNECT);
	expect_fault(false, "", "", "server closed the connection unexpectedly");
	expect_at_door(AT "could not receive data from server: "
				   "Connection reset by peer\n", CAUSE_CLOSED, PHASE_CONNECT);
	expect_at_door(AT "SSL SYSCALL error: EOF detected\n", CAUSE_CLOSED,
				   PHASE_CONNECT);
	expect_at_door(AT "SSL error: unexpected eof while reading\n", CAUSE_CLOSED,
				   PHASE_CONNECT);
	expect_at_door(AT "SSL connection has been closed unexpectedly\n",
				   CAUSE_CLOSED, PHASE_CONNECT);
	/* it had let us in: that is not where the path ends */
	expect_text(PHASE_READY, CLOSED, CAUSE_CLOSED, PHASE_READY);
}

static void
test_silent(void **state)
{
	for (PathPhase phase = PHASE_TLS; phase < PHASE_COUNT; phase++)
	{
		start(phase);
		fault.timed_out = true;
		fault_of_message(&fault, AT);
		expect(CAUSE_SILENT, phase > PHASE_AUTHENTICATE ? phase : PHASE_CONNECT);
	}
}

static void
test_not_postgres(void **state)
{
	expect_at_door(AT "expected authentication request from server, but received H\n",
				   CAUSE_NOT_POSTGRES, PHASE_CONNECT);
	expect_text(PHASE_TLS, AT "received invalid response to SSL negotiation: H\n",
				CAUSE_NOT_POSTGRES, PHASE_CONNECT);
	/* "S" of an SSH server's banner looks like a yes to TLS */
	expect_at_door(AT "SSL error: wrong version number\n"
				   "This may indicate that the server does not support any SSL "
				   "protocol version between TLSv1.2 and TLSv1.3.\n"
				   AT "expected authentication request from server, but received S\n",
				   CAUSE_NOT_POSTGRES, PHASE_CONNECT);
	/* a control character is what was received */
	expect_text(PHASE_TLS, AT "received invalid response to SSL negotiation: \025\n",
				CAUSE_NOT_POSTGRES, PHASE_CONNECT);
	expect_fault(false, "", "", "received invalid response to SSL negotiation:  ");
}

/* ------------------------------------------------------------------------
 * TLS
 * ------------------------------------------------------------------------
 */

static void
test_tls_missing(void **state)
{
	expect_text(PHASE_TLS, AT "server does not support SSL, but SSL was required\n",
				CAUSE_TLS_MISSING, PHASE_TLS);
}

static void
test_tls_certificate(void **state)
{
	expect_text(PHASE_TLS, AT "SSL error: certificate verify failed\n",
				CAUSE_TLS_CERTIFICATE, PHASE_TLS);
	expect_text(PHASE_TLS, AT "SSL error: certificate verify failed: "
				"self-signed certificate\n", CAUSE_TLS_CERTIFICATE, PHASE_TLS);
	expect_text(PHASE_TLS, AT "root certificate file \"/x/root.crt\" does not exist\n"
				"Either provide the file or change sslmode to disable server "
				"certificate verification.\n", CAUSE_TLS_CERTIFICATE, PHASE_TLS);
	expect_fault(false, "", "",
				 "root certificate file \"/x/root.crt\" does not exist");
	/* OpenSSL speaks English only */
	expect_text(PHASE_TLS, AT_DE "SSL-Fehler: certificate verify failed\n",
				CAUSE_TLS_CERTIFICATE, PHASE_TLS);
}

static void
test_tls_name(void **state)
{
	expect_text(PHASE_TLS, AT "server certificate for \"db.example\" does not match "
				"host name \"127.0.0.1\"\n", CAUSE_TLS_NAME, PHASE_TLS);
	expect_text(PHASE_TLS, AT "server certificate for \"db.example\" (and 2 other "
				"names) does not match host name \"db\"\n", CAUSE_TLS_NAME,
				PHASE_TLS);
}

static void
test_tls_client(void **state)
{
	expect_at_door(AT "FATAL:  28000: connection requires a valid client certificate\n"
				   "LOCATION:  ClientAuthentication, auth.c:428\n",
				   CAUSE_TLS_CLIENT, PHASE_TLS);
	expect_at_door(AT_DE "FATAL:  28000: Verbindung erfordert ein gültiges "
				   "Client-Zertifikat\nORT:  ClientAuthentication, auth.c:428\n",
				   CAUSE_TLS_CLIENT, PHASE_TLS);
	/* TLS 1.3: told of only after the server's half of the handshake */
	expect_at_door(AT "SSL error: tlsv1 alert unknown ca\n", CAUSE_TLS_CLIENT,
				   PHASE_TLS);
	expect_at_door(AT "SSL error: sslv3 alert certificate expired\n",
				   CAUSE_TLS_CLIENT, PHASE_TLS);
	expect_text(PHASE_TLS, AT "certificate present, but not private key file "
				"\"/x/postgresql.key\"\n", CAUSE_TLS_CLIENT, PHASE_TLS);
	expect_text(PHASE_TLS, AT "private key file \"/x/key\" has group or world access; "
				"file must have permissions u=rw (0600) or less\n",
				CAUSE_TLS_CLIENT, PHASE_TLS);
	expect_text(PHASE_TLS, AT "could not open certificate file \"/x/crt\": "
				"No such file or directory\n", CAUSE_TLS_CLIENT, PHASE_TLS);
}

static void
test_tls(void **state)
{
	expect_text(PHASE_TLS, AT "SSL error: wrong version number\n"
				"This may indicate that the server does not support any SSL "
				"protocol version between TLSv1.2 and TLSv1.3.\n",
				CAUSE_TLS, PHASE_TLS);
	expect_text(PHASE_TLS, AT "SSL SYSCALL error: EOF detected\n", CAUSE_TLS,
				PHASE_TLS);
	expect_text(PHASE_TLS, AT "SSL error: unexpected eof while reading\n", CAUSE_TLS,
				PHASE_TLS);
	/* the server has agreed, and then packets of full size are lost */
	start(PHASE_TLS);
	fault.timed_out = true;
	fault.encrypted = true;
	expect(CAUSE_TLS, PHASE_TLS);
}

/* ------------------------------------------------------------------------
 * Authenticate
 * ------------------------------------------------------------------------
 */

#define NO_HBA(how) "FATAL:  28000: no pg_hba.conf entry for host \"127.0.0.1\", " \
	"user \"pwu\", database \"tdb\", " how "\n" \
	"LOCATION:  ClientAuthentication, auth.c:544\n"
#define WRONG_PASSWORD "FATAL:  28P01: password authentication failed for user " \
	"\"pwu\"\nLOCATION:  auth_failed, auth.c:334\n"

static void
test_no_hba(void **state)
{
	expect_at_door(AT NO_HBA("no encryption"), CAUSE_NO_HBA, PHASE_AUTHENTICATE);
	expect_fault(true, "28000", "ClientAuthentication",
				 "no pg_hba.conf entry for host \"127.0.0.1\", user \"pwu\", "
				 "database \"tdb\", no encryption");
	/* sslmode=prefer */
	expect_at_door(AT NO_HBA("SSL encryption") AT NO_HBA("no encryption"),
				   CAUSE_NO_HBA, PHASE_AUTHENTICATE);
	assert_non_null(strstr(fault.message, "no encryption"));
}

static void
test_no_hba_in_other_languages(void **state)
{
	expect_at_door(AT "FATAL:  28000: kein pg_hba.conf-Eintrag für Host »127.0.0.1«, "
				   "Benutzer »pwu«, Datenbank »tdb«, keine Verschlüsselung\n"
				   "LOCATION:  ClientAuthentication, auth.c:544\n",
				   CAUSE_NO_HBA, PHASE_AUTHENTICATE);
	/* libpq, too: it labels what it knows, and the server the rest */
	expect_at_door(AT_DE "FATAL:  28000: kein pg_hba.conf-Eintrag für Host "
				   "»127.0.0.1«, Benutzer »pwu«, Datenbank »tdb«, "
				   "SSL-Verschlüsselung\n"
				   "ORT:  ClientAuthentication, auth.c:544\n"
				   AT_DE "FATAL:  28000: kein pg_hba.conf-Eintrag für Host "
				   "»127.0.0.1«, Benutzer »pwu«, Datenbank »tdb«, keine "
				   "Verschlüsselung\n"
				   "ORT:  ClientAuthentication, auth.c:544\n",
				   CAUSE_NO_HBA, PHASE_AUTHENTICATE);
	expect_fault(true, "28000", "ClientAuthentication",
				 "kein pg_hba.conf-Eintrag für Host »127.0.0.1«, Benutzer »pwu«, "
				 "Datenbank »tdb«, keine Verschlüsselung");
	/* two lines */
	expect_at_door(AT "FATAL:  28000: aucune entrée dans pg_hba.conf pour l'hôte "
				   "« 127.0.0.1 », utilisateur « pwu »,\n"
				   "base de données « tdb », aucun chiffrement\n"
				   "EMPLACEMENT : ClientAuthentication, auth.c:544\n",
				   CAUSE_NO_HBA, PHASE_AUTHENTICATE);
	expect_fault(true, "28000", "ClientAuthentication",
				 "aucune entrée dans pg_hba.conf pour l'hôte « 127.0.0.1 », "
				 "utilisateur « pwu », base de données « tdb », aucun chiffrement");
	expect_at_door("FATAL:  28000: pg_hba.conf にホスト\"127.0.0.1\"、ユーザー\"u\"\n"
				   "LOCATION:  ClientAuthentication, auth.c:544\n",
				   CAUSE_NO_HBA, PHASE_AUTHENTICATE);
	expect_at_door("FATAL:  28000: 호스트 \"127.0.0.1\", 사용자 \"u\", 데이터베이스 \"d\", "
				   "암호화 안함 연결에 대한 설정이 pg_hba.conf 파일에 없습니다.\n"
				   "LOCATION:  ClientAuthentication, auth.c:544\n",
				   CAUSE_NO_HBA, PHASE_AUTHENTICATE);
}

static void
test_hba_rejects(void **state)
{
	static const char *const texts[] = {
		"pg_hba.conf rejects connection for host \"127.0.0.1\", user \"u\", "
		"database \"d\", no encryption",
		"pg_hba.conf lehnt Verbindung ab für Host »127.0.0.1«, Benutzer »u«",
		"pg_hba.conf の設定でホスト \"127.0.0.1\"、の接続を拒否しました",
		"호스트 \"127.0.0.1\", 사용자 \"u\", 데이터베이스 \"d\",  암호화 안함 "
		"연결이 pg_hba.conf 파일 설정에 따라 거부됩니다",
		"pg_hba.conf отвергает подключение: компьютер \"127.0.0.1\"",
		NULL
	};

	for (int i = 0; texts[i] != NULL; i++)
	{
		char		text[512];

		snprintf(text, sizeof(text), AT "FATAL:  28000: %s\n"
				 "LOCATION:  ClientAuthentication, auth.c:476\n", texts[i]);
		expect_at_door(text, CAUSE_HBA_REJECTS, PHASE_AUTHENTICATE);
	}
}

static void
test_no_password(void **state)
{
	expect_at_door(AT "fe_sendauth: no password supplied\n", CAUSE_NO_PASSWORD,
				   PHASE_AUTHENTICATE);
	expect_fault(false, "", "", "fe_sendauth: no password supplied");
	/* libpq does not translate this one */
	expect_at_door(AT_DE "fe_sendauth: no password supplied\n", CAUSE_NO_PASSWORD,
				   PHASE_AUTHENTICATE);
}

static void
test_wrong_password(void **state)
{
	expect_at_door(AT WRONG_PASSWORD, CAUSE_WRONG_PASSWORD, PHASE_AUTHENTICATE);
	expect_at_door(AT_DE "FATAL:  28P01: Passwort-Authentifizierung für Benutzer "
				   "»pwu« fehlgeschlagen\nORT:  auth_failed, auth.c:334\n",
				   CAUSE_WRONG_PASSWORD, PHASE_AUTHENTICATE);
	/* libpq adds where it had it from */
	expect_at_door(AT WRONG_PASSWORD "password retrieved from file \"/x/.pgpass\"\n",
				   CAUSE_WRONG_PASSWORD, PHASE_AUTHENTICATE);
	expect_fault(true, "28P01", "auth_failed",
				 "password authentication failed for user \"pwu\"");
}

static void
test_authentication(void **state)
{
	static const char *const texts[] = {
		"Peer authentication failed for user \"leasehold\"",
		"Ident authentication failed for user \"pwu\"",
		"certificate authentication failed for user \"pwu\"",
		"Zertifikatauthentifizierung für Benutzer »pwu« fehlgeschlagen",
		NULL
	};

	for (int i = 0; texts[i] != NULL; i++)
	{
		char		text[256];

		snprintf(text, sizeof(text), AT "FATAL:  28000: %s\n"
				 "LOCATION:  auth_failed, auth.c:334\n", texts[i]);
		expect_at_door(text, CAUSE_AUTHENTICATION, PHASE_AUTHENTICATE);
	}
	expect_at_door(AT "GSSAPI continuation error: No credentials were supplied\n",
				   CAUSE_AUTHENTICATION, PHASE_AUTHENTICATE);
	expect_at_door(AT "channel binding required, but SSL not in use\n",
				   CAUSE_AUTHENTICATION, PHASE_AUTHENTICATE);
}

/* Told of by the session's start, and yet it is a matter of letting in. */
static void
test_no_role(void **state)
{
	expect_text(PHASE_SESSION, AT "FATAL:  28000: role \"norole\" does not exist\n"
				"LOCATION:  InitializeSessionUserId, miscinit.c:768\n",
				CAUSE_NO_ROLE, PHASE_AUTHENTICATE);
	expect_at_door(AT_DE "FATAL:  28000: Rolle »norole« existiert nicht\n"
				   "ORT:  InitializeSessionUserId, miscinit.c:768\n",
				   CAUSE_NO_ROLE, PHASE_AUTHENTICATE);
}

static void
test_no_login(void **state)
{
	static const char *const texts[] = {
		"role \"u\" is not permitted to log in",
		"Rolle »u« hat keine Berechtigung zum Einloggen",
		"le rôle « u » n'est pas autorisé à se connecter",
		"ロール\"u\"はログインが許可されません",
		"не позволено", NULL
	};

	for (int i = 0; texts[i] != NULL; i++)
	{
		char		text[256];

		snprintf(text, sizeof(text), AT "FATAL:  28000: %s\n"
				 "LOCATION:  InitializeSessionUserId, miscinit.c:821\n", texts[i]);
		/* words that are not known mean the commoner of the two */
		expect_at_door(text, texts[i + 1] == NULL ? CAUSE_NO_ROLE : CAUSE_NO_LOGIN,
					   PHASE_AUTHENTICATE);
	}
}

/* ------------------------------------------------------------------------
 * Session
 * ------------------------------------------------------------------------
 */

static void
test_no_database(void **state)
{
	expect_at_door(AT "FATAL:  3D000: database \"noexist\" does not exist\n"
				   "LOCATION:  InitPostgres, postinit.c:948\n",
				   CAUSE_NO_DATABASE, PHASE_SESSION);
	expect_text(PHASE_READY, "FATAL:  57P04: terminating connection because of "
				"DROP DATABASE\nLOCATION:  x, y.c:1\n", CAUSE_NO_DATABASE,
				PHASE_SESSION);
}

static void
test_no_connect(void **state)
{
	expect_at_door(AT "FATAL:  42501: permission denied for database \"noconn\"\n"
				   "DETAIL:  User does not have CONNECT privilege.\n"
				   "LOCATION:  CheckMyDatabase, postinit.c:363\n",
				   CAUSE_NO_CONNECT, PHASE_SESSION);
	expect_fault(true, "42501", "CheckMyDatabase",
				 "permission denied for database \"noconn\" "
				 "(User does not have CONNECT privilege.)");
	expect_at_door(AT "FATAL:  42501: must be superuser to connect in binary "
				   "upgrade mode\nLOCATION:  InitPostgres, postinit.c:873\n",
				   CAUSE_OTHER, PHASE_AUTHENTICATE);
}

static void
test_database_closed(void **state)
{
	expect_at_door(AT "FATAL:  55000: Datenbank »closed« akzeptiert gegenwärtig "
				   "keine Verbindungen\n"
				   "LOCATION:  CheckMyDatabase, postinit.c:350\n",
				   CAUSE_DATABASE_CLOSED, PHASE_SESSION);
	expect_at_door(AT "FATAL:  55000: cannot connect to invalid database \"x\"\n"
				   "HINT:  Use DROP DATABASE to drop invalid databases.\n"
				   "LOCATION:  InitPostgres, postinit.c:1025\n",
				   CAUSE_DATABASE_CLOSED, PHASE_SESSION);
}

static void
test_too_many(void **state)
{
	expect_at_door(AT "FATAL:  53300: sorry, too many clients already\n"
				   "LOCATION:  InitProcess, proc.c:357\n",
				   CAUSE_TOO_MANY, PHASE_SESSION);
	expect_at_door(AT "FATAL:  53300: sorry, too many clients already\n"
				   "LOCATION:  ProcessStartupPacket, postmaster.c:2444\n",
				   CAUSE_TOO_MANY, PHASE_SESSION);
	expect_at_door(AT "FATAL:  53300: remaining connection slots are reserved for "
				   "non-replication superuser connections\n"
				   "LOCATION:  InitPostgres, postinit.c:886\n",
				   CAUSE_TOO_MANY, PHASE_SESSION);
	expect_at_door(AT "sorry, too many clients already\n", CAUSE_TOO_MANY,
				   PHASE_SESSION);
}

static void
test_too_many_of_role(void **state)
{
	expect_at_door(AT "FATAL:  53300: zu viele Verbindungen von Rolle »limited«\n"
				   "LOCATION:  InitializeSessionUserId, miscinit.c:842\n",
				   CAUSE_TOO_MANY_OF_ROLE, PHASE_SESSION);
	expect_at_door(AT "FATAL:  53300: too many connections for database \"limdb\"\n"
				   "LOCATION:  CheckMyDatabase, postinit.c:384\n",
				   CAUSE_TOO_MANY_OF_ROLE, PHASE_SESSION);
}

/* All of them are 57P03 of one routine, which 15 and 18 call by other names. */
static void
expect_not_now(const char *words, Cause cause)
{
	char		text[512];

	snprintf(text, sizeof(text), AT "FATAL:  57P03: %s\n"
			 "LOCATION:  ProcessStartupPacket, postmaster.c:2413\n", words);
	expect_at_door(text, cause, PHASE_SESSION);
	snprintf(text, sizeof(text), AT "FATAL:  57P03: %s\n"
			 "LOCATION:  BackendInitialize, backend_startup.c:308\n", words);
	expect_at_door(text, cause, PHASE_SESSION);
}

static void
test_starting(void **state)
{
	expect_not_now("the database system is starting up", CAUSE_STARTING);
	expect_not_now("the database system is in recovery mode", CAUSE_STARTING);
	expect_not_now("the database system is not yet accepting connections\n"
				   "DETAIL:  Consistent recovery state has not been yet reached.",
				   CAUSE_STARTING);
	expect_not_now("das Datenbanksystem nimmt noch keine Verbindungen an",
				   CAUSE_STARTING);
	expect_not_now("das Datenbanksystem startet", CAUSE_STARTING);
	expect_text(PHASE_READY, "FATAL:  57P02: terminating connection because of "
				"crash of another server process\nLOCATION:  quickdie, postgres.c:1\n",
				CAUSE_STARTING, PHASE_SESSION);
}

static void
test_stopping(void **state)
{
	expect_not_now("the database system is shutting down", CAUSE_STOPPING);
	expect_not_now("das Datenbanksystem fährt herunter", CAUSE_STOPPING);
	expect_not_now("система баз данных останавливается", CAUSE_STOPPING);
	expect_text(PHASE_READY, "FATAL:  57P01: terminating connection due to "
				"administrator command\nLOCATION:  ProcessInterrupts, postgres.c:1\n",
				CAUSE_STOPPING, PHASE_SESSION);
}

static void
test_no_standby_sessions(void **state)
{
	expect_not_now("the database system is not accepting connections\n"
				   "DETAIL:  Hot standby mode is disabled.",
				   CAUSE_NO_STANDBY_SESSIONS);
	expect_not_now("das Datenbanksystem nimmt keine Verbindungen an\n"
				   "DETAIL:  Hot-Standby-Modus ist deaktiviert.",
				   CAUSE_NO_STANDBY_SESSIONS);
	expect_fault(true, "57P03", "BackendInitialize",
				 "das Datenbanksystem nimmt keine Verbindungen an "
				 "(Hot-Standby-Modus ist deaktiviert.)");
}

/* ------------------------------------------------------------------------
 * Ready
 * ------------------------------------------------------------------------
 */

static void
test_wrong_server(void **state)
{
	start(PHASE_READY);
	snprintf(fault.message, sizeof(fault.message), "node \"c\" answers");
	expect(CAUSE_WRONG_SERVER, PHASE_READY);
}

static void
test_not_preloaded(void **state)
{
	expect_text(PHASE_READY, "ERROR:  55000: leasehold is not in "
				"shared_preload_libraries\nLOCATION:  shared_require, shared.c:1\n",
				CAUSE_NOT_PRELOADED, PHASE_READY);
	expect_text(PHASE_READY, "ERROR:  42704: unrecognized configuration parameter "
				"\"leasehold.node_name\"\n"
				"LOCATION:  GetConfigOptionByName, guc.c:1\n",
				CAUSE_NOT_PRELOADED, PHASE_READY);
	expect_text(PHASE_READY, "FEHLER:  58P01: konnte nicht auf Datei "
				"»$libdir/leasehold« zugreifen: Datei oder Verzeichnis nicht "
				"gefunden\nORT:  expand_dynamic_library_name, dfmgr.c:1\n",
				CAUSE_NOT_PRELOADED, PHASE_READY);
}

static void
test_no_extension(void **state)
{
	expect_text(PHASE_READY, "ERROR:  3F000: schema \"leasehold\" does not exist\n"
				"LINE 1: select leasehold.identity()\n"
				"               ^\n"
				"LOCATION:  get_namespace_oid, namespace.c:3099\n",
				CAUSE_NO_EXTENSION, PHASE_READY);
	expect_fault(true, "3F000", "get_namespace_oid",
				 "schema \"leasehold\" does not exist");
	expect_text(PHASE_READY, "FEHLER:  42883: Funktion leasehold.identity() "
				"existiert nicht\nORT:  ParseFuncOrColumn, parse_func.c:629\n",
				CAUSE_NO_EXTENSION, PHASE_READY);
}

static void
test_no_privilege(void **state)
{
	expect_text(PHASE_READY, "ERROR:  42501: permission denied for function "
				"identity\nLOCATION:  aclcheck_error, aclchk.c:3450\n",
				CAUSE_NO_PRIVILEGE, PHASE_READY);
}

static void
test_no_store(void **state)
{
	start(PHASE_READY);
	fault.member = true;
	fault_of_message(&fault, "FEHLER:  42P01: Relation »leasehold_store.store« "
					 "existiert nicht\n"
					 "ZEILE 1: select 1 from leasehold_store.store\n"
					 "                       ^\n"
					 "ORT:  parserOpenTable, parse_relation.c:1371\n");
	expect(CAUSE_NO_STORE, PHASE_READY);
	expect_fault(true, "42P01", "parserOpenTable",
				 "Relation »leasehold_store.store« existiert nicht");
}

static void
test_no_store_privilege(void **state)
{
	start(PHASE_READY);
	fault.member = true;
	fault_of_message(&fault, "ERROR:  42501: permission denied for table lease\n"
					 "LOCATION:  aclcheck_error, aclchk.c:3450\n");
	expect(CAUSE_NO_STORE_PRIVILEGE, PHASE_READY);
	/* but not into the database in the first place */
	fault.phase = PHASE_AUTHENTICATE;
	fault_of_message(&fault, "FATAL:  42501: permission denied for database \"s\"\n"
					 "LOCATION:  CheckMyDatabase, postinit.c:363\n");
	expect(CAUSE_NO_CONNECT, PHASE_SESSION);
}

static void
test_other(void **state)
{
	expect_at_door(AT "FATAL:  XX000: something\nLOCATION:  x, y.c:1\n", CAUSE_OTHER,
				   PHASE_AUTHENTICATE);
	/* target_session_attrs in leasehold.peer_options */
	expect_at_door(AT "server is not in hot standby mode\n", CAUSE_OTHER,
				   PHASE_AUTHENTICATE);
	/* a postmaster out of memory speaks the old protocol */
	expect_at_door(AT "could not fork new process for connection: "
				   "Cannot allocate memory\n", CAUSE_OTHER, PHASE_AUTHENTICATE);
	expect_text(PHASE_TLS, AT "server sent an error response during SSL exchange\n",
				CAUSE_OTHER, PHASE_TLS);
	expect_text(PHASE_READY, "ERROR:  0A000: whatever\nLOCATION:  x, y.c:1\n",
				CAUSE_OTHER, PHASE_READY);
}

/* ------------------------------------------------------------------------
 * Several attempts in one message
 * ------------------------------------------------------------------------
 */

static void
test_the_block_that_explains(void **state)
{
	/* TLS, and a password; then not even a line without TLS */
	expect_at_door(AT WRONG_PASSWORD AT NO_HBA("no encryption"),
				   CAUSE_WRONG_PASSWORD, PHASE_AUTHENTICATE);
	expect_at_door(AT WRONG_PASSWORD AT WRONG_PASSWORD, CAUSE_WRONG_PASSWORD,
				   PHASE_AUTHENTICATE);
	/* TLS goes wrong, and without it there is no line */
	expect_at_door(AT "SSL error: tlsv1 alert unknown ca\n"
				   AT NO_HBA("no encryption"), CAUSE_TLS_CLIENT, PHASE_TLS);
	/* one address refuses, another has something to say; in either order */
	expect_at_door(AT "Connection refused\n" HINT AT NO_HBA("no encryption"),
				   CAUSE_NO_HBA, PHASE_AUTHENTICATE);
	expect_text(PHASE_CONNECT, AT "FATAL:  57P03: the database system is starting up\n"
				"LOCATION:  ProcessStartupPacket, postmaster.c:2413\n"
				AT "Connection refused\n" HINT, CAUSE_STARTING, PHASE_SESSION);
	assert_int_equal(fault.error, 0);
	/* a name of several does not resolve */
	expect_text(PHASE_CONNECT, "could not translate host name \"a\" to address: "
				"Name or service not known\n" AT "Connection refused\n" HINT,
				CAUSE_NO_ADDRESS, PHASE_RESOLVE);
	/* of equals the last */
	expect_text(PHASE_CONNECT, AT "No route to host\n" HINT
				AT "Connection refused\n" HINT, CAUSE_REFUSED, PHASE_CONNECT);
	expect_text(PHASE_CONNECT, AT "Connection refused\n" HINT
				AT "No route to host\n" HINT, CAUSE_NO_ROUTE, PHASE_CONNECT);
	expect_text(PHASE_CONNECT, AT "FATAL:  57P03: the database system is starting up\n"
				"LOCATION:  ProcessStartupPacket, postmaster.c:2413\n"
				AT "FATAL:  57P03: the database system is shutting down\n"
				"LOCATION:  ProcessStartupPacket, postmaster.c:2430\n"
				AT "Connection refused\n" HINT, CAUSE_STOPPING, PHASE_SESSION);
}

/* A server's word stands, even if the next address took too long. */
static void
test_late(void **state)
{
	start(PHASE_CONNECT);
	fault.timed_out = true;
	fault_of_message(&fault, AT "FATAL:  57P03: the database system is starting up\n"
					 "LOCATION:  ProcessStartupPacket, postmaster.c:2413\n" AT);
	expect(CAUSE_STARTING, PHASE_SESSION);
	start(PHASE_CONNECT);
	fault.timed_out = true;
	fault_of_message(&fault, AT "Connection refused\n" HINT AT);
	expect(CAUSE_TIMEOUT, PHASE_CONNECT);
	expect_fault(false, "", "", "");
}

/* ------------------------------------------------------------------------
 * The text of a message
 * ------------------------------------------------------------------------
 */

static void
expect_hidden(const char *text, const char *message)
{
	start(PHASE_RESOLVE);
	fault_of_message(&fault, text);
	assert_null(strstr(fault.message, "geheim"));
	assert_string_equal(fault.message, message);
}

static void
test_no_password_in_messages(void **state)
{
	expect_hidden("missing \"=\" after \"geheim\" in connection info string\n",
				  "missing \"...\" in connection info string");
	expect_hidden("invalid connection option \"geheim\"\n",
				  "invalid connection option \"...\"");
	expect_hidden("invalid percent-encoded token: \"geheim%\"\n",
				  "invalid percent-encoded token: \"...\"");
	/* what stands before a slash in a password is taken for a port */
	expect_hidden("invalid integer value \"geheim\" for connection option \"port\"\n",
				  "invalid integer value \"...\"");
	expect_hidden("invalid port number: \"9\"\n", "invalid port number: \"\"");
	expect_hidden("something about postgresql://u:geheim@h/d\n",
				  "something about postgresql://u:@h/d");
	expect_hidden("something about host=h password=geheim user=u, password=geheim\n",
				  "something about host=h password= user=u, password=");
	expect_hidden("something about password='geheim \\'geheim'\n",
				  "something about password=");
}

static void
test_message_is_one_line(void **state)
{
	char		text[2000];

	expect_at_door("FATAL:  XX000: a\tb\n\tc\nDETAIL:  d\nHINT:  e\nf\n"
				   "LOCATION:  g, h.c:1\n", CAUSE_OTHER, PHASE_AUTHENTICATE);
	expect_fault(true, "XX000", "g", "a b  c (d)");
	/* too long, and cut off between two characters */
	snprintf(text, sizeof(text), "FATAL:  XX000: x");
	for (int i = 0; i < 400; i++)
		strcat(text, "ä");
	strcat(text, "\nLOCATION:  g, h.c:1\n");
	expect_at_door(text, CAUSE_OTHER, PHASE_AUTHENTICATE);
	assert_true(strlen(fault.message) >= 253);
	assert_int_equal(strlen(fault.message) % 2, 1);
	assert_string_equal(fault.message + strlen(fault.message) - 2, "ä");
	assert_string_equal(fault.routine, "g");
	/* too long a name, and it has no blank to be cut at */
	memset(text, 'x', 1500);
	text[1500] = '\0';
	expect_text(PHASE_SESSION, text, CAUSE_OTHER, PHASE_SESSION);
	assert_int_equal(strlen(fault.message), 255);
}

static void
test_odd_messages(void **state)
{
	expect_text(PHASE_SESSION, "", CAUSE_OTHER, PHASE_SESSION);
	expect_fault(false, "", "", "");
	expect_text(PHASE_SESSION, "\n\n", CAUSE_OTHER, PHASE_SESSION);
	/* cut off */
	expect_text(PHASE_SESSION, "FATAL:  28", CAUSE_OTHER, PHASE_SESSION);
	expect_fault(false, "", "", "FATAL:  28");
	expect_at_door("FATAL:  28P01:", CAUSE_WRONG_PASSWORD, PHASE_AUTHENTICATE);
	expect_fault(true, "28P01", "", "");
	/* no location: the routine is not known */
	expect_at_door("FATAL:  28000: no pg_hba.conf entry\n", CAUSE_AUTHENTICATION,
				   PHASE_AUTHENTICATE);
	expect_at_door("FATAL:  28000: x\nLOCATION:  y, z.c:\n", CAUSE_AUTHENTICATION,
				   PHASE_AUTHENTICATE);
	expect_fault(true, "28000", "", "x");
	/* nothing of what had been noted before stays */
	snprintf(fault.routine, sizeof(fault.routine), "old");
	fault_of_message(&fault, AT "fe_sendauth: no password supplied\n");
	expect_fault(false, "", "", "fe_sendauth: no password supplied");
}

/* ------------------------------------------------------------------------
 * Names
 * ------------------------------------------------------------------------
 */

static void
test_names(void **state)
{
	for (int i = 0; i < CAUSE_COUNT; i++)
	{
		const char *text = cause_text(i);

		assert_int_equal(cause_of_name(cause_name(i)), i);
		assert_true(strlen(text) < 128);
		assert_true(text[0] >= 'A' && text[0] <= 'Z');
		assert_int_equal(text[strlen(text) - 1], '.');
	}
	assert_string_equal(cause_name(CAUSE_NO_HBA), "no_hba");
	assert_int_equal(cause_of_name("nothing like it"), -1);
	assert_int_equal(cause_of_name(""), -1);
	/* a number from another version's report */
	assert_string_equal(cause_name((Cause) CAUSE_COUNT), "other");
	assert_string_equal(cause_text((Cause) 9999), cause_text(CAUSE_OTHER));
}

/* The tests before this one have met all causes, but those that others conclude. */
static void
test_every_cause(void **state)
{
	for (int i = 0; i < CAUSE_COUNT; i++)
		if (i != CAUSE_NONE && i != CAUSE_TLS_REQUIRED && !seen[i])
			fail_msg("no test has met %s", cause_name(i));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_address),
		cmocka_unit_test(test_no_address),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_timeout),
		cmocka_unit_test(test_no_route),
		cmocka_unit_test(test_no_socket),
		cmocka_unit_test(test_closed),
		cmocka_unit_test(test_silent),
		cmocka_unit_test(test_not_postgres),
		cmocka_unit_test(test_tls_missing),
		cmocka_unit_test(test_tls_certificate),
		cmocka_unit_test(test_tls_name),
		cmocka_unit_test(test_tls_client),
		cmocka_unit_test(test_tls),
		cmocka_unit_test(test_no_hba),
		cmocka_unit_test(test_no_hba_in_other_languages),
		cmocka_unit_test(test_hba_rejects),
		cmocka_unit_test(test_no_password),
		cmocka_unit_test(test_wrong_password),
		cmocka_unit_test(test_authentication),
		cmocka_unit_test(test_no_role),
		cmocka_unit_test(test_no_login),
		cmocka_unit_test(test_no_database),
		cmocka_unit_test(test_no_connect),
		cmocka_unit_test(test_database_closed),
		cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_too_many_of_role),
		cmocka_unit_test(test_starting),
		cmocka_unit_test(test_stopping),
		cmocka_unit_test(test_no_standby_sessions),
		cmocka_unit_test(test_wrong_server),
		cmocka_unit_test(test_not_preloaded),
		cmocka_unit_test(test_no_extension),
		cmocka_unit_test(test_no_privilege),
		cmocka_unit_test(test_no_store),
		cmocka_unit_test(test_no_store_privilege),
		cmocka_unit_test(test_other),
		cmocka_unit_test(test_the_block_that_explains),
		cmocka_unit_test(test_late),
		cmocka_unit_test(test_no_password_in_messages),
		cmocka_unit_test(test_message_is_one_line),
		cmocka_unit_test(test_odd_messages),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_every_cause),
	};

	return cmocka_run_group_tests_name("cause", tests, NULL, NULL);
}
