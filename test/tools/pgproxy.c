/*
 * pgproxy.c
 *		A proxy for the PostgreSQL protocol that misbehaves on demand.
 *
 * It stands between a keeper and a member of its store.  It passes bytes on,
 * follows the framing of the messages, and can replace the answer to a request
 * by an error, by a lost connection or by silence, before or after the request
 * took effect at the server; it can delay, hold and refuse.  Tests use it for
 * what a distributed engine or a bad network does to a client.
 *
 *		pgproxy --listen [HOST:]PORT --target HOST:PORT|/dir/.s.PGSQL.PORT
 *				--control /path/socket [--seed N] [--log FILE]
 *
 * Port 0 picks a free port.  When ready, a line "listening on PORT" goes to
 * standard output.  The proxy ends on SIGTERM, on "quit", and when its parent
 * ends.
 *
 * The control socket takes one command per line and answers each with a line,
 * "ok ..." or "error ...", after it has taken effect:
 *
 *	pass				no faults (also ends hang, refuse and delay)
 *	hang [to|from]		hold all bytes, or those to or from the server; what is
 *						held flows on at the next "pass".  New connections are
 *						accepted (by the kernel) and get no answer
 *	refuse				refuse new connections, break those that exist
 *	kill				break the connections that exist
 *	delay TO FROM		milliseconds that bytes take to and from the server
 *	prob KIND=P ...		probability of each kind of fault, per request; the kinds
 *						not named get 0
 *	next KIND [N]		the next N requests (default 1) get this fault
 *	only TEXT			faults hit only requests whose text contains TEXT; without
 *						TEXT: all
 *	late MS				how long "late_request" and "late_reply" hold (500)
 *	stats				requests seen and faults done: "ok requests=N KIND=N ..."
 *	quit
 *
 * Kinds of fault:
 *
 *	e40001_before		error 40001 without effect
 *	e40001_after		error 40001 though the request took effect
 *	e40003_after		error 40003 though the request took effect
 *	lost_before			connection lost without effect
 *	lost_after			connection lost, the request took effect
 *	silence_before		no answer ever, without effect; the connection stays open
 *	silence_after		no answer ever, the request took effect
 *	late_request		the request reaches the server late, even when the client
 *						has gone meanwhile
 *	late_reply			the server acts at once, the answer comes late
 *
 * A request is what the server answers with ReadyForQuery: a simple query, or
 * extended-protocol messages up to Sync.  One request at a time is under way to
 * the server; what a pipelining client sends ahead waits here.  "After" faults
 * strike only when the server reports success and no transaction is left open,
 * so that what the client is told stays a thing that a server could have said.
 * Within a transaction block "e40001_before" makes the server fail the
 * transaction for real.  SSL and GSS encryption are declined.
 *
 * Given the same seed and the same requests per connection, the same requests
 * are hit.
 */
#define _GNU_SOURCE

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"

#define MAX_CONNS	256
#define MAX_CONTROLS 8

#define CODE_CANCEL 80877102
#define CODE_SSL	80877103
#define CODE_GSS	80877104

typedef enum Fault
{
	FAULT_NONE = -1,
	E40001_BEFORE,
	E40001_AFTER,
	E40003_AFTER,
	LOST_BEFORE,
	LOST_AFTER,
	SILENCE_BEFORE,
	SILENCE_AFTER,
	LATE_REQUEST,
	LATE_REPLY,
	FAULTS
} Fault;

static const char *const fault_names[FAULTS] = {
	"e40001_before", "e40001_after", "e40003_after", "lost_before",
	"lost_after", "silence_before", "silence_after", "late_request",
	"late_reply"
};

/* Bytes that have arrived and are not yet understood. */
typedef struct Buffer
{
	char	   *data;
	size_t		len;
	size_t		size;
} Buffer;

/* Bytes on their way out, each piece with the moment it may leave. */
typedef struct Piece
{
	struct Piece *next;
	ClockTime	due;
	size_t		len;
	size_t		sent;
	char		data[];
} Piece;

typedef struct Queue
{
	Piece	   *first;
	Piece	   *last;
	ClockTime	due;			/* of the last piece: order is kept */
} Queue;

typedef enum Phase
{
	PHASE_STARTUP,				/* no startup packet yet */
	PHASE_AUTH,					/* until the first ReadyForQuery */
	PHASE_IDLE,					/* no request under way */
	PHASE_BUSY,					/* a request is at the server */
	PHASE_RAW					/* bytes are passed on, not understood */
} Phase;

typedef struct Conn
{
	int			id;
	int			client;			/* -1: gone */
	int			server;			/* -1: gone */
	bool		server_eof;
	Phase		phase;
	char		status;			/* of the last ReadyForQuery: I, T, E */
	uint64_t	random;
	Buffer		from_client;
	Buffer		from_server;
	Buffer		held;			/* the answer of the request under way */
	Queue		to_client;
	Queue		to_server;

	/* the request under way */
	Fault		fault;
	bool		failing;		/* it was replaced by one that fails */
	bool		saw_error;
	bool		deaf;			/* silent for good: the client's bytes go nowhere */
} Conn;

static Conn *conns[MAX_CONNS];
static int	next_conn_id = 0;

static int	listener = -1;
static struct sockaddr_storage listen_addr;
static socklen_t listen_addr_len;
static struct sockaddr_storage target_addr;
static socklen_t target_addr_len;

static int	control_listener = -1;
static int	controls[MAX_CONTROLS];
static Buffer control_buffers[MAX_CONTROLS];
static const char *control_path = NULL;

/* what the control commands set */
static bool hold_to = false;
static bool hold_from = false;
static bool refuse = false;
static ClockTime delay_to = 0;
static ClockTime delay_from = 0;
static double probability[FAULTS];
static Fault next_fault = FAULT_NONE;
static long next_count = 0;
static char only[256] = "";
static ClockTime late = 500 * CLOCK_MS;

static uint64_t seed = 1;
static FILE *log_file = NULL;
static unsigned long requests = 0;
static unsigned long done[FAULTS];
static volatile sig_atomic_t stop = 0;

static void
fail(const char *format,...)
{
	va_list		args;

	va_start(args, format);
	fprintf(stderr, "pgproxy: ");
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n");
	va_end(args);
	exit(2);
}

static void *
allocate(void *old, size_t size)
{
	void	   *memory = realloc(old, size);

	if (memory == NULL)
		fail("out of memory");
	return memory;
}

static void
on_signal(int signo)
{
	stop = 1;
}

/* xorshift64*: small, and the same on every machine */
static double
random_fraction(Conn *conn)
{
	conn->random ^= conn->random >> 12;
	conn->random ^= conn->random << 25;
	conn->random ^= conn->random >> 27;
	return (double) ((conn->random * UINT64_C(2685821657736338717)) >> 11) /
		(double) (UINT64_C(1) << 53);
}

static uint32_t
read32(const char *data)
{
	uint32_t	value;

	memcpy(&value, data, 4);
	return ntohl(value);
}

/* ------------------------------------------------------------------------
 * Buffers and queues
 * ------------------------------------------------------------------------
 */

static void
buffer_add(Buffer *buffer, const char *data, size_t len)
{
	if (buffer->len + len > buffer->size)
	{
		buffer->size = (buffer->len + len) * 2;
		buffer->data = allocate(buffer->data, buffer->size);
	}
	memcpy(buffer->data + buffer->len, data, len);
	buffer->len += len;
}

static void
buffer_eat(Buffer *buffer, size_t len)
{
	memmove(buffer->data, buffer->data + len, buffer->len - len);
	buffer->len -= len;
}

static void
buffer_free(Buffer *buffer)
{
	free(buffer->data);
	memset(buffer, 0, sizeof(*buffer));
}

static void
queue_add(Queue *queue, const char *data, size_t len, ClockTime delay)
{
	Piece	   *piece;

	if (len == 0)
		return;
	piece = allocate(NULL, sizeof(Piece) + len);
	piece->next = NULL;
	piece->len = len;
	piece->sent = 0;
	piece->due = clock_max(clock_now() + delay, queue->due);
	memcpy(piece->data, data, len);
	queue->due = piece->due;
	if (queue->last)
		queue->last->next = piece;
	else
		queue->first = piece;
	queue->last = piece;
}

static void
queue_free(Queue *queue)
{
	while (queue->first)
	{
		Piece	   *piece = queue->first;

		queue->first = piece->next;
		free(piece);
	}
	queue->last = NULL;
}

/*
 * Send what is due.  False: the connection is broken.
 */
static bool
queue_send(Queue *queue, int fd, ClockTime now)
{
	while (queue->first && queue->first->due <= now)
	{
		Piece	   *piece = queue->first;
		ssize_t		n = send(fd, piece->data + piece->sent,
							 piece->len - piece->sent, MSG_NOSIGNAL);

		if (n < 0)
			return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
		piece->sent += n;
		if (piece->sent < piece->len)
			return true;
		queue->first = piece->next;
		if (queue->first == NULL)
			queue->last = NULL;
		free(piece);
	}
	return true;
}

static void
send_to_client(Conn *conn, const char *data, size_t len)
{
	if (conn->client >= 0)
		queue_add(&conn->to_client, data, len, delay_from);
}

static void
send_to_server(Conn *conn, const char *data, size_t len)
{
	queue_add(&conn->to_server, data, len, delay_to);
}

/* ------------------------------------------------------------------------
 * Connections
 * ------------------------------------------------------------------------
 */

static void
close_conn(Conn *conn)
{
	for (int i = 0; i < MAX_CONNS; i++)
		if (conns[i] == conn)
			conns[i] = NULL;
	if (conn->client >= 0)
		close(conn->client);
	if (conn->server >= 0)
		close(conn->server);
	buffer_free(&conn->from_client);
	buffer_free(&conn->from_server);
	buffer_free(&conn->held);
	queue_free(&conn->to_client);
	queue_free(&conn->to_server);
	free(conn);
}

static void
close_all(void)
{
	for (int i = 0; i < MAX_CONNS; i++)
		if (conns[i])
			close_conn(conns[i]);
}

static void
set_nonblocking(int fd)
{
	int			on = 1;

	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static void
open_listener(void)
{
	int			on = 1;

	if (listener >= 0)
		return;
	listener = socket(listen_addr.ss_family, SOCK_STREAM, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(listener, (struct sockaddr *) &listen_addr, listen_addr_len) < 0 ||
		listen(listener, 128) < 0)
		fail("could not listen: %s", strerror(errno));
	/* the same port again after "refuse" */
	getsockname(listener, (struct sockaddr *) &listen_addr, &listen_addr_len);
	set_nonblocking(listener);
}

static void
accept_client(void)
{
	int			client = accept(listener, NULL, NULL);
	int			slot = 0;
	Conn	   *conn;

	if (client < 0)
		return;
	while (slot < MAX_CONNS && conns[slot])
		slot++;
	if (slot == MAX_CONNS)
	{
		close(client);
		return;
	}

	conn = allocate(NULL, sizeof(Conn));
	memset(conn, 0, sizeof(*conn));
	conn->id = ++next_conn_id;
	conn->client = client;
	conn->phase = PHASE_STARTUP;
	conn->fault = FAULT_NONE;
	conn->status = 'I';
	/* splitmix64 of seed and number, so that neighbours differ */
	conn->random = seed * UINT64_C(0x9E3779B97F4A7C15) + conn->id;
	conn->random = (conn->random ^ (conn->random >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	conn->random = (conn->random ^ (conn->random >> 27)) * UINT64_C(0x94D049BB133111EB);
	conn->random = (conn->random ^ (conn->random >> 31)) | 1;

	conn->server = socket(target_addr.ss_family, SOCK_STREAM, 0);
	set_nonblocking(client);
	set_nonblocking(conn->server);
	if (connect(conn->server, (struct sockaddr *) &target_addr, target_addr_len) < 0 &&
		errno != EINPROGRESS)
	{
		close(client);
		close(conn->server);
		free(conn);
		return;
	}
	conns[slot] = conn;
}

/* ------------------------------------------------------------------------
 * Requests and answers
 * ------------------------------------------------------------------------
 */

static void
send_ready(Conn *conn)
{
	char		message[6] = {'Z', 0, 0, 0, 5, conn->status};

	send_to_client(conn, message, sizeof(message));
}

static void
send_error(Conn *conn, const char *sqlstate)
{
	char		message[256];
	int			len = 5;
	uint32_t	size;

	message[0] = 'E';
	len += snprintf(message + len, sizeof(message) - len, "SERROR") + 1;
	len += snprintf(message + len, sizeof(message) - len, "VERROR") + 1;
	len += snprintf(message + len, sizeof(message) - len, "C%s", sqlstate) + 1;
	len += snprintf(message + len, sizeof(message) - len, "M%s",
					strcmp(sqlstate, "40003") == 0 ?
					"statement completion unknown (proxy)" :
					"could not serialize access (proxy)") + 1;
	message[len++] = '\0';
	size = htonl(len - 1);
	memcpy(message + 1, &size, 4);
	send_to_client(conn, message, len);
}

/* Does the request's text contain "only"?  The messages hold zero bytes. */
static bool
request_matches(const char *data, size_t len)
{
	return only[0] == '\0' || memmem(data, len, only, strlen(only)) != NULL;
}

static Fault
choose_fault(Conn *conn, const char *data, size_t len)
{
	double		roll;

	if (!request_matches(data, len))
		return FAULT_NONE;
	if (next_count > 0)
	{
		next_count--;
		return next_fault;
	}
	roll = random_fraction(conn);
	for (int i = 0; i < FAULTS; i++)
	{
		if (roll < probability[i])
			return i;
		roll -= probability[i];
	}
	return FAULT_NONE;
}

static void
note_fault(Conn *conn, Fault fault, const char *data, size_t len)
{
	done[fault]++;
	if (log_file == NULL)
		return;
	fprintf(log_file, "%lld %s conn=%d ", (long long) clock_now(),
			fault_names[fault], conn->id);
	for (size_t i = 5; i < len && i < 165; i++)
		fputc(data[i] >= ' ' && data[i] < 127 ? data[i] : ' ', log_file);
	fputc('\n', log_file);
	fflush(log_file);
}

/*
 * A whole request has arrived: send it to the server, or not.
 */
static void
start_request(Conn *conn, const char *data, size_t len)
{
	/* a query that fails at once, so that the server's state is what we say */
	static const char failing[] = "Q\0\0\0\x13proxy says no;";

	requests++;
	conn->failing = false;
	conn->saw_error = false;
	conn->held.len = 0;
	conn->fault = conn->status == 'E' ? FAULT_NONE : choose_fault(conn, data, len);
	conn->phase = PHASE_BUSY;

	switch (conn->fault)
	{
		case E40001_BEFORE:
			note_fault(conn, conn->fault, data, len);
			if (conn->status == 'T')
			{
				conn->failing = true;
				send_to_server(conn, failing, sizeof(failing));
				return;
			}
			send_error(conn, "40001");
			send_ready(conn);
			conn->phase = PHASE_IDLE;
			return;

		case LOST_BEFORE:
			note_fault(conn, conn->fault, data, len);
			close_conn(conn);
			return;

		case SILENCE_BEFORE:
			note_fault(conn, conn->fault, data, len);
			conn->deaf = true;
			return;

		case LATE_REQUEST:
			note_fault(conn, conn->fault, data, len);
			queue_add(&conn->to_server, data, len, delay_to + late);
			return;

		default:
			if (conn->fault != FAULT_NONE && log_file)
			{
				/* what became of it is noted when the answer is here */
				fprintf(log_file, "%lld request of a fault: ", (long long) clock_now());
				for (size_t i = 5; i < len && i < 165; i++)
					fputc(data[i] >= ' ' && data[i] < 127 ? data[i] : ' ', log_file);
				fputc('\n', log_file);
			}
			send_to_server(conn, data, len);
	}
}

/*
 * The server has answered the request under way; the answer is in "held".
 * False: the connection was closed.
 */
static bool
finish_request(Conn *conn)
{
	Fault		fault = conn->fault;

	conn->fault = FAULT_NONE;
	conn->phase = PHASE_IDLE;
	if (conn->failing)
	{
		send_error(conn, "40001");
		send_ready(conn);
	}
	else if (fault == LATE_REPLY)
	{
		note_fault(conn, fault, "", 0);
		if (conn->client >= 0)
			queue_add(&conn->to_client, conn->held.data, conn->held.len,
					  delay_from + late);
	}
	else if (conn->saw_error || conn->status != 'I')
		send_to_client(conn, conn->held.data, conn->held.len);
	else
	{
		switch (fault)
		{
			case E40001_AFTER:
			case E40003_AFTER:
				note_fault(conn, fault, "", 0);
				send_error(conn, fault == E40001_AFTER ? "40001" : "40003");
				send_ready(conn);
				break;
			case LOST_AFTER:
				note_fault(conn, fault, "", 0);
				close_conn(conn);
				return false;
			case SILENCE_AFTER:
				note_fault(conn, fault, "", 0);
				conn->deaf = true;
				conn->phase = PHASE_BUSY;
				break;
			default:
				send_to_client(conn, conn->held.data, conn->held.len);
		}
	}
	conn->held.len = 0;
	return true;
}

/*
 * Understand what the client sent.  False: the connection was closed.
 */
static bool
read_client(Conn *conn)
{
	Buffer	   *in = &conn->from_client;

	if (conn->deaf)
	{
		in->len = 0;
		return true;
	}
	if (conn->phase == PHASE_STARTUP)
	{
		while (in->len >= 8)
		{
			uint32_t	len = read32(in->data);
			uint32_t	code = read32(in->data + 4);

			if (in->len < len)
				return true;
			if (code == CODE_SSL || code == CODE_GSS)
			{
				send_to_client(conn, "N", 1);
				buffer_eat(in, len);
				continue;
			}
			send_to_server(conn, in->data, len);
			buffer_eat(in, len);
			conn->phase = code == CODE_CANCEL ? PHASE_RAW : PHASE_AUTH;
			break;
		}
		if (conn->phase == PHASE_STARTUP)
			return true;
	}
	if (conn->phase == PHASE_AUTH || conn->phase == PHASE_RAW)
	{
		send_to_server(conn, in->data, in->len);
		in->len = 0;
		return true;
	}

	/* requests, one at a time */
	while (conn->phase == PHASE_IDLE)
	{
		size_t		end = 0;
		bool		whole = false;

		while (!whole && in->len >= end + 5)
		{
			char		type = in->data[end];
			size_t		len = 1 + (size_t) read32(in->data + end + 1);

			if (in->len < end + len)
				break;
			end += len;
			if (type == 'H')
			{
				/* a client that flushes reads half answers: out of our depth */
				conn->phase = PHASE_RAW;
				send_to_server(conn, in->data, in->len);
				in->len = 0;
				return true;
			}
			if (type == 'X')
			{
				send_to_server(conn, in->data, end);
				buffer_eat(in, end);
				conn->phase = PHASE_RAW;
				return true;
			}
			whole = type == 'Q' || type == 'S' || type == 'F';
		}
		if (!whole)
			break;

		{
			int			id = conn->id;
			bool		alive = false;

			start_request(conn, in->data, end);
			for (int i = 0; i < MAX_CONNS; i++)
				if (conns[i] == conn && conn->id == id)
					alive = true;
			if (!alive)
				return false;
		}
		buffer_eat(in, end);
		if (conn->deaf)
			in->len = 0;
	}
	return true;
}

/*
 * Understand what the server sent.  False: the connection was closed.
 */
static bool
read_server(Conn *conn)
{
	Buffer	   *in = &conn->from_server;

	while (conn->phase != PHASE_RAW && in->len >= 5)
	{
		char		type = in->data[0];
		size_t		len = 1 + (size_t) read32(in->data + 1);

		if (in->len < len)
			return true;
		if (type == 'Z')
			conn->status = in->data[5];

		if (conn->phase != PHASE_BUSY)
		{
			send_to_client(conn, in->data, len);
			if (type == 'Z')
				conn->phase = PHASE_IDLE;
			buffer_eat(in, len);
			if (type == 'Z' && !read_client(conn))
				return false;
			continue;
		}

		/* notices, notifications and parameters belong to no request */
		if (type == 'N' || type == 'A' || type == 'S')
		{
			if (!conn->deaf)
				send_to_client(conn, in->data, len);
		}
		else if (type == 'G' || type == 'W' || type == 'H')
		{
			/* COPY: its data flows both ways; leave this connection alone */
			send_to_client(conn, conn->held.data, conn->held.len);
			conn->held.len = 0;
			send_to_client(conn, in->data, in->len);
			in->len = 0;
			conn->phase = PHASE_RAW;
			return read_client(conn);
		}
		else if (!conn->deaf)
		{
			if (type == 'E')
				conn->saw_error = true;
			buffer_add(&conn->held, in->data, len);
		}
		buffer_eat(in, len);
		if (type == 'Z' && !conn->deaf)
		{
			if (!finish_request(conn) || !read_client(conn))
				return false;
		}
	}
	if (conn->phase == PHASE_RAW)
	{
		send_to_client(conn, in->data, in->len);
		in->len = 0;
	}
	return true;
}

/* Read from a socket.  False: end of file or broken. */
static bool
read_some(int fd, Buffer *buffer)
{
	char		data[65536];
	ssize_t		n = recv(fd, data, sizeof(data), 0);

	if (n < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
	if (n == 0)
		return false;
	buffer_add(buffer, data, n);
	return true;
}

/* ------------------------------------------------------------------------
 * Control
 * ------------------------------------------------------------------------
 */

static void
reset_faults(void)
{
	memset(probability, 0, sizeof(probability));
	next_count = 0;
}

static Fault
fault_by_name(const char *name, size_t len)
{
	for (int i = 0; i < FAULTS; i++)
		if (strlen(fault_names[i]) == len && strncmp(fault_names[i], name, len) == 0)
			return i;
	return FAULT_NONE;
}

static void
control_command(char *line, char *answer, size_t size)
{
	char	   *rest;
	char	   *word = strtok_r(line, " \r", &rest);

	snprintf(answer, size, "ok");
	if (word == NULL)
		return;
	if (strcmp(word, "pass") == 0)
	{
		reset_faults();
		hold_to = hold_from = refuse = false;
		delay_to = delay_from = 0;
		only[0] = '\0';
		open_listener();
	}
	else if (strcmp(word, "hang") == 0)
	{
		char	   *way = strtok_r(NULL, " ", &rest);

		hold_to = way == NULL || strcmp(way, "to") == 0;
		hold_from = way == NULL || strcmp(way, "from") == 0;
	}
	else if (strcmp(word, "refuse") == 0)
	{
		refuse = true;
		if (listener >= 0)
			close(listener);
		listener = -1;
		close_all();
	}
	else if (strcmp(word, "kill") == 0)
		close_all();
	else if (strcmp(word, "delay") == 0)
	{
		char	   *to = strtok_r(NULL, " ", &rest);
		char	   *from = strtok_r(NULL, " ", &rest);

		delay_to = to ? (ClockTime) (atof(to) * CLOCK_MS) : 0;
		delay_from = from ? (ClockTime) (atof(from) * CLOCK_MS) : 0;
	}
	else if (strcmp(word, "late") == 0)
	{
		char	   *value = strtok_r(NULL, " ", &rest);

		late = value ? (ClockTime) (atof(value) * CLOCK_MS) : 500 * CLOCK_MS;
	}
	else if (strcmp(word, "prob") == 0)
	{
		char	   *pair;

		reset_faults();
		while ((pair = strtok_r(NULL, " ", &rest)) != NULL)
		{
			char	   *equals = strchr(pair, '=');
			Fault		fault = equals ? fault_by_name(pair, equals - pair) : FAULT_NONE;

			if (fault == FAULT_NONE)
			{
				snprintf(answer, size, "error unknown fault \"%s\"", pair);
				return;
			}
			probability[fault] = atof(equals + 1);
		}
	}
	else if (strcmp(word, "next") == 0)
	{
		char	   *kind = strtok_r(NULL, " ", &rest);
		char	   *count = strtok_r(NULL, " ", &rest);
		Fault		fault = kind ? fault_by_name(kind, strlen(kind)) : FAULT_NONE;

		if (fault == FAULT_NONE)
		{
			snprintf(answer, size, "error unknown fault \"%s\"", kind ? kind : "");
			return;
		}
		next_fault = fault;
		next_count = count ? atol(count) : 1;
	}
	else if (strcmp(word, "only") == 0)
		snprintf(only, sizeof(only), "%s", rest ? rest : "");
	else if (strcmp(word, "stats") == 0)
	{
		int			len = snprintf(answer, size, "ok requests=%lu", requests);

		for (int i = 0; i < FAULTS; i++)
			len += snprintf(answer + len, size - len, " %s=%lu", fault_names[i], done[i]);
	}
	else if (strcmp(word, "quit") == 0)
		stop = 1;
	else
		snprintf(answer, size, "error unknown command \"%s\"", word);
}

/* False: the control connection is closed. */
static bool
control_read(int i)
{
	Buffer	   *in = &control_buffers[i];
	char	   *newline;

	if (!read_some(controls[i], in))
		return false;
	while (in->len > 0 && (newline = memchr(in->data, '\n', in->len)) != NULL)
	{
		char		answer[1024];
		size_t		len = newline - in->data + 1;

		*newline = '\0';
		control_command(in->data, answer, sizeof(answer) - 1);
		strcat(answer, "\n");
		if (send(controls[i], answer, strlen(answer), MSG_NOSIGNAL) < 0)
			return false;
		buffer_eat(in, len);
	}
	return true;
}

/* ------------------------------------------------------------------------
 * The loop
 * ------------------------------------------------------------------------
 */

static void
loop(void)
{
	while (!stop)
	{
		struct pollfd fds[2 + MAX_CONTROLS + 2 * MAX_CONNS];
		int			n = 0;
		int			at_listener = -1;
		int			at_control;
		int			at_conn[MAX_CONNS];
		Conn	   *polled[MAX_CONNS];
		ClockTime	now = clock_now();
		ClockTime	wake = CLOCK_NEVER;

		fds[n].fd = control_listener;
		fds[n++].events = POLLIN;
		at_control = n;
		for (int i = 0; i < MAX_CONTROLS; i++)
		{
			fds[n].fd = controls[i];	/* -1 is left alone by poll() */
			fds[n++].events = POLLIN;
		}
		if (listener >= 0 && !(hold_to && hold_from))
		{
			at_listener = n;
			fds[n].fd = listener;
			fds[n++].events = POLLIN;
		}
		for (int i = 0; i < MAX_CONNS; i++)
		{
			Conn	   *conn = conns[i];
			short		client_events = 0;
			short		server_events = 0;

			polled[i] = conn;
			if (conn == NULL)
				continue;
			if (!hold_to)
			{
				client_events |= POLLIN;
				if (conn->to_server.first)
				{
					if (conn->to_server.first->due <= now)
						server_events |= POLLOUT;
					else
						wake = clock_min(wake, conn->to_server.first->due);
				}
			}
			if (!hold_from)
			{
				if (!conn->server_eof)
					server_events |= POLLIN;
				if (conn->to_client.first)
				{
					if (conn->to_client.first->due <= now)
						client_events |= POLLOUT;
					else
						wake = clock_min(wake, conn->to_client.first->due);
				}
			}
			at_conn[i] = n;
			/* without events, poll() would still report a hang-up: leave it out */
			fds[n].fd = client_events ? conn->client : -1;
			fds[n++].events = client_events;
			fds[n].fd = server_events ? conn->server : -1;
			fds[n++].events = server_events;
		}

		for (int i = 0; i < n; i++)
			fds[i].revents = 0;
		if (poll(fds, n, (int) clock_wait_ms(now, wake)) < 0)
		{
			if (errno == EINTR)
				continue;
			fail("poll: %s", strerror(errno));
		}
		now = clock_now();

		for (int i = 0; i < MAX_CONNS; i++)
		{
			Conn	   *conn = polled[i];
			struct pollfd *client;
			struct pollfd *server;

			if (conn == NULL)
				continue;
			client = &fds[at_conn[i]];
			server = &fds[at_conn[i] + 1];

			if (server->revents & (POLLIN | POLLHUP | POLLERR))
			{
				if (!read_some(conn->server, &conn->from_server))
					conn->server_eof = true;
				if (!read_server(conn))
					continue;
			}
			if (client->revents & (POLLIN | POLLHUP | POLLERR))
			{
				bool		open = read_some(conn->client, &conn->from_client);

				if (!read_client(conn))
					continue;
				if (!open)
				{
					/* what it has sent still reaches the server */
					close(conn->client);
					conn->client = -1;
					queue_free(&conn->to_client);
				}
			}
			if (!hold_to && conn->to_server.first &&
				!queue_send(&conn->to_server, conn->server, now))
				conn->server_eof = true;
			if (!hold_from && conn->client >= 0 && conn->to_client.first &&
				!queue_send(&conn->to_client, conn->client, now))
			{
				close(conn->client);
				conn->client = -1;
				queue_free(&conn->to_client);
			}

			/* an end is passed on when what came before it has left */
			if (conn->server_eof && (conn->client < 0 || conn->to_client.first == NULL))
				close_conn(conn);
			else if (conn->client < 0 && conn->to_server.first == NULL &&
					 (conn->phase != PHASE_BUSY || conn->deaf))
				close_conn(conn);
		}

		if (at_listener >= 0 && fds[at_listener].revents)
			accept_client();
		for (int i = 0; i < MAX_CONTROLS; i++)
		{
			if (fds[at_control + i].revents && controls[i] >= 0 && !control_read(i))
			{
				close(controls[i]);
				controls[i] = -1;
				control_buffers[i].len = 0;
			}
		}
		if (fds[0].revents)
		{
			int			fd = accept(control_listener, NULL, NULL);
			int			i = 0;

			while (i < MAX_CONTROLS && controls[i] >= 0)
				i++;
			if (fd >= 0 && i == MAX_CONTROLS)
				close(fd);
			else if (fd >= 0)
			{
				fcntl(fd, F_SETFD, FD_CLOEXEC);
				controls[i] = fd;
			}
		}
	}
}

static void
parse_address(const char *text, struct sockaddr_storage *addr, socklen_t *len)
{
	memset(addr, 0, sizeof(*addr));
	if (text[0] == '/')
	{
		struct sockaddr_un *unix_addr = (struct sockaddr_un *) addr;

		if (strlen(text) >= sizeof(unix_addr->sun_path))
			fail("the path \"%s\" is too long", text);
		unix_addr->sun_family = AF_UNIX;
		strcpy(unix_addr->sun_path, text);
		*len = sizeof(*unix_addr);
	}
	else
	{
		const char *colon = strrchr(text, ':');
		struct sockaddr_in *in = (struct sockaddr_in *) addr;
		char		host[64] = "127.0.0.1";

		if (colon)
			snprintf(host, sizeof(host), "%.*s", (int) (colon - text), text);
		in->sin_family = AF_INET;
		in->sin_port = htons(atoi(colon ? colon + 1 : text));
		if (inet_pton(AF_INET, host, &in->sin_addr) != 1)
			fail("\"%s\" is no IPv4 address", host);
		*len = sizeof(*in);
	}
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{"listen", required_argument, NULL, 'l'},
		{"target", required_argument, NULL, 't'},
		{"control", required_argument, NULL, 'c'},
		{"seed", required_argument, NULL, 's'},
		{"log", required_argument, NULL, 'L'},
		{NULL, 0, NULL, 0}
	};
	const char *listen_text = NULL;
	const char *target_text = NULL;
	struct sockaddr_storage control_addr;
	socklen_t	control_addr_len;
	pid_t		parent = getppid();
	int			c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
	{
		switch (c)
		{
			case 'l':
				listen_text = optarg;
				break;
			case 't':
				target_text = optarg;
				break;
			case 'c':
				control_path = optarg;
				break;
			case 's':
				seed = strtoull(optarg, NULL, 10);
				break;
			case 'L':
				log_file = fopen(optarg, "a");
				if (log_file == NULL)
					fail("could not open \"%s\": %s", optarg, strerror(errno));
				break;
			default:
				return 2;
		}
	}
	if (listen_text == NULL || target_text == NULL || control_path == NULL)
		fail("--listen, --target and --control are needed");

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		return 1;
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	signal(SIGPIPE, SIG_IGN);

	for (int i = 0; i < MAX_CONTROLS; i++)
		controls[i] = -1;
	parse_address(target_text, &target_addr, &target_addr_len);
	parse_address(listen_text, &listen_addr, &listen_addr_len);
	if (listen_addr.ss_family == AF_UNIX)
		fail("--listen takes a port");
	open_listener();

	if (control_path[0] != '/')
		fail("--control takes an absolute path");
	parse_address(control_path, &control_addr, &control_addr_len);
	unlink(control_path);
	control_listener = socket(AF_UNIX, SOCK_STREAM, 0);
	if (bind(control_listener, (struct sockaddr *) &control_addr, control_addr_len) < 0 ||
		listen(control_listener, 8) < 0)
		fail("could not listen on \"%s\": %s", control_path, strerror(errno));
	set_nonblocking(control_listener);

	printf("listening on %d\n", ntohs(((struct sockaddr_in *) &listen_addr)->sin_port));
	fflush(stdout);

	loop();

	unlink(control_path);
	return 0;
}
