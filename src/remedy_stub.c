#include "remedy.h"
int remedy_list(const RemedyFacts *f, Remedy r[REMEDY_MAX]) { return 0; }
const char *remedy_kind_name(RemedyKind k) { return "sql"; }
const char *remedy_action_name(RemedyAction a) { return "none"; }
Cause cause_with_hba(Cause cause, const Fault *fault, const ReportHba *plain, const ReportHba *encrypted);
Cause cause_with_hba(Cause cause, const Fault *fault, const ReportHba *plain, const ReportHba *encrypted) { return cause; }
#include "picture.h"
void picture_draw(const Picture *picture, PictureOut out, void *arg) { out(arg, "<svg/>"); }
