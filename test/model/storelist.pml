/*
 * The change of the store list (R10), on top of lease.pml: generation 0 with
 * the members in the bit mask LIST0, generation 1 with those in LIST1.
 *
 * A coordinator reads rows at a majority of the old list, then commits the new
 * generation member by member.  Committing is one statement: it is guarded by
 * the generation and by the counter of changes, and it brings the copied row
 * along.  The coordinator may die or fail at any moment and begin again, which
 * is also what another one taking over looks like.
 */

#define LISTCHANGE
#ifndef LIST0
#define LIST0 1
#endif
#ifndef LIST1
#define LIST1 2
#endif
#ifndef MEMBERS
#define MEMBERS 2
#endif

#include "common.pml"

#define SIZE(l) (((l) & 1) + (((l) >> 1) & 1) + (((l) >> 2) & 1) + (((l) >> 3) & 1))
#define HALF(l) (SIZE(l) / 2 + 1)
#define HAS(l, m) ((((l) >> (m)) & 1) == 1)

#define FRESH 2
byte generation[MEMBERS];	/* FRESH: no list stored there yet */
bit changed[MEMBERS];		/* the counter of changes has moved since the coordinator read it */
bit copied[MEMBERS];		/* the row's last write was the commit of the list */
bit settled;			/* a majority of the new list says so */

byte mine[NODES];		/* the generation by which a node counts */
byte carry[NODES];		/* what remains of the deadline brought along from the old list */
byte m_gen[NODES * MEMBERS];
#if LATE
byte m_gen2[NODES * MEMBERS];
#endif
#ifdef WORST
byte since;			/* 0: not settled; else 1 + ticks since */
#endif

/* coordinator */
byte was_read;
byte was_done;
byte c_holder, c_incarn, c_epoch, c_ttl;

#define LIST(n) (mine[n] -> LIST1 : LIST0)
#define COUNTS(n, m) (mine[n] -> HAS(LIST1, m) : HAS(LIST0, m))
#define MAJORITY(n) (mine[n] -> HALF(LIST1) : HALF(LIST0))
#define CARRIED(n) (carry[n] > MARGIN)
#define SAME_GENERATION(n, m) (generation[m] == mine[n])
#define GENERATION_OK(n, m) (m_gen[X(n, m)] == generation[m])
#define GENERATION2_OK(n, m) (m_gen2[X(n, m)] == generation[m])
#define mark_generation(n, m) m_gen[X(n, m)] = mine[n]
#define shift_generation(n, m) m_gen2[X(n, m)] = m_gen[X(n, m)]
#define drop_generation(x) m_gen[x] = 0
#define drop_generation2(x) m_gen2[x] = 0

#define on_acquire(m) changed[m] = (generation[m] == 0 && HAS(was_read, m))
/* a longer promise is a change as well: the copied row must not promise less than its holder counts on */
#ifdef BUG_RENEW_UNCOUNTED
#define on_renew(m, old, new) skip
#else
#define on_renew(m, old, new) changed[m] = (changed[m] || (new > old && generation[m] == 0 && HAS(was_read, m)))
#endif
#define on_write(m) copied[m] = 0;

#ifdef BUG_CARRY_UNCUT
#define cap_carry(n, t) skip
#else
#define cap_carry(n, t) carry[n] = (carry[n] > t -> t : carry[n])
#endif
#define end_carry(n) carry[n] = 0
#define tick_carry(n) carry[n] = (carry[n] > 0 -> carry[n] - 1 : 0)
#define age_list() since = (since == 0 || since == LONGEST_STILL -> since : since + 1)
#define restart_list(n) mine[n] = 0

/*
 * A copied row says what some member knew, not what the majority agreed on:
 * it may be a minority's claim, or a minority's release, above the epoch of a
 * holder whose deadline still runs.  So the short cuts (released; a run of
 * mine that has ended) hold only for a row written under the new list.
 */
#ifdef BUG_SHORT_CUT
#define SHORT_CUT(m) true
#else
#define SHORT_CUT(m) (!copied[m])
#endif
#if defined(WORST) && !defined(BUG_KEEP_TIMERS)
#define TIMER(n, m) (mine[n] && since < still[m] -> since : still[m])
#endif

/* the coordinator's steps */

#define CAN_READ(m) (!settled && HAS(LIST0, m) && !HAS(was_read, m) && was_done == 0)
inline read(m) {
	printf("coordinator: reads member %d: holder %d epoch %d ttl %d\n", m, holder[m], epoch[m], ttl[m]);
	was_read = was_read | (1 << m);
	changed[m] = 0;
	if
	:: epoch[m] > c_epoch || (epoch[m] == c_epoch && holder[m] != 0) ->
		c_epoch = epoch[m]; c_holder = holder[m]; c_incarn = incarn[m];
#ifdef BUG_COPY_TTL
		c_ttl = ttl[m]
#endif
	:: else
	fi;
#ifndef BUG_COPY_TTL
	/* the promise that still binds need not be the one of the highest epoch */
	c_ttl = MAX(c_ttl, ttl[m])
#endif
}

#define CAN_BEGIN_AGAIN (!settled && was_read != 0)
inline begin_again() {
	printf("coordinator: begins again\n");
	was_read = 0; was_done = 0;
	c_holder = 0; c_incarn = 0; c_epoch = 0; c_ttl = 0;
	for (i : 0 .. MEMBERS - 1) {
		changed[i] = 0
	}
}

#ifdef BUG_CHANGES_UNGUARDED
#define UNCHANGED(m) true
#else
#define UNCHANGED(m) (!changed[m])
#endif
#define CAN_COMMIT(m) (SIZE(was_read) >= HALF(LIST0) && !HAS(was_done, m) && \
	((generation[m] == 0 && HAS(was_read, m) && UNCHANGED(m)) || \
	 (generation[m] == FRESH && HAS(LIST1, m)) || \
	 (generation[m] == 1 && !settled && (HAS(was_read, m) || !HAS(LIST0, m)))))
inline commit(m) {
	printf("coordinator: commits at member %d, copies holder %d epoch %d ttl %d\n", m, c_holder, c_epoch, c_ttl);
	was_done = was_done | (1 << m);
	generation[m] = 1;
	changed[m] = 0;
	if
	:: HAS(LIST1, m) ->
		if
		:: epoch[m] < c_epoch ->
			holder[m] = c_holder; incarn[m] = c_incarn; epoch[m] = c_epoch;
			ttl[m] = c_ttl;
			written(m)
		:: else ->
			ttl[m] = MAX(ttl[m], c_ttl)
		fi;
		copied[m] = 1
	:: else
	fi;
	/* what was sent under the old list can no longer act here */
	for (i : 0 .. NODES - 1) {
		if
		:: kind[X(i, m)] != NOTHING && m_gen[X(i, m)] == 0 -> forget(X(i, m))
		:: else
		fi;
#if LATE
		if
		:: kind2[X(i, m)] != NOTHING && m_gen2[X(i, m)] == 0 -> forget2(X(i, m))
		:: else
		fi
#endif
	}
}

#define CAN_SETTLE (!settled && SIZE(was_done & LIST0) >= HALF(LIST0) && SIZE(was_done & LIST1) >= HALF(LIST1))
inline settle() {
	printf("coordinator: settled\n");
#ifdef WORST
	since = 1;
#endif
	settled = 1
}

/*
 * A node adopts the list.  Only one whose fence is open goes on with its
 * epoch: a minority's claim may have been copied to a majority of the new
 * list, and must not become a hold by that.
 */
#ifdef BUG_COUNT_EARLY
#define NEW_LIST_SEEN (generation[0] == 1 || generation[1] == 1 || generation[MEMBERS - 1] == 1)
#else
#define NEW_LIST_SEEN settled
#endif
#define CAN_ADOPT(n) (NEW_LIST_SEEN && mine[n] == 0)
inline adopt(n) {
	if
	:: OPEN(n) ->
		for (j : 1 .. LONGEST) {
			k = 0;
			for (i : 0 .. MEMBERS - 1) {
				k = k + (HAS(LIST0, i) && contrib[X(n, i)] >= j -> 1 : 0)
			}
			carry[n] = (k >= HALF(LIST0) -> j : carry[n])
		}
	:: else ->
#ifndef BUG_CLAIM_CONTINUES
		pursued[n] = 0
#endif
	fi;
	printf("node %d: adopts the new list, epoch %d, carries %d\n", n, pursued[n], carry[n]);
	for (i : 0 .. MEMBERS - 1) {
		contrib[X(n, i)] = 0;
		promise[X(n, i)] = 0;
		done[X(n, i)] = 0;
#if !defined(WORST) && !defined(BUG_KEEP_TIMERS)
		still[S(n, i)] = 0
#endif
	}
#if defined(WORST) && defined(BUG_COUNT_EARLY)
	since = (since == 0 -> 1 : since);
#endif
	mine[n] = 1;
	check(n)
}

#define MEMBER_STEPS(m) STEP(CAN_READ(m), read(m)) STEP(CAN_COMMIT(m), commit(m))
#if MEMBERS == 1
#define ALL_MEMBER_STEPS MEMBER_STEPS(0)
#elif MEMBERS == 2
#define ALL_MEMBER_STEPS MEMBER_STEPS(0) MEMBER_STEPS(1)
#elif MEMBERS == 3
#define ALL_MEMBER_STEPS MEMBER_STEPS(0) MEMBER_STEPS(1) MEMBER_STEPS(2)
#else
#define ALL_MEMBER_STEPS MEMBER_STEPS(0) MEMBER_STEPS(1) MEMBER_STEPS(2) MEMBER_STEPS(3)
#endif
#if NODES == 2
#define ADOPTIONS STEP(CAN_ADOPT(0), adopt(0)) STEP(CAN_ADOPT(1), adopt(1))
#else
#define ADOPTIONS STEP(CAN_ADOPT(0), adopt(0)) STEP(CAN_ADOPT(1), adopt(1)) STEP(CAN_ADOPT(2), adopt(2))
#endif
#define LISTCHANGE_STEPS \
	ALL_MEMBER_STEPS \
	STEP(CAN_BEGIN_AGAIN, begin_again()) \
	STEP(CAN_SETTLE, settle()) \
	ADOPTIONS

#include "lease.pml"
