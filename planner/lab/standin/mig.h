/* MIG as this node pretends to have it. A line of the configuration `mig` is a compute instance:
     GPU NUMBER PROFILE START SIZE GPU_INSTANCE COMPUTE_INSTANCE [SERIAL]
   NUMBER as NVML counts the GPU's devices, START and SIZE in eighths of its memory; another SERIAL is another UUID, as of
   an instance that was destroyed and made again. A line with a GPU alone: MIG is on there, and there is no instance. */
#ifndef PLANNER_LAB_MIG_H
#define PLANNER_LAB_MIG_H

#include "common.h"

#define MIG_MAX 64
#define MIG_EIGHTHS 8

struct mig { int gpu, number, start, size, gpu_instance, compute_instance; long serial; char profile[24]; };
static struct mig mig_lines[MIG_MAX];
static int mig_count = -1;

/* Read the configuration, once in a process; a GPU alone has the number -1. */
static inline int read_mig(void) {
    char path[512], text[128];
    if (mig_count >= 0)
        return mig_count;
    mig_count = 0;
    FILE *file = fopen(real_path(CONFIG "mig", path, sizeof path), "re");
    while (file && mig_count < MIG_MAX && fgets(text, sizeof text, file)) {
        struct mig *m = &mig_lines[mig_count];
        memset(m, 0, sizeof *m);
        m->number = -1;
        int read = sscanf(text, "%d %d %23s %d %d %d %d %ld", &m->gpu, &m->number, m->profile, &m->start, &m->size,
                          &m->gpu_instance, &m->compute_instance, &m->serial);
        mig_count += read == 1 || read >= 7;
    }
    if (file)
        fclose(file);
    return mig_count;
}

/* Whether MIG is on: 1, 0, or -1 where this GPU has no such thing. */
static inline int mig_mode(int gpu) {
    int usual = there(CONFIG "mig") ? 0 : -1;
    for (int i = 0; i < read_mig(); i++)
        if (mig_lines[i].gpu == gpu)
            usual = 1;
    return (int)value_of("mig", gpu, usual);
}

/* Whether a line is an instance that is there: a test may take one away. */
static inline int mig_exists(const struct mig *m) {
    return m->number >= 0 && value_of("mig_gone", m->gpu, -1) != m->number;
}

/* Find the instance with a number (-1: the first one); NULL where there is none, or MIG is off. */
static inline struct mig *find_mig(int gpu, int number) {
    for (int i = 0; mig_mode(gpu) == 1 && i < read_mig(); i++)
        if (mig_lines[i].gpu == gpu && mig_exists(&mig_lines[i]) && (number < 0 || mig_lines[i].number == number))
            return &mig_lines[i];
    return NULL;
}

static inline void mig_uuid(const struct mig *m, unsigned char out[16]) {
    gpu_uuid(m->gpu, out);
    unsigned long long mix = 1469598103934665603ULL + (unsigned long long)m->serial;
    for (int i = 0; i < 16; i++) {
        mix = (mix ^ (unsigned)(out[i] + 257 * m->gpu_instance + 8191 * m->compute_instance)) * 1099511628211ULL;
        out[i] = (unsigned char)(mix >> 40);
    }
}

static inline void mig_uuid_text(const struct mig *m, char *out, size_t size) {
    unsigned char u[16];
    mig_uuid(m, u);
    uuid_text("MIG", u, out, size);
}

static inline unsigned long long mig_memory_bytes(const struct mig *m) {
    return memory_bytes() / MIG_EIGHTHS * (unsigned long long)m->size;
}

/* "NVIDIA H200 (stand-in)" -> "NVIDIA H200 MIG 1g.18gb (stand-in)". */
static inline void mig_name(const struct mig *m, char *out, size_t size) {
    char line[96] = "NVIDIA GPU";
    read_line(CONFIG "gpu-name", line, sizeof line);
    snprintf(out, size, "%s MIG %s (stand-in)", line, m->profile);
}

/* Tell whether a fault names this instance: "GPU NUMBER", and perhaps one number more. */
static inline int fault_on_mig(const char *path, const struct mig *m, unsigned *more) {
    char line[64];
    int gpu = -1, number = -1;
    return read_line(path, line, sizeof line) && sscanf(line, "%d %d %u", &gpu, &number, more) >= 2
           && gpu == m->gpu && number == m->number;
}

#endif
