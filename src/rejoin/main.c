/*
 * main.c
 *		leasehold-rejoin: brings a returning instance back as a standby of the
 *		node that holds the lease.
 *
 * Run by hand, by a unit before the server starts (ExecStartPre), or by the
 * server itself when another node has taken its lease (--restart).  See
 * docs/rejoin.md for options and exit codes.
 */
#include "rejoin.h"

#include <unistd.h>

#include "getopt_long.h"

Options		options = {.timeout = 5, .wait = 30};
const char *program_path;

void
say(const char *format,...)
{
	va_list		arguments;

	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	putchar('\n');
	fflush(stdout);
}

void
refuse(ExitCode code, const char *message, const char *detail, const char *hint)
{
	pg_log_error("%s", message);
	if (detail != NULL && detail[0] != '\0')
		pg_log_error_detail("%s", detail);
	if (hint != NULL)
		pg_log_error_hint("%s", hint);
	exit(code);
}

static void
usage(void)
{
	printf("leasehold-rejoin brings a returning PostgreSQL instance back as a standby of the\n"
		   "node that holds its lease.\n\n"
		   "Usage:\n  leasehold-rejoin [OPTION]... [-D DATADIR]\n\nOptions:\n"
		   "  -D, --pgdata=DATADIR     the data directory (default: PGDATA)\n"
		   "      --config-file=FILE   postgresql.conf, where it is not in the data directory\n"
		   "      --bindir=DIR         the server's programs (default: beside this one)\n"
		   "  -n, --dry-run            say what would be done, and change nothing\n"
		   "      --allow-basebackup   take a new base backup if nothing less will do\n"
		   "      --remove-old         after a base backup, remove the old data directory\n"
		   "      --keep-wal=DIR       keep what the group never received in here\n"
		   "                           (default: leasehold_lost beside the data directory)\n"
		   "      --work-dir=DIR       notes and copies while at work\n"
		   "                           (default: DATADIR.rejoin)\n"
		   "  -t, --timeout=SECONDS    for a connection, and for an answer (default: 5)\n"
		   "  -w, --wait=SECONDS       for a node to hold the lease (default: 30)\n"
		   "      --restart            stop the running server, rejoin, start it again, in the\n"
		   "                           background\n"
		   "      --log=FILE           where --restart writes\n"
		   "                           (default: leasehold-rejoin.log beside the data directory)\n"
		   "  -V, --version            output version information, then exit\n"
		   "  -?, --help               show this help, then exit\n\n"
		   "Exit status: 0 the server may be started, 1 internal error, 2 settings or options,\n"
		   "3 a server uses the directory, 4 the store does not answer, 5 nobody holds the\n"
		   "lease, 6 the holder cannot be reached, 7 only a base backup helps, 8 pg_rewind or\n"
		   "pg_basebackup failed, 9 the directory is not of this group.\n");
}

static int
seconds(const char *text, const char *option)
{
	char	   *end;
	long		value = strtol(text, &end, 10);

	if (end == text || *end != '\0' || value < 0 || value > 86400)
		refuse(REJOIN_CONFIG, psprintf("invalid value \"%s\" for option %s", text, option),
			   NULL, NULL);
	return (int) value;
}

enum
{
	OPT_CONFIG_FILE = 1, OPT_BINDIR, OPT_BACKUP, OPT_REMOVE_OLD, OPT_KEEP_WAL,
	OPT_WORK_DIR, OPT_RESTART, OPT_LOG, OPT_AHEAD
};

static const struct option long_options[] = {
	{"pgdata", required_argument, NULL, 'D'},
	{"config-file", required_argument, NULL, OPT_CONFIG_FILE},
	{"bindir", required_argument, NULL, OPT_BINDIR},
	{"dry-run", no_argument, NULL, 'n'},
	{"allow-basebackup", no_argument, NULL, OPT_BACKUP},
	{"remove-old", no_argument, NULL, OPT_REMOVE_OLD},
	{"keep-wal", required_argument, NULL, OPT_KEEP_WAL},
	{"work-dir", required_argument, NULL, OPT_WORK_DIR},
	{"timeout", required_argument, NULL, 't'},
	{"wait", required_argument, NULL, 'w'},
	{"restart", no_argument, NULL, OPT_RESTART},
	{"log", required_argument, NULL, OPT_LOG},
	/* of restart.c, for itself */
	{"ahead", no_argument, NULL, OPT_AHEAD},
	{NULL, 0, NULL, 0}
};

static void
take_option(int c)
{
	switch (c)
	{
		case 'D':
			options.datadir = optarg;
			break;
		case 'n':
			options.dry_run = true;
			break;
		case 't':
			options.timeout = Max(seconds(optarg, "--timeout"), 1);
			break;
		case 'w':
			options.wait = seconds(optarg, "--wait");
			break;
		case OPT_CONFIG_FILE:
			options.config_file = optarg;
			break;
		case OPT_BINDIR:
			options.bindir = optarg;
			break;
		case OPT_BACKUP:
			options.allow_backup = true;
			break;
		case OPT_REMOVE_OLD:
			options.remove_old = true;
			break;
		case OPT_KEEP_WAL:
			options.keep_wal = make_absolute_path(optarg);
			break;
		case OPT_WORK_DIR:
			options.work_dir = make_absolute_path(optarg);
			break;
		case OPT_RESTART:
			options.restart = true;
			break;
		case OPT_LOG:
			options.log = make_absolute_path(optarg);
			break;
		case OPT_AHEAD:
			options.ahead = options.dry_run = true;
			break;
		default:
			pg_log_error_hint("Try \"leasehold-rejoin --help\" for more information.");
			exit(REJOIN_CONFIG);
	}
}

int
main(int argc, char **argv)
{
	int			c;

	pg_logging_init(argv[0]);
	program_path = argv[0];
	for (int i = 1; i < argc; i++)
	{
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-?") == 0)
		{
			usage();
			return 0;
		}
		if (strcmp(argv[i], "--version") == 0 || strcmp(argv[i], "-V") == 0)
		{
			puts("leasehold-rejoin (PostgreSQL) " PG_VERSION);
			return 0;
		}
	}
	while ((c = getopt_long(argc, argv, "D:nt:w:", long_options, NULL)) != -1)
		take_option(c);
	if (optind < argc)
		refuse(REJOIN_CONFIG, psprintf("too many arguments (first is \"%s\")", argv[optind]),
			   NULL, NULL);
	if (options.datadir == NULL)
		options.datadir = getenv("PGDATA");
	if (options.datadir == NULL || options.datadir[0] == '\0')
		refuse(REJOIN_CONFIG, "no data directory is given", NULL,
			   "Name it with -D, or in the environment variable PGDATA.");
	if (geteuid() == 0)
		refuse(REJOIN_CONFIG, "cannot be run as root",
			   "What it writes has to belong to the user of the server.",
			   "Run it as that user: runuser -u postgres -- leasehold-rejoin ...");
	if (options.restart)
		return restart();
	/* we read what the server's programs say */
	setenv("LC_ALL", "C", 1);
	return rejoin();
}
