/*
 * remedy_plan.h
 *		The list of operations while it is being made: who does what, and what is
 *		known of them.  For remedy*.c only.
 *
 * Layer 0: no server headers, no I/O.
 */
#ifndef LEASEHOLD_REMEDY_PLAN_H
#define LEASEHOLD_REMEDY_PLAN_H

#include "remedy.h"
#include "remedy_text.h"

typedef struct Plan
{
	const RemedyFacts *facts;
	Remedy	   *remedy;
	int			n;
	bool		failed;			/* some text does not fit, or cannot be quoted */
	bool		deaf;			/* the target answers nobody, not even its own psql */
	const char *user;			/* by whom the source connects */
	const char *database;		/* and where to */
} Plan;

extern void plan_begin(Plan *plan, const RemedyFacts *facts, Remedy *remedy);

/*
 * plan_add
 *		One more operation, by a format of remedy_text.h.  For people, if "action"
 *		is ACTION_NONE; and for people on a member, which repairs nothing itself.
 */
extern void plan_add(Plan *plan, const char *run_on, RemedyKind kind,
					 RemedyAction action, const char *why,
					 const char *format,...);

/* ... of SQL that writes, where the group lets it: in any database, or in this one. */
extern void plan_write(Plan *plan, RemedyAction action, const char *why,
					   const char *format,...);
extern void plan_write_in(Plan *plan, const char *database, RemedyAction action,
						  const char *why, const char *format,...);

/* ... of a shell, in which $D is the data directory of the target. */
extern void plan_add_there(Plan *plan, const char *why, const char *format,...);

/* Part of an operation; "buffer" is returned. */
extern const char *plan_text(Plan *plan, char *buffer, size_t size,
							 const char *format,...);

/* What recurs. */
extern void plan_reload(Plan *plan, RemedyAction action);
extern void plan_start(Plan *plan, const char *why);
extern void plan_restart(Plan *plan, const char *why);
extern void plan_correct_address(Plan *plan, const char *why);
extern void plan_password_line(Plan *plan, const char *why);

/* What is known. */
extern const char *plan_directory(const Plan *plan, char buffer[256]);	/* or "" */
extern bool plan_is_local(const Plan *plan);
extern const char *plan_port(const Plan *plan);	/* that is tried; digits */
extern const char *plan_target_port(const Plan *plan, char buffer[16]);
extern const char *plan_source_address(const RemedyFacts *facts);	/* or "" */
extern const char *plan_target_address(const Plan *plan);	/* or "" */

/* What the operations are for: the way to the server, and its door. */
typedef void (*PlanMaker) (Plan *plan);

extern void way_bad_address(Plan *plan);
extern void way_no_address(Plan *plan);
extern void way_refused(Plan *plan);
extern void way_timeout(Plan *plan);
extern void way_no_route(Plan *plan);
extern void way_no_socket(Plan *plan);
extern void way_closed(Plan *plan);
extern void way_silent(Plan *plan);
extern void way_not_postgres(Plan *plan);
extern void way_wrong_server(Plan *plan);
extern void tls_missing(Plan *plan);
extern void tls_required(Plan *plan);
extern void tls_certificate(Plan *plan);
extern void tls_name(Plan *plan);
extern void tls_client(Plan *plan);
extern void tls_other(Plan *plan);
extern void door_no_hba(Plan *plan);
extern void door_hba_rejects(Plan *plan);
extern void door_no_password(Plan *plan);
extern void door_wrong_password(Plan *plan);
extern void door_authentication(Plan *plan);
extern void door_no_role(Plan *plan);
extern void door_no_login(Plan *plan);
extern void door_no_database(Plan *plan);
extern void door_no_connect(Plan *plan);
extern void door_database_closed(Plan *plan);
extern void door_too_many(Plan *plan);
extern void door_too_many_of_role(Plan *plan);
extern void door_starting(Plan *plan);
extern void door_stopping(Plan *plan);
extern void door_no_standby_sessions(Plan *plan);
extern void door_not_preloaded(Plan *plan);
extern void door_no_extension(Plan *plan);
extern void door_no_privilege(Plan *plan);
extern void door_no_store(Plan *plan);
extern void door_no_store_privilege(Plan *plan);
extern void door_other(Plan *plan);

#endif							/* LEASEHOLD_REMEDY_PLAN_H */
