/*
 * report.h
 *		What a node tells the others about itself and its paths, as the text that
 *		stands in the store.
 *
 * Layer 0: no server headers, no I/O.  Lines of fields separated by tabs; a field's
 * backslash, tab and newline are written as "\\", "\t" and "\n".  Fields and lines
 * that a reader does not know are passed over, fields that are missing are empty: so
 * nodes of different versions understand each other.  Ages, not times: no two nodes
 * agree about the time.
 *
 * What is not UTF-8 becomes "?", on either side: messages may come from a server that
 * speaks another encoding, and one bad byte would keep the store from taking any of
 * the report.  A reader believes nothing: fields that are too long are cut between two
 * characters, numbers are brought into their range (a latency or an age can be made a
 * ClockTime without overflow), names that it does not know are PATH_UNKNOWN,
 * PHASE_RESOLVE and CAUSE_OTHER, and a line without its newline was cut off and does
 * not count.
 */
#ifndef LEASEHOLD_REPORT_H
#define LEASEHOLD_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cause.h"
#include "path.h"

#define REPORT_NAME_LEN		64
#define REPORT_ADDRESS_LEN	64

/* One path of the node, to a node or a member. */
typedef struct ReportPath
{
	char		target[128];	/* a node's name, or a member's label */
	bool		member;
	PathStatus	status;
	PathPhase	phase;
	Cause		cause;
	int64_t		latency_us;
	int64_t		p50_us;
	int64_t		p99_us;
	int64_t		since_ms;		/* age of the status */
	int64_t		last_ok_ms;		/* age of the last success; -1: never */
	int			failures;
	char		sqlstate[6];
	char		address[REPORT_ADDRESS_LEN];	/* that was tried, numeric; or "" */
	char		from[REPORT_ADDRESS_LEN];	/* the node's own end of it; or "" */
	char		error[128];
} ReportPath;

/* What the node says of itself. */
typedef struct ReportSelf
{
	char		role[16];		/* primary, standby */
	char		state[16];		/* as in leasehold.status */
	int			timeline;
	char		lsn[24];
	char		sysid[24];
	char		version[32];	/* of the server */
	char		listen[256];	/* listen_addresses */
	int			port;
	bool		tls;			/* ssl = on */
	bool		accepts;		/* takes connections now */
	int			slots;			/* max_connections */
	int			slots_left;		/* for a role without privileges; -1: not known */
	bool		allow_repair;
	bool		physical;		/* its lease is of kind "physical" */
	bool		fenced;			/* it does not hold that lease */
	char		hba_file[256];
	char		config_file[256];
	char		data_directory[256];
	char		peer_user[64];	/* by which it connects to its peers */
	char		peer_database[64];
	char		sslmode[16];
	char		passfile[256];
} ReportSelf;

/* The line of pg_hba.conf which a peer would meet here. */
typedef struct ReportHba
{
	char		node[REPORT_NAME_LEN];
	char		address[REPORT_ADDRESS_LEN];	/* from which it comes */
	bool		encrypted;		/* with TLS, or without */
	int			line;			/* 0: none matches */
	char		method[24];		/* "" if none matches */
	char		rule[200];		/* the line, its fields by single blanks */
	char		file[256];		/* that it stands in, if not pg_hba.conf itself */
	int			doubt;			/* a line before it, or any if none matches, that
								 * could not be decided; 0: none */
} ReportHba;

/*
 * report_write_...
 *		Append to the text at buffer[*used], of "size" bytes in all, and keep it
 *		terminated.  False, and nothing is appended, if there is no room.
 */
extern bool report_write_self(char *buffer, size_t size, size_t *used,
							  const ReportSelf *self);
extern bool report_write_path(char *buffer, size_t size, size_t *used,
							  const ReportPath *path);
extern bool report_write_hba(char *buffer, size_t size, size_t *used,
							 const ReportHba *hba);

/*
 * report_read_self
 *		False if the text has no such line; then all is empty.  What is empty is ""
 *		or 0, or -1 where that stands for what is not known.
 */
extern bool report_read_self(const char *text, ReportSelf *self);

/*
 * report_next_path, report_next_hba
 *		The next line of this kind; moves *at beyond it; false at the end, where all
 *		is empty.
 */
extern bool report_next_path(const char **at, ReportPath *path);
extern bool report_next_hba(const char **at, ReportHba *hba);

/* The path to this target; false, and all is empty, if the text has none. */
extern bool report_find_path(const char *text, const char *target,
							 ReportPath *path);

#endif							/* LEASEHOLD_REPORT_H */
