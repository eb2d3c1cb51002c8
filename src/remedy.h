/*
 * remedy.h
 *		From the cause of a failure to the operations that mend it.
 *
 * Layer 0: no server headers, no I/O.  Every operation is text that can be
 * performed as it stands, by whoever is named, in the order given.
 */
#ifndef LEASEHOLD_REMEDY_H
#define LEASEHOLD_REMEDY_H

#include <stdbool.h>

#include "cause.h"
#include "report.h"

#define REMEDY_TEXT_LEN		1024
#define REMEDY_MAX			8	/* operations for one cause */

typedef enum RemedyKind
{
	REMEDY_SQL,					/* one or more statements, for psql */
	REMEDY_CONFIGURATION,		/* a line, and in the comment before it, of which file */
	REMEDY_SHELL				/* a command line */
} RemedyKind;

/*
 * What a machine may do about it: operations from a fixed list, whose arguments are
 * taken from RemedyFacts and nothing else.
 */
typedef enum RemedyAction
{
	ACTION_NONE,				/* for people */
	ACTION_RELOAD,
	ACTION_HBA_LINE,			/* the line, in its place, and a reload */
	ACTION_CREATE_ROLE,
	ACTION_ALLOW_LOGIN,
	ACTION_GRANT_CONNECT,
	ACTION_CREATE_EXTENSION,
	ACTION_GRANT_MONITOR
} RemedyAction;

/* Who does not reach whom, and what both say of themselves. */
typedef struct RemedyFacts
{
	Cause		cause;
	char		source[REPORT_NAME_LEN];
	char		source_host[256];	/* as advertised; or "" */
	char		target[128];
	bool		member;			/* the target is a member of the store */
	char		host[256];		/* of the target, as advertised; or a directory;
								 * or "" */
	char		address[REPORT_ADDRESS_LEN];	/* that was tried, numeric; or "" */
	char		port[8];
	char		from[REPORT_ADDRESS_LEN];	/* the source's own end; "" if not known */
	char		user[64];		/* by which the source connects */
	char		database[64];
	bool		encrypted;		/* the source's connection uses TLS */
	char		message[256];	/* of the failure */
	bool		source_known;	/* "of_source" is filled */
	ReportSelf	of_source;
	bool		target_known;	/* "of_target" is filled */
	ReportSelf	of_target;
	bool		hba_known;		/* "hba" is the line that the source meets there */
	ReportHba	hba;
	char		holder[REPORT_NAME_LEN];	/* of the group's lease; "" if nobody */
} RemedyFacts;

typedef struct Remedy
{
	char		run_on[128];	/* a node's name, or a member's label */
	RemedyKind	kind;
	char		operation[REMEDY_TEXT_LEN];
	char		why[256];		/* a sentence */
	bool		safe;			/* may be automated: "action" says how */
	RemedyAction action;
} Remedy;

/*
 * remedy_list
 *		The operations, in order, that mend facts->cause: at least one for every
 *		cause but CAUSE_NONE.  Returns their number.
 *
 *		What must be written (a role, a grant, the extension) is run on the holder
 *		in a group of streaming standbys; on a fenced node that is a cluster of its
 *		own the text says SET leasehold.local_ddl = on first.  SQL is run by a
 *		superuser's psql, shell by the user that runs the server, or by root.
 *
 *		Names that do not fit, or that cannot be written down so that they mean what
 *		they should, give one operation that changes nothing: half a remedy, or a
 *		text that is cut off, would be worse.
 */
extern int	remedy_list(const RemedyFacts *facts, Remedy remedy[REMEDY_MAX]);

/*
 * remedy_hba_line
 *		The line of pg_hba.conf that lets facts->user of facts->source in, without a
 *		newline; the method is scram-sha-256.  False, and an empty line, if there is
 *		none that would be about them and nobody else.
 */
extern bool remedy_hba_line(const RemedyFacts *facts, char *line, int size);

/*
 * cause_with_hba
 *		What the source alone cannot tell, by the lines that it meets in the
 *		target's own report, without TLS and with it; either may be NULL.  A
 *		connection that is not let in without TLS, but would be with it, needs TLS;
 *		whoever meets a line that says reject is rejected, whatever the words were.
 */
extern Cause cause_with_hba(Cause cause, const Fault *fault,
							const ReportHba *plain, const ReportHba *encrypted);

extern const char *remedy_kind_name(RemedyKind kind);
extern const char *remedy_action_name(RemedyAction action);
extern int	remedy_action_of(const char *name);

#endif							/* LEASEHOLD_REMEDY_H */
