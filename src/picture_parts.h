/*
 * picture_parts.h
 *		What the parts of a picture share: the pen, and what has been counted.
 *
 * Layer 0: no server headers, no I/O.  For src/picture*.c only.
 */
#ifndef LEASEHOLD_PICTURE_PARTS_H
#define LEASEHOLD_PICTURE_PARTS_H

#include "picture.h"

#define PICTURE_MARGIN		32	/* around everything */
#define PICTURE_GAP			24	/* between cards */

/* Paths to a node, or from it, as nodes say whose word is not old. */
typedef struct Tally
{
	int			known;			/* probed */
	int			broken;			/* unreachable */
	int			own;			/* of them: those that no other node explains */
	bool		culprit;		/* this node explains why they are broken */
} Tally;

/* Of more broken paths to or from one node, none is drawn as a line. */
#define WIRES_AT_NODE		2

typedef struct Drawing
{
	const Picture *picture;
	int			n;				/* nodes and members that are drawn */
	int			nodes;			/* of them: rows of the matrix */
	Tally		in[PICTURE_MAX];
	Tally		out[PICTURE_MAX];
	Tally		all;
	int			flapping;
	int			degraded;
	int			outdated;		/* broken, as somebody said long ago */
	/* the pen */
	PictureOut	write;
	void	   *arg;
	int			width;			/* without the margins */
	int			y;				/* what is above this is drawn */
	int			boxes;			/* drawn so far; each is known by its number */
} Drawing;

/* A line of text, and the room that it may take. */
typedef struct Text
{
	int			x;
	int			y;				/* of the baseline */
	int			room;			/* what does not fit is cut, with an ellipsis */
	int			size;
	const char *look;			/* class: its colour */
	int			box;			/* that it stands in; 0: the page */
	char		anchor;			/* what x is: 's' (or 0) start, 'm' middle, 'e' end */
	bool		bold;
	bool		name;			/* cut in the middle: names differ at their ends */
	const char *suffix;			/* ASCII, follows and is never cut; may be NULL */
} Text;

/* picture_pen.c */
extern void picture_put(Drawing *drawing, const char *format,...)
			__attribute__((format(printf, 2, 3)));
extern void picture_escape(Drawing *drawing, const char *text);
extern int	picture_width(const char *text, int size, bool bold);
extern void picture_text(Drawing *drawing, const Text *how, const char *text);
extern int	picture_box(Drawing *drawing, const char *look, int x, int y,
						int width, int height, int radius);
extern void picture_mark(Drawing *drawing, const char *symbol, const char *look,
						 int x, int y, int box);
extern void picture_section(Drawing *drawing, const char *title,
							const char *note);

/* picture_words.c */
typedef char Words[64];

extern const char *words_bytes(int64_t bytes, Words words);
extern const char *words_age(int64_t ms, Words words);
extern const char *words_latency(int64_t us, Words words);
extern const char *words_name(const PictureNode *node);
extern const char *words_path(const PicturePath *path, char *words, int size);
extern const char *status_symbol(PathStatus status);
extern const char *status_look(PathStatus status);
extern bool same_failure(const PicturePath *a, const PicturePath *b);
extern int	names_width(const Drawing *drawing, int size, int least, int most);

/* picture.c */
extern bool picture_counts(const Drawing *drawing, const PicturePath *path);
extern bool picture_fresh(const Drawing *drawing, int node);

/* picture_cards.c, picture_list.c, picture_matrix.c: one part each */
extern int	topology_width(const Drawing *drawing);
extern void draw_topology(Drawing *drawing);
extern void draw_list(Drawing *drawing);
extern void draw_legend(Drawing *drawing);
extern int	matrix_width(const Drawing *drawing);
extern void draw_matrix(Drawing *drawing);

#endif							/* LEASEHOLD_PICTURE_PARTS_H */
