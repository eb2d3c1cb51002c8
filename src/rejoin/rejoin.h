/*
 * rejoin.h
 *		What all parts of leasehold-rejoin share.
 *
 * A program of its own: frontend headers only, nothing of the server's.
 */
#ifndef REJOIN_REJOIN_H
#define REJOIN_REJOIN_H

#include "postgres_fe.h"

#include "common/logging.h"
#include "libpq-fe.h"
#include "pqexpbuffer.h"

#include "plan.h"

/* Part of the interface: see docs/rejoin.md. */
typedef enum ExitCode
{
	REJOIN_READY = 0,			/* the server may be started */
	REJOIN_INTERNAL = 1,
	REJOIN_CONFIG = 2,			/* options or settings */
	REJOIN_BUSY = 3,			/* a server, or another run, uses the directory */
	REJOIN_STORE = 4,			/* too few members of the store answer */
	REJOIN_NO_HOLDER = 5,		/* nobody holds the lease: try again */
	REJOIN_HOLDER = 6,			/* the holder cannot be reached: try again */
	REJOIN_NEEDS_BACKUP = 7,	/* and may not take one */
	REJOIN_FAILED = 8,			/* pg_rewind or pg_basebackup failed */
	REJOIN_FOREIGN = 9,			/* the directory is not of this group */
	REJOIN_NOTHING = 64			/* between runs of our own: stay as you are */
} ExitCode;

typedef struct Options
{
	const char *datadir;
	const char *config_file;
	const char *bindir;
	const char *keep_wal;
	const char *work_dir;
	const char *log;
	bool		dry_run;
	bool		allow_backup;
	bool		remove_old;
	bool		restart;
	bool		ahead;			/* of a restart: look while the server runs */
	int			timeout;		/* s: one connection, one question */
	int			wait;			/* s: for somebody to hold the lease */
} Options;

extern Options options;

/* The instance that is to rejoin, and what its settings say. */
typedef struct Node
{
	char	   *datadir;		/* absolute */
	char	   *config_file;	/* NULL: postgresql.conf of the data directory */
	char	   *bindir;
	char	   *name;
	char	   *store;
	char	   *lease;
	char	   *peer_options;
	char	   *restore_command;
	char	   *primary_conninfo;
	char	   *primary_slot_name;
	char	   *log_directory;
} Node;

/* ---- telling: main.c ---- */

/* A line for people, on standard output. */
extern void say(const char *format,...) pg_attribute_printf(1, 2);

/*
 * Ends the program: a message in the manner of the server's, a detail and a
 * hint (NULL: none) in full sentences.
 */
extern void refuse(ExitCode code, const char *message, const char *detail,
				   const char *hint) __attribute__((noreturn));

/* Where to look for the server's programs: argv[0] of this one. */
extern const char *program_path;

/* ---- steps: rejoin.c, restart.c ---- */

extern ExitCode rejoin(void);
extern ExitCode restart(void);

/* ---- files: files.c ---- */

extern bool file_exists(const char *path);
extern bool is_directory(const char *path);

/* The whole file, with a NUL behind it; NULL (errno) if it cannot be read. */
extern char *read_whole_file(const char *path, size_t *size);

/* Whole and flushed, or not at all. Failure ends the program. */
extern void write_whole_file(const char *path, const char *data, size_t size);

/* A file, a symbolic link, or a directory and what is in it; flushed. */
extern void copy_tree(const char *from, const char *to);

/* The same of a single plain file, unless "to" is as long already. */
extern void copy_file_once(const char *from, const char *to, bool anew);

/* Could this directory, and those above it, be made? */
extern bool can_be_made(const char *path);
extern void make_directory(const char *path);
extern void make_directories(const char *path);
extern void remove_tree(const char *path);

/* Call "each" for every entry but "." and ".."; NULL-safe about a missing one. */
extern void each_entry(const char *directory,
					   void (*each) (const char *name, void *arg), void *arg);

extern char *parent_of(const char *path);
extern const char *name_of(const char *path);

/* ---- programs: run.c ---- */

typedef void (*LineHandler) (char *line, void *arg);

/*
 * run_program
 *		Run a program, argv[0] being its path, and wait for its end.  Each line
 *		of its output goes to "line" (NULL: to our own output), what it says to
 *		standard error to "errors" (NULL: to our own; RUN_MERGE: to "line", too).
 *		Returns the exit status, 127 if it could not be started, 128 if a signal
 *		ended it.
 */
#define RUN_MERGE	((PQExpBuffer) &run_program)

extern int	run_program(char *const argv[], LineHandler line, void *arg,
						PQExpBuffer errors);

/* The path of one of the server's programs. */
extern char *program(const Node *node, const char *name);

/* ---- connections: conn.c ---- */

#define CONN_OPTIONS_MAX	64

typedef struct ConnOptions
{
	int			n;
	char	   *keyword[CONN_OPTIONS_MAX + 1];
	char	   *value[CONN_OPTIONS_MAX + 1];
} ConnOptions;

/* Add what a connection string says; what it names again it replaces. */
extern bool conn_add_string(ConnOptions *conn, const char *text);
extern void conn_set(ConnOptions *conn, const char *keyword, const char *value);
extern const char *conn_get(const ConnOptions *conn, const char *keyword);

/* As one string, fit for a program's argument or a setting. */
extern char *conn_string(const ConnOptions *conn);

/* Host, port and database, for people. */
extern char *conn_label(const ConnOptions *conn);

/* The next of several strings separated by semicolons; NULL at the end. */
extern char *conn_next_string(const char **list);

/* NULL, *why set, if it cannot be made within the time that we give it. */
extern PGconn *conn_open(const ConnOptions *conn, char **why);

/*
 * The same for an answer, or the beginning of a stream.  After no answer in
 * time the connection is of no more use.
 */
extern PGresult *conn_query(PGconn *conn, const char *sql, int seconds,
							char **why);

#endif							/* REJOIN_REJOIN_H */
