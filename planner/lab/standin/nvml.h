/* Shared by the parts of the stand-in libnvidia-ml.so.1. */
#ifndef PLANNER_LAB_NVML_H
#define PLANNER_LAB_NVML_H

#include "mig.h"

#define PUBLIC __attribute__((visibility("default")))
/* Answer what a test plays for this call on this GPU; nothing of the kind happens in a lab. */
#define PLAY_ON(gpu) do { int played = play(__func__, gpu); if (played) return played; } while (0)
#define PLAY() PLAY_ON(index_of(device))

typedef int Return;
typedef void *Device;

enum {
    SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15, RESET_REQUIRED = 16, LIB_RM_VERSION_MISMATCH = 18
};

/* The driver that was loaded when NVML started. */
extern char loaded[64];

/* A handle holds the GPU's number, and above it that of a MIG device; both one higher, so that 0 is none. */
enum { MIG_SHIFT = 16 };
static inline Device handle_of(int gpu, int number) { return (Device)(long)((gpu + 1) | (number + 1) << MIG_SHIFT); }

/* The GPU behind a handle; of a MIG device its own. */
static inline int index_of(Device device) { return (int)((long)device & ((1L << MIG_SHIFT) - 1)) - 1; }

/* The MIG device behind a handle; NULL where it is a whole GPU. */
static inline struct mig *mig_of(Device device) {
    int number = (int)((long)device >> MIG_SHIFT) - 1;
    return number < 0 ? NULL : find_mig(index_of(device), number);
}
static inline unsigned long long memory_of(Device device) {
    return mig_of(device) ? mig_memory_bytes(mig_of(device)) : memory_bytes();
}

#endif
