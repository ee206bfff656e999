/* Shared by the parts of the stand-in libcuda.so.1: what they know of each other's state. */
#ifndef PLANNER_LAB_CUDA_H
#define PLANNER_LAB_CUDA_H

#include "mig.h"
#include <stdint.h>
#include <time.h>

#define PUBLIC __attribute__((visibility("default")))
/* Answer what a test plays for this call; nothing of the kind happens in a lab. */
#define PLAY() do { int played = play(__func__, physical()); if (played) return played; } while (0)
#define PLAY_ON(device) do { int played = play(__func__, bad_device(device) ? -1 : visible[device]); \
                             if (played) return played; } while (0)

enum {
    SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, DEVICE_UNAVAILABLE = 46, NO_DEVICE = 100,
    INVALID_DEVICE = 101, INVALID_CONTEXT = 201, NO_BINARY_FOR_GPU = 209, PEER_ACCESS_UNSUPPORTED = 217,
    INVALID_PTX = 218, INVALID_HANDLE = 400, NOT_FOUND = 500, ILLEGAL_ADDRESS = 700, PEER_ACCESS_ALREADY_ENABLED = 704,
    NOT_SUPPORTED = 801, SYSTEM_NOT_READY = 802, SYSTEM_DRIVER_MISMATCH = 803
};

typedef uint64_t Pointer;
struct context { int device; };

#define DEVICES_MAX 64
extern int initialised, visible[DEVICES_MAX], visible_count;
extern struct mig *instances[DEVICES_MAX];      /* of the visible ones; NULL is a whole GPU */
extern int sticky;                      /* an error of a kernel shows at the next synchronisation and stays, as on a GPU */
extern struct context contexts[DEVICES_MAX], *current;

/* The GPU that calls go to, as NVML numbers them; -1 without a context. */
static inline int physical(void) { return current ? visible[current->device] : -1; }
/* The MIG instance that calls go to; NULL where it is a whole GPU. */
static inline struct mig *instance(void) { return current ? instances[current->device] : NULL; }
/* The memory that calls go to. */
static inline size_t own_memory_bytes(void) {
    return (size_t)(instance() ? mig_memory_bytes(instance()) : memory_bytes());
}
static inline int bad_device(int device) {
    return !initialised ? NOT_INITIALIZED : device < 0 || device >= visible_count ? INVALID_DEVICE : 0;
}

/* cuda_memory.c: tell whether a range lies in one allocation. */
int mapped(Pointer address, size_t size);

/* cuda_time.c: the clock that fault `steady` replaces wall time with. Work is counted at nominal rates. */
enum rate { MEMORY, HOST_LINK, PEER_LINK, SCALAR, TENSOR_F16, TENSOR_S8, RATES };
int steady(void);
void count_work(enum rate rate, double amount);
void count_latency(double nanoseconds);
void take_at_least(const struct timespec *since, double microseconds);

/* cuda_kernels.c: what a kernel wrote, for faults that make it wrong. */
struct output { uint32_t *words; size_t count; };
struct kernel {
    const char *name;
    int (*run)(void **parameters, uint32_t threads, struct output *out);
};
const struct kernel *find_kernel(const char *name);

#endif
