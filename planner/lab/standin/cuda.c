/* Stand-in libcuda.so.1. Memory is the host's, and one kernel is known by name: planner_mix is computed on the CPU.
   Everything else is refused with CUDA_ERROR_NOT_SUPPORTED: nothing pretends to have run. */
#include "common.h"
#include <ctype.h>
#include <stdint.h>
#include <time.h>

#define PUBLIC __attribute__((visibility("default")))

SLOT(version_slot, "@planner-lab-version@");
SLOT(cuda_slot, "@planner-lab-cuda@");

enum {
    SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, DEVICE_UNAVAILABLE = 46, NO_DEVICE = 100,
    INVALID_DEVICE = 101, INVALID_CONTEXT = 201, INVALID_PTX = 218, INVALID_HANDLE = 400,
    NOT_FOUND = 500, ILLEGAL_ADDRESS = 700, NOT_SUPPORTED = 801, SYSTEM_NOT_READY = 802, SYSTEM_DRIVER_MISMATCH = 803
};

#define DEVICES_MAX 64
typedef uint64_t Pointer;
struct context { int device; };
struct module { char *text; };
struct function { char name[128]; };
struct event { struct timespec at; };
struct block { unsigned char *start; size_t size; struct block *next; };

static int initialised, visible[DEVICES_MAX], visible_count, sticky;
static struct context contexts[DEVICES_MAX], *current;
static struct block *blocks;
static size_t allocated;

/* ---- devices ---- */

/* Honour CUDA_VISIBLE_DEVICES as the real one does: it ends at the first entry that names no device. */
static void choose_devices(void) {
    const char *wanted = getenv("CUDA_VISIBLE_DEVICES");
    int total = gpu_count();
    visible_count = 0;
    if (total > DEVICES_MAX)
        total = DEVICES_MAX;
    if (!wanted) {
        for (int i = 0; i < total; i++)
            visible[visible_count++] = i;
        return;
    }
    char copy[1024], uuid[64], *rest = copy, *part;
    snprintf(copy, sizeof copy, "%s", wanted);
    while ((part = strsep(&rest, ","))) {
        int found = -1;
        if (isdigit((unsigned char)*part))
            found = atoi(part) < total ? atoi(part) : -1;
        for (int i = 0; i < total && found < 0 && !strncmp(part, "GPU-", 4); i++) {
            gpu_uuid_text(i, uuid, sizeof uuid);
            found = !strncmp(uuid, part, strlen(part)) ? i : -1;
        }
        if (found < 0 || visible_count == DEVICES_MAX)
            return;
        visible[visible_count++] = found;
    }
}

PUBLIC int cuInit(unsigned flags) {
    char loaded[64], mine[64];
    if (flags)
        return INVALID_VALUE;
    if (!access(FAULT "cuinit-code", F_OK))
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
    char cuda[64];
    *version = cuda_number(slot_text(cuda_slot, cuda, sizeof cuda));
    return SUCCESS;
}

PUBLIC int cuDeviceGetCount(int *count) {
    if (!initialised)
        return NOT_INITIALIZED;
    *count = visible_count;
    return SUCCESS;
}

PUBLIC int cuDeviceGet(int *device, int ordinal) {
    if (!initialised)
        return NOT_INITIALIZED;
    if (ordinal < 0 || ordinal >= visible_count)
        return INVALID_DEVICE;
    *device = ordinal;
    return SUCCESS;
}

static int bad_device(int device) { return !initialised ? NOT_INITIALIZED : device < 0 || device >= visible_count ? INVALID_DEVICE : 0; }

PUBLIC int cuDeviceGetName(char *out, int size, int device) {
    int bad = bad_device(device);
    if (!bad)
        gpu_name(out, (size_t)size);
    return bad;
}

PUBLIC int cuDeviceGetUuid(unsigned char *out, int device) {
    int bad = bad_device(device);
    if (!bad)
        gpu_uuid(visible[device], out);
    return bad;
}

PUBLIC int cuDeviceGetUuid_v2(unsigned char *out, int device) { return cuDeviceGetUuid(out, device); }

static size_t memory_bytes(void) { return (size_t)read_number(CONFIG "memory-mib", 81559) << 20; }

PUBLIC int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    int bad = bad_device(device);
    if (!bad)
        *bytes = memory_bytes();
    return bad;
}

PUBLIC int cuDeviceGetAttribute(int *value, int attribute, int device) {
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
    case 16: *value = 1; break;                         /* multiprocessors: there are none */
    case 33: *value = 16 + visible[device]; break;      /* PCI bus */
    case 75: *value = major; break;
    case 76: *value = minor; break;
    default: *value = 0;
    }
    return SUCCESS;
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

PUBLIC int cuDevicePrimaryCtxRetain(struct context **out, int device) { return open_context(device, out); }
PUBLIC int cuDevicePrimaryCtxRelease_v2(int device) { return bad_device(device); }
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

/* An error of a kernel shows at the next synchronisation and stays, as on a GPU. */
PUBLIC int cuCtxSynchronize(void) { return !current ? INVALID_CONTEXT : sticky; }

/* ---- modules ---- */

/* Tell whether a text is PTX: its version directive stands behind nothing but blanks and comments. */
static int is_ptx(const char *text) {
    for (;;) {
        text += strspn(text, " \t\r\n");
        if (!strncmp(text, "//", 2))
            text += strcspn(text, "\n");
        else if (!strncmp(text, "/*", 2) && strstr(text, "*/"))
            text = strstr(text, "*/") + 2;
        else
            return !strncmp(text, ".version", 8);
    }
}

PUBLIC int cuModuleLoadData(struct module **out, const void *image) {
    if (!current)
        return INVALID_CONTEXT;
    if (!image)
        return INVALID_VALUE;
    if (!memcmp(image, "\177ELF", 4))
        return NOT_SUPPORTED;       /* machine code: there is no machine for it */
    if (!is_ptx(image))
        return INVALID_PTX;
    *out = malloc(sizeof **out);
    (*out)->text = strdup(image);
    return SUCCESS;
}

PUBLIC int cuModuleLoadDataEx(struct module **out, const void *image, unsigned n, void *options, void **values) {
    (void)n, (void)options, (void)values;
    return cuModuleLoadData(out, image);
}

PUBLIC int cuModuleUnload(struct module *module) {
    free(module->text);
    free(module);
    return SUCCESS;
}

PUBLIC int cuModuleGetFunction(struct function **out, struct module *module, const char *name) {
    size_t length = strlen(name);
    for (const char *p = module->text; (p = strstr(p, ".entry")); p += 6) {
        const char *word = p + 6 + strspn(p + 6, " \t\r\n");
        if (!strncmp(word, name, length) && !isalnum((unsigned char)word[length]) && word[length] != '_') {
            *out = calloc(1, sizeof **out);
            snprintf((*out)->name, sizeof (*out)->name, "%s", name);
            return SUCCESS;
        }
    }
    return NOT_FOUND;
}

/* ---- memory ---- */

/* Tell whether a range lies in one allocation. */
static int mapped(Pointer address, size_t size) {
    for (struct block *b = blocks; b; b = b->next)
        if (address >= (Pointer)(uintptr_t)b->start && address + size <= (Pointer)(uintptr_t)(b->start + b->size))
            return 1;
    return 0;
}

PUBLIC int cuMemAlloc_v2(Pointer *out, size_t size) {
    if (!current)
        return INVALID_CONTEXT;
    if (!size)
        return INVALID_VALUE;
    struct block *b = malloc(sizeof *b);
    b->start = allocated + size > memory_bytes() ? NULL : malloc(size);
    if (!b->start) {
        free(b);
        return OUT_OF_MEMORY;
    }
    memset(b->start, 0xcd, size);       /* fresh device memory holds nothing useful */
    b->size = size;
    b->next = blocks;
    blocks = b;
    allocated += size;
    *out = (Pointer)(uintptr_t)b->start;
    return SUCCESS;
}

PUBLIC int cuMemFree_v2(Pointer address) {
    for (struct block **link = &blocks; *link; link = &(*link)->next)
        if ((Pointer)(uintptr_t)(*link)->start == address) {
            struct block *gone = *link;
            *link = gone->next;
            allocated -= gone->size;
            free(gone->start);
            free(gone);
            return SUCCESS;
        }
    return INVALID_VALUE;
}

PUBLIC int cuMemGetInfo_v2(size_t *available, size_t *total) {
    *total = memory_bytes();
    *available = *total - allocated;
    return current ? SUCCESS : INVALID_CONTEXT;
}

PUBLIC int cuMemsetD8_v2(Pointer to, unsigned char value, size_t count) {
    if (!mapped(to, count))
        return INVALID_VALUE;
    memset((void *)(uintptr_t)to, value, count);
    return SUCCESS;
}

PUBLIC int cuMemsetD32_v2(Pointer to, unsigned value, size_t count) {
    if (!mapped(to, count * 4))
        return INVALID_VALUE;
    for (size_t i = 0; i < count; i++)
        ((uint32_t *)(uintptr_t)to)[i] = value;
    return SUCCESS;
}

PUBLIC int cuMemcpyHtoD_v2(Pointer to, const void *from, size_t size) {
    if (sticky || !mapped(to, size))
        return sticky ? sticky : INVALID_VALUE;
    memcpy((void *)(uintptr_t)to, from, size);
    return SUCCESS;
}

PUBLIC int cuMemcpyDtoH_v2(void *to, Pointer from, size_t size) {
    if (sticky || !mapped(from, size))
        return sticky ? sticky : INVALID_VALUE;
    memcpy(to, (void *)(uintptr_t)from, size);
    return SUCCESS;
}

PUBLIC int cuMemcpyDtoD_v2(Pointer to, Pointer from, size_t size) {
    if (sticky || !mapped(from, size) || !mapped(to, size))
        return sticky ? sticky : INVALID_VALUE;
    memmove((void *)(uintptr_t)to, (void *)(uintptr_t)from, size);
    return SUCCESS;
}

PUBLIC int cuMemcpyHtoDAsync_v2(Pointer to, const void *from, size_t size, void *stream) {
    (void)stream;
    return cuMemcpyHtoD_v2(to, from, size);
}

PUBLIC int cuMemcpyDtoHAsync_v2(void *to, Pointer from, size_t size, void *stream) {
    (void)stream;
    return cuMemcpyDtoH_v2(to, from, size);
}

PUBLIC int cuMemAllocHost_v2(void **out, size_t size) { return (*out = malloc(size)) ? SUCCESS : OUT_OF_MEMORY; }

PUBLIC int cuMemFreeHost(void *address) {
    free(address);
    return SUCCESS;
}

/* ---- kernels ---- */

/* The one kernel this library knows; threads beyond the launch do not run. */
static void planner_mix(uint32_t *out, uint32_t seed, uint32_t count, uint32_t rounds) {
    for (uint32_t i = 0; i < count; i++) {
        uint32_t x = seed ^ (i * 0x9E3779B9U);
        for (uint32_t round = 0; round < rounds; round++) {
            x ^= x << 13;
            x ^= x >> 17;
            x ^= x << 5;
            x = x * 0x85EBCA6BU + 0xC2B2AE35U;
        }
        out[i] = x;
    }
}

PUBLIC int cuLaunchKernel(struct function *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                          unsigned bz, unsigned shared, void *stream, void **parameters, void **extra) {
    (void)shared, (void)stream;
    if (!current)
        return INVALID_CONTEXT;
    if (!function)
        return INVALID_HANDLE;
    if (sticky)
        return sticky;
    if (strcmp(function->name, "planner_mix"))
        return NOT_SUPPORTED;
    if (!parameters || extra || !gx || !bx || gy != 1 || gz != 1 || by != 1 || bz != 1 || bx > 1024)
        return INVALID_VALUE;
    Pointer out = *(Pointer *)parameters[0];
    uint32_t seed = *(uint32_t *)parameters[1], n = *(uint32_t *)parameters[2], rounds = *(uint32_t *)parameters[3];
    uint64_t threads = (uint64_t)gx * bx;
    uint32_t count = threads < n ? (uint32_t)threads : n;
    if (!mapped(out, (size_t)count * 4)) {
        sticky = ILLEGAL_ADDRESS;
        return SUCCESS;
    }
    planner_mix((uint32_t *)(uintptr_t)out, seed, count, rounds);
    if (count && fault_on_gpu(FAULT "gate-wrong", visible[current->device]))
        ((uint32_t *)(uintptr_t)out)[seed % count] ^= 1U << (seed % 32);
    return SUCCESS;
}

/* ---- streams and events: everything is done when a call returns ---- */

PUBLIC int cuStreamCreate(void **out, unsigned flags) {
    (void)flags;
    *out = malloc(1);
    return SUCCESS;
}

PUBLIC int cuStreamDestroy_v2(void *stream) {
    free(stream);
    return SUCCESS;
}

PUBLIC int cuStreamSynchronize(void *stream) {
    (void)stream;
    return cuCtxSynchronize();
}

PUBLIC int cuEventCreate(struct event **out, unsigned flags) {
    (void)flags;
    *out = calloc(1, sizeof **out);
    return SUCCESS;
}

PUBLIC int cuEventRecord(struct event *event, void *stream) {
    (void)stream;
    clock_gettime(CLOCK_MONOTONIC, &event->at);
    return SUCCESS;
}

PUBLIC int cuEventQuery(struct event *event) {
    (void)event;
    return sticky;
}

PUBLIC int cuEventSynchronize(struct event *event) { return cuEventQuery(event); }

PUBLIC int cuEventElapsedTime(float *milliseconds, struct event *from, struct event *to) {
    *milliseconds = (float)((double)(to->at.tv_sec - from->at.tv_sec) * 1e3 + (double)(to->at.tv_nsec - from->at.tv_nsec) / 1e6);
    return SUCCESS;
}

PUBLIC int cuEventElapsedTime_v2(float *milliseconds, struct event *from, struct event *to) {
    return cuEventElapsedTime(milliseconds, from, to);
}

PUBLIC int cuEventDestroy_v2(struct event *event) {
    free(event);
    return SUCCESS;
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
    {INVALID_PTX, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {SYSTEM_NOT_READY, "CUDA_ERROR_SYSTEM_NOT_READY", "system not yet initialized"},
    {SYSTEM_DRIVER_MISMATCH, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "system has unsupported display driver / cuda driver combination"},
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
