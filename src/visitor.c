/*
 * visitor.c
 *		As what another node comes to this one.
 *
 * It says itself from where, once its connects come far enough; before that we
 * suppose that it comes from where we reach it.
 *
 * Used by the prober and by the workers that read and mend pg_hba.conf.  Must
 * never resolve a name.
 */
#include "postgres.h"

#include "compat.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include "postmaster/postmaster.h"

#include "conninfo.h"
#include "visitor.h"

/* Is this node reached over a socket of its machine? */
static bool
is_reached_locally(void)
{
	Conninfo   *conninfo = palloc(sizeof(Conninfo));
	const char *host = "";
	bool		addressed = false;

	if (conninfo_split(settings_advertise(), conninfo, 1) != 1)
		return false;
	for (int i = 0; i < conninfo->n; i++)
	{
		if (strcmp(conninfo->keyword[i], "host") == 0)
			host = conninfo->value[i];
		else if (strcmp(conninfo->keyword[i], "hostaddr") == 0)
			addressed = conninfo->value[i][0] != '\0';
	}
	return !addressed && (host[0] == '\0' || host[0] == '/' || host[0] == '@');
}

/* Numeric, and without the zone, which pg_hba.conf knows nothing of. */
static bool
take_address(Visitor *visitor, const char *address)
{
	char		binary[sizeof(struct in6_addr)];

	strlcpy(visitor->address, address, sizeof(visitor->address));
	visitor->address[strcspn(visitor->address, "%")] = '\0';
	if (inet_pton(AF_INET, visitor->address, binary) == 1 ||
		inet_pton(AF_INET6, visitor->address, binary) == 1)
		return true;
	visitor->address[0] = '\0';
	return false;
}

static bool
find_way(const Paths *paths, const PathReport *report, Visitor *visitor)
{
	const PathEntry *entry;
	ReportPath	path;

	if (report_find_path(report->text, settings_node_name(), &path) &&
		take_address(visitor, path.from))
		return true;
	if (is_reached_locally())
	{
		visitor->local = true;
		return true;
	}
	entry = paths_find_entry(paths, report->node);
	return entry != NULL && take_address(visitor, entry->address);
}

static bool
describe(const Paths *paths, const PathReport *report, Visitor *visitor)
{
	ReportSelf	self;

	/* (its bytes are hashed, those behind the text too) */
	memset(visitor, 0, sizeof(*visitor));
	if (strcmp(report->node, settings_node_name()) == 0 ||
		!report_read_self(report->text, &self))
		return false;
	strlcpy(visitor->node, report->node, sizeof(visitor->node));
	strlcpy(visitor->user, self.peer_user, sizeof(visitor->user));
	strlcpy(visitor->database, self.peer_database, sizeof(visitor->database));
	visitor->known = find_way(paths, report, visitor);
	visitor->encrypted = !visitor->local && EnableSSL &&
		strcmp(self.sslmode, "disable") != 0;
	return true;
}

bool
visitor_find(const Paths *paths, const char *node, Visitor *visitor)
{
	const PathReport *report = paths_find_report(paths, node);

	return report != NULL && describe(paths, report, visitor);
}

int
visitors_list(const Paths *paths, Visitor *visitor, int max)
{
	int			n = 0;

	for (int i = 0; i < paths->nreports && n < max; i++)
		if (describe(paths, &paths->report[i], &visitor[n]) && visitor[n].known)
			n++;
	return n;
}
