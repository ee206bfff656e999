/* What tests of the gates put into the lab's stand-ins (planner/lab/standin/common.h), never shipped: the node's files lie
   below the directory in PLANNER_STANDIN_DIR, and every failure is played on demand. A line of its file `plays` is
   VERB NAME [NUMBER [GPU [AFTER]]], the GPU a number or `*`:
     call CALL CODE        the call answers with this error, after AFTER calls that went well
     hang CALL SECONDS     it sleeps; `stubborn` instead of `hang` ignores SIGTERM, too
     pause CALL MS         it sleeps for so many milliseconds, the first time in a process
     spin CALL US          it keeps the processor busy for so many microseconds, every time
     crash CALL SIGNAL     it kills its own process
     idle KERNEL           the kernel does nothing and says success
     constant KERNEL WORD  every word it writes is this one
     flip KERNEL WORD      bit 9 of this word of what it writes is wrong
     xid KERNEL NUMBER     the kernel's log gets a line with this Xid of the process, the first time in it
     value NAME NUMBER     what NVML (or a kernel) reads; `later` instead of `value`: once a kernel has run on this GPU */
#ifndef PLANNER_TEST_PLAYS_H
#define PLANNER_TEST_PLAYS_H

#include <signal.h>
#include <time.h>

#define PLAYS_MAX 64
struct line { char verb[16], name[64]; long number; int gpu, after; };
static struct line plays[PLAYS_MAX];
static int plays_count = -1;

/* Put the test's directory before a path of the node. */
static inline const char *real_path(const char *path, char *out, size_t size) {
    const char *root = getenv("PLANNER_STANDIN_DIR");
    snprintf(out, size, "%s%s", root ? root : "/nonexistent", path);
    return out;
}

/* Read the plays, once in a process. */
static inline int read_plays(void) {
    char path[512], text[256], gpu[16];
    if (plays_count >= 0)
        return plays_count;
    plays_count = 0;
    FILE *file = fopen(real_path("/plays", path, sizeof path), "re");
    while (file && plays_count < PLAYS_MAX && fgets(text, sizeof text, file)) {
        struct line *p = &plays[plays_count];
        memset(p, 0, sizeof *p);
        strcpy(gpu, "*");
        if (sscanf(text, "%15s %63s %li %15s %d", p->verb, p->name, &p->number, gpu, &p->after) < 2)
            continue;
        p->gpu = gpu[0] == '*' ? -1 : atoi(gpu);
        plays_count++;
    }
    if (file)
        fclose(file);
    return plays_count;
}

static inline struct line *find_play(const char *verb, const char *name, int gpu) {
    for (int i = 0; i < read_plays(); i++) {
        struct line *p = &plays[i];
        if (!strcmp(p->verb, verb) && (!strcmp(p->name, name) || !strcmp(p->name, "*")) && (p->gpu < 0 || p->gpu == gpu))
            return p;
    }
    return NULL;
}

static inline void marker(int gpu, char *out, size_t size) {
    char name[64];
    snprintf(name, sizeof name, "/run/planner-lab/ran-%d", gpu);
    real_path(name, out, size);
}

/* Use up the processor's time, of which waiting for other processes is no part. */
static inline void spin(long microseconds) {
    struct timespec since, now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &since);
    do
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    while ((now.tv_sec - since.tv_sec) * 1000000L + (now.tv_nsec - since.tv_nsec) / 1000 < microseconds);
}

/* Return the error that a call is to answer, 0 for none; it may also never return. */
static inline int play(const char *call, int gpu) {
    struct line *p = find_play("crash", call, gpu);
    if (p)
        kill(getpid(), (int)p->number);
    struct line *stubborn = find_play("stubborn", call, gpu);
    if (stubborn)
        signal(SIGTERM, SIG_IGN);
    p = stubborn ? stubborn : find_play("hang", call, gpu);
    for (long left = p ? p->number : 0; left > 0;)
        left = (long)sleep((unsigned)left);
    p = find_play("pause", call, gpu);
    if (p) {
        usleep((unsigned)p->number * 1000);
        p->number = 0;
    }
    p = find_play("spin", call, gpu);
    if (p)
        spin(p->number);
    p = find_play("call", call, gpu);
    return !p || p->after-- > 0 ? 0 : (p->after = 0, (int)p->number);
}

static inline long value_of(const char *name, int gpu, long otherwise) {
    char path[512];
    struct line *later = find_play("later", name, gpu), *now = find_play("value", name, gpu);
    marker(gpu, path, sizeof path);
    return later && !access(path, F_OK) ? later->number : now ? now->number : otherwise;
}

static inline int kernel_is_idle(const char *kernel, int gpu) {
    char path[512];
    for (int i = 0; i < read_plays(); i++)
        if (!strcmp(plays[i].verb, "later")) {
            marker(gpu, path, sizeof path);
            close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
            break;
        }
    struct line *xid = find_play("xid", kernel, gpu);
    FILE *log = xid && xid->number ? fopen(real_path("/dev/kmsg", path, sizeof path), "ae") : NULL;
    if (log) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        fprintf(log, "4,%d,%lld,-;NVRM: Xid (PCI:0000:%02X:00): %ld, pid=%d, name=python3, stand-in\n", 100 + gpu,
                now.tv_sec * 1000000LL + now.tv_nsec / 1000, 16 + gpu, xid->number, getpid());
        fclose(log);
        xid->number = 0;
    }
    return find_play("idle", kernel, gpu) != NULL;
}

static inline void spoil(const char *kernel, int gpu, unsigned *words, size_t count) {
    struct line *constant = find_play("constant", kernel, gpu), *flip = find_play("flip", kernel, gpu);
    for (size_t i = 0; constant && i < count; i++)
        words[i] = (unsigned)constant->number;
    if (flip && count)
        words[(size_t)flip->number % count] ^= 1U << 9;
}

#endif
