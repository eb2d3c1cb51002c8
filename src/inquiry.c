/*
 * inquiry.c
 *		All that can be found out about one path.
 *
 * The source walks it: the prober of this node, or that of another one, asked
 * through the store.  Then everybody else is heard, by what they have reported.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "inquiry.h"
#include "mailbox.h"
#include "witness.h"

#define WALK_EXTRA		(3 * CLOCK_S)	/* beyond the probe itself */
#define POLL_MS			10
#define WITNESS_POLL_MS	100

/* ------------------------------------------------------------------------
 * The walk
 * ------------------------------------------------------------------------
 */

static ClockTime
patience(void)
{
	return clock_ms(setting_probe_timeout) + WALK_EXTRA;
}

static bool
walk_here(Inquiry *inquiry)
{
	ClockTime	until = clock_now() + patience();
	uint64		number = paths_ask_walk(inquiry->target, until);

	if (number == 0)
	{
		inquiry->not_walked = "Too many sessions ask for this at the same time.";
		return false;
	}
	while (!paths_take_walk(number, &inquiry->walk))
	{
		if (clock_now() >= until)
		{
			inquiry->not_walked = "The process \"leasehold prober\" of this node does not answer.";
			return false;
		}
		sql_sleep(POLL_MS);
	}
	return true;
}

static bool
walk_there(Inquiry *inquiry)
{
	char	   *answer = mailbox_ask(inquiry->source, "walk", inquiry->target,
									 clock_now() + patience(), &inquiry->not_walked);

	if (answer == NULL)
		return false;
	if (walk_read(answer, &inquiry->walk))
		return true;
	inquiry->not_walked = psprintf("Node \"%s\" says: %s.", inquiry->source,
								   strncmp(answer, "error\t", 6) == 0 ? answer + 6 :
								   "something that this version does not understand");
	return false;
}

/* What the source has last said of the path stands in for the walk. */
static void
recall_walk(Inquiry *inquiry)
{
	const PathReport *report = paths_find_report(inquiry->paths, inquiry->source);
	Walk	   *walk = &inquiry->walk;
	ReportPath	path;

	memset(walk, 0, sizeof(*walk));
	strlcpy(walk->target, inquiry->target, sizeof(walk->target));
	if (report == NULL || !report_find_path(report->text, inquiry->target, &path))
	{
		walk->cause = CAUSE_OTHER;
		return;
	}
	walk->phase = path.phase;
	walk->cause = path.status == PATH_UNREACHABLE || path.status == PATH_FLAPPING ?
		path.cause : CAUSE_NONE;
	for (int i = 0; i < (int) path.phase; i++)
		walk->step[i].status = STEP_OK;
	walk->step[path.phase].status = walk->cause == CAUSE_NONE ? STEP_OK : STEP_FAILED;
	strlcpy(walk->step[path.phase].detail, walk->cause == CAUSE_NONE ? "" :
			cause_text(walk->cause), sizeof(walk->step[0].detail));
	strlcpy(walk->step[path.phase].evidence, path.error,
			sizeof(walk->step[0].evidence));
	strlcpy(walk->address, path.address, sizeof(walk->address));
	strlcpy(walk->from, path.from, sizeof(walk->from));
	strlcpy(walk->fault.message, path.error, sizeof(walk->fault.message));
	strlcpy(walk->fault.sqlstate, path.sqlstate, sizeof(walk->fault.sqlstate));
}

/* ------------------------------------------------------------------------
 * What mends it
 * ------------------------------------------------------------------------
 */

static bool
find_hba(const PathReport *report, const char *source, bool encrypted, ReportHba *hba)
{
	const char *at = report->text;

	while (report_next_hba(&at, hba))
		if (strcmp(hba->node, source) == 0 && hba->encrypted == encrypted)
			return true;
	return false;
}

/* What the target's own pg_hba.conf says of us tells more than its refusal does. */
static void
add_hba(RemedyFacts *facts, const PathReport *report, const Walk *walk)
{
	ReportHba	plain;
	ReportHba	encrypted;
	bool		knows_plain = find_hba(report, facts->source, false, &plain);
	bool		knows_encrypted = find_hba(report, facts->source, true, &encrypted);

	facts->hba_known = walk->encrypted ? knows_encrypted : knows_plain;
	if (facts->hba_known)
		facts->hba = walk->encrypted ? encrypted : plain;
	facts->cause = cause_with_hba(facts->cause, &walk->fault,
								  knows_plain ? &plain : NULL,
								  knows_encrypted ? &encrypted : NULL);
}

/* The host that the source advertises, where its own end is not known. */
static void
note_source_host(Inquiry *inquiry)
{
	const SurveyNode *node = sql_find_node(inquiry->survey, inquiry->source);
	Conninfo   *conninfo = palloc(sizeof(Conninfo));
	const char *host;

	if (node == NULL || conninfo_split(node->advertise, conninfo, 1) != 1)
		return;
	host = conninfo_value(conninfo, "hostaddr");
	if (host == NULL)
		host = conninfo_value(conninfo, "host");
	if (host != NULL && strchr(host, ',') == NULL)
		strlcpy(inquiry->facts.source_host, host, sizeof(inquiry->facts.source_host));
}

static void
gather_facts(Inquiry *inquiry)
{
	const Walk *walk = &inquiry->walk;
	RemedyFacts *facts = &inquiry->facts;
	const PathReport *source = paths_find_report(inquiry->paths, inquiry->source);
	const PathReport *target = paths_find_report(inquiry->paths, inquiry->target);

	facts->cause = walk->cause;
	strlcpy(facts->source, inquiry->source, sizeof(facts->source));
	strlcpy(facts->target, inquiry->target, sizeof(facts->target));
	facts->member = inquiry->member;
	strlcpy(facts->host, walk->host, sizeof(facts->host));
	strlcpy(facts->address, walk->address, sizeof(facts->address));
	strlcpy(facts->port, walk->port, sizeof(facts->port));
	strlcpy(facts->from, walk->from, sizeof(facts->from));
	strlcpy(facts->user, walk->user, sizeof(facts->user));
	strlcpy(facts->database, walk->database, sizeof(facts->database));
	facts->encrypted = walk->encrypted;
	strlcpy(facts->message, walk->fault.message, sizeof(facts->message));
	facts->source_known = source != NULL &&
		report_read_self(source->text, &facts->of_source);
	facts->target_known = !inquiry->member && target != NULL &&
		report_read_self(target->text, &facts->of_target);
	note_source_host(inquiry);
	strlcpy(facts->holder, sql_status()->holder, sizeof(facts->holder));
	if (facts->target_known)
		add_hba(facts, target, walk);
	/* what a server that is down had said last is no sign that it runs */
	if (!inquiry->witnesses.target_alive)
		facts->of_target.accepts = false;
}

int
inquiry_remedies(const Inquiry *inquiry, Remedy remedy[REMEDY_MAX])
{
	if (inquiry->facts.cause == CAUSE_NONE)
		return 0;
	return remedy_list(&inquiry->facts, remedy);
}

/* ------------------------------------------------------------------------
 * The witnesses
 * ------------------------------------------------------------------------
 */

/*
 * Did the target itself answer?  Else others have to say whether it lives; and right
 * after the loss they may not have noticed it themselves.
 */
static bool
is_heard_itself(const Walk *walk)
{
	return walk->cause == CAUSE_NONE || walk->phase == PHASE_RESOLVE ||
		verdict_is_answered(walk->phase, walk->cause);
}

/* Has the source been heard since it was asked? */
static bool
is_source_heard(const Inquiry *inquiry, ClockTime asked)
{
	const PathReport *report = paths_find_report(inquiry->paths, inquiry->source);

	return inquiry->walked || (report != NULL && report->seen > asked);
}

static void
hear_witnesses(Inquiry *inquiry, ClockTime asked)
{
	bool		needed = !is_heard_itself(&inquiry->walk);
	ClockTime	lost_at = needed ? witness_lost_at(inquiry->paths, inquiry->source,
												   inquiry->target) : 0;

	for (;;)
	{
		inquiry->survey = sql_survey();
		memset(&inquiry->witnesses, 0, sizeof(inquiry->witnesses));
		inquiry->witnesses.stands = inquiry->walk.cause == CAUSE_NONE;
		inquiry->witnesses.phase = inquiry->walk.phase;
		inquiry->witnesses.cause = inquiry->walk.cause;
		inquiry->witnesses.source_fresh = is_source_heard(inquiry, asked);
		if (witness_hear(&inquiry->witnesses, inquiry->paths, inquiry->survey,
						 inquiry->source, inquiry->target, lost_at) || !needed)
			return;
		sql_sleep(WITNESS_POLL_MS);
		inquiry->paths = paths_copy();
	}
}

/* ------------------------------------------------------------------------
 * Names
 * ------------------------------------------------------------------------
 */

static char *
known_names(const Paths *paths, bool members)
{
	StringInfoData list;

	initStringInfo(&list);
	appendStringInfo(&list, "\"%s\"", settings_node_name());
	for (int i = 0; i < paths->nentries; i++)
		if (members || !paths->entry[i].member)
			appendStringInfo(&list, ", \"%s\"", paths->entry[i].target);
	return psprintf("Known are %s.", list.data);
}

static void
no_such_source(const char *name, const Paths *paths)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("node \"%s\" does not exist", name),
			 errhint("%s", known_names(paths, false))));
}

static void
no_such_target(const char *name, const Paths *paths)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("node or member \"%s\" does not exist", name),
			 errhint("%s", known_names(paths, true))));
}

static void
check_names(Inquiry *inquiry, const Paths *paths)
{
	const PathEntry *target = paths_find_entry(paths, inquiry->target);
	const PathEntry *source = paths_find_entry(paths, inquiry->source);

	inquiry->local = strcmp(inquiry->source, settings_node_name()) == 0;
	if (!inquiry->local && (source == NULL || source->member))
		no_such_source(inquiry->source, paths);
	if (strcmp(inquiry->target, inquiry->source) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a path leads from one node to another one"),
				 errdetail("Source and target are both \"%s\".", inquiry->target)));
	if (target == NULL && strcmp(inquiry->target, settings_node_name()) != 0)
		no_such_target(inquiry->target, paths);
	inquiry->member = target != NULL && target->member;
}

/* What is too long for a name is none: cut off, it might be another one. */
static void
take_names(Inquiry *inquiry, const char *source, const char *target)
{
	const Paths *paths = paths_copy();

	if (source == NULL)
		source = settings_node_name();
	if (strlcpy(inquiry->source, source, sizeof(inquiry->source)) >=
		sizeof(inquiry->source))
		no_such_source(source, paths);
	if (strlcpy(inquiry->target, target, sizeof(inquiry->target)) >=
		sizeof(inquiry->target))
		no_such_target(target, paths);
	check_names(inquiry, paths);
}

Inquiry *
inquiry_make(const char *source, const char *target)
{
	Inquiry    *inquiry = palloc0(sizeof(Inquiry));
	ClockTime	asked = clock_now();

	sql_require_preloaded();
	take_names(inquiry, source, target);
	inquiry->walked = inquiry->local ? walk_here(inquiry) : walk_there(inquiry);
	inquiry->paths = paths_copy();
	if (!inquiry->walked)
		recall_walk(inquiry);
	hear_witnesses(inquiry, asked);
	inquiry->verdict = verdict_of(&inquiry->witnesses);
	gather_facts(inquiry);
	return inquiry;
}

/* ------------------------------------------------------------------------
 * In words
 * ------------------------------------------------------------------------
 */

static int64
seconds_since(ClockTime moment)
{
	return (clock_now() - moment) / CLOCK_S;
}

char *
inquiry_of_target(const Inquiry *inquiry)
{
	const PathReport *report = paths_find_report(inquiry->paths, inquiry->target);
	ReportSelf	said;
	const ReportSelf *self = &said;

	if (inquiry->member)
		return "A member of the store says nothing of itself.";
	if (!inquiry->facts.target_known)
		return "Nothing is known of it: it has never been heard through the store.";
	(void) report_read_self(report->text, &said);
	return psprintf("Heard " INT64_FORMAT " s ago: %s, timeline %d, %s; listens on \"%s\", port %d, TLS %s; %s, %d of %d connection slots are left.",
					seconds_since(report->seen), self->role, self->timeline,
					self->state, self->listen, self->port, self->tls ? "on" : "off",
					self->accepts ? "takes connections" : "takes no connections",
					self->slots_left, self->slots);
}

char *
inquiry_of_source(const Inquiry *inquiry)
{
	const Witnesses *w = &inquiry->witnesses;

	return psprintf("The source reaches %d of %d other nodes and members. %s",
					w->source_reaches, w->source_tries,
					!w->target_says ? "" : w->back_stands ?
					"The target reaches the source." :
					"The target does not reach the source either.");
}

char *
inquiry_of_others(const Inquiry *inquiry)
{
	const Witnesses *w = &inquiry->witnesses;

	if (w->others == 0 && w->others_know_source == 0)
		return "There is no third node that was heard of late.";
	return psprintf("%d of %d third nodes reach the target, %d of %d reach the source.",
					w->others_reach_target, w->others, w->others_reach_source,
					w->others_know_source);
}
