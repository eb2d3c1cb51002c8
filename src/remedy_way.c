/*
 * remedy_way.c
 *		Operations that open the way to a server: name, address, port, firewall, TLS.
 *
 * See remedy.h.  Must never do I/O or depend on the server.
 */
#include "remedy_plan.h"

#include <stdio.h>
#include <string.h>

/* ------------------------------------------------------------------------
 * Resolve
 * ------------------------------------------------------------------------
 */

void
way_bad_address(Plan *plan)
{
	plan_correct_address(plan, "The node's address is no valid connection string; "
						 "this gives it its machine's name and its own port.");
}

void
way_no_address(Plan *plan)
{
	const RemedyFacts *facts = plan->facts;
	char		port[16];

	plan_add(plan, facts->source, REMEDY_SHELL, ACTION_NONE,
			 "Says whether the machine knows the name by now; if it does not, its "
			 "name servers have to be mended, or one of the next lines run.",
			 "getent hosts %S", facts->host[0] != '\0' ? facts->host : facts->target);
	if (facts->host[0] != '\0' && text_address_family(facts->address) != 0)
		plan_add(plan, facts->source, REMEDY_SHELL, ACTION_NONE,
				 "The machine knows the name by itself then.",
				 "printf '%%s %%s\\n' %S %S >> /etc/hosts", facts->address,
				 facts->host);
	if (facts->member)
		plan_correct_address(plan, "");
	else
		plan_add(plan, facts->target, REMEDY_SHELL, ACTION_NONE,
				 "The node gives its address in place of a name; its first one, if it "
				 "has several.",
				 "psql -p %s -d postgres -X -c \"ALTER SYSTEM SET "
				 "leasehold.advertise = 'host=$(hostname -I | cut -d ' ' -f 1) "
				 "port=%s'\" -c 'SELECT pg_reload_conf()'",
				 plan_target_port(plan, port), plan_target_port(plan, port));
}

/* ------------------------------------------------------------------------
 * Connect
 * ------------------------------------------------------------------------
 */

/*
 * Whichever firewall is at work there.  A rule of nft or iptables lasts until the
 * machine restarts.
 */
static void
open_firewall(Plan *plan, const char *why)
{
	const char *from = plan_source_address(plan->facts);
	const char *to = plan_target_address(plan);
	bool		six = text_address_family(from[0] != '\0' ? from : to) == 6;
	const char *family = six ? "ipv6" : "ipv4";
	const char *port = plan_port(plan);
	char		part[4][128] = {"", "any", "", ""};

	if (from[0] != '\0')
	{
		plan_text(plan, part[0], sizeof(part[0]), " source address=\"%s\"", from);
		plan_text(plan, part[1], sizeof(part[1]), "%s", from);
		plan_text(plan, part[2], sizeof(part[2]), " %s saddr %s",
				  six ? "ip6" : "ip", from);
		plan_text(plan, part[3], sizeof(part[3]), " -s %s", from);
	}
	plan_add(plan, plan->facts->target, REMEDY_SHELL, ACTION_NONE, why,
			 "if firewall-cmd -q --state 2>/dev/null; then "
			 "firewall-cmd -q --permanent --add-rich-rule='rule family=\"%s\"%s "
			 "port port=\"%s\" protocol=\"tcp\" accept' && firewall-cmd -q --reload; "
			 "elif LC_ALL=C ufw status 2>/dev/null | grep -q '^Status: active'; then "
			 "ufw prepend allow proto tcp from %s to any port %s; "
			 "elif nft list chain inet filter input >/dev/null 2>&1; then "
			 "nft insert rule inet filter input%s tcp dport %s accept; "
			 "else %s -I INPUT -p tcp%s --dport %s -j ACCEPT; fi",
			 family, part[0], port, part[1], port, part[2], port,
			 six ? "ip6tables" : "iptables", part[3], port);
}

/* Is "item" one of the list, which is separated by commas? */
static bool
lists(const char *list, const char *item)
{
	size_t		length = strlen(item);

	while (*list != '\0')
	{
		size_t		n;

		list += strspn(list, ", ");
		n = strcspn(list, ", ");
		if (n == length && n > 0 && memcmp(list, item, n) == 0)
			return true;
		list += n;
	}
	return false;
}

/* Does the target listen at the address that was tried, as far as it says? */
static bool
listens(const Plan *plan)
{
	const char *list = plan->facts->of_target.listen;
	const char *address = plan_target_address(plan);
	int			family = text_address_family(address);

	return lists(list, "*") || lists(list, plan->facts->host) ||
		lists(list, address) ||
		(family == 4 && lists(list, "0.0.0.0")) ||
		(family == 6 && lists(list, "::")) ||
		((strcmp(address, "127.0.0.1") == 0 || strcmp(address, "::1") == 0) &&
		 lists(list, "localhost"));
}

static void
listen_too(Plan *plan, const char *why)
{
	const RemedyFacts *facts = plan->facts;
	const char *address = plan_target_address(plan);
	const char *old = facts->target_known ? facts->of_target.listen : "";
	char		list[512];

	if (address[0] == '\0' || !facts->target_known)
		plan_text(plan, list, sizeof(list), "*");
	else
		plan_text(plan, list, sizeof(list), "%s%s%s", old,
				  old[0] != '\0' ? ", " : "", address);
	plan_add(plan, facts->target, REMEDY_SQL, ACTION_NONE, why,
			 "ALTER SYSTEM SET listen_addresses = %L;", list);
	plan_restart(plan, "listen_addresses takes effect with a restart of the server.");
}

void
way_refused(Plan *plan)
{
	const RemedyFacts *facts = plan->facts;
	bool		alive = facts->target_known && facts->of_target.accepts;
	char		port[16];

	if (alive && !plan_is_local(plan) &&
		strcmp(plan_target_port(plan, port), plan_port(plan)) != 0)
	{
		plan_correct_address(plan, "The node listens on another port than the one "
							 "that it tells its peers.");
		return;
	}
	if (alive && !plan_is_local(plan) && !listens(plan))
	{
		listen_too(plan, "The server runs, but does not listen on the address that "
				   "its peers use.");
		return;
	}
	plan_start(plan, "The machine is there, but the server does not run.");
	if (alive && !plan_is_local(plan))
		open_firewall(plan, "If it does run: it listens on this address, so a "
					  "firewall refuses the connection in its place.");
	else if (!facts->target_known && !plan_is_local(plan))
		listen_too(plan, "If it does run, it does not listen on the address that its "
				   "peers use.");
}

void
way_timeout(Plan *plan)
{
	const char *address = plan_target_address(plan);

	open_firewall(plan, "The machine does not answer at all, as one behind a firewall "
				  "that drops what it does not let in.");
	plan_add(plan, plan->facts->source, REMEDY_SHELL, ACTION_NONE,
			 "If this gets no answer either, the machine is down or the network "
			 "between is broken: start the one, or mend the other.",
			 "ping -c 3 %S", address[0] != '\0' ? address :
			 plan->facts->host[0] != '\0' ? plan->facts->host : plan->facts->target);
}

void
way_no_route(Plan *plan)
{
	const char *address = plan_target_address(plan);

	open_firewall(plan, "A firewall that rejects tells just this: that there is no "
				  "way to the machine.");
	plan_add(plan, plan->facts->source, REMEDY_SHELL, ACTION_NONE,
			 "Says by which way the source would go; if there is none, the route or "
			 "the interface has to be mended.",
			 "ip route get %S", address[0] != '\0' ? address :
			 plan->facts->host[0] != '\0' ? plan->facts->host : plan->facts->target);
}

/*
 * A node that runs has a socket somewhere else: it tells that one.  (To have it make
 * the socket that is tried may keep it from starting again, if there is no such
 * directory.)
 */
void
way_no_socket(Plan *plan)
{
	const RemedyFacts *facts = plan->facts;
	bool		alive = facts->target_known && facts->of_target.accepts;

	if (!alive)
		plan_start(plan, "The socket is there only as long as the server runs.");
	if (!plan_is_local(plan))
		return;
	if (facts->member)
		plan_correct_address(plan, "");
	else
		plan_add(plan, facts->target, REMEDY_SQL, ACTION_NONE,
				 alive ? "The node's socket is in another directory than the one that "
				 "it tells its peers." :
				 "If it does run, its socket is in another directory: this has it tell "
				 "its peers which.",
				 "SELECT format('ALTER SYSTEM SET leasehold.advertise = %%L', "
				 "format('host=''%%s'' port=%%s', btrim(split_part(d, ',', 1)), "
				 "current_setting('port'))) FROM "
				 "current_setting('unix_socket_directories') d WHERE d <> '' \\gexec\n"
				 "SELECT pg_reload_conf();");
}

void
way_closed(Plan *plan)
{
	char		port[16];

	plan->deaf = true;
	plan_add(plan, plan->facts->target, REMEDY_SHELL, ACTION_NONE,
			 "Says which program accepts the connections: if it is a balancer or a "
			 "pooler, it has no server behind it.",
			 "ss -ltnp 'sport = :%s'", plan_port(plan));
	plan_add(plan, plan->facts->target, REMEDY_SHELL, ACTION_NONE,
			 "If this works on the machine itself, the program in between is at "
			 "fault; if it does not, the server's log says why.",
			 "psql -p %s -d postgres -X -c 'SELECT 1'",
			 plan_target_port(plan, port));
	plan_restart(plan, "A server that cannot start sessions any more does so again "
				 "after a restart.");
}

void
way_silent(Plan *plan)
{
	char		directory[256];

	plan->deaf = true;
	if (plan_directory(plan, directory)[0] != '\0')
		plan_add_there(plan, "The server accepts connections, but does not serve them, "
					   "as one that was stopped by a signal; if it was not, this does "
					   "nothing.",
					   "kill -s CONT $(head -n 1 \"$D/postmaster.pid\") "
					   "$(pgrep -P \"$(head -n 1 \"$D/postmaster.pid\")\")");
	plan_restart(plan, "If it stays silent, it hangs, or its disk does.");
}

void
way_not_postgres(Plan *plan)
{
	plan_correct_address(plan, "Another program answers there: the node tells its "
						 "peers a wrong address or port.");
}

void
way_wrong_server(Plan *plan)
{
	plan_correct_address(plan, "Another server answers there: the node tells its peers "
						 "a wrong address or port.");
	if (!plan_is_local(plan) && plan->facts->host[0] != '\0' &&
		text_address_family(plan->facts->host) == 0)
		plan_add(plan, plan->facts->source, REMEDY_SHELL, ACTION_NONE,
				 "If the name is right, this shows which machine it leads to here; a "
				 "wrong line is in /etc/hosts, or at the name servers.",
				 "getent hosts %S", plan->facts->host);
}

/* ------------------------------------------------------------------------
 * TLS
 * ------------------------------------------------------------------------
 */

/* The subject's alternative name for a certificate of the target. */
static const char *
subject_of(Plan *plan, char buffer[512])
{
	const char *host = plan->facts->host;
	const char *name = host[0] != '\0' && !plan_is_local(plan) ? host :
		plan->facts->target;

	return plan_text(plan, buffer, 512, "subjectAltName=%s:%s",
					 text_address_family(name) != 0 ? "IP" : "DNS", name);
}

void
tls_missing(Plan *plan)
{
	char		subject[512];

	plan_add_there(plan, "The server needs a certificate and a key; if it has any, this "
				   "leaves them as they are.",
				   "( cd \"$D\" && { [ -e server.key ] || { openssl req -new -x509 -days "
				   "3650 -nodes -subj /CN=leasehold -addext %S -keyout server.key -out "
				   "server.crt && chmod 600 server.key && chown --reference=. "
				   "server.key server.crt; }; } )", subject_of(plan, subject));
	plan_add(plan, plan->facts->target, REMEDY_SQL, ACTION_NONE,
			 "The source requires TLS, and the server does not offer it.",
			 "ALTER SYSTEM SET ssl_cert_file = 'server.crt';\n"
			 "ALTER SYSTEM SET ssl_key_file = 'server.key';\n"
			 "ALTER SYSTEM SET ssl = on;\n"
			 "SELECT pg_reload_conf();");
}

void
tls_required(Plan *plan)
{
	if (plan->facts->member)
	{
		plan_correct_address(plan, "");
		return;
	}
	plan_add(plan, plan->facts->source, REMEDY_SQL, ACTION_NONE,
			 "The server lets the source in with TLS only; the other options stay as "
			 "they are.",
			 "SELECT format('ALTER SYSTEM SET leasehold.peer_options = %%L', "
			 "btrim(regexp_replace(current_setting('leasehold.peer_options'), "
			 "'\\msslmode\\s*=\\s*\\S+', '', 'g') || ' sslmode=require')) \\gexec\n"
			 "SELECT pg_reload_conf();");
}

/* What stands between the first quotes of the failure's message; or "". */
static const char *
quoted(const Plan *plan, const char *before, char buffer[256])
{
	const char *at = strstr(plan->facts->message, before);
	size_t		length;

	buffer[0] = '\0';
	if (at == NULL)
		return buffer;
	at += strlen(before);
	length = strcspn(at, "\"");
	if (at[length] == '"' && length < 256)
	{
		memcpy(buffer, at, length);
		buffer[length] = '\0';
	}
	return buffer;
}

void
tls_certificate(Plan *plan)
{
	char		port[16];
	char		name[256];
	char		file[512] = "F=~/.postgresql/root.crt";

	if (quoted(plan, "root certificate file \"", name)[0] != '\0')
		plan_text(plan, file, sizeof(file), "F=%S", name);
	plan_add_there(plan, "Prints the server's certificate, which is to be trusted; if "
				   "an authority has signed it, print that one's instead.",
				   "( cd \"$D\" && cat \"$(psql -p %s -d postgres -XAtc "
				   "'SHOW ssl_cert_file')\" )", plan_target_port(plan, port));
	plan_add(plan, plan->facts->source, REMEDY_SHELL, ACTION_NONE,
			 "The source trusts what stands in this file; give it what the line "
			 "before has printed. Where sslrootcert names a file, it is that one.",
			 "%s; mkdir -p \"$(dirname \"$F\")\" && cat >> \"$F\"", file);
}

void
tls_name(Plan *plan)
{
	const RemedyFacts *facts = plan->facts;
	char		name[256];
	char		advertise[512];
	char		subject[512];
	char		port[16];

	quoted(plan, "server certificate for \"", name);
	if (name[0] != '\0' && strchr(name, '*') == NULL && !facts->member &&
		text_address_family(facts->address) != 0)
		plan_add(plan, facts->target, REMEDY_SQL, ACTION_NONE,
				 "The node is known by the name in its certificate then.",
				 "ALTER SYSTEM SET leasehold.advertise = %L;\n"
				 "SELECT pg_reload_conf();",
				 plan_text(plan, advertise, sizeof(advertise),
						   "host=%C hostaddr=%s port=%s", name, facts->address,
						   plan_target_port(plan, port)));
	plan_add_there(plan, "Or: prints a request for a certificate with the name that is "
				   "used. Have it signed, put it in the place of ssl_cert_file, and "
				   "reload.",
				   "( cd \"$D\" && openssl req -new -subj /CN=leasehold -addext %S "
				   "-key \"$(psql -p %s -d postgres -XAtc 'SHOW ssl_key_file')\" )",
				   subject_of(plan, subject), plan_target_port(plan, port));
}

void
tls_client(Plan *plan)
{
	char		subject[256];

	plan_add(plan, plan->facts->source, REMEDY_SHELL, ACTION_NONE,
			 "Makes the source a key, unless it has one, and prints a request for a "
			 "certificate that says whom it connects as.",
			 "( umask 077 && mkdir -p ~/.postgresql && cd ~/.postgresql && "
			 "{ [ -e postgresql.key ] || openssl genrsa -out postgresql.key; } && "
			 "openssl req -new -subj %S -key postgresql.key )",
			 plan_text(plan, subject, sizeof(subject), "/CN=%s", plan->user));
	plan_add_there(plan, "Signs the request that it reads, with the authority that "
				   "ssl_ca_file names, and prints the certificate; run it where that "
				   "one's key is kept.",
				   "( cd \"$D\" && openssl x509 -req -days 825 -CA root.crt -CAkey "
				   "root.key -CAcreateserial )");
	plan_add(plan, plan->facts->source, REMEDY_SHELL, ACTION_NONE,
			 "The certificate has its place beside its key.",
			 "cat > ~/.postgresql/postgresql.crt");
}

void
tls_other(Plan *plan)
{
	const char *address = plan_target_address(plan);

	plan_add(plan, plan->facts->target, REMEDY_SQL, ACTION_NONE,
			 "Both sides may have been told versions of TLS that they do not have in "
			 "common.",
			 "ALTER SYSTEM SET ssl_min_protocol_version = 'TLSv1.2';\n"
			 "ALTER SYSTEM SET ssl_max_protocol_version = '';\n"
			 "SELECT pg_reload_conf();");
	if (address[0] == '\0')
		return;
	plan_add(plan, plan->facts->source, REMEDY_SHELL, ACTION_NONE,
			 "Shows how far the two come; a mistake in a certificate is named here.",
			 "openssl s_client -starttls postgres -connect %s%s%s:%s </dev/null",
			 text_address_family(address) == 6 ? "[" : "", address,
			 text_address_family(address) == 6 ? "]" : "", plan_port(plan));
	plan_add(plan, plan->facts->source, REMEDY_SHELL, ACTION_NONE,
			 "If the handshake just stops, packets of full size are lost on the way: "
			 "then this gets no answer, and the network's MTU has to be mended.",
			 "ping -c 3 -M do -s 1400 %S", address);
}
