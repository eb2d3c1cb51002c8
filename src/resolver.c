/*
 * resolver.c
 *		Host names and their addresses, for all that this instance connects to.
 *
 * Where all hosts are numeric, no child is ever started.  The addresses of a name
 * that cannot be resolved any more stay.
 */
#include "postgres.h"

#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/pg_shmem.h"

#include "resolver.h"

#define REFRESH			(30 * CLOCK_S)
#define RETRY_MIN		CLOCK_S
#define RETRY_MAX		(5 * CLOCK_S)
#define LINE_LEN		512		/* within what a pipe takes as a whole */
#define STACK_SIZE		(256 * 1024)
#define CHILD_MAX_S		60		/* no resolver takes longer */
/* After this long without an answer, a name counts as one that has none. */
#define SILENCE			(2 * CLOCK_S)

/* ------------------------------------------------------------------------
 * The names
 * ------------------------------------------------------------------------
 */

void
resolver_init(Resolver *resolver, int max)
{
	memset(resolver, 0, sizeof(*resolver));
	resolver->max = max;
	resolver->name = palloc0(sizeof(ResolverName) * max);
	resolver->next = CLOCK_NEVER;
	resolver->backoff = RETRY_MIN;
	resolver->pipe = -1;
	initStringInfo(&resolver->said);
}

static ResolverName *
find(const Resolver *resolver, const char *host)
{
	for (int i = 0; i < resolver->n; i++)
		if (strcmp(resolver->name[i].host, host) == 0)
			return &resolver->name[i];
	return NULL;
}

void
resolver_collect(Resolver *resolver)
{
	for (int i = 0; i < resolver->n; i++)
	{
		resolver->name[i].was_published = resolver->name[i].published;
		resolver->name[i].wanted = resolver->name[i].published = false;
	}
}

void
resolver_want(Resolver *resolver, const char *host, bool published)
{
	ResolverName *name = find(resolver, host);

	if (name == NULL)
	{
		if (resolver->n == resolver->max || strlen(host) >= sizeof(name->host))
			return;
		name = &resolver->name[resolver->n++];
		memset(name, 0, sizeof(*name));
		strlcpy(name->host, host, sizeof(name->host));
	}
	name->wanted = true;
	name->published |= published;
}

typedef struct Wanted
{
	Resolver   *resolver;
	bool		published;
} Wanted;

static void
want_one(const char *host, void *arg)
{
	Wanted	   *wanted = (Wanted *) arg;

	resolver_want(wanted->resolver, host, wanted->published);
}

void
resolver_want_conninfo(Resolver *resolver, const Conninfo *conninfo, bool published)
{
	Wanted		wanted = {resolver, published};

	conninfo_each_name(conninfo, want_one, &wanted);
}

void
resolver_collected(Resolver *resolver)
{
	int			kept = 0;
	bool		fresh = false;

	for (int i = 0; i < resolver->n; i++)
	{
		if (!resolver->name[i].wanted)
			continue;
		/* (one that is slow to resolve is not asked for from the start again) */
		fresh |= !resolver->name[i].asked && !resolver->name[i].asking;
		/* the keeper needs now what was known for a peer's sake */
		resolver->unpublished |= resolver->name[i].published &&
			!resolver->name[i].was_published && resolver->name[i].n > 0;
		resolver->name[kept++] = resolver->name[i];
	}
	/* the child knows the names by their places */
	if (fresh || kept != resolver->n)
	{
		resolver_stop(resolver);
		resolver->backoff = RETRY_MIN;
		resolver->next = 0;
	}
	resolver->n = kept;
	if (kept == 0)
		resolver->next = CLOCK_NEVER;
}

void
resolver_hasten(Resolver *resolver)
{
	if (resolver->n > 0)
		resolver->next = 0;
}

/* ------------------------------------------------------------------------
 * In the child: ask the resolver
 * ------------------------------------------------------------------------
 */

typedef struct Question
{
	int			fd;
	int			number;
	const char *host;
} Question;

static void
append_addresses(char *line, size_t size, const struct addrinfo *list)
{
	char		text[NI_MAXHOST];

	for (const struct addrinfo *a = list; a != NULL; a = a->ai_next)
		if (getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof(text), NULL, 0,
						NI_NUMERICHOST) == 0 &&
			strlen(text) < sizeof(((ResolverName *) 0)->address[0]) &&
			strlen(line) + strlen(text) + 2 < size)
		{
			strcat(line, " ");
			strcat(line, text);
		}
}

/* One line, in one write: those of other names come at the same time. */
static void *
resolve_one(void *arg)
{
	const Question *question = (const Question *) arg;
	struct addrinfo hints = {0};
	struct addrinfo *list = NULL;
	char		line[LINE_LEN];
	int			error;

	hints.ai_family = AF_UNSPEC;
	hints.ai_socktype = SOCK_STREAM;
	error = getaddrinfo(question->host, NULL, &hints, &list);
	if (error != 0)
		snprintf(line, sizeof(line) - 1, "%d E %s", question->number,
				 gai_strerror(error));
	else
	{
		snprintf(line, sizeof(line), "%d A", question->number);
		append_addresses(line, sizeof(line) - 1, list);
	}
	strcat(line, "\n");
	if (write(question->fd, line, strlen(line)) < 0)
		_exit(1);
	return NULL;
}

/* A thread for each name, so that one that hangs does not delay the others. */
static void
resolve_all(const Resolver *resolver, int fd)
{
	Question   *question = calloc(resolver->n, sizeof(Question));
	pthread_t  *thread = calloc(resolver->n, sizeof(pthread_t));
	bool	   *started = calloc(resolver->n, sizeof(bool));
	pthread_attr_t attr;

	if (question == NULL || thread == NULL || started == NULL)
		_exit(1);
	pthread_attr_init(&attr);
	(void) pthread_attr_setstacksize(&attr, STACK_SIZE);
	for (int i = 0; i < resolver->n; i++)
	{
		question[i] = (Question) {fd, i, resolver->name[i].host};
		started[i] = pthread_create(&thread[i], &attr, resolve_one, &question[i]) == 0;
	}
	for (int i = 0; i < resolver->n; i++)
		if (started[i])
			(void) pthread_join(thread[i], NULL);
		else
			(void) resolve_one(&question[i]);
}

/*
 * Nothing of the server is used here any more: no signal handler, no shared
 * memory (an orphan must not keep a new postmaster from starting), no exit
 * callback.
 */
static void
child_main(const Resolver *resolver, int fd)
{
	static const int signals[] = {
		SIGHUP, SIGINT, SIGTERM, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGURG,
		SIGPIPE
	};
	sigset_t	none;

	for (int i = 0; i < (int) lengthof(signals); i++)
		signal(signals[i], signals[i] == SIGURG ? SIG_IGN : SIG_DFL);
	/* a peer must not find its connection still open when we close it */
	for (int i = 3; i < 1024; i++)
		if (i != fd)
			close(i);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	PGSharedMemoryDetach();
	alarm(CHILD_MAX_S);
	resolve_all(resolver, fd);
	_exit(0);
}

/* ------------------------------------------------------------------------
 * The child from outside
 * ------------------------------------------------------------------------
 */

void
resolver_stop(Resolver *resolver)
{
	if (resolver->child == 0)
		return;
	kill(resolver->child, SIGKILL);
	while (waitpid(resolver->child, NULL, 0) < 0 && errno == EINTR)
		 /* again */ ;
	close(resolver->pipe);
	resolver->child = 0;
	resolver->pipe = -1;
	for (int i = 0; i < resolver->n; i++)
		resolver->name[i].asking = false;
}

static bool
start_child(Resolver *resolver, ClockTime now)
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
	resolver->child = fork();
	if (resolver->child == 0)
		child_main(resolver, fds[1]);
	sigprocmask(SIG_SETMASK, &before, NULL);
	close(fds[1]);
	if (resolver->child < 0)
	{
		resolver->child = 0;
		close(fds[0]);
		return false;
	}
	for (int i = 0; i < resolver->n; i++)
		resolver->name[i].asking = true;
	resolver->pipe = fds[0];
	resolver->began = now;
	resetStringInfo(&resolver->said);
	return pg_set_noblock(resolver->pipe);
}

/* ------------------------------------------------------------------------
 * What it learnt
 * ------------------------------------------------------------------------
 */

/* A name's addresses of one round, before they are taken. */
typedef struct Fresh
{
	int			n;
	char		address[RESOLVER_ADDRESSES][64];
	char		fault[128];
} Fresh;

static bool
has_address(const ResolverName *name, const char *address)
{
	for (int i = 0; i < name->n; i++)
		if (strcmp(name->address[i], address) == 0)
			return true;
	return false;
}

static void
log_fault(ResolverName *name)
{
	if (!name->answered && !name->failing)
		ereport(LOG,
				(errmsg("leasehold: could not resolve host name \"%s\"",
						name->host),
				 errdetail("%s.", name->fault)));
	else if (name->answered && name->failing)
		ereport(LOG,
				(errmsg("leasehold: host name \"%s\" is resolved again",
						name->host)));
	name->failing = !name->answered;
}

/*
 * Name servers like to change the order: addresses that are the same as before
 * keep their places.
 */
static bool
take(ResolverName *name, const Fresh *fresh)
{
	bool		same = fresh->n == name->n && name->asked;
	bool		was_failing = name->asked && !name->answered;

	name->asked = true;
	name->answered = fresh->n > 0;
	strlcpy(name->fault, fresh->n > 0 ? "" :
			fresh->fault[0] ? fresh->fault : "The resolver gave no answer",
			sizeof(name->fault));
	log_fault(name);
	if (fresh->n == 0)
		return !was_failing;
	for (int i = 0; i < fresh->n && same; i++)
		same = has_address(name, fresh->address[i]);
	if (same)
		return was_failing;
	name->n = fresh->n;
	memcpy(name->address, fresh->address, sizeof(name->address));
	return true;
}

static void
note_address(Fresh *fresh, const char *text)
{
	if (fresh->n == RESOLVER_ADDRESSES)
		return;
	for (int i = 0; i < fresh->n; i++)
		if (strcmp(fresh->address[i], text) == 0)
			return;
	strlcpy(fresh->address[fresh->n++], text, sizeof(fresh->address[0]));
}

/* "number A address address..." or "number E message" */
static bool
take_line(Resolver *resolver, char *line)
{
	Fresh		fresh = {0};
	char	   *rest;
	char	   *save = NULL;
	long		number = strtol(line, &rest, 10);

	if (number < 0 || number >= resolver->n || strlen(rest) < 2)
		return false;
	if (rest[1] == 'E')
		strlcpy(fresh.fault, strlen(rest) > 3 ? rest + 3 : "", sizeof(fresh.fault));
	else
		for (char *address = strtok_r(rest + 2, " ", &save); address != NULL;
			 address = strtok_r(NULL, " ", &save))
			note_address(&fresh, address);
	return take(&resolver->name[number], &fresh);
}

/* Whole lines; the rest of the last one will come. */
static bool
take_lines(Resolver *resolver)
{
	StringInfo	said = &resolver->said;
	char	   *line = said->data;
	bool		changed = false;
	char	   *end;

	for (; (end = strchr(line, '\n')) != NULL; line = end + 1)
	{
		*end = '\0';
		changed |= take_line(resolver, line);
	}
	said->len -= line - said->data;
	memmove(said->data, line, said->len + 1);
	return changed;
}

/* Names about which the child still waits. */
static bool
give_up_on_silent(Resolver *resolver)
{
	Fresh		nothing = {0};
	bool		changed = false;

	for (int i = 0; i < resolver->n; i++)
		if (!resolver->name[i].asked)
			changed |= take(&resolver->name[i], &nothing);
	return changed;
}

static void
publish(Resolver *resolver, ClockTime now)
{
	Addresses  *next = palloc0(sizeof(Addresses));
	int			names = 0;
	int			most;

	for (int i = 0; i < resolver->n; i++)
		names += resolver->name[i].published;
	most = Max(1, ADDRESS_MAX / Max(names, 1));
	for (int i = 0; i < resolver->n; i++)
	{
		const ResolverName *name = &resolver->name[i];

		for (int k = 0; name->published && k < Min(name->n, most) &&
			 next->n < ADDRESS_MAX; k++)
		{
			strlcpy(next->entry[next->n].host, name->host,
					sizeof(next->entry[0].host));
			strlcpy(next->entry[next->n].address, name->address[k],
					sizeof(next->entry[0].address));
			next->n++;
		}
	}
	next->resolved_at = now;
	shared_publish(&leasehold_shared->addresses, next);
	shared_wake_keeper();
	pfree(next);
}

static void
end_round(Resolver *resolver, ClockTime now)
{
	bool		all = true;

	resolver_stop(resolver);
	for (int i = 0; i < resolver->n; i++)
		all &= resolver->name[i].answered;
	resolver->next = now + (all ? REFRESH : resolver->backoff);
	resolver->backoff = all ? RETRY_MIN :
		clock_min(resolver->backoff * 2, RETRY_MAX);
}

static bool
listen_to_child(Resolver *resolver, ClockTime now)
{
	bool		changed = false;
	bool		ended = false;
	char		buffer[1024];
	ssize_t		n;

	while ((n = read(resolver->pipe, buffer, sizeof(buffer))) > 0)
		appendBinaryStringInfo(&resolver->said, buffer, n);
	ended = n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
	changed = take_lines(resolver);
	if (ended || now >= resolver->began + SILENCE)
		changed |= give_up_on_silent(resolver);
	if (ended)
		end_round(resolver, now);
	return changed;
}

bool
resolver_step(Resolver *resolver, ClockTime now)
{
	bool		changed = false;

	if (resolver->child == 0 && now >= resolver->next &&
		!start_child(resolver, now))
		resolver->next = now + RETRY_MAX;
	if (resolver->child != 0)
		changed = listen_to_child(resolver, now);
	if (changed || resolver->unpublished)
		publish(resolver, now);
	resolver->unpublished = false;
	return changed;
}

int
resolver_pipe(const Resolver *resolver)
{
	return resolver->child != 0 ? resolver->pipe : -1;
}

ClockTime
resolver_due(const Resolver *resolver)
{
	if (resolver->child == 0)
		return resolver->next;
	for (int i = 0; i < resolver->n; i++)
		if (!resolver->name[i].asked)
			return resolver->began + SILENCE;
	return CLOCK_NEVER;
}

/* ------------------------------------------------------------------------
 * Asking
 * ------------------------------------------------------------------------
 */

typedef struct Gathering
{
	const Resolver *resolver;
	Addresses  *addresses;
} Gathering;

static void
gather(const char *host, void *arg)
{
	Gathering  *gathering = (Gathering *) arg;
	const ResolverName *name = find(gathering->resolver, host);
	Addresses  *to = gathering->addresses;

	for (int i = 0; name != NULL && i < name->n && to->n < ADDRESS_MAX; i++)
	{
		strlcpy(to->entry[to->n].host, host, sizeof(to->entry[0].host));
		strlcpy(to->entry[to->n].address, name->address[i],
				sizeof(to->entry[0].address));
		to->n++;
	}
}

void
resolver_addresses(const Resolver *resolver, const Conninfo *conninfo,
				   Addresses *addresses)
{
	Gathering	gathering = {resolver, addresses};

	memset(addresses, 0, sizeof(*addresses));
	conninfo_each_name(conninfo, gather, &gathering);
}

typedef struct Search
{
	const Resolver *resolver;
	const char *fault;
} Search;

static void
search_fault(const char *host, void *arg)
{
	Search	   *search = (Search *) arg;
	const ResolverName *name = find(search->resolver, host);

	if (name == NULL && (strlen(host) >= sizeof(name->host) ||
						 search->resolver->n == search->resolver->max))
		search->fault = "The name is too long, or one of too many";
	else if (name != NULL && name->asked && !name->answered)
		search->fault = name->fault;
}

const char *
resolver_faults(const Resolver *resolver, const Conninfo *conninfo)
{
	Search		search = {resolver, NULL};

	conninfo_each_name(conninfo, search_fault, &search);
	return search.fault;
}
