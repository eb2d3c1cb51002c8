/*
 * conninfo.c
 *		Connection strings: what is allowed, and how to connect by them without
 *		resolving a name.
 *
 * No message made here repeats a value: a string may hold a secret that the
 * user put into the wrong place.
 */
#include "postgres.h"

#include <arpa/inet.h>

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "postmaster/postmaster.h"
#include "utils/guc.h"
#include "utils/varlena.h"

#include "conninfo.h"
#include "list.h"

/* The next string of the list; NULL at its end. */
static char *
next_string(const char **at)
{
	const char *string;
	size_t		length;

	return list_next(at, &string, &length) ? pnstrdup(string, length) : NULL;
}

/*
 * libpq's own message about a malformed string may quote a piece of it, so
 * only its kind is told.
 */
static char *
judge_one(const char *text, int number)
{
	char	   *message = NULL;
	PQconninfoOption *options = PQconninfoParse(text, &message);
	char	   *fault = NULL;

	if (options == NULL)
	{
		PQfreemem(message);
		return psprintf("Connection string %d is malformed.", number);
	}
	for (PQconninfoOption *o = options; o->keyword != NULL; o++)
	{
		if (o->val == NULL || o->val[0] == '\0')
			continue;
		if (strcmp(o->keyword, "password") == 0 ||
			strcmp(o->keyword, "sslpassword") == 0)
			fault = psprintf("Connection string %d contains a password; use a password file, a service file or certificates.",
							 number);
	}
	PQconninfoFree(options);
	return fault;
}

char *
conninfo_judge(const char *list)
{
	const char *at = list;
	List	   *seen = NIL;
	ListCell   *cell;
	char	   *text;
	char	   *fault;

	while ((text = next_string(&at)) != NULL)
	{
		fault = judge_one(text, list_length(seen) + 1);
		if (fault != NULL)
			return fault;
		foreach(cell, seen)
			if (strcmp(lfirst(cell), text) == 0)
				return psprintf("Connection string %d is given twice.",
								list_length(seen) + 1);
		seen = lappend(seen, text);
	}
	if (list_length(seen) > LEASE_MEMBERS_MAX)
		return psprintf("At most %d members are supported.", LEASE_MEMBERS_MAX);
	return NULL;
}

const char *
conninfo_value(const Conninfo *conninfo, const char *keyword)
{
	for (int i = 0; i < conninfo->n; i++)
		if (strcmp(conninfo->keyword[i], keyword) == 0)
			return conninfo->value[i];
	return NULL;
}

/* Of host[,host...] or hostaddr, port and database. */
static void
make_label(Conninfo *conninfo)
{
	const char *host = conninfo_value(conninfo, "host");
	const char *hostaddr = conninfo_value(conninfo, "hostaddr");
	const char *port = conninfo_value(conninfo, "port");
	const char *dbname = conninfo_value(conninfo, "dbname");
	const char *service = conninfo_value(conninfo, "service");

	if (service != NULL && host == NULL && hostaddr == NULL)
		snprintf(conninfo->label, sizeof(conninfo->label), "service %s", service);
	else
		snprintf(conninfo->label, sizeof(conninfo->label), "%s:%s/%s",
				 host ? host : hostaddr ? hostaddr : "local",
				 port ? port : "5432", dbname ? dbname : "");
}

char *
conninfo_self(const char *dbname)
{
	char	   *directories = pstrdup(Unix_socket_directories ? Unix_socket_directories : "");
	List	   *names;
	const char *host = "127.0.0.1";

	if (SplitDirectoriesString(directories, ',', &names) && names != NIL)
		host = (const char *) linitial(names);
	return psprintf("host='%s' port=%d dbname='%s'", host, PostPortNumber, dbname);
}

static bool
parse_one(char *text, Conninfo *out)
{
	char	   *message = NULL;
	PQconninfoOption *options = PQconninfoParse(text, &message);

	memset(out, 0, sizeof(*out));
	if (options == NULL)
	{
		PQfreemem(message);
		return false;
	}
	out->text = text;
	for (PQconninfoOption *o = options; o->keyword != NULL; o++)
		if (o->val != NULL && o->val[0] != '\0' &&
			out->n < CONNINFO_KEYWORDS_MAX - 4)
		{
			out->keyword[out->n] = pstrdup(o->keyword);
			out->value[out->n++] = pstrdup(o->val);
		}
	PQconninfoFree(options);
	make_label(out);
	return true;
}

int
conninfo_split(const char *list, Conninfo *out, int max)
{
	const char *at = list;
	char	   *text;
	int			n = 0;

	if (strcmp(list, "embedded") == 0)
		return parse_one(conninfo_self("leasehold_store"), &out[0]) ? 1 : 0;
	while (n < max && (text = next_string(&at)) != NULL)
		if (parse_one(text, &out[n]))
			n++;
	return n;
}

/* ------------------------------------------------------------------------
 * Names and addresses
 * ------------------------------------------------------------------------
 */

static bool
is_numeric(const char *host)
{
	unsigned char address[sizeof(struct in6_addr)];

	return host[0] == '/' || host[0] == '@' || host[0] == '\0' ||
		inet_pton(AF_INET, host, address) == 1 ||
		inet_pton(AF_INET6, host, address) == 1;
}

/* The i-th element of a comma-separated list, or of a single one for all. */
static char *
element(const char *list, int i)
{
	const char *at = list;

	if (list == NULL)
		return pstrdup("");
	for (int k = 0; k < i; k++)
	{
		const char *comma = strchr(at, ',');

		if (comma == NULL)
			return pstrdup(strchr(list, ',') == NULL ? list : "");
		at = comma + 1;
	}
	return pnstrdup(at, strcspn(at, ","));
}

static int
count_elements(const char *list)
{
	int			n = 1;

	for (; *list != '\0'; list++)
		n += *list == ',';
	return n;
}

void
conninfo_each_name(const Conninfo *conninfo,
				   void (*each) (const char *host, void *arg), void *arg)
{
	const char *hosts = conninfo_value(conninfo, "host");

	if (hosts == NULL || conninfo_value(conninfo, "hostaddr") != NULL)
		return;
	for (int i = 0; i < count_elements(hosts); i++)
	{
		char	   *host = element(hosts, i);

		if (!is_numeric(host))
			each(host, arg);
	}
}

typedef struct Expansion
{
	StringInfoData host;
	StringInfoData hostaddr;
	StringInfoData port;
	int			n;
} Expansion;

static void
expand(Expansion *to, const char *host, const char *address, const char *port)
{
	const char *comma = to->n++ > 0 ? "," : "";

	appendStringInfo(&to->host, "%s%s", comma, host);
	appendStringInfo(&to->hostaddr, "%s%s", comma, address);
	appendStringInfo(&to->port, "%s%s", comma, port);
}

/* One host of the string, once for each of its addresses. */
static bool
expand_host(Expansion *to, const char *host, const char *port,
			const Addresses *addresses)
{
	bool		found = false;

	if (is_numeric(host))
	{
		expand(to, host, host[0] == '/' || host[0] == '@' ? "" : host, port);
		return true;
	}
	for (int i = 0; i < addresses->n; i++)
		if (strcmp(addresses->entry[i].host, host) == 0)
		{
			expand(to, host, addresses->entry[i].address, port);
			found = true;
		}
	return found;
}

bool
conninfo_start_values(const Conninfo *conninfo, const Addresses *addresses,
					  const char *const **keywords,
					  const char *const **values, const char **unresolved)
{
	static const char *keyword[CONNINFO_KEYWORDS_MAX + 1];
	static const char *value[CONNINFO_KEYWORDS_MAX + 1];
	const char *hosts = conninfo_value(conninfo, "host");
	bool		replace = hosts != NULL && conninfo_value(conninfo, "hostaddr") == NULL;
	Expansion	to = {0};
	int			n = 0;

	if (replace)
	{
		initStringInfo(&to.host);
		initStringInfo(&to.hostaddr);
		initStringInfo(&to.port);
		for (int i = 0; i < count_elements(hosts); i++)
		{
			char	   *host = element(hosts, i);

			if (!expand_host(&to, host, element(conninfo_value(conninfo, "port"), i),
							 addresses))
				*unresolved = host;
		}
		/* the others will do, if one is not known */
		if (to.n == 0)
			return false;
	}
	keyword[n] = "fallback_application_name";
	value[n++] = "leasehold keeper";
	/* looking for Kerberos tickets may block */
	keyword[n] = "gssencmode";
	value[n++] = "disable";
	for (int i = 0; i < conninfo->n; i++)
	{
		if (replace && (strcmp(conninfo->keyword[i], "host") == 0 ||
						strcmp(conninfo->keyword[i], "port") == 0))
			continue;
		keyword[n] = conninfo->keyword[i];
		value[n++] = conninfo->value[i];
	}
	if (replace)
	{
		keyword[n] = "host";
		value[n++] = to.host.data;
		keyword[n] = "hostaddr";
		value[n++] = to.hostaddr.data;
		keyword[n] = "port";
		value[n++] = to.port.data;
	}
	keyword[n] = NULL;
	value[n] = NULL;
	*keywords = keyword;
	*values = value;
	return true;
}

/* ------------------------------------------------------------------------
 * To a peer
 * ------------------------------------------------------------------------
 */

static void
append_option(StringInfo out, const char *keyword, const char *value)
{
	appendStringInfo(out, "%s%s='", out->len > 0 ? " " : "", keyword);
	for (; *value != '\0'; value++)
	{
		if (*value == '\'' || *value == '\\')
			appendStringInfoChar(out, '\\');
		appendStringInfoChar(out, *value);
	}
	appendStringInfoChar(out, '\'');
}

/*
 * The address comes from the store: it may say where the peer is, not which of this
 * machine's files and secrets are shown to whoever is there.
 */
static bool
is_of_address(const char *keyword)
{
	static const char *const keywords[] = {
		"host", "hostaddr", "port", "dbname", "user", "sslmode", "connect_timeout",
		"tcp_user_timeout", "keepalives", "keepalives_idle", "keepalives_interval",
		"keepalives_count", NULL
	};

	for (int i = 0; keywords[i] != NULL; i++)
		if (strcmp(keyword, keywords[i]) == 0)
			return true;
	return false;
}

/* In a fixed order, so that two strings that say the same are the same. */
char *
conninfo_for_peer(const char *address, const char *options, const char *node,
				  const char *dbname)
{
	Conninfo	to;
	Conninfo	added;
	StringInfoData out;

	if (!parse_one(pstrdup(address), &to) ||
		!parse_one(pstrdup(options), &added))
		return NULL;
	initStringInfo(&out);
	for (int i = 0; i < to.n; i++)
		if (conninfo_value(&added, to.keyword[i]) == NULL &&
			is_of_address(to.keyword[i]))
			append_option(&out, to.keyword[i], to.value[i]);
	for (int i = 0; i < added.n; i++)
		if (strcmp(added.keyword[i], "application_name") != 0)
			append_option(&out, added.keyword[i], added.value[i]);
	append_option(&out, "application_name", node);
	if (dbname != NULL && conninfo_value(&to, "dbname") == NULL &&
		conninfo_value(&added, "dbname") == NULL)
		append_option(&out, "dbname", dbname);
	return out.data;
}
