/* Preloaded into every process of a lab node, for what no namespace carries: the kernel release that uname(2) tells, and
   the wall clock. Files are read once, when a process starts: sshd's sandbox allows no opens afterwards. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

static long offset_s;
static char release[65];
static int (*next_clock)(clockid_t, struct timespec *);

static int slurp(const char *path, char *out, size_t size) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return 0;
    ssize_t got = read(file, out, size - 1);
    close(file);
    out[got > 0 ? got : 0] = 0;
    out[strcspn(out, "\n")] = 0;
    return got > 0;
}

__attribute__((constructor)) static void start(void) {
    char line[32];
    next_clock = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    if (slurp("/etc/planner-lab/clock-offset", line, sizeof line))
        offset_s = atol(line);
    slurp("/run/planner-lab/kernel-release", release, sizeof release);
}

int uname(struct utsname *out) {
    int failed = (int)syscall(SYS_uname, out);
    if (!failed && release[0])
        memcpy(out->release, release, sizeof release);
    return failed;
}

int clock_gettime(clockid_t clock, struct timespec *out) {
    int failed = next_clock ? next_clock(clock, out) : (int)syscall(SYS_clock_gettime, clock, out);
    if (!failed && offset_s && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        out->tv_sec += offset_s;
    return failed;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out)
        *out = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}
