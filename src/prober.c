/*
 * prober.c
 *		The background worker that may resolve names.
 *
 * Resolving a name blocks, for many seconds when the name servers are gone, and
 * knows nothing of latches and signals.  So that neither keeper nor steward
 * ever does it, and so that this worker can end at once when it is told to, a
 * child process asks the resolver and writes what it learns into a pipe.  The
 * addresses are published; those of a name that cannot be resolved any more
 * stay.
 *
 * The names are those in leasehold.store, and, on a server without local
 * sockets, the one that it listens on.  Where all is numeric nothing is done.
 *
 * Started by the postmaster; shared memory only.  Must never be waited for.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "postmaster/postmaster.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/pg_shmem.h"
#include "utils/memutils.h"
#include "utils/varlena.h"

#include "compat.h"
#include "conninfo.h"
#include "settings.h"
#include "shared.h"
#include "workers.h"

#define REFRESH			(30 * CLOCK_S)
#define RETRY_MIN		CLOCK_S
#define RETRY_MAX		(5 * CLOCK_S)
#define CHILD_MAX_S		60		/* no resolver takes longer */

#define HOST_LEN		sizeof(((Addresses *) 0)->entry[0].host)
#define ADDRESS_LEN		sizeof(((Addresses *) 0)->entry[0].address)

typedef struct ProberName
{
	char		host[HOST_LEN];
	bool		answered;		/* in this round */
	bool		failing;		/* as last logged */
	char		fault[128];
} ProberName;

typedef struct Prober
{
	int			n;
	ProberName	name[ADDRESS_MAX];
	Addresses	addresses;		/* as published */
	ClockTime	next;
	ClockTime	backoff;
	pid_t		child;			/* that asks the resolver; or 0 */
	int			pipe;			/* what it says */
	MemoryContext cycle_context;
} Prober;

/* ------------------------------------------------------------------------
 * The names
 * ------------------------------------------------------------------------
 */

static void
add_name(const char *host, void *arg)
{
	Prober	   *prober = (Prober *) arg;

	if (prober->n == ADDRESS_MAX || strlen(host) >= HOST_LEN)
		return;
	for (int i = 0; i < prober->n; i++)
		if (strcmp(prober->name[i].host, host) == 0)
			return;
	strlcpy(prober->name[prober->n].host, host, HOST_LEN);
	prober->n++;
}

static void
add_listen_name(Prober *prober)
{
	char	   *hosts = pstrdup(ListenAddresses ? ListenAddresses : "");
	List	   *list;
	ListCell   *cell;

	if (Unix_socket_directories != NULL && Unix_socket_directories[0] != '\0')
		return;
	if (!SplitGUCList(hosts, ',', &list))
		return;
	foreach(cell, list)
	{
		const char *host = lfirst(cell);
		char		numeric[sizeof(struct in6_addr)];

		if (strcmp(host, "*") != 0 && strcmp(host, "localhost") != 0 &&
			inet_pton(AF_INET, host, numeric) != 1 &&
			inet_pton(AF_INET6, host, numeric) != 1)
			add_name(host, prober);
	}
}

static void
collect_names(Prober *prober)
{
	Conninfo   *conninfo = palloc(sizeof(Conninfo) * LEASE_MEMBERS_MAX);
	int			n = setting_store == NULL ? 0 :
		conninfo_split(setting_store, conninfo, LEASE_MEMBERS_MAX);

	prober->n = 0;
	memset(prober->name, 0, sizeof(prober->name));
	for (int i = 0; i < n; i++)
		conninfo_each_name(&conninfo[i], add_name, prober);
	add_listen_name(prober);
	prober->backoff = RETRY_MIN;
	prober->next = prober->n > 0 ? 0 : CLOCK_NEVER;
}

/* ------------------------------------------------------------------------
 * In the child: ask the resolver
 * ------------------------------------------------------------------------
 */

static void
say(int fd, int number, char kind, const char *text)
{
	char		line[256];
	int			len = snprintf(line, sizeof(line), "%d %c %s\n", number, kind,
							   text);

	if (len > 0 && write(fd, line, Min(len, (int) sizeof(line) - 1)) < 0)
		_exit(1);
}

static void
resolve_one(int fd, int number, const char *host)
{
	struct addrinfo hints = {0};
	struct addrinfo *list = NULL;
	char		text[NI_MAXHOST];
	int			error;

	hints.ai_family = AF_UNSPEC;
	hints.ai_socktype = SOCK_STREAM;
	error = getaddrinfo(host, NULL, &hints, &list);
	if (error != 0)
	{
		say(fd, number, 'E', gai_strerror(error));
		return;
	}
	for (struct addrinfo *a = list; a != NULL; a = a->ai_next)
		if (getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof(text), NULL, 0,
						NI_NUMERICHOST) == 0 && strlen(text) < ADDRESS_LEN)
			say(fd, number, 'A', text);
}

/*
 * Nothing of the server is used here any more: no signal handler, no shared
 * memory (an orphan must not keep a new postmaster from starting), no exit
 * callback.
 */
static void
child_main(const Prober *prober, int fd)
{
	static const int signals[] = {
		SIGHUP, SIGINT, SIGTERM, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGURG,
		SIGPIPE
	};
	sigset_t	none;

	for (int i = 0; i < (int) lengthof(signals); i++)
		signal(signals[i], signals[i] == SIGURG ? SIG_IGN : SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	PGSharedMemoryDetach();
	alarm(CHILD_MAX_S);
	for (int i = 0; i < prober->n; i++)
		resolve_one(fd, i, prober->name[i].host);
	_exit(0);
}

/* ------------------------------------------------------------------------
 * The child from outside
 * ------------------------------------------------------------------------
 */

static void
end_child(Prober *prober)
{
	if (prober->child == 0)
		return;
	kill(prober->child, SIGKILL);
	while (waitpid(prober->child, NULL, 0) < 0 && errno == EINTR)
		 /* again */ ;
	close(prober->pipe);
	prober->child = 0;
}

static void
end_child_at_exit(int code, Datum arg)
{
	end_child((Prober *) DatumGetPointer(arg));
}

static bool
start_child(Prober *prober)
{
	int			fds[2];
	sigset_t	all;
	sigset_t	before;

	if (pipe(fds) != 0)
		return false;
	fflush(NULL);
	/* no handler of the server may run in the child */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	prober->child = fork();
	if (prober->child == 0)
	{
		close(fds[0]);
		child_main(prober, fds[1]);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	close(fds[1]);
	if (prober->child < 0)
	{
		prober->child = 0;
		close(fds[0]);
		return false;
	}
	prober->pipe = fds[0];
	return pg_set_noblock(prober->pipe);
}

/*
 * Wait for the child's last word.  False if we were asked to do something else
 * meanwhile.
 */
static bool
listen_to_child(Prober *prober, StringInfo said)
{
	static uint32 event = 0;

	if (event == 0)
		event = compat_wait_event("LeaseholdProberResolve");
	for (;;)
	{
		char		buffer[1024];
		ssize_t		n = read(prober->pipe, buffer, sizeof(buffer));

		if (n == 0)
			return true;
		if (n > 0)
			appendBinaryStringInfo(said, buffer, n);
		else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
			return true;
		else
			(void) WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_SOCKET_READABLE |
									 WL_EXIT_ON_PM_DEATH, prober->pipe, -1,
									 event);
		ResetLatch(MyLatch);
		if (ShutdownRequestPending || ConfigReloadPending)
			return false;
	}
}

/* ------------------------------------------------------------------------
 * What it learnt
 * ------------------------------------------------------------------------
 */

static void
add_address(Addresses *to, const char *host, const char *address, int most)
{
	int			n = 0;

	for (int i = 0; i < to->n; i++)
	{
		if (strcmp(to->entry[i].host, host) != 0)
			continue;
		if (strcmp(to->entry[i].address, address) == 0)
			return;
		n++;
	}
	if (to->n == ADDRESS_MAX || n >= most)
		return;
	strlcpy(to->entry[to->n].host, host, HOST_LEN);
	strlcpy(to->entry[to->n].address, address, ADDRESS_LEN);
	to->n++;
}

static bool
has_address(const Addresses *in, const char *host, const char *address)
{
	for (int i = 0; i < in->n; i++)
		if (strcmp(in->entry[i].host, host) == 0 &&
			strcmp(in->entry[i].address, address) == 0)
			return true;
	return false;
}

/* Are all addresses that "a" has for the host in "b", too? */
static bool
is_within(const Addresses *a, const Addresses *b, const char *host)
{
	for (int i = 0; i < a->n; i++)
		if (strcmp(a->entry[i].host, host) == 0 &&
			!has_address(b, host, a->entry[i].address))
			return false;
	return true;
}

static void
copy_host(Addresses *to, const Addresses *from, const char *host, int most)
{
	for (int i = 0; i < from->n; i++)
		if (strcmp(from->entry[i].host, host) == 0)
			add_address(to, host, from->entry[i].address, most);
}

/* Lines of "number A address" and "number E message". */
static void
take_lines(Prober *prober, char *text, Addresses *fresh, int most)
{
	char	   *save = NULL;

	for (char *line = strtok_r(text, "\n", &save); line != NULL;
		 line = strtok_r(NULL, "\n", &save))
	{
		char	   *rest;
		long		number = strtol(line, &rest, 10);

		if (number < 0 || number >= prober->n || strlen(rest) < 4)
			continue;
		if (rest[1] == 'A')
		{
			prober->name[number].answered = true;
			add_address(fresh, prober->name[number].host, rest + 3, most);
		}
		else
			strlcpy(prober->name[number].fault, rest + 3,
					sizeof(prober->name[number].fault));
	}
}

static void
log_fault(ProberName *name)
{
	if (!name->answered && !name->failing)
		ereport(LOG,
				(errmsg("leasehold: could not resolve host name \"%s\"",
						name->host),
				 errdetail("%s.", name->fault[0] ? name->fault :
						   "The resolver gave no answer")));
	else if (name->answered && name->failing)
		ereport(LOG,
				(errmsg("leasehold: host name \"%s\" is resolved again",
						name->host)));
	name->failing = !name->answered;
}

/*
 * Name servers like to change the order: addresses that are the same as before
 * keep their places.  Returns whether all names were resolved.
 */
static bool
publish(Prober *prober, const Addresses *fresh, int most)
{
	Addresses  *next = palloc0(sizeof(Addresses));
	const Addresses *old = &prober->addresses;
	bool		all = true;
	bool		changed;

	for (int i = 0; i < prober->n; i++)
	{
		ProberName *name = &prober->name[i];
		bool		same = is_within(fresh, old, name->host) &&
			is_within(old, fresh, name->host);

		copy_host(next, same || !name->answered ? old : fresh, name->host, most);
		all = all && name->answered;
		log_fault(name);
	}
	changed = next->n != old->n ||
		memcmp(next->entry, old->entry, sizeof(next->entry)) != 0;
	next->resolved_at = clock_now();
	prober->addresses = *next;
	shared_publish(&leasehold_shared->addresses, next);
	if (changed)
		shared_wake_keeper();
	return all;
}

static void
resolve(Prober *prober)
{
	StringInfoData said;
	Addresses  *fresh = palloc0(sizeof(Addresses));
	int			most = Max(1, ADDRESS_MAX / prober->n);
	bool		heard;

	for (int i = 0; i < prober->n; i++)
	{
		prober->name[i].answered = false;
		prober->name[i].fault[0] = '\0';
	}
	initStringInfo(&said);
	heard = start_child(prober) && listen_to_child(prober, &said);
	end_child(prober);
	if (!heard && (ShutdownRequestPending || ConfigReloadPending))
		return;
	take_lines(prober, said.data, fresh, most);
	if (publish(prober, fresh, most))
	{
		prober->backoff = RETRY_MIN;
		prober->next = clock_now() + REFRESH;
		return;
	}
	prober->next = clock_now() + prober->backoff;
	prober->backoff = clock_min(prober->backoff * 2, RETRY_MAX);
}

/* ------------------------------------------------------------------------
 * The loop
 * ------------------------------------------------------------------------
 */

static void
wait_for_something(const Prober *prober)
{
	static uint32 event = 0;
	int			flags = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH;

	if (event == 0)
		event = compat_wait_event("LeaseholdProberMain");
	if (prober->next != CLOCK_NEVER)
		flags |= WL_TIMEOUT;
	(void) WaitLatch(MyLatch, flags,
					 clock_wait_ms(clock_now(), prober->next), event);
	ResetLatch(MyLatch);
}

void
leasehold_prober_main(Datum arg)
{
	Prober	   *prober = MemoryContextAllocZero(TopMemoryContext,
												sizeof(Prober));

	workers_start();
	before_shmem_exit(end_child_at_exit, PointerGetDatum(prober));
	prober->cycle_context = AllocSetContextCreate(TopMemoryContext,
												  "leasehold prober",
												  ALLOCSET_DEFAULT_SIZES);
	shared_read(&leasehold_shared->addresses, &prober->addresses);
	for (;;)
	{
		MemoryContextSwitchTo(prober->cycle_context);
		MemoryContextReset(prober->cycle_context);
		if (ShutdownRequestPending)
			proc_exit(1);
		if (workers_reload())
			collect_names(prober);
		if (clock_now() >= prober->next)
			resolve(prober);
		else
			wait_for_something(prober);
	}
}
