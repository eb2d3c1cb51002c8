/*
 * node.h
 *		The instance that is to rejoin: where its files are, what its settings
 *		say, and what state its data directory is in.
 */
#ifndef REJOIN_NODE_H
#define REJOIN_NODE_H

#include "rejoin.h"

#include "access/xlogdefs.h"
#include "catalog/pg_control.h"

/* The data directory as it was given; then all else that belongs to it. */
extern void node_find_datadir(Node *node);
extern void node_locate(Node *node, const char *argv0);

/* Read its settings as the server would, by "postgres -C". */
extern void node_read_settings(Node *node);

/* Ends the program if a server, or another run of ours, uses the directory. */
extern void node_lock(const Node *node);
extern void node_refuse_running(const Node *node);

/* The process id in postmaster.pid, or 0. */
extern pid_t node_postmaster(const Node *node);

/* The data directory, from its control file and what lies beside it. */
typedef struct Local
{
	ControlFileData *control;
	bool		standby_signal;
	bool		backup_label;	/* a backup, or rewound, and not started since */
	bool		in_recovery;	/* its last run was a standby's */
	bool		clean;			/* its last run ended in order */
	PlanHistory history;
	bool		history_known;
} Local;

extern void node_read_local(const Node *node, Local *local);

/* Where a record of that length, which starts there, ends. */
extern XLogRecPtr node_record_end(XLogRecPtr at, uint32 length,
								  uint32 segment_size);

/* Where the last checkpoint's record ends; 0: it cannot be read. */
extern XLogRecPtr node_checkpoint_end(const Node *node, const Local *local);

#endif							/* REJOIN_NODE_H */
