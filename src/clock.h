/*
 * clock.h
 *		The one clock that leases are judged by, and the arithmetic on it.
 *
 * Everything that decides about a lease uses durations on this clock: never
 * the wall clock, never a store's clock.  It counts the time that the machine
 * was suspended, because a lease expires during a suspend too.
 *
 * Layer 0: no server headers.  Only clock_now() does any I/O, and that is one
 * vDSO call; all else takes the time as an argument.
 */
#ifndef LEASEHOLD_CLOCK_H
#define LEASEHOLD_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* A moment or a duration, in nanoseconds. */
typedef int64_t ClockTime;

#define CLOCK_NEVER		INT64_MAX	/* later than every moment */
#define CLOCK_US		INT64_C(1000)
#define CLOCK_MS		INT64_C(1000000)
#define CLOCK_S			(INT64_C(1000) * CLOCK_MS)

#ifdef CLOCK_BOOTTIME
#define LEASEHOLD_CLOCK_ID CLOCK_BOOTTIME
#else
#define LEASEHOLD_CLOCK_ID CLOCK_MONOTONIC
#endif

/*
 * clock_now
 *		The present moment, in nanoseconds since an arbitrary start (the boot of
 *		the machine); never zero, so that zero can stand for "no moment".
 *
 * Async-signal-safe and lock-free.
 */
static inline ClockTime
clock_now(void)
{
	struct timespec ts;

	clock_gettime(LEASEHOLD_CLOCK_ID, &ts);
	return (ClockTime) ts.tv_sec * CLOCK_S + ts.tv_nsec + 1;
}

/* A duration given in milliseconds. */
static inline ClockTime
clock_ms(int64_t n)
{
	return n * CLOCK_MS;
}

/*
 * clock_add
 *		A moment plus a duration, where "never" stays "never".
 */
static inline ClockTime
clock_add(ClockTime moment, ClockTime duration)
{
	if (moment == CLOCK_NEVER || duration == CLOCK_NEVER ||
		(duration > 0 && moment > CLOCK_NEVER - duration))
		return CLOCK_NEVER;
	return moment + duration;
}

static inline ClockTime
clock_min(ClockTime a, ClockTime b)
{
	return a < b ? a : b;
}

static inline ClockTime
clock_max(ClockTime a, ClockTime b)
{
	return a > b ? a : b;
}

/*
 * clock_wait_ms
 *		How many whole milliseconds to sleep so as not to wake before "until";
 *		0 when it has passed, -1 (wait for events only) when it never comes.
 */
static inline long
clock_wait_ms(ClockTime now, ClockTime until)
{
	if (until == CLOCK_NEVER)
		return -1;
	if (until <= now)
		return 0;
	if (until - now > 3600 * CLOCK_S)
		return 3600 * 1000;
	return (long) ((until - now + CLOCK_MS - 1) / CLOCK_MS);
}

#endif							/* LEASEHOLD_CLOCK_H */
