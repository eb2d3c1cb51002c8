/*
 * node.c
 *		Where an instance's files are, and what its settings say.
 *
 * Two layouts: postgresql.conf in the data directory, and Debian's with the
 * configuration below /etc/postgresql.  Settings come from "postgres -C",
 * which reads what the server would read and does not load libraries: ours
 * show as they are written, and an error where they are not.
 */
#include "node.h"

#include <glob.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "common/string.h"

/* ------------------------------------------------------------------------
 * Finding it
 * ------------------------------------------------------------------------
 */

static char *
absolute(const char *path)
{
	char	   *resolved = realpath(path, NULL);

	return resolved ? resolved : make_absolute_path(path);
}

static bool
same_directory(const char *a, const char *b)
{
	char	   *x = realpath(a, NULL);
	char	   *y = realpath(b, NULL);
	bool		same = x != NULL && y != NULL && strcmp(x, y) == 0;

	free(x);
	free(y);
	return same;
}

static char *
conf_in(const char *directory)
{
	char	   *path = psprintf("%s/postgresql.conf", directory);

	if (access(path, F_OK) == 0)
		return path;
	pg_free(path);
	return NULL;
}

/* The next argument of postmaster.opts: each stands in double quotes. */
static char *
next_argument(char **at)
{
	char	   *start = strstr(*at, " \"");
	char	   *end;

	if (start == NULL || (end = strchr(start + 2, '"')) == NULL)
		return NULL;
	*end = '\0';
	*at = end + 1;
	return start + 2;
}

/* How the server was started last tells where its configuration is. */
static char *
conf_from_last_start(const char *datadir)
{
	char	   *text = read_whole_file(psprintf("%s/postmaster.opts", datadir), NULL);
	char	   *found = NULL;
	char	   *at = text;
	char	   *argument;
	const char *previous = "";

	while (text != NULL && (argument = next_argument(&at)) != NULL)
	{
		const char *value = argument;

		if (strncmp(value, "--", 2) == 0)
			value += 2;
		else if (strncmp(value, "-c", 2) == 0 && value[2] != '\0')
			value += 2;
		if (strncmp(value, "config_file=", 12) == 0 ||
			strncmp(value, "config-file=", 12) == 0)
			found = pg_strdup(value + 12);
		else if (found == NULL && strcmp(previous, "-D") == 0)
			found = conf_in(argument);
		previous = argument;
	}
	return found != NULL && access(found, F_OK) == 0 ? absolute(found) : NULL;
}

/* Is this what the file itself says? "postgres -C" would take too long. */
static bool
names_datadir(const char *conf, const char *datadir)
{
	char	   *text = read_whole_file(conf, NULL);
	bool		named = false;
	char	   *line;

	for (line = text ? strtok(text, "\n") : NULL; line; line = strtok(NULL, "\n"))
	{
		char		value[MAXPGPATH];

		line += strspn(line, " \t");
		if (sscanf(line, "data_directory%*[ \t=]'%1023[^']'", value) == 1)
			named = same_directory(value, datadir);
	}
	pg_free(text);
	return named;
}

/* As Debian's tools, look elsewhere if PG_CLUSTER_CONF_ROOT says so. */
static char *
conf_from_debian(const char *datadir)
{
	const char *root = getenv("PG_CLUSTER_CONF_ROOT");
	char	   *found = NULL;
	glob_t		files;

	if (glob(psprintf("%s/*/*/postgresql.conf", root ? root : "/etc/postgresql"),
			 0, NULL, &files) != 0)
		return NULL;
	for (size_t i = 0; i < files.gl_pathc && found == NULL; i++)
		if (names_datadir(files.gl_pathv[i], datadir))
			found = pg_strdup(files.gl_pathv[i]);
	globfree(&files);
	return found;
}

static void
find_configuration(Node *node)
{
	if (options.config_file != NULL)
	{
		node->config_file = is_directory(options.config_file) ?
			conf_in(options.config_file) : absolute(options.config_file);
		if (node->config_file == NULL || access(node->config_file, R_OK) != 0)
			refuse(REJOIN_CONFIG, psprintf("could not read configuration file \"%s\": %m",
										   options.config_file), NULL, NULL);
		return;
	}
	if (conf_in(node->datadir) != NULL)
		return;
	node->config_file = conf_from_last_start(node->datadir);
	if (node->config_file == NULL)
		node->config_file = conf_from_debian(node->datadir);
	if (node->config_file == NULL)
		refuse(REJOIN_CONFIG, "the configuration file was not found",
			   psprintf("There is no postgresql.conf in \"%s\", none that its last start names, and none below /etc/postgresql with that data_directory.",
						node->datadir),
			   "Give its path with --config-file.");
}

/* The structures that we read are those of one major version. */
static void
check_version(const Node *node)
{
	char	   *version = read_whole_file(psprintf("%s/PG_VERSION", node->datadir), NULL);

	if (version == NULL)
		refuse(REJOIN_CONFIG,
			   psprintf("\"%s\" is not a data directory", node->datadir), NULL, NULL);
	version[strcspn(version, "\r\n")] = '\0';
	if (strcmp(version, PG_MAJORVERSION) != 0)
		refuse(REJOIN_CONFIG,
			   psprintf("data directory \"%s\" is of PostgreSQL %s", node->datadir, version),
			   "This leasehold-rejoin is of PostgreSQL " PG_MAJORVERSION ".",
			   "Each version has its own, beside its own programs.");
}

static void
find_programs(Node *node, const char *argv0)
{
	char		self[MAXPGPATH];

	if (options.bindir != NULL)
		node->bindir = absolute(options.bindir);
	else if (find_my_exec(argv0, self) == 0)
		node->bindir = parent_of(self);
	if (node->bindir == NULL || access(program(node, "postgres"), X_OK) != 0)
		refuse(REJOIN_CONFIG, "the server's programs were not found", NULL,
			   "Name the directory of postgres, pg_rewind and pg_waldump with --bindir.");
}

void
node_find_datadir(Node *node)
{
	memset(node, 0, sizeof(*node));
	node->datadir = absolute(options.datadir);
}

void
node_locate(Node *node, const char *argv0)
{
	char	   *conf;

	find_programs(node, argv0);
	/* as for the server itself, -D may name the directory of the settings */
	conf = conf_in(node->datadir);
	if (conf != NULL && options.config_file == NULL &&
		!file_exists(psprintf("%s/PG_VERSION", node->datadir)))
	{
		options.config_file = conf;
		find_configuration(node);
		node_read_settings(node);
	}
	else
		find_configuration(node);
	check_version(node);
	if (!GetDataDirectoryCreatePerm(node->datadir))
		refuse(REJOIN_CONFIG, psprintf("could not read permissions of directory \"%s\": %m",
									   node->datadir), NULL, NULL);
	umask(pg_mode_mask);
}

/* ------------------------------------------------------------------------
 * Settings
 * ------------------------------------------------------------------------
 */

static void
take_value(char *line, void *arg)
{
	PQExpBuffer value = arg;

	if (value->len > 0)
		appendPQExpBufferChar(value, '\n');
	appendPQExpBufferStr(value, line);
}

/* NULL if the server does not know it, or cannot read its settings at all. */
static char *
setting(const Node *node, const char *name, PQExpBuffer errors)
{
	char	   *argv[8];
	int			n = 0;
	PQExpBufferData value;
	PQExpBufferData ignored;

	argv[n++] = program(node, "postgres");
	argv[n++] = "-D";
	argv[n++] = node->datadir;
	argv[n++] = "-C";
	argv[n++] = unconstify(char *, name);
	if (node->config_file != NULL)
	{
		argv[n++] = "-c";
		argv[n++] = psprintf("config_file=%s", node->config_file);
	}
	argv[n] = NULL;
	initPQExpBuffer(&value);
	initPQExpBuffer(&ignored);
	if (run_program(argv, take_value, &value, errors ? errors : &ignored) != 0)
		return NULL;
	termPQExpBuffer(&ignored);
	return value.data;
}

/* A setting of ours: not set at all is its default. */
static char *
own_setting(const Node *node, const char *name)
{
	char	   *value = setting(node, name, NULL);

	return value ? value : pg_strdup("");
}

/* As settings_node_name() of the server. */
static char *
default_name(const Node *node)
{
	char		host[256] = "";
	char	   *port = setting(node, "port", NULL);

	if (gethostname(host, sizeof(host) - 1) != 0 || host[0] == '\0')
		strlcpy(host, "localhost", sizeof(host));
	return psprintf("%.48s:%s", host, port ? port : "5432");
}

void
node_read_settings(Node *node)
{
	PQExpBufferData errors;
	char	   *datadir;

	initPQExpBuffer(&errors);
	datadir = setting(node, "data_directory", &errors);
	if (datadir == NULL)
		refuse(REJOIN_CONFIG, "the server's settings cannot be read",
			   errors.data, NULL);
	node->datadir = absolute(datadir);
	node->name = own_setting(node, "leasehold.node_name");
	if (node->name[0] == '\0')
		node->name = default_name(node);
	node->store = own_setting(node, "leasehold.store");
	node->lease = own_setting(node, "leasehold.lease");
	node->peer_options = own_setting(node, "leasehold.peer_options");
	node->restore_command = own_setting(node, "restore_command");
	node->primary_conninfo = own_setting(node, "primary_conninfo");
	node->primary_slot_name = own_setting(node, "primary_slot_name");
	node->log_directory = own_setting(node, "log_directory");
	termPQExpBuffer(&errors);
}
