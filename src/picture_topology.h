/*
 * picture_topology.h
 *		Where the cards are, and which lines run between them.
 *
 * Layer 0: no server headers, no I/O.  For picture_cards.c and picture_wires.c only.
 */
#ifndef LEASEHOLD_PICTURE_TOPOLOGY_H
#define LEASEHOLD_PICTURE_TOPOLOGY_H

#include "picture_parts.h"

#define WIRES_MAX			6
#define LANE				26	/* from one line to the next in the same gap */

typedef struct Card
{
	int			x;
	int			y;
	int			row;
	int			above;			/* lines that end at its upper edge */
	int			below;
} Card;

/* A broken path that is drawn as a line. */
typedef struct Wire
{
	const PicturePath *path;
	bool		both;			/* and the way back, for the same reason */
	int			from;			/* x where it leaves the source */
	int			to;
	int			lane;			/* in the gap beside the source's row */
	int			lane2;			/* in the gap beside the target's row */
} Wire;

typedef struct Topology
{
	bool		large;
	int			width;			/* of a card */
	int			rows;
	int			top[PICTURE_MAX];	/* of each row */
	int			height[PICTURE_MAX];
	int			lanes[PICTURE_MAX]; /* in the gap below it */
	Card		card[PICTURE_MAX];
	int			nwires;
	bool		more;			/* broken paths that are neither line nor remark */
	Wire		wire[WIRES_MAX];
} Topology;

/*
 * choose_wires
 *		Which paths become lines, and in which lanes; the cards must have their
 *		columns and rows.
 */
extern void choose_wires(const Drawing *drawing, Topology *topology);

/* When the rows have their places, too. */
extern void draw_wires(Drawing *drawing, const Topology *topology);

#endif							/* LEASEHOLD_PICTURE_TOPOLOGY_H */
