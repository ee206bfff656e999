/* Stand-in libcuda.so.1, streams, events and time: everything is done when a call returns. Work is counted at nominal
   rates, so that figures repeat to the digit. Three faults change that: with `wall-clock` time is the processor's;
   `slow-percent` (PERCENT [GPU]) takes so much from every rate; `jitter-percent` spreads times, the same in every run. */
#include "cuda.h"

struct event { struct timespec at; double work_ns; };
static double work_ns;          /* of all work so far, at nominal rates */
static uint32_t asked;          /* how many times were asked for */

/* Bytes or operations in a nanosecond. */
static const double RATE[RATES] = {
    [MEMORY] = 2000, [HOST_LINK] = 50, [PEER_LINK] = 400, [SCALAR] = 60000, [TENSOR_F16] = 600000, [TENSOR_S8] = 900000
};

int steady(void) {
    static int told = -1;       /* asked for at every launch: a process keeps what it found first */
    if (told < 0)
        told = !there(FAULT "wall-clock");
    return told;
}

void count_latency(double nanoseconds) { work_ns += nanoseconds; }

void count_work(enum rate rate, double amount) {
    int off = (rate == TENSOR_F16 || rate == TENSOR_S8) && value_of("tensor_cores_off", physical(), 0);
    int shared = rate == HOST_LINK || rate == PEER_LINK;        /* of a MIG instance with its sisters */
    double part = instance() && !shared ? (double)instance()->size / MIG_EIGHTHS : 1;
    work_ns += amount / (RATE[off ? SCALAR : rate] * part);
}

/* Return the number of a fault's file where it is for this GPU: "PERCENT" or "PERCENT GPU". */
static double percent(const char *path) {
    char line[64];
    double number = 0;
    int gpu = -1;
    if (!read_line(path, line, sizeof line) || sscanf(line, "%lf %d", &number, &gpu) < 1)
        return 0;
    return gpu < 0 || gpu == physical() ? number : 0;
}

/* Return by how much all times are longer than they would be. */
static double slowness(void) {
    double slow = percent(FAULT "slow-percent");
    return slow > 0 && slow < 100 ? 100 / (100 - slow) : 1;
}

/* Where figures are to be steady, asking for work takes the same time, too. */
void take_at_least(const struct timespec *since, double microseconds) {
    struct timespec now;
    if (!steady())
        return;
    microseconds *= slowness();
    do
        clock_gettime(CLOCK_MONOTONIC, &now);
    while ((double)(now.tv_sec - since->tv_sec) * 1e6 + (double)(now.tv_nsec - since->tv_nsec) / 1e3 < microseconds);
}

PUBLIC int cuStreamCreate(void **out, unsigned flags) {
    (void)flags;
    PLAY();
    *out = malloc(1);
    return SUCCESS;
}

PUBLIC int cuStreamDestroy_v2(void *stream) {
    PLAY();
    free(stream);
    return SUCCESS;
}

PUBLIC int cuStreamSynchronize(void *stream) {
    (void)stream;
    PLAY();
    return !current ? INVALID_CONTEXT : sticky;
}

PUBLIC int cuStreamWaitEvent(void *stream, struct event *event, unsigned flags) {
    (void)stream, (void)event, (void)flags;
    PLAY();
    return SUCCESS;
}

PUBLIC int cuEventCreate(struct event **out, unsigned flags) {
    (void)flags;
    PLAY();
    *out = calloc(1, sizeof **out);
    return SUCCESS;
}

PUBLIC int cuEventRecord(struct event *event, void *stream) {
    (void)stream;
    PLAY();
    clock_gettime(CLOCK_MONOTONIC, &event->at);
    event->work_ns = work_ns;
    return SUCCESS;
}

PUBLIC int cuEventQuery(struct event *event) {
    (void)event;
    PLAY();
    return sticky;
}

PUBLIC int cuEventSynchronize(struct event *event) {
    (void)event;
    PLAY();
    return sticky;
}

PUBLIC int cuEventElapsedTime(float *milliseconds, struct event *from, struct event *to) {
    PLAY();
    double passed_ns = steady() ? to->work_ns - from->work_ns
        : (double)(to->at.tv_sec - from->at.tv_sec) * 1e9 + (double)(to->at.tv_nsec - from->at.tv_nsec);
    double place = (double)((asked++ * 0x9E3779B9U) >> 16) / 65536 - 0.5;      /* evenly between -0.5 and 0.5 */
    *milliseconds = (float)(passed_ns / 1e6 * slowness() * (1 + percent(FAULT "jitter-percent") / 100 * place));
    return SUCCESS;
}

PUBLIC int cuEventElapsedTime_v2(float *milliseconds, struct event *from, struct event *to) {
    return cuEventElapsedTime(milliseconds, from, to);
}

PUBLIC int cuEventDestroy_v2(struct event *event) {
    PLAY();
    free(event);
    return SUCCESS;
}
