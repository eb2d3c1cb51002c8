/*
 * The lease protocol: nodes, store members, a network that loses, delays and
 * repeats, clocks of different rates, crashes.  README.md says what is
 * modelled and within what bounds; ./run checks it.
 *
 * The model is one process whose every step is atomic.  Concurrency lives in
 * the order of steps: sending, arrival at a member, arrival of the reply and
 * the passing of time are steps of their own.
 *
 * Time is relative: what remains of a promise, how long a row has stood still.
 * Versions are relative as well.  A version is compared in two ways only: an
 * observer asks "is it still the one I saw?" and a member asks of a holder's
 * message "is it newer than the last one I took?".  Both answers are kept as
 * facts about the observation and about the message in flight, so runs of any
 * length fall into a finite number of states; only epochs and crashes are
 * bounded.
 */

#include "common.pml"

/* ---- hooks of storelist.pml ---- */
#ifndef LISTCHANGE
#define COUNTS(n, m) true	/* is m a member of the list by which n counts? */
#define MAJORITY(n) (MEMBERS / 2 + 1)
#define CARRIED(n) false
#define SAME_GENERATION(n, m) true
#define GENERATION_OK(n, m) true
#define GENERATION2_OK(n, m) true
#define mark_generation(n, m)
#define shift_generation(n, m)
#define on_acquire(m) skip
#define took(m, lv)
#define cap_carry(n, t)
#define end_carry(n)
#define tick_carry(n)
#define restart_list(n)
#define LISTCHANGE_STEPS
#define age_list() skip
#define drop_generation(x)
#define drop_generation2(x)
#define FREE(m) (holder[m] == 0)
#define ENDED(n, m) (holder[m] == n + 1 && incarn[m] != life[n])
#define STALE(x, m, kd, lv) false
#define mark_released(n, m) incarn[m] = 0; ttl[m] = 0
#define note_version(n, m)
#endif
#ifndef TIMER
#define TIMER(n, m) still[S(n, m)]
#endif
#ifdef REACH_SECOND
#define reached(n) assert(!(last_holder != 0 && last_holder != n + 1))
#elif defined(REACH_THIRD)	/* a node holds again after another has held */
#define reached(n) assert(!(last_epoch >= 2 && pursued[n] > last_epoch))
#elif defined(REACH_NEW_LIST)	/* a hold won under the new list, after one under the old */
#define reached(n) assert(!(mine[n] == 1 && last_epoch > 0 && pursued[n] > last_epoch))
#elif defined(REACH_CONTINUED)	/* a hold of the old list goes on under the new one */
#define reached(n) assert(!(mine[n] == 1 && carry[n] == 0 && pursued[n] == last_epoch))
#else
#define reached(n)
#endif

inline check(n) {
	assert(EXCLUSIVE);
	if
	:: OPEN(n) ->
		reached(n);
		assert(pursued[n] > last_epoch || (pursued[n] == last_epoch && last_holder == n + 1));
		last_epoch = pursued[n];
		last_holder = n + 1
	:: else
	fi
}

/* ---- members ---- */

#define MINE(n, m) (holder[m] == n + 1 && incarn[m] == life[n] && epoch[m] == pursued[n])

/*
 * Every write raises the version: observations of the row are void, and so is
 * every acquire under way, for it names the version it saw.  A holder's
 * message is void once a newer one of its has been taken ("version < $v"), or
 * once the row is no longer its sender's.  What can no longer act is removed.
 */
#ifdef BUG_ACQUIRE_UNGUARDED
#define ACQUIRE_VOID(x, m, e) (e <= epoch[m])
#else
#define ACQUIRE_VOID(x, m, e) true
#endif

inline forget(x) {
	kind[x] = NOTHING; m_epoch[x] = 0; m_life[x] = 0; m_ttl[x] = 0; promise[x] = 0;
	drop_generation(x)
}
inline forget2(x) {
#if LATE
	kind2[x] = NOTHING; m_epoch2[x] = 0; m_life2[x] = 0; m_ttl2[x] = 0;
	drop_generation2(x)
#else
	skip
#endif
}
#ifndef LISTCHANGE
#define m_level m_life
#define m_level2 m_life2
#endif
#define VOID(x, nn, m, kd, e, r, lv) \
	((kd == ACQUIRE && ACQUIRE_VOID(x, m, e)) || STALE(x, m, kd, lv) || \
	 ((kd == RENEW || kd == RELEASE) && !(holder[m] == nn + 1 && incarn[m] == r && epoch[m] == e)))

inline written(m) {
	for (i : 0 .. NODES - 1) {
#ifndef BUG_IGNORE_VERSION
#ifdef WORST
		still[m] = 1;
#else
		still[S(i, m)] = 0;
#endif
#endif
		if
		:: VOID(X(i, m), i, m, kind[X(i, m)], m_epoch[X(i, m)], m_life[X(i, m)], m_level[X(i, m)]) -> forget(X(i, m))
		:: else
		fi;
#if LATE
		if
		:: VOID(X(i, m), i, m, kind2[X(i, m)], m_epoch2[X(i, m)], m_life2[X(i, m)], m_level2[X(i, m)]) -> forget2(X(i, m))
		:: else
		fi
#endif
	}
}

/* the effect of a message of node n with the given content at member m; j tells whether it had any */
inline effect(n, m, kd, e, r, t) {
	j = 0;
	if
#ifdef BUG_EPOCH_LOW
	:: kd == ACQUIRE && ttl[m] != FOREVER ->
#else
	:: kd == ACQUIRE && ttl[m] != FOREVER && epoch[m] < e ->
#endif
		holder[m] = n + 1; incarn[m] = r; epoch[m] = e; ttl[m] = t; j = 1;
		on_acquire(m);
	:: kd == RENEW && holder[m] == n + 1 && incarn[m] == r && epoch[m] == e ->
		ttl[m] = t; j = 1
	:: kd == RELEASE && holder[m] == n + 1 && incarn[m] == r && epoch[m] == e ->
		holder[m] = 0; mark_released(n, m); j = 1
	:: else
	fi
}

/*
 * Arrival.  A repeated message needs no step of its own: once taken it is not
 * newer than the row, so it does nothing; with that guard missing it stays
 * under way and may arrive again.
 */
inline arrive(n, m) {
	printf("node %d: message %d (1 acquire 2 renew 3 release) epoch %d ttl %d arrives at member %d\n",
		n, kind[X(n, m)], m_epoch[X(n, m)], m_ttl[X(n, m)], m);
	effect(n, m, kind[X(n, m)], m_epoch[X(n, m)], m_life[X(n, m)], m_ttl[X(n, m)]);
	if
	:: j ->
		took(m, m_level[X(n, m)]);
		done[X(n, m)] = (promise[X(n, m)] > 0 -> 1 : 0);
		k = promise[X(n, m)];
#ifndef BUG_NO_VERSION_GUARD
		forget2(X(n, m));
		forget(X(n, m));
#endif
		written(m);
#ifdef WORST
		done[X(n, m)] = 0;
		contrib[X(n, m)] = (k > 0 -> k : contrib[X(n, m)])
#else
		promise[X(n, m)] = (done[X(n, m)] -> k : 0)
#endif
	:: else -> forget(X(n, m))
	fi;
	check(n)
}
#if LATE
inline arrive2(n, m) {
	printf("node %d: late message %d epoch %d ttl %d arrives at member %d\n",
		n, kind2[X(n, m)], m_epoch2[X(n, m)], m_ttl2[X(n, m)], m);
	effect(n, m, kind2[X(n, m)], m_epoch2[X(n, m)], m_life2[X(n, m)], m_ttl2[X(n, m)]);
	if
	:: j ->
		took(m, m_level2[X(n, m)]);
		k = promise[X(n, m)];
#ifndef BUG_NO_VERSION_GUARD
		forget2(X(n, m));
#endif
		written(m);
		promise[X(n, m)] = (done[X(n, m)] || kind[X(n, m)] != NOTHING -> k : 0)
	:: else -> forget2(X(n, m))
	fi
}
#endif

/* ---- nodes ---- */

/* keep = 1: the message under way is overtaken; 0: it is lost */
inline send(n, m, keep, kd, e, t, p) {
#if LATE
	if
	:: keep ->
		kind2[X(n, m)] = kind[X(n, m)]; m_epoch2[X(n, m)] = m_epoch[X(n, m)];
		m_life2[X(n, m)] = m_life[X(n, m)]; m_ttl2[X(n, m)] = m_ttl[X(n, m)];
		shift_generation(n, m)
	:: else
	fi;
#endif
	kind[X(n, m)] = kd; m_epoch[X(n, m)] = e; m_life[X(n, m)] = life[n]; m_ttl[X(n, m)] = t;
	mark_generation(n, m);
	done[X(n, m)] = 0;
	promise[X(n, m)] = p
}
#if LATE
#define MAY_KEEP(x, keep) (!keep || kind[x] != NOTHING)
#else
#define MAY_KEEP(x, keep) (!keep)
#endif

/*
 * Reading a row.  The step is instantaneous, which is the worst case: a reply
 * under way only starts the timer later, and one that is out of date names a
 * version at which no acquire succeeds.
 */
#ifdef WORST
#define CAN_OBSERVE(n, m) false
#else
#define CAN_OBSERVE(n, m) (still[S(n, m)] == 0 && !MINE(n, m) && SAME_GENERATION(n, m))
#endif
inline observe(n, m) {
	printf("node %d: sees member %d: holder %d epoch %d ttl %d\n", n, m, holder[m], epoch[m], ttl[m]);
	still[S(n, m)] = 1;
	highest[n] = (epoch[m] > highest[n] -> epoch[m] : highest[n])
}

/* R2, R7: the row stood still long enough, or is released, or is of a run of this very node that has ended */
#define RIPE(n, m) (ttl[m] != FOREVER && (TIMER(n, m) > WAIT(ttl[m]) || FREE(m) || ENDED(n, m)))
/* a node without an epoch takes the next one, durably, before it sends */
#ifdef BUG_EPOCH_LOW
#define NEXT(n, m) (used[n] + 1)
byte used[NODES];
#define HIGH_ENOUGH(n, m) true
#else
#ifdef WORST
#define NEXT(n, m) (MAX(highest[n], epoch[m]) + 1)
#else
#define NEXT(n, m) (highest[n] + 1)
#endif
#define HIGH_ENOUGH(n, m) (pursued[n] == 0 || pursued[n] > epoch[m])
#endif
#define CAN_ACQUIRE(n, m, keep) (COUNTS(n, m) && SAME_GENERATION(n, m) && still[S(n, m)] > 0 && !MINE(n, m) && RIPE(n, m) && \
	kind[X(n, m)] != ACQUIRE && \
	HIGH_ENOUGH(n, m) && (pursued[n] != 0 || NEXT(n, m) <= EPOCHS) && MAY_KEEP(X(n, m), keep))
inline acquire(n, m, keep) {
#ifdef WORST
	/* the least it can know: the row at hand */
	highest[n] = MAX(highest[n], epoch[m]);
#endif
	if
	:: pursued[n] == 0 ->
		pursued[n] = NEXT(n, m);
#ifdef BUG_EPOCH_LOW
		used[n] = pursued[n];
#endif
		highest[n] = (pursued[n] > highest[n] -> pursued[n] : highest[n])
	:: else
	fi;
	note_version(n, m);
	printf("node %d: sends acquire of epoch %d to member %d\n", n, pursued[n], m);
	send(n, m, keep, ACQUIRE, pursued[n], TTL, TTL);
#ifdef BUG_DEADLINE_FROM_REPLY
	asked[X(n, m)] = TTL
#endif
}

/*
 * Only rows that are the node's own are worth a renewal: a member refuses any
 * other.  R13: whatever is promised less is cut off the deadline first.
 */
#define CAN_RENEW(n, m, t, keep) (pursued[n] != 0 && COUNTS(n, m) && SAME_GENERATION(n, m) && MINE(n, m) && \
	!(kind[X(n, m)] == RENEW && m_ttl[X(n, m)] == t && promise[X(n, m)] == t) && MAY_KEEP(X(n, m), keep))
inline renew(n, m, t, keep) {
	printf("node %d: sends renewal with ttl %d to member %d\n", n, t, m);
#ifndef BUG_UNCUT
	contrib[X(n, m)] = (contrib[X(n, m)] > t -> t : contrib[X(n, m)]);
	cap_carry(n, t);
#endif
#ifdef BUG_LATE_REPLY
	/* the reply to the earlier request is counted although a later one is under way */
	contrib[X(n, m)] = (done[X(n, m)] && promise[X(n, m)] > contrib[X(n, m)] -> promise[X(n, m)] : contrib[X(n, m)]);
#endif
	send(n, m, keep, RENEW, pursued[n], t, t);
#ifdef BUG_DEADLINE_FROM_REPLY
	asked[X(n, m)] = t
#endif
}

/* R3, R5: a reply counts from before its request was sent, however late it is */
#define CAN_HEAR(n, m) (done[X(n, m)])
inline hear(n, m) {
	printf("node %d: hears from member %d, %d left of the promise\n", n, m, promise[X(n, m)]);
#ifdef BUG_DEADLINE_FROM_REPLY
	contrib[X(n, m)] = asked[X(n, m)];
	asked[X(n, m)] = 0;
#else
	contrib[X(n, m)] = promise[X(n, m)];
#endif
	done[X(n, m)] = 0;
	promise[X(n, m)] = 0;
	check(n)
}

/*
 * Release, and R4's retreat of a minority: the fence closes for all members
 * and the epoch is dropped for good before anything is sent.
 */
#define CAN_LEAVE(n) (pursued[n] != 0)
inline leave(n, keep) {
	printf("node %d: leaves epoch %d\n", n, pursued[n]);
	for (i : 0 .. MEMBERS - 1) {
		if
		:: MINE(n, i) || (kind[X(n, i)] == ACQUIRE && m_epoch[X(n, i)] == pursued[n]) ->
			send(n, i, (keep && kind[X(n, i)] != NOTHING), RELEASE, pursued[n], 0, 0)
		:: else
		fi;
#ifndef BUG_RELEASE_LIVE
		contrib[X(n, i)] = 0;
		done[X(n, i)] = 0;
		promise[X(n, i)] = 0
#endif
	}
#ifndef BUG_RELEASE_LIVE
	end_carry(n);
	pursued[n] = 0;
#endif
	i = 0
}

#define CAN_CRASH(n) (crashes < CRASHES)
inline crash(n) {
	printf("node %d: crashes and starts again\n", n);
	crashes++;
	life[n]++;
	pursued[n] = 0;
	for (i : 0 .. MEMBERS - 1) {
		contrib[X(n, i)] = 0;
#ifndef WORST
		still[S(n, i)] = 0;
#endif
		done[X(n, i)] = 0;
		promise[X(n, i)] = 0
	}
	end_carry(n);
	restart_list(n)
}

/* ---- time ---- */

#define LONGEST_STILL (1 + WAIT(LONGEST))
inline advance(n) {
	for (i : 0 .. MEMBERS - 1) {
		contrib[X(n, i)] = (contrib[X(n, i)] == 0 || contrib[X(n, i)] == FOREVER -> contrib[X(n, i)] : contrib[X(n, i)] - 1);
		promise[X(n, i)] = (promise[X(n, i)] == 0 || promise[X(n, i)] == FOREVER -> promise[X(n, i)] : promise[X(n, i)] - 1);
#ifndef BUG_DEADLINE_FROM_REPLY
		/* a reply that promises nothing any more is no reply */
		done[X(n, i)] = (promise[X(n, i)] == 0 -> 0 : done[X(n, i)]);
#endif
#ifndef WORST
		still[S(n, i)] = (still[S(n, i)] == 0 || still[S(n, i)] == LONGEST_STILL -> still[S(n, i)] : still[S(n, i)] + 1)
#endif
	}
	tick_carry(n)
}
#ifdef WORST
inline age() {
	for (i : 0 .. MEMBERS - 1) {
		still[i] = (still[i] == LONGEST_STILL -> still[i] : still[i] + 1)
	}
	age_list()
}
#else
#define age() skip
#endif
#if SKEW
#define MAY_SKIP(n, skips) (!skips || rested[n] == 0)
#define pass(n, skips) \
	if \
	:: skips -> rested[n] = SKEW - 1 \
	:: else -> advance(n); rested[n] = (rested[n] == 0 -> 0 : rested[n] - 1) \
	fi
#else
#define MAY_SKIP(n, skips) (!skips)
#define pass(n, skips) advance(n)
#endif

/* ---- all steps ---- */

#define RENEWALS(n, m, t) \
	STEP(CAN_RENEW(n, m, t, 0), renew(n, m, t, 0)) \
	STEP(CAN_RENEW(n, m, t, 1), renew(n, m, t, 1))
#if TTL2
#define OTHER_RENEWALS(n, m) RENEWALS(n, m, TTL2)
#else
#define OTHER_RENEWALS(n, m)
#endif
#ifdef PAUSE
#define PAUSE_RENEWALS(n, m) RENEWALS(n, m, FOREVER)
#else
#define PAUSE_RENEWALS(n, m)
#endif
#if LATE
#define LATE_ARRIVALS(n, m) STEP(kind2[X(n, m)] != NOTHING && GENERATION2_OK(n, m), arrive2(n, m))
#else
#define LATE_ARRIVALS(n, m)
#endif
#define PAIR(n, m) \
	STEP(CAN_OBSERVE(n, m), observe(n, m)) \
	STEP(CAN_ACQUIRE(n, m, 0), acquire(n, m, 0)) \
	STEP(CAN_ACQUIRE(n, m, 1), acquire(n, m, 1)) \
	RENEWALS(n, m, TTL) OTHER_RENEWALS(n, m) PAUSE_RENEWALS(n, m) \
	STEP(kind[X(n, m)] != NOTHING && GENERATION_OK(n, m), arrive(n, m)) \
	LATE_ARRIVALS(n, m) \
	STEP(CAN_HEAR(n, m), hear(n, m))
#if MEMBERS == 1
#define PAIRS(n) PAIR(n, 0)
#elif MEMBERS == 2
#define PAIRS(n) PAIR(n, 0) PAIR(n, 1)
#elif MEMBERS == 3
#define PAIRS(n) PAIR(n, 0) PAIR(n, 1) PAIR(n, 2)
#else
#define PAIRS(n) PAIR(n, 0) PAIR(n, 1) PAIR(n, 2) PAIR(n, 3)
#endif
#define NODE(n) \
	PAIRS(n) \
	STEP(CAN_LEAVE(n), leave(n, 0)) \
	STEP(CAN_LEAVE(n) && LATE, leave(n, 1)) \
	STEP(CAN_CRASH(n), crash(n))

#if NODES == 2
#define TICK(a, b) STEP(MAY_SKIP(0, a) && MAY_SKIP(1, b), printf("tick\n"); \
	pass(0, a); pass(1, b); age(); assert(EXCLUSIVE))
#else
#define TICK3(a, b, c) STEP(MAY_SKIP(0, a) && MAY_SKIP(1, b) && MAY_SKIP(2, c), printf("tick\n"); \
	pass(0, a); pass(1, b); pass(2, c); age(); assert(EXCLUSIVE))
#define TICK(a, b) TICK3(a, b, 0) TICK3(a, b, 1)
#endif

active proctype everything() {
#ifdef LISTCHANGE
	d_step {
		for (i : 0 .. MEMBERS - 1) {
			generation[i] = (HAS(LIST0, i) -> 0 : 1)
		}
		i = 0
	}
#endif
#ifdef START_HELD
	/* a reachable state to begin from: node 0 has just won epoch 1 at members 0 and 1,
	   with a ttl of its own */
	d_step {
		pursued[0] = 1; highest[0] = 1; last_epoch = 1; last_holder = 1;
		holder[0] = 1; epoch[0] = 1; ttl[0] = HELD_TTL; contrib[X(0, 0)] = HELD_TTL;
		holder[1] = 1; epoch[1] = 1; ttl[1] = HELD_TTL; contrib[X(0, 1)] = HELD_TTL
	}
#endif
#ifdef PREFIX
	d_step { PREFIX; i = 0; j = 0; k = 0 }
#endif
	do
	NODE(0)
	NODE(1)
#if NODES == 3
	NODE(2)
#endif
	LISTCHANGE_STEPS
	TICK(0, 0)
#if SKEW
	TICK(0, 1)
	TICK(1, 0)
	TICK(1, 1)
#elif NODES == 3
	/* TICK() names the third clock itself */
#endif
	od
}
