/*
 * settings.c
 *		The configuration parameters of leasehold.
 *
 * See docs/settings.md for what each does.  A check hook says what is wrong
 * where the setting is made; what depends on several settings, or on the
 * lease's ttl, is judged by the keeper and by leasehold.check().
 */
#include "postgres.h"

#include <limits.h>
#include <unistd.h>

#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "postmaster/postmaster.h"
#include "utils/guc.h"

#include "clock.h"
#include "lease.h"
#include "settings.h"
#include "syncset.h"

char	   *setting_node_name = NULL;
char	   *setting_store = NULL;
char	   *setting_lease = NULL;
int			setting_renew_interval = 0;
int			setting_look_interval = 0;
int			setting_safety_margin = 0;
int			setting_fence = FENCE_ENFORCE;
int			setting_on_expiry = ON_EXPIRY_TERMINATE;
int			setting_on_shutdown = ON_SHUTDOWN_RELEASE;
int			setting_priority = 100;
int			setting_health_timeout = 0;
char	   *setting_role_command = NULL;
char	   *setting_advertise = NULL;
bool		setting_local_ddl = false;
int			setting_zero_loss = SYNC_OFF;
int			setting_on_superseded = ON_SUPERSEDED_STAY;
char	   *setting_rejoin_command = NULL;
bool		setting_promote = true;
bool		setting_follow = true;
bool		setting_failback = false;
int			setting_max_lag = 16 * 1024;
char	   *setting_peer_options = NULL;
int			setting_probe_interval = 5000;
int			setting_probe_timeout = 3000;
bool		setting_allow_repair = false;
int			setting_leases_max = 64;
int			setting_peers_max = 64;
int			setting_tables_max = 1024;

char	   *(*settings_judge_conninfo) (const char *list) = NULL;

static const struct config_enum_entry fence_modes[] = {
	{"enforce", FENCE_ENFORCE, false},
	{"warn", FENCE_WARN, false},
	{"off", FENCE_OFF, false},
	{NULL, 0, false}
};

static const struct config_enum_entry on_expiry_modes[] = {
	{"terminate", ON_EXPIRY_TERMINATE, false},
	{"cancel", ON_EXPIRY_CANCEL, false},
	{"none", ON_EXPIRY_NONE, false},
	{NULL, 0, false}
};

static const struct config_enum_entry on_shutdown_modes[] = {
	{"release", ON_SHUTDOWN_RELEASE, false},
	{"keep", ON_SHUTDOWN_KEEP, false},
	{NULL, 0, false}
};

static const struct config_enum_entry zero_loss_modes[] = {
	{"off", SYNC_OFF, false},
	{"on", SYNC_ON, false},
	{"strict", SYNC_STRICT, false},
	{"false", SYNC_OFF, true},
	{"true", SYNC_ON, true},
	{"no", SYNC_OFF, true},
	{"yes", SYNC_ON, true},
	{"0", SYNC_OFF, true},
	{"1", SYNC_ON, true},
	{NULL, 0, false}
};

static const struct config_enum_entry on_superseded_modes[] = {
	{"stay", ON_SUPERSEDED_STAY, false},
	{"shutdown", ON_SUPERSEDED_SHUTDOWN, false},
	{"rejoin", ON_SUPERSEDED_REJOIN, false},
	{NULL, 0, false}
};

/* ------------------------------------------------------------------------
 * What a value may be
 * ------------------------------------------------------------------------
 */

/* Names go into rows, log lines and command lines: plain characters only. */
static bool
check_name(char **newval, void **extra, GucSource source)
{
	size_t		len = strlen(*newval);

	if (len < LEASEHOLD_NAME_LEN &&
		strspn(*newval, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
			   "0123456789_.:-") == len)
		return true;
	GUC_check_errdetail("A name has at most %d letters, digits and characters of \"_.:-\".",
						LEASEHOLD_NAME_LEN - 1);
	return false;
}

/* The server's own message would repeat the value, a password included. */
static bool
check_conninfo(char **newval, const char *parameter)
{
	char	   *fault;

	if ((*newval)[0] == '\0' || strcmp(*newval, "embedded") == 0 ||
		settings_judge_conninfo == NULL)
		return true;
	fault = settings_judge_conninfo(*newval);
	if (fault == NULL)
		return true;
	GUC_check_errmsg("invalid value for parameter \"%s\"", parameter);
	GUC_check_errdetail("%s", fault);
	return false;
}

static bool
check_store(char **newval, void **extra, GucSource source)
{
	return check_conninfo(newval, "leasehold.store");
}

static bool
check_advertise(char **newval, void **extra, GucSource source)
{
	return check_conninfo(newval, "leasehold.advertise");
}

static bool
check_peer_options(char **newval, void **extra, GucSource source)
{
	return check_conninfo(newval, "leasehold.peer_options");
}

/* ------------------------------------------------------------------------
 * What follows from the settings
 * ------------------------------------------------------------------------
 */

static const char *
host_name(void)
{
	static char host[256] = "";

	if (host[0] == '\0' &&
		(gethostname(host, sizeof(host) - 1) != 0 || host[0] == '\0'))
		strlcpy(host, "localhost", sizeof(host));
	return host;
}

const char *
settings_node_name(void)
{
	static char name[LEASEHOLD_NAME_LEN];

	if (setting_node_name != NULL && setting_node_name[0] != '\0')
		return setting_node_name;
	snprintf(name, sizeof(name), "%.48s:%d", host_name(), PostPortNumber);
	return name;
}

bool
settings_store_embedded(void)
{
	return setting_store != NULL && strcmp(setting_store, "embedded") == 0;
}

const char *
settings_lease(void)
{
	if (setting_lease != NULL && setting_lease[0] != '\0')
		return setting_lease;
	return settings_store_embedded() ? "main" : "";
}

const char *
settings_advertise(void)
{
	static char advertise[320];

	if (setting_advertise != NULL && setting_advertise[0] != '\0')
		return setting_advertise;
	snprintf(advertise, sizeof(advertise), "host=%s port=%d",
			 host_name(), PostPortNumber);
	return advertise;
}

/* ------------------------------------------------------------------------
 * Definitions
 * ------------------------------------------------------------------------
 */

static void
define_text(const char *name, const char *what, char **variable,
			GucContext context, int flags, GucStringCheckHook check)
{
	DefineCustomStringVariable(name, what, NULL, variable, "", context, flags,
							   check, NULL, NULL);
}

static void
define_ms(const char *name, const char *what, const char *zero, int *variable,
		  int max)
{
	DefineCustomIntVariable(name, what, zero, variable, 0, 0, max, PGC_SIGHUP,
							GUC_UNIT_MS, NULL, NULL, NULL);
}

static void
define_choice(const char *name, const char *what, int *variable, int boot,
			  const struct config_enum_entry *choices, int flags)
{
	DefineCustomEnumVariable(name, what, NULL, variable, boot, choices,
							 PGC_SIGHUP, flags, NULL, NULL, NULL);
}

static void
define_lease_settings(void)
{
	define_text("leasehold.store",
				"The members of the lease store: connection strings separated by semicolons, or \"embedded\".",
				&setting_store, PGC_SIGHUP, GUC_SUPERUSER_ONLY, check_store);
	define_text("leasehold.lease",
				"The lease that governs this whole instance; empty for none.",
				&setting_lease, PGC_SIGHUP, 0, check_name);
	define_text("leasehold.advertise",
				"Connection string by which peers and clients reach this node.",
				&setting_advertise, PGC_SIGHUP, 0, check_advertise);
	define_ms("leasehold.renew_interval", "Time between renewals of the lease.",
			  "Zero means a fifth of the lease's ttl.",
			  &setting_renew_interval, LEASE_TTL_MAX_MS);
	define_ms("leasehold.look_interval",
			  "Time between a follower's looks at the store.",
			  "Zero means a twentieth of the lease's ttl, within 20 and 500 ms.",
			  &setting_look_interval, LEASE_TTL_MAX_MS);
	define_ms("leasehold.safety_margin",
			  "Time by which the holder stops before its lease runs out.",
			  "Zero means a twentieth of the lease's ttl, at least 20 ms.",
			  &setting_safety_margin, LEASE_TTL_MAX_MS);
	define_ms("leasehold.health_timeout",
			  "Let go of the lease when the instance fails its own health check for this long.",
			  "Zero means the lease's ttl.",
			  &setting_health_timeout, LEASE_TTL_MAX_MS);
	DefineCustomIntVariable("leasehold.priority",
							"Among equally advanced candidates the higher goes first.",
							"Zero means that this node never takes a lease by itself.",
							&setting_priority, 100, 0, 10000, PGC_SIGHUP, 0,
							NULL, NULL, NULL);
}

static void
define_fence_settings(void)
{
	define_choice("leasehold.fence",
				  "What happens to writes while the lease is not held.",
				  &setting_fence, FENCE_ENFORCE, fence_modes, GUC_SUPERUSER_ONLY);
	define_choice("leasehold.on_expiry",
				  "What happens to sessions when the lease is lost.",
				  &setting_on_expiry, ON_EXPIRY_TERMINATE, on_expiry_modes, 0);
	define_choice("leasehold.on_shutdown",
				  "Whether a clean shutdown releases the lease.",
				  &setting_on_shutdown, ON_SHUTDOWN_RELEASE, on_shutdown_modes, 0);
	define_text("leasehold.role_command",
				"Shell command that is told of every change of role.",
				&setting_role_command, PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL);
	DefineCustomBoolVariable("leasehold.local_ddl",
							 "Lets utility commands (never data changes) through on a fenced node.",
							 NULL, &setting_local_ddl, false, PGC_SUSET, 0,
							 NULL, NULL, NULL);
}

/* For groups of a primary and its streaming standbys. */
static void
define_replication_settings(void)
{
	DefineCustomBoolVariable("leasehold.promote",
							 "Promote this standby when it acquires the lease.",
							 "A standby that may not be promoted does not acquire it.",
							 &setting_promote, true, PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	DefineCustomBoolVariable("leasehold.follow",
							 "Point this standby's primary_conninfo at the holder of the lease.",
							 NULL, &setting_follow, true, PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	DefineCustomBoolVariable("leasehold.failback",
							 "Ask for the leases of tables for which this node has the highest priority.",
							 "They are handed over as by leasehold.switchover().",
							 &setting_failback, false, PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("leasehold.max_lag",
							"A standby further behind than this does not acquire the lease.",
							"-1 means no limit.",
							&setting_max_lag, 16 * 1024, -1, INT_MAX, PGC_SIGHUP,
							GUC_UNIT_KB, NULL, NULL, NULL);
	define_choice("leasehold.zero_loss",
				  "Acknowledge a write only when a standby that may take over has it.",
				  &setting_zero_loss, SYNC_OFF, zero_loss_modes, 0);
	define_choice("leasehold.on_superseded",
				  "What a former primary does whose lease another node holds.",
				  &setting_on_superseded, ON_SUPERSEDED_STAY,
				  on_superseded_modes, 0);
	define_text("leasehold.rejoin_command",
				"Shell command that makes a former primary a standby again.",
				&setting_rejoin_command, PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL);
	define_text("leasehold.peer_options",
				"Connection options that this node adds when it connects to a peer.",
				&setting_peer_options, PGC_SIGHUP, GUC_SUPERUSER_ONLY,
				check_peer_options);
}

/* For the paths between nodes. */
static void
define_path_settings(void)
{
	DefineCustomIntVariable("leasehold.probe_interval",
							"Time between two probes of the same peer.", NULL,
							&setting_probe_interval, 5000, 100, 3600 * 1000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("leasehold.probe_timeout",
							"How long one probe of a peer may take.", NULL,
							&setting_probe_timeout, 3000, 50, 600 * 1000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomBoolVariable("leasehold.allow_repair",
							 "Other nodes may ask this one to repair itself from a fixed list of operations.",
							 NULL, &setting_allow_repair, false, PGC_SIGHUP,
							 GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
}

static void
define_postmaster_settings(void)
{
	define_text("leasehold.node_name", "This node's unique name.",
				&setting_node_name, PGC_POSTMASTER, 0, check_name);
	DefineCustomIntVariable("leasehold.leases_max",
							"Number of leases that shared memory has room for.",
							NULL, &setting_leases_max, 64, 1, 100000,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("leasehold.peers_max",
							"Number of nodes that shared memory has room for.",
							NULL, &setting_peers_max, 64, 2, 1000,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("leasehold.tables_max",
							"Number of protected tables that shared memory has room for.",
							NULL, &setting_tables_max, 1024, 16, 100000,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
}

void
settings_define(bool preloaded)
{
	define_lease_settings();
	define_fence_settings();
	define_replication_settings();
	define_path_settings();
	if (preloaded)
		define_postmaster_settings();
	MarkGUCPrefixReserved("leasehold");
}
