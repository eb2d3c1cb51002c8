/*
 * picture_wires.c
 *		Broken paths as lines between the cards.
 *
 * Lines run in the gaps between the cards only, each in a lane of its own, so that
 * they neither touch a card nor each other's labels.  A node that many do not reach
 * says so on its card, instead of a line for each: a group in trouble has thousands
 * of broken paths, and few causes.
 *
 * See picture.h.  Must never do I/O or depend on the server.
 */
#include "picture_topology.h"

#include <stdio.h>
#include <stdlib.h>

#define LABEL				20	/* height */
#define LABEL_MAX			280 /* width */
#define CORNER				8

/* ------------------------------------------------------------------------
 * Which paths become lines
 * ------------------------------------------------------------------------
 */

static bool
is_broken(const Drawing *drawing, const PicturePath *path, PathStatus status)
{
	return picture_counts(drawing, path) && path->status == status &&
		picture_fresh(drawing, path->source);
}

/* Is the way back drawn already, and this one with it? */
static bool
joins_wire(Topology *topology, const PicturePath *path)
{
	for (int i = 0; i < topology->nwires; i++)
	{
		Wire	   *wire = &topology->wire[i];

		if (wire->path->source == path->target &&
			wire->path->target == path->source &&
			same_failure(wire->path, path))
			return wire->both = true;
	}
	return false;
}

/*
 * Where the next line meets this side of a card: beside the last one.  What comes
 * from below and from above in the same gap must not meet: hence the odd offset.
 */
static int
port(const Topology *topology, int *taken, const Card *card, int offset)
{
	int			k = (*taken)++;
	int			side = k % 2 == 1 ? 1 : -1;

	return card->x + topology->width / 2 + offset + side * ((k + 1) / 2) * 16;
}

/*
 * The gap in which a line leaves its source, and the one in which it arrives: they
 * are the same, unless a row lies between.
 */
static int
gap_of_source(const Topology *topology, const PicturePath *path)
{
	int			row = topology->card[path->source].row;

	return topology->card[path->target].row < row ? row - 1 : row;
}

static int
gap_of_target(const Topology *topology, const PicturePath *path)
{
	int			row = topology->card[path->target].row;

	return topology->card[path->source].row < row ? row - 1 : row;
}

/* Does a remark on a card stand for it? */
static bool
is_remarked(const Drawing *drawing, const PicturePath *path)
{
	const Tally *in = &drawing->in[path->target];
	const Tally *out = &drawing->out[path->source];

	return path->status == PATH_UNREACHABLE &&
		(in->own > WIRES_AT_NODE || out->own > WIRES_AT_NODE || in->culprit ||
		 out->culprit);
}

/*
 * Lines that turn back to the row that they come from lie above those that go on,
 * and short ones above long ones: so fewer cross.
 */
static int
wire_order(const Topology *topology, const PicturePath *path)
{
	const Card *source = &topology->card[path->source];
	const Card *target = &topology->card[path->target];

	return abs(source->x - target->x) + (source->row != target->row ? 100000 : 0);
}

static void
add_wire(Topology *topology, const PicturePath *path)
{
	int			at = topology->nwires++;

	for (; at > 0 && wire_order(topology, topology->wire[at - 1].path) >
		 wire_order(topology, path); at--)
		topology->wire[at] = topology->wire[at - 1];
	topology->wire[at].path = path;
	topology->wire[at].both = false;
}

static void
route_wire(Topology *topology, Wire *wire)
{
	Card	   *source = &topology->card[wire->path->source];
	Card	   *target = &topology->card[wire->path->target];
	int			leaves = gap_of_source(topology, wire->path);
	int			arrives = gap_of_target(topology, wire->path);

	wire->from = leaves == source->row ?
		port(topology, &source->below, source, 0) :
		port(topology, &source->above, source, 8);
	wire->to = arrives == target->row ?
		port(topology, &target->below, target, 0) :
		port(topology, &target->above, target, 8);
	wire->lane = topology->lanes[leaves]++;
	wire->lane2 = arrives == leaves ? wire->lane : topology->lanes[arrives]++;
}

/*
 * choose_wires
 *		Broken paths first; those that come and go, if there is room.
 */
void
choose_wires(const Drawing *drawing, Topology *topology)
{
	static const PathStatus order[] = {PATH_UNREACHABLE, PATH_FLAPPING};
	const Picture *picture = drawing->picture;

	for (int k = 0; k < 2; k++)
		for (int i = 0; i < picture->npaths; i++)
		{
			const PicturePath *path = &picture->path[i];

			if (!is_broken(drawing, path, order[k]) || is_remarked(drawing, path) ||
				joins_wire(topology, path))
				continue;
			if (topology->nwires < WIRES_MAX)
				add_wire(topology, path);
			else if (k == 0)
				topology->more = true;
		}
	for (int i = 0; i < topology->nwires; i++)
		route_wire(topology, &topology->wire[i]);
}

/* ------------------------------------------------------------------------
 * Lines
 * ------------------------------------------------------------------------
 */

typedef struct Point
{
	int			x;
	int			y;
} Point;

static int
lane_y(const Topology *topology, int gap, int lane)
{
	return topology->top[gap] + topology->height[gap] + PICTURE_GAP +
		lane * LANE + LANE / 2;
}

static int
sign(int number)
{
	return (number > 0) - (number < 0);
}

static int
smaller(int a, int b)
{
	return a < b ? a : b;
}

/* Its corners, from the source's edge to the target's; returns how many. */
static int
wire_points(const Topology *topology, const Wire *wire, int number, Point point[6])
{
	const Card *source = &topology->card[wire->path->source];
	const Card *target = &topology->card[wire->path->target];
	int			leaves = gap_of_source(topology, wire->path);
	int			arrives = gap_of_target(topology, wire->path);
	int			y = lane_y(topology, leaves, wire->lane);
	int			y2 = lane_y(topology, arrives, wire->lane2);
	int			n = 0;

	point[n++] = (Point) {wire->from, source->y +
		(leaves == source->row ? topology->height[source->row] : 0)};
	point[n++] = (Point) {wire->from, y};
	if (leaves != arrives)
	{
		/* past the rows between, in the gap beside the source's column */
		int			aside = 5 + 3 * number;
		int			x = source->x - aside;

		if (source->x == PICTURE_MARGIN)
			x = source->x + topology->width + aside;
		point[n++] = (Point) {x, y};
		point[n++] = (Point) {x, y2};
	}
	point[n++] = (Point) {wire->to, y2};
	point[n++] = (Point) {wire->to, target->y +
		(arrives == target->row ? topology->height[target->row] : 0)};
	return n;
}

/* One line with rounded corners. */
static void
draw_line(Drawing *drawing, const char *look, const Point *point, int n)
{
	picture_put(drawing, "<path class=\"%s wire\" d=\"M%d %d", look, point[0].x, point[0].y);
	for (int i = 1; i < n - 1; i++)
	{
		Point		a = point[i - 1];
		Point		b = point[i];
		Point		c = point[i + 1];
		int			in = abs(b.x - a.x) + abs(b.y - a.y);
		int			out = abs(c.x - b.x) + abs(c.y - b.y);
		int			r = smaller(CORNER, smaller(in, out) / 2);

		picture_put(drawing, "L%d %dQ%d %d %d %d",
					b.x - r * sign(b.x - a.x), b.y - r * sign(b.y - a.y), b.x, b.y,
					b.x + r * sign(c.x - b.x), b.y + r * sign(c.y - b.y));
	}
	picture_put(drawing, "L%d %d\"/>\n", point[n - 1].x, point[n - 1].y);
}

/* At the end of a line, which comes from "before". */
static void
draw_arrowhead(Drawing *drawing, const char *look, Point end, Point before)
{
	int			back = end.y > before.y ? -9 : 9;

	picture_put(drawing, "<path class=\"%s tip\" d=\"M%d %dl-5 %dh10z\"/>\n",
				look, end.x, end.y, back);
}

/* The cause, on the longer of its level parts. */
static void
draw_label(Drawing *drawing, const Wire *wire, const Point *point, int n)
{
	const char *look = status_look(wire->path->status);
	Point		a = point[1];
	Point		b = point[2];
	char		words[160];
	char		box_look[16];
	Text		line = {.size = 11, .look = look, .anchor = 's', .bold = true};
	int			width;
	int			x;

	if (n > 4 && abs(point[4].x - point[3].x) > abs(b.x - a.x))
	{
		a = point[3];
		b = point[4];
	}
	words_path(wire->path, words, sizeof(words));
	width = smaller(picture_width(words, line.size, line.bold) + 34, LABEL_MAX);
	x = smaller((a.x + b.x - width) / 2, PICTURE_MARGIN + drawing->width - width);
	if (x < PICTURE_MARGIN)
		x = PICTURE_MARGIN;
	snprintf(box_look, sizeof(box_look), "pill %s", look);
	line.box = picture_box(drawing, box_look, x, a.y - LABEL / 2, width, LABEL,
						   LABEL / 2);
	picture_mark(drawing, status_symbol(wire->path->status), look, x + 13, a.y,
				 line.box);
	line.x = x + 24;
	line.y = a.y + 4;
	line.room = width - 34;
	picture_text(drawing, &line, words);
}

/* All lines first, then the labels: no line crosses a label. */
void
draw_wires(Drawing *drawing, const Topology *topology)
{
	Point		point[WIRES_MAX][6];
	int			n[WIRES_MAX];

	for (int i = 0; i < topology->nwires; i++)
	{
		const Wire *wire = &topology->wire[i];
		const char *look = status_look(wire->path->status);

		n[i] = wire_points(topology, wire, i, point[i]);
		/* where two cross, one passes under the other */
		draw_line(drawing, "under", point[i], n[i]);
		draw_line(drawing, look, point[i], n[i]);
		draw_arrowhead(drawing, look, point[i][n[i] - 1], point[i][n[i] - 2]);
		if (wire->both)
			draw_arrowhead(drawing, look, point[i][0], point[i][1]);
	}
	for (int i = 0; i < topology->nwires; i++)
		draw_label(drawing, &topology->wire[i], point[i], n[i]);
}
