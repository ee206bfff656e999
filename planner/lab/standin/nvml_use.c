/* Stand-in libnvidia-ml.so.1: MIG and its devices, and who uses a GPU or one of them. */
#include "nvml.h"

/* ---- MIG ---- */

PUBLIC Return nvmlDeviceGetMigMode(Device device, unsigned *current, unsigned *pending) {
    int mode = mig_mode(index_of(device));
    PLAY();
    if (mode < 0)
        return NOT_SUPPORTED;
    *current = (unsigned)mode;
    *pending = (unsigned)value_of("mig_pending", index_of(device), mode);
    return SUCCESS;
}

PUBLIC Return nvmlDeviceGetMaxMigDeviceCount(Device device, unsigned *count) {
    PLAY();
    *count = mig_mode(index_of(device)) >= 0 ? 7 : 0;
    return SUCCESS;
}

PUBLIC Return nvmlDeviceGetMigDeviceHandleByIndex(Device device, unsigned index, Device *out) {
    PLAY();
    if (!find_mig(index_of(device), (int)index))
        return NOT_FOUND;
    *out = handle_of(index_of(device), (int)index);
    return SUCCESS;
}

PUBLIC Return nvmlDeviceIsMigDeviceHandle(Device device, unsigned *is) {
    *is = mig_of(device) != NULL;
    return SUCCESS;
}

PUBLIC Return nvmlDeviceGetDeviceHandleFromMigDeviceHandle(Device device, Device *out) {
    *out = handle_of(index_of(device), -1);
    return mig_of(device) ? SUCCESS : INVALID_ARGUMENT;
}

PUBLIC Return nvmlDeviceGetGpuInstanceId(Device device, unsigned *id) {
    PLAY();
    if (!mig_of(device))
        return NOT_SUPPORTED;
    *id = (unsigned)mig_of(device)->gpu_instance;
    return SUCCESS;
}

PUBLIC Return nvmlDeviceGetComputeInstanceId(Device device, unsigned *id) {
    PLAY();
    if (!mig_of(device))
        return NOT_SUPPORTED;
    *id = (unsigned)mig_of(device)->compute_instance;
    return SUCCESS;
}

struct attributes {
    unsigned multiprocessors, copy, decoders, encoders, jpeg, ofa, slices, compute_slices;
    unsigned long long memory_mib;
};

PUBLIC Return nvmlDeviceGetAttributes_v2(Device device, struct attributes *out) {
    PLAY();
    memset(out, 0, sizeof *out);
    if (!mig_of(device))
        return NOT_SUPPORTED;
    out->multiprocessors = 1;       /* as the driver API says */
    out->slices = out->compute_slices = (unsigned)atoi(mig_of(device)->profile);
    out->memory_mib = mig_memory_bytes(mig_of(device)) >> 20;
    return SUCCESS;
}

/* GPU instances: one profile for each size, its number the size; an instance is what stands in its first line. */
struct profile {
    unsigned id, p2p, slices, instances, multiprocessors, copy, decoders, encoders, jpeg, ofa;
    unsigned long long memory_mib;
};
struct instance_info { Device device; unsigned id, profile, start, size; };

/* Whether no line before has the same GPU instance: each counts once, however many compute instances it has. */
static int first_of_its_instance(const struct mig *m) {
    for (const struct mig *other = mig_lines; other < m; other++)
        if (mig_exists(other) && other->gpu == m->gpu && other->gpu_instance == m->gpu_instance)
            return 0;
    return mig_exists(m);
}

PUBLIC Return nvmlDeviceGetGpuInstanceProfileInfo(Device device, unsigned number, struct profile *out) {
    PLAY();
    memset(out, 0, sizeof *out);
    if (mig_mode(index_of(device)) != 1 || there(FAULT "mig-layout-hidden"))
        return NOT_SUPPORTED;
    if (!number || number > MIG_EIGHTHS)
        return INVALID_ARGUMENT;
    out->id = out->slices = number;
    out->instances = MIG_EIGHTHS / number;
    out->memory_mib = (memory_bytes() / MIG_EIGHTHS * number) >> 20;
    return SUCCESS;
}

PUBLIC Return nvmlDeviceGetGpuInstances(Device device, unsigned profile, struct mig **out, unsigned *count) {
    PLAY();
    *count = 0;
    for (int i = 0; i < read_mig(); i++) {
        struct mig *m = &mig_lines[i];
        if (m->gpu == index_of(device) && (unsigned)m->size == profile && first_of_its_instance(m))
            out[(*count)++] = m;
    }
    return SUCCESS;
}

PUBLIC Return nvmlGpuInstanceGetInfo(struct mig *instance, struct instance_info *out) {
    out->device = handle_of(instance->gpu, -1);
    out->id = (unsigned)instance->gpu_instance;
    out->profile = (unsigned)instance->size;
    out->start = (unsigned)instance->start;
    out->size = (unsigned)instance->size;
    return SUCCESS;
}

/* ---- use ---- */

struct process { unsigned pid; unsigned long long memory; unsigned gpu_instance, compute_instance; };

/* Return who uses a GPU, or one MIG device; 0 is nobody. A fault names the GPU and the process: "0 4242", another the MIG
   device, too: "0 1 4242". Of a GPU all are told. */
static unsigned user_of(Device device) {
    char line[64];
    int gpu = 0;
    unsigned pid = 1;
    const struct mig *own = mig_of(device);
    if (!own && read_line(FAULT "gpu-busy", line, sizeof line)) {
        sscanf(line, "%d %u", &gpu, &pid);
        return (unsigned)value_of("busy_pid", index_of(device), gpu == index_of(device) ? pid : 0);
    }
    for (int i = 0; i < read_mig(); i++)
        if (mig_lines[i].gpu == index_of(device) && (!own || own == &mig_lines[i])
            && fault_on_mig(FAULT "mig-busy", &mig_lines[i], &pid))
            return pid;
    return own ? 0 : (unsigned)value_of("busy_pid", index_of(device), 0);
}

PUBLIC Return nvmlDeviceGetComputeRunningProcesses_v3(Device device, unsigned *count, struct process *out) {
    PLAY();
    if (mig_of(device) && there(FAULT "mig-use-untold"))
        return NOT_SUPPORTED;
    unsigned pid = user_of(device);
    if (!pid) {
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
    (void)out;
    PLAY();
    *count = 0;
    return SUCCESS;
}
