/*
 * path.c
 *		What is known of the path from this node to another.
 *
 * See path.h.  Must never do I/O or depend on the server.
 */
#include "path.h"

#include <limits.h>
#include <string.h>

/* So many latencies tell something. */
#define ENOUGH			4

/* Slow: so many times what it used to be, and by so much ... */
#define SLOW_TIMES		5
#define SLOW_BY			(20 * CLOCK_MS)
#define SLOW_SHARE		2		/* or more than the timeout divided by this */
/* ... until it is below these. */
#define STILL_TIMES		3
#define STILL_BY		(10 * CLOCK_MS)
#define STILL_SHARE		3

/*
 * The buckets are halved at this weight.  What a path used to be has changed after
 * half as many probes: 21 minutes of one each 5 s.
 */
#define FULL			512

/* The upper edges of the first four buckets; the next four are twice as far. */
static const ClockTime first_edge[4] = {20000, 23784, 28284, 33636};

static const char *const phase_name[PHASE_COUNT] = {
	"resolve", "connect", "tls", "authenticate", "session", "ready"
};

static const char *const status_name[] = {
	"unknown", "ok", "degraded", "flapping", "unreachable"
};
#define STATUS_COUNT	((int) (sizeof(status_name) / sizeof(status_name[0])))

void
path_init(Path *path, ClockTime now)
{
	memset(path, 0, sizeof(*path));
	path->status = PATH_UNKNOWN;
	path->since = now;
}

/* ------------------------------------------------------------------------
 * How fast it is
 * ------------------------------------------------------------------------
 */

static ClockTime
bucket_edge(int i)
{
	return first_edge[i % 4] << i / 4;
}

static int
bucket_of(ClockTime latency)
{
	int			i = 0;

	while (i < PATH_BUCKETS - 1 && latency > bucket_edge(i))
		i++;
	return i;
}

static ClockTime
quantile(const uint16_t *bucket, int percent)
{
	int			total = 0;
	int			rank;
	int			i;

	for (i = 0; i < PATH_BUCKETS; i++)
		total += bucket[i];
	if (total == 0)
		return 0;
	rank = (total * percent + 99) / 100;
	if (rank < 1)
		rank = 1;
	for (i = 0; i < PATH_BUCKETS - 1 && rank > bucket[i]; i++)
		rank -= bucket[i];
	return bucket_edge(i);
}

ClockTime
path_quantile(const Path *path, int percent)
{
	uint16_t	bucket[PATH_BUCKETS];

	memcpy(bucket, path->bucket, sizeof(bucket));
	for (int i = 0; i < path->nrecent; i++)
		bucket[bucket_of(path->recent[i])]++;
	return quantile(bucket, percent < 0 ? 0 : percent > 100 ? 100 : percent);
}

/* One that is not recent any longer. */
static void
keep(Path *path, ClockTime latency)
{
	path->bucket[bucket_of(latency)]++;
	if (++path->weight < FULL)
		return;
	path->weight = 0;
	for (int i = 0; i < PATH_BUCKETS; i++)
	{
		path->bucket[i] /= 2;
		path->weight += path->bucket[i];
	}
}

static void
learn(Path *path, ClockTime latency)
{
	if (path->nrecent == PATH_RECENT)
		keep(path, path->recent[PATH_RECENT - 1]);
	else
		path->nrecent++;
	memmove(&path->recent[1], &path->recent[0],
			(path->nrecent - 1) * sizeof(path->recent[0]));
	path->recent[0] = latency;
}

static ClockTime
recent_median(const Path *path)
{
	ClockTime	sorted[PATH_RECENT] = {0};

	for (int i = 0; i < path->nrecent; i++)
	{
		int			at = i;

		for (; at > 0 && sorted[at - 1] > path->recent[i]; at--)
			sorted[at] = sorted[at - 1];
		sorted[at] = path->recent[i];
	}
	return sorted[(path->nrecent - 1) / 2];
}

static bool
is_slow(const Path *path, const PathRules *rules)
{
	bool		still = path->status == PATH_DEGRADED;
	ClockTime	used_to_be = quantile(path->bucket, 50);
	ClockTime	median;

	if (path->nrecent < ENOUGH)
		return false;
	median = recent_median(path);
	if (rules->timeout > 0 &&
		median > rules->timeout / (still ? STILL_SHARE : SLOW_SHARE))
		return true;
	return path->weight >= ENOUGH &&
		median - used_to_be >= (still ? STILL_BY : SLOW_BY) &&
		median > used_to_be * (still ? STILL_TIMES : SLOW_TIMES);
}

/* ------------------------------------------------------------------------
 * Up and down
 * ------------------------------------------------------------------------
 */

static ClockTime
age(ClockTime moment, ClockTime now)
{
	if (moment >= now)
		return 0;
	/* from the beginning of time to its end */
	if (moment < 0 && now > CLOCK_NEVER + moment)
		return CLOCK_NEVER;
	return now - moment;
}

/* The last probe told whether it is up. */
static void
turn(Path *path, bool up, ClockTime now)
{
	if (path->status != PATH_UNKNOWN && path->up != up)
	{
		memmove(&path->flip[1], &path->flip[0],
				(FLIPS_TO_FLAP - 1) * sizeof(path->flip[0]));
		path->flip[0] = now;
	}
	path->up = up;
}

static bool
flaps(const Path *path, const PathRules *rules, ClockTime now)
{
	ClockTime	interval = clock_max(rules->interval, 0);
	ClockTime	window = interval < CLOCK_NEVER / FLAP_INTERVALS ?
		interval * FLAP_INTERVALS : CLOCK_NEVER;
	ClockTime	first = path->flip[FLIPS_TO_FLAP - 1];

	if (path->status == PATH_FLAPPING)
		return age(path->flip[0], now) < window;
	return first != 0 && age(first, now) <= window;
}

static PathChange
become(Path *path, PathStatus status, ClockTime now)
{
	if (path->status == status)
		return PATH_SAME;
	path->status = status;
	path->since = now;
	return PATH_CHANGED;
}

PathChange
path_succeeded(Path *path, ClockTime now, ClockTime latency,
			   const PathRules *rules)
{
	turn(path, true, now);
	path->failures = 0;
	path->last_ok = now;
	path->latency = clock_max(latency, 0);
	learn(path, path->latency);
	if (flaps(path, rules, now))
		return become(path, PATH_FLAPPING, now);
	path->phase = PHASE_READY;
	path->cause = 0;
	return become(path, is_slow(path, rules) ? PATH_DEGRADED : PATH_OK, now);
}

PathChange
path_failed(Path *path, ClockTime now, PathPhase phase, int cause,
			const PathRules *rules)
{
	bool		otherwise = path->phase != phase || path->cause != cause;

	turn(path, false, now);
	if (path->failures < INT_MAX)
		path->failures++;
	path->phase = phase;
	path->cause = cause;
	if (flaps(path, rules, now))
		return become(path, PATH_FLAPPING, now);
	if (path->status == PATH_UNREACHABLE && otherwise)
		return PATH_CAUSE_CHANGED;
	return become(path, PATH_UNREACHABLE, now);
}

/* ------------------------------------------------------------------------
 * Names
 * ------------------------------------------------------------------------
 */

static int
find(const char *const *names, int n, const char *name)
{
	for (int i = 0; i < n; i++)
		if (strcmp(names[i], name) == 0)
			return i;
	return -1;
}

/* What is none, from memory that was damaged or a newer version, is unknown. */
const char *
path_phase_name(PathPhase phase)
{
	return (int) phase >= 0 && (int) phase < PHASE_COUNT ?
		phase_name[phase] : "unknown";
}

const char *
path_status_name(PathStatus status)
{
	return (int) status >= 0 && (int) status < STATUS_COUNT ?
		status_name[status] : "unknown";
}

int
path_phase_of(const char *name)
{
	return find(phase_name, PHASE_COUNT, name);
}

int
path_status_of(const char *name)
{
	return find(status_name, STATUS_COUNT, name);
}
