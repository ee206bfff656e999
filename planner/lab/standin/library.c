/* Stand-in for cuDNN, NCCL, TensorRT, NSCQ: a library file that knows only its own version. */
#include "common.h"

#define PUBLIC __attribute__((visibility("default")))

/* Who looks for it is told that nothing here computes. */
PUBLIC const char planner_lab_standin[] = "planner lab stand-in";

SLOT(version_slot, "@planner-lab-version@");

static void parts(int out[3]) {
    char text[64];
    out[0] = out[1] = out[2] = 0;
    sscanf(slot_text(version_slot, text, sizeof text), "%d.%d.%d", &out[0], &out[1], &out[2]);
}

PUBLIC int ncclGetVersion(int *version) {
    int v[3];
    parts(v);
    *version = v[0] * 10000 + v[1] * 100 + v[2];
    return 0;
}

PUBLIC size_t cudnnGetVersion(void) {
    int v[3];
    parts(v);
    return (size_t)(v[0] >= 9 ? v[0] * 10000 + v[1] * 100 + v[2] : v[0] * 1000 + v[1] * 100 + v[2]);
}

PUBLIC int getInferLibVersion(void) {
    int v[3];
    parts(v);
    return v[0] >= 10 ? v[0] * 10000 + v[1] * 100 + v[2] : v[0] * 1000 + v[1] * 100 + v[2];
}
