/*
 * inquiry.h
 *		All that can be found out about one path: it is walked anew, and the
 *		witnesses are heard.
 *
 * Layer 4.  For SQL functions.
 */
#ifndef LEASEHOLD_INQUIRY_H
#define LEASEHOLD_INQUIRY_H

#include "postgres.h"

#include "paths.h"
#include "remedy.h"
#include "sql.h"
#include "verdict.h"

typedef struct Inquiry
{
	char		source[LEASEHOLD_NAME_LEN];
	char		target[128];
	bool		member;
	bool		local;			/* the source is this node */
	bool		walked;			/* anew; else "walk" is what the source said last */
	char	   *not_walked;		/* why not, a sentence */
	Walk		walk;
	Paths	   *paths;			/* as they were afterwards */
	Survey	   *survey;
	Witnesses	witnesses;
	Verdict		verdict;
	RemedyFacts facts;
} Inquiry;

/*
 * inquiry_make
 *		Try the path from source (NULL: this node) to target, and judge it.  An
 *		error if one of them is not known; serves interrupts.
 */
extern Inquiry *inquiry_make(const char *source, const char *target);

/* What mends it; their number. */
extern int	inquiry_remedies(const Inquiry *inquiry, Remedy remedy[REMEDY_MAX]);

/* What the target says of itself, and what the third nodes see; palloc'd. */
extern char *inquiry_of_target(const Inquiry *inquiry);
extern char *inquiry_of_source(const Inquiry *inquiry);
extern char *inquiry_of_others(const Inquiry *inquiry);

#endif							/* LEASEHOLD_INQUIRY_H */
