/*
 * picture_matrix.c
 *		Who reaches whom: a row for every node, a column for every node and member.
 *
 * A few columns have room for words in every cell; many get a symbol each, names
 * that stand upright, and words where a pointer rests.
 *
 * See picture.h.  Must never do I/O or depend on the server.
 */
#include "picture_parts.h"

#include <stdio.h>
#include <string.h>

#define WORDS_MAX			12	/* columns whose cells have words */
#define CELL_MIN			80	/* that a word fits into */
#define CELL_MAX			180
#define CELL_SMALL			18
#define AGE_MIN				120	/* of the column that says how old a row is */

typedef struct Matrix
{
	bool		words;			/* in the cells */
	int			head;			/* width of the names at the left */
	int			cell;			/* width */
	int			age;			/* width of the column at the right */
	int			line;			/* height of a row */
	int			top;			/* height of the names above */
	bool		upright;		/* they are */
	const PicturePath *row[PICTURE_MAX];	/* the paths of one node, by target */
} Matrix;

static void
measure(const Drawing *drawing, Matrix *matrix)
{
	int			longest = names_width(drawing, 11, 0, 150);

	matrix->words = drawing->n <= WORDS_MAX;
	matrix->age = AGE_MIN;
	matrix->upright = true;
	if (matrix->words)
	{
		matrix->line = 32;
		matrix->head = names_width(drawing, 12, 96, 190) + 36;
		matrix->cell = (drawing->width - matrix->head - AGE_MIN) / drawing->n;
		if (matrix->cell > CELL_MAX)
			matrix->cell = CELL_MAX;
		else
			matrix->age = drawing->width - matrix->head - matrix->cell * drawing->n;
		matrix->upright = longest > matrix->cell - 32;
	}
	else
	{
		matrix->line = matrix->cell = CELL_SMALL;
		matrix->head = names_width(drawing, 10, 64, 150) + 28;
	}
	matrix->top = matrix->upright ? longest + 30 : 28;
}

/*
 * matrix_width
 *		What it needs to be legible.
 */
int
matrix_width(const Drawing *drawing)
{
	Matrix		matrix;

	if (drawing->nodes == 0)
		return 0;
	measure(drawing, &matrix);
	return matrix.head + AGE_MIN + drawing->n * (matrix.words ? CELL_MIN : CELL_SMALL);
}

/* ------------------------------------------------------------------------
 * Names
 * ------------------------------------------------------------------------
 */

static void
draw_column_name(Drawing *drawing, const Matrix *matrix, int column, int x)
{
	const PictureNode *node = &drawing->picture->node[column];
	const char *symbol = node->holder ? "key" : node->member ? "store" : NULL;
	Text		line = {
		.x = x + 8, .y = drawing->y + 18, .room = matrix->cell - 12,
		.size = matrix->words ? 11 : 10, .look = "tx", .bold = true, .name = true
	};

	if (matrix->upright)
	{
		picture_put(drawing, "<g transform=\"translate(%d %d) rotate(-90)\">",
					x + matrix->cell / 2, drawing->y + matrix->top);
		line.box = picture_box(drawing, "page", 0, -CELL_SMALL / 2, matrix->top,
							   CELL_SMALL, 0);
		line.x = 6;
		line.y = 4;
		line.room = matrix->top - 8;
	}
	else
		line.box = picture_box(drawing, "page", x + 2, drawing->y, matrix->cell - 4,
							   matrix->top, 0);
	if (symbol != NULL)
	{
		picture_mark(drawing, symbol, "mu", line.x + 6, line.y - 4, line.box);
		line.x += 16;
		line.room -= 16;
	}
	picture_text(drawing, &line, words_name(node));
	picture_put(drawing, "%s\n", matrix->upright ? "</g>" : "");
}

static void
draw_age_name(Drawing *drawing, const Matrix *matrix)
{
	Text		line = {
		.x = PICTURE_MARGIN + matrix->head + drawing->n * matrix->cell + 28,
		.y = drawing->y + matrix->top - 10, .room = AGE_MIN - 32, .size = 10,
		.look = "mu"
	};

	picture_text(drawing, &line, "report age");
}

static void
draw_row_name(Drawing *drawing, const Matrix *matrix, int row, int box)
{
	const PictureNode *node = &drawing->picture->node[row];
	Text		line = {
		.x = PICTURE_MARGIN + 8, .y = drawing->y + matrix->line / 2 + 4,
		.room = matrix->head - 16, .size = matrix->words ? 12 : 10, .look = "tx",
		.box = box, .bold = true, .name = true
	};

	if (node->holder)
	{
		picture_mark(drawing, "key", "mu", line.x + 6, line.y - 4, box);
		line.x += 16;
		line.room -= 16;
	}
	picture_text(drawing, &line, words_name(node));
}

/* At the end of the row: of when it is. */
static void
draw_row_age(Drawing *drawing, const Matrix *matrix, int row, int box)
{
	const PictureNode *node = &drawing->picture->node[row];
	bool		fresh = picture_fresh(drawing, row);
	Words		age;
	char		words[96];
	Text		line = {
		.x = PICTURE_MARGIN + matrix->head + drawing->n * matrix->cell + 12,
		.y = drawing->y + matrix->line / 2 + 4, .room = AGE_MIN - 16,
		.size = matrix->words ? 11 : 10, .look = "mu", .box = box
	};

	if (node->age_ms < 0)
		snprintf(words, sizeof(words), "no report");
	else if (fresh)
		words_age(node->age_ms, age);
	else
		snprintf(words, sizeof(words), "%s old", words_age(node->age_ms, age));
	if (!fresh)
	{
		line.look = "tx";
		line.bold = true;
		picture_mark(drawing, "old", "tx", line.x + 5, line.y - 4, box);
	}
	line.x += 16;
	line.room -= 16;
	picture_text(drawing, &line, node->age_ms >= 0 && fresh ? age : words);
}

/* ------------------------------------------------------------------------
 * Cells
 * ------------------------------------------------------------------------
 */

/* The paths of this node: one walk through all of them for each row. */
static void
find_row(const Drawing *drawing, Matrix *matrix, int row)
{
	memset(matrix->row, 0, sizeof(matrix->row));
	for (int i = 0; i < drawing->picture->npaths; i++)
	{
		const PicturePath *path = &drawing->picture->path[i];

		if (path->source == row && picture_counts(drawing, path))
			matrix->row[path->target] = path;
	}
}

static PathStatus
status_of(const PicturePath *path)
{
	return path == NULL ? PATH_UNKNOWN : path->status;
}

/* The ground: what is not as it should be has one of its own. */
static const char *
cell_ground(PathStatus status, bool fresh)
{
	if (!fresh)
		return "aged";
	switch (status)
	{
		case PATH_UNREACHABLE:
			return "ground bd";
		case PATH_DEGRADED:
		case PATH_FLAPPING:
			return "ground wn";
		default:
			return "card";
	}
}

/* What the cell says: how fast, or why not. */
static const char *
cell_words(const PicturePath *path, Words words)
{
	bool		caused = path != NULL && path->cause != NULL && path->cause[0] != '\0';

	switch (status_of(path))
	{
		case PATH_OK:
		case PATH_DEGRADED:
			return words_latency(path->latency_us, words);
		case PATH_FLAPPING:
			return caused ? path->cause : words_latency(path->latency_us, words);
		case PATH_UNREACHABLE:
			return caused ? path->cause : path_phase_name(path->phase);
		default:
			return "";
	}
}

/* In full, where a pointer rests. */
static void
draw_cell_tooltip(Drawing *drawing, const PicturePath *path)
{
	const PictureNode *node = drawing->picture->node;
	char		words[160];
	Words		latency;

	picture_put(drawing, "<title>");
	picture_escape(drawing, words_name(&node[path->source]));
	picture_put(drawing, " to ");
	picture_escape(drawing, words_name(&node[path->target]));
	picture_put(drawing, ": %s", path_status_name(path->status));
	if (path->status != PATH_UNREACHABLE &&
		words_latency(path->latency_us, latency)[0] != '\0')
		picture_put(drawing, ", %s", latency);
	if (path->status == PATH_UNREACHABLE || path->status == PATH_FLAPPING)
	{
		picture_put(drawing, "; ");
		picture_escape(drawing, words_path(path, words, sizeof(words)));
		picture_put(drawing, "; ");
		picture_escape(drawing, path->error);
	}
	picture_put(drawing, "</title>");
}

static void
draw_cell(Drawing *drawing, const Matrix *matrix, int row, int column, int box)
{
	const PicturePath *path = matrix->row[column];
	PathStatus	status = status_of(path);
	bool		fresh = picture_fresh(drawing, row);
	const char *look = fresh ? status_look(status) : "mu";
	int			x = PICTURE_MARGIN + matrix->head + column * matrix->cell;
	int			y = drawing->y + matrix->line / 2;
	bool		tooltip = path != NULL && (matrix->words || status != PATH_OK);
	Words		words;
	Text		line = {
		.x = x + 24, .y = y + 4, .room = matrix->cell - 27, .size = 10, .look = look,
		.box = box
	};

	if (column == row)
		return;
	if (tooltip)
	{
		picture_put(drawing, "<g>");
		draw_cell_tooltip(drawing, path);
	}
	picture_mark(drawing, status_symbol(status), look,
				 matrix->words ? x + 14 : x + CELL_SMALL / 2, y, box);
	if (matrix->words)
		picture_text(drawing, &line, cell_words(path, words));
	if (tooltip)
		picture_put(drawing, "</g>\n");
}

/* The grounds of a row; box[i] is that of column i, and the last one the row's. */
static void
draw_grounds(Drawing *drawing, const Matrix *matrix, int row,
			 int box[PICTURE_MAX + 1])
{
	bool		fresh = picture_fresh(drawing, row);
	int			x = PICTURE_MARGIN;
	int			width = matrix->head + drawing->n * matrix->cell + matrix->age;
	int			inset = matrix->words ? 2 : 1;

	box[drawing->n] = picture_box(drawing, fresh ? "card" : "aged", x, drawing->y, width,
								  matrix->line, 0);
	x += matrix->head;
	for (int i = 0; i < drawing->n; i++, x += matrix->cell)
	{
		const char *look = i == row ? "self" :
			cell_ground(status_of(matrix->row[i]), fresh);

		box[i] = box[drawing->n];
		if (strcmp(look, "card") != 0 && strcmp(look, "aged") != 0)
			box[i] = picture_box(drawing, look, x + inset, drawing->y + inset,
								 matrix->cell - 2 * inset, matrix->line - 2 * inset,
								 inset + 1);
	}
	if (!fresh)
		picture_put(drawing, "<rect class=\"hatch\" x=\"%d\" y=\"%d\" width=\"%d\" "
					"height=\"%d\"/>\n", PICTURE_MARGIN, drawing->y, width,
					matrix->line);
}

static void
draw_row(Drawing *drawing, Matrix *matrix, int row)
{
	int			box[PICTURE_MAX + 1];

	find_row(drawing, matrix, row);
	draw_grounds(drawing, matrix, row, box);
	draw_row_name(drawing, matrix, row, box[drawing->n]);
	for (int i = 0; i < drawing->n; i++)
		draw_cell(drawing, matrix, row, i, box[i]);
	draw_row_age(drawing, matrix, row, box[drawing->n]);
	drawing->y += matrix->line;
}

/* Lines between the rows; where all cells look alike, every fifth column too. */
static void
draw_rules(Drawing *drawing, const Matrix *matrix, int top)
{
	int			x = PICTURE_MARGIN + matrix->head;
	int			right = x + drawing->n * matrix->cell + matrix->age;
	int			step = matrix->words ? 1 : 5;

	picture_put(drawing, "<path class=\"rule\" d=\"");
	for (int i = 0; i <= drawing->nodes; i++)
		if (i % step == 0 || i == drawing->nodes)
			picture_put(drawing, "M%d %dH%d", PICTURE_MARGIN, top + i * matrix->line,
						right);
	for (int i = 0; i <= drawing->n; i++)
		if (i % step == 0 || i == drawing->n || i == drawing->nodes)
			picture_put(drawing, "M%d %dV%d", x + i * matrix->cell, top,
						top + drawing->nodes * matrix->line);
	picture_put(drawing, "\"/>\n");
}

/*
 * draw_matrix
 */
void
draw_matrix(Drawing *drawing)
{
	Matrix		matrix;
	int			top;

	if (drawing->nodes == 0)
		return;
	measure(drawing, &matrix);
	picture_section(drawing, "Who reaches whom",
					"a row is what that node itself says of its paths");
	for (int i = 0; i < drawing->n; i++)
		draw_column_name(drawing, &matrix, i,
						 PICTURE_MARGIN + matrix.head + i * matrix.cell);
	draw_age_name(drawing, &matrix);
	drawing->y += matrix.top;
	top = drawing->y;
	for (int i = 0; i < drawing->n; i++)
		if (!drawing->picture->node[i].member)
			draw_row(drawing, &matrix, i);
	draw_rules(drawing, &matrix, top);
}
