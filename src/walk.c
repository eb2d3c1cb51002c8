#include "walk.h"
const char *walk_step_name(StepStatus s) { return s == STEP_OK ? "ok" : s == STEP_FAILED ? "failed" : "not reached"; }
bool walk_write(char *buffer, size_t size, const Walk *walk) { return false; }
bool walk_read(const char *text, Walk *walk) { return false; }
