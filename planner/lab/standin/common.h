/* Shared by the stand-ins: small files that say what this node pretends to be, and the slots that the builder fills. */
#ifndef PLANNER_LAB_COMMON_H
#define PLANNER_LAB_COMMON_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONFIG "/etc/planner-lab/"
#define FAULT "/etc/planner-lab/fault/"
#define RUN "/run/planner-lab/"

/* The builder writes the package's versions over these texts; volatile keeps the compiler from copying them. */
#define SLOT(name, mark) __attribute__((used)) static volatile const char name[64] = mark

/* Copy a slot's text: `static` buffers of callers stay valid for the life of the process. */
static inline const char *slot_text(const volatile char *slot, char *out, size_t size) {
    size_t i = 0;
    while (i + 1 < size && slot[i]) {
        out[i] = slot[i];
        i++;
    }
    out[i] = 0;
    return out;
}

/* Tests of the gates bring a header that puts another directory in the place of the node's own, and plays every error of
   every call (tests/gates/standin/plays.h). In a lab none of it is there, and these are the calls' plain answers. */
#ifdef PLANNER_PLAYS
#include "plays.h"
#else
static inline const char *real_path(const char *path, char *out, size_t size) { (void)out, (void)size; return path; }
static inline int play(const char *call, int gpu) { (void)call, (void)gpu; return 0; }
static inline long value_of(const char *name, int gpu, long otherwise) { (void)name, (void)gpu; return otherwise; }
static inline int kernel_is_idle(const char *kernel, int gpu) { (void)kernel, (void)gpu; return 0; }
static inline void spoil(const char *kernel, int gpu, unsigned *words, size_t count) {
    (void)kernel, (void)gpu, (void)words, (void)count;
}
#endif

static inline int there(const char *path) {
    char real[512];
    return !access(real_path(path, real, sizeof real), F_OK);
}

/* Read the first line of a file without its newline; returns whether the file is there. */
static inline int read_line(const char *path, char *out, size_t size) {
    char real[512];
    int file = open(real_path(path, real, sizeof real), O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return 0;
    ssize_t got = read(file, out, size - 1);
    close(file);
    out[got > 0 ? got : 0] = 0;
    out[strcspn(out, "\n")] = 0;
    return 1;
}

/* Read a number from a small file; `otherwise` when there is none. */
static inline long read_number(const char *path, long otherwise) {
    char line[64];
    return read_line(path, line, sizeof line) && line[0] ? atol(line) : otherwise;
}

static inline int gpu_count(void) { return (int)read_number(CONFIG "gpus", 0); }

static inline unsigned long long memory_bytes(void) {
    return (unsigned long long)read_number(CONFIG "memory-mib", 81559) << 20;
}

/* Tell whether a fault that names a GPU (an empty file names the first) is set for this one. */
static inline int fault_on_gpu(const char *path, int index) {
    char line[64];
    return read_line(path, line, sizeof line) && atoi(line) == index;
}

static inline void gpu_name(char *out, size_t size) {
    char line[96] = "NVIDIA GPU";
    read_line(CONFIG "gpu-name", line, sizeof line);
    snprintf(out, size, "%s (stand-in)", line);
}

static inline void compute_capability(int *major, int *minor) {
    char line[32] = "9.0";
    read_line(CONFIG "compute-capability", line, sizeof line);
    if (sscanf(line, "%d.%d", major, minor) != 2) {
        *major = 9;
        *minor = 0;
    }
}

/* A UUID of this machine and GPU: the same after every boot, another one on every machine. */
static inline void gpu_uuid(int index, unsigned char out[16]) {
    char id[64] = "";
    read_line("/etc/machine-id", id, sizeof id);
    unsigned long long mix = 1469598103934665603ULL;
    for (const char *p = id; *p; p++)
        mix = (mix ^ (unsigned char)*p) * 1099511628211ULL;
    for (int i = 0; i < 16; i++) {
        mix = (mix ^ (unsigned)(i * 31 + index)) * 1099511628211ULL;
        out[i] = (unsigned char)(mix >> 40);
    }
}

static inline void uuid_text(const char *kind, const unsigned char u[16], char *out, size_t size) {
    snprintf(out, size, "%s-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", kind, u[0], u[1], u[2],
             u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
}

static inline void gpu_uuid_text(int index, char *out, size_t size) {
    unsigned char u[16];
    gpu_uuid(index, u);
    uuid_text("GPU", u, out, size);
}

/* The driver that is loaded now; returns 0 when none is. */
static inline int loaded_driver(char *out, size_t size) { return read_line(RUN "mod/nvidia", out, size); }

/* On machines with NVSwitch: whether a fabric manager of the loaded driver's version has set the fabric up. */
static inline int fabric_ready(const char *driver) {
    char manager[64];
    return read_line(RUN "fabric", manager, sizeof manager) && !strcmp(manager, driver);
}

static inline int has_nvswitch(void) { return there(CONFIG "nvswitch"); }

/* "12.8" -> 12080, the number that NVML and the driver API report. */
static inline int cuda_number(const char *text) {
    int major = 0, minor = 0;
    sscanf(text, "%d.%d", &major, &minor);
    return major * 1000 + minor * 10;
}

#endif
