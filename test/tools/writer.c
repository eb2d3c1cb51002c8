/*
 * writer.c
 *		A client that writes, and notes what was acknowledged where and when.
 *
 * Each of its connections inserts rows (client, seq) one after the other, and
 * finds its way back after every failure.  For each row it writes one line:
 *
 *		t_send t_ack node client seq epoch outcome waited
 *
 * Times are nanoseconds on the clock that leases are judged by, so that the
 * logs of several writers on one machine can be laid side by side.  t_ack is
 * taken when the end of the answer (ReadyForQuery) was read; "node" says who
 * answered, "epoch" under which epoch ("-": not asked for).  "waited" is how much
 * of the time before t_ack the reading thread was ready to run and had no
 * processor, as the kernel counts it: the answer may have been here so much
 * earlier, not more.  Outcomes:
 *
 *		ack				success, the server is ready again
 *		tag				the command was reported done, and then the connection
 *						ended before the server was ready: the client saw success,
 *						or may have
 *		refused			25006, read-only
 *		error:SQLSTATE	any other error
 *		lost			the connection ended, or time was up: the outcome is unknown
 *
 * test/tools/judge reads such logs.  The table is
 *
 *		CREATE TABLE writes (client int, seq bigint, epoch bigint, PRIMARY KEY (client, seq))
 *
 * Every connection is a thread with a poll() loop of its own, so that no answer
 * waits to be read.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libpq-fe.h>

#include "clock.h"

#define MAX_HOSTS	16
#define MAX_DEPTH	64

typedef enum Mode
{
	MODE_SIMPLE,				/* one statement, simple protocol */
	MODE_TXN,					/* BEGIN, INSERT, COMMIT */
	MODE_EXTENDED,				/* prepared statement */
	MODE_PIPELINE				/* prepared statement, several under way */
} Mode;

typedef struct Option
{
	const char *conninfo;
	const char *table;
	const char *lease;			/* whose epoch it is; NULL: the instance's */
	const char *label;
	const char *label_query;
	const char *log;
	Mode		mode;
	int			connections;
	int			first_client;
	double		duration;		/* seconds, 0: until SIGTERM */
	double		rate;			/* rows per second and connection, 0: no limit */
	int			connect_timeout;	/* ms */
	int			reply_timeout;	/* ms, 0: none */
	int			retry;			/* ms */
	int			depth;
	bool		epoch;
	bool		reconnect_on_refused;
} Option;

typedef struct Client
{
	int			number;
	PGconn	   *conn;
	char		node[64];
	long		seq;
	bool		give_up;		/* the connection is of no more use */
	unsigned	first_host;		/* where the next attempt begins */
} Client;

static Option opt = {
	.table = "writes",
	.label_query = "SELECT coalesce(nullif(current_setting('leasehold.node_name', true), ''), current_setting('port'))",
	.connections = 4,
	.connect_timeout = 1000,
	.retry = 10,
	.depth = 8,
};

static char *hosts[MAX_HOSTS];
static char *ports[MAX_HOSTS];
static int	nhosts = 0;

static FILE *out;
static pthread_mutex_t out_lock = PTHREAD_MUTEX_INITIALIZER;
static volatile sig_atomic_t stop = 0;
static ClockTime stop_at = CLOCK_NEVER;

static void
on_signal(int signo)
{
	stop = 1;
}

static bool
stopping(void)
{
	return stop || clock_now() >= stop_at;
}

/*
 * run_delay
 *		How long this thread has waited for a processor since it began, in
 *		nanoseconds; 0 where the kernel does not tell.
 */
static long long
run_delay(void)
{
	static __thread int fd = -2;
	char		text[128];
	long long	ran;
	long long	waited;
	ssize_t		n;

	if (fd == -2)
		fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || (n = pread(fd, text, sizeof(text) - 1, 0)) <= 0)
		return 0;
	text[n] = '\0';
	return sscanf(text, "%lld %lld", &ran, &waited) == 2 ? waited : 0;
}

/* run_delay() before this thread last waited for its socket */
static __thread long long delay_before;

/*
 * One line of the log.  Called when the answer was read: "now" is t_ack.
 */
static void
note(Client *client, ClockTime sent, long seq, const char *epoch,
	 const char *outcome)
{
	ClockTime	now = clock_now();
	long long	waited = run_delay() - delay_before;

	pthread_mutex_lock(&out_lock);
	fprintf(out, "%lld %lld %s %d %ld %s %s %lld\n", (long long) sent,
			(long long) now, client->node[0] ? client->node : "-",
			client->number, seq, epoch && *epoch ? epoch : "-", outcome, waited);
	pthread_mutex_unlock(&out_lock);
}

static void
nap(int ms)
{
	if (!stopping())
		poll(NULL, 0, ms);
}

/*
 * Wait for the socket, in steps short enough to see that it is time to stop.
 * False: the moment has come, or we shall stop.
 */
static bool
wait_socket(PGconn *conn, short events, ClockTime until)
{
	for (;;)
	{
		struct pollfd fd = {.fd = PQsocket(conn), .events = events};
		ClockTime	now = clock_now();
		long		ms = clock_wait_ms(now, until);
		int			rc;

		if (ms == 0 || stopping())
			return false;
		if (ms < 0 || ms > 50)
			ms = 50;
		delay_before = run_delay();
		rc = poll(&fd, 1, (int) ms);
		if (rc > 0)
			return true;
		if (rc < 0 && errno != EINTR)
			return false;
	}
}

/* ------------------------------------------------------------------------
 * Connecting
 * ------------------------------------------------------------------------
 */

static int
split(char *text, char **items)
{
	int			n = 0;

	while (text && n < MAX_HOSTS)
	{
		char	   *comma = strchr(text, ',');

		if (comma)
			*comma = '\0';
		items[n++] = text;
		text = comma ? comma + 1 : NULL;
	}
	return n;
}

static const char **keywords;
static const char **values;
static int	host_at = -1;
static int	port_at = -1;

/*
 * Take the connection string apart once: the hosts in it are tried from another
 * one after an attempt that hung, because one deadline covers all of them.
 */
static void
parse_conninfo(void)
{
	char	   *error = NULL;
	PQconninfoOption *options = PQconninfoParse(opt.conninfo, &error);
	int			n = 0;
	int			nports = 0;

	if (options == NULL)
	{
		fprintf(stderr, "writer: %s", error ? error : "out of memory\n");
		exit(2);
	}
	keywords = calloc(100, sizeof(char *));
	values = calloc(100, sizeof(char *));
	for (PQconninfoOption *o = options; o->keyword && n < 95; o++)
	{
		if (o->val == NULL)
			continue;
		if (strcmp(o->keyword, "host") == 0)
			host_at = n;
		if (strcmp(o->keyword, "port") == 0)
			port_at = n;
		keywords[n] = strdup(o->keyword);
		values[n++] = strdup(o->val);
	}
	keywords[n] = "fallback_application_name";
	values[n++] = "writer";
	PQconninfoFree(options);
	if (host_at >= 0)
		nhosts = split(strdup(values[host_at]), hosts);
	if (port_at >= 0)
		nports = split(strdup(values[port_at]), ports);
	for (int i = nports; i < nhosts; i++)
		ports[i] = nports == 1 ? ports[0] : "";
}

/* Notices of a server that ends are not for our standard error. */
static void
no_notice(void *arg, const char *message)
{
}

static PGconn *
start_connect(Client *client)
{
	const char *v[100];
	char		host[2048] = "";
	char		port[512] = "";

	memcpy(v, values, 100 * sizeof(char *));
	if (nhosts > 1)
	{
		for (int i = 0; i < nhosts; i++)
		{
			int			at = (client->first_host + i) % nhosts;

			snprintf(host + strlen(host), sizeof(host) - strlen(host), "%s%s", i ? "," : "", hosts[at]);
			snprintf(port + strlen(port), sizeof(port) - strlen(port), "%s%s", i ? "," : "", ports[at]);
		}
		v[host_at] = host;
		if (port_at >= 0)
			v[port_at] = port;
	}
	return PQconnectStartParams(keywords, v, 0);
}

static void
disconnect(Client *client)
{
	if (client->conn)
		PQfinish(client->conn);
	client->conn = NULL;
}

/* One answer, read to its end.  NULL: none. */
static PGresult *
ask(Client *client, const char *sql, ClockTime until)
{
	PGresult   *last = NULL;
	PGresult   *result;

	if (!PQsendQuery(client->conn, sql))
		return NULL;
	for (;;)
	{
		while (PQisBusy(client->conn))
		{
			if (!wait_socket(client->conn, POLLIN, until) ||
				!PQconsumeInput(client->conn))
			{
				PQclear(last);
				return NULL;
			}
		}
		result = PQgetResult(client->conn);
		if (result == NULL)
			return last;
		PQclear(last);
		last = result;
	}
}

static bool
succeeded(PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);

	return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
}

static const char *
insert_text(bool parameters, Client *client, long seq)
{
	static __thread char sql[512];
	char		row[64];
	char		epoch[128];

	if (opt.lease != NULL)
		snprintf(epoch, sizeof(epoch), ", leasehold.epoch('%s')", opt.lease);
	else
		strcpy(epoch, ", leasehold.epoch()");
	if (parameters)
		strcpy(row, "$1::int, $2::bigint");
	else
		snprintf(row, sizeof(row), "%d, %ld", client->number, seq);
	snprintf(sql, sizeof(sql), "INSERT INTO %s (client, seq%s) VALUES (%s%s)%s",
			 opt.table, opt.epoch ? ", epoch" : "", row,
			 opt.epoch ? epoch : "",
			 opt.epoch ? " RETURNING epoch" : "");
	return sql;
}

static bool
connect_client(Client *client)
{
	ClockTime	until = clock_now() + opt.connect_timeout * CLOCK_MS;
	PostgresPollingStatusType status = PGRES_POLLING_WRITING;
	PGresult   *result;

	disconnect(client);
	client->node[0] = '\0';
	client->give_up = false;
	client->conn = start_connect(client);
	if (client->conn == NULL || PQstatus(client->conn) == CONNECTION_BAD)
		return false;
	PQsetNoticeProcessor(client->conn, no_notice, NULL);
	while (status != PGRES_POLLING_OK)
	{
		if (!wait_socket(client->conn, status == PGRES_POLLING_READING ? POLLIN : POLLOUT, until))
		{
			/* the first host may be what hangs: begin with the next one */
			client->first_host++;
			return false;
		}
		status = PQconnectPoll(client->conn);
		if (status == PGRES_POLLING_FAILED)
			return false;
	}

	if (opt.label)
		snprintf(client->node, sizeof(client->node), "%s", opt.label);
	else
	{
		result = ask(client, opt.label_query, until);
		if (result == NULL || PQresultStatus(result) != PGRES_TUPLES_OK || PQntuples(result) < 1)
		{
			PQclear(result);
			return false;
		}
		snprintf(client->node, sizeof(client->node), "%s", PQgetvalue(result, 0, 0));
		for (char *c = client->node; *c; c++)
			if (*c == ' ')
				*c = '_';
		PQclear(result);
	}

	if (opt.mode == MODE_EXTENDED || opt.mode == MODE_PIPELINE)
	{
		bool		good;

		if (!PQsendPrepare(client->conn, "w", insert_text(true, client, 0), 0, NULL))
			return false;
		result = NULL;
		good = false;
		for (;;)
		{
			while (PQisBusy(client->conn))
				if (!wait_socket(client->conn, POLLIN, until) || !PQconsumeInput(client->conn))
					return false;
			result = PQgetResult(client->conn);
			if (result == NULL)
				break;
			good = succeeded(result);
			PQclear(result);
		}
		if (!good)
			return false;
	}
	if (opt.mode == MODE_PIPELINE && !PQenterPipelineMode(client->conn))
		return false;
	PQsetnonblocking(client->conn, 1);
	return true;
}

/* ------------------------------------------------------------------------
 * Writing
 * ------------------------------------------------------------------------
 */

static bool
flush(PGconn *conn, ClockTime until)
{
	int			rc;

	while ((rc = PQflush(conn)) == 1)
	{
		if (!wait_socket(conn, POLLIN | POLLOUT, until) || !PQconsumeInput(conn))
			return false;
	}
	return rc == 0;
}

/*
 * Read one result of the row under way.  NULL with *more = false: the answer
 * is complete; with *more = true: the connection is gone or time is up.
 */
static PGresult *
next_result(Client *client, ClockTime until, bool *more)
{
	*more = false;
	while (PQisBusy(client->conn))
	{
		if (!wait_socket(client->conn, POLLIN, until) ||
			!PQconsumeInput(client->conn))
		{
			*more = true;
			return NULL;
		}
	}
	return PQgetResult(client->conn);
}

static ClockTime
reply_deadline(void)
{
	return opt.reply_timeout ? clock_now() + opt.reply_timeout * CLOCK_MS : CLOCK_NEVER;
}

/* Name the outcome of an error. */
static void
error_outcome(Client *client, PGresult *result, char *outcome, size_t size)
{
	const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	if (sqlstate == NULL)
	{
		snprintf(outcome, size, "lost");
		client->give_up = true;
	}
	else if (strcmp(sqlstate, "25006") == 0)
	{
		snprintf(outcome, size, "refused");
		if (opt.reconnect_on_refused)
			client->give_up = true;
	}
	else
		snprintf(outcome, size, "error:%s", sqlstate);
}

/*
 * Send one statement and read its answer; outcome is "ack", or says what came
 * instead.  True: ack.
 */
static bool
exchange(Client *client, const char *sql, long seq, ClockTime until,
		 char *epoch, char *outcome)
{
	bool		tag = false;
	bool		broken;
	PGresult   *result;
	int			sent;

	strcpy(outcome, "lost");
	if (sql)
		sent = PQsendQuery(client->conn, sql);
	else
	{
		char		number[16];
		char		row[24];
		const char *parameters[2] = {number, row};

		snprintf(number, sizeof(number), "%d", client->number);
		snprintf(row, sizeof(row), "%ld", seq);
		sent = PQsendQueryPrepared(client->conn, "w", 2, parameters, NULL, NULL, 0);
	}
	if (!sent || !flush(client->conn, until))
	{
		client->give_up = true;
		return false;
	}
	while ((result = next_result(client, until, &broken)) != NULL)
	{
		if (succeeded(result))
		{
			/* COMMIT of a failed transaction "succeeds" as ROLLBACK */
			if (strcmp(PQcmdStatus(result), "ROLLBACK") == 0)
				strcpy(outcome, "error:rollback");
			else
				tag = true;
			if (PQntuples(result) > 0 && PQnfields(result) > 0)
				snprintf(epoch, 24, "%s", PQgetvalue(result, 0, 0));
		}
		else
		{
			char		what[32];

			error_outcome(client, result, what, sizeof(what));
			/* success was announced before the connection broke */
			if (!(tag && strcmp(what, "lost") == 0))
			{
				strcpy(outcome, what);
				tag = false;
			}
			else
				broken = true;
		}
		PQclear(result);
	}
	if (broken || PQstatus(client->conn) == CONNECTION_BAD)
	{
		client->give_up = true;
		if (tag)
			strcpy(outcome, "tag");
		return false;
	}
	if (tag)
		strcpy(outcome, "ack");
	return tag;
}

static bool
write_row(Client *client)
{
	ClockTime	until = reply_deadline();
	ClockTime	sent = clock_now();
	long		seq = ++client->seq;
	char		epoch[24] = "";
	char		outcome[32];
	bool		good;

	if (opt.mode == MODE_TXN)
	{
		good = exchange(client, "BEGIN", 0, until, epoch, outcome) &&
			exchange(client, insert_text(false, client, seq), 0, until, epoch, outcome);

		if (good)
			good = exchange(client, "COMMIT", 0, until, epoch, outcome);
		else
		{
			/* nothing was promised before COMMIT was sent */
			if (strcmp(outcome, "tag") == 0)
				strcpy(outcome, "lost");
			note(client, sent, seq, epoch, outcome);
			if (!client->give_up)
				exchange(client, "ROLLBACK", 0, reply_deadline(), epoch, outcome);
			return false;
		}
	}
	else
		good = exchange(client, opt.mode == MODE_SIMPLE ? insert_text(false, client, seq) : NULL,
						seq, until, epoch, outcome);
	note(client, sent, seq, epoch, outcome);
	return good;
}

/*
 * Several rows under way at once, each a transaction of its own.
 */
static void
write_pipeline(Client *client)
{
	struct
	{
		long		seq;
		ClockTime	sent;
		char		epoch[24];
		char		outcome[32];
		bool		tag;
	}			row[MAX_DEPTH];
	int			first = 0;
	int			pending = 0;
	bool		broken = false;

	while (!client->give_up && (pending > 0 || !stopping()))
	{
		PGresult   *result;

		while (pending < opt.depth && !stopping())
		{
			int			at = (first + pending) % MAX_DEPTH;
			char		number[16];
			char		seq[24];
			const char *parameters[2] = {number, seq};

			row[at].seq = ++client->seq;
			row[at].sent = clock_now();
			row[at].epoch[0] = '\0';
			row[at].tag = false;
			strcpy(row[at].outcome, "lost");
			pending++;
			snprintf(number, sizeof(number), "%d", client->number);
			snprintf(seq, sizeof(seq), "%ld", row[at].seq);
			if (!PQsendQueryPrepared(client->conn, "w", 2, parameters, NULL, NULL, 0) ||
				!PQpipelineSync(client->conn))
			{
				client->give_up = true;
				break;
			}
		}
		if (client->give_up || !flush(client->conn, reply_deadline()))
			break;
		result = next_result(client, reply_deadline(), &broken);
		if (broken || PQstatus(client->conn) == CONNECTION_BAD)
		{
			PQclear(result);
			break;
		}
		if (result == NULL)
			continue;			/* the end of one statement's results */
		if (PQresultStatus(result) == PGRES_PIPELINE_SYNC)
		{
			if (row[first].tag)
				strcpy(row[first].outcome, "ack");
			note(client, row[first].sent, row[first].seq, row[first].epoch,
				 row[first].outcome);
			first = (first + 1) % MAX_DEPTH;
			pending--;
			if (opt.rate > 0)
				nap((int) (1000 / opt.rate));
		}
		else if (succeeded(result))
		{
			row[first].tag = true;
			if (PQntuples(result) > 0 && PQnfields(result) > 0)
				snprintf(row[first].epoch, sizeof(row[first].epoch), "%s", PQgetvalue(result, 0, 0));
		}
		else if (PQresultStatus(result) != PGRES_PIPELINE_ABORTED)
		{
			char		what[32];

			error_outcome(client, result, what, sizeof(what));
			if (!(row[first].tag && strcmp(what, "lost") == 0))
			{
				row[first].tag = false;
				strcpy(row[first].outcome, what);
			}
		}
		PQclear(result);
	}
	client->give_up = true;
	for (; pending > 0; pending--)
	{
		note(client, row[first].sent, row[first].seq, row[first].epoch,
			 row[first].tag ? "tag" : row[first].outcome);
		first = (first + 1) % MAX_DEPTH;
	}
}

static void *
run_client(void *arg)
{
	Client	   *client = arg;
	ClockTime	due = clock_now();

	while (!stopping())
	{
		if (client->conn == NULL || client->give_up)
		{
			if (!connect_client(client))
			{
				disconnect(client);
				nap(opt.retry);
				continue;
			}
		}
		if (opt.mode == MODE_PIPELINE)
		{
			write_pipeline(client);
			nap(opt.retry);
			continue;
		}
		if (opt.rate > 0)
		{
			ClockTime	now = clock_now();

			if (due > now)
				nap((int) clock_wait_ms(now, due));
			/* no burst to catch up after a pause */
			due = clock_max(due, now - CLOCK_S / 10) + (ClockTime) (CLOCK_S / opt.rate);
			if (stopping())
				break;
		}
		/* a refusal comes at once: do not ask a thousand times a second */
		if (!write_row(client))
			nap(opt.retry);
	}
	disconnect(client);
	return NULL;
}

static void
usage(void)
{
	fprintf(stderr,
			"usage: writer --conninfo=STRING --log=FILE [options]\n"
			"  --table=NAME            table (client int, seq bigint [, epoch bigint]): writes\n"
			"  --connections=N         4\n"
			"  --client=N              number of the first client: 0\n"
			"  --mode=MODE             simple, txn, extended, pipeline\n"
			"  --depth=N               rows under way in a pipeline: 8\n"
			"  --duration=SECONDS      0: until SIGTERM\n"
			"  --rate=N                rows per second and connection, 0: no limit\n"
			"  --epoch                 store and note leasehold.epoch() with each row\n"
			"  --lease=NAME            ... of this lease, which is one of tables\n"
			"  --label=NAME            the node's name in the log; else asked with\n"
			"  --label-query=SQL       the node's name or port\n"
			"  --connect-timeout=MS    1000\n"
			"  --reply-timeout=MS      give up waiting for an answer, 0: never\n"
			"  --retry=MS              pause after a failure: 10\n"
			"  --on-refused=WAY        stay, reconnect (default with more than one host)\n");
	exit(2);
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{"conninfo", required_argument, NULL, 'c'},
		{"log", required_argument, NULL, 'l'},
		{"table", required_argument, NULL, 't'},
		{"connections", required_argument, NULL, 'n'},
		{"client", required_argument, NULL, 'f'},
		{"mode", required_argument, NULL, 'm'},
		{"depth", required_argument, NULL, 'p'},
		{"duration", required_argument, NULL, 'd'},
		{"rate", required_argument, NULL, 'r'},
		{"epoch", no_argument, NULL, 'e'},
		{"lease", required_argument, NULL, 'E'},
		{"label", required_argument, NULL, 'L'},
		{"label-query", required_argument, NULL, 'q'},
		{"connect-timeout", required_argument, NULL, 'C'},
		{"reply-timeout", required_argument, NULL, 'R'},
		{"retry", required_argument, NULL, 'y'},
		{"on-refused", required_argument, NULL, 'o'},
		{NULL, 0, NULL, 0}
	};
	const char *on_refused = NULL;
	pthread_t  *threads;
	Client	   *clients;
	int			c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
	{
		switch (c)
		{
			case 'c':
				opt.conninfo = optarg;
				break;
			case 'l':
				opt.log = optarg;
				break;
			case 't':
				opt.table = optarg;
				break;
			case 'n':
				opt.connections = atoi(optarg);
				break;
			case 'f':
				opt.first_client = atoi(optarg);
				break;
			case 'm':
				if (strcmp(optarg, "simple") == 0 || strcmp(optarg, "autocommit") == 0)
					opt.mode = MODE_SIMPLE;
				else if (strcmp(optarg, "txn") == 0)
					opt.mode = MODE_TXN;
				else if (strcmp(optarg, "extended") == 0)
					opt.mode = MODE_EXTENDED;
				else if (strcmp(optarg, "pipeline") == 0)
					opt.mode = MODE_PIPELINE;
				else
					usage();
				break;
			case 'p':
				opt.depth = atoi(optarg);
				break;
			case 'd':
				opt.duration = atof(optarg);
				break;
			case 'r':
				opt.rate = atof(optarg);
				break;
			case 'e':
				opt.epoch = true;
				break;
			case 'E':
				opt.lease = optarg;
				break;
			case 'L':
				opt.label = optarg;
				break;
			case 'q':
				opt.label_query = optarg;
				break;
			case 'C':
				opt.connect_timeout = atoi(optarg);
				break;
			case 'R':
				opt.reply_timeout = atoi(optarg);
				break;
			case 'y':
				opt.retry = atoi(optarg);
				break;
			case 'o':
				on_refused = optarg;
				break;
			default:
				usage();
		}
	}
	if (opt.conninfo == NULL || opt.log == NULL || opt.connections < 1 ||
		opt.depth < 1 || opt.depth > MAX_DEPTH)
		usage();
	parse_conninfo();
	opt.reconnect_on_refused = on_refused ? strcmp(on_refused, "reconnect") == 0 : nhosts > 1;

	out = fopen(opt.log, "a");
	if (out == NULL)
	{
		fprintf(stderr, "writer: could not open \"%s\": %s\n", opt.log, strerror(errno));
		return 2;
	}
	setvbuf(out, NULL, _IOFBF, 1 << 16);
	if (opt.duration > 0)
		stop_at = clock_now() + (ClockTime) (opt.duration * CLOCK_S);
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	signal(SIGPIPE, SIG_IGN);

	threads = calloc(opt.connections, sizeof(pthread_t));
	clients = calloc(opt.connections, sizeof(Client));
	for (int i = 0; i < opt.connections; i++)
	{
		clients[i].number = opt.first_client + i;
		if (pthread_create(&threads[i], NULL, run_client, &clients[i]) != 0)
		{
			fprintf(stderr, "writer: could not start a thread\n");
			return 2;
		}
	}

	/* so that others can follow the log while it grows */
	while (!stopping())
	{
		poll(NULL, 0, 50);
		pthread_mutex_lock(&out_lock);
		fflush(out);
		pthread_mutex_unlock(&out_lock);
	}
	for (int i = 0; i < opt.connections; i++)
		pthread_join(threads[i], NULL);
	return fclose(out) == 0 ? 0 : 1;
}
