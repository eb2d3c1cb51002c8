/*
 * wallclock.c
 *		Steps the clocks of one server while it runs, by LD_PRELOAD.
 *
 * The file named by WALLCLOCK_FILE holds two numbers of nanoseconds, mapped into
 * every process of the server: what to add to the wall clock (CLOCK_REALTIME),
 * and what to add to CLOCK_BOOTTIME alone, as if the machine had been suspended
 * for so long.  CLOCK_MONOTONIC is never touched.  Whoever writes to the file
 * steps the clocks at once, everywhere.
 *
 * Made for LeaseholdTest (step_clock, suspend).  A machine's clock cannot be
 * stepped in a test, and the whole point is that it would not matter.
 */
#define _GNU_SOURCE

#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NS INT64_C(1000000000)

typedef struct Offsets
{
	volatile int64_t wall;
	volatile int64_t boot;
} Offsets;

static Offsets none;
static Offsets *offsets = &none;
static int	(*real_clock_gettime) (clockid_t, struct timespec *);

/* Before main(), and so before any thread or signal handler. */
static void __attribute__((constructor))
wallclock_start(void)
{
	const char *path = getenv("WALLCLOCK_FILE");
	int			fd;
	void	   *map;

	*(void **) &real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
	if (path == NULL || (fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		return;
	map = mmap(NULL, sizeof(Offsets), PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (map != MAP_FAILED)
		offsets = map;
}

static int
real(clockid_t clock, struct timespec *ts)
{
	/* another library's constructor may ask before ours has run */
	if (real_clock_gettime == NULL)
		*(void **) &real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
	return real_clock_gettime(clock, ts);
}

int
clock_gettime(clockid_t clock, struct timespec *ts)
{
	int			rc = real(clock, ts);
	int64_t		add = 0;
	int64_t		ns;

	if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)
		add = offsets->wall;
	else if (clock == CLOCK_BOOTTIME)
		add = offsets->boot;
	if (rc != 0 || add == 0)
		return rc;
	ns = ts->tv_sec * NS + ts->tv_nsec + add;
	ts->tv_sec = ns / NS;
	ts->tv_nsec = ns % NS;
	return 0;
}

int
gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
	struct timespec ts;
	int			rc = clock_gettime(CLOCK_REALTIME, &ts);

	if (rc == 0)
	{
		tv->tv_sec = ts.tv_sec;
		tv->tv_usec = ts.tv_nsec / 1000;
	}
	return rc;
}

time_t
time(time_t *result)
{
	struct timespec ts;

	if (clock_gettime(CLOCK_REALTIME, &ts) != 0)
		return (time_t) -1;
	if (result)
		*result = ts.tv_sec;
	return ts.tv_sec;
}
