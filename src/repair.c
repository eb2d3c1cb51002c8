/*
 * repair.c
 *		Operations from a fixed list, performed by this node on itself.
 */
#include "postgres.h"

#include "repair.h"
#include "settings.h"

const char *
repair_begin(const char *from, const char *arguments)
{
	return setting_allow_repair ? "not yet" : "leasehold.allow_repair is off there";
}

char *
repair_answer(void)
{
	return NULL;
}

uint64 repair_ask(RemedyAction action, const char *source) { return 0; }
bool repair_take(uint64 number, char *answer, Size size) { return false; }
