/*
 * hba_match.c
 *		Which line of pg_hba.conf a connection would meet.
 *
 * The server itself reads the file for us (pg_hba_file_rules); what it would do
 * with the lines (check_hba() in its hba.c) is said once more here, in SQL, with
 * null for what cannot be told.  The view does not show which names were quoted:
 * "all" in quotes, the name of a role, looks like the word all.
 *
 * Must never resolve a name, nor show what is secret in a line's options.
 */
#include "postgres.h"

#include "compat.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "libpq/ifaddr.h"
#include "libpq/libpq.h"
#include "utils/builtins.h"

#include "hba.h"


/*
 * $1 role, $2 database, $3 address (null: a local socket), $4 with TLS, $5 the
 * address is this host's, $6 ... of a network that this host is in.
 *
 * A superuser is no member of all groups here, as pg_has_role() would say.
 */
static const char meet_sql[] =
"WITH RECURSIVE membership AS ("
"  SELECT a.oid FROM pg_authid a WHERE a.rolname = $1"
"  UNION"
"  SELECT m.roleid FROM pg_auth_members m JOIN membership s ON m.member = s.oid),"
" groups AS (SELECT a.rolname::text AS name"
"  FROM membership s JOIN pg_authid a ON a.oid = s.oid),"
" judged AS (SELECT r.*, " COMPAT_HBA_NUMBER " AS number, " COMPAT_HBA_FILE " AS file,"
"  CASE WHEN $3 IS NULL THEN r.type = 'local'"
"   ELSE r.type IN ('host', 'hostnogssenc', CASE WHEN $4 THEN 'hostssl' ELSE 'hostnossl' END)"
"  END"
"  AND CASE WHEN $3 IS NULL OR r.address = 'all' THEN true"
"   WHEN r.address = 'samehost' THEN $5"
"   WHEN r.address = 'samenet' THEN $6"
"   WHEN r.netmask IS NULL THEN NULL"	/* a host name */
"   WHEN family(r.address::inet) <> family($3::inet) THEN false"
"   ELSE (r.address::inet & r.netmask::inet) = ($3::inet & r.netmask::inet)"
"  END"
"  AND (SELECT bool_or(CASE WHEN d = 'all' THEN true"
"    WHEN d = 'sameuser' THEN $2 = $1"
"    WHEN d IN ('samerole', 'samegroup') THEN $2 IN (SELECT name FROM groups)"
"    WHEN d = 'replication' THEN false"
"    WHEN " COMPAT_HBA_REGEX " AND left(d, 1) = '/' THEN $2 COLLATE \"C\" ~ substr(d, 2)"
"    ELSE d = $2 END) FROM unnest(r.database) AS d)"
"  AND (SELECT bool_or(CASE WHEN u = 'all' THEN true"
"    WHEN left(u, 1) = '+' THEN substr(u, 2) IN (SELECT name FROM groups)"
"    WHEN " COMPAT_HBA_REGEX " AND left(u, 1) = '/' THEN $1 COLLATE \"C\" ~ substr(u, 2)"
"    ELSE u = $1 END) FROM unnest(r.user_name) AS u)"
"  AS meets"
"  FROM pg_hba_file_rules r WHERE r.type IS NOT NULL)"
" SELECT m.line_number, m.file, m.auth_method,"
"  concat_ws(' ', m.type, array_to_string(m.database, ','),"
"   array_to_string(m.user_name, ','),"
"   coalesce((SELECT m.address || '/' || n FROM generate_series(0,"
"     CASE family(m.address::inet) WHEN 4 THEN 32 ELSE 128 END) AS n"
"     WHERE m.netmask IS NOT NULL"
"     AND netmask(set_masklen(m.address::inet, n)) = m.netmask::inet),"
"    nullif(concat_ws(' ', m.address, m.netmask), '')),"
"   m.auth_method,"
"   (SELECT string_agg(o, ' ') FROM unnest(m.options) AS o"
"    WHERE o ~ '^(map|clientcert|clientname)=')),"
"  f.line_number, f.meets"
" FROM (SELECT 1) AS one"
" LEFT JOIN (SELECT * FROM judged WHERE meets ORDER BY number LIMIT 1) AS m ON true"
" LEFT JOIN (SELECT * FROM judged WHERE meets IS NOT FALSE ORDER BY number LIMIT 1) AS f"
"  ON true";

/* ------------------------------------------------------------------------
 * This host's own addresses and networks: not to be had in SQL
 * ------------------------------------------------------------------------
 */

typedef struct Neighbour
{
	struct sockaddr_storage address;
	bool		same_host;
	bool		same_net;
} Neighbour;

static void
compare_interface(struct sockaddr *address, struct sockaddr *netmask, void *arg)
{
	Neighbour  *neighbour = arg;
	struct sockaddr_storage all_ones;

	if (address->sa_family != neighbour->address.ss_family)
		return;
	pg_sockaddr_cidr_mask(&all_ones, NULL, address->sa_family);
	if (pg_range_sockaddr(&neighbour->address, (struct sockaddr_storage *) address,
						  &all_ones))
		neighbour->same_host = true;
	if (pg_range_sockaddr(&neighbour->address, (struct sockaddr_storage *) address,
						  (struct sockaddr_storage *) netmask))
		neighbour->same_net = true;
}

static void
compare_interfaces(const char *address, Neighbour *neighbour)
{
	struct sockaddr_in *four = (struct sockaddr_in *) &neighbour->address;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *) &neighbour->address;

	memset(neighbour, 0, sizeof(*neighbour));
	if (inet_pton(AF_INET, address, &four->sin_addr) == 1)
		four->sin_family = AF_INET;
	else if (inet_pton(AF_INET6, address, &six->sin6_addr) == 1)
		six->sin6_family = AF_INET6;
	else
		return;
	if (pg_foreach_ifaddr(compare_interface, neighbour) < 0)
		ereport(LOG,
				(errmsg("leasehold: could not read the network interfaces: %m")));
}

/* ------------------------------------------------------------------------
 * Asking
 * ------------------------------------------------------------------------
 */

static char *
column(int number)
{
	char	   *value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, number);

	return value ? value : "";
}

/* Is it another file than pg_hba.conf itself? */
static bool
is_included(const char *file)
{
	return file[0] != '\0' && strcmp(file, HbaFileName) != 0;
}

static void
ask(const Visitor *visitor, bool encrypted)
{
	Oid			types[6] = {TEXTOID, TEXTOID, TEXTOID, BOOLOID, BOOLOID, BOOLOID};
	char		nulls[6] = {' ', ' ', visitor->local ? 'n' : ' ', ' ', ' ', ' '};
	Datum		values[6];
	Neighbour	neighbour;

	compare_interfaces(visitor->address, &neighbour);
	values[0] = CStringGetTextDatum(visitor->user);
	values[1] = CStringGetTextDatum(visitor->database);
	values[2] = CStringGetTextDatum(visitor->address);
	values[3] = BoolGetDatum(encrypted);
	values[4] = BoolGetDatum(neighbour.same_host);
	values[5] = BoolGetDatum(neighbour.same_net);
	if (SPI_execute_with_args(meet_sql, 6, types, values, nulls, true, 0) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "pg_hba_file_rules cannot be read");
}

void
hba_meet(const Visitor *visitor, bool encrypted, ReportHba *hba)
{
	int			first;

	ask(visitor, encrypted);
	memset(hba, 0, sizeof(*hba));
	strlcpy(hba->node, visitor->node, sizeof(hba->node));
	strlcpy(hba->address, visitor->address, sizeof(hba->address));
	hba->encrypted = encrypted;
	hba->line = atoi(column(1));
	if (hba->line > 0)
	{
		if (is_included(column(2)))
			strlcpy(hba->file, column(2), sizeof(hba->file));
		strlcpy(hba->method, column(3), sizeof(hba->method));
		strlcpy(hba->rule, column(4), sizeof(hba->rule));
	}
	first = atoi(column(5));
	if (first > 0 && column(6)[0] == '\0')
		hba->doubt = first;
	SPI_freetuptable(SPI_tuptable);
}

/*
 * A line that has been understood may have an error, too: that it cannot match while
 * the server has no TLS.  That does not keep the file from being read.
 */
int
hba_error(char **what)
{
	int			line = 0;

	if (SPI_execute("SELECT line_number, error FROM pg_hba_file_rules"
					" WHERE type IS NULL LIMIT 1", true, 0) != SPI_OK_SELECT)
		elog(ERROR, "pg_hba_file_rules cannot be read");
	if (SPI_processed > 0)
	{
		line = atoi(column(1));
		*what = pstrdup(column(2));
	}
	SPI_freetuptable(SPI_tuptable);
	return line;
}
