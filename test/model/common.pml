/* Parameters, state and what the fence is: shared by lease.pml and storelist.pml. */
#ifndef COMMON
#define COMMON

#ifndef NODES
#define NODES 2
#endif
#ifndef MEMBERS
#define MEMBERS 1
#endif
#ifndef TTL			/* the usual promise, in ticks */
#define TTL 3
#endif
#ifndef TTL2			/* another promise, 0: none; makes the holder change its ttl */
#define TTL2 0
#endif
#ifndef MARGIN
#define MARGIN 0
#endif
#ifndef SKEW			/* a clock may skip one tick in SKEW; 0: all clocks agree */
#define SKEW 0
#endif
#ifndef EPOCHS			/* no node goes above this epoch */
#define EPOCHS 3
#endif
#ifndef CRASHES			/* crashes of all nodes together */
#define CRASHES 1
#endif
#ifndef LATE			/* older messages under way beside the latest, per node and member: 0 or 1 */
#define LATE 1
#endif

#define FOREVER 255		/* the promise of a frozen row */
#define MAX(a, b) ((a) > (b) -> (a) : (b))
#ifndef HELD_TTL			/* with START_HELD: the ttl of the hold to begin with */
#define HELD_TTL TTL
#endif
#define LONGEST MAX(MAX(TTL, TTL2), HELD_TTL)

/*
 * A clock that skips one tick in SKEW runs at (SKEW-1)/SKEW of the others'
 * rate, so SKEW/(SKEW-1) stands for (1+rho)/(1-rho), rounded up to a tick.
 */
#if SKEW == 0 || defined(BUG_NO_RHO)
#define WAIT(t) ((t) + MARGIN)
#else
#define WAIT(t) (((t) * SKEW + SKEW - 2) / (SKEW - 1) + MARGIN)
#endif

/* rows at the members */
byte holder[MEMBERS];		/* node + 1; 0: released */
byte incarn[MEMBERS];
byte epoch[MEMBERS];
byte ttl[MEMBERS];		/* FOREVER: frozen */

/* nodes */
#define NM (NODES * MEMBERS)
#define X(n, m) ((n) * MEMBERS + (m))
byte highest[NODES];		/* durable: highest epoch seen or used */
byte life[NODES];		/* incarnation */
byte pursued[NODES];		/* epoch being acquired or held; 0: none */
byte contrib[NM];		/* what remains of the acknowledged promise, own clock */
#ifdef WORST
#define S(n, m) (m)
byte still[MEMBERS] = 1;
#else
#define S(n, m) X(n, m)
byte still[NM];			/* 0: not seen, or changed since; else 1 + ticks it has stood still, own clock */
#endif
byte crashes;
#if SKEW
byte rested[NODES];		/* ticks until this clock may skip again */
#endif

/*
 * The network.  Per node and member: the latest message, and one older that
 * has been overtaken on its way.  The node waits for the reply to the latest
 * only; a message to which nobody waits may still take effect (R5).
 */
#define NOTHING 0
#define ACQUIRE 1
#define RENEW   2
#define RELEASE 3
byte kind[NM],  m_epoch[NM],  m_life[NM],  m_ttl[NM];
#if LATE
byte kind2[NM], m_epoch2[NM], m_life2[NM], m_ttl2[NM];
#endif
byte promise[NM];		/* what is left of the promise in the latest message; 0: reply not awaited or worthless */
bit  done[NM];			/* it took effect, the reply is under way */

/* for the properties */
byte last_epoch;		/* of the latest hold */
byte last_holder;

byte i, j, k;			/* scratch, zero between steps */
#define STEP(guard, body) :: d_step { guard -> body; i = 0; j = 0; k = 0 }
#ifdef BUG_DEADLINE_FROM_REPLY
byte asked[NM];
#endif

#ifdef BUG_MAJORITY_ONE
#define NEEDED(n) 1
#else
#define NEEDED(n) MAJORITY(n)
#endif

/* ---- the fence ---- */

#define IN(n, m) (COUNTS(n, m) && contrib[X(n, m)] > MARGIN -> 1 : 0)
#if MEMBERS == 1
#define COUNT(n) IN(n, 0)
#elif MEMBERS == 2
#define COUNT(n) (IN(n, 0) + IN(n, 1))
#elif MEMBERS == 3
#define COUNT(n) (IN(n, 0) + IN(n, 1) + IN(n, 2))
#else
#define COUNT(n) (IN(n, 0) + IN(n, 1) + IN(n, 2) + IN(n, 3))
#endif
/* "now < m-th largest contribution - margin", said by counting */
#define OPEN(n) (pursued[n] != 0 && (COUNT(n) >= NEEDED(n) || CARRIED(n)))

#if NODES == 2
#define EXCLUSIVE !(OPEN(0) && OPEN(1))
#else
#define EXCLUSIVE !((OPEN(0) && OPEN(1)) || (OPEN(0) && OPEN(2)) || (OPEN(1) && OPEN(2)))
#endif

#endif
