/* Stand-in libcuda.so.1. Memory is the host's, and the gates' kernels are known by name and computed on the CPU: there is
   no GPU, and every device's name says so. Everything else is refused with CUDA_ERROR_NOT_SUPPORTED: nothing pretends to
   have run. This part: devices, contexts, errors. */
#include "cuda.h"
#include <ctype.h>

/* Only here: the builder fills the first one that it finds. */
SLOT(version_slot, "@planner-lab-version@");
SLOT(cuda_slot, "@planner-lab-cuda@");

int initialised, visible[DEVICES_MAX], visible_count, sticky;
struct mig *instances[DEVICES_MAX];
struct context contexts[DEVICES_MAX], *current;

/* ---- devices ---- */

/* Make a GPU visible, or an instance of it; where MIG is on without a word about which, the first one. Returns whether
   more may follow: a process sees one MIG instance. */
static int show(int gpu, struct mig *chosen) {
    if (gpu < 0 || visible_count == DEVICES_MAX || value_of("hidden_from_cuda", gpu, 0))
        return 0;
    if (!chosen && mig_mode(gpu) == 1 && !(chosen = find_mig(gpu, -1)))
        return 0;
    instances[visible_count] = chosen;
    visible[visible_count++] = gpu;
    return !chosen;
}

/* Find what a word of CUDA_VISIBLE_DEVICES names: the GPU, and its instance where it names one; -1 where nothing. */
static int named(const char *word, int total, struct mig **chosen) {
    char uuid[64];
    if (isdigit((unsigned char)*word))
        return atoi(word) < total ? atoi(word) : -1;
    for (int i = 0; i < total && !strncmp(word, "GPU-", 4); i++) {
        gpu_uuid_text(i, uuid, sizeof uuid);
        if (!strncmp(uuid, word, strlen(word)))
            return i;
    }
    for (int i = 0; i < read_mig() && !strncmp(word, "MIG-", 4); i++) {
        struct mig *m = &mig_lines[i];
        mig_uuid_text(m, uuid, sizeof uuid);
        if (m->number >= 0 && m->gpu < total && mig_mode(m->gpu) == 1 && !strncmp(uuid, word, strlen(word))) {
            *chosen = m;
            return m->gpu;
        }
    }
    return -1;
}

/* Honour CUDA_VISIBLE_DEVICES as the real one does: it ends at the first entry that names no device. */
static void choose_devices(void) {
    const char *wanted = getenv("CUDA_VISIBLE_DEVICES");
    int total = gpu_count();
    visible_count = 0;
    if (total > DEVICES_MAX)
        total = DEVICES_MAX;
    if (!wanted) {
        for (int i = 0; i < total; i++)
            if (!show(i, NULL) && visible_count && instances[visible_count - 1])
                return;
        return;
    }
    char copy[1024], *rest = copy, *part;
    snprintf(copy, sizeof copy, "%s", wanted);
    while ((part = strsep(&rest, ","))) {
        struct mig *chosen = NULL;
        int gpu = named(part, total, &chosen);
        if (!show(gpu, chosen))
            return;
    }
}

PUBLIC int cuInit(unsigned flags) {
    char loaded[64], mine[64];
    if (flags)
        return INVALID_VALUE;
    PLAY();
    if (there(FAULT "cuinit-code"))
        return (int)read_number(FAULT "cuinit-code", 999);
    if (!loaded_driver(loaded, sizeof loaded))
        return NO_DEVICE;
    if (strcmp(loaded, slot_text(version_slot, mine, sizeof mine)))
        return SYSTEM_DRIVER_MISMATCH;
    if (has_nvswitch() && !fabric_ready(loaded))
        return SYSTEM_NOT_READY;
    choose_devices();
    if (!visible_count)
        return NO_DEVICE;
    initialised = 1;
    return SUCCESS;
}

PUBLIC int cuDriverGetVersion(int *version) {
    PLAY();
    char cuda[64];
    *version = cuda_number(slot_text(cuda_slot, cuda, sizeof cuda));
    return SUCCESS;
}

PUBLIC int cuDeviceGetCount(int *count) {
    PLAY();
    if (!initialised)
        return NOT_INITIALIZED;
    *count = visible_count;
    return SUCCESS;
}

PUBLIC int cuDeviceGet(int *device, int ordinal) {
    PLAY();
    if (!initialised)
        return NOT_INITIALIZED;
    if (ordinal < 0 || ordinal >= visible_count)
        return INVALID_DEVICE;
    *device = ordinal;
    return SUCCESS;
}

PUBLIC int cuDeviceGetName(char *out, int size, int device) {
    PLAY_ON(device);
    int bad = bad_device(device);
    if (!bad && instances[device])
        mig_name(instances[device], out, (size_t)size);
    else if (!bad)
        gpu_name(out, (size_t)size);
    return bad;
}

PUBLIC int cuDeviceGetUuid(unsigned char *out, int device) {
    PLAY_ON(device);
    int bad = bad_device(device);
    if (!bad)
        gpu_uuid(visible[device], out);
    return bad;
}

/* Of a MIG instance the elder call tells the whole GPU, this one the instance. */
PUBLIC int cuDeviceGetUuid_v2(unsigned char *out, int device) {
    int bad = cuDeviceGetUuid(out, device);
    if (!bad && instances[device])
        mig_uuid(instances[device], out);
    return bad;
}

PUBLIC int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    PLAY_ON(device);
    int bad = bad_device(device);
    if (!bad)
        *bytes = (size_t)(instances[device] ? mig_memory_bytes(instances[device]) : memory_bytes());
    return bad;
}

PUBLIC int cuDeviceGetAttribute(int *value, int attribute, int device) {
    PLAY_ON(device);
    int bad = bad_device(device), major, minor;
    if (bad)
        return bad;
    compute_capability(&major, &minor);
    switch (attribute) {
    case 1: *value = 1024; break;                       /* threads in a block */
    case 2: case 3: *value = 1024; break;               /* block dimensions */
    case 4: *value = 64; break;
    case 5: *value = 2147483647; break;                 /* grid dimensions */
    case 6: case 7: *value = 65535; break;
    case 10: *value = 32; break;                        /* warp */
    case 16: *value = 1; break;                         /* multiprocessors: as good as none */
    case 33: *value = 16 + visible[device]; break;      /* PCI bus */
    case 75: *value = major; break;
    case 76: *value = minor; break;
    default: *value = 0;
    }
    return SUCCESS;
}

PUBLIC int cuDeviceGetPCIBusId(char *out, int size, int device) {
    PLAY_ON(device);
    int bad = bad_device(device);
    if (!bad)
        snprintf(out, (size_t)size, "0000:%02X:00.0", 16 + visible[device]);
    return bad;
}

/* ---- contexts ---- */

static int open_context(int device, struct context **out) {
    int bad = bad_device(device);
    if (bad)
        return bad;
    if (fault_on_gpu(FAULT "gpu-lost", visible[device]))
        return DEVICE_UNAVAILABLE;
    contexts[device].device = device;
    *out = &contexts[device];
    return SUCCESS;
}

PUBLIC int cuDevicePrimaryCtxRetain(struct context **out, int device) {
    PLAY_ON(device);
    return open_context(device, out);
}

PUBLIC int cuDevicePrimaryCtxRelease_v2(int device) {
    PLAY_ON(device);
    return bad_device(device);
}

PUBLIC int cuDevicePrimaryCtxRelease(int device) { return bad_device(device); }
PUBLIC int cuDevicePrimaryCtxReset_v2(int device) { return bad_device(device); }

PUBLIC int cuCtxCreate_v2(struct context **out, unsigned flags, int device) {
    int bad = open_context(device, out);
    (void)flags;
    if (!bad)
        current = *out;
    return bad;
}

PUBLIC int cuCtxDestroy_v2(struct context *context) {
    if (current == context)
        current = NULL;
    return SUCCESS;
}

PUBLIC int cuCtxSetCurrent(struct context *context) {
    PLAY();
    if (!initialised)
        return NOT_INITIALIZED;
    current = context;
    return SUCCESS;
}

PUBLIC int cuCtxGetCurrent(struct context **out) {
    *out = current;
    return initialised ? SUCCESS : NOT_INITIALIZED;
}

PUBLIC int cuCtxPushCurrent_v2(struct context *context) { return cuCtxSetCurrent(context); }

PUBLIC int cuCtxPopCurrent_v2(struct context **out) {
    if (out)
        *out = current;
    current = NULL;
    return SUCCESS;
}

PUBLIC int cuCtxGetDevice(int *device) {
    if (!current)
        return INVALID_CONTEXT;
    *device = current->device;
    return SUCCESS;
}

PUBLIC int cuCtxSynchronize(void) {
    PLAY();
    return !current ? INVALID_CONTEXT : sticky;
}

/* ---- errors ---- */

static const struct { int code; const char *name, *text; } ERRORS[] = {
    {SUCCESS, "CUDA_SUCCESS", "no error"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {DEVICE_UNAVAILABLE, "CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable"},
    {NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {NO_BINARY_FOR_GPU, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {PEER_ACCESS_UNSUPPORTED, "CUDA_ERROR_PEER_ACCESS_UNSUPPORTED", "peer access is not supported between these two devices"},
    {214, "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"},
    {INVALID_PTX, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {221, "CUDA_ERROR_JIT_COMPILER_NOT_FOUND", "PTX JIT compiler library not found"},
    {222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain."},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {PEER_ACCESS_ALREADY_ENABLED, "CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED", "peer access is already enabled"},
    {719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {SYSTEM_NOT_READY, "CUDA_ERROR_SYSTEM_NOT_READY", "system not yet initialized"},
    {SYSTEM_DRIVER_MISMATCH, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "system has unsupported display driver / cuda driver combination"},
    {804, "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE", "forward compatibility was attempted on non supported HW"},
    {805, "CUDA_ERROR_MPS_CONNECTION_FAILED", "MPS client failed to connect to the MPS control daemon or the MPS server"},
    {999, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

PUBLIC int cuGetErrorName(int code, const char **out) {
    for (size_t i = 0; i < sizeof ERRORS / sizeof *ERRORS; i++)
        if (ERRORS[i].code == code) {
            *out = ERRORS[i].name;
            return SUCCESS;
        }
    *out = NULL;
    return INVALID_VALUE;
}

PUBLIC int cuGetErrorString(int code, const char **out) {
    for (size_t i = 0; i < sizeof ERRORS / sizeof *ERRORS; i++)
        if (ERRORS[i].code == code) {
            *out = ERRORS[i].text;
            return SUCCESS;
        }
    *out = NULL;
    return INVALID_VALUE;
}
