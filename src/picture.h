/*
 * picture.h
 *		The group as a picture: who holds the lease, who reaches whom.
 *
 * Layer 0: no server headers, no I/O.
 */
#ifndef LEASEHOLD_PICTURE_H
#define LEASEHOLD_PICTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "path.h"

/* So many nodes and members are drawn; of more, the picture tells how many. */
#define PICTURE_MAX			128

typedef struct PictureNode
{
	const char *name;
	const char *role;			/* primary, standby, or "" */
	const char *address;
	bool		holder;
	bool		self;			/* the node that draws */
	bool		alive;			/* its heartbeat moves */
	int64_t		lag;			/* bytes behind the holder; -1: not known */
	int64_t		age_ms;			/* of what it says of its paths; -1: nothing known */
	bool		member;			/* a member of the store: a column, not a row */
} PictureNode;

typedef struct PicturePath
{
	int			source;			/* index of a node */
	int			target;			/* index of a node or member */
	PathStatus	status;
	PathPhase	phase;
	int64_t		latency_us;
	const char *cause;			/* cause_name(); "" if it stands */
	const char *error;
} PicturePath;

typedef struct Picture
{
	const char *lease;			/* "" if none governs this node */
	const char *store;			/* "3 of 3 members answer" */
	int64_t		epoch;
	int64_t		stale_ms;		/* what is older than this is shown as old; 0: 30 s */
	int			nnodes;			/* nodes first, then members; see PICTURE_MAX */
	const PictureNode *node;
	int			npaths;
	const PicturePath *path;
} Picture;

/* Takes the next piece of the text. */
typedef void (*PictureOut) (void *arg, const char *text);

/*
 * picture_draw
 *		One self-contained SVG: the topology above, the matrix of paths below.
 *		All text is escaped; no script, no font or file from elsewhere; colours for
 *		light and dark by prefers-color-scheme; broken paths red, with their cause
 *		as text, not by colour alone.
 *
 *		The SVG is plain ASCII, whatever its texts are, and needs no XML declaration.
 *		Texts are taken as UTF-8 and may be NULL; a path that leads from a member,
 *		from nowhere, to nowhere or to itself is passed over.
 */
extern void picture_draw(const Picture *picture, PictureOut out, void *arg);

#endif							/* LEASEHOLD_PICTURE_H */
