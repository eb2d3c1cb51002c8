/*
 * hba.h
 *		pg_hba.conf: which line a connection would meet, and one more line in it.
 *
 * Layer 3.  For short-lived workers with a session; what goes wrong is raised as an
 * ERROR.  It is the file that is read, not what the postmaster has read of it.
 */
#ifndef LEASEHOLD_HBA_H
#define LEASEHOLD_HBA_H

#include "postgres.h"

#include <sys/stat.h>

#include "report.h"
#include "visitor.h"

/*
 * hba_meet
 *		Which line this node would meet here, with TLS or without.  A line with a
 *		host name is not decided, because nobody but the prober may resolve names;
 *		it counts as one that does not match, and hba->doubt names it.  Needs SPI.
 */
extern void hba_meet(const Visitor *visitor, bool encrypted, ReportHba *hba);

/* The first line that has an error, and what; 0: none.  Needs SPI. */
extern int	hba_error(char **what);

/*
 * A new version of the file that stands beside it: the server has not seen it, but
 * hba_meet() and hba_error() can be asked about it.
 */
typedef struct HbaDraft
{
	char		file[MAXPGPATH];	/* pg_hba.conf itself, links followed */
	char		draft[MAXPGPATH];
	struct stat st;				/* of the file, when it was read */
	char	   *text;			/* its content then */
	int			line;			/* number of the line that is new */
} HbaDraft;

/* Write one with this line at the end. */
extern void hba_draft(HbaDraft *draft, const char *line);

/* What "each" finds out about pg_hba.conf it finds out about the draft. */
extern void hba_look_at_draft(const HbaDraft *draft, void (*each) (void *arg),
							  void *arg);

/*
 * hba_install
 *		Let the draft take the file's place, atomically, and keep the file as it was
 *		as "pg_hba.conf.leasehold".
 */
extern void hba_install(const HbaDraft *draft);

extern void hba_forget(const HbaDraft *draft);

#endif							/* LEASEHOLD_HBA_H */
