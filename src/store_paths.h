/*
 * store_paths.h
 *		What is said to a member about paths: reports, outages, mail, notifications.
 *
 * Layer 3.  The statements, as in store.h; their parameters stand beside them.
 */
#ifndef LEASEHOLD_STORE_PATHS_H
#define LEASEHOLD_STORE_PATHS_H

/* Is it a member?  Its schema's version. */
extern const char store_member_sql[];

/* Our report there (node, incarnation, seq, body), those of the others here. */
extern const char store_exchange_sql[];

/* Of one node's path: source, target, began, ended, phase, cause, error. */
extern const char store_outage_sql[];
extern const char store_outages_sql[];	/* limit: the latest, the same columns */

/*
 * Mail.  For a node: id, from_node, from_incarnation, operation, arguments, and
 * whether whoever wrote it may ask for repairs; only what the present run of a node
 * of the group has sent.
 */
extern const char store_mail_sql[]; /* node */
extern const char store_mail_answer_sql[];	/* id, answer */
extern const char store_post_sql[]; /* id, to, from, incarnation, operation,
									 * arguments */
extern const char store_post_repair_sql[];	/* the same */
extern const char store_read_answer_sql[];	/* id */
extern const char store_clear_mail_sql[];	/* id */
extern const char store_clear_repair_sql[]; /* id */
extern const char store_sweep_mail_sql[];	/* node, incarnation: of earlier runs */

/* Notifications, for servers that have them: to people, and to the other probers. */
extern const char store_event_sql[];	/* payload */
extern const char store_hasten_sql[];
extern const char store_listen_paths_sql[];

#endif							/* LEASEHOLD_STORE_PATHS_H */
