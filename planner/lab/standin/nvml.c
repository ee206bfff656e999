/* Stand-in libnvidia-ml.so.1: no GPU behind it, the real error codes, and names that say "(stand-in)". */
#include "common.h"

#define PUBLIC __attribute__((visibility("default")))

SLOT(version_slot, "@planner-lab-version@");
SLOT(cuda_slot, "@planner-lab-cuda@");

typedef int Return;
typedef void *Device;

enum {
    SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15, LIB_RM_VERSION_MISMATCH = 18
};

static int initialised;
static char loaded[64];

static int index_of(Device device) { return (int)(long)device - 1; }

PUBLIC Return nvmlInitWithFlags(unsigned flags) {
    char mine[64];
    long seconds = read_number(FAULT "smi-hang", there(FAULT "smi-hang") ? 3600 : 0);
    (void)flags;
    if (seconds)
        sleep((unsigned)seconds);
    if (!loaded_driver(loaded, sizeof loaded))
        return DRIVER_NOT_LOADED;
    if (strcmp(loaded, slot_text(version_slot, mine, sizeof mine)))
        return LIB_RM_VERSION_MISMATCH;
    initialised = 1;
    return SUCCESS;
}

PUBLIC Return nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
PUBLIC Return nvmlInit(void) { return nvmlInitWithFlags(0); }

PUBLIC Return nvmlShutdown(void) {
    if (!initialised)
        return UNINITIALIZED;
    initialised = 0;
    return SUCCESS;
}

PUBLIC const char *nvmlErrorString(Return code) {
    switch (code) {
    case SUCCESS: return "Success";
    case UNINITIALIZED: return "Uninitialized";
    case INVALID_ARGUMENT: return "Invalid Argument";
    case NOT_SUPPORTED: return "Not Supported";
    case NOT_FOUND: return "Not Found";
    case INSUFFICIENT_SIZE: return "Insufficient Size";
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case GPU_IS_LOST: return "GPU is lost";
    case LIB_RM_VERSION_MISMATCH: return "Driver/library version mismatch";
    default: return "Unknown Error";
    }
}

static Return put(char *out, unsigned size, const char *text) {
    if (strlen(text) >= size)
        return INSUFFICIENT_SIZE;
    strcpy(out, text);
    return SUCCESS;
}

PUBLIC Return nvmlSystemGetDriverVersion(char *out, unsigned size) {
    return initialised ? put(out, size, loaded) : UNINITIALIZED;
}

/* Answers before initialisation, as the real one does: it is the library's own version. */
PUBLIC Return nvmlSystemGetNVMLVersion(char *out, unsigned size) {
    char version[64], cuda[64], text[160];
    slot_text(version_slot, version, sizeof version);
    slot_text(cuda_slot, cuda, sizeof cuda);
    snprintf(text, sizeof text, "%d.%s-standin", atoi(cuda), version);
    return put(out, size, text);
}

PUBLIC Return nvmlSystemGetCudaDriverVersion(int *out) {
    char cuda[64];
    *out = cuda_number(slot_text(cuda_slot, cuda, sizeof cuda));
    return SUCCESS;
}

PUBLIC Return nvmlSystemGetCudaDriverVersion_v2(int *out) { return nvmlSystemGetCudaDriverVersion(out); }

PUBLIC Return nvmlDeviceGetCount_v2(unsigned *count) {
    if (!initialised)
        return UNINITIALIZED;
    *count = (unsigned)gpu_count();
    return SUCCESS;
}

PUBLIC Return nvmlDeviceGetCount(unsigned *count) { return nvmlDeviceGetCount_v2(count); }

PUBLIC Return nvmlDeviceGetHandleByIndex_v2(unsigned index, Device *device) {
    if (!initialised)
        return UNINITIALIZED;
    if ((int)index >= gpu_count())
        return INVALID_ARGUMENT;
    if (fault_on_gpu(FAULT "gpu-lost", (int)index))
        return GPU_IS_LOST;
    *device = (Device)(long)(index + 1);
    return SUCCESS;
}

PUBLIC Return nvmlDeviceGetHandleByIndex(unsigned index, Device *device) {
    return nvmlDeviceGetHandleByIndex_v2(index, device);
}

PUBLIC Return nvmlDeviceGetHandleByUUID(const char *uuid, Device *device) {
    char text[64];
    for (int i = 0; i < gpu_count(); i++) {
        gpu_uuid_text(i, text, sizeof text);
        if (!strcmp(text, uuid))
            return nvmlDeviceGetHandleByIndex_v2((unsigned)i, device);
    }
    return NOT_FOUND;
}

PUBLIC Return nvmlDeviceGetIndex(Device device, unsigned *index) {
    *index = (unsigned)index_of(device);
    return SUCCESS;
}

PUBLIC Return nvmlDeviceGetMinorNumber(Device device, unsigned *minor) { return nvmlDeviceGetIndex(device, minor); }

PUBLIC Return nvmlDeviceGetName(Device device, char *out, unsigned size) {
    char name[128];
    (void)device;
    gpu_name(name, sizeof name);
    return put(out, size, name);
}

PUBLIC Return nvmlDeviceGetUUID(Device device, char *out, unsigned size) {
    char text[64];
    gpu_uuid_text(index_of(device), text, sizeof text);
    return put(out, size, text);
}

PUBLIC Return nvmlDeviceGetSerial(Device device, char *out, unsigned size) {
    unsigned char u[16];
    char text[32];
    gpu_uuid(index_of(device), u);
    snprintf(text, sizeof text, "standin-%02x%02x%02x%02x", u[12], u[13], u[14], u[15]);
    return put(out, size, text);
}

PUBLIC Return nvmlDeviceGetVbiosVersion(Device device, char *out, unsigned size) {
    (void)device;
    return put(out, size, "00.00.00.00.00-standin");
}

PUBLIC Return nvmlDeviceGetCudaComputeCapability(Device device, int *major, int *minor) {
    (void)device;
    compute_capability(major, minor);
    return SUCCESS;
}

struct memory { unsigned long long total, free, used; };
struct memory_v2 { unsigned version; unsigned long long total, reserved, free, used; };

PUBLIC Return nvmlDeviceGetMemoryInfo(Device device, struct memory *out) {
    (void)device;
    out->total = out->free = memory_bytes();
    out->used = 0;
    return SUCCESS;
}

PUBLIC Return nvmlDeviceGetMemoryInfo_v2(Device device, struct memory_v2 *out) {
    (void)device;
    out->total = out->free = memory_bytes();
    out->reserved = out->used = 0;
    return SUCCESS;
}

struct pci { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; };

PUBLIC Return nvmlDeviceGetPciInfo_v3(Device device, struct pci *out) {
    memset(out, 0, sizeof *out);
    out->bus = (unsigned)(16 + index_of(device));
    out->id = 0x10deU;      /* the vendor in the low half; no real device has the other half zero */
    snprintf(out->legacy, sizeof out->legacy, "0000:%02X:00.0", out->bus);
    snprintf(out->bus_id, sizeof out->bus_id, "00000000:%02X:00.0", out->bus);
    return SUCCESS;
}

PUBLIC Return nvmlDeviceGetPciInfo_v2(Device device, struct pci *out) { return nvmlDeviceGetPciInfo_v3(device, out); }

PUBLIC Return nvmlDeviceGetEccMode(Device device, unsigned *current, unsigned *pending) {
    (void)device;
    *current = *pending = 1;
    return SUCCESS;
}

PUBLIC Return nvmlDeviceGetTotalEccErrors(Device device, int kind, int counter, unsigned long long *out) {
    char line[64];
    int gpu = -1;
    unsigned long long errors = 0;
    (void)counter;
    if (read_line(FAULT "ecc", line, sizeof line))
        sscanf(line, "%d %llu", &gpu, &errors);
    *out = kind == 1 && gpu == index_of(device) ? errors : 0;
    return SUCCESS;
}

PUBLIC Return nvmlDeviceGetRemappedRows(Device device, unsigned *good, unsigned *bad, unsigned *pending, unsigned *failed) {
    (void)device;
    *good = *bad = *pending = *failed = 0;
    return SUCCESS;
}

PUBLIC Return nvmlDeviceGetMigMode(Device device, unsigned *current, unsigned *pending) {
    (void)device, (void)current, (void)pending;
    return NOT_SUPPORTED;
}

PUBLIC Return nvmlDeviceGetVirtualizationMode(Device device, int *mode) {
    (void)device;
    *mode = 0;
    return SUCCESS;
}

PUBLIC Return nvmlDeviceGetPersistenceMode(Device device, int *mode) {
    (void)device;
    *mode = 1;
    return SUCCESS;
}

PUBLIC Return nvmlDeviceGetTemperature(Device device, int sensor, unsigned *celsius) {
    (void)device, (void)sensor;
    *celsius = 30;
    return SUCCESS;
}

PUBLIC Return nvmlDeviceGetPowerUsage(Device device, unsigned *milliwatts) {
    (void)device, (void)milliwatts;
    return NOT_SUPPORTED;
}

PUBLIC Return nvmlDeviceGetUtilizationRates(Device device, unsigned out[2]) {
    (void)device;
    out[0] = there(FAULT "gpu-busy") ? 100 : 0;
    out[1] = 0;
    return SUCCESS;
}

struct process { unsigned pid; unsigned long long memory; unsigned gpu_instance, compute_instance; };

/* A fault names the GPU that somebody uses, and the process: "0 4242". */
PUBLIC Return nvmlDeviceGetComputeRunningProcesses_v3(Device device, unsigned *count, struct process *out) {
    char line[64];
    int gpu = 0;
    unsigned pid = 1;
    if (!read_line(FAULT "gpu-busy", line, sizeof line) || (sscanf(line, "%d %u", &gpu, &pid), gpu != index_of(device))) {
        *count = 0;
        return SUCCESS;
    }
    if (*count < 1 || !out) {
        *count = 1;
        return INSUFFICIENT_SIZE;
    }
    *count = 1;
    memset(out, 0, sizeof *out);
    out->pid = pid;
    out->memory = 1048576ULL * 1024;
    out->gpu_instance = out->compute_instance = 0xffffffffU;
    return SUCCESS;
}

PUBLIC Return nvmlDeviceGetComputeRunningProcesses_v2(Device device, unsigned *count, struct process *out) {
    return nvmlDeviceGetComputeRunningProcesses_v3(device, count, out);
}

PUBLIC Return nvmlDeviceGetGraphicsRunningProcesses_v3(Device device, unsigned *count, struct process *out) {
    (void)device, (void)out;
    *count = 0;
    return SUCCESS;
}

struct fabric { unsigned char cluster[16]; Return status; unsigned clique; unsigned char state; };

/* Not supported, not started or completed: what the fabric manager has made of it. */
PUBLIC Return nvmlDeviceGetGpuFabricInfo(Device device, struct fabric *out) {
    (void)device;
    memset(out, 0, sizeof *out);
    out->state = !has_nvswitch() ? 0 : fabric_ready(loaded) ? 3 : 1;
    return SUCCESS;
}

struct fabric_versioned { unsigned version; unsigned char cluster[16]; Return status; unsigned clique; unsigned char state; unsigned health; };

PUBLIC Return nvmlDeviceGetGpuFabricInfoV(Device device, struct fabric_versioned *out) {
    struct fabric plain;
    nvmlDeviceGetGpuFabricInfo(device, &plain);
    out->status = SUCCESS;
    out->clique = 0;
    out->state = plain.state;
    out->health = 0;
    return SUCCESS;
}
