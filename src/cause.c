#include "cause.h"
#include <string.h>
Cause cause_of(const Fault *f, PathPhase *phase) { *phase = f->phase; return CAUSE_OTHER; }
const char *cause_name(Cause c) { return "other"; }
int cause_of_name(const char *n) { return CAUSE_OTHER; }
const char *cause_text(Cause c) { return "Something is wrong."; }
void fault_of_message(Fault *fault, const char *text) { strncpy(fault->message, text, 255); }
