/*
 * picture.c
 *		Pictures of groups that are made up, one file for each.
 *
 *		picture FOLDER
 *
 * test/t/094_picture.pl looks at them in a browser.  What they show does not
 * change from run to run.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "picture.h"

#define NODES	80
#define PATHS	(NODES * NODES)

static PictureNode node[NODES];
static PicturePath path[PATHS];
static char name[NODES][64];
static char address[NODES][96];
static Picture picture;

static void
to_file(void *arg, const char *text)
{
	fputs(text, arg);
}

/* A group in which all is well: every path stands, node 0 holds. */
static void
make_group(int nodes, int members)
{
	memset(node, 0, sizeof(node));
	memset(path, 0, sizeof(path));
	memset(&picture, 0, sizeof(picture));
	for (int i = 0; i < nodes + members; i++)
	{
		bool		member = i >= nodes;

		snprintf(name[i], sizeof(name[i]), member ? "m%d.example" : "db%d",
				 member ? i - nodes + 1 : i + 1);
		snprintf(address[i], sizeof(address[i]), "host=%s.example port=5432", name[i]);
		node[i].name = name[i];
		node[i].address = member ? "port 5432" : address[i];
		node[i].role = member ? "" : i == 0 ? "primary" : "standby";
		node[i].holder = i == 0;
		node[i].self = i == 1;
		node[i].alive = true;
		node[i].member = member;
		node[i].lag = i * 100 % 7 == 0 ? 0 : i * 4321 % 900001;
		node[i].age_ms = member ? -1 : i * 377 % 3000;
	}
	for (int i = 0; i < nodes; i++)
		for (int j = 0; j < nodes + members; j++)
		{
			PicturePath *one = &path[picture.npaths];

			if (i == j)
				continue;
			one->source = i;
			one->target = j;
			one->status = PATH_OK;
			one->phase = PHASE_READY;
			one->latency_us = 300 + (i * 31 + j * 17) % 40 * 47;
			picture.npaths++;
		}
	picture.lease = "main";
	picture.store = "3 of 3 members answer";
	picture.epoch = 42;
	picture.nnodes = nodes + members;
	picture.node = node;
	picture.path = path;
}

static PicturePath *
path_of(int source, int target)
{
	for (int i = 0; i < picture.npaths; i++)
		if (path[i].source == source && path[i].target == target)
			return &path[i];
	abort();
}

static void
break_path(int source, int target, PathPhase phase, const char *cause,
		   const char *error)
{
	PicturePath *one = path_of(source, target);

	one->status = PATH_UNREACHABLE;
	one->phase = phase;
	one->latency_us = 0;
	one->cause = cause;
	one->error = error;
}

static void
kill_node(int which)
{
	node[which].alive = false;
	node[which].lag = -1;
	node[which].age_ms = 312000;
	for (int i = 0; i < picture.nnodes; i++)
		if (i != which && !node[i].member)
			break_path(i, which, PHASE_CONNECT, "timeout",
					   "connection to server at \"10.0.3.17\", port 5432 failed: timeout expired");
}

static void
draw(const char *folder, const char *file)
{
	char		where[1024];
	FILE	   *out;

	snprintf(where, sizeof(where), "%s/%s.svg", folder, file);
	out = fopen(where, "w");
	if (out == NULL)
	{
		perror(where);
		exit(1);
	}
	picture_draw(&picture, to_file, out);
	if (fclose(out) != 0)
	{
		perror(where);
		exit(1);
	}
}

static const char no_hba[] =
"FATAL:  no pg_hba.conf entry for host \"10.0.2.15\", user \"leasehold_peer\", database \"postgres\", no encryption";

/* Two nodes, three members; one path is broken, in both directions. */
static void
two(const char *folder)
{
	make_group(2, 3);
	draw(folder, "two_well");
	break_path(0, 1, PHASE_CONNECT, "refused",
			   "connection to server at \"10.0.2.15\", port 5432 failed: Connection refused");
	break_path(1, 0, PHASE_CONNECT, "refused",
			   "connection to server at \"10.0.2.14\", port 5432 failed: Connection refused");
	break_path(1, 3, PHASE_AUTHENTICATE, "wrong_password",
			   "FATAL:  password authentication failed for user \"leasehold\"");
	draw(folder, "two");
}

/* Five: one is dead, two paths are broken for other reasons, one flaps. */
static void
five(const char *folder)
{
	make_group(5, 3);
	draw(folder, "five_well");
	kill_node(4);
	break_path(1, 2, PHASE_AUTHENTICATE, "no_hba", no_hba);
	break_path(3, 6, PHASE_TLS, "tls_certificate", "SSL error: certificate verify failed");
	path_of(2, 0)->status = PATH_FLAPPING;
	path_of(2, 0)->phase = PHASE_CONNECT;
	path_of(2, 0)->cause = "timeout";
	path_of(3, 1)->status = PATH_DEGRADED;
	path_of(3, 1)->latency_us = 183000;
	path_of(0, 3)->status = PATH_UNKNOWN;
	draw(folder, "five");
}

/* Nine: small cards; no holder; lines across rows. */
static void
nine(const char *folder)
{
	make_group(9, 3);
	node[0].holder = false;
	node[0].role = "standby";
	break_path(0, 8, PHASE_SESSION, "too_many", "FATAL:  sorry, too many clients already");
	break_path(8, 0, PHASE_RESOLVE, "no_address",
			   "could not translate host name \"db1.example\" to address");
	break_path(7, 1, PHASE_CONNECT, "no_route", "No route to host");
	break_path(3, 4, PHASE_READY, "wrong_server", "");
	break_path(2, 11, PHASE_CONNECT, "closed", "server closed the connection unexpectedly");
	path_of(6, 7)->status = PATH_FLAPPING;
	path_of(6, 7)->phase = PHASE_CONNECT;
	path_of(6, 7)->cause = "timeout";
	draw(folder, "nine");
}

/* Fifty: two dead, one without a way out, a few odd paths. */
static void
fifty(const char *folder)
{
	make_group(50, 5);
	draw(folder, "fifty_well");
	kill_node(16);
	kill_node(33);
	for (int j = 0; j < 55; j++)
		if (j != 7)
			break_path(7, j, PHASE_AUTHENTICATE, "wrong_password",
					   "FATAL:  password authentication failed for user \"leasehold_peer\"");
	break_path(1, 2, PHASE_AUTHENTICATE, "no_hba", no_hba);
	break_path(22, 40, PHASE_CONNECT, "no_route", "No route to host");
	break_path(40, 22, PHASE_CONNECT, "no_route", "No route to host");
	break_path(45, 52, PHASE_TLS, "tls_name", "server certificate does not match host name");
	for (int i = 10; i < 14; i++)
		path_of(i, 3)->status = PATH_DEGRADED;
	path_of(30, 31)->status = PATH_FLAPPING;
	node[28].age_ms = -1;
	draw(folder, "fifty");
}

/* As large as it may become, and nothing works. */
static void
storm(const char *folder)
{
	make_group(64, 7);
	for (int i = 0; i < 64; i++)
		for (int j = 0; j < 71; j++)
			if (i != j)
				break_path(i, j, PHASE_CONNECT, "timeout", "timeout expired");
	picture.store = "0 of 7 members answer";
	draw(folder, "storm");
}

/* Names and errors that somebody made to break out of their boxes. */
static void
give_hostile_texts(int n)
{
	static const char *const names[] = {
		"<a&\"'>", "</text></svg><script>document.title='broken out'</script>",
		"WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW",
		"\u6570\u636e\u5e93\u96c6\u7fa4\u7684\u7b2c\u4e00\u4e2a\u8282\u70b9\u5728\u5317\u4eac",
		"a\xff\xfe\xc3", "", "line\nbreak\ttab\x01\x1b[31m",
		"\u202egnirts \u2066desrever", "&amp;&#60;]]><!--",
		"prod-eu-west-1-rack-17-postgresql-cluster-blue-node-0001",
		"prod-eu-west-1-rack-17-postgresql-cluster-blue-node-0002",
		"\U0001f418\U0001f418\U0001f418 elephants \u0645\u0631\u062d\u0628\u0627"
	};

	for (int i = 0; i < picture.nnodes; i++)
	{
		node[i].name = names[i % 12];
		node[i].address = names[(i + 5) % 12];
		node[i].role = i % 3 == 0 ? names[(i + 2) % 12] : "standby";
		node[i].lag = INT64_MAX;
		node[i].age_ms = i % 4 == 3 ? INT64_MAX : 0;
		node[i].alive = i % 2;
	}
	for (int i = 0; i < picture.npaths; i++)
	{
		path[i].latency_us = INT64_MAX;
		if (i % n == 0)
			break_path(path[i].source, path[i].target, i / n % PHASE_COUNT,
					   i % 2 ? "no_standby_sessions" : names[i / n % 12],
					   names[(i / n + 2) % 12]);
		path[i].error = path[i].status == PATH_UNREACHABLE && i % 5 == 0 ?
			"server closed the connection unexpectedly\n\tThis probably means the server "
			"terminated abnormally\n\tbefore or while processing the request, and these "
			"words go on until they are at the very end of what a line can hold at all, "
			"and further" : path[i].error;
	}
	picture.lease = names[2];
	picture.store = names[1];
	picture.epoch = INT64_MAX;
}

static void
hostile(const char *folder)
{
	make_group(2, 2);
	give_hostile_texts(3);
	draw(folder, "hostile_two");
	make_group(5, 5);
	give_hostile_texts(7);
	draw(folder, "hostile_five");
	make_group(50, 7);
	give_hostile_texts(97);
	draw(folder, "hostile_fifty");
}

static void
edges(const char *folder)
{
	make_group(0, 0);
	picture.lease = NULL;
	picture.store = NULL;
	draw(folder, "empty");
	make_group(1, 0);
	draw(folder, "one");
	make_group(12, 0);
	draw(folder, "twelve");
}

int
main(int argc, char **argv)
{
	if (argc != 2)
	{
		fprintf(stderr, "usage: picture FOLDER\n");
		return 1;
	}
	two(argv[1]);
	five(argv[1]);
	nine(argv[1]);
	fifty(argv[1]);
	storm(argv[1]);
	hostile(argv[1]);
	edges(argv[1]);
	return 0;
}
