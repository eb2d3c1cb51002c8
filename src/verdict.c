/*
 * verdict.c
 *		What three witnesses say of a path.
 *
 * Must never do I/O or depend on the server.
 */
#include "verdict.h"

static const struct
{
	const char *name;
	const char *text;
}			said[] =
{
	[VERDICT_STANDS] = {"stands", "The path is as it should be."},
	[VERDICT_TARGET_REFUSES] = {"target_refuses",
	"The network path stands; the target answers, and does not take this connection."},
	[VERDICT_NAME] = {"no_address", "The source knows no address of the target."},
	[VERDICT_TARGET_DOWN] = {"target_down",
	"The target is down: it shows no sign of life, and nobody reaches it."},
	[VERDICT_TARGET_HIDDEN] = {"target_hidden",
	"The target lives, but nobody reaches the address that it advertises: it listens elsewhere, or its firewall lets nobody in."},
	[VERDICT_TARGET_CUT_OFF] = {"target_cut_off",
	"The target lives, but is cut off from all other nodes."},
	[VERDICT_SOURCE_SILENT] = {"source_silent",
	"Nothing new is heard of the source: it is down, or cut off from the store, or this node is. What it said last is old."},
	[VERDICT_SOURCE_CUT_OFF] = {"source_cut_off",
	"The source is cut off: it reaches none of the others."},
	[VERDICT_ONE_DIRECTION] = {"one_direction",
	"Only this direction is broken: the target reaches the source."},
	[VERDICT_PATH_BLOCKED] = {"path_blocked",
	"Only the path between these two is broken: both are alive."},
	[VERDICT_UNKNOWN] = {"unknown",
	"No other node can bear witness: whether the target or the path has failed cannot be told from here."},
};

const char *
verdict_name(Verdict verdict)
{
	return said[verdict].name;
}

const char *
verdict_text(Verdict verdict)
{
	return said[verdict].text;
}

bool
verdict_is_answered(PathPhase phase, Cause cause)
{
	return phase > PHASE_CONNECT && cause != CAUSE_SILENT &&
		cause != CAUSE_CLOSED && cause != CAUSE_TIMEOUT;
}

/* It may still reach the store. */
static bool
source_is_cut_off(const Witnesses *w)
{
	return w->source_nodes > 0 && w->source_nodes_reached == 0 &&
		(w->others_reach_target > 0 ||
		 (w->target_alive && w->target_tries > 0 && w->target_reaches > 0)) &&
		w->others_reach_source == 0 && !w->back_stands;
}

/* It hears of nobody: one more that is silent could be down, all can hardly be. */
static bool
source_is_alone(const Witnesses *w)
{
	return w->source_tries > 1 && w->source_reaches == 0 && w->others == 0 &&
		!w->target_alive;
}

/* Not even third nodes get in where the source does not. */
static bool
is_closed_to_all(const Witnesses *w)
{
	return w->others > 0 && w->others_reach_target == 0;
}

static bool
target_is_cut_off(const Witnesses *w)
{
	return w->target_tries > 0 && w->target_reaches == 0 && !w->back_stands;
}

Verdict
verdict_of(const Witnesses *w)
{
	if (!w->source_fresh)
		return VERDICT_SOURCE_SILENT;
	if (w->stands)
		return VERDICT_STANDS;
	if (w->phase == PHASE_RESOLVE)
		return VERDICT_NAME;
	if (verdict_is_answered(w->phase, w->cause))
		return VERDICT_TARGET_REFUSES;
	if (source_is_cut_off(w))
		return VERDICT_SOURCE_CUT_OFF;
	if (source_is_alone(w))
		return VERDICT_SOURCE_CUT_OFF;
	if (w->target_says && w->back_stands && !is_closed_to_all(w))
		return VERDICT_ONE_DIRECTION;
	if (w->others_reach_target > 0)
		return VERDICT_PATH_BLOCKED;
	if (w->target_alive)
	{
		if (w->others == 0)
			return target_is_cut_off(w) ? VERDICT_TARGET_CUT_OFF : VERDICT_PATH_BLOCKED;
		return target_is_cut_off(w) ? VERDICT_TARGET_CUT_OFF : VERDICT_TARGET_HIDDEN;
	}
	/* a source that hears of nothing cannot say that the target is dead */
	if (w->others > 0 || w->source_reaches > 0)
		return VERDICT_TARGET_DOWN;
	return VERDICT_UNKNOWN;
}
