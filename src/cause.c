/*
 * cause.c
 *		Why a connection attempt failed, by what it left behind.
 *
 * See cause.h.  Must never do I/O or depend on the server.
 */
#include "cause.h"

#include <errno.h>
#include <string.h>

#include "cause_words.h"

/* What is told of each cause. */
typedef struct CauseFacts
{
	const char *name;
	PathPhase	phase;			/* that it belongs to */
	const char *text;
} CauseFacts;

static const CauseFacts known[CAUSE_COUNT] = {
	[CAUSE_NONE] = {"none", PHASE_READY, "The path stands."},
	[CAUSE_BAD_ADDRESS] = {"bad_address", PHASE_RESOLVE,
	"The address is no valid connection string."},
	[CAUSE_NO_ADDRESS] = {"no_address", PHASE_RESOLVE,
	"The host name does not resolve to an address."},
	[CAUSE_REFUSED] = {"refused", PHASE_CONNECT,
	"The host is there, but nobody listens at this address and port."},
	[CAUSE_TIMEOUT] = {"timeout", PHASE_CONNECT,
	"Nothing answers: the host is down, or a firewall drops the packets."},
	[CAUSE_NO_ROUTE] = {"no_route", PHASE_CONNECT,
	"The network says that the address cannot be reached."},
	[CAUSE_NO_SOCKET] = {"no_socket", PHASE_CONNECT,
	"The local socket does not exist, or may not be used."},
	[CAUSE_CLOSED] = {"closed", PHASE_CONNECT,
	"The connection was accepted, then closed without a word."},
	[CAUSE_SILENT] = {"silent", PHASE_CONNECT,
	"The connection was accepted, but no answer came."},
	[CAUSE_NOT_POSTGRES] = {"not_postgres", PHASE_CONNECT,
	"Something else than PostgreSQL answers at this address and port."},
	[CAUSE_TLS_MISSING] = {"tls_missing", PHASE_TLS,
	"This side requires TLS, and the server has none."},
	[CAUSE_TLS_REQUIRED] = {"tls_required", PHASE_TLS,
	"The server requires TLS, and this side does not use it."},
	[CAUSE_TLS_CERTIFICATE] = {"tls_certificate", PHASE_TLS,
	"The server's certificate is not trusted."},
	[CAUSE_TLS_NAME] = {"tls_name", PHASE_TLS,
	"The server's certificate is for another host name."},
	[CAUSE_TLS_CLIENT] = {"tls_client", PHASE_TLS,
	"The server wants a client certificate that it trusts."},
	[CAUSE_TLS] = {"tls", PHASE_TLS, "TLS could not be agreed on."},
	[CAUSE_NO_HBA] = {"no_hba", PHASE_AUTHENTICATE,
	"No line of the server's pg_hba.conf lets this connection in."},
	[CAUSE_HBA_REJECTS] = {"hba_rejects", PHASE_AUTHENTICATE,
	"A line of the server's pg_hba.conf rejects this connection."},
	[CAUSE_NO_PASSWORD] = {"no_password", PHASE_AUTHENTICATE,
	"The server wants a password, and this side knows none for it."},
	[CAUSE_WRONG_PASSWORD] = {"wrong_password", PHASE_AUTHENTICATE,
	"The password is wrong, or the role has none, or does not exist."},
	[CAUSE_AUTHENTICATION] = {"authentication", PHASE_AUTHENTICATE,
	"The authentication failed by a method other than a password."},
	[CAUSE_NO_ROLE] = {"no_role", PHASE_AUTHENTICATE,
	"The role does not exist."},
	[CAUSE_NO_LOGIN] = {"no_login", PHASE_AUTHENTICATE,
	"The role may not log in."},
	[CAUSE_NO_DATABASE] = {"no_database", PHASE_SESSION,
	"The database does not exist."},
	[CAUSE_NO_CONNECT] = {"no_connect", PHASE_SESSION,
	"The role may not connect to the database."},
	[CAUSE_DATABASE_CLOSED] = {"database_closed", PHASE_SESSION,
	"The database takes no connections."},
	[CAUSE_TOO_MANY] = {"too_many", PHASE_SESSION,
	"All of the server's connection slots are taken."},
	[CAUSE_TOO_MANY_OF_ROLE] = {"too_many_of_role", PHASE_SESSION,
	"All connections that the role or the database may have are taken."},
	[CAUSE_STARTING] = {"starting", PHASE_SESSION,
	"The server is starting and takes no connections yet."},
	[CAUSE_STOPPING] = {"stopping", PHASE_SESSION,
	"The server is shutting down."},
	[CAUSE_NO_STANDBY_SESSIONS] = {"no_standby_sessions", PHASE_SESSION,
	"The server is a standby that takes no connections."},
	[CAUSE_WRONG_SERVER] = {"wrong_server", PHASE_READY,
	"Another server than the one that was wanted answers at this address."},
	[CAUSE_NOT_PRELOADED] = {"not_preloaded", PHASE_READY,
	"The server runs without leasehold in shared_preload_libraries."},
	[CAUSE_NO_EXTENSION] = {"no_extension", PHASE_READY,
	"The extension leasehold is missing in this database."},
	[CAUSE_NO_PRIVILEGE] = {"no_privilege", PHASE_READY,
	"The role may not use leasehold's functions."},
	[CAUSE_NO_STORE] = {"no_store", PHASE_READY,
	"The member's database has no store schema."},
	[CAUSE_NO_STORE_PRIVILEGE] = {"no_store_privilege", PHASE_READY,
	"The role may not use the store's tables."},
	[CAUSE_OTHER] = {"other", PHASE_READY,
	"The connection failed for a reason that is not known here."},
};

static bool
is(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

/* ------------------------------------------------------------------------
 * What a server said
 * ------------------------------------------------------------------------
 */

/* Class 28: it does not let us in. */
static Cause
cause_of_authentication(const Fault *fault)
{
	if (is(fault->sqlstate, "28P01"))
		return CAUSE_WRONG_PASSWORD;
	if (is(fault->routine, "InitializeSessionUserId"))
		return words_no_login(fault->message) ? CAUSE_NO_LOGIN : CAUSE_NO_ROLE;
	if (!is(fault->routine, "ClientAuthentication"))
		return CAUSE_AUTHENTICATION;
	if (!words_hba(fault->message))
		return CAUSE_TLS_CLIENT;
	return words_hba_rejects(fault->message) ? CAUSE_HBA_REJECTS : CAUSE_NO_HBA;
}

/* 57P03: it does not now. */
static Cause
cause_of_not_now(const Fault *fault)
{
	if (words_stopping(fault->message))
		return CAUSE_STOPPING;
	if (words_no_standby_sessions(fault->message))
		return CAUSE_NO_STANDBY_SESSIONS;
	return CAUSE_STARTING;
}

/* These are raised while the session begins, whatever their codes mean else. */
static Cause
cause_of_session(const Fault *fault)
{
	if (is(fault->sqlstate, "53300"))
		return is(fault->routine, "CheckMyDatabase") ||
			is(fault->routine, "InitializeSessionUserId") ?
			CAUSE_TOO_MANY_OF_ROLE : CAUSE_TOO_MANY;
	if (is(fault->sqlstate, "42501") && is(fault->routine, "CheckMyDatabase"))
		return CAUSE_NO_CONNECT;
	return is(fault->sqlstate, "55000") ? CAUSE_DATABASE_CLOSED : CAUSE_OTHER;
}

/* The session stands, and a question was answered with an error. */
static Cause
cause_of_answer(const Fault *fault)
{
	bool		denied = is(fault->sqlstate, "42501");
	bool		missing = is(fault->sqlstate, "3F000") ||
		is(fault->sqlstate, "42P01") || is(fault->sqlstate, "42883");

	if (fault->member)
		return denied ? CAUSE_NO_STORE_PRIVILEGE :
			missing ? CAUSE_NO_STORE : CAUSE_OTHER;
	if (denied)
		return CAUSE_NO_PRIVILEGE;
	if (missing)
		return CAUSE_NO_EXTENSION;
	/* our function says so; there is no such setting; there is no such file */
	if (is(fault->sqlstate, "55000") || is(fault->sqlstate, "42704") ||
		is(fault->sqlstate, "58P01"))
		return CAUSE_NOT_PRELOADED;
	return CAUSE_OTHER;
}

static Cause
cause_of_server(const Fault *fault)
{
	if (strncmp(fault->sqlstate, "28", 2) == 0)
		return cause_of_authentication(fault);
	if (is(fault->sqlstate, "3D000") || is(fault->sqlstate, "57P04"))
		return CAUSE_NO_DATABASE;
	if (is(fault->sqlstate, "57P03"))
		return cause_of_not_now(fault);
	if (is(fault->sqlstate, "57P01"))
		return CAUSE_STOPPING;
	if (is(fault->sqlstate, "57P02"))
		return CAUSE_STARTING;
	if (is(fault->sqlstate, "53300") || is(fault->routine, "CheckMyDatabase") ||
		is(fault->routine, "InitPostgres"))
		return cause_of_session(fault);
	return fault->phase == PHASE_READY ? cause_of_answer(fault) : CAUSE_OTHER;
}

/* ------------------------------------------------------------------------
 * What libpq said, or the network
 * ------------------------------------------------------------------------
 */

typedef struct Words
{
	const char *words;
	Cause		cause;
} Words;

/* The first that occurs decides. */
static const Words libpq[] = {
	{"no password supplied", CAUSE_NO_PASSWORD},
	{"expected authentication request from server", CAUSE_NOT_POSTGRES},
	{"received invalid response to ", CAUSE_NOT_POSTGRES},
	{"lost synchronization with server", CAUSE_NOT_POSTGRES},
	{"server does not support SSL", CAUSE_TLS_MISSING},
	{"certificate verify failed", CAUSE_TLS_CERTIFICATE},
	{"root certificate", CAUSE_TLS_CERTIFICATE},
	{"does not match host name", CAUSE_TLS_NAME},
	{"host name must be specified for a verified SSL", CAUSE_TLS_NAME},
	{"server's host name from server certificate", CAUSE_TLS_NAME},
	{"alert unknown ca", CAUSE_TLS_CLIENT},
	{"alert bad certificate", CAUSE_TLS_CLIENT},
	{"alert unsupported certificate", CAUSE_TLS_CLIENT},
	{"alert certificate ", CAUSE_TLS_CLIENT},
	{"could not open certificate file", CAUSE_TLS_CLIENT},
	{"could not read certificate file", CAUSE_TLS_CLIENT},
	{"certificate present, but not private key", CAUSE_TLS_CLIENT},
	{"certificate does not match private key", CAUSE_TLS_CLIENT},
	{"private key file", CAUSE_TLS_CLIENT},
	{"server closed the connection unexpectedly", CAUSE_CLOSED},
	{"could not translate host name", CAUSE_NO_ADDRESS},
	/* a postmaster that cannot start a session has no code for it */
	{"too many clients", CAUSE_TOO_MANY},
	{"could not fork new process", CAUSE_OTHER},
	{"server sent an error response during", CAUSE_OTHER},
	/* target_session_attrs */
	{"hot standby mode", CAUSE_OTHER},
	{"session is ", CAUSE_OTHER},
	{NULL, CAUSE_NONE}
};

/* Errors of connect(), and of reading and writing later on. */
static Cause
cause_of_errno(const Fault *fault)
{
	switch (fault->error)
	{
		case 0:
			return CAUSE_NONE;
		case ECONNREFUSED:
			return CAUSE_REFUSED;
		case ETIMEDOUT:
			return CAUSE_TIMEOUT;
		case ECONNRESET:
		case EPIPE:
			return CAUSE_CLOSED;
		case ENOENT:
		case ENOTDIR:
			return CAUSE_NO_SOCKET;
		default:
			return fault->local ? CAUSE_NO_SOCKET : CAUSE_NO_ROUTE;
	}
}

static Cause
cause_of_words(const Fault *fault)
{
	for (const Words *at = libpq; at->words != NULL; at++)
		if (strstr(fault->message, at->words) != NULL)
			return at->cause;
	/* anything about TLS, but the end of a connection that had been agreed on */
	if (strncmp(fault->message, "SSL ", 4) == 0)
		return fault->phase > PHASE_TLS &&
			(strstr(fault->message, "EOF") || strstr(fault->message, "eof") ||
			 strstr(fault->message, "closed unexpectedly")) ?
			CAUSE_CLOSED : CAUSE_TLS;
	return CAUSE_NONE;
}

/* Nobody said a word until the time was over. */
static Cause
cause_of_silence(const Fault *fault)
{
	switch (fault->phase)
	{
		case PHASE_RESOLVE:
			return CAUSE_NO_ADDRESS;
		case PHASE_CONNECT:
			return CAUSE_TIMEOUT;
		case PHASE_TLS:

			/*
			 * If the server has agreed to TLS, it is not silent: packets of
			 * full size are lost on the way, or another protocol is spoken.
			 */
			return fault->encrypted ? CAUSE_TLS : CAUSE_SILENT;
		default:
			return CAUSE_SILENT;
	}
}

static Cause
cause_of_phase(const Fault *fault)
{
	switch (fault->phase)
	{
		case PHASE_RESOLVE:
			return CAUSE_NO_ADDRESS;
		case PHASE_TLS:
			return CAUSE_TLS;
		case PHASE_AUTHENTICATE:
			return CAUSE_AUTHENTICATION;
		case PHASE_READY:
			return CAUSE_WRONG_SERVER;
		default:
			return CAUSE_OTHER;
	}
}

static Cause
cause_of_client(const Fault *fault)
{
	Cause		cause;

	if (fault->timed_out)
		return cause_of_silence(fault);
	if (fault->phase <= PHASE_CONNECT && words_bad_address(fault->message))
		return CAUSE_BAD_ADDRESS;
	cause = cause_of_errno(fault);
	if (cause == CAUSE_NONE)
		cause = cause_of_words(fault);
	return cause != CAUSE_NONE ? cause : cause_of_phase(fault);
}

Cause
cause_of(const Fault *fault, PathPhase *phase)
{
	Cause		cause = fault->by_server ? cause_of_server(fault) :
		cause_of_client(fault);

	*phase = known[cause].phase;
	/* whoever falls silent, or goes away, may do so at any time */
	if (cause == CAUSE_OTHER ||
		((cause == CAUSE_SILENT || cause == CAUSE_CLOSED) &&
		 fault->phase > PHASE_AUTHENTICATE))
		*phase = fault->phase;
	return cause;
}

/* ------------------------------------------------------------------------
 * Names
 * ------------------------------------------------------------------------
 */

static bool
is_known(Cause cause)
{
	return (unsigned) cause < CAUSE_COUNT;
}

const char *
cause_name(Cause cause)
{
	return known[is_known(cause) ? cause : CAUSE_OTHER].name;
}

int
cause_of_name(const char *name)
{
	for (int i = 0; i < CAUSE_COUNT; i++)
		if (is(known[i].name, name))
			return i;
	return -1;
}

const char *
cause_text(Cause cause)
{
	return known[is_known(cause) ? cause : CAUSE_OTHER].text;
}
