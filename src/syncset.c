/*
 * syncset.c
 *		Which standby has every acknowledged write (leasehold.zero_loss).
 *
 * See syncset.h.  Must never do I/O or depend on the server.
 */
#include "syncset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int64_t
syncset_serial(const char *set)
{
	return strtoll(set, NULL, 10);
}

const char *
syncset_node(const char *set)
{
	const char *at = strchr(set, '=');

	return at != NULL ? at + 1 : NULL;
}

bool
syncset_allows(const char *set, const char *node)
{
	const char *other = syncset_node(set);

	return other == NULL || (other[0] != '\0' && strcmp(other, node) == 0);
}

/* The row is to name this one ("": nobody; NULL: nothing is promised). */
static void
promise(SyncSet *sync, const char *node)
{
	const char *now = syncset_node(sync->set);

	if (node == now || (node != NULL && now != NULL && strcmp(node, now) == 0))
		return;
	snprintf(sync->set, sizeof(sync->set), "%d%s%s", ++sync->serial,
			 node != NULL ? "=" : "", node != NULL ? node : "");
}

void
syncset_hand_to(SyncSet *sync, const char *node)
{
	promise(sync, node);
}

static void
wait_for(SyncSet *sync, const char *name)
{
	snprintf(sync->wait_for, sizeof(sync->wait_for), "%s", name);
	sync->in_force = false;
	sync->awaited_since = 0;
}

void
syncset_begin(SyncSet *sync, SyncMode mode, int32_t serial)
{
	memset(sync, 0, sizeof(*sync));
	sync->serial = serial;
	if (serial > 0)
		snprintf(sync->set, sizeof(sync->set), "%d", serial);
	promise(sync, mode == SYNC_OFF ? NULL : "");
	if (mode == SYNC_STRICT)
		wait_for(sync, SYNCSET_NOT_YET);
}

static const SyncPeer *
find(const SyncView *view, const char *name)
{
	for (int i = 0; i < view->n; i++)
		if (strcmp(view->peer[i].name, name) == 0)
			return &view->peer[i];
	return NULL;
}

/* The most advanced other standby; NULL if none streams that keeps up. */
static const SyncPeer *
best_other(const SyncSet *sync, const SyncView *view)
{
	const SyncPeer *best = NULL;

	for (int i = 0; i < view->n; i++)
	{
		const SyncPeer *peer = &view->peer[i];

		if (peer->streaming && strcmp(peer->name, sync->wait_for) != 0 &&
			(strcmp(peer->name, sync->given_up) != 0 ||
			 peer->flushed >= sync->given_up_at) &&
			(best == NULL || peer->flushed > best->flushed))
			best = peer;
	}
	return best;
}

/* Does it stream, and come to have what was written, sooner or later? */
static bool
keeps_up(SyncSet *sync, const SyncPeer *peer, uint64_t written,
		 ClockTime patience, ClockTime now)
{
	if (peer == NULL || !peer->streaming)
		return false;
	if (sync->awaited_since == 0 || peer->flushed >= sync->awaited)
	{
		sync->awaited = written;
		sync->awaited_since = now;
	}
	return now - sync->awaited_since < patience;
}

/* Leave the one that is waited for, for another, or for nobody. */
static void
change(SyncSet *sync, const SyncView *view)
{
	const SyncPeer *next = best_other(sync, view);

	if (next == NULL && (view->mode == SYNC_STRICT || sync->wait_for[0] == '\0'))
		return;
	/* first the set, at a majority, then the server */
	if (syncset_node(sync->set)[0] != '\0')
	{
		promise(sync, "");
		return;
	}
	if (!view->told)
		return;
	memcpy(sync->given_up, sync->wait_for, sizeof(sync->given_up));
	sync->given_up_at = sync->awaited;
	wait_for(sync, next != NULL ? next->name : "");
}

/* First the server waits, then the standby has all of before, then the set. */
static void
grow(SyncSet *sync, const SyncView *view, const SyncPeer *peer)
{
	if (!view->waits || !peer->waited_for)
	{
		/* somebody has changed the setting under us */
		if (sync->in_force)
			promise(sync, "");
		sync->in_force = false;
		return;
	}
	if (!sync->in_force)
	{
		sync->in_force = true;
		sync->barrier = view->written;
	}
	if (peer->flushed >= sync->barrier)
		promise(sync, peer->name);
}

void
syncset_step(SyncSet *sync, const SyncView *view, ClockTime patience,
			 ClockTime now)
{
	const SyncPeer *peer;

	if (view->mode == SYNC_OFF)
	{
		promise(sync, NULL);
		wait_for(sync, "");
		return;
	}
	if (syncset_node(sync->set) == NULL)
		promise(sync, "");
	peer = sync->wait_for[0] != '\0' ? find(view, sync->wait_for) : NULL;
	if (!keeps_up(sync, peer, view->written, patience, now))
		change(sync, view);
	else
		grow(sync, view, peer);
}
