/* Stand-in libnvidia-ml.so.1: no GPU behind it, the real error codes, and names that say "(stand-in)". This part: start,
   versions, inventory. */
#include "nvml.h"

/* Only here: the builder fills the first one that it finds. */
SLOT(version_slot, "@planner-lab-version@");
SLOT(cuda_slot, "@planner-lab-cuda@");

static int initialised;
char loaded[64];

PUBLIC Return nvmlInitWithFlags(unsigned flags) {
    char mine[64];
    long seconds = read_number(FAULT "smi-hang", there(FAULT "smi-hang") ? 3600 : 0);
    (void)flags;
    PLAY_ON(-1);
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
    case RESET_REQUIRED: return "GPU requires reset";
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
    PLAY_ON(-1);
    *count = 0;
    for (int i = 0; i < gpu_count(); i++)
        *count += !value_of("hidden_from_nvml", i, 0);
    return SUCCESS;
}

PUBLIC Return nvmlDeviceGetCount(unsigned *count) { return nvmlDeviceGetCount_v2(count); }

static Return open_gpu(int gpu, Device *device) {
    int played = play("nvmlDeviceGetHandleByIndex_v2", gpu);
    if (played)
        return played;
    if (fault_on_gpu(FAULT "gpu-lost", gpu))
        return GPU_IS_LOST;
    *device = handle_of(gpu, -1);
    return SUCCESS;
}

PUBLIC Return nvmlDeviceGetHandleByIndex_v2(unsigned index, Device *device) {
    if (!initialised)
        return UNINITIALIZED;
    for (int i = 0; i < gpu_count(); i++)
        if (!value_of("hidden_from_nvml", i, 0) && !index--)
            return open_gpu(i, device);
    return INVALID_ARGUMENT;
}

PUBLIC Return nvmlDeviceGetHandleByIndex(unsigned index, Device *device) {
    return nvmlDeviceGetHandleByIndex_v2(index, device);
}

PUBLIC Return nvmlDeviceGetHandleByUUID(const char *uuid, Device *device) {
    char text[64];
    for (int i = 0; i < gpu_count(); i++) {
        gpu_uuid_text(i, text, sizeof text);
        if (!value_of("hidden_from_nvml", i, 0) && !strcmp(text, uuid))
            return open_gpu(i, device);
    }
    return NOT_FOUND;
}

PUBLIC Return nvmlDeviceGetIndex(Device device, unsigned *index) {
    PLAY();
    *index = (unsigned)index_of(device);
    return SUCCESS;
}

PUBLIC Return nvmlDeviceGetMinorNumber(Device device, unsigned *minor) { return nvmlDeviceGetIndex(device, minor); }

PUBLIC Return nvmlDeviceGetName(Device device, char *out, unsigned size) {
    PLAY();
    char name[128];
    if (mig_of(device))
        mig_name(mig_of(device), name, sizeof name);
    else
        gpu_name(name, sizeof name);
    return put(out, size, name);
}

PUBLIC Return nvmlDeviceGetUUID(Device device, char *out, unsigned size) {
    PLAY();
    char text[64];
    if (mig_of(device))
        mig_uuid_text(mig_of(device), text, sizeof text);
    else
        gpu_uuid_text(index_of(device), text, sizeof text);
    return put(out, size, text);
}

PUBLIC Return nvmlDeviceGetSerial(Device device, char *out, unsigned size) {
    PLAY();
    unsigned char u[16];
    char text[32];
    gpu_uuid(index_of(device), u);
    snprintf(text, sizeof text, "standin-%02x%02x%02x%02x", u[12], u[13], u[14], u[15]);
    return put(out, size, text);
}

PUBLIC Return nvmlDeviceGetVbiosVersion(Device device, char *out, unsigned size) {
    PLAY();
    return put(out, size, "00.00.00.00.00-standin");
}

PUBLIC Return nvmlDeviceGetCudaComputeCapability(Device device, int *major, int *minor) {
    PLAY();
    compute_capability(major, minor);
    return SUCCESS;
}

struct memory { unsigned long long total, free, used; };
struct memory_v2 { unsigned version; unsigned long long total, reserved, free, used; };

PUBLIC Return nvmlDeviceGetMemoryInfo(Device device, struct memory *out) {
    PLAY();
    out->total = out->free = memory_of(device);
    out->used = 0;
    return SUCCESS;
}

PUBLIC Return nvmlDeviceGetMemoryInfo_v2(Device device, struct memory_v2 *out) {
    PLAY();
    out->total = out->free = memory_of(device);
    out->reserved = out->used = 0;
    return SUCCESS;
}

struct pci { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; };

PUBLIC Return nvmlDeviceGetPciInfo_v3(Device device, struct pci *out) {
    PLAY();
    memset(out, 0, sizeof *out);
    out->bus = (unsigned)(16 + index_of(device));
    out->id = 0x10deU;      /* the vendor in the low half; no real device has the other half zero */
    snprintf(out->legacy, sizeof out->legacy, "0000:%02X:00.0", out->bus);
    snprintf(out->bus_id, sizeof out->bus_id, "00000000:%02X:00.0", out->bus);
    return SUCCESS;
}

PUBLIC Return nvmlDeviceGetPciInfo_v2(Device device, struct pci *out) { return nvmlDeviceGetPciInfo_v3(device, out); }
