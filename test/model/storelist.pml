/*
 * The change of the store list (R10), on top of lease.pml: generation 0 with
 * the members in the bit mask LIST0, generation 1 with those in LIST1.
 *
 * The members of the old list are given the new generation (commit); then the
 * rows of a majority of them are sealed and read, merged into one, and the
 * result is copied to a majority of the new list, which is then settled there.
 * The coordinator may stop anywhere; another attempt repeats all steps.
 *
 * A member of generation 1 counts, and takes what is sent under it, only once
 * it says itself that the list is settled; from then on it refuses copies.
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
#ifndef ATTEMPTS		/* of the coordinator */
#define ATTEMPTS 2
#endif

#include "common.pml"

#define SIZE(l) (((l) & 1) + (((l) >> 1) & 1) + (((l) >> 2) & 1) + (((l) >> 3) & 1))
#define HALF(l) (SIZE(l) / 2 + 1)
#define HAS(l, m) ((((l) >> (m)) & 1) == 1)
#define NO_RUN 255		/* an incarnation that nobody has */

byte generation[MEMBERS];
bit nobody[MEMBERS];		/* released, but reserved for nobody */
byte settled_at;		/* members that say so */
#define BEGUN 2			/* the generation of a renewal that has passed the member's guard, and acts later */

/*
 * Versions are relative but for the steps that sealing makes: the level of a
 * row, of what a node has seen, of a message.  A seal adds 2; a merged row is
 * one above those it was made of.
 */
byte level[MEMBERS];
byte seen[NODES];
byte m_level[NODES * MEMBERS];
#if LATE
byte m_level2[NODES * MEMBERS];
#endif
#if LIST0 == 1 || LIST0 == 2 || LIST0 == 4
bit touched[MEMBERS];		/* written by a node since it was sealed: above the merged row, which is made of this one only */
#define TOUCHED(m) touched[m]
#define touch(m, b) touched[m] = b
#else
#define TOUCHED(m) false
#define touch(m, b) skip
#endif

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
#define COMMITTING 0
#define READING 1
#define COPYING 2
byte attempt;
bit late_settle;		/* of an attempt that was given up: it had copied to a majority */
byte phase;
byte known;			/* members of the old list whose commit was confirmed before the first was sealed */
byte was_read;
byte was_copied;
byte c_holder, c_incarn, c_epoch, c_ttl, c_level, c_agree;
bit c_nobody;

#define COUNTS(n, m) (mine[n] -> HAS(LIST1, m) : HAS(LIST0, m))
#define MAJORITY(n) (mine[n] -> HALF(LIST1) : HALF(LIST0))
#define CARRIED(n) (carry[n] > MARGIN)
#if defined(BUG_LATE_COPY) || defined(BUG_COUNT_EARLY)
#define SETTLED(m) true
#else				/* a member counts, and takes what it is sent, only once it says itself that the list is settled */
#define SETTLED(m) HAS(settled_at, m)
#endif
#define SAME_GENERATION(n, m) (generation[m] == mine[n] && (mine[n] == 0 || SETTLED(m)))
#define mark_generation(n, m) m_gen[X(n, m)] = mine[n]; m_level[X(n, m)] = seen[n]
#define shift_generation(n, m) m_gen2[X(n, m)] = m_gen[X(n, m)]; m_level2[X(n, m)] = m_level[X(n, m)]
#define drop_generation(x) m_gen[x] = 0; m_level[x] = 0
#define drop_generation2(x) m_gen2[x] = 0; m_level2[x] = 0
/* a release is not guarded by the generation */
#define GENERATION_OK(n, m) (!STALE(X(n, m), m, kind[X(n, m)], m_level[X(n, m)]) && (m_gen[X(n, m)] == generation[m] || m_gen[X(n, m)] == BEGUN || kind[X(n, m)] == RELEASE))
#define GENERATION2_OK(n, m) (!STALE(X(n, m), m, kind2[X(n, m)], m_level2[X(n, m)]) && (m_gen2[X(n, m)] == generation[m] || m_gen2[X(n, m)] == BEGUN || kind2[X(n, m)] == RELEASE))
#define STALE(x, m, kd, lv) ((kd == RENEW || kd == RELEASE) && lv < level[m])
#define on_acquire(m) nobody[m] = 0
#define took(m, lv) level[m] = MAX(level[m], lv); touch(m, 1)
#define note_version(n, m) seen[n] = MAX(seen[n], level[m])
/* who released stays in the row */
#define mark_released(n, m) incarn[m] = 1 + n + NODES * life[n]

#ifdef BUG_CARRY_UNCUT
#define cap_carry(n, t) skip
#else
#define cap_carry(n, t) carry[n] = (carry[n] > t -> t : carry[n])
#endif
#define end_carry(n) carry[n] = 0
#define tick_carry(n) carry[n] = (carry[n] > 0 -> carry[n] - 1 : 0)
#define age_list() since = (since == 0 || since == LONGEST_STILL -> since : since + 1)
#define restart_list(n) mine[n] = 0

#define FREE(m) (holder[m] == 0 && !nobody[m])
#define ENDED(n, m) (holder[m] == n + 1 && incarn[m] != NO_RUN && (incarn[m] != life[n] || epoch[m] != pursued[n]))
#ifdef WORST		/* R14: rows are watched anew under the new list */
#define TIMER(n, m) (mine[n] && since < still[m] -> since : still[m])
#endif

/* ---- the coordinator's steps ---- */

#define CAN_COMMIT(m) (HAS(LIST0, m) && generation[m] == 0)
inline commit(m) {
	printf("coordinator: commits at member %d\n", m);
	generation[m] = 1;
	/* acquires hold the member's list: they came before, or fail; a renewal may have begun */
	for (i : 0 .. NODES - 1) {
		if
		:: kind[X(i, m)] == ACQUIRE && m_gen[X(i, m)] == 0 -> forget(X(i, m))
		:: kind[X(i, m)] == RENEW && m_gen[X(i, m)] == 0 -> m_gen[X(i, m)] = BEGUN
		:: else
		fi;
#if LATE
		if
		:: kind2[X(i, m)] == ACQUIRE && m_gen2[X(i, m)] == 0 -> forget2(X(i, m))
		:: kind2[X(i, m)] == RENEW && m_gen2[X(i, m)] == 0 -> m_gen2[X(i, m)] = BEGUN
		:: else
		fi
#endif
	}
}

#define CHANGING (SIZE(settled_at) < HALF(LIST1))
#define GEN(m) (HAS(LIST0, m) && generation[m] == 1 -> 1 << (m) : 0)
#if MEMBERS == 1
#define COMMITTED GEN(0)
#elif MEMBERS == 2
#define COMMITTED (GEN(0) | GEN(1))
#elif MEMBERS == 3
#define COMMITTED (GEN(0) | GEN(1) | GEN(2))
#else
#define COMMITTED (GEN(0) | GEN(1) | GEN(2) | GEN(3))
#endif

#define CAN_TURN_TO_ROWS (CHANGING && phase == COMMITTING && SIZE(COMMITTED) >= HALF(LIST0))
inline turn_to_rows() {
	printf("coordinator: turns to the rows\n");
	known = COMMITTED;
	phase = READING
}

/* the seal takes effect; its answer may be lost */
#define CAN_READ(m) (CHANGING && phase == READING && HAS(known, m) && !HAS(was_read, m) && !HAS(settled_at, m))
inline read(m) {
#ifndef BUG_NO_SEAL
	level[m] = level[m] + 2;
	touch(m, 0);
	written(m);
#endif
	printf("coordinator: seals and reads member %d: holder %d epoch %d ttl %d\n", m, holder[m], epoch[m], ttl[m]);
	was_read = was_read | (1 << m);
	c_level = MAX(c_level, level[m]);
	if
	:: c_agree == 0 || epoch[m] > c_epoch || (epoch[m] == c_epoch && holder[m] != 0 && c_holder == 0) ->
		c_epoch = epoch[m]; c_holder = holder[m]; c_incarn = incarn[m]; c_agree = 1;
#ifdef BUG_COPY_TTL
		c_ttl = ttl[m]
#endif
	:: else ->
		c_agree = c_agree + (epoch[m] == c_epoch && holder[m] == c_holder && incarn[m] == c_incarn -> 1 : 0)
	fi;
	c_nobody = c_nobody | nobody[m];
#ifndef BUG_COPY_TTL
	/* the promise that still binds need not be the one of the highest epoch */
	c_ttl = MAX(c_ttl, ttl[m])
#endif
}

#ifdef BUG_COUNT_UNREAD
#define ENOUGH_READ (was_read != 0)
#else
#define ENOUGH_READ (SIZE(was_read) >= HALF(LIST0))
#endif
#define CAN_MERGE (CHANGING && phase == READING && ENOUGH_READ)
inline merge() {
	c_nobody = (c_holder == 0 -> c_nobody : 0);
	if
	:: c_agree < HALF(LIST0) ->
#ifndef BUG_CLAIM_KEPT
		c_incarn = (c_holder == 0 -> c_incarn : NO_RUN);
#endif
#ifndef BUG_COPIED_FREE
		c_nobody = (c_holder == 0 -> 1 : 0);
#endif
		skip
	:: else
	fi;
	c_incarn = (c_nobody -> NO_RUN : c_incarn);
	c_level++;
	c_agree = 0;
	phase = COPYING;
	printf("coordinator: merges holder %d run %d epoch %d ttl %d, for nobody %d\n", c_holder, c_incarn, c_epoch, c_ttl, c_nobody)
}

/* a copy may arrive late, when the list is settled elsewhere, but not after it is settled here */
#ifdef BUG_COPY_SETTLED
#define REFUSES_COPY(m) false
#else
#define REFUSES_COPY(m) HAS(settled_at, m)
#endif
#define CAN_COPY(m) (phase == COPYING && HAS(LIST1, m) && generation[m] == 1 && !REFUSES_COPY(m) && !HAS(was_copied, m) && \
	level[m] < c_level && epoch[m] <= c_epoch && !TOUCHED(m))
inline copy(m) {
	printf("coordinator: copies to member %d\n", m);
	holder[m] = c_holder; incarn[m] = c_incarn; epoch[m] = c_epoch; ttl[m] = c_ttl;
	nobody[m] = c_nobody;
	level[m] = c_level;
	was_copied = was_copied | (1 << m);
	written(m)
}

#define CAN_SETTLE(m) (HAS(LIST1, m) && generation[m] == 1 && !HAS(settled_at, m) && \
	(settled_at != 0 || late_settle || (phase == COPYING && SIZE(was_copied) >= HALF(LIST1))))
inline settle(m) {
	printf("coordinator: settles at member %d\n", m);
	settled_at = settled_at | (1 << m);
#ifdef WORST
	since = (CHANGING -> 0 : (since == 0 -> 1 : since))
#endif
}

#define CAN_BEGIN_AGAIN (CHANGING && phase != COMMITTING && attempt + 1 < ATTEMPTS)
inline begin_again() {
	printf("coordinator: begins again\n");
	attempt++;
	late_settle = late_settle | (phase == COPYING && SIZE(was_copied) >= HALF(LIST1));
	phase = COMMITTING; known = 0; was_read = 0; was_copied = 0;
	c_holder = 0; c_incarn = 0; c_epoch = 0; c_ttl = 0; c_level = 0; c_agree = 0; c_nobody = 0
}

/* ---- nodes ---- */

/* a look tells the version, of whatever list the member is */
#ifdef BUG_VERSION_LEARNT
#define CAN_NOTE(n, m) (level[m] > seen[n])
#else
#define CAN_NOTE(n, m) (level[m] > seen[n] && COUNTS(n, m) && SAME_GENERATION(n, m))
#endif
inline note(n, m) {
	printf("node %d: learns the version at member %d\n", n, m);
	seen[n] = level[m]
}

/*
 * A node adopts the list.  Only one whose fence is open goes on with its
 * epoch; a race is dropped.
 */
#ifdef BUG_COUNT_EARLY
#define NEW_LIST_SEEN (generation[0] == 1 || generation[1] == 1 || generation[MEMBERS - 1] == 1)
#else
#define NEW_LIST_SEEN (!CHANGING)
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
		pursued[n] = 0
	fi;
	printf("node %d: adopts the new list, epoch %d, carries %d\n", n, pursued[n], carry[n]);
	for (i : 0 .. MEMBERS - 1) {
		contrib[X(n, i)] = 0;
#ifndef WORST
		still[S(n, i)] = 0;
#endif
		promise[X(n, i)] = 0;
		done[X(n, i)] = 0
	}
#if defined(WORST) && defined(BUG_COUNT_EARLY)
	since = (since == 0 -> 1 : since);
#endif
	mine[n] = 1;
	check(n)
}

#define MEMBER_STEPS(m) \
	STEP(CAN_COMMIT(m), commit(m)) STEP(CAN_READ(m), read(m)) STEP(CAN_COPY(m), copy(m)) STEP(CAN_SETTLE(m), settle(m)) \
	STEP(CAN_NOTE(0, m), note(0, m)) STEP(CAN_NOTE(1, m), note(1, m))
#if MEMBERS == 1
#define ALL_MEMBER_STEPS MEMBER_STEPS(0)
#elif MEMBERS == 2
#define ALL_MEMBER_STEPS MEMBER_STEPS(0) MEMBER_STEPS(1)
#elif MEMBERS == 3
#define ALL_MEMBER_STEPS MEMBER_STEPS(0) MEMBER_STEPS(1) MEMBER_STEPS(2)
#else
#define ALL_MEMBER_STEPS MEMBER_STEPS(0) MEMBER_STEPS(1) MEMBER_STEPS(2) MEMBER_STEPS(3)
#endif
#define LISTCHANGE_STEPS \
	ALL_MEMBER_STEPS \
	STEP(CAN_TURN_TO_ROWS, turn_to_rows()) \
	STEP(CAN_MERGE, merge()) \
	STEP(CAN_BEGIN_AGAIN, begin_again()) \
	STEP(CAN_ADOPT(0), adopt(0)) STEP(CAN_ADOPT(1), adopt(1))

#ifdef START_SECOND
/* node 0 has renewed with TTL2 at member 0; the first attempt committed 0 and 2, sealed 2, and stopped;
   the node has seen that and sends a renewal to member 1 */
#define PREFIX renew(0, 0, TTL2, 0); assert(GENERATION_OK(0, 0)); arrive(0, 0); i=0; j=0; k=0; commit(0); i=0; commit(2); i=0; \
	turn_to_rows(); read(2); i=0; begin_again(); if :: CAN_NOTE(0, 2) -> note(0, 2) :: else fi; renew(0, 1, TTL2, 0)
#endif
#ifdef START_SETTLED
/* the list was committed at 0 and 1, copied to 0 and 2 and settled there; both nodes have adopted it; node 0 renews
   at member 1, to which the copy is still under way, if that member takes it */
#ifdef BUG_COPY_SETTLED
#define SETTLE_THE_LAST settle(1)
#else
#define SETTLE_THE_LAST skip
#endif
#define PREFIX commit(0); i=0; commit(1); i=0; turn_to_rows(); read(0); i=0; read(1); i=0; merge(); \
	copy(0); i=0; copy(2); i=0; settle(0); settle(2); adopt(0); i=0; j=0; k=0; adopt(1); i=0; j=0; k=0; SETTLE_THE_LAST; \
	if :: SETTLED(1) -> note(0, 1); renew(0, 1, TTL2, 0); assert(GENERATION_OK(0, 1)); arrive(0, 1) :: else fi
#endif
#ifdef START_SPLIT
/* node 1, which has seen epoch 1, has taken member 2 alone; the list is committed at 0 and 2 */
#define PREFIX highest[1] = 1; acquire(1, 2, 0); arrive(1, 2); i=0; j=0; k=0; commit(0); i=0; commit(2); i=0; turn_to_rows()
#endif
#include "lease.pml"
