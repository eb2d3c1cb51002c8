/*
 * prober_mail.c
 *		What other nodes ask of this one, through the store.
 *
 * One request at a time, each carried out once, from whichever member it comes
 * first; its answer goes to every member that is reached.
 */
#include "postgres.h"

#include "prober.h"
#include "repair.h"

#define MAIL_MAX	(30 * CLOCK_S)	/* no request takes longer */
#define TELL_MAX	(2 * CLOCK_S)	/* for the answer to reach the members */

static bool
was_served(const Prober *prober, const char *id)
{
	if (strcmp(prober->mail.id, id) == 0)
		return true;
	for (int i = 0; i < MAILS_SERVED; i++)
		if (strcmp(prober->served[i], id) == 0)
			return true;
	return false;
}

static void
answer(Prober *prober, const char *text, ClockTime now)
{
	Mail	   *mail = &prober->mail;

	strlcpy(mail->answer, text, MAIL_ANSWER_LEN);
	mail->answered = true;
	mail->until = now + TELL_MAX;
	for (int i = 0; i < prober->npeers; i++)
	{
		Traffic    *traffic = prober->peer[i]->traffic;

		if (traffic == NULL)
			continue;
		traffic->answer_told = false;
		/* what is still on its way is the answer to an earlier request */
		if (traffic->task == TRAFFIC_ANSWER)
			traffic->task = TRAFFIC_NONE;
	}
	prober->again = true;
}

static void
take_walk(Prober *prober, const char *target, ClockTime now)
{
	Peer	   *peer = prober_find(prober, target);

	if (peer == NULL)
	{
		answer(prober, "error\tthis node knows no peer of that name", now);
		return;
	}
	strlcpy(prober->mail.target, target, sizeof(prober->mail.target));
	peer->walk_wanted = true;
	prober->again = true;
	resolver_hasten(&prober->resolver);
}

void
mail_take(Prober *prober, const char *id, const char *from, const char *operation,
		  const char *arguments, bool may_repair, ClockTime now)
{
	Mail	   *mail = &prober->mail;

	if (mail->id[0] != '\0' || id[0] == '\0' || strlen(id) >= MAIL_ID_LEN ||
		was_served(prober, id))
		return;
	strlcpy(mail->id, id, MAIL_ID_LEN);
	strlcpy(prober->served[prober->next_served], id, MAIL_ID_LEN);
	prober->next_served = (prober->next_served + 1) % MAILS_SERVED;
	mail->answered = false;
	mail->target[0] = '\0';
	mail->until = now + MAIL_MAX;
	if (strcmp(operation, "walk") == 0)
		take_walk(prober, arguments, now);
	else if (strcmp(operation, "repair") == 0)
	{
		const char *refusal = repair_begin(from, arguments, may_repair);

		if (refusal != NULL)
			answer(prober, psprintf("error\t%s", refusal), now);
	}
	else
		answer(prober, "error\tthis node does not know that operation", now);
}

void
mail_walked(Prober *prober, Peer *peer)
{
	Mail	   *mail = &prober->mail;
	char	   *text;

	if (mail->id[0] == '\0' || mail->answered || strcmp(mail->target, peer->name) != 0)
		return;
	text = palloc(MAIL_ANSWER_LEN);
	if (walk_write(text, MAIL_ANSWER_LEN, &peer->probe.walk))
		answer(prober, text, clock_now());
	else
		answer(prober, "error\tthe answer is too long", clock_now());
}

static bool
is_told(const Prober *prober)
{
	for (int i = 0; i < prober->npeers; i++)
		if (prober->peer[i]->member && prober->peer[i]->probe.stage == PROBE_STANDS &&
			!prober->peer[i]->traffic->answer_told)
			return false;
	return true;
}

/* Others may have come meanwhile. */
static void
look_for_more(Prober *prober)
{
	for (int i = 0; i < prober->npeers; i++)
		if (prober->peer[i]->traffic != NULL)
			prober->peer[i]->traffic->mail_due = true;
	prober->again = true;
}

void
mail_step(Prober *prober, ClockTime now)
{
	Mail	   *mail = &prober->mail;

	if (mail->id[0] == '\0')
		return;
	if (!mail->answered && mail->target[0] == '\0')
	{
		char	   *text = repair_answer();

		if (text != NULL)
			answer(prober, text, now);
	}
	if (!mail->answered && now >= mail->until)
		answer(prober, "error\tit took too long", now);
	else if (mail->answered && (is_told(prober) || now >= mail->until))
	{
		mail->id[0] = '\0';
		look_for_more(prober);
	}
}
